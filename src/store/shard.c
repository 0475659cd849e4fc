/* SPDX-License-Identifier: Apache-2.0 */
/* Shards through a handle: names are checked here, once for all adapters, for they become parts of
 * statements; source and targets must be of one adapter. What is done is the adapter's. */
#include "store/shard.h"

#include <assert.h>
#include <string.h>

#include "store/store_private.h"

enum { OWNER_BYTES_MAX = 64, TABLE_BYTES_MAX = 64 };

/* Names that begin so are drover's own: logs, held tables and records. */
static const char reserved[] = "drover_";

bool dr_shard_is_supported(const struct dr_store *s)
{
    return s->ops->shard != NULL;
}

static bool is_letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_name(const char *text, size_t bytes_max)
{
    if (text == NULL || !is_letter(text[0])) {
        return false;
    }
    const char *at = text + 1;
    while (is_letter(*at) || is_digit(*at)) {
        at++;
    }
    return *at == '\0' && (size_t)(at - text) <= bytes_max;
}

static bool is_uuid_like(const char *text)
{
    size_t n = 0;
    while (text != NULL &&
           ((is_letter(text[n]) && text[n] != '_') || is_digit(text[n]) || text[n] == '-')) {
        n++;
    }
    return n > 0 && n <= OWNER_BYTES_MAX && text[n] == '\0';
}

static enum dr_code check_id(const struct dr_store *s, const struct dr_shard_id *id,
                             struct dr_err *err)
{
    if (s->ops->shard == NULL) {
        return dr_fail(err, DR_UNSUPPORTED, "%s: this store holds no shards", s->shown_url);
    }
    if (!is_name(id->name, DR_SHARD_NAME_BYTES_MAX) ||
        strncmp(id->name, reserved, sizeof reserved - 1) == 0) {
        return dr_fail(err, DR_INPUT,
                       "\"%.64s\" is no name for a shard: letters, digits and _, at most %d, not "
                       "beginning with a digit or %s",
                       id->name == NULL ? "" : id->name, DR_SHARD_NAME_BYTES_MAX, reserved);
    }
    if (!is_name(id->table, TABLE_BYTES_MAX)) {
        return dr_fail(err, DR_INPUT, "shard %s: \"%.80s\" is no name for a table", id->name,
                       id->table == NULL ? "" : id->table);
    }
    if (!is_uuid_like(id->owner) || !is_uuid_like(id->operation)) {
        return dr_fail(err, DR_INPUT, "shard %s: owner and operation have to be uuids", id->name);
    }
    return DR_OK;
}

static enum dr_code wrap_shard(const struct dr_store *s, const struct dr_shard_id *id,
                               const char *what, enum dr_code rc, struct dr_err *err)
{
    if (rc != DR_OK) {
        dr_wrap(err, "%s shard %s on %s", what, id->name, s->shown_url);
    }
    return rc;
}

enum dr_code dr_shard_ensure(struct dr_store *s, const struct dr_shard_id *id, const char *columns,
                             const char *extra, struct dr_err *err)
{
    enum dr_code rc = check_id(s, id, err);
    if (rc == DR_OK && (columns == NULL || columns[0] == '\0')) {
        rc = dr_fail(err, DR_INPUT, "shard %s: a table needs columns", id->name);
    }
    if (rc != DR_OK) {
        return rc;
    }
    rc = s->ops->shard->ensure(s->impl, id, columns, extra == NULL ? "" : extra, err);
    return wrap_shard(s, id, "make", rc, err);
}

enum dr_code dr_shard_drop(struct dr_store *s, const struct dr_shard_id *id, bool is_held,
                           struct dr_err *err)
{
    enum dr_code rc = check_id(s, id, err);
    if (rc != DR_OK) {
        return rc;
    }
    rc = s->ops->shard->drop(s->impl, id, is_held, err);
    return wrap_shard(s, id, is_held ? "drop held" : "drop", rc, err);
}

enum dr_code dr_shard_capture(struct dr_store *s, const struct dr_shard_id *id, bool is_on,
                              struct dr_err *err)
{
    enum dr_code rc = check_id(s, id, err);
    if (rc != DR_OK) {
        return rc;
    }
    rc = s->ops->shard->capture(s->impl, id, is_on, err);
    return wrap_shard(s, id, is_on ? "capture" : "stop capturing", rc, err);
}

enum dr_code dr_shard_fence(struct dr_store *s, const struct dr_shard_id *id, bool is_on,
                            uint32_t wait_ms, struct dr_err *err)
{
    enum dr_code rc = check_id(s, id, err);
    if (rc != DR_OK) {
        return rc;
    }
    rc = s->ops->shard->fence(s->impl, id, is_on, wait_ms, err);
    return wrap_shard(s, id, is_on ? "fence" : "unfence", rc, err);
}

enum dr_code dr_shard_hold(struct dr_store *s, const struct dr_shard_id *id, bool is_on,
                           struct dr_err *err)
{
    enum dr_code rc = check_id(s, id, err);
    if (rc != DR_OK) {
        return rc;
    }
    rc = s->ops->shard->hold(s->impl, id, is_on, err);
    return wrap_shard(s, id, is_on ? "hold" : "unhold", rc, err);
}

/* The targets' own halves, when they are handles of the source's adapter. */
static enum dr_code take_targets(struct dr_store *source, struct dr_store *const *target,
                                 uint32_t target_count, const struct dr_shard_id *id, void **impl,
                                 struct dr_err *err)
{
    enum dr_code rc = check_id(source, id, err);
    if (rc != DR_OK) {
        return rc;
    }
    if (target_count == 0 || target_count > DR_SHARD_TARGETS_MAX) {
        return dr_fail(err, DR_INPUT, "shard %s: %u targets; 1 to %d are possible", id->name,
                       target_count, DR_SHARD_TARGETS_MAX);
    }
    for (uint32_t i = 0; i < target_count; i++) {
        if (target[i] == source) {
            return dr_fail(err, DR_INPUT, "shard %s: source and target are one handle", id->name);
        }
        if (target[i]->ops->shard != source->ops->shard) {
            return dr_fail(err, DR_INPUT, "shard %s: %s and %s are not of one kind", id->name,
                           source->shown_url, target[i]->shown_url);
        }
        impl[i] = target[i]->impl;
    }
    return DR_OK;
}

enum dr_code dr_shard_copy(struct dr_store *source, struct dr_store *const *target,
                           uint32_t target_count, const struct dr_shard_id *id,
                           const struct dr_budget *budget, struct dr_cursor *cursor,
                           uint64_t *rows_out, uint64_t *bytes_out, bool *is_end_out,
                           struct dr_err *err)
{
    void *impl[DR_SHARD_TARGETS_MAX];
    *rows_out = 0;
    *bytes_out = 0;
    *is_end_out = false;
    enum dr_code rc = take_targets(source, target, target_count, id, impl, err);
    if (rc != DR_OK) {
        return rc;
    }
    rc = source->ops->shard->copy(source->impl, impl, target_count, id, budget, cursor, rows_out,
                                  bytes_out, is_end_out, err);
    assert(cursor->len <= DR_CURSOR_BYTES_MAX);
    return wrap_shard(source, id, "copy", rc, err);
}

enum dr_code dr_shard_follow(struct dr_store *source, struct dr_store *const *target,
                             uint32_t target_count, const struct dr_shard_id *id,
                             const struct dr_budget *budget, uint64_t *applied_out,
                             uint64_t *left_out, struct dr_err *err)
{
    void *impl[DR_SHARD_TARGETS_MAX];
    *applied_out = 0;
    *left_out = 0;
    enum dr_code rc = take_targets(source, target, target_count, id, impl, err);
    if (rc != DR_OK) {
        return rc;
    }
    rc = source->ops->shard->follow(source->impl, impl, target_count, id, budget, applied_out,
                                    left_out, err);
    return wrap_shard(source, id, "follow", rc, err);
}

enum dr_code dr_shard_digest(struct dr_store *s, const struct dr_shard_id *id,
                             struct dr_shard_digest *out, struct dr_err *err)
{
    *out = (struct dr_shard_digest){0};
    enum dr_code rc = check_id(s, id, err);
    if (rc != DR_OK) {
        return rc;
    }
    rc = s->ops->shard->digest(s->impl, id, out, err);
    return wrap_shard(s, id, "digest", rc, err);
}

enum dr_code dr_shard_compare(struct dr_store *source, struct dr_store *const *target,
                              uint32_t target_count, const struct dr_shard_id *id,
                              const struct dr_budget *budget, struct dr_cursor *cursor,
                              struct dr_shard_compared *out, struct dr_err *err)
{
    void *impl[DR_SHARD_TARGETS_MAX];
    *out = (struct dr_shard_compared){0};
    enum dr_code rc = take_targets(source, target, target_count, id, impl, err);
    if (rc != DR_OK) {
        return rc;
    }
    rc =
        source->ops->shard->compare(source->impl, impl, target_count, id, budget, cursor, out, err);
    assert(cursor->len <= DR_CURSOR_BYTES_MAX);
    return wrap_shard(source, id, "compare", rc, err);
}

enum dr_code dr_shard_facts(struct dr_store *s, const struct dr_shard_id *id,
                            struct dr_shard_facts *out, struct dr_err *err)
{
    *out = (struct dr_shard_facts){0};
    enum dr_code rc = check_id(s, id, err);
    if (rc != DR_OK) {
        return rc;
    }
    rc = s->ops->shard->facts(s->impl, id, out, err);
    return wrap_shard(s, id, "look at", rc, err);
}

enum dr_code dr_shard_records(struct dr_store *s, struct dr_arena *a, struct dr_shard_record **out,
                              uint32_t *count_out, struct dr_err *err)
{
    *out = NULL;
    *count_out = 0;
    if (s->ops->shard == NULL) {
        return dr_fail(err, DR_UNSUPPORTED, "%s: this store holds no shards", s->shown_url);
    }
    enum dr_code rc = s->ops->shard->records(s->impl, a, out, count_out, err);
    if (rc != DR_OK) {
        dr_wrap(err, "records of shards on %s", s->shown_url);
    }
    return rc;
}
