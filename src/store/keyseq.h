/* SPDX-License-Identifier: Apache-2.0 */
/* The deterministic key sequence of a description: which keys statistics of a service can have, by
 * arithmetic. Any (offset, length) is reached without generating what lies before it. Pure.
 *
 * A description is a job's JSON (see "redis.purge-stats"): "services", "applications", "metrics",
 * "users" (lists of texts), "from", "to" (seconds UTC, from <= to), and "layout", which is optional
 * and defaults to the 3scale one:
 *   {"sections": [{"path": "stats/{service:$service}/metric:$metric",
 *                  "periods": ["eternity","month","week","day","hour"]}, ...],
 *    "values": {"code": ["200","2XX", ...]},
 *    "exclude": ["*cinstances*"], "prefix": "stats/", "marked_set": "set_with_..."}
 * A section's path may name the dimensions $service $application $metric $user and any of "values".
 * Its keys are the product of its dimensions' values with the periods that touch [from, to]; a key
 * is PATH "/" GRANULARITY and, but for eternity, ":" PERIOD.
 *
 * Source of the key format: apisonator's stats keys (see docs/redis-stats.md). */
#ifndef DR_STORE_KEYSEQ_H
#define DR_STORE_KEYSEQ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/json.h"

enum dr_period { DR_P_ETERNITY, DR_P_YEAR, DR_P_MONTH, DR_P_WEEK, DR_P_DAY, DR_P_HOUR };

enum { DR_KEYSEQ_KEY_BYTES_MAX = 1024, DR_KEYSEQ_VALUES_MAX = 100000, DR_KEYSEQ_SECTIONS_MAX = 32 };

struct dr_keyseq;

/* Build from a job's JSON (keys of other meaning are ignored). DR_INPUT names the field: from or to
 * zero, not a number or out of order, a list that is none or holds something else than texts, an
 * unknown dimension or period, no service. `path` is shown in messages ("job.json"). */
DR_MUST enum dr_code dr_keyseq_create(const json_t *job, const char *path, struct dr_keyseq **out,
                                      struct dr_err *err);
void dr_keyseq_destroy(struct dr_keyseq *s); /* accepts NULL */
/* Number of keys; saturates at INT64_MAX. 0 when the description lists nothing to generate from (no
 * period, or a dimension without values in every section): then only a scan can find the keys. */
uint64_t dr_keyseq_count(const struct dr_keyseq *s);

/* A position in the sequence. Opens at `offset` in O(sections). */
struct dr_keyseq_at {
    const struct dr_keyseq *seq;
    uint64_t offset;  /* of the key that next() gives */
    uint32_t section; /* the rest is next()'s own */
    uint64_t in_section;
    uint64_t index[8];
    uint32_t period;
    uint64_t in_period;
    int64_t start; /* Unix seconds of the period the next key names */
    size_t stem_bytes;
    char key[DR_KEYSEQ_KEY_BYTES_MAX];
};
void dr_keyseq_seek(struct dr_keyseq_at *at, const struct dr_keyseq *s, uint64_t offset);
/* The key at the position, then one further. False at the end. *key_out is borrowed until the next
 * call, NUL-terminated. Neighbouring keys share their stem: at least 5,000,000 keys/s a core. */
bool dr_keyseq_next(struct dr_keyseq_at *at, const char **key_out, size_t *bytes_out);

/* What a key is, for scans: does it belong to the layout, and to one of the description's services,
 * applications, metrics, users (an empty list: any) and period? Keys that the layout excludes, has
 * no section for, or whose fields or period are malformed are DR_KEY_ALIEN and never touched. */
enum dr_key_kind { DR_KEY_ALIEN, DR_KEY_OTHER, DR_KEY_SELECTED };
enum dr_key_kind dr_keyseq_classify(const struct dr_keyseq *s, const char *key, size_t bytes);
/* The services, for patterns and the marked set. */
uint32_t dr_keyseq_service_count(const struct dr_keyseq *s);
const char *dr_keyseq_service(const struct dr_keyseq *s, uint32_t i);
/* A SCAN pattern that all keys of service i match ("stats/{service:1006}*", glob characters of the
 * service's name escaped); i == UINT32_MAX: of the whole layout (its prefix). */
const char *dr_keyseq_pattern(const struct dr_keyseq *s, uint32_t i);
const char *dr_keyseq_marked_set(const struct dr_keyseq *s);
/* "201912161": the text of a period's start; for tests and display. buf at least 16 bytes. */
char *dr_period_text(enum dr_period p, int64_t start, char *buf, size_t buf_bytes);
/* The cluster slot (0 to 16383) of a key: CRC16 of its hash tag, or of all of it without one. */
uint32_t dr_redis_slot(const char *key, size_t bytes);

#endif
