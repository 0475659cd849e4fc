#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Rows of one table, by an expression, in SQLite and in real MariaDB and PostgreSQL servers: what
# must survive survives, kill -9 loses nothing, undo brings back every byte, what must be refused is
# refused, a dropped table comes back while it is held, an unreachable replica makes it wait.
set -u
here=$(cd "$(dirname "$0")" && pwd)
. "$here/lib.sh"
server="bash $here/../support/sql_server.sh"
pass_word='dr@ver:1/2%'
secret='dr%40ver%3A1%2F2%25'
rows=20000
matching=8000 # e < 40 of e = id % 100
started=
chmod 711 "$top" # servers run as another user
stop_servers() { for d in $started; do $server stop "$d" >/dev/null 2>&1; done; }
trap 'stop_servers; cleanup' EXIT

# start DIALECT: sets url, port
start() {
    $server start "$1" "$top/$1" --owner $$ >"$top/$1.env" 2>"$top/$1.log" || {
        echo "FAIL $1 does not start"
        cat "$top/$1.log"
        exit 1
    }
    started="$started $top/$1"
    url=$(sed -n 's/^URL=//p' "$top/$1.env")
    port=$(sed -n 's/^PORT=//p' "$top/$1.env")
}

# --- the same questions in three dialects --------------------------------------------------------
q() { # q SQL: rows on standard output
    case $dialect in
    sqlite) sqlite3 "$top/a.db" "$1" ;;
    mariadb) MYSQL_PWD=$pass_word mariadb --protocol=tcp -h 127.0.0.1 -P "$port" -u drover -N -B drover -e "$1" ;;
    postgres) PGPASSWORD=$pass_word psql -h 127.0.0.1 -p "$port" -U drover -d drover -qAtX -v ON_ERROR_STOP=1 -c "$1" ;;
    esac
}
digest() { # digest TABLE: every value of every row
    case $dialect in
    sqlite) sqlite3 "$top/a.db" ".mode quote" "SELECT * FROM $1 ORDER BY 1" | sha256sum ;;
    mariadb) MYSQL_PWD=$pass_word mariadb-dump --protocol=tcp -h 127.0.0.1 -P "$port" -u drover --skip-comments \
        --skip-dump-date --order-by-primary --hex-blob --no-create-info --skip-extended-insert drover "$1" | sha256sum ;;
    postgres) q "COPY (SELECT * FROM $1 ORDER BY 1) TO STDOUT" | sha256sum ;;
    esac
}
fill() {
    case $dialect in
    sqlite)
        rm -f "$top/a.db"
        q "CREATE TABLE t(id INTEGER PRIMARY KEY, e INT, name TEXT, b BLOB, r REAL, n NUMERIC, anything,
             twice GENERATED ALWAYS AS (e * 2) STORED);
           CREATE INDEX by_e ON t(e);
           WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c WHERE i < $rows)
           INSERT INTO t(id, e, name, b, r, n, anything) SELECT i, i % 100,
             CASE i % 7 WHEN 0 THEN NULL WHEN 1 THEN '' ELSE 'naïve ''q'' ' || i END,
             CASE i % 5 WHEN 0 THEN NULL WHEN 1 THEN x'' ELSE x'00ff0a27' || CAST(i AS BLOB) END,
             CASE i % 3 WHEN 0 THEN NULL WHEN 1 THEN 9e999 ELSE i / 7.0 END, i * 1000000007,
             CASE i % 4 WHEN 0 THEN 5 WHEN 1 THEN '5' WHEN 2 THEN 5.5 ELSE x'35' END FROM c"
        key_less="CREATE TABLE keyless(a, b)" # SQLite's rows always have one
        ;;
    mariadb)
        q "CREATE TABLE t(id BIGINT UNSIGNED AUTO_INCREMENT PRIMARY KEY, e INT NOT NULL, name VARCHAR(60) CHARACTER SET utf8mb4,
             b VARBINARY(40), r DOUBLE, f FLOAT, n DECIMAL(30,10), d DATE, ts DATETIME(6), st TIMESTAMP(3) NULL, ti TIME(2), y YEAR,
             bits BIT(9), en ENUM('a','b','it''s'), se SET('x','y'), j JSON, big BIGINT UNSIGNED, txt TEXT, bl BLOB,
             twice INT AS (e * 2) STORED, KEY by_e (e)) ENGINE=InnoDB;
           INSERT INTO t(id,e,name,b,r,f,n,d,ts,st,ti,y,bits,en,se,j,big,txt,bl) SELECT seq, seq % 100,
             CASE seq % 7 WHEN 0 THEN NULL WHEN 1 THEN '' ELSE CONCAT('na\u00efve ''q'' \\\\ ', seq) END,
             CASE seq % 5 WHEN 0 THEN NULL WHEN 1 THEN '' ELSE CONCAT(x'00ff0a27', seq) END,
             IF(seq % 3 = 0, NULL, seq / 7e0), seq / 3e0, seq * 1000000007.0000000001, '2020-01-01' + INTERVAL seq % 3000 DAY,
             '2020-01-01 00:00:00.000001' + INTERVAL seq SECOND, IF(seq % 2, NULL, '2021-05-05 05:05:05.123'), '-12:13:14.15',
             1990 + seq % 60, seq % 512, 1 + seq % 3, 'x,y', JSON_OBJECT('k', seq), 18446744073709551615 - seq,
             REPEAT('t', seq % 50), IF(seq % 2, NULL, UNHEX('000102')) FROM seq_1_to_$rows;
           ANALYZE TABLE t" >/dev/null
        key_less="CREATE TABLE keyless(a INT, b INT)"
        ;;
    postgres)
        q "CREATE TYPE mood AS ENUM ('sad', 'it''s');
           CREATE TABLE t(id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, e int NOT NULL, name text, b bytea, r float8, f real,
             n numeric, d date, ts timestamp, tz timestamptz, ti time, iv interval, ok bool, u uuid, j jsonb, js json, a int[], ta text[],
             m mood, ip inet, ra int4range, bt bit varying(9), ch char(5), twice int GENERATED ALWAYS AS (e * 2) STORED);
           CREATE INDEX by_e ON t(e);
           INSERT INTO t(e,name,b,r,f,n,d,ts,tz,ti,iv,ok,u,j,js,a,ta,m,ip,ra,bt,ch) SELECT i % 100,
             CASE i % 7 WHEN 0 THEN NULL WHEN 1 THEN '' ELSE 'naïve ''q'' \\ ' || i END,
             CASE i % 5 WHEN 0 THEN NULL WHEN 1 THEN ''::bytea ELSE '\\x00ff0a27'::bytea END,
             CASE i % 3 WHEN 0 THEN NULL WHEN 1 THEN 'NaN'::float8 ELSE i / 7.0 END, i / 3.0, i * 1000000007.00000000010,
             CASE i % 9 WHEN 0 THEN 'infinity'::date ELSE '2020-01-01'::date + i % 3000 END, '2020-01-01 00:00:00.000001'::timestamp + i * interval '1 s',
             '2020-06-01 12:00:00+02'::timestamptz + i * interval '1 s', '12:13:14.15', '1 mon -2 days 03:04:05.678', i % 2 = 0,
             ('00000000-0000-4000-8000-' || lpad(i::text, 12, '0'))::uuid, jsonb_build_object('k', i, 'q', '\"'), '{ \"a\" :  1 }',
             ARRAY[i, NULL, 3], ARRAY['a,b', NULL, '\"'], 'it''s', '10.0.0.0/8', '[1,5)', B'101', 'ab' FROM generate_series(1, $rows) i;
           ANALYZE t"
        key_less="CREATE TABLE keyless(a int, b int)"
        ;;
    esac
    q "CREATE TABLE neighbour(id INT PRIMARY KEY, e INT)"
    q "INSERT INTO neighbour VALUES(1, 1), (2, 2)"
    q "$key_less"
    q "INSERT INTO keyless VALUES(1, 1), (1, 1), (2, 2), (NULL, 3)"
}
count() { q "SELECT count(*) FROM $1"; }
purge() { "$drover" sql purge --url "$url" "$@"; }

refusals() {
    before=$(digest t)
    expect 4 "$dialect: injection by a closing parenthesis" 'where' -- purge --table t --where 'e < 40) OR (1=1' --yes
    expect 4 "$dialect: injection by a semicolon" 'where' -- purge --table t --where '1=0; DROP TABLE neighbour' --yes
    expect 4 "$dialect: injection by a comment" 'where' -- purge --table t --where 'e < 40 -- x' --yes
    expect 3 "$dialect: all rows without consent" 'selects all' -- purge --table t --where 'id > 0' --yes
    expect 3 "$dialect: few rows without an index" 'allow-scan' -- purge --table t --where "name = 'x'" --yes
    expect 3 "$dialect: a drop without consent" 'irreversible' -- purge --table t --mode drop --yes
    expect 11 "$dialect: a table that is not there" -- purge --table nowhere --where 'e < 40' --yes
    code=0
    purge --table t --where 'nope < 40' --yes >"$out" 2>&1 || code=$?
    truth "$dialect: a column that is not there ($code)" [ "$code" != 0 ]
    code=0
    purge --table t --where 'e < 40' --key name --yes >"$out" 2>&1 || code=$?
    truth "$dialect: a key without an index ($code)" [ "$code" != 0 ]
    if [ "$dialect" != sqlite ]; then
        code=0
        purge --table keyless --where 'a = 1' --yes >"$out" 2>&1 || code=$?
        truth "$dialect: a table without a key ($code)" [ "$code" != 0 ]
        truth "$dialect: and the reason" grep -q 'no usable key' "$out"
        same "$dialect: its rows stay" "$(count keyless)" 4
    fi
    truth "$dialect: nothing was enqueued" [ ! -e "$DROVER_DATA/queue.db" ]
    same "$dialect: nothing was touched" "$(digest t)" "$before"
}

purge_killed_and_undone() {
    whole=$(digest t)
    others=$(digest neighbour)
    expect 0 "$dialect: dry run" 'shard-range +high' -- purge --table t --where 'e < 40' --dry-run
    truth "$dialect: it shows the expression" grep -q '^where e < 40$' "$out"
    same "$dialect: which touches nothing" "$(digest t)" "$whole"
    "$drover" sql purge --url "$url" --table t --where 'e < 40' --rate 4000 --batch-max 200 --report "$top/r.json" --yes --quiet >"$top/run.out" 2>&1 &
    run=$!
    pids="$pids $run"
    truth "$dialect: it gets going" until_true 20 done_at_least 1 600
    if [ "$dialect" != sqlite ]; then
        truth "$dialect: the process list shows no password" sh -c "! tr '\\0' ' ' </proc/$run/cmdline | grep -q '$secret'"
    fi
    kill -9 "$run" 2>/dev/null
    wait "$run" 2>/dev/null
    left=$(count t)
    truth "$dialect: killed in the middle ($left rows)" [ "$left" -lt "$rows" ] && [ "$left" -gt $((rows - matching)) ]
    q "INSERT INTO t(e) VALUES(1)" # behind the last key at planning: not this purge's
    expect 0 "$dialect: goes on after kill -9" -- "$drover" run 1 --yes --quiet
    same "$dialect: exactly the matching rows are gone" "$(count t)" $((rows - matching + 1))
    same "$dialect: but none that came later" "$(q 'SELECT count(*) FROM t WHERE e < 40')" 1
    q "DELETE FROM t WHERE id > $rows"
    same "$dialect: the neighbours stay" "$(digest neighbour)" "$others"
    expect 0 "$dialect: rollback" -- "$drover" rollback 1 --yes --quiet
    same "$dialect: every byte is back" "$(digest t)" "$whole"
    # Few rows by an index that serves the expression.
    expect 0 "$dialect: by an index" 'indexed +medium' -- purge --table t --where 'e = 7' --key e --dry-run
    expect 0 "$dialect: by an index, done" -- purge --table t --where 'e = 7' --key e --limit-per-batch 50 --yes --quiet
    same "$dialect: its rows are gone" "$(q 'SELECT count(*) FROM t WHERE e = 7')" 0
    same "$dialect: and only those" "$(count t)" $((rows - rows / 100))
    expect 0 "$dialect: undone as well" -- "$drover" rollback 2 --yes --quiet
    same "$dialect: and all is as before" "$(digest t)" "$whole"
}

held() { # held OP: its table is out of use and waits
    "$drover" explain "$1" | grep -q 'held until'
}
drop_and_hold() {
    fresh
    whole=$(digest t)
    expect 0 "$dialect: the plan of a drop" 'point of no return is step 3' -- purge --table t --mode drop --hold-days 3 --irreversible --dry-run
    "$drover" sql purge --url "$url" --table t --mode drop --hold-days 3 --irreversible --yes --quiet >"$top/drop.out" 2>&1 &
    run=$!
    pids="$pids $run"
    truth "$dialect: it is held" until_true 20 held 1
    same "$dialect: by another name" "$(count t_drover_hold)" "$rows"
    expect 0 "$dialect: rollback inside the hold" -- "$drover" rollback 1 --yes --quiet
    wait "$run" 2>/dev/null
    same "$dialect: the table is back" "$(digest t)" "$whole"
    fresh
    printf '{"kind":"sql.purge","store":"%s","table":"t","mode":"drop","hold_until":1700000000000,"irreversible":true}\n' \
        "$url" >"$top/hold"
    expect 0 "$dialect: a hold that is over" -- "$drover" run "$top/hold" --yes --quiet
    code=0
    count t >/dev/null 2>&1 || code=1
    count t_drover_hold >/dev/null 2>&1 || code=$((code + 1))
    same "$dialect: under both names" "$code" 2
    expect 3 "$dialect: and cannot be rolled back" 'irreversible' -- "$drover" rollback 1 --yes --quiet
    same "$dialect: the neighbour stays" "$(count neighbour)" 2
}

waits_for_replica() {
    fresh
    scheme=${url%%://*}
    "$drover" sql purge --url "$url" --table t --where 'e < 40' --replica "$scheme://drover:secretword@127.0.0.1:1/drover" --yes --quiet >"$top/wait.out" 2>&1 &
    run=$!
    pids="$pids $run"
    waits() { "$drover" explain 1 | grep -q 'replica'; }
    truth "$dialect: an unreachable replica makes it wait" until_true 30 waits
    truth "$dialect: the explanation shows no password" sh -c "! '$drover' explain 1 | grep -q secretword"
    truth "$dialect: nor does the status" sh -c "! '$drover' status 1 --json | grep -q secretword"
    same "$dialect: nothing is deleted meanwhile" "$(count t)" "$rows"
    kill -TERM "$run" 2>/dev/null
    wait "$run" 2>/dev/null
    fresh
}

keyless_allowed() {
    fresh
    expect 0 "$dialect: a table without a key, allowed" -- purge --table keyless --where 'a = 1' --allow-no-key --allow-scan --yes --quiet
    same "$dialect: its rows are gone" "$(count keyless)" 2
    expect 0 "$dialect: and come back" -- "$drover" rollback 1 --yes --quiet
    same "$dialect: all of them" "$(q 'SELECT count(*) FROM keyless WHERE a = 1')" 2
}

truncated() {
    fresh
    q "CREATE TABLE u(id INT PRIMARY KEY)"
    q "INSERT INTO u VALUES(1), (2)"
    expect 0 "$dialect: truncate" -- purge --table u --mode truncate --irreversible --yes --quiet
    same "$dialect: the table is empty" "$(count u)" 0
}

suite() {
    dialect=$1
    echo "-- $dialect"
    fresh
    if [ "$dialect" = sqlite ]; then url=sqlite:$top/a.db; else start "$dialect"; fi
    fill || { echo "FAIL $dialect: the table cannot be made"; exit 1; }
    same "$dialect: the table is made" "$(count t)" "$rows"
    refusals
    purge_killed_and_undone
    if [ "$dialect" != sqlite ]; then
        waits_for_replica
        keyless_allowed
        truncated
    else
        fresh
        expect 3 "SQLite has no TRUNCATE" 'mode drop' -- purge --table t --mode truncate --irreversible --yes
    fi
    drop_and_hold
    if [ "$dialect" != sqlite ]; then $server stop "$top/$dialect" >/dev/null 2>&1; fi
}

for d in ${DROVER_SQL_DIALECTS:-sqlite mariadb postgres}; do suite "$d"; done
finish
