/* SPDX-License-Identifier: Apache-2.0 */
/* What erase.c and prepare.c share: one call of erase, and groups of its items. */
#ifndef DR_STORE_REDIS_ERASE_PRIVATE_H
#define DR_STORE_REDIS_ERASE_PRIVATE_H

#include "store/redis/redis_private.h"

/* What goes with an item, in an array beside the items. */
struct er_more {
    struct dr_item trash;  /* where it goes to be shrunk; key NULL: it is erased where it is */
    const char *type;      /* of those that are shrunk */
    struct dr_item logged; /* the value as the log shows it, in `key` */
};

struct er_group {
    struct dr_item *item;
    struct er_more *more;
    size_t count;
};

struct er_run {
    struct rd_store *s;
    const struct dr_range *range;
    struct rd_spec *spec;
    const struct dr_batch *batch;
    struct dr_tally *tally;
    size_t keys_per_command; /* 1 while each erased key is logged */
    int log_fd;
    bool has_log;
    struct dr_str log_text;
    struct er_group all; /* the batch */
};

static inline const char *er_command(const struct rd_store *s)
{
    return s->lacks_unlink ? "DEL" : "UNLINK";
}

/* Copy the batch into run->all, find the big ones, open the log and read what it shall say. */
DR_MUST enum dr_code er_prepare(struct er_run *run, struct dr_err *err);
/* The key was really erased: note its line. */
void er_log_line(struct er_run *run, const struct dr_item *item, const struct dr_item *logged);
/* Write and close the log, whatever happened before; what was erased is on record. */
DR_MUST enum dr_code er_finish(struct er_run *run, struct dr_err *err);

#endif
