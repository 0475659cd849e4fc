#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Manticore's sharded tables on the command line, while writers write through the wrappers of all
nodes: table_manticore.py BUILD [--long] [CASE]

After each case every acknowledged row is found through every node's wrapper and in every copy, each
shard's cluster is primary and synced with exactly the catalog's holders, nothing else lies on any
node, and drover health is content."""
import os
import shutil
import sys
import tempfile
import time
import traceback
from concurrent.futures import ThreadPoolExecutor

from table_manticore_lib import COLUMNS, Case, Nodes, must
from table_lib import DONE, EARLY, INPUT_OR_REFUSED, REFUSED, ROLLED_BACK, UNHEALTHY, Failed

SHARDS = 3
DELAY_MS = 1200
LANES = 2  # sets of nodes that cases are run on side by side
# Of cases that come with several numbers of copies these are left to --long: each stays with one, and among those
# that stay are moves of single copies as well as of replicated ones.
LONG = {f"{name} rf {rf}" for name, rfs in {
    "drop and undo": (3,), "roll back after the switch": (3,), "add a node": (3,), "remove a node": (3,),
    "there and back again": (1,), "a creation that fails": (1,), "pause and resume": (1,), "stop": (2,),
    "stop --now": (1,), "roll back before the switch": (1,), "the new node killed": (2,), "an old node killed": (1,),
    "a node killed in a rollback": (1,), "give up a dead node": (3,)}.items() for rf in rfs}
SLOW_JOIN = f"delay={DELAY_MS}:1:^JOIN CLUSTER"


def ready(case, rf, numbers=(1, 2, 3), shards=SHARDS, avoid=()):
    return case.create(shards, rf, numbers).fill().write(avoid=avoid)


# --- making and dropping -------------------------------------------------------------------------

def make(case, rf):
    ready(case, rf)
    must(all(len(set(h)) == rf for h in case.layout()), f"not so many copies as asked for: {case.layout()}")
    case.written_more()
    case.check_all()
    for one in case.drover.json("table", "route", case.TABLE, 7, 4711):
        must(one["holders"] == case.layout()[one["shard"]], "route and status differ")


def refusals(case):
    """What is there already is nobody's to take; nothing is left of what was refused."""
    case.node(2).ask("CREATE TABLE users_x (id bigint, v string)")
    case.node(2).ask("CREATE TABLE system.users_s1 (id bigint, v string)")
    case.node(2).ask("INSERT INTO system.users_s1 (id, v) VALUES (42, 'mine')")
    code, out = case.drover.run(*case.create_args(SHARDS, 3, (1, 2, 3)))
    must(code in INPUT_OR_REFUSED and "system.users_s1" in out, f"somebody else's table: exit {code}: {out[-300:]}")
    must(case.node(2).rows("system.users_s1") == {42: "mine"}, "it was touched")
    case.node(2).ask("DROP TABLE system.users_s1")
    case.node(2).ask("DROP TABLE users_x")
    code, out = case.drover.run(*case.create_args(SHARDS, 4, (1, 2, 3)))
    must(code in INPUT_OR_REFUSED, f"more copies than nodes: exit {code}: {out[-300:]}")
    must(not case.drover.tables(), "a refused table is in the catalog")
    case.check_all()


def creation_that_fails(case, rf):
    """No success is reported, and nothing is left: not even copies that came by replication."""
    case.node(3).hook("fail_always:1:^CREATE TABLE `?users`? ")
    code, out = case.drover.run(*case.create_args(SHARDS, rf, (1, 2, 3), "--give-up", "1s"))
    must(code == ROLLED_BACK, f"exit {code}: {out[-300:]}")
    case.node(3).hook()
    must(not case.drover.tables(), "the table is in the catalog")
    case.check_all()
    case.create(SHARDS, rf).fill().write()
    case.written_more()
    case.check_all()


def two_tables(case):
    """Clusters of one table are no business of another's."""
    ready(case, 2)
    case.drover.must(*case.create_args(2, 2, (1, 2, 3), table="other"))
    case.drover.must("table", "drop", "other", "--hold", "0s", "--yes", "--quiet")
    case.written_more()
    case.check_all()


def drop_and_undo(case, rf):
    case.create(SHARDS, rf).fill()
    run = case.drover.start(*case.drop_args(hold="1h"))
    case.until_held(2)
    must(all(not node.tables() for node in case.nodes.all), "a wrapper is still in use")
    case.drover.must("rollback", 2, "--yes", "--quiet")
    case.drover.finish(run)
    must(case.settle(2) == "rolled back", "not rolled back")
    case.write().written_more()
    case.check_all()
    case.drover.must(*case.drop_args())
    must(not case.drover.tables(), "the table is in the catalog")
    case.crowd, case.base = None, {}
    case.check_all()


# --- moving --------------------------------------------------------------------------------------

def add_a_node(case, rf):
    ready(case, rf, shards=4)
    case.read_meanwhile(lambda: case.drover.must(*case.rebalance_args(add=(4,))))
    must(case.holds(4) > 0, "the new node holds nothing")
    case.written_more()
    case.check_all()
    before = case.layout()
    case.drover.must(*case.rebalance_args())
    must(case.layout() == before, "a level table was moved again")


def remove_a_node(case, rf):
    ready(case, rf, (1, 2, 3, 4))
    case.read_meanwhile(lambda: case.drover.must(*case.rebalance_args(remove=(2,))))
    must(case.holds(2) == 0 and len(case.record()["nodes"]) == 3, "it is still a node of the table")
    case.written_more()
    case.check_all()


def there_and_back_again(case, rf):
    """A node that left is new when it comes back, and nothing of its first time disturbs."""
    ready(case, rf, (1, 2, 3, 4), shards=4)
    case.drover.must(*case.rebalance_args(remove=(3,)))
    case.drover.must(*case.rebalance_args(add=(3,)))
    must(case.holds(3) > 0, "it holds nothing")
    case.written_more()
    case.check_all()


def a_node_without_shards(case):
    """It is a node of the table all the same, and no new one the next time."""
    ready(case, 1, shards=2)
    before = case.layout()
    must([] in [[h for h in before if n.name in h] for n in case.nodes.all[:3]], "every node has a shard")
    case.drover.must(*case.rebalance_args(add=(4,)))
    case.drover.must(*case.rebalance_args())
    must(case.layout() == before and len(case.record()["nodes"]) == 4, "shards were moved for nothing")
    case.written_more()
    case.check_all()


def give_up_two_dead_nodes(case):
    """What lives is asked, never the other dead one."""
    ready(case, 2, (1, 2, 3, 4), shards=2, avoid=(3, 4))
    must(all(len({"n3", "n4"} & set(h)) == 1 for h in case.layout()), f"a shard lies on both: {case.layout()}")
    for number in (3, 4):
        case.node(number).die()
    case.drover.must(*case.rebalance_args(remove=(3, 4)))
    must(all(set(h) == {"n1", "n2"} for h in case.layout()), f"layout is {case.layout()}")
    case.check_while_writing(skip=(3, 4))
    for number in (3, 4):
        case.node(number).start()
        clean_node(case, number)
    case.written_more()
    case.check_all()


def give_up_a_dead_node(case, rf):
    ready(case, rf, (1, 2, 3, 4))
    case.written_more()
    case.crowd.avoided.add(4)  # as the manual says: no application uses it until it is clean
    case.node(4).die()
    code, out = case.drover.run(*case.rebalance_args())
    must(code not in (DONE, ROLLED_BACK), f"planned although a node is dead: {out[-300:]}")
    case.drover.must(*case.rebalance_args(remove=(4,)))
    must(case.holds(4) == 0 and all(len(set(h)) == rf for h in case.layout()), f"layout is {case.layout()}")
    case.written_more(30)
    case.check_while_writing(skip=(4,))
    case.node(4).start()
    case.written_more()
    clean_node(case)
    case.check_all()


def clean_node(case, number=4):
    """Its leftovers are on record, and go when it is back and has found its clusters."""
    def is_clean():
        case.drover.run("cleanup", "--clusters", "--yes")
        node = case.node(number)
        return not (node.tables() or node.tables(True) or node.clusters())
    case.until(is_clean)


def dead_and_alone(case):
    """With one copy its rows exist nowhere else."""
    case.create(SHARDS, 1, (1, 2, 4)).fill()
    case.node(4).die()
    case.drover.must(*case.rebalance_args(remove=(4,)), wanted=REFUSED)
    code, out = case.drover.run("health")
    must(code in (DONE, UNHEALTHY) and "under_replicated" in out and "copies=0" in out,
         f"a dead node and all is well: exit {code}: {out[-300:]}")
    case.node(4).start()
    case.check_all()


def what_health_sees(case):
    """Healthy means looked at: a copy that is gone and a cluster of no move are told."""
    case.create(SHARDS, 1).fill()
    holder = case.nodes.by_name(case.layout()[0][0])
    holder.ask("DROP TABLE system.users_s0")
    code, out = case.drover.run("health")
    must(code == UNHEALTHY and "users_s0" in out, f"a lost shard: exit {code}: {out[-400:]}")
    left = "temp_move_users_s1_0123456789abc"
    os.makedirs(os.path.join(holder.folder, left))
    holder.ask(f"CREATE CLUSTER {left} '{left}' as path")
    code, out = case.drover.run("health")
    must(left in out and "move that is over" in out, f"a cluster of no move: exit {code}: {out[-400:]}")
    case.drover.run("cleanup", "--clusters", "--yes")
    must(left in holder.clusters(), "a cluster was removed because of its name")
    holder.ask(f"DELETE CLUSTER {left}")
    code, out = case.drover.run(*case.rebalance_args("--give-up", "1s", add=(4,), remove=(holder.number,)))
    must(code not in (DONE,), f"moved what is not there: exit {code}: {out[-300:]}")


def most_are_dead(case):
    """Two of three holders could be at work together elsewhere: the third is not to go on alone."""
    case.create(SHARDS, 3, (1, 2, 3)).fill()
    before = case.layout()
    case.node(2).die()
    case.node(3).die()
    code, out = case.drover.run(*case.rebalance_args(add=(4,), remove=(2, 3)))
    must(code in INPUT_OR_REFUSED, f"exit {code}: {out[-300:]}")
    case.node(2).start()
    case.node(3).start()
    must(case.layout() == before, "the map has changed")
    heal_all(case)
    case.check_all()


def heal_all(case):
    """All nodes of a cluster were away or alone: one is told to go on, as Manticore's manual says."""
    def is_whole():
        states = [(node, name, c) for node in case.nodes.all for name, c in node.clusters().items()]
        bad = [(node, name) for node, name, c in states if c["status"] != "primary"]
        names = {name for _, name, c in states if c["status"] == "primary"}
        for node, name in bad:
            if name not in names and node.number == 1:
                node.ask(f"SET CLUSTER {name} GLOBAL 'pc.bootstrap' = 1")
        return not bad
    case.until(is_whole)


# --- control -------------------------------------------------------------------------------------

def begin_slowly(case, rf, hold="0s"):
    """A rebalance that is in the middle of its first JOIN."""
    ready(case, rf, shards=4)
    case.node(4).hook(SLOW_JOIN)
    before = case.layout()
    run = case.drover.start(*case.rebalance_args(add=(4,), hold=hold))
    case.until(lambda: case.met("JOIN CLUSTER") and joining(case))
    return run, before


def joining(case):
    return any("JOIN CLUSTER" in sql for sql in case.node(4).changes())


def steps_of(case):
    """How many steps are in which state."""
    return case.drover.json("status", 2)["steps"]


def pause_and_resume(case, rf):
    run, before = begin_slowly(case, rf)
    case.drover.must("pause", 2)
    case.until(lambda: case.drover.status(2) == "paused" and not steps_of(case)["leased"])
    done = steps_of(case)
    changes = [node.changes() for node in case.nodes.all]
    case.written_more(30)
    must(steps_of(case) == done, "it goes on while it is paused")
    must([node.changes() for node in case.nodes.all] == changes, "nodes are changed while it is paused")
    must(case.layout() == before, "it switches while it is paused")
    case.drover.must("resume", 2)
    code, out = case.drover.finish(run)
    if code == EARLY:
        code, out = case.drover.run("run", 2, "--yes", "--quiet")
    must(code == DONE and case.layout() != before, f"exit {code}: {out[-300:]}")
    case.check_all()


def stop(case, rf, is_now):
    run, before = begin_slowly(case, rf)
    case.drover.must("stop", 2, *(("--now", "--yes") if is_now else ()))
    code, out = case.drover.finish(run)
    must(code in (EARLY, ROLLED_BACK), f"exit {code}: {out[-300:]}")
    if not is_now:
        must(case.drover.status(2) not in ("done", "running"), "it goes on")
        case.drover.run("rollback", 2, "--yes", "--quiet")
    must(case.settle(2) == "rolled back" and case.layout() == before, "not as before")
    case.check_all()


def roll_back_before_the_switch(case, rf):
    run, before = begin_slowly(case, rf)
    case.drover.must("rollback", 2, "--yes", "--quiet")
    case.drover.finish(run)
    must(case.settle(2) == "rolled back" and case.layout() == before, "not as before")
    case.written_more()
    case.check_all()


def roll_back_after_the_switch(case, rf):
    """What was written at the new places is at the old ones, too."""
    ready(case, rf, shards=4)
    before = case.layout()
    run = case.drover.start(*case.rebalance_args(add=(4,), hold="1h"))
    case.until_held(2)
    must(case.layout() != before, "nothing was switched")
    case.written_more(60)
    clusters = [sorted(node.clusters()) for node in case.nodes.all]
    case.drover.run("cleanup", "--clusters", "--yes")  # a cluster that a move is using is no leftover
    must([sorted(node.clusters()) for node in case.nodes.all] == clusters, "a cluster in use was cleaned up")
    case.drover.must("rollback", 2, "--yes", "--quiet")
    case.drover.finish(run)
    must(case.settle(2) == "rolled back" and case.layout() == before, "not as before")
    case.written_more()
    case.check_all()
    code, out = case.drover.run("rollback", 2, "--yes", "--quiet")
    must(case.drover.status(2) == "rolled back", f"rolled back twice: exit {code}: {out[-300:]}")
    case.check_all()


def roll_back_too_late(case):
    ready(case, 2)
    case.drover.must(*case.rebalance_args(add=(4,)))
    code, out = case.drover.run("rollback", 2, "--yes", "--quiet")
    must(code == REFUSED and ("no return" in out or "dropped" in out), f"exit {code}: {out[-300:]}")
    case.check_all()


# --- deaths --------------------------------------------------------------------------------------

def drover_killed(case, rf):
    run, before = begin_slowly(case, rf)
    run.kill()
    case.drover.finish(run)
    case.written_more()
    case.drover.must("run", 2, "--yes", "--quiet")
    must(case.layout() != before, "nothing was moved")
    case.check_all()


def node_killed(case, rf, number):
    """A short death of a node is waited for."""
    run, before = begin_slowly(case, rf)
    case.node(number).die()
    case.node(number).start()
    code, out = case.drover.finish(run)
    must(code == DONE, f"exit {code}: {out[-400:]}")
    must(case.layout() != before, "nothing was moved")
    case.check_all()


def node_killed_in_a_rollback(case, rf):
    run, before = begin_slowly(case, rf, hold="1h")
    case.until_held(2)
    case.node(4).hook(f"exit_before:1:{'EXIT CLUSTER'}")
    back = case.drover.start("rollback", 2, "--yes", "--quiet")
    case.until(case.node(4).is_dead)
    case.node(4).start()
    case.drover.finish(back)
    case.drover.finish(run)
    must(case.settle(2) == "rolled back" and case.layout() == before, "not as before")
    case.check_all()


# --- all of it -----------------------------------------------------------------------------------

def cases(is_real):
    """name -> what it does; where nodes are real ones, only what kills none and needs no hooks."""
    out = {}
    for rf in (1, 2, 3):
        out[f"make rf {rf}"] = lambda c, rf=rf: make(c, rf)
        out[f"add a node rf {rf}"] = lambda c, rf=rf: add_a_node(c, rf)
        out[f"remove a node rf {rf}"] = lambda c, rf=rf: remove_a_node(c, rf)
        out[f"drop and undo rf {rf}"] = lambda c, rf=rf: drop_and_undo(c, rf)
        out[f"roll back after the switch rf {rf}"] = lambda c, rf=rf: roll_back_after_the_switch(c, rf)
    out["there and back again rf 1"] = lambda c: there_and_back_again(c, 1)
    out["there and back again rf 2"] = lambda c: there_and_back_again(c, 2)
    out["a node without shards"] = a_node_without_shards
    out["two tables"] = two_tables
    out["refusals"] = refusals
    out["roll back too late"] = roll_back_too_late
    if is_real:
        return out
    for rf in (1, 2):
        out[f"a creation that fails rf {rf}"] = lambda c, rf=rf: creation_that_fails(c, rf)
        out[f"pause and resume rf {rf}"] = lambda c, rf=rf: pause_and_resume(c, rf)
        out[f"stop rf {rf}"] = lambda c, rf=rf: stop(c, rf, False)
        out[f"stop --now rf {rf}"] = lambda c, rf=rf: stop(c, rf, True)
        out[f"roll back before the switch rf {rf}"] = lambda c, rf=rf: roll_back_before_the_switch(c, rf)
        out[f"drover killed rf {rf}"] = lambda c, rf=rf: drover_killed(c, rf)
        out[f"the new node killed rf {rf}"] = lambda c, rf=rf: node_killed(c, rf, 4)
        out[f"an old node killed rf {rf}"] = lambda c, rf=rf: node_killed(c, rf, 1)
        out[f"a node killed in a rollback rf {rf}"] = lambda c, rf=rf: node_killed_in_a_rollback(c, rf)
    out["give up a dead node rf 2"] = lambda c: give_up_a_dead_node(c, 2)
    out["give up a dead node rf 3"] = lambda c: give_up_a_dead_node(c, 3)
    out["give up two dead nodes"] = give_up_two_dead_nodes
    out["what health sees"] = what_health_sees
    out["dead and alone"] = dead_and_alone
    out["most are dead"] = most_are_dead
    return out


def one(build, nodes, top, name, what):
    begin, case = time.monotonic(), None
    try:
        case = Case(build, nodes, top)
        what(case)
        print(f"ok   {name} ({time.monotonic() - begin:.1f} s)", flush=True)
        return True
    except Exception as e:  # pylint: disable=broad-except
        print(f"FAIL {name}: {e}", flush=True)
        if not isinstance(e, Failed):
            traceback.print_exc(file=sys.stdout)
        return False
    finally:
        if case is not None:
            case.close()


def main():
    build, only = sys.argv[1], ([a for a in sys.argv[2:] if a and a != "--long"] + [""])[0]
    is_long = "--long" in sys.argv or only != ""
    is_real = bool(os.environ.get("DROVER_TEST_MANTICORE_NODES"))
    print(f"table_manticore: on {'real nodes' if is_real else 'stand-ins'}", flush=True)
    chosen = [(n, w) for n, w in cases(is_real).items() if only in n and (is_long or n not in LONG)]
    top = tempfile.mkdtemp(prefix="drover-manticore.")
    lanes = []
    try:
        for i in range(1 if is_real else LANES):
            os.makedirs(os.path.join(top, str(i)))
            lanes.append(Nodes(os.path.join(top, str(i))))
        queue = list(reversed(chosen))

        def work(nodes):
            good = []
            while queue:
                name, what = queue.pop()
                good.append(one(build, nodes, top, name, what))
            return good
        with ThreadPoolExecutor(len(lanes)) as pool:
            good = [g for lane in pool.map(work, lanes) for g in lane]
    finally:
        for nodes in lanes:
            nodes.stop()
        shutil.rmtree(top, ignore_errors=True)
    print(f"{good.count(True)} passed, {good.count(False)} failed")
    return 0 if good and all(good) else 1


if __name__ == "__main__":
    sys.exit(main())
