# SPDX-License-Identifier: Apache-2.0
"""Three peers with three kinds of store, one collection on all of them: what is written through any
is read through any, and stands in the databases where `route` says. A database goes away and comes
back, is killed, a peer is killed; every replica holds everything in the end.

points_store.py DROVER SQL_SERVER_SH POSTGRES_FOLDER POSTGRES_URL MARIADB_FOLDER MARIADB_URL
Started by test_points_store.sh."""
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from urllib.parse import unquote, urlsplit

from cluster_lib import (Asker, Cluster, Counted, Lost, WaitedInVain, count, promote, same, truth,
                         upsert, values, wait_for)

CONTROL, PG_DIR, PG_URL, MARIA_DIR, MARIA_URL = sys.argv[2:7]
C = "points"
PASSWORD = unquote(urlsplit(PG_URL).password)
SECRETS = (PASSWORD, urlsplit(PG_URL).password)
SQLITE, POSTGRES, MARIADB = 1, 2, 3  # the peers


def control(verb, folder):
    subprocess.run(["bash", CONTROL, verb, folder], check=True)


def without_password(url, option):
    u = urlsplit(url)
    return f"{u.scheme}://{u.username}@{u.hostname}:{u.port}{u.path}?{option}"


def store_options(peer):
    return {SQLITE: (), POSTGRES: ("--points-store",
                                   without_password(PG_URL, "password_env=POINTS_PASSWORD")),
            MARIADB: ("--points-store", MARIA_URL)}[peer.number]


# --- what an application does with the answer of `route` -------------------------------------------
def look(store, table):
    """{id as hex: (version, document)} of a table, read past drover."""
    u = urlsplit(store)
    if u.scheme == "sqlite":
        db = sqlite3.connect(f"file:{u.path}?mode=ro", uri=True)
        try:
            rows = db.execute(f'SELECT hex(id), version, doc FROM "{table}"').fetchall()
        finally:
            db.close()
        return {r[0].lower(): (r[1], r[2]) for r in rows}
    database = u.path[1:]
    if u.scheme == "postgres":
        text = "SELECT encode(id, 'hex'), version, coalesce(doc, '-') FROM " + table
        args = ["psql", "-h", u.hostname, "-p", str(u.port), "-U", "drover", "-d", database, "-qAtX",
                "-F", "\t", "-c", text]
    else:
        text = "SELECT lower(hex(id)), version, coalesce(doc, '-') FROM " + table
        args = ["mariadb", "--no-defaults", "--protocol=tcp", "-h", u.hostname, "-P", str(u.port),
                "-u", "drover", "-N", "-B", "-r", database, "-e", text]
    out = subprocess.run(args, check=True, capture_output=True, text=True,
                         env={**os.environ, "PGPASSWORD": PASSWORD, "MYSQL_PWD": PASSWORD}).stdout
    rows = [line.split("\t") for line in out.splitlines()]
    return {r[0]: (int(r[1]), None if r[2] == "-" else r[2]) for r in rows}


def key_of(number):
    return f"00{number:016x}"


def route(peer, ids):
    status, result, error = peer.ask("POST", f"/collections/{C}/route", {"ids": list(ids)})
    if status != 200:
        raise Lost(f"route of {peer}: {status} {error}")
    return result


def tables(peer, ids):
    """{shard: {peer: (store, table)}} as `route` answers for these ids."""
    return {r["shard_id"]: {x["peer_id"]: (x["store"], x["table"]) for x in r["replicas"]}
            for r in route(peer, ids)}


def check_rows(what, peer, present, absent=()):
    """Every id is in each of its three tables, and nowhere else; deleted ones are not alive."""
    where = route(peer, list(present) + list(absent))
    seen = {}
    bad = []
    for r in where:
        for x in r["replicas"]:
            at = (x["store"], x["table"])
            if at not in seen:
                seen[at] = look(*at)
            doc = seen[at].get(key_of(r["id"]), (0, None))[1]
            if (doc is not None) != (r["id"] in present):
                bad.append((r["id"], x["peer_id"]))
    truth(f"{what}: every row is where route says", not bad, bad[:10])
    live = {}
    for (store, table), rows in seen.items():
        kind = urlsplit(store).scheme
        live[kind] = live.get(kind, 0) + sum(doc is not None for _, doc in rows.values())
    same(f"{what}: and nowhere else", live,
         {k: len(present) for k in ("sqlite", "postgres", "mysql")})
    for shard, replicas in tables(peer, present).items():
        found = [seen[at] for at in replicas.values()]
        truth(f"{what}: the replicas of shard {shard} are equal, versions and deletions too",
              len(found) == 3 and all(f == found[0] for f in found),
              [sorted(f.items())[:3] for f in found])


def states(peer):
    got = peer.get(f"/collections/{C}/cluster")
    return {(s["shard_id"], s.get("peer_id", got["peer_id"])): s["state"]
            for s in got["local_shards"] + got["remote_shards"]}


def all_active(cluster):
    def are():
        try:
            return all(len(s) == 12 and set(s.values()) == {"Active"}
                       for s in map(states, cluster.alive()))
        except Lost:
            return False
    return are


def write(peer, ids, value, key=None):
    """Until it is confirmed: a replica that has just failed makes the others try once more."""
    def ask():
        body = {"points": [{"id": i, "vector": [i % 97, 1], "payload": {"v": value}} for i in ids]}
        if key:
            body["shard_key"] = key
        try:
            return peer.ask("PUT", f"/collections/{C}/points", body)[0] == 200
        except Lost:
            return False
    wait_for(f"a write through {peer}", ask)


# --- the cases -------------------------------------------------------------------------------------
def written_and_read_through_each(cluster):
    cluster.create(C, shards=4, replicas=3, write_consistency_factor=2)
    for p in cluster.peers:
        ids = range(p.number * 100, p.number * 100 + 50)
        same(f"an upsert through {p}", upsert(p.asker, C, ids, p.number)[0], 200)
    wanted = {i: i // 100 for n in (1, 2, 3) for i in range(n * 100, n * 100 + 50)}
    for p in cluster.peers:
        same(f"all is read through {p}", values(p.asker, C, wanted), wanted)
        same(f"all is counted through {p}", count(p.asker, C), len(wanted))
    check_rows("written through each", cluster.peers[0], set(wanted))
    answers = [tables(p, wanted) for p in cluster.peers]
    truth("each peer names the same places", answers[0] == answers[1] == answers[2], answers[:1])
    kinds = {n: {urlsplit(r[n][0]).scheme for r in answers[0].values()} for n in (1, 2, 3)}
    same("each on its own store", kinds, {1: {"sqlite"}, 2: {"postgres"}, 3: {"mysql"}})
    return set(wanted)


def no_secret_is_told(cluster):
    texts = []
    for p in cluster.peers:
        texts += [repr(route(p, range(100, 120))), repr(p.info()), repr(p.inside("state")),
                  repr(p.get(f"/collections/{C}/cluster"))]
        with open(p.log, encoding="utf-8", errors="replace") as f:
            texts.append(f.read())
        with open(f"/proc/{p.process.pid}/cmdline", encoding="utf-8") as f:
            texts.append(f.read())
        for folder, _, names in os.walk(os.path.join(p.dir, "cluster")):
            for name in names:
                with open(os.path.join(folder, name), encoding="latin-1") as f:
                    texts.append(f.read())
    truth("no answer, log, file or command line has the password",
          not any(s in t for s in SECRETS for t in texts))


def a_database_goes_and_comes_back(cluster, ids):
    one, two, three = cluster.peers
    control("halt", PG_DIR)
    same("the shard key is made while a database is down", promote(one, C)[0], 200)
    new = set(range(1000, 1100))
    write(one, sorted(new), 4)
    write(three, range(100, 120), 5)
    write(two, range(2000, 2010), 6)  # through the peer whose store is away
    new |= set(range(2000, 2010))
    gone = set(range(300, 310))
    wait_for("a deletion", lambda: one.ask("POST", f"/collections/{C}/points/delete",
                                           {"points": sorted(gone)})[0] == 200)
    ids = (ids | new) - gone
    truth("the replicas on it are Dead", {s for (_, n), s in states(one).items() if n == POSTGRES}
          & {"Dead", "Recovery", "Partial"}, states(one))
    for p in cluster.peers:
        same(f"all is read through {p} meanwhile", set(values(p.asker, C, ids | gone)), ids)
        same(f"the new value through {p}", set(values(p.asker, C, range(100, 120)).values()), {5})
    control("again", PG_DIR)
    wait_for("the replicas are whole again", all_active(cluster), 90)
    check_rows("after the database came back", one, ids, gone)
    return ids, gone


def killed_under_load(cluster, ids, gone):
    one, two, three = cluster.peers
    is_over = threading.Event()
    confirmed = set()

    def load(number, peer):
        asker = Asker(peer.host, peer.port)
        at = number * 10000
        while not is_over.is_set():
            try:
                if upsert(asker, C, [at, at + 1], number)[0] == 200:
                    confirmed.update((at, at + 1))
            except Lost:
                time.sleep(0.05)
            at += 2
        asker.close()
    writers = [threading.Thread(target=load, args=(n, p)) for n, p in ((1, one), (3, three))]
    for t in writers:
        t.start()
    wait_for("writes", lambda: len(confirmed) > 40)
    control("crash", MARIA_DIR)
    before = len(confirmed)
    wait_for("writes without MariaDB", lambda: len(confirmed) > before + 40, 40)
    control("again", MARIA_DIR)
    wait_for("MariaDB's replicas are whole again", all_active(cluster), 90)
    before = len(confirmed)
    two.process.send_signal(signal.SIGKILL)
    two.kill()
    wait_for("writes without peer 2", lambda: len(confirmed) > before + 40, 40)
    two.start(env={"POINTS_PASSWORD": PASSWORD}, more=store_options(two))
    wait_for("peer 2 is ready", two.is_ready, 60)
    wait_for("peer 2's replicas are whole again", all_active(cluster), 90)
    is_over.set()
    for t in writers:
        t.join()
    wait_for("all is whole", all_active(cluster), 90)
    ids = ids | confirmed
    for p in cluster.peers:
        found = set(values(p.asker, C, ids | gone))
        truth(f"nothing confirmed is missing through {p}", found == ids, sorted(ids - found)[:10])
    # Writes that were not confirmed may be there: what is there is wanted, by its own reading.
    maybe = {i for n in (1, 3) for i in range(n * 10000, max(confirmed | {n * 10000}) + 200)}
    there = ids | {i for i in values(one.asker, C, sorted(maybe - ids))}
    check_rows("after all was killed", one, there, gone)


def stores_that_are_refused(cluster):
    two = cluster.peers[1]
    same("peer 2 ends", two.stop(), 0)

    def refused(what, data, options, said, more=("--raft-id", "2")):
        got = subprocess.run([sys.argv[1], "serve", "--data", data, "--listen", f"127.0.0.1:{two.port}",
                              "--raft-listen", f"127.0.0.1:{two.raft}", *more, "--tokens",
                              f"{cluster.top}/tokens", "--peer-token-file", f"{cluster.top}/peer",
                              *options], capture_output=True, text=True, timeout=60, check=False,
                             env={**os.environ, "POINTS_PASSWORD": PASSWORD})
        truth(f"{what} is refused", got.returncode != 0 and said in got.stderr,
              (got.returncode, got.stderr))
        truth(f"{what}: without the password", not any(s in got.stderr for s in SECRETS))
    refused("peer 2 without its database", two.dir, (), "are in a database")
    refused("peer 2 with peer 3's database", two.dir, ("--points-store", MARIA_URL), "of peer 3")
    refused("a new peer with peer 2's database", os.path.join(cluster.top, "new"),
            store_options(two), "of peer 2", ("--raft-id", "9", "--bootstrap"))
    two.start(env={"POINTS_PASSWORD": PASSWORD}, more=store_options(two))
    wait_for("peer 2 is ready", two.is_ready, 60)
    wait_for("all is whole", all_active(cluster), 90)


def a_deleted_collection_leaves_no_tables(cluster):
    one = cluster.peers[0]
    where = tables(one, range(100, 200))
    same("four shards have rows", len(where), 4)
    same("the collection is deleted", one.ask("DELETE", f"/collections/{C}")[0], 200)

    def are_gone():
        for replicas in where.values():
            for store, table in replicas.values():
                try:
                    look(store, table)
                    return False
                except (subprocess.CalledProcessError, sqlite3.OperationalError):
                    pass
        return True
    truth("no table is left", wait_for("the tables are gone", are_gone))


def main():
    cluster = Cluster(3)
    os.environ["POINTS_PASSWORD"] = PASSWORD
    try:
        cluster.start(store_options)
        ids = written_and_read_through_each(cluster)
        no_secret_is_told(cluster)
        ids, gone = a_database_goes_and_comes_back(cluster, ids)
        killed_under_load(cluster, ids, gone)
        stores_that_are_refused(cluster)
        no_secret_is_told(cluster)
        a_deleted_collection_leaves_no_tables(cluster)
    except (WaitedInVain, Lost) as e:
        truth(str(e), False)
    finally:
        if Counted.failed:
            for p in cluster.peers:
                print(f"--- {p}\n{p.tail(25)}", flush=True)
        cluster.close()
    print(f"points_store: {Counted.checks - Counted.failed} passed, {Counted.failed} failed")
    return 1 if Counted.failed else 0


def on_term(*_):
    raise KeyboardInterrupt


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, on_term)
    sys.exit(main())
