/* SPDX-License-Identifier: Apache-2.0 */
/* Allocation: thin wrappers that a test can make fail at the n-th call, and an arena.
 *
 * All code outside base/ allocates through these. An arena is owned by one thread at a time. */
#ifndef DR_BASE_MEM_H
#define DR_BASE_MEM_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

/* Like the libc ones; NULL when memory is short (or a test says so). dr_free accepts NULL. */
void *dr_malloc(size_t bytes);
void *dr_calloc(size_t count, size_t bytes_each);
void *dr_realloc(void *old, size_t bytes);
char *dr_strdup(const char *text);
char *dr_strndup(const char *text, size_t bytes_max);
void *dr_memdup(const void *data, size_t bytes); /* bytes 0 gives a valid 1-byte block */
char *dr_asprintf(const char *fmt, ...) DR_PRINTF(1, 2);
void dr_free(void *p);

/* Make the n-th allocation from now fail, once (n = 1 is the next); 0 switches it off. Returns how
 * many allocations were made since the last call. For tests. */
uint64_t dr_mem_fail_at(uint64_t n);

/* Bump allocator in blocks of at least `block_bytes`; reset keeps the first block. */
struct dr_arena;
struct dr_arena *dr_arena_create(size_t block_bytes);
void dr_arena_reset(struct dr_arena *a);
void dr_arena_destroy(struct dr_arena *a);
void *dr_arena_alloc(struct dr_arena *a,
                     size_t bytes); /* 16-byte aligned, not zeroed; NULL: short */
void *dr_arena_memdup(struct dr_arena *a, const void *data, size_t bytes);
char *dr_arena_strdup(struct dr_arena *a, const char *text);
char *dr_arena_printf(struct dr_arena *a, const char *fmt, ...) DR_PRINTF(2, 3);
size_t dr_arena_bytes(const struct dr_arena *a); /* handed out since the last reset */

#endif
