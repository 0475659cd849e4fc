/* SPDX-License-Identifier: Apache-2.0 */
/* The MariaDB driver's own things: the connection, its prepared statements, one row's buffers. */
#ifndef DR_STORE_MARIADB_PRIVATE_H
#define DR_STORE_MARIADB_PRIVATE_H

#include <mysql.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "store/sqldb.h"

enum {
    MD_STATEMENTS_MAX = 16, /* kept prepared per connection */
    MD_SHOWN_BYTES = 256,
};

struct md_statement {
    char *sql;
    MYSQL_STMT *stmt;
    uint64_t used_at; /* of md_conn.tick */
};

struct md_conn {
    MYSQL *mysql;
    bool is_lost;
    bool is_local_off;          /* the server takes no LOAD DATA LOCAL */
    char shown[MD_SHOWN_BYTES]; /* where it is connected to, for messages */
    char *database;
    uint64_t tick;
    struct md_statement statement[MD_STATEMENTS_MAX];
};

/* error.c: what an error number of server or client means; notes a lost connection in `c`. */
enum dr_code md_fail(struct md_conn *c, unsigned number, const char *state, const char *text,
                     struct dr_err *err);
enum dr_code md_fail_conn(struct md_conn *c, struct dr_err *err);
enum dr_code md_fail_stmt(struct md_conn *c, MYSQL_STMT *stmt, struct dr_err *err);

/* run.c */
DR_MUST enum dr_code md_run(void *impl, const char *sql, const struct dr_value *param,
                            uint32_t param_count, uint64_t *affected, dr_sqldb_row_fn row,
                            void *arg, struct dr_err *err);
/* A statement without parameters in the text protocol. */
DR_MUST enum dr_code md_run_text(struct md_conn *c, const char *sql, uint64_t *affected,
                                 dr_sqldb_row_fn row, void *arg, struct dr_err *err);
void md_statements_close(struct md_conn *c);

/* rows.c: hand over the rows of an executed statement. Whatever is left is read and dropped. */
DR_MUST enum dr_code md_read_rows(struct md_conn *c, MYSQL_STMT *stmt, dr_sqldb_row_fn row,
                                  void *arg, struct dr_err *err);
bool md_is_binary(const MYSQL_FIELD *f); /* its values are DR_V_BLOB */

/* pipe.c */
DR_MUST enum dr_code md_pipe(void *source, void *const *target, const char *const *into,
                             uint32_t target_count, const struct dr_sqldb_pipe *pipe,
                             struct dr_sqldb_piped *out, struct dr_err *err);
void md_refuse_local(MYSQL *mysql); /* no file of ours is given to a server that asks for one */

#endif
