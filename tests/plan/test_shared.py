"""Who shares a client: by process, loop and arguments; closed when the last one leaves, and by nobody else."""

from __future__ import annotations

import gc
import signal
import threading
import time
from typing import Any

import pytest

from mongopatterns import UsageError
from mongopatterns._shared import Shared


class Closing:
    """Something that counts how often it was closed."""

    def __init__(self) -> None:
        self.closed = 0

    def close(self) -> str:
        self.closed += 1
        return "closed"


class Loop:
    """Something that may be over."""

    def __init__(self) -> None:
        self.over = False

    def is_closed(self) -> bool:
        return self.over


def test_the_last_one_closes() -> None:
    """All who ask with one key have one client; it is closed once, by the last who leaves."""
    shared = Shared()
    leases = [shared.take("key", None, Closing) for _ in range(3)]
    client = leases[0].client
    assert {id(lease.client) for lease in leases} == {id(client)}
    assert [shared.give_back(lease, None) for lease in leases] == [None, None, "closed"]
    assert (client.closed, len(shared)) == (1, 0)
    assert shared.take("key", None, Closing).client is not client


def test_keys_and_loops_have_their_own() -> None:
    """Other arguments and another loop are another client, each counted by itself."""
    shared, loop = Shared(), Loop()
    leases = [shared.take(key, at, Closing) for key in "ab" for at in (None, loop)]
    assert len({id(lease.client) for lease in leases}) == len(shared) == 4
    assert [shared.give_back(lease, at) for lease, at in zip(leases, (None, loop) * 2, strict=True)] == ["closed"] * 4


def test_a_loop_that_ended_takes_its_clients_along() -> None:
    """What was never left in a loop that is closed is forgotten: nobody could close it, and nobody is given it."""
    shared, loop = Shared(), Loop()
    left = shared.take("key", loop, Closing)
    loop.over = True
    shared.take("other", None, Closing)
    assert len(shared) == 1
    assert left.client.closed == 0


def test_a_client_is_left_where_it_was_entered() -> None:
    """Another loop cannot give it back: it is told so, and the client stays open for its own."""
    shared, mine, other = Shared(), Loop(), Loop()
    lease = shared.take("key", mine, Closing)
    with pytest.raises(UsageError, match="shared_client: it is left in another event loop than it was entered in"):
        shared.give_back(lease, other)
    assert shared.give_back(lease, mine) == "closed"


def test_a_fork_begins_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a child nothing is shared with the parent, nothing of the parent's is closed, and leaving it is refused."""
    shared = Shared()
    inherited = shared.take("key", None, Closing)
    monkeypatch.setattr("mongopatterns._shared.os.getpid", lambda: -5)
    shared.after_fork()
    assert len(shared) == 0
    mine = shared.take("key", None, Closing)
    assert mine.client is not inherited.client
    with pytest.raises(UsageError, match="of which this one, -5, is a fork: enter it in the child"):
        shared.give_back(inherited, None)
    assert shared.give_back(mine, None) == "closed"
    assert inherited.client.closed == 0


def test_a_client_that_cannot_be_made_leaves_nothing() -> None:
    """An error while making it reaches the caller, and the next one tries again."""
    shared = Shared()

    def fail() -> Any:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        shared.take("key", None, fail)
    assert len(shared) == 0
    assert shared.give_back(shared.take("key", None, Closing), None) == "closed"


def test_threads_never_meet_a_closed_client() -> None:
    """Of threads that enter and leave, each has a client that is open as long as it is in."""
    shared = Shared()
    seen: list[bool] = []
    made: list[Closing] = []

    def make() -> Closing:
        made.append(Closing())
        return made[-1]

    def work() -> None:
        for _ in range(300):
            lease = shared.take("key", None, make)
            seen.append(lease.client.closed == 0)
            shared.give_back(lease, None)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (all(seen), len(seen), len(shared)) == (True, 2400, 0)
    assert {each.closed for each in made} == {1}


def test_a_finalizer_leaves_in_the_middle_of_anything() -> None:
    """The collector may run while a thread enters or leaves, and leave for what it collects, in that very thread."""
    shared = Shared()
    made: list[Closing] = []

    def make() -> Closing:
        made.append(Closing())
        return made[-1]

    class Forgotten:
        def __init__(self, key: str) -> None:
            self.itself = self  # so that the collector finds it, at any time
            self.lease = shared.take(key, None, make)

        def __del__(self) -> None:
            shared.give_back(self.lease, None)

    def work() -> None:
        for index in range(500):
            gc.set_threshold(1 + index % 17)  # each time at another place
            Forgotten("ab"[index % 2])
            lease = shared.take("ab"[index % 2], None, make)
            seen.append(lease.client.closed)
            shared.give_back(lease, None)

    seen: list[int] = []
    before = gc.get_threshold()
    try:
        threads = [threading.Thread(target=work, daemon=True) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert not any(thread.is_alive() for thread in threads)
    finally:
        gc.set_threshold(*before)
    gc.collect()
    assert (set(seen), len(seen), len(shared)) == ({0}, 1000, 0)
    assert {each.closed for each in made} == {1}


def test_making_one_client_stops_nobody_who_wants_another() -> None:
    """A client that takes long (its names are looked up) is waited for by those who want that one, and made once."""
    shared, begun, go_on = Shared(), threading.Event(), threading.Event()
    made: list[Closing] = []
    leases: list[Any] = []

    def make_slowly() -> Closing:
        begun.set()
        assert go_on.wait(20)
        made.append(Closing())
        return made[-1]

    threads = [threading.Thread(target=lambda: leases.append(shared.take("slow", None, make_slowly))) for _ in range(4)]
    for thread in threads:
        thread.start()
    assert begun.wait(20)
    other = threading.Thread(target=lambda: shared.give_back(shared.take("quick", None, Closing), None), daemon=True)
    other.start()
    other.join(10)
    assert not other.is_alive()
    assert not leases
    go_on.set()
    for thread in threads:
        thread.join()
    assert {id(lease.client) for lease in leases} == {id(made[0])}
    assert [shared.give_back(lease, None) for lease in leases] == [None, None, None, "closed"]
    assert (len(made), len(shared)) == (1, 0)


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt()])
def test_those_who_wait_are_told_of_an_error(error: BaseException) -> None:
    """All who wait for a client that cannot be made are told; if its maker was stopped, one of them makes it."""
    shared, begun, go_on = Shared(), threading.Event(), threading.Event()
    came: list[object] = []

    def fail() -> Any:
        begun.set()
        assert go_on.wait(20)
        raise error

    def take(make: Any) -> None:
        try:
            came.append(shared.take("key", None, make))
        except BaseException as caught:  # noqa: BLE001  # the thread's error is what is tested
            came.append(caught)

    threads = [threading.Thread(target=take, args=(fail,))]
    threads[0].start()
    assert begun.wait(20)
    threads += [threading.Thread(target=take, args=(Closing,)) for _ in range(3)]
    for thread in threads[1:]:
        thread.start()
    entry = next(iter(shared._entries.values()))
    while len(entry.users) < 4:
        threading.Event().wait(0.005)
    go_on.set()
    for thread in threads:
        thread.join()
    if isinstance(error, Exception):
        assert came == [error] * 4
    else:
        leases = [each for each in came if each is not error]
        assert [shared.give_back(lease, None) for lease in leases] == [None, None, "closed"]
    assert len(shared) == 0


def test_a_client_is_not_entered_while_it_is_made() -> None:
    """A thread that would wait for itself is told so."""
    shared = Shared()
    with pytest.raises(UsageError, match="shared_client: it is entered while it is made"):
        shared.take("key", None, lambda: shared.take("key", None, Closing))
    assert len(shared) == 0


def test_who_is_interrupted_while_another_makes_it_keeps_no_part() -> None:
    """The one who makes it is the only one who has it then, and closes it."""
    shared, making, go_on = Shared(), threading.Event(), threading.Event()
    leases = []

    def make() -> Closing:
        making.set()
        assert go_on.wait(30)
        return Closing()

    class Interrupted(BaseException):
        """What a signal brings."""

    def interrupt(*_: Any) -> None:
        raise Interrupted

    def send() -> None:
        time.sleep(0.05)  # (a moment, until the other one really waits)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)

    maker = threading.Thread(target=lambda: leases.append(shared.take("key", None, make)))
    maker.start()
    assert making.wait(30)
    before = signal.signal(signal.SIGUSR1, interrupt)
    sender = threading.Thread(target=send)
    sender.start()
    try:
        with pytest.raises(Interrupted):
            shared.take("key", None, Closing)
    finally:
        sender.join()
        signal.signal(signal.SIGUSR1, before)
        go_on.set()
        maker.join()
    assert shared.give_back(leases[0], None) == "closed"
