#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Proposals/s on three Raft peers: drover's catalog against etcd, in one run, on the same disk, as
# ratios. Both make every entry durable (fsync) on a majority before they answer.
#   HTTP: one client (bench_http) with CLIENTS kept connections to the leader, each waiting for its
#     answer, entries of about the same size: `POST /internal/propose`, the way peers hand entries to
#     the leader, against etcd's own `POST /v3/kv/put`. Like against like.
#   core: drover's callers as threads of the leader's process, for what HTTP costs.
# Usage: bench_raft.sh BUILD DIR [ENTRIES] [CLIENTS] [ROUNDS]
set -eu
build=$(cd "$1" && pwd)
mkdir -p "$2"
dir=$(cd "$2" && pwd)
entries=${3:-20000}
clients=${4:-48}
rounds=${5:-3}
pids=""
end() {
    for pid in $pids; do kill "$pid" 2>/dev/null || true; done
    rm -rf "$dir/drover" "$dir/etcd" "$dir/rates"
}
trap end EXIT
ports() { # ports N: so many free ones
    python3 -c 'import socket, sys
s = [socket.socket() for _ in range(int(sys.argv[1]))]
[x.bind(("127.0.0.1", 0)) for x in s]
print(*[x.getsockname()[1] for x in s])' "$1"
}

core_rate() {
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

# The daemon as users run it. The entry repeats what peer 3 says about itself, with another version.
http_rate() {
    rm -rf "$dir/drover"
    mkdir "$dir/drover"
    secret=$(openssl rand -hex 24)
    printf '%s\n' "$secret" >"$dir/drover/peer.token"
    chmod 600 "$dir/drover/peer.token"
    # shellcheck disable=SC2046
    set -- $(ports 6)
    api=$1
    third="127.0.0.1:$3"
    pids=""
    for one in "1 $1 $4 --bootstrap" "2 $2 $5 --join" "3 $3 $6 --join"; do
        # shellcheck disable=SC2086
        set -- $one
        [ "$4" = --bootstrap ] || set -- "$1" "$2" "$3" --join "http://127.0.0.1:$api"
        number=$1 port=$2 raft=$3
        shift 3
        "$build/drover" serve --data "$dir/drover/$number" --listen "127.0.0.1:$port" \
            --raft-listen "127.0.0.1:$raft" --raft-id "$number" "$@" \
            --peer-token-file "$dir/drover/peer.token" >"$dir/drover/$number.log" 2>&1 &
        pids="$pids $!"
        tries=0
        until curl -fs "http://127.0.0.1:$port/readyz" >/dev/null 2>&1; do
            tries=$((tries + 1))
            [ "$tries" -lt 300 ] || { echo "drover does not start: $(tail -n 3 "$dir/drover/$number.log")" >&2; exit 1; }
            sleep 0.1
        done
    done
    tries=0
    until [ "$(curl -fs "http://127.0.0.1:$api/cluster" | python3 -c 'import json, sys
peers = json.load(sys.stdin)["result"]["peers"]
print(sum(1 for p in peers.values() if p.get("uri")))')" = 3 ]; do
        tries=$((tries + 1))
        [ "$tries" -lt 300 ] || { echo "the peers do not come together" >&2; exit 1; }
        sleep 0.1
    done
    entry='{\"format\":1,\"id\":3,\"op\":\"peer\",\"raft\":\"127.0.0.1:'$raft'\",\"uri\":\"http://'$third'\",\"v\":1,\"version\":\"0.1.######\"}'
    "$build/bench_http" "$api" /internal/propose "api-key: $secret" \
        "{\"entry\":\"$entry\",\"timeout_ms\":10000}" '"changed"' "$clients" "$entries"
    # shellcheck disable=SC2086
    kill $pids
    # shellcheck disable=SC2086
    wait $pids 2>/dev/null || true
    pids=""
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
    leader=$(etcdctl --endpoints "$points" endpoint status | awk -F', ' '$5 == "true" { sub(".*:", "", $1); print $1 }')
    # key and value in base64: 6 and 126 bytes
    value=$(printf '%0126d' 0 | base64 -w 0)
    "$build/bench_http" "$leader" /v3/kv/put "" "{\"key\":\"a2######\",\"value\":\"######$(echo "$value" | cut -c 7-)\"}" \
        '"revision"' "$clients" "$entries"
    # shellcheck disable=SC2086
    kill $pids
    # shellcheck disable=SC2086
    wait $pids 2>/dev/null || true
    pids=""
}

round=1
: >"$dir/rates"
while [ "$round" -le "$rounds" ]; do
    ours=$(http_rate)
    theirs=$(etcd_rate)
    core=$(core_rate)
    [ -n "$ours" ] && [ -n "$theirs" ] && [ -n "$core" ] || { echo "no result: drover '$ours' and '$core', etcd '$theirs'" >&2; exit 1; }
    echo "$ours $theirs $core" >>"$dir/rates"
    round=$((round + 1))
done
# Medians of each column; the ratio is the median of the rounds' ratios.
median() { sort -g | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }'; }
column() { awk -v n="$1" '{ print $n }' "$dir/rates" | median; }
printf 'proposals/s on 3 peers, %s clients: HTTP drover %d  etcd %d  ratio %.2f; without HTTP drover %d\n' "$clients" \
    "$(column 1)" "$(column 2)" "$(awk '{ print $1 / $2 }' "$dir/rates" | median)" "$(column 3)"
