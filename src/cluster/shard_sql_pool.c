/* SPDX-License-Identifier: Apache-2.0 */
/* Owns the connections to the database that keeps this peer's points, and the proof that it is that
 * database and no other peer's.
 *
 * A number made once stands in DIR/points-store.json and in the database's table
 * drover_points_owner, with the peer's id. Every new connection compares them before anything else
 * is done with it: an address that leads somewhere else now, a database that was emptied, or one
 * that two peers were given, is refused instead of being taken for "no points". */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/backoff.h"
#include "base/clock.h"
#include "base/file.h"
#include "cluster/cluster_private.h"
#include "store/sqldb_url.h"

enum {
    CONNECTIONS_MAX = 8,
    LEND_MS = 4000,   /* how long to wait for one of them */
    REFUSED_MS = 500, /* after a failed connection nobody tries for so long */
    MARK_BYTES_MAX = 64 * 1024,
    DATA_ID_BYTES = 33,
};

/* A peer that waits for its database for longer than this counts as failed for its writes anyway
 * (PEER_WRITE_MS); unless the URL says otherwise. */
static const char limits[] = "connect_timeout=3&read_timeout=4";

struct sql_pool {
    char *url, *shown, *mark_path;
    uint64_t peer_id;
    enum dr_dialect dialect;
    pthread_mutex_t claim_lock; /* guards the next two and the file */
    char data_id[DATA_ID_BYTES];
    bool is_claimed;
    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t is_free;
    struct dr_sqldb *spare[CONNECTIONS_MAX];
    uint32_t spare_count, lent_count;
    dr_mono_ms refused_until;
    struct dr_err refused;
};

/* --- the mark in the data folder
 * ----------------------------------------------------------------------------------- */

static enum dr_code save_mark(const struct sql_pool *p, bool is_claimed, struct dr_err *err)
{
    json_t *j = json_pack("{s:s, s:b, s:s}", "data_id", p->data_id, "is_claimed", (int)is_claimed,
                          "store", p->shown);
    char *text = j == NULL ? NULL : dr_json_text(j);
    json_decref(j);
    if (text == NULL) {
        return dr_fail_nomem(err);
    }
    enum dr_code rc = dr_file_replace(p->mark_path, text, strlen(text), err);
    dr_free(text);
    return rc;
}

static enum dr_code read_mark(const char *path, char data_id[DATA_ID_BYTES], bool *is_claimed,
                              struct dr_err *err)
{
    struct dr_jr r;
    char *text = NULL;
    size_t bytes = 0;
    json_t *j = NULL;
    const char *id = "";
    const char *store = "";
    enum dr_code rc = dr_file_load(path, MARK_BYTES_MAX, &text, &bytes, err);
    if (rc == DR_OK) {
        rc = dr_json_parse(path, text, bytes, &j, err);
    }
    if (rc == DR_OK) {
        dr_jr_init(&r, j, path, err);
        (void)dr_jr_string(&r, "data_id", true, &id);
        (void)dr_jr_bool(&r, "is_claimed", true, is_claimed);
        (void)dr_jr_string(&r, "store", true, &store);
        rc = dr_jr_finish(&r);
    }
    if (rc == DR_OK && strlen(id) != DATA_ID_BYTES - 1) {
        rc = dr_fail(err, DR_CORRUPT, "%s: data_id has %d characters", path, DATA_ID_BYTES - 1);
    }
    if (rc == DR_OK) {
        dr_copy_text(data_id, DATA_ID_BYTES, id);
    }
    json_decref(j);
    dr_free(text);
    return rc;
}

bool dr_sql_pool_is_used(const char *dir)
{
    char data_id[DATA_ID_BYTES];
    bool is_claimed = true;
    char *path = dr_asprintf("%s/points-store.json", dir);
    if (path == NULL || access(path, F_OK) != 0) {
        bool is_short = path == NULL;
        dr_free(path);
        return is_short;
    }
    enum dr_code rc = read_mark(path, data_id, &is_claimed, NULL);
    dr_free(path);
    return rc != DR_OK || is_claimed; /* when in doubt, yes */
}

/* The number of this data folder: as it was, or a new one. */
static enum dr_code load_mark(struct sql_pool *p, struct dr_err *err)
{
    if (access(p->mark_path, F_OK) == 0) {
        return read_mark(p->mark_path, p->data_id, &p->is_claimed, err);
    }
    (void)snprintf(p->data_id, sizeof p->data_id, "%016" PRIx64 "%016" PRIx64, dr_random(),
                   dr_random());
    return save_mark(p, false, err);
}

/* --- whose is the database?
 * ---------------------------------------------------------------------------------------- */

struct owner {
    bool is_there;
    int64_t peer_id;
    char data_id[DATA_ID_BYTES + 32];
};

static enum dr_code take_owner(void *arg, const struct dr_value *value, uint32_t count,
                               struct dr_err *err)
{
    struct owner *o = arg;
    if (count != 2 || value[0].type != DR_V_INT || value[1].type != DR_V_TEXT) {
        return dr_fail(err, DR_CORRUPT, "drover_points_owner: it is not drover's table");
    }
    o->is_there = true;
    o->peer_id = value[0].i;
    (void)snprintf(o->data_id, sizeof o->data_id, "%.*s", (int)value[1].len,
                   (const char *)value[1].data);
    return DR_OK;
}

static enum dr_code read_owner(struct dr_sqldb *db, struct owner *o, struct dr_err *err)
{
    *o = (struct owner){0};
    enum dr_code rc =
        dr_sqldb_query(db, "SELECT peer_id, data_id FROM drover_points_owner WHERE one = 1", NULL,
                       0, take_owner, o, err);
    return rc == DR_NOT_FOUND ? DR_OK : rc; /* no such table: nobody's yet */
}

static enum dr_code claim(struct sql_pool *p, struct dr_sqldb *db, struct dr_err *err)
{
    static const char *const tables[] = {
        "CREATE TABLE IF NOT EXISTS drover_points_shards(name VARCHAR(64) PRIMARY KEY,"
        " collection VARCHAR(36) NOT NULL, shard_id BIGINT NOT NULL, seq BIGINT NOT NULL,"
        " ring BIGINT NOT NULL)",
        "CREATE TABLE IF NOT EXISTS drover_points_owner(one SMALLINT PRIMARY KEY,"
        " peer_id BIGINT NOT NULL, data_id VARCHAR(64) NOT NULL)",
    };
    const struct dr_value param[] = {
        {.type = DR_V_INT, .i = (int64_t)p->peer_id},
        {.type = DR_V_TEXT, .data = p->data_id, .len = strlen(p->data_id)},
    };
    enum dr_code rc = DR_OK;
    for (size_t i = 0; rc == DR_OK && i < sizeof tables / sizeof tables[0]; i++) {
        rc = dr_sqldb_exec(db, tables[i], NULL, 0, NULL, err);
        rc = rc == DR_EXISTS ? DR_OK : rc; /* PostgreSQL, when two make it at once */
    }
    if (rc == DR_OK) {
        rc = dr_sqldb_exec(db,
                           "INSERT INTO drover_points_owner(one, peer_id, data_id) VALUES(1, ?, ?)",
                           param, 2, NULL, err);
    }
    return rc == DR_EXISTS ? DR_OK : rc; /* another was faster; who, is looked at again */
}

static enum dr_code judge_owner(const struct sql_pool *p, const struct owner *o, struct dr_err *err)
{
    if (!o->is_there) {
        return dr_fail(err, DR_CONFLICT,
                       "%s does not hold the points of peer %" PRIu64
                       " any more (no row in drover_points_owner): correct the address or restore "
                       "the database; or drop this peer's replicas and remove %s to begin anew",
                       p->shown, p->peer_id, p->mark_path);
    }
    if (o->peer_id != (int64_t)p->peer_id) {
        return dr_fail(err, DR_CONFLICT,
                       "%s holds the points of peer %" PRId64 " (table drover_points_owner), this "
                       "is peer %" PRIu64 ": give each peer a database of its own",
                       p->shown, o->peer_id, p->peer_id);
    }
    if (strcmp(o->data_id, p->data_id) != 0) {
        return dr_fail(err, DR_CONFLICT,
                       "%s holds the points of another data folder's peer %" PRIu64
                       " (table drover_points_owner): give each peer a database of its own",
                       p->shown, p->peer_id);
    }
    return DR_OK;
}

static enum dr_code prove_owner(struct sql_pool *p, struct dr_sqldb *db, struct dr_err *err)
{
    struct owner o;
    (void)pthread_mutex_lock(&p->claim_lock);
    enum dr_code rc = read_owner(db, &o, err);
    if (rc == DR_OK && !o.is_there && !p->is_claimed) {
        rc = claim(p, db, err);
        if (rc == DR_OK) {
            rc = read_owner(db, &o, err);
        }
    }
    if (rc == DR_OK) {
        rc = judge_owner(p, &o, err);
    }
    if (rc == DR_OK && !p->is_claimed) {
        rc = save_mark(p, true, err); /* before the first point */
        p->is_claimed = rc == DR_OK;
    }
    (void)pthread_mutex_unlock(&p->claim_lock);
    return rc;
}

/* --- lending
 * --------------------------------------------------------------------------------------- */

static enum dr_code connect_new(struct sql_pool *p, struct dr_sqldb **out, struct dr_err *err)
{
    struct dr_sqldb *db = NULL;
    enum dr_code rc = dr_sqldb_open(p->url, &db, err);
    if (rc == DR_OK) {
        rc = prove_owner(p, db, err);
    }
    if (rc != DR_OK) {
        dr_sqldb_close(db);
        return rc;
    }
    *out = db;
    return DR_OK;
}

/* A place among the lent ones, with a spare connection if there is one. */
static enum dr_code take_place(struct sql_pool *p, struct dr_sqldb **spare, struct dr_err *err)
{
    struct timespec until = dr_mono_deadline(LEND_MS);
    int waited = 0;
    (void)pthread_mutex_lock(&p->lock);
    while (p->lent_count >= CONNECTIONS_MAX && waited == 0) {
        waited = pthread_cond_timedwait(&p->is_free, &p->lock, &until);
    }
    bool has_place = p->lent_count < CONNECTIONS_MAX;
    if (has_place) {
        p->lent_count++;
        *spare = p->spare_count > 0 ? p->spare[--p->spare_count] : NULL;
    }
    (void)pthread_mutex_unlock(&p->lock);
    return has_place ? DR_OK
                     : dr_fail(err, DR_BUSY, "all %d connections to %s are in use", CONNECTIONS_MAX,
                               p->shown);
}

static void give_place(struct sql_pool *p, struct dr_sqldb *spare)
{
    (void)pthread_mutex_lock(&p->lock);
    p->lent_count--;
    if (spare != NULL) {
        p->spare[p->spare_count++] = spare;
    }
    (void)pthread_cond_signal(&p->is_free);
    (void)pthread_mutex_unlock(&p->lock);
}

static bool was_refused(struct sql_pool *p, struct dr_err *err)
{
    (void)pthread_mutex_lock(&p->lock);
    bool is_refused = dr_mono_now() < p->refused_until;
    if (is_refused && err != NULL) {
        *err = p->refused;
    }
    (void)pthread_mutex_unlock(&p->lock);
    return is_refused;
}

static void note_refusal(struct sql_pool *p, const struct dr_err *why)
{
    (void)pthread_mutex_lock(&p->lock);
    p->refused = *why;
    p->refused_until = dr_mono_now() + REFUSED_MS;
    (void)pthread_mutex_unlock(&p->lock);
}

enum dr_code dr_sql_pool_lend(struct sql_pool *p, struct dr_sqldb **out, struct dr_err *err)
{
    struct dr_sqldb *db = NULL;
    struct dr_err why = {0};
    *out = NULL;
    enum dr_code rc = take_place(p, &db, err);
    if (rc != DR_OK) {
        return rc;
    }
    if (db != NULL && !dr_sqldb_is_alive(db)) { /* connect here, where the owner is proved */
        dr_sqldb_close(db);
        db = NULL;
    }
    if (db == NULL) {
        if (was_refused(p, &why)) {
            rc = why.code;
        } else {
            rc = connect_new(p, &db, &why);
            if (rc != DR_OK) {
                note_refusal(p, &why);
            }
        }
    }
    if (rc != DR_OK) {
        give_place(p, NULL);
        return dr_fail(err, rc, "this peer's points: %s", why.msg);
    }
    *out = db;
    return DR_OK;
}

void dr_sql_pool_take_back(struct sql_pool *p, struct dr_sqldb *db)
{
    if (db == NULL) {
        return;
    }
    dr_sqldb_rollback(db);
    bool is_good = dr_sqldb_is_alive(db);
    if (!is_good) {
        dr_sqldb_close(db);
    }
    give_place(p, is_good ? db : NULL);
}

/* --- making one
 * ----------------------------------------------------------------------------------------- */

static bool add_limits(struct sql_pool *p, const char *url)
{
    const char *options = strchr(url, '?');
    int base = (int)(options == NULL ? strlen(url) : (size_t)(options - url));
    /* First, for the last of two counts. */
    p->url = dr_asprintf("%.*s?%s%s%s", base, url, limits,
                         options == NULL || options[1] == '\0' ? "" : "&",
                         options == NULL ? "" : options + 1);
    return p->url != NULL;
}

static char *show_url(const struct dr_sqldb_url *u)
{
    struct dr_str s;
    dr_str_init(&s);
    dr_str_add(&s, u->dialect == DR_SQL_POSTGRES ? "postgres://" : "mysql://");
    if (u->host != NULL && strchr(u->host, ':') != NULL) {
        dr_str_addf(&s, "[%s]:%u", u->host, u->port);
    } else if (u->host != NULL) {
        dr_str_add_percent(&s, u->host);
        dr_str_addf(&s, ":%u", u->port);
    }
    dr_str_addc(&s, '/');
    dr_str_add_percent(&s, u->database == NULL ? "" : u->database);
    if (u->socket != NULL) {
        dr_str_add(&s, u->dialect == DR_SQL_POSTGRES ? "?host=" : "?socket=");
        dr_str_add_percent(&s, u->socket);
    }
    return dr_str_take(&s);
}

static enum dr_code fill_pool(struct sql_pool *p, const struct shard_place *place,
                              struct dr_err *err)
{
    struct dr_sqldb_url u;
    enum dr_code rc = dr_sqldb_url_parse(place->store, &u, err);
    if (rc != DR_OK) {
        dr_sqldb_url_fini(&u);
        dr_wrap(err, "--points-store");
        return rc;
    }
    p->peer_id = place->peer_id;
    p->dialect = u.dialect;
    p->shown = show_url(&u);
    dr_sqldb_url_fini(&u);
    p->mark_path = dr_asprintf("%s/points-store.json", place->dir);
    if (p->shown == NULL || p->mark_path == NULL || !add_limits(p, place->store)) {
        return dr_fail_nomem(err);
    }
    if (strlen(p->shown) >= DR_URI_BYTES_MAX) {
        return dr_fail(err, DR_INPUT, "--points-store: the address is too long");
    }
    return load_mark(p, err);
}

/* What a database that is only away for now fails with. */
static bool is_passing(enum dr_code rc)
{
    return rc == DR_UNREACHABLE || rc == DR_BUSY || rc == DR_UNKNOWN;
}

static enum dr_code look_once(struct sql_pool *p, struct dr_log *log, struct dr_err *err)
{
    struct dr_sqldb *db = NULL;
    struct dr_err why = {0};
    enum dr_code rc = dr_sql_pool_lend(p, &db, &why);
    dr_sql_pool_take_back(p, db);
    if (is_passing(rc)) {
        dr_log_err(log, DR_LOG_WARN,
                   "the store of this peer's points does not answer; it is tried again when needed",
                   &why);
        return DR_OK;
    }
    return rc == DR_OK ? DR_OK : dr_fail(err, rc, "%s", why.msg);
}

enum dr_code dr_sql_pool_create(const struct shard_place *place, struct sql_pool **out,
                                struct dr_err *err)
{
    struct sql_pool *p = dr_calloc(1, sizeof *p);
    if (p == NULL) {
        return dr_fail_nomem(err);
    }
    (void)pthread_mutex_init(&p->lock, NULL);
    (void)pthread_mutex_init(&p->claim_lock, NULL);
    dr_mono_cond_init(&p->is_free);
    enum dr_code rc = fill_pool(p, place, err);
    if (rc == DR_OK) {
        rc = look_once(p, place->log, err);
    }
    if (rc != DR_OK) {
        dr_sql_pool_destroy(p);
        return rc;
    }
    *out = p;
    return DR_OK;
}

void dr_sql_pool_destroy(struct sql_pool *p)
{
    if (p == NULL) {
        return;
    }
    for (uint32_t i = 0; i < p->spare_count; i++) {
        dr_sqldb_close(p->spare[i]);
    }
    if (p->url != NULL) {
        explicit_bzero(p->url, strlen(p->url)); /* it may hold the password */
    }
    (void)pthread_cond_destroy(&p->is_free);
    (void)pthread_mutex_destroy(&p->claim_lock);
    (void)pthread_mutex_destroy(&p->lock);
    dr_free(p->url);
    dr_free(p->shown);
    dr_free(p->mark_path);
    dr_free(p);
}

enum dr_dialect dr_sql_pool_dialect(const struct sql_pool *p)
{
    return p->dialect;
}

char *dr_sql_pool_show(const struct sql_pool *p)
{
    return dr_strdup(p->shown);
}
