/* SPDX-License-Identifier: Apache-2.0 */
/* A running peer as the catalog of sharded tables, for those below: reading records and agreeing on
 * entries. Any thread. */
#include <inttypes.h>
#include <string.h>

#include "base/backoff.h"
#include "catalog/table.h"
#include "cluster/cluster_private.h"
#include "cluster/port.h"

enum { PORT_MS = 10 * 1000, PORT_PAUSE_MS = 10 };

/* A peer that has just started may not know yet what was agreed on: nothing is read from it before
 * it does. *out is the caller's. */
static enum dr_code take_state(struct dr_cluster *c, struct dr_catalog **out, struct dr_err *err)
{
    *out = NULL;
    if (!dr_cluster_catch_up(c, PORT_MS)) {
        return dr_fail(err, DR_UNREACHABLE,
                       "this peer has not caught up with the catalog within %d s: are most of its "
                       "peers reachable?",
                       PORT_MS / 1000);
    }
    *out = dr_cluster_catalog(c);
    return DR_OK;
}

static enum dr_code read_table(void *arg, const char *table, json_t **out, struct dr_err *err)
{
    struct dr_catalog *cat = NULL;
    *out = NULL;
    enum dr_code rc = take_state(arg, &cat, err);
    if (rc != DR_OK) {
        return rc;
    }
    const struct dr_table_info *t = dr_catalog_table(cat, table);
    if (t == NULL) {
        rc = dr_fail(err, DR_NOT_FOUND, "there is no sharded table `%.64s`", table);
    } else {
        *out = dr_table_to_json(t, true);
        rc = *out == NULL ? dr_fail_nomem(err) : DR_OK;
    }
    dr_catalog_unref(cat);
    return rc;
}

static enum dr_code list_tables(void *arg, json_t **out, struct dr_err *err)
{
    struct dr_catalog *cat = NULL;
    *out = NULL;
    enum dr_code rc = take_state(arg, &cat, err);
    if (rc != DR_OK) {
        return rc;
    }
    json_t *list = json_array();
    for (uint32_t i = 0; list != NULL && i < dr_catalog_table_count(cat); i++) {
        if (json_array_append_new(list, dr_table_to_json(dr_catalog_table_at(cat, i), true)) != 0) {
            json_decref(list);
            list = NULL;
        }
    }
    dr_catalog_unref(cat);
    *out = list;
    return list == NULL ? dr_fail_nomem(err) : DR_OK;
}

/* An old peer would take table entries for mistakes and hold another state than the others. Our own
 * announcement may still be on its way: that is waited for. */
static enum dr_code check_peers(struct dr_cluster *c, struct dr_err *err)
{
    dr_mono_ms until = dr_mono_now() + PORT_MS;
    for (;;) {
        struct dr_catalog *cat = dr_cluster_catalog(c);
        const struct dr_peer *self = dr_catalog_peer(cat, c->id);
        bool is_good = dr_catalog_all_understand(cat, DR_CATALOG_FORMAT_TABLES);
        uint64_t old_id = 0;
        for (uint32_t i = 0; i < dr_catalog_peer_count(cat); i++) {
            const struct dr_peer *p = dr_catalog_peer_at(cat, i);
            old_id = p->format < DR_CATALOG_FORMAT_TABLES && p->id != c->id ? p->id : old_id;
        }
        bool is_self_old = self == NULL || self->format < DR_CATALOG_FORMAT_TABLES;
        dr_catalog_unref(cat);
        if (is_good) {
            return DR_OK;
        }
        if (old_id != 0) {
            return dr_fail(err, DR_UNSUPPORTED,
                           "peer %" PRIu64 " does not understand sharded tables: update its "
                           "program, or remove it from the cluster",
                           old_id);
        }
        if (!is_self_old || dr_mono_now() >= until ||
            dr_wait_ms(PORT_PAUSE_MS, dr_cluster_is_stopping, c)) {
            return dr_fail(err, DR_UNREACHABLE,
                           "this peer could not announce itself to the catalog within %d s",
                           PORT_MS / 1000);
        }
    }
}

static enum dr_code render_entry(const json_t *entry, char **out, struct dr_err *err)
{
    *out = NULL;
    if (!json_is_object(entry)) {
        return dr_fail(err, DR_INPUT, "a catalog entry is a JSON object");
    }
    json_t *copy = json_copy((json_t *)entry);
    if (copy != NULL && json_object_get(copy, "v") == NULL &&
        !dr_shape_set(copy, "v", json_integer(DR_CATALOG_FORMAT_TABLES))) {
        json_decref(copy);
        copy = NULL;
    }
    *out = copy == NULL ? NULL : dr_json_text(copy);
    json_decref(copy);
    return *out == NULL ? dr_fail_nomem(err) : DR_OK;
}

static enum dr_code change_table(void *arg, const json_t *entry, struct dr_err *err)
{
    struct dr_cluster *c = arg;
    struct proposal made;
    char *text = NULL;
    enum dr_code rc = render_entry(entry, &text, err);
    memset(&made, 0, sizeof made);
    if (rc == DR_OK && !dr_cluster_catch_up(c, PORT_MS)) {
        rc = dr_fail(err, DR_UNREACHABLE,
                     "this peer has not caught up with the catalog within %d s", PORT_MS / 1000);
    }
    if (rc == DR_OK) {
        rc = check_peers(c, err);
    }
    if (rc == DR_OK) {
        rc = dr_propose(c, text, PORT_MS, &made, err);
    }
    if (rc == DR_OK && made.result.code != DR_OK) {
        rc = dr_fail(err, made.result.code, "%s", made.result.message);
    }
    json_decref(made.result.value);
    dr_free(text);
    return rc;
}

void dr_cluster_port(struct dr_cluster *c, struct dr_catalog_port *out)
{
    *out = (struct dr_catalog_port){
        .arg = c, .read = read_table, .list = list_tables, .change = change_table};
}
