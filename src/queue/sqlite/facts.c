/* SPDX-License-Identifier: Apache-2.0 */
/* Reading what an account is made of: erase and verify steps with the collection of their range,
 * in pages, so that a million steps neither stand in memory nor hold up other readers. SQLite takes
 * the collection out of the query: parsing the whole range here would cost ten times as much. */
#include "base/str.h"
#include "queue/sqlite/queue_private.h"

static void fill_fact(sqlite3_stmt *st, struct dr_step_fact *f)
{
    *f = (struct dr_step_fact){.id = sqlite3_column_int64(st, 0)};
    f->kind = (enum dr_step_kind)sqlite3_column_int(st, 1);
    f->status = (enum dr_step_status)sqlite3_column_int(st, 2);
    f->estimated = (uint64_t)sqlite3_column_int64(st, 3);
    f->done = (uint64_t)sqlite3_column_int64(st, 4);
    f->undone = (uint64_t)sqlite3_column_int64(st, 5);
    f->archive_bytes = (uint64_t)sqlite3_column_int64(st, 6);
    f->duration_ms = (uint64_t)sqlite3_column_int64(st, 7);
    f->updated_at = sqlite3_column_int64(st, 8);
    dr_copy_text(f->node, sizeof f->node, dr_sql_text(st, 9));
    dr_copy_text(f->title, sizeof f->title, dr_sql_text(st, 10));
    dr_copy_text(f->last_error, sizeof f->last_error, dr_sql_text(st, 11));
    dr_copy_text(f->collection, sizeof f->collection, dr_sql_text(st, 12));
}

enum dr_code dr_queue_facts(struct dr_queue *q, int64_t op_id, int64_t after,
                            struct dr_step_fact *fact, uint32_t max, uint32_t *count_out,
                            struct dr_err *err)
{
    _Static_assert(DR_STEP_ERASE == 0 && DR_STEP_VERIFY == 1, "the kinds named below");
    static const char sql[] =
        "SELECT id, kind, status, estimated, done, undone, archive_bytes, duration_ms, updated_at,"
        " node, title, last_error, CASE WHEN json_valid(query) THEN json_extract(query,"
        " '$.range.collection') ELSE '' END FROM steps WHERE"
        /* One lower bound: of two, SQLite takes the first and reads all pages before again. */
        " id > max(?2, (SELECT first_step - 1 FROM operations WHERE id=?1)) AND"
        " id < (SELECT first_step + steps FROM operations WHERE id=?1) AND kind IN (0,1)"
        " ORDER BY id LIMIT ?3";
    sqlite3_stmt *st = NULL;
    bool has_row = true;
    *count_out = 0;
    (void)pthread_mutex_lock(&q->r_mutex);
    enum dr_code rc = dr_q_bind(&q->r, &st, err, sql, "iii", op_id, after, (int64_t)max);
    while (rc == DR_OK && *count_out < max) {
        rc = dr_sql_step(&q->r.sql, st, &has_row, err);
        if (rc != DR_OK || !has_row) {
            break;
        }
        fill_fact(st, &fact[(*count_out)++]);
    }
    if (st != NULL) {
        (void)sqlite3_reset(st);
    }
    (void)pthread_mutex_unlock(&q->r_mutex);
    return rc;
}
