"""Callers of all kinds at random: each has one outcome, and it is the truth about what was sent."""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from pymongo.errors import AutoReconnect, OperationFailure

from mongopatterns import _group_async, _group_sync
from mongopatterns.errors import NotSent, OutcomeUnknown

LANES = 3
BOUNDS: dict[str, Any] = {"max_calls": 7, "max_runs": 4}


class Ledger:
    """What was sent, and what came of it; a request fails at random, before or after it was applied."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        self.sent: list[tuple[int, int]] = []  # (the caller, the request)
        self.answered: set[int] = set()  # requests that were answered
        self.requests = 0
        self.flying: Counter[int] = Counter()
        self.lock = threading.Lock()

    def send(self, calls: list[tuple[int, int]]) -> int:
        """Take a request: a call is its lane and its caller."""
        with self.lock:
            (lane,) = {lane for lane, _ in calls}
            assert len(calls) <= BOUNDS["max_runs"], "every call is a run here"
            self.flying[lane] += 1
            assert self.flying[lane] == 1, "two requests at once on a lane"
            self.requests += 1
            self.sent += [(caller, self.requests) for _, caller in calls]
            return self.requests

    def land(self, lane: int) -> None:
        with self.lock:
            self.flying[lane] -= 1

    def reply(self, calls: list[tuple[int, int]], request: int) -> list[Any]:
        chance = self.dice.random()
        if chance < 0.05:
            raise AutoReconnect("gone")
        if chance < 0.1:
            raise OperationFailure("no", 14)
        if chance < 0.13:
            raise KeyError("reply")
        if chance < 0.15:
            return []
        self.answered.add(request)
        return [caller for _, caller in calls]

    def check(self, outcomes: dict[int, list[Any]], callers: int) -> Counter[str]:
        """Assert that everybody was told once, and the truth. Returns how often what was told."""
        sent = Counter(caller for caller, _ in self.sent)
        assert max(sent.values()) == 1, "a call was sent twice"
        where = dict(self.sent)
        assert sorted(outcomes) == list(range(callers))
        for caller, told in outcomes.items():
            assert len(told) == 1
            outcome = told[0]
            if isinstance(outcome, NotSent):
                assert caller not in where
            elif isinstance(outcome, (OutcomeUnknown, OperationFailure)):
                assert caller in where
            elif not isinstance(outcome, BaseException):
                assert outcome == caller
                assert where[caller] in self.answered
            else:
                assert isinstance(outcome, (asyncio.CancelledError, KeyboardInterrupt)), outcome
        return Counter(type(told[0]).__name__ for told in outcomes.values())


def puppet_of_tasks(ledger: Ledger) -> _group_async.Groups[Any, Any]:
    dice = ledger.dice

    async def together(calls: list[Any], timeout: float | None) -> list[Any]:
        request = ledger.send(calls)
        try:
            for _ in range(dice.randrange(4)):
                await asyncio.sleep(0)
            if dice.random() < 0.3:
                await asyncio.sleep(dice.random() * 0.004)
            return ledger.reply(calls, request)
        finally:
            ledger.land(calls[0][0])

    async def alone(call: Any, timeout: float | None) -> Any:
        return (await together([call], timeout) or [None])[0]

    return _group_async.Groups(alone, together, name="stress", **BOUNDS)


@pytest.mark.parametrize("seed", range(12))
async def test_tasks_at_random(seed: int) -> None:
    """Tasks that are cancelled, run out of time and fail at random are told once, and the truth."""
    ledger = Ledger(seed)
    dice = random.Random(seed + 1000)
    groups = puppet_of_tasks(ledger)
    outcomes: dict[int, list[Any]] = {}

    async def caller(number: int) -> None:
        for _ in range(dice.randrange(6)):
            await asyncio.sleep(0)
        timeout = dice.choice([None, None, 0.001, 0.003, 5])
        lane = dice.randrange(LANES)
        try:
            outcome = await groups.submit(lane, (lane, number), timeout)
            outcome = AutoReconnect() if outcome is None else outcome
        except BaseException as error:  # noqa: BLE001  # it is looked at
            outcome = error
        outcomes.setdefault(number, []).append(outcome)

    for start in range(0, 600, 60):
        tasks = [asyncio.create_task(caller(start + n)) for n in range(60)]
        await asyncio.sleep(0)
        while not all(task.done() for task in tasks):
            if dice.random() < 0.2:
                dice.choice(tasks[:20]).cancel()
            await asyncio.sleep(0)
    await groups.close()
    lanes = groups._lanes
    assert lanes is not None
    assert not lanes.queues
    assert not lanes.deadlines
    for number in set(range(600)) - set(outcomes):  # cancelled before it began
        outcomes[number] = [asyncio.CancelledError()]
    told = ledger.check({n: [_known(o) for o in each] for n, each in outcomes.items()}, 600)
    assert min(told["int"], told["CancelledError"], told["OutcomeUnknown"]) > 0, told


def _known(outcome: Any) -> Any:
    """Take the refusal of an empty reply by the fake itself for what it is: nobody knows."""
    return OutcomeUnknown("empty") if isinstance(outcome, AutoReconnect) else outcome


@pytest.mark.parametrize("seed", range(6))
def test_threads_at_random(seed: int) -> None:
    """Threads that run out of time and fail at random are told once, and the truth; no lane is left."""
    ledger = Ledger(seed)

    def together(calls: list[Any], timeout: float | None) -> list[Any]:
        request = ledger.send(calls)
        try:
            time.sleep(ledger.dice.random() * 0.003)
            return ledger.reply(calls, request)
        finally:
            ledger.land(calls[0][0])

    def alone(call: Any, timeout: float | None) -> Any:
        return (together([call], timeout) or [None])[0]

    groups: _group_sync.Groups[Any, Any] = _group_sync.Groups(alone, together, name="stress", **BOUNDS)
    outcomes: dict[int, list[Any]] = {}

    def work(first: int) -> None:
        dice = random.Random(seed * 1000 + first)
        for number in range(first, first + 40):
            lane = dice.randrange(LANES)
            try:
                outcome = groups.submit(lane, (lane, number), dice.choice([None, None, 0.002, 0.005, 5]))
                outcome = AutoReconnect() if outcome is None else outcome
            except Exception as error:  # noqa: BLE001  # it is looked at
                outcome = error
            outcomes.setdefault(number, []).append(outcome)

    threads = [threading.Thread(target=work, args=(n * 40,), daemon=True) for n in range(24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads), "somebody hangs"
    groups.close()
    assert not groups._lanes
    told = ledger.check({n: [_known(o) for o in each] for n, each in outcomes.items()}, 24 * 40)
    assert min(told["int"], told["NotSent"], told["OutcomeUnknown"]) > 0, told


@pytest.mark.parametrize("seed", range(3))
def test_threads_interrupted_anywhere(seed: int) -> None:
    """A caller that is interrupted at any instruction, in the queue or in the lead, lets nobody hang."""
    script = Path(__file__).with_name("interrupt_worker.py")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
    done = subprocess.run(
        [sys.executable, script, str(seed)], capture_output=True, text=True, timeout=300, env=environment, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert int(done.stdout) > 100, "calls were answered"
