/* SPDX-License-Identifier: Apache-2.0 */
/* Owns the completion scripts: words of the command table in each shell's own form. */
#include <stdio.h>
#include <string.h>

#include "cli/help.h"

/* The first words of all commands, each once, or the second words that follow `first`. */
static void add_words(const char *first, const char *separator, struct dr_str *out)
{
    uint32_t count;
    const struct dr_command *c = dr_command_table(&count);
    size_t before = 0;
    bool is_any = false;
    for (uint32_t i = 0; i < count; i++) {
        const char *name = c[i].name;
        size_t length = strcspn(name, " ");
        const char *word = name;
        if (first != NULL) {
            if (strlen(first) != length || strncmp(first, name, length) != 0 ||
                name[length] == '\0') {
                continue;
            }
            word = name + length + 1;
            length = strlen(word);
        } else if (i > 0 && before == length && strncmp(c[i - 1].name, name, length) == 0) {
            continue; /* the table keeps commands with the same first word together */
        }
        before = strcspn(name, " ");
        dr_str_add(out, is_any ? separator : "");
        dr_str_addn(out, word, length);
        is_any = true;
    }
}

static void add_option_words(const struct dr_option *options, struct dr_str *out)
{
    for (const struct dr_option *o = options; o->name != NULL; o++) {
        dr_str_addf(out, " --%s", o->name);
    }
}

static void add_first_of(const char *name, char *buf, size_t buf_bytes)
{
    size_t length = strcspn(name, " ");
    (void)snprintf(buf, buf_bytes, "%.*s", (int)length, name);
}

/* Cases "archive) words" for commands of two words. */
static void add_bash_seconds(struct dr_str *out)
{
    uint32_t count;
    const struct dr_command *c = dr_command_table(&count);
    char last[32] = "";
    for (uint32_t i = 0; i < count; i++) {
        char first[32];
        add_first_of(c[i].name, first, sizeof first);
        if (strchr(c[i].name, ' ') == NULL || strcmp(first, last) == 0) {
            continue;
        }
        dr_str_addf(out, "        %s) words=\"", first);
        add_words(first, " ", out);
        dr_str_add(out, "\" ;;\n");
        (void)snprintf(last, sizeof last, "%s", first);
    }
}

/* Cases "name) options": exact names before first words alone, so "archive list" finds its own. */
static void add_bash_options(struct dr_str *out)
{
    uint32_t count;
    const struct dr_command *c = dr_command_table(&count);
    for (uint32_t i = 0; i < count; i++) {
        dr_str_addf(out, "            \"%s\"%s) words=\"$words", c[i].name,
                    strchr(c[i].name, ' ') == NULL ? "\\ *" : "");
        add_option_words(c[i].options, out);
        dr_str_add(out, "\" ;;\n");
    }
}

static void add_bash(struct dr_str *out)
{
    dr_str_add(out, "# bash completion of drover\n"
                    "_drover() {\n"
                    "    local current=${COMP_WORDS[COMP_CWORD]} words=\n"
                    "    local first=${COMP_WORDS[1]} second=${COMP_WORDS[2]}\n"
                    "    if [[ $current == -* ]]; then\n"
                    "        words=\"");
    add_option_words(dr_global_options(), out);
    dr_str_add(out, "\"\n        case \"$first $second\" in\n");
    add_bash_options(out);
    dr_str_add(out, "        esac\n"
                    "        COMPREPLY=($(compgen -W \"$words\" -- \"$current\"))\n"
                    "        return\n"
                    "    fi\n"
                    "    if [[ $COMP_CWORD == 1 ]]; then\n"
                    "        words=\"");
    add_words(NULL, " ", out);
    dr_str_add(out, "\"\n"
                    "    elif [[ $COMP_CWORD == 2 ]]; then\n"
                    "        case $first in\n");
    add_bash_seconds(out);
    dr_str_add(out, "        help) words=\"");
    add_words(NULL, " ", out);
    dr_str_add(out, "\" ;;\n"
                    "        completion) words=\"bash zsh fish\" ;;\n"
                    "        esac\n"
                    "    fi\n"
                    "    COMPREPLY=($(compgen -W \"$words\" -- \"$current\"))\n"
                    "    [[ -n ${COMPREPLY[*]} ]] || COMPREPLY=($(compgen -f -- \"$current\"))\n"
                    "}\n"
                    "complete -o filenames -F _drover drover\n");
}

/* zsh runs the bash function through its own compatibility layer: one script to keep right. */
static void add_zsh(struct dr_str *out)
{
    dr_str_add(out, "#compdef drover\n"
                    "autoload -U +X bashcompinit && bashcompinit\n");
    add_bash(out);
}

/* Text within single quotes, for fish. */
static void add_quoted(const char *text, struct dr_str *out)
{
    dr_str_addc(out, '\'');
    for (const char *at = text; *at != '\0'; at++) {
        if (*at == '\'' || *at == '\\') {
            dr_str_addc(out, '\\');
        }
        dr_str_addc(out, *at);
    }
    dr_str_addc(out, '\'');
}

static void add_fish_options(const char *condition, const struct dr_option *options,
                             struct dr_str *out)
{
    for (const struct dr_option *o = options; o->name != NULL; o++) {
        dr_str_addf(out, "complete -c drover%s -l %s%s -d ", condition, o->name,
                    o->value != NULL ? " -r" : "");
        add_quoted(o->help, out);
        dr_str_addc(out, '\n');
    }
}

static void add_fish(struct dr_str *out)
{
    uint32_t count;
    const struct dr_command *c = dr_command_table(&count);
    dr_str_add(out, "# fish completion of drover\n");
    add_fish_options("", dr_global_options(), out);
    for (uint32_t i = 0; i < count; i++) {
        char first[32];
        char condition[160];
        const char *second = strchr(c[i].name, ' ');
        add_first_of(c[i].name, first, sizeof first);
        if (second == NULL) {
            dr_str_addf(out, "complete -c drover -n __fish_use_subcommand -a %s -d ", first);
            (void)snprintf(condition, sizeof condition, " -n '__fish_seen_subcommand_from %s'",
                           first);
        } else {
            dr_str_addf(out, "complete -c drover -n __fish_use_subcommand -a %s\n", first);
            dr_str_addf(out, "complete -c drover -n '__fish_seen_subcommand_from %s' -a %s -d ",
                        first, second + 1);
            (void)snprintf(condition, sizeof condition,
                           " -n '__fish_seen_subcommand_from %s; and "
                           "__fish_seen_subcommand_from %s'",
                           first, second + 1);
        }
        add_quoted(c[i].summary, out);
        dr_str_addc(out, '\n');
        add_fish_options(condition, c[i].options, out);
    }
}

enum dr_code dr_help_completion(const char *shell, struct dr_str *out, struct dr_err *err)
{
    if (strcmp(shell, "bash") == 0) {
        add_bash(out);
    } else if (strcmp(shell, "zsh") == 0) {
        add_zsh(out);
    } else if (strcmp(shell, "fish") == 0) {
        add_fish(out);
    } else {
        return dr_fail(err, DR_USAGE, "completion is there for bash, zsh and fish, not \"%.40s\"",
                       shell);
    }
    return DR_OK;
}
