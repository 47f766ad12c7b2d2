"""Pages against skip and limit, and against the same keyset by hand.

Pages of 20 flights that left New York in 2013, of all 336,776 of them, by an index for the order. Page 10,000 begins
behind 199,980 flights: with `skip` the server walks over all of them. By hand the next page is one filter: less in the
last key, or equal and less in the id. That holds for keys of one type which every document has, as here; ours holds
for any, and its cursors are sealed and checked: these lines have no bound. By hand, too, a page comes with the cursors
to both sides: the keys of its first and its last flight as BSON in base64. On all sides dates have their zone.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import repeat
from typing import Any, Final

from bson import decode, encode
from bson.codec_options import CodecOptions

from benchmarks._ratios import AtLeastTimes, AtMost, Measurement, Name, Target, alternate
from benchmarks._rows import Disagreement, Effort, Measurable, Result
from benchmarks._worlds import Stage, World
from mongopatterns import AsyncPager, Pager, PagerSpec
from mongopatterns.cli._rows import read_rows

ALL: Final = 336_776
LIMIT: Final = 20
FAR: Final = 10_000

NEWEST: Final = PagerSpec("flights", sort=[("time_hour", -1)], limit=LIMIT)
LATE: Final = PagerSpec("flights", sort=[("origin", 1), ("time_hour", -1)], limit=LIMIT, filter_by=["carrier"])
UNITED: Final = {"carrier": "UA"}

Turn = Callable[[], Any]


@cache
def flights(count: int) -> list[dict[str, Any]]:
    """Read the files once."""
    return read_rows(count).flights


def seed(database: Any, flights_: list[dict[str, Any]]) -> None:
    """Store the flights, with the indexes that the pages ask for."""
    collection = database["flights"]
    collection.insert_many({**flight, "_id": number} for number, flight in enumerate(flights_))
    for spec in (NEWEST, LATE):
        for index in spec.indexes():
            collection.create_index(index.keys, **index.options)


@dataclass(frozen=True)
class Sides:
    """What is timed on one database, by name.

    Attributes:
        ours: With a pager.
        by_hand: With the driver.
    """

    ours: dict[str, Turn]
    by_hand: dict[str, Turn]


Page = tuple[list[dict[str, Any]], str | None, str | None]


def token_of(row: dict[str, Any], order: Any, *, backward: bool = False) -> str:
    """Make a cursor by hand."""
    keys = {path: row[path] for path, _ in order}
    return base64.urlsafe_b64encode(encode({"backward": backward, "keys": keys})).decode()


def keys_of(token: str) -> dict[str, Any]:
    """Read a cursor by hand."""
    keys: dict[str, Any] = decode(base64.urlsafe_b64decode(token))["keys"]
    return keys


def page_of(rows: list[dict[str, Any]], order: Any, *, first: bool) -> Page:
    """Put a page together by hand."""
    following = token_of(rows[LIMIT - 1], order) if len(rows) > LIMIT else None
    return rows[:LIMIT], following, None if first or not rows else token_of(rows[0], order, backward=True)


def after_newest(last: dict[str, Any]) -> dict[str, Any]:
    """Say by hand what comes after a flight, by the newest."""
    time = last["time_hour"]
    return {"$or": [{"time_hour": {"$lt": time}}, {"time_hour": time, "_id": {"$lt": last["_id"]}}]}


def after_late(last: dict[str, Any]) -> dict[str, Any]:
    """Say by hand what comes after a flight of an airline, by the airport and then by the newest."""
    origin, time = last["origin"], last["time_hour"]
    return {
        **UNITED,
        "$or": [
            {"origin": {"$gt": origin}},
            {"origin": origin, "time_hour": {"$lt": time}},
            {"origin": origin, "time_hour": time, "_id": {"$lt": last["_id"]}},
        ],
    }


def sides(stage: Stage, world: World, rows: int) -> Sides:
    """Walk to the far pages, and return what reads them."""
    far = min(FAR, rows // LIMIT // 2)
    between = min(1000, rows // LIMIT // 40)  # (of one airline there are fewer)
    collection = stage.database.get_collection("flights", codec_options=CodecOptions(tz_aware=True))
    late_order = list(LATE.order)

    def bound(spec: PagerSpec) -> Any:
        return AsyncPager(stage.database, spec) if world.driver == "async" else Pager(stage.database, spec)

    def find(order: Any, of: Callable[[], dict[str, Any]], skip: int = 0, *, first: bool = False) -> Turn:
        if world.driver == "async":

            async def read() -> Page:
                rows = await collection.find(of(), sort=list(order), limit=LIMIT + 1, skip=skip).to_list()
                return page_of(rows, order, first=first)

            return read

        def page() -> Page:
            rows = collection.find(of(), sort=list(order), limit=LIMIT + 1, skip=skip).to_list()
            return page_of(rows, order, first=first)

        return page

    newest, late = bound(NEWEST), bound(LATE)
    with stage.audit() as database:
        start = database.flights.find({}, sort=list(NEWEST.order)).skip((far - 1) * LIMIT - 1).limit(1)[0]
        middle = database.flights.find(UNITED, sort=late_order).skip((between - 1) * LIMIT - 1).limit(1)[0]
    far_token, middle_token = token_of(start, NEWEST.order), token_of(middle, LATE.order)
    there = cursor_to(stage, newest, {}, far)
    among = cursor_to(stage, late, UNITED, between)
    return Sides(
        {
            "first": newest.page,
            "far": lambda: newest.page(cursor=there),
            "mixed": lambda: late.page(UNITED, cursor=among),
        },
        {
            "first": find(NEWEST.order, dict, first=True),
            "far": find(NEWEST.order, lambda: after_newest(keys_of(far_token))),
            "skip": find(NEWEST.order, dict, (far - 1) * LIMIT),
            "mixed": find(LATE.order, lambda: after_late(keys_of(middle_token))),
        },
    )


def cursor_to(stage: Stage, pager: Any, where: dict[str, Any], page: int) -> str:
    """Walk to a page, in long steps, and return the cursor to it."""
    left, cursor = (page - 1) * LIMIT, None
    while left:
        step = min(left, 10_000)
        cursor = stage.call(pager.page, {"filter": where, "cursor": cursor, "limit": step}).next
        left -= step
    return str(cursor)


@dataclass(frozen=True, slots=True)
class Comparison:
    """One line.

    Attributes:
        name: What is timed.
        against: What it is compared with.
        ours: Which of ours.
        theirs: Which of the others.
        target: What is hoped for.
        by_hand: Whether the other is by hand, or ours as well.
        same: Whether both give the same flights.
    """

    name: str
    against: str
    ours: str
    theirs: str
    target: Target | None = None
    by_hand: bool = True
    same: bool = True


COMPARISONS: Final = (
    Comparison("Pager.page, the first page", "find by hand", "first", "first"),
    Comparison("Pager.page, page 10,000", "a keyset by hand", "far", "far"),
    Comparison("Pager.page, page 10,000", "the first page", "far", "first", AtMost(1.3), by_hand=False, same=False),
    Comparison("Pager.page, page 10,000", "skip and limit", "far", "skip", AtLeastTimes(50)),
    Comparison("Pager.page, two keys of mixed directions, with a filter", "a keyset by hand", "mixed", "mixed"),
)


WORLDS: Final = (World("async", 1), World("sync", 1))


@dataclass(frozen=True, slots=True)
class PagerRows:
    """All lines: the flights are stored once for each driver."""

    name: str = "Pager.page"
    against: str = "first page, page 10,000, skip and limit, a keyset by hand"

    @property
    def lines(self) -> list[tuple[str, str, str]]:
        """What the table says first in each line."""
        return [(each.name, each.against, str(world)) for world in WORLDS for each in COMPARISONS]

    def measure(self, uri: str, effort: Effort) -> Iterator[Result]:
        """Compare them in turns.

        Raises:
            Disagreement: If two sides do not give the same flights.
        """
        rows = flights(ALL if effort.keys >= 1000 else 250 * effort.keys)
        for world in WORLDS:
            with world.open(uri) as stage:
                with stage.audit() as database:
                    seed(database, rows)
                found = sides(stage, world, len(rows))
                for each in COMPARISONS:
                    theirs = (found.by_hand if each.by_hand else found.ours)[each.theirs]
                    turns: dict[Name, Turn] = {"ours": found.ours[each.ours], "theirs": theirs}
                    if each.same:
                        agree(stage, each, turns)
                    yield Result(each.name, each.against, str(world), timed(stage, turns, effort), each.target)


def agree(stage: Stage, comparison: Comparison, turns: dict[Name, Turn]) -> None:
    """Ask both sides once: they give the same flights, and cursors to the same sides."""
    ours, (items, *cursors) = (stage.call(turns[name], {}) for name in ("ours", "theirs"))
    sides_of_ours = [cursor is not None for cursor in (ours.next, ours.previous)]
    if ours.items != items or sides_of_ours != [cursor is not None for cursor in cursors]:
        raise Disagreement(f"{comparison.name} against {comparison.against}: {ours} and {items}")


def timed(stage: Stage, turns: dict[Name, Turn], effort: Effort) -> Measurement:
    """Time both in turns, each turn as long as the effort says."""
    calls: dict[Name, int] = {}
    for name, turn in turns.items():
        stage.time(lambda _, turn=turn: turn(), repeat(None, effort.calls))
        each = stage.time(lambda _, turn=turn: turn(), repeat(None, effort.calls)) / effort.calls
        calls[name] = max(effort.calls, int(effort.turn / each))

    def seconds(name: Name) -> float:
        return stage.time(lambda _: turns[name](), repeat(None, calls[name])) / calls[name]

    return alternate(seconds, rounds=effort.rounds, warm_up=effort.warm_up)


ROWS: Final[tuple[Measurable, ...]] = (PagerRows(),)
