#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The cases of test_tokenserver.sh on one database: tokenserver.py DROVER mariadb|postgres [CASE]"""
import json
import os
import re
import signal
import subprocess
import sys
import time
import traceback
import urllib.parse

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
from tcp_proxy import Rule, TcpProxy  # noqa: E402
from tokenserver_world import DAY_S, NEIGHBOURS, SECRET, World  # noqa: E402

DROVER, KIND = sys.argv[1:3]
NODES = 10
DONE, FAILED, USAGE, INPUT, STORE, INTERRUPTED = 0, 1, 2, 4, 5, 130
END_SECONDS_MAX = 50
# The requirement's table: option, its default as the manual writes it.
TABLE = {"purge-interval": "3600", "grace-period": "86400", "max-per-loop": "10", "max-offset": "0",
         "max-records": "0", "request-timeout": "60", "oneshot": None, "dryrun": None, "force": None,
         "override_node": None, "range_start": None, "range_end": None, "human_logs": None}
passed = failed = 0
w = None


class Ended:
    def __init__(self, code, out, log):
        self.code, self.out, self.log = code, out, log

    def lines(self):
        """The log, which has to be JSON to the last line."""
        found = [json.loads(line) for line in self.log.splitlines()]
        for line in found:
            assert line["severity"] in ("DEBUG", "INFO", "WARNING", "ERROR"), line
            assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line["time"]), line
            assert isinstance(line["message"], str) and line["message"], line
        return found

    def events(self, message):
        return [line for line in self.lines() if line["message"] == message]

    def result(self):
        return json.loads(self.out)


def truth(what, is_true, more=""):
    global passed, failed
    if is_true:
        passed += 1
    else:
        failed += 1
        print(f"FAIL {KIND}: {what} {more}")


def same(what, found, wanted):
    truth(what, found == wanted, f"(found {found!r}, not {wanted!r})")


def begin(*args, env=None, secret=SECRET, url=None):
    """Start a purge. Secret and database come by the environment unless a case says otherwise."""
    full = {k: v for k, v in os.environ.items() if k not in
            ("DROVER_SECRET", "SYNC_TOKENSERVER__DATABASE_URL")}
    if secret is not None:
        full["DROVER_SECRET"] = secret
    if url is not False:
        full["SYNC_TOKENSERVER__DATABASE_URL"] = url or w.db.url
    full.update(env or {})
    return subprocess.Popen([DROVER, "tokenserver", "purge", *map(str, args)], env=full, text=True,
                            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def end(process):
    try:
        out, log = process.communicate(timeout=END_SECONDS_MAX)
    except subprocess.TimeoutExpired:
        process.kill()
        out, log = process.communicate()
        truth("the purge ends", False, log[-2000:])
    is_told = any(s in text for text in (out, log)
                  for s in (SECRET, w.db.password, w.db.password_url))
    truth("no secret and no password is told", not is_told, log[-2000:])
    return Ended(process.returncode, out, log)


def once(*args, **how):
    return end(begin("--oneshot", "--json", *args, **how))


def wait_for(what, is_true, seconds=20):
    limit = time.monotonic() + seconds
    while not is_true():
        if time.monotonic() > limit:
            truth(what, False, "(waited in vain)")
            return False
        time.sleep(0.02)
    return True


def hidden(process, *words):
    """Nobody else on the machine reads them, once the program has looked at its options."""
    def shown():
        with open(f"/proc/{process.pid}/cmdline", "rb") as f:
            return f.read().decode(errors="replace")
    listed = subprocess.run(["ps", "-ww", "-o", "args=", "-p", str(process.pid)],
                            capture_output=True, text=True, check=True).stdout
    return "tokenserver" in shown() and not any(x in shown() + listed for x in words)


# ---- options, secrets, logs ----

def case_manual_has_every_option_of_the_table():
    text = subprocess.run([DROVER, "help", "tokenserver", "purge"], capture_output=True, text=True,
                          check=True).stdout
    for name, default in TABLE.items():
        found = re.search(rf"^ +--{name}\b.*(?:\n {{12,}}\S.*)*", text, re.M)
        truth(f"--{name} is in the help", found)
        if found and default not in (None, "0"):
            truth(f"--{name} tells its default", f"default {default}" in " ".join(found[0].split()),
                  found[0])
    for name in ("metric_host", "metric_port", "database", "secret-file"):
        truth(f"--{name} is in the help", f"--{name}" in text)


def case_every_option_is_accepted_by_its_spelling():
    w.old(range(1, 4))
    e = once("--purge-interval", 5, "--grace-period=100", "--max-per-loop", 2, "--max-offset", 1,
             "--max-records", 2, "--request-timeout", 7, "--dryrun", "--force", "--override_node",
             w.nodes.url(0), "--range_start", 0, "--range_end", 3, "--metric_host", "127.0.0.1",
             "--metric_port", w.statsd.port, "-v", "--concurrency", 2, "--per-node", 1,
             "--breaker-failures", 3, "--breaker-rest", 1)
    same("exit", e.code, DONE)
    same("nothing is asked for in a dry run", w.requests(), 0)
    same("nothing is deleted in a dry run", w.left(), 3)
    same("a dry run honours --max-records", e.result()["purged"], 2)
    truth("the backlog is a metric", wait_for("a metric", lambda: w.statsd.lines) and
          "tokenserver.purge.backlog.size:3|g" in w.statsd.lines, w.statsd.lines)


def case_defaults_are_those_of_the_table():
    w.old(range(1, 24), node=0)
    w.users([(100, 0, DAY_S + 60), (101, 0, DAY_S - 60), (102, 0, 5)])
    p = begin("-v", "--metric_host", "127.0.0.1", "--metric_port", w.statsd.port)
    wait_for("the first run ends", lambda: "tokenserver.purge.run.success:1|c" in w.statsd.lines)
    wait_for("all due records go", lambda: w.left() == 2, 5)
    time.sleep(0.2)  # the sleep between two runs is only in the log, which is read at the end
    p.terminate()
    e = end(p)
    same("a day's grace: the last two stay", w.db.sql(
        f"SELECT uid FROM users WHERE uid < {NEIGHBOURS[0]} ORDER BY uid;").split(), ["101", "102"])
    fetched = [line for line in w.statsd.lines if "batch.fetched" in line]
    truth("ten at a time", all(int(re.search(r":(\d+)", f)[1]) <= 10 for f in fetched)
          and "tokenserver.purge.batch.fetched:10|c" in fetched, fetched)
    sleeps = [line["ms"] for line in e.events("sleeping")]
    truth("it sleeps an hour, 30 % more or less", len(sleeps) == 1 and 2520e3 <= sleeps[0] <= 4680e3,
          sleeps)
    lives = [p["expires"] - time.time() for p in w.nodes.report(0)["payloads"]]
    truth("60 s for a request, and as long lives the token", 340 < min(lives) <= max(lives) <= 361,
          lives)
    same("SIGTERM between two runs", e.code, INTERRUPTED)


def case_secret_and_database_come_three_ways():
    path = os.path.join(w.top, "secret")
    with open(path, "w", encoding="utf-8") as f:
        f.write(SECRET + "\r\nanother line\n")
    ways = {
        "as SECRET": ([SECRET], {"secret": None}),
        "by --secret-file": (["--secret-file", path], {"secret": None}),
        "by --secret-file before $DROVER_SECRET": (["--secret-file", path], {"secret": "wrong"}),
        "as SECRET before $DROVER_SECRET": ([SECRET], {"secret": "wrong"}),
        "by $DROVER_SECRET": ([], {}),
        "database by --database": (["--database", w.db.url], {"url": False}),
        "--database before the environment":
            ([f"--database={w.db.url}"], {"url": "mysql://nobody@127.0.0.1:1/none"}),
    }
    for uid, (what, (args, how)) in enumerate(ways.items(), 1):
        w.old([uid], node=0)
        e = once(*args, **how)
        same(what, (e.code, w.left(), e.out and e.result()["purged"]), (DONE, 0, 1))


def case_secret_and_password_leave_the_process_list():
    w.old(range(1, 9), node=0)
    w.nodes.tell(0, slow_ms=100)
    p = begin("--database", w.db.url, "--per-node", 1, SECRET, secret=None, url=False)
    wait_for("a request", lambda: w.requests() > 0)
    truth("neither stands in the process list", hidden(p, SECRET, w.db.password, w.db.password_url))
    truth("it still runs", p.poll() is None)
    p.terminate()
    same("exit", end(p).code, INTERRUPTED)


def case_usage_is_checked_before_anything_is_done():
    for what, args, how in (
            ("no secret", [], {"secret": None}), ("an empty secret", [], {"secret": ""}),
            ("the secret twice", ["--secret-file", "/dev/null", SECRET], {}),
            ("no database", [], {"url": False}), ("an unknown option", ["--range-start", 1], {}),
            ("no number", ["--grace-period", "soon"], {}), ("no port", ["--metric_port", 0], {}),
            ("no batch", ["--max-per-loop", 0], {}), ("no time", ["--request-timeout", 0], {}),
            ("an empty range", ["--range_start", 9, "--range_end", 9], {}),
            ("two secrets", ["a", "b"], {})):
        e = once(*args, **how)
        truth(what, e.code == USAGE and len(e.log.splitlines()) == 1 and e.log.startswith("drover: "),
              (e.code, e.log))
    e = once("--secret-file", "/dev/null", secret=None)
    same("an empty secret file", e.code, INPUT)
    e = once("--secret-file", os.path.join(w.top, "none"), secret=None)
    truth("a missing secret file is named", e.code != DONE and "none" in e.log, e.log)
    e = once("--concurrency", 100000)
    truth("a number out of bounds", e.code == INPUT and "concurrency" in e.lines()[-1]["msg"], e.log)


def case_logs_are_json_or_for_people():
    w.old(range(1, 5), node=0)
    w.nodes.tell(0, status=503, times=1)
    e = once("-v", "--breaker-rest", 1)
    same("exit", e.code, DONE)
    severities = {line["severity"] for line in e.lines()}
    truth("every severity", severities == {"DEBUG", "INFO", "WARNING"}, severities)
    truth("-v names every record", len(e.events("purging")) == 4)
    w.old(range(11, 13), node=0)
    e = end(begin("--oneshot", "--human_logs"))
    truth("for people", e.code == DONE and "{" not in e.log and "2 records purged" in e.log, e.log)
    truth("without -v no record is named", "uid=11" not in e.log, e.log)
    w.old([21], node=0)
    e = end(begin("--oneshot"))
    truth("without --json standard output stays empty", e.code == DONE and e.out == "", e.out)
    same("JSON to the last line", e.lines()[-1]["message"], "purge run ended")


def case_metrics_have_names_and_tags():
    w.old(range(1, 6), node=0)
    w.old([11], node=1)
    w.users([(21, None, 2 * DAY_S), (22, 77, 2 * DAY_S)])
    w.old([31], node=2)
    w.nodes.tell(1, status=503)
    w.down(2)
    e = once("--force", "--metric_host", "localhost", "--metric_port", w.statsd.port)
    wait_for("the last metric", lambda: w.statsd.counted("purge.run.success") == 1)
    s = w.statsd
    same("exit", e.code, DONE)
    same("metrics", [s.counted("delete_user", "|c|#type:not_down"),
                     s.counted("delete_user", "|c|#type:nodeless"),
                     s.counted("delete_data", "|c|#type:force"),
                     s.counted("row_failure", "|c|#reason:http_5xx"), s.counted("error.gone"),
                     s.counted("purge.batch.fetched")], [5, 2, 1, 1, 1, 9])
    truth("gauge and timing", "tokenserver.purge.backlog.size:9|g" in s.lines
          and any(re.fullmatch(r"tokenserver\.purge\.run\.duration_ms:\d+\|ms", x) for x in s.lines),
          s.lines)
    e = once("--metric_host", "no.such.host.invalid")
    truth("a statsd server that cannot be found is no reason to fail quietly",
          e.code == DONE or e.log != "", e.log)


# ---- which records ----

def case_dry_run_counts_and_touches_nothing():
    w.old(range(1, 8), node=0)
    w.users([(21, None, 2 * DAY_S)])
    before = w.db.sql("SELECT * FROM users ORDER BY uid;")
    e = once("--dryrun")
    same("counts", (e.code, e.result()["purged"], e.result()["nodeless"]), (DONE, 7, 1))
    same("no request", w.requests(), 0)
    same("no write", w.db.sql("SELECT * FROM users ORDER BY uid;"), before)


def case_downed_nodes_wait_for_force():
    w.old(range(1, 6), node=0)
    w.old(range(11, 14), node=1)
    w.down(1)
    e = once()
    same("left alone", (e.code, e.result()["purged"], e.result()["skipped_downed"], w.left()),
         (DONE, 5, 3, 3))
    same("not even asked", w.nodes.report(1)["requests"], 0)
    e = once("--force")
    same("forced", (e.code, e.result()["purged"], w.left(), w.data_left()), (DONE, 3, 0, 0))


def case_override_node_has_the_copies():
    w.old(range(11, 14), node=1)
    w.nodes.tell(2, data=[11, 12, 13, *NEIGHBOURS])
    w.down(1)
    # uid 12 has the same key as the user's active record: the copy is the active data.
    for uid, state in ((11, "00112233"), (12, "aabbccdd"), (13, "00112233")):
        w.users([(500 + uid, 2, None)], email=f"user{uid}@example.com", state=state, generation=2000
                if uid == 13 else 1234)
    e = once("--force", "--override_node", w.nodes.url(2))
    same("records", (e.code, e.result()["purged"], w.left("replaced_at IS NOT NULL")), (DONE, 3, 0))
    same("the downed node is not asked", w.nodes.report(1)["requests"], 0)
    same("copies", sorted(w.nodes.report(2)["deleted"]), [11, 13])
    truth("what is in use stays", 12 in w.nodes.report(2)["data"])
    e = once("--override_node", w.nodes.url(2))
    truth("without --force it is said to do nothing",
          any(line["severity"] == "WARNING" for line in e.lines()), e.log)


def case_nodeless_records_go_without_a_request():
    w.users([(1, None, 2 * DAY_S), (2, 77, 2 * DAY_S)])
    e = once("--max-records", 1)
    same("and are not counted", (e.code, e.result()["nodeless"], w.left(), w.requests()),
         (DONE, 2, 0, 0))


def case_range_is_open_below_and_closed_above():
    w.old(range(1, 21))
    e = once("--range_start", 5, "--range_end", 15)
    same("exit", e.code, DONE)
    same("uids left", [int(x) for x in w.db.sql(
        f"SELECT uid FROM users WHERE uid < {NEIGHBOURS[0]} ORDER BY uid;").split()],
        [*range(1, 6), *range(16, 21)])


def case_max_records_ends_the_program():
    w.old(range(1, 61))
    e = end(begin("--max-records", 7, "--json"))
    same("exit", e.code, DONE)
    same("exactly so many", (e.result()["purged"], w.left(), w.data_left()), (7, 53, 53))
    truth("and it is said", e.result()["is_limit_reached"])


def case_max_offset_leaves_nothing_out():
    w.old(range(1, 61))
    for _ in range(3):
        e = once("--max-offset", 50, "--max-records", 10)
        same("exit", e.code, DONE)
    e = once("--max-offset", 500)
    same("all of it", (e.code, e.result()["purged"], w.left(), w.data_left()), (DONE, 30, 0, 0))


def case_grace_period_in_both_directions():
    w.users([(1, 0, 100), (2, 0, 50), (3, 0, -20)])
    same("75 s", (once("--grace-period", 75).code, w.left()), (DONE, 2))
    same("0 s", (once("--grace-period", 0).code, w.left()), (DONE, 1))
    same("30 s ahead", (once("--grace-period", -30).code, w.left()), (DONE, 0))


# ---- the loop ----

def case_loop_comes_again_and_ends_between_runs():
    w.old(range(1, 4))
    p = begin("--purge-interval", 1, "--json", "--metric_host", "127.0.0.1", "--metric_port",
              w.statsd.port)
    wait_for("the first run", lambda: w.left() == 0)
    w.old(range(11, 14))
    wait_for("the second run", lambda: w.left() == 0)
    wait_for("three runs", lambda: w.statsd.counted("purge.run.success") >= 3)
    same("no run failed", w.statsd.counted("purge.run.failure"), 0)
    p.terminate()
    e = end(p)
    same("exit", e.code, INTERRUPTED)
    said = e.events("stopped")
    truth("it is said, and is no error", [x["severity"] for x in said] == ["INFO"], e.log)


def case_sigterm_awaits_what_is_under_way():
    w.old(range(1, 31), node=0)
    w.nodes.tell(0, slow_ms=700)
    p = begin("--per-node", 3)
    wait_for("three requests", lambda: w.nodes.report(0)["requests"] == 3)
    p.terminate()
    e = end(p)
    same("exit", e.code, INTERRUPTED)
    same("the three are finished, records and all", (w.data_left(), w.left()), (27, 27))
    same("nothing else was begun", w.nodes.report(0)["requests"], 3)


# ---- trouble ----

def case_one_broken_node_holds_up_nobody():
    w.old(range(1, 301))
    w.nodes.tell(3, status=503)
    p = begin("--oneshot", "--json", "--breaker-rest", 3)
    wait_for("nine nodes finish", lambda: w.left("nodeid <> 4") == 0)
    truth("while the tenth rests", p.poll() is None)
    truth("and is hardly asked", w.nodes.report(3)["requests"] <= 8, w.nodes.report(3)["requests"])
    e = end(p)
    same("exit", e.code, DONE)
    same("270 are purged", (e.result()["purged"], w.left(), w.data_left()), (270, 30, 30))
    truth("some are deferred, the rest waits", 1 <= e.result()["deferred"] <= 10, e.out)
    truth("it is said which node", any(w.nodes.url(3) in str(x) for x in
                                       e.events("node left out for the rest of this run")), e.log)
    deferred = w.left(f"replaced_at > {int((time.time() - DAY_S) * 1000)}")
    same("deferred by their date", deferred, e.result()["deferred"])
    w.nodes.tell(3, status=0)
    e = once()
    same("well again", (e.code, w.left()), (DONE, deferred))
    e = once("--grace-period", -5)
    same("and the deferred", (e.code, w.left(), w.data_left()), (DONE, 0, 0))


def case_timeout_is_asked_again():
    w.old(range(1, 3), node=0)
    w.nodes.tell(0, fail="hang", times=1)
    e = once("--request-timeout", 1, "--metric_host", "127.0.0.1", "--metric_port", w.statsd.port)
    same("both", (e.code, e.result()["purged"], w.left(), w.data_left()), (DONE, 2, 0, 0))
    same("three requests", w.nodes.report(0)["requests"], 3)
    truth("the reason is told", any(x["reason"] == "timeout" for x in e.events("deletion failed")),
          e.log)


def case_lying_or_lost_answers_do_not_lose_records():
    w.old(range(1, 9), node=0)
    w.nodes.tell(0, fail="close_after", times=2)
    e = once()
    same("404 is done", (e.code, e.result()["purged"], w.left(), w.data_left()), (DONE, 8, 0, 0))


def case_unreachable_database_is_one_clear_line():
    password = "s3cret-pass"
    scheme = urllib.parse.urlsplit(w.db.url).scheme
    gone = f"{scheme}://drover:{password}@127.0.0.1:1/drover"
    e = once(url=gone)
    same("exit", e.code, STORE)
    errors = [line for line in e.lines() if line["severity"] == "ERROR"]
    truth("one line, with the place", len(errors) == 1 and "127.0.0.1" in errors[0]["msg"], e.log)
    truth("without the password", password not in e.log, e.log)
    e = once("--human_logs", "--database", gone, url=False)
    said = [line for line in e.log.splitlines() if line.startswith("drover: ")]
    truth("for people", e.code == STORE and len(said) == 1 and password not in e.log, e.log)
    for what, url in (("a wrong password", w.db.url.replace(w.db.password_url, password)),
                      ("no such database", w.db.url.replace("/drover", "/nothing")),
                      ("no database URL at all", "ftp://x/y")):
        e = once(url=url)
        truth(what, e.code not in (DONE, INTERRUPTED) and password not in e.log and e.lines() and
              e.lines()[-1]["severity"] == "ERROR", (e.code, e.log))


def case_another_database_is_refused():
    w.db.sql("ALTER TABLE services RENAME TO elsewhere;")
    try:
        e = once()
    finally:
        w.db.sql("ALTER TABLE elsewhere RENAME TO services;")
    truth("not the token server's", e.code not in (DONE, INTERRUPTED) and
          "services" in e.lines()[-1]["msg"], e.log)


def case_wrong_secret_ends_early():
    w.old(range(1, 201))
    e = once(secret="wrong-secret-word")
    same("exit", e.code, STORE)
    truth("few are asked", w.requests() <= 40, w.requests())
    same("nothing goes", (w.left(), w.data_left()), (200, 200))
    said = e.events("purge failed")
    truth("what to do is said, the secret is not", len(said) == 1 and "secret" in said[0]["msg"]
          and "wrong-secret-word" not in e.log, e.log)


def case_killed_and_run_again():
    w.old(range(1, 301))
    for i in range(NODES):
        w.nodes.tell(i, slow_ms=10)
    for at in (200, 100):
        p = begin("--oneshot")
        wait_for("some are done", lambda at=at: w.left() <= at)
        p.kill()
        p.communicate()
    truth("no record went before its data", w.data_left() <= w.left(), (w.data_left(), w.left()))
    same("again", once().code, DONE)
    same("all gone", (w.left(), w.data_left()), (0, 0))


def case_killed_between_data_and_record():
    for point in ("tokenserver.confirmed", "tokenserver.erased"):
        w.old(range(1, 151))  # more than two statements take
        p = begin("--oneshot", env={"DROVER_FAULT": f"{point}@2=kill"})
        p.communicate(timeout=END_SECONDS_MAX)
        same(f"killed at {point}", p.returncode, -signal.SIGKILL)
        truth("no record went before its data", w.data_left() <= w.left() and w.left() > 0)
        same("again", (once().code, w.left(), w.data_left()), (DONE, 0, 0))


def case_lost_answers_of_the_database():
    """What was asked of it has happened or has not; in the end each record is gone."""
    proxy = TcpProxy(w.db.port)
    url = w.db.url.replace(f":{w.db.port}/", f":{proxy.port}/") + "?read_timeout=2"
    for do in ("cut_after", "cut_before", "hang"):
        w.old(range(1, 41))
        rule = Rule(do, rb"DELETE FROM users")
        proxy.set(rule)
        e = once(url=url)
        same(f"{do}: the proxy lost one", rule.done, 1)
        truth("the run repeats the statement, or says that it failed", e.code == DONE or (
            e.code in (FAILED, STORE) and e.events("purge failed")), (e.code, e.log))
        truth("no record went before its data", w.data_left() <= w.left())
        e = once(url=url)
        same("in the end", (e.code, w.left(), w.data_left()), (DONE, 0, 0))
    proxy.close()


def case_many_purgers_delete_each_record_once():
    for many, offset in ((2, 0), (4, 0), (4, 100)):
        w.old(range(1, 241))
        purgers = [begin("--oneshot", "--json", "--max-offset", offset) for _ in range(many)]
        ends = [end(p) for p in purgers]
        same(f"{many} purgers", [e.code for e in ends], [DONE] * many)
        same("each record once", sum(e.result()["purged"] for e in ends), 240)
        same("all gone", (w.left(), w.data_left()), (0, 0))
        deleted = [uid for i in range(NODES) for uid in w.nodes.report(i)["deleted"]]
        w.clear()
        same("each user's data once", len(set(deleted)), len(deleted))


def main():
    global w, failed
    only = sys.argv[3] if len(sys.argv) > 3 else ""
    w = World(KIND, NODES)
    try:
        for name, case in list(globals().items()):
            if not name.startswith("case_") or only not in name:
                continue
            before, begun = failed, time.monotonic()
            try:
                w.clear()
                case()
                truth("neighbours are untouched", w.neighbours_are_safe())
                truth("every request was signed rightly", "wrong_secret" in name or not any(
                    w.nodes.report(i)["refusals"] for i in range(NODES)))
                truth("no nonce came twice", not any(
                    w.nodes.report(i)["is_nonce_repeated"] for i in range(NODES)))
            except Exception:  # a case that breaks is one that failed, and the others go on
                failed += 1
                traceback.print_exc(file=sys.stdout)
            if failed != before:
                print(f"     {KIND}: in {name}")
            if os.environ.get("TIMES"):
                print(f"     {KIND}: {time.monotonic() - begun:5.1f} s {name}")
    finally:
        w.close()
    print(f"{KIND}: {passed} passed, {failed} failed")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
