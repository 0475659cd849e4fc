/* SPDX-License-Identifier: Apache-2.0 */
/* Real redis-servers for tests: each on a free loopback port with its own folder, stopped at the
 * end of the test whatever happens. Also a raw client, to set the stage and to look afterwards. */
#ifndef DR_TESTS_REDIS_HELP_H
#define DR_TESTS_REDIS_HELP_H

#include <arpa/inet.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include <fcntl.h>
#include <hiredis/hiredis.h>

#include "base/backoff.h"
#include "base/clock.h"
#include "base/fault.h"
#include "base/file.h"
#include "base/json.h"
#include "base/str.h"
#include "store/keyseq.h"
#include "store/redis/redis_store.h"

enum { SERVERS_MAX = 12, WAIT_MS_MAX = 20000 };

struct server {
    int port;
    pid_t pid;
    char name[32]; /* "127.0.0.1:port" */
    char folder[64];
    char options[8][64];
    int option_count;
    redisContext *c;
};

static struct server servers[SERVERS_MAX];
static int server_count;
static struct dr_err err;

static DR_UNUSED void must(enum dr_code rc)
{
    if (rc != DR_OK) {
        print_error("%s: %s\n", dr_code_name(rc), err.msg);
        fail();
    }
}

static DR_UNUSED void assert_has(const char *text, const char *part)
{
    if (text == NULL || strstr(text, part) == NULL) {
        print_error("expected to find \"%s\" in \"%s\"\n", part, text == NULL ? "" : text);
        fail();
    }
}

static DR_UNUSED int free_port(void)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    for (int i = 0; i < 100; i++) {
        socklen_t bytes = sizeof a;
        int fd = socket(AF_INET, SOCK_STREAM, 0);
        a.sin_port = 0;
        int ok = bind(fd, (struct sockaddr *)&a, sizeof a) == 0 &&
                 getsockname(fd, (struct sockaddr *)&a, &bytes) == 0;
        (void)close(fd);
        if (ok && ntohs(a.sin_port) < 55000) { /* the cluster bus listens 10000 above */
            return ntohs(a.sin_port);
        }
    }
    fail_msg("no free port");
    return 0;
}

/* ---- raw commands ---- */

static DR_UNUSED void disconnect(struct server *v)
{
    if (v->c != NULL) {
        redisFree(v->c);
        v->c = NULL;
    }
}

static DR_UNUSED bool connect_raw(struct server *v)
{
    static const struct timeval limit = {.tv_sec = 5};
    if (v->c == NULL) {
        v->c = redisConnectWithTimeout("127.0.0.1", v->port, limit);
    }
    if (v->c != NULL && v->c->err != 0) {
        disconnect(v);
    }
    return v->c != NULL;
}

/* The reply is the caller's. NULL: the connection is gone. */
static DR_UNUSED redisReply *raw(struct server *v, const char *format, ...)
{
    redisReply *reply = NULL;
    va_list args;
    va_start(args, format);
    if (connect_raw(v)) {
        reply = redisvCommand(v->c, format, args);
    }
    va_end(args);
    if (reply == NULL) {
        disconnect(v);
    }
    return reply;
}

static DR_UNUSED void tell(struct server *v, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    assert_true(connect_raw(v));
    redisReply *reply = redisvCommand(v->c, format, args);
    va_end(args);
    assert_non_null(reply);
    if (reply->type == REDIS_REPLY_ERROR) {
        fail_msg("%s: %s", format, reply->str);
    }
    freeReplyObject(reply);
}

static DR_UNUSED long long number(struct server *v, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    assert_true(connect_raw(v));
    redisReply *reply = redisvCommand(v->c, format, args);
    va_end(args);
    assert_non_null(reply);
    if (reply->type != REDIS_REPLY_INTEGER) {
        fail_msg("%s: %s", format, reply->str);
    }
    long long n = reply->integer;
    freeReplyObject(reply);
    return n;
}

/* Text of a string reply, in a static buffer; "(nil)" when there is none. */
static DR_UNUSED const char *text_of(struct server *v, const char *format, ...)
{
    static char buf[65536];
    va_list args;
    va_start(args, format);
    assert_true(connect_raw(v));
    redisReply *reply = redisvCommand(v->c, format, args);
    va_end(args);
    assert_non_null(reply);
    (void)snprintf(buf, sizeof buf, "%s", reply->str == NULL ? "(nil)" : reply->str);
    freeReplyObject(reply);
    return buf;
}

/* ---- starting and stopping ---- */

static DR_UNUSED bool is_answering(void *arg)
{
    struct server *v = arg;
    redisReply *reply = raw(v, "PING");
    bool ok = reply != NULL && strstr(reply->str, "PONG") != NULL;
    bool needs_password = reply != NULL && strstr(reply->str, "NOAUTH") != NULL;
    freeReplyObject(reply);
    return ok || needs_password;
}

static DR_UNUSED void run_server(struct server *v)
{
    char port[16];
    (void)snprintf(port, sizeof port, "%d", v->port);
    v->pid = fork();
    assert_true(v->pid >= 0);
    if (v->pid == 0) {
        char *argv[64] = {(char *)"redis-server",
                          (char *)"--port",
                          port,
                          (char *)"--bind",
                          (char *)"127.0.0.1",
                          (char *)"--save",
                          (char *)"",
                          (char *)"--dir",
                          v->folder,
                          (char *)"--enable-debug-command",
                          (char *)"yes",
                          (char *)"--logfile",
                          (char *)"log",
                          (char *)"--appendfsync",
                          (char *)"no"};
        int argc = 15;
        for (int i = 0; i < v->option_count; i++) {
            argv[argc++] = v->options[i];
        }
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        execvp("redis-server", argv);
        _exit(127);
    }
}

static DR_UNUSED void wait_for_server(struct server *v)
{
    if (!dr_wait_ms(WAIT_MS_MAX, is_answering, v)) {
        fail_msg("redis-server on port %d does not answer", v->port);
    }
}

/* Options are words: "--appendonly", "yes", NULL. */
static DR_UNUSED struct server *start_server(const char *option, ...)
{
    assert_true(server_count < SERVERS_MAX);
    struct server *v = &servers[server_count++];
    *v = (struct server){.port = free_port()};
    (void)snprintf(v->name, sizeof v->name, "127.0.0.1:%d", v->port);
    (void)snprintf(v->folder, sizeof v->folder, "/tmp/drover-redis-XXXXXX");
    assert_non_null(mkdtemp(v->folder));
    va_list args;
    va_start(args, option);
    for (const char *o = option; o != NULL; o = va_arg(args, const char *)) {
        assert_true(v->option_count < 8);
        (void)snprintf(v->options[v->option_count++], sizeof v->options[0], "%s", o);
    }
    va_end(args);
    run_server(v);
    wait_for_server(v);
    return v;
}

static DR_UNUSED void kill_server(struct server *v)
{
    disconnect(v);
    if (v->pid > 0) {
        (void)kill(v->pid, SIGKILL);
        (void)waitpid(v->pid, NULL, 0);
        v->pid = 0;
    }
}

static DR_UNUSED void restart_server(struct server *v)
{
    kill_server(v);
    run_server(v);
    wait_for_server(v);
}

static DR_UNUSED int stop_servers(void **state)
{
    char command[128];
    (void)state;
    dr_fault_arm(NULL);
    (void)dr_mem_fail_at(0);
    for (int i = 0; i < server_count; i++) {
        kill_server(&servers[i]);
        (void)snprintf(command, sizeof command, "rm -rf '%s'", servers[i].folder);
        (void)!system(command);
    }
    server_count = 0;
    return 0;
}

static DR_UNUSED bool is_replica_online(void *arg)
{
    return strstr(text_of(arg, "INFO replication"), "state=online") != NULL;
}

static DR_UNUSED struct server *start_replica_of(struct server *primary)
{
    struct server *v = start_server("--repl-diskless-sync-delay", "0", NULL);
    tell(primary, "CONFIG SET repl-diskless-sync-delay 0");
    tell(v, "REPLICAOF 127.0.0.1 %d", primary->port);
    assert_true(dr_wait_ms(WAIT_MS_MAX, is_replica_online, primary));
    return v;
}

/* ---- a cluster of three primaries ---- */

static const char *cluster_id(struct server *v, char *buf, size_t bytes)
{
    (void)snprintf(buf, bytes, "%s", text_of(v, "CLUSTER MYID"));
    return buf;
}

static DR_UNUSED bool is_cluster_whole(void *arg)
{
    (void)arg;
    for (int i = 0; i < server_count; i++) {
        const char *info = text_of(&servers[i], "CLUSTER INFO");
        if (strstr(info, "cluster_state:ok") == NULL ||
            strstr(info, "cluster_slots_assigned:16384") == NULL) {
            return false;
        }
    }
    return true;
}

static DR_UNUSED void start_cluster(void)
{
    static const int first[] = {0, 5461, 10923, 16384};
    for (int i = 0; i < 3; i++) {
        struct server *v =
            start_server("--cluster-enabled", "yes", "--cluster-node-timeout", "2000", NULL);
        tell(v, "CLUSTER SET-CONFIG-EPOCH %d", i + 1);
        tell(v, "CLUSTER ADDSLOTSRANGE %d %d", first[i], first[i + 1] - 1);
        if (i > 0) {
            tell(&servers[0], "CLUSTER MEET 127.0.0.1 %d", v->port);
        }
    }
    assert_true(dr_wait_ms(WAIT_MS_MAX, is_cluster_whole, NULL));
}

static DR_UNUSED struct server *owner_of(const char *key)
{
    uint32_t slot = dr_redis_slot(key, strlen(key));
    return &servers[slot <= 5460 ? 0 : slot <= 10922 ? 1 : 2];
}

static DR_UNUSED void set_migrating(uint32_t slot, struct server *from, struct server *to)
{
    char id[64];
    tell(to, "CLUSTER SETSLOT %d IMPORTING %s", (int)slot, cluster_id(from, id, sizeof id));
    tell(from, "CLUSTER SETSLOT %d MIGRATING %s", (int)slot, cluster_id(to, id, sizeof id));
}

static DR_UNUSED void set_moved(uint32_t slot, struct server *from, struct server *to)
{
    char id[64];
    (void)cluster_id(to, id, sizeof id);
    tell(to, "CLUSTER SETSLOT %d NODE %s", (int)slot, id);
    tell(from, "CLUSTER SETSLOT %d NODE %s", (int)slot, id);
    for (int i = 0; i < server_count; i++) {
        tell(&servers[i], "CLUSTER SETSLOT %d NODE %s", (int)slot, id);
    }
}

/* ---- the store under test ---- */

static struct dr_store *store;
static struct dr_batch *batch;
static struct dr_tally tally;
static struct dr_cursor at;

static DR_UNUSED void open_store(const char *url)
{
    must(dr_store_open(url, &store, &err));
    must(dr_batch_create(&batch, &err));
    at.len = 0;
}

static DR_UNUSED void open_on(const struct server *v)
{
    char url[64];
    (void)snprintf(url, sizeof url, "redis://%s", v->name);
    open_store(url);
}

static DR_UNUSED void close_store(void)
{
    dr_store_close(store);
    dr_batch_destroy(batch);
    store = NULL;
    batch = NULL;
}

/* One December week of service s1, two applications, two metrics. */
#define JOB(services, rest)                                                                        \
    "{\"kind\":\"redis.purge-stats\",\"services\":" services                                       \
    ",\"applications\":[\"a1\",\"a2\"],\"metrics\":[\"m1\",\"m2\"],\"users\":[],"                  \
    "\"from\":1576454400,\"to\":1576800000" rest "}"
#define JOB_ALL(services, rest)                                                                    \
    "{\"kind\":\"redis.purge-stats\",\"services\":" services                                       \
    ",\"applications\":[],\"metrics\":[],\"users\":[],\"from\":1,\"to\":4102444800" rest "}"

static const char job_s1[] = JOB("[\"s1\"]", "");
static const char job_all_s1[] = JOB_ALL("[\"s1\"]", "");

static DR_UNUSED uint64_t keys_in(const char *spec)
{
    json_t *j = NULL;
    struct dr_keyseq *seq = NULL;
    must(dr_json_parse("job", spec, strlen(spec), &j, &err));
    must(dr_keyseq_create(j, "job", &seq, &err));
    uint64_t n = dr_keyseq_count(seq);
    dr_keyseq_destroy(seq);
    json_decref(j);
    return n;
}

static DR_UNUSED struct dr_range by_keys(const struct server *v, const char *spec)
{
    return (struct dr_range){.node = v->name,
                             .collection = "db0.stats",
                             .access = DR_BY_KEYS,
                             .spec = spec,
                             .length = keys_in(spec),
                             .epoch = 1};
}

static DR_UNUSED struct dr_range by_scan(const struct server *v, const char *spec)
{
    return (struct dr_range){
        .node = v->name, .collection = "db0.stats", .access = DR_BY_SCAN, .spec = spec, .epoch = 1};
}

/* The seq's n-th key, in one of four static buffers. */
static DR_UNUSED const char *nth_key(const char *spec, uint64_t n)
{
    static char keys[4][DR_KEYSEQ_KEY_BYTES_MAX];
    static unsigned next;
    json_t *j = NULL;
    struct dr_keyseq *seq = NULL;
    struct dr_keyseq_at pos;
    const char *key = NULL;
    size_t bytes = 0;
    must(dr_json_parse("job", spec, strlen(spec), &j, &err));
    must(dr_keyseq_create(j, "job", &seq, &err));
    dr_keyseq_seek(&pos, seq, n);
    assert_true(dr_keyseq_next(&pos, &key, &bytes));
    char *out = keys[next++ % 4];
    (void)snprintf(out, sizeof keys[0], "%s", key);
    dr_keyseq_destroy(seq);
    json_decref(j);
    return out;
}

/* Set every `step`-th key of the sequence. Returns how many. */
static DR_UNUSED uint64_t fill(struct server *v, const char *spec, uint64_t step)
{
    json_t *j = NULL;
    struct dr_keyseq *seq = NULL;
    struct dr_keyseq_at pos;
    const char *key = NULL;
    size_t bytes = 0;
    uint64_t set = 0;
    must(dr_json_parse("job", spec, strlen(spec), &j, &err));
    must(dr_keyseq_create(j, "job", &seq, &err));
    uint64_t count = dr_keyseq_count(seq);
    assert_true(connect_raw(v));
    for (uint64_t i = 0; i < count; i += step) {
        dr_keyseq_seek(&pos, seq, i);
        assert_true(dr_keyseq_next(&pos, &key, &bytes));
        assert_int_equal(redisAppendCommand(v->c, "SET %b %d", key, bytes, (int)i + 1), REDIS_OK);
        set++;
    }
    for (uint64_t i = 0; i < set; i++) {
        void *reply = NULL;
        assert_int_equal(redisGetReply(v->c, &reply), REDIS_OK);
        assert_int_equal(((redisReply *)reply)->type, REDIS_REPLY_STATUS);
        freeReplyObject(reply);
    }
    dr_keyseq_destroy(seq);
    json_decref(j);
    return set;
}

static DR_UNUSED void scan_one(const struct dr_range *r, uint64_t items, bool with_values)
{
    const struct dr_budget budget = {
        .items_max = items, .bytes_max = 1 << 26, .ms_max = 10000, .with_values = with_values};
    must(dr_store_scan(store, r, &budget, &at, batch, &err));
}

/* Scan and erase until the end of the range; the sum of all tallies. */
static DR_UNUSED struct dr_tally erase_all(const struct dr_range *r, uint64_t items,
                                           bool with_values)
{
    struct dr_tally sum = {0};
    at.len = 0;
    for (int i = 0; i < 100000; i++) {
        scan_one(r, items, with_values);
        must(dr_store_erase(store, r, batch, &tally, &err));
        sum.erased += tally.erased;
        sum.absent += tally.absent;
        sum.changed += tally.changed;
        at = batch->after;
        if (batch->is_end) {
            return sum;
        }
    }
    fail_msg("the range has no end");
    return sum;
}

#endif
