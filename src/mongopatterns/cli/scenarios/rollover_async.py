"""Minutes of ground crews: what an hour leaves unused is kept for later ones.

Each airline has a crew at each airport, with an allowance of minutes an hour. Minutes that nobody used go to the
crew's bank, up to three hours' worth, and the day has a limit above all that. Every departure asks for the same
number of minutes, so that it does not matter which of an hour's departures comes first. The schedule is replayed
hour by hour, with the clock set to that hour: nobody waits for an hour to end.

Three things go wrong in such code, and a busy test of one hour finds none of them: banked minutes are charged to
the bank and to the hour as well; of several idle hours only the first is banked; and the call that finds an hour
ended is still decided by that hour. They are errors of the rules, not races: they stay with one call at a time.
"""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from pymongo.database import Database

from mongopatterns import AsyncQuota, Field, QuotaSpec, Rollover, Times, Window
from mongopatterns.cli._rows import Row
from mongopatterns.cli._stage_async import AsyncScenario, AsyncStage
from mongopatterns.cli.scenarios import Outcome
from mongopatterns.cli.scenarios._schedule import NEW_YORK, hours, windows

FLIGHTS = 1_100
"""How many are replayed: a day, the night, and the morning after."""

MINUTES = 20
"""What a departure asks for."""

HOURS_BANKED = 3
"""How many hourly allowances a bank holds."""

HOUR = dt.timedelta(hours=1)

Departures = Counter[tuple[str, dt.datetime]]
"""How many departures, by crew and hour: earlier hours first."""

QUOTA = QuotaSpec(
    "crews",
    path="quota",
    timezone="America/New_York",
    create=None,
    windows=[
        Window.hour(Field("limits.hour"), rollover=Rollover(cap=Times(HOURS_BANKED))),
        Window.day(Field("limits.day")),
        Window.month(None),
    ],
)


async def usual(stage: AsyncStage) -> Departures:
    """Check, charge banked minutes to bank and hour, save; the hour is rolled last, and banked once however idle."""
    crews = stage.db["crews"]

    async def ask(now: dt.datetime, flight: Row) -> bool:
        crew: Row = await crews.find_one({"_id": crew_of(flight)}) or {}
        quota = crew.setdefault("quota", begun(now))
        granted = has_room(quota, crew["limits"])
        if granted:
            quota["hour"]["bank"] -= min(quota["hour"]["bank"], MINUTES)
            for window in quota.values():
                window["used"] += MINUTES
        roll(quota, crew["limits"], now)
        await crews.replace_one({"_id": crew_of(flight)}, crew)
        return granted

    return await replay(stage, ask)


async def by_hand(stage: AsyncStage) -> Departures:
    """Roll first, charge each minute once, save unless somebody else did; an hour is banked once however idle."""
    crews = stage.db["crews"]

    async def ask(now: dt.datetime, flight: Row) -> bool:
        while True:
            crew: Row = await crews.find_one({"_id": crew_of(flight)}) or {}
            quota = crew.setdefault("quota", begun(now))
            roll(quota, crew["limits"], now)
            if not has_room(quota, crew["limits"]):
                return False
            from_bank = min(quota["hour"]["bank"], MINUTES)
            quota["hour"]["bank"] -= from_bank
            quota["hour"]["used"] += MINUTES - from_bank
            quota["day"]["used"] += MINUTES
            quota["month"]["used"] += MINUTES
            seen = crew.get("version")
            crew["version"] = (seen or 0) + 1
            saved = await crews.replace_one({"_id": crew_of(flight), "version": seen}, crew)
            if saved.modified_count:
                return True

    return await replay(stage, ask)


async def primitive(stage: AsyncStage) -> Departures:
    """`AsyncQuota.consume`, its hour with a `Rollover`."""
    quota = AsyncQuota(stage.db, QUOTA)

    async def ask(now: dt.datetime, flight: Row) -> bool:
        return bool(await quota.consume(crew_of(flight), MINUTES, now=now))

    return await replay(stage, ask)


# What the usual code and that by hand share: as both are written again and again ..............................


def begun(now: dt.datetime) -> Row:
    """Make the windows of a crew that has not been asked for yet."""
    quota: Row = {window: {"start": start, "used": 0} for window, start in windows(now).items()}
    quota["hour"]["bank"] = 0
    return quota


def has_room(quota: Row, limits: Mapping[str, int]) -> bool:
    """Check the hour, with its bank, and the day."""
    hour, day = quota["hour"], quota["day"]
    return bool(hour["used"] + MINUTES <= limits["hour"] + hour["bank"] and day["used"] + MINUTES <= limits["day"])


def roll(quota: Row, limits: Mapping[str, int], now: dt.datetime) -> None:
    """Begin each window that has ended anew, and bank what the hour has left."""
    for window, start in windows(now).items():
        if quota[window]["start"] != start:
            if window == "hour":
                left = max(0, limits["hour"] - quota["hour"]["used"])
                quota["hour"]["bank"] = min(HOURS_BANKED * limits["hour"], quota["hour"]["bank"] + left)
            quota[window].update(start=start, used=0)


# The schedule, and its limits ..................................................................................


async def replay(stage: AsyncStage, ask: Callable[[dt.datetime, Row], Awaitable[bool]]) -> Departures:
    """Let all departures of one hour ask at the same time, then those of the next one."""
    crews: list[Row] = [{"_id": crew, "limits": limits} for crew, limits in limits_for(stage.flights).items()]
    await stage.db["crews"].insert_many(crews)
    told: Departures = Counter()
    for now, flights in hours(stage.flights[:FLIGHTS]):
        answers = await stage.for_each(partial(ask, now), flights)
        told.update((crew_of(flight), now) for flight, granted in zip(flights, answers, strict=True) if granted)
    return told


def crew_of(flight: Row) -> str:
    """Name the crew of a flight."""
    return f"{flight['carrier']} {flight['origin']}"


def asked(flights: Sequence[Row]) -> Departures:
    """Count who asks, hour by hour."""
    return Counter((crew_of(flight), now) for now, group in hours(flights[:FLIGHTS]) for flight in group)


def limits_for(flights: Sequence[Row]) -> dict[str, dict[str, int]]:
    """Choose the limits of each crew.

    An hour has what the crew needs on the average, from its first hour to its last, and the day nine tenths of
    what its busiest day needs: with what is banked almost all can be served, without it many cannot.
    """
    wanted: dict[str, Departures] = {}
    for (crew, now), number in asked(flights).items():
        wanted.setdefault(crew, Counter())[crew, now] = number * MINUTES
    limits: dict[str, dict[str, int]] = {}
    for crew, minutes in wanted.items():
        times = [now for _, now in minutes]
        days: Counter[dt.date] = Counter()
        for now in times:
            days[now.astimezone(NEW_YORK).date()] += minutes[crew, now]
        an_hour = minutes.total() // ((max(times) - min(times)) // HOUR + 1)
        limits[crew] = {"hour": max(MINUTES, an_hour), "day": max(MINUTES, max(days.values()) * 9 // 10)}
    return limits


# The plain model that everything is counted against ............................................................


@dataclass
class Account:
    """One crew's minutes as they should be: the rules again, one hour after the other.

    Attributes:
        hour_limit: The allowance of an hour.
        day_limit: The most of a day.
        now: The hour that it stands at.
        used: What was taken from this hour.
        bank: What earlier hours left.
        today: What was taken today, from the bank too.
    """

    hour_limit: int
    day_limit: int
    now: dt.datetime
    used: int = 0
    bank: int = 0
    today: int = 0

    def move_on(self, now: dt.datetime) -> None:
        """Let the hours pass, busy and idle ones alike."""
        while self.now < now:
            self.bank = min(HOURS_BANKED * self.hour_limit, self.bank + max(0, self.hour_limit - self.used))
            self.used = 0
            self.now += HOUR
            if self.now.astimezone(NEW_YORK).hour == 0:
                self.today = 0

    @property
    def room(self) -> int:
        """How many departures more there are minutes for."""
        left = min(self.hour_limit - self.used + self.bank, self.day_limit - self.today)
        return max(0, left // MINUTES)

    def charge(self, departures: int) -> None:
        """Take their minutes, the bank's first, whether or not there is room."""
        minutes = departures * MINUTES
        from_bank = min(self.bank, minutes)
        self.bank -= from_bank
        self.used += minutes - from_bank
        self.today += minutes


def due(flights: Sequence[Row], told: Departures | None = None) -> Departures:
    """Tell how many departures of each hour there was room for.

    Args:
        flights: Who asked.
        told: What was granted before that hour, right or wrong. Without it: what is due.
    """
    limits = limits_for(flights)
    accounts: dict[str, Account] = {}
    right: Departures = Counter()
    for (crew, now), number in asked(flights).items():
        account = accounts.setdefault(crew, Account(limits[crew]["hour"], limits[crew]["day"], now))
        account.move_on(now)
        right[crew, now] = min(number, account.room)
        account.charge((right if told is None else told)[crew, now])
    return right


def judge(flights: Sequence[Row], told: Departures, db: Database[Row]) -> Outcome:
    """Compare what callers were told with the model, and with the minutes that the month's meters show."""
    right, minutes = due(flights, told), MINUTES * told.total()
    stored = sum(minutes_of(crew) for crew in db["crews"].find())
    return Outcome(
        should=MINUTES * due(flights).total(),
        stored=stored,
        lost=max(0, minutes - stored),
        doubled=max(0, stored - minutes),
        oversold=MINUTES * (told - right).total(),
        wrongly_refused=MINUTES * (right - told).total(),
    )


def minutes_of(crew: Mapping[str, Any]) -> int:
    """Read the month's meter of a crew."""
    month: int = crew["quota"]["month"]["used"] if "quota" in crew else 0
    return month


def caption(flights: Sequence[Row]) -> str:
    """Tell what is asked for and how it is counted."""
    crews = limits_for(flights)
    return (
        f"{len(crews)} crews; all numbers are minutes, {MINUTES} for a departure. An hour has what a crew needs on "
        f"the average, and its bank holds {HOURS_BANKED} times as much. A wrong rule is wrong with one call at a time, "
        "too."
    )


SCENARIO = AsyncScenario(
    title="An hourly allowance per crew whose unused minutes are kept, with a day above it",
    usual=usual,
    by_hand=by_hand,
    primitive=primitive,
    judge=judge,
    caption=caption,
)
