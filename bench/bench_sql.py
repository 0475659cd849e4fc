# SPDX-License-Identifier: Apache-2.0
"""bench_sql.sh's work: half of a table's rows purged by an expression, everybody in turn on fresh
copies of the same table. bench_sql.py DROVER DIR ROWS ROUNDS"""
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import time

SUPPORT = pathlib.Path(__file__).resolve().parent.parent / "tests" / "support"
sys.path.insert(0, str(SUPPORT))
from sql_database import Database  # noqa: E402

BATCH = 5000
HALF = 500000  # of the values of `due`, 0 to 999,999, spread over all rows
WHERE = f"due < {HALF}"
COLUMNS = "id bigint NOT NULL PRIMARY KEY, due int NOT NULL, who varchar(40) NOT NULL, body varchar(200)"
# Durable commits, memory for the table: as a server in use has it, and not as one for tests.
OPTIONS = {
    "mariadb": ("--innodb-buffer-pool-size=512M", "--innodb-log-file-size=512M", "--innodb-flush-log-at-trx-commit=1",
                "--innodb-flush-method=O_DIRECT", "--innodb-doublewrite=1"),
    "postgres": ("-c", "fsync=on", "-c", "full_page_writes=on", "-c", "shared_buffers=512MB", "-c",
                 "max_wal_size=4GB", "-c", "autovacuum=off"),
}
FILL = {
    "mariadb": "CREATE TABLE base (%s) ENGINE=InnoDB; INSERT INTO base SELECT seq, seq * 7919 %% 1000000,"
               " CONCAT('user', seq, '@example.com'), REPEAT(CHAR(97 + seq %% 26), 100) FROM seq_1_to_%d;",
    "postgres": "CREATE TABLE base (%s); INSERT INTO base SELECT n, n * 7919::bigint %% 1000000, 'user' || n ||"
                " '@example.com', repeat(chr(97 + n %% 26), 100) FROM generate_series(1, %d) n;",
}
AGAIN = {
    "mariadb": "DROP TABLE IF EXISTS t; CREATE TABLE t LIKE base; INSERT INTO t SELECT * FROM base; ANALYZE TABLE t;",
    "postgres": "DROP TABLE IF EXISTS t; CREATE TABLE t (LIKE base INCLUDING ALL); INSERT INTO t SELECT * FROM base;"
                " VACUUM ANALYZE t;",
}
# The bare loop runs inside the server, without a round trip, and knows nothing but the next key.
BARE = {
    "mariadb": f"""
DELIMITER //
CREATE OR REPLACE PROCEDURE bare() MODIFIES SQL DATA
BEGIN
    DECLARE low bigint DEFAULT -1;
    DECLARE high bigint;
    again: LOOP
        SET high = NULL;
        SELECT id INTO high FROM t WHERE id > low AND {WHERE} ORDER BY id LIMIT {BATCH - 1}, 1;
        IF high IS NULL THEN
            DELETE FROM t WHERE id > low AND {WHERE};
            COMMIT;
            LEAVE again;
        END IF;
        DELETE FROM t WHERE id > low AND id <= high AND {WHERE};
        COMMIT;
        SET low = high;
    END LOOP;
END //
DELIMITER ;
""",
    "postgres": f"""
CREATE OR REPLACE PROCEDURE bare() LANGUAGE plpgsql AS $$
DECLARE low bigint := -1; high bigint;
BEGIN
    LOOP
        SELECT id INTO high FROM t WHERE id > low AND {WHERE} ORDER BY id OFFSET {BATCH - 1} LIMIT 1;
        IF high IS NULL THEN
            DELETE FROM t WHERE id > low AND {WHERE};
            COMMIT;
            EXIT;
        END IF;
        DELETE FROM t WHERE id > low AND id <= high AND {WHERE};
        COMMIT;
        low := high;
    END LOOP;
END $$;
""",
}


def run(*command, env=None):
    subprocess.run([str(c) for c in command], check=True, env=env, stdin=subprocess.DEVNULL,
                   stdout=subprocess.DEVNULL)


def drover(program, db, top, *options):
    data = os.path.join(top, "data")
    shutil.rmtree(data, ignore_errors=True)
    run(program, "--data", data, "sql", "purge", "--url", db.url, "--table", "t", "--where", WHERE, "--allow-scan",
        "--yes", "--quiet", *options)


def pt_archiver(db, top):
    """Its fastest way: whole ranges in one statement, a commit for each."""
    config = os.path.join(top, "client.cnf")
    with open(config, "w", encoding="utf-8") as f:
        f.write(f'[client]\nhost=127.0.0.1\nport={db.port}\nuser=drover\npassword="{db.password}"\n')
    run("pt-archiver", "--source", f"F={config},D=drover,t=t,i=PRIMARY", "--where", WHERE, "--purge", "--bulk-delete",
        "--limit", BATCH, "--commit-each", "--no-version-check", "--no-check-charset")


def contest(kind, program, top, rows, rounds):
    folder = os.path.join(top, kind)
    db = Database(kind, folder, OPTIONS[kind])
    contestants = {
        "bare keyset loop": lambda: db.sql("CALL bare();"),
        "drover --irreversible": lambda: drover(program, db, top, "--irreversible"),
        "drover with archive": lambda: drover(program, db, top),
    }
    if kind == "mariadb":
        contestants = {"pt-archiver --bulk-delete": lambda: pt_archiver(db, top), **contestants}
    seconds = {name: [] for name in contestants}
    try:
        db.sql(FILL[kind] % (COLUMNS, rows))
        db.sql(BARE[kind])
        gone = db.number(f"SELECT COUNT(*) FROM base WHERE {WHERE}")
        for _ in range(rounds):
            for name, work in contestants.items():
                db.sql(AGAIN[kind])
                os.sync()
                begin = time.monotonic()
                work()
                seconds[name].append(time.monotonic() - begin)
                if db.number("SELECT COUNT(*) FROM t") != rows - gone or db.number(
                        f"SELECT COUNT(*) FROM t WHERE {WHERE}") != 0:
                    raise RuntimeError(f"{name} left something else")
    finally:
        db.stop()
    median = {name: statistics.median(found) for name, found in seconds.items()}
    print(f"{kind + f': {gone} of {rows} rows':34} {'seconds':>8} {'rows/s':>9} {'of pt-archiver':>15}"
          f" {'of bare':>8}")
    for name, took in median.items():
        other = median.get("pt-archiver --bulk-delete")
        print(f"{name:34} {took:8.1f} {gone / took:9.0f} {other / took if other else float('nan'):15.2f}"
              f" {median['bare keyset loop'] / took:8.2f}", flush=True)


def main():
    program, top = sys.argv[1:3]
    rows, rounds = int(sys.argv[3]), int(sys.argv[4])
    os.makedirs(top, exist_ok=True)
    top = os.path.realpath(top)
    try:
        for kind in sys.argv[5:] or ("mariadb", "postgres"):
            contest(kind, program, top, rows, rounds)
    finally:
        shutil.rmtree(os.path.join(top, "data"), ignore_errors=True)


if __name__ == "__main__":
    main()
