# SPDX-License-Identifier: Apache-2.0
"""For tests of sharded tables: drover's command line, a table with rows and writers, and an audit
that compares all nodes with the catalog."""
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "support")]
from shard_nodes import BOOKKEEPING, COLUMNS, Lost  # noqa: E402
from shard_writers import Crowd, compare, shard_of  # noqa: E402

SECONDS_MAX = 120
DONE, REFUSED, EARLY, BLOCKED, ROLLED_BACK, NOT_FOUND, UNHEALTHY = 0, 3, 8, 9, 10, 11, 13
INPUT_OR_REFUSED = (3, 4)
ENDED = ("done", "rolled back")


class Failed(Exception):
    pass


class Drover:
    """The command line with a data folder."""

    def __init__(self, build, data):
        self.program, self.data = os.path.join(build, "drover"), data

    def start(self, *args, env=None):
        return subprocess.Popen([self.program, "--data", self.data, *map(str, args)], stdin=subprocess.DEVNULL,
                                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                                env=dict(os.environ, MONGOC_DISABLE_SHM="1", **(env or {})))

    @staticmethod
    def finish(process, seconds=SECONDS_MAX):
        try:
            out, _ = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired as e:
            process.kill()
            out, _ = process.communicate()
            raise Failed(f"did not end within {seconds} s: {process.args[3:]}: {out[-600:]}") from e
        return process.returncode, out

    def run(self, *args, env=None):
        return self.finish(self.start(*args, env=env))

    def must(self, *args, wanted=DONE, says=None, env=None):
        code, out = self.run(*args, env=env)
        if code not in (wanted if isinstance(wanted, tuple) else (wanted,)):
            raise Failed(f"exit {code}, not {wanted}: drover {' '.join(map(str, args))}: {out[-700:]}")
        if says and says not in out:
            raise Failed(f"does not say \"{says}\": drover {' '.join(map(str, args))}: {out[-700:]}")
        return out

    def json(self, *args):
        run = subprocess.run([self.program, "--data", self.data, "--json", *map(str, args)], stdin=subprocess.DEVNULL,
                             capture_output=True, text=True, check=False, timeout=SECONDS_MAX,
                             env=dict(os.environ, MONGOC_DISABLE_SHM="1"))
        if run.returncode not in (DONE, UNHEALTHY):
            raise Failed(f"exit {run.returncode}: drover {args}: {run.stdout[-300:]}{run.stderr[-300:]}")
        return json.loads(run.stdout)

    def table(self, name):
        return self.json("table", "status", name)

    def tables(self):
        return {t["name"]: t for t in self.json("table", "status")}

    def status(self, op):
        return self.json("status", op)["status"]

    def last_op(self):
        ops = self.json("status")
        ops = ops.get("operations", ops) if isinstance(ops, dict) else ops
        return max((o["id"] for o in ops), default=0)


class Case:
    """Nodes that are wiped, a data folder, a table name, and rows that are known."""
    TABLE = "users"

    def __init__(self, build, nodes, top):
        self.nodes, self.kind = nodes, nodes.kind
        self.dir = tempfile.mkdtemp(prefix="case.", dir=top)
        self.drover = Drover(build, os.path.join(self.dir, "data"))
        self.base, self.crowd = {}, None
        nodes.wipe()

    def close(self):
        if self.crowd:
            self.crowd.stop(5)
        shutil.rmtree(self.dir, ignore_errors=True)

    def create_args(self, shards, rf, numbers, *more, table=None):
        args = ["table", "create", table or self.TABLE, "--columns", COLUMNS[self.kind], "--shards", shards, "--rf", rf,
                "--yes", "--quiet", *more]
        for n in numbers:
            args += ["--node", self.nodes.all[n - 1].option]
        return args

    def create(self, shards=4, rf=2, numbers=(1, 2, 3)):
        self.drover.must(*self.create_args(shards, rf, numbers))
        return self

    def rebalance_args(self, *more, add=(), remove=(), hold="0s"):
        args = ["table", "rebalance", self.TABLE, "--hold", hold, "--yes", "--quiet", *more]
        for n in add:
            args += ["--add", self.nodes.all[n - 1].option]
        for n in remove:
            args += ["--remove", self.nodes.all[n - 1].name]
        return args

    def fill(self, rows=400):
        """Rows from before, with ids that no writer has."""
        record = self.drover.table(self.TABLE)
        count = len(record["shards"])
        split = [[] for _ in range(count)]
        for key in range(1, rows + 1):
            split[shard_of(count, key)].append(key)
            self.base[key] = f"base-{key}"
        for shard, keys in zip(record["shards"], split):
            for name in shard["holders"]:
                link = self.nodes.by_name(name).connect()
                for i in range(0, len(keys), 500):
                    rows_text = ", ".join(f"({k}, 'base-{k}')" for k in keys[i:i + 500])
                    link.query(f"INSERT INTO {shard['table']} (id, v) VALUES {rows_text}")
                link.close()
        return self

    def write(self, count=3, seed=1, pause=0.001):
        self.crowd = Crowd(self.nodes, lambda: self.drover.table(self.TABLE), count, seed, pause=pause).start()
        return self

    def stop_writing(self, seconds=30):
        return self.crowd.stop(seconds)

    # --- looking ---------------------------------------------------------------------------------

    def check_rows(self):
        """No acknowledged row is lost, no deleted one is back, holders are equal."""
        complaints = self.crowd.complaints() if self.crowd else []
        complaints += compare(self.nodes, self.drover.table(self.TABLE), self.base, self.crowd)
        if complaints:
            raise Failed(f"{len(complaints)} rows or writers are wrong: " + "; ".join(complaints[:4]))

    def check_rows_while_writing(self):
        """Nothing is lost so far: the writers pause for the look."""
        crowd = self.stop_writing()
        self.check_rows()
        self.base = {k: v for k, v in {**self.base, **crowd.acknowledged()}.items() if v is not None}
        self.write(seed=crowd.seed + 1)
        self.crowd.first = crowd.first + 1000000

    def check_nodes(self, bystanders=(), skip=()):
        """Every node has what the catalog says, and nothing else that drover made."""
        wanted = {node.name: set() for node in self.nodes.all}
        for table in self.drover.tables().values():
            if table["state"] != "ready":
                raise Failed(f"table {table['name']} is {table['state']}, held by {table['operation']}")
            for shard in table["shards"]:
                for holder in shard["holders"]:
                    wanted[holder].add(shard["table"])
        complaints = []
        for i, node in enumerate(self.nodes.all, 1):
            if i not in skip:
                complaints += self.audit_node(node, wanted[node.name], set(bystanders))
        if complaints:
            raise Failed("nodes and catalog differ: " + "; ".join(complaints[:5]))

    @staticmethod
    def audit_node(node, wanted, bystanders):
        try:
            tables, helpers, records = node.tables(), node.helpers(), node.records()
        except Lost as e:
            return [f"{node.name}: cannot be looked at: {e}"]
        out = []
        extra = tables - wanted - BOOKKEEPING - bystanders
        for what, found in (("tables left", extra), ("tables missing", wanted - tables),
                            ("triggers left", helpers),
                            ("records left", records - {(name, "shard") for name in wanted}),
                            ("records missing", {(name, "shard") for name in wanted} - records)):
            if found:
                out.append(f"{node.name}: {what}: {sorted(found)[:6]}")
        return out

    def check_healthy(self):
        code, out = self.drover.run("health")
        if code != DONE:
            raise Failed(f"drover health: exit {code}: {out[-700:]}")

    def check_all(self, bystanders=(), skip=()):
        self.check_rows()
        self.check_nodes(bystanders, skip)

    # --- going on --------------------------------------------------------------------------------

    def until(self, what, seconds=30):
        until = time.monotonic() + seconds
        while not what():
            if time.monotonic() > until:
                raise Failed(f"waited {seconds} s in vain")
            time.sleep(0.02)

    def settle(self, op, tries=12, is_patient=False):
        """Go on until the operation has ended, as a person or a supervisor would. `is_patient`: None
        when it does not end."""
        trail = []
        for _ in range(tries):
            status = self.drover.status(op)
            if status in ENDED:
                return status
            code, out = self.drover.run("run", op, "--yes", "--quiet")
            trail.append(f"{status}: exit {code}: {out[-200:]}")
            if code == BLOCKED:
                self.drover.run("quarantine", "retry", op)
        if is_patient:
            return None
        raise Failed(f"operation {op} does not end: {trail[-3:]}")
