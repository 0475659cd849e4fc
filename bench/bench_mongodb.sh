#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Emptying a sharded collection: drover against the loop that a person would write (mongo_loop.c), and the
# ways to say which documents a delete means, in one run, as ratios. Runs on the server that
# tests/support/mongo_server.sh finds and says which. Usage: bench_mongodb.sh BUILD DIR [DOCUMENTS] [ROUNDS] [BATCH]
set -eu
build=$(cd "$1" && pwd)
mkdir -p "$2"
dir=$(cd "$2" && pwd)
documents=${3:-20000}
rounds=${4:-3}
batch=${5:-1000}
support=$(cd "$(dirname "$0")/../tests/support" && pwd)
trap '"$support/mongo_server.sh" stop "$dir/server"; rm -rf "$dir/data"' EXIT
eval "$("$support/mongo_server.sh" start "$dir/server")"
export DROVER_DATA="$dir/data"
tool="python3 -S $support/mongo_tool.py $ROUTER"
db=acme_bench_drover
a=$($tool shards | sed -n 1p)
b=$($tool shards | sed -n 2p)
now() { date +%s.%N; }
# A range-sharded collection, half of it on each of two shards.
refill() {
    rm -rf "$DROVER_DATA"
    $tool drop "$db"
    $tool run admin '{"enableSharding": "'$db'"}' '{"shardCollection": "'$db'.docs", "key": {"k": 1}}' \
        '{"split": "'$db'.docs", "middle": {"k": '$((documents / 2))'}}' >"$dir/reply"
    for move in "0 $a" "$((documents - 1)) $b"; do # one of them is there already
        $tool run admin '{"moveChunk": "'$db'.docs", "find": {"k": '"${move% *}"'}, "to": "'"${move#* }"'", "_waitForDelete": true}' \
            >"$dir/reply" || true
    done
    if [ "$KIND" = standin ]; then
        $tool run admin '{"standin": 1, "fill": {"ns": "'$db'.docs", "count": '"$documents"', "fields": {"k": "$n", "pad": "0123456789012345678901234567890123456789"}}}' >"$dir/reply"
    else
        $tool fill "$db" docs 0 "$documents" '{"k": "$n", "pad": "0123456789012345678901234567890123456789"}'
    fi
}
run() { # run NAME COMMAND...: seconds into $dir/NAME
    name=$1
    shift
    refill
    begin=$(now)
    "$@" >"$dir/said" 2>&1 || { cat "$dir/said" >&2; exit 1; }
    end=$(now)
    left=$($tool left "$db" docs)
    [ "$left" = 0 ] || { echo "bench_mongodb: $name left $left documents" >&2; exit 1; }
    echo "$begin $end" | awk '{ printf "%.3f\n", $2 - $1 }' >>"$dir/$name"
}
drover() { "$build/drover" mongodb drop --uri "$URI" --database "$db" --batch-max "$batch" --yes --quiet "$@"; }
loop() { "$build/mongo_loop" "$URI" "$db" docs k "$batch" "$1"; }
names="unbounded ids ids-key one drover drover-archive"
for name in $names; do rm -f "$dir/$name"; done
for r in $(seq "$rounds"); do
    for way in unbounded ids ids-key one; do run $way loop $way; done
    run drover drover --irreversible
    run drover-archive drover
done
$tool drop "$db"
median() { sort -n "$dir/$1" | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }'; }
u=$(median unbounded)
i=$(median ids)
echo "server: $KIND"
printf '%-34s %9s %12s %14s %16s\n' "$documents documents, batches of $batch" seconds documents/s "of unbounded" "of the id loop"
for name in $names; do
    m=$(median $name)
    awk -v n="$name" -v m="$m" -v u="$u" -v i="$i" -v k="$documents" \
        'BEGIN { printf "%-34s %9.2f %12.0f %14.2f %16.2f\n", n, m, k / m, u / m, i / m }'
done
