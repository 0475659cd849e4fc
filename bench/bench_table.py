#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What rollback support costs the making and the moving of sharded tables.

    bench_table.py BUILD DIR [ROUNDS]

Creates a table of 60 shards, two copies each, on four SQLite nodes, moves what one more node takes, and
compares: the whole time by the clock, the time that the steps' own work took, and what recording a
rollback command costs a step (bench_queue measures the same steps with and without). Medians of ROUNDS.
"""

import os
import re
import shutil
import statistics
import subprocess
import sys
import time

SHARDS, RF, NODES, QUEUE_STEPS = 60, 2, 4, 20000


def run(*words):
    begin = time.monotonic()
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"bench_table: {' '.join(words)}: {done.stderr[-400:]}")
    return (time.monotonic() - begin) * 1000, done.stdout


def one_round(drover, top):
    shutil.rmtree(top, ignore_errors=True)
    os.makedirs(top)
    nodes = []
    for n in range(NODES + 1):
        path = f"{top}/n{n}.db"
        with open(path, "w", encoding="ascii"):
            pass
        nodes.append(f"n{n}=sqlite:{path}")
    base = [drover, "--data", f"{top}/data", "--yes", "--quiet", "table"]
    given = [word for node in nodes[:NODES] for word in ("--node", node)]
    create, _ = run(*base, "create", "users", "--columns", "id INTEGER PRIMARY KEY, name TEXT", "--shards",
                    str(SHARDS), "--rf", str(RF), *given)
    move, _ = run(*base, "rebalance", "users", "--add", nodes[NODES], "--hold", "0s")
    counts = []
    for op in ("1", "2"):
        _, text = run(drover, "--data", f"{top}/data", "--json", "steps", op, "--limit", "0")
        counts.append(text.count('"kind"'))
    return create, move, counts


def cost_of_recording(build, top):
    """Microseconds that a rollback command adds to one step: put, leased, finished, durable."""
    os.makedirs(top, exist_ok=True)
    _, text = run(f"{build}/bench_queue", top, str(QUEUE_STEPS), "5")
    found = re.search(r"recording rollback: ([0-9.]+) s with, ([0-9.]+) s without", text)
    return (float(found.group(1)) - float(found.group(2))) / QUEUE_STEPS * 1e6


def main():
    build, top = os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2])
    rounds = int(sys.argv[3]) if len(sys.argv) > 3 else 5
    seen = [one_round(f"{build}/drover", f"{top}/table") for _ in range(rounds)]
    create = statistics.median(r[0] for r in seen)
    move = statistics.median(r[1] for r in seen)
    steps = seen[0][2]
    each = cost_of_recording(build, f"{top}/queue-of-tables")
    for name, ms, count in (("create", create, steps[0]), ("rebalance", move, steps[1])):
        print(f"{name}: {ms:.0f} ms, {count} steps, {ms * 1000 / count:.0f} us a step; recording rollback adds "
              f"{each:.1f} us to each: {max(each, 0) * count / ms / 10:.2f}% (median of {rounds})")


if __name__ == "__main__":
    main()
