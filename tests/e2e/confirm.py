#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Answer drover's question on a real pseudo-terminal: confirm.py ANSWER COMMAND...

Prints what the terminal showed; exits with the command's exit code, or 99 when it never asked."""
import os
import pty
import select
import sys
import time


def main():
    answer, command = sys.argv[1], sys.argv[2:]
    pid, fd = pty.fork()
    if pid == 0:
        os.execv(command[0], command)
    shown = b""
    answered = False
    limit = time.monotonic() + 60
    while time.monotonic() < limit:
        ready, _, _ = select.select([fd], [], [], 0.2)
        if ready:
            try:
                data = os.read(fd, 65536)
            except OSError:
                break
            if not data:
                break
            shown += data
        if not answered and b"type" in shown.lower() and shown.rstrip().endswith((b":", b">", b"?")):
            os.write(fd, answer.encode() + b"\n")
            answered = True
    _, status = os.waitpid(pid, 0)
    sys.stdout.write(shown.decode("utf-8", "replace").replace("\r\n", "\n"))
    if not answered:
        sys.exit(99)
    sys.exit(os.waitstatus_to_exitcode(status) & 0xFF)


main()
