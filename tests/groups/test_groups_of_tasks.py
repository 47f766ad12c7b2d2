"""Group commit among tasks: cancellation, event loops, and who is in the next group."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import weakref
from typing import TYPE_CHECKING, Any

import pytest
from pymongo.errors import AutoReconnect

from mongopatterns._group_async import Groups
from mongopatterns.errors import NotSent, OutcomeUnknown, UsageError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from .conftest import Tasks


class Puppet:
    """A server that answers a request when the test says so, in the test's own event loop."""

    def __init__(self, **options: Any) -> None:
        self.sent: list[list[Any]] = []
        self.timeouts: list[float | None] = []
        self.gates: list[asyncio.Future[None]] = []
        self.free = False
        self.groups: Groups[Any, Any] = Groups(self.alone, self.together, name="puppet", **options)

    async def alone(self, call: Any, timeout: float | None) -> Any:
        return (await self.together([call], timeout))[0]

    async def together(self, calls: list[Any], timeout: float | None) -> list[Any]:
        self.sent.append(calls)
        self.timeouts.append(timeout)
        gate = asyncio.get_running_loop().create_future()
        self.gates.append(gate)
        if self.free:
            await asyncio.sleep(0)
        else:
            await gate
        return [f"{call}!" for call in calls]

    def start(self, *calls: Any, timeout: float | None = None) -> list[asyncio.Task[Any]]:
        return [asyncio.create_task(self.groups.submit("lane", call, timeout)) for call in calls]

    def idle(self) -> bool:
        lanes = self.groups._lanes
        return lanes is None or not (lanes.queues or lanes.deadlines or lanes.runners or lanes.closers)

    async def end(self, tasks: list[asyncio.Task[Any]]) -> list[Any]:
        """Let everything go, and return what came of it."""
        self.free = True
        for gate in self.gates:
            if not gate.done():
                gate.set_result(None)
        found = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 20)
        await turns()
        assert self.idle()
        return found


async def turns(count: int = 12) -> None:
    """Let the event loop turn until everything that can go on has done so."""
    for _ in range(count):
        await asyncio.sleep(0)


# ------------------------------------------------------------------------------------------- cancellation


async def test_a_call_cancelled_in_the_queue_is_not_sent() -> None:
    """It leaves the queue at once, raises CancelledError, and the others go without it."""
    puppet = Puppet()
    tasks = puppet.start("a", "b", "c")
    await turns()
    tasks[1].cancel()
    await turns()
    assert tasks[1].cancelled()
    assert len(puppet.groups._lanes.queues["lane"]) == 1  # type: ignore[union-attr]
    found = await puppet.end(tasks)
    assert (found[0], found[2]) == ("a!", "c!")
    assert puppet.sent == [["a"], ["c"]]


async def test_a_call_cancelled_as_the_group_is_made_up_is_not_sent() -> None:
    """It is enough to be cancelled before the group is sent, even if the caller has not run since."""
    puppet = Puppet()
    tasks = puppet.start("a", "b", "c")
    await turns()
    puppet.gates[0].set_result(None)
    while not tasks[0].done():
        await asyncio.sleep(0)
    tasks[1].cancel()  # the runner is next in the loop
    await turns()
    assert puppet.sent == [["a"], ["c"]]
    await puppet.end(tasks)


async def test_all_cancelled_in_the_queue_send_nothing() -> None:
    """When everybody who waited has given up, the lane is idle after the request in flight."""
    puppet = Puppet()
    tasks = puppet.start("a", "b", "c")
    await turns()
    tasks[1].cancel()
    tasks[2].cancel()
    puppet.gates[0].set_result(None)
    await turns()
    assert puppet.sent == [["a"]]
    assert puppet.idle()
    await puppet.end(tasks)


async def test_a_call_cancelled_in_flight_is_not_told() -> None:
    """Its group goes on in a task of nobody, and the other members get their own answers."""
    puppet = Puppet()
    tasks = puppet.start("a", "b", "c", "d")
    await turns()
    puppet.gates[0].set_result(None)
    await turns()
    assert puppet.sent[1] == ["b", "c", "d"]
    tasks[1].cancel()
    tasks[3].cancel()
    await turns()
    assert tasks[1].cancelled()
    assert tasks[3].cancelled()
    assert not puppet.gates[1].done()
    assert (await puppet.end(tasks))[2] == "c!"


async def test_a_lone_caller_cancelled_in_flight_hands_the_lane_on() -> None:
    """CancelledError stays what it is, and those that waited behind it are sent."""
    puppet = Puppet()
    tasks = puppet.start("a", "b", "c")
    await turns()
    tasks[0].cancel()
    await turns()
    assert tasks[0].cancelled()
    assert puppet.sent == [["a"], ["b", "c"]]
    assert (await puppet.end(tasks))[1:] == ["b!", "c!"]


async def test_a_cancelled_call_with_a_timeout_leaves_no_timer() -> None:
    """Neither a cancelled caller nor one that was answered leaves a deadline behind."""
    puppet = Puppet()
    tasks = puppet.start("a", "b", "c", timeout=60)
    await turns()
    assert len(puppet.groups._lanes.deadlines) == 2  # type: ignore[union-attr]
    tasks[1].cancel()
    await turns()
    assert len(puppet.groups._lanes.deadlines) == 1  # type: ignore[union-attr]
    await puppet.end(tasks)


async def test_cancelling_close_loses_nothing() -> None:
    """`close` that is cancelled has refused new calls; those accepted are answered."""
    puppet = Puppet()
    tasks = puppet.start("a", "b", "c")
    await turns()
    closing = asyncio.create_task(puppet.groups.close())
    again = asyncio.create_task(puppet.groups.close())
    await turns()
    closing.cancel()
    await turns()
    assert closing.cancelled()
    assert not again.done()
    with pytest.raises(UsageError, match="puppet"):
        await puppet.groups.submit("other", "d", None)
    assert await puppet.end(tasks) == ["a!", "b!", "c!"]
    await again


async def test_the_end_of_our_own_task_leaves_nobody_waiting() -> None:
    """Whoever cancels all tasks but the callers: the members of the group do not know, and the rest are sent."""
    puppet = Puppet(max_calls=2)
    tasks = puppet.start("a", "b", "c", "d", "e")
    await turns()
    puppet.gates[0].set_result(None)
    await turns()
    runners = list(puppet.groups._lanes.runners)  # type: ignore[union-attr]
    for runner in runners:
        runner.cancel()
    await turns()
    assert [runner.cancelled() for runner in runners] == [True]
    assert puppet.sent == [["a"], ["b", "c"], ["d", "e"]]
    found = await puppet.end(tasks)
    assert found[0] == "a!"
    assert found[3:] == ["d!", "e!"]
    assert [type(each) for each in found[1:3]] == [OutcomeUnknown] * 2
    assert isinstance(found[1].__cause__, asyncio.CancelledError)


async def test_a_group_runs_in_a_task_of_its_own() -> None:
    """No member of a group sends it, so no member's cancellation is that of the command."""
    seen: list[Any] = []
    puppet = Puppet()

    async def together(calls: list[Any], timeout: float | None) -> list[Any]:
        seen.append(asyncio.current_task())
        return calls

    puppet.groups = Groups(puppet.alone, together, name="puppet")
    tasks = puppet.start("a", "b", "c")
    await turns()
    await puppet.end(tasks)
    assert len(seen) == 1
    assert seen[0] not in tasks


# ------------------------------------------------------------------------------------- who is in a group


def gather(call: Callable[[], Awaitable[Any]]) -> Awaitable[Any]:
    return asyncio.gather(call(), asyncio.sleep(0))


def wait_for(call: Callable[[], Awaitable[Any]]) -> Awaitable[Any]:
    return asyncio.wait_for(call(), 60)


def task(call: Callable[[], Awaitable[Any]]) -> Awaitable[Any]:
    return asyncio.ensure_future(call())


@pytest.mark.parametrize(
    "way", [lambda call: call(), wait_for, gather, task], ids=["plain", "wait_for", "gather", "task"]
)
async def test_callers_that_call_again_are_in_the_next_group(way: Callable[[Any], Awaitable[Any]]) -> None:
    """64 callers that call again and again make groups of 64, not of 1 and 63 by turns."""
    puppet = Puppet()
    puppet.free = True

    async def caller() -> None:
        for _ in range(20):
            await way(lambda: puppet.groups.submit("lane", "a", None))

    await puppet.end([asyncio.create_task(caller()) for _ in range(64)])
    assert sum(map(len, puppet.sent)) == 64 * 20
    assert len(puppet.sent) <= 22


# ------------------------------------------------------------------------------------------------ the rest


async def test_time_that_ran_out_behind_a_busy_loop_is_not_sent() -> None:
    """A call is not sent after its time, even where the event loop was too busy to run the timer."""
    puppet = Puppet()
    loop = asyncio.get_running_loop()

    async def busy() -> None:
        await puppet.groups.submit("lane", "a", None)
        late = loop.time() + 0.02  # the task that sends the group is in the loop already; the timer comes behind it
        while loop.time() < late:
            pass

    tasks = [asyncio.create_task(busy()), *puppet.start("b", timeout=0.01), *puppet.start("c", timeout=60)]
    await turns(2)
    puppet.gates[0].set_result(None)
    found = await puppet.end(tasks)
    assert type(found[1]) is NotSent
    assert puppet.sent == [["a"], ["c"]]


def test_every_event_loop_has_lanes_of_its_own(caplog: pytest.LogCaptureFixture) -> None:
    """Groups made at import serve one `asyncio.run` after the other, also when one ended in the middle of calls."""
    puppet = Puppet()

    async def abandoned() -> None:
        puppet.start("a", "b", "c")
        await turns()

    async def used() -> list[Any]:
        return await puppet.end(puppet.start("d", "e"))

    asyncio.run(abandoned())
    gc.collect()
    assert caplog.records == [], "a task was begun as the loop ended"
    assert puppet.sent == [["a"]]
    puppet.gates.clear()
    assert asyncio.run(used()) == ["d!", "e!"]
    asyncio.run(puppet.groups.close())


def test_a_loop_that_dies_under_its_callers_is_no_trouble() -> None:
    """Callers whose event loop was closed without being run to the end start nothing on it."""
    puppet = Puppet()
    loop = asyncio.new_event_loop()

    async def begin() -> list[asyncio.Task[Any]]:
        tasks = puppet.start("a", "b")
        await turns()
        return tasks

    tasks = loop.run_until_complete(begin())
    loop.close()
    for each in tasks:
        each._log_destroy_pending = False  # type: ignore[attr-defined]
        each.get_coro().close()  # type: ignore[union-attr]
    assert puppet.sent == [["a"]]
    assert puppet.idle()


async def test_errors_keep_nobody_alive(no_collector: None) -> None:
    """When callers have handled their errors, nothing that they sent is kept by a cycle of frames and errors."""

    class Call:
        pass

    calls = weakref.WeakSet[Any]()
    puppet = Puppet()

    async def together(calls: list[Any], timeout: float | None) -> list[Any]:
        raise AutoReconnect("gone")

    puppet.groups = Groups(puppet.alone, together, name="puppet")

    async def caller() -> None:
        call = Call()
        calls.add(call)
        with contextlib.suppress(OutcomeUnknown):
            await puppet.groups.submit("lane", call, None)
            pytest.fail("it was answered")

    first = puppet.start("a")
    tasks = [asyncio.create_task(caller()) for _ in range(3)]
    await turns()
    assert len(calls) == 3
    await puppet.end([*first, *tasks])
    del first, tasks
    assert len(calls) == 0


def test_the_world_of_tasks_is_quiet(tasks: Tasks) -> None:
    """Nobody asks for an error that was told to a caller, and no task is lost: the loop has nothing to complain of."""
    tickets = tasks.wait("a", "b", "c")
    tasks.request(1).fail(AutoReconnect("gone"))
    tickets[1].cancel()
    tasks.request(2).fail(AutoReconnect("gone"))
    assert isinstance(tickets[2].exception(20), OutcomeUnknown)
    assert isinstance(tickets[0].exception(20), OutcomeUnknown)
    gc.collect()
