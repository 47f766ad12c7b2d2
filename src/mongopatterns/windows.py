"""Windows of time: on the server as expressions, and in memory. Pure.

The expressions decide: the server's clock and the server's edition of the zone rules say which window an instant
belongs to. The methods in memory read what was decided, and date what no server was asked about; they agree
with the expressions wherever the two editions of the rules do.

Three kinds of windows follow one another in three ways, and a `Cycle` is one of them: `Calendar` (from midnight
to midnight in an IANA zone), `Fixed` (a length of time) and `Anniversary` (a day, week or month from the first
use, at the same local time).
"""

from __future__ import annotations

import calendar
import datetime as dt
import re
from dataclasses import dataclass
from typing import Any, Final, Literal, Protocol, TypeAlias
from zoneinfo import ZoneInfo

from mongopatterns.errors import UsageError

__all__ = [
    "Align",
    "Anniversary",
    "Calendar",
    "Cycle",
    "Fixed",
    "Unit",
    "check_length",
    "check_zone",
    "day_of",
    "length_name",
    "midnight",
    "nominal_seconds",
]

Unit: TypeAlias = Literal["hour", "day", "week", "month"]
"""The windows of the calendar."""

Align: TypeAlias = Literal["calendar", "first_use"]
"""Where windows begin: with the calendar's, or with the first charge after the last one has ended."""

_HALF_DAY: Final = dt.timedelta(hours=12)
_HOUR_MS: Final = 3_600_000
_MS: Final = dt.timedelta(milliseconds=1)
_LONGEST: Final = dt.timedelta(days=3660)
_EPOCH: Final = dt.datetime(1970, 1, 1, tzinfo=dt.timezone.utc)
_NAMES: Final = {"d": 86_400_000, "h": _HOUR_MS, "m": 60_000, "s": 1000, "ms": 1}
_NOMINAL: Final = {"hour": 3600, "day": 86_400, "week": 604_800}


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


def check_length(argument: str, length: object) -> dt.timedelta:
    """Return `length` if it is a length of time that a window can have.

    Raises:
        UsageError: If it is no timedelta of whole milliseconds, from 1 ms to 3,660 days.
    """
    if not isinstance(length, dt.timedelta):
        raise UsageError(argument, f"expected a datetime.timedelta, got {length!r}")
    if not _MS <= length <= _LONGEST or length % _MS:
        raise UsageError(argument, f"expected whole milliseconds, from 1 ms to {_LONGEST.days} days, got {length!r}")
    return length


def length_name(length: dt.timedelta) -> str:
    """Name a length of time in its largest whole unit: `15m`, `36h`, `90s`."""
    milliseconds = length // _MS
    unit = next(name for name, size in _NAMES.items() if milliseconds % size == 0)
    return f"{milliseconds // _NAMES[unit]}{unit}"


def nominal_seconds(name: str) -> int | None:
    """Return how long a window of that name usually is in seconds, rounded up; None if that differs, as with months."""
    if match := re.fullmatch(r"(\d+)(ms|[dhms])", name):
        return -(-int(match[1]) * _NAMES[match[2]] // 1000)
    return _NOMINAL.get(name)


def day_of(start: dt.datetime, zone: str) -> dt.date:
    """Return the local day that begins at an instant: by its middle, which no clock change moves to another day."""
    return (start + _HALF_DAY).astimezone(ZoneInfo(zone)).date()


def midnight(day: dt.date, zone: str) -> dt.datetime:
    """Return the start of a local day: the second of two midnights, the end of the gap where there is none."""
    tz = ZoneInfo(zone)
    midnights = (dt.datetime(day.year, day.month, day.day, tzinfo=tz, fold=fold) for fold in (0, 1))
    return max(each.astimezone(dt.timezone.utc) for each in midnights)


class Cycle(Protocol):
    """How windows follow one another."""

    @property
    def from_first_use(self) -> bool:
        """Whether a window begins with the first charge after the last one has ended."""
        ...

    def end(self, date: object) -> dict[str, Any]:
        """Build the expression for the end of the window that holds `date`: always later than `date`."""
        ...

    def idle(self, end: object, date: object) -> dict[str, Any]:
        """Build the expression for the number of whole windows that nobody used, from the end of one to `date`."""
        ...

    def end_of(self, now: dt.datetime) -> dt.datetime:
        """Return the end of the window that holds `now`, as `end` does."""
        ...

    def later(self, end: dt.datetime, steps: int) -> dt.datetime:
        """Go `steps` whole windows on from the end of one.

        Raises:
            OverflowError: If that is past the year 9999. (So does `ValueError`.)
        """
        ...

    def idle_until(self, end: dt.datetime, now: dt.datetime) -> int:
        """Count the whole windows between the end of one and `now`, as `idle` does."""
        ...


@dataclass(frozen=True, slots=True)
class Calendar:
    """Windows of the calendar in a zone: hours from the full hour, the others from local midnight."""

    unit: Unit
    zone: str

    @property
    def from_first_use(self) -> bool:
        """Its windows are there whether or not they are used."""
        return False

    def end(self, date: object) -> dict[str, Any]:
        """Build the end of the window that holds `date`.

        The server's time zone database decides, not this process's: the two may be years apart, and a window
        must not end at another instant for every client. Where a midnight comes twice, the day begins at the
        second one, and the hour before it counts as the new day already.
        """
        if self.unit == "hour":
            # From the minutes on the local clock: `$dateTrunc` counts hours from the year 2000, and is half an
            # hour off in zones that have shifted by half an hour since (Lord Howe, Norfolk).
            minutes = {"$subtract": [60, {"$minute": {"date": date, "timezone": self.zone}}]}
            return {"$add": [{"$dateTrunc": {"date": date, "unit": "minute"}}, {"$multiply": [minutes, 60_000]}]}
        # One unit on, then back to the start of that window, which is later than 00:00 where midnight is skipped.
        following = {"$dateAdd": {"startDate": date, "unit": self.unit, "amount": 1, "timezone": self.zone}}
        return {"$dateTrunc": {"date": following, "unit": self.unit, "timezone": self.zone, **_week(self.unit)}}

    def idle(self, end: object, date: object) -> dict[str, Any]:
        """Build the number of whole windows between the end of one and the one that holds `date`."""
        if self.unit == "hour":  # `$dateDiff` counts 14 for 13.8 hours in zones that shift by half an hour
            hours = {"$divide": [{"$subtract": [self.end(date), end]}, _HOUR_MS]}
            return {"$max": [{"$subtract": [{"$toLong": hours}, 1]}, 0]}
        # From the middle of the boundary's day: it may be the midnight of a zone that the spec had before.
        middle = {"$add": [end, 12 * _HOUR_MS]}
        return {"$max": [_difference(middle, date, self.unit, self.zone), 0]}

    def end_of(self, now: dt.datetime) -> dt.datetime:
        """Return the end of the window that holds `now`."""
        local = now.astimezone(ZoneInfo(self.zone))
        if self.unit == "hour":
            past = dt.timedelta(minutes=local.minute, seconds=local.second, microseconds=local.microsecond)
            return now - past + dt.timedelta(hours=1)
        return midnight(_next_first_day(local.date(), self.unit, 1), self.zone)

    def later(self, end: dt.datetime, steps: int) -> dt.datetime:
        """Go `steps` windows on from the end of one."""
        if self.unit == "hour":
            return end + dt.timedelta(hours=steps)
        return midnight(_next_first_day(day_of(end, self.zone), self.unit, steps), self.zone)

    def idle_until(self, end: dt.datetime, now: dt.datetime) -> int:
        """Count the whole windows between the end of one and the one that holds `now`."""
        if self.unit == "hour":
            return max(0, (self.end_of(now) - end) // dt.timedelta(hours=1) - 1)
        first, today = day_of(end, self.zone), now.astimezone(ZoneInfo(self.zone)).date()
        if self.unit == "month":
            return max(0, (today.year - first.year) * 12 + today.month - first.month)
        if self.unit == "week":
            return max(0, ((today - dt.timedelta(today.weekday())) - (first - dt.timedelta(first.weekday()))).days // 7)
        return max(0, (today - first).days)


@dataclass(frozen=True, slots=True)
class Fixed:
    """Windows of one length: one after the other since 1970 began in UTC, or each from its first use."""

    length: dt.timedelta
    from_first_use: bool

    @property
    def _ms(self) -> int:
        return self.length // _MS

    def end(self, date: object) -> dict[str, Any]:
        """Build the end of the window that holds `date`."""
        if self.from_first_use:
            return {"$add": [date, self._ms]}
        return {"$add": [date, {"$subtract": [self._ms, {"$mod": [{"$toLong": date}, self._ms]}]}]}

    def idle(self, end: object, date: object) -> dict[str, Any]:
        """Build the number of whole lengths from the end of one window to `date`."""
        return {"$toLong": {"$divide": [{"$subtract": [date, end]}, self._ms]}}

    def end_of(self, now: dt.datetime) -> dt.datetime:
        """Return the end of the window that holds `now`."""
        past = dt.timedelta(0) if self.from_first_use else (now - _EPOCH) % self.length
        return now - past + self.length

    def later(self, end: dt.datetime, steps: int) -> dt.datetime:
        """Go `steps` windows on from the end of one."""
        return end + steps * self.length

    def idle_until(self, end: dt.datetime, now: dt.datetime) -> int:
        """Count the whole lengths from the end of one window to `now`."""
        return (now - end) // self.length


@dataclass(frozen=True, slots=True)
class Anniversary:
    """Days, weeks or months that begin with a first use, and end at the same local time.

    A month ends on the same day of the next month, or on its last day if there is no such day.
    """

    unit: Literal["day", "week", "month"]
    zone: str

    @property
    def from_first_use(self) -> bool:
        """Its windows begin with a charge."""
        return True

    def end(self, date: object) -> dict[str, Any]:
        """Build the end of the window that begins at `date`."""
        return {"$dateAdd": {"startDate": date, "unit": self.unit, "amount": 1, "timezone": self.zone}}

    def idle(self, end: object, date: object) -> dict[str, Any]:
        """Build the number of whole units from the end of one window to `date`."""
        # Boundaries of the calendar in between are as many as whole units, or one more.
        reached = {"$dateAdd": {"startDate": end, "unit": self.unit, "amount": "$$passed", "timezone": self.zone}}
        whole = {"$cond": [{"$gt": [reached, date]}, {"$subtract": ["$$passed", 1]}, "$$passed"]}
        return {
            "$let": {
                "vars": {"passed": {"$max": [_difference(end, date, self.unit, self.zone), 0]}},
                "in": {"$max": [whole, 0]},
            }
        }

    def end_of(self, now: dt.datetime) -> dt.datetime:
        """Return the end of the window that begins at `now`."""
        return self.later(now, 1)

    def later(self, end: dt.datetime, steps: int) -> dt.datetime:
        """Go `steps` units on, to the same local time."""
        local = end.astimezone(ZoneInfo(self.zone))
        if self.unit == "month":
            months = local.year * 12 + local.month - 1 + steps
            year, month = months // 12, months % 12 + 1
            day = min(local.day, calendar.monthrange(year, month)[1])
            local = local.replace(year=year, month=month, day=day)
        else:
            local += dt.timedelta(days=steps * (7 if self.unit == "week" else 1))
        if not steps:
            return end
        # Of a local time that comes twice, the one with the offset that it had; one that is skipped comes later.
        first, second = (local.replace(fold=fold) for fold in (0, 1))
        offset = end.astimezone(ZoneInfo(self.zone)).utcoffset()
        comes_twice = first.utcoffset() > second.utcoffset()  # type: ignore[operator]  # both are aware
        chosen = second if comes_twice and second.utcoffset() == offset else first
        return chosen.astimezone(dt.timezone.utc)

    def idle_until(self, end: dt.datetime, now: dt.datetime) -> int:
        """Count the whole units from the end of one window to `now`."""
        zone = ZoneInfo(self.zone)
        first, today = end.astimezone(zone).date(), now.astimezone(zone).date()
        days = (today - first).days
        months = (today.year - first.year) * 12 + today.month - first.month
        passed = max(0, {"day": days, "week": days // 7 + 1, "month": months}[self.unit])
        while passed and self.later(end, passed) > now:
            passed -= 1
        return passed


def _week(unit: Unit) -> dict[str, str]:
    return {"startOfWeek": "monday"} if unit == "week" else {}  # the server's own default is Sunday


def _difference(start: object, end: object, unit: Unit, zone: str) -> dict[str, Any]:
    return {"$dateDiff": {"startDate": start, "endDate": end, "unit": unit, "timezone": zone, **_week(unit)}}


def _next_first_day(day: dt.date, unit: Unit, steps: int) -> dt.date:
    """Return the first day of the window that is `steps` on from the one that holds `day`."""
    if unit == "month":
        months = day.year * 12 + day.month - 1 + steps
        return dt.date(months // 12, months % 12 + 1, 1)
    if unit == "week":
        return day + dt.timedelta(days=7 * steps - day.weekday())
    return day + dt.timedelta(days=steps)
