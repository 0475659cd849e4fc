#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Let something go wrong at every step of making, moving and dropping Manticore's sharded tables,
while writers write through the wrappers; go on; compare. On stand-ins.

usage: crash_table_manticore.py BUILD [--matrix small|full] [--seconds N] [--seed N] [--only TEXT]

An undisturbed run of each change shows the statements that it sends to each node and the fault
points that it passes; each of them is then disturbed once in each way. Afterwards the change is
complete or fully rolled back, nodes and catalog agree to the last cluster and folder, no
acknowledged row is lost, and drover health is content. --only takes a part of "CHANGE: SORT WHERE",
which is what a failure prints."""
import argparse
import os
import pathlib
import random
import re
import shutil
import sys
import tempfile
import threading
import time
import traceback
from concurrent.futures import ThreadPoolExecutor

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "e2e"), str(HERE.parent / "support")]
from table_manticore_lib import Case, Nodes, must  # noqa: E402
from table_lib import BLOCKED, DONE, EARLY, ROLLED_BACK, Failed  # noqa: E402

CHANGES = {
    "create rf 1": {"rf": 1, "what": "create", "numbers": (1, 2, 3)},
    "create rf 2": {"rf": 2, "what": "create", "numbers": (1, 2, 3)},
    "create rf 3": {"rf": 3, "what": "create", "numbers": (1, 2, 3)},
    "add rf 1": {"rf": 1, "what": "add", "numbers": (1, 2, 3), "add": (4,)},
    "add rf 2": {"rf": 2, "what": "add", "numbers": (1, 2, 3), "add": (4,)},
    "add rf 3": {"rf": 3, "what": "add", "numbers": (1, 2, 3), "add": (4,)},
    "remove rf 1": {"rf": 1, "what": "remove", "numbers": (1, 2, 4), "remove": (4,)},
    "remove rf 2": {"rf": 2, "what": "remove", "numbers": (1, 2, 4), "remove": (4,)},
    "remove rf 3": {"rf": 3, "what": "remove", "numbers": (1, 2, 3, 4), "remove": (4,)},
    "give up rf 2": {"rf": 2, "what": "give up", "numbers": (1, 2, 3, 4), "remove": (4,)},
    "give up rf 3": {"rf": 3, "what": "give up", "numbers": (1, 2, 3, 4), "remove": (4,)},
    "drop rf 1": {"rf": 1, "what": "drop", "numbers": (1, 2, 3)},
    "drop rf 2": {"rf": 2, "what": "drop", "numbers": (1, 2, 3)},
    "undo add rf 1": {"rf": 1, "what": "add", "numbers": (1, 2, 3), "add": (4,), "undo": True},
    "undo add rf 2": {"rf": 2, "what": "add", "numbers": (1, 2, 3), "add": (4,), "undo": True},
    "undo remove rf 2": {"rf": 2, "what": "remove", "numbers": (1, 2, 4), "remove": (4,), "undo": True},
    "undo drop rf 2": {"rf": 2, "what": "drop", "numbers": (1, 2, 3), "undo": True},
}
SMALL = ("create rf 2", "add rf 1", "add rf 2", "give up rf 2", "undo add rf 2")
# What happens to one statement: the node refuses it once or for good, the connection breaks before or
# after it is done, the node dies before or after and is started anew.
AT_NODE = {"error": "fail", "broken": "fail_always", "cut": "drop_before", "lost": "drop_after",
           "dies": "exit_before", "dies after": "exit_after"}
READ_SORTS = ("read error", "read cut", "read dies")
SORTS = (*AT_NODE, "killed", "point error", *READ_SORTS)
CHANGE = r"^(CREATE|DROP|JOIN|ALTER|EXIT|DELETE CLUSTER|SET CLUSTER)\b"
READ = r"^(SELECT|SHOW)\b"
SHARDS, ROWS, LANES = 3, 40, 2
SHARDS_TO_ADD = 4  # so that with rf 1 one of them moves
SMALL_SECONDS = 40
READS_MAX = {"small": 1, "full": 25}  # disturbed questions of each sort for each change
PRINT = threading.Lock()


def say(text):
    with PRINT:
        print(text, flush=True)


class Nursery(threading.Thread):
    """Starts what died, as a supervisor would; not what the change gives up."""

    def __init__(self, nodes):
        super().__init__(daemon=True)
        self.nodes, self.given_up, self.ending = nodes, set(), threading.Event()
        self.start()

    def run(self):
        while not self.ending.wait(0.05):
            for node in self.nodes.all:
                if node.is_dead() and node.number not in self.given_up:
                    node.start()

    def stop(self):
        self.ending.set()
        self.join()


class Trial:
    """One change, disturbed once."""

    def __init__(self, bench, nodes, change, seed):
        self.change, self.nodes, self.seed = CHANGES[change], nodes, seed
        self.case = Case(bench.build, nodes, bench.top)
        self.drover, self.op, self.before = self.case.drover, 1, []
        self.nursery = Nursery(nodes)

    def prepare(self):
        c = self.change
        if c["what"] == "create":
            return
        self.op = 2
        self.case.create(SHARDS_TO_ADD if c["what"] == "add" else SHARDS, c["rf"], c["numbers"]).fill(ROWS)
        self.before = self.case.layout()
        if c["what"] != "drop":
            self.case.write(count=2, seed=self.seed, avoid=(4,) if c["what"] == "give up" else (), pause=0.01)
        if c["what"] == "give up":
            self.nursery.given_up.add(4)
            self.case.node(4).die()

    def args(self):
        c = self.change
        hold = "1h" if c.get("undo") else "0s"
        if c["what"] == "create":
            return self.case.create_args(SHARDS, c["rf"], c["numbers"], "--give-up", "1s")
        if c["what"] == "drop":
            return self.case.drop_args("--give-up", "1s", hold=hold)
        return self.case.rebalance_args("--give-up", "1s", add=c.get("add", ()), remove=c.get("remove", ()), hold=hold)

    def forward_to_hold(self):
        run = self.drover.start(*self.args())
        self.case.until_held(self.op)
        self.drover.must("pause", self.op)
        self.drover.finish(run)

    def disturbed(self, arm):
        """`arm` makes the trouble and gives what drover's environment has to say."""
        if self.change.get("undo"):
            self.forward_to_hold()
            return self.drover.run("rollback", self.op, "--yes", "--quiet", env=arm())
        return self.drover.run(*self.args(), env=arm())

    def go_on(self):
        if self.drover.last_op() < self.op:  # it died before anything was stored
            self.drover.must(*self.args())
        if self.change.get("undo"):
            self.drover.run("rollback", self.op, "--yes", "--quiet")
        if self.nursery.given_up:  # a rollback may need the node
            try:
                return self.case.settle(self.op, 2)
            except Failed:
                self.nursery.given_up.clear()
        return self.case.settle(self.op)

    def check(self, ended):
        what = self.change["what"]
        self.nursery.given_up.clear()
        self.wait_for_nodes()
        if what == "give up" and ended == "done":
            self.case.until(self.is_clean)
        gone = what == "drop" and ended == "done" or what == "create" and ended == "rolled back"
        if gone:
            must(not self.drover.tables(), "the table is in the catalog")
            self.case.crowd, self.case.base = None, {}
        else:
            now = self.case.layout()
            must(what == "create" or (ended == "rolled back" or what == "drop") == (now == self.before),
                 f"it is {ended}, but the map is {now}, before it was {self.before}")
            must(all(len(set(h)) == self.change["rf"] for h in now), f"not so many copies as asked for: {now}")
            if what in ("create", "drop"):
                self.prove_use()
        self.case.check_all()

    def wait_for_nodes(self):
        """All that are to be there are there again."""
        self.case.until(lambda: all(node.answers() for node in self.nodes.all
                                    if node.number not in self.nursery.given_up))

    def is_clean(self):
        self.drover.run("cleanup", "--clusters", "--yes")
        node = self.case.node(4)
        return not (node.tables() or node.tables(True) or node.clusters())

    def prove_use(self):
        """The table works: rows go in through every wrapper."""
        self.case.write(count=2, seed=self.seed)
        self.case.written_more(6)

    def close(self):
        self.nursery.stop()
        self.case.close()


class Bench:
    def __init__(self, args):
        self.build, self.matrix, self.only = os.path.abspath(args.build), args.matrix, args.only
        self.random, self.lock = random.Random(args.seed), threading.Lock()
        self.until = time.monotonic() + args.seconds
        self.top = tempfile.mkdtemp(prefix="drover-crash.")
        self.lanes = []
        for i in range(LANES):
            os.makedirs(os.path.join(self.top, str(i)))
            self.lanes.append(Nodes(os.path.join(self.top, str(i))))
        self.count = {}  # (change, sort) -> [tried, completed, rolled back, failed, met]
        self.rollbacks = [0, 0]  # begun, whole
        self.left_out = 0

    def close(self):
        for nodes in self.lanes:
            nodes.stop()
        shutil.rmtree(self.top, ignore_errors=True)

    # --- what there is to disturb ----------------------------------------------------------------

    def learn(self, nodes, change):
        """An undisturbed run: each node's statements, how many questions it was asked, the points."""
        trial = Trial(self, nodes, change, 1)
        log = os.path.join(trial.case.dir, "points")
        reads = {}

        def alive():
            return [node for node in nodes.all if not node.is_dead()]

        def arm():
            for node in alive():
                node.changes(clear=True)
                reads[node.number] = node.reads()
            return {"DROVER_FAULT_LOG": log}
        try:
            trial.prepare()
            code, out = trial.disturbed(arm)
            must(code in (DONE, ROLLED_BACK), f"undisturbed: exit {code}: {out[-400:]}")
            changes = {node.number: node.changes() for node in alive()}
            reads = {node.number: node.reads() - reads[node.number] for node in alive()}
            steps = len(trial.drover.json("steps", trial.op))
            trial.check("rolled back" if CHANGES[change].get("undo") else "done")
            with open(log, encoding="utf-8") as f:
                points = f.read().split()
        finally:
            trial.close()
        return changes, reads, steps, points

    def faults(self, nodes, change):
        """All of this change: (sort, where, nth, pattern)."""
        changes, reads, steps, points = self.learn(nodes, change)
        out = []
        for number, said in changes.items():
            for i, sql in enumerate(said, 1):
                out += [(sort, number, i, CHANGE) for sort in AT_NODE if sort != "broken"]
                out.append(("broken", number, 1, pattern_of(sql)))
        total = sum(len(said) for said in changes.values())
        for n in range(1, total + 1):
            out += [("killed", "manticore.change", n, ""), ("killed", "manticore.change.done", n, "")]
        for n in range(1, steps + 1):
            out += [("killed", "worker.leased", n, ""), ("killed", "queue.finish.finished", n, "")]
        out += self.at_points(points)
        for sort in READ_SORTS:
            for _ in range(READS_MAX[self.matrix]):
                number = self.random.choice(list(reads))
                out.append((sort, number, self.random.randint(1, max(1, reads[number])), READ))
        self.random.shuffle(out)
        first = self.random.randrange(len(SORTS))  # an early end leaves out other sorts of each change
        return by_turns([f for f in out if f[0] == sort] for sort in SORTS[first:] + SORTS[:first])

    @staticmethod
    def at_points(points):
        """The catalog's steps: an error, a lost answer, a death."""
        out = []
        for point in sorted(p for p in points if p.startswith(("fleet.", "catalog.", "queue.turned"))):
            nths = (1, 2, 3) if point.startswith("fleet.") else (1, 3)
            out += [("killed", point, n, "") for n in nths]
            if point.startswith("fleet."):
                out += [("point error", point, n, "") for n in nths]
        return out

    # --- one fault -------------------------------------------------------------------------------

    @staticmethod
    def arm(nodes, sort, where, nth, pattern):
        if sort == "killed":
            return {"DROVER_FAULT": f"{where}@{nth}=kill"}
        if sort == "point error":
            return {"DROVER_FAULT": f"{where}@{nth}=error"}
        action = {"read error": "fail", "read cut": "drop_before", "read dies": "exit_before"}.get(sort)
        nodes.all[where - 1].hook(f"{action or AT_NODE[sort]}:{nth}:{pattern}")
        return {}

    def one(self, nodes, change, fault):
        trial = Trial(self, nodes, change, self.random.randrange(1000))
        try:
            trial.prepare()
            code, out = trial.disturbed(lambda: self.arm(nodes, *fault))
            must(code in (DONE, ROLLED_BACK, EARLY, BLOCKED, 1, 5, -9) or trial.drover.last_op() < trial.op,
                 f"exit {code}: {out[-400:]}")
            trial.wait_for_nodes()
            self.note_met(nodes, change, fault, code)
            for node in nodes.all:
                if node.number not in trial.nursery.given_up:
                    node.hook()
            ended = trial.go_on()
            self.note_rollback(trial, False)
            trial.check(ended)
            self.note_rollback(trial, True)
            return ended
        finally:
            trial.close()

    def note_met(self, nodes, change, fault, code):
        """Did the trouble come about at all? With many at work not every run asks the same."""
        sort, where = fault[0], fault[1]
        is_met = sort == "point error" or (code == -9 if sort == "killed" else nodes.all[where - 1].is_hook_met())
        with self.lock:
            self.count[(change, sort)][4] += is_met

    def note_rollback(self, trial, is_whole):
        if trial.drover.status(trial.op) not in ("done",):
            with self.lock:
                self.rollbacks[is_whole] += 1

    def attempt(self, nodes, change, fault):
        name = f"{change}: {fault[0]} {fault[1]}@{fault[2]}" + (f" {fault[3]}" if fault[0] == "broken" else "")
        if self.only and self.only not in name:
            return
        with self.lock:
            counts = self.count.setdefault((change, fault[0]), [0] * 5)
            if time.monotonic() > self.until:
                self.left_out += 1
                return
            counts[0] += 1
        try:
            ended = self.one(nodes, change, fault)
            with self.lock:
                counts[1 if ended == "done" else 2] += 1
        except Exception as e:  # pylint: disable=broad-except
            with self.lock:
                counts[3] += 1
            say(f"crash: FAILED: {name}: {e}")
            if not isinstance(e, Failed):
                traceback.print_exc(file=sys.stdout)

    def side_by_side(self, jobs, do):
        """Each lane of nodes takes the next job."""
        jobs = list(reversed(jobs))

        def work(nodes):
            while True:
                with self.lock:
                    if not jobs:
                        return
                    job = jobs.pop()
                do(nodes, job)
        with ThreadPoolExecutor(len(self.lanes)) as pool:
            list(pool.map(work, self.lanes))

    def run(self):
        lists = {}

        def learn(nodes, change):
            try:
                lists[change] = [(change, fault) for fault in self.faults(nodes, change)]
            except Exception as e:  # pylint: disable=broad-except
                self.count.setdefault((change, "none"), [1, 0, 0, 0, 0])[3] += 1
                say(f"crash: FAILED: {change} undisturbed: {e}")
                if not isinstance(e, Failed):
                    traceback.print_exc(file=sys.stdout)
        changes = SMALL if self.matrix == "small" and not self.only else tuple(CHANGES)
        self.side_by_side([c for c in changes if not self.only or self.only.split(":")[0] in c], learn)
        say("crash: " + ", ".join(f"{c}: {len(l)} faults" for c, l in sorted(lists.items())))
        self.side_by_side(by_turns(lists.values()), lambda nodes, job: self.attempt(nodes, *job))


def pattern_of(sql):
    """This very statement, whenever and on whichever lane its names are made."""
    text = re.escape(sql)
    text = re.sub(r"(temp_move_\w+?_)[0-9a-f]{13}", r"\1[0-9a-f]{13}", text)
    return "^" + re.sub(r"(127\\\.0\\\.0\\\.1:)\d+", r"\1\\d+", text) + "$"  # another lane has other ports


def by_turns(lists):
    """One of each, then the next of each."""
    lists = [one for one in map(list, lists) if one]
    return [one[i] for i in range(max(map(len, lists), default=0)) for one in lists if i < len(one)]


def table_of(bench):
    print(f"{'change':17} {'sort':11} {'tried':>6} {'completed':>10} {'rolled back':>12} {'failed':>7} {'met':>6}")
    for (change, sort), n in sorted(bench.count.items()):
        if n[0] == 0:
            continue
        print(f"{change:17} {sort:11} {n[0]:6} {n[1]:10} {n[2]:12} {n[3]:7} {n[4]:6}")
    total = [sum(n[i] for n in bench.count.values()) for i in range(5)]
    print(f"injected failures: {total[0]}, completed {total[1]}, rolled back {total[2]}, failed {total[3]}; came about {total[4]}"
          + (f"; {bench.left_out} of the matrix left out, the time was over" if bench.left_out else ""))
    begun, whole = bench.rollbacks
    print(f"rollbacks: {begun}, whole {whole}: {100 * whole / max(1, begun):.1f} %")
    return total


def main():
    p = argparse.ArgumentParser()
    p.add_argument("build")
    p.add_argument("--matrix", choices=("small", "full"), default="small")
    p.add_argument("--seconds", type=float)
    p.add_argument("--seed", type=int, default=int(time.time()))
    p.add_argument("--only", default="")
    args = p.parse_args()
    if os.environ.pop("DROVER_TEST_MANTICORE_NODES", None):
        print("crash: real nodes are not made to die on command; on stand-ins")
    args.seconds = args.seconds or (SMALL_SECONDS if args.matrix == "small" else float("inf"))
    print(f"crash: tables of Manticore, {args.matrix} matrix, seed {args.seed}", flush=True)
    bench = Bench(args)
    try:
        bench.run()
        total = table_of(bench)
    finally:
        bench.close()
    print(f"{total[1] + total[2]} passed, {total[3]} failed")
    if 2 * total[4] < total[0]:
        print("crash: FAILED: most of the failures did not come about")
    return 1 if total[3] or not total[1] + total[2] or 2 * total[4] < total[0] else 0


if __name__ == "__main__":
    sys.exit(main())
