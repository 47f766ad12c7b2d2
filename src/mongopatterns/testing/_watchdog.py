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
        if _is_ours(pid, directory):
            with contextlib.suppress(OSError):  # It may have ended meanwhile.
                os.kill(pid, getattr(signal, "SIGKILL", signal.SIGTERM))
    _remove(directory)


def _is_ours(pid: int, directory: str) -> bool:
    """Tell whether the process still is the server, and not a later one with the same number."""
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return not Path("/proc/self").exists()  # No such file system here: trust the list.
    return os.fsencode(directory) in command


def _remove(directory: str) -> None:
    """Remove the directory, again and again until it stays away."""
    import shutil  # noqa: PLC0415  # not needed before, and the watchdog should start quickly

    deadline = time.monotonic() + _PATIENCE
    while Path(directory).exists() and time.monotonic() < deadline:
        shutil.rmtree(directory, ignore_errors=True)
        time.sleep(0.02)


if __name__ == "__main__":
    main(sys.argv[1])
