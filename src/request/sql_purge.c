/* SPDX-License-Identifier: Apache-2.0 */
/* The kind "sql.purge": the rows of one SQL table that an expression selects, walked by an ordered
 * unique key. What is selected stays in the job's JSON, where the adapter reads it. No state. */
#include "request/request_private.h"

#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "store/hold.h"
#include "store/sqltext.h"

enum { REPLICAS_MAX = 16, HOLD_DAYS_MAX = 3650, WHERE_BYTES = 512 };

#define DAY_MS INT64_C(86400000)

/* The store's own URL: a wrapping store may stand in front of it. NULL: no SQL store. */
static const char *find_sql_url(const char *url)
{
    static const char *const schemes[] = {"sqlite:", "mysql://", "mariadb://", "postgres://",
                                          "postgresql://"};
    const char *found = NULL;
    for (size_t i = 0; i < sizeof schemes / sizeof schemes[0]; i++) {
        const char *at = strstr(url, schemes[i]);
        found = at != NULL && (found == NULL || at < found) ? at : found;
    }
    return found;
}

static bool begins_with(const char *text, const char *begin)
{
    return strncmp(text, begin, strlen(begin)) == 0;
}

/* The database when the job names none: SQLite has "main", PostgreSQL's tables are usually in the
 * schema "public", MariaDB's URL names one behind the host. */
static enum dr_code default_database(const struct dr_jr *jr, struct dr_request *r,
                                     struct dr_err *err)
{
    const char *url = find_sql_url(r->store_url);
    if (url == NULL || begins_with(url, "sqlite:")) {
        r->database = "main";
        return DR_OK;
    }
    if (begins_with(url, "postgres")) {
        r->database = "public";
        return DR_OK;
    }
    const char *host = strstr(url, "://");
    const char *end = host == NULL ? url : host + strcspn(host, "?");
    const char *slash = host == NULL ? NULL : memchr(host + 3, '/', (size_t)(end - host - 3));
    if (slash == NULL || slash + 1 == end || memchr(slash, '%', (size_t)(end - slash)) != NULL) {
        return dr_fail(err, DR_INPUT, "%s.database: missing, and the URL names none either",
                       jr->path);
    }
    char *name = dr_arena_memdup(r->arena, slash + 1, (size_t)(end - slash));
    if (name == NULL) {
        return dr_fail_nomem(err);
    }
    name[end - slash - 1] = '\0';
    r->database = name;
    return dr_request_check_name("job.store", name, err);
}

static enum dr_code read_database(struct dr_jr *jr, struct dr_request *r, struct dr_err *err)
{
    const char *name = NULL;
    if (dr_jr_string(jr, "database", false, &name)) {
        dr_request_read_name(jr, "database", r->arena, &r->database);
        return jr->rc;
    }
    return jr->rc == DR_OK ? default_database(jr, r, err) : jr->rc;
}

static enum dr_code read_where(struct dr_jr *jr, struct dr_request *r, struct dr_err *err)
{
    char where[WHERE_BYTES];
    const char *text = NULL;
    struct dr_sql_purge *p = &r->u.sql_purge;
    bool is_rows = p->mode == DR_SQL_ROWS;
    if (!dr_jr_string(jr, "where", is_rows, &text)) {
        return jr->rc;
    }
    (void)snprintf(where, sizeof where, "%.460s.where", jr->path);
    if (!is_rows) {
        return dr_fail(err, DR_INPUT, "%s: with mode \"%s\" the whole table goes; leave it out",
                       where, p->mode == DR_SQL_DROP ? "drop" : "truncate");
    }
    enum dr_code rc = dr_sql_check_expression(where, text, err);
    p->where = rc == DR_OK ? dr_arena_strdup(r->arena, text) : NULL;
    return rc == DR_OK && p->where == NULL ? dr_fail_nomem(err) : rc;
}

static enum dr_code read_key(struct dr_jr *jr, struct dr_request *r, struct dr_err *err)
{
    char where[WHERE_BYTES];
    const json_t *array = NULL;
    struct dr_sql_purge *p = &r->u.sql_purge;
    if (!dr_jr_array(jr, "key", false, DR_KEY_PARTS_MAX, &array)) {
        return jr->rc;
    }
    for (size_t i = 0; i < json_array_size(array); i++) {
        const char *name = json_string_value(json_array_get(array, i));
        (void)snprintf(where, sizeof where, "%.460s.key[%zu]", jr->path, i);
        if (name == NULL) {
            return dr_fail(err, DR_INPUT, "%s: expected a string, the name of a column", where);
        }
        enum dr_code rc = dr_request_check_name(where, name, err);
        p->key[i] = rc == DR_OK ? dr_arena_strdup(r->arena, name) : NULL;
        if (p->key[i] == NULL) {
            return rc == DR_OK ? dr_fail_nomem(err) : rc;
        }
        p->key_count++;
    }
    return p->key_count > 0
               ? DR_OK
               : dr_fail(err, DR_INPUT, "%s.key: expected at least one column", jr->path);
}

static enum dr_code read_mode(struct dr_jr *jr, struct dr_sql_purge *p, struct dr_err *err)
{
    const char *mode = "rows";
    uint64_t days = 0;
    const json_t *until = NULL;
    (void)dr_jr_string(jr, "mode", false, &mode);
    bool has_hold = dr_jr_u64(jr, "hold_days", false, 0, HOLD_DAYS_MAX, &days);
    if (jr->rc != DR_OK) {
        return jr->rc;
    }
    p->hold_days = (uint32_t)days;
    bool has_date = dr_jr_any(jr, "hold_until", false, &until);
    if (has_date && (!json_is_integer(until) || json_integer_value(until) <= 0)) {
        return dr_fail(err, DR_INPUT, "%s.hold_until: expected milliseconds since 1970", jr->path);
    }
    p->hold_until = has_date   ? json_integer_value(until)
                    : days > 0 ? dr_wall_now() + (int64_t)days * DAY_MS
                               : 0;
    p->mode = strcmp(mode, "truncate") == 0 ? DR_SQL_TRUNCATE
              : strcmp(mode, "drop") == 0   ? DR_SQL_DROP
                                            : DR_SQL_ROWS;
    if (p->mode == DR_SQL_ROWS && strcmp(mode, "rows") != 0) {
        return dr_fail(err, DR_INPUT, "%s.mode: rows, truncate or drop, not \"%.40s\"", jr->path,
                       mode);
    }
    if ((has_hold || has_date) && p->mode != DR_SQL_DROP) {
        return dr_fail(err, DR_INPUT, "%s.hold_%s: only with mode \"drop\"", jr->path,
                       has_hold ? "days" : "until");
    }
    return DR_OK;
}

/* A table that is dropped goes by a longer name first. */
static enum dr_code check_table(const struct dr_jr *jr, const struct dr_sql_purge *p,
                                struct dr_err *err)
{
    size_t most = DR_HOLD_NAME_BYTES_MAX - strlen(DR_HOLD_SUFFIX);
    if (p->mode != DR_SQL_DROP || strlen(p->table) <= most) {
        return DR_OK;
    }
    return dr_fail(err, DR_INPUT,
                   "%s.table: with \"" DR_HOLD_SUFFIX "\" behind it, as it is named before it is "
                   "dropped, the name has more than %d bytes; rename the table first",
                   jr->path, DR_HOLD_NAME_BYTES_MAX);
}

static enum dr_code check_replica(const struct dr_jr *jr, const struct dr_request *r, size_t i,
                                  const char *replica, struct dr_err *err)
{
    const char *own = find_sql_url(r->store_url);
    if (own == NULL || begins_with(own, "sqlite:")) {
        return dr_fail(err, DR_INPUT, "%s.replicas: an SQLite file has none", jr->path);
    }
    const char *url = replica == NULL ? NULL : find_sql_url(replica);
    if (url == NULL || url != replica ||
        begins_with(url, "postgres") != begins_with(own, "postgres")) {
        return dr_fail(err, DR_INPUT, "%s.replicas[%zu]: expected a URL like the store's", jr->path,
                       i);
    }
    return DR_OK;
}

/* URLs of replicas whose lag is watched travel in the store's URL, where the adapter reads them. */
static enum dr_code take_replicas(struct dr_jr *jr, struct dr_request *r, struct dr_err *err)
{
    const json_t *array = NULL;
    struct dr_str url;
    if (!dr_jr_array(jr, "replicas", false, REPLICAS_MAX, &array)) {
        return jr->rc;
    }
    dr_str_init(&url);
    dr_str_add(&url, r->store_url);
    enum dr_code rc = DR_OK;
    for (size_t i = 0; rc == DR_OK && i < json_array_size(array); i++) {
        const char *replica = json_string_value(json_array_get(array, i));
        rc = check_replica(jr, r, i, replica, err);
        if (rc == DR_OK) {
            dr_str_addc(&url, strchr(dr_str_text(&url), '?') == NULL ? '?' : '&');
            dr_str_add(&url, "drover.replica=");
            dr_str_add_percent(&url, replica);
        }
    }
    const char *joined = rc == DR_OK ? dr_arena_strdup(r->arena, dr_str_text(&url)) : NULL;
    if (rc == DR_OK && (url.is_short || joined == NULL)) {
        rc = dr_fail_nomem(err);
    }
    r->store_url = rc == DR_OK ? joined : r->store_url;
    dr_str_fini(&url);
    return rc;
}

/* The job as it is stored. How long a renamed table is kept is a date there: plans know no clock.
 */
static enum dr_code normalise(const struct dr_jr *jr, struct dr_request *r, struct dr_err *err)
{
    r->json = json_deep_copy(jr->object);
    if (r->json == NULL) {
        return dr_fail_nomem(err);
    }
    /* A table that goes as a whole is never walked. */
    if (r->u.sql_purge.mode != DR_SQL_ROWS &&
        json_object_set_new(r->json, "allow_no_key", json_true()) != 0) {
        return dr_fail_nomem(err);
    }
    if (r->u.sql_purge.hold_until == 0) {
        return DR_OK;
    }
    json_t *until = json_integer(r->u.sql_purge.hold_until);
    return json_object_set_new(r->json, "hold_until", until) == 0 ? DR_OK : dr_fail_nomem(err);
}

static enum dr_code parse_sql(struct dr_jr *jr, struct dr_request *r, struct dr_err *err)
{
    struct dr_sql_purge *p = &r->u.sql_purge;
    const json_t *ignored = NULL;
    dr_request_read_name(jr, "table", r->arena, &p->table);
    (void)dr_jr_bool(jr, "allow_no_key", false, &p->allow_no_key);
    (void)dr_jr_any(jr, "last_key", false, &ignored);
    if (jr->rc == DR_OK && find_sql_url(r->store_url) == NULL) {
        return dr_fail(err, DR_INPUT,
                       "%s.store: this kind needs a mysql://, mariadb://, postgres:// or sqlite: "
                       "URL",
                       jr->path);
    }
    enum dr_code rc = jr->rc == DR_OK ? read_mode(jr, p, err) : jr->rc;
    if (rc == DR_OK) {
        rc = check_table(jr, p, err);
    }
    if (rc == DR_OK) {
        rc = read_database(jr, r, err);
    }
    if (rc == DR_OK) {
        rc = read_where(jr, r, err);
    }
    if (rc == DR_OK) {
        rc = read_key(jr, r, err);
    }
    if (rc == DR_OK) {
        rc = take_replicas(jr, r, err);
    }
    return rc == DR_OK ? normalise(jr, r, err) : rc;
}

static enum dr_code guard_sql(const struct dr_request *r, struct dr_err *err)
{
    const struct dr_sql_purge *p = &r->u.sql_purge;
    if (p->mode != DR_SQL_ROWS && !r->irreversible) {
        return dr_fail(err, DR_REFUSED,
                       "%s.%s: %s cannot be undone%s; say \"irreversible\": true when that is "
                       "meant, or use mode \"rows\"",
                       r->database, p->table, p->mode == DR_SQL_DROP ? "a drop" : "TRUNCATE",
                       p->hold_until > 0 ? " after the days it is held" : "");
    }
    return DR_OK;
}

static const char *table_of_sql(const struct dr_request *r, uint32_t n)
{
    return n == 0 ? r->u.sql_purge.table : NULL;
}

static const struct dr_filter *no_filter(const struct dr_request *r)
{
    (void)r;
    return NULL;
}

/* Put what the survey found out, the key and its greatest value, where the steps will read it. */
static enum dr_code resolve_sql(struct dr_request *r, const struct dr_survey *s, struct dr_err *err)
{
    static const char *const taken[] = {"key", "last_key"};
    json_t *extra = NULL;
    const char *text = s->extra == NULL ? "{}" : s->extra;
    enum dr_code rc = dr_json_parse("survey", text, strlen(text), &extra, err);
    for (size_t i = 0; rc == DR_OK && i < sizeof taken / sizeof taken[0]; i++) {
        json_t *value = json_object_get(extra, taken[i]);
        if (json_array_size(value) > 0 && json_object_set(r->json, taken[i], value) != 0) {
            rc = dr_fail_nomem(err);
        }
    }
    json_decref(extra);
    return rc;
}

static const char *make_sql_target(const struct dr_request *r)
{
    return dr_arena_printf(r->arena, "%s.%s", r->database, r->u.sql_purge.table);
}

const struct dr_request_kind *dr_request_kind_sql_purge(void)
{
    static const struct dr_request_kind kind = {
        .name = "sql.purge",
        .has_own_database = true,
        .needs_spec = true,
        .parse = parse_sql,
        .guard = guard_sql,
        .collection = table_of_sql,
        .filter = no_filter,
        .resolve = resolve_sql,
        .make_target = make_sql_target,
    };
    return &kind;
}
