# SPDX-License-Identifier: Apache-2.0
"""BSON for the MongoDB stand-in, with no package but the standard library.

Decoded values keep what the wire said: Doc and Arr have .raw (their own bytes), Long is an int64
whatever its size, a plain int is an int32 (encoded as int64 when it does not fit). key_of() gives a
tuple that sorts as the server sorts (simple collation) and is hashable; hash_of() is the hash of a
hashed index. ejson()/from_ejson() speak canonical extended JSON, for tests and the command line.
"""
import base64
import decimal
import hashlib
import struct

U32 = struct.Struct("<I")
I32 = struct.Struct("<i")
I64 = struct.Struct("<q")
F64 = struct.Struct("<d")
EXACT = decimal.Context(prec=60, Emax=999999, Emin=-999999)


class Doc(dict):
    __slots__ = ("raw",)


class Arr(list):
    __slots__ = ("raw",)


class Long(int):
    __slots__ = ()


class Special:
    """MinKey, MaxKey, undefined and the mark for a missing field."""

    def __init__(self, name, code, order):
        self.name, self.code, self.order = name, code, order

    def __repr__(self):
        return self.name


MINKEY = Special("MinKey", 0xFF, -1)
MAXKEY = Special("MaxKey", 0x7F, 127)
UNDEFINED = Special("Undefined", 0x06, 0)
MISSING = Special("Missing", None, 5)


class Value:
    """A scalar whose parts are a tuple: compared and hashed by them."""
    __slots__ = ("parts",)

    def __init__(self, *parts):
        self.parts = parts

    def __eq__(self, other):
        return type(self) is type(other) and self.parts == other.parts

    def __hash__(self):
        return hash(self.parts)

    def __repr__(self):
        return "%s%r" % (type(self).__name__, self.parts)


class Bin(Value):        # subtype, bytes
    __slots__ = ()


class Oid(Value):        # 12 bytes
    __slots__ = ()


class Date(Value):       # milliseconds
    __slots__ = ()


class Ts(Value):         # seconds, increment
    __slots__ = ()


class Regex(Value):      # pattern, options: bytes
    __slots__ = ()


class Dec(Value):        # 16 bytes
    __slots__ = ()

    def number(self):
        low, high = struct.unpack("<QQ", self.parts[0])
        sign = high >> 63
        if (high >> 58) & 31 == 31:
            return float("nan")
        if (high >> 58) & 31 == 30:
            return float("-inf") if sign else float("inf")
        if (high >> 61) & 3 == 3:
            return 0  # a significand that does not fit 34 digits counts as zero
        exponent = ((high >> 49) & 0x3FFF) - 6176
        digits = ((high & ((1 << 49) - 1)) << 64) | low
        if digits >= 10 ** 34:
            return 0
        value = decimal.Decimal((sign, tuple(int(c) for c in str(digits)), exponent))
        return value if value else 0

    @staticmethod
    def parse(text):
        if text.lower() in ("nan", "infinity", "-infinity", "inf", "-inf"):
            top = {"n": 31 << 58, "i": 30 << 58, "-": (30 << 58) | (1 << 63)}[text.lower()[0]]
            return Dec(struct.pack("<QQ", 0, top))
        sign, digits, exponent = decimal.Decimal(text).as_tuple()
        number = int("".join(map(str, digits)))
        high = (sign << 63) | ((exponent + 6176) << 49) | (number >> 64)
        return Dec(struct.pack("<QQ", number & (2 ** 64 - 1), high))


class Odd(Value):
    """Types nobody uses any more, kept as bytes: DBPointer 12, code 13, symbol 14, scope 15."""
    __slots__ = ()


def int32(buf, at):
    return I32.unpack_from(buf, at)[0]


def value_end(buf, kind, at):
    """Where the value of this type that begins at `at` ends."""
    fixed = FIXED.get(kind)
    if fixed is not None:
        return at + fixed
    if kind in (2, 13, 14):
        return at + 4 + int32(buf, at)
    if kind in (3, 4, 15):
        return at + int32(buf, at)
    if kind == 5:
        return at + 5 + int32(buf, at)
    if kind == 11:
        return buf.index(b"\0", buf.index(b"\0", at) + 1) + 1
    if kind == 12:
        return at + 4 + int32(buf, at) + 12
    raise ValueError("unknown BSON type %d" % kind)


FIXED = {1: 8, 6: 0, 7: 12, 8: 1, 9: 8, 10: 0, 16: 4, 17: 8, 18: 8, 19: 16, 0xFF: 0, 0x7F: 0}


def value_at(buf, kind, at, end):
    if kind == 16:
        return I32.unpack_from(buf, at)[0]
    if kind == 2:
        return buf[at + 4:end - 1].decode("utf-8", "surrogateescape")
    if kind == 18:
        return Long(I64.unpack_from(buf, at)[0])
    if kind == 1:
        return F64.unpack_from(buf, at)[0]
    if kind == 3:
        return decode(buf[at:end])
    if kind == 4:
        items = Arr(value_at(buf, k, a, e) for k, _, a, e in elements(buf[at:end], at))
        items.raw = buf[at:end]
        return items
    if kind == 8:
        return buf[at] != 0
    if kind == 10:
        return None
    if kind == 7:
        return Oid(buf[at:end])
    if kind == 9:
        return Date(I64.unpack_from(buf, at)[0])
    if kind == 5:
        return Bin(buf[at + 4], buf[at + 5:end])
    if kind == 17:
        low, high = struct.unpack_from("<II", buf, at)
        return Ts(high, low)
    if kind == 19:
        return Dec(buf[at:end])
    if kind == 11:
        pattern, options = buf[at:end].split(b"\0")[:2]
        return Regex(pattern, options)
    for special in (MINKEY, MAXKEY, UNDEFINED):
        if special.code == kind:
            return special
    return Odd(kind, buf[at:end])


def elements(raw, base=0):
    """(type, name, begin, end) of each element, the places shifted by base."""
    at, last = 4, len(raw) - 1
    while at < last:
        kind = raw[at]
        stop = raw.index(b"\0", at + 1)
        name = raw[at + 1:stop].decode("utf-8", "surrogateescape")
        end = value_end(raw, kind, stop + 1)
        if end > last:
            raise ValueError("BSON element reaches beyond its document")
        yield kind, name, stop + 1 + base, end + base
        at = end


def decode(raw):
    doc = Doc()
    doc.raw = raw
    for kind, name, at, end in elements(raw):
        doc[name] = value_at(raw, kind, at, end)
    return doc


def text(value):
    return value.encode("utf-8", "surrogateescape")


def encode_value(value):
    """(type, bytes)"""
    if value is None:
        return 10, b""
    if isinstance(value, bool):
        return 8, b"\1" if value else b"\0"
    if isinstance(value, Long):
        return 18, I64.pack(value)
    if isinstance(value, int):
        return (16, I32.pack(value)) if -2**31 <= value < 2**31 else (18, I64.pack(value))
    if isinstance(value, float):
        return 1, F64.pack(value)
    if isinstance(value, str):
        data = text(value)
        return 2, I32.pack(len(data) + 1) + data + b"\0"
    if isinstance(value, dict):
        return 3, encode(value)
    if isinstance(value, (list, tuple)):
        raw = getattr(value, "raw", None)
        return 4, raw or encode({str(i): v for i, v in enumerate(value)})
    if isinstance(value, (bytes, Raw)):
        return 3, bytes(value)
    if isinstance(value, Bin):
        return 5, I32.pack(len(value.parts[1])) + bytes((value.parts[0],)) + value.parts[1]
    if isinstance(value, Oid):
        return 7, value.parts[0]
    if isinstance(value, Date):
        return 9, I64.pack(value.parts[0])
    if isinstance(value, Ts):
        return 17, struct.pack("<II", value.parts[1], value.parts[0])
    if isinstance(value, Dec):
        return 19, value.parts[0]
    if isinstance(value, Regex):
        return 11, value.parts[0] + b"\0" + value.parts[1] + b"\0"
    if isinstance(value, Odd):
        return value.parts
    if isinstance(value, Special):
        return value.code, b""
    raise TypeError("no BSON for %r" % (value,))


class Raw(bytes):
    """A document that is encoded already."""


def encode(doc):
    raw = getattr(doc, "raw", None)
    if raw is not None:
        return raw
    out = []
    for name, value in doc.items():
        kind, data = encode_value(value)
        out.append(bytes((kind,)) + text(name) + b"\0" + data)
    body = b"".join(out)
    return I32.pack(len(body) + 5) + body + b"\0"


def number(value):
    """An exact number for int, float or Decimal128; None for NaN."""
    if isinstance(value, Dec):
        value = value.number()
    return None if value != value else value


def order_of(value):
    if isinstance(value, bool):
        return 40
    if isinstance(value, (int, float, Dec)):
        return 10
    if isinstance(value, Special):
        return value.order
    if value is None:
        return 5
    if isinstance(value, dict):
        return 20
    if isinstance(value, list):
        return 25
    if isinstance(value, Odd):
        return {12: 55, 13: 60, 14: 15, 15: 65}[value.parts[0]]
    return ORDERS[type(value)]


ORDERS = {str: 15, Bin: 30, Oid: 35, Date: 45, Ts: 47, Regex: 50}


def key_of(value):
    """A tuple (order of the type, what decides inside the type)."""
    kind = type(value)
    if kind is int or kind is Long or kind is float:
        return (10, (0,)) if value != value else (10, (1, value))
    if kind is str:
        return 15, text(value)
    order = order_of(value)
    if order == 10:
        n = number(value)
        return (10, (0,)) if n is None else (10, (1, n))
    if order == 20:
        return 20, tuple((order_of(v), text(k), key_of(v)[1]) for k, v in value.items())
    if order == 25:
        return 25, tuple((order_of(v), key_of(v)[1]) for v in value)
    if order == 30:
        return 30, (len(value.parts[1]), value.parts[0], value.parts[1])
    if order == 40:
        return 40, value
    if isinstance(value, Odd):
        data = value.parts[1]
        return order, data[4:-1] if value.parts[0] == 14 else data
    if isinstance(value, Value):
        return order, value.parts
    return order, 0


NULL_KEY = (5, 0)


def clamp64(value):
    """As the server makes a 64-bit integer: doubles truncate, decimals round, all are clamped."""
    if isinstance(value, Dec):
        value = value.number()
        if isinstance(value, decimal.Decimal):
            if value.adjusted() > 20:
                value = float("-inf") if value < 0 else float("inf")
            else:
                value = int(value.to_integral_value(decimal.ROUND_HALF_EVEN, EXACT))
    if value != value:
        return 0
    if value >= 2 ** 63:
        return 2 ** 63 - 1
    if value < -2 ** 63:
        return -2 ** 63
    return int(value)


def hash_into(md5, value, name):
    md5.update(I32.pack(order_of(value)))
    md5.update(name)
    if isinstance(value, dict) or isinstance(value, list):
        is_doc = isinstance(value, dict)
        for field, inner in value.items() if is_doc else enumerate(value):
            hash_into(md5, inner, text(field if is_doc else str(field)) + b"\0")
        md5.update(I32.pack(0))
    elif order_of(value) == 10:
        md5.update(I64.pack(clamp64(value)))
    else:
        md5.update(encode_value(value)[1])


def hash_of(value):
    md5 = hashlib.md5(U32.pack(0))
    hash_into(md5, None if value is MISSING else value, b"")
    return Long(I64.unpack(md5.digest()[:8])[0])


def ejson(value):
    """To what json.dumps takes: canonical for what plain JSON cannot say, plain for the rest."""
    if isinstance(value, Raw):
        return ejson(decode(bytes(value)))
    if isinstance(value, dict):
        return {k: ejson(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [ejson(v) for v in value]
    if isinstance(value, Bin):
        return {"$binary": {"base64": base64.b64encode(value.parts[1]).decode(),
                            "subType": "%02x" % value.parts[0]}}
    if isinstance(value, Oid):
        return {"$oid": value.parts[0].hex()}
    if isinstance(value, Date):
        return {"$date": {"$numberLong": str(value.parts[0])}}
    if isinstance(value, Ts):
        return {"$timestamp": {"t": value.parts[0], "i": value.parts[1]}}
    if isinstance(value, Regex):
        return {"$regularExpression": {"pattern": value.parts[0].decode(),
                                       "options": value.parts[1].decode()}}
    if isinstance(value, Dec):
        return {"$numberDecimal": str(value.number())}
    if isinstance(value, Special):
        return {"$" + value.name[0].lower() + value.name[1:]: 1}
    if isinstance(value, Odd):
        return {"$odd": [value.parts[0], value.parts[1].hex()]}
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return {"$numberDouble": str(value)}
    return value


PLAIN = {
    "$numberInt": int, "$numberLong": lambda v: Long(int(v)), "$numberDouble": float,
    "$numberDecimal": Dec.parse, "$oid": lambda v: Oid(bytes.fromhex(v)),
    "$minKey": lambda v: MINKEY, "$maxKey": lambda v: MAXKEY, "$undefined": lambda v: UNDEFINED,
    "$date": lambda v: Date(int(v["$numberLong"]) if isinstance(v, dict) else int(v)),
    "$binary": lambda v: Bin(int(v["subType"], 16), base64.b64decode(v["base64"])),
    "$uuid": lambda v: Bin(4, bytes.fromhex(v.replace("-", ""))),
    "$timestamp": lambda v: Ts(int(v["t"]), int(v["i"])),
    "$regularExpression": lambda v: Regex(v["pattern"].encode(), v["options"].encode()),
}


def from_ejson(value):
    if isinstance(value, list):
        return [from_ejson(v) for v in value]
    if isinstance(value, dict):
        if len(value) == 1:
            (name, inner), = value.items()
            if name in PLAIN:
                return PLAIN[name](inner)
        return {k: from_ejson(v) for k, v in value.items()}
    return value
