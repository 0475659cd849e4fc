/* SPDX-License-Identifier: Apache-2.0 */
/* One Raft peer as a process of its own, so that a test can kill or stop it: commands on standard
 * input, one line each, one line of answer on standard output.
 *
 *   raft_peer ID LISTEN|- DIR [bootstrap] [toy] [threshold=N] [trailing=N] [election=MS]
 *             [secret=TEXT] [open]
 *
 *   propose MS TEXT    add MS ID ADDR    assign MS ID voter|standby|spare    remove MS ID
 *   transfer MS ID     barrier MS        leader MS     applied MS INDEX      status
 *   hash               check             bench N CLIENTS       stop
 *
 * `toy` replaces the catalog by a machine whose state is a hash over all entries in their order. */
#include <assert.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/backoff.h"
#include "base/clock.h"
#include "base/fault.h"
#include "base/mem.h"
#include "base/str.h"
#include "catalog/raft_node.h"

/* --- the toy machine --- */

struct toy { /* the node's thread only */
    uint64_t hash, count, index;
};
static _Atomic uint64_t shown_hash; /* what `hash` may read meanwhile */

static enum dr_code toy_apply(void *arg, uint64_t index, const char *entry, size_t bytes,
                              struct dr_apply_result *result, struct dr_err *err)
{
    struct toy *t = arg;
    if (index <= t->index) {
        return dr_fail(err, DR_INTERNAL, "entry %" PRIu64 " after %" PRIu64, index, t->index);
    }
    if (bytes >= 4 && memcmp(entry, "disk", 4) == 0) {
        enum dr_code rc = dr_fault_pass("toy.apply", err);
        if (rc != DR_OK) {
            return rc;
        }
    }
    for (size_t i = 0; i < bytes; i++) {
        t->hash = (t->hash ^ (unsigned char)entry[i]) * 1099511628211u;
    }
    t->index = index;
    t->count++;
    atomic_store(&shown_hash, t->hash);
    result->changed = true;
    if (bytes >= 6 && memcmp(entry, "refuse", 6) == 0) {
        result->code = DR_REFUSED;
    }
    (void)snprintf(result->message, sizeof result->message, "count=%" PRIu64, t->count);
    return DR_OK;
}

static enum dr_code toy_begin(void *arg, void **held_out, struct dr_err *err)
{
    *held_out = dr_memdup(arg, sizeof(struct toy));
    return *held_out == NULL ? dr_fail_nomem(err) : DR_OK;
}

static enum dr_code toy_encode(void *arg, void *held, char **text_out, size_t *bytes_out,
                               struct dr_err *err)
{
    const struct toy *t = held;
    (void)arg;
    *text_out = dr_asprintf("%" PRIu64 " %" PRIu64 " %" PRIu64, t->hash, t->count, t->index);
    if (*text_out == NULL) {
        return dr_fail_nomem(err);
    }
    *bytes_out = strlen(*text_out);
    return DR_OK;
}

static void toy_end(void *arg, void *held)
{
    (void)arg;
    dr_free(held);
}

static enum dr_code toy_restore(void *arg, uint64_t index, const char *text, size_t bytes,
                                struct dr_err *err)
{
    struct toy *t = arg;
    char buf[128];
    if (bytes >= sizeof buf) {
        return dr_fail(err, DR_CORRUPT, "a toy snapshot of %zu bytes", bytes);
    }
    memcpy(buf, text, bytes);
    buf[bytes] = '\0';
    if (sscanf(buf, "%" SCNu64 " %" SCNu64 " %" SCNu64, &t->hash, &t->count, &t->index) != 3 ||
        t->index > index) {
        return dr_fail(err, DR_CORRUPT, "a toy snapshot that says \"%s\"", buf);
    }
    atomic_store(&shown_hash, t->hash);
    return DR_OK;
}

/* --- the commands --- */

static struct dr_node *node;
static struct toy toy;
static bool is_toy;

static void answer_code(enum dr_code rc, const struct dr_node_answer *a, const struct dr_err *err)
{
    if (rc == DR_OK) {
        (void)printf("OK index=%" PRIu64 " code=%s changed=%d msg=%s\n", a->index,
                     dr_code_name(a->result.code), a->result.changed, a->result.message);
    } else {
        (void)printf("%s leader=%" PRIu64 " msg=%s\n", dr_code_name(rc), a->leader_id, err->msg);
    }
}

static void run_status(void)
{
    static struct dr_node_status s; /* large */
    dr_node_status(node, &s);
    unsigned voters = 0;
    unsigned heard = 0;
    for (uint32_t i = 0; i < s.member_count; i++) {
        voters += s.member[i].role == DR_NODE_VOTER;
        heard += s.member[i].heard_ms_ago >= 0 && s.member[i].heard_ms_ago < 1000;
    }
    (void)printf("OK state=%s term=%" PRIu64 " commit=%" PRIu64 " applied=%" PRIu64 " last=%" PRIu64
                 " snapshot=%" PRIu64 " leader=%" PRIu64
                 " members=%u voters=%u heard=%u voter=%d waiting=%u msg=%s\n",
                 dr_node_state_name(s.state), s.term, s.commit_index, s.applied_index, s.last_index,
                 s.snapshot_index, s.leader_id, s.member_count, voters, heard, s.is_voter,
                 s.waiting, s.failure.msg);
}

static void run_hash(void)
{
    struct dr_err err = {0};
    uint64_t hash = atomic_load(&shown_hash);
    enum dr_code rc = DR_OK;
    struct dr_catalog *c = dr_node_catalog(node);
    if (c != NULL) {
        rc = dr_catalog_hash(c, &hash, &err);
    }
    dr_catalog_unref(c);
    (void)printf("%s hash=%016" PRIx64 " msg=%s\n", dr_code_name(rc), hash, err.msg);
}

static void run_check(const char *dir)
{
    struct dr_err err = {0};
    bool is_half = false;
    struct dr_catalog *c = dr_node_catalog(node);
    enum dr_code rc = dr_catalog_check_files(dir, c, &is_half, &err);
    dr_catalog_unref(c);
    (void)printf("%s half=%d msg=%s\n", dr_code_name(rc), is_half, err.msg);
}

/* Many clients that propose one after the other: entries/s as a cluster's users see it. */
struct bench {
    uint64_t each, client;
    _Atomic uint64_t *failed;
};

static void *run_client(void *arg)
{
    struct bench *b = arg;
    struct dr_node_answer a;
    struct dr_err err;
    char text[512];
    for (uint64_t i = 0; i < b->each; i++) {
        (void)snprintf(text, sizeof text,
                       "{\"format\":1,\"id\":%" PRIu64 ",\"op\":\"peer\",\"raft\":"
                       "\"127.0.0.1:%" PRIu64 "\",\"uri\":\"http://127.0.0.1:%" PRIu64
                       "\",\"v\":1,\"version\":\"0.1.0\"}",
                       100 + b->client, 1000 + i % 1000, 1000 + i % 999);
        if (dr_node_propose(node, text, strlen(text), 30000, &a, &err) != DR_OK) {
            atomic_fetch_add(b->failed, 1);
        }
        json_decref(a.result.value);
    }
    return NULL;
}

static void run_bench(uint64_t count, uint64_t clients)
{
    enum { CLIENTS_MAX = 256 };
    pthread_t thread[CLIENTS_MAX];
    struct bench b[CLIENTS_MAX];
    _Atomic uint64_t failed = 0;
    clients = clients > CLIENTS_MAX ? CLIENTS_MAX : clients;
    int64_t from = dr_mono_us();
    for (uint64_t i = 0; i < clients; i++) {
        b[i] = (struct bench){.each = count / clients, .client = i, .failed = &failed};
        int failure = pthread_create(&thread[i], NULL, run_client, &b[i]);
        assert(failure == 0);
        (void)failure;
    }
    for (uint64_t i = 0; i < clients; i++) {
        (void)pthread_join(thread[i], NULL);
    }
    double seconds = (double)(dr_mono_us() - from) / 1e6;
    (void)printf("OK per_second=%.0f failed=%" PRIu64 "\n",
                 (double)(count / clients * clients) / seconds, atomic_load(&failed));
}

static enum dr_node_role read_role(const char *text)
{
    return strcmp(text, "voter") == 0     ? DR_NODE_VOTER
           : strcmp(text, "standby") == 0 ? DR_NODE_STANDBY
                                          : DR_NODE_SPARE;
}

static bool run_member_command(const char *verb, uint32_t ms, char *rest)
{
    struct dr_node_answer a;
    struct dr_err err = {0};
    char *save = NULL;
    const char *id_text = strtok_r(rest, " ", &save);
    const char *more = strtok_r(NULL, " ", &save);
    uint64_t id = 0;
    enum dr_code rc = DR_OK;
    if (id_text != NULL && !dr_parse_u64(id_text, &id)) {
        return false;
    }
    if (strcmp(verb, "add") == 0 && more != NULL) {
        rc = dr_node_add(node, id, more, ms, &a, &err);
    } else if (strcmp(verb, "assign") == 0 && more != NULL) {
        rc = dr_node_assign(node, id, read_role(more), ms, &a, &err);
    } else if (strcmp(verb, "remove") == 0) {
        rc = dr_node_remove(node, id, ms, &a, &err);
    } else if (strcmp(verb, "transfer") == 0) {
        rc = dr_node_transfer(node, id, ms, &a, &err);
    } else if (strcmp(verb, "barrier") == 0) {
        rc = dr_node_barrier(node, ms, &a, &err);
    } else {
        return false;
    }
    answer_code(rc, &a, &err);
    return true;
}

static bool run_timed_command(const char *verb, uint32_t ms, char *rest)
{
    struct dr_node_answer a = {0};
    struct dr_err err = {0};
    uint64_t number = 0;
    if (strcmp(verb, "propose") == 0) {
        enum dr_code rc = dr_node_propose(node, rest, strlen(rest), ms, &a, &err);
        answer_code(rc, &a, &err);
        json_decref(a.result.value);
        return true;
    }
    if (strcmp(verb, "leader") == 0) {
        enum dr_code rc = dr_node_wait_leader(node, ms, &number, &err);
        (void)printf("%s leader=%" PRIu64 " msg=%s\n", dr_code_name(rc), number, err.msg);
        return true;
    }
    if (strcmp(verb, "applied") == 0 && dr_parse_u64(rest, &number)) {
        enum dr_code rc = dr_node_wait_applied(node, number, ms, &err);
        (void)printf("%s msg=%s\n", dr_code_name(rc), err.msg);
        return true;
    }
    if (strcmp(verb, "bench") == 0 && dr_parse_u64(rest, &number) && number > 0) {
        run_bench(ms, number);
        return true;
    }
    return run_member_command(verb, ms, rest);
}

static void run_line(char *line, const char *dir)
{
    char *verb = line;
    char *rest = strchr(line, ' ');
    uint64_t ms = 0;
    if (rest != NULL) {
        *rest++ = '\0';
        char *more = strchr(rest, ' ');
        if (more != NULL) {
            *more++ = '\0';
        }
        if (dr_parse_u64(rest, &ms) &&
            run_timed_command(verb, (uint32_t)ms, more == NULL ? rest + strlen(rest) : more)) {
            return;
        }
    } else if (strcmp(verb, "status") == 0) {
        run_status();
        return;
    } else if (strcmp(verb, "hash") == 0) {
        run_hash();
        return;
    } else if (strcmp(verb, "check") == 0) {
        run_check(dir);
        return;
    }
    (void)printf("USAGE msg=%s\n", verb);
}

static void read_option(const char *text, struct dr_node_config *config)
{
    uint64_t n = 0;
    const char *value = strchr(text, '=');
    bool has_number = value != NULL && dr_parse_u64(value + 1, &n);
    if (strcmp(text, "bootstrap") == 0) {
        config->is_bootstrap = true;
    } else if (strcmp(text, "toy") == 0) {
        is_toy = true;
    } else if (strcmp(text, "open") == 0) {
        config->is_open = true;
    } else if (value != NULL && strncmp(text, "secret=", 7) == 0) {
        config->secret = value + 1;
    } else if (has_number && strncmp(text, "threshold=", 10) == 0) {
        config->snapshot_threshold = (uint32_t)n;
    } else if (has_number && strncmp(text, "trailing=", 9) == 0) {
        config->snapshot_trailing = (uint32_t)n;
    } else if (has_number && strncmp(text, "election=", 9) == 0) {
        config->election_ms = (uint32_t)n;
    } else {
        (void)fprintf(stderr, "raft_peer: what is %s?\n", text);
        exit(2);
    }
}

static int serve(struct dr_log *log, struct dr_node_config *config)
{
    static char line[DR_ENTRY_BYTES_MAX + 4096];
    struct dr_err err = {0};
    struct dr_fsm fsm = {.arg = &toy,
                         .apply = toy_apply,
                         .snapshot_begin = toy_begin,
                         .snapshot_encode = toy_encode,
                         .snapshot_end = toy_end,
                         .restore = toy_restore};
    config->log = log;
    config->fsm = is_toy ? &fsm : NULL;
    toy.hash = 14695981039346656037u;
    atomic_store(&shown_hash, toy.hash);
    enum dr_code rc = dr_node_create(config, &node, &err);
    if (rc == DR_OK) {
        rc = dr_node_start(node, &err);
    }
    (void)printf("%s msg=%s\n", dr_code_name(rc), err.msg);
    (void)fflush(stdout);
    while (rc == DR_OK && fgets(line, (int)sizeof line, stdin) != NULL) {
        line[strcspn(line, "\n")] = '\0';
        if (strcmp(line, "stop") == 0) {
            dr_node_stop(node);
            (void)printf("OK stopped\n");
            break;
        }
        run_line(line, config->dir);
        (void)fflush(stdout);
    }
    dr_node_destroy(node);
    return rc == DR_OK ? 0 : 1;
}

int main(int argc, char **argv)
{
    struct dr_node_config config = {0};
    struct dr_log_config log_config = {.level = DR_LOG_WARN};
    struct dr_log *log = NULL;
    struct dr_err err = {0};
    if (argc < 4 || !dr_parse_u64(argv[1], &config.id)) {
        (void)fprintf(stderr, "usage: raft_peer ID LISTEN|- DIR [OPTION]...\n");
        return 2;
    }
    config.listen = strcmp(argv[2], "-") == 0 ? NULL : argv[2];
    config.dir = argv[3];
    for (int i = 4; i < argc; i++) {
        read_option(argv[i], &config);
    }
    const char *level = getenv("RAFT_PEER_LOG");
    if (level != NULL) {
        (void)dr_log_level_parse(level, &log_config.level);
    }
    enum dr_code rc = dr_log_create(&log_config, &log, &err);
    if (rc != DR_OK) {
        return 1;
    }
    int status = serve(log, &config);
    dr_log_destroy(log);
    return status;
}
