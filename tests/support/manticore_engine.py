# SPDX-License-Identifier: Apache-2.0
"""What one node of a Manticore stand-in keeps: tables with their journal on disk, and statements on
them. Clusters are in manticore_cluster.py."""
import json
import os
import threading
import time

from manticore_cluster import Clusters
from manticore_sql import (ids_of_where, like_match, parse, parse_agent, route, row_matches,
                           target_number)
from manticore_wire import Gone, Result, SqlError, ask_peer, sync_file

JOURNAL_LINES_MAX = 5000
NUMBERS = ("bigint", "int", "integer", "uint", "timestamp", "bool", "float")


class Disk:
    """A snapshot and a journal of changes behind it: kill -9 loses nothing that was acknowledged."""

    def __init__(self, folder, is_synced=True):
        self.folder, self.is_synced, self.lines = folder, is_synced, 0
        self.snapshot_path = os.path.join(folder, "standin.snapshot")
        self.journal_path = os.path.join(folder, "standin.journal")
        self.journal = None

    def load(self):
        state, changes = {"tables": {}, "clusters": {}}, []
        if os.path.exists(self.snapshot_path):
            with open(self.snapshot_path, encoding="utf-8") as file:
                state = json.load(file)
        if os.path.exists(self.journal_path):
            with open(self.journal_path, encoding="utf-8") as file:
                for line in file:
                    if not line.endswith("\n"):
                        break  # torn by a crash: never acknowledged
                    changes.append(json.loads(line))
        return state, changes

    def save(self, state):
        temporary = self.snapshot_path + ".new"
        with open(temporary, "w", encoding="utf-8") as file:
            json.dump(state, file)
            sync_file(file, self.is_synced)
        if self.journal is not None:
            self.journal.close()
        os.replace(temporary, self.snapshot_path)
        self.journal = open(self.journal_path, "w", encoding="utf-8")
        self.lines = 0

    def note(self, change):
        self.journal.write(json.dumps(change) + "\n")
        sync_file(self.journal, self.is_synced)
        self.lines += 1
        return self.lines >= JOURNAL_LINES_MAX


def new_table(columns, options):
    return {"type": "rt", "columns": columns, "options": options, "rows": {}}


def typed(kind, value, name):
    if kind in ("string", "text", "json"):
        return str(value)
    if kind == "float":
        return float(value)
    if kind in NUMBERS:
        if isinstance(value, str):
            try:
                return int(value)
            except ValueError:
                raise SqlError("column '%s': wrong value '%s'" % (name, value)) from None
        return int(value)
    return value


class Node:
    def __init__(self, sql_address, binary_address, data_dir, is_synced=True):
        self.sql_address, self.id, self.data_dir = sql_address, binary_address, data_dir
        self.lock = threading.RLock()
        self.freed = threading.Condition(self.lock)
        self.tables, self.busy = {}, set()
        self.sessions, self.turn, self.last_id = {}, 0, int(time.time() * 1e6)
        self.disk = Disk(data_dir, is_synced)
        self.clusters = Clusters(self)
        self.load()

    # --- disk -------------------------------------------------------------------------------------

    def load(self):
        state, changes = self.disk.load()
        for name, table in state["tables"].items():
            table["rows"] = {int(k): v for k, v in table["rows"].items()}
            self.tables[name] = table
        self.clusters.load(state["clusters"])
        for change in changes:
            self.replay(change)
        self.disk.save(self.whole())

    def whole(self):
        return {"tables": self.tables, "clusters": self.clusters.saved()}

    def replay(self, change):
        kind = change["c"]
        if kind == "table":
            change["table"]["rows"] = {int(k): v for k, v in change["table"]["rows"].items()}
            self.tables[change["name"]] = change["table"]
        elif kind == "gone":
            self.tables.pop(change["name"], None)
        elif kind == "rows":
            rows = self.tables[change["name"]]["rows"]
            rows.update({int(k): v for k, v in change["put"].items()})
            for key in change["cut"]:
                rows.pop(key, None)
        else:
            self.clusters.load(change["clusters"])

    def note(self, change):
        """Called with the lock held, after the change was made."""
        if self.disk.note(change):
            self.disk.save(self.whole())

    def put_table(self, name, table):
        with self.lock:
            table["rows"] = {int(k): v for k, v in table["rows"].items()}
            self.tables[name] = table
            self.note({"c": "table", "name": name, "table": table})

    def change_rows(self, name, put, cut):
        rows = self.tables[name]["rows"]
        rows.update(put)
        for key in cut:
            rows.pop(key, None)
        self.note({"c": "rows", "name": name, "put": put, "cut": cut})

    # --- statements -------------------------------------------------------------------------------

    def run(self, sql, from_peer=False):
        s = parse(sql)
        return self.do(s, from_peer)

    def do(self, s, from_peer=False):
        verb = s["do"]
        if verb.endswith("_cluster"):
            return self.clusters.do(s)
        return getattr(self, "do_" + verb)(s, from_peer) if verb in (
            "insert", "update", "delete", "select") else getattr(self, "do_" + verb)(s)

    def do_nothing(self, s):
        return Result()

    def do_show_warnings(self, s):
        return Result(["Level", "Code", "Message"], [])

    def do_alter_table(self, s):
        table = self.find(s["table"])
        if self.clusters.of_table(s["table"]) is not None:
            raise SqlError("ALTER TABLE is not supported for a table in a cluster '%s'" % s["table"])
        raise SqlError("ALTER TABLE of '%s' (%s) is not supported" % (s["table"], table["type"]))

    def find(self, name):
        if name not in self.tables:
            raise SqlError("unknown local table(s) '%s' in search request" % name)
        return self.tables[name]

    def do_create_table(self, s):
        name = s["table"]
        with self.lock:
            if name in self.tables:
                if s["if_not_exists"]:
                    return Result()
                raise SqlError("CREATE TABLE failed: table '%s' already exists" % name)
            if s["type"] == "rt":
                table = new_table(s["columns"], s["options"])
            elif s["type"] in ("shard", "distributed"):
                names = list(s["locals"]) + [parse_agent(a)["name"] for a in s["agents"]]
                numbers = [target_number(n) for n in names] if s["type"] == "shard" else []
                if len(set(numbers)) != len(numbers):
                    raise SqlError("CREATE TABLE failed: duplicate shard number in table '%s'" % name)
                if not names:
                    raise SqlError("CREATE TABLE failed: table '%s' has no shards" % name)
                table = {"type": s["type"], "columns": s["columns"], "options": s["options"],
                         "rows": {}, "locals": s["locals"], "agents": s["agents"]}
            else:
                raise SqlError("CREATE TABLE failed: unknown type '%s'" % s["type"])
            self.put_table(name, table)
        return Result()

    def do_drop_table(self, s):
        name = s["table"]
        with self.lock:
            if name not in self.tables:
                if s["if_exists"]:
                    return Result()
                raise SqlError("DROP TABLE failed: unknown local table '%s'" % name)
            table = self.tables[name]
            if table["type"] == "shard" and not s["force"]:
                raise SqlError("DROP TABLE failed: '%s' is a sharded table; use OPTION force=1" % name)
            cluster = self.clusters.of_table(name)
            if cluster is not None:
                raise SqlError("DROP TABLE failed: unable to drop a cluster table '%s'" % name)
            del self.tables[name]
            self.note({"c": "gone", "name": name})
        return Result()

    def do_show_tables(self, s):
        rows = []
        for name in sorted(self.tables):
            is_system = name.startswith("system.")
            if is_system == s["system"] and like_match(s["like"], name):
                kind = self.tables[name]["type"]
                rows.append([name, "rt" if kind == "rt" else kind])
        return Result(["Table", "Type"], rows)

    def missing(self, name):
        return SqlError("no such table '%s'" % name, 1146, "42S02")

    def do_desc(self, s):
        with self.lock:
            table = self.tables.get(s["table"])
            if table is None:
                raise self.missing(s["table"])
            if table["type"] == "distributed":
                rows = [[n, "local"] for n in table["locals"]]
                for i, agent in enumerate(table["agents"]):
                    for k, mirror in enumerate(parse_agent(agent)["mirrors"]):
                        rows.append([":".join(mirror), "remote_%d_mirror_%d" % (i + 1, k + 1)])
                return Result(["Agent", "Type"], rows)
            properties = {"text": "indexed stored"}
            return Result(["Field", "Type", "Properties"],
                          [[n, k, properties.get(k, "")] for n, k, _ in table["columns"]])

    def do_show_create(self, s):
        with self.lock:
            table = self.tables.get(s["table"])
            if table is None:
                raise self.missing(s["table"])
            text = "CREATE TABLE %s (\n%s\n)" % (s["table"], ",\n".join(
                " ".join(part for part in column if part) for column in table["columns"]))
            if table["type"] != "rt" and s["force"]:
                parts = ["type='%s'" % table["type"]]
                parts += ["local='%s'" % n for n in table["locals"]]
                parts += ["agent='%s'" % a for a in table["agents"]]
                text += " " + " ".join(parts)
            elif table["type"] == "shard":
                agents = [parse_agent(a) for a in table["agents"]]
                copies = max([len(a["mirrors"]) for a in agents] + [1])
                text += " shards='%d' rf='%d'" % (len(table["locals"]) + len(agents), copies)
            text += "".join(" %s='%s'" % (k, v) for k, v in table["options"])
            return Result(["Table", "Create Table"], [[s["table"], text]])

    def do_show_settings(self, s):
        return Result(["Setting_name", "Value"], [
            ["configuration_file", os.path.join(self.data_dir, "manticore.conf")],
            ["searchd.listen", self.id], ["searchd.listen", self.sql_address + ":mysql"],
            ["searchd.data_dir", self.data_dir]])

    def do_show_status(self, s):
        rows = [["uptime", "1"], ["connections", str(len(self.sessions))]]
        rows += self.clusters.counters()
        return Result(["Counter", "Value"], [r for r in rows if like_match(s["like"], r[0])])

    def do_sessions(self, s):
        with self.lock:
            rows = []
            for number, one in sorted(self.sessions.items()):
                row = [number, "mysql", one["state"], one["host"], number, 0,
                       "%.6f" % (time.monotonic() - one["since"]), one["last"]]
                rows.append(row)
        names = ["id", "proto", "state", "host", "connid", "killed", "last cmd time", "last cmd"]
        rows = [r for r in rows if row_matches(dict(zip(names, r)), s["where"])]
        return Result(names, rows[s["offset"]:s["offset"] + s["limit"]])

    # --- rows -------------------------------------------------------------------------------------

    def wait_not_busy(self, name):
        """A table that ALTER CLUSTER ADD is sending takes no writes meanwhile."""
        deadline = time.monotonic() + 10
        while name in self.busy:
            if not self.freed.wait(max(0.01, deadline - time.monotonic())):
                raise SqlError("table '%s' is locked" % name)

    def write(self, s, from_peer):
        """One change of rows of a real table: through its cluster where it is in one."""
        name, said = s["table"], s.get("cluster")
        with self.lock:
            self.wait_not_busy(name)
            self.find(name)
            cluster = self.clusters.of_table(name)
            if said is not None and cluster != said:
                raise SqlError("table '%s' is not in cluster '%s'" % (name, said))
            if cluster is not None and said is None and not from_peer:
                raise SqlError("table '%s' is in cluster '%s', use '%s:%s'"
                               % (name, cluster, cluster, name))
            if cluster is None:
                return Result(affected=self.apply_write(s))
        return Result(affected=self.clusters.replicate(cluster, {"kind": "write", "statement": s}))

    def apply_write(self, s):
        with self.lock:
            table = self.find(s["table"])
            kinds = {n: k for n, k, _ in table["columns"]}
            kinds.setdefault("id", "bigint")
            if s["do"] == "insert":
                put = self.rows_of_insert(s, table, kinds)
                if not s["is_replace"]:
                    for key in put:
                        if key in table["rows"]:
                            raise SqlError("duplicate id '%d'" % key)
                self.change_rows(s["table"], put, [])
                return len(put)
            hits = [k for k, row in table["rows"].items() if row_matches(row, s["where"])]
            if s["do"] == "delete":
                self.change_rows(s["table"], {}, hits)
                return len(hits)
            put = {}
            for key in hits:
                row = dict(table["rows"][key])
                for name, value in s["set"].items():
                    if name == "id" or name not in kinds:
                        raise SqlError("attribute '%s' not found" % name)
                    row[name] = typed(kinds[name], value, name)
                put[key] = row
            self.change_rows(s["table"], put, [])
            return len(put)

    def rows_of_insert(self, s, table, kinds):
        names = s["names"] or [c[0] for c in table["columns"]]
        put = {}
        for values in s["rows"]:
            if len(values) != len(names):
                raise SqlError("column count does not match value count")
            row = {n: ("" if k in ("string", "text", "json") else 0) for n, k in kinds.items()}
            for name, value in zip(names, values):
                if name not in kinds:
                    raise SqlError("unknown column: '%s'" % name)
                row[name] = typed(kinds[name], value, name)
            put[row["id"]] = row
        return put

    def give_ids(self, s):
        """Ids are made where the statement arrives, so that copies agree and rows are routed."""
        table = self.find(s["table"])
        names = s["names"] or [c[0] for c in table["columns"]]
        if "id" not in names:
            names = ["id"] + names
            s["rows"] = [[0] + row for row in s["rows"]]
        at = names.index("id")
        for row in s["rows"]:
            if row[at] == 0:
                self.last_id += 1
                row[at] = self.last_id
        s["names"] = names
        return at

    def do_insert(self, s, from_peer):
        with self.lock:
            table = self.find(s["table"])
            at = self.give_ids(s)
        if table["type"] == "rt":
            return self.write(s, from_peer)
        targets = self.targets(table)
        parts = {}
        for row in s["rows"]:
            parts.setdefault(route(row[at], len(targets)), []).append(row)
        affected = 0
        for number, rows in sorted(parts.items()):
            affected += self.write_to(targets[number], dict(s, rows=rows, cluster=None))
        return Result(affected=affected)

    def do_update(self, s, from_peer):
        with self.lock:
            table = self.find(s["table"])
        if table["type"] == "rt":
            return self.write(s, from_peer)
        targets = self.targets(table)
        ids = ids_of_where(s["where"])
        numbers = range(len(targets)) if ids is None else sorted(
            {route(i, len(targets)) for i in ids})
        affected = sum(self.write_to(targets[n], dict(s, cluster=None)) for n in numbers)
        return Result(affected=affected)

    do_delete = do_update

    def targets(self, table):
        """Parts of a wrapper in the order of the number behind _s."""
        if table["type"] != "shard":
            raise SqlError("INSERT, UPDATE and DELETE are not supported for a distributed table")
        found = [(target_number(n), {"local": n}) for n in table["locals"]]
        for text in table["agents"]:
            agent = parse_agent(text)
            found.append((target_number(agent["name"]), agent))
        return [t for _, t in sorted(found, key=lambda f: f[0])]

    def mirrors(self, agent):
        """Mirrors in the order of this statement: the balancer goes round."""
        with self.lock:
            self.turn += 1
            at = self.turn % len(agent["mirrors"])
        return agent["mirrors"][at:] + agent["mirrors"][:at]

    def write_to(self, target, s):
        if "local" in target:
            return self.write(dict(s, table=target["local"]), True).affected
        trouble = None
        for address, name in self.mirrors(target):
            message = {"op": "statement", "statement": dict(s, table=name)}
            try:
                if address == self.id:
                    return self.write(message["statement"], True).affected
                return ask_peer(address, message, 10.0)["affected"]
            except ConnectionRefusedError as e:
                trouble = e  # nothing was sent: the next mirror may have it
            except (OSError, Gone) as e:
                raise SqlError("agent %s: network error: %s" % (address, e)) from None
        raise SqlError("agent %s: connection refused (%s)" % (target["text"], trouble))

    # --- reading ----------------------------------------------------------------------------------

    def local_rows(self, name, where):
        with self.lock:
            table = self.find(name)
            return [dict(row) for row in table["rows"].values() if row_matches(row, where)]

    def rows_of(self, target, where):
        """Rows of a wrapper's part, or None (a warning): dead and missing agents are left out."""
        if "local" in target:
            return self.local_rows(target["local"], where)
        for address, name in self.mirrors(target):
            try:
                if address == self.id:
                    return self.local_rows(name, where)
                return ask_peer(address, {"op": "rows", "table": name, "where": where}, 10.0)["rows"]
            except (OSError, Gone, SqlError):
                continue
        return None

    def do_select(self, s, from_peer):
        with self.lock:
            table = self.find(s["table"])
        warnings = 0
        if table["type"] == "rt":
            rows = self.local_rows(s["table"], s["where"])
        else:
            rows = []
            for target in self.targets(table):
                part = self.rows_of(target, s["where"])
                warnings += part is None
                rows += part or []
        columns = [c[0] for c in table["columns"]]
        if "id" not in columns:
            columns.insert(0, "id")
        result = select_rows(s, columns, rows)
        result.warnings = warnings
        return result


def aggregate(item, rows):
    if item == "count(*)":
        return len(rows)
    name, column = item[:-1].split("(")
    values = [row[column] for row in rows if column in row]
    if not values:
        return 0
    return {"sum": sum, "min": min, "max": max}[name](values)


def select_rows(s, columns, rows):
    items = []
    for item in s["items"]:
        items += columns if item == "*" else [item]
    if any("(" in item for item in items):
        return Result(items, [[aggregate(i, rows) if "(" in i else (rows[0].get(i) if rows else None)
                               for i in items]])
    for item in items:
        if item not in columns:
            raise SqlError("table: unknown column: %s" % item)
    name, is_down = s["order"] or ["id", False]
    if name not in columns:
        raise SqlError("table: sort-by attribute '%s' not found" % name)
    if s["limit"] + s["offset"] > 1000:
        s = dict(s, limit=max(0, 1000 - s["offset"]))  # max_matches
    rows.sort(key=lambda r: r[name], reverse=is_down)
    rows = rows[s["offset"]:s["offset"] + s["limit"]]
    return Result(items, [[row.get(i) for i in items] for row in rows])
