"""Rate limiter against a plain model in memory: random rates, times, costs and calls, on the real server.

The model keeps the log of what was admitted, and works everything out from it anew for every question, with
fractions. It is written from the promises, and shares no code with the package.
"""

from __future__ import annotations

import datetime as dt
import math
import secrets
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import pytest
from bson import Decimal128, Int64, ObjectId
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from mongopatterns import Rate, RateLimiter, RateLimiterSpec, StateError

EXAMPLES = settings.default.max_examples  # many more with --hypothesis-profile=deep

UTC = dt.timezone.utc
START = dt.datetime(2026, 3, 4, 12, tzinfo=UTC)
MS = dt.timedelta(milliseconds=1)
MARGIN = 5 * 60 * 1000
LONGEST = 366 * 86_400_000

Log = list[tuple[int, Fraction]]


@dataclass
class Model:
    """What was admitted, and when, by key; times are milliseconds."""

    algorithm: str
    limit: Fraction
    per: int
    burst: Fraction
    logs: dict[str, Log] = field(default_factory=dict)

    def counts(self, key: str, now: int) -> Fraction:
        """Return how much of what was admitted still counts at a time."""
        return getattr(self, self.algorithm)(self.logs.get(key, []), now)  # type: ignore[no-any-return]

    def fits(self, key: str, cost: Fraction, now: int) -> bool:
        return self.counts(key, now) + cost <= self.burst

    def fixed(self, log: Log, now: int) -> Fraction:
        """Walk through the log: a hit after the end of the window begins another."""
        end, total = -math.inf, Fraction(0)
        for time, cost in log:
            if time >= end:
                end, total = time + self.per, Fraction(0)
            total += cost
        return total if now < end else Fraction(0)

    def sliding(self, log: Log, now: int) -> Fraction:
        """Put every hit of the log into its window; the one before the last counts by its overlap."""
        start: int | None = None  # of the window that is running
        windows: dict[int, Fraction] = {}
        for time, cost in [*log, (now, Fraction(0))]:
            if start is None or time >= start + 2 * self.per:
                start = time
            elif time >= start + self.per:
                start += self.per
            windows[start] = windows.get(start, Fraction(0)) + cost
        assert start is not None
        overlap = min(Fraction(1), Fraction(start + self.per - now, self.per))
        return windows[start] + windows.get(start - self.per, Fraction(0)) * overlap

    def token_bucket(self, log: Log, now: int) -> Fraction:
        """Let the level rise with every hit of the log, and sink with the latest time that was seen."""
        level, latest = Fraction(0), None
        for time, cost in [*log, (now, Fraction(0))]:
            if latest is not None and time > latest:
                level = max(Fraction(0), level - Fraction(time - latest, self.per) * self.limit)
            latest = time if latest is None else max(latest, time)
            level += cost
        return level


costs = st.one_of(
    st.integers(1, 9), st.sampled_from([0.1, 0.25, 2.5, 1e-9, 7.3, 40]), st.decimals("0.01", "9.99", places=2)
)
limits = st.one_of(st.integers(1, 12), st.sampled_from([0.3, 7.5, 12.1]))
keys = st.sampled_from("aaab")


class LimiterMachine(RuleBasedStateMachine):
    database: Any  # a function: Hypothesis looks for attributes, and a database has every one

    @initialize(
        algorithm=st.sampled_from(["fixed", "sliding", "token_bucket"]),
        limit=limits,
        burst=st.none() | limits,
        per=st.sampled_from([1, 7, 1000, 60_000, 61_007, 86_400_000, LONGEST]),
        path=st.sampled_from(["rate", "rates.login"]),
        expires=st.booleans(),
    )
    def define(self, *, algorithm: Any, limit: Any, burst: Any, per: int, path: str, expires: bool) -> None:
        """Draw a spec and write the same thing down for the model."""
        self.now = 0
        if algorithm != "token_bucket" or (burst and burst > 9 * limit):  # (more than ten years would be refused)
            burst = None
        spec = RateLimiterSpec(
            secrets.token_hex(6),
            Rate(limit, per=per * MS),
            algorithm=algorithm,
            burst=burst,
            path=path,
            ttl_field="expires_at" if expires else None,
        )
        self.limiter = RateLimiter(self.database(), spec)
        self.collection = self.database()[spec.collection]
        exact = Fraction(str(limit))
        self.model = Model(algorithm, exact, per, exact if burst is None else Fraction(str(burst)))
        self.per = per
        self.created: set[str] = set()

    @property
    def time(self) -> dt.datetime:
        return START + self.now * MS

    @rule(tenths=st.one_of(st.integers(1, 9), st.sampled_from([10, 15, 20, 30, 300])), more=st.integers(-1, 1))
    def time_passes(self, tenths: int, more: int) -> None:
        self.now = min(self.now + tenths * self.per // 10 + more, 400 * LONGEST)

    @rule(key=keys, tenths=st.one_of(st.integers(1, 9), st.sampled_from([10, 15, 30])), stays=st.booleans())
    def the_clock_steps_back(self, key: str, tenths: int, stays: bool) -> None:
        """Hit when the clock has stepped back, and again when it is right again, or goes on from there."""
        self.fill(key)
        right = self.now
        self.now = max(self.now - tenths * self.per // 10, -40 * LONGEST)
        self.fill(key)
        if not stays:
            self.now = right
            self.fill(key)

    @rule(key=keys, costs=st.lists(costs, min_size=1, max_size=4), more=st.sampled_from([-1, 0]))
    def time_comes_when_something_changes(self, key: str, costs: list[Any], more: int) -> None:
        """Go to the millisecond from which a cost would fit or nothing counts, or to the one before, and hit."""
        seen = self.limiter.peek(key, costs[0], now=self.time)
        then = seen.resets_at if seen.retry_after is None else self.time + dt.timedelta(seconds=seen.retry_after)
        self.now = max(self.now, (then - START) // MS + more)
        for cost in costs:
            self.hit(key, cost)
        self.fill(key)

    @rule(key=keys)
    def fill(self, key: str) -> None:
        """Take what is left, as far as whole hits go."""
        left = self.limiter.peek(key, now=self.time).remaining
        if left:
            self.hit(key, left)
        self.hit(key, 0.1)

    @rule(key=keys, cost=costs)
    def hit(self, key: str, cost: Any) -> None:
        """What fits is admitted in both, and the verdict tells how much is left."""
        asked = Fraction(str(cost))
        fits = self.model.fits(key, asked, self.now)
        decision = self.limiter.hit(key, cost, now=self.time)
        assert bool(decision) is fits
        if fits:
            self.admit(key, asked)
        self.agree(decision, key)

    @rule(key=keys, drawn=st.lists(st.tuples(costs, st.integers(1, 9)), min_size=1, max_size=6), whole=st.booleans())
    def together(self, key: str, drawn: list[tuple[Any, int]], *, whole: bool) -> None:
        """Hits that share a command are decided in their order, and each is told how it stood after itself."""
        given = [cost for cost, number in drawn for _ in range(number)]
        plan = self.limiter._plan
        asks = [plan.ask("hit", key, cost) for cost in given]
        call = (plan.group if whole else plan.together)(asks, token=ObjectId(), now=self.time)
        reply = self.limiter._write(call.command, None, None)
        if again := plan.again(call, reply):
            call, reply = again, self.limiter._write(again.command, None, None)
        verdicts = plan.decide_all(call, reply, clock=self.time)
        assert len(verdicts) == len(given)
        for cost, decision in zip(given, verdicts, strict=True):
            asked = Fraction(str(cost))
            fits = self.model.fits(key, asked, self.now)
            assert bool(decision) is fits
            if fits:
                self.admit(key, asked)
            self.agree(decision, key)

    @rule(key=keys, cost=costs)
    def peek(self, key: str, cost: Any) -> None:
        """Peek tells what both would say."""
        decision = self.limiter.peek(key, cost, now=self.time)
        assert bool(decision) is self.model.fits(key, Fraction(str(cost)), self.now)
        self.agree(decision, key)

    @rule(key=keys, cost=costs)
    def wait_as_told(self, key: str, cost: Any) -> None:
        """After retry_after seconds the refused cost fits, and a millisecond earlier it did not."""
        asked = Fraction(str(cost))
        decision = self.limiter.peek(key, cost, now=self.time)
        if decision.retry_after is None:
            assert decision or asked > self.model.burst
            return
        wait = round(decision.retry_after * 1000)
        assert self.model.fits(key, asked, self.now + wait)
        assert not self.model.fits(key, asked, self.now + wait - 1)

    @rule(key=keys)
    def reset(self, key: str) -> None:
        assert self.limiter.reset(key) is (self.model.logs.pop(key, None) is not None)

    @rule(key=keys)
    def the_server_deletes_what_has_expired(self, key: str) -> None:
        """When a document has expired, nothing that it holds counts, for any clock up to five minutes behind."""
        document = self.collection.find_one({"_id": key})
        if document is None or "expires_at" not in document:
            return
        expires_at = (document["expires_at"].replace(tzinfo=UTC) - START) // MS
        if expires_at <= self.now:
            assert self.model.counts(key, expires_at - MARGIN) == 0
            assert self.model.counts(key, self.now) == 0
            self.collection.delete_one({"_id": key})
            self.model.logs.pop(key, None)
            self.created.discard(key)

    def admit(self, key: str, cost: Fraction) -> None:
        self.model.logs.setdefault(key, []).append((self.now, cost))
        self.created.add(key)

    def agree(self, decision: Any, key: str) -> None:
        """Assert what a verdict tells besides yes or no."""
        counts = self.model.counts(key, self.now)
        assert decision.remaining == max(0, math.floor(self.model.burst - counts))
        assert decision.at == self.time
        clear = (decision.resets_at - START) // MS
        assert self.model.counts(key, clear) == 0
        assert clear == self.now or self.model.counts(key, clear - 1) > 0
        assert (clear == self.now) is (counts == 0)

    @invariant()
    def only_admitted_keys_are_stored(self) -> None:
        """No document exists but those of admitted hits, and each expires when nothing counts, or later."""
        if not hasattr(self, "collection"):
            return
        documents = list(self.collection.find())
        assert {document["_id"] for document in documents} == self.created
        for document in documents:
            assert ("expires_at" in document) is (self.limiter.spec.ttl_field is not None)
            if "expires_at" in document:
                expires_at = (document["expires_at"].replace(tzinfo=UTC) - START) // MS
                assert self.model.counts(document["_id"], expires_at - MARGIN) == 0


numbers = (
    st.integers(0, 10**7)
    | st.integers(-1, 12)
    | st.decimals("0", "9999999", places=16).map(Decimal128)
    | st.sampled_from([2.0, -1, 10**7 + 1, "5", None, True, Decimal128("NaN"), Decimal128("-0.1"), Int64(2**62)])
)
dates = st.sampled_from([START, START + 30 * 1000 * MS, START + 60 * 1000 * MS, START - 3600 * 1000 * MS, None, 5])
fields: dict[str, Any] = {
    "at": dates,
    "end": dates,
    "n": numbers,
    "prev": numbers,
    "level": numbers | st.integers(0, 10**12),
    "per": st.sampled_from([60_000, 60_000, 7, 1000, 61_007, LONGEST, LONGEST + 1, 0, 7.0, Decimal128("7.5")]),
}
states = st.fixed_dictionaries({}, optional=fields) | st.one_of(
    st.fixed_dictionaries({name: fields[name] for name in whole})
    for whole in (("at", "end", "n"), ("at", "end", "n", "prev"), ("at", "level", "per"))
)


@settings(
    max_examples=EXAMPLES * 5 // 4,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    state=states,
    algorithm=st.sampled_from(["fixed", "sliding", "token_bucket"]),
    limit=limits,
    cost=costs,
    later=st.integers(-70_000, 130_000),
)
def test_server_and_reader_agree_on_what_is_a_state(
    mongopatterns_db: Any, *, state: Any, algorithm: Any, limit: Any, cost: Any, later: int
) -> None:
    """Whatever is stored: where our reading finds a state, the server decides by the same numbers; else it refuses."""
    name = secrets.token_hex(6)
    limiter = RateLimiter(mongopatterns_db, RateLimiterSpec(name, Rate(limit, per=60), algorithm=algorithm))
    mongopatterns_db[name].insert_one({"_id": "a", "rate": state})
    before = mongopatterns_db[name].find_one()
    now = START + later * MS
    try:
        seen = limiter.spec.read(before, cost, now=now)
    except StateError:
        for call in (limiter.hit, limiter.peek):
            with pytest.raises(StateError):
                call("a", cost, now=now)
        assert mongopatterns_db[name].find_one() == before
        return
    assert limiter.peek("a", cost, now=now) == seen
    told = limiter.hit("a", cost, now=now)
    assert bool(told) is bool(seen)
    if told:
        assert (told.at, told.limit) == (seen.at, seen.limit)
        exact = Fraction(str(cost))
        assert seen.remaining - math.ceil(exact) <= told.remaining <= seen.remaining - math.floor(exact)
        assert limiter.spec.read(mongopatterns_db[name].find_one(), cost, now=now).remaining == told.remaining
    else:
        assert told == seen
        assert mongopatterns_db[name].find_one() == before
    mongopatterns_db.drop_collection(name)


def test_a_limiter_does_what_a_plain_model_does(mongopatterns_db: Any) -> None:
    """Over random rates, times, costs and calls, every verdict of every algorithm equals the model's."""
    machine = type("Machine", (LimiterMachine,), {"database": staticmethod(lambda: mongopatterns_db)})
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        machine,
        settings=settings(
            max_examples=EXAMPLES * 3 // 5,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
        ),
    )
