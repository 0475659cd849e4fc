# SPDX-License-Identifier: Apache-2.0
"""bench_tokenserver.sh's work: the purge of obsolete records against the way of the reference, one
record after the other. bench_tokenserver.py DROVER BENCH_NODE RECORDS SEQUENTIAL ROUNDS

The sequential client is kinder than the reference: one kept connection per node instead of one per
request, PyMySQL without an ORM, no logging, no retries."""
import base64
import hashlib
import hmac
import http.client
import json
import os
import pathlib
import secrets
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.parse

import pymysql

SUPPORT = pathlib.Path(__file__).resolve().parent.parent / "tests" / "support"
sys.path.insert(0, str(SUPPORT))
from sql_database import Database  # noqa: E402

NODES, NODE_MS = 4, 2
SECRET = b"bench"
PREFIX = b"services.mozilla.com/tokenlib/v1/"


def mac(key, data):
    return hmac.digest(key, data, hashlib.sha256)


def hkdf(secret, salt, info):
    return mac(mac(salt, secret), info + b"\x01")


def authorization(node, uid, email, generation, keys_changed_at, client_state):
    kid = "%013d-%s" % (keys_changed_at or generation,
                        base64.urlsafe_b64encode(bytes.fromhex(client_state)).decode().rstrip("="))
    salt = secrets.token_hex(3)
    payload = json.dumps({"uid": uid, "node": node, "fxa_uid": email.split("@")[0], "fxa_kid": kid,
                          "salt": salt, "expires": int(time.time()) + 360}).encode()
    token = base64.urlsafe_b64encode(payload + mac(hkdf(SECRET, b"\0" * 32, PREFIX + b"signing"), payload))
    key = base64.urlsafe_b64encode(hkdf(SECRET, salt.encode(), PREFIX + b"derive/" + token))
    host = urllib.parse.urlsplit(node)
    ts, nonce = str(int(time.time())), secrets.token_urlsafe(5)
    text = "\n".join(["hawk.1.header", ts, nonce, "DELETE", f"/1.5/{uid}", host.hostname, str(host.port), "", ""])
    signed = base64.b64encode(mac(key, (text + "\n").encode())).decode()
    return f'Hawk id="{token.decode()}", ts="{ts}", nonce="{nonce}", mac="{signed}"'


def sequential(db, count):
    """Fetch ten, ask the node, delete the record, until `count` are gone."""
    link = pymysql.connect(host="127.0.0.1", port=db.port, user="drover", password=db.password,
                           database="drover", autocommit=True)
    nodes, done = {}, 0
    while done < count:
        with link.cursor() as cursor:
            cursor.execute(
                "SELECT uid, email, generation, keys_changed_at, client_state, nodes.node, downed FROM users"
                " LEFT OUTER JOIN nodes ON users.nodeid = nodes.id WHERE users.service = 7 AND replaced_at"
                " IS NOT NULL AND replaced_at < %s ORDER BY replaced_at DESC, uid DESC LIMIT 10",
                (int(time.time() * 1000) - 86400000,))
            for uid, email, generation, changed, state, node, _ in cursor.fetchall():
                if node not in nodes:
                    at = urllib.parse.urlsplit(node)
                    nodes[node] = http.client.HTTPConnection(at.hostname, at.port)
                nodes[node].request("DELETE", f"/1.5/{uid}", headers={
                    "Authorization": authorization(node, uid, email, generation, changed, state)})
                answer = nodes[node].getresponse()
                answer.read()
                if answer.status != 200:
                    raise RuntimeError(answer.status)
                cursor.execute("DELETE FROM users WHERE service = 7 AND uid = %s", (uid,))
                done += 1
    link.close()


def fill(db, ports, count):
    now = int(time.time() * 1000)
    nodes = ", ".join(f"({i + 1}, 7, 'http://127.0.0.1:{port}', 0, 0, 0, 0, 0)" for i, port in enumerate(ports))
    db.sql(f"TRUNCATE users; DELETE FROM nodes; INSERT INTO nodes VALUES {nodes};"
           " INSERT INTO users (uid, service, email, generation, client_state, created_at, replaced_at, nodeid)"
           f" SELECT seq, 7, CONCAT('user', seq, '@example.com'), 1234, 'aabbccdd', {now}, {now} - 864000000 + seq,"
           f" 1 + seq % {NODES} FROM seq_1_to_{count}; ANALYZE TABLE users;")


def drover(program, db, *options):
    env = dict(os.environ, DROVER_SECRET=SECRET.decode(), SYNC_TOKENSERVER__DATABASE_URL=db.url)
    out = subprocess.run([program, "tokenserver", "purge", "--oneshot", "--json", *options], check=True, env=env,
                         stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout
    return json.loads(out)["purged"]


def main():
    program, node = sys.argv[1:3]
    records, few, rounds = (int(x) for x in sys.argv[3:6])
    wide = ("--concurrency", "64", "--per-node", "16", "--max-per-loop", "200")
    contestants = {
        "one after the other (Python)": (few, lambda db: sequential(db, few)),
        "drover": (records, lambda db: drover(program, db)),
        "drover --concurrency 64 ...": (records, lambda db: drover(program, db, *wide)),
    }
    rates = {name: [] for name in contestants}
    with tempfile.TemporaryDirectory(prefix="drover-bench.") as top:
        os.chmod(top, 0o755)
        db = Database("mariadb", os.path.join(top, "server"))
        nodes = subprocess.Popen([node, str(NODES), str(NODE_MS)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                 text=True)
        try:
            ports = [int(nodes.stdout.readline()) for _ in range(NODES)]
            db.load(SUPPORT / "tokenserver_schema.mysql.sql")
            for _ in range(rounds):
                for name, (count, work) in contestants.items():
                    fill(db, ports, count)
                    begin = time.monotonic()
                    work(db)
                    rates[name].append(count / (time.monotonic() - begin))
                    if db.number("SELECT COUNT(*) FROM users") != 0:
                        raise RuntimeError(f"{name} left records")
        finally:
            nodes.stdin.close()
            nodes.wait(10)
            db.stop()
    first = statistics.median(next(iter(rates.values())))
    print(f"{'records, 4 nodes, 2 ms':32} {'records/s':>10} {'of sequential':>14}")
    for name, found in rates.items():
        rate = statistics.median(found)
        print(f"{name:32} {rate:10.0f} {rate / first:14.2f}")


if __name__ == "__main__":
    main()
