#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Reports: the file of --report for every way a run can end, drover report, the closing table, the log's two events.
set -u
. "$(dirname "$0")/lib.sh"
make_cluster 4000
job drop '{"kind":"tenant.drop","store":"@","database":"acme"}'
report=$top/report.json
field() { # field EXPRESSION: a value out of the report
    python3 -c 'import json, sys; r = json.load(open(sys.argv[1])); print(eval(sys.argv[2]))' "$report" "$1"
}

expect 0 "a dry run with a report" 'DRY RUN' -- "$drover" --log-level info run "$top/drop" --dry-run --report "$report"
truth "the log frames the dry run" grep -Eq 'run begins.*dry_run=yes' "$out"
truth "and says how long it took" grep -Eq 'run ends.*time="?0h 00m [0-9]{2}s"?.*dry_run=yes' "$out"
truth "a dry run makes no data folder" [ ! -e "$DROVER_DATA" ]
same "the dry run's report says so" "$(field 'r["dry_run"], r["operation"], r["status"]')" "(True, None, 'planned')"
same "it says what would be done" "$(field 'r["totals"]["total"], r["totals"]["done"]')" "(4000, 0)"
same "every row is pending" "$(field '{x["status"] for x in r["rows"]}')" "{'pending'}"
planned=$(field '[(x["collection"], x["node"], x["steps"], x["total"]) for x in r["rows"]]')

rm -f "$report"
expect 4 "a report in a folder that is not there" 'report.*nowhere' -- "$drover" run "$top/drop" --yes --report "$top/nowhere/r.json"
expect 4 "a report over a device" 'no plain file' -- "$drover" run "$top/drop" --yes --report /dev/null
truth "nothing was started" [ ! -e "$DROVER_DATA" ]

expect 0 "a run with a report" 'COLLECTION +NODE +STATUS +CHUNKS +DELETED +ERROR' -- \
    "$drover" --log-level info run "$top/drop" --yes --report "$report"
truth "the table has a line of totals" grep -Eq '^TOTAL +completed +[0-9]+/[0-9]+ +4,000/4,000' "$out"
truth "the log says how it ended" grep -Eq 'run ends.*status=done.*time="?0h 00m [0-9]{2}s"?.*dry_run=no' "$out"
same "the report's end" "$(field 'r["operation"], r["kind"], r["target"], r["dry_run"], r["status"]')" \
    "(1, 'tenant.drop', 'acme', False, 'done')"
same "its totals" "$(field 'r["totals"]["done"], r["erased"], r["put_back"], r["conflicts"]')" "(4000, 4000, 0, 0)"
same "the rows that were planned" "$(field '[(x["collection"], x["node"], x["steps"], x["total"]) for x in r["rows"]]')" "$planned"
same "all of them completed" "$(field '{(x["status"], x["steps"] == x["steps_done"], x["error"]) for x in r["rows"]}')" \
    "{('completed', True, None)}"
same "rows add up" "$(field 'sum(x["done"] for x in r["rows"])')" 4000
truth "it names the archive" [ -d "$(field 'r["archive"]["path"]')" ]
truth "the time is text as well" grep -Eq '"time": "0h 00m [0-9]{2}s"' "$report"
same "no temporary file is left" "$(find "$top" -maxdepth 1 -name 'report.json*' | wc -l | tr -d ' ')" 1
expect 0 "drover report" 'time: +0h 00m' -- "$drover" report 1
truth "with the same table" grep -Eq '^acme.orders +s1 +completed' "$out"
"$drover" report 1 --json >"$top/again.json"
truth "and as JSON the same as the file" cmp -s "$report" "$top/again.json"
expect 11 "an operation that is not there" -- "$drover" report 77
expect 0 "run of one that is done writes it too" -- "$drover" run 1 --report "$top/third.json"
truth "again the same" cmp -s "$report" "$top/third.json"

expect 0 "a rollback shows the table" '^TOTAL +pending +0/' -- "$drover" rollback 1 --yes
"$drover" report 1 --json >"$report"
same "what was put back is not deleted" "$(field 'r["status"], r["totals"]["done"], r["put_back"]')" "('rolled back', 0, 4000)"
"$drover" --quiet tenant drop --store "sqlite:$top/cluster/cluster.db" --database acme --yes --report "$report" >"$out" 2>&1
same "--quiet prints no table" "$(cat "$out")" ""
same "a short form writes the report" "$(field 'r["operation"], r["status"]')" "(2, 'done')"
"$drover" --quiet rollback 2 --yes
"$drover" run "$top/drop" --yes --json >"$top/out.json" 2>"$top/err"
truth "--json prints no table" python3 -c 'import json, sys; json.load(open(sys.argv[1]))' "$top/out.json"
truth "and none on standard error" sh -c '! grep -q COLLECTION "$1"' - "$top/err"
"$drover" --quiet rollback 3 --yes

# A run that is paused from elsewhere, and one that is interrupted.
job slow '{"kind":"tenant.drop","store":"@","database":"acme","tuning":{"rate":200,"batch_items_max":20}}'
"$drover" run "$top/slow" --yes --report "$report" >"$out" 2>&1 &
slow=$!
pids="$pids $slow"
truth "it has begun" until_true 20 done_at_least 4 20
"$drover" stop 4 --reason "enough for today" >/dev/null 2>&1
wait "$slow"
same "stopped: the report says so" "$(field 'r["status"], r["reason"], 0 < r["totals"]["done"] < 4000')" \
    "('stopped', 'enough for today', True)"
"$drover" run 4 --report "$report" >"$out" 2>&1 &
slow=$!
pids="$pids $slow"
truth "it goes on" until_true 20 status_is 4 running
kill -INT "$slow"
code=0
wait "$slow" || code=$?
truth "interrupted: it says so" grep -q 'interrupted' "$out"
truth "and the exit code is not that of success" [ "$code" != 0 ]
same "interrupted: the report is written" "$(field 'r["operation"], r["ended"], r["totals"]["status"]')" "(4, None, 'in_progress')"
finish
