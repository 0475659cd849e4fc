/* SPDX-License-Identifier: Apache-2.0 */
/* "redis.purge-stats": keys that a description selects, by one of two strategies.
 *
 *   key-list  the keys are generated: slices of their sequence, none over two services. On several
 *             stand-alone servers each slice is asked for on each, for only a proxy knows which of
 *             them holds a key; in a cluster on the primary that owns the service's slot.
 *   scan      each node is read whole. In a cluster too: slots move while it runs.
 *
 * Generating reaches only values that are listed, a scan whatever a list leaves open. Pure. */
#include <assert.h>
#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "plan/plan_private.h"
#include "store/keyseq.h"

enum { PRIORITY_LOW = -10, ASKED_FACTOR = 2, STEPS_MAX = 10 * 1000 * 1000, SLOTS = 16384 };

/* What the survey says in the adapter's own words. */
struct facts {
    json_t *extra; /* owned */
    bool is_cluster;
    bool has_scan;
    uint64_t generated; /* keys of the sequence */
    uint64_t asked;     /* keys to ask for on all servers */
};

static const char *count_text(struct dr_arena *a, uint64_t n)
{
    char buf[40];
    return dr_arena_strdup(a, dr_human_count(n, buf, sizeof buf));
}

/* --- a cluster's slots ----------------------------------------------------------------------- */

static bool owns_slot(const json_t *ranges, uint32_t slot)
{
    for (size_t i = 0; i < json_array_size(ranges); i++) {
        const json_t *range = json_array_get(ranges, i);
        const json_t *from = json_array_get(range, 0);
        const json_t *upto = json_array_get(range, 1);
        if (json_is_integer(from) && json_is_integer(upto) && slot >= json_integer_value(from) &&
            slot <= json_integer_value(upto)) {
            return true;
        }
    }
    return false;
}

/* The chunk whose node owns a slot. */
static enum dr_code find_owner(const struct dr_collection *c, const struct facts *f, uint32_t slot,
                               uint32_t *out, struct dr_err *err)
{
    const json_t *slots = json_object_get(f->extra, "slots");
    for (uint32_t i = 0; i < c->chunk_count; i++) {
        if (owns_slot(json_object_get(slots, c->chunk[i].node), slot)) {
            *out = i;
            return DR_OK;
        }
    }
    return dr_fail(err, DR_STALE,
                   "%s: no primary owns slot %" PRIu32
                   " now; repair the cluster, or wait until its "
                   "failover has ended",
                   c->name, slot);
}

/* Do all keys of a service share a hash tag? Then the text that they begin with holds it whole. */
static bool has_tag(const struct dr_keyseq *seq)
{
    const char *begin = dr_keyseq_service_count(seq) == 0 ? "" : dr_keyseq_pattern(seq, 0);
    const char *open = strchr(begin, '{');
    const char *close = open == NULL ? NULL : strchr(open, '}');
    return close != NULL && close > open + 1;
}

static enum dr_code find_owners(struct dr_plan *p, const struct dr_collection *c,
                                const struct facts *f, const struct dr_keyseq *seq,
                                struct dr_stats *s, struct dr_err *err)
{
    const uint32_t count = s->want->service_count;
    uint32_t by_slot[SLOTS];
    memset(by_slot, 0xff, sizeof by_slot);
    uint32_t *owner = dr_arena_alloc(p->arena, count * sizeof *owner);
    if (owner == NULL) {
        return dr_fail_nomem(err);
    }
    for (uint32_t i = 0; i < count; i++) {
        struct dr_keyseq_at at;
        const char *key = NULL;
        size_t bytes = 0;
        dr_keyseq_seek(&at, seq, i * s->per_service);
        if (!dr_keyseq_next(&at, &key, &bytes)) {
            return dr_fail(err, DR_INTERNAL, "%s: a key sequence ends before its services do",
                           c->name);
        }
        uint32_t slot = dr_redis_slot(key, bytes);
        enum dr_code rc =
            by_slot[slot] != UINT32_MAX ? DR_OK : find_owner(c, f, slot, &by_slot[slot], err);
        if (rc != DR_OK) {
            return rc;
        }
        owner[i] = by_slot[slot];
    }
    s->owner = owner;
    return DR_OK;
}

/* --- which strategy -------------------------------------------------------------------------- */

static bool is_list_empty(const struct dr_plan *p, const char *key)
{
    return json_array_size(json_object_get(p->request->json, key)) == 0;
}

/* Why the keys cannot all be generated, or NULL. Users are optional in a description: where none
 * are named their keys are not meant to be generated. */
static const char *say_not_generated(const struct dr_plan *p, const struct facts *f,
                                     const struct dr_keyseq *seq)
{
    if (f->generated == 0) {
        return "there is nothing to generate keys from (no period, or no values)";
    }
    if (f->generated >= INT64_MAX) {
        return "the description means more keys than can be counted";
    }
    if (f->is_cluster && !has_tag(seq)) {
        return "keys of one service lie in many slots: the layout has no hash tag around $service";
    }
    if ((p->can & DR_CAN_KEY_LIST) == 0) {
        return "this store does not erase generated keys";
    }
    return NULL;
}

static enum dr_code choose_strategy(struct dr_plan *p, const struct dr_collection *c,
                                    const struct facts *f, const struct dr_keyseq *seq,
                                    bool *is_by_keys_out, const char **why_out, struct dr_err *err)
{
    const enum dr_redis_strategy wish = p->request->u.redis_purge.strategy;
    const char *obstacle = say_not_generated(p, f, seq);
    const char *asked = count_text(p->arena, f->asked);
    const char *total = count_text(p->arena, c->rows_total);
    *is_by_keys_out = false;
    if (asked == NULL || total == NULL) {
        return dr_fail_nomem(err);
    }
    if (wish == DR_REDIS_KEYS && obstacle != NULL) {
        return dr_fail(err, DR_REFUSED, "%s: strategy \"keys\" is not possible: %s", p->target,
                       obstacle);
    }
    if (obstacle == NULL && wish == DR_REDIS_AUTO &&
        (is_list_empty(p, "applications") || is_list_empty(p, "metrics"))) {
        obstacle = "applications or metrics are not listed: their keys cannot be generated";
    }
    if (wish == DR_REDIS_SCAN || obstacle != NULL) {
        *why_out = wish == DR_REDIS_SCAN
                       ? dr_arena_printf(p->arena, "asked for: reads %s keys", total)
                       : dr_arena_printf(p->arena, "%s: reads %s keys", obstacle, total);
    } else {
        bool is_few = f->asked / ASKED_FACTOR + (f->asked % ASKED_FACTOR != 0) <= c->rows_total;
        *is_by_keys_out = is_few || wish == DR_REDIS_KEYS;
        *why_out = dr_arena_printf(p->arena,
                                   *is_by_keys_out
                                       ? "asks for %s generated keys; a scan would read %s"
                                       : "to ask for %s generated keys is more than to read all %s",
                                   asked, total);
    }
    return *why_out == NULL ? dr_fail_nomem(err) : DR_OK;
}

static enum dr_code guard_scan(const struct dr_plan *p, const struct dr_collection *c,
                               const struct facts *f, const char *why, struct dr_err *err)
{
    const struct dr_redis_purge *want = &p->request->u.redis_purge;
    if (!f->has_scan || (p->can & DR_CAN_SCAN) == 0) {
        return dr_fail(err, DR_UNSUPPORTED,
                       "the server (a proxy?) does not know SCAN: refused, nothing deleted. Name "
                       "the servers behind it, or what keys can be generated from");
    }
    if (p->request->allow_scan || want->marked || want->zero_values ||
        want->strategy == DR_REDIS_SCAN) {
        return DR_OK;
    }
    return dr_fail(err, DR_REFUSED,
                   "%s: %s on %" PRIu64
                   " node%s (low). Set \"allow_scan\": true to accept that, or "
                   "list applications and metrics and a period that is short enough",
                   p->target, why, c->chunk_count, c->chunk_count == 1 ? "" : "s");
}

/* --- the pick -------------------------------------------------------------------------------- */

static enum dr_code cut_slices(struct dr_plan *p, const struct dr_collection *c,
                               const struct facts *f, const struct dr_keyseq *seq,
                               struct dr_stats *s, struct dr_pick *pick, struct dr_err *err)
{
    const uint32_t services = s->want->service_count;
    s->is_by_keys = true;
    s->per_service = f->generated / services;
    s->per_step = s->want->partition_keys;
    s->slices = s->per_service / s->per_step + (s->per_service % s->per_step != 0);
    s->servers = f->is_cluster ? 1 : c->chunk_count;
    uint64_t most = STEPS_MAX / services / s->servers;
    if (s->slices > most) {
        return dr_fail(err, DR_REFUSED,
                       "%s: more than %d steps of %" PRIu64 " keys; raise \"partition_keys\", "
                       "shorten the period, or use strategy \"scan\"",
                       p->target, STEPS_MAX, s->per_step);
    }
    pick->part.strategy = DR_BY_KEY_LIST;
    pick->access = DR_BY_KEYS;
    pick->work_count = s->slices * services * s->servers;
    pick->part.estimated = f->asked;
    return f->is_cluster ? find_owners(p, c, f, seq, s, err) : DR_OK;
}

static void scan_nodes(const struct dr_collection *c, struct dr_pick *pick)
{
    pick->part.strategy = DR_BY_FULL_SCAN;
    pick->access = DR_BY_SCAN;
    pick->work_count = c->chunk_count;
    pick->part.estimated = c->rows_total;
}

/* No more can go than is there, where that is known of all nodes. */
static void bound_estimate(const struct dr_collection *c, struct dr_pick *pick)
{
    bool is_total_known = true;
    for (uint64_t i = 0; i < c->chunk_count; i++) {
        is_total_known = is_total_known && c->chunk[i].is_rows_known;
    }
    if (is_total_known && pick->part.estimated > c->rows_total) {
        pick->part.estimated = c->rows_total;
    } else if (!is_total_known && !pick->stats->is_by_keys) {
        pick->part.estimated = 0; /* shown as unknown */
    }
    pick->is_estimate_known = is_total_known && pick->part.estimated == 0;
}

static enum dr_code add_warnings(struct dr_plan *p, const struct facts *f, struct dr_pick *pick,
                                 struct dr_err *err)
{
    static const char *const lists[] = {"applications", "metrics", "users"};
    enum dr_code rc = DR_OK;
    const char *text = NULL;
    for (size_t i = 0; rc == DR_OK && pick->stats->is_by_keys && i < 3; i++) {
        if (is_list_empty(p, lists[i])) {
            text = dr_arena_printf(p->arena,
                                   "no %s are listed: keys with one stay; a scan would "
                                   "find them",
                                   lists[i]);
            rc = text == NULL ? dr_fail_nomem(err) : dr_pick_warn(p, pick, text, err);
        }
    }
    const json_t *down = json_object_get(f->extra, "down");
    for (size_t i = 0; rc == DR_OK && i < json_array_size(down); i++) {
        const char *node = json_string_value(json_array_get(down, i));
        text = dr_arena_printf(p->arena, "%s does not answer: its steps wait, the others go on",
                               node == NULL ? "a server" : node);
        rc = text == NULL ? dr_fail_nomem(err) : dr_pick_warn(p, pick, text, err);
    }
    return rc;
}

/* Where the marked set can be: in a cluster on its slot's owner, else on any of the servers. */
static enum dr_code plan_unmarking(struct dr_plan *p, const struct dr_collection *c,
                                   const struct facts *f, const struct dr_keyseq *seq,
                                   struct dr_stats *s, struct dr_err *err)
{
    const char *set = dr_keyseq_marked_set(seq);
    if ((p->can & DR_CAN_COMMAND) == 0) {
        return dr_fail(err, DR_UNSUPPORTED,
                       "%s: this store cannot take services off the marked "
                       "set; leave out \"marked\"",
                       p->target);
    }
    s->marked_nodes = (uint32_t)c->chunk_count;
    if (f->is_cluster) {
        s->marked_nodes = 1;
        enum dr_code rc = find_owner(c, f, dr_redis_slot(set, strlen(set)), &s->marked_first, err);
        if (rc != DR_OK) {
            return rc;
        }
    }
    s->marked_set = dr_arena_strdup(p->arena, set);
    return s->marked_set == NULL ? dr_fail_nomem(err) : DR_OK;
}

static enum dr_code fill_pick(struct dr_plan *p, const struct dr_collection *c,
                              const struct facts *f, const struct dr_keyseq *seq,
                              struct dr_pick *pick, struct dr_err *err)
{
    struct dr_stats *s = dr_arena_alloc(p->arena, sizeof *s);
    bool is_by_keys = false;
    *pick = (struct dr_pick){.collection = c, .stats = s, .priority = PRIORITY_LOW};
    pick->part =
        (struct dr_plan_part){.collection = c->name, .total = c->rows_total, .warning = c->warning};
    if (s == NULL) {
        return dr_fail_nomem(err);
    }
    *s = (struct dr_stats){.want = &p->request->u.redis_purge, .target = p->target};
    enum dr_code rc = choose_strategy(p, c, f, seq, &is_by_keys, &pick->part.why, err);
    if (rc == DR_OK && !is_by_keys) {
        rc = guard_scan(p, c, f, pick->part.why, err);
        scan_nodes(c, pick);
    } else if (rc == DR_OK) {
        rc = cut_slices(p, c, f, seq, s, pick, err);
    }
    if (rc == DR_OK) {
        bound_estimate(c, pick);
        rc = add_warnings(p, f, pick, err);
    }
    if (rc == DR_OK && s->want->marked) {
        rc = plan_unmarking(p, c, f, seq, s, err);
    }
    return rc;
}

/* What steps mean by "request", as far as it selects keys: a plan for other keys is another plan.
 */
static enum dr_code keep_selection(struct dr_plan *p, struct dr_err *err)
{
    static const char *const keys[] = {"services", "applications", "metrics",
                                       "users",    "from",         "to",
                                       "layout",   "zero_values",  "overwrite"};
    json_t *chosen = json_object();
    enum dr_code rc = chosen == NULL ? dr_fail_nomem(err) : DR_OK;
    for (size_t i = 0; rc == DR_OK && i < sizeof keys / sizeof keys[0]; i++) {
        json_t *value = json_object_get(p->request->json, keys[i]);
        if (value != NULL && json_object_set(chosen, keys[i], value) != 0) {
            rc = dr_fail_nomem(err);
        }
    }
    char *text = rc == DR_OK ? dr_json_text(chosen) : NULL;
    p->selection = text == NULL ? NULL : dr_arena_strdup(p->arena, text);
    dr_free(text);
    json_decref(chosen);
    return rc == DR_OK && p->selection == NULL ? dr_fail_nomem(err) : rc;
}

static enum dr_code read_facts(const struct dr_plan *p, const struct dr_collection *c,
                               const struct dr_keyseq *seq, struct facts *f, struct dr_err *err)
{
    const char *text = p->survey->extra == NULL ? "{}" : p->survey->extra;
    enum dr_code rc = dr_json_parse("survey", text, strlen(text), &f->extra, err);
    if (rc != DR_OK) {
        return rc;
    }
    f->is_cluster = json_is_true(json_object_get(f->extra, "cluster"));
    f->has_scan = !json_is_false(json_object_get(f->extra, "scan"));
    f->generated = dr_keyseq_count(seq);
    uint64_t servers = f->is_cluster ? 1 : c->chunk_count;
    f->asked = f->generated > INT64_MAX / servers ? INT64_MAX : f->generated * servers;
    return DR_OK;
}

enum dr_code dr_plan_redis_purge(struct dr_plan *p, struct dr_err *err)
{
    struct dr_keyseq *seq = NULL;
    struct facts facts = {0};
    p->target = dr_request_target(p->request);
    if (p->survey->collection_count != 1 || p->survey->collection[0].chunk_count == 0) {
        return dr_fail(err, DR_CORRUPT, "%s: the survey names no server", p->target);
    }
    const struct dr_collection *c = &p->survey->collection[0];
    if (p->request->u.redis_purge.service_count == 0) {
        return dr_fail(err, DR_INTERNAL, "%s: planned before the services were known", p->target);
    }
    enum dr_code rc = dr_plan_guard_collection(p, c, err);
    if (rc == DR_OK) {
        rc = dr_keyseq_create(p->request->json, "job", &seq, err);
    }
    if (rc == DR_OK) {
        rc = read_facts(p, c, seq, &facts, err);
    }
    if (rc == DR_OK) {
        rc = fill_pick(p, c, &facts, seq, &p->pick[0], err);
    }
    if (rc == DR_OK) {
        rc = keep_selection(p, err);
    }
    p->is_upper_bound = true;
    p->pick_count = rc == DR_OK ? 1 : 0;
    json_decref(facts.extra);
    dr_keyseq_destroy(seq);
    return rc;
}

/* --- steps ----------------------------------------------------------------------------------- */

/* Step k: service, slice within the service, server; the last changes fastest, so that a few
 * workers keep all servers busy. */
static uint64_t service_of(const struct dr_stats *s, uint64_t k)
{
    return k / s->servers / s->slices;
}

static uint64_t offset_in_service(const struct dr_stats *s, uint64_t k)
{
    return k / s->servers % s->slices * s->per_step;
}

static uint64_t length_of(const struct dr_stats *s, uint64_t k)
{
    uint64_t left = s->per_service - offset_in_service(s, k);
    return left < s->per_step ? left : s->per_step;
}

const struct dr_chunk *dr_stats_work(const struct dr_pick *pick, uint64_t k)
{
    const struct dr_stats *s = pick->stats;
    const struct dr_chunk *chunk = pick->collection->chunk;
    if (!s->is_by_keys) {
        return &chunk[k];
    }
    return s->owner != NULL ? &chunk[s->owner[service_of(s, k)]] : &chunk[k % s->servers];
}

void dr_stats_fill_range(const struct dr_pick *pick, uint64_t k, struct dr_range *r)
{
    const struct dr_stats *s = pick->stats;
    r->is_spec_of_request = true;
    if (s->is_by_keys) {
        r->offset = service_of(s, k) * s->per_service + offset_in_service(s, k);
        r->length = length_of(s, k);
    }
}

uint64_t dr_stats_estimate(const struct dr_pick *pick, uint64_t k, bool *is_known_out)
{
    const struct dr_chunk *work = dr_stats_work(pick, k);
    *is_known_out = work->is_rows_known && work->rows == 0; /* an empty server: nothing can go */
    if (*is_known_out || !pick->stats->is_by_keys) {
        return work->is_rows_known ? work->rows : 0;
    }
    return length_of(pick->stats, k);
}

void dr_stats_title(const struct dr_pick *pick, enum dr_step_kind kind, uint64_t k,
                    struct dr_str *out)
{
    const struct dr_stats *s = pick->stats;
    if (s->is_by_keys) {
        uint64_t from = offset_in_service(s, k);
        dr_str_addf(out, "%s stats of service %s keys [%" PRIu64 ", %" PRIu64 ")",
                    dr_step_kind_name(kind), s->want->service[service_of(s, k)], from,
                    from + length_of(s, k));
    } else {
        dr_str_addf(out, "%s stats of %s by scan", dr_step_kind_name(kind), s->target);
    }
}

static bool is_plain_json(const char *text)
{
    const char *at = text;
    while ((unsigned char)*at >= ' ' && (unsigned char)*at < 0x7f && *at != '"' && *at != '\\') {
        at++;
    }
    return *at == '\0';
}

bool dr_stats_text(const struct dr_range *r, enum dr_step_kind kind, bool with_archive,
                   struct dr_str *out)
{
    char text[512];
    if (r->access != DR_BY_KEYS || !is_plain_json(r->node) || !is_plain_json(r->collection)) {
        return false;
    }
    int bytes = snprintf(
        text, sizeof text,
        "{%s\"range\":{\"access\":\"keys\",\"collection\":\"%s\",\"epoch\":%" PRIu64
        ",\"length\":%" PRIu64 ",\"node\":\"%s\",\"offset\":%" PRIu64 ",\"spec\":\"request\"}}",
        kind != DR_STEP_ERASE ? ""
        : with_archive        ? "\"archive\":true,"
                              : "\"archive\":false,",
        r->collection, r->epoch, r->length, r->node, r->offset);
    if (bytes < 0 || (size_t)bytes >= sizeof text) {
        return false;
    }
    dr_str_addn(out, text, (size_t)bytes);
    return true;
}

const char *dr_stats_marked_node(const struct dr_pick *pick, uint64_t k)
{
    const struct dr_stats *s = pick->stats;
    return pick->collection->chunk[s->marked_first + k % s->marked_nodes].node;
}

/* A word as redis-cli reads it: as it is, or in quotes with \xHH for what quotes cannot hold. */
static void add_word(struct dr_str *out, const char *text)
{
    bool is_plain = true;
    for (const char *at = text; *at != '\0'; at++) {
        is_plain =
            is_plain && (isalnum((unsigned char)*at) != 0 || strchr("_-.:@/+,", *at) != NULL);
    }
    if (is_plain) {
        dr_str_add(out, text);
        return;
    }
    dr_str_addc(out, '"');
    for (const char *at = text; *at != '\0'; at++) {
        unsigned char c = (unsigned char)*at;
        if (c < ' ' || c >= 0x7f || c == '"' || c == '\\') {
            dr_str_addf(out, "\\x%02x", c);
        } else {
            dr_str_addc(out, *at);
        }
    }
    dr_str_addc(out, '"');
}

static void add_command(struct dr_str *out, const char *verb, const char *set, const char *service)
{
    dr_str_add(out, verb);
    dr_str_addc(out, ' ');
    add_word(out, set);
    dr_str_addc(out, ' ');
    add_word(out, service);
}

void dr_stats_unmark(const struct dr_pick *pick, uint64_t k, struct dr_str *query,
                     struct dr_str *rollback, struct dr_str *title)
{
    const struct dr_stats *s = pick->stats;
    assert(k / s->marked_nodes < s->want->service_count);
    const char *service = s->want->service[k / s->marked_nodes];
    add_command(query, "SREM", s->marked_set, service);
    add_command(rollback, "SADD", s->marked_set, service);
    dr_str_addf(title, "take service %s off the marked set on %s", service,
                dr_stats_marked_node(pick, k));
}
