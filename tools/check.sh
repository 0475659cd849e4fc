#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# `make check`: formatter, layers, style, cppcheck, clang-tidy. Names each and stops at none, so that
# one run shows everything. clang-tidy's search for paths is nearly all of its time: it looks at a
# quarter of the states it would look at by itself; `make soak` looks at all of them (CHECK_STATES).
set -u
cd "$(dirname "$0")/.." || exit 1
states=${CHECK_STATES:-56250}
fail=0
run() {
    name=$1
    shift
    if ! "$@"; then
        echo "check: $name failed" >&2
        fail=1
    fi
}
all=$(git ls-files --cached --others --exclude-standard '*.c' '*.h')
# shellcheck disable=SC2086
run format clang-format --dry-run --Werror $all
run layers tools/check_layers.sh src
run layers-self tools/check_layers_test.sh
run style tools/check_style.sh
cmake -S . -B build/check -DCMAKE_C_COMPILER=clang -DDROVER_TESTS=ON -DDROVER_FAULTS=ON \
    -DDROVER_BENCH=ON >/dev/null || exit 1
cmake --build build/check --target api_proto >/dev/null || exit 1 # headers clang-tidy has to see
run cppcheck cppcheck --quiet --std=c11 --error-exitcode=1 --inline-suppr \
    --enable=warning,portability --suppress=missingIncludeSystem \
    --suppress=normalCheckLevelMaxBranches -D_GNU_SOURCE -DDROVER_FAULTS -DDROVER_STORE_SQLITE -DDROVER_STORE_REDIS -DDROVER_STORE_MONGODB -DDROVER_STORE_MARIADB -DDROVER_STORE_POSTGRES -DDROVER_STORE_MANTICORE -DDROVER_TOKENSERVER -DDROVER_RAFT -DDROVER_GRPC -DDROVER_HTTP -DDROVER_API \
    -DDROVER_VERSION='"x"' -Isrc -j "$(nproc)" src
run clang-tidy sh -c "git ls-files --cached --others --exclude-standard 'src/*.c' |
    xargs -P $(nproc) -n 1 clang-tidy --extra-arg=-Xclang --extra-arg=-analyzer-config --extra-arg=-Xclang --extra-arg=max-nodes=$states --quiet -p build/check 2>/dev/null"
[ "$fail" = 0 ] && echo "check: all clean"
exit "$fail"
