/* SPDX-License-Identifier: Apache-2.0 */
/* Group commit: one thread takes whatever writing is waiting and puts it into one transaction, so
 * that one fsync covers many leases, saves and completions.
 *
 * A job that fails alone is taken back alone (savepoint). When the transaction cannot begin or
 * commit, every job in it failed. The grouping needs no timer: while one commit waits for the disk,
 * the next group gathers. */
#include <assert.h>
#include <string.h>

#include "base/fault.h"
#include "queue/sqlite/queue_private.h"

static enum dr_code run_one(struct dr_queue *q, struct queue_job *job, bool is_alone)
{
    static const char save[] = "SAVEPOINT job";
    static const char release[] = "RELEASE job";
    static const char back[] = "ROLLBACK TO job";
    if (is_alone) {
        return job->run(q, job, &job->err);
    }
    enum dr_code rc = dr_q_run(&q->w, &job->err, save, "");
    if (rc != DR_OK) {
        return rc;
    }
    rc = job->run(q, job, &job->err);
    struct dr_err ignored;
    if (rc != DR_OK && sqlite3_get_autocommit(q->w.sql.db) == 0) {
        enum dr_code undone = dr_q_run(&q->w, &ignored, back, "");
        (void)undone; /* failing means SQLite has rolled everything back: the commit will say so */
    }
    if (sqlite3_get_autocommit(q->w.sql.db) == 0) {
        enum dr_code released = dr_q_run(&q->w, &ignored, release, "");
        (void)released;
    }
    return rc;
}

static void fail_all(struct queue_job *group, const struct dr_err *err)
{
    for (struct queue_job *job = group; job != NULL; job = job->next) {
        if (job->rc == DR_OK) {
            job->rc = err->code;
            job->err = *err;
        }
    }
}

/* One transaction for the whole list. Every job gets its rc. */
static void commit_group(struct dr_queue *q, struct queue_job *group)
{
    struct dr_err err = {0};
    bool is_alone = group->next == NULL;
    enum dr_code rc = dr_sql_begin(&q->w.sql, &err);
    if (rc != DR_OK) {
        fail_all(group, &err);
        return;
    }
    for (struct queue_job *job = group; job != NULL; job = job->next) {
        job->rc = run_one(q, job, is_alone);
        if (sqlite3_get_autocommit(q->w.sql.db) != 0) {
            /* Some errors (a full disk, an I/O error) end the transaction by themselves. */
            err = job->err;
            fail_all(group, &err);
            return;
        }
    }
    if (is_alone && group->rc != DR_OK) {
        dr_sql_rollback(&q->w.sql);
        return;
    }
    rc = dr_fault_pass("queue.commit.before", &err);
    if (rc == DR_OK) {
        rc = dr_sql_commit(&q->w.sql, &err);
    } else {
        dr_sql_rollback(&q->w.sql);
    }
    dr_fault_mark("queue.commit.after");
    if (rc != DR_OK) {
        fail_all(group, &err);
    }
}

/* A posted write has nobody waiting: its failure is kept for the lease's next call and the flush.
 */
static void note_posted_failure(struct dr_queue *q, const struct queue_job *job)
{
    if (q->posted_err.code == DR_OK) {
        q->posted_err = job->err;
    }
    if (job->step_id == 0) {
        return;
    }
    unsigned at = q->lost_count < QUEUE_LOST_MAX ? q->lost_count++ : QUEUE_LOST_MAX - 1;
    q->lost[at].step_id = job->step_id;
    q->lost[at].token = job->token;
    q->lost[at].err = job->err;
}

static struct queue_job *take_group(struct dr_queue *q)
{
    struct queue_job *group = q->first;
    struct queue_job *end = group;
    for (unsigned n = 1; n < QUEUE_GROUP_MAX && end->next != NULL; n++) {
        end = end->next;
    }
    q->first = end->next;
    if (q->first == NULL) {
        q->last = NULL;
    }
    end->next = NULL;
    return group;
}

static void *committer_main(void *arg)
{
    struct dr_queue *q = arg;
    (void)pthread_mutex_lock(&q->mutex);
    for (;;) {
        while (q->first == NULL && !q->is_closing) {
            (void)pthread_cond_wait(&q->has_work, &q->mutex);
        }
        if (q->first == NULL) {
            break;
        }
        struct queue_job *group = take_group(q);
        (void)pthread_mutex_unlock(&q->mutex);
        commit_group(q, group);
        (void)pthread_mutex_lock(&q->mutex);
        while (group != NULL) {
            struct queue_job *job = group;
            group = job->next; /* a waiter may return as soon as is_done shows */
            if (!job->is_posted) {
                job->is_done = true;
                continue;
            }
            q->posted--;
            if (job->rc != DR_OK) {
                note_posted_failure(q, job);
            }
            dr_free(job);
        }
        (void)pthread_cond_broadcast(&q->has_result);
    }
    (void)pthread_mutex_unlock(&q->mutex);
    return NULL;
}

static void append(struct dr_queue *q, struct queue_job *job)
{
    job->next = NULL;
    if (q->last != NULL) {
        q->last->next = job;
    } else {
        q->first = job;
    }
    q->last = job;
    (void)pthread_cond_signal(&q->has_work);
}

enum dr_code dr_q_commit(struct dr_queue *q,
                         enum dr_code (*run)(struct dr_queue *, struct queue_job *,
                                             struct dr_err *),
                         void *arg, struct dr_err *err)
{
    struct queue_job job = {.run = run, .arg = arg};
    (void)pthread_mutex_lock(&q->mutex);
    append(q, &job);
    while (!job.is_done) {
        (void)pthread_cond_wait(&q->has_result, &q->mutex);
    }
    (void)pthread_mutex_unlock(&q->mutex);
    if (job.rc != DR_OK && err != NULL) {
        *err = job.err;
    }
    return job.rc;
}

void dr_q_post(struct dr_queue *q, struct queue_job *job)
{
    job->is_posted = true;
    (void)pthread_mutex_lock(&q->mutex);
    while (q->posted >= QUEUE_POSTED_MAX) {
        (void)pthread_cond_wait(&q->has_result, &q->mutex);
    }
    q->posted++;
    append(q, job);
    (void)pthread_mutex_unlock(&q->mutex);
}

static enum dr_code run_nothing(struct dr_queue *q, struct queue_job *job, struct dr_err *err)
{
    (void)q;
    (void)job;
    (void)err;
    return DR_OK;
}

enum dr_code dr_queue_flush(struct dr_queue *q, struct dr_err *err)
{
    /* Jobs are done in order: once this one is, so is all that was posted before. */
    enum dr_code rc = dr_q_commit(q, run_nothing, NULL, err);
    (void)pthread_mutex_lock(&q->mutex);
    if (rc == DR_OK && q->posted_err.code != DR_OK) {
        rc = q->posted_err.code;
        if (err != NULL) {
            *err = q->posted_err;
        }
    }
    q->posted_err = (struct dr_err){0};
    (void)pthread_mutex_unlock(&q->mutex);
    return rc;
}

enum dr_code dr_q_start(struct dr_queue *q, struct dr_err *err)
{
    int rc = pthread_create(&q->committer, NULL, committer_main, q);
    if (rc != 0) {
        return dr_fail_errno(err, rc, "start a thread for", q->db_path);
    }
    q->has_committer = true;
    return DR_OK;
}

void dr_q_stop(struct dr_queue *q)
{
    if (!q->has_committer) {
        return;
    }
    (void)pthread_mutex_lock(&q->mutex);
    q->is_closing = true;
    (void)pthread_cond_broadcast(&q->has_work);
    (void)pthread_mutex_unlock(&q->mutex);
    (void)pthread_join(q->committer, NULL);
    q->has_committer = false;
}
