/* SPDX-License-Identifier: Apache-2.0 */
/* Owns `drover table ...`: jobs for sharded tables from options, worked on here or handed to a
 * daemon with --server; and how tables look on a terminal. */
#include <stdio.h>
#include <string.h>

#include "catalog/table.h"
#include "cli/remote_private.h"
#include "cluster/port.h"

enum { ANSWER_IDS_MAX = DR_ARGS_WORDS_MAX };

/* --node NAME=URL or URL. A name has no colon, a URL begins with one behind its scheme. */
static json_t *node_of(const char *text)
{
    const char *equals = strchr(text, '=');
    const char *colon = strchr(text, ':');
    if (equals != NULL && (colon == NULL || equals < colon)) {
        return json_pack("{s:s%,s:s}", "name", text, (size_t)(equals - text), "url", equals + 1);
    }
    return json_pack("{s:s}", "url", text);
}

static enum dr_code add_nodes(const struct dr_args *a, const char *option, const char *key,
                              json_t *job, struct dr_err *err)
{
    json_t *list = json_array();
    const char *text;
    for (uint32_t n = 0; list != NULL && (text = dr_args_nth(a, option, n)) != NULL; n++) {
        if (json_array_append_new(list, node_of(text)) != 0) {
            json_decref(list);
            list = NULL;
        }
    }
    return list == NULL || json_object_set_new(job, key, list) != 0
               ? dr_fail(err, DR_INPUT, "--%s: not valid UTF-8, or out of memory", option)
               : DR_OK;
}

/* --- a job, here or at a daemon -------------------------------------------------------------- */

/* The daemon plans, stores and works; what it answers is the operation. */
static enum dr_code submit_there(struct dr_cli *c, json_t *job, struct dr_err *err)
{
    json_t *op = NULL;
    if (dr_args_has(c->args, "dry-run")) {
        json_decref(job);
        return dr_fail(err, DR_USAGE, "--dry-run plans here; it makes no sense with --server");
    }
    const char *target = json_string_value(json_object_get(job, "table"));
    const char *kind = json_string_value(json_object_get(job, "kind"));
    char what[256];
    (void)snprintf(what, sizeof what, "This is %s of %s, at the daemon.", kind, target);
    enum dr_code rc = dr_cli_confirm(c, what, target, err);
    if (rc == DR_OK) {
        rc = dr_cli_remote(c, "POST", "/operations", job, &op, err);
    }
    json_decref(job);
    if (rc != DR_OK) {
        return rc;
    }
    if (c->is_json) {
        return dr_cli_put_json(op, err);
    }
    (void)printf("operation %lld\n", (long long)json_integer_value(json_object_get(op, "id")));
    json_decref(op);
    return DR_OK;
}

static enum dr_code go(struct dr_cli *c, json_t *job, enum dr_code rc, int *exit_out,
                       struct dr_err *err)
{
    if (rc != DR_OK) {
        json_decref(job);
        return rc;
    }
    return dr_args_has(c->args, "server") ? submit_there(c, job, err)
                                          : dr_cli_run_job(c, job, "job", exit_out, err);
}

static enum dr_code start(struct dr_cli *c, const char *kind, const struct dr_key_of *keys,
                          json_t **job, struct dr_err *err)
{
    bool any = false;
    enum dr_code rc = dr_cli_start_job(c, kind, job, err);
    if (rc == DR_OK && json_object_set_new(*job, "table", json_string(c->word[0])) != 0) {
        rc = dr_fail(err, DR_INPUT, "the table's name is not valid UTF-8");
    }
    return rc == DR_OK ? dr_cli_add_keys(c->args, keys, *job, &any, err) : rc;
}

enum dr_code dr_cli_table_create(struct dr_cli *c, int *exit_out, struct dr_err *err)
{
    static const char *const needed[] = {"columns", "shards", "rf", "node", NULL};
    static const struct dr_key_of keys[] = {{"columns", "columns"},
                                            {"extra", "extra"},
                                            {"shards", "shards"},
                                            {"rf", "rf"},
                                            {"give-up", "timeout_s"},
                                            {"if-not-exists", "if_not_exists"},
                                            {NULL, NULL}};
    json_t *job = NULL;
    enum dr_code rc = dr_cli_need_options(c, needed, err);
    rc = rc == DR_OK ? start(c, "table.create", keys, &job, err) : rc;
    rc = rc == DR_OK ? add_nodes(c->args, "node", "nodes", job, err) : rc;
    return go(c, job, rc, exit_out, err);
}

enum dr_code dr_cli_table_rebalance(struct dr_cli *c, int *exit_out, struct dr_err *err)
{
    static const struct dr_key_of keys[] = {
        {"hold", "hold_s"}, {"fence-ms", "fence_ms"}, {"give-up", "give_up_s"}, {NULL, NULL}};
    json_t *job = NULL;
    enum dr_code rc = start(c, "table.rebalance", keys, &job, err);
    if (rc == DR_OK && dr_args_has(c->args, "add")) {
        rc = add_nodes(c->args, "add", "add", job, err);
    }
    if (rc == DR_OK && dr_args_has(c->args, "remove")) {
        rc = dr_cli_add_list(c->args, "remove", "remove", false, job, err);
    }
    return go(c, job, rc, exit_out, err);
}

enum dr_code dr_cli_table_drop(struct dr_cli *c, int *exit_out, struct dr_err *err)
{
    static const struct dr_key_of keys[] = {
        {"hold", "hold_s"}, {"if-exists", "if_exists"}, {NULL, NULL}};
    json_t *job = NULL;
    enum dr_code rc = start(c, "table.drop", keys, &job, err);
    return go(c, job, rc, exit_out, err);
}

/* --- looking --------------------------------------------------------------------------------- */

static const char *text_in(const json_t *o, const char *key)
{
    const char *text = json_string_value(json_object_get(o, key));
    return text == NULL ? "" : text;
}

/* A list, or how long it is where a daemon says only that. */
static long long how_many(const json_t *t, const char *key)
{
    const json_t *list = json_object_get(t, key);
    return json_is_integer(list) ? (long long)json_integer_value(list)
                                 : (long long)json_array_size(list);
}

static void print_line(const json_t *t)
{
    (void)printf("%-24s %-10s %-10s %6lld %3lld %5lld  %s%s%s\n", text_in(t, "name"),
                 text_in(t, "state"), text_in(t, "engine"), how_many(t, "shards"),
                 (long long)json_integer_value(json_object_get(t, "rf")), how_many(t, "nodes"),
                 text_in(t, "what"), text_in(t, "operation")[0] != '\0' ? " by " : "",
                 text_in(t, "operation"));
}

static void print_table(const json_t *t)
{
    size_t i;
    json_t *one;
    (void)printf("table %s: %s, %s, %zu shards, rf %lld, map version %lld\n", text_in(t, "name"),
                 text_in(t, "state"), text_in(t, "engine"),
                 json_array_size(json_object_get(t, "shards")),
                 (long long)json_integer_value(json_object_get(t, "rf")),
                 (long long)json_integer_value(json_object_get(t, "version")));
    if (text_in(t, "operation")[0] != '\0') {
        (void)printf("held by a %s (%s)\n", text_in(t, "what"), text_in(t, "operation"));
    }
    json_array_foreach(json_object_get(t, "nodes"), i, one)
    {
        (void)printf("node %s%s%s\n", text_in(one, "name"),
                     json_is_true(json_object_get(one, "leaving")) ? " (leaving)" : "",
                     json_is_true(json_object_get(one, "coming")) ? " (new)" : "");
    }
    json_array_foreach(json_object_get(t, "shards"), i, one)
    {
        size_t k;
        json_t *holder;
        (void)printf("shard %zu %s on", i, text_in(one, "table"));
        json_array_foreach(json_object_get(one, "holders"), k, holder)
        {
            (void)printf("%s %s", k == 0 ? "" : ",", json_string_value(holder));
        }
        (void)putchar('\n');
    }
}

static const json_t *find(const json_t *list, const char *name)
{
    size_t i;
    json_t *one;
    json_array_foreach((json_t *)list, i, one)
    {
        if (strcmp(text_in(one, "name"), name) == 0) {
            return one;
        }
    }
    return NULL;
}

/* A daemon tells everything about one table, and few things about each of all. */
static enum dr_code read_there(struct dr_cli *c, json_t **out, struct dr_err *err)
{
    struct dr_str path;
    json_t *answer = NULL;
    bool is_one = c->word_count > 0;
    *out = NULL;
    dr_str_init(&path);
    dr_str_add(&path, is_one ? "/tables/" : "/tables");
    dr_str_add_percent(&path, is_one ? c->word[0] : "");
    enum dr_code rc = path.is_short
                          ? dr_fail_nomem(err)
                          : dr_cli_remote(c, "GET", dr_str_text(&path), NULL, &answer, err);
    if (rc == DR_OK) {
        *out = is_one ? json_pack("[O]", answer) : json_incref(json_object_get(answer, "tables"));
        rc =
            *out == NULL ? dr_fail(err, DR_INTERNAL, "the daemon's answer lists no tables") : DR_OK;
    }
    json_decref(answer);
    dr_str_fini(&path);
    return rc;
}

static enum dr_code read_tables(struct dr_cli *c, json_t **out, struct dr_err *err)
{
    if (dr_args_has(c->args, "server")) {
        return read_there(c, out, err);
    }
    c->place = DR_AT_DATA;
    return dr_port_read_files(c->data_dir, out, err);
}

static enum dr_code show(struct dr_cli *c, const json_t *list, struct dr_err *err)
{
    size_t i;
    json_t *one;
    if (c->word_count > 0) {
        const json_t *t = find(list, c->word[0]);
        if (t == NULL) {
            return dr_fail(err, DR_NOT_FOUND,
                           "there is no sharded table \"%s\"; drover table status lists them",
                           c->word[0]);
        }
        if (c->is_json) {
            return dr_cli_put_json(json_incref((json_t *)t), err);
        }
        print_table(t);
        return DR_OK;
    }
    if (c->is_json) {
        return dr_cli_put_json(json_incref((json_t *)list), err);
    }
    if (json_array_size(list) == 0) {
        dr_cli_say(c, "there is no sharded table; make one with: drover table create");
        return DR_OK;
    }
    (void)printf("%-24s %-10s %-10s %6s %3s %5s  %s\n", "TABLE", "STATE", "ENGINE", "SHARDS", "RF",
                 "NODES", "HELD BY");
    json_array_foreach((json_t *)list, i, one)
    {
        print_line(one);
    }
    return DR_OK;
}

enum dr_code dr_cli_table_status(struct dr_cli *c, int *exit_out, struct dr_err *err)
{
    json_t *list = NULL;
    (void)exit_out;
    enum dr_code rc = read_tables(c, &list, err);
    if (rc == DR_OK) {
        c->place = DR_AT_NOTHING;
        rc = show(c, list, err);
    }
    json_decref(list);
    return rc;
}

/* What an application asks: where does this row live? From the files of the data folder, or from a
 * daemon. */
static enum dr_code route_here(struct dr_cli *c, json_t **out, struct dr_err *err)
{
    json_t *list = NULL;
    enum dr_code rc = read_tables(c, &list, err);
    const json_t *t = rc == DR_OK ? find(list, c->word[0]) : NULL;
    c->place = DR_AT_NOTHING;
    if (rc == DR_OK && t == NULL) {
        rc =
            dr_fail(err, DR_NOT_FOUND,
                    "there is no sharded table \"%s\"; drover table status lists them", c->word[0]);
    }
    const json_t *shards = json_object_get(t, "shards");
    json_t *answer = rc == DR_OK ? json_array() : NULL;
    for (uint32_t i = 1; rc == DR_OK && i < c->word_count; i++) {
        uint32_t n =
            dr_table_route((uint32_t)json_array_size(shards), c->word[i], strlen(c->word[i]));
        json_t *shard = json_array_get(shards, n);
        json_t *one =
            json_pack("{s:s,s:i,s:O,s:O,s:O}", "id", c->word[i], "shard", (int)n, "table",
                      json_object_get(shard, "table"), "holders", json_object_get(shard, "holders"),
                      "version", json_object_get(t, "version"));
        if (json_array_append_new(answer, one) != 0) {
            rc = dr_fail_nomem(err);
        }
    }
    json_decref(list);
    if (rc != DR_OK) {
        json_decref(answer);
        return rc;
    }
    *out = answer;
    return DR_OK;
}

static enum dr_code route_there(struct dr_cli *c, json_t **out, struct dr_err *err)
{
    struct dr_str path;
    json_t *ids = json_array();
    for (uint32_t i = 1; ids != NULL && i < c->word_count; i++) {
        if (json_array_append_new(ids, json_string(c->word[i])) != 0) {
            json_decref(ids);
            ids = NULL;
        }
    }
    json_t *body = ids == NULL ? NULL : json_pack("{s:o}", "ids", ids);
    dr_str_init(&path);
    dr_str_add(&path, "/tables/");
    dr_str_add_percent(&path, c->word[0]);
    dr_str_add(&path, "/route");
    enum dr_code rc = body == NULL || path.is_short
                          ? dr_fail_nomem(err)
                          : dr_cli_remote(c, "POST", dr_str_text(&path), body, out, err);
    dr_str_fini(&path);
    json_decref(body);
    return rc;
}

static const char *holder_text(const json_t *holder)
{
    return json_is_string(holder) ? json_string_value(holder) : text_in(holder, "node");
}

enum dr_code dr_cli_table_route(struct dr_cli *c, int *exit_out, struct dr_err *err)
{
    json_t *answer = NULL;
    size_t i;
    json_t *one;
    (void)exit_out;
    enum dr_code rc =
        dr_args_has(c->args, "server") ? route_there(c, &answer, err) : route_here(c, &answer, err);
    if (rc != DR_OK) {
        return rc;
    }
    if (c->is_json) {
        return dr_cli_put_json(answer, err);
    }
    json_array_foreach(answer, i, one)
    {
        size_t k;
        json_t *holder;
        const json_t *id = json_object_get(one, "id");
        (void)printf("%s: shard %lld, table %s on", json_string_value(id),
                     (long long)json_integer_value(json_object_get(one, "shard")),
                     text_in(one, "table"));
        json_array_foreach(json_object_get(one, "holders"), k, holder)
        {
            (void)printf("%s %s", k == 0 ? "" : ",", holder_text(holder));
        }
        (void)putchar('\n');
    }
    json_decref(answer);
    return DR_OK;
}
