/* SPDX-License-Identifier: Apache-2.0 */
/* Owns the allocation counter of the process and the arena. The counter is atomic: any thread. */
#include "base/mem.h"

#include <assert.h>
#include <stdalign.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static _Atomic uint64_t allocations_made;
static _Atomic uint64_t fail_countdown; /* 0 is off, 1 fails the next allocation */

enum { ARENA_ALIGN = 16, ARENA_BLOCK_BYTES_MIN = 256 };

struct arena_block {
    struct arena_block *next;
    size_t room;
    size_t used;
    alignas(ARENA_ALIGN) unsigned char data[];
};

struct dr_arena {
    struct arena_block *first; /* kept by a reset */
    struct arena_block *last;
    size_t block_bytes;
    size_t handed_out;
};

static bool is_armed_to_fail(void)
{
    atomic_fetch_add_explicit(&allocations_made, 1, memory_order_relaxed);
    uint64_t left = atomic_load_explicit(&fail_countdown, memory_order_relaxed);
    while (left != 0) {
        if (atomic_compare_exchange_weak(&fail_countdown, &left, left - 1)) {
            return left == 1;
        }
    }
    return false;
}

uint64_t dr_mem_fail_at(uint64_t n)
{
    atomic_store(&fail_countdown, n);
    return atomic_exchange(&allocations_made, 0);
}

void *dr_malloc(size_t bytes)
{
    if (is_armed_to_fail()) {
        return NULL;
    }
    return malloc(bytes == 0 ? 1 : bytes);
}

void *dr_calloc(size_t count, size_t bytes_each)
{
    if (is_armed_to_fail()) {
        return NULL;
    }
    if (count == 0 || bytes_each == 0) {
        return calloc(1, 1);
    }
    if (bytes_each > SIZE_MAX / count) { /* libc knows it too, but a sanitizer's one aborts */
        return NULL;
    }
    return calloc(count, bytes_each);
}

void *dr_realloc(void *old, size_t bytes)
{
    if (is_armed_to_fail()) {
        return NULL;
    }
    return realloc(old, bytes == 0 ? 1 : bytes);
}

char *dr_strndup(const char *text, size_t bytes_max)
{
    size_t length = strnlen(text, bytes_max);
    char *copy = dr_malloc(length + 1);
    if (copy == NULL) {
        return NULL;
    }
    memcpy(copy, text, length);
    copy[length] = '\0';
    return copy;
}

char *dr_strdup(const char *text)
{
    return dr_memdup(text, strlen(text) + 1);
}

void *dr_memdup(const void *data, size_t bytes)
{
    void *copy = dr_malloc(bytes);
    if (copy != NULL && bytes > 0) {
        memcpy(copy, data, bytes);
    }
    return copy;
}

char *dr_asprintf(const char *fmt, ...)
{
    va_list args;
    va_list again;
    va_start(args, fmt);
    va_copy(again, args);
    char *text = NULL;
    int length = vsnprintf(NULL, 0, fmt, args);
    if (length >= 0) {
        text = dr_malloc((size_t)length + 1);
    }
    if (text != NULL) {
        (void)vsnprintf(text, (size_t)length + 1, fmt, again);
    }
    va_end(again);
    va_end(args);
    return text;
}

void dr_free(void *p)
{
    free(p);
}

static struct arena_block *make_block(size_t room)
{
    if (room > SIZE_MAX - sizeof(struct arena_block)) {
        return NULL;
    }
    struct arena_block *block = dr_malloc(sizeof(struct arena_block) + room);
    if (block == NULL) {
        return NULL;
    }
    block->next = NULL;
    block->room = room;
    block->used = 0;
    return block;
}

static void free_blocks(struct arena_block *block)
{
    while (block != NULL) {
        struct arena_block *next = block->next;
        dr_free(block);
        block = next;
    }
}

struct dr_arena *dr_arena_create(size_t block_bytes)
{
    struct dr_arena *a = dr_calloc(1, sizeof *a);
    if (a == NULL) {
        return NULL;
    }
    a->block_bytes = block_bytes < ARENA_BLOCK_BYTES_MIN ? ARENA_BLOCK_BYTES_MIN : block_bytes;
    a->first = make_block(a->block_bytes);
    if (a->first == NULL) {
        dr_free(a);
        return NULL;
    }
    a->last = a->first;
    return a;
}

void dr_arena_reset(struct dr_arena *a)
{
    free_blocks(a->first->next);
    a->first->next = NULL;
    a->first->used = 0;
    a->last = a->first;
    a->handed_out = 0;
}

void dr_arena_destroy(struct dr_arena *a)
{
    if (a == NULL) {
        return;
    }
    free_blocks(a->first);
    dr_free(a);
}

void *dr_arena_alloc(struct dr_arena *a, size_t bytes)
{
    if (bytes > SIZE_MAX / 2) {
        return NULL;
    }
    /* Zero bytes still get an address of their own, so NULL always means failure. */
    size_t padded = (bytes == 0 ? 1 : bytes) + (ARENA_ALIGN - 1);
    padded -= padded % ARENA_ALIGN;

    struct arena_block *block = a->last;
    if (block->room - block->used < padded) {
        block = make_block(padded > a->block_bytes ? padded : a->block_bytes);
        if (block == NULL) {
            return NULL;
        }
        a->last->next = block;
        a->last = block;
    }
    void *p = block->data + block->used;
    block->used += padded;
    a->handed_out += bytes;
    assert(block->used <= block->room);
    return p;
}

void *dr_arena_memdup(struct dr_arena *a, const void *data, size_t bytes)
{
    void *copy = dr_arena_alloc(a, bytes);
    if (copy != NULL && bytes > 0) {
        memcpy(copy, data, bytes);
    }
    return copy;
}

char *dr_arena_strdup(struct dr_arena *a, const char *text)
{
    return dr_arena_memdup(a, text, strlen(text) + 1);
}

char *dr_arena_printf(struct dr_arena *a, const char *fmt, ...)
{
    va_list args;
    va_list again;
    va_start(args, fmt);
    va_copy(again, args);
    char *text = NULL;
    int length = vsnprintf(NULL, 0, fmt, args);
    if (length >= 0) {
        text = dr_arena_alloc(a, (size_t)length + 1);
    }
    if (text != NULL) {
        (void)vsnprintf(text, (size_t)length + 1, fmt, again);
    }
    va_end(again);
    va_end(args);
    return text;
}

size_t dr_arena_bytes(const struct dr_arena *a)
{
    return a->handed_out;
}
