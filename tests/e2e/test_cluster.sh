#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Clusters of three and five daemons: promotion under load, with kills, partitions and lost
# majorities. test_cluster.sh BUILD [--long] [CASE]
set -u
here=$(cd "$(dirname "$0")" && pwd)
. "$here/lib.sh"
[ $# -gt 0 ] && shift
if ! "$drover" help serve | grep -q raft-listen; then
    echo "test_cluster: this build has no catalog"
    exit 1
fi
PYTHONDONTWRITEBYTECODE=1 python3 "$here/cluster.py" "$drover" "$@" &
child=$!
# A test that is ended ends its peers.
trap 'kill -TERM "$child" 2>/dev/null; wait "$child"; cleanup' EXIT
trap 'exit 130' INT TERM
wait "$child"
