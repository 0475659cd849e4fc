/* SPDX-License-Identifier: Apache-2.0 */
/* The kind "tenant.drop": all rows of a database, or of the collections named. No state. */
#include "request/request_private.h"

static enum dr_code parse_drop(struct dr_jr *jr, struct dr_request *r, struct dr_err *err)
{
    struct dr_tenant_drop *d = &r->u.tenant_drop;
    (void)dr_jr_bool(jr, "drop_when_empty", false, &d->drop_when_empty);
    return dr_request_read_collections(jr, r->arena, NULL, &d->collection, &d->collection_count,
                                       err);
}

static enum dr_code guard_drop(const struct dr_request *r, struct dr_err *err)
{
    (void)r; /* the names are guarded for every kind; there is no filter to look at */
    (void)err;
    return DR_OK;
}

static const char *collection_of_drop(const struct dr_request *r, uint32_t n)
{
    const struct dr_tenant_drop *d = &r->u.tenant_drop;
    return n < d->collection_count ? d->collection[n] : NULL;
}

static const struct dr_filter *filter_of_drop(const struct dr_request *r)
{
    (void)r;
    return NULL;
}

static const char *make_drop_target(const struct dr_request *r)
{
    return dr_arena_strdup(r->arena, r->database);
}

const struct dr_request_kind *dr_request_kind_tenant_drop(void)
{
    static const struct dr_request_kind kind = {
        .name = "tenant.drop",
        .parse = parse_drop,
        .guard = guard_drop,
        .collection = collection_of_drop,
        .filter = filter_of_drop,
        .make_target = make_drop_target,
    };
    return &kind;
}
