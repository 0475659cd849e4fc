/* SPDX-License-Identifier: Apache-2.0 */
/* Owns the way from a job's JSON to a stored plan. */
#include "verbs/job.h"

#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "obs/log.h"

enum { URL_BYTES = 512, HASH_BYTES = 17 };

#define ASKED_KEY "asked_hash"

/* The job with the configuration's tuning beneath its own. Wrong types are left for the parser,
 * which knows how to say what is wrong with them. */
static json_t *with_defaults(const struct dr_config *config, json_t *job)
{
    json_t *own = json_object_get(job, "tuning");
    if (config->defaults == NULL || !json_is_object(job) || (own != NULL && !json_is_object(own))) {
        return json_incref(job);
    }
    json_t *merged = json_copy(job);
    json_t *tuning = json_copy((json_t *)config->defaults);
    if (merged == NULL || tuning == NULL || (own != NULL && json_object_update(tuning, own) != 0)) {
        json_decref(tuning);
        json_decref(merged);
        return NULL;
    }
    if (json_object_set_new(merged, "tuning", tuning) != 0) {
        json_decref(merged);
        return NULL;
    }
    return merged;
}

enum dr_code dr_job_parse(const struct dr_config *config, json_t *job, const char *name,
                          struct dr_prepared *out, struct dr_err *err)
{
    memset(out, 0, sizeof *out);
    out->job = job;
    json_t *effective = with_defaults(config, job);
    if (effective == NULL) {
        return dr_fail_nomem(err);
    }
    enum dr_code rc = dr_request_parse(effective, name, &out->request, err);
    json_decref(effective);
    return rc == DR_OK ? dr_request_guard(out->request, &config->protect, err) : rc;
}

static enum dr_code survey(struct dr_prepared *p, struct dr_err *err)
{
    if (!dr_request_needs_spec(p->request)) {
        return dr_store_survey(p->store, p->request->database, dr_request_filter(p->request),
                               &p->survey, err);
    }
    char *spec = dr_request_json_text(p->request);
    enum dr_code rc =
        spec == NULL ? dr_fail_nomem(err) : dr_store_survey_spec(p->store, spec, &p->survey, err);
    dr_free(spec);
    return rc;
}

/* One command before it is stored: does the store understand it? */
static enum dr_code check_command(struct dr_store *s, const struct dr_plan_step *step,
                                  const char *text, const char *what, struct dr_err *err)
{
    static const char own[] = "{\"do\":";
    if (text == NULL || strncmp(text, own, sizeof own - 1) == 0) {
        return DR_OK;
    }
    enum dr_code rc = dr_store_check(s, step->node, text, false, err);
    if (rc != DR_OK) {
        dr_wrap(err, "step %lld, %s", (long long)step->number, what);
    }
    return rc;
}

/* An operation that rolls itself back must be able to: a rollback command that nobody understands
 * is found now and not when it is needed. */
static enum dr_code check_commands(struct dr_prepared *p, struct dr_err *err)
{
    struct dr_plan_iter *it = NULL;
    struct dr_plan_step step;
    bool has = true;
    if (!dr_plan_is_atomic(p->plan)) {
        return DR_OK;
    }
    enum dr_code rc = dr_plan_begin(p->plan, &it, err);
    while (rc == DR_OK && has) {
        rc = dr_plan_next(it, &step, &has, err);
        if (rc == DR_OK && has) {
            rc = check_command(p->store, &step, step.query, "command", err);
        }
        if (rc == DR_OK && has) {
            rc = check_command(p->store, &step, step.rollback_query, "rollback command", err);
        }
        if (rc == DR_OK && has) {
            rc = check_command(p->store, &step, step.cleanup, "cleanup command", err);
        }
    }
    dr_plan_end(it);
    return rc;
}

enum dr_code dr_job_plan(const struct dr_config *config, const struct dr_store_world *world,
                         struct dr_prepared *p, enum dr_place *place_out, struct dr_err *err)
{
    char shown[URL_BYTES];
    *place_out = DR_AT_STORE;
    enum dr_code rc = dr_store_open_in(world, p->request->store_url, &p->store, err);
    if (rc != DR_OK) {
        return rc;
    }
    rc = survey(p, err);
    if (rc != DR_OK) {
        dr_wrap(err, "survey of %s", dr_url_redact(p->request->store_url, shown, sizeof shown));
        return rc;
    }
    *place_out = DR_AT_NOTHING;
    rc = dr_request_resolve(p->request, p->survey, err);
    if (rc == DR_OK) {
        rc = dr_request_guard(p->request, &config->protect, err); /* the survey may bring names */
    }
    if (rc == DR_OK) {
        rc = dr_plan_make(p->request, p->survey, dr_store_can(p->store), &p->plan, err);
    }
    return rc == DR_OK ? check_commands(p, err) : rc;
}

enum dr_code dr_job_prepare(const struct dr_config *config, const struct dr_store_world *world,
                            json_t *job, const char *name, struct dr_prepared *out,
                            enum dr_place *place_out, struct dr_err *err)
{
    *place_out = DR_AT_NOTHING;
    enum dr_code rc = dr_job_parse(config, job, name, out, err);
    return rc == DR_OK ? dr_job_plan(config, world, out, place_out, err) : rc;
}

void dr_prepared_fini(struct dr_prepared *p)
{
    dr_plan_destroy(p->plan);
    dr_survey_destroy(p->survey);
    dr_store_close(p->store);
    dr_request_destroy(p->request);
    json_decref(p->job);
    memset(p, 0, sizeof *p);
}

/* The stored texts of a put. */
struct texts {
    char *request, *summary, *tuning;
};

static void free_texts(struct texts *t)
{
    dr_free(t->request);
    dr_free(t->summary);
    dr_free(t->tuning);
}

/* FNV-1a (Fowler, Noll, Vo) over the compact text with sorted keys: it tells two jobs of one sender
 * apart, it protects from nobody. */
static enum dr_code hash_asked(const json_t *asked, char *buf, size_t buf_bytes, struct dr_err *err)
{
    uint64_t hash = UINT64_C(14695981039346656037);
    char *text = dr_json_text(asked);
    if (text == NULL) {
        return dr_fail_nomem(err);
    }
    for (const char *at = text; *at != '\0'; at++) {
        hash = (hash ^ (unsigned char)*at) * UINT64_C(1099511628211);
    }
    (void)snprintf(buf, buf_bytes, "%016llx", (unsigned long long)hash);
    dr_free(text);
    return DR_OK;
}

/* `asked` is the hash of what was asked for; it stays beside the plan's summary. */
static enum dr_code make_texts(const struct dr_prepared *p, const char *asked, struct texts *t,
                               struct dr_err *err)
{
    json_t *summary = NULL;
    enum dr_code rc = dr_plan_to_json(p->plan, false, &summary, err);
    if (rc != DR_OK) {
        return rc;
    }
    bool is_short = json_object_set_new(summary, ASKED_KEY, json_string(asked)) != 0;
    json_t *tuning = dr_tuning_to_json(&p->request->tuning);
    t->request = dr_request_json_text(p->request);
    t->summary = dr_json_text(summary);
    t->tuning = tuning != NULL ? dr_json_text(tuning) : NULL;
    json_decref(tuning);
    json_decref(summary);
    is_short = is_short || t->request == NULL || t->summary == NULL || t->tuning == NULL;
    return is_short ? dr_fail_nomem(err) : DR_OK;
}

/* The queue asks for steps only when it really inserts; a known key is answered without. */
struct feed {
    struct dr_plan_iter *steps;
    bool is_asked;
};

static enum dr_code next_step(void *arg, struct dr_plan_step *step, bool *has_out,
                              struct dr_err *err)
{
    struct feed *f = arg;
    f->is_asked = true;
    return dr_plan_next(f->steps, step, has_out, err);
}

/* Was the same asked for with `key` when operation `op_id` was put? */
static enum dr_code check_same(struct dr_queue *q, int64_t op_id, const char *key,
                               const char *asked, struct dr_err *err)
{
    char *text = NULL;
    json_t *summary = NULL;
    enum dr_code rc = dr_queue_texts(q, op_id, NULL, &text, NULL, err);
    if (rc == DR_OK && text != NULL) {
        rc = dr_json_parse("stored summary", text, strlen(text), &summary, err);
    }
    const char *before = json_string_value(json_object_get(summary, ASKED_KEY));
    if (rc == DR_OK && (before == NULL || strcmp(before, asked) != 0)) {
        rc =
            dr_fail(err, DR_EXISTS,
                    "the key \"%.100s\" was used for another job (operation %lld); a new job needs "
                    "a new key",
                    key, (long long)op_id);
    }
    json_decref(summary);
    dr_free(text);
    return rc;
}

enum dr_code dr_job_find(struct dr_queue *q, const char *key, const json_t *asked,
                         int64_t *op_id_out, struct dr_err *err)
{
    char hash[HASH_BYTES];
    enum dr_code rc = dr_queue_find_key(q, key, op_id_out, err);
    if (rc != DR_OK || *op_id_out == 0) {
        return rc;
    }
    rc = hash_asked(asked, hash, sizeof hash, err);
    return rc == DR_OK ? check_same(q, *op_id_out, key, hash, err) : rc;
}

enum dr_code dr_job_store(struct dr_queue *q, const struct dr_prepared *p,
                          const struct dr_job_put *put, int64_t *op_id_out, bool *is_repeated_out,
                          enum dr_place *place_out, struct dr_err *err)
{
    const struct dr_request *r = p->request;
    struct texts t = {0};
    struct feed feed = {0};
    char asked[HASH_BYTES];
    bool is_irreversible = dr_plan_is_irreversible(p->plan);
    *place_out = DR_AT_NOTHING;
    enum dr_code rc =
        hash_asked(put->asked != NULL ? put->asked : p->job, asked, sizeof asked, err);
    if (rc == DR_OK) {
        rc = make_texts(p, asked, &t, err);
    }
    if (rc != DR_OK) {
        goto out;
    }
    rc = dr_plan_begin(p->plan, &feed.steps, err);
    if (rc != DR_OK) {
        goto out;
    }
    const struct dr_put fields = {
        .kind = r->kind_name,
        .target = dr_request_target(r),
        .store_url = r->store_url,
        .request_json = t.request,
        .summary_json = t.summary,
        .tuning_json = t.tuning,
        .priority = r->tuning.priority,
        .wish = put->wish,
        .is_irreversible = is_irreversible,
        .plan_hash = dr_plan_hash(p->plan),
        .archive_days = is_irreversible ? 0 : r->archive_days,
        .is_atomic = dr_plan_is_atomic(p->plan),
        .give_up_s = dr_plan_give_up_s(p->plan),
        .no_return_from = is_irreversible ? 0 : dr_plan_no_return(p->plan),
        .by = put->by,
        .idempotency_key = put->key,
    };
    *place_out = DR_AT_DATA;
    rc = dr_queue_put(q, &fields, next_step, &feed, op_id_out, err);
    if (rc == DR_OK && !feed.is_asked) {
        rc = check_same(q, *op_id_out, put->key, asked, err);
    }
    if (is_repeated_out != NULL) {
        *is_repeated_out = !feed.is_asked;
    }
out:
    if (feed.steps != NULL) {
        dr_plan_end(feed.steps);
    }
    free_texts(&t);
    return rc;
}
