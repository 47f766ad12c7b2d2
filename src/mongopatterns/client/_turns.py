"""One change after the other, from any thread; also if one is asked for in the middle of another, in the same thread.

A listener of the driver is called wherever the driver works. A signal handler or a finalizer runs between any two steps
of a thread, and may work with the driver too: what it asks for then can neither wait for the change that it
interrupted, nor happen in the middle of it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from threading import RLock
from typing import Final, TypeVar

T = TypeVar("T")


class Turns:
    """Give changes their turns, and readers what is there between two of them."""

    def __init__(self) -> None:
        self._lock: Final = RLock()
        self._waiting: Final[deque[Callable[[], object]]] = deque()
        self._taken = False

    def change(self, change: Callable[[], object]) -> bool:
        """Make a change. False if this interrupts another one, which then makes this one as soon as it is done."""
        self._waiting.append(change)
        with self._lock:
            return self._go_on()

    def read(self, read: Callable[[], T]) -> T:
        """Return what is there. A reader that interrupts a change is given what there is in the middle of it."""
        with self._lock:
            self._go_on()
            interrupts = self._taken
            try:
                self._taken = True
                return read()
            finally:
                self._taken = interrupts
                self._go_on()

    def _go_on(self) -> bool:
        """Make the changes that wait, unless this interrupts one."""
        if self._taken:
            return False
        while self._waiting:
            try:
                self._taken = True
                if self._waiting:  # what interrupted this just before may have made them all
                    self._waiting.popleft()()
            finally:
                self._taken = False
        return True
