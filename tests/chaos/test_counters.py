"""Counters and quotas under load while the primary of a three-member set is killed and stepped down."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from motor.motor_asyncio import AsyncIOMotorClient
from pymongo import AsyncMongoClient, MongoClient
from pymongo.errors import PyMongoError

from mongopatterns import (
    AsyncCounter,
    AsyncQuota,
    Counter,
    CounterSpec,
    Quota,
    QuotaSpec,
    Rollover,
    Window,
    may_have_applied,
)
from mongopatterns.testing import EmbeddedMongo

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(300)]

LIMIT = 130
HITS = CounterSpec("hits", path="n")
# One quota that everything fits into, and one that fills up while the members fall: every call is answered at
# least 20 times after each of seven faults.
ROOMY = QuotaSpec("quotas", path="roomy", windows=[Window.day(10**9, rollover=Rollover(cap=5)), Window.month(None)])
TIGHT = QuotaSpec("quotas", path="tight", windows=[Window.month(LIMIT)])
WORKERS = 12


@pytest.fixture(scope="module")
def members() -> Iterator[EmbeddedMongo]:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MONGOPATTERNS_TEST_URI", raising=False)  # somebody's own server must not be killed
        with EmbeddedMongo(members=3) as server:
            yield server


@dataclass
class Log:
    """What callers were told."""

    told: list[Any] = field(default_factory=list)
    unknown: list[BaseException] = field(default_factory=list)
    failed: list[BaseException] = field(default_factory=list)


async def under_faults(server: EmbeddedMongo, calls: dict[str, Callable[[], Awaitable[Any]]]) -> dict[str, Log]:
    """Call each of `calls` without a pause from several workers until all faults are over."""
    logs = {name: Log() for name in calls}
    over = asyncio.Event()

    async def work(name: str, call: Callable[[], Awaitable[Any]]) -> None:
        log = logs[name]
        while not over.is_set():
            try:
                log.told.append(await call())
            except PyMongoError as error:
                (log.unknown if may_have_applied(error) else log.failed).append(error)

    async def progress(fault: Callable[[], Any]) -> None:
        """Inject one fault, and let every kind of call be answered again before the next."""
        await asyncio.to_thread(fault)
        await asyncio.to_thread(server.wait_for_primary)
        answered = {name: len(log.told) for name, log in logs.items()}

        async def all_answered() -> None:
            while any(len(log.told) < answered[name] + 20 for name, log in logs.items()):
                await asyncio.sleep(0.02)

        await asyncio.wait_for(all_answered(), timeout=60)

    workers = [
        asyncio.create_task(work(name, call)) for name, call in calls.items() for _ in range(WORKERS // len(calls))
    ]
    try:
        await progress(lambda: None)
        killed = await asyncio.to_thread(server.kill)
        await progress(lambda: None)
        await progress(lambda: server.restart(killed))
        await progress(server.step_down)
        killed = await asyncio.to_thread(server.kill)
        await progress(lambda: server.restart(killed))
        await progress(server.step_down)
    finally:
        over.set()
        await asyncio.gather(*workers)
    return logs


@pytest.fixture(params=["pymongo", "motor", "sync"])
async def load(request: pytest.FixtureRequest, members: EmbeddedMongo) -> AsyncIterator[tuple[str, dict[str, Any]]]:
    """Give the same four calls on each driver, and the name of the database that they write to."""
    name = f"chaos_{request.param}"
    primitives: Any
    if request.param == "sync":
        pool = ThreadPoolExecutor(WORKERS)

        def threaded(call: Callable[..., Any], *arguments: Any) -> Callable[[], Any]:
            return lambda: asyncio.get_running_loop().run_in_executor(pool, call, *arguments)

        with MongoClient(members.uri) as client, pool:
            primitives = (Counter(client[name], HITS), Quota(client[name], ROOMY), Quota(client[name], TIGHT))
            yield name, _calls(primitives, threaded)
        return

    def plain(call: Callable[..., Any], *arguments: Any) -> Callable[[], Any]:
        return lambda: call(*arguments)

    asynchronous: Any = AsyncMongoClient(members.uri) if request.param == "pymongo" else AsyncIOMotorClient(members.uri)
    db = asynchronous[name]
    yield name, _calls((AsyncCounter(db, HITS), AsyncQuota(db, ROOMY), AsyncQuota(db, TIGHT)), plain)
    closing = asynchronous.close()
    if closing is not None:
        await closing


def _calls(primitives: Any, make: Callable[..., Callable[[], Any]]) -> dict[str, Any]:
    counter, roomy, tight = primitives
    return {
        "add": make(counter.add, "hot", 3),
        "consume": make(roomy.consume, "hot", 2),
        "record": make(roomy.record, "other", 2),
        "tight": make(tight.consume, "hot"),
    }


async def test_elections_lose_and_double_nothing(load: tuple[str, dict[str, Any]], members: EmbeddedMongo) -> None:
    """Through kills and step-downs what is stored is what was acknowledged, within what was reported unknown."""
    name, calls = load
    logs = await under_faults(members, calls)
    with MongoClient(members.uri) as client:
        numbers = _stored(client[name])
    bounds = {
        "add": (3, logs["add"].told),
        "consume": (2, [decision for decision in logs["consume"].told if decision]),
        "record": (2, logs["record"].told),
        "tight": (1, [decision for decision in logs["tight"].told if decision]),
    }
    for call, (amount, told) in bounds.items():
        assert logs[call].failed == []
        assert len(logs[call].told) > 100, "there was a load"
        assert amount * len(told) <= numbers[call] <= amount * (len(told) + len(logs[call].unknown))
    # Every caller of add was told a total of its own, and both windows of a quota were charged alike.
    assert len(set(logs["add"].told)) == len(logs["add"].told)
    assert numbers["consume_month"] == numbers["consume"]
    # The limit was reached, and nobody was refused before it was.
    assert numbers["tight"] == LIMIT
    refused = [decision for decision in logs["tight"].told if not decision]
    assert refused
    assert all(decision.used == {"month": LIMIT} for decision in refused)


def _stored(db: Any) -> dict[str, int]:
    hot, other = (db.quotas.find_one({"_id": key}) for key in ("hot", "other"))
    return {
        "add": db.hits.find_one({"_id": "hot"})["n"],
        "consume": hot["roomy"]["day"]["used"],
        "consume_month": hot["roomy"]["month"]["used"],
        "record": other["roomy"]["day"]["used"],
        "tight": hot["tight"]["month"]["used"],
    }
