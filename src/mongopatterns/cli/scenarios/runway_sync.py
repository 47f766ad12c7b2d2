# Generated from src/mongopatterns/cli/scenarios/runway_async.py by tools/generate_sync.py.
# Do not edit: change the source and run "make generate".
"""Runways: how many flights may leave an airport within an hour, a day and a month.

The schedule is replayed hour by hour. All flights of one hour ask at the same time, with the clock set to that
hour; then comes the next hour. So there is one right answer: of those that ask, as many get a slot as all three
windows have room for.
"""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from statistics import median

from pymongo.database import Database
from pymongo.errors import DuplicateKeyError

from mongopatterns import Quota, QuotaSpec, Window
from mongopatterns.cli._rows import Row
from mongopatterns.cli._stage_sync import Scenario, Stage
from mongopatterns.cli.scenarios import Outcome
from mongopatterns.cli.scenarios._schedule import WINDOWS, hours, windows

Slots = Counter[tuple[str, str]]
"""How many slots, by airport and by the start of the window."""


def usual(stage: Stage) -> Slots:
    """Read the airport's document, check its three counters, save it."""
    airports, limits = stage.db["runway"], limits_for(stage.flights)

    def ask(now: dt.datetime, flight: Row) -> bool:
        airport = airports.find_one({"_id": flight["origin"]}) or {"_id": flight["origin"], "quota": {}}
        quota = airport["quota"]
        for window, start in windows(now).items():
            if window not in quota or quota[window]["start"] != start:
                quota[window] = {"start": start, "used": 0}
            if quota[window]["used"] >= limits[window]:
                return False
            quota[window]["used"] += 1
        airports.replace_one({"_id": flight["origin"]}, airport, upsert=True)
        return True

    return replay(stage, ask)


def by_hand(stage: Stage) -> Slots:
    """One document per window, raised while it is below the limit; what was taken is given back on a refusal."""
    buckets, limits = stage.db["runway_buckets"], limits_for(stage.flights)

    def ask(now: dt.datetime, flight: Row) -> bool:
        taken: list[str] = []
        for window, start in windows(now).items():
            bucket = f"{flight['origin']} {window} {start}"
            try:
                buckets.find_one_and_update(
                    {"_id": bucket, "used": {"$lt": limits[window]}}, {"$inc": {"used": 1}}, upsert=True
                )
            except DuplicateKeyError:  # It is there and did not match: it is full.
                for earlier in taken:
                    buckets.update_one({"_id": earlier}, {"$inc": {"used": -1}})
                return False
            taken.append(bucket)
        return True

    return replay(stage, ask)


def primitive(stage: Stage) -> Slots:
    """`Quota.consume`."""
    limits = limits_for(stage.flights)
    spec = QuotaSpec(
        "runway",
        path="quota",
        timezone="America/New_York",
        windows=[Window.hour(limits["hour"]), Window.day(limits["day"]), Window.month(limits["month"])],
    )
    quota = Quota(stage.db, spec)

    def ask(now: dt.datetime, flight: Row) -> bool:
        return bool(quota.consume(flight["origin"], now=now))

    return replay(stage, ask)


def replay(stage: Stage, ask: Callable[[dt.datetime, Row], bool]) -> Slots:
    """Let all flights of one hour ask at the same time, then those of the next one."""
    told: Slots = Counter()
    for now, flights in hours(stage.flights):
        answers = stage.for_each(partial(ask, now), flights)
        hour = windows(now)["hour"]
        told.update((flight["origin"], hour) for flight, granted in zip(flights, answers, strict=True) if granted)
    return told


def judge(flights: Sequence[Row], told: Slots, db: Database[Row]) -> Outcome:
    """Compare what callers were told with what the limits allow, and with what the month's counters say."""
    limits = limits_for(flights)
    stored = sum(airport["quota"]["month"]["used"] for airport in db["runway"].find())
    stored += sum(bucket["used"] for bucket in db["runway_buckets"].find({"_id": {"$regex": " month "}}))
    return Outcome(
        should=allowed(asked(flights), limits).total(),
        stored=stored,
        lost=max(0, told.total() - stored),
        doubled=max(0, stored - told.total()),
        oversold=told.total() - allowed(told, limits).total(),
        wrongly_refused=wrongly_refused(flights, limits, told),
    )


def asked(flights: Sequence[Row]) -> Slots:
    """Count who asks, hour by hour."""
    return Counter((flight["origin"], windows(now)["hour"]) for now, group in hours(flights) for flight in group)


def allowed(slots: Slots, limits: Mapping[str, int]) -> Slots:
    """Cut what is above the limit of an hour, then of what is left what is above that of a day, then of a month."""
    for window, limit in limits.items():
        slots = Counter({key: min(limit, number) for key, number in within(slots, window).items()})
    return slots


def within(slots: Slots, window: str) -> Slots:
    """Add up per airport and window."""
    sums: Slots = Counter()
    for (airport, start), number in slots.items():
        sums[airport, start[: WINDOWS[window]]] += number
    return sums


def limits_for(flights: Sequence[Row]) -> dict[str, int]:
    """Choose limits that all refuse some of these flights: nine tenths of what asks for them, at the median."""
    limits: dict[str, int] = {}
    for window in WINDOWS:
        wanted = within(allowed(asked(flights), limits), window)
        limits[window] = max(1, int(0.9 * median(wanted.values())))
    return limits


def wrongly_refused(flights: Sequence[Row], limits: Mapping[str, int], told: Slots) -> int:
    """Count who was refused in an hour although there was room, by what had been given until then."""
    used: Slots = Counter()
    wrong = 0
    for (airport, hour), number in asked(flights).items():
        starts = {window: (airport, hour[:length]) for window, length in WINDOWS.items()}
        room = min(limit - used[starts[window]] for window, limit in limits.items())
        wrong += max(0, min(number, room) - told[airport, hour])
        used.update(dict.fromkeys(starts.values(), told[airport, hour]))
    return wrong


def caption(flights: Sequence[Row]) -> str:
    """Tell the limits."""
    limits = limits_for(flights)
    return (
        f"At most {limits['hour']:,} an hour, {limits['day']:,} a day and {limits['month']:,} a month per airport; "
        "a refusal is wrong if it came in an hour that had room."
    )


SCENARIO = Scenario(
    title="An hourly runway quota per airport, with a day and a month above it",
    usual=usual,
    by_hand=by_hand,
    primitive=primitive,
    judge=judge,
    caption=caption,
)
