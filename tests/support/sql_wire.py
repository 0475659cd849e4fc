# SPDX-License-Identifier: Apache-2.0
"""Just enough of the wire protocols of MariaDB and PostgreSQL for tests: one statement, its rows as
text, errors with their codes. SQLite's own module behind the same three names."""
import base64
import hashlib
import hmac
import os
import socket
import sqlite3
import struct

FOUND_ROWS, WITH_DB, NEW_PROTOCOL, SECURE = 0x2, 0x8, 0x200, 0x8000
MULTI_STATEMENTS, MULTI_RESULTS, PLUGIN_AUTH = 0x10000, 0x20000, 0x80000
MORE_RESULTS = 0x8


class SqlError(Exception):
    """The server says no; `code` is its own."""

    def __init__(self, code, message):
        super().__init__(f"{code}: {message}")
        self.code = code


class Lost(Exception):
    """The connection broke: whether the statement was done is not known."""


class Wire:
    """A socket that is read in whole pieces."""

    def __init__(self, port, seconds):
        try:
            self.socket = socket.create_connection(("127.0.0.1", port), timeout=seconds)
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError as e:
            raise Lost(str(e)) from e
        self.kept = b""

    def read(self, count):
        try:
            while len(self.kept) < count:
                data = self.socket.recv(65536)
                if not data:
                    raise Lost("the server closed the connection")
                self.kept += data
        except OSError as e:
            raise Lost(str(e)) from e
        out, self.kept = self.kept[:count], self.kept[count:]
        return out

    def send(self, data):
        try:
            self.socket.sendall(data)
        except OSError as e:
            raise Lost(str(e)) from e

    def close(self):
        self.socket.close()


# --- MariaDB -------------------------------------------------------------------------------------

def native_password(password, salt):
    one = hashlib.sha1(password.encode()).digest()
    two = hashlib.sha1(salt + hashlib.sha1(one).digest()).digest()
    return bytes(a ^ b for a, b in zip(one, two))


def read_length(data, at):
    first = data[at]
    if first < 0xfb:
        return first, at + 1
    size = {0xfc: 2, 0xfd: 3, 0xfe: 8}[first]
    return int.from_bytes(data[at + 1:at + 1 + size], "little"), at + 1 + size


class MariaDb:
    def __init__(self, port, database, user, password, seconds=30):
        self.wire = Wire(port, seconds)
        self.affected = 0
        try:
            self.log_in(database, user, password)
        except BaseException:
            self.wire.close()
            raise

    def packet(self):
        head = self.wire.read(4)
        self.number = head[3]
        data = self.wire.read(int.from_bytes(head[:3], "little"))
        if data[:1] == b"\xff":
            text = data[3:].decode(errors="replace")
            raise SqlError(int.from_bytes(data[1:3], "little"), text[6:] if text[:1] == "#" else text)
        return data

    def put(self, data, number):
        self.wire.send(len(data).to_bytes(3, "little") + bytes([number]) + data)

    def log_in(self, database, user, password):
        hello = self.packet()
        at = hello.index(b"\0", 1) + 5
        salt = hello[at:at + 8]
        rest = at + 8 + 1 + 2 + 1 + 2 + 2 + 1 + 10
        salt += hello[rest:rest + 12]
        can = (1 | FOUND_ROWS | WITH_DB | NEW_PROTOCOL | 0x2000 | SECURE | MULTI_STATEMENTS | MULTI_RESULTS |
               PLUGIN_AUTH)
        answer = native_password(password, salt)
        self.put(struct.pack("<IIB23x", can, 1 << 24, 45) + user.encode() + b"\0" + bytes([len(answer)]) +
                 answer + database.encode() + b"\0mysql_native_password\0", 1)
        data = self.packet()
        if data[:1] == b"\xfe":
            salt = data[data.index(b"\0") + 1:].rstrip(b"\0")
            self.put(native_password(password, salt), self.number + 1)
            self.packet()

    def query(self, text):
        """All rows of all the statements in the text."""
        self.put(b"\x03" + text.encode(), 0)
        rows, more = [], True
        while more:
            more = self.read_result(rows)
        return rows

    def read_result(self, rows):
        data = self.packet()
        if data[:1] == b"\0":
            self.affected, at = read_length(data, 1)
            _, at = read_length(data, at)
            return bool(int.from_bytes(data[at:at + 2], "little") & MORE_RESULTS)
        columns, _ = read_length(data, 0)
        for _ in range(columns + 1):  # and their end
            self.packet()
        while True:
            data = self.packet()
            if data[:1] == b"\xfe" and len(data) < 9:
                return bool(int.from_bytes(data[3:5], "little") & MORE_RESULTS)
            rows.append(self.read_row(data, columns))

    @staticmethod
    def read_row(data, columns):
        at, row = 0, []
        for _ in range(columns):
            if data[at] == 0xfb:
                row.append(None)
                at += 1
                continue
            size, at = read_length(data, at)
            row.append(data[at:at + size].decode())
            at += size
        return tuple(row)

    def close(self):
        self.wire.close()


# --- PostgreSQL ----------------------------------------------------------------------------------

class Postgres:
    def __init__(self, port, database, user, password, seconds=30):
        self.wire = Wire(port, seconds)
        self.affected = 0
        try:
            body = struct.pack(">I", 196608)
            for key, value in (("user", user), ("database", database)):
                body += key.encode() + b"\0" + value.encode() + b"\0"
            body += b"\0"
            self.wire.send(struct.pack(">I", len(body) + 4) + body)
            self.log_in(password)
        except BaseException:
            self.wire.close()
            raise

    def message(self):
        head = self.wire.read(5)
        return head[:1], self.wire.read(struct.unpack(">I", head[1:])[0] - 4)

    def put(self, kind, body):
        self.wire.send(kind + struct.pack(">I", len(body) + 4) + body)

    def log_in(self, password):
        nonce = base64.b64encode(os.urandom(18)).decode()
        first = f"n=,r={nonce}"
        while True:
            kind, body = self.message()
            if kind == b"E":
                raise self.error_of(body)
            if kind == b"Z":
                return
            step = struct.unpack(">I", body[:4])[0] if kind == b"R" else 0
            if step == 10:
                text = ("n,," + first).encode()
                self.put(b"p", b"SCRAM-SHA-256\0" + struct.pack(">I", len(text)) + text)
            elif step == 11:
                self.put(b"p", self.prove(password, first, body[4:].decode()))

    @staticmethod
    def prove(password, first, challenge):
        part = dict(p.split("=", 1) for p in challenge.split(","))
        salted = hashlib.pbkdf2_hmac("sha256", password.encode(), base64.b64decode(part["s"]), int(part["i"]))
        key = hmac.digest(salted, b"Client Key", "sha256")
        last = f"c=biws,r={part['r']}"
        signed = hmac.digest(hashlib.sha256(key).digest(), f"{first},{challenge},{last}".encode(), "sha256")
        proof = base64.b64encode(bytes(a ^ b for a, b in zip(key, signed))).decode()
        return f"{last},p={proof}".encode()

    @staticmethod
    def error_of(body):
        part = {p[:1]: p[1:].decode(errors="replace") for p in body.split(b"\0") if p}
        return SqlError(part.get(b"C", "?"), part.get(b"M", "?"))

    def query(self, text):
        """All rows of all the statements in the text, which are one transaction."""
        self.put(b"Q", text.encode() + b"\0")
        rows, error = [], None
        while True:
            kind, body = self.message()
            if kind == b"D":
                rows.append(self.read_row(body))
            elif kind == b"C":
                last = body.rstrip(b"\0").split()[-1]
                self.affected = int(last) if last.isdigit() else 0
            elif kind == b"E":
                error = self.error_of(body)
                if error.code in ("57P01", "57P02", "57P03"):
                    raise Lost(str(error))
            elif kind == b"Z":
                break
        if error is not None:
            raise error
        return rows

    @staticmethod
    def read_row(body):
        row, at = [], 2
        for _ in range(struct.unpack(">H", body[:2])[0]):
            size = struct.unpack(">i", body[at:at + 4])[0]
            at += 4
            row.append(None if size < 0 else body[at:at + size].decode())
            at += max(size, 0)
        return tuple(row)

    def close(self):
        self.wire.close()


# --- SQLite --------------------------------------------------------------------------------------

class Sqlite:
    def __init__(self, path, seconds=5):
        if not os.path.isfile(path):
            raise Lost(f"{path} is not there")
        try:
            self.db = sqlite3.connect(path, timeout=seconds, isolation_level=None, check_same_thread=False)
        except sqlite3.Error as e:
            raise Lost(str(e)) from e
        self.affected = 0

    def query(self, text):
        try:
            cursor = self.db.execute(text)
            rows = [tuple(None if v is None else str(v) for v in row) for row in cursor.fetchall()]
            self.affected = cursor.rowcount
            return rows
        except sqlite3.Error as e:
            raise SqlError(getattr(e, "sqlite_errorname", type(e).__name__), str(e)) from e

    def close(self):
        self.db.close()
