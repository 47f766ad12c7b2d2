"""Three members that fall, replies that are lost, callers without a pause, and a log of what they were told."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
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

# "Not primary while writing": so answers a member whose time ended before it began with an update of many documents,
# which no driver repeats.
DEMOTED = 189

# Of the first the driver's repeat is told the stored answer; the second is handed to the caller.
LOST_REPLIES = ("onPrimaryTransactionalWrite", {"times": 12}, {"closeConnection": True})
UNSATISFIED = (
    "failCommand",
    {"times": 30},
    {
        "failCommands": ["findAndModify", "insert", "update"],
        "writeConcernError": {"code": 64, "errmsg": "waiting timed out"},
    },
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
    """What callers of one kind were told: what they asked for with their verdicts, and with what came to an error.

    Those who were answered by a member that was no primary any more must not be applied, as all who are told no.
    """

    told: list[tuple[Any, Any]] = field(default_factory=list)
    unknown: list[tuple[Any, BaseException]] = field(default_factory=list)
    unsent: list[BaseException] = field(default_factory=list)
    failed: list[BaseException] = field(default_factory=list)
    demoted: list[BaseException] = field(default_factory=list)

    @property
    def granted(self) -> list[tuple[Any, Any]]:
        return [(asked, verdict) for asked, verdict in self.told if verdict]

    @property
    def maybe(self) -> set[Any]:
        """What was asked for by calls of which nobody knows what came of them."""
        return {asked for asked, _ in self.unknown}


class Load:
    """Callers without a pause, and faults."""

    def __init__(self, server: EmbeddedMongo) -> None:
        self.server = server
        self.logs: dict[str, Log] = defaultdict(Log)
        # Of each kind, all who have been told that they are in, and have not begun to leave.
        self.inside: dict[str, set[Any]] = defaultdict(set)
        self.least: Mapping[str, int] = {}
        self.tasks: list[asyncio.Future[None]] = []
        self.faults = 0
        self._killed = -1
        self._over = asyncio.Event()

    @property
    def over(self) -> bool:
        """Whether callers should go home."""
        return self._over.is_set()

    def turns(self) -> Iterator[int]:
        """Count the turns of a caller, until it is time to go home."""
        return itertools.takewhile(lambda _: not self.over, itertools.count())

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
            elif getattr(error, "code", None) == DEMOTED:
                log.demoted.append(error)
            else:
                log.failed.append(error)
        else:
            log.told.append((asked, verdict))
            return verdict
        return None

    async def until_told(self, kind: str, asked: Any, call: Callable[[], Awaitable[Any]]) -> tuple[Any, bool]:
        """Make a call again and again until it is answered.

        Returns:
            The verdict, and whether it is that of the first time.
        """
        for again in itertools.count():
            if (verdict := await self.attempt(kind, asked, call)) is not None:
                return verdict, not again
        raise AssertionError("counting does not end")

    async def come_and_go(
        self,
        kind: str,
        me: Any,
        cap: int | None,
        *,
        come: Callable[[Any], Awaitable[Any]],
        look: Callable[[Any, Any], Awaitable[Any]],
        go: Callable[[Any, Any], Awaitable[Any]],
    ) -> tuple[Any, Any]:
        """Come in, look around, and leave until told so: then nobody is in who cannot know it.

        Args:
            kind: What all of it is logged as.
            me: Who comes, and is logged as what was asked for.
            cap: How many may be in.
            come: Is given `me`; the verdict is true if he is in.
            look: Is given `me` and what was told; true if he is still in. It writes, so that it tells of now.
            go: The same, and is repeated until it is answered. What was told is None if nobody knows.

        Returns:
            What was told of coming in and of leaving; None for what is not known to be of the first time.
        """
        told = await self.attempt(kind, me, lambda: come(me))
        if told:
            inside = self.inside[kind]
            inside.add(me)
            assert cap is None or len(inside) <= cap, f"more are in than may be: {kind}"
            again = await self.attempt(kind, me, lambda: look(me, told))
            assert again is None or again, f"who was told so is in: {kind}"
            inside.remove(me)
        left, first = await self.until_told(kind, me, lambda: go(me, told))
        return told, left if first and told is not None else None

    def assert_working(self) -> None:
        """Raise what has ended one of the callers."""
        for task in self.tasks:
            if task.done():
                task.result()

    def assert_loaded(self) -> None:
        """Assert that each kind of call was made under all the faults, and that none was refused by the driver."""
        for kind, log in self.logs.items():
            assert log.failed == [], kind
            assert log.unsent == [], kind
            assert len(log.told) >= self.faults * self.least[kind], f"there was a load of {kind}"
        assert any(log.unknown for log in self.logs.values()), "some answers were lost for good"

    async def progress(
        self, least: Mapping[str, int], fault: Callable[[], Any], point: tuple[str, Any, Any] | None = None
    ) -> None:
        """Inject one fault, and let every kind of call be answered so many times before the next."""
        self.faults += 1
        answered = Counter({name: len(log.told) for name, log in self.logs.items()})
        await asyncio.to_thread(fault)
        await asyncio.to_thread(self.server.wait_for_primary, 60)  # (a busy machine elects slowly)

        async def all_answered() -> None:
            while any(len(self.logs[name].told) < answered[name] + number for name, number in least.items()):
                self.assert_working()
                await asyncio.sleep(0.02)

        with self.server.fail_point(point[0], mode=point[1], data=point[2]) if point else nullcontext():
            await asyncio.wait_for(all_answered(), timeout=60)

    async def run(
        self, workers: Sequence[Callable[[], Awaitable[None]]], least: Mapping[str, int], faults: int = len(FAULTS)
    ) -> None:
        """Let the workers work until they have seen so many of the faults, and have been answered after each."""
        self.least = least
        self.tasks = [asyncio.ensure_future(worker()) for worker in workers]
        try:
            for fault, point in FAULTS[:faults]:
                await self.progress(least, getattr(self, fault), point)
        finally:
            self._over.set()
            await asyncio.gather(*self.tasks)

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
        uri: Where the server is.
        db: A database that only this driver's test uses.
        sync: Whether it is the synchronous one.
    """

    name: str
    uri: str
    db: Any
    sync: bool
    pool: ThreadPoolExecutor | None = None

    def wait(self, call: Callable[..., Any]) -> Callable[..., Awaitable[Any]]:
        """Return a call that can be waited for; a synchronous one is made in a thread."""
        if self.pool is None:
            return call
        pool = self.pool
        return lambda *arguments, **options: asyncio.get_running_loop().run_in_executor(
            pool, partial(call, *arguments, **options)
        )

    def calls(self, asynchronous: Any, blocking: Any, spec: Any) -> Calls:
        """Make a primitive, and the indexes that it needs."""
        with MongoClient[dict[str, Any]](self.uri) as client:
            for index in spec.indexes():
                client[self.db.name][spec.collection].create_index(index.keys, **index.options)
        return Calls(self, (blocking if self.sync else asynchronous)(self.db, spec))

    def collection(self, name: str) -> Calls:
        """Provide the calls of the driver itself."""
        return Calls(self, self.db[name])

    def stored(self, name: str) -> list[dict[str, Any]]:
        """Return all documents of a collection."""
        with MongoClient[dict[str, Any]](self.uri, tz_aware=True) as client:
            return list(client[self.db.name][name].find())


@dataclass
class Calls:
    """The methods of something, as calls to wait for."""

    world: World
    of: Any

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        return self.world.wait(getattr(self.of, name))


@pytest.fixture(params=["pymongo", "motor", "sync"])
async def world(request: pytest.FixtureRequest, members: EmbeddedMongo) -> AsyncIterator[World]:
    name = f"chaos_{request.param}"
    if request.param == "sync":
        with MongoClient[dict[str, Any]](members.uri) as client, ThreadPoolExecutor(THREADS) as pool:
            yield World(request.param, members.uri, client[name], sync=True, pool=pool)
        return
    asynchronous: Any = AsyncMongoClient(members.uri) if request.param == "pymongo" else AsyncIOMotorClient(members.uri)
    yield World(request.param, members.uri, asynchronous[name], sync=False)
    await settle(asynchronous.close())
