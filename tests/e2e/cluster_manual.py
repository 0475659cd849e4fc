# SPDX-License-Identifier: Apache-2.0
"""Cases of cluster.py that follow what the manual says: docs/promotion-rollback.md step by step, the
command line and gRPC."""
import json
import os
import re
import shutil
import subprocess

from cluster_lib import (DROVER, READER, Cluster, Lost, count, free_ports, is_custom, promote, routes,
                         same, truth, upsert, values, wait_for)

HERE = os.path.dirname(os.path.abspath(__file__))
MANUAL = os.path.join(HERE, "..", "..", "docs", "promotion-rollback.md")
IS_LONG = False
three = None  # set by cluster.py


def run(peer, *words, token=None, timeout=30):
    """A command of the manual: (exit code, all it printed)"""
    env = {k: v for k, v in os.environ.items() if k != "DROVER_TOKEN"}
    args = [DROVER, *words, "--server", peer.url]
    if token:
        env["DROVER_TOKEN"] = token
    else:
        args += ["--token-file", os.path.join(peer.cluster.top, "token")]
    done = subprocess.run(args, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          timeout=timeout, check=False)
    return done.returncode, done.stdout + done.stderr


def works(peer, *words):
    code, text = run(peer, *words)
    same("drover " + " ".join(words)[:60], (code, text if code else ""), (0, ""))
    return text


# ---- 9: the way back ----

class Manual:
    """The page; each step that the test goes must be written there in these words."""

    def __init__(self):
        with open(MANUAL, encoding="utf-8") as f:
            self.text = " ".join(f.read().split())

    def says(self, words):
        truth(f"the manual says: {words}", words in self.text)


def copy_key(peer, name, to, key=None):
    """Step 4: page by page, without the shard key."""
    offset = None
    while True:
        body = {"limit": 1000, "with_payload": True, "with_vector": True}
        if offset is not None:
            body["offset"] = offset
        if key is not None:
            body["shard_key"] = key
        page = peer.ask("POST", f"/collections/{name}/points/scroll", body)
        same("a page", (page[0], page[2]), (200, ""))
        points = [{k: p[k] for k in ("id", "vector", "payload")} for p in page[1]["points"]]
        if points:
            same("is written", peer.ask("PUT", f"/collections/{to}/points?wait=true",
                                        {"points": points})[0], 200)
        offset = page[1]["next_page_offset"]
        if offset is None:
            return


def change_alias(peer, *actions):
    status, _, error = peer.ask("POST", "/collections/aliases", {"actions": list(actions)})
    same("the alias", (status, error), (200, ""))


def follow_the_copy(m, c, p):
    m.says("drover collection show NAME --json >before.json")
    before = json.loads(works(p, "collection", "show", "books", "--json"))["info"]
    params = before["config"]["params"]
    m.says('`POST /collections/NAME/points/count` with `{"exact": true}`')
    had = count(p, "books")
    m.says("`drover collection create NAME-auto --sharding-method auto --shard-number N "
           "--replication-factor R --write-consistency W`")
    works(p, "collection", "create", "books-auto", "--sharding-method", "auto", "--shard-number",
          str(params["shard_number"]), "--replication-factor", str(params["replication_factor"]),
          "--write-consistency", str(params["write_consistency_factor"]), "--vectors",
          json.dumps(params["vectors"]))
    m.says('`{"limit": 1000, "with_payload": true, "with_vector": true, "offset": ...}`')
    m.says("PUT /collections/NAME-auto/points?wait=true")
    m.says("scroll that key **last**, one key at a time with `\"shard_key\"`")
    for key in ("archive", "default"):
        copy_key(p, "books", "books-auto", key)
    m.says("They differ by the ids that several keys shared, and by nothing else")
    same("counts differ by the shared ids", count(p, "books-auto"), had - 50)
    ids = range(0, 1600, 7)
    wanted = {i: 2 if i < 1500 else 3 for i in ids if i < 1550}
    same("a sample, and the key that came last wins", values(p, "books-auto", ids), wanted)
    alias = {"create_alias": {"collection_name": "books-auto", "alias_name": "library"}}
    m.says('{"actions": [{"create_alias": {"collection_name": "NAME-auto", "alias_name": "ALIAS"}}]}')
    change_alias(p, alias)
    for q in c.peers:
        same(f"the alias leads to the copy at {q}", count(q, "library"), had - 50)
    m.says("as long as step 7 is not done, point the alias at the old collection again")
    back = {"create_alias": {"collection_name": "books", "alias_name": "library"}}
    change_alias(p, back)
    same("and back", count(p, "library"), had)
    change_alias(p, alias)
    m.says("drover collection delete NAME")
    works(p, "collection", "delete", "books", "--yes")
    m.says("Clients that use NAME itself need its name free: delete the old collection first "
           "(step 7), then make the alias NAME")
    change_alias(p, {"create_alias": {"collection_name": "books-auto", "alias_name": "books"}})
    for q in c.peers:
        same(f"the old name leads to the copy at {q}", count(q, "books"), had - 50)
        truth(f"auto at {q}", not is_custom(q, "books"))
    c.agree_on("the copy", "books-auto")
    same("without a shard key", upsert(p, "books", [90001])[0], 200)


def case_the_manual_way_back_by_a_copy():
    c = three()
    m, p = Manual(), c.peers[1]
    c.create("books", shards=3, replicas=2, write_consistency_factor=2)
    for at in (0, 750):
        same("points", upsert(p, "books", range(at, at + 750), 2)[0], 200)
    works(p, "collection", "promote", "books", "--yes")
    works(p, "collection", "keys", "books", "--create", "archive", "--shards", "1")
    same("points under the other key", p.ask("PUT", "/collections/books/points", {
        "shard_key": "archive", "points": [
            {"id": i, "vector": [1, 2], "payload": {"v": 3}} for i in range(1450, 1550)]})[0], 200)
    m.says("drover collection keys NAME --drop KEY")
    follow_the_copy(m, c, p)


def case_the_manual_way_back_by_the_whole_catalog():
    m = Manual()
    c = Cluster(3).start()
    c.create("whole", shards=4, replicas=3)
    same("points", upsert(c.peers[0], "whole", range(300))[0], 200)
    before = routes(c.peers[0], "whole", range(300))
    for p in c.peers:  # the copy of the data folders, from one moment
        same(f"{p} ends", p.stop(), 0)
    for p in c.peers:
        shutil.copytree(f"{p.dir}/cluster", f"{p.dir}/copy")
        p.start()
    for p in c.peers:
        wait_for(f"{p} is ready", p.is_ready)
    works(c.peers[2], "collection", "promote", "whole", "--yes")
    c.agree_on("promoted", "whole")
    same("lost in the end", upsert(c.peers[0], "whole", range(300, 350))[0], 200)
    m.says("Stop **all** peers: `kill -TERM`, and wait until they have ended.")
    for p in c.peers:
        same(f"{p} ends", p.stop(), 0)
    m.says("`mv DIR/cluster DIR/cluster.promoted`")
    for p in c.peers:
        os.rename(f"{p.dir}/cluster", f"{p.dir}/cluster.promoted")
    m.says("On every peer put back its own copy of `DIR/cluster`")
    for p in c.peers:
        os.rename(f"{p.dir}/copy", f"{p.dir}/cluster")
    m.says("Start the peers with the options they had, without `--bootstrap` and `--join`.")
    for p in c.peers:
        p.start()
    for p in c.peers:
        wait_for(f"{p} is ready", p.is_ready)
    m.says("`drover collection show NAME` on each must say `sharding auto`; compare the count of points.")
    for p in c.peers:
        truth(f"auto at {p}", "sharding auto" in works(p, "collection", "show", "whole"))
        same(f"count at {p}", count(p, "whole"), 300)
        same(f"routes at {p}", routes(p, "whole", range(300)), before)
    params = c.agree_on("put back", "whole")
    same("nothing of the promotion is left", params.get("default_shard_key"), None)
    listed = c.peers[2].get("/collections/whole/sharding/promotions")["promotions"]
    truth("and no record says so", not any(x["promoted"] for x in listed), listed)
    same("it can be promoted again", promote(c.peers[0], "whole", "again")[0], 200)
    c.close()


# ---- the record ----

def case_the_record_of_promotions_outlives_the_peers():
    c = three()
    c.create("told", shards=2, replicas=3)
    c.create("died", shards=2, replicas=3)
    path = "/collections/{}/sharding/promotions"
    asked, other = c.peers[0], c.peers[1]
    same("promoted", promote(asked, "told", "eu")[0], 200)
    status, _, error = promote(asked, "told", "us")
    same("refused", status, 400)
    first = asked.get(path.format("told"))["promotions"]
    same("newest first", [(x["phase"], x["promoted"], x["default_shard_key"], x["error"])
                          for x in first],
         [("failed", False, "us", error), ("done", True, "eu", None)])
    asked.kill()
    asked.start(fault="cluster.promote.before_propose=kill")
    wait_for("back", asked.is_ready)
    same("the record is as it was", asked.get(path.format("told"))["promotions"], first)
    try:
        promote(asked, "died")
    except Lost:
        pass
    wait_for("died in a promotion", asked.has_died)
    asked.start()
    wait_for("back", asked.is_ready)
    listed = asked.get(path.format("died"))["promotions"]
    same("what was cut is told so", [(x["phase"], x["promoted"]) for x in listed],
         [("unknown", False)])
    truth("with the reason", listed and "stopped" in (listed[0]["error"] or ""), listed)
    for p in c.peers:
        done = [x for x in p.get(path.format("told"))["promotions"] if x["phase"] == "done"]
        same(f"{p} says what matters", [(x["promoted"], x["default_shard_key"]) for x in done],
             [(True, "eu")])
    numbers = [x["id"] for x in first]
    same("promoted elsewhere", promote(other, "died")[0], 200)
    same("numbers go on", asked.ask("POST", "/collections/died/sharding/promote_to_custom", {})[0],
         200)
    newest = asked.get(path.format("died"))["promotions"][0]
    truth("with one that is new", newest["id"] > max(numbers), (newest, numbers))
    with open(os.path.join(asked.dir, "cluster", "promotions.json"), "w", encoding="utf-8") as f:
        f.write("{\"v\": 1, \"promotions\": [")
    asked.kill()
    asked.start()
    wait_for("a damaged record stops nobody", asked.is_ready)
    done = asked.get(path.format("told"))["promotions"]
    same("and the catalog still knows", [(x["phase"], x["default_shard_key"]) for x in done],
         [("done", "eu")])


# ---- 10: the other doors ----

def case_the_command_line_promotes_through_any_peer():
    c = three()
    follower = c.followers()[0]
    c.create("cli", shards=3, replicas=2)
    promote_cli = ("collection", "promote")

    def exits(what, wanted, pattern, *words, **how):
        code, text = run(how.pop("peer", follower), *words, **how)
        truth(what, code == wanted and re.search(pattern, text), (code, text))
    exits("no promotion without a yes", 3, "", *promote_cli, "cli")
    exits("nor with a reader's token", 5, "Forbidden", *promote_cli, "cli", "--yes", token=READER)
    exits("nor without one", 5, "", *promote_cli, "cli", "--yes", token="wrong")
    exits("nor of what there is not", 11, "doesn't exist", *promote_cli, "none", "--yes")
    exits("nor with an empty key", 4, "", *promote_cli, "cli", "--yes", "--default-shard-key", "")
    truth("nothing has happened", not is_custom(follower, "cli"))
    exits("by a follower", 0, "promoted: 3 shards under the key \"?eu", *promote_cli, "cli", "--yes",
          "--default-shard-key", "eu")
    exits("repeated, by the leader", 0, "was promoted already", *promote_cli, "cli", "--yes",
          "--default-shard-key", "eu", peer=c.leader())
    exits("with another key", 3, "eu", *promote_cli, "cli", "--yes")
    exits("shown", 0, "sharding custom", "collection", "show", "cli")
    c.agree_on("by the command line", "cli")
    gone = c.peers[2]
    gone.kill()
    exits("no peer there", 5, "", "collection", "list", peer=gone)
    c.create("cli2", shards=1, peer=follower if follower is not gone else c.peers[0])
    exits("one peer is away", 5, f"peer {gone.number}", *promote_cli, "cli2", "--yes",
          peer=c.alive()[0])
    gone.start()
    wait_for("it is back", gone.is_ready)


def npm(c):
    """The client of others, as package-lock.json pins it; its folder, or why there is none."""
    folder = os.path.join(c.top, "node")
    os.mkdir(folder)
    for name in ("package.json", "package-lock.json"):
        shutil.copy(os.path.join(HERE, "catalog", name), folder)
    shutil.copy(os.path.join(HERE, "cluster_grpc.mjs"), folder)
    done = subprocess.run(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund",
                           "--prefer-offline"], cwd=folder, capture_output=True, text=True,
                          timeout=100, check=False)
    return folder if done.returncode == 0 else None, done.stderr[-400:]


def case_grpc_promotes_through_a_follower():
    c = three()
    if shutil.which("npm") is None:
        print("SKIPPED: gRPC against a follower, since there is no npm here", flush=True)
        return
    folder, why = npm(c)
    if not truth("the gRPC client is installed", folder, why):
        return
    follower = c.followers()[0]
    follower.rpc = free_ports(1)[0]
    follower.kill()
    follower.start(more=["--grpc-listen", f"127.0.0.1:{follower.rpc}"])
    wait_for("the follower is back", follower.is_ready)
    c.create("rpc", shards=3, replicas=3)
    same("points", upsert(c.peers[0], "rpc", range(100))[0], 200)
    before = routes(c.peers[0], "rpc", range(100))
    truth("it follows", c.leader() is not follower)
    done = subprocess.run(["node", "cluster_grpc.mjs", f"127.0.0.1:{follower.rpc}",
                           os.path.join(c.top, "token"), os.path.join(c.top, "peer"), "rpc",
                           os.path.join(HERE, "..", "..", "api", "proto")],
                          cwd=folder, capture_output=True, text=True, timeout=60, check=False)
    same("gRPC against a follower", (done.returncode, done.stderr[-800:]), (0, ""))
    c.agree_on("by gRPC", "rpc")
    for p in c.peers:
        same(f"routes at {p}", routes(p, "rpc", range(100)), before)
