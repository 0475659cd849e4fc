/* SPDX-License-Identifier: Apache-2.0 */
/* Which way finds the documents that match, by evidence: the shard key, the indexes, what the
 * server's planner says. Whenever something is not sure a chunk is kept and a walk is the longer
 * one: a wrong guess may cost time but no document. */
#include <netdb.h>

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "store/mongodb/number_private.h"
#include "store/mongodb/survey_private.h"

enum {
    FEW_PART = 10, /* few: at most a tenth of the documents */
    EXPLAIN_DEPTH = 32,
    CANONICAL_DATE = 45,
    CANONICAL_TIMESTAMP = 47,
};

const char *mg_use_name(const struct mg_use *u)
{
    switch (u->use) {
    case MG_USE_RANGE:
        return "shard-range";
    case MG_USE_HASHED:
        return "shard-hashed";
    case MG_USE_INDEXED:
        return "indexed";
    case MG_USE_SCAN:
        return "scan";
    case MG_USE_BROADCAST:
        return "broadcast";
    }
    return "scan";
}

/* ---- what a query says about one field ---- */

/* A value of which equality is what it seems: null also finds missing fields, patterns and arrays
 * find more than themselves, ends of the order compare with every type. Decimals are left out:
 * they equal doubles that hash differently. */
static bool is_plain(const bson_iter_t *v, bool has_collation)
{
    switch (bson_iter_type(v)) {
    case BSON_TYPE_DOUBLE:
        return !isnan(bson_iter_double(v));
    case BSON_TYPE_UTF8:
        return !has_collation; /* then "A" may equal "a", which lies elsewhere */
    case BSON_TYPE_INT32:
    case BSON_TYPE_INT64:
    case BSON_TYPE_BINARY:
    case BSON_TYPE_OID:
    case BSON_TYPE_BOOL:
    case BSON_TYPE_DATE_TIME:
    case BSON_TYPE_TIMESTAMP:
        return true;
    case BSON_TYPE_EOD:
    case BSON_TYPE_DOCUMENT:
    case BSON_TYPE_ARRAY:
    case BSON_TYPE_UNDEFINED:
    case BSON_TYPE_NULL:
    case BSON_TYPE_REGEX:
    case BSON_TYPE_DBPOINTER:
    case BSON_TYPE_CODE:
    case BSON_TYPE_SYMBOL:
    case BSON_TYPE_CODEWSCOPE:
    case BSON_TYPE_DECIMAL128:
    case BSON_TYPE_MAXKEY:
    case BSON_TYPE_MINKEY:
        break;
    }
    return false;
}

static bool are_all_plain(const bson_iter_t *list, bool has_collation)
{
    bson_iter_t it;
    bool is_ok = BSON_ITER_HOLDS_ARRAY(list) && bson_iter_recurse(list, &it);
    while (is_ok && bson_iter_next(&it)) {
        is_ok = is_plain(&it, has_collation);
    }
    return is_ok;
}

/* Called for each comparison of `field` that is sure. False stops the walk. */
typedef bool (*take_comparison)(void *arg, const char *op, const bson_iter_t *value);

static bool each_operator(const bson_iter_t *operators, bool has_collation, take_comparison take,
                          void *arg)
{
    static const char *const known[] = {"$eq", "$gt", "$gte", "$lt", "$lte"};
    bson_iter_t it;
    bool goes_on = bson_iter_recurse(operators, &it);
    while (goes_on && bson_iter_next(&it)) {
        const char *op = bson_iter_key(&it);
        bool is_known = false;
        for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
            is_known = is_known || strcmp(op, known[i]) == 0;
        }
        if ((is_known && is_plain(&it, has_collation)) ||
            (strcmp(op, "$in") == 0 && are_all_plain(&it, has_collation))) {
            goes_on = take(arg, op, &it);
        }
    }
    return goes_on;
}

static bool is_operators(const bson_iter_t *v)
{
    bson_iter_t it;
    return BSON_ITER_HOLDS_DOCUMENT(v) && bson_iter_recurse(v, &it) && bson_iter_next(&it) &&
           bson_iter_key(&it)[0] == '$';
}

/* Comparisons of `field` at the top and inside of $and; what stands in $or, $nor and the like only
 * narrows further and is left aside. */
static bool each_comparison(const bson_iter_t *query, const char *field, bool has_collation,
                            unsigned depth, take_comparison take, void *arg)
{
    bson_iter_t it = *query;
    bool goes_on = true;
    while (goes_on && bson_iter_next(&it)) {
        const char *name = bson_iter_key(&it);
        bson_iter_t child;
        bson_iter_t part;
        if (strcmp(name, field) == 0) {
            if (is_operators(&it)) {
                goes_on = each_operator(&it, has_collation, take, arg);
            } else if (is_plain(&it, has_collation)) {
                goes_on = take(arg, "$eq", &it);
            }
        } else if (strcmp(name, "$and") == 0 && depth < EXPLAIN_DEPTH &&
                   BSON_ITER_HOLDS_ARRAY(&it) && bson_iter_recurse(&it, &child)) {
            while (goes_on && bson_iter_next(&child)) {
                if (BSON_ITER_HOLDS_DOCUMENT(&child) && bson_iter_recurse(&child, &part)) {
                    goes_on = each_comparison(&part, field, has_collation, depth + 1, take, arg);
                }
            }
        }
    }
    return goes_on;
}

static void look_at(const bson_t *query, const char *field, bool has_collation,
                    take_comparison take, void *arg)
{
    bson_iter_t it;
    if (query != NULL && bson_iter_init(&it, query)) {
        (void)each_comparison(&it, field, has_collation, 0, take, arg);
    }
}

/* ---- chunks ---- */

struct chunk_ends {
    bson_iter_t from; /* first field of min and max */
    bson_iter_t upto;
    bool is_single; /* the key has one field: the end is outside */
    bool is_hashed;
    bool may_match;
};

/* Comparisons match values of their own type only; dates and timestamps count as one here. */
static int bracket_of(const bson_iter_t *v)
{
    int class = mg_canonical(bson_iter_type(v));
    return class == CANONICAL_TIMESTAMP ? CANONICAL_DATE : class;
}

/* Does the chunk touch the values above or below `v`, up to the end of their type? What equals its
 * end lies in the chunk only when further fields of the key follow. */
static bool touches_ray(const struct chunk_ends *c, const bson_iter_t *v, const char *op)
{
    bool is_with_value = op[3] == 'e';
    int from = mg_compare(&c->from, v);
    int upto = mg_compare(&c->upto, v);
    if (op[1] == 'g') {
        return (upto > 0 || (upto == 0 && is_with_value && !c->is_single)) &&
               bracket_of(&c->from) <= bracket_of(v);
    }
    return (from < 0 || (from == 0 && is_with_value)) && bracket_of(&c->upto) >= bracket_of(v);
}

static bool touches_point(const struct chunk_ends *c, const bson_iter_t *v)
{
    int end = mg_compare(&c->upto, v);
    return mg_compare(&c->from, v) <= 0 && (c->is_single ? end > 0 : end >= 0);
}

static bool holds_hash(const struct chunk_ends *c, int64_t hash)
{
    bson_t doc = BSON_INITIALIZER;
    bson_iter_t it;
    BSON_APPEND_INT64(&doc, "h", hash);
    bool is_in = bson_iter_init_find(&it, &doc, "h") && touches_point(c, &it);
    bson_destroy(&doc);
    return is_in;
}

/* A double equals a decimal of the same value, and decimals are rounded where doubles are cut. */
static bool holds_hashed(const struct chunk_ends *c, const bson_iter_t *v)
{
    if (holds_hash(c, mg_hash(v))) {
        return true;
    }
    if (bson_iter_type(v) != BSON_TYPE_DOUBLE) {
        return false;
    }
    bson_t doc = BSON_INITIALIZER;
    bson_iter_t it;
    BSON_APPEND_DOUBLE(&doc, "r", rint(bson_iter_double(v)));
    bool is_in = bson_iter_init_find(&it, &doc, "r") && holds_hash(c, mg_hash(&it));
    bson_destroy(&doc);
    return is_in;
}

static bool holds_value(const struct chunk_ends *c, const bson_iter_t *v)
{
    return c->is_hashed ? holds_hashed(c, v) : touches_point(c, v);
}

static bool narrow_chunk(void *arg, const char *op, const bson_iter_t *value)
{
    struct chunk_ends *c = arg;
    bson_iter_t it;
    if (strcmp(op, "$in") == 0) {
        bool is_any = false;
        (void)bson_iter_recurse(value, &it);
        while (!is_any && bson_iter_next(&it)) {
            is_any = holds_value(c, &it);
        }
        c->may_match = is_any;
    } else if (strcmp(op, "$eq") == 0) {
        c->may_match = holds_value(c, value);
    } else if (!c->is_hashed) {
        c->may_match = touches_ray(c, value, op);
    }
    return c->may_match;
}

bool mg_chunk_can_match(const struct mg_coll *c, const bson_t *query, bool has_collation,
                        const bson_t *chunk)
{
    bson_t from;
    bson_t upto;
    struct chunk_ends ends = {
        .is_single = c->key_count == 1, .is_hashed = c->is_hashed_part[0], .may_match = true};
    if (c->key_count == 0 || !mg_document(chunk, "min", &from) ||
        !mg_document(chunk, "max", &upto) || !bson_iter_init_find(&ends.from, &from, c->key[0]) ||
        !bson_iter_init_find(&ends.upto, &upto, c->key[0])) {
        return true;
    }
    look_at(query, c->key[0], has_collation, narrow_chunk, &ends);
    return ends.may_match;
}

struct found {
    bool has_any;
    bool has_equality;
};

static bool note_comparison(void *arg, const char *op, const bson_iter_t *value)
{
    struct found *f = arg;
    (void)value;
    f->has_any = true;
    f->has_equality = f->has_equality || strcmp(op, "$eq") == 0 || strcmp(op, "$in") == 0;
    return true;
}

/* ---- indexes ---- */

/* Every entry a plain direction: no text, geo, hashed or wildcard part. */
static bool has_plain_key(const bson_t *index)
{
    bson_t key;
    bson_iter_t it;
    bool is_plain_key = mg_document(index, "key", &key) && bson_iter_init(&it, &key);
    while (is_plain_key && bson_iter_next(&it)) {
        is_plain_key = BSON_ITER_HOLDS_NUMBER(&it) && strstr(bson_iter_key(&it), "$**") == NULL;
    }
    return is_plain_key;
}

/* An index that holds every document once. */
static bool is_usable(const bson_t *index)
{
    return strcmp(mg_text(index, "name"), "_id_") == 0 ||
           (has_plain_key(index) && !mg_is_true(index, "sparse") && !mg_is_true(index, "hidden") &&
            !bson_has_field(index, "partialFilterExpression") &&
            !bson_has_field(index, "collation"));
}

static bool find_index(const bson_t *indexes, const char *name, bson_t *out)
{
    bson_iter_t it;
    (void)bson_iter_init(&it, indexes);
    while (bson_iter_next(&it)) {
        uint32_t bytes = 0;
        const uint8_t *data = NULL;
        if (!BSON_ITER_HOLDS_DOCUMENT(&it)) {
            continue;
        }
        bson_iter_document(&it, &bytes, &data);
        if (bson_init_static(out, data, bytes) && strcmp(mg_text(out, "name"), name) == 0) {
            return true;
        }
    }
    return false;
}

/* What the winning plans of all shards have in common. */
struct plan_facts {
    char index[MG_NAME_BYTES];
    unsigned indexes; /* different names seen */
    bool has_scan;
    bool is_multikey;
};

static void note_stage(struct plan_facts *f, const bson_t *stage)
{
    const char *kind = mg_text(stage, "stage");
    const char *name = strcmp(kind, "IDHACK") == 0 || strcmp(kind, "CLUSTERED_IXSCAN") == 0
                           ? "_id_"
                           : mg_text(stage, "indexName");
    if (strcmp(kind, "COLLSCAN") == 0) {
        f->has_scan = true;
    } else if (name[0] != '\0' && strcmp(f->index, name) != 0) {
        f->indexes++;
        dr_copy_text(f->index, sizeof f->index, name);
    }
    f->is_multikey = f->is_multikey || mg_is_true(stage, "isMultiKey");
}

/* Stages lie at different depths in different versions, on routers below each shard. */
static void read_stages(const bson_iter_t *at, unsigned depth, struct plan_facts *f)
{
    bson_iter_t it;
    if (depth > EXPLAIN_DEPTH || !(BSON_ITER_HOLDS_DOCUMENT(at) || BSON_ITER_HOLDS_ARRAY(at)) ||
        strcmp(bson_iter_key(at), "rejectedPlans") == 0 || !bson_iter_recurse(at, &it)) {
        return;
    }
    uint32_t bytes = 0;
    const uint8_t *data = NULL;
    bson_t doc;
    if (BSON_ITER_HOLDS_DOCUMENT(at)) {
        bson_iter_document(at, &bytes, &data);
        if (bson_init_static(&doc, data, bytes) && bson_has_field(&doc, "stage")) {
            note_stage(f, &doc);
        }
    }
    while (bson_iter_next(&it)) {
        read_stages(&it, depth + 1, f);
    }
}

static enum dr_code explain(struct mg_store *s, const bson_t *query, struct plan_facts *f,
                            struct dr_err *err)
{
    bson_t reply;
    bson_t planner;
    bson_iter_t it;
    *f = (struct plan_facts){0};
    bson_t *command = BCON_NEW("explain", "{", "find", BCON_UTF8(s->coll.name), "filter",
                               BCON_DOCUMENT(query), "}", "verbosity", BCON_UTF8("queryPlanner"));
    enum dr_code rc = mg_run(s, s->coll.database, command, false, false, &reply,
                             "ask how the filter would be answered (explain)", err);
    if (rc == DR_OK && mg_document(&reply, "queryPlanner", &planner) &&
        bson_iter_init_find(&it, &planner, "winningPlan")) {
        read_stages(&it, 0, f);
    }
    bson_destroy(command);
    bson_destroy(&reply);
    return rc;
}

/* The index that answers the filter and may be walked; *why says what stands against it. */
static bool choose_index(const struct plan_facts *f, const bson_t *indexes, char *why,
                         size_t why_bytes)
{
    bson_t index;
    if (f->indexes == 0) {
        (void)snprintf(why, why_bytes, "explain shows no index for the filter");
    } else if (f->has_scan || f->indexes > 1) {
        (void)snprintf(why, why_bytes, "explain shows no single index for the filter");
    } else if (f->is_multikey) {
        (void)snprintf(why, why_bytes, "index %.64s holds array values", f->index);
    } else if (!find_index(indexes, f->index, &index)) {
        (void)snprintf(why, why_bytes, "index %.64s is being built or dropped", f->index);
    } else if (!is_usable(&index)) {
        (void)snprintf(why, why_bytes,
                       "index %.64s is partial, sparse, hidden, of its own collation, or not of "
                       "plain directions",
                       f->index);
    } else {
        (void)snprintf(why, why_bytes, "explain shows index %.64s", f->index);
        return true;
    }
    return false;
}

static void decide(struct mg_store *s, const struct found *f, const char *evidence, uint64_t total,
                   struct mg_use *out)
{
    const struct mg_coll *c = &s->coll;
    bool is_few = out->matched <= total / FEW_PART;
    char buffer[32];
    char buffer2[32];
    if (c->kind == MG_SHARDED && !c->is_hashed_part[0] && f->has_any) {
        out->use = MG_USE_RANGE;
        (void)snprintf(out->why, sizeof out->why,
                       "the filter narrows %.100s, the first field of the shard key", c->key[0]);
    } else if (c->kind == MG_SHARDED && c->is_hashed_part[0] && f->has_equality) {
        out->use = MG_USE_HASHED;
        (void)snprintf(out->why, sizeof out->why,
                       "the filter names values of %.100s, the hashed shard key", c->key[0]);
    } else if (c->kind != MG_SHARDED && out->has_index) {
        out->use = MG_USE_INDEXED;
        (void)snprintf(out->why, sizeof out->why, "not sharded, and %s", evidence);
    } else if (c->kind != MG_SHARDED) {
        out->use = MG_USE_SCAN;
        (void)snprintf(out->why, sizeof out->why, "not sharded, and %s", evidence);
    } else if (out->has_index && is_few) {
        out->use = MG_USE_BROADCAST;
        (void)snprintf(out->why, sizeof out->why,
                       "the filter does not narrow the shard key; %s, and only %s of %s documents "
                       "match",
                       evidence, dr_human_count(out->matched, buffer, sizeof buffer),
                       dr_human_count(total, buffer2, sizeof buffer2));
    } else {
        out->use = MG_USE_SCAN;
        (void)snprintf(out->why, sizeof out->why, "the filter does not narrow the shard key; %s%s",
                       evidence,
                       out->has_index ? ", but a large part of the documents matches" : "");
    }
}

/* Through the router, by an aggregation: the count command counts orphans as well. */
static enum dr_code count_matches(struct mg_store *s, const bson_t *query, uint64_t *out,
                                  struct dr_err *err)
{
    bson_t reply;
    double n = 0;
    bson_t *command = BCON_NEW("aggregate", BCON_UTF8(s->coll.name), "pipeline", "[", "{", "$match",
                               BCON_DOCUMENT(query), "}", "{", "$group", "{", "_id", BCON_NULL, "n",
                               "{", "$sum", BCON_INT64(1), "}", "}", "}", "]", "cursor", "{", "}");
    enum dr_code rc = mg_run(s, s->coll.database, command, false, false, &reply,
                             "count what the filter matches", err);
    *out = rc == DR_OK && mg_number(&reply, "cursor.firstBatch.0.n", &n) ? (uint64_t)n : 0;
    bson_destroy(command);
    bson_destroy(&reply);
    return rc;
}

enum dr_code mg_use_choose(struct mg_store *s, const bson_t *query, const bson_t *indexes,
                           bool has_collation, uint64_t total, struct mg_use *out,
                           struct dr_err *err)
{
    struct found f = {0};
    struct plan_facts facts;
    char evidence[160];
    *out = (struct mg_use){0};
    enum dr_code rc = count_matches(s, query, &out->matched, err);
    if (rc == DR_OK) {
        rc = explain(s, query, &facts, err);
    }
    if (rc != DR_OK) {
        return rc;
    }
    if (s->coll.kind == MG_SHARDED) {
        look_at(query, s->coll.key[0], has_collation, note_comparison, &f);
    }
    out->has_index = choose_index(&facts, indexes, evidence, sizeof evidence);
    decide(s, &f, evidence, total, out);
    if (out->use == MG_USE_INDEXED || out->use == MG_USE_BROADCAST) {
        dr_copy_text(out->index, sizeof out->index, facts.index);
    }
    return DR_OK;
}
