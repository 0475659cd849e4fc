#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# `make test`: unit, conform and worker tests plain and under ASan+UBSan and TSan, then the crash,
# bad-input and command line tests, then a short fuzz run. `tests/run.sh soak` runs the long forms.
set -u
cd "$(dirname "$0")/.." || exit 1
mode=${1:-test}
jobs=$(nproc)
passed=0
failed=0
# Build a variant: build DIR CMAKE-ARGUMENT...
build() {
    dir=$1
    shift
    cmake -S . -B "$dir" -DDROVER_TESTS=ON -DDROVER_FAULTS=ON -DDROVER_WERROR=ON "$@" >/dev/null &&
        cmake --build "$dir" -j "$jobs" >"$dir/build.log" 2>&1 || {
        tail -n 40 "$dir/build.log"
        echo "test: building $dir failed"
        exit 1
    }
}
# Run one program; its output is shown only when it fails, its counts always.
one() {
    name=$1
    shift
    log=$(mktemp)
    begin=$(date +%s)
    if "$@" >"$log" 2>&1; then
        passed=$((passed + 1))
        printf 'ok   %-34s %3ss  %s\n' "$name" "$(($(date +%s) - begin))" \
            "$(grep -hE '^\[  PASSED  \]|passed, [0-9]+ failed|^crash: [0-9]+ kills|^mongodb: |^crash: mongodb' "$log" | tr '\n' ' ')"
    else
        failed=$((failed + 1))
        printf 'FAIL %-34s %3ss\n' "$name" "$(($(date +%s) - begin))"
        tail -n 60 "$log"
    fi
    rm -f "$log"
}
programs() { # programs DIR LABEL [PATTERN]
    for program in "$1"/test_*; do
        [ -x "$program" ] || continue
        one "$2 $(basename "$program")" timeout 600 "$program"
    done
}

build build/test
programs build/test plain
one "plain store left out" tests/e2e/options.sh
build build/asan -DDROVER_SANITIZE=address
programs build/asan asan
build build/tsan -DDROVER_SANITIZE=thread
export TSAN_OPTIONS="halt_on_error=1"
programs build/tsan tsan
for script in tests/e2e/test_*.sh; do
    one "e2e $(basename "$script" .sh)" "$script" build/test
done
random=200
[ "$mode" = soak ] && random=5000
one "crash" python3 tests/crash/crash.py build/test --random "$random"
random=40
[ "$mode" = soak ] && random=1000
one "crash mongodb" python3 tests/crash/crash_mongodb.py build/test --random "$random"
seconds=30
[ "$mode" = soak ] && seconds=1800
one "fuzz" tests/fuzz/run.sh "$seconds"
echo "$passed passed, $failed failed"
[ "$failed" = 0 ] && [ "$passed" -gt 0 ]
