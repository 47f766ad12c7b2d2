"""What a definition accepts, refuses and sends, without a server."""

from __future__ import annotations

import datetime as dt
from typing import Any
from zoneinfo import ZoneInfo

import bson
import pytest
from bson import ObjectId
from hypothesis import given
from hypothesis import strategies as st

from mongopatterns import (
    CounterSpec,
    Decision,
    DocumentNotFound,
    Field,
    QuotaSpec,
    Rollover,
    StateError,
    Times,
    UsageError,
    Window,
)
from mongopatterns.counters._counter_plan import CounterPlan
from mongopatterns.counters._quota_plan import QuotaPlan, Write
from mongopatterns.windows import Anniversary, Calendar, Fixed

NOON = dt.datetime(2026, 3, 4, 12, 30, tzinfo=dt.timezone.utc)
TOKEN = ObjectId()
HOUR = [Window.hour(5)]


def written(plan: QuotaPlan, call: str, key: Any, amount: Any, *, token: ObjectId, now: Any) -> Write:
    return plan.write(plan.ask(call, key, amount), token=token, now=now)


BAD_SPECS: list[tuple[str, Any]] = [
    ("collection", lambda: QuotaSpec("", path="q", windows=HOUR)),
    ("collection", lambda: CounterSpec(None, path="n")),  # type: ignore[arg-type]
    ("path", lambda: QuotaSpec("c", path="$q", windows=HOUR)),
    ("path", lambda: QuotaSpec("c", path="_id.q", windows=HOUR)),
    ("path", lambda: CounterSpec("c", path="user", key_field="user.id")),
    ("key_field", lambda: CounterSpec("c", path="n", key_field="")),
    ("key_type", lambda: CounterSpec("c", path="n", key_type=str)),  # type: ignore[arg-type]
    ("create", lambda: CounterSpec("c", path="n", create={"$set": 1})),
    ("create", lambda: CounterSpec("c", path="stats.n", create={"stats": {"m": 1}})),
    ("create", lambda: CounterSpec("c", path="n", create={"_id": 1})),
    ("create", lambda: QuotaSpec("c", path="q", windows=HOUR, key_field="user", create={"user": 1})),
    ("create", lambda: QuotaSpec("c", path="q.a", windows=HOUR, create={"q": {"a": {}}})),
    ("create", lambda: QuotaSpec("c", path="q", windows=HOUR, create=[1])),  # type: ignore[arg-type]
    ("windows", lambda: QuotaSpec("c", path="q", windows=[])),
    ("windows", lambda: QuotaSpec("c", path="q", windows=[5])),  # type: ignore[list-item]
    ("windows", lambda: QuotaSpec("c", path="q", windows=[Window.hour(5), Window.hour(6)])),
    ("windows", lambda: QuotaSpec("c", path="q", windows=[Window.hour(Field("q.limit"))])),
    ("timezone", lambda: QuotaSpec("c", path="q", windows=HOUR, timezone="Mars/Olympus")),
    ("Window.unit", lambda: Window("minute", 5)),  # type: ignore[arg-type]
    ("Window.length", lambda: Window("hour", 5, length=dt.timedelta(hours=2))),
    ("Window.length", lambda: Window("every", 5)),
    ("Window.limit", lambda: Window.hour(-1)),
    ("Window.limit", lambda: Window.hour(float("nan"))),
    ("Window.limit", lambda: Window.hour(True)),
    ("Window.rollover", lambda: Window.hour(None, rollover=Rollover(cap=5))),
    ("Rollover.cap", lambda: Rollover(cap=-1)),
    ("Rollover.spend", lambda: Rollover(cap=1, spend="bank")),  # type: ignore[arg-type]
    ("Window.rollover", lambda: Window.hour(5, rollover=5)),  # type: ignore[arg-type]
    ("windows", lambda: QuotaSpec("c", path="q", windows=Window.hour(5))),  # type: ignore[arg-type]
    ("windows", lambda: QuotaSpec("c", path="q", windows=None)),  # type: ignore[arg-type]
    ("path", lambda: CounterSpec("c", path="hits.0")),
    ("create", lambda: CounterSpec("c", path="n", key_field="user_id", create={"user_id": None})),
    ("create", lambda: CounterSpec("c", path="n", key_field="user.id", create={"user": {"name": "x"}})),
    ("create", lambda: QuotaSpec("c", path="a.b", windows=HOUR, create={"a": 5})),
    ("create", lambda: QuotaSpec("c", path="q", windows=[Window.hour(Field("a.b"))], create={"a": []})),
    ("Times.factor", lambda: Times(0)),
    ("Times.factor", lambda: Times(1001)),
]


@pytest.mark.parametrize(("argument", "make"), BAD_SPECS)
def test_a_definition_that_cannot_work_is_refused_when_it_is_made(argument: str, make: Any) -> None:
    """Each bad value raises a UsageError that names its argument, before any connection exists."""
    with pytest.raises(UsageError) as caught:
        make()
    assert caught.value.argument == argument


def test_specs_are_frozen_values() -> None:
    """Specs are equal by value, hashable, and cannot be changed, not through what they were given either."""
    create = {"plan": "free"}
    windows = [Window.hour(5)]
    spec = QuotaSpec("users", path="q", windows=windows, create=create)
    create["plan"] = "pro"
    windows.append(Window.day(7))
    assert spec == QuotaSpec("users", path="q", windows=[Window.hour(5)], create={"plan": "free"})
    assert hash(spec) == hash(QuotaSpec("users", path="q", windows=[Window.hour(5)], create={"plan": "free"}))
    with pytest.raises(AttributeError):
        spec.path = "other"  # type: ignore[misc]


def test_specs_name_the_index_that_they_need() -> None:
    """A key field other than _id needs a unique index, and _id needs none."""
    assert CounterSpec("c", path="n").indexes() == ()
    (index,) = QuotaSpec("c", path="q", key_field="user.id", windows=HOUR).indexes()
    assert (index.keys, index.unique) == ((("user.id", 1),), True)


def test_the_pipeline_is_constant() -> None:
    """Two calls send the same encoded pipeline; what differs travels as variables."""
    plan = QuotaPlan(QuotaSpec("c", path="q", windows=HOUR), "c")
    one = written(plan, "consume", "a", 1, token=TOKEN, now=None).command
    two = written(plan, "consume", "b", 2.5, token=ObjectId(), now=NOON).command
    assert one.update is two.update
    assert one.projection is two.projection
    assert (one.let or {})["now"] == "$$NOW"
    assert (two.let or {})["now"] == NOON


@pytest.mark.parametrize(("amount", "upsert"), [(5, True), (6, False)])
def test_an_upsert_is_asked_for_only_where_a_fresh_key_has_room(amount: int, upsert: bool) -> None:
    """A call that an untouched key would refuse must not make a document."""
    plan = QuotaPlan(QuotaSpec("c", path="q", windows=[Window.hour(9), Window.day(Field("x", default=5))]), "c")
    assert written(plan, "consume", "a", amount, token=TOKEN, now=None).command.upsert is upsert
    assert written(plan, "record", "a", amount, token=TOKEN, now=None).command.upsert is True
    unknown = QuotaPlan(QuotaSpec("c", path="q", windows=[Window.hour(Field("x"))]), "c")
    assert written(unknown, "record", "a", amount, token=TOKEN, now=None).command.upsert is False
    never = QuotaPlan(QuotaSpec("c", path="q", windows=HOUR, create=None), "c")
    assert written(never, "record", "a", 1, token=TOKEN, now=None).command.upsert is False


@given(
    st.text() | st.sampled_from(["$name", "$$ROOT", "a.b"]), st.dictionaries(st.text("ab$", min_size=1), st.text("$ab"))
)
def test_values_of_a_caller_never_stand_where_an_expression_is_read(key: str, create: dict[str, str]) -> None:
    """Keys travel in the filter and create= under $literal; the pipeline holds no other text of the caller's."""
    try:
        spec = QuotaSpec("c", path="q", windows=HOUR, create={f"x{name}": f"$${text}" for name, text in create.items()})
    except UsageError:
        return
    plan = QuotaPlan(spec, "c")
    command = written(plan, "consume", key, 1, token=TOKEN, now=None).command
    assert command.filter == {"_id": key}
    without = _without_literals(plan.explain(key, 1)["update"])
    assert all(f"$${text}" not in without for text in create.values() if text not in ("", "$"))


def _without_literals(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [text for name, item in value.items() if name != "$literal" for text in (name, *_without_literals(item))]
    if isinstance(value, list):
        return [text for item in value for text in _without_literals(item)]
    return [value] if isinstance(value, str) else []


@pytest.mark.parametrize("now", [None, NOON])
def test_where_no_server_was_asked_nothing_was_found(now: Any) -> None:
    """A `mongos` answers with no document if there is no such database: keys are untouched, by this process's time."""
    plan = QuotaPlan(QuotaSpec("c", path="q", windows=[Window.hour(5), Window.day(None)]), "c")
    clock = NOON + dt.timedelta(hours=1)
    alone = plan.seen(plan.ask("peek", "a", 6), [], now=now, clock=clock)
    assert plan.seen_many(plan.peek_many(["a"], 6, now=now), [], now=now, clock=clock) == {"a": alone}
    assert (alone.allowed, alone.remaining, alone.at) == (False, {"hour": 5, "day": None}, now or clock)
    assert alone.resets_at["hour"] == (now or clock) + dt.timedelta(minutes=30)
    never = QuotaPlan(QuotaSpec("c", path="q", windows=HOUR, create=None), "c")
    assert never.seen_many(never.peek_many(["a"], 1, now=now), [], now=now, clock=clock) == {}
    with pytest.raises(DocumentNotFound):
        never.seen(never.ask("peek", "a", 1), [], now=now, clock=clock)


def test_a_stored_image_without_projection_is_read_all_the_same() -> None:
    """The reply to a driver's own retry is the whole document: the verdict comes from the token that it holds."""
    windows = [Window.hour(Field("limit"), rollover=Rollover(cap=Times(1.5))), Window.day(None)]
    plan = QuotaPlan(QuotaSpec("c", path="q.x", windows=windows), "c")
    call = written(plan, "consume", "a", 3, token=TOKEN, now=None)
    end = NOON + dt.timedelta(minutes=30)
    hour = {"end": end, "used": 3, "bank": 2}
    state = {"at": NOON, "by": TOKEN, "hour": hour, "day": {"end": end, "used": 8}}
    image = {"_id": "a", "limit": 4, "q": {"x": state}, "_mongopatterns": {"x": 1}}
    decision = plan.decide(call, image, clock=NOON)
    assert decision.allowed
    assert (decision.limit, decision.used, decision.banked) == (
        {"hour": 4, "day": None},
        {"hour": 3, "day": 8},
        {"hour": 2, "day": 0},
    )
    assert decision.resets_at == {"hour": end, "day": end}
    other = written(plan, "consume", "a", 4, token=ObjectId(), now=None)
    assert not plan.decide(other, image, clock=NOON)


def test_a_refusal_that_nothing_explains_is_an_error() -> None:
    """If the server has not done what is never refused, and the state is sound, somebody is told."""
    plan = QuotaPlan(QuotaSpec("c", path="q", windows=HOUR), "c")
    stored = {"at": NOON, "by": ObjectId(), "hour": {"end": NOON + dt.timedelta(minutes=30), "used": 3}}
    reply = {"_mongopatterns": {"now": NOON, "state": stored}}
    record, refund, grant = (plan.ask(call, "a", 1) for call in ("record", "refund", "grant"))
    held = plan.write(plan.ask("reserve", "a", 1), token=TOKEN, ttl=60_000)
    hold = {"id": TOKEN, "n": 1, "until": NOON + dt.timedelta(minutes=1)}
    holding = {"_mongopatterns": {"now": NOON, "state": {**stored, "holds": [hold]}}}
    granted = {"_mongopatterns": {"now": NOON, "state": {**stored, "by": TOKEN, "holds": [hold]}}}
    settle, named = plan.hold("settle", plan.reserved(held, granted, clock=NOON).token, 1)
    for read in (
        lambda: plan.decide(plan.write(record, token=ObjectId()), reply, clock=NOON),
        lambda: plan.decide(plan.write(grant, token=ObjectId()), reply, clock=NOON),
        lambda: plan.decide_all(plan.together([record, record], token=ObjectId()), reply, clock=NOON),
        lambda: plan.refunded(plan.write(refund, token=ObjectId()), reply, clock=NOON),
        lambda: plan.settled(plan.write(settle, token=ObjectId(), hold=named), holding, clock=NOON),
    ):
        with pytest.raises(StateError, match=r"'q' in the document 'a' of 'c': the server refused to change the state"):
            read()


def test_keys_whose_groups_did_not_fit_are_remembered_up_to_a_bound() -> None:
    """A group is gone through at once where the last one did not fit; past a thousand keys all are forgotten."""
    plan = QuotaPlan(QuotaSpec("c", path="q", windows=[Window.hour(10**6)]), "c")

    def whole(key: str) -> bool:
        return plan.group([plan.ask("consume", key, 1)] * 2, token=TOKEN).whole

    for number in range(1000):
        plan.crowd(f"key {number}")
    assert not whole("key 0")
    assert not whole("key 999")
    plan.crowd("key 1000")
    assert whole("key 0")
    assert not whole("key 1000")


def test_what_fits_after_the_year_9999_never_fits() -> None:
    """A bank that takes longer to fill than the calendar goes on is told like one that never does: without a time."""
    plan = QuotaPlan(QuotaSpec("c", path="q", windows=[Window.month(1, rollover=Rollover(cap=10**6))]), "c")
    month = {"end": dt.datetime(2026, 4, 1, tzinfo=dt.timezone.utc), "used": 1}
    document = {"_id": "a", "q": {"at": NOON, "month": month}}
    late, never = (plan.read(document, 12 * years, now=NOON) for years in (7000, 9000))
    assert (bool(late), bool(never)) == (False, False)
    assert (late.limited_by, never.limited_by) == ("month", "month")
    assert late.retry_after == pytest.approx(7000 * 365.2425 * 86_400, rel=0.001)
    assert never.retry_after is None


def test_counters_read_their_replies() -> None:
    """A missing document reads as 0, a wrong value raises with the path and the document."""
    plan = CounterPlan(CounterSpec("c", path="a.n"), "c")
    assert plan.total("k", None) == 0
    assert plan.total("k", {"a": {"n": 3.0}}) == 3
    with pytest.raises(StateError, match=r"'a.n' in the document 'k' of 'c'"):
        plan.total("k", {"a": {"n": "x"}})


def test_a_verdict_without_a_known_window_still_says_something() -> None:
    """require() has a message also when no window can be blamed (zone rules that differ between the two sides)."""
    decision = Decision(ObjectId(), 1, False, None, (), {}, {}, {}, {}, {}, None)
    with pytest.raises(Exception, match="it will not fit later"):
        decision.require()
    assert decision.to_dict()["key"] == str(decision.key)


# The calendar in memory --------------------------------------------------------------------------------------

instants = st.datetimes(dt.datetime(2015, 1, 1), dt.datetime(2026, 12, 31), timezones=st.just(dt.timezone.utc))  # noqa: DTZ001
zones = st.sampled_from(
    ["UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "America/Santiago", "Atlantic/Azores"]
)
units: Any = st.sampled_from(["hour", "day", "week", "month"])


@given(instants, zones, units)
def test_ends_follow_each_other(now: dt.datetime, zone_name: str, unit: Any) -> None:
    """The end of a window is later than what it holds, is local midnight, and the next one is one window on."""
    cycle = Calendar(unit, zone_name)
    end = cycle.end_of(now)
    following = cycle.later(end, 1)
    assert now < end < following
    for steps in (0, 1, 30):
        later = cycle.later(end, steps)
        assert cycle.end_of(later) == cycle.later(end, steps + 1)
        assert cycle.idle_until(end, later) == steps
    if unit != "hour":
        assert (end + dt.timedelta(hours=12)).astimezone(ZoneInfo(zone_name)).hour in range(11, 14)


@given(instants, st.timedeltas(dt.timedelta(seconds=1), dt.timedelta(days=400)), st.booleans(), st.integers(0, 50))
def test_windows_of_a_length_follow_each_other(
    now: dt.datetime, length: dt.timedelta, from_first_use: bool, steps: int
) -> None:
    """A window of a length ends within it, on the grid or from its first use, and whole lengths are counted."""
    length -= length % dt.timedelta(milliseconds=1)
    cycle = Fixed(length, from_first_use)
    end = cycle.end_of(now)
    assert now < end <= now + length
    if from_first_use:
        assert end == now + length
    else:
        assert (end - dt.datetime(1970, 1, 1, tzinfo=dt.timezone.utc)) % length == dt.timedelta(0)
    later = cycle.later(end, steps)
    assert cycle.idle_until(end, later) == steps
    assert cycle.idle_until(end, later + length - dt.timedelta(milliseconds=1)) == steps


@given(instants, zones, st.sampled_from(["day", "week", "month"]), st.integers(0, 40))
def test_anniversaries_keep_the_local_time(now: dt.datetime, zone_name: str, unit: Any, steps: int) -> None:
    """A day, week or month from the first use ends at the same local time, or an hour off where that is skipped."""
    cycle, zone = Anniversary(unit, zone_name), ZoneInfo(zone_name)
    end = cycle.end_of(now)
    assert now < end
    start, stop = now.astimezone(zone), end.astimezone(zone)
    gap = abs((start.hour * 60 + start.minute) - (stop.hour * 60 + stop.minute))
    assert gap in (0, 60, 23 * 60)
    assert cycle.idle_until(end, cycle.later(end, steps)) == steps


def test_a_spec_encodes_small() -> None:
    """Three windows with rollover make a pipeline below 6 KB and a projection below 1 KB."""
    windows = [Window.hour(60, rollover=Rollover(cap=Times(2))), Window.day(300), Window.month(3000)]
    plan = QuotaPlan(QuotaSpec("c", path="quota.subtitle", timezone="Europe/Berlin", windows=windows), "c")
    command = written(plan, "consume", "a", 1, token=TOKEN, now=None).command
    assert len(bson.encode({"": command.update})) < 6000
    assert len(bson.encode(command.projection)) < 1000
