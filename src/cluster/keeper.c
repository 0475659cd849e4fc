/* SPDX-License-Identifier: Apache-2.0 */
/* Owns the keeper: the one thread that does what nobody waits for. It announces this peer, joins,
 * copies shards that are to move, has dead replicas filled again, and clears away files of shards
 * that left. Every round looks at the newest state and does what that asks for, so nothing is lost
 * by a restart. */
#include <string.h>
#include <time.h>

#include "base/backoff.h"
#include "base/clock.h"
#include "cluster/cluster_private.h"

enum { TICK_MS = 1000, JOIN_MS_FIRST = 200, JOIN_MS_MAX = 5000, HEAL_TICKS = 2 };

void dr_keeper_wake(struct dr_cluster *c)
{
    (void)pthread_mutex_lock(&c->lock);
    c->is_woken = true;
    (void)pthread_cond_broadcast(&c->wake);
    (void)pthread_mutex_unlock(&c->lock);
}

static uint32_t tick_ms(const struct dr_cluster *c)
{
    return c->tuning.tick_ms == 0 ? TICK_MS : c->tuning.tick_ms;
}

/* Until woken, or a tick is over. False: stop. */
static bool wait_for_work(struct dr_cluster *c)
{
    struct timespec until = dr_mono_deadline(tick_ms(c));
    (void)pthread_mutex_lock(&c->lock);
    int rc = 0;
    while (!c->is_stopping && !c->is_woken && rc == 0) {
        rc = pthread_cond_timedwait(&c->wake, &c->lock, &until);
    }
    bool goes_on = !c->is_stopping;
    c->is_woken = false;
    (void)pthread_mutex_unlock(&c->lock);
    return goes_on;
}

static void try_join(struct dr_cluster *c)
{
    const struct dr_backoff backoff = {.first_ms = JOIN_MS_FIRST, .max_ms = JOIN_MS_MAX};
    struct dr_err err = {0};
    if (c->is_joined || c->join_uri == NULL || dr_mono_now() < c->join_at) {
        return;
    }
    enum dr_code rc = dr_member_join(c, &err);
    if (rc == DR_OK) {
        c->is_joined = true;
        dr_log(c->log, DR_LOG_INFO, "joined the cluster", "peer=%llu through=%s",
               (unsigned long long)c->id, c->join_uri);
        return;
    }
    c->join_failures++;
    c->join_at = dr_mono_now() + (dr_mono_ms)dr_backoff_ms(&backoff, c->join_failures, dr_random());
    dr_log_err(c->log, DR_LOG_WARN, "joining the cluster failed, trying again", &err);
}

static void try_announce(struct dr_cluster *c)
{
    struct dr_err err = {0};
    if (c->is_announced) {
        return;
    }
    enum dr_code rc = dr_member_announce(c, &err);
    if (rc == DR_OK) {
        c->is_announced = true;
    } else if (rc != DR_BUSY) {
        dr_log_err(c->log, DR_LOG_WARN, "announcing this peer failed, trying again", &err);
    }
}

static void do_round(struct dr_cluster *c)
{
    try_join(c);
    try_announce(c);
    (void)dr_cluster_catch_up(c, 0); /* one look, so that the first request need not wait */
    struct dr_catalog *now = dr_cluster_catalog(c);
    bool is_tidy = dr_transfer_tidy(c, c->seen, now);
    dr_transfer_step(c, now);
    if (!c->tuning.is_not_healing && dr_mono_now() >= c->heal_at) {
        c->heal_at = dr_mono_now() + (dr_mono_ms)tick_ms(c) * HEAL_TICKS;
        dr_transfer_heal(c, now);
    }
    /* What could not be cleared away yet is looked at again, from the same state. */
    dr_catalog_unref(is_tidy ? c->seen : now);
    c->seen = is_tidy ? now : c->seen;
}

void *dr_keeper_main(void *cluster)
{
    struct dr_cluster *c = cluster;
    do {
        do_round(c);
    } while (wait_for_work(c));
    return NULL;
}
