/* SPDX-License-Identifier: Apache-2.0 */
/* Owns the list of kinds, the keys that all kinds share, and a request's life. Text is copied: the
 * job may go right after parsing. No state; any thread. */
#include "request/request_private.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "base/str.h"

enum {
    ARENA_BLOCK_BYTES = 4096,
    URL_BYTES_MAX = 4096,
    ARCHIVE_DAYS_DEFAULT = 30,
    ARCHIVE_DAYS_MAX = 3650,
    DRIFT_MAX = 1000,
    PATH_BYTES = 512,
    SHOWN_BYTES = 64,
};

/* What parse hands out is the first member; the rest is nobody else's. */
struct parsed_request {
    struct dr_request open;
    const char *target;
};

static const struct dr_request_kind *(*const kinds[])(void) = {
    dr_request_kind_tenant_drop,     dr_request_kind_purge,        dr_request_kind_redis_purge,
    dr_request_kind_sql_purge,       dr_request_kind_mongodb_drop, dr_request_kind_table_create,
    dr_request_kind_table_rebalance, dr_request_kind_table_drop,
};
enum { KIND_COUNT = sizeof kinds / sizeof kinds[0] };

const char *dr_request_kinds(void)
{
    return "tenant.drop purge redis.purge-stats sql.purge mongodb.drop table.create "
           "table.rebalance table.drop";
}

static bool has_control_char(const char *text)
{
    for (const char *at = text; *at != '\0'; at++) {
        if ((unsigned char)*at < ' ' || *at == 0x7f) {
            return true;
        }
    }
    return false;
}

enum dr_code dr_request_check_name(const char *where, const char *name, struct dr_err *err)
{
    const size_t bytes = strlen(name);
    if (bytes == 0 || bytes > DR_REQUEST_NAME_BYTES_MAX) {
        return dr_fail(err, DR_INPUT, "%s: expected a name of 1 to %d bytes, found %zu bytes",
                       where, DR_REQUEST_NAME_BYTES_MAX, bytes);
    }
    if (has_control_char(name)) {
        return dr_fail(err, DR_INPUT,
                       "%s: expected a name without control characters (line ends, tabs ...)",
                       where);
    }
    return DR_OK;
}

/* Copy into the arena; a failure sticks in the reader. */
static void copy_text(struct dr_jr *jr, const char *text, struct dr_arena *a, const char **out)
{
    *out = dr_arena_strdup(a, text);
    if (*out == NULL) {
        jr->rc = dr_fail_nomem(jr->err);
    }
}

void dr_request_read_name(struct dr_jr *jr, const char *key, struct dr_arena *a, const char **out)
{
    const char *name = NULL;
    if (!dr_jr_string(jr, key, true, &name)) {
        return;
    }
    char where[PATH_BYTES];
    (void)snprintf(where, sizeof where, "%.460s.%s", jr->path, key);
    jr->rc = dr_request_check_name(where, name, jr->err);
    if (jr->rc == DR_OK) {
        copy_text(jr, name, a, out);
    }
}

/* "scheme:rest"; which schemes there are is known to store/ alone. */
static bool is_store_url(const char *url)
{
    const char *at = url;
    while ((*at >= 'a' && *at <= 'z') ||
           (at > url && ((*at >= '0' && *at <= '9') || *at == '+' || *at == '.' || *at == '-'))) {
        at++;
    }
    return at > url && at[0] == ':' && at[1] != '\0' && !has_control_char(url) &&
           strlen(url) <= URL_BYTES_MAX;
}

static void read_store(struct dr_jr *jr, struct dr_request *r)
{
    const char *url = NULL;
    if (!dr_jr_string(jr, "store", true, &url)) {
        return;
    }
    if (!is_store_url(url)) { /* not shown: what was meant to be a URL may hold a password */
        jr->rc = dr_fail(jr->err, DR_INPUT,
                         "%s.store: expected a URL such as \"sqlite:/data/cluster.db\" "
                         "(scheme:rest, at most %d bytes)",
                         jr->path, URL_BYTES_MAX);
        return;
    }
    copy_text(jr, url, r->arena, &r->store_url);
}

static void read_note(struct dr_jr *jr, struct dr_request *r)
{
    const char *note = NULL;
    if (!dr_jr_string(jr, "note", false, &note)) {
        return;
    }
    if (strlen(note) > DR_REQUEST_NOTE_BYTES_MAX || has_control_char(note)) {
        jr->rc = dr_fail(jr->err, DR_INPUT,
                         "%s.note: expected at most %d bytes without control characters", jr->path,
                         DR_REQUEST_NOTE_BYTES_MAX);
        return;
    }
    copy_text(jr, note, r->arena, &r->note);
}

static void read_tuning(struct dr_jr *jr, struct dr_request *r)
{
    dr_tuning_default(&r->tuning);
    const json_t *tuning = NULL;
    if (dr_jr_object(jr, "tuning", false, &tuning)) {
        char path[PATH_BYTES];
        (void)snprintf(path, sizeof path, "%.480s: tuning", jr->path);
        jr->rc = dr_tuning_parse(tuning, path, &r->tuning, jr->err);
    }
    /* The job's own limit holds while it runs, too; the stricter one counts. */
    if (r->max_items != 0 && (r->tuning.max_items == 0 || r->tuning.max_items > r->max_items)) {
        r->tuning.max_items = r->max_items;
    }
}

static void read_common(struct dr_jr *jr, struct dr_request *r)
{
    assert(r->kind != NULL);
    if (r->kind->fixed_store == NULL) {
        read_store(jr, r);
    } else {
        r->store_url = r->kind->fixed_store;
    }
    if (!r->kind->has_own_database) {
        dr_request_read_name(jr, "database", r->arena, &r->database);
    }
    (void)dr_jr_bool(jr, "allow_scan", false, &r->allow_scan);
    (void)dr_jr_bool(jr, "irreversible", false, &r->irreversible);
    (void)dr_jr_bool(jr, "whole_collection", false, &r->whole_collection);
    (void)dr_jr_u64(jr, "max_items", false, 0, INT64_MAX, &r->max_items);
    (void)dr_jr_real(jr, "drift", false, 0, DRIFT_MAX, &r->drift);
    uint64_t days = ARCHIVE_DAYS_DEFAULT;
    (void)dr_jr_u64(jr, "archive_days", false, 1, ARCHIVE_DAYS_MAX, &days);
    r->archive_days = r->irreversible ? 0 : (uint32_t)days;
    read_note(jr, r);
    read_tuning(jr, r);
}

/* Cut and cleaned, to be shown in a message. */
static const char *show_text(const char *text, char *buf, size_t buf_bytes)
{
    dr_copy_text(buf, buf_bytes, text);
    for (char *at = buf; *at != '\0'; at++) {
        if ((unsigned char)*at < ' ' || (unsigned char)*at >= 0x7f || *at == '"') {
            *at = '?';
        }
    }
    return buf;
}

static void read_kind(struct dr_jr *jr, struct dr_request *r)
{
    const char *name = NULL;
    if (!dr_jr_string(jr, "kind", true, &name)) {
        return;
    }
    for (size_t i = 0; i < KIND_COUNT; i++) {
        const struct dr_request_kind *kind = kinds[i]();
        if (strcmp(kind->name, name) == 0) {
            r->kind = kind;
            r->kind_name = kind->name;
            return;
        }
    }
    char shown[SHOWN_BYTES];
    jr->rc = dr_fail(jr->err, DR_INPUT, "%s.kind: unknown kind \"%s\"; known are: %s", jr->path,
                     show_text(name, shown, sizeof shown), dr_request_kinds());
}

static enum dr_code fill_request(const json_t *job, const char *name, struct parsed_request *p,
                                 struct dr_err *err)
{
    struct dr_request *r = &p->open;
    struct dr_jr jr;
    dr_jr_init(&jr, job, name, err);
    read_kind(&jr, r);
    if (jr.rc != DR_OK) { /* without a kind nobody can say which keys are known */
        return jr.rc;
    }
    read_common(&jr, r);
    enum dr_code rc = jr.rc == DR_OK ? r->kind->parse(&jr, r, err) : jr.rc;
    if (rc == DR_OK) {
        rc = dr_jr_finish(&jr);
    }
    if (rc != DR_OK) {
        return rc;
    }
    p->target = r->kind->make_target(r);
    if (r->json == NULL) {
        r->json = json_deep_copy(job);
    }
    return p->target == NULL || r->json == NULL ? dr_fail_nomem(err) : DR_OK;
}

enum dr_code dr_request_parse(const json_t *job, const char *name, struct dr_request **out,
                              struct dr_err *err)
{
    *out = NULL;
    struct dr_arena *arena = dr_arena_create(ARENA_BLOCK_BYTES);
    if (arena == NULL) {
        return dr_fail_nomem(err);
    }
    struct parsed_request *p = dr_arena_alloc(arena, sizeof *p);
    if (p == NULL) {
        dr_arena_destroy(arena);
        return dr_fail_nomem(err);
    }
    *p = (struct parsed_request){.open = {.arena = arena, .drift = 0.5}};
    enum dr_code rc = fill_request(job, name, p, err);
    if (rc == DR_OK) {
        *out = &p->open;
    } else {
        dr_request_destroy(&p->open);
    }
    return rc;
}

void dr_request_destroy(struct dr_request *r)
{
    if (r == NULL) {
        return;
    }
    json_decref(r->json);
    dr_arena_destroy(r->arena); /* holds the request itself, too */
}

const struct dr_filter *dr_request_filter(const struct dr_request *r)
{
    return r->kind->filter(r);
}

const char *dr_request_target(const struct dr_request *r)
{
    const struct parsed_request *p = (const struct parsed_request *)r;
    assert(p->target != NULL);
    return p->target;
}

bool dr_request_needs_spec(const struct dr_request *r)
{
    return r->kind->needs_spec;
}

char *dr_request_json_text(const struct dr_request *r)
{
    return r->kind->keeps_order ? dr_json_text_in_order(r->json) : dr_json_text(r->json);
}

enum dr_code dr_request_resolve(struct dr_request *r, const struct dr_survey *s, struct dr_err *err)
{
    return r->kind->resolve == NULL ? DR_OK : r->kind->resolve(r, s, err);
}
