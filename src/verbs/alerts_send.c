/* SPDX-License-Identifier: Apache-2.0 */
/* Owns the saying of alerts: what was said to whom, and the two ways of saying it, a POST and a
 * program. One thread per alerter.
 *
 * Each way has its own memory of what it said, so that one that fails is tried again without the
 * other one saying everything twice. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/backoff.h"
#include "base/file.h"
#include "base/mem.h"
#ifdef DROVER_HTTP
#include "store/http.h"
#endif
#include "verbs/health.h"

enum { HOOK_MS = 10000, HOST_BYTES = 128, WORDS_MAX = 64, STATE_BYTES_MAX = 64 * 1024 };

enum channel { BY_WEBHOOK, BY_COMMAND, CHANNELS };

static const char *const channel_name[CHANNELS] = {"webhook", "command"};

struct said {
    bool is_firing; /* what was said last */
    dr_wall_ms at;  /* 0: nothing yet */
};

struct memory {
    const char *name;
    dr_wall_ms since; /* firing since; 0: not firing */
    struct said said[CHANNELS];
};

struct dr_alerter {
    struct dr_alert_rules rules; /* its texts point to the copies below */
    char *webhook, *command;
    char *data_dir, *path; /* DIR/alerts.json */
    char host[HOST_BYTES];
    struct dr_log *log;
    struct memory memory[DR_ALERT_COUNT];
};

/* --- what was said -----------------------------------------------------------------------------
 */

static struct memory *remember(struct dr_alerter *a, const char *name)
{
    for (int i = 0; i < DR_ALERT_COUNT; i++) {
        if (strcmp(a->memory[i].name, name) == 0) {
            return &a->memory[i];
        }
    }
    return NULL;
}

static void name_memory(struct dr_alerter *a)
{
    struct dr_alert alert[DR_ALERT_COUNT];
    const struct dr_health_report nothing = {.is_healthy = true};
    dr_alerts_judge(&a->rules, &nothing, alert);
    for (int i = 0; i < DR_ALERT_COUNT; i++) {
        a->memory[i].name = alert[i].name;
    }
}

static void load_one(struct dr_alerter *a, const char *name, const json_t *j)
{
    struct memory *m = remember(a, name);
    if (m == NULL) {
        return;
    }
    m->since = json_integer_value(json_object_get(j, "since"));
    for (int c = 0; c < CHANNELS; c++) {
        const json_t *said = json_object_get(j, channel_name[c]);
        m->said[c].is_firing = json_is_true(json_object_get(said, "firing"));
        m->said[c].at = json_integer_value(json_object_get(said, "at"));
    }
}

/* A file that cannot be read only means that something may be said twice. */
static void load_memory(struct dr_alerter *a)
{
    struct dr_err err = {0};
    json_t *j = NULL;
    const char *name;
    json_t *one;
    enum dr_code rc = dr_json_load(a->path, &j, &err);
    if (rc == DR_OK) {
        json_object_foreach(json_object_get(j, "alerts"), name, one)
        {
            load_one(a, name, one);
        }
    } else if (rc != DR_NOT_FOUND) {
        dr_log_err(a->log, DR_LOG_WARN, "what was alerted is not known any more", &err);
    }
    json_decref(j);
}

static json_t *memory_json(const struct dr_alerter *a)
{
    json_t *alerts = json_object();
    for (int i = 0; i < DR_ALERT_COUNT && alerts != NULL; i++) {
        const struct memory *m = &a->memory[i];
        json_t *one = json_pack("{s:I}", "since", (json_int_t)m->since);
        int bad = 0;
        for (int c = 0; c < CHANNELS; c++) {
            bad |= json_object_set_new(one, channel_name[c],
                                       json_pack("{s:b, s:I}", "firing", (int)m->said[c].is_firing,
                                                 "at", (json_int_t)m->said[c].at));
        }
        if (bad == 0) {
            (void)json_object_set(alerts, m->name, one);
        }
        json_decref(one);
    }
    return json_pack("{s:i, s:o}", "v", 1, "alerts", alerts);
}

static void save_memory(struct dr_alerter *a)
{
    struct dr_err err = {0};
    json_t *j = memory_json(a);
    char *text = j == NULL ? NULL : dr_json_text(j);
    enum dr_code rc =
        text == NULL ? dr_fail_nomem(&err) : dr_file_replace(a->path, text, strlen(text), &err);
    if (rc != DR_OK) {
        dr_log_err(a->log, DR_LOG_WARN, "what was alerted cannot be written down", &err);
    }
    dr_free(text);
    json_decref(j);
}

/* --- saying ------------------------------------------------------------------------------------
 */

#ifdef DROVER_HTTP
static enum dr_code post(const char *url, const char *text, struct dr_err *err)
{
    struct dr_http *h = NULL;
    struct dr_http_answer answer = {0};
    bool has = false;
    const struct dr_http_config config = {.connect_timeout_ms = HOOK_MS / 2};
    const struct dr_http_request r = {.method = "POST",
                                      .url = url,
                                      .timeout_ms = HOOK_MS,
                                      .body = text,
                                      .body_bytes = strlen(text),
                                      .content_type = "application/json",
                                      .is_once = true};
    enum dr_code rc = dr_http_create(&config, &h, err);
    rc = rc == DR_OK ? dr_http_start(h, &r, err) : rc;
    dr_mono_ms until = dr_mono_now() + HOOK_MS + 500;
    while (rc == DR_OK && !has && dr_mono_now() < until) {
        rc = dr_http_wait(h, 200, &answer, &has, err);
    }
    if (rc == DR_OK && (!has || answer.failure != DR_HTTP_NONE)) {
        rc = dr_fail(err, DR_UNREACHABLE, "the webhook does not answer: %s",
                     has ? answer.detail : "no answer in time");
    } else if (rc == DR_OK && (answer.status < 200 || answer.status > 299)) {
        rc = dr_fail(err, DR_REFUSED, "the webhook answered %u: %s", (unsigned)answer.status,
                     answer.detail);
    }
    dr_free(answer.body);
    dr_http_destroy(h);
    return rc;
}
#else
static enum dr_code post(const char *url, const char *text, struct dr_err *err)
{
    (void)url;
    (void)text;
    return dr_fail(err, DR_UNSUPPORTED, "this drover was built without HTTP requests");
}
#endif

struct child {
    pid_t pid;
    int status;
};

static bool has_ended(void *arg)
{
    struct child *c = arg;
    pid_t got = waitpid(c->pid, &c->status, WNOHANG);
    if (got < 0 && errno != EINTR) {
        c->status = -1;
    }
    return got == c->pid || (got < 0 && errno != EINTR);
}

/* Not longer than HOOK_MS; then the program and what it started are killed. */
static enum dr_code await(pid_t pid, const char *name, struct dr_err *err)
{
    struct child c = {.pid = pid};
    if (!dr_wait_ms(HOOK_MS, has_ended, &c)) {
        (void)kill(-pid, SIGKILL);
        (void)kill(pid, SIGKILL);
        (void)dr_wait_ms(HOOK_MS, has_ended, &c);
        return dr_fail(err, DR_BUSY, "alerts.command: %s took longer than %d s and was killed",
                       name, HOOK_MS / 1000);
    }
    if (c.status == -1 || !WIFEXITED(c.status) || WEXITSTATUS(c.status) != 0) {
        return dr_fail(err, DR_IO, "alerts.command: %s ended with %s %d", name,
                       WIFEXITED(c.status) ? "exit code" : "signal",
                       WIFEXITED(c.status) ? WEXITSTATUS(c.status) : WTERMSIG(c.status));
    }
    return DR_OK;
}

/* In place: blanks become ends. There is no quoting, as there is no shell. */
static void split_words(char *text, char **word, int max)
{
    int count = 0;
    for (char *at = text; *at != '\0' && count < max - 1;) {
        at += strspn(at, " \t");
        if (*at == '\0') {
            break;
        }
        word[count++] = at;
        at += strcspn(at, " \t");
        if (*at != '\0') {
            *at++ = '\0';
        }
    }
    word[count] = NULL;
}

/* The text as a file without a name: a program that does not read it blocks nobody. */
static int make_input(const char *text)
{
    size_t bytes = strlen(text);
    int fd = memfd_create("drover-alert", MFD_CLOEXEC);
    if (fd >= 0 && (write(fd, text, bytes) != (ssize_t)bytes || lseek(fd, 0, SEEK_SET) != 0)) {
        (void)close(fd);
        return -1;
    }
    return fd;
}

static int start_program(char *const *word, int input, pid_t *pid_out)
{
    posix_spawn_file_actions_t files;
    posix_spawnattr_t how;
    sigset_t none;
    sigset_t all;
    (void)sigemptyset(&none);
    (void)sigfillset(&all);
    (void)posix_spawn_file_actions_init(&files);
    (void)posix_spawnattr_init(&how);
    /* Everything else is opened O_CLOEXEC here; what a library opened is closed by number. */
    int bad = posix_spawn_file_actions_adddup2(&files, input, STDIN_FILENO);
    bad |= posix_spawn_file_actions_addopen(&files, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
    bad |= posix_spawn_file_actions_addopen(&files, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
#if defined(__GLIBC_PREREQ)
#if __GLIBC_PREREQ(2, 34)
    bad |= posix_spawn_file_actions_addclosefrom_np(&files, STDERR_FILENO + 1);
#endif
#endif
    bad |= posix_spawnattr_setsigmask(&how, &none);
    bad |= posix_spawnattr_setsigdefault(&how, &all);
    bad |= posix_spawnattr_setpgroup(&how, 0);
    bad |= posix_spawnattr_setflags(&how, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF |
                                              POSIX_SPAWN_SETPGROUP);
    int failed = bad != 0 ? ENOMEM : posix_spawnp(pid_out, word[0], &files, &how, word, environ);
    (void)posix_spawnattr_destroy(&how);
    (void)posix_spawn_file_actions_destroy(&files);
    return failed;
}

static enum dr_code run_command(const char *command, const char *text, struct dr_err *err)
{
    char *word[WORDS_MAX];
    pid_t pid = 0;
    char *copy = dr_strdup(command);
    int input = copy == NULL ? -1 : make_input(text);
    if (copy == NULL || input < 0) {
        dr_free(copy);
        return dr_fail_nomem(err);
    }
    split_words(copy, word, WORDS_MAX);
    int failed = start_program(word, input, &pid);
    (void)close(input);
    enum dr_code rc = failed != 0 ? dr_fail(err, DR_NOT_FOUND, "alerts.command: %s: %s", word[0],
                                            strerrordesc_np(failed))
                                  : await(pid, word[0], err);
    dr_free(copy);
    return rc;
}

static char *alert_text(const struct dr_alerter *a, const struct dr_alert *alert, dr_wall_ms now)
{
    char at[32];
    json_t *j = json_pack("{s:s, s:s, s:f, s:f, s:s, s:s, s:s, s:s}", "alert", alert->name, "state",
                          alert->is_firing ? "firing" : "resolved", "value", alert->value, "limit",
                          alert->limit, "text", alert->text, "at", dr_wall_text(now, at, sizeof at),
                          "host", a->host, "data", a->data_dir);
    char *text = j == NULL ? NULL : dr_json_text(j);
    json_decref(j);
    return text;
}

static bool must_say(const struct dr_alerter *a, const struct said *s, bool is_firing,
                     dr_wall_ms now)
{
    if (s->is_firing != is_firing) {
        return true;
    }
    return is_firing && a->rules.repeat_ms > 0 && now - s->at >= (dr_wall_ms)a->rules.repeat_ms;
}

/* False: this way does not work at the moment. */
static bool say(struct dr_alerter *a, enum channel by, const struct dr_alert *alert, dr_wall_ms now)
{
    struct dr_err err = {0};
    enum dr_code rc = DR_OK;
    char *text = alert_text(a, alert, now);
    if (text == NULL) {
        return false;
    }
    switch (by) {
    case BY_WEBHOOK:
        rc = post(a->rules.webhook, text, &err);
        break;
    case BY_COMMAND:
        rc = run_command(a->rules.command, text, &err);
        break;
    case CHANNELS:
        break;
    }
    if (rc != DR_OK) {
        dr_log(a->log, DR_LOG_WARN, "an alert could not be sent, trying again at the next look",
               "alert=%s by=%s why=%s", alert->name, channel_name[by], err.msg);
    }
    dr_free(text);
    return rc == DR_OK;
}

static bool say_all(struct dr_alerter *a, enum channel by, const struct dr_alert *alert,
                    dr_wall_ms now)
{
    bool is_changed = false;
    for (int i = 0; i < DR_ALERT_COUNT; i++) {
        struct memory *m = remember(a, alert[i].name);
        if (m == NULL || !must_say(a, &m->said[by], alert[i].is_firing, now)) {
            continue;
        }
        if (!say(a, by, &alert[i], now)) {
            break; /* the others would wait as long for the same failure */
        }
        m->said[by] = (struct said){.is_firing = alert[i].is_firing, .at = now};
        is_changed = true;
    }
    return is_changed;
}

/* --- the alerter -------------------------------------------------------------------------------
 */

void dr_alerter_look(struct dr_alerter *a, const struct dr_health_report *r)
{
    struct dr_alert alert[DR_ALERT_COUNT];
    dr_wall_ms now = dr_wall_now();
    bool is_changed = false;
    dr_alerts_judge(&a->rules, r, alert);
    for (int i = 0; i < DR_ALERT_COUNT; i++) {
        struct memory *m = remember(a, alert[i].name);
        if (m == NULL || (m->since != 0) == alert[i].is_firing) {
            continue;
        }
        m->since = alert[i].is_firing ? now : 0;
        is_changed = true;
        dr_log(a->log, alert[i].is_firing ? DR_LOG_WARN : DR_LOG_INFO,
               alert[i].is_firing ? "alert" : "alert is over", "alert=%s value=%g limit=%g text=%s",
               alert[i].name, alert[i].value, alert[i].limit, alert[i].text);
    }
    if (a->rules.webhook != NULL) {
        is_changed |= say_all(a, BY_WEBHOOK, alert, now);
    }
    if (a->rules.command != NULL) {
        is_changed |= say_all(a, BY_COMMAND, alert, now);
    }
    if (is_changed) {
        save_memory(a);
    }
}

static enum dr_code copy_rules(struct dr_alerter *a, const struct dr_alert_rules *rules,
                               struct dr_err *err)
{
    a->rules = *rules;
    a->webhook = rules->webhook == NULL ? NULL : dr_strdup(rules->webhook);
    a->command = rules->command == NULL ? NULL : dr_strdup(rules->command);
    if ((rules->webhook != NULL && a->webhook == NULL) ||
        (rules->command != NULL && a->command == NULL)) {
        return dr_fail_nomem(err);
    }
    a->rules.webhook = a->webhook;
    a->rules.command = a->command;
    return DR_OK;
}

enum dr_code dr_alerter_create(const char *data_dir, const struct dr_alert_rules *rules,
                               struct dr_log *log, struct dr_alerter **out, struct dr_err *err)
{
    *out = NULL;
    struct dr_alerter *a = dr_calloc(1, sizeof *a);
    if (a == NULL) {
        return dr_fail_nomem(err);
    }
    a->log = log;
    a->data_dir = dr_strdup(data_dir);
    a->path = dr_asprintf("%s/alerts.json", data_dir);
    if (gethostname(a->host, sizeof a->host - 1) != 0) {
        dr_copy_text(a->host, sizeof a->host, "?");
    }
    enum dr_code rc =
        a->data_dir == NULL || a->path == NULL ? dr_fail_nomem(err) : copy_rules(a, rules, err);
    if (rc != DR_OK) {
        dr_alerter_destroy(a);
        return rc;
    }
    name_memory(a);
    load_memory(a);
    *out = a;
    return DR_OK;
}

void dr_alerter_destroy(struct dr_alerter *a)
{
    if (a != NULL) {
        dr_free(a->webhook);
        dr_free(a->command);
        dr_free(a->data_dir);
        dr_free(a->path);
        dr_free(a);
    }
}
