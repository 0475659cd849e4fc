#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Statistics of services in real Redis servers: one, three stand-alone ones, a cluster of three primaries.
# What must survive survives, kill -9 of drover and of a server loses nothing, undo brings back every
# byte and expiry, a proxy that cuts replies changes no outcome and one without SCAN is refused.
set -u
here=$(cd "$(dirname "$0")" && pwd)
. "$here/lib.sh"
tool="python3 $here/../support/redis_tool.py"
port() { $tool port; }
up() { [ "$(redis-cli -p "$1" ping 2>/dev/null)" = PONG ]; }
# serve PORT [OPTION...]: a server with its data on disk, so that a killed one can come back
serve() {
    p=$1
    shift
    mkdir -p "$top/r$p"
    redis-server --port "$p" --bind 127.0.0.1 --dir "$top/r$p" --save "" --appendonly yes \
        --appendfsync always "$@" >"$top/r$p/log" 2>&1 &
    server=$!
    pids="$pids $server"
    until_true 20 up "$p" || { echo "redis-server on $p did not start"; tail -n 5 "$top/r$p/log"; exit 1; }
}
purge() { "$drover" redis purge-stats "$@"; }
period="--from 2019-12-10 --to 2019-12-12T23:59:59Z"
all_apps="--application app0 --application app1 --metric m0 --metric m1"

# --- bad input: the field's name, nothing enqueued -------------------------------------------------
a=$(port)
serve "$a"
$tool fill "$a" 1006 >/dev/null
before=$($tool digest "$a")
url="--url redis://127.0.0.1:$a"
expect 4 "from after to" 'from' -- "$drover" redis purge-stats $url --service 1006 --metric m0 --from 20 --to 10 --yes
expect 4 "from zero" 'from' -- "$drover" redis purge-stats $url --service 1006 --metric m0 --from 0 --to 10 --yes
expect 4 "to is no time" 'to' -- "$drover" redis purge-stats $url --service 1006 --metric m0 --from 10 --to soon --yes
job list '{"kind":"redis.purge-stats","store":"redis://127.0.0.1:'"$a"'","services":["1006"],"applications":"app0","metrics":["m0"],"from":10,"to":20}'
expect 4 "applications that are no list" 'applications' -- "$drover" run "$top/list" --yes
job lists '{"kind":"redis.purge-stats","store":"redis://127.0.0.1:'"$a"'","services":["1006"],"metrics":[7],"from":10,"to":20}'
expect 4 "metrics that are no texts" 'metrics' -- "$drover" run "$top/lists" --yes
expect 4 "no service and no mark" 'service' -- "$drover" redis purge-stats $url --metric m0 $period --yes
expect 5 "a server that is not there" -- "$drover" redis purge-stats --url redis://127.0.0.1:1 --service 1006 --metric m0 $period --yes
truth "nothing was enqueued" [ ! -e "$DROVER_DATA/queue.db" ]
same "and nothing touched" "$($tool digest "$a")" "$before"

# --- one server, generated keys ----------------------------------------------------------------------
$tool fill "$a" 2007 >/dev/null
$tool odd "$a" 1006 >/dev/null
whole=$($tool digest "$a")
expect 0 "the plan names the strategy" 'key-list' -- "$drover" redis purge-stats $url --service 1006 $all_apps $period --dry-run
same "a dry run touches nothing" "$($tool digest "$a")" "$whole"
expect 0 "generated keys are deleted" -- purge $url --service 1006 $all_apps $period --log-deleted "$top/deleted" --yes --quiet
same "all that was written in the period is gone" "$($tool count "$a" 'stats/{service:1006}/*/eternity')" 0
same "one line for each deleted key" "$(wc -l <"$top/deleted")" 2360
same "what only looks alike stays" "$($tool count "$a" 'stats/{service:1006}*')" 7
same "the other service stays" "$($tool count "$a" 'stats/{service:2007}*')" 2360
expect 0 "rollback" -- "$drover" rollback 1 --yes --quiet
same "every value and every expiry is back" "$($tool digest "$a")" "$whole"
redis-cli -p "$a" set 'stats/{service:1006}/metric:m0/eternity' 41 >/dev/null
expect 0 "again" -- purge $url --service 1006 --application app0 --metric m0 $period --yes --quiet
redis-cli -p "$a" set 'stats/{service:1006}/metric:m0/eternity' 42 >/dev/null
expect 0 "rollback with a key written meanwhile" -- "$drover" rollback 2 --yes --quiet
same "which is not overwritten" "$(redis-cli -p "$a" get 'stats/{service:1006}/metric:m0/eternity')" 42

# --- three servers, marked services, one of them dying -----------------------------------------------
fresh
b=$(port)
serve "$b"
c=$(port)
serve "$c"
c_pid=$server
for p in "$a" "$b" "$c"; do
    redis-cli -p "$p" flushall >/dev/null
    for s in 1006 2007 "odd[*]name"; do $tool fill "$p" "$s" 3 3 4 >/dev/null; done
    $tool odd "$p" 1006 >/dev/null
    redis-cli -p "$p" sadd set_with_services_marked_for_deletion 1006 'odd[*]name' >/dev/null
done
urls="--url redis://127.0.0.1:$a --url redis://127.0.0.1:$b --url redis://127.0.0.1:$c"
whole=$($tool digest "$a" "$b" "$c")
"$drover" redis purge-stats $urls --marked --rate 12000 --batch-max 200 --yes --quiet >"$top/run.out" 2>&1 &
run=$!
pids="$pids $run"
truth "keys go" until_true 20 done_at_least 1 2000
kill -9 "$c_pid" "$run" 2>/dev/null
wait "$run" 2>/dev/null
"$drover" tune 1 --rate 0 >/dev/null 2>&1
"$drover" run 1 --yes --quiet >"$top/run.out" 2>&1 &
run=$!
pids="$pids $run"
others_gone() { [ "$($tool count "$a" "$b" 'stats/{service:odd*')" = 0 ]; }
truth "the other servers go on while one is down" until_true 40 others_gone
same "the mark stays until all are done" "$(redis-cli -p "$a" scard set_with_services_marked_for_deletion)" 2
serve "$c"
wait "$run"
same "with the server back it ends well" "$?" 0
same "nothing of them is left, but what looks alike" "$($tool count "$a" "$b" "$c" 'stats/{service:1006}*')" 21
same "of a service with glob characters neither" "$($tool count "$a" "$b" "$c" 'stats/{service:odd*')" 0
same "the unmarked service stays" "$($tool count "$a" "$b" "$c" 'stats/{service:2007}*')" "$((3 * $($tool count "$a" 'stats/{service:2007}*')))"
same "now the mark is gone" "$(redis-cli -p "$a" scard set_with_services_marked_for_deletion)" 0
expect 0 "rollback" -- "$drover" rollback 1 --yes --quiet
same "all three servers are as before, marks and all" "$($tool digest "$a" "$b" "$c")" "$whole"
zeros=$($tool count "$a" 'stats/{service:2007}*')
expect 0 "only zeros" -- purge --url "redis://127.0.0.1:$a" --service 2007 --zero-values --yes --quiet
truth "some go, most stay" [ "$($tool count "$a" 'stats/{service:2007}*')" -lt "$zeros" ]
truth "no zero is left" [ -z "$(redis-cli -p "$a" --scan --pattern 'stats/{service:2007}*' | head -n 400 | xargs redis-cli -p "$a" mget | grep -x 0)" ]

# --- a proxy between -----------------------------------------------------------------------------------
# Until the port answers, 20 s at most.
await_port() {
    python3 -c "import socket, sys, time
for _ in range(200):
    try:
        socket.create_connection(('127.0.0.1', int(sys.argv[1])), 1).close()
        break
    except OSError:
        time.sleep(0.1)" "$1"
}
fresh
x=$(port)
$tool proxy "$x" "$b" noscan &
pids="$pids $!"
await_port "$x"
whole=$($tool digest "$b")
expect 4 "a proxy without SCAN is refused" 'SCAN' -- purge --url "redis://127.0.0.1:$x" --service 2007 --strategy scan --yes
same "and nothing is deleted" "$($tool digest "$b")" "$whole"
x=$(port)
$tool proxy "$x" "$b" cut:200 &
pids="$pids $!"
await_port "$x"
expect 0 "replies that are cut in the middle change no outcome" -- \
    purge --url "redis://127.0.0.1:$x" --service 2007 --strategy scan --batch-max 300 --yes --quiet
same "all is gone" "$($tool count "$b" 'stats/{service:2007}*')" 0
expect 0 "rollback through the same proxy" -- "$drover" rollback 1 --yes --quiet
same "and all is back" "$($tool digest "$b")" "$whole"

# --- a cluster of three primaries -----------------------------------------------------------------------
fresh
nodes=
for i in 1 2 3; do
    n=$(port)
    serve "$n" --cluster-enabled yes --cluster-node-timeout 2000
    nodes="$nodes 127.0.0.1:$n"
    eval "n$i=$n"
done
# shellcheck disable=SC2086
redis-cli --cluster create $nodes --cluster-yes >"$out" 2>&1
joined() { redis-cli -p "$n1" cluster info | grep -q cluster_state:ok && redis-cli -p "$n3" cluster info | grep -q cluster_state:ok; }
truth "the cluster is up" until_true 30 joined
load() { # each service lives on one primary: write it there
    for s in 1006 2007 3008; do
        for n in "$n1" "$n2" "$n3"; do $tool fill "$n" $s >/dev/null 2>&1 && break; done
    done
}
load
whole=$($tool digest "$n1" "$n2" "$n3")
expect 0 "a cluster, by keys" -- purge --url "redis://127.0.0.1:$n1" --service 1006 --service 2007 $all_apps $period --strategy keys --yes --quiet
same "both are gone" "$($tool count "$n1" "$n2" "$n3" 'stats/{service:[12]*')" 0
expect 0 "rollback in the cluster" -- "$drover" rollback 1 --yes --quiet
same "all is back" "$($tool digest "$n1" "$n2" "$n3")" "$whole"
expect 0 "a cluster, by scan" -- purge --url "redis://127.0.0.1:$n2" --service 3008 --service 1006 --strategy scan --yes --quiet
same "both are gone again" "$($tool count "$n1" "$n2" "$n3" 'stats/{service:[13]*')" 0
same "the third stays" "$($tool count "$n1" "$n2" "$n3" 'stats/{service:2007}*')" 2360
expect 0 "rollback in the cluster" -- "$drover" rollback 2 --yes --quiet
same "all is back again" "$($tool digest "$n1" "$n2" "$n3")" "$whole"
finish
