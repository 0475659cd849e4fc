/* SPDX-License-Identifier: Apache-2.0 */
/* What the two files of the walker share: walk.c gives documents, walk_leg.c says where to read. */
#ifndef DR_STORE_MONGODB_WALK_PRIVATE_H
#define DR_STORE_MONGODB_WALK_PRIVATE_H

#include "store/mongodb/erase_private.h"

enum {
    MG_WINDOW_ITEMS = 10000, /* keys that one filtered find looks at */
};

struct mg_walk {
    struct mg_store *s;
    const struct dr_range *range;
    const bson_t *query; /* NULL: everything */
    bson_t *pattern;     /* of the index walked; NULL: no index, as time series have none */
    bool is_sharded;     /* by the shard key, in the order of bytes */
    bool has_legs;
    bool has_positions; /* a key says where to go on */
    bool with_values;
    uint32_t reply_items;
    bson_t *leg_from, *leg_upto; /* of the leg being read; NULL: open */
    bool is_window;              /* leg_upto is where the window ends, the chunk or range goes on */
    dr_mono_ms until;            /* between two windows: time to give back what there is */
    mongoc_cursor_t *cursor;
    bson_t *held; /* a document read but not given yet */
    bool is_end;
    uint64_t looked;
    struct mg_position at;
};

/* ---- walk_leg.c ---- */
void mg_clear_doc(bson_t **doc);
/* A document within a document, copied; NULL: there is none of this name. */
bson_t *mg_copy_part(const bson_t *doc, const char *name);
/* The index to walk by, and whether its keys make positions. */
DR_MUST enum dr_code mg_walk_choose(struct mg_walk *w, struct dr_err *err);
/* Set the leg that begins at the position and open a cursor on it; is_end when nothing is left. */
DR_MUST enum dr_code mg_walk_open(struct mg_walk *w, struct dr_err *err);

#endif
