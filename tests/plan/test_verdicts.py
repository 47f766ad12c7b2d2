"""Verdicts: frozen dataclasses whose fields are worked out when they are read, and what is made of them."""

from __future__ import annotations

import copy
import dataclasses
import datetime as dt
import json
import pickle
import threading
import uuid
from decimal import Decimal
from typing import Any

import pytest
from bson import ObjectId

from mongopatterns import Decision, LimitExceeded, Reservation, Settlement, SettleOutcome
from mongopatterns.counters._verdicts import RateDecision
from mongopatterns.verdicts import Verdict

UTC = dt.timezone.utc
NOON = dt.datetime(2026, 3, 4, 12, 30, tzinfo=UTC)
HOUR = dt.timedelta(hours=1)

TOLD: dict[str, Any] = {
    "key": "alice",
    "amount": 2,
    "limited_by": None,
    "exceeded": (),
    "limit": {"hour": 10, "month": None},
    "used": {"hour": Decimal("2.5"), "month": 70},
    "banked": {"hour": 1, "month": 0},
    "remaining": {"hour": Decimal("8.5"), "month": None},
    "resets_at": {"hour": NOON + HOUR / 2, "month": NOON + 20 * HOUR},
    "retry_after": None,
    "at": NOON,
    "extra": 1,
    "held": 0,
    "meters": {"tokens": Decimal("0.1")},
    "dropped": {},
    "repeated": False,
}
RATE: dict[str, Any] = {
    "key": "alice",
    "cost": 1,
    "limit": 100,
    "remaining": 40,
    "resets_at": NOON + dt.timedelta(seconds=30, milliseconds=1),
    "retry_after": None,
    "at": NOON,
    "policy": "1m",
}


class Teller:
    """Tell the fields of a verdict, and count how often."""

    def __init__(self, told: dict[str, Any]) -> None:
        self.told = told
        self.times = 0

    def __call__(self) -> dict[str, Any]:
        self.times += 1
        return copy.deepcopy(self.told)


def decision(*, allowed: bool = True, **changes: Any) -> Decision:
    return Decision.told(allowed, Teller({**TOLD, **changes}))


def rate(*, allowed: bool = True, **changes: Any) -> RateDecision:
    return RateDecision.told(allowed, Teller({**RATE, **changes}))


def both() -> list[Any]:
    return [decision(), rate()]


# Worked out when read ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "told"), [(Decision, TOLD), (RateDecision, RATE)])
@pytest.mark.parametrize("allowed", [True, False])
def test_fields_are_worked_out_once_and_only_if_read(kind: Any, told: dict[str, Any], allowed: bool) -> None:
    """The verdict itself is known at once; the first other field that is read works all of them out."""
    teller = Teller(told)
    verdict = kind.told(allowed, teller)
    assert bool(verdict) is allowed
    assert verdict.allowed is allowed
    assert teller.times == 0
    for name, value in told.items():
        assert getattr(verdict, name) == value
    assert teller.times == 1
    assert verdict.resets_at is verdict.resets_at


@pytest.mark.parametrize("index", [0, 1])
def test_a_told_verdict_is_one_that_was_made_of_its_fields(index: int) -> None:
    """Lazy and plain verdicts are equal in both orders, have one hash and one text, and no field is left out."""
    lazy = both()[index]
    told = (TOLD, RATE)[index]
    plain = type(lazy)(allowed=True, **told)
    assert lazy == plain
    assert plain == both()[index]
    assert repr(both()[index]) == repr(plain)
    assert hash(both()[index]) == hash(plain)
    assert {lazy: 1}[plain] == 1
    other = type(lazy).told(False, Teller(told))
    assert lazy != other
    assert lazy != told
    assert (lazy == object()) is False


def test_verdicts_of_different_keys_differ() -> None:
    """Equality looks at every field, also at those that take no part in the hash."""
    assert decision() != decision(key="bob")
    assert decision() != decision(used={"hour": 3, "month": 70})
    assert decision() != decision(meters={})
    assert hash(decision()) == hash(decision(meters={}))
    assert decision() != rate()


@pytest.mark.parametrize("index", [0, 1])
def test_a_verdict_can_be_copied_and_pickled(index: int) -> None:
    """Copies, deep copies and pickles of every protocol are equal to the verdict, read before or not."""
    for read in (False, True):
        for make in (
            copy.copy,
            copy.deepcopy,
            *(lambda v, p=p: pickle.loads(pickle.dumps(v, p)) for p in range(pickle.HIGHEST_PROTOCOL + 1)),
        ):
            verdict = both()[index]
            if read:
                assert verdict.at == NOON
            twin = make(verdict)
            assert type(twin) is type(verdict)
            assert twin == verdict
            assert vars(twin) == vars(verdict)
            assert bool(twin)


def test_a_deep_copy_shares_nothing() -> None:
    """What is changed in the dicts of a deep copy is not changed in the verdict."""
    verdict = decision()
    twin = copy.deepcopy(verdict)
    twin.used["hour"] = 99
    assert verdict.used["hour"] == Decimal("2.5")


@pytest.mark.parametrize("index", [0, 1])
def test_the_tools_of_dataclasses_work(index: int) -> None:
    """asdict, astuple, fields and replace find every field of a verdict that nobody has read yet."""
    told = (TOLD, RATE)[index]
    assert dataclasses.asdict(both()[index]) == {**told, "allowed": True}
    names = [field.name for field in dataclasses.fields(both()[index])]
    assert set(names) == {*told, "allowed"}
    assert dataclasses.astuple(both()[index]) == tuple({**told, "allowed": True}[name] for name in names)
    changed = dataclasses.replace(both()[index], allowed=False, key="bob")
    assert (changed.allowed, changed.key) == (False, "bob")
    assert dataclasses.replace(changed, allowed=True, key="alice") == both()[index]


@pytest.mark.parametrize("index", [0, 1])
def test_a_verdict_is_frozen(index: int) -> None:
    """No field can be set or deleted, before it was read or after."""
    verdict = both()[index]
    for name in ("allowed", "key", "other"):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(verdict, name, 1)
        with pytest.raises(dataclasses.FrozenInstanceError):
            delattr(verdict, name)
    assert verdict.key == "alice"
    with pytest.raises(dataclasses.FrozenInstanceError):
        verdict.key = "bob"


def test_what_is_misspelt_is_an_attribute_error() -> None:
    """A name that a verdict does not have is an AttributeError, so that hasattr and getattr work as ever."""
    verdict: Any = decision()
    with pytest.raises(AttributeError, match=r"'Decision' has no attribute 'remaning'"):
        _ = verdict.remaning
    assert not hasattr(verdict, "__html__")
    assert getattr(verdict, "nothing", 5) == 5
    assert hasattr(verdict, "used")


def test_threads_that_read_at_once_see_one_answer() -> None:
    """However many threads are first to read, each gets every field, and none an error."""
    for _ in range(50):
        verdict = decision()
        together, problems = threading.Barrier(8), []

        def read(verdict: Any = verdict, together: Any = together, problems: list[Any] = problems) -> None:
            together.wait()
            try:
                seen = {name: getattr(verdict, name) for name in TOLD}
            except Exception as error:  # noqa: BLE001  # whatever it is, it is shown
                problems.append(error)
            else:
                problems += [seen] if seen != TOLD else []

        threads = [threading.Thread(target=read) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert problems == []
        assert "_tell" not in vars(verdict)


def test_an_error_of_the_telling_is_shown_every_time() -> None:
    """If the fields cannot be worked out, every read says why, and the verdict itself still stands."""

    def tell() -> dict[str, Any]:
        raise RuntimeError("broken")

    verdict = Decision.told(True, tell)
    for _ in range(2):
        with pytest.raises(RuntimeError, match="broken"):
            _ = verdict.used
        assert verdict


# As JSON -----------------------------------------------------------------------------------------------------


def test_to_dict_is_what_json_takes() -> None:
    """Numbers, text, lists and dicts only, with every field in it."""
    told = decision().to_dict()
    assert json.loads(json.dumps(told)) == told
    assert set(told) == {*TOLD, "allowed"}
    assert (told["used"], told["exceeded"]) == ({"hour": 2.5, "month": 70}, [])
    assert (told["at"], told["resets_at"]["hour"]) == ("2026-03-04T12:30:00+00:00", "2026-03-04T13:00:00+00:00")
    told = rate().to_dict()
    assert json.loads(json.dumps(told)) == told
    assert told == {**RATE, "allowed": True, "resets_at": "2026-03-04T12:30:30.001000+00:00", "at": NOON.isoformat()}


@pytest.mark.parametrize(
    "key",
    ["a", 7, True, 2.5, Decimal("1.5"), ObjectId(), uuid.uuid4(), b"\0", NOON, {"a": ObjectId()}],
    ids=lambda key: type(key).__name__,
)
def test_to_dict_takes_any_key(key: Any) -> None:
    """Whatever the key is, json.dumps takes it; what JSON has stays itself, and the rest is text or a number."""
    for verdict in (decision(key=key), rate(key=key)):
        told = verdict.to_dict()
        assert json.loads(json.dumps(told)) == told
        if isinstance(key, (str, int, float)):
            assert told["key"] == key


def test_reservations_and_settlements_as_json() -> None:
    """A reservation and a settlement tell all they know, the decision included."""
    held = Reservation("token", NOON, decision())
    assert json.loads(json.dumps(held.to_dict())) == {
        "token": "token",
        "expires_at": NOON.isoformat(),
        "decision": decision().to_dict(),
    }
    assert Reservation(None, None, decision(allowed=False)).to_dict()["expires_at"] is None
    settled = Settlement(SettleOutcome.LATE, Decimal("2.5"), decision())
    assert json.loads(json.dumps(settled.to_dict())) == {
        "outcome": "late",
        "reserved": 2.5,
        "decision": decision().to_dict(),
    }


def test_reservations_and_settlements_are_true_when_something_was_done() -> None:
    """A reservation is true with a token; a settlement is true unless it came to nothing; both can be pickled."""
    held, refused = Reservation("t", NOON, decision()), Reservation(None, None, decision(allowed=False))
    assert held
    assert held.require() is held
    assert not refused
    with pytest.raises(LimitExceeded) as caught:
        refused.require()
    assert caught.value.decision == refused.decision
    outcomes = {outcome: bool(Settlement(outcome, 1, decision())) for outcome in SettleOutcome}
    assert outcomes == {SettleOutcome.SETTLED: True, SettleOutcome.LATE: True, SettleOutcome.ALREADY: False}
    for value in (held, refused, Settlement(SettleOutcome.SETTLED, 1, decision())):
        assert pickle.loads(pickle.dumps(value)) == value
        assert copy.deepcopy(value) == value


def test_a_verdict_says_itself_what_makes_it_true() -> None:
    """A kind of verdict that does not say it is neither true nor false: nobody goes ahead by oversight."""

    @dataclasses.dataclass(frozen=True)
    class Silent(Verdict):
        allowed: bool = False

    with pytest.raises(NotImplementedError):
        bool(Silent())
    assert Silent().to_dict() == {"allowed": False}


# As an error -------------------------------------------------------------------------------------------------


def test_require_raises_what_was_refused() -> None:
    """require() returns an allowing verdict itself, and raises a refusing one with its numbers."""
    for verdict in both():
        assert verdict.require() is verdict
    refused = decision(allowed=False, limited_by="hour", exceeded=("hour",), retry_after=1800.0, amount=9)
    with pytest.raises(
        LimitExceeded, match=r"no room for 9 more for 'alice': the hour admits 10 and has 8\.5 left; retry"
    ) as c:
        refused.require()
    assert c.value.decision is refused
    never = decision(allowed=False, limited_by="hour", exceeded=("hour",), amount=99)
    with pytest.raises(LimitExceeded, match="will not fit later"):
        never.require()
    with pytest.raises(LimitExceeded, match="no room for 1 more for 'alice': at most 100 in 1m, 40 left; retry in 3 s"):
        rate(allowed=False, retry_after=2.6).require()


# As HTTP headers ---------------------------------------------------------------------------------------------


def test_headers_of_a_quota() -> None:
    """Each limited window is a policy; numbers are rounded down, times up; one that only meters is left out."""
    assert decision().headers() == {
        "RateLimit-Policy": '"hour";q=10;w=3600',
        "RateLimit": '"hour";r=8;t=1800',
    }


@pytest.mark.parametrize(
    ("name", "policy"),
    [
        ("hour", '"hour";q=7;w=3600'),
        ("day", '"day";q=7;w=86400'),
        ("week", '"week";q=7;w=604800'),
        ("month", '"month";q=7'),
        ("15m", '"15m";q=7;w=900'),
        ("36h", '"36h";q=7;w=129600'),
        ("90s", '"90s";q=7;w=90'),
        ("2d", '"2d";q=7;w=172800'),
        ("1500ms", '"1500ms";q=7;w=2'),
        ("500ms", '"500ms";q=7;w=1'),
    ],
)
def test_headers_name_how_long_a_window_lasts(name: str, policy: str) -> None:
    """The policy says the window's seconds where they are always the same, rounded up: no client is told too much."""
    headers = decision(
        limit={name: Decimal("7.9")}, remaining={name: Decimal("0.9")}, resets_at={name: NOON + HOUR}
    ).headers()
    assert headers == {"RateLimit-Policy": policy, "RateLimit": f'"{name}";r=0;t=3600'}


def test_headers_of_several_windows() -> None:
    """Windows are listed in the order of the spec, in both fields."""
    headers = decision(
        limit={"day": 20, "15m": 5},
        remaining={"day": 3, "15m": 5},
        resets_at={"day": NOON + 11 * HOUR, "15m": NOON + dt.timedelta(milliseconds=1)},
    ).headers()
    assert headers == {
        "RateLimit-Policy": '"day";q=20;w=86400, "15m";q=5;w=900',
        "RateLimit": '"day";r=3;t=39600, "15m";r=5;t=1',
    }


@pytest.mark.parametrize(("retry_after", "header"), [(0.001, "1"), (1.0, "1"), (1800.5, "1801"), (None, None)])
def test_retry_after_is_rounded_up(retry_after: float | None, header: str | None) -> None:
    """A client that waits as long as it is told is not refused again; without hope there is no such field."""
    for verdict in (decision(allowed=False, retry_after=retry_after), rate(allowed=False, retry_after=retry_after)):
        assert verdict.headers().get("Retry-After") == header


def test_headers_without_a_time_or_a_limit() -> None:
    """Where nobody told the time no reset is told; where nothing limits there are no fields at all."""
    assert decision(at=None).headers()["RateLimit"] == '"hour";r=8'
    assert decision(resets_at={}).headers()["RateLimit"] == '"hour";r=8'
    assert decision(resets_at={"hour": NOON - HOUR}).headers()["RateLimit"] == '"hour";r=8;t=0'
    assert decision(limit={"month": None}, remaining={"month": None}).headers() == {}


def test_headers_of_a_rate_limiter() -> None:
    """The policy is named by its period; Retry-After is there if the call was refused."""
    assert rate().headers() == {"RateLimit-Policy": '"1m";q=100;w=60', "RateLimit": '"1m";r=40;t=31'}
    assert rate(allowed=False, remaining=0, retry_after=12.3).headers() == {
        "RateLimit-Policy": '"1m";q=100;w=60',
        "RateLimit": '"1m";r=0;t=31',
        "Retry-After": "13",
    }
