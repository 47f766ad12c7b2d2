"""What a row of the table is: two sides, the calls on which they must agree, and what is hoped for."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Any, Final, Protocol

from benchmarks._ratios import Measurement, Name, Target, alternate
from benchmarks._worlds import Stage, World

EVERYWHERE: Final = (World("async", 1), World("async", 32), World("sync", 1))
ONE_KEY: Final = ("hot",)
MANY_KEYS: Final = tuple(f"key-{number}" for number in range(1000))


class Disagreement(Exception):
    """The two sides of a row gave different answers, so that their times cannot be compared."""


@dataclass(frozen=True, slots=True)
class Effort:
    """How long to measure.

    Attributes:
        rounds: How many rounds count.
        warm_up: How many come before them.
        turn: Seconds that one turn of one side should take, about.
        keys: The most keys to use.
    """

    rounds: int = 60
    warm_up: int = 4
    turn: float = 0.08
    keys: int = 1000


QUICK: Final = Effort(rounds=2, warm_up=1, turn=0.005, keys=20)


@dataclass(frozen=True, slots=True)
class Result:
    """One line of the table.

    Attributes:
        name: What was timed.
        against: What it was compared with.
        where: The world, as text.
        measured: The times.
        target: What was hoped for, if anything was.
    """

    name: str
    against: str
    where: str
    measured: Measurement
    target: Target | None


class Measurable(Protocol):
    """Anything that makes lines of the table."""

    @property
    def name(self) -> str:
        """What is measured: it is printed, and `--only` looks for it."""
        ...

    @property
    def against(self) -> str:
        """What it is compared with: the same."""
        ...

    def measure(self, uri: str, effort: Effort) -> Iterator[Result]:
        """Measure, line by line."""
        ...


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two that are compared.

    Attributes:
        aio: Makes the function to call, on a database of the asynchronous driver. Timed calls pass a key alone.
        blocking: The same on a database of the synchronous driver.
        answer: Turns what the function returns into what both sides must agree on. It is not timed.
    """

    aio: Callable[[Any], Callable[..., Any]]
    blocking: Callable[[Any], Callable[..., Any]]
    answer: Callable[[Any], Any] = lambda reply: reply


@dataclass(frozen=True, slots=True)
class Row:
    """Two sides that do the same, timed in turns on one client.

    Attributes:
        name: The primitive, and the case.
        against: What it is compared with.
        ours: The primitive.
        theirs: Its peer.
        agree: Calls, as keyword arguments: before anything is timed, both sides make them one after the other
            and must give the same answers. They use other keys than the timed calls.
        keys: The keys of the timed calls, in turn.
        before: Calls that each side makes before each of its turns, untimed.
        target: What is hoped for.
        worlds: Where to measure.
    """

    name: str
    against: str
    ours: Side
    theirs: Side
    agree: Sequence[Mapping[str, Any]]
    keys: Sequence[Any] = ONE_KEY
    before: Sequence[Mapping[str, Any]] = ()
    target: Target | None = None
    worlds: Sequence[World] = EVERYWHERE

    def measure(self, uri: str, effort: Effort) -> Iterator[Result]:
        """Compare the two sides in each of the worlds.

        Raises:
            Disagreement: If they do not give the same answers.
        """
        agreed = set()
        for world in self.worlds:
            with world.open(uri) as stage:
                bound: dict[Name, Callable[..., Any]] = {
                    "ours": self._bind(self.ours, world, stage),
                    "theirs": self._bind(self.theirs, world, stage),
                }
                if world.driver not in agreed:
                    self._check(stage, bound)
                    agreed.add(world.driver)
                measured = self._compare(stage, bound, world.callers, effort)
            yield Result(self.name, self.against, str(world), measured, self.target)

    @staticmethod
    def _bind(side: Side, world: World, stage: Stage) -> Callable[..., Any]:
        return (side.aio if world.driver == "async" else side.blocking)(stage.database)

    def _check(self, stage: Stage, bound: Mapping[Name, Callable[..., Any]]) -> None:
        for number, arguments in enumerate(self.agree):
            ours = self.ours.answer(stage.call(bound["ours"], arguments))
            theirs = self.theirs.answer(stage.call(bound["theirs"], arguments))
            if ours != theirs:
                raise Disagreement(
                    f"{self.name} against {self.against}, call {number} {dict(arguments)}:"
                    f"\n  ours   {ours}\n  theirs {theirs}"
                )

    def _compare(
        self, stage: Stage, bound: Mapping[Name, Callable[..., Any]], callers: int, effort: Effort
    ) -> Measurement:
        keys = self.keys[: effort.keys]
        # Every document is there before anything counts; what that took says how many calls make a turn.
        first = max(len(keys), 4 * callers)
        slowest = max(stage.time(bound[name], islice(cycle(keys), first)) for name in bound) / first
        calls = max(4 * callers, math.ceil(effort.turn / slowest))
        streams = {name: cycle(keys) for name in bound}

        def seconds(name: Name) -> float:
            for arguments in self.before:
                stage.call(bound[name], arguments)
            return stage.time(bound[name], islice(streams[name], calls)) / calls

        return alternate(seconds, rounds=effort.rounds, warm_up=effort.warm_up)
