/* SPDX-License-Identifier: Apache-2.0 */
/* What precedes an erase: which items are big and are shrunk first, and the log of erased keys with
 * the values they had. */
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "store/redis/erase_private.h"

enum { BIG_BYTES = 1024 * 1024, LOGGED_BYTES_MAX = 4096 };

/* Memory of each item in bytes, 0 where it is not told. The length of an archived payload says
 * little: it is compressed. */
static enum dr_code read_sizes(struct er_run *run, uint64_t *size, struct dr_err *err)
{
    struct rd_store *s = run->s;
    size_t count = run->all.count;
    struct rd_call *call = dr_arena_alloc(s->scratch, count * sizeof *call);
    enum dr_code rc = call == NULL ? dr_fail_nomem(err) : DR_OK;
    size_t made = 0;
    for (; rc == DR_OK && made < count; made++) {
        const struct dr_item *item = &run->all.item[made];
        rc = rd_call_make(s, &call[made], "MEMORY", NULL, 0, err);
        call[made].slot = rd_slot_of(s, item->key, item->key_len);
        if (rc == DR_OK) {
            rc = rd_call_add(s, &call[made], "USAGE", 5, err);
        }
        if (rc == DR_OK) {
            rc = rd_call_add(s, &call[made], item->key, item->key_len, err);
        }
    }
    if (rc == DR_OK) {
        rc = rd_exchange(s, run->range->node, call, count, NULL, err);
    }
    for (size_t i = 0; rc == DR_OK && i < count; i++) {
        const redisReply *r = call[i].reply;
        size[i] = r->type == REDIS_REPLY_INTEGER && r->integer > 0 ? (uint64_t)r->integer : 0;
    }
    rd_calls_free(call, made);
    return rc;
}

/* An archived item that is a big collection gets a name to be renamed to: should we die while it is
 * shrunk, no half of it stays under its own name, where an undo would run into it. */
static enum dr_code mark_archived(struct er_run *run, size_t i, const char *type,
                                  struct dr_err *err)
{
    const char *name = NULL;
    size_t bytes = 0;
    enum dr_code rc = rd_trash_name(run->s, &run->all.item[i], &name, &bytes, err);
    if (rc == DR_OK && name != NULL) {
        run->all.more[i].type = type;
        run->all.more[i].trash = (struct dr_item){.key = name, .key_len = (uint32_t)bytes};
    }
    return rc;
}

/* What is not archived nobody will put back: it is shrunk where it is. */
static enum dr_code handle_big(struct er_run *run, struct dr_err *err)
{
    struct rd_store *s = run->s;
    size_t count = run->all.count;
    const char **type = dr_arena_alloc(s->scratch, count * sizeof *type);
    uint64_t *size = dr_arena_alloc(s->scratch, count * sizeof *size);
    if (type == NULL || size == NULL) {
        return dr_fail_nomem(err);
    }
    enum dr_code rc = rd_types(s, run->range->node, run->spec, run->all.item, count, type, err);
    if (rc == DR_OK) {
        rc = read_sizes(run, size, err);
    }
    for (size_t i = 0; rc == DR_OK && i < count; i++) {
        const struct dr_item *item = &run->all.item[i];
        struct rd_node *n = NULL;
        if (size[i] < BIG_BYTES || strcmp(type[i], "string") == 0 ||
            !rd_spec_has_type(run->spec, type[i])) {
            continue; /* a string is freed whole, by the server's background thread */
        }
        if (item->value != NULL) {
            rc = mark_archived(run, i, type[i], err);
            continue;
        }
        rc = rd_route(s, run->range->node, rd_slot_of(s, item->key, item->key_len), &n, err);
        if (rc == DR_OK) {
            rc = rd_shrink(s, n, item->key, item->key_len, type[i], err);
        }
    }
    return rc;
}

/* ---- the log ---- */

/* One line per key whatever it holds: control characters, backslash and blanks are escaped. */
static void add_escaped(struct dr_str *to, const void *data, size_t bytes)
{
    const uint8_t *at = data;
    for (size_t i = 0; i < bytes; i++) {
        if (at[i] == '\n') {
            dr_str_add(to, "\\n");
        } else if (at[i] < 0x21 || at[i] == 0x7f || at[i] == '\\') {
            dr_str_addf(to, "\\x%02x", at[i]);
        } else {
            dr_str_addc(to, (char)at[i]);
        }
    }
}

void er_log_line(struct er_run *run, const struct dr_item *item, const struct dr_item *logged)
{
    if (run->has_log) {
        add_escaped(&run->log_text, item->key, item->key_len);
        dr_str_addc(&run->log_text, ' ');
        add_escaped(&run->log_text, logged->key, logged->key_len);
        dr_str_addc(&run->log_text, '\n');
    }
}

static enum dr_code read_logged(struct er_run *run, struct dr_err *err)
{
    struct rd_store *s = run->s;
    size_t count = run->all.count;
    struct rd_call *call = dr_arena_alloc(s->scratch, count * sizeof *call);
    enum dr_code rc = call == NULL ? dr_fail_nomem(err) : DR_OK;
    size_t made = 0;
    for (; rc == DR_OK && made < count; made++) {
        rc = rd_call_make(s, &call[made], "GETRANGE", &run->all.item[made], 1, err);
        if (rc == DR_OK) {
            rc = rd_call_add(s, &call[made], "0", 1, err);
        }
        if (rc == DR_OK) {
            rc = rd_call_add(s, &call[made], "4095", 4, err);
        }
    }
    _Static_assert(LOGGED_BYTES_MAX == 4096, "the command says so");
    if (rc == DR_OK) {
        rc = rd_exchange(s, run->range->node, call, count, NULL, err);
    }
    for (size_t i = 0; rc == DR_OK && i < count; i++) {
        const redisReply *r = call[i].reply;
        bool is_text = r->type == REDIS_REPLY_STRING;
        void *copy = dr_arena_memdup(s->scratch, is_text ? r->str : "-", is_text ? r->len : 1);
        run->all.more[i].logged =
            (struct dr_item){.key = copy, .key_len = is_text ? (uint32_t)r->len : 1};
        rc = copy == NULL ? dr_fail_nomem(err) : DR_OK;
    }
    rd_calls_free(call, made);
    return rc;
}

enum dr_code er_prepare(struct er_run *run, struct dr_err *err)
{
    size_t count = (size_t)run->batch->count;
    struct rd_store *s = run->s;
    run->all.item = dr_arena_memdup(s->scratch, run->batch->item, count * sizeof *run->all.item);
    run->all.more = dr_arena_alloc(s->scratch, count * sizeof *run->all.more);
    run->all.count = count;
    if (run->all.item == NULL || run->all.more == NULL) {
        return dr_fail_nomem(err);
    }
    memset(run->all.more, 0, count * sizeof *run->all.more);
    enum dr_code rc = DR_OK;
    if (run->spec->log_path != NULL) { /* opened first: what cannot be logged is not erased */
        rc = dr_file_open(run->spec->log_path, O_WRONLY | O_CREAT | O_APPEND, &run->log_fd, err);
        run->has_log = rc == DR_OK;
        rc = rc == DR_OK ? read_logged(run, err) : rc;
    }
    if (rc != DR_OK || !rd_spec_has_collections(run->spec)) {
        return rc;
    }
    return handle_big(run, err);
}

enum dr_code er_finish(struct er_run *run, struct dr_err *err)
{
    enum dr_code rc = run->log_text.is_short ? dr_fail_nomem(err) : DR_OK;
    if (run->has_log) {
        if (rc == DR_OK && run->log_text.len > 0) {
            rc = dr_file_write_all(run->log_fd, run->spec->log_path, run->log_text.data,
                                   run->log_text.len, err);
        }
        (void)close(run->log_fd);
        run->has_log = false;
    }
    dr_str_fini(&run->log_text);
    return rc;
}
