/* SPDX-License-Identifier: Apache-2.0 */
/* Any text as a snapshot: what is read is written and read again as the same text. Any text as an
 * entry, and any snapshot with an entry behind it (a line each): no crash, a reason for every
 * refusal, and what comes of it can be written and read. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "catalog/catalog.h"
#include "catalog/table.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static void must(bool is_true)
{
    if (!is_true) {
        abort();
    }
}

static void check_round_trip(const struct dr_catalog *c)
{
    struct dr_err err = {0};
    struct dr_catalog *back = NULL;
    char *text = NULL;
    char *again = NULL;
    size_t text_bytes = 0;
    size_t again_bytes = 0;
    must(dr_catalog_encode(c, &text, &text_bytes, &err) == DR_OK);
    must(dr_catalog_decode(text, text_bytes, &back, &err) == DR_OK);
    must(dr_catalog_encode(back, &again, &again_bytes, &err) == DR_OK);
    must(text_bytes == again_bytes && memcmp(text, again, text_bytes) == 0);
    dr_free(text);
    dr_free(again);
    dr_catalog_unref(back);
}

static void check_routes(const struct dr_catalog *c)
{
    struct dr_point_id id = {.kind = DR_POINT_NUMBER, .number = 42};
    uint32_t shard[16];
    uint32_t count = 0;
    struct dr_err err = {0};
    for (uint32_t i = 0; i < dr_catalog_collection_count(c); i++) {
        const struct dr_collection_info *info = dr_catalog_collection_at(c, i);
        enum dr_code rc = dr_route_point(info, NULL, &id, true, shard, 16, &count, &err);
        must(rc == DR_OK || err.msg[0] != '\0');
        for (uint32_t k = 0; k < count; k++) {
            must(dr_collection_shard(info, shard[k]) != NULL);
        }
    }
}

/* Every table can be shown, its secrets or not, and has a place for every row. */
static void check_tables(const struct dr_catalog *c)
{
    for (uint32_t i = 0; i < dr_catalog_table_count(c); i++) {
        const struct dr_table_info *t = dr_catalog_table_at(c, i);
        uint32_t shard = dr_table_route(t->shard_count, "42", 2);
        must(dr_catalog_table(c, t->name) == t);
        must(shard < t->shard_count && t->shard[shard].holder_count > 0);
        for (uint32_t k = 0; k < t->shard[shard].holder_count; k++) {
            must(t->shard[shard].holder[k] < t->node_count);
        }
        for (int with_secrets = 0; with_secrets < 2; with_secrets++) {
            json_t *shown = dr_table_to_json(t, with_secrets != 0);
            must(shown != NULL);
            json_decref(shown);
        }
    }
}

static void check_entry(const struct dr_catalog *c, const char *entry, size_t bytes)
{
    struct dr_err err = {0};
    struct dr_apply_result result;
    struct dr_catalog *after = NULL;
    must(dr_catalog_apply(c, 7, entry, bytes, &after, &result, &err) == DR_OK);
    must(result.changed == (after != c));
    must(result.code == DR_OK || (!result.changed && result.message[0] != '\0'));
    if (result.changed) {
        check_round_trip(after);
        check_routes(after);
        check_tables(after);
    }
    json_decref(result.value);
    dr_catalog_unref(after);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    struct dr_err err = {0};
    struct dr_catalog *c = NULL;
    const char *text = (const char *)data;
    const char *line = bytes == 0 ? NULL : memchr(text, '\n', bytes);
    size_t first = line == NULL ? bytes : (size_t)(line - text);
    enum dr_code rc = dr_catalog_decode(text, first, &c, &err);
    if (rc == DR_OK) {
        check_round_trip(c);
        check_routes(c);
        check_tables(c);
    } else {
        must(err.msg[0] != '\0' && c == NULL);
        must(dr_catalog_create(&c, &err) == DR_OK);
    }
    check_entry(c, text, first);
    if (line != NULL) {
        check_entry(c, line + 1, bytes - first - 1);
    }
    dr_catalog_unref(c);
    return 0;
}
