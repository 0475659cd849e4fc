/* SPDX-License-Identifier: Apache-2.0 */
/* Owns the ends of moves: dropping what was replaced, and cleaning up what an operation left on a
 * node. Both ask the catalog first: what it names as a holder is never dropped. */
#include <string.h>

#include "base/fault.h"
#include "store/fleet/fleet_private.h"

/* ---- whose is it ---- */

static bool is_of(const json_t *record, const char *key, const char *text)
{
    return strcmp(fl_text(record, key), text) == 0;
}

/* Is the table itself being dropped, by this operation? Then its holders go as well. */
static bool is_dropping(const json_t *record, const struct fl_command *c)
{
    return is_of(record, "state", "dropping") && is_of(record, "operation", c->shard.operation);
}

static const json_t *holders_of(const json_t *record, const char *shard)
{
    size_t i;
    const json_t *one;
    json_array_foreach(json_object_get(record, "shards"), i, one)
    {
        if (is_of(one, "table", shard)) {
            return json_object_get(one, "holders");
        }
    }
    return NULL;
}

/* ---- retire ---- */

static enum dr_code check_retire(const json_t *record, const struct fl_command *c,
                                 struct dr_err *err)
{
    if (!is_of(record, "uuid", c->shard.owner) || !is_of(record, "operation", c->shard.operation)) {
        return dr_fail(err, DR_CONFLICT, "table %s is not held by this operation any more",
                       c->shard.table);
    }
    for (uint32_t i = 0; !is_dropping(record, c) && i < c->drop.count; i++) {
        if (fl_is_holder(record, c->shard.name, c->drop.name[i])) {
            return dr_fail(err, DR_REFUSED, "shard %s: the catalog names %s as a holder",
                           c->shard.name, c->drop.name[i]);
        }
    }
    return DR_OK;
}

/* A holder that the catalog names has to be there, with its table: the copy that is dropped must
 * not be the last. All logs of the move go with this. */
static enum dr_code close_logs(struct fl_fleet *f, const json_t *record, const struct fl_command *c,
                               struct dr_err *err)
{
    size_t i;
    const json_t *holder;
    bool is_safe = false;
    enum dr_code rc = DR_OK;
    json_array_foreach(holders_of(record, c->shard.name), i, holder)
    {
        struct dr_shard_facts facts = {0};
        struct dr_store *s = NULL;
        const char *node = json_string_value(holder);
        rc = fl_open_node(f, c->shard.table, node, &s, err);
        rc = rc == DR_OK ? dr_shard_facts(s, &c->shard, &facts, err) : rc;
        if (rc == DR_OK && (facts.is_captured || facts.log_rows > 0)) {
            rc = dr_shard_capture(s, &c->shard, false, err);
        }
        if (fl_note(f, node, rc) != DR_OK) {
            return rc;
        }
        is_safe = is_safe || (facts.exists && facts.is_owned);
    }
    return is_safe || is_dropping(record, c) || c->drop.count == 0
               ? DR_OK
               : dr_fail(err, DR_REFUSED,
                         "shard %s: no holder has its table; what was to be dropped may be the "
                         "last copy",
                         c->shard.name);
}

/* Whatever form it has there. A node that was away during the cut over has it in use still. */
static enum dr_code drop_all(struct dr_store *s, const struct fl_command *c, struct dr_err *err)
{
    struct dr_shard_facts facts = {0};
    enum dr_code rc = dr_shard_facts(s, &c->shard, &facts, err);
    if (rc == DR_OK && facts.exists && facts.is_owned) {
        rc = dr_shard_drop(s, &c->shard, false, err);
    }
    return rc == DR_OK ? dr_shard_drop(s, &c->shard, true, err) : rc;
}

enum dr_code fl_retire(struct fl_fleet *f, const struct fl_command *c, struct dr_err *err)
{
    json_t *record = NULL;
    struct dr_store *s = NULL;
    enum dr_code rc = fl_read_record(f, c->shard.table, &record, err);
    rc = rc == DR_OK ? check_retire(record, c, err) : rc;
    if (rc == DR_OK && c->uncapture != NULL) {
        rc = fl_open_node(f, c->shard.table, c->uncapture, &s, err);
        rc =
            rc == DR_OK ? fl_note(f, c->uncapture, dr_shard_capture(s, &c->shard, false, err)) : rc;
    }
    if (rc == DR_OK && !is_dropping(record, c)) {
        rc = close_logs(f, record, c, err);
    }
    for (uint32_t i = 0; rc == DR_OK && i < c->drop.count; i++) {
        rc = dr_fault_pass("fleet.retire.drop", err);
        rc = rc == DR_OK ? fl_open_node(f, c->shard.table, c->drop.name[i], &s, err) : rc;
        rc = rc == DR_OK ? fl_note(f, c->drop.name[i], drop_all(s, c, err)) : rc;
    }
    json_decref(record);
    return rc;
}

/* ---- clean ---- */

/* Is the thing on record there, and by this operation? */
static enum dr_code is_made_by(struct dr_store *s, const struct fl_command *c, bool *out,
                               struct dr_err *err)
{
    struct dr_shard_record *r = NULL;
    uint32_t count = 0;
    struct dr_arena *a = dr_arena_create(4096);
    *out = false;
    enum dr_code rc = a == NULL ? dr_fail_nomem(err) : dr_shard_records(s, a, &r, &count, err);
    for (uint32_t i = 0; rc == DR_OK && i < count; i++) {
        *out = *out ||
               (strcmp(r[i].name, c->shard.name) == 0 && strcmp(r[i].owner, c->shard.owner) == 0 &&
                strcmp(r[i].operation, c->shard.operation) == 0 && strcmp(r[i].role, "log") != 0);
    }
    dr_arena_destroy(a);
    return rc;
}

/* A holder keeps its shard; what the operation put around it goes. Anybody else drops it, when it
 * is of this operation, or of none that still runs: then nobody can want it. */
static enum dr_code clean_store(struct dr_store *s, const struct fl_command *c,
                                const json_t *record, bool is_holder, struct dr_err *err)
{
    bool is_ours = false;
    bool is_same_table = record == NULL || is_of(record, "uuid", c->shard.owner);
    bool is_quiet = record == NULL || is_of(record, "operation", "") ||
                    is_of(record, "operation", c->shard.operation) || !is_same_table;
    if (is_holder) {
        enum dr_code rc = DR_OK;
        if (is_quiet) {
            rc = dr_shard_capture(s, &c->shard, false, err);
            rc =
                rc == DR_OK ? dr_shard_fence(s, &c->shard, false, DR_SHARD_FENCE_WAIT_MS, err) : rc;
        }
        return rc;
    }
    enum dr_code rc = is_made_by(s, c, &is_ours, err);
    if (rc != DR_OK || (!is_ours && !is_quiet)) {
        return rc;
    }
    rc = drop_all(s, c, err);
    return rc == DR_REFUSED ? DR_OK : rc; /* not this table's: none of our business */
}

static enum dr_code clean_node(const struct fl_command *c, struct dr_store *s, const json_t *record,
                               bool is_holder, struct dr_err *err)
{
    if (c->command != NULL) {
        return is_holder ? DR_OK : dr_store_command(s, FL_INNER_NODE, c->command, err);
    }
    return dr_shard_is_supported(s) ? clean_store(s, c, record, is_holder, err) : DR_OK;
}

/* Does the record know a node by this URL that holds the shard? */
static bool is_held_at(const json_t *record, const struct fl_command *c)
{
    size_t i;
    const json_t *one;
    json_array_foreach(json_object_get(record, "nodes"), i, one)
    {
        if (is_of(one, "url", c->url) &&
            fl_is_holder(record, c->shard.name, fl_text(one, "name"))) {
            return true;
        }
    }
    return false;
}

enum dr_code fl_clean(struct fl_fleet *f, const struct fl_command *c, const char *node,
                      struct dr_err *err)
{
    json_t *record = NULL;
    struct dr_store *s = NULL;
    enum dr_code rc = fl_read_record(f, c->shard.table, &record, err);
    rc = rc == DR_NOT_FOUND ? DR_OK : rc; /* the table is gone: nobody holds anything */
    bool is_same = record != NULL && is_of(record, "uuid", c->shard.owner);
    if (rc == DR_OK && c->url != NULL) {
        rc = dr_store_open(c->url, &s, err);
        rc = rc == DR_OK ? clean_node(c, s, record, is_same && is_held_at(record, c), err) : rc;
        dr_store_close(s);
    } else if (rc == DR_OK) {
        rc = fl_open_node(f, c->shard.table, node, &s, err);
        rc = rc == DR_OK
                 ? fl_note(f, node,
                           clean_node(c, s, record,
                                      is_same && fl_is_holder(record, c->shard.name, node), err))
                 : rc;
    }
    json_decref(record);
    return rc;
}
