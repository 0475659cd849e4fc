/* SPDX-License-Identifier: Apache-2.0 */
/* Owns the Hawk signature of a request: the normalized text and the header around its MAC. No
 * state; any thread. */
#include <assert.h>
#include <string.h>
#include <strings.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/str.h"
#include "tokenserver/token.h"
#include "tokenserver/token_private.h"

/* The parts of a URL that are signed; all borrow from it. */
struct url_parts {
    const char *host;
    size_t host_len;
    const char *port; /* digits */
    size_t port_len;
    const char *path; /* path and query; may be empty */
    size_t path_len;
};

static enum dr_code refuse_url(const char *why, struct dr_err *err)
{
    return dr_fail(err, DR_INPUT, "the node's URL %s; it looks like https://host:port/path", why);
}

/* Where the host ends: an address in brackets has colons of its own. */
static size_t find_host_end(const char *authority, size_t len)
{
    if (len > 0 && authority[0] == '[') {
        const char *bracket = memchr(authority, ']', len);
        return bracket == NULL ? 0 : (size_t)(bracket - authority) + 1;
    }
    const char *colon = memchr(authority, ':', len);
    return colon == NULL ? len : (size_t)(colon - authority);
}

static bool is_port(const char *text, size_t len)
{
    unsigned value = 0;
    for (size_t i = 0; i < len; i++) {
        if (text[i] < '0' || text[i] > '9' || value > 65535) {
            return false;
        }
        value = value * 10 + (unsigned)(text[i] - '0');
    }
    return value > 0 && value <= 65535;
}

static enum dr_code split_url(const char *url, struct url_parts *out, struct dr_err *err)
{
    for (const char *c = url; *c != '\0'; c++) {
        if ((unsigned char)*c <= ' ' || (unsigned char)*c == 0x7F) {
            return refuse_url("has a blank or control character", err);
        }
    }
    bool is_tls = strncasecmp(url, "https://", 8) == 0;
    if (!is_tls && strncasecmp(url, "http://", 7) != 0) {
        return refuse_url("is neither http nor https", err);
    }
    const char *authority = url + (is_tls ? 8 : 7);
    size_t len = strcspn(authority, "/?#");
    out->path = authority + len;
    out->path_len = strcspn(out->path, "#"); /* a fragment is never sent */
    if (memchr(authority, '@', len) != NULL) {
        return refuse_url("has a user name or password, which a signed request does not take", err);
    }
    out->host = authority;
    out->host_len = find_host_end(authority, len);
    if (out->host_len == 0) {
        return refuse_url("has no host", err);
    }
    out->port = is_tls ? "443" : "80";
    out->port_len = strlen(out->port);
    const char *rest = authority + out->host_len;
    size_t rest_len = len - out->host_len;
    if (rest_len > 1 || (rest_len == 1 && rest[0] != ':')) {
        if (rest[0] != ':' || !is_port(rest + 1, rest_len - 1)) {
            return refuse_url("has a bad port", err);
        }
        out->port = rest + 1;
        out->port_len = rest_len - 1;
    }
    return DR_OK;
}

enum dr_code dr_hawk_normalize(const char *method, const char *url, int64_t ts, const char *nonce,
                               char **out, struct dr_err *err)
{
    *out = NULL;
    struct url_parts p = {0};
    enum dr_code rc = split_url(url, &p, err);
    if (rc != DR_OK) {
        return rc;
    }
    struct dr_str s;
    dr_str_init(&s);
    dr_str_addf(&s, "hawk.1.header\n%lld\n%s\n%s\n", (long long)ts, nonce, method);
    if (p.path_len == 0 || p.path[0] == '?') {
        dr_str_addc(&s, '/'); /* what a client sends for an empty path */
    }
    dr_str_addn(&s, p.path, p.path_len);
    dr_str_addc(&s, '\n');
    for (size_t i = 0; i < p.host_len; i++) {
        char c = p.host[i];
        dr_str_addc(&s, c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c);
    }
    dr_str_addc(&s, '\n');
    dr_str_addn(&s, p.port, p.port_len);
    dr_str_add(&s, "\n\n\n"); /* no payload hash, no ext */
    *out = dr_str_take(&s);
    dr_str_fini(&s);
    return *out == NULL ? dr_fail_nomem(err) : DR_OK;
}

static bool is_safe_nonce(const char *nonce)
{
    return nonce[0] != '\0' && strspn(nonce, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
                                             "0123456789+/=-_.~") == strlen(nonce);
}

enum dr_code dr_hawk_header(const struct dr_token *t, const char *method, const char *url,
                            int64_t ts, const char *nonce, char **out, struct dr_err *err)
{
    assert(t->token != NULL && t->derived_secret != NULL);
    *out = NULL;
    char *own_nonce = NULL, *text = NULL, *mac_text = NULL;
    uint8_t mac[DR_MAC_BYTES];
    uint8_t random[DR_NONCE_BYTES];
    enum dr_code rc = DR_OK;
    if (nonce == NULL) {
        rc = dr_token_random(random, sizeof random, err);
        if (rc != DR_OK) {
            goto out;
        }
        own_nonce = dr_token_base64(random, sizeof random, true, true);
        nonce = own_nonce;
    }
    if (nonce == NULL) {
        rc = dr_fail_nomem(err);
        goto out;
    }
    if (!is_safe_nonce(nonce)) {
        rc = dr_fail(err, DR_INPUT, "the nonce has characters that a header cannot carry");
        goto out;
    }
    ts = ts == 0 ? dr_wall_now() / 1000 : ts;
    rc = dr_hawk_normalize(method, url, ts, nonce, &text, err);
    if (rc != DR_OK) {
        goto out;
    }
    rc = dr_token_mac(t->derived_secret, strlen(t->derived_secret), text, strlen(text), mac, err);
    if (rc != DR_OK) {
        goto out;
    }
    mac_text = dr_token_base64(mac, sizeof mac, false, true);
    *out = mac_text == NULL ? NULL
                            : dr_asprintf("Hawk id=\"%s\", ts=\"%lld\", nonce=\"%s\", mac=\"%s\"",
                                          t->token, (long long)ts, nonce, mac_text);
    rc = *out == NULL ? dr_fail_nomem(err) : DR_OK;
out:
    dr_free(mac_text);
    dr_free(text);
    dr_free(own_nonce);
    return rc;
}
