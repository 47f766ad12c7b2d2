"""What a capped set's definition accepts and refuses, what it sends, and what it tells: without a server."""

from __future__ import annotations

import copy
import datetime as dt
import json
import pickle
from decimal import Decimal
from types import MappingProxyType
from typing import Any

import bson
import pytest
from bson import Code, Decimal128, Int64, MaxKey, MinKey, ObjectId, Regex, Timestamp
from bson.raw_bson import RawBSONDocument
from hypothesis import given
from hypothesis import strategies as st

from mongopatterns import (
    CappedSetSpec,
    Close,
    Conflict,
    DocumentNotFound,
    Field,
    Index,
    JoinManyResult,
    JoinOutcome,
    JoinResult,
    Leader,
    LeaveOutcome,
    LeaveResult,
    LimitExceeded,
    MemberOutcome,
    MemberResult,
    NotHeld,
    UsageError,
    Waiting,
)
from mongopatterns.commands import REPLY
from mongopatterns.membership._capped_set_plan import CappedSetPlan
from mongopatterns.membership._commands import LARGEST_DOCUMENT
from mongopatterns.verdicts import Verdict

UTC = dt.timezone.utc
NOON = dt.datetime(2026, 3, 4, 12, tzinfo=UTC)
SECOND = dt.timedelta(seconds=1)
HOSTILE = [
    "$name",
    "$$NOW",
    "$$ROOT",
    "a.b",
    ".",
    "$",
    "",
    "__proto__",
    "constructor",
    "0",
    "_id",
    "ключ",
    "x" * 300,
    "$gt",
]


def spec_of(**options: Any) -> CappedSetSpec:
    collection = options.pop("collection", "parties")
    return CappedSetSpec(collection, **{"path": "seats", "member_key": "id", "cap": 3, **options})


def plan_of(**options: Any) -> CappedSetPlan:
    return CappedSetPlan(spec_of(**options), "parties")


EVERYTHING: dict[str, Any] = {
    "path": "a.seats",
    "cap": Field("limits.seats", default=3),
    "open_if": {"ended_at": None, "kind": "open"},
    "member_ttl": 30,
    "on_rejoin": "merge",
    "leader": Leader("a.host", sort=[("n", 1), ("x.y", -1)]),
    "close": Close(set={"kind": "over"}, set_now=["ended_at"]),
    "waiting": Waiting("a.line", cap=5),
    "create": {"kind": "open"},
}

# Definitions -------------------------------------------------------------------------------------------------

NO_CAPS: list[Any] = [0, -1, True, False, 1.0, 2.5, "5", None, [1], 2**31, Decimal(3), float("nan")]
NO_NAMES: list[Any] = ["", "a.b", "$a", ".", "a\0b", None, 5, "\ud800", ["a"]]
NO_PATHS: list[Any] = ["", "$a", "a..b", "a.", ".a", "a.$b", "a\0b", None, 5, "\ud800", ".".join("x" * 33)]
BAD_SPECS: list[tuple[str, Any]] = [
    ("collection", lambda: spec_of(collection="")),
    ("collection", lambda: spec_of(collection=None)),
    *(("path", lambda path=path: spec_of(path=path)) for path in (*NO_PATHS, "_id", "_id.x", "seats.0")),
    ("path", lambda: spec_of(key_field="seats.code")),
    ("path", lambda: spec_of(path="code.seats", key_field="code")),
    *(("key_field", lambda path=path: spec_of(key_field=path)) for path in NO_PATHS),
    *(("key_type", lambda kind=kind: spec_of(key_type=kind)) for kind in (str, int, "ObjectId", ObjectId())),
    *(("member_key", lambda name=name: spec_of(member_key=name)) for name in NO_NAMES),
    *(("ttl_field", lambda name=name: spec_of(ttl_field=name)) for name in (*NO_NAMES, "id")),
    *(("cap", lambda cap=cap: spec_of(cap=cap)) for cap in NO_CAPS),
    *(("cap", lambda cap=cap: spec_of(cap=Field("n", default=cap))) for cap in (0, 1.5, 2**31, 2.0)),
    ("Field.default", lambda: spec_of(cap=Field("n", default=-1))),
    ("cap", lambda: spec_of(cap=Field("seats"))),
    ("cap", lambda: spec_of(cap=Field("seats.n"))),
    ("cap", lambda: spec_of(path="a.seats", cap=Field("a"))),
    *(("open_if", lambda given=given: spec_of(open_if=given)) for given in (5, "ended", ["ended"], {"a": {"$gt": 1}})),
    ("open_if", lambda: spec_of(open_if={"": None})),
    ("open_if", lambda: spec_of(open_if={"$or": []})),
    ("open_if", lambda: spec_of(open_if={5: None})),
    ("open_if", lambda: spec_of(open_if={"seats": None})),
    ("open_if", lambda: spec_of(open_if={"seats.id": 1})),
    ("open_if", lambda: spec_of(open_if={"a": object()})),
    ("open_if", lambda: spec_of(open_if={"a": {"b": {"$gt": 1}}})),
    *(
        ("member_ttl", lambda ttl=ttl: spec_of(member_ttl=ttl))
        for ttl in (0, -1, 0.0009, True, "30", float("nan"), float("inf"), 367 * 86_400, [30], dt.timedelta(1))
    ),
    *(("on_rejoin", lambda how=how: spec_of(on_rejoin=how)) for how in ("replace", None, True, ["keep"], {})),
    *(("leader", lambda leader=leader: spec_of(leader=leader)) for leader in ("host", True, {"path": "host"})),
    ("leader", lambda: spec_of(leader=Leader("_id"))),
    ("leader", lambda: spec_of(leader=Leader("seats"))),
    ("leader", lambda: spec_of(leader=Leader("seats.host"))),
    ("leader", lambda: spec_of(path="a.seats", leader=Leader("a"))),
    ("leader", lambda: spec_of(leader=Leader("code"), key_field="code")),
    ("leader", lambda: spec_of(leader=Leader("n"), cap=Field("n"))),
    ("leader", lambda: spec_of(leader=Leader("limits"), cap=Field("limits.n", default=3))),
    *(("Leader.path", lambda path=path: Leader(path)) for path in NO_PATHS),
    *(
        ("Leader.sort", lambda sort=sort: Leader("host", sort=sort))
        for sort in (None, 5, "at", ["at"], [("at",)], [("at", 2)], [("at", "1")], [("at", None)], [("$at", 1)])
    ),
    *(("Leader.sort", lambda sort=sort: Leader("host", sort=sort)) for sort in ({"at": 1}, [(5, 1)], [("", 1)], [5])),
    *(("waiting", lambda line=line: spec_of(waiting=line)) for line in ("line", True, ["line"])),
    ("waiting", lambda: spec_of(waiting=Waiting("seats"))),
    ("waiting", lambda: spec_of(waiting=Waiting("host"), leader=Leader("host"))),
    ("waiting", lambda: spec_of(waiting=Waiting("host.line"), leader=Leader("host"))),
    ("waiting", lambda: spec_of(waiting=Waiting("limits"), cap=Field("limits.n", default=3))),
    *(("Waiting.path", lambda path=path: Waiting(path)) for path in NO_PATHS),
    *(("Waiting.cap", lambda cap=cap: Waiting("line", cap=cap)) for cap in NO_CAPS if cap is not None),
    *(("close", lambda close=close: spec_of(close=close)) for close in ("ended", True, {"ended": True})),
    ("close", lambda: spec_of(close=Close(set={"ended": True}))),
    ("close", lambda: spec_of(close=Close(), open_if={"ended": None})),
    ("close", lambda: spec_of(close=Close(set={"ended": None}), open_if={"ended": None})),
    ("close", lambda: spec_of(close=Close(set={"n": 1.0}), open_if={"n": Decimal128("1")})),
    ("close", lambda: spec_of(close=Close(set={"seats": 1, "e": 1}), open_if={"e": None})),
    ("close", lambda: spec_of(close=Close(set={"_id": 1, "e": 1}), open_if={"e": None})),
    ("close", lambda: spec_of(close=Close(set={"e": 1}, set_now=["e"]), open_if={"e": None})),
    ("close", lambda: spec_of(close=Close(set={"e": 1, "e.x": 1}), open_if={"e": None})),
    ("close", lambda: spec_of(close=Close(set={"h": 1, "e": 1}), open_if={"e": None}, leader=Leader("h"))),
    ("close", lambda: spec_of(close=Close(set_now=["line.x", "e"]), open_if={"e": None}, waiting=Waiting("line"))),
    *(("Close.set", lambda given=given: Close(set=given)) for given in (None, ["e"], "e", 5)),
    *(("Close.set_now", lambda given=given: Close(set_now=given)) for given in (None, "e", 5)),
    *(("Close", lambda path=path: Close(set={path: 1})) for path in NO_PATHS if not isinstance(path, list)),
    *(("Close", lambda path=path: Close(set_now=[path])) for path in NO_PATHS),
    ("Close.set", lambda: Close(set={"e": object()})),
    *(("create", lambda create=create: spec_of(create=create)) for create in (5, "x", ["a"], {"a.b": 1}, {"$a": 1})),
    ("create", lambda: spec_of(create={"_id": 1})),
    ("create", lambda: spec_of(create={"code": 1}, key_field="code")),
    ("create", lambda: spec_of(create={"seats": []})),
    ("create", lambda: spec_of(path="a.seats", create={"a": 5})),
    ("create", lambda: spec_of(create={"host": "x"}, leader=Leader("host"))),
    ("create", lambda: spec_of(create={"a": 5}, leader=Leader("a.host"))),
    ("create", lambda: spec_of(create={"line": []}, waiting=Waiting("line"))),
    ("create", lambda: spec_of(create={}, open_if={"kind": "open"})),
    ("create", lambda: spec_of(create={"ended": 1}, open_if={"ended": None})),
    ("create", lambda: spec_of(create={"kind": True}, open_if={"kind": 1})),
    ("create", lambda: spec_of(create={}, cap=Field("n"))),
    ("create", lambda: spec_of(create={"n": "5"}, cap=Field("n"))),
    ("create", lambda: spec_of(create={"n": 0}, cap=Field("n", default=5))),
    ("create", lambda: spec_of(create={"n": 2**31}, cap=Field("n"))),
]


@pytest.mark.parametrize(("argument", "make"), BAD_SPECS)
def test_what_cannot_work_is_refused_when_it_is_defined(argument: str, make: Any) -> None:
    """A bad definition raises a UsageError that names the argument."""
    with pytest.raises(UsageError) as caught:
        make()
    assert f"{caught.value.argument}.".startswith(f"{argument}.")
    assert str(caught.value).startswith(f"{caught.value.argument}: ")


GOOD_SPECS: list[dict[str, Any]] = [
    {},
    EVERYTHING,
    {"cap": 2**31 - 1},
    {"cap": Field("n"), "create": {"n": 2.0}},
    {"cap": Field("n"), "create": {"n": Decimal128("2.7")}},
    {"cap": Field("limits.n", default=3), "create": {"limits": None}},
    {"open_if": None},
    {"open_if": {"a.b": [1, {"c": 2}], "x": {"y": 1}, "t": NOON, "r": Regex("^a"), "n": None}},
    {"open_if": {"kind": 1}, "create": {"kind": 1.0}},
    {"member_ttl": 0.001},
    {"member_ttl": 366 * 86_400},
    {"member_ttl": 30, "ttl_field": "a b"},
    {"member_key": "_id"},
    {"member_key": "0"},
    {"member_key": "__proto__"},
    {"leader": Leader("seats_host")},
    {"leader": Leader("host", sort=(("a", -1), ["b.c", 1]))},  # type: ignore[arg-type]
    {"open_if": {"ended": True}, "close": Close(set={"ended": 1})},
    {"key_field": "user.id", "path": "user.seats"},
    {"key_type": ObjectId},
]


@pytest.mark.parametrize("options", GOOD_SPECS)
def test_a_definition_is_a_value(options: dict[str, Any]) -> None:
    """Equal definitions are equal and hash alike, cross a process, and are not changed by what they were made of."""
    spec, other = spec_of(**options), spec_of(**copy.deepcopy(options))
    assert spec == other == pickle.loads(pickle.dumps(spec)) == copy.deepcopy(spec)
    assert hash(spec) == hash(other)
    assert spec != spec_of(**{**options, "member_key": "other"})
    plan = CappedSetPlan(spec, "parties")
    assert plan.join(ObjectId(), {"id": "a", "other": "a", "_id": "a", "0": "a", "__proto__": "a"}).command.arguments()


def test_a_definition_keeps_nothing_of_the_callers_that_could_change() -> None:
    """Mappings and lists that were given are copied."""
    conditions: dict[str, Any] = {"kind": {"a": [1]}}
    written: dict[str, Any] = {"kind": {"b": [1]}}
    create: dict[str, Any] = {"kind": {"a": [1]}}
    times, sort = ["at"], [("n", 1)]
    spec = spec_of(
        open_if=MappingProxyType(conditions),
        close=Close(set=written, set_now=times),
        create=create,
        leader=Leader("host", sort=sort),  # type: ignore[arg-type]
    )
    before = copy.deepcopy(spec)
    conditions["kind"]["a"].append(2)
    written["kind"]["b"].append(2)
    create["kind"]["a"].append(2)
    times.append("_id")
    sort.append(("x", 1))
    assert spec == before


def test_a_definition_tells_whether_a_set_closes() -> None:
    """A set without `close` never does; one that closes writes something else than its members ask for."""
    assert not spec_of(open_if={"ended": None}).closes
    assert spec_of(open_if={"ended": None}, close=Close(set_now=["ended"])).closes
    assert spec_of(open_if={"kind": "open"}, close=Close(set={"kind": "over"})).closes


def test_a_definition_names_its_index() -> None:
    """A set found by `_id` needs no index; any other key field needs a unique one."""
    assert spec_of().indexes() == ()
    assert spec_of(key_field="code").indexes() == (Index("code", unique=True),)


# What is asked -----------------------------------------------------------------------------------------------

NO_KEYS: list[Any] = [
    None,
    ["a"],
    ("a",),
    {"a"},
    {"$gt": 1},
    {"a": {"$x": 1}},
    {"a.b": 1},
    float("nan"),
    2**63,
    "\ud800",
]
NO_KEYS += [Regex("a"), Code("x"), MinKey(), MaxKey(), Timestamp(1, 1), object()]
LOOP: dict[str, Any] = {"id": "a"}
LOOP["loop"] = LOOP
NO_MEMBERS: list[Any] = [None, "a", 5, ["a"], [("id", "a")], {}, {"name": "Ann"}, {"id": None}, {"Id": "a"}, {"id ": 1}]
NO_MEMBERS += [{"id": "a", 5: 1}, {"id": "a", "n\0": 1}, {"id": "a", "x": object()}, {"id": "a", "x": {1: 2}}, LOOP]
NO_MEMBERS += [{"id": "a", "x": 2**64}, {"id": "a", "x": "\ud800"}, {"id": "a", "x": {"s": {1}}}]
NO_TIMES: list[Any] = [NOON.replace(tzinfo=None), "now", 5, NOON.date(), NOON.replace(year=9500)]

BAD_CALLS: list[tuple[str, Any]] = [
    *(("key", lambda plan, key=key: plan.join(key, {"id": "a"})) for key in NO_KEYS),
    *(("key", lambda plan, key=key: plan.join_many(key, [{"id": "a"}], all_or_none=True)) for key in NO_KEYS),
    *(("key", lambda plan, key=key: plan.leave(key, "a")) for key in NO_KEYS),
    *(("key", lambda plan, key=key: plan.touch(key, "a")) for key in NO_KEYS),
    *(("key", lambda plan, key=key: plan.update_member(key, "a", {"n": 1})) for key in NO_KEYS),
    *(("key", lambda plan, key=key: plan.look("members", key, None)) for key in NO_KEYS),
    *(("member", lambda plan, member=member: plan.join("p", member)) for member in NO_MEMBERS),
    *(
        ("members[1]", lambda plan, member=member: plan.join_many("p", [{"id": "z"}, member], all_or_none=True))
        for member in NO_MEMBERS
    ),
    *(("member", lambda plan, key=key: plan.join("p", {"id": key})) for key in NO_KEYS),
    *(("member", lambda plan, key=key: plan.leave("p", key)) for key in NO_KEYS),
    *(("member", lambda plan, key=key: plan.touch("p", key)) for key in NO_KEYS),
    *(("member", lambda plan, key=key: plan.update_member("p", key, {"n": 1})) for key in NO_KEYS),
    ("member", lambda plan: plan.join("p", {"id": "a", "until": NOON})),
    ("members[0]", lambda plan: plan.join_many("p", [{"id": "a", "until": None}], all_or_none=False)),
    *(
        ("members", lambda plan, members=members: plan.join_many("p", members, all_or_none=True))
        for members in (None, 5, "ab", b"ab", {"id": "a"}, [], (), iter(()))
    ),
    ("members", lambda plan: plan.join_many("p", [{"id": n} for n in range(1001)], all_or_none=True)),
    ("members", lambda plan: plan.join_many("p", [{"id": "a"}, {"id": "b"}, {"id": "a", "n": 1}], all_or_none=True)),
    ("members", lambda plan: plan.join_many("p", [{"id": 1}, {"id": 1.0}], all_or_none=False)),
    ("members", lambda plan: plan.join_many("p", [{"id": Int64(1)}, {"id": Decimal128("1.00")}], all_or_none=False)),
    ("members", lambda plan: plan.join_many("p", [{"id": {"a": 1}}, {"id": {"a": 1.0}}], all_or_none=False)),
    *(
        ("fields", lambda plan, fields=fields: plan.update_member("p", "a", fields))
        for fields in (None, "n", ["n"], 5, {})
    ),
    *(
        ("fields", lambda plan, fields=fields: plan.update_member("p", "a", fields))
        for fields in ({"id": "b"}, {"n": 1, "until": NOON}, {5: 1}, {"n": object()}, {"n\0": 1}, LOOP, {"n": 2**64})
    ),
    *(("now", lambda plan, now=now: plan.join("p", {"id": "a"}, now=now)) for now in NO_TIMES),
    *(("now", lambda plan, now=now: plan.leave("p", "a", now=now)) for now in NO_TIMES),
    *(("now", lambda plan, now=now: plan.look("size", "p", now)) for now in NO_TIMES),
    ("waiting", lambda plan: plan.look("waiting", "p", None)),
]


@pytest.mark.parametrize(("argument", "call"), BAD_CALLS)
def test_bad_arguments_are_refused_and_named(argument: str, call: Any) -> None:
    """A bad key, member, field or time raises a UsageError that names it; no command is built."""
    with pytest.raises(UsageError) as caught:
        call(plan_of(member_ttl=30, ttl_field="until"))
    assert f"{caught.value.argument}.".startswith(f"{argument}.")


def test_without_a_time_there_is_nothing_to_touch() -> None:
    """A spec without member_ttl has no touch, and its members may have a field of that name."""
    plan = plan_of()
    with pytest.raises(UsageError, match=r"^touch: the spec has no member_ttl"):
        plan.touch("p", "a")
    assert plan.join("p", {"id": "a", "expires_at": NOON}).members == [{"id": "a", "expires_at": NOON}]
    assert plan.update_member("p", "a", {"expires_at": 5})


def test_text_is_an_id_where_ids_are_asked_for() -> None:
    """With key_type=ObjectId the document's key may be text of an id, and no other text."""
    plan, key = plan_of(key_type=ObjectId), ObjectId()
    assert plan.join(str(key), {"id": "a"}).command.filter == {"_id": key}
    assert plan.leave(key, str(key)).id == str(key), "members have keys of their own type"
    for wrong in ("p", "", 5, None):
        with pytest.raises(UsageError, match=r"^key: .*not an ObjectId"):
            plan.leave(wrong, "a")


def test_members_may_be_any_iterable_and_are_not_changed() -> None:
    """A generator is read once; what the server tells apart is no duplicate; the caller's dicts stay theirs."""
    plan = plan_of(member_ttl=30)
    given: list[dict[str, Any]] = [{"id": 1}, {"id": True}, {"id": "1"}, {"id": b"1"}, {"id": {"a": 1, "b": 2}}]
    given.append({"id": {"b": 2, "a": 1}})
    before = copy.deepcopy(given)
    join = plan.join_many("p", (member for member in given), all_or_none=False)
    assert join.ids == [member["id"] for member in given]
    assert given == before
    assert len(plan.join_many("p", [{"id": n} for n in range(1000)], all_or_none=True).ids) == 1000


@pytest.mark.parametrize("joins", [1, 2])
@pytest.mark.parametrize("size", [LARGEST_DOCUMENT, LARGEST_DOCUMENT - 30])
@pytest.mark.parametrize("options", [{}, {"create": {}}, {"create": {}, "leader": Leader("host")}])
def test_members_that_fit_into_no_document_are_refused(options: dict[str, Any], size: int, joins: int) -> None:
    """What no document could hold raises a UsageError: sent, it would make an empty document, and be told JOINED."""
    members = [{"id": number, "blob": b"x" * (size // joins)} for number in range(joins)]
    with pytest.raises(UsageError, match="16 MB"):
        plan_of(**options).join_many("p", members, all_or_none=True)
    if joins == 1:
        with pytest.raises(UsageError, match="16 MB"):
            plan_of(**options).join("p", members[0])


# What is sent ------------------------------------------------------------------------------------------------


def all_calls(plan: CappedSetPlan, value: Any = "a") -> dict[str, Any]:
    """Build each write once, with a value wherever the caller gives one."""
    calls: dict[str, Any] = {
        "join": plan.join("p", {"id": value, "x": value}, document=True),
        "join_many": plan.join_many("p", [{"id": value, "x": value}, {"id": "\1"}], all_or_none=False),
        "leave": plan.leave("p", value),
        "update": plan.update_member("p", value, {"x": value, str(value): 1}),
    }
    if plan.spec.member_ttl is not None:
        calls["touch"] = plan.touch("p", value)
    return calls


@pytest.mark.parametrize("options", GOOD_SPECS)
def test_what_is_sent_can_be_read(options: dict[str, Any]) -> None:
    """Each call is one guarded write on exactly the key, named in its comment, told by the image before it."""
    spec = spec_of(**{**options, "member_key": "id", "key_type": None})
    plan = CappedSetPlan(spec, "parties")
    for name, call in all_calls(plan).items():
        arguments = call.command.arguments()
        assert arguments["filter"] == {spec.key_field: "p"}
        assert arguments["comment"] == f"mongopatterns.capped_set.{name}"
        assert arguments["return_document"] is False, "before the write"
        assert arguments["upsert"] is (spec.create is not None and name.startswith("join"))
        assert arguments["let"]["now"] == "$$NOW"
        assert set(arguments["projection"]) == {"_id", REPLY}
        assert [set(stage) for stage in arguments["update"]] == [{"$replaceWith"}]
        assert bson.encode(arguments["projection"])
        assert max(len(bson.encode(stage)) for stage in arguments["update"]) < 20_000
    looks = ["members", "size", *(["waiting"] if spec.waiting else [])]
    for name in looks:
        read = plan.look(name, "p", None)
        assert read.pipeline[0] == {"$match": {spec.key_field: "p"}}
        assert read.comment == f"mongopatterns.capped_set.{name}"


@pytest.mark.parametrize("value", HOSTILE)
@pytest.mark.parametrize("options", [{}, EVERYTHING])
def test_a_callers_values_travel_as_data_alone(options: dict[str, Any], value: str) -> None:
    """What is computed is the same whatever the caller gives: values stand in `let`, each under `$literal`."""
    plan = plan_of(**options)
    calm = all_calls(plan)
    for name, call in all_calls(plan, value).items():
        assert call.command.update is calm[name].command.update, "built once"
        assert call.command.projection is calm[name].command.projection
        for variable, given_as in call.command.let.items():
            if variable not in ("now", "bytes"):
                assert set(given_as) == {"$literal"}
        assert isinstance(call.command.update[0], RawBSONDocument)


def test_a_call_that_could_seat_nobody_makes_no_document() -> None:
    """With create= a group that must stay together and is larger than a new set does not upsert."""
    plan = plan_of(create={"n": 2}, cap=Field("n"))
    group = [{"id": number} for number in range(3)]
    assert plan.join_many("p", group[:2], all_or_none=True).command.upsert
    assert plan.join_many("p", group, all_or_none=False).command.upsert
    refused = plan.join_many("p", group, all_or_none=True)
    assert not refused.command.upsert
    told = plan.joined_many(refused, None, clock=NOON)
    assert (told.outcomes, told.size, told.cap) == ((JoinOutcome.FULL,) * 3, 0, 2)


def test_only_what_does_not_tell_by_itself_is_asked_again() -> None:
    """A projected reply and a plain None need no read; the stored image, and what None does not tell, need one."""
    plain = plan_of(create={})
    join = plain.join("p", {"id": "a"})
    assert plain.again(join.command, {REPLY: {}}) is None
    assert plain.again(join.command, None) is None
    image = {"_id": "p", "seats": ["$x", {"id": "$$NOW"}]}
    again = plain.again(join.command, image)
    assert again is not None
    assert again.let["image"] == {"$literal": image}
    assert again.pipeline[0] == {"$match": {"_id": "p"}}
    assert again.comment == join.command.comment
    whole = plain.join("p", {"id": "a"}, document=True)
    assert plain.again(whole.command, None) is not None
    absent = plan_of()
    assert absent.again(absent.join("p", {"id": "a"}, document=True).command, None) is None


def test_threads_that_build_a_call_at_the_same_time_send_the_same() -> None:
    """Of two that build one call at once both are known when they are asked again: they send what was built first."""
    plan = plan_of(create={})
    build, joins = plan._pipeline.ends, []

    def meanwhile(what: Any, **options: Any) -> Any:
        plan._pipeline.ends = build  # type: ignore[method-assign]
        joins.append(plan.join_many("other", [{"id": "a"}, {"id": "b"}], all_or_none=True))
        return build(what, **options)

    plan._pipeline.ends = meanwhile  # type: ignore[method-assign]
    joins.append(plan.join_many("p", [{"id": "a"}, {"id": "b"}], all_or_none=True))
    assert all(plan.again(join.command, None) is not None for join in joins)


@pytest.mark.parametrize(
    ("options", "key", "image"),
    [
        ({}, "p", {"_id": "p"}),
        ({}, {"a": 1}, {"_id": {"a": 1}}),
        ({"key_field": "user.id", "path": "seats"}, "p", {"user": {"id": "p"}}),
        ({"key_field": "user.id", "path": "seats"}, {"a": "$x"}, {"user": {"id": {"a": "$x"}}}),
    ],
)
def test_a_document_that_was_made_is_told_as_it_was_made(options: dict[str, Any], key: Any, image: Any) -> None:
    """What the server is asked about is the new document itself: nested as its key is, with the fields of create=."""
    plan = plan_of(**options, create={"n": 2}, cap=Field("n"))
    again = plan.again(plan.join(key, {"id": "a"}, document=True).command, None)
    assert again is not None
    assert again.let["image"] == {"$literal": {"n": 2, **image}}


values = st.one_of(
    st.integers(-(2**63), 2**63 - 1), st.text(max_size=20), st.binary(max_size=20), st.booleans(), st.floats()
)
documents = st.dictionaries(
    st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=9), values, max_size=4
)


@given(
    members=st.lists(documents, min_size=1, max_size=5),
    there=st.integers(0, 300),
    ttl=st.booleans(),
    leader=st.booleans(),
    create=st.none() | st.just({"kind": "open", "n": [1, 2]}),
)
def test_no_document_grows_by_more_than_was_reckoned(
    members: list[dict[str, Any]], there: int, *, ttl: bool, leader: bool, create: Any
) -> None:
    """However many members stand there already, what joining adds to a document is at most what the call says."""
    options: dict[str, Any] = {"member_ttl": 30} if ttl else {}
    plan = plan_of(**options, leader=Leader("host") if leader else None, create=create)
    given_members = [{**member, "id": number} for number, member in enumerate(members)]
    for member in given_members:
        member.pop("expires_at", None)
    join = plan.join_many("p", given_members, all_or_none=False)
    seats: list[Any] = [{}] * there
    before: dict[str, Any] = {"_id": "p", "seats": seats}
    seated = [{**member, "expires_at": NOON} if ttl else member for member in given_members]
    after = {"_id": "p", **(create or {}), "seats": seats + seated, **({"host": join.ids[-1]} if leader else {})}
    assert join.command.let is not None
    assert len(bson.encode(after)) - len(bson.encode(before)) <= join.command.let["bytes"]


# Verdicts ----------------------------------------------------------------------------------------------------


def join_result(outcome: JoinOutcome, **more: Any) -> JoinResult:
    return JoinResult("p", outcome, 2, 3, **{"collection": "parties", **more})


def many_result(*outcomes: JoinOutcome) -> JoinManyResult:
    return JoinManyResult("p", outcomes, ("a",), 2, 3, collection="parties")


REFUSALS: dict[JoinOutcome, type[Exception]] = {
    JoinOutcome.WAITING: LimitExceeded,
    JoinOutcome.FULL: LimitExceeded,
    JoinOutcome.CLOSED: Conflict,
    JoinOutcome.NOT_FOUND: DocumentNotFound,
}


@pytest.mark.parametrize("outcome", list(JoinOutcome))
def test_a_join_is_true_when_the_member_has_a_seat(outcome: JoinOutcome) -> None:
    """JOINED and ALREADY go ahead; every other outcome is false, and `require` raises the error that it means."""
    for verdict in (join_result(outcome), many_result(JoinOutcome.JOINED, outcome)):
        assert bool(verdict) is (outcome not in REFUSALS)
        if verdict:
            assert verdict.require() is verdict
            continue
        with pytest.raises(REFUSALS[outcome]) as caught:
            verdict.require()
        error: Any = caught.value
        assert error.key == "p"
        told = {LimitExceeded: "decision", Conflict: "verdict"}.get(type(error))
        assert told is None or getattr(error, told) is verdict
        assert "'p'" in str(error)


def test_of_many_the_first_refusal_is_raised() -> None:
    """Where several were refused for different reasons, the first one's reason is what `require` raises."""
    with pytest.raises(Conflict):
        many_result(JoinOutcome.ALREADY, JoinOutcome.CLOSED, JoinOutcome.FULL).require()


def test_other_verdicts_are_true_when_something_was_done() -> None:
    """LEFT and UPDATED are true, and nothing else; who has no seat is NotHeld, and a document may not be there."""
    verdicts: list[Any] = [LeaveResult("p", outcome, 0, collection="sets") for outcome in LeaveOutcome]
    verdicts += [MemberResult("p", "a", outcome, collection="sets") for outcome in MemberOutcome]
    for verdict in verdicts:
        assert bool(verdict) is (verdict.outcome in (LeaveOutcome.LEFT, MemberOutcome.UPDATED))
        if verdict:
            assert verdict.require() is verdict
        elif verdict.outcome in (LeaveOutcome.NOT_FOUND, MemberOutcome.NOT_FOUND):
            with pytest.raises(DocumentNotFound, match="no document of 'sets' has the key 'p'"):
                verdict.require()
        else:
            with pytest.raises(NotHeld, match="has no seat in the set of 'p'") as caught:
                verdict.require()
            assert (caught.value.key, caught.value.verdict) == ("p", verdict)


MEMBER: dict[str, Any] = {"id": ObjectId(), "at": NOON, "n": Decimal128("1.5"), "raw": b"\0", "tags": ({"a": 1}, None)}


@pytest.mark.parametrize(
    "verdict",
    [
        join_result(JoinOutcome.JOINED, member=MEMBER, leader=ObjectId(), promoted=(MEMBER,), document={"_id": 1}),
        join_result(JoinOutcome.NOT_FOUND, position=1),
        many_result(JoinOutcome.JOINED, JoinOutcome.FULL),
        LeaveResult(ObjectId(), LeaveOutcome.LEFT, 0, leader=None, closed=True, promoted=(MEMBER,)),
        MemberResult("p", ObjectId(), MemberOutcome.UPDATED, MEMBER),
    ],
)
def test_a_verdict_is_json_and_a_value(verdict: Verdict) -> None:
    """`to_dict` is what json.dumps takes, with every field; a verdict can be hashed, pickled, and not be changed."""
    told = verdict.to_dict()
    assert json.loads(json.dumps(told)) == told
    assert list(told) == list(vars(verdict))
    assert told["outcomes" if isinstance(verdict, JoinManyResult) else "outcome"]
    assert pickle.loads(pickle.dumps(verdict)) == verdict
    assert hash(verdict) == hash(copy.copy(verdict))
    with pytest.raises(AttributeError):
        verdict.size = 5  # type: ignore[attr-defined]


def test_a_verdict_shows_no_whole_document() -> None:
    """The repr of a verdict leaves the caller's document out: it may be long."""
    assert "secret" not in repr(join_result(JoinOutcome.JOINED, document={"text": "secret"}))


# Documents in hand -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("document", "found"),
    [
        ({}, []),
        ({"a": None}, []),
        ({"a": {}}, []),
        ({"a": {"seats": None}}, []),
        ({"a": {"seats": []}}, []),
        ({"a": 5}, []),
        ({"a": {"seats": [{"id": 1}, {"id": 2}]}}, [{"id": 1}, {"id": 2}]),
        ({"a": {"seats": [5, {"id": 1}, None, [{"id": 2}], {"n": 1}]}}, [{"id": 1}, {"n": 1}]),
    ],
)
def test_read_gives_the_members_of_a_document_in_hand(document: Any, found: Any) -> None:
    """`spec.read` tells the members in their order, and leaves out what is no document."""
    assert spec_of(path="a.seats").read(document) == found
    assert spec_of(path="a.seats", member_ttl=30).read(document, now=NOON) == found


@pytest.mark.parametrize("wrong", [None, 5, "text", [], [("seats", [])], {"seats": 5}, {"seats": {}}, {"seats": "x"}])
def test_read_refuses_what_is_none(wrong: Any) -> None:
    """No document, or no array at the path, raises a UsageError."""
    with pytest.raises(UsageError, match=r"^document: "):
        spec_of().read(wrong)


def test_read_knows_the_time() -> None:
    """With now= those who have expired are left out, to the millisecond; what is no date never expires."""
    naive = NOON.replace(tzinfo=None)
    members: list[Any] = [{"id": 1, "expires_at": NOON}, {"id": 2, "expires_at": NOON + SECOND / 1000}]
    members += [
        {"id": 3},
        {"id": 4, "expires_at": None},
        {"id": 5, "expires_at": "soon"},
        {"id": 6, "expires_at": naive},
    ]
    spec = spec_of(member_ttl=30)
    document = {"seats": members}
    assert [member["id"] for member in spec.read(document)] == [1, 2, 3, 4, 5, 6]
    assert [member["id"] for member in spec.read(document, now=NOON)] == [2, 3, 4, 5]
    assert [member["id"] for member in spec.read(document, now=NOON - SECOND)] == [1, 2, 3, 4, 5, 6]
    berlin = NOON.astimezone(dt.timezone(dt.timedelta(hours=1)))
    assert spec.read(document, now=berlin) == spec.read(document, now=NOON)
    assert [member["id"] for member in spec_of().read(document, now=NOON)] == [1, 2, 3, 4, 5, 6]
    assert spec.read(document)[5]["expires_at"] == NOON, "dates have their zone"


@pytest.mark.parametrize("now", NO_TIMES)
@pytest.mark.parametrize("ttl", [None, 30])
def test_read_refuses_a_bad_time(now: Any, ttl: Any) -> None:
    """A time that is no aware datetime raises a UsageError that names it, whatever the document holds."""
    with pytest.raises(UsageError, match=r"^now: "):
        spec_of(member_ttl=ttl).read({"seats": []}, now=now)


def test_read_leaves_the_document_alone() -> None:
    """What is read is a copy: changing it does not change the document."""
    document: dict[str, Any] = {"seats": [{"id": 1, "tags": [1]}]}
    before = copy.deepcopy(document)
    found = spec_of().read(document)
    found[0]["tags"].append(2)
    found.append({})
    assert document == before


@pytest.mark.parametrize(
    ("argument", "options"),
    [
        ("open_if", {"open_if": {"_id": None}}),
        ("open_if", {"open_if": {"host": None}, "leader": Leader("host")}),
        ("open_if", {"open_if": {"line": None}, "waiting": Waiting("line")}),
        ("open_if", {"open_if": {"a": None, "a.b": 1}}),
        ("open_if", {"open_if": {"ended": dt.datetime(2026, 1, 1)}}),  # noqa: DTZ001  # naive
        ("close", {"open_if": {"ended": None}, "cap": Field("n"), "close": Close(set={"ended": 1, "n": "x"})}),
        ("create", {"open_if": {"a.b": None}, "create": {"a": [{"b": 1}]}}),
        ("create", {"cap": Field("l.max", default=10), "create": {"l": [{"max": 5}]}}),
        (
            "create",
            {
                "member_ttl": 30,
                "open_if": {"meta.ended": None},
                "close": Close(set={"meta.ended": True}),
                "create": {"meta": "x"},
            },
        ),
    ],
)
def test_definitions_that_would_contradict_themselves(argument: str, options: dict[str, Any]) -> None:
    """What would close a set by being joined, or make a document that nobody can join, is refused when it is said."""
    with pytest.raises(UsageError, match=rf"^{argument}"):
        CappedSetSpec("sets", path="seats", member_key="id", **{"cap": 3, **options})


def test_an_order_has_whole_directions() -> None:
    """True is no direction, although it equals 1."""
    with pytest.raises(UsageError, match=r"^Leader\.sort"):
        Leader("host", sort=[("n", True)])


@pytest.mark.parametrize("all_or_none", [None, "no", 0, 1])
def test_all_or_none_is_said_by_a_bool(all_or_none: Any) -> None:
    """Anything else is refused before anything is sent."""
    plan = CappedSetPlan(CappedSetSpec("sets", path="seats", member_key="id", cap=3), "sets")
    with pytest.raises(UsageError, match=r"^all_or_none"):
        plan.join_many(1, [{"id": "a"}], all_or_none=all_or_none)
