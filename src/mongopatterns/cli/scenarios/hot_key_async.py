"""One quota that every flight asks for: a hot key.

All airlines share one allowance, so all calls act on the same document, many more of them at once than in the
other scenarios. A command for each call keeps the client busy with commands; calls that are under way at the same
time can share one instead, and each still has an answer of its own.

The time is compared with that of a bare `$inc` for each call, the cheapest thing to do for a count: it has no limit.
It is the best case of combining: one key, one process, and every call waits for its answer.
"""

from __future__ import annotations

from collections.abc import Sequence

from pymongo.database import Database

from mongopatterns import AsyncQuota, QuotaSpec, Window
from mongopatterns.cli._rows import Row
from mongopatterns.cli._stage_async import AsyncScenario, AsyncStage
from mongopatterns.cli.scenarios import Outcome

KEY = "New York"


async def usual(stage: AsyncStage) -> int:
    """Read the counter, check it, add one, save it."""
    counters, limit = stage.db["hot_key"], limit_for(stage.flights)

    async def ask(_: Row) -> bool:
        counter = await counters.find_one({"_id": KEY}) or {"_id": KEY, "used": 0}
        if counter["used"] >= limit:
            return False
        counter["used"] += 1
        await counters.replace_one({"_id": KEY}, counter, upsert=True)
        return True

    return sum(await stage.for_each(ask, stage.flights))


async def by_hand(stage: AsyncStage) -> int:
    """One bare `$inc` for each call: it counts all of them, and has no limit."""
    counters = stage.db["hot_key"]

    async def ask(_: Row) -> bool:
        await counters.update_one({"_id": KEY}, {"$inc": {"used": 1}}, upsert=True)
        return True

    return sum(await stage.for_each(ask, stage.flights))


async def primitive(stage: AsyncStage) -> int:
    """`AsyncQuota.consume` with `combine=True`: calls that are under way at once share a command."""
    # A month: an hour would end during one run of many, and a right quota begins anew then.
    spec = QuotaSpec("hot_key", path="quota", windows=[Window.month(limit_for(stage.flights))])
    quota = AsyncQuota(stage.db, spec, combine=True)

    async def ask(_: Row) -> bool:
        return bool(await quota.consume(KEY))

    return sum(await stage.for_each(ask, stage.flights))


def limit_for(flights: Sequence[Row]) -> int:
    """Choose a limit that half of the flights reach."""
    return (len(flights) + 1) // 2


def judge(flights: Sequence[Row], told: int, db: Database[Row]) -> Outcome:
    """Compare how many were let in with the limit, and with what is stored."""
    limit = limit_for(flights)
    counter = db["hot_key"].find_one({"_id": KEY}) or {}
    stored = counter["quota"]["month"]["used"] if "quota" in counter else counter.get("used", 0)
    return Outcome(
        should=limit,
        stored=stored,
        lost=max(0, told - stored),
        doubled=max(0, stored - told),
        oversold=max(0, told - limit),
        wrongly_refused=max(0, limit - told),
    )


def caption(flights: Sequence[Row]) -> str:
    """Tell how many decisions there are."""
    return f"{len(flights):,} decisions, of which the limit lets {limit_for(flights):,} in."


SCENARIO = AsyncScenario(
    title="One quota that every flight asks for",
    usual=usual,
    by_hand=by_hand,
    primitive=primitive,
    judge=judge,
    caption=caption,
    crowded=True,
    baseline="by_hand",
)
