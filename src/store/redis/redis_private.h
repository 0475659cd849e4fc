/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of this adapter share. A handle belongs to one thread at a time, like every store
 * handle; each node has one connection, opened when it is first needed. */
#ifndef DR_STORE_REDIS_REDIS_PRIVATE_H
#define DR_STORE_REDIS_REDIS_PRIVATE_H

#include <hiredis/hiredis.h>

#include "base/str.h"
#include "store/keyseq.h"
#include "store/redis/redis_store.h"

enum {
    RD_NODES_MAX = 1000,
    RD_SLOTS = 16384,
    RD_DB_MAX = 1000000,
    RD_CONNECT_MS = 2000,
    RD_COMMAND_MS = 5000,
    RD_HOPS_MAX = 8,           /* redirections of one command before it is called busy */
    RD_PIPE_CALLS = 512,       /* commands sent before their replies are read */
    RD_KEYS_PER_COMMAND = 128, /* of one UNLINK, WATCH or EXISTS: none holds the server for long */
    RD_WATCHED_MAX = 256,      /* a server compares each new WATCH with all earlier ones */
    RD_RUN_ID_BYTES = 41,
    RD_TYPES_MAX = 8,
};

#define RD_SLOT_NONE UINT32_MAX
#define RD_WATCH_STRAY UINT64_MAX /* something is WATCHed, but no whole read */
#define RD_MARKED_SET "set_with_services_marked_for_deletion"

struct rd_node {
    char *name; /* "host:port", an IPv6 host in brackets */
    char *host;
    int port;
    redisContext *c;
    uint64_t watch_mark; /* the read whose keys are WATCHed on this very connection; 0: none */
    bool is_replica;
    bool is_cluster;
    bool is_loading;
    bool is_proxy; /* does not know INFO */
    char run_id[RD_RUN_ID_BYTES];
    char version[24];
};

/* A description, parsed once for all calls that carry the same text. */
struct rd_spec {
    char *text;
    struct dr_keyseq *seq;
    bool zero_values;
    bool overwrite;
    bool are_types_given; /* then types are looked at even where only names would do */
    char *log_path;       /* NULL: erased keys are not logged */
    uint32_t type_count;
    char *type[RD_TYPES_MAX];
};

struct rd_store {
    char *user; /* NULL: none */
    char *password;
    uint32_t db;
    uint32_t node_count;
    uint32_t seed_count; /* the first nodes, those of the URL */
    struct rd_node *node[RD_NODES_MAX];
    bool is_kind_known;
    bool is_cluster;
    bool is_table_fresh;
    uint16_t owner[RD_SLOTS]; /* index of the node + 1; 0: nobody */
    uint64_t table_hash;
    uint64_t redirects; /* counts followed redirections: "did one happen meanwhile?" */
    uint64_t mark;      /* number of the last read that watched */
    uint64_t watched;   /* how many of its items, from the first on, are watched */
    struct dr_arena *scratch;
    struct rd_spec *spec;
    bool lacks_unlink, lacks_pexpiretime, lacks_scan_type; /* some server does not know these */
    struct dr_batch *rest; /* what a SCAN page held beyond a batch's budget */
    uint64_t rest_from;    /* its first item not given yet */
    uint64_t rest_mark;    /* random: the cursor that may claim it */
    char rest_next[24];    /* SCAN's cursor behind that page */
};

/* One command and its reply. Stand-alone servers ignore the slot. */
struct rd_call {
    int argc;
    const char **argv;
    size_t *bytes;
    uint32_t slot;
    redisReply *reply; /* owned; rd_calls_free */
    struct rd_node *to;
};

struct rd_target {
    struct rd_node *node;
    bool is_asking; /* the slot is on its way there: each command needs ASKING */
};

/* ---- url.c: addresses ---- */
DR_MUST enum dr_code rd_url_parse(struct rd_store *s, const char *url, struct dr_err *err);
/* The node of that name, added when `may_add`. */
DR_MUST enum dr_code rd_node_find(struct rd_store *s, const char *name, bool may_add,
                                  struct rd_node **out, struct dr_err *err);

/* ---- conn.c: one connection, one exchange ---- */
void rd_node_drop(struct rd_node *n); /* close the connection; the next use opens a new one */
void rd_node_destroy(struct rd_node *n);
/* Connected, permitted and answering. A replica is fine here. */
DR_MUST enum dr_code rd_node_connect(struct rd_store *s, struct rd_node *n, struct dr_err *err);
/* The same, and refuses a replica and a server that is still loading. */
DR_MUST enum dr_code rd_node_use(struct rd_store *s, struct rd_node *n, struct dr_err *err);
DR_MUST enum dr_code rd_append(struct rd_node *n, int argc, const char **argv, const size_t *bytes,
                               struct dr_err *err);
/* Next reply. A lost connection is DR_UNREACHABLE, or DR_UNKNOWN when `is_write`. */
DR_MUST enum dr_code rd_receive(struct rd_node *n, bool is_write, redisReply **out,
                                struct dr_err *err);
/* One command of plain words on one node; error replies are given, not judged. */
DR_MUST enum dr_code rd_ask(struct rd_node *n, redisReply **out, struct dr_err *err, int argc,
                            const char **argv);
bool rd_is_error(const redisReply *r, const char *prefix); /* prefix "" : any */
bool rd_is_unknown_command(const redisReply *r);
/* Translate an error reply into a code and a message that names the node. */
enum dr_code rd_fail_reply(struct rd_node *n, const redisReply *r, const char *what,
                           struct dr_err *err);
/* A field of INFO's text ("role" -> "master"); "" when it is missing. */
const char *rd_info_field(const char *info, const char *field, char *buf, size_t buf_bytes);

/* ---- route.c: which server, and moved slots ---- */
/* Find out whether the URL's servers are a cluster and, in one, who owns which slot now. */
DR_MUST enum dr_code rd_learn(struct rd_store *s, struct dr_err *err);
DR_MUST enum dr_code rd_refresh(struct rd_store *s, struct dr_err *err);
uint32_t rd_slot_of(const struct rd_store *s, const char *key, size_t bytes);
/* The server for a slot, connected; stand-alone: the named node. */
DR_MUST enum dr_code rd_route(struct rd_store *s, const char *node, uint32_t slot,
                              struct rd_node **out, struct dr_err *err);
/* Where a MOVED or ASK reply points. *is_out false: it is another reply. */
DR_MUST enum dr_code rd_redirect(struct rd_store *s, const redisReply *r, struct rd_target *to,
                                 bool *is_out, struct dr_err *err);
/* Send the calls in pipelines and read all replies; redirections are followed. Error replies stay
 * in call->reply for the caller, who knows what they mean for it. `write_point` names the fault
 * point behind sending a change; NULL: the calls only read. */
/* Forget what earlier reads watched and begin a new mark. */
DR_MUST enum dr_code rd_unwatch_all(struct rd_store *s, struct dr_err *err);
DR_MUST enum dr_code rd_exchange(struct rd_store *s, const char *node, struct rd_call *call,
                                 size_t count, const char *write_point, struct dr_err *err);
/* Push what is buffered onto the wire, so that a fault point behind it means "sent". */
void rd_flush(struct rd_node *n);
void rd_calls_free(struct rd_call *call, size_t count);
/* A call with `key_count` keys behind `fixed` words, from the scratch arena. NULL fields: short. */
DR_MUST enum dr_code rd_call_make(struct rd_store *s, struct rd_call *call, const char *name,
                                  const struct dr_item *item, size_t key_count, struct dr_err *err);
DR_MUST enum dr_code rd_call_add(struct rd_store *s, struct rd_call *call, const void *word,
                                 size_t bytes, struct dr_err *err);
/* How many items from `i` on share a slot, at most `most`. */
size_t rd_run_length(const struct rd_store *s, const struct dr_item *item, size_t i, size_t count,
                     size_t most);
/* Primaries in order of name; a stand-alone store's nodes. Indexes into s->node. */
uint32_t rd_primaries(const struct rd_store *s, uint16_t *out);
bool rd_is_primary(const struct rd_store *s, const char *name);

/* ---- spec.c ---- */
DR_MUST enum dr_code rd_spec_use(struct rd_store *s, const char *text, struct rd_spec **out,
                                 struct dr_err *err);
void rd_spec_destroy(struct rd_spec *p);
bool rd_spec_has_type(const struct rd_spec *p, const char *type);
bool rd_spec_has_collections(const struct rd_spec *p);

/* ---- value.c: what of a key is archived ---- */
struct rd_value {
    const void *payload; /* DUMP's */
    size_t payload_bytes;
    const char *type; /* not terminated */
    size_t type_bytes;
    int64_t expires_ms; /* absolute; -1: never */
};
DR_MUST enum dr_code rd_value_encode(const struct rd_value *v, struct dr_str *out,
                                     struct dr_err *err);
DR_MUST enum dr_code rd_value_decode(const struct dr_item *item, struct rd_value *out,
                                     struct dr_err *err);
/* Payload and expiry as they are now, one entry per item; payload NULL: absent. `watch` sends WATCH
 * first. Replies live in `call` (3 * count + runs): free with rd_look_free. */
struct rd_look {
    struct rd_call *call;
    size_t call_count;
    struct rd_value *value;
    size_t count;
};
DR_MUST enum dr_code rd_look(struct rd_store *s, const char *node, const struct dr_item *item,
                             size_t count, bool watch, struct rd_look *out, struct dr_err *err);
void rd_look_free(struct rd_look *l);
bool rd_value_same(const struct rd_store *s, const struct rd_value *a, const struct rd_value *b);
/* The type of each key, borrowed from static text: "none", one of the spec's, or "other". */
DR_MUST enum dr_code rd_types(struct rd_store *s, const char *node, const struct rd_spec *p,
                              const struct dr_item *item, size_t count, const char **type_out,
                              struct dr_err *err);
/* Is the value exactly "0"? One bool per item. */
DR_MUST enum dr_code rd_zeroes(struct rd_store *s, const char *node, const struct dr_item *item,
                               size_t count, bool *out, struct dr_err *err);

/* ---- shrink.c ---- */
/* Remove a big collection in small steps. The key is ours already (renamed away or unwanted). */
DR_MUST enum dr_code rd_shrink(struct rd_store *s, struct rd_node *n, const void *key,
                               size_t key_bytes, const char *type, struct dr_err *err);
/* A name in the same slot where a big key waits for being shrunk; false when there is none. */
DR_MUST enum dr_code rd_trash_name(struct rd_store *s, const struct dr_item *item,
                                   const char **name_out, size_t *bytes_out, struct dr_err *err);

/* ---- the operations ---- */
DR_MUST enum dr_code rd_survey_spec(void *impl, const char *spec, struct dr_survey *survey,
                                    struct dr_err *err);
DR_MUST enum dr_code rd_health(void *impl, const char *node, struct dr_health *out,
                               struct dr_err *err);
DR_MUST enum dr_code rd_count(void *impl, const struct dr_range *range, uint64_t *rows_out,
                              struct dr_err *err);
DR_MUST enum dr_code rd_scan(void *impl, const struct dr_range *range,
                             const struct dr_budget *budget, const struct dr_cursor *from,
                             struct dr_batch *batch, struct dr_err *err);
DR_MUST enum dr_code rd_scan_keys(struct rd_store *s, const struct dr_range *range,
                                  const struct rd_spec *p, const struct dr_budget *budget,
                                  const struct dr_cursor *from, struct dr_batch *batch,
                                  struct dr_err *err);
DR_MUST enum dr_code rd_scan_all(struct rd_store *s, const struct dr_range *range,
                                 const struct rd_spec *p, const struct dr_budget *budget,
                                 const struct dr_cursor *from, struct dr_batch *batch,
                                 struct dr_err *err);
/* A walk that visits all primaries, whatever node the range names. */
DR_MUST enum dr_code rd_scan_whole(struct rd_store *s, struct dr_cursor *out, struct dr_err *err);
/* Add those of the items that are there, as budget and spec want them. *taken_out: how many of the
 * items were dealt with before the bytes ran out. */
DR_MUST enum dr_code rd_take(struct rd_store *s, const struct dr_range *range,
                             const struct rd_spec *p, const struct dr_budget *budget,
                             const struct dr_item *item, size_t count, struct dr_batch *batch,
                             size_t *taken_out, struct dr_err *err);
DR_MUST enum dr_code rd_erase(void *impl, const struct dr_range *range,
                              const struct dr_batch *batch, struct dr_tally *tally,
                              struct dr_err *err);
DR_MUST enum dr_code rd_probe(void *impl, const struct dr_range *range,
                              const struct dr_batch *batch, struct dr_tally *tally,
                              struct dr_err *err);
DR_MUST enum dr_code rd_restore(void *impl, const struct dr_range *range,
                                const struct dr_batch *batch, struct dr_tally *tally,
                                struct dr_err *err);
DR_MUST enum dr_code rd_command(void *impl, const char *node, const char *text, struct dr_err *err);

#endif
