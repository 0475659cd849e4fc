/* SPDX-License-Identifier: Apache-2.0 */
/* Owns the decision whether work may go on, from what was read. Pure. */
#include <inttypes.h>
#include <stdio.h>

#include "store/sql/sql_private.h"

enum { VALID_MS = 1000, WAIT_MS = 2000, WAIT_LONG_MS = 10000 };

static void brake(struct dr_health *out, uint64_t wait_ms)
{
    out->is_ok = false;
    out->wait_hint_ms = wait_ms;
}

void sa_judge(const struct sa_vitals *v, const struct sa_store *limits, struct dr_health *out)
{
    char have[32];
    char limit[32];
    *out = (struct dr_health){.is_ok = true, .valid_ms = VALID_MS};
    if (v->is_read_only) {
        (void)snprintf(out->reason, sizeof out->reason,
                       "the server is read-only (a replica, or in recovery); use the primary's "
                       "address");
        brake(out, WAIT_LONG_MS);
    } else if (v->is_replica_down) {
        (void)snprintf(out->reason, sizeof out->reason, "replica %s: its lag cannot be read",
                       v->replica);
        brake(out, WAIT_LONG_MS);
    } else if (v->lag_s > 0 && (uint64_t)v->lag_s > limits->lag_s_max) {
        (void)snprintf(out->reason, sizeof out->reason,
                       "replica %s is %" PRId64 " s behind, limit %" PRIu64 " s", v->replica,
                       v->lag_s, limits->lag_s_max);
        brake(out, WAIT_MS);
    } else if (v->history > 0 && (uint64_t)v->history > limits->history_max) {
        (void)snprintf(out->reason, sizeof out->reason,
                       "InnoDB's history list has %s entries, limit %s; an old snapshot keeps "
                       "deleted rows, or purge cannot follow",
                       dr_human_count((uint64_t)v->history, have, sizeof have),
                       dr_human_count(limits->history_max, limit, sizeof limit));
        brake(out, WAIT_LONG_MS);
    } else if (v->slot_bytes > 0 && (uint64_t)v->slot_bytes > limits->slot_bytes_max) {
        (void)snprintf(out->reason, sizeof out->reason,
                       "replication slot %s holds back %s of WAL, limit %s", v->slot,
                       dr_human_bytes((uint64_t)v->slot_bytes, have, sizeof have),
                       dr_human_bytes(limits->slot_bytes_max, limit, sizeof limit));
        brake(out, WAIT_LONG_MS);
    } else if (v->horizon_age > 0 && (uint64_t)v->horizon_age > limits->horizon_age_max) {
        (void)snprintf(out->reason, sizeof out->reason,
                       "the oldest snapshot is %s transactions old, limit %s: vacuum cannot clean "
                       "what is deleted",
                       dr_human_count((uint64_t)v->horizon_age, have, sizeof have),
                       dr_human_count(limits->horizon_age_max, limit, sizeof limit));
        brake(out, WAIT_LONG_MS);
    } else if (v->is_vacuuming) {
        (void)snprintf(out->reason, sizeof out->reason,
                       "vacuum runs on %s; deleting goes on when it is through",
                       limits->last_table == NULL ? "the table" : limits->last_table);
        brake(out, WAIT_MS);
    } else if (v->lock_waits > SA_LOCK_WAITS_MAX) {
        (void)snprintf(out->reason, sizeof out->reason,
                       "%" PRId64 " sessions have waited for locks for seconds, limit %d",
                       v->lock_waits, SA_LOCK_WAITS_MAX);
        brake(out, WAIT_MS);
    }
}
