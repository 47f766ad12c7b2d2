"""A process that puts things into a buffer until somebody kills it, and says what was accepted; or that finishes.

python buffer_worker.py URI DATABASE SPOOL NAME (put | finish) (async | sync)
python buffer_worker.py URI DATABASE SPOOL NAME leave COUNT

The last one has so many increments on disk, and sends none of them before it is killed.
"""

from __future__ import annotations

import asyncio
import os
import sys
from itertools import count
from typing import Any

from pymongo import AsyncMongoClient, MongoClient

from mongopatterns import AsyncWriteBuffer, WriteBuffer

OPTIONS: dict[str, Any] = {"delivery": "exactly_once", "max_items": 20, "max_delay": 0.005, "in_flight": 3}


def say(text: str) -> None:
    os.write(1, f"{text}\n".encode())


async def put_async(uri: str, name: str, spool: str, own: str, *, finish: bool) -> None:
    async with (
        AsyncMongoClient(uri) as client,
        AsyncWriteBuffer(client, spool=spool, ledger=client[name].ledger, **OPTIONS) as buffer,
    ):
        db = client[name]
        say("ready")
        for number in count():
            if finish:
                break
            what = f"{own} {number}"
            await buffer.insert(db.events, {"what": what})
            await buffer.increment(db.counts, what, {"n": 1})
            await buffer.increment(db.counts, f"all {number % 3}", {"n": 1})
            say(what)
            if number % 7 == 0:
                await asyncio.sleep(0.001)


def put_sync(uri: str, name: str, spool: str, own: str, *, finish: bool) -> None:
    with (
        MongoClient[dict[str, Any]](uri) as client,
        WriteBuffer(client, spool=spool, ledger=client[name].ledger, **OPTIONS) as buffer,
    ):
        db = client[name]
        say("ready")
        for number in count():
            if finish:
                break
            what = f"{own} {number}"
            buffer.insert(db.events, {"what": what})
            buffer.increment(db.counts, what, {"n": 1})
            buffer.increment(db.counts, f"all {number % 3}", {"n": 1})
            say(what)


def leave(uri: str, name: str, spool: str, own: str, many: int) -> None:
    client = MongoClient[dict[str, Any]](uri)
    options: dict[str, Any] = {**OPTIONS, "max_items": many + 1, "max_delay": 3600.0}
    with WriteBuffer(client, spool=spool, ledger=client[name].ledger, **options) as buffer:
        for number in range(many):
            buffer.increment(client[name].counts, f"{own} {number}", {"n": 1})
        say("ready")
        sys.stdin.read()


if __name__ == "__main__":
    uri, name, spool, own, what, world = sys.argv[1:]
    if what == "leave":
        leave(uri, name, spool, own, int(world))
    elif world == "async":
        asyncio.run(put_async(uri, name, spool, own, finish=what == "finish"))
    else:
        put_sync(uri, name, spool, own, finish=what == "finish")
