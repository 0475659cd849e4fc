/* SPDX-License-Identifier: Apache-2.0 */
/* The adapter's table of functions, opening and closing. README.md says which file does what. */
#include "store/redis/redis_store.h"

#include <signal.h>

#include "store/redis/redis_private.h"

enum { SCRATCH_BLOCK_BYTES = 256 * 1024 };

static void close_store(void *impl)
{
    struct rd_store *s = impl;
    if (s == NULL) {
        return;
    }
    for (uint32_t i = 0; i < s->node_count; i++) {
        rd_node_destroy(s->node[i]);
    }
    rd_spec_destroy(s->spec);
    dr_batch_destroy(s->rest);
    dr_arena_destroy(s->scratch);
    dr_free(s->user);
    dr_free(s->password);
    dr_free(s);
}

/* hiredis writes to sockets without MSG_NOSIGNAL: a server that goes away would kill the process. A
 * handler that somebody has set on purpose is left alone. */
static void ignore_sigpipe(void)
{
    struct sigaction now;
    if (sigaction(SIGPIPE, NULL, &now) == 0 && (now.sa_flags & SA_SIGINFO) == 0 &&
        now.sa_handler == SIG_DFL) {
        now.sa_handler = SIG_IGN;
        (void)sigaction(SIGPIPE, &now, NULL);
    }
}

/* Nothing is connected here: one server that is down must not keep the others from being used. */
static enum dr_code open_store(const char *url, void **impl_out, struct dr_err *err)
{
    *impl_out = NULL;
    struct rd_store *s = dr_calloc(1, sizeof *s);
    if (s == NULL) {
        return dr_fail_nomem(err);
    }
    ignore_sigpipe();
    s->scratch = dr_arena_create(SCRATCH_BLOCK_BYTES);
    enum dr_code rc = s->scratch == NULL ? dr_fail_nomem(err) : rd_url_parse(s, url, err);
    if (rc == DR_OK) {
        rc = dr_batch_create(&s->rest, err);
    }
    if (rc != DR_OK) {
        close_store(s);
        return rc;
    }
    *impl_out = s;
    return DR_OK;
}

static enum dr_code survey_filter(void *impl, const char *database, const struct dr_filter *filter,
                                  struct dr_survey *survey, struct dr_err *err)
{
    (void)impl;
    (void)database;
    (void)filter;
    (void)survey;
    return dr_fail(err, DR_UNSUPPORTED,
                   "redis: keys have no fields to filter by; use a job of kind "
                   "redis.purge-stats");
}

/* Slots that move are followed by the adapter itself, so that no step need be planned again. */
static enum dr_code read_epoch(void *impl, const char *collection, uint64_t *epoch_out,
                               struct dr_err *err)
{
    (void)impl;
    (void)collection;
    (void)err;
    *epoch_out = 1;
    return DR_OK;
}

static const struct dr_store_ops ops = {
    .scheme = "redis",
    .can = DR_CAN_KEY_LIST | DR_CAN_SCAN | DR_CAN_RESTORE | DR_CAN_COUNT | DR_CAN_COMMAND,
    .open = open_store,
    .close = close_store,
    .survey = survey_filter,
    .survey_spec = rd_survey_spec,
    .epoch = read_epoch,
    .health = rd_health,
    .count = rd_count,
    .scan = rd_scan,
    .erase = rd_erase,
    .probe = rd_probe,
    .restore = rd_restore,
    .command = rd_command,
};

const struct dr_store_ops *dr_store_redis_ops(void)
{
    return &ops;
}
