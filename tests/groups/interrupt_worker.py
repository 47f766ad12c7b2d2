"""Interrupt threads of a group at any instruction of Python, and print what went wrong: nothing, it should be.

Run by itself, in a process without a tool that traces it: an interrupt would also hit that tool, which may hold a
lock of its own just then, and wait for ever.
"""

from __future__ import annotations

import ctypes
import random
import sys
import threading
import time
from typing import Any

from mongopatterns._group_sync import Groups
from mongopatterns.errors import NotSent, OutcomeUnknown

THREADS, STRIKES, PATIENCE = 12, 300, 30.0


class Victim(threading.Thread):
    """A thread that calls again and again, and can be interrupted between any two instructions of Python."""

    def __init__(self, groups: Groups[Any, Any], number: int, stop: threading.Event) -> None:
        super().__init__(daemon=True)
        self.groups = groups
        self.number = number
        self.stop = stop
        self.struck = True  # not to be interrupted before it can catch it
        self.calls = 0
        self.wrong: list[Any] = []

    def run(self) -> None:
        while True:
            try:
                self.struck = False
                return self.call()
            except KeyboardInterrupt:
                pass

    def call(self) -> None:
        while not self.stop.is_set():
            try:
                answer = self.groups.submit("lane", self.number, None if self.number % 2 else 5)
            except OutcomeUnknown as error:
                answer = self.number if isinstance(error.__cause__, KeyboardInterrupt) else error
            except NotSent as error:
                answer = error
            self.calls += 1
            if answer != self.number:
                self.wrong.append(answer)

    def strike(self) -> None:
        self.struck = True
        place = ctypes.c_ulong(self.ident or 0)
        assert ctypes.pythonapi.PyThreadState_SetAsyncExc(place, ctypes.py_object(KeyboardInterrupt)) == 1

    def recover(self) -> None:
        give_up = time.monotonic() + PATIENCE
        while self.struck:
            if time.monotonic() > give_up:
                sys.exit(f"thread {self.number} does not feel its interrupt: somebody hangs")
            time.sleep(0.0005)


def together(calls: list[Any], timeout: float | None) -> list[Any]:
    time.sleep(0.0001)
    return list(calls)


def main(seed: int) -> str | None:
    sys.setswitchinterval(1e-5)  # threads take turns as often as possible
    dice = random.Random(seed)
    groups: Groups[Any, Any] = Groups(
        lambda call, timeout: together([call], timeout)[0], together, name="stress", max_calls=5
    )
    stop = threading.Event()
    victims = [Victim(groups, number, stop) for number in range(THREADS)]
    for victim in victims:
        victim.start()
    for _ in range(STRIKES):
        victim = dice.choice(victims)
        victim.recover()
        victim.strike()
        time.sleep(dice.random() * 0.002)
    for victim in victims:
        victim.recover()
    stop.set()
    for victim in victims:
        victim.join(PATIENCE)
    if any(victim.is_alive() for victim in victims):
        return "somebody hangs"
    if wrong := [told for victim in victims for told in victim.wrong]:
        return f"told something wrong: {wrong}"
    if groups._lanes:
        return "a lane is left"
    print(sum(victim.calls for victim in victims))  # noqa: T201  # to the test that started it
    return None


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
