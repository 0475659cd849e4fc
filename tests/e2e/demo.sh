#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The demonstration behind `make demo`: drop a tenant from a small sharded cluster, die half way, go
# on, prove absence, roll everything back, prove that every row is there again.
# Environment: DEMO_ROWS (rows of each tenant, default 400000), DEMO_KEEP=1 keeps the folder.
set -eu
build=$(cd "${1:-build}" && pwd)
drover=$build/drover
rows=${DEMO_ROWS:-400000}
dir=$(mktemp -d "${TMPDIR:-/tmp}/drover-demo.XXXXXX")
pid=
finish() {
    [ -z "$pid" ] || kill -9 "$pid" 2>/dev/null || true
    if [ -n "${DEMO_KEEP:-}" ]; then echo "kept: $dir"; else rm -rf "$dir"; fi
}
trap finish EXIT
trap 'exit 130' INT TERM
say() { printf '\n== %s\n' "$1"; }
fail() {
    echo "demo: $1" >&2
    exit 1
}
# SQLite's own shell computes the sums: drover has no hand in its own proof.
sums() { # sums PATTERN -> one line a shard
    for s in s1 s2 s3 s4; do
        printf '%s %s\n' "$s" "$(sqlite3 "$dir/$s.db" ".sha3sum --sha3-256 $1")"
    done
}
count() { # rows of a tenant over all shards
    total=0
    for s in s1 s2 s3 s4; do
        for t in $(sqlite3 "$dir/$s.db" "SELECT name FROM sqlite_master WHERE type='table' AND name LIKE '$1.%'"); do
            total=$((total + $(sqlite3 "$dir/$s.db" "SELECT count(*) FROM \"$t\"")))
        done
    done
    echo "$total"
}

say "A cluster of four SQLite shards, two tenants, $rows rows each"
"$build/drover-sample" "$dir" "$rows"
sums 'acme.%' >"$dir/acme.before"
sums 'globex.%' >"$dir/globex.before"
echo "acme $(count acme) rows, globex $(count globex) rows"

cat >"$dir/job.json" <<JOB
{"kind": "tenant.drop", "store": "sqlite:$dir/cluster.db", "database": "acme",
 "note": "contract ended", "archive_days": 30, "tuning": {"rate": 100000, "batch_items_max": 2000}}
JOB
export DROVER_DATA="$dir/data"

say "The plan (a dry run: nothing is touched, not even a data folder made)"
"$drover" plan "$dir/job.json" --steps 6
[ ! -e "$dir/data" ] || fail "the dry run made a data folder"
sums 'acme.%' | cmp -s - "$dir/acme.before" || fail "the dry run changed something"

say "Dropping acme, chunk by chunk - and SIGKILL half way"
"$drover" run "$dir/job.json" --yes &
pid=$!
half=$((rows / 2))
tries=0
while :; do
    done_items=$("$drover" status 1 --json 2>/dev/null |
        sed -n 's/.*"done": *\([0-9][0-9]*\).*/\1/p' | head -n 1)
    [ "${done_items:-0}" -ge "$half" ] && break
    kill -0 "$pid" 2>/dev/null || break
    tries=$((tries + 1))
    [ "$tries" -lt 3000 ] || fail "half way was never reached"
    sleep 0.02
done
kill -9 "$pid" 2>/dev/null || true
wait "$pid" 2>/dev/null || true
pid=
left=$(count acme)
echo
echo "killed: $left of $rows rows of acme are left"
[ "$left" -gt 0 ] && [ "$left" -lt "$rows" ] || fail "the kill came too early or too late"
"$drover" status 1

say "The same operation goes on where it was"
"$drover" run 1 --yes

say "Absence: counted by SQLite itself"
left=$(count acme)
echo "acme: $left rows"
[ "$left" = 0 ] || fail "rows of acme are left"
sums 'globex.%' | cmp -s - "$dir/globex.before" || fail "the neighbour was touched"
echo "globex: checksums of all four shards unchanged"

say "Second thoughts: everything back from the archive"
"$drover" archive list
"$drover" archive verify 1
"$drover" rollback 1 --yes --reason "contract renewed" || [ $? = 10 ]
sums 'acme.%' | cmp - "$dir/acme.before" || fail "the rollback did not bring every row back"
sums 'globex.%' | cmp -s - "$dir/globex.before" || fail "the neighbour was touched"
echo "acme: $(count acme) rows, SHA3-256 of all four shards as before the drop"
cat "$dir/acme.before"
say "Done"
