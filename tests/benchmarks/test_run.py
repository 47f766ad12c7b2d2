"""The benchmarks on a real server: that they run, and that what they compare is comparable. Never how fast."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from bson import ObjectId

from mongopatterns import Quota

if TYPE_CHECKING:
    from pymongo import MongoClient
    from pymongo.database import Database

    from mongopatterns.testing import EmbeddedMongo

ROOT = Path(__file__).parents[2]

with pytest.MonkeyPatch.context() as patch:
    patch.syspath_prepend(str(ROOT))
    rows = importlib.import_module("benchmarks._rows")
    worlds = importlib.import_module("benchmarks._worlds")
    counters = importlib.import_module("benchmarks.counters")
    main = importlib.import_module("benchmarks.__main__")


def test_a_quick_run_prints_every_row_and_writes_nothing(
    mongopatterns_server: EmbeddedMongo, mongopatterns_client: MongoClient[dict[str, Any]]
) -> None:
    """Each row appears in each of its worlds with a ratio and a spread, and neither file nor database is left."""
    files = [path.stat().st_mtime_ns for path in (main.RESULTS, main.PAGE)]
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "benchmarks", "--quick", "--no-write", "--uri", mongopatterns_server.uri],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    _, _, *lines = done.stdout.splitlines()
    expected = [
        (row.name, row.against, str(world))
        for pattern in main.PATTERNS
        for row in pattern.ROWS
        for world in getattr(row, "worlds", ["fresh interpreter"])
    ]
    found = [re.split(r"  +", line) for line in lines]
    assert [tuple(cells[:3]) for cells in found] == expected
    for name, _, _, ratio, half, spread, *_ in found:
        low, high = map(float, half.split(" to "))
        lowest, highest = map(float, spread.split(" to "))
        assert 0 < lowest <= low <= float(ratio) <= high <= highest, name
    assert files == [path.stat().st_mtime_ns for path in (main.RESULTS, main.PAGE)]
    assert not [name for name in mongopatterns_client.list_database_names() if name.startswith("benchmark_")]


@pytest.mark.parametrize("driver", ["sync", "async"])
def test_sides_that_disagree_are_not_timed(mongopatterns_server: EmbeddedMongo, driver: str) -> None:
    """A peer with another answer is an error that shows the call and both answers."""
    wrong = rows.Side(counters.COUNTER.aio, counters.COUNTER.blocking, lambda total: total + 1)
    row = rows.Row("name", "wrong", counters.INCREMENT, wrong, [{"key": "k", "amount": 5}])
    row = rows.Row(**{**{name: getattr(row, name) for name in row.__slots__}, "worlds": (worlds.World(driver, 1),)})
    with pytest.raises(rows.Disagreement, match=r"call 0 .*'amount': 5.*\n  ours   5\n  theirs 6"):
        list(row.measure(mongopatterns_server.uri, rows.QUICK))


@pytest.mark.parametrize(("spec", "calls"), [("HOURS", "HOURLY"), ("PLAN", "CALENDAR")])
def test_agreement_is_asked_where_it_matters(mongopatterns_db: Database[dict[str, Any]], spec: str, calls: str) -> None:
    """The calls on which both sides must agree are granted, refused by every window, and refused for ever."""
    quota = Quota(mongopatterns_db, getattr(counters, spec))
    verdicts = [quota.consume(**call) for call in getattr(counters, calls)]
    assert sum(verdict.allowed for verdict in verdicts) > 20
    assert {unit for verdict in verdicts for unit in verdict.exceeded} == set(verdicts[0].limit)
    assert any(not verdict and verdict.retry_after is None for verdict in verdicts)
    assert any(verdict.retry_after for verdict in verdicts)


@pytest.mark.parametrize("peer", ["ONE_PIPELINE", "THREE_PIPELINE"])
def test_the_pipelines_by_hand_are_correct_in_a_race(mongopatterns_db: Database[dict[str, Any]], peer: str) -> None:
    """What the page calls the best correct call admits exactly what fits, on a key that nobody has used."""
    consume = getattr(counters, peer).blocking(mongopatterns_db)
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda _: consume("k", counters.LIMIT // 10), range(40)))
    assert sum(answer.allowed for answer in answers) == 10


@pytest.mark.parametrize("peer", ["ONE_BY_HAND", "THREE_BY_HAND"])
def test_the_pipelines_by_hand_answer_from_the_stored_document(
    mongopatterns_db: Database[dict[str, Any]], peer: str
) -> None:
    """The whole document, which the server sends when the driver repeats a write, gives the same answer."""
    by_hand = getattr(counters, peer)
    first = by_hand.blocking(mongopatterns_db)("k", 5)
    stored = counters.majority(mongopatterns_db).find_one()
    assert by_hand.read(stored, stored["quota"]["by"], 5, None) == first
    assert first.allowed
    assert not by_hand.read({**stored, "now": stored["quota"]["at"]}, ObjectId(), 5, None).allowed


def test_many_keys_are_taken_in_turn_by_whoever_is_free(mongopatterns_server: EmbeddedMongo) -> None:
    """Concurrent callers share one stream of keys, and each key is called once."""
    called = []

    async def call(key: int) -> None:
        called.append(key)

    with worlds.World("async", 8).open(mongopatterns_server.uri) as stage:
        assert stage.time(call, range(50)) > 0
    assert sorted(called) == list(range(50))
