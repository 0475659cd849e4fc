/* SPDX-License-Identifier: Apache-2.0 */
/* The adapter's tables of functions, opening and closing, drover's own options of the URL, epoch.
 * Surveys are in survey*.c, reading in walk.c, changing in erase.c and restore.c. */
#include "store/sql/sql_store.h"

#include <string.h>

#include "store/sql/shard_private.h"
#include "store/sql/sql_private.h"

enum { OPTION_BYTES_MAX = 2048 };

static void close_store(void *impl)
{
    struct sa_store *s = impl;
    if (s == NULL) {
        return;
    }
    for (uint32_t i = 0; i < SA_TABLES_MAX; i++) {
        sa_table_destroy(s->table[i]);
    }
    for (uint32_t i = 0; i < s->replica_count; i++) {
        dr_sqldb_close(s->replica[i].db);
        if (s->replica[i].url != NULL) {
            explicit_bzero(s->replica[i].url, strlen(s->replica[i].url));
        }
        dr_free(s->replica[i].url);
    }
    dr_sqldb_close(s->db);
    dr_free(s->last_table);
    dr_free(s);
}

static int hex_digit(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

/* Percent-decoded copy, terminated. False: malformed, or too long. */
static bool decode_option(const char *from, size_t len, char *to, size_t room)
{
    size_t out = 0;
    for (size_t i = 0; i < len; i++) {
        char c = from[i];
        if (c == '%') {
            int high = i + 2 < len ? hex_digit(from[i + 1]) : -1;
            int low = high >= 0 ? hex_digit(from[i + 2]) : -1;
            if (low < 0 || high * 16 + low == 0) {
                return false;
            }
            c = (char)(high * 16 + low);
            i += 2;
        }
        if (out + 1 >= room) {
            return false;
        }
        to[out++] = c;
    }
    to[out] = '\0';
    return true;
}

static enum dr_code add_replica(struct sa_store *s, const char *url, struct dr_err *err)
{
    if (s->replica_count == SA_REPLICAS_MAX) {
        return dr_fail(err, DR_INPUT, "drover.replica: more than %d replicas", SA_REPLICAS_MAX);
    }
    s->replica[s->replica_count].url = dr_strdup(url);
    return s->replica[s->replica_count++].url == NULL ? dr_fail_nomem(err) : DR_OK;
}

/* One "name=value" of the URL's query. */
static enum dr_code read_option(struct sa_store *s, const char *option, size_t len,
                                struct dr_err *err)
{
    char text[OPTION_BYTES_MAX];
    struct {
        const char *name;
        uint64_t *to;
    } numbers[] = {
        {"drover.maxLag", &s->lag_s_max},
        {"drover.maxHistory", &s->history_max},
        {"drover.maxSlotLag", &s->slot_bytes_max},
        {"drover.maxHorizonAge", &s->horizon_age_max},
    };
    const char *equals = memchr(option, '=', len);
    size_t name = equals == NULL ? len : (size_t)(equals - option);
    if (name < 7 || strncmp(option, "drover.", 7) != 0) {
        return DR_OK;
    }
    if (equals == NULL || !decode_option(equals + 1, len - name - 1, text, sizeof text)) {
        return dr_fail(err, DR_INPUT, "URL option %.*s: a percent-encoded value is needed",
                       (int)name, option);
    }
    if (name == strlen("drover.replica") && strncmp(option, "drover.replica", name) == 0) {
        enum dr_code rc = add_replica(s, text, err);
        explicit_bzero(text, sizeof text);
        return rc;
    }
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        if (name != strlen(numbers[i].name) || strncmp(option, numbers[i].name, name) != 0) {
            continue;
        }
        return dr_parse_u64(text, numbers[i].to) && *numbers[i].to <= INT64_MAX
                   ? DR_OK
                   : dr_fail(err, DR_INPUT, "URL option %s: a number is needed", numbers[i].name);
    }
    return dr_fail(err, DR_INPUT,
                   "URL option %.*s is unknown; drover knows drover.replica, drover.maxLag, "
                   "drover.maxHistory, drover.maxSlotLag and drover.maxHorizonAge",
                   (int)name, option);
}

static enum dr_code read_options(struct sa_store *s, const char *url, struct dr_err *err)
{
    const char *at = strchr(url, '?');
    enum dr_code rc = DR_OK;
    s->lag_s_max = 10;
    s->history_max = 1000000;
    s->slot_bytes_max = UINT64_C(10) << 30;
    s->horizon_age_max = 10000000;
    while (rc == DR_OK && at != NULL && *at != '\0') {
        at++;
        size_t len = strcspn(at, "&");
        rc = read_option(s, at, len, err);
        at += len;
    }
    return rc;
}

enum { OLDEST_POSTGRES = 120000, OLDEST_MARIADB = 100200, OLDEST_MYSQL = 50700 };

static enum dr_code check_version(const struct dr_sqldb_info *info, struct dr_err *err)
{
    uint32_t oldest = info->dialect == DR_SQL_POSTGRES ? OLDEST_POSTGRES
                      : info->is_mysql                 ? OLDEST_MYSQL
                                                       : OLDEST_MARIADB;
    return info->version >= oldest
               ? DR_OK
               : dr_fail(err, DR_UNSUPPORTED,
                         "the server has version %u; at least %u is needed (PostgreSQL 12, MariaDB "
                         "10.2, MySQL 5.7)",
                         info->version, oldest);
}

static enum dr_code open_store(const char *url, void **impl_out, struct dr_err *err)
{
    struct sa_store *s = dr_calloc(1, sizeof *s);
    *impl_out = NULL;
    if (s == NULL) {
        return dr_fail_nomem(err);
    }
    enum dr_code rc = read_options(s, url, err);
    rc = rc == DR_OK ? dr_sqldb_open(url, &s->db, err) : rc;
    if (rc == DR_OK) {
        s->info = dr_sqldb_info(s->db);
        s->is_pg = s->info->dialect == DR_SQL_POSTGRES;
        rc = check_version(s->info, err);
    }
    if (rc != DR_OK) {
        close_store(s);
        return rc;
    }
    *impl_out = s;
    return DR_OK;
}

static enum dr_code read_epoch(void *impl, const char *collection, uint64_t *epoch_out,
                               struct dr_err *err)
{
    return sa_epoch_now(impl, collection, epoch_out, err);
}

/* Two tables of one content: that source and target of a move are of one dialect is told by them.
 */
#define SHARD_OPS                                                                                  \
    {                                                                                              \
        .ensure = sh_ensure, .drop = sh_drop, .capture = sh_capture, .fence = sh_fence,            \
        .hold = sh_hold, .copy = sh_copy, .follow = sh_follow, .digest = sh_digest,                \
        .compare = sh_compare, .facts = sh_facts, .records = sh_records,                           \
    }

static const struct dr_shard_ops shards_mariadb = SHARD_OPS;
static const struct dr_shard_ops shards_postgres = SHARD_OPS;

#define OPS(name, shard_ops)                                                                       \
    {                                                                                              \
        .scheme = (name),                                                                          \
        .can = DR_CAN_INDEX | DR_CAN_SCAN | DR_CAN_TEMP_INDEX | DR_CAN_COMMAND | DR_CAN_RESTORE |  \
               DR_CAN_COUNT,                                                                       \
        .open = open_store, .close = close_store, .survey = sa_survey, .epoch = read_epoch,        \
        .health = sa_health, .count = sa_count, .scan = sa_scan, .erase = sa_erase,                \
        .probe = sa_probe, .restore = sa_restore, .command = sa_command,                           \
        .survey_spec = sa_survey_spec, .shard = (shard_ops),                                       \
    }

const struct dr_store_ops *dr_store_mysql_ops(void)
{
    static const struct dr_store_ops ops = OPS("mysql", &shards_mariadb);
    return &ops;
}

const struct dr_store_ops *dr_store_mariadb_ops(void)
{
    static const struct dr_store_ops ops = OPS("mariadb", &shards_mariadb);
    return &ops;
}

const struct dr_store_ops *dr_store_postgres_ops(void)
{
    static const struct dr_store_ops ops = OPS("postgres", &shards_postgres);
    return &ops;
}

const struct dr_store_ops *dr_store_postgresql_ops(void)
{
    static const struct dr_store_ops ops = OPS("postgresql", &shards_postgres);
    return &ops;
}
