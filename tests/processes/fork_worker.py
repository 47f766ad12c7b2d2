"""Fork in the middle of a load, and count in the children too: prints every total that any of the processes was told.

Run by itself, because a test run has threads and clients of its own that a fork would copy.
"""

from __future__ import annotations

import os
import sys
import threading
import warnings
from typing import Any

from pymongo import MongoClient

from mongopatterns import Counter, CounterSpec

THREADS, CALLS, CHILDREN = 8, 50, 4


def load(counter: Counter, told: list[Any]) -> list[threading.Thread]:
    """Start threads that count."""

    def work() -> None:
        told.extend(counter.add("home") for _ in range(CALLS))

    threads = [threading.Thread(target=work, daemon=True) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    return threads


def main(uri: str, name: str) -> int:
    counter = Counter(MongoClient(uri)[name], CounterSpec("hits", path="n"), combine=True)
    told: list[Any] = []
    threads = load(counter, told)
    children = []
    for _ in range(CHILDREN):
        read, write = os.pipe()
        if (child := os.fork()) == 0:
            # The driver warns of every client that is older than the fork, and makes new connections for it.
            warnings.filterwarnings("ignore", message="MongoClient opened before fork")
            mine: list[Any] = []
            for thread in load(counter, mine):
                thread.join(30)
            counter.close()
            os.write(write, " ".join(map(str, mine)).encode())
            os._exit(0 if len(mine) == THREADS * CALLS else 1)
        os.close(write)
        children.append((child, read))
    for thread in threads:
        thread.join(60)
    counter.close()
    failed = 0
    for child, read in children:
        with os.fdopen(read) as pipe:
            told.extend(pipe.read().split())
        failed |= os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    print(*told)  # noqa: T201  # to the test that started it
    return failed


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
