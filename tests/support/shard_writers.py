# SPDX-License-Identifier: Apache-2.0
"""Writers of a sharded table that follow the documented rule, and remember what was acknowledged.

The rule: ask the map, write to all holders, the first one first; done when all have it. A refusal,
a missing table or a broken connection: ask the map again and repeat the write at the new place."""
import random
import re
import threading
import time
import zlib

from sql_wire import Lost, SqlError

EXPECTED = re.compile(r"shard moved|no such table|doesn't exist|does not exist|deadlock|lock wait|locked|"
                      r"could not obtain lock|lock timeout|current transaction|schema has changed|"
                      r"could not open relation|definition has changed|crashed|read-only|disk I/O error|"
                      r"accepting connections|starting up|shutting down|recovery mode", re.I)
MISSING = re.compile(r"no such table|doesn't exist|does not exist", re.I)
FIRST_PAUSE, LONGEST_PAUSE = 0.002, 0.03


def shard_of(shards, key):
    """CRC-32 of the id's text and the jump consistent hash, as `drover table route` says."""
    key = zlib.crc32(str(key).encode())
    b, j = -1, 0
    while j < shards:
        b = j
        key = (key * 2862933555777941757 + 1) & 0xffffffffffffffff
        j = int((b + 1) * ((1 << 31) / ((key >> 33) + 1)))
    return b


class Map:
    """What `drover table status NAME --json` said last; asked again by whoever was refused."""

    def __init__(self, read):
        self.read = read
        self.lock = threading.Lock()
        self.record, self.read_at = None, 0.0

    def get(self, refused_at=0.0):
        """The map as it was after `refused_at`."""
        with self.lock:
            if self.record is None or self.read_at <= refused_at:
                begin = time.monotonic()
                self.record, self.read_at = self.read(), begin
            return self.record


class Writer(threading.Thread):
    def __init__(self, crowd, number):
        super().__init__(daemon=True)
        self.crowd, self.number = crowd, number
        self.random = random.Random(crowd.seed * 101 + number)
        self.links = {}
        self.values = {}    # id -> acknowledged value; None: acknowledged deletion
        self.pending = None  # (id, value) that could not be finished
        self.written = self.refused = self.lost_rows = 0
        self.longest = 0.0
        self.error = None

    def run(self):
        try:
            serial = 0
            while not self.crowd.ending.is_set():
                self.one(serial)
                serial += 1
                time.sleep(self.crowd.pause)
        except Exception as e:  # pylint: disable=broad-except
            self.error = e
        for link in self.links.values():
            link.close()

    def one(self, serial):
        """Insert, update or delete one row of this writer's own."""
        there = [k for k in self.random.sample(list(self.values), min(8, len(self.values)))
                 if self.values[k] is not None]
        what = self.random.random()
        value = f"w{self.number}-{serial}"
        if not there or what < 0.45:
            new = self.random.randrange(self.crowd.ids) * self.crowd.count + self.number + self.crowd.first
            self.finish("insert", new, value)
        elif what < 0.8:
            self.finish("update", there[0], value)
        else:
            self.finish("delete", there[0], None)

    def finish(self, what, key, value):
        """Repeat until all holders of one map have it."""
        since, refused_at, pause = None, 0.0, FIRST_PAUSE
        self.pending = (key, value)
        while True:
            try:
                self.write(what, key, value, self.crowd.map.get(refused_at))
                break
            except (SqlError, Lost) as e:
                if isinstance(e, SqlError) and not EXPECTED.search(str(e)):
                    raise
                refused_at = time.monotonic()
                since = since or refused_at
                self.refused += 1
                if self.crowd.hurry.is_set():
                    return  # stays pending: nobody was told that it is done
                time.sleep(pause)
                pause = min(pause * 2, LONGEST_PAUSE)
        self.values[key] = value
        self.pending = None
        self.written += 1
        if since is not None:
            self.longest = max(self.longest, time.monotonic() - since)

    def write(self, what, key, value, record):
        shard = record["shards"][shard_of(len(record["shards"]), key)]
        for name in shard["holders"]:
            link = self.link(name)
            try:
                self.write_one(link, what, shard["table"], key, value)
            except Lost:
                self.links.pop(name).close()
                raise

    def write_one(self, link, what, table, key, value):
        if what == "delete":
            link.query(f"DELETE FROM {table} WHERE id = {key}")
        elif what == "update":
            link.query(f"UPDATE {table} SET v = '{value}', n = n + 1 WHERE id = {key}")
            if link.affected != 1:
                self.lost_rows += 1
        elif self.crowd.kind == "mariadb":
            link.query(f"INSERT INTO {table} (id, v) VALUES ({key}, '{value}') ON DUPLICATE KEY UPDATE "
                       f"v = VALUES(v), n = 0")
        else:
            link.query(f"INSERT INTO {table} (id, v) VALUES ({key}, '{value}') ON CONFLICT (id) DO UPDATE "
                       f"SET v = excluded.v, n = 0")

    def link(self, name):
        if name not in self.links:
            self.links[name] = self.crowd.nodes.by_name(name).connect()
        return self.links[name]


class Crowd:
    """Writers at work, from start() to stop()."""

    def __init__(self, nodes, read_map, count=3, seed=1, first=1000000, ids=300, pause=0.001):
        self.nodes, self.kind, self.count, self.seed = nodes, nodes.kind, count, seed
        self.first, self.ids, self.pause = first, ids, pause
        self.map = Map(read_map)
        self.ending, self.hurry = threading.Event(), threading.Event()
        self.writers = [Writer(self, i) for i in range(count)]

    def start(self):
        for w in self.writers:
            w.start()
        return self

    def stop(self, seconds=30):
        """End after the writes at hand; one that cannot be finished in time stays pending."""
        self.ending.set()
        until = time.monotonic() + seconds
        for w in self.writers:
            w.join(max(0.1, until - time.monotonic()))
        self.hurry.set()
        for w in self.writers:
            w.join(20)
        return self

    def acknowledged(self):
        merged = {}
        for w in self.writers:
            merged.update(w.values)
        return merged

    def pending(self):
        return dict(w.pending for w in self.writers if w.pending is not None)

    def total(self, what):
        return sum(getattr(w, what) for w in self.writers)

    def longest(self):
        return max(w.longest for w in self.writers)

    def complaints(self):
        out = [f"writer {w.number}: {type(w.error).__name__}: {w.error}" for w in self.writers if w.error]
        out += [f"writer {w.number} did not end" for w in self.writers if w.is_alive()]
        if self.total("lost_rows"):
            out.append(f"{self.total('lost_rows')} updates did not find an acknowledged row")
        return out


def compare(nodes, record, base, crowd):
    """Complaints: acknowledged rows that are not at every holder, deleted ones that are, holders
    that differ. `base`: rows from before the writers, id -> value."""
    wanted = dict(base)
    loose = crowd.pending() if crowd else {}
    wanted.update(crowd.acknowledged() if crowd else {})
    shards = len(record["shards"])
    split = [{} for _ in range(shards)]
    for key, value in wanted.items():
        if value is not None:
            split[shard_of(shards, key)][key] = value
    out = []
    for i, shard in enumerate(record["shards"]):
        for name in shard["holders"]:
            have = nodes.by_name(name).rows(shard["table"])
            for key in set(have) | set(split[i]):
                if have.get(key) != split[i].get(key) and not (
                        key in loose and have.get(key) in (loose[key], split[i].get(key))):
                    out.append(f"{shard['table']} on {name}: row {key} is {have.get(key)}, "
                               f"acknowledged was {split[i].get(key)}")
    return out


__all__ = ["Crowd", "Map", "MISSING", "compare", "shard_of"]
