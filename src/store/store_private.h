/* SPDX-License-Identifier: Apache-2.0 */
/* What a handle is: shared by the thick wrappers of store/ (store.c, shard.c), seen by nobody else.
 */
#ifndef DR_STORE_STORE_PRIVATE_H
#define DR_STORE_STORE_PRIVATE_H

#include "store/store.h"

struct dr_store {
    const struct dr_store_ops *ops;
    void *impl;
    char *shown_url; /* without secrets */
};

#endif
