/* SPDX-License-Identifier: Apache-2.0 */
/* The adapter's tables of functions, and the library's start. README.md says which file does what.
 */
#include <netdb.h>

#include <pthread.h>

#include "store/mongodb/mongodb_private.h"

static pthread_once_t library_once = PTHREAD_ONCE_INIT;

/* Errors travel as codes and messages; the library's own log would write beside drover's. */
static void start_library(void)
{
    mongoc_log_set_handler(NULL, NULL);
    mongoc_init();
}

static enum dr_code open_store(const char *url, void **impl_out, struct dr_err *err)
{
    *impl_out = NULL;
    if (pthread_once(&library_once, start_library) != 0) {
        return dr_fail(err, DR_INTERNAL, "mongodb: the driver cannot be started");
    }
    return mg_open(url, impl_out, err);
}

#define MG_OPS(name)                                                                               \
    {                                                                                              \
        .scheme = (name),                                                                          \
        .can = DR_CAN_SHARD_RANGE | DR_CAN_SHARD_HASHED | DR_CAN_INDEX | DR_CAN_SCAN |             \
               DR_CAN_BROADCAST | DR_CAN_COMMAND | DR_CAN_RESTORE | DR_CAN_COUNT | DR_CAN_ROUTE,   \
        .open = open_store, .close = mg_close, .survey = mg_survey, .survey_spec = mg_survey_spec, \
        .epoch = mg_epoch, .health = mg_health, .count = mg_count, .scan = mg_scan,                \
        .erase = mg_erase, .probe = mg_probe, .restore = mg_restore, .command = mg_command,        \
        .publish = mg_publish,                                                                     \
    }

static const struct dr_store_ops plain_ops = MG_OPS("mongodb");
static const struct dr_store_ops srv_ops = MG_OPS("mongodb+srv");

const struct dr_store_ops *dr_store_mongodb_ops(void)
{
    return &plain_ops;
}

const struct dr_store_ops *dr_store_mongodb_srv_ops(void)
{
    return &srv_ops;
}
