/* SPDX-License-Identifier: Apache-2.0 */
/* What a driver's or server's error means for drover: whether repeating can help, and whether a
 * write may have happened. Numbers are the servers' (src/mongo/base/error_codes.yml). */
#include <netdb.h>

#include <string.h>

#include "store/mongodb/mongodb_private.h"

enum { TEXT_BYTES = 512, WRITE_CONCERN_CODE = 64 };

/* `written`: the code for writes, where a shard may have done its part before the error. */
struct meaning {
    int32_t number;
    enum dr_code read;
    enum dr_code written;
};

static const struct meaning meanings[] = {
    {2, DR_INPUT, DR_INPUT},                 /* BadValue */
    {6, DR_UNREACHABLE, DR_UNKNOWN},         /* HostUnreachable */
    {7, DR_UNREACHABLE, DR_UNREACHABLE},     /* HostNotFound: nothing was sent */
    {9, DR_INPUT, DR_INPUT},                 /* FailedToParse */
    {11, DR_DENIED, DR_DENIED},              /* UserNotFound */
    {13, DR_DENIED, DR_DENIED},              /* Unauthorized */
    {14, DR_INPUT, DR_INPUT},                /* TypeMismatch */
    {17, DR_INPUT, DR_INPUT},                /* ProtocolError */
    {18, DR_DENIED, DR_DENIED},              /* AuthenticationFailed */
    {20, DR_UNSUPPORTED, DR_UNSUPPORTED},    /* IllegalOperation */
    {23, DR_EXISTS, DR_EXISTS},              /* AlreadyInitialized: sharded already */
    {24, DR_BUSY, DR_BUSY},                  /* LockTimeout */
    {26, DR_NOT_FOUND, DR_NOT_FOUND},        /* NamespaceNotFound */
    {27, DR_NOT_FOUND, DR_NOT_FOUND},        /* IndexNotFound */
    {43, DR_BUSY, DR_BUSY},                  /* CursorNotFound: read again */
    {46, DR_BUSY, DR_BUSY},                  /* LockBusy */
    {48, DR_EXISTS, DR_EXISTS},              /* NamespaceExists */
    {50, DR_BUSY, DR_UNKNOWN},               /* MaxTimeMSExpired */
    {59, DR_UNSUPPORTED, DR_UNSUPPORTED},    /* CommandNotFound */
    {61, DR_INPUT, DR_INPUT},                /* ShardKeyNotFound */
    {63, DR_STALE, DR_STALE},                /* StaleShardVersion */
    {64, DR_UNKNOWN, DR_UNKNOWN},            /* WriteConcernFailed */
    {67, DR_CONFLICT, DR_CONFLICT},          /* CannotCreateIndex */
    {68, DR_EXISTS, DR_EXISTS},              /* IndexAlreadyExists */
    {70, DR_NOT_FOUND, DR_NOT_FOUND},        /* ShardNotFound */
    {72, DR_INPUT, DR_INPUT},                /* InvalidOptions */
    {73, DR_INPUT, DR_INPUT},                /* InvalidNamespace */
    {79, DR_INPUT, DR_UNKNOWN},              /* UnknownReplWriteConcern */
    {85, DR_CONFLICT, DR_CONFLICT},          /* IndexOptionsConflict */
    {86, DR_CONFLICT, DR_CONFLICT},          /* IndexKeySpecsConflict */
    {89, DR_UNREACHABLE, DR_UNKNOWN},        /* NetworkTimeout */
    {91, DR_UNREACHABLE, DR_UNKNOWN},        /* ShutdownInProgress */
    {100, DR_UNKNOWN, DR_UNKNOWN},           /* UnsatisfiableWriteConcern */
    {107, DR_BUSY, DR_BUSY},                 /* LockFailed */
    {112, DR_BUSY, DR_BUSY},                 /* WriteConflict */
    {115, DR_UNSUPPORTED, DR_UNSUPPORTED},   /* CommandNotSupported */
    {117, DR_BUSY, DR_BUSY},                 /* ConflictingOperationInProgress */
    {121, DR_CONFLICT, DR_CONFLICT},         /* DocumentValidationFailure */
    {133, DR_UNREACHABLE, DR_UNREACHABLE},   /* FailedToSatisfyReadPreference: no primary */
    {134, DR_UNREACHABLE, DR_UNREACHABLE},   /* ReadConcernMajorityNotAvailableYet */
    {150, DR_STALE, DR_STALE},               /* StaleEpoch */
    {166, DR_UNSUPPORTED, DR_UNSUPPORTED},   /* CommandNotSupportedOnView */
    {175, DR_BUSY, DR_BUSY},                 /* QueryPlanKilled */
    {189, DR_UNREACHABLE, DR_UNKNOWN},       /* PrimarySteppedDown */
    {202, DR_UNREACHABLE, DR_UNKNOWN},       /* NetworkInterfaceExceededTimeLimit */
    {208, DR_BUSY, DR_BUSY},                 /* TooManyLocks */
    {237, DR_BUSY, DR_BUSY},                 /* CursorKilled */
    {246, DR_BUSY, DR_BUSY},                 /* SnapshotUnavailable */
    {249, DR_STALE, DR_STALE},               /* StaleDbVersion */
    {261, DR_BUSY, DR_BUSY},                 /* TooManyLogicalSessions */
    {262, DR_BUSY, DR_UNKNOWN},              /* ExceededTimeLimit */
    {8000, DR_DENIED, DR_DENIED},            /* AtlasError: authentication */
    {9001, DR_UNREACHABLE, DR_UNKNOWN},      /* SocketException */
    {10107, DR_UNREACHABLE, DR_UNREACHABLE}, /* NotWritablePrimary: refused before the write */
    {10334, DR_INPUT, DR_INPUT},             /* BSONObjectTooLarge */
    {11000, DR_EXISTS, DR_EXISTS},           /* DuplicateKey */
    {11001, DR_EXISTS, DR_EXISTS},           /* its older numbers */
    {11600, DR_UNREACHABLE, DR_UNKNOWN},     /* InterruptedAtShutdown */
    {11601, DR_BUSY, DR_UNKNOWN},            /* Interrupted: somebody killed it */
    {11602, DR_UNREACHABLE, DR_UNKNOWN},     /* InterruptedDueToReplStateChange */
    {12582, DR_EXISTS, DR_EXISTS},
    {12586, DR_BUSY, DR_BUSY},               /* BackgroundOperationInProgressForDatabase */
    {12587, DR_BUSY, DR_BUSY},               /* BackgroundOperationInProgressForNamespace */
    {13388, DR_STALE, DR_STALE},             /* StaleConfig */
    {13435, DR_UNREACHABLE, DR_UNREACHABLE}, /* NotPrimaryNoSecondaryOk */
    {13436, DR_UNREACHABLE, DR_UNREACHABLE}, /* NotPrimaryOrSecondary */
    {14031, DR_FULL, DR_FULL},               /* OutOfDiskSpace */
};

/* What is not listed is tried a few times and then shown to a person: a server that says no for a
 * reason nobody knows must not be asked for ever. */
static enum dr_code code_of_number(int32_t number, bool is_write)
{
    for (size_t i = 0; i < sizeof meanings / sizeof meanings[0]; i++) {
        if (meanings[i].number == number) {
            return is_write ? meanings[i].written : meanings[i].read;
        }
    }
    return DR_IO;
}

static enum dr_code code_of_stream(uint32_t number, bool is_write)
{
    switch (number) {
    case MONGOC_ERROR_STREAM_NAME_RESOLUTION:
    case MONGOC_ERROR_STREAM_CONNECT:
    case MONGOC_ERROR_STREAM_NOT_ESTABLISHED:
        return DR_UNREACHABLE;
    default: /* an open list of the library's: a socket that broke, at any moment */
        return is_write ? DR_UNKNOWN : DR_UNREACHABLE;
    }
}

/* Errors the driver made itself; DR_OK: it only passes on what the server said. */
static enum dr_code code_of_driver(const bson_error_t *e, bool is_write)
{
    switch (e->domain) {
    case MONGOC_ERROR_STREAM:
        return code_of_stream(e->code, is_write);
    case MONGOC_ERROR_SERVER_SELECTION:
        return e->code == MONGOC_ERROR_PROTOCOL_BAD_WIRE_VERSION ? DR_UNSUPPORTED : DR_UNREACHABLE;
    case MONGOC_ERROR_CLIENT:
        return e->code == MONGOC_ERROR_CLIENT_AUTHENTICATE ? DR_DENIED : DR_INTERNAL;
    case MONGOC_ERROR_SASL:
    case MONGOC_ERROR_SCRAM:
        return DR_DENIED;
    case MONGOC_ERROR_PROTOCOL:
        return e->code == MONGOC_ERROR_PROTOCOL_BAD_WIRE_VERSION ? DR_UNSUPPORTED
               : is_write                                        ? DR_UNKNOWN
                                                                 : DR_UNREACHABLE;
    case MONGOC_ERROR_WRITE_CONCERN:
        return DR_UNKNOWN;
    case MONGOC_ERROR_BSON:
    case MONGOC_ERROR_COMMAND:
    case MONGOC_ERROR_NAMESPACE:
        return DR_INPUT;
    default: /* MONGOC_ERROR_SERVER, _QUERY, _CURSOR and whatever a newer library adds */
        return DR_OK;
    }
}

static bool find_number(const bson_t *reply, const char *path, int32_t *out)
{
    bson_iter_t it;
    bson_iter_t found;
    if (!bson_iter_init(&it, reply) || !bson_iter_find_descendant(&it, path, &found) ||
        !BSON_ITER_HOLDS_NUMBER(&found)) {
        return false;
    }
    *out = (int32_t)bson_iter_as_int64(&found);
    return true;
}

static const char *find_text(const bson_t *reply, const char *path)
{
    bson_iter_t it;
    bson_iter_t found;
    return bson_iter_init(&it, reply) && bson_iter_find_descendant(&it, path, &found) &&
                   BSON_ITER_HOLDS_UTF8(&found)
               ? bson_iter_utf8(&found, NULL)
               : NULL;
}

int32_t mg_reply_code(const bson_t *reply)
{
    int32_t code = 0;
    if (reply != NULL && !find_number(reply, "code", &code)) {
        (void)find_number(reply, "writeErrors.0.code", &code);
    }
    return code;
}

static bool has_answer(const bson_t *reply)
{
    return reply != NULL && bson_has_field(reply, "ok");
}

static enum dr_code decide(const bson_error_t *e, const bson_t *reply, bool is_write)
{
    int32_t number = mg_reply_code(reply);
    enum dr_code rc =
        e == NULL || e->code == 0 || has_answer(reply) ? DR_OK : code_of_driver(e, is_write);
    if (rc != DR_OK) {
        return rc;
    }
    if (reply != NULL && mongoc_error_has_label(reply, "RetryableWriteError")) {
        return is_write ? DR_UNKNOWN : DR_UNREACHABLE;
    }
    if (number == 0 && reply != NULL && bson_has_field(reply, "writeConcernError")) {
        return DR_UNKNOWN; /* done, but not confirmed */
    }
    number = number == 0 && e != NULL ? (int32_t)e->code : number;
    if (e != NULL && e->domain == MONGOC_ERROR_CURSOR) {
        return number == MONGOC_ERROR_CURSOR_INVALID_CURSOR ? DR_BUSY
                                                            : code_of_number(number, is_write);
    }
    return code_of_number(number, is_write);
}

/* A duplicate key's message shows the key, which is somebody's data. */
static void copy_message(char *to, size_t to_bytes, const char *from)
{
    dr_copy_text(to, to_bytes, from);
    char *cut = strstr(to, " dup key:");
    if (cut != NULL) {
        *cut = '\0';
    }
}

static const char *remedy_of(enum dr_code rc)
{
    switch (rc) {
    case DR_DENIED:
        return "; check the user's roles and the credentials of the URL";
    case DR_UNREACHABLE:
        return "; check the addresses of the URL and that the cluster has a primary";
    case DR_FULL:
        return "; make room on the server's disk";
    case DR_UNKNOWN:
        return "; whether it happened will be looked up";
    case DR_OK:
    case DR_USAGE:
    case DR_INPUT:
    case DR_REFUSED:
    case DR_NOT_FOUND:
    case DR_EXISTS:
    case DR_BUSY:
    case DR_STALE:
    case DR_BRAKED:
    case DR_LOST:
    case DR_UNSUPPORTED:
    case DR_CORRUPT:
    case DR_READONLY:
    case DR_IO:
    case DR_NOMEM:
    case DR_STOPPED:
    case DR_CONFLICT:
    case DR_INTERNAL:
    case DR_CODE_COUNT:
        break;
    }
    return "";
}

enum dr_code mg_fail(const struct mg_store *s, const bson_error_t *e, const bson_t *reply,
                     bool is_write, const char *what, struct dr_err *err)
{
    char text[TEXT_BYTES];
    const char *said = NULL;
    enum dr_code rc = decide(e, reply, is_write);
    if (reply != NULL) {
        said = find_text(reply, "errmsg");
        said = said != NULL ? said : find_text(reply, "writeErrors.0.errmsg");
        said = said != NULL ? said : find_text(reply, "writeConcernError.errmsg");
    }
    if (said == NULL && e != NULL && e->message[0] != '\0') {
        said = e->message;
    }
    copy_message(text, sizeof text, said == NULL ? "no reason given" : said);
    int32_t number = mg_reply_code(reply);
    (void)s;
    return number == 0 ? dr_fail(err, rc, "mongodb: %s: %s%s", what, text, remedy_of(rc))
                       : dr_fail(err, rc, "mongodb: %s: %s (error %d)%s", what, text, number,
                                 remedy_of(rc));
}
