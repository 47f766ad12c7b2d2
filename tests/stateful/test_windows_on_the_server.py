"""Windows on the server against windows in memory: every kind, in hard zones, around every clock change.

The server brings its own edition of the time zone rules. Where it differs from this process's edition, the two
have to differ; so instants near such a difference are left out. The differences are found by asking the server,
and how much they may leave out is bounded.

An anniversary may fall into an hour that comes twice when the clocks go back. Which of the two the server means
depends on the start, and on how its edition tells summer time (Dublin's winter is the exception there); in memory
it may be the other. There, and nowhere else, the two may be that hour apart.
"""

from __future__ import annotations

import datetime as dt
import itertools
import random
from collections.abc import Iterable
from functools import cache
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from mongopatterns.windows import Anniversary, Calendar, Cycle, Fixed

UTC = dt.timezone.utc
DAY, HOUR, MS = dt.timedelta(days=1), dt.timedelta(hours=1), dt.timedelta(milliseconds=1)
FIRST, LAST = dt.datetime(1975, 1, 1, tzinfo=UTC), dt.datetime(2035, 12, 31, tzinfo=UTC)
ZONES = [
    "UTC",
    "Europe/Berlin",
    "Europe/Dublin",  # winter time is the exception there
    "America/New_York",
    "America/St_Johns",  # half an hour off; clocks changed at a minute past midnight
    "America/Santiago",  # midnight is skipped
    "America/Sao_Paulo",
    "America/Havana",  # midnight comes twice
    "Atlantic/Azores",
    "Africa/Casablanca",  # by the moon; two changes within weeks
    "Asia/Kolkata",
    "Asia/Kathmandu",
    "Australia/Lord_Howe",  # changes by half an hour
    "Pacific/Apia",  # a whole day was skipped
    "Antarctica/Troll",  # changes by two hours
]
LENGTHS = [MS, 777 * MS, dt.timedelta(seconds=90), dt.timedelta(minutes=15), HOUR, 36 * HOUR, 7 * DAY, 3660 * DAY]
NEAR = 45 * DAY
"""How near to a difference of the rules nothing is compared: a month, and the days around it."""


def cycles(zone: str) -> list[Any]:
    """List every kind of windows in a zone; in UTC, those of every length as well."""
    calendars = [Calendar(unit, zone) for unit in ("hour", "day", "week", "month")]  # type: ignore[arg-type]
    anniversaries = [Anniversary(unit, zone) for unit in ("day", "week", "month")]  # type: ignore[arg-type]
    lengths = [Fixed(length, from_first_use) for length in LENGTHS for from_first_use in (False, True)]
    return [*calendars, *anniversaries, *(lengths if zone == "UTC" else ())]


def offset(instant: dt.datetime, zone: ZoneInfo) -> dt.timedelta | None:
    return instant.astimezone(zone).utcoffset()


@cache
def changes(name: str) -> tuple[dt.datetime, ...]:
    """Return every instant at which this process's clock of a zone changes: from day to day, then by halving."""
    zone, found = ZoneInfo(name), []
    days = [FIRST - 400 * DAY + number * DAY for number in range((LAST - FIRST).days + 1200)]
    for before, after in itertools.pairwise(days):  # the second is one shorter
        low, high = before, after
        if offset(low, zone) != offset(high, zone):
            while high - low > MS:
                middle = low + ((high - low) // 2 // MS) * MS
                low, high = (middle, high) if offset(middle, zone) == offset(low, zone) else (low, middle)
            found.append(high)
    return tuple(found)


class Differences(dict[str, "list[dt.datetime]"]):
    """Where the rules differ, by zone."""

    def __repr__(self) -> str:
        return "Differences(...)"  # (thousands of instants)


@pytest.fixture(scope="module")
def differences(mongopatterns_client: Any) -> Differences:
    """Find where the server's rules differ from this process's: at every noon, and around every change."""
    found = Differences()
    noons = [FIRST - 400 * DAY + (number + 0.5) * DAY for number in range((LAST - FIRST).days + 1200)]
    for name in ZONES:
        instants = [*noons, *(change + step for change in changes(name) for step in (-MS, 0 * MS))]
        shown = {"date": "$$this", "timezone": name, "format": "%Z"}
        each = {"$map": {"input": "$dates", "in": {"$toInt": {"$dateToString": shown}}}}
        (answer,) = mongopatterns_client.admin.aggregate(
            [{"$documents": [{"dates": instants}]}, {"$project": {"minutes": each}}]
        )
        zone = ZoneInfo(name)
        theirs = (dt.timedelta(minutes=minutes) for minutes in answer["minutes"])
        differing = (instant for instant, their in zip(instants, theirs, strict=True) if offset(instant, zone) != their)
        found[name] = sorted(differing)
    return found


class Instants:
    """Draw instants that are hard for a zone, and where both editions of its rules agree."""

    def __init__(self, zone: str, differences: Differences, seed: int) -> None:
        self._zone = ZoneInfo(zone)
        self._random = random.Random(seed)  # the seed is Hypothesis's
        self._changes = [change for change in changes(zone) if FIRST < change < LAST] or [FIRST + 9000 * DAY]
        days = {(instant - FIRST) // DAY for instant in differences.get(zone, ())}
        reach = range(-(NEAR // DAY), NEAR // DAY + 2)
        self._unsafe = {day + step for day in days for step in reach}
        if zone == "Pacific/Apia":  # the day that never was, 30 December 2011: the server goes back from it
            never = (dt.datetime(2011, 12, 30, tzinfo=UTC) - FIRST) // DAY
            self._unsafe |= {never - 1, never, never + 1}

    def agreed(self, *instants: dt.datetime) -> bool:
        return not any((instant - FIRST) // DAY in self._unsafe for instant in instants)

    def one(self) -> dt.datetime:
        choose = self._random.choice
        year = self._random.randrange(FIRST.year, LAST.year)
        kind = choose(["change", "change", "change", "month", "month", "leap", "year", "any"])
        if kind == "change":
            base = choose(self._changes)
        elif kind == "any":
            base = FIRST + self._random.randrange((LAST - FIRST) // MS) * MS
        else:
            day = {
                "month": dt.date(year, self._random.randrange(1, 13), 1) - choose([0, 1, 2, 3]) * DAY,
                "leap": dt.date(year // 4 * 4, 2, 28) + choose([0, 1, 2]) * DAY,
                "year": dt.date(year, 12, 31),
            }[kind]
            time = dt.time(choose([0, 0, 1, 2, 3, 12, 23]), choose([0, 0, 29, 30, 31, 59]), choose([0, 59]))
            base = dt.datetime.combine(day, time, self._zone).astimezone(UTC)
        step = choose([0, 1, 1, 30, 60, 61, 119, 1440, 1439, 40 * 1440, self._random.randrange(3000)])
        step_ms = choose([0, 0, 0, 1, 999])
        return base + choose([-1, 1]) * (dt.timedelta(minutes=step) + step_ms * MS)

    def some(self, number: int) -> list[dt.datetime]:
        drawn = [self.one() for _ in range(number)]
        return [instant for instant in drawn if FIRST <= instant <= LAST and self.agreed(instant)]

    def pairs(self, cycle: Cycle, number: int) -> list[tuple[dt.datetime, dt.datetime]]:
        """Draw the end of a window, or any instant, and a later one: near, far, or about whole windows on."""
        drawn = []
        for _ in range(number):
            end = cycle.end_of(self.one()) if self._random.random() < 0.7 else self.one()
            kind = self._random.choice(["near", "far", "years", "steps", "steps", "steps", "any"])
            if kind == "steps":
                date = cycle.later(end, self._random.choice([0, 1, 1, 2, 3, 5, 12, 13])) + self._random.choice(
                    [-MS, 0 * MS, MS]
                )
            elif kind == "any":
                date = self.one()
            else:
                span = {"near": 3 * DAY, "far": 70 * DAY, "years": 2000 * DAY}[kind]
                date = end + self._random.randrange(span // MS) * MS
            drawn.append((end, date))
        return [
            (end, date) for end, date in drawn if FIRST <= end <= date <= LAST and self.agreed(end, end + DAY / 2, date)
        ]


def twice(instant: dt.datetime, zone: str) -> bool:
    """Tell whether the local time of an instant comes twice."""
    local = instant.astimezone(ZoneInfo(zone))
    return local.replace(fold=0).utcoffset() > local.replace(fold=1).utcoffset()  # type: ignore[operator]


def the_other(theirs: dt.datetime, ours: dt.datetime, cycle: Cycle) -> bool:
    """Tell whether two anniversaries are the same local time, which comes twice."""
    if not isinstance(cycle, Anniversary):
        return False
    zone = ZoneInfo(cycle.zone)
    locals_ = {instant.astimezone(zone).replace(tzinfo=None) for instant in (theirs, ours)}
    return twice(ours, cycle.zone) and len(locals_) == 1


def on_the_server(client: Any, documents: Iterable[dict[str, Any]], expressions: list[Any]) -> list[list[Any]]:
    """Evaluate expressions for every document: one command."""
    pipeline = [{"$documents": list(documents)}, {"$project": {"values": expressions}}]
    options = client.codec_options.with_options(tz_aware=True)
    database = client.get_database("admin", codec_options=options)
    return [answer["values"] for answer in database.aggregate(pipeline)]


batches = settings(
    max_examples=5,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],  # a failure lists every instant that differs: nothing is to be shrunk
    suppress_health_check=list(HealthCheck),
)
seeds = st.integers(0, 2**32)
zones = pytest.mark.parametrize("zone", ZONES)


@zones
@batches
@given(seed=seeds)
def test_a_window_ends_in_memory_when_it_ends_on_the_server(
    mongopatterns_client: Any, differences: Differences, zone: str, seed: int
) -> None:
    """For instants around clock changes, month ends, leap days and year ends: `end_of` is what `end` computes."""
    instants = Instants(zone, differences, seed).some(150)
    assert len(instants) > 30  # the differences of the editions leave enough to compare
    kinds = cycles(zone)
    ends = on_the_server(
        mongopatterns_client, ({"date": instant} for instant in instants), [cycle.end("$date") for cycle in kinds]
    )
    wrong = [
        (cycle, str(instant), str(theirs), str(ours))
        for instant, row in zip(instants, ends, strict=True)
        for cycle, theirs in zip(kinds, row, strict=True)
        if theirs != (ours := cycle.end_of(instant)) and not the_other(theirs, ours, cycle)
    ]
    assert wrong == []
    assert all(end > instant for instant, row in zip(instants, ends, strict=True) for end in row)


@zones
@batches
@given(seed=seeds)
def test_idle_windows_are_counted_alike(
    mongopatterns_client: Any, differences: Differences, zone: str, seed: int
) -> None:
    """From the end of any window to any later time, `idle_until` counts what `idle` counts."""
    wrong = []
    drawn = Instants(zone, differences, seed)
    kinds = cycles(zone)
    pairs = {cycle: drawn.pairs(cycle, 100) for cycle in kinds}
    assert all(len(some) > 20 for some in pairs.values())
    asked = [(place, end, date) for place, cycle in enumerate(kinds) for end, date in pairs[cycle]]
    branches = [
        {"case": {"$eq": ["$cycle", place]}, "then": cycle.idle("$end", "$date")} for place, cycle in enumerate(kinds)
    ]
    counts = on_the_server(
        mongopatterns_client,
        ({"cycle": place, "end": end, "date": date} for place, end, date in asked),
        [{"$switch": {"branches": branches}}],
    )
    for (place, end, date), (theirs,) in zip(asked, counts, strict=True):
        cycle, ours = kinds[place], kinds[place].idle_until(end, date)
        if theirs == ours:
            continue
        # Of an anniversary whose local time comes twice, the one may have passed and the other not yet.
        last = cycle.later(end, max(theirs, ours))
        if isinstance(cycle, Anniversary) and abs(theirs - ours) == 1 and twice(last, zone):
            assert abs(last - date) <= 2 * HOUR
        else:
            wrong.append((cycle, str(end), str(date), theirs, ours))
    assert wrong == []


@zones
@batches
@given(seed=seeds, steps=st.sampled_from([1, 2, 3, 11, 12, 13, 48]))
def test_later_anniversaries_are_dated_alike(
    mongopatterns_client: Any, differences: Differences, zone: str, seed: int, steps: int
) -> None:
    """`later` goes on as the server's `$dateAdd` does, by which `idle` counts."""
    drawn = Instants(zone, differences, seed)
    kinds = [cycle for cycle in cycles(zone) if isinstance(cycle, Anniversary)]
    instants = drawn.some(150)
    added = [
        {"$dateAdd": {"startDate": "$date", "unit": cycle.unit, "amount": steps, "timezone": zone}} for cycle in kinds
    ]
    dates = on_the_server(mongopatterns_client, ({"date": instant} for instant in instants), added)
    wrong = [
        (cycle, str(instant), str(theirs), str(ours))
        for instant, row in zip(instants, dates, strict=True)
        for cycle, theirs in zip(kinds, row, strict=True)
        if theirs != (ours := cycle.later(instant, steps))
        and ours <= LAST
        and drawn.agreed(ours)
        and not the_other(theirs, ours, cycle)
    ]
    assert wrong == []


@zones
@batches
@given(seed=seeds)
def test_going_on_by_windows(zone: str, seed: int) -> None:
    """`later` stays at 0 steps and goes forward at each; the windows of a calendar or a length add up.

    Where a zone has left out a whole day (Apia had no 30th of December 2011), that day ends when it would have begun.
    """
    drawn = Instants(zone, Differences(), seed)
    for cycle in cycles(zone):
        for end in map(cycle.end_of, drawn.some(20)):
            ahead = [cycle.later(end, steps) for steps in range(5)]
            assert ahead[0] == end
            assert ahead == sorted(ahead)
            first, last = (instant.astimezone(ZoneInfo(zone)).utcoffset() for instant in (ahead[0], ahead[-1]))
            if abs(first - last) > 12 * HOUR:
                assert len(set(ahead)) >= 4
                continue
            assert len(set(ahead)) == 5
            if not isinstance(cycle, Anniversary):  # (two months on from the 31st is no sum of two single months)
                assert cycle.later(ahead[2], 2) == cycle.later(ahead[1], 3) == ahead[4]
            if isinstance(cycle, Calendar) and cycle.unit != "hour":
                assert ahead[1] == cycle.end_of(end)


# Where midnight comes twice, the hour before the second one counts as the new day already; where clocks have
# changed by less than an hour, the hours of the local clock are counted by their length.
PLAIN = sorted({*ZONES} - {"Australia/Lord_Howe", "America/Havana", "Atlantic/Azores", "Asia/Kathmandu"})


@pytest.mark.parametrize("zone", PLAIN)
@batches
@given(seed=seeds)
def test_a_window_is_idle_when_it_has_ended(zone: str, seed: int) -> None:
    """`idle_until` is the number of steps that `later` has gone, and one less a millisecond before."""
    drawn = Instants(zone, Differences(), seed)
    for cycle in cycles(zone):
        for end in map(cycle.end_of, drawn.some(20)):
            for steps in (1, 2, 5):
                then = cycle.later(end, steps)
                if not drawn.agreed(end, then):  # (the day that never was in Apia)
                    continue
                told = cycle.idle_until(end, then - MS), cycle.idle_until(end, then)
                assert told == (steps - 1, steps), (cycle, end, then)


def at(text: str) -> dt.datetime:
    return dt.datetime.fromisoformat(text).replace(tzinfo=UTC)


def test_an_anniversary_in_a_skipped_hour_is_after_it(mongopatterns_client: Any) -> None:
    """02:30, the second of that day, a month later is 03:30 where 02:00 to 03:00 is skipped, as on the server."""
    cycle, start = Anniversary("month", "Africa/Casablanca"), at("2012-07-20T02:30")
    ((theirs,),) = on_the_server(mongopatterns_client, [{"date": start}], [cycle.end("$date")])
    assert theirs == at("2012-08-20T02:30")
    assert cycle.end_of(start) == theirs


@pytest.mark.parametrize(
    ("start", "ends"),
    [
        ("2026-01-31T10:00", ["2026-02-28T10:00", "2026-03-31T10:00", "2026-04-30T10:00"]),
        ("2024-01-31T10:00", ["2024-02-29T10:00", "2024-03-31T10:00", "2024-04-30T10:00"]),
        ("2024-02-29T10:00", ["2024-03-29T10:00", "2024-04-29T10:00", "2024-05-29T10:00"]),
        ("2025-12-30T23:59", ["2026-01-30T23:59", "2026-02-28T23:59", "2026-03-30T23:59"]),
    ],
)
def test_months_from_the_last_days_of_a_month(mongopatterns_client: Any, start: str, ends: list[str]) -> None:
    """A month that is too short ends on its last day, and those after it on the day of the first one again."""
    cycle = Anniversary("month", "UTC")
    assert [cycle.later(at(start), steps) for steps in (1, 2, 3)] == [at(end) for end in ends]
    assert cycle.end_of(at(start)) == at(ends[0])
    moments = [at(end) - early for end in ends for early in (MS, 0 * MS)]
    documents = ({"end": at(start), "date": moment} for moment in moments)
    rows = on_the_server(mongopatterns_client, documents, [cycle.idle("$end", "$date")])
    counted = [counted for (counted,) in rows]
    assert counted == [cycle.idle_until(at(start), moment) for moment in moments] == [0, 1, 1, 2, 2, 3]


def test_the_editions_differ_in_little(differences: Differences) -> None:
    """What the comparisons leave out is a small part of the time, so that they mean something in every zone."""
    for zone in ZONES:
        drawn = Instants(zone, differences, 1)
        days = [FIRST + number * DAY for number in range((LAST - FIRST).days)]
        assert sum(drawn.agreed(day) for day in days) > 0.7 * len(days), zone
