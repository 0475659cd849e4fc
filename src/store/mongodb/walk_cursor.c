/* SPDX-License-Identifier: Apache-2.0 */
/* Positions of a walk: keys as the index has them, and their bytes in a dr_cursor.
 *
 * Bytes: version, kind, then for MG_AT_COUNT the count (8 bytes), for MG_AT_KEY the key's length
 * (4), the key (BSON), whether the list is short (1), its length (4) and 8 bytes for each id.
 * Integers are little-endian. A position that does not fit goes back to the start of the range:
 * items may come again then, none is skipped. */
#include <string.h>

#include "base/bytes.h"
#include "store/mongodb/erase_private.h"

enum { VERSION = 1, HEAD_BYTES = 2, KEY_BYTES_MAX = 3 * 1024 };

_Static_assert(HEAD_BYTES + 4 + KEY_BYTES_MAX + 5 + 8 * MG_IDS_MAX <= DR_CURSOR_BYTES_MAX,
               "the longest position fits a cursor");

void mg_position_fini(struct mg_position *p)
{
    if (p->key != NULL) {
        bson_destroy(p->key);
    }
    p->key = NULL;
    p->kind = MG_AT_START;
    p->id_count = 0;
    p->given = 0;
    p->is_list_short = false;
}

static enum dr_code fail_damaged(struct dr_err *err)
{
    return dr_fail(err, DR_CORRUPT,
                   "the saved position of a walk over MongoDB is damaged; run the step again from "
                   "its beginning");
}

static enum dr_code decode_key(const struct dr_cursor *from, struct mg_position *out,
                               struct dr_err *err)
{
    bson_t key;
    size_t at = HEAD_BYTES + 4;
    if (from->len < at) {
        return fail_damaged(err);
    }
    uint64_t key_bytes = dr_get_le(from->data + HEAD_BYTES, 4);
    if (key_bytes > KEY_BYTES_MAX || from->len < at + key_bytes + 5 ||
        !bson_init_static(&key, from->data + at, (size_t)key_bytes) ||
        !bson_validate(&key, BSON_VALIDATE_NONE, NULL) || bson_count_keys(&key) == 0) {
        return fail_damaged(err);
    }
    at += key_bytes;
    uint64_t id_count = dr_get_le(from->data + at + 1, 4);
    if (from->data[at] > 1 || id_count > MG_IDS_MAX || from->len != at + 5 + 8 * id_count) {
        return fail_damaged(err);
    }
    out->is_list_short = from->data[at] == 1;
    out->id_count = (uint32_t)id_count;
    for (uint32_t i = 0; i < out->id_count; i++) {
        out->id[i] = dr_get_le(from->data + at + 5 + 8 * (size_t)i, 8);
    }
    out->key = bson_copy(&key);
    out->kind = MG_AT_KEY;
    return DR_OK;
}

enum dr_code mg_position_decode(const struct dr_cursor *from, struct mg_position *out,
                                struct dr_err *err)
{
    mg_position_fini(out);
    if (from == NULL || from->len == 0) {
        return DR_OK;
    }
    if (from->len < HEAD_BYTES || from->len > DR_CURSOR_BYTES_MAX || from->data[0] != VERSION) {
        return fail_damaged(err);
    }
    switch (from->data[1]) {
    case MG_AT_KEY:
        return decode_key(from, out, err);
    case MG_AT_COUNT:
        if (from->len != HEAD_BYTES + 8) {
            return fail_damaged(err);
        }
        out->kind = MG_AT_COUNT;
        out->given = dr_get_le(from->data + HEAD_BYTES, 8);
        return DR_OK;
    default:
        return fail_damaged(err);
    }
}

static void encode_count(uint64_t given, struct dr_cursor *out)
{
    out->data[0] = VERSION;
    out->data[1] = MG_AT_COUNT;
    dr_put_le(out->data + HEAD_BYTES, given, 8);
    out->len = HEAD_BYTES + 8;
}

void mg_position_encode(const struct mg_position *p, struct dr_cursor *out)
{
    out->len = 0;
    if (p->kind == MG_AT_START) {
        return;
    }
    if (p->kind == MG_AT_COUNT || p->key->len > KEY_BYTES_MAX) {
        encode_count(p->given, out);
        return;
    }
    size_t at = HEAD_BYTES + 4;
    out->data[0] = VERSION;
    out->data[1] = MG_AT_KEY;
    dr_put_le(out->data + HEAD_BYTES, p->key->len, 4);
    memcpy(out->data + at, bson_get_data(p->key), p->key->len);
    at += p->key->len;
    out->data[at] = p->is_list_short ? 1 : 0;
    dr_put_le(out->data + at + 1, p->id_count, 4);
    at += 5;
    for (uint32_t i = 0; i < p->id_count; i++) {
        dr_put_le(out->data + at, p->id[i], 8);
        at += 8;
    }
    out->len = (uint32_t)at;
}

uint64_t mg_id_hash(const bson_t *doc)
{
    static const uint64_t basis = 14695981039346656037ULL, prime = 1099511628211ULL;
    bson_iter_t it;
    uint64_t hash = basis;
    if (!bson_iter_init_find(&it, doc, "_id")) {
        return hash;
    }
    /* The value's bytes lie between the end of its name and the next element. */
    const uint8_t *raw = it.raw;
    hash = (hash ^ raw[it.type]) * prime;
    for (uint32_t i = it.d1; i < it.next_off; i++) {
        hash = (hash ^ raw[i]) * prime;
    }
    return hash;
}

int mg_key_compare(const bson_t *a, const bson_t *b)
{
    bson_iter_t left, right;
    (void)bson_iter_init(&left, a);
    (void)bson_iter_init(&right, b);
    for (;;) {
        bool has_left = bson_iter_next(&left);
        bool has_right = bson_iter_next(&right);
        if (!has_left || !has_right) {
            return (int)has_left - (int)has_right;
        }
        int order = mg_compare(&left, &right);
        if (order != 0) {
            return order;
        }
    }
}

enum dr_code mg_position_jump(struct mg_position *p, const bson_t *key, struct dr_err *err)
{
    bson_t *copy = bson_copy(key);
    if (copy == NULL) {
        return dr_fail_nomem(err);
    }
    if (p->key != NULL) {
        bson_destroy(p->key);
    }
    p->key = copy;
    p->kind = MG_AT_KEY;
    p->id_count = 0;
    p->is_list_short = false;
    return DR_OK;
}

enum dr_code mg_position_move(struct mg_position *p, const bson_t *key, uint64_t id_hash,
                              struct dr_err *err)
{
    p->given++;
    if (p->kind != MG_AT_KEY || mg_key_compare(p->key, key) != 0) {
        enum dr_code rc = mg_position_jump(p, key, err);
        if (rc != DR_OK) {
            return rc;
        }
    }
    if (p->id_count == MG_IDS_MAX) {
        p->is_list_short = true;
        p->id_count = 0;
    }
    if (!p->is_list_short) {
        p->id[p->id_count++] = id_hash;
    }
    return DR_OK;
}

bool mg_position_has(const struct mg_position *p, const bson_t *key, uint64_t id_hash)
{
    if (p->kind != MG_AT_KEY || p->id_count == 0 || mg_key_compare(p->key, key) != 0) {
        return false;
    }
    for (uint32_t i = 0; i < p->id_count; i++) {
        if (p->id[i] == id_hash) {
            return true;
        }
    }
    return false;
}

bool mg_is_hashed(const bson_iter_t *pattern_part)
{
    return BSON_ITER_HOLDS_UTF8(pattern_part) &&
           strcmp(bson_iter_utf8(pattern_part, NULL), "hashed") == 0;
}

/* Is there an array anywhere on the path, its end included? */
static bool has_array(const bson_t *doc, const char *path)
{
    bson_iter_t it, child;
    const char *name = path;
    if (!bson_iter_init(&it, doc)) {
        return false;
    }
    for (;;) {
        const char *dot = strchr(name, '.');
        int length = dot == NULL ? (int)strlen(name) : (int)(dot - name);
        if (!bson_iter_find_w_len(&it, name, length)) {
            return false;
        }
        if (BSON_ITER_HOLDS_ARRAY(&it)) {
            return true;
        }
        if (dot == NULL || !bson_iter_recurse(&it, &child)) {
            return false;
        }
        it = child;
        name = dot + 1;
    }
}

bool mg_index_key(const bson_t *pattern, const bson_t *doc, bool is_flat, bson_t *out)
{
    bson_iter_t part, it;
    bool is_single = true;
    bson_init(out);
    (void)bson_iter_init(&part, pattern);
    while (bson_iter_next(&part)) {
        const char *path = bson_iter_key(&part);
        bool is_there =
            is_flat ? bson_iter_init_find(&it, doc, path) : mg_find_path(doc, path, &it);
        if (is_there ? BSON_ITER_HOLDS_ARRAY(&it) : !is_flat && has_array(doc, path)) {
            is_single = false;
        }
        if (mg_is_hashed(&part)) {
            (void)bson_append_int64(out, path, -1, mg_hash(is_there ? &it : NULL));
        } else if (is_there) {
            (void)bson_append_iter(out, path, -1, &it);
        } else {
            (void)bson_append_null(out, path, -1);
        }
    }
    return is_single;
}

/* MaxKey alone belongs to the last chunk, so an end of MaxKeys is no end at all. */
static bool is_open_end(const struct dr_bound *upto)
{
    for (uint32_t i = 0; i < upto->parts; i++) {
        if (upto->part[i].type != DR_V_MAX) {
            return false;
        }
    }
    return true;
}

enum dr_code mg_key_in_range(const struct mg_coll *c, const struct dr_range *r,
                             const bson_t *index_key, bool *is_in_out, struct dr_err *err)
{
    bson_t bound = BSON_INITIALIZER;
    *is_in_out = true;
    if (r->from.parts > 0) {
        if (!mg_bound_to(&r->from, c, &bound)) {
            bson_destroy(&bound);
            return dr_fail(err, DR_INPUT, "%s: the range's lower bound is none", c->ns);
        }
        *is_in_out = mg_key_compare(index_key, &bound) >= 0;
        bson_reinit(&bound);
    }
    if (*is_in_out && !is_open_end(&r->upto)) {
        if (!mg_bound_to(&r->upto, c, &bound)) {
            bson_destroy(&bound);
            return dr_fail(err, DR_INPUT, "%s: the range's upper bound is none", c->ns);
        }
        *is_in_out = mg_key_compare(index_key, &bound) < 0;
    }
    bson_destroy(&bound);
    return DR_OK;
}
