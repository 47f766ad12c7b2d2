"""Ids under which a call counts once, and meters beside the windows, on a real server."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any

import pytest
from bson.codec_options import CodecOptions
from bson.raw_bson import RawBSONDocument

from mongopatterns import AsyncQuota, QuotaSpec, Rollover, UsageError, Window
from mongopatterns.testing import race

UTC = dt.timezone.utc
NOON = dt.datetime(2026, 3, 4, 12, 30, tzinfo=UTC)
HOUR = dt.timedelta(hours=1)

PLAIN = QuotaSpec("quotas", path="q", windows=[Window.hour(10, rollover=Rollover(20)), Window.day(None)])
METERED = QuotaSpec("quotas", path="q", windows=[Window.hour(10)], meters=["tokens", "cost", "job count"])
RAW: CodecOptions[RawBSONDocument] = CodecOptions(document_class=RawBSONDocument)


async def stored(db: Any) -> bytes | None:
    document = await db.get_collection("quotas", codec_options=RAW).find_one({})
    return None if document is None else document.raw


# Once --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("call", ["consume", "record", "grant", "refund"])
async def test_a_repeat_counts_once(db: Any, call: str) -> None:
    """A second call with the id of a counted one is allowed, says so, and changes not one byte, windows later too."""
    quota = AsyncQuota(db, PLAIN)
    await quota.consume("a", 5, now=NOON)
    send = getattr(quota, call)
    first = await send("a", 3, once="job 1", now=NOON)
    assert (bool(first), first.repeated) == (True, False)
    before = await stored(db)
    for now, amount in ((NOON, 3), (NOON, 1000), (NOON + HOUR, 3)):
        again = await send("a", amount, once="job 1", now=now)
        assert (bool(again), again.repeated, again.retry_after) == (True, True, None)
        seen = await quota.peek("a", now=now)
        assert (again.used, again.remaining, again.extra) == (seen.used, seen.remaining, seen.extra)
    assert await stored(db) == before
    other = await send("a", 1, once="job 2", now=NOON)
    assert (bool(other), other.repeated) == (True, False)
    assert await stored(db) != before


async def test_a_refused_call_is_not_remembered(db: Any) -> None:
    """An id stands for what was granted: a refused call may come again under it, and is then decided anew."""
    quota = AsyncQuota(db, PLAIN)
    refused = await quota.consume("a", 11, once="job", now=NOON)
    assert (bool(refused), refused.repeated) == (False, False)
    assert await stored(db) is None
    await quota.consume("a", 8, now=NOON)
    before = await stored(db)
    assert not await quota.consume("a", 3, once="job", now=NOON)
    assert await stored(db) == before
    assert (await quota.consume("a", 3, once="job", now=NOON + HOUR)).repeated is False
    assert (await quota.consume("a", 3, once="job", now=NOON + HOUR)).repeated is True


async def test_the_last_ids_are_remembered(db: Any) -> None:
    """Exactly `once_kept` ids are known; the one that a later one displaced counts again."""
    quota = AsyncQuota(db, QuotaSpec("quotas", path="q", windows=[Window.hour(100)], once_kept=3))
    for job in ("1", "2", "3", "4"):
        assert not (await quota.consume("a", once=job, now=NOON)).repeated
    assert (await db.quotas.find_one())["q"]["once"] == ["+2", "+3", "+4"]
    assert [(await quota.consume("a", once=job, now=NOON)).repeated for job in ("2", "3", "4")] == [True] * 3
    assert not (await quota.consume("a", once="1", now=NOON)).repeated
    assert not (await quota.consume("a", once="2", now=NOON)).repeated
    assert (await quota.consume("a", once="4", now=NOON)).repeated
    assert (await quota.peek("a", now=NOON)).used == {"hour": 6}


async def test_an_id_is_remembered_per_key(db: Any) -> None:
    """The same id counts once for each key."""
    quota = AsyncQuota(db, PLAIN)
    for key in ("a", "b"):
        assert not (await quota.consume(key, once="job", now=NOON)).repeated
        assert (await quota.consume(key, once="job", now=NOON)).repeated


async def test_a_charge_and_its_refund_may_carry_one_id(db: Any) -> None:
    """An id stands for one kind of call: the refund of a charge under the charge's own id gives back, once."""
    quota = AsyncQuota(db, PLAIN)
    assert await quota.consume("a", 7, once="job", now=NOON)
    refunded = await quota.refund("a", 7, once="job", now=NOON)
    assert (refunded.repeated, refunded.used["hour"]) == (False, 0)
    again = await quota.refund("a", 7, once="job", now=NOON)
    assert (again.repeated, again.used["hour"]) == (True, 0)
    assert (await quota.consume("a", 7, once="job", now=NOON)).repeated


@pytest.mark.parametrize("text", ["$x", "$$now", "$state", "a.b", "{}", "ünï", " ", "x" * 200])
async def test_an_id_is_data(db: Any, text: str) -> None:
    """Text that looks like an operator or a variable is stored and compared as itself."""
    quota = AsyncQuota(db, PLAIN)
    assert not (await quota.consume("a", once=text, now=NOON)).repeated
    assert (await db.quotas.find_one())["q"]["once"] == [f"+{text}"]
    assert (await quota.consume("a", once=text, now=NOON)).repeated
    assert not (await quota.consume("a", once=f"{text[:-1]}?", now=NOON)).repeated


async def test_ids_that_a_collation_finds_equal_are_two(db: Any) -> None:
    """Ids are compared character by character, whatever the collection's own collation takes for equal; signs too."""
    await db.create_collection("quotas", collation={"locale": "en", "strength": 1, "alternate": "shifted"})
    quota = AsyncQuota(db, PLAIN)
    for job in ("job-a", "job-A", "job-ä", "joba"):
        assert not (await quota.consume("a", once=job, now=NOON)).repeated
        assert not (await quota.refund("a", 1, once=job, now=NOON)).repeated
        assert not (await quota.record("a", once=f"{job} record", now=NOON)).repeated
    for job in ("job-a", "job-A", "job-ä", "joba"):
        assert (await quota.consume("a", once=job, now=NOON)).repeated
        assert (await quota.refund("a", 1, once=job, now=NOON)).repeated
    assert (await quota.peek("a", now=NOON)).used["hour"] == 4


@pytest.mark.parametrize("once", ["", "x" * 201, 5, b"id", True, ["id"], "a\0b", "\ud800"], ids=ascii)
async def test_a_bad_id_is_refused_before_anything_is_sent(db: Any, commands: Any, once: Any) -> None:
    """An id that is no storable text of 1 to 200 characters is a UsageError that names the argument."""
    quota = AsyncQuota(db, PLAIN)
    for call in (quota.consume, quota.record, quota.grant, quota.refund):
        with pytest.raises(UsageError, match=r"^once: "):
            await call("a", 1, once=once)
    assert commands.names == []


async def test_repeats_at_once_count_once(db: Any) -> None:
    """Of callers with one id at the same time one is charged, and all are allowed, on a fresh key too."""
    quota = AsyncQuota(db, PLAIN)
    report = await race(lambda _: quota.consume("a", 10, once="job", now=NOON), times=40, concurrency=20)
    assert report.errors == []
    assert report.count(bool) == 40
    assert report.count(lambda verdict: not verdict.repeated) == 1
    assert (await quota.peek("a", now=NOON)).used["hour"] == 10


async def test_other_calls_keep_the_ids(db: Any) -> None:
    """Calls without an id, reservations and corrections leave what is remembered as it is."""
    quota = AsyncQuota(db, PLAIN)
    await quota.consume("a", once="job", now=NOON)
    await quota.record("a", now=NOON)
    await quota.grant("a", 5, now=NOON)
    await quota.refund("a", 1, now=NOON)
    reservation = await quota.reserve("a", ttl=60, now=NOON)
    assert reservation.token
    await quota.settle(reservation.token, 1, now=NOON)
    await quota.set_state("a", used={"hour": 3}, now=NOON)
    assert (await quota.consume("a", once="job", now=NOON)).repeated
    assert await quota.reset("a")
    assert not (await quota.consume("a", once="job", now=NOON)).repeated


async def test_one_command_and_no_trace_of_a_repeat(client: Any, db: Any, commands: Any) -> None:
    """A call with an id is one command, and a repeat logs nothing."""
    quota = AsyncQuota(db, PLAIN)
    for call in (quota.consume, quota.record, quota.grant, quota.refund):
        await call("a", 1, once=call.__name__)
    mine = {"ns": f"{db.name}.quotas"}
    before = await client.local["oplog.rs"].count_documents(mine)
    assert before >= 4
    for call in (quota.consume, quota.record, quota.grant, quota.refund):
        assert (await call("a", 1, once=call.__name__)).repeated
    assert await client.local["oplog.rs"].count_documents(mine) == before
    assert commands.names == ["findAndModify"] * 8


@pytest.mark.parametrize("call", ["consume", "record", "grant", "refund"])
async def test_a_lost_reply_is_no_repeat(db: Any, mongopatterns_server: Any, call: str) -> None:
    """When the driver repeats a call whose reply was lost, it is told as granted and not as repeated; a repeat is."""
    quota = AsyncQuota(db, PLAIN)
    await quota.consume("a", 5, now=NOON)
    send = getattr(quota, call)
    with mongopatterns_server.fail_point(
        "onPrimaryTransactionalWrite", mode={"times": 1}, data={"closeConnection": True}
    ):
        first = await send("a", 2, once="job", now=NOON)
    assert (bool(first), first.repeated) == (True, False)
    used = {"consume": 7, "record": 7, "grant": 5, "refund": 3}[call]
    assert (first.used["hour"], first.extra) == (used, 2 if call == "grant" else 0)
    again = await send("a", 2, once="job", now=NOON)
    assert (bool(again), again.repeated, again.used, again.extra) == (True, True, first.used, first.extra)


# Meters ------------------------------------------------------------------------------------------------------


async def test_meters_count_what_was_granted(db: Any) -> None:
    """A granted call raises the meters in the same write; a refused one and a repeat raise none."""
    quota = AsyncQuota(db, METERED)
    first = await quota.consume("a", 8, meters={"tokens": 1000, "job count": 1}, once="job", now=NOON)
    assert first.meters == {"tokens": 1000, "cost": 0, "job count": 1}
    refused = await quota.consume("a", 3, meters={"tokens": 500}, now=NOON)
    assert (bool(refused), refused.meters) == (False, first.meters)
    repeated = await quota.consume("a", 8, meters={"tokens": 500}, once="job", now=NOON)
    assert (repeated.repeated, repeated.meters) == (True, first.meters)
    recorded = await quota.record("a", 8, meters={"tokens": 24}, now=NOON + HOUR)
    assert recorded.meters == {"tokens": 1024, "cost": 0, "job count": 1}
    assert (await quota.peek("a", now=NOON + 1000 * HOUR)).meters == recorded.meters
    assert (await quota.peek("b", now=NOON)).meters == {"tokens": 0, "cost": 0, "job count": 0}


async def test_meters_are_exact(db: Any) -> None:
    """Ten times 0.1 is 1, and 18 places are kept."""
    quota = AsyncQuota(db, QuotaSpec("quotas", path="q", windows=[Window.hour(None)], meters=["cost"]))
    for _ in range(10):
        verdict = await quota.consume("a", meters={"cost": 0.1}, now=NOON)
    assert verdict.meters == {"cost": 1}
    small = Decimal("0.000000000000000001")
    assert (await quota.consume("a", meters={"cost": small}, now=NOON)).meters == {"cost": 1 + small}
    assert (await quota.refund("a", 1, meters={"cost": small}, now=NOON)).meters == {"cost": 1}


async def test_meters_in_every_call_that_takes_them(db: Any) -> None:
    """Settling raises the meters, late too, a refund lowers them, and what takes none leaves them."""
    quota = AsyncQuota(db, METERED)
    await quota.consume("a", 1, meters={"cost": 2.5}, now=NOON)
    reservation = await quota.reserve("a", 2, ttl=60, now=NOON)
    late = await quota.reserve("a", 2, ttl=60, now=NOON)
    assert reservation.token
    assert late.token
    settled = await quota.settle(reservation.token, 1, meters={"cost": 1}, now=NOON)
    assert settled.decision.meters["cost"] == Decimal("3.5")
    assert not await quota.settle(reservation.token, 1, meters={"cost": 1}, now=NOON)
    settled = await quota.settle(late.token, 0, meters={"cost": 0.5}, now=NOON + HOUR)
    assert settled.decision.meters["cost"] == 4
    assert (await quota.refund("a", 1, meters={"cost": 1.5}, now=NOON)).meters["cost"] == Decimal("2.5")
    for verdict in (
        await quota.grant("a", 5, now=NOON),
        await quota.peek("a", now=NOON),
    ):
        assert verdict.meters["cost"] == Decimal("2.5")


@pytest.mark.parametrize(
    "meters",
    [{"unknown": 1}, {"tokens": -1}, {"tokens": "1"}, {"tokens": float("nan")}, {"tokens": None}, ["tokens"], 5],
)
async def test_bad_meters_are_refused_before_anything_is_sent(db: Any, commands: Any, meters: Any) -> None:
    """A meter that the spec does not name, or an amount that is none, is a UsageError."""
    quota = AsyncQuota(db, METERED)
    reservation = await quota.reserve("a", ttl=60, now=NOON)
    assert reservation.token
    commands.clear()
    for call in (quota.consume, quota.record, quota.refund):
        with pytest.raises(UsageError, match=r"^meters"):
            await call("a", 1, meters=meters)
    with pytest.raises(UsageError, match=r"^meters"):
        await quota.settle(reservation.token, 1, meters=meters)
    assert commands.names == []


async def test_a_quota_without_meters_takes_none(db: Any, commands: Any) -> None:
    """Where the spec names no meters, giving one is a UsageError, and giving an empty dict is not."""
    quota = AsyncQuota(db, PLAIN)
    with pytest.raises(UsageError, match=r"^meters"):
        await quota.consume("a", meters={"tokens": 1})
    assert commands.names == []
    assert (await quota.consume("a", meters={})).meters == {}


async def test_meters_at_once_are_all_counted(db: Any) -> None:
    """Of concurrent callers exactly the granted ones raise the meter."""
    quota = AsyncQuota(db, METERED)
    report = await race(lambda _: quota.consume("a", meters={"cost": 0.1}, now=NOON), times=40, concurrency=20)
    assert report.errors == []
    assert report.count(bool) == 10
    assert (await quota.peek("a", now=NOON)).meters["cost"] == 1


async def test_a_lost_reply_counts_meters_once(db: Any, mongopatterns_server: Any) -> None:
    """When the reply is lost after the write, meters are told as that write left them, and rise once."""
    quota = AsyncQuota(db, METERED)
    for call in (quota.consume, quota.record):
        with mongopatterns_server.fail_point(
            "onPrimaryTransactionalWrite", mode={"times": 1}, data={"closeConnection": True}
        ):
            verdict = await call("a", 1, meters={"cost": 1.5}, now=NOON)
    assert verdict.meters["cost"] == 3
    assert (await quota.peek("a", now=NOON)).meters["cost"] == 3
