/* SPDX-License-Identifier: Apache-2.0 */
/* Owns the growing string, and text helpers that do not depend on the locale. No shared state. */
#include "base/str.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"

enum { STR_ROOM_FIRST = 64 };

/* Room for `more` bytes and the NUL; false and the failure sticks when memory is short. */
static bool grow_room(struct dr_str *s, size_t more)
{
    if (s->is_short) {
        return false;
    }
    if (more >= SIZE_MAX / 4 || s->len >= SIZE_MAX / 4) {
        s->is_short = true;
        return false;
    }
    size_t needed = s->len + more + 1;
    if (needed <= s->room) {
        return true;
    }

    size_t room = s->room == 0 ? STR_ROOM_FIRST : s->room;
    while (room < needed) {
        room *= 2;
    }
    char *data = dr_realloc(s->data, room);
    if (data == NULL) {
        s->is_short = true;
        return false;
    }
    s->data = data;
    s->room = room;
    return true;
}

void dr_str_init(struct dr_str *s)
{
    *s = (struct dr_str){0};
}

void dr_str_fini(struct dr_str *s)
{
    dr_free(s->data);
    dr_str_init(s);
}

void dr_str_clear(struct dr_str *s)
{
    s->len = 0;
    s->is_short = false;
    if (s->data != NULL) {
        s->data[0] = '\0';
    }
}

void dr_str_addn(struct dr_str *s, const void *data, size_t bytes)
{
    if (!grow_room(s, bytes)) {
        return;
    }
    if (bytes > 0) {
        memcpy(s->data + s->len, data, bytes);
    }
    s->len += bytes;
    s->data[s->len] = '\0';
}

void dr_str_add(struct dr_str *s, const char *text)
{
    dr_str_addn(s, text, strlen(text));
}

void dr_str_addc(struct dr_str *s, char c)
{
    dr_str_addn(s, &c, 1);
}

void dr_str_addf(struct dr_str *s, const char *fmt, ...)
{
    va_list args;
    va_list again;
    va_start(args, fmt);
    va_copy(again, args);
    int length = vsnprintf(NULL, 0, fmt, args);
    if (length < 0) {
        s->is_short = true;
    } else if (grow_room(s, (size_t)length)) {
        (void)vsnprintf(s->data + s->len, (size_t)length + 1, fmt, again);
        s->len += (size_t)length;
    }
    va_end(again);
    va_end(args);
}

void dr_str_add_percent(struct dr_str *s, const char *text)
{
    for (; *text != '\0'; text++) {
        unsigned char c = (unsigned char)*text;
        bool is_plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                        (c >= '0' && c <= '9') || (c != 0 && strchr("-._~", c) != NULL);
        if (is_plain) {
            dr_str_addc(s, (char)c);
        } else {
            dr_str_addf(s, "%%%02X", c);
        }
    }
}

static int hex_value(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

bool dr_percent_decode(char *text)
{
    char *to = text;
    for (const char *from = text; *from != '\0'; from++) {
        if (*from != '%') {
            *to++ = *from;
            continue;
        }
        int high = hex_value(from[1]);
        int low = high < 0 ? -1 : hex_value(from[2]);
        if (low < 0 || high * 16 + low == 0) {
            return false;
        }
        *to++ = (char)(high * 16 + low);
        from += 2;
    }
    *to = '\0';
    return true;
}

const char *dr_str_text(const struct dr_str *s)
{
    return s->data == NULL ? "" : s->data;
}

char *dr_str_take(struct dr_str *s)
{
    char *text = NULL;
    if (grow_room(s, 0)) {
        text = s->data;
        text[s->len] = '\0';
        s->data = NULL;
    }
    dr_str_fini(s);
    return text;
}

/* By hand, because tolower() follows the locale and a filter must mean the same everywhere. */
static char lower_ascii(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

bool dr_glob_match(const char *pattern, const char *text)
{
    /* Remembering only the last star is enough for this grammar and keeps the time at
     * O(pattern * text); the recursive form is exponential on "*a*a*a*b". */
    const char *after_star = NULL;
    const char *resume = NULL;
    while (*text != '\0') {
        if (*pattern == '*') {
            after_star = ++pattern;
            resume = text;
        } else if (*pattern != '\0' &&
                   (*pattern == '?' || lower_ascii(*pattern) == lower_ascii(*text))) {
            pattern++;
            text++;
        } else if (after_star != NULL) {
            pattern = after_star;
            text = ++resume;
        } else {
            return false;
        }
    }
    while (*pattern == '*') {
        pattern++;
    }
    return *pattern == '\0';
}

/* Reads digits up to the first other character, which *end_out points to. */
static bool read_digits(const char *text, uint64_t *out, const char **end_out)
{
    uint64_t value = 0;
    const char *at = text;
    for (; *at >= '0' && *at <= '9'; at++) {
        uint64_t digit = (uint64_t)(*at - '0');
        if (value > (UINT64_MAX - digit) / 10) {
            return false;
        }
        value = value * 10 + digit;
    }
    *out = value;
    *end_out = at;
    return at != text;
}

bool dr_parse_u64(const char *text, uint64_t *out)
{
    uint64_t value = 0;
    const char *end = NULL;
    if (text == NULL || !read_digits(text, &value, &end) || *end != '\0') {
        return false;
    }
    *out = value;
    return true;
}

bool dr_parse_i64(const char *text, int64_t *out)
{
    if (text == NULL) {
        return false;
    }
    bool is_negative = text[0] == '-';
    uint64_t size = 0;
    if (!dr_parse_u64(text + (is_negative ? 1 : 0), &size)) {
        return false;
    }
    if (size > (uint64_t)INT64_MAX + (is_negative ? 1U : 0U)) {
        return false;
    }
    if (!is_negative) {
        *out = (int64_t)size;
    } else {
        *out = size == 0 ? 0 : -(int64_t)(size - 1) - 1; /* INT64_MIN has no positive twin */
    }
    return true;
}

char *dr_human_count(uint64_t n, char *buf, size_t buf_bytes)
{
    assert(buf_bytes > 0);
    char digits[24];
    int length = snprintf(digits, sizeof digits, "%" PRIu64, n);
    size_t used = 0;
    for (int i = 0; i < length; i++) {
        if (i > 0 && (length - i) % 3 == 0 && used + 1 < buf_bytes) {
            buf[used++] = ',';
        }
        if (used + 1 < buf_bytes) {
            buf[used++] = digits[i];
        }
    }
    buf[used] = '\0';
    return buf;
}

char *dr_human_bytes(uint64_t n, char *buf, size_t buf_bytes)
{
    assert(buf_bytes > 0);
    static const char *const units[] = {"B", "kB", "MB", "GB", "TB", "PB", "EB"};
    if (n < 1000) {
        (void)snprintf(buf, buf_bytes, "%" PRIu64 " B", n);
        return buf;
    }
    size_t unit = 0;
    double value = (double)n;
    /* 999.95 would be printed as "1000.0", which belongs to the next unit. */
    while (value >= 999.95 && unit + 1 < sizeof units / sizeof units[0]) {
        value /= 1000.0;
        unit++;
    }
    (void)snprintf(buf, buf_bytes, "%.1f %s", value, units[unit]);
    return buf;
}

char *dr_human_ms(uint64_t ms, char *buf, size_t buf_bytes)
{
    assert(buf_bytes > 0);
    uint64_t all_s = ms / 1000;
    unsigned s = (unsigned)(all_s % 60);
    unsigned m = (unsigned)(all_s / 60 % 60);
    unsigned h = (unsigned)(all_s / 3600 % 24);
    uint64_t d = all_s / 86400;
    if (ms < 1000) {
        (void)snprintf(buf, buf_bytes, "%" PRIu64 "ms", ms);
    } else if (all_s < 60) {
        (void)snprintf(buf, buf_bytes, "%us", s);
    } else if (all_s < 3600) {
        (void)snprintf(buf, buf_bytes, "%um %02us", m, s);
    } else if (d == 0) {
        (void)snprintf(buf, buf_bytes, "%uh %02um %02us", h, m, s);
    } else {
        (void)snprintf(buf, buf_bytes, "%" PRIu64 "d %02uh %02um", d, h, m);
    }
    return buf;
}

bool dr_parse_duration_ms(const char *text, uint64_t *ms_out)
{
    static const struct {
        const char *unit;
        uint64_t ms;
    } units[] = {
        {"", 1000}, {"ms", 1}, {"s", 1000}, {"m", 60000}, {"h", 3600000}, {"d", 86400000},
    };
    uint64_t value = 0;
    const char *unit = NULL;
    if (text == NULL || !read_digits(text, &value, &unit)) {
        return false;
    }
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++) {
        if (strcmp(unit, units[i].unit) != 0) {
            continue;
        }
        if (value > UINT64_MAX / units[i].ms) {
            return false;
        }
        *ms_out = value * units[i].ms;
        return true;
    }
    return false;
}

void dr_copy_text(char *buf, size_t buf_bytes, const char *text)
{
    assert(buf_bytes > 0);
    size_t length = strnlen(text, buf_bytes - 1);
    memcpy(buf, text, length);
    buf[length] = '\0';
}
