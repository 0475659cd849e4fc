/* SPDX-License-Identifier: Apache-2.0 */
/* Result codes and error messages: one list makes the codes, their texts and their retry class.
 *
 * A code says what the caller may do next, a message says what happened. Messages are caller-owned
 * and of a fixed size, so that reporting an error never allocates. Only the level that handles an
 * error logs it. Any thread may call anything here on its own struct dr_err. */
#ifndef DR_BASE_ERR_H
#define DR_BASE_ERR_H

#include <stdarg.h>
#include <stddef.h>

#define DR_MUST __attribute__((warn_unused_result))
#define DR_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))
#define DR_UNUSED __attribute__((unused))

/* NEVER: repeating cannot help. LATER: repeat after a back-off. PROBE: look before repeating. */
enum dr_retry { DR_RETRY_NEVER, DR_RETRY_LATER, DR_RETRY_PROBE };

#define DR_CODE_MAP(X)                                                                             \
    X(OK, "ok", NEVER)                                                                             \
    X(USAGE, "the command line is wrong", NEVER)                                                   \
    X(INPUT, "the input is wrong", NEVER)                                                          \
    X(REFUSED, "a guard said no", NEVER)                                                           \
    X(NOT_FOUND, "not found", NEVER)                                                               \
    X(EXISTS, "exists already", NEVER)                                                             \
    X(BUSY, "held by someone else", LATER)                                                         \
    X(UNREACHABLE, "cannot be reached", LATER)                                                     \
    X(UNKNOWN, "sent, outcome not seen", PROBE)                                                    \
    X(STALE, "the layout changed", LATER)                                                          \
    X(BRAKED, "not now", LATER)                                                                    \
    X(LOST, "the lease was lost", NEVER)                                                           \
    X(DENIED, "not permitted", NEVER)                                                              \
    X(UNSUPPORTED, "not supported", NEVER)                                                         \
    X(CORRUPT, "damaged data", NEVER)                                                              \
    X(FULL, "no space left", LATER)                                                                \
    X(READONLY, "not writable", NEVER)                                                             \
    X(IO, "input/output error", LATER)                                                             \
    X(NOMEM, "out of memory", LATER)                                                               \
    X(STOPPED, "stopped on request", NEVER)                                                        \
    X(CONFLICT, "something else is there now", NEVER)                                              \
    X(INTERNAL, "a mistake inside drover", NEVER)

enum dr_code {
#define X(name, text, retry) DR_##name,
    DR_CODE_MAP(X)
#undef X
        DR_CODE_COUNT
};

enum { DR_ERR_BYTES = 1024 };

struct dr_err {
    enum dr_code code;
    char msg[DR_ERR_BYTES]; /* always NUL-terminated; "" when code is DR_OK */
};

const char *dr_code_name(enum dr_code code); /* "REFUSED" */
const char *dr_code_text(enum dr_code code); /* "a guard said no" */
enum dr_retry dr_code_retry(enum dr_code code);

/* Clear `err` (may be NULL). */
void dr_err_clear(struct dr_err *err);

/* Set code and message, return the code. `err` may be NULL: then only the code travels. */
enum dr_code dr_fail(struct dr_err *err, enum dr_code code, const char *fmt, ...) DR_PRINTF(3, 4);

/* Put "prefix: " in front of the message, so the text reads from general to particular. */
void dr_wrap(struct dr_err *err, const char *fmt, ...) DR_PRINTF(2, 3);

/* Out of memory, with a fixed text. Inline, so that compilers and analysers see what it returns. */
void dr_note_nomem(struct dr_err *err);
static inline enum dr_code dr_fail_nomem(struct dr_err *err)
{
    dr_note_nomem(err);
    return DR_NOMEM;
}

/* Translate an errno of a file operation on `path` ("write", "open", ...), with the remedy for a
 * full disk, a missing permission or a read-only file system in the message. */
enum dr_code dr_fail_errno(struct dr_err *err, int errno_value, const char *what, const char *path);

#endif
