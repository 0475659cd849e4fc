# SPDX-License-Identifier: Apache-2.0
"""What the tests and the bench of `drover tokenserver purge` stand on: a real database with the
token server's tables, storage nodes that check every signature, a statsd server."""
import http.client
import json
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time

from sql_database import Database

HERE = pathlib.Path(__file__).resolve().parent
SECRET = "the-Master/Secret+of=tests"
SERVICE = 7
DAY_S = 86400
NEIGHBOURS = range(900001, 900004)  # uids in use, with data on every node


class Nodes:
    def __init__(self, count, secret=SECRET):
        self.process = subprocess.Popen(
            [sys.executable, HERE / "storage_node.py", "--nodes", str(count), "--secret", secret],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.ports = json.loads(self.process.stdout.readline())["ports"]

    def url(self, i):
        return f"http://127.0.0.1:{self.ports[i]}"

    def _ask(self, i, method, body=None):
        link = http.client.HTTPConnection("127.0.0.1", self.ports[i], timeout=20)
        try:
            link.request(method, "/__control", None if body is None else json.dumps(body))
            return json.loads(link.getresponse().read())
        finally:
            link.close()

    def tell(self, i, **wish):
        self._ask(i, "POST", wish)

    def report(self, i):
        return self._ask(i, "GET")

    def stop(self):
        self.process.stdin.close()
        self.process.wait(20)


class Statsd(threading.Thread):
    """Keeps every metric that comes in."""

    def __init__(self):
        super().__init__(daemon=True)
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        self.socket.bind(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        self.lines = []
        self.start()

    def run(self):
        while True:
            self.lines += self.socket.recv(65536).decode().splitlines()

    def counted(self, name, end="|c"):
        """The sum of a counter with these very tags: "|c|#type:not_down"."""
        return sum(int(line.split(":")[1].split("|")[0]) for line in list(self.lines)
                   if line.startswith(f"tokenserver.{name}:") and line.endswith(end))


class World:
    def __init__(self, kind, nodes):
        self.top = tempfile.mkdtemp(prefix="drover-tokens.")
        os.chmod(self.top, 0o755)
        self.db = Database(kind, os.path.join(self.top, "server"))
        schema = "postgres" if kind == "postgres" else "mysql"
        self.db.load(HERE / f"tokenserver_schema.{schema}.sql")
        self.nodes = Nodes(nodes)
        self.statsd = Statsd()
        self.count = nodes

    def close(self):
        self.nodes.stop()
        self.db.stop()
        shutil.rmtree(self.top, ignore_errors=True)

    def clear(self):
        """Every node up, with nothing but users that nobody may touch."""
        rows = ", ".join(f"({i + 1}, {SERVICE}, '{self.nodes.url(i)}', 0, 0, 0, false, 0)"
                         for i in range(self.count))
        self.db.sql("DELETE FROM users; DELETE FROM nodes; INSERT INTO nodes (id, service, node,"
                    f" available, current_load, capacity, downed, backoff) VALUES {rows};")
        for i in range(self.count):
            self.nodes.tell(i, reset=True, data=list(NEIGHBOURS))
        self.users([(uid, uid % self.count, None) for uid in NEIGHBOURS])
        self.statsd.lines.clear()

    def users(self, rows, email="user{}@example.com", state="aabbccdd", generation=1234):
        """Rows (uid, node, replaced how many seconds ago or None); node None: one that is gone."""
        now = int(time.time() * 1000)
        text = ", ".join(
            f"({uid}, {SERVICE}, '{email.format(uid)}', {generation}, '{state}', {now + uid},"
            f" {'NULL' if age is None else now - int(age * 1000)},"
            f" {'NULL' if node is None else node + 1}, NULL)" for uid, node, age in rows)
        self.db.sql("INSERT INTO users (uid, service, email, generation, client_state, created_at,"
                    f" replaced_at, nodeid, keys_changed_at) VALUES {text};")

    def old(self, uids, node=None, age=2 * DAY_S):
        """Records that are due, with their data: all on one node, or spread over all of them."""
        uids = list(uids)
        self.users([(uid, uid % self.count if node is None else node, age) for uid in uids])
        for i in range(self.count) if node is None else [node]:
            self.nodes.tell(i, data=[uid for uid in uids if node is not None or uid % self.count == i]
                            + list(NEIGHBOURS))

    def down(self, node):
        self.db.sql(f"UPDATE nodes SET downed = true WHERE id = {node + 1};")

    def left(self, where="true"):
        """Records that are left, neighbours not counted."""
        return self.db.number(f"SELECT COUNT(*) FROM users WHERE uid < {NEIGHBOURS[0]} AND {where}")

    def data_left(self):
        return sum(len([uid for uid in self.nodes.report(i)["data"] if uid < NEIGHBOURS[0]])
                   for i in range(self.count))

    def requests(self):
        return sum(self.nodes.report(i)["requests"] for i in range(self.count))

    def neighbours_are_safe(self):
        records = self.db.number(f"SELECT COUNT(*) FROM users WHERE uid >= {NEIGHBOURS[0]}")
        return records == len(NEIGHBOURS) and all(
            set(NEIGHBOURS) <= set(self.nodes.report(i)["data"]) for i in range(self.count))
