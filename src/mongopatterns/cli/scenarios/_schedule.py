"""The schedule as a clock: what scenarios that set the time share. Pure."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from itertools import groupby
from zoneinfo import ZoneInfo

from mongopatterns.cli._rows import Row

NEW_YORK = ZoneInfo("America/New_York")

# Each window by how much of `2013-01-31T23` tells it from the others.
WINDOWS = {"hour": 13, "day": 10, "month": 7}


def hours(flights: Sequence[Row]) -> list[tuple[dt.datetime, list[Row]]]:
    """Group the flights of the first month by the hour of the schedule."""
    month = [flight for flight in flights if flight["month"] == flights[0]["month"]]
    month.sort(key=lambda flight: flight["time_hour"])
    return [(now, list(group)) for now, group in groupby(month, key=lambda flight: flight["time_hour"])]


def windows(now: dt.datetime) -> dict[str, str]:
    """Name the hour, the day and the month of an instant, in New York."""
    hour = f"{now.astimezone(NEW_YORK):%Y-%m-%dT%H}"
    return {window: hour[:length] for window, length in WINDOWS.items()}
