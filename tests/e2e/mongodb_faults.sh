# SPDX-License-Identifier: Apache-2.0
# The part of test_mongodb.sh that needs the stand-in's commands; sourced by it, alone.
# shellcheck shell=sh
# shellcheck disable=SC2154 # out, top, drover, run, A, B, T, S are lib.sh's and mongodb_lib.sh's
done_of() { "$drover" status "$1" --json | sed -n 's/.*"done": \([0-9]*\).*/\1/p' | head -n 1; }
one_fault() { standin '"fault": {"ns": "'"$T"'.ranged", '"$1"'}'; } # one_fault FIELDS
conf ranged '"collections": ["ranged"]' 50
ordinary() { # ordinary "what" : a whole run under the faults that are armed; counts are exact
    expect 0 "$1" -- drop ranged
    same "$1: nothing is left" "$(left ranged)" 0
    same "$1: counted once" "$(done_of 1)" 603
    same "$1: the fault happened" "$(say '{"standin": 1, "counters": 1}' | grep -c '"faults": 0')" 0
    same "$1: the status documents too" "$(status_of ranged "$A"; status_of ranged "$B")" \
        "completed 302/302 2/2 -
completed 301/301 1/1 -"
    expect 0 "$1: rollback" -- "$drover" rollback 1 --yes --quiet
    clear_faults
    $tool drop "$S"
    fresh
    standin '"counters": "reset"'
}

# --- errors that heal ---------------------------------------------------------------------------------------
# defect: backoff multiplier 1 (growing pauses are a unit test's; here they end)
sample
ranged=$(digest ranged)
standin '"counters": "reset"'
one_fault '"command": "delete", "code": 10107, "times": 3'
ordinary "a primary that steps down"
one_fault '"command": "delete", "code": 91, "labels": ["RetryableWriteError"], "times": 3'
ordinary "labels say to try again"
one_fault '"command": "delete", "close": "after", "skip": 1, "times": 3'
ordinary "answers of deletes are lost"
one_fault '"command": "find", "close": "before", "times": 3'
ordinary "connections break while reading"
one_fault '"command": "delete", "code": 112, "times": 2'
ordinary "write conflicts"
one_fault '"command": "delete", "code": 13388, "times": 2'
ordinary "a stale shard version"
one_fault '"command": "delete", "write_concern_error": true, "times": 4'
ordinary "write concerns time out"
one_fault '"command": "delete", "code": 189, "applied": true, "times": 3'
ordinary "applied, and the primary steps down"
one_fault '"command": "delete", "write_errors": [{"index": 0, "code": 112}], "times": 2'
ordinary "some statements fail"
same "after all of them every byte is there" "$(digest ranged)" "$ranged"
one_fault '"command": "insert", "close": "after", "times": 2'
drop ranged
expect 0 "answers of inserts are lost in a rollback" -- "$drover" rollback 1 --yes --quiet
same "every byte is back" "$(digest ranged)" "$ranged"
clear_faults

# --- errors that cannot heal ----------------------------------------------------------------------------------
# defect: infinite retry also for errors that cannot heal; marks a shard completed although chunks failed
fresh
$tool drop "$S"
standin '"deny": ["delete '"$T"'.hashed"]'
conf whole
expect 9 "not authorised on one collection" -- timeout 60 "$drover" mongodb drop --config "$top/whole" --live --yes --quiet
same "the others are done" "$(left ranged compound mixed plain)" 0
same "that one is whole" "$(left hashed)" 603
same "it is failed" "$(status_of hashed "$A" | cut -d' ' -f1)" "failed"
truth "with the error" status_has hashed "not authorized"
same "the others are counted and completed" "$(status_of ranged "$A")" "completed 302/302 2/2 -"
expect 0 "explain has the reason" 'not authorized' -- "$drover" explain 1
standin '"deny": []'
expect 0 "with the right, quarantine retry" -- "$drover" quarantine retry 1
expect 0 "it is done" -- "$drover" run 1 --yes --quiet
same "all of it" "$(left hashed)" 0
same "and completed" "$(status_of hashed "$A" | cut -d' ' -f1)" completed

# --- sizes that cannot be measured ----------------------------------------------------------------------------------
# defect: skips a chunk for good when dataSize fails
sample
one_fault '"command": "dataSize", "code": 1, "times": 0'
expect 0 "a failing dataSize is a warning" 'warning: .*dataSize' -- "$drover" mongodb drop --config "$top/ranged"
expect 0 "its chunks are erased" -- drop ranged
same "all of them" "$(left ranged)" 0
same "counted exactly" "$(status_of ranged "$A" | cut -d/ -f1)" "completed 302"
clear_faults
# defect: counts by estimate and stops when the estimate is reached
sample
standin '"orphan": {"ns": "'"$T"'.ranged", "shard": "'"$B"'", "documents": [{"_id": 1, "k": 1}, {"_id": 2, "k": 2}]}'
one_fault '"command": "dataSize", "code": 1, "times": 0'
expect 0 "orphans" -- drop ranged
same "are neither erased nor counted" "$(done_of 1) $(left ranged)" "603 0"
same "they are still there" "$(say '{"standin": 1, "digest": "'"$T"'.ranged"}' | grep -o '"orphans": [0-9]*')" '"orphans": 2'
clear_faults

# --- moves ----------------------------------------------------------------------------------------------------
sample
conf ranged '"collections": ["ranged"]' 20
standin '"begin_move": {"ns": "'"$T"'.ranged", "find": {"k": 10}, "to": "'"$B"'"}'
expect 0 "the plan warns of the move" 'rebalancing now' -- "$drover" mongodb drop --config "$top/ranged"
start_drop ranged
truth "explain names the move" until_true 20 explains 1 "rebalancing.*$T.ranged"
same "no batch goes meanwhile" "$(left ranged)" 603
standin '"end_move": "'"$T"'.ranged"'
ends "after the move it goes on" 0
same "where the chunk is now" "$(left ranged)" 0
# a move that begins between two deletes
sample
standin '"on": {"command": "delete", "ns": "'"$T"'.ranged", "nth": 3, "do": [{"moveChunk": "'"$T"'.ranged", "find": {"k": 10}, "to": "'"$B"'"}]}'
expect 0 "a chunk moves just before a delete" -- drop ranged
same "nothing is left" "$(left ranged)" 0
same "nothing is counted twice" "$(done_of 1)" 603
sample
standin '"on": {"command": "delete", "ns": "'"$T"'.ranged", "nth": 3, "when": "after", "do": [{"insert": "ranged", "$db": "'"$T"'", "documents": [{"_id": 9000, "k": 0}]}]}'
expect 0 "a document appears behind the cursor" -- drop ranged
same "and is erased as well" "$(left ranged)" 0
standin '"deny": ["balancerStatus", "currentOp", "find config.migrations", "find config.locks"]'
sample
timeout 10 "$drover" mongodb drop --config "$top/ranged" --live --yes --quiet >"$out" 2>&1
truth "missing rights are an error, not \"no move\"" grep -qi 'not authorized' "$out"
same "nothing is erased then" "$(left ranged)" 603
clear_faults

# --- brakes -------------------------------------------------------------------------------------------------------
brake() { # brake "what" SET PATTERN: to the end with "goes on", otherwise only until it is seen to hold
    sample
    standin '"set": {'"$2"'}'
    start_drop ranged
    truth "explain names $1" until_true 20 explains 1 "$3"
    same "nothing is erased under it" "$(left ranged)" 603
    standin '"set": {"lag_s": 0, "dirty": 0.05, "flow_lagged": false, "tickets": 0}'
    if [ "${4:-}" = "goes on" ]; then ends "without it it goes on" 0; else die; fi
}
brake "the replication lag" '"lag_s": 60' 'lags by' 'goes on'
brake "dirty cache" '"dirty": 0.5' 'dirty'
brake "tickets" '"tickets": 126' 'tickets'

# --- status documents somewhere else, and in trouble --------------------------------------------------------------
sample
standin '"fault": {"command": "update", "code": 91, "times": 0}'
expect 0 "status documents that cannot be written do not stop it" -- drop ranged
truth "the log says so" grep -q 'status records are not up to date' "$top/drop.log"
clear_faults
expect 0 "to look at the operation again" -- "$drover" run 1 --yes --quiet
same "writes them" "$(status_of ranged "$A")" "completed 302/302 2/2 -"

# --- versions -----------------------------------------------------------------------------------------------------
# defect: chunks by ns only: from 5.0 on they name their collection by uuid
for version in 4.4.29 5.0.9 7.0.2; do
    standin '"set": {"version": "'$version'"}'
    sample
    before=$(digest)
    expect 0 "$version: all of it" -- drop whole
    same "$version: nothing is left" "$(left)" 0
    same "$version: exact" "$(done_of 1)" 1873
    expect 0 "$version: rollback" -- "$drover" rollback 1 --yes --quiet
    same "$version: every byte is back" "$(digest)" "$before"
done
$tool run "$T" '{"create": "weather", "timeseries": {"timeField": "t"}}' >/dev/null
brake "flow control" '"flow_lagged": true' 'flow control'
