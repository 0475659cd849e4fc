/* SPDX-License-Identifier: Apache-2.0 */
/* Owns the daemon: HTTP beside the pool, and their common end. */
#include "api/api_private.h"
#include "verbs/health.h"
#include "verbs/mirror.h"
#include "worker/worker.h"

static enum dr_code run_pool(const struct dr_serve *s, struct dr_metrics *m, struct dr_err *err)
{
    const struct dr_pool_config pool = {
        .queue = s->queue,
        .log = s->log,
        .metrics = m,
        .world = s->world,
        .threads = s->threads,
        .is_forever = true,
        .ask_stop = s->ask_stop,
    };
    struct dr_mirror *mirror = NULL;
    struct dr_tender *tender = NULL;
    const struct dr_mirror_config mirrored = {.queue = s->queue, .log = s->log};
    const struct dr_tender_config tended = {.queue = s->queue,
                                            .world = s->world,
                                            .log = s->log,
                                            .metrics = m,
                                            .config = s->config == NULL ? NULL : s->config->json,
                                            .recovers = true};
    if (dr_mirror_start(&mirrored, &mirror, err) != DR_OK) {
        dr_log_err(s->log, DR_LOG_WARN, "nobody keeps status records", err);
        dr_err_clear(err);
    }
    if (dr_tender_start(&tended, &tender, err) != DR_OK) {
        dr_log_err(s->log, DR_LOG_WARN, "nobody looks after health, alerts and cleanup", err);
        dr_err_clear(err);
    }
    *s->place = DR_AT_DATA;
    enum dr_code rc = dr_pool_run(&pool, err);
    dr_tender_stop(tender);
    dr_mirror_stop(mirror); /* by now the final states are in the queue */
    if (rc == DR_STOPPED) { /* that is how a daemon ends well */
        dr_err_clear(err);
        return DR_OK;
    }
    return rc;
}

enum dr_code dr_api_serve(const struct dr_serve *s, struct dr_err *err)
{
    struct dr_metrics *own = NULL;
    struct dr_api *api = NULL;
    *s->place = DR_AT_NOTHING;
    enum dr_code rc = s->metrics == NULL ? dr_metrics_create(&own, err) : DR_OK;
    struct dr_metrics *m = s->metrics != NULL ? s->metrics : own;
    if (rc == DR_OK) {
        rc = dr_api_start(s, m, &api, err);
    }
    if (rc != DR_OK) {
        goto out;
    }
    if (s->tokens_path == NULL) {
        dr_log(s->log, DR_LOG_WARN, "no tokens: every program on this machine may do everything",
               "remedy=%s", "--tokens FILE");
    }
    dr_log(s->log, DR_LOG_INFO, "serving", "listen=%s port=%u data=%s", s->listen,
           (unsigned)dr_api_port(api), dr_queue_data_dir(s->queue));
    if (dr_api_grpc_port(api) != 0) {
        dr_log(s->log, DR_LOG_INFO, "serving gRPC", "listen=%s port=%u", s->grpc_listen,
               (unsigned)dr_api_grpc_port(api));
    }
    rc = run_pool(s, m, err);
    dr_log_event(s->log, DR_LOG_INFO, "ending");
out:
    dr_api_stop(api);
    dr_metrics_destroy(own);
    return rc;
}
