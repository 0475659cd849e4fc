/* SPDX-License-Identifier: Apache-2.0 */
/* Owns who may do what: the tokens file, read once at the start.
 *
 * Lines "ROLE:TOKEN" or "ROLE:NAME:TOKEN", empty ones and those that begin with # are skipped; or
 * JSON, [{"role": "operate", "name": "console", "token": "..."}]. A name is what the audit shows.
 */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "api/api_private.h"
#include "base/file.h"
#include "base/mem.h"

enum {
    TOKENS_MAX = 256,
    TOKEN_BYTES = 128, /* with room for the end: at most 127 characters */
    TOKEN_BYTES_MIN = 16,
    NAME_BYTES = 64,
    FILE_BYTES_MAX = 256 * 1024,
};

struct token {
    /* Padded with zeros, so that every comparison looks at equally many bytes. */
    unsigned char text[TOKEN_BYTES];
    char name[NAME_BYTES];
    enum dr_api_role role;
};

struct dr_tokens {
    uint32_t count;
    struct token token[TOKENS_MAX];
};

const char *dr_role_name(enum dr_api_role role)
{
    switch (role) {
    case DR_ROLE_NONE:
        return "none";
    case DR_ROLE_READ:
        return "read";
    case DR_ROLE_OPERATE:
        return "operate";
    case DR_ROLE_ADMIN:
        return "admin";
    }
    return "none";
}

static enum dr_api_role parse_role(const char *text)
{
    static const enum dr_api_role roles[] = {DR_ROLE_READ, DR_ROLE_OPERATE, DR_ROLE_ADMIN};
    for (size_t i = 0; i < sizeof roles / sizeof roles[0]; i++) {
        if (strcmp(text, dr_role_name(roles[i])) == 0) {
            return roles[i];
        }
    }
    return DR_ROLE_NONE;
}

/* What a bearer token may consist of (RFC 6750); the colon is not in it, which the lines rely on.
 */
static bool is_token_text(const char *text)
{
    static const char known[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                                "-._~+/=";
    size_t length = strlen(text);
    return length >= TOKEN_BYTES_MIN && length < TOKEN_BYTES && strspn(text, known) == length;
}

static bool is_name_text(const char *text)
{
    static const char known[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                                "-._@";
    size_t length = strlen(text);
    return length > 0 && length < NAME_BYTES && strspn(text, known) == length;
}

/* `where` is "tokens:3"; the message never shows a token. */
static enum dr_code add_token(struct dr_tokens *t, const char *where, const char *role,
                              const char *name, const char *text, struct dr_err *err)
{
    struct token *one = &t->token[t->count];
    if (t->count == TOKENS_MAX) {
        return dr_fail(err, DR_INPUT, "%s: more than %d tokens", where, TOKENS_MAX);
    }
    one->role = parse_role(role);
    if (one->role == DR_ROLE_NONE) {
        return dr_fail(err, DR_INPUT, "%s: the role is read, operate or admin", where);
    }
    if (!is_token_text(text)) {
        return dr_fail(err, DR_INPUT,
                       "%s: a token has %d to %d characters out of A-Z a-z 0-9 - . _ ~ + / =; "
                       "make one with: openssl rand -hex 24",
                       where, TOKEN_BYTES_MIN, TOKEN_BYTES - 1);
    }
    if (!is_name_text(name)) {
        return dr_fail(err, DR_INPUT,
                       "%s: a name has at most %d characters out of A-Z a-z 0-9 - . _ @", where,
                       NAME_BYTES - 1);
    }
    memset(one->text, 0, sizeof one->text);
    memcpy(one->text, text, strlen(text));
    dr_copy_text(one->name, sizeof one->name, name);
    for (uint32_t i = 0; i < t->count; i++) {
        if (memcmp(t->token[i].text, one->text, TOKEN_BYTES) == 0 ||
            strcmp(t->token[i].name, one->name) == 0) {
            return dr_fail(err, DR_INPUT, "%s: this token or its name \"%s\" is there already",
                           where, name);
        }
    }
    t->count++;
    return DR_OK;
}

static enum dr_code add_line(struct dr_tokens *t, const char *where, unsigned number, char *line,
                             struct dr_err *err)
{
    char made[NAME_BYTES];
    char *first = strchr(line, ':');
    if (first == NULL) {
        return dr_fail(err, DR_INPUT, "%s: a line is ROLE:TOKEN or ROLE:NAME:TOKEN", where);
    }
    *first++ = '\0';
    char *second = strchr(first, ':');
    if (second == NULL) {
        (void)snprintf(made, sizeof made, "%.16s-%u", line, number);
        return add_token(t, where, line, made, first, err);
    }
    *second++ = '\0';
    return add_token(t, where, line, first, second, err);
}

static enum dr_code parse_lines(struct dr_tokens *t, const char *path, char *text,
                                struct dr_err *err)
{
    char where[API_TEXT_BYTES];
    enum dr_code rc = DR_OK;
    unsigned number = 0;
    for (char *line = text; rc == DR_OK && line != NULL;) {
        char *end = strchr(line, '\n');
        if (end != NULL) {
            *end++ = '\0';
        }
        line[strcspn(line, "\r")] = '\0';
        (void)snprintf(where, sizeof where, "%.400s:%u", path, ++number);
        if (line[0] != '\0' && line[0] != '#') {
            rc = add_line(t, where, number, line, err);
        }
        line = end;
    }
    return rc;
}

static enum dr_code parse_json(struct dr_tokens *t, const char *path, const char *text,
                               struct dr_err *err)
{
    char where[API_TEXT_BYTES];
    json_t *list = NULL;
    json_t *item;
    size_t i;
    enum dr_code rc = dr_json_parse(path, text, strlen(text), &list, err);
    json_array_foreach(list, i, item)
    {
        const char *role = "";
        const char *name = "";
        const char *token = "";
        struct dr_jr r;
        (void)snprintf(where, sizeof where, "%.400s[%zu]", path, i);
        dr_jr_init(&r, item, where, err);
        (void)dr_jr_string(&r, "role", true, &role);
        (void)dr_jr_string(&r, "name", true, &name);
        (void)dr_jr_string(&r, "token", true, &token);
        rc = dr_jr_finish(&r);
        if (rc == DR_OK) {
            rc = add_token(t, where, role, name, token, err);
        }
        if (rc != DR_OK) {
            break;
        }
    }
    json_decref(list);
    return rc;
}

/* The opened file is what is looked at and read, so that nobody can change it in between. */
static enum dr_code read_private(const char *path, char *text, size_t *bytes_out,
                                 struct dr_err *err)
{
    int fd = -1;
    struct stat st;
    enum dr_code rc = dr_file_open(path, O_RDONLY, &fd, err);
    if (rc != DR_OK) {
        return dr_fail(err, DR_INPUT, "tokens file %s: cannot be opened", path);
    }
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) {
        rc = dr_fail(err, DR_INPUT, "tokens file %s: is no plain file", path);
    } else if ((st.st_mode & (S_IRWXO | S_IWGRP)) != 0) {
        rc = dr_fail(err, DR_REFUSED,
                     "tokens file %s: others may read it, or the group may change it; first: chmod "
                     "600 %s",
                     path, path);
    } else if (st.st_size >= FILE_BYTES_MAX) {
        rc = dr_fail(err, DR_INPUT, "tokens file %s: larger than %d bytes", path, FILE_BYTES_MAX);
    } else {
        rc = dr_file_read_at(fd, path, 0, text, FILE_BYTES_MAX - 1, bytes_out, err);
    }
    (void)close(fd);
    return rc;
}

enum dr_code dr_tokens_load(const char *path, struct dr_tokens **out, struct dr_err *err)
{
    size_t bytes = 0;
    struct dr_tokens *t = dr_calloc(1, sizeof *t);
    char *text = dr_calloc(1, FILE_BYTES_MAX);
    *out = NULL;
    enum dr_code rc = t == NULL || text == NULL ? dr_fail_nomem(err) : DR_OK;
    if (rc == DR_OK) {
        rc = read_private(path, text, &bytes, err);
    }
    if (rc == DR_OK && strlen(text) != bytes) {
        rc = dr_fail(err, DR_INPUT, "tokens file %s: holds a NUL byte", path);
    }
    if (rc == DR_OK) {
        bool is_json = text[strspn(text, " \t\r\n")] == '[';
        rc = is_json ? parse_json(t, path, text, err) : parse_lines(t, path, text, err);
    }
    if (rc == DR_OK && t->count == 0) {
        rc = dr_fail(err, DR_INPUT, "tokens file %s: holds no token, so nobody could do anything",
                     path);
    }
    if (text != NULL) {
        explicit_bzero(text, FILE_BYTES_MAX);
    }
    dr_free(text);
    if (rc != DR_OK) {
        dr_tokens_destroy(t);
        return rc;
    }
    *out = t;
    return DR_OK;
}

void dr_tokens_destroy(struct dr_tokens *t)
{
    if (t != NULL) {
        explicit_bzero(t, sizeof *t);
        dr_free(t);
    }
}

/* 0 when equal. No branch depends on the bytes. */
static unsigned differ(const unsigned char *a, const unsigned char *b)
{
    volatile unsigned char sum = 0;
    for (size_t i = 0; i < TOKEN_BYTES; i++) {
        sum = (unsigned char)(sum | (a[i] ^ b[i]));
    }
    return sum;
}

bool dr_token_is(const char *expected, const char *given)
{
    unsigned char a[TOKEN_BYTES] = {0};
    unsigned char b[TOKEN_BYTES] = {0};
    size_t wanted = strnlen(expected, TOKEN_BYTES);
    size_t length = strnlen(given, TOKEN_BYTES);
    if (wanted == 0 || wanted == TOKEN_BYTES || length == 0 || length == TOKEN_BYTES) {
        return false;
    }
    memcpy(a, expected, wanted);
    memcpy(b, given, length);
    bool is = differ(a, b) == 0;
    explicit_bzero(a, sizeof a);
    explicit_bzero(b, sizeof b);
    return is;
}

enum dr_api_role dr_tokens_find(const struct dr_tokens *t, const char *token, char *name,
                                size_t name_bytes)
{
    unsigned char padded[TOKEN_BYTES] = {0};
    enum dr_api_role role = DR_ROLE_NONE;
    uint32_t at = 0;
    size_t length = strnlen(token, TOKEN_BYTES);
    if (length == 0 || length == TOKEN_BYTES) {
        return DR_ROLE_NONE;
    }
    memcpy(padded, token, length);
    for (uint32_t i = 0; i < t->count; i++) { /* all of them, also behind a hit */
        bool is_same = differ(padded, t->token[i].text) == 0;
        role = is_same ? t->token[i].role : role;
        at = is_same ? i : at;
    }
    if (role != DR_ROLE_NONE) {
        dr_copy_text(name, name_bytes, t->token[at].name);
    }
    explicit_bzero(padded, sizeof padded);
    return role;
}
