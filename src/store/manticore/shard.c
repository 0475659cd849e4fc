/* SPDX-License-Identifier: Apache-2.0 */
/* Commands that no single statement says: put a wrapper in the place of another, take a shard's
 * copy away where, and only where, another copy is known to be good. */
#include <string.h>

#include "store/manticore/manticore_private.h"

static enum dr_code need_wrapper(const struct mt_store *s, const struct mt_command *there,
                                 const char *table, struct dr_err *err)
{
    return there->verb == MT_CREATE_WRAPPER
               ? DR_OK
               : dr_fail(err, DR_REFUSED,
                         "Manticore node %s: %s is a table with rows of its own, not a sharded "
                         "table's public name: it is left alone",
                         s->shown, table);
}

static enum dr_code drop_wrapper(struct mt_store *s, const char *table, struct dr_arena *a,
                                 struct dr_err *err)
{
    char *sql = dr_arena_printf(a, "DROP TABLE IF EXISTS %s OPTION force=1", table);
    return sql == NULL ? dr_fail_nomem(err) : mt_change(s, sql, err);
}

static enum dr_code need_empty(struct mt_store *s, const char *table, struct dr_arena *a,
                               struct dr_err *err)
{
    uint64_t rows = 0;
    char *sql = dr_arena_printf(a, "SELECT count(*) FROM %s", table);
    enum dr_code rc = sql == NULL ? dr_fail_nomem(err) : mt_ask_number(s, sql, &rows, err);
    if (rc == DR_OK && rows > 0) {
        rc = dr_fail(err, DR_REFUSED,
                     "Manticore node %s: %s has %llu rows already: making it is not undone; use "
                     "\"drover table drop\"",
                     s->shown, table, (unsigned long long)rows);
    }
    return rc;
}

enum dr_code mt_publish(struct mt_store *s, const struct mt_command *c, struct dr_arena *a,
                        struct dr_err *err)
{
    const struct mt_command *there = NULL;
    enum dr_code rc = mt_table_read(s, c->table[0], a, &there, err);
    if (rc == DR_OK && there != NULL) {
        rc = need_wrapper(s, there, c->table[0], err);
        if (rc == DR_OK && mt_clauses_equal(there, c->inner) &&
            mt_columns_equal(there->columns, c->inner->columns)) {
            return DR_OK;
        }
        rc = rc == DR_OK ? drop_wrapper(s, c->table[0], a, err) : rc;
    }
    return rc == DR_OK ? mt_change(s, c->inner->text, err) : rc;
}

enum dr_code mt_withdraw(struct mt_store *s, const struct mt_command *c, struct dr_arena *a,
                         struct dr_err *err)
{
    const struct mt_command *there = NULL;
    enum dr_code rc = mt_table_read(s, c->table[0], a, &there, err);
    if (rc != DR_OK || there == NULL) {
        return rc;
    }
    rc = need_wrapper(s, there, c->table[0], err);
    if (rc == DR_OK && c->is_only_empty) {
        rc = need_empty(s, c->table[0], a, err);
    }
    return rc == DR_OK ? drop_wrapper(s, c->table[0], a, err) : rc;
}

/* The other node has the table; in its cluster, primary and synced, where `cluster` is named. Rows
 * here need rows there. */
static enum dr_code look_at_other(struct mt_store *s, struct mt_store *other, const char *table,
                                  const char *cluster, struct dr_arena *a, struct dr_err *err)
{
    struct mt_cluster *there = NULL;
    uint64_t ours = 0, theirs = 0;
    char *sql = dr_arena_printf(a, "SELECT count(*) FROM %s", table);
    enum dr_code rc = sql == NULL ? dr_fail_nomem(err) : mt_ask_number(other, sql, &theirs, err);
    rc = rc == DR_OK ? mt_ask_number(s, sql, &ours, err) : rc;
    if (rc == DR_OK && ours > 0 && theirs == 0) {
        return dr_fail(err, DR_REFUSED,
                       "Manticore node %s keeps its copy of %s: it has %llu rows, the copy on %s "
                       "has none",
                       s->shown, table, (unsigned long long)ours, other->shown);
    }
    if (rc == DR_OK && cluster != NULL) {
        rc = mt_cluster_read(other, cluster, a, &there, err);
        if (rc == DR_OK &&
            (there == NULL || !mt_cluster_is_ready(there) || !mt_list_has(there->tables, table))) {
            rc =
                dr_fail(err, DR_REFUSED,
                        "Manticore node %s keeps its copy of %s: the one on %s is not in a cluster "
                        "%s that is primary and synced",
                        s->shown, table, other->shown, cluster);
        }
    }
    return rc;
}

static enum dr_code need_other_copy(struct mt_store *s, const char *node, const char *table,
                                    const char *cluster, struct dr_arena *a, struct dr_err *err)
{
    struct mt_store *other = NULL;
    enum dr_code rc = mt_open_other(s, node, &other, err);
    if (rc == DR_OK) {
        rc = look_at_other(s, other, table, cluster, a, err);
    }
    mt_close(other);
    return rc;
}

/* `cluster` is where the other copy must live, NULL: anywhere. */
static enum dr_code drop_copy(struct mt_store *s, const struct mt_command *c, const char *cluster,
                              struct dr_arena *a, struct dr_err *err)
{
    const struct mt_command *there = NULL;
    struct mt_cluster *in = NULL;
    enum dr_code rc = mt_table_read(s, c->table[0], a, &there, err);
    if (rc != DR_OK || there == NULL) {
        return rc;
    }
    if (there->verb != MT_CREATE_TABLE) {
        return dr_fail(err, DR_REFUSED, "Manticore node %s: %s is no shard", s->shown, c->table[0]);
    }
    rc = mt_cluster_of(s, c->table[0], a, &in, err);
    if (rc == DR_OK && in != NULL) {
        return dr_fail(err, DR_CONFLICT,
                       "Manticore node %s: %s is in cluster %s and cannot be dropped", s->shown,
                       c->table[0], in->name);
    }
    if (rc == DR_OK && c->is_only_empty) {
        rc = need_empty(s, c->table[0], a, err);
    } else if (rc == DR_OK && c->node != NULL) {
        rc = need_other_copy(s, c->node, c->table[0], cluster, a, err);
    }
    char *sql = dr_arena_printf(a, "DROP TABLE IF EXISTS %s", c->table[0]);
    if (rc == DR_OK) {
        rc = sql == NULL ? dr_fail_nomem(err) : mt_change(s, sql, err);
    }
    return rc;
}

enum dr_code mt_drop_shard(struct mt_store *s, const struct mt_command *c, struct dr_arena *a,
                           struct dr_err *err)
{
    return drop_copy(s, c, NULL, a, err);
}

/* The inverse of JOIN: out of the cluster, and the copy that came with it goes. Never the last good
 * one: either it is empty, or another member is known to have it. */
enum dr_code mt_leave(struct mt_store *s, const struct mt_command *c, struct dr_arena *a,
                      struct dr_err *err)
{
    struct mt_cluster *there = NULL;
    const struct mt_command *table = NULL;
    if (!c->is_only_empty && c->node == NULL) {
        return dr_fail(err, DR_INPUT,
                       "\"leave\" needs \"node\", a member that stays, or \"only_empty\"");
    }
    enum dr_code rc = mt_cluster_read(s, c->cluster, a, &there, err);
    rc = rc == DR_OK ? mt_table_read(s, c->table[0], a, &table, err) : rc;
    /* Before leaving, too: once outside this copy grows old. */
    if (rc == DR_OK && there != NULL && table != NULL && mt_list_has(there->tables, c->table[0]) &&
        c->node != NULL) {
        rc = need_other_copy(s, c->node, c->table[0], c->cluster, a, err);
    }
    rc = rc == DR_OK ? mt_exit_cluster(s, c->cluster, a, err) : rc;
    return rc == DR_OK ? drop_copy(s, c, c->node == NULL ? NULL : c->cluster, a, err) : rc;
}
