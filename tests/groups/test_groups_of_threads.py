"""Group commit among threads: who leads, interrupts, processes, and who is in the next group."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
import time
import weakref
from typing import TYPE_CHECKING, Any

import pytest
from pymongo.errors import AutoReconnect, OperationFailure

from mongopatterns._group_sync import Groups, _Caller, _Lane
from mongopatterns.errors import NotSent, OutcomeUnknown

from .conftest import PATIENCE, eventually

if TYPE_CHECKING:
    from .conftest import Threads


def test_the_most_patient_member_leads(threads: Threads) -> None:
    """A group is sent by its member with the longest time left, so that no deadline is that of another."""
    tickets = [threads.start("a")]
    tickets += [threads.start(f"b{seconds}", timeout=seconds) for seconds in (5, 30, 2)]
    threads.request(1).answer()
    assert threads.request(2).thread == threads.threads[2].ident
    tickets += [threads.start("c", timeout=5), threads.start("d"), threads.start("e", timeout=50)]
    threads.request(2).answer()
    assert threads.request(3).thread == threads.threads[5].ident
    threads.request(3).answer()
    assert [ticket.result(PATIENCE)[0] for ticket in tickets] == list("abbbcde")


def test_only_members_of_the_group_lead(threads: Threads) -> None:
    """Somebody more patient who is not in the next group does not send it."""
    threads.make(max_calls=2)
    tickets = [threads.start("a")]
    tickets += [threads.start(call, timeout=seconds) for call, seconds in (("b", 5), ("c", 20), ("d", 50))]
    threads.request(1).answer()
    assert threads.request(2).calls == ["b", "c"]
    assert threads.request(2).thread == threads.threads[2].ident
    threads.request(2).answer()
    threads.request(3).answer()
    assert [ticket.result(PATIENCE)[0] for ticket in tickets] == list("abcd")


def test_members_give_up_while_their_leader_is_held(threads: Threads) -> None:
    """A member's own time ends its wait, not that of its leader; the lane goes on when the answer comes."""
    tickets = [
        threads.start("a"),
        threads.start("b"),
        threads.start("c", timeout=0.75),
        threads.start("d", timeout=0.75),
    ]
    threads.request(1).answer()
    assert threads.request(2).calls == ["b", "c", "d"]
    for ticket in tickets[2:]:
        assert isinstance(ticket.exception(PATIENCE), OutcomeUnknown)
    later = threads.start("e")
    threads.request(2).answer()
    threads.request(3).answer()
    assert [tickets[1].result(PATIENCE), later.result(PATIENCE)] == ["b@0", "e@0"]
    threads.idle()


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_the_interrupt_of_a_lone_caller_hands_the_lane_on(threads: Threads, kind: type[BaseException]) -> None:
    """It stays what it is in its own thread, and those that waited behind it are sent."""
    first, *others = threads.wait("a", "b", "c")
    threads.request(1).fail(kind())
    threads.request(2).answer()
    assert type(first.exception(PATIENCE)) is kind
    assert [ticket.result(PATIENCE) for ticket in others] == ["b@0", "c@1"]
    threads.idle()


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_the_interrupt_of_a_leader_is_unknown_to_its_members(threads: Threads, kind: type[BaseException]) -> None:
    """The leader raises it; the members raise OutcomeUnknown because of it; those that waited are sent."""
    first, leader, member = threads.wait("a", "b", "c")
    threads.request(1).answer()
    request = threads.request(2)
    later = threads.wait("d", "e")
    request.fail(interrupt := kind())
    threads.request(3).answer()
    assert leader.exception(PATIENCE) is interrupt
    error = member.exception(PATIENCE)
    assert type(error) is OutcomeUnknown
    assert error.__cause__ is interrupt
    assert [ticket.result(PATIENCE) for ticket in [first, *later]] == ["a@0", "d@0", "e@1"]
    threads.idle()


@pytest.fixture
def interrupt() -> Any:
    """Interrupt the main thread, as Ctrl-C does, when a condition is met."""
    if not hasattr(signal, "pthread_kill"):
        pytest.fail("these tests need signals for threads")
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    helpers: list[threading.Thread] = []

    def arrange(condition: Any) -> None:
        def strike() -> None:
            eventually(condition)
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)  # type: ignore[arg-type]

        helpers.append(threading.Thread(target=strike, daemon=True))
        helpers[-1].start()

    yield arrange
    for helper in helpers:
        helper.join(PATIENCE)
    signal.signal(signal.SIGINT, before)


def test_ctrl_c_in_the_queue_is_not_sent(threads: Threads, interrupt: Any) -> None:
    """A waiting main thread can be interrupted: its call leaves the queue, and the others go without it."""
    first, second = threads.wait("a", "b")
    interrupt(lambda: len(threads.queue()) == 2)
    with pytest.raises(KeyboardInterrupt):
        threads.groups.submit("lane", "main", None)
    third = threads.start("c")
    threads.request(1).answer()
    threads.request(2).answer()
    assert [ticket.result(PATIENCE) for ticket in (first, second, third)] == ["a@0", "b@0", "c@1"]
    assert threads.sent == [["a"], ["b", "c"]]
    threads.idle()


def test_ctrl_c_in_flight_is_not_told(threads: Threads, interrupt: Any) -> None:
    """A main thread that is interrupted after its group was sent is gone; the others get their answers."""
    first, second = threads.wait("a", "b")
    eventually(lambda: len(threads.queue()) == 1)

    def strike() -> bool:
        # (whoever is answered may take its time to leave the queue)
        if len(threads.queue() or ()) == 2 and not threads.request(1).reply.done():
            threads.request(1).answer()
        return len(threads.requests) == 2

    interrupt(strike)
    with pytest.raises(KeyboardInterrupt):
        threads.groups.submit("lane", "main", None)
    assert threads.request(2).calls == ["b", "main"]
    threads.request(2).answer()
    assert [first.result(PATIENCE), second.result(PATIENCE)] == ["a@0", "b@0"]
    threads.idle()


def test_a_leader_out_of_time_passes_the_lead_on(threads: Threads, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever wakes up too late to lead raises NotSent, and another one leads; so does a member that is late."""
    tickets = [threads.start("a")]
    tickets += [threads.start(call, timeout=seconds) for call, seconds in (("b", 90), ("c", 50), ("d", 60), ("e", 70))]
    take = threads.groups._take
    late = list(threads.queue())[:2]

    def slow(state: Any, me: Any, members: Any) -> Any:
        for caller in late:  # as if this thread had slept through its own time and that of another one
            caller.until = time.monotonic() - 1
        return take(state, me, members)

    monkeypatch.setattr(threads.groups, "_take", slow)
    threads.request(1).answer()
    threads.request(2).answer()
    assert [type(ticket.exception(PATIENCE)) for ticket in tickets[1:3]] == [NotSent] * 2
    assert [ticket.result(PATIENCE) for ticket in (tickets[0], *tickets[3:])] == ["a@0", "d@0", "e@1"]
    assert threads.sent == [["a"], ["d", "e"]]
    assert threads.request(2).thread == threads.threads[4].ident
    threads.idle()


@pytest.mark.parametrize("place", ["_leave", "_longest", "wake"])
def test_an_interrupt_on_the_way_out_hands_the_lane_on(
    threads: Threads, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    """Whoever is interrupted as it leaves, before or after it wakes the next leader, leaves the lane in order."""
    owner: Any = _Caller if place == "wake" else threads.groups
    original = getattr(owner, place)
    struck: list[str] = []

    def interrupted(*args: Any) -> Any:
        if struck:
            return original(*args)
        struck.append(place)
        if place == "wake":
            original(*args)
        raise KeyboardInterrupt

    first, *others = threads.wait("a", "b", "c")
    monkeypatch.setattr(owner, place, interrupted)
    threads.request(1).answer()
    assert isinstance(first.exception(PATIENCE), KeyboardInterrupt)
    threads.request(2).answer()
    assert [ticket.result(PATIENCE) for ticket in others] == ["b@0", "c@1"]
    threads.idle()


def test_whoever_leaves_late_leaves_the_next_lane_alone(threads: Threads) -> None:
    """A caller that gave up, and runs again when its lane has been forgotten and begun anew, changes nothing there."""
    stale: _Lane[Any, Any] = _Lane()
    stale.leader = None
    first = threads.start("a")
    threads.groups._leave("lane", stale, _Caller(0))
    second = threads.start("b")
    assert list(threads.queue().values()) == ["b"]
    threads.request(1).answer()
    threads.request(2).answer()
    assert [first.result(PATIENCE), second.result(PATIENCE)] == ["a@0", "b@0"]
    threads.idle()


# ------------------------------------------------------------------------------------- who is in a group


def test_callers_that_call_again_are_in_the_next_group() -> None:
    """64 threads that call again and again make large groups, not small and large ones by turns."""
    sizes: list[int] = []

    def together(calls: list[Any], timeout: float | None) -> list[Any]:
        sizes.append(len(calls))
        time.sleep(0.002)  # a round trip
        return calls

    groups: Groups[Any, Any] = Groups(lambda call, timeout: together([call], timeout)[0], together, name="puppet")
    barrier = threading.Barrier(64)

    def caller() -> None:
        barrier.wait()
        for _ in range(20):
            groups.submit("lane", "a", None)

    callers = [threading.Thread(target=caller) for _ in range(64)]
    for each in callers:
        each.start()
    for each in callers:
        each.join(PATIENCE)
    assert sum(sizes) == 64 * 20
    assert len(sizes) < 40, sizes
    assert not groups._lanes


@pytest.mark.parametrize("timeout", [None, 60])
def test_two_threads_share(timeout: float | None) -> None:
    """Two threads that call again and again go together, with or without a timeout."""
    sizes: list[int] = []

    def together(calls: list[Any], timeout: float | None) -> list[Any]:
        sizes.append(len(calls))
        time.sleep(0.001)  # a round trip
        return calls

    groups: Groups[Any, Any] = Groups(lambda call, timeout: together([call], timeout)[0], together, name="puppet")
    callers = [
        threading.Thread(target=lambda: [groups.submit("lane", "a", timeout) for _ in range(100)]) for _ in range(2)
    ]
    for each in callers:
        each.start()
    for each in callers:
        each.join(PATIENCE)
    assert sum(sizes) == 200
    assert len(sizes) < 160, sizes


@pytest.mark.parametrize("error", [AutoReconnect("gone"), OperationFailure("no", 14)], ids=lambda e: type(e).__name__)
def test_errors_keep_nobody_alive(no_collector: None, error: Exception) -> None:
    """When callers have handled their errors, nothing that they sent is kept by a cycle of frames and errors."""

    class Call:
        pass

    calls = weakref.WeakSet[Any]()
    go = threading.Event()

    def alone(call: Any, timeout: float | None) -> Any:
        assert go.wait(PATIENCE)

    def together(calls: list[Any], timeout: float | None) -> list[Any]:
        raise error

    groups: Groups[Any, Any] = Groups(alone, together, name="puppet")

    def caller() -> None:
        call = Call()
        calls.add(call)
        with contextlib.suppress(OutcomeUnknown, OperationFailure):
            groups.submit("lane", call, None)

    threads = [threading.Thread(target=caller) for _ in range(4)]
    for thread in threads:
        thread.start()
    eventually(lambda: "lane" in groups._lanes and len(groups._lanes["lane"].queue) == 3)
    go.set()
    for thread in threads:
        thread.join(PATIENCE)
    error.__traceback__ = None  # the test holds it
    assert len(calls) == 0


# ------------------------------------------------------------------------------------- close, child processes


def test_an_interrupted_close_loses_nothing(threads: Threads, interrupt: Any) -> None:
    """`close` that is interrupted has refused new calls; those accepted are answered."""
    tickets = threads.wait("a", "b")
    interrupt(lambda: threads.groups._closers)
    with pytest.raises(KeyboardInterrupt):
        threads.groups.close()
    again = threads.start_close()
    threads.request(1).answer()
    threads.request(2).answer()
    assert [ticket.result(PATIENCE) for ticket in tickets] == ["a@0", "b@0"]
    again.result(PATIENCE)
    threads.idle()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork on this system")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_child_process_inherits_no_lane(threads: Threads) -> None:
    """A child that was forked while requests were in flight, and the lock was held, calls on the same lane."""
    tickets = threads.wait("a", "b")
    results: Any = multiprocessing.get_context("fork").SimpleQueue()

    def child() -> None:
        threads.automatic = True
        results.put(threads.groups.submit("lane", "child", None))
        threads.groups.close()

    process = multiprocessing.get_context("fork").Process(target=child)
    with threads.groups._lock:
        process.start()
    process.join(PATIENCE)
    hangs = process.is_alive()
    if hangs:
        process.kill()
        process.join()
    assert not hangs
    assert process.exitcode == 0
    assert results.get() == "child@0"
    threads.request(1).answer()
    threads.request(2).answer()
    assert [ticket.result(PATIENCE) for ticket in tickets] == ["a@0", "b@0"]
