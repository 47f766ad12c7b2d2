"""Reservations on a real server: held, settled, released, expired, from any process."""

from __future__ import annotations

import base64
import datetime as dt
import uuid
from decimal import Decimal
from typing import Any

import bson
import pytest
from bson import Binary, Decimal128, Int64, ObjectId
from bson.binary import UuidRepresentation
from bson.codec_options import CodecOptions
from bson.raw_bson import RawBSONDocument

from mongopatterns import (
    AsyncQuota,
    DocumentNotFound,
    Field,
    LimitExceeded,
    QuotaSpec,
    Rollover,
    SettleOutcome,
    StateError,
    UsageError,
    Window,
)
from mongopatterns.testing import race

UTC = dt.timezone.utc
NOON = dt.datetime(2026, 3, 4, 12, 30, tzinfo=UTC)
MS = dt.timedelta(milliseconds=1)
MINUTE = dt.timedelta(minutes=1)
HOUR = dt.timedelta(hours=1)

PLAIN = QuotaSpec("quotas", path="q", windows=[Window.hour(10)])
TWO = QuotaSpec("quotas", path="q", windows=[Window.hour(10), Window.day(25)], meters=["tokens"])
RAW: CodecOptions[RawBSONDocument] = CodecOptions(document_class=RawBSONDocument)
STANDARD: CodecOptions[Any] = CodecOptions(uuid_representation=UuidRepresentation.STANDARD)


async def stored(db: Any, key: Any = "a") -> bytes | None:
    document = await db.get_collection("quotas", codec_options=RAW).find_one({"_id": key})
    return None if document is None else document.raw


async def held(quota: Any, amount: Any, ttl: float = 600, now: dt.datetime = NOON, key: Any = "a") -> str:
    """Reserve, and return the token of what must have fitted."""
    reservation = await quota.reserve(key, amount, ttl=ttl, now=now)
    assert reservation
    assert isinstance(reservation.token, str)
    return reservation.token


# Held --------------------------------------------------------------------------------------------------------


async def test_what_is_held_is_not_there_for_others(db: Any) -> None:
    """A reservation takes its amount from the room of every window, and charges none of them."""
    quota = AsyncQuota(db, TWO)
    reservation = await quota.reserve("a", 4, ttl=90, now=NOON)
    assert reservation
    assert reservation.require() is reservation
    assert reservation.expires_at == NOON + 90 * dt.timedelta(seconds=1)
    decision = reservation.decision
    assert (decision.held, decision.used) == (4, {"hour": 0, "day": 0})
    assert decision.remaining == {"hour": 6, "day": 21}
    assert not await quota.consume("a", 7, now=NOON)
    assert not await quota.reserve("a", 7, ttl=1, now=NOON)
    assert await quota.consume("a", 6, now=NOON)
    assert (await quota.peek("a", now=NOON)).remaining == {"hour": 0, "day": 15}


async def test_a_refused_reservation_says_why_and_writes_nothing(db: Any) -> None:
    """Without room there is no token, the verdict says until when, and no document or state appears or changes."""
    quota = AsyncQuota(db, TWO)
    refused = await quota.reserve("a", 11, ttl=60, now=NOON)
    assert not refused
    assert (refused.token, refused.expires_at, refused.decision.limited_by) == (None, None, "hour")
    assert await stored(db) is None
    await quota.consume("a", 8, now=NOON)
    before = await stored(db)
    refused = await quota.reserve("a", 3, ttl=60, now=NOON)
    assert refused.decision.retry_after == 1800.0
    with pytest.raises(LimitExceeded, match="no room for 3 more"):
        refused.require()
    assert await stored(db) == before
    assert await quota.reserve("a", 2, ttl=60, now=NOON)


async def test_as_many_are_held_as_fit(db: Any) -> None:
    """Of callers that reserve at once exactly as many get a token as there is room for."""
    quota = AsyncQuota(db, QuotaSpec("quotas", path="q", windows=[Window.hour(30)]))
    report = await race(lambda _: quota.reserve("a", 1, ttl=600, now=NOON), times=60, concurrency=20)
    assert report.errors == []
    assert report.count(bool) == 30
    assert (await quota.peek("a", now=NOON)).held == 30


async def test_a_hold_may_be_paid_from_a_grant(db: Any) -> None:
    """A reservation counts on grants as a charge does, and settling takes from them what the windows lack."""
    quota = AsyncQuota(db, PLAIN)
    await quota.grant("a", 5, now=NOON)
    await quota.consume("a", 8, now=NOON)
    assert not await quota.reserve("a", 8, ttl=600, now=NOON)
    token = await held(quota, 7)
    seen = await quota.peek("a", now=NOON)
    assert (seen.extra, seen.held, seen.remaining) == (5, 7, {"hour": 0})
    settled = await quota.settle(token, 7, now=NOON)
    assert (settled.decision.extra, settled.decision.used) == (0, {"hour": 15})


async def test_fractions_are_held_exactly(db: Any) -> None:
    """Ten holds of 0.1 fill a limit of 1, and an eleventh does not fit."""
    quota = AsyncQuota(db, QuotaSpec("quotas", path="q", windows=[Window.hour(1)]))
    held_all = [bool(await quota.reserve("a", 0.1, ttl=60, now=NOON)) for _ in range(11)]
    assert held_all == [True] * 10 + [False]
    assert (await quota.peek("a", now=NOON)).held == 1


@pytest.mark.parametrize(
    "ttl", [0, -1, 0.0009, 31 * 86_400 + 1, float("nan"), float("inf"), True, "60", None, Decimal(1)]
)
async def test_a_bad_ttl_is_refused_before_anything_is_sent(db: Any, commands: Any, ttl: Any) -> None:
    """The ttl is a number of seconds from a millisecond to 31 days: all else is a UsageError."""
    with pytest.raises(UsageError, match=r"^ttl: "):
        await AsyncQuota(db, PLAIN).reserve("a", ttl=ttl)
    assert commands.names == []


@pytest.mark.parametrize("ttl", [0.001, 1.001, 2.001, 0.057, 31 * 86_400])
async def test_a_hold_lasts_to_the_millisecond(db: Any, ttl: float) -> None:
    """A hold lasts for the milliseconds that its ttl says, not one less."""
    reservation = await AsyncQuota(db, PLAIN).reserve("a", ttl=ttl, now=NOON)
    assert reservation.expires_at == NOON + round(ttl * 1000) * MS


# Settled, released -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("used", [4, 1, 0.5, 9])
async def test_settling_charges_what_was_used(db: Any, used: Any) -> None:
    """Less than was held gives room back, more is charged in full, and the hold is gone either way."""
    quota = AsyncQuota(db, TWO)
    token = await held(quota, 4)
    settled = await quota.settle(token, used, meters={"tokens": 2.5}, now=NOON)
    assert settled
    assert (settled.outcome, settled.reserved) == (SettleOutcome.SETTLED, 4)
    assert settled.decision.held == 0
    assert settled.decision.used == {"hour": used, "day": used}
    assert settled.decision.meters == {"tokens": Decimal("2.5")}
    left = Decimal(10) - Decimal(str(used))
    assert not await quota.consume("a", left + Decimal("0.1"), now=NOON)
    assert await quota.consume("a", left, now=NOON)


async def test_settling_nothing_charges_nothing(db: Any) -> None:
    """Settling with 0 ends the hold and leaves the windows as they were."""
    quota = AsyncQuota(db, TWO)
    settled = await quota.settle(await held(quota, 4), 0, now=NOON)
    assert (settled.outcome, settled.decision.used) == (SettleOutcome.SETTLED, {"hour": 0, "day": 0})
    assert settled.decision.remaining == {"hour": 10, "day": 25}


async def test_settling_more_than_there_is_room_for_is_charged_and_told(db: Any) -> None:
    """What has been used is charged past the limit too, and the verdict names the windows."""
    quota = AsyncQuota(db, TWO)
    token = await held(quota, 4)
    await quota.consume("a", 6, now=NOON)
    settled = await quota.settle(token, 20, now=NOON)
    assert settled
    assert (settled.decision.exceeded, settled.decision.used) == (("hour", "day"), {"hour": 26, "day": 26})


@pytest.mark.parametrize("first", ["settle", "release"])
@pytest.mark.parametrize("second", ["settle", "release"])
async def test_a_reservation_ends_once(db: Any, first: str, second: str) -> None:
    """Settling or releasing a second time changes not one byte, and says that it was done already."""
    quota = AsyncQuota(db, TWO)
    token = await held(quota, 4)
    other = await held(quota, 1)
    if first == "settle":
        assert (await quota.settle(token, 3, now=NOON)).outcome is SettleOutcome.SETTLED
    else:
        assert await quota.release(token, now=NOON) is True
    before = await stored(db)
    for now in (NOON, NOON + 5 * HOUR):
        if second == "settle":
            again = await quota.settle(token, 3, meters={"tokens": 1}, now=now)
            assert not again
            assert (again.outcome, again.reserved) == (SettleOutcome.ALREADY, 0)
        else:
            assert await quota.release(token, now=now) is False
    assert await stored(db) == before
    seen = await quota.peek("a", now=NOON)
    assert (seen.held, seen.used["hour"]) == (1, 3 if first == "settle" else 0)
    assert await quota.release(other, now=NOON)


async def test_settling_at_once_charges_once(db: Any) -> None:
    """Of callers that settle one reservation at the same time exactly one charges."""
    quota = AsyncQuota(db, PLAIN)
    token = await held(quota, 4)
    report = await race(lambda _: quota.settle(token, 4, now=NOON), times=30, concurrency=15)
    assert report.errors == []
    assert report.count(bool) == 1
    seen = await quota.peek("a", now=NOON)
    assert (seen.used, seen.held) == ({"hour": 4}, 0)


async def test_bad_amounts_are_refused_and_named(db: Any, commands: Any) -> None:
    """A bad amount of settle is named by its own name, a bad one of reserve too, and nothing is sent."""
    quota = AsyncQuota(db, PLAIN)
    token = await held(quota, 4)
    commands.clear()
    for bad in (-1, float("nan"), True, "1", None):
        with pytest.raises(UsageError, match=r"^used: "):
            await quota.settle(token, bad)
        with pytest.raises(UsageError, match=r"^amount: "):
            await quota.reserve("a", bad, ttl=1)
    with pytest.raises(UsageError, match=r"^amount: "):
        await quota.reserve("a", 0, ttl=1)
    assert commands.names == []


# Expired, late -----------------------------------------------------------------------------------------------


async def test_a_hold_ends_by_itself(db: Any) -> None:
    """At its time, and not a millisecond before it, the room is there again without any call."""
    quota = AsyncQuota(db, PLAIN)
    await held(quota, 7, ttl=60)
    until = NOON + MINUTE
    refused = await quota.consume("a", 4, now=NOON)
    assert refused.retry_after == 60.0
    assert not await quota.consume("a", 4, now=until - MS)
    assert (await quota.peek("a", now=until)).held == 0
    assert await quota.consume("a", 10, now=until)


async def test_retry_after_knows_which_hold_ends_first(db: Any) -> None:
    """The wait is for as many holds as must end, or for the window if that is sooner."""
    quota = AsyncQuota(db, PLAIN)
    await held(quota, 4, ttl=600)
    await held(quota, 3, ttl=60)
    await held(quota, 3, ttl=7200)
    waits = {amount: (await quota.peek("a", amount, now=NOON)).retry_after for amount in (1, 3, 4, 7, 8, 10, 11)}
    assert waits == {1: 60.0, 3: 60.0, 4: 600.0, 7: 600.0, 8: 7200.0, 10: 7200.0, 11: None}
    await quota.settle(await held(quota, 3, ttl=5, now=NOON + MINUTE), 3, now=NOON + MINUTE)
    # 3 used, 4 held until 12:40 and 3 until 14:30: at 13:00 the window brings back what was used
    assert (await quota.peek("a", 7, now=NOON + MINUTE)).retry_after == 29 * 60.0
    assert not await quota.consume("a", 7, now=NOON + HOUR / 2 - MS)
    assert await quota.consume("a", 7, now=NOON + HOUR / 2)


async def test_settling_late_is_charged_and_says_so(db: Any) -> None:
    """What was used is charged although the hold expired and others took the room; a second time changes nothing."""
    quota = AsyncQuota(db, PLAIN)
    token = await held(quota, 7, ttl=60)
    now = NOON + MINUTE
    assert await quota.consume("a", 10, now=now)
    late = await quota.settle(token, 6, now=now)
    assert late
    assert (late.outcome, late.reserved) == (SettleOutcome.LATE, 7)
    assert (late.decision.used, late.decision.exceeded) == ({"hour": 16}, ("hour",))
    before = await stored(db)
    assert (await quota.settle(token, 6, now=now)).outcome is SettleOutcome.ALREADY
    assert await stored(db) == before


async def test_an_expired_hold_can_be_released(db: Any) -> None:
    """Releasing an expired hold is true once, and frees nothing twice."""
    quota = AsyncQuota(db, PLAIN)
    token = await held(quota, 7, ttl=60)
    assert await quota.release(token, now=NOON + HOUR)
    assert not await quota.release(token, now=NOON + HOUR)
    assert (await quota.peek("a", now=NOON)).remaining == {"hour": 10}


async def test_the_last_expired_holds_are_known(db: Any) -> None:
    """Of many that expired the last 32 can be settled late; those before them were given up, and charge nothing."""
    quota = AsyncQuota(db, PLAIN)
    tokens = [await held(quota, 0.1, ttl=60 + index) for index in range(34)]
    later = NOON + HOUR
    await held(quota, 1, now=later)
    outcomes = [(await quota.settle(token, 1, now=later)).outcome for token in tokens]
    assert outcomes == [SettleOutcome.ALREADY] * 2 + [SettleOutcome.LATE] * 32
    assert (await quota.peek("a", now=later)).used == {"hour": 32}


async def test_a_hold_outlives_its_window(db: Any) -> None:
    """A hold counts against the window that is running, and is charged to that when it is settled."""
    spec = QuotaSpec("quotas", path="q", windows=[Window.hour(10, rollover=Rollover(5)), Window.day(25)])
    quota = AsyncQuota(db, spec)
    token = await held(quota, 4, ttl=7200)
    await quota.consume("a", 3, now=NOON)
    now = NOON + HOUR
    seen = await quota.peek("a", now=now)
    assert (seen.held, seen.banked, seen.remaining) == (4, {"hour": 5, "day": 0}, {"hour": 11, "day": 18})
    assert not await quota.consume("a", 12, now=now)
    assert await quota.consume("a", 11, now=now)
    settled = await quota.settle(token, 4, now=now)
    assert (settled.decision.used, settled.decision.banked["hour"]) == ({"hour": 10, "day": 18}, 0)


# Tokens ------------------------------------------------------------------------------------------------------

KEYS: list[Any] = [
    "alice",
    "$name",
    "ünï\u2028",
    7,
    -1,
    2**63 - 1,
    0.5,
    True,
    Int64(5),
    Decimal128("1.50"),
    ObjectId("65e5c0ffee65e5c0ffee65e5"),
    uuid.UUID(int=5),
    b"\0\xff",
    Binary(b"abc", 5),
    NOON,
    {"u": "$y", "d": 1},
    {"tenant": ObjectId("65e5c0ffee65e5c0ffee65e5"), "user": {"id": uuid.UUID(int=7), "since": NOON}},
]


@pytest.mark.parametrize("key", KEYS, ids=repr)
async def test_a_token_is_text_that_any_process_can_settle(db: Any, key: Any) -> None:
    """Of a key of any type the token is plain text, and another instance settles with it, whose spec is made anew."""
    collection = db.get_collection("quotas", codec_options=STANDARD)
    token = await held(AsyncQuota(collection, PLAIN), 4, key=key)
    assert token.isascii()
    assert token.isprintable()
    other = AsyncQuota(collection, QuotaSpec("quotas", path="q", windows=[Window.hour(10)]))
    assert (await other.peek(key, now=NOON)).held == 4
    settled = await other.settle(token, 3, now=NOON)
    assert (settled.outcome, settled.decision.used) == (SettleOutcome.SETTLED, {"hour": 3})
    assert (await other.peek(key, now=NOON)).used == {"hour": 3}
    assert await db.quotas.count_documents({}) == 1
    assert not await other.release(token, now=NOON)


@pytest.mark.parametrize("representation", [UuidRepresentation.PYTHON_LEGACY, UuidRepresentation.JAVA_LEGACY])
async def test_a_token_of_a_uuid_follows_the_callers_own_representation(db: Any, representation: int) -> None:
    """Where the collection stores UUIDs in an older form, a token finds the document of its key all the same."""
    collection = db.get_collection("quotas", codec_options=CodecOptions(uuid_representation=representation))
    quota = AsyncQuota(collection, PLAIN)
    key = uuid.uuid4()
    token = await held(quota, 4, key=key)
    assert (await quota.settle(token, 3, now=NOON)).outcome is SettleOutcome.SETTLED
    assert (await quota.peek(key, now=NOON)).used == {"hour": 3}


@pytest.mark.parametrize("subtype", [3, 4])
@pytest.mark.parametrize(
    "representation", [UuidRepresentation.UNSPECIFIED, UuidRepresentation.STANDARD, UuidRepresentation.PYTHON_LEGACY]
)
async def test_a_token_of_a_binary_uuid_is_settled(db: Any, representation: int, subtype: int) -> None:
    """A UUID that is given as Binary, the only way without a representation, is found by its token."""
    collection = db.get_collection("quotas", codec_options=CodecOptions(uuid_representation=representation))
    quota, key = AsyncQuota(collection, PLAIN), Binary(uuid.UUID(int=5).bytes, subtype)
    token = await held(quota, 4, key=key)
    assert (await quota.settle(token, 3, now=NOON)).outcome is SettleOutcome.SETTLED
    assert (await quota.peek(key, now=NOON)).used == {"hour": 3}
    assert await db.quotas.count_documents({}) == 1


@pytest.mark.parametrize("length", [200, 5_000, 100_000])
async def test_a_token_of_a_long_key_is_settled(db: Any, length: int) -> None:
    """However long the key is, what was reserved can be settled."""
    quota = AsyncQuota(db, PLAIN)
    token = await held(quota, 4, key="x" * length)
    assert (await quota.settle(token, 3, now=NOON)).outcome is SettleOutcome.SETTLED
    assert (await quota.peek("x" * length, now=NOON)).used == {"hour": 3}


async def test_a_token_of_a_key_that_is_given_as_text(db: Any) -> None:
    """With key_type=ObjectId and a key field of its own, reserving by text and settling by token is one key."""
    await db.users.create_index("user.id", unique=True)
    spec = QuotaSpec("users", path="q", key_field="user.id", key_type=ObjectId, windows=[Window.hour(10)])
    quota, key = AsyncQuota(db, spec), ObjectId()
    token = await held(quota, 4, key=str(key))
    assert (await quota.settle(token, 3, now=NOON)).outcome is SettleOutcome.SETTLED
    assert (await quota.peek(key, now=NOON)).used == {"hour": 3}
    assert await db.users.count_documents({"user.id": key}) == 1


def token_of(**fields: Any) -> str:
    return base64.urlsafe_b64encode(bson.encode(fields)).decode()


SOME_ID = ObjectId("65e5c0ffee65e5c0ffee65e5")

BAD_TOKENS: list[Any] = [
    "",
    "x",
    "garbage",
    "é",
    "\ud800",
    None,
    7,
    b"",
    [],
    {},
    "a" * 10_000,
    token_of(),
    token_of(k="a"),
    token_of(i=SOME_ID),
    token_of(k=None, i=SOME_ID),
    token_of(k="a", i="text"),
    token_of(k="a", i=None),
    token_of(k=[1], i=SOME_ID),
    token_of(k={"$gt": ""}, i=SOME_ID),
    token_of(k=float("nan"), i=SOME_ID),
    token_of(k=bson.MinKey(), i=SOME_ID),
    token_of(k=bson.Regex("."), i=SOME_ID),
    token_of(k="a", i=SOME_ID)[:-4],
    token_of(k="a", i=SOME_ID) + "\n",
]


@pytest.mark.parametrize("token", BAD_TOKENS, ids=lambda token: repr(token)[:24])
async def test_what_is_no_token_is_refused(db: Any, commands: Any, token: Any) -> None:
    """Anything but a token of a reservation is a UsageError, and nothing is sent."""
    quota = AsyncQuota(db, PLAIN)
    with pytest.raises(UsageError):
        await quota.settle(token, 1)
    with pytest.raises(UsageError):
        await quota.release(token)
    assert commands.names == []


@pytest.mark.parametrize("other", ["path", "collection"])
async def test_a_token_of_another_quota_is_refused(db: Any, other: str) -> None:
    """A token that another quota gave is a UsageError, and never "settled already"; both quotas stay as they are."""
    quota = AsyncQuota(db, PLAIN)
    strange = AsyncQuota(
        db, QuotaSpec("others" if other == "collection" else "quotas", path="p", windows=[Window.hour(10)])
    )
    token = await held(quota, 4)
    await strange.consume("a", 1, now=NOON)
    before = await stored(db)
    with pytest.raises(UsageError, match=r"^token: "):
        await strange.settle(token, 4, now=NOON)
    with pytest.raises(UsageError, match=r"^token: "):
        await strange.release(token, now=NOON)
    assert await stored(db) == before
    assert (await strange.peek("a", now=NOON)).used == {"hour": 1}
    assert (await quota.settle(token, 4, now=NOON)).outcome is SettleOutcome.SETTLED


# Bounds, costs, losses ---------------------------------------------------------------------------------------


async def test_a_thousand_may_be_open(db: Any) -> None:
    """The thousandth reservation is held, the next one is a StateError that changes nothing, until one ends."""
    quota = AsyncQuota(db, QuotaSpec("quotas", path="q", windows=[Window.hour(5000)]))
    last = await held(quota, 1)
    (hold,) = (await db.quotas.find_one())["q"]["holds"]
    many = [{**hold, "id": ObjectId()} for _ in range(998)]
    await db.quotas.update_one({}, {"$push": {"q.holds": {"$each": many}}})
    assert await quota.reserve("a", 1, ttl=600, now=NOON)
    before = await stored(db)
    with pytest.raises(StateError, match="1000 reservations are open"):
        await quota.reserve("a", 1, ttl=600, now=NOON)
    assert await stored(db) == before
    assert (await quota.consume("a", 4000, now=NOON)).held == 1000
    assert await quota.release(last, now=NOON)
    await held(quota, 1)
    assert await quota.reserve("a", 1, ttl=600, now=NOON + HOUR)


async def test_one_command_a_call(db: Any, commands: Any) -> None:
    """Reserving, settling and releasing are one command each, also when they are refused or come too late."""
    quota = AsyncQuota(db, PLAIN)
    assert not await quota.reserve("a", 11, ttl=60)
    token = (await quota.reserve("a", 1, ttl=60)).token
    other = (await quota.reserve("a", 1, ttl=60)).token
    assert token
    assert other
    for _ in range(2):
        await quota.settle(token, 1)
        await quota.release(other)
    assert commands.names == ["findAndModify"] * 7
    assert commands.comments == {f"mongopatterns.quota.{call}" for call in ("reserve", "settle", "release")}
    assert [bool(command.get("upsert")) for _, command in commands.sent] == [False, True, True, *[False] * 4]


async def test_what_changes_nothing_leaves_no_trace_in_the_oplog(client: Any, db: Any) -> None:
    """A refused reservation and whatever comes after the end of one log nothing."""
    quota = AsyncQuota(db, PLAIN)
    token = await held(quota, 4)
    ghost = await held(quota, 4, key="ghost")
    await db.quotas.delete_one({"_id": "ghost"})
    await quota.settle(token, 4, now=NOON)
    mine = {"ns": f"{db.name}.quotas"}
    before = await client.local["oplog.rs"].count_documents(mine)
    assert before >= 3
    assert not await quota.reserve("a", 7, ttl=60, now=NOON)
    assert not await quota.reserve("fresh", 11, ttl=60, now=NOON)
    assert not await quota.settle(token, 4, now=NOON)
    assert not await quota.release(token, now=NOON + HOUR)
    assert (await quota.settle(ghost, 4, now=NOON)).outcome is SettleOutcome.ALREADY
    assert not await quota.release(ghost, now=NOON)
    assert await client.local["oplog.rs"].count_documents(mine) == before
    assert await db.quotas.count_documents({}) == 1


async def test_no_document_is_made_where_none_may_be(db: Any) -> None:
    """With create=None reserving, settling and releasing of a key without a document is an error."""
    open_token = await held(AsyncQuota(db, PLAIN), 4, key="ghost")
    await db.quotas.delete_many({})
    quota = AsyncQuota(db, QuotaSpec("quotas", path="q", windows=[Window.hour(10)], create=None))
    with pytest.raises(DocumentNotFound):
        await quota.reserve("ghost", ttl=60)
    with pytest.raises(DocumentNotFound):
        await quota.settle(open_token, 1)
    with pytest.raises(DocumentNotFound):
        await quota.release(open_token)
    assert await db.quotas.count_documents({}) == 0


async def test_a_reservation_creates_the_document_with_its_fields(db: Any) -> None:
    """A first reservation stores the fields of create=, limits among them, and starts no window."""
    spec = QuotaSpec("quotas", path="a.q", windows=[Window.hour(Field("plan"))], create={"plan": 5})
    quota = AsyncQuota(db, spec)
    assert not await quota.reserve("a", 6, ttl=60, now=NOON)
    assert await db.quotas.count_documents({}) == 0
    await held(quota, 5)
    document = await db.quotas.find_one()
    assert (document["plan"], set(document["a"]["q"])) == (5, {"at", "by", "holds"})


@pytest.mark.parametrize("call", ["reserve", "settle", "settle late", "release"])
async def test_a_lost_reply_counts_once_and_keeps_its_verdict(db: Any, mongopatterns_server: Any, call: str) -> None:
    """When the reply is lost after the write, the driver's retry tells what that write has done."""
    quota = AsyncQuota(db, TWO)
    tokens = {key: await held(quota, 4, ttl=60, key=key) for key in ("kept", "lost")}
    now = NOON + HOUR if call == "settle late" else NOON

    async def send(key: str) -> Any:
        if call == "reserve":
            reservation = await quota.reserve(key, 3, ttl=60, now=now)
            return bool(reservation.token), reservation.expires_at, reservation.decision.remaining
        if call == "release":
            return await quota.release(tokens[key], now=now)
        settled = await quota.settle(tokens[key], 12, meters={"tokens": 1.5}, now=now)
        decision = settled.decision
        return settled.outcome, settled.reserved, decision.used, decision.exceeded, decision.meters, decision.resets_at

    kept = await send("kept")
    with mongopatterns_server.fail_point(
        "onPrimaryTransactionalWrite", mode={"times": 1}, data={"closeConnection": True}
    ):
        assert await send("lost") == kept
    assert kept
    seen = [(await quota.peek(key, now=now)).to_dict() for key in ("kept", "lost")]
    assert {**seen[0], "key": ""} == {**seen[1], "key": ""}
