"""Counters and quotas under load while the primary of a three-member set falls and replies are lost.

Some callers travel alone, others share round trips.
"""

from __future__ import annotations

import asyncio
import itertools
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from motor.motor_asyncio import AsyncIOMotorClient
from pymongo import AsyncMongoClient, MongoClient
from pymongo.errors import PyMongoError, ServerSelectionTimeoutError

from mongopatterns import (
    AsyncCounter,
    AsyncQuota,
    Counter,
    CounterSpec,
    NotSent,
    OutcomeUnknown,
    Quota,
    QuotaSpec,
    Rollover,
    Window,
    may_have_applied,
)
from mongopatterns._driver_async import settle
from mongopatterns.errors import MongoPatternsError
from mongopatterns.testing import EmbeddedMongo

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(300)]

LIMIT = 130
HITS = CounterSpec("hits", path="n", meters=("size",))
# One quota that everything fits into, and one that fills up while the members fall: every call is answered at
# least 20 times after each of eight faults.
ROOMY = QuotaSpec(
    "quotas", path="roomy", windows=[Window.day(10**9, rollover=Rollover(cap=5)), Window.month(None)], meters=("cost",)
)
TIGHT = QuotaSpec("quotas", path="tight", windows=[Window.month(LIMIT)])
# Of these each fault meets a fresh key, which is full before the next fault.
FULL = 60
FILLED = QuotaSpec("filled", path="q", windows=[Window.month(FULL)])

# So many callers of each kind that travels alone, and of each kind that shares round trips.
ALONE, TOGETHER = 3, 6
KINDS_ALONE = ("add", "consume", "record", "tight")
KINDS_TOGETHER = ("add_together", "impatient_together", "charge_together", "fill_together")
WORKERS = ALONE * len(KINDS_ALONE) + TOGETHER * len(KINDS_TOGETHER)

# Of the first the driver's repeat is told the stored answer; the second is handed to the caller.
LOST_REPLIES = ("onPrimaryTransactionalWrite", {"times": 12}, {"closeConnection": True})
UNSATISFIED = (
    "failCommand",
    {"times": 30},
    {"failCommands": ["findAndModify"], "writeConcernError": {"code": 64, "errmsg": "waiting timed out"}},
)


@pytest.fixture(scope="module")
def members() -> Iterator[EmbeddedMongo]:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MONGOPATTERNS_TEST_URI", raising=False)  # somebody's own server must not be killed
        with EmbeddedMongo(members=3) as server:
            yield server


@dataclass
class Log:
    """What callers of one kind were told: amounts with their verdicts, and amounts that came to an error."""

    told: list[tuple[int, Any]] = field(default_factory=list)
    unknown: list[tuple[int, BaseException]] = field(default_factory=list)
    unsent: list[BaseException] = field(default_factory=list)
    failed: list[BaseException] = field(default_factory=list)

    @property
    def granted(self) -> list[tuple[int, Any]]:
        return [(amount, verdict) for amount, verdict in self.told if verdict]

    def assert_bounds(self, stored: int) -> None:
        """Assert that what was acknowledged is stored, and of what was not, at most what may have been applied."""
        least = sum(amount for amount, _ in self.granted)
        assert least <= stored <= least + sum(amount for amount, _ in self.unknown)


class Load:
    """Callers without a pause, and faults."""

    def __init__(self, server: EmbeddedMongo) -> None:
        self.server = server
        self.logs = {name: Log() for name in (*KINDS_ALONE, *KINDS_TOGETHER)}
        self.faults = 0
        self._killed = -1
        self._over = asyncio.Event()

    async def work(self, name: str, call: Callable[[int, str], Awaitable[Any]]) -> None:
        log = self.logs[name]
        for turn in itertools.count():
            if self._over.is_set():
                return
            amount = 1 if name in ("tight", "fill_together") else 1 + turn % 3
            try:
                log.told.append((amount, await call(amount, f"fault {self.faults}")))
            except (NotSent, ServerSelectionTimeoutError) as error:
                log.unsent.append(error)
            except (PyMongoError, MongoPatternsError) as error:
                if may_have_applied(error):
                    log.unknown.append((amount, error))
                else:
                    log.failed.append(error)

    async def progress(self, fault: Callable[[], Any], point: tuple[str, Any, Any] | None = None) -> None:
        """Inject one fault, and let every kind of call be answered again before the next."""
        self.faults += 1
        answered = {name: len(log.told) for name, log in self.logs.items()}
        await asyncio.to_thread(fault)
        await asyncio.to_thread(self.server.wait_for_primary)
        least = dict.fromkeys(self.logs, 20) | {"fill_together": FULL + TOGETHER}

        async def all_answered() -> None:
            while any(len(log.told) < answered[name] + least[name] for name, log in self.logs.items()):
                await asyncio.sleep(0.02)

        with self.server.fail_point(point[0], mode=point[1], data=point[2]) if point else nullcontext():
            await asyncio.wait_for(all_answered(), timeout=60)

    async def run(self, calls: dict[str, Callable[[int, str], Awaitable[Any]]]) -> None:
        workers = [
            asyncio.create_task(self.work(name, call))
            for name, call in calls.items()
            for _ in range(ALONE if name in KINDS_ALONE else TOGETHER)
        ]
        try:
            await self.progress(lambda: None)
            await self.progress(self._kill, LOST_REPLIES)
            await self.progress(self._restart)
            await self.progress(self.server.step_down, LOST_REPLIES)
            await self.progress(lambda: None, UNSATISFIED)
            await self.progress(self._kill)
            await self.progress(self._restart, LOST_REPLIES)
            await self.progress(self.server.step_down)
        finally:
            self._over.set()
            await asyncio.gather(*workers)

    def _kill(self) -> None:
        self._killed = self.server.kill()

    def _restart(self) -> None:
        self.server.restart(self._killed)


@pytest.fixture(params=["pymongo", "motor", "sync"])
async def calls(request: pytest.FixtureRequest, members: EmbeddedMongo) -> AsyncIterator[tuple[str, dict[str, Any]]]:
    """Give the same calls on each driver, and the name of the database that they write to."""
    name = f"chaos_{request.param}"
    if request.param == "sync":
        pool = ThreadPoolExecutor(WORKERS)

        def threaded(call: Callable[..., Any]) -> Callable[..., Awaitable[Any]]:
            return lambda *arguments: asyncio.get_running_loop().run_in_executor(pool, call, *arguments)

        with MongoClient(members.uri) as client, pool:
            of_threads = _calls(client[name], Counter, Quota)
            yield name, {kind: threaded(call) for kind, call in of_threads.items()}
        return
    asynchronous: Any = AsyncMongoClient(members.uri) if request.param == "pymongo" else AsyncIOMotorClient(members.uri)
    yield name, _calls(asynchronous[name], AsyncCounter, AsyncQuota)
    await settle(asynchronous.close())


def _calls(db: Any, counter: Any, quota: Any) -> dict[str, Callable[[int, str], Any]]:
    """Make a call of each kind: it is given an amount, and the name of the last fault."""
    hits, roomy, tight = counter(db, HITS), quota(db, ROOMY), quota(db, TIGHT)
    shared = {"combine": True}
    hits_together, roomy_together = counter(db, HITS, **shared), quota(db, ROOMY, **shared)
    filled = quota(db, FILLED, **shared)
    return {
        "add": lambda amount, _: hits.add("alone", amount),
        "consume": lambda amount, _: roomy.consume("consumed", amount),
        "record": lambda amount, _: roomy.record("recorded", amount),
        "tight": lambda amount, _: tight.consume("alone", amount),
        "add_together": lambda amount, _: hits_together.add("together", amount, meters={"size": amount}),
        "impatient_together": lambda amount, _: hits_together.add("impatient", amount, timeout=0.2),
        "charge_together": lambda amount, _: (roomy_together.record if amount == 2 else roomy_together.consume)(
            "together", amount, meters={"cost": amount}
        ),
        "fill_together": lambda amount, fault: filled.consume(fault, amount),
    }


def assert_apart(answers: list[tuple[int, int]]) -> None:
    """Assert that additions, told as (amount, total), belong to one order: no two of them count the same unit."""
    last = 0
    for amount, total in sorted(answers, key=lambda answer: answer[1]):
        assert last <= total - amount
        last = total


async def test_elections_and_lost_replies_lose_and_double_nothing(
    calls: tuple[str, dict[str, Any]], members: EmbeddedMongo
) -> None:
    """Through kills, step-downs and lost replies what is stored is what was told, within what was told unknown."""
    name, calls_of = calls
    load = Load(members)
    await load.run(calls_of)
    logs = load.logs
    for kind, log in logs.items():
        assert log.failed == []
        assert len(log.told) > 100, "there was a load"
        assert kind == "impatient_together" or not log.unsent
    with MongoClient(members.uri) as client:
        db: Any = client[name]
        hits = {document["_id"]: document for document in db.hits.find()}
        states = {document["_id"]: document for document in db.quotas.find()}
        filled = {document["_id"]: document["q"]["month"]["used"] for document in db.filled.find()}

    # Numbers and windows hold what was acknowledged, and at most what may have been applied besides.
    charged = {
        "add": hits["alone"]["n"],
        "add_together": hits["together"]["n"],
        "impatient_together": hits["impatient"]["n"],
        "consume": states["consumed"]["roomy"]["day"]["used"],
        "record": states["recorded"]["roomy"]["day"]["used"],
        "charge_together": states["together"]["roomy"]["day"]["used"],
    }
    for kind, stored in charged.items():
        logs[kind].assert_bounds(stored)
        totals = [(amount, _total(verdict)) for amount, verdict in logs[kind].granted]
        assert len(totals) == len(logs[kind].told), "there was room for all"
        assert_apart(totals)
        assert max(total for _, total in totals) <= stored
    # What is written together is stored together.
    assert hits["together"]["size"] == hits["together"]["n"]
    assert states["together"]["roomy"]["meters"]["cost"] == charged["charge_together"]
    assert all(
        states[key]["roomy"]["month"]["used"] == states[key]["roomy"]["day"]["used"]
        for key in ("consumed", "recorded", "together")
    )

    # Limits were reached, and nobody was refused before they were.
    for kind, limit, stored in (("tight", LIMIT, LIMIT), ("fill_together", FULL, FULL * load.faults)):
        refused = [verdict for _, verdict in logs[kind].told if not verdict]
        assert refused
        assert all(verdict.used == {"month": limit} for verdict in refused)
        logs[kind].assert_bounds(stored)
    assert states["alone"]["tight"]["month"]["used"] == LIMIT
    assert {key: used for key, used in filled.items() if key != "fault 0"} == dict.fromkeys(
        (f"fault {number}" for number in range(1, load.faults + 1)), FULL
    )

    # Those who share a command are told in our own words that nobody knows.
    for kind in KINDS_TOGETHER:
        assert {type(error) for _, error in logs[kind].unknown} <= {OutcomeUnknown}
        assert all(error.__cause__ is not None for _, error in logs[kind].unknown)
    assert any(log.unknown for log in logs.values()), "some answers were lost for good"


def _total(verdict: Any) -> int:
    """Tell what the number was after a call."""
    return int(verdict if isinstance(verdict, int) else verdict.used["day"])
