/* SPDX-License-Identifier: Apache-2.0 */
/* The adapter's table of functions. Rows are Manticore's own business: they are moved by its
 * replication, so there is nothing to walk, erase or put back. */
#include "store/manticore/manticore_private.h"

static enum dr_code open_store(const char *url, void **impl, struct dr_err *err)
{
    struct mt_store *s = NULL;
    enum dr_code rc = mt_open(url, &s, err);
    *impl = s;
    return rc;
}

static void close_store(void *impl)
{
    mt_close(impl);
}

static enum dr_code fail_rows(const struct mt_store *s, struct dr_err *err)
{
    return dr_fail(err, DR_UNSUPPORTED,
                   "Manticore node %s: drover makes, moves and drops sharded tables here; it does "
                   "not read or erase their rows",
                   s->shown);
}

static enum dr_code survey(void *impl, const char *database, const struct dr_filter *filter,
                           struct dr_survey *out, struct dr_err *err)
{
    (void)database, (void)filter, (void)out;
    return fail_rows(impl, err);
}

static enum dr_code epoch(void *impl, const char *collection, uint64_t *out, struct dr_err *err)
{
    (void)impl, (void)collection, (void)err;
    *out = 0; /* layouts live in the catalog */
    return DR_OK;
}

static enum dr_code count(void *impl, const struct dr_range *range, uint64_t *out,
                          struct dr_err *err)
{
    (void)range, (void)out;
    return fail_rows(impl, err);
}

static enum dr_code scan(void *impl, const struct dr_range *range, const struct dr_budget *budget,
                         const struct dr_cursor *from, struct dr_batch *batch, struct dr_err *err)
{
    (void)range, (void)budget, (void)from, (void)batch;
    return fail_rows(impl, err);
}

static enum dr_code change(void *impl, const struct dr_range *range, const struct dr_batch *batch,
                           struct dr_tally *tally, struct dr_err *err)
{
    (void)range, (void)batch, (void)tally;
    return fail_rows(impl, err);
}

const struct dr_store_ops *dr_store_manticore_ops(void)
{
    static const struct dr_store_ops ops = {
        .scheme = "manticore",
        .can = DR_CAN_COMMAND,
        .open = open_store,
        .close = close_store,
        .survey = survey,
        .epoch = epoch,
        .health = mt_health,
        .count = count,
        .scan = scan,
        .erase = change,
        .probe = change,
        .restore = change,
        .command = mt_command,
        .survey_spec = mt_survey_spec,
        .check = mt_check,
    };
    return &ops;
}
