"""Processes that apply the same schema at once, and processes that are killed while they do."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from mongopatterns import Schema
from mongopatterns.testing import race_processes

WORKER = Path(__file__).with_name("schema_workers.py")


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the processes import the functions that they run."""
    monkeypatch.syspath_prepend(str(WORKER.parent))


def specs() -> Any:
    import schema_workers  # noqa: PLC0415  # its directory is on the path of the tests here alone

    return schema_workers


def fill(db: Any, number: int) -> None:
    db.users.insert_many([{"mail": one, "a": one, "t": f"word {one}", "b": one, "c": one} for one in range(number)])


@pytest.mark.parametrize("function", ["apply", "async_apply"])
@pytest.mark.parametrize("starts", ["empty", "old"])
def test_four_processes_at_once(mongopatterns_server: Any, mongopatterns_db: Any, function: str, starts: str) -> None:
    """All of them succeed, the database is what the schema says, and what was built stays built."""
    workers = specs()
    if starts == "old":
        Schema(mongopatterns_db, workers.OLD).apply()
        fill(mongopatterns_db, 2000)
    place = (mongopatterns_server.uri, mongopatterns_db.name)
    report = race_processes(f"schema_workers:{function}", times=8, processes=4, args=place, concurrency=2)
    report.raise_errors()
    assert sum(report.outcomes) > 0
    Schema(mongopatterns_db, workers.NEW).verify()
    assert len(mongopatterns_db.users.index_information()) == 6


def test_killed_at_any_moment(mongopatterns_server: Any, mongopatterns_db: Any) -> None:
    """Whenever a process is killed, the next one finishes what it began, and no document is lost."""
    workers = specs()
    for _ in range(4):
        for name in ("users", "series", "events"):
            mongopatterns_db.drop_collection(name)
        Schema(mongopatterns_db, workers.OLD).apply()
        fill(mongopatterns_db, 5000)
        arguments = [sys.executable, str(WORKER), mongopatterns_server.uri, mongopatterns_db.name]
        with subprocess.Popen(arguments, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            time.sleep(random.uniform(0, 0.3))
            process.kill()
        Schema(mongopatterns_db, workers.NEW).apply()
        Schema(mongopatterns_db, workers.NEW).verify()
        assert len(mongopatterns_db.users.index_information()) == 6
        assert mongopatterns_db.users.count_documents({}) == 5000


def test_whoever_is_second_waits_for_the_build(mongopatterns_server: Any, mongopatterns_db: Any) -> None:
    """An index that another process is still building is not taken for one that is there."""
    workers = specs()
    fill(mongopatterns_db, 60_000)
    arguments = [sys.executable, str(WORKER), mongopatterns_server.uri, mongopatterns_db.name]
    with subprocess.Popen(arguments) as process:
        listing = {"listIndexes": "users", "includeBuildUUIDs": True}
        while process.poll() is None:
            if any("buildUUID" in one for one in mongopatterns_db.command(listing)["cursor"]["firstBatch"]):
                Schema(mongopatterns_db, workers.NEW).apply()
                listed = mongopatterns_db.command(listing)["cursor"]["firstBatch"]
                assert not any("buildUUID" in one for one in listed)
                break
        else:
            raise AssertionError("the build was over too soon")
    Schema(mongopatterns_db, workers.NEW).verify()
