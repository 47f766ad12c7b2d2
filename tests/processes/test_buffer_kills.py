"""Processes that are killed while they put things into a buffer: what was accepted is stored, exactly once."""

from __future__ import annotations

import random
import secrets
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pymongo import MongoClient

from mongopatterns.testing import EmbeddedMongo

WORKER = Path(__file__).with_name("buffer_worker.py")
pytestmark = pytest.mark.timeout(300)


# The server gives up what a killed process had under way after 2 seconds, and not after a minute. It looks for that
# twice in this time: told while it runs, it would look for the first time after half a minute.
IMPATIENT = {"transactionLifetimeLimitSeconds": 2}


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedMongo]:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MONGOPATTERNS_TEST_URI", raising=False)  # somebody's own server has parameters of its own
        with EmbeddedMongo(parameters=IMPATIENT) as server:
            yield server


@pytest.fixture
def db(server: EmbeddedMongo) -> Iterator[Any]:
    with MongoClient[dict[str, Any]](server.uri) as client:
        yield client[f"kills_{secrets.token_hex(4)}"]


class Process:
    """A worker."""

    def __init__(self, uri: str, name: str, spool: Path, *further: str) -> None:
        arguments = [sys.executable, str(WORKER), uri, name, str(spool), *further]
        self.popen = subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def until_ready(self) -> None:
        """Wait until it puts things in."""
        assert self.popen.stdout is not None
        line = self.popen.stdout.readline()
        assert line == b"ready\n", line

    def kill(self) -> list[str]:
        """Kill it; return what it said was accepted."""
        self.popen.kill()
        said, _ = self.popen.communicate()
        # (the last line may be cut)
        return said.decode().split("\n")[:-1]

    def finish(self) -> None:
        """Wait until it has ended in order."""
        said, _ = self.popen.communicate(timeout=120)
        assert self.popen.returncode == 0
        assert said == b"ready\n"


def check(db: Any, accepted: list[str]) -> None:
    """Each accepted event is there once and counted once; what is there besides was accepted, and not told any more."""
    stored = Counter(event["what"] for event in db.events.find())
    counts = {count["_id"]: count["n"] for count in db.counts.find()}
    hot = sum(n for name, n in counts.items() if name.startswith("all "))
    own = {name: n for name, n in counts.items() if not name.startswith("all ")}
    assert [what for what in accepted if stored[what] != 1] == []
    assert [what for what in accepted if own.get(what) != 1] == []
    assert set(stored.values()) == {1}
    assert set(own.values()) == {1}
    assert len(accepted) <= hot <= len(stored)


@pytest.mark.parametrize("world", ["async", "sync"])
def test_a_process_that_is_killed_again_and_again(server: EmbeddedMongo, db: Any, tmp_path: Path, world: str) -> None:
    """The next one does what is left; nothing is lost and nothing is doubled."""
    accepted: list[str] = []
    for turn in range(6):
        process = Process(server.uri, db.name, tmp_path, f"p{turn}", "put", world)
        process.until_ready()
        time.sleep(random.uniform(0.05, 0.5))
        accepted += process.kill()
    Process(server.uri, db.name, tmp_path, "last", "finish", world).finish()
    assert len(accepted) > 100
    check(db, accepted)
    assert list(tmp_path.iterdir()) == []


def test_two_processes_begin_on_what_a_killed_one_left(server: EmbeddedMongo, db: Any, tmp_path: Path) -> None:
    """One of them does it, and the other one lets it: each increment is counted once."""
    killed = Process(server.uri, db.name, tmp_path, "killed", "leave", "2000")
    killed.until_ready()
    killed.kill()
    assert db.counts.count_documents({}) == 0
    both = [Process(server.uri, db.name, tmp_path, f"p{turn}", "finish", "sync") for turn in range(2)]
    for process in both:
        process.finish()
    assert Counter(count["n"] for count in db.counts.find()) == {1: 2000}
    assert list(tmp_path.iterdir()) == []


@pytest.mark.chaos
def test_the_primary_is_killed_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """In turns, and both at once: what was accepted is stored by those that are left, exactly once."""
    monkeypatch.delenv("MONGOPATTERNS_TEST_URI", raising=False)  # somebody's own server must not be killed
    accepted: list[str] = []
    with EmbeddedMongo(members=3, parameters=IMPATIENT) as members:
        for turn in range(3):
            process = Process(members.uri, "kills", tmp_path, f"p{turn}", "put", ("async", "sync")[turn % 2])
            process.until_ready()
            time.sleep(random.uniform(0.1, 0.4))
            killed = members.kill()
            time.sleep(random.uniform(0, 3))
            accepted += process.kill()
            members.wait_for_primary()
            members.restart(killed)
        Process(members.uri, "kills", tmp_path, "last", "finish", "async").finish()
        with MongoClient[dict[str, Any]](members.uri) as client:
            check(client["kills"], accepted)
    assert len(accepted) > 100
    assert list(tmp_path.iterdir()) == []


def test_four_processes_share_a_directory(server: EmbeddedMongo, db: Any, tmp_path: Path) -> None:
    """They are killed and begun anew at random; each does what those that are gone have left."""
    accepted: list[str] = []
    names = iter(range(1000))

    def begin(turn: int) -> Process:
        world = ("async", "sync")[turn % 2]
        return Process(server.uri, db.name, tmp_path, f"p{next(names)}", "put", world)

    running = [begin(turn) for turn in range(4)]
    for process in running:
        process.until_ready()
    for turn in range(10):
        time.sleep(random.uniform(0.02, 0.2))
        place = random.randrange(4)
        accepted += running[place].kill()
        running[place] = begin(turn)
        running[place].until_ready()
    for process in running:
        accepted += process.kill()
    Process(server.uri, db.name, tmp_path, "last", "finish", "async").finish()
    assert len(accepted) > 100
    check(db, accepted)
    assert list(tmp_path.iterdir()) == []
