"""Many calls at the same moment from several processes: nothing is shared between them but the server.

Each process is started afresh (`spawn`), so it has its own clients, pools, caches and clock. It imports the
function, says that it is ready, and waits for the word of the parent, which comes when all are ready.
"""

from __future__ import annotations

import asyncio
import inspect
import multiprocessing
import pickle
import time
import traceback
from dataclasses import dataclass, replace
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final, Protocol, cast

from mongopatterns.errors import UsageError
from mongopatterns.testing._race import Call, RaceReport, check_count, report_of, run_tasks, run_threads

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from multiprocessing.context import SpawnProcess

__all__ = ["race_processes"]

_READY: Final = "ready"
# Seconds that a process gets to end by itself after its report.
_PATIENCE: Final = 10.0


def race_processes(
    function: str, times: int = 200, processes: int = 4, args: Sequence[Any] = (), *, concurrency: int = 10
) -> RaceReport[Any]:
    """Run many calls of an importable function from several processes that start together.

    ```python
    # racing.py
    def consume(i: int, uri: str) -> bool:
        return bool(quota_of(uri).consume("alice", 1))   # a client per process, made on first use

    report = race_processes("racing:consume", times=200, processes=4, args=(server.uri,))
    ```

    A script that calls this needs the usual `if __name__ == "__main__":` around it, as the processes import
    it.

    Args:
        function: `"module:function"`. It is called with the number of the call, from 0, and then `args`. A
            coroutine function runs in one event loop per process, a plain one in threads.
        times: How many calls in all, at least 1. Process p of n makes the calls p, p + n, p + 2n ...
        processes: How many processes, at least 1.
        args: Further positional arguments, the same for every call. They travel to the processes by pickle.
        concurrency: How many calls may be under way at once in each process, at least 1.

    Returns:
        What came of the calls. Outcomes and errors travel back by pickle; one that cannot is an error of its
        call, a `RuntimeError` with its `repr`. An error's cause is the traceback in its process, as text.

    Raises:
        UsageError: An argument is out of its bounds, or the function cannot be imported in the processes.
        RuntimeError: A process ended before it reported.
    """
    check_count("times", times)
    check_count("processes", processes)
    check_count("concurrency", concurrency)
    module, _, name = function.partition(":")
    if not module or not name:
        raise UsageError("function", f'is "module:function", not {function!r}')
    try:
        pickle.dumps(args)
    except Exception as error:
        raise UsageError("args", f"cannot travel to another process: {error}") from error
    context = multiprocessing.get_context("spawn")
    workers: list[_Worker] = []
    try:
        for number in range(min(processes, times)):
            ours, theirs = context.Pipe()
            share = range(number, times, min(processes, times))
            process = context.Process(
                target=_work, args=(theirs, (module, name), share, tuple(args), concurrency), daemon=True
            )
            workers.append(_Worker(process, ours))
            process.start()
            theirs.close()
        for worker in workers:
            said = worker.receive()
            if said != _READY:
                raise UsageError("function", f"{function!r} cannot be used: {said}")
        started = time.perf_counter()
        for worker in workers:
            worker.connection.send(_READY)
        calls = [call for worker in workers for call in worker.receive()]
        seconds = time.perf_counter() - started
        for worker in workers:
            worker.process.join(_PATIENCE)
    finally:
        for worker in workers:
            worker.end()
    return report_of([_unpacked(call) for call in calls], seconds)


class _Pipe(Protocol):
    """One end of a pipe between processes; its class differs by platform."""

    def send(self, obj: Any, /) -> None: ...
    def recv(self) -> Any: ...
    def close(self) -> None: ...


@dataclass(frozen=True)
class _Worker:
    """One process, as its parent sees it."""

    process: SpawnProcess
    connection: _Pipe

    def receive(self) -> Any:
        """Return the next message.

        Raises:
            RuntimeError: The process ended instead.
        """
        try:
            return self.connection.recv()
        except (EOFError, ConnectionError):
            self.process.join(_PATIENCE)
            raise RuntimeError(
                f"a process of the race ended with code {self.process.exitcode} before it reported"
            ) from None

    def end(self) -> None:
        """End the process, however far it got."""
        self.connection.close()
        if self.process.pid is not None:
            self.process.kill()
            self.process.join()
            self.process.close()


class _RemoteTraceback(Exception):  # shown as a cause, never raised
    """Show where an error was raised in its process."""

    def __str__(self) -> str:
        return f"\n{self.args[0]}"


@dataclass(frozen=True)
class _Packed:
    """An outcome or an error, pickled where it came from, and the traceback of an error."""

    pickled: bytes
    traceback: str | None = None


def _work(pipe: _Pipe, function: tuple[str, str], share: range, args: tuple[Any, ...], concurrency: int) -> None:
    """Be one of the processes."""
    try:
        target = _imported(*function)
    except Exception as error:  # noqa: BLE001  # the parent raises it
        pipe.send(f"{type(error).__name__}: {error}")
        return
    pipe.send(_READY)
    pipe.recv()

    def call(index: int) -> Any:
        return target(index, *args)

    calls: list[Call[Any]]
    if inspect.iscoroutinefunction(target):
        calls = asyncio.run(run_tasks(call, share, concurrency))
    else:
        calls, _ = run_threads(call, share, concurrency)
    pipe.send([_packed(call) for call in calls])


def _imported(module: str, name: str) -> Callable[..., Any]:
    """Find the function.

    Raises:
        ImportError: There is no such module.
        AttributeError: There is no such name in it.
        TypeError: It cannot be called.
    """
    found: Any = import_module(module)
    for part in name.split("."):
        found = getattr(found, part)
    if not callable(found):
        raise TypeError(f"{name} is a {type(found).__name__}, not a function")
    return cast("Callable[..., Any]", found)


def _packed(call: Call[Any]) -> Call[Any]:
    """Pickle what a call left, or say in its place that it cannot be pickled."""
    if call.error is None:
        try:
            return replace(call, outcome=_Packed(_pickled(call.outcome)))
        except Exception as error:  # noqa: BLE001  # a value may raise anything here
            problem = RuntimeError(f"the outcome cannot leave its process ({error}): {call.outcome!r}")
            return replace(call, outcome=_Packed(pickle.dumps(problem), ""))
    text = "".join(traceback.format_exception(type(call.error), call.error, call.error.__traceback__))
    try:
        pickled = _pickled(call.error)
    except Exception:  # noqa: BLE001  # an exception may raise anything here
        pickled = pickle.dumps(RuntimeError(repr(call.error)))
    return replace(call, outcome=_Packed(pickled, text), error=None)


def _pickled(value: object) -> bytes:
    """Pickle a value that can be read again: many exceptions cannot, and say so only then."""
    pickled = pickle.dumps(value)
    pickle.loads(pickled)  # noqa: S301  # made one line above
    return pickled


def _unpacked(call: Call[Any]) -> Call[Any]:
    """Turn what a process sent back into what its call left."""
    packed = cast("_Packed", call.outcome)
    value = pickle.loads(packed.pickled)  # noqa: S301  # sent by a process of our own
    if packed.traceback is None:
        return replace(call, outcome=value)
    if packed.traceback:
        value.__cause__ = _RemoteTraceback(packed.traceback)
    return replace(call, outcome=None, error=value)
