#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The daemon over HTTP: a job goes in, is worked on, steered and undone; other processes use the same
# folder; statistics in a real Redis go away; refusals, tokens, kill -9 and a graceful end.
set -u
here=$(cd "$(dirname "$0")" && pwd)
. "$here/lib.sh"
make_cluster 20000
acme=$(sums 'acme.%')
globex=$(sums 'globex.%')
cluster=sqlite:$top/cluster/cluster.db
operator=operator-0123456789abcdef
admin=admin-0123456789abcdef
printf 'read:reader-0123456789abcdef\noperate:console:%s\nadmin:root:%s\n' $operator $admin >"$top/tokens"
chmod 600 "$top/tokens"
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
url=http://127.0.0.1:$port
token=$operator

start() { # start [OPTION...]: the daemon, until it is ready
    "$drover" serve --listen "127.0.0.1:$port" --tokens "$top/tokens" "$@" >"$top/serve.out" 2>&1 &
    pid=$!
    pids="$pids $pid"
    until_true 20 curl -fs "$url/readyz" || {
        echo "the daemon did not start"
        cat "$top/serve.out"
        exit 1
    }
}
# http CODE METHOD PATH [BODY [HEADER]]: the answer goes to $out, true when the status is CODE
http() {
    got=$(curl -s -o "$out" -w '%{http_code}' -X "$2" -H "Authorization: Bearer $token" ${4:+-H} \
        ${4:+"Content-Type: application/json"} ${4:+--data} ${4:+"$4"} ${5:+-H} ${5:+"$5"} "$url$3")
    [ "$got" = "$1" ] || {
        echo "     | $2 $3: status $got, not $1: $(cat "$out")"
        return 1
    }
}
has() { grep -Eq -- "$1" "$out"; }
is() { http 200 GET "/operations/$1" && has "\"status\":\"$2\""; }
erased() { http 200 GET "/operations/$1" && has '"done":[1-9][0-9][0-9]'; }
drop='{"kind":"tenant.drop","store":"'$cluster'","database":"acme"'
slow='"tuning":{"rate":4000,"batch_items_max":200}}'

# --- refusals before anything is served ---------------------------------------------------------------
expect 3 "all addresses without tokens" 'tokens' -- "$drover" serve --listen 0.0.0.0:$port
expect 4 "an address that is none" 'ADDR:PORT' -- "$drover" serve --listen here
chmod 644 "$top/tokens"
expect 3 "tokens that others may read" 'chmod 600' -- "$drover" serve --listen 127.0.0.1:$port --tokens "$top/tokens"
chmod 600 "$top/tokens"
expect 4 "no tokens file" 'tokens' -- "$drover" serve --listen 127.0.0.1:$port --tokens "$top/none"
fresh

# --- one job from end to end ---------------------------------------------------------------------------
start
expect 6 "a second owner is refused" -- "$drover" work
truth "alive without a token" curl -fs -o "$out" "$url/healthz"
token=wrong-0123456789abcdef
truth "a wrong token is refused" http 401 GET /operations
token=$operator
truth "a job is accepted" http 202 POST /operations "$drop,$slow" "Idempotency-Key: night-1"
truth "with its number" has '"id":1,'
truth "the key again gives the same one" http 200 POST /operations "$drop,$slow" "Idempotency-Key: night-1"
truth "and says so" has '"repeated":true'
truth "the key for another job is refused" http 409 POST /operations "$drop}" "Idempotency-Key: night-1"
truth "rows go" until_true 20 erased 1
expect 0 "status from another process" 'running' -- "$drover" status 1
expect 0 "the audit names the token" 'api:console' -- "$drover" audit 1
truth "pause" http 202 POST /operations/1/pause '{"reason":"lunch"}'
truth "it pauses" until_true 5 is 1 paused
expect 0 "explain says who and why" 'api:console.*lunch' -- "$drover" explain 1
truth "tune" http 200 POST /operations/1/tune '{"rate":3000}'
truth "tune shows the whole" has '"rate":3000'
truth "max_items needs more than operate" http 403 POST /operations/1/tune '{"max_items":7}'
expect 0 "resume from the command line" -- "$drover" resume 1
truth "it goes on" until_true 5 is 1 running
truth "explain over HTTP" http 200 GET /operations/1/explain
truth "names the limit" has '3,000 items a second'
truth "stop now" http 202 POST /operations/1/stop '{"now":true}'
truth "it rolls back" until_true 30 is 1 'rolled back'
same "all rows are back" "$(sums 'acme.%')" "$acme"
truth "going on is refused" http 409 POST /operations/1/resume '{}'

# --- other processes put jobs into the same folder -------------------------------------------------------
job drop2 '{"kind":"tenant.drop","store":"@","database":"acme"}'
expect 0 "submit from the command line" -- "$drover" submit "$top/drop2" --yes
truth "the daemon does it" until_true 30 is 2 'done'
truth "the rows are gone" [ "$(sums 'acme.%')" != "$acme" ]
same "the neighbour is untouched" "$(sums 'globex.%')" "$globex"
truth "rollback over HTTP" http 202 POST /operations/2/rollback
truth "is done" until_true 30 is 2 'rolled back'
same "all rows are back again" "$(sums 'acme.%')" "$acme"

# --- what comes in wrong stores nothing ------------------------------------------------------------------
truth "a job without a kind" http 400 POST /operations '{}'
truth "names the field" has '"field":"kind"'
truth "an unknown key" http 400 POST /operations "$drop,\"bse\":1}"
truth "names it" has '"field":"bse"'
truth "a database that is not there" http 400 POST /operations '{"kind":"tenant.drop","store":"'$cluster'","database":"nobody"}'
truth "is called so" has '"code":"NOT_FOUND"'
truth "irreversible needs admin" http 403 POST /operations "$drop,\"irreversible\":true}"
truth "no statistics are configured" http 501 DELETE /services/1006/stats '{"metrics":["m"],"from":10,"to":20}'
truth "the list" http 200 GET '/operations?limit=10'
truth "still ends with operation 2" has '"next":null'
same "two operations" "$(grep -o '"group":' "$out" | wc -l)" 2
truth "steps come in pages" http 200 GET '/operations/1/steps?limit=3'
same "three steps" "$(grep -o '"title":' "$out" | wc -l)" 3
truth "numbers" http 200 GET /metrics
truth "of items" has '^drover_items_total\{what="erased"\} [1-9]'
truth "of batches" has '^drover_batch_seconds_count\{work="erase"\} [1-9]'
truth "of operations" has '^drover_operations\{status="rolled back"\} 2$'
truth "of requests" has '^drover_api_requests_total\{method="POST",route="/operations",code="202"\} 1$'
truth "one log line per request" grep -Eq 'request method=POST path=/operations code=202 ms=[0-9.]+ who=api:console' "$top/serve.out"
truth "no token in the log" sh -c "! grep -q 0123456789abcdef '$top/serve.out'"

# --- killed in the middle, started again: the operation goes on ---------------------------------------------
truth "a third job" http 202 POST /operations "$drop,$slow"
truth "runs" until_true 20 erased 3
kill -9 "$pid"
wait "$pid" 2>/dev/null
start
truth "and goes on after kill -9" http 200 POST /operations/3/tune '{"rate":0,"batch_items_max":2000}'
truth "to its end" until_true 40 is 3 'done'
truth "and can still be undone" http 202 POST /operations/3/rollback
truth "wholly" until_true 40 is 3 'rolled back'
same "all rows are back a third time" "$(sums 'acme.%')" "$acme"

# --- a graceful end in the middle ---------------------------------------------------------------------------
truth "a fourth job" http 202 POST /operations "$drop,$slow"
truth "runs" until_true 20 erased 4
kill -TERM "$pid"
code=0
wait "$pid" || code=$?
same "SIGTERM ends with 0" "$code" 0
truth "the port is free" sh -c "! curl -fs '$url/healthz'"
truth "no step is left leased" sh -c "! '$drover' steps 4 --limit 0 --status leased | grep -q leased"
expect 0 "the command line undoes it, nobody owning the folder" -- sh -c "'$drover' --quiet rollback 4 --yes"
same "all rows are back a fourth time" "$(sums 'acme.%')" "$acme"
same "the neighbour is untouched to the end" "$(sums 'globex.%')" "$globex"

# --- statistics in a real Redis -----------------------------------------------------------------------------
redis=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
if "$drover" version | grep -qw redis && command -v redis-server >/dev/null; then
    redis-server --port "$redis" --bind 127.0.0.1 --dir "$top" --save "" >"$top/redis.out" 2>&1 &
    pids="$pids $!"
    truth "a Redis server" until_true 20 redis-cli -p "$redis" ping
    for a in a1 a2 a3; do
        for d in 20191216 20191217; do
            redis-cli -p "$redis" set "stats/{service:1006}/cinstance:$a/metric:m1/day:$d" 7
            redis-cli -p "$redis" set "stats/{service:2007}/cinstance:$a/metric:m1/day:$d" 8
        done
    done >/dev/null
    printf '{"redis_stats": {"store": "redis://127.0.0.1:%s", "archive_days": 3}}' "$redis" >"$DROVER_DATA/drover.json"
    keys() { redis-cli -p "$redis" --scan --pattern "$1" | wc -l; }
    start
    span='"metrics":["m1"],"users":[],"from":1576454400,"to":1576627199'
    for wrong in '"applications":"a1"' '"applications":[1]' '"metrics":"m1","applications":[]'; do
        truth "a bad list" http 400 DELETE /services/1006/stats "{$wrong,\"from\":10,\"to\":20}"
        truth "is named" has '"field":"(applications|metrics)'
    done
    truth "from after to" http 400 DELETE /services/1006/stats '{"applications":["a1"],"metrics":["m1"],"users":[],"from":20,"to":10}'
    truth "from zero" http 400 DELETE /services/1006/stats '{"applications":["a1"],"metrics":["m1"],"users":[],"from":0,"to":10}'
    truth "names from" has '"field":"from"'
    truth "nothing was stored" http 404 GET /operations/5
    truth "one application" http 202 DELETE /services/1006/stats "{\"applications\":[\"a1\"],$span}" "Idempotency-Key: s-1"
    truth "the next ones" http 202 DELETE /services/1006/stats "{\"applications\":[\"a2\",\"a3\"],$span}" "Idempotency-Key: s-2"
    truth "repeated" http 200 DELETE /services/1006/stats "{\"applications\":[\"a1\"],$span}" "Idempotency-Key: s-1"
    truth "the first is done" until_true 30 is 5 'done'
    truth "the second is done" until_true 30 is 6 'done'
    same "the keys are gone" "$(keys 'stats/{service:1006}*')" 0
    same "the other service's stay" "$(keys 'stats/{service:2007}*')" 6
    truth "rollback" http 202 POST /operations/5/rollback
    truth "brings back" until_true 30 is 5 'rolled back'
    same "its keys" "$(keys 'stats/{service:1006}*')" 2
    redis-cli -p "$redis" shutdown nosave >/dev/null 2>&1
    truth "a server that is gone is told" http 502 DELETE /services/1006/stats "{\"applications\":[\"a1\"],$span}"
    kill -TERM "$pid"
    code=0
    wait "$pid" || code=$?
    same "and the daemon ends with 0" "$code" 0
fi
finish
