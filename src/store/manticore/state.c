/* SPDX-License-Identifier: Apache-2.0 */
/* What a node has now: clusters by SHOW STATUS (there is no other list of them), tables by SHOW
 * CREATE TABLE, folders and addresses by SHOW SETTINGS. */
#include <stdlib.h>
#include <string.h>

#include "store/manticore/manticore_private.h"

enum { PREFIX_BYTES = 8, SQL_BYTES = 512, COUNTERS = 6 };

struct clusters {
    struct dr_arena *arena;
    struct mt_cluster *cluster;
    uint32_t count, room;
    const char *only; /* name, or NULL: all */
};

static struct mt_cluster *find_or_add(struct clusters *all, const char *name, size_t bytes)
{
    for (uint32_t i = 0; i < all->count; i++) {
        if (strlen(all->cluster[i].name) == bytes &&
            memcmp(all->cluster[i].name, name, bytes) == 0) {
            return &all->cluster[i];
        }
    }
    if (all->count == all->room) {
        uint32_t room = all->room == 0 ? 4 : 2 * all->room;
        struct mt_cluster *more = dr_arena_alloc(all->arena, room * sizeof *more);
        if (more == NULL) {
            return NULL;
        }
        if (all->count > 0) {
            memcpy(more, all->cluster, all->count * sizeof *more);
        }
        all->cluster = more;
        all->room = room;
    }
    char *copy = dr_arena_printf(all->arena, "%.*s", (int)bytes, name);
    if (copy == NULL) {
        return NULL;
    }
    struct mt_cluster *c = &all->cluster[all->count++];
    *c = (struct mt_cluster){copy, "", "", "", "", "", "", 0};
    return c;
}

static enum dr_code set_counter(struct clusters *all, struct mt_cluster *c, size_t which,
                                const char *value, struct dr_err *err)
{
    const char **to[COUNTERS] = {&c->node_state, &c->nodes_set,  &c->nodes_view,
                                 &c->tables,     &c->last_error, &c->status};
    *to[which] = dr_arena_strdup(all->arena, value);
    return *to[which] == NULL ? dr_fail_nomem(err) : DR_OK;
}

/* "cluster_<name>_node_state": a name may hold underscores itself, so the end is what is known. */
static enum dr_code note_counter(void *arg, const char *const *cell, const char *const *name,
                                 uint32_t count, struct dr_err *err)
{
    static const char *const ends[COUNTERS] = {"_node_state", "_nodes_set",  "_nodes_view",
                                               "_indexes",    "_last_error", "_status"};
    struct clusters *all = arg;
    (void)name;
    if (count < 2 || cell[0] == NULL || strncmp(cell[0], "cluster_", PREFIX_BYTES) != 0) {
        return DR_OK;
    }
    const char *from = cell[0] + PREFIX_BYTES;
    const char *value = cell[1] == NULL ? "" : cell[1];
    size_t bytes = strlen(from);
    for (size_t i = 0; i <= COUNTERS; i++) {
        const char *end = i < COUNTERS ? ends[i] : "_size";
        size_t end_bytes = strlen(end);
        if (bytes <= end_bytes || strcmp(from + bytes - end_bytes, end) != 0) {
            continue;
        }
        size_t name_bytes = bytes - end_bytes;
        if (all->only != NULL &&
            (strlen(all->only) != name_bytes || strncmp(all->only, from, name_bytes) != 0)) {
            continue;
        }
        struct mt_cluster *c = find_or_add(all, from, name_bytes);
        if (c == NULL) {
            return dr_fail_nomem(err);
        }
        if (i == COUNTERS) {
            (void)dr_parse_u64(value, &c->size);
            return DR_OK;
        }
        return set_counter(all, c, i, value, err);
    }
    return DR_OK;
}

static int compare_clusters(const void *a, const void *b)
{
    return strcmp(((const struct mt_cluster *)a)->name, ((const struct mt_cluster *)b)->name);
}

enum dr_code mt_clusters_read(struct mt_store *s, struct dr_arena *a, struct mt_cluster **out,
                              uint32_t *count_out, struct dr_err *err)
{
    struct clusters all = {.arena = a};
    *out = NULL;
    *count_out = 0;
    enum dr_code rc = mt_ask(s, "SHOW STATUS LIKE 'cluster%'", note_counter, &all, err);
    if (rc != DR_OK) {
        return rc;
    }
    /* A counter of Galera that happens to end alike makes no cluster: only one with a state is. */
    for (uint32_t i = 0; i < all.count; i++) {
        if (all.cluster[i].node_state[0] != '\0') {
            all.cluster[(*count_out)++] = all.cluster[i];
        }
    }
    if (*count_out > 0) {
        qsort(all.cluster, *count_out, sizeof *all.cluster, compare_clusters);
    }
    *out = all.cluster;
    return DR_OK;
}

enum dr_code mt_cluster_read(struct mt_store *s, const char *name, struct dr_arena *a,
                             struct mt_cluster **out, struct dr_err *err)
{
    struct clusters all = {.arena = a, .only = name};
    *out = NULL;
    char *sql = dr_arena_printf(a, "SHOW STATUS LIKE 'cluster_%s_%%'", name);
    enum dr_code rc = sql == NULL ? dr_fail_nomem(err) : mt_ask(s, sql, note_counter, &all, err);
    if (rc == DR_OK && all.count > 0 && all.cluster[0].node_state[0] != '\0') {
        *out = all.cluster; /* the arena has it */
    }
    return rc;
}

bool mt_cluster_is_ready(const struct mt_cluster *c)
{
    return strcmp(c->status, "primary") == 0 && strcmp(c->node_state, "synced") == 0;
}

enum dr_code mt_cluster_of(struct mt_store *s, const char *table, struct dr_arena *a,
                           struct mt_cluster **out, struct dr_err *err)
{
    struct mt_cluster *all = NULL;
    uint32_t count = 0;
    *out = NULL;
    enum dr_code rc = mt_clusters_read(s, a, &all, &count, err);
    for (uint32_t i = 0; rc == DR_OK && i < count; i++) {
        if (mt_list_has(all[i].tables, table)) {
            *out = &all[i];
        }
    }
    return rc;
}

struct shown {
    struct dr_arena *arena;
    const struct mt_command *table;
};

static enum dr_code note_shown(void *arg, const char *const *cell, const char *const *name,
                               uint32_t count, struct dr_err *err)
{
    struct shown *shown = arg;
    (void)name;
    if (count < 2 || cell[1] == NULL) {
        return dr_fail(err, DR_INTERNAL, "SHOW CREATE TABLE answers without a statement");
    }
    char *text = dr_arena_strdup(shown->arena, cell[1]);
    return text == NULL ? dr_fail_nomem(err)
                        : mt_parse_shown(text, shown->arena, &shown->table, err);
}

enum dr_code mt_table_read(struct mt_store *s, const char *table, struct dr_arena *a,
                           const struct mt_command **out, struct dr_err *err)
{
    struct shown shown = {.arena = a};
    bool is_system = strncmp(table, "system.", 7) == 0;
    *out = NULL;
    /* Shards live in "system", what people use does not; only wrappers understand the option. */
    char *sql =
        dr_arena_printf(a, "SHOW CREATE TABLE %s%s", table, is_system ? "" : " OPTION force=1");
    enum dr_code rc = sql == NULL ? dr_fail_nomem(err) : mt_ask(s, sql, note_shown, &shown, err);
    if (rc == DR_NOT_FOUND) {
        dr_err_clear(err);
        return DR_OK;
    }
    *out = shown.table;
    return rc;
}

struct settings {
    struct dr_arena *arena;
    const char *data_dir, *binary;
};

/* The first listener that is neither MySQL's nor HTTP's: "[host:]port". */
static enum dr_code note_listen(struct settings *t, const char *value, struct dr_err *err)
{
    const char *last = strrchr(value, ':');
    const char *port = last == NULL ? value : last + 1;
    if (t->binary[0] != '\0' || strspn(port, "0123456789") != strlen(port) || *port == '\0') {
        return DR_OK;
    }
    t->binary = last == NULL ? dr_arena_printf(t->arena, "127.0.0.1:%s", value)
                             : dr_arena_strdup(t->arena, value);
    return t->binary == NULL ? dr_fail_nomem(err) : DR_OK;
}

static enum dr_code note_setting(void *arg, const char *const *cell, const char *const *name,
                                 uint32_t count, struct dr_err *err)
{
    struct settings *t = arg;
    (void)name;
    if (count < 2 || cell[0] == NULL || cell[1] == NULL) {
        return DR_OK;
    }
    if (strcmp(cell[0], "searchd.listen") == 0) {
        return note_listen(t, cell[1], err);
    }
    if (strcmp(cell[0], "searchd.data_dir") == 0) {
        t->data_dir = dr_arena_strdup(t->arena, cell[1]);
        return t->data_dir == NULL ? dr_fail_nomem(err) : DR_OK;
    }
    return DR_OK;
}

enum dr_code mt_settings(struct mt_store *s, struct dr_arena *a, const char **data_dir,
                         const char **binary, struct dr_err *err)
{
    struct settings t = {.arena = a, .data_dir = "", .binary = ""};
    enum dr_code rc = mt_ask(s, "SHOW SETTINGS", note_setting, &t, err);
    *data_dir = t.data_dir;
    /* A listener on all addresses is no address to join: the host by which we know the node is. */
    if (rc == DR_OK && strncmp(t.binary, "0.0.0.0:", 8) == 0) {
        t.binary = dr_arena_printf(a, "%s:%s", s->host, t.binary + 8);
    }
    *binary = s->binary != NULL ? s->binary : t.binary;
    return rc == DR_OK && *binary == NULL ? dr_fail_nomem(err) : rc;
}

static enum dr_code note_table(void *arg, const char *const *cell, const char *const *name,
                               uint32_t count, struct dr_err *err)
{
    (void)name;
    return count > 0 && cell[0] != NULL && json_array_append_new(arg, json_string(cell[0])) != 0
               ? dr_fail_nomem(err)
               : DR_OK;
}

enum dr_code mt_table_names(struct mt_store *s, bool is_system, json_t *into, struct dr_err *err)
{
    return mt_ask(s, is_system ? "SHOW TABLES FROM system" : "SHOW TABLES", note_table, into, err);
}
