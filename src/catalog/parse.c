/* SPDX-License-Identifier: Apache-2.0 */
/* Reading JSON on which peers must agree. The library's scanner does not always notice that memory
 * was short: it may call a sound text malformed, or read a name without some of its letters. On one
 * peer of several that would be another state than the others', so what was read is written again
 * and compared with the text, and whatever differs is read a second time. */
#include <string.h>

#include "catalog/catalog_private.h"

struct rest {
    const char *at;
    size_t left;
};

static int compare_piece(const char *piece, size_t bytes, void *arg)
{
    struct rest *rest = arg;
    if (bytes > rest->left || memcmp(rest->at, piece, bytes) != 0) {
        return -1;
    }
    rest->at += bytes;
    rest->left -= bytes;
    return 0;
}

/* Is the text exactly what dr_json_text makes of `j`? */
static bool is_text_of(const json_t *j, const char *text, size_t bytes)
{
    struct rest rest = {.at = text, .left = bytes};
    return json_dump_callback(j, compare_piece, &rest,
                              JSON_COMPACT | JSON_ENCODE_ANY | JSON_SORT_KEYS) == 0 &&
           rest.left == 0;
}

static bool is_short_of_memory(const json_error_t *error)
{
    return json_error_code(error) == json_error_out_of_memory || error->line < 0 ||
           error->text[0] == '\0';
}

enum dr_code dr_catalog_parse(const char *text, size_t bytes, json_t **out, struct dr_err *err)
{
    const size_t flags = JSON_REJECT_DUPLICATES | JSON_DECODE_ANY;
    json_error_t error;
    *out = json_loadb(text, bytes, flags, &error);
    if (*out != NULL && is_text_of(*out, text, bytes)) {
        return DR_OK;
    }
    if (*out == NULL && is_short_of_memory(&error)) {
        return dr_fail_nomem(err);
    }
    json_t *again = json_loadb(text, bytes, flags, &error);
    bool is_same = (*out == NULL && again == NULL && !is_short_of_memory(&error)) ||
                   (*out != NULL && again != NULL && json_equal(*out, again));
    if (is_same && *out != NULL) { /* sound, only written in another way */
        json_decref(again);
        return DR_OK;
    }
    json_decref(*out);
    json_decref(again);
    *out = NULL;
    return is_same ? dr_fail(err, DR_INPUT, "it is no JSON at byte %d", error.position)
                   : dr_fail_nomem(err);
}
