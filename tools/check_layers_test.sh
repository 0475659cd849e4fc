#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The layer checker's own test: trees with one mistake each must fail, the sound one must pass.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
tree() {
    rm -rf "$dir/src"
    mkdir -p "$dir/src/base" "$dir/src/queue" "$dir/src/worker" "$dir/src/store/sqlite"
    printf '#include "%s"\n' "$2" >"$dir/src/$1"
}
expect() {
    want=$1
    shift
    tree "$1" "$2"
    got=0
    "$here/check_layers.sh" "$dir/src" >/dev/null 2>&1 || got=1
    [ "$got" = "$want" ] || {
        echo "check_layers_test: $1 including $2: expected $want, got $got" >&2
        exit 1
    }
}
expect 0 worker/a.c queue/queue.h
expect 1 queue/a.c worker/worker.h
expect 1 base/a.c obs/log.h
expect 1 worker/a.c queue/queue_private.h
expect 1 worker/a.c store/sqlite/sqlite_store.h
expect 0 store/store.c store/sqlite/sqlite_store.h
expect 1 worker/a.c a.h
printf '#include <sqlite3.h>\n' >"$dir/src/worker/a.c"
! "$here/check_layers.sh" "$dir/src" >/dev/null 2>&1 || exit 1
