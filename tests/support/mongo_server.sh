#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The MongoDB of a test or benchmark: mongo_server.sh start DIR | stop DIR
#
# start prints lines for eval: KIND, URI, ROUTER (host:port). KIND is
#   given    DROVER_TEST_MONGODB_URI names a sharded cluster (without a login: the tests' own client has none)
#   real     mongod and mongos are on PATH: a config server, shards a and b and a router, on free loopback ports
#   standin  otherwise: mongo_standin.py (DROVER_TEST_MONGODB_VERSION: as which version, default 4.0.3)
# Everything is in DIR; stop kills exactly the processes that start noted in DIR/pids.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
tool="python3 -S $here/mongo_tool.py"
what=${1:-}
dir=${2:-}
[ -n "$dir" ] || { sed -n '3,9s/^# //p' "$0" >&2; exit 2; }

say() { printf 'KIND=%s\nURI=%s\nROUTER=%s\n' "$1" "$2" "$3"; }
fail() { echo "mongo_server: $1" >&2; exit 1; }
# until_true SECONDS COMMAND...
until_true() {
    limit=$(($(date +%s) + $1))
    shift
    until "$@" >/dev/null 2>&1; do
        [ "$(date +%s)" -lt "$limit" ] || return 1
        sleep 0.1
    done
}
keep() { echo "$1" >>"$dir/pids"; }
is_primary() { $tool "127.0.0.1:$1" run admin '{"isMaster": 1}' | grep -q '"ismaster": true'; }

mongod_up() { # mongod_up NAME ROLE: a replica set of one; its port in $port
    port=$($tool port)
    mkdir -p "$dir/$1"
    mongod "--$2" --replSet "$1" --port "$port" --bind_ip 127.0.0.1 --dbpath "$dir/$1" \
        --wiredTigerCacheSizeGB 0.25 --logpath "$dir/$1.log" >/dev/null 2>&1 &
    keep $!
    until_true 60 $tool "127.0.0.1:$port" run admin '{"ping": 1}' ||
        fail "mongod $1 did not start: $(tail -n 3 "$dir/$1.log")"
    is_config=$([ "$2" = configsvr ] && echo true || echo false)
    $tool "127.0.0.1:$port" run admin '{"replSetInitiate": {"_id": "'"$1"'", "configsvr": '"$is_config"',
        "members": [{"_id": 0, "host": "127.0.0.1:'"$port"'"}]}}' >/dev/null
    until_true 60 is_primary "$port" || fail "mongod $1 did not become primary"
}
start_real() {
    mongod_up cfg configsvr
    config=$port
    mongod_up a shardsvr
    shard_a=$port
    mongod_up b shardsvr
    shard_b=$port
    port=$($tool port)
    mongos --configdb "cfg/127.0.0.1:$config" --port "$port" --bind_ip 127.0.0.1 \
        --logpath "$dir/mongos.log" >/dev/null 2>&1 &
    keep $!
    until_true 60 $tool "127.0.0.1:$port" run admin '{"ping": 1}' || fail "mongos did not start"
    # The tests move chunks themselves; nothing else may.
    $tool "127.0.0.1:$port" run admin '{"addShard": "a/127.0.0.1:'"$shard_a"'", "name": "a"}' \
        '{"addShard": "b/127.0.0.1:'"$shard_b"'", "name": "b"}' '{"balancerStop": 1}' >/dev/null
    say real "mongodb://127.0.0.1:$port" "127.0.0.1:$port"
}
start_given() {
    hosts=${DROVER_TEST_MONGODB_URI#mongodb://}
    hosts=${hosts%%[/?]*}
    case $hosts in *@*) fail "DROVER_TEST_MONGODB_URI: a cluster without a login is needed" ;; esac
    router=${hosts%%,*}
    case $router in *:*) ;; *) router=$router:27017 ;; esac
    $tool "$router" run admin '{"isMaster": 1}' | grep -q isdbgrid ||
        fail "DROVER_TEST_MONGODB_URI: no router answers at $router"
    say given "$DROVER_TEST_MONGODB_URI" "$router"
}
start_standin() {
    nohup python3 "$here/mongo_standin.py" --version "${DROVER_TEST_MONGODB_VERSION:-4.0.3}" \
        >"$dir/ready" 2>"$dir/standin.log" </dev/null &
    keep $!
    until_true 20 test -s "$dir/ready" || fail "the stand-in did not start: $(tail -n 3 "$dir/standin.log")"
    port=$(sed 's/.*"port": *\([0-9]*\).*/\1/' "$dir/ready")
    say standin "mongodb://127.0.0.1:$port" "127.0.0.1:$port"
}

case $what in
start)
    mkdir -p "$dir"
    : >"$dir/pids"
    if [ -n "${DROVER_TEST_MONGODB_URI:-}" ]; then
        start_given
    elif command -v mongod >/dev/null && command -v mongos >/dev/null; then
        start_real
    else
        start_standin
    fi
    ;;
stop)
    while read -r pid; do kill -9 "$pid" 2>/dev/null || true; done <"$dir/pids"
    ;;
*) fail "start or stop, not '$what'" ;;
esac
