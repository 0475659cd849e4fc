#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Storage nodes for tests: DELETE /1.5/{uid}, believed only with a right Hawk signature.

    storage_node.py --nodes N --secret S     prints {"ports": [...]} and serves until stdin ends

The check shares no code with drover: hmac, hashlib, base64 and json of the standard library, from
the master secret up. What a node does is set by POST /__control with JSON, asked by GET
/__control; control needs no signature and is not counted:

    {"data": [1, 2]} or {"data_range": [from, upto]}   which uids have data (answers 404 for others)
    {"slow_ms": 50}                   before each answer
    {"status": 503, "times": 2}       that many answers with this status, data kept; without
                                      "times": always; "status": 0 ends it
    {"apply": true}                   with "status": the data goes nevertheless
    {"retry_after": "1"}              header on every answer that "status" makes
    {"fail": "close_before"|"close_after"|"hang"|"garbage"|"cut"|"flood", "times": 1}
                                      close before or after deleting, never answer, no HTTP, a body
                                      cut short, 8 MB of body; "fail": "" ends it
    {"lying": true}                   says 200 and keeps the data
    {"redirect": "http://..."}        302 there
    {"reset": true}                   all of it back, counters too
"""
import argparse
import base64
import hashlib
import hmac
import json
import re
import socket
import struct
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PREFIX = b"services.mozilla.com/tokenlib/v1/"


def mac(key, data):
    return hmac.new(key, data, hashlib.sha256).digest()


def hkdf(secret, salt, info):
    return mac(mac(salt, secret), info + b"\x01")


def check_hawk(header, method, target, host_header, secret):
    """(payload, None) of a right signature, or (None, why not)."""
    match = re.fullmatch(
        r'Hawk id="([^"\\]+)", ts="(\d+)", nonce="([^"\\]+)", mac="([^"\\]+)"', header or ""
    )
    if not match:
        return None, "no Hawk header"
    token, ts, nonce, given = match.groups()
    raw = base64.urlsafe_b64decode(token)
    payload, signature = raw[:-32], raw[-32:]
    key = hkdf(secret, b"\0" * 32, PREFIX + b"signing")
    if not hmac.compare_digest(mac(key, payload), signature):
        return None, "the token's signature is wrong"
    fields = json.loads(payload)
    if fields["expires"] < time.time():
        return None, "the token is over"
    if abs(int(ts) - time.time()) > 60:
        return None, "the clock is off"
    derived = hkdf(secret, fields["salt"].encode(), PREFIX + b"derive/" + token.encode())
    host, _, port = host_header.rpartition(":")
    lines = ["hawk.1.header", ts, nonce, method, target, host.lower(), port, "", ""]
    text = "\n".join(lines) + "\n"
    want = base64.b64encode(mac(base64.urlsafe_b64encode(derived), text.encode())).decode()
    if not hmac.compare_digest(want, given):
        return None, "the request's mac is wrong"
    return fields, None


class Node:
    def __init__(self, secret):
        self.secret = secret
        self.lock = threading.Lock()
        self.reset()

    def reset(self):
        self.data = set()
        self.mode = {}
        self.times = None
        self.connections = 0
        self.requests = 0
        self.open = 0
        self.open_max = 0
        self.answers = {}
        self.deleted = []
        self.refusals = []
        self.payloads = []
        self.nonces = set()
        self.is_nonce_repeated = False

    def control(self, wish):
        with self.lock:
            if wish.pop("reset", False):
                self.reset()
            if "data" in wish:
                self.data = set(wish.pop("data"))
            if "data_range" in wish:
                self.data |= set(range(*wish.pop("data_range")))
            if "status" in wish or "fail" in wish:
                self.times = wish.pop("times", None)
            self.mode.update(wish)

    def report(self):
        with self.lock:
            return {
                "data": sorted(self.data),
                "connections": self.connections,
                "requests": self.requests,
                "open_max": self.open_max,
                "answers": self.answers,
                "deleted": self.deleted,
                "refusals": self.refusals,
                "payloads": self.payloads[-50:],
                "is_nonce_repeated": self.is_nonce_repeated,
            }

    def take_mode(self):
        """The mode of the next request: counts "times" down."""
        with self.lock:
            mode = dict(self.mode)
            if mode.get("status") or mode.get("fail"):
                if self.times is not None:
                    if self.times == 0:
                        mode.pop("status", None)
                        mode.pop("fail", None)
                    else:
                        self.times -= 1
            return mode

    def erase(self, uid):
        """True when there was something."""
        with self.lock:
            if uid not in self.data:
                return False
            self.data.remove(uid)
            self.deleted.append(uid)
            return True


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def setup(self):
        super().setup()
        self.is_counted = False

    def answer(self, status, text="", headers=()):
        body = text.encode()
        node = self.server.node
        with node.lock:
            node.answers[str(status)] = node.answers.get(str(status), 0) + 1
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def plain(self, value):
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        if self.path == "/__control":
            self.plain(self.server.node.report())
        else:
            self.do_DELETE()

    def do_POST(self):
        length = int(self.headers.get("Content-Length", "0"))
        self.server.node.control(json.loads(self.rfile.read(length)))
        self.plain({})

    def cut(self):
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()

    def fail(self, how, uid):
        node = self.server.node
        self.close_connection = True
        if how == "close_before":
            self.cut()
        elif how == "close_after":
            node.erase(uid)
            self.cut()
        elif how == "hang":
            self.server.ending.wait(30)
        elif how == "garbage":
            self.wfile.write(b"\x00\x01 this is not HTTP \xff\r\n\r\n" * 4)
        elif how == "cut":
            node.erase(uid)
            self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort")
        elif how == "flood":
            self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 8000000\r\n\r\n")
            self.wfile.write(b"x" * 8000000)

    def do_DELETE(self):
        node = self.server.node
        with node.lock:
            node.requests += 1
            node.open += 1
            node.open_max = max(node.open_max, node.open)
            if not self.is_counted:
                self.is_counted = True
                node.connections += 1
        try:
            self.serve_delete(node)
        except OSError:
            self.close_connection = True
        finally:
            with node.lock:
                node.open -= 1

    def refuse(self, why):
        with self.server.node.lock:
            self.server.node.refusals.append(why)
        self.answer(401, why)

    def serve_delete(self, node):
        mode = node.take_mode()
        if mode.get("slow_ms"):
            time.sleep(mode["slow_ms"] / 1000)
        match = re.fullmatch(r"/1\.5/(-?\d+)", self.path)
        if not match:
            return self.answer(404, "no such path")
        uid = int(match.group(1))
        fields, why = check_hawk(
            self.headers.get("Authorization"), self.command, self.path,
            self.headers.get("Host", ""), node.secret,
        )
        if fields is not None and fields["uid"] != uid:
            fields, why = None, "the token is another user's"
        if fields is not None:
            here = "http://" + self.headers["Host"]
            if fields["node"].rstrip("/").lower() != here.lower():
                fields, why = None, "the token is another node's"
        if fields is None:
            return self.refuse(why)
        nonce = self.headers["Authorization"]
        with node.lock:
            node.is_nonce_repeated |= nonce in node.nonces
            node.nonces.add(nonce)
            node.payloads.append(fields)
        if mode.get("fail"):
            return self.fail(mode["fail"], uid)
        if mode.get("redirect"):
            return self.answer(302, "", [("Location", mode["redirect"])])
        if mode.get("status"):
            if mode.get("apply"):
                node.erase(uid)
            after = mode.get("retry_after")
            return self.answer(mode["status"], "told to", [("Retry-After", after)] if after else [])
        if mode.get("lying"):
            return self.answer(200, "{}")
        return self.answer(200, "{}") if node.erase(uid) else self.answer(404, "0")


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request, client_address):
        pass


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--nodes", type=int, default=1)
    parser.add_argument("--secret", required=True)
    options = parser.parse_args()
    ending = threading.Event()
    ports = []
    for _ in range(options.nodes):
        server = Server(("127.0.0.1", 0), Handler)
        server.node = Node(options.secret.encode())
        server.ending = ending
        ports.append(server.server_address[1])
        threading.Thread(target=server.serve_forever, daemon=True).start()
    print(json.dumps({"ports": ports}), flush=True)
    sys.stdin.read()
    ending.set()


if __name__ == "__main__":
    main()
