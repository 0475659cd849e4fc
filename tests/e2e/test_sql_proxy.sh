#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# `sql.purge` and `tokenserver purge` while the way to the database loses requests and answers, on
# MariaDB and PostgreSQL. The cases stand in sql_proxy.py. Usage: test_sql_proxy.sh [BUILD]
set -u
build=$(cd "${1:-build/test}" && pwd)
here=$(cd "$(dirname "$0")" && pwd)
top=$(mktemp -d)
trap 'rm -rf "$top"' EXIT
for kind in mariadb postgres; do
    python3 "$here/sql_proxy.py" "$build" "$kind" >"$top/$kind" 2>&1 &
done
wait
cat "$top/mariadb" "$top/postgres"
counts=$(sed -n 's/^\(mariadb\|postgres\): \([0-9]*\) passed, \([0-9]*\) failed$/\2 \3/p' "$top/mariadb" "$top/postgres")
echo "$counts" | awk '{ p += $1; f += $2 } END { printf "%d passed, %d failed\n", p, f; exit !(NR == 2 && p > 0 && f == 0) }'
