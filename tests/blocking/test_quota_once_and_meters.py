# Generated from tests/aio/test_quota_once_and_meters.py by tools/generate_sync.py.
# Do not edit: change the source and run "make generate".
"""Ids under which a call counts once, and meters beside the windows, on a real server."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any

import pytest
from bson.codec_options import CodecOptions
from bson.raw_bson import RawBSONDocument

from mongopatterns import Quota, QuotaSpec, Rollover, UsageError, Window
from mongopatterns.testing import race_threads

UTC = dt.timezone.utc
NOON = dt.datetime(2026, 3, 4, 12, 30, tzinfo=UTC)
HOUR = dt.timedelta(hours=1)

PLAIN = QuotaSpec("quotas", path="q", windows=[Window.hour(10, rollover=Rollover(20)), Window.day(None)])
METERED = QuotaSpec("quotas", path="q", windows=[Window.hour(10)], meters=["tokens", "cost", "job count"])
RAW: CodecOptions[RawBSONDocument] = CodecOptions(document_class=RawBSONDocument)


def stored(db: Any) -> bytes | None:
    document = db.get_collection("quotas", codec_options=RAW).find_one({})
    return None if document is None else document.raw


# Once --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("call", ["consume", "record", "grant", "refund"])
def test_a_repeat_counts_once(db: Any, call: str) -> None:
    """A second call with the id of a counted one is allowed, says so, and changes not one byte, windows later too."""
    quota = Quota(db, PLAIN)
    quota.consume("a", 5, now=NOON)
    send = getattr(quota, call)
    first = send("a", 3, once="job 1", now=NOON)
    assert (bool(first), first.repeated) == (True, False)
    before = stored(db)
    for now, amount in ((NOON, 3), (NOON, 1000), (NOON + HOUR, 3)):
        again = send("a", amount, once="job 1", now=now)
        assert (bool(again), again.repeated, again.retry_after) == (True, True, None)
        seen = quota.peek("a", now=now)
        assert (again.used, again.remaining, again.extra) == (seen.used, seen.remaining, seen.extra)
    assert stored(db) == before
    other = send("a", 1, once="job 2", now=NOON)
    assert (bool(other), other.repeated) == (True, False)
    assert stored(db) != before


def test_a_refused_call_is_not_remembered(db: Any) -> None:
    """An id stands for what was granted: a refused call may come again under it, and is then decided anew."""
    quota = Quota(db, PLAIN)
    refused = quota.consume("a", 11, once="job", now=NOON)
    assert (bool(refused), refused.repeated) == (False, False)
    assert stored(db) is None
    quota.consume("a", 8, now=NOON)
    before = stored(db)
    assert not quota.consume("a", 3, once="job", now=NOON)
    assert stored(db) == before
    assert quota.consume("a", 3, once="job", now=NOON + HOUR).repeated is False
    assert quota.consume("a", 3, once="job", now=NOON + HOUR).repeated is True


def test_the_last_ids_are_remembered(db: Any) -> None:
    """Exactly `once_kept` ids are known; the one that a later one displaced counts again."""
    quota = Quota(db, QuotaSpec("quotas", path="q", windows=[Window.hour(100)], once_kept=3))
    for job in ("1", "2", "3", "4"):
        assert not quota.consume("a", once=job, now=NOON).repeated
    assert db.quotas.find_one()["q"]["once"] == ["+2", "+3", "+4"]
    assert [quota.consume("a", once=job, now=NOON).repeated for job in ("2", "3", "4")] == [True] * 3
    assert not quota.consume("a", once="1", now=NOON).repeated
    assert not quota.consume("a", once="2", now=NOON).repeated
    assert quota.consume("a", once="4", now=NOON).repeated
    assert quota.peek("a", now=NOON).used == {"hour": 6}


def test_an_id_is_remembered_per_key(db: Any) -> None:
    """The same id counts once for each key."""
    quota = Quota(db, PLAIN)
    for key in ("a", "b"):
        assert not quota.consume(key, once="job", now=NOON).repeated
        assert quota.consume(key, once="job", now=NOON).repeated


def test_a_charge_and_its_refund_may_carry_one_id(db: Any) -> None:
    """An id stands for one kind of call: the refund of a charge under the charge's own id gives back, once."""
    quota = Quota(db, PLAIN)
    assert quota.consume("a", 7, once="job", now=NOON)
    refunded = quota.refund("a", 7, once="job", now=NOON)
    assert (refunded.repeated, refunded.used["hour"]) == (False, 0)
    again = quota.refund("a", 7, once="job", now=NOON)
    assert (again.repeated, again.used["hour"]) == (True, 0)
    assert quota.consume("a", 7, once="job", now=NOON).repeated


@pytest.mark.parametrize("text", ["$x", "$$now", "$state", "a.b", "{}", "ünï", " ", "x" * 200])
def test_an_id_is_data(db: Any, text: str) -> None:
    """Text that looks like an operator or a variable is stored and compared as itself."""
    quota = Quota(db, PLAIN)
    assert not quota.consume("a", once=text, now=NOON).repeated
    assert db.quotas.find_one()["q"]["once"] == [f"+{text}"]
    assert quota.consume("a", once=text, now=NOON).repeated
    assert not quota.consume("a", once=f"{text[:-1]}?", now=NOON).repeated


def test_ids_that_a_collation_finds_equal_are_two(db: Any) -> None:
    """Ids are compared character by character, whatever the collection's own collation takes for equal; signs too."""
    db.create_collection("quotas", collation={"locale": "en", "strength": 1, "alternate": "shifted"})
    quota = Quota(db, PLAIN)
    for job in ("job-a", "job-A", "job-ä", "joba"):
        assert not quota.consume("a", once=job, now=NOON).repeated
        assert not quota.refund("a", 1, once=job, now=NOON).repeated
        assert not quota.record("a", once=f"{job} record", now=NOON).repeated
    for job in ("job-a", "job-A", "job-ä", "joba"):
        assert quota.consume("a", once=job, now=NOON).repeated
        assert quota.refund("a", 1, once=job, now=NOON).repeated
    assert quota.peek("a", now=NOON).used["hour"] == 4


@pytest.mark.parametrize("once", ["", "x" * 201, 5, b"id", True, ["id"], "a\0b", "\ud800"], ids=ascii)
def test_a_bad_id_is_refused_before_anything_is_sent(db: Any, commands: Any, once: Any) -> None:
    """An id that is no storable text of 1 to 200 characters is a UsageError that names the argument."""
    quota = Quota(db, PLAIN)
    for call in (quota.consume, quota.record, quota.grant, quota.refund):
        with pytest.raises(UsageError, match=r"^once: "):
            call("a", 1, once=once)
    assert commands.names == []


def test_repeats_at_once_count_once(db: Any) -> None:
    """Of callers with one id at the same time one is charged, and all are allowed, on a fresh key too."""
    quota = Quota(db, PLAIN)
    report = race_threads(lambda _: quota.consume("a", 10, once="job", now=NOON), times=40, concurrency=20)
    assert report.errors == []
    assert report.count(bool) == 40
    assert report.count(lambda verdict: not verdict.repeated) == 1
    assert quota.peek("a", now=NOON).used["hour"] == 10


def test_other_calls_keep_the_ids(db: Any) -> None:
    """Calls without an id, reservations and corrections leave what is remembered as it is."""
    quota = Quota(db, PLAIN)
    quota.consume("a", once="job", now=NOON)
    quota.record("a", now=NOON)
    quota.grant("a", 5, now=NOON)
    quota.refund("a", 1, now=NOON)
    reservation = quota.reserve("a", ttl=60, now=NOON)
    assert reservation.token
    quota.settle(reservation.token, 1, now=NOON)
    quota.set_state("a", used={"hour": 3}, now=NOON)
    assert quota.consume("a", once="job", now=NOON).repeated
    assert quota.reset("a")
    assert not quota.consume("a", once="job", now=NOON).repeated


def test_one_command_and_no_trace_of_a_repeat(client: Any, db: Any, commands: Any) -> None:
    """A call with an id is one command, and a repeat logs nothing."""
    quota = Quota(db, PLAIN)
    for call in (quota.consume, quota.record, quota.grant, quota.refund):
        call("a", 1, once=call.__name__)
    mine = {"ns": f"{db.name}.quotas"}
    before = client.local["oplog.rs"].count_documents(mine)
    assert before >= 4
    for call in (quota.consume, quota.record, quota.grant, quota.refund):
        assert call("a", 1, once=call.__name__).repeated
    assert client.local["oplog.rs"].count_documents(mine) == before
    assert commands.names == ["findAndModify"] * 8


@pytest.mark.parametrize("call", ["consume", "record", "grant", "refund"])
def test_a_lost_reply_is_no_repeat(db: Any, mongopatterns_server: Any, call: str) -> None:
    """When the driver repeats a call whose reply was lost, it is told as granted and not as repeated; a repeat is."""
    quota = Quota(db, PLAIN)
    quota.consume("a", 5, now=NOON)
    send = getattr(quota, call)
    with mongopatterns_server.fail_point(
        "onPrimaryTransactionalWrite", mode={"times": 1}, data={"closeConnection": True}
    ):
        first = send("a", 2, once="job", now=NOON)
    assert (bool(first), first.repeated) == (True, False)
    used = {"consume": 7, "record": 7, "grant": 5, "refund": 3}[call]
    assert (first.used["hour"], first.extra) == (used, 2 if call == "grant" else 0)
    again = send("a", 2, once="job", now=NOON)
    assert (bool(again), again.repeated, again.used, again.extra) == (True, True, first.used, first.extra)


# Meters ------------------------------------------------------------------------------------------------------


def test_meters_count_what_was_granted(db: Any) -> None:
    """A granted call raises the meters in the same write; a refused one and a repeat raise none."""
    quota = Quota(db, METERED)
    first = quota.consume("a", 8, meters={"tokens": 1000, "job count": 1}, once="job", now=NOON)
    assert first.meters == {"tokens": 1000, "cost": 0, "job count": 1}
    refused = quota.consume("a", 3, meters={"tokens": 500}, now=NOON)
    assert (bool(refused), refused.meters) == (False, first.meters)
    repeated = quota.consume("a", 8, meters={"tokens": 500}, once="job", now=NOON)
    assert (repeated.repeated, repeated.meters) == (True, first.meters)
    recorded = quota.record("a", 8, meters={"tokens": 24}, now=NOON + HOUR)
    assert recorded.meters == {"tokens": 1024, "cost": 0, "job count": 1}
    assert quota.peek("a", now=NOON + 1000 * HOUR).meters == recorded.meters
    assert quota.peek("b", now=NOON).meters == {"tokens": 0, "cost": 0, "job count": 0}


def test_meters_are_exact(db: Any) -> None:
    """Ten times 0.1 is 1, and 18 places are kept."""
    quota = Quota(db, QuotaSpec("quotas", path="q", windows=[Window.hour(None)], meters=["cost"]))
    for _ in range(10):
        verdict = quota.consume("a", meters={"cost": 0.1}, now=NOON)
    assert verdict.meters == {"cost": 1}
    small = Decimal("0.000000000000000001")
    assert quota.consume("a", meters={"cost": small}, now=NOON).meters == {"cost": 1 + small}
    assert quota.refund("a", 1, meters={"cost": small}, now=NOON).meters == {"cost": 1}


def test_meters_in_every_call_that_takes_them(db: Any) -> None:
    """Settling raises the meters, late too, a refund lowers them, and what takes none leaves them."""
    quota = Quota(db, METERED)
    quota.consume("a", 1, meters={"cost": 2.5}, now=NOON)
    reservation = quota.reserve("a", 2, ttl=60, now=NOON)
    late = quota.reserve("a", 2, ttl=60, now=NOON)
    assert reservation.token
    assert late.token
    settled = quota.settle(reservation.token, 1, meters={"cost": 1}, now=NOON)
    assert settled.decision.meters["cost"] == Decimal("3.5")
    assert not quota.settle(reservation.token, 1, meters={"cost": 1}, now=NOON)
    settled = quota.settle(late.token, 0, meters={"cost": 0.5}, now=NOON + HOUR)
    assert settled.decision.meters["cost"] == 4
    assert quota.refund("a", 1, meters={"cost": 1.5}, now=NOON).meters["cost"] == Decimal("2.5")
    for verdict in (
        quota.grant("a", 5, now=NOON),
        quota.peek("a", now=NOON),
    ):
        assert verdict.meters["cost"] == Decimal("2.5")


@pytest.mark.parametrize(
    "meters",
    [{"unknown": 1}, {"tokens": -1}, {"tokens": "1"}, {"tokens": float("nan")}, {"tokens": None}, ["tokens"], 5],
)
def test_bad_meters_are_refused_before_anything_is_sent(db: Any, commands: Any, meters: Any) -> None:
    """A meter that the spec does not name, or an amount that is none, is a UsageError."""
    quota = Quota(db, METERED)
    reservation = quota.reserve("a", ttl=60, now=NOON)
    assert reservation.token
    commands.clear()
    for call in (quota.consume, quota.record, quota.refund):
        with pytest.raises(UsageError, match=r"^meters"):
            call("a", 1, meters=meters)
    with pytest.raises(UsageError, match=r"^meters"):
        quota.settle(reservation.token, 1, meters=meters)
    assert commands.names == []


def test_a_quota_without_meters_takes_none(db: Any, commands: Any) -> None:
    """Where the spec names no meters, giving one is a UsageError, and giving an empty dict is not."""
    quota = Quota(db, PLAIN)
    with pytest.raises(UsageError, match=r"^meters"):
        quota.consume("a", meters={"tokens": 1})
    assert commands.names == []
    assert quota.consume("a", meters={}).meters == {}


def test_meters_at_once_are_all_counted(db: Any) -> None:
    """Of concurrent callers exactly the granted ones raise the meter."""
    quota = Quota(db, METERED)
    report = race_threads(lambda _: quota.consume("a", meters={"cost": 0.1}, now=NOON), times=40, concurrency=20)
    assert report.errors == []
    assert report.count(bool) == 10
    assert quota.peek("a", now=NOON).meters["cost"] == 1


def test_a_lost_reply_counts_meters_once(db: Any, mongopatterns_server: Any) -> None:
    """When the reply is lost after the write, meters are told as that write left them, and rise once."""
    quota = Quota(db, METERED)
    for call in (quota.consume, quota.record):
        with mongopatterns_server.fail_point(
            "onPrimaryTransactionalWrite", mode={"times": 1}, data={"closeConnection": True}
        ):
            verdict = call("a", 1, meters={"cost": 1.5}, now=NOON)
    assert verdict.meters["cost"] == 3
    assert quota.peek("a", now=NOON).meters["cost"] == 3
