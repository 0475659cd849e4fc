/* SPDX-License-Identifier: Apache-2.0 */
/* drover's own options taken out of a store's URL. Messages never show the URL: it may hold a
 * password. */
#include <netdb.h>

#include <string.h>

#include "store/mongodb/mongodb_private.h"

enum { DAY_MS = 24 * 60 * 60 * 1000 };

static bool is_mongodb_uri(const char *text)
{
    return strncmp(text, "mongodb://", 10) == 0 || strncmp(text, "mongodb+srv://", 14) == 0;
}

static bool is_database_name(const char *text)
{
    return text[0] != '\0' && strlen(text) < MG_NAME_BYTES && strpbrk(text, "/\\. \"$") == NULL;
}

/* Give `value` to the option `name` (behind "drover."). Takes over nothing. */
static enum dr_code take_option(struct mg_url *u, const char *name, const char *value,
                                struct dr_err *err)
{
    char **text = strcmp(name, "configUri") == 0  ? &u->config_uri
                  : strcmp(name, "configDb") == 0 ? &u->config_db
                                                  : NULL;
    if (strcmp(name, "rebalanceCheck") == 0) {
        return dr_parse_duration_ms(value, &u->rebalance_ms) && u->rebalance_ms > 0 &&
                       u->rebalance_ms <= DAY_MS
                   ? DR_OK
                   : dr_fail(err, DR_INPUT,
                             "mongodb URL: drover.rebalanceCheck takes a duration from 1ms to one "
                             "day, for example 300 (seconds) or 5m");
    }
    if (text == NULL) {
        return dr_fail(err, DR_INPUT,
                       "mongodb URL: no option drover.%.64s; there are drover.configUri, "
                       "drover.configDb and drover.rebalanceCheck",
                       name);
    }
    dr_free(*text);
    *text = dr_strdup(value);
    if (*text == NULL) {
        return dr_fail_nomem(err);
    }
    if (text == &u->config_uri && !is_mongodb_uri(value)) {
        return dr_fail(err, DR_INPUT,
                       "mongodb URL: drover.configUri is no percent-encoded mongodb:// URI");
    }
    if (text == &u->config_db && !is_database_name(value)) {
        return dr_fail(err, DR_INPUT, "mongodb URL: drover.configDb is no name of a database");
    }
    return DR_OK;
}

/* One "name=value" of the query: an option of drover's, or one for the driver. */
static enum dr_code take_part(struct mg_url *u, const char *part, size_t bytes, struct dr_str *rest,
                              bool *has_rest, struct dr_err *err)
{
    static const char prefix[] = "drover.";
    const size_t prefix_bytes = sizeof prefix - 1;
    if (bytes < prefix_bytes || strncmp(part, prefix, prefix_bytes) != 0) {
        if (bytes > 0) {
            dr_str_addc(rest, *has_rest ? '&' : '?');
            dr_str_addn(rest, part, bytes);
            *has_rest = true;
        }
        return DR_OK;
    }
    char *copy = dr_strndup(part + prefix_bytes, bytes - prefix_bytes);
    if (copy == NULL) {
        return dr_fail_nomem(err);
    }
    char *value = strchr(copy, '=');
    enum dr_code rc = DR_OK;
    if (value == NULL) {
        rc = dr_fail(err, DR_INPUT, "mongodb URL: an option drover.* has no value");
    } else {
        *value++ = '\0';
        rc = dr_percent_decode(value)
                 ? take_option(u, copy, value, err)
                 : dr_fail(err, DR_INPUT, "mongodb URL: drover.%.64s holds a broken %%-escape",
                           copy);
    }
    dr_free(copy);
    return rc;
}

enum dr_code mg_url_parse(const char *url, struct mg_url *out, struct dr_err *err)
{
    *out = (struct mg_url){.rebalance_ms = MG_REBALANCE_S * UINT64_C(1000)};
    struct dr_str rest;
    bool has_rest = false;
    enum dr_code rc = DR_OK;
    dr_str_init(&rest);
    if (!is_mongodb_uri(url)) {
        rc = dr_fail(err, DR_INPUT, "no mongodb:// or mongodb+srv:// URL");
        goto out;
    }
    const char *query = strchr(url, '?');
    dr_str_addn(&rest, url, query == NULL ? strlen(url) : (size_t)(query - url));
    for (const char *at = query == NULL ? NULL : query + 1; rc == DR_OK && at != NULL;) {
        const char *end = strchr(at, '&');
        rc = take_part(out, at, end == NULL ? strlen(at) : (size_t)(end - at), &rest, &has_rest,
                       err);
        at = end == NULL ? NULL : end + 1;
    }
    if (rc == DR_OK && out->config_db == NULL) {
        out->config_db = dr_strdup("config");
    }
    if (rc == DR_OK) {
        out->uri = dr_str_take(&rest);
        rc = out->uri == NULL || out->config_db == NULL ? dr_fail_nomem(err) : DR_OK;
    }
out:
    dr_str_fini(&rest);
    if (rc != DR_OK) {
        mg_url_fini(out);
    }
    return rc;
}

void mg_url_fini(struct mg_url *u)
{
    dr_free(u->uri);
    dr_free(u->config_uri);
    dr_free(u->config_db);
    *u = (struct mg_url){0};
}
