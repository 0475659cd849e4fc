/* SPDX-License-Identifier: Apache-2.0 */
/* The thick wrapper around adapters: finding one by scheme, checking arguments and answers. */
#include "store/store.h"

#include <assert.h>
#include <string.h>

#include "base/str.h"
#include "obs/log.h"
#ifdef DROVER_FAULTS
#include "store/fault/fault_store.h"
#endif
#include "store/fleet/fleet_store.h"
#ifdef DROVER_STORE_MANTICORE
#include "store/manticore/manticore_store.h"
#endif
#include "store/memory/memory_store.h"
#ifdef DROVER_STORE_MONGODB
#include "store/mongodb/mongodb_store.h"
#endif
#ifdef DROVER_STORE_REDIS
#include "store/redis/redis_store.h"
#endif
#if defined DROVER_STORE_MARIADB || defined DROVER_STORE_POSTGRES
#include "store/sql/sql_store.h"
#endif
#ifdef DROVER_STORE_SQLITE
#include "store/sqlite/sqlite_store.h"
#endif
#include "store/store_private.h"
#include "store/world.h"

enum { SURVEY_BLOCK_BYTES = 64 * 1024, SCHEME_BYTES_MAX = 32, URL_BYTES_MAX = 4096 };

static const struct dr_store_ops *(*const adapters[])(void) = {
#ifdef DROVER_STORE_SQLITE
    dr_store_sqlite_ops,
#endif
#ifdef DROVER_STORE_REDIS
    dr_store_redis_ops,
#endif
#ifdef DROVER_STORE_MONGODB
    dr_store_mongodb_ops,   dr_store_mongodb_srv_ops,
#endif
#ifdef DROVER_STORE_MARIADB
    dr_store_mysql_ops,     dr_store_mariadb_ops,
#endif
#ifdef DROVER_STORE_POSTGRES
    dr_store_postgres_ops,  dr_store_postgresql_ops,
#endif
#ifdef DROVER_STORE_MANTICORE
    dr_store_manticore_ops,
#endif
    dr_store_fleet_ops,     dr_store_memory_ops,
#ifdef DROVER_FAULTS
    dr_store_fault_ops,
#endif
};

enum { ADAPTERS = sizeof adapters / sizeof adapters[0] };

const char *dr_store_schemes(void)
{
    return ""
#ifdef DROVER_STORE_SQLITE
           "sqlite "
#endif
#ifdef DROVER_STORE_REDIS
           "redis "
#endif
#ifdef DROVER_STORE_MONGODB
           "mongodb mongodb+srv "
#endif
#ifdef DROVER_STORE_MARIADB
           "mysql mariadb "
#endif
#ifdef DROVER_STORE_POSTGRES
           "postgres postgresql "
#endif
#ifdef DROVER_STORE_MANTICORE
           "manticore "
#endif
           "fleet memory"
#ifdef DROVER_FAULTS
           " fault"
#endif
        ;
}

static const struct dr_store_ops *find_ops(const char *scheme)
{
    for (size_t i = 0; i < ADAPTERS; i++) {
        const struct dr_store_ops *ops = adapters[i]();
        if (strcmp(ops->scheme, scheme) == 0) {
            return ops;
        }
    }
    return NULL;
}

enum dr_code dr_store_open(const char *url, struct dr_store **out, struct dr_err *err)
{
    return dr_store_open_in(NULL, url, out, err);
}

/* The fleet is the one store that needs the process around it. */
static enum dr_code open_impl(const struct dr_store_world *world, const struct dr_store_ops *ops,
                              const char *url, void **impl_out, struct dr_err *err)
{
    return ops == dr_store_fleet_ops() ? dr_store_fleet_open(world, url, impl_out, err)
                                       : ops->open(url, impl_out, err);
}

enum dr_code dr_store_open_in(const struct dr_store_world *world, const char *url,
                              struct dr_store **out, struct dr_err *err)
{
    char scheme[SCHEME_BYTES_MAX];
    char shown[URL_BYTES_MAX];
    *out = NULL;
    const char *colon = strchr(url, ':');
    size_t length = colon == NULL ? 0 : (size_t)(colon - url);
    if (length == 0 || length >= sizeof scheme || strlen(url) >= URL_BYTES_MAX) {
        return dr_fail(err, DR_INPUT,
                       "\"%.64s\" is no store URL; write for example sqlite:/path/to/file.db", url);
    }
    memcpy(scheme, url, length);
    scheme[length] = '\0';
    const struct dr_store_ops *ops = find_ops(scheme);
    if (ops == NULL) {
        return dr_fail(err, DR_INPUT, "this build knows no store \"%s\"; it has: %s", scheme,
                       dr_store_schemes());
    }
    struct dr_store *s = dr_calloc(1, sizeof *s);
    if (s == NULL) {
        return dr_fail_nomem(err);
    }
    s->ops = ops;
    s->shown_url = dr_strdup(dr_url_redact(url, shown, sizeof shown));
    enum dr_code rc =
        s->shown_url == NULL ? dr_fail_nomem(err) : open_impl(world, ops, url, &s->impl, err);
    if (rc != DR_OK) {
        dr_free(s->shown_url);
        dr_free(s);
        return rc;
    }
    *out = s;
    return DR_OK;
}

void dr_store_close(struct dr_store *s)
{
    if (s != NULL) {
        s->ops->close(s->impl);
        dr_free(s->shown_url);
        dr_free(s);
    }
}

uint32_t dr_store_can(const struct dr_store *s)
{
    return s->ops->can;
}

const char *dr_store_url(const struct dr_store *s)
{
    return s->shown_url;
}

static enum dr_code need(const struct dr_store *s, uint32_t can, const char *what,
                         struct dr_err *err)
{
    return (s->ops->can & can) == can
               ? DR_OK
               : dr_fail(err, DR_UNSUPPORTED, "%s: this store cannot %s", s->shown_url, what);
}

/* A range that drover itself has put together wrongly must not reach a store. */
static enum dr_code check_range(const struct dr_store *s, const struct dr_range *r,
                                struct dr_err *err)
{
    /* Behind a router the order of its own types counts, and it checks bounds itself. */
    bool is_order_ours = (s->ops->can & DR_CAN_ROUTE) == 0;
    bool is_shard = r->access == DR_BY_SHARD_RANGE || r->access == DR_BY_SHARD_HASHED;
    if (r->node == NULL || r->collection == NULL || strchr(r->collection, '.') == NULL) {
        return dr_fail(err, DR_INPUT, "a range needs a node and a collection \"database.name\"");
    }
    if (is_shard && (r->key_count == 0 || r->key_count > DR_KEY_PARTS_MAX ||
                     r->from.parts > r->key_count || r->upto.parts > r->key_count)) {
        return dr_fail(err, DR_INPUT, "%s: a chunk's bounds do not fit its shard key",
                       r->collection);
    }
    if (is_shard && is_order_ours && r->from.parts > 0 && r->upto.parts > 0 &&
        dr_bound_compare(&r->from, &r->upto) >= 0) {
        return dr_fail(err, DR_INPUT, "%s: a chunk ends before it begins", r->collection);
    }
    if (r->access == DR_BY_KEYS && (r->spec == NULL || r->length == 0)) {
        return dr_fail(err, DR_INPUT, "%s: a walk by keys without their description",
                       r->collection);
    }
    if (r->access == DR_BY_INDEX && r->index == NULL) {
        return dr_fail(err, DR_INPUT, "%s: a walk by index without the index's name",
                       r->collection);
    }
    return DR_OK;
}

enum dr_code dr_store_survey(struct dr_store *s, const char *database,
                             const struct dr_filter *filter, struct dr_survey **out,
                             struct dr_err *err)
{
    *out = NULL;
    struct dr_survey *survey = dr_calloc(1, sizeof *survey);
    if (survey == NULL) {
        return dr_fail_nomem(err);
    }
    survey->arena = dr_arena_create(SURVEY_BLOCK_BYTES);
    survey->database = survey->arena == NULL ? NULL : dr_arena_strdup(survey->arena, database);
    enum dr_code rc = survey->database == NULL
                          ? dr_fail_nomem(err)
                          : s->ops->survey(s->impl, survey->database, filter, survey, err);
    if (rc != DR_OK) {
        dr_survey_destroy(survey);
        return rc;
    }
    *out = survey;
    return DR_OK;
}

enum dr_code dr_store_survey_spec(struct dr_store *s, const char *spec, struct dr_survey **out,
                                  struct dr_err *err)
{
    *out = NULL;
    if (s->ops->survey_spec == NULL) {
        return dr_fail(err, DR_UNSUPPORTED, "%s: this store is not surveyed by keys", s->shown_url);
    }
    struct dr_survey *survey = dr_calloc(1, sizeof *survey);
    if (survey == NULL) {
        return dr_fail_nomem(err);
    }
    survey->arena = dr_arena_create(SURVEY_BLOCK_BYTES);
    enum dr_code rc = survey->arena == NULL ? dr_fail_nomem(err)
                                            : s->ops->survey_spec(s->impl, spec, survey, err);
    if (rc != DR_OK) {
        dr_survey_destroy(survey);
        return rc;
    }
    *out = survey;
    return DR_OK;
}

enum dr_code dr_store_epoch(struct dr_store *s, const char *collection, uint64_t *epoch_out,
                            struct dr_err *err)
{
    *epoch_out = 0;
    return s->ops->epoch(s->impl, collection, epoch_out, err);
}

enum dr_code dr_store_health(struct dr_store *s, const char *node, struct dr_health *out,
                             struct dr_err *err)
{
    *out = (struct dr_health){0};
    return s->ops->health(s->impl, node, out, err);
}

enum dr_code dr_store_count(struct dr_store *s, const struct dr_range *range, uint64_t *rows_out,
                            struct dr_err *err)
{
    *rows_out = 0;
    enum dr_code rc = need(s, DR_CAN_COUNT, "count a range", err);
    rc = rc == DR_OK ? check_range(s, range, err) : rc;
    return rc == DR_OK ? s->ops->count(s->impl, range, rows_out, err) : rc;
}

enum dr_code dr_store_scan(struct dr_store *s, const struct dr_range *range,
                           const struct dr_budget *budget, const struct dr_cursor *from,
                           struct dr_batch *batch, struct dr_err *err)
{
    assert(from != &batch->after); /* the reset would turn it into the beginning */
    dr_batch_reset(batch);
    enum dr_code rc = check_range(s, range, err);
    if (rc == DR_OK) {
        rc = s->ops->scan(s->impl, range, budget, from, batch, err);
    }
    if (rc != DR_OK) {
        dr_batch_reset(batch); /* half a batch is no batch */
        return rc;
    }
    assert(batch->count <= budget->items_max);
    assert(batch->count > 0 || batch->is_end || batch->looked > 0);
    return DR_OK;
}

enum dr_code dr_store_erase(struct dr_store *s, const struct dr_range *range,
                            const struct dr_batch *batch, struct dr_tally *tally_out,
                            struct dr_err *err)
{
    *tally_out = (struct dr_tally){0};
    enum dr_code rc = check_range(s, range, err);
    if (rc == DR_OK && batch->count > 0) {
        rc = s->ops->erase(s->impl, range, batch, tally_out, err);
        assert(rc != DR_OK ||
               tally_out->erased + tally_out->absent + tally_out->changed == batch->count);
    }
    return rc;
}

enum dr_code dr_store_probe(struct dr_store *s, const struct dr_range *range,
                            const struct dr_batch *batch, struct dr_tally *tally_out,
                            struct dr_err *err)
{
    *tally_out = (struct dr_tally){0};
    enum dr_code rc = check_range(s, range, err);
    if (rc == DR_OK && batch->count > 0) {
        rc = s->ops->probe(s->impl, range, batch, tally_out, err);
        assert(rc != DR_OK ||
               tally_out->same + tally_out->absent + tally_out->changed == batch->count);
    }
    return rc;
}

enum dr_code dr_store_restore(struct dr_store *s, const struct dr_range *range,
                              const struct dr_batch *batch, struct dr_tally *tally_out,
                              struct dr_err *err)
{
    *tally_out = (struct dr_tally){0};
    enum dr_code rc = need(s, DR_CAN_RESTORE, "put items back", err);
    if (rc == DR_OK && batch->count > 0) {
        rc = s->ops->restore(s->impl, range, batch, tally_out, err);
        assert(rc != DR_OK ||
               tally_out->restored + tally_out->same + tally_out->conflicts == batch->count);
    }
    return rc;
}

enum dr_code dr_store_command(struct dr_store *s, const char *node, const char *text,
                              struct dr_err *err)
{
    enum dr_code rc = need(s, DR_CAN_COMMAND, "run commands", err);
    return rc == DR_OK ? s->ops->command(s->impl, node, text, err) : rc;
}

enum dr_code dr_store_publish(struct dr_store *s, const char *spec, const char *state,
                              struct dr_err *err)
{
    return s->ops->publish == NULL ? DR_OK : s->ops->publish(s->impl, spec, state, err);
}

enum dr_code dr_store_check(struct dr_store *s, const char *node, const char *text, bool is_now,
                            struct dr_err *err)
{
    enum dr_code rc = need(s, DR_CAN_COMMAND, "run commands", err);
    if (rc == DR_OK && (node == NULL || node[0] == '\0' || text == NULL || text[0] == '\0')) {
        rc = dr_fail(err, DR_INPUT, "%s: a command needs a node and a text", s->shown_url);
    }
    return rc != DR_OK || s->ops->check == NULL ? rc
                                                : s->ops->check(s->impl, node, text, is_now, err);
}

enum dr_code dr_store_copy(struct dr_store *s, const char *spec, const struct dr_budget *budget,
                           struct dr_cursor *cursor, struct dr_copied *out, struct dr_err *err)
{
    *out = (struct dr_copied){0};
    if (s->ops->copy == NULL) {
        return dr_fail(err, DR_UNSUPPORTED, "%s: this store knows no copying", s->shown_url);
    }
    if (spec == NULL || budget->items_max == 0 || cursor->len > DR_CURSOR_BYTES_MAX) {
        return dr_fail(err, DR_INPUT, "%s: a copy needs a text, a budget and a sound cursor",
                       s->shown_url);
    }
    enum dr_code rc = s->ops->copy(s->impl, spec, budget, cursor, out, err);
    assert(cursor->len <= DR_CURSOR_BYTES_MAX);
    if (rc != DR_OK) {
        *out = (struct dr_copied){0}; /* half a batch is no batch */
    }
    return rc;
}
