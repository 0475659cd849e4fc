# SPDX-License-Identifier: Apache-2.0
"""Clusters of a Manticore stand-in: membership with quorum, and changes that all members make in one
order. The lowest live member of the view gives the order; it holds the cluster's turn meanwhile."""
import os
import threading
import time
import uuid

from manticore_wire import Gone, Result, SqlError, ask_peer

MONITOR_S = 0.05
MISSES_MAX = 3
TROUBLE = (OSError, Gone)


def new_cluster(name, path):
    return {"name": name, "path": path, "tables": [], "nodes_set": [], "view": [], "last": [],
            "status": "disconnected", "state": "closed", "seqno": 0, "uuid": str(uuid.uuid4()),
            "conf": 0, "done": [], "misses": {}}


KEPT = ("name", "path", "tables", "nodes_set", "view", "last", "seqno", "uuid")


class Clusters:
    def __init__(self, node):
        self.node = node
        self.all = {}
        self.turns = {}
        self.is_down = False

    # --- disk and counters ------------------------------------------------------------------------

    def saved(self):
        return {n: {k: c[k] for k in KEPT} for n, c in self.all.items()}

    def load(self, saved):
        self.all = {}
        for name, kept in saved.items():
            cluster = new_cluster(name, kept["path"])
            cluster.update(kept)
            cluster["back_to"] = list(kept["view"])
            cluster["view"] = []
            self.all[name] = cluster

    def note(self):
        self.node.note({"c": "clusters", "clusters": self.saved()})

    def start(self):
        """Clusters of one alone come up by themselves; others look for their peers."""
        for c in self.all.values():
            if c["last"] == [self.node.id] and c["view"] == []:
                self.set_view(c, [self.node.id])
        threading.Thread(target=self.monitor, daemon=True).start()

    def counters(self):
        rows = []
        with self.node.lock:
            for name, c in sorted(self.all.items()):
                values = [("name", name), ("state_uuid", c["uuid"]), ("conf_id", c["conf"]),
                          ("status", c["status"]), ("size", len(self.live(c))),
                          ("local_index", c["view"].index(self.node.id)
                           if self.node.id in c["view"] else 0),
                          ("node_state", c["state"]), ("state_seqno", c["seqno"]),
                          ("nodes_set", ",".join(c["nodes_set"])),
                          ("nodes_view", ",".join("%s,%s:replication" % (v, v) for v in c["view"])),
                          ("indexes_count", len(c["tables"])), ("indexes", ",".join(c["tables"])),
                          ("sst_total", 0), ("sst_stage", "-"), ("sst_stage_total", 0),
                          ("sst_tables", 0), ("sst_table", "-"), ("last_committed", c["seqno"])]
                if c["status"] == "recovery-required":
                    values.append(("last_error", "cluster '%s' is not known to its peers" % name))
                if name == sorted(self.all)[0]:
                    rows.append(["cluster_name", name])
                rows += [["cluster_%s_%s" % (name, k), str(v)] for k, v in values if k != "name"]
        return rows

    def live(self, c):
        """The view keeps a dead peer while non-primary; the size counts who answers."""
        if c["status"] == "non-primary":
            return [v for v in c["view"] if v == self.node.id or c["misses"].get(v, 0) == 0]
        return c["view"]

    def of_table(self, table):
        for name, c in self.all.items():
            if table in c["tables"]:
                return name
        return None

    def turn(self, name):
        with self.node.lock:
            return self.turns.setdefault(name, threading.RLock())

    def find(self, name):
        if name not in self.all:
            raise SqlError("unknown cluster '%s'" % name)
        return self.all[name]

    def need_ready(self, name):
        c = self.find(name)
        if c["status"] != "primary" or c["state"] != "synced":
            raise SqlError("cluster '%s' is not ready, current state is '%s', status is '%s'"
                           % (name, c["state"], c["status"]))
        return c

    # --- views ------------------------------------------------------------------------------------

    def set_view(self, c, view):
        """Called where it is known that `view` has the quorum."""
        with self.node.lock:
            c["view"], c["last"] = sorted(view), sorted(view)
            c["status"], c["state"], c["misses"] = "primary", "synced", {}
            c["conf"] += 1
            self.note()

    def lose(self, c, lost):
        """Members that do not answer leave the view; the rest needs more than half."""
        with self.node.lock:
            left = [v for v in c["view"] if v not in lost]
            if c["status"] != "primary" or len(left) == len(c["view"]):
                return
            if 2 * len(left) > len(c["last"]):
                self.set_view(c, left)
            else:
                c["status"], c["state"] = "non-primary", "synced"
                for v in lost:
                    c["misses"][v] = MISSES_MAX
                c["conf"] += 1

    def tell_view(self, c):
        for peer in list(c["view"]):
            if peer != self.node.id:
                self.try_ask(peer, {"op": "view", "name": c["name"], "view": c["view"],
                                    "nodes_set": c["nodes_set"], "seqno": c["seqno"]})

    def try_ask(self, peer, message, timeout=3.0):
        try:
            return ask_peer(peer, message, timeout)
        except TROUBLE:
            return None
        except SqlError as e:
            return {"error": e.text}

    def ping_all(self, c):
        return [v for v in c["view"] if v != self.node.id and
                self.try_ask(v, {"op": "ping", "name": c["name"]}) is None]

    def monitor(self):
        while not self.is_down:
            time.sleep(MONITOR_S)
            for name in list(self.all):
                try:
                    self.watch(name)
                except (SqlError, KeyError):
                    continue

    def watch(self, name):
        c = self.all.get(name)
        if c is None or c["state"] == "joining" or c.get("is_leaving"):
            return
        if c["status"] == "primary":
            lost = []
            for peer in list(c["view"]):
                if peer == self.node.id:
                    continue
                answer = self.try_ask(peer, {"op": "ping", "name": name}, 1.0)
                if answer is None:
                    c["misses"][peer] = c["misses"].get(peer, 0) + 1
                    if c["misses"][peer] >= MISSES_MAX:
                        lost.append(peer)
                else:
                    c["misses"].pop(peer, None)
                    if answer.get("status") == "primary" and self.node.id not in answer["view"]:
                        self.rejoin(name, c, [peer])
                        return
            if lost:
                self.lose(c, lost)
        elif c["status"] == "non-primary":
            self.watch_non_primary(name, c)
        elif c["status"] == "disconnected":
            self.rejoin(name, c, sorted(set(c["nodes_set"] + c["last"]) - {self.node.id}))

    def watch_non_primary(self, name, c):
        for peer in c["last"]:
            if peer == self.node.id:
                continue
            answer = self.try_ask(peer, {"op": "ping", "name": name}, 1.0)
            c["misses"][peer] = c["misses"].get(peer, 0) + 1 if answer is None else 0
            if answer is not None and answer.get("status") == "primary":
                self.rejoin(name, c, [peer])
                return

    def rejoin(self, name, c, peers):
        """Back after a stop: a peer that has the cluster gives its state; one that has it no more
        makes this copy an orphan."""
        is_unknown = False
        for peer in peers:
            answer = self.try_ask(peer, {"op": "join", "name": name, "who": self.node.id,
                                         "is_return": True}, 10.0)
            if answer is not None and "error" not in answer:
                return
            is_unknown = is_unknown or (answer is not None and "unknown cluster" in answer["error"])
        if is_unknown:
            with self.node.lock:
                c["status"], c["state"] = "recovery-required", "closed"

    # --- changes in one order ---------------------------------------------------------------------

    def replicate(self, name, body):
        """Make a change on all members. The id lets a repeated one count once."""
        body = dict(body, id=str(uuid.uuid4()))
        deadline = time.monotonic() + 5
        while True:
            with self.node.lock:
                c = self.need_ready(name)
                first = min(c["view"])
            if first == self.node.id:
                return self.sequence(name, body)
            try:
                return ask_peer(first, {"op": "sequence", "name": name, "body": body}, 10.0)["value"]
            except TROUBLE:
                if time.monotonic() > deadline:
                    raise SqlError("cluster '%s': transaction aborted" % name) from None
                self.lose(c, [first])
            except SqlError as e:
                if "not the first" not in e.text or time.monotonic() > deadline:
                    raise
                time.sleep(0.01)

    def sequence(self, name, body):
        with self.turn(name):
            c = self.need_ready(name)
            if min(c["view"]) != self.node.id:
                raise SqlError("cluster '%s': not the first member" % name)
            lost = self.ping_all(c)
            if lost:
                self.lose(c, lost)
                self.need_ready(name)
            self.pass_tail_on(c)
            for known, value in c["done"]:
                if known == body["id"]:
                    return value
            value = self.apply(name, body, c["seqno"] + 1, list(c["view"]))
            members = [v for v in c["view"] if v != self.node.id]
            c["tail"] = {"body": body, "by": self.node.id}
            message = {"op": "apply", "name": name, "body": body, "seqno": c["seqno"],
                       "view": c["view"], "by": self.node.id}
            answers = {v: self.try_ask(v, message, 10.0) for v in members}
            # One that cannot do what the others did is not as they are: it leaves and comes back.
            lost = [v for v, a in answers.items() if a is None or "error" in a]
            if lost:
                self.lose(c, lost)
            if body["kind"] in ("exit", "delete"):
                self.finish_leave(name, body)
            elif c["status"] != "primary":
                raise SqlError("cluster '%s': transaction aborted" % name)
            return value

    def pass_tail_on(self, c):
        """The member that gave the order before may have died between one member and the next: what
        is the last change here reaches all, or those it does not reach are out."""
        tail = c.get("tail")
        if tail is None or tail["by"] == self.node.id or tail["body"]["kind"] in ("exit", "delete"):
            return
        message = {"op": "apply", "name": c["name"], "body": tail["body"], "seqno": c["seqno"],
                   "view": c["view"], "by": self.node.id}
        answers = {v: self.try_ask(v, message, 10.0) for v in c["view"] if v != self.node.id}
        tail["by"] = self.node.id
        lost = [v for v, a in answers.items() if a is None or "error" in a]
        if lost:
            self.lose(c, lost)
            self.need_ready(c["name"])

    def finish_leave(self, name, body):
        if body["kind"] == "delete" or body["who"] == self.node.id:
            self.forget(name)

    def forget(self, name):
        with self.node.lock:
            self.all.pop(name, None)
            self.note()

    def apply(self, name, body, seqno, view):
        """The same on every member; the first one may still refuse."""
        node = self.node
        with node.lock:
            c = self.find(name)
            kind, value = body["kind"], 0
            if kind == "write":
                value = node.apply_write(body["statement"])
            elif kind == "add":
                for table, content in body["tables"].items():
                    if table in c["tables"]:
                        raise SqlError("table '%s' is already part of cluster '%s'" % (table, name))
                for table, content in body["tables"].items():
                    node.put_table(table, dict(content, rows=dict(content["rows"])))
                    c["tables"].append(table)
            elif kind == "drop":
                for table in body["tables"]:
                    if table not in c["tables"]:
                        raise SqlError("table '%s' is not in cluster '%s'" % (table, name))
                c["tables"] = [t for t in c["tables"] if t not in body["tables"]]
            elif kind == "update":
                c["nodes_set"] = list(view)
            elif kind == "exit":
                view = [v for v in view if v != body["who"]]
                c["nodes_set"] = [v for v in c["nodes_set"] if v != body["who"]]
            c["seqno"] = seqno
            c["done"] = c["done"][-200:] + [[body["id"], value]]
            if kind == "exit":
                if body["who"] != node.id:
                    self.set_view(c, view)
            elif sorted(view) != c["view"]:
                self.set_view(c, view)
            if kind != "write":
                self.note()
            return value

    # --- statements -------------------------------------------------------------------------------

    def do(self, s):
        getattr(self, "do_" + s["do"].split("_")[0])(s)
        return Result()

    def check_path(self, path, name):
        folder = os.path.join(self.node.data_dir, path or "")
        if not os.path.isdir(folder):
            raise SqlError("cannot access directory %s, No such file or directory" % folder)
        for other in self.all.values():
            if (other["path"] or "") == (path or "") and other["name"] != name:
                raise SqlError("duplicate cluster path '%s' of cluster '%s'"
                               % (path or "", other["name"]))

    def do_create(self, s):
        with self.node.lock:
            if s["name"] in self.all:
                raise SqlError("cluster '%s' already exists" % s["name"])
            self.check_path(s["path"], s["name"])
            c = new_cluster(s["name"], s["path"])
            self.all[s["name"]] = c
            self.set_view(c, [self.node.id])

    def do_join(self, s):
        name = s["name"]
        with self.node.lock:
            if name in self.all:
                raise SqlError("cluster '%s' already exists" % name)
            self.check_path(s["path"], name)
            c = new_cluster(name, s["path"])
            c["state"] = "joining"
            self.all[name] = c
        at = [a for a in (s.get("at") or s.get("nodes") or "").split(",") if a]
        trouble = None
        for address in at:
            try:
                ask_peer(address, {"op": "join", "name": name, "who": self.node.id,
                                   "is_return": False}, 30.0)
                return
            except TROUBLE as e:
                trouble = str(e)
            except SqlError as e:
                trouble = e.text
        with self.node.lock:
            self.all.pop(name, None)
        raise SqlError("cluster '%s', failed to fetch donor user from any node, last error: %s"
                       % (name, trouble))

    def do_alter(self, s):
        if s["what"] == "update":
            self.replicate(s["name"], {"kind": "update"})
            return
        if s["what"] == "drop":
            with self.node.lock:
                for table in s["tables"]:
                    c = self.all.get(s["name"])
                    if c is None or table not in c["tables"]:
                        raise SqlError("table '%s' is not in cluster '%s'" % (table, s["name"]))
            self.replicate(s["name"], {"kind": "drop", "tables": s["tables"]})
            return
        self.add_tables(s)

    def add_tables(self, s):
        node = self.node
        with node.lock:
            for table in s["tables"]:
                other = self.of_table(table)
                if other is not None:
                    raise SqlError("table '%s' is already part of cluster '%s'" % (table, other))
                if table not in node.tables or node.tables[table]["type"] != "rt":
                    raise SqlError("unknown or wrong type of table '%s'" % table)
            self.need_ready(s["name"])
            for table in s["tables"]:
                node.wait_not_busy(table)
            node.busy.update(s["tables"])
            contents = {t: dict(node.tables[t], rows=dict(node.tables[t]["rows"]))
                        for t in s["tables"]}
        try:
            self.replicate(s["name"], {"kind": "add", "tables": contents})
        finally:
            with node.lock:
                node.busy.difference_update(s["tables"])
                node.freed.notify_all()

    def do_exit(self, s):
        with self.node.lock:
            c = self.need_ready(s["name"])
            c["is_leaving"] = True
        try:
            self.replicate(s["name"], {"kind": "exit", "who": self.node.id})
        except SqlError:
            c["is_leaving"] = False
            raise
        self.forget(s["name"])

    def do_delete(self, s):
        name = s["name"]
        with self.node.lock:
            c = self.find(name)
            peers = sorted(set(c["view"] + c["nodes_set"]) - {self.node.id})
        if c["status"] == "primary":
            self.replicate(name, {"kind": "delete"})
        elif c["status"] != "recovery-required":
            for peer in peers:
                self.try_ask(peer, {"op": "forget", "name": name, "uuid": c["uuid"]})
        self.forget(name)

    def do_set(self, s):
        with self.node.lock:
            c = self.find(s["name"])
            if s["key"] != "pc.bootstrap" or s["value"] != 1:
                raise SqlError("unknown option '%s'" % s["key"])
            if c["status"] in ("recovery-required",):
                raise SqlError("cluster '%s' is not ready, current state is 'closed'" % s["name"])
            if c["status"] == "primary":
                return
            alive = [v for v in c["view"] if v == self.node.id]
        self.set_view(c, alive or [self.node.id])

    # --- what peers ask ---------------------------------------------------------------------------

    def answer(self, m):
        return getattr(self, "peer_" + m["op"])(m)

    def peer_ping(self, m):
        with self.node.lock:
            c = self.find(m["name"])
            return {"status": c["status"], "view": c["view"], "seqno": c["seqno"]}

    def peer_sequence(self, m):
        return {"value": self.sequence(m["name"], m["body"])}

    def peer_apply(self, m):
        with self.node.lock:
            c = self.find(m["name"])
            if not any(known == m["body"]["id"] for known, _ in c["done"]):
                self.apply(m["name"], m["body"], m["seqno"], m["view"])
            c["tail"] = {"body": m["body"], "by": m["by"]}
        if m["body"]["kind"] == "delete":
            self.forget(m["name"])
        return {}

    def peer_view(self, m):
        with self.node.lock:
            c = self.find(m["name"])
            c["nodes_set"], c["seqno"] = m["nodes_set"], m["seqno"]
            self.set_view(c, m["view"])
        return {}

    def peer_forget(self, m):
        c = self.find(m["name"])
        if c["uuid"] == m["uuid"]:
            self.forget(m["name"])
        return {}

    def peer_leave(self, m):
        """A clean stop: the rest stays primary however few they are."""
        with self.turn(m["name"]):
            c = self.find(m["name"])
            if c["status"] == "primary":
                self.set_view(c, [v for v in c["view"] if v != m["who"]])
                self.tell_view(c)
        return {}

    def peer_join(self, m):
        name, who = m["name"], m["who"]
        c = self.find(name)
        if c["status"] == "non-primary" and m["is_return"] and who in c["last"]:
            back = [v for v in c["last"] if v != who and (
                v == self.node.id or self.try_ask(v, {"op": "ping", "name": name}) is not None)]
            if 2 * (len(back) + 1) > len(c["last"]):
                self.set_view(c, back)
                self.tell_view(c)
        self.need_ready(name)
        first = min(v for v in c["view"] if v != who) if c["view"] != [who] else who
        if first != self.node.id:
            return ask_peer(first, m, 30.0)
        with self.turn(name):
            self.need_ready(name)
            self.pass_tail_on(c)
            return self.donate(c, name, who)

    def donate(self, c, name, who):
        with self.node.lock:
            view = sorted(set(c["view"]) | {who})
            known = sorted(set(c["nodes_set"]) | set(view), key=(c["nodes_set"] + view).index)
            tables = {t: self.node.tables[t] for t in c["tables"]}
            message = {"op": "install", "name": name, "view": view, "nodes_set": known,
                       "tables": tables, "seqno": c["seqno"], "uuid": c["uuid"]}
        try:
            ask_peer(who, message, 30.0)
        except TROUBLE as e:
            raise SqlError("cluster '%s': donor failed to send the state: %s" % (name, e)) from None
        with self.node.lock:
            c["nodes_set"] = known
            self.set_view(c, view)
        self.tell_view(c)
        return {}

    def peer_install(self, m):
        with self.node.lock:
            c = self.find(m["name"])
            for table, content in m["tables"].items():
                other = self.of_table(table)
                if other not in (None, m["name"]):
                    raise SqlError("table '%s' is already part of cluster '%s'" % (table, other))
            for table, content in m["tables"].items():
                self.node.put_table(table, content)
            c["tables"], c["nodes_set"] = list(m["tables"]), m["nodes_set"]
            c["seqno"], c["uuid"] = m["seqno"], m["uuid"]
            self.set_view(c, m["view"])
        return {}

    def stop(self):
        self.is_down = True
        for name, c in list(self.all.items()):
            if c["status"] == "primary":
                for peer in c["view"]:
                    if peer != self.node.id and self.try_ask(
                            peer, {"op": "leave", "name": name, "who": self.node.id}) is not None:
                        break
