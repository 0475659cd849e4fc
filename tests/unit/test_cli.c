/* SPDX-License-Identifier: Apache-2.0 */
/* The promises of the command line that need no database: grammar, table, help, exit codes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/str.h"
#include "cli/exits.h"
#include "cli/help.h"
#include "cli/options.h"
#include "cli/table.h"

static const struct dr_option global_options[] = {
    {"data", "DIR", "folder", DR_OPT_TEXT, false},
    {"json", NULL, "JSON", DR_OPT_FLAG, false},
    {"help", NULL, "help", DR_OPT_FLAG, false},
    {0},
};
static const struct dr_option tune_options[] = {
    {"rate", "N", "speed", DR_OPT_U64, false},
    {"priority", "N", "order", DR_OPT_I64, false},
    {"ratio", "R", "rest", DR_OPT_REAL, false},
    {"older-than", "AGE", "age", DR_OPT_DURATION, false},
    {"window", "W", "when not", DR_OPT_TEXT, true},
    {0},
};

static const struct dr_option *options_of(void *arg, const char *const *word, uint32_t word_count)
{
    (void)arg;
    return word_count > 0 && strcmp(word[0], "tune") == 0 ? tune_options : NULL;
}

/* Parse a NULL-terminated list of arguments. */
static enum dr_code parse(const char *const *argv, struct dr_args *a, struct dr_err *err)
{
    int argc = 0;
    while (argv[argc] != NULL) {
        argc++;
    }
    dr_err_clear(err);
    return dr_args_parse(argc, argv, global_options, options_of, NULL, a, err);
}
#define PARSE(a, err, ...) parse((const char *const[]){"drover", __VA_ARGS__, NULL}, a, err)

static void assert_has(const char *text, const char *part)
{
    if (strstr(text, part) == NULL) {
        print_error("expected to find \"%s\" in \"%s\"\n", part, text);
        fail();
    }
}

static void options_stand_anywhere_in_both_forms(void **state)
{
    struct dr_args a;
    struct dr_err err = {0};
    (void)state;
    assert_int_equal(
        PARSE(&a, &err, "--data", "/d", "tune", "--rate=5", "7", "--json", "--priority", "-3"),
        DR_OK);
    assert_int_equal(a.word_count, 2);
    assert_string_equal(a.word[0], "tune");
    assert_string_equal(a.word[1], "7");
    assert_string_equal(dr_args_text(&a, "data", ""), "/d");
    assert_int_equal(dr_args_u64(&a, "rate", 99), 5);
    assert_string_equal(dr_args_text(&a, "priority", ""), "-3");
    assert_true(dr_args_has(&a, "json"));
    assert_false(dr_args_has(&a, "help"));
    assert_int_equal(dr_args_u64(&a, "older-than", 99), 99);
}

static void double_dash_ends_the_options_and_dash_is_a_word(void **state)
{
    struct dr_args a;
    struct dr_err err = {0};
    (void)state;
    assert_int_equal(PARSE(&a, &err, "run", "-", "--", "--json", "-x"), DR_OK);
    assert_int_equal(a.word_count, 4);
    assert_string_equal(a.word[1], "-");
    assert_string_equal(a.word[2], "--json");
    assert_string_equal(a.word[3], "-x");
    assert_false(dr_args_has(&a, "json"));
}

static void dash_h_is_help_and_other_short_ones_are_refused(void **state)
{
    struct dr_args a;
    struct dr_err err = {0};
    (void)state;
    assert_int_equal(PARSE(&a, &err, "tune", "-h"), DR_OK);
    assert_true(dr_args_has(&a, "help"));
    assert_int_equal(PARSE(&a, &err, "tune", "-y"), DR_USAGE);
    assert_has(err.msg, "-y");
}

static void repeated_values_are_kept_in_order_only_where_allowed(void **state)
{
    struct dr_args a;
    struct dr_err err = {0};
    (void)state;
    assert_int_equal(PARSE(&a, &err, "tune", "--window", "one", "--window=two"), DR_OK);
    assert_string_equal(dr_args_nth(&a, "window", 0), "one");
    assert_string_equal(dr_args_nth(&a, "window", 1), "two");
    assert_null(dr_args_nth(&a, "window", 2));
    assert_int_equal(PARSE(&a, &err, "tune", "--rate", "1", "--rate", "2"), DR_USAGE);
    assert_has(err.msg, "--rate");
    assert_has(err.msg, "twice");
    assert_int_equal(PARSE(&a, &err, "tune", "--json", "--json"), DR_OK);
}

static void unknown_options_name_the_nearest_known_one(void **state)
{
    struct dr_args a;
    struct dr_err err = {0};
    (void)state;
    assert_int_equal(PARSE(&a, &err, "status", "--jsno"), DR_USAGE);
    assert_has(err.msg, "--jsno");
    assert_has(err.msg, "--json");
    assert_int_equal(PARSE(&a, &err, "tune", "--ratee=4"), DR_USAGE);
    assert_has(err.msg, "did you mean --rate");
    assert_int_equal(PARSE(&a, &err, "tune", "--zzzzzzzz"), DR_USAGE);
    assert_null(strstr(err.msg, "did you mean"));
    /* An option of one command is unknown to another. */
    assert_int_equal(PARSE(&a, &err, "status", "--priority", "1"), DR_USAGE);
}

static void values_are_checked_against_their_type(void **state)
{
    struct dr_args a;
    struct dr_err err = {0};
    static const char *const bad[] = {
        "--rate=",        "--rate=x",    "--rate=-1",        "--rate=1x", "--priority=high",
        "--ratio=-0.5",   "--ratio=nan", "--ratio=inf",      "--ratio=",  "--ratio=1e999",
        "--older-than=x", "--rate=1.5",  "--older-than=30y", "--json=1",
    };
    static const char *const good[] = {"--rate=0", "--priority=-100", "--ratio=0.25",
                                       "--older-than=30d", "--window="};
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        if (PARSE(&a, &err, "tune", bad[i]) != DR_USAGE) {
            print_error("%s was taken\n", bad[i]);
            fail();
        }
        assert_memory_equal(err.msg, "--", 2);
    }
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        assert_int_equal(PARSE(&a, &err, "tune", good[i]), DR_OK);
    }
}

static void a_forgotten_value_is_not_the_next_option(void **state)
{
    struct dr_args a;
    struct dr_err err = {0};
    (void)state;
    assert_int_equal(PARSE(&a, &err, "--data", "--json", "status"), DR_USAGE);
    assert_has(err.msg, "--data DIR");
    assert_int_equal(PARSE(&a, &err, "tune", "--rate"), DR_USAGE);
    assert_has(err.msg, "--rate N");
}

static void too_many_words_or_options_are_refused(void **state)
{
    struct dr_args a;
    struct dr_err err = {0};
    const char *argv[DR_ARGS_OPTIONS_MAX + 8];
    (void)state;
    for (int i = 0; i < DR_ARGS_WORDS_MAX + 2; i++) {
        argv[i] = "word";
    }
    assert_int_equal(
        dr_args_parse(DR_ARGS_WORDS_MAX + 1, argv, global_options, options_of, NULL, &a, &err),
        DR_OK);
    assert_int_equal(
        dr_args_parse(DR_ARGS_WORDS_MAX + 2, argv, global_options, options_of, NULL, &a, &err),
        DR_USAGE);
    argv[1] = "tune";
    for (int i = 2; i < DR_ARGS_OPTIONS_MAX + 3; i++) {
        argv[i] = "--window=x";
    }
    assert_int_equal(
        dr_args_parse(DR_ARGS_OPTIONS_MAX + 2, argv, global_options, options_of, NULL, &a, &err),
        DR_OK);
    assert_int_equal(
        dr_args_parse(DR_ARGS_OPTIONS_MAX + 3, argv, global_options, options_of, NULL, &a, &err),
        DR_USAGE);
}

static void suggestions_count_swaps_as_one_and_stay_near(void **state)
{
    (void)state;
    assert_int_equal(dr_suggest_distance("status", "status"), 0);
    assert_int_equal(dr_suggest_distance("statsu", "status"), 1);
    assert_int_equal(dr_suggest_distance("stats", "status"), 1);
    assert_int_equal(dr_suggest_distance("", "abc"), 3);
    assert_int_equal(dr_suggest_distance("kitten", "sitting"), 3);
    char longer[101];
    memset(longer, 'a', 100);
    longer[100] = '\0';
    assert_true(dr_suggest_distance(longer, "a") == UINT32_MAX);
    assert_true(dr_suggest_score("statsu", "status") < UINT32_MAX);
    assert_true(dr_suggest_score("quar", "quarantine") < UINT32_MAX);
    assert_true(dr_suggest_score("xy", "run") == UINT32_MAX);
    assert_true(dr_suggest_score("archive", "purge") == UINT32_MAX);
}

static void assert_options_are_sane(const struct dr_option *options, const char *of)
{
    for (const struct dr_option *o = options; o->name != NULL; o++) {
        bool is_whole =
            o->help != NULL && o->help[0] != '\0' && (o->type == DR_OPT_FLAG) == (o->value == NULL);
        if (!is_whole) {
            print_error("%s: --%s has no help, or flag and value disagree\n", of, o->name);
            fail();
        }
        for (const struct dr_option *other = o + 1; other->name != NULL; other++) {
            assert_string_not_equal(o->name, other->name);
        }
        for (const struct dr_option *g = dr_global_options(); g->name != NULL; g++) {
            if (options != dr_global_options() && strcmp(o->name, g->name) == 0) {
                print_error("%s: --%s is an option of all commands\n", of, o->name);
                fail();
            }
        }
    }
}

static void every_command_is_whole_and_no_name_is_used_twice(void **state)
{
    uint32_t count;
    const struct dr_command *c = dr_command_table(&count);
    (void)state;
    assert_true(count >= 25);
    assert_options_are_sane(dr_global_options(), "all");
    for (uint32_t i = 0; i < count; i++) {
        assert_non_null(c[i].action);
        assert_non_null(c[i].args);
        assert_true(strlen(c[i].summary) > 10 && strlen(c[i].summary) < 80);
        assert_true(c[i].summary[strlen(c[i].summary) - 1] != '.');
        assert_true(strlen(c[i].help) > 10);
        assert_true(c[i].words_min <= c[i].words_max);
        assert_true(c[i].words_max > 0 || c[i].args[0] == '\0');
        assert_options_are_sane(c[i].options, c[i].name);
        for (uint32_t j = i + 1; j < count; j++) {
            assert_string_not_equal(c[i].name, c[j].name);
        }
    }
}

static void every_command_is_found_by_its_own_name(void **state)
{
    uint32_t count;
    const struct dr_command *c = dr_command_table(&count);
    (void)state;
    for (uint32_t i = 0; i < count; i++) {
        char name[64];
        const char *word[3] = {name, "7", "8"};
        uint32_t used = 0;
        dr_copy_text(name, sizeof name, c[i].name);
        char *blank = strchr(name, ' ');
        if (blank != NULL) {
            *blank = '\0';
            word[1] = blank + 1;
            assert_null(dr_command_find(word, 1, &used));
        }
        assert_ptr_equal(dr_command_find(word, 3, &used), &c[i]);
        assert_int_equal(used, blank != NULL ? 2 : 1);
    }
}

static void unknown_commands_name_the_nearest_or_the_second_words(void **state)
{
    struct dr_err err = {0};
    (void)state;
    assert_int_equal(dr_command_unknown((const char *const[]){"statsu"}, 1, &err), DR_USAGE);
    assert_has(err.msg, "\"status\"");
    assert_int_equal(dr_command_unknown((const char *const[]){"tenat", "drop"}, 2, &err), DR_USAGE);
    assert_has(err.msg, "tenant drop");
    assert_int_equal(dr_command_unknown((const char *const[]){"archive", "lst"}, 2, &err),
                     DR_USAGE);
    assert_has(err.msg, "verify");
    assert_has(err.msg, "expire");
    assert_int_equal(dr_command_unknown((const char *const[]){"zzzzzzzz"}, 1, &err), DR_USAGE);
    assert_null(strstr(err.msg, "did you mean"));
    assert_int_equal(dr_command_unknown(NULL, 0, &err), DR_USAGE);
}

/* The name as it stands in roff, where every dash is escaped. */
static const char *in_roff(const char *name)
{
    static char buf[128];
    size_t used = 0;
    for (; *name != '\0' && used + 3 < sizeof buf; name++) {
        if (*name == '-') {
            buf[used++] = '\\';
        }
        buf[used++] = *name;
    }
    buf[used] = '\0';
    return buf;
}

static void the_manual_has_every_command_option_and_exit_code(void **state)
{
    struct dr_str out;
    uint32_t count;
    const struct dr_command *c = dr_command_table(&count);
    (void)state;
    dr_str_init(&out);
    dr_help_manual(&out);
    assert_false(out.is_short);
    for (uint32_t i = 0; i < count; i++) {
        char heading[128];
        (void)snprintf(heading, sizeof heading, ".SS \"%s", in_roff(c[i].name));
        assert_has(dr_str_text(&out), heading);
        for (const struct dr_option *o = c[i].options; o->name != NULL; o++) {
            (void)snprintf(heading, sizeof heading, "\\fB\\-\\-%s\\fR", in_roff(o->name));
            assert_has(dr_str_text(&out), heading);
        }
    }
#define X(name, number, text) assert_has(dr_str_text(&out), ".TP\n\\fB" #number "\\fR\n" text "\n");
    DR_EXIT_MAP(X)
#undef X
    assert_has(dr_str_text(&out), "DROVER_DATA");
    assert_has(dr_str_text(&out), "queue.db");
    dr_str_fini(&out);
}

static void no_line_of_the_manual_is_an_unknown_roff_request(void **state)
{
    struct dr_str out;
    static const char *const known[] = {".TH ", ".SH ", ".SS ", ".TP", ".B "};
    (void)state;
    dr_str_init(&out);
    dr_help_manual(&out);
    for (const char *line = dr_str_text(&out); line != NULL && *line != '\0';) {
        bool is_known = line[0] != '.' && line[0] != '\'';
        for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
            is_known = is_known || strncmp(line, known[i], strlen(known[i])) == 0;
        }
        if (!is_known) {
            print_error("%.60s\n", line);
            fail();
        }
        line = strchr(line, '\n');
        line = line != NULL ? line + 1 : NULL;
    }
    dr_str_fini(&out);
}

static void completions_have_every_command_and_option(void **state)
{
    static const char *const shells[] = {"bash", "zsh", "fish"};
    uint32_t count;
    const struct dr_command *c = dr_command_table(&count);
    (void)state;
    for (size_t s = 0; s < 3; s++) {
        struct dr_str out;
        struct dr_err err = {0};
        dr_str_init(&out);
        assert_int_equal(dr_help_completion(shells[s], &out, &err), DR_OK);
        for (uint32_t i = 0; i < count; i++) {
            char word[64];
            (void)snprintf(word, sizeof word, "%.*s", (int)strcspn(c[i].name, " "), c[i].name);
            assert_has(dr_str_text(&out), word);
            const char *second = strchr(c[i].name, ' ');
            assert_has(dr_str_text(&out), second != NULL ? second + 1 : word);
            for (const struct dr_option *o = c[i].options; o->name != NULL; o++) {
                (void)snprintf(word, sizeof word, s == 2 ? " -l %s " : " --%s", o->name);
                assert_has(dr_str_text(&out), word);
            }
        }
        dr_str_fini(&out);
    }
}

static void an_unknown_shell_is_refused(void **state)
{
    struct dr_str out;
    struct dr_err err = {0};
    (void)state;
    dr_str_init(&out);
    assert_int_equal(dr_help_completion("tcsh", &out, &err), DR_USAGE);
    assert_has(err.msg, "tcsh");
    assert_int_equal(out.len, 0);
    dr_str_fini(&out);
}

static void the_help_of_a_command_has_usage_and_options(void **state)
{
    struct dr_str out;
    uint32_t used;
    (void)state;
    dr_str_init(&out);
    dr_help_command(dr_command_find((const char *const[]){"tune"}, 1, &used), &out);
    assert_has(dr_str_text(&out), "usage: drover tune OP [OPTIONS]\n");
    assert_has(dr_str_text(&out), "--quiet-hours WINDOW");
    assert_has(dr_str_text(&out), "--data DIR");
    dr_str_clear(&out);
    dr_help_overview(&out);
    uint32_t count;
    const struct dr_command *c = dr_command_table(&count);
    for (uint32_t i = 0; i < count; i++) {
        assert_has(dr_str_text(&out), c[i].summary);
    }
    for (const char *line = dr_str_text(&out); line != NULL;) {
        assert_true(strcspn(line, "\n") <= 100);
        line = strchr(line, '\n');
        line = line != NULL ? line + 1 : NULL;
    }
    dr_str_fini(&out);
}

static void result_codes_map_to_the_documented_exit_codes(void **state)
{
    static const struct {
        enum dr_code code;
        enum dr_place place;
        int exit;
    } table[] = {
        {DR_OK, DR_AT_NOTHING, 0},        {DR_USAGE, DR_AT_NOTHING, 2},
        {DR_REFUSED, DR_AT_NOTHING, 3},   {DR_REFUSED, DR_AT_DATA, 3},
        {DR_CONFLICT, DR_AT_DATA, 3},     {DR_INPUT, DR_AT_NOTHING, 4},
        {DR_UNSUPPORTED, DR_AT_STORE, 4}, {DR_UNSUPPORTED, DR_AT_DATA, 7},
        {DR_EXISTS, DR_AT_DATA, 4},       {DR_UNREACHABLE, DR_AT_STORE, 5},
        {DR_DENIED, DR_AT_STORE, 5},      {DR_BUSY, DR_AT_STORE, 5},
        {DR_BUSY, DR_AT_DATA, 6},         {DR_CORRUPT, DR_AT_DATA, 7},
        {DR_CORRUPT, DR_AT_STORE, 7},     {DR_CORRUPT, DR_AT_ARCHIVE, 7},
        {DR_NOT_FOUND, DR_AT_ARCHIVE, 7}, {DR_NOT_FOUND, DR_AT_DATA, 11},
        {DR_NOT_FOUND, DR_AT_STORE, 11},  {DR_FULL, DR_AT_DATA, 12},
        {DR_FULL, DR_AT_STORE, 12},       {DR_READONLY, DR_AT_DATA, 12},
        {DR_DENIED, DR_AT_DATA, 12},      {DR_UNREACHABLE, DR_AT_DATA, 12},
        {DR_IO, DR_AT_DATA, 12},          {DR_IO, DR_AT_STORE, 1},
        {DR_NOMEM, DR_AT_DATA, 1},        {DR_INTERNAL, DR_AT_NOTHING, 1},
        {DR_STOPPED, DR_AT_DATA, 130},    {DR_UNKNOWN, DR_AT_STORE, 1},
    };
    (void)state;
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        if ((int)dr_exit_of(table[i].code, table[i].place) != table[i].exit) {
            print_error("%s at %d\n", dr_code_name(table[i].code), (int)table[i].place);
            fail();
        }
    }
    for (int code = DR_OK + 1; code < DR_CODE_COUNT; code++) {
        for (int place = DR_AT_NOTHING; place <= DR_AT_ARCHIVE; place++) {
            assert_int_not_equal(dr_exit_of((enum dr_code)code, (enum dr_place)place), 0);
        }
    }
}

static void endings_map_to_the_documented_exit_codes(void **state)
{
    (void)state;
    assert_int_equal(dr_exit_of_status(DR_O_DONE, false), 0);
    assert_int_equal(dr_exit_of_status(DR_O_STOPPED, false), 8);
    assert_int_equal(dr_exit_of_status(DR_O_PAUSED, false), 8);
    assert_int_equal(dr_exit_of_status(DR_O_BLOCKED, false), 9);
    assert_int_equal(dr_exit_of_status(DR_O_ROLLBACK_BLOCKED, true), 9);
    assert_int_equal(dr_exit_of_status(DR_O_ROLLED_BACK, false), 10);
    assert_int_equal(dr_exit_of_status(DR_O_ROLLED_BACK, true), 0);
    assert_int_equal(dr_exit_of_status(DR_O_RUNNING, false), 1);
    assert_int_not_equal(dr_exit_of_status(DR_O_DONE, true), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(options_stand_anywhere_in_both_forms),
        cmocka_unit_test(double_dash_ends_the_options_and_dash_is_a_word),
        cmocka_unit_test(dash_h_is_help_and_other_short_ones_are_refused),
        cmocka_unit_test(repeated_values_are_kept_in_order_only_where_allowed),
        cmocka_unit_test(unknown_options_name_the_nearest_known_one),
        cmocka_unit_test(values_are_checked_against_their_type),
        cmocka_unit_test(a_forgotten_value_is_not_the_next_option),
        cmocka_unit_test(too_many_words_or_options_are_refused),
        cmocka_unit_test(suggestions_count_swaps_as_one_and_stay_near),
        cmocka_unit_test(every_command_is_whole_and_no_name_is_used_twice),
        cmocka_unit_test(every_command_is_found_by_its_own_name),
        cmocka_unit_test(unknown_commands_name_the_nearest_or_the_second_words),
        cmocka_unit_test(the_manual_has_every_command_option_and_exit_code),
        cmocka_unit_test(no_line_of_the_manual_is_an_unknown_roff_request),
        cmocka_unit_test(completions_have_every_command_and_option),
        cmocka_unit_test(an_unknown_shell_is_refused),
        cmocka_unit_test(the_help_of_a_command_has_usage_and_options),
        cmocka_unit_test(result_codes_map_to_the_documented_exit_codes),
        cmocka_unit_test(endings_map_to_the_documented_exit_codes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
