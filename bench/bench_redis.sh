#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Deleting the statistics of one service among as many of others: drover against what a person would
# use, in one run, as ratios. Usage: bench_redis.sh BUILD DIR [KEYS] [ROUNDS]
set -eu
build=$(cd "$1" && pwd)
dir=$2
keys=${3:-1000000}
rounds=${4:-3}
here=$(cd "$(dirname "$0")" && pwd)
tool="python3 $here/../tests/support/redis_tool.py"
port=$($tool port)
mkdir -p "$dir"
redis-server --port "$port" --bind 127.0.0.1 --dir "$dir" --save "" --appendonly no >/dev/null &
server=$!
trap 'kill $server 2>/dev/null; rm -rf "$dir/data" "$dir/rdb"' EXIT
until [ "$(redis-cli -p "$port" ping 2>/dev/null)" = PONG ]; do sleep 0.1; done
export DROVER_DATA="$dir/data"
# Hours of 2015 on: 9,200 keys a year, metric and application; KEYS of service 1006, KEYS of others.
python3 - "$keys" >"$dir/fill" <<'P'
import datetime, sys
n = int(sys.argv[1])
out = sys.stdout.buffer
def put(key):
    k = key.encode()
    out.write(b"*3\r\n$3\r\nSET\r\n$%d\r\n%s\r\n$1\r\n7\r\n" % (len(k), k))
start = datetime.datetime(2015, 1, 1)
hours = 8760
texts = []
for h in range(hours):
    t = start + datetime.timedelta(hours=h)
    texts.append(t.strftime("%Y%m%d") + t.strftime("%H%M%S").rstrip("0"))
for service in ("1006", "2007"):
    for i in range(n):
        put("stats/{service:%s}/cinstance:app%d/metric:m0/hour:%s" % (service, i // hours, texts[i % hours]))
P
# The layout says what is there, so that nobody is asked for keys that cannot be.
job() { # job IRREVERSIBLE
    python3 - "$1" "$port" "$(((keys + 8759) / 8760))" >"$dir/job.json" <<'P'
import json, sys
print(json.dumps({
    "kind": "redis.purge-stats", "store": "redis://127.0.0.1:" + sys.argv[2], "services": ["1006"],
    "applications": ["app%d" % i for i in range(int(sys.argv[3]))], "metrics": ["m0"],
    "from": "2015-01-01", "to": "2015-12-31T23:59:59Z", "strategy": "keys", "irreversible": sys.argv[1] == "yes",
    "partition_keys": 100000,
    "layout": {"prefix": "stats/", "sections": [
        {"path": "stats/{service:$service}/cinstance:$application/metric:$metric", "periods": ["hour"]}]}}))
P
}
refill() {
    redis-cli -p "$port" flushall sync >/dev/null
    redis-cli -p "$port" --pipe <"$dir/fill" >/dev/null
    rm -rf "$dir/data"
}
left() { redis-cli -p "$port" dbsize; }
now() { date +%s.%N; }
run() { # run NAME: seconds into $dir/NAME
    name=$1
    shift
    refill
    begin=$(now)
    "$@"
    end=$(now)
    [ "$(left)" = "$keys" ] || { echo "bench_redis: $name left $(left) keys instead of $keys" >&2; exit 1; }
    echo "$begin $end" | awk '{ printf "%.3f\n", $2 - $1 }' >>"$dir/$name"
}
pipe() { redis-cli -p "$port" --scan --pattern 'stats/{service:1006}*' | xargs -n 500 redis-cli -p "$port" unlink >/dev/null; }
bare() { # the limit: known keys, pipelined UNLINK of 100 each
    python3 - "$dir/fill" <<'P' >"$dir/unlink"
import sys
keys = []
with open(sys.argv[1], "rb") as f:
    while line := f.readline():
        f.readline(); f.readline(); f.readline()
        k = f.readline()[:-2]
        f.readline(); f.readline()
        if b"{service:1006}" in k:
            keys.append(k)
out = sys.stdout.buffer
for at in range(0, len(keys), 100):
    part = keys[at:at + 100]
    out.write(b"*%d\r\n$6\r\nUNLINK\r\n" % (len(part) + 1) + b"".join(b"$%d\r\n%s\r\n" % (len(k), k) for k in part))
P
    bare_begin=$(now)
    redis-cli -p "$port" --pipe <"$dir/unlink" >/dev/null
    bare_end=$(now)
}
run_bare() {
    refill
    bare
    [ "$(left)" = "$keys" ] || { echo "bench_redis: bare left $(left)" >&2; exit 1; }
    echo "$bare_begin $bare_end" | awk '{ printf "%.3f\n", $2 - $1 }' >>"$dir/bare"
}
by_keys() { "$build/drover" run "$dir/job.json" --yes --quiet >/dev/null; }
by_scan() {
    "$build/drover" redis purge-stats --url "redis://127.0.0.1:$port" --service 1006 --strategy scan --yes --quiet "$@" >/dev/null
}
rm -f "$dir"/pipe "$dir"/bare "$dir"/keys "$dir"/keys-archive "$dir"/scan "$dir"/scan-archive
for r in $(seq "$rounds"); do
    run pipe pipe
    run_bare
    job yes
    run keys by_keys
    job no
    run keys-archive by_keys
    run scan by_scan --irreversible
    run scan-archive by_scan
done
median() { sort -n "$dir/$1" | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }'; }
p=$(median pipe)
u=$(median bare)
printf '%-28s %9s %12s %16s %16s\n' "$keys of $((2 * keys)) keys" seconds keys/s "of redis-cli pipe" "of bare UNLINK"
for name in pipe bare keys keys-archive scan scan-archive; do
    m=$(median $name)
    awk -v n="$name" -v m="$m" -v p="$p" -v u="$u" -v k="$keys" \
        'BEGIN { printf "%-28s %9.2f %12.0f %16.2f %16.2f\n", n, m, k / m, p / m, u / m }'
done

# What a foreground client feels: GETs a millisecond apart, before and while drover purges.
refill
$tool latency "$port" 3 "$dir/lat-before"
by_scan_slow() { by_scan --rate 100000; }
by_scan_slow &
purge=$!
$tool latency "$port" 3 "$dir/lat-during"
wait $purge
printf 'foreground GET, ms (p50 p99 max): before %s, during a scan purge at 100,000 keys/s %s\n' "$(cat "$dir/lat-before")" "$(cat "$dir/lat-during")"
