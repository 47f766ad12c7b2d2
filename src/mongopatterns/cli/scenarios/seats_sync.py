# Generated from src/mongopatterns/cli/scenarios/seats_async.py by tools/generate_sync.py.
# Do not edit: change the source and run "make generate".
"""Seats: more passengers than a plane has seats, and some of them ask twice.

The flights are the ones with the smallest planes, with as many seats as the plane of that day really had. All who want
to fly with one of them ask at the same time. Whoever has a seat and asks again keeps it, and nobody gets a second one.
So there is one right answer: each plane is full, with as many different passengers as it has seats.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

from pymongo.database import Database

from mongopatterns import CappedSet, CappedSetSpec, Field
from mongopatterns.cli._rows import Row, read_rows
from mongopatterns.cli._stage_sync import Scenario, Stage
from mongopatterns.cli.scenarios import Outcome

SPEC = CappedSetSpec("seats", path="passengers", member_key="ticket", cap=Field("seats"), open_if={"departed_at": None})
FLIGHTS = 12
SMALLEST = 10  # (some rows are of light aircraft, with two seats)

Told = list[tuple[Any, str, bool]]
"""A flight, a ticket, and whether its passenger was told to have a seat."""


def usual(stage: Stage) -> Told:
    """Read the flight, look for the passenger, count the seats, save the flight."""
    flights = stage.db["seats"]

    def ask(flight: Row, ticket: str) -> bool:
        document = flights.find_one({"_id": flight["_id"]}) or {}
        if any(passenger["ticket"] == ticket for passenger in document["passengers"]):
            return True
        if len(document["passengers"]) >= document["seats"]:
            return False
        document["passengers"].append({"ticket": ticket})
        flights.replace_one({"_id": flight["_id"]}, document)
        return True

    return board(stage, ask)


def by_hand(stage: Stage) -> Told:
    """A push whose filter asks for the last seat and for nobody of that ticket; a refusal is looked into."""
    flights = stage.db["seats"]

    def ask(flight: Row, ticket: str) -> bool:
        free = {f"passengers.{flight['seats'] - 1}": {"$exists": False}, "departed_at": None}
        query = {"_id": flight["_id"], "passengers.ticket": {"$ne": ticket}, **free}
        joined = flights.update_one(query, {"$push": {"passengers": {"ticket": ticket}}})
        if joined.modified_count:
            return True
        return bool(flights.find_one({"_id": flight["_id"], "passengers.ticket": ticket}, {"_id": 1}))

    return board(stage, ask)


def primitive(stage: Stage) -> Told:
    """`CappedSet.join`, the cap read from the flight."""
    seats = CappedSet(stage.db, SPEC)

    def ask(flight: Row, ticket: str) -> bool:
        return bool(seats.join(flight["_id"], {"ticket": ticket}))

    return board(stage, ask)


def board(stage: Stage, ask: Callable[[Row, str], bool]) -> Told:
    """Store the flights, empty, and let everybody ask: who wants to fly with one flight at the same time."""
    flights = small_planes(stage.flights)
    stage.db["seats"].insert_many([{**flight, "departed_at": None, "passengers": []} for flight in flights])
    wanted: list[Row] = [{"flight": flight, "ticket": ticket} for flight in flights for ticket in tickets(flight)]

    def one(wish: Row) -> bool:
        return ask(wish["flight"], wish["ticket"])

    answers = stage.for_each(one, wanted)
    return [(wish["flight"]["_id"], wish["ticket"], answer) for wish, answer in zip(wanted, answers, strict=True)]


def small_planes(flights: Sequence[Row]) -> list[Row]:
    """Choose the flights with the smallest planes of an airline, of which the number of seats is known."""
    found: dict[str, Row] = {}
    for flight in flights:
        name = f"{flight['carrier']}{flight['flight']} {flight['time_hour']:%Y-%m-%d}"
        seats = capacities().get(flight["tailnum"], 0)
        if seats >= SMALLEST:
            found.setdefault(name, {"_id": name, "seats": seats})
    return sorted(found.values(), key=lambda flight: (flight["seats"], flight["_id"]))[:FLIGHTS]


@cache
def capacities() -> Mapping[str, int]:
    """Read how many seats each plane has."""
    return {plane["tailnum"]: plane["seats"] for plane in read_rows(0).planes if plane["seats"]}


def tickets(flight: Row) -> list[str]:
    """Sell more tickets than there are seats, a third more; every other passenger asks twice in a row."""
    sold = [f"ticket {number}" for number in range(flight["seats"] * 4 // 3 + 1)]
    return [ticket for number, ticket in enumerate(sold) for _ in range(1 + number % 2)]


def judge(flights: Sequence[Row], told: Told, db: Database[Row]) -> Outcome:
    """Compare who was told to have a seat with who is stored, and with how many seats there are."""
    seated = {(flight, ticket) for flight, ticket, has in told if has}
    stored = Counter(
        (document["_id"], passenger["ticket"])
        for document in db["seats"].find()
        for passenger in document["passengers"]
    )
    oversold = wrongly_refused = 0
    for flight in small_planes(flights):
        number = sum(1 for one, _ in seated if one == flight["_id"])
        oversold += max(0, number - flight["seats"])
        wrongly_refused += max(0, flight["seats"] - number)
    return Outcome(
        should=sum(flight["seats"] for flight in small_planes(flights)),
        stored=stored.total(),
        lost=len(seated - set(stored)),
        doubled=stored.total() - len(stored),
        oversold=oversold,
        wrongly_refused=wrongly_refused,
    )


def caption(flights: Sequence[Row]) -> str:
    """Tell how many seats there are, and how many calls."""
    planes = small_planes(flights)
    calls = sum(len(tickets(plane)) for plane in planes)
    return f"{sum(plane['seats'] for plane in planes):,} seats in {len(planes)} planes, and {calls:,} calls for them."


SCENARIO = Scenario(
    title="Seats on real flights, with the capacity of their planes",
    usual=usual,
    by_hand=by_hand,
    primitive=primitive,
    judge=judge,
    caption=caption,
)
