/* SPDX-License-Identifier: Apache-2.0 */
/* The adapter's table of functions, opening and closing, epoch and health. Layout and survey are in
 * layout.c, reading in walk.c, erasing and restoring in change.c, commands in command.c. */
#include "store/sqlite/sqlite_store.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "store/sqlite/shard_private.h"
#include "store/sqlite/sqlite_private.h"

enum { HEALTH_VALID_MS = 1000, HEALTH_WAIT_MS = 5000 };

static const uint64_t disk_free_bytes_min = UINT64_C(64) << 20;
static const uint64_t wal_bytes_max = UINT64_C(512) << 20;

static void close_store(void *impl)
{
    struct sq_store *s = impl;
    if (s == NULL) {
        return;
    }
    for (uint32_t i = 0; i < s->node_count; i++) {
        sq_node_destroy(s->node[i]);
    }
    dr_free(s->node);
    dr_sql_close(&s->layout);
    dr_free(s->path);
    dr_free(s);
}

/* A plain file is its own only node and keeps the connection that looked at it. */
static enum dr_code make_main_node(struct sq_store *s, struct dr_err *err)
{
    s->node = dr_calloc(1, sizeof(struct sq_node *));
    struct sq_node *n = s->node == NULL ? NULL : sq_node_create("main", s->path);
    if (n == NULL) {
        return dr_fail_nomem(err);
    }
    s->node[0] = n;
    s->node_count = 1;
    dr_sql_close(&s->layout);
    return sq_node_connect(n, err);
}

static enum dr_code open_store(const char *url, void **impl_out, struct dr_err *err)
{
    const char *path = strncmp(url, "sqlite:", 7) == 0 ? url + 7 : url;
    int64_t is_layout = 0;
    *impl_out = NULL;
    if (path[0] == '\0') {
        return dr_fail(err, DR_INPUT, "\"%s\" names no file; write sqlite:/path/to/file.db", url);
    }
    struct sq_store *s = dr_calloc(1, sizeof *s);
    if (s == NULL) {
        return dr_fail_nomem(err);
    }
    s->path = dr_strdup(path);
    enum dr_code rc = s->path == NULL ? dr_fail_nomem(err) : sq_connect(&s->layout, path, err);
    if (rc == DR_OK) {
        rc = dr_sql_int(&s->layout,
                        "SELECT 1 FROM pragma_table_info('drover_shards') WHERE name = 'path'", 0,
                        &is_layout, err);
    }
    s->is_plain = is_layout == 0;
    if (rc == DR_OK && s->is_plain) {
        rc = make_main_node(s, err);
    }
    if (rc != DR_OK) {
        close_store(s);
        return rc;
    }
    *impl_out = s;
    return DR_OK;
}

static enum dr_code read_epoch(void *impl, const char *collection, uint64_t *epoch_out,
                               struct dr_err *err)
{
    struct sq_store *s = impl;
    return sq_epoch(s, collection, epoch_out, err);
}

static uint64_t bytes_of_wal(const char *path)
{
    char wal[4096];
    struct stat st;
    int length = snprintf(wal, sizeof wal, "%s-wal", path);
    bool is_there = length > 0 && (size_t)length < sizeof wal && stat(wal, &st) == 0;
    return is_there ? (uint64_t)st.st_size : 0;
}

static enum dr_code read_health(void *impl, const char *node, struct dr_health *out,
                                struct dr_err *err)
{
    struct sq_store *s = impl;
    struct sq_node *n = NULL;
    uint64_t disk_free = 0;
    char have[32];
    char limit[32];
    *out = (struct dr_health){0};
    enum dr_code rc = sq_node_find(s, node, &n, err);
    if (rc != DR_OK) {
        return rc;
    }
    if (access(n->path, F_OK) != 0) { /* an open connection would not notice */
        return dr_fail(err, DR_UNREACHABLE, "node %s: %s: %s; the file has gone", n->name, n->path,
                       strerror(errno));
    }
    rc = dr_disk_free(n->path, &disk_free, err);
    if (rc != DR_OK) {
        return rc;
    }
    uint64_t wal = bytes_of_wal(n->path);
    out->valid_ms = HEALTH_VALID_MS;
    out->is_ok = disk_free >= disk_free_bytes_min && wal <= wal_bytes_max;
    if (disk_free < disk_free_bytes_min) {
        (void)snprintf(out->reason, sizeof out->reason, "node %s: %s free on its disk, limit %s",
                       n->name, dr_human_bytes(disk_free, have, sizeof have),
                       dr_human_bytes(disk_free_bytes_min, limit, sizeof limit));
    } else if (wal > wal_bytes_max) {
        (void)snprintf(out->reason, sizeof out->reason,
                       "node %s: its -wal file has %s, limit %s; a long reader keeps it from being "
                       "checkpointed",
                       n->name, dr_human_bytes(wal, have, sizeof have),
                       dr_human_bytes(wal_bytes_max, limit, sizeof limit));
    }
    out->wait_hint_ms = out->is_ok ? 0 : HEALTH_WAIT_MS;
    return DR_OK;
}

static const struct dr_shard_ops shard_ops = {
    .ensure = sqs_ensure,
    .drop = sqs_drop,
    .capture = sqs_capture,
    .fence = sqs_fence,
    .hold = sqs_hold,
    .copy = sqs_copy,
    .follow = sqs_follow,
    .digest = sqs_digest,
    .compare = sqs_compare,
    .facts = sqs_facts,
    .records = sqs_records,
};

static const struct dr_store_ops ops = {
    .scheme = "sqlite",
    .can = DR_CAN_SHARD_RANGE | DR_CAN_SHARD_HASHED | DR_CAN_INDEX | DR_CAN_SCAN |
           DR_CAN_BROADCAST | DR_CAN_TEMP_INDEX | DR_CAN_COMMAND | DR_CAN_RESTORE | DR_CAN_COUNT,
    .open = open_store,
    .close = close_store,
    .survey = sq_survey,
    .epoch = read_epoch,
    .health = read_health,
    .count = sq_count,
    .scan = sq_scan,
    .erase = sq_erase,
    .probe = sq_probe,
    .restore = sq_restore,
    .command = sq_command,
    .survey_spec = sq_survey_spec,
    .check = sq_check,
    .shard = &shard_ops,
};

const struct dr_store_ops *dr_store_sqlite_ops(void)
{
    return &ops;
}
