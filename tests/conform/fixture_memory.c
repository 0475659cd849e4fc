/* SPDX-License-Identifier: Apache-2.0 */
/* The fixture of the memory store. */
#include <stdio.h>
#include <string.h>

#include "conform/conform.h"
#include "store/memory/memory_store.h"

static const char store_name[] = "conform";

static const char *full_name(enum conform_collection of)
{
    static char name[C_LIMIT][64];
    (void)snprintf(name[of], sizeof name[of], "shop.%s", conform_shape(of)->name);
    return name[of];
}

static const char *quoted_table(enum conform_collection of)
{
    static char name[64];
    (void)snprintf(name, sizeof name, "\"%s\"", full_name(of));
    return name;
}

static void must(enum dr_code rc)
{
    assert_int_equal(rc, DR_OK);
}

static void put_row(const struct conform_row *row, const char *node)
{
    const struct conform_shape *shape = conform_shape(row->of);
    struct dr_memory_field field[CONFORM_FIELDS_MAX];
    for (uint32_t i = 0; i < shape->column_count; i++) {
        field[i] = (struct dr_memory_field){shape->column[i].name, row->value[i]};
    }
    must(dr_memory_put(store_name, full_name(row->of), node, row->id, field, shape->column_count));
}

static void make_store(void)
{
    must(dr_memory_reset(store_name));
    must(dr_memory_add_node(store_name, NODE_A));
    must(dr_memory_add_node(store_name, NODE_B));
    for (enum conform_collection of = 0; of < C_LIMIT; of++) {
        const struct conform_shape *shape = conform_shape(of);
        must(dr_memory_add_collection(store_name, full_name(of), shape->sharding, shape->key,
                                      shape->key_count, NODE_A));
        for (uint32_t i = 0; i < shape->chunk_count; i++) {
            const struct conform_chunk *chunk = &shape->chunk[i];
            must(dr_memory_add_chunk(store_name, full_name(of), chunk->node, &chunk->from,
                                     &chunk->upto));
        }
        must(dr_memory_add_index(store_name, full_name(of), shape->index_name, &shape->index_field,
                                 1, false, false));
        for (uint32_t n = 0; n < conform_row_count(of); n++) {
            struct conform_row row;
            conform_row(of, n, &row);
            put_row(&row, row.node);
        }
    }
}

static void clean_store(void)
{
    dr_memory_remove(store_name);
}

static const char *store_url(void)
{
    return "memory:conform";
}

static void remove_row(enum conform_collection of, const char *node, int64_t id)
{
    must(dr_memory_delete(store_name, full_name(of), node, id));
}

static bool has_row(enum conform_collection of, const char *node, int64_t id)
{
    return dr_memory_has_row(store_name, full_name(of), node, id);
}

static uint64_t count_rows(enum conform_collection of, const char *node)
{
    return dr_memory_count(store_name, full_name(of), node);
}

static void bump_epoch(enum conform_collection of)
{
    must(dr_memory_bump_epoch(store_name, full_name(of)));
}

static void lie_about(const char *node, int64_t id, int64_t hash)
{
    must(dr_memory_set_hash(store_name, full_name(C_EVENTS), node, id, hash));
}

static void set_health(const char *node, bool is_ok)
{
    must(dr_memory_set_health(store_name, node, is_ok, "replication lag 12 s, limit 10 s"));
}

const struct conform_fixture conform_memory = {
    .name = "memory",
    .prefix = "",
    .database = "shop",
    .make = make_store,
    .clean = clean_store,
    .url = store_url,
    .put = put_row,
    .remove = remove_row,
    .has = has_row,
    .count = count_rows,
    .bump_epoch = bump_epoch,
    .lie = lie_about,
    .set_health = set_health,
    .table = quoted_table,
};
