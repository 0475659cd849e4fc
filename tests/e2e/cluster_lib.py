# SPDX-License-Identifier: Apache-2.0
"""Peers of a catalog cluster as processes: start, ask, kill, compare. For cluster.py and
cluster_faults.py."""
import http.client
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

ADMIN, READER = "admin-0123456789abcdef", "reader-0123456789abcdef"
DROVER = os.path.abspath(sys.argv[1])
READY_SECONDS, AGREE_SECONDS = 20, 20


class Counted:
    """What was looked at so far, and how often it was not so."""
    checks = failed = 0


def truth(what, is_true, more=""):
    Counted.checks += 1
    if "TIMES" in os.environ:
        print(f"     {time.monotonic() % 1000:7.2f} {what}", flush=True)
    if not is_true:
        Counted.failed += 1
        print(f"FAIL {what} {more}", flush=True)
    return bool(is_true)


def same(what, found, wanted):
    return truth(what, found == wanted, f"(found {found!r}, not {wanted!r})")


class WaitedInVain(Exception):
    pass


def wait_for(what, is_true, seconds=READY_SECONDS):
    """Poll until it holds; what does not hold in time ends the case."""
    limit = time.monotonic() + seconds
    while True:
        found = is_true()
        if found:
            return found
        if time.monotonic() > limit:
            raise WaitedInVain(f"{what}: not within {seconds} s")
        time.sleep(0.02)


def free_ports(count, host="127.0.0.1"):
    held = [socket.socket() for _ in range(count)]
    try:
        for s in held:
            s.bind((host, 0))
        return [s.getsockname()[1] for s in held]
    finally:
        for s in held:
            s.close()


class Lost(Exception):
    """No answer came: the connection was refused, cut, or took too long."""


class Asker:
    """One connection that is used again; not for several threads."""

    def __init__(self, host, port, token=ADMIN):
        self.host, self.port, self.token, self.connection = host, port, token, None

    def ask(self, method, path, body=None, seconds=15):
        """(HTTP status, what is under "result", text of the failure)"""
        headers = {"api-key": self.token, "content-type": "application/json"}
        text = None if body is None else json.dumps(body)
        try:
            if self.connection is not None and self.is_closed():
                self.close()
            if self.connection is None:
                self.connection = http.client.HTTPConnection(self.host, self.port, timeout=seconds)
            if self.connection.sock is not None:
                self.connection.sock.settimeout(seconds)
            self.connection.request(method, path, text, headers)
            answer = self.connection.getresponse()
            got = json.loads(answer.read())
            if answer.will_close:
                self.close()
        except (OSError, http.client.HTTPException, ValueError) as e:
            self.close()
            raise Lost(f"{method} {path} at {self.host}:{self.port}: {e!r}") from e
        error = got["status"]["error"] if isinstance(got.get("status"), dict) else ""
        return answer.status, got.get("result"), error

    def is_closed(self):
        """By the peer, while nothing was asked."""
        sock = self.connection.sock
        return sock is not None and bool(select.select([sock], [], [], 0)[0])

    def close(self):
        if self.connection is not None:
            self.connection.close()
            self.connection = None


class Peer:
    def __init__(self, cluster, number, host="127.0.0.1", netns=None):
        self.cluster, self.number, self.host, self.netns = cluster, number, host, netns
        self.dir = os.path.join(cluster.top, f"d{number}")
        self.log = os.path.join(cluster.top, f"log{number}")
        self.port, self.raft = (8350, 8351) if netns else free_ports(2)
        self.process, self.has_started, self.rpc = None, False, None
        self.asker = Asker(host, self.port)
        self.inner = Asker(host, self.port, cluster.secret)

    def __repr__(self):
        return f"peer {self.number}"

    @property
    def url(self):
        return f"http://{self.host}:{self.port}"

    def start(self, join=None, fault=None, env=None, more=()):
        top = self.cluster.top
        args = [DROVER, "serve", "--data", self.dir, "--listen", f"{self.host}:{self.port}",
                "--raft-listen", f"{self.host}:{self.raft}", "--raft-id", str(self.number),
                "--tokens", f"{top}/tokens", "--peer-token-file", f"{top}/peer", *more]
        if not self.has_started:
            args += ["--join", join.url] if join else ["--bootstrap"]
        full = {**os.environ, **(env or {})}
        if fault:
            full["DROVER_FAULT"] = fault
        if self.netns:
            args = ["ip", "netns", "exec", self.netns, *args]
        with open(self.log, "ab") as out:
            # pylint: disable=consider-using-with
            self.process = subprocess.Popen(args, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                                            env=full)
        self.has_started = True
        return self

    def is_alive(self):
        return self.process is not None and self.process.poll() is None

    def kill(self):
        if self.is_alive():
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
            self.process.wait()
        self.process = None

    def stop(self, seconds=20):
        """Ends by SIGTERM, and the exit code is looked at."""
        self.process.terminate()
        code = self.process.wait(seconds)
        self.process = None
        return code

    def has_died(self):
        """By SIGKILL, which is what fault points do."""
        if self.process is None or self.process.poll() is None:
            return False
        code = self.process.returncode
        self.process = None
        return same(f"{self} was killed by its fault point", code, -signal.SIGKILL)

    def ask(self, method, path, body=None, seconds=15):
        return self.asker.ask(method, path, body, seconds)

    def get(self, path):
        status, result, error = self.ask("GET", path)
        if status != 200:
            raise Lost(f"GET {path} of {self}: {status} {error}")
        return result

    def is_ready(self):
        try:
            return self.is_alive() and self.asker.ask("GET", "/readyz", None, 3)[0] == 200
        except (Lost, TypeError, AttributeError):
            return False

    def inside(self, name, body=None, seconds=15):
        """What peers ask each other: the inner result."""
        status, result, error = self.inner.ask("POST", f"/internal/{name}", body or {}, seconds)
        if status != 200 or result["class"] != "ok":
            raise Lost(f"{name} of {self}: {status} {error} {result}")
        return result["result"]

    def state(self):
        got = self.inside("state", seconds=5)
        return got["index"], got["hash"]

    def info(self):
        return self.get("/cluster")

    def files(self, collection):
        """Both files as JSON, without the log index, which entries that change nothing may move."""
        folder = os.path.join(self.dir, "cluster", "collections", collection)
        found = []
        for name in ("shard_key_mapping.json", "collection_config.json"):
            try:
                with open(os.path.join(folder, name), encoding="utf-8") as f:
                    one = json.load(f)
            except (OSError, ValueError) as e:
                one = repr(e)
            if isinstance(one, dict):
                one.pop("log_index", None)
            found.append(one)
        return found

    def leftovers(self, collection):
        folder = os.path.join(self.dir, "cluster", "collections", collection)
        return sorted(set(os.listdir(folder)) - {"shard_key_mapping.json", "collection_config.json"})

    def tail(self, lines=12):
        try:
            with open(self.log, encoding="utf-8", errors="replace") as f:
                return "".join(f.readlines()[-lines:])
        except OSError:
            return ""


class Cluster:
    all_tops = []

    def __init__(self, count, hosts=None, namespaces=None):
        self.top = tempfile.mkdtemp(prefix="drover-cluster-")
        Cluster.all_tops.append(self)
        self.secret = "peer-secret-0123456789abcdef"
        self.write("tokens", f"read:{READER}\nadmin:root:{ADMIN}\n")
        self.write("peer", self.secret + "\n")
        self.write("token", ADMIN + "\n")
        self.peers = []
        for i in range(count):
            self.peers.append(Peer(self, i + 1, hosts[i] if hosts else "127.0.0.1",
                                   namespaces[i] if namespaces else None))

    def write(self, name, text):
        path = os.path.join(self.top, name)
        with open(path, "w", encoding="utf-8") as f:
            f.write(text)
        os.chmod(path, 0o600)
        return path

    def add(self):
        self.peers.append(Peer(self, len(self.peers) + 1))
        return self.peers[-1]

    def start(self, more=None):
        """All peers, each a voter and ready."""
        for p in self.peers:
            p.start(self.peers[0] if p.number > 1 else None, more=more(p) if more else ())
            if p.number == 1:
                wait_for(f"{p} is ready", p.is_ready)
        for p in self.peers:
            wait_for(f"{p} is ready", p.is_ready)
        self.wait_members([p.number for p in self.peers])
        return self

    def alive(self):
        return [p for p in self.peers if p.is_alive()]

    def wait_members(self, numbers, peers=None):
        def are_in():
            try:
                for p in peers or self.alive():
                    info = p.info()
                    if sorted(map(int, info["peers"])) != sorted(numbers) or \
                            not info["raft_info"]["is_voter"]:
                        return False
                return True
            except Lost:
                return False
        wait_for(f"the members are {numbers}", are_in)

    def leader(self, among=None, seconds=READY_SECONDS):
        """The peer that says so itself, and nobody else of a later term."""
        def find():
            best = None
            for p in among or self.alive():
                try:
                    raft = p.asker.ask("GET", "/cluster", None, 3)[1]["raft_info"]
                except (Lost, TypeError):
                    continue
                if raft["role"] == "Leader" and (best is None or raft["term"] > best[0]):
                    best = raft["term"], p
            return best and best[1]
        return wait_for("a leader", find, seconds)

    def give_leadership(self, peer):
        def ask():
            if self.leader() is peer:
                return True
            try:
                peer.ask("POST", f"/cluster/leader/{peer.number}")
            except Lost:
                pass
            return False
        wait_for(f"{peer} leads", ask)

    def followers(self):
        leader = self.leader()
        return [p for p in self.alive() if p is not leader]

    def agree(self, what, peers=None):
        """All have applied the same entries, to the same state."""
        peers = peers or self.alive()
        found = {}

        def are_equal():
            try:
                found.update({p.number: p.state() for p in peers})
            except Lost as e:
                found["lost"] = str(e)
                return False
            found.pop("lost", None)
            return len(set(found.values())) == 1
        try:
            wait_for(what, are_equal, AGREE_SECONDS)
        except WaitedInVain:
            pass
        return truth(f"{what}: equal states", len(set(found.values())) == 1, found)

    def agree_on(self, what, collection, peers=None):
        """As agree(); and what peers show of the collection and have in its files is equal."""
        peers = peers or self.alive()
        self.agree(what, peers)
        shown = [p.get(f"/collections/{collection}")["config"]["params"] for p in peers]
        truth(f"{what}: equal answers", all(s == shown[0] for s in shown), shown)
        files = [p.files(collection) for p in peers]
        truth(f"{what}: equal files", all(f == files[0] for f in files), files)
        truth(f"{what}: the files say what the peers say", isinstance(files[0][1], dict) and all(
            files[0][1]["params"].get(k) == shown[0].get(k)
            for k in ("sharding_method", "default_shard_key", "shard_number")), (files[0], shown[0]))
        return shown[0]

    def create(self, name, shards=4, replicas=3, peer=None, **more):
        p = peer or self.alive()[0]
        got = p.ask("PUT", f"/collections/{name}", {"vectors": {"size": 2, "distance": "Dot"},
                                                    "shard_number": shards,
                                                    "replication_factor": replicas, **more})
        same(f"{name} is created", got[0], 200)

    def close(self):
        for p in self.peers:
            p.kill()
            p.asker.close()
            p.inner.close()
        shutil.rmtree(self.top, ignore_errors=True)


def promote(peer, name, key=None, seconds=15, timeout=None):
    path = f"/collections/{name}/sharding/promote_to_custom"
    if timeout:
        path += f"?timeout={timeout}"
    return peer.ask("POST", path, {} if key is None else {"default_shard_key": key}, seconds)


def promote_until_done(peer, name, key="default"):
    """Repeats what may be repeated: while peers come back, it is refused for a moment."""
    got = [None]

    def ask():
        try:
            got[0] = promote(peer, name, key)
        except Lost as e:
            got[0] = (0, None, str(e))
        return got[0][0] == 200
    try:
        wait_for("the promotion is repeated", ask)
    except WaitedInVain:
        pass
    same(f"{name}: repeated with the same key", got[0][0::2], (200, ""))
    return got[0][1]


def refuse_another_key(peer, name, key="other"):
    status, _, error = promote(peer, name, key)
    truth(f"{name}: another key is refused with the reason",
          status == 400 and error.startswith("Bad request: ") and "default" in error, (status, error))


def is_custom(peer, name):
    params = peer.get(f"/collections/{name}")["config"]["params"]
    return params.get("sharding_method") == "custom"


def routes(peer, name, ids):
    status, result, error = peer.ask("POST", f"/collections/{name}/route", {"ids": list(ids)})
    if status != 200:
        raise Lost(f"route of {peer}: {status} {error}")
    return {r["id"]: (r["shard_id"], tuple(x["peer_id"] for x in r["replicas"])) for r in result}


def upsert(asker, name, ids, value=0, seconds=15):
    return asker.ask("PUT", f"/collections/{name}/points",
                     {"points": [{"id": i, "vector": [i % 97, 1], "payload": {"v": value}}
                                 for i in ids]}, seconds)


def count(asker, name):
    status, result, error = asker.ask("POST", f"/collections/{name}/points/count", {"exact": True})
    return result["count"] if status == 200 else error


def values(asker, name, ids):
    status, result, error = asker.ask("POST", f"/collections/{name}/points",
                                      {"ids": list(ids), "with_payload": True})
    if status != 200:
        raise Lost(f"read of {name}: {status} {error}")
    return {p["id"]: p["payload"]["v"] for p in result}


def in_parallel(*calls):
    """Runs them at the same time; their results in order, exceptions as results."""
    results = [None] * len(calls)

    def run(i):
        try:
            results[i] = calls[i]()
        except Exception as e:  # told as a result
            results[i] = e
    threads = [threading.Thread(target=run, args=(i,)) for i in range(len(calls))]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    return results


def close_all():
    for c in list(Cluster.all_tops):
        c.close()
