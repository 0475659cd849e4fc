/* SPDX-License-Identifier: Apache-2.0 */
/* BSON and drover's values: bounds of chunks, and filters turned into queries.
 *
 * A tagged value is its tag and a payload: as value.h says for ids, truth values, dates and
 * timestamps; length (4 bytes, big-endian), subtype and bytes for binaries; pattern, NUL and
 * options for regular expressions; the raw bytes for decimals, documents and arrays; the BSON type
 * and the raw bytes for the rest. */
#include <netdb.h>

#include <math.h>
#include <string.h>

#include "store/mongodb/mongodb_private.h"
#include "store/mongodb/number_private.h"

enum { OID_BYTES = 12, LONG_BYTES = 8, DECIMAL_BYTES = 16, BINARY_HEAD = 5 };

static void put_u64(uint8_t *to, uint64_t n)
{
    for (unsigned i = 0; i < LONG_BYTES; i++) {
        to[i] = (uint8_t)(n >> (8 * (LONG_BYTES - 1 - i)));
    }
}

static uint64_t get_u64(const uint8_t *from)
{
    uint64_t n = 0;
    for (unsigned i = 0; i < LONG_BYTES; i++) {
        n = n << 8 | from[i];
    }
    return n;
}

static enum dr_code make_tagged(struct dr_arena *a, enum dr_tag tag, const void *head,
                                size_t head_bytes, const void *data, size_t bytes,
                                struct dr_value *out, struct dr_err *err)
{
    uint8_t *to = dr_arena_alloc(a, 1 + head_bytes + bytes);
    if (to == NULL) {
        return dr_fail_nomem(err);
    }
    to[0] = (uint8_t)tag;
    if (head_bytes > 0) {
        memcpy(to + 1, head, head_bytes);
    }
    if (bytes > 0) {
        memcpy(to + 1 + head_bytes, data, bytes);
    }
    *out = (struct dr_value){.type = DR_V_TAGGED, .data = to, .len = 1 + head_bytes + bytes};
    return DR_OK;
}

/* Types whose bytes alone say everything once the tag says the type. */
static enum dr_code tag_raw(const bson_iter_t *it, struct dr_arena *a, enum dr_tag tag,
                            struct dr_value *out, struct dr_err *err)
{
    size_t bytes = 0;
    const uint8_t *raw = mg_value_bytes(it, &bytes);
    return make_tagged(a, tag, NULL, 0, raw, bytes, out, err);
}

static enum dr_code tag_other(const bson_iter_t *it, struct dr_arena *a, struct dr_value *out,
                              struct dr_err *err)
{
    size_t bytes = 0;
    uint8_t type = (uint8_t)bson_iter_type(it);
    const uint8_t *raw = mg_value_bytes(it, &bytes);
    return make_tagged(a, DR_TAG_OTHER, &type, 1, raw, bytes, out, err);
}

static enum dr_code tag_date(const bson_iter_t *it, struct dr_arena *a, struct dr_value *out,
                             struct dr_err *err)
{
    uint8_t bytes[LONG_BYTES];
    put_u64(bytes, (uint64_t)bson_iter_date_time(it) ^ UINT64_C(1) << 63);
    return make_tagged(a, DR_TAG_DATE, NULL, 0, bytes, sizeof bytes, out, err);
}

static enum dr_code tag_timestamp(const bson_iter_t *it, struct dr_arena *a, struct dr_value *out,
                                  struct dr_err *err)
{
    uint8_t bytes[LONG_BYTES];
    uint32_t seconds = 0;
    uint32_t counter = 0;
    bson_iter_timestamp(it, &seconds, &counter);
    put_u64(bytes, (uint64_t)seconds << 32 | counter);
    return make_tagged(a, DR_TAG_TIMESTAMP, NULL, 0, bytes, sizeof bytes, out, err);
}

static enum dr_code tag_binary(const bson_iter_t *it, struct dr_arena *a, struct dr_value *out,
                               struct dr_err *err)
{
    bson_subtype_t kind = BSON_SUBTYPE_BINARY;
    uint32_t n = 0;
    const uint8_t *data = NULL;
    bson_iter_binary(it, &kind, &n, &data);
    uint8_t head[BINARY_HEAD] = {(uint8_t)(n >> 24), (uint8_t)(n >> 16), (uint8_t)(n >> 8),
                                 (uint8_t)n, (uint8_t)kind};
    return make_tagged(a, DR_TAG_BINARY, head, sizeof head, data, n, out, err);
}

static enum dr_code copy_text(const bson_iter_t *it, struct dr_arena *a, struct dr_value *out,
                              struct dr_err *err)
{
    uint32_t bytes = 0;
    const char *text = bson_iter_utf8(it, &bytes);
    void *copy = dr_arena_memdup(a, text, bytes);
    if (copy == NULL) {
        return dr_fail_nomem(err);
    }
    *out = (struct dr_value){.type = DR_V_TEXT, .data = copy, .len = bytes};
    return DR_OK;
}

enum dr_code mg_value_from(const bson_iter_t *it, struct dr_arena *a, struct dr_value *out,
                           struct dr_err *err)
{
    *out = (struct dr_value){.type = DR_V_NULL};
    switch (bson_iter_type(it)) {
    case BSON_TYPE_NULL:
        return DR_OK;
    case BSON_TYPE_MINKEY:
        out->type = DR_V_MIN;
        return DR_OK;
    case BSON_TYPE_MAXKEY:
        out->type = DR_V_MAX;
        return DR_OK;
    case BSON_TYPE_INT32:
    case BSON_TYPE_INT64:
        *out = (struct dr_value){.type = DR_V_INT, .i = bson_iter_as_int64(it)};
        return DR_OK;
    case BSON_TYPE_DOUBLE:
        if (isnan(bson_iter_double(it))) {
            return tag_other(it, a, out, err);
        }
        *out = (struct dr_value){.type = DR_V_REAL, .r = bson_iter_double(it)};
        return DR_OK;
    case BSON_TYPE_UTF8:
        return copy_text(it, a, out, err);
    case BSON_TYPE_DECIMAL128:
        return tag_raw(it, a, DR_TAG_DECIMAL, out, err);
    case BSON_TYPE_DOCUMENT:
        return tag_raw(it, a, DR_TAG_OBJECT, out, err);
    case BSON_TYPE_ARRAY:
        return tag_raw(it, a, DR_TAG_ARRAY, out, err);
    case BSON_TYPE_BINARY:
        return tag_binary(it, a, out, err);
    case BSON_TYPE_OID:
        return tag_raw(it, a, DR_TAG_OBJECT_ID, out, err);
    case BSON_TYPE_BOOL:
        return tag_raw(it, a, DR_TAG_BOOL, out, err);
    case BSON_TYPE_DATE_TIME:
        return tag_date(it, a, out, err);
    case BSON_TYPE_TIMESTAMP:
        return tag_timestamp(it, a, out, err);
    case BSON_TYPE_REGEX:
        return tag_raw(it, a, DR_TAG_REGEX, out, err);
    case BSON_TYPE_EOD:
    case BSON_TYPE_UNDEFINED:
    case BSON_TYPE_DBPOINTER:
    case BSON_TYPE_CODE:
    case BSON_TYPE_SYMBOL:
    case BSON_TYPE_CODEWSCOPE:
        break;
    }
    return tag_other(it, a, out, err);
}

/* One element put together byte by byte and appended by the library, which checks it. */
static bool append_raw(bson_t *to, const char *field, uint8_t type, const uint8_t *raw,
                       size_t bytes)
{
    size_t total = 4 + 1 + 1 + bytes + 1; /* length, type, empty name, value, end */
    bson_t doc;
    bson_iter_t it;
    uint8_t *buffer = total > INT32_MAX ? NULL : dr_malloc(total);
    if (buffer == NULL) {
        return false;
    }
    for (unsigned i = 0; i < 4; i++) {
        buffer[i] = (uint8_t)(total >> (8 * i));
    }
    buffer[4] = type;
    buffer[5] = 0;
    if (bytes > 0) {
        memcpy(buffer + 6, raw, bytes);
    }
    buffer[total - 1] = 0;
    bool is_ok = bson_init_static(&doc, buffer, total) && bson_iter_init(&it, &doc) &&
                 bson_iter_next(&it) && bson_append_iter(to, field, -1, &it);
    dr_free(buffer);
    return is_ok;
}

static bool append_tagged(bson_t *to, const char *field, const uint8_t *data, size_t bytes)
{
    if (bytes == 0) {
        return false;
    }
    const uint8_t *at = data + 1;
    size_t n = bytes - 1;
    switch (data[0]) {
    case DR_TAG_DECIMAL:
        return n == DECIMAL_BYTES && append_raw(to, field, BSON_TYPE_DECIMAL128, at, n);
    case DR_TAG_OBJECT:
        return append_raw(to, field, BSON_TYPE_DOCUMENT, at, n);
    case DR_TAG_ARRAY:
        return append_raw(to, field, BSON_TYPE_ARRAY, at, n);
    case DR_TAG_BINARY:
        return n >= BINARY_HEAD &&
               bson_append_binary(to, field, -1, (bson_subtype_t)at[4], at + BINARY_HEAD,
                                  (uint32_t)(n - BINARY_HEAD));
    case DR_TAG_OBJECT_ID:
        return n == OID_BYTES && append_raw(to, field, BSON_TYPE_OID, at, n);
    case DR_TAG_BOOL:
        return n == 1 && bson_append_bool(to, field, -1, at[0] != 0);
    case DR_TAG_DATE:
        return n == LONG_BYTES &&
               bson_append_date_time(to, field, -1, (int64_t)(get_u64(at) ^ UINT64_C(1) << 63));
    case DR_TAG_TIMESTAMP:
        return n == LONG_BYTES &&
               bson_append_timestamp(to, field, -1, (uint32_t)(get_u64(at) >> 32),
                                     (uint32_t)get_u64(at));
    case DR_TAG_REGEX:
        return append_raw(to, field, BSON_TYPE_REGEX, at, n);
    case DR_TAG_OTHER:
        return n > 0 && append_raw(to, field, at[0], at + 1, n - 1);
    default: /* from a newer drover, or damaged */
        return false;
    }
}

bool mg_value_append(bson_t *to, const char *field, const struct dr_value *v)
{
    switch (v->type) {
    case DR_V_MIN:
        return bson_append_minkey(to, field, -1);
    case DR_V_NULL:
        return bson_append_null(to, field, -1);
    case DR_V_INT:
        return bson_append_int64(to, field, -1, v->i);
    case DR_V_REAL:
        return bson_append_double(to, field, -1, v->r);
    case DR_V_TEXT:
        return v->len <= INT32_MAX &&
               bson_append_utf8(to, field, -1, v->len == 0 ? "" : v->data, (int)v->len);
    case DR_V_BLOB:
        return v->len <= INT32_MAX &&
               bson_append_binary(to, field, -1, BSON_SUBTYPE_BINARY,
                                  v->len == 0 ? (const uint8_t *)"" : v->data, (uint32_t)v->len);
    case DR_V_MAX:
        return bson_append_maxkey(to, field, -1);
    case DR_V_TAGGED:
        return append_tagged(to, field, v->data, v->len);
    }
    return false;
}

enum dr_code mg_bound_from(const bson_t *doc, const struct mg_coll *c, struct dr_arena *a,
                           struct dr_bound *out, struct dr_err *err)
{
    enum dr_code rc = DR_OK;
    *out = (struct dr_bound){.parts = c->key_count};
    for (uint32_t i = 0; rc == DR_OK && i < c->key_count; i++) {
        bson_iter_t it;
        if (!bson_iter_init_find(&it, doc, c->key[i])) {
            return dr_fail(err, DR_STALE,
                           "%s: a chunk's bound has no field %s: the shard key is changing", c->ns,
                           c->key[i]);
        }
        rc = mg_value_from(&it, a, &out->part[i], err);
    }
    return rc;
}

bool mg_bound_to(const struct dr_bound *b, const struct mg_coll *c, bson_t *out)
{
    bool is_ok = true;
    for (uint32_t i = 0; is_ok && i < c->key_count; i++) {
        is_ok = i < b->parts ? mg_value_append(out, c->key[i], &b->part[i])
                             : bson_append_minkey(out, c->key[i], -1);
    }
    return is_ok;
}

/* By documents only: a shard key goes through no arrays. */
bool mg_find_path(const bson_t *doc, const char *path, bson_iter_t *out)
{
    bson_iter_t it;
    if (!bson_iter_init(&it, doc)) {
        return false;
    }
    for (;;) {
        const char *dot = strchr(path, '.');
        size_t bytes = dot == NULL ? strlen(path) : (size_t)(dot - path);
        if (!bson_iter_find_w_len(&it, path, (int)bytes)) {
            return false;
        }
        if (dot == NULL) {
            *out = it;
            return true;
        }
        bson_iter_t child;
        if (!BSON_ITER_HOLDS_DOCUMENT(&it) || !bson_iter_recurse(&it, &child)) {
            return false;
        }
        it = child;
        path = dot + 1;
    }
}

static bool append_list(bson_t *to, const char *field, const struct dr_term *t, bool with_null)
{
    bson_t list;
    bool is_ok = bson_append_array_begin(to, field, -1, &list);
    char number[16];
    const char *key = NULL;
    for (uint32_t i = 0; is_ok && i < t->value_count; i++) {
        (void)bson_uint32_to_string(i, &key, number, sizeof number);
        is_ok = mg_value_append(&list, key, &t->value[i]);
    }
    (void)bson_uint32_to_string(t->value_count, &key, number, sizeof number);
    is_ok = is_ok && (!with_null || bson_append_null(&list, key, -1));
    return is_ok && bson_append_array_end(to, &list);
}

/* Comparisons stay within a type here, so NULL and missing fields match none of them. */
static bool append_term(bson_t *to, const struct dr_term *t)
{
    switch (t->op) {
    case DR_F_EQ:
        return mg_value_append(to, "$eq", &t->value[0]);
    case DR_F_NE:
        return append_list(to, "$nin", t, true);
    case DR_F_LT:
        return mg_value_append(to, "$lt", &t->value[0]);
    case DR_F_LE:
        return mg_value_append(to, "$lte", &t->value[0]);
    case DR_F_GT:
        return mg_value_append(to, "$gt", &t->value[0]);
    case DR_F_GE:
        return mg_value_append(to, "$gte", &t->value[0]);
    case DR_F_IN:
        return append_list(to, "$in", t, false);
    case DR_F_IS_NULL:
        return bson_append_null(to, "$eq", -1);
    case DR_F_NOT_NULL:
        return bson_append_null(to, "$ne", -1);
    }
    return false;
}

static bool is_first_of_field(const struct dr_filter *f, uint32_t i)
{
    for (uint32_t k = 0; k < i; k++) {
        if (strcmp(f->term[k].field, f->term[i].field) == 0) {
            return false;
        }
    }
    return true;
}

/* NULL equals nothing in a neutral filter, and in a list a pattern would widen. */
static enum dr_code check_term(const struct dr_term *t, struct dr_err *err)
{
    if (t->field[0] == '$') {
        return dr_fail(err, DR_INPUT, "filter: \"%.64s\" is no field but an operator", t->field);
    }
    for (uint32_t i = 0; i < t->value_count; i++) {
        const struct dr_value *v = &t->value[i];
        bool is_pattern =
            v->type == DR_V_TAGGED && v->len > 0 && ((const uint8_t *)v->data)[0] == DR_TAG_REGEX;
        if (v->type == DR_V_NULL || v->type == DR_V_MIN || v->type == DR_V_MAX || is_pattern) {
            return dr_fail(err, DR_INPUT,
                           "filter: field %.128s is compared with a null, an end of the value "
                           "order or a pattern; use is_null or a plain value",
                           t->field);
        }
    }
    return DR_OK;
}

enum dr_code mg_query_from_filter(const struct dr_filter *f, bson_t **out, struct dr_err *err)
{
    bson_t *query = bson_new();
    enum dr_code rc = DR_OK;
    *out = NULL;
    for (uint32_t i = 0; rc == DR_OK && i < f->term_count; i++) {
        rc = check_term(&f->term[i], err);
        if (rc != DR_OK || !is_first_of_field(f, i)) {
            continue;
        }
        bson_t child;
        bool is_ok = bson_append_document_begin(query, f->term[i].field, -1, &child);
        for (uint32_t k = i; is_ok && k < f->term_count; k++) {
            if (strcmp(f->term[k].field, f->term[i].field) == 0) {
                is_ok = append_term(&child, &f->term[k]);
            }
        }
        is_ok = is_ok && bson_append_document_end(query, &child);
        if (!is_ok) {
            rc = dr_fail(err, DR_INPUT, "filter: field %.128s cannot be put into a query",
                         f->term[i].field);
        }
    }
    if (rc == DR_OK && bson_empty(query)) {
        rc = dr_fail(err, DR_REFUSED, "an empty filter matches all");
    }
    if (rc != DR_OK) {
        bson_destroy(query);
        return rc;
    }
    *out = query;
    return DR_OK;
}

/* "filter" of a request's text; *out NULL when it has none. */
static enum dr_code query_from_spec(const char *spec, bson_t **out, struct dr_err *err)
{
    json_t *job = NULL;
    bson_error_t e;
    *out = NULL;
    enum dr_code rc = dr_json_parse("job", spec, strlen(spec), &job, err);
    const json_t *filter = rc == DR_OK ? json_object_get(job, "filter") : NULL;
    if (filter == NULL || json_is_null(filter)) {
        json_decref(job);
        return rc;
    }
    if (!json_is_object(filter) || json_object_size(filter) == 0) {
        json_decref(job);
        return dr_fail(err, DR_REFUSED, "filter: an empty filter matches all");
    }
    char *text = dr_json_text_in_order(filter);
    *out = text == NULL ? NULL : bson_new_from_json((const uint8_t *)text, -1, &e);
    if (text == NULL) {
        rc = dr_fail_nomem(err);
    } else if (*out == NULL) {
        rc = dr_fail(err, DR_INPUT, "filter: no extended JSON of MongoDB: %.300s", e.message);
    }
    dr_free(text);
    json_decref(job);
    return rc;
}

static char *filter_text(const struct dr_range *r)
{
    if (r->filter == NULL) {
        return dr_asprintf("spec %s", r->spec);
    }
    json_t *j = dr_filter_to_json(r->filter);
    char *json = j == NULL ? NULL : dr_json_text(j);
    char *text = json == NULL ? NULL : dr_asprintf("filter %s", json);
    json_decref(j);
    dr_free(json);
    return text;
}

enum dr_code mg_filter_use(struct mg_store *s, const struct dr_range *r, const bson_t **query_out,
                           struct dr_err *err)
{
    struct mg_filter *f = &s->filter;
    *query_out = NULL;
    if (r->filter == NULL && r->spec == NULL) {
        return DR_OK;
    }
    char *text = filter_text(r);
    if (text == NULL) {
        return dr_fail_nomem(err);
    }
    if (f->text != NULL && strcmp(f->text, text) == 0) {
        dr_free(text);
        *query_out = f->query;
        return DR_OK;
    }
    bson_t *query = NULL;
    enum dr_code rc = r->filter != NULL ? mg_query_from_filter(r->filter, &query, err)
                                        : query_from_spec(r->spec, &query, err);
    if (rc != DR_OK) {
        dr_free(text);
        return rc;
    }
    dr_free(f->text);
    bson_destroy(f->query);
    *f = (struct mg_filter){.text = text, .query = query};
    *query_out = query;
    return DR_OK;
}
