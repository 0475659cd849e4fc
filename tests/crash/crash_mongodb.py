#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""crash.py's trials on MongoDB: kill at every fault point and at random moments, go on, compare.

usage: crash_mongodb.py BUILD [--random N] [--documents N] [--seed N] [--only POINT] [--lanes N]

Three jobs take turns: a database is emptied; emptied and dropped, with balancing stopped meanwhile; one of its
collections loses what a filter selects, with a temporary index. The cluster is the one that
support/mongo_server.sh finds (a real one, or the stand-in: one for each lane) and serves all trials: each puts its
documents back where they were, by the rollback that is tested. What must be there afterwards is told by a client of
the tests' own.
"""
import argparse
import os
import shutil
import subprocess
import sys
import time

sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.abspath(__file__))
SUPPORT = os.path.join(HERE, "..", "support")
sys.path.insert(0, HERE)
sys.path.insert(0, SUPPORT)

import crash  # noqa: E402
import mongo_tool  # noqa: E402
from crash import Failed, kill_at_points, kill_at_random, learn_points  # noqa: E402

TENANT, NEIGHBOUR = "acme_crash_drover", "globex_crash_drover"
KINDS = ("drop", "tables", "purge")
PURGED = {"v": {"$lt": 2}, "k": {"$lt": 60}}
JOBS = {
    "drop": '"status_database": "status_crash_drover"',
    "tables": '"drop_when_empty": true, "stop_balancer": true',
    "purge": '"collections": ["hashed"], "temp_index": true, "filter": {"v": {"$lt": 2}, "k": {"$lt": 60}}',
}


class Bench:
    """The cluster, the sample database and its neighbour."""
    kinds = KINDS

    def trial(self, kind, irreversible=False):
        return Trial(self, kind, irreversible)

    def __init__(self, build, documents):
        self.drover = os.path.join(build, "drover")
        self.documents = documents
        self.top = self.place = crash.folder()
        self.server = os.path.join(self.top, "server")
        started = subprocess.run([os.path.join(SUPPORT, "mongo_server.sh"), "start", self.server],
                                 check=True, capture_output=True, text=True).stdout
        self.where = dict(line.split("=", 1) for line in started.splitlines())
        self.client = mongo_tool.connect(self.where["ROUTER"])
        mongo_tool.make_world(self.client, NEIGHBOUR, 50)
        self.globex = mongo_tool.digest(self.client, NEIGHBOUR)
        self.acme = None
        self.renew()

    def renew(self):
        """The tenant anew; without the view, which would keep the database from being dropped."""
        mongo_tool.make_world(self.client, TENANT, self.documents)
        for name in ("seen", "system.views"):
            self.client.call(TENANT, {"drop": name})
        self.acme = mongo_tool.digest(self.client, TENANT)

    def stop(self):
        for name in (TENANT, NEIGHBOUR, "status_crash_drover"):
            self.client.run(name, {"dropDatabase": 1})
        self.client.close()
        subprocess.run([os.path.join(SUPPORT, "mongo_server.sh"), "stop", self.server], check=False)
        shutil.rmtree(self.top, ignore_errors=True)


class Trial(crash.Trial):
    """One data folder, one operation; the documents are there from the trial before, or anew."""

    def __init__(self, bench, kind="drop", irreversible=False):  # pylint: disable=super-init-not-called
        self.bench = bench
        self.kind = kind
        self.is_irreversible = irreversible
        self.dir = os.path.join(bench.top, "trial")
        shutil.rmtree(self.dir, ignore_errors=True)
        os.mkdir(self.dir)
        self.data = os.path.join(self.dir, "data")
        self.job = os.path.join(self.dir, "job.json")
        bench.client.run("status_crash_drover", {"dropDatabase": 1})
        if mongo_tool.digest(bench.client, TENANT) != bench.acme:
            bench.renew()
        with open(self.job, "w", encoding="utf-8") as f:
            f.write('{"kind": "mongodb.drop", %s, "store": "%s", "database": "%s", "irreversible": %s,'
                    ' "tuning": {"batch_items_max": 10}}'
                    % (JOBS[kind], bench.where["URI"], TENANT, "true" if irreversible else "false"))

    def run_whole(self):
        self.run_once()

    def now(self):
        return mongo_tool.digest(self.bench.client, TENANT)

    def check_gone(self):
        now = self.now()
        if self.kind == "tables" and now:
            raise Failed(f"not dropped: {sorted(now)}")
        if self.kind == "drop" and any(count for count, _ in now.values()):
            raise Failed(f"documents are left: {now}")
        if self.kind == "purge":
            if self.bench.client.find(TENANT, "hashed", PURGED):
                raise Failed("what the filter selects is left")
            if now["hashed"][0] != self.bench.acme["hashed"][0] - 60:
                raise Failed(f"{now['hashed'][0]} documents stay, not all that the filter does not select")
            if {k: v for k, v in now.items() if k != "hashed"} != \
                    {k: v for k, v in self.bench.acme.items() if k != "hashed"}:
                raise Failed("another collection was touched")
        self.check_tidy()
        self.check_counts()
        self.check_neighbour("")

    def check_counts(self):
        """The status documents have every document once; without an archive nobody can tell afterwards what
        the batches erased that were under way at a kill."""
        if self.kind != "drop":
            return
        tracking = self.bench.client.find("status_crash_drover", TENANT + "_decomm_status_tracking")
        total = sum(d["total_deleted"] for d in tracking)
        want = sum(count for count, _ in self.bench.acme.values())
        is_short = total < want and not self.is_irreversible
        if total > want or is_short or any(d["status"] != "completed" for d in tracking):
            raise Failed(f"status documents count {total} of {want}")

    def check_neighbour(self, how):
        if mongo_tool.digest(self.bench.client, NEIGHBOUR) != self.bench.globex:
            raise Failed("the neighbour was touched" + how)

    def check_tidy(self):
        for entry in self.bench.client.find("config", "collections"):
            if str(entry["_id"]).startswith(TENANT + ".") and not entry.get("dropped") and entry.get("noBalance"):
                raise Failed(f"{entry['_id']} is still kept from being balanced")
        for info in self.bench.client.all(TENANT, {"listCollections": 1}):
            for index in self.bench.client.all(TENANT, {"listIndexes": info["name"]}):
                if index["name"].startswith("drover"):
                    raise Failed("a temporary index was left behind")

    def check_back(self):
        self.check_tidy()
        now = self.now()
        if now != self.bench.acme:
            differ = [k for k in sorted(set(now) | set(self.bench.acme)) if now.get(k) != self.bench.acme.get(k)]
            raise Failed(f"the rollback did not restore byte for byte: {differ}")
        self.check_neighbour(" by the rollback")


def main():
    p = argparse.ArgumentParser()
    p.add_argument("build")
    p.add_argument("--random", type=int, default=40)
    p.add_argument("--documents", type=int, default=90)
    p.add_argument("--seed", type=int, default=int(time.time()))
    p.add_argument("--only")
    p.add_argument("--lanes", type=int, default=crash.LANES)
    args = p.parse_args()
    lanes = []
    passed = failed = kills = 0
    try:
        lanes.append(Bench(os.path.abspath(args.build), args.documents))
        kind = lanes[0].where["KIND"]
        print(f"crash: mongodb {kind}")
        if kind == "standin":
            lanes += [Bench(os.path.abspath(args.build), args.documents) for _ in range(args.lanes - 1)]
        points, took = {}, {}
        for kind in KINDS:
            points[kind], took[kind] = learn_points(lanes[0], kind)
        print(f"crash: {len(points['drop'][0])} fault points in a run, {len(points['drop'][1])} in a rollback")
        beyond = {kind: [points[kind][i] - points["drop"][i] for i in (0, 1)] for kind in KINDS if kind != "drop"}
        for kind, where, nths in (("drop", points["drop"], (1, 4)), ("tables", beyond["tables"], (1, 2)),
                                  ("purge", beyond["purge"], (1, 2))):
            done, bad, killed = kill_at_points(lanes, kind, where, args.only, nths)
            passed, failed, kills = passed + done, failed + bad, kills + killed
        done, bad, killed = kill_at_random(lanes, args.seed, took, 0 if args.only else args.random)
        passed, failed = passed + done, failed + bad
        print(f"crash: {kills + killed} kills, {killed} of them at random (seed {args.seed})")
    finally:
        for bench in lanes:
            bench.stop()
    print(f"{passed} passed, {failed} failed")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
