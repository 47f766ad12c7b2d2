"""How the tests of the command line run it."""

from __future__ import annotations

import datetime as dt
import json
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

from mongopatterns.cli._app import app
from mongopatterns.cli._rows import Row
from mongopatterns.cli.scenarios import _schedule, rollover_async

if TYPE_CHECKING:
    from mongopatterns.testing import EmbeddedMongo


@dataclass
class Run:
    """What a run of the command line left."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        return json.loads(self.out)

    @property
    def versions(self) -> dict[tuple[str, str], dict[str, Any]]:
        """The results, by scenario and version."""
        return {
            (scenario["scenario"], version["version"]): version
            for scenario in self.json["scenarios"]
            for version in scenario["versions"]
        }


Demo = Callable[..., Run]


@pytest.fixture
def demo() -> Demo:
    """Run `mongopatterns demo` in this process; an error that it does not handle is raised here."""

    def run(*arguments: str) -> Run:
        result = CliRunner().invoke(app, ["demo", *arguments], catch_exceptions=False)
        return Run(result.exit_code, result.stdout, result.stderr)

    return run


@pytest.fixture
def on_server(demo: Demo, mongopatterns_server: EmbeddedMongo) -> Demo:
    """Run it on the server of the tests, with few rows unless told otherwise, for its JSON."""

    def run(*arguments: str) -> Run:
        return demo("--uri", mongopatterns_server.uri, "--rows", "200", "--json", *arguments)

    return run


@dataclass
class Crew:
    """A crew as the rules of the scenario `rollover` leave it, or as one with some of its faults does."""

    at: dt.datetime
    used: int = 0
    bank: int = 0
    today: int = 0

    def roll(self, now: dt.datetime, hour: int, faults: Collection[str]) -> None:
        """Bring it to `now`: all hours that have passed at once."""
        if passed := (now - self.at) // dt.timedelta(hours=1):
            idle = 0 if "idle hours as one" in faults else hour * (passed - 1)
            self.bank = min(rollover_async.HOURS_BANKED * hour, self.bank + max(0, hour - self.used) + idle)
            self.used = 0
        if _schedule.windows(now)["day"] != _schedule.windows(self.at)["day"]:
            self.today = 0
        self.at = now


CrewsReplayed = Callable[..., Counter[tuple[str, dt.datetime]]]


@pytest.fixture
def crews_replayed() -> CrewsReplayed:
    """Decide one departure after the other, by the rules of the crews with some of the faults of the usual code."""

    def run(
        flights: list[Row], faults: Collection[str] = (), limits: dict[str, dict[str, int]] | None = None
    ) -> Counter[tuple[str, dt.datetime]]:
        limits = limits or rollover_async.limits_for(flights)
        told: Counter[tuple[str, dt.datetime]] = Counter()
        crews: dict[str, Crew] = {}
        asked = rollover_async.MINUTES
        for now, group in _schedule.hours(flights[: rollover_async.FLIGHTS]):
            for name in map(rollover_async.crew_of, group):
                crew, hour, day = crews.setdefault(name, Crew(now)), limits[name]["hour"], limits[name]["day"]
                if "rolled late" not in faults:
                    crew.roll(now, hour, faults)
                if asked <= hour - crew.used + crew.bank and asked <= day - crew.today:
                    banked = min(crew.bank, asked)
                    crew.bank -= banked
                    crew.used += asked if "charged twice" in faults else asked - banked
                    crew.today += asked
                    told[name, now] += 1
                crew.roll(now, hour, faults)
        return told

    return run
