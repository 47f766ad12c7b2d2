"""Pages and streams of a three-member set while its primary falls: nothing is left out, and nothing comes twice."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from itertools import count, islice
from typing import Any

import pytest
from pymongo import MongoClient
from pymongo.errors import PyMongoError

from mongopatterns import AsyncPager, Pager, PagerSpec

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(300)]

STAY = 400
LIMIT = 20
TRIES = 100
LOG = PagerSpec("log", sort=[("kind", 1), ("at", -1)], limit=LIMIT)
KINDS: list[Any] = [None, 1, "text", {"a": 1}]


def row(number: int) -> dict[str, Any]:
    made = {"_id": number, "at": number % 50}
    return made if number % 5 == 0 else {**made, "kind": KINDS[number % len(KINDS)]}


def store(world: Any) -> list[int]:
    """Store what stays, as a majority has it, and return the ids in the server's order."""
    with MongoClient[dict[str, Any]](world.uri, w="majority") as client:
        log = client[world.db.name].log
        log.delete_many({})
        log.insert_many([row(number) for number in range(STAY)])
        for index in LOG.indexes():
            log.create_index(index.keys)
        return [each["_id"] for each in log.find(sort=list(LOG.order))]


async def until_answered(call: Callable[[], Awaitable[Any]]) -> Any:
    """Make a call until it is answered: to read a page again changes nothing."""
    for turn in count():
        try:
            return await call()
        except PyMongoError:
            if turn == TRIES:
                raise
            await asyncio.sleep(0.1)
    raise AssertionError("counting does not end")


async def come_and_go(world: Any, over: asyncio.Event) -> None:
    """Insert and delete others all the while; each has an id of its own."""
    log = world.collection("log")
    for number in count(STAY):
        if over.is_set():
            return
        try:
            await log.insert_one(row(number))
            if number - 30 >= STAY:
                await log.delete_one({"_id": number - 30})
        except PyMongoError:  # (whether it was applied is nothing to those who read)
            await asyncio.sleep(0.05)


async def test_a_walk_goes_on_through_elections(world: Any, members: Any) -> None:
    """Forward to the end and back to the start, with a member stepped down and one killed on the way."""
    order = await asyncio.to_thread(store, world)
    pager = world.calls(AsyncPager, Pager, LOG)
    over = asyncio.Event()
    writer = asyncio.ensure_future(come_and_go(world, over))
    killed = -1
    try:
        page = await until_answered(pager.page)
        forward = [row["_id"] for row in page]
        for number in count(1):
            if number == 3:
                await asyncio.to_thread(members.step_down)
            if number == 9:
                await asyncio.to_thread(members.wait_for_primary)
                killed = await asyncio.to_thread(members.kill)
            if page.next is None:
                break
            page = await until_answered(partial(pager.page, cursor=page.next))
            forward += [row["_id"] for row in page]
        await asyncio.to_thread(members.restart, killed)
        await asyncio.to_thread(members.step_down)
        back = [row["_id"] for row in page]
        while page.previous is not None:
            page = await until_answered(partial(pager.page, cursor=page.previous))
            back = [*(row["_id"] for row in page), *back]
    finally:
        over.set()
        await writer
    for found in (forward, back):
        assert [each for each in found if each < STAY] == order
        assert len(set(found)) == len(found)


async def test_a_stream_goes_on_after_an_election(world: Any, members: Any) -> None:
    """Nothing of a stream is held on the server between its batches: who comes to power next goes on with it."""
    order = await asyncio.to_thread(store, world)
    if world.sync:
        stream = Pager(world.db, LOG).stream(batch=50)

        async def some(number: int) -> list[Any]:
            return await asyncio.to_thread(lambda: list(islice(stream, number)))
    else:
        rows = AsyncPager(world.db, LOG).stream(batch=50)

        async def some(number: int) -> list[Any]:
            return [await anext(rows) for _ in range(number)]

    found = await some(100)
    await asyncio.to_thread(members.step_down)
    found += await some(STAY - 100)
    assert [row["_id"] for row in found] == order
