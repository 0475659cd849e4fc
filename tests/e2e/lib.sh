# SPDX-License-Identifier: Apache-2.0
# Shared by the command line tests: a folder, the sample cluster, expectations with counts.
# shellcheck shell=sh
build=$(cd "${1:-build/test}" && pwd)
drover=$build/drover
top=$(mktemp -d)
pids=
cleanup() {
    for p in $pids; do kill -9 "$p" 2>/dev/null || true; done
    chmod -R u+w "$top" 2>/dev/null || true
    rm -rf "$top"
}
trap cleanup EXIT
export DROVER_DATA="$top/data"
passed=0
failed=0
out=$top/out

make_cluster() { # make_cluster ROWS
    rm -rf "$top/cluster"
    "$build/drover-sample" "$top/cluster" "$1"
}
sums() { # sums LIKE
    for s in s1 s2 s3 s4; do sqlite3 "$top/cluster/$s.db" ".sha3sum --sha3-256 $1"; done
}
fresh() { rm -rf "$DROVER_DATA"; }
job() { # job NAME JSON: writes $top/NAME, with @ standing for the cluster's URL
    printf '%s\n' "$2" | sed "s|@|sqlite:$top/cluster/cluster.db|" >"$top/$1"
}
# expect EXIT "what" [PATTERN] -- COMMAND...: run, compare the exit code, look for a pattern in the output
expect() {
    want=$1
    what=$2
    pattern=
    shift 2
    if [ "$1" != -- ]; then
        pattern=$1
        shift
    fi
    shift
    code=0
    "$@" >"$out" 2>&1 </dev/null || code=$?
    if [ "$code" != "$want" ]; then
        failed=$((failed + 1))
        echo "FAIL $what: exit $code, not $want: $*"
        sed 's/^/     | /' "$out" | tail -n 15
    elif [ -n "$pattern" ] && ! grep -Eq -- "$pattern" "$out"; then
        failed=$((failed + 1))
        echo "FAIL $what: no line matches '$pattern'"
        sed 's/^/     | /' "$out" | tail -n 15
    else
        passed=$((passed + 1))
    fi
}
# truth "what" COMMAND...: the command must succeed
truth() {
    what=$1
    shift
    if "$@"; then passed=$((passed + 1)); else
        failed=$((failed + 1))
        echo "FAIL $what"
    fi
}
same() { # same "what" A B
    if [ "$2" = "$3" ]; then passed=$((passed + 1)); else
        failed=$((failed + 1))
        echo "FAIL $1: '$2' is not '$3'"
    fi
}
# until_true SECONDS COMMAND...: wait for a condition, with a limit
until_true() {
    limit=$(($(date +%s) + $1))
    shift
    while ! "$@" >/dev/null 2>&1; do
        [ "$(date +%s)" -lt "$limit" ] || return 1
        sleep 0.05
    done
}
status_is() { "$drover" status "$1" --json | grep -q "\"status\": *\"$2\""; }
done_at_least() { # done_at_least OP N
    n=$("$drover" status "$1" --json | sed -n 's/.*"done": *\([0-9][0-9]*\).*/\1/p' | head -n 1)
    [ "${n:-0}" -ge "$2" ]
}
finish() {
    echo "$passed passed, $failed failed"
    [ "$failed" = 0 ] && [ "$passed" -gt 0 ]
}
