/* SPDX-License-Identifier: Apache-2.0 */
/* Owns the table of commands and their options. A new verb is an entry here and an action. */
#include "cli/table.h"

#include <stdio.h>
#include <string.h>

#include "cli/cli_private.h"

enum { WORDS_SHOWN_BYTES = 128 };

static const struct dr_option global_options[] = {
    {"data", "DIR", "the data folder (default $DROVER_DATA, else ./drover-data)", DR_OPT_TEXT,
     false},
    {"config", "FILE", "configuration (default DIR/drover.json when it is there)", DR_OPT_TEXT,
     false},
    {"json", NULL, "print JSON on standard output", DR_OPT_FLAG, false},
    {"quiet", NULL, "no progress and no talk, only errors and what was asked for", DR_OPT_FLAG,
     false},
    {"yes", NULL, "do not ask for the target's name", DR_OPT_FLAG, false},
    {"log-format", "human|json", "how log lines look (default human)", DR_OPT_TEXT, false},
    {"log-level", "LEVEL", "error, warn, info or debug", DR_OPT_TEXT, false},
    {"help", NULL, "explain the command instead of running it", DR_OPT_FLAG, false},
    {0},
};

/* Every fragment is used in more than one command, so that the same wish has the same name. */
#define OPT_GUARDS                                                                                 \
    {"irreversible", NULL, "archive nothing: faster, and no rollback", DR_OPT_FLAG, false},        \
        {"max-items", "N", "refuse when more than N items are selected", DR_OPT_U64, false},       \
    {                                                                                              \
        "allow-scan", NULL, "consent to reading whole collections", DR_OPT_FLAG, false             \
    }
#define OPT_SPEED                                                                                  \
    {"rate", "N", "items a second over all nodes, 0 for no limit", DR_OPT_U64, false},             \
        {"batch-min", "N", "items of the smallest batch", DR_OPT_U64, false},                      \
        {"batch-max", "N", "items of the largest batch", DR_OPT_U64, false},                       \
        {"batch-bytes", "N", "bytes of the largest batch", DR_OPT_U64, false},                     \
        {"target-ms", "N", "how long a batch should take", DR_OPT_U64, false},                     \
        {"per-node", "N", "steps at the same time on one node", DR_OPT_U64, false},                \
        {"lanes", "N", "steps at the same time over all nodes, 0 for no limit", DR_OPT_U64,        \
         false},                                                                                   \
        {"priority", "N", "-100 to 100, higher goes first", DR_OPT_I64, false},                    \
        {"sleep-ratio", "R", "rest R times a batch's duration after it", DR_OPT_REAL, false},      \
        {"quiet-hours", "WINDOW", "when not to work, \"Mon-Fri 08:00-18:00\"; may be repeated",    \
         DR_OPT_TEXT, true},                                                                       \
    {                                                                                              \
        "timezone", "Z", "of the quiet hours: UTC, local or +HH:MM", DR_OPT_TEXT, false            \
    }
#define OPT_STORE                                                                                  \
    {"store", "URL", "the database, as sqlite:/srv/app/main.db", DR_OPT_TEXT, false},              \
    {                                                                                              \
        "database", "NAME", "the database (tenant) in it", DR_OPT_TEXT, false                      \
    }
#define OPT_REPORT                                                                                 \
    {                                                                                              \
        "report", "FILE", "write a JSON report there at the end, however it ends", DR_OPT_TEXT,    \
            false                                                                                  \
    }
#define OPT_JOB                                                                                    \
    OPT_REPORT, {"dry-run", NULL, "only show the plan", DR_OPT_FLAG, false},                       \
        {"archive-days", "N", "keep what was erased this long (default 30)", DR_OPT_U64, false},   \
        {"drift", "R", "how far the count may stray from the plan, 0.5 is 50%", DR_OPT_REAL,       \
         false},                                                                                   \
    {                                                                                              \
        "note", "TEXT", "why; kept with the operation", DR_OPT_TEXT, false                         \
    }
#define OPT_REASON                                                                                 \
    {                                                                                              \
        "reason", "TEXT", "why; shown by status and explain, kept in the audit", DR_OPT_TEXT,      \
            false                                                                                  \
    }

static const struct dr_option no_options[] = {{0}};
static const struct dr_option plan_options[] = {
    {"save", NULL, "store the plan; it runs only after drover run OP", DR_OPT_FLAG, false},
    {"steps", "N", "show N steps (default 20, 0 for all)", DR_OPT_U64, false},
    OPT_GUARDS,
    {0},
};
static const struct dr_option run_options[] = {
    {"dry-run", NULL, "only show the plan", DR_OPT_FLAG, false},
    OPT_REPORT,
    OPT_GUARDS,
    {0},
};
static const struct dr_option submit_options[] = {
    {"key", "TEXT", "submitting again with the same key gives the first operation", DR_OPT_TEXT,
     false},
    OPT_GUARDS,
    {0},
};
static const struct dr_option work_options[] = {
    {"forever", NULL, "wait for new operations instead of ending", DR_OPT_FLAG, false},
    {0},
};
static const struct dr_option serve_options[] = {
    {"listen", "ADDR:PORT", "where to answer (default " DR_SERVE_LISTEN ")", DR_OPT_TEXT, false},
    {"tokens", "FILE", "who may do what; without it only loopback addresses are served",
     DR_OPT_TEXT, false},
    {"threads", "N", "steps worked on at the same time", DR_OPT_U64, false},
    {"raft-listen", "ADDR:PORT", "be a peer of a cluster: where the others reach its Raft",
     DR_OPT_TEXT, false},
    {"raft-secret-file", "FILE",
     "what a peer has to know to be heard by this one, its first line (default "
     "$DROVER_RAFT_SECRET)",
     DR_OPT_TEXT, false},
    {"raft-open", NULL, "believe whoever reaches --raft-listen, with no secret and off loopback",
     DR_OPT_FLAG, false},
    {"raft-id", "N", "this peer's number, the same for ever (default 1)", DR_OPT_U64, false},
    {"bootstrap", NULL, "begin a cluster; only for its first peer", DR_OPT_FLAG, false},
    {"join", "URL", "become a member of the cluster that this peer's API belongs to", DR_OPT_TEXT,
     false},
    {"api-uri", "URI", "how other peers reach this API (default http:// and --listen)", DR_OPT_TEXT,
     false},
    {"peer-token-file", "FILE", "the secret that peers show each other, its first line",
     DR_OPT_TEXT, false},
    {"points-store", "URL",
     "the database of this peer's points: mysql://... or postgres://..., with ?password_env=NAME "
     "(default sqlite:, files in the data folder)",
     DR_OPT_TEXT, false},
    {"grpc-listen", "ADDR:PORT", "answer gRPC there", DR_OPT_TEXT, false},
    {"no-catalog", NULL, "serve no catalog of collections", DR_OPT_FLAG, false},
    {0},
};
#define OPT_REMOTE                                                                                 \
    {"server", "URL", "the daemon's API (default http://127.0.0.1:8350)", DR_OPT_TEXT, false},     \
        {"token-file", "FILE", "the token's file (default $DROVER_TOKEN)", DR_OPT_TEXT, false},    \
    {                                                                                              \
        "timeout", "S", "seconds the cluster may take (default 10)", DR_OPT_U64, false             \
    }
static const struct dr_option remote_options[] = {OPT_REMOTE, {0}};
static const struct dr_option collection_create_options[] = {
    {"shard-number", "N", "shards: of all (auto), of each key (custom)", DR_OPT_U64, false},
    {"sharding-method", "auto|custom", "default auto", DR_OPT_TEXT, false},
    {"replication-factor", "N", "replicas of a shard (default 1)", DR_OPT_U64, false},
    {"write-consistency", "N", "replicas that must confirm a write (default 1)", DR_OPT_U64, false},
    {"vectors", "JSON", "kept as given, {\"size\": 4, \"distance\": \"Dot\"}", DR_OPT_TEXT, false},
    OPT_REMOTE,
    {0},
};
static const struct dr_option collection_promote_options[] = {
    {"default-shard-key", "K", "the key all shards get (default \"default\")", DR_OPT_TEXT, false},
    OPT_REMOTE,
    {0},
};
static const struct dr_option collection_route_options[] = {
    {"shard-key", "K", "only under this key", DR_OPT_TEXT, false},
    OPT_REMOTE,
    {0},
};
static const struct dr_option collection_keys_options[] = {
    {"create", "K", "make this shard key", DR_OPT_TEXT, false},
    {"shards", "N", "shards of the new key", DR_OPT_U64, false},
    {"drop", "K", "drop this shard key with its points", DR_OPT_TEXT, false},
    {"confirm-drop-promoted", NULL, "also when it is the key of the promotion", DR_OPT_FLAG, false},
    OPT_REMOTE,
    {0},
};
static const struct dr_option tenant_drop_options[] = {
    {"collection", "NAME", "only this collection; may be repeated", DR_OPT_TEXT, true},
    {"drop-when-empty", NULL, "remove the empty collections as well", DR_OPT_FLAG, false},
    OPT_STORE,
    OPT_JOB,
    OPT_GUARDS,
    OPT_SPEED,
    {0},
};
static const struct dr_option purge_options[] = {
    {"collection", "NAME", "the collection to purge", DR_OPT_TEXT, false},
    {"filter", "JSON", "which rows, {\"expires_at\": {\"lt\": 1700000000}}", DR_OPT_TEXT, false},
    {"temp-index", NULL, "make an index for the run and remove it afterwards", DR_OPT_FLAG, false},
    {"whole-collection", NULL, "consent to a filter that matches every row", DR_OPT_FLAG, false},
    OPT_STORE,
    OPT_JOB,
    OPT_GUARDS,
    OPT_SPEED,
    {0},
};
static const struct dr_option redis_options[] = {
    {"url", "URL", "redis://host:port[/db]; may be repeated for several servers", DR_OPT_TEXT,
     true},
    {"service", "ID", "whose statistics; may be repeated", DR_OPT_TEXT, true},
    {"application", "A", "only of this application; may be repeated", DR_OPT_TEXT, true},
    {"metric", "M", "only this metric; may be repeated", DR_OPT_TEXT, true},
    {"user", "U", "only of this end user; may be repeated", DR_OPT_TEXT, true},
    {"from", "T", "start of the period: Unix seconds or 2019-12-16T10:00:00Z", DR_OPT_TEXT, false},
    {"to", "T", "its end, the same way", DR_OPT_TEXT, false},
    {"marked", NULL, "the services of the marked set, found by a scan", DR_OPT_FLAG, false},
    {"zero-values", NULL, "only keys whose value is 0, found by a scan", DR_OPT_FLAG, false},
    {"log-deleted", "FILE", "append \"key value\" for every key that is deleted", DR_OPT_TEXT,
     false},
    {"strategy", "auto|keys|scan", "how keys are found (default auto)", DR_OPT_TEXT, false},
    {"partition-keys", "N", "keys in a step (default 10000)", DR_OPT_U64, false},
    {"overwrite", NULL, "let a rollback overwrite keys written meanwhile", DR_OPT_FLAG, false},
    OPT_JOB,
    OPT_GUARDS,
    OPT_SPEED,
    {0},
};
static const struct dr_option tokenserver_options[] = {
    {"database", "URL", "mysql:// or postgres:// (default $SYNC_TOKENSERVER__DATABASE_URL)",
     DR_OPT_TEXT, false},
    {"secret-file", "FILE", "the first line is the master secret", DR_OPT_TEXT, false},
    {"purge-interval", "S", "seconds to sleep between runs (default 3600)", DR_OPT_U64, false},
    {"grace-period", "S", "seconds a record stays after it was replaced (default 86400)",
     DR_OPT_I64, false},
    {"max-per-loop", "N", "records fetched at a time (default 10)", DR_OPT_U64, false},
    {"max-offset", "N", "begin the run at a random offset up to N (default 0)", DR_OPT_U64, false},
    {"max-records", "N", "end after N records, 0 for no limit", DR_OPT_U64, false},
    {"request-timeout", "S", "seconds for one request to a node (default 60)", DR_OPT_U64, false},
    {"oneshot", NULL, "one run, then end", DR_OPT_FLAG, false},
    {"dryrun", NULL, "only say what would be done: no request, no write", DR_OPT_FLAG, false},
    {"force", NULL, "also records whose node is down", DR_OPT_FLAG, false},
    {"override_node", "URL", "with --force: the node that has the copied data", DR_OPT_TEXT, false},
    {"range_start", "UID", "only records behind this uid", DR_OPT_I64, false},
    {"range_end", "UID", "only records up to this uid", DR_OPT_I64, false},
    {"human_logs", NULL, "log lines for people instead of JSON", DR_OPT_FLAG, false},
    {"metric_host", "HOST", "statsd server (default: none)", DR_OPT_TEXT, false},
    {"metric_port", "PORT", "its UDP port (default 8125)", DR_OPT_U64, false},
    {"verbose", NULL, "log every record; also -v", DR_OPT_FLAG, true},
    {"concurrency", "N", "requests at once over all nodes (default 16)", DR_OPT_U64, false},
    {"per-node", "N", "requests at once to one node (default 4)", DR_OPT_U64, false},
    {"breaker-failures", "N", "failures in a row after which a node rests (default 5)", DR_OPT_U64,
     false},
    {"breaker-rest", "S", "seconds it rests at first (default 60)", DR_OPT_U64, false},
    {0},
};
static const struct dr_option mongodb_options[] = {
    {"live", NULL, "erase although the --config file says dry_run (its default)", DR_OPT_FLAG,
     false},
    {"uri", "URI", "the cluster's router: mongodb://host:27017", DR_OPT_TEXT, false},
    {"database", "NAME", "the tenant's database", DR_OPT_TEXT, false},
    {"collection", "NAME", "only this collection; may be repeated", DR_OPT_TEXT, true},
    {"filter", "EXTJSON", "only documents that match, in extended JSON; needs one --collection",
     DR_OPT_TEXT, false},
    {"config-uri", "URI", "where the cluster's metadata is read (default: --uri)", DR_OPT_TEXT,
     false},
    {"config-database", "NAME", "the metadata's database (default config)", DR_OPT_TEXT, false},
    {"status-uri", "URI", "where status documents are kept (default: --uri)", DR_OPT_TEXT, false},
    {"status-database", "NAME", "database of the status documents (default: none are kept)",
     DR_OPT_TEXT, false},
    {"rebalance-check", "DURATION", "how often to look whether moving chunks rest (default 5m)",
     DR_OPT_DURATION, false},
    {"write-concern", "JSON", "default {\"w\": \"majority\", \"j\": true}", DR_OPT_TEXT, false},
    {"stop-balancer", NULL, "stop balancing of the collections meanwhile; always put back",
     DR_OPT_FLAG, false},
    {"drop-when-empty", NULL, "drop the empty collections, and the database, as well", DR_OPT_FLAG,
     false},
    {"again", NULL, "also shards whose status documents say completed", DR_OPT_FLAG, false},
    {"temp-index", NULL, "make an index for the filter and remove it afterwards", DR_OPT_FLAG,
     false},
    {"no-chunk-sizes", NULL, "do not measure chunks: faster planning, no sizes", DR_OPT_FLAG,
     false},
    {"whole-collection", NULL, "consent to a filter that matches every document", DR_OPT_FLAG,
     false},
    OPT_JOB,
    OPT_GUARDS,
    OPT_SPEED,
    {0},
};
static const struct dr_option sql_options[] = {
    {"url", "URL", "mysql://, mariadb:// or postgres://user@host/db, or sqlite:FILE", DR_OPT_TEXT,
     false},
    {"database", "NAME", "the database (PostgreSQL: the schema, default public)", DR_OPT_TEXT,
     false},
    {"table", "NAME", "the table to purge", DR_OPT_TEXT, false},
    {"where", "EXPR", "which rows: one SQL expression, \"expires < 1700000000\"", DR_OPT_TEXT,
     false},
    {"key", "COL", "walk by this column (default: primary key); may be repeated", DR_OPT_TEXT,
     true},
    {"order-by", "COL", "the same as --key", DR_OPT_TEXT, true},
    {"limit-per-batch", "N", "the same as --batch-max", DR_OPT_U64, false},
    {"replica", "URL", "wait while this replica lags; may be repeated", DR_OPT_TEXT, true},
    {"mode", "rows|truncate|drop", "the rows of --where (default), or the whole table", DR_OPT_TEXT,
     false},
    {"hold-days", "N", "drop: keep the table by another name this long first", DR_OPT_U64, false},
    {"allow-no-key", NULL, "a table without a key: rows one at a time, by all columns", DR_OPT_FLAG,
     false},
    {"whole-table", NULL, "consent to an expression that selects every row", DR_OPT_FLAG, false},
    OPT_JOB,
    OPT_GUARDS,
    OPT_SPEED,
    {0},
};
#define OPT_TABLE_JOB                                                                              \
    {"server", "URL", "have this daemon do it, instead of this data folder", DR_OPT_TEXT, false},  \
        {"token-file", "FILE", "the daemon's token (default $DROVER_TOKEN)", DR_OPT_TEXT, false},  \
        {"give-up", "AGE", "a step that fails for so long rolls it all back", DR_OPT_DURATION,     \
         false},                                                                                   \
        {"dry-run", NULL, "only print the plan", DR_OPT_FLAG, false},                              \
        {"rehearse", NULL, "do every step and undo it again, and compare", DR_OPT_FLAG, false},    \
        {"note", "TEXT", "kept with the operation", DR_OPT_TEXT, false},                           \
        {"key", "KEY", "idempotency key", DR_OPT_TEXT, false}, OPT_REPORT
static const struct dr_option table_create_options[] = {
    {"columns", "DDL", "what stands between the parentheses of CREATE TABLE", DR_OPT_TEXT, false},
    {"extra", "TEXT", "what stands behind them", DR_OPT_TEXT, false},
    {"shards", "N", "into how many pieces, 1 to 3000", DR_OPT_U64, false},
    {"rf", "N", "on how many nodes each piece is", DR_OPT_U64, false},
    {"node", "[NAME=]URL", "sqlite:, mysql://, postgres:// or manticore://; repeat it", DR_OPT_TEXT,
     true},
    {"if-not-exists", NULL, "do nothing when the table is there", DR_OPT_FLAG, false},
    OPT_TABLE_JOB,
    OPT_SPEED,
    {0},
};
static const struct dr_option table_rebalance_options[] = {
    {"add", "[NAME=]URL", "a new node; may be repeated", DR_OPT_TEXT, true},
    {"remove", "NODE", "a node that leaves, or is given up; may be repeated", DR_OPT_TEXT, true},
    {"hold", "AGE", "keep what was replaced for so long (default 1h)", DR_OPT_DURATION, false},
    {"fence-ms", "N", "the longest that writes to a shard may wait (default 2000)", DR_OPT_U64,
     false},
    OPT_TABLE_JOB,
    OPT_SPEED,
    {0},
};
static const struct dr_option table_drop_options[] = {
    {"hold", "AGE", "keep it out of use for so long first (default 1d)", DR_OPT_DURATION, false},
    {"if-exists", NULL, "do nothing when there is none", DR_OPT_FLAG, false},
    OPT_TABLE_JOB,
    OPT_SPEED,
    {0},
};
static const struct dr_option table_look_options[] = {
    {"server", "URL", "ask this daemon instead of the data folder", DR_OPT_TEXT, false},
    {"token-file", "FILE", "the daemon's token (default $DROVER_TOKEN)", DR_OPT_TEXT, false},
    {0},
};
static const struct dr_option reason_options[] = {OPT_REASON, {0}};
static const struct dr_option stop_options[] = {
    {"now", NULL, "end the batch at hand and undo what was done", DR_OPT_FLAG, false},
    OPT_REASON,
    {0},
};
static const struct dr_option tune_options[] = {
    OPT_SPEED,
    {"max-items", "N", "pause beyond N items, 0 for no limit", DR_OPT_U64, false},
    {0},
};
static const struct dr_option steps_options[] = {
    {"status", "S", "only steps of this status, as failed", DR_OPT_TEXT, false},
    {"limit", "N", "at most N steps (default 100, 0 for all)", DR_OPT_U64, false},
    {0},
};
static const struct dr_option cleanup_options[] = {
    {"dry-run", NULL, "only say what would be removed", DR_OPT_FLAG, false},
    {"older-than", "AGE", "forget operations that ended this long ago (default 30d)",
     DR_OPT_DURATION, false},
    {"clusters", NULL, "what moves and creations left on nodes, older than 1h", DR_OPT_FLAG, false},
    {"groups", NULL, "failed operations, older than 1d: rolled back, then forgotten", DR_OPT_FLAG,
     false},
    {"queue", NULL, "ended operations and their steps, older than 7d", DR_OPT_FLAG, false},
    {"state", NULL, "audit, history and records of what is gone, older than 30d", DR_OPT_FLAG,
     false},
    {"archives", NULL, "archives whose time is over", DR_OPT_FLAG, false},
    {"all", NULL, "all five", DR_OPT_FLAG, false},
    {0},
};
static const struct dr_option rollback_options[] = {
    {"to", "STEP", "only what comes behind this step; it may run on from there", DR_OPT_U64, false},
    OPT_REASON,
    {0},
};
static const struct dr_option health_options[] = {
    {"recover", NULL, "act on what is found, and say what needs a person", DR_OPT_FLAG, false},
    {0},
};
static const struct dr_option alert_options[] = {
    {"dry-run", NULL, "send nothing", DR_OPT_FLAG, false},
    {0},
};
static const struct dr_option expire_options[] = {
    {"due", NULL, "all archives whose time is over", DR_OPT_FLAG, false},
    {0},
};

static const struct dr_command commands[] = {
    {"plan", "JOB", 1, 1, "show what a job would do",
     "Reads the database, chooses a strategy for every collection and prints steps, estimates and "
     "the undo. Touches nothing, not even a data folder, unless --save is given. JOB is a JSON "
     "file, - reads standard input.",
     plan_options, dr_cli_plan},
    {"run", "JOB|OP", 1, 1, "work on a job, or go on with an operation",
     "With a job file: plans it, asks for the target's name, stores the plan durably and works on "
     "it here until it ends. With the number of an operation: goes on where it was, also after a "
     "crash, a pause or a stop. Ctrl-C ends the batch at hand and keeps everything.",
     run_options, dr_cli_run},
    {"submit", "JOB", 1, 1, "store an approved job without working on it",
     "A running drover work picks it up, by priority and age; otherwise start one, or work on this "
     "operation alone with drover run OP.",
     submit_options, dr_cli_submit},
    {"work", "", 0, 0, "work on everything that is waiting",
     "Owns the data folder until nothing is left to do, or with --forever until it is told to end.",
     work_options, dr_cli_work},
    {"serve", "", 0, 0, "work as a daemon with an HTTP API",
     "Owns the data folder, works on everything that is waiting and answers HTTP requests: jobs, "
     "operations, DELETE /services/ID/stats, /metrics, /healthz, /readyz (docs/openapi.json). Ends "
     "after the batch at hand on SIGTERM or Ctrl-C. The tokens file has a line ROLE:TOKEN or "
     "ROLE:NAME:TOKEN each, with the roles read, operate and admin; nobody else may read it. Also "
     "keeps the catalog of collections (docs/catalog.md): alone, or as a peer with --raft-listen.",
     serve_options, dr_cli_serve},
    {"collection list", "", 0, 0, "list the collections of a daemon's catalog",
     "Asks the daemon at --server.", remote_options, dr_cli_collection_list},
    {"collection create", "NAME", 1, 1, "create a collection",
     "With auto sharding all shards are made at once, with custom sharding when a key is made.",
     collection_create_options, dr_cli_collection_create},
    {"collection show", "NAME", 1, 1, "show a collection, its shards and where they are",
     "With --json also the promotions.", remote_options, dr_cli_collection_show},
    {"collection delete", "NAME", 1, 1, "delete a collection with all its points",
     "Asks for the name first. There is no undo.", remote_options, dr_cli_collection_delete},
    {"collection promote", "NAME", 1, 1, "turn auto sharding into custom sharding, for good",
     "All shards get the default shard key; no point moves. Asks for the name first. Repeating it "
     "with the same key changes nothing. docs/promotion-rollback.md says what a way back takes.",
     collection_promote_options, dr_cli_collection_promote},
    {"collection route", "NAME ID...", 2, 16, "say which shard and peers hold these ids",
     "An id is a number, a UUID or a text.", collection_route_options, dr_cli_collection_route},
    {"collection keys", "NAME", 1, 1, "list, make or drop shard keys",
     "A key of digits is a number: 12. The text of the same digits is written with quotes: "
     "'\"12\"'. --drop asks for the key first.",
     collection_keys_options, dr_cli_collection_keys},
    {"tenant drop", "", 0, 0, "erase all of one database (short form of run)",
     "Builds a tenant.drop job from its options and runs it. Needs --store and --database.",
     tenant_drop_options, dr_cli_tenant_drop},
    {"purge", "", 0, 0, "erase rows that a filter selects (short form of run)",
     "Builds a purge job from its options and runs it. Needs --store, --database, --collection and "
     "--filter.",
     purge_options, dr_cli_purge},
    {"redis purge-stats", "", 0, 0,
     "delete the statistics of services from Redis (short form of run)",
     "Builds a redis.purge-stats job from its options and runs it. Needs --url and either "
     "--service "
     "or --marked. With applications, metrics and a period the keys are generated, otherwise found "
     "by a scan.",
     redis_options, dr_cli_redis_purge_stats},
    {"tokenserver purge", "[SECRET]", 0, 1,
     "purge obsolete records of a token server, and their data on its nodes",
     "Runs until it is told to end, or once with --oneshot. A record goes only after its node "
     "confirmed that the data are gone. The master secret comes from --secret-file, $DROVER_SECRET "
     "or, seen by others on this machine until it is wiped, from SECRET. Exit code 0 after a "
     "successful run.",
     tokenserver_options, dr_cli_tokenserver_purge},
    {"mongodb drop", "", 0, 0,
     "empty a tenant's MongoDB database, chunk by chunk (short form of run)",
     "Builds a mongodb.drop job and runs it. Either --config FILE, a JSON object with mongo_uri, "
     "tenant_db_name, config_db_name, alcatraz_db_name, log_file, log_level, dry_run, "
     "deletes_per_batch, concurrent_deletion_enabled, writeConcern and more (docs/mongodb-drop.md);"
     " it is a dry run unless the file says \"dry_run\": false or --live is given. Or --uri and "
     "--database; that erases unless --dry-run is given. What was interrupted goes on with drover "
     "run OP.",
     mongodb_options, dr_cli_mongodb_drop},
    {"sql purge", "", 0, 0, "delete rows of an SQL table by an expression (short form of run)",
     "Builds a sql.purge job from its options and runs it, for MariaDB, MySQL, PostgreSQL and "
     "SQLite. Needs --url, --table and --where. Rows go in batches along a key, each archived "
     "first; the server must show that it uses an index. With --mode truncate or drop, which need "
     "--irreversible, the whole table goes (docs/sql-purge.md).",
     sql_options, dr_cli_sql_purge},
    {"table create", "NAME", 1, 1, "make a sharded table on several nodes",
     "A table NAME_sN for each shard, on --rf nodes each. Any failure rolls the whole back by "
     "itself. Needs --columns, --shards, --rf and --node; all nodes are of one kind "
     "(docs/sharded-tables.md).",
     table_create_options, dr_cli_table_create},
    {"table rebalance", "NAME", 1, 1, "move shards to new nodes, off leaving ones, or level them",
     "Each shard is copied while it is written to, followed, switched over within --fence-ms, held "
     "and then dropped at its old place. Can be paused, stopped and rolled back until the hold is "
     "over. A node that does not answer is given up only when --remove names it.",
     table_rebalance_options, dr_cli_table_rebalance},
    {"table drop", "NAME", 1, 1, "drop a sharded table after holding it",
     "Its shards are renamed out of use first, and dropped when the hold is over; until then "
     "drover rollback OP brings it back.",
     table_drop_options, dr_cli_table_drop},
    {"table status", "[NAME]", 0, 1, "list sharded tables, or show where a table's shards are",
     "As of the last change that this data folder, or the daemon at --server, knows.",
     table_look_options, dr_cli_table_status},
    {"table route", "NAME ID...", 2, 16, "say which shard and nodes hold these rows",
     "The first node is to be written first, then the others; a refused write means that the shard "
     "moved: ask again.",
     table_look_options, dr_cli_table_route},
    {"status", "[OP]", 0, 1, "list operations, or show one", "Without OP: newest first.",
     no_options, dr_cli_status},
    {"watch", "[OP]", 0, 1, "follow operations until they rest",
     "With OP: a progress line until the operation ends or waits for a person; the exit code is "
     "that of its ending. Without: a table of all, renewed until nothing moves.",
     no_options, dr_cli_watch},
    {"explain", "OP", 1, 1, "say what it does now, why not faster, and what comes next",
     "In sentences: steps at work, limits, pauses and who asked for them, retries, quarantined "
     "steps with the remedy, and until when it can be undone.",
     no_options, dr_cli_explain},
    {"report", "OP", 1, 1, "what was done to which collection on which node",
     "A table of collections and nodes with chunks, items and errors, how long it took, what is "
     "kept for undo and what the plan warned of. With --json the same as run --report writes.",
     no_options, dr_cli_report},
    {"pause", "OP", 1, 1, "let it rest after the batch at hand",
     "Takes effect within one batch or one second. drover resume OP goes on.", reason_options,
     dr_cli_pause},
    {"resume", "OP", 1, 1, "go on after a pause or a stop",
     "The owner of the data folder goes on; if there is none, drover run OP does.", reason_options,
     dr_cli_resume},
    {"stop", "OP", 1, 1, "end it; keep what is done, or undo it with --now",
     "Finishes the batch at hand, keeps what is erased and cancels the rest; drover run OP may "
     "still go on. With --now everything done so far is put back, as with rollback.",
     stop_options, dr_cli_stop_op},
    {"rollback", "OP", 1, 1, "put everything back",
     "Stops the operation and puts back every item from the archive, last batch first. Works here "
     "if nobody owns the data folder, else follows the owner. An item that is there again and "
     "differs is left alone and counted as a conflict. With --to only a part goes back, and drover "
     "run OP goes on from there.",
     rollback_options, dr_cli_rollback},
    {"rollbacks", "[OP]", 0, 1, "the history of rollbacks, newest first",
     "Who or what began each, how much it undid in what time, and what could not be undone.",
     no_options, dr_cli_rollbacks},
    {"health", "", 0, 0, "what is stuck, failed, left over or dead, and what to do",
     "Looks at the queue, the workers and the nodes of sharded tables. Exit code 13 when there is "
     "an "
     "issue. With --recover it acts (docs/health.md).",
     health_options, dr_cli_health},
    {"alerts check", "", 0, 0, "compare with the thresholds, and send what is new or over",
     "Thresholds, webhook and command hook stand in the configuration under \"alerts\". Exit code "
     "13 while one fires. For a timer; drover serve does it by itself.",
     alert_options, dr_cli_alerts_check},
    {"alerts rules", "", 0, 0, "print alert rules for Prometheus",
     "With the same thresholds, over the metrics of drover serve.", no_options,
     dr_cli_alerts_rules},
    {"tune", "OP", 1, 1, "read or change speed, batches and quiet hours",
     "Without options prints the tuning. With options changes it; a running operation obeys within "
     "a second. --quiet-hours replaces all windows; an empty one removes them.",
     tune_options, dr_cli_tune},
    {"steps", "OP", 1, 1, "list the steps of an operation", "In the order of their numbers.",
     steps_options, dr_cli_steps},
    {"quarantine list", "[OP]", 0, 1, "list steps that keep failing",
     "With their last error. Nothing else of the operation is held up by them until a later stage.",
     no_options, dr_cli_quarantine_list},
    {"quarantine retry", "OP [STEP]", 1, 2, "put quarantined steps back",
     "All of the operation, or one step. drover run OP or drover rollback OP then goes on.",
     no_options, dr_cli_quarantine_retry},
    {"cleanup", "", 0, 0, "remove leftovers and forget old operations",
     "Removes what operations made in the database and could not remove themselves (temporary "
     "indexes), then forgets operations that ended long ago and have no archive left. With one of "
     "the named parts only those, by records of ownership and never by names.",
     cleanup_options, dr_cli_cleanup},
    {"archive list", "[OP]", 0, 1, "list what is kept for undo",
     "Bytes, frames and items of every operation, and until when they are kept.", no_options,
     dr_cli_archive_list},
    {"archive verify", "OP", 1, 1, "check every checksum of an archive",
     "Reads every segment; exit code 7 names the first damaged or missing file.", no_options,
     dr_cli_archive_verify},
    {"archive restore", "OP", 1, 1, "the same as rollback", "See drover help rollback.",
     reason_options, dr_cli_rollback},
    {"archive expire", "[OP]", 0, 1, "remove archives; their operations cannot be undone any more",
     "OP, or with --due all whose time is over. Only operations that have ended; before its time "
     "the target's name is asked for.",
     expire_options, dr_cli_archive_expire},
    {"audit", "[OP]", 0, 1, "who did what, and when", "Of one operation or all, oldest first.",
     no_options, dr_cli_audit},
    {"help", "[COMMAND]", 0, 2, "explain a command", "Without COMMAND: all of them in a line each.",
     no_options, dr_cli_help},
    {"manual", "", 0, 0, "print the manual page", "As roff: drover manual | man -l -", no_options,
     dr_cli_manual},
    {"completion", "bash|zsh|fish", 1, 1, "print a completion script for a shell",
     "For bash: drover completion bash >/etc/bash_completion.d/drover", no_options,
     dr_cli_completion},
    {"version", "", 0, 0, "print the version and the stores built in", "Also drover --version.",
     no_options, dr_cli_version},
};

enum { COMMAND_COUNT = sizeof commands / sizeof commands[0] };

const struct dr_command *dr_command_table(uint32_t *count_out)
{
    *count_out = COMMAND_COUNT;
    return commands;
}

const struct dr_option *dr_global_options(void)
{
    return global_options;
}

/* How many of the words the name takes when it matches them, else 0. */
static uint32_t match_name(const char *name, const char *const *word, uint32_t word_count)
{
    const char *blank = strchr(name, ' ');
    if (word_count == 0) {
        return 0;
    }
    if (blank == NULL) {
        return strcmp(name, word[0]) == 0 ? 1 : 0;
    }
    size_t first = (size_t)(blank - name);
    bool is_first = strlen(word[0]) == first && strncmp(name, word[0], first) == 0;
    return is_first && word_count > 1 && strcmp(blank + 1, word[1]) == 0 ? 2 : 0;
}

const struct dr_command *dr_command_find(const char *const *word, uint32_t word_count,
                                         uint32_t *used_out)
{
    for (uint32_t i = 0; i < COMMAND_COUNT; i++) {
        *used_out = match_name(commands[i].name, word, word_count);
        if (*used_out > 0) {
            return &commands[i];
        }
    }
    return NULL;
}

/* "archive" alone, or with a second word nobody knows: list the second words. */
static bool list_second_words(const char *first, char *buf, size_t buf_bytes)
{
    size_t used = 0;
    size_t length = strlen(first);
    buf[0] = '\0';
    for (uint32_t i = 0; i < COMMAND_COUNT && used < buf_bytes; i++) {
        const char *name = commands[i].name;
        if (strncmp(name, first, length) == 0 && name[length] == ' ') {
            int wrote = snprintf(buf + used, buf_bytes - used, "%s%s", used == 0 ? "" : ", ",
                                 name + length + 1);
            used += wrote > 0 ? (size_t)wrote : 0;
        }
    }
    return used > 0;
}

enum dr_code dr_command_unknown(const char *const *word, uint32_t word_count, struct dr_err *err)
{
    char seconds[WORDS_SHOWN_BYTES];
    if (word_count == 0) {
        return dr_fail(err, DR_USAGE, "no command given; drover help lists them");
    }
    if (list_second_words(word[0], seconds, sizeof seconds)) {
        return dr_fail(err, DR_USAGE, "drover %s needs one of: %s", word[0], seconds);
    }
    const char *nearest = NULL;
    unsigned best = UINT32_MAX;
    for (uint32_t i = 0; i < COMMAND_COUNT; i++) {
        char first[WORDS_SHOWN_BYTES];
        (void)snprintf(first, sizeof first, "%.*s", (int)strcspn(commands[i].name, " "),
                       commands[i].name);
        unsigned score = dr_suggest_score(word[0], first);
        if (score < best) {
            best = score;
            nearest = commands[i].name;
        }
    }
    if (nearest != NULL) {
        return dr_fail(err, DR_USAGE, "unknown command \"%.60s\" (did you mean \"%s\"?)", word[0],
                       nearest);
    }
    return dr_fail(err, DR_USAGE, "unknown command \"%.60s\"; drover help lists them all", word[0]);
}
