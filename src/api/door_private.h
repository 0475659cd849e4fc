/* SPDX-License-Identifier: Apache-2.0 */
/* What the two doors of the catalog share: how a failure looks on each, and what is wrong with a
 * body before anybody is asked. gRPC messages become the JSON of REST, so that both are checked by
 * the same rules and end in the same calls. Pure but for dr_door_call. */
#ifndef DR_API_DOOR_PRIVATE_H
#define DR_API_DOOR_PRIVATE_H

#include <stdbool.h>
#include <stdint.h>

#include "api/api.h"
#include "base/json.h"
#include "cluster/cluster.h"

enum {
    DR_DOOR_TEXT_BYTES = 512,
    DR_DOOR_TIMEOUT_S_MAX = 3600,
    DR_DOOR_NAME_BYTES_MAX = 255,
};

/* What clients look at: they warn when it is far from their own. */
#define DR_DOOR_TITLE "drover"
#define DR_DOOR_VERSION "1.19.0"

unsigned dr_class_http(enum dr_cluster_class class);
int dr_class_grpc(enum dr_cluster_class class); /* the number of the status */
/* "Not found: " ...; "" where the message stands alone. */
const char *dr_class_prefix(enum dr_cluster_class class);

/* FORMAT: a field is missing or has another type; RANGE: it has the right type and a value that
 * cannot be. */
enum dr_fault_kind { DR_FAULT_NONE, DR_FAULT_FORMAT, DR_FAULT_RANGE };
struct dr_fault {
    enum dr_fault_kind kind;
    char text[DR_DOOR_TEXT_BYTES]; /* "shard_number: value 0 invalid, must be 1 or larger" */
};

/* Each is true when nothing is wrong, else fills *f. A body NULL is an empty one. */
bool dr_check_create(const json_t *body, struct dr_fault *f);
bool dr_check_update(const json_t *body, struct dr_fault *f);
bool dr_check_create_key(const json_t *body, struct dr_fault *f);
bool dr_check_drop_key(const json_t *body, struct dr_fault *f);
bool dr_check_cluster_op(const json_t *body, struct dr_fault *f);
bool dr_check_promote(const json_t *body, struct dr_fault *f);
bool dr_check_aliases(const json_t *body, struct dr_fault *f);
bool dr_check_upsert(const json_t *body, struct dr_fault *f);
bool dr_check_points_delete(const json_t *body, struct dr_fault *f);
bool dr_check_points_get(const json_t *body, struct dr_fault *f);
bool dr_check_count(const json_t *body, struct dr_fault *f);
bool dr_check_scroll(const json_t *body, struct dr_fault *f);
/* A collection's name; `is_new` has more rules. */
bool dr_check_name(const char *name, bool is_new, struct dr_fault *f);
bool dr_check_timeout(uint64_t seconds, struct dr_fault *f);

/* POST /collections/{c}/cluster: the promotion among its operations is the same call as the one
 * with a path of its own, and answers `true` like the others. */
void dr_door_cluster_op(struct dr_cluster *c, const struct dr_cluster_caller *who,
                        const char *collection, const json_t *body, struct dr_cluster_reply *reply);

#endif
