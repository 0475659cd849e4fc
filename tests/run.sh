#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# `make test`: unit, conform, worker and adapter tests plain and under ASan+UBSan and TSan, then the
# command line and crash tests, then a short fuzz run. `tests/run.sh soak` runs the long forms.
set -u
cd "$(dirname "$0")/.." || exit 1
mode=${1:-test}
jobs=${JOBS:-$(nproc)}
# libmongoc makes a segment in /dev/shm when a program starts that is linked with it. The killed ones
# leave theirs, and one that gets an old number again says so on standard error.
export MONGOC_DISABLE_SHM=1
results=$(mktemp)
trap 'rm -f "$results"' EXIT
# Build a variant: build DIR CMAKE-ARGUMENT...
build() {
    dir=$1
    shift
    cmake -S . -B "$dir" -DDROVER_TESTS=ON -DDROVER_FAULTS=ON -DDROVER_WERROR=ON "$@" >/dev/null &&
        cmake --build "$dir" -j "$(nproc)" >"$dir/build.log" 2>&1 || {
        tail -n 40 "$dir/build.log"
        echo "test: building $dir failed"
        exit 1
    }
}
one() { tests/one.sh "$results" "$@"; }
# Run several, as many side by side as there are jobs: lines "NAME<tab>COMMAND" on standard input.
several() { tr '\t' '\n' | xargs -d '\n' -n 2 -P "$jobs" sh -c 'exec tests/one.sh "$0" "$1" sh -c "$2"' "$results"; }
programs() { # programs DIR LABEL [PATTERN-OF-NAMES-LEFT-OUT]
    for program in "$1"/test_*; do
        [ -x "$program" ] || continue
        base=$(basename "$program")
        if [ -n "${3:-}" ] && echo "$base" | grep -qE "$3"; then continue; fi
        printf '%s %s\ttimeout 600 %s\n' "$2" "$base" "$program"
    done | several
}

build build/test
programs build/test plain
one "plain store left out" tests/e2e/options.sh
# What mostly waits for servers that were killed says the same a second time; soak says it.
slow='^test_(redis_trouble|redis_cluster|purge_trouble)'
[ "$mode" = soak ] && slow=""
build build/asan -DDROVER_SANITIZE=address
programs build/asan asan "$slow"
# A store handle belongs to one thread; what threads share is the queue, the worker and the doors.
build build/tsan -DDROVER_SANITIZE=thread -DDROVER_STORE_MONGODB=OFF -DDROVER_STORE_MARIADB=OFF \
    -DDROVER_STORE_POSTGRES=OFF -DDROVER_TOKENSERVER=OFF
export TSAN_OPTIONS="halt_on_error=1"
programs build/tsan tsan '^test_(conform|redis_|archive_damage|keyseq|plan|request|cli)'
unset TSAN_OPTIONS
sql_seconds=25 random=200 random_mongodb=30 seconds=30
[ "$mode" = soak ] && sql_seconds=1200 random=5000 random_mongodb=1000 seconds=1800
{
    printf 'crash\tpython3 tests/crash/crash.py build/test --random %s\n' "$random"
    printf 'crash sql\tpython3 tests/crash/crash_sql.py build/test --seconds %s\n' "$sql_seconds"
    printf 'crash mongodb\tpython3 tests/crash/crash_mongodb.py build/test --random %s\n' "$random_mongodb"
    printf 'stand-in of a MongoDB router\tpython3 tests/support/test_mongo_standin.py\n'
    for script in tests/e2e/test_*.sh; do
        printf 'e2e %s\t%s build/test\n' "$(basename "$script" .sh)" "$script"
    done
} | several
one "fuzz" tests/fuzz/run.sh "$seconds"
failed=$(grep -c '^FAIL' "$results")
echo "$(grep -c '^ok' "$results") passed, $failed failed"
grep '^FAIL' "$results"
[ "$failed" = 0 ] && grep -q '^ok' "$results"
