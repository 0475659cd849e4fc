/* SPDX-License-Identifier: Apache-2.0 */
/* Owns what others on this machine may see of the command line: URLs with passwords are overwritten
 * as soon as they have been copied. argv belongs to the program and may be changed (C17 5.1.2.2.1).
 */
#include <stdint.h>
#include <string.h>

#include "cli/cli_private.h"

void dr_cli_hide_word(const char *word)
{
    char *text = (char *)(uintptr_t)word; /* NOLINT(performance-no-int-to-ptr): drops const */
    memset(text, '*', strlen(text));
}

/* user:password@host, or a password among the options of the URL. */
static bool has_password(const char *url)
{
    const char *host = strstr(url, "://");
    return host != NULL && (strchr(host, '@') != NULL || strcasestr(host, "%40") != NULL ||
                            strcasestr(host, "pass") != NULL);
}

void dr_cli_hide_urls(const struct dr_args *a)
{
    static const char *const names[] = {"store",      "url",     "uri",      "config-uri",
                                        "status-uri", "replica", "database", "points-store",
                                        "node",       "add",     "remove"};
    for (uint32_t i = 0; i < a->given_count; i++) {
        const struct dr_given *given = &a->given[i];
        for (size_t k = 0; k < sizeof names / sizeof names[0]; k++) {
            if (given->text != NULL && strcmp(given->option->name, names[k]) == 0 &&
                has_password(given->text)) {
                dr_cli_hide_word(given->text);
            }
        }
    }
}
