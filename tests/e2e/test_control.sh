#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Control from a second process while the first one runs: status, explain, tune, pause, resume, stop,
# stop --now, rollback; two owners of one data folder are refused.
set -u
. "$(dirname "$0")/lib.sh"
make_cluster 20000
acme=$(sums 'acme.%')
globex=$(sums 'globex.%')
slow='"tuning":{"rate":4000,"batch_items_max":200}'
job drop '{"kind":"tenant.drop","store":"@","database":"acme",'"$slow"'}'

start() { # start: run the job in the background
    "$drover" --quiet run "$@" >"$top/run.out" 2>&1 &
    pid=$!
    pids="$pids $pid"
}
ended() { # ended WANT "what"
    code=0
    wait "$pid" || code=$?
    same "$2" "$code" "$1"
}

start "$top/drop" --yes
truth "the operation runs" until_true 20 status_is 1 running
truth "rows go" until_true 20 done_at_least 1 400
expect 0 "status from a second process" 'running' -- "$drover" status 1
expect 0 "explain names the limit" 'rate' -- "$drover" explain 1
expect 6 "a second owner is refused" -- "$drover" run 1 --yes
expect 6 "work is refused too" -- "$drover" work
expect 0 "pause" -- "$drover" pause 1 --reason "lunch"
truth "it pauses" until_true 5 status_is 1 paused
a=$("$drover" status 1 --json | sed -n 's/.*"done": *\([0-9]*\).*/\1/p' | head -n 1)
sleep 1
b=$("$drover" status 1 --json | sed -n 's/.*"done": *\([0-9]*\).*/\1/p' | head -n 1)
same "nothing moves while it is paused" "$b" "$a"
expect 0 "explain says who paused it and why" 'lunch' -- "$drover" explain 1
if kill -0 "$pid" 2>/dev/null; then
    expect 0 "resume" -- "$drover" resume 1
else # a foreground run ends when its operation is paused: go on as its message says
    ended 8 "a paused run ends with 8"
    start 1 --yes
fi
truth "it runs again" until_true 10 status_is 1 running
expect 0 "tune without options only reads" 'rate' -- "$drover" tune 1
expect 0 "tune" -- "$drover" tune 1 --rate 3000
expect 0 "the change is in the audit" 'tune' -- "$drover" audit 1
expect 0 "graceful stop" -- "$drover" stop 1
truth "it stops" until_true 10 status_is 1 stopped
ended 8 "a stopped run ends with 8"
same "the neighbour is untouched" "$(sums 'globex.%')" "$globex"
truth "some of acme is gone" [ "$(sums 'acme.%')" != "$acme" ]
expect 0 "tune to full speed" -- "$drover" tune 1 --rate 0 --batch-max 2000
expect 0 "a stopped operation goes on" -- "$drover" --quiet run 1 --yes
truth "and is done" status_is 1 done
"$drover" --quiet rollback 1 --yes >"$out" 2>&1 || [ $? = 10 ]
truth "rolled back" status_is 1 'rolled back'
same "all rows are back" "$(sums 'acme.%')" "$acme"

start "$top/drop" --yes
truth "a second operation runs" until_true 20 done_at_least 2 400
"$drover" --quiet stop 2 --now --yes >"$out" 2>&1 || [ $? = 10 ]
truth "stop --now rolls back" until_true 30 status_is 2 'rolled back'
ended 10 "its run ends with 10"
same "all rows are back again" "$(sums 'acme.%')" "$acme"

start "$top/drop" --yes
truth "a third operation runs" until_true 20 done_at_least 3 400
kill -INT "$pid"
ended 130 "Ctrl-C ends with 130"
expect 0 "it can go on" -- "$drover" tune 3 --rate 0
expect 0 "submit a more important one" -- "$drover" submit "$top/drop" --yes
expect 0 "roll the third one back, nobody owning the folder" -- \
    sh -c "'$drover' --quiet rollback 3 --yes; [ \$? = 0 ] || [ \$? = 10 ]"
same "all rows are back a third time" "$(sums 'acme.%')" "$acme"
same "the neighbour is untouched" "$(sums 'globex.%')" "$globex"

# An operation stored by `plan --save` runs only when somebody approves it.
expect 0 "plan --save" -- "$drover" plan "$top/drop" --save
truth "is planned" status_is 5 planned
expect 0 "quarantine is empty" -- "$drover" quarantine list
expect 0 "cleanup dry run" -- "$drover" cleanup --dry-run
finish
