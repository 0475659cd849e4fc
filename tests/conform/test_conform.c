/* SPDX-License-Identifier: Apache-2.0 */
/* Runs the one list of promises on every store adapter this build has. */
#include <stdio.h>
#include <string.h>

#include "conform/conform.h"

enum { TESTS_MAX = 128 };

/* Copies the tests, because each run gives them another fixture as their first state. */
static int run_list(const char *what, const struct CMUnitTest *list, size_t count,
                    const struct conform_fixture *f)
{
    struct CMUnitTest test[TESTS_MAX];
    char name[96];
    assert_true(count <= TESTS_MAX);
    for (size_t i = 0; i < count; i++) {
        test[i] = list[i];
        test[i].initial_state = (void *)(uintptr_t)f;
    }
    (void)snprintf(name, sizeof name, "%s: %s", f->name, what);
    int failed = _cmocka_run_group_tests(name, test, count, NULL, NULL);
    (void)printf("conform: %s: %zu promises, %d broken\n", name, count, failed);
    return failed;
}

static int run_promises(const struct conform_fixture *f)
{
    return run_list("looking", conform_reading, conform_reading_count, f) +
           run_list("changing", conform_changing, conform_changing_count, f);
}

#if defined DROVER_STORE_MARIADB && defined DROVER_STORE_POSTGRES
/* Stores whose columns have types cannot hold a number and a text in the same one, which is what
 * this promise compares; tests/sql/test_sql_store.c has its like. */
static int run_typed_promises(const struct conform_fixture *f)
{
    struct CMUnitTest test[TESTS_MAX];
    size_t count = 0;
    for (size_t i = 0; i < conform_reading_count; i++) {
        if (strcmp(conform_reading[i].name, "filters_select_exactly_what_they_say") != 0) {
            test[count++] = conform_reading[i];
        }
    }
    assert_int_equal(count, conform_reading_count - 1);
    return run_list("looking", test, count, f) +
           run_list("changing", conform_changing, conform_changing_count, f);
}
#endif

int main(void)
{
    int failed = run_promises(&conform_memory);
    failed += run_list("own functions", conform_memory_alone, conform_memory_alone_count,
                       &conform_memory);
#ifdef DROVER_STORE_SQLITE
    failed += run_promises(&conform_sqlite_plain);
    failed += run_promises(&conform_sqlite_sharded);
#endif
#if defined DROVER_STORE_MARIADB && defined DROVER_STORE_POSTGRES
    failed += run_typed_promises(&conform_mariadb);
    failed += run_typed_promises(&conform_postgres);
#endif
#ifdef DROVER_STORE_MONGODB
    failed += run_promises(&conform_mongodb_plain);
    failed += run_promises(&conform_mongodb_sharded);
    failed += run_promises(&conform_mongodb_sharded_new);
    conform_hash_by(NULL);
#endif
#ifdef DROVER_FAULTS
    struct conform_fixture wrapped = conform_memory;
    wrapped.name = "fault over memory";
    wrapped.prefix = "fault:none|";
    failed += run_promises(&wrapped);
    failed += run_list("faults", conform_faults, conform_faults_count, &conform_memory);
#ifdef DROVER_STORE_SQLITE
    wrapped = conform_sqlite_sharded;
    wrapped.name = "fault over sqlite";
    wrapped.prefix = "fault:erase=none@1+1000;;*=delay:0@3|";
    failed += run_promises(&wrapped);
    failed += run_list("faults", conform_faults, conform_faults_count, &conform_sqlite_sharded);
#endif
#endif
    return failed == 0 ? 0 : 1;
}
