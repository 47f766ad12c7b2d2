"""Buckets of time: as expressions for the server, and the empty ones, in memory. Pure.

The server says which bucket an instant belongs to; here it is only said which buckets had none. The two may have
different editions of the zones' rules, so buckets are told apart by their local date, and hours by their instant.

To ask the server for the local date of every document is slow: most of what such a report costs. So documents are
grouped first by a stretch of time that no clock change parts (`slot`), and the stretches then by the calendar.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final
from zoneinfo import ZoneInfo

from mongopatterns.windows import day_of, midnight

MAX_BUCKETS: Final = 50_000
"""How many buckets a branch gives at most, empty ones included."""

_MINUTE_MS: Final = 60_000
_HOUR_MS: Final = 60 * _MINUTE_MS
_DAY_MS: Final = 24 * _HOUR_MS
_UTC: Final = dt.timezone.utc
_MONTHS: Final = {"month": 1, "quarter": 3, "year": 12}

QUARTERS: Final = dt.datetime(1980, 1, 1, tzinfo=_UTC)
"""Since then all clocks have differed from UTC by quarters of an hour, and changed at those, but for `BY_MINUTES`."""

BY_MINUTES: Final = frozenset(
    {
        "America/Goose_Bay",
        "America/Moncton",
        "America/St_Johns",
        "Antarctica/Casey",
        "Asia/Gaza",
        "Asia/Hebron",
        "Canada/Newfoundland",
    }
)
"""Zones whose clocks have changed at other minutes, such as one past midnight."""


def slot(date: str, unit: str, zone: str) -> dict[str, Any]:
    """Build the start of the stretch of time that a value belongs to; null if it is no date.

    No stretch lies in two buckets. What is older than 1980 is a stretch by itself.
    """
    length = _MINUTE_MS if zone in BY_MINUTES else 15 * _MINUTE_MS
    if zone == "UTC":
        length = _HOUR_MS if unit == "hour" else _DAY_MS
    begun = {"$subtract": [date, {"$mod": [{"$toLong": date}, length]}]}
    is_date = {"$eq": [{"$type": date}, "date"]}
    return {"$cond": [is_date, {"$cond": [{"$gte": [date, QUARTERS]}, begun, date]}, None]}


def start(date: object, unit: str, zone: str) -> dict[str, Any]:
    """Build the start of the bucket that holds a date."""
    if unit == "hour":
        # From the minutes on the local clock: `$dateTrunc` counts hours from the year 2000, and is half an hour off in
        # zones that have shifted by half an hour since.
        parts = {"$dateToParts": {"date": date, "timezone": zone}}
        past = {"$add": [{"$multiply": ["$$parts.minute", 60_000]}, {"$multiply": ["$$parts.second", 1000]}]}
        whole = {"$subtract": [date, {"$add": [past, "$$parts.millisecond"]}]}
        return {"$let": {"vars": {"parts": parts}, "in": whole}}
    week = {"startOfWeek": "monday"} if unit == "week" else {}
    return {"$dateTrunc": {"date": date, "unit": unit, "timezone": zone, **week}}


class TooManyBuckets(OverflowError):
    """More buckets were asked for than a branch may give."""


@dataclass(frozen=True)
class Span:
    """The instants that a filter lets through.

    Attributes:
        first: The earliest; None if there is none.
        last: The latest; None if there is none.
    """

    first: dt.datetime | None = None
    last: dt.datetime | None = None

    @classmethod
    def of(cls, path: str, *filters: Mapping[str, Any]) -> Span:
        """Read it from what filters say of a path, at their top or within `$and`."""
        span = cls()
        for test in (test for each in filters for test in _tests(path, each)):
            span = span._narrowed(test)
        return span

    def _narrowed(self, test: Any) -> Span:
        span = self
        for operator, value in test.items() if isinstance(test, Mapping) else [("$eq", test)]:
            if isinstance(value, dt.datetime):
                with suppress(OverflowError):  # (where Python's calendar ends there is no bound)
                    span = span._bounded(operator, value)
        return span

    def _bounded(self, operator: str, value: dt.datetime) -> Span:
        first, last = self.first, self.last
        # (dates are whole milliseconds to the server; a naive one is in UTC to the driver)
        instant = value.replace(tzinfo=_UTC) if value.tzinfo is None else value.astimezone(_UTC)
        instant = instant.replace(microsecond=instant.microsecond // 1000 * 1000)
        millisecond = dt.timedelta(milliseconds=1)
        if operator in ("$gte", "$gt", "$eq"):
            least = instant + millisecond if operator == "$gt" else instant
            first = least if first is None else max(first, least)
        if operator in ("$lte", "$lt", "$eq"):
            most = instant - millisecond if operator == "$lt" else instant
            last = most if last is None else min(last, most)
        return Span(first, last)


def _tests(path: str, where: Mapping[str, Any]) -> Iterator[Any]:
    for name, test in where.items():
        if name == path:
            yield test
        elif name == "$and":
            for each in test:
                yield from _tests(path, each)


def fill(found: list[dt.datetime], unit: str, zone: str, span: Span) -> list[dt.datetime]:
    """Return the starts of all buckets, in order, from the first to the last one that is found or lies in the span.

    Args:
        found: The starts of those that have documents, in order: they are given as they are.
        unit: How long a bucket is.
        zone: The zone.
        span: What the filter lets through.

    Raises:
        TooManyBuckets: If they are more than `MAX_BUCKETS`.
        OverflowError: If one of them lies outside of Python's calendar.
    """
    bounds = [*found[:1], *found[-1:]]
    if span.first is not None and span.last is not None and span.first > span.last:
        return found
    bounds += [_start_of(bound, unit, zone) for bound in (span.first, span.last) if bound is not None]
    if not bounds or (not found and (span.first is None or span.last is None)):
        return found
    first, last = min(bounds), max(bounds)
    known = {_label(bucket, unit, zone): bucket for bucket in found}
    starts: dict[Any, dt.datetime] = {}
    for bucket in _starts(first, last, unit, zone):
        label = _label(bucket, unit, zone)
        starts[label] = known.get(label, bucket)
        if len(starts) > MAX_BUCKETS:
            raise TooManyBuckets
    starts.update(known)
    return [starts[label] for label in sorted(starts)]


def _label(bucket: dt.datetime, unit: str, zone: str) -> Any:
    """Name a bucket by what both editions of the rules agree on: its local date, or the instant of an hour."""
    return bucket if unit == "hour" else day_of(bucket, zone)


def _starts(first: dt.datetime, last: dt.datetime, unit: str, zone: str) -> Iterator[dt.datetime]:
    """Give the starts of the buckets from one to another."""
    if unit == "hour":
        half = dt.timedelta(minutes=30)  # (an hour is parted where a zone shifts by half an hour)
        # (where it shifts, an instant that names a bucket may lie in the one before)
        steps = (last - first) // half + 1
        ends = (dt.datetime.max.replace(tzinfo=_UTC) - first) // half
        for step in range(min(steps, ends) + 1):
            if first <= (bucket := _start_of(first + step * half, unit, zone)) <= last:
                yield bucket
        return
    day, until = day_of(first, zone), day_of(last, zone)
    while day <= until:
        yield midnight(day, zone)
        try:
            day = _following(day, unit)
        except (ValueError, OverflowError):  # (the calendar ends)
            return


def _following(day: dt.date, unit: str) -> dt.date:
    if unit in ("day", "week"):
        return day + dt.timedelta(days=7 if unit == "week" else 1)
    months = day.year * 12 + day.month - 1 + _MONTHS[unit]
    return dt.date(months // 12, months % 12 + 1, 1)


def _start_of(instant: dt.datetime, unit: str, zone: str) -> dt.datetime:
    """Return the start of the bucket that holds an instant, as `start` does."""
    local = instant.astimezone(ZoneInfo(zone))
    if unit == "hour":
        return instant - dt.timedelta(minutes=local.minute, seconds=local.second, microseconds=local.microsecond)
    day = local.date()
    if unit == "week":
        day -= dt.timedelta(days=day.weekday())
    elif unit != "day":
        day = day.replace(month=(day.month - 1) // _MONTHS[unit] * _MONTHS[unit] + 1, day=1)
    return midnight(day, zone)
