"""What slots send and how their replies are read: no server."""

from __future__ import annotations

import base64
import datetime as dt
import json
import pickle
from typing import Any

import bson
import pytest
from bson import Int64, ObjectId, Regex
from hypothesis import given
from hypothesis import strategies as st
from pymongo.errors import BulkWriteError, DuplicateKeyError, OperationFailure

from mongopatterns import (
    Conflict,
    HeldSlot,
    LimitExceeded,
    NotHeld,
    Slot,
    SlotOutcome,
    SlotsSpec,
    StateError,
    UsageError,
)
from mongopatterns.commands import Aggregate, FindOneAndUpdate
from mongopatterns.expressions import ANY_UUID
from mongopatterns.holders import Holder
from mongopatterns.membership._slots_plan import ROUNDS, InsertMany, SlotsPlan

UTC = dt.timezone.utc
NOON = dt.datetime(2026, 3, 4, 12, tzinfo=UTC)
MINUTE = dt.timedelta(minutes=1)
ME, OTHER = ObjectId(bytes(12)), ObjectId(bytes(11) + b"1")
SPEC = SlotsSpec("streams", cap=3, ttl=30)
PLAN = SlotsPlan(SPEC, "streams")


class InTransaction:
    in_transaction = True


class OnlySession:
    in_transaction = False


def acquiring(**options: Any) -> Any:
    return PLAN.acquire("alice", **{"cap": None, "data": None, "holder": ME, **options})


def taken(slot: int = 1, **more: Any) -> dict[str, Any]:
    return {"slot": slot, "holder": ME, "since": NOON, "until": NOON + MINUTE, **more}


def seen(**told: Any) -> list[dict[str, Any]]:
    return [{"now": NOON, "live": 0, "odd": 0, "make": [], **told}]


def duplicate(key: Any, code: int = 11000, **more: Any) -> BulkWriteError:
    failed = {"index": 0, "code": code, "keyPattern": key}
    return BulkWriteError({"writeErrors": [failed], "writeConcernErrors": [], "nInserted": 1, **more})


# Defined -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "argument"),
    [
        ({"collection": ""}, "collection"),
        ({"collection": None}, "collection"),
        ({"cap": 0}, "cap"),
        ({"cap": 10_001}, "cap"),
        ({"cap": True}, "cap"),
        ({"cap": 2.0}, "cap"),
        ({"ttl": 0}, "ttl"),
        ({"ttl": 0.0009}, "ttl"),
        ({"ttl": 367 * 86_400}, "ttl"),
        ({"ttl": float("nan")}, "ttl"),
        ({"ttl": True}, "ttl"),
        ({"ttl": "30"}, "ttl"),
        ({"key_type": str}, "key_type"),
        ({"forget_after": 299}, "forget_after"),
        ({"forget_after": 300.0}, "forget_after"),
        ({"forget_after": 2**31}, "forget_after"),
    ],
)
def test_a_spec_that_cannot_work_is_refused(options: dict[str, Any], argument: str) -> None:
    """Bounds that mean nothing and wrong types raise a UsageError that names the argument."""
    given = {"collection": "streams", "cap": 3, "ttl": 30, **options}
    with pytest.raises(UsageError, match=rf"^{argument}: "):
        SlotsSpec(given.pop("collection"), **given)


def test_a_ttl_must_be_said() -> None:
    """A slot that is held for ever is never an accident: ttl= has no default."""
    with pytest.raises(TypeError, match="ttl"):
        SlotsSpec("streams", cap=3)  # type: ignore[call-arg]


def test_a_spec_names_its_indexes() -> None:
    """One index keeps the cap, one finds free slots, and one has the server delete what nobody uses."""
    unique, free, ttl = SPEC.indexes()
    assert (unique.keys, unique.options) == ((("owner", 1), ("slot", 1)), {"unique": True})
    assert (free.keys, free.options) == ((("owner", 1), ("until", 1), ("slot", 1)), {})
    assert (ttl.keys, ttl.options) == ((("until", 1),), {"expireAfterSeconds": 86_400})
    assert SlotsSpec("streams", cap=3, ttl=None, forget_after=None).indexes() == (unique, free)


# Acquired ----------------------------------------------------------------------------------------------------


def test_a_free_slot_is_taken_by_one_write_that_makes_nothing() -> None:
    """The first command takes a free slot below the cap and cannot make a document; what callers say is data."""
    command = PLAN.again(acquiring(data={"device": "$name"}))
    assert isinstance(command, FindOneAndUpdate)
    arguments = command.arguments()
    assert arguments["filter"] == {
        "owner": "alice",
        "slot": {"$gte": 0, "$lt": 3},
        "until": {"$type": "date"},
        "$expr": {"$and": [{"$lte": ["$until", "$$now"]}, {"$eq": [{"$type": "$until"}, "date"]}]},
    }
    assert arguments["let"] == {"now": "$$NOW", "holder": ME, "data": {"$literal": {"device": "$name"}}}
    assert (arguments["upsert"], arguments["return_document"]) == (False, True)


def test_a_document_as_owner_is_one_value() -> None:
    """An owner that is a document is compared as a whole."""
    command: Any = PLAN.again(PLAN.acquire({"tenant": 1}, cap=1, data=None, holder=ME))
    assert command.filter["owner"] == {"$eq": {"tenant": 1}}


@pytest.mark.parametrize("reply", [taken(), taken(_id=ObjectId(), owner="alice", data={"x": 1})])
def test_the_verdict_is_read_from_what_is_stored(reply: dict[str, Any]) -> None:
    """A projected reply and the stored document, which answers a repeated write, give the same verdict."""
    attempt = PLAN.told(acquiring(cap=2), reply)
    assert PLAN.again(attempt) is None
    slot = PLAN.acquired(attempt)
    assert (slot.outcome, slot.owner, slot.slot, slot.cap) == (SlotOutcome.ACQUIRED, "alice", 1, 2)
    assert (slot.since, slot.expires_at) == (NOON, NOON + MINUTE)
    assert slot
    assert slot.require() is slot
    assert Holder.of("t", slot.token, "streams:slots", ANY_UUID, thing="slot").id == ME


def test_a_refusal_needs_a_look_at_one_instant() -> None:
    """A write that found nothing is followed by a read; only if that counts the cap the owner is full."""
    attempt = PLAN.told(acquiring(), None)
    look = PLAN.again(attempt)
    assert isinstance(look, Aggregate)
    assert look.let == {"now": "$$NOW"}
    full = PLAN.told(attempt, seen(live=3))
    assert PLAN.again(full) is None
    verdict = PLAN.acquired(full)
    assert not verdict
    assert verdict == Slot(SlotOutcome.FULL, "alice", cap=3)
    with pytest.raises(LimitExceeded, match="all 3 slots of 'alice' are held") as caught:
        verdict.require()
    assert (caught.value.key, caught.value.decision) == ("alice", verdict)
    again: Any = PLAN.again(PLAN.told(attempt, seen(live=2)))
    assert again.comment == "mongopatterns.slots.acquire"
    assert isinstance(again, FindOneAndUpdate)


def test_missing_slots_are_made_free_by_the_servers_time() -> None:
    """What has no document is made, free, dated by the read; then the call tries again."""
    attempt = PLAN.told(PLAN.told(acquiring(), None), seen(live=1, make=[2, Int64(0)]))
    make = PLAN.again(attempt)
    assert isinstance(make, InsertMany)
    free = {"owner": "alice", "holder": None, "since": None, "until": NOON - 5 * MINUTE, "data": {}}
    assert make.documents == [{**free, "slot": 2}, {**free, "slot": 0}]
    assert isinstance(PLAN.again(PLAN.told(attempt, None)), FindOneAndUpdate)


def test_a_cluster_without_the_database_is_an_owner_without_slots() -> None:
    """A read that answers with nothing at all makes the first slots."""
    make: Any = PLAN.again(PLAN.told(PLAN.told(acquiring(), None), []))
    assert [document["slot"] for document in make.documents] == [0, 1, 2]


def test_only_slots_that_others_made_are_passed_over() -> None:
    """A duplicate of our index is as good as an insert; any other error of an insert is the caller's."""
    attempt = PLAN.told(PLAN.told(acquiring(session=OnlySession()), None), seen(make=[0, 1]))
    ours = {"owner": 1, "slot": 1}
    assert isinstance(PLAN.again(PLAN.told(attempt, duplicate(ours))), FindOneAndUpdate)
    for error in (
        duplicate({"x": 1}),
        duplicate(ours, code=121),
        duplicate(ours, writeConcernErrors=[{"code": 64}]),
        OperationFailure("no", 13),
        DuplicateKeyError("no"),
    ):
        with pytest.raises(type(error)) as caught:
            PLAN.told(attempt, error)
        assert caught.value is error


def test_in_a_transaction_no_error_is_passed_over() -> None:
    """An error has ended the transaction: going on would only hide which."""
    attempt = PLAN.told(acquiring(session=InTransaction()), None)
    with pytest.raises(OperationFailure):
        PLAN.told(attempt, OperationFailure("catalog", 246))
    attempt = PLAN.told(attempt, seen(make=[0]))
    with pytest.raises(BulkWriteError):
        PLAN.told(attempt, duplicate({"owner": 1, "slot": 1}))


def test_a_snapshot_that_is_not_there_yet_is_asked_for_again() -> None:
    """A collection made a moment ago has none: the call goes round. Other errors of the read are the caller's."""
    attempt = PLAN.told(acquiring(), None)
    assert isinstance(PLAN.again(PLAN.told(attempt, OperationFailure("catalog", 246))), FindOneAndUpdate)
    with pytest.raises(OperationFailure, match="not allowed"):
        PLAN.told(attempt, OperationFailure("not allowed", 13))


def test_an_error_of_the_write_is_the_callers() -> None:
    """The driver's error of the write is raised as it is."""
    error = OperationFailure("not allowed", 13)
    with pytest.raises(OperationFailure) as caught:
        PLAN.told(acquiring(), error)
    assert caught.value is error


def test_nobody_goes_round_for_ever() -> None:
    """After many rounds in which something was free and others took it the call says so: it was not refused."""
    attempt = acquiring()
    for _ in range(ROUNDS):
        attempt = PLAN.told(attempt, None)
        attempt = PLAN.told(attempt, seen(live=2))
    with pytest.raises(Conflict, match="in 1000 rounds others took every slot") as caught:
        PLAN.told(attempt, None)
    assert caught.value.key == "alice"


def test_slots_of_a_wrong_type_are_not_counted_in_silence() -> None:
    """Where the read finds an `until` that is no date, the call is an error that names it."""
    with pytest.raises(StateError, match="'until' in the document 'alice' of 'streams'"):
        PLAN.told(PLAN.told(acquiring(), None), seen(live=3, odd=1))


@pytest.mark.parametrize(
    ("options", "argument"),
    [
        ({"cap": -1}, "cap"),
        ({"cap": 10_001}, "cap"),
        ({"cap": True}, "cap"),
        ({"cap": "3"}, "cap"),
        ({"data": []}, "data"),
        ({"data": {"$x": 1}}, "data"),
        ({"data": {"a": {"b.c": 1}}}, "data"),
        ({"data": {"a": object()}}, "data"),
        ({"now": dt.datetime(2026, 1, 1)}, "now"),  # noqa: DTZ001  # naive, which is the point
    ],
)
def test_bad_arguments_are_refused_and_named(options: dict[str, Any], argument: str) -> None:
    """A bad cap, data or time raises a UsageError before anything is sent."""
    with pytest.raises(UsageError, match=rf"^{argument}"):
        acquiring(**options)


# Held --------------------------------------------------------------------------------------------------------


def token(owner: Any = "alice", slot: Any = 1, holder: Any = ME, place: str = "streams:slots", **more: Any) -> str:
    document = {"p": place, "k": {"owner": owner, "slot": slot, **more}, "i": holder}
    return base64.urlsafe_b64encode(bson.encode(document)).decode()


def test_a_slot_is_found_by_exactly_its_unique_key() -> None:
    """Renew and release find their slot by owner and number; who holds it is decided in the write."""
    for holding in (PLAN.renew(token()), PLAN.release(token(), released=OTHER)):
        assert holding.command.filter == {"owner": "alice", "slot": 1}
        assert holding.command.let is not None
        assert holding.command.let["holder"] == ME
    assert PLAN.renew(token(owner={"t": 1})).command.filter == {"owner": {"$eq": {"t": 1}}, "slot": 1}


@pytest.mark.parametrize(
    ("reply", "outcome"),
    [
        (None, SlotOutcome.LOST),
        ({"holder": ME, "since": NOON, "until": NOON + MINUTE, "now": NOON}, SlotOutcome.RENEWED),
        ({"_id": 1, "holder": ME, "since": NOON, "until": NOON + MINUTE, "data": {}}, SlotOutcome.RENEWED),
        ({"holder": ME, "since": NOON, "until": NOON, "now": NOON}, SlotOutcome.LOST),
        ({"holder": ME, "since": NOON, "until": NOON - MINUTE, "now": NOON}, SlotOutcome.LOST),
        ({"holder": OTHER, "since": NOON, "until": NOON + MINUTE, "now": NOON}, SlotOutcome.LOST),
        ({"holder": None, "since": None, "until": NOON - MINUTE, "now": NOON}, SlotOutcome.LOST),
        ({"now": NOON}, SlotOutcome.LOST),
    ],
)
def test_what_came_of_renew(reply: Any, outcome: SlotOutcome) -> None:
    """Renewed is what this holder has past the server's time; everything else is lost, and changes nothing."""
    slot = PLAN.held(PLAN.renew(token()), reply)
    assert (slot.outcome, slot.owner, slot.slot, bool(slot)) == (
        outcome,
        "alice",
        1,
        outcome is SlotOutcome.RENEWED,
    )
    assert (slot.token, slot.expires_at) == ((token(), NOON + MINUTE) if slot else (None, None))
    if not slot:
        with pytest.raises(NotHeld, match="slot 1 of 'alice' is not held by this token") as caught:
            slot.require()
        assert (caught.value.key, caught.value.verdict) == ("alice", slot)


@pytest.mark.parametrize(
    ("reply", "outcome"),
    [
        (None, SlotOutcome.LOST),
        ({"holder": OTHER, "until": NOON - 5 * MINUTE, "now": NOON}, SlotOutcome.RELEASED),
        ({"_id": 1, "holder": OTHER, "until": NOON - 5 * MINUTE}, SlotOutcome.RELEASED),
        ({"holder": ME, "until": NOON, "now": NOON}, SlotOutcome.LOST),
        ({"holder": ObjectId(), "until": NOON + MINUTE, "now": NOON}, SlotOutcome.LOST),
    ],
)
def test_what_came_of_release(reply: Any, outcome: SlotOutcome) -> None:
    """Released is what carries the mark of this very call."""
    slot = PLAN.held(PLAN.release(token(), released=OTHER), reply)
    assert slot == Slot(outcome, "alice", 1)
    assert bool(slot) is (outcome is SlotOutcome.RELEASED)


@pytest.mark.parametrize("call", ["renew", "release"])
def test_an_until_of_a_wrong_type_is_told(call: str) -> None:
    """A slot of this holder whose `until` is no date is an error that names it."""
    holding = PLAN.renew(token()) if call == "renew" else PLAN.release(token(), released=OTHER)
    with pytest.raises(StateError, match="'until'"):
        PLAN.held(holding, {"holder": ME, "until": "soon", "now": NOON})


@pytest.mark.parametrize(
    "wrong",
    [
        None,
        7,
        "",
        "nonsense",
        token(place="other:slots"),
        token(slot="1"),
        token(slot=1.5),
        token(more=1),
        token(owner=None),
        token(owner=["a"]),
        token(owner=Regex("a")),
        token(owner={"$gt": ""}),
        base64.urlsafe_b64encode(bson.encode({"p": "streams:slots", "k": "alice", "i": ME})).decode(),
        Slot(SlotOutcome.FULL, "alice", cap=3),
        Slot(SlotOutcome.LOST, "alice", 1),
    ],
)
def test_what_is_no_token_of_these_slots_is_refused(wrong: Any) -> None:
    """Other text, other places, crafted owners and verdicts that hold nothing raise a UsageError."""
    for call in (PLAN.renew, lambda given: PLAN.release(given, released=OTHER)):
        with pytest.raises(UsageError, match=r"^token: "):
            call(wrong)


def test_a_verdict_and_its_token_are_the_same_to_renew_and_release() -> None:
    """The slot that acquire returned, one that holders listed, and the text of its token mean one thing."""
    acquired = PLAN.acquired(PLAN.told(acquiring(), taken()))
    listed = HeldSlot(1, str(acquired.token), NOON, None, {})
    assert PLAN.renew(acquired) == PLAN.renew(acquired.token) == PLAN.renew(listed)


def test_slots_without_a_ttl_are_not_renewed() -> None:
    """With ttl=None there is nothing to renew, and the message says so."""
    plan = SlotsPlan(SlotsSpec("streams", cap=3, ttl=None), "streams")
    with pytest.raises(UsageError, match=r"^renew: slots of a spec with ttl=None do not expire"):
        plan.renew(token())


@given(st.text() | st.integers(-(2**63), 2**63 - 1) | st.binary() | st.builds(ObjectId), st.integers(0, 9999))
def test_every_owner_survives_its_token(owner: Any, slot: int) -> None:
    """Whatever the owner is, the token leads back to its slot."""
    try:
        attempt = PLAN.acquire(owner, cap=None, data=None, holder=ME)
    except UsageError:  # (text that UTF-8 cannot hold)
        return
    acquired = PLAN.acquired(PLAN.told(attempt, taken(slot)))
    command = PLAN.renew(acquired.token).command
    assert command.filter == {"owner": attempt.owner, "slot": slot}
    assert bson.encode(command.filter) == bson.encode({"owner": attempt.owner, "slot": slot})


# Told --------------------------------------------------------------------------------------------------------


def test_verdicts_are_plain_values() -> None:
    """A verdict is frozen, hashable, survives pickle, and is JSON."""
    acquired = PLAN.acquired(PLAN.told(acquiring(), taken()))
    assert pickle.loads(pickle.dumps(acquired)) == acquired
    assert hash(acquired)
    told = json.loads(json.dumps(acquired.to_dict()))
    assert (told["outcome"], told["slot"], told["expires_at"]) == ("acquired", 1, "2026-03-04T12:01:00+00:00")
    held = HeldSlot(0, "t", NOON, None, {"id": ObjectId("0" * 24)})
    assert hash(held)
    assert json.loads(json.dumps(held.to_dict())) == {
        "slot": 0,
        "token": "t",
        "since": "2026-03-04T12:00:00+00:00",
        "expires_at": None,
        "data": {"id": "0" * 24},
    }


def test_what_is_listed_must_be_slots() -> None:
    """A list of what is held names what a document lacks; its holder may be released by the token listed."""
    document = {"slot": 0, "holder": ME, "since": NOON, "until": None, "data": {"a": 1}}
    (held,) = PLAN.listed("alice", [document])
    assert (held.slot, held.since, held.expires_at, held.data) == (0, NOON, None, {"a": 1})
    assert held.token == token(slot=0)
    assert PLAN.listed("alice", [{**document, "data": "odd"}])[0].data == {}
    for wrong in ({"slot": "0"}, {"holder": None}, {"since": None}, {"until": "soon"}):
        with pytest.raises(StateError, match=repr(next(iter(wrong)))):
            PLAN.listed("alice", [{**document, **wrong}])


def test_counts_are_read() -> None:
    """An owner without documents has none held; a wrong type is told."""
    assert PLAN.counted("alice", []) == 0
    assert PLAN.counted("alice", [{"live": 2, "odd": 0}]) == 2
    with pytest.raises(StateError):
        PLAN.counted("alice", [{"live": 2, "odd": 1}])
