#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Three daemons that keep their points in SQLite, PostgreSQL and MariaDB, with real servers that are
# stopped, killed and started again. test_points_store.sh BUILD
set -u
here=$(cd "$(dirname "$0")" && pwd)
. "$here/lib.sh"
server="bash $here/../support/sql_server.sh"
if ! "$drover" help serve | grep -q points-store; then
    echo "test_points_store: this build has no catalog"
    exit 1
fi
chmod 711 "$top" # servers run as another user
child=
finish() {
    [ -n "$child" ] && kill -TERM "$child" 2>/dev/null && wait "$child"
    for kind in postgres mariadb; do $server stop "$top/$kind" >/dev/null 2>&1; done
    cleanup
}
trap finish EXIT
trap 'exit 130' INT TERM
for kind in postgres mariadb; do
    $server start "$kind" "$top/$kind" --owner $$ >"$top/$kind.env" 2>"$top/$kind.log" || {
        echo "FAIL $kind does not start"
        cat "$top/$kind.log"
        exit 1
    }
done
url() { sed -n 's/^URL=//p' "$top/$1.env"; }
PYTHONDONTWRITEBYTECODE=1 python3 "$here/points_store.py" "$drover" "$here/../support/sql_server.sh" \
    "$top/postgres" "$(url postgres)" "$top/mariadb" "$(url mariadb)" &
child=$!
wait "$child"
code=$?
child=
exit "$code"
