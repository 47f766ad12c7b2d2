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
    "later_end",
    "window_end",
    "windows_apart",
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
    if unit == "hour":  # hours are 3,600 s long whatever the clocks on the wall do
        return {"$add": [{"$dateTrunc": {"date": date, "unit": unit, "timezone": zone}}, _HOUR_MS]}
    # One unit on, then back to the start of that window: adding a unit to a *start* would be wrong where a day
    # begins at 01:00 because midnight is skipped.
    following = {"$dateAdd": {"startDate": date, "unit": unit, "amount": 1, "timezone": zone}}
    return {"$dateTrunc": {"date": following, "unit": unit, "timezone": zone, **_week(unit)}}


def windows_between(end: object, date: object, unit: Unit, zone: str) -> dict[str, Any]:
    """Build the expression for the number of whole windows that passed between `end` and the window of `date`."""
    if unit == "hour":  # `$dateDiff` counts 14 for 13.8 hours in zones that shift by half an hour
        passed: dict[str, Any] = {"$toLong": {"$divide": [{"$subtract": [date, end]}, _HOUR_MS]}}
    else:
        passed = {"$dateDiff": {"startDate": end, "endDate": date, "unit": unit, "timezone": zone, **_week(unit)}}
    return {"$max": [passed, 0]}


# In memory ---------------------------------------------------------------------------------------------------


def end_of(now: dt.datetime, unit: Unit, zone: ZoneInfo) -> dt.datetime:
    """Return the end of the window that holds `now`."""
    local = now.astimezone(zone)
    if unit == "hour":
        return (
            now
            + dt.timedelta(hours=1)
            - dt.timedelta(minutes=local.minute, seconds=local.second, microseconds=local.microsecond)
        )
    first = {"day": 0, "week": local.weekday(), "month": local.day - 1}[unit]
    return later_end(local.replace(hour=0, minute=0, second=0, microsecond=0) - dt.timedelta(days=first), unit, zone, 1)


def later_end(end: dt.datetime, unit: Unit, zone: ZoneInfo, steps: int) -> dt.datetime:
    """Go `steps` windows on from a boundary."""
    if unit == "hour":
        return end + dt.timedelta(hours=steps)
    # The middle of the boundary's day: a clock change near midnight, or another edition of the zone's rules,
    # does not take it to another day.
    noon = (end + dt.timedelta(hours=12)).astimezone(zone)
    if unit == "month":
        months = noon.year * 12 + noon.month - 1 + steps
        local = noon.replace(year=months // 12, month=months % 12 + 1)
    else:
        local = noon + dt.timedelta(days=steps * (7 if unit == "week" else 1))
    midnight = local.replace(hour=0, minute=0, second=0, microsecond=0, fold=0)
    return midnight.astimezone(dt.timezone.utc)


def windows_apart(end: dt.datetime, later: dt.datetime, unit: Unit, zone: ZoneInfo) -> int:
    """Count the windows between two boundaries."""
    if unit == "month":
        one, other = ((boundary + dt.timedelta(hours=12)).astimezone(zone) for boundary in (end, later))
        return (other.year - one.year) * 12 + other.month - one.month
    length = {"hour": 1, "day": 24, "week": 168}[unit]
    return round((later - end) / dt.timedelta(hours=length))
