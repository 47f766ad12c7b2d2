"""What a rate limiter's definition accepts and refuses, what it sends, and how it reads answers, without a server."""

from __future__ import annotations

import copy
import datetime as dt
import json
import pickle
from decimal import Decimal, localcontext
from typing import Any

import bson
import pytest
from bson import Decimal128, Int64, ObjectId
from hypothesis import given
from hypothesis import strategies as st

from mongopatterns import (
    DocumentNotFound,
    LimitExceeded,
    Rate,
    RateDecision,
    RateLimiterSpec,
    StateError,
    UsageError,
)
from mongopatterns.counters._limiter_pipeline import LAST, MAX_LEVEL
from mongopatterns.counters._limiter_plan import LimiterPlan
from mongopatterns.counters._limiter_state import StateReader, date, milliseconds

UTC = dt.timezone.utc
NOON = dt.datetime(2026, 3, 4, 12, tzinfo=UTC)
SECOND = dt.timedelta(seconds=1)
MS = dt.timedelta(milliseconds=1)
TOKEN = ObjectId()
RATE = Rate(5, per=60)
ALGORITHMS: Any = ["fixed", "sliding", "token_bucket"]
every_algorithm = pytest.mark.parametrize("algorithm", ALGORITHMS)


def spec_of(algorithm: Any = "sliding", limit: Any = 5, per: Any = 60, **more: Any) -> RateLimiterSpec:
    return RateLimiterSpec("limits", Rate(limit, per=per), algorithm=algorithm, **more)


def plan_of(algorithm: Any = "sliding", **more: Any) -> LimiterPlan:
    return LimiterPlan(spec_of(algorithm, **more), "limits")


def state_of(algorithm: str, count: Any = 3) -> dict[str, Any]:
    """Return what a hit of that cost at noon stores."""
    counted: dict[str, Any] = {"end": NOON + 60 * SECOND, "n": count}
    if algorithm == "token_bucket":
        counted = {"level": count * 60_000, "per": 60_000}
    return {"at": NOON, "by": TOKEN, **counted, **({"prev": 0} if algorithm == "sliding" else {})}


# Definitions -------------------------------------------------------------------------------------------------

BAD_SPECS: list[tuple[str, Any]] = [
    ("Rate.limit", lambda: Rate(0, per=60)),
    ("Rate.limit", lambda: Rate(-1, per=60)),
    ("Rate.limit", lambda: Rate(True, per=60)),
    ("Rate.limit", lambda: Rate("5", per=60)),  # type: ignore[arg-type]
    ("Rate.limit", lambda: Rate(10**7 + 1, per=60)),
    ("Rate.limit", lambda: Rate(Decimal("10000000.1"), per=60)),
    ("Rate.limit", lambda: Rate(Decimal("1e-17"), per=60)),
    ("Rate.limit", lambda: Rate(1e-17, per=60)),
    ("Rate.limit", lambda: Rate(float("nan"), per=60)),
    ("Rate.per", lambda: Rate(5, per=0)),
    ("Rate.per", lambda: Rate(5, per=-1)),
    ("Rate.per", lambda: Rate(5, per=0.0001)),
    ("Rate.per", lambda: Rate(5, per=0.0015)),
    ("Rate.per", lambda: Rate(5, per="60")),  # type: ignore[arg-type]
    ("Rate.per", lambda: Rate(5, per=10**12)),
    ("Rate.per", lambda: Rate(5, per=float("inf"))),
    ("Rate.per", lambda: Rate(5, per=dt.timedelta(days=367))),
    ("Rate.per", lambda: Rate(5, per=dt.timedelta(0))),
    ("rate", lambda: RateLimiterSpec("limits", 5)),  # type: ignore[arg-type]
    ("algorithm", lambda: spec_of("leaky")),
    ("burst", lambda: spec_of("sliding", burst=5)),
    ("burst", lambda: spec_of("fixed", burst=5)),
    ("burst", lambda: spec_of("token_bucket", burst=0)),
    ("burst", lambda: spec_of("token_bucket", burst=10**7 + 1)),
    ("burst", lambda: spec_of("token_bucket", burst=Decimal("1e-17"))),
    ("burst", lambda: spec_of("token_bucket", 1, 366 * 86_400, burst=11)),  # eleven years
    ("path", lambda: spec_of(path="$rate")),
    ("path", lambda: spec_of(path="_id.rate")),
    ("path", lambda: spec_of(path="rate.0")),
    ("key_field", lambda: spec_of(key_field="")),
    ("key_type", lambda: spec_of(key_type=str)),
    ("ttl_field", lambda: spec_of(ttl_field="a.b")),
    ("ttl_field", lambda: spec_of(ttl_field="$a")),
    ("ttl_field", lambda: spec_of(ttl_field="")),
    ("ttl_field", lambda: spec_of(ttl_field=5)),
    ("ttl_field", lambda: spec_of(create=None)),
    ("ttl_field", lambda: spec_of(ttl_field="_id")),
    ("ttl_field", lambda: spec_of(ttl_field="rate")),
    ("ttl_field", lambda: spec_of(path="rates.login", ttl_field="rates")),
    ("ttl_field", lambda: spec_of(key_field="user.id", ttl_field="user")),
    ("create", lambda: spec_of(create={"expires_at": None})),
    ("create", lambda: spec_of(create={"_id": 1})),
    ("create", lambda: spec_of(path="rates.login", create={"rates": 5})),
    ("collection", lambda: RateLimiterSpec("", RATE)),
]


@pytest.mark.parametrize(("argument", "make"), BAD_SPECS)
def test_what_cannot_work_is_refused_when_it_is_defined(argument: str, make: Any) -> None:
    """A bad definition raises a UsageError that names the argument."""
    with pytest.raises(UsageError) as caught:
        make()
    assert caught.value.argument == argument


def test_a_definition_is_a_value() -> None:
    """Equal definitions are equal and hash alike, however their numbers are written."""
    assert Rate(0.5, per=60) == Rate(Decimal("0.50"), per=dt.timedelta(minutes=1))
    assert Rate(100.0, per=0.25).limit == 100
    assert type(Rate(100.0, per=0.25).limit) is int
    assert Rate(5, per=0.25).milliseconds == 250
    assert hash(spec_of("sliding")) == hash(spec_of("sliding", 5.0))
    assert spec_of("token_bucket", burst=7.5).at_once == Decimal("7.5")
    assert spec_of("token_bucket").at_once == 5
    assert spec_of("sliding", 0.1 + 0.2).at_once == Decimal("0.3000000000000000")  # rounded to 16 places
    assert pickle.loads(pickle.dumps(spec_of("sliding"))) == spec_of("sliding")


@given(st.floats(1e-16, 10**7), st.integers(1, 30))
def test_a_cost_does_not_depend_on_the_callers_decimal_context(cost: float, precision: int) -> None:
    """The same cost travels whatever the context is, with at most 16 places."""
    plan = plan_of()
    with localcontext() as context:
        context.prec = precision
        sent = plan.ask("hit", "alice", cost).amount
    assert sent == plan.ask("hit", "alice", cost).amount
    exact = Decimal(sent) if isinstance(sent, int) else sent.to_decimal()
    assert abs(exact - Decimal(repr(cost))) <= Decimal("0.5e-16")


# What is sent ------------------------------------------------------------------------------------------------


@every_algorithm
def test_the_pipeline_of_a_spec_never_changes(algorithm: Any) -> None:
    """What a call brings with it travels as variables: two calls send the very same pipeline, encoded once."""
    plan = plan_of(algorithm)
    one, other = (plan.hit(plan.ask("hit", key, cost), token=TOKEN).command for key, cost in (("$a", 1), ("b", 2.5)))
    assert one.update is other.update
    assert one.let == {"now": "$$NOW", "token": TOKEN, "cost": 1}
    assert other.let == {"now": "$$NOW", "token": TOKEN, "cost": Decimal128("2.5")}
    assert one.filter == {"_id": "$a"}
    assert plan.hit(plan.ask("hit", "a", 1), token=TOKEN, now=NOON).command.let == {**one.let, "now": NOON}


def test_only_a_hit_that_a_new_document_admits_may_make_one() -> None:
    """A refused upsert would leave a document behind: it is one only up to the limit, or the burst."""
    for plan, most in ((plan_of("sliding"), 5), (plan_of("token_bucket", burst=7.5), 7.5)):
        for cost, upsert in ((most, True), (most + 0.001, False), (10**15, False)):
            ask = plan.ask("hit", "alice", cost)
            assert plan.hit(ask, token=TOKEN).command.upsert is upsert
            small = plan.ask("hit", "alice", 1)
            assert plan.together([ask, ask], token=TOKEN).command.upsert is upsert
            assert plan.together([ask, small], token=TOKEN).command.upsert is True
    plan = plan_of(create=None, ttl_field=None)
    assert plan.hit(plan.ask("hit", "alice", 1), token=TOKEN).command.upsert is False


def test_a_group_is_sent_as_runs() -> None:
    """Equal costs in a row are one run, and what can never fit is sent as what can be computed with."""
    plan = plan_of()
    asks = [plan.ask("hit", "alice", cost) for cost in (1, 1, 2, 1, 10**15, 10**15, 0.5)]
    let = plan.together(asks, token=TOKEN, now=NOON).command.let or {}
    assert let["runs"] == [
        {"a": 1, "c": 2},
        {"a": 2, "c": 1},
        {"a": 1, "c": 1},
        {"a": 10**7 + 1, "c": 2},
        {"a": Decimal128("0.5"), "c": 1},
    ]
    assert let["now"] == NOON


@every_algorithm
def test_what_is_sent_is_small(algorithm: Any) -> None:
    """A hit's pipeline and projection stay below 2.5 kB, so that what is parsed for every hit does not creep up."""
    shown = plan_of(algorithm).explain("alice", 1)
    assert len(bson.encode({"u": shown["update"], "p": shown["projection"]})) < 2500


# What came back ----------------------------------------------------------------------------------------------


@every_algorithm
def test_a_verdict_is_worked_out_when_it_is_read(algorithm: Any) -> None:
    """Whether it is allowed is known at once; the rest may be copied, pickled, compared and printed."""
    plan = plan_of(algorithm)
    call = plan.hit(plan.ask("hit", "alice", 3), token=TOKEN)
    reply = {"_mongopatterns": {"now": NOON, "state": state_of(algorithm), "ttl": "missing"}}
    decision = plan.decide(call, reply, clock=NOON)
    assert "remaining" not in vars(decision)
    assert decision.allowed
    twin = pickle.loads(pickle.dumps(plan.decide(call, reply, clock=NOON)))
    assert twin == decision == copy.deepcopy(decision)
    assert hash(twin) == hash(decision)
    assert (decision.remaining, decision.retry_after, decision.at) == (2, None, NOON)
    assert json.loads(json.dumps(decision.to_dict()))["policy"] == "1m"


@every_algorithm
def test_a_stored_document_is_read_like_a_reply(algorithm: Any) -> None:
    """A driver that repeats an applied write gets the document as it was stored: the verdict is the same."""
    plan = plan_of(algorithm, path="rates.login")
    call = plan.hit(plan.ask("hit", "alice", 3), token=TOKEN)
    state = state_of(algorithm)
    reply = {"_mongopatterns": {"now": NOON, "state": state, "parents": ["object"], "ttl": "missing"}}
    image = {"_id": "alice", "x": 1, "rates": {"login": state}, "expires_at": NOON}
    assert plan.decide(call, image, clock=NOON) == plan.decide(call, reply, clock=NOON)
    group = plan.together([call.ask, plan.ask("hit", "alice", 9)], token=TOKEN)
    state["note"] = {"k": [1, 0]}
    told = plan.decide_all(group, image, clock=NOON)
    assert told == plan.decide_all(group, reply, clock=NOON)
    assert [(bool(decision), decision.remaining) for decision in told] == [(True, 2), (False, 2)]


@every_algorithm
def test_a_refusal_that_nothing_explains_is_an_error(algorithm: Any) -> None:
    """If the server has refused what fits by our own reading, somebody is told, and nobody is falsely refused."""
    plan = plan_of(algorithm)
    ask = plan.ask("hit", "alice", 1)
    other = {"_mongopatterns": {"now": NOON, "state": {**state_of(algorithm), "by": ObjectId()}, "ttl": "missing"}}
    with pytest.raises(StateError, match="the server refused to change the state"):
        plan.decide(plan.hit(ask, token=TOKEN), other, clock=NOON)
    with pytest.raises(StateError, match="the server refused to change the state"):
        plan.decide_all(plan.together([ask, ask], token=TOKEN), other, clock=NOON)


@every_algorithm
def test_an_unknown_key_is_told_by_this_process(algorithm: Any) -> None:
    """No document and no room: the clock of the process dates it; with create=None it is an error."""
    plan = plan_of(algorithm)
    call = plan.hit(plan.ask("hit", "alice", 9), token=TOKEN)
    clock = NOON + dt.timedelta(microseconds=1234)
    decision = plan.decide(call, None, clock=clock)
    assert (decision.at, decision.resets_at, decision.remaining) == (NOON + MS, NOON + MS, 5)
    plan = plan_of(algorithm, create=None, ttl_field=None)
    with pytest.raises(DocumentNotFound):
        plan.decide(plan.hit(plan.ask("hit", "alice", 9), token=TOKEN), None, clock=NOON)


@every_algorithm
def test_where_no_server_was_asked_nothing_was_found(algorithm: Any) -> None:
    """A `mongos` answers with no document if there is no such database: nothing counts, by this process's time."""
    plan = plan_of(algorithm)
    for now in (None, NOON - SECOND):
        seen = plan.seen(plan.ask("peek", "a", 5), [], now=now, clock=NOON)
        assert (seen.allowed, seen.remaining, seen.at) == (True, 5, now or NOON)


@every_algorithm
def test_a_document_in_hand_may_hold_naive_dates(algorithm: Any) -> None:
    """A client that leaves zones out, and one of another zone, are read alike."""
    spec = spec_of(algorithm)
    state = state_of(algorithm)
    east = dt.timezone(dt.timedelta(hours=5))
    told = []
    for zone in (None, UTC, east):
        moved = {
            name: value.astimezone(zone or UTC).replace(tzinfo=zone) if isinstance(value, dt.datetime) else value
            for name, value in state.items()
        }
        told.append(spec.read({"_id": "alice", "rate": moved}, 3))
    assert told[0] == told[1] == told[2]
    assert (bool(told[0]), told[0].remaining, told[0].at) == (False, 2, NOON)
    with pytest.raises(StateError, match=r"'rate' in the document 'alice'"):
        spec.read({"_id": "alice", "rate": {**state, "at": "2026", "end": None}}, now=NOON)
    with pytest.raises(StateError, match=r"'rate\.at' in the document 'alice'"):
        spec.read({"_id": "alice", "rate": {**state, "at": "2026"}})


numbers = st.one_of(st.integers(0, 12), st.integers(0, 10**7), st.decimals("0.01", 20, places=2))


@given(st.sampled_from(ALGORITHMS), numbers, numbers, st.integers(-90_000, 200_000), st.integers(1, 9))
def test_waiting_is_told_to_the_millisecond(algorithm: Any, n: Any, prev: Any, later: int, cost: int) -> None:
    """Of any state, limits changed or not: the cost fits after the wait, and not a millisecond earlier."""
    spec = spec_of(algorithm, 9)
    n, prev = (value if isinstance(value, int) else Decimal128(value) for value in (n, prev))
    state = state_of(algorithm)
    for name in state.keys() & {"n", "level"}:
        state[name] = n
    if "prev" in state:
        state["prev"] = prev
    document = {"_id": "alice", "rate": state}
    now = NOON + later * MS
    decision = spec.read(document, cost, now=now)
    if decision:
        assert decision.retry_after is None
        assert decision.remaining >= cost
        return
    assert decision.retry_after is not None
    then = now + round(decision.retry_after * 1000) * MS
    assert spec.read(document, cost, now=then)
    assert not spec.read(document, cost, now=then - MS)
    assert spec.read(document, 9, now=decision.resets_at)


@every_algorithm
def test_what_no_calendar_holds_is_told_as_the_last_day(algorithm: Any) -> None:
    """The largest state under the smallest rate is told, and its wait is a number of seconds."""
    spec = RateLimiterSpec("limits", Rate(Decimal("1e-16"), per=366 * 86_400), algorithm=algorithm)
    state = {"at": LAST, "end": LAST, "n": 10**7, "prev": 10**7}
    if algorithm == "fixed":
        del state["prev"]
    if algorithm == "token_bucket":
        state = {"at": LAST, "level": Int64(MAX_LEVEL), "per": 1}
    decision = spec.read({"_id": "alice", "rate": state}, Decimal("1e-16"), now=NOON)
    assert not decision
    assert decision.retry_after is not None
    assert decision.retry_after > 200 * 366 * 86_400
    assert decision.resets_at > LAST - SECOND
    with pytest.raises(LimitExceeded):
        decision.require()


@given(st.datetimes(dt.datetime(1970, 1, 1), dt.datetime(9500, 1, 1)))  # noqa: DTZ001
def test_milliseconds_and_dates_are_one(time: dt.datetime) -> None:
    """A time becomes milliseconds and a date again without a loss, down to the millisecond."""
    aware = time.replace(tzinfo=UTC)
    assert date(milliseconds(aware)) == aware - dt.timedelta(microseconds=aware.microsecond % 1000)


def test_a_level_of_another_period_is_the_same_number_of_hits() -> None:
    """Levels are rescaled upwards: a hit never counts for less than it did."""
    spec = spec_of("token_bucket", 5, per=0.007)
    reader = StateReader(spec, "limits")
    for per, level, expected in (
        (7, 14, 14),
        (60_000, 60_000, 7),
        (60_000, 60_001, 8),
        (3, 1, 3),
        (1, MAX_LEVEL, MAX_LEVEL),
    ):
        assert reader.standing("alice", {"at": NOON, "level": level, "per": per}, NOON).load == expected


@pytest.mark.parametrize(
    ("rate", "burst", "policy", "header"),
    [
        (Rate(30, per=60), 5, "10s", '"10s";q=5;w=10'),
        (Rate(30, per=60), 30, "1m", '"1m";q=30;w=60'),
        (Rate(2, per=60), 10, "5m", '"5m";q=10;w=300'),
        (Rate(7, per=60), 5, "42858ms", '"42858ms";q=5;w=43'),
    ],
)
def test_a_bucket_tells_in_which_time_its_burst_comes_again(rate: Any, burst: int, policy: str, header: str) -> None:
    """Whoever takes so much in so much time, as the header says, is admitted at the rate, and never above it."""
    spec = RateLimiterSpec("limits", rate, algorithm="token_bucket", burst=burst)
    decision = spec.read({"_id": "alice"}, now=NOON)
    assert (decision.policy, decision.limit) == (policy, burst)
    assert decision.headers()["RateLimit-Policy"] == header


@every_algorithm
def test_the_verdict_of_a_hit_is_a_rate_decision(algorithm: Any) -> None:
    """Its headers are plain text, and require() raises with the verdict on it."""
    spec = spec_of(algorithm, 2.5, per=1.5)
    decision = spec.read({"_id": "alice"}, 3, now=NOON)
    assert isinstance(decision, RateDecision)
    assert decision.headers() == {"RateLimit-Policy": '"1500ms";q=2;w=2', "RateLimit": '"1500ms";r=2;t=0'}
    with pytest.raises(LimitExceeded, match=r"at most 2\.5 in 1500ms, 2 left; it will not fit later either"):
        decision.require()
