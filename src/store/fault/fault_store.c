/* SPDX-License-Identifier: Apache-2.0 */
/* The fault adapter: reads its rules, counts calls per URL and spoils the chosen ones. The counts
 * are guarded by a mutex; a handle belongs to one thread at a time like every store's. */
#include "store/fault/fault_store.h"

#include <assert.h>
#include <pthread.h>
#include <string.h>

#include "base/backoff.h"
#include "base/mem.h"
#include "base/str.h"

enum { RULES_MAX = 64, RULE_BYTES_MAX = 128, DELAY_MS_MAX = 600000 };

/* The ops, in the order of op_names; ANY counts every call. */
enum fault_op {
    OP_OPEN,
    OP_SCAN,
    OP_ERASE,
    OP_PROBE,
    OP_RESTORE,
    OP_COMMAND,
    OP_HEALTH,
    OP_EPOCH,
    OP_COUNT,
    OP_SURVEY,
    OP_PUBLISH,
    OP_ANY,
    OP_LIMIT
};

static const char *const op_names[OP_LIMIT] = {
    [OP_OPEN] = "open",     [OP_SCAN] = "scan",       [OP_ERASE] = "erase",
    [OP_PROBE] = "probe",   [OP_RESTORE] = "restore", [OP_COMMAND] = "command",
    [OP_HEALTH] = "health", [OP_EPOCH] = "epoch",     [OP_COUNT] = "count",
    [OP_SURVEY] = "survey", [OP_PUBLISH] = "publish", [OP_ANY] = "*",
};

enum fault_action { ACT_NONE, ACT_ANSWER, ACT_DO_THEN_ANSWER, ACT_BAD, ACT_DELAY };

static const struct {
    const char *name;
    enum fault_action action;
    enum dr_code code; /* the answer */
} actions[] = {
    {"none", ACT_NONE, DR_OK},
    {"unknown_done", ACT_DO_THEN_ANSWER, DR_UNKNOWN},
    {"unknown_not_done", ACT_ANSWER, DR_UNKNOWN},
    {"busy", ACT_ANSWER, DR_BUSY},
    {"unreachable", ACT_ANSWER, DR_UNREACHABLE},
    {"stale", ACT_ANSWER, DR_STALE},
    {"denied", ACT_ANSWER, DR_DENIED},
    {"io", ACT_ANSWER, DR_IO},
    {"bad", ACT_BAD, DR_OK},
    {"delay", ACT_DELAY, DR_OK},
};

struct fault_rule {
    enum fault_op op;
    enum fault_action action;
    enum dr_code code;
    uint64_t delay_ms;
    uint64_t from, upto; /* calls, from 1 */
};

struct fault_counts {
    struct fault_counts *next;
    char *url;
    uint64_t calls[OP_LIMIT];
};

struct fault_handle {
    char *url;
    struct dr_store *inner;
    uint32_t rule_count;
    struct fault_rule rule[RULES_MAX];
};

static pthread_mutex_t counts_mutex = PTHREAD_MUTEX_INITIALIZER;
static struct fault_counts *all_counts;

void dr_fault_store_reset(void)
{
    (void)pthread_mutex_lock(&counts_mutex);
    while (all_counts != NULL) {
        struct fault_counts *next = all_counts->next;
        dr_free(all_counts->url);
        dr_free(all_counts);
        all_counts = next;
    }
    (void)pthread_mutex_unlock(&counts_mutex);
}

/* The counts of a URL or NULL; under the mutex. */
static struct fault_counts *find_counts(const char *url)
{
    struct fault_counts *c = all_counts;
    while (c != NULL && strcmp(c->url, url) != 0) {
        c = c->next;
    }
    return c;
}

static bool find_op(const char *name, size_t length, enum fault_op *out)
{
    for (unsigned i = 0; i < OP_LIMIT; i++) {
        if (strlen(op_names[i]) == length && memcmp(op_names[i], name, length) == 0) {
            *out = (enum fault_op)i;
            return true;
        }
    }
    return false;
}

uint64_t dr_fault_store_calls(const char *url, const char *op)
{
    enum fault_op which = OP_ANY;
    uint64_t calls = 0;
    bool is_known = find_op(op, strlen(op), &which);
    assert(is_known);
    (void)pthread_mutex_lock(&counts_mutex);
    const struct fault_counts *c = find_counts(url);
    calls = c == NULL || !is_known ? 0 : c->calls[which];
    (void)pthread_mutex_unlock(&counts_mutex);
    return calls;
}

/* Count one call; gives its number among its kind and among all. */
static enum dr_code count_call(const char *url, enum fault_op op, uint64_t *nth_out,
                               uint64_t *nth_any_out, struct dr_err *err)
{
    enum dr_code rc = DR_OK;
    (void)pthread_mutex_lock(&counts_mutex);
    struct fault_counts *c = find_counts(url);
    if (c == NULL) {
        c = dr_calloc(1, sizeof *c);
        char *copy = dr_strdup(url);
        if (c == NULL || copy == NULL) {
            dr_free(c);
            dr_free(copy);
            rc = dr_fail_nomem(err);
            goto out;
        }
        c->url = copy;
        c->next = all_counts;
        all_counts = c;
    }
    *nth_out = ++c->calls[op];
    *nth_any_out = ++c->calls[OP_ANY];
out:
    (void)pthread_mutex_unlock(&counts_mutex);
    return rc;
}

/* "2" or "2+3" after the '@'. */
static bool read_calls(char *text, struct fault_rule *out)
{
    uint64_t more = 0;
    char *plus = strchr(text, '+');
    if (plus != NULL) {
        *plus = '\0';
        if (!dr_parse_u64(plus + 1, &more)) {
            return false;
        }
    }
    if (!dr_parse_u64(text, &out->from) || out->from == 0 || more >= UINT64_MAX - out->from) {
        return false;
    }
    out->upto = out->from + more + 1;
    return true;
}

static bool read_action(char *text, struct fault_rule *out)
{
    char *delay = strchr(text, ':');
    if (delay != NULL) {
        *delay++ = '\0';
    }
    for (size_t i = 0; i < sizeof actions / sizeof actions[0]; i++) {
        if (strcmp(actions[i].name, text) == 0) {
            out->action = actions[i].action;
            out->code = actions[i].code;
            if (out->action == ACT_BAD && out->op != OP_HEALTH && out->op != OP_ANY) {
                return false;
            }
            if (out->action != ACT_DELAY) {
                return delay == NULL;
            }
            return delay != NULL && dr_parse_u64(delay, &out->delay_ms) &&
                   out->delay_ms <= DELAY_MS_MAX;
        }
    }
    return false;
}

/* Take one rule apart in its own buffer. */
static bool read_rule(char *text, struct fault_rule *out)
{
    *out = (struct fault_rule){0};
    char *action = strchr(text, '=');
    char *calls = strchr(text, '@');
    if (action == NULL || calls == NULL || calls < action) {
        return false;
    }
    *action++ = '\0';
    *calls++ = '\0';
    return find_op(text, strlen(text), &out->op) && read_action(action, out) &&
           read_calls(calls, out);
}

static enum dr_code read_rules(const char *text, size_t length, struct fault_handle *h,
                               struct dr_err *err)
{
    char one[RULE_BYTES_MAX];
    const char *end = text + length;
    for (const char *at = text; at < end;) {
        const char *stop = memchr(at, ';', (size_t)(end - at));
        size_t bytes = (size_t)((stop == NULL ? end : stop) - at);
        const char *start = at;
        at += bytes + 1;
        if (bytes == 0 || (bytes == 4 && memcmp(start, "none", 4) == 0)) {
            continue;
        }
        bool is_good = bytes < sizeof one && h->rule_count < RULES_MAX;
        if (is_good) {
            memcpy(one, start, bytes);
            one[bytes] = '\0';
            is_good = read_rule(one, &h->rule[h->rule_count++]);
        }
        if (!is_good) {
            return dr_fail(err, DR_INPUT,
                           "fault: rule \"%.*s\" is wrong; write op=action@n[+k] as "
                           "store/fault/fault_store.h says",
                           (int)(bytes < RULE_BYTES_MAX ? bytes : RULE_BYTES_MAX), start);
        }
    }
    return DR_OK;
}

static enum dr_code answer_fault(enum fault_op op, const struct fault_rule *rule,
                                 struct dr_err *err)
{
    return dr_fail(err, rule->code, "fault: %s, as a rule for \"%s\" wants it (%s)",
                   dr_code_text(rule->code), op_names[op],
                   rule->action == ACT_DO_THEN_ANSWER ? "the call was made" : "no call was made");
}

/* Count a call and act on the rule that fits: anything but DR_OK means the call must not be made.
 * *rule_out is then kept for end_call(), NULL when no rule fits. */
static enum dr_code begin_call(struct fault_handle *h, enum fault_op op,
                               const struct fault_rule **rule_out, struct dr_err *err)
{
    uint64_t nth = 0;
    uint64_t nth_any = 0;
    *rule_out = NULL;
    enum dr_code rc = count_call(h->url, op, &nth, &nth_any, err);
    if (rc != DR_OK) {
        return rc;
    }
    const struct fault_rule *rule = NULL;
    for (uint32_t i = 0; i < h->rule_count && rule == NULL; i++) {
        const struct fault_rule *r = &h->rule[i];
        uint64_t at = r->op == OP_ANY ? nth_any : nth;
        if ((r->op == op || r->op == OP_ANY) && at >= r->from && at < r->upto) {
            rule = r;
        }
    }
    *rule_out = rule;
    if (rule == NULL) {
        return DR_OK;
    }
    switch (rule->action) {
    case ACT_ANSWER:
        return answer_fault(op, rule, err);
    case ACT_DELAY:
        (void)dr_wait_ms(rule->delay_ms, NULL, NULL);
        break;
    case ACT_NONE:
    case ACT_DO_THEN_ANSWER:
    case ACT_BAD:
        break;
    }
    return DR_OK;
}

/* The answer of a call that was made; a lost reply hides whatever it was. */
static enum dr_code end_call(enum fault_op op, const struct fault_rule *rule, enum dr_code rc,
                             struct dr_err *err)
{
    if (rule != NULL && rule->action == ACT_DO_THEN_ANSWER) {
        return answer_fault(op, rule, err);
    }
    return rc;
}

static void close_fault(void *impl)
{
    struct fault_handle *h = impl;
    if (h != NULL) {
        dr_store_close(h->inner);
        dr_free(h->url);
        dr_free(h);
    }
}

static enum dr_code open_fault(const char *url, void **impl_out, struct dr_err *err)
{
    *impl_out = NULL;
    const char *rules = url + strlen("fault:");
    const char *bar = strchr(rules, '|');
    const struct fault_rule *rule = NULL;
    if (bar == NULL) {
        return dr_fail(err, DR_INPUT, "a fault store is written fault:RULES|INNER-URL");
    }
    struct fault_handle *h = dr_calloc(1, sizeof *h);
    if (h == NULL) {
        return dr_fail_nomem(err);
    }
    h->url = dr_strdup(url);
    enum dr_code rc = h->url == NULL ? dr_fail_nomem(err) : DR_OK;
    if (rc == DR_OK) {
        rc = read_rules(rules, (size_t)(bar - rules), h, err);
    }
    if (rc == DR_OK) {
        rc = begin_call(h, OP_OPEN, &rule, err);
    }
    if (rc == DR_OK) {
        rc = end_call(OP_OPEN, rule, dr_store_open(bar + 1, &h->inner, err), err);
    }
    if (rc != DR_OK) {
        close_fault(h);
        return rc;
    }
    *impl_out = h;
    return DR_OK;
}

static enum dr_code survey_fault(void *impl, const char *database, const struct dr_filter *filter,
                                 struct dr_survey *survey, struct dr_err *err)
{
    struct fault_handle *h = impl;
    const struct fault_rule *rule = NULL;
    struct dr_survey *inner = NULL;
    enum dr_code rc = begin_call(h, OP_SURVEY, &rule, err);
    if (rc != DR_OK) {
        return rc;
    }
    rc = dr_store_survey(h->inner, database, filter, &inner, err);
    if (rc == DR_OK) {
        /* Exchange contents: each side goes on owning one arena, and the inner one's is wanted. */
        struct dr_survey empty = *survey;
        *survey = *inner;
        *inner = empty;
    }
    dr_survey_destroy(inner);
    return end_call(OP_SURVEY, rule, rc, err);
}

static enum dr_code epoch_fault(void *impl, const char *collection, uint64_t *epoch_out,
                                struct dr_err *err)
{
    struct fault_handle *h = impl;
    const struct fault_rule *rule = NULL;
    enum dr_code rc = begin_call(h, OP_EPOCH, &rule, err);
    if (rc != DR_OK) {
        return rc;
    }
    rc = dr_store_epoch(h->inner, collection, epoch_out, err);
    return end_call(OP_EPOCH, rule, rc, err);
}

static enum dr_code health_fault(void *impl, const char *node, struct dr_health *out,
                                 struct dr_err *err)
{
    struct fault_handle *h = impl;
    const struct fault_rule *rule = NULL;
    enum dr_code rc = begin_call(h, OP_HEALTH, &rule, err);
    if (rc != DR_OK) {
        return rc;
    }
    rc = dr_store_health(h->inner, node, out, err);
    if (rc == DR_OK && rule != NULL && rule->action == ACT_BAD) {
        out->is_ok = false;
        out->wait_hint_ms = out->wait_hint_ms == 0 ? 10 : out->wait_hint_ms;
        dr_copy_text(out->reason, sizeof out->reason, "fault: a rule says this node is not well");
    }
    return end_call(OP_HEALTH, rule, rc, err);
}

static enum dr_code count_fault(void *impl, const struct dr_range *range, uint64_t *rows_out,
                                struct dr_err *err)
{
    struct fault_handle *h = impl;
    const struct fault_rule *rule = NULL;
    enum dr_code rc = begin_call(h, OP_COUNT, &rule, err);
    if (rc != DR_OK) {
        return rc;
    }
    rc = dr_store_count(h->inner, range, rows_out, err);
    return end_call(OP_COUNT, rule, rc, err);
}

static enum dr_code scan_fault(void *impl, const struct dr_range *range,
                               const struct dr_budget *budget, const struct dr_cursor *from,
                               struct dr_batch *batch, struct dr_err *err)
{
    struct fault_handle *h = impl;
    const struct fault_rule *rule = NULL;
    enum dr_code rc = begin_call(h, OP_SCAN, &rule, err);
    if (rc != DR_OK) {
        return rc;
    }
    rc = dr_store_scan(h->inner, range, budget, from, batch, err);
    return end_call(OP_SCAN, rule, rc, err);
}

/* Erase, probe and restore look alike but for the call. */
static enum dr_code
tally_fault(struct fault_handle *h, enum fault_op op,
            enum dr_code (*call)(struct dr_store *s, const struct dr_range *range,
                                 const struct dr_batch *batch, struct dr_tally *tally_out,
                                 struct dr_err *err),
            const struct dr_range *range, const struct dr_batch *batch, struct dr_tally *tally,
            struct dr_err *err)
{
    const struct fault_rule *rule = NULL;
    struct dr_tally seen = {0};
    enum dr_code rc = begin_call(h, op, &rule, err);
    if (rc != DR_OK) {
        return rc;
    }
    rc = end_call(op, rule, call(h->inner, range, batch, &seen, err), err);
    if (rc == DR_OK) {
        *tally = seen; /* a lost reply must not tell what it did */
    }
    return rc;
}

static enum dr_code erase_fault(void *impl, const struct dr_range *range,
                                const struct dr_batch *batch, struct dr_tally *tally,
                                struct dr_err *err)
{
    return tally_fault(impl, OP_ERASE, dr_store_erase, range, batch, tally, err);
}

static enum dr_code probe_fault(void *impl, const struct dr_range *range,
                                const struct dr_batch *batch, struct dr_tally *tally,
                                struct dr_err *err)
{
    return tally_fault(impl, OP_PROBE, dr_store_probe, range, batch, tally, err);
}

static enum dr_code restore_fault(void *impl, const struct dr_range *range,
                                  const struct dr_batch *batch, struct dr_tally *tally,
                                  struct dr_err *err)
{
    return tally_fault(impl, OP_RESTORE, dr_store_restore, range, batch, tally, err);
}

static enum dr_code command_fault(void *impl, const char *node, const char *text,
                                  struct dr_err *err)
{
    struct fault_handle *h = impl;
    const struct fault_rule *rule = NULL;
    enum dr_code rc = begin_call(h, OP_COMMAND, &rule, err);
    if (rc != DR_OK) {
        return rc;
    }
    rc = dr_store_command(h->inner, node, text, err);
    return end_call(OP_COMMAND, rule, rc, err);
}

static enum dr_code publish_fault(void *impl, const char *spec, const char *state,
                                  struct dr_err *err)
{
    struct fault_handle *h = impl;
    const struct fault_rule *rule = NULL;
    enum dr_code rc = begin_call(h, OP_PUBLISH, &rule, err);
    if (rc != DR_OK) {
        return rc;
    }
    rc = dr_store_publish(h->inner, spec, state, err);
    return end_call(OP_PUBLISH, rule, rc, err);
}

const struct dr_store_ops *dr_store_fault_ops(void)
{
    static const struct dr_store_ops ops = {
        .scheme = "fault",
        .can = DR_CAN_SHARD_RANGE | DR_CAN_SHARD_HASHED | DR_CAN_INDEX | DR_CAN_SCAN |
               DR_CAN_BROADCAST | DR_CAN_KEY_LIST | DR_CAN_TEMP_INDEX | DR_CAN_COMMAND |
               DR_CAN_RESTORE | DR_CAN_COUNT,
        .open = open_fault,
        .close = close_fault,
        .survey = survey_fault,
        .epoch = epoch_fault,
        .health = health_fault,
        .count = count_fault,
        .scan = scan_fault,
        .erase = erase_fault,
        .probe = probe_fault,
        .restore = restore_fault,
        .command = command_fault,
        .publish = publish_fault,
    };
    return &ops;
}
