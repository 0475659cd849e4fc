#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A stand-in for a sharded MongoDB cluster: one router and its shards, in memory, for tests.

  mongo_standin.py [--port 0] [--version 4.0.3] [--shards a,b] [--host 127.0.0.1] [--with-parent]

prints {"port": N, "shard_ports": {"a": N, "b": N}} on one line when ready and serves until killed
(--with-parent: until the process that started it has ended). Standard library only. The router
answers hello with msg "isdbgrid"; a shard's port answers as the primary of a replica set that has
the shard's name, and shows orphans. config.* is read through find on the router.

Real rules that tests must obey: enableSharding before shardCollection (below 6.0); an index for the
key before a collection with documents is sharded (an empty one gets it); admin commands on "admin".
config.locks (to 4.x) always holds the balancer's own lock with state 2, as real clusters do.
config.collections, chunks, shards, databases, migrations, locks and version follow from the
cluster's state. insert there puts documents beside them (say a leftover with dropped: true), delete
takes those away, update on config.collections sets extra fields such as noBalance.
config.settings and all other collections of config are plain ones.

Control: commands on any database of any port, for example with mongo_client.py.
  {standin: 1, fault: {command: NAME or "*", ns?: "db.coll", on?: "router" or a shard, skip?: N,
      times?: N (default 1; 0 is for ever), and what happens:}}
        code: N, codeName?, errmsg?, labels?: [..], applied?: true    an error instead of doing it
                                                      (applied: after doing it)
        close: "before" | "after"         the connection is cut before, or after applying
        delay_ms: N                       waits first
        write_concern_error: true | {..}  applied, and a writeConcernError (true: code 64, wtimeout)
        write_errors: [{index, code}]     these statements fail, the others are applied
      The first fault that fits a command is used. "*" on the router leaves hello alone; "*" on a
      shard does not, so {command: "*", on: "a", close: "before", times: 0} makes it unreachable.
      ns of a command: database.collection; of dataSize, moveChunk, split: what they name; of
      commands without a collection (aggregate: 1, balancerStatus): the database.
  {standin: 1, on: {command: NAME, ns?: "db.coll", nth?: N (1 is the next one), times?: N (default
      1; 0: each from the nth on), when?: "before" | "between" | "after" (or after: true),
      do: COMMAND or [COMMAND, ..]}}
      Runs commands ("$db" in them, default admin; control commands too) just before the n-th such
      command of the router is applied, after that but before the answer, or, for a delete that goes
      to several shards, between the first shard and the next. Commands that a fault keeps from
      being applied are not counted. Errors of such commands are in the counters under event_errors.
  {standin: 1, deny: ["balancerStatus", "find config.locks", ..]}   Unauthorized (13); []: none
  {standin: 1, clear: "faults" | "events" | "deny" | "all"}
  {standin: 1, set: {shard?: NAME (default all), lag_s?, dirty? (0..1), flow_lagged?,
      tickets? (of 128 in use), migrating?: ns or null, draining?: [SHARD], version?: "5.0.9",
      balancer?: {mode?, round?: bool}}}
      migrating shows a move in config.migrations, config.locks and currentOp, until null.
  {standin: 1, moveChunk: ns, find | min | bounds, to, keep_orphans?: true}    -> {moved: N}
  {standin: 1, begin_move: {ns, min | find, to}}       shows as a running move until
  {standin: 1, end_move: ns, keep_orphans?: true, abort?: true}                -> {moved: N}
  {standin: 1, orphan: {ns, shard, documents: [..]}}   documents that the shard does not own
  {standin: 1, clear_orphans: ns}                      the range deleter has run; -> {n}
  {standin: 1, jumbo: {ns, min | find, value?: true}}
  {standin: 1, epoch: ns}                              the collection gets a new lastmodEpoch
  {standin: 1, fill: {ns, from?: 0, count: N, fields?: {NAME: value, ..}}}   quick inserts through
      the router: _id is the number; a value "$n" is the number, {"$mod": M} the number modulo M
  {standin: 1, digest: DB or ns}   -> digest: {ns: {count, orphans, bytes, sha256}}
  {standin: 1, layout: ns}         -> {SHARD: {owned, orphans}, .., chunks: [{min, max, shard}]}
  {standin: 1, raw: ns}            -> {SHARD: [{document, orphan}]}, as stored
  {standin: 1, last: NAME}         -> command: the last one of that name that the router got
  {standin: 1, counters: 1 | "reset"} -> commands: {NODE: {NAME: n}}, shards: {SHARD: {delete,
      find}} (deletes and finds that reached a shard through the router), deletes: {targeted,
      broadcast} (statements on sharded collections), statements: {NAME: n}, faults, events,
      event_errors, replayed (retryable writes answered from memory), connections, cursors (open)
moveChunk, split, mergeChunks, movePrimary, refineCollectionShardKey and reshardCollection work as
on a router; a command that changes the layout is done when it answers.
"""
import argparse
import hashlib
import json
import os
import socket
import struct
import sys
import threading
import time
import traceback

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from mongo_admin import ADMIN_COMMANDS, ADMIN_ONLY, ROUTER_ONLY  # noqa: E402
from mongo_bson import Long, Raw, decode, encode  # noqa: E402
from mongo_cluster import Cluster, new_oid  # noqa: E402
from mongo_commands import DATA_COMMANDS, Node, insert_one  # noqa: E402
from mongo_find import Cursor  # noqa: E402
from mongo_query import Failure, bad_value  # noqa: E402

COMMANDS = {**ADMIN_COMMANDS, **DATA_COMMANDS}
WRITES = {"insert": "documents", "update": "updates", "delete": "deletes"}
FRESH = {"lag_s": 0, "dirty": 0.05, "flow_lagged": False, "tickets": 0}
FULL_NS = {"dataSize", "datasize", "moveChunk", "split", "shardCollection", "mergeChunks"}
MESSAGE_MAX = 48000000


class Cut(Exception):
    """The connection is to be closed without an answer."""


class World:
    def __init__(self, version, shards):
        self.cluster = Cluster(version, shards)
        self.lock = threading.RLock()
        self.cursors, self.cursor_number = {}, 1 << 32
        self.faults, self.events, self.denied = [], [], set()
        self.states = {s: dict(FRESH) for s in shards}
        self.sessions = {}
        self.last = {}
        self.errors_now = {}
        self.nodes = {"router": Node(self, "router"), **{s: Node(self, s) for s in shards}}
        self.connections = 0
        self.reset()

    def reset(self):
        self.count = {"commands": {n: {} for n in self.nodes}, "shards": {}, "statements": {},
                      "deletes": {"targeted": 0, "broadcast": 0}, "faults": 0, "events": 0,
                      "replayed": 0, "event_errors": []}

    # -- what the commands ask for
    def new_cursor(self, ns, source, is_single):
        self.cursor_number += 1
        return Cursor(self.cursor_number, ns, source, is_single)

    def state(self, shard):
        return self.states[shard]

    def planned_errors(self):
        return self.errors_now

    def count_shards(self, name, shards):
        for shard in shards:
            per = self.count["shards"].setdefault(shard, {})
            per[name] = per.get(name, 0) + 1

    def count_kind(self, group, name):
        self.count[group][name] = self.count[group].get(name, 0) + 1

    # -- faults and events
    def fault_for(self, node, name, ns):
        for fault in self.faults:
            if fault["command"] not in ("*", name) or fault.get("ns", ns) != ns:
                continue
            if name in ("hello", "isMaster", "ismaster") and fault["command"] == "*" and \
                    fault.get("on", "router") == "router":
                continue
            if fault.get("on", node.name) != node.name:
                continue
            if fault["skip"] > 0:
                fault["skip"] -= 1
                continue
            if fault["times"] == 1:
                self.faults.remove(fault)
            elif fault["times"] > 1:
                fault["times"] -= 1
            self.count["faults"] += 1
            return fault
        return None

    def arm(self, name, ns):
        """Count the command for the events that wait for it: those that are due now."""
        due = []
        for event in list(self.events):
            if event["command"] != name or event.get("ns", ns) != ns:
                continue
            event["nth"] -= 1
            if event["nth"] > 0:
                continue
            due.append(event)
            if event["times"] == 1:
                self.events.remove(event)
            elif event["times"] > 1:
                event["times"] -= 1
        self.due = due

    def happen(self, name, when):
        for event in [e for e in self.due if e["when"] == when]:
            self.count["events"] += 1
            saved, saved_errors = self.due, self.errors_now
            self.due, self.errors_now = [], {}
            for command in event["do"]:
                command = dict(command)
                db = command.pop("$db", "admin")
                try:
                    reply = self.execute(self.nodes["router"], db, command)
                    if reply.get("writeErrors"):
                        self.count["event_errors"].append(str(reply["writeErrors"]))
                except Failure as failure:
                    self.count["event_errors"].append(failure.message)
            self.due, self.errors_now = saved, saved_errors

    due = ()

    def execute(self, node, db, body):
        name = next(iter(body))
        if name == "standin":
            return CONTROL.run(self, body)
        handler = COMMANDS.get(name)
        if handler is None or (not node.is_router and name in ROUTER_ONLY):
            raise Failure(59, "CommandNotFound", "no such command: '%s'" % name)
        if name in ADMIN_ONLY and db != "admin":
            raise Failure(13, "Unauthorized", "%s may only be run against the admin database."
                          % name)
        return handler(node, db, body)

    def answer(self, node, db, body):
        """The reply to one command; raises Cut."""
        name = next(iter(body), "")
        first = body.get(name)
        if name == "getMore":
            first = body.get("collection")
        ns = "%s.%s" % (db, first) if isinstance(first, str) else db
        if name in FULL_NS:
            ns = first
        if name == "standin":
            with self.lock:
                return self.guarded(node, db, body)
        with self.lock:
            seen = self.count["commands"][node.name]
            seen[name] = seen.get(name, 0) + 1
            if name in WRITES and isinstance(body.get(WRITES[name]), list):
                self.count["statements"][name] = self.count["statements"].get(name, 0) + \
                    len(body[WRITES[name]])
            if node.is_router:
                self.last[name] = body
            fault = self.fault_for(node, name, ns)
            if name in self.denied or "%s %s" % (name, ns) in self.denied:
                return Failure(13, "Unauthorized", "not authorized on %s to execute command { %s }"
                               % (db, name)).reply()
        if fault is None:
            return self.apply(node, db, name, ns, body, {})
        if fault.get("delay_ms"):
            time.sleep(float(fault["delay_ms"]) / 1000)
        if fault.get("close") == "before":
            raise Cut()
        if "code" in fault and not fault.get("applied"):
            return error_of(fault)
        planned = {int(e["index"]): int(e["code"]) for e in fault.get("write_errors", [])}
        reply = self.apply(node, db, name, ns, body, planned)
        if fault.get("close") == "after":
            raise Cut()
        if "code" in fault:
            return error_of(fault)
        if fault.get("write_concern_error"):
            given = fault["write_concern_error"]
            reply = {**reply, "writeConcernError": dict(given) if isinstance(given, dict) else {
                "code": 64, "codeName": "WriteConcernFailed", "errInfo": {"wtimeout": True},
                "errmsg": "waiting for replication timed out"}}
        return reply

    def apply(self, node, db, name, ns, body, planned):
        with self.lock:
            session = None
            if "txnNumber" in body and "lsid" in body:
                session = (node.name, encode(body["lsid"]))
                old = self.sessions.get(session)
                if old and old[0] == int(body["txnNumber"]):
                    self.count["replayed"] += 1
                    return old[1]
                if old and old[0] > int(body["txnNumber"]):
                    return Failure(225, "TransactionTooOld", "a newer txnNumber is known").reply()
            if node.is_router:
                self.arm(name, ns)
                self.happen(name, "before")
            self.errors_now = planned
            reply = self.guarded(node, db, body)
            self.errors_now = {}
            if session is not None and reply.get("ok") == 1.0:
                self.sessions[session] = (int(body["txnNumber"]), reply)
            if node.is_router:
                self.happen(name, "after")
                self.due = ()
            return reply

    def guarded(self, node, db, body):
        try:
            return self.execute(node, db, body)
        except Failure as failure:
            return failure.reply()
        except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
            traceback.print_exc()
            return Failure(8, "UnknownError", "stand-in: %s: %s"
                           % (type(error).__name__, error)).reply()


def error_of(fault):
    code = int(fault["code"])
    return Failure(code, fault.get("codeName", "Planned"), fault.get(
        "errmsg", "planned error %d of the stand-in" % code), fault.get("labels", [])).reply()


class Control:
    """The {standin: 1, ...} commands: one method for each second key."""

    def run(self, world, body):
        name = next((k for k in body if k != "standin"), "")
        method = getattr(self, "do_" + name, None)
        if method is None or name.startswith(("$", "lsid")):
            raise bad_value("stand-in: no control command '%s'" % name)
        out = method(world, body[name], body)
        return {**(out or {}), "ok": 1.0}

    def do_fault(self, world, f, body):
        if "command" not in f:
            raise bad_value("stand-in: a fault needs its command")
        world.faults.append({**f, "skip": int(f.get("skip", 0)), "times": int(f.get("times", 1))})

    def do_on(self, world, e, body):
        actions = e["do"] if isinstance(e["do"], list) else [e["do"]]
        when = e.get("when", "after" if e.get("after") else "before")
        world.events.append({**e, "nth": int(e.get("nth", 1)), "times": int(e.get("times", 1)),
                             "when": when, "do": actions})

    def do_deny(self, world, names, body):
        world.denied = set(names)

    def do_clear(self, world, what, body):
        if what in ("faults", "all"):
            world.faults = []
        if what in ("events", "all"):
            world.events = []
        if what in ("deny", "all"):
            world.denied = set()

    def do_set(self, world, s, body):
        cluster = world.cluster
        shards = [s["shard"]] if "shard" in s else list(world.states)
        for shard in shards:
            world.states[shard].update({k: s[k] for k in FRESH if k in s})
        if "migrating" in s:
            cluster.moves = {ns: m for ns, m in cluster.moves.items() if not m.get("shown")}
            if s["migrating"]:
                self.show_move(cluster, s["migrating"])
        if "draining" in s:
            cluster.draining = set(s["draining"])
        if "balancer" in s:
            cluster.balancer.update(s["balancer"])
        if "version" in s:
            cluster.version_text = s["version"]
            cluster.version = tuple(int(p) for p in s["version"].split("."))
            cluster.wire = cluster.wire_of()

    @staticmethod
    def show_move(cluster, ns):
        coll = cluster.colls.get(ns)
        chunk = coll.chunks[0] if coll and coll.chunks else None
        donor = chunk.shard if chunk else cluster.shards[0]
        to = next((s for s in cluster.shards if s != donor), donor)
        cluster.moves[ns] = {"min": chunk.min if chunk else {}, "max": chunk.max if chunk else {},
                             "from": donor, "to": to, "shown": True}

    def do_moveChunk(self, world, ns, body):
        coll = world.cluster.need_sharded(ns)
        chunk = world.cluster.find_chunk(coll, body)
        moved = world.cluster.move(ns, chunk, body["to"], bool(body.get("keep_orphans")))
        return {"moved": moved}

    def do_begin_move(self, world, m, body):
        coll = world.cluster.need_sharded(m["ns"])
        chunk = world.cluster.find_chunk(coll, m)
        world.cluster.moves[m["ns"]] = {"min": chunk.min, "max": chunk.max, "from": chunk.shard,
                                        "to": m["to"]}

    def do_end_move(self, world, ns, body):
        cluster = world.cluster
        move = cluster.moves.pop(ns, None)
        if move is None:
            raise bad_value("stand-in: no move of %s" % ns)
        cluster.locks_seen[ns] = 0
        if body.get("abort"):
            return {"moved": 0}
        coll = cluster.need_sharded(ns)
        chunk = cluster.find_chunk(coll, {"min": move["min"]})
        return {"moved": cluster.move(ns, chunk, move["to"], bool(body.get("keep_orphans")))}

    def do_orphan(self, world, o, body):
        coll = world.cluster.colls[o["ns"]]
        part = coll.part(o["shard"])
        for doc in o["documents"]:
            rec = part.insert(encode(doc), None, o["ns"])
            part.disown(rec, world.cluster.tick, True)

    def do_clear_orphans(self, world, ns, body):
        n = 0
        for part in world.cluster.colls[ns].parts.values():
            for rec in [r for r in part.recs.values() if r.gone]:
                part.take_out(rec, rec.gone)
                n += 1
        return {"n": n}

    def do_jumbo(self, world, j, body):
        coll = world.cluster.need_sharded(j["ns"])
        world.cluster.find_chunk(coll, j).jumbo = bool(j.get("value", True))

    def do_epoch(self, world, ns, body):
        world.cluster.need_sharded(ns).epoch = new_oid()

    def do_fill(self, world, f, body):
        coll = world.cluster.colls.get(f["ns"]) or world.cluster.make_coll(f["ns"])
        begin, count = int(f.get("from", 0)), int(f["count"])
        for n in range(begin, begin + count):
            doc = {"_id": n}
            for name, value in f.get("fields", {}).items():
                if value == "$n":
                    value = n
                elif isinstance(value, dict) and list(value) == ["$mod"]:
                    value = n % int(value["$mod"])
                doc[name] = value
            insert_one(world.nodes["router"], coll, encode(doc))
        return {"n": count}

    def do_digest(self, world, name, body):
        out = {}
        for ns, coll in sorted(world.cluster.colls.items()):
            if ns != name and ns.split(".", 1)[0] != name:
                continue
            recs = [r for p in coll.parts.values() for r in p.recs.values()]
            owned = sorted(r.raw for r in recs if r.gone == 0)
            out[ns] = {"count": len(owned), "orphans": len(recs) - len(owned),
                       "bytes": Long(sum(map(len, owned))),
                       "sha256": hashlib.sha256(b"".join(owned)).hexdigest()}
        return {"digest": out}

    def do_layout(self, world, ns, body):
        coll = world.cluster.colls[ns]
        out = {s: {"owned": sum(1 for r in p.recs.values() if r.gone == 0),
                   "orphans": sum(1 for r in p.recs.values() if r.gone)}
               for s, p in sorted(coll.parts.items())}
        return {**out, "chunks": [{"min": c.min, "max": c.max, "shard": c.shard}
                                  for c in coll.chunks]}

    def do_raw(self, world, ns, body):
        return {s: [{"document": Raw(r.raw), "orphan": bool(r.gone)} for r in p.recs.values()]
                for s, p in sorted(world.cluster.colls[ns].parts.items())}

    def do_last(self, world, name, body):
        found = world.last.get(name)
        return {"command": dict(found)} if found is not None else {"command": None}

    def do_counters(self, world, what, body):
        if what == "reset":
            world.reset()
        return {**world.count, "connections": world.connections, "cursors": len(world.cursors)}


CONTROL = Control()


# ---- the wire

def read_exact(file, count):
    data = file.read(count)
    if len(data) != count:
        raise EOFError()
    return data


def parse_message(data, flags):
    """OP_MSG's sections: the body with its document sequences as lists of bytes."""
    at, end = 4, len(data) - (4 if flags & 1 else 0)
    body, sequences = None, {}
    while at < end:
        kind, at = data[at], at + 1
        size = struct.unpack_from("<i", data, at)[0]
        section = data[at:at + size]
        if kind == 0:
            body = decode(section)
        elif kind == 1:
            stop = section.index(b"\0", 4)
            docs, place = [], stop + 1
            while place < size:
                length = struct.unpack_from("<i", section, place)[0]
                docs.append(Raw(section[place:place + length]))
                place += length
            sequences[section[4:stop].decode()] = docs
        else:
            raise ValueError("OP_MSG section of kind %d" % kind)
        at += size
    return {**body, **sequences}


def serve_one(world, node, file, sock):
    head = file.read(16)
    if len(head) < 16:
        raise EOFError()
    length, request, _, opcode = struct.unpack("<iiii", head)
    if not 16 <= length <= MESSAGE_MAX:
        raise ValueError("message of %d bytes" % length)
    data = read_exact(file, length - 16)
    if opcode == 2013:
        flags = struct.unpack_from("<I", data)[0]
        body = parse_message(data, flags)
        reply = world.answer(node, body.get("$db", "admin"), strip(body))
        if flags & 2:
            return
        payload = struct.pack("<I", 0) + b"\0" + encode(reply)
        sock.sendall(struct.pack("<iiii", 16 + len(payload), 0, request, 2013) + payload)
    elif opcode == 2004:
        stop = data.index(b"\0", 4)
        query = decode(data[stop + 9:])
        query = query.get("$query") or query.get("query") or query
        db = data[4:stop].decode().split(".", 1)[0]
        reply = encode(world.answer(node, db, dict(query)))
        payload = struct.pack("<iqii", 8, 0, 0, 1) + reply
        sock.sendall(struct.pack("<iiii", 16 + len(payload), 0, request, 1) + payload)
    else:
        raise ValueError("opcode %d" % opcode)


def strip(body):
    body.pop("$db", None)
    return body


def serve(world, node, sock):
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    world.connections += 1
    try:
        file = sock.makefile("rb", 1 << 16)
        while True:
            serve_one(world, node, file, sock)
    except (EOFError, ConnectionError, Cut):
        pass
    except Exception:
        traceback.print_exc()
    finally:
        world.connections -= 1
        try:
            sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        sock.close()


def listen(world, node, host, port):
    server = socket.socket()
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    server.bind((host, port))
    server.listen(128)
    node.port = server.getsockname()[1]

    def accept():
        while True:
            sock, _ = server.accept()
            threading.Thread(target=serve, args=(world, node, sock), daemon=True).start()
    threading.Thread(target=accept, daemon=True).start()


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--version", default="4.0.3")
    parser.add_argument("--shards", default="a,b")
    parser.add_argument("--with-parent", action="store_true")
    options = parser.parse_args()
    world = World(options.version, options.shards.split(","))
    for name, node in world.nodes.items():
        listen(world, node, options.host, options.port if name == "router" else 0)
        if name != "router":
            world.cluster.hosts[name] = "%s:%d" % (options.host, node.port)
    ports = {n: node.port for n, node in world.nodes.items() if n != "router"}
    print(json.dumps({"port": world.nodes["router"].port, "shard_ports": ports}), flush=True)
    parent = os.getppid()
    while not threading.Event().wait(1):
        if options.with_parent and os.getppid() != parent:
            break


if __name__ == "__main__":
    main()
