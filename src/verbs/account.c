/* SPDX-License-Identifier: Apache-2.0 */
/* Owns the account of an operation: adding steps up by collection and node, and how that looks. */
#include "verbs/account.h"

#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "verbs/show.h"

enum { FACTS = 128, ROOM_FIRST = 16, NUMBER_BYTES = 32, PAIR_BYTES = 72, ERROR_BYTES = 640 };

const char *dr_row_status_name(enum dr_row_status s)
{
    static const char *const names[] = {
#define X(name, text) [DR_ROW_##name] = (text),
        DR_ROW_STATUS_MAP(X)
#undef X
    };
    return names[s];
}

static void free_texts(struct dr_account_row *r)
{
    dr_free(r->collection);
    dr_free(r->node);
    dr_free(r->last);
    dr_free(r->error);
}

void dr_account_destroy(struct dr_account *a)
{
    if (a != NULL) {
        for (uint32_t i = 0; i < a->row_count; i++) {
            free_texts(&a->row[i]);
        }
        dr_free(a->row);
        dr_free(a);
    }
}

/* --- adding up ---------------------------------------------------------------------------------
 */

static int compare_row(const struct dr_account_row *r, const struct dr_step_fact *f)
{
    int order = strcmp(r->collection, f->collection);
    return order != 0 ? order : strcmp(r->node, f->node);
}

/* The place of the row, or where it would stand. True when it is there. */
static bool find_row(const struct dr_account *a, const struct dr_step_fact *f, uint32_t *at_out)
{
    uint32_t from = 0;
    uint32_t upto = a->row_count;
    while (from < upto) {
        uint32_t middle = from + (upto - from) / 2;
        int order = compare_row(&a->row[middle], f);
        if (order == 0) {
            *at_out = middle;
            return true;
        }
        if (order < 0) {
            from = middle + 1;
        } else {
            upto = middle;
        }
    }
    *at_out = from;
    return false;
}

static enum dr_code add_row(struct dr_account *a, const struct dr_step_fact *f, uint32_t at,
                            struct dr_err *err)
{
    if (a->row_count == a->row_room) {
        uint32_t room = a->row_room == 0 ? ROOM_FIRST : a->row_room * 2;
        struct dr_account_row *grown = dr_realloc(a->row, room * sizeof *grown);
        if (grown == NULL) {
            return dr_fail_nomem(err);
        }
        a->row = grown;
        a->row_room = room;
    }
    struct dr_account_row fresh = {.collection = dr_strdup(f->collection),
                                   .node = dr_strdup(f->node)};
    if (fresh.collection == NULL || fresh.node == NULL) {
        free_texts(&fresh);
        return dr_fail_nomem(err);
    }
    memmove(&a->row[at + 1], &a->row[at], (a->row_count - at) * sizeof *a->row);
    a->row[at] = fresh;
    a->row_count++;
    return DR_OK;
}

static void set_text(char **text, const char *fresh, enum dr_code *rc, struct dr_err *err)
{
    char *copy = dr_strdup(fresh);
    if (copy == NULL) {
        *rc = dr_fail_nomem(err);
        return;
    }
    dr_free(*text);
    *text = copy;
}

static void add_numbers(struct dr_account_row *r, const struct dr_step_fact *f)
{
    bool is_done = f->status == DR_S_PROCESSED;
    bool is_stuck = f->status == DR_S_FAILED || f->status == DR_S_UNDO_FAILED;
    bool is_untouched = (f->status == DR_S_CREATED || f->status == DR_S_CANCELLED) && f->done == 0;
    r->parts++;
    r->parts_done += is_done;
    r->parts_stuck += is_stuck;
    r->parts_idle += is_untouched || f->status == DR_S_UNDONE;
    r->worked_ms += f->duration_ms;
    if (f->kind == DR_STEP_ERASE) {
        r->steps++;
        r->steps_done += is_done;
        /* A step that is done knows better than its estimate, which some stores make too low. */
        r->total += is_done && f->done > f->estimated ? f->done : f->estimated;
        r->done += f->done > f->undone ? f->done - f->undone : 0;
        r->archive_bytes += f->archive_bytes;
    }
    if (!is_untouched && f->updated_at > r->updated_at) {
        r->updated_at = f->updated_at;
    }
}

static enum dr_code add_texts(struct dr_account_row *r, const struct dr_step_fact *f,
                              struct dr_err *err)
{
    char text[ERROR_BYTES];
    enum dr_code rc = DR_OK;
    bool is_stuck = f->status == DR_S_FAILED || f->status == DR_S_UNDO_FAILED;
    if (is_stuck && r->error == NULL) {
        (void)snprintf(text, sizeof text, "step %lld: %s", (long long)f->id, f->last_error);
        set_text(&r->error, text, &rc, err);
    }
    if (f->kind == DR_STEP_ERASE && f->status == DR_S_PROCESSED &&
        (r->last == NULL || f->updated_at >= r->last_at)) {
        r->last_at = f->updated_at;
        set_text(&r->last, f->title, &rc, err);
    }
    return rc;
}

static enum dr_code add_fact(struct dr_account *a, const struct dr_step_fact *f, struct dr_err *err)
{
    uint32_t at = 0;
    enum dr_code rc = find_row(a, f, &at) ? DR_OK : add_row(a, f, at, err);
    if (rc != DR_OK) {
        return rc;
    }
    add_numbers(&a->row[at], f);
    add_numbers(&a->total, f);
    return add_texts(&a->row[at], f, err);
}

/* A row without parts, which only totals can be, has nothing left to do. */
static enum dr_row_status status_of(const struct dr_account_row *r)
{
    if (r->parts_stuck > 0) {
        return DR_ROW_FAILED;
    }
    if (r->parts_done == r->parts) {
        return DR_ROW_COMPLETED;
    }
    return r->parts_idle == r->parts ? DR_ROW_PENDING : DR_ROW_IN_PROGRESS;
}

static void conclude(struct dr_account *a)
{
    for (uint32_t i = 0; i < a->row_count; i++) {
        a->row[i].status = status_of(&a->row[i]);
    }
    a->total.status = status_of(&a->total);
}

static enum dr_code read_facts(struct dr_account *a, struct dr_queue *q, int64_t op_id,
                               struct dr_step_fact *page, struct dr_err *err)
{
    enum dr_code rc = DR_OK;
    int64_t after = 0;
    uint32_t count = 0;
    do {
        rc = dr_queue_facts(q, op_id, after, page, FACTS, &count, err);
        for (uint32_t i = 0; rc == DR_OK && i < count; i++) {
            after = page[i].id;
            rc = add_fact(a, &page[i], err);
        }
    } while (rc == DR_OK && count == FACTS);
    return rc;
}

enum dr_code dr_account_make(struct dr_queue *q, int64_t op_id, struct dr_account **out,
                             struct dr_err *err)
{
    enum dr_code rc = DR_OK;
    *out = NULL;
    struct dr_account *a = dr_calloc(1, sizeof *a);
    struct dr_step_fact *page = dr_calloc(FACTS, sizeof *page);
    if (a == NULL || page == NULL) {
        rc = dr_fail_nomem(err);
        goto out;
    }
    rc = read_facts(a, q, op_id, page, err);
    if (rc == DR_OK) {
        conclude(a);
        *out = a;
        a = NULL;
    }
out:
    dr_account_destroy(a);
    dr_free(page);
    return rc;
}

/* --- of a plan ---------------------------------------------------------------------------------
 */

static enum dr_code read_collection(const char *query, char *buf, size_t buf_bytes,
                                    struct dr_err *err)
{
    json_t *j = NULL;
    enum dr_code rc = dr_json_parse("step", query, strlen(query), &j, err);
    if (rc == DR_OK) {
        const char *name =
            json_string_value(json_object_get(json_object_get(j, "range"), "collection"));
        dr_copy_text(buf, buf_bytes, name == NULL ? "" : name);
    }
    json_decref(j);
    return rc;
}

static enum dr_code add_planned(struct dr_account *a, const struct dr_plan_step *s,
                                struct dr_err *err)
{
    if (s->kind == DR_STEP_COMMAND) {
        return DR_OK;
    }
    struct dr_step_fact f = {.kind = s->kind, .status = DR_S_CREATED, .estimated = s->estimated};
    dr_copy_text(f.node, sizeof f.node, s->node);
    enum dr_code rc = read_collection(s->query, f.collection, sizeof f.collection, err);
    return rc == DR_OK ? add_fact(a, &f, err) : rc;
}

enum dr_code dr_account_of_plan(const struct dr_plan *p, struct dr_account **out,
                                struct dr_err *err)
{
    struct dr_plan_iter *it = NULL;
    struct dr_plan_step step;
    bool has_step = true;
    *out = NULL;
    struct dr_account *a = dr_calloc(1, sizeof *a);
    enum dr_code rc = a == NULL ? dr_fail_nomem(err) : dr_plan_begin(p, &it, err);
    while (rc == DR_OK && has_step) {
        rc = dr_plan_next(it, &step, &has_step, err);
        if (rc == DR_OK && has_step) {
            rc = add_planned(a, &step, err);
        }
    }
    dr_plan_end(it);
    if (rc != DR_OK) {
        dr_account_destroy(a);
        return rc;
    }
    conclude(a);
    *out = a;
    return DR_OK;
}

/* --- how it looks ------------------------------------------------------------------------------
 */

static char *show_pair(uint64_t done, uint64_t total, char *buf, size_t buf_bytes)
{
    char a[NUMBER_BYTES];
    char b[NUMBER_BYTES];
    (void)snprintf(buf, buf_bytes, "%s/%s", dr_human_count(done, a, sizeof a),
                   dr_human_count(total, b, sizeof b));
    return buf;
}

struct widths {
    int collection, node, chunks, items;
};

static int wider(int width, const char *text)
{
    int own = (int)strlen(text);
    return own > width ? own : width;
}

static void measure_row(struct widths *w, const struct dr_account_row *r)
{
    char text[PAIR_BYTES];
    w->chunks = wider(w->chunks, show_pair(r->steps_done, r->steps, text, sizeof text));
    w->items = wider(w->items, show_pair(r->done, r->total, text, sizeof text));
}

static void print_row(const struct widths *w, const struct dr_account_row *r, const char *name,
                      struct dr_str *out)
{
    char chunks[PAIR_BYTES];
    char items[PAIR_BYTES];
    bool has_error = r->error != NULL;
    dr_str_addf(out, "%-*s  %-*s  %-11s  %*s  %*s%s%s\n", w->collection, name, w->node,
                r->node == NULL ? "" : r->node, dr_row_status_name(r->status), w->chunks,
                show_pair(r->steps_done, r->steps, chunks, sizeof chunks), w->items,
                show_pair(r->done, r->total, items, sizeof items), has_error ? "  " : "",
                has_error ? r->error : "");
}

void dr_account_print(const struct dr_account *a, uint32_t rows_max, struct dr_str *out)
{
    struct widths w = {wider(0, "COLLECTION"), wider(0, "NODE"), wider(0, "CHUNKS"),
                       wider(0, "DELETED")};
    uint32_t left_out = 0;
    for (uint32_t i = 0; i < a->row_count; i++) {
        w.collection = wider(w.collection, a->row[i].collection);
        w.node = wider(w.node, a->row[i].node);
        measure_row(&w, &a->row[i]);
    }
    measure_row(&w, &a->total);
    dr_str_addf(out, "%-*s  %-*s  %-11s  %*s  %*s  ERROR\n", w.collection, "COLLECTION", w.node,
                "NODE", "STATUS", w.chunks, "CHUNKS", w.items, "DELETED");
    for (uint32_t i = 0; i < a->row_count; i++) {
        const struct dr_account_row *r = &a->row[i];
        if (rows_max == 0 || i < rows_max || r->status == DR_ROW_FAILED) {
            print_row(&w, r, r->collection, out);
        } else {
            left_out++;
        }
    }
    if (left_out > 0) {
        dr_str_addf(out, "... and %u more\n", left_out);
    }
    print_row(&w, &a->total, "TOTAL", out);
}

static int set_number(json_t *j, const char *key, uint64_t n)
{
    return json_object_set_new(j, key, json_integer(n > INT64_MAX ? INT64_MAX : (json_int_t)n));
}

static int set_counts(json_t *j, const struct dr_account_row *r)
{
    int bad = json_object_set_new(j, "status", json_string(dr_row_status_name(r->status)));
    bad |= set_number(j, "total", r->total);
    bad |= set_number(j, "done", r->done);
    bad |= set_number(j, "steps", r->steps);
    bad |= set_number(j, "steps_done", r->steps_done);
    return bad;
}

/* What a status record holds; reports add to it. */
static json_t *record_json(const struct dr_account_row *r)
{
    json_t *j = json_object();
    int bad = json_object_set_new(j, "collection", dr_show_text_json(r->collection));
    bad |= json_object_set_new(j, "node", dr_show_text_json(r->node));
    bad |= set_counts(j, r);
    bad |= json_object_set_new(j, "last", dr_show_text_json(r->last));
    bad |= json_object_set_new(j, "error", dr_show_text_json(r->error));
    if (bad != 0) {
        json_decref(j);
        return NULL;
    }
    return j;
}

static json_t *row_json(const struct dr_account_row *r)
{
    char when[NUMBER_BYTES];
    json_t *j = record_json(r);
    json_t *at = r->updated_at == 0 ? json_null()
                                    : json_string(dr_wall_text(r->updated_at, when, sizeof when));
    int bad = json_object_set_new(j, "updated", at);
    bad |= set_number(j, "worked_ms", r->worked_ms);
    if (bad != 0) {
        json_decref(j);
        return NULL;
    }
    return j;
}

static json_t *list_json(const struct dr_account *a, json_t *(*one)(const struct dr_account_row *r))
{
    json_t *list = json_array();
    for (uint32_t i = 0; list != NULL && i < a->row_count; i++) {
        if (json_array_append_new(list, one(&a->row[i])) != 0) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}

json_t *dr_account_json(const struct dr_account *a)
{
    json_t *j = json_object();
    json_t *totals = json_object();
    int bad = set_counts(totals, &a->total);
    bad |= set_number(totals, "worked_ms", a->total.worked_ms);
    bad |= json_object_set_new(j, "rows", list_json(a, row_json));
    bad |= json_object_set_new(j, "totals", totals); /* takes it in any case */
    if (bad != 0) {
        json_decref(j);
        return NULL;
    }
    return j;
}

char *dr_account_state(const struct dr_account *a)
{
    json_t *list = list_json(a, record_json);
    char *text = list == NULL ? NULL : dr_json_text(list);
    json_decref(list);
    return text;
}
