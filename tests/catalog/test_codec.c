/* SPDX-License-Identifier: Apache-2.0 */
/* The promises of snapshots: they come back as they were, damage is found, sizes are bounded, and
 * short memory loses nothing. */
#include "catalog_world.h"

/* A state with one of everything. */
static void open_rich(struct world *w)
{
    world_open(w, 3);
    assert_int_equal(call(w, CREATE, "auto",
                          "{'shard_number':3,'replication_factor':2,'vectors':{'size':4,"
                          "'distance':'Dot'},'on_disk_payload':true,'x':0.1}"),
                     DR_OK);
    assert_int_equal(call(w, CREATE, "kürzer", "{'shard_number':2}"), DR_OK);
    assert_int_equal(call(w, PROMOTE, "kürzer", "{'default_shard_key':'ä \\' \\\\ b'}"), DR_OK);
    assert_int_equal(call(w, CREATE_KEY, "kürzer", "{'shard_key':7,'initial_state':'Partial'}"),
                     DR_OK);
    assert_int_equal(call(w, CREATE, "none", "{'sharding_method':'custom'}"), DR_OK);
    assert_int_equal(call(w, CREATE, "up", "{'shard_number':1}"), DR_OK);
    assert_int_equal(call(w, CLUSTER, "up", "{'start_resharding':{'direction':'up','peer_id':2}}"),
                     DR_OK);
    uint64_t from = find(w, "up")->shard[0].replica[0].peer_id;
    char body[160];
    (void)snprintf(body, sizeof body,
                   "{'replicate_shard':{'shard_id':0,'from_peer_id':%d,'to_peer_id':%d}}",
                   (int)from, (int)(from % 3 + 1));
    assert_int_equal(call(w, CLUSTER, "up", body), DR_OK);
    assert_int_equal(
        call(w, ALIASES, NULL,
             "{'actions':[{'create_alias':{'alias_name':'a','collection_name':'up'}}]}"),
        DR_OK);
}

static char *encode(const struct dr_catalog *c, size_t *bytes)
{
    char *text = NULL;
    struct dr_err err = {0};
    assert_int_equal(dr_catalog_encode(c, &text, bytes, &err), DR_OK);
    assert_int_equal(strlen(text), *bytes);
    return text;
}

static void a_snapshot_comes_back_as_it_was(void **state)
{
    (void)state;
    struct world w;
    struct dr_err err = {0};
    struct dr_catalog *back = NULL;
    size_t bytes = 0;
    open_rich(&w);
    char *text = encode(w.c, &bytes);
    assert_int_equal(dr_catalog_decode(text, bytes, &back, &err), DR_OK);
    size_t again_bytes = 0;
    char *again = encode(back, &again_bytes);
    assert_string_equal(text, again);
    assert_true(state_hash(back) == state_hash(w.c));
    assert_true(dr_catalog_index(back) == w.index);
    const struct dr_collection_info *up = dr_catalog_find(back, "a");
    assert_string_equal(up->name, "up");
    assert_non_null(up->resharding);
    assert_int_equal(up->transfer_count, 1);
    assert_non_null(up->key_ring[0].next);
    const struct dr_collection_info *custom = dr_catalog_find(back, "kürzer");
    assert_true(custom->has_default_key && custom->key_ring_count == 2);
    for (uint64_t i = 0; i < 5000; i++) { /* rings follow from the ids */
        struct dr_point_id id = {.kind = DR_POINT_NUMBER, .number = i};
        uint64_t hash = dr_point_hash(&id);
        assert_int_equal(dr_ring_owner(up->key_ring[0].next, hash),
                         dr_ring_owner(find(&w, "up")->key_ring[0].next, hash));
    }
    /* And it goes on alike: the same entry, the same state. */
    struct world other = {.c = back, .index = w.index};
    char *next = text_of(&w, CREATE_KEY, "none", "{'shard_key':'k'}");
    assert_int_equal(apply(&w, next), DR_OK);
    assert_int_equal(apply(&other, next), DR_OK);
    assert_true(state_hash(w.c) == state_hash(other.c));
    dr_free(next);
    dr_free(again);
    dr_free(text);
    world_close(&other);
    world_close(&w);
}

static void the_text_has_sorted_keys(void **state)
{
    (void)state;
    struct world w;
    struct dr_err err = {0};
    size_t bytes = 0;
    json_t *j = NULL;
    open_rich(&w);
    char *text = encode(w.c, &bytes);
    assert_int_equal(dr_json_parse("snapshot", text, bytes, &j, &err), DR_OK);
    char *sorted = dr_json_text(j);
    assert_string_equal(sorted, text);
    dr_free(sorted);
    json_decref(j);
    dr_free(text);
    world_close(&w);
}

static void cut_or_flipped_texts_are_refused_or_another_sound_state(void **state)
{
    (void)state;
    struct world w;
    size_t bytes = 0;
    open_rich(&w);
    char *text = encode(w.c, &bytes);
    for (size_t cut = 0; cut < bytes; cut++) {
        struct dr_catalog *c = NULL;
        struct dr_err err = {0};
        assert_int_equal(dr_catalog_decode(text, cut, &c, &err), DR_CORRUPT);
        assert_null(c);
        assert_says(err.msg, "catalog snapshot");
    }
    unsigned refused = 0;
    for (size_t at = 0; at < bytes; at++) {
        struct dr_catalog *c = NULL;
        struct dr_err err = {0};
        char kept = text[at];
        text[at] = (char)(kept ^ (char)(1 + at % 7));
        enum dr_code rc = dr_catalog_decode(text, bytes, &c, &err);
        assert_true(rc == DR_OK || rc == DR_CORRUPT || rc == DR_UNSUPPORTED);
        refused += rc == DR_OK ? 0 : 1;
        dr_catalog_unref(c);
        text[at] = kept;
    }
    assert_true(refused > bytes / 2);
    dr_free(text);
    world_close(&w);
}

#define HEAD                                                                                       \
    "'changed_at':1,'name':'c','next_shard_id':9,'replication_factor':1,'shard_number':1,'uuid':"  \
    "'u','write_consistency_factor':1,'method_given':false"
#define WRAP(c) "{'aliases':[],'collections':[" c "],'index':1,'peers':[],'v':1}"

static void states_that_cannot_be_are_refused(void **state)
{
    (void)state;
    static const char *const good[] = {
        WRAP(""),
        WRAP("{" HEAD ",'keys':[],'method':'auto','shards':[[0,-1,1,'Active']],'transfers':[]}"),
        WRAP("{" HEAD ",'keys':['a'],'method':'custom','shards':[[5,0,1,'Dead']],'transfers':[]}"),
        WRAP("{" HEAD ",'keys':[],'method':'custom','shards':[],'transfers':[]}"),
    };
    static const char *const bad[] = {
        WRAP("{" HEAD ",'keys':[],'method':'auto','shards':[],'transfers':[]}"),
        WRAP("{" HEAD ",'keys':[],'method':'auto','shards':[[1,-1,1,'Active']],'transfers':[]}"),
        WRAP("{" HEAD ",'keys':[],'method':'auto','shards':[[0,-1]],'transfers':[]}"),
        WRAP("{" HEAD ",'keys':[],'method':'auto','shards':[[0,-1,1,'Happy']],'transfers':[]}"),
        WRAP("{" HEAD ",'keys':[],'method':'auto','shards':[[0,-1,0,'Active']],'transfers':[]}"),
        WRAP("{" HEAD ",'keys':['a'],'method':'auto','shards':[[0,0,1,'Active']],'transfers':[]}"),
        WRAP("{" HEAD ",'keys':[],'method':'custom','shards':[[1,-1,1,'Active']],'transfers':[]}"),
        WRAP("{" HEAD ",'keys':['a'],'method':'custom','shards':[[5,1,1,'Dead']],'transfers':[]}"),
        WRAP("{" HEAD ",'keys':['a'],'method':'custom','shards':[[9,0,1,'Dead']],'transfers':[]}"),
        WRAP("{" HEAD ",'keys':['a'],'method':'custom','shards':[[5,0,1,'Dead'],[5,0,1,'Dead']],"
             "'transfers':[]}"),
        WRAP("{" HEAD ",'keys':[],'method':'auto','shards':[[0,-1,2,'Active',1,'Active']],"
             "'transfers':[]}"),
        WRAP("{" HEAD ",'keys':[],'method':'auto','shards':[[0,-1,1,'Active']],'default_key':'a',"
             "'transfers':[]}"),
        WRAP("{" HEAD ",'keys':[],'method':'auto','shards':[[0,-1,1,'Active']],'transfers':[{"
             "'from':1,'to':2,'shard_id':0,'sync':true,'method':'snapshot'}]}"),
        WRAP("{" HEAD ",'keys':[],'method':'auto','shards':[[0,-1,1,'Active']],'transfers':[],"
             "'resharding':{'direction':'up','stage':'migrating_points','uuid':'u','shard_id':0,"
             "'peer_id':1}}"),
        WRAP("{" HEAD ",'keys':[],'method':'auto','shards':[[0,-1,1,'Active']],'transfers':[],"
             "'more':1}"),
        "{'aliases':[['a','none']],'collections':[],'index':1,'peers':[],'v':1}",
        "{'aliases':[],'collections':[],'index':1,'peers':[{'id':0}],'v':1}",
        "{'aliases':[],'collections':[],'index':-1,'peers':[],'v':1}",
        "{'aliases':[],'collections':[],'peers':[],'v':1}",
        "[]",
    };
    for (size_t i = 0; i < sizeof good / sizeof good[0] + sizeof bad / sizeof bad[0]; i++) {
        bool is_good = i < sizeof good / sizeof good[0];
        json_t *j = quoted(is_good ? good[i] : bad[i - sizeof good / sizeof good[0]]);
        char *text = dr_json_text(j);
        struct dr_catalog *c = NULL;
        struct dr_err err = {0};
        enum dr_code rc = dr_catalog_decode(text, strlen(text), &c, &err);
        if (rc != (is_good ? DR_OK : DR_CORRUPT)) {
            print_error("%s\n%s\n", text, err.msg);
            fail();
        }
        dr_catalog_unref(c);
        dr_free(text);
        json_decref(j);
    }
}

static void a_newer_format_is_not_called_damage(void **state)
{
    (void)state;
    static const char text[] = "{\"v\":3,\"whatever\":[]}";
    struct dr_catalog *c = NULL;
    struct dr_err err = {0};
    assert_int_equal(dr_catalog_decode(text, strlen(text), &c, &err), DR_UNSUPPORTED);
    assert_says(err.msg, "update");
}

static void what_is_kept_is_bounded(void **state)
{
    (void)state;
    struct world w;
    world_open(&w, 1);
    char deep[256] = "{'vectors':";
    size_t at = strlen(deep);
    for (unsigned i = 0; i < 28; i++) {
        deep[at++] = '[';
    }
    for (unsigned i = 0; i < 28; i++) {
        deep[at++] = ']';
    }
    deep[at++] = '}';
    deep[at] = '\0';
    assert_int_equal(call(&w, CREATE, "c", deep), DR_INPUT);
    assert_says(w.message, "deeper");
    const size_t bytes = 300 * 1024;
    char *big = dr_malloc(bytes + 64);
    (void)snprintf(big, 64, "{'metadata':{'x':'");
    at = strlen(big);
    memset(big + at, 'y', bytes);
    (void)snprintf(big + at + bytes, 8, "'}}");
    assert_int_equal(call(&w, CREATE, "c", big), DR_INPUT);
    assert_says(w.message, "bytes");
    dr_free(big);
    world_close(&w);
}

/* Apply the entry with the n-th allocation failing, for every n there is. */
static void apply_short(const struct world *w, const char *entry, uint64_t expected)
{
    bool was_met = true;
    for (uint64_t n = 1; was_met; n++) {
        struct dr_catalog *after = NULL;
        struct dr_apply_result result;
        struct dr_err err = {0};
        (void)dr_mem_fail_at(n);
        enum dr_code rc =
            dr_catalog_apply(w->c, w->index + 1, entry, strlen(entry), &after, &result, &err);
        was_met = dr_mem_fail_at(0) >= n;
        if (rc == DR_OK) { /* without the fault, or in spite of it */
            assert_int_equal(result.code, DR_OK);
            assert_true(result.changed && n > 5);
            assert_true(state_hash(after) == expected);
            json_decref(result.value);
            dr_catalog_unref(after);
        } else {
            assert_true(was_met);
            assert_int_equal(rc, DR_NOMEM);
            assert_null(after);
            assert_null(result.value);
        }
    }
}

static void short_memory_applies_nothing_and_leaks_nothing(void **state)
{
    (void)state;
    struct world w;
    open_rich(&w);
    uint64_t hash = state_hash(w.c);
    char *entries[] = {
        text_of(&w, CREATE, "new", "{'shard_number':2,'vectors':{},'x':1}"),
        text_of(&w, PROMOTE, "auto", NULL),
        text_of(&w, CREATE_KEY, "none", "{'shard_key':'k','shards_number':2}"),
        text_of(&w, CLUSTER, "up", "{'abort_resharding':{}}"),
        text_of(&w, DELETE, "up", NULL),
        text_of(&w, UPDATE, "auto", "{'x':2}"),
        text_of(&w, ALIASES, NULL, "{'actions':[{'delete_alias':{'alias_name':'a'}}]}"),
    };
    for (unsigned e = 0; e < sizeof entries / sizeof entries[0]; e++) {
        struct world other = {.c = dr_catalog_ref(w.c), .index = w.index};
        assert_int_equal(apply(&other, entries[e]), DR_OK);
        uint64_t expected = state_hash(other.c);
        world_close(&other);
        json_set_alloc_funcs(dr_malloc, dr_free);
        apply_short(&w, entries[e], expected);
        json_set_alloc_funcs(malloc, free);
        dr_free(entries[e]);
    }
    assert_true(state_hash(w.c) == hash);
    world_close(&w);
}

static void short_memory_spoils_no_snapshot(void **state)
{
    (void)state;
    struct world w;
    struct dr_err err = {0};
    size_t bytes = 0;
    open_rich(&w);
    uint64_t hash = state_hash(w.c);
    char *text = encode(w.c, &bytes);
    json_set_alloc_funcs(dr_malloc, dr_free);
    bool was_met = true;
    for (uint64_t n = 1; was_met; n++) {
        struct dr_catalog *c = NULL;
        (void)dr_mem_fail_at(n);
        enum dr_code rc = dr_catalog_decode(text, bytes, &c, &err);
        was_met = dr_mem_fail_at(0) >= n;
        assert_int_equal(c == NULL, rc != DR_OK);
        if (rc == DR_OK) {
            assert_true(state_hash(c) == hash);
            dr_catalog_unref(c);
        } else {
            assert_true(was_met);
            assert_int_equal(rc, DR_NOMEM);
        }
    }
    was_met = true;
    for (uint64_t n = 1; was_met; n++) {
        char *again = NULL;
        size_t again_bytes = 0;
        (void)dr_mem_fail_at(n);
        enum dr_code rc = dr_catalog_encode(w.c, &again, &again_bytes, &err);
        was_met = dr_mem_fail_at(0) >= n;
        assert_int_equal(again == NULL, rc != DR_OK);
        assert_true(rc == DR_OK || (was_met && rc == DR_NOMEM));
        if (rc == DR_OK) {
            assert_string_equal(again, text);
            dr_free(again);
        }
    }
    json_set_alloc_funcs(malloc, free);
    dr_free(text);
    world_close(&w);
}

static void makers_survive_short_memory(void **state)
{
    (void)state;
    static const struct {
        enum call what;
        const char *name;
        const char *body;
    } row[] = {
        {CREATE, "new", "{'shard_number':2,'vectors':{},'x':1}"},
        {UPDATE, "auto", "{'params':{'replication_factor':1},'y':2}"},
        {PROMOTE, "auto", "{'default_shard_key':'k'}"},
        {CREATE_KEY, "none", "{'shard_key':'k','placement':[1,2]}"},
        {CLUSTER, "up", "{'commit_read_hash_ring':{}}"},
        {CLUSTER, "auto", "{'start_resharding':{'direction':'up'}}"},
        {ALIASES, NULL, "{'actions':[{'create_alias':{'alias_name':'b','collection_name':'up'}}]}"},
        {DELETE, "auto", NULL},
    };
    struct world w;
    open_rich(&w);
    json_set_alloc_funcs(dr_malloc, dr_free);
    for (unsigned e = 0; e < sizeof row / sizeof row[0]; e++) {
        json_t *body = row[e].body == NULL ? NULL : quoted(row[e].body);
        for (uint64_t n = 1;; n++) {
            struct dr_err err = {0};
            char *text = NULL;
            enum dr_code rc = DR_INTERNAL;
            (void)dr_mem_fail_at(n);
            switch (row[e].what) {
            case CREATE:
                rc = dr_entry_create_collection(w.c, row[e].name, body, "u-1", 1, &text, &err);
                break;
            case UPDATE:
                rc = dr_entry_update_collection(w.c, row[e].name, body, &text, &err);
                break;
            case PROMOTE:
                rc = dr_entry_promote(w.c, row[e].name, body, &text, &err);
                break;
            case CREATE_KEY:
                rc = dr_entry_create_key(w.c, row[e].name, body, 1, &text, &err);
                break;
            case CLUSTER:
                rc = dr_entry_cluster(w.c, row[e].name, body, 1, &text, &err);
                break;
            case ALIASES:
                rc = dr_entry_aliases(w.c, body, &text, &err);
                break;
            case DELETE:
                rc = dr_entry_delete_collection(w.c, row[e].name, &text, &err);
                break;
            case DROP_KEY:
                break;
            }
            bool was_met = dr_mem_fail_at(0) >= n;
            if (rc != DR_OK && rc != DR_NOMEM) {
                fail_msg("row %u, allocation %llu: %s: %s", e, (unsigned long long)n,
                         dr_code_name(rc), err.msg);
            }
            assert_int_equal(text == NULL, rc != DR_OK);
            dr_free(text);
            if (!was_met) {
                assert_int_equal(rc, DR_OK);
                break;
            }
        }
        json_decref(body);
    }
    json_set_alloc_funcs(malloc, free);
    world_close(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_snapshot_comes_back_as_it_was),
        cmocka_unit_test(the_text_has_sorted_keys),
        cmocka_unit_test(cut_or_flipped_texts_are_refused_or_another_sound_state),
        cmocka_unit_test(states_that_cannot_be_are_refused),
        cmocka_unit_test(a_newer_format_is_not_called_damage),
        cmocka_unit_test(what_is_kept_is_bounded),
        cmocka_unit_test(short_memory_applies_nothing_and_leaks_nothing),
        cmocka_unit_test(short_memory_spoils_no_snapshot),
        cmocka_unit_test(makers_survive_short_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
