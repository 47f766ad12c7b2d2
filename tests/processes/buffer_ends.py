"""A process that ends without closing its buffer, which may be for several collections, or forks in the middle.

python buffer_ends.py URI DATABASE (atexit | several | fork)
"""

from __future__ import annotations

import os
import sys
from typing import Any

from pymongo import MongoClient

from mongopatterns import OutcomeUnknown, WriteBuffer


def main(uri: str, name: str, how: str) -> None:
    client = MongoClient[dict[str, Any]](uri)
    buffer = WriteBuffer(client, max_delay=60.0, max_items=1000)
    events = client[name].events
    acks = [buffer.insert(events, {"by": "parent"}) for _ in range(50)]
    child = os.fork() if how == "fork" else -1
    if child == 0:
        for ack in acks:
            try:
                ack.result()
            except OutcomeUnknown:
                continue
            os._exit(1)
        for _ in range(100):
            buffer.insert(events, {"by": "child"})
        buffer.close()
        os._exit(0)
    for _ in range(50):
        buffer.insert(events, {"by": "parent"})
        if how == "several":
            buffer.insert(client[name].others, {"by": "parent"})
            buffer.increment(client[name].counts, "parent", {"n": 1})
    if child > 0:
        assert os.waitpid(child, 0)[1] == 0


if __name__ == "__main__":
    main(*sys.argv[1:])
