"""What a row of the table is: two sides, the calls on which they must agree, and what is hoped for."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import cycle, islice
from typing import Any, Final, Protocol, TypeAlias

from benchmarks._ratios import Measurement, Name, Target, alternate
from benchmarks._worlds import Stage, Tally, World

Bound: TypeAlias = Mapping[Name, Callable[..., Any]]

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
        calls: How many calls each caller makes in a turn, at the least.
        callers: The most callers to have, whatever a row asks for.
        keys: The most keys to use, and not fewer than callers: the first call of a key must be its only one.
    """

    rounds: int = 40
    warm_up: int = 4
    turn: float = 0.06
    calls: int = 4
    callers: int = 1000
    keys: int = 1000

    def of(self, longer: int) -> Effort:
        """Return an effort of about the same time, with turns so many times as long, and as many times fewer."""
        return replace(
            self, rounds=max(2, self.rounds // longer), warm_up=max(1, self.warm_up // longer), turn=self.turn * longer
        )


QUICK: Final = Effort(rounds=2, warm_up=1, turn=0.005, calls=1, callers=8, keys=8)


@dataclass(frozen=True, slots=True)
class Result:
    """One line of the table.

    Attributes:
        name: What was timed.
        against: What it was compared with.
        where: The world, as text.
        measured: The times.
        target: What was hoped for, if anything was.
        at: Of what there was how much, if that is what grows from line to line.
    """

    name: str
    against: str
    where: str
    measured: Measurement
    target: Target | None
    at: tuple[str, int] | None = None


@dataclass(frozen=True, slots=True)
class Size:
    """One line of the table of sizes.

    Attributes:
        name: What was weighed.
        against: Which part of it.
        where: After which calls.
        size: Bytes.
        below: What it was hoped to stay under, if anything was.
    """

    name: str
    against: str
    where: str
    size: int
    below: int | None


@dataclass(frozen=True, slots=True)
class Shares:
    """One line of the table of whose code the time is spent in.

    Attributes:
        name: What was called.
        where: The world, as text.
        shares: The part of the time, by owner.
    """

    name: str
    where: str
    shares: Mapping[str, float]


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

    def measure(self, uri: str, effort: Effort) -> Iterator[Result | Size | Shares]:
        """Measure, line by line."""
        ...


class Side(Protocol):
    """One of the two that are compared."""

    @property
    def answer(self) -> Callable[[Any], Any]:
        """Turns what the function returns into what both sides must agree on. It is not timed."""
        ...

    @property
    def tally(self) -> Tally | None:
        """Adds up what is stored under some keys.

        It is compared with that of the other side, and must be the number of the timed calls when they are over:
        none was lost, and none counted twice.
        """
        ...

    def bind(self, world: World, stage: Stage) -> Callable[..., Any]:
        """Return the function to call in that world. Timed calls pass a key alone."""
        ...


@dataclass(frozen=True, slots=True)
class Calls:
    """A side that is called on the client of the row.

    Attributes:
        aio: Makes the function to call, on a database of the asynchronous driver.
        blocking: The same on a database of the synchronous driver.
        answer: What both sides must agree on.
        tally: What is stored.
        indexes: What is created first: fields by which the server deletes documents, by collection.
        specs: Definitions whose indexes are created first.
        seed: Stores what is there before the first call, unless it is there.
    """

    aio: Callable[[Any], Callable[..., Any]]
    blocking: Callable[[Any], Callable[..., Any]]
    answer: Callable[[Any], Any] = lambda reply: reply
    tally: Tally | None = None
    indexes: Mapping[str, str] = field(default_factory=dict)
    specs: Sequence[Any] = ()
    seed: Callable[[Any], None] | None = None

    def bind(self, world: World, stage: Stage) -> Callable[..., Any]:
        with stage.audit() as database:
            if self.seed:
                self.seed(database)
            for spec in self.specs:
                for index in spec.indexes():
                    database[spec.collection].create_index(index.keys, **index.options)
            for collection, expiry in self.indexes.items():
                database[collection].create_index(expiry, expireAfterSeconds=0)
        return (self.aio if world.driver == "async" else self.blocking)(stage.database)


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
        together: Calls that each side then makes all at once, and for which it must get the same answers, in
            whatever order. They use other keys still.
        keys: The keys of the timed calls, in turn.
        before: Calls that each side makes before each of its turns, untimed.
        target: What is hoped for.
        worlds: Where to measure.
        longer: How many times as long a turn is as elsewhere, with as many times fewer rounds: where there are
            many callers, a short turn would be over before all of them are under way.
    """

    name: str
    against: str
    ours: Side
    theirs: Side
    agree: Sequence[Mapping[str, Any]]
    together: Sequence[Mapping[str, Any]] = ()
    keys: Sequence[Any] = ONE_KEY
    before: Sequence[Mapping[str, Any]] = ()
    target: Target | None = None
    worlds: Sequence[World] = EVERYWHERE
    longer: int = 1

    def measure(self, uri: str, effort: Effort) -> Iterator[Result]:
        """Compare the two sides in each of the worlds.

        Raises:
            Disagreement: If they do not give the same answers.
        """
        agreed = set()
        for world in self.worlds:
            callers = min(world.callers, effort.callers)
            with replace(world, callers=callers).open(uri) as stage:
                bound: Bound = {"ours": self.ours.bind(world, stage), "theirs": self.theirs.bind(world, stage)}
                if world.driver not in agreed:
                    self._check(stage, bound)
                    agreed.add(world.driver)
                measured = self._compare(stage, bound, callers, effort.of(self.longer))
            yield Result(self.name, self.against, str(world), measured, self.target)

    def _check(self, stage: Stage, bound: Bound) -> None:
        for number, arguments in enumerate(self.agree):
            ours = self.ours.answer(stage.call(bound["ours"], arguments))
            theirs = self.theirs.answer(stage.call(bound["theirs"], arguments))
            self._same(f"call {number} {dict(arguments)}", ours, theirs)
        if self.together:
            # Who of many callers is the first one is anybody's guess; what they are told in all is not.
            ours, theirs = (
                sorted(str(side.answer(reply)) for reply in stage.together(bound[name], self.together))
                for name, side in self._sides()
            )
            self._same(f"{len(self.together)} calls at once", ours, theirs)
        if self.ours.tally and self.theirs.tally:
            keys = {arguments["key"] for arguments in (*self.agree, *self.together)}
            with stage.audit() as database:
                self._same("what is stored", self.ours.tally(database, keys), self.theirs.tally(database, keys))

    def _same(self, what: str, ours: Any, theirs: Any) -> None:
        if ours != theirs:
            raise Disagreement(f"{self.name} against {self.against}, {what}:\n  ours   {ours}\n  theirs {theirs}")

    def _sides(self) -> tuple[tuple[Name, Side], ...]:
        return (("ours", self.ours), ("theirs", self.theirs))

    def _compare(self, stage: Stage, bound: Bound, callers: int, effort: Effort) -> Measurement:
        keys = self.keys[: effort.keys]
        streams = {name: cycle(keys) for name in bound}
        made = dict.fromkeys(bound, 0)

        def seconds(name: Name, calls: int) -> float:
            made[name] += calls
            return stage.time(bound[name], islice(streams[name], calls)) / calls

        least = effort.calls * callers
        # Every document is there before anything counts. What the calls of a second, shorter pass took says how
        # many of them make a turn: the first ones of all are slow.
        first = {name: seconds(name, max(len(keys), least)) for name in bound}
        each = {name: seconds(name, max(least, math.ceil(effort.turn / first[name] / 4))) for name in bound}
        calls = {name: max(least, math.ceil(effort.turn / each[name])) for name in bound}

        def turn(name: Name) -> float:
            for arguments in self.before:
                stage.call(bound[name], arguments)
            return seconds(name, calls[name])

        measured = alternate(turn, rounds=effort.rounds, warm_up=effort.warm_up)
        with stage.audit() as database:
            for name, side in self._sides():
                if side.tally and (stored := side.tally(database, keys)) != made[name]:
                    raise Disagreement(f"{self.name}: {name} made {made[name]} calls, and {stored} are stored")
        return measured
