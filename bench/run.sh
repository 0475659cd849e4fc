#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# `make bench`: everything side by side in one run. BENCH_DIR names the disk to measure (default:
# build/bench/work); BENCH_ROWS, BENCH_BATCH and BENCH_ROUNDS size the erase contest,
# BENCH_KEYS that of Redis, BENCH_SQL_ROWS (half of them go) and BENCH_TOKENS those of SQL.
set -eu
cd "$(dirname "$0")/.."
cmake -S . -B build/bench -DDROVER_BENCH=ON >/dev/null
cmake --build build/bench -j "$(nproc)" >/dev/null
dir=${BENCH_DIR:-build/bench/work}
mkdir -p "$dir"
dir=$(cd "$dir" && pwd)
trap 'rm -rf "$dir"' EXIT
echo "== the queue"
mkdir "$dir/queue"
build/bench/bench_queue "$dir/queue"
echo "== key sequences"
build/bench/bench_keyseq
echo "== the catalog"
build/bench/bench_catalog
bench/bench_raft.sh build/bench "$dir/raft" "${BENCH_PROPOSALS:-20000}" 48 "${BENCH_RAFT_ROUNDS:-3}"
for batch in ${BENCH_BATCH:-1000 5000}; do
    echo "== erasing, batches of $batch"
    build/bench/bench_erase "$PWD/build/bench/drover" "$dir" "${BENCH_ROWS:-500000}" "$batch" "${BENCH_ROUNDS:-5}"
done
echo "== Redis"
bench/bench_redis.sh build/bench "$dir/redis" "${BENCH_KEYS:-1000000}" "${BENCH_REDIS_ROUNDS:-3}"
echo "== SQL"
chmod o+x "$dir"
bench/bench_sql.sh build/bench "$dir/sql" "${BENCH_SQL_ROWS:-2000000}" "${BENCH_SQL_ROUNDS:-1}"
echo "== moving a shard"
bench/bench_shard_move.sh build/bench "$dir/shard" "${BENCH_SHARD_ROWS:-1000000}" "${BENCH_SHARD_ROUNDS:-3}"
echo "== sharded tables"
python3 bench/bench_table.py build/bench "$dir/tables" "${BENCH_TABLE_ROUNDS:-5}"
echo "== obsolete token server records"
bench/bench_tokenserver.sh build/bench "${BENCH_TOKENS:-20000}" "${BENCH_TOKENS_SEQUENTIAL:-5000}" "${BENCH_TOKENS_ROUNDS:-3}"
echo "== MongoDB"
bench/bench_mongodb.sh build/bench "$dir/mongodb" "${BENCH_DOCUMENTS:-20000}" "${BENCH_MONGODB_ROUNDS:-3}"
