#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Manticore nodes for tests: stand-ins on free loopback ports in a folder of their own, or the real
# ones that DROVER_TEST_MANTICORE_NODES names ("host:9306,host:9306,...").
#
#   manticore_server.sh start N DIR [--owner PID]
#       Make DIR, start N nodes and print for each k of 1..N (also into DIR/env):
#         NODEk=host:port of SQL   BINARYk=host:port of the binary port   DATAk=data_dir   PIDk=...
#       and REAL=1 when the nodes are real ones (then only `query` does anything else).
#       With --owner the nodes stop when that process ends.
#   manticore_server.sh crash|halt|again DIR K    kill at once / stop orderly / start once more
#   manticore_server.sh hook DIR K [TEXT]         trouble on demand; without a text: forget all of it
#   manticore_server.sh query DIR K SQL           rows as tab separated lines
#   manticore_server.sh stop DIR                  stop all and remove DIR
set -euo pipefail

here=$(dirname "$(readlink -f "$0")")
standin=$here/manticore_standin.py
say() { echo "manticore_server.sh: $*" >&2; }
die() { say "$*"; exit 1; }

fact() { # DIR NAME
    sed -n "s/^$2=//p" "$1/env" | tail -n 1
}

free_ports() { # how many
    python3 -c '
import socket, sys
held = [socket.socket() for _ in range(int(sys.argv[1]))]
for s in held: s.bind(("127.0.0.1", 0))
print(" ".join(str(s.getsockname()[1]) for s in held))' "$1"
}

launch() { # DIR K
    local dir=$1 k=$2 owner tries
    owner=$(fact "$dir" OWNER)
    : >"$dir/n$k.log"
    setsid python3 "$standin" --sql "$(fact "$dir" "NODE$k")" --binary "$(fact "$dir" "BINARY$k")" \
        --data-dir "$(fact "$dir" "DATA$k")" --no-sync --watch "${owner:-0}" \
        >"$dir/n$k.log" 2>&1 </dev/null &
    echo "PID$k=$!" >>"$dir/env"
    for tries in $(seq 1 200); do
        grep -q ready "$dir/n$k.log" && return
        sleep 0.05
    done
    cat "$dir/n$k.log" >&2
    die "node $k did not start"
}

start_real() { # N DIR
    local k=0 node
    echo "REAL=1" >"$2/env"
    for node in ${DROVER_TEST_MANTICORE_NODES//,/ }; do
        k=$((k + 1))
        [ "$k" -le "$1" ] || break
        echo "NODE$k=$node" >>"$2/env"
    done
    [ "$k" -ge "$1" ] || die "DROVER_TEST_MANTICORE_NODES names fewer than $1 nodes"
}

start() { # N DIR [--owner PID]
    local count=$1 dir=$2 owner=0 k ports
    [ "${3:-}" = --owner ] && owner=$4
    mkdir -p "$dir"
    if [ -n "${DROVER_TEST_MANTICORE_NODES:-}" ]; then
        start_real "$count" "$dir"
        cat "$dir/env"
        return
    fi
    echo "OWNER=$owner" >"$dir/env"
    read -r -a ports <<<"$(free_ports $((2 * count)))"
    for k in $(seq 1 "$count"); do
        {
            echo "NODE$k=127.0.0.1:${ports[2 * k - 2]}"
            echo "BINARY$k=127.0.0.1:${ports[2 * k - 1]}"
            echo "DATA$k=$dir/n$k"
        } >>"$dir/env"
    done
    for k in $(seq 1 "$count"); do
        launch "$dir" "$k"
    done
    cat "$dir/env"
}

end_one() { # DIR K SIGNAL
    local pid
    pid=$(fact "$1" "PID$2")
    [ -n "$pid" ] || return 0
    kill "-$3" "$pid" 2>/dev/null || return 0
    while kill -0 "$pid" 2>/dev/null; do sleep 0.02; done
}

[ $# -ge 2 ] || die "see the head of this file"
verb=$1
shift
case "$verb" in
start) start "$@" ;;
crash) end_one "$1" "$2" KILL ;;
halt) end_one "$1" "$2" TERM ;;
again) launch "$1" "$2" ;;
hook) python3 "$standin" hook "$(fact "$1" "BINARY$2")" "${3:-}" ;;
query) python3 "$standin" query "$(fact "$1" "NODE$2")" "$3" ;;
stop)
    [ -f "$1/env" ] || exit 0
    for pid in $(sed -n 's/^PID[0-9]*=//p' "$1/env"); do
        kill -KILL "$pid" 2>/dev/null || true
    done
    rm -rf "$1"
    ;;
*) die "what is \"$verb\"?" ;;
esac
