# SPDX-License-Identifier: Apache-2.0
"""The cases of table.py that move shards while writers write."""
from table_lib import DONE, EARLY, REFUSED, ROLLED_BACK, Failed

# Slow enough to be caught in the middle of a copy.
SLOW = ("--rate", "400", "--batch-max", "50")


def ready(case, shards=4, rf=2, numbers=(1, 2, 3), rows=400):
    return case.create(shards, rf, numbers).fill(rows).write()


def finished(case, **checks):
    case.stop_writing()
    case.check_all(**checks)


def layout(case):
    return [s["holders"] for s in case.drover.table(case.TABLE)["shards"]]


def holds(case, number):
    name = case.nodes.all[number - 1].name
    return sum(name in holders for holders in layout(case))


def must(truth, what):
    if not truth:
        raise Failed(what)


# --- changes of nodes ------------------------------------------------------------------------

def add_a_node(case, rf):
    ready(case, rf=rf)
    case.drover.must(*case.rebalance_args(add=(4,)))
    must(holds(case, 4) >= rf, f"the new node holds {holds(case, 4)} shards")
    finished(case)
    case.check_healthy()


def remove_a_node(case, rf):
    ready(case, rf=rf, numbers=(1, 2, 3, 4))
    case.drover.must(*case.rebalance_args(remove=(2,)))
    must(holds(case, 2) == 0, "the removed node holds shards")
    must(len(case.drover.table(case.TABLE)["nodes"]) == 3, "it is still a node of the table")
    finished(case)
    case.check_healthy()


def give_up_a_dead_node(case, rf):
    ready(case, rf=rf, numbers=(1, 2, 3, 4))
    case.nodes.all[3].die()
    try:
        code, out = case.drover.run(*case.rebalance_args())
        must(code not in (DONE, ROLLED_BACK), f"planned although a node is dead: {out[-300:]}")
        case.drover.must(*case.rebalance_args(remove=(4,)))
        must(holds(case, 4) == 0, "the dead node still holds shards")
    finally:
        case.nodes.all[3].come_back()
    finished(case, skip=(4,))
    case.drover.must("cleanup", "--clusters", "--yes")
    case.check_nodes()
    case.check_healthy()


def dead_and_alone(case):
    """With one copy its rows exist nowhere else."""
    case.create(4, 1, (1, 2, 4)).fill(100)
    case.nodes.all[3].die()
    try:
        case.drover.must(*case.rebalance_args(remove=(4,)), wanted=REFUSED)
    finally:
        case.nodes.all[3].come_back()
    case.check_all()


def level(case):
    """Shards that a rebalance has put on few nodes spread again."""
    ready(case, shards=6, rf=1, numbers=(1, 2, 3))
    case.drover.must(*case.rebalance_args(remove=(3,)))
    case.drover.must(*case.rebalance_args(add=(3, 4)))
    loads = [holds(case, n) for n in (1, 2, 3, 4)]
    must(max(loads) - min(loads) <= 1, f"loads are {loads}")
    case.drover.must(*case.rebalance_args())
    must([holds(case, n) for n in (1, 2, 3, 4)] == loads, "a levelled table was moved again")
    finished(case)


# --- control ---------------------------------------------------------------------------------

def copying(case, op):
    """Some rows have been copied, and not all."""
    items = case.drover.json("status", op)["items"]
    return items["done"] > 50


def pause_and_resume(case):
    ready(case, rows=1500)
    run = case.drover.start(*case.rebalance_args(*SLOW, add=(4,)))
    case.until(lambda: case.drover.last_op() == 2 and copying(case, 2))
    case.drover.must("pause", 2)
    case.until(lambda: case.drover.status(2) in ("paused", "pausing") and not leased(case, 2))
    before = layout(case)
    done = case.drover.json("status", 2)["items"]["done"]
    must(case.drover.json("status", 2)["items"]["done"] == done, "it copies while it is paused")
    must(layout(case) == before, "it switches while it is paused")
    case.drover.must("resume", 2)
    case.drover.must("tune", 2, "--rate", 100000, "--batch-max", 1000)
    code, out = case.drover.finish(run)
    if code == EARLY:
        code, out = case.drover.run("run", 2, "--yes", "--quiet")
    must(code == DONE, f"exit {code}: {out[-300:]}")
    finished(case)


def leased(case, op):
    return case.drover.json("status", op)["steps"]["leased"]


def stop(case, is_now):
    ready(case, rows=1500)
    before = layout(case)
    run = case.drover.start(*case.rebalance_args(*SLOW, add=(4,)))
    case.until(lambda: case.drover.last_op() == 2 and copying(case, 2))
    case.drover.must("stop", 2, *(("--now", "--yes") if is_now else ()))
    code, out = case.drover.finish(run)
    must(code in (EARLY, ROLLED_BACK), f"exit {code}: {out[-300:]}")
    if not is_now:
        case.drover.run("rollback", 2, "--yes", "--quiet")
    must(case.settle(2) == "rolled back", "a stopped move is not rolled back")
    must(layout(case) == before, "the map is not as before")
    finished(case)
    case.check_healthy()


# --- rollback --------------------------------------------------------------------------------

def roll_back_before_the_switch(case):
    ready(case, rows=1500)
    before = layout(case)
    run = case.drover.start(*case.rebalance_args(*SLOW, add=(4,)))
    case.until(lambda: case.drover.last_op() == 2 and copying(case, 2))
    case.drover.must("rollback", 2, "--yes", "--quiet")
    case.drover.finish(run)
    must(case.settle(2) == "rolled back", "not rolled back")
    must(layout(case) == before, "the map is not as before")
    finished(case)
    case.check_healthy()


def until_held(case, op):
    case.until(lambda: "held until" in case.drover.run("explain", op)[1], 40)


def roll_back_after_the_switch(case, rf):
    """What was written at the new places comes back."""
    ready(case, rf=rf)
    before = layout(case)
    run = case.drover.start(*case.rebalance_args(add=(4,), hold="1h"))
    until_held(case, 2)
    must(layout(case) != before, "nothing was switched")
    written = case.crowd.total("written")
    case.until(lambda: case.crowd.total("written") > written + 200)
    case.drover.must("rollback", 2, "--yes", "--quiet")
    case.drover.finish(run)
    must(case.settle(2) == "rolled back", "not rolled back")
    must(layout(case) == before, "the map is not as before")
    finished(case)
    case.check_healthy()


def roll_back_too_late(case):
    ready(case)
    case.drover.must(*case.rebalance_args(add=(4,)))
    code, out = case.drover.run("rollback", 2, "--yes", "--quiet")
    must(code == REFUSED, f"exit {code}: {out[-300:]}")
    must("no return" in out or "dropped" in out, f"it gives no reason: {out[-300:]}")
    finished(case)


def roll_back_in_part(case):
    """Back to the first switch and its shard, then on again."""
    ready(case, rf=1, shards=12)
    run = case.drover.start(*case.rebalance_args(add=(4,), hold="1h"))
    until_held(case, 2)
    case.drover.must("pause", 2)
    case.drover.finish(run)
    steps = case.drover.json("steps", 2)
    first = next(s["id"] for s in steps if s["title"].startswith("switch shard"))
    switched = layout(case)
    case.drover.must("rollback", 2, "--to", first, "--yes", "--quiet", wanted=rolled_in_part(case))
    half = layout(case)
    must(half != switched, "nothing was taken back")
    case.check_rows_while_writing()
    run = case.drover.start("run", 2, "--yes", "--quiet")
    until_held(case, 2)
    must(layout(case) == switched, "it did not go on to the same places")
    case.drover.must("rollback", 2, "--yes", "--quiet")
    case.drover.finish(run)
    must(case.settle(2) == "rolled back", "not rolled back")
    finished(case)
    case.check_healthy()


def rolled_in_part(case):
    del case
    return (DONE, EARLY)


# --- deaths ----------------------------------------------------------------------------------

def drover_killed(case):
    ready(case, rows=1500)
    run = case.drover.start(*case.rebalance_args(*SLOW, add=(4,)))
    case.until(lambda: case.drover.last_op() == 2 and copying(case, 2))
    run.kill()
    case.drover.finish(run)
    case.drover.must("tune", 2, "--rate", 100000, "--batch-max", 1000)
    case.drover.must("run", 2, "--yes", "--quiet")
    finished(case)
    case.check_healthy()


def node_killed(case):
    ready(case, rows=1500)
    run = case.drover.start(*case.rebalance_args(*SLOW, add=(4,)))
    case.until(lambda: case.drover.last_op() == 2 and copying(case, 2))
    case.nodes.all[3].die()
    case.nodes.all[3].come_back()
    case.drover.must("tune", 2, "--rate", 100000, "--batch-max", 1000)
    code, out = case.drover.finish(run)
    must(code in (DONE, ROLLED_BACK), f"exit {code}: {out[-400:]}")
    must(case.settle(2) == "done", "a short death of a node is waited for")
    finished(case)
    case.check_healthy()
