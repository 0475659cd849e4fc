#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A stand-in for a Manticore node, for tests: speaks the MySQL protocol on one port and to its peers
on another ("binary") port, and keeps tables and clusters as src/store/manticore/README.md describes.

    manticore_standin.py --sql 127.0.0.1:9306 --binary 127.0.0.1:9312 --data-dir DIR [--no-sync]

Trouble on demand: environment MANTICORE_STANDIN_HOOKS or a message {"op":"hook",...} to the binary
port: ACTION:N[:REGEX] with ACTION fail, fail_always, drop_before, drop_after, exit_before, exit_after or
delay=MS; it acts once, on the N-th statement from now that matches, fail_always on all from there on.
{"op":"log"} tells the statements that meant to change tables or clusters."""
import argparse
import os
import re
import signal
import socket
import socketserver
import sys
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
# pylint: disable=wrong-import-position
from manticore_engine import Node
from manticore_wire import (COM_INIT_DB, COM_PING, COM_QUERY, COM_QUIT, Client, Gone, Packets, SqlError,
                            ask_peer, err_packet, greet, ok_packet, read_message, result_packets,
                            write_message)

CHANGE = re.compile(r"(CREATE|DROP|JOIN|ALTER|EXIT|DELETE CLUSTER|SET CLUSTER)\b", re.I)
READ = re.compile(r"(SELECT|SHOW)\b", re.I)
LOG_MAX = 20000


class Hooks:
    def __init__(self, text):
        self.lock = threading.Lock()
        self.waiting = []
        self.counts = {"statements": 0, "reads": 0}
        self.log = []
        for part in filter(None, text.split(";")):
            self.add(part)

    def add(self, text):
        pieces = text.split(":", 2)
        with self.lock:
            self.waiting.append({"action": pieces[0], "left": int(pieces[1]),
                                 "match": re.compile(pieces[2] if len(pieces) > 2 else ".", re.I)})

    def clear(self):
        with self.lock:
            self.waiting = []

    def meet(self, sql):
        """Actions that are due with this statement."""
        due = []
        with self.lock:
            self.counts["statements"] += 1
            self.counts["reads"] += READ.match(sql) is not None
            if CHANGE.match(sql) and len(self.log) < LOG_MAX:
                self.log.append(sql)
            for hook in list(self.waiting):
                if hook["match"].search(sql):
                    hook["left"] -= 1
                    if hook["left"] <= 0:
                        if hook["action"] != "fail_always":
                            self.waiting.remove(hook)
                        due.append(hook["action"].removesuffix("_always"))
        return due

    def count_waiting(self):
        """Hooks that have not acted yet."""
        with self.lock:
            return sum(hook["left"] > 0 for hook in self.waiting)

    def take_log(self, is_cleared):
        with self.lock:
            log = list(self.log)
            if is_cleared:
                self.log.clear()
            return log


class Session(socketserver.BaseRequestHandler):
    """One client of the MySQL protocol."""

    def handle(self):
        node, hooks = self.server.node, self.server.hooks
        self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        packets = Packets(self.request)
        with node.lock:
            number = self.server.next_session
            self.server.next_session += 1
            node.sessions[number] = {"state": "net_idle", "host": "%s:%d" % self.client_address,
                                     "since": time.monotonic(), "last": ""}
        try:
            greet(packets, number)
            while self.serve_one(packets, node, hooks, node.sessions[number]):
                pass
        except (Gone, OSError):
            pass
        finally:
            with node.lock:
                node.sessions.pop(number, None)

    def serve_one(self, packets, node, hooks, session):
        data = packets.read()
        if data[0] == COM_QUIT:
            return False
        if data[0] in (COM_PING, COM_INIT_DB):
            packets.write(ok_packet())
            return True
        if data[0] != COM_QUERY:
            packets.write(err_packet(1064, "42000", "unknown command (code=%d)" % data[0]))
            return True
        sql = data[1:].decode()
        session.update(state="query", since=time.monotonic(), last=sql)
        try:
            return self.answer(packets, node, hooks.meet(sql), sql)
        finally:
            session.update(state="net_idle", since=time.monotonic())

    def answer(self, packets, node, due, sql):
        for action in due:
            if action.startswith("delay="):
                time.sleep(int(action[6:]) / 1000)
        if "exit_before" in due:
            os._exit(9)
        if "drop_before" in due:
            return False
        try:
            if "fail" in due:
                raise SqlError("failure on demand")
            result = node.run(sql)
            reply = [ok_packet(result.affected, result.warnings)] if result.columns is None else \
                result_packets(result.columns, result.rows, result.warnings)
        except SqlError as e:
            reply = [err_packet(e.number, e.state, e.text)]
        except (OSError, Gone) as e:
            reply = [err_packet(1064, "42000", "network error: %s" % e)]
        if "exit_after" in due:
            os._exit(9)
        if "drop_after" in due:
            return False
        packets.write(*reply)
        return True


class Peer(socketserver.BaseRequestHandler):
    """One request of another node, or of a test."""

    def handle(self):
        self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            message = read_message(self.request)
            try:
                answer = self.answer(message)
            except SqlError as e:
                answer = {"error": e.text, "number": e.number, "state": e.state}
            write_message(self.request, answer)
        except (Gone, OSError):
            pass

    def answer(self, m):
        node, hooks = self.server.node, self.server.hooks
        if m["op"] == "hook":
            if m.get("text"):
                hooks.add(m["text"])
            elif not m.get("is_look"):
                hooks.clear()
            return dict(hooks.counts, waiting=hooks.count_waiting())
        if m["op"] == "log":
            return {"log": hooks.take_log(m.get("clear", False))}
        if m["op"] == "statement":
            s = m["statement"]
            return {"affected": node.write(s, True).affected}
        if m["op"] == "rows":
            return {"rows": node.local_rows(m["table"], m["where"])}
        return node.clusters.answer(m)


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 128
    next_session = 1


def serve(address, handler, node, hooks):
    host, port = address.rsplit(":", 1)
    server = Server((host, int(port)), handler)
    server.node, server.hooks = node, hooks
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    return server


def main():
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("--sql", required=True)
    words.add_argument("--binary", required=True)
    words.add_argument("--data-dir", required=True)
    words.add_argument("--no-sync", action="store_true")
    words.add_argument("--watch", type=int, default=0, help="end when this process is gone")
    asked = words.parse_args()
    os.makedirs(asked.data_dir, exist_ok=True)
    node = Node(asked.sql, asked.binary, os.path.abspath(asked.data_dir), not asked.no_sync)
    hooks = Hooks(os.environ.get("MANTICORE_STANDIN_HOOKS", ""))
    serve(asked.binary, Peer, node, hooks)
    serve(asked.sql, Session, node, hooks)
    node.clusters.start()
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    print("ready", flush=True)
    while not stopping.wait(0.5):
        if asked.watch and not os.path.exists("/proc/%d" % asked.watch):
            break
    node.clusters.stop()
    os._exit(0)


def tool():
    """query HOST:PORT SQL; hook HOST:PORT [TEXT]: for shell scripts and C tests."""
    if sys.argv[1] == "hook":
        print(ask_peer(sys.argv[2], {"op": "hook", "text": (sys.argv + [""])[3]}))
        return 0
    client = Client(sys.argv[2])
    try:
        result = client.query(sys.argv[3])
    except SqlError as e:
        print("ERROR %d %s %s" % (e.number, e.state, e.text), file=sys.stderr)
        return 1
    for row in result.rows:
        print("\t".join("NULL" if v is None else v for v in row))
    return 0


if __name__ == "__main__":
    if len(sys.argv) > 2 and sys.argv[1] in ("query", "hook"):
        sys.exit(tool())
    main()
