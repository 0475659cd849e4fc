#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Run one test program: one.sh RESULTS NAME COMMAND... Its output is shown only when it fails, its
# counts always; a line goes to the file RESULTS as well. Whole lines are written at once, because
# others run beside it. Always succeeds: the counts are in RESULTS.
set -u
results=$1
name=$2
shift 2
log=$(mktemp)
begin=$(date +%s)
if "$@" >"$log" 2>&1; then
    word="ok  "
    rest=$(grep -hE '^\[  PASSED  \]|passed, [0-9]+ failed|^crash: [0-9]+ kills' "$log" | tail -n 1)
else
    word=FAIL
    rest=$(printf '\n%s' "$(tail -n 60 "$log")")
fi
line=$(printf '%s %-34s %3ss  %s' "$word" "$name" "$(($(date +%s) - begin))" "$rest")
printf '%s\n' "$line"
printf '%s %s\n' "$word" "$name" >>"$results"
rm -f "$log"
