/* SPDX-License-Identifier: Apache-2.0 */
/* Thousands of random entries go to two peers: one keeps its state, the other is stopped and
 * started from its snapshot now and then. They must agree after each, and every state must be
 * sound. Seeds are fixed; DROVER_SEED=n runs another one. */
#include "catalog_world.h"

enum { STEPS = 2500, NAMES = 4, PEERS = 5 };

static uint64_t seed_now;

static uint64_t draw(uint64_t below)
{
    seed_now += UINT64_C(0x9e3779b97f4a7c15); /* splitmix64 */
    uint64_t z = seed_now;
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return (z ^ (z >> 31)) % below;
}

static const char *draw_name(void)
{
    static const char *const name[NAMES] = {"a", "b", "c", "now"};
    return name[draw(NAMES)];
}

static const char *draw_key(void)
{
    static const char *const key[] = {"'eu'", "'us'", "7", "'7'", "'default'"};
    return key[draw(5)];
}

static void write_ends(char *body, size_t bytes, const char *op)
{
    static const char *const tail[] = {"", ",'method':'snapshot'", ",'method':'stream_records'"};
    (void)snprintf(body, bytes, "{'%s':{'shard_id':%u,'from_peer_id':%u,'to_peer_id':%u%s}}", op,
                   (unsigned)draw(6), (unsigned)draw(PEERS) + 1, (unsigned)draw(PEERS) + 1,
                   tail[draw(3)]);
}

static void draw_cluster(char *body, size_t bytes)
{
    static const char *const transfer[] = {"move_shard",     "replicate_shard",
                                           "move_shard",     "finish_transfer",
                                           "abort_transfer", "restart_transfer"};
    static const char *const stage[] = {"commit_read_hash_ring", "commit_write_hash_ring",
                                        "finish_resharding", "abort_resharding"};
    switch (draw(5)) {
    case 0:
    case 1:
        write_ends(body, bytes, transfer[draw(6)]);
        break;
    case 2:
        (void)snprintf(body, bytes, "{'drop_replica':{'shard_id':%u,'peer_id':%u}}",
                       (unsigned)draw(6), (unsigned)draw(PEERS) + 1);
        break;
    case 3:
        (void)snprintf(body, bytes, "{'start_resharding':{'direction':'%s'%s%s}}",
                       draw(2) ? "up" : "down", draw(2) ? ",'shard_key':" : ",'x':", draw_key());
        break;
    default:
        (void)snprintf(body, bytes, "{'%s':{}}", stage[draw(4)]);
        break;
    }
}

/* The end of a transfer there is: drawn numbers alone hardly ever hit one. */
static bool end_transfer(struct world *w, const char *name, char *body, size_t bytes)
{
    const struct dr_collection_info *c = dr_catalog_find(w->c, name);
    if (c == NULL || c->transfer_count == 0) {
        return false;
    }
    const struct dr_transfer *t = &c->transfer[draw(c->transfer_count)];
    (void)snprintf(body, bytes, "{'%s':{'shard_id':%u,'from_peer_id':%u,'to_peer_id':%u}}",
                   draw(2) ? "finish_transfer" : "abort_transfer", t->shard_id, (unsigned)t->from,
                   (unsigned)t->to);
    return true;
}

/* The text of a random entry; NULL when the maker refused. */
static char *draw_entry(struct world *w)
{
    char body[256];
    const char *name = draw_name();
    char *text = NULL;
    struct dr_err err = {0};
    enum dr_code rc = DR_OK;
    struct dr_peer p = {.id = draw(PEERS) + 1, .format = 1};
    switch (draw(14)) {
    case 0:
        (void)snprintf(body, sizeof body,
                       "{'shard_number':%u,'replication_factor':%u,'sharding_method':'%s'}",
                       (unsigned)draw(4) + 1, (unsigned)draw(3) + 1, draw(3) ? "auto" : "custom");
        return entry_text(w, CREATE, name, body, &rc, &err);
    case 1:
        return draw(6) ? NULL : entry_text(w, DELETE, name, NULL, &rc, &err);
    case 2:
        (void)snprintf(body, sizeof body, "{'params':{'replication_factor':%u,'p':%u}}",
                       (unsigned)draw(3) + 1, (unsigned)draw(3));
        return entry_text(w, UPDATE, name, body, &rc, &err);
    case 3:
    case 4:
        (void)snprintf(body, sizeof body, "{'shard_key':%s,'shards_number':%u}", draw_key(),
                       (unsigned)draw(2) + 1);
        return entry_text(w, CREATE_KEY, name, body, &rc, &err);
    case 5:
        (void)snprintf(body, sizeof body, "{'shard_key':%s,'confirm':%s}", draw_key(),
                       draw(2) ? "true" : "false");
        return entry_text(w, DROP_KEY, name, body, &rc, &err);
    case 6:
        (void)snprintf(body, sizeof body, "{'default_shard_key':%s}", draw_key());
        return entry_text(w, PROMOTE, name, body, &rc, &err);
    case 7:
        (void)snprintf(body, sizeof body,
                       "{'actions':[{'create_alias':{'alias_name':'now','collection_name':'%s'}}]}",
                       name);
        return entry_text(w, ALIASES, NULL, body, &rc, &err);
    case 8:
        (void)snprintf(p.uri, sizeof p.uri, "http://p%u", (unsigned)draw(2));
        rc = dr_entry_peer(&p, &text, &err);
        return text;
    case 9:
        if (draw(8) == 0) {
            rc = dr_entry_remove_peer(w->c, p.id, draw(2) == 1, &text, &err);
        }
        return text;
    case 10:
        rc = dr_entry_replica_state(w->c, name, (uint32_t)draw(6), p.id,
                                    (enum dr_replica_state)draw(DR_REPLICA_STATE_COUNT), NULL,
                                    &text, &err);
        return text;
    case 11:
        if (end_transfer(w, name, body, sizeof body)) {
            return entry_text(w, CLUSTER, name, body, &rc, &err);
        }
        return NULL;
    default:
        draw_cluster(body, sizeof body);
        return entry_text(w, CLUSTER, name, body, &rc, &err);
    }
}

static void check_shards(const struct dr_collection_info *c)
{
    uint32_t in_rings = 0;
    for (uint32_t i = 0; i < c->shard_count; i++) {
        const struct dr_shard *s = &c->shard[i];
        assert_in_range(s->replica_count, 1, DR_REPLICAS_MAX);
        assert_int_equal(s->has_key, c->method == DR_SHARDING_CUSTOM);
        assert_true(i == 0 || c->shard[i - 1].id < s->id);
        for (uint32_t k = 1; k < s->replica_count; k++) {
            assert_true(s->replica[k - 1].peer_id < s->replica[k].peer_id);
        }
        const struct dr_key_ring *ring = dr_collection_ring(c, s->has_key ? &s->key : NULL);
        assert_non_null(ring);
        bool is_in_ring = false;
        for (uint32_t k = 0; k < ring->shard_count; k++) {
            is_in_ring = is_in_ring || ring->shard_id[k] == s->id;
        }
        assert_true(is_in_ring);
    }
    for (uint32_t i = 0; i < c->key_ring_count; i++) {
        in_rings += c->key_ring[i].shard_count;
        bool is_moving = c->key_ring[i].next != NULL;
        assert_true(!is_moving || c->resharding != NULL);
        if (c->resharding == NULL) {
            assert_int_equal(dr_ring_shard_count(c->key_ring[i].ring), c->key_ring[i].shard_count);
        }
    }
    assert_int_equal(in_rings, c->shard_count);
}

static void check_state(struct world *w)
{
    for (uint32_t i = 0; i < dr_catalog_collection_count(w->c); i++) {
        const struct dr_collection_info *c = dr_catalog_collection_at(w->c, i);
        check_shards(c);
        if (c->method == DR_SHARDING_AUTO) {
            assert_int_equal(c->shard_number, c->shard_count);
            assert_int_equal(c->key_ring_count, 1);
            assert_false(c->has_default_key);
        }
        assert_true(!c->has_default_key || dr_collection_ring(c, &c->default_key) != NULL);
        for (uint32_t k = 0; k < c->transfer_count; k++) {
            assert_non_null(dr_collection_shard(c, c->transfer[k].shard_id));
            assert_true(replica_state(w, c->name, c->transfer[k].shard_id, c->transfer[k].to) !=
                        DR_REPLICA_STATE_COUNT);
        }
        assert_true(i == 0 || strcmp(dr_catalog_collection_at(w->c, i - 1)->name, c->name) < 0);
    }
    for (uint32_t i = 0; i < dr_catalog_alias_count(w->c); i++) {
        struct dr_alias alias = dr_catalog_alias_at(w->c, i);
        assert_string_equal(dr_catalog_find(w->c, alias.name)->name, alias.collection);
    }
}

static void restart(struct world *w)
{
    char *text = NULL;
    size_t bytes = 0;
    struct dr_err err = {0};
    assert_int_equal(dr_catalog_encode(w->c, &text, &bytes, &err), DR_OK);
    dr_catalog_unref(w->c);
    assert_int_equal(dr_catalog_decode(text, bytes, &w->c, &err), DR_OK);
    dr_free(text);
}

static unsigned run(uint64_t seed)
{
    struct world a;
    struct world b;
    char *kept = NULL; /* an entry made a while ago, applied late */
    unsigned changes = 0;
    unsigned late = 0;
    seed_now = seed;
    world_open(&a, 3);
    world_open(&b, 3);
    for (unsigned i = 0; i < STEPS; i++) {
        char *text = draw_entry(&a);
        if (text == NULL) {
            continue;
        }
        if (draw(8) == 0) { /* swap it for the kept one */
            char *other = kept;
            kept = text;
            text = other;
            late++;
        }
        if (text == NULL) {
            continue;
        }
        enum dr_code code = apply(&a, text);
        assert_int_equal(apply(&b, text), code);
        assert_string_equal(a.message, b.message);
        changes += a.changed ? 1 : 0;
        if (state_hash(a.c) != state_hash(b.c)) {
            fail_msg("seed %llu, step %u: the peers differ after %s", (unsigned long long)seed, i,
                     text);
        }
        check_state(&a);
        dr_free(text);
        if (draw(10) == 0) {
            restart(&b);
        }
    }
    dr_free(kept);
    assert_true(late > 20);
    world_close(&a);
    world_close(&b);
    return changes;
}

static void peers_agree_whatever_the_log_holds(void **state)
{
    (void)state;
    const char *given = getenv("DROVER_SEED");
    if (given != NULL) {
        assert_true(run(strtoull(given, NULL, 10)) > 0);
        return;
    }
    for (uint64_t seed = 1; seed <= 4; seed++) {
        unsigned changes = run(seed);
        assert_true(changes > 100); /* most are not refused for nothing */
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(peers_agree_whatever_the_log_holds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
