/* SPDX-License-Identifier: Apache-2.0 */
/* Owns where segments lie and how an operation's are removed. No state; any thread, but nobody may
 * have a segment of the operation open when it is removed. */
#include "archive/archive.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/file.h"

char *dr_archive_path(const char *data_dir, int64_t op_id, int64_t step_id, char *buf,
                      size_t buf_bytes)
{
    (void)snprintf(buf, buf_bytes, "%s/archive/op-%" PRId64 "/step-%" PRId64 ".dra", data_dir,
                   op_id, step_id);
    return buf;
}

static enum dr_code remove_entry(int folder_fd, const char *folder, const char *name,
                                 uint64_t *bytes, struct dr_err *err)
{
    struct stat info;
    int failure = dr_fault_io_pass();
    if (failure == 0 && fstatat(folder_fd, name, &info, AT_SYMLINK_NOFOLLOW) != 0) {
        failure = errno;
    }
    if (failure == 0 && unlinkat(folder_fd, name, 0) != 0) {
        failure = errno;
    }
    if (failure == 0) {
        *bytes += S_ISREG(info.st_mode) ? (uint64_t)info.st_size : 0;
        return DR_OK;
    }
    if (failure == ENOENT) {
        return DR_OK;
    }
    enum dr_code rc = dr_fail_errno(err, failure, "remove", name);
    dr_wrap(err, "%s", folder);
    return rc;
}

static enum dr_code remove_entries(const char *folder, uint64_t *bytes, struct dr_err *err)
{
    int failure = dr_fault_io_pass();
    DIR *entries = failure == 0 ? opendir(folder) : NULL;
    if (entries == NULL) {
        return dr_fail_errno(err, failure == 0 ? errno : failure, "open folder", folder);
    }
    enum dr_code rc = DR_OK;
    for (;;) {
        errno = 0;
        const struct dirent *entry = readdir(entries);
        if (entry == NULL && errno != 0) {
            rc = dr_fail_errno(err, errno, "read folder", folder);
        }
        if (entry == NULL || rc != DR_OK) {
            break;
        }
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0) {
            rc = remove_entry(dirfd(entries), folder, entry->d_name, bytes, err);
        }
        if (rc != DR_OK) {
            break;
        }
    }
    (void)closedir(entries);
    return rc;
}

static enum dr_code remove_folder(const char *folder, struct dr_err *err)
{
    int failure = dr_fault_io_pass();
    if (failure == 0 && rmdir(folder) != 0) {
        failure = errno;
    }
    return failure == 0 || failure == ENOENT ? DR_OK
                                             : dr_fail_errno(err, failure, "remove folder", folder);
}

enum dr_code dr_archive_remove(const char *data_dir, int64_t op_id, uint64_t *bytes_out,
                               struct dr_err *err)
{
    uint64_t bytes = 0;
    enum dr_code rc = DR_OK;
    char *archive = dr_asprintf("%s/archive", data_dir);
    char *folder = dr_asprintf("%s/archive/op-%" PRId64, data_dir, op_id);
    if (archive == NULL || folder == NULL) {
        rc = dr_fail_nomem(err);
        goto out;
    }
    rc = remove_entries(folder, &bytes, err);
    if (rc == DR_NOT_FOUND) {
        dr_err_clear(err); /* sync all the same: a crash may have come before that last time */
        rc = DR_OK;
    } else if (rc == DR_OK) {
        rc = remove_folder(folder, err);
    }
    if (rc == DR_OK) {
        rc = dr_dir_sync(archive, err);
    }
    if (rc == DR_NOT_FOUND) { /* nothing was ever archived here */
        dr_err_clear(err);
        rc = DR_OK;
    }
out:
    if (bytes_out != NULL) {
        *bytes_out = bytes;
    }
    dr_free(archive);
    dr_free(folder);
    return rc;
}
