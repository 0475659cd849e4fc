# SPDX-License-Identifier: Apache-2.0
"""A throw-away SQL server for tests in Python, reached by the server's own shell."""
import os
import pathlib
import subprocess
import urllib.parse

HERE = pathlib.Path(__file__).resolve().parent


class Database:
    """A server of `kind`, reached by its own shell."""

    def __init__(self, kind, folder, options=()):
        self.kind = kind
        self.folder = folder
        out = subprocess.run(
            [HERE / "sql_server.sh", "start", kind, folder, "--owner", str(os.getpid()), *options],
            check=True, stdout=subprocess.PIPE, text=True).stdout
        env = dict(line.split("=", 1) for line in out.splitlines())
        self.url = env["URL"]
        parts = urllib.parse.urlsplit(self.url)
        self.password_url = parts.password
        self.password = urllib.parse.unquote(parts.password)
        self.port = parts.port
        if kind == "mariadb":
            self.shell = ["mariadb", "--no-defaults", "-h127.0.0.1", f"-P{self.port}", "-udrover",
                          "--default-character-set=utf8mb4", "-N", "-B", "drover"]
            self.env = dict(os.environ, MYSQL_PWD=self.password)
        else:
            self.shell = ["psql", "-X", "-q", "-A", "-t", "-F\t", "-v", "ON_ERROR_STOP=1",
                          "-h127.0.0.1", f"-p{self.port}", "-Udrover", "drover"]
            self.env = dict(os.environ, PGPASSWORD=self.password)

    def sql(self, text):
        run = subprocess.run(self.shell, input=text, env=self.env, capture_output=True, text=True,
                             check=False)
        if run.returncode != 0:
            raise RuntimeError(f"{self.kind}: {run.stderr}\n{text[:400]}")
        return run.stdout

    def number(self, text):
        return int(self.sql(text + ";"))

    def load(self, path):
        self.sql(path.read_text())

    def stop(self):
        subprocess.run([HERE / "sql_server.sh", "stop", self.folder], check=False)
