#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Sharded tables on the command line, on SQLite files and real MariaDB and PostgreSQL servers, with
writers at work: table.py BUILD [sqlite|mariadb|postgres] [CASE]"""
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import traceback

import table_moves as moves
from table_lib import DONE, INPUT_OR_REFUSED, NOT_FOUND, REFUSED, ROLLED_BACK, UNHEALTHY, Case, Drover, Failed
from table_moves import finished, layout, must, ready, until_held
from shard_nodes import COLUMNS, KINDS, Nodes

# --- making --------------------------------------------------------------------------------------


def make(case, rf):
    case.create(4, rf)
    record = case.drover.table(case.TABLE)
    must(record["state"] == "ready" and len(record["shards"]) == 4, f"it is {record['state']}")
    must(all(len(set(s["holders"])) == rf for s in record["shards"]), "not so many copies as asked for")
    case.fill(200)
    case.check_all()
    case.drover.must("table", "status", case.TABLE, says="ready")
    out = case.drover.json("table", "route", case.TABLE, 7, 4711)
    for one in out:
        must(one["holders"] == record["shards"][one["shard"]]["holders"], "route and status differ")
    case.check_healthy()


def dry_run(case):
    out = case.drover.must(*case.create_args(4, 2, (1, 2, 3), "--dry-run"))
    must("users_s3" in out and "drover:" not in out, f"what a dry run says: {out[:300]}")
    must(":dr%40ver" not in out and "dr@ver" not in out, "it shows a password")
    must(not os.path.exists(os.path.join(case.drover.data, "queue.db")), "something was enqueued")
    case.check_nodes()


def refusals(case):
    run = case.drover.run
    foreign, where = f"{case.TABLE}_s2", case.nodes.all[1]
    where.ask(f"CREATE TABLE {foreign} (id INTEGER PRIMARY KEY)", f"INSERT INTO {foreign} VALUES (42)")
    code, out = run(*case.create_args(4, 3, (1, 2, 3)))
    must(code in (REFUSED, ROLLED_BACK), f"somebody else's table: exit {code}: {out[-300:]}")
    must(where.ask(f"SELECT id FROM {foreign}") == [("42",)], "somebody else's table was touched")
    case.check_nodes(bystanders=(foreign,))
    where.ask(f"DROP TABLE {foreign}")
    code, out = run(*case.create_args(4, 4, (1, 2, 3)))
    must(code in INPUT_OR_REFUSED, f"more copies than nodes: exit {code}: {out[-300:]}")
    case.nodes.all[3].die()
    try:
        code, out = run(*case.create_args(4, 1, (1, 2, 4), "--give-up", "2s"))
        must(code not in (DONE,), f"a dead node: exit {code}: {out[-300:]}")
    finally:
        case.nodes.all[3].come_back()
    no_key = case.create_args(2, 1, (1, 2))
    no_key[no_key.index(COLUMNS[case.kind])] = "a INTEGER, b INTEGER"
    code, out = run(*no_key)
    must(code in (*INPUT_OR_REFUSED, ROLLED_BACK), f"no primary key: exit {code}: {out[-300:]}")
    case.check_nodes()
    must(case.drover.tables() == {}, "a refused table is in the catalog")


def make_twice(case):
    case.create(2, 1, (1, 2)).fill(50)
    code, out = case.drover.run(*case.create_args(2, 1, (1, 2)))
    must(code in INPUT_OR_REFUSED, f"a second creation: exit {code}: {out[-300:]}")
    case.drover.must(*case.create_args(2, 1, (1, 2), "--if-not-exists"))
    case.check_all()
    other = Drover(os.path.dirname(case.drover.program), case.drover.data + "2")
    case.drover, mine = other, case.drover
    code, out = case.drover.run(*case.create_args(2, 1, (1, 2)))
    must(code in (REFUSED, ROLLED_BACK), f"the shards of another catalog: exit {code}: {out[-300:]}")
    case.drover = mine
    case.check_all()
    case.drover.must("table", "status", "nowhere", wanted=NOT_FOUND)
    code, out = case.drover.run("table", "rebalance", "nowhere", "--yes")
    must(code in (REFUSED, NOT_FOUND), f"a table that is not there: exit {code}: {out[-300:]}")


def undo_a_creation(case):
    """A table that is open is dropped, not unmade; one that could not be opened leaves nothing."""
    case.create(4, 2).fill(50)
    code, out = case.drover.run("rollback", 1, "--yes", "--quiet")
    must(code == REFUSED and "no return" in out, f"exit {code}: {out[-300:]}")
    case.check_all()
    fault = ",".join(f"fleet.ensure@{n}=error" for n in range(5, 30))
    args = case.create_args(4, 2, (1, 2, 3), "--give-up", "1s", table="other")
    code, out = case.drover.run(*args, env={"DROVER_FAULT": fault})
    must(code == ROLLED_BACK, f"a creation that cannot be finished: exit {code}: {out[-300:]}")
    must(set(case.drover.tables()) == {case.TABLE}, "it is in the catalog")
    case.check_all()
    case.check_healthy()


# --- dropping ------------------------------------------------------------------------------------

def drop_and_undo(case):
    case.create(4, 2).fill(200)
    run = case.drover.start("table", "drop", case.TABLE, "--hold", "1h", "--yes", "--quiet")
    until_held(case, 2)
    shard = case.drover.table(case.TABLE)["shards"][0]
    must(shard["table"] not in case.nodes.by_name(shard["holders"][0]).tables(), "it is still in use")
    case.drover.must("rollback", 2, "--yes", "--quiet")
    case.drover.finish(run)
    must(case.settle(2) == "rolled back", "not rolled back")
    case.check_all()
    case.drover.must("table", "drop", case.TABLE, "--hold", "0s", "--yes", "--quiet")
    must(case.drover.tables() == {}, "the table is in the catalog")
    case.check_nodes()
    case.drover.must("rollback", 3, "--yes", "--quiet", wanted=REFUSED)
    case.drover.must("table", "drop", case.TABLE, "--if-exists", "--yes", "--quiet")
    case.create(2, 1)
    case.check_healthy()


# --- rehearsal, daemon ---------------------------------------------------------------------------

def rehearse(case):
    code, out = case.drover.run(*case.create_args(4, 2, (1, 2, 3), "--rehearse"))
    must(code == DONE, f"the rehearsal of a creation: exit {code}: {out[-500:]}")
    case.check_nodes()
    case.create(4, 2).fill(300)
    before = layout(case)
    code, out = case.drover.run(*case.rebalance_args("--rehearse", add=(4,)))
    must(code == DONE, f"the rehearsal of a rebalance: exit {code}: {out[-500:]}")
    must(layout(case) == before, "the map is not as before")
    case.check_all()
    case.drover.must("table", "drop", case.TABLE, "--rehearse", "--yes", "--quiet")
    case.check_all()


class Daemon:
    def __init__(self, case):
        with socket.create_server(("127.0.0.1", 0)) as s:
            self.port = s.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.process = case.drover.start("serve", "--listen", f"127.0.0.1:{self.port}")
        case.until(self.answers, 20)

    def answers(self):
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
            return True
        except OSError:
            return False

    def stop(self):
        self.process.terminate()
        try:
            self.process.communicate(timeout=20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.communicate()


def at_a_daemon(case):
    daemon = Daemon(case)
    there = ("--server", daemon.url)
    try:
        case.drover.must(*case.create_args(4, 2, (1, 2, 3), *there))
        case.until(lambda: case.drover.tables().get(case.TABLE, {}).get("state") == "ready")
        must("ready" in case.drover.must("table", "status", case.TABLE, *there), "status does not say ready")
        case.fill(300).write()
        case.drover.must("table", "route", case.TABLE, 7, *there, says="users_s")
        race(case, there)
        case.until(lambda: case.drover.table(case.TABLE)["state"] == "ready", 60)
        finished(case)
    finally:
        daemon.stop()


def race(case, there):
    """Two at once: one gets the table, the other is refused."""
    both = [case.drover.start(*case.rebalance_args(*there, add=(4,), hold="1s")) for _ in range(2)]
    codes = [case.drover.finish(p) for p in both]
    case.until(lambda: all(o["status"] in ("done", "rolled back", "blocked") for o in case.drover.json("status")), 60)
    ended = sorted(o["status"] for o in case.drover.json("status") if o["kind"] == "table.rebalance")
    won = ended.count("done")
    must(won >= 1, f"nobody got the table: {ended} {codes}")
    if len(ended) == 2 and won == 1:
        loser = next(o["id"] for o in case.drover.json("status") if o["status"] == "rolled back")
        text = case.drover.must("report", loser) + str(case.drover.json("steps", loser))
        must("is being changed by operation" in text, f"the loser is not told who holds the table: {text[:400]}")


# --- the list ------------------------------------------------------------------------------------

CASES = [(f"{what.__name__} rf {rf}", lambda c, what=what, rf=rf: what(c, rf)) for what, rfs in (
    (make, (1, 2, 3)), (moves.add_a_node, (1, 2, 3)), (moves.remove_a_node, (1, 2, 3)),
    (moves.give_up_a_dead_node, (2, 3)), (moves.roll_back_after_the_switch, (1, 2))) for rf in rfs]
CASES += [(what.__name__, what) for what in (
    dry_run, refusals, make_twice, undo_a_creation, moves.dead_and_alone, moves.level, moves.pause_and_resume,
    moves.roll_back_before_the_switch, moves.roll_back_too_late, moves.roll_back_in_part, moves.drover_killed,
    moves.node_killed, drop_and_undo, rehearse, at_a_daemon)]
CASES += [("stop", lambda c: moves.stop(c, False)), ("stop now", lambda c: moves.stop(c, True))]


def one_case(build, nodes, top, name, what, counts):
    case = Case(build, nodes, top)
    begin = time.monotonic()
    try:
        what(case)
        counts["passed"] += 1
        print(f"ok   {nodes.kind}: {name} ({time.monotonic() - begin:.1f} s)", flush=True)
    except Exception as e:  # the others tell more
        counts["failed"] += 1
        print(f"FAIL {nodes.kind}: {name}: {e}", flush=True)
        if not isinstance(e, Failed):
            traceback.print_exc(file=sys.stdout)
    finally:
        case.close()
        if case.crowd:
            counts["written"] += case.crowd.total("written")
            counts["refused"] += case.crowd.total("refused")
            key = "dead" if "dead" in name or "killed" in name else "longest"
            counts[key] = max(counts[key], case.crowd.longest())


# What differs by engine; the rest is the same code for all, and is shown on SQLite. --long: everything.
SHORT = ("make rf 2", "add_a_node rf 2", "remove_a_node rf 1", "give_up_a_dead_node rf 2",
         "roll_back_after_the_switch rf 2", "drover_killed", "drop_and_undo")


def main():
    is_long = "--long" in sys.argv
    if is_long:
        sys.argv.remove("--long")
    build = os.path.abspath(sys.argv[1])
    kinds = [k for k in KINDS if len(sys.argv) < 3 or sys.argv[2] in (k, "all")]
    only = sys.argv[3] if len(sys.argv) > 3 else ""
    failed = passed = 0
    for kind in kinds:
        top = tempfile.mkdtemp(prefix="drover-table.")
        os.chmod(top, 0o755)
        nodes = Nodes(kind, top)
        counts = {"passed": 0, "failed": 0, "written": 0, "refused": 0, "longest": 0.0, "dead": 0.0}
        try:
            for name, what in CASES:
                if only in name and (is_long or only or kind == "sqlite" or name in SHORT):
                    one_case(build, nodes, top, name, what, counts)
        finally:
            nodes.stop()
            shutil.rmtree(top, ignore_errors=True)
        print(f"{kind}: {counts['written']} rows written and acknowledged, {counts['refused']} tries refused, a writer "
              f"was refused for {counts['longest'] * 1000:.0f} ms at the longest, {counts['dead'] * 1000:.0f} ms where a "
              f"node or drover died")
        passed, failed = passed + counts["passed"], failed + counts["failed"]
    print(f"{passed} passed, {failed} failed")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
