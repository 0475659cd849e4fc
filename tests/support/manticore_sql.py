# SPDX-License-Identifier: Apache-2.0
"""The piece of Manticore's SQL that the stand-in understands: text -> dictionaries."""
import re
import zlib

from manticore_wire import SqlError

TOKEN = re.compile(r"""\s*(?:
    (?P<text>'(?:[^'\\]|\\.)*')
  | (?P<quoted>`[^`]*`)
  | (?P<number>-?\d+(?:\.\d+)?)
  | (?P<word>@@[A-Za-z0-9_.]+|[A-Za-z_][A-Za-z0-9_]*)
  | (?P<op><=|>=|<>|!=|[=<>(),*:.;\[\]])
)""", re.X)
COLUMN_TYPES = {"bigint", "int", "integer", "uint", "string", "text", "float", "bool", "json",
                "timestamp", "multi", "multi64", "float_vector"}


class Tokens:
    def __init__(self, sql):
        self.sql, self.at, self.items = sql, 0, []
        position = 0
        end = len(sql.rstrip().rstrip(";").rstrip())
        while position < end:
            match = TOKEN.match(sql, position)
            if match is None:
                raise SqlError("P01: syntax error, unexpected %r near '%s'"
                               % (sql[position:position + 1], sql[position:position + 40]))
            position = match.end()
            kind = match.lastgroup
            value, start = match.group(kind), match.start(kind)
            if kind == "text":
                value = re.sub(r"\\(.)", r"\1", value[1:-1])
            elif kind == "quoted":
                kind, value = "name", value[1:-1]
            elif kind == "number":
                value = float(value) if "." in value else int(value)
            self.items.append((kind, value, start))

    def fail(self):
        near = self.sql[self.items[self.at][2]:][:60] if self.at < len(self.items) else ""
        raise SqlError("P01: syntax error, unexpected %s near '%s'"
                       % ("identifier" if near else "$end", near))

    def is_end(self):
        return self.at >= len(self.items)

    def peek(self, *words):
        """True when the next words (or operators) are these."""
        for i, word in enumerate(words):
            if self.at + i >= len(self.items):
                return False
            kind, value, _ = self.items[self.at + i]
            if kind not in ("word", "op") or str(value).upper() != word:
                return False
        return True

    def accept(self, *words):
        if self.peek(*words):
            self.at += len(words)
            return True
        return False

    def need(self, *words):
        if not self.accept(*words):
            self.fail()

    def take(self, *kinds):
        if self.is_end() or self.items[self.at][0] not in kinds:
            self.fail()
        self.at += 1
        return self.items[self.at - 1][1]

    def name(self):
        return self.take("word", "name")

    def table(self):
        """[cluster:][system.]table -> (cluster or None, table)"""
        first = self.name()
        cluster = None
        if self.accept(":"):
            cluster, first = first, self.name()
        if self.accept("."):
            if first.lower() != "system":
                raise SqlError("P01: syntax error, unknown database '%s'" % first)
            first = "system." + self.name()
        return cluster, first.lower()

    def literal(self):
        return self.take("text", "number")

    def finish(self):
        if not self.is_end():
            self.fail()


def parse_columns(t):
    t.need("(")
    columns = []
    while True:
        name = t.name().lower()
        kind = t.name().lower()
        if kind not in COLUMN_TYPES:
            raise SqlError("P01: syntax error, unexpected identifier near '%s'" % kind)
        options = []
        while not t.peek(",") and not t.peek(")"):
            options.append(str(t.items[t.at][1]))
            t.at += 1
            if t.is_end():
                t.fail()
        columns.append([name, kind, " ".join(options)])
        if t.accept(")"):
            return columns
        t.need(",")


def parse_create_table(t):
    out = {"do": "create_table", "if_not_exists": t.accept("IF", "NOT", "EXISTS")}
    out["cluster"], out["table"] = t.table()
    if out["cluster"] is not None:
        t.fail()
    out["columns"] = parse_columns(t) if t.peek("(") else []
    out["type"], out["locals"], out["agents"], out["options"] = "rt", [], [], []
    while not t.is_end():
        key = t.name().lower()
        t.need("=")
        value = t.take("text")
        if key == "type":
            out["type"] = value
        elif key == "local":
            out["locals"].append(value.lower())
        elif key == "agent":
            out["agents"].append(value)
        else:
            out["options"].append([key, value])
    if not out["columns"] and out["type"] == "rt":
        out["columns"] = [["id", "bigint", ""]]
    return out


def parse_where(t):
    terms = []
    if not t.accept("WHERE"):
        return terms
    while True:
        name = t.name().lower()
        if t.accept("IN"):
            t.need("(")
            values = [t.literal()]
            while t.accept(","):
                values.append(t.literal())
            t.need(")")
            terms.append([name, "in", values])
        else:
            op = t.take("op")
            if op not in ("=", "<", ">", "<=", ">=", "<>", "!="):
                t.at -= 1
                t.fail()
            terms.append([name, op, t.literal()])
        if not t.accept("AND"):
            return terms


def parse_select(t):
    out = {"do": "select", "items": [], "order": None, "limit": 20, "offset": 0}
    while True:
        if t.accept("*"):
            out["items"].append("*")
        elif t.accept("COUNT", "(", "*", ")"):
            out["items"].append("count(*)")
        elif t.peek("DISTINCT") or t.peek("CASE"):
            t.fail()
        else:
            name = t.name().lower()
            if name in ("sum", "min", "max") and t.accept("("):
                name = "%s(%s)" % (name, t.name().lower())
                t.need(")")
            if t.accept("AS"):
                t.name()
            out["items"].append(name)
        if not t.accept(","):
            break
    t.need("FROM")
    if not t.is_end() and str(t.items[t.at][1]).lower() == "@@system.sessions":
        t.at += 1
        out["do"] = "sessions"
    else:
        out["cluster"], out["table"] = t.table()
    out["where"] = parse_where(t)
    if t.accept("ORDER", "BY"):
        name = t.name().lower()
        is_down = t.accept("DESC")
        if not is_down:
            t.accept("ASC")
        out["order"] = [name, is_down]
    if t.accept("LIMIT"):
        out["limit"] = t.take("number")
        if t.accept(","):
            out["offset"], out["limit"] = out["limit"], t.take("number")
    if t.accept("OPTION"):
        t.at = len(t.items)
    t.finish()
    return out


def parse_insert(t, verb):
    t.need("INTO")
    out = {"do": "insert", "is_replace": verb == "REPLACE", "names": None, "rows": []}
    out["cluster"], out["table"] = t.table()
    if t.accept("("):
        out["names"] = [t.name().lower()]
        while t.accept(","):
            out["names"].append(t.name().lower())
        t.need(")")
    t.need("VALUES")
    while True:
        t.need("(")
        row = [t.literal()]
        while t.accept(","):
            row.append(t.literal())
        t.need(")")
        out["rows"].append(row)
        if not t.accept(","):
            break
    t.finish()
    return out


def parse_update(t):
    out = {"do": "update", "set": {}}
    out["cluster"], out["table"] = t.table()
    t.need("SET")
    while True:
        name = t.name().lower()
        t.need("=")
        out["set"][name] = t.literal()
        if not t.accept(","):
            break
    out["where"] = parse_where(t)
    t.finish()
    return out


def parse_cluster(t, verb):
    out = {"do": verb, "path": None, "nodes": None}
    if verb == "set_cluster":
        out["name"] = t.name()
        t.need("GLOBAL")
        out["key"] = t.take("text", "word")
        t.need("=")
        out["value"] = t.literal()
        t.finish()
        return out
    if t.peek("IF"):
        t.fail()  # IF NOT EXISTS is no searchd syntax for clusters
    out["name"] = t.name()
    if verb == "join_cluster":
        if t.accept("AT"):
            out["at"] = t.take("text")
        t.accept(",")
    if verb == "alter_cluster":
        if t.accept("UPDATE"):
            t.need("NODES")
            out["what"] = "update"
        else:
            out["what"] = "add" if t.accept("ADD") else "drop"
            if out["what"] == "drop":
                t.need("DROP")
            out["tables"] = [t.table()[1]]
            while t.accept(","):
                out["tables"].append(t.table()[1])
    while verb in ("create_cluster", "join_cluster") and not t.is_end():
        value = t.take("text")
        t.need("AS")
        out[t.name().lower()] = value
        if not t.accept(","):
            break
    t.finish()
    return out


def parse_drop(t):
    out = {"do": "drop_table", "if_exists": t.accept("IF", "EXISTS")}
    out["cluster"], out["table"] = t.table()
    out["force"] = t.accept("OPTION", "FORCE", "=") and t.take("number") == 1
    t.finish()
    return out


def parse_show(t):
    if t.accept("STATUS"):
        like = t.take("text") if t.accept("LIKE") else "%"
        t.finish()
        return {"do": "show_status", "like": like}
    if t.accept("TABLES"):
        is_system = False
        if t.accept("FROM"):
            is_system = t.name().lower() == "system"
        like = t.take("text") if t.accept("LIKE") else "%"
        return {"do": "show_tables", "system": is_system, "like": like}
    if t.accept("CREATE", "TABLE"):
        out = {"do": "show_create", "table": t.table()[1], "force": False}
        if t.accept("OPTION", "FORCE", "="):
            out["force"] = t.take("number") == 1
        t.finish()
        return out
    if t.accept("SETTINGS"):
        return {"do": "show_settings"}
    if t.accept("WARNINGS"):
        return {"do": "show_warnings"}
    if t.accept("THREADS"):
        return {"do": "sessions", "where": [], "limit": 1000, "offset": 0, "order": None,
                "items": ["*"]}
    return t.fail()


def parse(sql):
    t = Tokens(sql)
    for words, verb in ((("CREATE", "CLUSTER"), "create_cluster"), (("JOIN", "CLUSTER"), "join_cluster"),
                        (("ALTER", "CLUSTER"), "alter_cluster"), (("EXIT", "CLUSTER"), "exit_cluster"),
                        (("DELETE", "CLUSTER"), "delete_cluster"), (("SET", "CLUSTER"), "set_cluster")):
        if t.accept(*words):
            return parse_cluster(t, verb)
    if t.accept("CREATE", "TABLE"):
        return parse_create_table(t)
    if t.accept("DROP", "TABLE"):
        return parse_drop(t)
    if t.accept("SELECT"):
        return parse_select(t)
    for verb in ("INSERT", "REPLACE"):
        if t.accept(verb):
            return parse_insert(t, verb)
    if t.accept("UPDATE"):
        return parse_update(t)
    if t.accept("DELETE", "FROM"):
        out = {"do": "delete"}
        out["cluster"], out["table"] = t.table()
        out["where"] = parse_where(t)
        t.finish()
        return out
    if t.accept("SHOW"):
        return parse_show(t)
    if t.accept("DESC") or t.accept("DESCRIBE"):
        return {"do": "desc", "table": t.table()[1]}
    if t.accept("ALTER", "TABLE"):
        return {"do": "alter_table", "table": t.table()[1]}
    if t.accept("SET"):
        return {"do": "nothing"}
    return t.fail()


def like_match(pattern, text):
    expression = re.escape(pattern).replace("%", ".*").replace("_", ".")
    return re.fullmatch(expression, text) is not None


def row_matches(row, where):
    for name, op, value in where:
        have = row.get(name)
        if op == "in":
            if have not in value:
                return False
            continue
        if have is None or isinstance(have, str) != isinstance(value, str):
            return op in ("<>", "!=")
        answer = {"=": have == value, "<": have < value, ">": have > value, "<=": have <= value,
                  ">=": have >= value, "<>": have != value, "!=": have != value}[op]
        if not answer:
            return False
    return True


def ids_of_where(where):
    """Ids that a condition names, or None when it names none."""
    for name, op, value in where:
        if name == "id" and op == "=":
            return [value]
        if name == "id" and op == "in":
            return list(value)
    return None


def route(key, buckets):
    """CRC-32 of the id's text, then jump consistent hash."""
    hashed = zlib.crc32(str(key).encode()) & 0xFFFFFFFF
    bucket, jump = -1, 0
    while jump < buckets:
        bucket = jump
        hashed = (hashed * 2862933555777941757 + 1) & 0xFFFFFFFFFFFFFFFF
        jump = int((bucket + 1) * (float(1 << 31) / float((hashed >> 33) + 1)))
    return bucket


def target_number(name):
    match = re.search(r"_s(\d+)$", name)
    if match is None:
        raise SqlError("table name '%s' has no shard number" % name)
    return int(match.group(1))


def parse_agent(text):
    """'a:1:system.t_s0|b:1:system.t_s0[retry_count=2,ha_strategy=noerrors]' -> mirrors, options"""
    options = ""
    match = re.fullmatch(r"(.*)\[(.*)\]", text)
    if match is not None:
        text, options = match.groups()
    mirrors, name = [], None
    for part in text.split("|"):
        pieces = part.rsplit(":", 1)
        if len(pieces) != 2 or ":" not in pieces[0]:
            raise SqlError("agent '%s': wrong address" % part)
        mirrors.append([pieces[0], pieces[1].lower()])
        name = pieces[1].lower()
    return {"mirrors": mirrors, "name": name, "options": options, "text": text}
