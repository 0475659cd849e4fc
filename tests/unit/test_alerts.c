/* SPDX-License-Identifier: Apache-2.0 */
/* The promises of verbs/health.h about alerts and the schedule: when one fires, that it is said
 * once, again after a while and when it is over, and how it is said. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "base/backoff.h"
#include "base/file.h"
#include "obs/metrics.h"
#include "unit/health_help.h"

/* --- thresholds ------------------------------------------------------------------------------- */

struct numbers {
    uint64_t rollbacks, failed_rollbacks, idle_ms, orphans, depth, failed;
};

static struct dr_health_report report_of(const struct numbers *n)
{
    struct dr_health_report r = {.is_healthy = true, .orphans = n->orphans};
    r.numbers.rollbacks = n->rollbacks;
    r.numbers.rollbacks_failed = n->failed_rollbacks;
    r.numbers.depth = n->depth;
    r.numbers.failed_last_hour = n->failed;
    if (n->idle_ms > 0) {
        r.finding = dr_calloc(1, sizeof *r.finding);
        r.count = r.room = 1;
        (void)snprintf(r.finding->type, sizeof r.finding->type, "stuck_operations");
        r.finding->count = 2;
        r.finding->details =
            json_pack("[{s:i}, {s:I}]", "idle_ms", 5, "idle_ms", (json_int_t)n->idle_ms);
    }
    return r;
}

static bool fires(int which, const struct numbers *n)
{
    struct dr_alert_rules rules;
    struct dr_alert alert[DR_ALERT_COUNT];
    struct dr_health_report r = report_of(n);
    dr_alert_rules_default(&rules);
    dr_alerts_judge(&rules, &r, alert);
    for (int i = 0; i < DR_ALERT_COUNT; i++) {
        assert_true(i == which || !alert[i].is_firing); /* no other one */
        assert_true(alert[i].text[0] != '\0');
    }
    dr_health_report_fini(&r);
    return alert[which].is_firing;
}

static void each_threshold_fires_above_its_limit_and_not_at_it(void **state)
{
    (void)state;
    assert_false(fires(0, &(struct numbers){.rollbacks = 20, .failed_rollbacks = 1}));
    assert_true(fires(0, &(struct numbers){.rollbacks = 19, .failed_rollbacks = 1}));
    assert_false(fires(0, &(struct numbers){.rollbacks = 1, .failed_rollbacks = 1}));
    assert_false(fires(1, &(struct numbers){.idle_ms = 1800000}));
    assert_true(fires(1, &(struct numbers){.idle_ms = 1800001}));
    assert_false(fires(2, &(struct numbers){.orphans = 50}));
    assert_true(fires(2, &(struct numbers){.orphans = 51}));
    assert_false(fires(3, &(struct numbers){.depth = 1000}));
    assert_true(fires(3, &(struct numbers){.depth = 1001}));
    assert_false(fires(4, &(struct numbers){.failed = 10}));
    assert_true(fires(4, &(struct numbers){.failed = 11}));
}

static enum dr_code parse(const char *text, struct dr_alert_rules *rules, json_t **j,
                          struct dr_err *err)
{
    assert_int_equal(dr_json_parse("test", text, strlen(text), j, err), DR_OK);
    return dr_alert_rules_parse(*j, rules, err);
}

static void zero_switches_one_off_and_mistakes_are_named(void **state)
{
    (void)state;
    struct dr_alert_rules rules;
    struct dr_alert alert[DR_ALERT_COUNT];
    struct dr_err err = {0};
    json_t *j = NULL;
    assert_int_equal(parse("{\"orphans\":0,\"stuck\":\"1h\",\"repeat\":\"2h\"}", &rules, &j, &err),
                     DR_OK);
    assert_int_equal(rules.stuck_ms, 3600000);
    assert_int_equal(rules.repeat_ms, 7200000);
    struct dr_health_report r = report_of(&(struct numbers){.orphans = 500});
    dr_alerts_judge(&rules, &r, alert);
    assert_false(alert[2].is_firing);
    json_decref(j);
    assert_int_equal(parse("{\"orphan\":1}", &rules, &j, &err), DR_INPUT);
    assert_has(err.msg, "alerts: unknown key \"orphan\"");
    json_decref(j);
    assert_int_equal(parse("{\"webhook\":\"file:///etc/passwd\"}", &rules, &j, &err), DR_INPUT);
    assert_has(err.msg, "alerts.webhook");
    json_decref(j);
    assert_int_equal(parse("{\"command\":\"  \"}", &rules, &j, &err), DR_INPUT);
    assert_has(err.msg, "alerts.command");
    json_decref(j);
}

static void the_rules_for_prometheus_have_the_same_thresholds(void **state)
{
    (void)state;
    struct dr_alert_rules rules;
    struct dr_str out;
    dr_str_init(&out);
    dr_alert_rules_default(&rules);
    rules.queue_depth = 77;
    rules.orphans = 0;
    dr_alerts_prometheus(&rules, &out);
    assert_has(dr_str_text(&out), "drover_queue_depth > 77");
    assert_has(dr_str_text(&out), "increase(drover_rollbacks_total[24h]) > 0.05");
    assert_has(dr_str_text(&out), "drover_stuck_operations > 0");
    assert_has(dr_str_text(&out), "drover_failed_last_hour > 10");
    assert_null(strstr(dr_str_text(&out), "drover_orphans"));
    dr_str_fini(&out);
}

/* --- saying ----------------------------------------------------------------------------------- */

struct mouth {
    char dir[64];
    char script[96], said[96], command[256];
    struct dr_alert_rules rules;
    struct dr_alerter *alerter;
};

static void write_script(struct mouth *m, const char *body)
{
    struct dr_err err = {0};
    assert_int_equal(dr_file_replace(m->script, body, strlen(body), &err), DR_OK);
    assert_int_equal(chmod(m->script, 0700), 0);
}

static struct mouth *make_mouth(void)
{
    struct mouth *m = calloc(1, sizeof *m);
    assert_non_null(m);
    make_folder(m->dir, sizeof m->dir);
    (void)snprintf(m->script, sizeof m->script, "%s/say.sh", m->dir);
    (void)snprintf(m->said, sizeof m->said, "%s/said", m->dir);
    (void)snprintf(m->command, sizeof m->command, "%s %s $HOME;x", m->script, m->said);
    write_script(m, "#!/bin/sh\n{ cat; echo \" $2\"; } >> \"$1\"\n");
    dr_alert_rules_default(&m->rules);
    m->rules.command = m->command;
    return m;
}

static void restart(struct mouth *m)
{
    struct dr_err err = {0};
    dr_alerter_destroy(m->alerter);
    assert_int_equal(dr_alerter_create(m->dir, &m->rules, NULL, &m->alerter, &err), DR_OK);
}

static void free_mouth(struct mouth *m)
{
    dr_alerter_destroy(m->alerter);
    remove_folder(m->dir);
    free(m);
}

static void see(struct mouth *m, uint64_t depth)
{
    struct dr_health_report r = report_of(&(struct numbers){.depth = depth});
    dr_alerter_look(m->alerter, &r);
}

static int count_said(struct mouth *m, const char *part)
{
    struct dr_err err = {0};
    char *text = NULL;
    size_t bytes = 0;
    int count = 0;
    if (dr_file_load(m->said, 1 << 20, &text, &bytes, &err) != DR_OK) {
        return 0;
    }
    for (const char *at = text; (at = strstr(at, part)) != NULL; at++) {
        count++;
    }
    dr_free(text);
    return count;
}

static void an_alert_is_said_once_and_when_it_is_over(void **state)
{
    (void)state;
    struct mouth *m = make_mouth();
    restart(m);
    see(m, 5);
    assert_int_equal(count_said(m, "alert"), 0);
    see(m, 1001);
    see(m, 1002);
    assert_int_equal(count_said(m, "\"state\":\"firing\""), 1);
    assert_int_equal(count_said(m, "\"alert\":\"queue_depth\""), 1);
    restart(m); /* another process knows what this one said */
    see(m, 1003);
    assert_int_equal(count_said(m, "\"state\":\"firing\""), 1);
    see(m, 5);
    see(m, 5);
    assert_int_equal(count_said(m, "\"state\":\"resolved\""), 1);
    see(m, 2000);
    assert_int_equal(count_said(m, "\"state\":\"firing\""), 2);
    free_mouth(m);
}

static void it_is_repeated_while_it_lasts(void **state)
{
    (void)state;
    struct mouth *m = make_mouth();
    m->rules.repeat_ms = 1;
    restart(m);
    see(m, 2000);
    (void)dr_wait_ms(5, NULL, NULL);
    see(m, 2000);
    assert_int_equal(count_said(m, "\"state\":\"firing\""), 2);
    free_mouth(m);
}

static void a_program_that_fails_is_tried_again_and_no_shell_reads_the_command(void **state)
{
    (void)state;
    struct mouth *m = make_mouth();
    write_script(m, "#!/bin/sh\nexit 3\n");
    restart(m);
    see(m, 2000);
    assert_int_equal(count_said(m, "firing"), 0);
    write_script(m, "#!/bin/sh\n{ cat; echo \" $2\"; } >> \"$1\"\n");
    see(m, 2000);
    assert_int_equal(count_said(m, "\"state\":\"firing\""), 1);
    assert_int_equal(count_said(m, " $HOME;x"), 1); /* as it was written */
    free_mouth(m);
}

#ifdef DROVER_HTTP
struct server {
    int fd;
    uint16_t port;
    int status; /* answered */
    int requests;
    char last[4096];
    pthread_t thread;
    pthread_mutex_t mutex;
};

static void answer_one(struct server *s, int fd)
{
    char text[4096];
    char reply[128];
    size_t used = 0;
    const char *body = NULL;
    while (used < sizeof text - 1) {
        ssize_t got = recv(fd, text + used, sizeof text - 1 - used, 0);
        if (got <= 0) {
            break;
        }
        used += (size_t)got;
        text[used] = '\0';
        body = strstr(text, "\r\n\r\n");
        if (body != NULL && strchr(body, '}') != NULL) {
            break;
        }
    }
    (void)pthread_mutex_lock(&s->mutex);
    s->requests++;
    (void)snprintf(s->last, sizeof s->last, "%s", text);
    (void)snprintf(reply, sizeof reply,
                   "HTTP/1.1 %d x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", s->status);
    (void)pthread_mutex_unlock(&s->mutex);
    (void)send(fd, reply, strlen(reply), MSG_NOSIGNAL);
    (void)close(fd);
}

static void *serve(void *arg)
{
    struct server *s = arg;
    int fd;
    while ((fd = accept(s->fd, NULL, NULL)) >= 0) {
        answer_one(s, fd);
    }
    return NULL;
}

static void start_server(struct server *s)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t bytes = sizeof at;
    *s = (struct server){.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), .status = 200};
    assert_int_equal(bind(s->fd, (struct sockaddr *)&at, sizeof at), 0);
    assert_int_equal(listen(s->fd, 8), 0);
    assert_int_equal(getsockname(s->fd, (struct sockaddr *)&at, &bytes), 0);
    s->port = ntohs(at.sin_port);
    (void)pthread_mutex_init(&s->mutex, NULL);
    assert_int_equal(pthread_create(&s->thread, NULL, serve, s), 0);
}

static void stop_server(struct server *s)
{
    (void)shutdown(s->fd, SHUT_RDWR);
    (void)pthread_join(s->thread, NULL);
    (void)close(s->fd);
    (void)pthread_mutex_destroy(&s->mutex);
}

static void a_webhook_gets_the_alert_and_is_tried_again_until_it_takes_it(void **state)
{
    (void)state;
    struct server s;
    char url[128];
    struct mouth *m = make_mouth();
    start_server(&s);
    (void)snprintf(url, sizeof url, "http://127.0.0.1:%u/hook?token=geheim", (unsigned)s.port);
    m->rules.command = NULL;
    m->rules.webhook = url;
    restart(m);
    s.status = 500;
    see(m, 2000);
    assert_int_equal(s.requests, 1);
    s.status = 204;
    see(m, 2000);
    assert_int_equal(s.requests, 2);
    assert_has(s.last, "POST /hook?token=geheim");
    assert_has(s.last, "Content-Type: application/json");
    const char *body = strstr(s.last, "\r\n\r\n");
    assert_non_null(body);
    assert_has(body, "\"alert\":\"queue_depth\"");
    assert_has(body, "\"limit\":1000");
    assert_null(strstr(body, "geheim"));
    see(m, 2000);
    assert_int_equal(s.requests, 2);
    see(m, 1);
    assert_int_equal(s.requests, 3);
    assert_has(s.last, "resolved");
    stop_server(&s);
    see(m, 2000); /* nobody there: noted and gone on */
    free_mouth(m);
}
#endif

/* --- the schedule ----------------------------------------------------------------------------- */

static void the_schedule_looks_recovers_and_counts(void **state)
{
    (void)state;
    struct rig *r = make_rig();
    struct dr_tender *t = NULL;
    struct dr_metrics *metrics = NULL;
    struct dr_str text;
    json_t *config = json_pack("{s:{s:s, s:s, s:s}}", "tend", "health_every", "50ms", "daily_at",
                               "off", "weekly_at", "off");
    add_many(r, 1, "s1", 1);
    int64_t op = put(r);
    fail_after_a_retry(r, op, 1);
    OK(r, dr_metrics_create(&metrics, &r->err));
    const struct dr_tender_config c = {
        .queue = r->q, .metrics = metrics, .config = config, .recovers = true};
    OK(r, dr_tender_start(&c, &t, &r->err));
    for (int i = 0; i < 500 && step_of(r, op, 1).status != DR_S_CREATED; i++) {
        (void)dr_wait_ms(10, NULL, NULL);
    }
    expect_step(r, op, 1, DR_S_CREATED);
    dr_tender_stop(t);
    dr_str_init(&text);
    dr_metrics_text(metrics, &text);
    assert_has(dr_str_text(&text), "drover_orphans 0");
    assert_has(dr_str_text(&text), "drover_alert_firing{alert=\"queue_depth\"} 0");
    dr_str_fini(&text);
    dr_metrics_destroy(metrics);
    json_decref(config);
    free_rig(r);
}

static void a_wrong_schedule_is_named(void **state)
{
    (void)state;
    static const struct {
        const char *json, *part;
    } wrong[] = {
        {"{\"tend\":{\"daily_at\":\"25:00\"}}", "tend.daily_at"},
        {"{\"tend\":{\"weekly_at\":\"02:00\"}}", "tend.weekly_at"},
        {"{\"tend\":{\"ages\":{\"qeue\":\"1d\"}}}", "tend.ages: unknown key \"qeue\""},
        {"{\"tend\":{\"health\":\"1m\"}}", "tend: unknown key \"health\""},
        {"{\"alerts\":{\"orphans\":-1}}", "alerts.orphans"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        struct dr_err err = {0};
        json_t *j = NULL;
        assert_int_equal(dr_json_parse("t", wrong[i].json, strlen(wrong[i].json), &j, &err), DR_OK);
        assert_int_equal(dr_tender_check(j, &err), DR_INPUT);
        assert_has(err.msg, wrong[i].part);
        json_decref(j);
    }
    struct dr_err err = {0};
    json_t *fine = json_pack("{s:{s:s, s:s, s:{s:s}}}", "tend", "daily_at", "23:59", "weekly_at",
                             "mon 00:00", "ages", "queue", "1d");
    struct dr_cleanup_ages ages;
    assert_int_equal(dr_tender_check(fine, &err), DR_OK);
    assert_int_equal(dr_cleanup_ages_of(fine, &ages, &err), DR_OK);
    assert_int_equal(ages.queue, 86400000);
    assert_int_equal(ages.clusters, 3600000);
    json_decref(fine);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_threshold_fires_above_its_limit_and_not_at_it),
        cmocka_unit_test(zero_switches_one_off_and_mistakes_are_named),
        cmocka_unit_test(the_rules_for_prometheus_have_the_same_thresholds),
        cmocka_unit_test(an_alert_is_said_once_and_when_it_is_over),
        cmocka_unit_test(it_is_repeated_while_it_lasts),
        cmocka_unit_test(a_program_that_fails_is_tried_again_and_no_shell_reads_the_command),
#ifdef DROVER_HTTP
        cmocka_unit_test(a_webhook_gets_the_alert_and_is_tried_again_until_it_takes_it),
#endif
        cmocka_unit_test(the_schedule_looks_recovers_and_counts),
        cmocka_unit_test(a_wrong_schedule_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
