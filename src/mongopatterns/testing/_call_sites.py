"""Find the line of an application that made the driver send a command.

It is the innermost frame that belongs neither to a driver nor to what stands between the two: this package, ODMs and
the standard library. Where that frame stands depends on the driver:

* PyMongo, synchronous: on the stack of the thread.
* PyMongo, asynchronous: on the stack of the task. A coroutine that is handed over (`asyncio.gather(users.find_one())`)
  runs in a task of its own, on whose stack is the driver alone; then it is where that coroutine was made, which
  Python remembers when it is told to.
* Motor sends from a thread of its own, and leaves nothing there of who called. It copies the context of the caller,
  though, in a function on the caller's stack: the place is put into the context when that function begins, and
  taken out when it ends.

What is not found is called unknown, and never guessed. All of it costs time, and runs inside a guard alone.
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
import sys
import threading
from contextlib import suppress
from contextvars import ContextVar
from functools import cache
from inspect import currentframe
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

__all__ = ["UNKNOWN", "CallSites", "readable"]

UNKNOWN: Final = "unknown"

# What stands between an application and its driver, besides the standard library.
_BETWEEN: Final = (
    "anyio", "beanie", "bson", "gridfs", "mongoengine", "mongopatterns", "motor", "odmantic", "pymongo", "umongo",
)  # fmt: skip
# Here an event loop calls: what is further out on the stack started the loop, and not the command.
_LOOPS: Final = tuple(os.path.join("asyncio", f"{name}.py") for name in ("base_events", "events", "runners"))  # noqa: PTH118
# Frames of their own that say nothing to a reader (newer versions of Python have fewer): who has them is named.
_COMPREHENSIONS: Final = ("<genexpr>", "<listcomp>", "<dictcomp>", "<setcomp>")
# How many frames are remembered of where a coroutine was made: enough for the helpers above, and each one costs.
_DEPTH: Final = 8

# The place of the call that Motor is just handing to its thread.
_handed_over: ContextVar[str] = ContextVar("mongopatterns_call_site", default=UNKNOWN)


class CallSites:
    """Make places readable in this thread, from the constructor to `close`.

    Args:
        client: The client whose commands are to be placed.
    """

    def __init__(self, client: object) -> None:
        self._thread: Final = threading.get_ident()
        self._motor: Final = any(kind.__module__.split(".")[0] == "motor" for kind in type(client).__mro__)
        _here.open(motor=self._motor)

    def close(self) -> None:
        """Let the thread run as before. From another thread this does nothing, as it could not."""
        if threading.get_ident() == self._thread:
            _here.close(motor=self._motor)

    def find(self) -> str:
        """Tell the place of the command that is being sent: `file:line in function`, or that it is unknown."""
        return _handed_over.get() if self._motor else _place(currentframe())


def readable(site: str) -> str:
    """Shorten the path of a place below the working directory, for a message."""
    return site.removeprefix(f"{Path.cwd()}{os.sep}")


class _Here(threading.local):
    """What this thread remembers for the places of its calls, and how many need it."""

    users = 0
    motor_users = 0
    depth = 0

    def open(self, *, motor: bool) -> None:
        """Remember where coroutines are made, and watch what Motor hands to its threads."""
        if not self.users:
            self.depth = sys.get_coroutine_origin_tracking_depth()
        self.users += 1
        sys.set_coroutine_origin_tracking_depth(max(_DEPTH, self.depth))
        self.motor_users += motor
        if motor and sys.getprofile() is None:  # (a profiler of the application keeps its place)
            sys.setprofile(_on_call)

    def close(self, *, motor: bool) -> None:
        """Stop, when nobody needs it any more."""
        self.users -= 1
        if not self.users:
            sys.set_coroutine_origin_tracking_depth(self.depth)
        self.motor_users -= motor
        if not self.motor_users and sys.getprofile() is _on_call:
            sys.setprofile(None)


_here: Final = _Here()


def _on_call(frame: FrameType, event: str, _argument: Any) -> None:
    """See each call in this thread (a profile function), and those that Motor hands over."""
    if frame.f_code.co_name != "run_on_executor" or event not in ("call", "return"):
        return
    if str(frame.f_globals.get("__name__")).startswith("motor."):
        _handed_over.set(_place(frame) if event == "call" else UNKNOWN)


def _place(frame: FrameType | None) -> str:
    """Find the application on the stack of a task or a thread, or where the task's coroutine was made."""
    found = ""
    for file, line, function in _lines(frame):
        if file.endswith(_LOOPS):
            break
        if not found and not _is_between(file):
            found = f"{file}:{line} in "
        if found.startswith(f"{file}:") and function not in _COMPREHENSIONS:
            return f"{found}{function}"
    return f"{found}a comprehension" if found else UNKNOWN


def _lines(frame: FrameType | None) -> Iterator[tuple[str, int, str]]:
    """List the file, line and function of each frame, the innermost first."""
    coroutine = _running()
    last = getattr(coroutine, "cr_frame", None)
    while frame is not None:
        yield frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name
        frame = None if frame is last else frame.f_back
    yield from getattr(coroutine, "cr_origin", None) or ()


def _running() -> object:
    """Return the coroutine of the task that runs in this thread; None if there is no task."""
    try:
        task = asyncio.current_task()
    except RuntimeError:
        return None
    return task and task.get_coro()


@cache
def _is_between(file: str) -> bool:
    """Tell whether a file belongs to a driver, or to what stands between a driver and the application."""
    standard, packages = _folders()
    if file.startswith(("<frozen ", *packages)):
        return True
    # (packages are installed below the standard library; a distribution may call their folder by the other name)
    return file.startswith(standard) and not file.startswith(
        tuple(f"{standard}{name}" for name in ("site-packages", "dist-packages"))
    )


@cache
def _folders() -> tuple[str, tuple[str, ...]]:
    """Return the folder of the standard library, and those of the packages above that are installed."""
    packages: list[str] = []
    for name in _BETWEEN:
        with suppress(ImportError, ValueError):  # (ValueError: a stand-in for the package, without a specification)
            spec = importlib.util.find_spec(name)
            packages += spec.submodule_search_locations or () if spec else ()
    return f"{Path(os.__file__).parent}{os.sep}", tuple(f"{folder}{os.sep}" for folder in packages)
