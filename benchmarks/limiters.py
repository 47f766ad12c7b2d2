"""Rate limiters against the best call by hand.

Each algorithm is written by hand as a quota is above: one guarded `find_one_and_update` per hit, on the key alone,
with the server's clock, a token that tells what was admitted, a reply projected to the state, and the time at which
the server may delete the document. It takes its own state on trust, and knows one fixed rate, in whole numbers.

The peer that a user would pick is `limits`, on the client that its MongoDB storage makes. It tells whether a hit was
allowed; what is left, and until when, are further round trips there.
"""

from __future__ import annotations

import datetime as dt
import math
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Literal, NamedTuple, TypeAlias

from bson import ObjectId
from pymongo import ReturnDocument

from benchmarks import combining
from benchmarks._ratios import AtMost
from benchmarks._rows import Calls, Measurable, Row
from benchmarks._worlds import World
from benchmarks.counters import clock, majority
from mongopatterns import AsyncRateLimiter, Rate, RateDecision, RateLimiter, RateLimiterSpec

Algorithm: TypeAlias = Literal["fixed", "sliding", "token_bucket"]

LIMIT: Final = 6_000_000  # the timed hits, of 1 each, do not come near it
PER: Final = dt.timedelta(minutes=1)
MILLISECONDS: Final = PER // dt.timedelta(milliseconds=1)
PACE: Final = LIMIT // MILLISECONDS  # what a token bucket loses in a millisecond: a whole number


class Answer(NamedTuple):
    """What a caller is told."""

    allowed: bool
    remaining: int
    retry_after: float | None


PROJECTION: Final = {"_id": 0, "rate": 1, "now": "$$now"}


@dataclass(frozen=True)
class HandWritten:
    """A guarded write.

    Attributes:
        now: The state as it stands at `$$now`, in the terms of the server.
        taken: What of the limit is taken at `$$now`, given `$$state`.
        charged: The fields of the state after the hit, given `$$state`.
        expires: When it means nothing any more, given `$$state`.
        read: The state as it stands, in memory: nothing was written by a refused hit, and what is stored may be old.
        left: What is left of the limit, given such a state.
        wait: The milliseconds until a cost fits that does not, given such a state.
    """

    now: Any
    taken: Any
    charged: Mapping[str, Any]
    expires: Any
    read: Callable[[Mapping[str, Any] | None, dt.datetime], Mapping[str, Any]]
    left: Callable[[Mapping[str, Any], dt.datetime], float]
    wait: Callable[[Mapping[str, Any], dt.datetime, int], float]

    def pipeline(self) -> list[dict[str, Any]]:
        """Build the update, which is constant; what differs from hit to hit travels as a variable."""
        state = {"at": "$$now", "by": "$$token", **self.charged}
        admitted = {"$mergeObjects": ["$$ROOT", {"rate": state, "expires_at": self.expires}]}
        fits = {"$lte": [{"$add": [self.taken, "$$cost"]}, LIMIT]}
        decided = {"$cond": [fits, admitted, "$$ROOT"]}
        return [{"$replaceWith": {"$let": {"vars": {"state": self.now}, "in": decided}}}]

    def answer(self, reply: Mapping[str, Any] | None, token: ObjectId, cost: int, now: dt.datetime | None) -> Answer:
        """Turn a reply into an answer."""
        stored = reply.get("rate") if reply else None
        if stored is not None and stored["by"] == token:
            return Answer(allowed=True, remaining=int(self.left(stored, stored["at"])), retry_after=None)
        now = reply["now"] if reply else now or clock()
        state = self.read(stored, now)
        wait = None if cost > LIMIT else math.ceil(self.wait(state, now, cost)) / 1000
        return Answer(allowed=False, remaining=int(self.left(state, now)), retry_after=wait)

    def aio(self, database: Any) -> Callable[..., Any]:
        rates, pipeline = majority(database), self.pipeline()

        async def hit(key: str, cost: int = 1, *, now: dt.datetime | None = None) -> Answer:
            token = ObjectId()
            reply = await rates.find_one_and_update(
                {"_id": key},
                pipeline,
                PROJECTION,
                upsert=cost <= LIMIT,
                return_document=ReturnDocument.AFTER,
                let={"now": now or "$$NOW", "cost": cost, "token": token},
            )
            return self.answer(reply, token, cost, now)

        return hit

    def blocking(self, database: Any) -> Callable[..., Any]:
        rates, pipeline = majority(database), self.pipeline()

        def hit(key: str, cost: int = 1, *, now: dt.datetime | None = None) -> Answer:
            token = ObjectId()
            reply = rates.find_one_and_update(
                {"_id": key},
                pipeline,
                PROJECTION,
                upsert=cost <= LIMIT,
                return_document=ReturnDocument.AFTER,
                let={"now": now or "$$NOW", "cost": cost, "token": token},
            )
            return self.answer(reply, token, cost, now)

        return hit


def until(then: dt.datetime, now: dt.datetime) -> int:
    return (then - now) // dt.timedelta(milliseconds=1)


# Fixed: a window begins with the first hit, and the next one with the first hit after it ......................


def read_fixed(stored: Mapping[str, Any] | None, now: dt.datetime) -> Mapping[str, Any]:
    return stored if stored and stored["end"] > now else {"end": now + PER, "used": 0}


def left_in_fixed(state: Mapping[str, Any], now: dt.datetime) -> float:
    del now
    return LIMIT - state["used"]


def wait_for_fixed(state: Mapping[str, Any], now: dt.datetime, cost: int) -> float:
    del cost
    return until(state["end"], now)


NEXT_END: Final = {"$add": ["$$now", MILLISECONDS]}
USED: Final = {"$add": ["$$state.used", "$$cost"]}
FIXED: Final = HandWritten(
    {"$cond": [{"$gt": ["$rate.end", "$$now"]}, "$rate", {"end": NEXT_END, "used": 0}]},
    "$$state.used",
    {"end": "$$state.end", "used": USED},
    "$$state.end",
    read_fixed,
    left_in_fixed,
    wait_for_fixed,
)


# Sliding: windows run on from the first hit, and the one before counts for as much as still overlaps ..........


def read_sliding(stored: Mapping[str, Any] | None, now: dt.datetime) -> Mapping[str, Any]:
    if stored and stored["end"] > now:
        return stored
    if stored and stored["end"] + PER > now:
        return {"end": stored["end"] + PER, "used": 0, "before": stored["used"]}
    return {"end": now + PER, "used": 0, "before": 0}


def left_in_sliding(state: Mapping[str, Any], now: dt.datetime) -> float:
    return LIMIT - (state["before"] * until(state["end"], now) / MILLISECONDS + state["used"])


def wait_for_sliding(state: Mapping[str, Any], now: dt.datetime, cost: int) -> float:
    rest = until(state["end"], now)
    if state["used"] + cost <= LIMIT:  # in this window, when enough of the one before it has passed
        return rest - (LIMIT - state["used"] - cost) * MILLISECONDS / state["before"]
    return rest + MILLISECONDS - (LIMIT - cost) * MILLISECONDS / state["used"]  # in the next, when enough of this has


ENDED: Final = {"$add": ["$rate.end", MILLISECONDS]}
SLIDING: Final = HandWritten(
    {
        "$switch": {
            "branches": [
                {"case": {"$gt": ["$rate.end", "$$now"]}, "then": "$rate"},
                {"case": {"$gt": [ENDED, "$$now"]}, "then": {"end": ENDED, "used": 0, "before": "$rate.used"}},
            ],
            "default": {"end": NEXT_END, "used": 0, "before": 0},
        }
    },
    {
        "$add": [
            {"$divide": [{"$multiply": ["$$state.before", {"$subtract": ["$$state.end", "$$now"]}]}, MILLISECONDS]},
            "$$state.used",
        ]
    },
    {"end": "$$state.end", "used": USED, "before": "$$state.before"},
    {"$add": ["$$state.end", MILLISECONDS]},
    read_sliding,
    left_in_sliding,
    wait_for_sliding,
)


# A token bucket: it drains at the rate ........................................................................


def read_bucket(stored: Mapping[str, Any] | None, now: dt.datetime) -> Mapping[str, Any]:
    return {"level": max(0, stored["level"] - PACE * until(now, stored["at"])) if stored else 0}


def left_in_bucket(state: Mapping[str, Any], now: dt.datetime) -> float:
    del now
    return LIMIT - state["level"]


def wait_for_bucket(state: Mapping[str, Any], now: dt.datetime, cost: int) -> float:
    del now
    return (state["level"] + cost - LIMIT) / PACE


DRAINED: Final = {"$multiply": [PACE, {"$subtract": ["$$now", "$rate.at"]}]}
FILLED: Final = {"$add": ["$$state.level", "$$cost"]}
BUCKET: Final = HandWritten(
    {"level": {"$max": [0, {"$subtract": ["$rate.level", DRAINED]}]}},  # (nothing stored is null, and less than 0)
    "$$state.level",
    {"level": FILLED},
    {"$add": ["$$now", {"$ceil": {"$divide": [FILLED, PACE]}}]},
    read_bucket,
    left_in_bucket,
    wait_for_bucket,
)


# The rows ----------------------------------------------------------------------------------------------------


def hits(*steps: dt.timedelta) -> list[dict[str, Any]]:
    """Make hits of which some are admitted and some refused, while time goes on by some of the `steps`."""
    dice = random.Random(1)
    # (Far ahead, so that the server does not delete what has expired in the meantime.)
    now = dt.datetime(2126, 3, 27, 21, 40, tzinfo=dt.timezone.utc)
    calls: list[dict[str, Any]] = [{"key": "agree-now", "cost": LIMIT}]
    for _ in range(150):
        now += dice.choice(steps)
        cost = dice.choice((1, LIMIT // 7, LIMIT // 4, LIMIT // 2, LIMIT, 2 * LIMIT))
        calls.append({"key": f"agree-{dice.randrange(3)}", "cost": cost, "now": now})
    return calls


MILLISECOND: Final = dt.timedelta(milliseconds=1)
MINUTES: Final = hits(*[0 * PER] * 4, MILLISECOND, 7019 * MILLISECOND, PER / 3, PER / 2, PER, 2 * PER)


def told(decision: RateDecision) -> Answer:
    return Answer(decision.allowed, decision.remaining, decision.retry_after)


def ours(algorithm: Algorithm) -> Calls:
    spec = RateLimiterSpec("rates", Rate(LIMIT, per=PER), algorithm=algorithm)
    return Calls(
        lambda db: AsyncRateLimiter(db, spec).hit,
        lambda db: RateLimiter(db, spec).hit,
        told,
        indexes={spec.collection: "expires_at"},
    )


def row(algorithm: Algorithm, by_hand: HandWritten) -> Row:
    theirs = Calls(by_hand.aio, by_hand.blocking, indexes={"by_hand": "expires_at"})
    name = f"RateLimiter.hit, {algorithm}, one hot key"
    return Row(name, "pipeline by hand", ours(algorithm), theirs, MINUTES, target=AtMost(1.25))


def against_limits(algorithm: Literal["fixed", "sliding"], peer: combining.Limits) -> Row:
    alone = replace(combining.limiter(algorithm, combine=False), tally=None)
    name, worlds = f"RateLimiter.hit, {algorithm}, one hot key", (World("async", 1), World("async", 32))
    return Row(name, f"limits, {peer.name}", alone, peer, combining.EQUAL_HITS, worlds=worlds)


ROWS: Final[tuple[Measurable, ...]] = (
    row("fixed", FIXED),
    row("sliding", SLIDING),
    row("token_bucket", BUCKET),
    against_limits("fixed", combining.FIXED_HITS),
    against_limits("sliding", combining.SLIDING_HITS),
)
