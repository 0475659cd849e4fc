/* SPDX-License-Identifier: Apache-2.0 */
/* Requests of the command line to a daemon's API. */
#ifndef DR_CLI_REMOTE_PRIVATE_H
#define DR_CLI_REMOTE_PRIVATE_H

#include "base/json.h"
#include "base/mem.h"
#include "cli/cli_private.h"

#define DR_CLI_SERVER "http://127.0.0.1:8350"

/* One request to --server with the token of --token-file or $DROVER_TOKEN; *result_out is the
 * envelope's "result". A failure carries the daemon's own words: DR_INPUT, DR_REFUSED (state in the
 * way), DR_EXISTS, DR_NOT_FOUND, DR_DENIED, DR_UNSUPPORTED (stand-alone), DR_UNREACHABLE, and
 * DR_UNKNOWN when the outcome was not seen. */
DR_MUST enum dr_code dr_cli_remote(struct dr_cli *c, const char *method, const char *path,
                                   const json_t *body, json_t **result_out, struct dr_err *err);
/* The first line of a file only its owner may read: a token. dr_free it. `option` is for messages.
 */
DR_MUST enum dr_code dr_cli_read_token(const char *option, const char *path, char **out,
                                       struct dr_err *err);

#endif
