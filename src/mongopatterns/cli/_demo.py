"""The demo itself: start or find a server, load the rows, play every scenario, sum up.

Nothing here prints. Preparing, judging and cleaning up go through a synchronous client of their own, whatever the
driver, so that none of it is timed or counted.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from importlib.util import find_spec
from inspect import getdoc
from typing import Any, Final, Protocol

from pymongo import MongoClient
from pymongo.database import Database

from mongopatterns.cli import _stage_async, _stage_sync, scenarios
from mongopatterns.cli._rows import INDEXED, Row, Rows, read_rows
from mongopatterns.cli._stage import SELECTION_MS, DriverName, Setting, Take
from mongopatterns.cli.scenarios import VERSIONS, Outcome
from mongopatterns.errors import UsageError
from mongopatterns.testing import EmbeddedMongo

__all__ = ["DRIVERS", "DemoResult", "Options", "Progress", "ScenarioResult", "VersionResult", "run_demo"]

DRIVERS: Final[dict[str, DriverName]] = {"pymongo": "pymongo", "motor": "motor", "sync": "sync"}

_LOADED: Final = ("flights", *INDEXED)
# The collection of a scenario that is about all flights.
_YEAR: Final = "year"
# How many flights are used where nobody says otherwise.
_FLIGHTS: Final = 1_500
_ALL_FLIGHTS: Final = 336_776
# Documents per command when the rows are loaded.
_BATCH: Final = 1_000


class Progress(Protocol):
    """Is told how far the demo is."""

    def __call__(self, step: str, done: int = 0, total: int | None = None, /) -> None:
        """Take note.

        Args:
            step: What is going on.
            done: How much of it is done.
            total: How much there is to do; None if that is not known.
        """
        ...


@dataclass(frozen=True)
class Options:
    """What was asked for.

    Attributes:
        driver: `pymongo` (its asynchronous side), `motor` or `sync`.
        concurrency: How many calls are under way at once.
        rows: How many flights are used; if it is not said, a scenario about all flights takes them all.
        scenarios: Their names; all of them if empty.
        uri: A server that runs already; None to start one.
    """

    driver: str = "pymongo"
    concurrency: int = 32
    rows: int = _FLIGHTS
    scenarios: Sequence[str] = ()
    uri: str | None = None

    def check(self) -> None:
        """Refuse what cannot be done, before anything is started.

        Raises:
            UsageError: Something is out of its bounds, unknown or not installed.
        """
        if self.driver not in DRIVERS:
            raise UsageError("--driver", f"is one of {', '.join(DRIVERS)}, not {self.driver!r}")
        if self.driver == "motor" and find_spec("motor") is None:
            raise UsageError("--driver", 'motor is not installed. Run  pip install "mongopatterns[demo]"')
        for option, value in (("--concurrency", self.concurrency), ("--rows", self.rows)):
            if value < 1:
                raise UsageError(option, f"is a whole number from 1, not {value}")
        known = scenarios.names()
        for name in self.scenarios:
            if name not in known:
                raise UsageError("--scenario", f"is one of {', '.join(known)}, not {name!r}")


@dataclass(frozen=True)
class VersionResult:
    """What came of one version of a scenario.

    Attributes:
        version: `usual`, `by_hand` or `primitive`.
        how: What it does, in a line.
        outcome: What it stored, and what went wrong.
        commands: How many commands were sent.
        seconds: How long it took.
        speed: How many times as fast as the baseline of its scenario it was.
    """

    version: str
    how: str
    outcome: Outcome
    commands: int
    seconds: float
    speed: float

    def to_dict(self) -> dict[str, Any]:
        """Return what `json.dumps` takes."""
        return {
            "version": self.version,
            "how": self.how,
            **asdict(self.outcome),
            "exact": self.outcome.exact,
            "commands": self.commands,
            "seconds": round(self.seconds, 4),
            "speed": round(self.speed, 3),
        }


@dataclass(frozen=True)
class ScenarioResult:
    """What came of one scenario.

    Attributes:
        name: Its name.
        title: What it is, in a few words.
        caption: What else the reader must know.
        versions: In the order in which they ran.
        baseline: The version that the speed of the others is told by.
    """

    name: str
    title: str
    caption: str
    versions: tuple[VersionResult, ...]
    baseline: str = "usual"

    @property
    def exact(self) -> bool:
        """Whether the primitive was exact."""
        return all(version.outcome.exact for version in self.versions if version.version == "primitive")


@dataclass(frozen=True)
class DemoResult:
    """What came of the demo.

    Attributes:
        driver: The driver that was asked for.
        server: The server's version.
        concurrency: How many calls were under way at once.
        rows: How many flights were used.
        seconds: How long everything took, starting and stopping the server included.
        scenarios: In the order in which they ran.
    """

    driver: str
    server: str
    concurrency: int
    rows: int
    seconds: float
    scenarios: tuple[ScenarioResult, ...]

    @property
    def inexact(self) -> list[str]:
        """The scenarios whose primitive was not exact: there should be none."""
        return [scenario.name for scenario in self.scenarios if not scenario.exact]

    def to_dict(self) -> dict[str, Any]:
        """Return what `json.dumps` takes."""
        return {
            "driver": self.driver,
            "server": self.server,
            "concurrency": self.concurrency,
            "rows": self.rows,
            "seconds": round(self.seconds, 2),
            "inexact": self.inexact,
            "scenarios": [
                {
                    "scenario": scenario.name,
                    "title": scenario.title,
                    "caption": scenario.caption,
                    "baseline": scenario.baseline,
                    "versions": [version.to_dict() for version in scenario.versions],
                }
                for scenario in self.scenarios
            ],
        }


def run_demo(options: Options, progress: Progress) -> DemoResult:
    """Run the scenarios.

    Whatever happens, the server that was started is stopped, and on a server that runs already the demo's
    database is dropped.

    Raises:
        UsageError: An option cannot be used, or a package is missing.
        DeploymentError: No server can be started, or the given one is not there, too old or standalone.
        pymongo.errors.PyMongoError: The server refused something, or went away.
    """
    started = time.perf_counter()
    options.check()
    rows = read_rows(options.rows)
    progress("starting a replica set" if options.uri is None else "connecting")
    with EmbeddedMongo(members=1, uri=options.uri) as server, _fresh_database(server.uri) as db:
        _load(db, rows, progress)
        setting = Setting(server.uri, db.name, rows.flights, options.concurrency, DRIVERS[options.driver])
        chosen = list(dict.fromkeys(options.scenarios or scenarios.names()))
        results = [_run_scenario(name, db, setting, progress) for name in chosen]
        version = db.client.server_info()["version"]
    return DemoResult(
        driver=options.driver,
        server=version,
        concurrency=options.concurrency,
        rows=len(rows.flights),
        seconds=time.perf_counter() - started,
        scenarios=tuple(results),
    )


@contextmanager
def _fresh_database(uri: str) -> Iterator[Database[Row]]:
    """Make a database that nobody else uses, and drop it in the end."""
    with MongoClient[Row](uri, tz_aware=True, serverSelectionTimeoutMS=SELECTION_MS) as client:
        db = client[f"mongopatterns_demo_{secrets.token_hex(6)}"]
        try:
            yield db
        finally:
            client.drop_database(db)


def _load(db: Database[Row], rows: Rows, progress: Progress) -> None:
    """Store the rows, in batches, with an index on what other collections refer to."""
    for name, column in INDEXED.items():
        db[name].create_index(column, unique=True)
    batches = [
        (name, documents[start : start + _BATCH])
        for name, documents in vars(rows).items()
        for start in range(0, len(documents), _BATCH)
    ]
    for done, (name, batch) in enumerate(batches):
        progress(f"loading {name}", done, len(batches))
        # Copies: the driver adds an _id to what it is given.
        db[name].insert_many([dict(row) for row in batch], ordered=False)


def _load_year(db: Database[Row], flights: Sequence[Row], progress: Progress) -> Sequence[Row]:
    """Store all flights, or as many as the user asked for, with the index of a page by time."""
    if len(flights) == _FLIGHTS:
        progress("reading all flights")
        flights = read_rows(_ALL_FLIGHTS).flights
    for start in range(0, len(flights), _BATCH):
        progress("loading all flights", start, len(flights))
        batch = [{**flight, "_id": start + place} for place, flight in enumerate(flights[start : start + _BATCH])]
        db[_YEAR].insert_many(batch, ordered=False)
    db[_YEAR].create_index([("time_hour", -1), ("_id", -1)])
    return flights


def _run_scenario(name: str, db: Database[Row], setting: Setting, progress: Progress) -> ScenarioResult:
    """Play the versions of a scenario, one after the other, each on a clean database."""
    scenario = scenarios.find(name, asynchronous=setting.driver != "sync")
    caption = scenario.caption(setting.flights)
    if scenario.crowded:
        setting = setting.crowded()
        calls = f"{setting.concurrency:,} calls at once, over {setting.connections:,} connections."
        caption = f"{caption} {calls}".lstrip()
    if scenario.whole:
        setting = replace(setting, flights=_load_year(db, setting.flights, progress))
        caption = scenario.caption(setting.flights)
    takes: dict[str, Take[Any]] = {}
    outcomes: dict[str, Outcome] = {}
    for done, version in enumerate(VERSIONS):
        progress(f"{name}: {version.replace('_', ' ')}", done, len(VERSIONS))
        for leftover in set(db.list_collection_names()) - {*_LOADED, _YEAR}:
            db.drop_collection(leftover)
        takes[version] = take = _play(getattr(scenario, version), setting)
        outcomes[version] = scenario.judge(setting.flights, take.told, db)
    db.drop_collection(_YEAR)
    results = [
        VersionResult(
            version=version,
            how=(getdoc(getattr(scenario, version)) or "").partition("\n")[0],
            outcome=outcomes[version],
            commands=take.commands,
            seconds=take.seconds,
            speed=takes[scenario.baseline].seconds / take.seconds,
        )
        for version, take in takes.items()
    ]
    return ScenarioResult(name, scenario.title, caption, tuple(results), scenario.baseline)


def _play(version: Callable[[Any], Any], setting: Setting) -> Take[Any]:
    if setting.driver == "sync":
        return _stage_sync.play(version, setting)
    return asyncio.run(_stage_async.play(version, setting))
