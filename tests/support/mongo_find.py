# SPDX-License-Identifier: Apache-2.0
"""How the MongoDB stand-in reads: choosing an index, streams of records, cursors, explain."""
import heapq
import itertools

from mongo_bson import Raw, decode
from mongo_cluster import hash_points
from mongo_data import ERASED, between, bound_key
from mongo_query import (EVERYTHING, Backwards, Failure, Points, bad_value, compile_filter,
                         conjuncts, constraint, project, sort_key)


class Last:
    """Greater than every key."""

    def __lt__(self, other):
        return False

    def __gt__(self, other):
        return True

    def __eq__(self, other):
        return self is other

    __hash__ = object.__hash__


LAST = Last()


def pick_hint(part, hint, ns):
    if hint is None or hint == {} or hint == "":
        return None
    if isinstance(hint, str):
        index = part.indexes.get(hint)
    else:
        if "$natural" in hint:
            return "natural"
        index = next((i for i in part.indexes.values()
                      if list(i.pattern.items()) == list(hint.items())), None)
    if index is None:
        raise bad_value("error processing query: ns=%s planner returned error: bad hint" % ns)
    return index


class Plan:
    """Which rows of one part a query reads. kind: ids, index or scan."""

    def __init__(self, cluster, part, ns, query, command):
        self.part, self.index, self.ids, self.ranges = part, None, None, None
        low, high = command.get("min") or None, command.get("max") or None
        hint = pick_hint(part, command.get("hint"), ns)
        if low or high:
            self.by_bounds(cluster, hint, low, high)
        elif hint == "natural":
            return
        elif hint is not None:
            self.index = hint
            usable = self.is_usable(hint, query)
            self.ranges = self.ranges_of(hint, query) if usable else [(None, None)]
        else:
            self.choose(query)
            if self.index is None and command.get("sort"):
                self.choose_order(command["sort"])

    def by_bounds(self, cluster, hint, low, high):
        fields = list((low or high).keys())
        if hint is None and cluster.version >= (4, 2):
            raise Failure(51173, "Location51173",
                          "When using min()/max() a hint of which index to use must be provided")
        if hint is None:
            hint = next((i for i in self.part.indexes.values() if list(i.pattern) == fields), None)
        if hint is None or hint == "natural" or any(
                b and list(b.keys()) != list(hint.pattern) for b in (low, high)):
            code = (51174, "Location51174") if cluster.version >= (4, 2) else (2, "BadValue")
            raise Failure(code[0], code[1], "The index chosen is not compatible with min/max")
        low = bound_key(low, hint.pattern) if low else None
        high = bound_key(high, hint.pattern) if high else None
        if low is not None and high is not None and not low < high:
            raise Failure(51175, "Location51175", "The value provided for min() does not come "
                          "before the value provided for max()")
        self.index, self.ranges = hint, [(low, high)]

    @staticmethod
    def is_usable(index, query):
        """Plain enough for its first field to narrow the walk."""
        path, kind = next(iter(index.pattern.items()))
        if index.is_sparse or index.partial is not None:
            return False
        if kind == "hashed":
            return hash_points(query, path) is not None
        if kind not in (1, 1.0) or constraint(query, path) is EVERYTHING:
            return False
        # On a multikey index two ranges may be met by two elements, so only one may narrow it.
        return not index.is_multikey or sum(1 for n, _, _ in conjuncts(query) if n == path) == 1

    def choose(self, query):
        found = constraint(query, "_id")
        if isinstance(found, Points):
            self.ids, self.index = found, self.part.indexes["_id_"]
            return
        best = None
        for index in self.part.indexes.values():
            if not self.is_usable(index, query):
                continue
            score = 0
            for path, kind in index.pattern.items():
                if kind != "hashed" and constraint(query, path) is EVERYTHING:
                    break
                score += 1
            if best is None or score > best[0]:
                best = (score, index)
        if best:
            self.index, self.ranges = best[1], self.ranges_of(best[1], query)

    def choose_order(self, order):
        """Nothing narrows the walk: then an index that spares the sort."""
        for index in self.part.indexes.values():
            if index.is_sparse or index.partial is not None or index.is_multikey:
                continue
            if matches_order(order, index.pattern):
                self.index, self.ranges = index, [(None, None)]
                return

    @staticmethod
    def ranges_of(index, query):
        path, kind = next(iter(index.pattern.items()))
        found = hash_points(query, path) if kind == "hashed" else constraint(query, path)
        if isinstance(found, Points):
            return [((k,), (k, LAST)) for k in found]
        return [((found[0],), (found[1], LAST))]

    def order(self):
        """The pattern that the records come sorted by, or None."""
        if self.index is None or self.ids is not None:
            return None
        return self.index.pattern

    def rows(self, backwards=False):
        """(key, record) of what is read, fixed now: later changes of the lists do not show."""
        if self.ids is not None:
            by_id = self.part.by_id
            found = [((k,), by_id[k]) for k in self.ids if k in by_id]
            return reversed(found) if backwards else iter(found)
        if self.index is None:
            found = [((), r) for r in self.part.natural()]
            return reversed(found) if backwards else iter(found)
        rows = self.part.rows(self.index)
        spans = [between(rows, low, high) for low, high in self.ranges]
        return self.walk(rows, spans, backwards, self.index.is_multikey)

    @staticmethod
    def walk(rows, spans, backwards, is_multikey):
        seen = set()
        for begin, end in (reversed(spans) if backwards else spans):
            places = range(end - 1, begin - 1, -1) if backwards else range(begin, end)
            for at in places:
                row = rows[at]
                if is_multikey:
                    if row[2].seq in seen:
                        continue
                    seen.add(row[2].seq)
                yield row[0], row[2]

    def explain(self):
        if self.index is None:
            return {"stage": "COLLSCAN", "direction": "forward"}
        scan = {"stage": "IXSCAN", "keyPattern": self.index.pattern, "indexName": self.index.name,
                "isMultiKey": self.index.is_multikey, "isUnique": self.index.is_unique or
                self.index.name == "_id_", "isSparse": self.index.is_sparse,
                "isPartial": self.index.partial is not None, "indexVersion": 2,
                "direction": "forward"}
        if self.index.name == "_id_" and self.ids is not None and len(self.ids) == 1:
            return {"stage": "IDHACK"}
        return {"stage": "FETCH", "inputStage": scan}


def visible(plan, backwards, test, opened, with_orphans):
    """(key, record, document or None) of the rows that a query may give. What went away before the
    query began is an orphan when the shard still has it, and otherwise a row not yet cleaned up."""
    return look(plan.part, plan.rows(backwards), test, opened, with_orphans)


def look(part, rows, test, opened, with_orphans):
    for key, rec in rows:
        gone = rec.gone
        if gone == ERASED:
            continue
        if 0 < gone <= opened and not (with_orphans and part.is_here(rec)):
            continue
        if test is None:
            yield key, rec, None
            continue
        doc = decode(rec.raw)
        if test(doc):
            yield key, rec, doc


def matches_order(order, pattern):
    """1: the index gives this order, -1: read backwards it does, 0: neither."""
    if pattern is None:
        return 0
    have = list(pattern.items())[:len(order)]
    if [p for p, _ in have] != list(order) or any(k == "hashed" for _, k in have):
        return 0
    if all(k == order[p] for p, k in have):
        return 1
    return -1 if all(k == -order[p] for p, k in have) else 0


def read(cluster, coll, shards, query, command, with_orphans=False):
    """A generator of (record, document or None), skip and limit applied."""
    test = compile_filter(query)
    order = command.get("sort") or None
    opened = cluster.tick
    plans = [Plan(cluster, coll.part(s), coll.ns, query, command) for s in shards]
    ways = [matches_order(order, p.order()) if order else 1 for p in plans]
    if order and any(p.index is not None and p.index.is_multikey for p in plans):
        ways = [0]
    if not order or (ways and ways[0] and len(set(ways)) == 1):
        streams = [visible(p, bool(order) and ways[0] < 0, test, opened, with_orphans)
                   for p in plans]
        if order and len(streams) > 1:
            count = len(order)
            flip = (lambda k: tuple(Backwards(p) for p in k)) if ways[0] < 0 else (lambda k: k)
            merged = heapq.merge(*streams, key=lambda t: flip(t[0][:count]))
        else:
            merged = itertools.chain(*streams)
        out = ((rec, doc) for _, rec, doc in merged)
    else:
        out = in_order(plans, order, test, opened, with_orphans, command)
    skip, limit = int(command.get("skip") or 0), abs(int(command.get("limit") or 0))
    if skip or limit:
        out = itertools.islice(out, skip, skip + limit if limit else None)
    return out


def in_order(plans, order, test, opened, with_orphans, command):
    found = []
    for plan in plans:
        for _, rec, doc in visible(plan, False, test, opened, with_orphans):
            doc = decode(rec.raw) if doc is None else doc
            found.append((sort_key(doc, order), len(found), rec, doc))
    limit = abs(int(command.get("limit") or 0))
    if limit:
        found = heapq.nsmallest(limit + int(command.get("skip") or 0), found,
                                key=lambda t: t[:2])
    else:
        found.sort(key=lambda t: t[:2])
    return ((rec, doc) for _, _, rec, doc in found)


def read_list(raws, query, command):
    """A find over documents that are not kept in parts (config.*, views)."""
    test = compile_filter(query)
    docs = ((r, decode(bytes(r))) for r in raws)
    found = [(r, d) for r, d in docs if test is None or test(d)]
    if command.get("sort"):
        found.sort(key=lambda p: sort_key(p[1], command["sort"]))
    skip, limit = int(command.get("skip") or 0), abs(int(command.get("limit") or 0))
    found = found[skip:skip + limit if limit else None]
    return iter([project(bytes(r), d, command.get("projection")) for r, d in found])


class Cursor:
    def __init__(self, number, ns, source, limit_one_batch=False):
        self.number, self.ns, self.source = number, ns, source
        self.is_single = limit_one_batch
        self.left = None

    def batch(self, size):
        """(documents, is there more)"""
        out, used = [], 0
        while size is None or len(out) < size:
            raw = self.left
            self.left = None
            if raw is None:
                raw = next(self.source, None)
            if raw is None:
                return out, False
            used += len(raw)
            if out and used > 16 * 1024 * 1024:
                self.left = raw
                return out, True
            out.append(Raw(raw))
        if self.is_single:
            return out, False
        self.left = next(self.source, None) if size else None
        return out, self.left is not None or size == 0
