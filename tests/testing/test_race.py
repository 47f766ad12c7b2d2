"""The race harness: every call is made once, side by side, and nothing of what came of it is lost."""

from __future__ import annotations

import asyncio
import functools
import multiprocessing
import pickle
import sys
import threading
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from pymongo import AsyncMongoClient

from mongopatterns.errors import UsageError
from mongopatterns.testing import EmbeddedMongo, RaceReport, race, race_processes, race_threads
from mongopatterns.testing import _race as tasks_and_threads
from mongopatterns.testing import _race_processes as processes

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


class Gauge:
    """How many calls are under way, and how many were at most."""

    def __init__(self) -> None:
        self.now = self.most = 0
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        with self._lock:
            self.now += 1
            self.most = max(self.most, self.now)

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self.now -= 1


# -------------------------------------------------------------------------------------------------- tasks


async def test_every_call_is_made_once_in_order_of_its_number() -> None:
    """Outcomes stand in the order of the calls' numbers, whichever ended first."""

    async def call(i: int) -> int:
        for _ in range(20 - i):
            await asyncio.sleep(0)
        return i

    report = await race(call, times=20, concurrency=7)
    assert report.outcomes == list(range(20))
    assert report.errors == []


async def test_no_more_than_concurrency_at_once() -> None:
    """As many calls as allowed are under way at once, and never more."""
    gauge = Gauge()

    async def call(_: int) -> None:
        with gauge:
            await asyncio.sleep(0)

    await race(call, times=30, concurrency=5)
    assert gauge.most == 5
    gauge.most = 0
    await race(call, times=3, concurrency=100)
    assert gauge.most == 3


async def test_errors_are_collected_and_can_be_raised() -> None:
    """An error of a call is kept with its number, and `raise_errors` raises the first one with a note."""

    async def call(i: int) -> int:
        if i % 2:
            raise KeyError(i)
        return i

    report = await race(call, times=6, concurrency=2)
    assert report.outcomes == [0, 2, 4]
    assert [(index, type(error)) for index, error in report.errors] == [(1, KeyError), (3, KeyError), (5, KeyError)]
    for _ in range(2):
        with pytest.raises(KeyError) as caught:
            report.raise_errors()
        assert caught.value is report.errors[0][1]
    note = "call 1, the first of 3 that failed in a race of 6"
    if sys.version_info >= (3, 11):
        assert caught.value.__notes__ == [note]
    else:
        assert str(caught.value.__cause__) == note


async def test_on_python_310_the_cause_says_how_many_calls_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Errors have no notes there: the cause has the note's text, unless the error has a cause already."""

    async def call(i: int) -> None:
        if i == 0:
            raise KeyError(i)
        raise KeyError(i) from ValueError("its own")

    report = await race(call, times=2, concurrency=1)
    monkeypatch.setattr(tasks_and_threads, "sys", SimpleNamespace(version_info=(3, 10)))
    with pytest.raises(KeyError) as caught:
        report.raise_errors()
    assert caught.value is report.errors[0][1]
    assert repr(caught.value.__cause__) == repr(RuntimeError("call 0, the first of 2 that failed in a race of 2"))
    assert not hasattr(caught.value, "__notes__")
    with pytest.raises(KeyError) as caught:
        replace(report, errors=report.errors[1:]).raise_errors()
    assert repr(caught.value.__cause__) == repr(ValueError("its own"))


class Awkward:
    """A value that can be neither compared, nor hashed, nor shown."""

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("no comparison")

    def __hash__(self) -> int:
        return 1

    def __repr__(self) -> str:
        raise RuntimeError("no text")


class Unhashable(Awkward):
    """One that cannot be hashed either."""

    def __hash__(self) -> int:
        raise RuntimeError("no hash")


class AwkwardError(Exception):
    """An error that cannot be shown."""

    def __str__(self) -> str:
        raise RuntimeError("no text")


@pytest.mark.parametrize("kind", [Awkward, Unhashable])
def test_a_report_of_awkward_values(kind: Callable[[], object]) -> None:
    """A report of values and errors that raise when they are compared or shown is text all the same."""

    def call(i: int) -> object:
        if i == 0:
            raise AwkwardError
        return kind()

    report = race_threads(call, times=4, concurrency=1)
    assert "3 returned, 1 raised" in str(report)
    assert "that cannot be shown: RuntimeError" in str(report)
    assert "AwkwardError" in str(report)
    assert report.duplicates == []


async def test_raise_errors_of_a_clean_race() -> None:
    """Without errors `raise_errors` does nothing."""
    report = await race(lambda _: asyncio.sleep(0, "done"), times=3)
    report.raise_errors()
    assert report.count("done") == 3


async def test_a_cancelled_call_cancels_the_race() -> None:
    """`CancelledError` of a call is no outcome: it ends the race, and no other call goes on."""
    gauge = Gauge()

    async def call(i: int) -> None:
        with gauge:
            if i == 2:
                raise asyncio.CancelledError
            await asyncio.Event().wait()

    with pytest.raises(asyncio.CancelledError):
        await race(call, times=5, concurrency=5)
    assert gauge.now == 0


async def test_cancelling_the_race_cancels_its_calls() -> None:
    """Whoever cancels the race ends every call of it."""
    gauge, running = Gauge(), asyncio.Event()

    async def call(_: int) -> None:
        with gauge:
            if gauge.now == 5:
                running.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(race(call, times=5, concurrency=5))
    await running.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert gauge.now == 0


async def test_a_plain_function_is_refused() -> None:
    """A function that returns no awaitable is misuse, and the message names the right harness."""
    plain: Any = lambda i: i  # noqa: E731
    with pytest.raises(UsageError, match="race_threads"):
        await race(plain, times=3)


@pytest.mark.parametrize("bad", [0, -1, 1.5, True, "5", None])
@pytest.mark.parametrize("argument", ["times", "concurrency"])
async def test_counts_are_whole_numbers_from_one(argument: str, bad: Any) -> None:
    """A count that is none is a usage error that names the argument, for tasks, threads and processes alike."""
    counts: dict[str, Any] = {argument: bad}
    with pytest.raises(UsageError) as caught:
        await race(lambda _: asyncio.sleep(0), **counts)
    assert caught.value.argument == argument
    with pytest.raises(UsageError, match=argument):
        race_threads(lambda i: i, **counts)
    with pytest.raises(UsageError, match=argument):
        race_processes("module:function", **counts)


async def test_a_call_must_be_callable() -> None:
    """Something that cannot be called is a usage error, not as many errors as calls."""
    nothing: Any = None
    with pytest.raises(UsageError, match="call"):
        await race(nothing)
    with pytest.raises(UsageError, match="call"):
        race_threads(nothing)


# ------------------------------------------------------------------------------------------------ threads


def test_threads_start_together() -> None:
    """All threads are released at once: calls that wait for each other come through."""
    barrier = threading.Barrier(8)
    report = race_threads(lambda i: (barrier.wait(30), i)[1], times=8, concurrency=8)
    assert report.outcomes == list(range(8))


def test_threads_make_every_call_once() -> None:
    """More calls than threads are all made, each once, errors included."""
    gauge = Gauge()

    def call(i: int) -> int:
        with gauge:
            if i == 7:
                raise ValueError(i)
            return i

    report = race_threads(call, times=100, concurrency=6)
    assert report.outcomes == [i for i in range(100) if i != 7]
    assert [index for index, _ in report.errors] == [7]
    assert gauge.most <= 6


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, asyncio.CancelledError])
def test_threads_do_not_swallow_what_is_no_exception(error: type[BaseException]) -> None:
    """`KeyboardInterrupt` and its like in a thread end the race and are raised where it was asked for."""

    def call(i: int) -> int:
        if i == 1:
            raise error
        return i

    with pytest.raises(error):
        race_threads(call, times=1000, concurrency=2)


def test_a_coroutine_function_is_refused_by_threads() -> None:
    """A coroutine function in threads is misuse, and the message names the right harness."""

    async def call(i: int) -> int:
        return i

    with pytest.raises(UsageError, match=r"race\(\)"):
        race_threads(call, times=3)


def test_a_thread_that_cannot_start_releases_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """When the system has no more threads, those that wait already are let go, and the error is raised."""
    original = threading.Thread.start
    started: list[threading.Thread] = []

    def start(thread: threading.Thread) -> None:
        if len(started) == 2:
            raise RuntimeError("can't start new thread")
        started.append(thread)
        original(thread)

    monkeypatch.setattr(threading.Thread, "start", start)
    with pytest.raises(RuntimeError, match="start new thread"):
        race_threads(lambda i: i, times=5, concurrency=5)
    for thread in started:
        thread.join(30)
        assert not thread.is_alive()


# ---------------------------------------------------------------------------------------------- processes

RACING = """
import asyncio, os, pickle
from pymongo import MongoClient

class Odd(Exception):
    def __init__(self, a, b):
        super().__init__(f"{a}{b}")

def plain(i, base=0):
    return base + i, os.getpid()

async def task(i):
    await asyncio.sleep(0)
    return i

def fails(i):
    if i == 1:
        raise KeyError("one")
    if i == 2:
        raise Odd("t", "wo")
    if i == 3:
        return lambda: 3
    return i

def dies(i):
    os._exit(7)

CLIENTS = {}
def counts(i, uri):
    client = CLIENTS.setdefault("one", None) or CLIENTS.update(one=MongoClient(uri)) or CLIENTS["one"]
    document = client.test.race.find_one_and_update(
        {"_id": "n"}, {"$inc": {"n": 1}}, upsert=True, return_document=True)
    return document["n"]

NUMBER = 3
"""


@pytest.fixture
def racing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Provide a module that other processes can import."""
    (tmp_path / "racing_module.py").write_text(RACING)
    monkeypatch.syspath_prepend(tmp_path)


@pytest.mark.usefixtures("racing")
def test_processes_share_the_calls() -> None:
    """Each call is made once, by the process that its number names, with the further arguments."""
    report = race_processes("racing_module:plain", times=10, processes=3, args=(100,))
    assert [outcome[0] for outcome in report.outcomes] == list(range(100, 110))
    pids = [outcome[1] for outcome in report.outcomes]
    assert len(set(pids)) == 3
    assert pids[0] == pids[3] == pids[9]
    assert report.errors == []


@pytest.mark.usefixtures("racing")
def test_processes_run_coroutine_functions() -> None:
    """A coroutine function is run in one event loop per process."""
    report = race_processes("racing_module:task", times=4, processes=2, concurrency=2)
    assert report.outcomes == [0, 1, 2, 3]


@pytest.mark.usefixtures("racing")
def test_what_cannot_be_pickled_is_told() -> None:
    """Errors travel with their traceback; what cannot travel becomes a `RuntimeError` with its `repr`."""
    report = race_processes("racing_module:fails", times=5, processes=1)
    assert report.outcomes == [0, 4]
    (_, key), (_, odd), (_, outcome) = report.errors
    assert isinstance(key, KeyError)
    assert "in fails" in str(key.__cause__)
    assert type(odd) is RuntimeError
    assert "Odd" in str(odd)
    assert type(outcome) is RuntimeError
    assert "lambda" in str(outcome)


@pytest.mark.usefixtures("racing")
def test_a_process_that_dies_ends_the_race() -> None:
    """A process that ends without a report is an error with its exit code, and no other one stays."""
    with pytest.raises(RuntimeError, match="ended with code 7"):
        race_processes("racing_module:dies", times=2, processes=2)
    assert not [child for child in multiprocessing.active_children() if child.name.startswith("SpawnProcess")]


@pytest.mark.usefixtures("racing")
@pytest.mark.parametrize(
    ("function", "problem"),
    [
        ("plain", "module:function"),
        (":plain", "module:function"),
        ("no_such_module:plain", "ModuleNotFoundError"),
        ("racing_module:nothing", "AttributeError"),
        ("racing_module:NUMBER", "TypeError"),
    ],
)
def test_a_function_that_cannot_be_found(function: str, problem: str) -> None:
    """A function that the processes cannot import is a usage error that says why."""
    with pytest.raises(UsageError, match=problem) as caught:
        race_processes(function, times=1, processes=1)
    assert caught.value.argument == "function"


def test_arguments_that_cannot_travel() -> None:
    """Arguments that cannot be pickled are a usage error before any process is started."""
    with pytest.raises(UsageError, match="args"):
        race_processes("json:dumps", args=(lambda: 1,))
    with pytest.raises(UsageError, match="processes"):
        race_processes("json:dumps", processes=0)


class Fickle:
    """A value that can be pickled once."""

    def __init__(self) -> None:
        self.pickled = 0

    def __reduce__(self) -> Any:
        self.pickled += 1
        if self.pickled > 1:
            raise pickle.PicklingError("it travels no more")
        return Fickle, ()


def test_a_process_that_cannot_be_started_ends_the_race() -> None:
    """Whatever keeps a process from being started is raised as it is, and no process stays."""
    with pytest.raises(pickle.PicklingError, match="travels no more"):
        race_processes("json:dumps", times=2, processes=2, args=(Fickle(),))
    assert not [child for child in multiprocessing.active_children() if child.name.startswith("SpawnProcess")]


@pytest.mark.usefixtures("racing")
@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("NUMBER", "TypeError: NUMBER is a int, not a function"),
        ("nothing", "AttributeError: module 'racing_module' has no attribute 'nothing'"),
    ],
)
def test_one_process_says_why_it_cannot_begin(name: str, problem: str) -> None:
    """Instead of that it is ready, a process says what is wrong with the function, and is done."""
    ours, theirs = multiprocessing.Pipe()
    processes._work(theirs, ("racing_module", name), range(1), (), 1)
    theirs.close()
    assert ours.recv() == problem
    with pytest.raises(EOFError):
        ours.recv()
    ours.close()


@pytest.mark.usefixtures("racing")
def test_processes_race_on_one_document(mongopatterns_server: EmbeddedMongo) -> None:
    """Four processes that count on one document of a real server lose and double nothing."""
    report = race_processes("racing_module:counts", times=80, processes=4, args=(mongopatterns_server.uri,))
    report.raise_errors()
    assert sorted(report.outcomes) == list(range(1, 81))
    assert report.duplicates == []


@pytest.mark.usefixtures("racing")
@pytest.mark.parametrize(("name", "expected"), [("plain", [0, 2]), ("task", [0, 2]), ("fails", [0])])
def test_the_work_of_one_process(name: str, expected: list[int]) -> None:
    """What one process does, done here in a thread: it says ready, waits for the word and reports."""
    ours, theirs = multiprocessing.Pipe()
    worker = threading.Thread(
        target=processes._work, args=(theirs, ("racing_module", name), range(0, 4, 2), (), 1), daemon=True
    )
    worker.start()
    assert ours.recv() == "ready"
    ours.send("ready")
    calls = [processes._unpacked(call) for call in ours.recv()]
    worker.join(30)
    values = [call.outcome for call in sorted(calls, key=lambda call: call.index) if call.error is None]
    assert [value[0] if isinstance(value, tuple) else value for value in values] == expected
    ours.close()
    theirs.close()


# ----------------------------------------------------------------------------------------------- reports


async def report_of(call: Callable[[int], Any], times: int) -> RaceReport[Any]:
    async def later(i: int) -> Any:
        return call(i)

    return await race(later, times=times)


async def test_duplicates_of_any_values() -> None:
    """Outcomes that several calls got are found, whether they can be hashed or not, with how many got them."""
    values: list[Any] = ["a", {"x": 1}, "a", ["l"], {"x": 1}, "b", {"x": 1}, None]
    report = await report_of(values.__getitem__, len(values))
    assert report.duplicates == [({"x": 1}, 3), ("a", 2)]


async def test_count_by_value_and_by_test() -> None:
    """`count` takes a value, or a test that each outcome is given."""
    report = await report_of(lambda i: i % 3, 9)
    assert report.count(2) == 3
    assert report.count(bool) == 6
    assert report.count(lambda outcome: outcome < 2) == 6
    assert report.count("none") == 0


async def test_latency_is_ordered() -> None:
    """Latencies are of single calls, in seconds; no call took longer than the race."""
    report = await report_of(lambda i: i, 100)
    assert 0 <= report.latency.p50 <= report.latency.p95 <= report.latency.max <= report.seconds
    single = await report_of(lambda i: i, 1)
    assert single.latency.p50 == single.latency.max


async def test_a_report_can_be_read() -> None:
    """Printed, a report tells how many calls returned and raised, the commonest outcomes and every kind of error."""

    def call(i: int) -> Any:
        if i < 3:
            raise ValueError("no\n   room")
        return {"ok": True} if i < 10 else SimpleNamespace(text="x" * 300, i=i)

    text = str(await report_of(call, 20))
    lines = text.splitlines()
    assert lines[0].startswith("20 calls in ")
    assert "17 returned, 3 raised" in lines[0]
    assert "p95" in lines[0]
    assert "  7 x {'ok': True}" in lines
    assert "  3 x ValueError: no room" in lines
    assert "  ... and 6 more different outcomes" in lines
    assert max(map(len, lines[1:])) < 120


async def test_a_report_is_a_value() -> None:
    """A report cannot be changed by accident, and travels by pickle."""
    report = await report_of(lambda i: i, 3)
    with pytest.raises(AttributeError):
        report.seconds = 1.0  # type: ignore[misc]
    assert pickle.loads(pickle.dumps(report)) == report


async def test_a_race_on_a_real_server(mongopatterns_server: EmbeddedMongo, mongopatterns_db_name: str) -> None:
    """The harness finds a lost update: read, add one and save loses some; `$inc` loses none."""
    async with AsyncMongoClient[dict[str, Any]](mongopatterns_server.uri) as client:
        numbers = client[mongopatterns_db_name]["numbers"]
        await numbers.insert_many([{"_id": "naive", "n": 0}, {"_id": "exact", "n": 0}])

        async def naive(_: int) -> int:
            document = await numbers.find_one({"_id": "naive"})
            assert document is not None
            await numbers.update_one({"_id": "naive"}, {"$set": {"n": document["n"] + 1}})
            return document["n"] + 1

        async def exact(_: int) -> int:
            document = await numbers.find_one_and_update({"_id": "exact"}, {"$inc": {"n": 1}}, return_document=True)
            return document["n"]

        lossy = await race(naive, times=100, concurrency=20)
        lossless = await race(exact, times=100, concurrency=20)
    assert lossy.duplicates
    assert lossless.duplicates == []
    assert sorted(lossless.outcomes) == list(range(1, 101))


async def test_a_partial_is_a_call() -> None:
    """Any callable that returns an awaitable can race."""

    async def add(a: int, b: int) -> int:
        return a + b

    report = await race(functools.partial(add, 10), times=3)
    assert report.outcomes == [10, 11, 12]
