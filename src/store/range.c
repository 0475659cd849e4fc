/* SPDX-License-Identifier: Apache-2.0 */
/* Ranges as JSON: the form in which a step's command stores what it works on. */
#include <assert.h>
#include <string.h>

#include "store/store.h"

static const char *const access_names[] = {"shard-range", "shard-hashed", "index", "scan", "keys"};
enum { ACCESSES = sizeof access_names / sizeof access_names[0] };

static json_t *names_json(const struct dr_range *r)
{
    json_t *array = json_array();
    for (uint32_t i = 0; array != NULL && i < r->key_count; i++) {
        if (json_array_append_new(array, json_string(r->key[i])) != 0) {
            json_decref(array);
            return NULL;
        }
    }
    return array;
}

json_t *dr_range_to_json(const struct dr_range *r)
{
    json_t *o = json_object();
    assert((unsigned)r->access < ACCESSES);
    bool is_good = o != NULL && json_object_set_new(o, "node", json_string(r->node)) == 0 &&
                   json_object_set_new(o, "collection", json_string(r->collection)) == 0 &&
                   json_object_set_new(o, "access", json_string(access_names[r->access])) == 0 &&
                   json_object_set_new(o, "epoch", json_integer((json_int_t)r->epoch)) == 0;
    if (is_good && r->index != NULL) {
        is_good = json_object_set_new(o, "index", json_string(r->index)) == 0;
    }
    if (is_good && r->key_count > 0) {
        is_good = json_object_set_new(o, "key", names_json(r)) == 0;
    }
    if (is_good && r->from.parts > 0) {
        is_good = json_object_set_new(o, "from", dr_bound_to_json(&r->from)) == 0;
    }
    if (is_good && r->upto.parts > 0) {
        is_good = json_object_set_new(o, "upto", dr_bound_to_json(&r->upto)) == 0;
    }
    if (is_good && r->filter != NULL) {
        is_good = json_object_set_new(o, "filter", dr_filter_to_json(r->filter)) == 0;
    }
    if (is_good && r->access == DR_BY_KEYS) {
        is_good = json_object_set_new(o, "offset", json_integer((json_int_t)r->offset)) == 0 &&
                  json_object_set_new(o, "length", json_integer((json_int_t)r->length)) == 0;
    }
    if (is_good && r->is_spec_of_request) {
        is_good = json_object_set_new(o, "spec", json_string("request")) == 0;
    } else if (is_good && r->spec != NULL) {
        is_good = json_object_set_new(o, "spec", json_loads(r->spec, 0, NULL)) == 0;
    }
    if (!is_good) {
        json_decref(o);
        return NULL;
    }
    return o;
}

/* {"spec": "request"} or {"spec": {...}}, and the slice of its sequence. */
static enum dr_code read_spec(struct dr_jr *r, struct dr_arena *a, struct dr_range *out,
                              struct dr_err *err)
{
    const json_t *spec = NULL;
    bool is_keys = out->access == DR_BY_KEYS;
    (void)dr_jr_u64(r, "offset", is_keys, 0, INT64_MAX, &out->offset);
    (void)dr_jr_u64(r, "length", is_keys, 1, INT64_MAX, &out->length);
    (void)dr_jr_any(r, "spec", is_keys, &spec);
    if (r->rc != DR_OK || spec == NULL) {
        return r->rc;
    }
    out->is_spec_of_request =
        json_is_string(spec) && strcmp(json_string_value(spec), "request") == 0;
    if (out->is_spec_of_request) {
        return DR_OK;
    }
    if (!json_is_object(spec)) {
        return dr_fail(err, DR_INPUT, "range.spec: an object or \"request\" is needed");
    }
    char *text = dr_json_text(spec);
    out->spec = text == NULL ? NULL : dr_arena_strdup(a, text);
    dr_free(text);
    return out->spec == NULL ? dr_fail_nomem(err) : DR_OK;
}

static enum dr_code copy_names(const json_t *names, struct dr_arena *a, struct dr_range *out,
                               struct dr_err *err)
{
    for (size_t i = 0; i < json_array_size(names); i++) {
        const char *name = json_string_value(json_array_get(names, i));
        if (name == NULL || name[0] == '\0') {
            return dr_fail(err, DR_INPUT, "range.key: names of fields are needed");
        }
        out->key[i] = dr_arena_strdup(a, name);
        if (out->key[i] == NULL) {
            return dr_fail_nomem(err);
        }
        out->key_count++;
    }
    return DR_OK;
}

static enum dr_code read_texts(struct dr_jr *r, struct dr_arena *a, struct dr_range *out,
                               struct dr_err *err)
{
    const char *node = NULL;
    const char *collection = NULL;
    const char *access = NULL;
    const char *index = NULL;
    uint64_t epoch = 0;
    if (!dr_jr_string(r, "node", true, &node) ||
        !dr_jr_string(r, "collection", true, &collection) ||
        !dr_jr_string(r, "access", true, &access)) {
        return r->rc;
    }
    (void)dr_jr_string(r, "index", false, &index);
    (void)dr_jr_u64(r, "epoch", true, 0, INT64_MAX, &epoch);
    size_t found = 0;
    while (found < ACCESSES && strcmp(access_names[found], access) != 0) {
        found++;
    }
    if (found == ACCESSES) {
        return dr_fail(err, DR_INPUT, "range.access: \"%.32s\" is not known", access);
    }
    out->access = (enum dr_access)found;
    out->epoch = epoch;
    out->node = dr_arena_strdup(a, node);
    out->collection = dr_arena_strdup(a, collection);
    out->index = index == NULL ? NULL : dr_arena_strdup(a, index);
    if (out->node == NULL || out->collection == NULL || (index != NULL && out->index == NULL)) {
        return dr_fail_nomem(err);
    }
    return DR_OK;
}

enum dr_code dr_range_from_json(const json_t *j, struct dr_arena *a, struct dr_range *out,
                                struct dr_err *err)
{
    struct dr_jr r;
    const json_t *key = NULL;
    const json_t *from = NULL;
    const json_t *upto = NULL;
    const json_t *filter = NULL;
    *out = (struct dr_range){0};
    dr_jr_init(&r, j, "range", err);
    enum dr_code rc = r.rc == DR_OK ? read_texts(&r, a, out, err) : r.rc;
    if (rc != DR_OK) {
        return rc;
    }
    rc = read_spec(&r, a, out, err);
    if (rc != DR_OK) {
        return rc;
    }
    (void)dr_jr_array(&r, "key", false, DR_KEY_PARTS_MAX, &key);
    (void)dr_jr_array(&r, "from", false, DR_KEY_PARTS_MAX, &from);
    (void)dr_jr_array(&r, "upto", false, DR_KEY_PARTS_MAX, &upto);
    (void)dr_jr_object(&r, "filter", false, &filter);
    rc = dr_jr_finish(&r);
    if (rc == DR_OK && key != NULL) {
        rc = copy_names(key, a, out, err);
    }
    if (rc == DR_OK && from != NULL) {
        rc = dr_bound_from_json(from, a, &out->from, err);
    }
    if (rc == DR_OK && upto != NULL) {
        rc = dr_bound_from_json(upto, a, &out->upto, err);
    }
    if (rc == DR_OK && filter != NULL) {
        rc = dr_filter_parse(filter, a, &out->filter, err);
    }
    return rc;
}
