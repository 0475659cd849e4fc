/* SPDX-License-Identifier: Apache-2.0 */
/* Growing byte string, and small text helpers. A failed append sticks: check once at the end. */
#ifndef DR_BASE_STR_H
#define DR_BASE_STR_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct dr_str {
    char *data; /* NUL-terminated whenever it is not NULL */
    size_t len;
    size_t room;
    bool is_short; /* an append failed: memory was short */
};

void dr_str_init(struct dr_str *s);
void dr_str_fini(struct dr_str *s);
void dr_str_clear(struct dr_str *s); /* keeps the memory, forgets a failure */
void dr_str_add(struct dr_str *s, const char *text);
void dr_str_addn(struct dr_str *s, const void *data, size_t bytes);
void dr_str_addc(struct dr_str *s, char c);
void dr_str_addf(struct dr_str *s, const char *fmt, ...) DR_PRINTF(2, 3);
/* Percent-encode all but letters, digits and -._~ (RFC 3986). */
void dr_str_add_percent(struct dr_str *s, const char *text);
/* And back, in place: %40 -> @. False, with the text half changed, on a broken escape or an encoded
 * NUL. */
DR_MUST bool dr_percent_decode(char *text);
const char *dr_str_text(const struct dr_str *s); /* never NULL */
char *dr_str_take(struct dr_str *s);             /* caller frees with dr_free; NULL when short */

/* Shell-style match of `*` and `?` only, ASCII case-insensitive. */
bool dr_glob_match(const char *pattern, const char *text);
/* Parse a whole decimal string. False on empty, garbage or overflow. */
bool dr_parse_u64(const char *text, uint64_t *out);
bool dr_parse_i64(const char *text, int64_t *out);
/* "1,234,567" into buf; "1.4 GB"; "3h 02m 05s"; all return buf. */
char *dr_human_count(uint64_t n, char *buf, size_t buf_bytes);
char *dr_human_bytes(uint64_t n, char *buf, size_t buf_bytes);
char *dr_human_ms(uint64_t ms, char *buf, size_t buf_bytes);
/* "2h", "30m", "90s", "7d", "250ms" or plain seconds -> ms. False when it is none of these. */
bool dr_parse_duration_ms(const char *text, uint64_t *ms_out);
/* Copy with truncation, always terminated; buf_bytes > 0. */
void dr_copy_text(char *buf, size_t buf_bytes, const char *text);

#endif
