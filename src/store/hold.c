/* SPDX-License-Identifier: Apache-2.0 */
/* Reading and writing of the commands of hold.h. They are made by us alone, so their form is taken
 * strictly: one blank between words, names in double quotes, nothing behind. Pure but for the clock
 * of dr_store_hold. */
#include "store/hold.h"

#include <inttypes.h>
#include <string.h>

enum { DATE_BYTES = 40, HOLD_BLOCK_BYTES = 512 };

static const char truncate_words[] = "TRUNCATE TABLE ";
static const char rename_words[] = "ALTER TABLE ";
static const char rename_to_words[] = " RENAME TO ";
static const char hold_words[] = "HOLD UNTIL ";
static const char drop_words[] = "DROP HELD TABLE ";

static bool skip_words(const char **at, const char *words)
{
    size_t bytes = strlen(words);
    if (strncmp(*at, words, bytes) != 0) {
        return false;
    }
    *at += bytes;
    return true;
}

/* A name in double quotes; NULL when it is none or memory is short. */
static const char *read_name(const char **at, struct dr_arena *a)
{
    const char *from = *at;
    char *name = *from == '"' ? dr_arena_alloc(a, strlen(from) + 1) : NULL;
    size_t length = 0;
    if (name == NULL) {
        return NULL;
    }
    for (from++; *from != '\0'; from++) {
        if (*from == '"' && from[1] != '"') {
            break;
        }
        from += *from == '"';
        name[length++] = *from;
    }
    name[length] = '\0';
    if (*from != '"' || length == 0) {
        return NULL;
    }
    *at = from + 1;
    return name;
}

/* "schema"."name" */
static bool read_table(const char **at, struct dr_arena *a, struct dr_whole_command *c)
{
    c->schema = read_name(at, a);
    if (c->schema == NULL || !skip_words(at, ".")) {
        return false;
    }
    c->name = read_name(at, a);
    return c->name != NULL;
}

static bool is_held_name(const char *name)
{
    size_t bytes = strlen(name);
    size_t suffix = strlen(DR_HOLD_SUFFIX);
    return bytes > suffix && strcmp(name + bytes - suffix, DR_HOLD_SUFFIX) == 0;
}

static bool read_until(const char *at, dr_wall_ms *out)
{
    int64_t until = 0;
    bool is_good = dr_parse_i64(at, &until) && until >= 0;
    *out = until;
    return is_good;
}

static enum dr_code refuse(const char *text, const char *why, struct dr_err *err)
{
    return dr_fail(err, DR_INPUT, "command \"%.120s\": %s", text, why);
}

enum dr_code dr_whole_parse(const char *text, struct dr_arena *a, struct dr_whole_command *out,
                            struct dr_err *err)
{
    const char *at = text;
    bool is_good = true;
    *out = (struct dr_whole_command){.what = DR_WHOLE_NONE};
    if (skip_words(&at, hold_words)) {
        out->what = DR_WHOLE_HOLD;
        return read_until(at, &out->until)
                   ? DR_OK
                   : refuse(text, "a date in milliseconds since 1970 is missing", err);
    }
    if (skip_words(&at, truncate_words)) {
        out->what = DR_WHOLE_TRUNCATE;
        is_good = read_table(&at, a, out);
    } else if (skip_words(&at, drop_words)) {
        out->what = DR_WHOLE_DROP;
        is_good = read_table(&at, a, out);
        if (is_good && !is_held_name(out->name)) {
            return refuse(text, "no held table: its name does not end in " DR_HOLD_SUFFIX, err);
        }
    } else if (skip_words(&at, rename_words)) {
        out->what = DR_WHOLE_RENAME;
        is_good = read_table(&at, a, out) && skip_words(&at, rename_to_words);
        out->to = is_good ? read_name(&at, a) : NULL;
        is_good = out->to != NULL;
        if (is_good && is_held_name(out->to) == is_held_name(out->name)) {
            return refuse(text, "it neither holds a table nor gives one back", err);
        }
    }
    return is_good && (out->what == DR_WHOLE_NONE || *at == '\0')
               ? DR_OK
               : refuse(text, "it is not of the form drover writes", err);
}

static void add_name(struct dr_str *out, const char *name)
{
    dr_str_addc(out, '"');
    for (const char *at = name; *at != '\0'; at++) {
        dr_str_add(out, *at == '"' ? "\"" : "");
        dr_str_addc(out, *at);
    }
    dr_str_addc(out, '"');
}

static void add_table(struct dr_str *out, const struct dr_whole_command *c)
{
    add_name(out, c->schema);
    dr_str_addc(out, '.');
    add_name(out, c->name);
}

void dr_whole_print(const struct dr_whole_command *c, struct dr_str *out)
{
    switch (c->what) {
    case DR_WHOLE_NONE:
        return;
    case DR_WHOLE_TRUNCATE:
        dr_str_add(out, truncate_words);
        add_table(out, c);
        return;
    case DR_WHOLE_RENAME:
        dr_str_add(out, rename_words);
        add_table(out, c);
        dr_str_add(out, rename_to_words);
        add_name(out, c->to);
        return;
    case DR_WHOLE_HOLD:
        dr_str_addf(out, "%s%" PRId64, hold_words, c->until);
        return;
    case DR_WHOLE_DROP:
        dr_str_add(out, drop_words);
        add_table(out, c);
        return;
    }
}

enum dr_code dr_store_hold_at(const struct dr_whole_command *c, dr_wall_ms now, struct dr_err *err)
{
    char date[DATE_BYTES];
    return c->what != DR_WHOLE_HOLD || now >= c->until
               ? DR_OK
               : dr_fail(err, DR_BRAKED, "held until %s; drover rollback OP puts the table back",
                         dr_wall_text(c->until, date, sizeof date));
}

enum dr_code dr_store_hold(const char *text, bool *is_hold_out, struct dr_err *err)
{
    struct dr_whole_command c;
    *is_hold_out = strncmp(text, hold_words, strlen(hold_words)) == 0;
    if (!*is_hold_out) {
        return DR_OK;
    }
    struct dr_arena *a = dr_arena_create(HOLD_BLOCK_BYTES);
    enum dr_code rc = a == NULL ? dr_fail_nomem(err) : dr_whole_parse(text, a, &c, err);
    rc = rc == DR_OK ? dr_store_hold_at(&c, dr_wall_now(), err) : rc;
    dr_arena_destroy(a);
    return rc;
}
