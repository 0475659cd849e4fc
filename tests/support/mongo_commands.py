# SPDX-License-Identifier: Apache-2.0
"""Commands of the MongoDB stand-in that read and write documents. Each takes (node, db, body): node
is a Node (the router or one shard), body the decoded command. They run under the cluster's lock."""
import itertools

from mongo_bson import MISSING, Long, Raw, decode, encode, encode_value, key_of
from mongo_cluster import new_oid
from mongo_data import shard_key_of
from mongo_find import read, read_list
from mongo_query import (Failure, apply_update, compile_filter, conjuncts, evaluate, is_true, leafs,
                         plain_path, project, seed_of, sort_key)

STORED_CONFIG = ("settings", "tags", "changelog", "actionlog", "mongos", "lockpings")
BATCH_MAX = 100000
STATEMENT_MAX = 16 * 1024 * 1024 + 16 * 1024
MANAGED_CONFIG = ("collections", "chunks", "shards", "databases", "migrations", "locks", "version")


class Node:
    """One listening port: the router, or a shard as the primary of its replica set."""

    def __init__(self, world, name):
        self.world, self.cluster, self.name = world, world.cluster, name
        self.is_router = name == "router"
        self.port = 0

    def coll(self, ns):
        return self.cluster.colls.get(ns)

    def shards_of(self, coll, query=None):
        if not self.is_router:
            return [self.name]
        return self.cluster.targets(coll, query or {})


def namespace(db, body):
    name = next(iter(body.values()))
    if not isinstance(name, str) or not name:
        raise Failure(73, "InvalidNamespace", "collection name has invalid type or is empty")
    return "%s.%s" % (db, name)


def raw_docs(values):
    """The bytes of each document of a list, as they came."""
    return [bytes(v) if isinstance(v, (bytes, Raw)) else encode(v) for v in values]


def is_config(node, ns):
    return node.is_router and ns.startswith("config.") and ns[7:] not in STORED_CONFIG


def config_raws(node, ns):
    found = node.cluster.config_docs(ns[7:])
    return node.cluster.extra_config.get(ns[7:], []) if found is None else found


def give(node, ns, source, body, size_field=None):
    """The first batch of a cursor."""
    options = body.get("cursor") if size_field else body
    size = (options or {}).get("batchSize")
    cursor = node.world.new_cursor(ns, source, is_true(body.get("singleBatch", False)))
    batch, more = cursor.batch(101 if size is None else int(size))
    if cursor.is_single:
        more = False
    if more:
        node.world.cursors[cursor.number] = cursor
    return {"cursor": {"firstBatch": batch, "id": Long(cursor.number if more else 0), "ns": ns},
            "ok": 1.0}


def projected(found, projection):
    if not projection:
        return (rec.raw for rec, _ in found)
    return (project(rec.raw, doc, projection) for rec, doc in found)


def source_of(node, ns, query, body):
    """Raw documents that a find gives."""
    if is_config(node, ns):
        return read_list(config_raws(node, ns), query, body)
    coll = node.coll(ns)
    if coll is None or (not node.is_router and node.name not in coll.parts and
                        coll.kind != "view"):
        return iter(())
    if coll.kind == "view":
        base = ns.split(".", 1)[0] + "." + coll.options["viewOn"]
        docs = run_pipeline(source_of(node, base, {}, {}), coll.options.get("pipeline", []))
        return read_list([encode(d) for d in docs], query, body)
    shards = node.shards_of(coll, query)
    node.world.count_shards("find", shards)
    found = read(node.cluster, coll, shards, query, body, not node.is_router)
    return projected(found, body.get("projection"))


def cmd_find(node, db, body):
    ns = namespace(db, body)
    return give(node, ns, source_of(node, ns, body.get("filter") or {}, body), body)


def cmd_get_more(node, db, body):
    number = int(body["getMore"])
    ns = "%s.%s" % (db, body["collection"])
    cursor = node.world.cursors.get(number)
    if cursor is None:
        raise Failure(43, "CursorNotFound", "cursor id %d not found" % number)
    size = body.get("batchSize")
    batch, more = cursor.batch(int(size) if size else None)
    if not more:
        node.world.cursors.pop(number, None)
    return {"cursor": {"nextBatch": batch, "id": Long(number if more else 0), "ns": ns}, "ok": 1.0}


def cmd_kill_cursors(node, db, body):
    killed, lost = [], []
    for number in body["cursors"]:
        (lost if node.world.cursors.pop(int(number), None) is None else killed).append(Long(number))
    return {"cursorsKilled": killed, "cursorsNotFound": lost, "cursorsAlive": [],
            "cursorsUnknown": [], "ok": 1.0}


def cmd_count(node, db, body):
    ns, query = namespace(db, body), body.get("query") or {}
    coll = node.coll(ns)
    if is_config(node, ns) or (coll is not None and coll.kind == "view"):
        total = sum(1 for _ in source_of(node, ns, query, body))
    elif coll is None:
        total = 0
    else:
        # Without a query a router adds up what the shards say of themselves: orphans count.
        wild = not node.is_router or not query
        shards = node.shards_of(coll, query)
        if not query and not body.get("hint") and not body.get("limit") and not body.get("skip"):
            total = sum(len(coll.part(s).recs) for s in shards)
        else:
            total = sum(1 for _ in read(node.cluster, coll, shards, query, body, wild))
    return {"n": total, "ok": 1.0}


def cmd_distinct(node, db, body):
    ns, seen = namespace(db, body), {}
    for raw in source_of(node, ns, body.get("query") or {}, {}):
        for value in leafs(decode(bytes(raw)), body["key"].split(".")):
            for one in value if isinstance(value, list) else [value]:
                if one is not MISSING:
                    seen.setdefault(key_of(one), one)
    return {"values": [seen[k] for k in sorted(seen)], "ok": 1.0}


# ---- aggregate

def run_group(docs, spec):
    groups = {}
    for doc in docs:
        key = evaluate(spec["_id"], doc)
        key = None if key is MISSING else key
        out = groups.setdefault(key_of(key), {"_id": key})
        for name, operator in spec.items():
            if name == "_id":
                continue
            (op, operand), = operator.items()
            value = evaluate(operand, doc)
            if op in ("$sum", "$count"):
                value = 1 if op == "$count" else value
                is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
                out[name] = out.get(name, 0) + (value if is_number else 0)
            elif op in ("$min", "$max"):
                if value is MISSING or value is None:
                    out.setdefault(name, None)
                elif out.get(name) is None or (key_of(value) < key_of(out[name])) == (op == "$min"):
                    out[name] = value
            elif op == "$first":
                out.setdefault(name, None if value is MISSING else value)
            else:
                raise Failure(15952, "Location15952", "unknown group operator '%s'" % op)
    return list(groups.values())


def run_pipeline(raws, stages):
    docs = (decode(bytes(r)) for r in raws)
    for stage in stages:
        (name, spec), = stage.items()
        if name == "$match":
            test = compile_filter(spec)
            docs = docs if test is None else filter(test, docs)
        elif name == "$limit":
            docs = itertools.islice(docs, int(spec))
        elif name == "$skip":
            docs = itertools.islice(docs, int(spec), None)
        elif name == "$sort":
            docs = sorted(docs, key=lambda d, spec=spec: sort_key(d, spec))
        elif name == "$project":
            docs = (decode(project(encode(d), None, spec)) for d in docs)
        elif name == "$count":
            total = sum(1 for _ in docs)
            docs = [{spec: total}] if total else []
        elif name == "$group":
            docs = run_group(docs, spec)
        else:
            raise Failure(40324, "Location40324", "Unrecognized pipeline stage name: '%s'" % name)
    return docs


def cmd_aggregate(node, db, body):
    stages = list(body["pipeline"])
    first = next(iter(stages[0]), "") if stages else ""
    if first == "$currentOp":
        from mongo_admin import running_ops
        ns, raws, stages = db + ".$cmd.aggregate", map(encode, running_ops(node)), stages[1:]
    elif first == "$collStats":
        from mongo_admin import stats_docs
        ns = namespace(db, body)
        raws, stages = map(encode, stats_docs(node, ns, stages[0]["$collStats"])), stages[1:]
    else:
        ns, query = namespace(db, body), {}
        if first == "$match":
            query, stages = stages[0]["$match"], stages[1:]
        options = {"hint": body["hint"]} if "hint" in body else {}
        raws = source_of(node, ns, query, options)
    if body.get("explain"):
        from mongo_admin import explain_find
        return explain_find(node, ns, query, {})
    docs = run_pipeline(raws, stages) if stages else (decode(bytes(r)) for r in raws)
    return give(node, ns, (encode(d) for d in docs), body, "cursor")


# ---- writes

def write_reply(n, errors, **more):
    out = {"n": n, **more}
    if errors:
        out["writeErrors"] = errors
    out["ok"] = 1.0
    return out


def write_error(index, failure):
    return {"index": index, "code": failure.code, "errmsg": failure.message, **failure.extra}


def need_writable(node, ns, make=False, is_delete=False):
    """The collection a write goes to; None when there is none and none is to be made."""
    coll = node.coll(ns)
    if coll is None:
        if make:
            if ns.split(".", 1)[0] == "local":
                raise Failure(13, "Unauthorized", "not authorized on local")
            return node.cluster.make_coll(ns)
        return None
    if coll.kind == "view":
        raise Failure(166, "CommandNotSupportedOnView", "Namespace %s is a view, not a collection"
                      % ns)
    if is_delete and coll.options.get("capped") and node.cluster.wire < 13:
        raise Failure(20, "IllegalOperation", "cannot remove from a capped collection: %s" % ns)
    if is_delete and coll.kind == "timeseries" and node.cluster.wire < 21:
        raise Failure(72, "InvalidOptions", "Cannot perform a delete on a time-series collection "
                      "with a query on a field that is not the metaField")
    return coll


def each_statement(node, statements, body, run):
    """Run statements in order; errors are gathered, an ordered command ends with the first."""
    is_ordered = is_true(body.get("ordered", True))
    errors, planned = [], node.world.planned_errors()
    if not 1 <= len(statements) <= BATCH_MAX:
        raise Failure(16, "InvalidLength", "Write batch sizes must be between 1 and %d. Got %d "
                      "operations." % (BATCH_MAX, len(statements)))
    for at, statement in enumerate(statements):
        try:
            if at in planned:
                raise Failure(planned[at], "Planned", "planned error of the stand-in")
            run(at, statement)
        except Failure as failure:
            errors.append(write_error(at, failure))
            if is_ordered:
                break
    return errors


def with_id(raw):
    """The document's bytes and its decoded form; an _id is put in front when there is none."""
    doc = decode(raw)
    if "_id" in doc:
        return raw, doc
    kind, data = encode_value(new_oid())
    body = bytes((kind,)) + b"_id\0" + data + raw[4:]
    raw = (len(body) + 4).to_bytes(4, "little") + body
    return raw, decode(raw)


def check_shard_key(cluster, coll, doc):
    for path in coll.pattern:
        value = plain_path(doc, path)
        if value is MISSING and cluster.version < (4, 4):
            raise Failure(61, "ShardKeyNotFound", "document does not contain shard key for pattern "
                          "%s" % coll.pattern)
        if isinstance(value, list):
            raise Failure(61, "ShardKeyNotFound", "Shard key cannot contain array values or array "
                          "descendants.")


def insert_one(node, coll, raw):
    raw, doc = with_id(raw)
    if not coll.pattern:
        return coll.part(coll.primary if node.is_router else node.name).insert(raw, doc, coll.ns)
    check_shard_key(node.cluster, coll, doc)
    owner = coll.owner(shard_key_of(doc, coll.pattern))
    if node.is_router:
        return coll.part(owner).insert(raw, doc, coll.ns)
    rec = coll.part(node.name).insert(raw, doc, coll.ns)
    if owner != node.name:
        coll.part(node.name).disown(rec, node.cluster.tick, True)
    return rec


def trim_capped(coll):
    part = coll.part(coll.primary)
    most = int(coll.options.get("max") or 0)
    size = int(coll.options.get("size") or 0)
    while (most and len(part.recs) > most) or (size and part.size > size and len(part.recs) > 1):
        part.erase(next(iter(part.recs.values())))


def cmd_insert(node, db, body):
    ns, done = namespace(db, body), [0]
    docs = raw_docs(body["documents"])
    if is_config(node, ns):
        node.cluster.extra_config.setdefault(ns[7:], []).extend(map(Raw, docs))
        return write_reply(len(docs), [])
    coll = need_writable(node, ns, make=True)

    def run(at, raw):
        insert_one(node, coll, raw)
        done[0] += 1
    errors = each_statement(node, docs, body, run)
    if coll.options.get("capped"):
        trim_capped(coll)
    return write_reply(done[0], errors)


def single_targets(node, coll, query, what):
    """(shards, may orphans be hit) of a write of one document."""
    if not node.is_router:
        return [node.name], True
    if not coll.pattern or node.cluster.is_whole_key(coll, query):
        return node.cluster.targets(coll, query), False
    if any(n == "_id" and op == "$eq" for n, op, _ in conjuncts(query)):
        return coll.holders(), True
    if node.cluster.version >= (7, 0):
        return node.cluster.targets(coll, query), False
    raise Failure(61, "ShardKeyNotFound", "A single %s on a sharded collection must contain an "
                  "exact match on _id (and have the collection default collation) or contain the "
                  "shard key (and have the simple collation)" % what)


def delete_one_statement(node, coll, q, limit, options):
    world = node.world
    if limit == 1:
        shards, wild = single_targets(node, coll, q, "delete")
    elif node.is_router:
        shards = node.cluster.targets(coll, q)
        wild = bool(coll.pattern) and len(shards) > 1
    else:
        shards, wild = [node.name], True
    if coll.pattern and node.is_router:
        world.count_kind("deletes", "targeted" if len(shards) == 1 else "broadcast")
    world.count_shards("delete", shards)
    n, is_id_only = 0, limit == 1 and wild
    for at, shard in enumerate(shards):
        if at == 1:
            world.happen("delete", "between")
        part = coll.part(shard)
        query_options = {**options, "limit": limit} if limit else options
        found = [rec for rec, _ in read(node.cluster, coll, [shard], q, query_options, wild)]
        for rec in found:
            part.erase(rec)
        n += len(found)
        if n and limit == 1 and not is_id_only:
            break
    return n


def cmd_delete(node, db, body):
    ns, done = namespace(db, body), [0]
    statements = [s if isinstance(s, dict) else decode(bytes(s)) for s in body["deletes"]]
    for s in statements:
        if "limit" not in s or s["limit"] not in (0, 1):
            raise Failure(9, "FailedToParse", "The limit field in delete objects must be 0 or 1. "
                          "Got %s" % s.get("limit"))
        if "hint" in s and node.cluster.version < (4, 4):
            raise Failure(9, "FailedToParse", "BSON field 'delete.deletes.hint' is "
                          "an unknown field")
        if len(encode(s)) > STATEMENT_MAX:
            raise Failure(10334, "BSONObjectTooLarge", "BSONObj size is invalid: %d"
                          % len(encode(s)))
    if is_config(node, ns):
        return write_reply(delete_config(node, ns, statements), [])
    coll = need_writable(node, ns, is_delete=True)

    def run(at, s):
        if coll is not None:
            options = {"hint": s["hint"]} if "hint" in s else {}
            done[0] += delete_one_statement(node, coll, s["q"], int(s["limit"]), options)
    errors = each_statement(node, statements, body, run)
    return write_reply(done[0], errors)


def delete_config(node, ns, statements):
    docs, n = node.cluster.extra_config.get(ns[7:], []), 0
    for s in statements:
        test = compile_filter(s["q"]) or (lambda d: True)
        for raw in [r for r in docs if test(decode(bytes(r)))][:int(s["limit"]) or None]:
            docs.remove(raw)
            n += 1
        if ns[7:] == "collections":
            for name in [k for k, d in node.cluster.dropped.items() if test(decode(encode(d)))]:
                del node.cluster.dropped[name]
                n += 1
    return n


def update_record(node, coll, shard, rec, u):
    doc = decode(rec.raw)
    new = apply_update(doc, u)
    raw = encode(new)
    if raw == rec.raw:
        return 0
    fresh = decode(raw)
    if key_of(fresh["_id"]) != rec.id:
        raise Failure(66, "ImmutableField", "Performing an update on the path '_id' would modify "
                      "the immutable field '_id'")
    part = coll.part(shard)
    if coll.pattern and shard_key_of(fresh, coll.pattern) != rec.skey:
        if node.cluster.version < (4, 2):
            raise Failure(66, "ImmutableField", "Performing an update would modify the immutable "
                          "shard key fields %s" % list(coll.pattern))
        check_shard_key(node.cluster, coll, fresh)
        part.erase(rec)
        coll.part(coll.owner(shard_key_of(fresh, coll.pattern))).insert(raw, fresh, coll.ns)
        return 1
    gone = rec.gone
    put = part.insert(raw, fresh, coll.ns, rec.seq, rec)
    if gone:
        part.disown(put, gone, True)
    return 1


def update_statement(node, coll, s, tally, upserted, at):
    q, multi = s["q"], is_true(s.get("multi", False))
    if multi or is_true(s.get("upsert", False)):
        shards, wild = node.shards_of(coll, q), False
    else:
        shards, wild = single_targets(node, coll, q, "update")
    options = {"hint": s["hint"]} if "hint" in s else {}
    found = []
    for shard in shards:
        more = {} if multi else {"limit": 1}
        found += [(shard, rec) for rec, _ in
                  read(node.cluster, coll, [shard], q, {**options, **more}, wild)]
    if not multi:
        found = found[:1]
    for shard, rec in found:
        tally["nModified"] += update_record(node, coll, shard, rec, s["u"])
    tally["n"] += len(found)
    if not found and is_true(s.get("upsert", False)):
        new = apply_update(seed_of(q), s["u"], True)
        new = new if "_id" in new else {"_id": new_oid(), **new}
        new = {"_id": new["_id"], **new}
        insert_one(node, coll, encode(new))
        upserted.append({"index": at, "_id": new["_id"]})
        tally["n"] += 1


def cmd_update(node, db, body):
    ns, tally, upserted = namespace(db, body), {"n": 0, "nModified": 0}, []
    statements = [s if isinstance(s, dict) else decode(bytes(s)) for s in body["updates"]]
    if is_config(node, ns):
        n = sum(update_config(node, ns, s) for s in statements)
        return write_reply(n, [], nModified=n)
    coll = need_writable(node, ns, make=any(is_true(s.get("upsert", False)) for s in statements))

    def run(at, s):
        if coll is not None:
            update_statement(node, coll, s, tally, upserted, at)
    errors = each_statement(node, statements, body, run)
    more = {"upserted": upserted} if upserted else {}
    return write_reply(tally["n"], errors, nModified=tally["nModified"], **more)


def update_config(node, ns, s):
    """config.collections takes extra fields (noBalance); documents put there by tests take all."""
    cluster, n = node.cluster, 0
    test = compile_filter(s["q"]) or (lambda d: True)
    if ns == "config.collections":
        for coll in cluster.colls.values():
            doc = cluster.collection_doc(coll) if coll.pattern else None
            if doc is None or not test(decode(encode(doc))):
                continue
            base = set(doc) - set(coll.extra)
            new = apply_update(doc, s["u"])
            coll.extra = {k: v for k, v in new.items() if k not in base}
            n += 1
    docs = cluster.extra_config.setdefault(ns[7:], [])
    for at, raw in enumerate(docs):
        doc = decode(bytes(raw))
        if test(doc):
            docs[at] = Raw(encode(apply_update(doc, s["u"])))
            n += 1
    if not n and is_true(s.get("upsert", False)) and ns[7:] not in MANAGED_CONFIG:
        docs.append(Raw(encode(apply_update(seed_of(s["q"]), s["u"], True))))
        n = 1
    return n


def cmd_find_and_modify(node, db, body):
    ns = "%s.%s" % (db, next(iter(body.values())))
    coll, q = need_writable(node, ns, is_delete=bool(body.get("remove"))), body.get("query") or {}
    if coll is None:
        return {"value": None, "lastErrorObject": {"n": 0}, "ok": 1.0}
    found = []
    for shard in node.shards_of(coll, q):
        options = {"limit": 1, **({"sort": body["sort"]} if body.get("sort") else {})}
        found += [(shard, rec) for rec, _ in read(node.cluster, coll, [shard], q, options)]
    if not found:
        if is_true(body.get("upsert", False)):
            update_statement(node, coll, {"q": q, "u": body["update"], "upsert": True},
                             {"n": 0, "nModified": 0}, [], 0)
        return {"value": None, "lastErrorObject": {"n": 0, "updatedExisting": False}, "ok": 1.0}
    shard, rec = found[0]
    old = Raw(rec.raw)
    if body.get("remove"):
        coll.part(shard).erase(rec)
        return {"value": old, "lastErrorObject": {"n": 1}, "ok": 1.0}
    update_record(node, coll, shard, rec, body["update"])
    new = coll.part(shard).by_id.get(rec.id)
    value = Raw(new.raw) if body.get("new") and new else old
    return {"value": value, "lastErrorObject": {"n": 1, "updatedExisting": True}, "ok": 1.0}


DATA_COMMANDS = {
    "find": cmd_find, "getMore": cmd_get_more, "killCursors": cmd_kill_cursors, "count": cmd_count,
    "distinct": cmd_distinct, "aggregate": cmd_aggregate, "insert": cmd_insert,
    "delete": cmd_delete, "update": cmd_update, "findAndModify": cmd_find_and_modify,
    "findandmodify": cmd_find_and_modify,
}