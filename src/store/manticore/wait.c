/* SPDX-License-Identifier: Apache-2.0 */
/* Commands that wait until something is so. Each waits a little and then says DR_BUSY: the queue
 * asks again. */
#include <stdio.h>
#include <string.h>

#include "base/backoff.h"
#include "base/clock.h"
#include "store/manticore/manticore_private.h"

enum { WAIT_MS = 2000, STEP_MS = 20 };

enum dr_code mt_wait_synced(struct mt_store *s, const struct mt_command *c, struct dr_arena *a,
                            struct dr_err *err)
{
    dr_mono_ms end = dr_mono_now() + WAIT_MS;
    for (;;) {
        struct mt_cluster *there = NULL;
        enum dr_code rc = mt_cluster_read(s, c->cluster, a, &there, err);
        if (rc != DR_OK) {
            return rc;
        }
        bool is_out =
            there == NULL || c->without == NULL || !mt_list_has(there->nodes_view, c->without);
        if (there != NULL && mt_cluster_is_ready(there) && there->size >= c->size && is_out) {
            return DR_OK;
        }
        if (dr_mono_now() >= end) {
            return dr_fail(err, DR_BUSY,
                           "Manticore node %s: cluster %s is %s, %s with %llu members, wanted: "
                           "primary, synced with %llu%s%s",
                           s->shown, c->cluster, there == NULL ? "not there" : there->status,
                           there == NULL ? "not there" : there->node_state,
                           (unsigned long long)(there == NULL ? 0 : there->size),
                           (unsigned long long)c->size, c->without == NULL ? "" : ", without ",
                           c->without == NULL ? "" : c->without);
        }
        (void)dr_wait_ms(STEP_MS, NULL, NULL);
    }
}

/* --- wait-unused -------------------------------------------------------------------------------
 */
struct session {
    const char *conn, *text;
    double seconds; /* since the statement began */
    bool is_past;
};

struct sessions {
    struct dr_arena *arena;
    const char *table;
    struct session *session;
    uint32_t count, room;
};

/* The table's name as a whole word. */
static bool names_table(const char *text, const char *table)
{
    size_t bytes = strlen(table);
    for (const char *p = strcasestr(text, table); p != NULL; p = strcasestr(p + 1, table)) {
        bool is_start = p == text || strchr(" \t\r\n`,:.(", p[-1]) != NULL;
        bool is_end = p[bytes] == '\0' || strchr(" \t\r\n`,:;()=", p[bytes]) != NULL;
        if (is_start && is_end) {
            return true;
        }
    }
    return false;
}

static const char *cell_of(const char *const *cell, const char *const *name, uint32_t count,
                           const char *wanted)
{
    for (uint32_t i = 0; i < count; i++) {
        if (strcasecmp(name[i], wanted) == 0) {
            return cell[i] == NULL ? "" : cell[i];
        }
    }
    return "";
}

/* "0.000123", "573us", "4ms" or "2s". */
static double seconds_of(const char *text)
{
    double n = 0;
    char unit[4] = "";
    int got = sscanf(text, "%lf%3s", &n, unit); /* NOLINT(cert-err34-c) */
    if (got < 1) {
        return 0;
    }
    return strcmp(unit, "us") == 0 ? n / 1e6 : strcmp(unit, "ms") == 0 ? n / 1e3 : n;
}

static enum dr_code note_session(void *arg, const char *const *cell, const char *const *name,
                                 uint32_t count, struct dr_err *err)
{
    struct sessions *all = arg;
    const char *state = cell_of(cell, name, count, "state");
    const char *text = cell_of(cell, name, count, "last cmd");
    /* A session that waits for its client has ended its statement. */
    bool is_idle = strcasestr(state, "idle") != NULL || strcasestr(state, "net_") != NULL;
    if (is_idle || !names_table(text, all->table)) {
        return DR_OK;
    }
    if (all->count == all->room) {
        uint32_t room = all->room == 0 ? 16 : 2 * all->room;
        struct session *more = dr_arena_alloc(all->arena, room * sizeof *more);
        if (more == NULL) {
            return dr_fail_nomem(err);
        }
        if (all->count > 0) {
            memcpy(more, all->session, all->count * sizeof *more);
        }
        all->session = more;
        all->room = room;
    }
    struct session one = {.conn = dr_arena_strdup(all->arena, cell_of(cell, name, count, "connid")),
                          .text = dr_arena_strdup(all->arena, text),
                          .seconds = seconds_of(cell_of(cell, name, count, "last cmd time"))};
    if (one.conn == NULL || one.text == NULL) {
        return dr_fail_nomem(err);
    }
    all->session[all->count++] = one;
    return DR_OK;
}

static enum dr_code read_sessions(struct mt_store *s, const char *table, struct dr_arena *a,
                                  struct sessions *out, struct dr_err *err)
{
    *out = (struct sessions){.arena = a, .table = table};
    return mt_ask(s, "SELECT * FROM @@system.sessions LIMIT 100000", note_session, out, err);
}

/* Is this very statement still running? The same text with less time behind it is a later one. */
static bool still_runs(const struct session *one, const struct sessions *now)
{
    for (uint32_t i = 0; i < now->count; i++) {
        const struct session *n = &now->session[i];
        if (strcmp(n->conn, one->conn) == 0) {
            return strcmp(n->text, one->text) == 0 && n->seconds >= one->seconds;
        }
    }
    return false;
}

/* Statements that began before the wrapper was made anew may still send rows to the old holders.
 * Those that run now are waited for; whatever begins from here on knows the new wrapper. */
enum dr_code mt_wait_unused(struct mt_store *s, const struct mt_command *c, struct dr_arena *a,
                            struct dr_err *err)
{
    struct sessions first;
    dr_mono_ms end = dr_mono_now() + WAIT_MS;
    enum dr_code rc = read_sessions(s, c->table[0], a, &first, err);
    uint32_t left = first.count;
    while (rc == DR_OK && left > 0) {
        struct sessions now;
        if (dr_mono_now() >= end) {
            return dr_fail(err, DR_BUSY,
                           "Manticore node %s: %u statements on the former %s still run", s->shown,
                           left, c->table[0]);
        }
        (void)dr_wait_ms(STEP_MS, NULL, NULL);
        rc = read_sessions(s, c->table[0], a, &now, err);
        left = 0;
        for (uint32_t i = 0; rc == DR_OK && i < first.count; i++) {
            struct session *one = &first.session[i];
            one->is_past = one->is_past || !still_runs(one, &now);
            left += !one->is_past;
        }
    }
    return rc;
}
