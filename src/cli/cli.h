/* SPDX-License-Identifier: Apache-2.0 */
/* The command line: verbs over requests, plans, the queue and the worker pool.
 *
 * Data goes to standard output, talk to standard error. Nothing here survives a call: everything
 * that must last is in the data folder. */
#ifndef DR_CLI_CLI_H
#define DR_CLI_CLI_H

#include <stdatomic.h>
#include <stdbool.h>

#include "verbs/serve.h"

/* Shared with main's signal handler. While `is_graceful` is false the handler ends the process at
 * once; while it is true somebody looks at `is_asked`, and the handler only sets that. */
struct dr_cli_stop {
    atomic_bool is_asked;
    atomic_bool is_graceful;
};

/* Run one command; returns the exit code (cli/exits.h). Blocks as long as the command takes.
 * `serve` is what the command serve calls; NULL when this build has no API. */
int dr_cli_main(int argc, const char *const *argv, struct dr_cli_stop *stop, dr_serve_fn *serve);

#endif
