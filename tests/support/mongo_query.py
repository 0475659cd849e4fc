# SPDX-License-Identifier: Apache-2.0
"""Filters, projections, sort orders and updates of the MongoDB stand-in, as the server does them:
null matches missing, comparisons stay inside their type's bracket, arrays match by element."""
import re
import time

from mongo_bson import (MAXKEY, MINKEY, MISSING, NULL_KEY, Date, Doc, Long, Regex, decode, encode,
                        encode_value, key_of, order_of)


class Failure(Exception):
    """A command's error reply."""

    def __init__(self, code, name, message, labels=(), **extra):
        super().__init__(message)
        self.code, self.name, self.message = code, name, message
        self.labels, self.extra = list(labels), extra

    def reply(self):
        out = {"ok": 0.0, "errmsg": self.message, "code": self.code, "codeName": self.name}
        if self.labels:
            out["errorLabels"] = self.labels
        out.update(self.extra)
        return out


def bad_value(message):
    return Failure(2, "BadValue", message)


def leafs(value, parts):
    """Every value a dotted path leads to; MISSING where it leads nowhere."""
    if not parts:
        return [value]
    if isinstance(value, dict):
        return leafs(value[parts[0]], parts[1:]) if parts[0] in value else [MISSING]
    if isinstance(value, list):
        out = []
        if parts[0].isdigit() and int(parts[0]) < len(value):
            out += leafs(value[int(parts[0])], parts[1:])
        for item in value:
            if isinstance(item, dict):
                out += leafs(item, parts)
        return out or [MISSING]
    return [MISSING]


def plain_path(doc, path):
    """The value of a shard key field: no arrays on the way; MISSING when there is none."""
    value = doc
    for part in path.split("."):
        if not isinstance(value, dict) or part not in value:
            return MISSING
        value = value[part]
    return value


def index_values(doc, path):
    """(values an index holds for the field, is it an array's work)"""
    if "." not in path:
        value = doc.get(path, MISSING)
        if not isinstance(value, list):
            return [value], False
        return (list(value) or [MISSING]), True
    found = leafs(doc, path.split("."))
    out = []
    for value in found:
        out += value if isinstance(value, list) else [value]
    return (out or [MISSING]), len(found) > 1 or any(isinstance(v, list) for v in found)


def is_null(value):
    return value is None or value is MISSING or (order_of(value) == 0)


TYPES = {"double": 1, "string": 2, "object": 3, "array": 4, "binData": 5, "undefined": 6,
         "objectId": 7, "bool": 8, "date": 9, "null": 10, "regex": 11, "int": 16, "timestamp": 17,
         "long": 18, "decimal": 19, "minKey": -1, "maxKey": 127}


def type_number(value):
    kind = encode_value(value)[0]
    return -1 if kind == 0xFF else kind


def regex_of(pattern, options):
    flags = 0
    for letter in options:
        flags |= {"i": re.I, "m": re.M, "s": re.S, "x": re.X}.get(letter, 0)
    return re.compile(pattern, flags)


def test_eq(operand):
    if is_null(operand):
        return is_null
    key = key_of(operand)
    return lambda v: v is not MISSING and key_of(v) == key


def test_order(name, operand):
    bound = key_of(operand) if not is_null(operand) else NULL_KEY
    if operand is MINKEY or operand is MAXKEY:  # these two compare with every type
        side = "$gt" if operand is MINKEY else "$lt"
        return lambda v: name.startswith(side) if v is not operand else name.endswith("e")
    if is_null(operand):
        return lambda v: name in ("$gte", "$lte") and is_null(v)
    if bound == (10, (0,)):
        return lambda v: name in ("$gte", "$lte") and key_of(v) == bound

    def compare(value):
        if value is MISSING:
            return False
        key = key_of(value)
        if key[0] != bound[0] or key == (10, (0,)):
            return False
        return {"$gt": key > bound, "$gte": key >= bound, "$lt": key < bound,
                "$lte": key <= bound}[name]
    return compare


def test_in(operand):
    if not isinstance(operand, list):
        raise bad_value("$in needs an array")
    keys = {key_of(v) for v in operand if not is_null(v)}
    has_null = any(is_null(v) for v in operand)
    patterns = [regex_of(v.parts[0].decode(), v.parts[1].decode()) for v in operand
                if isinstance(v, Regex)]

    def inside(value):
        if is_null(value):
            return has_null
        if isinstance(value, str) and any(p.search(value) for p in patterns):
            return True
        return key_of(value) in keys
    return inside


def test_type(operand):
    wanted = set()
    for one in operand if isinstance(operand, list) else [operand]:
        if one == "number":
            wanted |= {1, 16, 18, 19}
        else:
            wanted.add(TYPES[one] if isinstance(one, str) else int(one))
    return lambda v: v is not MISSING and type_number(v) in wanted


def over(test, parts, with_whole=True):
    """The test on every value of the path and every element of an array found there."""
    if len(parts) == 1:
        name = parts[0]

        def simple(doc):
            value = doc.get(name, MISSING)
            if isinstance(value, list):
                return (with_whole and test(value)) or any(test(v) for v in value)
            return test(value)
        return simple

    def each(doc):
        for value in leafs(doc, parts):
            if (with_whole or not isinstance(value, list)) and test(value):
                return True
            if isinstance(value, list) and any(test(v) for v in value):
                return True
        return False
    return each


def negate(test):
    return lambda doc: not test(doc)


def field_tests(path, operand):
    parts = path.split(".")
    if isinstance(operand, Regex):
        pattern = regex_of(operand.parts[0].decode(), operand.parts[1].decode())
        return [over(lambda v: isinstance(v, str) and pattern.search(v) is not None, parts)]
    if not (isinstance(operand, dict) and operand and next(iter(operand)).startswith("$")):
        return [over(test_eq(operand), parts)]
    out = []
    for name, value in operand.items():
        if name == "$eq":
            out.append(over(test_eq(value), parts))
        elif name == "$ne":
            out.append(negate(over(test_eq(value), parts)))
        elif name in ("$gt", "$gte", "$lt", "$lte"):
            out.append(over(test_order(name, value), parts))
        elif name == "$in":
            out.append(over(test_in(value), parts))
        elif name == "$nin":
            out.append(negate(over(test_in(value), parts)))
        elif name == "$exists":
            there = over(lambda v: v is not MISSING, parts)
            out.append(there if value else negate(there))
        elif name == "$type":
            out.append(over(test_type(value), parts))
        elif name == "$not":
            inner = field_tests(path, value)
            out.append(lambda doc, inner=inner: not all(t(doc) for t in inner))
        elif name == "$regex":
            options = operand.get("$options", "")
            source = value.parts[0].decode() if isinstance(value, Regex) else value
            pattern = regex_of(source, options)
            out.append(over(lambda v, p=pattern: isinstance(v, str) and p.search(v) is not None,
                            parts))
        elif name == "$mod":
            out.append(over(lambda v, m=value: order_of(v) == 10 and v is not MISSING and
                            int(v) % m[0] == m[1], parts))
        elif name == "$size":
            out.append(lambda doc, n=value: any(isinstance(v, list) and len(v) == n
                                                for v in leafs(doc, parts)))
        elif name != "$options":
            raise bad_value("unknown operator: %s" % name)
    return out


def evaluate(expression, doc):
    """The part of $expr that is needed: $$ROOT, "$path", $literal, comparisons, and/or/not."""
    if isinstance(expression, str) and expression.startswith("$$ROOT"):
        rest = expression[7:]
        return doc if not rest else plain_path(doc, rest)
    if isinstance(expression, str) and expression.startswith("$"):
        return plain_path(doc, expression[1:])
    if isinstance(expression, list):
        return [evaluate(e, doc) for e in expression]
    if not isinstance(expression, dict) or not expression:
        return expression
    name, operand = next(iter(expression.items()))
    if name == "$literal":
        return operand
    if not name.startswith("$"):
        return {k: evaluate(v, doc) for k, v in expression.items()}
    if name in ("$and", "$or"):
        return (all if name == "$and" else any)(is_true(evaluate(e, doc)) for e in operand)
    if name == "$not":
        inner = operand[0] if isinstance(operand, list) else operand
        return not is_true(evaluate(inner, doc))
    if name in ("$eq", "$ne", "$gt", "$gte", "$lt", "$lte", "$in", "$cmp"):
        left, right = (evaluate(e, doc) for e in operand)
        a = expr_key(left)
        if name == "$in":
            return any(expr_key(v) == a for v in right)
        b = expr_key(right)
        return {"$eq": a == b, "$ne": a != b, "$gt": a > b, "$gte": a >= b, "$lt": a < b,
                "$lte": a <= b, "$cmp": (a > b) - (a < b)}[name]
    if name == "$type":
        names = {v: k for k, v in TYPES.items()}
        value = evaluate(operand, doc)
        return "missing" if value is MISSING else names[type_number(value)]
    raise Failure(168, "InvalidPipelineOperator", "Unrecognized expression '%s'" % name)


def expr_key(value):
    return (0, -1) if value is MISSING else key_of(value)


def is_true(value):
    return not (value is None or value is MISSING or value is False or
                (order_of(value) == 10 and value == 0))


def root_shortcut(operand):
    """{$in: ["$$ROOT", {$literal: [docs]}]} and $eq on it, by a set; None: something else."""
    if not isinstance(operand, dict) or len(operand) != 1:
        return None
    (name, pair), = operand.items()
    if name not in ("$in", "$eq") or not isinstance(pair, list) or len(pair) != 2:
        return None
    if pair[0] != "$$ROOT" or not isinstance(pair[1], dict) or list(pair[1]) != ["$literal"]:
        return None
    wanted = pair[1]["$literal"] if name == "$in" else [pair[1]["$literal"]]
    keys = {key_of(d) for d in wanted}
    raws = {d.raw for d in wanted if isinstance(d, Doc)}

    def same(doc):
        return getattr(doc, "raw", None) in raws or key_of(doc) in keys
    return same


def compile_filter(query):
    """A function of a decoded document; None for a filter that lets everything through."""
    tests = []
    for name, operand in (query or {}).items():
        if name in ("$and", "$or", "$nor"):
            if not isinstance(operand, list) or not operand:
                raise bad_value("%s must be a nonempty array" % name)
            inner = [compile_filter(q) or (lambda doc: True) for q in operand]
            if name == "$and":
                tests += inner
            elif name == "$or":
                tests.append(lambda doc, inner=inner: any(t(doc) for t in inner))
            else:
                tests.append(lambda doc, inner=inner: not any(t(doc) for t in inner))
        elif name == "$expr":
            shortcut = root_shortcut(operand)
            tests.append(shortcut or (lambda doc, e=operand: is_true(evaluate(e, doc))))
        elif name == "$comment":
            continue
        elif name.startswith("$"):
            raise bad_value("unknown top level operator: %s" % name)
        else:
            tests += field_tests(name, operand)
    if not tests:
        return None
    if len(tests) == 1:
        return tests[0]
    return lambda doc: all(t(doc) for t in tests)


def conjuncts(query):
    """(path, operator, operand) of every condition that must hold, $and flattened."""
    for name, operand in (query or {}).items():
        if name == "$and":
            for one in operand:
                yield from conjuncts(one)
        elif not name.startswith("$"):
            if isinstance(operand, dict) and operand and next(iter(operand)).startswith("$"):
                for op, value in operand.items():
                    yield name, op, value
            else:
                yield name, "$eq", operand


class Points(list):
    """Sorted keys a field must be one of."""


class Span(tuple):
    """(low key, high key), both inclusive: more than what matches, never less."""


EVERYTHING = Span(((-1, 0), (127, 0)))
TOPS = {0: 5, 5: 10, 10: 15, 15: 20, 20: 25, 25: 30, 30: 35, 35: 40, 40: 45, 45: 47, 47: 50,
        50: 127}


def constraint(query, path):
    """What the filter says about one field, as an index or the router would see it: Points, or a
    Span; EVERYTHING when it says nothing usable."""
    best = EVERYTHING
    for name, op, value in conjuncts(query):
        if name != path or isinstance(value, Regex):
            continue
        found = None
        if op == "$eq" and not isinstance(value, list):
            found = point_keys([value])
        elif op == "$in" and not any(isinstance(v, (Regex, list)) for v in value):
            found = point_keys(value)
        elif op in ("$gt", "$gte", "$lt", "$lte") and not isinstance(value, list):
            found = span_of(op, value)
        if found is None:
            continue
        best = meet(best, found)
    return best


def point_keys(values):
    keys = set()
    for value in values:
        keys |= {NULL_KEY, (0, 0)} if is_null(value) else {key_of(value)}
    return Points(sorted(keys))


def span_of(op, value):
    if value is MINKEY or value is MAXKEY:
        return None
    if is_null(value):
        return Points([(0, 0), NULL_KEY]) if op in ("$gte", "$lte") else Points()
    key = key_of(value)
    low = (key[0], ()) if key[0] != 10 else (10, (0,))
    if key[0] not in TOPS:
        return None
    if key[0] in (15, 40):
        low = (key[0], b"") if key[0] == 15 else (40, False)
    return Span((key, (TOPS[key[0]],))) if op in ("$gt", "$gte") else Span((low, key))


def meet(a, b):
    if isinstance(a, Points):
        return Points(k for k in a if in_constraint(k, b))
    if isinstance(b, Points):
        return Points(k for k in b if in_constraint(k, a))
    return Span((max(a[0], b[0]), min(a[1], b[1])))


def in_constraint(key, c):
    return key in c if isinstance(c, Points) else c[0] <= key <= c[1]


def project(raw, doc, projection):
    """The projected document's bytes. `doc` may be None: decoded when needed."""
    if not projection:
        return raw
    doc = decode(raw) if doc is None else doc
    flags = {k: v for k, v in projection.items() if not isinstance(v, dict)}
    others = [v for k, v in flags.items() if k != "_id"]
    is_inclusion = any(map(is_true, others)) or (not others and is_true(flags.get("_id", 0)))
    if is_inclusion:
        tree = {}
        for path, value in flags.items():
            if is_true(value):
                grow(tree, path.split("."))
        if is_true(flags.get("_id", True)):
            tree["_id"] = True
        return encode(keep(doc, tree))
    tree = {}
    for path in flags:
        grow(tree, path.split("."))
    return encode(leave(doc, tree))


def grow(tree, parts):
    for part in parts[:-1]:
        tree = tree.setdefault(part, {})
        if tree is True:
            return
    tree[parts[-1]] = True


def keep(doc, tree):
    out = {}
    for name, value in doc.items():
        want = tree.get(name)
        if want is True:
            out[name] = value
        elif want and isinstance(value, dict):
            out[name] = keep(value, want)
        elif want and isinstance(value, list):
            out[name] = [keep(v, want) for v in value if isinstance(v, dict)]
    return out


def leave(doc, tree):
    out = {}
    for name, value in doc.items():
        drop = tree.get(name)
        if drop is True:
            continue
        if drop and isinstance(value, dict):
            value = leave(value, drop)
        elif drop and isinstance(value, list):
            value = [leave(v, drop) if isinstance(v, dict) else v for v in value]
        out[name] = value
    return out


class Backwards:
    __slots__ = ("key",)

    def __init__(self, key):
        self.key = key

    def __lt__(self, other):
        return other.key < self.key if isinstance(other, Backwards) else NotImplemented

    def __eq__(self, other):
        return isinstance(other, Backwards) and self.key == other.key

    def __hash__(self):
        return hash(self.key)


def sort_key(doc, order):
    out = []
    for path, direction in order.items():
        keys = [NULL_KEY if v is MISSING else key_of(v) for v in index_values(doc, path)[0]]
        out.append(min(keys) if direction > 0 else Backwards(max(keys)))
    return tuple(out)


def set_path(doc, parts, value):
    for part in parts[:-1]:
        inner = doc.get(part)
        inner = dict(inner) if isinstance(inner, dict) else {}
        doc[part] = inner
        doc = inner
    doc[parts[-1]] = value


def unset_path(doc, parts):
    for part in parts[:-1]:
        inner = doc.get(part)
        if not isinstance(inner, dict):
            return
        doc[part] = inner = dict(inner)
        doc = inner
    doc.pop(parts[-1], None)


def apply_update(doc, update, is_insert=False):
    """The document as the update makes it: a plain dict."""
    if not update or not next(iter(update)).startswith("$"):
        out = {"_id": doc["_id"]} if "_id" in doc else {}
        out.update(update)
        return out
    out = dict(doc)
    for name, fields in update.items():
        for path, value in fields.items():
            parts = path.split(".")
            if name == "$set" or (name == "$setOnInsert" and is_insert):
                set_path(out, parts, value)
            elif name == "$unset":
                unset_path(out, parts)
            elif name == "$inc":
                old = plain_path(out, path)
                total = value if old is MISSING else old + value
                is_long = isinstance(value, Long) or isinstance(old, Long)
                set_path(out, parts, Long(total) if is_long else total)
            elif name == "$push":
                old = plain_path(out, path)
                set_path(out, parts, ([] if old is MISSING else list(old)) + [value])
            elif name == "$currentDate":
                set_path(out, parts, now_date())
            elif name != "$setOnInsert":
                raise Failure(9, "FailedToParse", "Unknown modifier: %s" % name)
    return out


def now_date():
    return Date(int(time.time() * 1000))


def seed_of(query):
    """The document an upsert begins with: the equalities of its filter."""
    out = {}
    for path, op, value in conjuncts(query):
        if op == "$eq" and not isinstance(value, Regex):
            set_path(out, path.split("."), value)
    return out
