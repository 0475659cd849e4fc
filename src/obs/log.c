/* SPDX-License-Identifier: Apache-2.0 */
/* Owns the form of a log line and the counting of repeats. All state is in struct dr_log, under its
 * mutex; a line is built in a fixed buffer there, and a field either fits whole or is left out, so
 * that a JSON line is always valid. */
#include "obs/log.h"

#include <assert.h>
#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "base/mem.h"

enum {
    RECENT_MAX = 16,
    RECENT_BYTES = 1024, /* longer events are written each time */
    TAIL_BYTES = 64,     /* kept free for "truncated", "repeated" and the end of the line */
    NUMBER_BYTES = 400,  /* %f of the largest double has 309 digits */
    WALL_BYTES = 40,
    EVENT_BYTES_MAX = 256, /* must fit into the line even when each byte is escaped */
};

struct text_buf {
    char *data;
    size_t room;
    size_t len;
    bool is_full; /* something did not fit; `len` is then not a whole field */
};

/* An event written lately, whose repeats are counted. */
struct recent {
    bool is_used;
    enum dr_log_level level;
    dr_mono_ms since;
    uint64_t repeats;
    size_t len;
    char text[RECENT_BYTES];
};

struct dr_log {
    pthread_mutex_t lock;
    struct dr_log_config config;
    struct recent recent[RECENT_MAX];
    char body[DR_LOG_LINE_BYTES_MAX];
    char line[DR_LOG_LINE_BYTES_MAX + 2 * TAIL_BYTES];
};

/* One conversion of the format. */
enum value_kind { VALUE_TEXT, VALUE_SIGNED, VALUE_UNSIGNED, VALUE_HEX, VALUE_REAL };

struct value {
    enum value_kind kind;
    const char *text;
    size_t text_len;
    long long number;
    unsigned long long big;
    double real;
    char real_form; /* f, g, e */
    int precision;
    char one[2];
};

static void put_bytes(struct text_buf *b, const char *data, size_t bytes)
{
    if (b->is_full || bytes > b->room - b->len) {
        b->is_full = true;
        return;
    }
    if (bytes > 0) {
        memcpy(b->data + b->len, data, bytes);
        b->len += bytes;
    }
}

static void put_text(struct text_buf *b, const char *text)
{
    put_bytes(b, text, strlen(text));
}

/* Length of the valid UTF-8 sequence at `s`, or 0: a broken one would break the reader of JSON. */
static size_t utf8_length(const unsigned char *s, size_t left)
{
    if (s[0] < 0x80) {
        return 1;
    }
    size_t length = s[0] >= 0xc2 && s[0] < 0xe0   ? 2
                    : s[0] >= 0xe0 && s[0] < 0xf0 ? 3
                    : s[0] >= 0xf0 && s[0] < 0xf5 ? 4
                                                  : 0;
    if (length == 0 || length > left) {
        return 0;
    }
    for (size_t i = 1; i < length; i++) {
        if ((s[i] & 0xc0) != 0x80) {
            return 0;
        }
    }
    bool is_overlong = (s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xf0 && s[1] < 0x90);
    bool is_surrogate = s[0] == 0xed && s[1] >= 0xa0;
    bool is_too_big = s[0] == 0xf4 && s[1] >= 0x90;
    return is_overlong || is_surrogate || is_too_big ? 0 : length;
}

/* Escaped as inside a JSON string; used for both forms, so that a value cannot forge a line. */
static void put_escaped(struct text_buf *b, const char *text, size_t bytes)
{
    const unsigned char *s = (const unsigned char *)text;
    size_t i = 0;
    while (i < bytes) {
        size_t length = utf8_length(s + i, bytes - i);
        if (length == 0) {
            put_text(b, "\\ufffd");
            i++;
            continue;
        }
        if (s[i] == '"' || s[i] == '\\') {
            char pair[2] = {'\\', (char)s[i]};
            put_bytes(b, pair, 2);
        } else if (s[i] == '\n') {
            put_text(b, "\\n");
        } else if (s[i] == '\t') {
            put_text(b, "\\t");
        } else if (s[i] < 0x20 || s[i] == 0x7f) {
            char code[8];
            (void)snprintf(code, sizeof code, "\\u%04x", s[i]);
            put_text(b, code);
        } else {
            put_bytes(b, text + i, length);
        }
        i += length;
    }
}

static void put_quoted(struct text_buf *b, const char *text, size_t bytes)
{
    put_text(b, "\"");
    put_escaped(b, text, bytes);
    put_text(b, "\"");
}

/* A bare word can be cut out of the line by a script; anything else is quoted. */
static bool is_bare_word(const char *text, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++) {
        unsigned char c = (unsigned char)text[i];
        if (c <= ' ' || c == '"' || c == '=' || c == '\\' || c == 0x7f) {
            return false;
        }
        size_t length = utf8_length((const unsigned char *)text + i, bytes - i);
        if (length == 0) {
            return false;
        }
        i += length - 1;
    }
    return bytes > 0;
}

static void put_number(struct text_buf *b, const struct value *v, bool is_json)
{
    char text[NUMBER_BYTES];
    if (v->kind == VALUE_SIGNED) {
        (void)snprintf(text, sizeof text, "%lld", v->number);
    } else if (v->kind == VALUE_UNSIGNED) {
        (void)snprintf(text, sizeof text, "%llu", v->big);
    } else if (v->kind == VALUE_HEX) {
        (void)snprintf(text, sizeof text, is_json ? "\"%llx\"" : "%llx", v->big);
    } else if (!isfinite(v->real)) {
        (void)snprintf(text, sizeof text, "%s", is_json ? "null" : "unknown");
    } else if (v->real_form == 'f') {
        (void)snprintf(text, sizeof text, "%.*f", v->precision, v->real);
    } else if (v->real_form == 'e') {
        (void)snprintf(text, sizeof text, "%.*e", v->precision, v->real);
    } else {
        (void)snprintf(text, sizeof text, "%.*g", v->precision, v->real);
    }
    put_text(b, text);
}

/* Whole field or nothing. */
static void put_field(struct text_buf *b, const char *key, size_t key_len, const struct value *v,
                      bool is_json)
{
    if (b->is_full) {
        return;
    }
    size_t before = b->len;
    if (is_json) {
        put_text(b, ",");
        put_quoted(b, key, key_len);
        put_text(b, ":");
    } else {
        put_text(b, " ");
        put_escaped(b, key, key_len);
        put_text(b, "=");
    }
    if (v->kind != VALUE_TEXT) {
        put_number(b, v, is_json);
    } else if (!is_json && is_bare_word(v->text, v->text_len)) {
        put_bytes(b, v->text, v->text_len);
    } else {
        put_quoted(b, v->text, v->text_len);
    }
    if (b->is_full) {
        b->len = before;
    }
}

static void set_text(struct value *v, const char *text, size_t bytes)
{
    v->kind = VALUE_TEXT;
    v->text = text;
    v->text_len = bytes;
    /* Cut before, not inside, a character. */
    if (v->text_len > DR_LOG_VALUE_BYTES_MAX) {
        v->text_len = DR_LOG_VALUE_BYTES_MAX;
        while (v->text_len > 0 && ((unsigned char)text[v->text_len] & 0xc0) == 0x80) {
            v->text_len--;
        }
    }
}

/* The argument at the length the format names: 'h' stands for int (h and hh are promoted). */
static long long take_signed(char size, va_list *args)
{
    switch (size) {
    case 'l':
        return va_arg(*args, long);
    case 'L':
        return va_arg(*args, long long);
    default:
        return va_arg(*args, int);
    }
}

static unsigned long long take_unsigned(char size, va_list *args)
{
    switch (size) {
    case 'l':
        return va_arg(*args, unsigned long);
    case 'L':
        return va_arg(*args, unsigned long long);
    default:
        return va_arg(*args, unsigned);
    }
}

_Static_assert(sizeof(size_t) == sizeof(long) && sizeof(intmax_t) == sizeof(long),
               "read_size() takes z and j for l");

/* Reads "h", "hh", "l", "ll", "z", "j" and tells it in one letter, 'L' for "ll", 0 for none. */
static char read_size(const char **at)
{
    char size = 0;
    if (strncmp(*at, "ll", 2) == 0) {
        size = 'L';
        *at += 2;
    } else if (strncmp(*at, "hh", 2) == 0) {
        size = 'h';
        *at += 2;
    } else if (**at == 'l' || **at == 'h' || **at == 'z' || **at == 'j') {
        size = **at == 'h' ? 'h' : 'l';
        *at += 1;
    }
    return size;
}

/* Reads ".3" or ".*"; -1 when there is none. */
static int read_precision(const char **at, va_list *args)
{
    if (**at != '.') {
        return -1;
    }
    *at += 1;
    if (**at == '*') {
        *at += 1;
        return va_arg(*args, int);
    }
    int precision = 0;
    while (**at >= '0' && **at <= '9') {
        precision = precision * 10 + (**at - '0');
        *at += 1;
        assert(precision < 1000);
    }
    return precision;
}

/* Takes one argument as `spec` (just behind the '%') says; returns the rest of the format. */
static const char *take_value(const char *spec, va_list *args, struct value *v)
{
    *v = (struct value){0};
    while (*spec != '\0' && strchr("-+ #0123456789", *spec) != NULL) {
        spec++; /* widths and flags are for tables, not for fields */
    }
    int precision = read_precision(&spec, args);
    char size = read_size(&spec);
    switch (*spec) {
    case 'd':
    case 'i':
        v->kind = VALUE_SIGNED;
        v->number = take_signed(size, args);
        break;
    case 'u':
    case 'x':
    case 'X':
        v->kind = *spec == 'u' ? VALUE_UNSIGNED : VALUE_HEX;
        v->big = take_unsigned(size, args);
        break;
    case 'f':
    case 'g':
    case 'e':
        v->kind = VALUE_REAL;
        v->real = va_arg(*args, double);
        v->real_form = *spec;
        v->precision = precision < 0 ? 6 : precision > 30 ? 30 : precision;
        break;
    case 'c':
        v->one[0] = (char)va_arg(*args, int);
        set_text(v, v->one, 1);
        break;
    case 's': {
        const char *text = va_arg(*args, const char *);
        text = text == NULL ? "-" : text;
        set_text(v, text, precision < 0 ? strlen(text) : strnlen(text, (size_t)precision));
        break;
    }
    default:
        assert(*spec == 's'); /* a conversion that dr_log does not know */
        break;
    }
    return spec + 1;
}

static void put_pairs(struct text_buf *b, const char *pairs, va_list *args, bool is_json)
{
    const char *at = pairs + strspn(pairs, " \t\n");
    while (*at != '\0') {
        size_t key_len = strcspn(at, "= \t\n");
        assert(key_len > 0 && at[key_len] == '=');
        const char *key = at;
        at += key_len + 1;
        struct value v = {0};
        if (*at == '%') {
            at = take_value(at + 1, args, &v);
            assert(*at == '\0' || strchr(" \t\n", *at) != NULL);
        } else {
            size_t word_len = strcspn(at, " \t\n%");
            assert(at[word_len] != '%');
            set_text(&v, at, word_len);
            at += word_len;
        }
        put_field(b, key, key_len, &v, is_json);
        at += strspn(at, " \t\n");
    }
}

static void put_event(struct text_buf *b, const char *event, const struct dr_log_config *config)
{
    size_t bytes = strnlen(event, EVENT_BYTES_MAX);
    if (config->is_json) {
        put_text(b, config->is_cloud ? ",\"message\":" : ",\"event\":");
        put_quoted(b, event, bytes);
    } else {
        put_text(b, " ");
        put_escaped(b, event, bytes);
    }
}

/* A log that cannot be written has nobody to tell: the line is dropped. */
static void write_line(int fd, const char *line, size_t bytes)
{
    while (bytes > 0) {
        ssize_t written = write(fd, line, bytes);
        if (written < 0 && errno == EINTR) {
            continue;
        }
        if (written <= 0) {
            return;
        }
        line += written;
        bytes -= (size_t)written;
    }
}

static const char *severity_of(enum dr_log_level level)
{
    switch (level) {
    case DR_LOG_ERROR:
        return "ERROR";
    case DR_LOG_WARN:
        return "WARNING";
    case DR_LOG_INFO:
        return "INFO";
    case DR_LOG_DEBUG:
        return "DEBUG";
    }
    return "DEFAULT";
}

/* Head, `body`, and how often it was repeated when that is not 0. */
static void emit(struct dr_log *l, enum dr_log_level level, const char *body, size_t body_len,
                 uint64_t repeats)
{
    char wall[WALL_BYTES];
    dr_wall_ms now =
        l->config.wall_now != NULL ? l->config.wall_now(l->config.clock_arg) : dr_wall_now();
    (void)dr_wall_text(now, wall, sizeof wall);

    char head[2 * TAIL_BYTES];
    char tail[TAIL_BYTES] = "";
    if (l->config.is_json) {
        (void)snprintf(head, sizeof head,
                       l->config.is_cloud ? "{\"time\":\"%s\",\"severity\":\"%s\""
                                          : "{\"at\":\"%s\",\"level\":\"%s\"",
                       wall, l->config.is_cloud ? severity_of(level) : dr_log_level_name(level));
        if (repeats > 0) {
            (void)snprintf(tail, sizeof tail, ",\"repeated\":%llu", (unsigned long long)repeats);
        }
    } else {
        (void)snprintf(head, sizeof head, "%s %-5s", wall, dr_log_level_name(level));
        if (repeats > 0) {
            (void)snprintf(tail, sizeof tail, " repeated=%llu", (unsigned long long)repeats);
        }
    }
    struct text_buf line = {.data = l->line, .room = sizeof l->line};
    put_text(&line, head);
    put_bytes(&line, body, body_len);
    put_text(&line, tail);
    put_text(&line, l->config.is_json ? "}\n" : "\n");
    assert(!line.is_full);
    write_line(l->config.fd, line.data, line.len);
}

static dr_mono_ms mono_now(const struct dr_log *l)
{
    return l->config.mono_now != NULL ? l->config.mono_now(l->config.clock_arg) : dr_mono_now();
}

static void say_repeats(struct dr_log *l, struct recent *r)
{
    if (r->repeats > 0) {
        emit(l, r->level, r->text, r->len, r->repeats);
    }
    r->is_used = false;
    r->repeats = 0;
}

static void close_windows(struct dr_log *l, dr_mono_ms now)
{
    for (unsigned i = 0; i < RECENT_MAX; i++) {
        struct recent *r = &l->recent[i];
        if (r->is_used && now - r->since >= DR_LOG_REPEAT_MS) {
            say_repeats(l, r);
        }
    }
}

static struct recent *find_recent(struct dr_log *l, enum dr_log_level level, const char *body,
                                  size_t body_len)
{
    for (unsigned i = 0; i < RECENT_MAX; i++) {
        struct recent *r = &l->recent[i];
        if (r->is_used && r->level == level && r->len == body_len &&
            memcmp(r->text, body, body_len) == 0) {
            return r;
        }
    }
    return NULL;
}

/* A free place, or the oldest one after saying its count. */
static struct recent *make_room(struct dr_log *l)
{
    struct recent *oldest = &l->recent[0];
    for (unsigned i = 0; i < RECENT_MAX; i++) {
        if (!l->recent[i].is_used) {
            return &l->recent[i];
        }
        if (l->recent[i].since < oldest->since) {
            oldest = &l->recent[i];
        }
    }
    say_repeats(l, oldest);
    return oldest;
}

static void write_or_count(struct dr_log *l, enum dr_log_level level, size_t body_len)
{
    dr_mono_ms now = mono_now(l);
    close_windows(l, now);
    if (body_len > RECENT_BYTES) {
        emit(l, level, l->body, body_len, 0);
        return;
    }
    struct recent *r = find_recent(l, level, l->body, body_len);
    if (r != NULL) {
        r->repeats++;
        return;
    }
    r = make_room(l);
    r->is_used = true;
    r->level = level;
    r->since = now;
    r->repeats = 0;
    r->len = body_len;
    memcpy(r->text, l->body, body_len);
    emit(l, level, l->body, body_len, 0);
}

static void log_pairs(struct dr_log *l, enum dr_log_level level, const char *event,
                      const char *pairs, va_list *args)
{
    (void)pthread_mutex_lock(&l->lock);
    struct text_buf body = {.data = l->body, .room = sizeof l->body - TAIL_BYTES};
    put_event(&body, event, &l->config);
    put_pairs(&body, pairs, args, l->config.is_json);
    if (body.is_full) {
        body.is_full = false;
        body.room = sizeof l->body;
        put_text(&body, l->config.is_json ? ",\"truncated\":true" : " truncated=true");
    }
    write_or_count(l, level, body.len);
    (void)pthread_mutex_unlock(&l->lock);
}

void dr_log(struct dr_log *l, enum dr_log_level level, const char *event, const char *pairs, ...)
{
    if (!dr_log_is_on(l, level)) {
        return;
    }
    va_list args;
    va_start(args, pairs);
    log_pairs(l, level, event, pairs, &args);
    va_end(args);
}

void dr_log_event(struct dr_log *l, enum dr_log_level level, const char *event)
{
    dr_log(l, level, event, " ");
}

void dr_log_err(struct dr_log *l, enum dr_log_level level, const char *event,
                const struct dr_err *err)
{
    dr_log(l, level, event, "code=%s msg=%s", dr_code_name(err->code), err->msg);
}

void dr_log_tick(struct dr_log *l)
{
    if (l == NULL) {
        return;
    }
    (void)pthread_mutex_lock(&l->lock);
    close_windows(l, mono_now(l));
    (void)pthread_mutex_unlock(&l->lock);
}

enum dr_code dr_log_create(const struct dr_log_config *config, struct dr_log **log_out,
                           struct dr_err *err)
{
    *log_out = NULL;
    struct dr_log *l = dr_calloc(1, sizeof *l);
    if (l == NULL) {
        return dr_fail_nomem(err);
    }
    if (pthread_mutex_init(&l->lock, NULL) != 0) {
        dr_free(l);
        return dr_fail_nomem(err);
    }
    l->config = *config;
    if (l->config.fd <= 0) {
        l->config.fd = STDERR_FILENO;
    }
    *log_out = l;
    return DR_OK;
}

void dr_log_destroy(struct dr_log *l)
{
    if (l == NULL) {
        return;
    }
    for (unsigned i = 0; i < RECENT_MAX; i++) {
        say_repeats(l, &l->recent[i]);
    }
    (void)pthread_mutex_destroy(&l->lock);
    dr_free(l);
}

bool dr_log_is_on(const struct dr_log *l, enum dr_log_level level)
{
    return l != NULL && level <= l->config.level;
}

static const char *const level_names[] = {"error", "warn", "info", "debug"};

const char *dr_log_level_name(enum dr_log_level level)
{
    assert((unsigned)level <= DR_LOG_DEBUG);
    return level_names[level];
}

bool dr_log_level_parse(const char *text, enum dr_log_level *level_out)
{
    for (unsigned i = 0; i <= DR_LOG_DEBUG; i++) {
        if (strcmp(text, level_names[i]) == 0) {
            *level_out = (enum dr_log_level)i;
            return true;
        }
    }
    return false;
}

/* Length of "password=" or the like at `text`, or 0. A URI inside a URL is escaped, so that its own
 * password cannot be told apart: it is hidden whole. */
static size_t secret_key_length(const char *text)
{
    static const char *const keys[] = {"password=", "passwd=", "passphrase=", "pass=",   "pwd=",
                                       "secret=",   "token=",  "uri=",        "replica="};
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        if (strncasecmp(text, keys[i], strlen(keys[i])) == 0) {
            return strlen(keys[i]);
        }
    }
    return 0;
}

/* Where the secret value ends; a quoted value ends with its quote. */
static size_t secret_length(const char *value)
{
    if (*value == '\'' || *value == '"') {
        const char *at = value + 1;
        while (*at != '\0' && *at != *value) {
            at += *at == '\\' && at[1] != '\0' ? 2 : 1;
        }
        return (size_t)(at - value) + (*at == '\0' ? 0 : 1);
    }
    return strcspn(value, "& \t;");
}

char *dr_url_redact(const char *url, char *buf, size_t buf_bytes)
{
    assert(buf_bytes > 0);
    struct text_buf out = {.data = buf, .room = buf_bytes - 1};
    const char *scheme_end = strstr(url, "://");
    const char *user = scheme_end == NULL ? url : scheme_end + 3;
    /* The last @: a password may hold @, / and ? although it should not, and must stay hidden. */
    const char *host = strrchr(user, '@');
    const char *colon = host == NULL ? NULL : memchr(user, ':', (size_t)(host - user));

    const char *at = url;
    while (*at != '\0' && !out.is_full) {
        if (colon != NULL && at >= colon && at < host) {
            put_text(&out, ":***");
            at = host;
            continue;
        }
        size_t key_len = secret_key_length(at);
        if (key_len > 0) {
            put_bytes(&out, at, key_len);
            put_text(&out, "***");
            at += key_len + secret_length(at + key_len);
            continue;
        }
        put_bytes(&out, at, 1);
        at++;
    }
    buf[out.len] = '\0';
    return buf;
}
