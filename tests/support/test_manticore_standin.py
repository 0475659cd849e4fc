#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The stand-in's own test: each fact of a real Manticore node that it models, and the ways to lose rows
that a careful plan must avoid: they must really lose rows here, or tests against it prove nothing."""
import os
import signal
import subprocess
import sys
import tempfile
import time
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
# pylint: disable=wrong-import-position
from manticore_sql import route
from manticore_wire import Client, Gone, SqlError, ask_peer, free_port


class Machine:
    def __init__(self, folder):
        self.sql, self.binary = ("127.0.0.1:%d" % free_port() for _ in range(2))
        self.folder, self.process, self.conn = folder, None, None
        os.makedirs(folder)

    def start(self):
        self.process = subprocess.Popen(
            [sys.executable, os.path.join(HERE, "manticore_standin.py"), "--sql", self.sql, "--binary",
             self.binary, "--data-dir", self.folder, "--no-sync", "--watch", str(os.getpid())],
            stdout=subprocess.PIPE)
        assert self.process.stdout.readline() == b"ready\n"
        self.conn = None
        return self

    def kill(self, number=signal.SIGKILL):
        self.process.send_signal(number)
        self.process.wait()
        self.process.stdout.close()
        if self.conn is not None:
            self.conn.close()
            self.conn = None

    def q(self, sql):
        if self.conn is None:
            self.conn = Client(self.sql)
        try:
            return self.conn.query(sql)
        except (Gone, OSError):
            self.conn.close()
            self.conn = None
            raise

    def rows(self, sql):
        return self.q(sql).rows

    def count(self, table):
        return int(self.rows("SELECT count(*) FROM %s" % table)[0][0])

    def status(self, cluster, key):
        for name, value in self.rows("SHOW STATUS LIKE 'cluster%'"):
            if name == "cluster_%s_%s" % (cluster, key):
                return value
        return None

    def path(self, name):
        os.makedirs(os.path.join(self.folder, name), exist_ok=True)


def view(machine, cluster):
    return sorted(v for v in (machine.status(cluster, "nodes_view") or "").split(",")
                  if v and not v.endswith(":replication"))


class Case(unittest.TestCase):
    def setUp(self):
        self.temporary = tempfile.TemporaryDirectory()
        self.machines = []

    def tearDown(self):
        for m in self.machines:
            if m.process.poll() is None:
                m.kill()
        self.temporary.cleanup()

    def nodes(self, count):
        for _ in range(count):
            folder = os.path.join(self.temporary.name, "n%d" % len(self.machines))
            self.machines.append(Machine(folder).start())
        return self.machines[-count:]

    def fails(self, machine, sql, text, number=1064):
        with self.assertRaises(SqlError) as caught:
            machine.q(sql)
        self.assertIn(text, caught.exception.text)
        self.assertEqual(caught.exception.number, number)

    def until(self, check, what, seconds=10):
        deadline = time.monotonic() + seconds
        while not check():
            self.assertLess(time.monotonic(), deadline, "never: " + what)
            time.sleep(0.02)

    def pair(self, machines, cluster="c"):
        for m in machines:
            m.path(cluster)
        machines[0].q("CREATE CLUSTER %s '%s' as path" % (cluster, cluster))
        for m in machines[1:]:
            m.q("JOIN CLUSTER %s AT '%s' '%s' as path" % (cluster, machines[0].binary, cluster))

    def shard(self, machine, name="system.t_s0"):
        machine.q("CREATE TABLE IF NOT EXISTS %s (id bigint, name string)" % name)

    def wrapper(self, machine, agents, name="t"):
        clauses = " ".join("agent='%s[retry_count=2,ha_strategy=noerrors]'" % a for a in agents)
        machine.q("CREATE TABLE `%s` (id bigint, name string) type='shard' %s" % (name, clauses))


class Tables(Case):
    def test_rows_survive_kill(self):
        n, = self.nodes(1)
        self.shard(n)
        n.q("INSERT INTO system.t_s0 (id, name) VALUES (1, 'a'), (2, 'it\\'s')")
        n.q("UPDATE system.t_s0 SET name = 'b' WHERE id = 1")
        n.q("DELETE FROM system.t_s0 WHERE id IN (7)")
        n.kill()
        n.start()
        self.assertEqual(n.rows("SELECT * FROM system.t_s0 ORDER BY id ASC"), [["1", "b"], ["2", "it's"]])
        self.assertEqual(n.rows("SELECT id FROM system.t_s0 WHERE id > 1 LIMIT 5"), [["2"]])

    def test_system_tables_are_hidden(self):
        n, = self.nodes(1)
        self.shard(n)
        self.assertEqual(n.rows("SHOW TABLES"), [])
        self.assertEqual(n.rows("SHOW TABLES FROM system"), [["system.t_s0", "rt"]])
        self.fails(n, "CREATE TABLE other.t_s0 (id bigint)", "unknown database")

    def test_missing_table_and_syntax(self):
        n, = self.nodes(1)
        self.fails(n, "DESC nothing", "no such table", 1146)
        self.fails(n, "SHOW CREATE TABLE nothing", "no such table", 1146)
        self.fails(n, "DROP TABLE nothing", "unknown local table")
        n.q("DROP TABLE IF EXISTS nothing")
        self.fails(n, "SHOW CLUSTERS", "syntax error")
        self.fails(n, "CREATE CLUSTER IF NOT EXISTS c", "syntax error")
        self.fails(n, "SELECT DISTINCT id FROM t", "syntax error")
        self.shard(n)
        self.fails(n, "CREATE TABLE system.t_s0 (id bigint)", "already exists")
        self.fails(n, "INSERT INTO system.t_s0 (id, name) VALUES (1, 'a'), (1)", "column count")
        n.q("INSERT INTO system.t_s0 (id, name) VALUES (1, 'a')")
        self.fails(n, "INSERT INTO system.t_s0 (id, name) VALUES (1, 'b')", "duplicate id '1'")

    def test_default_limit_is_twenty(self):
        n, = self.nodes(1)
        self.shard(n)
        n.q("INSERT INTO system.t_s0 (id) VALUES " + ",".join("(%d)" % i for i in range(1, 31)))
        self.assertEqual(len(n.rows("SELECT id FROM system.t_s0")), 20)
        self.assertEqual(len(n.rows("SELECT id FROM system.t_s0 LIMIT 1000")), 30)

    def test_routing_vector(self):
        where = [route(i, 3) for i in range(1, 10)]
        self.assertEqual([i + 1 for i in range(9) if where[i] == 0], [6, 9])
        self.assertEqual([i + 1 for i in range(9) if where[i] == 1], [5, 8])

    def test_settings(self):
        n, = self.nodes(1)
        settings = n.rows("SHOW SETTINGS")
        self.assertIn(["searchd.listen", n.binary], settings)
        self.assertIn(["searchd.data_dir", n.folder], settings)

    def test_sessions_show_what_runs(self):
        n, = self.nodes(1)
        self.shard(n)
        other = Client(n.sql)
        other.query("SELECT id FROM system.t_s0")
        names = n.q("SELECT * FROM @@system.sessions").columns
        self.assertEqual(names[2:3] + names[6:], ["state", "last cmd time", "last cmd"])
        lasts = [r[7] for r in n.rows("SELECT * FROM @@system.sessions LIMIT 100")]
        self.assertIn("SELECT id FROM system.t_s0", lasts)
        other.close()


class Wrappers(Case):
    def test_routes_and_partial_answers(self):
        a, b = self.nodes(2)
        self.shard(a, "system.t_s0")
        self.shard(b, "system.t_s1")
        a.q("CREATE TABLE `t` (id bigint, name string) type='shard' local='system.t_s0' agent='%s:system.t_s1'"
            % b.binary)
        for i in range(1, 10):
            a.q("INSERT INTO t (id, name) VALUES (%d, 'x')" % i)
        self.assertEqual(a.count("t"), 9)
        self.assertEqual(a.count("system.t_s0"), sum(route(i, 2) == 0 for i in range(1, 10)))
        result = a.q("UPDATE t SET name = 'y' WHERE id = 3")
        self.assertEqual(result.affected, 1)
        b.kill()
        partial = a.q("SELECT count(*) FROM t")
        self.assertEqual(partial.warnings, 1)
        self.assertLess(int(partial.rows[0][0]), 9)
        gone = next(i for i in range(10, 99) if route(i, 2) == 1)
        self.fails(a, "INSERT INTO t (id, name) VALUES (%d, 'x')" % gone, "refused")

    def test_missing_local_part_is_an_error(self):
        a, = self.nodes(1)
        self.shard(a, "system.t_s0")
        a.q("CREATE TABLE t (id bigint) type='shard' local='system.t_s0'")
        a.q("DROP TABLE system.t_s0")
        self.fails(a, "SELECT count(*) FROM t", "unknown local table")

    def test_drop_needs_force(self):  # defect 5
        a, = self.nodes(1)
        self.wrapper(a, [a.binary + ":system.t_s0"])
        self.fails(a, "DROP TABLE IF EXISTS t", "force=1")
        a.q("DROP TABLE IF EXISTS t OPTION force=1")
        self.assertEqual(a.rows("SHOW TABLES"), [])

    def test_show_create(self):
        a, = self.nodes(1)
        agents = ["%s:system.t_s%d|127.0.0.1:1:system.t_s%d" % (a.binary, i, i) for i in range(2)]
        self.wrapper(a, agents)
        self.assertIn("shards='2' rf='2'", a.rows("SHOW CREATE TABLE t")[0][1])
        text = a.rows("SHOW CREATE TABLE t OPTION force=1")[0][1]
        self.assertIn("agent='%s[retry_count=2,ha_strategy=noerrors]'" % agents[0], text)
        self.fails(a, "CREATE TABLE d (id bigint) type='shard' agent='%s' agent='%s'"
                   % (agents[0], agents[0]), "duplicate shard number")

    def test_distributed_refuses_writes(self):
        a, = self.nodes(1)
        a.q("CREATE TABLE d (id bigint) type='distributed' agent='%s:x'" % a.binary)
        self.fails(a, "INSERT INTO d (id) VALUES (1)", "not supported")


class Membership(Case):
    def test_path_must_exist(self):
        a, b = self.nodes(2)
        self.fails(a, "CREATE CLUSTER c 'c' as path", "cannot access directory")
        a.q("CREATE CLUSTER c")
        self.fails(a, "CREATE CLUSTER c", "already exists")
        self.fails(a, "CREATE CLUSTER other", "path")
        self.fails(b, "JOIN CLUSTER c AT '%s' 'c' as path" % a.binary, "cannot access directory")
        self.fails(b, "JOIN CLUSTER none AT '%s'" % a.binary, "unknown cluster")
        self.fails(b, "JOIN CLUSTER c AT '127.0.0.1:1'", "failed to fetch donor")
        self.assertEqual(a.status("c", "nodes_set"), "")
        b.q("JOIN CLUSTER c AT '%s'" % a.binary)
        self.fails(b, "JOIN CLUSTER c AT '%s'" % a.binary, "already exists")
        self.assertEqual(sorted(a.status("c", "nodes_set").split(",")), sorted([a.binary, b.binary]))
        self.assertEqual(view(b, "c"), sorted([a.binary, b.binary]))
        self.assertEqual(b.status("c", "status") + b.status("c", "node_state"), "primarysynced")

    def test_writes_are_replicated_at_once(self):
        machines = self.nodes(3)
        self.pair(machines)
        a, b, c = machines
        self.shard(a)
        a.q("INSERT INTO system.t_s0 (id, name) VALUES (1, 'a')")
        a.q("ALTER CLUSTER c ADD system.t_s0")
        self.assertEqual([m.count("system.t_s0") for m in machines], [1, 1, 1])
        c.q("INSERT INTO c:system.t_s0 (id, name) VALUES (2, 'b')")
        b.q("DELETE FROM c:system.t_s0 WHERE id = 1")
        self.assertEqual([m.rows("SELECT id FROM system.t_s0") for m in machines], [[["2"]]] * 3)
        self.fails(a, "INSERT INTO system.t_s0 (id) VALUES (3)", "use 'c:system.t_s0'")
        self.fails(a, "DROP TABLE IF EXISTS system.t_s0", "unable to drop a cluster table")
        self.fails(a, "ALTER CLUSTER x ADD system.t_s0", "is already part of cluster")
        self.fails(a, "ALTER CLUSTER c ADD system.nothing", "unknown or wrong type of table")
        self.fails(a, "ALTER CLUSTER x DROP system.t_s0", "is not in cluster")
        self.fails(a, "ALTER TABLE system.t_s0 ADD COLUMN x int", "not supported")
        b.q("ALTER CLUSTER c DROP system.t_s0")
        self.assertEqual(c.status("c", "indexes"), "")
        self.assertEqual([m.count("system.t_s0") for m in machines], [1, 1, 1])
        b.q("DELETE CLUSTER c")
        self.assertEqual([m.status("c", "status") for m in machines], [None] * 3)
        self.fails(a, "DELETE CLUSTER c", "unknown cluster")

    def test_add_replaces_other_copies(self):
        machines = self.nodes(2)
        self.pair(machines)
        a, b = machines
        self.shard(a)
        self.shard(b)
        b.q("INSERT INTO system.t_s0 (id, name) VALUES (5, 'b')")
        a.q("ALTER CLUSTER c ADD system.t_s0")
        self.assertEqual(b.count("system.t_s0"), 0)

    def test_exit_is_the_inverse_of_join(self):  # defect 6
        machines = self.nodes(2)
        self.pair(machines)
        a, b = machines
        b.q("EXIT CLUSTER c")
        self.assertEqual(b.status("c", "status"), None)
        self.assertEqual([a.status("c", "status"), a.status("c", "size"), view(a, "c")],
                         ["primary", "1", [a.binary]])
        b.q("JOIN CLUSTER c AT '%s' 'c' as path" % a.binary)
        b.q("DELETE CLUSTER c")
        self.assertEqual(a.status("c", "status"), None)
        self.fails(a, "DELETE CLUSTER c", "unknown cluster")

    def test_two_lose_one_and_bootstrap(self):  # defect 17
        machines = self.nodes(2)
        self.pair(machines)
        a, b = machines
        self.shard(a)
        a.q("ALTER CLUSTER c ADD system.t_s0")
        b.kill()
        self.until(lambda: a.status("c", "status") == "non-primary", "non-primary")
        self.assertEqual(view(a, "c"), sorted([a.binary, b.binary]))
        self.assertEqual(a.status("c", "size"), "1")
        self.fails(a, "INSERT INTO c:system.t_s0 (id) VALUES (1)", "cluster 'c' is not ready, ")
        self.fails(a, "EXIT CLUSTER c", "is not ready")
        a.q("SET CLUSTER c GLOBAL 'pc.bootstrap' = 1")
        self.assertEqual(a.status("c", "status"), "primary")
        a.q("INSERT INTO c:system.t_s0 (id) VALUES (1)")
        b.start()
        self.until(lambda: b.status("c", "status") == "primary", "back")
        self.assertEqual(b.count("system.t_s0"), 1)

    def test_three_lose_one_and_it_returns(self):
        machines = self.nodes(3)
        self.pair(machines)
        a, b, c = machines
        self.shard(a)
        a.q("ALTER CLUSTER c ADD system.t_s0")
        c.kill()
        self.until(lambda: b.status("c", "size") == "2", "the view shrinks")
        a.q("INSERT INTO c:system.t_s0 (id) VALUES (1)")
        self.assertIn(c.binary, a.status("c", "nodes_set"))
        c.start()
        self.until(lambda: c.status("c", "node_state") == "synced", "back")
        self.assertEqual(c.count("system.t_s0"), 1)
        a.q("ALTER CLUSTER c UPDATE nodes")

    def test_a_change_that_the_dead_one_had_begun_reaches_all(self):
        a, b, c = sorted(self.nodes(3), key=lambda m: m.binary)
        self.pair([a, b, c])
        self.shard(a)
        a.q("ALTER CLUSTER c ADD system.t_s0")
        row = {"do": "insert", "table": "system.t_s0", "cluster": None, "names": ["id", "name"],
               "rows": [[1, "half"]], "is_replace": False}
        ask_peer(b.binary, {"op": "apply", "name": "c", "by": a.binary, "seqno": 100,
                            "view": [a.binary, b.binary, c.binary],
                            "body": {"kind": "write", "statement": row, "id": "the first one died here"}})
        self.assertEqual([m.count("system.t_s0") for m in (b, c)], [1, 0])
        a.kill()
        self.until(lambda: len(view(c, "c")) == 2, "the dead one is out")
        c.q("INSERT INTO c:system.t_s0 (id, name) VALUES (2, 'b')")
        self.assertEqual([m.count("system.t_s0") for m in (b, c)], [2, 2])

    def test_non_primary_heals_when_the_peer_returns(self):
        machines = self.nodes(2)
        self.pair(machines)
        a, b = machines
        b.kill()
        self.until(lambda: a.status("c", "status") == "non-primary", "non-primary")
        b.start()
        self.until(lambda: a.status("c", "status") == "primary" and
                   b.status("c", "status") == "primary", "primary again")

    def test_clean_stop_leaves_the_rest_primary(self):
        machines = self.nodes(2)
        self.pair(machines)
        machines[1].kill(signal.SIGTERM)
        self.until(lambda: machines[0].status("c", "size") == "1", "one is left")
        self.assertEqual(machines[0].status("c", "status"), "primary")

    def test_returning_node_of_a_deleted_cluster(self):
        machines = self.nodes(3)
        self.pair(machines)
        a, _, c = machines
        self.shard(a)
        a.q("ALTER CLUSTER c ADD system.t_s0")
        c.kill()
        self.until(lambda: a.status("c", "size") == "2", "the view shrinks")
        a.q("DELETE CLUSTER c")
        c.start()
        self.until(lambda: c.status("c", "status") == "recovery-required", "recovery-required")
        self.fails(c, "DROP TABLE system.t_s0", "unable to drop a cluster table")
        self.fails(c, "EXIT CLUSTER c", "is not ready")
        self.fails(c, "ALTER CLUSTER c DROP system.t_s0", "is not ready")
        c.q("DELETE CLUSTER c")
        c.q("DROP TABLE system.t_s0")


class Losses(Case):
    """The reference's own order of commands loses acknowledged rows: so it does here."""

    def test_move_of_one_copy(self):  # defects 1 and 4
        s, d = self.nodes(2)
        self.shard(s)
        s.q("INSERT INTO system.t_s0 (id, name) VALUES (1, 'a')")
        self.wrapper(s, [s.binary + ":system.t_s0"])
        self.wrapper(d, [s.binary + ":system.t_s0"])
        self.shard(d)
        self.pair([s], "x")
        s.q("ALTER CLUSTER x ADD system.t_s0")
        d.path("x")
        d.q("JOIN CLUSTER x AT '%s' 'x' as path" % s.binary)
        s.q("INSERT INTO t (id, name) VALUES (2, 'while in the cluster')")
        self.assertEqual(d.count("system.t_s0"), 2)
        s.q("ALTER CLUSTER x DROP system.t_s0")
        s.q("INSERT INTO t (id, name) VALUES (3, 'acknowledged')")
        s.q("DROP TABLE system.t_s0")
        self.assertEqual(d.q("SELECT count(*) FROM t").warnings, 1)  # rows are silently missing
        s.q("DELETE CLUSTER x")
        self.assertEqual(d.rows("SELECT id FROM system.t_s0 ORDER BY id ASC"), [["1"], ["2"]])

    def test_detach_and_attach(self):  # defect 2
        machines = self.nodes(2)
        self.pair(machines)
        a, b = machines
        self.shard(a)
        a.q("ALTER CLUSTER c ADD system.t_s0")
        self.wrapper(a, ["%s:system.t_s0|%s:system.t_s0" % (a.binary, b.binary)])
        a.q("ALTER CLUSTER c DROP system.t_s0")
        for i in range(1, 7):
            a.q("INSERT INTO t (id, name) VALUES (%d, 'acknowledged')" % i)
        a.q("ALTER CLUSTER c ADD system.t_s0")
        self.assertLess(b.count("system.t_s0"), 6)
        self.assertEqual(a.count("system.t_s0"), b.count("system.t_s0"))


class Trouble(Case):
    def test_hooks(self):
        a, = self.nodes(1)
        self.shard(a)
        ask_peer(a.binary, {"op": "hook", "text": "fail:1:^INSERT"})
        self.fails(a, "INSERT INTO system.t_s0 (id) VALUES (1)", "on demand")
        a.q("INSERT INTO system.t_s0 (id) VALUES (1)")
        ask_peer(a.binary, {"op": "hook", "text": "drop_before:2:^INSERT"})
        a.q("INSERT INTO system.t_s0 (id) VALUES (2)")
        self.assertRaises((Gone, OSError), a.q, "INSERT INTO system.t_s0 (id) VALUES (3)")
        ask_peer(a.binary, {"op": "hook", "text": "drop_after:1:^INSERT"})
        self.assertRaises((Gone, OSError), a.q, "INSERT INTO system.t_s0 (id) VALUES (4)")
        self.assertEqual(a.rows("SELECT id FROM system.t_s0 ORDER BY id ASC"), [["1"], ["2"], ["4"]])
        ask_peer(a.binary, {"op": "hook", "text": "exit_after:1:^INSERT"})
        self.assertRaises((Gone, OSError), a.q, "INSERT INTO system.t_s0 (id) VALUES (5)")
        a.kill()
        a.start()
        self.assertEqual(a.count("system.t_s0"), 4)
        self.assertTrue(a.conn.ping())


if __name__ == "__main__":
    unittest.main()
