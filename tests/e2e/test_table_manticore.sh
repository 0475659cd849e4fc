#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Sharded tables of Manticore on the command line, with writers: on stand-ins, or on the real nodes
# that DROVER_TEST_MANTICORE_NODES names ("host:9306,host:9306,host:9306,host:9306").
# Usage: test_table_manticore.sh [BUILD [--long] [CASE]]
set -u
here=$(cd "$(dirname "$0")" && pwd)
build=$(cd "${1:-build/test}" && pwd)
[ $# -gt 0 ] && shift
exec python3 "$here/table_manticore.py" "$build" "$@"
