# SPDX-License-Identifier: Apache-2.0
"""What one shard of the MongoDB stand-in holds of one collection: records and their indexes.

A record's bytes are kept as they came. A record that moves to another shard or becomes an orphan
keeps the number of the metadata change that took it away in `gone`, so that a cursor opened before
still gives it (as real shards do for queries that began before a move). Index lists are replaced
and never changed in place, as a cursor may hold them; erased records stay until many have gathered.
"""
import bisect

from mongo_bson import MISSING, NULL_KEY, Raw, decode, ejson, encode, hash_of, key_of
from mongo_query import Backwards, Failure, compile_filter, index_values, plain_path

ERASED = -1


class Rec:
    __slots__ = ("raw", "id", "skey", "seq", "gone")

    def __init__(self, raw, id_key, shard_key, seq):
        self.raw, self.id, self.skey, self.seq = raw, id_key, shard_key, seq
        self.gone = 0


def part_key(value, kind):
    """The key an index holds for one value."""
    if kind == "hashed":
        return 10, (1, hash_of(value))
    key = NULL_KEY if value is MISSING else key_of(value)
    return Backwards(key) if isinstance(kind, (int, float)) and kind < 0 else key


def shard_key_of(doc, pattern):
    return tuple(part_key(plain_path(doc, path), kind) for path, kind in pattern.items())


def bound_key(bound, pattern):
    """min/max of find, or a chunk's bound, as the tuple that compares with index keys. A hashed
    part is given as its hash already."""
    out = []
    for (path, kind), value in zip(pattern.items(), bound.values()):
        key = key_of(value)
        out.append(Backwards(key) if isinstance(kind, (int, float)) and kind < 0 else key)
    return tuple(out)


class Index:
    """Sorted (key, number, record) with what was added since in `fresh`."""

    def __init__(self, spec):
        self.spec = spec
        self.name = spec["name"]
        self.pattern = spec["key"]
        self.is_multikey = False
        self.is_unique = bool(spec.get("unique"))
        self.is_sparse = bool(spec.get("sparse"))
        self.rows, self.fresh, self.dead = [], [], 0
        self.used = {}
        self.partial = None
        if "partialFilterExpression" in spec:
            self.partial = compile_filter(spec["partialFilterExpression"])

    def keys(self, doc):
        """Every key of this index for the document."""
        out = [()]
        for path, kind in self.pattern.items():
            if not isinstance(kind, (int, float)) and kind != "hashed":
                kind = 1  # text, 2d and their like are kept as if they were plain
            values, is_many = index_values(doc, path)
            if is_many and kind == "hashed":
                raise Failure(16766, "Location16766", "hashed indexes do not support array values")
            self.is_multikey |= is_many
            parts = [part_key(v, kind) for v in values]
            out = [head + (part,) for head in out for part in parts]
        return list(dict.fromkeys(out)) if len(out) > 1 else out

    def holds(self, doc):
        if self.is_sparse and all(index_values(doc, p)[0] == [MISSING] for p in self.pattern):
            return False
        return self.partial is None or self.partial(doc)

    def add(self, rec, doc, number):
        if self.partial is not None or self.is_sparse:
            if not self.holds(doc):
                return
        for key in self.keys(doc):
            self.fresh.append((key, number, rec))
            if self.is_unique:
                self.used[key] = rec

    def check(self, doc, replaced=None):
        if self.is_unique and self.holds(doc):
            for key in self.keys(doc):
                other = self.used.get(key)
                if other is not None and other.gone != ERASED and other is not replaced:
                    return False
        return True

    def note_erased(self):
        self.dead += 1

    def list(self, can_drop):
        """The rows in order; never changed afterwards."""
        if self.fresh:
            self.fresh.sort(key=lambda row: row[:2])
            if len(self.fresh) * 50 < len(self.rows):
                rows = list(self.rows)
                for row in self.fresh:
                    bisect.insort(rows, row)
            else:
                rows = sorted(self.rows + self.fresh, key=lambda row: row[:2])
            self.rows, self.fresh = rows, []
        if self.dead > 1000 + len(self.rows) // 8:
            self.rows = [row for row in self.rows if can_drop(row[2])]
            self.dead = 0
        return self.rows


def between(rows, low, high):
    """Positions of [low, high) in rows; None is open. Bounds may be shorter than the keys."""
    begin = 0 if low is None else bisect.bisect_left(rows, (low,))
    end = len(rows) if high is None else bisect.bisect_left(rows, (high,))
    return begin, max(begin, end)


class Part:
    """One shard's part of one collection."""

    def __init__(self, pattern=None):
        self.pattern = pattern
        self.recs = {}    # number of order -> record, in natural order
        self.by_id = {}
        self.number = 0
        self.size = 0
        self.orphans = 0
        self.indexes = {}
        self.add_index({"v": 2, "key": {"_id": 1}, "name": "_id_"})

    def add_index(self, spec):
        index = Index(spec)
        self.indexes[index.name] = index
        if index.name == "_id_":
            return index
        for rec in self.recs.values():
            doc = decode(rec.raw)
            if not index.check(doc):
                del self.indexes[index.name]
                raise Failure(11000, "DuplicateKey", "E11000 duplicate key error index: %s"
                              % index.name)
            self.number += 1
            index.add(rec, doc, self.number)
        return index

    def is_here(self, rec):
        return self.recs.get(rec.seq) is rec

    def insert(self, raw, doc=None, ns="", seq=None, replaced=None):
        """Add a document; raises DuplicateKey. seq: takes the place of an updated one."""
        doc = decode(raw) if doc is None else doc
        id_key = key_of(doc["_id"])
        if replaced is None and id_key in self.by_id:
            raise duplicate(ns, "_id_", {"_id": doc["_id"]})
        for index in self.indexes.values():
            if index.is_unique and not index.check(doc, replaced):
                raise duplicate(ns, index.name, {p: plain_path(doc, p) for p in index.pattern})
        if replaced is not None:
            self.erase(replaced)
        self.number += 1
        skey = shard_key_of(doc, self.pattern) if self.pattern else None
        rec = Rec(raw, id_key, skey, self.number if seq is None else seq)
        self.recs[rec.seq] = rec
        self.by_id[id_key] = rec
        self.size += len(raw)
        for index in self.indexes.values():
            if index.name != "_id_":
                index.add(rec, doc, self.number)
            else:
                index.fresh.append(((id_key,), self.number, rec))
        return rec

    def take_out(self, rec, gone):
        if not self.is_here(rec):
            return
        if rec.gone > 0:
            self.orphans -= 1
        rec.gone = gone
        del self.recs[rec.seq]
        if self.by_id.get(rec.id) is rec:
            del self.by_id[rec.id]
        self.size -= len(rec.raw)
        for index in self.indexes.values():
            index.note_erased()
            if index.is_unique:
                for key in index.keys(decode(rec.raw)):
                    if index.used.get(key) is rec:
                        del index.used[key]

    def erase(self, rec):
        self.take_out(rec, ERASED)

    def disown(self, rec, version, keep):
        """The chunk went away: the record becomes an orphan, or goes with it."""
        if keep:
            if rec.gone == 0:
                rec.gone = version
                self.orphans += 1
        else:
            self.take_out(rec, version)

    def set_pattern(self, pattern):
        """The collection becomes sharded by this key."""
        self.pattern = pattern
        for rec in self.recs.values():
            rec.skey = shard_key_of(decode(rec.raw), pattern)

    def rows(self, index):
        return index.list(self.is_here)

    def natural(self):
        return list(self.recs.values())


def duplicate(ns, index, value):
    shown = ", ".join("%s: %s" % (k, ejson(None if v is MISSING else v)) for k, v in value.items())
    pattern = Raw(encode({k: 1 for k in value}))
    values = Raw(encode({k: None if v is MISSING else v for k, v in value.items()}))
    return Failure(11000, "DuplicateKey",
                   "E11000 duplicate key error collection: %s index: %s dup key: { %s }"
                   % (ns, index, shown), keyPattern=pattern, keyValue=values)
