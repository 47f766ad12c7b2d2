# Generated from tests/aio/test_quota.py by tools/generate_sync.py.
# Do not edit: change the source and run "make generate".
"""What a quota promises, on a real server."""

from __future__ import annotations

import datetime as dt
import json
import uuid
from decimal import Decimal, localcontext
from typing import Any
from zoneinfo import ZoneInfo

import bson
import pytest
from bson import Decimal128, Int64, ObjectId
from bson.binary import UuidRepresentation
from bson.codec_options import CodecOptions
from pymongo.errors import OperationFailure

from mongopatterns import (
    DocumentNotFound,
    Field,
    LimitExceeded,
    OutcomeUnknown,
    Quota,
    QuotaSpec,
    Rollover,
    StateError,
    Times,
    UsageError,
    Window,
    may_have_applied,
)
from mongopatterns._driver_sync import settle
from mongopatterns.testing import race_threads

UTC = dt.timezone.utc
NOON = dt.datetime(2026, 3, 4, 12, 30, tzinfo=UTC)
HOUR = dt.timedelta(hours=1)
DAY = dt.timedelta(days=1)

PLAIN = QuotaSpec("quotas", path="q", windows=[Window.hour(10)])
THREE = QuotaSpec("users", path="quota.subtitle", windows=[Window.hour(10), Window.day(25), Window.month(40)])
BANK = QuotaSpec("quotas", path="q", windows=[Window.hour(10, rollover=Rollover(cap=Times(2)))])
FIELD = QuotaSpec("users", path="q", windows=[Window.hour(Field("limits.hour", default=3))])

BAD_AMOUNTS = [0, -1, -0.5, float("nan"), float("inf"), True, "1", None, Decimal("Infinity"), 10**16]


def test_a_quota_admits_up_to_its_limit(db: Any) -> None:
    """Calls are granted while there is room, and the verdict tells what is left."""
    quota = Quota(db, PLAIN)
    first = quota.consume("alice", 4, now=NOON)
    assert first
    assert (first.used, first.remaining, first.limit) == ({"hour": 4}, {"hour": 6}, {"hour": 10})
    assert first.resets_at == {"hour": dt.datetime(2026, 3, 4, 13, tzinfo=UTC)}
    assert quota.consume("alice", 6, now=NOON)
    refused = quota.consume("alice", 1, now=NOON)
    assert not refused
    assert (refused.limited_by, refused.exceeded, refused.retry_after) == ("hour", ("hour",), 1800.0)
    with pytest.raises(LimitExceeded, match="no room for 1 more for 'alice': the hour admits 10") as caught:
        refused.require()
    assert caught.value.decision is refused
    assert first.require() is first


def test_the_servers_clock_is_the_default(db: Any) -> None:
    """Without now= the window is the server's current hour."""
    decision = Quota(db, PLAIN).consume("alice")
    cursor = settle(db.quotas.aggregate([{"$project": {"now": "$$NOW", "q": 1}}]))
    (document,) = cursor.to_list(1)
    at, end = document["q"]["at"], document["q"]["hour"]["end"]
    assert decision.resets_at["hour"].replace(tzinfo=None) == end
    assert dt.timedelta(0) < end - at <= HOUR
    assert dt.timedelta(0) <= document["now"] - at < dt.timedelta(minutes=1)


def test_a_verdict_is_plain_python(db: Any) -> None:
    """to_dict() is what json.dumps takes, and fractions in the verdict are exact decimals."""
    decision = Quota(db, PLAIN).consume("alice", 0.1, now=NOON)
    assert decision.used == {"hour": Decimal("0.1")}
    assert decision.remaining == {"hour": Decimal("9.9")}
    assert json.loads(json.dumps(decision.to_dict())) == {
        "key": "alice",
        "amount": 0.1,
        "allowed": True,
        "limited_by": None,
        "exceeded": [],
        "limit": {"hour": 10},
        "used": {"hour": 0.1},
        "banked": {"hour": 0},
        "remaining": {"hour": 9.9},
        "resets_at": {"hour": "2026-03-04T13:00:00+00:00"},
        "retry_after": None,
        "at": "2026-03-04T12:30:00+00:00",
        "extra": 0,
        "held": 0,
        "meters": {},
        "dropped": {},
        "repeated": False,
    }


def test_fractions_fill_a_limit_exactly(db: Any) -> None:
    """Ten times 0.1 fits a limit of 1, and an eleventh does not."""
    quota = Quota(db, QuotaSpec("quotas", path="q", windows=[Window.day(1)]))
    verdicts = [bool(quota.consume("alice", 0.1, now=NOON)) for _ in range(11)]
    assert verdicts == [True] * 10 + [False]


def test_a_limit_stored_as_a_double_is_what_it_looks_like(db: Any) -> None:
    """A limit of 0.3 in a document, a binary fraction below 0.3, admits three times 0.1."""
    db.users.insert_one({"_id": "alice", "limits": {"hour": 0.3}})
    quota = Quota(db, FIELD)
    assert [bool(quota.consume("alice", 0.1, now=NOON)) for _ in range(4)] == [True, True, True, False]


def test_all_windows_are_charged_or_none(db: Any) -> None:
    """A call that one window refuses leaves all of them as they were."""
    quota = Quota(db, THREE)
    for hours in range(2):
        assert quota.consume("alice", 10, now=NOON + hours * HOUR)
    refused = quota.consume("alice", 6, now=NOON + 2 * HOUR)
    assert (refused.limited_by, refused.exceeded) == ("day", ("day",))
    assert refused.used == {"hour": 0, "day": 20, "month": 20}
    assert quota.consume("alice", 5, now=NOON + 2 * HOUR)
    assert quota.consume("alice", 10, now=NOON + DAY).remaining == {"hour": 0, "day": 15, "month": 5}
    refused = quota.consume("alice", 11, now=NOON + DAY + HOUR)
    assert (refused.limited_by, refused.exceeded) == ("hour", ("hour", "month"))
    assert refused.retry_after is None
    refused = quota.consume("alice", 6, now=NOON + DAY + HOUR)
    assert (refused.limited_by, refused.exceeded) == ("month", ("month",))
    assert refused.retry_after == (dt.datetime(2026, 4, 1, tzinfo=UTC) - (NOON + DAY + HOUR)).total_seconds()


def test_the_state_stands_beside_the_callers_fields(db: Any) -> None:
    """A nested path in the caller's own document changes nothing beside it."""
    db.users.create_index("user_id", unique=True)
    db.users.insert_one({"_id": 1, "user_id": "alice", "quota": {"dubbing": {"x": 1}}, "name": "$name", "n": [1]})
    spec = QuotaSpec("users", path="quota.subtitle", key_field="user_id", windows=[Window.hour(10)])
    assert spec.indexes()[0].keys == (("user_id", 1),)
    assert Quota(db, spec).consume("alice", 4, now=NOON)
    document = db.users.find_one()
    assert document.pop("quota") == {
        "dubbing": {"x": 1},
        "subtitle": {
            "at": NOON.replace(tzinfo=None),
            "by": db.users.find_one()["quota"]["subtitle"]["by"],
            "hour": {"end": dt.datetime(2026, 3, 4, 13), "used": 4},  # noqa: DTZ001  # as a plain client reads it
        },
    }
    assert document == {"_id": 1, "user_id": "alice", "name": "$name", "n": [1]}


def test_two_quotas_share_a_document(db: Any) -> None:
    """Several specs with different paths count apart in one document."""
    subtitle = Quota(db, QuotaSpec("users", path="quota.subtitle", windows=[Window.hour(10)]))
    dubbing = Quota(db, QuotaSpec("users", path="quota.dubbing", windows=[Window.hour(2)]))
    subtitle.consume("alice", 7, now=NOON)
    assert not dubbing.consume("alice", 3, now=NOON)
    assert dubbing.consume("alice", 2, now=NOON)
    assert subtitle.peek("alice", now=NOON).used == {"hour": 7}
    assert db.users.count_documents({}) == 1


@pytest.mark.parametrize("amount", BAD_AMOUNTS)
def test_bad_amounts_are_refused_before_anything_is_sent(db: Any, commands: Any, amount: Any) -> None:
    """A bad amount raises a UsageError that names the argument, in every call that takes one."""
    quota = Quota(db, PLAIN)
    for call in (quota.consume, quota.record, quota.peek):
        with pytest.raises(UsageError, match=r"^amount: "):
            call("alice", amount)
    for keys in ([], ["alice"]):
        with pytest.raises(UsageError, match=r"^amount: "):
            quota.peek_many(keys, amount)
    assert commands.names == []


@pytest.mark.parametrize("now", [dt.datetime(2026, 3, 4), "2026-03-04", 0, dt.date(2026, 3, 4)])  # noqa: DTZ001
def test_a_naive_now_is_refused(db: Any, commands: Any, now: Any) -> None:
    """A now= that is naive or no datetime raises a UsageError, and nothing is sent."""
    quota = Quota(db, PLAIN)
    for call in (quota.consume, quota.record, quota.peek):
        with pytest.raises(UsageError, match=r"^now: "):
            call("alice", now=now)
    assert commands.names == []


def test_a_now_in_another_zone_is_the_same_instant(db: Any) -> None:
    """An aware now= of any zone counts as its instant."""
    quota = Quota(db, PLAIN)
    east = dt.timezone(dt.timedelta(hours=5, minutes=45))
    decision = quota.consume("alice", now=NOON.astimezone(east))
    assert decision.resets_at == {"hour": dt.datetime(2026, 3, 4, 13, tzinfo=UTC)}


@pytest.mark.parametrize("key", ["$name", "a.b", "$$NOW", "", 7, b"\0", {"u": "$y", "d": 1}, ObjectId()])
def test_any_value_is_a_key_and_nothing_but_itself(db: Any, key: Any) -> None:
    """Text that looks like an operator or a path, numbers, bytes and documents are stored as themselves."""
    quota = Quota(db, QuotaSpec("quotas", path="q", windows=[Window.hour(1)], create={"x": "$$ROOT"}))
    assert quota.consume(key, now=NOON)
    assert not quota.consume(key, now=NOON)
    assert not quota.peek(key, now=NOON)
    documents = db.quotas.find({}).to_list(None)
    assert [(document["_id"], document["x"]) for document in documents] == [(key, "$$ROOT")]
    assert quota.reset(key)


# Fields of the document, create ------------------------------------------------------------------------------


def test_a_limit_is_read_from_the_same_document(db: Any) -> None:
    """A Field limit follows the document in the same write, and a missing or null field counts as its default."""
    db.users.insert_many([{"_id": "pro", "limits": {"hour": 100}}, {"_id": "null", "limits": {"hour": None}}])
    quota = Quota(db, FIELD)
    assert quota.consume("pro", 50, now=NOON).limit == {"hour": 100}
    assert not quota.consume("null", 4, now=NOON)
    assert not quota.consume("new", 4, now=NOON)
    assert quota.consume("new", 3, now=NOON).limit == {"hour": 3}
    db.users.update_one({"_id": "pro"}, {"$set": {"limits.hour": 60}})
    assert quota.peek("pro", now=NOON).remaining == {"hour": 10}
    assert not quota.consume("pro", 11, now=NOON)


@pytest.mark.parametrize("limit", ["60", float("nan"), float("inf"), -1, 10**16, [60], {"a": 1}, True])
def test_a_limit_that_is_no_limit_is_an_error(db: Any, limit: Any) -> None:
    """Text, NaN, infinity, a negative number at a Field is a StateError, never "unlimited"; nothing is written."""
    db.users.insert_one({"_id": "alice", "limits": {"hour": limit}})
    before = db.users.find_one()
    quota = Quota(db, FIELD)
    for call in (quota.consume, quota.record, quota.peek):
        with pytest.raises(StateError, match=r"'limits.hour' in the document 'alice' of 'users'"):
            call("alice", now=NOON)
    after = db.users.find_one()
    assert str(after) == str(before)


def test_a_missing_limit_without_a_default_is_an_error(db: Any) -> None:
    """A forgotten limit never means unlimited, for a document that is there and for one that is not."""
    quota = Quota(db, QuotaSpec("users", path="q", windows=[Window.hour(Field("limit"))]))
    db.users.insert_one({"_id": "alice"})
    for key in ("alice", "ghost"):
        for call in (quota.consume, quota.record, quota.peek):
            with pytest.raises(StateError, match="'limit' in the document"):
                call(key, now=NOON)
    assert db.users.find({}).to_list(None) == [{"_id": "alice"}]


def test_create_gives_a_new_document_its_fields_and_limits(db: Any) -> None:
    """The fields of create= are stored with the first grant, and a limit among them counts for that very call."""
    spec = QuotaSpec("users", path="q", windows=[Window.hour(Field("plan.hour"))], create={"plan": {"hour": 5}})
    quota = Quota(db, spec)
    assert not quota.consume("alice", 6, now=NOON)
    assert db.users.count_documents({}) == 0
    assert quota.peek("alice", now=NOON).limit == {"hour": 5}
    assert quota.consume("alice", 5, now=NOON)
    assert db.users.find_one()["plan"] == {"hour": 5}
    db.users.insert_one({"_id": "bob", "plan": {"hour": 7}, "name": "Bob"})
    assert quota.consume("bob", 7, now=NOON)
    assert db.users.find_one({"_id": "bob"})["plan"] == {"hour": 7}


def test_create_none_never_makes_a_document(db: Any, commands: Any) -> None:
    """With create=None an unknown key is an error in one command, and stays unknown."""
    quota = Quota(db, QuotaSpec("users", path="q", windows=[Window.hour(5)], create=None))
    for call in (quota.consume, quota.record, quota.peek):
        commands.clear()
        with pytest.raises(DocumentNotFound, match="'ghost'"):
            call("ghost")
        assert len(commands.names) == 1
    assert db.users.count_documents({}) == 0
    db.users.insert_one({"_id": "alice"})
    assert quota.consume("alice")


def test_peek_and_consume_see_the_same_document(db: Any) -> None:
    """The fields of create= count for a new document alone, and not for one that has other fields, in both calls."""
    spec = QuotaSpec("users", path="q", windows=[Window.hour(Field("limit", default=60))], create={"limit": 5})
    quota = Quota(db, spec)
    db.users.insert_many([{"_id": "bob", "name": "Bob"}, {"_id": "bare"}])
    for key, limit in (("bob", 60), ("bare", 5), ("new", 5)):
        assert quota.peek(key, 10, now=NOON).limit == {"hour": limit}
        assert bool(quota.consume(key, 10, now=NOON)) is (limit == 60)


def test_key_and_state_may_share_a_parent(db: Any) -> None:
    """The key and the state may stand in one subdocument."""
    db.users.create_index("user.id", unique=True)
    quota = Quota(db, QuotaSpec("users", path="user.quota", key_field="user.id", windows=[Window.hour(3)]))
    assert quota.peek("alice", now=NOON)
    assert quota.consume("alice", 2, now=NOON)
    assert quota.peek("alice", now=NOON).remaining == {"hour": 1}
    assert quota.reset("alice")
    assert db.users.find_one({}, {"_id": 0}) == {"user": {"id": "alice"}}


def test_uuids_in_create_follow_the_callers_own_representation(db: Any) -> None:
    """A UUID in create= is stored as the collection that was handed in stores UUIDs."""
    owner = uuid.uuid4()
    spec = QuotaSpec("users", path="q", windows=[Window.hour(3)], create={"owner": owner})
    for representation in (UuidRepresentation.STANDARD, UuidRepresentation.PYTHON_LEGACY):
        options: CodecOptions[Any] = CodecOptions(uuid_representation=representation)
        mine = db.get_collection(f"mine{representation}", codec_options=options)
        assert Quota(mine, spec).consume("alice")
        assert mine.find_one({"owner": owner})


def test_errors_name_the_collection_in_use(db: Any) -> None:
    """A collection that was handed in is named by errors, and not the one of the spec."""
    quota = Quota(db.accounts, QuotaSpec("users", path="q", windows=[Window.hour(3)], create=None))
    with pytest.raises(DocumentNotFound, match="'accounts'") as caught:
        quota.consume("ghost")
    assert caught.value.collection == "accounts"


# Rollover ----------------------------------------------------------------------------------------------------


def test_every_elapsed_window_banks_up_to_the_cap(db: Any) -> None:
    """Idle windows bank as well as used ones, and the bank never passes its cap."""
    quota = Quota(db, BANK)
    quota.consume("alice", 7, now=NOON)
    assert quota.peek("alice", now=NOON + HOUR).banked == {"hour": 3}
    assert quota.peek("alice", now=NOON + 2 * HOUR).banked == {"hour": 13}
    assert quota.peek("alice", now=NOON + 30 * DAY).banked == {"hour": 20}
    decision = quota.consume("alice", 15, now=NOON + 2 * HOUR)
    assert (decision.banked, decision.used, decision.remaining) == ({"hour": 0}, {"hour": 2}, {"hour": 8})


def test_each_unit_is_charged_once_to_the_bank_first(db: Any) -> None:
    """A call takes from the bank before the window, and what the bank gave is not charged to the window too."""
    quota = Quota(db, BANK)
    quota.consume("alice", 1, now=NOON)
    decision = quota.consume("alice", 4, now=NOON + HOUR)
    assert (decision.banked, decision.used) == ({"hour": 5}, {"hour": 0})
    decision = quota.consume("alice", 15, now=NOON + HOUR)
    assert (decision.banked, decision.used, decision.remaining) == ({"hour": 0}, {"hour": 10}, {"hour": 0})


def test_spend_window_first_turns_it_round(db: Any) -> None:
    """With spend="window_first" the bank is touched only when the window is used up."""
    spec = QuotaSpec("quotas", path="q", windows=[Window.hour(10, rollover=Rollover(cap=20, spend="window_first"))])
    quota = Quota(db, spec)
    quota.consume("alice", 1, now=NOON)
    decision = quota.consume("alice", 4, now=NOON + HOUR)
    assert (decision.banked, decision.used) == ({"hour": 9}, {"hour": 4})
    decision = quota.consume("alice", 10, now=NOON + HOUR)
    assert (decision.banked, decision.used, decision.remaining) == ({"hour": 5}, {"hour": 10}, {"hour": 5})
    assert not quota.consume("alice", 6, now=NOON + HOUR)


def test_a_cap_is_a_number_a_field_or_a_multiple(db: Any) -> None:
    """The bank stops at each kind of cap; a cap of 0 banks nothing."""
    db.quotas.insert_one({"_id": "alice", "cap": 4, "zero": 0})
    for cap, banked in ((7, 7), (Field("cap"), 4), (Field("none", default=5), 5), (Times(0.5), 5), (Field("zero"), 0)):
        spec = QuotaSpec("quotas", path="q", windows=[Window.hour(10, rollover=Rollover(cap=cap))])
        quota = Quota(db, spec)
        quota.reset("alice")
        quota.consume("alice", 1, now=NOON)
        assert quota.peek("alice", now=NOON + HOUR).banked == {"hour": banked}
        assert quota.consume("alice", 10 + banked, now=NOON + HOUR).remaining == {"hour": 0}


def test_retry_after_waits_for_the_bank_or_says_never(db: Any) -> None:
    """An amount that needs several idle windows says when; one beyond limit and cap says None."""
    quota = Quota(db, BANK)
    assert quota.consume("alice", 10, now=NOON)
    for amount, hours in ((10, 0.5), (11, 1.5), (20, 1.5), (21, 2.5), (30, 2.5)):
        assert quota.consume("alice", amount, now=NOON).retry_after == hours * 3600
    assert quota.consume("alice", 31, now=NOON).retry_after is None
    assert quota.consume("alice", 10**15, now=NOON).retry_after is None
    later = NOON + dt.timedelta(hours=2.5)
    assert quota.consume("alice", 30, now=later)


def test_a_window_without_a_limit_meters(db: Any) -> None:
    """A limit of None counts and never refuses."""
    quota = Quota(db, QuotaSpec("quotas", path="q", windows=[Window.hour(3), Window.month(None)]))
    for hours in range(5):
        decision = quota.consume("alice", 3, now=NOON + hours * HOUR)
    assert (decision.used, decision.limit, decision.remaining) == (
        {"hour": 3, "month": 15},
        {"hour": 3, "month": None},
        {"hour": 0, "month": None},
    )


# Calendar ----------------------------------------------------------------------------------------------------

ZONES = [
    # zone, unit, an instant in the window, the end of the window (UTC)
    ("Europe/Berlin", "day", "2026-03-29T10:00", "2026-03-29T22:00"),  # 23 hours
    ("Europe/Berlin", "day", "2026-10-24T22:30", "2026-10-25T23:00"),  # 25 hours
    ("Europe/Berlin", "hour", "2026-10-25T00:30", "2026-10-25T01:00"),  # 02:30, first
    ("Europe/Berlin", "hour", "2026-10-25T01:30", "2026-10-25T02:00"),  # 02:30, again
    ("Asia/Kolkata", "hour", "2026-01-01T10:10", "2026-01-01T10:30"),
    ("America/New_York", "day", "2026-01-01T04:59", "2026-01-01T05:00"),
    ("America/New_York", "month", "2026-02-28T10:00", "2026-03-01T05:00"),
    ("UTC", "month", "2028-02-29T23:59", "2028-03-01T00:00"),
    ("UTC", "week", "2026-03-01T10:00", "2026-03-02T00:00"),  # a Sunday
    ("Atlantic/Azores", "day", "2026-10-25T00:30", "2026-10-26T01:00"),  # midnight comes twice
    ("America/Santiago", "day", "2026-09-06T10:00", "2026-09-07T03:00"),  # midnight was skipped
    ("Australia/Lord_Howe", "day", "2026-04-05T00:00", "2026-04-05T13:30"),
]


@pytest.mark.parametrize(("zone", "unit", "instant", "end"), ZONES)
def test_windows_end_by_the_local_calendar(db: Any, zone: str, unit: Any, instant: str, end: str) -> None:
    """Hours, days, weeks and months end where the zone's calendar says, also when its clocks change."""
    now, ends = (dt.datetime.fromisoformat(text).replace(tzinfo=UTC) for text in (instant, end))
    quota = Quota(db, QuotaSpec("quotas", path="q", timezone=zone, windows=[Window(unit, 5)]))
    assert quota.peek("alice", now=now).resets_at == {unit: ends}
    assert quota.consume("alice", 5, now=now).resets_at == {unit: ends}
    assert not quota.consume("alice", 1, now=max(now, ends - dt.timedelta(milliseconds=1)))
    assert quota.consume("alice", 5, now=ends)


def test_windows_never_roll_back(db: Any) -> None:
    """A clock that steps back, as a new primary's may, grants nothing twice and banks nothing twice."""
    quota = Quota(db, BANK)
    quota.consume("alice", 10, now=NOON)
    quota.consume("alice", 10, now=NOON + HOUR)
    back = quota.consume("alice", 1, now=NOON)
    assert not back
    assert back.resets_at == {"hour": dt.datetime(2026, 3, 4, 14, tzinfo=UTC)}
    assert quota.peek("alice", now=NOON + HOUR).banked == {"hour": 0}


@pytest.mark.parametrize(
    ("zone", "midnight"), [("Atlantic/Azores", "2026-10-25T00"), ("America/Havana", "2026-11-01T04")]
)
def test_every_call_dates_a_repeated_midnight_alike(db: Any, zone: str, midnight: str) -> None:
    """Where midnight comes twice, refused, peeked and granted calls tell the same end of the window."""
    quota = Quota(db, QuotaSpec("quotas", path="q", timezone=zone, windows=[Window.day(1), Window.month(1)]))
    instant = dt.datetime.fromisoformat(f"{midnight}:30").replace(tzinfo=UTC)
    for minutes in range(-1500, 1500, 90):
        now = instant + dt.timedelta(minutes=minutes)
        refused, peeked = quota.consume(minutes, 2, now=now), quota.peek(minutes, now=now)
        granted = quota.consume(minutes, 1, now=now)
        assert refused.resets_at == peeked.resets_at == granted.resets_at
        assert granted.resets_at["day"] > now


ZONE_CHANGES = [
    ("Europe/Berlin", "UTC"),
    ("UTC", "America/New_York"),
    ("Asia/Kolkata", "UTC"),
    ("UTC", "Pacific/Auckland"),
]


@pytest.mark.parametrize("unit", ["hour", "day", "week", "month"])
@pytest.mark.parametrize(("before", "after"), ZONE_CHANGES)
def test_changing_the_zone_banks_nothing_twice(db: Any, before: str, after: str, unit: Any) -> None:
    """After a change of zone no call has more than a window and what whole windows banked; peek and consume agree."""
    windows = [Window(unit, 10, Rollover(cap=100))]
    old = Quota(db, QuotaSpec("quotas", path="q", timezone=before, windows=windows))
    new = Quota(db, QuotaSpec("quotas", path="q", timezone=after, windows=windows))
    length = {"hour": HOUR, "day": DAY, "week": 7 * DAY, "month": 31 * DAY}[unit]
    for step in range(24):
        assert old.consume(step, 10, now=NOON)
        now = NOON + length * step / 8
        seen = new.peek(step, now=now)
        assert seen.remaining[unit] <= 10 * (1 + step // 8)
        refused = new.consume(step, seen.remaining[unit] + 1, now=now)
        assert (refused.remaining, refused.resets_at, bool(refused)) == (seen.remaining, seen.resets_at, False)
        if seen.remaining[unit]:
            assert new.consume(step, seen.remaining[unit], now=now)


@pytest.mark.parametrize("zone", ["Australia/Lord_Howe", "Pacific/Norfolk", "Asia/Kathmandu"])
def test_hours_are_those_of_the_local_clock(db: Any, zone: str) -> None:
    """An hour ends when the local clock shows the next full hour, also where clocks shift by half an hour."""
    quota = Quota(db, QuotaSpec("quotas", path="q", timezone=zone, windows=[Window.hour(5)]))
    for days in range(0, 400, 33):
        now = dt.datetime(2025, 10, 2, 3, 17, 5, 250_000, tzinfo=UTC) + days * DAY
        end = quota.peek("alice", now=now).resets_at["hour"]
        assert (end.astimezone(ZoneInfo(zone)).minute, end.second, end.microsecond) == (0, 0, 0)
        assert dt.timedelta(0) < end - now <= HOUR


# record, peek, reset -----------------------------------------------------------------------------------------


def test_record_always_counts_and_names_what_is_passed(db: Any) -> None:
    """What has happened is counted, room or not; the verdict is true and names the windows past their limit."""
    quota = Quota(db, THREE)
    assert quota.record("alice", 10, now=NOON).exceeded == ()
    decision = quota.record("alice", 7, now=NOON)
    assert decision
    assert (decision.exceeded, decision.used["hour"], decision.remaining["hour"]) == (("hour",), 17, 0)
    assert not quota.consume("alice", 1, now=NOON)
    assert quota.record("alice", 30, now=NOON).exceeded == ("hour", "day", "month")
    assert quota.consume("alice", 1, now=NOON + HOUR).exceeded == ("day", "month")


def test_recorded_excess_is_no_debt(db: Any) -> None:
    """What was recorded past the limit takes from the bank first and is not carried into the next window."""
    quota = Quota(db, BANK)
    quota.consume("alice", 4, now=NOON)
    decision = quota.record("alice", 30, now=NOON + HOUR)
    assert (decision.banked, decision.used) == ({"hour": 0}, {"hour": 24})
    later = quota.peek("alice", now=NOON + 2 * HOUR)
    assert (later.banked, later.used) == ({"hour": 0}, {"hour": 0})


def test_peek_tells_and_writes_nothing(db: Any) -> None:
    """Peek gives the verdict of the moment for a key with and without a document, and leaves no trace."""
    quota = Quota(db, THREE)
    fresh = quota.peek("alice", 11, now=NOON)
    assert not fresh
    assert (fresh.limited_by, fresh.remaining["day"]) == ("hour", 25)
    assert quota.peek("alice", now=NOON)
    assert db.users.count_documents({}) == 0
    quota.consume("alice", 10, now=NOON)
    before = db.users.find_one()
    assert not quota.peek("alice", now=NOON)
    assert quota.peek("alice", 10, now=NOON + HOUR)
    assert db.users.find_one() == before


def test_reset_forgets_the_state_alone(db: Any) -> None:
    """Reset gives the whole allowance back, tells whether there was a state, and keeps the rest of the document."""
    db.users.insert_one({"_id": "alice", "quota": {"other": 1}})
    quota = Quota(db, THREE)
    assert not quota.reset("alice")
    quota.consume("alice", 10, now=NOON)
    assert quota.reset("alice")
    assert db.users.find_one() == {"_id": "alice", "quota": {"other": 1}}
    assert quota.consume("alice", 10, now=NOON)
    assert not quota.reset("nobody")
    assert db.users.count_documents({}) == 1


# What is stored already --------------------------------------------------------------------------------------

END = dt.datetime(2026, 3, 4, 13, tzinfo=UTC)
WRONG_STATES = [
    "text",
    7,
    [1],
    [{"hour": {"end": END, "used": 1}}],
    {"hour": "text"},
    {"hour": {"used": 3}},
    {"hour": {"end": "2026", "used": 3}},
    {"hour": {"end": END}},
    {"hour": {"end": END, "used": "3"}},
    {"hour": {"end": END, "used": -3}},
    {"hour": {"end": END, "used": float("nan")}},
    {"hour": {"end": END, "used": float("inf")}},
    {"hour": {"end": END, "used": Decimal128("NaN")}},
    {"hour": {"end": END, "used": END}},
    {"hour": {"end": END, "used": True}},
    {"hour": {"end": END, "used": 3, "bank": "x"}},
    {"hour": {"end": END, "used": 3, "bank": -1}},
    {"hour": {}},
    {"hour": []},
]


@pytest.mark.parametrize("state", WRONG_STATES, ids=str)
@pytest.mark.parametrize("hours", [0, 2])
def test_a_state_of_another_shape_is_an_error_and_stays(db: Any, state: Any, hours: int) -> None:
    """A state that the spec does not describe raises a StateError that names path and document; nothing changes."""
    db.quotas.insert_one({"_id": "alice", "q": state})
    before = str(db.quotas.find_one())
    quota = Quota(db, BANK)
    for call in (quota.consume, quota.record, quota.peek):
        with pytest.raises(StateError, match=r"'q(\.hour)?' in the document 'alice' of 'quotas'"):
            call("alice", now=NOON + hours * HOUR)
    assert str(db.quotas.find_one()) == before


@pytest.mark.parametrize("parent", ["text", 7, [], [{"subtitle": None}], True])
def test_a_parent_of_another_type_is_an_error_and_stays(db: Any, parent: Any) -> None:
    """A value on the way to the state that is no document is named, and stays."""
    db.users.insert_one({"_id": "alice", "quota": parent})
    quota = Quota(db, THREE)
    for call in (quota.consume, quota.record, quota.peek):
        with pytest.raises(StateError, match="'quota' in the document 'alice'"):
            call("alice", now=NOON)
    assert db.users.find_one()["quota"] == parent


@pytest.mark.parametrize(
    "document", [{"quota": None}, {"quota": {}}, {"quota": {"subtitle": None}}, {"quota": {"subtitle": {}}}]
)
def test_a_null_state_is_an_untouched_one(db: Any, document: Any) -> None:
    """Null and empty documents on the path count as an allowance that nobody has touched."""
    db.users.insert_one({"_id": "alice", **document})
    decision = Quota(db, THREE).consume("alice", 10, now=NOON)
    assert decision
    assert decision.used == {"hour": 10, "day": 10, "month": 10}


@pytest.mark.parametrize("window", [{"used": 0.9}, {"used": 3.0}, {"used": 3, "bank": 0.5}, {"used": 3, "bank": 0.0}])
def test_a_state_of_doubles_is_refused_and_not_drifted_with(db: Any, window: Any) -> None:
    """A double that other code stored is named by a StateError: every sum from it on would drift."""
    db.quotas.insert_one({"_id": "alice", "q": {"hour": {"end": END, **window}}})
    before = db.quotas.find_one()
    quota = Quota(db, BANK)
    for call in (quota.consume, quota.record, quota.peek):
        with pytest.raises(StateError, match="an integer or decimal"):
            call("alice", now=NOON)
    assert db.quotas.find_one() == before


def test_long_fractions_are_exact_in_every_verdict(db: Any) -> None:
    """With 18 places and a small decimal context of the caller's, peek and consume still agree to the last digit."""
    quota = Quota(db, QuotaSpec("quotas", path="q", windows=[Window.hour(1)]))
    with localcontext() as context:
        context.prec = 3
        assert quota.consume("alice", Decimal("0.123456789012345678"), now=NOON)
        left = Decimal("0.876543210987654322")
        more = Decimal("0.876543210987654323")
        assert not quota.peek("alice", more, now=NOON)
        refused = quota.consume("alice", more, now=NOON)
        assert (refused.exceeded, refused.remaining) == (("hour",), {"hour": left})
        assert quota.peek("alice", left, now=NOON)
        assert quota.consume("alice", left, now=NOON).remaining == {"hour": 0}


@pytest.mark.parametrize("used", [Int64(2**62 + 1), Decimal128("1E+6000"), 1e300])
def test_a_state_that_would_leave_the_integers_is_refused(db: Any, used: Any) -> None:
    """A total beyond 2**62 raises a StateError before a sum could lose its last digits."""
    db.quotas.insert_one({"_id": "alice", "q": {"hour": {"end": END, "used": used}}})
    quota = Quota(db, QuotaSpec("quotas", path="q", windows=[Window.hour(None)]))
    for call in (quota.consume, quota.record, quota.peek):
        with pytest.raises(StateError, match=r"'q\.hour'"):
            call("alice", now=NOON)
    db.quotas.update_one({"_id": "alice"}, {"$set": {"q.hour.used": Int64(2**62)}})
    assert quota.record("alice", 10**15, now=NOON).used == {"hour": 2**62 + 10**15}


# What is sent ------------------------------------------------------------------------------------------------


def test_one_command_a_call_with_a_comment(db: Any, commands: Any) -> None:
    """Each call is one command, granted, refused or on a key without a document; its comment names it."""
    quota = Quota(db, PLAIN)
    quota.consume("fresh", 11)
    quota.consume("alice", 10)
    quota.consume("alice", 10)
    quota.record("alice")
    quota.peek("alice")
    quota.peek("ghost")
    quota.reset("alice")
    assert commands.names == ["findAndModify"] * 4 + ["aggregate"] * 2 + ["update"]
    assert commands.comments == {f"mongopatterns.quota.{call}" for call in ("consume", "record", "peek", "reset")}


def test_the_filter_is_the_key_alone(db: Any, commands: Any) -> None:
    """The write's filter is one equality on exactly the key field, which is what the server's upsert retry needs."""
    Quota(db, THREE).consume("alice")
    ((_, command),) = commands.sent
    assert command["query"] == {"_id": "alice"}
    assert command["writeConcern"] == {"w": "majority"}


def test_a_large_document_does_not_travel(db: Any, commands: Any) -> None:
    """Replies hold the state and the limits, not the megabyte that stands beside them."""
    db.users.insert_one({"_id": "big", "blob": "x" * 1_000_000, "limits": {"hour": 5}})
    quota = Quota(db, FIELD)
    commands.clear()
    quota.consume("big", 5)
    quota.consume("big", 5)
    quota.record("big")
    quota.peek("big")
    assert max(commands.reply_bytes) < 1000


def test_a_refused_call_leaves_no_trace_in_the_oplog(client: Any, db: Any) -> None:
    """A refusal logs nothing: on a used-up state, on a fresh key, on a document without the path."""
    quota = Quota(db, THREE)
    quota.consume("used", 10, now=NOON)
    db.users.insert_many([{"_id": "bare"}, {"_id": "parent", "quota": {}}, {"_id": "other", "x": 1}])
    oplog = client.local["oplog.rs"]
    mine = {"ns": f"{db.name}.users"}
    before = oplog.count_documents(mine)
    assert before >= 2
    documents = db.users.find({}).sort("_id").to_list(None)
    for key in ("used", "bare", "parent", "other", "fresh"):
        assert not quota.consume(key, 11, now=NOON)
        assert not quota.consume(key, 11, now=NOON + HOUR)
    assert db.users.find({}).sort("_id").to_list(None) == documents
    assert oplog.count_documents(mine) == before
    assert quota.consume("used", 1, now=NOON + HOUR)
    assert oplog.count_documents(mine) == before + 1


def test_explain_shows_what_is_sent(db: Any, commands: Any) -> None:
    """explain() prints the command that consume sends, and sends nothing."""
    quota = Quota(db, THREE)
    shown = quota.explain("alice", 5)
    assert commands.names == []
    quota.consume("alice", 5)
    ((_, sent),) = commands.sent
    assert shown["filter"] == sent["query"]
    assert bson.encode({"": shown["update"]}) == bson.encode({"": sent["update"]})
    assert bson.encode(shown["projection"]) == bson.encode(sent["fields"])
    assert shown["let"]["now"] == sent["let"]["now"] == "$$NOW"


# Races, retries, transactions --------------------------------------------------------------------------------


@pytest.mark.parametrize("fresh", [True, False])
@pytest.mark.parametrize("limit", [40, 500])
def test_exactly_as_many_as_fit_are_admitted(db: Any, fresh: bool, limit: int) -> None:
    """Of N callers at once exactly min(N, limit) get in, on a fresh key too; what was granted is what is stored."""
    spec = QuotaSpec("users", path="quota.x", windows=[Window.hour(limit), Window.day(1000), Window.month(None)])
    if not fresh:
        db.users.insert_one({"_id": "alice", "name": "Alice"})
    quota = Quota(db, spec)
    report = race_threads(lambda _: quota.consume("alice", now=NOON), times=200, concurrency=50)
    assert report.errors == []
    assert report.count(bool) == min(200, limit)
    state = db.users.find_one({"_id": "alice"})["quota"]["x"]
    assert [state[unit]["used"] for unit in ("hour", "day", "month")] == [min(200, limit)] * 3


@pytest.mark.parametrize(("key_field", "limit"), [("_id", 10), ("user_id", 4)])
def test_many_fresh_keys_at_once_refuse_nobody(db: Any, key_field: str, limit: int) -> None:
    """Racing first calls on many new keys, by _id and by a unique field, meet no duplicate key and no false refusal."""
    if key_field != "_id":
        db.quotas.create_index(key_field, unique=True)
    quota = Quota(db, QuotaSpec("quotas", path="q", key_field=key_field, windows=[Window.hour(limit)]))
    report = race_threads(lambda index: quota.consume(f"key {index % 40}", now=NOON), times=240, concurrency=60)
    assert report.errors == []
    assert report.count(bool) == 40 * min(6, limit)


def test_a_race_across_a_window_banks_once(db: Any) -> None:
    """When many callers find the window over at once, it rolls and banks once."""
    quota = Quota(db, BANK)
    quota.consume("alice", 3, now=NOON)
    report = race_threads(lambda _: quota.consume("alice", now=NOON + HOUR), times=100, concurrency=50)
    assert report.errors == []
    assert report.count(bool) == 17


def test_a_lost_reply_charges_once_and_keeps_its_verdict(db: Any, mongopatterns_server: Any) -> None:
    """When the reply is lost after the write, the driver's retry is told the grant, and nothing is charged twice."""
    db.users.insert_one({"_id": "alice", "_mongopatterns": {"x": 1}, "name": "a field of the reply's own name"})
    quota = Quota(db, THREE)
    quota.consume("alice", 2, now=NOON)
    for key, used in (("alice", 5), ("fresh", 3)):
        with mongopatterns_server.fail_point(
            "onPrimaryTransactionalWrite", mode={"times": 1}, data={"closeConnection": True}
        ):
            decision = quota.consume(key, 3, now=NOON)
        assert decision
        assert decision.used == {"hour": used, "day": used, "month": used}
        assert decision.resets_at["hour"] == END
    assert quota.peek("alice", now=NOON).used["hour"] == 5
    assert quota.peek("fresh", now=NOON).used["hour"] == 3


def test_a_lost_record_of_a_reply_leaves_the_outcome_open(db: Any, mongopatterns_server: Any) -> None:
    """Where the server has applied a write and cannot tell a repeat what it had answered, the outcome is unknown."""
    db.quotas.insert_one({"_id": "alice"})
    for code in (217, 5637601):
        for combine in (False, True):
            quota = Quota(db, PLAIN, combine=combine)
            before = quota.peek("alice").used["hour"]
            lost = {"closeConnection": True}
            forgotten = {"failCommands": ["findAndModify"], "errorCode": code}
            with (
                mongopatterns_server.fail_point("failCommand", mode={"skip": 1}, data=forgotten),
                mongopatterns_server.fail_point("onPrimaryTransactionalWrite", mode={"times": 1}, data=lost),
                pytest.raises(OutcomeUnknown if combine else OperationFailure) as caught,
            ):
                quota.consume("alice")
            assert may_have_applied(caught.value)
            assert quota.peek("alice").used["hour"] == before + 1


def test_a_call_takes_part_in_a_transaction(client: Any, db: Any) -> None:
    """With session= an aborted transaction takes the charge with it."""
    quota = Quota(db, PLAIN)
    quota.consume("alice", 1, now=NOON)
    with settle(client.start_session()) as session:
        settle(session.start_transaction())
        assert quota.consume("alice", 9, session=session, now=NOON)
        assert not quota.peek("alice", session=session, now=NOON)
        session.abort_transaction()
    assert quota.peek("alice", now=NOON).remaining == {"hour": 9}
