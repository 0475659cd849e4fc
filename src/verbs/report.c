/* SPDX-License-Identifier: Apache-2.0 */
/* Owns the report of an operation, as JSON, as text and as a file. */
#include "verbs/report.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/mem.h"
#include "obs/log.h"
#include "verbs/account.h"
#include "verbs/show.h"

enum { PATH_BYTES = 4096, WHEN_BYTES = 40, URL_BYTES = 512, HMS_BYTES = 40, NUMBER_BYTES = 32 };

static const double ms_per_second = 1000.0;

char *dr_report_hms(uint64_t ms, char *buf, size_t buf_bytes)
{
    uint64_t s = ms / 1000;
    (void)snprintf(buf, buf_bytes, "%" PRIu64 "h %02um %02us", s / 3600, (unsigned)(s / 60 % 60),
                   (unsigned)(s % 60));
    return buf;
}

/* --- pieces ------------------------------------------------------------------------------------
 */

static int set_text(json_t *j, const char *key, const char *text)
{
    return json_object_set_new(j, key, dr_show_text_json(text));
}

static int set_number(json_t *j, const char *key, uint64_t n)
{
    return json_object_set_new(j, key, json_integer(n > INT64_MAX ? INT64_MAX : (json_int_t)n));
}

static int set_when(json_t *j, const char *key, dr_wall_ms at)
{
    char text[WHEN_BYTES];
    return set_text(j, key, at == 0 ? NULL : dr_wall_text(at, text, sizeof text));
}

static int set_took(json_t *j, uint64_t ms)
{
    char text[HMS_BYTES];
    int bad = json_object_set_new(j, "seconds", json_real((double)ms / ms_per_second));
    return bad | set_text(j, "time", dr_report_hms(ms, text, sizeof text));
}

/* The operation's own time: until now while it has not ended. */
static uint64_t took_of(const struct dr_op *op)
{
    dr_wall_ms upto = op->ended_at != 0 ? op->ended_at : dr_wall_now();
    return op->started_at != 0 && upto > op->started_at ? (uint64_t)(upto - op->started_at) : 0;
}

/* The warnings of a plan's summary, each with its collection. */
static json_t *notes_of(const json_t *summary)
{
    size_t i;
    const json_t *part;
    json_t *notes = json_array();
    int bad = notes == NULL ? -1 : 0;
    json_array_foreach(json_object_get(summary, "parts"), i, part)
    {
        const char *warning = json_string_value(json_object_get(part, "warning"));
        const char *name = json_string_value(json_object_get(part, "collection"));
        if (warning != NULL && bad == 0) {
            bad = json_array_append_new(notes,
                                        json_sprintf("%s: %s", name == NULL ? "" : name, warning));
        }
    }
    if (bad != 0) {
        json_decref(notes);
        return NULL;
    }
    return notes;
}

static int set_account(json_t *j, const struct dr_account *a)
{
    json_t *account = dr_account_json(a);
    int bad = account == NULL ? -1 : json_object_update(j, account);
    json_decref(account);
    return bad;
}

/* The segments' folder and what the queue vouches for in it; NULL when nothing is kept. */
static const char *archive_of(const struct dr_queue *q, const struct dr_op *op,
                              const struct dr_account *a, char *path, size_t path_bytes)
{
    (void)snprintf(path, path_bytes, "%s/archive/op-%lld", dr_queue_data_dir(q), (long long)op->id);
    bool is_kept = !op->is_irreversible && !op->is_archive_expired && a->total.archive_bytes > 0;
    return is_kept ? path : NULL;
}

static int set_archive(json_t *j, const struct dr_queue *q, const struct dr_op *op,
                       const struct dr_account *a)
{
    char path[PATH_BYTES];
    if (archive_of(q, op, a, path, sizeof path) == NULL) {
        return json_object_set_new(j, "archive", json_null());
    }
    json_t *archive = json_object();
    int bad = set_text(archive, "path", path);
    bad |= set_number(archive, "bytes", a->total.archive_bytes);
    bad |= set_when(archive, "until", op->archive_until);
    return json_object_set_new(j, "archive", archive) | bad;
}

/* --- of an operation ---------------------------------------------------------------------------
 */

struct sources {
    struct dr_op op;
    struct dr_account *account;
    json_t *summary; /* NULL: none is stored */
};

static void drop_sources(struct sources *s)
{
    dr_account_destroy(s->account);
    json_decref(s->summary);
}

static enum dr_code read_sources(struct dr_queue *q, int64_t op_id, struct sources *s,
                                 struct dr_err *err)
{
    char *text = NULL;
    *s = (struct sources){.account = NULL};
    enum dr_code rc = dr_queue_op(q, op_id, &s->op, err);
    rc = rc == DR_OK ? dr_account_make(q, op_id, &s->account, err) : rc;
    rc = rc == DR_OK ? dr_queue_texts(q, op_id, NULL, &text, NULL, err) : rc;
    if (rc == DR_OK && text != NULL) {
        rc = dr_json_parse("stored summary", text, strlen(text), &s->summary, err);
    }
    dr_free(text);
    if (rc != DR_OK) {
        drop_sources(s);
    }
    return rc;
}

static int fill_op(json_t *j, const struct dr_queue *q, const struct sources *s)
{
    char url[URL_BYTES];
    const struct dr_op *op = &s->op;
    int bad = set_number(j, "operation", (uint64_t)op->id);
    bad |= set_text(j, "kind", op->kind);
    bad |= set_text(j, "target", op->target);
    bad |= set_text(j, "store", dr_url_redact(op->store_url, url, sizeof url));
    bad |= json_object_set_new(j, "dry_run", json_false());
    bad |= set_text(j, "status", dr_op_status_name(op->status));
    bad |= set_text(j, "reason", op->wish_reason[0] == '\0' ? NULL : op->wish_reason);
    bad |= set_text(j, "waiting", op->waiting[0] == '\0' ? NULL : op->waiting);
    bad |= set_when(j, "started", op->started_at);
    bad |= set_when(j, "ended", op->ended_at);
    bad |= set_took(j, took_of(op));
    bad |= set_number(j, "erased", op->items_done);
    bad |= set_number(j, "put_back", op->items_undone);
    bad |= set_number(j, "conflicts", op->items_conflict);
    bad |= set_account(j, s->account);
    bad |= set_archive(j, q, op, s->account);
    return bad | json_object_set_new(j, "notes", notes_of(s->summary));
}

enum dr_code dr_report_op(struct dr_queue *q, int64_t op_id, json_t **out, struct dr_err *err)
{
    struct sources s;
    *out = NULL;
    enum dr_code rc = read_sources(q, op_id, &s, err);
    if (rc != DR_OK) {
        return rc;
    }
    json_t *j = json_object();
    if (fill_op(j, q, &s) != 0) {
        json_decref(j);
        rc = dr_fail_nomem(err);
    } else {
        *out = j;
    }
    drop_sources(&s);
    return rc;
}

static void print_head(const struct dr_op *op, struct dr_str *out)
{
    char url[URL_BYTES];
    char when[WHEN_BYTES];
    char took[HMS_BYTES];
    char a[NUMBER_BYTES];
    char b[NUMBER_BYTES];
    char c[NUMBER_BYTES];
    dr_str_addf(out, "operation: %lld (%s)\nkind:      %s\ntarget:    %s\nstore:     %s\n",
                (long long)op->id, op->group, op->kind, op->target,
                dr_url_redact(op->store_url, url, sizeof url));
    dr_str_addf(out, "status:    %s%s%s\n", dr_op_status_name(op->status),
                op->wish_reason[0] == '\0' ? "" : ": ", op->wish_reason);
    dr_str_addf(out, "started:   %s\n", dr_show_when(op->started_at, when, sizeof when));
    dr_str_addf(out, "ended:     %s\n", dr_show_when(op->ended_at, when, sizeof when));
    dr_str_addf(out, "time:      %s\n", dr_report_hms(took_of(op), took, sizeof took));
    dr_str_addf(out, "items:     %s %s, %s put back, %s conflicts\n",
                dr_human_count(op->items_done, a, sizeof a), dr_show_done_word(op),
                dr_human_count(op->items_undone, b, sizeof b),
                dr_human_count(op->items_conflict, c, sizeof c));
}

static enum dr_code print_notes(const json_t *summary, struct dr_str *out, struct dr_err *err)
{
    size_t i;
    const json_t *note;
    json_t *notes = notes_of(summary);
    if (notes == NULL) {
        return dr_fail_nomem(err);
    }
    json_array_foreach(notes, i, note)
    {
        dr_str_addf(out, "note:      %s\n", json_string_value(note));
    }
    json_decref(notes);
    return DR_OK;
}

enum dr_code dr_report_text(struct dr_queue *q, int64_t op_id, uint32_t rows_max,
                            struct dr_str *out, struct dr_err *err)
{
    struct sources s;
    char path[PATH_BYTES];
    char bytes[NUMBER_BYTES];
    enum dr_code rc = read_sources(q, op_id, &s, err);
    if (rc != DR_OK) {
        return rc;
    }
    print_head(&s.op, out);
    if (archive_of(q, &s.op, s.account, path, sizeof path) != NULL) {
        dr_str_addf(out, "archive:   %s, %s\n", path,
                    dr_human_bytes(s.account->total.archive_bytes, bytes, sizeof bytes));
    }
    rc = print_notes(s.summary, out, err);
    dr_str_addc(out, '\n');
    if (s.account->row_count > 0 || s.account->total.steps > 0) {
        dr_account_print(s.account, rows_max, out);
    } else { /* commands and copies: nothing that is counted by collection */
        dr_str_addf(out, "what was done, step by step: drover steps %lld\n", (long long)op_id);
    }
    drop_sources(&s);
    return rc;
}

/* --- of a dry run ------------------------------------------------------------------------------
 */

static int fill_plan(json_t *j, const json_t *summary, const struct dr_account *a, uint64_t took_ms)
{
    static const char *const same[] = {"kind", "target", "store", "irreversible"};
    dr_wall_ms now = dr_wall_now();
    int bad = json_object_set_new(j, "operation", json_null());
    for (size_t i = 0; i < sizeof same / sizeof same[0]; i++) {
        bad |= json_object_set(j, same[i], json_object_get(summary, same[i]));
    }
    bad |= json_object_set_new(j, "dry_run", json_true());
    bad |= set_text(j, "status", "planned");
    bad |= set_when(j, "started", now - (dr_wall_ms)took_ms);
    bad |= set_when(j, "ended", now);
    bad |= set_took(j, took_ms);
    bad |= set_account(j, a);
    bad |= json_object_set_new(j, "archive", json_null());
    return bad | json_object_set_new(j, "notes", notes_of(summary));
}

enum dr_code dr_report_plan(const struct dr_plan *p, uint64_t took_ms, json_t **out,
                            struct dr_err *err)
{
    struct dr_account *a = NULL;
    json_t *summary = NULL;
    *out = NULL;
    enum dr_code rc = dr_plan_to_json(p, false, &summary, err);
    rc = rc == DR_OK ? dr_account_of_plan(p, &a, err) : rc;
    if (rc == DR_OK) {
        json_t *j = json_object();
        if (fill_plan(j, summary, a, took_ms) != 0) {
            json_decref(j);
            rc = dr_fail_nomem(err);
        } else {
            *out = j;
        }
    }
    dr_account_destroy(a);
    json_decref(summary);
    return rc;
}

/* --- the file ----------------------------------------------------------------------------------
 */

enum dr_code dr_report_check(const char *path, struct dr_err *err)
{
    char folder[PATH_BYTES];
    struct stat st;
    if (path[0] == '\0' || strlen(path) >= sizeof folder - sizeof ".tmp") {
        return dr_fail(err, DR_INPUT, "--report needs the path of a file");
    }
    /* A rename would put a plain file in the place of a device or a pipe. */
    if (stat(path, &st) == 0 && !S_ISREG(st.st_mode)) {
        return dr_fail(err, DR_INPUT, "--report %s: that is no plain file", path);
    }
    const char *slash = strrchr(path, '/');
    size_t length = slash == NULL ? 0 : (size_t)(slash - path);
    (void)snprintf(folder, sizeof folder, "%.*s", (int)length, path);
    const char *where = slash == NULL ? "." : length == 0 ? "/" : folder;
    if (access(where, W_OK | X_OK) != 0) {
        return dr_fail(err, DR_INPUT, "--report %s: no file can be written in %s: %s", path, where,
                       strerror(errno));
    }
    return DR_OK;
}

static int append_piece(const char *data, size_t bytes, void *arg)
{
    struct dr_str *out = arg;
    dr_str_addn(out, data, bytes);
    return out->is_short ? -1 : 0;
}

void dr_report_print(const json_t *report, struct dr_str *out)
{
    size_t flags = JSON_INDENT(2) | JSON_PRESERVE_ORDER | JSON_REAL_PRECISION(9);
    if (json_dump_callback(report, append_piece, out, flags) != 0) {
        out->is_short = true;
    }
    dr_str_addc(out, '\n');
}

enum dr_code dr_report_write(const char *path, const json_t *report, struct dr_err *err)
{
    struct dr_str text;
    dr_str_init(&text);
    dr_report_print(report, &text);
    enum dr_code rc = text.is_short ? dr_fail_nomem(err)
                                    : dr_file_replace(path, dr_str_text(&text), text.len, err);
    if (rc != DR_OK) {
        dr_wrap(err, "report");
    }
    dr_str_fini(&text);
    return rc;
}
