/* SPDX-License-Identifier: Apache-2.0 */
/* The PostgreSQL driver's own things. */
#ifndef DR_STORE_POSTGRES_PRIVATE_H
#define DR_STORE_POSTGRES_PRIVATE_H

#include <libpq-fe.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/clock.h"
#include "base/err.h"
#include "store/sqldb.h"

enum { PG_SHOWN_BYTES = 256 };

struct pg_conn {
    PGconn *pq;
    bool is_lost;
    int64_t read_ms; /* longest silence of the server within a call */
    char shown[PG_SHOWN_BYTES];
    char *database;
    char *schema;
};

/* error.c: what an SQLSTATE means; notes a lost connection in `c`. */
enum dr_code pg_fail_result(struct pg_conn *c, const PGresult *result, struct dr_err *err);
enum dr_code pg_fail_conn(struct pg_conn *c, struct dr_err *err);
enum dr_code pg_fail_connect(struct pg_conn *c, struct dr_err *err);

/* rewrite.c: ? becomes $1, $2, ... outside of quotes, dollar quotes and comments; ?? becomes ?. */
DR_MUST enum dr_code pg_rewrite(const char *sql, struct dr_str *out, uint32_t *count_out,
                                struct dr_err *err);

/* run.c */
DR_MUST enum dr_code pg_run(void *impl, const char *sql, const struct dr_value *param,
                            uint32_t param_count, uint64_t *affected, dr_sqldb_row_fn row,
                            void *arg, struct dr_err *err);
/* Send what is buffered. DR_OK for a broken connection too: the next result says it. */
DR_MUST enum dr_code pg_flush_sent(struct pg_conn *c, struct dr_err *err);
/* The next result, NULL in *out at the end of the statement. */
DR_MUST enum dr_code pg_next_result(struct pg_conn *c, PGresult **out, struct dr_err *err);
void pg_stop_server(struct pg_conn *c); /* ask it to end its statement */
/* Wait until the socket is readable (or writable); false: the time is over or it is broken. */
bool pg_wait(PGconn *pq, bool for_write, dr_mono_ms until);

/* pipe.c */
DR_MUST enum dr_code pg_pipe(void *source, void *const *target, const char *const *into,
                             uint32_t target_count, const struct dr_sqldb_pipe *pipe,
                             struct dr_sqldb_piped *out, struct dr_err *err);

#endif
