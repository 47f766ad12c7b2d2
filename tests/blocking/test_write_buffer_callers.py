"""A buffer of the synchronous driver: threads that put in, threads that send, and an end that loses nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from bson import Decimal128, ObjectId
from pymongo.errors import DuplicateKeyError, WriteError

from mongopatterns import DeadLetter, Dropped, LimitExceeded, NotSent, OutcomeUnknown, UsageError, WriteBuffer
from mongopatterns._spool import Spool
from mongopatterns.buffer._batches_sync import Batches

EVERY = pytest.mark.parametrize("delivery", ["at_least_once", "exactly_once"])
LATER: dict[str, Any] = {"max_delay": 60.0}  # (nothing is sent because of its age)
WORKER = Path(__file__).parents[1] / "processes" / "buffer_ends.py"


def stored(db: Any, name: str = "events") -> list[dict[str, Any]]:
    return list(db[name].find(sort=[("_id", 1)]))


def until(reached: Any) -> None:
    """Wait for something that other threads do."""
    for _ in range(500):
        if reached():
            return
        time.sleep(0.01)
    raise AssertionError("it was not reached")


@EVERY
def test_everything_that_can_be_written(client: Any, db: Any, delivery: Any) -> None:
    """Documents are stored, updated, counted in, replaced and deleted; each acknowledgement tells the key."""
    db.users.insert_many([{"_id": number} for number in range(4)])
    with WriteBuffer(client, delivery=delivery, **LATER) as buffer:
        acks = [
            buffer.insert(db.events, {"_id": "a"}),
            buffer.update(db.users, 0, {"$set": {"name": "ann"}}),
            buffer.replace(db.users, 1, {"new": True}),
            buffer.delete(db.users, 2),
            buffer.increment(db.users, 3, {"n": 2, "cost": 0.1}),
        ]
        assert not any(ack.done for ack in acks)
        buffer.flush()
        assert [ack.result() for ack in acks] == ["a", 0, 1, 2, 3]
        assert isinstance(buffer.insert(db.events, {}).key, ObjectId)
    assert stored(db, "users") == [
        {"_id": 0, "name": "ann"},
        {"_id": 1, "new": True},
        {"_id": 3, "n": 2, "cost": Decimal128("0.1")},
    ]
    assert len(stored(db)) == 2
    assert buffer.stats.acknowledged == buffer.stats.accepted == 6


def test_batches_are_sent_by_number_and_by_age(client: Any, db: Any) -> None:
    """Nobody has to flush."""
    with WriteBuffer(client, max_items=10, **LATER) as buffer:
        acks = [buffer.insert(db.events, {"_id": number}) for number in range(25)]
        assert [ack.result(5) for ack in acks[:20]] == list(range(20))
        with pytest.raises(NotSent):
            acks[24].result(0.05)
    assert all(ack.done for ack in acks)
    with WriteBuffer(client, max_delay=0.02) as buffer:
        assert buffer.insert(db.events, {"_id": "x"}).result(5) == "x"
        assert buffer.insert(db.events, {"_id": "y"}).result(5) == "y"


@EVERY
def test_many_threads(client: Any, db: Any, delivery: Any) -> None:
    """Each is told of its own writes; counts are exact; what one thread does to a document is done in its order."""
    with WriteBuffer(client, delivery=delivery, max_items=50, max_delay=0.005, in_flight=3) as buffer:

        def work(me: int) -> list[Any]:
            acks = []
            for turn in range(100):
                acks.append(buffer.insert(db.events, {"_id": f"{me} {turn}"}))
                buffer.increment(db.counts, turn % 3, {"n": 1})
                buffer.update(db.logs, me, {"$push": {"turns": turn}}, upsert=True)
            return [ack.result(60) for ack in acks]

        with ThreadPoolExecutor(8) as pool:
            told = list(pool.map(work, range(8)))
    assert told == [[f"{me} {turn}" for turn in range(100)] for me in range(8)]
    assert len(stored(db)) == 800
    assert sum(count["n"] for count in stored(db, "counts")) == 800
    assert [log["turns"] for log in stored(db, "logs")] == [list(range(100))] * 8


def test_one_bad_item_fails_alone(client: Any, db: Any) -> None:
    """What somebody waits for is told there, the rest are dead letters."""
    db.events.insert_one({"_id": 5, "t": "text"})
    letters: list[DeadLetter] = []
    with WriteBuffer(client, on_dead_letter=letters.append, **LATER) as buffer:
        acks = [buffer.insert(db.events, {"_id": number}) for number in range(10)]
        wrong = buffer.increment(db.events, 5, {"t": 1})
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(acks[5].result)
            until(lambda: acks[5].waiters)
            buffer.flush()
            with pytest.raises(DuplicateKeyError):
                waiting.result()
        with pytest.raises(WriteError, match="non-numeric"):
            wrong.result()
        assert [ack.result() for number, ack in enumerate(acks) if number != 5] == [0, 1, 2, 3, 4, 6, 7, 8, 9]
    assert [(letter.operation, letter.key) for letter in letters] == [("update", 5)]


@pytest.mark.parametrize("when_full", ["wait", "reject", "drop_oldest"])
def test_a_full_buffer(client: Any, db: Any, when_full: Any) -> None:
    """Who comes then waits, is refused, or takes the place of the oldest."""
    with WriteBuffer(client, max_items=5, max_bytes=10**6, max_waiting=5, when_full=when_full, **LATER) as buffer:
        acks = [buffer.increment(db.counts, 1, {"n": 10**number}) for number in range(5)]
        if when_full == "reject":
            with pytest.raises(LimitExceeded):
                buffer.increment(db.counts, 1, {"n": 10**5})
        else:
            buffer.increment(db.counts, 1, {"n": 10**5})
        buffer.flush()
        if when_full == "drop_oldest":
            with pytest.raises(Dropped):
                acks[0].result()
    [count] = stored(db, "counts")
    assert count["n"] == {"wait": 111_111, "reject": 11_111, "drop_oldest": 111_110}[when_full]


def test_threads_that_wait_for_room_are_let_in_in_order(client: Any, db: Any) -> None:
    """And nobody is when it is closed."""
    buffer = WriteBuffer(client, max_items=1, max_waiting=1, in_flight=1)
    with ThreadPoolExecutor(8) as pool:
        acks = list(pool.map(lambda number: buffer.insert(db.events, {"_id": number}), range(50)))
    buffer.close()
    assert sorted(ack.result() for ack in acks) == list(range(50))
    with pytest.raises(UsageError, match="closed"):
        buffer.insert(db.events, {})


def test_a_close_that_may_not_take_long(client: Any, db: Any) -> None:
    """What was not sent is told to be so; what is under way goes on."""
    letters: list[DeadLetter] = []
    buffer = WriteBuffer(client, max_items=1, in_flight=1, on_dead_letter=letters.append)
    fail = {"configureFailPoint": "failCommand"}
    blocked = {
        "failCommands": ["insert"],
        "blockConnection": True,
        "blockTimeMS": 800,
        "namespace": db.events.full_name,
    }
    client.admin.command({**fail, "mode": {"times": 1}, "data": blocked})
    first = buffer.insert(db.events, {"_id": 1})
    until(lambda: buffer.stats.under_way)
    second = buffer.insert(db.events, {"_id": 2})
    buffer.close(timeout=0.1)
    with pytest.raises(NotSent):
        second.result()
    assert [letter.key for letter in letters] == [2]
    assert first.result(10) == 1
    client.admin.command({**fail, "mode": "off"})


def test_what_threads_put_in_while_it_closes_is_done_or_refused(client: Any, db: Any) -> None:
    """What a call has accepted is stored when `close` is over; nobody waits for ever, and no thread stays."""
    for turn in range(20):
        buffer = WriteBuffer(client, max_items=20, max_delay=60.0, in_flight=3)
        accepted: list[Any] = []

        def put(caller: int, buffer: Any = buffer, accepted: Any = accepted, turn: int = turn) -> None:
            for number in range(100_000):
                try:
                    accepted.append(buffer.insert(db.events, {"_id": f"{turn} {caller} {number}"}))
                except UsageError:
                    return

        threads = [threading.Thread(target=put, args=(caller,)) for caller in range(4)]
        for thread in threads:
            thread.start()
        until(lambda accepted=accepted: len(accepted) > 50)
        buffer.close()
        for thread in threads:
            thread.join(30)
        assert all(ack.done for ack in accepted)
        assert db.events.count_documents({}) == len(accepted)
        db.events.delete_many({})
    until(lambda: not senders())


@pytest.mark.parametrize("how", ["atexit", "several", "fork"])
def test_how_a_process_ends(mongopatterns_server: Any, db: Any, how: str) -> None:
    """What was accepted is stored when the interpreter ends; a forked child sends its own, and the parent the rest."""
    arguments = [sys.executable, "-W", "ignore", str(WORKER), mongopatterns_server.uri, db.name, how]
    subprocess.run(arguments, check=True, timeout=60, env={**os.environ})
    wanted = ["child"] * 100 * (how == "fork") + ["parent"] * 100
    assert sorted(event["by"] for event in stored(db)) == wanted
    if how == "several":
        assert [event["by"] for event in stored(db, "others")] == ["parent"] * 50
        assert stored(db, "counts") == [{"_id": "parent", "n": 50}]


def test_what_the_end_leaves_no_time_for_is_a_dead_letter(mongopatterns_server: Any, client: Any, db: Any) -> None:
    """When the interpreter has waited for as long as it does, whoever hears of dead letters hears of what is left."""
    fail = {"configureFailPoint": "failCommand"}
    blocked = {"failCommands": ["insert"], "blockConnection": True, "blockTimeMS": 5000}
    client.admin.command({**fail, "mode": "alwaysOn", "data": {**blocked, "namespace": db.events.full_name}})
    try:
        arguments = [sys.executable, "-W", "ignore", str(WORKER), mongopatterns_server.uri, db.name, "late"]
        ended = subprocess.run(arguments, check=True, timeout=60, capture_output=True, text=True)
    finally:
        client.admin.command({**fail, "mode": "off"})
    assert ended.stdout.split() == ["1", "2", "3", "4"]


def test_threads_end_with_the_buffer(client: Any, db: Any) -> None:
    """None is left behind."""
    with WriteBuffer(client, max_items=1, in_flight=3) as buffer:
        for number in range(20):
            buffer.insert(db.events, {"_id": number})
        assert senders()
    until(lambda: not senders())


def senders() -> list[str]:
    """Name the threads that send."""
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("mongopatterns-WriteBuffer")]


@pytest.fixture
def slow_insert(mongopatterns_server: Any, db: Any) -> Iterator[None]:
    """Have the next insert of events take half a second."""
    where = {"failCommands": ["insert"], "namespace": db.events.full_name}
    blocked = {**where, "blockConnection": True, "blockTimeMS": 500}
    with mongopatterns_server.fail_point("failCommand", mode={"times": 1}, data=blocked):
        yield


class Interrupted(BaseException):
    """What a signal brings."""


@contextmanager
def interrupting(when: Callable[[], Any], then: Callable[[], Any]) -> Iterator[None]:
    """Have a signal interrupt this thread, which waits, as soon as something is true; and something else before it is.

    Args:
        when: Is asked by another thread.
        then: Is done by this one, before it goes on.
    """

    def interrupt(*_: Any) -> None:
        then()
        raise Interrupted

    def send() -> None:
        until(when)
        time.sleep(0.05)  # (a moment more, until it really waits)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)

    before = signal.signal(signal.SIGUSR1, interrupt)
    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield
    finally:
        thread.join()
        signal.signal(signal.SIGUSR1, before)


@pytest.mark.parametrize("let_in", [False, True])
@pytest.mark.usefixtures("slow_insert")
def test_who_is_interrupted_while_it_waits_takes_no_room(client: Any, db: Any, let_in: bool) -> None:
    """Whether there was room by then or not: all of it is there for those who come later."""
    with WriteBuffer(client, max_items=2, max_waiting=2, **LATER) as buffer:
        acks = [buffer.insert(db.events, {"_id": number}) for number in range(2)]

        def then() -> None:
            assert not acks[0].done
            if let_in:
                until(lambda: acks[0].done and not buffer.stats.under_way)

        with interrupting(lambda: buffer.stats.under_way == 2, then), pytest.raises(Interrupted):
            buffer.insert(db.events, {"_id": 2})
        for number in (3, 4, 5):
            buffer.insert(db.events, {"_id": number})
    assert [each["_id"] for each in stored(db)] == [0, 1, 3, 4, 5]
    assert buffer.stats.accepted == 5


@pytest.mark.usefixtures("slow_insert")
def test_who_waits_for_room_when_it_is_closed_is_told_so(client: Any, db: Any) -> None:
    """What was accepted is stored."""
    buffer = WriteBuffer(client, max_items=1, max_waiting=1, in_flight=1)
    first = buffer.insert(db.events, {"_id": 1})
    until(lambda: buffer.stats.under_way)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(buffer.insert, db.events, {"_id": 2})
        time.sleep(0.05)
        assert not first.done
        buffer.close()
        with pytest.raises(UsageError, match="closed"):
            waiting.result()
    assert stored(db) == [{"_id": 1}]


@pytest.mark.parametrize("fsync", [False, True])
def test_threads_share_a_journal(client: Any, db: Any, tmp_path: Path, fsync: bool) -> None:
    """What was accepted is on disk; when everything is done, nothing is left there."""
    with WriteBuffer(client, spool=tmp_path, fsync=fsync, **LATER) as buffer:
        with ThreadPoolExecutor(8) as pool:
            acks = list(pool.map(lambda number: buffer.insert(db.events, {"_id": number}), range(100)))
        [path] = tmp_path.iterdir()
        assert path.stat().st_size > 100 * 50
        buffer.flush()
        assert [ack.result() for ack in acks] == list(range(100))
    assert list(tmp_path.iterdir()) == []
    assert len(stored(db)) == 100


def test_threads_that_come_first_open_the_spool_once(
    client: Any, db: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a context, the first call does; those who come meanwhile wait for it."""
    adopt, adopting = Spool.adopt, threading.Event()

    def slow(spool: Spool) -> Any:
        adopting.set()
        time.sleep(0.1)
        return adopt(spool)

    monkeypatch.setattr(Spool, "adopt", slow)
    buffer = WriteBuffer(client, spool=tmp_path, **LATER)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(buffer.insert, db.events, {"_id": 1})
        assert adopting.wait(30)
        second = pool.submit(buffer.insert, db.events, {"_id": 2})
        assert {first.result().key, second.result().key} == {1, 2}
    assert len(list(tmp_path.iterdir())) == 1
    buffer.close()
    assert stored(db) == [{"_id": 1}, {"_id": 2}]


@pytest.mark.usefixtures("slow_insert")
def test_what_is_under_way_when_it_is_closed_stays_on_disk(client: Any, db: Any, tmp_path: Path) -> None:
    """It goes on, and is noted there when it is done."""
    buffer = WriteBuffer(client, spool=tmp_path, max_items=1)
    ack = buffer.insert(db.events, {"_id": 1})
    until(lambda: buffer.stats.under_way)
    buffer.close(timeout=0.05)
    assert (ack.done, len(list(tmp_path.iterdir()))) == (False, 1)
    assert ack.result(30) == 1
    buffer.close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("hook", ["on_dead_letter", "on_batch"])
def test_a_function_that_ends_the_program_ends_no_thread_that_sends(client: Any, db: Any, hook: str) -> None:
    """`sys.exit` in a thread of ours is not heard; others wait for what it sends."""
    db.events.insert_one({"_id": 1})

    def leave(_: Any) -> None:
        sys.exit("this ends a program only in its main thread")

    with WriteBuffer(client, in_flight=1, **{hook: leave}, **LATER) as buffer:
        buffer.insert(db.events, {"_id": 1})
        buffer.flush(30)
        buffer.insert(db.events, {"_id": 2})
        buffer.flush(30)
    assert stored(db) == [{"_id": 1}, {"_id": 2}]


def test_what_ends_a_batch_in_the_middle_leaves_nobody_waiting(
    client: Any, db: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was acknowledged stays so; of the rest nobody knows, and the buffer goes on."""

    def leave(_: Any, batch: Any) -> None:
        batch.members[0].settle(None)
        sys.exit("in the middle")

    with WriteBuffer(client, in_flight=1, **LATER) as buffer:
        acks = [buffer.insert(db.events, {"_id": number}) for number in range(2)]
        with monkeypatch.context() as patch:
            patch.setattr(Batches, "send", leave)
            buffer.flush(30)
        assert (acks[0].result(), type(acks[1].error)) == (0, OutcomeUnknown)
        assert buffer.insert(db.events, {"_id": 3}).done is False
    assert stored(db) == [{"_id": 3}]
