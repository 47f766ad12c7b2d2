"""Four processes on the same keys: what they are told together is what is stored."""

from __future__ import annotations

import os
import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from mongopatterns import Counter, CounterSpec, Quota, QuotaSpec, Window
from mongopatterns.testing import race_processes


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the processes import the functions that they run."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent))


def test_counters_of_four_processes_add_up(mongopatterns_server: Any, mongopatterns_db: Any) -> None:
    """Every addition of every process is stored once, and each caller is told a total of its own."""
    place = (mongopatterns_server.uri, mongopatterns_db.name)
    report = race_processes("race_workers:add", times=240, processes=4, args=place)
    report.raise_errors()
    assert sorted(report.outcomes) == list(range(2, 482, 2))
    assert mongopatterns_db.hits.find_one() == {"_id": "home", "n": 480}


@pytest.mark.parametrize("function", ["consume", "async_consume"])
def test_four_processes_share_a_quota_exactly(mongopatterns_server: Any, mongopatterns_db: Any, function: str) -> None:
    """Of 400 callers on two fresh keys exactly 50 a key get in, and that is what is stored."""
    place = (mongopatterns_server.uri, mongopatterns_db.name)
    report = race_processes(f"race_workers:{function}", times=400, processes=4, args=place)
    report.raise_errors()
    assert report.count(True) == 100
    assert report.count(False) == 300
    used = [document["q"][unit]["used"] for document in mongopatterns_db.quotas.find() for unit in ("day", "month")]
    assert used == [50] * 4


@pytest.mark.parametrize("function", ["add_together", "async_add_together"])
def test_four_processes_that_combine_add_up(mongopatterns_server: Any, mongopatterns_db: Any, function: str) -> None:
    """Groups of four processes on one key: each caller is told a total of its own order, and the sum is stored."""
    place = (mongopatterns_server.uri, mongopatterns_db.name)
    report = race_processes(f"race_workers:{function}", times=600, processes=4, args=place, concurrency=20)
    report.raise_errors()
    total = 0
    for told, amount in sorted((told, 1 + index % 3) for index, told in enumerate(report.outcomes)):
        total += amount
        assert told == total
    assert mongopatterns_db.hits.find_one() == {"_id": "home", "n": 1200}


@pytest.mark.parametrize("function", ["consume_together", "async_consume_together"])
def test_four_processes_that_combine_share_a_quota_exactly(
    mongopatterns_server: Any, mongopatterns_db: Any, function: str
) -> None:
    """Groups of four processes with mixed amounts fill one limit exactly, and refuse nobody who would have fitted."""
    place = (mongopatterns_server.uri, mongopatterns_db.name)
    report = race_processes(f"race_workers:{function}", times=600, processes=4, args=place, concurrency=20)
    report.raise_errors()
    total = Fraction(0)
    for used, amount in sorted((told.used["month"], told.amount) for told in report.outcomes if told):
        total += Fraction(amount)
        assert Fraction(used) == total
    places = {0} | {told.used["month"] for told in report.outcomes if told}
    for told in report.outcomes:
        assert told.remaining["day"] == 50 - told.used["month"]
        assert told.used["month"] in places
        assert told or told.amount > told.remaining["day"]
    assert total == 50
    stored = Quota(mongopatterns_db, QuotaSpec("quotas", path="q", windows=[Window.day(50), Window.month(None)]))
    assert stored.peek("alice").used == {"day": 50, "month": 50}


def test_stripes_of_four_processes_add_up(mongopatterns_server: Any, mongopatterns_db: Any) -> None:
    """The stripes of each key, written by four processes alone and in groups, sum up to all that was added."""
    place = (mongopatterns_server.uri, mongopatterns_db.name)
    report = race_processes("race_workers:add_to_stripes", times=480, processes=4, args=place, concurrency=20)
    report.raise_errors()
    counter = Counter(mongopatterns_db, CounterSpec("hits", path="n", stripes=5))
    assert counter.values([f"key {number}" for number in range(3)]) == {f"key {number}": 40 for number in range(3)}
    assert mongopatterns_db.hits.count_documents({}) == 15


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_a_forked_child_combines_by_itself(mongopatterns_server: Any, mongopatterns_db: Any) -> None:
    """A child that is forked while threads of its parent share round trips can count, and so can its parent."""
    script = Path(__file__).with_name("fork_worker.py")
    command = [sys.executable, str(script), mongopatterns_server.uri, mongopatterns_db.name]
    done = subprocess.run(command, capture_output=True, text=True, timeout=90, check=False)
    assert done.returncode == 0, done.stderr
    told = [int(line) for line in done.stdout.split()]
    assert sorted(told) == list(range(1, len(told) + 1)), "every total was told once, in one of the processes"
    assert mongopatterns_db.hits.find_one() == {"_id": "home", "n": len(told)}
    assert len(told) == 4 * 8 * 50 + 8 * 50
