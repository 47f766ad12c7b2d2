"""Reads of one turn of the event loop: what is sent together, in whose context, and who hears of what."""

from __future__ import annotations

import asyncio
import gc
import weakref
from contextvars import ContextVar, copy_context
from typing import TYPE_CHECKING, Any

import pymongo
import pytest
from pymongo.errors import AutoReconnect, NetworkTimeout

from mongopatterns import UsageError
from mongopatterns._kept import Kept
from mongopatterns._ticks_async import _OF_DEADLINES, Ticks

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

WHO: ContextVar[str] = ContextVar("WHO", default="nobody")
WHERE: ContextVar[str] = ContextVar("WHERE", default="nowhere")


class Puppet:
    """A server that answers a request when the test says so."""

    def __init__(self) -> None:
        self.sent: list[list[Any]] = []
        self.timeouts: list[float | None] = []
        self.seen: list[tuple[str, str]] = []
        self.deadlines: list[int] = []
        self.gates: list[asyncio.Future[Any]] = []
        self.free = True
        self.ticks: Ticks[Any, Any] = Ticks(self.fetch)
        self.kept: Kept[Any, Any] = Kept(0)

    async def fetch(self, calls: dict[Any, Any], timeout: float | None) -> Mapping[Any, Any]:
        self.sent.append(list(calls.values()))
        self.timeouts.append(timeout)
        self.seen.append((WHO.get(), WHERE.get()))
        self.deadlines.append(len(_OF_DEADLINES.intersection(copy_context())))
        if not self.free:
            gate = asyncio.get_running_loop().create_future()
            self.gates.append(gate)
            if error := await gate:
                raise error
        return {key: f"{call}!" for key, call in calls.items()}

    async def ask(self, *calls: str, timeout: float | None = None, kept: Kept[Any, Any] | None = None) -> list[str]:
        answers = await self.ticks.ask({call: call for call in calls}, kept or self.kept, timeout)
        return [answers[call] for call in calls]

    def start(self, *calls: str, timeout: float | None = None, kept: Any = None) -> list[asyncio.Task[Any]]:
        return [asyncio.create_task(self.ask(call, timeout=timeout, kept=kept)) for call in calls]


async def turns(number: int = 10) -> None:
    for _ in range(number):
        await asyncio.sleep(0)


async def together(*calls: Awaitable[Any]) -> list[Any]:
    return await asyncio.wait_for(asyncio.gather(*calls, return_exceptions=True), 20)


# What travels together ---------------------------------------------------------------------------------------


async def test_what_is_asked_for_in_one_turn_is_one_request() -> None:
    """Any number of callers that come together share a request, and a key that several want is in it once."""
    puppet = Puppet()
    found = await together(puppet.ask("a"), puppet.ask("b", "a"), *(puppet.ask(f"c{n}") for n in range(100)))
    assert len(puppet.sent) == 1
    assert sorted(puppet.sent[0]) == sorted(["a", "b", *(f"c{n}" for n in range(100))])
    assert found[:3] == [["a!"], ["b!", "a!"], ["c0!"]]


async def test_callers_in_tasks_of_their_own_are_in_it() -> None:
    """A caller that comes one turn later, because something made a task for it, travels along."""
    puppet = Puppet()

    async def resolve(key: str) -> list[str]:
        return await asyncio.create_task(puppet.ask(key))

    await together(puppet.ask("a"), resolve("b"), asyncio.wait_for(puppet.ask("c"), 5))
    assert [sorted(calls) for calls in puppet.sent] == [["a", "b", "c"]]


async def test_calls_one_after_the_other_are_as_many_requests() -> None:
    """Who waits for an answer before asking for the next shares nothing: there is nobody to share with."""
    puppet = Puppet()
    for key in "aab":
        await puppet.ask(key)
    assert puppet.sent == [["a"], ["a"], ["b"]]


async def test_a_request_that_has_left_takes_nobody() -> None:
    """Without a memory a call is never answered by a read that began before it."""
    puppet = Puppet()
    puppet.free = False
    first = puppet.start("a")
    await turns()
    second = puppet.start("a")
    await turns()
    assert puppet.sent == [["a"], ["a"]]
    for gate in puppet.gates:
        gate.set_result(None)
    assert await together(*first, *second) == [["a!"], ["a!"]]


# Errors and cancellation -------------------------------------------------------------------------------------


async def test_an_error_reaches_everybody_once() -> None:
    """Each caller gets an equal error of its own, with the line that raised it; the next request is a new one."""
    puppet = Puppet()
    puppet.free = False
    kept: Kept[Any, Any] = Kept(9)
    tasks = puppet.start("a", "b", "a", kept=kept)
    await turns()
    puppet.gates[0].set_result(AutoReconnect("gone", ["x"]))
    found = await together(*tasks)
    assert [(type(error), str(error), error.errors) for error in found] == [(AutoReconnect, "gone", ["x"])] * 3
    assert len({id(error) for error in found}) == 3
    assert kept.look("ab") == ({}, {})
    puppet.free = True
    assert await puppet.ask("a", kept=kept) == ["a!"]


async def test_an_error_in_reading_the_answer_leaves_nobody_waiting() -> None:
    """An answer without a key, or an error that is nobody's, ends every call."""
    puppet = Puppet()
    fetch: Callable[..., Any]

    async def fetch(calls: Any, timeout: Any) -> Any:
        return {"a": 1}

    puppet.ticks = Ticks(fetch)
    found = await together(*puppet.start("a", "b"))
    assert found[0] == [1]
    assert isinstance(found[1], KeyError)


async def test_a_cancelled_caller_leaves_the_others_alone() -> None:
    """Before and after the request has left: whoever is cancelled is, and the others are answered."""
    puppet = Puppet()
    puppet.free = False
    early, *rest = puppet.start("a", "b", "c")
    await asyncio.sleep(0)
    early.cancel()
    await turns()
    rest[0].cancel()
    await turns()
    assert rest[0].cancelled()
    puppet.gates[0].set_result(None)
    found = await together(early, *rest)
    assert [type(each) for each in found[:2]] == [asyncio.CancelledError] * 2
    assert found[2] == ["c!"]
    assert len(puppet.sent) == 1


async def test_nothing_is_sent_for_nobody() -> None:
    """When every caller was cancelled before the request left, it does not leave."""
    puppet = Puppet()
    kept: Kept[Any, Any] = Kept(9)
    tasks = puppet.start("a", "b", kept=kept)
    await asyncio.sleep(0)
    for task in tasks:
        task.cancel()
    await turns()
    assert all(task.cancelled() for task in tasks)
    assert puppet.sent == []
    assert kept.look("ab") == ({}, {})
    assert await puppet.ask("a", kept=kept) == ["a!"]


async def test_the_end_of_our_own_task_leaves_nobody_waiting() -> None:
    """Whoever cancels all tasks but the callers has cancelled what they wait for."""
    puppet = Puppet()
    puppet.free = False
    tasks = puppet.start("a", "b")
    await turns()
    (sender,) = puppet.ticks._tasks
    sender.cancel()
    found = await together(*tasks)
    assert [type(each) for each in found] == [asyncio.CancelledError] * 2
    assert puppet.ticks._tasks == set()


# Timeouts and contexts ---------------------------------------------------------------------------------------


async def test_a_timeout_ends_its_own_caller() -> None:
    """Whose time runs out hears so in the driver's words; the request goes on for the others."""
    puppet = Puppet()
    puppet.free = False
    quick, *rest = *puppet.start("a", timeout=0.01), *puppet.start("a", "b")
    with pytest.raises(NetworkTimeout) as caught:
        await quick
    assert caught.value.timeout
    puppet.gates[0].set_result(None)
    assert await together(*rest) == [["a!"], ["b!"]]
    assert puppet.timeouts == [None]


async def test_the_longest_timeout_bounds_the_request() -> None:
    """A request has as long as the last of its callers waits, and no bound if one of them has none."""
    puppet = Puppet()
    await together(*puppet.start("a", timeout=30), *puppet.start("b", timeout=60), *puppet.start("c", timeout=5))
    await together(*puppet.start("a", timeout=30), *puppet.start("b"))
    assert puppet.timeouts[0] == pytest.approx(60, abs=1)
    assert puppet.timeouts[1] is None


@pytest.mark.parametrize("timeout", [0, -1, True, "5", float("nan"), 10**9])
async def test_a_bad_timeout_is_refused(timeout: Any) -> None:
    """It is a mistake of one caller, and nothing is sent for it."""
    puppet = Puppet()
    with pytest.raises(UsageError, match="timeout"):
        await puppet.ask("a", timeout=timeout)
    await turns()
    assert puppet.sent == []


async def test_a_deadline_around_one_caller_does_not_hit_the_others() -> None:
    """`pymongo.timeout()` lives in the context: the request has that of no caller, whoever came first."""
    puppet = Puppet()

    async def hurried() -> list[str]:
        with pymongo.timeout(0.001):
            return await puppet.ask("a")

    assert await together(hurried(), puppet.ask("b")) == [["a!"], ["b!"]]
    with pymongo.timeout(0.001):
        assert await together(puppet.ask("a"), puppet.ask("b")) == [["a!"], ["b!"]]
    assert len(puppet.sent) == 2
    assert puppet.deadlines == [0, 0]
    assert len(_OF_DEADLINES) >= 1


async def test_a_request_has_the_context_that_its_callers_share() -> None:
    """What surrounds all callers surrounds the request; what is one caller's own does not."""
    puppet = Puppet()

    async def as_somebody(who: str) -> list[str]:
        WHO.set(who)
        return await puppet.ask(who)

    WHERE.set("here")
    await together(as_somebody("ann"), as_somebody("bob"))
    await as_somebody("ann")
    assert puppet.seen == [("nobody", "here"), ("ann", "here")]


# What is kept ------------------------------------------------------------------------------------------------


async def test_a_request_under_way_is_joined_where_answers_are_kept() -> None:
    """In one scope a key is asked for once, also by those who come while it is under way; another scope asks anew."""
    puppet = Puppet()
    puppet.free = False
    kept: Kept[Any, Any] = Kept(9)
    first = puppet.start("a", kept=kept)
    await turns()
    later = [asyncio.create_task(puppet.ask("a", "b", kept=kept)), *puppet.start("a", kept=Kept(9))]
    await turns()
    assert puppet.sent[0] == ["a"]
    assert sorted(puppet.sent[1]) == ["a", "b"]
    assert not later[0].done()
    for gate in puppet.gates[::-1]:
        gate.set_result(None)
        await turns()
    assert await together(*first, *later) == [["a!"], ["a!", "b!"], ["a!"]]
    assert await puppet.ask("b", "a", kept=kept) == ["b!", "a!"]
    assert len(puppet.sent) == 2


async def test_a_request_that_may_end_too_early_is_not_joined() -> None:
    """Who has longer than a request under way starts one of its own, and is not hit by the timeout of others."""
    puppet = Puppet()
    puppet.free = False
    kept: Kept[Any, Any] = Kept(9)
    short = puppet.start("a", timeout=30, kept=kept)
    await turns()
    shorter, longer = puppet.start("a", timeout=20, kept=kept), puppet.start("a", timeout=60, kept=kept)
    endless = puppet.start("a", kept=kept)
    await turns()
    assert puppet.sent == [["a"], ["a"]]
    assert puppet.timeouts == [pytest.approx(30, abs=1), None]
    puppet.gates[0].set_result(AutoReconnect("late"))
    puppet.gates[1].set_result(None)
    found = await together(*short, *shorter, *longer, *endless)
    assert [type(each) for each in found] == [AutoReconnect, AutoReconnect, list, list]
    assert kept.look("a") == ({"a": "a!"}, {})


async def test_one_who_waits_for_two_requests_hears_of_an_error_in_either() -> None:
    """A call whose keys are under way in several requests ends when one of them fails, and leaves nothing behind."""
    puppet = Puppet()
    puppet.free = False
    kept: Kept[Any, Any] = Kept(9)
    tasks = []
    for key in "ab":
        tasks += puppet.start(key, kept=kept)
        await turns()
    both = asyncio.create_task(puppet.ask("a", "b", kept=kept))
    await turns()
    assert len(puppet.sent) == 2
    puppet.gates[1].set_result(AutoReconnect("gone"))
    with pytest.raises(AutoReconnect):
        await both
    puppet.gates[0].set_result(AutoReconnect("gone, too"))
    assert [type(each) for each in await together(*tasks)] == [AutoReconnect] * 2


async def test_what_was_cleared_under_way_is_not_kept() -> None:
    """Who waits is answered, and the next one asks again."""
    puppet = Puppet()
    puppet.free = False
    kept: Kept[Any, Any] = Kept(9)
    tasks = puppet.start("a", kept=kept)
    await turns()
    kept.clear("a")
    puppet.gates[0].set_result(None)
    assert await together(*tasks) == [["a!"]]
    puppet.free = True
    await puppet.ask("a", kept=kept)
    assert puppet.sent == [["a"], ["a"]]


# Event loops and what is left --------------------------------------------------------------------------------


def test_another_event_loop_starts_anew() -> None:
    """Whoever waited on a loop that has ended, before or after its request left, stands in nobody's way."""
    puppet = Puppet()
    kept: Kept[Any, Any] = Kept(9)

    async def leave(turned: int) -> None:
        puppet.start("a", kept=kept)
        await turns(turned)

    for turned in (0, 1, 2, 3):
        puppet.free = False
        asyncio.run(leave(turned))
        puppet.free = True
        assert asyncio.run(puppet.ask("a", kept=kept)) == ["a!"]
        kept.clear("a")
    assert puppet.ticks._tasks == set()


async def test_nothing_holds_what_is_over() -> None:
    """Errors and answers are freed with their last user, without the garbage collector."""

    class Failure(Exception):
        pass

    puppet = Puppet()
    puppet.free = False
    seen: list[weakref.ref[Any]] = []

    async def caller() -> None:
        try:
            await puppet.ask("a", timeout=30)
        except Failure as error:
            seen.append(weakref.ref(error))

    gc.collect()
    gc.disable()
    try:
        tasks = [asyncio.create_task(caller()) for _ in range(3)]
        await turns()
        puppet.gates.pop().set_result(Failure())
        await together(*tasks)
        tasks.clear()
        await turns()
        assert [reference() for reference in seen] == [None] * 3
    finally:
        gc.enable()
    assert puppet.ticks._open is None


def test_another_loop_has_a_request_of_its_own() -> None:
    """What one loop has begun to gather is sent by it, whatever another loop does meanwhile."""
    puppet = Puppet()

    async def begin() -> asyncio.Task[Any]:
        task = asyncio.create_task(puppet.ask("a"))
        await asyncio.sleep(0)
        return task

    one, other = asyncio.new_event_loop(), asyncio.new_event_loop()
    try:
        begun = one.run_until_complete(begin())
        assert other.run_until_complete(puppet.ask("b")) == ["b!"]
        assert puppet.sent == [["b"]]
        assert one.run_until_complete(begun) == ["a!"]
    finally:
        one.close()
        other.close()
    assert puppet.sent == [["b"], ["a"]]
