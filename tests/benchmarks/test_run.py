"""The benchmarks on a real server: that they run, and that what they compare is comparable. Never how fast."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from threading import Barrier
from typing import TYPE_CHECKING, Any

import pytest
from bson import ObjectId

from mongopatterns import Quota

if TYPE_CHECKING:
    from pymongo import MongoClient
    from pymongo.database import Database

    from mongopatterns.testing import EmbeddedMongo

ROOT = Path(__file__).parents[2]

HELD = {"joins": ["Join.stream"], "reports": ["Report.run, all of it"], "buffer": ["WriteBuffer, 2,000 items"]}

with pytest.MonkeyPatch.context() as patch:
    patch.syspath_prepend(str(ROOT))
    rows = importlib.import_module("benchmarks._rows")
    worlds = importlib.import_module("benchmarks._worlds")
    combining = importlib.import_module("benchmarks.combining")
    counters = importlib.import_module("benchmarks.counters")
    limiters = importlib.import_module("benchmarks.limiters")
    main = importlib.import_module("benchmarks.__main__")


@pytest.mark.parametrize("pattern", main.PATTERNS, ids=main.file_of)
def test_a_quick_run_prints_every_row_and_writes_nothing(
    mongopatterns_server: EmbeddedMongo, mongopatterns_client: MongoClient[dict[str, Any]], pattern: Any
) -> None:
    """Each row appears in each of its worlds with a ratio and a spread, and neither file nor database is left."""
    files = [path.stat().st_mtime_ns for path in (main.RESULTS, main.PAGE)]
    only = f"{main.file_of(pattern)}: "
    measured = [(each, row) for each in main.PATTERNS for row in main.rows_of(each, only)]
    assert measured
    command = [sys.executable, "-W", "error", "-m", "benchmarks", "--quick", "--no-write"]
    done = subprocess.run(
        [*command, "--uri", mongopatterns_server.uri, "--only", only],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    tables = ([re.split(r"  +", line) for line in block.splitlines()] for block in done.stdout.split("\n\n"))
    lines = {head[1]: cells for head, _, *cells in tables}
    ratios, sizes, shares = (lines.pop(second, []) for second in ("Against", "Of it", "Driver"))
    assert not lines
    assert [tuple(cells[:3]) for cells in ratios] == [line for each in measured for line in lines_of(*each)]
    stored = [f"{row.name}, in {row.against}" for row in pattern.ROWS for _ in range(3) if pattern is main.sizes]
    assert [cells[0] for cells in sizes] == (stored or HELD.get(main.file_of(pattern), []))
    assert [cells[0] for cells in shares] == [row.name for row in pattern.ROWS if pattern is main.hot_paths]
    for _, _, *percents in shares:
        # (each of them is rounded)
        assert sum(float(percent.rstrip("%")) for percent in percents) == pytest.approx(100, abs=len(percents) / 2)
    for name, _, _, figure, half, spread, *_ in ratios:
        ratio, *times = map(float, re.findall(r"[\d.]+", figure))
        # (half the time, as the table rounds it, is told either way)
        assert len(times) in ({0, 1} if ratio == 0.5 else {int(ratio < 0.5)}), name
        low, high = map(float, half.split(" to "))
        lowest, highest = map(float, spread.split(" to "))
        assert 0 < lowest <= low <= ratio <= high <= highest, name
    assert files == [path.stat().st_mtime_ns for path in (main.RESULTS, main.PAGE)]
    assert not [name for name in mongopatterns_client.list_database_names() if name.startswith("benchmark_")]


def lines_of(pattern: Any, row: Any) -> list[tuple[str, str, str]]:
    """Return what the table says first in each line of a row that is compared in its worlds."""
    if pattern in {main.sizes, main.hot_paths} or isinstance(row, main.joins.StreamRow):
        return []
    worlds_of = getattr(row, "worlds", ["fresh interpreter"])
    return getattr(row, "lines", None) or [(row.name, row.against, str(world)) for world in worlds_of]


def compared(ours: Any, theirs: Any, driver: str, **options: Any) -> Any:
    """Make a row of two sides in one world."""
    options = {"agree": [{"key": "k", "amount": 5}], "worlds": (worlds.World(driver, 3),), **options}
    return rows.Row("name", "peer", ours, theirs, **options)


@pytest.mark.parametrize("driver", ["sync", "async"])
def test_sides_that_disagree_are_not_timed(mongopatterns_server: EmbeddedMongo, driver: str) -> None:
    """A peer with another answer is an error that shows the call and both answers."""
    wrong = replace(counters.COUNTER, answer=lambda total: total + 1)
    row = compared(counters.INCREMENT, wrong, driver)
    with pytest.raises(rows.Disagreement, match=r"call 0 .*'amount': 5.*\n  ours   5\n  theirs 6"):
        list(row.measure(mongopatterns_server.uri, rows.QUICK))


@pytest.mark.parametrize("driver", ["sync", "async"])
def test_calls_at_once_must_have_the_same_answers_in_any_order(
    mongopatterns_server: EmbeddedMongo, driver: str
) -> None:
    """The version that loses updates agrees call by call, and is found out when the calls are made at once."""
    together = [{"key": "together"}] * 40
    row = compared(counters.COUNTER, counters.INCREMENT, driver, together=together)
    assert len(list(row.measure(mongopatterns_server.uri, rows.QUICK))) == 1
    row = compared(counters.COUNTER, counters.READ_ADD_SAVE, driver, together=together)
    with pytest.raises(rows.Disagreement, match=r"40 calls at once:\n  ours   \['1', '10', "):
        list(row.measure(mongopatterns_server.uri, rows.QUICK))


@pytest.mark.parametrize("driver", ["sync", "async"])
def test_what_is_stored_must_be_what_was_called(mongopatterns_server: EmbeddedMongo, driver: str) -> None:
    """Sides that tell nothing agree on what they store; a call that is timed and not stored is an error, too."""
    ours = replace(counters.COUNTER, answer=combining.untold, tally=combining.stored("counters", "n"))
    forgetful = replace(combining.RAW, tally=lambda *_: 0)
    assert len(list(compared(ours, combining.RAW, driver).measure(mongopatterns_server.uri, rows.QUICK))) == 1
    with pytest.raises(rows.Disagreement, match=r"what is stored:\n  ours   5\n  theirs 0"):
        list(compared(ours, forgetful, driver).measure(mongopatterns_server.uri, rows.QUICK))
    with pytest.raises(rows.Disagreement, match=r"theirs made (\d+) calls, and 0 are stored"):
        list(compared(ours, forgetful, driver, agree=[]).measure(mongopatterns_server.uri, rows.QUICK))


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


@pytest.mark.parametrize("algorithm", ["fixed", "sliding", "token_bucket"])
def test_agreement_on_rate_limits_is_asked_where_it_matters(
    mongopatterns_db: Database[dict[str, Any]], algorithm: str
) -> None:
    """The hits on which both sides must agree are admitted with more and less left, refused for now and for ever."""
    hit = limiters.ours(algorithm).blocking(mongopatterns_db)
    verdicts = [hit(**call) for call in limiters.MINUTES]
    assert sum(verdict.allowed for verdict in verdicts) > 50
    assert len({verdict.remaining for verdict in verdicts if verdict.allowed}) > 20
    assert len({verdict.retry_after for verdict in verdicts if not verdict.allowed}) > 10
    assert any(not verdict and verdict.retry_after is None for verdict in verdicts)


@pytest.mark.parametrize("by_hand", ["FIXED", "SLIDING", "BUCKET"])
def test_the_limiters_by_hand_are_correct_in_a_race(mongopatterns_db: Database[dict[str, Any]], by_hand: str) -> None:
    """What the page calls the best correct call admits exactly what fits, on a key that nobody has used."""
    hit = getattr(limiters, by_hand).blocking(mongopatterns_db)
    now = datetime(2126, 1, 1, tzinfo=timezone.utc)  # the same for all: nothing drains
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda _: hit("k", limiters.LIMIT // 10, now=now), range(40)))
    assert sum(answer.allowed for answer in answers) == 10


@pytest.mark.parametrize("by_hand", ["FIXED", "SLIDING", "BUCKET"])
def test_the_limiters_by_hand_answer_from_the_stored_document(
    mongopatterns_db: Database[dict[str, Any]], by_hand: str
) -> None:
    """The whole document, which the server sends when the driver repeats a write, gives the same answer."""
    limiter = getattr(limiters, by_hand)
    first = limiter.blocking(mongopatterns_db)("k", 5)
    stored = counters.majority(mongopatterns_db).find_one()
    assert limiter.answer(stored, stored["rate"]["by"], 5, None) == first
    assert first.allowed
    other = limiter.answer({**stored, "now": stored["rate"]["at"]}, ObjectId(), limiters.LIMIT, None)
    assert (other.allowed, other.remaining) == (False, limiters.LIMIT - 5)


@pytest.mark.parametrize("driver", ["sync", "async"])
def test_many_keys_are_taken_in_turn_by_whoever_is_free(mongopatterns_server: EmbeddedMongo, driver: str) -> None:
    """Concurrent callers share one stream of keys, and each key is called once; all of them work at once."""
    called = []
    ready = Barrier(8)

    async def call(key: int) -> None:
        called.append(key)

    def blocking_call(key: int) -> None:
        if key < 8:
            ready.wait(20)
        called.append(key)

    function = call if driver == "async" else blocking_call
    with worlds.World(driver, 8).open(mongopatterns_server.uri) as stage:
        assert stage.time(function, range(50)) > 0
    assert sorted(called) == list(range(50))


def test_an_error_in_a_thread_is_not_lost(mongopatterns_server: EmbeddedMongo) -> None:
    """A call that fails ends the measurement: its time is that of no call."""

    def fail(key: int) -> None:
        raise LookupError(key)

    with worlds.World("sync", 4).open(mongopatterns_server.uri) as stage, pytest.raises(LookupError):
        stage.time(fail, range(8))
