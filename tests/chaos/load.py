"""A load that goes on while faults come and go, and the log of what its callers are told."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from random import Random
from typing import Any

from pymongo import MongoClient
from pymongo.errors import PyMongoError, ServerSelectionTimeoutError

import mongopatterns
from mongopatterns import NotSent, may_have_applied
from mongopatterns.errors import MongoPatternsError
from tests.chaos.checker.check import PRIMITIVES
from tests.chaos.checker.log import TOLD, UNKNOWN, UNTOUCHED, Call, Fate, Fault, Violation
from tests.chaos.faults import KINDS, Injector, schedule

PATIENCE = 60.0  # seconds in which every primitive must be answered again after a fault
# "Not primary while writing": so answers a member whose time ended before it began with an update of many documents,
# which no driver repeats.
DEMOTED = 189

Turn = Callable[[Random, str], Coroutine[Any, Any, None]]


def lost(error: BaseException | None) -> bool:
    """Tell whether an error, after which nothing is applied, is one that a fault may bring."""
    return isinstance(error, (NotSent, ServerSelectionTimeoutError)) or getattr(error, "code", None) == DEMOTED


class Awaited:
    """The methods of something, as calls to wait for whatever the flavour."""

    def __init__(self, world: Any, of: Any) -> None:
        self._world = world
        self._of = of

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        return self._world.wait(getattr(self._of, name))


class Load:
    """Callers without a pause, faults, and one order of all that begins and ends.

    Everything here runs in one event loop; synchronous calls are made in threads, and begin and end in the loop.
    """

    def __init__(self, world: Any, server: Any, seed: int) -> None:
        self.world = world
        self.seed = seed
        self.log: list[Call] = []
        self.faults: list[Fault] = []
        self.unexpected: list[Violation] = []
        self.over = False
        self._server = server
        self._injector = Injector(server)
        self._ticks = itertools.count(1)
        self._answered: Counter[str] = Counter()
        self._tasks: list[asyncio.Future[None]] = []

    def bind(self, name: str, spec: Any, **options: Any) -> Awaited:
        """Make a primitive of the world's flavour."""
        kind = getattr(mongopatterns, name if self.world.sync else f"Async{name}")
        target = self.world.db.client if spec is None else self.world.db
        return Awaited(self.world, kind(*((target,) if spec is None else (target, spec)), **options))

    async def attempt(
        self,
        of: str,
        op: str,
        key: str,
        call: Callable[[], Awaitable[Any]],
        tell: Callable[[Any], Any] = lambda answer: answer,
        /,
        **asked: Any,
    ) -> Call:
        """Make one call, and log what came of it, with what `tell` takes from the answer."""
        start, told = next(self._ticks), None
        fate: Fate = TOLD
        error: Exception | None = None
        try:
            told = tell(await call())
        except (PyMongoError, MongoPatternsError) as raised:
            error, fate = raised, UNKNOWN if may_have_applied(raised) else UNTOUCHED
        done = Call(of, op, key, asked, start, next(self._ticks), fate, told, type(error).__name__ if error else "")
        self.log.append(done)
        if fate == UNTOUCHED and not lost(error):
            self.unexpected.append(Violation("errors are those of lost answers", repr(error), (done,)))
        self._answered[of] += fate == TOLD
        return done

    async def until_told(self, *attempt: Any, **asked: Any) -> Call:
        """Make a call again and again until it is answered."""
        while (done := await self.attempt(*attempt, **asked)).fate != TOLD:
            pass
        return done

    def look(self, of: str, op: str, key: str, told: Any, **asked: Any) -> None:
        """Log what is stored in the end."""
        self.log.append(Call(of, op, key, asked, next(self._ticks), next(self._ticks), TOLD, told))

    # The run -------------------------------------------------------------------------------------------------

    async def run(self, callers: Mapping[str, Turn], *, seconds: float, answers: int) -> None:
        """Let callers take turns while faults come: so long, and each kind of fault at least once.

        Args:
            callers: Their turns, by name; each is given random numbers of its own, and a name of its own.
            seconds: How long.
            answers: How many answers each primitive gets under each fault before the next one comes.
        """
        self._tasks = [asyncio.ensure_future(self._work(name, turn)) for name, turn in callers.items()]
        try:
            deadline = time.monotonic() + seconds
            for number, kind in enumerate(schedule(Random(self.seed))):
                if number >= len(KINDS) and time.monotonic() >= deadline:
                    break
                await self._under(kind, answers)
        finally:
            self.over = True
            await asyncio.to_thread(self._injector.heal)
            await asyncio.gather(*self._tasks)
        await asyncio.to_thread(self._wait_until_idle)

    async def _work(self, name: str, turn: Turn) -> None:
        random = Random(f"{self.seed} {name}")
        for number in itertools.count():
            if self.over:
                return
            await turn(random, f"{name} {number}")

    async def _under(self, kind: str, answers: int) -> None:
        """Inject one fault, and wait until every primitive has been answered so many times more."""
        start = next(self._ticks)
        await asyncio.to_thread(self._injector.inject, kind)
        wanted = {name: self._answered[name] + answers for name in PRIMITIVES}

        async def all_answered() -> None:
            while any(self._answered[name] < number for name, number in wanted.items()):
                for task in self._tasks:
                    if task.done():
                        task.result()
                await asyncio.sleep(0.02)

        point = await asyncio.to_thread(self._injector.point, kind)
        await asyncio.to_thread(point.__enter__)
        try:
            await asyncio.wait_for(all_answered(), timeout=PATIENCE)
        except asyncio.TimeoutError:
            missing = [name for name, number in wanted.items() if self._answered[name] < number]
            raise AssertionError(f"seed {self.seed}: nobody is answered any more while {kind}: {missing}") from None
        finally:
            await asyncio.to_thread(point.__exit__, None, None, None)
            self.faults.append(Fault(kind, start, next(self._ticks)))

    def _wait_until_idle(self) -> None:
        """Wait until the server does nothing more for anybody who has given up."""
        ours = {"command.comment": {"$regex": "^mongopatterns"}, "active": True}
        deadline = time.monotonic() + PATIENCE
        with MongoClient[dict[str, Any]](self._server.uri) as client:
            while client.admin.command({"currentOp": 1, **ours})["inprog"]:
                assert time.monotonic() < deadline, "the server is still busy"
                time.sleep(0.05)
