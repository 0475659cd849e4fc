/* SPDX-License-Identifier: Apache-2.0 */
/* Owns help texts, manual page and completion scripts; all of it is read off the command table. */
#include "cli/help.h"

#include <stdio.h>
#include <string.h>

#include "cli/exits.h"

static const struct {
    int number;
    const char *text;
} exit_codes[] = {
#define X(name, number, text) {number, text},
    DR_EXIT_MAP(X)
#undef X
};

static const struct {
    const char *name;
    const char *text;
} files[] = {
    {"DIR/queue.db", "operations, steps, undo, audit; SQLite"},
    {"DIR/owner.lock", "locked by the process that works; says which one"},
    {"DIR/archive/op-N/", "what operation N erased, a checksummed segment per step"},
    {"DIR/cluster/", "the catalog of drover serve: Raft log, snapshots, collections"},
    {"DIR/drover.json", "configuration, unless --config names another file"},
};

static const struct {
    const char *name;
    const char *text;
} environment[] = {
    {"DROVER_DATA", "the data folder when --data is not given"},
    {"DROVER_TOKEN", "the token of drover collection when --token-file is not given"},
};

static const struct {
    const char *name;
    const char *text;
} config_keys[] = {
    {"protect", "names nobody may erase, patterns with * and ?, beside the built-in ones"},
    {"threads", "workers of the pool"},
    {"log_level", "error, warn, info or debug"},
    {"log_file", "append the log here instead of writing it to standard error"},
    {"defaults", "tuning beneath a job's own, as {\"rate\": 5000}"},
    {"redis_stats",
     "for drover serve: the job beneath DELETE /services/ID/stats, {\"store\": URL}"},
};

static void add_options(const struct dr_option *options, struct dr_str *out)
{
    for (const struct dr_option *o = options; o->name != NULL; o++) {
        char left[64];
        int length = snprintf(left, sizeof left, "--%s%s%s", o->name, o->value != NULL ? " " : "",
                              o->value != NULL ? o->value : "");
        dr_str_addf(out, "  %-28s%s%s\n", left, length >= 28 ? " " : "", o->help);
    }
}

static void add_usage(const struct dr_command *c, struct dr_str *out)
{
    dr_str_addf(out, "drover %s%s%s%s", c->name, c->args[0] != '\0' ? " " : "", c->args,
                c->options[0].name != NULL ? " [OPTIONS]" : "");
}

static void add_line(const struct dr_command *c, struct dr_str *out)
{
    char left[64];
    (void)snprintf(left, sizeof left, "%s %s", c->name, c->args);
    dr_str_addf(out, "  %-28s%s\n", left, c->summary);
}

bool dr_help_group(const char *first, struct dr_str *out)
{
    uint32_t count;
    const struct dr_command *c = dr_command_table(&count);
    const size_t length = strlen(first);
    bool is_group = false;
    for (uint32_t i = 0; i < count; i++) {
        if (strncmp(c[i].name, first, length) == 0 && c[i].name[length] == ' ') {
            if (!is_group) {
                dr_str_addf(out, "usage: drover %s WORD [WORDS] [OPTIONS]\n\n", first);
            }
            is_group = true;
            add_line(&c[i], out);
        }
    }
    if (is_group) {
        dr_str_addf(out, "\ndrover help %s WORD explains one.\n", first);
    }
    return is_group;
}

void dr_help_overview(struct dr_str *out)
{
    uint32_t count;
    const struct dr_command *c = dr_command_table(&count);
    dr_str_add(out, "usage: drover COMMAND [WORDS] [OPTIONS]\n\n"
                    "Deletes sharded data at walking pace: plans, archives, erases in small "
                    "batches, and can\nbe paused, explained and rolled back at any moment.\n\n");
    for (uint32_t i = 0; i < count; i++) {
        add_line(&c[i], out);
    }
    dr_str_add(out, "\noptions of all commands:\n");
    add_options(dr_global_options(), out);
    dr_str_add(out, "\ndrover help COMMAND explains one, drover manual | man -l - everything.\n");
}

/* Fill `text` into lines of at most 78 columns, indented by two. */
static void add_filled(const char *text, struct dr_str *out)
{
    size_t column = 0;
    for (const char *at = text; *at != '\0';) {
        size_t length = strcspn(at, " ");
        if (column > 0 && column + 1 + length > 76) {
            dr_str_addc(out, '\n');
            column = 0;
        }
        dr_str_add(out, column == 0 ? "  " : " ");
        dr_str_addn(out, at, length);
        column += length + (column == 0 ? 2 : 1);
        at += length + (at[length] == ' ' ? 1 : 0);
    }
    dr_str_addc(out, '\n');
}

void dr_help_command(const struct dr_command *command, struct dr_str *out)
{
    dr_str_add(out, "usage: ");
    add_usage(command, out);
    dr_str_addf(out, "\n\n  %s\n\n", command->summary);
    add_filled(command->help, out);
    if (command->options[0].name != NULL) {
        dr_str_add(out, "\noptions:\n");
        add_options(command->options, out);
    }
    dr_str_add(out, "\noptions of all commands:\n");
    add_options(dr_global_options(), out);
}

/* Text for roff: a backslash and a leading dot or quote mean something there, and a plain dash may
 * be set as a hyphen that nobody can copy into a shell. */
static void add_roff(const char *text, struct dr_str *out)
{
    if (text[0] == '.' || text[0] == '\'') {
        dr_str_add(out, "\\&");
    }
    for (const char *at = text; *at != '\0'; at++) {
        if (*at == '\\') {
            dr_str_add(out, "\\e");
        } else if (*at == '-') {
            dr_str_add(out, "\\-");
        } else {
            dr_str_addc(out, *at);
        }
    }
}

static void add_roff_item(const char *name, const char *value, const char *text, struct dr_str *out)
{
    dr_str_add(out, ".TP\n\\fB");
    add_roff(name, out);
    dr_str_add(out, "\\fR");
    if (value != NULL) {
        dr_str_add(out, " \\fI");
        add_roff(value, out);
        dr_str_add(out, "\\fR");
    }
    dr_str_addc(out, '\n');
    add_roff(text, out);
    dr_str_addc(out, '\n');
}

static void add_roff_options(const struct dr_option *options, struct dr_str *out)
{
    for (const struct dr_option *o = options; o->name != NULL; o++) {
        char name[64];
        (void)snprintf(name, sizeof name, "--%s", o->name);
        add_roff_item(name, o->value, o->help, out);
    }
}

static void add_roff_commands(struct dr_str *out)
{
    uint32_t count;
    const struct dr_command *c = dr_command_table(&count);
    dr_str_add(out, ".SH COMMANDS\n");
    for (uint32_t i = 0; i < count; i++) {
        dr_str_add(out, ".SS \"");
        add_roff(c[i].name, out);
        if (c[i].args[0] != '\0') {
            dr_str_addc(out, ' ');
            add_roff(c[i].args, out);
        }
        dr_str_add(out, "\"\n");
        add_roff(c[i].summary, out);
        dr_str_add(out, ".\n");
        add_roff(c[i].help, out);
        dr_str_addc(out, '\n');
        add_roff_options(c[i].options, out);
    }
}

void dr_help_manual(struct dr_str *out)
{
    dr_str_addf(out,
                ".TH DROVER 1 \"\" \"drover %s\" \"User Commands\"\n"
                ".SH NAME\ndrover \\- delete sharded data at walking pace\n"
                ".SH SYNOPSIS\n.B drover\n\\fICOMMAND\\fR [\\fIWORDS\\fR] [\\fIOPTIONS\\fR]\n"
                ".SH DESCRIPTION\n",
                DROVER_VERSION);
    add_roff("drover plans a deletion, queues every step durably together with its undo, and works "
             "through it in small batches. What is erased is archived first. An operation can be "
             "paused, resumed, stopped, explained and rolled back at any moment, also after a "
             "crash. One process at a time owns a data folder and works; any other may submit, "
             "look and steer. JOB is a JSON file or - for standard input, OP the number of an "
             "operation. Data goes to standard output, talk to standard error.\n",
             out);
    add_roff_commands(out);
    dr_str_add(out, ".SH OPTIONS OF ALL COMMANDS\n");
    add_roff_options(dr_global_options(), out);
    dr_str_add(out, ".SH EXIT STATUS\n");
    for (size_t i = 0; i < sizeof exit_codes / sizeof exit_codes[0]; i++) {
        dr_str_addf(out, ".TP\n\\fB%d\\fR\n%s\n", exit_codes[i].number, exit_codes[i].text);
    }
    dr_str_add(out, ".SH CONFIGURATION\nA JSON object; unknown keys are refused.\n");
    for (size_t i = 0; i < sizeof config_keys / sizeof config_keys[0]; i++) {
        add_roff_item(config_keys[i].name, NULL, config_keys[i].text, out);
    }
    dr_str_add(out, ".SH FILES\n");
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        add_roff_item(files[i].name, NULL, files[i].text, out);
    }
    dr_str_add(out, ".SH ENVIRONMENT\n");
    for (size_t i = 0; i < sizeof environment / sizeof environment[0]; i++) {
        add_roff_item(environment[i].name, NULL, environment[i].text, out);
    }
}
