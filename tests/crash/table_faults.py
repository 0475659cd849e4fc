# SPDX-License-Identifier: Apache-2.0
"""The faults of crash_table.py: what is changed, what goes wrong at which step, and the list of all
pairs of both."""
import itertools

NEVER = 1000000
POINTS_MAX = 30  # as many armed points as drover takes

# What is done to a table: rf, nodes that it has before, how it is changed.
CHANGES = {
    "create rf 1": {"rf": 1, "what": "create", "numbers": (1, 2, 4)},
    "create rf 2": {"rf": 2, "what": "create", "numbers": (1, 2, 4)},
    "create rf 3": {"rf": 3, "what": "create", "numbers": (1, 2, 4)},
    "add rf 1": {"rf": 1, "what": "add", "numbers": (1, 2, 3), "add": (4,)},
    "add rf 2": {"rf": 2, "what": "add", "numbers": (1, 2, 3), "add": (4,)},
    "add rf 3": {"rf": 3, "what": "add", "numbers": (1, 2, 3), "add": (4,)},
    "remove rf 1": {"rf": 1, "what": "remove", "numbers": (1, 2, 4), "remove": (4,)},
    "remove rf 2": {"rf": 2, "what": "remove", "numbers": (1, 2, 4), "remove": (4,)},
    "remove rf 3": {"rf": 3, "what": "remove", "numbers": (1, 2, 3, 4), "remove": (4,)},
    "give up rf 2": {"rf": 2, "what": "give up", "numbers": (1, 2, 3, 4), "remove": (4,)},
    "give up rf 3": {"rf": 3, "what": "give up", "numbers": (1, 2, 3, 4), "remove": (4,)},
    "drop rf 2": {"rf": 2, "what": "drop", "numbers": (1, 2, 4)},
    "undo add rf 1": {"rf": 1, "what": "add", "numbers": (1, 2, 3), "add": (4,), "undo": True},
    "undo add rf 2": {"rf": 2, "what": "add", "numbers": (1, 2, 3), "add": (4,), "undo": True},
    "undo remove rf 2": {"rf": 2, "what": "remove", "numbers": (1, 2, 4), "remove": (4,), "undo": True},
    "undo drop rf 2": {"rf": 2, "what": "drop", "numbers": (1, 2, 4), "undo": True},
}
# The short form: learning what there is to disturb takes servers longer than disturbing it.
SMALL = {"sqlite": ("create rf 2", "add rf 1", "add rf 2", "give up rf 2", "drop rf 2", "undo add rf 2"),
         "mariadb": ("add rf 2", "undo add rf 2"), "postgres": ("add rf 2", "undo add rf 2")}
# error: one call fails; broken: it fails for good, so that all is rolled back; lost: the answer is
# lost; killed: drover is; node: a server is, in the middle of a request, and comes back; cut: the
# connection breaks instead of an answer.
SORTS = ("error", "broken", "lost", "killed", "node", "cut")
STEP_VERBS = {  # the point of a step, by what its title begins with
    "reserve": "table_reserve", "make": "ensure", "open": "table_ready", "begin": "table_begin", "note": "capture",
    "copy": "copy", "compare": "verify", "bring": "follow", "switch": "cutover", "hold": "hold-until", "drop": "retire",
    "end": "table_end", "close": "table_drop", "take": "hold", "forget": "table_remove", "give": "give-up"}
UNDO_VERBS = {"reserve": "table_release", "make": "drop", "begin": "table_cancel", "note": "uncapture",
              "switch": "cutback", "close": "table_undrop", "take": "unhold"}


def verbs_of(steps, is_undo):
    """The points that the steps pass: (verb, its how manieth passing)."""
    names = UNDO_VERBS if is_undo else STEP_VERBS
    seen, out = {}, []
    for step in steps:
        verb = names.get(step["title"].split()[0])
        if verb is None and not is_undo:
            raise KeyError(step["title"])
        if verb is not None:
            seen[verb] = seen.get(verb, 0) + 1
            out.append((verb, seen[verb]))
    return out


def fault_of(sort, verb, nth):
    """For DROVER_FAULT."""
    if sort == "error":
        return f"fleet.{verb}@{nth}=error"
    if sort == "broken":
        return ",".join(f"fleet.{verb}@{n}=error" for n in range(nth, nth + POINTS_MAX))
    if sort == "lost":
        return f"fleet.{verb}.done@{nth}=error"
    return f"fleet.{verb}@{nth}=kill"


def inner_points(points):
    """Points inside a step, found by an undisturbed run, where drover dies as well."""
    prefixes = ("fleet.cutover.", "fleet.cutback.", "fleet.retire.", "store.sqlite.shard", "catalog.table",
                "worker.saved", "queue.finish", "queue.save", "queue.commit", "queue.turned")
    return sorted(p for p in points if p.startswith(prefixes))


def at_steps(sorts, verbs):
    return [(sort, verb, nth) for sort, (verb, nth) in itertools.product(sorts, verbs)]
