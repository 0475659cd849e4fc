/* SPDX-License-Identifier: Apache-2.0 */
/* Owns the order of write, sync and rename that makes a file survive a crash. Before each operation
 * a test build may inject a failure. No state; any thread. */
#include "base/file.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/backoff.h"
#include "base/fault.h"
#include "base/mem.h"

enum {
    LOAD_BYTES_FIRST = 4096,
    LOCK_TRIES_MAX = 3,
    LOCK_RETRY_MS = 5,
};

/* Each try_* is one system call that a test can make fail: 0 or an errno. */
static int try_open(const char *path, int flags, int *fd_out)
{
    int fault = dr_fault_io_pass();
    if (fault != 0) {
        return fault;
    }
    int fd = -1;
    do {
        fd = open(path, flags | O_CLOEXEC, 0600);
    } while (fd < 0 && errno == EINTR);
    *fd_out = fd;
    return fd < 0 ? errno : 0;
}

static int try_mkdir(const char *path)
{
    int fault = dr_fault_io_pass();
    if (fault != 0) {
        return fault;
    }
    return mkdir(path, 0700) == 0 ? 0 : errno;
}

static int try_truncate(int fd)
{
    int fault = dr_fault_io_pass();
    if (fault != 0) {
        return fault;
    }
    return ftruncate(fd, 0) == 0 ? 0 : errno;
}

static int try_lock(int fd, int how)
{
    int fault = dr_fault_io_pass();
    if (fault != 0) {
        return fault;
    }
    int rc = 0;
    do {
        rc = flock(fd, how | LOCK_NB);
    } while (rc != 0 && errno == EINTR);
    return rc == 0 ? 0 : errno;
}

static int try_rename(const char *from, const char *to)
{
    int fault = dr_fault_io_pass();
    if (fault != 0) {
        return fault;
    }
    return rename(from, to) == 0 ? 0 : errno;
}

/* EINTR from close() has closed the descriptor on Linux; repeating could close another one. */
static void close_fd(int fd)
{
    if (fd >= 0) {
        (void)close(fd);
    }
}

static enum dr_code make_one_dir(const char *path, struct dr_err *err)
{
    int failure = try_mkdir(path);
    if (failure == 0) {
        return DR_OK;
    }
    /* Existing parents may answer EROFS or EACCES instead of EEXIST, so look before complaining. */
    struct stat info;
    if (stat(path, &info) == 0 && failure != EIO) {
        return S_ISDIR(info.st_mode) ? DR_OK : dr_fail_errno(err, ENOTDIR, "make folder", path);
    }
    return dr_fail_errno(err, failure, "make folder", path);
}

enum dr_code dr_dir_make(const char *path, struct dr_err *err)
{
    if (path[0] == '\0') {
        return dr_fail_errno(err, ENOENT, "make folder", "(empty path)");
    }
    char *part = dr_strdup(path);
    if (part == NULL) {
        return dr_fail_nomem(err);
    }
    enum dr_code rc = DR_OK;
    for (char *at = part + 1; rc == DR_OK && *at != '\0'; at++) {
        if (*at == '/' && at[-1] != '/') {
            *at = '\0';
            rc = make_one_dir(part, err);
            *at = '/';
        }
    }
    if (rc == DR_OK) {
        rc = make_one_dir(part, err);
    }
    dr_free(part);
    return rc;
}

enum dr_code dr_dir_sync(const char *path, struct dr_err *err)
{
    int fd = -1;
    int failure = try_open(path, O_RDONLY | O_DIRECTORY, &fd);
    if (failure != 0) {
        return dr_fail_errno(err, failure, "open folder", path);
    }
    failure = dr_fault_io_pass();
    if (failure == 0 && fsync(fd) != 0) {
        failure = errno;
    }
    close_fd(fd);
    /* Some network file systems cannot sync a folder; they then keep entries safe by themselves. */
    if (failure != 0 && failure != EINVAL && failure != ENOTSUP) {
        return dr_fail_errno(err, failure, "sync folder", path);
    }
    return DR_OK;
}

enum dr_code dr_file_open(const char *path, int flags, int *fd_out, struct dr_err *err)
{
    *fd_out = -1;
    int failure = try_open(path, flags, fd_out);
    if (failure != 0) {
        return dr_fail_errno(err, failure, (flags & O_CREAT) != 0 ? "create" : "open", path);
    }
    return DR_OK;
}

enum dr_code dr_file_write_all(int fd, const char *path, const void *data, size_t bytes,
                               struct dr_err *err)
{
    const unsigned char *at = data;
    size_t left = bytes;
    while (left > 0) {
        int failure = dr_fault_io_pass();
        ssize_t written = failure == 0 ? write(fd, at, left) : -1;
        if (written < 0) {
            failure = failure == 0 ? errno : failure;
            if (failure == EINTR) {
                continue;
            }
            return dr_fail_errno(err, failure, "write", path);
        }
        if (written == 0) { /* would loop for ever; seen only on odd devices */
            return dr_fail_errno(err, EIO, "write", path);
        }
        at += written;
        left -= (size_t)written;
    }
    return DR_OK;
}

enum dr_code dr_file_read_at(int fd, const char *path, uint64_t offset, void *data, size_t bytes,
                             size_t *got_out, struct dr_err *err)
{
    *got_out = 0;
    if (offset > (uint64_t)INT64_MAX - bytes) {
        return dr_fail(err, DR_INPUT, "%s: cannot read: offset %llu is beyond any file", path,
                       (unsigned long long)offset);
    }
    unsigned char *to = data;
    while (*got_out < bytes) {
        int failure = dr_fault_io_pass();
        ssize_t got = -1;
        if (failure == 0) {
            got = pread(fd, to + *got_out, bytes - *got_out, (off_t)(offset + *got_out));
        }
        if (got < 0) {
            failure = failure == 0 ? errno : failure;
            if (failure == EINTR) {
                continue;
            }
            return dr_fail_errno(err, failure, "read", path);
        }
        if (got == 0) {
            break;
        }
        *got_out += (size_t)got;
    }
    return DR_OK;
}

enum dr_code dr_file_sync(int fd, const char *path, struct dr_err *err)
{
    int failure = dr_fault_io_pass();
    if (failure == 0 && fdatasync(fd) != 0) {
        failure = errno;
    }
    if (failure != 0) {
        return dr_fail_errno(err, failure, "sync", path);
    }
    return DR_OK;
}

/* Reads to the end in growing pieces: a pipe or /proc file does not know its size before. */
static enum dr_code read_whole(int fd, const char *path, size_t bytes_max, char **data_out,
                               size_t *bytes_out, struct dr_err *err)
{
    char *data = NULL;
    size_t room = 0;
    size_t used = 0;
    for (;;) {
        if (used + 1 >= room) {
            room = room == 0 ? LOAD_BYTES_FIRST : room * 2;
            char *grown = dr_realloc(data, room);
            if (grown == NULL) {
                dr_free(data);
                return dr_fail_nomem(err);
            }
            data = grown;
        }
        int failure = dr_fault_io_pass();
        ssize_t got = failure == 0 ? read(fd, data + used, room - used - 1) : -1;
        if (got < 0) {
            failure = failure == 0 ? errno : failure;
            if (failure == EINTR) {
                continue;
            }
            dr_free(data);
            return dr_fail_errno(err, failure, "read", path);
        }
        used += (size_t)got;
        if (used > bytes_max) {
            dr_free(data);
            return dr_fail(err, DR_REFUSED, "%s: larger than the %zu bytes allowed here", path,
                           bytes_max);
        }
        if (got == 0) {
            break;
        }
    }
    data[used] = '\0';
    *data_out = data;
    *bytes_out = used;
    return DR_OK;
}

enum dr_code dr_file_load(const char *path, size_t bytes_max, char **data_out, size_t *bytes_out,
                          struct dr_err *err)
{
    *data_out = NULL;
    *bytes_out = 0;
    int fd = -1;
    enum dr_code rc = dr_file_open(path, O_RDONLY, &fd, err);
    if (rc != DR_OK) {
        return rc;
    }
    rc = read_whole(fd, path, bytes_max, data_out, bytes_out, err);
    close_fd(fd);
    return rc;
}

static enum dr_code write_and_sync(const char *path, const void *data, size_t bytes,
                                   struct dr_err *err)
{
    int fd = -1;
    enum dr_code rc = dr_file_open(path, O_WRONLY | O_CREAT | O_TRUNC, &fd, err);
    if (rc != DR_OK) {
        return rc;
    }
    rc = dr_file_write_all(fd, path, data, bytes, err);
    if (rc == DR_OK) {
        rc = dr_file_sync(fd, path, err);
    }
    close_fd(fd);
    return rc;
}

/* Sync the folder that holds `path`. */
static enum dr_code sync_parent(const char *path, struct dr_err *err)
{
    const char *slash = strrchr(path, '/');
    if (slash == NULL) {
        return dr_dir_sync(".", err);
    }
    char *folder = dr_strndup(path, slash == path ? 1 : (size_t)(slash - path));
    if (folder == NULL) {
        return dr_fail_nomem(err);
    }
    enum dr_code rc = dr_dir_sync(folder, err);
    dr_free(folder);
    return rc;
}

enum dr_code dr_file_replace(const char *path, const void *data, size_t bytes, struct dr_err *err)
{
    /* A name per process and call, so that two writers cannot mix their bytes in one file. */
    static _Atomic unsigned calls;
    char *beside = dr_asprintf("%s.%ld-%u.new", path, (long)getpid(), atomic_fetch_add(&calls, 1));
    if (beside == NULL) {
        return dr_fail_nomem(err);
    }
    enum dr_code rc = write_and_sync(beside, data, bytes, err);
    if (rc == DR_OK) {
        int failure = try_rename(beside, path);
        if (failure != 0) {
            rc = dr_fail_errno(err, failure, "rename over", path);
        }
    }
    if (rc != DR_OK) {
        (void)unlink(beside);
    } else {
        rc = sync_parent(path, err);
    }
    dr_free(beside);
    return rc;
}

/* The text the holder left, cut at the first line end; "" when it cannot be read. */
static void read_holder(int fd, char *holder, size_t holder_bytes)
{
    if (holder == NULL || holder_bytes == 0) {
        return;
    }
    ssize_t got = pread(fd, holder, holder_bytes - 1, 0);
    holder[got > 0 ? got : 0] = '\0';
    holder[strcspn(holder, "\n")] = '\0';
}

/* dr_file_is_locked() holds a shared lock for an instant; a few tries keep that from looking like a
 * real holder. */
static int lock_with_retry(int fd)
{
    int failure = 0;
    for (int i = 0; i < LOCK_TRIES_MAX; i++) {
        failure = try_lock(fd, LOCK_EX);
        if (failure != EWOULDBLOCK) {
            break;
        }
        (void)dr_wait_ms(LOCK_RETRY_MS, NULL, NULL);
    }
    return failure;
}

enum dr_code dr_file_lock(const char *path, const char *content, int *fd_out, char *holder,
                          size_t holder_bytes, struct dr_err *err)
{
    *fd_out = -1;
    if (holder != NULL && holder_bytes > 0) {
        holder[0] = '\0';
    }
    int fd = -1;
    enum dr_code rc = dr_file_open(path, O_RDWR | O_CREAT, &fd, err);
    if (rc != DR_OK) {
        return rc;
    }
    int failure = lock_with_retry(fd);
    if (failure == EWOULDBLOCK) {
        char who[128];
        read_holder(fd, holder, holder_bytes);
        read_holder(fd, who, sizeof who);
        rc =
            dr_fail(err, DR_BUSY, "%s: held by %s", path, who[0] == '\0' ? "another process" : who);
        goto out;
    }
    if (failure != 0) {
        rc = dr_fail_errno(err, failure, "lock", path);
        goto out;
    }
    failure = try_truncate(fd);
    if (failure != 0) {
        rc = dr_fail_errno(err, failure, "truncate", path);
        goto out;
    }
    rc = dr_file_write_all(fd, path, content, strlen(content), err);
out:
    if (rc == DR_OK) {
        *fd_out = fd;
    } else {
        close_fd(fd);
    }
    return rc;
}

bool dr_file_is_locked(const char *path, char *holder, size_t holder_bytes)
{
    if (holder != NULL && holder_bytes > 0) {
        holder[0] = '\0';
    }
    int fd = -1;
    if (try_open(path, O_RDONLY, &fd) != 0) {
        return false;
    }
    bool is_locked = try_lock(fd, LOCK_SH) == EWOULDBLOCK;
    if (is_locked) {
        read_holder(fd, holder, holder_bytes);
    }
    close_fd(fd);
    return is_locked;
}

enum dr_code dr_disk_free(const char *path, uint64_t *bytes_out, struct dr_err *err)
{
    *bytes_out = 0;
    int failure = dr_fault_io_pass();
    struct statvfs info;
    if (failure == 0 && statvfs(path, &info) != 0) {
        failure = errno;
    }
    if (failure != 0) {
        return dr_fail_errno(err, failure, "ask for free space", path);
    }
    /* f_bavail, not f_bfree: the reserve of root is not ours to use. */
    *bytes_out = (uint64_t)info.f_bavail * (uint64_t)info.f_frsize;
    return DR_OK;
}
