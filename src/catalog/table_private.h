/* SPDX-License-Identifier: Apache-2.0 */
/* What the files about sharded tables share: frozen tables, the set of them that is part of a
 * state, drafts that are checked and frozen. */
#ifndef DR_CATALOG_TABLE_PRIVATE_H
#define DR_CATALOG_TABLE_PRIVATE_H

#include "base/str.h"
#include "catalog/catalog_private.h"
#include "catalog/table.h"

enum {
    DR_TABLE_EXTRA_BYTES_MAX = 16 * 1024,
    DR_TABLE_OPTIONS_BYTES_MAX = 16 * 1024, /* as text */
    DR_TABLE_URL_BYTES_MAX = 4096,
    DR_TABLE_HOLDERS_MAX = 64, /* of one shard */
};
#define DR_TABLE_ROUTING "crc32-jump" /* the only rule there is */

/* Never written again once frozen; shared by all states in which it is the same. */
struct dr_table {
    _Atomic uint32_t refs;
    struct dr_arena *arena;
    struct dr_table_info info;
    const char *options; /* JSON text of an object, "" when none was given */
    const char
        *creator; /* the operation that made it: only that may take it back when it is ready */
};
struct dr_table *dr_table_ref(const struct dr_table *t);
void dr_table_unref(struct dr_table *t);
/* The table that `info` is a part of. */
const struct dr_table *dr_table_of(const struct dr_table_info *info);

/* The tables of a state, by name; states that differ elsewhere share it. NULL: none. */
struct dr_table_set {
    _Atomic uint32_t refs;
    uint32_t count;
    struct dr_table *table[];
};
struct dr_table_set *dr_table_set_ref(struct dr_table_set *set); /* NULL stays NULL */
void dr_table_set_unref(struct dr_table_set *set);
/* A set with `put` in place of its namesake (NULL: without the one called `name`). Takes no
 * reference of `set`, takes the one of `put` also when it fails. *out NULL: it would be empty. */
DR_MUST enum dr_code dr_table_set_change(const struct dr_table_set *set, const char *name,
                                         struct dr_table *put, struct dr_table_set **out,
                                         struct dr_err *err);

/* A table being made or changed: its arrays live in the arena of the operation. */
struct dr_table_draft {
    struct dr_arena *arena;
    struct dr_table_info info; /* its arrays are not used: the fields below are */
    struct dr_table_node *node;
    struct dr_table_shard *shard;
    const char *options, *creator;
};
/* A copy of `old` with room for so many more nodes. */
DR_MUST enum dr_code dr_table_draft_begin(struct dr_table_draft *d, struct dr_arena *arena,
                                          const struct dr_table *old, uint32_t extra_nodes,
                                          struct dr_err *err);
/* Sort the nodes by name, with the holders' numbers following; nodes for which is_gone[i] (NULL:
 * none) leave, they must hold nothing. */
DR_MUST enum dr_code dr_table_draft_sort(struct dr_table_draft *d, const bool *is_gone,
                                         struct dr_err *err);
/* What every table keeps to: DR_INPUT (DR_REFUSED: nodes of another engine) says what it breaks. */
DR_MUST enum dr_code dr_table_draft_check(const struct dr_table_draft *d, struct dr_err *err);
DR_MUST enum dr_code dr_table_draft_freeze(const struct dr_table_draft *d, struct dr_table **out,
                                           struct dr_err *err);

/* [A-Za-z_][A-Za-z0-9_]*, at most DR_TABLE_NAME_BYTES_MAX: it names tables in databases and a file.
 */
DR_MUST enum dr_code dr_table_name_check(const char *name, struct dr_err *err);
bool dr_table_state_parse(const char *name, enum dr_table_state *out);
/* [[0,1],[2]] for the holders, into the arena: bounded, numbers below `nodes`. */
DR_MUST enum dr_code dr_table_read_placement(const json_t *list, uint32_t nodes,
                                             struct dr_arena *arena, struct dr_table_shard **out,
                                             struct dr_err *err);

/* Of a snapshot: ,"tables":[...] - nothing at all when there are none. */
void dr_table_set_encode(struct dr_str *s, const struct dr_table_set *set);
DR_MUST enum dr_code dr_table_set_decode(const json_t *list, struct dr_table_set **out,
                                         struct dr_err *err);

/* DIR/tables/NAME.json: write what changed between two states; `before` NULL: compare with the
 * disk. (table_files.c, called by dr_catalog_write_files) */
DR_MUST enum dr_code dr_table_write_files(const char *dir, const struct dr_catalog *before,
                                          const struct dr_catalog *after, struct dr_err *err);

dr_apply_op dr_apply_table_reserve, dr_apply_table_release, dr_apply_table_ready,
    dr_apply_table_begin, dr_apply_table_switch, dr_apply_table_end, dr_apply_table_cancel,
    dr_apply_table_drop, dr_apply_table_undrop, dr_apply_table_remove;

#endif
