/* SPDX-License-Identifier: Apache-2.0 */
/* The promises of the plan kind "redis.purge-stats": which strategy, which steps on which server,
 * in which order, and what is refused. The test of memory comes first: it reads the process's peak.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include <cmocka.h>

#include "base/mem.h"
#include "base/str.h"
#include "plan/plan.h"
#include "store/keyseq.h"

#define HEAD "{\"kind\":\"redis.purge-stats\",\"store\":\"redis://h1:1\","
#define DAY "\"from\":1576454400,\"to\":1576540799" /* 2019-12-16: 1 + 1 + 1 + 1 + 24 periods */
#define LISTS "\"applications\":[\"a\"],\"metrics\":[\"m\"],"

enum { NODES_MAX = 3, CAN_ALL = 0xffff };

struct world {
    struct dr_request *request;
    struct dr_survey survey;
    struct dr_collection collection;
    struct dr_chunk chunk[NODES_MAX];
    const char *node[NODES_MAX];
    uint32_t can;
    struct dr_plan *plan;
    struct dr_err err;
};

static void assert_has(const char *text, const char *part)
{
    if (strstr(text, part) == NULL) {
        print_error("expected to find \"%s\" in \"%s\"\n", part, text);
        fail();
    }
}

/* `nodes` servers of `rows` keys each. */
static struct world *make_world(const char *job, uint32_t nodes, uint64_t rows, const char *extra)
{
    static const char *const names[NODES_MAX] = {"h1:1", "h2:2", "h3:3"};
    struct world *w = calloc(1, sizeof *w);
    json_t *j = NULL;
    assert_non_null(w);
    if (dr_json_parse("job", job, strlen(job), &j, &w->err) != DR_OK ||
        dr_request_parse(j, "job", &w->request, &w->err) != DR_OK) {
        print_error("%s\n", w->err.msg);
        fail();
    }
    json_decref(j);
    for (uint32_t i = 0; i < nodes; i++) {
        w->node[i] = names[i];
        w->chunk[i] = (struct dr_chunk){.node = names[i], .rows = rows, .is_rows_known = true};
    }
    w->collection = (struct dr_collection){.name = "db0.stats",
                                           .epoch = 1,
                                           .rows_total = nodes * rows,
                                           .chunk = w->chunk,
                                           .chunk_count = nodes};
    w->survey = (struct dr_survey){.database = "db0",
                                   .node_count = nodes,
                                   .node = w->node,
                                   .collection_count = 1,
                                   .collection = &w->collection,
                                   .extra = extra};
    w->can = CAN_ALL;
    return w;
}

static void free_world(struct world *w)
{
    dr_plan_destroy(w->plan);
    dr_request_destroy(w->request);
    free(w);
}

static enum dr_code plan(struct world *w)
{
    dr_plan_destroy(w->plan);
    w->plan = NULL;
    enum dr_code rc = dr_request_resolve(w->request, &w->survey, &w->err);
    return rc == DR_OK ? dr_plan_make(w->request, &w->survey, w->can, &w->plan, &w->err) : rc;
}

static void plan_ok(struct world *w)
{
    if (plan(w) != DR_OK) {
        print_error("no plan: %s\n", w->err.msg);
        fail();
    }
}

static void refuse(const char *job, uint64_t rows, const char *extra, enum dr_code code,
                   const char *part)
{
    struct world *w = make_world(job, 1, rows, extra);
    assert_int_equal(plan(w), code);
    assert_null(w->plan);
    assert_has(w->err.msg, part);
    free_world(w);
}

static void list_steps(const struct dr_plan *p, bool with_texts, struct dr_str *out)
{
    struct dr_plan_iter *it = NULL;
    struct dr_plan_step s;
    struct dr_err err = {0};
    bool has = true;
    assert_int_equal(dr_plan_begin(p, &it, &err), DR_OK);
    for (;;) {
        assert_int_equal(dr_plan_next(it, &s, &has, &err), DR_OK);
        if (!has) {
            break;
        }
        dr_str_addf(out, "%d %u %d w%d %u%s %s\n", (int)s.number, s.stage, (int)s.priority,
                    (int)s.wait_for, (unsigned)s.estimated, s.is_estimate_known ? "" : "?",
                    s.title);
        if (with_texts) {
            dr_str_addf(out, "  + %s\n  - %s\n", s.query,
                        s.rollback_query == NULL ? "NULL" : s.rollback_query);
        }
    }
    dr_plan_end(it);
}

static void expect_steps(const struct world *w, bool with_texts, const char *expected)
{
    struct dr_str text;
    dr_str_init(&text);
    list_steps(w->plan, with_texts, &text);
    assert_string_equal(dr_str_text(&text), expected);
    dr_str_fini(&text);
}

static void expect_part(const struct world *w, enum dr_strategy strategy, const char *why)
{
    assert_int_equal(dr_plan_part_at(w->plan, 0)->strategy, strategy);
    assert_has(dr_plan_part_at(w->plan, 0)->why, why);
}

/* One metric and one application for one day, no codes: 28 keys + 29 keys of one service. */
#define NO_CODES ",\"layout\":{\"values\":{\"code\":[]}}"

static void slices_do_not_cross_services(void **state)
{
    (void)state;
    struct world *w = make_world(HEAD "\"services\":[\"s1\",\"s2\"]," LISTS DAY NO_CODES
                                      ",\"partition_keys\":40}",
                                 1, 1000, "{\"cluster\":false,\"scan\":true}");
    plan_ok(w);
    expect_steps(
        w, true,
        "1 1 -10 w0 40? erase stats of service s1 keys [0, 40) on h1:1\n"
        "  + {\"archive\":true,\"range\":{\"access\":\"keys\",\"collection\":\"db0.stats\","
        "\"epoch\":1,\"length\":40,\"node\":\"h1:1\",\"offset\":0,\"spec\":\"request\"}}\n"
        "  - {\"do\":\"restore\"}\n"
        "2 1 -10 w0 17? erase stats of service s1 keys [40, 57) on h1:1\n"
        "  + {\"archive\":true,\"range\":{\"access\":\"keys\",\"collection\":\"db0.stats\","
        "\"epoch\":1,\"length\":17,\"node\":\"h1:1\",\"offset\":40,\"spec\":\"request\"}}\n"
        "  - {\"do\":\"restore\"}\n"
        "3 1 -10 w0 40? erase stats of service s2 keys [0, 40) on h1:1\n"
        "  + {\"archive\":true,\"range\":{\"access\":\"keys\",\"collection\":\"db0.stats\","
        "\"epoch\":1,\"length\":40,\"node\":\"h1:1\",\"offset\":57,\"spec\":\"request\"}}\n"
        "  - {\"do\":\"restore\"}\n"
        "4 1 -10 w0 17? erase stats of service s2 keys [40, 57) on h1:1\n"
        "  + {\"archive\":true,\"range\":{\"access\":\"keys\",\"collection\":\"db0.stats\","
        "\"epoch\":1,\"length\":17,\"node\":\"h1:1\",\"offset\":97,\"spec\":\"request\"}}\n"
        "  - {\"do\":\"restore\"}\n"
        "5 3 -10 w1 0 verify stats of service s1 keys [0, 40) on h1:1\n"
        "  + {\"range\":{\"access\":\"keys\",\"collection\":\"db0.stats\","
        "\"epoch\":1,\"length\":40,\"node\":\"h1:1\",\"offset\":0,\"spec\":\"request\"}}\n"
        "  - {\"do\":\"nothing\"}\n"
        "6 3 -10 w2 0 verify stats of service s1 keys [40, 57) on h1:1\n"
        "  + {\"range\":{\"access\":\"keys\",\"collection\":\"db0.stats\","
        "\"epoch\":1,\"length\":17,\"node\":\"h1:1\",\"offset\":40,\"spec\":\"request\"}}\n"
        "  - {\"do\":\"nothing\"}\n"
        "7 3 -10 w3 0 verify stats of service s2 keys [0, 40) on h1:1\n"
        "  + {\"range\":{\"access\":\"keys\",\"collection\":\"db0.stats\","
        "\"epoch\":1,\"length\":40,\"node\":\"h1:1\",\"offset\":57,\"spec\":\"request\"}}\n"
        "  - {\"do\":\"nothing\"}\n"
        "8 3 -10 w4 0 verify stats of service s2 keys [40, 57) on h1:1\n"
        "  + {\"range\":{\"access\":\"keys\",\"collection\":\"db0.stats\","
        "\"epoch\":1,\"length\":17,\"node\":\"h1:1\",\"offset\":97,\"spec\":\"request\"}}\n"
        "  - {\"do\":\"nothing\"}\n");
    expect_part(w, DR_BY_KEY_LIST, "asks for 114 generated keys; a scan would read 1,000");
    assert_has(dr_plan_part_at(w->plan, 0)->warning, "no users are listed");
    assert_int_equal(dr_plan_estimated(w->plan), 114);
    free_world(w);
}

static void every_stand_alone_server_is_asked(void **state)
{
    (void)state;
    struct world *w =
        make_world(HEAD "\"services\":[\"s1\"]," LISTS DAY NO_CODES ",\"irreversible\":true}", 3,
                   50, "{\"cluster\":false,\"scan\":true,\"down\":[\"h3:3\"]}");
    w->chunk[2].is_rows_known = false;
    w->chunk[2].rows = 0;
    w->collection.rows_total = 100;
    w->chunk[1].rows = 0;
    plan_ok(w);
    expect_steps(w, false,
                 "1 1 -10 w0 57? erase stats of service s1 keys [0, 57) on h1:1\n"
                 "2 1 -10 w0 0 erase stats of service s1 keys [0, 57) on h2:2\n"
                 "3 1 -10 w0 57? erase stats of service s1 keys [0, 57) on h3:3\n"
                 "4 3 -10 w1 0 verify stats of service s1 keys [0, 57) on h1:1\n"
                 "5 3 -10 w2 0 verify stats of service s1 keys [0, 57) on h2:2\n"
                 "6 3 -10 w3 0 verify stats of service s1 keys [0, 57) on h3:3\n");
    assert_has(dr_plan_part_at(w->plan, 0)->why, "asks for 171 generated keys");
    assert_has(dr_plan_part_at(w->plan, 0)->warning, "h3:3 does not answer");
    assert_int_equal(dr_plan_no_return(w->plan), 1);
    free_world(w);
}

/* Slots of "service:s1", "service:s2" ... decide; computed here, not copied from the planner. */
static void in_a_cluster_only_the_owner_is_asked(void **state)
{
    (void)state;
    struct world *w = make_world(
        HEAD "\"services\":[\"s1\",\"s2\",\"s3\",\"s4\",\"s5\",\"s6\"]," LISTS DAY NO_CODES "}", 3,
        1000,
        "{\"cluster\":true,\"scan\":true,\"slots\":{\"h1:1\":[[0,99],[200,"
        "5460]],\"h2:2\":[[100,199],[5461,10922]],\"h3:3\":[[10923,16383]"
        "]}}");
    plan_ok(w);
    assert_int_equal(dr_plan_step_count(w->plan), 12);
    expect_part(w, DR_BY_KEY_LIST, "asks for 342 generated keys; a scan would read 3,000");
    struct dr_str text;
    dr_str_init(&text);
    list_steps(w->plan, false, &text);
    unsigned seen = 0;
    for (int i = 1; i <= 6; i++) {
        char tag[32];
        char line[128];
        (void)snprintf(tag, sizeof tag, "service:s%d", i);
        uint32_t slot = dr_redis_slot(tag, strlen(tag));
        int node = slot < 100 ? 1 : slot < 200 ? 2 : slot <= 5460 ? 1 : slot <= 10922 ? 2 : 3;
        seen |= 1U << node;
        (void)snprintf(line, sizeof line,
                       "w0 57? erase stats of service s%d keys [0, 57) on h%d:%d\n", i, node, node);
        assert_has(dr_str_text(&text), line);
    }
    assert_int_equal(seen, 14); /* the names chosen here reach all three */
    dr_str_fini(&text);
    w->survey.extra = "{\"cluster\":true,\"slots\":{\"h1:1\":[[0,10]],\"h2:2\":[],\"h3:3\":7}}";
    assert_int_equal(plan(w), DR_STALE);
    assert_has(w->err.msg, "no primary owns slot");
    free_world(w);
}

static void a_layout_without_tag_is_scanned_in_a_cluster(void **state)
{
    (void)state;
    static const char job[] = HEAD
        "\"services\":[\"s1\"]," LISTS DAY ",\"allow_scan\":true,\"layout\":{\"prefix\":\"c:\","
        "\"sections\":[{\"path\":\"c:$service/$metric\",\"periods\":[\"day\"]}]}}";
    struct world *w = make_world(job, 2, 1000, "{\"cluster\":true,\"slots\":{}}");
    plan_ok(w);
    expect_part(w, DR_BY_FULL_SCAN, "no hash tag");
    free_world(w);
    w = make_world(job, 2, 1000, "{\"cluster\":false}");
    plan_ok(w);
    expect_part(w, DR_BY_KEY_LIST, "generated");
    free_world(w);
}

static void a_scan_reads_each_node_and_then_unmarks(void **state)
{
    (void)state;
    struct world *w = make_world(HEAD "\"marked\":true}", 2, 1000000,
                                 "{\"cluster\":false,\"scan\":true,\"marked\":[\"b\\\"\xc3\xbc x\","
                                 "\"a\"]}");
    plan_ok(w);
    expect_steps(
        w, true,
        "1 1 -10 w0 1000000? erase stats of marked services by scan on h1:1\n"
        "  + "
        "{\"archive\":true,\"range\":{\"access\":\"scan\",\"collection\":\"db0.stats\",\"epoch\":"
        "1,\"node\":\"h1:1\",\"spec\":\"request\"}}\n"
        "  - {\"do\":\"restore\"}\n"
        "2 1 -10 w0 1000000? erase stats of marked services by scan on h2:2\n"
        "  + "
        "{\"archive\":true,\"range\":{\"access\":\"scan\",\"collection\":\"db0.stats\",\"epoch\":"
        "1,\"node\":\"h2:2\",\"spec\":\"request\"}}\n"
        "  - {\"do\":\"restore\"}\n"
        "3 3 -10 w1 0 verify stats of marked services by scan on h1:1\n"
        "  + {\"range\":{\"access\":\"scan\",\"collection\":\"db0.stats\",\"epoch\":1,\"node\":"
        "\"h1:1\",\"spec\":\"request\"}}\n"
        "  - {\"do\":\"nothing\"}\n"
        "4 3 -10 w2 0 verify stats of marked services by scan on h2:2\n"
        "  + {\"range\":{\"access\":\"scan\",\"collection\":\"db0.stats\",\"epoch\":1,\"node\":"
        "\"h2:2\",\"spec\":\"request\"}}\n"
        "  - {\"do\":\"nothing\"}\n"
        "5 6 0 w0 0 take service a off the marked set on h1:1\n"
        "  + SREM set_with_services_marked_for_deletion a\n"
        "  - SADD set_with_services_marked_for_deletion a\n"
        "6 6 0 w0 0 take service a off the marked set on h2:2\n"
        "  + SREM set_with_services_marked_for_deletion a\n"
        "  - SADD set_with_services_marked_for_deletion a\n"
        "7 6 0 w0 0 take service b\"\xc3\xbc x off the marked set on h1:1\n"
        "  + SREM set_with_services_marked_for_deletion \"b\\x22\\xc3\\xbc x\"\n"
        "  - SADD set_with_services_marked_for_deletion \"b\\x22\\xc3\\xbc x\"\n"
        "8 6 0 w0 0 take service b\"\xc3\xbc x off the marked set on h2:2\n"
        "  + SREM set_with_services_marked_for_deletion \"b\\x22\\xc3\\xbc x\"\n"
        "  - SADD set_with_services_marked_for_deletion \"b\\x22\\xc3\\xbc x\"\n");
    expect_part(w, DR_BY_FULL_SCAN, "nothing to generate keys from");
    w->can = CAN_ALL & ~(uint32_t)DR_CAN_COMMAND;
    assert_int_equal(plan(w), DR_UNSUPPORTED);
    free_world(w);

    static const char slots[] = "{\"cluster\":true,\"marked\":[\"a\"],\"slots\":{\"h1:1\":[[0,%u]],"
                                "\"h2:2\":[[%u,16383]]}}";
    char extra[200];
    const char *set = "set_with_services_marked_for_deletion";
    uint32_t slot = dr_redis_slot(set, strlen(set));
    assert_true(slot > 0);
    (void)snprintf(extra, sizeof extra, slots, slot - 1, slot);
    w = make_world(HEAD "\"marked\":true,\"irreversible\":true}", 2, 1000, extra);
    plan_ok(w);
    assert_int_equal(dr_plan_step_count(w->plan), 5);
    expect_steps(w, false,
                 "1 1 -10 w0 1000? erase stats of marked services by scan on h1:1\n"
                 "2 1 -10 w0 1000? erase stats of marked services by scan on h2:2\n"
                 "3 3 -10 w1 0 verify stats of marked services by scan on h1:1\n"
                 "4 3 -10 w2 0 verify stats of marked services by scan on h2:2\n"
                 "5 6 0 w0 0 take service a off the marked set on h2:2\n");
    free_world(w);
}

static void scans_need_consent_and_a_server_that_knows_them(void **state)
{
    (void)state;
    static const char *const with_consent[] = {
        HEAD "\"services\":[\"s\"],\"allow_scan\":true}",
        HEAD "\"services\":[\"s\"],\"zero_values\":true}",
        HEAD "\"services\":[\"s\"],\"strategy\":\"scan\"}",
        HEAD "\"services\":[\"s\"],\"marked\":true}",
    };
    for (size_t i = 0; i < sizeof with_consent / sizeof with_consent[0]; i++) {
        struct world *w = make_world(with_consent[i], 1, 5, "{\"marked\":[\"s\"],\"scan\":true}");
        plan_ok(w);
        expect_part(w, DR_BY_FULL_SCAN, "reads 5 keys");
        free_world(w);
        refuse(with_consent[i], 5, "{\"marked\":[\"s\"],\"scan\":false}", DR_UNSUPPORTED,
               "the server (a proxy?) does not know SCAN: refused, nothing deleted");
    }
    refuse(HEAD "\"services\":[\"s\"]}", 5, NULL, DR_REFUSED, "allow_scan");
    refuse(HEAD "\"services\":[\"s\"]," DAY "}", 5, NULL, DR_REFUSED, "allow_scan");
    refuse(HEAD "\"services\":[\"s\"],\"metrics\":[\"m\"]," DAY "}", 500, NULL, DR_REFUSED,
           "applications or metrics are not listed");
    refuse(HEAD "\"services\":[\"s\"],\"applications\":[\"m\"]," DAY "}", 5000, NULL, DR_REFUSED,
           "applications or metrics are not listed");
    refuse(HEAD "\"services\":[\"s\"]," LISTS "\"note\":\"no period\"}", 5000, NULL, DR_REFUSED,
           "nothing to generate");
    refuse(HEAD "\"services\":[\"s\"],\"strategy\":\"keys\"}", 5, NULL, DR_REFUSED,
           "strategy \"keys\" is not possible");
    refuse(HEAD "\"marked\":true}", 5, "{\"marked\":[]}", DR_NOT_FOUND, "no service is marked");
    refuse(HEAD
           "\"services\":[\"s\"],\"metrics\":[\"m\"],\"strategy\":\"keys\",\"partition_keys\":1,"
           "\"from\":1,\"to\":253402300799}",
           5, NULL, DR_REFUSED, "partition_keys");
    struct world *w =
        make_world(HEAD "\"services\":[\"s\"]," LISTS DAY "}", 1, 9000, "{\"scan\":false}");
    plan_ok(w); /* a proxy is good enough for generated keys */
    expect_part(w, DR_BY_KEY_LIST, "generated");
    w->can = CAN_ALL & ~(uint32_t)DR_CAN_RESTORE;
    assert_int_equal(plan(w), DR_UNSUPPORTED);
    w->can = CAN_ALL & ~(uint32_t)DR_CAN_KEY_LIST;
    assert_int_equal(plan(w), DR_UNSUPPORTED); /* must scan, and cannot */
    free_world(w);
}

static void the_cheaper_strategy_is_chosen_and_can_be_forced(void **state)
{
    (void)state;
    struct world *w =
        make_world(HEAD "\"services\":[\"s1\"]," LISTS DAY NO_CODES ",\"allow_scan\":true}", 1, 29,
                   "{}"); /* 57 generated keys */
    plan_ok(w);
    expect_part(w, DR_BY_KEY_LIST, "asks for 57 generated keys; a scan would read 29");
    assert_int_equal(dr_plan_estimated(w->plan), 29); /* no more than there are */
    w->chunk[0].rows = w->collection.rows_total = 28;
    plan_ok(w);
    expect_part(w, DR_BY_FULL_SCAN, "to ask for 57 generated keys is more than to read all 28");
    w->request->u.redis_purge.strategy = DR_REDIS_KEYS;
    plan_ok(w);
    expect_part(w, DR_BY_KEY_LIST, "57");
    w->request->u.redis_purge.strategy = DR_REDIS_SCAN;
    w->chunk[0].rows = w->collection.rows_total = 1000;
    plan_ok(w);
    expect_part(w, DR_BY_FULL_SCAN, "asked for: reads 1,000 keys");
    w->request->max_items = 3; /* counted when it runs: beforehand nobody knows */
    plan_ok(w);
    free_world(w);
}

static void the_hash_knows_what_is_selected(void **state)
{
    (void)state;
    static const char *const jobs[] = {
        HEAD "\"services\":[\"s1\"]," LISTS DAY "}",
        HEAD "\"services\":[\"s2\"]," LISTS DAY "}",
        HEAD "\"services\":[\"s1\"]," LISTS "\"from\":1576540800,\"to\":1576627199}",
        HEAD "\"services\":[\"s1\"]," LISTS DAY ",\"partition_keys\":100}",
        HEAD "\"services\":[\"s1\"]," LISTS DAY ",\"zero_values\":true}",
        HEAD "\"services\":[\"s1\"]," LISTS DAY ",\"strategy\":\"scan\"}",
    };
    enum { JOBS = sizeof jobs / sizeof jobs[0] };
    uint64_t hash[JOBS];
    for (int i = 0; i < JOBS; i++) {
        struct world *w = make_world(jobs[i], 1, 100000, "{}");
        plan_ok(w);
        hash[i] = dr_plan_hash(w->plan);
        w->chunk[0].rows = w->collection.rows_total = 90000; /* counts drift */
        plan_ok(w);
        assert_true(dr_plan_hash(w->plan) == hash[i]);
        for (int k = 0; k < i; k++) {
            assert_true(hash[i] != hash[k]);
        }
        free_world(w);
    }
}

static void print_reads_well(void **state)
{
    (void)state;
    struct dr_str text;
    dr_str_init(&text);
    struct world *w =
        make_world(HEAD "\"services\":[\"1006\"]," LISTS DAY NO_CODES "}", 1, 3000000, "{}");
    plan_ok(w);
    assert_int_equal(dr_plan_print(w->plan, true, 0, &text, &w->err), DR_OK);
    assert_has(dr_str_text(&text), "redis.purge-stats of service 1006 on redis://h1:1\n");
    assert_has(dr_str_text(&text),
               "db0.stats   key-list  high            2  up to 57  3,000,000\n"
               "    why: asks for 57 generated keys; a scan would read 3,000,000"
               "\n");
    assert_has(dr_str_text(&text), "total: 2 steps, up to 57 of 3,000,000 items to erase\n");
    dr_str_clear(&text);
    free_world(w);
    w = make_world(HEAD "\"services\":[\"1006\"],\"allow_scan\":true}", 2, 3000000, "{}");
    plan_ok(w);
    assert_int_equal(dr_plan_print(w->plan, true, 0, &text, &w->err), DR_OK);
    assert_has(dr_str_text(&text), "  up to 6,000,000  6,000,000\n");
    assert_has(dr_str_text(&text), "by scan on h2:2");
    assert_has(dr_str_text(&text), "  up to 3,000,000  from the archive\n");
    w->chunk[1].is_rows_known = false;
    w->chunk[1].rows = 0;
    w->collection.rows_total = 3000000;
    plan_ok(w);
    dr_str_clear(&text);
    assert_int_equal(dr_plan_print(w->plan, true, 0, &text, &w->err), DR_OK);
    assert_has(dr_str_text(&text), "total: 4 steps, unknown of 3,000,000 items to erase\n");
    free_world(w);
    dr_str_fini(&text);
}

static long peak_kb(void)
{
    struct rusage usage;
    assert_int_equal(getrusage(RUSAGE_SELF, &usage), 0);
    return usage.ru_maxrss;
}

#if defined(__has_feature) /* clang's way to say what gcc says by __SANITIZE_ADDRESS__ */
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define IS_SANITIZED
#endif
#elif defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define IS_SANITIZED
#endif

#if defined(IS_SANITIZED)
enum { PEAK_KB_MAX = 400 * 1024 }; /* freed memory stays in quarantine, 256 MB of it */
#else
enum { PEAK_KB_MAX = 2 * 1024 };
#endif

/* In order and without a gap; every sixteenth is parsed. */
static void a_million_partitions_take_no_memory(void **state)
{
    (void)state;
    struct world *w = make_world(HEAD "\"services\":[\"s1\",\"s2\",\"s3\"]," LISTS
                                      "\"from\":946684800,\"to\":1577836799,\"partition_keys\":10,"
                                      "\"strategy\":\"keys\"}",
                                 1, 1, "{}");
    long before = peak_kb();
    plan_ok(w);
    uint64_t steps = dr_plan_step_count(w->plan);
    assert_true(steps >= 1000000);
    struct dr_plan_iter *it = NULL;
    struct dr_plan_step s;
    struct dr_arena *arena = dr_arena_create(4096);
    bool has = true;
    uint64_t next = 0;
    assert_int_equal(dr_plan_begin(w->plan, &it, &w->err), DR_OK);
    for (uint64_t i = 0; i < steps; i++) {
        assert_int_equal(dr_plan_next(it, &s, &has, &w->err), DR_OK);
        assert_true(has && s.number == (int64_t)i + 1);
        if (i < steps / 2 && i % 16 == 0) { /* parsing all takes too long */
            struct dr_erase_spec spec;
            dr_arena_reset(arena);
            assert_int_equal(dr_erase_spec_parse(s.query, arena, &spec, &w->err), DR_OK);
            assert_true(i == 0 || spec.range.offset <= next + 150);
            assert_true(spec.range.offset + spec.range.length > next);
            assert_true(spec.range.length <= 10 && spec.range.is_spec_of_request);
            next = spec.range.offset + spec.range.length;
        }
    }
    assert_int_equal(dr_plan_next(it, &s, &has, &w->err), DR_OK);
    assert_false(has);
    dr_plan_end(it);
    dr_arena_destroy(arena);
    assert_true(peak_kb() - before < PEAK_KB_MAX);
    free_world(w);
}

static void expect_cover(const char *job, uint32_t nodes)
{
    struct world *w = make_world(job, nodes, 100000, "{}");
    struct dr_plan_iter *it = NULL;
    struct dr_plan_step s;
    struct dr_arena *arena = dr_arena_create(4096);
    uint64_t next[NODES_MAX] = {0};
    bool has = true;
    plan_ok(w);
    expect_part(w, DR_BY_KEY_LIST, "generated");
    struct dr_keyseq *seq = NULL;
    assert_int_equal(dr_keyseq_create(w->request->json, "job", &seq, &w->err), DR_OK);
    uint64_t per_service = dr_keyseq_count(seq) / dr_keyseq_service_count(seq);
    assert_int_equal(dr_plan_begin(w->plan, &it, &w->err), DR_OK);
    while (dr_plan_next(it, &s, &has, &w->err) == DR_OK && has && s.kind == DR_STEP_ERASE) {
        struct dr_erase_spec spec;
        assert_int_equal(dr_erase_spec_parse(s.query, arena, &spec, &w->err), DR_OK);
        const struct dr_range *r = &spec.range;
        char *text = dr_erase_spec_text(&spec);
        assert_string_equal(s.query, text); /* written straight, but as the codec does */
        dr_free(text);
        unsigned node = (unsigned)(r->node[1] - '1');
        assert_true(node < nodes && strcmp(r->node, s.node) == 0);
        assert_int_equal(r->offset, next[node]);
        assert_int_equal(r->offset / per_service, (r->offset + r->length - 1) / per_service);
        next[node] = r->offset + r->length;
    }
    for (uint32_t i = 0; i < nodes; i++) {
        assert_int_equal(next[i], dr_keyseq_count(seq));
    }
    dr_keyseq_destroy(seq);
    dr_plan_end(it);
    dr_arena_destroy(arena);
    free_world(w);
}

static void slices_cover_the_sequence_once_per_server(void **state)
{
    (void)state;
    static const unsigned sizes[] = {1, 2, 7, 57, 284, 1000};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        for (uint32_t nodes = 1; nodes <= NODES_MAX; nodes++) {
            char job[400];
            (void)snprintf(job, sizeof job,
                           HEAD "\"services\":[\"a\",\"b\",\"c\"]," LISTS DAY
                                ",\"partition_keys\":%u}",
                           sizes[i]);
            expect_cover(job, nodes);
        }
    }
}

static void odd_names_of_servers_are_escaped(void **state)
{
    (void)state;
    struct world *w = make_world(HEAD "\"services\":[\"s\"]," LISTS DAY "}", 1, 1000, "{}");
    struct dr_plan_iter *it = NULL;
    struct dr_plan_step s;
    struct dr_erase_spec spec;
    struct dr_arena *arena = dr_arena_create(4096);
    bool has = false;
    w->chunk[0].node = "h\"\\:1";
    plan_ok(w);
    assert_int_equal(dr_plan_begin(w->plan, &it, &w->err), DR_OK);
    assert_int_equal(dr_plan_next(it, &s, &has, &w->err), DR_OK);
    assert_true(has);
    assert_int_equal(dr_erase_spec_parse(s.query, arena, &spec, &w->err), DR_OK);
    assert_string_equal(spec.range.node, "h\"\\:1");
    dr_plan_end(it);
    dr_arena_destroy(arena);
    free_world(w);
}

static void missing_memory_is_reported_at_every_place(void **state)
{
    (void)state;
    struct world *w =
        make_world(HEAD "\"services\":[\"s1\"],\"marked\":true," LISTS DAY NO_CODES "}", 1, 100,
                   "{\"cluster\":true,\"down\":[\"x\"],\"marked\":[\"s1\"],\"slots\":{"
                   "\"h1:1\":[[0,16383]]}}");
    enum dr_code rc = DR_NOMEM;
    unsigned n = 0;
    while (rc != DR_OK) {
        struct dr_str text;
        dr_str_init(&text);
        (void)dr_mem_fail_at(++n);
        rc = plan(w);
        if (rc == DR_OK) {
            rc = dr_plan_print(w->plan, true, 0, &text, &w->err);
        }
        (void)dr_mem_fail_at(0);
        assert_true(rc == DR_OK || rc == DR_NOMEM);
        dr_str_fini(&text);
        assert_true(n < 2000);
    }
    assert_true(n > 10);
    free_world(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_million_partitions_take_no_memory),
        cmocka_unit_test(slices_do_not_cross_services),
        cmocka_unit_test(every_stand_alone_server_is_asked),
        cmocka_unit_test(in_a_cluster_only_the_owner_is_asked),
        cmocka_unit_test(a_layout_without_tag_is_scanned_in_a_cluster),
        cmocka_unit_test(a_scan_reads_each_node_and_then_unmarks),
        cmocka_unit_test(scans_need_consent_and_a_server_that_knows_them),
        cmocka_unit_test(the_cheaper_strategy_is_chosen_and_can_be_forced),
        cmocka_unit_test(the_hash_knows_what_is_selected),
        cmocka_unit_test(print_reads_well),
        cmocka_unit_test(slices_cover_the_sequence_once_per_server),
        cmocka_unit_test(odd_names_of_servers_are_escaped),
        cmocka_unit_test(missing_memory_is_reported_at_every_place),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
