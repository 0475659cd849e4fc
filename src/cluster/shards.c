/* SPDX-License-Identifier: Apache-2.0 */
/* Owns the shards of this peer: which are open, who uses them, and what is the same in every kind
 * of store. shard_file.c and shard_sql.c know how rows are kept.
 *
 * A row is never overwritten by an older one: the version decides, not the order of arrival. So
 * writes may be repeated, may come twice by two ways (from a client and with a copy), and replicas
 * that got the same writes are equal. */
#include <assert.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fault.h"
#include "base/file.h"
#include "cluster/cluster_private.h"

enum {
    WALK_ROWS = 5000, /* at a time: writers wait no longer than that takes */
    CLEAN_ROWS = 1000,
    /* A deletion is remembered for so long; a replica that was away longer is filled anew. */
    DELETED_KEPT_DAYS = 30,
    COUNTER_BITS = 20,
    COMPLAIN_MS = 30 * 1000,
    HASH_BATCH = 256,
};

static const char file_scheme[] = "sqlite:";

/* --- keys
 * ----------------------------------------------------------------------------------------- */

void dr_point_key_make(const struct dr_point_id *id, struct point_key *out)
{
    out->data[0] = (uint8_t)id->kind;
    out->len = 1;
    switch (id->kind) {
    case DR_POINT_NUMBER:
        for (unsigned i = 0; i < 8; i++) {
            out->data[out->len++] = (uint8_t)(id->number >> (56 - 8 * i));
        }
        break;
    case DR_POINT_UUID:
        memcpy(out->data + 1, id->uuid, sizeof id->uuid);
        out->len += sizeof id->uuid;
        break;
    case DR_POINT_TEXT: {
        size_t len =
            id->text_len < DR_POINT_TEXT_BYTES_MAX ? id->text_len : DR_POINT_TEXT_BYTES_MAX;
        memcpy(out->data + 1, id->text, len);
        out->len += len;
        break;
    }
    }
}

json_t *dr_point_key_to_json(const uint8_t *data, size_t len)
{
    struct dr_point_id id;
    memset(&id, 0, sizeof id);
    assert(len > 0);
    id.kind = (enum dr_point_kind)data[0];
    switch (id.kind) {
    case DR_POINT_NUMBER:
        for (unsigned i = 1; i < len && i < 9; i++) {
            id.number = id.number << 8 | data[i];
        }
        break;
    case DR_POINT_UUID:
        memcpy(id.uuid, data + 1, len - 1 < sizeof id.uuid ? len - 1 : sizeof id.uuid);
        break;
    case DR_POINT_TEXT:
        id.text = (const char *)data + 1;
        id.text_len = len - 1;
        break;
    }
    return dr_point_id_to_json(&id);
}

/* --- where they are
 * -------------------------------------------------------------------------------------------- */

void dr_shard_table_name(const char *uuid, uint32_t shard_id, char buf[SHARD_TABLE_BYTES])
{
    char hex[33];
    size_t len = 0;
    for (const char *c = uuid; *c != '\0' && len < sizeof hex - 1; c++) {
        if (strchr("0123456789abcdef", *c) != NULL) {
            hex[len++] = *c;
        }
    }
    hex[len] = '\0';
    (void)snprintf(buf, SHARD_TABLE_BYTES, "drover_shard_%s_%u", hex, shard_id);
}

bool dr_shards_locate(const char *store, const char *uuid, uint32_t shard_id, char **store_out,
                      char **table_out)
{
    char name[SHARD_TABLE_BYTES];
    if (strncmp(store, file_scheme, strlen(file_scheme)) == 0) {
        *store_out = dr_asprintf("%s/%s/%u.db", store, uuid, shard_id);
        *table_out = dr_strdup("points");
    } else {
        dr_shard_table_name(uuid, shard_id, name);
        *store_out = dr_strdup(store);
        *table_out = dr_strdup(name);
    }
    return *store_out != NULL && *table_out != NULL;
}

/* Has a shard's file ever been made there, and not been removed? */
static bool has_files(const char *dir)
{
    bool is_found = false;
    DIR *d = opendir(dir);
    const struct dirent *e = NULL;
    while (d != NULL && !is_found && (e = readdir(d)) != NULL) {
        is_found = e->d_name[0] != '.';
    }
    if (d != NULL) {
        (void)closedir(d);
    }
    return is_found;
}

static enum dr_code choose_files(struct shard_set *s, const struct shard_place *place,
                                 struct dr_err *err)
{
    if (dr_sql_pool_is_used(place->dir)) {
        return dr_fail(err, DR_CONFLICT,
                       "the points of this peer are in a database (%s/points-store.json says "
                       "which): start with the --points-store it was started with before",
                       place->dir);
    }
    s->ops = dr_shard_file_ops();
    enum dr_code rc = dr_dir_make(s->dir, err);
    char *real = rc == DR_OK ? realpath(s->dir, NULL) : NULL;
    if (rc == DR_OK) {
        s->store = dr_asprintf("%s%s", file_scheme, real == NULL ? s->dir : real);
        rc = s->store == NULL ? dr_fail_nomem(err) : DR_OK;
    }
    free(real); /* libc's */
    return rc;
}

static enum dr_code choose_database(struct shard_set *s, const struct shard_place *place,
                                    struct dr_err *err)
{
    if (has_files(s->dir)) {
        return dr_fail(err, DR_CONFLICT,
                       "the points of this peer are in files in %s, and --points-store does not "
                       "move them: drop this peer's replicas first, or begin with another data "
                       "folder",
                       s->dir);
    }
    s->ops = dr_shard_sql_ops();
    enum dr_code rc = dr_sql_pool_create(place, &s->pool, err);
    if (rc == DR_OK) {
        s->store = dr_sql_pool_show(s->pool);
        rc = s->store == NULL ? dr_fail_nomem(err) : DR_OK;
    }
    return rc;
}

enum dr_code dr_shards_init(struct shard_set *s, const struct shard_place *place,
                            struct dr_err *err)
{
    bool is_files = place->store == NULL || strcmp(place->store, file_scheme) == 0;
    (void)pthread_mutex_init(&s->lock, NULL);
    s->log = place->log;
    s->dir = dr_asprintf("%s/shards", place->dir);
    if (s->dir == NULL) {
        return dr_fail_nomem(err);
    }
    return is_files ? choose_files(s, place, err) : choose_database(s, place, err);
}

/* --- the set of open shards
 * ---------------------------------------------------------------------------------------- */

static void free_rows(struct shard_rows *r)
{
    if (r->is_open) {
        r->ops->close(r);
    }
    (void)pthread_mutex_destroy(&r->lock);
    dr_free(r);
}

void dr_shards_fini(struct shard_set *s)
{
    while (s->first != NULL) {
        struct shard_rows *r = s->first;
        s->first = r->next;
        assert(r->refs == 0);
        free_rows(r);
    }
    if (s->dir != NULL) {
        (void)pthread_mutex_destroy(&s->lock);
    }
    dr_sql_pool_destroy(s->pool);
    dr_free(s->store);
    dr_free(s->dir);
    *s = (struct shard_set){0};
}

/* Too many open: close the one that nobody has used for longest. Called with the lock. */
static void close_idle(struct shard_set *s)
{
    struct shard_rows **oldest = NULL;
    for (struct shard_rows **at = &s->first; *at != NULL; at = &(*at)->next) {
        if ((*at)->refs == 0 && (oldest == NULL || (*at)->used_at < (*oldest)->used_at)) {
            oldest = at;
        }
    }
    if (oldest != NULL) {
        struct shard_rows *r = *oldest;
        *oldest = r->next;
        s->count--;
        free_rows(r);
    }
}

/* The shard with one more reference, open or not. Only memory is touched under the set's lock: a
 * store that does not answer must not keep the others waiting. NULL: memory is short. */
static struct shard_rows *hold(struct shard_set *s, const char *uuid, uint32_t shard_id,
                               bool is_free_needed)
{
    (void)pthread_mutex_lock(&s->lock);
    struct shard_rows *r = s->first;
    while (r != NULL && (r->shard_id != shard_id || strcmp(r->uuid, uuid) != 0)) {
        r = r->next;
    }
    if (r == NULL) {
        if (s->count >= SHARDS_OPEN_MAX) {
            close_idle(s);
        }
        r = dr_calloc(1, sizeof *r);
        if (r != NULL) {
            (void)pthread_mutex_init(&r->lock, NULL);
            dr_copy_text(r->uuid, sizeof r->uuid, uuid);
            r->shard_id = shard_id;
            r->ops = s->ops;
            r->set = s;
            r->next = s->first;
            s->first = r;
            s->count++;
        }
    }
    if (r != NULL && is_free_needed && r->refs > 0) {
        r = NULL;
    } else if (r != NULL) {
        r->refs++;
        r->used_at = ++s->uses;
    }
    (void)pthread_mutex_unlock(&s->lock);
    return r;
}

void dr_shards_give(struct shard_set *s, struct shard_rows *r)
{
    if (r == NULL) {
        return;
    }
    (void)pthread_mutex_lock(&s->lock);
    assert(r->refs > 0);
    r->refs--;
    /* Nobody else has it, so is_open is still; what is not open is not worth keeping. */
    if (r->refs == 0 && !r->is_open) {
        struct shard_rows **at = &s->first;
        while (*at != r) {
            at = &(*at)->next;
        }
        *at = r->next;
        s->count--;
        free_rows(r);
    }
    (void)pthread_mutex_unlock(&s->lock);
}

enum dr_code dr_shards_take(struct shard_set *s, const char *uuid, uint32_t shard_id,
                            bool is_create, struct shard_rows **out, struct dr_err *err)
{
    enum dr_code rc = DR_OK;
    *out = NULL;
    struct shard_rows *r = hold(s, uuid, shard_id, false);
    if (r == NULL) {
        return dr_fail_nomem(err);
    }
    (void)pthread_mutex_lock(&r->lock);
    if (!r->is_open) {
        rc = r->ops->open(r, is_create, err);
    }
    bool is_there = rc == DR_OK && r->is_open;
    (void)pthread_mutex_unlock(&r->lock);
    if (is_there) {
        *out = r;
    } else {
        dr_shards_give(s, r);
    }
    return rc;
}

/* Asked again every round while it fails, so said seldom. */
static void complain(struct shard_set *s, const struct dr_err *err)
{
    dr_mono_ms now = dr_mono_now();
    (void)pthread_mutex_lock(&s->lock);
    bool is_due = s->complained_at == 0 || now - s->complained_at >= COMPLAIN_MS;
    s->complained_at = is_due ? now : s->complained_at;
    (void)pthread_mutex_unlock(&s->lock);
    if (is_due) {
        dr_log_err(s->log, DR_LOG_WARN, "a shard that is not needed here any more stays for now",
                   err);
    }
}

bool dr_shards_remove(struct shard_set *s, const char *uuid, uint32_t shard_id)
{
    struct dr_err err = {0};
    struct shard_rows *r = hold(s, uuid, shard_id, true);
    if (r == NULL) {
        return false;
    }
    (void)pthread_mutex_lock(&r->lock); /* who comes now finds it closed, and gone */
    enum dr_code rc = r->ops->remove(r, &err);
    (void)pthread_mutex_unlock(&r->lock);
    dr_shards_give(s, r);
    if (rc != DR_OK) {
        complain(s, &err);
    }
    return rc == DR_OK;
}

/* --- one shard
 * --------------------------------------------------------------------------------------- */

enum dr_code dr_shard_write(struct shard_rows *r, const struct point_op *op, size_t count,
                            shard_guard_fn *guard, void *arg, struct dr_err *err)
{
    (void)pthread_mutex_lock(&r->lock);
    enum dr_code rc = guard(arg, err);
    if (rc == DR_OK) {
        rc = dr_fault_pass("cluster.shard.write", err);
    }
    if (rc == DR_OK) {
        rc = r->ops->write(r, op, count, err);
    }
    (void)pthread_mutex_unlock(&r->lock);
    return rc;
}

enum dr_code dr_shard_walk(struct shard_rows *r, const struct point_key *from, point_row_fn *fn,
                           void *arg, struct dr_err *err)
{
    struct shard_query q = {.ask = SHARD_LIVE};
    if (from != NULL) {
        q.key = *from;
    }
    return r->ops->read(r, &q, fn, arg, err);
}

enum dr_code dr_shard_walk_after(struct shard_rows *r, int64_t seq, point_row_fn *fn, void *arg,
                                 struct dr_err *err)
{
    const struct shard_query q = {.ask = SHARD_AFTER, .seq = seq};
    return r->ops->read(r, &q, fn, arg, err);
}

enum dr_code dr_shard_get(struct shard_rows *r, const struct point_key *key, point_row_fn *fn,
                          void *arg, struct dr_err *err)
{
    const struct shard_query q = {.ask = SHARD_ONE, .key = *key};
    return r->ops->read(r, &q, fn, arg, err);
}

/* --- whole walks in pieces
 * --------------------------------------------------------------------------- */

struct hash_page {
    struct point_key last; /* len 0: begin */
    uint32_t rows, rows_max;
    uint32_t shard_id;
    const struct dr_ring *ring;
    uint64_t owned;
    /* Keys that belong elsewhere, for cleaning. */
    struct point_key *strange;
    uint32_t strange_count;
    /* Counting only: hashes whose owners are looked up together, for the waits for memory overlap.
     */
    uint64_t hash[HASH_BATCH];
    uint32_t hash_count;
};

static void count_owned(struct hash_page *p)
{
    uint32_t owner[HASH_BATCH];
    dr_ring_owners(p->ring, p->hash, p->hash_count, owner);
    for (uint32_t i = 0; i < p->hash_count; i++) {
        p->owned += owner[i] == p->shard_id;
    }
    p->hash_count = 0;
}

static bool take_hash(void *arg, const struct point_row *row)
{
    struct hash_page *p = arg;
    size_t len = row->key_len < IDKEY_BYTES_MAX ? row->key_len : IDKEY_BYTES_MAX;
    p->last.len = len;
    memcpy(p->last.data, row->key, len);
    p->rows++;
    if (p->strange == NULL) {
        p->hash[p->hash_count++] = row->hash;
        if (p->hash_count == HASH_BATCH) {
            count_owned(p);
        }
    } else if (dr_ring_owner(p->ring, row->hash) != p->shard_id) {
        p->strange[p->strange_count++] = p->last;
    }
    return true;
}

static enum dr_code walk_hashes(struct shard_rows *r, struct hash_page *p, struct dr_err *err)
{
    const struct shard_query q = {.ask = SHARD_HASHES, .key = p->last, .limit = p->rows_max};
    p->rows = 0;
    p->strange_count = 0;
    return r->ops->read(r, &q, take_hash, p, err);
}

enum dr_code dr_shard_count(struct shard_rows *r, const struct dr_ring *ring, uint64_t *out,
                            struct dr_err *err)
{
    struct hash_page page = {.rows_max = WALK_ROWS, .shard_id = r->shard_id, .ring = ring};
    enum dr_code rc = DR_OK;
    *out = 0;
    if (ring == NULL || dr_ring_shard_count(ring) == 0) {
        return DR_OK;
    }
    do {
        rc = walk_hashes(r, &page, err);
    } while (rc == DR_OK && page.rows == page.rows_max);
    count_owned(&page);
    *out = page.owned;
    return rc;
}

/* What the table was last clean for. */
static int64_t sign_ring(const struct dr_key_ring *ring)
{
    size_t bytes = (size_t)ring->shard_count * sizeof *ring->shard_id;
    return (int64_t)(dr_siphash(ring->shard_id, bytes) >> 1);
}

/* A row that is written again between the look and the deletion belongs elsewhere as before: where
 * an id belongs does not depend on its row. */
static enum dr_code clean_rows(struct shard_rows *r, const struct dr_key_ring *ring,
                               struct dr_err *err)
{
    struct hash_page page = {.rows_max = CLEAN_ROWS, .shard_id = r->shard_id, .ring = ring->ring};
    enum dr_code rc = DR_OK;
    page.strange = dr_calloc(CLEAN_ROWS, sizeof *page.strange);
    if (page.strange == NULL) {
        return dr_fail_nomem(err);
    }
    do {
        rc = walk_hashes(r, &page, err);
        if (rc == DR_OK && page.strange_count > 0) {
            rc = r->ops->forget(r, page.strange, page.strange_count, err);
        }
    } while (rc == DR_OK && page.rows == page.rows_max);
    dr_free(page.strange);
    return rc;
}

enum dr_code dr_shard_clean(struct shard_rows *r, const struct dr_key_ring *ring,
                            struct dr_err *err)
{
    int64_t last = -1;
    int64_t sign = sign_ring(ring);
    int64_t old = (dr_wall_now() - (int64_t)DELETED_KEPT_DAYS * 24 * 3600 * 1000) << COUNTER_BITS;
    enum dr_code rc = r->ops->get_ring(r, &last, err);
    if (rc != DR_OK || last == sign) {
        return rc;
    }
    rc = clean_rows(r, ring, err);
    return rc == DR_OK ? r->ops->set_ring(r, sign, old, err) : rc;
}
