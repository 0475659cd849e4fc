/* SPDX-License-Identifier: Apache-2.0 */
/* Owns the limits on JSON that comes from outside and the wording of its mistakes. Texts from the
 * document are cut and cleaned before they enter a message. No state; any thread. */
#include "base/json.h"

#include <assert.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/mem.h"
#include "base/str.h"

enum { SHOWN_BYTES = 64, DISTANCE_MAX = 2, DISTANCE_KEY_BYTES_MAX = 48, KNOWN_TEXT_BYTES = 400 };

/* Refuses too deep nesting with its place. jansson has a limit of its own (2048), but the code that
 * walks a document recursively wants a smaller one. */
static enum dr_code check_depth(const char *name, const char *text, size_t bytes,
                                struct dr_err *err)
{
    unsigned depth = 0;
    unsigned line = 1;
    size_t line_start = 0;
    bool is_in_string = false;
    for (size_t i = 0; i < bytes; i++) {
        char c = text[i];
        if (c == '\n') {
            line++;
            line_start = i + 1;
        } else if (is_in_string) {
            if (c == '\\') {
                i++;
            } else if (c == '"') {
                is_in_string = false;
            }
        } else if (c == '"') {
            is_in_string = true;
        } else if (c == '{' || c == '[') {
            depth++;
            if (depth > DR_JSON_DEPTH_MAX) {
                return dr_fail(err, DR_INPUT, "%s:%u:%zu: nested deeper than %d levels", name, line,
                               i - line_start + 1, DR_JSON_DEPTH_MAX);
            }
        } else if ((c == '}' || c == ']') && depth > 0) {
            depth--;
        }
    }
    return DR_OK;
}

enum dr_code dr_json_parse(const char *name, const char *text, size_t bytes, json_t **out,
                           struct dr_err *err)
{
    return dr_json_parse_upto(name, text, bytes, DR_JSON_BYTES_MAX, out, err);
}

enum dr_code dr_json_parse_upto(const char *name, const char *text, size_t bytes, size_t bytes_max,
                                json_t **out, struct dr_err *err)
{
    *out = NULL;
    if (bytes > bytes_max) {
        return dr_fail(err, DR_INPUT, "%s: JSON text of %zu bytes; at most %zu are accepted", name,
                       bytes, bytes_max);
    }
    enum dr_code rc = check_depth(name, text, bytes, err);
    if (rc != DR_OK) {
        return rc;
    }

    json_error_t error;
    json_t *parsed = json_loadb(text, bytes, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &error);
    if (parsed != NULL) {
        *out = parsed;
        return DR_OK;
    }
    if (json_error_code(&error) == json_error_out_of_memory) {
        return dr_fail_nomem(err);
    }
    for (char *at = error.text; *at != '\0'; at++) { /* it quotes the document */
        if ((unsigned char)*at < ' ' || *at == 0x7f) {
            *at = ' ';
        }
    }
    return dr_fail(err, DR_INPUT, "%s:%d:%d: %s", name, error.line, error.column, error.text);
}

enum dr_code dr_json_load(const char *path, json_t **out, struct dr_err *err)
{
    *out = NULL;
    char *text = NULL;
    size_t bytes = 0;
    enum dr_code rc = dr_file_load(path, DR_JSON_BYTES_MAX, &text, &bytes, err);
    if (rc == DR_REFUSED) {
        return dr_fail(err, DR_INPUT, "%s: JSON file of more than %d bytes", path,
                       DR_JSON_BYTES_MAX);
    }
    if (rc != DR_OK) {
        return rc;
    }
    rc = dr_json_parse(path, text, bytes, out, err);
    dr_free(text);
    return rc;
}

static int append_piece(const char *piece, size_t bytes, void *arg)
{
    struct dr_str *s = arg;
    dr_str_addn(s, piece, bytes);
    return s->is_short ? -1 : 0;
}

static char *write_text(const json_t *j, size_t flags)
{
    struct dr_str s;
    dr_str_init(&s);
    /* Through a callback, so that the text is ours to free and a test can make it fail. */
    if (json_dump_callback(j, append_piece, &s, JSON_COMPACT | JSON_ENCODE_ANY | flags) != 0) {
        dr_str_fini(&s);
        return NULL;
    }
    return dr_str_take(&s);
}

char *dr_json_text(const json_t *j)
{
    return write_text(j, JSON_SORT_KEYS);
}

char *dr_json_text_in_order(const json_t *j)
{
    return write_text(j, JSON_PRESERVE_ORDER);
}

/* A key from the document, safe to print: cut at a character's border, no control characters. */
static const char *show_text(const char *text, char *buf, size_t buf_bytes)
{
    dr_copy_text(buf, buf_bytes, text);
    size_t length = strlen(buf);
    if (text[length] != '\0') {
        while (length > 0 && ((unsigned char)text[length] & 0xc0) == 0x80) {
            length--;
        }
        buf[length] = '\0';
    }
    for (char *at = buf; *at != '\0'; at++) {
        if ((unsigned char)*at < ' ' || *at == 0x7f || *at == '"') {
            *at = '?';
        }
    }
    return buf;
}

static const char *type_name(const json_t *j)
{
    switch (json_typeof(j)) {
    case JSON_OBJECT:
        return "object";
    case JSON_ARRAY:
        return "array";
    case JSON_STRING:
        return "string";
    case JSON_INTEGER:
        return "whole number";
    case JSON_REAL:
        return "number with a fraction";
    case JSON_TRUE:
    case JSON_FALSE:
        return "true or false";
    case JSON_NULL:
        return "null";
    }
    return "nothing";
}

/* "string", or the number itself when the type is right and only the value is not. */
static const char *describe(const json_t *j, char *buf, size_t buf_bytes)
{
    if (json_is_integer(j)) {
        (void)snprintf(buf, buf_bytes, "%" JSON_INTEGER_FORMAT, json_integer_value(j));
    } else if (json_is_real(j)) {
        (void)snprintf(buf, buf_bytes, "%g", json_real_value(j));
    } else {
        dr_copy_text(buf, buf_bytes, type_name(j));
    }
    return buf;
}

static void refuse_value(struct dr_jr *r, const char *key, const char *expected,
                         const json_t *found)
{
    char text[SHOWN_BYTES];
    r->rc = dr_fail(r->err, DR_INPUT, "%s.%s: expected %s, found %s", r->path, key, expected,
                    describe(found, text, sizeof text));
}

void dr_jr_init(struct dr_jr *r, const json_t *j, const char *path, struct dr_err *err)
{
    *r = (struct dr_jr){.object = j, .path = path, .err = err, .rc = DR_OK};
    if (!json_is_object(j)) {
        r->object = NULL;
        r->rc = dr_fail(err, DR_INPUT, "%s: expected an object, found %s", path,
                        j == NULL ? "nothing" : type_name(j));
    }
}

/* Levenshtein distance; keys longer than the table are never "near". */
static size_t edit_distance(const char *a, const char *b)
{
    size_t a_len = strlen(a);
    size_t b_len = strlen(b);
    if (a_len > DISTANCE_KEY_BYTES_MAX || b_len > DISTANCE_KEY_BYTES_MAX) {
        return SIZE_MAX;
    }
    size_t row[DISTANCE_KEY_BYTES_MAX + 1];
    for (size_t j = 0; j <= b_len; j++) {
        row[j] = j;
    }
    for (size_t i = 1; i <= a_len; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= b_len; j++) {
            size_t replace = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
            size_t remove_or_add = (row[j] < row[j - 1] ? row[j] : row[j - 1]) + 1;
            diagonal = row[j];
            row[j] = replace < remove_or_add ? replace : remove_or_add;
        }
    }
    return row[b_len];
}

/* A key is missing: most likely it stands there misspelt, which helps more to know. */
static void refuse_missing(struct dr_jr *r, const char *key)
{
    json_t *object = (json_t *)r->object;
    for (void *at = json_object_iter(object); at != NULL; at = json_object_iter_next(object, at)) {
        const char *other = json_object_iter_key(at);
        size_t distance = edit_distance(other, key);
        if (distance <= DISTANCE_MAX && distance < strlen(key)) {
            char shown[SHOWN_BYTES];
            r->rc = dr_fail(r->err, DR_INPUT, "%s: unknown key \"%s\" (did you mean \"%s\"?)",
                            r->path, show_text(other, shown, sizeof shown), key);
            return;
        }
    }
    r->rc = dr_fail(r->err, DR_INPUT, "%s: key \"%s\" is missing", r->path, key);
}

/* Note the key as known and look it up; NULL when absent or when a mistake was made before. */
static const json_t *get_value(struct dr_jr *r, const char *key, bool is_required)
{
    if (r->rc != DR_OK) {
        return NULL;
    }
    assert(r->known_count < DR_JSON_KEYS_MAX);
    r->known[r->known_count++] = key;
    const json_t *value = json_object_get(r->object, key);
    if (value == NULL && is_required) {
        refuse_missing(r, key);
    }
    return value;
}

bool dr_jr_any(struct dr_jr *r, const char *key, bool is_required, const json_t **out)
{
    const json_t *value = get_value(r, key, is_required);
    if (value == NULL) {
        return false;
    }
    *out = value;
    return true;
}

bool dr_jr_string(struct dr_jr *r, const char *key, bool is_required, const char **out)
{
    const json_t *value = get_value(r, key, is_required);
    if (value == NULL) {
        return false;
    }
    if (!json_is_string(value)) {
        refuse_value(r, key, "a string", value);
        return false;
    }
    *out = json_string_value(value);
    return true;
}

bool dr_jr_u64(struct dr_jr *r, const char *key, bool is_required, uint64_t min, uint64_t max,
               uint64_t *out)
{
    const json_t *value = get_value(r, key, is_required);
    if (value == NULL) {
        return false;
    }
    json_int_t number = json_integer_value(value);
    if (!json_is_integer(value) || number < 0 || (uint64_t)number < min || (uint64_t)number > max) {
        char expected[96];
        (void)snprintf(expected, sizeof expected, "a whole number from %" PRIu64 " to %" PRIu64,
                       min, max);
        refuse_value(r, key, expected, value);
        return false;
    }
    *out = (uint64_t)number;
    return true;
}

bool dr_jr_i64(struct dr_jr *r, const char *key, bool is_required, int64_t min, int64_t max,
               int64_t *out)
{
    const json_t *value = get_value(r, key, is_required);
    if (value == NULL) {
        return false;
    }
    json_int_t number = json_integer_value(value);
    if (!json_is_integer(value) || number < min || number > max) {
        char expected[96];
        (void)snprintf(expected, sizeof expected, "a whole number from %" PRId64 " to %" PRId64,
                       min, max);
        refuse_value(r, key, expected, value);
        return false;
    }
    *out = number;
    return true;
}

bool dr_jr_real(struct dr_jr *r, const char *key, bool is_required, double min, double max,
                double *out)
{
    const json_t *value = get_value(r, key, is_required);
    if (value == NULL) {
        return false;
    }
    double number = json_number_value(value);
    if (!json_is_number(value) || !isfinite(number) || number < min || number > max) {
        char expected[96];
        (void)snprintf(expected, sizeof expected, "a number from %g to %g", min, max);
        refuse_value(r, key, expected, value);
        return false;
    }
    *out = number;
    return true;
}

bool dr_jr_bool(struct dr_jr *r, const char *key, bool is_required, bool *out)
{
    const json_t *value = get_value(r, key, is_required);
    if (value == NULL) {
        return false;
    }
    if (!json_is_boolean(value)) {
        refuse_value(r, key, "true or false", value);
        return false;
    }
    *out = json_is_true(value);
    return true;
}

bool dr_jr_object(struct dr_jr *r, const char *key, bool is_required, const json_t **out)
{
    const json_t *value = get_value(r, key, is_required);
    if (value == NULL) {
        return false;
    }
    if (!json_is_object(value)) {
        refuse_value(r, key, "an object", value);
        return false;
    }
    *out = value;
    return true;
}

bool dr_jr_array(struct dr_jr *r, const char *key, bool is_required, size_t items_max,
                 const json_t **out)
{
    const json_t *value = get_value(r, key, is_required);
    if (value == NULL) {
        return false;
    }
    if (!json_is_array(value)) {
        refuse_value(r, key, "an array", value);
        return false;
    }
    if (json_array_size(value) > items_max) {
        r->rc = dr_fail(r->err, DR_INPUT, "%s.%s: expected at most %zu items, found %zu", r->path,
                        key, items_max, json_array_size(value));
        return false;
    }
    *out = value;
    return true;
}

bool dr_jr_duration(struct dr_jr *r, const char *key, bool is_required, uint64_t *ms_out)
{
    const json_t *value = get_value(r, key, is_required);
    if (value == NULL) {
        return false;
    }
    const double seconds_max = 1e12; /* 31,000 years: keeps the conversion below exact */
    if (json_is_string(value)) {
        if (dr_parse_duration_ms(json_string_value(value), ms_out)) {
            return true;
        }
        char text[SHOWN_BYTES];
        r->rc = dr_fail(r->err, DR_INPUT,
                        "%s.%s: expected a duration such as \"90s\", \"30m\", \"2h\" or a number "
                        "of seconds, found \"%s\"",
                        r->path, key, show_text(json_string_value(value), text, sizeof text));
        return false;
    }
    double seconds = json_number_value(value);
    if (!json_is_number(value) || !(seconds >= 0) || seconds > seconds_max) {
        refuse_value(r, key, "a duration such as \"90s\", \"30m\", \"2h\" or a number of seconds",
                     value);
        return false;
    }
    *ms_out = (uint64_t)(seconds * 1000.0 + 0.5);
    return true;
}

/* The known key most like `key`, or NULL. A distance as long as the key would match anything. */
static const char *find_nearest(const struct dr_jr *r, const char *key)
{
    const char *nearest = NULL;
    size_t best = DISTANCE_MAX + 1;
    for (unsigned i = 0; i < r->known_count; i++) {
        size_t distance = edit_distance(key, r->known[i]);
        if (distance < best && distance < strlen(r->known[i])) {
            best = distance;
            nearest = r->known[i];
        }
    }
    return nearest;
}

static bool is_known(const struct dr_jr *r, const char *key)
{
    for (unsigned i = 0; i < r->known_count; i++) {
        if (strcmp(r->known[i], key) == 0) {
            return true;
        }
    }
    return false;
}

static void list_known(const struct dr_jr *r, char *buf, size_t buf_bytes)
{
    size_t used = 0;
    buf[0] = '\0';
    for (unsigned i = 0; i < r->known_count && used < buf_bytes; i++) {
        int length =
            snprintf(buf + used, buf_bytes - used, "%s%s", i == 0 ? "" : ", ", r->known[i]);
        used += length > 0 ? (size_t)length : 0;
    }
}

enum dr_code dr_jr_finish(struct dr_jr *r)
{
    if (r->rc != DR_OK) {
        return r->rc;
    }
    /* jansson's iterator wants a pointer to non-const, but only reads through it. */
    json_t *object = (json_t *)r->object;
    for (void *at = json_object_iter(object); at != NULL; at = json_object_iter_next(object, at)) {
        const char *key = json_object_iter_key(at);
        if (is_known(r, key)) {
            continue;
        }
        char shown[SHOWN_BYTES];
        (void)show_text(key, shown, sizeof shown);
        const char *nearest = find_nearest(r, key);
        if (nearest != NULL) {
            r->rc = dr_fail(r->err, DR_INPUT, "%s: unknown key \"%s\" (did you mean \"%s\"?)",
                            r->path, shown, nearest);
        } else {
            char known[KNOWN_TEXT_BYTES];
            list_known(r, known, sizeof known);
            r->rc = dr_fail(r->err, DR_INPUT, "%s: unknown key \"%s\" (known: %s)", r->path, shown,
                            known);
        }
        break;
    }
    return r->rc;
}
