# Generated from src/mongopatterns/cli/scenarios/departures_async.py by tools/generate_sync.py.
# Do not edit: change the source and run "make generate".
"""Departures, counted per carrier and hour.

Every flight that departs adds one to the counter of its carrier and its hour. Flights that leave together add to
the same few counters.
"""

from __future__ import annotations

import collections
from collections.abc import Sequence

from pymongo.database import Database

from mongopatterns import Counter, CounterSpec
from mongopatterns.cli._rows import Row
from mongopatterns.cli._stage_sync import Scenario, Stage
from mongopatterns.cli.scenarios import Outcome

DEPARTURES = CounterSpec("departures", path="n")


def key(flight: Row) -> str:
    """Name the counter of a flight."""
    return f"{flight['carrier']} {flight['time_hour']:%Y-%m-%dT%H}"


def departed(flights: Sequence[Row]) -> list[Row]:
    """Leave out the flights that were cancelled."""
    return [flight for flight in flights if flight["dep_time"] is not None]


def usual(stage: Stage) -> None:
    """Read the counter, add one, save it."""
    counters = stage.db["departures"]

    def depart(flight: Row) -> None:
        counter = counters.find_one({"_id": key(flight)}) or {"_id": key(flight), "n": 0}
        counter["n"] += 1
        counters.replace_one({"_id": key(flight)}, counter, upsert=True)

    stage.for_each(depart, departed(stage.flights))


def by_hand(stage: Stage) -> None:
    """One `find_one_and_update` with `$inc` and an upsert."""
    counters = stage.db["departures"]

    def depart(flight: Row) -> None:
        counters.find_one_and_update({"_id": key(flight)}, {"$inc": {"n": 1}}, upsert=True)

    stage.for_each(depart, departed(stage.flights))


def primitive(stage: Stage) -> None:
    """`Counter.add`."""
    counter = Counter(stage.db, DEPARTURES)

    def depart(flight: Row) -> None:
        counter.add(key(flight))

    stage.for_each(depart, departed(stage.flights))


def judge(flights: Sequence[Row], told: None, db: Database[Row]) -> Outcome:
    """Compare every counter with the number of its flights."""
    del told
    should = collections.Counter(map(key, departed(flights)))
    stored = collections.Counter({counter["_id"]: counter["n"] for counter in db["departures"].find()})
    return Outcome(
        should=should.total(),
        stored=stored.total(),
        lost=(should - stored).total(),
        doubled=(stored - should).total(),
    )


SCENARIO = Scenario(
    title="Departures counted per carrier and hour",
    usual=usual,
    by_hand=by_hand,
    primitive=primitive,
    judge=judge,
)
