/* SPDX-License-Identifier: Apache-2.0 */
/* Owns the process: signals, and which doors there are. */
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <unistd.h>

#ifdef DROVER_API
#include "api/api.h"
#endif
#include "cli/cli.h"

enum { EXIT_INTERRUPTED = 130 };

static struct dr_cli_stop stop;

/* A pool at work ends its batch and saves; anything else has nothing to save (all that lasts is
 * crash-safe) and ends at once, so that Ctrl-C always does something. */
static void on_signal(int number)
{
    (void)number;
    if (!atomic_load(&stop.is_graceful)) {
        _exit(EXIT_INTERRUPTED);
    }
    atomic_store(&stop.is_asked, true);
}

int main(int argc, char **argv)
{
    struct sigaction action = {.sa_handler = on_signal};
    static const int caught[] = {SIGINT, SIGTERM, SIGHUP};
    (void)sigemptyset(&action.sa_mask);
    for (size_t i = 0; i < sizeof caught / sizeof caught[0]; i++) {
        struct sigaction before;
        /* nohup and a background job of a plain shell ignore some signals on purpose. */
        if (sigaction(caught[i], NULL, &before) == 0 && before.sa_handler == SIG_IGN &&
            caught[i] == SIGHUP) {
            continue;
        }
        (void)sigaction(caught[i], &action, NULL);
    }
#ifdef DROVER_API
    dr_serve_fn *serve = dr_api_serve;
#else
    dr_serve_fn *serve = NULL;
#endif
    return dr_cli_main(argc, (const char *const *)argv, &stop, serve);
}
