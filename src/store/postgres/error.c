/* SPDX-License-Identifier: Apache-2.0 */
/* SQLSTATEs of PostgreSQL, and what a caller may do next. */
#include <assert.h>
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "store/postgres/postgres_private.h"

enum { STATE_BYTES = 5, MESSAGE_BYTES = 700 };

/* The longest match wins because whole states stand before classes. */
static const struct {
    const char *state;
    enum dr_code code;
} known[] = {
    {"25006", DR_READONLY},    /* read-only transaction: a standby */
    {"25P02", DR_CONFLICT},    /* an earlier statement of the transaction has failed */
    {"28", DR_DENIED},         /* authentication */
    {"42501", DR_DENIED},      /* privilege */
    {"3D000", DR_NOT_FOUND},   /* database */
    {"3F000", DR_NOT_FOUND},   /* schema */
    {"42P01", DR_NOT_FOUND},   /* table */
    {"42703", DR_NOT_FOUND},   /* column */
    {"42704", DR_NOT_FOUND},   /* type, index, ... */
    {"42883", DR_NOT_FOUND},   /* function, operator */
    {"23505", DR_EXISTS},      /* unique */
    {"42P04", DR_EXISTS},      /* database */
    {"42P06", DR_EXISTS},      /* schema */
    {"42P07", DR_EXISTS},      /* table, index */
    {"42701", DR_EXISTS},      /* column */
    {"42710", DR_EXISTS},      /* object */
    {"23", DR_CONFLICT},       /* foreign key, check, NOT NULL, exclusion */
    {"27", DR_CONFLICT},       /* a trigger changed the row */
    {"40002", DR_CONFLICT},    /* a deferred constraint */
    {"44000", DR_CONFLICT},    /* WITH CHECK OPTION */
    {"P0001", DR_CONFLICT},    /* RAISE, of a trigger */
    {"40", DR_BUSY},           /* deadlock, serialization */
    {"55P03", DR_BUSY},        /* lock timeout, NOWAIT */
    {"55006", DR_BUSY},        /* object in use */
    {"57014", DR_BUSY},        /* cancelled */
    {"53300", DR_BUSY},        /* too many connections */
    {"72000", DR_BUSY},        /* snapshot too old */
    {"53100", DR_FULL},        /* disk */
    {"53200", DR_NOMEM},       /* memory */
    {"57P", DR_UNREACHABLE},   /* shutting down, starting, terminated */
    {"25P03", DR_UNREACHABLE}, /* idle in a transaction for too long: terminated */
    {"08", DR_UNREACHABLE},    /* connection */
    {"0A", DR_UNSUPPORTED},    /* feature */
    {"XX001", DR_CORRUPT},     /* data */
    {"XX002", DR_CORRUPT},     /* index */
    {"21", DR_INPUT},          /* cardinality */
    {"22", DR_INPUT},          /* data */
    {"26", DR_INPUT},          /* statement name */
    {"42", DR_INPUT},          /* syntax */
    {"54", DR_INPUT},          /* limits of a program */
};

static enum dr_code code_of(const char *state)
{
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        if (strncmp(state, known[i].state, strlen(known[i].state)) == 0) {
            return known[i].code;
        }
    }
    return DR_IO;
}

/* libpq ends its messages with a line feed and may put several lines into one. */
static void copy_message(char *buf, size_t buf_bytes, const char *text)
{
    dr_copy_text(buf, buf_bytes, text == NULL ? "no message" : text);
    size_t bytes = strlen(buf);
    while (bytes > 0 && isspace((unsigned char)buf[bytes - 1]) != 0) {
        buf[--bytes] = '\0';
    }
    for (char *c = buf; *c != '\0'; c++) {
        if (*c == '\n' || *c == '\r' || *c == '\t') {
            *c = ' ';
        }
    }
}

enum dr_code pg_fail_conn(struct pg_conn *c, struct dr_err *err)
{
    char message[MESSAGE_BYTES];
    copy_message(message, sizeof message, PQerrorMessage(c->pq));
    c->is_lost = true;
    return dr_fail(err, DR_UNREACHABLE, "%s: the connection was lost: %s", c->shown, message);
}

enum dr_code pg_fail_result(struct pg_conn *c, const PGresult *result, struct dr_err *err)
{
    char message[MESSAGE_BYTES];
    const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE);
    const char *primary = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
    const char *detail = PQresultErrorField(result, PG_DIAG_MESSAGE_DETAIL);
    if (state == NULL) {
        return pg_fail_conn(c, err); /* libpq made it up: only a broken connection does that */
    }
    copy_message(message, sizeof message, primary);
    enum dr_code code = code_of(state);
    if (code == DR_UNREACHABLE || PQstatus(c->pq) != CONNECTION_OK) {
        code = DR_UNREACHABLE;
        c->is_lost = true;
    }
    return dr_fail(err, code, "%s: %s%s%.200s (SQLSTATE %s)", c->shown, message,
                   detail == NULL ? "" : "; ", detail == NULL ? "" : detail, state);
}

/* Is there "FATAL:  28P01: " in it? libpq gives no field for a failed connection, so the state is
 * read out of the message, which was asked for in its long form. The severity may be translated. */
static const char *find_state(const char *text)
{
    for (const char *at = strstr(text, ":  "); at != NULL; at = strstr(at + 1, ":  ")) {
        size_t n = 0;
        while (n < STATE_BYTES &&
               (isdigit((unsigned char)at[3 + n]) != 0 || isupper((unsigned char)at[3 + n]) != 0)) {
            n++;
        }
        if (n == STATE_BYTES && at[3 + n] == ':') {
            return at + 3;
        }
    }
    return NULL;
}

enum dr_code pg_fail_connect(struct pg_conn *c, struct dr_err *err)
{
    char message[MESSAGE_BYTES];
    const char *text = PQerrorMessage(c->pq);
    const char *state = find_state(text);
    const char *location = strstr(text, "\nLOCATION:");
    c->is_lost = true;
    copy_message(message, sizeof message, text);
    if (location != NULL && (size_t)(location - text) < sizeof message) {
        message[location - text] = '\0'; /* a place in the server's sources */
    }
    enum dr_code code = state == NULL ? DR_UNREACHABLE : code_of(state);
    if (state == NULL &&
        (strstr(text, "no password supplied") != NULL || strstr(text, "certificate") != NULL)) {
        code = DR_DENIED; /* libpq itself said so: waiting does not heal it */
    }
    if (state == NULL && strstr(text, "server does not support SSL") != NULL) {
        code = DR_DENIED;
    }
    return dr_fail(err, code, "connect: %s: %s", c->shown, message);
}
