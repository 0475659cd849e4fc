/* SPDX-License-Identifier: Apache-2.0 */
/* The Redis adapter against a real cluster of three primaries, with slots that move. */
#include "redis/redis_help.h"

/* Services whose slots lie on the first, second and third server. */
static char service[3][16];

static void find_services(void)
{
    int found = 0;
    memset(service, 0, sizeof service);
    for (int i = 0; found < 3 && i < 1000; i++) {
        char key[64];
        char name[16];
        (void)snprintf(name, sizeof name, "s%d", i);
        (void)snprintf(key, sizeof key, "stats/{service:%s}/x", name);
        long at_server = owner_of(key) - servers;
        if (service[at_server][0] == '\0') {
            (void)snprintf(service[at_server], sizeof service[0], "%s", name);
            found++;
        }
    }
    assert_int_equal(found, 3);
}

static const char *spec_of(int first, int count, const char *rest)
{
    static char specs[4][1024];
    static unsigned next;
    char *spec = specs[next++ % 4];
    char list[128] = "";
    for (int i = 0; i < count; i++) {
        char one[24];
        (void)snprintf(one, sizeof one, "%s\"%s\"", i > 0 ? "," : "", service[first + i]);
        (void)strncat(list, one, sizeof list - strlen(list) - 1);
    }
    (void)snprintf(spec, sizeof specs[0],
                   "{\"services\":[%s],\"applications\":[\"a1\"],\"metrics\":[\"m1\"],\"users\":[],"
                   "\"from\":1576454400,\"to\":1576800000%s}",
                   list, rest);
    return spec;
}

static uint32_t slot_of(int server)
{
    char key[64];
    (void)snprintf(key, sizeof key, "stats/{service:%s}/x", service[server]);
    return dr_redis_slot(key, strlen(key));
}

static struct dr_store *set_up(void)
{
    char url[128];
    start_cluster();
    find_services();
    (void)snprintf(url, sizeof url, "redis://%s,%s", servers[1].name, servers[0].name);
    open_store(url);
    return store;
}

static uint64_t fill_each(uint64_t step)
{
    uint64_t set = 0;
    for (int i = 0; i < 3; i++) {
        set += fill(&servers[i], spec_of(i, 1, ""), step);
    }
    return set;
}

static uint64_t size_of_all(void)
{
    uint64_t sum = 0;
    for (int i = 0; i < server_count; i++) {
        sum += (uint64_t)number(&servers[i], "DBSIZE");
    }
    return sum;
}

/* Move every key of a slot (or the first `most`), as redis-cli --cluster reshard does. */
static uint64_t migrate(uint32_t slot, struct server *from, struct server *to, int most)
{
    uint64_t moved = 0;
    redisReply *keys = raw(from, "CLUSTER GETKEYSINSLOT %d %d", (int)slot, most);
    for (size_t i = 0; i < keys->elements; i++) {
        tell(from, "MIGRATE 127.0.0.1 %d %b 0 5000", to->port, keys->element[i]->str,
             keys->element[i]->len);
        moved++;
    }
    freeReplyObject(keys);
    return moved;
}

static void survey_shows_primaries_with_their_slots(void **state)
{
    (void)state;
    struct dr_survey *survey = NULL;
    (void)set_up();
    uint64_t set = fill_each(1);
    char slot_set[] = "set_with_services_marked_for_deletion";
    tell(owner_of(slot_set), "SADD %s x y", slot_set);
    must(dr_store_survey_spec(store, "{\"marked\":true}", &survey, &err));
    assert_has(survey->extra, "\"cluster\":true");
    assert_has(survey->extra, "\"marked\":[\"x\",\"y\"]");
    assert_has(survey->extra, "[[0,5460]]");
    assert_int_equal(survey->collection[0].chunk_count, 3);
    assert_int_equal(survey->collection[0].rows_total, set + 1);
    dr_survey_destroy(survey);
    must(dr_store_command(store, servers[0].name, "SREM set_with_services_marked_for_deletion x",
                          &err));
    assert_int_equal(number(owner_of(slot_set), "SCARD %s", slot_set), 1);
    close_store();
    char url[64];
    (void)snprintf(url, sizeof url, "redis://%s/1", servers[0].name);
    open_store(url);
    assert_int_equal(dr_store_survey_spec(store, "{}", &survey, &err), DR_INPUT);
    close_store();
}

static void keys_of_all_servers_are_erased_and_put_back(void **state)
{
    (void)state;
    (void)set_up();
    for (int with_values = 0; with_values < 2; with_values++) {
        uint64_t set = fill_each(2);
        struct dr_range r = by_keys(&servers[2], spec_of(0, 3, ""));
        scan_one(&r, 100000, with_values == 1);
        uint64_t rows = 0;
        must(dr_store_count(store, &r, &rows, &err));
        assert_int_equal(rows, set);
        must(dr_store_erase(store, &r, batch, &tally, &err));
        assert_int_equal(tally.erased, set);
        assert_int_equal(size_of_all(), 0);
        if (with_values == 1) {
            must(dr_store_restore(store, &r, batch, &tally, &err));
            assert_int_equal(tally.restored, set);
            must(dr_store_probe(store, &r, batch, &tally, &err));
            assert_int_equal(tally.same, set);
            assert_int_equal(size_of_all(), set);
        }
    }
    close_store();
}

static void each_lane_scans_its_own_primary(void **state)
{
    (void)state;
    (void)set_up();
    uint64_t set = fill_each(1);
    uint64_t erased = 0;
    uint64_t rows = 0;
    const char *spec = spec_of(0, 3, "");
    for (int i = 0; i < 3; i++) {
        struct dr_range r = by_scan(&servers[i], spec);
        struct dr_tally sum = erase_all(&r, 50, i == 1);
        assert_int_equal(sum.erased, set / 3);
        erased += sum.erased;
        must(dr_store_count(store, &r, &rows, &err)); /* of the whole cluster, whatever the node */
        assert_int_equal(rows, set - erased);
    }
    assert_int_equal(size_of_all(), 0);
    close_store();
}

/* Half of a slot has gone to another server, the other half not: ASK, TRYAGAIN. */
static void a_slot_on_its_way_is_followed(void **state)
{
    (void)state;
    (void)set_up();
    uint32_t slot = slot_of(0);
    for (int with_values = 0; with_values < 2; with_values++) {
        uint64_t set = fill(&servers[0], spec_of(0, 1, ""), 1);
        struct dr_range r = by_keys(&servers[0], spec_of(0, 1, ""));
        at.len = 0;
        scan_one(&r, 100000, with_values == 1);
        set_migrating(slot, &servers[0], &servers[2]);
        uint64_t moved = migrate(slot, &servers[0], &servers[2], (int)set / 2);
        assert_true(moved > 10 && moved < set);
        tell(&servers[2], "ASKING");
        freeReplyObject(raw(&servers[2], "PING")); /* ASKING lasts for one command */
        must(dr_store_erase(store, &r, batch, &tally, &err));
        if (with_values == 0) {
            assert_int_equal(tally.erased, set);
            assert_int_equal(tally.absent, batch->count - set);
        } else {
            assert_int_equal(tally.erased, set);
            assert_int_equal(tally.changed, 0);
            must(dr_store_restore(store, &r, batch, &tally, &err));
            assert_int_equal(tally.restored, set);
            must(dr_store_probe(store, &r, batch, &tally, &err));
            assert_int_equal(tally.same, set);
            at.len = 0;
            scan_one(&r, 100000, true);
            assert_int_equal(batch->count, set);
            must(dr_store_erase(store, &r, batch, &tally, &err));
            assert_int_equal(tally.erased, set);
        }
        assert_int_equal(size_of_all(), 0);
        tell(&servers[0], "CLUSTER SETSLOT %d STABLE", (int)slot);
        tell(&servers[2], "CLUSTER SETSLOT %d STABLE", (int)slot);
    }
    close_store();
}

static void a_slot_that_moved_between_read_and_erase_is_followed(void **state)
{
    (void)state;
    (void)set_up();
    int to = 2;
    uint32_t slot = slot_of(0);
    struct server *now = &servers[0];
    for (int with_values = 0; with_values < 2; with_values++) {
        uint64_t set = fill(now, spec_of(0, 1, ""), 1);
        struct dr_range r = by_keys(&servers[0], spec_of(0, 1, ""));
        at.len = 0;
        scan_one(&r, 100000, with_values == 1);
        set_migrating(slot, now, &servers[to]);
        assert_int_equal(migrate(slot, now, &servers[to], 100000), set);
        set_moved(slot, now, &servers[to]);
        must(dr_store_erase(store, &r, batch, &tally, &err));
        assert_int_equal(tally.erased, set);
        assert_int_equal(size_of_all(), 0);
        now = &servers[to];
        to = 1;
    }
    close_store();
}

/* Keys move behind the cursor of a lane that is in the middle of its walk. */
static void a_scan_under_which_slots_move_finds_everything(void **state)
{
    (void)state;
    (void)set_up();
    uint64_t set = fill_each(1);
    uint32_t slot = slot_of(2);
    struct dr_tally sum = {0};
    const char *spec = spec_of(0, 3, "");
    struct dr_range r = by_scan(&servers[0], spec);
    const struct dr_budget budget = {.items_max = 20, .bytes_max = 1 << 20};
    at.len = 0;
    bool is_end = false;
    for (int i = 0; !is_end && i < 100000; i++) {
        enum dr_code rc = dr_store_scan(store, &r, &budget, &at, batch, &err);
        if (rc == DR_BUSY) { /* not the end while the slot is open */
            assert_has(err.msg, "slot is being moved");
            set_moved(slot, &servers[2], &servers[0]);
            continue;
        }
        must(rc);
        must(dr_store_erase(store, &r, batch, &tally, &err));
        sum.erased += tally.erased;
        at = batch->after;
        is_end = batch->is_end;
        if (i == 2) {
            set_migrating(slot, &servers[2], &servers[0]);
            (void)migrate(slot, &servers[2], &servers[0], 100000);
        }
    }
    assert_true(is_end);
    assert_int_equal(sum.erased, set); /* begun again, over all primaries */
    assert_int_equal(size_of_all(), 0);
    close_store();
}

/* Everybody knows everybody and the newest epoch; only then are votes and claims sound. */
static bool is_acquainted(void *arg)
{
    (void)arg;
    for (int i = 0; i < server_count; i++) {
        const char *info = text_of(&servers[i], "CLUSTER INFO");
        if (strstr(info, "cluster_known_nodes:4") == NULL ||
            strstr(info, "cluster_current_epoch:3") == NULL ||
            strstr(text_of(&servers[i], "CLUSTER NODES"), "handshake") != NULL) {
            return false;
        }
    }
    return is_cluster_whole(NULL);
}

/* All servers name the replica as the owner of the first slots. */
static bool has_failed_over(void *arg)
{
    struct server *replica = arg;
    for (int i = 0; i < server_count; i++) {
        const char *nodes = text_of(&servers[i], "CLUSTER NODES");
        const char *line = strstr(nodes, replica->name);
        const char *slots = strstr(nodes, " 0-5460");
        if (line == NULL || slots == NULL || slots < line ||
            strcspn(line, "\n") < (size_t)(slots - line)) {
            return false;
        }
    }
    return is_cluster_whole(NULL);
}

static void a_failover_to_a_replica_is_followed(void **state)
{
    (void)state;
    char id[64];
    (void)set_up();
    uint64_t set = fill_each(1);
    struct server *replica = start_server("--cluster-enabled", "yes", "--cluster-node-timeout",
                                          "2000", "--repl-diskless-sync-delay", "0", NULL);
    tell(&servers[0], "CONFIG SET repl-diskless-sync-delay 0");
    tell(replica, "CLUSTER MEET 127.0.0.1 %d", servers[0].port);
    (void)cluster_id(&servers[0], id, sizeof id);
    dr_mono_ms start = dr_mono_now();
    for (bool is_known = false; !is_known && dr_mono_now() - start < WAIT_MS_MAX;) {
        redisReply *reply = raw(replica, "CLUSTER REPLICATE %s", id);
        is_known = reply != NULL && reply->type == REDIS_REPLY_STATUS;
        freeReplyObject(reply);
    }
    assert_true(dr_wait_ms(WAIT_MS_MAX, is_replica_online, &servers[0]));
    assert_true(dr_wait_ms(WAIT_MS_MAX, is_acquainted, NULL));
    struct dr_range r = by_scan(&servers[0], spec_of(0, 3, ""));
    scan_one(&r, 20, true);
    must(dr_store_erase(store, &r, batch, &tally, &err));
    uint64_t erased = tally.erased;
    at = batch->after;
    tell(&servers[0], "DEL stats/{service:%s}/nothing", service[0]);
    tell(&servers[0], "SET stats/{service:%s}/other 1", service[0]);
    assert_int_equal(number(&servers[0], "WAIT 1 10000"), 1); /* what was erased is erased there */
    bool is_over = false; /* a vote may be lost; the server gives up after five seconds */
    for (int i = 0; !is_over && i < 4; i++) {
        freeReplyObject(raw(replica, "CLUSTER FAILOVER"));
        is_over = dr_wait_ms(6000, has_failed_over, replica);
    }
    assert_true(is_over);
    kill_server(&servers[0]);
    struct dr_health h;
    bool is_end = false;
    const struct dr_budget budget = {.items_max = 1000, .bytes_max = 1 << 24, .with_values = true};
    start = dr_mono_now();
    while (!is_end && dr_mono_now() - start < WAIT_MS_MAX) {
        enum dr_code rc = dr_store_scan(store, &r, &budget, &at, batch, &err);
        if (rc == DR_OK) {
            rc = dr_store_erase(store, &r, batch, &tally, &err);
        }
        if (rc == DR_OK) {
            erased += tally.erased;
            at = batch->after;
            is_end = batch->is_end;
        } else {
            assert_true(rc == DR_UNREACHABLE || rc == DR_BUSY);
        }
    }
    if (!is_end) {
        fail_msg("the scan does not end: %s", err.msg);
    }
    assert_int_equal(erased, set);
    must(dr_store_health(store, servers[0].name, &h, &err)); /* of those who own its slots now */
    assert_true(h.is_ok);
    close_store();
}

#define T(name) cmocka_unit_test_teardown(name, stop_servers)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(survey_shows_primaries_with_their_slots),
        T(keys_of_all_servers_are_erased_and_put_back),
        T(each_lane_scans_its_own_primary),
        T(a_slot_on_its_way_is_followed),
        T(a_slot_that_moved_between_read_and_erase_is_followed),
        T(a_scan_under_which_slots_move_finds_everything),
        T(a_failover_to_a_replica_is_followed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
