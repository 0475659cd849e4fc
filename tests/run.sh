#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# `make test`: a few quick programs, then unit, conform, worker and adapter tests under ASan+UBSan and
# TSan, what mostly waits for servers without them, the command line, crash tests and a short fuzz run.
# `tests/run.sh soak` runs every program in every form, and the long forms.
set -u
cd "$(dirname "$0")/.." || exit 1
mode=${1:-test}
# Most tests wait: for servers, for the disk, for time to pass. So there is one more than cores.
jobs=${JOBS:-$(($(nproc) + 1))}
# libmongoc makes a segment in /dev/shm when a program starts that is linked with it. The killed ones
# leave theirs, and one that gets an old number again says so on standard error.
export MONGOC_DISABLE_SHM=1
results=$(mktemp)
trap 'rm -f "$results"' EXIT
# Make a variant: configure DIR CMAKE-ARGUMENT...; then build DIR TARGET...
configure() {
    dir=$1
    shift
    cmake -S . -B "$dir" -DDROVER_TESTS=ON -DDROVER_FAULTS=ON -DDROVER_WERROR=ON "$@" >"$dir.log" 2>&1 || {
        tail -n 40 "$dir.log"
        echo "test: configuring $dir failed"
        exit 1
    }
}
build() {
    dir=$1
    shift
    cmake --build "$dir" -j "$(nproc)" --target "$@" >"$dir.log" 2>&1 || {
        tail -n 40 "$dir.log"
        echo "test: building $dir failed"
        exit 1
    }
}
# The test programs that a variant can have: names DIR [PATTERN-OF-NAMES-LEFT-OUT]
names() { cmake --build "$1" --target help | grep -oE 'test_[a-z0-9_]+$' | grep -vE "${2:-^$}" | sort -u; }
# Run several, as many side by side as there are jobs: lines "NAME<tab>COMMAND" on standard input.
several() { tr '\t' '\n' | xargs -d '\n' -n 2 -P "$jobs" sh -c 'exec tests/one.sh "$0" "$1" sh -c "$2"' "$results"; }
# The long ones begin first, so that none is left alone at the end.
long='^test_(conform|shard_ops|fleet|manticore_store|redis_trouble|redis_cluster|purge_trouble|cluster|raft|files|queue_io|sql_walk|sql_plan|mongodb_)'
programs() { # programs DIR LABEL NAME...
    dir=$1
    label=$2
    shift 2
    for base in "$@"; do
        rank=1
        if echo "$base" | grep -qE "$long"; then rank=0; fi
        printf '%s%s %s\ttimeout 600 %s/%s\n' "$rank" "$label" "$base" "$dir" "$base"
    done | sort -s -k 1.1,1.1 | cut -c 2- | several
}
mkdir -p build
quick="test_base test_plan test_queue test_step test_worker test_cli"
waiting="test_redis_trouble test_redis_cluster test_purge_trouble"
configure build/test
# shellcheck disable=SC2046,SC2086
if [ "$mode" = soak ]; then
    build build/test all drover-sample
    programs build/test plain $(names build/test)
else
    build build/test drover drover-sample $quick $waiting
    programs build/test plain $quick
    programs build/test plain $waiting
fi
# At -O1 the sanitizers see the same and compile in two thirds of the time. What mostly waits for
# servers that were killed says the same a second time.
leave="^($(echo "$waiting" | tr ' ' '|'))\$"
[ "$mode" = soak ] && leave=
configure build/asan -DDROVER_SANITIZE=address "-DCMAKE_C_FLAGS_RELWITHDEBINFO=-O1 -g"
# shellcheck disable=SC2046
build build/asan all
# shellcheck disable=SC2046
programs build/asan asan $(names build/asan "$leave")
# A store handle belongs to one thread; what threads share is the queue, the worker and the doors: the
# programs that start none are left out. Without gRPC: what it hands from thread to thread is ordered
# by atomics that are not instrumented.
alone='^test_(conform|redis_|archive|keyseq|plan|request|cli|catalog_api|health|alerts|sqlite_shard|placement'
alone="$alone|table|ring|codec|route|replicas|promote|apply|random|step_copy|tuning)"
configure build/tsan -DDROVER_SANITIZE=thread "-DCMAKE_C_FLAGS_RELWITHDEBINFO=-O1 -g" -DDROVER_STORE_MONGODB=OFF -DDROVER_STORE_MARIADB=OFF -DDROVER_STORE_MANTICORE=OFF \
    -DDROVER_STORE_POSTGRES=OFF -DDROVER_TOKENSERVER=OFF -DDROVER_GRPC=OFF
TSAN_OPTIONS="halt_on_error=1:suppressions=$(pwd)/tests/tsan.supp"
export TSAN_OPTIONS
helpers=$(cmake --build build/tsan --target help | grep -oE '(raft_peer|drover)$' | sort -u)
# shellcheck disable=SC2046,SC2086
build build/tsan $helpers $(names build/tsan "$alone")
# shellcheck disable=SC2046
programs build/tsan tsan $(names build/tsan "$alone")
unset TSAN_OPTIONS
sql_seconds=8 random=60 random_mongodb=25 seconds=20 matrix=small long=""
[ "$mode" = soak ] && sql_seconds=1200 random=5000 random_mongodb=1000 seconds=1800 matrix=full long=" --long"
{
    printf 'crash\tpython3 tests/crash/crash.py build/test --random %s\n' "$random"
    printf 'fuzz\ttests/fuzz/run.sh %s\n' "$seconds"
    printf 'crash sql\tpython3 tests/crash/crash_sql.py build/test --seconds %s\n' "$sql_seconds"
    printf 'crash table\tpython3 tests/crash/crash_table.py build/test --matrix %s\n' "$matrix"
    printf 'crash table manticore\tpython3 tests/crash/crash_table_manticore.py build/test --matrix %s\n' "$matrix"
    printf 'stand-in of a Manticore node\tpython3 tests/support/test_manticore_standin.py\n'
    printf 'crash mongodb\tpython3 tests/crash/crash_mongodb.py build/test --random %s\n' "$random_mongodb"
    printf 'parts left out\ttests/e2e/options.sh\n'
    printf 'stand-in of a MongoDB router\tpython3 tests/support/test_mongo_standin.py\n'
    for script in tests/e2e/test_*.sh; do
        more=""
        case "$script" in */test_cluster.sh | */test_table.sh | */test_table_manticore.sh) more=$long ;; esac
        printf 'e2e %s\t%s build/test%s\n' "$(basename "$script" .sh)" "$script" "$more"
    done
} | several
failed=$(grep -c '^FAIL' "$results")
echo "$(grep -c '^ok' "$results") passed, $failed failed"
grep '^FAIL' "$results"
[ "$failed" = 0 ] && grep -q '^ok' "$results"
