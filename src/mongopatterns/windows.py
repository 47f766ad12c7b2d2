"""Calendar windows in an IANA zone: on the server as expressions, and in memory. Pure.

The expressions decide: the server's clock and the server's edition of the zone rules say which window an instant
belongs to. The functions in memory read what was decided, and date what no server was asked about; they agree
with the expressions wherever the two editions of the rules do.
"""

from __future__ import annotations

import datetime as dt
from typing import Any, Literal, TypeAlias
from zoneinfo import ZoneInfo

from mongopatterns.errors import UsageError

__all__ = [
    "Unit",
    "check_zone",
    "end_of",
    "idle_windows",
    "later_end",
    "window_end",
    "windows_between",
]

Unit: TypeAlias = Literal["hour", "day", "week", "month"]
"""The calendar windows."""


def check_zone(argument: str, name: object) -> str:
    """Return `name` if it is an IANA time zone known here.

    Raises:
        UsageError: If it is not.
    """
    try:
        if isinstance(name, str) and name and ZoneInfo(name):
            return name
    except (LookupError, ValueError, OSError):  # unknown; not a key at all; a directory of the database
        pass
    raise UsageError(argument, f"{name!r} is not an IANA time zone, such as 'UTC' or 'Europe/Berlin'")


# On the server -----------------------------------------------------------------------------------------------

_HOUR_MS = 3_600_000


def _week(unit: Unit) -> dict[str, str]:
    return {"startOfWeek": "monday"} if unit == "week" else {}  # the server's own default is Sunday


def window_end(date: object, unit: Unit, zone: str) -> dict[str, Any]:
    """Build the expression for the end of the calendar window that holds `date`: always later than `date`.

    The server's time zone database decides, not this process's: the two may be years apart, and a window must
    not end at another instant for every client. Where a midnight comes twice, the day begins at the second one,
    and the hour before it counts as the new day already.
    """
    if unit == "hour":
        # From the minutes on the local clock: `$dateTrunc` counts hours from the year 2000, and is half an hour
        # off in zones that have shifted by half an hour since (Lord Howe, Norfolk).
        minutes = {"$subtract": [60, {"$minute": {"date": date, "timezone": zone}}]}
        return {"$add": [{"$dateTrunc": {"date": date, "unit": "minute"}}, {"$multiply": [minutes, 60_000]}]}
    # One unit on, then back to the start of that window: adding a unit to a *start* would be wrong where a day
    # begins at 01:00 because midnight is skipped.
    following = {"$dateAdd": {"startDate": date, "unit": unit, "amount": 1, "timezone": zone}}
    return {"$dateTrunc": {"date": following, "unit": unit, "timezone": zone, **_week(unit)}}


def windows_between(end: object, date: object, unit: Unit, zone: str) -> dict[str, Any]:
    """Build the expression for the number of whole windows between the end of one and the one that holds `date`."""
    if unit == "hour":  # `$dateDiff` counts 14 for 13.8 hours in zones that shift by half an hour
        hours = {"$divide": [{"$subtract": [window_end(date, unit, zone), end]}, _HOUR_MS]}
        return {"$max": [{"$subtract": [{"$toLong": hours}, 1]}, 0]}
    # From the middle of the boundary's day: it may be the midnight of a zone that the spec had before.
    middle = {"$add": [end, 12 * _HOUR_MS]}
    passed = {"$dateDiff": {"startDate": middle, "endDate": date, "unit": unit, "timezone": zone, **_week(unit)}}
    return {"$max": [passed, 0]}


# In memory ---------------------------------------------------------------------------------------------------


def end_of(now: dt.datetime, unit: Unit, zone: ZoneInfo) -> dt.datetime:
    """Return the end of the window that holds `now`, as `window_end` does."""
    local = now.astimezone(zone)
    if unit == "hour":
        past = dt.timedelta(minutes=local.minute, seconds=local.second, microseconds=local.microsecond)
        return now - past + dt.timedelta(hours=1)
    return _midnight(_next_first_day(local.date(), unit, 1), zone)


def later_end(end: dt.datetime, unit: Unit, zone: ZoneInfo, steps: int) -> dt.datetime:
    """Go `steps` windows on from the end of one.

    Raises:
        OverflowError: If that is past the year 9999. (So does `ValueError`.)
    """
    if unit == "hour":
        return end + dt.timedelta(hours=steps)
    return _midnight(_next_first_day(_day_of(end, zone), unit, steps), zone)


def idle_windows(end: dt.datetime, new_end: dt.datetime, now: dt.datetime, unit: Unit, zone: ZoneInfo) -> int:
    """Count the whole windows between two, as `windows_between` does."""
    if unit == "hour":
        return max(0, (new_end - end) // dt.timedelta(hours=1) - 1)
    first, today = _day_of(end, zone), now.astimezone(zone).date()
    if unit == "month":
        return max(0, (today.year - first.year) * 12 + today.month - first.month)
    if unit == "week":
        return max(0, ((today - dt.timedelta(today.weekday())) - (first - dt.timedelta(first.weekday()))).days // 7)
    return max(0, (today - first).days)


def _day_of(end: dt.datetime, zone: ZoneInfo) -> dt.date:
    """Return the day that begins at a boundary: by its middle, which no clock change moves to another day."""
    return (end + dt.timedelta(hours=12)).astimezone(zone).date()


def _next_first_day(day: dt.date, unit: Unit, steps: int) -> dt.date:
    """Return the first day of the window that is `steps` on from the one that holds `day`."""
    if unit == "month":
        months = day.year * 12 + day.month - 1 + steps
        return dt.date(months // 12, months % 12 + 1, 1)
    if unit == "week":
        return day + dt.timedelta(days=7 * steps - day.weekday())
    return day + dt.timedelta(days=steps)


def _midnight(day: dt.date, zone: ZoneInfo) -> dt.datetime:
    """Return the start of a day: the second midnight where it comes twice, the end of the gap where it is skipped."""
    midnights = (dt.datetime(day.year, day.month, day.day, tzinfo=zone, fold=fold) for fold in (0, 1))
    return max(midnight.astimezone(dt.timezone.utc) for midnight in midnights)
