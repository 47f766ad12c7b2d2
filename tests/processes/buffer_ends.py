"""A process that ends without closing its buffer, which may be for several collections, or forks in the middle.

python buffer_ends.py URI DATABASE (atexit | several | late | fork)
"""

from __future__ import annotations

import os
import sys
import time
from typing import Any

from pymongo import MongoClient

from mongopatterns import OutcomeUnknown, WriteBuffer, _worker_sync

KEPT: list[WriteBuffer] = []  # until the very end


def main(uri: str, name: str, how: str) -> None:
    client = MongoClient[dict[str, Any]](uri)
    events = client[name].events
    if how == "late":
        end_too_late(client, events)
        return
    buffer = WriteBuffer(client, max_delay=60.0, max_items=1000)
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


def end_too_late(client: MongoClient[Any], events: Any) -> None:
    """End while the server answers slowly, with less time than that takes; say what is given up."""
    _worker_sync.AT_EXIT = 0.3
    told = WriteBuffer(
        client, max_items=1, in_flight=1, on_dead_letter=lambda letter: os.write(1, f"{letter.key}\n".encode())
    )
    for number in range(5):
        told.insert(events, {"_id": number})
    while not told.stats.under_way:
        time.sleep(0.01)
    KEPT.append(told)


if __name__ == "__main__":
    main(*sys.argv[1:])
