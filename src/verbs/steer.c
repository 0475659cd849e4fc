/* SPDX-License-Identifier: Apache-2.0 */
/* Owns what both doors do with stored operations beside setting wishes. */
#include "verbs/steer.h"

#include <string.h>

#include "base/mem.h"

bool dr_op_is_approved(const struct dr_op *op)
{
    return op->wish == DR_WISH_RUN || op->wish == DR_WISH_ROLLBACK || op->started_at != 0;
}

enum dr_code dr_steer_read_tuning(struct dr_queue *q, int64_t op_id, struct dr_tuning *out,
                                  struct dr_err *err)
{
    char *text = NULL;
    json_t *j = NULL;
    dr_tuning_default(out);
    enum dr_code rc = dr_queue_texts(q, op_id, NULL, NULL, &text, err);
    if (rc != DR_OK || text == NULL || text[0] == '\0') {
        goto out;
    }
    rc = dr_json_parse("stored tuning", text, strlen(text), &j, err);
    if (rc == DR_OK) {
        rc = dr_tuning_parse(j, "stored tuning", out, err);
    }
out:
    json_decref(j);
    dr_free(text);
    return rc;
}

enum dr_code dr_steer_tune(struct dr_queue *q, int64_t op_id, const json_t *changes,
                           const char *path, const char *by, json_t **whole_out, struct dr_err *err)
{
    struct dr_tuning tuning;
    *whole_out = NULL;
    enum dr_code rc = dr_steer_read_tuning(q, op_id, &tuning, err);
    if (rc == DR_OK && changes != NULL) {
        rc = dr_tuning_parse(changes, path, &tuning, err);
    }
    if (rc != DR_OK) {
        return rc;
    }
    json_t *whole = dr_tuning_to_json(&tuning);
    char *text = whole != NULL ? dr_json_text(whole) : NULL;
    if (text == NULL) {
        rc = dr_fail_nomem(err);
    } else if (changes != NULL) {
        rc = dr_queue_tune(q, op_id, text, tuning.priority, by, err);
    }
    dr_free(text);
    if (rc != DR_OK) {
        json_decref(whole);
        return rc;
    }
    *whole_out = whole;
    return DR_OK;
}

enum dr_code dr_each_op(struct dr_queue *q,
                        enum dr_code (*each)(void *arg, const struct dr_op *op, struct dr_err *err),
                        void *arg, struct dr_err *err)
{
    enum dr_code rc = DR_OK;
    uint32_t count = 0;
    int64_t before = 0;
    struct dr_op *page = dr_calloc(DR_PAGE, sizeof *page);
    if (page == NULL) {
        return dr_fail_nomem(err);
    }
    do {
        rc = dr_queue_ops(q, before, page, DR_PAGE, &count, err);
        for (uint32_t i = 0; rc == DR_OK && i < count; i++) {
            before = page[i].id;
            rc = each(arg, &page[i], err);
        }
    } while (rc == DR_OK && count == DR_PAGE);
    dr_free(page);
    return rc;
}

enum dr_code dr_each_step(struct dr_queue *q, int64_t op_id, enum dr_step_status status,
                          enum dr_code (*each)(void *arg, const struct dr_step *step, bool *more,
                                               struct dr_err *err),
                          void *arg, struct dr_err *err)
{
    enum dr_code rc = DR_OK;
    uint32_t count = 0;
    int64_t after = 0;
    bool more = true;
    struct dr_step *page = dr_calloc(DR_PAGE, sizeof *page);
    if (page == NULL) {
        return dr_fail_nomem(err);
    }
    do {
        rc = dr_queue_steps(q, op_id, status, after, page, DR_PAGE, &count, err);
        for (uint32_t i = 0; rc == DR_OK && more && i < count; i++) {
            after = page[i].id;
            rc = each(arg, &page[i], &more, err);
        }
    } while (rc == DR_OK && more && count == DR_PAGE);
    dr_free(page);
    return rc;
}
