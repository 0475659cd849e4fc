#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# A build without stores, Raft, gRPC and the API still builds, says so, and refuses its URLs with one clear line.
set -eu
cd "$(dirname "$0")/../.."
cmake -S . -B build/bare -DDROVER_STORE_SQLITE=OFF -DDROVER_STORE_REDIS=OFF -DDROVER_STORE_MONGODB=OFF -DDROVER_STORE_MARIADB=OFF -DDROVER_STORE_POSTGRES=OFF -DDROVER_STORE_MANTICORE=OFF -DDROVER_TOKENSERVER=OFF -DDROVER_RAFT=OFF -DDROVER_GRPC=OFF -DDROVER_API=OFF \
    -DDROVER_WERROR=ON >/dev/null
cmake --build build/bare -j "$(nproc)" --target drover >/dev/null
build/bare/drover --version | grep -q memory
! build/bare/drover --version | grep -qwE 'sqlite|redis'
build/bare/drover --version | grep -qx 'parts: none'
code=0
build/bare/drover serve >/dev/null 2>&1 || code=$?
[ "$code" = 4 ] || { echo "serve without the API: exit $code instead of 4"; exit 1; }
job=$(mktemp)
trap 'rm -f "$job"' EXIT
echo '{"kind": "tenant.drop", "store": "sqlite:/nowhere.db", "database": "acme"}' >"$job"
code=0
out=$(build/bare/drover plan "$job" 2>&1) || code=$?
[ "$code" = 4 ] || { echo "exit $code instead of 4: $out"; exit 1; }
echo "$out" | grep -q sqlite
