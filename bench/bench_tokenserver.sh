#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Purging obsolete token server records, over 4 local nodes that answer in 2 ms: drover against a
# sequential client that does what the reference script does, as a ratio of one run.
# Usage: bench_tokenserver.sh BUILD [RECORDS] [SEQUENTIAL] [ROUNDS]; the sequential client purges only
# SEQUENTIAL records, rates are compared.
set -eu
build=$(cd "$1" && pwd)
here=$(cd "$(dirname "$0")" && pwd)
python=python3
"$python" -c 'import pymysql' 2>/dev/null || python=/usr/bin/python3 # Debian's own has its packages
"$python" "$here/bench_tokenserver.py" "$build/drover" "$build/bench_node" "${2:-20000}" "${3:-5000}" "${4:-3}"
