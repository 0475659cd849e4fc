/* SPDX-License-Identifier: Apache-2.0 */
/* Owns the survey of a job about a sharded table: the catalog's record, the job's nodes, whether
 * each answers, and what each has of the table. A dead node costs one try to connect. */
#include <inttypes.h>
#include <string.h>

#include "base/backoff.h"
#include "obs/log.h"
#include "store/fleet/fleet_private.h"

enum {
    UUID_BYTES = 37,
    URL_BYTES = 4096,
    NAMES_TRIED_MAX = 256, /* of a table that is not there yet, per node */
    RECORDS_BLOCK_BYTES = 16 * 1024,
    SHARD_NAME_BYTES = 128,
};

struct prober {
    const char *spec;
    json_t *request;
    const char *table;
    bool is_create;
    json_t *record; /* NULL: there is none */
    json_t *nodes;
    const char *engine;
    char uuid[UUID_BYTES];
    char operation[UUID_BYTES];
};

/* Version 4, RFC 9562. */
static void make_uuid(char *out)
{
    uint64_t a = dr_random();
    uint64_t b = dr_random();
    (void)snprintf(out, UUID_BYTES, "%08" PRIx32 "-%04x-4%03x-%04x-%012" PRIx64,
                   (uint32_t)(a >> 32), (unsigned)(a >> 16) & 0xffff, (unsigned)a & 0xfff,
                   ((unsigned)(b >> 48) & 0x3fff) | 0x8000, b & UINT64_C(0xffffffffffff));
}

static void take_uuid(const json_t *from, const char *key, char *out)
{
    const char *text = fl_text(from, key);
    if (strlen(text) == UUID_BYTES - 1) {
        dr_copy_text(out, UUID_BYTES, text);
    } else {
        make_uuid(out);
    }
}

/* ---- what a node is called, and what runs there ---- */

static const char *engine_of(const char *url)
{
    static const char *const engines[][2] = {
        {"sqlite:", "sqlite"},     {"mysql:", "mysql"},         {"mariadb:", "mysql"},
        {"postgres:", "postgres"}, {"postgresql:", "postgres"}, {"manticore:", "manticore"},
    };
    for (size_t i = 0; i < sizeof engines / sizeof engines[0]; i++) {
        if (strncmp(url, engines[i][0], strlen(engines[i][0])) == 0) {
            return engines[i][1];
        }
    }
    return NULL;
}

/* A job may leave the name to its URL: "host:port/database", or the path of a file. It has no
 * secret in it. */
static char *name_of_url(const char *url)
{
    const char *from = strstr(url, "://");
    from = from != NULL ? from + 3 : strchr(url, ':') + 1;
    size_t bytes = strcspn(from, "?");
    if (strncmp(url, "sqlite:", 7) != 0) {
        size_t host = 0;
        for (size_t i = 0; i < bytes && from[i] != '/'; i++) {
            host = from[i] == '@' ? i + 1 : host;
        }
        from += host;
        bytes -= host;
        while (bytes > 0 && from[bytes - 1] == '/') {
            bytes--;
        }
    }
    return dr_strndup(from, bytes);
}

/* ---- one node ---- */

static enum dr_code set(json_t *object, const char *key, json_t *value, struct dr_err *err)
{
    return json_object_set_new(object, key, value) == 0 ? DR_OK : dr_fail_nomem(err);
}

static enum dr_code add_shard(struct prober *p, struct dr_store *s, const char *name, json_t *into,
                              struct dr_err *err)
{
    struct dr_shard_facts facts = {0};
    const struct dr_shard_id id = {
        .name = name, .table = p->table, .owner = p->uuid, .operation = p->operation};
    enum dr_code rc = dr_shard_facts(s, &id, &facts, err);
    if (rc != DR_OK || (!facts.exists && !facts.is_held && !facts.is_owned)) {
        return rc;
    }
    json_t *one = json_pack("{s:s, s:b, s:b, s:b, s:I, s:I, s:b, s:b}", "name", name, "exists",
                            facts.exists, "owned", facts.is_owned, "held", facts.is_held, "rows",
                            (json_int_t)facts.rows, "bytes", (json_int_t)facts.bytes, "captured",
                            facts.is_captured, "fenced", facts.is_fenced);
    return json_array_append_new(into, one) == 0 ? DR_OK : dr_fail_nomem(err);
}

static bool is_listed(const json_t *shards, const char *name)
{
    size_t i;
    const json_t *one;
    json_array_foreach(shards, i, one)
    {
        if (strcmp(fl_text(one, "name"), name) == 0) {
            return true;
        }
    }
    return false;
}

/* What is on record there for this table, and, where it shall be made, what stands in its place. */
static enum dr_code list_shards(struct prober *p, struct dr_store *s, json_t *into,
                                struct dr_err *err)
{
    struct dr_shard_record *r = NULL;
    uint32_t count = 0;
    char name[SHARD_NAME_BYTES];
    struct dr_arena *a = dr_arena_create(RECORDS_BLOCK_BYTES);
    enum dr_code rc = a == NULL ? dr_fail_nomem(err) : dr_shard_records(s, a, &r, &count, err);
    for (uint32_t i = 0; rc == DR_OK && i < count; i++) {
        if (strcmp(r[i].table, p->table) == 0 && !is_listed(into, r[i].name)) {
            rc = add_shard(p, s, r[i].name, into, err);
        }
    }
    json_int_t wanted =
        p->is_create ? json_integer_value(json_object_get(p->request, "shards")) : 0;
    for (json_int_t i = 0; rc == DR_OK && i < wanted && i < NAMES_TRIED_MAX; i++) {
        (void)snprintf(name, sizeof name, "%s_s%d", p->table, (int)i);
        rc = is_listed(into, name) ? DR_OK : add_shard(p, s, name, into, err);
    }
    dr_arena_destroy(a);
    return rc;
}

/* Stores of another kind tell of themselves in their own words. */
static enum dr_code ask_store(struct prober *p, struct dr_store *s, json_t *node,
                              struct dr_err *err)
{
    struct dr_survey *survey = NULL;
    json_t *facts = NULL;
    enum dr_code rc = dr_store_survey_spec(s, p->spec, &survey, err);
    if (rc != DR_OK) {
        return rc;
    }
    const char *text = survey->extra == NULL ? "{}" : survey->extra;
    rc = dr_json_parse("survey of a node", text, strlen(text), &facts, err);
    json_t *shards = json_object_get(facts, "shards");
    if (rc == DR_OK && json_is_array(shards)) {
        rc = json_object_set(node, "shards", shards) == 0 ? DR_OK : dr_fail_nomem(err);
    }
    rc = rc == DR_OK ? set(node, p->engine, json_incref(facts), err) : rc;
    json_decref(facts);
    dr_survey_destroy(survey);
    return rc;
}

static enum dr_code look_at(struct prober *p, const char *url, json_t *node, struct dr_err *err)
{
    struct dr_store *s = NULL;
    enum dr_code rc = dr_store_open(url, &s, err);
    if (rc != DR_OK) {
        return rc;
    }
    rc = dr_shard_is_supported(s) ? list_shards(p, s, json_object_get(node, "shards"), err)
                                  : ask_store(p, s, node, err);
    dr_store_close(s);
    return rc;
}

/* A mistake in the job's own URL is told at once; whatever else fails makes a node a dead one. */
static bool is_mistake(enum dr_code rc)
{
    return rc == DR_INPUT || rc == DR_UNSUPPORTED || rc == DR_NOMEM;
}

static enum dr_code probe(struct prober *p, const char *name, const char *url, bool is_new,
                          struct dr_err *err)
{
    const char *engine = engine_of(url);
    struct dr_err why;
    dr_err_clear(&why);
    if (engine == NULL || (p->engine != NULL && strcmp(engine, p->engine) != 0)) {
        return dr_fail(err, DR_REFUSED,
                       "node %s: all nodes of a table are of one engine: sqlite, mysql, postgres "
                       "or manticore%s%s",
                       name, p->engine == NULL ? "" : "; this one's is ",
                       p->engine == NULL ? "" : p->engine);
    }
    p->engine = engine;
    if (is_listed(p->nodes, name)) {
        return dr_fail(err, DR_EXISTS, "table %s has a node %s already", p->table, name);
    }
    json_t *node =
        json_pack("{s:s, s:s, s:b, s:[]}", "name", name, "url", url, "is_new", is_new, "shards");
    if (json_array_append_new(p->nodes, node) != 0) {
        return dr_fail_nomem(err);
    }
    enum dr_code rc = look_at(p, url, node, &why);
    if (is_new && is_mistake(rc)) {
        return dr_fail(err, rc, "node %s: %s", name, why.msg);
    }
    enum dr_code set_rc = set(node, "is_alive", json_boolean(rc == DR_OK), err);
    return set_rc == DR_OK ? set(node, "why", json_string(why.msg), err) : set_rc;
}

/* ---- all of them ---- */

static enum dr_code probe_job(struct prober *p, const char *key, struct dr_err *err)
{
    size_t i;
    const json_t *one;
    enum dr_code rc = DR_OK;
    json_array_foreach(json_object_get(p->request, key), i, one)
    {
        const char *url = json_is_string(one) ? json_string_value(one) : fl_text(one, "url");
        const char *given = fl_text(one, "name");
        if (strchr(url, ':') == NULL) {
            return dr_fail(err, DR_INPUT, "%s: \"%.64s\" is no URL of a node", key, url);
        }
        char *name = given[0] != '\0' ? dr_strdup(given) : name_of_url(url);
        rc = name == NULL ? dr_fail_nomem(err) : probe(p, name, url, true, err);
        dr_free(name);
        if (rc != DR_OK) {
            return rc;
        }
    }
    return rc;
}

static enum dr_code probe_record(struct prober *p, struct dr_err *err)
{
    size_t i;
    const json_t *one;
    enum dr_code rc = DR_OK;
    json_array_foreach(json_object_get(p->record, "nodes"), i, one)
    {
        rc = rc == DR_OK ? probe(p, fl_text(one, "name"), fl_text(one, "url"), false, err) : rc;
    }
    return rc;
}

/* The record as anybody may see it. */
static json_t *copy_record(const json_t *record)
{
    char shown[URL_BYTES];
    size_t i;
    json_t *one;
    json_t *copy = record == NULL ? json_null() : json_deep_copy(record);
    json_array_foreach(json_object_get(copy, "nodes"), i, one)
    {
        const char *url = dr_url_redact(fl_text(one, "url"), shown, sizeof shown);
        if (json_object_set_new(one, "url", json_string(url)) != 0) {
            json_decref(copy);
            return NULL;
        }
    }
    return copy;
}

static uint64_t rows_of(const struct prober *p, const char *shard)
{
    size_t i;
    size_t k;
    const json_t *node;
    const json_t *one;
    json_int_t rows = 0;
    json_array_foreach(p->nodes, i, node)
    {
        json_array_foreach(json_object_get(node, "shards"), k, one)
        {
            json_int_t here = json_integer_value(json_object_get(one, "rows"));
            bool is_it = strcmp(fl_text(one, "name"), shard) == 0;
            rows = is_it && here > rows ? here : rows;
        }
    }
    return (uint64_t)rows;
}

static enum dr_code fill(const struct prober *p, struct dr_survey *out, struct dr_err *err)
{
    size_t i;
    const json_t *one;
    struct dr_arena *a = out->arena;
    const json_t *shards = json_object_get(p->record, "shards");
    size_t count = json_array_size(shards);
    out->database = dr_arena_strdup(a, p->table);
    out->node = dr_arena_alloc(a, (json_array_size(p->nodes) + 1) * sizeof *out->node);
    out->collection = dr_arena_alloc(a, (count + 1) * sizeof *out->collection);
    if (out->database == NULL || out->node == NULL || out->collection == NULL) {
        return dr_fail_nomem(err);
    }
    json_array_foreach(p->nodes, i, one)
    {
        out->node[out->node_count] = dr_arena_strdup(a, fl_text(one, "name"));
        if (out->node[out->node_count++] == NULL) {
            return dr_fail_nomem(err);
        }
    }
    json_array_foreach(shards, i, one)
    {
        uint64_t rows = rows_of(p, fl_text(one, "table"));
        const char *name = dr_arena_printf(a, "%s.%s", p->table, fl_text(one, "table"));
        if (name == NULL) {
            return dr_fail_nomem(err);
        }
        out->collection[out->collection_count++] = (struct dr_collection){
            .name = name, .rows_total = rows, .rows_matched = rows, .epoch = 1};
    }
    return DR_OK;
}

static enum dr_code tell(const struct prober *p, struct dr_survey *out, struct dr_err *err)
{
    json_t *extra =
        json_pack("{s:s, s:s, s:I, s:s, s:o, s:O}", "operation", p->operation, "uuid", p->uuid,
                  "now", (json_int_t)dr_wall_now(), "engine", p->engine == NULL ? "" : p->engine,
                  "record", copy_record(p->record), "nodes", p->nodes);
    char *text = extra == NULL ? NULL : dr_json_text_in_order(extra);
    json_decref(extra);
    out->extra = text == NULL ? NULL : dr_arena_strdup(out->arena, text);
    dr_free(text);
    return out->extra == NULL ? dr_fail_nomem(err) : fill(p, out, err);
}

static enum dr_code start(struct fl_fleet *f, struct prober *p, struct dr_err *err)
{
    enum dr_code rc = dr_json_parse("request", p->spec, strlen(p->spec), &p->request, err);
    if (rc != DR_OK) {
        return rc;
    }
    p->table = fl_text(p->request, "table");
    p->is_create = strcmp(fl_text(p->request, "kind"), "table.create") == 0;
    p->nodes = json_array();
    if (p->table[0] == '\0' || p->nodes == NULL) {
        return p->nodes == NULL ? dr_fail_nomem(err)
                                : dr_fail(err, DR_INPUT, "request.table is missing");
    }
    rc = fl_read_record(f, p->table, &p->record, err);
    rc = rc == DR_NOT_FOUND ? DR_OK : rc;
    take_uuid(p->request, "operation", p->operation);
    take_uuid(p->record != NULL ? p->record : p->request, "uuid", p->uuid);
    return rc;
}

enum dr_code fl_survey_spec(void *impl, const char *spec, struct dr_survey *survey,
                            struct dr_err *err)
{
    struct prober p = {.spec = spec};
    enum dr_code rc = start(impl, &p, err);
    rc = rc == DR_OK && p.record != NULL && !p.is_create ? probe_record(&p, err) : rc;
    rc = rc == DR_OK ? probe_job(&p, p.is_create ? "nodes" : "add", err) : rc;
    rc = rc == DR_OK ? tell(&p, survey, err) : rc;
    json_decref(p.request);
    json_decref(p.record);
    json_decref(p.nodes);
    return rc;
}
