"""Buckets of time in memory: stretches that no clock change parts, spans of filters, and buckets without documents."""

from __future__ import annotations

import datetime as dt
import importlib.resources
import zoneinfo
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from mongopatterns.reports import _times
from mongopatterns.reports._times import BY_MINUTES, QUARTERS, Span, TooManyBuckets, fill, slot, start

UTC = dt.timezone.utc
MS = dt.timedelta(milliseconds=1)
MINUTE, QUARTER, HOUR = dt.timedelta(minutes=1), dt.timedelta(minutes=15), dt.timedelta(hours=1)
WEEK = dt.timedelta(days=7)
UNTIL = dt.datetime(2038, 1, 1, tzinfo=UTC)


def at(text: str, zone: str = "UTC") -> dt.datetime:
    """Read a local time, the first of two, as an instant in UTC."""
    return dt.datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).astimezone(UTC)


# Stretches that no clock change parts ----------------------------------------------------------------------------


def rules(zone: str) -> bytes:
    """Return what is known of a zone, which is equal for its other names."""
    for folder in zoneinfo.TZPATH:
        if (path := Path(folder, zone)).is_file():
            return path.read_bytes()
    return importlib.resources.files("tzdata").joinpath("zoneinfo", zone).read_bytes()


@cache
def kinds() -> Mapping[bytes, list[str]]:
    """Return the names of all zones, those with equal rules together."""
    found: dict[bytes, list[str]] = {}
    for zone in sorted(zoneinfo.available_timezones() - {"localtime", "posixrules", "Factory"}):
        found.setdefault(rules(zone), []).append(zone)
    return found


def offset(zone: ZoneInfo, instant: dt.datetime) -> dt.timedelta:
    return instant.astimezone(zone).utcoffset() or dt.timedelta(0)


@cache
def changes(name: str) -> list[tuple[dt.datetime, dt.timedelta, dt.timedelta]]:
    """Return the clock changes of a zone since 1980: the instant, and the offsets before and after it."""
    zone = ZoneInfo(name)
    found = []
    instant, known = QUARTERS, offset(zone, QUARTERS)
    while instant < UNTIL:
        later = instant + WEEK
        if (then := offset(zone, later)) != known:
            low, high = instant, later
            while high - low > dt.timedelta(seconds=1):
                middle = low + (high - low) // 2
                middle -= dt.timedelta(microseconds=middle.microsecond)
                low, high = (middle, high) if offset(zone, middle) == known else (low, middle)
            found.append((high, known, offset(zone, high)))
            later, then = high, offset(zone, high)
        instant, known = later, then
    return found


def even(instant: dt.datetime, length: dt.timedelta) -> bool:
    return (instant - QUARTERS) % length == dt.timedelta(0)


def is_even(name: str, length: dt.timedelta) -> bool:
    """Tell whether all clocks of a zone differ from UTC by whole lengths, and change at whole lengths."""
    zero = dt.timedelta(0)
    return offset(ZoneInfo(name), QUARTERS) % length == zero and all(
        even(instant, length) and after % length == zero for instant, _, after in changes(name)
    )


def test_the_changes_are_found() -> None:
    """The search for clock changes finds those that everybody knows, to the second."""
    berlin = [instant for instant, *_ in changes("Europe/Berlin") if instant.year == 2024]
    assert berlin == [at("2024-03-31T01:00"), at("2024-10-27T01:00")]
    half = {after - before for _, before, after in changes("Australia/Lord_Howe") if before != after}
    assert dt.timedelta(minutes=30) in half
    assert changes("Asia/Kolkata") == []
    assert len(kinds()) > 200


def test_no_quarter_of_an_hour_lies_in_two_buckets() -> None:
    """Since 1980 no zone has changed its clocks but at a quarter of an hour, to a quarter: those aside that are known.

    A bucket begins at a full hour of the local clock or later at a clock change, so a stretch lies in one bucket.
    """
    odd = {name for names in kinds().values() if not is_even(names[0], QUARTER) for name in names}
    assert odd == BY_MINUTES & zoneinfo.available_timezones()
    assert all(is_even(name, MINUTE) for name in odd)


def test_the_zones_by_minutes_are_zones() -> None:
    """The zones that are grouped by the minute are there: a name that is written wrongly would be of no use."""
    for name in BY_MINUTES:
        assert ZoneInfo(name)


@pytest.mark.parametrize(
    ("zone", "unit", "length"),
    [
        ("UTC", "hour", HOUR),
        ("UTC", "day", 24 * HOUR),
        ("UTC", "year", 24 * HOUR),
        ("Etc/UTC", "day", QUARTER),
        ("Europe/Berlin", "hour", QUARTER),
        ("Europe/Berlin", "month", QUARTER),
        ("America/St_Johns", "day", MINUTE),
    ],
)
def test_the_length_of_a_stretch(zone: str, unit: str, length: dt.timedelta) -> None:
    """Documents are first grouped by what no clock change parts: a day in UTC, or less where clocks change."""
    [is_date, within, otherwise] = slot("$at", unit, zone)["$cond"]
    assert (is_date, otherwise) == ({"$eq": [{"$type": "$at"}, "date"]}, None)
    [recent, begun, older] = within["$cond"]
    assert (recent, older) == ({"$gte": ["$at", QUARTERS]}, "$at")
    assert begun == {"$subtract": ["$at", {"$mod": [{"$toLong": "$at"}, length // MS]}]}


def test_weeks_begin_on_monday() -> None:
    """The server's own week begins on Sunday."""
    assert start("$at", "week", "UTC")["$dateTrunc"]["startOfWeek"] == "monday"
    assert "startOfWeek" not in start("$at", "day", "UTC")["$dateTrunc"]


# What a filter lets through ----------------------------------------------------------------------------------------

NOON = at("2024-03-04T12:00")


@pytest.mark.parametrize(
    ("filters", "first", "last"),
    [
        ([], None, None),
        ([{}], None, None),
        ([{"at": {"$gte": NOON}}], NOON, None),
        ([{"at": {"$gt": NOON}}], NOON + MS, None),
        ([{"at": {"$lte": NOON}}], None, NOON),
        ([{"at": {"$lt": NOON}}], None, NOON - MS),
        ([{"at": NOON}], NOON, NOON),
        ([{"at": {"$eq": NOON}}], NOON, NOON),
        (
            [{"at": {"$gte": NOON}}, {"at": {"$gte": NOON + HOUR, "$lt": NOON + 2 * HOUR}}],
            NOON + HOUR,
            NOON + 2 * HOUR - MS,
        ),
        ([{"$and": [{"at": {"$gte": NOON}}, {"$and": [{"at": {"$lte": NOON + HOUR}}]}]}], NOON, NOON + HOUR),
        ([{"at": {"$gte": NOON.replace(tzinfo=None)}}], NOON, None),
        ([{"at": {"$gte": NOON.astimezone(ZoneInfo("Asia/Tokyo"))}}], NOON, None),
        ([{"at": {"$gte": NOON + dt.timedelta(microseconds=1999)}}], NOON + MS, None),
        ([{"other": {"$gte": NOON}}], None, None),
        ([{"at.x": {"$gte": NOON}}], None, None),
        ([{"at": {"$ne": NOON, "$exists": True}}], None, None),
        ([{"at": {"$gte": 5}}], None, None),
        ([{"at": {"$not": {"$lt": NOON}}}], None, None),
        ([{"$or": [{"at": {"$gte": NOON}}]}], None, None),
        ([{"$nor": [{"at": {"$gte": NOON}}]}], None, None),
    ],
)
def test_the_span_of_filters(filters: list[dict[str, Any]], first: Any, last: Any) -> None:
    """Bounds are read at the top of filters and within `$and`, to the millisecond; nothing else bounds a series."""
    assert Span.of("at", *filters) == Span(first, last)


# Buckets without documents -----------------------------------------------------------------------------------------


def filled(unit: str, zone: str, *bounds: str, found: list[dt.datetime] | None = None) -> list[str]:
    """Return the buckets of a span, given in local times, in UTC."""
    first, last = (at(bound, zone) if bound else None for bound in bounds)
    return [f"{each:%Y-%m-%dT%H:%M}" for each in fill(found or [], unit, zone, Span(first, last))]


def test_nothing_is_filled_without_two_ends() -> None:
    """Where there are no documents, and no filter says both from when and until when, there are no buckets."""
    for bounds in (("", ""), ("2024-01-01", ""), ("", "2024-01-01"), ("2024-01-02", "2024-01-01")):
        assert filled("day", "UTC", *bounds) == []


def test_a_span_that_is_empty_fills_nothing() -> None:
    """Bounds that nothing lies between leave what was found as it is."""
    assert fill([NOON], "day", "UTC", Span(NOON, NOON - MS)) == [NOON]


def test_buckets_between_documents_are_filled() -> None:
    """Without bounds, the series runs from the first to the last bucket that has documents."""
    found = [at("2024-02-28T00:00"), at("2024-03-02T00:00")]
    assert [each.day for each in fill(found, "day", "UTC", Span())] == [28, 29, 1, 2]
    assert [each.month for each in fill([at("2023-11-01T00:00"), at("2024-02-01T00:00")], "month", "UTC", Span())] == [
        11, 12, 1, 2,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("unit", "zone", "first", "last", "buckets"),
    [
        (
            "day",
            "UTC",
            "2024-02-28T23:59",
            "2024-03-01T00:00",
            ["2024-02-28T00:00", "2024-02-29T00:00", "2024-03-01T00:00"],
        ),
        ("week", "UTC", "2024-03-03T23:59", "2024-03-04T00:00", ["2024-02-26T00:00", "2024-03-04T00:00"]),
        (
            "quarter",
            "UTC",
            "2023-12-31T23:59",
            "2024-04-01T00:00",
            ["2023-10-01T00:00", "2024-01-01T00:00", "2024-04-01T00:00"],
        ),
        ("year", "UTC", "1969-06-01", "1971-01-01", ["1969-01-01T00:00", "1970-01-01T00:00", "1971-01-01T00:00"]),
        # A day of 23 hours, and one of 25.
        (
            "day",
            "Europe/Berlin",
            "2024-03-30",
            "2024-04-01",
            ["2024-03-29T23:00", "2024-03-30T23:00", "2024-03-31T22:00"],
        ),
        (
            "day",
            "Europe/Berlin",
            "2024-10-26",
            "2024-10-28",
            ["2024-10-25T22:00", "2024-10-26T22:00", "2024-10-27T23:00"],
        ),
        # The hour that is skipped, and the one that comes twice.
        ("hour", "Europe/Berlin", "2024-03-31T01:30", "2024-03-31T03:30", ["2024-03-31T00:00", "2024-03-31T01:00"]),
        (
            "hour",
            "Europe/Berlin",
            "2024-10-27T01:30",
            "2024-10-27T03:30",
            ["2024-10-26T23:00", "2024-10-27T00:00", "2024-10-27T01:00", "2024-10-27T02:00"],
        ),
        # A midnight that is skipped: the day begins at one. A midnight that comes twice: it begins at the second.
        (
            "day",
            "America/Santiago",
            "2023-09-02",
            "2023-09-04",
            ["2023-09-02T04:00", "2023-09-03T04:00", "2023-09-04T03:00"],
        ),
        (
            "day",
            "America/Havana",
            "2023-11-04",
            "2023-11-06",
            ["2023-11-04T04:00", "2023-11-05T05:00", "2023-11-06T05:00"],
        ),
        (
            "day",
            "Atlantic/Azores",
            "2023-10-28",
            "2023-10-30",
            ["2023-10-28T00:00", "2023-10-29T01:00", "2023-10-30T01:00"],
        ),
        # A day that there was not.
        ("day", "Pacific/Apia", "2011-12-29", "2011-12-31", ["2011-12-29T10:00", "2011-12-30T10:00"]),
        # A zone that is not at whole hours.
        ("hour", "Asia/Kathmandu", "2024-01-01T00:10", "2024-01-01T01:00", ["2023-12-31T18:15", "2023-12-31T19:15"]),
    ],
)
def test_buckets_of_a_span(unit: str, zone: str, first: str, last: str, buckets: list[str]) -> None:
    """The bounds of a filter are filled up to, each in the bucket that holds it, along the calendar of the zone."""
    assert filled(unit, zone, first, last) == buckets


def test_a_shift_by_half_an_hour_parts_an_hour() -> None:
    """Where clocks shift by half an hour, the hour of the shift is two buckets; no bucket is lost, none comes twice."""
    zone = "Australia/Lord_Howe"
    shift = next(instant for instant, *_ in changes(zone) if instant.year == 2023)
    starts = fill([], "hour", zone, Span(shift - 3 * HOUR, shift + 3 * HOUR))
    assert starts == sorted(set(starts))
    every = {_times._start_of(shift + n * MINUTE, "hour", zone) for n in range(-180, 181)}
    assert set(starts) == every


@pytest.mark.parametrize("unit", ["hour", "day", "week", "month", "quarter", "year"])
@pytest.mark.parametrize(
    "zone",
    ["UTC", "Europe/Berlin", "America/New_York", "America/Havana", "Atlantic/Azores", "Australia/Lord_Howe",
     "Asia/Kathmandu", "America/St_Johns", "America/Santiago", "Africa/Casablanca", "Antarctica/Troll", "Pacific/Apia"],
)  # fmt: skip
def test_what_is_filled_is_what_holds_the_instants_of_a_span(unit: str, zone: str) -> None:
    """Around every clock change: the filled buckets are those that some instant of the span belongs to, in order."""
    for shift, *_ in changes(zone)[-30:] or [(NOON, None, None)]:
        for first, last in ((shift - 30 * HOUR, shift + 30 * HOUR), (shift, shift), (shift - HOUR, shift + HOUR)):
            steps = int((last - first) / QUARTER) + 1
            every = {_times._start_of(first + n * QUARTER, unit, zone) for n in range(steps)} | {
                _times._start_of(last, unit, zone)
            }
            assert fill([], unit, zone, Span(first, last)) == sorted(every), (shift, first)


def test_buckets_that_have_documents_stay_as_they_are() -> None:
    """Where the server's edition of the rules puts a bucket elsewhere, its start is kept, and no other one joins it."""
    theirs = at("2024-01-02T01:00")  # (in our edition the day begins at midnight)
    starts = fill([theirs], "day", "UTC", Span(at("2024-01-01T00:00"), at("2024-01-03T05:00")))
    assert starts == [at("2024-01-01T00:00"), theirs, at("2024-01-03T00:00")]


def test_the_number_of_buckets_is_bounded() -> None:
    """As many buckets as allowed are filled; one more is refused, and does not run for hours."""
    first = at("2000-01-01T00:00")
    most = _times.MAX_BUCKETS
    assert len(fill([], "hour", "UTC", Span(first, first + (most - 1) * HOUR))) == most
    for last in (first + most * HOUR, first.replace(year=9000)):
        with pytest.raises(TooManyBuckets):
            fill([], "hour", "UTC", Span(first, last))


ENDS = [
    Span(dt.datetime.min.replace(tzinfo=UTC), at("0001-02-01T00:00")),
    Span(at("9999-11-01T00:00"), dt.datetime.max.replace(tzinfo=UTC)),
]


@pytest.mark.parametrize("zone", ["UTC", "Asia/Tokyo", "America/New_York"])
@pytest.mark.parametrize("unit", ["hour", "day", "week", "month", "quarter", "year"])
@pytest.mark.parametrize("span", ENDS, ids=["first", "last"])
def test_the_ends_of_the_calendar(span: Span, unit: str, zone: str) -> None:
    """Bounds at the ends of the calendar are filled; only buckets that lie outside of it are refused."""
    outside = False
    starts: list[dt.datetime] = []
    try:
        starts = fill([], unit, zone, span)
    except TooManyBuckets:
        raise
    except OverflowError:
        outside = True
    assert starts == sorted(starts)
    assert outside is not bool(starts)
    assert not outside or zone != "UTC"


def test_filters_at_the_ends_of_the_calendar() -> None:
    """What a filter lets through has no bound where the calendar has none; other bounds stay."""
    west = dt.timezone(-3 * HOUR)
    first = at("2026-01-01T00:00")
    end, begin = dt.datetime.max.replace(tzinfo=UTC), dt.datetime.min.replace(tzinfo=UTC)
    for test in ({"$lte": end.replace(tzinfo=west)}, {"$gt": end}, {"$lt": begin}):
        assert Span.of("at", {"at": {"$gte": first, **test}}) == Span(first, None)
