"""Clean up after a process that started servers and died without a word, by SIGKILL too.

Run as a script of its own (`python -I -S _watchdog.py DIRECTORY`), so it imports nothing of this package. It
reads `+PID` and `-PID` lines from its standard input: the servers that run at the moment. The input ends when
the process that holds the other end of the pipe ends, however it ends. What is still listed is then killed,
and the directory is removed.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from pathlib import Path

# A killed server may hold its files for a moment longer.
_PATIENCE = 10.0


def main(directory: str) -> None:
    """Follow the list until the input ends, then kill what is on it and remove the directory."""
    # Only the end of the input ends the watchdog: whoever signals a whole tree of processes must not leave
    # the rest.
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    running: set[int] = set()
    for line in sys.stdin:
        pid = int(line[1:])
        (running.add if line[0] == "+" else running.discard)(pid)
    for pid in running:
        if is_ours(pid, directory):
            signal_group(pid, getattr(signal, "SIGKILL", signal.SIGTERM))
    _remove(directory)


def signal_group(pid: int, number: int) -> None:
    """Send a signal to a server and to what it started: a `mongod` may be a script that starts the real one.

    Args:
        pid: The process, which leads a group of its own.
        number: The signal.
    """
    with contextlib.suppress(OSError):  # It may have ended meanwhile.
        (os.killpg if hasattr(os, "killpg") else os.kill)(pid, number)


def is_ours(pid: int, directory: str) -> bool:
    """Tell whether the process or its group still is the server, and not a later one with the same number.

    Args:
        pid: The process that was started as the leader of a group.
        directory: What every server's command line contains.
    """
    system = Path("/proc")
    if not (system / "self").exists():
        return True  # No such file system here: trust the list.
    if _runs_in(pid, directory):
        return True
    others = [int(entry.name) for entry in system.iterdir() if entry.name.isdigit()]
    return any(_group_of(other) == pid and _runs_in(other, directory) for other in others)


def _runs_in(pid: int, directory: str) -> bool:
    try:
        return os.fsencode(directory) in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def _group_of(pid: int) -> int | None:
    try:
        return os.getpgid(pid)
    except OSError:
        return None


def _remove(directory: str) -> None:
    """Remove the directory, again and again until it stays away."""
    import shutil  # noqa: PLC0415  # not needed before, and the watchdog should start quickly

    deadline = time.monotonic() + _PATIENCE
    while Path(directory).exists() and time.monotonic() < deadline:
        shutil.rmtree(directory, ignore_errors=True)
        time.sleep(0.02)


if __name__ == "__main__":
    main(sys.argv[1])
