/* SPDX-License-Identifier: Apache-2.0 */
/* Error numbers of MariaDB, MySQL and the client library, and what a caller may do next. */
#include <assert.h>
#include <errmsg.h>
#include <string.h>

#include "store/mariadb/mariadb_private.h"

/* MariaDB's own numbers above 4000 and MySQL's above 3000 overlap nowhere in this list. */
static const struct {
    unsigned number;
    enum dr_code code;
} known[] = {
    {1021, DR_FULL},        /* disk full */
    {1114, DR_FULL},        /* table full */
    {1036, DR_READONLY},    /* table is read only */
    {1792, DR_READONLY},    /* read-only transaction */
    {1836, DR_READONLY},    /* read-only mode */
    {1037, DR_NOMEM},       /* */
    {1038, DR_NOMEM},       /* sort memory */
    {1041, DR_NOMEM},       /* */
    {1020, DR_BUSY},        /* record changed since it was read: snapshot isolation */
    {1040, DR_BUSY},        /* too many connections */
    {1203, DR_BUSY},        /* the user's too many connections */
    {1205, DR_BUSY},        /* lock wait timeout */
    {1213, DR_BUSY},        /* deadlock */
    {1226, DR_BUSY},        /* the user's hourly limit */
    {1317, DR_BUSY},        /* KILL QUERY */
    {1461, DR_BUSY},        /* too many prepared statements */
    {1614, DR_BUSY},        /* XA: rolled back by deadlock */
    {1615, DR_BUSY},        /* the statement needs to be prepared again */
    {1637, DR_BUSY},        /* too many transactions */
    {1969, DR_BUSY},        /* max_statement_time */
    {3024, DR_BUSY},        /* max_execution_time */
    {3572, DR_BUSY},        /* NOWAIT */
    {1412, DR_STALE},       /* the table's definition has changed */
    {2057, DR_STALE},       /* so have the columns of a prepared statement */
    {1044, DR_DENIED},      /* database */
    {1045, DR_DENIED},      /* password */
    {1095, DR_DENIED},      /* not the owner of the thread */
    {1130, DR_DENIED},      /* host */
    {1142, DR_DENIED},      /* table */
    {1143, DR_DENIED},      /* column */
    {1227, DR_DENIED},      /* privilege */
    {1251, DR_DENIED},      /* authentication protocol */
    {1370, DR_DENIED},      /* routine */
    {1419, DR_DENIED},      /* triggers, where a binary log is on */
    {1698, DR_DENIED},      /* socket authentication */
    {1820, DR_DENIED},      /* the password must be changed first */
    {1862, DR_DENIED},      /* the password has expired */
    {2059, DR_DENIED},      /* authentication plugin */
    {3118, DR_DENIED},      /* account locked, MySQL */
    {4151, DR_DENIED},      /* account locked, MariaDB */
    {1049, DR_NOT_FOUND},   /* database */
    {1051, DR_NOT_FOUND},   /* table, at DROP */
    {1054, DR_NOT_FOUND},   /* column */
    {1072, DR_NOT_FOUND},   /* key column */
    {1091, DR_NOT_FOUND},   /* column or key, at DROP */
    {1109, DR_NOT_FOUND},   /* table of a name */
    {1146, DR_NOT_FOUND},   /* table */
    {1176, DR_NOT_FOUND},   /* index */
    {1305, DR_NOT_FOUND},   /* routine */
    {1735, DR_NOT_FOUND},   /* partition */
    {1007, DR_EXISTS},      /* database */
    {1022, DR_EXISTS},      /* duplicate key */
    {1050, DR_EXISTS},      /* table */
    {1060, DR_EXISTS},      /* column */
    {1061, DR_EXISTS},      /* index */
    {1062, DR_EXISTS},      /* duplicate key */
    {1586, DR_EXISTS},      /* duplicate key */
    {1048, DR_CONFLICT},    /* NOT NULL */
    {1216, DR_CONFLICT},    /* foreign key */
    {1217, DR_CONFLICT},    /* foreign key */
    {1364, DR_CONFLICT},    /* no default */
    {1451, DR_CONFLICT},    /* foreign key */
    {1452, DR_CONFLICT},    /* foreign key */
    {1644, DR_CONFLICT},    /* SIGNAL, of a trigger */
    {3819, DR_CONFLICT},    /* CHECK, MySQL */
    {4025, DR_CONFLICT},    /* CHECK, MariaDB */
    {1178, DR_UNSUPPORTED}, /* by the storage engine */
    {1235, DR_UNSUPPORTED}, /* yet */
    {1295, DR_UNSUPPORTED}, /* in a prepared statement */
    {1064, DR_INPUT},       /* syntax */
    {1065, DR_INPUT},       /* empty statement */
    {1149, DR_INPUT},       /* syntax */
    {1265, DR_INPUT},       /* truncated */
    {1366, DR_INPUT},       /* wrong value */
    {1411, DR_INPUT},       /* wrong value of a function */
    {2008, DR_NOMEM},       /* client */
};

/* After these the connection is of no use. */
static bool is_loss(unsigned number)
{
    switch (number) {
    case CR_SERVER_GONE_ERROR:
    case CR_SERVER_LOST:
    case CR_SERVER_LOST_EXTENDED:
    case CR_CONNECTION_ERROR:
    case CR_CONN_HOST_ERROR:
    case CR_MALFORMED_PACKET:
    case CR_COMMANDS_OUT_OF_SYNC:
    case CR_UNKNOWN_HOST:
    case CR_SSL_CONNECTION_ERROR:
    case 1053: /* server shutdown */
    case 1152: /* aborted connection */
    case 1158: /* reading from the network */
    case 1159:
    case 1160: /* writing to it */
    case 1161:
    case 1927: /* KILL */
    case 4031: /* idle too long, MySQL */
        return true;
    default: /* numbers, not an enum */
        return false;
    }
}

static enum dr_code code_by_state(const char *state)
{
    static const struct {
        const char *class;
        enum dr_code code;
    } classes[] = {
        {"08", DR_UNREACHABLE}, {"0A", DR_UNSUPPORTED}, {"21", DR_INPUT},
        {"22", DR_INPUT},       {"23", DR_CONFLICT},    {"28", DR_DENIED},
        {"40", DR_BUSY},        {"42", DR_INPUT},       {"45", DR_CONFLICT},
    };
    for (size_t i = 0; i < sizeof classes / sizeof classes[0]; i++) {
        if (strncmp(state, classes[i].class, 2) == 0) {
            return classes[i].code;
        }
    }
    return DR_IO;
}

static enum dr_code code_of(unsigned number, const char *state, const char *text)
{
    if (number == CR_SSL_CONNECTION_ERROR && strcasestr(text, "certificate") != NULL) {
        return DR_DENIED; /* waiting does not heal it */
    }
    if (is_loss(number)) {
        return DR_UNREACHABLE;
    }
    /* 1290 names whichever server option forbids the statement. */
    if (number == 1290) {
        return strcasestr(text, "read-only") != NULL || strcasestr(text, "read_only") != NULL
                   ? DR_READONLY
                   : DR_DENIED;
    }
    if (number == 1030 && strstr(text, "error 28") != NULL) {
        return DR_FULL; /* ENOSPC of the storage engine */
    }
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        if (known[i].number == number) {
            return known[i].code;
        }
    }
    return code_by_state(state);
}

enum dr_code md_fail(struct md_conn *c, unsigned number, const char *state, const char *text,
                     struct dr_err *err)
{
    enum dr_code code = code_of(number, state, text);
    if (is_loss(number)) {
        c->is_lost = true;
    }
    return dr_fail(err, code, "%s: %s (error %u)", c->shown, text, number);
}

enum dr_code md_fail_conn(struct md_conn *c, struct dr_err *err)
{
    if (mysql_errno(c->mysql) == 0) {
        c->is_lost = true;
        return dr_fail(err, DR_UNREACHABLE, "%s: the answer broke off without an error", c->shown);
    }
    return md_fail(c, mysql_errno(c->mysql), mysql_sqlstate(c->mysql), mysql_error(c->mysql), err);
}

enum dr_code md_fail_stmt(struct md_conn *c, MYSQL_STMT *stmt, struct dr_err *err)
{
    /* An error that comes between the rows of an answer is noted at the connection alone. */
    if (mysql_stmt_errno(stmt) == 0) {
        return md_fail_conn(c, err);
    }
    return md_fail(c, mysql_stmt_errno(stmt), mysql_stmt_sqlstate(stmt), mysql_stmt_error(stmt),
                   err);
}
