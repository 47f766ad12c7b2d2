"""Buckets of time on the server: stretches and calendars, in every zone, around clock changes.

The server brings its own edition of the time zone rules. What is asked of it alone must hold in its own edition;
where it is compared with what is worked out in memory, instants near a difference of the two editions are left out, and
how many zones have such a difference is bounded.
"""

from __future__ import annotations

import datetime as dt
import random
import zoneinfo
from collections.abc import Iterator
from functools import cache
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from pymongo.errors import OperationFailure

from mongopatterns.reports._times import BY_MINUTES, QUARTERS, Span, fill, slot, start

UTC = dt.timezone.utc
MS, MINUTE, QUARTER, HOUR = dt.timedelta(milliseconds=1), *(dt.timedelta(minutes=n) for n in (1, 15, 60))
DAY, WEEK = dt.timedelta(days=1), dt.timedelta(days=7)
OLDEST = dt.datetime(1, 1, 1, tzinfo=UTC)
LAST = dt.datetime(2037, 12, 31, tzinfo=UTC)
CHANGES = 8
"""How many clock changes of each zone are looked at; all of them, by hand: 1000."""

UNKNOWN_ZONE = 40485
MISTAKEN = frozenset({"Africa/Freetown"})
"""Zones of which the server of these tests has wrong rules: 53 minutes from UTC, as before 1913."""

UNITS = ["hour", "day", "week", "month", "quarter", "year"]
ZONES = [
    "UTC",
    "America/Havana",  # midnight comes twice
    "America/New_York",
    "America/Santiago",  # midnight is skipped
    "America/St_Johns",  # half an hour off; clocks changed at a minute past midnight
    "Africa/Casablanca",  # by the moon; two changes within weeks
    "Antarctica/Troll",  # changes by two hours
    "Asia/Kathmandu",
    "Atlantic/Azores",
    "Australia/Lord_Howe",  # changes by half an hour
    "Europe/Berlin",
    "Europe/Dublin",  # winter time is the exception there
    "Pacific/Apia",  # a whole day was skipped
]


@cache
def changes(name: str) -> list[dt.datetime]:
    """Return when the clocks of a zone have changed since 1980, to the minute, by the edition in memory."""
    zone = ZoneInfo(name)
    found = []
    instant, known = QUARTERS, QUARTERS.astimezone(zone).utcoffset()
    while instant < LAST:
        low, high = instant, instant + WEEK
        if (then := high.astimezone(zone).utcoffset()) != known:
            while high - low > MINUTE:
                middle = low + (high - low) // (2 * MINUTE) * MINUTE
                low, high = (middle, high) if middle.astimezone(zone).utcoffset() == known else (low, middle)
            found.append(high)
        instant, known = instant + WEEK, then
    return found


def near(name: str, most: int = 1000) -> Iterator[dt.datetime]:
    """Give instants around clock changes, and some at random, before 1980 too."""
    chance = random.Random(name)
    for change in chance.sample(changes(name), min(most, len(changes(name)))):
        for distance in (-QUARTER, -MINUTE, -MS, 0 * MS, MINUTE - MS, QUARTER - MS, HOUR - MS):
            yield change + distance
    for first, length in ((dt.datetime(1880, 1, 1, tzinfo=UTC), LAST - QUARTERS), (QUARTERS - DAY, 2 * DAY)):
        for _ in range(10):
            yield first + chance.randrange(length // MS) * MS


@pytest.fixture
def instants(mongopatterns_db: Any) -> Any:
    """Provide a collection, and a function that stores instants in it, in place of those that were there."""

    def store(dates: list[dt.datetime]) -> Any:
        mongopatterns_db.instants.delete_many({})
        mongopatterns_db.instants.insert_many([{"at": each} for each in dates])
        return mongopatterns_db.instants

    return store


def test_a_stretch_lies_in_one_bucket_in_every_zone(instants: Any) -> None:
    """In every zone that the server knows, around clock changes: an instant is in the bucket of its stretch."""
    kinds: dict[Any, list[str]] = {}
    for zone in sorted(zoneinfo.available_timezones() - {"localtime", "posixrules", "Factory"} - MISTAKEN):
        kinds.setdefault((tuple(changes(zone)), zone in BY_MINUTES, zone == "UTC"), []).append(zone)
    unknown = []
    for names in kinds.values():
        collection = instants(list(near(names[0], CHANGES)))
        for zone in names:
            differ = [{"$ne": [start(slot("$at", unit, zone), unit, zone), start("$at", unit, zone)]} for unit in UNITS]
            try:
                found = list(collection.aggregate([{"$match": {"$expr": {"$or": differ}}}]))
            except OperationFailure as error:
                if error.code != UNKNOWN_ZONE:
                    raise
                unknown.append(zone)
                continue
            assert found == [], zone
    assert len(unknown) < 10, unknown


def test_what_is_no_date_is_in_no_stretch(mongopatterns_db: Any) -> None:
    """Of other values, and of nothing, there is no stretch; a date of any age is in one."""
    values = [None, 5, "2024-01-01", True, [LAST], {"a": LAST}, QUARTERS, QUARTERS - MS, OLDEST, LAST]
    mongopatterns_db.values.insert_many([{"at": each} for each in values])
    mongopatterns_db.values.insert_one({})
    found = mongopatterns_db.values.aggregate([{"$project": {"_id": 0, "s": slot("$at", "day", "Europe/Berlin")}}])
    given = [None] * 6 + [QUARTERS, QUARTERS - MS, OLDEST, LAST, None]
    assert [each["s"] for each in found] == given


def offsets(collection: Any, zone: str) -> dict[dt.datetime, int]:
    """Ask the server how far the clocks of a zone are from UTC, in minutes, at the stored instants."""
    local = {"$dateToString": {"date": "$at", "timezone": zone, "format": "%Z"}}
    return {each["at"]: int(each["z"]) for each in collection.aggregate([{"$project": {"at": 1, "z": local}}])}


def agree(collection: Any, zone: str) -> bool:
    """Tell whether both editions of the rules say the same of all stored instants."""
    ours = ZoneInfo(zone)
    return all(
        (at.astimezone(ours).utcoffset() or 0 * MS) == minutes * MINUTE
        for at, minutes in offsets(collection, zone).items()
    )


@pytest.mark.parametrize("zone", ZONES)
def test_what_is_filled_is_what_the_server_finds(instants: Any, zone: str) -> None:
    """Where documents are everywhere, the buckets of the server are those that are filled where there are none."""
    chance = random.Random(zone)
    compared = left_out = 0
    shifts = chance.sample(changes(zone), min(4, len(changes(zone)))) or [dt.datetime(2024, 2, 29, 12, tzinfo=UTC)]
    for shift in [*shifts, dt.datetime(1999, 12, 31, 23, 30, tzinfo=UTC), dt.datetime(1975, 3, 1, tzinfo=UTC)]:
        for length, step, units in ((3 * DAY, QUARTER, ["hour", "day"]), (400 * DAY, 7 * HOUR, UNITS[1:])):
            first = shift - length // 2 + chance.randrange(HOUR // MS) * MS
            dates = [*(first + n * step for n in range(length // step)), first + length]
            dates += [change for change in changes(zone) if first <= change <= first + length]
            collection = instants(dates)
            if not agree(collection, zone):
                left_out += 1
                continue
            for unit in units:
                found = collection.aggregate([{"$group": {"_id": start("$at", unit, zone)}}, {"$sort": {"_id": 1}}])
                starts = [each["_id"] for each in found]
                assert fill([], unit, zone, Span(first, first + length)) == starts, (unit, shift)
                kept = sorted(chance.sample(starts, len(starts) // 2))
                assert fill(kept, unit, zone, Span(first, first + length)) == starts, (unit, shift)
                compared += 1
    assert compared > left_out


@pytest.mark.parametrize("zone", ZONES)
def test_an_hour_begins_at_the_full_hour_of_the_local_clock(instants: Any, zone: str) -> None:
    """Hours are whole hours of the local clock, before and after every shift: no bucket has a start between them."""
    collection = instants(list(near(zone)))
    minutes = {"$minute": {"date": start("$at", "hour", zone), "timezone": zone}}
    shifted = list(collection.aggregate([{"$match": {"$expr": {"$ne": [minutes, 0]}}}]))
    if zone not in ("Australia/Lord_Howe", "Asia/Kathmandu", "America/St_Johns"):  # (they shift by parts of an hour)
        assert [each for each in shifted if each["at"] >= QUARTERS] == []
    for unit in UNITS[1:]:
        plain = {"$dateTrunc": {"date": "$at", "unit": unit, "timezone": zone, "startOfWeek": "monday"}}
        if unit != "week":
            del plain["$dateTrunc"]["startOfWeek"]
        assert list(collection.aggregate([{"$match": {"$expr": {"$ne": [plain, start("$at", unit, zone)]}}}])) == []
