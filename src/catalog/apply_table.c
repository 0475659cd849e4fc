/* SPDX-License-Identifier: Apache-2.0 */
/* Operations on sharded tables. Each may come twice, after a lost reply or a restart: what is so
 * already is done. In between the record belongs to one operation, whose uuid it carries, and the
 * entries of all others are refused: two rebalances cannot meet. */
#include <string.h>

#include "base/str.h"
#include "catalog/table_private.h"

/* What every entry says. */
struct head {
    const char *name, *uuid, *operation;
};

static void read_head(struct dr_apply *a, struct head *h)
{
    *h = (struct head){"", "", ""};
    (void)dr_jr_string(&a->fields, "name", true, &h->name);
    (void)dr_jr_string(&a->fields, "uuid", true, &h->uuid);
    (void)dr_jr_string(&a->fields, "operation", true, &h->operation);
}

/* The end of reading: are the uuids some? False: refused. */
static bool end_head(struct dr_apply *a, const struct head *h)
{
    if (!dr_apply_fields_end(a)) {
        return false;
    }
    if (!dr_uuid_text_is_good(h->uuid) || !dr_uuid_text_is_good(h->operation)) {
        (void)dr_apply_refuse(a, DR_INPUT, "entry.uuid, entry.operation: one of them is no uuid");
        return false;
    }
    return true;
}

static const struct dr_table *find_namesake(const struct dr_apply *a, const struct head *h)
{
    const struct dr_table_info *info = dr_catalog_table(a->c, h->name);
    return info == NULL ? NULL : dr_table_of(info);
}

static enum dr_code refuse_held(struct dr_apply *a, const struct dr_table_info *info)
{
    return dr_apply_refuse(a, DR_CONFLICT,
                           "table `%s` is %s by operation %s (%s): wait until that has ended, or "
                           "stop it (drover status has its number)",
                           info->name,
                           info->state == DR_TABLE_MAKING     ? "being made"
                           : info->state == DR_TABLE_DROPPING ? "being dropped"
                                                              : "being changed",
                           info->operation, info->what);
}

static bool is_owner(const struct dr_table_info *info, const struct head *h)
{
    return strcmp(info->operation, h->operation) == 0;
}

/* The table that is meant; NULL: refused, for there is none or it is another one by now. */
static const struct dr_table *find_table(struct dr_apply *a, const struct head *h)
{
    const struct dr_table *t = find_namesake(a, h);
    if (t == NULL) {
        (void)dr_apply_refuse(a, DR_NOT_FOUND, "there is no sharded table `%.64s`", h->name);
        return NULL;
    }
    if (strcmp(t->info.uuid, h->uuid) != 0) {
        (void)dr_apply_refuse(a, DR_CONFLICT,
                              "table `%s` was dropped and made again since this was asked for: "
                              "look at it and ask again",
                              t->info.name);
        return NULL;
    }
    if (t->info.state != DR_TABLE_READY && !is_owner(&t->info, h)) {
        (void)refuse_held(a, &t->info);
        return NULL;
    }
    return t;
}

static enum dr_code refuse_state(struct dr_apply *a, const struct dr_table_info *info,
                                 const char *what)
{
    return dr_apply_refuse(a, DR_CONFLICT, "table `%s` is %s and cannot be %s", info->name,
                           dr_table_state_name(info->state), what);
}

/* Takes the reference of `put`; NULL: the table of this name goes. */
static enum dr_code change_set(struct dr_apply *a, const char *name, struct dr_table *put)
{
    struct dr_table_set *set = NULL;
    enum dr_code rc = dr_table_set_change(a->c->tables, name, put, &set, a->err);
    if (rc == DR_OK) {
        rc = dr_catalog_clone(a->c, a->index, 0, &a->out, a->err);
    }
    if (rc != DR_OK) {
        dr_table_set_unref(set);
        return rc;
    }
    dr_table_set_unref(a->out->tables);
    a->out->tables = set;
    return DR_OK;
}

static enum dr_code finish(struct dr_apply *a, struct dr_table_draft *d)
{
    struct dr_err why = {0};
    struct dr_table *made = NULL;
    enum dr_code rc = dr_table_draft_check(d, &why);
    if (rc != DR_OK) {
        return dr_apply_refuse(a, rc, "table `%.64s`: %s", d->info.name, why.msg);
    }
    d->info.changed_at_index = a->index;
    rc = dr_table_draft_freeze(d, &made, a->err);
    return rc == DR_OK ? change_set(a, made->info.name, made) : rc;
}

/* --- making ------------------------------------------------------------------------------------
 */

/* [{"name","url"}] behind the draft's nodes. False: refused. */
static bool read_nodes(struct dr_apply *a, const json_t *list, bool is_coming,
                       struct dr_table_draft *d)
{
    for (size_t i = 0; i < json_array_size(list); i++) {
        struct dr_jr j;
        struct dr_table_node n = {.name = "", .url = "", .is_coming = is_coming};
        dr_jr_init(&j, json_array_get(list, i), "node", &a->input_err);
        (void)dr_jr_string(&j, "name", true, &n.name);
        (void)dr_jr_string(&j, "url", true, &n.url);
        if (dr_jr_finish(&j) != DR_OK) {
            (void)dr_apply_refuse(a, DR_INPUT, "%s", a->input_err.msg);
            return false;
        }
        d->node[d->info.node_count++] = n;
    }
    return true;
}

static bool is_same_lists(const struct dr_table_info *x, const struct dr_table_draft *d)
{
    const struct dr_table_info *y = &d->info;
    bool is_same = x->node_count == y->node_count && x->shard_count == y->shard_count;
    for (uint32_t i = 0; is_same && i < x->node_count; i++) {
        is_same = strcmp(x->node[i].name, d->node[i].name) == 0 &&
                  strcmp(x->node[i].url, d->node[i].url) == 0;
    }
    for (uint32_t i = 0; is_same && i < x->shard_count; i++) {
        is_same = x->shard[i].holder_count == d->shard[i].holder_count &&
                  memcmp(x->shard[i].holder, d->shard[i].holder,
                         x->shard[i].holder_count * sizeof(uint32_t)) == 0;
    }
    return is_same;
}

/* The name is taken. By this very entry, that came before? */
static enum dr_code judge_namesake(struct dr_apply *a, const struct head *h,
                                   const struct dr_table *t, const struct dr_table_draft *d)
{
    const struct dr_table_info *info = &t->info;
    bool is_ours = strcmp(info->uuid, h->uuid) == 0 && strcmp(t->creator, h->operation) == 0;
    bool is_early = info->state == DR_TABLE_MAKING || info->state == DR_TABLE_READY;
    if (is_ours && is_early && strcmp(info->engine, d->info.engine) == 0 &&
        strcmp(info->columns, d->info.columns) == 0 && strcmp(info->extra, d->info.extra) == 0 &&
        strcmp(t->options, d->options) == 0 && info->rf == d->info.rf && is_same_lists(info, d)) {
        return DR_OK;
    }
    if (info->state == DR_TABLE_MAKING || info->state == DR_TABLE_DROPPING) {
        return refuse_held(a, info);
    }
    return dr_apply_refuse(a, DR_EXISTS, "there is a sharded table `%s` already", info->name);
}

/* Texts and numbers of a new table; false: refused, or *rc says that memory was short. */
static bool read_table(struct dr_apply *a, struct dr_table_draft *d, const json_t **nodes,
                       const json_t **placement, enum dr_code *rc)
{
    const char *routing = DR_TABLE_ROUTING;
    const json_t *options = NULL;
    uint64_t shards = 0;
    uint64_t rf = 0;
    d->info.engine = d->info.columns = d->info.extra = "";
    (void)dr_jr_string(&a->fields, "engine", true, &d->info.engine);
    (void)dr_jr_string(&a->fields, "columns", true, &d->info.columns);
    (void)dr_jr_string(&a->fields, "extra", false, &d->info.extra);
    (void)dr_jr_u64(&a->fields, "shards", true, 1, DR_TABLE_SHARDS_MAX, &shards);
    (void)dr_jr_u64(&a->fields, "rf", true, 1, DR_TABLE_HOLDERS_MAX, &rf);
    (void)dr_jr_string(&a->fields, "routing", false, &routing);
    (void)dr_jr_array(&a->fields, "nodes", true, DR_TABLE_NODES_MAX, nodes);
    (void)dr_jr_array(&a->fields, "placement", true, DR_TABLE_SHARDS_MAX, placement);
    (void)dr_jr_object(&a->fields, "options", false, &options);
    if (!dr_apply_fields_end(a)) {
        return false;
    }
    d->options = "";
    enum dr_code checked =
        options == NULL ? DR_OK : dr_extra_check(options, "entry.options", &a->input_err);
    if (checked != DR_OK) {
        *rc = checked == DR_NOMEM ? dr_fail_nomem(a->err)
                                  : dr_apply_refuse(a, DR_INPUT, "%s", a->input_err.msg);
        return false;
    }
    if (json_object_size(options) > 0) {
        char *text = dr_json_text(options);
        d->options = text == NULL ? NULL : dr_arena_strdup(a->arena, text);
        dr_free(text);
        *rc = d->options == NULL ? dr_fail_nomem(a->err) : DR_OK;
    }
    if (*rc == DR_OK && strlen(d->options) > DR_TABLE_OPTIONS_BYTES_MAX) {
        (void)dr_apply_refuse(a, DR_INPUT, "entry.options: has more than %d bytes",
                              DR_TABLE_OPTIONS_BYTES_MAX);
    } else if (strcmp(routing, DR_TABLE_ROUTING) != 0) {
        (void)dr_apply_refuse(a, DR_INPUT,
                              "entry.routing: \"" DR_TABLE_ROUTING "\" is the only one there is");
    } else if (json_array_size(*placement) != shards) {
        (void)dr_apply_refuse(a, DR_INPUT, "entry.placement: there are %llu shards",
                              (unsigned long long)shards);
    }
    d->info.rf = (uint32_t)rf;
    d->info.shard_count = (uint32_t)shards;
    return *rc == DR_OK && a->result->code == DR_OK;
}

/* Nodes and placement into the draft, in order; false as above. */
static bool read_lists(struct dr_apply *a, struct dr_table_draft *d, const json_t *nodes,
                       const json_t *placement, enum dr_code *rc)
{
    struct dr_err why = {0};
    d->node = dr_arena_alloc(a->arena, (json_array_size(nodes) + 1) * sizeof *d->node);
    if (d->node == NULL) {
        *rc = dr_fail_nomem(a->err);
        return false;
    }
    if (!read_nodes(a, nodes, false, d)) {
        return false;
    }
    enum dr_code read =
        dr_table_read_placement(placement, d->info.node_count, a->arena, &d->shard, &why);
    if (read != DR_OK && read != DR_NOMEM) {
        (void)dr_apply_refuse(a, DR_INPUT, "entry.placement: %s", why.msg);
        return false;
    }
    *rc = read == DR_NOMEM ? dr_fail_nomem(a->err) : dr_table_draft_sort(d, NULL, a->err);
    return *rc == DR_OK;
}

enum dr_code dr_apply_table_reserve(struct dr_apply *a)
{
    struct head h;
    struct dr_table_draft d = {.arena = a->arena};
    const json_t *nodes = NULL;
    const json_t *placement = NULL;
    enum dr_code rc = DR_OK;
    read_head(a, &h);
    if (!read_table(a, &d, &nodes, &placement, &rc) || !end_head(a, &h) ||
        !read_lists(a, &d, nodes, placement, &rc)) {
        return rc;
    }
    for (uint32_t i = 0; i < d.info.shard_count; i++) {
        if (d.shard[i].holder_count != d.info.rf) {
            return dr_apply_refuse(a, DR_INPUT, "entry.placement: shard %u has %u copies, not %u",
                                   i, d.shard[i].holder_count, d.info.rf);
        }
    }
    const struct dr_table *there = find_namesake(a, &h);
    if (there != NULL) {
        return judge_namesake(a, &h, there, &d);
    }
    if (dr_catalog_table_count(a->c) >= DR_TABLES_MAX) {
        return dr_apply_refuse(a, DR_REFUSED, "there are %d sharded tables, the most that fit",
                               DR_TABLES_MAX);
    }
    d.info.name = h.name;
    d.info.operation = h.operation;
    d.info.what = "create";
    d.info.state = DR_TABLE_MAKING;
    d.info.version = 1;
    d.creator = h.operation;
    dr_copy_text(d.info.uuid, sizeof d.info.uuid, h.uuid);
    return finish(a, &d);
}

/* Gone already, or another one has the name by now: then this one is gone too. NULL and no refusal:
 * so already. */
static const struct dr_table *find_to_remove(struct dr_apply *a, const struct head *h)
{
    const struct dr_table *t = find_namesake(a, h);
    return t == NULL || strcmp(t->info.uuid, h->uuid) != 0 ? NULL : find_table(a, h);
}

/* A table that is ready can be taken back by the operation that made it, as long as no other one
 * has changed it since: what that operation knows about its shards would not be true any more. */
enum dr_code dr_apply_table_release(struct dr_apply *a)
{
    struct head h;
    read_head(a, &h);
    const struct dr_table *t = end_head(a, &h) ? find_to_remove(a, &h) : NULL;
    if (t == NULL) {
        return DR_OK;
    }
    if (t->info.state == DR_TABLE_CHANGING) {
        return refuse_state(a, &t->info, "released");
    }
    if (t->info.state == DR_TABLE_READY &&
        (strcmp(t->creator, h.operation) != 0 || t->info.version != 1)) {
        return dr_apply_refuse(a, DR_CONFLICT,
                               "table `%s` is in use and was changed since it was made, or made "
                               "by another operation: drop it instead",
                               t->info.name);
    }
    return change_set(a, t->info.name, NULL);
}

/* To `state`, held by nobody or by this operation. */
static enum dr_code set_state(struct dr_apply *a, const struct dr_table *t, const struct head *h,
                              enum dr_table_state state, const char *what)
{
    struct dr_table_draft d;
    enum dr_code rc = dr_table_draft_begin(&d, a->arena, t, 0, a->err);
    if (rc != DR_OK) {
        return rc;
    }
    d.info.state = state;
    d.info.operation = state == DR_TABLE_READY ? "" : h->operation;
    d.info.what = what;
    return finish(a, &d);
}

enum dr_code dr_apply_table_ready(struct dr_apply *a)
{
    struct head h;
    read_head(a, &h);
    const struct dr_table *t = end_head(a, &h) ? find_table(a, &h) : NULL;
    if (t == NULL || t->info.state == DR_TABLE_READY) {
        return DR_OK;
    }
    return t->info.state == DR_TABLE_MAKING ? set_state(a, t, &h, DR_TABLE_READY, "")
                                            : refuse_state(a, &t->info, "declared made");
}

/* --- changing ----------------------------------------------------------------------------------
 */

static uint32_t find_node(const struct dr_table_info *info, const char *name)
{
    for (uint32_t i = 0; i < info->node_count; i++) {
        if (strcmp(info->node[i].name, name) == 0) {
            return i;
        }
    }
    return UINT32_MAX;
}

/* Does the change that goes on add and remove just these? */
static bool is_same_change(const struct dr_table_info *info, const json_t *add,
                           const json_t *remove)
{
    size_t coming = 0;
    size_t leaving = 0;
    for (uint32_t i = 0; i < info->node_count; i++) {
        coming += info->node[i].is_coming;
        leaving += info->node[i].is_leaving;
    }
    bool is_same = coming == json_array_size(add) && leaving == json_array_size(remove);
    for (size_t i = 0; is_same && i < coming; i++) {
        const char *name = json_string_value(json_object_get(json_array_get(add, i), "name"));
        const char *url = json_string_value(json_object_get(json_array_get(add, i), "url"));
        uint32_t at = name == NULL || url == NULL ? UINT32_MAX : find_node(info, name);
        is_same =
            at != UINT32_MAX && info->node[at].is_coming && strcmp(info->node[at].url, url) == 0;
    }
    for (size_t i = 0; is_same && i < leaving; i++) {
        const char *name = json_string_value(json_array_get(remove, i));
        uint32_t at = name == NULL ? UINT32_MAX : find_node(info, name);
        is_same = at != UINT32_MAX && info->node[at].is_leaving;
    }
    return is_same;
}

/* False: refused. */
static bool mark_leaving(struct dr_apply *a, const struct dr_table *t, const json_t *remove,
                         struct dr_table_draft *d)
{
    size_t count = json_array_size(remove);
    for (size_t i = 0; i < count; i++) {
        const char *name = json_string_value(json_array_get(remove, i));
        uint32_t at = name == NULL ? UINT32_MAX : find_node(&t->info, name);
        if (at == UINT32_MAX || d->node[at].is_leaving) {
            (void)dr_apply_refuse(a, DR_INPUT,
                                  "entry.remove: \"%.128s\" is no node of table `%s`, or named "
                                  "twice",
                                  name == NULL ? "" : name, t->info.name);
            return false;
        }
        d->node[at].is_leaving = true;
    }
    if (d->info.node_count == count) {
        (void)dr_apply_refuse(a, DR_REFUSED,
                              "table `%s` would keep no node: add others, or drop the table",
                              t->info.name);
        return false;
    }
    return true;
}

enum dr_code dr_apply_table_begin(struct dr_apply *a)
{
    struct head h;
    struct dr_table_draft d;
    const char *what = "";
    const json_t *add = NULL;
    const json_t *remove = NULL;
    read_head(a, &h);
    (void)dr_jr_string(&a->fields, "what", true, &what);
    (void)dr_jr_array(&a->fields, "add", true, DR_TABLE_NODES_MAX, &add);
    (void)dr_jr_array(&a->fields, "remove", true, DR_TABLE_NODES_MAX, &remove);
    const struct dr_table *t = end_head(a, &h) ? find_table(a, &h) : NULL;
    if (t == NULL) {
        return DR_OK;
    }
    if (strcmp(what, "rebalance") != 0) {
        return dr_apply_refuse(a, DR_INPUT, "entry.what: \"rebalance\" is the only one there is");
    }
    if (t->info.state != DR_TABLE_READY) {
        return t->info.state == DR_TABLE_CHANGING && is_same_change(&t->info, add, remove)
                   ? DR_OK
                   : refuse_state(a, &t->info, "changed in another way by the same operation");
    }
    enum dr_code rc = dr_table_draft_begin(&d, a->arena, t, (uint32_t)json_array_size(add), a->err);
    if (rc != DR_OK) {
        return rc;
    }
    if (!read_nodes(a, add, true, &d) || !mark_leaving(a, t, remove, &d)) {
        return DR_OK;
    }
    d.info.state = DR_TABLE_CHANGING;
    d.info.operation = h.operation;
    d.info.what = "rebalance";
    rc = dr_table_draft_sort(&d, NULL, a->err);
    return rc == DR_OK ? finish(a, &d) : rc;
}

/* Names -> numbers; false: refused. */
static bool read_holders(struct dr_apply *a, const struct dr_table_info *info, const char *field,
                         const json_t *names, uint32_t *holder)
{
    for (size_t i = 0; i < json_array_size(names); i++) {
        const char *name = json_string_value(json_array_get(names, i));
        holder[i] = name == NULL ? UINT32_MAX : find_node(info, name);
        if (holder[i] == UINT32_MAX) {
            (void)dr_apply_refuse(a, DR_INPUT, "entry.%s: \"%.128s\" is no node of table `%s`",
                                  field, name == NULL ? "" : name, info->name);
            return false;
        }
    }
    return true;
}

static bool is_held_by(const struct dr_table_shard *s, const uint32_t *holder, size_t count)
{
    return s->holder_count == count && memcmp(s->holder, holder, count * sizeof *holder) == 0;
}

static enum dr_code refuse_holders(struct dr_apply *a, const struct dr_table_info *info,
                                   uint32_t shard)
{
    char names[256] = "";
    size_t used = 0;
    const struct dr_table_shard *s = &info->shard[shard];
    for (uint32_t k = 0; k < s->holder_count && used + 2 < sizeof names; k++) {
        dr_copy_text(names + used, sizeof names - used, k == 0 ? "" : ", ");
        used += strlen(names + used);
        dr_copy_text(names + used, sizeof names - used, info->node[s->holder[k]].name);
        used += strlen(names + used);
    }
    return dr_apply_refuse(a, DR_CONFLICT,
                           "shard %u of table `%s` is on %s now, not where this switch comes from",
                           shard, info->name, names);
}

/* The numbers of both lists, into the arena; *is_refused tells. */
static enum dr_code read_switch(struct dr_apply *a, const struct dr_table_info *info,
                                const json_t *from, const json_t *to, uint32_t **from_out,
                                uint32_t **to_out)
{
    *from_out = dr_arena_alloc(a->arena, (json_array_size(from) + 1) * sizeof(uint32_t));
    *to_out = dr_arena_alloc(a->arena, (json_array_size(to) + 1) * sizeof(uint32_t));
    if (*from_out == NULL || *to_out == NULL) {
        return dr_fail_nomem(a->err);
    }
    if (read_holders(a, info, "from", from, *from_out)) {
        (void)read_holders(a, info, "to", to, *to_out);
    }
    return DR_OK;
}

enum dr_code dr_apply_table_switch(struct dr_apply *a)
{
    struct head h;
    struct dr_table_draft d;
    uint64_t shard = 0;
    const json_t *from = NULL;
    const json_t *to = NULL;
    uint32_t *from_holder = NULL;
    uint32_t *to_holder = NULL;
    read_head(a, &h);
    (void)dr_jr_u64(&a->fields, "shard", true, 0, DR_TABLE_SHARDS_MAX - 1, &shard);
    (void)dr_jr_array(&a->fields, "from", true, DR_TABLE_HOLDERS_MAX, &from);
    (void)dr_jr_array(&a->fields, "to", true, DR_TABLE_HOLDERS_MAX, &to);
    const struct dr_table *t = end_head(a, &h) ? find_table(a, &h) : NULL;
    if (t == NULL) {
        return DR_OK;
    }
    if (shard >= t->info.shard_count) {
        return dr_apply_refuse(a, DR_INPUT, "table `%s` has no shard %u", t->info.name,
                               (uint32_t)shard);
    }
    enum dr_code rc = read_switch(a, &t->info, from, to, &from_holder, &to_holder);
    if (rc != DR_OK || a->result->code != DR_OK) {
        return rc;
    }
    const struct dr_table_shard *now = &t->info.shard[shard];
    if (is_held_by(now, to_holder, json_array_size(to))) {
        return DR_OK;
    }
    if (t->info.state != DR_TABLE_CHANGING) {
        return refuse_state(a, &t->info, "switched: begin a change first");
    }
    if (!is_held_by(now, from_holder, json_array_size(from))) {
        return refuse_holders(a, &t->info, (uint32_t)shard);
    }
    rc = dr_table_draft_begin(&d, a->arena, t, 0, a->err);
    if (rc != DR_OK) {
        return rc;
    }
    d.shard[shard].holder = to_holder;
    d.shard[shard].holder_count = (uint32_t)json_array_size(to);
    d.info.version++;
    return finish(a, &d);
}

static bool is_holder(const struct dr_table_info *info, uint32_t node, uint32_t *shard_out)
{
    for (uint32_t i = 0; i < info->shard_count; i++) {
        for (uint32_t k = 0; k < info->shard[i].holder_count; k++) {
            if (info->shard[i].holder[k] == node) {
                *shard_out = i;
                return true;
            }
        }
    }
    return false;
}

/* For taking back what this operation has done: NULL when it has done nothing here, because another
 * one holds the table or it is gone. */
static const struct dr_table *find_to_undo(struct dr_apply *a, const struct head *h)
{
    const struct dr_table *t = find_namesake(a, h);
    bool is_another = t == NULL || strcmp(t->info.uuid, h->uuid) != 0 ||
                      (t->info.state != DR_TABLE_READY && !is_owner(&t->info, h));
    return is_another ? NULL : t;
}

/* End the change: those that leave (the ones that came, when it is cancelled) go. */
static enum dr_code end_change(struct dr_apply *a, bool is_cancelled)
{
    struct head h;
    struct dr_table_draft d;
    bool *is_gone = NULL;
    read_head(a, &h);
    const struct dr_table *t = !end_head(a, &h) ? NULL
                               : is_cancelled   ? find_to_undo(a, &h)
                                                : find_table(a, &h);
    if (t == NULL || t->info.state == DR_TABLE_READY) {
        return DR_OK;
    }
    if (t->info.state != DR_TABLE_CHANGING) {
        return refuse_state(a, &t->info, is_cancelled ? "changed back" : "declared changed");
    }
    enum dr_code rc = dr_table_draft_begin(&d, a->arena, t, 0, a->err);
    is_gone = dr_arena_alloc(a->arena, ((size_t)t->info.node_count + 1) * sizeof *is_gone);
    if (rc != DR_OK || is_gone == NULL) {
        return dr_fail_nomem(a->err);
    }
    for (uint32_t i = 0; i < d.info.node_count; i++) {
        uint32_t shard = 0;
        is_gone[i] = is_cancelled ? d.node[i].is_coming : d.node[i].is_leaving;
        if (is_gone[i] && is_holder(&t->info, i, &shard)) {
            return dr_apply_refuse(a, DR_REFUSED, "node %s still holds shard %u of table `%s`: %s",
                                   d.node[i].name, shard, t->info.name,
                                   is_cancelled ? "switch it back first" : "move it first");
        }
        d.node[i].is_coming = false;
        d.node[i].is_leaving = false;
    }
    d.info.state = DR_TABLE_READY;
    d.info.operation = d.info.what = "";
    rc = dr_table_draft_sort(&d, is_gone, a->err);
    return rc == DR_OK ? finish(a, &d) : rc;
}

enum dr_code dr_apply_table_end(struct dr_apply *a)
{
    return end_change(a, false);
}

enum dr_code dr_apply_table_cancel(struct dr_apply *a)
{
    return end_change(a, true);
}

/* --- dropping ----------------------------------------------------------------------------------
 */

enum dr_code dr_apply_table_drop(struct dr_apply *a)
{
    struct head h;
    read_head(a, &h);
    const struct dr_table *t = end_head(a, &h) ? find_table(a, &h) : NULL;
    if (t == NULL || t->info.state == DR_TABLE_DROPPING) {
        return DR_OK;
    }
    return t->info.state == DR_TABLE_READY ? set_state(a, t, &h, DR_TABLE_DROPPING, "drop")
                                           : refuse_state(a, &t->info, "dropped");
}

enum dr_code dr_apply_table_undrop(struct dr_apply *a)
{
    struct head h;
    read_head(a, &h);
    const struct dr_table *t = end_head(a, &h) ? find_to_undo(a, &h) : NULL;
    if (t == NULL || t->info.state == DR_TABLE_READY) {
        return DR_OK;
    }
    return t->info.state == DR_TABLE_DROPPING ? set_state(a, t, &h, DR_TABLE_READY, "")
                                              : refuse_state(a, &t->info, "taken back");
}

enum dr_code dr_apply_table_remove(struct dr_apply *a)
{
    struct head h;
    read_head(a, &h);
    const struct dr_table *t = end_head(a, &h) ? find_to_remove(a, &h) : NULL;
    if (t == NULL) {
        return DR_OK;
    }
    return t->info.state == DR_TABLE_DROPPING ? change_set(a, t->info.name, NULL)
                                              : refuse_state(a, &t->info, "removed: drop it first");
}
