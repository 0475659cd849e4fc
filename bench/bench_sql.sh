#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Purging half of a table by an expression: `drover sql purge` against pt-archiver at its best (MariaDB)
# and against a bare loop of keyset DELETEs inside the server (MariaDB, PostgreSQL), 5,000 rows a commit.
# Usage: bench_sql.sh BUILD DIR [ROWS] [ROUNDS] [mariadb|postgres]; DIR is on the disk to measure and can
# be reached by the user "nobody" when root runs this.
set -eu
build=$(cd "$1" && pwd)
here=$(cd "$(dirname "$0")" && pwd)
shift
dir=$1
shift
exec python3 "$here/bench_sql.py" "$build/drover" "$dir" "${1:-2000000}" "${2:-1}" ${3:+"$3"}
