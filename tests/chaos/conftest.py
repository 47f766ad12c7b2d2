"""Three members that fall, replies that are lost, callers without a pause, and a log of what they were told."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from motor.motor_asyncio import AsyncIOMotorClient
from pymongo import AsyncMongoClient, MongoClient
from pymongo.errors import PyMongoError, ServerSelectionTimeoutError

from mongopatterns import NotSent, may_have_applied
from mongopatterns._driver_async import settle
from mongopatterns.errors import MongoPatternsError
from mongopatterns.testing import EmbeddedMongo

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence

THREADS = 64  # more than any test here has callers

# Of the first the driver's repeat is told the stored answer; the second is handed to the caller.
LOST_REPLIES = ("onPrimaryTransactionalWrite", {"times": 12}, {"closeConnection": True})
UNSATISFIED = (
    "failCommand",
    {"times": 30},
    {"failCommands": ["findAndModify"], "writeConcernError": {"code": 64, "errmsg": "waiting timed out"}},
)
# What happens, one after the other, and what besides while it is got over. After the third and the seventh of them
# all members are there.
FAULTS: list[tuple[str, Any]] = [
    ("nothing", None),
    ("kill", LOST_REPLIES),
    ("restart", None),
    ("step_down", LOST_REPLIES),
    ("nothing", UNSATISFIED),
    ("kill", None),
    ("restart", LOST_REPLIES),
    ("step_down", None),
]


@pytest.fixture(scope="module")
def members() -> Iterator[EmbeddedMongo]:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MONGOPATTERNS_TEST_URI", raising=False)  # somebody's own server must not be killed
        with EmbeddedMongo(members=3) as server:
            yield server


@dataclass
class Log:
    """What callers of one kind were told: what they asked for with their verdicts, and with what came to an error."""

    told: list[tuple[Any, Any]] = field(default_factory=list)
    unknown: list[tuple[Any, BaseException]] = field(default_factory=list)
    unsent: list[BaseException] = field(default_factory=list)
    failed: list[BaseException] = field(default_factory=list)

    @property
    def granted(self) -> list[tuple[Any, Any]]:
        return [(asked, verdict) for asked, verdict in self.told if verdict]


class Load:
    """Callers without a pause, and faults."""

    def __init__(self, server: EmbeddedMongo) -> None:
        self.server = server
        self.logs: dict[str, Log] = defaultdict(Log)
        self.faults = 0
        self._killed = -1
        self._over = asyncio.Event()

    @property
    def over(self) -> bool:
        """Whether callers should go home."""
        return self._over.is_set()

    async def attempt(self, kind: str, asked: Any, call: Callable[[], Awaitable[Any]]) -> Any:
        """Make one call, and log what came of it.

        Returns:
            The verdict; None if the call came to an error.
        """
        log = self.logs[kind]
        try:
            verdict = await call()
        except (NotSent, ServerSelectionTimeoutError) as error:
            log.unsent.append(error)
        except (PyMongoError, MongoPatternsError) as error:
            if may_have_applied(error):
                log.unknown.append((asked, error))
            else:
                log.failed.append(error)
        else:
            log.told.append((asked, verdict))
            return verdict
        return None

    async def progress(
        self, least: Mapping[str, int], fault: Callable[[], Any], point: tuple[str, Any, Any] | None = None
    ) -> None:
        """Inject one fault, and let every kind of call be answered so many times before the next."""
        self.faults += 1
        answered = Counter({name: len(log.told) for name, log in self.logs.items()})
        await asyncio.to_thread(fault)
        await asyncio.to_thread(self.server.wait_for_primary)

        async def all_answered() -> None:
            while any(len(self.logs[name].told) < answered[name] + number for name, number in least.items()):
                await asyncio.sleep(0.02)

        with self.server.fail_point(point[0], mode=point[1], data=point[2]) if point else nullcontext():
            await asyncio.wait_for(all_answered(), timeout=60)

    async def run(
        self, workers: Sequence[Callable[[], Awaitable[None]]], least: Mapping[str, int], faults: int = len(FAULTS)
    ) -> None:
        """Let the workers work until they have seen so many of the faults, and have been answered after each."""
        tasks = [asyncio.ensure_future(worker()) for worker in workers]
        try:
            for fault, point in FAULTS[:faults]:
                await self.progress(least, getattr(self, fault), point)
        finally:
            self._over.set()
            await asyncio.gather(*tasks)

    def nothing(self) -> None:
        """Leave the members alone."""

    def kill(self) -> None:
        self._killed = self.server.kill()

    def restart(self) -> None:
        self.server.restart(self._killed)

    def step_down(self) -> None:
        self.server.step_down()


@pytest.fixture
def load(members: EmbeddedMongo) -> Load:
    return Load(members)


@dataclass
class World:
    """One driver: its database, and its calls as something to wait for.

    Attributes:
        name: The driver's.
        db: A database that only this driver's test uses.
        sync: Whether it is the synchronous one.
    """

    name: str
    db: Any
    sync: bool
    pool: ThreadPoolExecutor | None = None

    def wait(self, call: Callable[..., Any]) -> Callable[..., Awaitable[Any]]:
        """Return a call that can be waited for; a synchronous one is made in a thread."""
        if self.pool is None:
            return call
        pool = self.pool
        return lambda *arguments: asyncio.get_running_loop().run_in_executor(pool, call, *arguments)


@pytest.fixture(params=["pymongo", "motor", "sync"])
async def world(request: pytest.FixtureRequest, members: EmbeddedMongo) -> AsyncIterator[World]:
    name = f"chaos_{request.param}"
    if request.param == "sync":
        with MongoClient[dict[str, Any]](members.uri) as client, ThreadPoolExecutor(THREADS) as pool:
            yield World(request.param, client[name], sync=True, pool=pool)
        return
    asynchronous: Any = AsyncMongoClient(members.uri) if request.param == "pymongo" else AsyncIOMotorClient(members.uri)
    yield World(request.param, asynchronous[name], sync=False)
    await settle(asynchronous.close())
