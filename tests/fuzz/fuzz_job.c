/* SPDX-License-Identifier: Apache-2.0 */
/* A job's text from anywhere: parsed and guarded, or refused with a reason; never a crash. A job
 * that was taken must be taken again from its own record, and its tuning from its own JSON. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "request/request.h"

static void expect(int is_so)
{
    if (!is_so) {
        abort();
    }
}

static void check_tuning(const struct dr_tuning *t)
{
    struct dr_err err = {0};
    struct dr_tuning again;
    json_t *j = dr_tuning_to_json(t);
    expect(j != NULL);
    dr_tuning_default(&again);
    expect(dr_tuning_parse(j, "again", &again, &err) == DR_OK);
    json_decref(j);
    expect(again.quiet_count == t->quiet_count && again.zone == t->zone);
    expect(memcmp(again.quiet, t->quiet, t->quiet_count * sizeof t->quiet[0]) == 0);
    for (dr_wall_ms now = 1700000000123; now < 1700000000123 + 7 * 86400000LL; now += 39600000) {
        dr_wall_ms over = 0;
        if (dr_tuning_is_quiet(t, now, &over)) {
            expect(over > now && over <= now + 7 * 86400000LL);
        } else {
            expect(over == now);
        }
    }
}

static void check_request(const struct dr_request *r)
{
    struct dr_err err = {0};
    struct dr_request *again = NULL;
    expect(dr_request_target(r)[0] != '\0');
    enum dr_code rc = dr_request_guard(r, NULL, &err);
    expect(rc == DR_OK || rc == DR_REFUSED);
    expect((rc == DR_OK) == (err.msg[0] == '\0'));
    expect(dr_request_parse(r->json, "again", &again, &err) == DR_OK);
    expect(strcmp(dr_request_target(again), dr_request_target(r)) == 0);
    expect(dr_request_guard(again, NULL, NULL) == rc);
    dr_request_destroy(again);
    check_tuning(&r->tuning);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct dr_err err = {0};
    json_t *job = NULL;
    if (dr_json_parse("job", (const char *)data, size, &job, &err) != DR_OK) {
        expect(err.msg[0] != '\0');
        return 0;
    }
    struct dr_request *r = NULL;
    enum dr_code rc = dr_request_parse(job, "job", &r, &err);
    json_decref(job);
    expect((rc == DR_OK) == (r != NULL));
    expect(rc == DR_OK || err.msg[0] != '\0');
    if (r != NULL) {
        check_request(r);
        dr_request_destroy(r);
    }
    return 0;
}
