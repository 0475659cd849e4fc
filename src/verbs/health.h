/* SPDX-License-Identifier: Apache-2.0 */
/* Health of everything drover does in a data folder: what is stuck, failed, left over or dead, what
 * to do about it, and doing it. Requirement 2; what the reference did not look at (see its facts,
 * 6.1) is looked at here.
 *
 * Looking reads the queue and asks the nodes of the tables; it changes nothing. */
#ifndef DR_VERBS_HEALTH_H
#define DR_VERBS_HEALTH_H

#include <stdbool.h>
#include <stdint.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/json.h"
#include "base/str.h"
#include "obs/log.h"
#include "queue/queue.h"
#include "store/world.h"

struct dr_health_rules {
    uint64_t stuck_ms;    /* no progress for so long though not paused, braked or held: 1,800,000 */
    uint64_t queue_depth; /* steps waiting: 1000 */
    uint64_t dead_ms;     /* a worker silent for so long is dead: 30,000 */
    bool asks_nodes;      /* look at the nodes of sharded tables as well */
    uint32_t node_wait_ms; /* all nodes together; those that did not answer are told */
};
void dr_health_rules_default(struct dr_health_rules *r);
/* The same with what the configuration file's object (may be NULL) says under "alerts" and "tend";
 * DR_INPUT with the key. */
DR_MUST enum dr_code dr_health_rules_of(const json_t *config, struct dr_health_rules *out,
                                        struct dr_err *err);

/* One finding. */
struct dr_finding {
    char type[32]; /* "stuck_operations" "failed_operations" "rollback_failures" "quarantine"
                      "orphaned_resources" "high_queue_depth" "dead_workers" "owner_missing"
                      "unreachable_nodes" "under_replicated" "table_mismatch" "cleanup_failing" */
    bool is_issue; /* else a warning */
    uint64_t count;
    json_t *details;  /* array: what exactly; owned */
    char advice[256]; /* one line: what to do */
};
struct dr_health_report {
    bool is_healthy; /* no issue; warnings may be there */
    dr_wall_ms at;
    struct dr_finding *finding;
    uint32_t count, room;
    struct dr_queue_facts numbers;
    uint64_t orphans;
};
/* Fills the zeroed *out; release with dr_health_report_fini. `world` may be NULL: then tables are
 * not looked at. Blocks for the nodes. */
DR_MUST enum dr_code dr_health_look(struct dr_queue *q, const struct dr_store_world *world,
                                    const struct dr_health_rules *rules,
                                    struct dr_health_report *out, struct dr_err *err);
void dr_health_report_fini(struct dr_health_report *r);
/* {"overall_status": "healthy"|"unhealthy", "timestamp", "checks": {...}, "issues":
 * [{"type","count", "details"}], "warnings": [...], "recommendations": [...]}, as the requirement
 * names them. */
json_t *dr_health_json(const struct dr_health_report *r);
void dr_health_print(const struct dr_health_report *r, struct dr_str *out);

/* Act on a report, by class: dead leases are swept, quarantined steps whose error can heal are put
 * back (at most three times by recovery), failed rollbacks are put back, failing cleanups are tried
 * again, orphans cleaned. Never touches a paused operation, never starts a planned one, never
 * deletes what is not on record as left over. What was done and what needs a person: {"timestamp",
 * "actions_taken": [...], "recovered": [...], "failed": [{"what","error"}], "needs_a_person":
 * [...]}. In the audit. Needs the ownership of the folder (the caller's). */
DR_MUST enum dr_code dr_health_recover(struct dr_queue *q, const struct dr_store_world *world,
                                       const struct dr_health_report *r, const char *by,
                                       json_t **out, struct dr_err *err);

/* --- cleanup -----------------------------------------------------------------------------------
 */

enum dr_cleanup_what {
    DR_CLEAN_CLUSTERS = 1, /* temporary clusters and half made shards whose operation is over */
    DR_CLEAN_GROUPS =
        2,              /* failed operations: rolled back first, then forgotten when that is done */
    DR_CLEAN_QUEUE = 4, /* ended operations with their steps */
    DR_CLEAN_STATE = 8, /* old audit lines, heartbeats, rollback history, records of tables that are
                           gone, status entries */
    DR_CLEAN_ARCHIVES = 16, /* archives whose time is over */
    DR_CLEAN_ALL = 31
};
struct dr_cleanup_ages { /* ms; the requirement's defaults: 1 h, 24 h, 7 d, 30 d */
    uint64_t clusters, groups, queue, state;
};
void dr_cleanup_ages_default(struct dr_cleanup_ages *a);
/* The same with what the configuration file's object (may be NULL) says under "tend". */
DR_MUST enum dr_code dr_cleanup_ages_of(const json_t *config, struct dr_cleanup_ages *out,
                                        struct dr_err *err);
/* {"timestamp", "dry_run", "actions_taken": [{"what": "clusters", "cleaned_count", "errors":
 * []}...], "resources_cleaned", "errors": []}. By ownership records, never by name patterns; what a
 * running or paused operation owns stays, whatever its age. Needs the ownership of the folder
 * unless dry. */
DR_MUST enum dr_code dr_cleanup_run(struct dr_queue *q, const struct dr_store_world *world,
                                    uint32_t what, const struct dr_cleanup_ages *ages,
                                    bool is_dry_run, const char *by, json_t **out,
                                    struct dr_err *err);

/* --- alerts ------------------------------------------------------------------------------------
 */

struct dr_alert_rules { /* the requirement's five thresholds; 0 switches one off */
    double
        rollback_failure_rate; /* 0.05, of the rollbacks of the last 24 hours, once there are two */
    uint64_t stuck_ms;         /* 1,800,000 */
    uint64_t orphans;          /* 50 */
    uint64_t queue_depth;      /* 1000 */
    uint64_t failed_last_hour; /* 10 */
    const char *webhook;       /* URL: POST of the JSON below; NULL: none */
    const char *command;       /* program run with the JSON on standard input; NULL: none */
    uint64_t repeat_ms;        /* said again while it lasts: 3,600,000 */
};
/* From the configuration's "alerts" object; DR_INPUT with the key. The texts borrow. */
DR_MUST enum dr_code dr_alert_rules_parse(const json_t *j, struct dr_alert_rules *out,
                                          struct dr_err *err);
void dr_alert_rules_default(struct dr_alert_rules *r);
enum { DR_ALERT_COUNT = 5 };
struct dr_alert {
    const char *name; /* "rollback_failure_rate" ... */
    bool is_firing;
    double value, limit;
    char text[256];
};
/* Pure: a report against the rules. */
void dr_alerts_judge(const struct dr_alert_rules *rules, const struct dr_health_report *r,
                     struct dr_alert alert[DR_ALERT_COUNT]);
/* Keeps what was said (in memory and in DIR/alerts.json, so that a restart does not say it twice)
 * and sends what is new, over, or to be repeated:
 * {"alert","state":"firing"|"resolved","value","limit", "text","at","host","data"}. A hook that
 * fails or takes longer than 10 s is logged and tried again at the next look; it never holds up the
 * work. */
struct dr_alerter;
DR_MUST enum dr_code dr_alerter_create(const char *data_dir, const struct dr_alert_rules *rules,
                                       struct dr_log *log, struct dr_alerter **out,
                                       struct dr_err *err);
void dr_alerter_look(struct dr_alerter *a, const struct dr_health_report *r);
void dr_alerter_destroy(struct dr_alerter *a);
/* Alert rules for Prometheus (YAML) with the same thresholds, over the daemon's metrics. */
void dr_alerts_prometheus(const struct dr_alert_rules *rules, struct dr_str *out);

/* --- the schedule of a daemon: health every 5 minutes, clusters hourly, groups and queue daily at
 * 02:00, everything weekly on Sunday at 03:00 (local time), all configurable under "tend"
 * ---------- */
struct dr_tender_config {
    struct dr_queue *queue;
    const struct dr_store_world *world;
    struct dr_log *log;
    struct dr_metrics *metrics; /* drover_health_*, drover_alert_firing{alert}; may be NULL */
    const json_t *config;       /* the configuration file's object: "alerts", "tend"; may be NULL */
    bool recovers;              /* act on what is found: "tend": {"recover": true}, the default */
};
struct dr_tender;
DR_MUST enum dr_code dr_tender_start(const struct dr_tender_config *c, struct dr_tender **out,
                                     struct dr_err *err);
void dr_tender_stop(struct dr_tender *t); /* waits for the look at hand; accepts NULL */
/* Is what stands under "tend" and "alerts" right? DR_INPUT with the key. */
DR_MUST enum dr_code dr_tender_check(const json_t *config, struct dr_err *err);

#endif
