/* SPDX-License-Identifier: Apache-2.0 */
/* Owns what stores need of this process: the catalog of sharded tables in the data folder. It is
 * opened when a job or an operation needs it, by the process that owns the folder. */
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "cli/cli_private.h"
#include "cluster/port.h"

enum { PATH_BYTES = 4096 };

static const char fleet_url[] = "fleet:";

bool dr_cli_is_fleet(const char *store_url)
{
    return store_url != NULL && strncmp(store_url, fleet_url, sizeof fleet_url - 1) == 0;
}

/* A catalog nobody has written to yet, for plans in a place where there is no data folder: a dry
 * run makes none. */
static enum dr_code read_nothing(void *arg, const char *table, json_t **out, struct dr_err *err)
{
    (void)arg;
    *out = NULL;
    return dr_fail(err, DR_NOT_FOUND, "there is no sharded table \"%s\"", table);
}

static enum dr_code list_nothing(void *arg, json_t **out, struct dr_err *err)
{
    (void)arg;
    *out = json_array();
    return *out == NULL ? dr_fail_nomem(err) : DR_OK;
}

static enum dr_code change_nothing(void *arg, const json_t *entry, struct dr_err *err)
{
    (void)arg;
    (void)entry;
    return dr_fail(err, DR_INTERNAL, "a dry run changes no catalog");
}

static const struct dr_catalog_port empty_catalog = {
    .read = read_nothing, .list = list_nothing, .change = change_nothing};

static bool has_catalog(const struct dr_cli *c)
{
    char path[PATH_BYTES];
    struct stat info;
    int length = snprintf(path, sizeof path, "%s/cluster", c->data_dir);
    return length > 0 && (size_t)length < sizeof path && stat(path, &info) == 0;
}

enum dr_code dr_cli_world(struct dr_cli *c, bool is_looking, struct dr_err *err)
{
    if (c->world.catalog != NULL && c->world.catalog != &empty_catalog) {
        return DR_OK;
    }
    if (is_looking && !has_catalog(c)) {
        c->world.catalog = &empty_catalog;
        return DR_OK;
    }
    enum dr_code rc = dr_cli_queue(c, false, err);
    if (rc == DR_OK) {
        rc = dr_cli_own(c, err);
    }
    if (rc == DR_OK && c->port == NULL) {
        rc = dr_port_create(c->data_dir, c->log, &c->port, err);
    }
    if (rc == DR_OK) {
        c->world.catalog = dr_port_catalog(c->port);
    }
    return rc;
}

void dr_cli_world_fini(struct dr_cli *c)
{
    dr_port_destroy(c->port);
    c->port = NULL;
    c->world.catalog = NULL;
}
