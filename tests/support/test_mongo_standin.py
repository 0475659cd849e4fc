#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The MongoDB stand-in against what was measured on a real 4.0 cluster (facts/mongodb-sharding.md).

  test_mongo_standin.py [FILE]     FILE: other pairs of value and hash, [{"k": .., "hash": ".."}]
"""
import json
import os
import random
import socket
import subprocess
import sys
import time

sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)

from mongo_bson import MAXKEY, MINKEY, Bin, Date, Dec, Long, Oid, Regex, Ts  # noqa: E402
from mongo_bson import decode, encode, from_ejson, hash_of, key_of  # noqa: E402
from mongo_client import Client  # noqa: E402
from mongo_vectors import VECTORS  # noqa: E402

STEP = 4611686018427387902
PASSED, FAILED = [], []


def same(got, want, what):
    if got == want:
        PASSED.append(what)
    else:
        FAILED.append(what)
        print("FAILED %s: got %r, wanted %r" % (what, got, want))


class Standin:
    def __init__(self, *words):
        self.process = subprocess.Popen([sys.executable, os.path.join(HERE, "mongo_standin.py"),
                                         *words], stdout=subprocess.PIPE)
        self.ports = json.loads(self.process.stdout.readline())
        self.router = Client(self.ports["port"])

    def shard(self, name):
        return Client(self.ports["shard_ports"][name])

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.router.close()
        self.process.kill()
        self.process.wait()


def bounds(c, ns, db="t"):
    return [(d["min"], d["max"], d["shard"]) for d in
            sorted(c.find("config", "chunks", {"ns": ns}), key=lambda d: [
                key_of(v) for v in d["min"].values()])]


def by_index(c, coll, low, high, hint, **more):
    return c.find("t", coll, min=low, max=high, hint=hint, **more)


def code_of(c, db, command):
    reply = c.call(db, command)
    errors = reply.get("writeErrors") or []
    return errors[0]["code"] if errors else reply.get("code")


def erase(c, coll, query, limit=0):
    return c.run("t", {"delete": coll, "deletes": [{"q": query, "limit": limit}]})["n"]


def odd_number():
    """A number above 999 whose hash lies in the first of four chunks, as the measured one's."""
    return next(n for n in range(1000, 100000) if hash_of(n) < -STEP)


def make_measured(c):
    """The three collections of the facts."""
    c.admin(enableSharding="t")
    for name, key in (("ranged", {"k": 1}), ("hashed", {"k": "hashed"}),
                      ("compound", {"a": 1, "b": 1})):
        c.admin(shardCollection="t." + name, key=key)
    rest = [None, "zz"]
    c.insert("t", "ranged", [{"_id": i, "k": k} for i, k in enumerate([*range(1000), *rest, -5])])
    c.insert("t", "hashed", [{"_id": i, "k": k} for i, k in
                             enumerate([*range(1000), *rest, odd_number()])])
    c.insert("t", "compound", [{"_id": i, "a": 1, "b": i} for i in range(300)])
    for middle in (0, 500):
        c.admin(split="t.ranged", middle={"k": middle})
    for middle in (100, 200):
        c.admin(split="t.compound", middle={"a": 1, "b": middle})


def test_vectors():
    bad = []
    vectors = VECTORS
    if len(sys.argv) > 1:
        with open(sys.argv[1]) as file:
            vectors = [(one["k"], int(one["hash"])) for one in json.load(file)]
    for written, wanted in vectors:
        value = decode(encode({"k": from_ejson(written)}))["k"]
        if hash_of(value) != wanted:
            bad.append(written)
    same(bad, [], "every measured hash comes out")
    same(len(vectors) >= 34, True, "there are 34 vectors")
    same(hash_of(42), -944302157085130861, "42 hashes as measured")


def test_bounds_table(c):
    low = by_index(c, "ranged", {"k": MINKEY}, {"k": 0}, {"k": 1})
    same(len(low), 2, "ranged, first chunk by index bounds")
    same(len(c.find("t", "ranged", {"k": {"$gte": MINKEY, "$lt": 0}})), 1,
         "ranged, first chunk by field values")
    same(len(by_index(c, "ranged", {"k": 500}, {"k": MAXKEY}, {"k": 1})), 501,
         "ranged, last chunk by index bounds")
    same(len(c.find("t", "ranged", {"k": {"$gte": 500, "$lt": MAXKEY}})), 500,
         "ranged, last chunk by field values")
    chunks = bounds(c, "t.hashed")
    same([b["k"] for _, b, _ in chunks], [-STEP, 0, STEP, MAXKEY], "hashed pre-split bounds")
    same([shard for _, _, shard in chunks], ["a", "a", "b", "b"], "two chunks for each shard")
    same([len(by_index(c, "hashed", a, b, {"k": "hashed"})) for a, b, _ in chunks],
         [230, 251, 255, 267], "hashed by index bounds")
    same([len(c.find("t", "hashed", {"k": {"$gte": a["k"], "$lt": b["k"]}})) for a, b, _ in chunks],
         [0, 0, 1001, 0], "hashed by field values")
    chunks = bounds(c, "t.compound")
    same([len(by_index(c, "compound", a, b, {"a": 1, "b": 1})) for a, b, _ in chunks],
         [100, 100, 100], "compound by index bounds")
    same([len(c.find("t", "compound", {"a": {"$gte": a["a"], "$lt": b["a"]}}))
          for a, b, _ in chunks], [0, 0, 300], "compound by the first field")
    walk, last = [], {"k": MINKEY}
    while True:
        some = by_index(c, "ranged", last, {"k": MAXKEY}, {"k": 1}, limit=100, singleBatch=True,
                        projection={"_id": 1, "k": 1})
        fresh = [d for d in some if d["_id"] not in walk[-1:]]
        walk += [d["_id"] for d in fresh]
        if len(some) < 100:
            break
        last = {"k": some[-1]["k"]}
    same(len(walk), 1003, "a walk in batches sees every document once")


def test_erase(c):
    same(code_of(c, "t", {"delete": "ranged", "deletes": [{"q": {}, "limit": 1000}]}), 9,
         "a limit of 1000 is FailedToParse")
    same(code_of(c, "t", {"delete": "ranged", "deletes": [{"q": {"x": 1}, "limit": 1}]}), 61,
         "a limit-1 delete without _id and shard key is refused")
    same(c.run("t", {"delete": "ranged", "deletes": [{"q": {"_id": 3}, "limit": 1}]})["n"], 1,
         "a limit-1 delete by _id is taken")
    same(c.run("t", {"delete": "ranged", "deletes": [{"q": {"k": 4}, "limit": 1}]})["n"], 1,
         "a limit-1 delete by the whole shard key is taken")
    same(code_of(c, "t", {"delete": "compound", "deletes": [{"q": {"a": 1}, "limit": 1}]}), 61,
         "half of a compound key is not the whole shard key")
    c.admin(moveChunk="t.ranged", find={"k": 700}, to="b")
    c.standin(counters="reset")
    ids = {"$in": list(range(600, 650))}
    n = erase(c, "ranged", {"_id": ids, "k": ids})
    seen = c.standin(counters=1)
    same((n, dict(seen["shards"]["b"]), "a" in seen["shards"]), (50, {"delete": 1}, False),
         "a delete by _id and shard key goes to the owner only")
    n = erase(c, "ranged", {"_id": {"$in": [10, 700]}})
    seen = c.standin(counters=1)
    same((n, dict(seen["deletes"])), (2, {"targeted": 1, "broadcast": 1}),
         "a delete by _id alone is broadcast")
    before = len(c.find("t", "hashed"))
    chunk = bounds(c, "t.hashed")[0]
    few = by_index(c, "hashed", chunk[0], chunk[1], {"k": "hashed"}, limit=50)
    c.standin(counters="reset")
    n = erase(c, "hashed", {"_id": {"$in": [d["_id"] for d in few]},
                            "k": {"$in": [d["k"] for d in few]}})
    seen = c.standin(counters=1)
    same((n, dict(seen["deletes"]), dict(seen["shards"]["a"]), before - len(c.find("t", "hashed"))),
         (50, {"targeted": 1, "broadcast": 0}, {"delete": 1}, 50),
         "hashed keys of one chunk are targeted")


def test_root_guard(c):
    c.insert("t", "guard", [{"_id": i, "v": {"x": i}} for i in range(10)])
    docs = c.find("t", "guard")
    c.run("t", {"update": "guard", "updates": [{"q": {"_id": 3}, "u": {"$set": {"v.x": 99}}}]})
    n = c.run("t", {"delete": "guard", "deletes": [{"q": {
        "_id": {"$in": list(range(10))}, "$expr": {"$in": ["$$ROOT", {"$literal": docs}]}},
        "limit": 0}]})["n"]
    same((n, [dict(d) for d in c.find("t", "guard")]), (9, [{"_id": 3, "v": {"x": 99}}]),
         "a delete guarded by $$ROOT leaves what was changed")
    doc = c.find("t", "guard")[0]
    n = c.run("t", {"delete": "guard", "deletes": [
        {"q": {"_id": 3, "$expr": {"$eq": ["$$ROOT", {"$literal": doc}]}}, "limit": 1}]})["n"]
    same(n, 1, "and $eq takes the one it names")


def test_moves(c, shard_a, shard_b):
    c.admin(shardCollection="t.orph", key={"k": 1})
    c.insert("t", "orph", [{"_id": i, "k": i} for i in range(1003)])
    c.admin(split="t.orph", middle={"k": 502})
    old = {d["_id"]: d for d in c.find("config", "chunks", {"ns": "t.orph"})}
    cursor = c.run("t", {"find": "orph", "batchSize": 10})["cursor"]
    moved = c.standin(moveChunk="t.orph", find={"k": 502}, to="b", keep_orphans=True)["moved"]
    same(moved, 501, "the chunk's documents move")
    stats = c.run("t", {"collStats": "orph"})
    same((stats["count"], stats["sharded"], sorted(stats["shards"])), (1504, True, ["a", "b"]),
         "collStats counts orphans: 1504 for 1003")
    same(len(c.find("t", "orph")), 1003, "reads through the router give no orphans")
    same((len(shard_a.find("t", "orph")), len(shard_b.find("t", "orph"))), (1003, 501),
         "direct reads give them")
    seen = len(cursor["firstBatch"])
    while cursor["id"]:
        cursor = c.run("t", {"getMore": cursor["id"], "collection": "orph"})["cursor"]
        seen += len(cursor["nextBatch"])
    same(seen, 1003, "a cursor opened before a move sees every document once")
    new = {d["_id"]: d for d in c.find("config", "chunks", {"ns": "t.orph"})}
    majors = sorted(d["lastmod"].parts for d in new.values())
    same((majors, sorted(d["lastmod"].parts for d in old.values())),
         ([(2, 0), (2, 1)], [(1, 1), (1, 2)]), "a move bumps the major, a split the minor version")
    same(erase(c, "orph", {"_id": {"$in": [600, 601]}}), 4, "a broadcast delete hits orphans too")
    same(c.run("t", {"count": "orph", "query": {"k": {"$gte": 0}}})["n"], 1001,
         "a count with a query has no orphans")
    same(c.standin(clear_orphans="t.orph")["n"], 499, "orphans go when the range deleter runs")


def test_move_in_between(c):
    c.admin(shardCollection="t.mid", key={"k": 1})
    c.insert("t", "mid", [{"_id": i, "k": i} for i in range(100)])
    c.admin(split="t.mid", middle={"k": 50})
    c.standin(on={"command": "delete", "nth": 2, "do": {"moveChunk": "t.mid", "find": {"k": 60},
                                                        "to": "b"}})
    ids = {"$in": list(range(60, 70))}
    statement = {"q": {"_id": ids, "k": ids}, "limit": 0}
    first = {"$in": [50, 51]}
    c.run("t", {"delete": "mid", "deletes": [{"q": {"_id": first, "k": first}, "limit": 0}]})
    same(bounds(c, "t.mid")[1][2], "a", "the event waits for the second delete")
    same(c.run("t", {"delete": "mid", "deletes": [statement]})["n"], 10,
         "a targeted delete hits the right shard though the chunk moved just before")
    same(bounds(c, "t.mid")[1][2], "b", "the event ran")
    c.standin(on={"command": "delete", "when": "between", "do": {
        "moveChunk": "t.mid", "find": {"k": 60}, "to": "a"}})
    ids = {"$in": [1, 90]}
    n = c.run("t", {"delete": "mid", "deletes": [{"q": {"_id": ids}, "limit": 0}]})["n"]
    same((n, len(c.find("t", "mid", {"_id": 90}))), (1, 1),
         "a broadcast delete misses what moves behind its back")
    c.standin(begin_move={"ns": "t.mid", "min": {"k": 50}, "to": "b"})
    moving = c.find("config", "migrations")
    lock = c.find("config", "locks", {"_id": "t.mid"})[0]
    same((len(moving), moving[0]["fromShard"], lock["state"], lock["why"]),
         (1, "a", 2, "Migrating chunk(s) in collection t.mid"), "a running move shows")
    ops = c.admin(currentOp=1, desc="MoveChunk")["inprog"]
    same(len(ops), 1, "and in currentOp")
    same(c.admin(standin=1, end_move="t.mid")["moved"] > 0, True, "and ends by moving")
    same((c.find("config", "migrations"), c.find("config", "locks", {"_id": "t.mid"})[0]["state"]),
         ([], 0), "then nothing moves")


def test_metadata(c):
    doc = c.find("config", "collections", {"_id": "t.ranged"})[0]
    same(sorted(doc), sorted(["_id", "key", "unique", "uuid", "lastmodEpoch", "lastmod",
                              "dropped"]), "config.collections has the 4.0 fields")
    size = c.admin(dataSize="t.compound", keyPattern={"a": 1, "b": 1}, min={"a": 1, "b": 50},
                   max={"a": 1, "b": 250})
    same((size["numObjects"], type(size["size"])), (200.0, float), "dataSize over several chunks")
    plain = c.run("t", {"collStats": "guard"})
    same((plain["sharded"], plain["primary"]), (False, "a"), "an unsharded one has its primary")
    c.run("config", {"update": "collections", "updates": [
        {"q": {"_id": "t.ranged"}, "u": {"$set": {"noBalance": True}}}]})
    same(c.find("config", "collections", {"noBalance": True})[0]["_id"], "t.ranged",
         "noBalance can be written")
    c.run("t", {"create": "seen", "viewOn": "ranged", "pipeline": [{"$match": {"k": {"$lt": 2}}}]})
    types = {d["name"]: d["type"] for d in c.all("t", {"listCollections": 1})}
    same((types["seen"], types["ranged"], types["system.views"]),
         ("view", "collection", "collection"), "listCollections gives the types")
    same(len(c.find("t", "seen")), 3, "a view gives what its pipeline lets through")
    same(code_of(c, "t", {"delete": "seen", "deletes": [{"q": {}, "limit": 0}]}), 166,
         "a view is not erasable")
    hello = c.admin(hello=1)
    same((hello["msg"], hello["maxWireVersion"]), ("isdbgrid", 7), "the router says what it is")
    status = c.admin(balancerStatus=1)
    same((status["mode"], status["inBalancerRound"]), ("full", False), "balancerStatus")
    c.admin(balancerStop=1)
    same(c.find("config", "settings", {"_id": "balancer"})[0]["mode"], "off", "balancerStop shows")
    c.run("t", {"drop": "hashed"})
    left = c.find("config", "collections", {"_id": "t.hashed"})
    same([d["dropped"] for d in left], [True], "a dropped one remains with dropped: true")
    same(code_of(c, "t", {"insert": "ranged", "documents": [{"_id": "x"}]}), 61,
         "4.0 refuses a document without shard key")


def plan_of(c, query, **more):
    plan = c.run("t", {"explain": {"find": "plan", "filter": query, **more}})
    plan = plan["queryPlanner"]["winningPlan"]["shards"][0]["winningPlan"]
    while "inputStage" in plan:
        plan = plan["inputStage"]
    return plan["stage"], plan.get("indexName"), plan.get("isMultiKey")


def test_plans(c):
    c.insert("t", "plan", [{"_id": i, "u": i % 7, "tags": [1, i], "p": i} for i in range(50)])
    c.run("t", {"createIndexes": "plan", "indexes": [
        {"key": {"u": 1}, "name": "u_1"}, {"key": {"tags": 1}, "name": "tags_1"},
        {"key": {"p": 1}, "name": "p_part", "partialFilterExpression": {"p": {"$gt": 10}}}]})
    same(plan_of(c, {"u": 3}), ("IXSCAN", "u_1", False), "an equality takes the index")
    same(plan_of(c, {"tags": 3}), ("IXSCAN", "tags_1", True), "an array's index is multikey")
    same(plan_of(c, {"p": 3}), ("COLLSCAN", None, None), "a partial index is not taken")
    same(plan_of(c, {"z": 3}), ("COLLSCAN", None, None), "no index, no index scan")
    same(len(c.find("t", "plan", {"tags": {"$in": [1, 5]}})), 50, "multikey gives each once")
    same(code_of(c, "t", {"find": "plan", "hint": {"nope": 1}}), 2, "a bad hint is an error")


def test_order(c):
    values = [MAXKEY, Regex(b"a", b""), Ts(1, 1), Date(5), True, False, Oid(b"\1" * 12),
              Bin(0, b"abc"), Bin(0, b"zz"), {"a": 1}, "b", "a", "Z", 3, 2.5, Long(2 ** 60),
              float("nan"), float("-inf"), Dec.parse("2.75"), None, MINKEY]
    c.insert("t", "sorted", [{"_id": i, "v": v} for i, v in enumerate(values)])
    got = [d["_id"] for d in c.find("t", "sorted", sort={"v": 1})]
    want = [20, 19, 16, 17, 14, 18, 13, 15, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0]
    same(got, want, "values sort in the order of BSON")
    c.run("t", {"createIndexes": "sorted", "indexes": [{"key": {"v": 1}, "name": "v_1"}]})
    same([d["_id"] for d in c.find("t", "sorted", hint={"v": 1})], want, "an index has that order")
    c.run("t", {"createIndexes": "sorted", "indexes": [{"key": {"v": -1}, "name": "v_-1"}]})
    same([d["_id"] for d in c.find("t", "sorted", hint={"v": -1})], want[::-1],
         "and a descending one the opposite")
    same([d["_id"] for d in c.find("t", "sorted", {"v": {"$gte": 2.75}}, sort={"v": 1})],
         [18, 13, 15], "comparisons stay in their type's bracket")
    same([d["_id"] for d in c.find("t", "sorted", {"v": None})], [19], "null is null")
    same(len(c.find("t", "sorted", {"w": None})), len(values), "null matches missing")
    raw = encode({"_id": Long(1000), "x": [1, {"y": Dec.parse("1.50")}], "x2": Regex(b"q", b"i")})
    c.insert("t", "sorted", [raw])
    same(c.find("t", "sorted", {"_id": 1000.0})[0].raw, raw, "bytes come back as they went in")


def test_reading(c):
    c.admin(shardCollection="t.read", key={"k": 1})
    c.insert("t", "read", [{"_id": i, "k": i, "g": i % 3} for i in range(60)])
    c.admin(split="t.read", middle={"k": 30})
    c.admin(moveChunk="t.read", find={"k": 30}, to="b")
    got = [d["_id"] for d in c.find("t", "read", sort={"_id": -1}, limit=40, batchSize=7)]
    same(got, list(range(59, 19, -1)), "a sort merges what the shards give, over many batches")
    same([d["_id"] for d in c.find("t", "read", {"k": {"$gte": 28, "$lte": 31}}, hint="k_1")],
         [28, 29, 30, 31], "a range over both shards")
    groups = c.all("t", {"aggregate": "read", "cursor": {}, "pipeline": [
        {"$match": {"g": {"$ne": 2}}}, {"$group": {"_id": "$g", "n": {"$sum": 1}}},
        {"$sort": {"_id": 1}}]})
    same([dict(g) for g in groups], [{"_id": 0, "n": 20}, {"_id": 1, "n": 20}], "$group")
    stats = c.all("t", {"aggregate": "read", "cursor": {}, "pipeline": [
        {"$collStats": {"count": {}, "storageStats": {}}}]})
    same([(s["shard"], s["count"], s["storageStats"]["count"]) for s in stats],
         [("a", 30, 30), ("b", 30, 30)], "$collStats is told by shard")
    c.standin(set={"migrating": "t.read"})
    ops = c.all("admin", {"aggregate": 1, "cursor": {}, "pipeline": [
        {"$currentOp": {"allUsers": True}}, {"$match": {"desc": {"$in": ["MoveChunk"]}}}]})
    same([o["command"]["moveChunk"] for o in ops], ["t.read"], "$currentOp shows a move")
    c.standin(set={"migrating": None})
    same(list(c.run("t", {"distinct": "read", "key": "g"})["values"]), [0, 1, 2], "distinct")
    same(dict(c.find("t", "read", {"k": 5}, projection={"k": 1, "_id": 0})[0]), {"k": 5},
         "a projection")
    cursor = c.run("t", {"find": "read", "batchSize": 2})["cursor"]
    c.run("t", {"killCursors": "read", "cursors": [cursor["id"]]})
    same(code_of(c, "t", {"getMore": cursor["id"], "collection": "read"}), 43,
         "a killed cursor is gone")
    same(code_of(c, "t", {"find": "read", "min": {"k": 5}, "max": {"k": 5}, "hint": {"k": 1}}),
         51175, "min must come before max")


def test_writing(c, shard_b):
    same(c.run("t", {"update": "st", "updates": [
        {"q": {"name": "x", "shard": "a"}, "u": {"$set": {"n": 1}}, "upsert": True}]})["n"], 1,
        "an upsert makes the document")
    c.run("t", {"update": "st", "updates": [
        {"q": {"name": "x", "shard": "a"}, "u": {"$inc": {"n": 2}, "$unset": {"z": 1}},
         "upsert": True}]})
    found = [{k: v for k, v in d.items() if k != "_id"} for d in c.find("t", "st")]
    same(found, [{"name": "x", "shard": "a", "n": 3}], "the second one changes it")
    c.run("t", {"create": "cap", "capped": True, "size": 4096, "max": 3})
    c.insert("t", "cap", [{"_id": i} for i in range(5)])
    same([d["_id"] for d in c.find("t", "cap")], [2, 3, 4], "a capped collection keeps the last")
    same(code_of(c, "t", {"delete": "cap", "deletes": [{"q": {}, "limit": 0}]}), 20,
         "4.0: nothing is erased from it")
    c.standin(orphan={"ns": "t.read", "shard": "b", "documents": [{"_id": 500, "k": 1}]})
    same((len(c.find("t", "read", {"_id": 500})), len(shard_b.find("t", "read", {"_id": 500}))),
         (0, 1), "a planted orphan shows only on its shard")
    same(erase(c, "read", {"_id": 500, "k": 1}), 0, "a targeted delete leaves it")
    c.admin(refineCollectionShardKey="t.read", key={"k": 1, "_id": 1})
    same(list(bounds(c, "t.read")[1][0]), ["k", "_id"], "a refined key has longer bounds")
    same(len(c.find("t", "read")), 60, "and the same documents")
    same(code_of(c, "t", {"delete": "read", "deletes": [{"q": {}, "limit": 0, "hint": {"k": 1}}]}),
         9, "4.0 knows no hint of a delete")
    before = dict(c.standin(digest="t.read")["digest"]["t.read"])
    erase(c, "read", {"_id": 7, "k": 7}, 1)
    c.insert("t", "read", [{"_id": 7, "k": 7, "g": 1}])
    after = dict(c.standin(digest="t.read")["digest"]["t.read"])
    same((before["count"], before == after), (60, True), "a digest tells whether all is as before")


def test_faults(c, port):
    c.insert("t", "f", [{"_id": i} for i in range(20)])
    one = {"delete": "f", "deletes": [{"q": {"_id": 0}, "limit": 1}]}
    c.standin(fault={"command": "delete", "code": 11600, "labels": ["RetryableWriteError"]})
    reply = c.call("t", one)
    same((reply["code"], list(reply["errorLabels"])), (11600, ["RetryableWriteError"]), "an error")
    same(c.run("t", one)["n"], 1, "happens as often as said")
    c.standin(fault={"command": "delete", "close": "after", "skip": 1})
    session = {"lsid": {"id": Bin(4, b"1" * 16)}, "txnNumber": Long(7)}
    c.run("t", {"delete": "f", "deletes": [{"q": {"_id": 1}, "limit": 1}]})
    lost = {"delete": "f", "deletes": [{"q": {"_id": 2}, "limit": 1}], **session}
    other, cut = Client(port), False
    try:
        other.call("t", lost)
    except (EOFError, ConnectionError):
        cut = True
    same((cut, len(c.find("t", "f", {"_id": 2}))), (True, 0), "cut after applying")
    same((c.run("t", lost)["n"], c.standin(counters=1)["replayed"]), (1, 1),
         "a repeated retryable write is answered from memory")
    c.standin(fault={"command": "delete", "close": "before"})
    other, cut = Client(port), False
    try:
        other.call("t", {"delete": "f", "deletes": [{"q": {"_id": 3}, "limit": 1}]})
    except (EOFError, ConnectionError):
        cut = True
    same((cut, len(c.find("t", "f", {"_id": 3}))), (True, 1), "cut before applying")
    c.standin(fault={"command": "delete", "write_concern_error": True})
    reply = c.call("t", {"delete": "f", "deletes": [{"q": {"_id": 3}, "limit": 1}]})
    same((reply["n"], reply["writeConcernError"]["code"]), (1, 64), "applied, but not confirmed")
    c.standin(fault={"command": "delete", "write_errors": [{"index": 1, "code": 11601}]})
    reply = c.call("t", {"delete": "f", "ordered": False, "deletes": [
        {"q": {"_id": i}, "limit": 1} for i in (4, 5, 6)]})
    same((reply["n"], [(e["index"], e["code"]) for e in reply["writeErrors"]]), (2, [(1, 11601)]),
         "one statement of three fails")
    begin = time.monotonic()
    c.standin(fault={"command": "ping", "delay_ms": 200})
    c.admin(ping=1)
    same(time.monotonic() - begin >= 0.2, True, "a delay")
    c.standin(deny=["balancerStatus", "find config.locks"])
    same((code_of(c, "admin", {"balancerStatus": 1}), code_of(c, "config", {"find": "locks"}),
          code_of(c, "config", {"find": "chunks"})), (13, 13, None), "denied commands")
    c.standin(clear="all")
    same(code_of(c, "admin", {"saslStart": 1}), 18, "nobody is authenticated")
    reply = c.call("t", {"insert": "f", "documents": [{"_id": 10}, {"_id": 50}], "ordered": False})
    same((reply["n"], reply["writeErrors"][0]["code"]), (1, 11000), "a duplicate key")


def test_state(c, shard_a):
    c.standin(set={"lag_s": 42, "dirty": 0.5, "tickets": 120})
    status = shard_a.run("admin", {"serverStatus": 1})["wiredTiger"]
    cache = status["cache"]
    dirty = cache["tracked dirty bytes in the cache"] / cache["maximum bytes configured"]
    members = shard_a.run("admin", {"replSetGetStatus": 1})["members"]
    lag = members[0]["optimeDate"].parts[0] - members[1]["optimeDate"].parts[0]
    same((round(dirty, 2), status["concurrentTransactions"]["write"]["out"], lag),
         (0.5, 120, 42000), "a shard's load and lag")
    hello = shard_a.run("admin", {"isMaster": 1})
    same((hello["setName"], "msg" in hello), ("a", False), "a shard is a replica set's primary")


def test_newer():
    with Standin("--version", "5.0.9") as s:
        c = s.router
        c.admin(enableSharding="t")
        c.admin(shardCollection="t.n", key={"k": "hashed", "z": 1})
        uuid = c.find("config", "collections", {"_id": "t.n"})[0]["uuid"]
        same((len(c.find("config", "chunks", {"ns": "t.n"})),
              len(c.find("config", "chunks", {"uuid": uuid}))), (0, 4), "5.0: chunks by uuid")
        c.insert("t", "n", [{"_id": 1, "z": 1}])
        chunk = [d for d in c.find("config", "chunks", {"uuid": uuid})
                 if by_index(c, "n", d["min"], d["max"], {"k": "hashed", "z": 1})]
        home = Long(2338878944348059895)
        same((len(chunk), chunk[0]["min"]["k"] <= home < chunk[0]["max"]["k"]), (1, True),
             "5.0: a missing key counts as null")
        same(code_of(c, "t", {"find": "n", "min": {"k": Long(0), "z": MINKEY}}), 51173,
             "5.0: min needs a hint")
        c.run("t", {"create": "ts", "timeseries": {"timeField": "at"}})
        types = {d["name"]: d["type"] for d in c.all("t", {"listCollections": 1})}
        same(types["ts"], "timeseries", "5.0: a time series has its type")
        same(c.find("config", "locks"), [], "5.0: no locks")
        same(c.admin(hello=1)["maxWireVersion"], 13, "5.0: wire version 13")


VALUES = [None, -5, 0, 1, 2.5, Long(7), float("nan"), "", "a", "zz", True, False, MINKEY, {"a": 1},
          Oid(b"1" * 12), Date(3), Bin(0, b"x"), {}, Dec.parse("2.5"), Ts(1, 2), 50, Long(2 ** 60)]


def random_filter(dice):
    out = {}
    for field in dice.sample(["k", "z", "f"], dice.randint(0, 3)):
        op = dice.choice(["$eq", "$in", "$gt", "$gte", "$lt", "$lte", "$ne", "$exists", "$nin"])
        some = [dice.choice(VALUES) for _ in range(3)]
        out[field] = {op: some if op in ("$in", "$nin") else dice.choice(VALUES)}
    return out


def random_layout(c, dice, name, key):
    """A collection of odd values over three shards, with orphans, and its documents."""
    c.admin(shardCollection="t." + name, key=key)
    docs = []
    for i in range(60):
        doc = {"_id": i, "f": [dice.choice(VALUES)] * 2 if dice.random() < 0.1 else
               dice.choice(VALUES)}
        doc.update({f: dice.choice(VALUES) for f in "kz" if dice.random() < 0.9})
        docs.append(doc)
    c.insert("t", name, docs)
    for _ in range(6):
        c.call("admin", {"split": "t." + name, "middle": {
            p: Long(dice.randint(-2 ** 63, 2 ** 63 - 1)) if kind == "hashed" else
            dice.choice(VALUES) for p, kind in key.items()}})
        chunk = dice.choice(c.standin(layout="t." + name)["chunks"])
        c.standin(moveChunk="t." + name, min=chunk["min"], to=dice.choice("abc"), keep_orphans=True)
    c.run("t", {"createIndexes": name, "indexes": [{"key": {"f": 1, "k": -1}, "name": "f_k"}]})
    return docs


def test_random_layouts():
    """What a find gives does not depend on shards, chunks and indexes."""
    dice, different = random.Random(11), []
    with Standin("--version", "4.4.9", "--shards", "a,b,c") as s:
        c = s.router
        c.admin(enableSharding="t")
        keys = [{"k": 1}, {"k": "hashed"}, {"k": 1, "z": 1}, {"k": "hashed", "z": 1},
                {"z": 1, "k": "hashed"}]
        for number, key in enumerate(keys * 2):
            name = "r%d" % number
            docs = random_layout(c, dice, name, key)
            c.insert("t", "plain%d" % number, docs)
            for _ in range(40):
                query = random_filter(dice)
                got = [sorted(d["_id"] for d in c.find("t", coll, query))
                       for coll in (name, "plain%d" % number)]
                if got[0] != got[1]:
                    different.append((key, query, got))
            walk = [d["_id"] for chunk in c.standin(layout="t." + name)["chunks"] for d in
                    by_index(c, name, chunk["min"], chunk["max"], key)]
            if sorted(walk) != list(range(60)):
                different.append((key, "walk"))
            query = random_filter(dice)
            wanted = len(c.find("t", "plain%d" % number, query))
            c.standin(clear_orphans="t." + name)
            same(erase(c, name, query), wanted, "a delete takes what a find gives")
    same(different, [], "filters give the same whatever the layout")


def test_speed(c):
    c.admin(shardCollection="t.big", key={"k": 1})
    begin = time.monotonic()
    c.standin(fill={"ns": "t.big", "count": 20000, "fields": {"k": "$n", "pad": "x" * 40}})
    low, count = {"k": MINKEY}, 0
    while True:
        some = by_index(c, "big", low, {"k": MAXKEY}, {"k": 1}, limit=1000, singleBatch=True,
                        batchSize=1000, projection={"_id": 1, "k": 1})
        if not some:
            break
        ids = {"$in": [d["_id"] for d in some]}
        count += c.run("t", {"delete": "big", "deletes": [{"q": {"_id": ids, "k": ids},
                                                           "limit": 0}]})["n"]
        low = {"k": some[-1]["k"]}
    spent = time.monotonic() - begin
    same((count, c.find("t", "big")), (20000, []), "20,000 documents are walked and erased")
    same(spent < 60, True, "in less than a minute")
    print("20,000 documents filled, walked and erased in %.1f s" % spent)


def test_legacy_hello(port):
    import struct
    with socket.create_connection(("127.0.0.1", port)) as sock:
        payload = struct.pack("<i", 0) + b"admin.$cmd\0" + struct.pack("<ii", 0, -1) + \
            encode({"isMaster": 1})
        sock.sendall(struct.pack("<iiii", 16 + len(payload), 5, 0, 2004) + payload)
        file = sock.makefile("rb")
        length, _, answer, opcode = struct.unpack("<iiii", file.read(16))
        doc = decode(file.read(length - 16)[20:])
    same((answer, opcode, doc["msg"]), (5, 1, "isdbgrid"), "a driver's legacy hello is answered")


def main():
    test_vectors()
    with Standin() as s:
        c, shard_a, shard_b = s.router, s.shard("a"), s.shard("b")
        make_measured(c)
        test_legacy_hello(s.ports["port"])
        test_bounds_table(c)
        test_erase(c)
        test_root_guard(c)
        test_moves(c, shard_a, shard_b)
        test_move_in_between(c)
        test_plans(c)
        test_order(c)
        test_reading(c)
        test_writing(c, shard_b)
        test_metadata(c)
        test_faults(c, s.ports["port"])
        test_state(c, shard_a)
        test_speed(c)
        same(list(c.standin(counters=1)["event_errors"]), [], "no event failed")
    test_newer()
    test_random_layouts()
    print("%d passed, %d failed" % (len(PASSED), len(FAILED)))
    return 1 if FAILED or not PASSED else 0


if __name__ == "__main__":
    sys.exit(main())
