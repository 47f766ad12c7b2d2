"""Four processes on the same keys: what they are told together is what is stored."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

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
