/* SPDX-License-Identifier: Apache-2.0 */
/* Any text -> spec -> text -> spec: the second spec is the first, and its text the same bytes. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "plan/plan.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static void must(bool is_true)
{
    if (!is_true) {
        abort();
    }
}

static void check_same(const struct dr_range *a, const struct dr_range *b)
{
    must(strcmp(a->node, b->node) == 0 && strcmp(a->collection, b->collection) == 0);
    must((a->index == NULL) == (b->index == NULL));
    must(a->index == NULL || strcmp(a->index, b->index) == 0);
    must(a->access == b->access && a->epoch == b->epoch && a->key_count == b->key_count);
    must(a->from.parts == b->from.parts && dr_bound_compare(&a->from, &b->from) == 0);
    must(a->upto.parts == b->upto.parts && dr_bound_compare(&a->upto, &b->upto) == 0);
    must((a->filter == NULL) == (b->filter == NULL));
    must(a->filter == NULL || a->filter->term_count == b->filter->term_count);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    struct dr_err err = {0};
    struct dr_erase_spec spec;
    struct dr_erase_spec back;
    struct dr_arena *a = dr_arena_create(4096);
    char *query = dr_strndup((const char *)data, bytes);
    must(a != NULL && query != NULL);
    enum dr_code rc = dr_erase_spec_parse(query, a, &spec, &err);
    if (rc != DR_OK) {
        must(err.msg[0] != '\0');
        goto out;
    }
    char *text = dr_erase_spec_text(&spec);
    must(text != NULL);
    must(dr_erase_spec_parse(text, a, &back, &err) == DR_OK);
    must(back.with_archive == spec.with_archive);
    check_same(&spec.range, &back.range);
    char *again = dr_erase_spec_text(&back);
    must(again != NULL && strcmp(again, text) == 0);
    dr_free(again);
    dr_free(text);
out:
    dr_free(query);
    dr_arena_destroy(a);
    return 0;
}
