/* SPDX-License-Identifier: Apache-2.0 */
/* The promises of cluster/ about what outlives a peer: the record of promotions, and copies that
 * hold what their source holds and nothing else. */
#include <sys/stat.h>

#include "cluster/cluster_help.h"

static struct world w;

static void want_class(struct dr_cluster *c, dr_cluster_verb *verb, const char *name,
                       const char *body, enum dr_cluster_class class)
{
    struct dr_cluster_reply r = ask(c, verb, name, body);
    if (r.class != class) {
        print_error("%s: class %d, %s\n", name, (int)r.class, r.message);
        fail();
    }
    dr_cluster_reply_fini(&r);
}

/* What the record says of the n-th newest; "" when there is no such field. */
static void look(struct dr_cluster *c, const char *name, size_t n, const char *field, char *buf,
                 size_t bytes)
{
    struct dr_cluster_reply r = ask(c, dr_cluster_promotions, name, NULL);
    const json_t *list = json_object_get(r.result, "promotions");
    const json_t *value = json_object_get(json_array_get(list, n), field);
    char *text = value == NULL ? NULL : dr_json_text(value);
    dr_copy_text(buf, bytes, text == NULL ? "" : text);
    dr_free(text);
    dr_cluster_reply_fini(&r);
}

static void assert_says(struct dr_cluster *c, const char *name, size_t n, const char *field,
                        const char *wanted)
{
    char found[DR_ERR_BYTES];
    look(c, name, n, field, found, sizeof found);
    assert_string_equal(found, wanted);
}

static size_t count_records(struct dr_cluster *c, const char *name)
{
    struct dr_cluster_reply r = ask(c, dr_cluster_promotions, name, NULL);
    size_t count = json_array_size(json_object_get(r.result, "promotions"));
    dr_cluster_reply_fini(&r);
    return count;
}

static void restart(void)
{
    world_stop_peer(&w, 1);
    world_start_peer(&w, 1);
}

static char *record_path(void)
{
    return dr_asprintf("%s/promotions.json", w.dir[1]);
}

static void put_record(const char *text)
{
    char *path = record_path();
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    (void)fputs(text, f);
    (void)fclose(f);
    dr_free(path);
}

/* --- the record --- */

static void the_record_is_the_same_after_a_restart(void **state)
{
    (void)state;
    world_start(&w, 1);
    want_class(w.peer[1], dr_cluster_create_collection, "a", "{}", DR_CLASS_OK);
    want_class(w.peer[1], dr_cluster_promote, "a", "{\"default_shard_key\": 7}", DR_CLASS_OK);
    want_class(w.peer[1], dr_cluster_promote, "a", "{}", DR_CLASS_BAD_REQUEST);
    want_class(w.peer[1], dr_cluster_promote, "none", "{}", DR_CLASS_NOT_FOUND);
    char error[DR_ERR_BYTES];
    char started[64];
    look(w.peer[1], "a", 0, "error", error, sizeof error);
    look(w.peer[1], "a", 1, "started", started, sizeof started);
    assert_true(strlen(error) > 20);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(count_records(w.peer[1], NULL), 3);
        assert_int_equal(count_records(w.peer[1], "a"), 2);
        assert_says(w.peer[1], NULL, 0, "collection", "\"none\"");
        assert_says(w.peer[1], "a", 0, "error", error);
        assert_says(w.peer[1], "a", 0, "phase", "\"failed\"");
        assert_says(w.peer[1], "a", 1, "phase", "\"done\"");
        assert_says(w.peer[1], "a", 1, "promoted", "true");
        assert_says(w.peer[1], "a", 1, "default_shard_key", "7");
        assert_says(w.peer[1], "a", 1, "started", started);
        assert_says(w.peer[1], "a", 1, "by", "\"tester\"");
        restart();
    }
    want_class(w.peer[1], dr_cluster_promote, "a", "{\"default_shard_key\": 7}", DR_CLASS_OK);
    assert_says(w.peer[1], "a", 0, "id", "4"); /* numbers go on */
    world_stop(&w);
}

static void a_promotion_that_a_crash_cut_off_says_so(void **state)
{
    (void)state;
    world_start(&w, 1);
    want_class(w.peer[1], dr_cluster_create_collection, "a", "{}", DR_CLASS_OK);
    put_record("{\"v\":1,\"promotions\":[{\"id\":9,\"collection\":\"a\",\"uuid\":\"\",\"by\":\"x\","
               "\"phase\":\"proposing\",\"started\":1700000000000,\"ended\":0,\"promoted\":false,"
               "\"index\":0,\"error\":\"\",\"key\":\"eu\"}]}");
    restart();
    char error[DR_ERR_BYTES];
    assert_says(w.peer[1], "a", 0, "phase", "\"unknown\"");
    assert_says(w.peer[1], "a", 0, "default_shard_key", "\"eu\"");
    look(w.peer[1], "a", 0, "error", error, sizeof error);
    assert_non_null(strstr(error, "stopped before"));
    want_class(w.peer[1], dr_cluster_promote, "a", "{}", DR_CLASS_OK);
    assert_says(w.peer[1], "a", 0, "id", "10");
    world_stop(&w);
}

static const char in_an_unknown_phase[] =
    "{\"v\":1,\"promotions\":[{\"id\":1,\"collection\":\"a\",\"uuid\":\"\",\"by\":\"x\","
    "\"phase\":\"dreaming\",\"started\":1,\"ended\":2,\"promoted\":false,\"index\":0,"
    "\"error\":\"\",\"key\":\"eu\"}]}";

static void a_record_that_cannot_be_read_stops_nobody(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",
        "{",
        "[]",
        "{\"v\":2,\"promotions\":[]}",
        "{\"v\":1}",
        "{\"v\":1,\"promotions\":[{\"id\":1}]}",
        in_an_unknown_phase,
    };
    world_start(&w, 1);
    want_class(w.peer[1], dr_cluster_create_collection, "a", "{}", DR_CLASS_OK);
    want_class(w.peer[1], dr_cluster_promote, "a", "{}", DR_CLASS_OK);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        put_record(bad[i]);
        restart();
        /* What matters the catalog says. */
        assert_int_equal(count_records(w.peer[1], "a"), 1);
        assert_says(w.peer[1], "a", 0, "phase", "\"done\"");
        assert_says(w.peer[1], "a", 0, "default_shard_key", "\"default\"");
    }
    world_stop(&w);
}

static void the_record_keeps_the_last_64(void **state)
{
    (void)state;
    struct stat st;
    world_start(&w, 1);
    for (int i = 0; i < 70; i++) {
        want_class(w.peer[1], dr_cluster_promote, "none", "{}", DR_CLASS_NOT_FOUND);
    }
    for (int i = 0; i < 2; i++) {
        assert_int_equal(count_records(w.peer[1], NULL), 64);
        assert_says(w.peer[1], NULL, 0, "id", "70");
        assert_says(w.peer[1], NULL, 63, "id", "7");
        restart();
    }
    char *path = record_path();
    assert_int_equal(stat(path, &st), 0);
    assert_true(st.st_size < 65536);
    dr_free(path);
    world_stop(&w);
}

static void a_record_is_about_a_collection_and_not_about_a_name(void **state)
{
    (void)state;
    world_start(&w, 3);
    want_class(w.peer[1], dr_cluster_create_collection, "a", "{}", DR_CLASS_OK);
    want_class(w.peer[1], dr_cluster_promote, "a", "{}", DR_CLASS_OK);
    assert_says(w.peer[2], "a", 0, "phase", "\"done\""); /* although nobody asked it */
    assert_says(w.peer[2], "a", 0, "promoted", "true");
    want_class(w.peer[1], dr_cluster_delete_collection, "a", NULL, DR_CLASS_OK);
    want_class(w.peer[1], dr_cluster_create_collection, "a", "{}", DR_CLASS_OK);
    want_class(w.peer[2], dr_cluster_promote, "a", "{\"default_shard_key\": \"new\"}", DR_CLASS_OK);
    /* Of peer 1's own record, which is about another collection of that name, and of the new one.
     */
    assert_int_equal(count_records(w.peer[1], "a"), 2);
    assert_says(w.peer[1], "a", 1, "default_shard_key", "\"new\"");
    world_stop(&w);
}

/* --- copies --- */

static enum dr_code pass_guard(void *arg, struct dr_err *err)
{
    (void)arg;
    (void)err;
    return DR_OK;
}

/* A write that only this peer's replica has: its peer was cut off, and refused it in the end. */
static void write_here_only(struct dr_cluster *c, uint32_t shard_id, uint64_t id)
{
    struct dr_err err = {0};
    struct shard_rows *f = NULL;
    struct dr_catalog *cat = dr_cluster_catalog(c);
    const struct point_op op = {.id = {.kind = DR_POINT_NUMBER, .number = id},
                                .doc = "{}",
                                .version = dr_cluster_next_version(c)};
    assert_int_equal(
        dr_shards_take(&c->shards, dr_catalog_find(cat, "a")->uuid, shard_id, true, &f, &err),
        DR_OK);
    assert_int_equal(dr_shard_write(f, &op, 1, pass_guard, NULL, &err), DR_OK);
    dr_shards_give(&c->shards, f);
    dr_catalog_unref(cat);
}

static long long count_here(struct dr_cluster *c)
{
    struct dr_cluster_reply r = ask(c, dr_points_count, "a", "{\"exact\": true}");
    long long count =
        r.class == DR_CLASS_OK ? json_integer_value(json_object_get(r.result, "count")) : -1;
    dr_cluster_reply_fini(&r);
    return count;
}

static bool is_green(struct dr_cluster *c)
{
    struct dr_cluster_reply r = ask(c, dr_cluster_get_collection, "a", NULL);
    const char *status = json_string_value(json_object_get(r.result, "status"));
    bool is_so = status != NULL && strcmp(status, "green") == 0;
    dr_cluster_reply_fini(&r);
    return is_so;
}

static void wait_green(struct dr_cluster *c)
{
    dr_mono_ms until = dr_mono_now() + SOON_MS;
    while (!is_green(c)) {
        assert_true(dr_mono_now() < until);
        (void)dr_wait_ms(10, NULL, NULL);
    }
}

static void declare_dead(struct dr_cluster *c, uint64_t peer_id)
{
    struct proposal p;
    struct dr_err err = {0};
    char *entry = NULL;
    struct dr_catalog *cat = dr_cluster_catalog(c);
    assert_int_equal(
        dr_entry_replica_state(cat, "a", 0, peer_id, DR_REPLICA_DEAD, NULL, &entry, &err), DR_OK);
    dr_catalog_unref(cat);
    assert_int_equal(dr_propose(c, entry, 5000, &p, &err), DR_OK);
    assert_int_equal(p.result.code, DR_OK);
    json_decref(p.result.value);
    dr_free(entry);
}

static void a_copy_holds_what_its_source_holds_and_nothing_else(void **state)
{
    (void)state;
    world_heals = true;
    world_start(&w, 3);
    world_heals = false;
    want_class(w.peer[1], dr_cluster_create_collection, "a",
               "{\"shard_number\": 1, \"replication_factor\": 3}", DR_CLASS_OK);
    want_class(w.peer[1], dr_points_upsert, "a",
               "{\"points\": [{\"id\": 1, \"vector\": [1]}, {\"id\": 2, \"vector\": [1]}]}",
               DR_CLASS_OK);
    write_here_only(w.peer[2], 0, 77);
    assert_int_equal(count_here(w.peer[2]), 3);
    declare_dead(w.peer[1], 2);
    wait_green(w.peer[1]);
    wait_green(w.peer[2]);
    for (unsigned id = 1; id <= 3; id++) {
        assert_int_equal(count_here(w.peer[id]), 2);
    }
    world_stop(&w);
}

static void only_a_replica_in_recovery_is_emptied(void **state)
{
    (void)state;
    struct dr_cluster_reply r;
    world_start(&w, 1);
    want_class(w.peer[1], dr_cluster_create_collection, "a", "{\"shard_number\": 1}", DR_CLASS_OK);
    want_class(w.peer[1], dr_points_upsert, "a", "{\"points\": [{\"id\": 1, \"vector\": [1]}]}",
               DR_CLASS_OK);
    struct dr_catalog *cat = dr_cluster_catalog(w.peer[1]);
    json_t *body = json_pack("{s:s, s:s, s:i, s:i}", "collection", "a", "uuid",
                             dr_catalog_find(cat, "a")->uuid, "shard_id", 0, "index", 1);
    dr_catalog_unref(cat);
    dr_cluster_internal(w.peer[1], "shards/empty", body, &r);
    assert_string_equal(json_string_value(json_object_get(r.result, "class")), "bad_request");
    dr_cluster_reply_fini(&r);
    assert_int_equal(count_here(w.peer[1]), 1);
    (void)json_object_del(body, "uuid");
    dr_cluster_internal(w.peer[1], "shards/empty", body, &r);
    assert_string_equal(json_string_value(json_object_get(r.result, "class")), "bad_input");
    dr_cluster_reply_fini(&r);
    json_decref(body);
    world_stop(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_record_is_the_same_after_a_restart),
        cmocka_unit_test(a_promotion_that_a_crash_cut_off_says_so),
        cmocka_unit_test(a_record_that_cannot_be_read_stops_nobody),
        cmocka_unit_test(the_record_keeps_the_last_64),
        cmocka_unit_test(a_record_is_about_a_collection_and_not_about_a_name),
        cmocka_unit_test(a_copy_holds_what_its_source_holds_and_nothing_else),
        cmocka_unit_test(only_a_replica_in_recovery_is_emptied),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
