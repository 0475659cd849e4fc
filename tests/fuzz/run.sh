#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Run every libFuzzer target for some seconds in all: `tests/fuzz/run.sh [SECONDS]` (default 30).
# Inputs found before live in tests/fuzz/corpus/NAME; a crash leaves its input in build/fuzz.
set -eu
cd "$(dirname "$0")/../.."
seconds=${1:-30}
# Only the targets and what they reach, with no store and no door configured: most of the time went into building
# what no target calls.
cmake -S . -B build/fuzz -DCMAKE_C_COMPILER=clang -DDROVER_FUZZ=ON -DDROVER_FAULTS=ON \
    "-DCMAKE_C_FLAGS_RELWITHDEBINFO=-O1 -g" -DDROVER_STORE_REDIS=OFF -DDROVER_STORE_MONGODB=OFF \
    -DDROVER_STORE_MARIADB=OFF -DDROVER_STORE_POSTGRES=OFF -DDROVER_STORE_MANTICORE=OFF -DDROVER_TOKENSERVER=OFF \
    -DDROVER_API=OFF -DDROVER_GRPC=OFF -DDROVER_RAFT=OFF >/dev/null
cmake --build build/fuzz -j "$(nproc)" --target fuzzers >/dev/null
passed=0
failed=0
count=0
for source in tests/fuzz/fuzz_*.c; do count=$((count + 1)); done
each=$(((seconds + count - 1) / count))
for source in tests/fuzz/fuzz_*.c; do
    name=$(basename "$source" .c)
    mkdir -p "build/fuzz/corpus-$name"
    seeds=tests/fuzz/corpus/$name
    [ -d "$seeds" ] || seeds=
    # shellcheck disable=SC2086
    if (cd build/fuzz && "./$name" -max_total_time="$each" -rss_limit_mb=2048 -timeout=10 \
        -print_final_stats=1 "corpus-$name" ${seeds:+"../../$seeds"}) >"build/fuzz/$name.log" 2>&1; then
        passed=$((passed + 1))
        echo "fuzz: $name: $(sed -n 's/^stat::number_of_executed_units: *//p' "build/fuzz/$name.log") inputs, no finding"
    else
        failed=$((failed + 1))
        echo "fuzz: $name: FAILED"
        tail -n 40 "build/fuzz/$name.log"
    fi
done
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
