/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the fleet share: the handle, its nodes, a command as it was read. */
#ifndef DR_STORE_FLEET_FLEET_PRIVATE_H
#define DR_STORE_FLEET_FLEET_PRIVATE_H

#include "base/json.h"
#include "store/shard.h"
#include "store/store.h"
#include "store/world.h"

#define FL_CATALOG_NODE "catalog"
#define FL_INNER_NODE "main" /* what a node's own store calls itself */

enum { FL_NODES_OPEN_MAX = 256, FL_NAMES_MAX = DR_SHARD_TARGETS_MAX, FL_NODE_BYTES_MAX = 120 };

/* A shard of so many rows is read whole while its writers are held; a bigger one is not. */
enum { FL_DIGEST_ROWS_MAX = 50000 };

/* A node whose store is open. */
struct fl_node {
    char *name;
    char *url;
    struct dr_store *store;
    uint64_t used_at; /* counts uses: the longest unused one goes when there are too many */
};

/* The last record of a table this handle has read. */
struct fl_table {
    char *name;
    json_t *record;
};

struct fl_fleet {
    const struct dr_catalog_port *catalog;
    char *table; /* of the URL; "" */
    uint64_t clock;
    uint32_t node_count;
    struct fl_node node[FL_NODES_OPEN_MAX];
    struct fl_table seen; /* one: the commands of an operation are about one table */
};

/* ---- fleet.c ---- */
/* Read the record anew; the reference is the caller's. */
enum dr_code fl_read_record(struct fl_fleet *f, const char *table, json_t **out,
                            struct dr_err *err);
/* The next one who asks reads it anew. */
void fl_forget_record(struct fl_fleet *f);
/* The store of a node, opened when it is not. `table` NULL: of any table that has such a node. */
enum dr_code fl_open_node(struct fl_fleet *f, const char *table, const char *node,
                          struct dr_store **out, struct dr_err *err);
/* Note what a call to a node gave: a broken connection is not used again. Returns rc. */
enum dr_code fl_note(struct fl_fleet *f, const char *node, enum dr_code rc);
void fl_close_node(struct fl_fleet *f, const char *node);
/* Is this node one of the record's holders of the shard's table? */
bool fl_is_holder(const json_t *record, const char *shard, const char *node);
const char *fl_text(const json_t *object, const char *key); /* "" where there is none */

/* ---- command.c: the vocabulary ---- */
enum fl_what {
    FL_CATALOG,
    FL_ENSURE,
    FL_DROP,
    FL_CAPTURE,
    FL_UNCAPTURE,
    FL_COPY,
    FL_FOLLOW,
    FL_VERIFY,
    FL_CUTOVER,
    FL_CUTBACK,
    FL_HOLD,
    FL_UNHOLD,
    FL_HOLD_UNTIL,
    FL_RETIRE,
    FL_CLEAN,
    FL_GIVE_UP,
    FL_WHAT_COUNT
};

struct fl_names {
    uint32_t count;
    const char *name[FL_NAMES_MAX];
};

struct fl_command {
    json_t *root; /* owns the texts */
    enum fl_what what;
    struct dr_shard_id shard;
    const json_t *entry;
    const char *columns, *extra;
    const char *source; /* copy, follow, verify */
    struct fl_names from, to, drop;
    struct fl_names dead;  /* of `from`: known to be gone when the step was planned */
    const char *uncapture; /* NULL: none */
    const char *url;       /* clean: of a node that the catalog may not know any more, or NULL */
    const char *command;   /* clean: what cleans up in the words of the node's store, or NULL */
    uint64_t number, fence_ms, left_max;
    int64_t until;
    bool is_only_empty;
};

/* Is it one of the fleet's own? Anything else is the node's own business. */
bool fl_is_command(const char *text);
/* Release with fl_command_fini(), also after a failure. */
enum dr_code fl_command_parse(const char *text, struct fl_command *out, struct dr_err *err);
void fl_command_fini(struct fl_command *c);
const char *fl_what_name(enum fl_what what);
bool fl_is_in_place(const struct fl_command *c, const char *node);

bool fl_has_name(const struct fl_names *names, const char *name);

/* ---- what the commands do ---- */
enum dr_code fl_command(void *impl, const char *node, const char *text, struct dr_err *err);
enum dr_code fl_check(void *impl, const char *node, const char *text, bool is_now,
                      struct dr_err *err);
enum dr_code fl_copy(void *impl, const char *spec, const struct dr_budget *budget,
                     struct dr_cursor *cursor, struct dr_copied *out, struct dr_err *err);
enum dr_code fl_survey_spec(void *impl, const char *spec, struct dr_survey *survey,
                            struct dr_err *err);
enum dr_code fl_verify(struct fl_fleet *f, const struct fl_command *c, struct dr_store *source,
                       struct dr_store *const *target, const struct dr_budget *budget,
                       struct dr_cursor *cursor, struct dr_copied *out, struct dr_err *err);
enum dr_code fl_cutover(struct fl_fleet *f, const struct fl_command *c, struct dr_err *err);
enum dr_code fl_cutback(struct fl_fleet *f, const struct fl_command *c, const char *node,
                        struct dr_err *err);
enum dr_code fl_clean(struct fl_fleet *f, const struct fl_command *c, const char *node,
                      struct dr_err *err);
enum dr_code fl_retire(struct fl_fleet *f, const struct fl_command *c, struct dr_err *err);

#endif
