/* SPDX-License-Identifier: Apache-2.0 */
/* What port.h offers in a build without the catalog's peer (DROVER_RAFT=OFF): every question is
 * answered with that. */
#include "cluster/port.h"

#ifndef DROVER_RAFT

static enum dr_code fail_absent(struct dr_err *err)
{
    return dr_fail(err, DR_UNSUPPORTED,
                   "this build has no catalog; configure it with -DDROVER_RAFT=ON");
}

static enum dr_code read_table(void *arg, const char *table, json_t **out, struct dr_err *err)
{
    (void)arg;
    (void)table;
    *out = NULL;
    return fail_absent(err);
}

static enum dr_code list_tables(void *arg, json_t **out, struct dr_err *err)
{
    (void)arg;
    *out = NULL;
    return fail_absent(err);
}

static enum dr_code change_table(void *arg, const json_t *entry, struct dr_err *err)
{
    (void)arg;
    (void)entry;
    return fail_absent(err);
}

static const struct dr_catalog_port absent = {
    .read = read_table, .list = list_tables, .change = change_table};

void dr_cluster_port(struct dr_cluster *c, struct dr_catalog_port *out)
{
    (void)c;
    *out = absent;
}

enum dr_code dr_port_create(const char *data_dir, struct dr_log *log, struct dr_port **out,
                            struct dr_err *err)
{
    (void)data_dir;
    (void)log;
    *out = NULL;
    return fail_absent(err);
}

const struct dr_catalog_port *dr_port_catalog(struct dr_port *p)
{
    (void)p;
    return &absent;
}

void dr_port_destroy(struct dr_port *p)
{
    (void)p;
}
#endif
