"""Joins against the loop that they replace, and against the best queries by hand.

Flights that left New York in 2013, a page at a time, with the plane, the airline and the airport of each. By hand it
is one query for the page and one `$in` for each collection, put together with a dict: whoever needs it to be right
compares keys as the server does, takes the first of several, and gives each row a document of its own. These queries do
neither: the data happens not to ask for it. (Rows of theirs share a plane, ours do not.) The usual version asks for
each flight's plane by itself. On all sides dates have their zone.
"""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, Final

from bson.codec_options import CodecOptions

from benchmarks._ratios import AtLeastTimes, AtMost, Target
from benchmarks._rows import Calls, Effort, Measurable, Row, Size
from benchmarks._worlds import World
from mongopatterns import AsyncJoin, Join, JoinSpec, Many, One
from mongopatterns.cli._rows import Rows, read_rows

FLIGHTS: Final = 20_000
FAR: Final = 100_000  # the parents of a stream
MEMORY: Final = 20_000_000

PLANE: Final = One("planes", local="tailnum", foreign="tailnum", as_="plane")
AIRLINE: Final = One("airlines", local="carrier", foreign="carrier", as_="airline")
AIRPORT: Final = One("airports", local="dest", foreign="faa", as_="to")
DEPARTURES: Final = Many("flights", local="tailnum", foreign="tailnum", as_="flights", fields=["dest", "tailnum"])
LATEST: Final = Many("flights", local="tailnum", foreign="tailnum", as_="latest", sort=[("_id", -1)], limit=1)

Page = Callable[..., Any]


@cache
def rows() -> Rows:
    """Read the files once."""
    return read_rows(FLIGHTS)


def seed(database: Any, *, indexed: bool = True) -> None:
    """Store the rows, if they are not there, with the indexes that the joins ask for."""
    if database["flights"].find_one() is not None:
        return
    if indexed:  # (before the rows: an index on what is there is built in several steps, which wait)
        for collection, field in (("planes", "tailnum"), ("airlines", "carrier"), ("airports", "faa")):
            database[collection].create_index(field, unique=True)
        database["flights"].create_index([("tailnum", 1), ("_id", -1)])
    found = rows()
    database["flights"].insert_many({**flight, "_id": number} for number, flight in enumerate(found.flights))
    for name in ("planes", "airlines", "airports"):
        database[name].insert_many({**row} for row in getattr(found, name))


def seed_without_index(database: Any) -> None:
    """Store the rows alone."""
    seed(database, indexed=False)


def of_flights(start: int) -> dict[str, Any]:
    """Filter the page that begins with a flight."""
    return {"_id": {"$gte": start}}


def of_planes(start: int) -> dict[str, Any]:
    """Filter the page of planes that begins with a number."""
    return {"tailnum": {"$gt": f"N{start:05d}"}}


@dataclass(frozen=True)
class Case:
    """Pages of one collection.

    Attributes:
        parts: What is joined.
        size: How many rows a page has.
        collection: What the page is of.
        sort: By what.
        page: Filters the page that begins at a number.
        seed: Stores the rows.
    """

    parts: Sequence[One | Many]
    size: int
    collection: str = "flights"
    sort: str = "_id"
    page: Callable[[int], dict[str, Any]] = of_flights
    seed: Callable[[Any], None] = seed

    def query(self, key: int) -> dict[str, Any]:
        return {"filter": self.page(key), "sort": [(self.sort, 1)], "limit": self.size}

    def ours(self) -> Calls:
        spec = JoinSpec(self.collection, joins=list(self.parts))

        def aio(database: Any) -> Page:
            join = AsyncJoin(database, spec, on_missing_index="ignore")

            async def find(key: int) -> list[Any]:
                return await join.find(**self.query(key))

            return find

        def blocking(database: Any) -> Page:
            join = Join(database, spec, on_missing_index="ignore")
            return lambda key: join.find(**self.query(key))

        return Calls(aio, blocking, answer, seed=self.seed)

    def in_two_queries(self) -> Calls:
        """Ask once for the page, and once for each collection."""

        def aio(database: Any) -> Page:
            async def find(key: int) -> list[Any]:
                found = await database[self.collection].find(**self.query(key)).to_list()
                for part in self.parts:
                    wanted = list({row[part.local] for row in found})
                    put(part, found, await database[part.collection].find(**by_keys(part, wanted)).to_list())
                return found

            return find

        def blocking(database: Any) -> Page:
            def find(key: int) -> list[Any]:
                found = database[self.collection].find(**self.query(key)).to_list()
                for part in self.parts:
                    wanted = list({row[part.local] for row in found})
                    put(part, found, database[part.collection].find(**by_keys(part, wanted)).to_list())
                return found

            return find

        return Calls(dated(aio), dated(blocking), answer, seed=self.seed)

    def in_one_aggregate(self) -> Calls:
        """Let the server join, for each row by itself."""

        def stages(key: int) -> list[dict[str, Any]]:
            query = self.query(key)
            page = [{"$match": query["filter"]}, {"$sort": dict(query["sort"])}, {"$limit": query["limit"]}]
            return page + [
                {
                    "$lookup": {
                        "from": part.collection,
                        "localField": part.local,
                        "foreignField": part.foreign,
                        "pipeline": [{"$sort": dict(part.sort or ())}, {"$limit": part.limit}],
                        "as": part.as_,
                    }
                }
                for part in self.parts
                if isinstance(part, Many)
            ]

        def aio(database: Any) -> Page:
            async def find(key: int) -> list[Any]:
                return await (await database[self.collection].aggregate(stages(key))).to_list()

            return find

        def blocking(database: Any) -> Page:
            return lambda key: database[self.collection].aggregate(stages(key)).to_list()

        return Calls(dated(aio), dated(blocking), answer, seed=self.seed)

    def in_a_loop(self) -> Calls:
        """Ask for what belongs to each row by itself."""

        def aio(database: Any) -> Page:
            async def find(key: int) -> list[Any]:
                found = await database[self.collection].find(**self.query(key)).to_list()
                for row in found:
                    for part in self.parts:
                        row[part.as_] = await of_row(database, part, row)
                return found

            return find

        def blocking(database: Any) -> Page:
            def find(key: int) -> list[Any]:
                found = database[self.collection].find(**self.query(key)).to_list()
                for row in found:
                    for part in self.parts:
                        row[part.as_] = of_row(database, part, row)
                return found

            return find

        return Calls(dated(aio), dated(blocking), answer, seed=self.seed)


def dated(make: Callable[[Any], Page]) -> Callable[[Any], Page]:
    """Bind a side to a database that gives dates with their zone."""
    return lambda database: make(database.with_options(codec_options=CodecOptions(tz_aware=True)))


def of_row(database: Any, part: One | Many, row: dict[str, Any]) -> Any:
    """Ask for what belongs to one row; the asynchronous driver's answer is to be waited for."""
    asked = {part.foreign: row[part.local]}
    collection = database[part.collection]
    return collection.find_one(asked) if isinstance(part, One) else collection.find(asked, **options(part)).to_list()


def options(part: One | Many) -> dict[str, Any]:
    """Return how the documents of a part are read."""
    limit = {"limit": part.limit} if isinstance(part, Many) and part.limit else {}
    return {"projection": part.fields, "sort": list(part.sort or [("_id", 1)]), **limit}


def by_keys(part: One | Many, wanted: list[Any]) -> dict[str, Any]:
    """Ask for what belongs to many rows."""
    order = {} if isinstance(part, One) else {"sort": list(part.sort or [("_id", 1)])}
    return {"filter": {part.foreign: {"$in": wanted}}, "projection": part.fields, **order}


def put(part: One | Many, found: list[Any], joined: list[Any]) -> None:
    """Put documents to the rows that they belong to."""
    if isinstance(part, One):
        one = {document[part.foreign]: document for document in joined}
        for row in found:
            row[part.as_] = one.get(row[part.local])
        return
    many: dict[Any, list[Any]] = {}
    for document in joined:
        many.setdefault(document[part.foreign], []).append(document)
    for row in found:
        row[part.as_] = many.get(row[part.local], [])


def answer(found: list[Any]) -> Any:
    """Tell what both sides must agree on: all but ids of no meaning, which differ."""
    return [_plain(row) for row in found]


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items() if name != "_id"}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value


AGREE: Final = tuple({"key": start} for start in (0, 777, 15_000))
BOTH: Final = (World("async", 1), World("sync", 1))
ALONE: Final = (World("async", 1),)


def starts(size: int) -> tuple[int, ...]:
    """Name the pages that are timed."""
    return tuple(range(0, FLIGHTS - size, max(size, 500)))


def against(
    peer: str, theirs: Callable[[Case], Calls], name: str, case: Case, target: Target | None, **more: Any
) -> Row:
    return Row(name, peer, case.ours(), theirs(case), AGREE, keys=starts(case.size), target=target, **more)


by_hand: Final = partial(against, "queries by hand", Case.in_two_queries)
by_lookup: Final = partial(against, "$lookup by hand", Case.in_one_aggregate)
by_loop: Final = partial(against, "a query per row", Case.in_a_loop)


@dataclass(frozen=True, slots=True)
class StreamRow:
    """The memory that a stream takes.

    Attributes:
        name: What is weighed.
        against: Which part of it.
    """

    name: str
    against: str

    def measure(self, uri: str, effort: Effort) -> Iterator[Size]:
        """Walk through all parents and look at the most that was held at once; nothing is timed."""
        parents = min(FAR, 250 * effort.keys)
        with World("async", 1).open(uri) as stage:
            with stage.audit() as database:
                database["flights"].insert_many(
                    {"_id": number, "tailnum": f"N{number % 3000}"} for number in range(parents)
                )
                database["planes"].insert_many({"tailnum": f"N{number}", "seats": number} for number in range(3000))
            join = AsyncJoin(stage.database, JoinSpec("flights", joins=[PLANE]), on_missing_index="ignore")

            async def walk() -> int:
                return len([None async for _ in join.stream({}, sort=[("_id", 1)])])

            tracemalloc.start()
            try:
                walked = stage.call(walk, {})
                most = tracemalloc.get_traced_memory()[1]
            finally:
                tracemalloc.stop()
        if walked != parents:
            raise RuntimeError(f"{walked} rows of {parents}")
        yield Size(self.name, self.against, f"{parents} parents", most, MEMORY)


PLANES_PAGE: Final = {"collection": "planes", "sort": "tailnum", "page": of_planes}

LATEST_PAGE: Final = Case([LATEST], 50, **PLANES_PAGE)

ROWS: Final[tuple[Measurable, ...]] = (
    *(
        by_hand(f"Join.find, {size} flights with their plane", Case([PLANE], size), AtMost(1.2), worlds=BOTH)
        for size in (20, 50, 500, 5000)
    ),
    *(
        by_hand(
            f"Join.find, {size} flights with plane, airline and airport",
            Case([PLANE, AIRLINE, AIRPORT], size),
            AtMost(1.2) if size == 50 else None,
            worlds=BOTH,
        )
        for size in (50, 5000)
    ),
    by_hand(
        "Join.find, 50 planes with all their flights", Case([DEPARTURES], 50, **PLANES_PAGE), AtMost(1.2), worlds=BOTH
    ),
    by_lookup("Join.find, 50 planes with their latest flight", LATEST_PAGE, AtMost(1.2), worlds=BOTH),
    by_loop("Join.find, 50 planes with their latest flight", LATEST_PAGE, AtLeastTimes(1), worlds=ALONE),
    by_loop("Join.find, 500 flights with their plane", Case([PLANE], 500), AtLeastTimes(30), worlds=ALONE, longer=4),
    by_loop(
        "Join.find, 10 flights with their plane, no index",
        Case([PLANE], 10, seed=seed_without_index),
        AtLeastTimes(1),
        worlds=ALONE,
    ),
    StreamRow("Join.stream", "the most memory of Python at once"),
)
