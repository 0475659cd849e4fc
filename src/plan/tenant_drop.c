/* SPDX-License-Identifier: Apache-2.0 */
/* "tenant.drop": everything a database holds, or the collections named. Walks the survey, not the
 * names, so that a collection named twice is worked on once. */
#include "plan/plan_private.h"

#include <string.h>

/* "acme.orders" is collection "orders" of database "acme". */
static bool is_named(const struct dr_collection *c, const char *database, const char *name)
{
    size_t length = strlen(database);
    return strncmp(c->name, database, length) == 0 && c->name[length] == '.' &&
           strcmp(c->name + length + 1, name) == 0;
}

static bool is_wanted(const struct dr_request *r, const struct dr_collection *c)
{
    const struct dr_tenant_drop *t = &r->u.tenant_drop;
    for (uint32_t i = 0; i < t->collection_count; i++) {
        if (is_named(c, r->database, t->collection[i])) {
            return true;
        }
    }
    return t->collection_count == 0;
}

static enum dr_code check_names(const struct dr_plan *p, struct dr_err *err)
{
    const struct dr_tenant_drop *t = &p->request->u.tenant_drop;
    for (uint32_t i = 0; i < t->collection_count; i++) {
        bool is_there = false;
        for (uint32_t k = 0; k < p->survey->collection_count && !is_there; k++) {
            is_there = is_named(&p->survey->collection[k], p->request->database, t->collection[i]);
        }
        if (!is_there) {
            return dr_fail(err, DR_NOT_FOUND, "%s.%s: no such collection", p->request->database,
                           t->collection[i]);
        }
    }
    return DR_OK;
}

enum dr_code dr_pick_drop(struct dr_plan *p, struct dr_pick *pick, struct dr_err *err)
{
    const struct dr_collection *c = pick->collection;
    if ((p->can & DR_CAN_COMMAND) == 0) {
        return dr_fail(err, DR_UNSUPPORTED,
                       "%s: this store drops nothing on command; leave out \"drop_when_empty\"",
                       c->name);
    }
    if (c->drop_text == NULL || (c->create_text == NULL && !p->request->irreversible)) {
        return dr_fail(err, DR_REFUSED,
                       "%s: the store does not say how to %s it, so dropping it could not be %s; "
                       "leave out \"drop_when_empty\"",
                       c->name, c->drop_text == NULL ? "drop" : "create",
                       c->drop_text == NULL ? "planned" : "undone");
    }
    pick->is_dropped = true;
    return DR_OK;
}

static enum dr_code pick_one(struct dr_plan *p, const struct dr_collection *c, struct dr_pick *pick,
                             struct dr_err *err)
{
    const struct dr_tenant_drop *t = &p->request->u.tenant_drop;
    if (t->collection_count == 0 && c->is_view) {
        return dr_pick_nothing(p, c, "a view holds no data: left alone", pick, err);
    }
    if (t->collection_count == 0 && c->is_system) {
        return dr_pick_nothing(p, c, "belongs to the database system: left alone", pick, err);
    }
    enum dr_code rc = dr_plan_guard_collection(p, c, err);
    if (rc == DR_OK) {
        rc = dr_pick_whole(p, c, pick, err);
    }
    if (rc == DR_OK && t->drop_when_empty && pick->work_count > 0) {
        rc = dr_pick_drop(p, pick, err);
    }
    if (rc == DR_OK && c->has_reference) {
        rc = dr_pick_warn(p, pick,
                          t->collection_count == 0
                              ? "other collections refer to it: erased after them"
                              : "other collections refer to it, perhaps ones that stay",
                          err);
    }
    return rc;
}

enum dr_code dr_plan_tenant_drop(struct dr_plan *p, struct dr_err *err)
{
    const struct dr_survey *s = p->survey;
    p->target = p->request->database;
    enum dr_code rc = check_names(p, err);
    if (rc != DR_OK) {
        return rc;
    }
    uint32_t with_data = 0;
    for (uint32_t i = 0; i < s->collection_count; i++) {
        if (!is_wanted(p->request, &s->collection[i])) {
            continue;
        }
        rc = pick_one(p, &s->collection[i], &p->pick[p->pick_count], err);
        if (rc != DR_OK) {
            return rc;
        }
        with_data += !s->collection[i].is_view && !s->collection[i].is_system;
        p->pick_count++;
    }
    if (with_data == 0) {
        return dr_fail(err, DR_NOT_FOUND, "%s: no collection to erase in this database",
                       p->request->database);
    }
    return DR_OK;
}
