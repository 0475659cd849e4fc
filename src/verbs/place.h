/* SPDX-License-Identifier: Apache-2.0 */
/* Whom a failed call was talking to: the same code means different things at each, so every door
 * (exit codes, HTTP statuses) asks for both. */
#ifndef DR_VERBS_PLACE_H
#define DR_VERBS_PLACE_H

enum dr_place {
    DR_AT_NOTHING, /* arguments, the job, pure code */
    DR_AT_DATA,    /* the data folder and its queue */
    DR_AT_STORE,   /* the database */
    DR_AT_ARCHIVE, /* segment files in the data folder */
};

#endif
