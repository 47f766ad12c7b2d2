"""What is stored: read, adopted, corrected, met by another spec, or written by hand; on a real server."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import bson
import pytest
from bson import Decimal128, Int64, MinKey, ObjectId
from bson.codec_options import CodecOptions
from bson.raw_bson import RawBSONDocument

from mongopatterns import (
    AsyncQuota,
    DocumentNotFound,
    Field,
    QuotaSpec,
    Rollover,
    SettleOutcome,
    StateError,
    Times,
    UsageError,
    Window,
)

UTC = dt.timezone.utc
NOON = dt.datetime(2026, 3, 4, 12, 30, tzinfo=UTC)
MS = dt.timedelta(milliseconds=1)
MINUTE = dt.timedelta(minutes=1)
HOUR = dt.timedelta(hours=1)
DAY = dt.timedelta(days=1)
END = dt.datetime(2026, 3, 4, 13, tzinfo=UTC)
RAW: CodecOptions[RawBSONDocument] = CodecOptions(document_class=RawBSONDocument)

FULL = QuotaSpec(
    "quotas",
    path="a.q",
    windows=[Window.hour(10, rollover=Rollover(20)), Window.day(Field("limit", default=40)), Window.month(None)],
    meters=["tokens"],
)


def one(*windows: Window, path: str = "q", **more: Any) -> QuotaSpec:
    return QuotaSpec("quotas", path=path, windows=windows, **more)


async def stored(db: Any) -> bytes | None:
    document = await db.get_collection("quotas", codec_options=RAW).find_one({})
    return None if document is None else document.raw


async def lived_in(quota: Any, key: Any = "a", now: dt.datetime = NOON) -> str:
    """Use everything that a state can hold; return the token of the reservation."""
    await quota.consume(key, 7, meters={"tokens": 1.5}, once="job", now=now - HOUR)
    await quota.grant(key, 5, now=now)
    await quota.consume(key, 2, now=now)
    reservation = await quota.reserve(key, 4, ttl=600, now=now)
    assert reservation
    assert isinstance(reservation.token, str)
    return reservation.token


# set_state ---------------------------------------------------------------------------------------------------


async def test_a_state_is_adopted(db: Any) -> None:
    """What another layout knew is stored as the running windows, and decides from then on, to the unit."""
    await db.quotas.insert_one({"_id": "a", "minutes_used": 7, "name": "Alice"})
    quota = AsyncQuota(db, FULL)
    adopted = await quota.set_state("a", used={"hour": 2.5, "day": 7, "month": 70}, banked={"hour": 1}, now=NOON)
    assert adopted
    assert adopted.used == {"hour": 2.5, "day": 7, "month": 70}
    assert adopted.remaining == {"hour": 8.5, "day": 33, "month": None}
    assert adopted.resets_at["hour"] == END
    assert not await quota.consume("a", 8.6, now=NOON)
    assert await quota.consume("a", 8.5, now=NOON)
    document = await db.quotas.find_one()
    assert (document["minutes_used"], document["name"]) == (7, "Alice")


async def test_a_state_is_made_for_a_new_key(db: Any) -> None:
    """Windows that are not named start unused; create=None makes no document."""
    quota = AsyncQuota(db, one(Window.hour(10), Window.day(20), create={"plan": "free"}))
    assert (await quota.set_state("a", used={"day": 15}, now=NOON)).remaining == {"hour": 10, "day": 5}
    assert (await db.quotas.find_one())["plan"] == "free"
    never = AsyncQuota(db, one(Window.hour(10), create=None))
    with pytest.raises(DocumentNotFound):
        await never.set_state("ghost", used={"hour": 1})
    assert await db.quotas.count_documents({}) == 1


async def test_a_correction_keeps_what_it_does_not_name(db: Any) -> None:
    """Naming some windows leaves the others, grants, reservations, meters and ids as they are."""
    quota = AsyncQuota(db, FULL)
    token = await lived_in(quota)
    before = await quota.peek("a", now=NOON)
    corrected = await quota.set_state("a", used={"hour": 9}, now=NOON)
    assert corrected.used == {**before.used, "hour": 9}
    assert corrected.resets_at == before.resets_at
    assert (corrected.extra, corrected.held, corrected.meters) == (5, 4, {"tokens": Decimal("1.5")})
    assert corrected.banked == before.banked
    corrected = await quota.set_state("a", banked={"hour": 20}, now=NOON)
    assert (corrected.banked["hour"], corrected.used) == (25, {**before.used, "hour": 9})
    assert (await quota.consume("a", once="job", now=NOON)).repeated
    assert (await quota.settle(token, 4, now=NOON)).outcome is SettleOutcome.SETTLED


async def test_a_correction_past_the_limit_is_told(db: Any) -> None:
    """A window may be said to hold more than its limit: nothing more is granted in it, and the next one is as ever."""
    quota = AsyncQuota(db, one(Window.hour(10), Window.day(100)))
    assert (await quota.set_state("a", used={"hour": 12}, now=NOON)).exceeded == ("hour",)
    refused = await quota.consume("a", 1, now=NOON)
    assert (bool(refused), refused.retry_after) == (False, 1800.0)
    assert await quota.consume("a", 10, now=END)


@pytest.mark.parametrize("state", ["text", 7, [1], [], True, {"hour": 5}, {"hour": {"end": "x", "used": 1}, "day": []}])
async def test_a_state_of_another_shape_is_replaced_only_if_all_windows_are_named(db: Any, state: Any) -> None:
    """Naming some of the windows leaves it as it is, with a StateError; naming all of them makes the state anew."""
    await db.quotas.insert_one({"_id": "a", "x": 1, "q": state})
    before = await stored(db)
    quota = AsyncQuota(db, one(Window.hour(10), Window.day(20, rollover=Rollover(5))))
    for used, banked in (({"hour": 1}, None), ({"day": 1}, {"day": 1}), (None, {"day": 1})):
        with pytest.raises(StateError, match=r"'q(\.hour|\.day)?' in the document 'a'"):
            await quota.set_state("a", used=used, banked=banked, now=NOON)
    assert await stored(db) == before
    adopted = await quota.set_state("a", used={"hour": 1, "day": 2}, now=NOON)
    assert (adopted.used, adopted.banked) == ({"hour": 1, "day": 2}, {"hour": 0, "day": 0})
    document = await db.quotas.find_one()
    assert (document["x"], set(document["q"])) == (1, {"at", "by", "hour", "day"})
    assert not await quota.consume("a", 10, now=NOON)
    assert await quota.consume("a", 9, now=NOON)


@pytest.mark.parametrize("parent", ["text", 7, [], True])
async def test_what_holds_the_state_is_never_replaced(db: Any, parent: Any) -> None:
    """A value on the way to the state that is no document is a StateError and stays, even if all windows are named."""
    await db.quotas.insert_one({"_id": "a", "a": parent})
    before = await stored(db)
    with pytest.raises(StateError, match="'a' in the document 'a'"):
        await AsyncQuota(db, FULL).set_state("a", used={"hour": 1, "day": 1, "month": 1}, now=NOON)
    assert await stored(db) == before


async def test_a_correction_of_all_windows_moves_none(db: Any) -> None:
    """Running windows end when they did, also when every one of them is named: with a first use, or a clock behind."""
    first_use = AsyncQuota(db, one(Window.every(15 * MINUTE, 10), align="first_use"))
    await first_use.consume("a", 5, now=NOON)
    corrected = await first_use.set_state("a", used={"15m": 3}, now=NOON + 10 * MINUTE)
    assert (corrected.used, corrected.resets_at) == ({"15m": 3}, {"15m": NOON + 15 * MINUTE})
    quota = AsyncQuota(db, one(Window.hour(10)))
    await quota.consume("b", 10, now=NOON + HOUR)
    corrected = await quota.set_state("b", used={"hour": 10}, now=NOON)
    assert corrected.resets_at == {"hour": END + HOUR}
    assert not await quota.consume("b", 1, now=NOON + HOUR)


@pytest.mark.parametrize(
    ("argument", "arguments"),
    [
        ("used", {}),
        ("used", {"used": {}}),
        ("used", {"used": {}, "banked": {}}),
        ("used", {"used": {"week": 1}}),
        ("used", {"used": 5}),
        ("used", {"used": [("hour", 1)]}),
        ("used.hour", {"used": {"hour": -1}}),
        ("used.hour", {"used": {"hour": None}}),
        ("used.hour", {"used": {"hour": float("inf")}}),
        ("used.hour", {"used": {"hour": 10**16}}),
        ("banked", {"banked": {"day": 1}}),
        ("banked", {"banked": {"week": 1}}),
        ("banked.hour", {"banked": {"hour": "1"}}),
    ],
)
async def test_a_bad_correction_is_refused_before_anything_is_sent(
    db: Any, commands: Any, argument: str, arguments: Any
) -> None:
    """Unknown windows, banks of windows without rollover, bad numbers or nothing at all are UsageErrors."""
    with pytest.raises(UsageError) as caught:
        await AsyncQuota(db, FULL).set_state("a", **arguments)
    assert caught.value.argument == argument
    assert commands.names == []


async def test_a_correction_is_one_command_and_survives_a_lost_reply(
    db: Any, mongopatterns_server: Any, commands: Any
) -> None:
    """set_state is one command; when its reply is lost after the write, the driver's retry tells the same verdict."""
    quota = AsyncQuota(db, FULL)
    await lived_in(quota)
    commands.clear()
    first = await quota.set_state("a", used={"hour": 3}, now=NOON)
    assert commands.names == ["findAndModify"]
    for used in ({"hour": 3}, {**first.used, "hour": 3}):
        with mongopatterns_server.fail_point(
            "onPrimaryTransactionalWrite", mode={"times": 1}, data={"closeConnection": True}
        ):
            again = await quota.set_state("a", used=used, now=NOON)
        assert again
        assert again.used == first.used
    assert (await quota.peek("a", now=NOON)).used == first.used


# read --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("aware", [True, False])
@pytest.mark.parametrize("spend", ["calendar", "first_use"])
async def test_a_document_in_hand_tells_what_peek_tells(db: Any, spend: Any, aware: bool) -> None:
    """At the same time read() and peek() agree on everything, whether the document's dates carry a zone or not."""
    windows = [Window.hour(10, rollover=Rollover(Times(2))), Window.day(Field("limit", default=40)), Window.week(None)]
    spec = QuotaSpec("quotas", path="a.q", windows=windows, meters=["tokens"], align=spend, timezone="Europe/Berlin")
    quota = AsyncQuota(db, spec)
    await lived_in(quota)
    options: CodecOptions[Any] = CodecOptions(tz_aware=aware)
    document = await db.get_collection("quotas", codec_options=options).find_one({"_id": "a"})
    assert (document["a"]["q"]["at"].tzinfo is not None) is aware
    before = bson.encode(document)
    for later in (0 * HOUR, 5 * MINUTE, 11 * MINUTE, HOUR / 2, HOUR, 5 * HOUR, DAY, 30 * DAY):
        for amount in (1, 8, 14, 15, 16, 41, 1000):
            seen = await quota.peek("a", amount, now=NOON + later)
            told = spec.read(document, amount, now=NOON + later)
            assert told == seen
    assert bson.encode(document) == before
    eastern = NOON.astimezone(dt.timezone(dt.timedelta(hours=5)))
    assert spec.read(document, now=eastern) == await quota.peek("a", now=NOON)


async def test_a_document_in_hand_is_told_as_of_its_last_write(db: Any, commands: Any) -> None:
    """Without now= the windows stand as the last write left them; nothing is sent."""
    spec = one(Window.hour(10), Window.day(20))
    last = await AsyncQuota(db, spec).consume("a", 4, now=NOON)
    document = await db.quotas.find_one()
    commands.clear()
    told = spec.read(document)
    assert (told.at, told.used, told.resets_at) == (NOON, last.used, last.resets_at)
    assert told.key == "a"
    assert not spec.read(document, 7)
    assert spec.read(document, 6)
    assert commands.names == []


@pytest.mark.parametrize("document", [{}, {"_id": "a"}, {"_id": "a", "q": None}, {"_id": "a", "q": {}}])
def test_a_document_without_a_state_is_untouched(document: Any) -> None:
    """Where nothing was charged all is there; without now= nobody knows when windows end."""
    spec = one(Window.hour(10))
    told = spec.read(document)
    assert (told.remaining, told.resets_at, told.at) == ({"hour": 10}, {}, None)
    assert spec.read(document, 10, now=NOON).resets_at == {"hour": END}
    assert not spec.read(document, 11, now=NOON)


async def test_a_raw_document_can_be_read(db: Any) -> None:
    """A document that the driver left undecoded tells the same."""
    quota = AsyncQuota(db, FULL)
    await lived_in(quota)
    raw = await db.get_collection("quotas", codec_options=RAW).find_one({"_id": "a"})
    assert FULL.read(raw, now=NOON) == await quota.peek("a", now=NOON)


@pytest.mark.parametrize("document", [None, [], "a", 5])
def test_what_is_no_document_cannot_be_read(document: Any) -> None:
    """None, which find_one gives for a key that is not there, is a UsageError and no untouched allowance."""
    with pytest.raises(UsageError, match=r"^document: "):
        one(Window.hour(10)).read(document)


@pytest.mark.parametrize(
    "document",
    [
        {"_id": "a", "a": "text"},
        {"_id": "a", "a": []},
        {"_id": "a", "a": {"q": 5}},
        {"_id": "a", "a": {"q": []}},
        {"_id": "a", "a": {"q": {"at": "text"}}},
        {"_id": "a", "a": {"q": {"hour": {"end": "text", "used": 1}}}},
        {"_id": "a", "a": {"q": {"hour": {"end": NOON, "used": 1.5}}}},
        {"_id": "a", "limit": "text"},
        {"_id": "a", "limit": -1},
    ],
    ids=str,
)
def test_a_malformed_document_in_hand_is_an_error(document: Any) -> None:
    """A state, or a limit, that the spec does not describe is a StateError that names the document."""
    with pytest.raises(StateError, match="in the document 'a' of 'quotas'"):
        FULL.read(document)


def test_bad_arguments_of_read_are_refused() -> None:
    """A bad amount or a naive time is a UsageError."""
    with pytest.raises(UsageError, match=r"^amount: "):
        FULL.read({"_id": "a"}, 0)
    with pytest.raises(UsageError, match=r"^now: "):
        FULL.read({"_id": "a"}, now=NOON.replace(tzinfo=None))


# peek_many, explain ------------------------------------------------------------------------------------------


async def test_many_keys_are_peeked_at_in_their_order(db: Any, commands: Any) -> None:
    """Every key is told what peek tells, in the order asked, twice-named ones once, in one command."""
    quota = AsyncQuota(db, FULL)
    keys: list[Any] = ["c", "a", "ghost", 7, "$x", ObjectId()]
    for index, key in enumerate(keys):
        if key != "ghost":
            await quota.consume(key, index + 1, now=NOON)
    await lived_in(quota, "c")
    alone = {key: await quota.peek(key, 6, now=NOON) for key in keys}
    commands.clear()
    together = await quota.peek_many([*keys, "a", "c"], 6, now=NOON)
    assert commands.names == ["aggregate"]
    assert commands.comments == {"mongopatterns.quota.peek_many"}
    assert list(together) == keys
    assert together == alone
    assert [bool(verdict) for verdict in together.values()] == [bool(verdict) for verdict in alone.values()]
    assert await quota.peek_many([], now=NOON) == {}
    assert await quota.peek_many(iter(["a"]), 6, now=NOON) == {"a": alone["a"]}  # type: ignore[arg-type]
    assert await db.quotas.count_documents({}) == 5


async def test_many_keys_by_a_field_of_their_own(db: Any) -> None:
    """Keys are matched by the key field, ObjectIds given as text too, and each answers under what was asked."""
    await db.quotas.create_index("owner.id", unique=True)
    spec = one(Window.hour(10), key_field="owner.id", key_type=ObjectId)
    quota, known, ghost = AsyncQuota(db, spec), ObjectId(), ObjectId()
    await quota.consume(known, 4, now=NOON)
    seen = await quota.peek_many([str(known), ghost], now=NOON)
    assert {key: verdict.used["hour"] for key, verdict in seen.items()} == {str(known): 4, ghost: 0}
    assert seen[str(known)].key == known


async def test_keys_without_a_document_are_left_out_where_none_is_made(db: Any) -> None:
    """With create=None only what is there is told; with create= its limits are those of a new document."""
    await db.quotas.insert_one({"_id": "a", "name": "Alice"})
    never = AsyncQuota(db, one(Window.hour(10), create=None))
    assert list(await never.peek_many(["x", "a", "y"], now=NOON)) == ["a"]
    creating = AsyncQuota(db, one(Window.hour(Field("plan.hour", default=1)), create={"plan": {"hour": 5}}))
    seen = await creating.peek_many(["x", "a"], now=NOON)
    assert {key: verdict.limit["hour"] for key, verdict in seen.items()} == {"x": 5, "a": 1}


async def test_equal_keys_are_one_and_others_are_not(db: Any) -> None:
    """1 and 1.0 are one key; True and 1 are two to the server and one to a dict, and so a UsageError."""
    quota = AsyncQuota(db, one(Window.hour(10)))
    await quota.consume(1, 4, now=NOON)
    seen = await quota.peek_many([1, 1.0, Int64(1)], now=NOON)
    assert [(key, verdict.used["hour"]) for key, verdict in seen.items()] == [(1, 4)]
    for keys in ([True, 1], [1, True], [0, False], [True, 1, 2.5, 1]):
        with pytest.raises(UsageError, match=r"^keys: "):
            await quota.peek_many(keys, now=NOON)


@pytest.mark.parametrize("keys", ["abc", b"ab", {"a": 1}, 5, None, ["a", None], [["a"]], [{"a": 1}], [float("nan")]])
async def test_bad_keys_are_refused_before_anything_is_sent(db: Any, commands: Any, keys: Any) -> None:
    """What is no list of keys, or holds what cannot be a key of the answer, is a UsageError."""
    with pytest.raises(UsageError, match=r"^key"):
        await AsyncQuota(db, FULL).peek_many(keys)
    assert commands.names == []


async def test_ten_thousand_keys_are_the_bound(db: Any, commands: Any) -> None:
    """10,000 keys are told in one command, also when each remembers its ids; one more is a UsageError."""
    quota = AsyncQuota(db, one(Window.hour(100)))
    ids = [f"{index:064}" for index in range(32)]
    window = {"end": END, "used": 3}
    await db.quotas.insert_many([{"_id": index, "q": {"hour": window, "once": ids}} for index in range(9_999)])
    commands.clear()
    seen = await quota.peek_many(range(10_000), now=NOON)
    assert commands.names == ["aggregate"]
    assert (len(seen), seen[9_998].used, seen[9_999].used) == (10_000, {"hour": 3}, {"hour": 0})
    with pytest.raises(UsageError, match=r"^keys: expected at most 10000"):
        await quota.peek_many(range(10_001))
    assert commands.names == ["aggregate"]


async def test_many_keys_never_tell_of_another_one(db: Any) -> None:
    """Where a collation or an array matches another key than the one asked for, peek_many raises, and peek tells."""
    loose = await db.create_collection("loose", collation={"locale": "en", "strength": 2})
    await loose.insert_one({"_id": "Alice", "q": {"hour": {"end": END, "used": 3}}})
    await db.lists.insert_one({"_id": 1, "key": ["a", "b"], "q": {"hour": {"end": END, "used": 3}}})
    for collection, spec, key in (
        (loose, one(Window.hour(10)), "alice"),
        (db.lists, one(Window.hour(10), key_field="key"), "a"),
    ):
        quota = AsyncQuota(collection, spec)
        assert (await quota.peek(key, now=NOON)).used == {"hour": 3}
        with pytest.raises(StateError, match="is another one: peek at one key at a time"):
            await quota.peek_many([key], now=NOON)


async def test_one_malformed_state_among_many_is_named(db: Any) -> None:
    """The StateError of peek_many names the document."""
    await db.quotas.insert_many([{"_id": "a"}, {"_id": "b", "q": "text"}])
    with pytest.raises(StateError, match="in the document 'b'"):
        await AsyncQuota(db, one(Window.hour(10))).peek_many(["a", "b"], now=NOON)


async def test_explain_is_what_consume_sends(db: Any, commands: Any) -> None:
    """With windows of every kind, meters and Fields the shown command is the sent one, but for its token."""
    windows = [
        Window.every(15 * MINUTE, 5, align="first_use"),
        Window.hour(Field("x", default=3), rollover=Rollover(5)),
    ]
    quota = AsyncQuota(db, one(*windows, meters=["tokens"], create={"y": "$z"}))
    shown = quota.explain("a", 2.5)
    assert commands.names == []
    await quota.consume("a", 2.5)
    ((_, sent),) = commands.sent
    assert (shown["filter"], shown["upsert"], shown["comment"]) == (sent["query"], sent["upsert"], sent["comment"])
    assert bson.encode({"": shown["update"]}) == bson.encode({"": sent["update"]})
    assert bson.encode(shown["projection"]) == bson.encode(sent["fields"])
    assert {**shown["let"], "token": None} == {**sent["let"], "token": None}
    with pytest.raises(UsageError, match=r"^amount: "):
        quota.explain("a", 0)


# A changed spec over a stored state --------------------------------------------------------------------------


async def test_a_lowered_limit_counts_at_once(db: Any) -> None:
    """What was used stays: past the new limit nothing more is granted until the window ends."""
    await AsyncQuota(db, one(Window.hour(10))).consume("a", 8, now=NOON)
    quota = AsyncQuota(db, one(Window.hour(5)))
    refused = await quota.consume("a", 1, now=NOON)
    assert (refused.used, refused.remaining, refused.retry_after) == ({"hour": 8}, {"hour": 0}, 1800.0)
    assert not await quota.consume("a", 6, now=END)
    assert await quota.consume("a", 5, now=END)


async def test_a_raised_limit_counts_at_once(db: Any) -> None:
    """The running window has room for the difference."""
    await AsyncQuota(db, one(Window.hour(10))).consume("a", 8, now=NOON)
    quota = AsyncQuota(db, one(Window.hour(15)))
    assert not await quota.consume("a", 8, now=NOON)
    assert await quota.consume("a", 7, now=NOON)


async def test_a_limit_may_move_into_the_document_or_go(db: Any) -> None:
    """A Field in place of a number, or None, counts from the next call on; a missing one is an error, as ever."""
    await AsyncQuota(db, one(Window.hour(10))).consume("a", 8, now=NOON)
    field = AsyncQuota(db, one(Window.hour(Field("limit"))))
    before = await stored(db)
    with pytest.raises(StateError, match="'limit' in the document 'a'"):
        await field.consume("a", 1, now=NOON)
    assert await stored(db) == before
    await db.quotas.update_one({}, {"$set": {"limit": 9}})
    assert not await field.consume("a", 2, now=NOON)
    assert await field.consume("a", 1, now=NOON)
    unlimited = AsyncQuota(db, one(Window.hour(None)))
    assert (await unlimited.consume("a", 100, now=NOON)).used == {"hour": 109}


async def test_a_grant_waits_while_nothing_is_limited(db: Any) -> None:
    """When the last limit goes, what was granted stays unused, and counts again when there is a limit."""
    limited, unlimited = AsyncQuota(db, one(Window.hour(10))), AsyncQuota(db, one(Window.hour(None)))
    await limited.grant("a", 5, now=NOON)
    assert (await unlimited.consume("a", 12, now=NOON)).extra == 5
    assert (await limited.peek("a", now=NOON)).remaining == {"hour": 5}
    assert (await limited.consume("a", 13, now=END)).extra == 2


async def test_an_added_window_starts_unused(db: Any) -> None:
    """It begins with the next charge, without what was used before, and has nothing banked."""
    await AsyncQuota(db, one(Window.hour(10))).consume("a", 8, now=NOON - 3 * HOUR)
    quota = AsyncQuota(db, one(Window.hour(10), Window.day(9, rollover=Rollover(50))))
    seen = await quota.peek("a", now=NOON)
    assert (seen.used, seen.banked) == ({"hour": 0, "day": 0}, {"hour": 0, "day": 0})
    assert (await quota.consume("a", 10, now=NOON)).exceeded == ("day",)
    assert await quota.consume("a", 9, now=NOON)


async def test_a_removed_window_is_kept_and_taken_up_again(db: Any) -> None:
    """Its numbers stay in the state: added again it goes on from them, without what was charged in between."""
    both = AsyncQuota(db, one(Window.hour(10), Window.day(12, rollover=Rollover(30))))
    alone = AsyncQuota(db, one(Window.hour(10)))
    await both.consume("a", 8, now=NOON)
    assert (await alone.consume("a", 2, now=NOON)).used == {"hour": 10}
    assert (await alone.consume("a", 10, now=END)).used == {"hour": 10}
    seen = await both.peek("a", now=END)
    assert (seen.used, seen.remaining) == ({"hour": 10, "day": 8}, {"hour": 0, "day": 4})
    assert (await both.peek("a", now=NOON + 2 * DAY)).banked["day"] == 4 + 12


async def test_a_changed_length_is_another_window(db: Any) -> None:
    """Windows of another length are removed and added: the new one starts unused."""
    await AsyncQuota(db, one(Window.every(15 * MINUTE, 10))).consume("a", 10, now=NOON)
    quota = AsyncQuota(db, one(Window.every(20 * MINUTE, 10)))
    assert (await quota.consume("a", 10, now=NOON)).used == {"20m": 10}
    assert set((await db.quotas.find_one())["q"]) == {"at", "by", "15m", "20m"}


async def test_a_changed_zone_counts_from_the_next_window(db: Any) -> None:
    """The running window keeps its end; the next one ends by the new zone."""
    await AsyncQuota(db, one(Window.day(10))).consume("a", 10, now=NOON)
    quota = AsyncQuota(db, one(Window.day(10), timezone="America/New_York"))
    midnight = dt.datetime(2026, 3, 5, tzinfo=UTC)
    refused = await quota.consume("a", 1, now=midnight - MS)
    assert (bool(refused), refused.resets_at) == (False, {"day": midnight})
    granted = await quota.consume("a", 10, now=midnight)
    assert granted.resets_at == {"day": midnight + 5 * HOUR}
    assert await quota.consume("a", 10, now=midnight + 5 * HOUR)


async def test_an_added_rollover_banks_from_the_stored_window_on(db: Any) -> None:
    """What the last charged window left, and every idle one since, is banked as if rollover had always been there."""
    await AsyncQuota(db, one(Window.hour(10))).consume("a", 7, now=NOON)
    quota = AsyncQuota(db, one(Window.hour(10, rollover=Rollover(30))))
    assert (await quota.peek("a", now=NOON)).remaining == {"hour": 3}
    for hours, banked in ((1, 3), (2, 13), (3, 23), (4, 30)):
        assert (await quota.peek("a", now=NOON + hours * HOUR)).banked == {"hour": banked}
    assert not await quota.consume("a", 14, now=NOON + HOUR)
    assert await quota.consume("a", 13, now=NOON + HOUR)


async def test_a_removed_rollover_forgets_the_bank_with_the_next_charge(db: Any) -> None:
    """The bank counts no more at once; only a charge erases it, so that until then it can be brought back."""
    banking, plain = AsyncQuota(db, one(Window.hour(10, rollover=Rollover(30)))), AsyncQuota(db, one(Window.hour(10)))
    await banking.consume("a", 7, now=NOON)
    await banking.consume("a", 1, now=NOON + HOUR)
    now = NOON + HOUR
    assert (await banking.peek("a", now=now)).remaining == {"hour": 12}
    assert (await plain.peek("a", now=now)).remaining == {"hour": 10}
    assert not await plain.consume("a", 11, now=now)
    assert (await banking.peek("a", now=now)).remaining == {"hour": 12}
    assert await plain.consume("a", 1, now=now)
    assert (await banking.peek("a", now=now)).remaining == {"hour": 9}


async def test_a_lowered_cap_cuts_the_bank_when_the_window_ends(db: Any) -> None:
    """What is banked may be used in the running window; then the bank holds no more than the new cap."""
    await AsyncQuota(db, one(Window.hour(10, rollover=Rollover(30)))).set_state(
        "a", used={"hour": 0}, banked={"hour": 25}, now=NOON
    )
    quota = AsyncQuota(db, one(Window.hour(10, rollover=Rollover(4))))
    assert (await quota.peek("a", now=NOON)).remaining == {"hour": 35}
    assert (await quota.consume("a", 1, now=NOON)).banked == {"hour": 24}
    assert (await quota.refund("a", 1, now=NOON)).dropped == {"hour": 1}
    assert (await quota.peek("a", now=END)).banked == {"hour": 4}
    assert not await quota.consume("a", 15, now=END)
    assert await quota.consume("a", 14, now=END)


@pytest.mark.parametrize("unit", ["hour", "day", "week", "month"])
async def test_a_changed_alignment_counts_from_the_next_window(db: Any, unit: Any) -> None:
    """The running window keeps its end, in both directions; the next one begins by the new alignment."""
    calendar, first_use = (AsyncQuota(db, one(Window(unit, 10), align=align)) for align in ("calendar", "first_use"))
    end = (await calendar.consume("a", 10, now=NOON)).resets_at[unit]
    refused = await first_use.consume("a", 1, now=end - MS)
    assert (bool(refused), refused.resets_at) == (False, {unit: end})
    begun = (await first_use.consume("a", 10, now=end + MINUTE)).resets_at[unit]
    assert begun == (await first_use.peek("fresh", now=end + MINUTE)).resets_at[unit]
    assert not await calendar.consume("a", 1, now=begun - MS)
    again = (await calendar.consume("a", 10, now=begun)).resets_at[unit]
    assert again == (await calendar.peek("fresh", now=begun)).resets_at[unit]


async def test_a_changed_path_starts_anew(db: Any) -> None:
    """What stands at the old path is neither counted nor removed."""
    await AsyncQuota(db, one(Window.hour(10))).consume("a", 8, now=NOON)
    moved = AsyncQuota(db, one(Window.hour(10), path="quota.minutes"))
    assert (await moved.consume("a", 10, now=NOON)).used == {"hour": 10}
    assert (await db.quotas.find_one())["q"]["hour"]["used"] == 8


async def test_removed_meters_keep_their_totals(db: Any) -> None:
    """A meter that the spec names no more is not told, stays, and goes on from its total when it is named again."""
    metered = AsyncQuota(db, one(Window.hour(10), meters=["tokens", "jobs"]))
    await metered.consume("a", 1, meters={"tokens": 5, "jobs": 1}, now=NOON)
    assert (await AsyncQuota(db, one(Window.hour(10))).consume("a", 1, now=NOON)).meters == {}
    fewer = AsyncQuota(db, one(Window.hour(10), meters=["jobs"]))
    assert (await fewer.consume("a", 1, meters={"jobs": 1}, now=NOON)).meters == {"jobs": 2}
    assert (await metered.consume("a", 1, now=NOON)).meters == {"tokens": 5, "jobs": 2}


async def test_a_lowered_once_kept_forgets_with_the_next_id(db: Any) -> None:
    """Ids beyond the new number are known until the next one is remembered; a raised number brings none back."""
    many = AsyncQuota(db, one(Window.hour(100), once_kept=5))
    few = AsyncQuota(db, one(Window.hour(100), once_kept=2))
    for job in "12345":
        await many.consume("a", once=job, now=NOON)
    assert (await few.consume("a", once="1", now=NOON)).repeated
    assert not (await few.consume("a", once="6", now=NOON)).repeated
    assert (await db.quotas.find_one())["q"]["once"] == ["+5", "+6"]
    assert not (await many.consume("a", once="4", now=NOON)).repeated
    assert (await many.consume("a", once="5", now=NOON)).repeated


async def test_reservations_outlive_a_changed_spec(db: Any) -> None:
    """A hold counts against the windows of the new spec, and is settled to them."""
    reservation = await AsyncQuota(db, one(Window.hour(10))).reserve("a", 8, ttl=600, now=NOON)
    assert reservation.token
    quota = AsyncQuota(db, one(Window.day(5), meters=["tokens"]))
    assert (await quota.peek("a", now=NOON)).remaining == {"day": 0}
    settled = await quota.settle(reservation.token, 8, meters={"tokens": 1}, now=NOON)
    assert (settled.outcome, settled.decision.used) == (SettleOutcome.SETTLED, {"day": 8})


# Written by hand ---------------------------------------------------------------------------------------------

LATER = NOON + 5 * MINUTE
NUMBERS: list[Any] = ["x", -1, 0.5, 3.0, float("nan"), float("inf"), Decimal128("NaN"), Decimal128("-1"), True, END]
NUMBERS += [Int64(2**62 + 1), Decimal128("1E+6000"), [1], {}]
NO_DOCUMENTS: list[Any] = ["text", 5, 0, True, False, 1.5, END, [], [1], [{"left": 5, "tokens": 5}], MinKey()]

HAND_WRITTEN: list[tuple[str, Any]] = [
    *((f"extra: {value!r}", {"extra": value}) for value in NO_DOCUMENTS),
    *((f"extra.left: {value!r}", {"extra": {"left": value, "lent": 0}}) for value in NUMBERS),
    *((f"extra.lent: {value!r}", {"extra": {"left": 3, "lent": value}}) for value in NUMBERS),
    *((f"meters: {value!r}", {"meters": value}) for value in NO_DOCUMENTS),
    *((f"meters.tokens: {value!r}", {"meters": {"tokens": value}}) for value in NUMBERS),
    *((f"holds: {value!r}", {"holds": value}) for value in ("text", 5, True, {}, {"id": 1}, END, MinKey())),
    *((f"holds: [{value!r}]", {"holds": [value]}) for value in (1, "x", None, [], {}, END)),
    *((f"holds.n: {value!r}", {"holds": [{"n": value, "until": LATER}]}) for value in [*NUMBERS, None]),
    *((f"holds.until: {value!r}", {"holds": [{"n": 1, "until": value}]}) for value in ("x", 5, None, True, [])),
    ("holds.n of an expired one", {"holds": [{"n": "x", "until": NOON - HOUR}]}),
    ("one of many holds", {"holds": [{"n": 1, "until": LATER}, {"n": 1, "until": LATER}, {"n": -1, "until": LATER}]}),
    *(
        (f"hour: {value!r}", {"hour": value})
        for value in ("x", 5, [], {}, {"end": END}, {"used": 1}, {"end": 5, "used": 1})
    ),
    *((f"hour.used: {value!r}", {"hour": {"end": END, "used": value}}) for value in [*NUMBERS, None]),
    *((f"hour.bank: {value!r}", {"hour": {"end": END, "used": 1, "bank": value}}) for value in NUMBERS),
]


@pytest.mark.parametrize("fields", [fields for _, fields in HAND_WRITTEN], ids=[name for name, _ in HAND_WRITTEN])
async def test_a_hand_written_state_is_refused_by_every_call_and_stays(db: Any, fields: dict[str, Any]) -> None:
    """Whatever is wrong in a state, every call raises a StateError and leaves the document byte for byte as it was."""
    quota = AsyncQuota(db, one(Window.hour(10, rollover=Rollover(20)), Window.day(None), meters=["tokens"]))
    token = (await quota.reserve("a", 1, ttl=600, now=NOON)).token
    assert token
    (hold,) = (await db.quotas.find_one())["q"]["holds"]
    state: dict[str, Any] = {"at": NOON, "by": ObjectId(), "hour": {"end": END, "used": 1, "bank": 0}, **fields}
    if isinstance(state.get("holds"), list):
        state["holds"] = [{"id": hold["id"], **item} if isinstance(item, dict) else item for item in state["holds"]]
    await db.quotas.replace_one({"_id": "a"}, {"_id": "a", "q": state})
    before = await stored(db)
    problems = []
    for name, call in calls(quota, token).items():
        try:
            problems.append(f"{name} gave {await call()!r:.60}")
        except StateError:
            pass
        except Exception as error:  # noqa: BLE001  # whatever else it is, it is named
            problems.append(f"{name} raised {type(error).__name__}: {error!s:.60}")
        if await stored(db) != before:
            problems.append(f"{name} wrote")
            await db.quotas.replace_one({"_id": "a"}, {"_id": "a", "q": state})
    document = await db.quotas.find_one()
    with pytest.raises(StateError):
        quota.spec.read(document, now=NOON)
    assert problems == []


def calls(quota: Any, token: str) -> dict[str, Callable[[], Any]]:
    return {
        "consume": lambda: quota.consume("a", 1, now=NOON),
        "consume too much": lambda: quota.consume("a", 1000, now=NOON),
        "consume once": lambda: quota.consume("a", 1, once="job", now=NOON),
        "consume later": lambda: quota.consume("a", 1, now=NOON + HOUR),
        "record": lambda: quota.record("a", 1, now=NOON),
        "grant": lambda: quota.grant("a", 1, now=NOON),
        "refund": lambda: quota.refund("a", 1, now=NOON),
        "reserve": lambda: quota.reserve("a", 1, ttl=60, now=NOON),
        "settle": lambda: quota.settle(token, 1, now=NOON),
        "release": lambda: quota.release(token, now=NOON),
        "set_state": lambda: quota.set_state("a", used={"day": 1}, now=NOON),
        "peek": lambda: quota.peek("a", now=NOON),
        "peek_many": lambda: quota.peek_many(["a"], now=NOON),
    }


async def test_a_window_that_is_the_least_value_is_none(db: Any) -> None:
    """A MinKey sorts before null: such a window counts as one that was never used, and the next charge begins it."""
    quota = AsyncQuota(db, one(Window.hour(10, rollover=Rollover(20)), Window.day(None)))
    day = {"end": NOON + DAY, "used": 3}
    await db.quotas.insert_one({"_id": "a", "q": {"at": NOON, "hour": MinKey(), "day": day}})
    for seen in (await quota.peek("a", now=NOON), quota.spec.read(await db.quotas.find_one(), now=NOON)):
        assert (seen.used, seen.banked["hour"]) == ({"hour": 0, "day": 3}, 0)
    refused = await quota.consume("a", 11, now=NOON)
    assert (bool(refused), refused.remaining) == (False, {"hour": 10, "day": None})
    assert (await quota.consume("a", 10, now=NOON)).used == {"hour": 10, "day": 13}
    hour = (await db.quotas.find_one())["q"]["hour"]
    assert hour == {"end": END.replace(tzinfo=None), "used": 10, "bank": 0}


@pytest.mark.parametrize("once", ["job", "a job b", 5, True, END, {}, {"job": 1}, MinKey()], ids=repr)
async def test_hand_written_ids_are_refused_and_stay(db: Any, once: Any) -> None:
    """Where the ids are no list, a call with an id is a StateError: neither a grant, nor a refusal, nor a repeat."""
    quota = AsyncQuota(db, one(Window.hour(10)))
    await db.quotas.insert_one({"_id": "a", "q": {"hour": {"end": END, "used": 1}, "once": once}})
    before = await stored(db)
    for call in (quota.consume, quota.record, quota.grant, quota.refund):
        with pytest.raises(StateError):
            await call("a", 1, once="job", now=NOON)
    assert await stored(db) == before


@pytest.mark.parametrize(
    "fields",
    [
        {"at": "text", "by": 5, "note": "text"},
        {"at": None, "by": None, "note": None, "holds": None, "extra": None, "meters": None, "once": None},
        {"note": {"dropped": 5, "k": "x", "late": 1}},
        {"once": [5, None, {"x": 1}]},
        {"extra": {}, "meters": {}, "holds": []},
        {"extra": {"left": None, "lent": None}, "meters": {"tokens": None, "other": "text"}, "older": [1]},
        {"week": "what a window that is not the spec's holds"},
    ],
    ids=str,
)
async def test_what_decides_nothing_may_be_anything(db: Any, fields: Any) -> None:
    """Nulls count as nothing there, and what no call reads plays no part."""
    quota = AsyncQuota(db, one(Window.hour(10), meters=["tokens"]))
    state = {"hour": {"end": END, "used": 1}, **fields}
    for key in range(4):
        await db.quotas.insert_one({"_id": key, "q": state})
    assert not await quota.consume(0, 10, once="job", now=NOON)
    assert (await quota.consume(0, 9, meters={"tokens": 1}, once="job", now=NOON)).meters == {"tokens": 1}
    assert (await quota.grant(1, 2, now=NOON)).remaining == {"hour": 11}
    assert (await quota.refund(2, 1, now=NOON)).remaining == {"hour": 10}
    token = (await quota.reserve(3, 9, ttl=60, now=NOON)).token
    assert token
    settled = await quota.settle(token, 3, now=NOON)
    assert (settled.outcome, settled.decision.used, settled.decision.held) == (SettleOutcome.SETTLED, {"hour": 4}, 0)
