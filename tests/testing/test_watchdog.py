"""What cleans up after a process that died without a word, run in this process: `test_server` runs it in its own."""

from __future__ import annotations

import io
import os
import runpy
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from mongopatterns.testing import _watchdog

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

WAITS = "import sys; print('up', flush=True); sys.stdin.read()"
# A script that starts the real server, and is gone: the leader of the group is another one then.
STARTS = "import subprocess, sys; subprocess.Popen([sys.executable, '-c', sys.argv[1], *sys.argv[2:]])"
SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]


@pytest.fixture
def signals() -> Iterator[None]:
    """Restore what the watchdog ignores."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def start() -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Start a process that leads a group of its own, and has these arguments; it waits until it is up."""
    started: list[subprocess.Popen[bytes]] = []

    def begin(*arguments: str) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, "-c", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        return process

    yield begin
    for process in started:
        _watchdog.signal_group(process.pid, signal.SIGKILL)
        process.communicate()


def follow(monkeypatch: pytest.MonkeyPatch, directory: Path, *lines: str) -> None:
    """Run it as a script until its input ends."""
    monkeypatch.setattr(sys, "stdin", io.StringIO("".join(f"{line}\n" for line in lines)))
    monkeypatch.setattr(sys, "argv", [_watchdog.__file__, str(directory)])
    runpy.run_path(_watchdog.__file__, run_name="__main__")


def test_what_runs_in_the_end_is_killed_and_nothing_else(
    signals: None,
    start: Callable[..., subprocess.Popen[bytes]],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """A server that ended before, and a later process with the number of one, are let be; the directory is gone."""
    directory = tmp_path / "servers"
    directory.mkdir()
    (directory / "data").write_text("some")
    server, ended, other = start(WAITS, str(directory)), start(WAITS, str(directory)), start(WAITS)
    follow(monkeypatch, directory, f"+{server.pid}", f"+{ended.pid}", f"+{other.pid}", f"-{ended.pid}")
    assert server.wait(10) == -signal.SIGKILL
    assert (ended.poll(), other.poll()) == (None, None)
    assert not directory.exists()
    assert {signal.getsignal(number) for number in SIGNALS} == {signal.SIG_IGN}


def test_a_server_behind_a_script_that_is_gone_is_ours(
    start: Callable[..., subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    """The number is that of the script; its group still has the server."""
    script = start(STARTS, WAITS, str(tmp_path))
    assert script.wait(10) == 0
    assert _watchdog.is_ours(script.pid, str(tmp_path))
    assert not _watchdog.is_ours(script.pid, str(tmp_path / "another"))
    assert script.stdout is not None
    _watchdog.signal_group(script.pid, signal.SIGKILL)
    assert script.stdout.read() == b""  # it ends when the last of the group has ended
    _watchdog.signal_group(script.pid, signal.SIGKILL)  # nobody is left, which is no error


def test_a_process_that_ends_while_it_is_looked_at_has_no_group(start: Callable[..., subprocess.Popen[bytes]]) -> None:
    """What was listed may be gone when its group is asked for: then it is nobody's."""
    process = start(WAITS)
    assert _watchdog._group_of(process.pid) == process.pid
    process.communicate()
    assert _watchdog._group_of(process.pid) is None


def test_a_system_without_its_files_trusts_the_list(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where nothing tells what a process is, what was told is true."""
    assert not _watchdog.is_ours(os.getpid(), str(tmp_path))
    monkeypatch.setattr(_watchdog, "Path", lambda _: tmp_path)
    assert _watchdog.is_ours(os.getpid(), str(tmp_path))
