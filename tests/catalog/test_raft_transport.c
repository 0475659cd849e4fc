/* SPDX-License-Identifier: Apache-2.0 */
/* The promises of catalog/raft_transport: who does not know the secret is not heard, whatever he
 * sends, and the cluster goes on. Peers are processes (raft_peer); the strangers are sockets of
 * this test, who speak as much of the handshake as their part wants. */
#include "catalog/raft_help.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/resource.h>

#include "catalog/raft_hello.h"

#define SECRET "0123456789abcdef-secret"
#define OPTIONS "toy election=300 secret=" SECRET
enum { STRANGER_MS = 10000, CROWD = 1000 };

static const struct hello_secret secret = {(const unsigned char *)SECRET, sizeof SECRET - 1};
static const struct hello_secret other_secret = {(const unsigned char *)"another-secret-of-16", 20};

/* --- strangers --- */

static int connect_to(const char *address)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    at.sin_port = htons((uint16_t)strtoul(strchr(address, ':') + 1, NULL, 10));
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&at, sizeof at), 0);
    return fd;
}

/* Exactly `bytes`, or false when the other side ends the connection first. */
static bool receive(int fd, unsigned char *into, size_t bytes)
{
    for (size_t got = 0; got < bytes;) {
        struct pollfd wait = {.fd = fd, .events = POLLIN};
        if (poll(&wait, 1, STRANGER_MS) <= 0) {
            print_error("the peer neither answers nor ends the connection\n");
            fail();
        }
        ssize_t one = recv(fd, into + got, bytes - got, 0);
        if (one <= 0) {
            return false;
        }
        got += (size_t)one;
    }
    return true;
}

static void send_all(int fd, const void *bytes, size_t count)
{
    assert_int_equal(send(fd, bytes, count, MSG_NOSIGNAL), (ssize_t)count);
}

static void assert_thrown_out(int fd)
{
    unsigned char byte = 0;
    assert_false(receive(fd, &byte, 1));
    (void)close(fd);
}

static struct hello_ends ends_of(const struct cluster *c, unsigned from, unsigned to)
{
    struct hello_ends e = {.from_id = from, .to_id = to};
    (void)snprintf(e.from_address, sizeof e.from_address, "%s", c->peer[from].address);
    (void)snprintf(e.to_address, sizeof e.to_address, "%s", c->peer[to].address);
    return e;
}

/* Answer the challenge of `to` as `from`, with secret `s`; the transcript stays with the caller. */
static int say_hello(const struct cluster *c, const struct hello_secret *s,
                     const struct hello_ends *ends, unsigned to, unsigned char *challenge,
                     unsigned char *answer)
{
    unsigned char nonce[HELLO_NONCE_BYTES];
    struct dr_err err;
    int fd = connect_to(c->peer[to].address);
    assert_true(receive(fd, challenge, HELLO_CHALLENGE_BYTES));
    assert_int_equal(dr_hello_check_challenge(challenge, &err), DR_OK);
    assert_int_equal(dr_hello_nonce(nonce, &err), DR_OK);
    assert_int_equal(dr_hello_put_answer(s, challenge, ends, nonce, answer, &err), DR_OK);
    send_all(fd, answer, HELLO_ANSWER_BYTES);
    return fd;
}

static unsigned count_lines(const char *path, const char *text)
{
    char line[2048];
    unsigned count = 0;
    FILE *f = fopen(path, "r");
    while (f != NULL && fgets(line, sizeof line, f) != NULL) {
        count += strstr(line, text) != NULL;
    }
    if (f != NULL) {
        (void)fclose(f);
    }
    return count;
}

static void assert_logged(const char *path, const char *text)
{
    for (int i = 0; i < 500; i++) {
        if (count_lines(path, text) > 0) {
            return;
        }
        (void)poll(NULL, 0, 20);
    }
    print_error("%s never says \"%s\"\n", path, text);
    fail();
}

struct guarded { /* a cluster whose peers' logs can be read */
    struct cluster c;
    char log[PEERS_MAX + 1][96];
};

static void start_guarded(struct guarded *g, unsigned count)
{
    start_cluster(&g->c, OPTIONS);
    for (unsigned id = 1; id <= PEERS_MAX; id++) {
        (void)snprintf(g->log[id], sizeof g->log[id], "%s/%u.log", g->c.folder, id);
        g->c.peer[id].log_path = g->log[id];
    }
    grow(&g->c, count);
}

/* --- the messages --- */

static void the_messages_prove_both_ends_to_each_other(void **state)
{
    (void)state;
    unsigned char nonce[HELLO_NONCE_BYTES];
    unsigned char challenge[HELLO_CHALLENGE_BYTES];
    unsigned char answer[HELLO_ANSWER_BYTES];
    unsigned char welcome[HELLO_WELCOME_BYTES];
    struct hello_ends ends = {7, 9, "127.0.0.1:7", "127.0.0.1:9"};
    struct hello_ends seen;
    struct dr_err err;
    assert_int_equal(dr_hello_nonce(nonce, &err), DR_OK);
    dr_hello_put_challenge(nonce, challenge);
    assert_int_equal(dr_hello_nonce(nonce, &err), DR_OK);
    assert_int_equal(dr_hello_put_answer(&secret, challenge, &ends, nonce, answer, &err), DR_OK);
    assert_int_equal(
        dr_hello_check_answer(&secret, challenge, answer, 9, "127.0.0.1:9", &seen, &err), DR_OK);
    assert_int_equal(seen.from_id, 7);
    assert_string_equal(seen.from_address, "127.0.0.1:7");
    assert_int_equal(dr_hello_put_welcome(&secret, challenge, answer, welcome, &err), DR_OK);
    assert_int_equal(dr_hello_check_welcome(&secret, challenge, answer, welcome, &err), DR_OK);
    assert_int_equal(dr_hello_check_welcome(&other_secret, challenge, answer, welcome, &err),
                     DR_DENIED);
    /* The connector's own MAC, sent back to it, is no welcome. */
    memcpy(welcome + HELLO_HEAD_BYTES, answer + HELLO_ANSWER_BYTES - HELLO_MAC_BYTES,
           HELLO_MAC_BYTES);
    assert_int_equal(dr_hello_check_welcome(&secret, challenge, answer, welcome, &err), DR_DENIED);
    /* Meant for another peer, or from one with our own id. */
    assert_int_equal(
        dr_hello_check_answer(&secret, challenge, answer, 8, "127.0.0.1:9", &seen, &err),
        DR_CONFLICT);
    assert_int_equal(
        dr_hello_check_answer(&secret, challenge, answer, 9, "127.0.0.1:8", &seen, &err),
        DR_CONFLICT);
    ends.from_id = 9;
    assert_int_equal(dr_hello_put_answer(&secret, challenge, &ends, nonce, answer, &err), DR_OK);
    assert_int_equal(
        dr_hello_check_answer(&secret, challenge, answer, 9, "127.0.0.1:9", &seen, &err),
        DR_CONFLICT);
}

static void one_changed_bit_anywhere_is_refused(void **state)
{
    (void)state;
    unsigned char nonce[HELLO_NONCE_BYTES] = {1};
    unsigned char challenge[HELLO_CHALLENGE_BYTES];
    unsigned char answer[HELLO_ANSWER_BYTES];
    unsigned char welcome[HELLO_WELCOME_BYTES];
    const struct hello_ends ends = {7, 9, "127.0.0.1:7", "127.0.0.1:9"};
    struct hello_ends seen;
    struct dr_err err;
    dr_hello_put_challenge(nonce, challenge);
    assert_int_equal(dr_hello_put_answer(&secret, challenge, &ends, nonce, answer, &err), DR_OK);
    assert_int_equal(dr_hello_put_welcome(&secret, challenge, answer, welcome, &err), DR_OK);
    for (size_t i = 0; i < 8 * sizeof answer; i++) {
        answer[i / 8] ^= (unsigned char)(1u << (i % 8));
        assert_int_not_equal(
            dr_hello_check_answer(&secret, challenge, answer, 9, "127.0.0.1:9", &seen, &err),
            DR_OK);
        answer[i / 8] ^= (unsigned char)(1u << (i % 8));
    }
    for (size_t i = 0; i < 8 * sizeof challenge; i++) {
        challenge[i / 8] ^= (unsigned char)(1u << (i % 8));
        assert_int_not_equal(
            dr_hello_check_answer(&secret, challenge, answer, 9, "127.0.0.1:9", &seen, &err),
            DR_OK);
        assert_int_not_equal(dr_hello_check_welcome(&secret, challenge, answer, welcome, &err),
                             DR_OK);
        challenge[i / 8] ^= (unsigned char)(1u << (i % 8));
    }
    for (size_t i = 0; i < 8 * sizeof welcome; i++) {
        welcome[i / 8] ^= (unsigned char)(1u << (i % 8));
        assert_int_not_equal(dr_hello_check_welcome(&secret, challenge, answer, welcome, &err),
                             DR_OK);
        welcome[i / 8] ^= (unsigned char)(1u << (i % 8));
    }
    assert_int_equal(
        dr_hello_check_answer(&secret, challenge, answer, 9, "127.0.0.1:9", &seen, &err), DR_OK);
}

/* --- clusters --- */

static void peers_with_the_same_secret_form_a_cluster(void **state)
{
    (void)state;
    struct cluster c;
    start_cluster(&c, OPTIONS);
    grow(&c, 3);
    for (int i = 0; i < 20; i++) {
        (void)propose(&c, 0, "agreed");
    }
    unsigned leader = find_leader(&c, 0);
    kill_peer(&c, leader); /* and find each other again afterwards */
    uint64_t index = propose(&c, 0, "without it");
    start_ready(&c, leader);
    (void)assert_equal_states(&c, index);
    for (unsigned id = 1; id <= 3; id++) {
        stop_peer(&c, id);
    }
    end_cluster(&c);
}

static void a_peer_with_another_secret_or_none_cannot_join(void **state)
{
    (void)state;
    static const char *const options[] = {"toy election=300 secret=not-the-secret-of-them",
                                          "toy election=300"};
    static const char *const joiner_hears[] = {"it refused this peer", NULL};
    static const char *const leader_says[] = {"it refused this peer",
                                              "that peer asks for no secret"};
    struct guarded g;
    start_guarded(&g, 3);
    unsigned leader = find_leader(&g.c, 0);
    for (unsigned i = 0; i < 2; i++) {
        unsigned id = 4 + i;
        g.c.peer[id].options = options[i];
        start_ready(&g.c, id);
        (void)ask(&g.c, leader, "add 10000 %u %s", id, g.c.peer[id].address);
        assert_true(is_answer(&g.c, "OK")); /* a spare: it takes part in nothing yet */
        (void)ask(&g.c, leader, "assign 2000 %u standby", id);
        (void)ask(&g.c, leader, "assign 3000 %u voter", id);
        assert_false(is_answer(&g.c, "OK"));
        assert_logged(g.log[leader], leader_says[i]);
        if (joiner_hears[i] != NULL) {
            assert_logged(g.log[id], "why=\"this peer has another secret\"");
        }
        (void)ask(&g.c, id, "status");
        assert_int_equal(number_of(&g.c, "applied"), 0);
        assert_int_equal(number_of(&g.c, "leader"), 0);
        kill_peer(&g.c, id);
        g.c.peer[id].pid = 0;
        /* One change at a time: the hopeless promotion ends with its member's removal. */
        for (int k = 0; k < TRIES_MAX; k++) {
            (void)ask(&g.c, find_leader(&g.c, id), "remove 5000 %u", id);
            if (is_answer(&g.c, "OK")) {
                break;
            }
            (void)poll(NULL, 0, 100);
        }
        (void)propose(&g.c, id, "they go on");
        leader = find_leader(&g.c, id);
    }
    end_cluster(&g.c);
}

/* A peer that was a member, and comes back without the secret: it calls for votes as libraft does
 * without a handshake, is told from a stranger's noise, and disturbs nobody. */
static void a_member_that_lost_its_secret_is_told_so_once(void **state)
{
    (void)state;
    struct guarded g;
    start_guarded(&g, 3);
    unsigned leader = find_leader(&g.c, 0);
    unsigned away = leader % 3 + 1;
    kill_peer(&g.c, away);
    g.c.peer[away].options = "toy election=300";
    start_ready(&g.c, away);
    assert_logged(g.log[leader], "this peer has no secret");
    (void)propose(&g.c, away, "they go on");
    /* It tries four times a second; the log writes one line and counts. */
    assert_int_equal(count_lines(g.log[leader], "this peer has no secret"), 1);
    (void)ask(&g.c, away, "status");
    assert_int_equal(number_of(&g.c, "leader"), 0);
    kill_peer(&g.c, away);
    g.c.peer[away].options = NULL;
    start_ready(&g.c, away);
    (void)assert_equal_states(&g.c, propose(&g.c, 0, "with it again"));
    end_cluster(&g.c);
}

/* --- strangers at the listener --- */

static void a_stranger_is_refused_whatever_he_sends(void **state)
{
    (void)state;
    unsigned char challenge[HELLO_CHALLENGE_BYTES];
    unsigned char answer[HELLO_ANSWER_BYTES];
    unsigned char welcome[HELLO_WELCOME_BYTES];
    unsigned char again[HELLO_CHALLENGE_BYTES];
    struct guarded g;
    start_guarded(&g, 3);
    struct hello_ends ends = ends_of(&g.c, 2, 1);
    /* Wrong secret. */
    assert_thrown_out(say_hello(&g.c, &other_secret, &ends, 1, challenge, answer));
    assert_logged(g.log[1], "this peer has another secret");
    /* The right one is heard: the tests below fail for their own reasons. */
    int fd = say_hello(&g.c, &secret, &ends, 1, challenge, answer);
    struct dr_err err;
    assert_true(receive(fd, welcome, sizeof welcome));
    assert_int_equal(dr_hello_check_welcome(&secret, challenge, answer, welcome, &err), DR_OK);
    (void)close(fd);
    /* A recording of exactly that. */
    fd = connect_to(g.c.peer[1].address);
    assert_true(receive(fd, again, sizeof again));
    assert_memory_not_equal(again, challenge, sizeof again);
    send_all(fd, answer, sizeof answer);
    assert_thrown_out(fd);
    /* Its own challenge and its own welcome, sent back. */
    fd = connect_to(g.c.peer[1].address);
    assert_true(receive(fd, challenge, sizeof challenge));
    send_all(fd, challenge, sizeof challenge);
    assert_thrown_out(fd);
    fd = connect_to(g.c.peer[1].address);
    assert_true(receive(fd, challenge, sizeof challenge));
    memcpy(answer + HELLO_ANSWER_BYTES - HELLO_MAC_BYTES, welcome + HELLO_HEAD_BYTES,
           HELLO_MAC_BYTES);
    send_all(fd, answer, sizeof answer);
    assert_thrown_out(fd);
    /* A proof that was meant for peer 3. */
    ends = ends_of(&g.c, 2, 3);
    assert_thrown_out(say_hello(&g.c, &secret, &ends, 1, challenge, answer));
    /* Noise, and what libraft says without a secret. */
    fd = connect_to(g.c.peer[1].address);
    send_all(fd, "GET / HTTP/1.0\r\n\r\n", 18);
    assert_true(receive(fd, challenge, sizeof challenge));
    assert_thrown_out(fd);
    fd = connect_to(g.c.peer[1].address);
    send_all(fd, "\1\0\0\0\0\0\0\0\2\0\0\0\0\0\0\0\377\377\377\377\377\377\377\177", 24);
    assert_true(receive(fd, challenge, sizeof challenge));
    assert_thrown_out(fd);
    assert_logged(g.log[1], "this peer has no secret");
    assert_int_equal(count_lines(g.log[1], SECRET), 0);
    (void)assert_equal_states(&g.c, propose(&g.c, 0, "they go on"));
    end_cluster(&g.c);
}

static void a_half_handshake_is_ended_by_the_clock(void **state)
{
    (void)state;
    unsigned char challenge[HELLO_CHALLENGE_BYTES];
    struct guarded g;
    start_guarded(&g, 3);
    int silent = connect_to(g.c.peer[1].address);
    int half = connect_to(g.c.peer[1].address);
    assert_true(receive(silent, challenge, sizeof challenge));
    assert_true(receive(half, challenge, sizeof challenge));
    send_all(half, "DRRH\1\0\0\0and no more", 19);
    assert_thrown_out(silent);
    assert_thrown_out(half);
    assert_logged(g.log[1], "it sent no answer to the challenge in time");
    (void)assert_equal_states(&g.c, propose(&g.c, 0, "they go on"));
    end_cluster(&g.c);
}

static void allow_many_files(void)
{
    struct rlimit limit;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    limit.rlim_cur = limit.rlim_max;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
}

static unsigned count_files(const struct peer *p)
{
    char command[64];
    char text[32] = "";
    (void)snprintf(command, sizeof command, "ls /proc/%d/fd | wc -l", (int)p->pid);
    FILE *f = popen(command, "r");
    assert_non_null(f);
    assert_non_null(fgets(text, sizeof text, f));
    (void)pclose(f);
    return (unsigned)strtoul(text, NULL, 10);
}

static void a_crowd_of_strangers_does_not_stop_the_cluster(void **state)
{
    (void)state;
    static int crowd[CROWD];
    struct guarded g;
    allow_many_files();
    start_guarded(&g, 3);
    unsigned leader = find_leader(&g.c, 0);
    for (int i = 0; i < CROWD; i++) {
        crowd[i] = connect_to(g.c.peer[leader].address);
    }
    (void)propose(&g.c, 0, "in the crowd");
    assert_true(count_files(&g.c.peer[leader]) < 200);
    /* A member that restarts gets through it. */
    unsigned back = leader % 3 + 1;
    kill_peer(&g.c, back);
    start_ready(&g.c, back);
    uint64_t index = propose(&g.c, 0, "and with the one that came back");
    (void)assert_equal_states(&g.c, index);
    assert_logged(g.log[leader], "too many connections without a proof");
    for (int i = 0; i < CROWD; i++) {
        (void)close(crowd[i]);
    }
    (void)assert_equal_states(&g.c, propose(&g.c, 0, "they go on"));
    end_cluster(&g.c);
}

static int listen_as(const char *address)
{
    int yes = 1;
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    at.sin_port = htons((uint16_t)strtoul(strchr(address, ':') + 1, NULL, 10));
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes), 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&at, sizeof at), 0);
    assert_int_equal(listen(fd, 8), 0);
    return fd;
}

static void a_peer_stops_in_the_middle_of_handshakes(void **state)
{
    (void)state;
    unsigned char challenge[HELLO_CHALLENGE_BYTES];
    struct guarded g;
    start_guarded(&g, 3);
    unsigned leader = find_leader(&g.c, 0);
    unsigned away = leader % 3 + 1;
    kill_peer(&g.c, away);
    int listener = listen_as(g.c.peer[away].address);
    int caller = accept(listener, NULL, NULL); /* who waits for a challenge that never comes */
    int stranger = connect_to(g.c.peer[leader].address);
    assert_true(caller >= 0);
    assert_true(receive(stranger, challenge, sizeof challenge));
    stop_peer(&g.c, leader);
    assert_thrown_out(caller);
    assert_thrown_out(stranger);
    (void)close(listener);
    end_cluster(&g.c);
}

/* A member's place taken by somebody who only listens: the peers find out, and tell him no secret.
 */
static void a_listener_without_the_secret_gets_nothing_from_us(void **state)
{
    (void)state;
    unsigned char challenge[HELLO_CHALLENGE_BYTES];
    unsigned char nonce[HELLO_NONCE_BYTES] = {3};
    unsigned char answer[HELLO_ANSWER_BYTES];
    unsigned char welcome[HELLO_WELCOME_BYTES];
    struct guarded g;
    struct dr_err err;
    start_guarded(&g, 3);
    unsigned leader = find_leader(&g.c, 0);
    unsigned away = leader % 3 + 1;
    kill_peer(&g.c, away);
    int fd = listen_as(g.c.peer[away].address);
    int caller = accept(fd, NULL, NULL);
    assert_true(caller >= 0);
    dr_hello_put_challenge(nonce, challenge);
    send_all(caller, challenge, sizeof challenge);
    assert_true(receive(caller, answer, sizeof answer));
    assert_int_equal(dr_hello_put_welcome(&other_secret, challenge, answer, welcome, &err), DR_OK);
    send_all(caller, welcome, sizeof welcome);
    assert_thrown_out(caller); /* and not one byte of the log */
    assert_logged(g.log[leader], "the listener has another secret");
    (void)close(fd);
    start_ready(&g.c, away);
    (void)assert_equal_states(&g.c, propose(&g.c, 0, "the true one is back"));
    end_cluster(&g.c);
}

/* --- what a node agrees to --- */

static enum dr_code try_node(const char *listen, const char *secret_text, bool is_open,
                             struct dr_err *err)
{
    char dir[] = "/tmp/drover-raft-XXXXXX";
    char command[64];
    struct dr_node *node = NULL;
    assert_non_null(mkdtemp(dir));
    const struct dr_node_config config = {.id = 1,
                                          .listen = listen,
                                          .secret = secret_text,
                                          .is_open = is_open,
                                          .dir = dir,
                                          .is_bootstrap = true};
    enum dr_code rc = dr_node_create(&config, &node, err);
    dr_node_destroy(node);
    (void)snprintf(command, sizeof command, "rm -rf '%s'", dir);
    assert_int_equal(system(command), 0);
    return rc;
}

static void an_address_off_loopback_needs_a_secret_or_a_word(void **state)
{
    (void)state;
    struct dr_err err;
    assert_int_equal(try_node("127.0.0.1:7010", NULL, false, &err), DR_OK);
    assert_int_equal(try_node("10.1.2.3:7010", NULL, false, &err), DR_REFUSED);
    assert_non_null(strstr(err.msg, "--raft-secret-file"));
    assert_non_null(strstr(err.msg, "--raft-open"));
    assert_int_equal(try_node("10.1.2.3:7010", SECRET, false, &err), DR_OK);
    assert_int_equal(try_node("10.1.2.3:7010", NULL, true, &err), DR_OK);
    assert_int_equal(try_node("10.1.2.3:7010", "short", false, &err), DR_INPUT);
    assert_null(strstr(err.msg, "short"));
    assert_int_equal(try_node("0.0.0.0:7010", SECRET, false, &err), DR_INPUT);
    assert_int_equal(try_node("peer.example:7010", SECRET, false, &err), DR_INPUT);
    assert_int_equal(try_node("10.1.2.3:70100", SECRET, false, &err), DR_INPUT);
    assert_int_equal(try_node("10.1.2.3", SECRET, false, &err), DR_INPUT);
    assert_int_equal(try_node("127.evil.example:1", NULL, false, &err), DR_INPUT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_messages_prove_both_ends_to_each_other),
        cmocka_unit_test(one_changed_bit_anywhere_is_refused),
        cmocka_unit_test(peers_with_the_same_secret_form_a_cluster),
        cmocka_unit_test(a_peer_with_another_secret_or_none_cannot_join),
        cmocka_unit_test(a_member_that_lost_its_secret_is_told_so_once),
        cmocka_unit_test(a_stranger_is_refused_whatever_he_sends),
        cmocka_unit_test(a_half_handshake_is_ended_by_the_clock),
        cmocka_unit_test(a_crowd_of_strangers_does_not_stop_the_cluster),
        cmocka_unit_test(a_peer_stops_in_the_middle_of_handshakes),
        cmocka_unit_test(a_listener_without_the_secret_gets_nothing_from_us),
        cmocka_unit_test(an_address_off_loopback_needs_a_secret_or_a_word),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
