# SPDX-License-Identifier: Apache-2.0
"""Two protocols of a Manticore stand-in: MySQL's (server side, and a small client for tests) and the
one that stand-ins speak among themselves on the binary port (a length and JSON)."""
import json
import os
import socket
import struct

PROTOCOL_41 = 0x200
SECURE = 0x8000
PLUGIN_AUTH = 0x80000
CONNECT_DB = 0x8
FLAGS = 0x1 | 0x2 | PROTOCOL_41 | 0x2000 | SECURE | PLUGIN_AUTH | CONNECT_DB
UTF8 = 33
OK, EOF, ERR = 0x00, 0xFE, 0xFF
COM_QUIT, COM_INIT_DB, COM_QUERY, COM_PING = 1, 2, 3, 14
VERSION = "13.11.0 standin"


class Gone(Exception):
    """The other side closed the connection."""


def read_exact(conn, count):
    parts = []
    while count > 0:
        part = conn.recv(min(count, 1 << 20))
        if not part:
            raise Gone()
        parts.append(part)
        count -= len(part)
    return b"".join(parts)


def length_number(n):
    if n < 251:
        return bytes([n])
    if n < 1 << 16:
        return b"\xfc" + struct.pack("<H", n)
    if n < 1 << 24:
        return b"\xfd" + struct.pack("<I", n)[:3]
    return b"\xfe" + struct.pack("<Q", n)


def length_text(text):
    data = text if isinstance(text, bytes) else str(text).encode()
    return length_number(len(data)) + data


def take_number(data, at):
    first = data[at]
    if first < 251:
        return first, at + 1
    if first == 0xFC:
        return struct.unpack_from("<H", data, at + 1)[0], at + 3
    if first == 0xFD:
        return int.from_bytes(data[at + 1:at + 4], "little"), at + 4
    return struct.unpack_from("<Q", data, at + 1)[0], at + 9


def take_text(data, at):
    if data[at] == 0xFB:
        return None, at + 1
    size, at = take_number(data, at)
    return data[at:at + size].decode(), at + size


class Packets:
    """Numbered packets of one connection."""

    def __init__(self, conn):
        self.conn = conn
        self.number = 0

    def read(self):
        parts = []
        while True:
            head = read_exact(self.conn, 4)
            size = head[0] | head[1] << 8 | head[2] << 16
            self.number = (head[3] + 1) & 0xFF
            parts.append(read_exact(self.conn, size))
            if size < 0xFFFFFF:
                return b"".join(parts)

    def frame(self, data):
        out = []
        while True:
            part, data = data[:0xFFFFFF], data[0xFFFFFF:]
            out.append(struct.pack("<I", len(part))[:3] + bytes([self.number]) + part)
            self.number = (self.number + 1) & 0xFF
            if len(part) < 0xFFFFFF:
                return b"".join(out)

    def write(self, *packets):
        self.conn.sendall(b"".join(self.frame(p) for p in packets))


def ok_packet(affected=0, warnings=0, insert_id=0):
    return bytes([OK]) + length_number(affected) + length_number(insert_id) + \
        struct.pack("<HH", 2, warnings)


def eof_packet(warnings=0):
    return bytes([EOF]) + struct.pack("<HH", warnings, 2)


def err_packet(number, state, text):
    return bytes([ERR]) + struct.pack("<H", number) + b"#" + state.encode() + text.encode()


def column_packet(name, kind):
    fixed = struct.pack("<HIBHB", UTF8, 1024, kind, 0, 0) + b"\0\0"
    return length_text("def") + length_text("") * 3 + length_text(name) * 2 + b"\x0c" + fixed


TYPE_TEXT, TYPE_BIG = 253, 8


def result_packets(columns, rows, warnings=0):
    """Text result set. A column is a name; the type follows from the first row."""
    kinds = []
    for i in range(len(columns)):
        is_big = bool(rows) and isinstance(rows[0][i], int)
        kinds.append(TYPE_BIG if is_big else TYPE_TEXT)
    out = [length_number(len(columns))]
    out += [column_packet(name, kind) for name, kind in zip(columns, kinds)]
    out.append(eof_packet(warnings))
    for row in rows:
        out.append(b"".join(b"\xfb" if v is None else length_text(v) for v in row))
    out.append(eof_packet(warnings))
    return out


def greet(packets, connection_id):
    """Server side: handshake; whoever comes is let in, as Manticore does without auth."""
    salt = b"abcdefgh"
    more = b"ijklmnopqrst\0"
    packets.number = 0
    packets.write(b"\x0a" + VERSION.encode() + b"\0" + struct.pack("<I", connection_id) + salt + b"\0"
                  + struct.pack("<H", FLAGS & 0xFFFF) + bytes([UTF8]) + struct.pack("<H", 2)
                  + struct.pack("<H", FLAGS >> 16) + bytes([21]) + b"\0" * 10 + more
                  + b"mysql_native_password\0")
    answer = packets.read()
    packets.write(ok_packet())
    return answer


class SqlError(Exception):
    """An error as Manticore gives it."""

    def __init__(self, text, number=1064, state="42000"):
        super().__init__(text)
        self.text, self.number, self.state = text, number, state


class Result:
    def __init__(self, columns=None, rows=None, affected=0, warnings=0):
        self.columns, self.rows = columns, rows or []
        self.affected, self.warnings = affected, warnings


class Client:
    """Just enough of a MySQL client for the stand-in's own tests."""

    def __init__(self, address, timeout=20):
        host, port = address.rsplit(":", 1)
        self.conn = socket.create_connection((host, int(port)), timeout=timeout)
        self.conn.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.packets = Packets(self.conn)
        self.packets.read()
        flags = PROTOCOL_41 | SECURE | PLUGIN_AUTH | 0x1
        self.packets.write(struct.pack("<IIB", flags, 1 << 24, UTF8) + b"\0" * 23 + b"root\0" + b"\0"
                           + b"mysql_native_password\0")
        self.packets.read()

    def query(self, sql):
        self.packets.number = 0
        self.packets.write(bytes([COM_QUERY]) + sql.encode())
        first = self.packets.read()
        if first[0] == ERR:
            raise SqlError(first[9:].decode(), struct.unpack_from("<H", first, 1)[0],
                           first[4:9].decode())
        if first[0] == OK:
            affected, at = take_number(first, 1)
            _, at = take_number(first, at)
            return Result(affected=affected, warnings=struct.unpack_from("<H", first, at + 2)[0])
        count, _ = take_number(first, 0)
        columns = []
        for _ in range(count):
            packet, at = self.packets.read(), 0
            for _ in range(4):
                _, at = take_text(packet, at)
            columns.append(take_text(packet, at)[0])
        self.packets.read()
        rows, warnings = [], 0
        while True:
            packet = self.packets.read()
            if packet[0] == EOF and len(packet) < 9:
                warnings = struct.unpack_from("<H", packet, 1)[0]
                break
            row, at = [], 0
            for _ in range(count):
                text, at = take_text(packet, at)
                row.append(text)
            rows.append(row)
        return Result(columns, rows, warnings=warnings)

    def ping(self):
        self.packets.number = 0
        self.packets.write(bytes([COM_PING]))
        return self.packets.read()[0] == OK

    def close(self):
        self.conn.close()


# --- among stand-ins ----------------------------------------------------------------------------


def ask_peer(address, message, timeout=3.0):
    """One request to a node's binary port. OSError or Gone when it does not answer."""
    host, port = address.rsplit(":", 1)
    with socket.create_connection((host, int(port)), timeout=min(timeout, 1.0)) as conn:
        conn.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        conn.settimeout(timeout)
        write_message(conn, message)
        answer = read_message(conn)
    if "error" in answer:
        raise SqlError(answer["error"], answer.get("number", 1064), answer.get("state", "42000"))
    return answer


def write_message(conn, message):
    data = json.dumps(message).encode()
    conn.sendall(struct.pack("<I", len(data)) + data)


def read_message(conn):
    size = struct.unpack("<I", read_exact(conn, 4))[0]
    return json.loads(read_exact(conn, size))


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def sync_file(file, is_synced):
    file.flush()
    if is_synced:
        os.fsync(file.fileno())
