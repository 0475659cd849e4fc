/* SPDX-License-Identifier: Apache-2.0 */
/* Owns the archive verbs: list, verify, expire. What a segment is, archive/ knows; which segments
 * there must be, the queue knows. */
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "archive/archive.h"
#include "base/clock.h"
#include "base/mem.h"
#include "cli/cli_private.h"

enum { PATH_BYTES = 4096, WHEN_BYTES = 40, COUNT_BYTES = 32, WHAT_BYTES = DR_NAME_BYTES + 160 };

struct segments {
    struct dr_cli *c;
    int64_t op_id;
    bool is_verify; /* read everything, else headers only */
    uint64_t files, bytes, frames, items, damaged;
    char first_damage[512];
    json_t *list; /* archive list --json */
};

static void note_damage(struct segments *s, const char *path, const struct dr_err *why)
{
    char text[DR_ERR_BYTES + PATH_BYTES];
    bool is_named = strstr(why->msg, path) != NULL;
    (void)snprintf(text, sizeof text, "%s%s%s", is_named ? "" : path, is_named ? "" : ": ",
                   why->msg);
    if (s->damaged++ == 0) {
        dr_copy_text(s->first_damage, sizeof s->first_damage, text);
    }
    if (s->is_verify) {
        (void)fprintf(stderr, "drover: %s\n", text);
    }
}

/* Is this the archive's own trouble (told and counted) or ours (ends the command)? */
static bool is_damage(enum dr_code rc)
{
    return rc == DR_CORRUPT || rc == DR_NOT_FOUND || rc == DR_UNSUPPORTED;
}

static enum dr_code verify_segment(struct segments *s, int64_t step_id, const char *path,
                                   struct dr_err *err)
{
    struct stat st;
    uint64_t acked = 0;
    uint64_t frames = 0;
    uint64_t items = 0;
    uint64_t bytes = 0;
    enum dr_code rc = dr_queue_archive_acked(s->c->queue, step_id, &acked, err);
    if (rc != DR_OK) {
        return rc;
    }
    /* Frames that were never acknowledged may belong to an erased batch as well. */
    if (acked == 0 && stat(path, &st) != 0) {
        return DR_OK;
    }
    s->files++;
    rc = dr_archive_verify(path, acked, &frames, &items, &bytes, err);
    if (is_damage(rc)) {
        note_damage(s, path, err);
        dr_err_clear(err);
        return DR_OK;
    }
    s->frames += frames;
    s->items += items;
    s->bytes += bytes;
    return rc;
}

static enum dr_code measure_segment(struct segments *s, const char *path, struct dr_err *err)
{
    struct stat st;
    struct dr_archive_reader *reader = NULL;
    if (stat(path, &st) != 0) {
        return DR_OK;
    }
    s->files++;
    s->bytes += (uint64_t)st.st_size;
    enum dr_code rc = dr_archive_read_open(path, &reader, err);
    if (is_damage(rc)) {
        note_damage(s, path, err);
        dr_err_clear(err);
        return DR_OK;
    }
    if (rc != DR_OK) {
        return rc;
    }
    uint64_t frames = dr_archive_frame_count(reader);
    for (uint64_t n = 0; n < frames; n++) {
        s->items += dr_archive_frame_at(reader, n).count;
    }
    s->frames += frames;
    dr_archive_read_close(reader);
    return DR_OK;
}

static enum dr_code visit_step(void *arg, const struct dr_step *step, bool *more,
                               struct dr_err *err)
{
    struct segments *s = arg;
    char path[PATH_BYTES];
    (void)more;
    if (step->kind != DR_STEP_ERASE) {
        return DR_OK;
    }
    (void)dr_archive_path(s->c->data_dir, step->op_id, step->id, path, sizeof path);
    s->c->place = DR_AT_ARCHIVE;
    return s->is_verify ? verify_segment(s, step->id, path, err) : measure_segment(s, path, err);
}

static json_t *archive_json(const struct dr_op *op, const struct segments *s)
{
    char when[WHEN_BYTES];
    return json_pack(
        "{s:I, s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:s?, s:b}", "operation", (json_int_t)op->id,
        "target", op->target, "status", dr_op_status_name(op->status), "segments",
        (json_int_t)s->files, "bytes", (json_int_t)s->bytes, "frames", (json_int_t)s->frames,
        "items", (json_int_t)s->items, "damaged", (json_int_t)s->damaged, "until",
        op->archive_until == 0 ? NULL : dr_wall_text(op->archive_until, when, sizeof when),
        "expired", op->is_archive_expired ? 1 : 0);
}

static enum dr_code list_op(void *arg, const struct dr_op *op, struct dr_err *err)
{
    struct segments *all = arg;
    struct segments s = {.c = all->c, .op_id = op->id};
    char bytes[COUNT_BYTES];
    char items[COUNT_BYTES];
    char when[WHEN_BYTES];
    if (op->is_irreversible || op->is_archive_expired) {
        return DR_OK;
    }
    enum dr_code rc = dr_each_step(all->c->queue, op->id, DR_S_COUNT, visit_step, &s, err);
    if (rc != DR_OK || s.files == 0) {
        return rc;
    }
    all->files += s.files;
    if (all->list != NULL) {
        return json_array_append_new(all->list, archive_json(op, &s)) != 0 ? dr_fail_nomem(err)
                                                                           : DR_OK;
    }
    (void)printf("%5lld  %-24s %-14s %8llu %10s %8llu %15s  %s%s\n", (long long)op->id, op->target,
                 dr_op_status_name(op->status), (unsigned long long)s.files,
                 dr_human_bytes(s.bytes, bytes, sizeof bytes), (unsigned long long)s.frames,
                 dr_human_count(s.items, items, sizeof items),
                 dr_show_when(op->archive_until, when, sizeof when),
                 s.damaged > 0 ? "  DAMAGED, see archive verify" : "");
    return DR_OK;
}

enum dr_code dr_cli_archive_list(struct dr_cli *c, int *exit_out, struct dr_err *err)
{
    struct dr_op op = {.id = 0};
    struct segments all = {.c = c};
    (void)exit_out;
    enum dr_code rc = c->word_count > 0 ? dr_cli_op(c, &op, err) : dr_cli_queue(c, true, err);
    if (rc != DR_OK) {
        return rc;
    }
    if (c->is_json) {
        all.list = json_array();
        if (all.list == NULL) {
            return dr_fail_nomem(err);
        }
    } else {
        (void)printf("%5s  %-24s %-14s %8s %10s %8s %15s  %s\n", "OP", "TARGET", "STATUS",
                     "SEGMENTS", "BYTES", "FRAMES", "ITEMS", "KEPT UNTIL");
    }
    rc = op.id != 0 ? list_op(&all, &op, err) : dr_each_op(c->queue, list_op, &all, err);
    if (rc != DR_OK) {
        json_decref(all.list);
        return rc;
    }
    if (all.files == 0) {
        dr_cli_say(c, "no archives");
    }
    return all.list != NULL ? dr_cli_put_json(all.list, err) : DR_OK;
}

enum dr_code dr_cli_archive_verify(struct dr_cli *c, int *exit_out, struct dr_err *err)
{
    struct dr_op op;
    struct segments s = {.c = c, .is_verify = true};
    char bytes[COUNT_BYTES];
    char items[COUNT_BYTES];
    (void)exit_out;
    enum dr_code rc = dr_cli_op(c, &op, err);
    if (rc == DR_OK && op.is_archive_expired) {
        rc = dr_fail(err, DR_REFUSED, "the archive of operation %lld has expired and is removed",
                     (long long)op.id);
    }
    if (rc == DR_OK) {
        s.op_id = op.id;
        rc = dr_each_step(c->queue, op.id, DR_S_COUNT, visit_step, &s, err);
    }
    if (rc != DR_OK) {
        return rc;
    }
    if (s.damaged > 0) {
        c->place = DR_AT_ARCHIVE;
        return dr_fail(err, DR_CORRUPT,
                       "%llu of %llu segments of operation %lld are damaged or missing, the first "
                       "is %s; bring the files back from a backup before a rollback",
                       (unsigned long long)s.damaged, (unsigned long long)s.files, (long long)op.id,
                       s.first_damage);
    }
    if (c->is_json) {
        return dr_cli_put_json(archive_json(&op, &s), err);
    }
    (void)printf("operation %lld: %llu segments, %llu frames, %s items, %s: all checksums are "
                 "right\n",
                 (long long)op.id, (unsigned long long)s.files, (unsigned long long)s.frames,
                 dr_human_count(s.items, items, sizeof items),
                 dr_human_bytes(s.bytes, bytes, sizeof bytes));
    return DR_OK;
}

struct expiry {
    struct dr_cli *c;
    dr_wall_ms now;
    uint64_t count, bytes;
};

/* First nobody may roll back any more, then the files go: a crash between the two leaves files that
 * the next expire removes, never a rollback without its files. */
static enum dr_code expire_op(struct expiry *x, const struct dr_op *op, struct dr_err *err)
{
    uint64_t bytes = 0;
    enum dr_code rc = DR_OK;
    x->c->place = DR_AT_DATA;
    if (!op->is_archive_expired) {
        rc = dr_queue_archive_expire(x->c->queue, op->id, x->c->who, err);
    }
    if (rc == DR_OK) {
        rc = dr_archive_remove(x->c->data_dir, op->id, &bytes, err);
    }
    if (rc == DR_OK && (bytes > 0 || !op->is_archive_expired)) {
        x->count++;
        x->bytes += bytes;
    }
    return rc;
}

static enum dr_code expire_if_due(void *arg, const struct dr_op *op, struct dr_err *err)
{
    struct expiry *x = arg;
    bool is_due =
        op->archive_until != 0 && op->archive_until < x->now && dr_op_status_is_final(op->status);
    return is_due || op->is_archive_expired ? expire_op(x, op, err) : DR_OK;
}

static enum dr_code expire_one(struct expiry *x, struct dr_err *err)
{
    struct dr_op op;
    char what[WHAT_BYTES];
    char when[WHEN_BYTES];
    enum dr_code rc = dr_cli_op(x->c, &op, err);
    if (rc == DR_OK && !dr_op_status_is_final(op.status)) {
        rc = dr_fail(err, DR_REFUSED,
                     "operation %lld is %s; its archive can go only after it has ended",
                     (long long)op.id, dr_op_status_name(op.status));
    }
    if (rc == DR_OK && op.archive_until > x->now && !op.is_archive_expired) {
        (void)snprintf(what, sizeof what,
                       "The archive of operation %lld is to be kept until %s; without it %s cannot "
                       "be rolled back.",
                       (long long)op.id, dr_show_when(op.archive_until, when, sizeof when),
                       op.target);
        rc = dr_cli_confirm(x->c, what, op.target, err);
    }
    return rc == DR_OK ? expire_op(x, &op, err) : rc;
}

enum dr_code dr_cli_archive_expire(struct dr_cli *c, int *exit_out, struct dr_err *err)
{
    struct expiry x = {.c = c, .now = dr_wall_now()};
    char bytes[COUNT_BYTES];
    bool is_due = dr_args_has(c->args, "due");
    (void)exit_out;
    if (is_due == (c->word_count > 0)) {
        return dr_fail(err, DR_USAGE,
                       "drover archive expire needs the number of an operation or --due");
    }
    enum dr_code rc;
    if (is_due) {
        rc = dr_cli_queue(c, true, err);
        rc = rc == DR_OK ? dr_each_op(c->queue, expire_if_due, &x, err) : rc;
    } else {
        rc = expire_one(&x, err);
    }
    if (rc != DR_OK) {
        return rc;
    }
    if (c->is_json) {
        return dr_cli_put_json(
            json_pack("{s:I, s:I}", "archives", (json_int_t)x.count, "bytes", (json_int_t)x.bytes),
            err);
    }
    (void)printf("%llu archives removed, %s\n", (unsigned long long)x.count,
                 dr_human_bytes(x.bytes, bytes, sizeof bytes));
    return DR_OK;
}
