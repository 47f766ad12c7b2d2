"""What all suites share: a record of the commands that a client sent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import bson
import pytest
from coverage import Coverage
from hypothesis import HealthCheck, settings
from pymongo.monitoring import CommandFailedEvent, CommandListener, CommandStartedEvent, CommandSucceededEvent

if TYPE_CHECKING:
    from collections.abc import Iterator


# How long an example takes says more about the machine than about the code.
settings.register_profile("suite", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("suite")
# `make test ARGS="--hypothesis-profile=deep tests/stateful"`: the models are asked ten times as often.
settings.register_profile("deep", settings.get_profile("suite"), max_examples=1000)


def pytest_sessionfinish() -> None:
    """Keep what was covered: a worker that takes its time to end is killed, and would write nothing."""
    if (coverage := Coverage.current()) is not None:
        coverage.save()


class Commands(CommandListener):
    """Keep what was sent to one database, and how long each reply was."""

    def __init__(self) -> None:
        self.database = ""
        self.sent: list[tuple[str, dict[str, Any]]] = []
        self.reply_bytes: list[int] = []

    def started(self, event: CommandStartedEvent) -> None:
        if event.database_name == self.database:
            self.sent.append((event.command_name, dict(event.command)))

    def succeeded(self, event: CommandSucceededEvent) -> None:
        if event.database_name == self.database:
            self.reply_bytes.append(len(bson.encode(event.reply)))

    def failed(self, event: CommandFailedEvent) -> None:
        pass

    @property
    def names(self) -> list[str]:
        return [name for name, _ in self.sent]

    @property
    def comments(self) -> set[str]:
        return {str(command.get("comment")) for _, command in self.sent}

    def clear(self) -> None:
        self.sent.clear()
        self.reply_bytes.clear()


@pytest.fixture(scope="session")
def recorder() -> Commands:
    return Commands()


@pytest.fixture
def commands(recorder: Commands, mongopatterns_db_name: str) -> Iterator[Commands]:
    """Record the commands that this test sends to its own database."""
    recorder.clear()
    recorder.database = mongopatterns_db_name
    yield recorder
    recorder.database = ""
    recorder.clear()
