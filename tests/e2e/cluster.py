#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The catalog as a whole: several `drover serve` processes, asked over HTTP, gRPC and the command
line. cluster.py DROVER [--long] [CASE]"""
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
import traceback
from concurrent.futures import ThreadPoolExecutor

import cluster_faults
import cluster_manual
from cluster_lib import (Asker, Cluster, Counted, close_all, count, in_parallel, is_custom, promote,
                         promote_until_done, refuse_another_key, routes, same, truth, upsert, values,
                         wait_for)

IS_LONG = "--long" in sys.argv
IDS = 20000 if IS_LONG else 5000
EVERY = 8  # points of one write
shared = None


def three():
    """Three peers that several cases use, each with collections of its own."""
    global shared
    if shared is None:
        shared = Cluster(3).start()
    for p in shared.peers:
        if not p.is_alive():
            p.start()
    for p in shared.peers:
        wait_for(f"{p} is ready", p.is_ready)
    return shared


# ---- 1: reads and writes go on ----

class Client(threading.Thread):
    """Writes and reads as fast as it can through one peer, and remembers what was confirmed."""

    def __init__(self, peer, name, first_id):
        super().__init__()
        self.asker, self.name, self.first = Asker(peer.host, peer.port), name, first_id
        self.confirmed, self.sent, self.rounds = {}, 0, 0
        self.failures, self.is_over, self.random = [], False, random.Random(first_id)

    def run(self):
        while not self.is_over:
            try:
                self.step()
            except Exception as e:  # counted as a failure and looked at in the end
                self.failures.append(repr(e))
            self.rounds += 1

    def step(self):
        if self.confirmed and self.rounds % 3 == 0:  # some are written again
            ids = self.random.sample(sorted(self.confirmed), min(EVERY, len(self.confirmed)))
        else:
            ids = range(self.first + self.sent, self.first + self.sent + EVERY)
            self.sent += EVERY
        status, _, error = upsert(self.asker, self.name, ids, self.rounds)
        if status != 200:
            self.failures.append(f"write: {status} {error}")
            return
        self.confirmed.update({i: self.rounds for i in ids})
        some = self.random.sample(sorted(self.confirmed), min(20, len(self.confirmed)))
        found = values(self.asker, self.name, some)
        wrong = {i: found.get(i) for i in some if found.get(i) != self.confirmed[i]}
        if wrong:
            self.failures.append(f"read: {wrong} instead of what was confirmed")
        if self.rounds % 5 == 0:
            got = count(self.asker, self.name)
            if not isinstance(got, int) or got < IDS + len(self.confirmed):
                self.failures.append(f"count: {got}, at least {IDS + len(self.confirmed)}")


def case_nothing_fails_while_a_collection_is_promoted():
    c = three()
    for replicas in (2, 3):
        name = f"busy{replicas}"
        c.create(name, shards=6, replicas=replicas)
        for at in range(0, IDS, 1000):
            same("points are written", upsert(c.peers[0], name, range(at, at + 1000))[0], 200)
        before = routes(c.peers[0], name, range(IDS))
        same("every id has a route", len(before), IDS)
        clients = [Client(c.peers[i], name, 10_000_000 * (i + 1)) for i in (0, 1)]
        for client in clients:
            client.start()
        try:
            wait_for("the clients are at it", lambda: all(x.rounds > 15 for x in clients))
            asked = [x.rounds for x in clients]
            status, result, error = promote(c.peers[2], name)
            same(f"rf {replicas}: promoted", (status, error, (result or {}).get("promoted")),
                 (200, "", True))
            wait_for("the clients go on", lambda: all(
                x.rounds > a + 15 for x, a in zip(clients, asked)))
        finally:
            for client in clients:
                client.is_over = True
            for client in clients:
                client.join()
        for client in clients:
            truth(f"rf {replicas}: nothing failed", not client.failures, client.failures[:3])
        for p in c.peers:
            same(f"rf {replicas}: all ids route as before, at {p}", routes(p, name, range(IDS)), before)
            same(f"rf {replicas}: count at {p}", count(p, name),
                 IDS + sum(len(x.confirmed) for x in clients))
            for client in clients:
                same(f"rf {replicas}: all confirmed writes, at {p}",
                     values(p, name, client.confirmed), client.confirmed)
        truth("custom", c.agree_on(f"rf {replicas}", name)["sharding_method"] == "custom")
        for client in clients:
            client.asker.close()


# ---- 5: the majority is gone ----

def case_without_a_majority_nothing_changes():
    c = Cluster(3).start()
    c.create("kept", shards=4, replicas=3)
    same("points", upsert(c.peers[0], "kept", range(200))[0], 200)
    stays = c.leader()
    gone = [p for p in c.peers if p is not stays]
    for p in gone:
        p.kill()
    wait_for("the leader steps down", lambda: stays.info()["raft_info"]["role"] != "Leader")
    points = {"points": [{"id": i, "vector": [1, 1], "payload": {"v": 1}} for i in range(200, 240)]}
    refused = cluster_faults.refused_here
    in_parallel(
        lambda: refused(stays, "promotion", "POST",
                        "/collections/kept/sharding/promote_to_custom?timeout=2", {},
                        ("no quorum",), 2),
        lambda: refused(stays, "creation", "PUT", "/collections/new?timeout=2", {},
                        ("leader is not established", "commit failed"), 2),
        lambda: refused(stays, "write", "PUT", "/collections/kept/points?timeout=2", points,
                        ("peer", "quorum", "leader", "replica"), 6))
    truth("still auto", not is_custom(stays, "kept"))
    same("reads go on", len(values(stays, "kept", range(200))), 200)
    gone[0].start()
    wait_for("one is back", gone[0].is_ready)
    c.leader()
    wait_for("writes are back", lambda: upsert(stays, "kept", range(200, 240))[0] == 200)
    same("creation is back", stays.ask("PUT", "/collections/new", {})[0], 200)
    refused(gone[0], "promotion with one peer away", "POST",
            "/collections/kept/sharding/promote_to_custom", {}, (f"peer {gone[1].number}",), 5)
    gone[1].start()
    wait_for("the last is back", gone[1].is_ready)
    promote_until_done(gone[1], "kept")
    c.agree_on("all are back", "kept")
    wait_for("the copies are whole again", lambda: stays.get("/collections/kept")["status"] == "green")
    for p in c.peers:
        same(f"count at {p}", count(p, "kept"), 240)
    c.close()


# ---- 7: at the same time ----

def one_round(c, name):
    c.create(name, shards=3, replicas=2)
    same("points", upsert(c.peers[0], name, range(60))[0], 200)
    route = c.peers[0].ask("POST", f"/collections/{name}/route", {"ids": list(range(60))})[1]
    at = route[0]
    holders = [r["peer_id"] for r in at["replicas"]]
    target = next(p.number for p in c.peers if p.number not in holders)
    a, b, d = c.peers
    own = [Asker(p.host, p.port) for p in (a, b, d, a)]
    late = [random.uniform(0, 0.02) for _ in own]  # now one is first, now another

    def ask(i, method, path, body):
        threading.Event().wait(late[i])
        return own[i].ask(method, path, body)
    to_custom = f"/collections/{name}/sharding/promote_to_custom"
    path = f"/collections/{name}"
    key, one, two, move = in_parallel(
        lambda: ask(0, "PUT", f"{path}/shards", {"shard_key": "eu"}),
        lambda: ask(1, "POST", to_custom, {"default_shard_key": "default"}),
        lambda: ask(2, "POST", to_custom, {"default_shard_key": "other"}),
        lambda: ask(3, "POST", f"{path}/cluster", {"replicate_shard": {
            "shard_id": at["shard_id"], "from_peer_id": holders[0], "to_peer_id": target}}))
    for asker in own:
        asker.close()
    for what, got in (("key", key), ("promotion", one), ("other promotion", two), ("transfer", move)):
        truth(f"{what}: done, or refused with a reason",
              isinstance(got, tuple) and (got[0] == 200 or (got[0] == 400 and len(got[2]) > 20)), got)
    done = [k for k, got in (("default", one), ("other", two))
            if isinstance(got, tuple) and got[0] == 200]
    truth("at most one key wins", len(done) <= 1, (one, two))
    truth("no key before the promotion", key[0] != 200 or done, (key, done))
    wait_for("the transfer ends", lambda: not a.get(f"{path}/cluster")["shard_transfers"])
    if not done:
        truth("only the transfer is in the way of a promotion", move[0] == 200 and all(
            "transfer" in got[2] or "stable" in got[2] or "replica" in got[2] for got in (one, two)),
              (one, two, move))
        promote_until_done(b, name)
    params = c.agree_on(name, name)
    same("the winner's key", params["default_shard_key"], done[0] if done else "default")
    for p in c.peers:
        keys = {k["key"] for k in p.get(f"{path}/shards")["shard_keys"]}
        same(f"keys at {p}", keys, {params["default_shard_key"]} | ({"eu"} if key[0] == 200 else set()))
        same(f"count at {p}", count(p, name), 60)
        same(f"copies at {p}", sum(len(r["replicas"]) for r in p.ask(
            "POST", f"{path}/route", {"ids": list(range(60)), "shard_key": params[
                "default_shard_key"]})[1] if r["shard_id"] == at["shard_id"]),
            sum(r["shard_id"] == at["shard_id"] for r in route) * (3 if move[0] == 200 else 2))
    return bool(done), key[0] == 200, move[0] == 200


def case_changes_at_the_same_time_are_serialised():
    c = three()
    seen = [one_round(c, f"race{i}") for i in range(40 if IS_LONG else 8)]
    truth("something was done in every round", all(promoted or moved for promoted, _, moved in seen), seen)


# ---- 8: five peers ----

def case_five_peers_lose_two_and_change_members():
    c = Cluster(5).start()
    c.create("five", shards=5, replicas=5)
    same("points", upsert(c.peers[0], "five", range(300))[0], 200)
    before = routes(c.peers[0], "five", range(300))
    asker = c.peers[0]
    asker.kill()
    asker.start(fault="cluster.promote.before_propose=delay:700")
    wait_for("the asked one is ready", asker.is_ready)
    leader = c.leader()
    victims = [p for p in c.peers if p not in (asker, leader)][:1] + ([leader] if leader is not asker
                                                                    else [c.peers[4]])
    cluster_faults.promote_behind_a_kill(asker, "five", lambda: [p.kill() for p in victims])
    refuse_another_key(asker, "five")
    same("writes go on", upsert(asker, "five", range(300, 400))[0], 200)
    for p in victims:
        p.start()
    for p in victims:
        wait_for(f"{p} is back", p.is_ready, 40)
    c.agree_on("two are back", "five")
    after = routes(c.peers[3], "five", range(300))
    truth("the same shards", all(after[i][0] == before[i][0] for i in before))
    to = c.followers()[0]
    c.give_leadership(to)
    same("leadership was handed over", c.leader(), to)
    leaving = c.followers()[-1]
    rest = [p for p in c.peers if p is not leaving]
    path = f"/cluster/peer/{leaving.number}"
    status, _, error = rest[0].ask("DELETE", path)
    truth("a peer with shards stays", status == 400 and "shards on it" in error, (status, error))
    wait_for("no copy is missing", lambda: rest[0].get("/collections/five")["status"] == "green")
    same("by force it goes", rest[0].ask("DELETE", f"{path}?force=true")[0], 200)
    leaving.kill()
    c.wait_members([p.number for p in rest], rest)
    new = c.add().start(join=rest[1])
    wait_for("the new one is ready", new.is_ready)
    c.wait_members([p.number for p in rest + [new]], rest + [new])
    wait_for("it is asked to hold a shard", lambda: rest[0].ask("POST", "/collections/five/cluster", {
        "replicate_shard": {"shard_id": 0, "from_peer_id": rest[0].number,
                            "to_peer_id": new.number}})[0] == 200)
    wait_for("it holds the shard", lambda: any(
        s["shard_id"] == 0 and s["state"] == "Active"
        for s in new.get("/collections/five/cluster")["local_shards"]))
    for p in rest + [new]:
        same(f"count at {p}", count(p, "five"), 400)
    listed = new.get("/collections/five/sharding/promotions")["promotions"]
    truth("the new one knows of the promotion", any(
        x["promoted"] and x["default_shard_key"] == "default" for x in listed), listed)
    c.agree_on("after leaving and joining", "five", rest + [new])
    c.close()


def all_cases():
    found = {}
    for module in (sys.modules[__name__], cluster_faults, cluster_manual):
        found.update({n: f for n, f in vars(module).items() if n.startswith("case_")})
    return found


# Cases that mostly wait, in clusters of their own: two more processes run them meanwhile.
ASIDE = (
    ("case_a_leader_that_is_cut_off_commits_nothing", "case_five_peers_lose_two_and_change_members"),
    ("case_the_leader_dies_at_each_step_of_a_promotion", "case_without_a_majority_nothing_changes",
     "case_a_follower_comes_back_from_a_snapshot"),
)


def run_case(name, case):
    checks, failed, begun = Counted.checks, Counted.failed, time.monotonic()
    try:
        case()
    except Exception:  # a case that breaks has failed, the others go on
        Counted.failed += 1
        traceback.print_exc(file=sys.stdout)
    print(f"{name[5:].replace('_', ' ')}: {Counted.checks - checks} checks, "
          f"{Counted.failed - failed} failed, {time.monotonic() - begun:.1f} s", flush=True)
    if Counted.failed != failed and os.environ.get("LOGS"):
        for c in Cluster.all_tops:
            for p in c.peers:
                print(f"--- {p}\n{p.tail(30)}")
    for c in list(Cluster.all_tops):
        if c is not shared:
            c.close()
            Cluster.all_tops.remove(c)


def read_aside(process):
    """Its lines as they come; of its last one the numbers."""
    last = ""
    for line in process.stdout:
        if last:
            print(last, flush=True)
        last = line.rstrip()
    counted = re.fullmatch(r"(\d+) checks, (\d+) failed, .*", last)
    if process.wait() < 0 or not counted:
        print(last)
    return (int(counted[1]), int(counted[2])) if counted else (0, 1)


def main():
    only = [a for a in sys.argv[2:] if not a.startswith("--")]
    for module in (cluster_faults, cluster_manual):
        module.three, module.IS_LONG = three, IS_LONG
    begun, asides, pool = time.monotonic(), [], ThreadPoolExecutor(len(ASIDE))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(130))
    try:
        if not only:
            # pylint: disable=consider-using-with
            asides = [subprocess.Popen([sys.executable, __file__, *sys.argv[1:], *names], text=True,
                                       stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) for names in ASIDE]
        told = [pool.submit(read_aside, aside) for aside in asides]
        for name, case in all_cases().items():
            if not any(name in names for names in ASIDE) if not only else any(o in name for o in only):
                run_case(name, case)
        for checks, failed in [future.result() for future in told]:
            Counted.checks += checks
            Counted.failed += failed
    finally:
        for aside in asides:
            if aside.poll() is None:
                aside.terminate()
                aside.wait()
        cluster_faults.close_namespaces()
        close_all()
    print(f"{Counted.checks} checks, {Counted.failed} failed, {time.monotonic() - begun:.0f} s")
    return 1 if Counted.failed or not Counted.checks else 0


if __name__ == "__main__":
    sys.exit(main())
