"""Many calls at the same moment, and what came of them: from tasks of one event loop, or from threads.

A race is worth its name when it asserts both sides: nobody got in who should not, and nobody was refused who
should have got in. The report therefore keeps every outcome and every error, by call.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import sys
import threading
import time
from collections import Counter, deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar, cast

from mongopatterns.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

__all__ = [
    "Call",
    "Latency",
    "RaceReport",
    "check_count",
    "race",
    "race_threads",
    "report_of",
    "run_tasks",
    "run_threads",
]

T = TypeVar("T")

# What a printed report shows of each list before it says how many more there are, and of each value.
_SHOWN: Final = 5
_WIDTH: Final = 100


@dataclass(frozen=True)
class Call(Generic[T]):
    """One call: what it returned, or what it raised.

    Attributes:
        index: The number that it was called with.
        seconds: How long it took.
        outcome: What it returned; None when it raised.
        error: What it raised; None when it returned.
    """

    index: int
    seconds: float
    outcome: T | None = None
    error: Exception | None = None


@dataclass(frozen=True)
class Latency:
    """How long single calls took, in seconds, whether they returned or raised.

    Attributes:
        p50: Half of the calls took no longer.
        p95: 95 of 100 calls took no longer.
        max: The longest.
    """

    p50: float
    p95: float
    max: float


@dataclass(frozen=True)
class RaceReport(Generic[T]):
    """What came of a race.

    Attributes:
        outcomes: What the calls returned, in the order of their numbers; those that raised are left out.
        errors: The number of each call that raised, and its error.
        latency: How long single calls took.
        seconds: How long the whole race took, from the common start to the last end.
    """

    outcomes: list[T]
    errors: list[tuple[int, Exception]]
    latency: Latency
    seconds: float

    @property
    def duplicates(self) -> list[tuple[T, int]]:
        """The outcomes that more than one call got, with how many did; the most frequent first."""
        return [(outcome, count) for outcome, count in _tally(self.outcomes) if count > 1]

    def count(self, wanted: Any) -> int:
        """Count the outcomes that equal a value or pass a test.

        Args:
            wanted: A value; or a callable that is given each outcome, such as `bool` for "go ahead" verdicts.
        """
        if callable(wanted):
            return sum(1 for outcome in self.outcomes if wanted(outcome))
        return sum(1 for outcome in self.outcomes if outcome == wanted)

    def raise_errors(self) -> None:
        """Raise the first error, if there is one, with a note that says how many calls failed.

        Python 3.10 has no notes: the error's cause says it there, unless it has a cause already.

        Raises:
            Exception: What the call with the lowest number of those that failed raised.
        """
        if not self.errors:
            return
        index, error = self.errors[0]
        note = f"call {index}, the first of {len(self.errors)} that failed in a race of {self._calls}"
        if sys.version_info >= (3, 11):
            if note not in getattr(error, "__notes__", ()):
                error.add_note(note)
            raise error
        raise error from (error.__cause__ or RuntimeError(note))

    def __str__(self) -> str:
        """Describe the race in a few lines: how many, how long, which outcomes, which errors.

        It never raises: a value that cannot be shown or compared is named by its type.
        """
        head = f"{self._calls} calls in {self.seconds:.3f} s"
        counts = f"{len(self.outcomes)} returned, {len(self.errors)} raised"
        times = " ".join(f"{name} {1000 * value:.1f} ms" for name, value in vars(self.latency).items())
        lines = [f"{head}: {counts}; {times}"]
        lines += _shown([(_short(outcome), count) for outcome, count in _tally(self.outcomes)], "outcomes")
        errors = Counter(f"{type(error).__name__}: {_short(error, str)}" for _, error in self.errors)
        lines += _shown(errors.most_common(), "errors")
        return "\n".join(lines)

    @property
    def _calls(self) -> int:
        return len(self.outcomes) + len(self.errors)


async def race(call: Callable[[int], Awaitable[T]], times: int = 200, concurrency: int = 50) -> RaceReport[T]:
    """Run many calls as tasks of this event loop.

    ```python
    report = await race(lambda i: quota.consume("alice"), times=200, concurrency=50)
    report.raise_errors()
    assert report.count(bool) == 60  # as many as the limit admits, and not one fewer
    ```

    Args:
        call: Given the number of the call, from 0; returns an awaitable.
        times: How many calls, at least 1.
        concurrency: How many may be under way at once, at least 1. So many start together; each further call
            starts when another one ends.

    Returns:
        What came of them. An error of a call is part of the report; it is not raised here.

    Raises:
        UsageError: An argument is out of its bounds, or `call` returned something that is not awaitable.
        asyncio.CancelledError: A call was cancelled, or the race was. The other calls are cancelled too.
    """
    _check_call(call)
    check_count("times", times)
    check_count("concurrency", concurrency)
    started = time.perf_counter()
    calls = await run_tasks(call, range(times), concurrency)
    return report_of(calls, time.perf_counter() - started)


def race_threads(call: Callable[[int], T], times: int = 200, concurrency: int = 50) -> RaceReport[T]:
    """Run many calls in threads that a barrier lets go together.

    Each thread has a copy of the caller's context (`contextvars`), so that a guard around the race counts
    them.

    Args:
        call: Given the number of the call, from 0. A plain function: `race` is for asynchronous ones.
        times: How many calls, at least 1.
        concurrency: How many threads, at least 1. Each one makes one call after the other.

    Returns:
        What came of them. An error of a call is part of the report; it is not raised here.

    Raises:
        UsageError: An argument is out of its bounds, or `call` returned a coroutine.
    """
    _check_call(call)
    check_count("times", times)
    check_count("concurrency", concurrency)
    calls, seconds = run_threads(call, range(times), concurrency)
    return report_of(calls, seconds)


def check_count(argument: str, value: object) -> None:
    """Refuse what is not a whole number from 1.

    Raises:
        UsageError: It is not.
    """
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise UsageError(argument, f"is a whole number from 1, not {value!r}")


def _check_call(call: object) -> None:
    if not callable(call):
        raise UsageError("call", f"is a function that is given the number of the call, not {_short(call)}")


async def run_tasks(call: Callable[[int], Awaitable[T]], indices: Iterable[int], concurrency: int) -> list[Call[T]]:
    """Make the calls with the given numbers, as tasks."""
    todo = deque(indices)
    done: list[Call[T]] = []

    async def work() -> None:
        while todo:
            index = todo.popleft()
            started = time.perf_counter()
            try:
                pending = call(index)
                outcome = await pending if inspect.isawaitable(pending) else _refuse_plain(pending)
            except _Misuse as misuse:
                raise misuse.error from None
            except Exception as error:  # noqa: BLE001  # every error is part of the report
                done.append(Call(index, time.perf_counter() - started, error=error))
            else:
                done.append(Call(index, time.perf_counter() - started, outcome=outcome))

    # No task runs before this one waits: they all start together.
    tasks = [asyncio.create_task(work()) for _ in range(min(concurrency, len(todo)))]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return done


def run_threads(call: Callable[[int], T], indices: Iterable[int], concurrency: int) -> tuple[list[Call[T]], float]:
    """Make the calls with the given numbers, in threads; tell how many seconds that took, too."""
    todo = deque(indices)
    done: list[Call[T]] = []
    fatal: list[BaseException] = []
    size = min(concurrency, len(todo))
    barrier = threading.Barrier(size + 1)

    def work() -> None:
        try:
            barrier.wait()
            while True:
                try:
                    index = todo.popleft()
                except IndexError:  # One of the threads took the last one.
                    return
                done.append(_timed(call, index))
        except threading.BrokenBarrierError:
            return
        except BaseException as error:  # noqa: BLE001  # raised below, in the thread that asked for the race
            fatal.append(error)
            todo.clear()

    threads = [
        threading.Thread(target=contextvars.copy_context().run, args=(work,), daemon=True, name=f"race-{n}")
        for n in range(size)
    ]
    try:
        for thread in threads:
            thread.start()
        barrier.wait()
        started = time.perf_counter()
        for thread in threads:
            thread.join()
    except BaseException:
        # Ctrl-C, or no more threads: let go of those that wait, and start no further call.
        barrier.abort()
        todo.clear()
        raise
    if fatal:
        error = fatal[0]
        raise error.error if isinstance(error, _Misuse) else error
    return done, time.perf_counter() - started


def _timed(call: Callable[[int], T], index: int) -> Call[T]:
    """Make one call in this thread."""
    started = time.perf_counter()
    try:
        outcome = call(index)
    except Exception as error:  # noqa: BLE001  # every error is part of the report
        return Call(index, time.perf_counter() - started, error=error)
    if inspect.iscoroutine(outcome):
        outcome.close()
        raise _Misuse(UsageError("call", "returned a coroutine: use race() for asynchronous functions"))
    return Call(index, time.perf_counter() - started, outcome=outcome)


class _Misuse(BaseException):
    """Carry a usage error past the code that collects the errors of calls."""

    def __init__(self, error: UsageError) -> None:
        super().__init__(error)
        self.error: Final = error


def _refuse_plain(value: object) -> Any:
    raise _Misuse(UsageError("call", f"returned {_short(value)}, no awaitable: use race_threads() for plain functions"))


def report_of(calls: Iterable[Call[T]], seconds: float) -> RaceReport[T]:
    """Put a report together from the calls, in any order. There is one at least."""
    ordered = sorted(calls, key=lambda call: call.index)
    times = sorted(call.seconds for call in ordered)
    return RaceReport(
        outcomes=[cast("T", call.outcome) for call in ordered if call.error is None],
        errors=[(call.index, call.error) for call in ordered if call.error is not None],
        latency=Latency(p50=_percentile(times, 50), p95=_percentile(times, 95), max=times[-1]),
        seconds=seconds,
    )


def _percentile(ordered: list[float], percent: int) -> float:
    """Return the smallest value that is not exceeded by `percent` of 100 values."""
    return ordered[max(0, -(-len(ordered) * percent // 100) - 1)]


def _tally(values: list[T]) -> list[tuple[T, int]]:
    """Count equal values, the most frequent first. Those that cannot be hashed are compared one by one.

    Values whose comparison raises are different ones.
    """
    hashed: dict[T, int] = {}
    others: list[tuple[T, int]] = []
    for value in values:
        try:
            hashed[value] = hashed.get(value, 0) + 1
        except Exception:  # noqa: BLE001, PERF203  # whatever a value's hash and comparison raise
            for place, (other, count) in enumerate(others):
                if _equal(other, value):
                    others[place] = (other, count + 1)
                    break
            else:
                others.append((value, 1))
    return sorted([*hashed.items(), *others], key=lambda pair: -pair[1])


def _equal(one: object, other: object) -> bool:
    try:
        return bool(one == other)
    except Exception:  # noqa: BLE001  # whatever a comparison raises
        return one is other


def _shown(counted: list[tuple[str, int]], kind: str) -> list[str]:
    """Make the lines of a report for the most frequent of a kind."""
    lines = [f"  {count} x {text}" for text, count in counted[:_SHOWN]]
    if len(counted) > _SHOWN:
        lines.append(f"  ... and {len(counted) - _SHOWN} more different {kind}")
    return lines


def _short(value: object, describe: Callable[[object], str] = repr) -> str:
    """Describe a value in one line of bounded length; by its type when it cannot be described."""
    try:
        text = value if isinstance(value, str) else describe(value)
    except Exception as error:  # noqa: BLE001  # whatever a value's own methods raise
        text = f"<{type(value).__name__} that cannot be shown: {type(error).__name__}>"
    text = " ".join(text.split())
    return text if len(text) <= _WIDTH else f"{text[: _WIDTH - 3]}..."
