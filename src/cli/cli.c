/* SPDX-License-Identifier: Apache-2.0 */
/* Owns the way from argv to a verb and from its result to the exit code. */
#include "cli/cli.h"

#include <stdio.h>
#include <string.h>

#include "cli/cli_private.h"
#include "cli/help.h"

static const struct dr_option *options_of_words(void *arg, const char *const *word,
                                                uint32_t word_count)
{
    uint32_t used = 0;
    (void)arg;
    const struct dr_command *command = dr_command_find(word, word_count, &used);
    return command != NULL ? command->options : NULL;
}

/* What else may be left out of a build, by the names of its options. */
static const char built_parts[] = ""
#ifdef DROVER_API
                                  " api"
#endif
#ifdef DROVER_RAFT
                                  " raft"
#endif
#ifdef DROVER_GRPC
                                  " grpc"
#endif
#ifdef DROVER_TOKENSERVER
                                  " tokenserver"
#endif
    ;

enum dr_code dr_cli_version(struct dr_cli *c, int *exit_out, struct dr_err *err)
{
    (void)exit_out;
    if (c->is_json) {
        return dr_cli_put_json(json_pack("{s:s, s:s, s:s}", "version", DROVER_VERSION, "stores",
                                         dr_store_schemes(), "parts",
                                         built_parts[0] == '\0' ? "" : built_parts + 1),
                               err);
    }
    (void)printf("drover %s\nstores: %s\nparts:%s\n", DROVER_VERSION, dr_store_schemes(),
                 built_parts[0] == '\0' ? " none" : built_parts);
    return DR_OK;
}

enum dr_code dr_cli_help(struct dr_cli *c, int *exit_out, struct dr_err *err)
{
    struct dr_str out;
    uint32_t used = 0;
    (void)exit_out;
    const struct dr_command *command = dr_command_find(c->word, c->word_count, &used);
    dr_str_init(&out);
    if (command != NULL) {
        dr_help_command(command, &out);
    } else if (c->word_count == 0) {
        dr_help_overview(&out);
    } else if (c->word_count > 1 || !dr_help_group(c->word[0], &out)) {
        dr_str_fini(&out);
        return dr_command_unknown(c->word, c->word_count, err);
    }
    return dr_cli_put_text(&out, err);
}

enum dr_code dr_cli_manual(struct dr_cli *c, int *exit_out, struct dr_err *err)
{
    struct dr_str out;
    (void)c;
    (void)exit_out;
    dr_str_init(&out);
    dr_help_manual(&out);
    return dr_cli_put_text(&out, err);
}

enum dr_code dr_cli_completion(struct dr_cli *c, int *exit_out, struct dr_err *err)
{
    struct dr_str out;
    (void)exit_out;
    dr_str_init(&out);
    enum dr_code rc = dr_help_completion(c->word[0], &out, err);
    if (rc != DR_OK) {
        dr_str_fini(&out);
        return rc;
    }
    return dr_cli_put_text(&out, err);
}

/* Find the command; --help turns any of them into its own help. */
static enum dr_code choose_command(struct dr_cli *c, struct dr_err *err)
{
    uint32_t used = 0;
    const struct dr_args *a = c->args;
    static const char *const help_word[] = {"help"};
    if (dr_args_has(a, "help")) {
        c->command = dr_command_find(help_word, 1, &used);
        c->word = a->word;
        c->word_count = a->word_count;
        return DR_OK;
    }
    c->command = dr_command_find(a->word, a->word_count, &used);
    if (c->command == NULL) {
        return dr_command_unknown(a->word, a->word_count, err);
    }
    c->word = a->word + used;
    c->word_count = a->word_count - used;
    if (c->word_count < c->command->words_min) {
        return dr_fail(err, DR_USAGE, "drover %s needs %s; see drover help %s", c->command->name,
                       c->command->args, c->command->name);
    }
    if (c->word_count > c->command->words_max) {
        return dr_fail(err, DR_USAGE,
                       "drover %s does not know what to do with \"%.60s\"; see "
                       "drover help %s",
                       c->command->name, c->word[c->command->words_max], c->command->name);
    }
    return DR_OK;
}

static bool is_version_asked(int argc, const char *const *argv)
{
    return argc == 2 && (strcmp(argv[1], "--version") == 0 || strcmp(argv[1], "-V") == 0);
}

/* Output that did not get out is a failure like any other: a full disk must not look like success.
 */
static enum dr_exit flush_output(enum dr_exit code)
{
    bool is_lost = fflush(stdout) != 0 || ferror(stdout) != 0;
    if (!is_lost) {
        return code;
    }
    (void)fputs("drover: standard output could not be written\n", stderr);
    return code == DR_EXIT_DONE ? DR_EXIT_FULL : code;
}

int dr_cli_main(int argc, const char *const *argv, struct dr_cli_stop *stop, dr_serve_fn *serve)
{
    struct dr_err err = {0};
    struct dr_args args;
    int exit_code = DR_EXIT_DONE;
    static const char *const version_argv[] = {"drover", "version"};
    struct dr_cli c = {.args = &args, .stop = stop, .serve = serve, .log_fd = -1};

    if (is_version_asked(argc, argv)) {
        argv = version_argv;
    }
    enum dr_code rc =
        dr_args_parse(argc, argv, dr_global_options(), options_of_words, NULL, &args, &err);
    if (rc == DR_OK) {
        rc = choose_command(&c, &err);
    }
    if (rc == DR_OK && c.command->action != dr_cli_help) {
        rc = dr_cli_init(&c, &err);
    }
    if (rc == DR_OK) {
        rc = c.command->action(&c, &exit_code, &err);
    }
    if (rc != DR_OK) {
        exit_code = (int)dr_exit_of(rc, c.place);
        (void)fflush(stdout);
        (void)fprintf(stderr, "drover: %s\n", err.msg[0] != '\0' ? err.msg : dr_code_text(rc));
    }
    dr_cli_fini(&c);
    return (int)flush_output((enum dr_exit)exit_code);
}
