"""A counter of a few lines on top of group commit: nothing is lost or doubled on a real server."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pymongo
import pytest
import pytest_asyncio
from motor.motor_asyncio import AsyncIOMotorClient
from pymongo import AsyncMongoClient, ReturnDocument, WriteConcern
from pymongo.errors import NetworkTimeout, OperationFailure

from mongopatterns import _group_async, _group_sync
from mongopatterns.errors import OutcomeUnknown
from mongopatterns.testing import race, race_threads

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

MAJORITY = WriteConcern("majority")


def command(calls: list[tuple[Any, int]]) -> dict[str, Any]:
    """Build one update for calls that are each a key and an amount."""
    return {
        "filter": {"_id": calls[0][0]},
        "update": {"$inc": {"n": sum(amount for _, amount in calls)}},
        "upsert": True,
        "return_document": ReturnDocument.AFTER,
    }


def totals(calls: list[tuple[Any, int]], reply: dict[str, Any]) -> list[int]:
    """Tell each caller the total after its own call."""
    total = reply["n"]
    found = []
    for _, amount in reversed(calls):
        found.append(total)
        total -= amount
    return found[::-1]


class AsyncAdder:
    """A counter for tasks."""

    def __init__(self, collection: Any) -> None:
        self.collection = collection.with_options(write_concern=MAJORITY)
        self.sizes: list[int] = []
        self.groups: _group_async.Groups[Any, int] = _group_async.Groups(self._alone, self._together, name="adder")

    async def _alone(self, call: Any, timeout: float | None) -> int:
        return (await self._together([call], timeout))[0]

    async def _together(self, calls: list[Any], timeout: float | None) -> list[int]:
        self.sizes.append(len(calls))
        with pymongo.timeout(timeout):
            return totals(calls, await self.collection.find_one_and_update(**command(calls)))

    async def add(self, key: Any, amount: int = 1, timeout: float | None = None) -> int:
        return await self.groups.submit(key, (key, amount), timeout)


class Adder:
    """A counter for threads."""

    def __init__(self, collection: Any) -> None:
        self.collection = collection.with_options(write_concern=MAJORITY)
        self.sizes: list[int] = []
        self.groups: _group_sync.Groups[Any, int] = _group_sync.Groups(self._alone, self._together, name="adder")

    def _alone(self, call: Any, timeout: float | None) -> int:
        return self._together([call], timeout)[0]

    def _together(self, calls: list[Any], timeout: float | None) -> list[int]:
        self.sizes.append(len(calls))
        with pymongo.timeout(timeout):
            return totals(calls, self.collection.find_one_and_update(**command(calls)))

    def add(self, key: Any, amount: int = 1, timeout: float | None = None) -> int:
        return self.groups.submit(key, (key, amount), timeout)


@pytest_asyncio.fixture(params=["pymongo", "motor"])
async def collection(
    request: pytest.FixtureRequest, mongopatterns_server: Any, mongopatterns_db_name: str
) -> AsyncIterator[Any]:
    """Give the same collection through both asynchronous drivers."""
    if request.param == "motor":
        motor: Any = AsyncIOMotorClient(mongopatterns_server.uri)
        yield motor[mongopatterns_db_name].c
        motor.close()
    else:
        async with AsyncMongoClient(mongopatterns_server.uri) as client:
            yield client[mongopatterns_db_name].c


def check(outcomes: list[int], sizes: list[int], stored: Any) -> None:
    """Three keys, 200 calls each, of 1 to 3 by turns: every caller has a total of its own, and it is stored."""
    assert sum(sizes) == 600
    assert len(sizes) < 300, "callers did not share"
    assert {document["_id"]: document["n"] for document in stored} == dict.fromkeys(range(3), 399)
    assert len(outcomes) == 600
    for key in range(3):
        # The amounts of one key are 1, 2, 3, 1, 2 ... in any order: totals are different, and the steps between
        # them are those amounts.
        seen = sorted(outcomes[key::3])
        steps = [after - before for before, after in zip([0, *seen], seen, strict=False)]
        assert sorted(steps) == sorted(amount(i) for i in range(key, 600, 3))


def amount(i: int) -> int:
    return 1 + i // 3 % 3


async def test_tasks_lose_and_double_nothing(collection: Any, mongopatterns_db: Any) -> None:
    """600 calls of 60 tasks on three keys: each is stored once, and each caller is told its own total."""
    adder = AsyncAdder(collection)
    report = await race(lambda i: adder.add(i % 3, amount(i)), times=600, concurrency=60)
    report.raise_errors()
    check(report.outcomes, adder.sizes, mongopatterns_db.c.find())


def test_threads_lose_and_double_nothing(mongopatterns_db: Any) -> None:
    """600 calls of 60 threads on three keys: each is stored once, and each caller is told its own total."""
    adder = Adder(mongopatterns_db.c)
    report = race_threads(lambda i: adder.add(i % 3, amount(i)), times=600, concurrency=60)
    report.raise_errors()
    check(report.outcomes, adder.sizes, mongopatterns_db.c.find())


async def test_cancelled_tasks_are_added_once_or_never(collection: Any, mongopatterns_db: Any) -> None:
    """Of 300 tasks every third is cancelled at some moment: what the others were told is stored, and no call twice."""
    adder = AsyncAdder(collection)
    tasks = [asyncio.create_task(adder.add("hot")) for _ in range(300)]
    for n, task in enumerate(tasks):
        if n % 3 == 1:
            await asyncio.sleep(0)
            task.cancel()
    found = await asyncio.gather(*tasks, return_exceptions=True)
    await adder.groups.close()
    told = [each for each in found if isinstance(each, int)]
    assert len(told) >= 200
    assert len(set(told)) == len(told)
    assert all(isinstance(each, (int, asyncio.CancelledError)) for each in found)
    stored = mongopatterns_db.c.find_one()["n"]
    # The command of a lone caller that was cancelled is the only one that may be stored and not be ours to count.
    assert sum(adder.sizes) - 1 <= stored <= sum(adder.sizes)
    assert max(told) <= stored


async def test_the_deadline_of_a_caller_is_not_that_of_a_group(collection: Any, mongopatterns_db: Any) -> None:
    """A caller inside `pymongo.timeout()` starts the task that sends the others: they are not bound by it."""
    adder = AsyncAdder(collection)
    seen: list[Any] = []

    async def together(calls: list[Any], timeout: float | None) -> list[int]:
        seen.append(pymongo._csot.get_timeout())
        return await adder._together(calls, timeout)

    async def hurried() -> int:
        with pymongo.timeout(5):
            return await groups.submit("hot", ("hot", 1), None)

    groups: _group_async.Groups[Any, int] = _group_async.Groups(adder._alone, together, name="adder")
    found = await asyncio.gather(hurried(), *[groups.submit("hot", ("hot", 1), None) for _ in range(3)])
    assert found == [1, 2, 3, 4]
    assert seen == [None]


def test_a_refusal_of_the_server_reaches_every_thread(mongopatterns_db: Any) -> None:
    """A stored text cannot be added to: every caller gets the server's own error, and nothing is changed."""
    mongopatterns_db.c.insert_one({"_id": "hot", "n": "text"})
    adder = Adder(mongopatterns_db.c)
    report = race_threads(lambda _: adder.add("hot"), times=64, concurrency=32)
    assert report.outcomes == []
    assert {type(error) for _, error in report.errors} == {OperationFailure} | {
        type(error) for _, error in report.errors if getattr(error, "code", None) == 14
    }
    assert len({id(error) for _, error in report.errors}) == 64
    assert mongopatterns_db.c.find_one() == {"_id": "hot", "n": "text"}
    assert not adder.groups._lanes


def test_a_slow_server_leaves_the_outcome_open(mongopatterns_client: Any, mongopatterns_db: Any) -> None:
    """When the driver's deadline ends a command that the server holds up, the caller does not know, and is told why."""
    adder = Adder(mongopatterns_db.c)
    held = {"failCommands": ["findAndModify"], "blockConnection": True, "blockTimeMS": 1500}
    mongopatterns_client.admin.command("configureFailPoint", "failCommand", mode={"times": 1}, data=held)
    try:
        with pytest.raises(OutcomeUnknown) as caught:
            adder.add("hot", timeout=0.3)
        assert isinstance(caught.value.__cause__, (NetworkTimeout, OperationFailure, TimeoutError))
    finally:
        mongopatterns_client.admin.command("configureFailPoint", "failCommand", mode="off")
    assert adder.add("hot") in (1, 2)
