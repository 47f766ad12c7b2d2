"""Reports over all flights: the strategies among each other, by hand, and rows that are summed in Python.

All 336,776 flights that left New York in 2013 are in every report, with the index that the page asks for. There are six
dashboards: totals; totals and a page; a page and its count; groups of several kinds; the delays day by day in New York,
no day left out; and all of it. Each is run by the strategy `auto`, as one `$facet`, and as a command for each branch,
in turns; `auto` is compared with either, and with the better of the two, whichever that was.

By hand it is the usual good version: a pipeline for what stands alone, one `$facet` for the groups that are read
together, the page and its count by themselves, and all of it at the same time. Days are counted by `$dateTrunc` in the
zone. In Python, the flights are loaded as they are, which is how such code begins; or with the fields that are needed
and no others; and then counted in dicts, by the day in New York, too.
"""

from __future__ import annotations

import asyncio
import tracemalloc
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from heapq import nlargest
from statistics import median
from time import perf_counter
from typing import Any, Final
from zoneinfo import ZoneInfo

from bson.codec_options import CodecOptions

from benchmarks._ratios import AtLeastTimes, AtMost, Measurement, Pair, Target
from benchmarks._rows import Disagreement, Effort, Measurable, Result, Size
from benchmarks._worlds import Stage, World
from mongopatterns import (
    AsyncReport,
    Avg,
    Count,
    GroupBy,
    Histogram,
    Max,
    PageOf,
    ReportSpec,
    Sum,
    TimeBuckets,
    Top,
    Totals,
)
from mongopatterns.cli._rows import read_rows

ALL: Final = 336_776
ZONE: Final = "America/New_York"
BOUNDS: Final = (-100, 0, 15, 60, 2000)

BRANCHES: Final[Mapping[str, Any]] = {
    "totals": Totals(
        {
            "n": Count(),
            "departure": Avg("dep_delay"),
            "arrival": Avg("arr_delay"),
            "miles": Sum("distance"),
            "worst": Max("dep_delay"),
        }
    ),
    "page": PageOf(sort=[("time_hour", -1)], limit=20),
    "counted": PageOf(sort=[("time_hour", -1)], limit=20, count="exact"),
    "carriers": GroupBy("carrier", measures={"n": Count(), "delay": Avg("dep_delay")}),
    "origins": GroupBy("origin", measures={"n": Count(), "delay": Avg("dep_delay")}),
    "planes": Top("tailnum", measures={"n": Count(), "miles": Sum("distance")}, sort=[("miles", -1)], limit=20),
    "delays": Histogram("dep_delay", boundaries=BOUNDS),
    "days": TimeBuckets("time_hour", unit="day", timezone=ZONE, measures={"n": Count(), "delay": Avg("dep_delay")}),
}
GROUPS: Final = ("carriers", "origins", "planes", "delays")

DASHBOARDS: Final[Mapping[str, Sequence[str]]] = {
    "totals": ("totals",),
    "totals and a page": ("totals", "page"),
    "a page and its count": ("counted",),
    "groups of several kinds": GROUPS,
    "days": ("days",),
    "all of it": ("totals", "counted", *GROUPS, "days"),
}

# By hand ---------------------------------------------------------------------------------------------------------


def _group(key: Any, **measures: Any) -> dict[str, Any]:
    return {"$group": {"_id": key, "n": {"$sum": 1}, **measures}}


DELAY: Final = {"$avg": "$dep_delay"}
DAY: Final = {"$dateTrunc": {"date": "$time_hour", "unit": "day", "timezone": ZONE}}
PAGE: Final = [{"$sort": {"time_hour": -1, "_id": -1}}, {"$limit": 20}]
BY_HAND: Final[Mapping[str, list[dict[str, Any]]]] = {
    "totals": [
        _group(
            None,
            departure=DELAY,
            arrival={"$avg": "$arr_delay"},
            miles={"$sum": "$distance"},
            worst={"$max": "$dep_delay"},
        )
    ],
    "carriers": [_group("$carrier", delay=DELAY), {"$sort": {"_id": 1}}],
    "origins": [_group("$origin", delay=DELAY), {"$sort": {"_id": 1}}],
    "planes": [_group("$tailnum", miles={"$sum": "$distance"}), {"$sort": {"miles": -1, "_id": 1}}, {"$limit": 20}],
    "delays": [
        {"$match": {"dep_delay": {"$type": "number"}}},
        {"$bucket": {"groupBy": "$dep_delay", "boundaries": list(BOUNDS), "default": None}},
        {"$match": {"_id": {"$ne": None}}},
    ],
    "days": [_group(DAY, delay=DELAY), {"$sort": {"_id": 1}}],
}


def by_hand(collection: Any, names: Sequence[str]) -> Callable[[], Any]:
    """Return what reads a dashboard by hand."""
    groups = [name for name in names if name in BY_HAND]

    async def read(stages: list[dict[str, Any]]) -> Any:
        return await (await collection.aggregate(stages)).to_list()

    async def grouped() -> dict[str, Any]:
        if len(groups) == 1:
            return {groups[0]: await read(BY_HAND[groups[0]])}
        [found] = await read([{"$facet": {name: BY_HAND[name] for name in groups}}])
        return dict(found)

    async def paged() -> dict[str, Any]:
        return {"page": await read(PAGE)}

    async def counted() -> dict[str, Any]:
        page, n = await asyncio.gather(read(PAGE), read([{"$count": "n"}]))
        return {"counted": page, "count": n[0]["n"]}

    async def run() -> dict[str, Any]:
        calls = [grouped()] if groups else []
        calls += [paged()] if "page" in names else []
        calls += [counted()] if "counted" in names else []
        told: dict[str, Any] = {}
        for part in await asyncio.gather(*calls):
            told |= part
        return told

    return run


# In Python -------------------------------------------------------------------------------------------------------

FIELDS: Final = ("dep_delay", "arr_delay", "distance", "carrier", "origin", "tailnum", "time_hour")


def in_python(collection: Any, fields: Sequence[str] = ()) -> Callable[[], Any]:
    """Return what loads the flights, all of their fields or some, and counts them."""
    projection = dict.fromkeys(fields, 1) if fields else None
    collection = collection.with_options(codec_options=CodecOptions(tz_aware=True))
    zone = ZoneInfo(ZONE)

    async def run() -> dict[str, Any]:
        flights = await collection.find({}, projection).to_list()
        totals = Told()
        arrivals = Told()
        groups: dict[str, dict[Any, Told]] = {name: {} for name in ("carriers", "origins", "planes", "delays", "days")}
        miles = 0
        for flight in flights:
            delay, distance = flight["dep_delay"], flight["distance"]
            totals.add(delay)
            arrivals.add(flight["arr_delay"])
            miles += distance
            groups["carriers"].setdefault(flight["carrier"], Told()).add(delay)
            groups["origins"].setdefault(flight["origin"], Told()).add(delay)
            groups["planes"].setdefault(flight["tailnum"], Told()).add(distance)
            groups["days"].setdefault(flight["time_hour"].astimezone(zone).date(), Told()).add(delay)
            if delay is not None:
                groups["delays"].setdefault(next(bound for bound in BOUNDS[1:] if delay < bound), Told()).add(delay)
        planes = sorted(groups["planes"].items(), key=lambda each: (-each[1].sum, each[0] or ""))
        told: dict[str, Any] = {
            name: [{"n": group.n, "delay": group.mean} for _, group in sorted(groups[name].items())]
            for name in ("carriers", "origins", "days")
        }
        told["totals"] = [
            {"n": totals.n, "departure": totals.mean, "arrival": arrivals.mean, "miles": miles, "worst": totals.most}
        ]
        told["planes"] = [{"n": group.n, "miles": group.sum} for _, group in planes[:20]]
        told["delays"] = [{"n": group.n} for _, group in sorted(groups["delays"].items())]
        told["counted"] = nlargest(20, flights, key=lambda flight: (flight["time_hour"], flight["_id"]))
        told["count"] = len(flights)
        return told

    return run


class Told:
    """What is told of some flights."""

    __slots__ = ("known", "most", "n", "sum")

    def __init__(self) -> None:
        self.n = self.known = self.sum = 0
        self.most: int | None = None

    def add(self, value: int | None) -> None:
        """Count one."""
        self.n += 1
        if value is not None:
            self.known += 1
            self.sum += value
            if self.most is None or value > self.most:
                self.most = value

    @property
    def mean(self) -> float | None:
        """The mean of what is known."""
        return self.sum / self.known if self.known else None


# The rows --------------------------------------------------------------------------------------------------------


@cache
def _flights(number: int) -> list[dict[str, Any]]:
    return [{**row, "_id": place} for place, row in enumerate(read_rows(number).flights)]


def seed(stage: Stage, effort: Effort) -> None:
    """Store the flights, with the index of the page; few, if it is only to be shown that it runs."""
    with stage.audit() as database:
        database["flights"].insert_many(_flights(ALL if effort.keys >= Effort().keys else 250 * effort.keys))
        database["flights"].create_index([("time_hour", -1), ("_id", -1)])


def in_turns(stage: Stage, calls: Mapping[str, Callable[[], Any]], rounds: int) -> dict[str, list[float]]:
    """Make calls in turns, of which another one is the first in each round; return the seconds of each."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(-1, rounds):
        first = number % len(calls)
        for name in [*list(calls)[first:], *list(calls)[:first]]:
            started = perf_counter()
            stage.call(calls[name], {})
            if number >= 0:  # (the first round warms up)
                seconds[name].append(perf_counter() - started)
    return seconds


def compared(seconds: Mapping[str, list[float]], ours: str, theirs: str) -> Measurement:
    """Put the turns of two sides together."""
    return Measurement([Pair(one, other) for one, other in zip(seconds[ours], seconds[theirs], strict=True)])


AGAINST: Final[Mapping[str, tuple[str, Target | None]]] = {
    "the better of the two": ("", AtMost(1.15)),
    "strategy 'facet'": ("facet", None),
    "strategy 'parallel'": ("parallel", None),
    "pipelines by hand": ("hand", AtMost(1.1)),
}
IN_PYTHON: Final[Mapping[str, tuple[str, Target | None]]] = {
    "rows counted in Python": ("rows", AtLeastTimes(4)),
    "rows counted in Python, seven fields": ("fields", None),
}


@dataclass(frozen=True, slots=True)
class Dashboards:
    """All that is measured of reports, on one set of flights: to store them takes longer than a report."""

    name: str = "Report.run"
    against: str = "the strategies, pipelines by hand, rows in Python"

    @property
    def lines(self) -> list[tuple[str, str, str]]:
        """What the table says first in each line."""
        pairs = [(title, against) for title in DASHBOARDS for against in AGAINST]
        pairs += [("all of it", against) for against in IN_PYTHON]
        return [(f"Report.run, {title}", against, "async, 1 caller") for title, against in pairs]

    def measure(self, uri: str, effort: Effort) -> Iterator[Result | Size]:
        rounds = max(2, effort.rounds // 3)
        with World("async", 1).open(uri) as stage:
            seed(stage, effort)
            flights = stage.database["flights"]
            for title, names in DASHBOARDS.items():
                yield from self._dashboard(stage, title, names, rounds)
            report = AsyncReport(stage.database, self._spec(DASHBOARDS["all of it"]))
            calls = {"ours": report.run, "rows": in_python(flights), "fields": in_python(flights, FIELDS)}
            title = "all of it"
            for side in ("rows", "fields"):
                self._agree(title, stage.call(report.run, {}), stage.call(calls[side], {}))
            seconds = in_turns(stage, calls, max(2, rounds // 3))
            for against, (name, target) in IN_PYTHON.items():
                yield self._result(title, against, compared(seconds, "ours", name), target)
            ours, theirs = self._held(stage, calls["ours"]), self._held(stage, calls["rows"])
            against = "the most memory of Python at once, against a 20th of that of the rows"
            yield Size(f"Report.run, {title}", against, "async, 1 caller", ours, theirs // 20)

    def _dashboard(self, stage: Stage, title: str, names: Sequence[str], rounds: int) -> Iterator[Result]:
        spec = self._spec(names)
        reports = {
            strategy: AsyncReport(stage.database, spec, strategy=strategy).run  # type: ignore[arg-type]
            for strategy in ("auto", "facet", "parallel")
        }
        hand = by_hand(stage.database["flights"], names)
        self._agree(title, stage.call(reports["auto"], {}), stage.call(hand, {}))
        seconds = in_turns(stage, {**reports, "hand": hand}, rounds)
        better = min(("facet", "parallel"), key=lambda strategy: median(seconds[strategy]))
        for against, (name, target) in AGAINST.items():
            yield self._result(title, against, compared(seconds, "auto", name or better), target)

    @staticmethod
    def _spec(names: Sequence[str]) -> ReportSpec:
        return ReportSpec("flights", branches={name: BRANCHES[name] for name in names})

    @staticmethod
    def _result(title: str, against: str, measured: Measurement, target: Target | None) -> Result:
        return Result(f"Report.run, {title}", against, "async, 1 caller", measured, target)

    @staticmethod
    def _held(stage: Stage, call: Callable[[], Any]) -> int:
        tracemalloc.start()
        try:
            stage.call(call, {})
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    @staticmethod
    def _agree(title: str, ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> None:
        """Compare what both sides tell: numbers of rows and of flights, and means as far as doubles carry them."""
        for name, told in theirs.items():
            if name == "count":
                same = ours["counted"].total.value == told
            elif name in ("page", "counted"):
                same = [row["_id"] for row in ours[name].items] == [row["_id"] for row in told]
            else:
                rows = [ours[name]] if name == "totals" else ours[name]
                rows = [row for row in rows if row.get("n")]
                same = _figures(rows) == _figures(told)
            if not same:
                raise Disagreement(f"Report.run, {title}: {name} is not what is told by hand")


def _figures(rows: Sequence[Mapping[str, Any]]) -> list[Any]:
    """Return the numbers of rows, rounded to what two ways of adding doubles agree on."""
    names = ("n", "count", "delay", "departure", "arrival", "miles", "worst")
    return [[round(row[name], 6) for name in names if row.get(name) is not None] for row in rows]


ROWS: Final[tuple[Measurable, ...]] = (Dashboards(),)
