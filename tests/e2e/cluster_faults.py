# SPDX-License-Identifier: Apache-2.0
"""Cases of cluster.py in which peers are killed, left behind, or cut off."""
import ctypes
import glob
import os
import re
import signal
import subprocess
import threading
import time

from cluster_lib import (Cluster, Lost, count, is_custom, in_parallel, promote, promote_until_done,
                         refuse_another_key, routes, same, truth, upsert, wait_for, Asker)

HERE = os.path.dirname(os.path.abspath(__file__))
IS_LONG = False
three = None  # set by cluster.py


def restart(peer, fault=None, env=None):
    peer.kill()
    peer.start(fault=fault, env=env)
    wait_for(f"{peer} is back", peer.is_ready)


# ---- 2: the leader dies ----

# Where, and whether the promotion goes on without the dead one.
PHASES = [("cluster.promote.before_propose", False), ("catalog.mapping-due", True),
          ("catalog.mapping-written", True), ("catalog.config-written", True),
          ("cluster.promote.before_settle", True)]


def wait_same_method(c, name, is_promoted):
    def is_so():
        try:
            return all(is_custom(p, name) == is_promoted for p in c.alive())
        except Lost:
            return False
    wait_for(f"{name} is {'promoted' if is_promoted else 'auto'} everywhere", is_so)


def kill_leader_at(c, victim, point, is_promoted, asked=None):
    name = f"die-{point.rsplit('.', 1)[1]}{'-asked' if asked else ''}"
    c.create(name, shards=4, replicas=3)
    same("points", upsert(victim, name, range(100))[0], 200)
    before = routes(victim, name, range(100))
    restart(victim, fault=f"{point}=kill")
    c.give_leadership(victim)
    if asked is None:
        try:
            got = promote(victim, name)
            truth(f"{point}: the asked one dies before it answers", False, got)
        except Lost:
            pass
    else:
        status, _, error = promote(asked, name)
        truth(f"{point}: the one that is not dead says what it knows", status == 200 or (
            status == 500 and "Waiting for consensus operation commit failed" in error),
              (status, error))
    wait_for(f"{victim} dies at {point}", victim.has_died)
    rest = c.alive()
    c.leader()
    c.agree(f"{point}: without the dead one")
    wait_same_method(c, name, is_promoted)
    if is_promoted:
        refuse_another_key(rest[0], name)
    restart(victim)
    wait_same_method(c, name, is_promoted)
    c.agree_on(f"{point}: with the dead one", name)
    done = promote_until_done(victim, name)
    same(f"{point}: repeated, it is {'not ' if is_promoted else ''}news", done["promoted"],
         not is_promoted)
    refuse_another_key(victim, name)
    c.agree_on(f"{point}: in the end", name)
    for p in c.peers:
        same(f"{point}: routes at {p}", routes(p, name, range(100)), before)
        same(f"{point}: count at {p}", count(p, name), 100)
        same(f"{point}: no half file at {p}", p.leftovers(name), [])
        done = [x for x in p.get(f"/collections/{name}/sharding/promotions")["promotions"]
                if x["phase"] == "done"]
        truth(f"{point}: {p} knows that it is promoted", done and done[0]["promoted"]
              or any(x["default_shard_key"] == "default" for x in done), done)


def case_the_leader_dies_at_each_step_of_a_promotion():
    c = three()
    for i, (point, is_promoted) in enumerate(PHASES):
        kill_leader_at(c, c.peers[i % 3], point, is_promoted)
    kill_leader_at(c, c.peers[2], "catalog.mapping-written", True, asked=c.peers[0])


def case_a_full_disk_stops_one_peer_until_it_is_started_again():
    c = three()
    victim = c.followers()[0]
    c.create("full", shards=3, replicas=3)
    restart(victim, fault="catalog.config-written=full")
    other = next(p for p in c.peers if p is not victim)
    same("the others promote", promote(other, "full")[0], 200)
    wait_for("the peer stops", lambda: "err" in victim.info()["consensus_thread_status"])
    wait_for("and is not ready", lambda: not victim.is_ready())
    truth("it says why", "full disk" in victim.info()["consensus_thread_status"]["err"])
    c.create("next", shards=1, peer=other)
    status, _, error = promote(other, "next")
    truth("no promotion while it is stopped", status == 503 and f"peer {victim.number}" in error
          or "stopped its consensus" in error, (status, error))
    restart(victim)
    c.agree_on("started again", "full")


# ---- 3: killed at every write of the two files ----

def shim(c):
    path = os.path.join(c.top, "kill.so")
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", path,
                    os.path.join(HERE, "cluster_kill.c"), "-ldl"], check=True)
    return path


def judge_crash(victim, name, n):
    """What the disk says right after: custom never without its whole mapping."""
    mapping, config = victim.files(name)
    truth(f"write {n}: the config is whole", isinstance(config, dict), config)
    truth(f"write {n}: the mapping is whole", isinstance(mapping, list), mapping)
    method = isinstance(config, dict) and config["params"].get("sharding_method", "auto")
    if method == "custom":
        same(f"write {n}: custom has its mapping", mapping,
             [{"key": "default", "shard_ids": [0, 1, 2]}])
    return method, bool(mapping)


def has_applied(peer, name):
    try:
        return is_custom(peer, name)
    except Lost:
        return False


def kill_at_write(c, victim, arm, env, n, again=0):
    """False: it did not meet so many writes."""
    name = f"write{n}-{again}"
    other = next(p for p in c.peers if p is not victim)
    c.create(name, shards=3, replicas=3, peer=other)
    same("points", upsert(other, name, range(30))[0], 200)
    with open(arm, "w", encoding="utf-8") as f:
        f.write(str(n))
    done = promote_until_done(other, name)
    truth(f"write {n}: the others promote", done and done["promoted"], done)
    wait_for(f"{victim} dies or has written all", lambda: not victim.is_alive() or
             has_applied(victim, name))
    is_over = victim.is_alive()
    found = None
    if not is_over:
        victim.has_died()
        found = judge_crash(victim, name, n)
    if again and not is_over:  # the repair is killed too
        with open(arm, "w", encoding="utf-8") as f:
            f.write(str(again))
        victim.start(env=env)
        wait_for("it dies while repairing, or is ready", lambda: not victim.is_alive() or
                 victim.is_ready())
        if not victim.is_alive():
            victim.has_died()
            judge_crash(victim, name, n)
    os.unlink(arm)
    if not victim.is_alive():
        victim.start(env=env)
    wait_for(f"{victim} is back", victim.is_ready)
    c.agree_on(f"write {n}: repaired", name)
    same(f"write {n}: nothing is left behind", victim.leftovers(name), [])
    same(f"write {n}: points", count(victim, name), 30)
    return not is_over, found


def case_killed_at_every_write_of_the_two_files():
    c = three()
    arm = os.path.join(c.top, "arm")
    env = {"LD_PRELOAD": shim(c), "CLUSTER_KILL": arm}
    victim = c.followers()[0]
    restart(victim, env=env)
    n, seen = 0, set()
    while True:
        n += 1
        goes_on, found = kill_at_write(c, victim, arm, env, n)
        if not goes_on:
            break
        seen.add(found)
    truth("there were as many writes as two files need", 10 <= n <= 60, n)
    same("all three kinds of crash were met", seen, {("auto", False), ("auto", True),
                                                     ("custom", True)})
    pairs = [(a, b) for a in range(1, n) for b in range(1, n)] if IS_LONG else [(1, 3), (n // 2, 4)]
    for at, again in pairs:
        kill_at_write(c, victim, arm, env, at, again)
    restart(victim)


# ---- 4: left behind ----

def many_entries(c, count_wanted):
    """Entries that change nothing, until the log is compacted."""
    leader = c.leader()

    def run():
        asker = Asker(leader.host, leader.port, c.secret)
        for _ in range(count_wanted // 8):
            asker.ask("POST", "/internal/propose",
                      {"entry": "{\"op\":\"nop\",\"v\":1}", "timeout_ms": 5000})
        asker.close()
    failures = [x for x in in_parallel(*[run] * 8) if x]
    same("entries are written", failures, [])


def promote_behind_a_kill(asker, name, victims):
    """The asked peer has seen everybody well, then some die, and then it proposes. It was started
    with a delay there."""
    got = []
    own = Asker(asker.host, asker.port)
    path = f"/collections/{name}/sharding/promote_to_custom?timeout=20"
    thread = threading.Thread(target=lambda: got.extend(in_parallel(
        lambda: own.ask("POST", path, {}, 30))))
    thread.start()

    def is_proposing():
        listed = asker.get(f"/collections/{name}/sharding/promotions")["promotions"]
        return any(p["phase"] == "proposing" for p in listed)
    try:
        wait_for(f"{asker} is about to propose", is_proposing)
        victims()
    finally:
        thread.join()
        own.close()
    truth("promoted although some are away", isinstance(got[0], tuple) and got[0][0] == 200, got)


def shard_files(peer):
    return {f: os.stat(f).st_ino
            for f in glob.glob(os.path.join(peer.dir, "cluster", "shards", "*", "*.db"))}


def points_here(peer, name):
    return sorted((s["shard_id"], s["points_count"])
                  for s in peer.get(f"/collections/{name}/cluster")["local_shards"])


def restored_index(peer):
    with open(peer.log, encoding="utf-8", errors="replace") as f:
        found = re.findall(r"raft snapshot restored.*?index\D+(\d+)", f.read())
    return int(found[-1]) if found else 0


def case_a_follower_comes_back_from_a_snapshot():
    c = Cluster(3).start()
    c.create("behind", shards=4, replicas=3)
    same("points", upsert(c.peers[0], "behind", range(400))[0], 200)
    follower = c.followers()[-1]
    asker = next(p for p in c.peers if p is not follower)
    restart(asker, fault="cluster.promote.before_propose=delay:600")
    before = routes(follower, "behind", range(400))
    files, points = shard_files(follower), points_here(follower, "behind")
    promote_behind_a_kill(asker, "behind", follower.kill)
    many_entries(c, 1400)
    applied = asker.state()[0]
    follower.start()
    wait_for("the follower is back", follower.is_ready)
    truth("from a snapshot", restored_index(follower) > applied - 1400, (restored_index(follower),
                                                                       applied))
    same("changed in place", is_custom(follower, "behind"), True)
    same("its files are those it had", shard_files(follower), files)
    same("its points are those it had", points_here(follower, "behind"), points)
    same("routes", routes(follower, "behind", range(400)), before)
    same("count", count(follower, "behind"), 400)
    c.agree_on("back from a snapshot", "behind")
    same("no copy was given up", asker.get("/collections/behind")["status"], "green")
    # Once more, with writes that it misses.
    c.create("missed", shards=4, replicas=3)
    same("points", upsert(c.peers[0], "missed", range(300))[0], 200)
    restart(asker, fault="cluster.promote.before_propose=delay:600")
    promote_behind_a_kill(asker, "missed", follower.kill)
    same("writes go on", upsert(asker, "missed", range(300, 500))[0], 200)
    many_entries(c, 1400)
    follower.start()
    wait_for("it is whole again", lambda: asker.get("/collections/missed")["status"] == "green", 40)
    wait_for("it is ready", follower.is_ready)
    c.agree_on("back after writes", "missed")
    for p in c.peers:
        same(f"count at {p}", sum(n for _, n in points_here(p, "missed")), 500)
    c.close()


# ---- 6: cut off ----

NETNS = f"drover{os.getpid()}-"
made_namespaces = []


def run_ip(*args, ns=None):
    cmd = ["ip", *(["-n", NETNS + ns] if ns else []), *args]
    return subprocess.run(cmd, check=True, capture_output=True, text=True)


def in_namespace(ns, *args):
    return subprocess.run(["ip", "netns", "exec", NETNS + ns, *args], check=True,
                          capture_output=True, text=True)


def close_namespaces():
    while made_namespaces:
        subprocess.run(["ip", "netns", "del", NETNS + made_namespaces.pop()], check=False,
                       capture_output=True)


def allow_loopback(ns, device):
    """Addresses of 127/8 outside the loopback device: Raft listens on no others by default."""
    for key, value in (("route_localnet", 1), ("rp_filter", 0)):
        in_namespace(ns, "sh", "-c", f"echo {value} >/proc/sys/net/ipv4/conf/{device}/{key}")


def make_network():
    """A switch in namespace s with the address .254, and three hosts at it."""
    for ns in ("s", "1", "2", "3"):
        run_ip("netns", "add", NETNS + ns)
        made_namespaces.append(ns)
        run_ip("link", "set", "lo", "up", ns=ns)
        run_ip("addr", "del", "127.0.0.1/8", "dev", "lo", ns=ns)
        allow_loopback(ns, "all")
    run_ip("link", "add", "sw", "type", "bridge", ns="s")
    allow_loopback("s", "sw")
    run_ip("addr", "add", "127.77.0.254/24", "dev", "sw", ns="s")
    run_ip("link", "set", "sw", "up", ns="s")
    for i in ("1", "2", "3"):
        run_ip("link", "add", f"v{i}", "type", "veth", "peer", "name", "eth0", "netns", NETNS + i,
               ns="s")
        allow_loopback("s", f"v{i}")
        allow_loopback(i, "eth0")
        run_ip("addr", "add", f"127.77.0.{i}/24", "dev", "eth0", ns=i)
        run_ip("link", "set", "eth0", "up", ns=i)
        run_ip("link", "set", f"v{i}", "master", "sw", "up", ns="s")


def cut_off(peer):
    """Nobody hears it any more but this test, which is on the wire to it."""
    i = peer.number
    run_ip("link", "set", f"v{i}", "nomaster", ns="s")
    run_ip("route", "add", f"127.77.0.{i}/32", "dev", f"v{i}", "src", "127.77.0.254", ns="s")
    peer.asker.close()


def heal(peer):
    i = peer.number
    run_ip("route", "del", f"127.77.0.{i}/32", "dev", f"v{i}", ns="s")
    run_ip("link", "set", f"v{i}", "master", "sw", ns="s")
    peer.asker.close()


def enter(ns):
    """This thread, its sockets and its children, from now on."""
    fd = os.open(f"/run/netns/{NETNS}{ns}", os.O_RDONLY)
    try:
        if ctypes.CDLL(None, use_errno=True).setns(fd, 0x40000000) != 0:
            raise OSError(ctypes.get_errno(), "setns")
    finally:
        os.close(fd)


def refused_here(peer, what, method, path, body, words, seconds):
    own, begun = Asker(peer.host, peer.port), time.monotonic()
    try:
        status, _, error = own.ask(method, path, body, 30)
    except Lost as e:
        status, error = 0, str(e)
    own.close()
    truth(f"{what}: refused", status in (500, 503) and any(w in error for w in words),
          (status, error))
    truth(f"{what}: in time", time.monotonic() - begun < seconds + 3)


def check_cut_off(old, asker):
    """On both sides, all at the same time."""
    there = "/collections/cut"
    points = {"points": [{"id": i, "vector": [1, 1], "payload": {"v": 0}} for i in range(1000, 1040)]}
    to_custom = "/collections/cut2/sharding/promote_to_custom"
    quorum = ("no quorum", "commit failed", "leader", "reachable", "replica", "peer")
    for failure in in_parallel(
            lambda: refused_here(old, "promotion", "POST", f"{to_custom}?timeout=2", {}, quorum, 2),
            lambda: refused_here(old, "creation", "PUT", "/collections/ghost?timeout=2", {}, quorum, 2),
            lambda: refused_here(old, "write", "PUT", f"{there}/points?timeout=2", points, quorum, 8),
            lambda: refused_here(asker, "a promotion that begins now", "POST", to_custom, {},
                                 (f"peer {old.number}",), 5),
            lambda: same("writes go on", upsert(Asker(asker.host, asker.port), "cut",
                                                range(200, 300), seconds=30)[0], 200)):
        if isinstance(failure, Exception):
            raise failure


def play_partition(make):
    c = make()
    c.create("cut", shards=4, replicas=3)
    c.create("cut2", shards=4, replicas=3)
    same("points", upsert(c.peers[0], "cut", range(200))[0], 200)
    old = c.leader()
    asker = next(p for p in c.peers if p is not old)
    restart(asker, fault="cluster.promote.before_propose=delay:600")
    old = c.leader()
    truth("the asked one does not lead", old is not asker)
    rest = [p for p in c.peers if p is not old]
    promote_behind_a_kill(asker, "cut", lambda: cut_off(old))
    truth("another one leads", c.leader(rest) in rest)
    c.agree("the two that see each other", rest)
    same("promoted there", [is_custom(p, "cut") for p in rest], [True, True])
    same("not at the cut off one", is_custom(old, "cut"), False)
    check_cut_off(old, asker)
    heal(old)
    wait_for("healed", old.is_ready, 40)
    c.agree_on("healed", "cut")
    same("what could not be committed is nowhere",
         [p.ask("GET", "/collections/ghost")[0] for p in c.peers], [404] * 3)
    promote_until_done(old, "cut2")
    c.agree_on("promoted by the one that was cut off", "cut2")
    wait_for("no copy is missing", lambda: asker.get("/collections/cut")["status"] == "green", 40)
    for p in c.peers:
        same(f"count at {p}", count(p, "cut"), 300)
    c.close()


def case_a_leader_that_is_cut_off_commits_nothing():
    try:
        make_network()
    except (OSError, subprocess.CalledProcessError) as e:
        close_namespaces()
        print(f"SKIPPED: a leader that is cut off, since network namespaces cannot be made here: {e} "
              f"{getattr(e, 'stderr', '')}", flush=True)
        return

    def make():
        enter("s")
        hosts = [f"127.77.0.{i}" for i in (1, 2, 3)]
        return Cluster(3, hosts, [NETNS + str(i) for i in (1, 2, 3)]).start()
    got = in_parallel(lambda: play_partition(make))
    close_namespaces()
    if got[0] is not None:
        raise got[0]


def case_a_leader_that_slept_learns_what_was_decided():
    """It is stopped, not cut off: what was handed to it waits with it, and nobody knows."""
    c = three()
    c.create("sleep", shards=4, replicas=3)
    old = c.leader()
    asker = next(p for p in c.peers if p is not old)
    os.kill(old.process.pid, signal.SIGSTOP)
    rest = [p for p in c.peers if p is not old]
    truth("another one leads", c.leader(rest) in rest)
    own = Asker(asker.host, asker.port)
    for what, got in zip(("creation", "promotion"), in_parallel(
            lambda: own.ask("PUT", "/collections/sleep2?timeout=5", {}),
            lambda: promote(asker, "sleep", timeout=5))):
        truth(f"{what}: done, or refused with a reason", isinstance(got, tuple) and (
            got[0] == 200 if what == "creation" else
            got[0] == 503 and f"peer {old.number}" in got[2]), got)
    own.close()
    os.kill(old.process.pid, signal.SIGCONT)
    wait_for("it follows", lambda: old.info()["raft_info"]["role"] == "Follower")
    c.agree_on("awake", "sleep")
    same("it knows what was decided", old.ask("GET", "/collections/sleep2")[0], 200)
    promote_until_done(old, "sleep")
    c.agree_on("promoted by the one that slept", "sleep")
