/* SPDX-License-Identifier: Apache-2.0 */
/* Inside of health: what the nodes said, and what belongs to nobody. Lists are JSON, because they
 * end up in reports; node URLs stay in these lists and never get into a report. */
#ifndef DR_VERBS_HEALTH_PRIVATE_H
#define DR_VERBS_HEALTH_PRIVATE_H

#include "verbs/health.h"

/* Everything seen outside the queue. */
struct dr_seen {
    json_t *tables; /* of the catalog; with URLs */
    /* {"name","url","engine","answered","why","records":[{"name","table","owner","operation",
     * "role","created_at","exists"}],"clusters":[names],"system_tables":[names]} */
    json_t *nodes;
    /* uuids of table operations in the queue that are not over: uuid -> number of the operation */
    json_t *busy;
    /* {"node","url","kind":"shard"|"cluster","name","table","owner","operation","role",
     * "created_at","exists","why","is_copy"} */
    json_t *orphans;
    bool is_catalog_silent; /* why the look failed; the only thing set then */
};
/* Reads the catalog and the queue and, when `wait_ms` > 0, asks all nodes, which together get so
 * long. Without a world or a catalog everything is empty. Release with dr_seen_fini. */
DR_MUST enum dr_code dr_seen_look(struct dr_queue *q, const struct dr_store_world *world,
                                  uint32_t wait_ms, struct dr_seen *out, struct dr_err *err);
void dr_seen_fini(struct dr_seen *s);
/* health_nodes.c: ask the nodes of these tables; an array as struct dr_seen has it. */
DR_MUST enum dr_code dr_nodes_ask(const json_t *tables, uint32_t wait_ms, json_t **out,
                                  struct dr_err *err);
/* When anybody, drover included, last did something about the operation: one that was resumed a
 * minute ago is not stuck since yesterday. */
DR_MUST enum dr_code dr_last_touched(struct dr_queue *q, const struct dr_op *op, dr_wall_ms *out,
                                     struct dr_err *err);
/* uuids of operations that own what they made. */
DR_MUST enum dr_code dr_busy_read(struct dr_queue *q, json_t **out, struct dr_err *err);

const char *dr_text_of(const json_t *object, const char *key);       /* never NULL */
const json_t *dr_find_table(const json_t *tables, const char *name); /* NULL: none */
/* The node's entry by URL or, with url NULL, by name; NULL. */
const json_t *dr_find_node(const json_t *nodes, const char *url, const char *name);
/* URL of a node of a table's record; NULL. */
const char *dr_node_url(const json_t *table, const char *node);
/* Is this shard there, in use, and of this table? */
bool dr_node_has_shard(const json_t *node, const json_t *table, const char *shard);

/* health_findings.c: append a finding; takes the reference to `details` in any case. */
DR_MUST enum dr_code dr_finding_add(struct dr_health_report *r, const char *type, bool is_issue,
                                    uint64_t count, json_t *details, const char *advice,
                                    struct dr_err *err);
/* What the seen nodes and tables are worth reporting. */
DR_MUST enum dr_code dr_seen_judge(const struct dr_seen *seen, struct dr_health_report *r,
                                   struct dr_err *err);

/* cleanup.c: run the cleanup records that are due; appends to `items` and `errors`. */
DR_MUST enum dr_code dr_cleanup_records(struct dr_queue *q, const struct dr_store_world *world,
                                        bool is_dry_run, json_t *items, json_t *errors,
                                        struct dr_err *err);

#endif
