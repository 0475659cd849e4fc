#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Helpers of the MongoDB tests for any sharded cluster, with a client of their own.

  mongo_tool.py port                       a free loopback port
  mongo_tool.py HOST:PORT COMMAND...       HOST:PORT is a router
    run DB JSON...          each command in extended JSON ("$db" in it overrides DB); the replies, one a line;
                            `-` reads them from standard input. Exit 1 when one is not ok
    shards                  the names of the shards, sorted
    world DB [N]            the sample database of the tests, anew (see make_world)
    fill DB COLL FROM COUNT [JSON]   documents {_id: n, ..}; "$n" in the JSON is the number
    digest DB [COLL]        a line for each collection: documents, SHA-256 of their bytes, options, indexes
                            and shard key: all that a rollback must bring back
    count DB COLL [FILTER]  documents that a find gives
    left DB [COLL...]       the sum for these collections, or for all but views and the system's own
    layout DB COLL          "SHARD N" for each shard: documents in its chunks, by the bounds of the index
    status DB TENANT        status documents: COLLECTION SHARD STATUS DELETED/TOTAL CHUNKS/TOTAL ERROR
    drop DB...              drop databases
"""
import hashlib
import json
import os
import socket
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from mongo_bson import MAXKEY, MINKEY, Bin, Date, Dec, Long, Oid, Regex, Ts  # noqa: E402
from mongo_bson import ejson, encode, from_ejson, key_of  # noqa: E402
from mongo_client import Client  # noqa: E402

# Every kind of value that a shard key can hold (arrays cannot, regular expressions neither).
MIXED = [None, True, False, 0, -5, Long(1 << 40), 3.5, float("nan"), float("inf"), Dec.parse("7.25"), "", "zz",
         {"a": 1}, {"a": "1"}, {}, Bin(0, b"\1\2"), Bin(4, b"0123456789abcdef"), Oid(b"123456789012"),
         Date(-1), Date(1577836800000), Ts(5, 6), MINKEY, MAXKEY]


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def connect(address):
    host, port = address.rsplit(":", 1)
    return Client(int(port), host)


def shards(c):
    return sorted(d["_id"] for d in c.find("config", "shards"))


def metadata(c, ns):
    """The entry of config.collections, or None when the collection is not sharded."""
    found = [d for d in c.find("config", "collections", {"_id": ns}) if not d.get("dropped")]
    return found[0] if found else None


def chunks(c, ns):
    uuid = (metadata(c, ns) or {}).get("uuid")
    found = c.find("config", "chunks", {"$or": [{"ns": ns}, {"uuid": uuid}]} if uuid else {"ns": ns})
    return sorted(found, key=lambda d: [key_of(v) for v in d["min"].values()])


def move(c, ns, bounds, to):
    c.admin(moveChunk=ns, find=bounds, to=to, _waitForDelete=True)


def replace(value, n):
    if isinstance(value, dict):
        return {k: replace(v, n) for k, v in value.items()}
    return n if value == "$n" else value


def fill(c, db, coll, first, count, fields):
    c.insert(db, coll, [{"_id": n, **replace(fields, n)} for n in range(first, first + count)])


def on_each(c, ns, points, names):
    """Put the chunks that hold these keys on the shards, in turn."""
    for i, point in enumerate(points):
        holder = next(d["shard"] for d in chunks(c, ns) if inside(d, point))
        if holder != names[i % len(names)]:
            move(c, ns, point, names[i % len(names)])


def inside(chunk, point):
    key = [key_of(v) for v in point.values()]
    low, high = ([key_of(v) for v in chunk[end].values()] for end in ("min", "max"))
    return low <= key < high


def make_world(c, db, n):
    """ranged {k: 1}: 0..n-1 and k null, "zz", -5; split at 0 and n/2, the upper half on the second shard
    hashed {k: "hashed"}: n + 3 documents in 4 chunks on both shards
    compound {a: 1, b: 1}: a 1, b 0..n/2-1, split at b n/6 and n/3, the middle on the second shard
    mixed {k: 1}: every type there is, twice, split at "" and Date(0)
    plain: n / 2 documents, unsharded, _id of many types, index (g), option validationAction
    seen: a view of plain. Moving and splitting of the rest is left to the tests."""
    names = shards(c)
    c.run(db, {"dropDatabase": 1})
    c.admin(enableSharding=db)
    if c.find("config", "databases", {"_id": db})[0]["primary"] != names[0]:
        c.admin(movePrimary=db, to=names[0])
    for coll, key in (("ranged", {"k": 1}), ("hashed", {"k": "hashed"}), ("compound", {"a": 1, "b": 1}),
                      ("mixed", {"k": 1})):
        more = {"numInitialChunks": 4} if coll == "hashed" else {}
        c.admin(shardCollection=f"{db}.{coll}", key=key, **more)
    for coll, middle in (("ranged", {"k": 0}), ("ranged", {"k": n // 2}), ("compound", {"a": 1, "b": n // 6}),
                         ("compound", {"a": 1, "b": n // 3}), ("mixed", {"k": ""}), ("mixed", {"k": Date(0)})):
        c.admin(split=f"{db}.{coll}", middle=middle)
    on_each(c, f"{db}.ranged", [{"k": -1}, {"k": 1}, {"k": n}], [names[0], names[0], names[1]])
    on_each(c, f"{db}.compound", [{"a": 0, "b": 0}, {"a": 1, "b": n // 4}, {"a": 2, "b": 0}], names)
    on_each(c, f"{db}.mixed", [{"k": 0}, {"k": "m"}, {"k": Date(5)}], names)
    fill(c, db, "ranged", 0, n, {"k": "$n", "pad": "x" * 20})
    c.insert(db, "ranged", [{"_id": -1, "k": None}, {"_id": -2, "k": "zz"}, {"_id": -3, "k": -5}])
    fill(c, db, "hashed", 0, n + 3, {"k": "$n", "v": 1.5})
    c.insert(db, "compound", [{"_id": i, "a": 1, "b": i, "pad": "y"} for i in range(n // 2)])
    c.insert(db, "mixed", [{"_id": f"{i}.{j}", "k": k} for i, k in enumerate(MIXED) for j in (0, 1)])
    c.run(db, {"create": "plain", "validator": {"g": {"$lt": 1000}}, "validationAction": "warn"})
    c.run(db, {"createIndexes": "plain", "indexes": [{"key": {"g": 1}, "name": "by_g"}]})
    c.insert(db, "plain", [{"_id": odd, "g": i} for i, odd in enumerate(
        [k for k in MIXED if not isinstance(k, dict)] + [Oid(b"abcdefghijkl")])])
    c.insert(db, "plain", [{"_id": 1000 + i, "g": i % 100, "r": Regex(b"^a", b"i")} for i in range(n // 2)])
    c.run(db, {"create": "seen", "viewOn": "plain", "pipeline": []})


def fingerprint(c, db, info):
    """Count and digest of one collection."""
    coll, ns = info["name"], f"{db}.{info['name']}"
    sha = hashlib.sha256()
    docs = [] if info["type"] == "view" else c.find(db, coll)
    for raw in sorted(bytes(encode(d)) for d in docs):
        sha.update(raw)
    sha.update(encode(dict(info.get("options", {}))))
    if info["type"] != "view":
        for index in sorted(c.all(db, {"listIndexes": coll}), key=lambda i: i["name"]):
            sha.update(encode({k: v for k, v in index.items() if k not in ("ns", "v")}))
        meta = metadata(c, ns) or {}
        sha.update(encode({"key": meta.get("key"), "unique": meta.get("unique", False)}))
    return len(docs), sha.hexdigest()


def digest(c, db, only=None):
    """{collection: (count, digest)}; what servers keep for themselves does not count."""
    infos = c.all(db, {"listCollections": 1})
    return {i["name"]: fingerprint(c, db, i) for i in sorted(infos, key=lambda i: i["name"])
            if not i["name"].startswith("system.") and only in (None, i["name"])}


def left(c, db, names):
    if not names:
        names = [i["name"] for i in c.all(db, {"listCollections": 1})
                 if i["type"] != "view" and not i["name"].startswith("system.")]
    return sum(len(c.find(db, name, projection={"_id": 1})) for name in names)


def layout(c, db, coll):
    out = {name: 0 for name in shards(c)}
    for d in chunks(c, f"{db}.{coll}"):
        end = {} if MAXKEY in d["max"].values() else {"max": dict(d["max"])}
        key = dict(metadata(c, f"{db}.{coll}")["key"])
        out[d["shard"]] += len(c.find(db, coll, min=dict(d["min"]), hint=key, **end))
    return out


def status(c, db, tenant):
    docs = c.find(db, tenant + "_decomm_status_tracking")
    for d in sorted(docs, key=lambda d: (d["collection_name"], d["shard"])):
        yield "%s %s %s %d/%d %d/%d %s" % (
            d["collection_name"], d["shard"], d["status"], d["total_deleted"], d["total_documents"],
            d["chunks_processed"], d["total_chunks"], d["error"] or "-")


def run(c, db, lines):
    bad = 0
    for line in [s for s in sys.stdin if s.strip()] if lines == ["-"] else lines:
        reply = c.call(db, from_ejson(json.loads(line)))
        print(json.dumps(ejson(reply)))
        bad |= reply.get("ok") != 1 or bool(reply.get("writeErrors"))
    return int(bad)


def main():
    words = sys.argv[1:]
    if words == ["port"]:
        print(free_port())
        return 0
    if len(words) < 2:
        sys.exit(__doc__)
    c, what, rest = connect(words[0]), words[1], words[2:]
    if what == "run":
        return run(c, rest[0], rest[1:])
    if what == "shards":
        print("\n".join(shards(c)))
    elif what == "world":
        make_world(c, rest[0], int(rest[1]) if len(rest) > 1 else 1000)
    elif what == "fill":
        fill(c, rest[0], rest[1], int(rest[2]), int(rest[3]), from_ejson(json.loads((rest + ["{}"])[4])))
    elif what == "digest":
        for coll, (count, sha) in digest(c, rest[0], *rest[1:]).items():
            print(coll, count, sha)
    elif what == "count":
        print(len(c.find(rest[0], rest[1], from_ejson(json.loads((rest + ["{}"])[2])))))
    elif what == "left":
        print(left(c, rest[0], rest[1:]))
    elif what == "layout":
        for name, count in layout(c, rest[0], rest[1]).items():
            print(name, count)
    elif what == "status":
        for line in status(c, rest[0], rest[1]):
            print(line)
    elif what == "drop":
        for db in rest:
            c.run(db, {"dropDatabase": 1})
    else:
        sys.exit(__doc__)
    return 0


if __name__ == "__main__":
    sys.exit(main())
