#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The cases of test_sql_proxy.sh on one database: sql_proxy.py BUILD mariadb|postgres [DOING]

Each trial purges a table through a proxy that loses one request or one answer, and takes it back
through one that does the same. A commit whose answer is lost has happened or has not: what counts
is that the table, the counts and the archive are those of an undisturbed run in the end."""
import json
import os
import pathlib
import subprocess
import sys
import traceback

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "crash"), str(HERE.parent / "support")]
from crash import Failed  # noqa: E402
from crash_sql import SqlBench, SqlTrial  # noqa: E402
from tcp_proxy import Rule, TcpProxy  # noqa: E402

BUILD, KIND = os.path.abspath(sys.argv[1]), sys.argv[2]
ROWS = 1200
READ_SECONDS = 2  # how long the client waits for an answer, so that a silent one costs little
COMMIT, INSERT, LOCK = rb"(?<!AUTO)COMMIT(?!T)", rb"INSERT INTO", rb"FOR UPDATE"
DELETE = rb"DELETE FROM"
# What is lost, of which request in the run, of which in the rollback, and which of them.
TRIALS = [(do, run, back, nth) for do in ("cut_after", "cut_before") for run, back, nths in
          ((COMMIT, COMMIT, (1, 3)), (DELETE, INSERT, (2,)), (LOCK, INSERT, (1,))) for nth in nths]
TRIALS += [("hang", COMMIT, COMMIT, 2), ("hang", DELETE, INSERT, 1), ("delay", COMMIT, COMMIT, 2)]
passed = failed = 0


class ProxyTrial(SqlTrial):
    def __init__(self, bench, kind, proxy):
        super().__init__(bench, kind)
        with open(self.job, encoding="utf-8") as f:
            job = json.load(f)
        timeout = "?read_timeout=%d" % READ_SECONDS
        job["store"] = bench.db.url.replace(f":{bench.db.port}/", f":{proxy.port}/") + timeout
        with open(self.job, "w", encoding="utf-8") as f:
            json.dump(job, f)

    def must(self, *args, wanted=(0,)):
        code, out = self.finish(self.start(list(args)))
        if code not in wanted:
            raise Failed(f"{args}: exit {code}: {out}")
        return out

    def must_count(self, what, wanted):
        out = subprocess.run([self.bench.drover, "--data", self.data, "--json", "status", "1"], check=True,
                             stdin=subprocess.DEVNULL, capture_output=True, text=True).stdout
        items = json.loads(out)["items"]
        if items[what] != wanted or items["conflicts"] != 0:
            raise Failed(f"{wanted} rows should be {what}, counted are {items}")


def trial(bench, proxy, kind, do, of_run, of_rollback, nth):
    gone = bench.whole[kind].count("\n") - bench.purged[kind].count("\n")
    proxy.set()
    t = ProxyTrial(bench, kind, proxy)
    rule = Rule(do, of_run, nth)
    proxy.set(rule)
    t.must("run", t.job, "--yes")
    if not rule.done:
        raise Failed("the proxy lost nothing in the run")
    proxy.set()
    t.check_gone()
    t.must_count("done", gone)
    again = Rule(do, of_rollback, nth)
    proxy.set(again)
    t.must("rollback", "1", "--yes", wanted=(0, 10))
    if not again.done:
        raise Failed("the proxy lost nothing in the rollback")
    t.check_back()
    t.must_count("undone", gone)


def main():
    global passed, failed
    only = sys.argv[3] if len(sys.argv) > 3 else ""
    bench = SqlBench(BUILD, KIND, ROWS)
    proxy = TcpProxy(bench.db.port)
    try:
        for i, (do, of_run, of_rollback, nth) in enumerate(TRIALS):
            kind = bench.kinds[i % len(bench.kinds)]
            if only not in do:
                continue
            try:
                trial(bench, proxy, kind, do, of_run, of_rollback, nth)
                passed += 1
            except Exception as e:  # the other trials tell more about what is wrong
                failed += 1
                print(f"FAIL {KIND}: {do} at {of_run.decode()} {nth}, table by_{kind}: {e}")
                if not isinstance(e, Failed):
                    traceback.print_exc(file=sys.stdout)
    finally:
        proxy.close()
        bench.close()
    print(f"{KIND}: {passed} passed, {failed} failed")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
