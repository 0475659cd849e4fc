#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Let something go wrong at every step of making, moving and dropping sharded tables, while writers
write; go on; compare.

usage: crash_table.py BUILD [--matrix small|full] [--seconds N] [--seed N] [--kind KIND] [--only TEXT]

Afterwards the change is complete or fully rolled back, no node has anything that the catalog does
not know, no acknowledged row is lost and none that was deleted is back, holders are equal, and
drover health is content. --seconds N, from the end of the undisturbed runs on, ends a matrix early and
says so. --only takes a part of
"CHANGE: SORT POINT@N", which is what a failure prints.
"""
import argparse
import os
import pathlib
import random
import shutil
import sys
import tempfile
import threading
import time
import traceback
from concurrent.futures import ThreadPoolExecutor

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "e2e"), str(HERE.parent / "support")]
from shard_nodes import KINDS, Nodes  # noqa: E402
from table_faults import CHANGES, SMALL, SORTS, at_steps, fault_of, inner_points, verbs_of  # noqa: E402
from table_lib import BLOCKED, DONE, EARLY, ROLLED_BACK, Case, Failed  # noqa: E402

SHARDS, ROWS = 4, 150
SMALL_SECONDS = 30
REQUEST_TRIALS = {"small": 1, "full": 14}  # of node and cut, for each change
PRINT = threading.Lock()
FAILURES = []  # told once more at the end


def say(text):
    with PRINT:
        print(text, flush=True)


class Trial:
    """One change, disturbed once."""

    def __init__(self, bench, change, seed):
        self.bench, self.change, self.is_dead = bench, CHANGES[change], False
        self.case = Case(bench.build, bench.nodes, bench.top)
        self.drover = self.case.drover
        self.servers_back = []
        self.seed = seed

    def prepare(self):
        c = self.change
        self.op, self.before = 2, []
        if c["what"] == "create":
            self.op = 1
            return
        self.case.create(SHARDS, c["rf"], c["numbers"]).fill(ROWS)
        self.before = self.layout()
        if c["what"] == "drop" or self.bench.kind == "sqlite" and self.seed % 4:
            return  # without writers: most of the time of SQLite's trials is theirs
        self.case.write(count=2, seed=self.seed, pause=0.004)

    def layout(self):
        return [s["holders"] for s in self.drover.table(Case.TABLE)["shards"]]

    def args(self):
        c = self.change
        hold = "1h" if c.get("undo") else "0s"
        if c["what"] == "create":
            return self.case.create_args(SHARDS, c["rf"], c["numbers"], "--give-up", "1s")
        if c["what"] == "drop":
            return ["table", "drop", Case.TABLE, "--hold", hold, "--give-up", "1s", "--yes", "--quiet"]
        return self.case.rebalance_args("--give-up", "1s", add=c.get("add", ()), remove=c.get("remove", ()), hold=hold)

    def start_dead(self):
        """The node that is given up dies before the change, with its writers' connections."""
        if self.change["what"] == "give up":
            self.case.nodes.all[3].die()
            self.is_dead = True

    def forward_to_hold(self):
        """For a rollback that is disturbed: everything up to the hold, in peace."""
        run = self.drover.start(*self.args())
        self.case.until(lambda: "held until" in self.drover.run("explain", self.op)[1], 40)
        self.drover.must("pause", self.op)
        self.drover.finish(run)

    def disturbed(self, arm):
        """`arm` gives the environment, and is called when the part begins that is disturbed."""
        if self.change.get("undo"):
            self.forward_to_hold()
            return self.drover.run("rollback", self.op, "--yes", "--quiet", env=arm())
        self.start_dead()
        return self.drover.run(*self.args(), env=arm())

    def go_on(self):
        """Until it has ended. A start that was killed or refused may not have stored anything."""
        if self.drover.last_op() < self.op:
            if self.change.get("what") == "create":
                self.drover.must(*self.args(), wanted=(DONE, ROLLED_BACK))
            else:
                self.drover.must(*self.args())
        if self.change.get("undo"):
            self.drover.run("rollback", self.op, "--yes", "--quiet")
        if self.is_dead:  # its copies can only be taken back when it is there
            ended = self.case.settle(self.op, 2, is_patient=True)
            if ended is None:
                self.case.nodes.all[3].come_back()
                self.is_dead = False
        return self.case.settle(self.op)

    def check(self, ended):
        what = self.change["what"]
        if self.is_dead:
            self.case.nodes.all[3].come_back()
            self.is_dead = False
        if self.case.crowd:
            self.case.stop_writing()
        ended = self.give_up_again(ended)
        self.clean_leftovers()
        gone = what == "drop" and ended == "done" or what == "create" and ended == "rolled back"
        if gone and self.drover.tables():
            raise Failed("the table is in the catalog")
        if not gone:
            self.check_map(what, ended)
            self.case.check_rows()
        self.case.check_nodes()
        self.case.check_healthy()

    def give_up_again(self, ended):
        """A dead node has missed writes by the time a switch is taken back, and is no holder again; drover
        health says so, and giving it up once more makes the copies that are missing."""
        if self.change["what"] != "give up" or ended != "rolled back" or self.layout() == self.before:
            return ended
        dead = self.case.nodes.all[3].name
        kept = [[h for h in holders if h != dead] for holders in self.before]
        if any(now not in (all_of, living) for now, all_of, living in zip(self.layout(), self.before, kept)):
            raise Failed(f"rolled back, but the map is {self.layout()}, before it was {self.before}")
        out = self.drover.run("health")[1]
        if "under_replicated" not in out:
            raise Failed(f"health does not miss the copies: {out[-400:]}")
        self.drover.must(*self.args())
        return "done"

    def clean_leftovers(self):
        if self.change["what"] == "give up":
            self.drover.must("cleanup", "--clusters", "--yes")

    def check_map(self, what, ended):
        now = self.layout()
        if what != "create" and (ended == "rolled back") != (now == self.before):
            raise Failed(f"it is {ended}, but the map is {now}, before it was {self.before}")
        if any(len(set(h)) != self.change["rf"] for h in now):
            raise Failed(f"not so many copies as asked for: {now}")

    def close(self):
        for server in self.bench.nodes.servers:
            server.proxy.arm(0, None)
        for thread in self.servers_back:
            thread.join()
        if self.is_dead:
            self.case.nodes.all[3].come_back()
        self.case.close()


class Bench:
    """The nodes of one kind, and what its undisturbed runs have shown."""

    def __init__(self, build, kind, args):
        self.build, self.kind, self.matrix = build, kind, args.matrix
        self.only, self.random = args.only, random.Random(args.seed)
        self.seconds, self.until = args.seconds, 0
        self.top = tempfile.mkdtemp(prefix="drover-crash.")
        os.chmod(self.top, 0o755)
        self.nodes = Nodes(kind, self.top)
        self.count = {}  # (change, sort) -> [tried, completed, rolled back, failed]
        self.left_out = 0

    def close(self):
        self.nodes.stop()
        shutil.rmtree(self.top, ignore_errors=True)

    # --- what there is to disturb ----------------------------------------------------------------

    def learn(self, change):
        """An undisturbed run: its steps, the points it passes, how many requests it makes."""
        trial = Trial(self, change, 1)
        log = os.path.join(self.top, "points")
        if os.path.exists(log):
            os.unlink(log)
        try:
            trial.prepare()
            code, out = trial.disturbed(lambda: self.watch(log))
            requests = [s.proxy.requests for s in self.nodes.servers]
            if code not in (DONE, ROLLED_BACK):
                raise Failed(f"undisturbed {change}: exit {code}: {out[-400:]}")
            steps = trial.drover.json("steps", trial.op)
            trial.check("rolled back" if CHANGES[change].get("undo") else "done")
            with open(log, encoding="utf-8") as f:
                points = f.read().split()
        finally:
            trial.close()
        return steps, points, requests

    def watch(self, log):
        for server in self.nodes.servers:
            server.proxy.arm(0, None)
        return {"DROVER_FAULT_LOG": log}

    def faults(self, change):
        """All of this change: (sort, point, nth)."""
        steps, points, requests = self.learn(change)
        verbs = verbs_of(steps, CHANGES[change].get("undo", False))
        out = at_steps(SORTS[:4], verbs)
        out += [("killed", p, nth) for p in inner_points(points) for nth in (1, 3)]
        if self.kind != "sqlite":
            out += self.at_requests(change, requests)
        if self.matrix == "small":  # each sort at another step of each run
            self.random.shuffle(out)
            return by_turns([f for f in out if f[0] == sort] for sort in SORTS)
        return out

    def at_requests(self, change, requests):
        servers = [0] if CHANGES[change]["what"] == "give up" else [i for i, n in enumerate(requests) if n > 0]
        out = []
        for sort in ("node", "cut"):
            for i in range(REQUEST_TRIALS[self.matrix]):
                server = servers[i % len(servers)]
                out.append((sort, server, self.random.randint(1, max(1, requests[server]))))
        return out

    # --- one fault -------------------------------------------------------------------------------

    def arm(self, trial, sort, point, nth):
        """What the environment has to say; proxies are armed here."""
        if sort == "node":
            server = self.nodes.servers[point]
            server.proxy.arm(nth, lambda: server.crash_and_come_back(trial.servers_back))
        elif sort == "cut":
            self.nodes.servers[point].proxy.arm(nth, cut)
        elif "." in point:
            return {"DROVER_FAULT": f"{point}@{nth}=kill"}
        else:
            return {"DROVER_FAULT": fault_of(sort, point, nth)}
        return {}

    def one(self, change, sort, point, nth):
        trial = Trial(self, change, self.random.randrange(1000))
        try:
            trial.prepare()
            code, out = trial.disturbed(lambda: self.arm(trial, sort, point, nth))
            if code not in (DONE, ROLLED_BACK, EARLY, BLOCKED, 1, 5, -9) and trial.drover.last_op() >= trial.op:
                raise Failed(f"exit {code}: {out[-400:]}")
            for server in self.nodes.servers:
                server.proxy.arm(0, None)
            for thread in trial.servers_back:
                thread.join()
            ended = trial.go_on()
            trial.check(ended)
            return ended
        finally:
            trial.close()

    def attempt(self, change, fault):
        counts = self.count.setdefault((change, fault[0]), [0, 0, 0, 0])
        name = f"{change}: {fault[0]} {fault[1]}@{fault[2]}"
        if self.only and self.only not in name:
            return
        if time.monotonic() > self.until:
            self.left_out += 1
            return
        counts[0] += 1
        try:
            counts[1 if self.one(change, *fault) == "done" else 2] += 1
        except Exception as e:  # pylint: disable=broad-except
            counts[3] += 1
            self.tell_failure(name, e)

    def tell_failure(self, name, e):
        text = f"crash: FAILED: {self.kind}: {name}: {e}"
        FAILURES.append(text)
        say(text)
        if not isinstance(e, Failed):
            traceback.print_exc(file=sys.stdout)

    def run(self):
        changes = SMALL[self.kind] if self.matrix == "small" else tuple(CHANGES)
        changes = [c for c in changes if not self.only or self.only.split(":")[0] in c]
        lists = []
        for change in changes:
            try:
                lists.append([(change, fault) for fault in self.faults(change)])
            except Exception as e:  # pylint: disable=broad-except
                self.count.setdefault((change, "none"), [0, 0, 0, 0])[3] += 1
                self.tell_failure(f"{change} undisturbed", e)
        self.until = time.monotonic() + self.seconds
        for change, fault in by_turns(lists):  # so that an early end misses no change
            self.attempt(change, fault)


def by_turns(lists):
    """One of each, then the next of each."""
    lists = [one for one in lists if one]
    return [one[i] for i in range(max(map(len, lists), default=0)) for one in lists if i < len(one)]


class Cut(OSError):
    """The connection breaks."""


def cut():
    raise Cut("cut by the test")


def table_of(benches):
    print(f"{'change':18} {'store':9} {'sort':7} {'tried':>6} {'completed':>10} {'rolled back':>12} {'failed':>7}")
    for bench in benches:
        for (change, sort), n in bench.count.items():
            print(f"{change:18} {bench.kind:9} {sort:7} {n[0]:6} {n[1]:10} {n[2]:12} {n[3]:7}")
    total = [sum(n[i] for b in benches for n in b.count.values()) for i in range(4)]
    left_out = sum(b.left_out for b in benches)
    print(f"injected failures: {total[0]}, completed {total[1]}, rolled back {total[2]}, failed {total[3]}"
          + (f"; {left_out} of the matrix left out, the time was over" if left_out else ""))
    whole = total[1] + total[2] + total[3]
    print(f"ended whole: {100 * (total[1] + total[2]) / max(1, whole):.1f} %")
    return total


def main():
    p = argparse.ArgumentParser()
    p.add_argument("build")
    p.add_argument("--matrix", choices=("small", "full"), default="small")
    p.add_argument("--seconds", type=float)
    p.add_argument("--seed", type=int, default=int(time.time()))
    p.add_argument("--kind", choices=KINDS)
    p.add_argument("--only", default="")
    args = p.parse_args()
    args.seconds = args.seconds or (SMALL_SECONDS if args.matrix == "small" else float("inf"))
    print(f"crash: tables, {args.matrix} matrix, seed {args.seed}", flush=True)
    benches = []
    kinds = [args.kind] if args.kind else KINDS
    try:
        with ThreadPoolExecutor(len(kinds)) as pool:  # the servers start beside each other
            starts = [pool.submit(Bench, os.path.abspath(args.build), kind, args) for kind in kinds]
        benches += [start.result() for start in starts if not start.exception()]
        for start in starts:
            start.result()
        with ThreadPoolExecutor(len(benches)) as pool:
            list(pool.map(Bench.run, benches))
        total = table_of(benches)
    finally:
        with ThreadPoolExecutor(len(kinds)) as pool:
            list(pool.map(Bench.close, benches))
    for text in FAILURES:
        print(text)
    print(f"{total[1] + total[2]} passed, {total[3]} failed")
    return 1 if total[3] or not total[1] + total[2] else 0


if __name__ == "__main__":
    sys.exit(main())
