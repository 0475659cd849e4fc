#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""As crash.py does on SQLite: kill drover at every fault point and at random moments while it purges
a table on MariaDB or PostgreSQL, go on, compare.

usage: crash_sql.py BUILD [--seconds N] [--rows N] [--seed N] [--only POINT] [--kind mariadb|postgres] [--lanes N]

After a run the table holds what the database's own DELETE leaves; after a rollback all of it is as
before, column for column. --seconds is for the random part on each database. Trials go in lanes beside
each other, each with tables of its own.
"""
import argparse
import copy
import json
import os
import pathlib
import shutil
import sys
import time
from concurrent.futures import ThreadPoolExecutor

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "support")]
from crash import Failed, Trial, folder, kill_at_points, kill_at_random, learn_points  # noqa: E402
from sql_database import Database  # noqa: E402

WHERE = {"number": "due < 7000", "text": "due >= 5000 OR kept IS NULL"}
JOBS = ("number", "text")  # by a number, and by two columns of which one is text: two ways to walk
LANES = 2  # on each server
MARIADB = """
CREATE TABLE base_number (id bigint unsigned NOT NULL AUTO_INCREMENT PRIMARY KEY, due int NOT NULL,
    kept varchar(40), amount decimal(20,6), at datetime(6), flags bit(9), raw varbinary(40), body mediumtext,
    ratio double, small float, doubled bigint AS (due * 2) STORED, KEY due_idx (due), UNIQUE KEY (body(60)))
    ENGINE=InnoDB DEFAULT CHARSET=utf8mb4;
INSERT INTO base_number (due, kept, amount, at, flags, raw, body, ratio, small)
    SELECT seq * 7919 % 10000, IF(seq % 5 = 0, NULL, CONCAT('ä€𝄞 ', seq)), seq / 7, '2020-01-01' + INTERVAL seq SECOND,
    seq % 512, IF(seq % 3 = 0, '', UNHEX(MD5(seq))), CONCAT(seq, REPEAT('x\\n\\0''\\\\', seq % 50)), seq / 3, seq / 9
    FROM seq_1_to_ROWS;
CREATE TABLE base_text (area varchar(20) CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci NOT NULL, nr int NOT NULL,
    due int NOT NULL, kept date, mode enum('a','b'), PRIMARY KEY (area, nr)) ENGINE=InnoDB;
INSERT INTO base_text SELECT CONCAT(ELT(seq % 4 + 1, 'Öst', 'ost', 'West', 'süd'), seq % 11), seq, seq * 7919 % 10000,
    IF(seq % 6 = 0, NULL, '2021-02-03'), IF(seq % 2, 'a', 'b') FROM seq_1_to_ROWS;
"""
POSTGRES = """
CREATE TABLE base_number (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, due int NOT NULL, kept varchar(40),
    amount numeric, at timestamptz, flags bit(9), raw bytea, body text, ratio float8, small float4, doc jsonb, list int[],
    doubled bigint GENERATED ALWAYS AS (due * 2) STORED);
CREATE INDEX due_idx ON base_number (due);
INSERT INTO base_number (due, kept, amount, at, flags, raw, body, ratio, small, doc, list)
    SELECT n * 7919 % 10000, CASE WHEN n % 5 <> 0 THEN 'ä€𝄞 ' || n END, n::numeric / 7, timestamptz '2020-01-01 UTC' +
    n * interval '1.000001 second', (n % 512)::bit(9), CASE WHEN n % 3 = 0 THEN '' ELSE decode(md5(n::text), 'hex') END,
    n || repeat(E'x\\n\\t''\\\\', n % 50), n / 3.0, n / 9.0, jsonb_build_object('n', n), ARRAY[n, NULL, -n]
    FROM generate_series(1, ROWS) n;
CREATE TABLE base_text (area varchar(20) NOT NULL, nr int NOT NULL, due int NOT NULL, kept date, mode text,
    PRIMARY KEY (area, nr));
INSERT INTO base_text SELECT (ARRAY['Öst', 'ost', 'West', 'süd'])[n % 4 + 1] || n % 11, n, n * 7919 % 10000,
    CASE WHEN n % 6 <> 0 THEN date '2021-02-03' END, CASE WHEN n % 2 = 1 THEN 'a' ELSE 'b' END
    FROM generate_series(1, ROWS) n;
"""
COLUMNS = {"number": "id, due, kept, amount, at, flags, raw, body, ratio, small",
           "text": "area, nr, due, kept, mode"}
KEY = {"number": "id", "text": "area, nr"}


class SqlBench:
    """Stands where crash.py has its Bench."""
    kinds = JOBS

    def __init__(self, build, kind, rows):
        self.drover = os.path.join(build, "drover")
        self.top = self.place = folder()
        self.number = 0
        os.chmod(self.top, 0o755)
        self.db = Database(kind, os.path.join(self.top, "server"))
        self.is_mariadb = kind == "mariadb"
        try:
            self.db.sql((MARIADB if self.is_mariadb else POSTGRES).replace("ROWS", str(rows)))
            self.whole, self.purged = {}, {}
            for name in self.kinds:
                self.refill(name)
                self.whole[name] = self.dump(name)
                self.db.sql(f"DELETE FROM {self.table(name)} WHERE {WHERE[name]};")
                self.purged[name] = self.dump(name)
                if self.whole[name] == self.purged[name]:
                    raise RuntimeError("the yardstick deletes nothing")
        except BaseException:
            self.close()
            raise

    def close(self):
        self.db.stop()
        shutil.rmtree(self.top, ignore_errors=True)

    def lane(self, number):
        """The same with a folder and tables of its own."""
        other = copy.copy(self)
        other.number, other.place = number, os.path.join(self.top, f"lane{number}")
        os.mkdir(other.place)
        return other

    def table(self, name):
        return f"by_{name}{self.number}"

    def trial(self, kind, irreversible=False):
        return SqlTrial(self, kind, irreversible)

    def columns(self, name):
        more = "" if self.is_mariadb or name != "number" else ", doc, list"
        return COLUMNS[name] + more

    def refill(self, name):
        table, base, columns = self.table(name), f"base_{name}", self.columns(name)
        like = f"LIKE {base}" if self.is_mariadb else f"(LIKE {base} INCLUDING ALL)"
        system = "" if self.is_mariadb or name != "number" else "OVERRIDING SYSTEM VALUE"
        self.db.sql(f"DROP TABLE IF EXISTS {table}; CREATE TABLE {table} {like};"
                    f" INSERT INTO {table} ({columns}) {system} SELECT {columns} FROM {base};")

    def dump(self, name):
        """Every row with every column, the generated one too, in the order of the key."""
        if not self.is_mariadb:
            return self.db.sql(f"COPY (SELECT * FROM {self.table(name)} ORDER BY {KEY[name]}) TO STDOUT;")
        columns = COLUMNS[name].replace("raw,", "HEX(raw), raw IS NULL,").replace("flags", "flags + 0")
        if name == "number":
            columns += ", doubled"
        return self.db.sql(f"SELECT {columns} FROM {self.table(name)} ORDER BY {KEY[name]};")


class SqlTrial(Trial):
    """One table, one data folder, one operation."""

    def __init__(self, bench, kind, irreversible=False):  # pylint: disable=super-init-not-called
        self.bench = bench
        self.kind = kind
        self.dir = os.path.join(bench.place, "trial")
        shutil.rmtree(self.dir, ignore_errors=True)
        os.mkdir(self.dir)
        bench.refill(kind)
        self.data = os.path.join(self.dir, "data")
        self.job = os.path.join(self.dir, "job.json")
        with open(self.job, "w", encoding="utf-8") as f:
            json.dump({"kind": "sql.purge", "store": bench.db.url, "where": WHERE[kind], "allow_scan": True,
                       "irreversible": irreversible, "tuning": {"batch_items_max": 100}, "table": bench.table(kind)}, f)

    def run_whole(self):
        self.run_once()

    def check_gone(self):
        self.compare(self.bench.purged, "the purge left something else than the database's own DELETE")

    def check_back(self):
        self.compare(self.bench.whole, "the rollback did not restore it exactly")

    def compare(self, wanted, complaint):
        found = self.bench.dump(self.kind)
        if found == wanted[self.kind]:
            return
        a, b = set(found.splitlines()), set(wanted[self.kind].splitlines())
        raise Failed(f"{complaint}: {len(b - a)} lines are missing, {len(a - b)} too many, such as "
                     f"{sorted(a ^ b)[:2]}")


def crash(build, kind, args):
    bench = SqlBench(build, kind, args.rows)
    passed = failed = kills = 0
    try:
        lanes = [bench.lane(i) for i in range(args.lanes)]
        points, took = {}, {}
        for name in bench.kinds:
            points[name], took[name] = learn_points(lanes[0], name)
        print(f"crash: {kind}: {len(points['number'][0])} fault points in a run, "
              f"{len(points['number'][1])} in a rollback")
        beyond = [points["text"][i] - points["number"][i] for i in (0, 1)]
        for name, where, nths in (("number", points["number"], (1, 4)), ("text", beyond, (1, 2))):
            p, f, k = kill_at_points(lanes, name, where, args.only, nths)
            passed, failed, kills = passed + p, failed + f, kills + k
        if not args.only:
            p, f, k = kill_at_random(lanes, args.seed, took, float("inf"), args.seconds)
            passed, failed = passed + p, failed + f
            print(f"crash: {kills + k} kills on {kind}, {k} of them at random (seed {args.seed})")
    except Failed as e:
        failed += 1
        print(f"crash: FAILED: {kind}: {e}")
    finally:
        bench.close()
    return passed, failed


def main():
    p = argparse.ArgumentParser()
    p.add_argument("build")
    p.add_argument("--seconds", type=float, default=40)
    p.add_argument("--rows", type=int, default=2000)
    p.add_argument("--seed", type=int, default=int(time.time()))
    p.add_argument("--only")
    p.add_argument("--lanes", type=int, default=LANES)
    p.add_argument("--kind", choices=("mariadb", "postgres"))
    args = p.parse_args()
    kinds = [args.kind] if args.kind else ["mariadb", "postgres"]
    # Both at the same time: most of it is waiting for the servers.
    with ThreadPoolExecutor(len(kinds)) as pool:
        counts = list(pool.map(lambda kind: crash(os.path.abspath(args.build), kind, args), kinds))
    passed, failed = (sum(column) for column in zip(*counts))
    print(f"{passed} passed, {failed} failed")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
