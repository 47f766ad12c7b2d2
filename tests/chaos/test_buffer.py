"""A buffer on a three-member set while members fall and replies are lost: what is acknowledged is stored, and once."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import nullcontext
from typing import Any

import pytest

from mongopatterns import AsyncWriteBuffer, OutcomeUnknown, WriteBuffer

LOST_REPLIES: Any = ("onPrimaryTransactionalWrite", {"times": 12}, {"closeConnection": True})
pytestmark = [pytest.mark.chaos, pytest.mark.timeout(300)]


async def go_on(buffer: Any, number: int) -> None:
    """Wait until so many more are acknowledged."""
    before = buffer.stats.acknowledged
    while buffer.stats.acknowledged < before + number:
        await asyncio.sleep(0.02)


@pytest.mark.parametrize("delivery", ["at_least_once", "exactly_once"])
async def test_nothing_is_lost_or_doubled(world: Any, members: Any, delivery: Any) -> None:
    """Documents and counters, through two elections, a killed primary, and lost replies in between."""
    kind: Any = WriteBuffer if world.sync else AsyncWriteBuffer
    buffer = kind(world.db.client, delivery=delivery, max_items=20, max_delay=0.005, in_flight=3)
    events, counts = (f"events_{delivery}", f"counts_{delivery}")
    insert, increment = world.wait(buffer.insert), world.wait(buffer.increment)
    acks: list[tuple[int, Any, Any]] = []
    over = asyncio.Event()

    async def put(first: int) -> None:
        number = first
        while not over.is_set():
            stored = await insert(world.db[events], {"n": number})
            counted = await increment(world.db[counts], number % 5, {"n": 1})
            acks.append((number, stored, counted))
            number += 4
            if number % 10 == 0:
                await asyncio.sleep(0.001)

    callers = [asyncio.ensure_future(put(first)) for first in range(4)]
    killed: list[int] = []
    faults: list[tuple[Any, Any]] = [
        (list, LOST_REPLIES),
        (members.step_down, None),
        (lambda: killed.append(members.kill()), LOST_REPLIES),
        (lambda: members.restart(killed.pop()), None),
        (members.step_down, LOST_REPLIES),
    ]
    for fault, point in faults:
        await asyncio.to_thread(fault)
        await asyncio.to_thread(members.wait_for_primary)
        with members.fail_point(point[0], mode=point[1], data=point[2]) if point else nullcontext():
            await asyncio.wait_for(go_on(buffer, 300), timeout=60)
    over.set()
    await asyncio.gather(*callers)
    await world.wait(buffer.close)()
    check(acks, Counter(each["n"] for each in world.stored(events)), world.stored(counts), delivery)


def check(acks: list[tuple[int, Any, Any]], stored: Counter[int], counts: list[Any], delivery: str) -> None:
    """Compare what is stored with what was told."""
    wanted, perhaps = Counter[int](), Counter[int]()
    assert sum(document.error is None for _, document, _ in acks) > 500
    for number, document, counter in acks:
        for ack in (document, counter):
            assert ack.done
            assert ack.error is None or isinstance(ack.error, OutcomeUnknown)
        assert stored[number] in ({1} if document.error is None else {0, 1})
        (wanted if counter.error is None else perhaps)[number % 5] += 1
    assert set(stored.values()) == {1}
    for count in counts:
        least = wanted[count["_id"]]
        assert least <= count["n"] <= least + perhaps[count["_id"]]
    assert delivery == "at_least_once" or not perhaps, "an unknown commit is asked for until it is known"
