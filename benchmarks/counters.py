"""Counters and quotas against what they replace.

The best call that can be written by hand is correct, and as quick as we could make it: one
`find_one_and_update` whose filter is the key alone, the server's clock, a token that tells what was granted even
when the driver repeats a write, a reply projected to the state. Unlike the primitives it takes its own state on
trust, and knows one fixed set of limits, in whole numbers. The naive version needs two round trips and is wrong as
soon as two callers meet.

A primitive's verdict knows whether the call was allowed, and works its other fields out when somebody asks for them.
The timed calls do not ask, except where the table says so; the version by hand always works out all that it tells.
"""

from __future__ import annotations

import datetime as dt
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple
from zoneinfo import ZoneInfo

from bson import CodecOptions, ObjectId
from pymongo import ReturnDocument, WriteConcern

from benchmarks._ratios import AtMost
from benchmarks._rows import EVERYWHERE, MANY_KEYS, Calls, Measurable, Row, Side
from mongopatterns import (
    AsyncCounter,
    AsyncQuota,
    Counter,
    CounterSpec,
    Decision,
    Quota,
    QuotaSpec,
    Rollover,
    Times,
    Window,
)

HOUR: Final = dt.timedelta(hours=1)
CODEC: Final = CodecOptions[dict[str, Any]](tz_aware=True)


def majority(database: Any) -> Any:
    """Return the collection of a hand-written version, with the options of the primitives."""
    return database.get_collection("by_hand", codec_options=CODEC, write_concern=WriteConcern("majority"))


# A counter: the best call ------------------------------------------------------------------------------------


def async_increment(database: Any) -> Callable[..., Any]:
    counters = majority(database)

    async def add(key: str, amount: int = 1) -> int:
        reply = await counters.find_one_and_update(
            {"_id": key},
            {"$inc": {"n": amount}},
            {"_id": 0, "n": 1},
            upsert=True,
            return_document=ReturnDocument.AFTER,
        )
        return reply["n"]

    return add


def increment(database: Any) -> Callable[..., Any]:
    counters = majority(database)

    def add(key: str, amount: int = 1) -> int:
        reply = counters.find_one_and_update(
            {"_id": key},
            {"$inc": {"n": amount}},
            {"_id": 0, "n": 1},
            upsert=True,
            return_document=ReturnDocument.AFTER,
        )
        return reply["n"]

    return add


# A counter: read, add, save. Wrong as soon as two callers meet: one of their additions is lost -----------------


def async_read_add_save(database: Any) -> Callable[..., Any]:
    counters = majority(database)

    async def add(key: str, amount: int = 1) -> int:
        document = await counters.find_one({"_id": key}) or {"n": 0}
        total = document["n"] + amount
        await counters.update_one({"_id": key}, {"$set": {"n": total}}, upsert=True)
        return total

    return add


def read_add_save(database: Any) -> Callable[..., Any]:
    counters = majority(database)

    def add(key: str, amount: int = 1) -> int:
        document = counters.find_one({"_id": key}) or {"n": 0}
        total = document["n"] + amount
        counters.update_one({"_id": key}, {"$set": {"n": total}}, upsert=True)
        return total

    return add


# Quotas: what both sides answer ------------------------------------------------------------------------------


class Answer(NamedTuple):
    """What a caller of a quota is told. All but the first and the last: per window."""

    allowed: bool
    used: dict[str, int]
    banked: dict[str, int]
    remaining: dict[str, int]
    resets_at: dict[str, dt.datetime]
    retry_after: float | None


def answer_of(decision: Decision) -> Answer:
    """Read from a primitive's verdict what the hand-written version tells, too."""
    return Answer(*(getattr(decision, field) for field in Answer._fields))


def async_reading(consume: Callable[..., Any]) -> Callable[..., Any]:
    """Ask each verdict for all that the hand-written version tells."""

    async def consumed(key: str, amount: int = 1, *, now: dt.datetime | None = None) -> Answer:
        return answer_of(await consume(key, amount, now=now))

    return consumed


def reading(consume: Callable[..., Any]) -> Callable[..., Any]:
    """Ask each verdict for all that the hand-written version tells."""

    def consumed(key: str, amount: int = 1, *, now: dt.datetime | None = None) -> Answer:
        return answer_of(consume(key, amount, now=now))

    return consumed


def clock() -> dt.datetime:
    return dt.datetime.now(dt.timezone.utc)


# A quota: the best call --------------------------------------------------------------------------------------

# The filter is the key alone (any further term would make an upsert race with itself), the clock is the
# server's, a refused call changes nothing, and what was granted is told by the token of the call: the answer
# stays right when the driver repeats a write whose reply was lost, and the server then sends the document as
# it is stored. The pipeline is constant; what differs from call to call travels as a variable.
PROJECTION: Final = {"_id": 0, "quota": 1, "now": "$$now"}


@dataclass(frozen=True)
class HandWritten:
    """A guarded write.

    Attributes:
        pipeline: The update.
        most: What a new document has room for: above it, none is made.
        read: Turns a reply into an answer.
    """

    pipeline: list[dict[str, Any]]
    most: int
    read: Callable[[dict[str, Any] | None, ObjectId, int, dt.datetime | None], Answer]

    def aio(self, database: Any) -> Callable[..., Any]:
        quotas = majority(database)

        async def consume(key: str, amount: int = 1, *, now: dt.datetime | None = None) -> Answer:
            token = ObjectId()
            reply = await quotas.find_one_and_update(
                {"_id": key},
                self.pipeline,
                PROJECTION,
                upsert=amount <= self.most,
                return_document=ReturnDocument.AFTER,
                let={"now": now or "$$NOW", "amount": amount, "token": token},
            )
            return self.read(reply, token, amount, now)

        return consume

    def blocking(self, database: Any) -> Callable[..., Any]:
        quotas = majority(database)

        def consume(key: str, amount: int = 1, *, now: dt.datetime | None = None) -> Answer:
            token = ObjectId()
            reply = quotas.find_one_and_update(
                {"_id": key},
                self.pipeline,
                PROJECTION,
                upsert=amount <= self.most,
                return_document=ReturnDocument.AFTER,
                let={"now": now or "$$NOW", "amount": amount, "token": token},
            )
            return self.read(reply, token, amount, now)

        return consume


# One window, of an hour ......................................................................................

LIMIT: Final = 10**9  # the timed calls, of 1 each, do not come near it

ONE_WINDOW: Final = [
    {
        "$replaceWith": {
            "$let": {
                "vars": {
                    "hour": {
                        "$cond": [
                            {"$gt": ["$quota.end", "$$now"]},
                            "$quota",
                            {
                                "end": {"$add": [{"$dateTrunc": {"date": "$$now", "unit": "hour"}}, 3_600_000]},
                                "used": 0,
                            },
                        ]
                    }
                },
                "in": {
                    "$cond": [
                        {"$lte": ["$$amount", {"$subtract": [LIMIT, "$$hour.used"]}]},
                        {
                            "$mergeObjects": [
                                "$$ROOT",
                                {
                                    "quota": {
                                        "at": "$$now",
                                        "by": "$$token",
                                        "end": "$$hour.end",
                                        "used": {"$add": ["$$hour.used", "$$amount"]},
                                    }
                                },
                            ]
                        },
                        "$$ROOT",
                    ]
                },
            }
        }
    }
]


def read_one_window(reply: dict[str, Any] | None, token: ObjectId, amount: int, now: dt.datetime | None) -> Answer:
    state = reply.get("quota") if reply else None
    granted = state is not None and state["by"] == token
    if granted:
        now, end, used = state["at"], state["end"], state["used"]
    else:
        now = reply["now"] if reply else now or clock()
        # What a refused call sees may be older than this hour.
        current = state is not None and state["end"] > now
        end, used = (state["end"], state["used"]) if current else (hour_end(now), 0)
    wait = None if granted or amount > LIMIT else (end - now).total_seconds()
    return Answer(granted, {"hour": used}, {"hour": 0}, {"hour": LIMIT - used}, {"hour": end}, wait)


def hour_end(now: dt.datetime) -> dt.datetime:
    return now.replace(minute=0, second=0, microsecond=0) + HOUR


# Three windows; an hour that ends banks what it left .........................................................

LIMITS: Final = {"hour": 10**9, "day": 3 * 10**9, "month": 10 * 10**9}
CAP: Final = 2 * LIMITS["hour"]
ZONE: Final = "Europe/Berlin"
BERLIN: Final = ZoneInfo(ZONE)


def rolled(unit: str, **bank: Any) -> dict[str, Any]:
    """Build the window as it stands now: as stored, or a new one."""
    start = {"$dateTrunc": {"date": "$$now", "unit": unit, "timezone": ZONE}}
    end = {"$dateAdd": {"startDate": start, "unit": unit, "amount": 1, "timezone": ZONE}}
    return {"$cond": [{"$gt": [f"$quota.{unit}.end", "$$now"]}, f"$quota.{unit}", {"end": end, "used": 0, **bank}]}


def charged(unit: str) -> dict[str, Any]:
    return {"end": f"$${unit}.end", "used": {"$add": [f"$${unit}.used", "$$amount"]}}


IDLE_HOURS: Final = {"$toLong": {"$divide": [{"$subtract": ["$$now", "$quota.hour.end"]}, 3_600_000]}}
BANKED: Final = {
    "$min": [
        CAP,
        {
            # null where nothing is stored yet
            "$ifNull": [
                {
                    "$add": [
                        "$quota.hour.bank",
                        {"$subtract": [LIMITS["hour"], "$quota.hour.used"]},
                        {"$multiply": [LIMITS["hour"], IDLE_HOURS]},
                    ]
                },
                0,
            ]
        },
    ]
}

THREE_WINDOWS: Final = [
    {
        "$replaceWith": {
            "$let": {
                "vars": {"hour": rolled("hour", bank=BANKED), "day": rolled("day"), "month": rolled("month")},
                "in": {
                    "$cond": [
                        {
                            "$and": [
                                {
                                    "$lte": [
                                        "$$amount",
                                        {"$add": [{"$subtract": [LIMITS["hour"], "$$hour.used"]}, "$$hour.bank"]},
                                    ]
                                },
                                {"$lte": ["$$amount", {"$subtract": [LIMITS["day"], "$$day.used"]}]},
                                {"$lte": ["$$amount", {"$subtract": [LIMITS["month"], "$$month.used"]}]},
                            ]
                        },
                        {
                            "$mergeObjects": [
                                "$$ROOT",
                                {
                                    "quota": {
                                        "at": "$$now",
                                        "by": "$$token",
                                        # The bank pays first; what it cannot pay is charged to the hour.
                                        "hour": {
                                            "end": "$$hour.end",
                                            "used": {
                                                "$add": [
                                                    "$$hour.used",
                                                    {"$max": [0, {"$subtract": ["$$amount", "$$hour.bank"]}]},
                                                ]
                                            },
                                            "bank": {"$max": [0, {"$subtract": ["$$hour.bank", "$$amount"]}]},
                                        },
                                        "day": charged("day"),
                                        "month": charged("month"),
                                    }
                                },
                            ]
                        },
                        "$$ROOT",
                    ]
                },
            }
        }
    }
]


def read_three_windows(reply: dict[str, Any] | None, token: ObjectId, amount: int, now: dt.datetime | None) -> Answer:
    state = reply.get("quota") if reply else None
    granted = state is not None and state["by"] == token
    if granted:
        windows = state
    else:
        now = reply["now"] if reply else now or clock()
        windows = {unit: window_now(unit, state and state[unit], now) for unit in LIMITS}
    used = {unit: windows[unit]["used"] for unit in LIMITS}
    banked = {"hour": windows["hour"]["bank"], "day": 0, "month": 0}
    remaining = {unit: limit - used[unit] + banked[unit] for unit, limit in LIMITS.items()}
    ends = {unit: windows[unit]["end"] for unit in LIMITS}
    wait = None if granted else waiting(amount, windows, remaining, now, CAP if state else 0)
    return Answer(granted, used, banked, remaining, ends, wait)


def window_now(unit: str, stored: Mapping[str, Any] | None, now: dt.datetime) -> dict[str, Any]:
    """Roll a window on in memory, for a refused call: nothing was written, and what is stored may be old."""
    if stored and stored["end"] > now:
        return stored
    if unit == "hour":
        bank = 0
        if stored:
            idle = (now - stored["end"]) // HOUR
            bank = min(CAP, stored["bank"] + LIMITS["hour"] * (idle + 1) - stored["used"])
        return {"end": hour_end(now), "used": 0, "bank": bank}
    midnight = now.astimezone(BERLIN).replace(hour=0, minute=0, second=0, microsecond=0)
    end = (
        midnight + dt.timedelta(days=1)
        if unit == "day"
        else (midnight.replace(day=1) + 32 * dt.timedelta(days=1)).replace(day=1)
    )
    return {"end": end.astimezone(dt.timezone.utc), "used": 0}


def waiting(
    amount: int,
    windows: Mapping[str, Mapping[str, Any]],
    remaining: Mapping[str, int],
    now: dt.datetime,
    cap: int,
) -> float | None:
    """Return the seconds until a refused call would fit if nobody else came, or None if it never will.

    What was never charged is not stored, and banks nothing by waiting: its `cap` is 0.
    """
    last = now
    for unit, limit in LIMITS.items():
        if amount <= remaining[unit]:
            continue
        if amount > limit + (cap if unit == "hour" else 0):
            return None
        end = windows[unit]["end"]
        if unit == "hour":
            # The next hour brings its limit and what is banked by then; each one after it banks a limit more.
            bank = min(cap, windows[unit]["bank"] + limit - windows[unit]["used"])
            end += HOUR * max(0, -(-(amount - limit - bank) // limit))
        last = max(last, end)
    return (last - now).total_seconds()


# A quota: find, check, save. Wrong as soon as two callers meet, or two clocks differ --------------------------


def async_find_check_save(database: Any) -> Callable[..., Any]:
    quotas = majority(database)

    async def consume(key: str, amount: int = 1, *, now: dt.datetime | None = None) -> Answer:
        now = now or clock()
        document = await quotas.find_one({"_id": key}) or {}
        end, used = current_hour(document, now)
        if amount > LIMIT - used:
            return read_check(end, used, amount, now, granted=False)
        used += amount
        await quotas.update_one({"_id": key}, {"$set": {"quota": {"end": end, "used": used}}}, upsert=True)
        return read_check(end, used, amount, now, granted=True)

    return consume


def find_check_save(database: Any) -> Callable[..., Any]:
    quotas = majority(database)

    def consume(key: str, amount: int = 1, *, now: dt.datetime | None = None) -> Answer:
        now = now or clock()
        document = quotas.find_one({"_id": key}) or {}
        end, used = current_hour(document, now)
        if amount > LIMIT - used:
            return read_check(end, used, amount, now, granted=False)
        used += amount
        quotas.update_one({"_id": key}, {"$set": {"quota": {"end": end, "used": used}}}, upsert=True)
        return read_check(end, used, amount, now, granted=True)

    return consume


def current_hour(document: Mapping[str, Any], now: dt.datetime) -> tuple[dt.datetime, int]:
    quota = document.get("quota")
    return (quota["end"], quota["used"]) if quota and quota["end"] > now else (hour_end(now), 0)


def read_check(end: dt.datetime, used: int, amount: int, now: dt.datetime, *, granted: bool) -> Answer:
    wait = None if granted or amount > LIMIT else (end - now).total_seconds()
    return Answer(granted, {"hour": used}, {"hour": 0}, {"hour": LIMIT - used}, {"hour": end}, wait)


# The calls on which both sides must agree --------------------------------------------------------------------


def additions() -> list[dict[str, Any]]:
    dice = random.Random(1)
    return [{"key": f"agree-{dice.randrange(3)}", "amount": dice.choice((1, 2, 5, 10**9))} for _ in range(20)]


def consumptions(*steps: dt.timedelta) -> list[dict[str, Any]]:
    """Make calls of which some are granted and some refused, while time goes on by some of the `steps`.

    The first one is dated by the server.
    """
    dice = random.Random(1)
    calls: list[dict[str, Any]] = [{"key": "agree-now", "amount": LIMIT}]
    now = dt.datetime(2026, 3, 27, 21, 40, tzinfo=dt.timezone.utc)  # two days before Berlin's clocks change
    for _ in range(150):
        now += dice.choice(steps)
        amount = dice.choice((1, LIMIT // 4, LIMIT // 2, LIMIT, 2 * LIMIT, 3 * LIMIT, 4 * LIMIT))
        calls.append({"key": f"agree-{dice.randrange(3)}", "amount": amount, "now": now})
    return calls


NO_TIME: Final = dt.timedelta(0)
HOURLY: Final = consumptions(NO_TIME, NO_TIME, dt.timedelta(minutes=7), HOUR, 3 * HOUR)
CALENDAR: Final = consumptions(
    *[NO_TIME] * 6, *[dt.timedelta(minutes=7)] * 4, HOUR, 5 * HOUR, dt.timedelta(days=1), dt.timedelta(days=20)
)


# The rows ----------------------------------------------------------------------------------------------------

HITS: Final = CounterSpec("counters", path="n")
HOURS: Final = QuotaSpec("quotas", path="quota", windows=[Window.hour(LIMIT)])
PLAN: Final = QuotaSpec(
    "quotas",
    path="quota",
    timezone=ZONE,
    windows=[
        Window.hour(LIMITS["hour"], rollover=Rollover(cap=Times(2))),
        Window.day(LIMITS["day"]),
        Window.month(LIMITS["month"]),
    ],
)

COUNTER: Final = Calls(lambda db: AsyncCounter(db, HITS).add, lambda db: Counter(db, HITS).add)
ONE: Final = Calls(lambda db: AsyncQuota(db, HOURS).consume, lambda db: Quota(db, HOURS).consume, answer_of)
THREE: Final = Calls(lambda db: AsyncQuota(db, PLAN).consume, lambda db: Quota(db, PLAN).consume, answer_of)
THREE_READ: Final = Calls(
    lambda db: async_reading(AsyncQuota(db, PLAN).consume), lambda db: reading(Quota(db, PLAN).consume)
)

INCREMENT: Final = Calls(async_increment, increment)
READ_ADD_SAVE: Final = Calls(async_read_add_save, read_add_save)
ONE_BY_HAND: Final = HandWritten(ONE_WINDOW, LIMIT, read_one_window)
ONE_PIPELINE: Final = Calls(ONE_BY_HAND.aio, ONE_BY_HAND.blocking)
THREE_BY_HAND: Final = HandWritten(THREE_WINDOWS, LIMITS["hour"], read_three_windows)
THREE_PIPELINE: Final = Calls(THREE_BY_HAND.aio, THREE_BY_HAND.blocking)
FIND_CHECK_SAVE: Final = Calls(async_find_check_save, find_check_save)

USED_UP: Final = ({"key": "hot", "amount": LIMIT},)
BEST: Final = AtMost(1.25)


def counter(what: str, against: str, peer: Side, **options: Any) -> Row:
    return Row(f"Counter.add, {what}", against, COUNTER, peer, additions(), **options)


def quota(what: str, against: str, peer: Side, **options: Any) -> Row:
    return Row(f"Quota.consume, {what}", against, ONE, peer, HOURLY, **options)


def plan(what: str, against: str, peer: Side, **options: Any) -> Row:
    ours = options.pop("ours", THREE)
    return Row(f"Quota.consume, three windows and a bank, {what}", against, ours, peer, CALENDAR, **options)


ROWS: Final[tuple[Measurable, ...]] = (
    counter("one hot key", "$inc by hand", INCREMENT, target=BEST),
    counter("1,000 keys", "$inc by hand", INCREMENT, keys=MANY_KEYS, target=BEST),
    counter("one hot key", "read, add, save (loses updates)", READ_ADD_SAVE),
    quota("one hot key", "pipeline by hand", ONE_PIPELINE, target=BEST),
    quota("1,000 keys", "pipeline by hand", ONE_PIPELINE, keys=MANY_KEYS, target=BEST),
    quota("refused", "pipeline by hand", ONE_PIPELINE, before=USED_UP, target=BEST),
    quota("1,000 keys", "find, check, save (admits too many)", FIND_CHECK_SAVE, keys=MANY_KEYS),
    plan("one hot key", "pipeline by hand", THREE_PIPELINE, target=BEST),
    plan("one hot key, every field read", "pipeline by hand", THREE_PIPELINE, ours=THREE_READ, worlds=EVERYWHERE[1:2]),
    plan("1,000 keys", "pipeline by hand", THREE_PIPELINE, keys=MANY_KEYS, target=BEST),
)
