#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Helpers of the Redis tests, with a RESP client of their own (drover's adapter has no hand in them).

  redis_tool.py port                          a free loopback port
  redis_tool.py fill PORT SERVICE [APPS [METRICS [DAYS]]]   statistics as a gateway writes them, from 2019-12-10
  redis_tool.py odd PORT SERVICE              keys that look alike and must survive
  redis_tool.py digest PORT... [--but PATTERN]   SHA-256 of every key, type, value and expiry, sorted
  redis_tool.py count PORT... PATTERN         keys that match
  redis_tool.py proxy LISTEN PORT MODE        pass bytes on; MODE: noscan | cut:N | delay:MS
  redis_tool.py latency PORT SECONDS FILE     GETs once a millisecond; writes p50, p99 and max in ms to FILE
"""
import datetime
import fnmatch
import hashlib
import socket
import sys
import threading
import time

CODES = ["200", "2XX", "403", "404", "4XX", "500", "503", "5XX"]


class Redis:
    def __init__(self, port, timeout=20):
        self.sock = socket.create_connection(("127.0.0.1", port), timeout)
        self.file = self.sock.makefile("rb")

    def send(self, *words):
        out = b"*%d\r\n" % len(words)
        for w in words:
            w = w if isinstance(w, bytes) else str(w).encode()
            out += b"$%d\r\n%s\r\n" % (len(w), w)
        return out

    def reply(self):
        line = self.file.readline()
        if not line:
            raise EOFError("connection closed")
        kind, rest = line[:1], line[1:-2]
        if kind == b"-":
            return RuntimeError(rest.decode())
        if kind == b"+":
            return rest
        if kind == b":":
            return int(rest)
        if kind == b"$":
            n = int(rest)
            return None if n < 0 else self.file.read(n + 2)[:-2]
        n = int(rest)
        return None if n < 0 else [self.reply() for _ in range(n)]

    def call(self, *words):
        self.sock.sendall(self.send(*words))
        return self.reply()

    def many(self, commands):
        """Pipelined; replies in order."""
        out = []
        for at in range(0, len(commands), 1000):
            part = commands[at:at + 1000]
            self.sock.sendall(b"".join(self.send(*c) for c in part))
            out += [self.reply() for _ in part]
        return out

    def keys(self):
        cursor, found = b"0", set()
        while True:
            cursor, page = self.call("SCAN", cursor, "COUNT", 1000)
            found.update(page)
            if cursor == b"0":
                return found


def period_text(t, hour=False):
    """As the gateway prints it: the day, then the time without its trailing zeros."""
    return t.strftime("%Y%m%d") + (t.strftime("%H%M%S").rstrip("0") if hour else "")


def periods(day, with_year):
    """Every period that touches one day."""
    yield "eternity"
    if with_year:
        yield "year:" + day.strftime("%Y0101")
    yield "month:" + day.strftime("%Y%m01")
    yield "week:" + period_text(day - datetime.timedelta(days=day.weekday()))
    yield "day:" + period_text(day)
    for h in range(24):
        yield "hour:" + period_text(day + datetime.timedelta(hours=h), True)


def stats(service, apps, metrics, days):
    """Every statistics key of a service whose counters were written in those days."""
    base = "stats/{service:%s}" % service
    whats = ["metric:m%d" % m for m in range(metrics)] + ["response_code:" + c for c in CODES]
    owners = [("", False)] + [("/cinstance:app%d" % a, True) for a in range(apps)]
    found = set()
    for owner, with_year in owners:
        for what in whats:
            for d in range(days):
                day = datetime.datetime(2019, 12, 10) + datetime.timedelta(days=d)
                for p in periods(day, with_year):
                    found.add("%s%s/%s/%s" % (base, owner, what, p))
    return sorted(found)


def fill(port, service, apps=2, metrics=2, days=3):
    r = Redis(port)
    commands = []
    for n, key in enumerate(stats(service, apps, metrics, days)):
        # Some are zero, some expire (far off), as in a living server.
        commands.append(("SET", key, n % 7) if n % 5 else ("SET", key, n, "EX", 5000000 + n))
    bad = [x for x in r.many(commands) if isinstance(x, RuntimeError)]
    if bad:
        sys.exit("fill: %s" % bad[0])
    print(len(commands))


def odd(port, service):
    """Alike, and none of drover's business."""
    r = Redis(port)
    base = "stats/{service:%s}" % service
    for key in (base + "/cinstances", base + "/cinstances/app1/metric:m0/day:20191210",
                base + "/metric:m0/fortnight:20191210", base + "/metric:m0/day:2019121",
                base + "/metric:m0", base + "/strange:1/metric:m0/day:20191210",
                "stats/{service:}/metric:m0/day:20191210", "stats/metric:m0/day:20191210",
                "other/{service:%s}/metric:m0/day:20191210" % service, "x" + base):
        r.call("SET", key, "keep")
    r.call("RPUSH", base + "/metric:m0/day:20181210", "a", "b")
    r.call("SET", b"binary\x00\xff", b"\x00\r\n\xff")
    print(12)


def digest(ports, but):
    lines = []
    for port in ports:
        r = Redis(port)
        names = sorted(k for k in r.keys() if not but or not fnmatch.fnmatchcase(
            k.decode("latin-1"), but))
        # A set's own order is an accident: its members are compared sorted.
        kinds = r.many([("TYPE", k) for k in names])
        dumps = r.many([("DUMP", k) for k in names])
        for i, kind in enumerate(kinds):
            if kind == b"set":
                dumps[i] = b"\n".join(sorted(r.call("SMEMBERS", names[i])))
        ends = r.many([("PEXPIRETIME", k) for k in names])
        for k, d, e in zip(names, dumps, ends):
            lines.append(b"%s %s %d" % (k, hashlib.sha256(d or b"").digest(), e))
    print(hashlib.sha256(b"\n".join(sorted(lines))).hexdigest(), len(lines))


def count(ports, pattern):
    print(sum(1 for p in ports for k in Redis(p).keys()
              if fnmatch.fnmatchcase(k.decode("latin-1"), pattern)))


class Proxy:
    """Between drover and a server: cuts the connection in the n-th reply, delays, or knows no SCAN."""

    def __init__(self, listen, port, mode):
        self.port, self.mode = port, mode
        self.chunks = 0
        self.lock = threading.Lock()
        self.server = socket.create_server(("127.0.0.1", listen))

    def run(self):
        while True:
            client, _ = self.server.accept()
            real = socket.create_connection(("127.0.0.1", self.port))
            threading.Thread(target=self.forward, args=(client, real), daemon=True).start()
            threading.Thread(target=self.back, args=(real, client), daemon=True).start()

    def forward(self, client, real):
        try:
            while data := client.recv(65536):
                if self.mode == "noscan":
                    # Same length, so that the framing stays right: the server refuses the word.
                    data = data.replace(b"\r\nSCAN\r\n", b"\r\nSCUM\r\n")
                    data = data.replace(b"\r\nSSCAN\r\n", b"\r\nSSCUM\r\n")
                real.sendall(data)
        except OSError:
            pass
        real.close()

    def back(self, real, client):
        try:
            while data := real.recv(65536):
                with self.lock:
                    self.chunks += 1
                    number = self.chunks
                if self.mode.startswith("delay:"):
                    time.sleep(int(self.mode[6:]) / 1000)
                if self.mode.startswith("cut:") and number % int(self.mode[4:]) == 0:
                    client.sendall(data[:len(data) // 2])
                    break
                client.sendall(data)
        except OSError:
            pass
        for s in (client, real):
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass


def latency(port, seconds, file):
    r = Redis(port)
    r.call("SET", "foreground", "1")
    took = []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        begin = time.monotonic()
        r.call("GET", "foreground")
        took.append((time.monotonic() - begin) * 1000)
        time.sleep(0.001)
    took.sort()
    with open(file, "w", encoding="utf-8") as f:
        f.write("%.3f %.3f %.3f\n" % (took[len(took) // 2], took[len(took) * 99 // 100], took[-1]))


def main():
    what, args = sys.argv[1], sys.argv[2:]
    if what == "port":
        port = 65535
        while port > 55000:  # a cluster's own bus takes the port 10,000 higher
            with socket.socket() as s:
                s.bind(("127.0.0.1", 0))
                port = s.getsockname()[1]
        print(port)
    elif what == "fill":
        fill(int(args[0]), args[1], *map(int, args[2:]))
    elif what == "odd":
        odd(int(args[0]), args[1])
    elif what == "digest":
        but = args[args.index("--but") + 1] if "--but" in args else None
        digest([int(a) for a in args if a.isdigit()], but)
    elif what == "count":
        count([int(a) for a in args[:-1]], args[-1])
    elif what == "proxy":
        Proxy(int(args[0]), int(args[1]), args[2]).run()
    elif what == "latency":
        latency(int(args[0]), float(args[1]), args[2])
    else:
        sys.exit(__doc__)


main()
