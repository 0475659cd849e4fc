/* SPDX-License-Identifier: Apache-2.0 */
/* Owns every statement that a purge sends to the token server's database.
 *
 * The table is the queue. Several purgers may work on it: nothing is locked while a node is asked,
 * so two of them at most ask a node twice, which a deletion bears; the record's own DELETE and the
 * deferral name the replaced_at that was read, so neither undoes what the other one did. */
#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/backoff.h"
#include "base/fault.h"
#include "base/mem.h"
#include "base/str.h"
#include "tokenserver/purge_private.h"
#include "tokenserver/token.h"

enum {
    ACTIVE_ROWS_MAX = 20, /* as the reference looks at */
    STATEMENT_TRIES_MAX = 5,
    PARAMS_MAX = 8,
    FETCH_COLUMNS = 10,
};

/* A statement under construction with its parameters. */
struct statement {
    struct dr_str sql;
    struct dr_value param[PARAMS_MAX];
    uint32_t param_count;
};

static void add_param(struct statement *s, int64_t value)
{
    assert(s->param_count < PARAMS_MAX);
    s->param[s->param_count++] = (struct dr_value){.type = DR_V_INT, .i = value};
}

/* ---- reading values ---- */

static enum dr_code read_int(const struct dr_value *v, const char *what, int64_t *out,
                             struct dr_err *err)
{
    if (v->type != DR_V_INT) {
        return dr_fail(err, DR_CORRUPT,
                       "column %s of the token server's table is no 64-bit number; is this the "
                       "token server's database?",
                       what);
    }
    *out = v->i;
    return DR_OK;
}

static size_t text_bytes(const struct dr_value *v)
{
    return v->type == DR_V_TEXT || v->type == DR_V_BLOB ? v->len : 0;
}

/* Copy text with a NUL behind it to `to`, and say where the next one goes. */
static char *put_text(char *to, const struct dr_value *v)
{
    size_t len = text_bytes(v);
    if (len > 0) {
        memcpy(to, v->data, len);
    }
    to[len] = '\0';
    return to + len + 1;
}

static char *take_text(const struct dr_value *v)
{
    char *text = dr_malloc(text_bytes(v) + 1);
    if (text != NULL) {
        (void)put_text(text, v);
    }
    return text;
}

/* ---- what is eligible ---- */

/* PostgreSQL has no implicit comparison of a boolean with a number, and the column is either. */
static const char *downed_text(const struct dr_tokenserver *t)
{
    return dr_sqldb_info(t->db)->dialect == DR_SQL_POSTGRES ? "n.downed::int" : "n.downed";
}

static void add_eligible(const struct dr_tokenserver *t, struct statement *s)
{
    dr_str_add(&s->sql, " FROM users u LEFT JOIN nodes n ON n.id = u.nodeid"
                        " WHERE u.service = ? AND u.replaced_at IS NOT NULL AND u.replaced_at < ?");
    add_param(s, t->service_id);
    add_param(s, t->cutoff);
    if (t->o.has_range_start) {
        dr_str_addf(&s->sql, " AND u.uid > %" PRId64, t->o.range_start);
    }
    if (t->o.has_range_end) {
        dr_str_addf(&s->sql, " AND u.uid <= %" PRId64, t->o.range_end);
    }
}

static enum dr_code take_counts(void *arg, const struct dr_value *value, uint32_t count,
                                struct dr_err *err)
{
    struct dr_tokenserver_result *result = arg;
    int64_t all = 0, downed = 0;
    assert(count == 2);
    enum dr_code rc = read_int(&value[0], "count", &all, err);
    if (rc == DR_OK) {
        rc = read_int(&value[1], "count", &downed, err);
    }
    result->backlog = (uint64_t)all;
    result->skipped_downed = (uint64_t)downed;
    return rc;
}

static enum dr_code find_service(struct dr_tokenserver *t, struct dr_err *err)
{
    const struct dr_value name = {
        .type = DR_V_TEXT, .data = DR_PURGE_SERVICE, .len = strlen(DR_PURGE_SERVICE)};
    struct dr_value id = {0};
    bool is_found = false;
    struct dr_arena *a = dr_arena_create(256);
    if (a == NULL) {
        return dr_fail_nomem(err);
    }
    enum dr_code rc = dr_sqldb_value(t->db, "SELECT id FROM services WHERE service = ?", &name, 1,
                                     a, &id, &is_found, err);
    if (rc == DR_OK && !is_found) {
        rc = dr_fail(err, DR_NOT_FOUND,
                     "table services has no service \"%s\"; is this the token server's database?",
                     DR_PURGE_SERVICE);
    }
    if (rc == DR_OK) {
        rc = read_int(&id, "services.id", &t->service_id, err);
    }
    dr_arena_destroy(a);
    return rc;
}

enum dr_code dr_purge_survey(struct dr_tokenserver *t, struct dr_err *err)
{
    struct statement s = {0};
    dr_str_init(&s.sql);
    enum dr_code rc = find_service(t, err);
    if (rc != DR_OK) {
        goto out;
    }
    dr_str_addf(&s.sql, "SELECT COUNT(*), COUNT(CASE WHEN %s <> 0 THEN 1 END)", downed_text(t));
    add_eligible(t, &s);
    if (s.sql.is_short) {
        rc = dr_fail_nomem(err);
        goto out;
    }
    rc = dr_sqldb_query(t->db, s.sql.data, s.param, s.param_count, take_counts, &t->result, err);
    if (t->o.is_forced) {
        t->result.skipped_downed = 0;
    }
out:
    dr_str_fini(&s.sql);
    return rc;
}

/* ---- fetching ---- */

bool dr_purge_is_same_batch(const int64_t *before, size_t before_count, const int64_t *now,
                            size_t now_count)
{
    return now_count > 0 && before_count == now_count &&
           memcmp(before, now, now_count * sizeof *now) == 0;
}

void dr_purge_scan_fini(struct dr_purge_scan *scan)
{
    dr_free(scan->previous);
    *scan = (struct dr_purge_scan){0};
}

struct fetch {
    struct dr_tokenserver *t;
    struct dr_purge_scan *scan;
    int64_t *uid;
    size_t count, room;
    struct dr_purge_key last;
};

static int compare_uids(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return x < y ? -1 : x > y;
}

/* With a negative grace period a deferred row is still eligible, and further on in the walk. */
static bool was_deferred(const struct dr_tokenserver *t, int64_t uid)
{
    return t->deferred_count > 0 &&
           bsearch(&uid, t->deferred, t->deferred_count, sizeof *t->deferred, compare_uids) != NULL;
}

static enum dr_code note_uid(struct fetch *f, int64_t uid, struct dr_err *err)
{
    if (f->count == f->room) {
        size_t room = f->room == 0 ? 16 : f->room * 2;
        int64_t *more = dr_realloc(f->uid, room * sizeof *more);
        if (more == NULL) {
            return dr_fail_nomem(err);
        }
        f->uid = more;
        f->room = room;
    }
    f->uid[f->count++] = uid;
    return DR_OK;
}

/* uid, replaced_at, generation, keys_changed_at, email, client_state, nodeid, node, downed */
static enum dr_code read_row(const struct dr_value *v, struct dr_purge_row **out,
                             struct dr_err *err)
{
    struct dr_purge_row *row =
        dr_calloc(1, sizeof *row + text_bytes(&v[4]) + text_bytes(&v[5]) + 2);
    *out = NULL;
    if (row == NULL) {
        return dr_fail_nomem(err);
    }
    enum dr_code rc = read_int(&v[0], "uid", &row->uid, err);
    if (rc == DR_OK) {
        rc = read_int(&v[1], "replaced_at", &row->replaced_at, err);
    }
    if (rc == DR_OK) {
        rc = read_int(&v[2], "generation", &row->generation, err);
    }
    row->has_keys_changed_at = v[3].type != DR_V_NULL;
    if (rc == DR_OK && row->has_keys_changed_at) {
        rc = read_int(&v[3], "keys_changed_at", &row->keys_changed_at, err);
    }
    if (rc != DR_OK) {
        dr_free(row);
        return rc;
    }
    row->email = row->text;
    char *next = put_text(row->text, &v[4]);
    row->client_state = next;
    (void)put_text(next, &v[5]);
    *out = row;
    return DR_OK;
}

/* Put the row into the queue of the node that will be asked. */
static enum dr_code route_row(struct dr_tokenserver *t, struct dr_purge_row *row,
                              const struct dr_value *v, struct dr_err *err)
{
    int64_t node_id = 0, downed = 0;
    struct dr_purge_node *node = NULL;
    enum dr_code rc = read_int(&v[6], "nodeid", &node_id, err);
    if (rc == DR_OK) {
        rc = read_int(&v[8], "downed", &downed, err);
    }
    if (rc != DR_OK) {
        return rc;
    }
    row->is_forced = downed != 0;
    bool is_override = row->is_forced && t->override_node != NULL;
    char *url = is_override ? dr_strdup(t->override_node) : take_text(&v[7]);
    if (url == NULL) {
        return dr_fail_nomem(err);
    }
    rc = dr_purge_find_node(t, node_id, url, is_override, &node, err);
    dr_free(url);
    if (rc == DR_OK) {
        row->node = node;
        dr_purge_list_push(&node->fresh, row);
    }
    return rc;
}

static enum dr_code take_row(void *arg, const struct dr_value *value, uint32_t count,
                             struct dr_err *err)
{
    struct fetch *f = arg;
    struct dr_purge_row *row = NULL;
    assert(count == FETCH_COLUMNS);
    enum dr_code rc = read_row(value, &row, err);
    if (rc != DR_OK) {
        return rc;
    }
    rc = note_uid(f, row->uid, err);
    f->last = (struct dr_purge_key){row->replaced_at, row->uid};
    if (rc == DR_OK && !f->scan->has_first) {
        f->scan->has_first = true;
        f->scan->first = f->last;
    }
    if (rc != DR_OK || was_deferred(f->t, row->uid)) {
        dr_free(row);
        return rc;
    }
    if (value[9].type == DR_V_NULL) { /* no such node any more */
        return dr_purge_confirm(f->t, row, DR_PURGE_NODELESS, err);
    }
    rc = route_row(f->t, row, value, err);
    if (rc != DR_OK) {
        dr_free(row);
    }
    return rc;
}

/* Nodes that walk their own rows are left out of the main walk, so that rows which cannot be worked
 * on are not fetched again and again. */
static void add_left_out(const struct dr_tokenserver *t, struct statement *s)
{
    bool is_first = true;
    for (size_t i = 0; i < t->node_count; i++) {
        const struct dr_purge_node *n = t->node[i];
        if (!n->has_scan) {
            continue;
        }
        if (n->is_override) {
            dr_str_addf(&s->sql, " AND (n.id IS NULL OR %s = 0)", downed_text(t));
        }
    }
    for (size_t i = 0; i < t->node_count; i++) {
        const struct dr_purge_node *n = t->node[i];
        if (!n->has_scan || n->is_override) {
            continue;
        }
        dr_str_addf(&s->sql, "%s%" PRId64, is_first ? " AND (n.id IS NULL OR n.id NOT IN (" : ", ",
                    n->id);
        is_first = false;
    }
    dr_str_add(&s->sql, is_first ? "" : "))");
}

static void add_node(const struct dr_tokenserver *t, const struct dr_purge_node *n,
                     struct statement *s)
{
    if (n->is_override) {
        dr_str_addf(&s->sql, " AND %s <> 0", downed_text(t));
    } else {
        dr_str_addf(&s->sql, " AND u.nodeid = %" PRId64 " AND n.id IS NOT NULL", n->id);
        if (t->o.is_forced && t->override_node != NULL) {
            dr_str_addf(&s->sql, " AND %s = 0", downed_text(t)); /* those are the override's */
        }
    }
}

static void write_fetch(const struct dr_tokenserver *t, const struct dr_purge_node *node,
                        const struct dr_purge_scan *scan, struct statement *s)
{
    dr_str_addf(&s->sql,
                "SELECT u.uid, u.replaced_at, u.generation, u.keys_changed_at, u.email,"
                " u.client_state, u.nodeid, n.node, %s, n.id",
                downed_text(t));
    add_eligible(t, s);
    if (!t->o.is_forced) {
        dr_str_addf(&s->sql, " AND (n.id IS NULL OR %s = 0)", downed_text(t));
    }
    if (node == NULL) {
        add_left_out(t, s);
    } else {
        add_node(t, node, s);
    }
    if (scan->has_from) {
        dr_str_add(&s->sql, " AND u.replaced_at >= ? AND (u.replaced_at > ? OR u.uid > ?)");
        add_param(s, scan->from.replaced_at);
        add_param(s, scan->from.replaced_at);
        add_param(s, scan->from.uid);
    }
    if (scan->has_upto) {
        dr_str_add(&s->sql, " AND u.replaced_at <= ? AND (u.replaced_at < ? OR u.uid < ?)");
        add_param(s, scan->upto.replaced_at);
        add_param(s, scan->upto.replaced_at);
        add_param(s, scan->upto.uid);
    }
    dr_str_addf(&s->sql, " ORDER BY u.replaced_at, u.uid LIMIT %" PRIu64, t->o.max_per_loop);
    if (scan->offset > 0) {
        dr_str_addf(&s->sql, " OFFSET %" PRIu64, scan->offset);
    }
}

/* The batch was the last one: end, or turn to what an offset left out. */
static void end_scan(struct dr_purge_scan *scan)
{
    if (!scan->is_turning) {
        scan->is_done = true;
        return;
    }
    scan->is_turning = false;
    scan->has_from = false;
    scan->has_upto = scan->has_first;
    scan->upto = scan->first;
    dr_free(scan->previous);
    scan->previous = NULL;
    scan->previous_count = 0;
}

static enum dr_code note_batch(struct dr_tokenserver *t, struct dr_purge_scan *scan,
                               struct fetch *f, struct dr_err *err)
{
    if (dr_purge_is_same_batch(scan->previous, scan->previous_count, f->uid, f->count)) {
        return dr_fail(err, DR_CONFLICT,
                       "loop: the same %zu users came twice in a row, first uid %" PRId64
                       "; something changes users.replaced_at behind the purge",
                       f->count, f->uid[0]);
    }
    dr_free(scan->previous);
    scan->previous = f->uid;
    scan->previous_count = f->count;
    f->uid = NULL;
    t->result.fetched += f->count;
    scan->offset = 0; /* only the start is random */
    if (f->count > 0) {
        scan->has_from = true;
        scan->from = f->last;
        dr_statsd_count(t->statsd, "purge.batch.fetched", (int64_t)f->count, NULL);
    }
    if (f->count < t->o.max_per_loop) {
        end_scan(scan);
    }
    return DR_OK;
}

enum dr_code dr_purge_fetch(struct dr_tokenserver *t, struct dr_purge_node *node,
                            struct dr_purge_scan *scan, struct dr_err *err)
{
    assert(!scan->is_done);
    struct statement s = {0};
    struct fetch f = {.t = t, .scan = scan};
    dr_str_init(&s.sql);
    write_fetch(t, node, scan, &s);
    enum dr_code rc = s.sql.is_short ? dr_fail_nomem(err) : DR_OK;
    if (rc != DR_OK) {
        goto out;
    }
    rc = dr_sqldb_query(t->db, s.sql.data, s.param, s.param_count, take_row, &f, err);
    if (rc == DR_OK) {
        rc = note_batch(t, scan, &f, err);
    }
    if (rc != DR_OK) {
        dr_wrap(err, "read old user records");
    } else if (scan->previous_count > 0) {
        dr_log(t->log, DR_LOG_DEBUG, "batch fetched", "rows=%zu node=%s", scan->previous_count,
               node == NULL ? "all" : node->url);
    }
out:
    dr_free(f.uid);
    dr_str_fini(&s.sql);
    return rc;
}

/* ---- the active record ---- */

struct active {
    int64_t generation, created_at;
    bool is_found;
    char *key_id;
};

static enum dr_code take_candidate(void *arg, const struct dr_value *v, uint32_t count,
                                   struct dr_err *err)
{
    struct active *best = arg;
    struct dr_token_user u = {0};
    int64_t created_at = 0;
    char *state = NULL, *key_id = NULL;
    assert(count == 4);
    enum dr_code rc = read_int(&v[0], "generation", &u.generation, err);
    if (rc == DR_OK) {
        rc = read_int(&v[1], "created_at", &created_at, err);
    }
    u.has_keys_changed_at = v[2].type != DR_V_NULL;
    if (rc == DR_OK && u.has_keys_changed_at) {
        rc = read_int(&v[2], "keys_changed_at", &u.keys_changed_at, err);
    }
    bool is_newer = !best->is_found || u.generation > best->generation ||
                    (u.generation == best->generation && created_at > best->created_at);
    if (rc != DR_OK || !is_newer) {
        goto out;
    }
    state = take_text(&v[3]);
    if (state == NULL) {
        rc = dr_fail_nomem(err);
        goto out;
    }
    u.client_state = state;
    rc = dr_token_key_id(&u, &key_id, err);
    if (rc == DR_OK) {
        dr_free(best->key_id);
        *best = (struct active){u.generation, created_at, true, key_id};
    }
out:
    dr_free(state);
    return rc;
}

enum dr_code dr_purge_is_active(struct dr_tokenserver *t, const struct dr_purge_row *row,
                                bool *is_active_out, struct dr_err *err)
{
    const struct dr_token_user u = {.generation = row->generation,
                                    .keys_changed_at = row->keys_changed_at,
                                    .has_keys_changed_at = row->has_keys_changed_at,
                                    .client_state = row->client_state};
    const struct dr_value param[] = {
        {.type = DR_V_TEXT, .data = row->email, .len = strlen(row->email)},
        {.type = DR_V_INT, .i = t->service_id},
    };
    struct active best = {0};
    char *key_id = NULL, *sql = NULL;
    *is_active_out = true; /* in doubt the data stays */
    enum dr_code rc = dr_token_key_id(&u, &key_id, err);
    if (rc != DR_OK) {
        goto out;
    }
    sql = dr_asprintf("SELECT generation, created_at, keys_changed_at, client_state FROM users"
                      " WHERE email = ? AND service = ?"
                      " ORDER BY created_at DESC, uid DESC LIMIT %d",
                      ACTIVE_ROWS_MAX);
    if (sql == NULL) {
        rc = dr_fail_nomem(err);
        goto out;
    }
    rc = dr_sqldb_query(t->db, sql, param, 2, take_candidate, &best, err);
    if (rc == DR_OK) {
        *is_active_out = best.is_found && strcmp(best.key_id, key_id) == 0;
    }
out:
    dr_free(sql);
    dr_free(best.key_id);
    dr_free(key_id);
    return rc;
}

/* ---- deleting and deferring ---- */

static bool is_stopped(void *arg)
{
    struct dr_tokenserver *t = arg;
    return t->should_stop != NULL && t->should_stop(t->stop_arg);
}

/* Our statements name exactly what they change, so repeating one after a deadlock or a lost answer
 * is safe. */
static enum dr_code run_statement(struct dr_tokenserver *t, const char *sql, uint64_t *affected,
                                  struct dr_err *err)
{
    enum dr_code rc = DR_OK;
    for (uint32_t tries = 1;; tries++) {
        dr_err_clear(err);
        rc = dr_sqldb_exec(t->db, sql, NULL, 0, affected, err);
        if (rc == DR_OK || dr_code_retry(rc) == DR_RETRY_NEVER || tries == STATEMENT_TRIES_MAX) {
            return rc;
        }
        dr_log_err(t->log, DR_LOG_WARN, "statement is repeated", err);
        (void)dr_wait_ms(dr_backoff_ms(&t->tuning.retry, tries, dr_random()), is_stopped, t);
    }
}

static void count_erased(struct dr_tokenserver *t, enum dr_purge_kind kind, uint64_t n)
{
    switch (kind) {
    case DR_PURGE_NODELESS:
        t->result.nodeless += n;
        dr_statsd_count(t->statsd, "delete_user", (int64_t)n, "type:nodeless");
        break;
    case DR_PURGE_NOT_DOWN:
        t->result.purged += n;
        dr_statsd_count(t->statsd, "delete_user", (int64_t)n, "type:not_down");
        break;
    case DR_PURGE_FORCED:
        t->result.purged += n;
        dr_statsd_count(t->statsd, "delete_data", (int64_t)n, "type:force");
        break;
    case DR_PURGE_KINDS:
        break;
    }
}

/* The last records of `kind`, as many as one statement takes. */
static enum dr_code erase_some(struct dr_tokenserver *t, enum dr_purge_kind kind,
                               struct dr_err *err)
{
    uint32_t waiting = t->gone_count[kind];
    uint32_t count = waiting < t->tuning.erase_rows_max ? waiting : t->tuning.erase_rows_max;
    const struct dr_purge_gone *gone = t->gone[kind] + (waiting - count);
    uint64_t erased = 0;
    struct dr_str s;
    dr_str_init(&s);
    dr_str_addf(&s, "DELETE FROM users WHERE service = %" PRId64 " AND uid IN (", t->service_id);
    for (uint32_t i = 0; i < count; i++) {
        dr_str_addf(&s, "%s%" PRId64, i == 0 ? "" : ", ", gone[i].uid);
    }
    dr_str_add(&s, ") AND (");
    for (uint32_t i = 0; i < count; i++) {
        dr_str_addf(&s, "%s(uid = %" PRId64 " AND replaced_at = %" PRId64 ")", i == 0 ? "" : " OR ",
                    gone[i].uid, gone[i].replaced_at);
    }
    dr_str_addc(&s, ')');
    enum dr_code rc = s.is_short ? dr_fail_nomem(err) : DR_OK;
    if (rc == DR_OK) {
        rc = run_statement(t, s.data, &erased, err);
    }
    dr_str_fini(&s);
    if (rc != DR_OK) {
        dr_wrap(err, "delete %u user records whose data is gone", count);
        return rc;
    }
    t->gone_count[kind] -= count;
    dr_fault_mark("tokenserver.erased");
    if (erased > 0) {
        count_erased(t, kind, erased);
    }
    if (erased < count) {
        dr_log(t->log, DR_LOG_INFO, "records were gone or changed already",
               "records=%" PRIu64 " of=%u", count - erased, count);
    }
    return DR_OK;
}

enum dr_code dr_purge_erase_gone(struct dr_tokenserver *t, struct dr_err *err)
{
    for (unsigned kind = 0; kind < DR_PURGE_KINDS; kind++) {
        while (t->gone_count[kind] > 0) {
            enum dr_code rc = erase_some(t, (enum dr_purge_kind)kind, err);
            if (rc != DR_OK) {
                return rc;
            }
        }
    }
    return DR_OK;
}

/* When memory is short the row comes once more in this run, which is safe. */
static void remember_deferred(struct dr_tokenserver *t, int64_t uid)
{
    if (t->deferred_count == t->deferred_room) {
        size_t room = t->deferred_room == 0 ? 16 : t->deferred_room * 2;
        int64_t *more = dr_realloc(t->deferred, room * sizeof *more);
        if (more == NULL) {
            return;
        }
        t->deferred = more;
        t->deferred_room = room;
    }
    size_t at = t->deferred_count++;
    while (at > 0 && t->deferred[at - 1] > uid) {
        t->deferred[at] = t->deferred[at - 1];
        at--;
    }
    t->deferred[at] = uid;
}

void dr_purge_defer(struct dr_tokenserver *t, const struct dr_purge_row *row)
{
    struct dr_err err = {0};
    uint64_t affected = 0;
    dr_wall_ms now = dr_wall_now();
    char sql[256];
    (void)snprintf(sql, sizeof sql,
                   "UPDATE users SET replaced_at = %" PRId64 " WHERE uid = %" PRId64
                   " AND service = %" PRId64 " AND replaced_at = %" PRId64,
                   now, row->uid, t->service_id, row->replaced_at);
    if (now < t->cutoff) {
        remember_deferred(t, row->uid);
    }
    if (run_statement(t, sql, &affected, &err) != DR_OK) {
        dr_wrap(&err, "defer uid %" PRId64, row->uid);
        dr_log_err(t->log, DR_LOG_ERROR, "a failing row could not be deferred", &err);
        dr_statsd_count(t->statsd, "row_failure_bump_failed", 1, NULL);
        return;
    }
    t->result.deferred += affected;
}
