#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Proposals/s on three Raft peers: drover's catalog against etcd, in one run, on the same disk, as a
# ratio. Both make every entry durable on a majority before they answer, with CLIENTS callers that
# each wait for their answer. Drover's callers are threads of the leader's process, as those of its
# API are; etcd's are etcdctl's own load test over gRPC, which takes a minute and holds at its
# --load's rate. So the ratio contains etcd's network stack; it is no contest of protocols.
# Usage: bench_raft.sh BUILD DIR [ENTRIES] [CLIENTS] [ROUNDS]
set -eu
build=$(cd "$1" && pwd)
mkdir -p "$2"
dir=$(cd "$2" && pwd)
entries=${3:-40000}
clients=${4:-200}
rounds=${5:-1}
pids=""
end() {
    for pid in $pids; do kill "$pid" 2>/dev/null || true; done
    rm -rf "$dir/drover" "$dir/etcd"
}
trap end EXIT
ports() { # ports N: so many free ones
    python3 -c 'import socket, sys
s = [socket.socket() for _ in range(int(sys.argv[1]))]
[x.bind(("127.0.0.1", 0)) for x in s]
print(*[x.getsockname()[1] for x in s])' "$1"
}

drover_rate() {
    rm -rf "$dir/drover"
    mkdir "$dir/drover"
    # shellcheck disable=SC2046
    python3 - "$build/raft_peer" "$dir/drover" "$entries" "$clients" $(ports 3) <<'P'
import subprocess, sys
program, folder, entries, clients = sys.argv[1:5]
address = ["127.0.0.1:" + port for port in sys.argv[5:]]
peers = []
def hear(p):
    line = p.stdout.readline().strip()
    if not line.startswith("OK"):
        sys.exit("raft_peer: " + line)
    return dict(part.split("=", 1) for part in line.split() if "=" in part)
def ask(i, text):
    peers[i].stdin.write(text + "\n")
    peers[i].stdin.flush()
    return hear(peers[i])
for i in range(3):
    peers.append(subprocess.Popen(
        [program, str(i + 1), address[i], "%s/%d" % (folder, i + 1)] + (["bootstrap"] if i == 0 else []),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
    hear(peers[i])
ask(0, "leader 10000")
for i in (1, 2):
    ask(0, "add 10000 %d %s" % (i + 1, address[i]))
    ask(0, "assign 30000 %d voter" % (i + 1))
result = ask(0, "bench %s %s" % (entries, clients))
if result["failed"] != "0":
    sys.exit("raft_peer: %s proposals failed" % result["failed"])
index = ask(0, "status")["applied"]
hashes = set()
for i in range(3):
    ask(i, "applied 30000 " + index)
    hashes.add(ask(i, "hash")["hash"])
if len(hashes) != 1:
    sys.exit("the peers differ: %s" % hashes)
for i in (1, 2, 0):
    ask(i, "stop")
print(result["per_second"])
P
}

etcd_rate() {
    rm -rf "$dir/etcd"
    mkdir "$dir/etcd"
    # shellcheck disable=SC2046
    set -- $(ports 6)
    cluster="a=http://127.0.0.1:$1,b=http://127.0.0.1:$2,c=http://127.0.0.1:$3"
    points="127.0.0.1:$4,127.0.0.1:$5,127.0.0.1:$6"
    pids=""
    for one in "a $1 $4" "b $2 $5" "c $3 $6"; do
        # shellcheck disable=SC2086
        set -- $one
        etcd --name "$1" --data-dir "$dir/etcd/$1" --log-level error \
            --listen-peer-urls "http://127.0.0.1:$2" --initial-advertise-peer-urls "http://127.0.0.1:$2" \
            --listen-client-urls "http://127.0.0.1:$3" --advertise-client-urls "http://127.0.0.1:$3" \
            --initial-cluster "$cluster" --initial-cluster-state new >"$dir/etcd/$1.log" 2>&1 &
        pids="$pids $!"
    done
    ETCDCTL_API=3
    export ETCDCTL_API
    tries=0
    until etcdctl --endpoints "$points" endpoint health >/dev/null 2>&1; do
        tries=$((tries + 1))
        [ "$tries" -lt 150 ] || { echo "etcd does not start: $dir/etcd/a.log" >&2; exit 1; }
        sleep 0.2
    done
    etcdctl --endpoints "$points" check perf --load="${ETCD_LOAD:-xl}" 2>&1 | tr '\r' '\n' >"$dir/etcd/perf" || true
    # shellcheck disable=SC2086
    kill $pids
    # shellcheck disable=SC2086
    wait $pids 2>/dev/null || true
    pids=""
    sed -n 's/.*Throughput.*[^0-9]\([0-9][0-9]*\) writes\/s.*/\1/p' "$dir/etcd/perf"
}

round=1
while [ "$round" -le "$rounds" ]; do
    ours=$(drover_rate)
    theirs=$(etcd_rate)
    [ -n "$ours" ] && [ -n "$theirs" ] || { echo "no result: drover '$ours', etcd '$theirs'" >&2; exit 1; }
    awk -v a="$ours" -v b="$theirs" -v c="$clients" 'BEGIN {
        printf "proposals/s on 3 peers: drover %d (%d callers)  etcd %d  ratio %.2f\n", a, c, b, a / b }'
    round=$((round + 1))
done
