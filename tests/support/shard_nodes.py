# SPDX-License-Identifier: Apache-2.0
"""Nodes for tests of sharded tables: SQLite files, or databases on real MariaDB and PostgreSQL
servers that can be killed and started again, and what is to be seen on them."""
import os
import pathlib
import subprocess
import sys
import threading
import urllib.parse

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE)]
from sql_wire import Lost, MariaDb, Postgres, SqlError, Sqlite  # noqa: E402
from tcp_proxy import TcpProxy  # noqa: E402

KINDS = ("sqlite", "mariadb", "postgres")
BOOKKEEPING = {"drover_shards", "drover_pass"}  # stay on a node; everything else of drover has to go
COLUMNS = {
    "sqlite": "id INTEGER PRIMARY KEY, v TEXT, n INTEGER NOT NULL DEFAULT 0",
    "mariadb": "id BIGINT PRIMARY KEY, v VARCHAR(60), n INT NOT NULL DEFAULT 0",
    "postgres": "id BIGINT PRIMARY KEY, v VARCHAR(60), n INT NOT NULL DEFAULT 0",
}
TABLES = {
    "sqlite": "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'",
    "mariadb": "SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = DATABASE()",
    "postgres": "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'",
}
HELPERS = {  # triggers, and the functions they call
    "sqlite": "SELECT name FROM sqlite_master WHERE type = 'trigger'",
    "mariadb": "SELECT TRIGGER_NAME FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA = DATABASE()",
    "postgres": "SELECT tgname FROM pg_trigger WHERE NOT tgisinternal UNION ALL "
                "SELECT proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace",
}


class KillingProxy(TcpProxy):
    """Counts what drover asks, and at one request calls back first."""

    def __init__(self, target_port):
        self.requests = 0
        self.at, self.action = 0, None
        super().__init__(target_port)

    def arm(self, nth, action):
        with self.lock:
            self.requests, self.at, self.action = 0, nth, action

    def choose(self, data):
        with self.lock:
            self.requests += 1
            action = self.action if self.requests == self.at else None
        if action is not None:
            action()
        return super().choose(data)


class Server:
    """One MariaDB or PostgreSQL server with some databases, which are the nodes."""

    def __init__(self, kind, folder, databases):
        self.kind, self.folder = kind, folder
        self.lock = threading.Lock()
        env = self.control("start", kind, folder, "--owner", str(os.getpid()))
        url = urllib.parse.urlsplit(env["URL"])
        self.password = urllib.parse.unquote(url.password)
        self.port = url.port
        self.make(databases)
        self.proxy = KillingProxy(self.port)

    def control(self, *args):
        out = subprocess.run([HERE / "sql_server.sh", *args], check=True, stdout=subprocess.PIPE, text=True).stdout
        return dict(line.split("=", 1) for line in out.splitlines() if "=" in line)

    def make(self, databases):
        admin = self.connect("drover", is_admin=True)
        for name in databases:
            if self.kind == "mariadb":
                admin.query(f"CREATE DATABASE {name}; GRANT ALL ON {name}.* TO drover@'%'")
            else:
                admin.query(f"CREATE DATABASE {name} OWNER drover")
        admin.close()

    def connect(self, database, is_admin=False):
        if self.kind == "mariadb":
            return MariaDb(self.port, database, "root" if is_admin else "drover", self.password)
        return Postgres(self.port, database, "postgres" if is_admin else "drover", self.password)

    def crash(self):
        with self.lock:
            self.control("crash", self.folder)

    def again(self):
        with self.lock:
            self.control("again", self.folder)

    def crash_and_come_back(self, threads):
        """Returns when it is dead; the thread that brings it back is in the list before that."""
        is_dead = threading.Event()

        def work():
            try:
                self.crash()
            finally:
                is_dead.set()
            self.again()

        threads.append(threading.Thread(target=work))
        threads[-1].start()
        is_dead.wait()

    def stop(self):
        self.proxy.close()
        subprocess.run([HERE / "sql_server.sh", "stop", self.folder], check=False)


class Node:
    """A place for shards. `url` is what drover gets; tests reach it by themselves."""

    def __init__(self, kind, name, server=None, path=None):
        self.kind, self.server, self.path = kind, server, path
        self.database = name
        if kind == "sqlite":
            self.name, self.url = path, f"sqlite:{path}"
            self.create_file()
            return
        scheme = "mysql" if kind == "mariadb" else "postgres"
        password = urllib.parse.quote(server.password, safe="")
        self.name = name
        self.url = f"{scheme}://drover:{password}@127.0.0.1:{server.proxy.port}/{name}?read_timeout=5"

    @property
    def option(self):
        return self.url if self.kind == "sqlite" else f"{self.name}={self.url}"

    def create_file(self):
        import sqlite3  # pylint: disable=import-outside-toplevel
        db = sqlite3.connect(self.path)
        db.execute("PRAGMA journal_mode=WAL")
        db.close()

    def connect(self):
        return Sqlite(self.path) if self.kind == "sqlite" else self.server.connect(self.database)

    def ask(self, *statements):
        """Rows of the last statement, over a connection of its own."""
        link = self.connect()
        try:
            rows = []
            for one in statements:
                rows = link.query(one)
            return rows
        finally:
            link.close()

    def die(self):
        """The node's server is gone, or its file is."""
        if self.kind == "sqlite":
            os.rename(self.path, self.path + ".away")
        else:
            self.server.crash()

    def come_back(self):
        if self.kind == "sqlite":
            os.rename(self.path + ".away", self.path)
        else:
            self.server.again()

    def tables(self):
        return {row[0] for row in self.ask(TABLES[self.kind])}

    def helpers(self):
        return {row[0] for row in self.ask(HELPERS[self.kind])}

    def records(self):
        """Of drover_shards: {(name, role)}."""
        if "drover_shards" not in self.tables():
            return set()
        return set(self.ask("SELECT name, role FROM drover_shards"))

    def rows(self, table):
        return {int(row[0]): row[1] for row in self.ask(f"SELECT id, v FROM {table}")}

    def wipe(self):
        if self.kind == "sqlite":
            for suffix in ("", "-wal", "-shm", ".away"):
                if os.path.exists(self.path + suffix):
                    os.unlink(self.path + suffix)
            self.create_file()
        elif self.kind == "mariadb":
            for table in self.tables():
                self.ask(f"DROP TABLE `{table}`")
        else:
            self.drop_schema()

    def drop_schema(self):
        """Again when a session that drover or a writer left behind holds a lock the other way round."""
        for tries in range(5):
            try:
                self.ask("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
                return
            except Exception as error:  # pylint: disable=broad-except
                if "deadlock" not in str(error) or tries == 4:
                    raise


class Nodes:
    """Four nodes n1 to n4; the last has a server of its own, which may die alone."""

    def __init__(self, kind, top):
        self.kind, self.servers = kind, []
        if kind == "sqlite":
            self.all = [Node(kind, f"n{i}", path=os.path.join(top, f"n{i}.db")) for i in range(1, 5)]
            return
        try:
            for i, names in enumerate((("n1", "n2", "n3"), ("n4",))):
                self.servers.append(Server(kind, os.path.join(top, f"{kind}{i}"), names))
        except BaseException:
            self.stop()
            raise
        self.all = [Node(kind, f"n{i}", server=self.servers[i == 4]) for i in range(1, 5)]

    def by_name(self, name):
        return next(n for n in self.all if n.name == name)

    def wipe(self):
        for node in self.all:
            node.wipe()

    def stop(self):
        for server in self.servers:
            server.stop()


__all__ = ["BOOKKEEPING", "COLUMNS", "KINDS", "Lost", "Node", "Nodes", "SqlError"]
