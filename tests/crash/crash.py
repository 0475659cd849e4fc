#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Kill drover with SIGKILL at every named fault point and at random moments, go on, compare.

usage: crash.py BUILD [--random N] [--rows N] [--seed N] [--only POINT] [--lanes N]

Three jobs take turns: a tenant is dropped, dropped with its emptied tables, and purged by a filter with a
temporary index. Each trial starts from the same sample cluster. After the kill the operation is continued until it
ends; then everything selected must be gone and nothing else, exactly as after an undisturbed run.
Then the operation is rolled back (killed there too, in the trials that say so) and every shard must be
byte for byte what it was, by the SHA3 of SQLite's own shell. A failing trial prints its seed. Trials go in
lanes beside each other, each with a folder of its own: a run mostly waits.
"""
import argparse
import contextlib
import copy
import os
import queue
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor

SHARDS = ("s1", "s2", "s3", "s4")
TRIES_MAX = 20
KINDS = ("drop", "tables", "purge")
PURGE_SQL = "total < 5000"
JOBS = {
    "drop": '"kind": "tenant.drop"',
    "tables": '"kind": "tenant.drop", "drop_when_empty": true',
    "purge": '"kind": "purge", "collection": "orders", "temp_index": true,'
             ' "filter": {"total": {"lt": 5000}}',
}
TRIAL_SECONDS_MAX = 120
FAILED_MAX = 5
LANES = 3


def folder():
    """Where all is written: in memory where that can be, unless TMPDIR says where. A kill -9 takes nothing from
    either."""
    memory = os.environ.get("TMPDIR", "/dev/shm")
    has_room = os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > 1 << 30
    return tempfile.mkdtemp(prefix="drover-crash.", dir=memory if has_room else None)


class Failed(Exception):
    pass


class Bench:
    """The sample cluster, and the folder of one lane."""
    kinds = KINDS

    def __init__(self, build, rows):
        self.drover = os.path.join(build, "drover")
        self.top = folder()
        self.place = self.top
        self.pristine = os.path.join(self.top, "pristine")
        subprocess.run([os.path.join(build, "drover-sample"), self.pristine, str(rows)], check=True)
        self.acme, self.globex = self.sums(self.pristine)
        self.purged = self.sums_after_purge()

    def lane(self, number):
        """The same with a folder of its own."""
        other = copy.copy(self)
        other.place = os.path.join(self.top, f"lane{number}")
        os.mkdir(other.place)
        return other

    def trial(self, kind, irreversible=False):
        return Trial(self, kind, irreversible)

    def sums_after_purge(self):
        """What SQLite's own DELETE leaves: the yardstick for the purge."""
        purged = os.path.join(self.top, "purged")
        shutil.copytree(self.pristine, purged)
        for shard in SHARDS:
            subprocess.run(["sqlite3", os.path.join(purged, shard + ".db"),
                            f'DELETE FROM "acme.orders" WHERE {PURGE_SQL}'], check=True)
        return self.sums(purged)[0]

    def sums(self, cluster):
        """The tables' sums, shard by shard: the tenant's and its neighbour's."""
        ask = "".join(f".open {os.path.join(cluster, shard + '.db')}\n.print shard|{shard}\n"
                      ".sha3sum --sha3-256 acme.%\n.sha3sum --sha3-256 globex.%\n" for shard in SHARDS)
        run = subprocess.run(["sqlite3", "-batch"], input=ask, check=True, capture_output=True, text=True)
        if run.stderr or run.stdout.count("shard|") != len(SHARDS):
            raise Failed(f"no sums: {run.stdout}{run.stderr}")
        lines = run.stdout.split()
        return [[line for line in lines if not line.split("|")[1].startswith(other)] for other in ("globex.", "acme.")]


class Trial:
    """One cluster, one data folder, one operation."""

    def __init__(self, bench, kind="drop", irreversible=False):
        self.bench = bench
        self.kind = kind
        self.dir = os.path.join(bench.place, "trial")
        shutil.rmtree(self.dir, ignore_errors=True)
        shutil.copytree(bench.pristine, self.dir)
        self.data = os.path.join(self.dir, "data")
        self.job = os.path.join(self.dir, "job.json")
        with open(self.job, "w", encoding="utf-8") as f:
            f.write('{%s, "store": "sqlite:%s/cluster.db", "database": "acme",'
                    ' "irreversible": %s, "tuning": {"batch_items_max": 100}}'
                    % (JOBS[kind], self.dir, "true" if irreversible else "false"))

    def start(self, args, env=None):
        full = dict(os.environ, **(env or {}))
        return subprocess.Popen(
            [self.bench.drover, "--data", self.data, "--quiet"] + args,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            env=full, text=True)

    def finish(self, process):
        try:
            out, _ = process.communicate(timeout=TRIAL_SECONDS_MAX)
        except subprocess.TimeoutExpired as e:
            process.kill()
            out, _ = process.communicate()
            raise Failed(f"did not end within {TRIAL_SECONDS_MAX} s: {out}") from e
        return process.returncode, out

    def run_args(self):
        """A killed start may or may not have stored the operation: look, as a person would."""
        code, out = self.finish(self.start(["status", "1"]))
        if code == 11:
            return ["run", self.job, "--yes"]
        if code != 0:
            raise Failed(f"status: exit {code}: {out}")
        return ["run", "1", "--yes"]

    def go_on(self, args_of, wanted):
        """Continue until the ending is reached; every attempt must at least get further or end."""
        for _ in range(TRIES_MAX):
            code, out = self.finish(self.start(args_of()))
            if code in wanted:
                return
            if code < 0:
                continue
            raise Failed(f"{args_of()}: exit {code}: {out}")
        raise Failed("never ended")

    def run_whole(self):
        """An undisturbed run, in a lane done once: after it, what it left is taken again."""
        done = os.path.join(self.bench.place, "done." + self.kind)
        if os.path.exists(done):
            shutil.rmtree(self.dir)
            shutil.copytree(done, self.dir)
            return
        self.run_once()
        shutil.copytree(self.dir, done)

    def run_once(self):
        code, out = self.finish(self.start(["run", self.job, "--yes"]))
        if code != 0:
            raise Failed(f"run: exit {code}: {out}")

    def check_gone(self):
        tables, left = self.check_tidy()
        acme, globex = self.bench.sums(self.dir)
        if self.kind == "purge":
            if acme != self.bench.purged:
                raise Failed("the purge left something else than SQLite's own DELETE")
        elif left:
            raise Failed(f"{left} rows are left")
        if self.kind == "tables" and tables:
            raise Failed("a table was not dropped")
        if globex != self.bench.globex:
            raise Failed("the neighbour was touched")

    def check_tidy(self):
        """How many tables and rows the tenant has."""
        tables = rows = 0
        for shard in SHARDS:
            with contextlib.closing(sqlite3.connect(os.path.join(self.dir, shard + ".db"))) as db:
                if db.execute("SELECT name FROM sqlite_master WHERE type='index' AND name LIKE 'drover%'").fetchall():
                    raise Failed("a temporary index was left behind")
                names = db.execute("SELECT name FROM sqlite_master"
                                   " WHERE type='table' AND name LIKE 'acme.%'").fetchall()
                tables += len(names)
                rows += sum(db.execute(f'SELECT count(*) FROM "{name}"').fetchone()[0] for name, in names)
        return tables, rows

    def check_back(self):
        self.check_tidy()
        acme, globex = self.bench.sums(self.dir)
        if acme != self.bench.acme:
            raise Failed("the rollback did not restore byte for byte")
        if globex != self.bench.globex:
            raise Failed("the neighbour was touched by the rollback")

    def rollback_args(self):
        return ["rollback", "1", "--yes"]


def learn_points(bench, kind):
    """One undisturbed run and rollback: which fault points are passed, and how long each takes."""
    trial = bench.trial(kind)
    log = os.path.join(bench.place, "points")
    took = []
    points = []
    for args, wanted in ((["run", trial.job, "--yes"], 0), (trial.rollback_args(), 10)):
        if os.path.exists(log):
            os.unlink(log)
        begin = time.monotonic()
        code, out = trial.finish(trial.start(args, {"DROVER_FAULT_LOG": log}))
        took.append(time.monotonic() - begin)
        if code not in (0, wanted):
            raise Failed(f"undisturbed {args}: exit {code}: {out}")
        if wanted == 0:
            trial.check_gone()
        else:
            trial.check_back()
        with open(log, encoding="utf-8") as f:
            points.append(set(f.read().split()))
    return points, took


def at_point(bench, kind, point, nth, in_rollback):
    trial = bench.trial(kind)
    fault = {"DROVER_FAULT": f"{point}@{nth}=kill"}
    if in_rollback:
        trial.run_whole()
        code, out = trial.finish(trial.start(trial.rollback_args(), fault))
        if code not in (-signal.SIGKILL, 0, 10):
            raise Failed(f"rollback: exit {code}: {out}")
        was_killed = code == -signal.SIGKILL
    else:
        code, out = trial.finish(trial.start(["run", trial.job, "--yes"], fault))
        if code not in (-signal.SIGKILL, 0):
            raise Failed(f"run: exit {code}: {out}")
        was_killed = code == -signal.SIGKILL
        trial.go_on(trial.run_args, (0,))
        trial.check_gone()
    trial.go_on(trial.rollback_args, (0, 10))
    trial.check_back()
    return was_killed


def at_random(bench, rng, took):
    kind = rng.choice(bench.kinds)
    irreversible = rng.random() < 0.15
    trial = bench.trial(kind, irreversible)
    kills = 0
    for _ in range(rng.randint(1, 3)):
        process = trial.start(trial.run_args())
        time.sleep(rng.uniform(0, took[kind][0]))
        kills += process.poll() is None
        process.kill()
        trial.finish(process)
    # Some are rolled back from the middle, where they died.
    if irreversible or rng.random() < 0.7 or trial.run_args()[1] != "1":
        trial.go_on(trial.run_args, (0,))
        trial.check_gone()
    if irreversible:
        return kills
    for _ in range(rng.randint(0, 2)):
        process = trial.start(trial.rollback_args())
        time.sleep(rng.uniform(0, took[kind][1]))
        kills += process.poll() is None
        process.kill()
        trial.finish(process)
    trial.go_on(trial.rollback_args, (0, 10))
    trial.check_back()
    return kills


class Tally:
    """What the lanes count together."""

    def __init__(self):
        self.lock = threading.Lock()
        self.passed = self.failed = self.kills = 0

    def add(self, kills=None, complaint=None):
        with self.lock:
            if complaint:
                self.failed += 1
                print(f"crash: FAILED {complaint}", flush=True)
            else:
                self.passed += 1
                self.kills += kills

    def counts(self):
        return self.passed, self.failed, self.kills


def in_lanes(lanes, work):
    """work(lane) in all lanes beside each other."""
    with ThreadPoolExecutor(len(lanes)) as pool:
        list(pool.map(work, lanes))


def kill_at_points(lanes, kind, points, only, nths):
    """Every named point, in the run and in the rollback. Returns passed, failed, kills."""
    todo, tally = queue.SimpleQueue(), Tally()
    for in_rollback in (False, True):
        for point in sorted(points[in_rollback]):
            for nth in nths if not only or only == point else ():
                todo.put((point, nth, in_rollback))

    def work(bench):
        with contextlib.suppress(queue.Empty):
            while True:
                point, nth, in_rollback = todo.get_nowait()
                try:
                    killed = at_point(bench, kind, point, nth, in_rollback)
                    if nth == 1 and not killed:
                        raise Failed("the armed point did not kill")
                    tally.add(killed)
                except Failed as e:
                    where = "rollback" if in_rollback else "run"
                    tally.add(complaint=f"at {point}@{nth} in the {where} of {kind}: {e}")

    in_lanes(lanes, work)
    return tally.counts()


def kill_at_random(lanes, seed, took, kills_max, seconds_max=float("inf")):
    """Trials until there were so many kills, or for so long. Returns passed, failed, kills."""
    rng, tally = random.Random(seed), Tally()
    until = time.monotonic() + seconds_max

    def work(bench):
        while tally.kills < kills_max and time.monotonic() < until and tally.failed <= FAILED_MAX:
            with tally.lock:
                state = rng.getrandbits(48)
            try:
                tally.add(at_random(bench, random.Random(state), took))
            except Failed as e:
                tally.add(complaint=f"at random, trial seed {state}: {e}")

    in_lanes(lanes, work)
    return tally.counts()


def main():
    p = argparse.ArgumentParser()
    p.add_argument("build")
    p.add_argument("--random", type=int, default=200)
    p.add_argument("--rows", type=int, default=4000)
    p.add_argument("--seed", type=int, default=int(time.time()))
    p.add_argument("--only")
    p.add_argument("--lanes", type=int, default=LANES)
    args = p.parse_args()
    bench = Bench(os.path.abspath(args.build), args.rows)
    passed = failed = kills = 0
    try:
        lanes = [bench.lane(i) for i in range(args.lanes)]
        points = {}
        took = {}
        for kind in KINDS:
            points[kind], took[kind] = learn_points(lanes[0], kind)
        print(f"crash: {len(points['drop'][0])} fault points in a run, "
              f"{len(points['drop'][1])} in a rollback")
        # The other jobs share most of the way: only what they pass beyond it is killed again.
        beyond = {kind: [points[kind][i] - points["drop"][i] for i in (0, 1)]
                  for kind in KINDS if kind != "drop"}
        for kind, where, nths in (("drop", points["drop"], (1, 4)), ("tables", beyond["tables"], (1, 2)),
                                  ("purge", beyond["purge"], (1, 2))):
            p, f, k = kill_at_points(lanes, kind, where, args.only, nths)
            passed, failed, kills = passed + p, failed + f, kills + k
        p, f, k = kill_at_random(lanes, args.seed, took, 0 if args.only else args.random)
        passed, failed = passed + p, failed + f
        print(f"crash: {kills + k} kills, {k} of them at random (seed {args.seed})")
    finally:
        shutil.rmtree(bench.top, ignore_errors=True)
    print(f"{passed} passed, {failed} failed")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
