/* SPDX-License-Identifier: Apache-2.0 */
/* The kind "redis.purge-stats": statistics of services in Redis. What selects the keys (lists,
 * period, layout) is checked by making the key sequence once; the rest is read here. No state. */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "request/request_private.h"
#include "store/keyseq.h"

enum {
    PARTITION_KEYS_DEFAULT = 10000,
    PARTITION_KEYS_MAX = 1000000,
    FILE_BYTES_MAX = 4095,
    TARGET_NAMES_MAX = 3,
    DATABASE_MAX = 65535,
};

/* --- times ----------------------------------------------------------------------------------- */

/* Does `text` look like `form`, with a digit for each 0? */
static bool has_form(const char *text, const char *form)
{
    size_t i = 0;
    while (form[i] != '\0' &&
           (form[i] == '0' ? isdigit((unsigned char)text[i]) != 0 : text[i] == form[i])) {
        i++; /* a shorter text ends in a NUL, which is neither */
    }
    return form[i] == '\0' && text[i] == '\0';
}

static int64_t number_at(const char *text, size_t digits)
{
    int64_t n = 0;
    for (size_t i = 0; i < digits; i++) {
        n = n * 10 + (text[i] - '0');
    }
    return n;
}

/* Days since 1970 by adding up whole years and months: a job has two of these. */
static int64_t days_since_1970(int64_t year, int64_t month, int64_t day)
{
    static const int before[12] = {0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334};
    bool is_leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    int64_t y = year - 1;
    int64_t days = (y * 365 + y / 4 - y / 100 + y / 400) - 719162; /* of 1970-01-01 since 0001 */
    return days + before[month - 1] + (is_leap && month > 2) + day - 1;
}

static int64_t days_in_month(int64_t year, int64_t month)
{
    return month == 12 ? 31 : days_since_1970(year, month + 1, 1) - days_since_1970(year, month, 1);
}

/* "2019-12-16", "2019-12-16T10:00:00Z". */
static bool read_iso(const char *text, int64_t *seconds_out)
{
    bool is_date = has_form(text, "0000-00-00");
    if (!is_date && !has_form(text, "0000-00-00T00:00:00Z")) {
        return false;
    }
    int64_t year = number_at(text, 4);
    int64_t month = number_at(text + 5, 2);
    int64_t day = number_at(text + 8, 2);
    int64_t hour = is_date ? 0 : number_at(text + 11, 2);
    int64_t minute = is_date ? 0 : number_at(text + 14, 2);
    int64_t second = is_date ? 0 : number_at(text + 17, 2);
    if (year < 1970 || month < 1 || month > 12 || day < 1 || day > days_in_month(year, month) ||
        hour > 23 || minute > 59 || second > 59) {
        return false;
    }
    *seconds_out = days_since_1970(year, month, day) * 86400 + hour * 3600 + minute * 60 + second;
    return true;
}

/* A time written as text becomes a number in the stored job; whether it is a good one is for the
 * key sequence to say, whichever way it was written. */
static enum dr_code normalise_time(struct dr_jr *jr, const char *key, json_t *json,
                                   struct dr_err *err)
{
    const json_t *value = NULL;
    int64_t seconds = 0;
    if (!dr_jr_any(jr, key, false, &value) || !json_is_string(value)) {
        return DR_OK;
    }
    if (!read_iso(json_string_value(value), &seconds)) {
        return dr_fail(err, DR_INPUT,
                       "%s.%s: expected seconds since 1970, or a time in UTC such as "
                       "\"2019-12-16T10:00:00Z\" or \"2019-12-16\"",
                       jr->path, key);
    }
    return json_object_set_new(json, key, json_integer(seconds)) == 0 ? DR_OK : dr_fail_nomem(err);
}

/* --- the other keys -------------------------------------------------------------------------- */

/* "db<N>" of redis://.../N. The URL's other parts are for the adapter to judge. */
static enum dr_code read_database(struct dr_jr *jr, struct dr_request *r, struct dr_err *err)
{
    static const char scheme[] = "redis://";
    uint64_t number = 0;
    const char *url = strstr(r->store_url, scheme); /* a wrapping store may stand in front */
    if (url == NULL) {
        return dr_fail(err, DR_INPUT, "%s.store: this kind needs a redis:// URL", jr->path);
    }
    const char *secret = strrchr(url, '@');
    const char *slash = strchr(secret == NULL ? url + strlen(scheme) : secret, '/');
    if (slash != NULL && slash[1] != '\0' &&
        (!dr_parse_u64(slash + 1, &number) || number > DATABASE_MAX)) {
        return dr_fail(err, DR_INPUT,
                       "%s.store: behind the hosts only \"/\" and the number of a "
                       "database may stand",
                       jr->path);
    }
    r->database = dr_arena_printf(r->arena, "db%u", (unsigned)number);
    return r->database == NULL ? dr_fail_nomem(err) : DR_OK;
}

static enum dr_code read_strategy(struct dr_jr *jr, struct dr_redis_purge *p, struct dr_err *err)
{
    static const char *const names[] = {"auto", "keys", "scan"};
    const char *name = NULL;
    if (!dr_jr_string(jr, "strategy", false, &name)) {
        return jr->rc;
    }
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (strcmp(names[i], name) == 0) {
            p->strategy = (enum dr_redis_strategy)i;
            return DR_OK;
        }
    }
    return dr_fail(err, DR_INPUT, "%s.strategy: expected \"auto\", \"keys\" or \"scan\"", jr->path);
}

static enum dr_code read_log(struct dr_jr *jr, struct dr_request *r, struct dr_err *err)
{
    const char *name = NULL;
    if (!dr_jr_string(jr, "log_deleted", false, &name)) {
        return jr->rc;
    }
    size_t bytes = strlen(name);
    for (size_t i = 0; i < bytes; i++) {
        if ((unsigned char)name[i] < ' ' || name[i] == 0x7f) {
            bytes = 0;
        }
    }
    if (bytes == 0 || bytes > FILE_BYTES_MAX) {
        return dr_fail(err, DR_INPUT,
                       "%s.log_deleted: expected the name of a file, without control characters",
                       jr->path);
    }
    r->u.redis_purge.log_deleted = dr_arena_strdup(r->arena, name);
    return r->u.redis_purge.log_deleted == NULL ? dr_fail_nomem(err) : DR_OK;
}

/* The services in the order of the job, from the sequence that has checked them. */
static enum dr_code copy_services(struct dr_request *r, const struct dr_keyseq *seq,
                                  struct dr_err *err)
{
    struct dr_redis_purge *p = &r->u.redis_purge;
    const uint32_t count = dr_keyseq_service_count(seq);
    p->service = dr_arena_alloc(r->arena, ((size_t)count + 1) * sizeof *p->service);
    if (p->service == NULL) {
        return dr_fail_nomem(err);
    }
    for (p->service_count = 0; p->service_count < count; p->service_count++) {
        const char *name = dr_arena_strdup(r->arena, dr_keyseq_service(seq, p->service_count));
        if (name == NULL) {
            return dr_fail_nomem(err);
        }
        p->service[p->service_count] = name;
    }
    return DR_OK;
}

/* The keys that the sequence reads are only noted as known here. */
static void note_keys(struct dr_jr *jr, struct dr_redis_purge *p)
{
    static const char *const keys[] = {"services", "applications", "metrics", "users", "layout"};
    const json_t *value = NULL;
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        (void)dr_jr_any(jr, keys[i], false, &value);
    }
    (void)dr_jr_bool(jr, "marked", false, &p->marked);
    (void)dr_jr_bool(jr, "zero_values", false, &p->zero_values);
    (void)dr_jr_bool(jr, "overwrite", false, &p->overwrite);
    p->partition_keys = PARTITION_KEYS_DEFAULT;
    (void)dr_jr_u64(jr, "partition_keys", false, 1, PARTITION_KEYS_MAX, &p->partition_keys);
}

static enum dr_code read_selection(struct dr_jr *jr, struct dr_request *r, struct dr_err *err)
{
    struct dr_keyseq *seq = NULL;
    r->json = json_deep_copy(jr->object);
    if (r->json == NULL) {
        return dr_fail_nomem(err);
    }
    enum dr_code rc = normalise_time(jr, "from", r->json, err);
    if (rc == DR_OK) {
        rc = normalise_time(jr, "to", r->json, err);
    }
    if (rc == DR_OK) {
        rc = dr_keyseq_create(r->json, jr->path, &seq, err);
    }
    if (rc == DR_OK) {
        rc = copy_services(r, seq, err);
    }
    dr_keyseq_destroy(seq);
    return rc;
}

static enum dr_code parse_stats(struct dr_jr *jr, struct dr_request *r, struct dr_err *err)
{
    note_keys(jr, &r->u.redis_purge);
    enum dr_code rc = jr->rc;
    if (rc == DR_OK) {
        rc = read_database(jr, r, err);
    }
    if (rc == DR_OK) {
        rc = read_strategy(jr, &r->u.redis_purge, err);
    }
    if (rc == DR_OK) {
        rc = read_log(jr, r, err);
    }
    return rc == DR_OK ? read_selection(jr, r, err) : rc;
}

/* --- marked services ------------------------------------------------------------------------- */

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* The names of the set, sorted (a set has no order, but equal jobs shall make equal plans), once.
 */
static enum dr_code list_marked(const json_t *marked, struct dr_arena *a, const char ***name_out,
                                size_t *count_out, struct dr_err *err)
{
    const size_t size = json_array_size(marked);
    const char **name = dr_arena_alloc(a, (size + 1) * sizeof *name);
    *name_out = name;
    *count_out = 0;
    if (name == NULL) {
        return dr_fail_nomem(err);
    }
    for (size_t i = 0; i < size; i++) {
        name[i] = json_string_value(json_array_get(marked, i));
        if (name[i] == NULL) {
            return dr_fail(err, DR_CORRUPT, "survey: a marked service that is no text");
        }
    }
    qsort(name, size, sizeof *name, compare_names);
    for (size_t i = 0; i < size; i++) {
        if (*count_out == 0 || strcmp(name[*count_out - 1], name[i]) != 0) {
            name[(*count_out)++] = name[i];
        }
    }
    return DR_OK;
}

/* Services that the job names beside "marked" must be marked, or undo would mark them. */
static enum dr_code check_marked(const struct dr_redis_purge *p, const char **name, size_t count,
                                 struct dr_err *err)
{
    for (uint32_t i = 0; i < p->service_count; i++) {
        if (bsearch(&p->service[i], name, count, sizeof *name, compare_names) == NULL) {
            return dr_fail(err, DR_REFUSED,
                           "service %s is not marked for deletion; leave out \"marked\" or the "
                           "service",
                           p->service[i]);
        }
    }
    return DR_OK;
}

static enum dr_code take_marked(struct dr_request *r, const char **name, size_t count,
                                struct dr_err *err)
{
    struct dr_keyseq *seq = NULL;
    json_t *json = json_deep_copy(r->json);
    json_t *list = json_array();
    enum dr_code rc = json == NULL || list == NULL ? dr_fail_nomem(err) : DR_OK;
    for (size_t i = 0; rc == DR_OK && i < count; i++) {
        if (json_array_append_new(list, json_string(name[i])) != 0) {
            rc = dr_fail_nomem(err);
        }
    }
    if (rc == DR_OK && json_object_set(json, "services", list) != 0) {
        rc = dr_fail_nomem(err);
    }
    if (rc == DR_OK) {
        rc = dr_keyseq_create(json, "marked set", &seq, err); /* a set may hold anything */
    }
    if (rc == DR_OK) {
        rc = copy_services(r, seq, err);
    }
    if (rc == DR_OK) {
        json_decref(r->json);
        r->json = json_incref(json);
    }
    dr_keyseq_destroy(seq);
    json_decref(list);
    json_decref(json);
    return rc;
}

static enum dr_code resolve_stats(struct dr_request *r, const struct dr_survey *s,
                                  struct dr_err *err)
{
    const char *text = s->extra == NULL ? "{}" : s->extra;
    const char **name = NULL;
    size_t count = 0;
    json_t *extra = NULL;
    if (!r->u.redis_purge.marked) {
        return DR_OK;
    }
    enum dr_code rc = dr_json_parse("survey", text, strlen(text), &extra, err);
    if (rc == DR_OK) {
        rc = list_marked(json_object_get(extra, "marked"), r->arena, &name, &count, err);
    }
    if (rc == DR_OK && count == 0) {
        rc = dr_fail(err, DR_NOT_FOUND, "no service is marked for deletion: nothing to do");
    }
    if (rc == DR_OK && r->u.redis_purge.service_count > 0) {
        rc = check_marked(&r->u.redis_purge, name, count, err);
    } else if (rc == DR_OK) {
        rc = take_marked(r, name, count, err);
    }
    json_decref(extra);
    return rc;
}

/* --- the kind -------------------------------------------------------------------------------- */

static enum dr_code guard_stats(const struct dr_request *r, struct dr_err *err)
{
    (void)r; /* a sequence without a service is refused on parsing: there is no "all" to guard */
    (void)err;
    return DR_OK;
}

static const char *no_collection(const struct dr_request *r, uint32_t n)
{
    (void)r;
    (void)n;
    return NULL;
}

static const char *service_of_stats(const struct dr_request *r, uint32_t n)
{
    const struct dr_redis_purge *p = &r->u.redis_purge;
    return n < p->service_count ? p->service[n] : NULL;
}

static const struct dr_filter *no_filter(const struct dr_request *r)
{
    (void)r;
    return NULL;
}

static const char *make_stats_target(const struct dr_request *r)
{
    const struct dr_redis_purge *p = &r->u.redis_purge;
    if (p->marked) {
        return dr_arena_strdup(r->arena, "marked services");
    }
    if (p->service_count > TARGET_NAMES_MAX) {
        return dr_arena_printf(r->arena, "%u services", p->service_count);
    }
    const char *text = dr_arena_printf(
        r->arena, "%s %s", p->service_count == 1 ? "service" : "services", p->service[0]);
    for (uint32_t i = 1; i < p->service_count && text != NULL; i++) {
        text = dr_arena_printf(r->arena, "%s, %s", text, p->service[i]);
    }
    return text;
}

const struct dr_request_kind *dr_request_kind_redis_purge(void)
{
    static const struct dr_request_kind kind = {
        .name = "redis.purge-stats",
        .has_own_database = true,
        .needs_spec = true,
        .parse = parse_stats,
        .guard = guard_stats,
        .collection = no_collection,
        .filter = no_filter,
        .guarded_name = service_of_stats,
        .resolve = resolve_stats,
        .make_target = make_stats_target,
    };
    return &kind;
}
