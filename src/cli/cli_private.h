/* SPDX-License-Identifier: Apache-2.0 */
/* What the verbs share: the context of one invocation and the ways to prepare, run and show an
 * operation. One thread; the pool has its own. */
#ifndef DR_CLI_CLI_PRIVATE_H
#define DR_CLI_CLI_PRIVATE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/json.h"
#include "base/str.h"
#include "cli/cli.h"
#include "cli/exits.h"
#include "cli/options.h"
#include "cli/table.h"
#include "obs/log.h"
#include "plan/plan.h"
#include "queue/queue.h"
#include "request/request.h"
#include "store/store.h"
#include "store/world.h"
#include "verbs/config.h"
#include "verbs/explain.h"
#include "verbs/job.h"
#include "verbs/serve.h"
#include "verbs/show.h"
#include "verbs/steer.h"

struct dr_port; /* cluster/port.h */

struct dr_cli {
    const struct dr_args *args;
    const struct dr_command *command;
    const char *const *word; /* behind the command's name */
    uint32_t word_count;
    struct dr_cli_stop *stop;
    dr_serve_fn *serve; /* NULL: this build has no API */
    bool is_json, is_quiet, is_yes;
    const char *data_dir; /* --data, $DROVER_DATA or ./drover-data; nothing is made from it here */
    enum dr_place place;  /* whom the running call talks to */
    struct dr_config config;
    enum dr_log_level log_level; /* the configuration's or the command line's */
    bool is_log_level_given;
    struct dr_log *log; /* NULL until dr_cli_log */
    int log_fd;
    struct dr_queue *queue; /* NULL until dr_cli_queue */
    struct dr_port *port;   /* NULL until dr_cli_world */
    struct dr_store_world world;
    char who[DR_NAME_BYTES];
};

/* --- context.c ---------------------------------------------------------------------------------
 */
/* Reads options, environment and configuration; makes nothing. */
DR_MUST enum dr_code dr_cli_init(struct dr_cli *c, struct dr_err *err);
void dr_cli_fini(struct dr_cli *c);
/* Open the data folder's queue once; `must_exist` for verbs that only look or steer. */
DR_MUST enum dr_code dr_cli_queue(struct dr_cli *c, bool must_exist, struct dr_err *err);
/* Create the log with `level` unless the operator named one. */
DR_MUST enum dr_code dr_cli_log(struct dr_cli *c, enum dr_log_level level, struct dr_err *err);
/* Talk on standard error, nothing with --quiet. */
void dr_cli_say(const struct dr_cli *c, const char *fmt, ...) DR_PRINTF(2, 3);
/* Print to standard output and release. A NULL (memory was short) is DR_NOMEM. */
DR_MUST enum dr_code dr_cli_put_json(json_t *j, struct dr_err *err);
DR_MUST enum dr_code dr_cli_put_text(struct dr_str *s, struct dr_err *err);
/* The n-th word as the number of an operation or step. */
DR_MUST enum dr_code dr_cli_id(const struct dr_cli *c, uint32_t n, int64_t *out,
                               struct dr_err *err);
/* Open the existing queue and read the operation that the first word names. */
DR_MUST enum dr_code dr_cli_op(struct dr_cli *c, struct dr_op *op, struct dr_err *err);

/* --- world.c -----------------------------------------------------------------------------------
 */
bool dr_cli_is_fleet(const char *store_url);
/* Have the catalog of sharded tables in c->world: opens and owns the data folder. `is_looking` (a
 * dry run): a folder that is not there is an empty catalog and stays away. */
DR_MUST enum dr_code dr_cli_world(struct dr_cli *c, bool is_looking, struct dr_err *err);
void dr_cli_world_fini(struct dr_cli *c);

/* --- health_cmd.c ------------------------------------------------------------------------------
 */
/* The named parts that options ask for, DR_CLEAN_* together; 0: none. */
uint32_t dr_cli_cleanup_parts(const struct dr_args *a);
DR_MUST enum dr_code dr_cli_cleanup_named(struct dr_cli *c, uint32_t what, int *exit_out,
                                          struct dr_err *err);

/* --- rehearse_cmd.c ----------------------------------------------------------------------------
 */
/* Run the plan step by step and back on the real nodes; nothing of it is left at the end. */
DR_MUST enum dr_code dr_cli_rehearse(struct dr_cli *c, const struct dr_prepared *p, int *exit_out,
                                     struct dr_err *err);

/* --- confirm.c ---------------------------------------------------------------------------------
 */
/* Have the operator type `target` on the terminal; --yes passes, no terminal is DR_REFUSED. `what`
 * is a sentence: "This erases 400,000 items of acme." */
DR_MUST enum dr_code dr_cli_confirm(struct dr_cli *c, const char *what, const char *target,
                                    struct dr_err *err);

/* The same question for a stored operation that was never approved and never ran; else passes. */
DR_MUST enum dr_code dr_cli_approve_op(struct dr_cli *c, const struct dr_op *op,
                                       struct dr_err *err);

/* --- job.c -------------------------------------------------------------------------------------
 */
/* Read a job file, "-" is standard input. */
DR_MUST enum dr_code dr_cli_load_job(struct dr_cli *c, const char *path, json_t **out,
                                     struct dr_err *err);
/* dr_job_prepare with this call's configuration and place. Takes the reference to `job`. */
DR_MUST enum dr_code dr_cli_prepare(struct dr_cli *c, json_t *job, const char *name,
                                    struct dr_prepared *out, struct dr_err *err);
/* `op_id` 0: a dry run, nothing is stored. */
DR_MUST enum dr_code dr_cli_print_plan(struct dr_cli *c, const struct dr_prepared *p, int64_t op_id,
                                       uint64_t steps_max, struct dr_err *err);
/* Show the plan on the terminal and have it confirmed. */
DR_MUST enum dr_code dr_cli_approve(struct dr_cli *c, const struct dr_prepared *p,
                                    struct dr_err *err);
/* Store the plan in the open queue. */
DR_MUST enum dr_code dr_cli_put(struct dr_cli *c, const struct dr_prepared *p, enum dr_wish wish,
                                int64_t *op_id_out, struct dr_err *err);
/* Plan, approve, store and work on a job; the verb `run` and the short forms. Takes `job`. */
DR_MUST enum dr_code dr_cli_run_job(struct dr_cli *c, json_t *job, const char *name, int *exit_out,
                                    struct dr_err *err);

/* --- run.c ---------------------------------------------------------------------------------------
 */
/* A crash between the end of an operation and its status records is made good when somebody looks
 * again. Whoever owns the data folder now does it otherwise. */
void dr_cli_catch_up_records(struct dr_cli *c);
/* Become the one who works here; somebody else is named. */
DR_MUST enum dr_code dr_cli_own(struct dr_cli *c, struct dr_err *err);

/* --- follow.c ----------------------------------------------------------------------------------
 */
/* From here on Ctrl-C means: end the batch at hand. */
void dr_cli_become_graceful(struct dr_cli *c);
/* Run the pool as owner until the operation ends (0: until nothing is left, or for ever), showing
 * progress. DR_STOPPED when the operator interrupted it. */
DR_MUST enum dr_code dr_cli_pool(struct dr_cli *c, int64_t op_id, bool is_forever,
                                 struct dr_err *err);
/* Look on while somebody else works on the operation, until it ended or nobody works any more
 * (*ended_out tells). */
DR_MUST enum dr_code dr_cli_follow(struct dr_cli *c, int64_t op_id, bool *ended_out,
                                   struct dr_err *err);
/* Say how it ended (summary, or the status as JSON) and give the exit code. */
DR_MUST enum dr_code dr_cli_conclude(struct dr_cli *c, int64_t op_id, bool is_undo_asked,
                                     int *exit_out, struct dr_err *err);

/* --- report_cmd.c ------------------------------------------------------------------------------
 */
/* Whether the file of --report can be written; asked before anything is done. */
DR_MUST enum dr_code dr_cli_check_report(struct dr_cli *c, struct dr_err *err);
/* Write the file of --report, if one is wanted: of a dry run, and of an operation that ended with
 * `rc` and `exit_code`, which a failure to write does not hide. */
DR_MUST enum dr_code dr_cli_report_plan(struct dr_cli *c, const struct dr_plan *plan,
                                        uint64_t took_ms, struct dr_err *err);
DR_MUST enum dr_code dr_cli_report_op(struct dr_cli *c, int64_t op_id, enum dr_code rc,
                                      int exit_code, struct dr_err *err);
/* The table of collections and nodes, on standard error. */
void dr_cli_say_account(struct dr_cli *c, int64_t op_id);
/* What the log is told about a run; op_id 0: a dry run. */
void dr_cli_log_begin(struct dr_cli *c, const char *kind, const char *target, int64_t op_id);
void dr_cli_log_end(struct dr_cli *c, int64_t op_id, const char *status, dr_mono_ms begin);

/* Print all operations once, behind the text `before`; *moving_out (may be NULL) says whether one
 * of them is not at rest. In watch.c. */
DR_MUST enum dr_code dr_cli_print_ops(struct dr_cli *c, const char *before, bool *moving_out,
                                      struct dr_err *err);

/* --- the verbs ---------------------------------------------------------------------------------
 */
#define DR_CLI_ACTION(name)                                                                        \
    DR_MUST enum dr_code name(struct dr_cli *c, int *exit_out, struct dr_err *err)
DR_CLI_ACTION(dr_cli_plan);
DR_CLI_ACTION(dr_cli_run);
DR_CLI_ACTION(dr_cli_submit);
DR_CLI_ACTION(dr_cli_work);
DR_CLI_ACTION(dr_cli_serve);
DR_CLI_ACTION(dr_cli_collection_list);
DR_CLI_ACTION(dr_cli_collection_create);
DR_CLI_ACTION(dr_cli_collection_show);
DR_CLI_ACTION(dr_cli_collection_delete);
DR_CLI_ACTION(dr_cli_collection_promote);
DR_CLI_ACTION(dr_cli_collection_route);
DR_CLI_ACTION(dr_cli_collection_keys);
DR_CLI_ACTION(dr_cli_tenant_drop);
DR_CLI_ACTION(dr_cli_purge);
DR_CLI_ACTION(dr_cli_redis_purge_stats);
DR_CLI_ACTION(dr_cli_tokenserver_purge);
DR_CLI_ACTION(dr_cli_mongodb_drop);
DR_CLI_ACTION(dr_cli_sql_purge);
DR_CLI_ACTION(dr_cli_table_create);
DR_CLI_ACTION(dr_cli_table_rebalance);
DR_CLI_ACTION(dr_cli_table_drop);
DR_CLI_ACTION(dr_cli_table_status);
DR_CLI_ACTION(dr_cli_table_route);
DR_CLI_ACTION(dr_cli_health);
DR_CLI_ACTION(dr_cli_alerts_check);
DR_CLI_ACTION(dr_cli_alerts_rules);
DR_CLI_ACTION(dr_cli_rollbacks);
DR_CLI_ACTION(dr_cli_status);
DR_CLI_ACTION(dr_cli_watch);
DR_CLI_ACTION(dr_cli_explain);
DR_CLI_ACTION(dr_cli_report);
DR_CLI_ACTION(dr_cli_steps);
DR_CLI_ACTION(dr_cli_audit);
DR_CLI_ACTION(dr_cli_pause);
DR_CLI_ACTION(dr_cli_resume);
DR_CLI_ACTION(dr_cli_stop_op);
DR_CLI_ACTION(dr_cli_rollback);
DR_CLI_ACTION(dr_cli_tune);
DR_CLI_ACTION(dr_cli_quarantine_list);
DR_CLI_ACTION(dr_cli_quarantine_retry);
DR_CLI_ACTION(dr_cli_cleanup);
DR_CLI_ACTION(dr_cli_archive_list);
DR_CLI_ACTION(dr_cli_archive_verify);
DR_CLI_ACTION(dr_cli_archive_expire);
DR_CLI_ACTION(dr_cli_help);
DR_CLI_ACTION(dr_cli_manual);
DR_CLI_ACTION(dr_cli_completion);
DR_CLI_ACTION(dr_cli_version);
#undef DR_CLI_ACTION
/* The tuning options of the command line as a tuning object; *out NULL when none is given. */
DR_MUST enum dr_code dr_cli_tuning_options(const struct dr_cli *c, json_t **out,
                                           struct dr_err *err);

/* --- short.c: what short forms share -----------------------------------------------------------
 */
DR_MUST enum dr_code dr_cli_need_options(const struct dr_cli *c, const char *const *names,
                                         struct dr_err *err);
/* The options every job has, into a job that may hold something already; what is given wins. */
DR_MUST enum dr_code dr_cli_add_job_options(const struct dr_cli *c, json_t *job,
                                            struct dr_err *err);
/* A job of a kind with those options. The caller releases *out, also after a failure. */
DR_MUST enum dr_code dr_cli_start_job(const struct dr_cli *c, const char *kind, json_t **out,
                                      struct dr_err *err);
struct dr_key_of {
    const char *option;
    const char *key;
};
/* Copy the options that `map` names (it ends with NULL) into `object`; *any_out becomes true when
 * there were some. */
DR_MUST enum dr_code dr_cli_add_keys(const struct dr_args *a, const struct dr_key_of *map,
                                     json_t *object, bool *any_out, struct dr_err *err);
/* All values of an option that may be repeated, as a list. */
DR_MUST enum dr_code dr_cli_add_list(const struct dr_args *a, const char *option, const char *key,
                                     bool skips_empty, json_t *object, struct dr_err *err);

/* --- hide.c ------------------------------------------------------------------------------------
 */
/* Overwrite a word of the command line, so that the process list no longer shows it. */
void dr_cli_hide_word(const char *word);
/* The same for every URL among the options that may carry a password. What they say must have been
 * copied: call it when the job is made. */
void dr_cli_hide_urls(const struct dr_args *a);

/* --- mongodb.c ---------------------------------------------------------------------------------
 */
/* Strategies, warnings and sums by shard into the log, if there is one already. */
void dr_cli_log_plan(struct dr_cli *c, const struct dr_plan *plan);

/* --- mongodb_config.c --------------------------------------------------------------------------
 */
/* What `drover mongodb drop` is told, by a file or by options, before it is a job. */
struct dr_mongodb_order {
    json_t *job;                         /* the kind's own keys and tuning; the caller's */
    char *uri, *config_uri, *status_uri; /* dr_free; NULL: not named */
    const char *config_db;               /* NULL: the adapter's default */
    uint64_t rebalance_s;                /* 0: the adapter's default */
    const json_t *write_concern;         /* NULL: majority, journaled */
    bool is_dry_run;
    const char *log_file; /* NULL: none named */
    enum dr_log_level log_level;
    bool is_log_level_given;
};
/* Read a configuration file, whose JSON must live as long as the order. */
DR_MUST enum dr_code dr_mongodb_order_read(const json_t *config, const char *name,
                                           struct dr_mongodb_order *o, struct dr_err *err);
/* The store's URL with write concern and drover's options, and the status store, into the job. */
DR_MUST enum dr_code dr_mongodb_order_finish(struct dr_mongodb_order *o, const char *name,
                                             struct dr_err *err);
void dr_mongodb_order_fini(struct dr_mongodb_order *o);

#endif
