#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Sharded tables on the command line, with writers, on SQLite, MariaDB and PostgreSQL.
set -u
here=$(cd "$(dirname "$0")" && pwd)
build=$(cd "${1:-build/test}" && pwd)
# test_table.sh BUILD [--long] [CASE]: --long runs every case on every engine.
shift
exec python3 "$here/table.py" "$build" "${DROVER_TABLE_KINDS:-all}" "$@"
