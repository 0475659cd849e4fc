/* SPDX-License-Identifier: Apache-2.0 */
/* The kind "purge": the rows of one collection that a filter selects. No state. */
#include "request/request_private.h"

static enum dr_code parse_purge(struct dr_jr *jr, struct dr_request *r, struct dr_err *err)
{
    struct dr_purge *p = &r->u.purge;
    dr_request_read_name(jr, "collection", r->arena, &p->collection);
    (void)dr_jr_bool(jr, "temp_index", false, &p->temp_index);
    const json_t *filter = NULL;
    if (!dr_jr_any(jr, "filter", true, &filter)) {
        return DR_OK;
    }
    enum dr_code rc = dr_filter_parse(filter, r->arena, &p->filter, err);
    if (rc != DR_OK && rc != DR_NOMEM) {
        dr_wrap(err, "%s", jr->path); /* it says itself: "filter.field.op: what" */
    }
    return rc;
}

static enum dr_code guard_purge(const struct dr_request *r, struct dr_err *err)
{
    const struct dr_filter *filter = r->u.purge.filter;
    if (filter == NULL || filter->term_count == 0) {
        return dr_fail(err, DR_REFUSED,
                       "%s.%s: an empty filter would match every row; name what shall go",
                       r->database, r->u.purge.collection);
    }
    if (dr_filter_is_catch_all(filter) && !r->whole_collection) {
        return dr_fail(err, DR_REFUSED,
                       "%s.%s: the filter matches every row or nearly so, whatever they hold; "
                       "narrow it, or say \"whole_collection\": true when that is meant",
                       r->database, r->u.purge.collection);
    }
    return DR_OK;
}

static const char *collection_of_purge(const struct dr_request *r, uint32_t n)
{
    return n == 0 ? r->u.purge.collection : NULL;
}

static const struct dr_filter *filter_of_purge(const struct dr_request *r)
{
    return r->u.purge.filter;
}

static const char *make_purge_target(const struct dr_request *r)
{
    return dr_arena_printf(r->arena, "%s.%s", r->database, r->u.purge.collection);
}

const struct dr_request_kind *dr_request_kind_purge(void)
{
    static const struct dr_request_kind kind = {
        .name = "purge",
        .parse = parse_purge,
        .guard = guard_purge,
        .collection = collection_of_purge,
        .filter = filter_of_purge,
        .make_target = make_purge_target,
    };
    return &kind;
}
