#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Install the Debian packages a task needs: `tools/deps.sh build [test] [check] [demo] [bench]`.
# Says nothing and touches nothing when all of them are there.
set -eu
want=""
for task in "$@"; do
    case "$task" in
    build) want="$want gcc libc6-dev make cmake pkg-config libsqlite3-dev libjansson-dev libzstd-dev libxxhash-dev libhiredis-dev libmicrohttpd-dev libmongoc-dev libssl-dev libmariadb-dev libpq-dev libcurl4-openssl-dev libraft-dev libuv1-dev libgrpc-dev libprotobuf-c-dev protobuf-c-compiler" ;;
    test) want="$want libcmocka-dev clang libclang-rt-14-dev sqlite3 python3 redis-server redis-tools curl mariadb-server mariadb-client postgresql postgresql-client nodejs npm openssl iproute2" ;;
    check) want="$want clang-format clang-tidy cppcheck clang libclang-rt-14-dev" ;;
    demo) want="$want sqlite3" ;;
    bench) want="$want percona-toolkit python3-pymysql etcd-server etcd-client" ;;
    *) echo "deps.sh: unknown task '$task'" >&2; exit 2 ;;
    esac
done
missing=""
for package in $want; do
    state=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
    # The makers of Node.js ship npm inside their own package, which Debian's npm cannot stand beside.
    if [ "$package" = npm ] && command -v npm >/dev/null; then state=installed; fi
    [ "$state" = installed ] || missing="$missing $package"
done
[ -n "$missing" ] || exit 0
command -v apt-get >/dev/null || {
    echo "deps.sh: install these first (no apt-get here):$missing" >&2
    exit 1
}
sudo=""
if [ "$(id -u)" != 0 ]; then
    command -v sudo >/dev/null || {
        echo "deps.sh: as root: apt-get install --no-install-recommends$missing" >&2
        exit 1
    }
    sudo=sudo
fi
echo "installing:$missing" >&2
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
# shellcheck disable=SC2086
if ! { $sudo apt-get update && $sudo apt-get install -y --no-install-recommends $missing; } >"$log" 2>&1; then
    tail -n 20 "$log" >&2
    rm -f "$log"
    exit 1
fi
rm -f "$log"
