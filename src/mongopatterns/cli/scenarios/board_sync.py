# Generated from src/mongopatterns/cli/scenarios/board_async.py by tools/generate_sync.py.
# Do not edit: change the source and run "make generate".
"""The board of departures: flights with their plane, their airline, where they go, and the weather.

What is on the board stands in five collections. Nothing goes wrong here, whichever way it is read; what differs is
how often the database is asked.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

from pymongo.database import Database

from mongopatterns import Join, JoinSpec, One
from mongopatterns._driver_sync import settle
from mongopatterns.cli._rows import Row
from mongopatterns.cli._stage_sync import Scenario, Stage
from mongopatterns.cli.scenarios import Outcome

PAGE = 500

JOINS = [
    One("planes", local="tailnum", foreign="tailnum", as_="plane"),
    One("airlines", local="carrier", foreign="carrier", as_="airline"),
    One("airports", local="dest", foreign="faa", as_="to"),
    One("weather", local="observed", foreign="observed", as_="sky"),
]

Told: TypeAlias = list[Row]


def page(stage: Stage) -> dict[str, object]:
    """Say which flights are on the board."""
    return {"sort": [("time_hour", 1), ("_id", 1)], "limit": min(PAGE, len(stage.flights))}


def usual(stage: Stage) -> Told:
    """A query for the page, and in a loop four for each flight."""
    rows: Told = stage.db["flights"].find({}, **page(stage)).to_list(None)

    def fill(row: Row) -> None:
        for join in JOINS:
            row[join.as_] = stage.db[join.collection].find_one({join.foreign: row[join.local]})

    stage.for_each(fill, rows)
    return rows


def by_hand(stage: Stage) -> Told:
    """One aggregate with four `$lookup`."""
    shown = page(stage)
    stages: list[Row] = [{"$sort": dict(shown["sort"])}, {"$limit": shown["limit"]}]  # type: ignore[call-overload]
    for join in JOINS:
        stages += [
            {
                "$lookup": {
                    "from": join.collection,
                    "localField": join.local,
                    "foreignField": join.foreign,
                    "as": join.as_,
                }
            },
            {"$set": {join.as_: {"$ifNull": [{"$first": f"${join.as_}"}, None]}}},
        ]
    found: Any = stage.db["flights"].aggregate(stages)
    rows: Told = settle(found).to_list(None)
    return rows


def primitive(stage: Stage) -> Told:
    """`Join.find`."""
    join = Join(stage.db, JoinSpec("flights", joins=JOINS), on_missing_index="raise")
    rows: Told = join.find({}, **page(stage))  # type: ignore[arg-type]
    return rows


def judge(flights: Sequence[Row], told: Told, db: Database[Row]) -> Outcome:
    """Compare every place on the board with what stands in its collection."""
    known = {join.collection: {row[join.foreign]: row for row in db[join.collection].find()} for join in JOINS}
    right = sum(row[join.as_] == known[join.collection].get(row[join.local]) for row in told for join in JOINS)
    shown = min(PAGE, len(flights))
    return Outcome(should=shown * len(JOINS), stored=right, lost=shown * len(JOINS) - right)


def caption(flights: Sequence[Row]) -> str:
    """Tell how many flights are on the board."""
    return f"{min(PAGE, len(flights)):,} flights, and for each a plane, an airline, an airport and the weather."


SCENARIO = Scenario(
    title="A board of departures, joined from five collections",
    usual=usual,
    by_hand=by_hand,
    primitive=primitive,
    judge=judge,
    caption=caption,
)
