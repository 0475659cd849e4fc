# SPDX-License-Identifier: Apache-2.0
"""Commands of the MongoDB stand-in beside documents: hello, catalogue, sharding, state."""
import os
import time

from mongo_bson import MISSING, Bin, Date, Long, Raw, Ts, decode, encode, hash_of, key_of
from mongo_cluster import not_found
from mongo_commands import give, namespace
from mongo_data import bound_key
from mongo_find import Plan
from mongo_query import Failure, bad_value, compile_filter, is_true, plain_path

CACHE_BYTES = 1 << 30
TICKETS = 128


def stamp():
    return Date(int(time.time() * 1000))


def cmd_hello(node, db, body):
    out = {"ismaster": True, "isWritablePrimary": True}
    if node.is_router:
        out["msg"] = "isdbgrid"
    else:
        me = "127.0.0.1:%d" % node.port
        out.update({"hosts": [me], "setName": node.name, "setVersion": 1, "secondary": False,
                    "primary": me, "me": me, "electionId": node.cluster.cluster_id,
                    "lastWrite": {"opTime": {"ts": Ts(int(time.time()), 1), "t": Long(1)},
                                  "lastWriteDate": stamp()}})
    if body.get("helloOk"):
        out["helloOk"] = True
    out.update({"maxBsonObjectSize": 16777216, "maxMessageSizeBytes": 48000000,
                "maxWriteBatchSize": 100000, "localTime": stamp(),
                "logicalSessionTimeoutMinutes": 30, "connectionId": 1, "minWireVersion": 0,
                "maxWireVersion": node.cluster.wire, "readOnly": False, "ok": 1.0})
    return out


def cmd_ok(node, db, body):
    return {"ok": 1.0}


def cmd_build_info(node, db, body):
    version = (list(node.cluster.version) + [0, 0])[:3] + [0]
    return {"version": node.cluster.version_text, "gitVersion": "stand-in", "modules": [],
            "versionArray": version, "bits": 64, "debug": False, "maxBsonObjectSize": 16777216,
            "ok": 1.0}


def cmd_connection_status(node, db, body):
    return {"authInfo": {"authenticatedUsers": [], "authenticatedUserRoles": []}, "ok": 1.0}


def cmd_sasl_start(node, db, body):
    raise Failure(18, "AuthenticationFailed", "Authentication failed.")


# ---- catalogue

def cmd_list_collections(node, db, body):
    docs = []
    test = compile_filter(body.get("filter") or {}) or (lambda d: True)
    for ns, coll in sorted(node.cluster.colls.items()):
        if ns.split(".", 1)[0] != db:
            continue
        if not node.is_router and coll.kind == "collection" and node.name not in coll.parts:
            continue
        doc = {"name": ns.split(".", 1)[1], "type": coll.kind}
        full = {**doc, "options": coll.options, "info": {"readOnly": coll.kind == "view"}}
        if coll.kind != "view":
            full["info"]["uuid"] = coll.uuid
            full["idIndex"] = {"v": 2, "key": {"_id": 1}, "name": "_id_", "ns": ns}
        if test(decode(encode(full))):
            docs.append(doc if body.get("nameOnly") else full)
    return give(node, db + ".$cmd.listCollections", (encode(d) for d in docs), body, "cursor")


def need_coll(node, ns):
    coll = node.coll(ns)
    if coll is None:
        raise not_found(ns)
    return coll


def cmd_list_indexes(node, db, body):
    ns = namespace(db, body)
    coll = need_coll(node, ns)
    if coll.kind == "view":
        raise Failure(166, "CommandNotSupportedOnView", "Namespace %s is a view" % ns)
    docs = [{**s, **({"ns": ns} if node.cluster.version < (4, 4) else {})}
            for s in coll.specs.values()]
    return give(node, ns, (encode(d) for d in docs), body, "cursor")


def cmd_create_indexes(node, db, body):
    ns = namespace(db, body)
    is_new = node.coll(ns) is None
    coll = node.coll(ns) or node.cluster.make_coll(ns)
    before = len(coll.specs)
    for spec in body["indexes"]:
        spec = {"v": 2, **{k: v for k, v in spec.items() if k != "ns"}}
        if "name" not in spec or not spec.get("key"):
            raise Failure(9, "FailedToParse", "The 'name' and 'key' fields are required")
        node.cluster.make_index(coll, spec)
    out = {"createdCollectionAutomatically": is_new, "numIndexesBefore": before,
           "numIndexesAfter": len(coll.specs)}
    if before == len(coll.specs):
        out["note"] = "all indexes already exist"
    return {"raw": {"stand-in": out}, "ok": 1.0} if node.is_router else {**out, "ok": 1.0}


def cmd_drop_indexes(node, db, body):
    coll = need_coll(node, namespace(db, body))
    which, before = body["index"], len(coll.specs)
    if which == "*":
        names = [n for n in coll.specs if n != "_id_"]
    elif isinstance(which, dict):
        names = [n for n, s in coll.specs.items() if s["key"] == which]
    else:
        names = [n for n in (which if isinstance(which, list) else [which]) if n in coll.specs]
    if not names and which != "*":
        raise Failure(27, "IndexNotFound", "index not found with name [%s]" % which)
    for name in names:
        if name == "_id_":
            raise Failure(72, "InvalidOptions", "cannot drop _id index")
        del coll.specs[name]
        for part in coll.parts.values():
            part.indexes.pop(name, None)
    return {"nIndexesWas": before, "ok": 1.0}


def cmd_create(node, db, body):
    ns = namespace(db, body)
    kind = "view" if "viewOn" in body else "timeseries" if "timeseries" in body else "collection"
    names = ("capped", "size", "max", "viewOn", "pipeline", "timeseries", "collation", "validator",
             "validationLevel", "validationAction", "expireAfterSeconds", "storageEngine",
             "clusteredIndex", "changeStreamPreAndPostImages")
    options = {k: body[k] for k in names if k in body}
    if kind == "timeseries" and node.cluster.wire < 13:
        raise Failure(72, "InvalidOptions", "The field 'timeseries' is not valid")
    if options.get("capped") and not options.get("size"):
        raise Failure(72, "InvalidOptions", "the 'size' field is required when 'capped' is true")
    old = node.coll(ns)
    if old is not None:
        raise Failure(48, "NamespaceExists", "a collection '%s' already exists" % ns)
    node.cluster.make_coll(ns, kind, options)
    return {"ok": 1.0}


def cmd_drop(node, db, body):
    ns = namespace(db, body)
    if node.coll(ns) is None:
        if node.cluster.version >= (7, 0):
            return {"ok": 1.0}
        raise not_found(ns)
    count = len(node.coll(ns).specs)
    node.cluster.drop_coll(ns)
    return {"ns": ns, "nIndexesWas": count, "ok": 1.0}


def cmd_drop_database(node, db, body):
    for ns in [n for n in node.cluster.colls if n.split(".", 1)[0] == db]:
        node.cluster.drop_coll(ns)
    there = node.cluster.databases.pop(db, None)
    return {**({"dropped": db} if there else {}), "ok": 1.0}


def cmd_list_databases(node, db, body):
    names = sorted({n.split(".", 1)[0] for n in node.cluster.colls} | {"admin", "config"})
    docs = []
    for name in names:
        size = sum(p.size for ns, c in node.cluster.colls.items() if ns.split(".", 1)[0] == name
                   for p in c.parts.values())
        docs.append({"name": name, "sizeOnDisk": Long(size), "empty": size == 0})
    test = compile_filter(body.get("filter") or {}) or (lambda d: True)
    docs = [d for d in docs if test(decode(encode(d)))]
    if body.get("nameOnly"):
        return {"databases": [{"name": d["name"]} for d in docs], "ok": 1.0}
    return {"databases": docs, "totalSize": Long(sum(d["sizeOnDisk"] for d in docs)), "ok": 1.0}


# ---- sizes

def part_stats(coll, shard):
    part = coll.part(shard)
    count = len(part.recs)
    return {"ns": coll.ns, "count": count, "size": part.size, "storageSize": part.size,
            "avgObjSize": part.size // count if count else 0, "nindexes": len(coll.specs),
            "totalIndexSize": 4096 * len(coll.specs), "indexSizes": {n: 4096 for n in coll.specs},
            "capped": bool(coll.options.get("capped"))}


def cmd_coll_stats(node, db, body):
    ns = namespace(db, body)
    coll = node.coll(ns)
    if coll is None:
        if node.cluster.version < (4, 4) and node.is_router:
            raise not_found(ns)
        return {"ns": ns, "size": 0, "count": 0, "storageSize": 0, "nindexes": 0, "ok": 1.0}
    if coll.kind == "view":
        raise Failure(166, "CommandNotSupportedOnView", "Namespace %s is a view, not a collection"
                      % ns)
    if not node.is_router:
        return {**part_stats(coll, node.name), "ok": 1.0}
    shards = coll.holders()
    each = {s: part_stats(coll, s) for s in shards}
    out = {"sharded": bool(coll.pattern), "capped": bool(coll.options.get("capped")), "ns": ns}
    for name in ("count", "size", "storageSize", "totalIndexSize"):
        out[name] = sum(e[name] for e in each.values())
    out["avgObjSize"] = out["size"] / out["count"] if out["count"] else 0.0
    out["nindexes"], out["nchunks"] = len(coll.specs), len(coll.chunks) or 1
    if not coll.pattern:
        out["primary"] = coll.primary
    out["shards"] = {s: {**e, "ok": 1.0} for s, e in each.items()}
    return {**out, "ok": 1.0}


def stats_docs(node, ns, spec):
    coll = need_coll(node, ns)
    shards = coll.holders() if node.is_router else [node.name]
    for shard in shards:
        stats = part_stats(coll, shard)
        doc = {"ns": ns, "shard": shard, "host": node.cluster.hosts[shard], "localTime": stamp()}
        if "storageStats" in spec:
            doc["storageStats"] = {k: v for k, v in stats.items() if k != "ns"}
        if "count" in spec:
            doc["count"] = stats["count"]
        yield doc


def cmd_db_stats(node, db, body):
    colls = [c for n, c in node.cluster.colls.items() if n.split(".", 1)[0] == db]
    count = sum(len(p.recs) for c in colls for p in c.parts.values())
    size = sum(p.size for c in colls for p in c.parts.values())
    return {"db": db, "collections": len(colls), "objects": count, "dataSize": float(size),
            "storageSize": float(size), "ok": 1.0}


def cmd_data_size(node, db, body):
    ns = body["dataSize"]
    coll = node.coll(ns)
    if coll is None:
        return {"size": 0.0, "numObjects": 0.0, "millis": 0, "ok": 1.0}
    pattern = body.get("keyPattern") or {"_id": 1}
    low, high = body.get("min"), body.get("max")
    if low and coll.pattern and pattern != coll.pattern:
        raise bad_value("keyPattern must equal shard key")
    if bool(low) != bool(high):
        raise bad_value("only one of min or max specified")
    shards = node.shards_of(coll)
    size = count = 0
    for shard in shards:
        part = coll.part(shard)
        if not low:
            rows = part.recs.values()
        else:
            index = next((i for i in part.indexes.values() if i.pattern == pattern), None)
            if index is None:
                raise bad_value("couldn't find valid index containing key pattern")
            a, b = bound_key(low, pattern), bound_key(high, pattern)
            rows = {r[2].seq: r[2] for r in part.rows(index) if a <= r[0] < b
                    and part.is_here(r[2])}.values()
        for rec in rows:
            if rec.gone == 0 or not node.is_router:
                size += len(rec.raw)
                count += 1
    return {"estimate": is_true(body.get("estimate", False)), "size": float(size),
            "numObjects": float(count), "millis": 0, "ok": 1.0}


# ---- explain

def explain_find(node, ns, query, options):
    coll = node.coll(ns)
    if coll is None or coll.kind == "view":
        return {"queryPlanner": {"namespace": ns, "winningPlan": {"stage": "EOF"}}, "ok": 1.0}
    shards = node.shards_of(coll, query)
    plans = []
    for shard in shards:
        plan = Plan(node.cluster, coll.part(shard), ns, query, options).explain()
        if coll.pattern and plan["stage"] == "FETCH":
            plan["inputStage"] = {"stage": "SHARDING_FILTER", "inputStage": plan["inputStage"]}
        elif coll.pattern:
            plan = {"stage": "SHARDING_FILTER", "inputStage": plan}
        plans.append({"shardName": shard, "connectionString": node.cluster.hosts[shard],
                      "plannerVersion": 1, "namespace": ns, "indexFilterSet": False,
                      "winningPlan": plan, "rejectedPlans": []})
    if not node.is_router:
        plans[0].pop("shardName")
        plans[0].pop("connectionString")
        return {"queryPlanner": plans[0], "serverInfo": {"host": "127.0.0.1"}, "ok": 1.0}
    stage = "SINGLE_SHARD" if len(plans) == 1 else "SHARD_MERGE"
    return {"queryPlanner": {"mongosPlannerVersion": 1,
                             "winningPlan": {"stage": stage, "shards": plans}}, "ok": 1.0}


def cmd_explain(node, db, body):
    inner = body["explain"]
    name = next(iter(inner))
    ns = "%s.%s" % (db, inner[name])
    if name == "delete":
        first = inner["deletes"][0]
        return explain_find(node, ns, first["q"], {})
    query = inner.get("filter") or inner.get("query") or {}
    if name == "aggregate":
        stages = inner["pipeline"]
        query = stages[0].get("$match", {}) if stages else {}
    return explain_find(node, ns, query, inner)


# ---- sharding

def cmd_enable_sharding(node, db, body):
    name = body["enableSharding"]
    made = node.cluster.database(name, True, body.get("primaryShard"))
    made["partitioned"] = True
    return {"ok": 1.0}


def cmd_shard_collection(node, db, body):
    ns = body["shardCollection"]
    node.cluster.shard_coll(ns, dict(body["key"]), is_true(body.get("unique", False)),
                            int(body.get("numInitialChunks") or 0) or None)
    return {"collectionsharded": ns, "collectionUUID": node.coll(ns).uuid, "ok": 1.0}


def cmd_move_chunk(node, db, body):
    ns = body.get("moveChunk") or body.get("moveRange")
    coll = node.cluster.need_sharded(ns)
    if ns in node.cluster.moves:
        raise Failure(117, "ConflictingOperationInProgress", "a chunk of %s is moving already" % ns)
    chunk = node.cluster.find_chunk(coll, body)
    node.cluster.move(ns, chunk, body.get("to") or body.get("toShard"))
    return {"millis": 1, "ok": 1.0}


def cmd_split(node, db, body):
    ns = body["split"]
    coll = node.cluster.need_sharded(ns)
    if "middle" in body:
        node.cluster.split(ns, dict(body["middle"]))
        return {"ok": 1.0}
    chunk = node.cluster.find_chunk(coll, body)
    keys = sorted((r.skey, r) for r in node.cluster.records_of(coll, chunk, chunk.shard))
    middle = keys[len(keys) // 2][1] if keys else None
    if middle is None or middle.skey == chunk.low:
        raise Failure(86, "CannotSplit", "chunk not full enough to trigger auto-split")
    doc, bound = decode(middle.raw), {}
    for path, kind in coll.pattern.items():
        value = plain_path(doc, path)
        bound[path] = hash_of(value) if kind == "hashed" else None if value is MISSING else value
    node.cluster.split(ns, bound)
    return {"ok": 1.0}


def cmd_merge_chunks(node, db, body):
    node.cluster.merge(body["mergeChunks"], body["bounds"])
    return {"ok": 1.0}


def cmd_refine(node, db, body):
    node.cluster.rekey(body["refineCollectionShardKey"], dict(body["key"]), False)
    return {"ok": 1.0}


def cmd_reshard(node, db, body):
    node.cluster.rekey(body["reshardCollection"], dict(body["key"]), True)
    return {"ok": 1.0}


def cmd_move_primary(node, db, body):
    name, to = body["movePrimary"], body["to"]
    for ns, coll in node.cluster.colls.items():
        if ns.split(".", 1)[0] == name and not coll.pattern:
            old = coll.parts.pop(coll.primary, None)
            coll.primary = to
            for rec in list(old.recs.values()) if old else []:
                coll.part(to).insert(rec.raw, None, ns)
    node.cluster.database(name, True)["primary"] = to
    return {"ok": 1.0}


def balancer_setting(node, mode):
    cluster = node.cluster
    cluster.balancer["mode"] = mode
    coll = cluster.colls.get("config.settings") or cluster.make_coll("config.settings")
    part = coll.part(coll.primary)
    old = part.by_id.get(key_of("balancer"))
    if old:
        part.erase(old)
    part.insert(encode({"_id": "balancer", "mode": mode, "stopped": mode == "off"}))
    return {"ok": 1.0}


def cmd_balancer_start(node, db, body):
    return balancer_setting(node, "full")


def cmd_balancer_stop(node, db, body):
    return balancer_setting(node, "off")


def cmd_balancer_status(node, db, body):
    b = node.cluster.balancer
    return {"mode": b["mode"], "inBalancerRound": b["round"],
            "numBalancerRounds": Long(b["rounds"]), "ok": 1.0}


# ---- state

def running_ops(node):
    ops = [{"shard": node.cluster.shards[0], "type": "op", "desc": "conn1", "active": True,
            "op": "command", "ns": "admin.$cmd", "command": {"currentOp": 1}}]
    for ns, move in node.cluster.moves.items():
        command = {"moveChunk": ns, "fromShard": move["from"], "toShard": move["to"]}
        ops.append({"shard": move["from"], "type": "op", "desc": "MoveChunk", "active": True,
                    "op": "command", "ns": ns, "command": command, "msg": "step 4 of 6"})
        ops.append({"shard": move["to"], "type": "op", "desc": "migrateThread", "active": True,
                    "op": "none", "ns": ns, "command": {}})
    if not node.is_router:
        ops = [o for o in ops if o["shard"] == node.name]
    return ops


def cmd_current_op(node, db, body):
    query = {k: v for k, v in body.items() if k not in ("currentOp", "$all", "$ownOps", "lsid")
             and k not in ("$db", "$clusterTime", "$readPreference")}
    test = compile_filter(query) or (lambda d: True)
    return {"inprog": [o for o in running_ops(node) if test(decode(encode(o)))], "ok": 1.0}


def cmd_server_status(node, db, body):
    out = {"host": "127.0.0.1:%d" % node.port, "version": node.cluster.version_text,
           "process": "mongos" if node.is_router else "mongod", "uptime": 100.0,
           "localTime": stamp()}
    if not node.is_router:
        state = node.world.state(node.name)
        out["repl"] = {"setName": node.name, "ismaster": True, "secondary": False}
        busy = int(state["tickets"])
        tickets = {"out": busy, "available": TICKETS - busy, "totalTickets": TICKETS}
        if node.cluster.version >= (4, 2):
            out["flowControl"] = {"enabled": True, "isLagged": bool(state["flow_lagged"]),
                                  "isLaggedCount": int(bool(state["flow_lagged"]))}
        out["wiredTiger"] = {
            "cache": {"maximum bytes configured": Long(CACHE_BYTES),
                      "bytes currently in the cache": Long(CACHE_BYTES // 2),
                      "tracked dirty bytes in the cache": Long(int(CACHE_BYTES * state["dirty"]))},
            "concurrentTransactions": {"write": tickets, "read": tickets}}
    return {**out, "ok": 1.0}


def cmd_repl_set_status(node, db, body):
    if node.is_router:
        raise Failure(59, "CommandNotFound", "no such cmd: replSetGetStatus")
    lag, at = node.world.state(node.name)["lag_s"], int(time.time())

    def member(number, name, kind, behind):
        return {"_id": number, "name": name, "health": 1.0, "state": kind,
                "stateStr": "PRIMARY" if kind == 1 else "SECONDARY",
                "optime": {"ts": Ts(at - int(behind), 1), "t": Long(1)},
                "optimeDate": Date(int((at - behind) * 1000))}
    return {"set": node.name, "date": stamp(), "myState": 1, "term": Long(1),
            "members": [{**member(0, "127.0.0.1:%d" % node.port, 1, 0), "self": True},
                        member(1, "127.0.0.1:1", 2, lag)], "ok": 1.0}


def cmd_get_parameter(node, db, body):
    known = {"featureCompatibilityVersion": {"version": "%d.%d" % node.cluster.version[:2]}}
    out = {k: v for k, v in known.items() if k in body or body.get("getParameter") == "*"}
    if not out:
        raise Failure(72, "InvalidOptions", "no option found to get")
    return {**out, "ok": 1.0}


def cmd_list_shards(node, db, body):
    return {"shards": [Raw(r) for r in node.cluster.config_docs("shards")], "ok": 1.0}


def cmd_isdbgrid(node, db, body):
    if not node.is_router:
        raise Failure(59, "CommandNotFound", "no such command: 'isdbgrid'")
    return {"isdbgrid": 1.0, "hostname": "stand-in", "ok": 1.0}


def cmd_coll_mod(node, db, body):
    coll = need_coll(node, namespace(db, body))
    names = ("validator", "validationLevel", "validationAction", "expireAfterSeconds", "viewOn",
             "pipeline")
    coll.options.update({k: body[k] for k in names if k in body})
    return {"ok": 1.0}


def cmd_cleanup_orphaned(node, db, body):
    coll = need_coll(node, body["cleanupOrphaned"])
    part = coll.part(node.name)
    for rec in [r for r in part.recs.values() if r.gone]:
        part.take_out(rec, rec.gone)
    return {"ok": 1.0}


def cmd_whatsmyuri(node, db, body):
    return {"you": "127.0.0.1:1", "ok": 1.0}


def cmd_start_session(node, db, body):
    return {"id": {"id": Bin(4, os.urandom(16))}, "timeoutMinutes": 30, "ok": 1.0}


ADMIN_COMMANDS = {
    "hello": cmd_hello, "isMaster": cmd_hello, "ismaster": cmd_hello, "ping": cmd_ok,
    "buildInfo": cmd_build_info, "buildinfo": cmd_build_info, "endSessions": cmd_ok,
    "refreshSessions": cmd_ok, "startSession": cmd_start_session, "killSessions": cmd_ok,
    "connectionStatus": cmd_connection_status, "saslStart": cmd_sasl_start,
    "listCollections": cmd_list_collections, "listIndexes": cmd_list_indexes,
    "createIndexes": cmd_create_indexes, "dropIndexes": cmd_drop_indexes, "create": cmd_create,
    "drop": cmd_drop, "dropDatabase": cmd_drop_database, "listDatabases": cmd_list_databases,
    "collStats": cmd_coll_stats, "dbStats": cmd_db_stats, "dataSize": cmd_data_size,
    "datasize": cmd_data_size, "explain": cmd_explain, "enableSharding": cmd_enable_sharding,
    "shardCollection": cmd_shard_collection, "moveChunk": cmd_move_chunk,
    "moveRange": cmd_move_chunk, "split": cmd_split, "mergeChunks": cmd_merge_chunks,
    "refineCollectionShardKey": cmd_refine, "reshardCollection": cmd_reshard,
    "movePrimary": cmd_move_primary, "balancerStart": cmd_balancer_start,
    "balancerStop": cmd_balancer_stop, "balancerStatus": cmd_balancer_status,
    "currentOp": cmd_current_op, "serverStatus": cmd_server_status,
    "replSetGetStatus": cmd_repl_set_status, "getParameter": cmd_get_parameter,
    "listShards": cmd_list_shards, "whatsmyuri": cmd_whatsmyuri,
    "isdbgrid": cmd_isdbgrid, "collMod": cmd_coll_mod, "cleanupOrphaned": cmd_cleanup_orphaned,
    "flushRouterConfig": cmd_ok, "setFeatureCompatibilityVersion": cmd_ok,
}
ROUTER_ONLY = {"enableSharding", "shardCollection", "split", "mergeChunks", "movePrimary",
               "balancerStart", "balancerStop", "balancerStatus", "refineCollectionShardKey",
               "reshardCollection", "moveRange", "listShards", "flushRouterConfig"}
ADMIN_ONLY = ROUTER_ONLY | {"moveChunk", "listDatabases", "currentOp", "replSetGetStatus",
                            "getParameter"}
