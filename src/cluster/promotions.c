/* SPDX-License-Identifier: Apache-2.0 */
/* Owns the record of the promotions that this peer was asked for: the last 64, also in
 * DIR/promotions.json, which is replaced as a whole before a promotion is proposed and when it
 * ends. After a restart one that had not ended says so.
 *
 * The record is for people. Whether a collection is promoted is what the catalog says, and that is
 * added for every collection no record here is about, so that each peer tells what matters. A
 * record that cannot be written or read is therefore noted in the log and stops nothing. */
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "cluster/cluster_private.h"

#define RECORD_NAME "promotions.json"

enum { RECORD_FORMAT = 1, RECORD_BYTES_MAX = 1024 * 1024 };

static const char *const phase_names[] = {
    [PROMOTION_VALIDATING] = "validating",
    [PROMOTION_PROPOSING] = "proposing",
    [PROMOTION_SETTLING] = "waiting_for_peers",
    [PROMOTION_DONE] = "done",
    [PROMOTION_UNKNOWN] = "unknown",
    [PROMOTION_FAILED] = "failed",
};
enum { PHASE_COUNT = sizeof phase_names / sizeof phase_names[0] };

static const struct dr_metric_family promotions_running = {.name = "drover_promotions_running",
                                                           .help =
                                                               "Promotions going on at this peer",
                                                           .type = DR_METRIC_GAUGE};

/* --- in memory; with the lock ------------------------------------------------------------------
 */

static void show_running(struct dr_cluster *c)
{
    uint32_t running = 0;
    (void)pthread_mutex_lock(&c->lock);
    for (unsigned i = 0; i < PROMOTIONS_KEPT; i++) {
        running += c->promotion[i].is_used && c->promotion[i].ended == 0;
    }
    (void)pthread_mutex_unlock(&c->lock);
    dr_metric_set(dr_metrics_get(c->metrics, &promotions_running, NULL), running);
}

/* The oldest that has ended makes room. NULL: all places run. */
static struct promotion *find_place(struct dr_cluster *c)
{
    struct promotion *place = NULL;
    for (unsigned i = 0; i < PROMOTIONS_KEPT; i++) {
        struct promotion *p = &c->promotion[i];
        if (!p->is_used) {
            return p;
        }
        if (p->ended != 0 && (place == NULL || p->number < place->number)) {
            place = p;
        }
    }
    return place;
}

/* One that runs keeps its place, so its number is there until it is closed. */
static struct promotion *find_record(struct dr_cluster *c, uint64_t number)
{
    unsigned i = 0;
    while (!c->promotion[i].is_used || c->promotion[i].number != number) {
        i++;
    }
    return &c->promotion[i];
}

/* The newest one that is older than `number`, or NULL. */
static const struct promotion *find_before(const struct dr_cluster *c, uint64_t number)
{
    const struct promotion *found = NULL;
    for (unsigned i = 0; i < PROMOTIONS_KEPT; i++) {
        const struct promotion *p = &c->promotion[i];
        if (p->is_used && p->number < number && (found == NULL || p->number > found->number)) {
            found = p;
        }
    }
    return found;
}

/* --- on the disk -------------------------------------------------------------------------------
 */

static char *make_path(const struct dr_cluster *c)
{
    return dr_asprintf("%s/" RECORD_NAME, c->dir);
}

static json_t *render_one(const struct promotion *p)
{
    json_t *j = json_pack("{s:I, s:s, s:s, s:s, s:s, s:I, s:I, s:b, s:I, s:s}", "id",
                          (json_int_t)p->number, "collection", p->collection, "uuid", p->uuid, "by",
                          p->who, "phase", phase_names[p->phase], "started", (json_int_t)p->started,
                          "ended", (json_int_t)p->ended, "promoted", (int)p->is_promoted, "index",
                          (json_int_t)p->index, "error", p->error);
    if (j != NULL && !dr_shape_set(j, "key", dr_shard_key_to_json(&p->key))) {
        json_decref(j);
        j = NULL;
    }
    return j;
}

static char *render_all(struct dr_cluster *c)
{
    json_t *list = json_array();
    bool is_whole = list != NULL;
    (void)pthread_mutex_lock(&c->lock);
    const struct promotion *p = find_before(c, UINT64_MAX);
    for (; is_whole && p != NULL; p = find_before(c, p->number)) {
        is_whole = json_array_append_new(list, render_one(p)) == 0;
    }
    (void)pthread_mutex_unlock(&c->lock);
    json_t *j =
        is_whole ? json_pack("{s:i, s:O}", "v", (int)RECORD_FORMAT, "promotions", list) : NULL;
    json_decref(list);
    char *text = j == NULL ? NULL : dr_json_text(j);
    json_decref(j);
    return text;
}

/* What is rendered later is written later. */
static void save(struct dr_cluster *c)
{
    struct dr_err err = {0};
    (void)pthread_mutex_lock(&c->record_lock);
    char *path = make_path(c);
    char *text = render_all(c);
    enum dr_code rc = path == NULL || text == NULL
                          ? dr_fail_nomem(&err)
                          : dr_file_replace(path, text, strlen(text), &err);
    (void)pthread_mutex_unlock(&c->record_lock);
    if (rc != DR_OK) {
        dr_log_err(c->log, DR_LOG_WARN, "the record of promotions was not written", &err);
    }
    dr_free(text);
    dr_free(path);
}

static bool parse_phase(const char *name, enum promotion_phase *out)
{
    for (unsigned i = 0; i < PHASE_COUNT; i++) {
        if (strcmp(phase_names[i], name) == 0) {
            *out = (enum promotion_phase)i;
            return true;
        }
    }
    return false;
}

static enum dr_code read_one(const json_t *j, struct promotion *p, struct dr_err *err)
{
    struct dr_jr r;
    const char *collection = "";
    const char *uuid = "";
    const char *by = "";
    const char *phase = "";
    const char *error = "";
    const json_t *key = NULL;
    memset(p, 0, sizeof *p);
    dr_jr_init(&r, j, RECORD_NAME, err);
    (void)dr_jr_u64(&r, "id", true, 1, (uint64_t)INT64_MAX, &p->number);
    (void)dr_jr_string(&r, "collection", true, &collection);
    (void)dr_jr_string(&r, "uuid", true, &uuid);
    (void)dr_jr_string(&r, "by", true, &by);
    (void)dr_jr_string(&r, "phase", true, &phase);
    (void)dr_jr_string(&r, "error", true, &error);
    (void)dr_jr_i64(&r, "started", true, 0, INT64_MAX, &p->started);
    (void)dr_jr_i64(&r, "ended", true, 0, INT64_MAX, &p->ended);
    (void)dr_jr_u64(&r, "index", true, 0, (uint64_t)INT64_MAX, &p->index);
    (void)dr_jr_bool(&r, "promoted", true, &p->is_promoted);
    (void)dr_jr_any(&r, "key", true, &key);
    enum dr_code rc = dr_jr_finish(&r);
    if (rc == DR_OK) {
        rc = dr_shard_key_from_json(key, RECORD_NAME ".key", &p->key, err);
    }
    if (rc == DR_OK && !parse_phase(phase, &p->phase)) {
        rc = dr_fail(err, DR_INPUT, "%s: unknown phase \"%.32s\"", RECORD_NAME, phase);
    }
    p->is_used = true;
    dr_copy_text(p->collection, sizeof p->collection, collection);
    dr_copy_text(p->uuid, sizeof p->uuid, uuid);
    dr_copy_text(p->who, sizeof p->who, by);
    dr_copy_text(p->error, sizeof p->error, error);
    if (p->ended == 0) {
        p->phase = PROMOTION_UNKNOWN;
        p->ended = dr_wall_now();
        dr_copy_text(
            p->error, sizeof p->error,
            "this peer stopped before the promotion had ended; the collection says whether "
            "it was done");
    }
    return rc;
}

/* All of the file or nothing. */
static enum dr_code read_all(struct dr_cluster *c, const char *text, size_t bytes,
                             struct dr_err *err)
{
    json_t *j = NULL;
    struct dr_jr r;
    uint64_t format = 0;
    const json_t *list = NULL;
    size_t i = 0;
    json_t *one = NULL;
    enum dr_code rc = dr_json_parse(RECORD_NAME, text, bytes, &j, err);
    if (rc != DR_OK) {
        return rc;
    }
    dr_jr_init(&r, j, RECORD_NAME, err);
    (void)dr_jr_u64(&r, "v", true, 1, RECORD_FORMAT, &format);
    (void)dr_jr_array(&r, "promotions", true, PROMOTIONS_KEPT, &list);
    rc = dr_jr_finish(&r);
    json_array_foreach((json_t *)list, i, one)
    {
        if (rc == DR_OK) {
            rc = read_one(one, &c->promotion[i], err);
        }
        if (rc == DR_OK && c->promotion[i].number > c->promotion_count) {
            c->promotion_count = c->promotion[i].number;
        }
    }
    if (rc != DR_OK) {
        memset(c->promotion, 0, sizeof c->promotion);
        c->promotion_count = 0;
    }
    json_decref(j);
    return rc;
}

void dr_promotions_load(struct dr_cluster *c)
{
    struct dr_err err = {0};
    char *text = NULL;
    size_t bytes = 0;
    enum dr_code rc = DR_OK;
    char *path = make_path(c);
    if (path == NULL) {
        rc = dr_fail_nomem(&err);
    } else if (access(path, F_OK) == 0 || errno != ENOENT) {
        rc = dr_file_load(path, RECORD_BYTES_MAX, &text, &bytes, &err);
        if (rc == DR_OK) {
            rc = read_all(c, text, bytes, &err);
        }
    }
    if (rc != DR_OK) {
        dr_log_err(c->log, DR_LOG_WARN,
                   "the record of promotions cannot be read, a new one is begun", &err);
    }
    dr_free(text);
    dr_free(path);
}

/* --- what is noted -----------------------------------------------------------------------------
 */

uint64_t dr_promotions_open(struct dr_cluster *c, const char *collection, const char *who)
{
    uint64_t number = 0;
    struct dr_catalog *cat = dr_cluster_catalog(c);
    const struct dr_collection_info *info = dr_catalog_find(cat, collection);
    (void)pthread_mutex_lock(&c->lock);
    struct promotion *p = find_place(c);
    if (p != NULL) {
        memset(p, 0, sizeof *p);
        p->is_used = true;
        p->number = number = ++c->promotion_count;
        p->started = dr_wall_now();
        dr_copy_text(p->collection, sizeof p->collection, collection);
        dr_copy_text(p->uuid, sizeof p->uuid, info == NULL ? "" : info->uuid);
        dr_copy_text(p->who, sizeof p->who, who);
        dr_copy_text(p->key.text, sizeof p->key.text, "default");
    }
    (void)pthread_mutex_unlock(&c->lock);
    dr_catalog_unref(cat);
    show_running(c);
    return number;
}

void dr_promotions_enter(struct dr_cluster *c, uint64_t number, enum promotion_phase phase)
{
    (void)pthread_mutex_lock(&c->lock);
    find_record(c, number)->phase = phase;
    (void)pthread_mutex_unlock(&c->lock);
    if (phase == PROMOTION_PROPOSING) { /* from here on a crash leaves something to tell */
        save(c);
    }
}

void dr_promotions_aim(struct dr_cluster *c, uint64_t number, const struct dr_shard_key *key)
{
    (void)pthread_mutex_lock(&c->lock);
    find_record(c, number)->key = *key;
    (void)pthread_mutex_unlock(&c->lock);
}

void dr_promotions_close(struct dr_cluster *c, uint64_t number, enum promotion_phase phase,
                         bool is_promoted, uint64_t index, const char *error)
{
    (void)pthread_mutex_lock(&c->lock);
    struct promotion *p = find_record(c, number);
    p->phase = phase;
    p->is_promoted = is_promoted;
    p->index = index;
    p->ended = dr_wall_now();
    dr_copy_text(p->error, sizeof p->error, error);
    (void)pthread_mutex_unlock(&c->lock);
    show_running(c);
    save(c);
}

/* --- what is shown -----------------------------------------------------------------------------
 */

static json_t *shape_record(const struct promotion *p)
{
    char started[32];
    char ended[32];
    json_t *j = json_pack("{s:I, s:s, s:s, s:s, s:s, s:b}", "id", (json_int_t)p->number,
                          "collection", p->collection, "phase", phase_names[p->phase], "by", p->who,
                          "started", dr_wall_text(p->started, started, sizeof started), "promoted",
                          (int)p->is_promoted);
    if (j == NULL) {
        return NULL;
    }
    bool is_whole =
        dr_shape_set(j, "default_shard_key", dr_shard_key_to_json(&p->key)) &&
        dr_shape_set(j, "ended",
                     p->ended == 0 ? json_null()
                                   : json_string(dr_wall_text(p->ended, ended, sizeof ended))) &&
        dr_shape_set(j, "error", p->error[0] == '\0' ? json_null() : json_string(p->error)) &&
        (p->index == 0 || dr_shape_set(j, "index", json_integer((json_int_t)p->index)));
    if (!is_whole) {
        json_decref(j);
        return NULL;
    }
    return j;
}

/* What this peer was not asked for, or does not remember, but knows to have happened. */
static json_t *shape_known(const struct dr_collection_info *info)
{
    json_t *key = dr_shard_key_to_json(&info->default_key);
    return key == NULL ? NULL
                       : json_pack("{s:s, s:s, s:b, s:o, s:n, s:n, s:n}", "collection", info->name,
                                   "phase", "done", "promoted", 1, "default_shard_key", key,
                                   "started", "ended", "error");
}

/* Is this record about that collection, whatever it was called? One without an uuid is about a name
 * that was not there. */
static bool is_about(const struct promotion *p, const struct dr_collection_info *info)
{
    return strcmp(p->uuid, info->uuid) == 0;
}

static bool is_wanted(const struct promotion *p, const char *collection,
                      const struct dr_collection_info *info)
{
    return collection == NULL || strcmp(collection, p->collection) == 0 ||
           (info != NULL && is_about(p, info));
}

static bool has_done(const struct dr_cluster *c, const struct dr_collection_info *info)
{
    bool has = false;
    for (unsigned i = 0; !has && i < PROMOTIONS_KEPT; i++) {
        const struct promotion *p = &c->promotion[i];
        has = p->is_used && p->phase == PROMOTION_DONE && is_about(p, info);
    }
    return has;
}

static bool add(json_t *list, json_t *one)
{
    return one != NULL && json_array_append_new(list, one) == 0;
}

/* Newest first; then promoted collections that no record here is about. */
void dr_cluster_promotions(struct dr_cluster *c, const struct dr_cluster_caller *who,
                           const char *collection, const json_t *body,
                           struct dr_cluster_reply *reply)
{
    (void)who;
    (void)body;
    memset(reply, 0, sizeof *reply);
    struct dr_catalog *cat = dr_cluster_catalog(c);
    const struct dr_collection_info *info =
        collection == NULL ? NULL : dr_catalog_find(cat, collection);
    json_t *list = json_array();
    bool is_whole = list != NULL;
    (void)pthread_mutex_lock(&c->lock);
    const struct promotion *p = find_before(c, UINT64_MAX);
    for (; is_whole && p != NULL; p = find_before(c, p->number)) {
        is_whole = !is_wanted(p, collection, info) || add(list, shape_record(p));
    }
    for (uint32_t i = 0; is_whole && i < dr_catalog_collection_count(cat); i++) {
        const struct dr_collection_info *one = dr_catalog_collection_at(cat, i);
        bool is_due = one->has_default_key && (collection == NULL || one == info);
        is_whole = !is_due || has_done(c, one) || add(list, shape_known(one));
    }
    (void)pthread_mutex_unlock(&c->lock);
    dr_catalog_unref(cat);
    if (!is_whole) {
        json_decref(list);
        list = NULL;
    }
    dr_reply_give(reply, list == NULL ? NULL : json_pack("{s:o}", "promotions", list));
}
