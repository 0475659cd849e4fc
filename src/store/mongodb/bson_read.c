/* SPDX-License-Identifier: Apache-2.0 */
/* Small readers of replies: one field by its dotted path, with an answer for "not there". */
#include <netdb.h>

#include "store/mongodb/survey_private.h"

static bool find(const bson_t *doc, const char *path, bson_iter_t *out)
{
    bson_iter_t it;
    return bson_iter_init(&it, doc) && bson_iter_find_descendant(&it, path, out);
}

const char *mg_text(const bson_t *doc, const char *path)
{
    bson_iter_t it;
    return find(doc, path, &it) && BSON_ITER_HOLDS_UTF8(&it) ? bson_iter_utf8(&it, NULL) : "";
}

bool mg_is_true(const bson_t *doc, const char *path)
{
    bson_iter_t it;
    return find(doc, path, &it) && bson_iter_as_bool(&it);
}

bool mg_number(const bson_t *doc, const char *path, double *out)
{
    bson_iter_t it;
    if (!find(doc, path, &it) || !(BSON_ITER_HOLDS_NUMBER(&it) || BSON_ITER_HOLDS_BOOL(&it))) {
        return false;
    }
    *out = bson_iter_as_double(&it);
    return true;
}

bool mg_document(const bson_t *doc, const char *path, bson_t *out)
{
    bson_iter_t it;
    uint32_t bytes = 0;
    const uint8_t *data = NULL;
    if (!find(doc, path, &it)) {
        return false;
    }
    if (BSON_ITER_HOLDS_DOCUMENT(&it)) {
        bson_iter_document(&it, &bytes, &data);
    } else if (BSON_ITER_HOLDS_ARRAY(&it)) {
        bson_iter_array(&it, &bytes, &data);
    }
    return data != NULL && bson_init_static(out, data, bytes);
}
