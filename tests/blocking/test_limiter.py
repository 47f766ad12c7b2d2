# Generated from tests/aio/test_limiter.py by tools/generate_sync.py.
# Do not edit: change the source and run "make generate".
"""What a rate limiter promises, on a real server."""

from __future__ import annotations

import datetime as dt
import itertools
import json
import math
import pickle
import random
import uuid
from collections import Counter as Tally
from decimal import Decimal, localcontext
from typing import Any

import bson
import pytest
from bson import Decimal128, Int64, ObjectId
from bson.binary import UuidRepresentation
from bson.codec_options import CodecOptions

from mongopatterns import (
    DocumentNotFound,
    LimitExceeded,
    Rate,
    RateLimiter,
    RateLimiterSpec,
    StateError,
    UsageError,
)
from mongopatterns._driver_sync import settle
from mongopatterns.testing import race_threads

UTC = dt.timezone.utc
NOON = dt.datetime(2026, 3, 4, 12, tzinfo=UTC)
SECOND = dt.timedelta(seconds=1)
MS = dt.timedelta(milliseconds=1)
DAY = dt.timedelta(days=1)
MARGIN = dt.timedelta(minutes=5)

ALGORITHMS: Any = ["fixed", "sliding", "token_bucket"]
every_algorithm = pytest.mark.parametrize("algorithm", ALGORITHMS)

BAD_COSTS = [
    0, -1, -0.5, float("nan"), float("inf"), True, "1", None, Decimal("NaN"), 10**15 + 1, Decimal("1e-17"), [1],
]  # fmt: skip


def spec_of(algorithm: Any, limit: Any = 5, per: Any = 60, **more: Any) -> RateLimiterSpec:
    return RateLimiterSpec("limits", Rate(limit, per=per), algorithm=algorithm, **more)


def hits(limiter: Any, key: Any, costs: Any, now: dt.datetime) -> list[bool]:
    """Hit with one cost after the other."""
    return [bool(limiter.hit(key, cost, now=now)) for cost in costs]


def room(limiter: Any, key: Any, now: dt.datetime) -> int:
    """Count the hits that are admitted at a time before one is refused."""
    admitted = 0
    while limiter.hit(key, now=now):
        admitted += 1
    return admitted


# What is admitted --------------------------------------------------------------------------------------------


@every_algorithm
def test_a_limiter_admits_up_to_its_limit(db: Any, algorithm: Any) -> None:
    """Hits are admitted while there is room, and the verdict tells what is left and when there is more."""
    limiter = RateLimiter(db, spec_of(algorithm))
    first = limiter.hit("alice", now=NOON)
    assert first
    assert (first.key, first.cost, first.limit, first.remaining, first.policy) == ("alice", 1, 5, 4, "1m")
    assert (first.retry_after, first.at) == (None, NOON)
    assert first.require() is first
    assert hits(limiter, "alice", [2, 3, 2, 1], NOON) == [True, False, True, False]
    refused = limiter.hit("alice", 2, now=NOON)
    assert (refused.cost, refused.remaining) == (2, 0)
    assert refused.retry_after == {"fixed": 60, "sliding": 84, "token_bucket": 24}[algorithm]
    with pytest.raises(LimitExceeded, match="no room for 2 more for 'alice': at most 5 in 1m, 0 left") as caught:
        refused.require()
    assert caught.value.decision is refused


@every_algorithm
def test_the_servers_clock_is_the_default(db: Any, algorithm: Any) -> None:
    """Without now= the server's time counts, and it is the one that the verdict tells."""
    limiter = RateLimiter(db, spec_of(algorithm, 2, per=3600))
    decision = limiter.hit("alice")
    cursor = settle(db.limits.aggregate([{"$project": {"now": "$$NOW", "rate": 1}}]))
    (document,) = cursor.to_list(1)
    assert decision.at.replace(tzinfo=None) == document["rate"]["at"]
    assert dt.timedelta(0) <= document["now"] - document["rate"]["at"] < dt.timedelta(minutes=1)
    assert [bool(limiter.hit("alice")) for _ in range(2)] == [True, False]


def test_a_fixed_window_begins_with_a_hit(db: Any) -> None:
    """The window begins with the first hit, counts nothing of the one before, and the next hit begins another."""
    limiter = RateLimiter(db, spec_of("fixed"))
    limiter.hit("alice", 4, now=NOON + 7 * SECOND)
    late = NOON + 67 * SECOND - MS
    assert hits(limiter, "alice", [2, 1, 1], late) == [False, True, False]
    decision = limiter.hit("alice", 5, now=NOON + 90 * SECOND)
    assert decision
    assert decision.resets_at == NOON + 150 * SECOND
    assert not limiter.hit("alice", now=NOON + 150 * SECOND - MS)
    assert limiter.hit("alice", 5, now=NOON + 150 * SECOND)


def test_a_sliding_window_counts_the_last_one_by_its_overlap(db: Any) -> None:
    """What the window before admitted counts in proportion, to the millisecond, and is gone after two periods."""
    limiter = RateLimiter(db, spec_of("sliding", 10))
    assert hits(limiter, "alice", [10, 1], NOON) == [True, False]
    assert not limiter.hit("alice", now=NOON + 60 * SECOND)
    # After a tenth of the second window nine tenths of ten still count.
    assert not limiter.hit("alice", now=NOON + 66 * SECOND - MS)
    assert hits(limiter, "alice", [1, 1], NOON + 66 * SECOND) == [True, False]
    half = NOON + 90 * SECOND
    assert limiter.peek("alice", now=half).remaining == 4
    assert hits(limiter, "alice", [4, 1], half) == [True, False]
    # The third window: of the five that the second one admitted.
    decision = limiter.peek("alice", now=NOON + 120 * SECOND)
    assert (decision.remaining, decision.resets_at) == (5, NOON + 180 * SECOND)
    assert limiter.peek("alice", 10, now=NOON + 180 * SECOND - MS).remaining == 9
    assert limiter.hit("alice", 10, now=NOON + 180 * SECOND)


def test_a_bucket_gives_its_burst_and_then_the_rate(db: Any) -> None:
    """A rested bucket admits the burst at once, then one more for every part of the period that has passed."""
    limiter = RateLimiter(db, spec_of("token_bucket", 6, burst=3))
    assert room(limiter, "alice", NOON) == 3
    for tick in range(1, 5):
        assert not limiter.hit("alice", now=NOON + 10 * tick * SECOND - MS)
        assert room(limiter, "alice", NOON + 10 * tick * SECOND) == 1
    assert room(limiter, "alice", NOON + 65 * SECOND) == 2
    decision = limiter.hit("alice", 4, now=NOON + DAY)
    assert (bool(decision), decision.limit, decision.remaining, decision.retry_after) == (False, 3, 3, None)


@every_algorithm
@pytest.mark.parametrize("idle", [1, 2, 3, 10, 30])
def test_idle_time_admits_no_more_and_no_less(db: Any, algorithm: Any, idle: int) -> None:
    """After any number of idle periods a limit of 5 admits exactly 5, on a key that was full before."""
    limiter = RateLimiter(db, spec_of(algorithm))
    assert room(limiter, "alice", NOON) == 5
    # (of a full sliding window everything counts for a period more)
    periods = idle + 1 if algorithm == "sliding" else idle
    then = NOON + 60 * periods * SECOND
    assert limiter.peek("alice", now=then).remaining == 5
    assert room(limiter, "alice", then) == 5


@pytest.mark.parametrize("idle", [3, 10, 30])
def test_idle_time_fills_a_bucket_to_its_burst(db: Any, idle: int) -> None:
    """However long it rests, a bucket admits what has drained, up to its burst, above and below the rate's limit."""
    for burst in (3, 8, 40):
        limiter = RateLimiter(db, spec_of("token_bucket", 5, burst=burst))
        limiter.reset("alice")
        assert room(limiter, "alice", NOON) == burst
        assert room(limiter, "alice", NOON + 60 * idle * SECOND) == min(burst, 5 * idle)


@every_algorithm
@pytest.mark.parametrize("cost", [1, 3, 5, 0.7, 4.9])
def test_after_retry_after_it_is_admitted_and_not_a_millisecond_earlier(db: Any, algorithm: Any, cost: Any) -> None:
    """What a refusal says about waiting is exact, in windows and buckets that were filled at odd times."""
    limiter = RateLimiter(db, spec_of(algorithm, per=61.007, **({"burst": 7} if "token" in algorithm else {})))
    now = NOON
    refusals = 0
    for step in range(40):
        decision = limiter.hit(step % 2, cost, now=now)
        if not decision:
            refusals += 1
            then = now + dt.timedelta(seconds=decision.retry_after)
            assert not limiter.peek(step % 2, cost, now=then - MS)
            assert not limiter.hit(step % 2, cost, now=then - MS)
            assert limiter.peek(step % 2, cost, now=then)
            if step % 3:
                assert limiter.hit(step % 2, cost, now=then)
                now = then
        now += (4.321 if step % 7 == 0 else 0.123) * SECOND
    assert refusals >= 2


@every_algorithm
def test_what_never_fits_says_so(db: Any, algorithm: Any) -> None:
    """A cost above the limit is refused however long one waits, and retry_after is None; a cost at it fits."""
    limiter = RateLimiter(db, spec_of(algorithm))
    for cost in (5.0000000000000001, Decimal("5.0000000000000001"), 6, 10**7, 10**7 + 1, 10**15, 10**15 - 0.5):
        for key in ("fresh", "alice"):
            decision = limiter.hit(key, cost, now=NOON)
            fits = cost == 5  # (a float has no room for the last digit)
            assert (bool(decision), decision.retry_after) == (fits, None)
            assert "Retry-After" not in decision.headers()
            limiter.reset(key)
    limiter.hit("alice", now=NOON)
    refused = limiter.hit("alice", 10**15, now=NOON)
    assert (bool(refused), refused.remaining, refused.cost, refused.retry_after) == (False, 4, 10**15, None)
    with pytest.raises(LimitExceeded, match="will not fit later either"):
        refused.require()


@every_algorithm
def test_fractions_fill_a_limit_exactly(db: Any, algorithm: Any) -> None:
    """Ten times 0.1 fits a limit of 1 and an eleventh does not; 16 places count, whatever the caller's context is."""
    limiter = RateLimiter(db, spec_of(algorithm, 1, per=3600))
    assert hits(limiter, "alice", [0.1] * 11, NOON) == [True] * 10 + [False]
    with localcontext() as context:
        context.prec = 3
        fine = Decimal("0.1234567890123456")
        assert limiter.hit("bob", fine, now=NOON).remaining == 0
        assert not limiter.hit("bob", 1 - float(fine) + 1e-15, now=NOON)
        left = Decimal("0.8765432109876544")
        assert not limiter.peek("bob", Decimal("0.8765432109876545"), now=NOON)
        assert not limiter.hit("bob", Decimal("0.8765432109876545"), now=NOON)
        assert limiter.peek("bob", left, now=NOON)
        assert limiter.hit("bob", left, now=NOON)
        assert not limiter.hit("bob", Decimal("1e-16"), now=NOON)


@every_algorithm
def test_the_largest_numbers_stay_exact(db: Any, algorithm: Any) -> None:
    """The largest limit over the longest time, in whole numbers and with all decimal places, admits it and no more."""
    for limit, last in ((10**7, 1), (Decimal("9999999.9999999999999999"), Decimal("1e-16"))):
        limiter = RateLimiter(db, spec_of(algorithm, limit, per=366 * DAY))
        key = str(limit)
        assert hits(limiter, key, [limit - last, last, last], NOON) == [True, True, False]
        decision = limiter.hit(key, limit, now=NOON)
        end = NOON + dt.timedelta(seconds=decision.retry_after)
        assert end == NOON + 366 * DAY * (2 if algorithm == "sliding" else 1)
        assert not limiter.hit(key, limit, now=end - MS)
        assert limiter.hit(key, limit, now=end)


def test_a_slow_bucket_drains_to_the_millisecond(db: Any) -> None:
    """With a rate far below its burst and a fraction per year, the level is exact over thousands of hits' worth."""
    spec = RateLimiterSpec("limits", Rate(0.3, per=366 * DAY), algorithm="token_bucket", burst=2.7)
    limiter = RateLimiter(db, spec)
    assert hits(limiter, "alice", [2.7, 0.1], NOON) == [True, False]
    refused = limiter.hit("alice", 0.1, now=NOON)
    assert refused.retry_after == 122 * 86_400
    then = NOON + 122 * DAY
    assert hits(limiter, "alice", [0.1, 0.0000000001], then) == [True, False]
    assert limiter.peek("alice", now=then).resets_at == NOON + 366 * 9 * DAY + 122 * DAY


# The verdict -------------------------------------------------------------------------------------------------


@every_algorithm
def test_a_verdict_is_plain_python(db: Any, algorithm: Any) -> None:
    """to_dict() is what json.dumps takes, and a verdict survives a pickle."""
    decision = RateLimiter(db, spec_of(algorithm)).hit(ObjectId("5" * 24), 0.5, now=NOON)
    resets_at = {"fixed": "12:01:00", "sliding": "12:02:00", "token_bucket": "12:00:06"}[algorithm]
    assert json.loads(json.dumps(decision.to_dict())) == {
        "key": "5" * 24,
        "cost": 0.5,
        "allowed": True,
        "limit": 5,
        "remaining": 4,
        "resets_at": f"2026-03-04T{resets_at}+00:00",
        "retry_after": None,
        "at": "2026-03-04T12:00:00+00:00",
        "policy": "1m",
    }
    assert pickle.loads(pickle.dumps(decision)) == decision


@every_algorithm
def test_headers_tell_a_client_its_limit(db: Any, algorithm: Any) -> None:
    """The HTTP fields name the policy, its limit, what is left and the seconds; Retry-After only after a refusal."""
    limiter = RateLimiter(db, spec_of(algorithm, 5, per=90))
    seconds = {"fixed": 90, "sliding": 180, "token_bucket": 54}[algorithm]
    assert limiter.hit("alice", 2.5, now=NOON).headers() == {
        "RateLimit-Policy": '"90s";q=5;w=90',
        "RateLimit": f'"90s";r=2;t={seconds if algorithm != "token_bucket" else 45}',
    }
    refused = limiter.hit("alice", 2.7, now=NOON + 0.001 * SECOND)
    wait = {"fixed": 90, "sliding": 98, "token_bucket": 4}[algorithm]
    assert refused.headers()["Retry-After"] == str(wait) == str(math.ceil(refused.retry_after))


@every_algorithm
def test_peek_tells_what_hit_would_say_and_writes_nothing(db: Any, commands: Any, algorithm: Any) -> None:
    """Peek equals the refusal to the field, agrees with the grant, and leaves no trace."""
    limiter = RateLimiter(db, spec_of(algorithm))
    fresh = limiter.peek("alice", 6, now=NOON)
    assert fresh == limiter.hit("alice", 6, now=NOON)
    assert (fresh.remaining, fresh.resets_at) == (5, NOON)
    assert limiter.peek("alice", 5, now=NOON)
    assert db.limits.count_documents({}) == 0
    limiter.hit("alice", 4, now=NOON)
    before = db.limits.find_one()
    for seconds in (0, 1, 30, 59.999, 60, 75, 119.999):
        now = NOON + seconds * SECOND
        for cost in (1, 1.0001, 2, 5, 6):
            seen = limiter.peek("alice", cost, now=now)
            assert db.limits.find_one() == before
            told = limiter.hit("alice", cost, now=now)
            assert bool(seen) is bool(told)
            if told:
                db.limits.replace_one({"_id": "alice"}, before)
            else:
                assert seen == told
    commands.clear()
    assert limiter.peek("alice", now=NOON)
    assert commands.names == ["aggregate"]


@every_algorithm
def test_reset_forgets_what_counts_and_nothing_else(db: Any, algorithm: Any) -> None:
    """Reset gives the whole limit back, tells whether there was anything, and keeps the rest of the document."""
    db.limits.insert_one({"_id": "alice", "rates": {"other": 1}})
    limiter = RateLimiter(db, spec_of(algorithm, path="rates.login", ttl_field=None))
    assert not limiter.reset("alice")
    assert room(limiter, "alice", NOON) == 5
    assert limiter.reset("alice")
    assert db.limits.find_one() == {"_id": "alice", "rates": {"other": 1}}
    assert room(limiter, "alice", NOON) == 5
    assert not limiter.reset("nobody")
    assert db.limits.count_documents({}) == 1


@every_algorithm
def test_a_document_in_hand_is_read_without_the_server(db: Any, commands: Any, algorithm: Any) -> None:
    """spec.read tells of a document, as any client reads it, what peek tells of the stored one, and sends nothing."""
    spec = spec_of(algorithm, path="rates.login")
    limiter = RateLimiter(db, spec)
    granted = limiter.hit("alice", 4.5, now=NOON)
    aware = db.get_collection("limits", codec_options=CodecOptions(tz_aware=True))
    for document in (db.limits.find_one(), aware.find_one()):
        for seconds in (0, 45, 70, 200):
            now = NOON + seconds * SECOND
            assert spec.read(document, 5, now=now) == limiter.peek("alice", 5, now=now)
        commands.clear()
        told = spec.read(document, 4.5)
        assert commands.names == []
        assert (told.at, told.resets_at, told.remaining) == (NOON, granted.resets_at, granted.remaining)
    with pytest.raises(UsageError, match=r"^now: "):
        spec.read({"_id": "bob"})
    assert spec.read({"_id": "bob"}, now=NOON)


# Arguments ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cost", BAD_COSTS, ids=str)
def test_bad_costs_are_refused_before_anything_is_sent(db: Any, commands: Any, cost: Any) -> None:
    """A bad cost raises a UsageError that names the argument, in every call that takes one."""
    limiter = RateLimiter(db, spec_of("sliding"))
    for call in (limiter.hit, limiter.peek):
        with pytest.raises(UsageError, match=r"^cost: "):
            call("alice", cost)
    with pytest.raises(UsageError, match=r"^cost: "):
        limiter.explain("alice", cost)
    with pytest.raises(UsageError, match=r"^cost: "):
        limiter.spec.read({"_id": "alice"}, cost, now=NOON)
    assert commands.names == []


@pytest.mark.parametrize("now", [dt.datetime(2026, 3, 4), "2026-03-04", 0, dt.date(2026, 3, 4)])  # noqa: DTZ001
def test_a_naive_now_is_refused(db: Any, commands: Any, now: Any) -> None:
    """A now= that is naive or no datetime raises a UsageError, and nothing is sent."""
    limiter = RateLimiter(db, spec_of("sliding"))
    for call in (limiter.hit, limiter.peek):
        with pytest.raises(UsageError, match=r"^now: "):
            call("alice", now=now)
    with pytest.raises(UsageError, match=r"^now: "):
        limiter.spec.read({"_id": "alice"}, now=now)
    assert commands.names == []


@pytest.mark.parametrize("combine", [False, True])
@pytest.mark.parametrize("key", [None, ["a"], float("nan"), bson.Regex("a"), 2**64])
def test_what_cannot_be_a_key_is_refused(db: Any, commands: Any, key: Any, combine: bool) -> None:
    """None, lists, patterns, NaN raise a UsageError that names the key, and nothing is sent."""
    limiter = RateLimiter(db, spec_of("sliding"), combine=combine)
    for call in (limiter.hit, limiter.peek, limiter.reset):
        with pytest.raises(UsageError, match=r"^key: "):
            call(key)
    assert commands.names == []


@pytest.mark.parametrize("combine", [False, True])
@pytest.mark.parametrize("timeout", [0, -1, "1", True])
def test_a_bad_timeout_is_refused(db: Any, commands: Any, timeout: Any, combine: bool) -> None:
    """A timeout that is no number of seconds raises a UsageError, and nothing is sent."""
    limiter = RateLimiter(db, spec_of("sliding"), combine=combine)
    for call in (limiter.hit, limiter.peek, limiter.reset):
        with pytest.raises(UsageError, match=r"^timeout: "):
            call("alice", timeout=timeout)
    assert commands.names == []


@every_algorithm
@pytest.mark.parametrize("key", ["$name", "a.b", "$$NOW", "", 7, b"\0", {"u": "$y", "d": 1}, ObjectId()])
def test_any_value_is_a_key_and_nothing_but_itself(db: Any, key: Any, algorithm: Any) -> None:
    """Text that looks like an operator or a path, numbers, bytes and documents are stored as themselves."""
    limiter = RateLimiter(db, spec_of(algorithm, 1, create={"x": "$$ROOT"}))
    assert limiter.hit(key, now=NOON)
    assert not limiter.hit(key, now=NOON)
    assert not limiter.peek(key, now=NOON)
    documents = db.limits.find({}).to_list(None)
    assert [(document["_id"], document["x"]) for document in documents] == [(key, "$$ROOT")]
    assert limiter.reset(key)


def test_ids_may_be_given_as_text(db: Any) -> None:
    """With key_type=ObjectId an id and its text are one key."""
    limiter = RateLimiter(db, spec_of("sliding", 1, key_type=ObjectId))
    key = ObjectId()
    assert limiter.hit(str(key), now=NOON)
    assert not limiter.hit(key, now=NOON)
    with pytest.raises(UsageError, match=r"^key: "):
        limiter.hit("alice", now=NOON)


@every_algorithm
def test_create_gives_a_new_document_its_fields(db: Any, algorithm: Any) -> None:
    """The fields of create= are stored with the first hit of a key, and never with a refused one or in a known one."""
    owner = uuid.uuid4()
    mine = db.get_collection("limits", codec_options=CodecOptions(uuid_representation=UuidRepresentation.STANDARD))
    limiter = RateLimiter(mine, spec_of(algorithm, path="rates.login", create={"rates": {"v": 1}, "o": owner}))
    assert not limiter.hit("alice", 6, now=NOON)
    assert db.limits.count_documents({}) == 0
    assert limiter.hit("alice", 5, now=NOON)
    document = mine.find_one({"o": owner})
    assert (document["_id"], document["rates"]["v"]) == ("alice", 1)
    assert set(document["rates"]["login"]) >= {"at", "by"}
    db.limits.insert_one({"_id": "bob", "name": "Bob"})
    assert limiter.hit("bob", 5, now=NOON)
    assert "o" not in db.limits.find_one({"_id": "bob"})


def test_create_none_never_makes_a_document(db: Any, commands: Any) -> None:
    """With create=None an unknown key is an error in one command, and stays unknown."""
    limiter = RateLimiter(db, spec_of("sliding", create=None, ttl_field=None))
    for call in (limiter.hit, limiter.peek):
        commands.clear()
        with pytest.raises(DocumentNotFound, match="'ghost'"):
            call("ghost")
        assert len(commands.names) == 1
    assert db.limits.count_documents({}) == 0
    db.limits.insert_one({"_id": "alice"})
    assert limiter.hit("alice")


# The clock ---------------------------------------------------------------------------------------------------


def test_a_clock_that_steps_back_opens_no_window_again(db: Any) -> None:
    """A fixed window keeps its end, and what is told to wait includes the step back."""
    limiter = RateLimiter(db, spec_of("fixed"))
    limiter.hit("alice", 5, now=NOON)
    refused = limiter.hit("alice", now=NOON - 60 * SECOND)
    assert (bool(refused), refused.retry_after, refused.resets_at) == (False, 120, NOON + 60 * SECOND)
    assert limiter.hit("alice", 5, now=NOON + 60 * SECOND)


def test_a_clock_that_steps_back_counts_the_last_window_once(db: Any) -> None:
    """In a sliding limiter the last window counts in full at most, however far the clock steps back."""
    limiter = RateLimiter(db, spec_of("sliding", 10))
    limiter.hit("alice", 4, now=NOON)
    limiter.hit("alice", 3, now=NOON + 90 * SECOND)
    back = limiter.peek("alice", now=NOON - 3600 * SECOND)
    assert back.remaining == 3
    assert hits(limiter, "alice", [4, 3, 1], NOON - 3600 * SECOND) == [False, True, False]
    refused = limiter.hit("alice", 2, now=NOON - 3600 * SECOND)
    assert refused.retry_after == 3690
    assert not limiter.hit("alice", 2, now=NOON + 90 * SECOND - MS)
    assert limiter.hit("alice", 2, now=NOON + 90 * SECOND)


def test_a_clock_that_steps_back_drains_nothing_twice(db: Any) -> None:
    """A bucket drains from the latest time that it was drained to."""
    limiter = RateLimiter(db, spec_of("token_bucket", 60))
    assert room(limiter, "alice", NOON) == 60
    assert hits(limiter, "alice", [10, 1], NOON + 10 * SECOND) == [True, False]
    refused = limiter.hit("alice", now=NOON - 50 * SECOND)
    assert refused.retry_after == 61
    assert not limiter.hit("alice", now=NOON + 10 * SECOND)
    assert hits(limiter, "alice", [1, 1], NOON + 11 * SECOND) == [True, False]
    limiter.reset("alice")
    limiter.hit("alice", 30, now=NOON)
    limiter.hit("alice", 30, now=NOON - 30 * SECOND)  # must not count as if time had begun anew
    assert not limiter.hit("alice", now=NOON)
    assert room(limiter, "alice", NOON + SECOND) == 1


# The end of a document ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("algorithm", "seconds"), [("fixed", [60, 60, 60]), ("sliding", [120, 120, 120]), ("token_bucket", [12, 36, 36])]
)
def test_expires_at_is_when_nothing_counts_and_five_minutes(db: Any, algorithm: Any, seconds: list[int]) -> None:
    """Every admitted hit stores when the server may delete the document, as a date; a refused one moves nothing."""
    limiter = RateLimiter(db, spec_of(algorithm))
    for cost, after in zip((1, 2, 3), seconds, strict=True):
        decision = limiter.hit("alice", cost, now=NOON)
        assert decision.resets_at == NOON + after * SECOND
        assert db.limits.find_one()["expires_at"] == (NOON + after * SECOND + MARGIN).replace(tzinfo=None)


def test_the_indexes_of_a_spec_delete_what_has_expired(db: Any) -> None:
    """indexes() names the unique key and the TTL index, as the server understands it."""
    spec = spec_of("sliding", key_field="user.id")
    for index in spec.indexes():
        db.limits.create_index(index.keys, **index.options)
    options = db.limits.index_information().values()
    assert [dict(index["key"]) for index in options] == [{"_id": 1}, {"user.id": 1}, {"expires_at": 1}]
    assert [index.get("expireAfterSeconds") for index in options] == [None, None, 0]
    assert [index.get("unique") for index in options] == [None, True, None]
    assert [index.keys for index in spec_of("sliding").indexes()] == [(("expires_at", 1),)]
    assert spec_of("sliding", ttl_field=None).indexes() == ()


@every_algorithm
def test_a_document_that_is_deleted_when_it_expires_changes_no_verdict(db: Any, algorithm: Any) -> None:
    """At the stored time, and for the five minutes before, a document means exactly what none does."""
    limiter = RateLimiter(db, spec_of(algorithm, 7, per=33.333))
    chance = random.Random(1)
    for key in range(10):
        now = NOON
        for _ in range(chance.randint(1, 6)):
            limiter.hit(key, chance.randint(1, 7), now=now)
            now += chance.random() * 20 * SECOND
        expires_at = db.limits.find_one({"_id": key})["expires_at"].replace(tzinfo=UTC)
        for cost in (1, 7, 8):
            for early in (MARGIN, MARGIN / 2, 0 * SECOND):
                told = limiter.peek(key, cost, now=expires_at - early).to_dict()
                none = limiter.peek("none", cost, now=expires_at - early).to_dict()
                assert {**told, "key": "none"} == none
        assert not limiter.peek(key, 7, now=expires_at - MARGIN - MS)


def test_several_limiters_share_a_document_and_the_longest_keeps_it(db: Any) -> None:
    """Limiters with different paths count apart in one document, and it expires when none of them counts."""
    minute = RateLimiter(db, spec_of("fixed", 5, path="rates.minute"))
    day = RateLimiter(db, spec_of("sliding", 3, per=DAY, path="rates.day"))
    burst = RateLimiter(db, spec_of("token_bucket", 2, per=1, path="burst"))
    for order in ((minute, day, burst), (burst, day, minute), (day, minute, burst)):
        db.limits.delete_many({})
        assert all(limiter.hit("alice", 2, now=NOON) for limiter in order)
        (document,) = db.limits.find({}).to_list(None)
        assert document["expires_at"] == (NOON + 2 * DAY + MARGIN).replace(tzinfo=None)
        assert [limiter.peek("alice", now=NOON).remaining for limiter in (minute, day, burst)] == [3, 1, 0]
        assert not burst.hit("alice", now=NOON)
        assert minute.hit("alice", 3, now=NOON)
        assert set(document) == {"_id", "rates", "burst", "expires_at"}
        assert day.reset("alice")
        assert not minute.hit("alice", now=NOON)


def test_a_state_in_a_document_of_yours_never_makes_it_expire(db: Any) -> None:
    """With ttl_field=None the state stands beside the caller's fields, and nothing else is written."""
    db.users.create_index("user_id", unique=True)
    mine = {"_id": 1, "user_id": "alice", "expires_at": "never", "name": "$name", "rates": {"other": [1]}}
    db.users.insert_one(mine)
    rate = Rate(5, per=60)
    spec = RateLimiterSpec("users", rate, path="rates.login", key_field="user_id", ttl_field=None, create=None)
    limiter = RateLimiter(db, spec)
    assert hits(limiter, "alice", [3, 2, 1], NOON) == [True, True, False]
    document = db.users.find_one()
    state = document["rates"].pop("login")
    assert document == mine
    assert state == {
        "at": NOON.replace(tzinfo=None),
        "by": state["by"],
        "end": (NOON + 60 * SECOND).replace(tzinfo=None),
        "n": 5,
        "prev": 0,
    }


def test_a_later_date_in_the_ttl_field_stays(db: Any) -> None:
    """A document that is to live longer than the limiter needs it is not shortened; null and earlier dates are set."""
    limiter = RateLimiter(db, spec_of("fixed"))
    later = (NOON + DAY).replace(tzinfo=None)
    soon = (NOON + 60 * SECOND + MARGIN).replace(tzinfo=None)
    for stored, expected in ((later, later), (None, soon), (NOON, soon)):
        db.limits.replace_one({"_id": "alice"}, {"_id": "alice", "expires_at": stored}, upsert=True)
        assert limiter.hit("alice", now=NOON)
        assert db.limits.find_one()["expires_at"] == expected


@every_algorithm
@pytest.mark.parametrize("stored", ["never", 7, [NOON], {"at": NOON}, True, bson.MinKey(), bson.Timestamp(1, 1)])
def test_a_ttl_field_that_holds_no_date_is_an_error_and_stays(db: Any, stored: Any, algorithm: Any) -> None:
    """Whatever else stands in the ttl_field is somebody's: every call names it, and nothing changes."""
    db.limits.insert_one({"_id": "alice", "expires_at": stored})
    before = db.limits.find_one()
    limiter = RateLimiter(db, spec_of(algorithm))
    for call in (limiter.hit, limiter.peek):
        for cost in (1, 6):
            with pytest.raises(StateError, match="'expires_at' in the document 'alice' of 'limits': expected a date"):
                call("alice", cost, now=NOON)
    assert db.limits.find_one() == before


# What is stored already --------------------------------------------------------------------------------------

WRONG_STATES = [
    "text",
    7,
    [1],
    [{}],
    True,
    {"x": 1},
    {"by": ObjectId()},
    {"end": NOON},
    {"n": 1},
    {"end": "2026", "n": 1, "prev": 1},
    {"end": None, "n": 1, "prev": 1},
    {"end": bson.Timestamp(1, 1), "n": 1, "prev": 1},
    {"end": bson.MinKey(), "n": 1, "prev": 1},
    {"end": dt.datetime(1969, 12, 31, tzinfo=UTC), "n": 1, "prev": 1},
    {"end": bson.DatetimeMS(250_000_000_000_000), "n": 1, "prev": 1},
    {"hour": {"end": NOON, "used": 3}},
    {"at": NOON, "level": "5", "per": 60000},
    {"at": NOON, "level": 5},
    {"at": "2026", "level": 5, "per": 60000},
    {"level": 5, "per": 60000},
    {"at": NOON, "level": 5, "per": 0},
    {"at": NOON, "level": 5, "per": -60000},
    {"at": NOON, "level": 5, "per": 60000.0},
    {"at": NOON, "level": 5, "per": 10**12},
]
WRONG_NUMBERS = [
    "3", -1, 3.0, 0.5, float("nan"), float("inf"), Decimal128("NaN"), Decimal128("-1"), NOON, True, None, [3], {},
    Int64(2**62), Decimal128("1E+6000"), bson.MinKey(), bson.MaxKey(),
]  # fmt: skip


@every_algorithm
@pytest.mark.parametrize("seconds", [-30, 90])
def test_a_state_of_another_shape_is_an_error_and_stays(db: Any, algorithm: Any, seconds: int) -> None:
    """A state that the algorithm does not describe raises a StateError that names it; nothing changes."""
    whole: dict[str, Any] = {"at": NOON, "level": 5, "per": 60000}
    if algorithm != "token_bucket":
        whole = {"at": NOON, "end": NOON + 60 * SECOND, "n": 1, **({"prev": 1} if algorithm == "sliding" else {})}
    counted = [name for name in whole if name not in ("at", "end")]
    wrong = WRONG_STATES + [{**whole, name: number} for name in counted for number in WRONG_NUMBERS]
    db.limits.insert_many([{"_id": index, "rate": state} for index, state in enumerate(wrong)])
    before = db.limits.find({}).sort("_id").to_list(None)
    limiter = RateLimiter(db, spec_of(algorithm))
    now = NOON + seconds * SECOND
    for index in range(len(wrong)):
        for call in (limiter.hit, limiter.peek):
            with pytest.raises(StateError, match=f"'rate' in the document {index} of 'limits': expected"):
                call(index, now=now)
        ask = limiter._plan.ask("hit", index, 1)
        with pytest.raises(StateError, match=f"'rate' in the document {index} of 'limits': expected"):
            limiter._together([ask, ask], None)
        with pytest.raises(StateError, match="'rate' in the document"):
            limiter.spec.read({"_id": index, "rate": wrong[index]}, now=now)
    assert str(db.limits.find({}).sort("_id").to_list(None)) == str(before)
    assert limiter.reset(0)
    assert limiter.hit(0, 5, now=now)


@pytest.mark.parametrize(("algorithm", "other"), list(itertools.permutations(ALGORITHMS, 2)))
def test_the_state_of_another_algorithm_is_named(db: Any, algorithm: Any, other: Any) -> None:
    """A path that holds the state of another algorithm says so, stays as it is, and is free after a reset."""
    RateLimiter(db, spec_of(other)).hit("alice", now=NOON)
    before = db.limits.find_one()
    limiter = RateLimiter(db, spec_of(algorithm))
    problem = f"expected the state of a rate limiter of the algorithm '{algorithm}', found one of '{other}'"
    for call in (limiter.hit, limiter.peek):
        with pytest.raises(StateError, match=problem):
            call("alice", now=NOON)
    assert db.limits.find_one() == before
    limiter.reset("alice")
    assert limiter.hit("alice", now=NOON)


@pytest.mark.parametrize("parent", ["text", 7, [], [{"login": None}], True])
def test_a_parent_of_another_type_is_an_error_and_stays(db: Any, parent: Any) -> None:
    """A value on the way to the state that is no document is named, and stays."""
    db.limits.insert_one({"_id": "alice", "rates": parent})
    limiter = RateLimiter(db, spec_of("sliding", path="rates.login"))
    for call in (limiter.hit, limiter.peek):
        with pytest.raises(StateError, match="'rates' in the document 'alice'"):
            call("alice", now=NOON)
    with pytest.raises(StateError, match="'rates' in the document 'alice'"):
        limiter.spec.read({"_id": "alice", "rates": parent}, now=NOON)
    assert db.limits.find_one()["rates"] == parent


@every_algorithm
@pytest.mark.parametrize("document", [{"rates": None}, {"rates": {}}, {"rates": {"x": None}}, {"rates": {"x": {}}}])
def test_a_null_state_is_an_untouched_one(db: Any, document: Any, algorithm: Any) -> None:
    """Null and empty documents on the path count as a limit that nobody has touched."""
    db.limits.insert_one({"_id": "alice", **document})
    limiter = RateLimiter(db, spec_of(algorithm, path="rates.x"))
    assert limiter.peek("alice", now=NOON).remaining == 5
    assert hits(limiter, "alice", [6, 5, 1], NOON) == [False, True, False]


@every_algorithm
def test_a_changed_limit_counts_at_once(db: Any, algorithm: Any) -> None:
    """What was admitted under another limit counts as it is: more room under a higher one, none under a lower one."""
    for name, limit, left in (("up", 8, 3), ("down", 3, 0)):
        assert room(RateLimiter(db, spec_of(algorithm, 5)), name, NOON) == 5
        limiter = RateLimiter(db, spec_of(algorithm, limit))
        decision = limiter.peek(name, limit, now=NOON)
        assert (decision.remaining, decision.limit) == (left, limit)
        assert room(limiter, name, NOON) == left
        decision = limiter.hit(name, limit, now=NOON)
        then = NOON + dt.timedelta(seconds=decision.retry_after)
        assert not limiter.hit(name, limit, now=then - MS)
        assert limiter.hit(name, limit, now=then)


@pytest.mark.parametrize("algorithm", ["fixed", "sliding"])
def test_a_window_keeps_its_end_when_the_period_changes(db: Any, algorithm: Any) -> None:
    """A window that runs ends when it was to end; the next one has the new length."""
    for before, after in ((60, 10), (10, 60)):
        RateLimiter(db, spec_of(algorithm, 5, per=before)).hit(before, 5, now=NOON)
        limiter = RateLimiter(db, spec_of(algorithm, 5, per=after))
        end = NOON + before * SECOND
        assert not limiter.hit(before, now=end - MS)
        gone = end + (after if algorithm == "sliding" else 0) * SECOND
        assert limiter.peek(before, now=end - MS).resets_at == gone
        decision = limiter.hit(before, 5, now=gone)
        assert decision
        assert db.limits.find_one({"_id": before})["rate"]["end"] == (gone + after * SECOND).replace(tzinfo=None)


@pytest.mark.parametrize(("before", "after"), [(60, 10), (10, 60), (1, 366 * 86_400), (0.007, 0.003)])
def test_a_level_is_the_same_number_of_hits_in_another_period(db: Any, before: Any, after: Any) -> None:
    """When the period of a bucket changes, as many hits as before still count, and drain at the new rate."""
    RateLimiter(db, spec_of("token_bucket", 5, per=before)).hit("alice", 4, now=NOON)
    limiter = RateLimiter(db, spec_of("token_bucket", 5, per=after))
    refused = limiter.hit("alice", 2, now=NOON)
    assert (bool(refused), refused.remaining) == (False, 1)
    assert refused.retry_after == math.ceil(after * 1000 / 5) / 1000
    assert limiter.hit("alice", now=NOON)
    assert limiter.peek("alice", now=NOON).remaining == 0


# What is sent ------------------------------------------------------------------------------------------------


@every_algorithm
def test_one_command_a_call_with_a_comment(db: Any, commands: Any, algorithm: Any) -> None:
    """Each call is one command, admitted, refused or on a key without a document; its comment names it."""
    limiter = RateLimiter(db, spec_of(algorithm))
    limiter.hit("fresh", 6)
    limiter.hit("alice", 5)
    limiter.hit("alice", 5)
    limiter.peek("alice")
    limiter.peek("ghost")
    limiter.reset("alice")
    assert commands.names == ["findAndModify"] * 3 + ["aggregate"] * 2 + ["update"]
    assert commands.comments == {f"mongopatterns.rate_limiter.{call}" for call in ("hit", "peek", "reset")}


def test_the_filter_is_the_key_alone(db: Any, commands: Any) -> None:
    """The write's filter is one equality on exactly the key field, which is what the server's upsert retry needs."""
    RateLimiter(db, spec_of("sliding")).hit("alice")
    ((_, command),) = commands.sent
    assert command["query"] == {"_id": "alice"}
    assert command["upsert"] is True
    assert command["writeConcern"] == {"w": "majority"}


def test_a_large_document_does_not_travel(db: Any, commands: Any) -> None:
    """Replies hold the state, and neither the megabyte beside it nor one where the time of deletion belongs."""
    db.limits.insert_many([{"_id": "big", "blob": "x" * 1_000_000}, {"_id": "bad", "expires_at": "x" * 10**6}])
    limiter = RateLimiter(db, spec_of("sliding"))
    commands.clear()
    for call in (limiter.hit, limiter.peek):
        call("big", 5)
        call("big", 5)
        with pytest.raises(StateError):
            call("bad")
    assert max(commands.reply_bytes) < 1000


@every_algorithm
def test_a_refused_hit_leaves_no_trace_in_the_oplog(client: Any, db: Any, algorithm: Any) -> None:
    """A refusal logs nothing: on a used-up state, on a fresh key, on a document without the path, alone and grouped."""
    limiter = RateLimiter(db, spec_of(algorithm, path="rates.login", per=3600))
    limiter.hit("used", 5)
    db.limits.insert_many([{"_id": "bare"}, {"_id": "parent", "rates": {}}, {"_id": "other", "x": 1}])
    oplog = client.local["oplog.rs"]
    mine = {"ns": f"{db.name}.limits"}
    before = oplog.count_documents(mine)
    assert before >= 2
    documents = db.limits.find({}).sort("_id").to_list(None)
    for key in ("used", "bare", "parent", "other", "fresh"):
        assert not limiter.hit(key, 6)
        assert not limiter.hit(key, 6, now=NOON)
        ask = limiter._plan.ask("hit", key, 6)
        assert list(map(bool, limiter._together([ask, ask], None))) == [False, False]
    assert not limiter.hit("used")
    assert db.limits.find({}).sort("_id").to_list(None) == documents
    assert oplog.count_documents(mine) == before
    assert limiter.hit("bare")
    assert oplog.count_documents(mine) == before + 1


def test_explain_shows_what_is_sent(db: Any, commands: Any) -> None:
    """explain() prints the command that hit sends, and sends nothing."""
    limiter = RateLimiter(db, spec_of("sliding"))
    shown = limiter.explain("alice", 5)
    assert commands.names == []
    limiter.hit("alice", 5)
    ((_, sent),) = commands.sent
    assert shown["filter"] == sent["query"]
    assert bson.encode({"": shown["update"]}) == bson.encode({"": sent["update"]})
    assert bson.encode(shown["projection"]) == bson.encode(sent["fields"])
    assert shown["let"]["now"] == sent["let"]["now"] == "$$NOW"
    assert shown["let"]["cost"] == sent["let"]["cost"] == 5


# Races, retries, transactions --------------------------------------------------------------------------------


@every_algorithm
@pytest.mark.parametrize("combine", [False, True])
@pytest.mark.parametrize("fresh", [True, False])
@pytest.mark.parametrize("limit", [40, 500])
def test_exactly_as_many_as_fit_are_admitted(db: Any, algorithm: Any, combine: bool, fresh: bool, limit: int) -> None:
    """Of N callers at once exactly min(N, limit) get in, on a fresh key too; what was admitted is what counts."""
    if not fresh:
        db.limits.insert_one({"_id": "alice", "name": "Alice"})
    with RateLimiter(db, spec_of(algorithm, limit, per=30 * DAY), combine=combine) as limiter:
        report = race_threads(lambda _: limiter.hit("alice"), times=200, concurrency=50)
        assert report.errors == []
        assert report.count(bool) == min(200, limit)
        told = [decision.remaining for decision in report.outcomes if decision]
        if algorithm == "token_bucket":  # (a hit drains out in 1.4 hours or more)
            assert sorted(told, reverse=True) == [limit - 1 - index for index in range(min(200, limit))]
        assert limiter.peek("alice").remaining == max(0, limit - 200)


@every_algorithm
@pytest.mark.parametrize("combine", [False, True])
@pytest.mark.parametrize(("key_field", "limit"), [("_id", 10), ("user_id", 4)])
def test_many_fresh_keys_at_once_refuse_nobody(
    db: Any, algorithm: Any, combine: bool, key_field: str, limit: int
) -> None:
    """Racing first hits on many new keys, by _id and by a unique field, meet no duplicate key and no false refusal."""
    if key_field != "_id":
        db.limits.create_index(key_field, unique=True)
    limiter = RateLimiter(db, spec_of(algorithm, limit, per=DAY, key_field=key_field), combine=combine)
    report = race_threads(lambda index: limiter.hit(f"key {index % 40}"), times=240, concurrency=60)
    assert report.errors == []
    assert Tally(decision.key for decision in report.outcomes if decision) == {
        f"key {index}": min(6, limit) for index in range(40)
    }


@every_algorithm
@pytest.mark.parametrize("combine", [False, True])
def test_mixed_costs_race_to_the_last_unit(db: Any, algorithm: Any, combine: bool) -> None:
    """With costs of 1, 2.5 and 7 nothing past the limit is admitted, and nobody is refused who had room."""
    limiter = RateLimiter(db, spec_of(algorithm, 150, per=30 * DAY), combine=combine)
    costs = [1, 2.5, 7, 1, 1, 200]
    report = race_threads(lambda index: limiter.hit("alice", costs[index % 6]), times=240, concurrency=48)
    assert report.errors == []
    taken = sum(Decimal(decision.cost) for decision in report.outcomes if decision)
    left = 150 - taken
    assert 0 <= left < 1  # (the 120 hits of 1 fill what the others leave)
    for decision in report.outcomes:
        if not decision:
            assert decision.cost > decision.remaining
            assert (decision.retry_after is None) is (decision.cost == 200)


@every_algorithm
def test_a_lost_reply_counts_once_and_keeps_its_verdict(db: Any, mongopatterns_server: Any, algorithm: Any) -> None:
    """When the reply is lost after the write, the driver's retry is told the grant, and nothing counts twice."""
    db.limits.insert_one({"_id": "alice", "_mongopatterns": {"x": 1}, "name": "a field of the reply's own name"})
    limiter = RateLimiter(db, spec_of(algorithm))
    limiter.hit("alice", 2, now=NOON)
    for key, left in (("alice", 0), ("fresh", 2)):
        with mongopatterns_server.fail_point(
            "onPrimaryTransactionalWrite", mode={"times": 1}, data={"closeConnection": True}
        ):
            decision = limiter.hit(key, 3, now=NOON)
        assert decision
        assert (decision.remaining, decision.at, decision.retry_after) == (left, NOON, None)
        seen = limiter.peek(key, now=NOON)
        assert (seen.remaining, seen.resets_at) == (left, decision.resets_at)


@every_algorithm
def test_a_lost_reply_of_a_group_tells_everybody_the_truth(db: Any, mongopatterns_server: Any, algorithm: Any) -> None:
    """When the reply of a group is lost after the write, each member gets its own verdict, and nothing counts twice."""
    limiter = RateLimiter(db, spec_of(algorithm, 6, per=30 * DAY))
    for key in ("alice", "fresh"):
        if key == "alice":
            limiter.hit(key)
        asks = [limiter._plan.ask("hit", key, cost) for cost in (1, 1, 9, 2, 2, 1)]
        with mongopatterns_server.fail_point(
            "onPrimaryTransactionalWrite", mode={"times": 1}, data={"closeConnection": True}
        ):
            told = limiter._together(asks, None)
        left, admitted = (5, [1, 1, 0, 1, 0, 1]) if key == "alice" else (6, [1, 1, 0, 1, 1, 0])
        assert [bool(decision) for decision in told] == list(map(bool, admitted))
        for decision, fits in zip(told, admitted, strict=True):
            left -= decision.cost * fits
            assert decision.remaining == left
        assert limiter.peek(key).remaining == left == 0


def test_a_hit_takes_part_in_a_transaction(client: Any, db: Any) -> None:
    """With session= an aborted transaction takes the hit with it, also where hits share round trips."""
    limiter = RateLimiter(db, spec_of("sliding"), combine=True)
    limiter.hit("alice", 1, now=NOON)
    with settle(client.start_session()) as session:
        settle(session.start_transaction())
        assert limiter.hit("alice", 4, session=session, now=NOON)
        assert not limiter.peek("alice", session=session, now=NOON)
        assert limiter.reset("alice", session=session)
        session.abort_transaction()
    assert limiter.peek("alice", now=NOON).remaining == 4


# Sharing round trips -----------------------------------------------------------------------------------------


@every_algorithm
def test_those_who_share_are_far_fewer_commands(db: Any, commands: Any, algorithm: Any) -> None:
    """Callers on one key at the same time share round trips, and every verdict is its caller's own."""
    limiter = RateLimiter(db, spec_of(algorithm, 300, per=30 * DAY), combine=True)
    report = race_threads(lambda _: limiter.hit("alice"), times=400, concurrency=50)
    assert report.errors == []
    assert report.count(bool) == 300
    assert commands.names.count("findAndModify") < 200
    assert commands.comments == {f"mongopatterns.rate_limiter.{call}" for call in ("hit", "together")}
    assert len({decision.remaining for decision in report.outcomes if decision}) == 300
    refused = [decision for decision in report.outcomes if not decision]
    assert {(decision.remaining, decision.retry_after is None) for decision in refused} == {(0, False)}
    limiter.close()
    with pytest.raises(UsageError, match="rate limiter: is closed"):
        limiter.hit("alice")
    assert not limiter.hit("alice", now=NOON)


@every_algorithm
@pytest.mark.parametrize("seed", range(2))
def test_a_group_is_decided_as_its_hits_would_be_one_by_one(db: Any, algorithm: Any, seed: int) -> None:
    """Each member of a random group is told, to the field, what the same hit is told when all go one by one."""
    chance = random.Random(seed)
    limit = chance.choice([1, 5, 7.5, 40, 1000])
    limiter = RateLimiter(db, spec_of(algorithm, limit, per=chance.choice([0.007, 3, 60, 86_400])))
    period = limiter.spec.rate.milliseconds * MS
    for number in range(12):
        one, other = f"{number} one by one", f"{number} together"
        now = NOON
        for _ in range(3):
            now += chance.choice([0, 0.3, 0.999, 1, 1.5, 2, 9, -0.4]) * period
            costs: list[Any] = []
            for _ in range(chance.randint(1, 9)):
                costs += [chance.choice([1, 2, 0.5, 7, Decimal("0.1"), 1e-16, 40, 10**9])] * chance.choice([1, 1, 3, 9])
            expected = [limiter.hit(one, cost, now=now) for cost in costs]
            call = limiter._plan.together(
                [limiter._plan.ask("hit", other, cost) for cost in costs], token=ObjectId(), now=now
            )
            reply = limiter._write(call.command, None, None)
            told = limiter._plan.decide_all(call, reply, clock=now)
            assert [{**verdict.to_dict(), "key": one} for verdict in told] == [
                verdict.to_dict() for verdict in expected
            ]
            states = [db.limits.find_one({"_id": key}, {"_id": 0}) for key in (one, other)]
            if states[0] is not None:
                for state in states:
                    state["rate"] = {
                        name: value.to_decimal() if isinstance(value, Decimal128) else value
                        for name, value in state["rate"].items()
                        if name not in ("at", "by", "note")
                    }
            assert states[0] == states[1]


def test_a_quotient_that_rounds_up_admits_nobody(db: Any) -> None:
    """Where room for eleven is short of the last decimal place, a group has ten admitted, as one by one."""
    limiter = RateLimiter(db, spec_of("sliding", 9_999_990, per=366 * DAY))
    state = {"at": NOON, "end": NOON + MS, "n": 0, "prev": Decimal128("1E-16")}
    db.limits.insert_many([{"_id": key, "rate": state} for key in ("one by one", "together")])
    assert hits(limiter, "one by one", [909_090] * 11, NOON) == [True] * 10 + [False]
    asks = [limiter._plan.ask("hit", "together", 909_090)] * 11
    call = limiter._plan.together(asks, token=ObjectId(), now=NOON)
    told = limiter._plan.decide_all(call, limiter._write(call.command, None, None), clock=NOON)
    assert [bool(decision) for decision in told] == [True] * 10 + [False]


def test_a_note_of_a_group_is_gone_after_the_next_hit(db: Any) -> None:
    """What a group leaves in the state to be read is short, and goes with the next hit."""
    limiter = RateLimiter(db, spec_of("sliding", 900))
    ask = limiter._plan.ask("hit", "alice", 1)
    assert sum(map(bool, limiter._together([ask] * 1000, None))) == 900
    assert db.limits.find_one()["rate"]["note"] == {"k": [900]}
    db.limits.update_one({}, {"$set": {"rate.n": 1}})
    assert limiter.hit("alice")
    assert "note" not in db.limits.find_one()["rate"]


@every_algorithm
def test_a_group_with_room_for_all_of_it_is_decided_as_one(db: Any, commands: Any, algorithm: Any) -> None:
    """It takes one command; one without room a second, and the key is known then until a group fits again."""
    limiter = RateLimiter(db, spec_of(algorithm, 100))
    seven = [limiter._plan.ask("hit", "alice", cost) for cost in (1, 1, 2, 0.5, 0.5, 1, 1)]
    for fitting, expected, sent in (
        (seven, [True] * 7, ["cost"]),
        (seven[:1] * 95, [True] * 93 + [False] * 2, ["cost", "runs"]),
        (seven[:1] * 2, [False] * 2, ["runs"]),
    ):
        commands.clear()
        told = limiter._together(fitting, None)
        assert [bool(decision) for decision in told] == expected
        lets = [command["let"] for _, command in commands.sent]
        assert [next(name for name in ("cost", "runs") if name in let) for let in lets] == sent


def test_a_group_on_an_unknown_key_with_create_none_is_told_so(db: Any) -> None:
    """Every member of a group on a key without a document is told, where none may be made."""
    limiter = RateLimiter(db, spec_of("sliding", create=None, ttl_field=None), combine=True)
    report = race_threads(lambda _: limiter.hit("ghost"), times=20, concurrency=20)
    assert [type(error) for _, error in report.errors] == [DocumentNotFound] * 20
    assert db.limits.count_documents({}) == 0
