# SPDX-License-Identifier: Apache-2.0
"""Manticore nodes for tests of sharded tables: stand-ins, or the real ones that
DROVER_TEST_MANTICORE_NODES names; writers that go through the wrappers; and an audit that compares
all nodes with drover's catalog, cluster by cluster and row by row."""
import os
import pathlib
import random
import re
import shutil
import subprocess
import sys
import threading
import time

from manticore_sql import route
from manticore_wire import Client, Gone, SqlError, ask_peer, free_port

HERE = pathlib.Path(__file__).resolve().parent
TROUBLE = (SqlError, Gone, OSError)
PAGE = 500  # below the 1000 rows that one answer has at most
REPLICATION = re.compile(r":replication$")
START_S, STATEMENT_S = 10, 20
BASE_MAX = 1000000  # ids of writers begin here


class Node:
    """One node. `binary` is what peers call it."""

    def __init__(self, number, sql, folder):
        self.number, self.name, self.sql, self.folder = number, f"n{number}", sql, folder
        self.process, self.log, self.is_real = None, None, folder is None
        self.binary = None if self.is_real else f"127.0.0.1:{free_port()}"
        self.lock = threading.Lock()

    @property
    def option(self):
        return f"{self.name}=manticore://{self.sql}?read_timeout=10"

    def start(self):
        with self.lock:
            if self.process is not None and self.process.poll() is None:
                return self
            with open(self.folder + ".log", "ab") as log:
                self.process = subprocess.Popen(
                    [sys.executable, HERE / "manticore_standin.py", "--sql", self.sql, "--binary", self.binary,
                     "--data-dir", self.folder, "--no-sync", "--watch", str(os.getpid())],
                    stdin=subprocess.DEVNULL, stdout=log, stderr=log)
            until = time.monotonic() + START_S
            while not self.answers():
                if time.monotonic() > until or self.process.poll() is not None:
                    raise RuntimeError(f"{self.name} does not start; see {self.folder}.log")
                time.sleep(0.02)
            return self

    def answers(self):
        try:
            self.ask("SHOW STATUS LIKE 'uptime'")
            return True
        except TROUBLE:
            return False

    def die(self):
        with self.lock:
            self.process.kill()
            self.process.wait()

    def is_dead(self):
        return not self.is_real and self.process.poll() is not None

    def ask(self, sql, timeout=STATEMENT_S):
        client = Client(self.sql, timeout)
        try:
            return client.query(sql)
        finally:
            client.close()

    # --- trouble on demand; only stand-ins know it -----------------------------------------------

    def hook(self, text=""):
        if not self.is_real:
            ask_peer(self.binary, {"op": "hook", "text": text}, 5.0)

    def changes(self, clear=False):
        """Statements that changed tables or clusters, since the last clear."""
        return ask_peer(self.binary, {"op": "log", "clear": clear}, 5.0)["log"]

    def reads(self):
        """How many questions it was asked so far."""
        return ask_peer(self.binary, {"op": "hook", "is_look": True}, 5.0)["reads"]

    def is_hook_met(self):
        return ask_peer(self.binary, {"op": "hook", "is_look": True}, 5.0)["waiting"] == 0

    # --- looking ---------------------------------------------------------------------------------

    def tables(self, is_system=False):
        rows = self.ask("SHOW TABLES" + (" FROM system" if is_system else "")).rows
        return {row[0] if not is_system or row[0].startswith("system.") else "system." + row[0] for row in rows}

    def clusters(self):
        """name -> {status, node_state, members, tables}"""
        rows = dict(self.ask("SHOW STATUS LIKE 'cluster%'").rows)
        names = [k[len("cluster_"):-len("_node_state")] for k in rows if k.endswith("_node_state")]
        out = {}
        for name in names:
            view = rows.get(f"cluster_{name}_nodes_view", "").split(",")
            out[name] = {"status": rows.get(f"cluster_{name}_status"), "node_state": rows[f"cluster_{name}_node_state"],
                         "members": {v for v in view if v and not REPLICATION.search(v)},
                         "tables": set(filter(None, rows.get(f"cluster_{name}_indexes", "").split(",")))}
        return out

    def rows(self, table):
        """All rows, id -> v; a partial answer is an error."""
        out, last = {}, 0
        client = Client(self.sql, STATEMENT_S)
        try:
            while True:
                result = client.query(f"SELECT id, v FROM {table} WHERE id > {last} ORDER BY id ASC LIMIT {PAGE}")
                if result.warnings:
                    raise SqlError(f"{self.name}: {table} is answered in part")
                for key, value in result.rows:
                    last = int(key)
                    out[last] = value
                if len(result.rows) < PAGE:
                    return out
        finally:
            client.close()

    def count(self, table):
        result = self.ask(f"SELECT count(*) FROM {table}")
        return None if result.warnings else int(result.rows[0][0])

    def folders(self):
        """Folders of clusters below the data folder."""
        return {e.name for e in os.scandir(self.folder) if e.is_dir()} if not self.is_real else None

    def settings(self):
        return {(row[0], row[1]) for row in self.ask("SHOW SETTINGS").rows}


class Nodes:
    """n1 to nN."""
    kind = "manticore"

    def __init__(self, top, count=4):
        given = [n for n in os.environ.get("DROVER_TEST_MANTICORE_NODES", "").split(",") if n]
        self.is_real = bool(given)
        self.all = []
        if given and len(given) < count:
            raise RuntimeError(f"DROVER_TEST_MANTICORE_NODES names fewer than {count} nodes")
        for i in range(1, count + 1):
            folder = None if given else os.path.join(top, f"n{i}")
            self.all.append(Node(i, given[i - 1] if given else f"127.0.0.1:{free_port()}", folder))
        for node in self.all:
            if given:
                node.binary = binary_of(node)
            else:
                os.makedirs(node.folder)
                node.start()

    def by_name(self, name):
        return next(n for n in self.all if n.name == name)

    def wipe(self):
        """As on the first day. A stand-in that was in trouble is started anew."""
        for node in self.all:
            if self.is_real:
                wipe_real(node)
                continue
            if node.is_dead() or node.tables() or node.tables(True) or node.clusters() or node.folders():
                node.die()
                shutil.rmtree(node.folder)
                os.makedirs(node.folder)
        for node in self.all:
            if not self.is_real:
                node.start()
                node.hook()
                node.changes(clear=True)

    def stop(self):
        for node in self.all:
            if not node.is_real and node.process is not None:
                node.die()


def binary_of(node):
    for key, value in sorted(node.settings()):
        if key.startswith("searchd.listen") and ":mysql" not in value and ":http" not in value:
            return value if ":" in value else f"127.0.0.1:{value}"
    raise RuntimeError(f"{node.sql} names no binary listener")


def wipe_real(node):
    """Only what these tests make."""
    for name in node.tables():
        if re.match(r"users|other", name):
            node.ask(f"DROP TABLE IF EXISTS {name} OPTION force=1")
    for name in node.clusters():
        if re.match(r"(users|other)_s\d+$|temp_move_(users|other)_", name):
            node.ask(f"DELETE CLUSTER {name}")
    for name in node.tables(True):
        if re.match(r"system\.(users|other)_s\d+$", name):
            node.ask(f"DROP TABLE IF EXISTS {name}")


# --- writers -------------------------------------------------------------------------------------


class Writer(threading.Thread):
    """INSERT through the wrapper of any node; an OK packet makes it acknowledged. Whatever else comes
    back: repeated elsewhere, as REPLACE, for nobody knows whether it was done."""

    def __init__(self, crowd, number):
        super().__init__(daemon=True)
        self.crowd, self.number = crowd, number
        self.random = random.Random(crowd.seed * 31 + number)
        self.links, self.values, self.pending = {}, {}, None
        self.written = self.refused = 0
        self.longest = 0.0
        self.last_trouble = ""

    def run(self):
        serial = 0
        while not self.crowd.ending.is_set():
            serial += 1
            old = self.random.choice(list(self.values)) if self.values and self.random.random() < 0.3 else None
            key = old or self.crowd.first + serial * self.crowd.count + self.number
            self.finish(key, f"w{self.number}-{serial}", old is not None)
            time.sleep(self.crowd.pause)
        for link in self.links.values():
            link.close()

    def finish(self, key, value, is_replace):
        self.pending = (key, value)
        begin = time.monotonic()
        while True:
            node = self.random.choice(self.crowd.nodes_used())
            try:
                self.send(node, f"{'REPLACE' if is_replace else 'INSERT'} INTO {self.crowd.table} (id, v) "
                                f"VALUES ({key}, '{value}')")
                break
            except TROUBLE as e:
                self.last_trouble = f"{node.name}: {e}"
                is_replace = True
                self.refused += 1
                if self.crowd.hurry.is_set():
                    return
                time.sleep(0.01)
        self.longest = max(self.longest, time.monotonic() - begin)
        self.values[key] = value
        self.pending = None
        self.written += 1

    def send(self, node, sql):
        link = self.links.get(node.name)
        if link is None:
            link = self.links[node.name] = Client(node.sql, STATEMENT_S)
        try:
            link.query(sql)
        except (Gone, OSError):
            self.links.pop(node.name).close()
            raise


class Reader(threading.Thread):
    """Counts the rows from before the writers, through every wrapper, over and over: an answer has all
    of them. A node that has no wrapper at that moment says so, which is an error and no wrong answer."""

    def __init__(self, nodes, table, rows):
        super().__init__(daemon=True)
        self.nodes, self.table, self.rows = nodes, table, rows
        self.ending, self.wrong, self.answers = threading.Event(), [], 0

    def run(self):
        while not self.ending.wait(0.005):
            for node in self.nodes.all:
                self.look(node)

    def look(self, node):
        try:
            result = node.ask(f"SELECT count(*) FROM {self.table} WHERE id < {BASE_MAX}")
        except TROUBLE as e:
            if not re.search(rf"(local table\(s\)|index|table) '?{self.table}'?\b", str(e)):
                self.wrong.append(f"{node.name}: {e}")
            return
        self.answers += 1
        if result.warnings or int(result.rows[0][0]) != self.rows:
            self.wrong.append(f"{node.name} counts {result.rows[0][0]} of {self.rows}, {result.warnings} warnings")

    def stop(self):
        self.ending.set()
        self.join()
        if not self.answers:
            self.wrong.append("nothing was read")
        return self.wrong


class Crowd:
    """Writers at work, from start() to stop()."""

    def __init__(self, nodes, table, count=2, seed=1, first=BASE_MAX, pause=0.004):
        self.nodes, self.table, self.count, self.seed = nodes, table, count, seed
        self.first, self.pause, self.avoided = first, pause, set()
        self.ending, self.hurry = threading.Event(), threading.Event()
        self.writers = [Writer(self, i) for i in range(count)]

    def nodes_used(self):
        return [n for n in self.nodes.all if n.number not in self.avoided]

    def start(self):
        for w in self.writers:
            w.start()
        return self

    def stop(self, seconds=20):
        self.ending.set()
        until = time.monotonic() + seconds
        for w in self.writers:
            w.join(max(0.1, until - time.monotonic()))
        self.hurry.set()
        for w in self.writers:
            w.join(STATEMENT_S)
        return self

    def acknowledged(self):
        out = {}
        for w in self.writers:
            out.update(w.values)
        return out

    def pending(self):
        return dict(w.pending for w in self.writers if w.pending is not None)

    def written(self):
        return sum(w.written for w in self.writers)

    def complaints(self):
        out = [f"writer {w.number} did not end" for w in self.writers if w.is_alive()]
        out += [f"writer {w.number} could write nothing: {w.last_trouble}" for w in self.writers if not w.written]
        out += [f"writer {w.number} could not finish: {w.last_trouble}" for w in self.writers if w.pending]
        return out


# --- the audit -----------------------------------------------------------------------------------


def differences(where, have, wanted, loose):
    """`have` against `wanted` rows; `loose` ones were never acknowledged and may be there or not."""
    out = []
    for key in set(have) | set(wanted):
        if have.get(key) != wanted.get(key) and not (key in loose and have.get(key) in (loose[key], wanted.get(key))):
            out.append(f"{where}: row {key} is {have.get(key)}, acknowledged was {wanted.get(key)}")
    return out


def audit_rows(nodes, record, wanted, loose):
    """Every row through every wrapper, and in every copy of its shard."""
    out, shards = [], record["shards"]
    counts = set()
    for node in (nodes.by_name(n["name"]) for n in record["nodes"]):
        have = node.rows(record["name"])
        counts.add(node.count(record["name"]))
        out += differences(f"{record['name']} through {node.name}", have, wanted, loose)
    if len(counts) != 1 or None in counts:
        out.append(f"wrappers count {counts}")
    for number, shard in enumerate(shards):
        part = {k: v for k, v in wanted.items() if route(k, len(shards)) == number}
        lax = {k: v for k, v in loose.items() if route(k, len(shards)) == number}
        for name in shard["holders"]:
            out += differences(f"{shard['table']} on {name}",
                               nodes.by_name(name).rows("system." + shard["table"]), part, lax)
    return out


def audit_node(node, records, nodes):
    """What lies on a node, against what the catalog says should: `records` are all tables of it."""
    wrappers, copies, clusters = set(), set(), {}
    for record in records:
        if any(n["name"] == node.name for n in record["nodes"]):
            wrappers.add(record["name"])
        for shard in record["shards"]:
            if node.name not in shard["holders"]:
                continue
            copies.add("system." + shard["table"])
            if record["rf"] > 1:
                members = {nodes.by_name(h).binary for h in shard["holders"]}
                clusters[shard["table"]] = {"status": "primary", "node_state": "synced", "members": members,
                                            "tables": {"system." + shard["table"]}}
    out = []
    for what, have, wanted in (("wrappers", node.tables(), wrappers), ("shards", node.tables(True), copies),
                               ("clusters", node.clusters(), clusters)):
        if node.is_real:
            have = only_ours(have)
        if have != wanted:
            out.append(f"{node.name}: {what} are {describe(have)}, the catalog says {describe(wanted)}")
    if not node.is_real and node.folders() != set(clusters):
        out.append(f"{node.name}: folders {node.folders()}, clusters {set(clusters)}")
    for record in records:
        if record["name"] in wrappers:
            out += audit_wrapper(node, record, nodes)
    return out


def only_ours(have):
    """Of a real node, which may have other things."""
    kept = [k for k in have if re.search(r"(^|_|\.)(users|other)(_s|$)", k)]
    return {k: have[k] for k in kept} if isinstance(have, dict) else set(kept)


def describe(what):
    return sorted(what) if isinstance(what, set) else {k: str(v) for k, v in sorted(what.items())}


def audit_wrapper(node, record, nodes):
    """It lists every shard once, at all of its holders and nowhere else."""
    text = node.ask(f"SHOW CREATE TABLE {record['name']} OPTION force=1").rows[0][1]
    local = set(re.findall(r"local='([^']*)'", text))
    agents = {}
    for agent in re.findall(r"agent='([^']*)'", text):
        mirrors = [m.split("[")[0].rsplit(":", 1) for m in agent.split("[")[0].split("|")]
        agents.setdefault(mirrors[-1][1], set()).update(at for at, _ in [(m[0], 0) for m in mirrors] if ":" in at)
    out = []
    for shard in record["shards"]:
        name = "system." + shard["table"]
        at = {nodes.by_name(h).binary for h in shard["holders"]}
        if not (name in agents and agents[name] == at or name in local and at == {node.binary}):
            out.append(f"{node.name}: its wrapper has {name} at {agents.get(name) or local}, the catalog at {at}")
    if len(local) + len(agents) != len(record["shards"]):
        out.append(f"{node.name}: its wrapper has {len(local) + len(agents)} parts of {len(record['shards'])}")
    return out


__all__ = ["BASE_MAX", "Crowd", "Node", "Nodes", "Reader", "TROUBLE", "audit_node", "audit_rows"]
