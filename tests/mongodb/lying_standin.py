#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The MongoDB stand-in with one more control command, to damage an index:

  {standin: 1, lie: {ns, shard, id, hash}}   the shard's hashed index holds this hash for the document
"""
import os
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))

import mongo_data  # noqa: E402
import mongo_standin  # noqa: E402
from mongo_bson import key_of  # noqa: E402

HONEST = mongo_data.hash_of
LIE = []
mongo_data.hash_of = lambda value: LIE[0] if LIE else HONEST(value)


def do_lie(self, world, lie, body):
    part = world.cluster.colls[lie["ns"]].part(lie["shard"])
    rec = part.by_id[key_of(lie["id"])]
    raw = rec.raw
    part.erase(rec)
    LIE.append(int(lie["hash"]))
    try:
        part.insert(raw, None, lie["ns"])
    finally:
        LIE.clear()


mongo_standin.Control.do_lie = do_lie

if __name__ == "__main__":
    mongo_standin.main()
