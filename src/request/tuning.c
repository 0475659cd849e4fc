/* SPDX-License-Identifier: Apache-2.0 */
/* Owns the defaults and limits of what may be changed while an operation runs, and its JSON. Pure.
 */
#include "request/tuning.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "request/tuning_private.h"

enum {
    RATE_MAX = 1000 * 1000 * 1000,
    BATCH_ITEMS_MAX = 1000 * 1000,
    BATCH_BYTES_MIN = 1024,
    BATCH_BYTES_MAX = 128 * 1024 * 1024, /* half of what one frame of the archive may hold */
    BATCH_MS_MAX = 10 * 60 * 1000,
    SLEEP_RATIO_MAX = 1000,
    PER_NODE_MAX = 1024,
    LANES_MAX = 1024,
    PRIORITY_MAX = 100,
    ZONE_OFFSET_MAX = 18 * 60,
    SHOWN_BYTES = 64,
    ZONE_BYTES = 16,
};

void dr_tuning_default(struct dr_tuning *t)
{
    *t = (struct dr_tuning){
        .batch_items_min = 1,
        .batch_items_max = 10000,
        .batch_bytes_max = UINT64_C(8) * 1024 * 1024,
        .batch_target_ms = 500,
        .per_node = 1,
        .zone = DR_ZONE_UTC,
    };
}

/* Cut and cleaned, to be shown in a message. */
static const char *show_text(const char *text, char *buf, size_t buf_bytes)
{
    dr_copy_text(buf, buf_bytes, text);
    for (char *at = buf; *at != '\0'; at++) {
        if ((unsigned char)*at < ' ' || (unsigned char)*at >= 0x7f || *at == '"') {
            *at = '?';
        }
    }
    return buf;
}

static void read_quiet(struct dr_jr *jr, struct dr_tuning *t)
{
    const json_t *array = NULL;
    if (!dr_jr_array(jr, "quiet", false, DR_QUIET_MAX, &array)) {
        return;
    }
    t->quiet_count = 0; /* the list as a whole is replaced */
    for (size_t i = 0; i < json_array_size(array); i++) {
        const json_t *window = json_array_get(array, i);
        const char *text = json_string_value(window);
        if (text != NULL && dr_tuning_read_quiet(text, &t->quiet[t->quiet_count])) {
            t->quiet_count++;
            continue;
        }
        char shown[SHOWN_BYTES];
        jr->rc =
            dr_fail(jr->err, DR_INPUT,
                    "%s.quiet[%zu]: expected when not to work, such as \"Mon-Fri "
                    "08:00-20:00\", \"Sat,Sun 00:00-24:00\" or \"22:00-06:00\", found \"%s\"",
                    jr->path, i, show_text(text == NULL ? "no string" : text, shown, sizeof shown));
        return;
    }
}

static bool read_zone(const char *text, enum dr_zone *zone, int32_t *offset)
{
    *offset = 0;
    if (strcmp(text, "UTC") == 0 || strcmp(text, "local") == 0) {
        *zone = text[0] == 'U' ? DR_ZONE_UTC : DR_ZONE_LOCAL;
        return true;
    }
    const char *at = text;
    if (*at != '+' && *at != '-') {
        return false;
    }
    at++;
    unsigned minutes = 0;
    if (!dr_tuning_read_time(&at, &minutes) || *at != '\0' || minutes > ZONE_OFFSET_MAX) {
        return false;
    }
    *zone = DR_ZONE_FIXED;
    *offset = text[0] == '-' ? -(int32_t)minutes : (int32_t)minutes;
    return true;
}

static void read_timezone(struct dr_jr *jr, struct dr_tuning *t)
{
    const char *text = NULL;
    if (!dr_jr_string(jr, "timezone", false, &text)) {
        return;
    }
    if (!read_zone(text, &t->zone, &t->zone_offset_min)) {
        char shown[SHOWN_BYTES];
        jr->rc = dr_fail(jr->err, DR_INPUT,
                         "%s.timezone: expected \"UTC\", \"local\" or an offset such as "
                         "\"+02:00\" (at most 18:00), found \"%s\"",
                         jr->path, show_text(text, shown, sizeof shown));
    }
}

static void read_numbers(struct dr_jr *jr, struct dr_tuning *t)
{
    uint64_t per_node = t->per_node;
    uint64_t lanes = t->lanes;
    int64_t priority = t->priority;
    (void)dr_jr_u64(jr, "rate", false, 0, RATE_MAX, &t->rate_items_s);
    (void)dr_jr_u64(jr, "batch_items_min", false, 1, BATCH_ITEMS_MAX, &t->batch_items_min);
    (void)dr_jr_u64(jr, "batch_items_max", false, 1, BATCH_ITEMS_MAX, &t->batch_items_max);
    (void)dr_jr_u64(jr, "batch_bytes_max", false, BATCH_BYTES_MIN, BATCH_BYTES_MAX,
                    &t->batch_bytes_max);
    (void)dr_jr_u64(jr, "batch_target_ms", false, 1, BATCH_MS_MAX, &t->batch_target_ms);
    (void)dr_jr_u64(jr, "max_items", false, 0, INT64_MAX, &t->max_items);
    (void)dr_jr_real(jr, "sleep_ratio", false, 0, SLEEP_RATIO_MAX, &t->sleep_ratio);
    (void)dr_jr_u64(jr, "per_node", false, 1, PER_NODE_MAX, &per_node);
    (void)dr_jr_u64(jr, "lanes", false, 0, LANES_MAX, &lanes);
    (void)dr_jr_i64(jr, "priority", false, -PRIORITY_MAX, PRIORITY_MAX, &priority);
    t->per_node = (uint32_t)per_node;
    t->lanes = (uint32_t)lanes;
    t->priority = (int32_t)priority;
}

enum dr_code dr_tuning_parse(const json_t *j, const char *path, struct dr_tuning *t,
                             struct dr_err *err)
{
    struct dr_tuning changed = *t; /* all or nothing */
    struct dr_jr jr;
    dr_jr_init(&jr, j, path, err);
    read_numbers(&jr, &changed);
    read_quiet(&jr, &changed);
    read_timezone(&jr, &changed);
    enum dr_code rc = dr_jr_finish(&jr);
    if (rc != DR_OK) {
        return rc;
    }
    if (changed.batch_items_min > changed.batch_items_max) {
        return dr_fail(err, DR_INPUT,
                       "%s.batch_items_min: expected at most batch_items_max (%" PRIu64
                       "), found %" PRIu64,
                       path, changed.batch_items_max, changed.batch_items_min);
    }
    *t = changed;
    return DR_OK;
}

static json_t *quiet_to_json(const struct dr_tuning *t)
{
    json_t *array = json_array();
    struct dr_str text;
    dr_str_init(&text);
    for (uint32_t i = 0; array != NULL && i < t->quiet_count; i++) {
        dr_str_clear(&text);
        dr_tuning_print_quiet(&t->quiet[i], &text);
        if (text.is_short || json_array_append_new(array, json_string(dr_str_text(&text))) != 0) {
            json_decref(array);
            array = NULL;
        }
    }
    dr_str_fini(&text);
    return array;
}

static const char *print_zone(const struct dr_tuning *t, char *buf, size_t buf_bytes)
{
    const unsigned minutes = (unsigned)abs(t->zone_offset_min);
    switch (t->zone) {
    case DR_ZONE_UTC:
        return "UTC";
    case DR_ZONE_LOCAL:
        return "local";
    case DR_ZONE_FIXED:
        (void)snprintf(buf, buf_bytes, "%c%02u:%02u", t->zone_offset_min < 0 ? '-' : '+',
                       minutes / 60, minutes % 60);
        return buf;
    }
    return "UTC";
}

json_t *dr_tuning_to_json(const struct dr_tuning *t)
{
    char zone[ZONE_BYTES];
    json_t *o = json_object();
    if (o == NULL) {
        return NULL;
    }
    const struct {
        const char *key;
        uint64_t value;
    } rows[] = {
        {"rate", t->rate_items_s},
        {"batch_items_min", t->batch_items_min},
        {"batch_items_max", t->batch_items_max},
        {"batch_bytes_max", t->batch_bytes_max},
        {"batch_target_ms", t->batch_target_ms},
        {"max_items", t->max_items},
        {"per_node", t->per_node},
        {"lanes", t->lanes},
    };
    int failed = 0;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        failed |= json_object_set_new(o, rows[i].key, json_integer((json_int_t)rows[i].value));
    }
    failed |= json_object_set_new(o, "priority", json_integer(t->priority));
    failed |= json_object_set_new(o, "sleep_ratio", json_real(t->sleep_ratio));
    failed |= json_object_set_new(o, "quiet", quiet_to_json(t));
    failed |= json_object_set_new(o, "timezone", json_string(print_zone(t, zone, sizeof zone)));
    if (failed != 0) {
        json_decref(o);
        return NULL;
    }
    return o;
}
