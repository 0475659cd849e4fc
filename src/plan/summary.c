/* SPDX-License-Identifier: Apache-2.0 */
/* Owns the JSON form of a plan, for programs. A helper that returns false ran out of memory. */
#include "plan/plan_private.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "obs/log.h"

enum { URL_BYTES = 1024, HASH_BYTES = 17 };

/* Sets a key to a new value; a NULL value is a failed allocation of it. */
static bool set(json_t *o, const char *key, json_t *value)
{
    return json_object_set_new(o, key, value) == 0; /* releases the value when it fails */
}

static bool set_text(json_t *o, const char *key, const char *text)
{
    return set(o, key, text == NULL ? json_null() : json_string(text));
}

/* Commands may hold the URLs of nodes; passwords in them are nobody's business. */
static bool set_command(json_t *o, const char *key, const char *text)
{
    struct dr_str clean;
    if (text == NULL) {
        return set_text(o, key, NULL);
    }
    dr_str_init(&clean);
    for (const char *at = text; *at != '\0';) {
        const char *url = strstr(at, "://");
        if (url == NULL) {
            dr_str_add(&clean, at);
            break;
        }
        size_t host = strcspn(url + 3, "/\"'? ");
        const char *sign = memchr(url + 3, '@', host);
        const char *colon = sign == NULL ? NULL : memchr(url + 3, ':', (size_t)(sign - url - 3));
        const char *upto = colon != NULL ? colon + 1 : url + 3;
        dr_str_addn(&clean, at, (size_t)(upto - at));
        if (colon != NULL) {
            dr_str_add(&clean, "***");
        }
        at = colon != NULL ? sign : upto;
    }
    bool is_set = !clean.is_short && set_text(o, key, dr_str_text(&clean));
    dr_str_fini(&clean);
    return is_set;
}

static bool set_number(json_t *o, const char *key, uint64_t n)
{
    return set(o, key, json_integer(n > INT64_MAX ? INT64_MAX : (json_int_t)n));
}

static json_t *part_json(const struct dr_plan_part *part)
{
    json_t *o = json_object();
    if (o != NULL && set_text(o, "collection", part->collection) &&
        set_text(o, "strategy", dr_strategy_name(part->strategy)) &&
        set_text(o, "efficiency", dr_strategy_efficiency(part->strategy)) &&
        set_text(o, "why", part->why) && set_text(o, "warning", part->warning) &&
        set_number(o, "steps", part->steps) && set_number(o, "estimated", part->estimated) &&
        set_number(o, "total", part->total)) {
        return o;
    }
    json_decref(o);
    return NULL;
}

static json_t *parts_json(const struct dr_plan *p)
{
    json_t *list = json_array();
    for (uint32_t i = 0; list != NULL && i < p->pick_count; i++) {
        if (json_array_append_new(list, part_json(&p->pick[i].part)) != 0) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}

static json_t *step_json(const struct dr_plan_step *s)
{
    json_t *o = json_object();
    if (o != NULL && set_number(o, "number", (uint64_t)s->number) &&
        set_text(o, "kind", dr_step_kind_name(s->kind)) && set_text(o, "node", s->node) &&
        set_number(o, "stage", s->stage) && set_number(o, "wait_for", (uint64_t)s->wait_for) &&
        set_number(o, "rollback_wait_for", (uint64_t)s->rollback_wait_for) &&
        set(o, "priority", json_integer(s->priority)) && set_text(o, "title", s->title) &&
        set_command(o, "query", s->query) && set_command(o, "rollback_query", s->rollback_query) &&
        set_command(o, "cleanup", s->cleanup) &&
        (s->is_estimate_known ? set_number(o, "estimated", s->estimated)
                              : set(o, "estimated", json_null()))) {
        return o;
    }
    json_decref(o);
    return NULL;
}

static enum dr_code fill_step_list(const struct dr_plan *p, json_t *list, struct dr_err *err)
{
    struct dr_plan_iter *it = NULL;
    struct dr_plan_step step;
    bool has_step = true;
    enum dr_code rc = dr_plan_begin(p, &it, err);
    while (rc == DR_OK && has_step) {
        rc = dr_plan_next(it, &step, &has_step, err);
        if (rc == DR_OK && has_step && json_array_append_new(list, step_json(&step)) != 0) {
            rc = dr_fail_nomem(err);
        }
    }
    dr_plan_end(it);
    return rc;
}

static json_t *summary_json(const struct dr_plan *p)
{
    char url[URL_BYTES];
    char hash[HASH_BYTES];
    const struct dr_request *r = p->request;
    const char *store = r->store_url == NULL ? NULL : dr_url_redact(r->store_url, url, sizeof url);
    (void)snprintf(hash, sizeof hash, "%016" PRIx64, p->hash);
    json_t *o = json_object();
    if (o != NULL && set_text(o, "kind", r->kind_name) && set_text(o, "target", p->target) &&
        set_text(o, "store", store) && set(o, "irreversible", json_boolean(r->irreversible)) &&
        set_number(o, "no_return", (uint64_t)p->no_return) && set_text(o, "hash", hash) &&
        set_number(o, "steps", p->step_count) && set_number(o, "estimated", p->estimated) &&
        set(o, "estimate_known", json_boolean(p->is_estimate_known)) &&
        set_number(o, "total", p->total) && set_number(o, "archive_days", r->archive_days) &&
        set(o, "parts", parts_json(p))) {
        return o;
    }
    json_decref(o);
    return NULL;
}

enum dr_code dr_plan_to_json(const struct dr_plan *p, bool with_steps, json_t **out,
                             struct dr_err *err)
{
    *out = NULL;
    json_t *o = summary_json(p);
    if (o == NULL) {
        return dr_fail_nomem(err);
    }
    if (p->is_list) {
        if (!set(o, "atomic", json_boolean(p->is_atomic)) ||
            json_object_set(o, "layout", p->facts) != 0) {
            json_decref(o);
            return dr_fail_nomem(err);
        }
    }
    if (p->has_chunk_table) {
        json_t *chunks = NULL;
        enum dr_code rc = dr_chunk_table_to_json(p, with_steps, &chunks, err);
        if (rc == DR_OK && json_object_set_new(o, "chunks", chunks) != 0) {
            rc = dr_fail_nomem(err);
        }
        if (rc != DR_OK) {
            json_decref(o);
            return rc;
        }
    }
    if (with_steps) {
        json_t *list = json_array();
        enum dr_code rc = list == NULL || json_object_set_new(o, "step_list", list) != 0
                              ? dr_fail_nomem(err)
                              : fill_step_list(p, list, err);
        if (rc != DR_OK) {
            json_decref(o);
            return rc;
        }
    }
    *out = o;
    return DR_OK;
}
