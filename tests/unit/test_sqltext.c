/* SPDX-License-Identifier: Apache-2.0 */
/* The promises of store/sqltext.h and store/hold.h: what may stand in parentheses in a statement,
 * and the commands about whole tables. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "store/hold.h"
#include "store/sqltext.h"

static struct dr_err err;

static void assert_has(const char *text, const char *part)
{
    if (strstr(text, part) == NULL) {
        print_error("expected to find \"%s\" in \"%s\"\n", part, text);
        fail();
    }
}

static void accept(const char *text)
{
    if (dr_sql_check_expression("job.where", text, &err) != DR_OK) {
        print_error("refused: %s\n%s\n", text, err.msg);
        fail();
    }
}

static void refuse(const char *text, const char *why)
{
    dr_err_clear(&err);
    if (dr_sql_check_expression("job.where", text, &err) != DR_INPUT) {
        print_error("accepted: %s\n", text);
        fail();
    }
    assert_has(err.msg, "job.where: ");
    assert_has(err.msg, why);
}

static void plain_expressions_pass(void **state)
{
    (void)state;
    accept("expires < 1700000000");
    accept("a = 1 AND (b IN (1, 2, 3) OR c IS NULL)");
    accept("name LIKE 'it''s;--(' AND \"odd \"\"name\" <> 'x'");
    accept("created < now() - interval '30 days'");
    accept("data->>'kind' = 'tmp' AND x::date < '2020-01-01'::date");
    accept("tags[1] = 'old' AND tags[i] <> '['");
    accept("id IN (SELECT user_id FROM gone)");
    accept("a\n= 1");
    accept("a - b > 3 AND a / b < 2 AND a * -1 < 0");
}

static void whatever_could_leave_the_parentheses_is_refused(void **state)
{
    (void)state;
    refuse("1=1; DROP TABLE t", "a semicolon at byte 4");
    refuse("a = 1) OR (1 = 1", "a closing parenthesis too many at byte 6");
    refuse(")", "a closing parenthesis too many at byte 1");
    refuse("(a = 1", "1 parentheses are not closed");
    refuse("a = 1 -- the rest", "a comment");
    refuse("a = 1 # the rest", "a comment");
    refuse("a /* b */ = 1", "a comment");
    refuse("a /*! OR 1=1 */ = 1", "a comment");
    refuse("a = 'b", "a quote that is not closed at byte 5");
    refuse("a = \"b", "a quote that is not closed");
    refuse("a = 'b\\' OR 1=1 --'", "a backslash inside quotes");
    refuse("a = \\'b", "a backslash at byte 5");
    refuse("a = $$b$$", "a dollar sign");
    refuse("a = $1", "a dollar sign");
    refuse("a = ?", "a parameter sign");
    refuse("@x := 1", "an assignment");
    refuse("", "empty");
    refuse(" \n\t", "empty");
}

/* To PostgreSQL a backtick is an operator, and to SQLite brackets are quotes. */
static void quotes_that_only_some_know_are_refused(void **state)
{
    (void)state;
    refuse("a ` ) OR (1=1 ` b", "a backtick");
    refuse("`a` = 1", "double quotes");
    refuse("[a(] = 1) OR (1 = 1", "brackets");
    refuse("[a'] = 1 ) OR (1 = [b']", "brackets");
    refuse("[a\"] = 1 ) OR (1 = [b\"]", "brackets");
    refuse("[a;b] = 1", "brackets");
    refuse("[a--b] = 1", "brackets");
    refuse("[a = 1", "a bracket that is not closed");
}

static void length_has_a_limit(void **state)
{
    (void)state;
    char *text = dr_malloc(DR_SQL_EXPRESSION_BYTES_MAX + 2);
    assert_non_null(text);
    memset(text, '1', DR_SQL_EXPRESSION_BYTES_MAX + 1);
    text[DR_SQL_EXPRESSION_BYTES_MAX + 1] = '\0';
    refuse(text, "longer than");
    text[DR_SQL_EXPRESSION_BYTES_MAX] = '\0';
    accept(text);
    dr_free(text);
}

/* A model of all readings at once: whatever bytes come, an accepted text never lets a parenthesis
 * close outside of quotes, whichever of the quotes the reader knows. */
static bool stays_inside(const char *text, const char *quotes)
{
    long depth = 0;
    for (const char *at = text; *at != '\0'; at++) {
        if ((*at != ']' && strchr(quotes, *at) != NULL) ||
            (*at == '[' && strchr(quotes, ']') != NULL)) {
            const char close = *at == '[' ? ']' : *at;
            at = strchr(at + 1, close);
            if (at == NULL) {
                return false;
            }
            continue;
        }
        depth += *at == '(';
        depth -= *at == ')';
        if (depth < 0 || *at == ';') {
            return false;
        }
    }
    return depth == 0;
}

static void random_texts_that_pass_are_safe_in_every_dialect(void **state)
{
    (void)state;
    static const char bytes[] = "a1 ()'\"`[];-#?$\\/*=\n";
    uint64_t seed = 20261121;
    unsigned accepted = 0;
    for (int i = 0; i < 400000; i++) {
        char text[16] = {0};
        seed = seed * 6364136223846793005U + 1442695040888963407U;
        size_t length = 1 + (size_t)(seed >> 60) % 12;
        for (size_t k = 0; k < length; k++) {
            seed = seed * 6364136223846793005U + 1442695040888963407U;
            text[k] = bytes[(seed >> 33) % (sizeof bytes - 1)];
        }
        if (dr_sql_check_expression("w", text, &err) == DR_OK) {
            accepted++;
            if (!stays_inside(text, "'\"") || !stays_inside(text, "'\"`") ||
                !stays_inside(text, "'\"`]")) {
                print_error("unsafe: %s\n", text);
                fail();
            }
        }
    }
    assert_true(accepted > 1000);
}

/* --- commands about whole tables --- */

static struct dr_whole_command read_back(struct dr_arena *a, const struct dr_whole_command *c,
                                         const char *text)
{
    struct dr_str out;
    struct dr_whole_command back;
    dr_str_init(&out);
    dr_whole_print(c, &out);
    assert_string_equal(dr_str_text(&out), text);
    assert_int_equal(dr_whole_parse(dr_str_text(&out), a, &back, &err), DR_OK);
    assert_int_equal(back.what, c->what);
    dr_str_fini(&out);
    return back;
}

static void commands_read_back_as_written(void **state)
{
    (void)state;
    struct dr_arena *a = dr_arena_create(1024);
    assert_non_null(a);
    const struct dr_whole_command rename = {
        .what = DR_WHOLE_RENAME, .schema = "s\"x", .name = "t a", .to = "t a_drover_hold"};
    struct dr_whole_command back =
        read_back(a, &rename, "ALTER TABLE \"s\"\"x\".\"t a\" RENAME TO \"t a_drover_hold\"");
    assert_string_equal(back.schema, "s\"x");
    assert_string_equal(back.name, "t a");
    assert_string_equal(back.to, "t a_drover_hold");
    const struct dr_whole_command drop = {
        .what = DR_WHOLE_DROP, .schema = "main", .name = "t_drover_hold"};
    back = read_back(a, &drop, "DROP HELD TABLE \"main\".\"t_drover_hold\"");
    assert_string_equal(back.name, "t_drover_hold");
    const struct dr_whole_command truncate = {
        .what = DR_WHOLE_TRUNCATE, .schema = "main", .name = "t"};
    back = read_back(a, &truncate, "TRUNCATE TABLE \"main\".\"t\"");
    assert_string_equal(back.name, "t");
    const struct dr_whole_command hold = {.what = DR_WHOLE_HOLD, .until = 1700000000123};
    back = read_back(a, &hold, "HOLD UNTIL 1700000000123");
    assert_int_equal(back.until, 1700000000123);
    dr_arena_destroy(a);
}

static void only_held_tables_are_dropped_with_rows(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "DROP HELD TABLE \"main\".\"users\"",
        "DROP HELD TABLE \"main\".\"_drover_hold\"",
        "DROP HELD TABLE \"main\".\"a_drover_hold\", \"b\"",
        "ALTER TABLE \"main\".\"a\" RENAME TO \"b\"",
        "ALTER TABLE \"main\".\"a_drover_hold\" RENAME TO \"b_drover_hold\"",
        "ALTER TABLE \"main\".\"a\" ADD b INT",
        "TRUNCATE TABLE users",
        "TRUNCATE TABLE \"main\".\"users\"; DROP TABLE x",
        "TRUNCATE TABLE \"main\".\"\"",
        "HOLD UNTIL tomorrow",
        "HOLD UNTIL -1",
        "HOLD UNTIL ",
    };
    struct dr_whole_command c;
    struct dr_arena *a = dr_arena_create(1024);
    assert_non_null(a);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        if (dr_whole_parse(bad[i], a, &c, &err) != DR_INPUT) {
            print_error("accepted: %s\n", bad[i]);
            fail();
        }
    }
    assert_int_equal(dr_whole_parse("DROP TABLE \"t\"", a, &c, &err), DR_OK);
    assert_int_equal(c.what, DR_WHOLE_NONE);
    dr_arena_destroy(a);
}

static void a_hold_brakes_until_its_date(void **state)
{
    (void)state;
    bool is_hold = false;
    const struct dr_whole_command c = {.what = DR_WHOLE_HOLD, .until = 1700000000000};
    dr_err_clear(&err);
    assert_int_equal(dr_store_hold_at(&c, 1699999999999, &err), DR_BRAKED);
    assert_has(err.msg, "held until 2023-11-14T22:13:20");
    assert_has(err.msg, "drover rollback");
    assert_int_equal(dr_store_hold_at(&c, 1700000000000, &err), DR_OK);
    assert_int_equal(dr_store_hold("HOLD UNTIL 1", &is_hold, &err), DR_OK);
    assert_true(is_hold);
    assert_int_equal(dr_store_hold("HOLD UNTIL 99999999999999", &is_hold, &err), DR_BRAKED);
    assert_true(is_hold);
    assert_int_equal(dr_store_hold("DROP TABLE t", &is_hold, &err), DR_OK);
    assert_false(is_hold);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plain_expressions_pass),
        cmocka_unit_test(whatever_could_leave_the_parentheses_is_refused),
        cmocka_unit_test(quotes_that_only_some_know_are_refused),
        cmocka_unit_test(length_has_a_limit),
        cmocka_unit_test(random_texts_that_pass_are_safe_in_every_dialect),
        cmocka_unit_test(commands_read_back_as_written),
        cmocka_unit_test(only_held_tables_are_dropped_with_rows),
        cmocka_unit_test(a_hold_brakes_until_its_date),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
