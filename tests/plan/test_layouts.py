"""What was stored or given out before can be read: each case is what a version wrote, and is added to, not changed."""

from __future__ import annotations

import datetime as dt
import stat
from pathlib import Path
from typing import Any

import pytest
from bson import Decimal128, ObjectId
from bson.codec_options import CodecOptions

from mongopatterns import CounterSpec, Field, QuotaSpec, Rate, RateLimiterSpec, Rollover, Window
from mongopatterns._spool import Spool
from mongopatterns.holders import Holder
from mongopatterns.paging._cursors import Cursors, Position

NOW = dt.datetime(2026, 3, 29, 0, 30, tzinfo=dt.timezone.utc)
ONE = ObjectId("65f000000000000000000001")
QUOTA = QuotaSpec(
    "users",
    path="quota",
    windows=[Window.hour(60, rollover=Rollover(cap=120)), Window.day(Field("limit", default=300))],
    timezone="Europe/Berlin",
    meters=("cost",),
)


def test_the_state_of_a_quota_is_read() -> None:
    """Windows, meters, ids, what was granted and what is held, as version 0.1 stores them."""
    stored = {
        "at": NOW,
        "by": ONE,
        "hour": {"end": NOW + dt.timedelta(minutes=30), "used": 5, "bank": 0},
        "day": {"end": NOW + dt.timedelta(hours=21, minutes=30), "used": 5},
        "meters": {"cost": Decimal128("0.5")},
        "once": ["+frame-1"],
        "extra": {"left": 30},
        "holds": [{"id": ONE, "n": 10, "until": NOW + dt.timedelta(minutes=1)}],
    }
    read = QUOTA.read({"_id": "alice", "quota": stored}, now=NOW)
    assert (read.used, read.remaining) == ({"hour": 5, "day": 5}, {"hour": 75, "day": 315})
    assert (read.extra, read.held, read.meters) == (30, 10, {"cost": 0.5})
    assert read.resets_at["day"] == NOW + dt.timedelta(hours=21, minutes=30)


@pytest.mark.parametrize(
    ("algorithm", "stored", "remaining"),
    [
        ("fixed", {"at": NOW, "by": ONE, "end": NOW + dt.timedelta(minutes=1), "n": 3}, 7),
        ("sliding", {"at": NOW, "by": ONE, "end": NOW + dt.timedelta(minutes=1), "n": 3, "prev": 0}, 7),
        ("token_bucket", {"at": NOW, "by": ONE, "level": 180_000, "per": 60_000}, 7),
    ],
)
def test_the_state_of_a_rate_limiter_is_read(algorithm: Any, stored: dict[str, Any], remaining: int) -> None:
    """By each algorithm, as version 0.1 stores it."""
    spec = RateLimiterSpec("limits", Rate(10, per=60), algorithm=algorithm)
    assert spec.read({"_id": "ip", "rate": stored}, now=NOW).remaining == remaining


@pytest.mark.parametrize(
    ("stripes", "document"),
    [(1, {"_id": "home", "n": 2, "n_once": ["a"]}), (3, {"_id": {"key": "home", "stripe": 0}, "n": 2})],
)
def test_the_number_of_a_counter_is_read(stripes: int, document: dict[str, Any]) -> None:
    """With ids beside it, and in one of several documents, as version 0.1 stores it."""
    assert CounterSpec("counters", path="n", stripes=stripes).read(document) == 2


def test_a_token_is_read() -> None:
    """One of a reservation, as version 0.1 gives it out."""
    token = "NAAAAAJwAAwAAAB1c2Vycy9xdW90YQACawAGAAAAYWxpY2UAB2kAZfAAAAAAAAAAAAABAA=="
    assert Holder.of("token", token, "users/quota", CodecOptions(), thing="reservation") == Holder(
        "users/quota", "alice", ONE
    )


@pytest.mark.parametrize(
    ("secret", "cursor"),
    [
        (
            None,
            "AQAxMjM0NTY3ODkwMTIyAAAABHYAKgAAAAkwAEBj_zadAQAAAjEABAAAAEFubgAHMgBl8AAAAAAAAAAAAAEAAHA4kV_HZwLkNeGfzRFCHbs",
        ),
        (
            "a secret of 16 bytes or more",
            "AQAxMjM0NTY3ODkwMTIyAAAABHYAKgAAAAkwAEBj_zadAQAAAjEABAAAAEFubgAHMgBl8AAAAAAAAAAAAAEAAH7q8HVPAHJmyU9cXKIp6As",
        ),
    ],
)
def test_a_cursor_is_read(secret: str | None, cursor: str) -> None:
    """With a secret and without one, as version 0.1 gives it out; its own first byte says which layout it has."""
    assert Cursors(secret, CodecOptions(tz_aware=True)).read(cursor, b"123456789012", 3) == Position((NOW, "Ann", ONE))


def test_a_journal_is_read(tmp_path: Path) -> None:
    """What was accepted, sent together and done, as version 0.1 leaves it on disk when its process is killed."""
    (tmp_path / "x-00000000.journal").write_bytes(
        bytes.fromhex(
            "c56d70311b0000004e14c6de1b000000106100000000000372000c000000106e00010000000000"
            "c56d70311b000000a65d353d1b000000106100010000000372000c000000106e00020000000000"
            "c56d70311b000000c9c3c0591b000000106100020000000372000c000000106e00030000000000"
            "c56d70312a00000056014b1a2a00000007620065f0000000000000000000010470001300000010300000000000103100010000000000"
            "c56d703114000000011f3a0e140000000464000c000000103000000000000000"
        )
    )
    [journal] = Spool(tmp_path).adopt()
    left = journal.left()
    assert (left.items, left.batches, left.damaged) == ({1: {"n": 2}, 2: {"n": 3}}, {ONE: [1]}, 0)
    journal.done(left.items)
    journal.close()


def test_a_journal_is_its_owners(tmp_path: Path) -> None:
    """Nobody else on the machine can read what is in it."""
    journal = Spool(tmp_path).journal()
    journal.accept([{"n": 1}])
    assert [stat.S_IMODE(file.stat().st_mode) for file in tmp_path.iterdir()] == [0o600]
    journal.done([0])
    journal.close()
