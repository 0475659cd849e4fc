# SPDX-License-Identifier: Apache-2.0
"""The cluster of the MongoDB stand-in: databases, collections, chunks, moves and config.*."""
import bisect
import itertools
import os
import time

from mongo_bson import (MAXKEY, MINKEY, MISSING, Bin, Date, Long, Oid, Raw, Ts, encode, hash_of,
                        key_of)
from mongo_data import Part, bound_key, shard_key_of
from mongo_query import (EVERYTHING, Failure, Points, Regex, bad_value, conjuncts, constraint,
                         is_null, plain_path)

COUNTER = itertools.count(1)
ZERO_OID = Oid(b"\0" * 12)


def new_oid():
    return Oid(int(time.time()).to_bytes(4, "big") + b"stand" + next(COUNTER).to_bytes(3, "big"))


def now():
    return Date(int(time.time() * 1000))


def not_found(ns):
    return Failure(26, "NamespaceNotFound", "ns not found: %s" % ns)


class Chunk:
    __slots__ = ("min", "max", "low", "high", "shard", "major", "minor", "id", "jumbo", "since")

    def __init__(self, lower, upper, pattern, shard, major, minor):
        self.min, self.max = dict(lower), dict(upper)
        self.low, self.high = bound_key(self.min, pattern), bound_key(self.max, pattern)
        self.shard, self.major, self.minor = shard, major, minor
        self.id, self.jumbo, self.since = new_oid(), False, now()


class Coll:
    def __init__(self, ns, kind, primary, options=None):
        self.ns, self.kind, self.primary = ns, kind, primary
        self.options = dict(options or {})
        self.uuid = Bin(4, os.urandom(16))
        self.parts = {}
        self.specs = {"_id_": {"v": 2, "key": {"_id": 1}, "name": "_id_"}}
        self.pattern, self.unique = None, False
        self.epoch, self.chunks, self.mins = None, [], []
        self.extra = {}
        self.made = now()

    def part(self, shard):
        """The shard's part, made when it is needed first."""
        part = self.parts.get(shard)
        if part is None:
            part = self.parts[shard] = Part(self.pattern)
            for name, spec in self.specs.items():
                if name != "_id_":
                    part.add_index(spec)
        return part

    def set_chunks(self, chunks):
        self.chunks = sorted(chunks, key=lambda c: c.low)
        self.mins = [c.low for c in self.chunks]

    def chunk_at(self, skey):
        return self.chunks[bisect.bisect_right(self.mins, skey) - 1]

    def owner(self, skey):
        return self.chunk_at(skey).shard if self.pattern else self.primary

    def top(self):
        return max((c.major, c.minor) for c in self.chunks)

    def holders(self):
        if not self.pattern:
            return [self.primary]
        return sorted({c.shard for c in self.chunks})


def hash_points(query, path):
    """Hashes that an equality or $in allows for a hashed field; None: anything."""
    best = None
    for name, op, value in conjuncts(query):
        if name != path or op not in ("$eq", "$in") or isinstance(value, Regex):
            continue
        values = value if op == "$in" else [value]
        if any(isinstance(v, (Regex, list)) for v in values):
            continue
        keys = {(10, (1, hash_of(None if is_null(v) else v))) for v in values}
        best = keys if best is None else best & keys
    return None if best is None else Points(sorted(best))


def field_limits(query, pattern):
    out = []
    for path, kind in pattern.items():
        if kind == "hashed":
            points = hash_points(query, path)
            out.append(EVERYTHING if points is None else points)
        else:
            out.append(constraint(query, path))
    return out


def touches(limits, at, low, high):
    """Can a key that obeys the limits lie in [low, high)? None is open; never wrongly no."""
    if at == len(limits):
        return high is None
    limit = limits[at]
    lo = low[at] if low is not None else None
    hi = high[at] if high is not None else None
    if isinstance(limit, Points):
        begin = 0 if lo is None else bisect.bisect_left(limit, lo)
        end = len(limit) if hi is None else bisect.bisect_right(limit, hi)
        for key in limit[begin:end]:
            inner_low = low if key == lo else None
            inner_high = high if key == hi else None
            if inner_low is None and inner_high is None:
                return True
            if touches(limits, at + 1, inner_low, inner_high):
                return True
        return False
    a, b = limit
    if a > b or (lo is not None and b < lo) or (hi is not None and a > hi):
        return False
    if hi is not None and a == hi:
        return touches(limits, at + 1, low if lo == hi else None, high)
    return True


class Cluster:
    def __init__(self, version, shards):
        self.version = tuple(int(p) for p in version.split("."))
        self.version_text = version
        self.wire = self.wire_of()
        self.shards = list(shards)
        self.hosts = {}
        self.draining = set()
        self.databases = {}   # name -> {"primary", "partitioned", "version"}
        self.colls = {}       # ns -> Coll
        self.dropped = {}     # ns -> config.collections document of a dropped one (to 4.x)
        self.moves = {}       # ns -> the slow move in progress
        self.locks_seen = {}
        self.extra_config = {}  # collection -> documents put there by tests
        self.cluster_id = new_oid()
        self.tick = 1
        self.balancer = {"mode": "full", "round": False, "rounds": 7}

    def wire_of(self):
        table = [((8, 0), 25), ((7, 0), 21), ((6, 0), 17), ((5, 0), 13), ((4, 4), 9), ((4, 2), 8),
                 ((4, 0), 7), ((3, 6), 6)]
        return next((w for v, w in table if self.version >= v), 6)

    # -- namespaces
    def database(self, name, make=False, primary=None):
        if name not in self.databases and make:
            self.databases[name] = {"primary": primary or self.shards[0], "partitioned": False,
                                    "uuid": Bin(4, os.urandom(16))}
        return self.databases.get(name)

    def make_coll(self, ns, kind="collection", options=None):
        if ns in self.colls:
            raise Failure(48, "NamespaceExists", "a collection '%s' already exists" % ns)
        name = ns.split(".", 1)[0]
        home = self.shards[0] if name == "config" else self.database(name, True)["primary"]
        coll = self.colls[ns] = Coll(ns, kind, home, options)
        if kind == "collection":
            coll.part(coll.primary)
        if kind in ("view", "timeseries"):
            self.note_view(coll)
        self.tick += 1
        return coll

    def note_view(self, coll):
        """Views and time series stand in system.views of their database."""
        db, name = coll.ns.split(".", 1)
        views = self.colls.get(db + ".system.views")
        if views is None:
            views = self.make_coll(db + ".system.views")
        doc = {"_id": coll.ns, "viewOn": coll.options.get("viewOn", "system.buckets." + name),
               "pipeline": coll.options.get("pipeline", [])}
        views.part(views.primary).insert(encode(doc), None, views.ns)
        if coll.kind == "timeseries":
            self.make_coll("%s.system.buckets.%s" % (db, name))

    def drop_coll(self, ns):
        coll = self.colls.pop(ns, None)
        if coll is None:
            return None
        db, name = ns.split(".", 1)
        views = self.colls.get(db + ".system.views")
        if coll.kind in ("view", "timeseries") and views:
            part = views.part(views.primary)
            rec = part.by_id.get(key_of(ns))
            if rec:
                part.erase(rec)
        if coll.kind == "timeseries":
            self.drop_coll("%s.system.buckets.%s" % (db, name))
        if coll.pattern and self.version < (5, 0):
            doc = self.collection_doc(coll)
            doc.update({"lastmodEpoch": ZERO_OID, "lastmod": now(), "dropped": True})
            self.dropped[ns] = doc
        self.moves.pop(ns, None)
        self.tick += 1
        return coll

    # -- sharding
    def shard_coll(self, ns, pattern, unique=False, chunks=None):
        db = self.database(ns.split(".", 1)[0])
        if self.version < (6, 0) and not (db and db["partitioned"]):
            raise Failure(20, "IllegalOperation", "sharding not enabled for db %s"
                          % ns.split(".", 1)[0])
        coll = self.colls.get(ns) or self.make_coll(ns)
        if coll.pattern:
            if coll.pattern == pattern:
                return coll
            raise Failure(23, "AlreadyInitialized", "sharding already enabled for collection " + ns)
        part = coll.part(coll.primary)
        fields = list(pattern.items())
        if not any(list(s["key"].items())[:len(fields)] == fields for s in coll.specs.values()):
            if part.recs:
                raise Failure(72, "InvalidOptions", "Please create an index that starts with the "
                              "proposed shard key before sharding the collection")
            self.make_index(coll, {"v": 2, "key": dict(pattern), "name": "_".join(
                "%s_%s" % f for f in fields), **({"unique": True} if unique else {})})
        coll.pattern, coll.unique, coll.epoch = dict(pattern), unique, new_oid()
        for one in coll.parts.values():
            one.set_pattern(coll.pattern)
        lower, upper = {p: MINKEY for p in pattern}, {p: MAXKEY for p in pattern}
        is_first_hashed = fields[0][1] == "hashed"
        if is_first_hashed and not part.recs:
            self.presplit(coll, chunks or 2 * len(self.shards), lower, upper)
        else:
            coll.set_chunks([Chunk(lower, upper, pattern, coll.primary, 1, 0)])
        self.dropped.pop(ns, None)
        self.tick += 1
        return coll

    def presplit(self, coll, count, lower, upper):
        step, points = (2 ** 63 - 1) // count * 2, []
        at = 0
        if count % 2 == 0:
            points.append(0)
            at += step
        else:
            at += step // 2
        for _ in range((count - 1) // 2):
            points += [at, -at]
            at += step
        first, rest = next(iter(coll.pattern)), list(coll.pattern)[1:]
        bounds = [lower] + [{first: Long(p), **{r: MINKEY for r in rest}}
                            for p in sorted(points)] + [upper]
        each = max(1, count // len(self.shards))
        coll.set_chunks([Chunk(bounds[i], bounds[i + 1], coll.pattern,
                               self.shards[min(i // each, len(self.shards) - 1)], 1, i)
                         for i in range(count)])

    def make_index(self, coll, spec):
        old = coll.specs.get(spec["name"])
        if old is not None:
            if list(old["key"].items()) != list(spec["key"].items()):
                raise Failure(86, "IndexKeySpecsConflict", "Index must have unique name. name: %s"
                              % spec["name"])
            return False
        if any(list(s["key"].items()) == list(spec["key"].items()) for s in coll.specs.values()):
            return False
        done = []
        try:
            for part in coll.parts.values():
                part.add_index(spec)
                done.append(part)
        except Failure:
            for part in done:
                del part.indexes[spec["name"]]
            raise
        coll.specs[spec["name"]] = spec
        return True

    def need_sharded(self, ns):
        coll = self.colls.get(ns)
        if coll is None or not coll.pattern:
            raise Failure(118, "NamespaceNotSharded", "Collection '%s' is not sharded" % ns)
        return coll

    def find_chunk(self, coll, command):
        bounds = command.get("bounds")
        if command.get("min") is not None and bounds is None:
            low = bound_key(command["min"], coll.pattern)
        elif bounds is not None:
            low = bound_key(bounds[0], coll.pattern)
        else:
            query = command.get("find") or {}
            if any(plain_path(query, p) is MISSING for p in coll.pattern):
                raise bad_value("cannot find the chunk: the shard key %s is not in 'find'"
                                % list(coll.pattern))
            return coll.chunk_at(shard_key_of(query, coll.pattern))
        for chunk in coll.chunks:
            if chunk.low == low:
                return chunk
        raise bad_value("no chunk with these bounds")

    def records_of(self, coll, chunk, shard):
        part = coll.part(shard)
        return [r for r in part.recs.values() if chunk.low <= r.skey < chunk.high]

    def move(self, ns, chunk, to, keep_orphans=False):
        coll = self.need_sharded(ns)
        if to not in self.shards:
            raise Failure(70, "ShardNotFound", "Shard %s does not exist" % to)
        donor = chunk.shard
        if donor == to:
            return 0
        self.tick += 1
        away, home = coll.part(donor), coll.part(to)
        for rec in self.records_of(coll, chunk, to):
            home.erase(rec)  # what an earlier move left behind goes first
        moved = 0
        for rec in self.records_of(coll, chunk, donor):
            if rec.gone:
                continue
            raw = rec.raw
            away.disown(rec, self.tick, keep_orphans)
            home.insert(raw, None, ns)
            moved += 1
        major = coll.top()[0] + 1
        fresh = Chunk(chunk.min, chunk.max, coll.pattern, to, major, 0)
        fresh.id, fresh.jumbo = chunk.id, chunk.jumbo
        chunks = [fresh if c is chunk else c for c in coll.chunks]
        for i, other in enumerate(chunks):
            if other.shard == donor and other is not fresh:
                bumped = Chunk(other.min, other.max, coll.pattern, donor, major, 1)
                bumped.id, bumped.jumbo, bumped.since = other.id, other.jumbo, other.since
                chunks[i] = bumped
                break
        coll.set_chunks(chunks)
        if self.version < (5, 0):
            self.locks_seen[ns] = 0
        return moved

    def split(self, ns, middle):
        coll = self.need_sharded(ns)
        key = bound_key(middle, coll.pattern)
        chunk = coll.chunk_at(key)
        if not chunk.low < key < chunk.high:
            raise bad_value("new split key %s is a boundary key of existing chunk" % (middle,))
        major, minor = coll.top()
        left = Chunk(chunk.min, middle, coll.pattern, chunk.shard, major, minor + 1)
        right = Chunk(middle, chunk.max, coll.pattern, chunk.shard, major, minor + 2)
        left.id = chunk.id
        coll.set_chunks([c for c in coll.chunks if c is not chunk] + [left, right])
        self.tick += 1

    def merge(self, ns, bounds):
        coll = self.need_sharded(ns)
        low, high = (bound_key(b, coll.pattern) for b in bounds)
        inside = [c for c in coll.chunks if c.low >= low and c.high <= high]
        if len({c.shard for c in inside}) != 1 or len(inside) < 2:
            raise bad_value("could not merge chunks: not at least two neighbours on one shard")
        major, minor = coll.top()
        whole = Chunk(bounds[0], bounds[1], coll.pattern, inside[0].shard, major, minor + 1)
        coll.set_chunks([c for c in coll.chunks if c not in inside] + [whole])
        self.tick += 1

    def rekey(self, ns, pattern, is_reshard):
        """refineCollectionShardKey (longer key, same places) and reshardCollection (a new one)."""
        coll = self.need_sharded(ns)
        docs = [(s, r) for s in coll.parts for r in coll.parts[s].recs.values() if not r.gone]
        old = coll.pattern
        coll.pattern, coll.epoch = dict(pattern), new_oid()
        if is_reshard:
            for shard, rec in docs:
                coll.parts[shard].take_out(rec, self.tick + 1)
            ends = [{p: MINKEY for p in pattern}, {p: MAXKEY for p in pattern}]
            coll.uuid = Bin(4, os.urandom(16))
            coll.set_chunks([Chunk(ends[0], ends[1], pattern, coll.primary, 1, 0)])
        else:
            more = [p for p in pattern if p not in old]

            def grow(bound):
                is_top = all(v is MAXKEY for v in bound.values())
                return {**bound, **{p: MAXKEY if is_top else MINKEY for p in more}}
            coll.set_chunks([Chunk(grow(c.min), grow(c.max), pattern, c.shard, c.major, c.minor)
                             for c in coll.chunks])
        for part in coll.parts.values():
            part.set_pattern(coll.pattern)
        self.make_index(coll, {"v": 2, "key": dict(pattern),
                               "name": "_".join("%s_%s" % f for f in pattern.items())})
        if is_reshard:
            for _, rec in docs:
                coll.part(coll.primary).insert(rec.raw, None, ns)
        self.tick += 1

    def targets(self, coll, query):
        """The shards that the router asks for this filter."""
        if not coll.pattern:
            return [coll.primary]
        limits = field_limits(query, coll.pattern)
        if all(limit is EVERYTHING for limit in limits):
            return coll.holders()
        out, known = [], set()
        for chunk in coll.chunks:
            if chunk.shard not in known and touches(limits, 0, chunk.low, chunk.high):
                known.add(chunk.shard)
                out.append(chunk.shard)
        return sorted(out) or coll.holders()[:1]

    def is_whole_key(self, coll, query):
        """Does the filter give an equality for every shard key field?"""
        fields = {name for name, op, value in conjuncts(query)
                  if op == "$eq" and not isinstance(value, (Regex, list))}
        return all(path in fields for path in coll.pattern)

    # -- config.*
    def collection_doc(self, coll):
        doc = {"_id": coll.ns, "lastmodEpoch": coll.epoch}
        if self.version >= (5, 0):
            doc.update({"lastmod": coll.made, "timestamp": Ts(1795219200, 1), "uuid": coll.uuid,
                        "key": coll.pattern, "unique": coll.unique})
        else:
            doc.update({"lastmod": coll.made, "dropped": False, "key": coll.pattern,
                        "unique": coll.unique, "uuid": coll.uuid})
        doc.update(coll.extra)
        return doc

    def chunk_doc(self, coll, c):
        new = self.version >= (5, 0)
        first = next(iter(c.min.items()))
        old_id = "%s-%s_%s" % (coll.ns, first[0], first[1])
        doc = {"_id": c.id if self.version >= (4, 4) else old_id}
        if new:
            doc["uuid"] = coll.uuid
        else:
            doc["ns"] = coll.ns
        doc.update({"min": c.min, "max": c.max, "shard": c.shard,
                    "lastmod": Ts(c.major, c.minor)})
        if not new:
            doc["lastmodEpoch"] = coll.epoch
        doc["history"] = [{"validAfter": Ts(c.since.parts[0] // 1000, 1), "shard": c.shard}]
        if c.jumbo:
            doc["jumbo"] = True
        return doc

    def migration_docs(self):
        return [{"_id": "%s-%s" % (ns, next(iter(m["min"].items()))), "ns": ns, "min": m["min"],
                 "max": m["max"], "fromShard": m["from"], "toShard": m["to"],
                 "waitForDelete": False, "forceJumbo": 0} for ns, m in self.moves.items()]

    def lock_docs(self):
        if self.version >= (5, 0):
            return []
        base = {"process": "ConfigServer", "ts": self.cluster_id, "when": now()}
        docs = [{"_id": "balancer", "state": 2, **base, "who": "ConfigServer:Balancer",
                 "why": "CSRS Balancer"}]
        for ns in sorted(set(self.locks_seen) | set(self.moves)):
            docs.append({"_id": ns, "state": 2 if ns in self.moves else 0, **base,
                         "who": "ConfigServer:conn1", "why": "Migrating chunk(s) in collection "
                         + ns})
        return docs

    def config_docs(self, name):
        """Documents of config.NAME that follow from the cluster's state; None: a stored one."""
        if name == "collections":
            docs = [self.collection_doc(c) for c in self.colls.values() if c.pattern]
            docs += list(self.dropped.values())
        elif name == "chunks":
            docs = [self.chunk_doc(c, k) for c in self.colls.values() for k in c.chunks]
        elif name == "shards":
            docs = [{"_id": s, "host": "%s/%s" % (s, self.hosts[s]), "state": 1,
                     **({"draining": True} if s in self.draining else {})} for s in self.shards]
        elif name == "databases":
            docs = [{"_id": n, "primary": d["primary"], "partitioned": d["partitioned"],
                     "version": {"uuid": d["uuid"], "lastMod": 1}}
                    for n, d in self.databases.items() if n not in ("admin", "config", "local")]
        elif name == "migrations":
            docs = self.migration_docs()
        elif name == "locks":
            docs = self.lock_docs()
        elif name == "version":
            docs = [{"_id": 1, "minCompatibleVersion": 5, "currentVersion": 6,
                     "clusterId": self.cluster_id}]
        else:
            return None
        return [Raw(encode(d)) for d in docs] + self.extra_config.get(name, [])
