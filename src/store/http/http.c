/* SPDX-License-Identifier: Apache-2.0 */
/* Owns the open HTTP requests of one handle and the connections behind them (libcurl multi). Leaves
 * to its caller what an answer means, repeating, and whom to ask next. One thread.
 *
 * What is told apart is whether a request can have reached its server: DR_HTTP_CONNECT means that
 * not a byte of it left. All else without a whole answer is an unknown outcome. */
#include "store/http.h"

#include <assert.h>
#include <curl/curl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/str.h"

enum {
    CONNECTIONS_MAX = 64,
    PER_HOST_MAX = 4,
    CONNECT_TIMEOUT_MS = 10000,
    ANSWER_BYTES_MAX = 1024 * 1024, /* a node answers a deletion with a line; more is no answer */
    HEAD_BYTES = 160,
    POLL_MS_MAX = 1000,
    RETRY_AFTER_S_MAX = 7 * 24 * 3600,
};

struct open_request {
    CURL *easy;
    struct curl_slist *headers;
    void *tag;
    dr_mono_ms started;
    size_t answer_bytes;
    size_t answer_bytes_max;
    bool is_kept; /* the whole answer, not only its head */
    struct dr_str kept;
    size_t head_len;
    char head[HEAD_BYTES]; /* the answer's first bytes */
    char failure[CURL_ERROR_SIZE];
    struct open_request *prev, *next;
};

struct dr_http {
    CURLM *multi;
    struct open_request *open;
    uint32_t open_count;
    uint64_t connect_timeout_ms;
};

static void start_curl(void)
{
    (void)curl_global_init(CURL_GLOBAL_DEFAULT); /* a failure shows up in curl_multi_init */
}

enum dr_code dr_http_create(const struct dr_http_config *config, struct dr_http **out,
                            struct dr_err *err)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    *out = NULL;
    (void)pthread_once(&once, start_curl);
    struct dr_http *h = dr_calloc(1, sizeof *h);
    if (h == NULL) {
        return dr_fail_nomem(err);
    }
    h->multi = curl_multi_init();
    if (h->multi == NULL) {
        dr_free(h);
        return dr_fail_nomem(err);
    }
    uint32_t all = config->connections_max == 0 ? CONNECTIONS_MAX : config->connections_max;
    uint32_t each =
        config->connections_per_host_max == 0 ? PER_HOST_MAX : config->connections_per_host_max;
    h->connect_timeout_ms =
        config->connect_timeout_ms == 0 ? CONNECT_TIMEOUT_MS : config->connect_timeout_ms;
    (void)curl_multi_setopt(h->multi, CURLMOPT_MAX_TOTAL_CONNECTIONS, (long)all);
    (void)curl_multi_setopt(h->multi, CURLMOPT_MAX_HOST_CONNECTIONS, (long)each);
    (void)curl_multi_setopt(h->multi, CURLMOPT_MAXCONNECTS, (long)all);
    *out = h;
    return DR_OK;
}

/* Take a request out of the handle and free it; an unfinished one is cut. */
static void drop_request(struct dr_http *h, struct open_request *r)
{
    assert(h->open_count > 0);
    (void)curl_multi_remove_handle(h->multi, r->easy);
    if (r->prev != NULL) {
        r->prev->next = r->next;
    } else {
        h->open = r->next;
    }
    if (r->next != NULL) {
        r->next->prev = r->prev;
    }
    h->open_count--;
    curl_easy_cleanup(r->easy);
    curl_slist_free_all(r->headers);
    dr_str_fini(&r->kept);
    dr_free(r);
}

void dr_http_destroy(struct dr_http *h)
{
    if (h == NULL) {
        return;
    }
    while (h->open != NULL) {
        drop_request(h, h->open);
    }
    (void)curl_multi_cleanup(h->multi);
    dr_free(h);
}

uint32_t dr_http_open_count(const struct dr_http *h)
{
    return h->open_count;
}

static size_t take_answer(char *data, size_t one, size_t bytes, void *arg)
{
    struct open_request *r = arg;
    assert(one == 1);
    size_t room = HEAD_BYTES - 1 - r->head_len;
    size_t taken = bytes < room ? bytes : room;
    memcpy(r->head + r->head_len, data, taken);
    r->head_len += taken;
    r->answer_bytes += bytes;
    if (r->answer_bytes > r->answer_bytes_max) {
        return 0; /* ends the request */
    }
    if (r->is_kept) {
        dr_str_addn(&r->kept, data, bytes);
    }
    return r->kept.is_short ? 0 : bytes;
}

static enum dr_code check_url(const char *url, struct dr_err *err)
{
    CURLU *parsed = curl_url();
    char *scheme = NULL;
    enum dr_code rc = DR_OK;
    if (parsed == NULL) {
        return dr_fail_nomem(err);
    }
    CURLUcode code = curl_url_set(parsed, CURLUPART_URL, url, CURLU_NON_SUPPORT_SCHEME);
    if (code == CURLUE_OUT_OF_MEMORY) {
        rc = dr_fail_nomem(err);
        goto out;
    }
    if (code != CURLUE_OK || curl_url_get(parsed, CURLUPART_SCHEME, &scheme, 0) != CURLUE_OK) {
        rc = dr_fail(err, DR_INPUT, "\"%.200s\" is no URL: %s", url, curl_url_strerror(code));
        goto out;
    }
    if (strcmp(scheme, "http") != 0 && strcmp(scheme, "https") != 0) {
        rc = dr_fail(err, DR_INPUT, "\"%.200s\" is neither an http nor an https URL", url);
    }
out:
    curl_free(scheme);
    curl_url_cleanup(parsed);
    return rc;
}

static bool add_header(struct open_request *r, const char *name, const char *value)
{
    char *line = dr_asprintf("%s:%s%s", name, value[0] == '\0' ? "" : " ", value);
    struct curl_slist *more = line == NULL ? NULL : curl_slist_append(r->headers, line);
    dr_free(line);
    if (more == NULL) {
        return false;
    }
    r->headers = more;
    return true;
}

static bool set_headers(struct open_request *r, const struct dr_http_request *request)
{
    const char *type = request->content_type;
    if (request->authorization != NULL && !add_header(r, "Authorization", request->authorization)) {
        return false;
    }
    /* No "Expect: 100-continue": waiting for leave to send costs more than sending. */
    if (request->body != NULL &&
        (!add_header(r, "Content-Type", type == NULL ? "application/octet-stream" : type) ||
         !add_header(r, "Expect", ""))) {
        return false;
    }
    return add_header(r, "Accept", "*/*") &&
           curl_easy_setopt(r->easy, CURLOPT_HTTPHEADER, r->headers) == CURLE_OK;
}

static bool set_body(struct open_request *r, const struct dr_http_request *request)
{
    if (request->body == NULL) {
        return true;
    }
    /* The length first: libcurl copies so much. */
    return curl_easy_setopt(r->easy, CURLOPT_POSTFIELDSIZE_LARGE,
                            (curl_off_t)request->body_bytes) == CURLE_OK &&
           curl_easy_setopt(r->easy, CURLOPT_COPYPOSTFIELDS, request->body) == CURLE_OK;
}

static bool set_options(const struct dr_http *h, struct open_request *r,
                        const struct dr_http_request *request)
{
    CURL *e = r->easy;
    long timeout_ms = request->timeout_ms > INT32_MAX ? INT32_MAX : (long)request->timeout_ms;
    CURLcode failed[] = {
        curl_easy_setopt(e, CURLOPT_URL, request->url),
        curl_easy_setopt(e, CURLOPT_CUSTOMREQUEST, request->method),
        curl_easy_setopt(e, CURLOPT_FRESH_CONNECT, request->is_once ? 1L : 0L),
        curl_easy_setopt(e, CURLOPT_PRIVATE, r),
        curl_easy_setopt(e, CURLOPT_ERRORBUFFER, r->failure),
        curl_easy_setopt(e, CURLOPT_WRITEFUNCTION, take_answer),
        curl_easy_setopt(e, CURLOPT_WRITEDATA, r),
        curl_easy_setopt(e, CURLOPT_TIMEOUT_MS, timeout_ms),
        curl_easy_setopt(e, CURLOPT_CONNECTTIMEOUT_MS, (long)h->connect_timeout_ms),
        curl_easy_setopt(e, CURLOPT_NOSIGNAL, 1L),
        curl_easy_setopt(e, CURLOPT_FOLLOWLOCATION, 0L),
        curl_easy_setopt(e, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1),
        curl_easy_setopt(e, CURLOPT_PROTOCOLS_STR, "http,https"),
        /* The path is signed as it stands: no "..", no squashing. */
        curl_easy_setopt(e, CURLOPT_PATH_AS_IS, 1L),
        /* A proxy from the environment would see, and could repeat, signed deletions. */
        curl_easy_setopt(e, CURLOPT_PROXY, ""),
        curl_easy_setopt(e, CURLOPT_TCP_KEEPALIVE, 1L),
        curl_easy_setopt(e, CURLOPT_USERAGENT, "drover/" DROVER_VERSION),
    };
    for (size_t i = 0; i < sizeof failed / sizeof failed[0]; i++) {
        if (failed[i] != CURLE_OK) {
            return false;
        }
    }
    return set_headers(r, request) && set_body(r, request);
}

enum dr_code dr_http_start(struct dr_http *h, const struct dr_http_request *r, struct dr_err *err)
{
    assert(r->method != NULL && r->url != NULL);
    enum dr_code rc = check_url(r->url, err);
    if (rc != DR_OK) {
        return rc;
    }
    struct open_request *open = dr_calloc(1, sizeof *open);
    if (open == NULL) {
        return dr_fail_nomem(err);
    }
    open->tag = r->tag;
    open->is_kept = r->answer_bytes_max > 0;
    open->answer_bytes_max = open->is_kept ? r->answer_bytes_max : ANSWER_BYTES_MAX;
    dr_str_init(&open->kept);
    open->started = dr_mono_now();
    open->easy = curl_easy_init();
    if (open->easy == NULL || !set_options(h, open, r) ||
        curl_multi_add_handle(h->multi, open->easy) != CURLM_OK) {
        curl_easy_cleanup(open->easy); /* accepts NULL */
        curl_slist_free_all(open->headers);
        dr_free(open);
        return dr_fail_nomem(err);
    }
    open->next = h->open;
    if (h->open != NULL) {
        h->open->prev = open;
    }
    h->open = open;
    h->open_count++;
    return DR_OK;
}

static enum dr_http_failure classify_failure(CURL *easy, CURLcode code)
{
    long sent_bytes = 0;
    if (code == CURLE_OK) {
        return DR_HTTP_NONE;
    }
    (void)curl_easy_getinfo(easy, CURLINFO_REQUEST_SIZE, &sent_bytes);
    if (sent_bytes == 0) {
        return DR_HTTP_CONNECT;
    }
    return code == CURLE_OPERATION_TIMEDOUT ? DR_HTTP_TIMEOUT : DR_HTTP_BROKEN;
}

/* One line that can be printed: the answer is a stranger's text. */
static void write_head(const struct open_request *r, char *buf, size_t buf_bytes)
{
    size_t len = 0;
    for (size_t i = 0; i < r->head_len && len + 1 < buf_bytes; i++) {
        unsigned char c = (unsigned char)r->head[i];
        buf[len++] = c >= ' ' && c < 0x7F ? (char)c : c == '\n' || c == '\r' ? ' ' : '?';
    }
    while (len > 0 && buf[len - 1] == ' ') {
        len--;
    }
    buf[len] = '\0';
}

static void fill_answer(struct open_request *r, CURLcode code, struct dr_http_answer *out)
{
    *out = (struct dr_http_answer){.tag = r->tag, .failure = classify_failure(r->easy, code)};
    out->elapsed_ms = (uint64_t)(dr_mono_now() - r->started);
    if (out->failure != DR_HTTP_NONE) {
        const char *text = r->failure[0] != '\0' ? r->failure : curl_easy_strerror(code);
        if (r->kept.is_short) {
            text = "memory is too short for the answer";
        } else if (code == CURLE_WRITE_ERROR) {
            (void)snprintf(out->detail, sizeof out->detail,
                           "the answer is longer than %zu bytes; is this the right server?",
                           r->answer_bytes_max);
            return;
        }
        (void)snprintf(out->detail, sizeof out->detail, "%s", text);
        return;
    }
    long status = 0;
    curl_off_t retry_after_s = 0;
    (void)curl_easy_getinfo(r->easy, CURLINFO_RESPONSE_CODE, &status);
    (void)curl_easy_getinfo(r->easy, CURLINFO_RETRY_AFTER, &retry_after_s);
    if (retry_after_s > RETRY_AFTER_S_MAX) {
        retry_after_s = RETRY_AFTER_S_MAX;
    }
    out->status = status > 0 ? (uint32_t)status : 0;
    out->retry_after_ms = retry_after_s > 0 ? (uint64_t)retry_after_s * 1000 : 0;
    write_head(r, out->detail, sizeof out->detail);
    if (r->is_kept && r->kept.len > 0) {
        out->body_bytes = r->kept.len;
        out->body = dr_str_take(&r->kept);
    }
}

/* The next finished request, if there is one. */
static bool take_finished(struct dr_http *h, struct dr_http_answer *out)
{
    CURLMsg *message = NULL;
    int left = 0;
    while ((message = curl_multi_info_read(h->multi, &left)) != NULL) {
        if (message->msg != CURLMSG_DONE) {
            continue;
        }
        CURLcode code = message->data.result; /* the message goes with its handle */
        char *private = NULL;
        (void)curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &private);
        struct open_request *r = (struct open_request *)(void *)private;
        assert(r != NULL);
        fill_answer(r, code, out);
        drop_request(h, r);
        return true;
    }
    return false;
}

static enum dr_code explain_multi(CURLMcode code, const char *what, struct dr_err *err)
{
    if (code == CURLM_OUT_OF_MEMORY) {
        return dr_fail_nomem(err);
    }
    return dr_fail(err, DR_INTERNAL, "HTTP %s: %s", what, curl_multi_strerror(code));
}

enum dr_code dr_http_wait(struct dr_http *h, uint64_t wait_ms, struct dr_http_answer *out,
                          bool *has_out, struct dr_err *err)
{
    *has_out = false;
    dr_mono_ms start = dr_mono_now();
    for (;;) {
        if (take_finished(h, out)) {
            *has_out = true;
            return DR_OK;
        }
        int running = 0;
        CURLMcode code = curl_multi_perform(h->multi, &running);
        if (code != CURLM_OK) {
            return explain_multi(code, "work", err);
        }
        if (take_finished(h, out)) {
            *has_out = true;
            return DR_OK;
        }
        uint64_t passed = (uint64_t)(dr_mono_now() - start);
        if (passed >= wait_ms) {
            return DR_OK;
        }
        uint64_t left = wait_ms - passed;
        code =
            curl_multi_poll(h->multi, NULL, 0, left > POLL_MS_MAX ? POLL_MS_MAX : (int)left, NULL);
        if (code != CURLM_OK) {
            return explain_multi(code, "wait", err);
        }
    }
}
