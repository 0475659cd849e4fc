/* SPDX-License-Identifier: Apache-2.0 */
/* The kinds "table.create", "table.rebalance" and "table.drop": sharded tables and the nodes they
 * live on. They have no store of their own: the fleet finds each node by the job or the catalog. No
 * state. */
#include "request/request_private.h"

#include <assert.h>
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "store/sqltext.h"

enum {
    TABLE_NAME_BYTES_MAX = 40, /* "_s2999" comes behind it */
    NODE_NAME_BYTES_MAX = 120,
    NODE_URL_BYTES_MAX = 2000,
    COLUMNS_BYTES_MAX = 64 * 1024,
    EXTRA_BYTES_MAX = 4096,
    SHARDS_MAX = 3000,
    RF_MAX = 16,
    SECONDS_MAX = 365 * 24 * 3600,
    TIMEOUT_S = 30,
    REBALANCE_HOLD_S = 3600,
    DROP_HOLD_S = 24 * 3600,
    REBALANCE_GIVE_UP_S = 1800,
    DROP_GIVE_UP_S = 600,
    FENCE_MS = 2000,
    FENCE_MS_MAX = 60000,
    PATH_BYTES = 512,
};

static const char *const engines[][2] = {
    {"sqlite:", "sqlite"},       {"mysql://", "mysql"},         {"mariadb://", "mysql"},
    {"postgres://", "postgres"}, {"postgresql://", "postgres"}, {"manticore://", "manticore"},
};

const char *dr_table_engine_of(const char *url)
{
    for (size_t i = 0; i < sizeof engines / sizeof engines[0]; i++) {
        if (strncmp(url, engines[i][0], strlen(engines[i][0])) == 0) {
            return engines[i][1];
        }
    }
    return NULL;
}

/* "db1:3306/shop" of "mysql://ann:secret@db1:3306/shop?ssl-mode=required"; the path of an SQLite
 * file. */
static const char *name_of_url(struct dr_arena *a, const char *url)
{
    const char *from = strstr(url, "://");
    from = from != NULL ? from + 3 : strchr(url, ':') + 1;
    size_t bytes = strcspn(from, "?");
    if (strncmp(url, "sqlite:", 7) != 0) {
        const char *at = NULL;
        for (size_t i = 0; i < bytes && from[i] != '/'; i++) {
            at = from[i] == '@' ? from + i : at;
        }
        if (at != NULL) {
            bytes -= (size_t)(at + 1 - from);
            from = at + 1;
        }
        while (bytes > 0 && from[bytes - 1] == '/') {
            bytes--;
        }
    }
    char *name = dr_arena_memdup(a, from, bytes + 1);
    if (name != NULL) {
        name[bytes] = '\0';
    }
    return name;
}

static bool is_table_name(const char *name)
{
    if (!isalpha((unsigned char)name[0]) && name[0] != '_') {
        return false;
    }
    for (const char *at = name; *at != '\0'; at++) {
        if (!isalnum((unsigned char)*at) && *at != '_') {
            return false;
        }
    }
    return strlen(name) <= TABLE_NAME_BYTES_MAX;
}

static enum dr_code check_node_name(const char *where, const char *name, struct dr_err *err)
{
    if (strcmp(name, "catalog") == 0) {
        return dr_fail(err, DR_INPUT, "%s: \"catalog\" is taken; give the node another name",
                       where);
    }
    if (name[0] == '\0' || strlen(name) > NODE_NAME_BYTES_MAX) {
        return dr_fail(err, DR_INPUT,
                       "%s: the node's name has 1 to %d bytes; give one with NAME=URL", where,
                       NODE_NAME_BYTES_MAX);
    }
    for (const char *at = name; *at != '\0'; at++) {
        if ((unsigned char)*at < 0x21 || *at == '"' || *at == '\'' || *at == ',' || *at == '|') {
            return dr_fail(err, DR_INPUT,
                           "%s: a node's name has no blanks, quotes, commas or bars; give one "
                           "with NAME=URL",
                           where);
        }
    }
    return DR_OK;
}

/* One of "nodes" or "add": {"url", "name"} or a URL alone. */
static enum dr_code read_node(struct dr_request *r, const char *where, const json_t *j,
                              struct dr_table_job_node *out, struct dr_err *err)
{
    const char *url =
        json_is_string(j) ? json_string_value(j) : json_string_value(json_object_get(j, "url"));
    const char *name = json_string_value(json_object_get(j, "name"));
    const char *key;
    const json_t *value;
    if (url == NULL || strlen(url) > NODE_URL_BYTES_MAX || dr_table_engine_of(url) == NULL) {
        return dr_fail(err, DR_INPUT,
                       "%s: expected {\"url\": a sqlite:, mysql://, postgres:// or manticore:// "
                       "URL, \"name\": optional}",
                       where);
    }
    json_object_foreach((json_t *)j, key, value)
    {
        if (strcmp(key, "url") != 0 && strcmp(key, "name") != 0) {
            return dr_fail(err, DR_INPUT, "%s.%.40s: unknown key; known are: url name", where, key);
        }
    }
    out->url = dr_arena_strdup(r->arena, url);
    out->name = name != NULL ? dr_arena_strdup(r->arena, name) : name_of_url(r->arena, url);
    if (out->url == NULL || out->name == NULL) {
        return dr_fail_nomem(err);
    }
    return check_node_name(where, out->name, err);
}

static enum dr_code check_nodes(const char *path, const struct dr_table_job *t, struct dr_err *err)
{
    for (uint32_t i = 0; i < t->node_count; i++) {
        if (strcmp(dr_table_engine_of(t->node[i].url), dr_table_engine_of(t->node[0].url)) != 0) {
            return dr_fail(err, DR_REFUSED,
                           "%s: %s is %s and %s is %s; all nodes of a table are of one kind", path,
                           t->node[0].name, dr_table_engine_of(t->node[0].url), t->node[i].name,
                           dr_table_engine_of(t->node[i].url));
        }
        for (uint32_t k = 0; k < i; k++) {
            if (strcmp(t->node[i].name, t->node[k].name) == 0) {
                return dr_fail(err, DR_INPUT, "%s: the node %s is named twice", path,
                               t->node[i].name);
            }
        }
    }
    return DR_OK;
}

static enum dr_code read_nodes(struct dr_jr *jr, struct dr_request *r, const char *key,
                               bool is_required, struct dr_err *err)
{
    struct dr_table_job *t = &r->u.table;
    const json_t *array = NULL;
    char where[PATH_BYTES];
    if (!dr_jr_array(jr, key, is_required, DR_TABLE_NODES_PER_JOB_MAX, &array)) {
        return jr->rc;
    }
    size_t count = json_array_size(array);
    t->node = dr_arena_alloc(r->arena, (count + 1) * sizeof *t->node);
    if (t->node == NULL) {
        return dr_fail_nomem(err);
    }
    (void)snprintf(where, sizeof where, "%.460s.%s", jr->path, key);
    if (count == 0 && is_required) {
        return dr_fail(err, DR_INPUT, "%s: expected at least one node", where);
    }
    for (size_t i = 0; i < count; i++) {
        (void)snprintf(where, sizeof where, "%.460s.%s[%zu]", jr->path, key, i);
        enum dr_code rc = read_node(r, where, json_array_get(array, i), &t->node[i], err);
        if (rc != DR_OK) {
            return rc;
        }
        t->node_count++;
    }
    (void)snprintf(where, sizeof where, "%.460s.%s", jr->path, key);
    return check_nodes(where, t, err);
}

/* Names, or URLs of which the name is made the same way as when they were added. */
static enum dr_code read_remove(struct dr_jr *jr, struct dr_request *r, struct dr_err *err)
{
    struct dr_table_job *t = &r->u.table;
    const json_t *array = NULL;
    if (!dr_jr_array(jr, "remove", false, DR_TABLE_NODES_PER_JOB_MAX, &array)) {
        return jr->rc;
    }
    t->remove = dr_arena_alloc(r->arena, (json_array_size(array) + 1) * sizeof *t->remove);
    for (size_t i = 0; t->remove != NULL && i < json_array_size(array); i++) {
        const char *text = json_string_value(json_array_get(array, i));
        if (text == NULL || text[0] == '\0') {
            return dr_fail(err, DR_INPUT, "%s.remove[%zu]: expected a node's name or URL", jr->path,
                           i);
        }
        t->remove[i] = dr_table_engine_of(text) != NULL ? name_of_url(r->arena, text)
                                                        : dr_arena_strdup(r->arena, text);
        if (t->remove[i] == NULL) {
            return dr_fail_nomem(err);
        }
        t->remove_count++;
    }
    return t->remove == NULL ? dr_fail_nomem(err) : DR_OK;
}

static void read_text(struct dr_jr *jr, struct dr_request *r, const char *key, size_t bytes_max,
                      bool is_required, const char **out)
{
    char where[PATH_BYTES];
    const char *text = NULL;
    *out = "";
    if (!dr_jr_string(jr, key, is_required, &text)) {
        return;
    }
    (void)snprintf(where, sizeof where, "%.460s.%s", jr->path, key);
    if (strlen(text) > bytes_max || (is_required && text[strspn(text, " \t\r\n")] == '\0')) {
        jr->rc = dr_fail(jr->err, DR_INPUT, "%s: expected 1 to %zu bytes", where, bytes_max);
        return;
    }
    if (text[strspn(text, " \t\r\n")] != '\0') {
        jr->rc = dr_sql_check_expression(where, text, jr->err);
    }
    *out = jr->rc == DR_OK ? dr_arena_strdup(r->arena, text) : "";
    if (*out == NULL) {
        jr->rc = dr_fail_nomem(jr->err);
    }
}

static void read_number(struct dr_jr *jr, const char *key, bool is_required, uint64_t min,
                        uint64_t max, uint64_t absent, uint32_t *out)
{
    uint64_t n = absent;
    (void)dr_jr_u64(jr, key, is_required, min, max, &n);
    *out = (uint32_t)n;
}

static enum dr_code parse_create(struct dr_jr *jr, struct dr_request *r, struct dr_err *err)
{
    struct dr_table_job *t = &r->u.table;
    read_text(jr, r, "columns", COLUMNS_BYTES_MAX, true, &t->columns);
    read_text(jr, r, "extra", EXTRA_BYTES_MAX, false, &t->extra);
    read_number(jr, "shards", true, 1, SHARDS_MAX, 0, &t->shards);
    read_number(jr, "rf", true, 1, RF_MAX, 0, &t->rf);
    read_number(jr, "timeout_s", false, 1, SECONDS_MAX, TIMEOUT_S, &t->give_up_s);
    (void)dr_jr_bool(jr, "if_not_exists", false, &t->if_exists);
    return jr->rc == DR_OK ? read_nodes(jr, r, "nodes", true, err) : jr->rc;
}

static enum dr_code parse_rebalance(struct dr_jr *jr, struct dr_request *r, struct dr_err *err)
{
    struct dr_table_job *t = &r->u.table;
    read_number(jr, "hold_s", false, 0, SECONDS_MAX, REBALANCE_HOLD_S, &t->hold_s);
    read_number(jr, "fence_ms", false, 10, FENCE_MS_MAX, FENCE_MS, &t->fence_ms);
    read_number(jr, "give_up_s", false, 0, SECONDS_MAX, REBALANCE_GIVE_UP_S, &t->give_up_s);
    enum dr_code rc = jr->rc == DR_OK ? read_nodes(jr, r, "add", false, err) : jr->rc;
    return rc == DR_OK ? read_remove(jr, r, err) : rc;
}

static enum dr_code parse_drop(struct dr_jr *jr, struct dr_request *r, struct dr_err *err)
{
    struct dr_table_job *t = &r->u.table;
    (void)err;
    read_number(jr, "hold_s", false, 0, SECONDS_MAX, DROP_HOLD_S, &t->hold_s);
    read_number(jr, "give_up_s", false, 0, SECONDS_MAX, DROP_GIVE_UP_S, &t->give_up_s);
    (void)dr_jr_bool(jr, "if_exists", false, &t->if_exists);
    return jr->rc;
}

/* What dr_request_resolve put there, in a job that is read back from the queue. */
static void skip_resolved(struct dr_jr *jr)
{
    const json_t *ignored = NULL;
    (void)dr_jr_any(jr, "operation", false, &ignored);
    (void)dr_jr_any(jr, "uuid", false, &ignored);
}

static enum dr_code parse_table(struct dr_jr *jr, struct dr_request *r, enum dr_table_what what,
                                struct dr_err *err)
{
    struct dr_table_job *t = &r->u.table;
    t->what = what;
    dr_request_read_name(jr, "table", r->arena, &t->table);
    if (jr->rc == DR_OK && !is_table_name(t->table)) {
        return dr_fail(err, DR_INPUT,
                       "%s.table: expected letters, digits and _ (not first a digit), at most %d "
                       "of them",
                       jr->path, TABLE_NAME_BYTES_MAX);
    }
    if (jr->rc == DR_OK && r->irreversible) {
        return dr_fail(err, DR_INPUT,
                       "%s.irreversible: not for this kind: its steps have their rollback "
                       "commands, and hold_s says for how long",
                       jr->path);
    }
    r->database = t->table;
    r->archive_days = 0; /* what is replaced is held, nothing is archived */
    skip_resolved(jr);
    if (jr->rc != DR_OK) {
        return jr->rc;
    }
    switch (what) {
    case DR_TABLE_CREATE:
        return parse_create(jr, r, err);
    case DR_TABLE_REBALANCE:
        return parse_rebalance(jr, r, err);
    case DR_TABLE_DROP:
        return parse_drop(jr, r, err);
    }
    return DR_OK;
}

static enum dr_code parse_table_create(struct dr_jr *jr, struct dr_request *r, struct dr_err *err)
{
    return parse_table(jr, r, DR_TABLE_CREATE, err);
}

static enum dr_code parse_table_rebalance(struct dr_jr *jr, struct dr_request *r,
                                          struct dr_err *err)
{
    return parse_table(jr, r, DR_TABLE_REBALANCE, err);
}

static enum dr_code parse_table_drop(struct dr_jr *jr, struct dr_request *r, struct dr_err *err)
{
    return parse_table(jr, r, DR_TABLE_DROP, err);
}

static enum dr_code guard_table(const struct dr_request *r, struct dr_err *err)
{
    const struct dr_table_job *t = &r->u.table;
    for (uint32_t i = 0; i < t->remove_count; i++) {
        for (uint32_t k = 0; k < t->node_count; k++) {
            if (strcmp(t->remove[i], t->node[k].name) == 0) {
                return dr_fail(err, DR_INPUT, "the node %s is both added and removed",
                               t->remove[i]);
            }
        }
    }
    if (t->what == DR_TABLE_CREATE && t->rf > t->node_count) {
        return dr_fail(err, DR_REFUSED,
                       "%s: rf %u needs as many nodes, there are %u; add nodes or choose a lower "
                       "rf",
                       t->table, (unsigned)t->rf, (unsigned)t->node_count);
    }
    return DR_OK;
}

static const char *collection_of_table(const struct dr_request *r, uint32_t n)
{
    return n == 0 ? r->u.table.table : NULL;
}

static const struct dr_filter *no_filter(const struct dr_request *r)
{
    (void)r;
    return NULL;
}

/* The survey makes the ids: planning knows no random numbers. */
static enum dr_code resolve_table(struct dr_request *r, const struct dr_survey *s,
                                  struct dr_err *err)
{
    static const char *const taken[] = {"operation", "uuid"};
    json_t *extra = NULL;
    const char *text = s->extra == NULL ? "{}" : s->extra;
    enum dr_code rc = dr_json_parse("survey", text, strlen(text), &extra, err);
    for (size_t i = 0; rc == DR_OK && i < sizeof taken / sizeof taken[0]; i++) {
        json_t *value = json_object_get(extra, taken[i]);
        if (value != NULL && json_object_set(r->json, taken[i], value) != 0) {
            rc = dr_fail_nomem(err);
        }
    }
    json_decref(extra);
    return rc;
}

static const char *make_table_target(const struct dr_request *r)
{
    return r->u.table.table;
}

const struct dr_request_kind *dr_request_kind_table_create(void)
{
    static const struct dr_request_kind kind = {.name = "table.create",
                                                .has_own_database = true,
                                                .fixed_store = "fleet:",
                                                .needs_spec = true,
                                                .parse = parse_table_create,
                                                .guard = guard_table,
                                                .collection = collection_of_table,
                                                .filter = no_filter,
                                                .resolve = resolve_table,
                                                .make_target = make_table_target};
    return &kind;
}

const struct dr_request_kind *dr_request_kind_table_rebalance(void)
{
    static const struct dr_request_kind kind = {.name = "table.rebalance",
                                                .has_own_database = true,
                                                .fixed_store = "fleet:",
                                                .needs_spec = true,
                                                .parse = parse_table_rebalance,
                                                .guard = guard_table,
                                                .collection = collection_of_table,
                                                .filter = no_filter,
                                                .resolve = resolve_table,
                                                .make_target = make_table_target};
    return &kind;
}

const struct dr_request_kind *dr_request_kind_table_drop(void)
{
    static const struct dr_request_kind kind = {.name = "table.drop",
                                                .has_own_database = true,
                                                .fixed_store = "fleet:",
                                                .needs_spec = true,
                                                .parse = parse_table_drop,
                                                .guard = guard_table,
                                                .collection = collection_of_table,
                                                .filter = no_filter,
                                                .resolve = resolve_table,
                                                .make_target = make_table_target};
    return &kind;
}
