#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The catalog of one peer over REST, gRPC and the command line, with clients that others wrote. The
# clients come from npm as package-lock.json pins them.
set -u
here=$(cd "$(dirname "$0")" && pwd)
. "$here/lib.sh"
if ! "$drover" help serve | grep -q raft-listen; then
    echo "test_catalog: this build has no catalog"
    exit 1
fi
cp "$here"/catalog/*.json "$here"/catalog/*.mjs "$top/"
(cd "$top" && npm ci --ignore-scripts --no-audit --no-fund >"$top/npm.out" 2>&1) || {
    tail -n 20 "$top/npm.out"
    echo "test_catalog: the clients cannot be installed"
    exit 1
}
admin=admin-0123456789abcdef
reader=reader-0123456789abcdef
printf 'read:%s\nadmin:root:%s\n' $reader $admin >"$top/tokens"
openssl rand -hex 24 >"$top/peer"
printf '%s\n' "$admin" >"$top/token"
chmod 600 "$top/tokens" "$top/peer" "$top/token"
free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
port=$(free_port)
raft=$(free_port)
rpc=$(free_port)
url=http://127.0.0.1:$port
ask="--server $url --token-file $top/token"

start() { # start [OPTION...]: the peer, until it is ready
    "$drover" serve --listen "127.0.0.1:$port" --grpc-listen "127.0.0.1:$rpc" --raft-listen "127.0.0.1:$raft" \
        --raft-id 1 --tokens "$top/tokens" --peer-token-file "$top/peer" "$@" >>"$top/serve.out" 2>&1 &
    pid=$!
    pids="$pids $pid"
    until_true 20 curl -fs "$url/readyz" || {
        echo "the daemon did not start"
        cat "$top/serve.out"
        exit 1
    }
}

start --bootstrap
truth "the REST client of others" node "$top/rest.mjs" "$url" $admin
truth "the gRPC client of others" node "$top/grpc.mjs" "127.0.0.1:$rpc" $admin "$here/../../api/proto"

# --- the command line, and a kill in between ------------------------------------------------------------
# shellcheck disable=SC2086
{
    expect 0 "create" created -- "$drover" collection create shop --shard-number 4 $ask
    expect 4 "create again" 'already exists' -- "$drover" collection create shop $ask
    expect 0 "list" '^shop$' -- "$drover" collection list $ask
    expect 0 "show" 'sharding auto, shard_number 4' -- "$drover" collection show shop $ask
    "$drover" collection route shop 1 2 3 4 5 6 7 8 --json $ask | grep -E "\"(id|shard_id)\"" | tr -d , >"$top/before"
    expect 3 "no promotion without a yes" -- "$drover" collection promote shop $ask
    expect 5 "no promotion with a reader's token" 'Forbidden' -- env DROVER_TOKEN=$reader "$drover" collection promote shop --yes --server "$url"
    expect 0 "promote" 'promoted: 4 shards' -- "$drover" collection promote shop --yes $ask
    expect 0 "promote again" 'already' -- "$drover" collection promote shop --yes $ask
    expect 3 "promote with another key" -- "$drover" collection promote shop --default-shard-key other --yes $ask
}
kill -9 "$pid"
wait "$pid" 2>/dev/null
start
# shellcheck disable=SC2086
{
    expect 0 "custom after kill -9" 'sharding custom' -- "$drover" collection show shop $ask
    expect 0 "its key" '^"default"$' -- "$drover" collection keys shop $ask
    "$drover" collection route shop 1 2 3 4 5 6 7 8 --json $ask | grep -E "\"(id|shard_id)\"" | tr -d , >"$top/after"
    truth "no id has moved" cmp "$top/before" "$top/after"
    expect 0 "delete" deleted -- "$drover" collection delete shop --yes $ask
    expect 11 "delete again" -- "$drover" collection delete shop --yes $ask
}
kill -TERM "$pid"
wait "$pid"
same "a graceful end" "$?" 0
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
