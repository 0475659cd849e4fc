# SPDX-License-Identifier: Apache-2.0
"""For tests of Manticore's sharded tables: a table with rows and writers on nodes that are wiped,
and everything that has to be so when an operation has ended."""
import os
import pathlib
import shutil
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "support")]
from manticore_nodes import TROUBLE, Crowd, Nodes, Reader, audit_node, audit_rows  # noqa: E402
from table_lib import BLOCKED, DONE, ENDED, Drover, Failed  # noqa: E402

COLUMNS = "id bigint, v string"
HEAL_S = 15  # for clusters to notice what came back


def must(truth, what):
    if not truth:
        raise Failed(what)


class Case:
    """Wiped nodes, a data folder of drover's, a table, and rows that are known."""
    TABLE = "users"

    def __init__(self, build, nodes, top):
        self.nodes = nodes
        self.dir = tempfile.mkdtemp(prefix="case.", dir=top)
        self.drover = Drover(build, os.path.join(self.dir, "data"))
        self.base, self.crowd = {}, None
        nodes.wipe()

    def close(self):
        if self.crowd:
            self.crowd.stop(5)
        shutil.rmtree(self.dir, ignore_errors=True)

    def node(self, number):
        return self.nodes.all[number - 1]

    # --- commands --------------------------------------------------------------------------------

    def create_args(self, shards, rf, numbers, *more, table=None):
        args = ["table", "create", table or self.TABLE, "--columns", COLUMNS, "--shards", shards, "--rf", rf,
                "--yes", "--quiet", *more]
        for n in numbers:
            args += ["--node", self.node(n).option]
        return args

    def rebalance_args(self, *more, add=(), remove=(), hold="0s"):
        args = ["table", "rebalance", self.TABLE, "--hold", hold, "--yes", "--quiet", *more]
        for n in add:
            args += ["--add", self.node(n).option]
        for n in remove:
            args += ["--remove", self.node(n).name]
        return args

    def drop_args(self, *more, hold="0s"):
        return ["table", "drop", self.TABLE, "--hold", hold, "--yes", "--quiet", *more]

    def create(self, shards, rf, numbers=(1, 2, 3)):
        self.drover.must(*self.create_args(shards, rf, numbers))
        return self

    def fill(self, rows=60):
        """Rows from before, through the first node's wrapper."""
        at = self.nodes.by_name(self.record()["nodes"][0]["name"])
        for begin in range(1, rows + 1, 50):
            keys = range(begin, min(begin + 50, rows + 1))
            at.ask(f"INSERT INTO {self.TABLE} (id, v) VALUES " + ", ".join(f"({k}, 'base-{k}')" for k in keys))
            self.base.update((k, f"base-{k}") for k in keys)
        return self

    def write(self, count=2, seed=1, avoid=(), pause=0.004):
        self.crowd = Crowd(self.nodes, self.TABLE, count, seed, pause=pause)
        self.crowd.avoided.update(avoid)
        self.crowd.start()
        return self

    def read_meanwhile(self, what):
        """Nobody reads anything wrong while this is done."""
        reader = Reader(self.nodes, self.TABLE, len(self.base))
        reader.start()
        try:
            what()
        finally:
            wrong = reader.stop()
        must(not wrong, f"{len(wrong)} of {reader.answers} answers were wrong: {wrong[:3]}")

    def written_more(self, rows=10):
        """So many writes are acknowledged from here on."""
        goal = self.crowd.written() + rows
        self.until(lambda: self.crowd.written() >= goal)

    # --- looking ---------------------------------------------------------------------------------

    def record(self, name=None):
        return self.drover.table(name or self.TABLE)

    def layout(self):
        return [s["holders"] for s in self.record()["shards"]]

    def holds(self, number):
        return sum(self.node(number).name in holders for holders in self.layout())

    def complaints(self, is_looked_at=lambda node: True):
        """Rows and nodes against the catalog."""
        out, records = [], list(self.drover.tables().values())
        for record in records:
            if record["state"] != "ready":
                out.append(f"table {record['name']} is {record['state']}, held by {record['operation']}")
        try:
            for node in filter(is_looked_at, self.nodes.all):
                out += audit_node(node, records, self.nodes)
            mine = [r for r in records if r["name"] == self.TABLE]
            if mine:
                wanted = {**self.base, **(self.crowd.acknowledged() if self.crowd else {})}
                out += audit_rows(self.nodes, mine[0], wanted, self.crowd.pending() if self.crowd else {})
        except TROUBLE as e:
            out.append(f"cannot be looked at: {e}")
        return out

    def check_while_writing(self, skip=()):
        """Nothing is lost so far: the writers pause for the look."""
        crowd = self.crowd
        self.check_all(skip, is_healthy=False)
        self.base.update(crowd.acknowledged())
        self.crowd = Crowd(self.nodes, self.TABLE, crowd.count, crowd.seed + 1, crowd.first + 1000000, crowd.pause)
        self.crowd.avoided = crowd.avoided
        self.crowd.start()

    def check_all(self, skip=(), is_healthy=True):
        """Writers end; what differs for longer than clusters need to come together is wrong."""
        out = []
        if self.crowd:
            out += self.crowd.stop().complaints()
        until = time.monotonic() + HEAL_S
        while True:
            found = self.complaints(lambda node: node.number not in skip)
            if not found or time.monotonic() > until:
                break
            time.sleep(0.1)
        out += found
        if out:
            raise Failed(f"{len(out)} things are wrong: " + "; ".join(out[:5]))
        if is_healthy:
            code, text = self.drover.run("health")
            must(code == DONE, f"drover health: exit {code}: {text[-700:]}")

    # --- going on --------------------------------------------------------------------------------

    @staticmethod
    def until(what, seconds=30):
        until = time.monotonic() + seconds
        while not what():
            if time.monotonic() > until:
                raise Failed(f"waited {seconds} s in vain")
            time.sleep(0.02)

    def until_held(self, op):
        self.until(lambda: "held until" in self.drover.run("explain", op)[1], 40)

    def met(self, pattern):
        """A node of the table was asked for a change like this."""
        return any(pattern in sql for node in self.nodes.all if not node.is_dead() for sql in node.changes())

    def settle(self, op, tries=12):
        """Go on until the operation has ended, as a person or a supervisor would."""
        trail = []
        for _ in range(tries):
            status = self.drover.status(op)
            if status in ENDED:
                return status
            code, out = self.drover.run("run", op, "--yes", "--quiet")
            trail.append(f"{status}: exit {code}: {out[-200:]}")
            if code == BLOCKED:
                self.drover.run("quarantine", "retry", op)
        raise Failed(f"operation {op} does not end: {trail[-3:]}")


__all__ = ["COLUMNS", "Case", "Nodes", "must"]
