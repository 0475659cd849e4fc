/* SPDX-License-Identifier: Apache-2.0 */
/* Files whose durability matters: whole writes, fsync of file and folder, locks, atomic replace.
 * Every failure names the path and what to do (dr_fail_errno). Blocking; any thread. */
#ifndef DR_BASE_FILE_H
#define DR_BASE_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

/* mkdir -p with mode 0700. */
DR_MUST enum dr_code dr_dir_make(const char *path, struct dr_err *err);
/* fsync the folder itself, so that a created or renamed entry survives a power cut. */
DR_MUST enum dr_code dr_dir_sync(const char *path, struct dr_err *err);
/* open(2) with O_CLOEXEC and mode 0600. */
DR_MUST enum dr_code dr_file_open(const char *path, int flags, int *fd_out, struct dr_err *err);
DR_MUST enum dr_code dr_file_write_all(int fd, const char *path, const void *data, size_t bytes,
                                       struct dr_err *err);
/* Read exactly `bytes` at `offset`, or fewer at the end of the file (*got_out tells). */
DR_MUST enum dr_code dr_file_read_at(int fd, const char *path, uint64_t offset, void *data,
                                     size_t bytes, size_t *got_out, struct dr_err *err);
DR_MUST enum dr_code dr_file_sync(int fd, const char *path, struct dr_err *err); /* fdatasync */
/* Whole file into a fresh NUL-terminated block (dr_free); refused above `bytes_max`. */
DR_MUST enum dr_code dr_file_load(const char *path, size_t bytes_max, char **data_out,
                                  size_t *bytes_out, struct dr_err *err);
/* Write beside, fsync, rename over, fsync the folder. */
DR_MUST enum dr_code dr_file_replace(const char *path, const void *data, size_t bytes,
                                     struct dr_err *err);
/* Exclusive flock on `path`, made when missing, kept until the fd is closed. DR_BUSY when another
 * process holds it; then `holder` (may be NULL) gets the text the holder wrote into it. On success
 * `content` becomes the file's text. */
DR_MUST enum dr_code dr_file_lock(const char *path, const char *content, int *fd_out, char *holder,
                                  size_t holder_bytes, struct dr_err *err);
/* True when somebody holds the lock right now; `holder` as above. */
bool dr_file_is_locked(const char *path, char *holder, size_t holder_bytes);
/* Free bytes on the file system that holds `path`. */
DR_MUST enum dr_code dr_disk_free(const char *path, uint64_t *bytes_out, struct dr_err *err);

#endif
