/* SPDX-License-Identifier: Apache-2.0 */
/* Owns the texts of the result codes and the rule which errno becomes which code. No state. */
#include "base/err.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

static const struct {
    const char *name;
    const char *text;
    enum dr_retry retry;
} codes[DR_CODE_COUNT] = {
#define X(name, text, retry) [DR_##name] = {#name, text, DR_RETRY_##retry},
    DR_CODE_MAP(X)
#undef X
};

static const struct errno_rule {
    int value;
    enum dr_code code;
    const char *remedy;
} errno_rules[] = {
    {ENOSPC, DR_FULL, "free space on that disk and run the same command again"},
    {EDQUOT, DR_FULL, "raise the quota or free space and run the same command again"},
    {EFBIG, DR_FULL, "the file reached a size limit (see ulimit -f); raise it"},
    {EROFS, DR_READONLY, "the file system is mounted read-only; remount it or use another folder"},
    {ETXTBSY, DR_READONLY, "the file is being executed; choose another path"},
    {EACCES, DR_DENIED, "check the owner and mode of the file and of its folders"},
    {EPERM, DR_DENIED, "check the owner and attributes of the file"},
    {ENOENT, DR_NOT_FOUND, "check the path"},
    {ENOTDIR, DR_NOT_FOUND, "a part of the path is not a folder"},
    {ELOOP, DR_INPUT, "a symbolic link in the path points to itself"},
    {ENAMETOOLONG, DR_INPUT, "shorten the path"},
    {EISDIR, DR_INPUT, "this is a folder; name a file"},
    {EEXIST, DR_EXISTS, "choose another name or remove it first"},
    {ENOMEM, DR_NOMEM, "free memory and try again"},
    {EMFILE, DR_IO, "too many open files; raise ulimit -n"},
    {ENFILE, DR_IO, "too many open files on this machine; raise fs.file-max"},
    {EIO, DR_IO, "the disk reports a fault; look at the kernel log before trying again"},
};

const char *dr_code_name(enum dr_code code)
{
    if ((unsigned)code >= DR_CODE_COUNT) {
        return "INVALID";
    }
    return codes[code].name;
}

const char *dr_code_text(enum dr_code code)
{
    if ((unsigned)code >= DR_CODE_COUNT) {
        return "not a result code";
    }
    return codes[code].text;
}

enum dr_retry dr_code_retry(enum dr_code code)
{
    if ((unsigned)code >= DR_CODE_COUNT) {
        return DR_RETRY_NEVER;
    }
    return codes[code].retry;
}

void dr_err_clear(struct dr_err *err)
{
    if (err == NULL) {
        return;
    }
    err->code = DR_OK;
    err->msg[0] = '\0';
}

enum dr_code dr_fail(struct dr_err *err, enum dr_code code, const char *fmt, ...)
{
    assert(code != DR_OK);
    if (err == NULL) {
        return code;
    }

    /* Formatted aside, because an argument may be the old message of the same `err`. */
    char text[DR_ERR_BYTES];
    va_list args;
    va_start(args, fmt);
    int length = vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    if (length < 0) {
        text[0] = '\0';
    }
    err->code = code;
    memcpy(err->msg, text, sizeof text);
    return code;
}

void dr_wrap(struct dr_err *err, const char *fmt, ...)
{
    if (err == NULL || err->code == DR_OK) {
        return;
    }

    char text[DR_ERR_BYTES];
    va_list args;
    va_start(args, fmt);
    int length = vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    if (length < 0) {
        return;
    }

    size_t used = (size_t)length < sizeof text ? (size_t)length : sizeof text - 1;
    if (err->msg[0] != '\0') {
        /* A long chain loses its tail, not its head: the head says what the user asked for. */
        length = snprintf(text + used, sizeof text - used, ": %s", err->msg);
        if (length < 0) {
            return;
        }
    }
    memcpy(err->msg, text, sizeof text);
}

void dr_note_nomem(struct dr_err *err)
{
    (void)dr_fail(err, DR_NOMEM, "out of memory; free memory and try again");
}

enum dr_code dr_fail_errno(struct dr_err *err, int errno_value, const char *what, const char *path)
{
    const struct errno_rule *rule = NULL;
    for (size_t i = 0; i < sizeof errno_rules / sizeof errno_rules[0]; i++) {
        if (errno_rules[i].value == errno_value) {
            rule = &errno_rules[i];
            break;
        }
    }

    char reason[128];
    const char *text = strerror_r(errno_value, reason, sizeof reason);
    if (rule == NULL) {
        return dr_fail(err, DR_IO, "%s: cannot %s: %s", path, what, text);
    }
    return dr_fail(err, rule->code, "%s: cannot %s: %s; %s", path, what, text, rule->remedy);
}
