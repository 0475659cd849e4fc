#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Moving one shard of ROWS rows between two databases of one server: ensure, capture, copy, follow and
# comparing all rows, against a dump of the same table piped into the same server. Both in turn, medians.
#   bench_shard_move.sh BUILD_DIR WORK_DIR [ROWS] [ROUNDS]
set -euo pipefail
build=$1
work=$2
rows=${3:-1000000}
rounds=${4:-3}
here=$(cd "$(dirname "$0")" && pwd)
server=$here/../tests/support/sql_server.sh
columns='id bigint PRIMARY KEY, name varchar(60) NOT NULL, mail varchar(80), n int, at timestamp NULL, note text'
mkdir -p "$work"
trap '"$server" stop "$work/mariadb" || true; "$server" stop "$work/postgres" || true' EXIT

now_ms() { date +%s%3N; }
median() { printf '%s\n' "$@" | sort -n | sed -n "$((($# + 1) / 2))p"; }
value() { sed -n "s/.*$1_ms=\([0-9]*\).*/\1/p" <<<"$2"; }

fill_mariadb="INSERT INTO shard_bench SELECT seq, CONCAT('name ', seq), CONCAT(MD5(seq), '@example.org'), seq % 1000, '2020-01-01' + INTERVAL seq SECOND, REPEAT(MD5(seq), 4) FROM seq_1_to_$rows"
fill_postgres="INSERT INTO shard_bench SELECT g, 'name ' || g, md5(g::text) || '@example.org', g % 1000, timestamp '2020-01-01' + g * interval '1 s', repeat(md5(g::text), 4) FROM generate_series(1, $rows) g"

password='dr@ver:1/2%'
sql_mariadb() { mariadb --no-defaults -S "$work/mariadb/sql.sock" -u root "$@"; }
sql_postgres() { PGPASSWORD=$password psql -X -q -h 127.0.0.1 -p "$PORT" -U drover "$@"; }

dump_mariadb() {
    mariadb-dump --no-defaults -S "$work/mariadb/sql.sock" -u root --single-transaction --skip-triggers drover shard_bench |
        sql_mariadb drover_b
    sql_mariadb drover_b -e 'DROP TABLE shard_bench'
}
dump_postgres() {
    PGPASSWORD=$password pg_dump -h 127.0.0.1 -p "$PORT" -U drover -t shard_bench drover | sql_postgres -d drover_b >/dev/null
    sql_postgres -d drover_b -c 'DROP TABLE shard_bench'
}

for kind in mariadb postgres; do
    eval "$("$server" start "$kind" "$work/$kind" | grep -E '^(URL|PORT)=')"
    target=${URL%/drover}/drover_b
    if [ "$kind" = mariadb ]; then
        sql_mariadb -e "CREATE DATABASE drover_b; GRANT ALL ON drover_b.* TO drover@'%'"
    else
        PGPASSWORD=$password psql -X -q -h "$work/postgres" -p "$PORT" -U postgres -d postgres -c 'CREATE DATABASE drover_b OWNER drover'
    fi
    "$build/bench_shard_move" "$URL" "$target" shard_bench prepare "$columns"
    if [ "$kind" = mariadb ]; then sql_mariadb drover -e "$fill_mariadb"; else sql_postgres -d drover -c "$fill_postgres" -c 'ANALYZE shard_bench'; fi
    moves=() copies=() compares=() dumps=()
    for _ in $(seq "$rounds"); do
        t=$(now_ms)
        "dump_$kind"
        dumps+=($(($(now_ms) - t)))
        t=$(now_ms)
        out=$("$build/bench_shard_move" "$URL" "$target" shard_bench move "$columns")
        moves+=($(($(now_ms) - t)))
        copies+=("$(value copy "$out")")
        compares+=("$(value compare "$out")")
    done
    m=$(median "${moves[@]}") c=$(median "${copies[@]}") d=$(median "${dumps[@]}") g=$(median "${compares[@]}")
    echo "$kind, $rows rows, median of $rounds: dump and load ${d} ms ($((rows * 1000 / d)) rows/s); whole move ${m} ms ($((rows * 1000 / m)) rows/s), of it copy ${c} ms ($((rows * 1000 / c)) rows/s), comparing ${g} ms; copy / dump $((c * 100 / d)) %, move / dump $((m * 100 / d)) %"
    "$server" stop "$work/$kind"
done
