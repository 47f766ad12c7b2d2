"""How it grows: from 1 caller to 512, and from 10 rows to 100,000.

Callers of one hot key, with `combine=True` against one `$inc` each, as above; and pages, joins and reports of more and
more rows, against what is usually written: `skip` and `limit`, a query for each row, rows that are loaded and counted
in Python. Joins end at 10,000 rows, where one turn of a query for each row takes seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Final

from bson.codec_options import CodecOptions

from benchmarks import combining, joins, paging
from benchmarks._ratios import Name
from benchmarks._rows import Disagreement, Effort, Measurable, Result, Row
from benchmarks._worlds import Stage, World
from mongopatterns import AsyncPager, AsyncReport, Avg, Count, GroupBy, ReportSpec

CALLERS: Final = (1, 8, 64, 512)
ROWS_OF: Final = (10, 100, 1_000, 10_000, 100_000)
WORLD: Final = World("async", 1)

Turn = Callable[[], Any]
Sides = Mapping[Name, Turn]


@dataclass(frozen=True, slots=True)
class OverCallers:
    """One row, with more and more callers.

    Attributes:
        row: Makes the row in a world.
    """

    row: Callable[[World], Row]

    @property
    def name(self) -> str:
        return self.row(WORLD).name

    @property
    def against(self) -> str:
        return self.row(WORLD).against

    @property
    def lines(self) -> list[tuple[str, str, str]]:
        """What the table says first in each line."""
        return [(self.name, self.against, str(World("async", callers))) for callers in CALLERS]

    def measure(self, uri: str, effort: Effort) -> Iterator[Result]:
        """Measure it in each of the worlds."""
        for callers in CALLERS:
            for result in self.row(World("async", callers)).measure(uri, effort):
                yield replace(result, at=("callers", callers))


@dataclass(frozen=True, slots=True)
class OverRows:
    """Two sides on one collection, of which they read more and more.

    Attributes:
        name: What is timed.
        against: What it is compared with.
        sides: Returns what reads so many rows.
        same: Tells whether both gave the same.
        seed: Stores what is read.
        numbers: How many rows.
    """

    name: str
    against: str
    sides: Callable[[Stage, int], Sides]
    same: Callable[[Any, Any], bool]
    seed: Callable[[Stage, int], None]
    numbers: tuple[int, ...] = ROWS_OF

    @property
    def lines(self) -> list[tuple[str, str, str]]:
        """What the table says first in each line."""
        return [(self.name, self.against, _where(number)) for number in self.numbers]

    def measure(self, uri: str, effort: Effort) -> Iterator[Result]:
        """Compare them in turns.

        Raises:
            Disagreement: If they do not give the same.
        """
        whole = effort.keys >= Effort().keys
        brief = replace(effort, rounds=max(2, effort.rounds // 4), warm_up=1, calls=1)
        with WORLD.open(uri) as stage:
            self.seed(stage, self.numbers[-1] if whole else 200)
            for number in self.numbers:
                # (a short run shows that it runs: few rows are there)
                sides = self.sides(stage, number if whole else min(number, 100))
                ours, theirs = (stage.call(sides[name], {}) for name in ("ours", "theirs"))
                if not self.same(ours, theirs):
                    raise Disagreement(f"{self.name} against {self.against}, {_where(number)}")
                measured = paging.timed(stage, dict(sides), brief)
                yield Result(self.name, self.against, _where(number), measured, None, at=("rows", number))


def _where(number: int) -> str:
    return f"async, {number:,} rows"


@cache
def flights(number: int) -> list[dict[str, Any]]:
    """Read some of them."""
    return [{**row, "_id": place} for place, row in enumerate(paging.flights(number))]


# Pages: so many rows lie before them --------------------------------------------------------------------------------


def seed_pages(stage: Stage, number: int) -> None:
    with stage.audit() as database:
        paging.seed(database, paging.flights(number + paging.LIMIT + 1))


def pages(stage: Stage, number: int) -> Sides:
    pager = AsyncPager(stage.database, paging.NEWEST)
    cursor = paging.cursor_to(stage, pager, {}, number // paging.LIMIT + 1)
    passed = number // paging.LIMIT * paging.LIMIT
    find = {"sort": list(paging.NEWEST.order), "skip": passed, "limit": paging.LIMIT + 1}
    collection = stage.database.get_collection("flights", codec_options=CodecOptions(tz_aware=True))

    async def skipped() -> list[Any]:
        return (await collection.find({}, **find).to_list())[: paging.LIMIT]

    return {"ours": lambda: pager.page(cursor=cursor if passed else None), "theirs": skipped}


# Joins: so many parents ---------------------------------------------------------------------------------------------


def seed_joins(stage: Stage, number: int) -> None:
    del number
    with stage.audit() as database:
        joins.seed(database)


def joined(stage: Stage, number: int) -> Sides:
    case = joins.Case([joins.PLANE], number)
    ours, theirs = (side.bind(WORLD, stage) for side in (case.ours(), case.in_a_loop()))
    return {"ours": lambda: ours(0), "theirs": lambda: theirs(0)}


# Reports: over so many rows -----------------------------------------------------------------------------------------

BY_CARRIER: Final = ReportSpec(
    "flights", branches={"carriers": GroupBy("carrier", measures={"n": Count(), "delay": Avg("dep_delay")})}
)


def seed_reports(stage: Stage, number: int) -> None:
    with stage.audit() as database:
        database["flights"].insert_many(flights(number))


def reported(stage: Stage, number: int) -> Sides:
    report, collection = AsyncReport(stage.database, BY_CARRIER), stage.database["flights"]
    some = {"_id": {"$lt": number}}

    async def ours() -> list[Any]:
        rows = (await report.run(some))["carriers"]
        return [(row["key"], row["n"], round(row["delay"], 6)) for row in rows]

    async def loaded() -> list[Any]:
        groups: dict[str, list[int | None]] = {}
        for flight in await collection.find(some).to_list():
            groups.setdefault(flight["carrier"], []).append(flight["dep_delay"])
        told = []
        for carrier, delays in sorted(groups.items()):
            known = [delay for delay in delays if delay is not None]
            told.append((carrier, len(delays), round(sum(known) / len(known), 6)))
        return told

    return {"ours": ours, "theirs": loaded}


ROWS: Final[tuple[Measurable, ...]] = (
    *(
        OverCallers(
            lambda world, case=case: combining.raw(  # type: ignore[misc]
                f"{case.name}, combined", replace(case.combined, answer=combining.untold), world, None
            )
        )
        for case in (combining.COUNTER, combining.ONE, combining.THREE)
    ),
    OverRows("Pager.page, behind so many rows", "skip and limit", pages, lambda a, b: a.items == b, seed_pages),
    OverRows(
        "Join.find, so many flights with their plane",
        "a query per row",
        joined,
        lambda a, b: joins.answer(a) == joins.answer(b),
        seed_joins,
        ROWS_OF[:-1],
    ),
    OverRows("Report.run, groups of so many flights", "rows counted in Python", reported, list.__eq__, seed_reports),
)
