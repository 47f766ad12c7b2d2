"""How the tests of the command line run it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

from mongopatterns.cli._app import app

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
