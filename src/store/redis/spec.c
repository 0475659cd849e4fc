/* SPDX-License-Identifier: Apache-2.0 */
/* The job's own words, as far as this adapter acts on them. Parsed once for all calls that carry
 * the same text: a step makes thousands of them. */
#include <string.h>

#include "store/redis/redis_private.h"

void rd_spec_destroy(struct rd_spec *p)
{
    if (p == NULL) {
        return;
    }
    dr_keyseq_destroy(p->seq);
    for (uint32_t i = 0; i < p->type_count; i++) {
        dr_free(p->type[i]);
    }
    dr_free(p->log_path);
    dr_free(p->text);
    dr_free(p);
}

bool rd_spec_has_type(const struct rd_spec *p, const char *type)
{
    for (uint32_t i = 0; i < p->type_count; i++) {
        if (strcmp(p->type[i], type) == 0) {
            return true;
        }
    }
    return false;
}

bool rd_spec_has_collections(const struct rd_spec *p)
{
    return p->type_count > 1 || !rd_spec_has_type(p, "string");
}

static enum dr_code add_type(struct rd_spec *p, const char *type, struct dr_err *err)
{
    p->type[p->type_count] = dr_strdup(type);
    if (p->type[p->type_count] == NULL) {
        return dr_fail_nomem(err);
    }
    p->type_count++;
    return DR_OK;
}

static enum dr_code read_types(struct rd_spec *p, const json_t *types, struct dr_err *err)
{
    static const char *known = " string list set zset hash stream ";
    enum dr_code rc = DR_OK;
    if (types == NULL) {
        return add_type(p, "string", err);
    }
    p->are_types_given = true;
    if (!json_is_array(types) || json_array_size(types) == 0 ||
        json_array_size(types) > RD_TYPES_MAX) {
        return dr_fail(err, DR_INPUT, "types: a list of 1 to %d type names", RD_TYPES_MAX);
    }
    for (size_t i = 0; rc == DR_OK && i < json_array_size(types); i++) {
        const char *type = json_string_value(json_array_get(types, i));
        const char *at = type == NULL || type[0] == '\0' ? NULL : strstr(known, type);
        if (at == NULL || at[-1] != ' ' || at[strlen(type)] != ' ') {
            return dr_fail(err, DR_INPUT, "types: knows string list set zset hash stream");
        }
        rc = rd_spec_has_type(p, type) ? DR_OK : add_type(p, type, err);
    }
    return rc;
}

static enum dr_code read_spec(struct rd_spec *p, const json_t *job, struct dr_err *err)
{
    const char *log_path = json_string_value(json_object_get(job, "log_deleted"));
    p->zero_values = json_is_true(json_object_get(job, "zero_values"));
    p->overwrite = json_is_true(json_object_get(job, "overwrite"));
    if (log_path != NULL) {
        p->log_path = dr_strdup(log_path);
        if (p->log_path == NULL) {
            return dr_fail_nomem(err);
        }
    }
    const json_t *types = json_object_get(job, "types");
    if (types == NULL) {
        types = json_object_get(json_object_get(job, "layout"), "types");
    }
    enum dr_code rc = read_types(p, types, err);
    return rc == DR_OK ? dr_keyseq_create(job, "job", &p->seq, err) : rc;
}

enum dr_code rd_spec_use(struct rd_store *s, const char *text, struct rd_spec **out,
                         struct dr_err *err)
{
    json_t *job = NULL;
    *out = NULL;
    if (text == NULL) {
        return dr_fail(err, DR_INPUT, "redis: a walk needs the job's description of the keys");
    }
    if (s->spec != NULL && strcmp(s->spec->text, text) == 0) {
        *out = s->spec;
        return DR_OK;
    }
    struct rd_spec *p = dr_calloc(1, sizeof *p);
    if (p == NULL) {
        return dr_fail_nomem(err);
    }
    p->text = dr_strdup(text);
    enum dr_code rc =
        p->text == NULL ? dr_fail_nomem(err) : dr_json_parse("job", text, strlen(text), &job, err);
    if (rc == DR_OK) {
        rc = read_spec(p, job, err);
    }
    json_decref(job);
    if (rc != DR_OK) {
        rd_spec_destroy(p);
        return rc;
    }
    rd_spec_destroy(s->spec);
    s->spec = p;
    *out = p;
    return DR_OK;
}
