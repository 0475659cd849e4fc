/* SPDX-License-Identifier: Apache-2.0 */
/* Handles on the stand-in cluster and surveys of it, for tests of metadata. */
#ifndef DR_TESTS_MONGODB_SURVEY_HELP_H
#define DR_TESTS_MONGODB_SURVEY_HELP_H

#include "mongodb/mongodb_help.h"

#include "base/clock.h"
#include "store/mongodb/mongodb_private.h"
#include "store/store.h"

static struct dr_store *store;
static struct mg_store *impl; /* a second handle, to look behind the table of functions */
static struct dr_survey *survey;
static json_t *extra;

static DR_UNUSED void open_store(const char *options)
{
    char url[512];
    void *opened = NULL;
    (void)snprintf(url, sizeof url, "%s%s", cluster.uri, options);
    must(dr_store_open(url, &store, &err));
    must(dr_store_mongodb_ops()->open(url, &opened, &err));
    impl = opened;
}

static DR_UNUSED void start(const char *version)
{
    start_cluster(version);
    open_store("?drover.rebalanceCheck=7");
}

static DR_UNUSED void forget_survey(void)
{
    dr_survey_destroy(survey);
    json_decref(extra);
    survey = NULL;
    extra = NULL;
}

static DR_UNUSED int stop(void **state)
{
    (void)state;
    forget_survey();
    dr_store_close(store);
    dr_store_mongodb_ops()->close(impl);
    store = NULL;
    impl = NULL;
    stop_cluster();
    return 0;
}

/* Survey by the text of a mongodb.drop job; ' stands for ". */
static DR_UNUSED void look(const char *job)
{
    char spec[1024];
    forget_survey();
    dr_copy_text(spec, sizeof spec, job);
    for (char *at = spec; *at != '\0'; at++) {
        *at = *at == '\'' ? '"' : *at;
    }
    must(dr_store_survey_spec(store, spec, &survey, &err));
    extra = json_loads(survey->extra, 0, NULL);
    assert_non_null(extra);
}

static DR_UNUSED const struct dr_collection *collection(const char *name)
{
    for (uint32_t i = 0; i < survey->collection_count; i++) {
        if (strcmp(survey->collection[i].name, name) == 0) {
            return &survey->collection[i];
        }
    }
    fail_msg("the survey has no %s", name);
    return NULL;
}

static DR_UNUSED const json_t *extra_of(const char *name)
{
    const json_t *one = json_object_get(json_object_get(extra, "collections"), name);
    assert_non_null(one);
    return one;
}

static DR_UNUSED const char *extra_text(const char *name, const char *key)
{
    return json_string_value(json_object_get(extra_of(name), key));
}

static DR_UNUSED const char *filter_text(const char *name, const char *key)
{
    return json_string_value(json_object_get(json_object_get(extra_of(name), "filter"), key));
}

static DR_UNUSED uint64_t epoch_of(const char *name)
{
    uint64_t epoch = 0;
    must(dr_store_epoch(store, name, &epoch, &err));
    assert_true(epoch > 0 && epoch <= INT64_MAX);
    return epoch;
}

/* t.r: range-sharded by k, 100 documents k = 0..99, split at 30 and 60; the last chunk on b. */
static DR_UNUSED void make_ranged(void)
{
    shard_collection("t", "r", "{'k': 1}");
    tell("admin", "{'standin': 1, 'fill': {'ns': 't.r', 'count': 100, 'fields': {'k': '$n', 's': "
                  "{'$mod': 10}, 'rare': '$n'}}}");
    tell("admin", "{'split': 't.r', 'middle': {'k': 30}}");
    tell("admin", "{'split': 't.r', 'middle': {'k': 60}}");
    json_t *layout = ask("admin", "{'standin': 1, 'layout': 't.r'}");
    json_t *chunks = json_object_get(layout, "chunks");
    const char *first = json_string_value(json_object_get(json_array_get(chunks, 0), "shard"));
    tell("admin", "{'moveChunk': 't.r', 'find': {'k': 99}, 'to': '%s'}",
         strcmp(first, "a") == 0 ? "b" : "a");
    json_decref(layout);
}

static DR_UNUSED void command(const char *text, enum dr_code expected)
{
    char line[1024];
    dr_copy_text(line, sizeof line, text);
    for (char *at = line; *at != '\0'; at++) {
        *at = *at == '\'' ? '"' : *at;
    }
    enum dr_code rc = dr_store_command(store, "a", line, &err);
    if (rc != expected) {
        fail_msg("%s: %s %s", line, dr_code_name(rc), rc == DR_OK ? "" : err.msg);
    }
}

#define T(f) cmocka_unit_test_teardown(f, stop)

#endif
