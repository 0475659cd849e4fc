# SPDX-License-Identifier: Apache-2.0
# For the MongoDB tests, after lib.sh: a cluster (which one is printed), the sample database, configuration files.
# shellcheck shell=sh
# shellcheck disable=SC2154 # here, top, drover, pids are lib.sh's and the caller's
T=acme_e2e_drover
S=status_e2e_drover
eval "$("$here/../support/mongo_server.sh" start "$top/server")"
[ -n "${KIND:-}" ] || { echo "no MongoDB to test with"; exit 1; }
pids="$pids $(tr '\n' ' ' <"$top/server/pids")"
echo "mongodb: $KIND ($ROUTER)"
tool="python3 -S $here/../support/mongo_tool.py $ROUTER"
A=$($tool shards | sed -n 1p)
B=$($tool shards | sed -n 2p)
is_standin() { [ "$KIND" = standin ]; }

admin() { $tool run admin "$@" >"$top/reply" || { echo "FAIL admin $*"; cat "$top/reply"; failed=$((failed + 1)); }; }
say() { admin "$1"; cat "$top/reply"; }
# standin FIELDS: a command to the stand-in
standin() { admin '{"standin": 1, '"$1"'}'; }
clear_faults() { standin '"clear": "all"'; }
sample() { # sample [N]: the sample database anew, no status documents, a new data folder
    fresh
    $tool drop "$S" && $tool world "$T" "${1:-600}"
}
# conf NAME [EXTRA [BATCH]]: a configuration file
conf() {
    printf '{"mongo_uri": "%s", "tenant_db_name": "%s", "alcatraz_db_name": "%s",
    "log_file": "%s", "log_level": "DEBUG", "rebalance_check_seconds": 1,
    "deletes_per_batch": %s%s}\n' "$URI" "$T" "$S" "$top/drop.log" "${3:-100}" "${2:+, $2}" >"$top/$1"
}
drop() { # drop NAME [OPTION...]: live
    name=$1
    shift
    "$drover" mongodb drop --config "$top/$name" --live --yes --quiet "$@"
}
start() { # start COMMAND...: a program, not a function, in the background, as $run
    "$@" >"$top/run.out" 2>&1 &
    run=$!
    pids="$pids $run"
}
start_drop() { # as drop
    name=$1
    shift
    start "$drover" mongodb drop --config "$top/$name" --live --yes --quiet "$@"
}
die() { # kill -9 to what was started
    kill -9 "$run" 2>/dev/null
    wait "$run" 2>/dev/null
}
ends() { # ends "what" EXIT: what was started comes to its end so
    code=0
    wait "$run" || code=$?
    same "$1" "$code" "$2"
    [ "$code" = "$2" ] || sed 's/^/     | /' "$top/run.out" | tail -n 15
}
digest() { $tool digest "$T" "$@"; }
left() { # left COLL...: documents in these collections, or in all
    $tool left "$T" "$@"
}
count() { $tool count "$T" "$@"; }
status_of() { $tool status "$S" "$T" | sed -n "s|^$1 $2 ||p"; } # status_of COLL SHARD
explains() { "$drover" explain "$1" 2>/dev/null | grep -Eq -- "$2"; } # explains OP PATTERN
no_balance() { $tool run config '{"find": "collections", "filter": {"_id": "'"$T.$1"'"}}' | grep -o '"noBalance": [a-z]*'; }
lowest() { # lowest COLL: the sums of a layout, "A N B M"
    $tool layout "$T" "$1" | tr '\n' ' '
}
status_has() { $tool status "$S" "$T" | grep "^$1 .*$2" >/dev/null; } # status_has COLL PATTERN
