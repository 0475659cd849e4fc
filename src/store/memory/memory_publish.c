/* SPDX-License-Identifier: Apache-2.0 */
/* Status records of the memory store: the last state published for each spec, for tests. */
#include <string.h>

#include "base/mem.h"
#include "store/memory/memory_private.h"

static struct dr_memory_record *find_record(const struct dr_memory_store *m, const char *spec)
{
    for (size_t i = 0; i < m->record_count; i++) {
        if (strcmp(m->record[i].spec, spec) == 0) {
            return &m->record[i];
        }
    }
    return NULL;
}

static struct dr_memory_record *make_record(struct dr_memory_store *m, const char *spec)
{
    char *copy = dr_strdup(spec);
    void *grown = copy == NULL ? NULL
                               : dr_memory_grow(m->record, m->record_count, &m->record_room,
                                                sizeof *m->record);
    if (grown == NULL) {
        dr_free(copy);
        return NULL;
    }
    m->record = grown;
    m->record[m->record_count] = (struct dr_memory_record){.spec = copy};
    return &m->record[m->record_count++];
}

enum dr_code dr_memory_keep_record(struct dr_memory_store *m, const char *spec, const char *state,
                                   struct dr_err *err)
{
    struct dr_memory_record *r = find_record(m, spec);
    char *copy = dr_strdup(state);
    r = r != NULL || copy == NULL ? r : make_record(m, spec);
    if (r == NULL || copy == NULL) {
        dr_free(copy);
        return dr_fail_nomem(err);
    }
    dr_free(r->state);
    r->state = copy;
    r->times++;
    return DR_OK;
}

void dr_memory_free_records(struct dr_memory_store *m)
{
    for (size_t i = 0; i < m->record_count; i++) {
        dr_free(m->record[i].spec);
        dr_free(m->record[i].state);
    }
    dr_free(m->record);
}

char *dr_memory_published(const char *name, const char *spec, uint64_t *times_out)
{
    struct dr_memory_store *m = NULL;
    char *copy = NULL;
    uint64_t times = 0;
    if (dr_memory_lock(name, &m, NULL) == DR_OK) {
        const struct dr_memory_record *r = find_record(m, spec);
        copy = r == NULL || r->state == NULL ? NULL : dr_strdup(r->state);
        times = r == NULL ? 0 : r->times;
        dr_memory_unlock();
    }
    if (times_out != NULL) {
        *times_out = times;
    }
    return copy;
}
