"""Capped sets against a plain model in memory: random calls, times and hands that meddle, on the real server.

The model is a list, a line and a few values in Python, written from the promises; it shares no code with the package.
Every verdict is compared in all its fields, and after every step the stored document as a whole. In half of the runs
each write answers as a repeated one does, so that its verdict is told by the stored image.
"""

from __future__ import annotations

import datetime as dt
import secrets
from dataclasses import dataclass, field, replace
from functools import cmp_to_key
from typing import Any

import pytest
from bson.codec_options import CodecOptions
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from mongopatterns import (
    CappedSet,
    CappedSetSpec,
    Close,
    DocumentNotFound,
    Field,
    JoinManyResult,
    JoinOutcome,
    JoinResult,
    Leader,
    LeaveOutcome,
    LeaveResult,
    MemberOutcome,
    MemberResult,
    Waiting,
)

EXAMPLES = settings.default.max_examples  # many more with --hypothesis-profile=deep

UTC = dt.timezone.utc
START = dt.datetime(2026, 3, 4, 12, tzinfo=UTC)
MS = dt.timedelta(milliseconds=1)
TTL = 1000
DEFAULT_CAP = 3

J, L, M = JoinOutcome, LeaveOutcome, MemberOutcome
Member = dict[str, Any]


def moment(now: int) -> dt.datetime:
    return START + now * MS


def rank(value: Any) -> tuple[int, Any]:
    """Say where a value of a member's field stands in an order, as the server sees it."""
    return (0, 0) if value is ... else (1, 0) if value is None else (2, value)


@dataclass
class Model:
    """One document: who sits, who waits, who leads, and whether it is open; None where there is no document."""

    ttl: bool = False
    merge: bool = False
    leads: bool = False
    sort: tuple[tuple[str, int], ...] = ()
    closes: bool = False
    line_cap: int | None = None
    waits: bool = False
    creates: bool = False
    exists: bool = True
    cap: Any = None
    ended: Any = None
    host: Any = None
    seats: list[Member] = field(default_factory=list)
    line: list[Member] = field(default_factory=list)

    # What is so ................................................................................................

    def live(self, now: int) -> list[Member]:
        return [one for one in self.seats if not self.ttl or one["until"] > moment(now)]

    def limit(self) -> int:
        return int(DEFAULT_CAP if self.cap is None else self.cap)

    def leader_of(self, members: list[Member]) -> Any:
        """Tell who leads these: who did, or the next in the order, of equals the first."""
        if not self.leads or not members:
            return None
        if any(one["id"] == self.host for one in members):
            return self.host

        def compare(one: Member, other: Member) -> int:
            for name, direction in self.sort:
                left, right = rank(one.get(name, ...)), rank(other.get(name, ...))
                if left != right:
                    return direction if left > right else -direction
            return 0

        return min(members, key=cmp_to_key(compare))["id"]  # (min takes the first of equals)

    def leading(self, members: list[Member]) -> Any:
        """Tell who of these is named as the leader."""
        return self.host if self.leads and any(one["id"] == self.host for one in members) else None

    def seat(self, member: Member, now: int) -> Member:
        return {**member, "until": moment(now + TTL)} if self.ttl else member

    # What is done ..............................................................................................

    def join(self, given: list[Member], *, together: bool, now: int) -> dict[str, Any]:
        """Join, and return what is told: outcomes and the rest."""
        ids = [one["id"] for one in given]
        if not self.exists and not self.creates:
            return self.told([J.NOT_FOUND] * len(ids), 0, None)
        if not self.exists and together and len(ids) > DEFAULT_CAP:
            return self.told([J.FULL] * len(ids), 0, DEFAULT_CAP)
        self.exists = True
        live, is_open, limit = self.live(now), self.ended is None, self.limit()
        known = [one in [sitting["id"] for sitting in live] for one in ids]
        taken = [one["id"] for one in (*live, *self.line)]
        fresh = [one for one in given if one["id"] not in taken]
        free = max(0, limit - len(live)) if is_open else 0
        if not is_open or (together and len(self.line) + len(fresh) > free):
            fresh = []
        queue = [*self.line, *fresh]
        seated = [self.seat(one, now) for one in queue[:free]]
        line = self.line[free:]
        for one in fresh[max(0, free - len(self.line)) :]:
            if self.waits and (self.line_cap is None or len(line) < self.line_cap):
                line.append(one)
        renews = (self.ttl or self.merge) and any(known)
        after = [*live, *seated]
        if renews:
            after = [self.again(one, given, now) for one in live] + seated
        if seated or renews or len(line) > len(self.line):
            self.seats, self.line, self.host = after, line, self.leader_of(after)
        places, new = [one["id"] for one in line], [one["id"] for one in seated]
        refusal = J.FULL if is_open else J.CLOSED
        outcomes = [
            J.ALREADY if was else J.JOINED if one in new else J.WAITING if one in places else refusal
            for one, was in zip(ids, known, strict=True)
        ]
        return {
            **self.told(outcomes, len(after), limit),
            "member": next((one for one in after if one["id"] == ids[0]), None),
            "position": places.index(ids[0]) + 1 if ids[0] in places else None,
            "leader": self.leading(after),
            "promoted": tuple(one for one in seated if one["id"] not in ids),
        }

    def again(self, member: Member, given: list[Member], now: int) -> Member:
        for one in given:
            if one["id"] == member["id"]:
                return self.seat({**member, **one} if self.merge else member, now)
        return member

    @staticmethod
    def told(outcomes: list[JoinOutcome], size: int, cap: int | None) -> dict[str, Any]:
        return {"outcomes": outcomes, "size": size, "cap": cap}

    def leave(self, who: Any, now: int) -> dict[str, Any]:
        if not self.exists:
            return {"outcome": L.NOT_FOUND, "size": 0}
        live = self.live(now)
        left = [one for one in live if one["id"] != who]
        line = [one for one in self.line if one["id"] != who]
        if len(left) == len(live) and len(line) == len(self.line):
            return {"outcome": L.ABSENT, "size": len(live), "leader": self.leading(live)}
        free = max(0, self.limit() - len(left)) if self.ended is None else 0
        promoted = [self.seat(one, now) for one in line[:free]]
        after = [*left, *promoted]
        closed = self.closes and self.ended is None and len(left) < len(live) and not after
        self.seats, self.line, self.host = after, line[len(promoted) :], self.leader_of(after)
        if closed:
            self.ended = moment(now)
        return {
            "outcome": L.LEFT,
            "size": len(after),
            "leader": self.host,
            "closed": closed,
            "promoted": tuple(promoted),
        }

    def change(self, who: Any, fields: Member, now: int) -> dict[str, Any]:
        if not self.exists:
            return {"outcome": M.NOT_FOUND}
        for one in self.live(now):
            if one["id"] == who:
                one.update(fields)
                return {"outcome": M.UPDATED, "member": dict(one)}
        return {"outcome": M.ABSENT}

    def document(self) -> dict[str, Any] | None:
        if not self.exists:
            return None
        return {"seats": self.seats, "line": self.line, "host": self.host, "ended": self.ended, "cap": self.cap}


class Forgetful:
    """A collection whose writes answer as the server answers a repeated one: with the image, without the projection."""

    def __init__(self, collection: Any) -> None:
        self.collection = collection

    def find_one_and_update(self, **arguments: Any) -> Any:
        return self.collection.find_one_and_update(**{**arguments, "projection": None})

    def aggregate(self, *arguments: Any, **options: Any) -> Any:
        return self.collection.aggregate(*arguments, **options)


BASE = CappedSetSpec(
    "sets",
    path="seats",
    member_key="id",
    cap=Field("cap", default=DEFAULT_CAP),
    open_if={"ended": None},
    ttl_field="until",
)
SORT: Any = (("n", 1), ("m", -1))
KINDS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "plain": ({}, {}),
    "ttl": ({"member_ttl": TTL / 1000}, {"ttl": True}),
    "merge": ({"on_rejoin": "merge"}, {"merge": True}),
    "leader and close": (
        {"leader": Leader("host", sort=SORT), "close": Close(set_now=["ended"])},
        {"leads": True, "sort": SORT, "closes": True},
    ),
    "everything": (
        {
            "member_ttl": TTL / 1000,
            "on_rejoin": "merge",
            "leader": Leader("host", sort=SORT),
            "close": Close(set_now=["ended"]),
            "waiting": Waiting("line", cap=3),
        },
        {"ttl": True, "merge": True, "leads": True, "sort": SORT, "closes": True, "waits": True, "line_cap": 3},
    ),
    "line without end": (
        {"member_ttl": TTL / 1000, "leader": Leader("host"), "waiting": Waiting("line")},
        {"ttl": True, "leads": True, "waits": True},
    ),
}

PEOPLE: list[Any] = ["a", "b", "c", "d", "e", "f", 1, 1.0, True]
people = st.sampled_from(PEOPLE)
picks = st.integers(0, 9)  # one of those who are there, or (in two of ten) anybody
values = st.none() | st.integers(0, 3)
given_fields = st.dictionaries(st.sampled_from(["n", "m", "$x", "a.b"]), values, max_size=3)
members = st.builds(lambda who, fields: {"id": Who(who), **fields}, people, given_fields)
groups = st.lists(members, min_size=1, max_size=5, unique_by=lambda one: one["id"])


class Who:
    """A member's key, equal to another where the server finds it equal: True is not 1."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        theirs = other.value if isinstance(other, Who) else other
        return isinstance(self.value, bool) is isinstance(theirs, bool) and bool(self.value == theirs)

    def __hash__(self) -> int:
        return hash(self.value)

    def __repr__(self) -> str:
        return repr(self.value)


def plain(value: Any) -> Any:
    """Return a value of the model as it is sent."""
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items()}
    return value.value if isinstance(value, Who) else value


class CappedSetMachine(RuleBasedStateMachine):
    database: Any  # a function: Hypothesis looks for attributes, and a database has every one
    kind: str

    @initialize(creates=st.booleans(), exists=st.sampled_from([True, True, False]), forgetful=st.booleans())
    def define(self, *, creates: bool, exists: bool, forgetful: bool) -> None:
        """Bind the spec, and write the same thing down for the model."""
        options, promises = KINDS[self.kind]
        self.key, self.now = secrets.token_hex(6), 0
        self.seats = CappedSet(self.database(), replace(BASE, create={} if creates else None, **options))
        if forgetful:
            self.seats._sender._collection = Forgetful(self.seats._sender._collection)  # type: ignore[assignment]
        codec: CodecOptions[Any] = CodecOptions(tz_aware=True, tzinfo=UTC)
        self.collection = self.database().get_collection("sets", codec_options=codec)
        self.model = Model(**promises, creates=creates, exists=exists)
        if exists:
            self.collection.insert_one({"_id": self.key})

    @property
    def time(self) -> dt.datetime:
        return moment(self.now)

    # Time, and hands that meddle ...............................................................................

    @rule(passed=st.sampled_from([1, 100, 400, TTL - 1, TTL, TTL + 1, 3 * TTL]))
    def time_passes(self, passed: int) -> None:
        self.now += passed

    @precondition(lambda self: self.model.ttl and self.model.seats)
    @rule(which=st.integers(0, 9), more=st.sampled_from([-1, 0, 1]))
    def time_comes_to_an_expiry(self, which: int, more: int) -> None:
        """Go to the millisecond at which a seat expires, or to one beside it."""
        until = self.model.seats[which % len(self.model.seats)]["until"]
        self.now = max(self.now, (until - START) // MS + more)

    @precondition(lambda self: self.model.exists)
    @rule(cap=st.sampled_from([None, 0, 1, 2, 3, 4, 2.9, 5.0]))
    def somebody_changes_the_cap(self, cap: Any) -> None:
        self.model.cap = cap
        self.collection.update_one({"_id": self.key}, {"$set": {"cap": cap}})

    @precondition(lambda self: self.model.exists)
    @rule(ended=st.sampled_from([None, None, "yes", 0]))
    def somebody_closes_or_opens(self, ended: Any) -> None:
        self.model.ended = ended
        self.collection.update_one({"_id": self.key}, {"$set": {"ended": ended}})

    @precondition(lambda self: self.model.exists and self.model.leads)
    @rule(host=people | st.none())
    def somebody_names_a_leader(self, host: Any) -> None:
        self.model.host = None if host is None else Who(host)
        self.collection.update_one({"_id": self.key}, {"$set": {"host": host}})

    @precondition(lambda self: self.model.exists and self.model.ended is not None)
    @rule()
    def somebody_opens(self) -> None:
        self.somebody_closes_or_opens(ended=None)

    @precondition(lambda self: not self.model.exists)
    @rule()
    def somebody_makes_the_document(self) -> None:
        self.collection.insert_one({"_id": self.key})
        self.model.exists = True

    @precondition(lambda self: self.model.exists)
    @rule(really=st.sampled_from([False, False, False, False, True]))
    def somebody_deletes_the_document(self, really: bool) -> None:
        if not really:
            return
        self.model.exists, self.model.seats, self.model.line = False, [], []
        self.model.cap = self.model.ended = self.model.host = None
        self.collection.delete_one({"_id": self.key})

    # Calls .....................................................................................................

    def pick(self, number: int) -> Any:
        """Choose one of those who sit or wait, or anybody."""
        there = [plain(one["id"]) for one in (*self.model.seats, *self.model.line)]
        return there[number % len(there)] if there and number < 8 else PEOPLE[number % len(PEOPLE)]

    @rule(given=st.lists(members, min_size=6, max_size=9))
    def many_come_one_after_the_other(self, given: list[Member]) -> None:
        for one in given:
            self.join(one, False)

    @rule(number=picks, whole=st.booleans(), fields=given_fields)
    def somebody_joins_again(self, number: int, whole: bool, fields: Member) -> None:
        self.join({"id": Who(self.pick(number)), **fields}, whole)

    @rule(numbers=st.lists(picks, min_size=3, max_size=9))
    def many_leave(self, numbers: list[int]) -> None:
        for number in numbers:
            self.leave(number, False)

    @rule()
    def all_leave(self) -> None:
        for _ in range(len(self.model.seats) + len(self.model.line)):
            self.leave(0, False)

    @rule(member=members, whole=st.booleans())
    def join(self, member: Member, whole: bool) -> None:
        told = self.model.join([dict(member)], together=False, now=self.now)
        (outcome,) = told.pop("outcomes")
        found = self.seats.join(self.key, plain(member), document=whole, now=self.time)
        document = self.collection.find_one({"_id": self.key}) if whole else None
        wanted = JoinResult(**{**self.common(told), "outcome": outcome, "document": document})
        assert found == wanted
        if outcome is J.JOINED:
            assert found.size <= self.model.limit()

    @rule(given=groups, together=st.booleans(), once_more=st.booleans())
    def join_many(self, given: list[Member], together: bool, once_more: bool) -> None:
        for _ in range(1 + once_more):
            told = self.model.join([dict(one) for one in given], together=together, now=self.now)
            outcomes = tuple(told.pop("outcomes"))
            joined = tuple(one["id"] for one, how in zip(given, outcomes, strict=True) if how is J.JOINED)
            for name in ("member", "position"):
                told.pop(name, None)
            many = [plain(one) for one in given]
            found = self.seats.join_many(self.key, iter(many), all_or_none=together, now=self.time)
            assert found == JoinManyResult(**{**self.common(told), "outcomes": outcomes, "joined": joined})
            assert not joined or found.size <= self.model.limit()

    @rule(number=picks, twice=st.booleans())
    def leave(self, number: int, twice: bool) -> None:
        who = self.pick(number)
        for _ in range(1 + twice):
            told = self.model.leave(Who(who), self.now)
            assert self.seats.leave(self.key, who, now=self.time) == LeaveResult(
                key=self.key, collection="sets", **told
            )

    @rule(number=picks, fields=given_fields.filter(bool))
    def update(self, number: int, fields: Member) -> None:
        who = self.pick(number)
        told = self.model.change(Who(who), fields, self.now)
        found = self.seats.update(self.key, who, fields, now=self.time)
        assert found == MemberResult(**{"key": self.key, "id": who, "collection": "sets", **told})

    @precondition(lambda self: self.model.ttl)
    @rule(number=picks)
    def touch(self, number: int) -> None:
        who = self.pick(number)
        told = self.model.change(Who(who), {"until": moment(self.now + TTL)}, self.now)
        found = self.seats.touch(self.key, who, now=self.time)
        assert found == MemberResult(**{"key": self.key, "id": who, "collection": "sets", **told})

    @rule()
    def read(self) -> None:
        """What reading tells is what the model holds, and what the spec reads from the document."""
        if not self.model.exists and not self.model.creates:
            with pytest.raises(DocumentNotFound):
                self.seats.members(self.key, now=self.time)
            return
        live = self.model.live(self.now)
        assert self.seats.members(self.key, now=self.time) == live
        assert self.seats.size(self.key, now=self.time) == len(live)
        if self.model.waits:
            assert self.seats.waiting(self.key, now=self.time) == self.model.line
        document = self.collection.find_one({"_id": self.key}) or {}
        assert self.seats.spec.read(document, now=self.time) == live

    def common(self, told: dict[str, Any]) -> dict[str, Any]:
        return {"key": self.key, "collection": "sets", **told}

    # After every step ..........................................................................................

    @invariant()
    def what_is_stored_is_what_the_model_holds(self) -> None:
        if not hasattr(self, "collection"):
            return
        document = self.collection.find_one({"_id": self.key})
        if document is None:
            assert not self.model.exists
            return
        wanted = self.model.document()
        assert wanted is not None
        found = {name: document.get(name) for name in wanted}
        assert {**found, "seats": found["seats"] or [], "line": found["line"] or []} == wanted
        assert set(document) <= {"_id", *wanted}, "nothing else is written"
        ids = [one["id"] for one in (*self.model.seats, *self.model.line)]
        live = self.model.live(self.now)
        waiting = {one["id"] for one in self.model.line}
        assert not waiting & {one["id"] for one in live}, "nobody both sits and waits"
        assert len({*ids}) == len(ids), "each of them once"


@pytest.mark.parametrize("kind", list(KINDS))
def test_a_capped_set_does_what_a_plain_model_does(mongopatterns_db: Any, kind: str) -> None:
    """Over random calls, times and meddling hands, every verdict and every stored document equal the model's."""
    attributes = {"database": staticmethod(lambda: mongopatterns_db), "kind": kind}
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        type("Machine", (CappedSetMachine,), attributes),
        settings=settings(
            max_examples=EXAMPLES // 4,
            stateful_step_count=35,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
        ),
    )
