#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A minimal client of the MongoDB wire protocol, for tests (drover's adapter has no hand in it).

  mongo_client.py PORT DB COMMAND...            each COMMAND is extended JSON; each reply is printed
      as a line of JSON; `-` reads commands from standard input, one a line. "$db" in a
      command overrides DB. Exit 1 when a reply is not ok or has writeErrors.
  mongo_client.py PORT DB count COLL [FILTER]   the number of documents that a find gives
  mongo_client.py PORT DB dump COLL [FILTER]    the documents, one a line, sorted by _id
"""
import json
import os
import socket
import struct
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from mongo_bson import decode, ejson, encode, from_ejson  # noqa: E402


class Client:
    def __init__(self, port, host="127.0.0.1", timeout=120):
        self.sock = socket.create_connection((host, port), timeout)
        self.file = self.sock.makefile("rb")
        self.number = 0

    def close(self):
        self.file.close()
        self.sock.close()

    def send(self, db, command, flags=0, **sequences):
        self.number += 1
        # A real server takes the first field for the command's name.
        body = b"\0" + encode({**command, "$db": command.get("$db", db)})
        for name, docs in sequences.items():
            data = name.encode() + b"\0" + b"".join(
                bytes(d) if isinstance(d, bytes) else encode(d) for d in docs)
            body += b"\1" + struct.pack("<i", len(data) + 4) + data
        payload = struct.pack("<I", flags) + body
        self.sock.sendall(struct.pack("<iiii", 16 + len(payload), self.number, 0, 2013) + payload)

    def reply(self):
        head = self.file.read(16)
        if len(head) < 16:
            raise EOFError("connection closed")
        length, _, _, opcode = struct.unpack("<iiii", head)
        data = self.file.read(length - 16)
        return decode(data[5:] if opcode == 2013 else data[20:])

    def call(self, db, command, **sequences):
        """The reply, whatever it says."""
        self.send(db, command, **sequences)
        return self.reply()

    def run(self, db, command, **sequences):
        """The reply; an error raises."""
        reply = self.call(db, command, **sequences)
        if reply.get("ok") != 1 or reply.get("writeErrors"):
            raise RuntimeError("%s: %s" % (next(iter(command)), json.dumps(ejson(reply))))
        return reply

    def all(self, db, command):
        """Every document of a command that gives a cursor."""
        cursor = self.run(db, command)["cursor"]
        out = list(cursor["firstBatch"])
        while cursor["id"]:
            cursor = self.run(db, {"getMore": cursor["id"],
                                   "collection": cursor["ns"].split(".", 1)[1]})["cursor"]
            out += cursor["nextBatch"]
        return out

    def find(self, db, coll, query=None, **options):
        return self.all(db, {"find": coll, "filter": query or {}, **options})

    def insert(self, db, coll, docs, step=1000):
        for at in range(0, len(docs), step):
            self.run(db, {"insert": coll}, documents=docs[at:at + step])

    def admin(self, **command):
        return self.run("admin", command)

    def standin(self, **command):
        return self.run("admin", {"standin": 1, **command})


def main():
    if len(sys.argv) < 4:
        sys.exit(__doc__)
    client, db, words = Client(int(sys.argv[1])), sys.argv[2], sys.argv[3:]
    if words[0] in ("count", "dump"):
        query = from_ejson(json.loads(words[2])) if len(words) > 2 else {}
        docs = client.find(db, words[1], query, sort={"_id": 1})
        if words[0] == "count":
            print(len(docs))
        for doc in docs if words[0] == "dump" else []:
            print(json.dumps(ejson(doc)))
        return 0
    lines = [line for line in sys.stdin if line.strip()] if words == ["-"] else words
    bad = 0
    for line in lines:
        reply = client.call(db, from_ejson(json.loads(line)))
        print(json.dumps(ejson(reply)))
        bad |= reply.get("ok") != 1 or bool(reply.get("writeErrors"))
    return int(bad)


if __name__ == "__main__":
    sys.exit(main())
