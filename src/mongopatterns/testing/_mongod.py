"""One `mongod` process, the choice of its port, and the watchdog that outlives us.

Nothing here knows of replica sets: `_server` does.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
import time
import weakref
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final, TypeVar

from mongopatterns.errors import DeploymentError
from mongopatterns.testing._watchdog import is_ours, signal_group
from mongopatterns.testing._wire import HOST

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Mongod", "Watchdog", "free_ports", "poll"]

_T = TypeVar("_T")

# Below the range from which systems take the ports of outgoing connections (Linux: from 32768): a client that
# retries a port where nobody listens could otherwise be given that very port, and keep a member from
# restarting.
_PORTS: Final = range(15_000, 32_000)
_TAIL_LINES: Final = 15
# What a killed process that is not our own child may take to be gone.
_KILLED: Final = 5.0
# How mongod says at its exit that it could not listen.
_EXIT_CANNOT_LISTEN: Final = 48
_KILL: Final[int] = getattr(signal, "SIGKILL", signal.SIGTERM)


def poll(check: Callable[[], _T | None], *, seconds: float, interval: float = 0.01) -> _T | None:
    """Ask again and again until there is an answer.

    Args:
        check: Returns None as long as there is no answer.
        seconds: When to give up. It is asked once in any case.
        interval: Seconds between two questions.

    Returns:
        The first answer that is not None; None when there was none in time.
    """
    deadline = time.monotonic() + seconds
    while True:
        answer = check()
        if answer is not None or time.monotonic() >= deadline:
            return answer
        time.sleep(interval)


def free_ports(count: int) -> list[int]:
    """Pick ports where nobody listens at the moment.

    Raises:
        DeploymentError: A thousand attempts did not find enough of them.
    """
    found: list[int] = []
    for port in random.SystemRandom().sample(_PORTS, 1000):
        if len(found) == count:
            break
        with socket.socket() as probe:
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
        found.append(port)
    if len(found) < count:
        raise DeploymentError(f"no {count} free ports between {_PORTS.start} and {_PORTS.stop} on {HOST}")
    return found


@dataclass
class Mongod:
    """One member: where it lives and, while it runs, its process.

    Attributes:
        index: Its number in the set, from 0.
        port: Where it listens on the loopback; kept across restarts.
        directory: Its data, its log and its output.
        command: The command line that starts it.
        environment: The variables that it is started with; None for those of this process.
    """

    index: int
    port: int
    directory: Path
    command: list[str]
    environment: dict[str, str] | None
    watchdog: Watchdog
    _process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def pid(self) -> int | None:
        """The process, or None when it does not run."""
        process = self._process
        return process.pid if process is not None and process.poll() is None else None

    def launch(self) -> None:
        """Start the process, without waiting until it answers.

        Raises:
            DeploymentError: The file cannot be run at all.
        """
        self.directory.mkdir(exist_ok=True)
        with self._output.open("wb") as output:
            try:
                # A session of its own: Ctrl-C in a terminal reaches the tests, which then stop the server.
                self._process = subprocess.Popen(  # noqa: S603  # the command is ours
                    self.command,
                    env=self.environment,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            except OSError as error:
                raise DeploymentError(f"{self.command[0]} cannot be run: {error}") from error
        self.watchdog.add(self._process.pid)

    def end(self, grace: float = 0.0) -> None:
        """End the process and wait for it: give it `grace` (seconds) after `ask_to_end`, then kill.

        What the process started ends with it: a `mongod` may be a script that starts the real server.
        """
        process, self._process = self._process, None
        if process is None:
            return
        if grace > 0:
            poll(lambda: None if self._goes_on(process) else True, seconds=grace)
        if process.poll() is None:
            # It has not been waited for, so that its number is still its own.
            signal_group(process.pid, _KILL)
            process.kill()
            process.wait()
        elif self._goes_on(process):
            signal_group(process.pid, _KILL)
        poll(lambda: None if self._goes_on(process) else True, seconds=_KILLED)
        self.watchdog.remove(process.pid)

    def ask_to_end(self) -> None:
        """Send the signal that asks for a clean shutdown."""
        process = self._process
        if process is not None and self._goes_on(process):
            signal_group(process.pid, signal.SIGTERM)

    def _goes_on(self, process: subprocess.Popen[bytes]) -> bool:
        """Tell whether the process, or one that it started, is there."""
        return process.poll() is None or (_is_group(process.pid) and is_ours(process.pid, str(self.directory)))

    @property
    def could_not_listen(self) -> bool:
        """Whether the process has ended because its port was taken."""
        process = self._process
        return process is not None and process.poll() == _EXIT_CANNOT_LISTEN

    def tail(self) -> str:
        """Return how the process ended and the last lines that it wrote, for an error's message."""
        process = self._process
        code = None if process is None else process.poll()
        state = "still runs" if code is None else f"ended with code {code}"
        lines = _last_lines(self._output) + _last_lines(self.directory / "mongod.log", only=('"s":"F"', '"s":"E"'))
        return "\n  ".join([f"{self.command[0]} {state}. It wrote:", *(lines or ["(nothing)"])])

    @property
    def _output(self) -> Path:
        return self.directory / "output.txt"


def _is_group(pid: int) -> bool:
    """Tell whether there is a group of processes of that number."""
    try:
        os.killpg(pid, 0)
    except (AttributeError, OSError):
        return False
    return True


def _last_lines(file: Path, only: tuple[str, ...] = ("",)) -> list[str]:
    """Read the end of a text file: the lines that contain one of `only`."""
    try:
        with file.open(errors="replace") as lines:
            wanted = (line.rstrip() for line in lines if any(mark in line for mark in only))
            return list(deque(wanted, maxlen=_TAIL_LINES))
    except OSError:
        return []


class Watchdog:
    """A small process that kills the listed servers and removes their directory once this process is gone.

    It learns of our end from the pipe between us: the writing end is closed by the system, whatever killed
    us. No server inherits that end, and a forked child closes its copy.
    """

    def __init__(self, directory: Path) -> None:
        script = Path(__file__).with_name("_watchdog.py")
        self._process = subprocess.Popen(  # noqa: S603  # the interpreter that runs us, on a file of ours
            [sys.executable, "-I", "-S", str(script), str(directory)],
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        _watchdogs.add(self)

    def add(self, pid: int) -> None:
        """Put a server on the list."""
        self._write(f"+{pid}\n")

    def remove(self, pid: int) -> None:
        """Take a server off the list, once it has ended."""
        self._write(f"-{pid}\n")

    def end(self) -> None:
        """Let the watchdog do its work on what is left, and wait for it."""
        self.close()
        self._process.wait()

    def close(self) -> None:
        """Give up our end of the pipe."""
        self._pipe.close()

    @property
    def _pipe(self) -> IO[bytes]:
        pipe = self._process.stdin
        assert pipe is not None  # noqa: S101  # asked for above
        return pipe

    def _write(self, line: str) -> None:
        # Somebody may have killed it: an orderly stop does without.
        with contextlib.suppress(BrokenPipeError):
            self._pipe.write(line.encode())


_watchdogs: Final[weakref.WeakSet[Watchdog]] = weakref.WeakSet()


def _close_in_child() -> None:
    """Close a forked child's copies, so that the pipes end with the process that started the servers."""
    for watchdog in list(_watchdogs):
        watchdog.close()


if hasattr(os, "register_at_fork"):  # not on Windows, which does not fork
    os.register_at_fork(after_in_child=_close_in_child)
