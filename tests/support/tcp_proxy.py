#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A TCP proxy that loses things on purpose, between a test and a server on loopback.

    tcp_proxy.py PORT [--do WHAT --pattern TEXT --nth N [--times N] [--seconds S]]
        prints {"port": N} and serves until standard input ends.

What happens to the n-th request (counted over all connections) in which the pattern is found:

    cut_before   the request never arrives, the connection breaks
    cut_after    the server does it and answers, but the answer is lost: the connection breaks
    hang         the same, but the connection stays open and silent
    delay        the answer comes late

A "request" is what one read from the client brings; the pattern is a regular expression, without
regard to case.
"""
import argparse
import json
import re
import socket
import sys
import threading
import time

BYTES = 65536
DOINGS = ("cut_before", "cut_after", "hang", "delay")


class Rule:
    def __init__(self, do, pattern, nth=1, times=1, seconds=1.0):
        assert do in DOINGS
        self.do, self.seconds = do, seconds
        self.pattern = re.compile(pattern, re.IGNORECASE | re.DOTALL)
        self.first, self.last = nth, nth + times - 1
        self.seen = self.done = 0


class TcpProxy:
    def __init__(self, target_port):
        self.target = ("127.0.0.1", target_port)
        self.rules = []
        self.connections = 0
        self.lock = threading.Lock()
        self.ending = threading.Event()
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def set(self, *rules):
        with self.lock:
            self.rules = list(rules)

    def close(self):
        self.ending.set()
        self.listener.close()

    def accept(self):
        while not self.ending.is_set():
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(self.target)
            except OSError:
                client.close()
                continue
            for end in (client, server):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.connections += 1
            Link(self, client, server).start()

    def choose(self, data):
        """The rule that strikes this request, or None."""
        with self.lock:
            for rule in self.rules:
                if rule.pattern.search(data):
                    rule.seen += 1
                    if rule.first <= rule.seen <= rule.last:
                        rule.done += 1
                        return rule
        return None


class Link:
    """One connection, a thread for each direction."""

    def __init__(self, proxy, client, server):
        self.proxy, self.client, self.server = proxy, client, server
        self.struck = None  # the rule for the answer that comes next

    def start(self):
        for work in (self.forth, self.back):
            threading.Thread(target=self.guarded, args=(work,), daemon=True).start()

    def guarded(self, work):
        try:
            work()
        except OSError:
            pass
        if self.struck is None or self.struck.do != "hang":
            self.cut()

    def cut(self):
        for end in (self.client, self.server):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def forth(self):
        while data := self.client.recv(BYTES):
            rule = self.proxy.choose(data)
            if rule is not None and rule.do == "cut_before":
                return
            self.struck = rule or self.struck
            self.server.sendall(data)
        self.struck = None  # nobody listens any more

    def back(self):
        while data := self.server.recv(BYTES):
            rule = self.struck
            if rule is not None and rule.do == "cut_after":
                return
            if rule is not None and rule.do == "hang":
                continue
            if rule is not None:
                time.sleep(rule.seconds)
                self.struck = None
            self.client.sendall(data)


def main():
    p = argparse.ArgumentParser()
    p.add_argument("port", type=int)
    p.add_argument("--do", choices=DOINGS)
    p.add_argument("--pattern", default="")
    p.add_argument("--nth", type=int, default=1)
    p.add_argument("--times", type=int, default=1)
    p.add_argument("--seconds", type=float, default=1.0)
    args = p.parse_args()
    proxy = TcpProxy(args.port)
    if args.do:
        proxy.set(Rule(args.do, args.pattern.encode(), args.nth, args.times, args.seconds))
    print(json.dumps({"port": proxy.port}), flush=True)
    sys.stdin.read()
    proxy.close()


if __name__ == "__main__":
    main()
