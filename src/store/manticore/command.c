/* SPDX-License-Identifier: Apache-2.0 */
/* Commands on one node. Each looks at the live state first: what is so already is done, and only
 * what is not is sent. An error of the node is never taken for "already so". */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "store/manticore/manticore_private.h"

enum { BLOCK_BYTES = 16 * 1024 };

static enum dr_code fail_state(const struct mt_store *s, const struct mt_cluster *c,
                               struct dr_err *err)
{
    if (strcmp(c->status, "recovery-required") == 0) {
        return dr_fail(err, DR_CONFLICT,
                       "Manticore node %s: cluster %s was deleted by its other members while this "
                       "node was away; run DELETE CLUSTER %s on it",
                       s->shown, c->name, c->name);
    }
    return dr_fail(err, DR_BUSY, "Manticore node %s: cluster %s is not ready: %s, %s", s->shown,
                   c->name, c->status, c->node_state);
}

static enum dr_code need_cluster(struct mt_store *s, const char *name, bool is_ready,
                                 struct dr_arena *a, struct mt_cluster **out, struct dr_err *err)
{
    enum dr_code rc = mt_cluster_read(s, name, a, out, err);
    if (rc != DR_OK) {
        return rc;
    }
    if (*out == NULL) {
        return dr_fail(err, DR_NOT_FOUND, "Manticore node %s is in no cluster %s", s->shown, name);
    }
    return is_ready && !mt_cluster_is_ready(*out) ? fail_state(s, *out, err) : DR_OK;
}

/* --- tables ------------------------------------------------------------------------------------
 */
static enum dr_code create_table(struct mt_store *s, const struct mt_command *c, struct dr_arena *a,
                                 struct dr_err *err)
{
    const struct mt_command *there = NULL;
    enum dr_code rc = mt_table_read(s, c->table[0], a, &there, err);
    if (rc != DR_OK) {
        return rc;
    }
    if (there == NULL) {
        return mt_change(s, c->text, err);
    }
    if (there->verb == c->verb && mt_columns_equal(there->columns, c->columns) &&
        mt_clauses_equal(there, c)) {
        return DR_OK;
    }
    return dr_fail(err, DR_EXISTS,
                   "Manticore node %s has a table %s already, with other columns or parts",
                   s->shown, c->table[0]);
}

static enum dr_code drop_table(struct mt_store *s, const struct mt_command *c, struct dr_arena *a,
                               struct dr_err *err)
{
    const struct mt_command *there = NULL;
    enum dr_code rc = mt_table_read(s, c->table[0], a, &there, err);
    return rc != DR_OK || there == NULL ? rc : mt_change(s, c->text, err);
}

/* --- the folder of a cluster -------------------------------------------------------------------
 */

/* Where the node's data folder is reachable from here the cluster's folder is made, as the owner of
 * the data folder. Elsewhere the node says what is missing, and fail_path says what to do. */
static enum dr_code make_path(struct mt_store *s, const char *path, struct dr_arena *a,
                              const char **folder, struct dr_err *err)
{
    const char *data_dir, *binary;
    struct stat facts;
    *folder = NULL;
    enum dr_code rc = mt_settings(s, a, &data_dir, &binary, err);
    if (rc != DR_OK || data_dir[0] != '/') {
        return rc;
    }
    char *whole = dr_arena_printf(a, "%s/%s", data_dir, path);
    *folder = whole;
    if (whole == NULL) {
        return dr_fail_nomem(err);
    }
    if (stat(data_dir, &facts) != 0 || !S_ISDIR(facts.st_mode) || access(data_dir, W_OK) != 0) {
        return DR_OK;
    }
    if (mkdir(whole, facts.st_mode & 0777) != 0) {
        return errno == EEXIST ? DR_OK : dr_fail_errno(err, errno, "make the folder", whole);
    }
    if (geteuid() != facts.st_uid && chown(whole, facts.st_uid, facts.st_gid) != 0) {
        return dr_fail_errno(err, errno, "give away the folder", whole);
    }
    return DR_OK;
}

/* An empty folder of a cluster that is gone is of no use; anything in it keeps it. */
static void remove_path(struct mt_store *s, const char *path, struct dr_arena *a)
{
    const char *data_dir, *binary;
    if (mt_settings(s, a, &data_dir, &binary, NULL) == DR_OK && data_dir[0] == '/') {
        char *whole = dr_arena_printf(a, "%s/%s", data_dir, path);
        if (whole != NULL) {
            (void)rmdir(whole);
        }
    }
}

static enum dr_code fail_path(const struct mt_store *s, const struct mt_command *c,
                              const char *folder, struct dr_err *err)
{
    return dr_fail(err, DR_INPUT,
                   "Manticore node %s needs the folder %s%s before it can %s cluster %s: run "
                   "\"mkdir %s%s\" on host %s as the user of searchd",
                   s->shown, folder == NULL ? "DATA_DIR/" : "", folder == NULL ? c->path : folder,
                   c->verb == MT_JOIN_CLUSTER ? "join" : "make", c->cluster,
                   folder == NULL ? "DATA_DIR/" : "", folder == NULL ? c->path : folder, s->host);
}

/* --- clusters ----------------------------------------------------------------------------------
 */

/* A cluster of that name is there: is it the one that was meant? */
static enum dr_code compare_cluster(struct mt_store *s, const struct mt_command *c,
                                    const struct mt_cluster *there, struct dr_err *err)
{
    if (!mt_cluster_is_ready(there)) {
        return fail_state(s, there, err);
    }
    if (c->verb == MT_JOIN_CLUSTER && there->size < 2 && !mt_list_has(there->nodes_view, c->at) &&
        !mt_list_has(there->nodes_set, c->at)) {
        return dr_fail(
            err, DR_EXISTS,
            "Manticore node %s has a cluster %s of its own, which has nothing to do with "
            "the one at %s",
            s->shown, c->cluster, c->at);
    }
    return DR_OK;
}

static enum dr_code make_cluster(struct mt_store *s, const struct mt_command *c, struct dr_arena *a,
                                 struct dr_err *err)
{
    struct mt_cluster *there = NULL;
    const char *folder = NULL;
    enum dr_code rc = mt_cluster_read(s, c->cluster, a, &there, err);
    if (rc == DR_OK && there != NULL) {
        return compare_cluster(s, c, there, err);
    }
    if (rc == DR_OK && c->path != NULL) {
        rc = make_path(s, c->path, a, &folder, err);
    }
    rc = rc == DR_OK ? mt_change(s, c->text, err) : rc;
    if (rc == DR_INPUT && err != NULL && strstr(err->msg, "cannot access directory") != NULL &&
        c->path != NULL) {
        return fail_path(s, c, folder, err);
    }
    return rc;
}

/* Send the statement for those tables only that are not as wanted yet. */
static enum dr_code alter_tables(struct mt_store *s, const struct mt_command *c, struct dr_arena *a,
                                 struct dr_err *err)
{
    bool is_add = c->verb == MT_ALTER_ADD;
    struct mt_cluster *there = NULL;
    struct dr_str sql;
    enum dr_code rc = mt_cluster_read(s, c->cluster, a, &there, err);
    if (rc != DR_OK || (there == NULL && !is_add)) {
        return rc; /* a cluster that is not there has no tables */
    }
    if (there == NULL) {
        return dr_fail(err, DR_NOT_FOUND, "Manticore node %s is in no cluster %s", s->shown,
                       c->cluster);
    }
    uint32_t left = 0;
    dr_str_init(&sql);
    dr_str_addf(&sql, "ALTER CLUSTER %s %s ", c->cluster, is_add ? "ADD" : "DROP");
    for (uint32_t i = 0; i < c->table_count; i++) {
        if (mt_list_has(there->tables, c->table[i]) != is_add) {
            dr_str_addf(&sql, "%s%s", left++ > 0 ? "," : "", c->table[i]);
        }
    }
    if (left > 0 && !mt_cluster_is_ready(there)) {
        rc = fail_state(s, there, err);
    } else if (left > 0) {
        rc = sql.is_short ? dr_fail_nomem(err) : mt_change(s, dr_str_text(&sql), err);
    }
    dr_str_fini(&sql);
    return rc;
}

static enum dr_code delete_cluster(struct mt_store *s, const struct mt_command *c,
                                   struct dr_arena *a, struct dr_err *err)
{
    struct mt_cluster *there = NULL;
    enum dr_code rc = mt_cluster_read(s, c->cluster, a, &there, err);
    if (rc == DR_OK && there != NULL) {
        rc = mt_change(s, c->text, err);
    }
    if (rc == DR_OK) {
        remove_path(s, c->cluster, a);
    }
    return rc;
}

enum dr_code mt_exit_cluster(struct mt_store *s, const char *cluster, struct dr_arena *a,
                             struct dr_err *err)
{
    struct mt_cluster *there = NULL;
    enum dr_code rc = mt_cluster_read(s, cluster, a, &there, err);
    if (rc == DR_OK && there != NULL) {
        /* Deleted elsewhere meanwhile: then only this node has it, and only DELETE is allowed. */
        bool is_orphan = strcmp(there->status, "recovery-required") == 0;
        char *sql = dr_arena_printf(a, "%s CLUSTER %s", is_orphan ? "DELETE" : "EXIT", cluster);
        if (!is_orphan && !mt_cluster_is_ready(there)) {
            return fail_state(s, there, err);
        }
        rc = sql == NULL ? dr_fail_nomem(err) : mt_change(s, sql, err);
    }
    if (rc == DR_OK) {
        remove_path(s, cluster, a);
    }
    return rc;
}

static enum dr_code update_nodes(struct mt_store *s, const struct mt_command *c, struct dr_arena *a,
                                 struct dr_err *err)
{
    struct mt_cluster *there = NULL;
    enum dr_code rc = need_cluster(s, c->cluster, true, a, &there, err);
    return rc == DR_OK ? mt_change(s, c->text, err) : rc;
}

static enum dr_code bootstrap(struct mt_store *s, const struct mt_command *c, struct dr_arena *a,
                              struct dr_err *err)
{
    struct mt_cluster *there = NULL;
    enum dr_code rc = need_cluster(s, c->cluster, false, a, &there, err);
    if (rc != DR_OK || strcmp(there->status, "primary") == 0) {
        return rc;
    }
    return strcmp(there->status, "recovery-required") == 0 ? fail_state(s, there, err)
                                                           : mt_change(s, c->text, err);
}

static enum dr_code run_one(struct mt_store *s, const struct mt_command *c, struct dr_arena *a,
                            struct dr_err *err)
{
    switch (c->verb) {
    case MT_CREATE_TABLE:
    case MT_CREATE_WRAPPER:
        return create_table(s, c, a, err);
    case MT_DROP_TABLE:
        return drop_table(s, c, a, err);
    case MT_CREATE_CLUSTER:
    case MT_JOIN_CLUSTER:
        return make_cluster(s, c, a, err);
    case MT_ALTER_ADD:
    case MT_ALTER_DROP:
        return alter_tables(s, c, a, err);
    case MT_ALTER_UPDATE:
        return update_nodes(s, c, a, err);
    case MT_DELETE_CLUSTER:
        return delete_cluster(s, c, a, err);
    case MT_EXIT_CLUSTER:
        return mt_exit_cluster(s, c->cluster, a, err);
    case MT_BOOTSTRAP:
        return bootstrap(s, c, a, err);
    case MT_WAIT_SYNCED:
        return mt_wait_synced(s, c, a, err);
    case MT_WAIT_UNUSED:
        return mt_wait_unused(s, c, a, err);
    case MT_SAME_COUNT:
        return mt_same_count(s, c, a, err);
    case MT_DROP_SHARD:
        return mt_drop_shard(s, c, a, err);
    case MT_PUBLISH:
        return mt_publish(s, c, a, err);
    case MT_WITHDRAW:
        return mt_withdraw(s, c, a, err);
    case MT_LEAVE:
        return mt_leave(s, c, a, err);
    }
    return dr_fail(err, DR_INTERNAL, "a Manticore command of no kind");
}

/* What a command works on and cannot do without. */
static enum dr_code check_there(struct mt_store *s, const struct mt_command *c, struct dr_arena *a,
                                struct dr_err *err)
{
    struct mt_cluster *cluster = NULL;
    enum dr_code rc = DR_OK;
    if (c->verb == MT_ALTER_ADD || c->verb == MT_ALTER_UPDATE || c->verb == MT_BOOTSTRAP ||
        c->verb == MT_WAIT_SYNCED) {
        rc = need_cluster(s, c->cluster, false, a, &cluster, err);
    }
    for (uint32_t i = 0; rc == DR_OK && c->verb == MT_ALTER_ADD && i < c->table_count; i++) {
        const struct mt_command *there = NULL;
        rc = mt_table_read(s, c->table[i], a, &there, err);
        if (rc == DR_OK && there == NULL) {
            rc = dr_fail(err, DR_NOT_FOUND, "Manticore node %s has no table %s to add", s->shown,
                         c->table[i]);
        }
    }
    return rc;
}

static enum dr_code note_nothing(void *arg, const char *const *cell, const char *const *name,
                                 uint32_t count, struct dr_err *err)
{
    (void)arg, (void)cell, (void)name, (void)count, (void)err;
    return DR_OK;
}

static enum dr_code for_each(struct mt_store *s, const char *text, bool is_check, bool is_now,
                             struct dr_err *err)
{
    const struct mt_command *c = NULL;
    struct dr_arena *a = dr_arena_create(BLOCK_BYTES);
    const char *rest = text;
    uint32_t count = 0;
    enum dr_code rc = a == NULL ? dr_fail_nomem(err) : DR_OK;
    while (rc == DR_OK && (rc = mt_parse_next(&rest, a, &c, err)) == DR_OK && c != NULL) {
        count++;
        if (!is_check) {
            rc = run_one(s, c, a, err);
        } else if (is_now) {
            rc = mt_ask(s, "SHOW STATUS LIKE 'uptime'", note_nothing, NULL, err);
            rc = rc == DR_OK ? check_there(s, c, a, err) : rc;
        }
    }
    if (rc == DR_OK && count == 0) {
        rc = dr_fail(err, DR_INPUT, "an empty command for Manticore node %s", s->shown);
    }
    dr_arena_destroy(a);
    return rc;
}

enum dr_code mt_command(void *impl, const char *node, const char *text, struct dr_err *err)
{
    struct dr_err mine;
    (void)node; /* a handle is one node */
    /* A later command of several must not run because an earlier one was misread. */
    enum dr_code rc = for_each(impl, text, true, false, err);
    return rc == DR_OK ? for_each(impl, text, false, false, err == NULL ? &mine : err) : rc;
}

enum dr_code mt_check(void *impl, const char *node, const char *text, bool is_now,
                      struct dr_err *err)
{
    (void)node;
    return for_each(impl, text, true, is_now, err);
}
