/* SPDX-License-Identifier: Apache-2.0 */
/* An SQL expression that a person wrote, before it is put between parentheses into a statement. */
#ifndef DR_STORE_SQLTEXT_H
#define DR_STORE_SQLTEXT_H

#include "base/err.h"

enum { DR_SQL_EXPRESSION_BYTES_MAX = 16 * 1024 };

/* Can `text` stand as (text) without ending the parentheses, the statement or the line? Refused
 * with DR_INPUT: nothing but blanks; a semicolon, a comment sign (-- # / * ) or a closing
 * parenthesis too many outside of quotes; quotes or parentheses left open; dollar quotes; a
 * backslash inside quotes, backticks and brackets that hold more than names and numbers (dialects
 * differ in what they mean); a parameter sign; an assignment. `where` is shown in
 * messages. */
DR_MUST enum dr_code dr_sql_check_expression(const char *where, const char *text,
                                             struct dr_err *err);

#endif
