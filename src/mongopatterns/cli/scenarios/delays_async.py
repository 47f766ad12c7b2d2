"""A dashboard of delays: all flights of the year, by airline and day by day, with the latest ones.

The flights are in one collection, and a day is one in New York. As it is usually written, everything is loaded and
counted in Python, by the date of an instant: that is the date in UTC, and a flight in the evening is of the next day.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Any, TypeAlias
from zoneinfo import ZoneInfo

from pymongo.database import Database

from mongopatterns import AsyncReport, Avg, Count, GroupBy, PageOf, ReportSpec, TimeBuckets
from mongopatterns._driver_async import settle
from mongopatterns.cli._rows import Row
from mongopatterns.cli._stage_async import AsyncScenario, AsyncStage
from mongopatterns.cli.scenarios import Outcome

ZONE = "America/New_York"
LATEST = 20

Figures: TypeAlias = dict[tuple[str, Any], Any]
"""Each figure on the dashboard, by the part that it stands in and its name there."""

REPORT = ReportSpec(
    "year",
    branches={
        "carrier": GroupBy("carrier", measures={"n": Count(), "delay": Avg("dep_delay", round=6)}),
        "day": TimeBuckets("time_hour", unit="day", timezone=ZONE, measures={"n": Count()}),
        "latest": PageOf(sort=[("time_hour", -1)], limit=LATEST, fields=["carrier", "flight"]),
    },
)


async def usual(stage: AsyncStage) -> Figures:
    """Everything loaded, and counted in Python."""
    flights: list[Row] = await stage.db["year"].find().to_list(None)
    return figures(flights, [flight["time_hour"].date() for flight in flights])


async def by_hand(stage: AsyncStage) -> Figures:
    """One aggregate with a `$facet`."""
    day = {"$dateTrunc": {"date": "$time_hour", "unit": "day", "timezone": ZONE}}
    facets = {
        "carrier": [{"$group": {"_id": "$carrier", "n": {"$sum": 1}, "delay": {"$avg": "$dep_delay"}}}],
        "day": [{"$group": {"_id": day, "n": {"$sum": 1}}}],
        "latest": [{"$sort": {"time_hour": -1, "_id": -1}}, {"$limit": LATEST}],
    }
    found: Any = stage.db["year"].aggregate([{"$facet": facets}])
    [told] = await (await settle(found)).to_list(None)
    shown: Figures = {("latest", place): flight["_id"] for place, flight in enumerate(told["latest"])}
    for row in told["carrier"]:
        shown["carrier", row["_id"]] = (row["n"], mean(row["delay"]))
    for row in told["day"]:
        shown["day", row["_id"].astimezone(ZoneInfo(ZONE)).date()] = row["n"]
    return shown


async def primitive(stage: AsyncStage) -> Figures:
    """`AsyncReport.run`."""
    told = await AsyncReport(stage.db, REPORT).run()
    shown: Figures = {("latest", place): flight["_id"] for place, flight in enumerate(told["latest"].items)}
    for row in told["carrier"]:
        shown["carrier", row["key"]] = (row["n"], row["delay"])
    for row in told["day"]:
        if row["n"]:  # (it tells days without flights, too; the others do not)
            shown["day", row["bucket"].astimezone(ZoneInfo(ZONE)).date()] = row["n"]
    return shown


def figures(flights: Sequence[Row], days: Sequence[dt.date]) -> Figures:
    """Count flights that are in memory, given the day of each."""
    shown: Figures = {}
    delays: dict[str, list[int]] = {}
    for flight, day in zip(flights, days, strict=True):
        shown["day", day] = shown.get(("day", day), 0) + 1
        shown["carrier", flight["carrier"]] = (shown.get(("carrier", flight["carrier"]), (0, None))[0] + 1, None)
        if flight["dep_delay"] is not None:
            delays.setdefault(flight["carrier"], []).append(flight["dep_delay"])
    for carrier, known in delays.items():
        shown["carrier", carrier] = (shown["carrier", carrier][0], mean(sum(known) / len(known)))
    latest = sorted(flights, key=lambda flight: (flight["time_hour"], flight["_id"]), reverse=True)
    return shown | {("latest", place): flight["_id"] for place, flight in enumerate(latest[:LATEST])}


def mean(value: float | None) -> float | None:
    """Round a mean to what all three ways of adding agree on."""
    return None if value is None else round(value, 6)


def judge(flights: Sequence[Row], told: Figures, db: Database[Row]) -> Outcome:
    """Compare every figure with that of the rows, which name the local day themselves."""
    days = [dt.date(flight["year"], flight["month"], flight["day"]) for flight in flights]
    right = figures(list(db["year"].find().sort("_id")), days)
    same = sum(told.get(name) == figure for name, figure in right.items())
    more = len(told.keys() - right.keys())
    return Outcome(should=len(right), stored=same, lost=len(right) - same, doubled=more)


def caption(flights: Sequence[Row]) -> str:
    """Tell how many flights there are."""
    return f"All {len(flights):,} flights; a figure that is not right counts as lost."


SCENARIO = AsyncScenario(
    title="A dashboard of delays, by airline and by day",
    usual=usual,
    by_hand=by_hand,
    primitive=primitive,
    judge=judge,
    caption=caption,
    whole=True,
)
