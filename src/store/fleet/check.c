/* SPDX-License-Identifier: Apache-2.0 */
/* Owns the validation of commands before they are stored and before a rollback command is run. It
 * changes nothing. */
#include <string.h>

#include "store/fleet/fleet_private.h"

/* Are the texts fit for statements? shard.h's rules, told without a node. */
static enum dr_code check_names(const struct fl_command *c, struct dr_err *err)
{
    const char *name = c->shard.name;
    if (name == NULL) {
        return DR_OK;
    }
    size_t bytes = strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_");
    bool is_good = bytes > 0 && name[bytes] == '\0' && bytes <= DR_SHARD_NAME_BYTES_MAX &&
                   strchr("0123456789", name[0]) == NULL && strncmp(name, "drover_", 7) != 0;
    return is_good ? DR_OK : dr_fail(err, DR_INPUT, "\"%.64s\" is no name for a shard", name);
}

/* Is what the command works on there? What is gone already need not be undone. */
static enum dr_code check_thing(const struct fl_command *c, const struct dr_shard_facts *facts,
                                const char *node, struct dr_err *err)
{
    bool is_there = facts->exists || facts->is_held || facts->is_owned;
    switch (c->what) {
    case FL_DROP:
        is_there = facts->exists || facts->is_owned;
        break;
    case FL_UNCAPTURE:
        is_there = facts->is_captured || facts->log_rows > 0;
        break;
    case FL_UNHOLD:
        is_there = facts->is_held;
        break;
    case FL_CAPTURE:
    case FL_COPY:
    case FL_FOLLOW:
    case FL_VERIFY:
    case FL_HOLD:
        break;
    case FL_CATALOG:
    case FL_ENSURE:
    case FL_CUTOVER:
    case FL_CUTBACK:
    case FL_HOLD_UNTIL:
    case FL_RETIRE:
    case FL_CLEAN:
    case FL_GIVE_UP:
    case FL_WHAT_COUNT:
        return DR_OK;
    }
    return is_there ? DR_OK
                    : dr_fail(err, DR_NOT_FOUND, "node %s: there is nothing to %s of shard %s",
                              node, fl_what_name(c->what), c->shard.name);
}

static enum dr_code check_on(struct fl_fleet *f, const struct fl_command *c, const char *node,
                             struct dr_err *err)
{
    struct dr_store *s = NULL;
    struct dr_shard_facts facts;
    enum dr_code rc = fl_open_node(f, c->shard.table, node, &s, err);
    rc = rc == DR_OK ? fl_note(f, node, dr_shard_facts(s, &c->shard, &facts, err)) : rc;
    return rc == DR_OK ? check_thing(c, &facts, node, err) : rc;
}

static enum dr_code check_all_on(struct fl_fleet *f, const struct fl_command *c,
                                 const struct fl_names *names, struct dr_err *err)
{
    enum dr_code rc = DR_OK;
    for (uint32_t i = 0; rc == DR_OK && i < names->count; i++) {
        if (!fl_has_name(&c->dead, names->name[i])) {
            rc = check_on(f, c, names->name[i], err);
        }
    }
    return rc;
}

/* An entry that makes a record needs none; all others work on one. */
static enum dr_code check_record(struct fl_fleet *f, const json_t *entry, struct dr_err *err)
{
    json_t *record = NULL;
    if (strcmp(fl_text(entry, "op"), "table_reserve") == 0) {
        return DR_OK;
    }
    enum dr_code rc = fl_read_record(f, fl_text(entry, "name"), &record, err);
    if (rc == DR_OK && strcmp(fl_text(record, "uuid"), fl_text(entry, "uuid")) != 0) {
        rc = dr_fail(err, DR_NOT_FOUND, "table %s is another one by now", fl_text(entry, "name"));
    }
    json_decref(record);
    return rc;
}

static enum dr_code check_now(struct fl_fleet *f, const struct fl_command *c, const char *node,
                              struct dr_err *err)
{
    enum dr_code rc = DR_OK;
    switch (c->what) {
    case FL_CATALOG:
        return check_record(f, c->entry, err);
    case FL_CUTOVER:
    case FL_CUTBACK:
        rc = check_all_on(f, c, &c->to, err);
        return rc == DR_OK ? check_all_on(f, c, &c->from, err) : rc;
    case FL_COPY:
    case FL_FOLLOW:
    case FL_VERIFY:
        rc = check_on(f, c, c->source, err);
        return rc == DR_OK ? check_all_on(f, c, &c->to, err) : rc;
    case FL_RETIRE:
        return check_all_on(f, c, &c->drop, err);
    case FL_HOLD_UNTIL:
    case FL_CLEAN: /* of a node that may be away for long */
    case FL_GIVE_UP:
        return DR_OK;
    case FL_ENSURE:
    case FL_DROP:
    case FL_CAPTURE:
    case FL_UNCAPTURE:
    case FL_HOLD:
    case FL_UNHOLD:
    case FL_WHAT_COUNT:
        break;
    }
    return check_on(f, c, node, err);
}

/* The node's own store knows its words. While it is not known, or does not answer, nothing can be
 * told before the time. */
static enum dr_code check_other(struct fl_fleet *f, const char *node, const char *text, bool is_now,
                                struct dr_err *err)
{
    struct dr_store *s = NULL;
    if (strcmp(node, FL_CATALOG_NODE) == 0) {
        return dr_fail(err, DR_INPUT, "\"%.60s\" is no command for the catalog", text);
    }
    enum dr_code rc = fl_open_node(f, NULL, node, &s, err);
    if (!is_now && (rc == DR_NOT_FOUND || rc == DR_UNREACHABLE)) {
        dr_err_clear(err);
        return DR_OK;
    }
    return rc == DR_OK ? fl_note(f, node, dr_store_check(s, FL_INNER_NODE, text, is_now, err)) : rc;
}

enum dr_code fl_check(void *impl, const char *node, const char *text, bool is_now,
                      struct dr_err *err)
{
    struct fl_fleet *f = impl;
    struct fl_command c;
    if (!fl_is_command(text)) {
        return check_other(f, node, text, is_now, err);
    }
    enum dr_code rc = fl_command_parse(text, &c, err);
    rc = rc == DR_OK ? check_names(&c, err) : rc;
    if (rc == DR_OK && !fl_is_in_place(&c, node)) {
        rc =
            dr_fail(err, DR_INPUT, "\"%s\" does not belong on node %s", fl_what_name(c.what), node);
    }
    rc = rc == DR_OK && is_now ? check_now(f, &c, node, err) : rc;
    fl_command_fini(&c);
    return rc;
}
