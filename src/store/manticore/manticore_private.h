/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of this adapter share: the connection, the commands it takes, the state of a
 * node's clusters. */
#ifndef DR_STORE_MANTICORE_PRIVATE_H
#define DR_STORE_MANTICORE_PRIVATE_H

#include <mysql.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/json.h"
#include "base/mem.h"
#include "base/str.h"
#include "store/manticore/manticore_store.h"

enum {
    MT_SQL_PORT = 9306,
    MT_CONNECT_S = 5,
    MT_READ_S = 60,
    MT_SHOWN_BYTES = 256,
    MT_NAME_BYTES_MAX = 120,
    MT_TABLES_MAX = 256, /* of one ALTER CLUSTER */
    MT_PAGE_ROWS = 1000, /* as many as a node gives without being told more */
};

struct mt_store {
    MYSQL *mysql; /* NULL: not connected now */
    char *user, *password, *host;
    uint32_t port;
    unsigned connect_s, read_s;
    unsigned warnings; /* of the last question: parts of its answer are missing */
    char *binary;      /* address for peers as the URL says, or NULL: asked of the node */
    char shown[MT_SHOWN_BYTES];
};

/* --- parse.c: texts of commands, pure ----------------------------------------------------------
 */
enum mt_verb {
    MT_CREATE_TABLE,
    MT_CREATE_WRAPPER,
    MT_DROP_TABLE,
    MT_CREATE_CLUSTER,
    MT_JOIN_CLUSTER,
    MT_ALTER_ADD,
    MT_ALTER_DROP,
    MT_ALTER_UPDATE,
    MT_DELETE_CLUSTER,
    MT_EXIT_CLUSTER,
    MT_BOOTSTRAP,
    MT_WAIT_SYNCED, /* from here on: JSON */
    MT_WAIT_UNUSED,
    MT_SAME_COUNT,
    MT_DROP_SHARD,
    MT_PUBLISH,
    MT_WITHDRAW,
    MT_LEAVE,
};

struct mt_command {
    enum mt_verb verb;
    const char *text;    /* the statement as it is sent */
    const char *cluster; /* or NULL */
    const char *path, *at;
    uint32_t table_count;
    const char **table;  /* "system.users_s0", lower case as the node keeps it */
    const char *columns; /* between the parentheses */
    uint32_t clause_count;
    const char **clause; /* "local=..." and "agent=..." of a wrapper, sorted */
    bool is_if_exists;   /* IF EXISTS or IF NOT EXISTS */
    bool is_forced;      /* OPTION force=1 */
    bool is_only_empty;
    uint64_t size;
    const char *without;            /* MT_WAIT_SYNCED: a member that must be out of the view */
    const char *node;               /* another node's "host:port" of SQL */
    const struct mt_command *inner; /* MT_PUBLISH: the wrapper's CREATE TABLE */
};

/* The next command of a text of several, separated by newlines outside of quotes and parentheses.
 * *text moves behind it; *out NULL at the end. Into the arena. DR_REFUSED for what is no command of
 * this adapter's vocabulary, DR_INPUT for a mistake in one that is. */
DR_MUST enum dr_code mt_parse_next(const char **text, struct dr_arena *a,
                                   const struct mt_command **out, struct dr_err *err);
/* A CREATE TABLE as SHOW CREATE TABLE gives it, with whatever options. */
DR_MUST enum dr_code mt_parse_shown(const char *text, struct dr_arena *a,
                                    const struct mt_command **out, struct dr_err *err);
/* The same columns, whatever their order, their other type names and the id that goes without
 * saying. */
bool mt_columns_equal(const char *a, const char *b);
bool mt_clauses_equal(const struct mt_command *a, const struct mt_command *b);
bool mt_name_is_fine(const char *name, bool may_be_system);
bool mt_list_has(const char *list, const char *item); /* comma separated */

/* --- conn.c ------------------------------------------------------------------------------------
 */
DR_MUST enum dr_code mt_open(const char *url, struct mt_store **out, struct dr_err *err);
/* Another node with this one's user and password. "host:port". */
DR_MUST enum dr_code mt_open_other(const struct mt_store *s, const char *address,
                                   struct mt_store **out, struct dr_err *err);
void mt_close(struct mt_store *s); /* accepts NULL */

/* Called per row. cell[i] is NULL for NULL. */
typedef enum dr_code (*mt_row_fn)(void *arg, const char *const *cell, const char *const *name,
                                  uint32_t count, struct dr_err *err);
/* A question: a lost reply is DR_UNREACHABLE, and it is asked again once on a new connection when
 * the old one turns out to be dead. */
DR_MUST enum dr_code mt_ask(struct mt_store *s, const char *sql, mt_row_fn row, void *arg,
                            struct dr_err *err);
/* A change: a lost reply is DR_UNKNOWN. */
DR_MUST enum dr_code mt_change(struct mt_store *s, const char *sql, struct dr_err *err);
/* One number. A partial answer (a dead agent) is DR_BUSY: it would count too few. */
DR_MUST enum dr_code mt_ask_number(struct mt_store *s, const char *sql, uint64_t *out,
                                   struct dr_err *err);

/* --- state.c: what is there now ----------------------------------------------------------------
 */
struct mt_cluster {
    const char *name;
    const char *status, *node_state, *nodes_set, *nodes_view, *tables, *last_error; /* "": none */
    uint64_t size;
};
/* NULL when the node knows no such cluster. */
DR_MUST enum dr_code mt_cluster_read(struct mt_store *s, const char *name, struct dr_arena *a,
                                     struct mt_cluster **out, struct dr_err *err);
DR_MUST enum dr_code mt_clusters_read(struct mt_store *s, struct dr_arena *a,
                                      struct mt_cluster **out, uint32_t *count_out,
                                      struct dr_err *err);
bool mt_cluster_is_ready(const struct mt_cluster *c); /* primary and synced */
/* Cluster of this node that the table is in, or NULL. */
DR_MUST enum dr_code mt_cluster_of(struct mt_store *s, const char *table, struct dr_arena *a,
                                   struct mt_cluster **out, struct dr_err *err);
/* *out NULL: there is no such table. */
DR_MUST enum dr_code mt_table_read(struct mt_store *s, const char *table, struct dr_arena *a,
                                   const struct mt_command **out, struct dr_err *err);
/* data_dir and the address for peers; "" when the node does not say. */
DR_MUST enum dr_code mt_settings(struct mt_store *s, struct dr_arena *a, const char **data_dir,
                                 const char **binary, struct dr_err *err);
DR_MUST enum dr_code mt_table_names(struct mt_store *s, bool is_system, json_t *into,
                                    struct dr_err *err);

/* --- command.c, wait.c, survey.c ---------------------------------------------------------------
 */
DR_MUST enum dr_code mt_command(void *impl, const char *node, const char *text, struct dr_err *err);
DR_MUST enum dr_code mt_check(void *impl, const char *node, const char *text, bool is_now,
                              struct dr_err *err);
/* shard.c: what the commands {"manticore":...} do to tables. */
DR_MUST enum dr_code mt_publish(struct mt_store *s, const struct mt_command *c, struct dr_arena *a,
                                struct dr_err *err);
DR_MUST enum dr_code mt_withdraw(struct mt_store *s, const struct mt_command *c, struct dr_arena *a,
                                 struct dr_err *err);
DR_MUST enum dr_code mt_drop_shard(struct mt_store *s, const struct mt_command *c,
                                   struct dr_arena *a, struct dr_err *err);
DR_MUST enum dr_code mt_leave(struct mt_store *s, const struct mt_command *c, struct dr_arena *a,
                              struct dr_err *err);
/* EXIT CLUSTER, or what takes its place where a node came back to a cluster that is no more. */
DR_MUST enum dr_code mt_exit_cluster(struct mt_store *s, const char *cluster, struct dr_arena *a,
                                     struct dr_err *err);
DR_MUST enum dr_code mt_wait_synced(struct mt_store *s, const struct mt_command *c,
                                    struct dr_arena *a, struct dr_err *err);
DR_MUST enum dr_code mt_wait_unused(struct mt_store *s, const struct mt_command *c,
                                    struct dr_arena *a, struct dr_err *err);
DR_MUST enum dr_code mt_same_count(struct mt_store *s, const struct mt_command *c,
                                   struct dr_arena *a, struct dr_err *err);
DR_MUST enum dr_code mt_health(void *impl, const char *node, struct dr_health *out,
                               struct dr_err *err);
DR_MUST enum dr_code mt_survey_spec(void *impl, const char *spec, struct dr_survey *survey,
                                    struct dr_err *err);

#endif
