/* SPDX-License-Identifier: Apache-2.0 */
/* Commands about a whole table (store/hold.h), said in the server's dialect. */
#ifndef DR_STORE_SQL_WHOLE_PRIVATE_H
#define DR_STORE_SQL_WHOLE_PRIVATE_H

#include "store/sql/sql_private.h"

/* *is_whole_out false: another command, nothing done. */
enum dr_code sa_whole(struct sa_store *s, const char *node, const char *text, bool *is_whole_out,
                      struct dr_err *err);

#endif
