"""A buffer against `insert_many`, against one write at a time, and against itself with more promises.

Flights are stored one by one by a caller who keeps every acknowledgement and waits for all of them at the end, in
batches of 500 of which two are under way at once. By hand, the same documents are in a list: `insert_many`, unordered,
500 at a time, two at once or one after the other; that has no acknowledgement for each, no order, no bound and no
answer to what fails. Counters are 1,000 documents, chosen at random; nobody keeps their acknowledgements, and the clock
ends when all are stored. Every side asks for a majority.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from time import perf_counter
from typing import Any, Final

from pymongo.write_concern import WriteConcern

from benchmarks._ratios import AtLeastTimes, AtMost, Name, Target, alternate
from benchmarks._rows import Disagreement, Effort, Measurable, Result, Size
from benchmarks._worlds import Stage, World
from mongopatterns import AsyncWriteBuffer, WriteBuffer
from mongopatterns.cli._rows import read_rows

BATCH: Final = 500
IN_FLIGHT: Final = 2
MANY: Final = 5_000
FEW: Final = 200
KEYS: Final = 1_000
TOGETHER: Final = 64

Run = Callable[[int], Any]


@cache
def flights(number: int) -> list[dict[str, Any]]:
    """Read some of them."""
    return read_rows(number).flights


def documents(number: int) -> list[dict[str, Any]]:
    """Copy flights that nobody has given an id yet."""
    rows = flights(MANY)
    return [dict(rows[place % len(rows)]) for place in range(number)]


def batches(rows: Sequence[dict[str, Any]]) -> list[Sequence[dict[str, Any]]]:
    """Cut a list."""
    return [rows[place : place + BATCH] for place in range(0, len(rows), BATCH)]


@dataclass(frozen=True)
class Sides:
    """What is timed, by name: each stores so many documents, or counts so often."""

    stage: Stage
    world: World

    @property
    def collection(self) -> Any:
        """Where they are stored."""
        return self.stage.database.get_collection("flights", write_concern=WriteConcern("majority"))

    def buffered(self, **options: Any) -> Run:
        """Store them in a buffer."""
        collection = self.stage.database["flights"]
        return self._ours(lambda buffer, row: buffer.insert(collection, row), documents, options)

    def counted(self) -> Run:
        """Count in a buffer, as usage is counted: nobody keeps an acknowledgement, and it is sent by the clock."""
        counts = self.stage.database["counts"]
        options = {"max_items": 2 * KEYS, "max_delay": 0.25, "max_waiting": 50 * KEYS, "keep": False}
        return self._ours(lambda buffer, key: buffer.increment(counts, key, {"n": 1}), keys, options)

    def _ours(self, put: Callable[[Any, Any], Any], what: Callable[[int], list[Any]], options: dict[str, Any]) -> Run:
        client = self.stage.database.client
        given = {"max_items": BATCH, "in_flight": IN_FLIGHT, **options}
        keep = given.pop("keep", True)
        if self.world.driver == "async":

            async def run(number: int) -> float:
                values = what(number)
                with self._spooled(given) as all_:
                    started = perf_counter()
                    async with AsyncWriteBuffer(client, **all_) as buffer:
                        acks = [ack for value in values if (ack := await put(buffer, value)) and keep]
                        await buffer.flush()
                        for ack in acks:
                            await ack
                    return perf_counter() - started

            return run

        def run_in_threads(number: int) -> float:
            values = what(number)
            with self._spooled(given) as all_:
                started = perf_counter()
                with WriteBuffer(client, **all_) as buffer:
                    acks = [ack for value in values if (ack := put(buffer, value)) and keep]
                    buffer.flush()
                    for ack in acks:
                        ack.result()
                return perf_counter() - started

        return run_in_threads

    @staticmethod
    @contextlib.contextmanager
    def _spooled(options: dict[str, Any]) -> Iterator[dict[str, Any]]:
        if not options.get("spool"):
            yield options
            return
        with tempfile.TemporaryDirectory() as directory:
            yield {**options, "spool": directory}

    def together(self, **options: Any) -> Run:
        """Store them in a buffer, from many callers at once (asynchronous alone)."""
        client, collection = self.stage.database.client, self.stage.database["flights"]

        async def run(number: int) -> float:
            rows = iter(documents(number))

            async def caller(buffer: AsyncWriteBuffer) -> None:
                for row in rows:
                    await buffer.insert(collection, row)

            with self._spooled({"max_items": BATCH, "in_flight": IN_FLIGHT, **options}) as all_:
                started = perf_counter()
                async with AsyncWriteBuffer(client, **all_) as buffer:
                    await asyncio.gather(*(caller(buffer) for _ in range(TOGETHER)))
                return perf_counter() - started

        return run

    def by_hand(self, in_flight: int) -> Run:
        """Store them by `insert_many`."""
        collection = self.collection
        if self.world.driver == "async":

            async def run(number: int) -> float:
                left = iter(batches(documents(number)))

                async def send() -> None:
                    for rows in left:
                        await collection.insert_many(rows, ordered=False)

                started = perf_counter()
                await asyncio.gather(*(send() for _ in range(in_flight)))
                return perf_counter() - started

            return run

        def run_in_threads(number: int) -> float:
            cut = batches(documents(number))
            with ThreadPoolExecutor(in_flight) as pool:
                started = perf_counter()
                list(pool.map(lambda rows: collection.insert_many(rows, ordered=False), cut))
                return perf_counter() - started

        return run_in_threads

    def one_by_one(self) -> Run:
        """Store them one by one."""
        return self._one_by_one(self.collection.insert_one, documents)

    def counted_one_by_one(self) -> Run:
        """Count one by one."""
        counts = self.stage.database.get_collection("counts", write_concern=WriteConcern("majority"))
        return self._one_by_one(lambda key: counts.update_one({"_id": key}, {"$inc": {"n": 1}}, upsert=True), keys)

    def _one_by_one(self, write: Callable[[Any], Any], what: Callable[[int], list[Any]]) -> Run:
        if self.world.driver == "async":

            async def run(number: int) -> float:
                values = what(number)
                started = perf_counter()
                for value in values:
                    await write(value)
                return perf_counter() - started

            return run

        def run_plainly(number: int) -> float:
            values = what(number)
            started = perf_counter()
            for value in values:
                write(value)
            return perf_counter() - started

        return run_plainly


def keys(number: int) -> list[str]:
    """Choose keys at random, the same each time."""
    chance = random.Random(number)
    return [f"key {chance.randrange(KEYS)}" for _ in range(number)]


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the table.

    Attributes:
        name: What is timed.
        against: What it is compared with.
        ours: One side.
        theirs: The other side.
        target: What is hoped for.
        numbers: How many writes a turn of each side has.
        both: Whether it is shown for both drivers.
    """

    name: str
    against: str
    ours: Callable[[Sides], Run]
    theirs: Callable[[Sides], Run]
    target: Target | None
    numbers: tuple[int, int] = (MANY, MANY)
    both: bool = True


INSERT: Final = "WriteBuffer.insert, 500 a batch, each acknowledged"
LINES: Final = (
    Line(INSERT, "insert_many, two at once", Sides.buffered, lambda sides: sides.by_hand(IN_FLIGHT), AtMost(1 / 0.6)),
    Line(INSERT, "insert_many, one after the other", Sides.buffered, lambda sides: sides.by_hand(1), AtMost(1 / 0.8)),
    Line(INSERT, "insert_one, one by one", Sides.buffered, Sides.one_by_one, AtLeastTimes(25), (MANY, FEW)),
    Line(
        "WriteBuffer.increment, 1,000 keys, merged, sent four times a second",
        "update_one, one by one",
        Sides.counted,
        Sides.counted_one_by_one,
        AtLeastTimes(100),
        (20 * MANY, FEW),
    ),
    Line(
        "WriteBuffer.insert, exactly_once",
        "at_least_once",
        lambda sides: sides.buffered(delivery="exactly_once"),
        Sides.buffered,
        AtMost(2),
    ),
    Line(
        "WriteBuffer.insert, with a spool",
        "without",
        lambda sides: sides.buffered(spool=True),
        Sides.buffered,
        AtMost(2.5),
    ),
    Line(
        "WriteBuffer.insert, with a spool and fsync, 64 callers",
        "without",
        lambda sides: sides.together(spool=True, fsync=True),
        Sides.together,
        AtMost(2.5),
        both=False,
    ),
    Line(
        "WriteBuffer.insert, with a spool and fsync for each",
        "without",
        lambda sides: sides.buffered(spool=True, fsync=True),
        Sides.buffered,
        None,
        (FEW, FEW),
    ),
)
WORLDS: Final = (World("async", 1), World("sync", 1))


@dataclass(frozen=True, slots=True)
class Buffers:
    """All lines."""

    name: str = "WriteBuffer"
    against: str = "insert_many, one write at a time, other promises, memory"

    @property
    def lines(self) -> list[tuple[str, str, str]]:
        """What the table says first in each line."""
        return [
            (line.name, line.against, str(world))
            for world in WORLDS
            for line in LINES
            if line.both or world is WORLDS[0]
        ]

    def measure(self, uri: str, effort: Effort) -> Iterator[Result | Size]:
        """Time both sides in turns.

        Raises:
            Disagreement: If something is not stored, or stored twice.
        """
        whole = effort.keys >= KEYS
        for world in WORLDS:
            with world.open(uri) as stage:
                for line in LINES:
                    if line.both or world is WORLDS[0]:
                        yield self._line(stage, world, line, effort, whole=whole)
        yield _memory(uri, 1_000_000 if whole else 2_000)

    @staticmethod
    def _line(stage: Stage, world: World, line: Line, effort: Effort, *, whole: bool) -> Result:
        sides = Sides(stage, world)
        numbers = line.numbers if whole else (FEW, FEW)
        runs: dict[Name, tuple[Run, int]] = {
            "ours": (line.ours(sides), numbers[0]),
            "theirs": (line.theirs(sides), numbers[1]),
        }

        def seconds(name: Name) -> float:
            run, number = runs[name]
            with stage.audit() as database:
                database["flights"].delete_many({})
                database["counts"].delete_many({})
            taken: float = stage.call(run, {"number": number})
            with stage.audit() as database:
                counted = sum(count["n"] for count in database["counts"].find())
                if database["flights"].count_documents({}) + counted != number:
                    raise Disagreement(f"{line.name} against {line.against}: {name} has not stored {number}")
            return taken / number

        rounds = max(2, effort.rounds // 2)
        measured = alternate(seconds, rounds=rounds, warm_up=1)
        return Result(line.name, line.against, str(world), measured, line.target)


def _resident() -> int:
    """Return how many bytes of memory this process has, as the system counts them."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * 4096


def _memory(uri: str, number: int) -> Size:
    """Put so many through a buffer, and tell how much the process has grown after the first tenth."""
    with World("async", 1).open(uri) as stage:
        client, collection = stage.database.client, stage.database["flights"]
        rows = flights(MANY)

        async def run() -> int:
            after_a_tenth = 0
            async with AsyncWriteBuffer(client, max_items=BATCH) as buffer:
                for place in range(number):
                    await buffer.insert(collection, rows[place % len(rows)])
                    if place == number // 10:
                        after_a_tenth = _resident()
            return _resident() - after_a_tenth

        grown: int = stage.call(run, {})
        with stage.audit() as database:
            if database["flights"].estimated_document_count() != number:
                raise Disagreement(f"of {number} items, not all are stored")
    below = 16 * 1024 * 1024
    return Size(
        f"WriteBuffer, {number:,} items",
        "what the process grew by after the first tenth",
        "async",
        max(grown, 0),
        below,
    )


ROWS: Final[tuple[Measurable, ...]] = (Buffers(),)
