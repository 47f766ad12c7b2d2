# Generated from src/mongopatterns/cli/scenarios/startup_async.py by tools/generate_sync.py.
# Do not edit: change the source and run "make generate".
"""A service that starts on a database with a past, in four processes at once, and then sells tickets.

A flight has one ticket, and nothing has enforced that so far: some have two, and the index on the flight is an old one
that is not unique. The log of what is sold is not there yet. Then each ticket is asked for twice. As it is usually
written, the indexes are created at the start, and an error there is no reason not to start.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from pymongo.database import Database
from pymongo.errors import DuplicateKeyError, OperationFailure

from mongopatterns import CollectionSpec, Index, Schema, SchemaSpec
from mongopatterns._driver_sync import settle
from mongopatterns.cli._rows import Row
from mongopatterns.cli._stage_sync import Scenario, Stage
from mongopatterns.cli.scenarios import Outcome

PROCESSES = 4
MOST = 600
OLD = "flight_of_ticket"

TICKET = Index("flight", unique=True)
SALES = Index("flight", ("_id", -1))
SCHEMA = SchemaSpec([CollectionSpec("tickets", indexes=[TICKET]), CollectionSpec("sales", indexes=[SALES])])


def usual(stage: Stage) -> None:
    """Create the indexes, and go on if that fails."""

    def start(_: Row) -> None:
        with suppress(OperationFailure):
            stage.db["tickets"].create_index("flight", unique=True)
        with suppress(OperationFailure):
            stage.db["sales"].create_index([("flight", 1), ("_id", -1)])

    service(stage, start)


def by_hand(stage: Stage) -> None:
    """Remove what is there twice, drop the old index, and create the new ones."""
    tickets = stage.db["tickets"]

    def start(_: Row) -> None:
        group = {"$group": {"_id": "$flight", "ids": {"$push": "$_id"}}}
        twice: Any = tickets.aggregate([group, {"$match": {"ids.1": {"$exists": True}}}])
        for found in settle(twice).to_list(None):
            tickets.delete_many({"_id": {"$in": sorted(found["ids"])[1:]}})
        with suppress(OperationFailure):  # (another process has dropped it)
            tickets.drop_index(OLD)
        tickets.create_index("flight", unique=True)
        stage.db["sales"].create_index([("flight", 1), ("_id", -1)])

    service(stage, start)


def primitive(stage: Stage) -> None:
    """`Schema.merge_duplicates`, `apply` and `verify`."""

    def start(_: Row) -> None:
        schema = Schema(stage.db, SCHEMA)
        schema.merge_duplicates("tickets", TICKET, keep=[("_id", 1)])
        schema.apply()
        schema.verify()

    service(stage, start)


def service(stage: Stage, start: Callable[[Row], None]) -> None:
    """Make the past, start, and sell each ticket to two who want it."""
    tickets, flights = stage.db["tickets"], sold(stage.flights)
    before = [place for place in range(0, len(flights), 2) for _ in range(1 + (place % 20 == 0))]
    tickets.create_index("flight", name=OLD)
    tickets.insert_many([{"_id": number, "flight": place} for number, place in enumerate(before)])
    stage.for_each(start, [{}] * PROCESSES)

    def sell(wanted: Row) -> None:
        with suppress(DuplicateKeyError):
            tickets.insert_one({"flight": wanted["place"], "to": wanted["to"]})

    stage.for_each(sell, [{"place": place, "to": to} for place in range(len(flights)) for to in (1, 2)])


def sold(flights: Sequence[Row]) -> Sequence[Row]:
    """Choose the flights that are sold."""
    return flights[:MOST]


def judge(flights: Sequence[Row], told: None, db: Database[Row]) -> Outcome:
    """Count the tickets, and look for the indexes; one that is missing counts as lost."""
    del told
    tickets = db["tickets"].count_documents({})
    distinct = len(db["tickets"].distinct("flight"))
    unique = [index for index in db["tickets"].list_indexes() if list(index["key"]) == ["flight"]]
    there = [index for index in db["sales"].list_indexes() if list(index["key"]) == ["flight", "_id"]]
    missing = (not any(index.get("unique") for index in unique)) + (not there)
    return Outcome(should=len(sold(flights)), stored=tickets, lost=missing, doubled=tickets - distinct)


def caption(flights: Sequence[Row]) -> str:
    """Tell how much there is."""
    return f"{len(sold(flights)):,} tickets, each asked for twice; an index that is not there counts as lost."


SCENARIO = Scenario(
    title="A service that starts on a database with a past",
    usual=usual,
    by_hand=by_hand,
    primitive=primitive,
    judge=judge,
    caption=caption,
)
