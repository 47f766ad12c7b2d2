"""Counters and quotas under load while the primary of a three-member set falls and replies are lost.

Some callers travel alone, others share round trips.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from mongopatterns import (
    AsyncCounter,
    AsyncQuota,
    Counter,
    CounterSpec,
    OutcomeUnknown,
    Quota,
    QuotaSpec,
    Rollover,
    Window,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(300)]

LIMIT = 130
HITS = CounterSpec("hits", path="n", meters=("size",))
# One quota that everything fits into, and one that fills up while the members fall: every call is answered at
# least 20 times after each of eight faults.
ROOMY = QuotaSpec(
    "quotas", path="roomy", windows=[Window.day(10**9, rollover=Rollover(cap=5)), Window.month(None)], meters=("cost",)
)
TIGHT = QuotaSpec("quotas", path="tight", windows=[Window.month(LIMIT)])
# Of these each fault meets a fresh key, which is full before the next fault.
FULL = 60
FILLED = QuotaSpec("filled", path="q", windows=[Window.month(FULL)])

# So many callers of each kind that travels alone, and of each kind that shares round trips.
ALONE, TOGETHER = 3, 6
KINDS_ALONE = ("add", "consume", "record", "tight")
KINDS_TOGETHER = ("add_together", "impatient_together", "charge_together", "fill_together")


def assert_bounds(log: Any, stored: int) -> None:
    """Assert that what was acknowledged is stored, and of what was not, at most what may have been applied."""
    least = sum(amount for amount, _ in log.granted)
    assert least <= stored <= least + sum(amount for amount, _ in log.unknown)


async def work(load: Any, name: str, call: Callable[[int, str], Awaitable[Any]]) -> None:
    """Call without a pause."""
    for turn in load.turns():
        amount = 1 if name in ("tight", "fill_together") else 1 + turn % 3
        await load.attempt(name, amount, lambda amount=amount: call(amount, f"fault {load.faults}"))


def _calls(db: Any, counter: Any, quota: Any) -> dict[str, Callable[[int, str], Any]]:
    """Make a call of each kind: it is given an amount, and the name of the last fault."""
    hits, roomy, tight = counter(db, HITS), quota(db, ROOMY), quota(db, TIGHT)
    shared = {"combine": True}
    hits_together, roomy_together = counter(db, HITS, **shared), quota(db, ROOMY, **shared)
    filled = quota(db, FILLED, **shared)
    return {
        "add": lambda amount, _: hits.add("alone", amount),
        "consume": lambda amount, _: roomy.consume("consumed", amount),
        "record": lambda amount, _: roomy.record("recorded", amount),
        "tight": lambda amount, _: tight.consume("alone", amount),
        "add_together": lambda amount, _: hits_together.add("together", amount, meters={"size": amount}),
        "impatient_together": lambda amount, _: hits_together.add("impatient", amount, timeout=0.2),
        "charge_together": lambda amount, _: (roomy_together.record if amount == 2 else roomy_together.consume)(
            "together", amount, meters={"cost": amount}
        ),
        "fill_together": lambda amount, fault: filled.consume(fault, amount),
    }


def assert_apart(answers: list[tuple[int, int]]) -> None:
    """Assert that additions, told as (amount, total), belong to one order: no two of them count the same unit."""
    last = 0
    for amount, total in sorted(answers, key=lambda answer: answer[1]):
        assert last <= total - amount
        last = total


async def test_elections_and_lost_replies_lose_and_double_nothing(world: Any, load: Any) -> None:
    """Through kills, step-downs and lost replies what is stored is what was told, within what was told unknown."""
    calls = _calls(world.db, Counter, Quota) if world.sync else _calls(world.db, AsyncCounter, AsyncQuota)
    workers = [
        lambda name=name, call=call: work(load, name, world.wait(call))
        for name, call in calls.items()
        for _ in range(ALONE if name in KINDS_ALONE else TOGETHER)
    ]
    await load.run(workers, dict.fromkeys(calls, 20) | {"fill_together": FULL + TOGETHER})
    logs = load.logs
    for kind, log in logs.items():
        assert log.failed == []
        assert len(log.told) > 100, "there was a load"
        assert kind == "impatient_together" or not log.unsent
    hits = {document["_id"]: document for document in world.stored("hits")}
    states = {document["_id"]: document for document in world.stored("quotas")}
    filled = {document["_id"]: document["q"]["month"]["used"] for document in world.stored("filled")}

    # Numbers and windows hold what was acknowledged, and at most what may have been applied besides.
    charged = {
        "add": hits["alone"]["n"],
        "add_together": hits["together"]["n"],
        "impatient_together": hits["impatient"]["n"],
        "consume": states["consumed"]["roomy"]["day"]["used"],
        "record": states["recorded"]["roomy"]["day"]["used"],
        "charge_together": states["together"]["roomy"]["day"]["used"],
    }
    for kind, stored in charged.items():
        assert_bounds(logs[kind], stored)
        totals = [(amount, _total(verdict)) for amount, verdict in logs[kind].granted]
        assert len(totals) == len(logs[kind].told), "there was room for all"
        assert_apart(totals)
        assert max(total for _, total in totals) <= stored
    # What is written together is stored together.
    assert hits["together"]["size"] == hits["together"]["n"]
    assert states["together"]["roomy"]["meters"]["cost"] == charged["charge_together"]
    assert all(
        states[key]["roomy"]["month"]["used"] == states[key]["roomy"]["day"]["used"]
        for key in ("consumed", "recorded", "together")
    )

    # Limits were reached, and nobody was refused before they were.
    for kind, limit, stored in (("tight", LIMIT, LIMIT), ("fill_together", FULL, FULL * load.faults)):
        refused = [verdict for _, verdict in logs[kind].told if not verdict]
        assert refused
        assert all(verdict.used == {"month": limit} for verdict in refused)
        assert_bounds(logs[kind], stored)
    assert states["alone"]["tight"]["month"]["used"] == LIMIT
    assert {key: used for key, used in filled.items() if key != "fault 0"} == dict.fromkeys(
        (f"fault {number}" for number in range(1, load.faults + 1)), FULL
    )

    # Those who share a command are told in our own words that nobody knows.
    for kind in KINDS_TOGETHER:
        assert {type(error) for _, error in logs[kind].unknown} <= {OutcomeUnknown}
        assert all(error.__cause__ is not None for _, error in logs[kind].unknown)
    assert any(log.unknown for log in logs.values()), "some answers were lost for good"


def _total(verdict: Any) -> int:
    """Tell what the number was after a call."""
    return int(verdict if isinstance(verdict, int) else verdict.used["day"])
