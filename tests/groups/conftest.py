"""Group commit is tested in both worlds by one suite: callers are tasks or threads, and the server is a puppet.

The claims are about who waits and who is woken, so the two functions that `Groups` is given do what the test tells
them. A test itself is plain code: the event loop of the asynchronous world runs in a thread.
"""

from __future__ import annotations

import asyncio
import contextvars
import gc
import threading
import time
from abc import ABC, abstractmethod
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

import pytest

from mongopatterns import _group_async, _group_sync

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator, Sequence

PATIENCE = 20.0  # seconds after which a test is sure that something hangs
WHO: contextvars.ContextVar[str] = contextvars.ContextVar("WHO", default="nobody")


def eventually(condition: Callable[[], Any], what: str = "it") -> Any:
    """Poll until `condition` is true, and return what it returned."""
    give_up = time.monotonic() + PATIENCE
    while not (value := condition()):
        assert time.monotonic() < give_up, f"waited for {what}"
        time.sleep(0.001)
    return value


class Request:
    """What was sent: by itself or together, with which timeout, in whose context; it waits for its answer."""

    def __init__(self, kind: str, calls: Sequence[Any], timeout: float | None) -> None:
        self.kind = kind
        self.calls = list(calls)
        self.timeout = timeout
        self.context = WHO.get()
        self.thread = threading.get_ident()
        self.reply: Future[Any] = Future()

    def answer(self, answers: Any = None) -> None:
        """Answer each call with what it is and where it stood, or with what is given."""
        self.reply.set_result([f"{call}@{n}" for n, call in enumerate(self.calls)] if answers is None else answers)

    def fail(self, error: BaseException) -> None:
        """Raise `error`; as a result, because an event loop converts some exceptions of such futures."""
        self.reply.set_result(error)


def outcome(reply: Any) -> Any:
    if isinstance(reply, BaseException):
        raise reply
    return reply


class World(ABC):
    """Callers of one kind, and the puppet that they call."""

    name: str
    groups: Any

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.automatic = False

    def receive(self, kind: str, calls: Sequence[Any], timeout: float | None) -> Request:
        request = Request(kind, calls, timeout)
        self.requests.append(request)
        if self.automatic:
            request.answer()
        return request

    def request(self, number: int) -> Request:
        """Wait until so many requests were sent, and return the last of them."""
        eventually(lambda: len(self.requests) >= number, f"request {number}")
        return self.requests[number - 1]

    @property
    def sent(self) -> list[list[Any]]:
        return [request.calls for request in self.requests]

    @abstractmethod
    def start(self, call: Any, *, lane: Any = "lane", timeout: float | None = None, who: str = "nobody") -> Future[Any]:
        """Start a caller, and return when it is in flight or waits."""

    @abstractmethod
    def start_close(self) -> Future[None]:
        """Start to close."""

    @abstractmethod
    def queue(self, lane: Any = "lane") -> Any:
        """Return who waits on a lane; None if it is idle."""

    @abstractmethod
    def make(self, **options: Any) -> Any:
        """Make `groups` anew with these options."""

    @abstractmethod
    def stop(self) -> None:
        """End everything."""

    def wait(self, *calls: Any, lane: Any = "lane", timeout: float | None = None) -> list[Future[Any]]:
        """Start callers one after the other behind a request in flight, so that their order is known."""
        return [self.start(call, lane=lane, timeout=timeout) for call in calls]

    def idle(self) -> None:
        """Wait until there is no lane."""
        eventually(lambda: not self.lanes(), "idle lanes")

    @abstractmethod
    def lanes(self) -> Any:
        """Return what is remembered of lanes."""

    @abstractmethod
    def closers(self) -> int:
        """Tell how many wait for the end of `close`."""


class Tasks(World):
    """Callers are tasks."""

    name = "tasks"

    def __init__(self) -> None:
        super().__init__()
        self.noise: list[dict[str, Any]] = []
        self.loop = asyncio.new_event_loop()
        self.loop.set_exception_handler(lambda _, context: self.noise.append(context))
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()
        self.make()

    async def alone(self, call: Any, timeout: float | None) -> Any:
        return outcome(await asyncio.wrap_future(self.receive("alone", [call], timeout).reply))[0]

    async def together(self, calls: list[Any], timeout: float | None) -> Any:
        return outcome(await asyncio.wrap_future(self.receive("together", calls, timeout).reply))

    def make(self, **options: Any) -> Any:
        self.groups = _group_async.Groups[Any, Any](self.alone, self.together, name="puppet", **options)
        return self.groups

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(PATIENCE)

    def start(self, call: Any, *, lane: Any = "lane", timeout: float | None = None, who: str = "nobody") -> Future[Any]:
        WHO.set(who)  # the task's context is a copy of the one it is asked for in
        before = self.size(lane)
        ticket = asyncio.run_coroutine_threadsafe(self.groups.submit(lane, call, timeout), self.loop)
        WHO.set("nobody")
        eventually(lambda: ticket.done() or self.size(lane) != before, "a caller to start")
        return ticket

    def size(self, lane: Any) -> tuple[int, int]:
        return len(self.requests), len(self.queue(lane) or ())

    def start_close(self) -> Future[None]:
        return asyncio.run_coroutine_threadsafe(self.groups.close(), self.loop)

    def lanes(self) -> Any:
        lanes = self.groups._lanes
        return [] if lanes is None else [*lanes.queues, *lanes.deadlines, *lanes.runners, *lanes.closers]

    def closers(self) -> int:
        return len(self.groups._lanes.closers)

    def queue(self, lane: Any = "lane") -> Any:
        return self.groups._lanes.queues.get(lane) if self.groups._lanes else None

    def stop(self) -> None:
        async def rest() -> int:
            tasks = asyncio.all_tasks() - {asyncio.current_task()}
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            return len(tasks)

        left = self.run(rest())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(PATIENCE)
        self.loop.close()
        assert left == 0, "tasks were left"
        assert self.noise == []


class Threads(World):
    """Callers are threads."""

    name = "threads"

    def __init__(self) -> None:
        super().__init__()
        self.threads: list[threading.Thread] = []
        self.make()

    def alone(self, call: Any, timeout: float | None) -> Any:
        return outcome(self.receive("alone", [call], timeout).reply.result(PATIENCE))[0]

    def together(self, calls: list[Any], timeout: float | None) -> Any:
        return outcome(self.receive("together", calls, timeout).reply.result(PATIENCE))

    def make(self, **options: Any) -> Any:
        self.groups = _group_sync.Groups[Any, Any](self.alone, self.together, name="puppet", **options)
        return self.groups

    def spawn(self, function: Callable[[], Any]) -> Future[Any]:
        ticket: Future[Any] = Future()

        def work() -> None:
            try:
                ticket.set_result(function())
            except BaseException as error:  # noqa: BLE001  # the test looks at it
                ticket.set_exception(error)

        thread = threading.Thread(target=work, daemon=True)
        self.threads.append(thread)
        thread.start()
        return ticket

    def start(self, call: Any, *, lane: Any = "lane", timeout: float | None = None, who: str = "nobody") -> Future[Any]:
        before = self.size(lane)

        def submit() -> Any:
            WHO.set(who)
            return self.groups.submit(lane, call, timeout)

        ticket = self.spawn(submit)
        eventually(lambda: ticket.done() or self.size(lane) != before, "a caller to start")
        return ticket

    def size(self, lane: Any) -> tuple[int, int]:
        return len(self.requests), len(self.queue(lane) or ())

    def start_close(self) -> Future[None]:
        return self.spawn(self.groups.close)

    def lanes(self) -> Any:
        return [*self.groups._lanes, *self.groups._closers]

    def closers(self) -> int:
        return len(self.groups._closers)

    def queue(self, lane: Any = "lane") -> Any:
        state = self.groups._lanes.get(lane)
        return state.queue if state else None

    def stop(self) -> None:
        for thread in self.threads:
            thread.join(PATIENCE)
        assert not [thread for thread in self.threads if thread.is_alive()], "threads were left"


@pytest.fixture
def no_collector() -> Iterator[None]:
    """Let nothing but reference counts free objects, so that a cycle shows."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.fixture
def tasks() -> Iterator[Tasks]:
    """Give the asynchronous world, and look that nothing is left in it."""
    world = Tasks()
    yield world
    world.stop()


@pytest.fixture
def threads() -> Iterator[Threads]:
    """Give the world of threads, and look that nothing is left in it."""
    world = Threads()
    yield world
    world.stop()


@pytest.fixture(params=["tasks", "threads"])
def world(request: pytest.FixtureRequest) -> World:
    """Give one world after the other."""
    world: World = request.getfixturevalue(request.param)
    return world
