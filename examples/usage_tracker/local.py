"""A broker that is a folder, and workers that are processes of this machine: for the demonstration and the tests.

The folder is Celery's own file system transport. A message is a file, which is moved away when a worker reads it.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from celery import Celery
from pymongo.database import Database

T = TypeVar("T")


def broker(folder: str | Path | None) -> dict[str, Any]:
    """Return the settings of a broker that is a folder; none for another broker."""
    if folder is None:
        return {}
    return {
        "broker_url": "filesystem://",
        "broker_transport_options": {
            "data_folder_in": f"{folder}/queue",
            "data_folder_out": f"{folder}/queue",
            "control_folder": f"{folder}/control",
            "processed_folder": f"{folder}/read",
            "store_processed": True,  # else a message is gone when it has been read
            "polling_interval": 0.05,
        },
        "worker_enable_remote_control": False,
        "worker_lost_wait": 0.1,  # seconds until it is believed that a process was killed; 10 unless said
    }


class Local:
    """A broker in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        for name in ("queue", "read", "control"):
            (folder / name).mkdir()

    def submit(self, jobs: dict[str, tuple[Any, ...]]) -> None:
        """Send jobs, by their ids, as any process does that only knows the name of the task.

        Before a worker starts: one that is idle could read a message of this broker before it is written to its end.
        """
        with Celery("submit", set_as_current=False) as app:
            app.conf.update(broker(self._folder))
            for job, arguments in jobs.items():
                app.send_task("transcribe", arguments, task_id=job)

    @contextmanager
    def worker(self, processes: int = 2) -> Iterator[subprocess.Popen[bytes]]:
        """Start a worker, and kill it with all its processes in the end."""
        command = [sys.executable, "-m", "celery", "-A", "examples.usage_tracker.worker", "worker"]
        command += ["--without-gossip", "--without-mingle", "--without-heartbeat", f"--concurrency={processes}"]
        with (self._folder / "worker.log").open("ab") as log:
            started = subprocess.Popen(  # noqa: S603 - nothing in it comes from anybody else
                command,
                cwd=Path(__file__).parents[2],
                env={**os.environ, "BROKER_FOLDER": str(self._folder)},
                stdout=log,
                stderr=log,
                start_new_session=True,  # a group of its own, which is killed as a whole
            )
        try:
            yield started
        finally:
            with suppress(ProcessLookupError):  # it has ended by itself
                os.killpg(started.pid, signal.SIGKILL)
            started.wait()

    @property
    def waiting(self) -> int:
        """How many messages no worker has read."""
        return len(list((self._folder / "queue").iterdir()))

    def put_back(self) -> int:
        """Give the workers again whatever they have read so far, done or not. Return how many messages that are."""
        messages = list((self._folder / "read").iterdir())
        for message in messages:
            message.rename(self._folder / "queue" / message.name)
        return len(messages)


def until(check: Callable[[], T | None], seconds: float = 60) -> T:
    """Look again and again until there is something, and return it."""
    deadline = time.monotonic() + seconds
    while not (found := check()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"nothing came within {seconds} seconds")
        time.sleep(0.01)
    return found


def stop_in_the_middle(db: Database[dict[str, Any]], worker: subprocess.Popen[bytes]) -> dict[str, Any]:
    """Stop a process that has counted a job and not finished it, for whoever is to kill it. Return the job."""

    def stopped() -> dict[str, Any] | None:
        job = db.jobs.find_one({"worker": worker.pid, "state": None})
        if job is None:
            return None
        os.kill(job["process"], signal.SIGSTOP)
        if still := db.jobs.find_one(job):  # it may have gone on since
            return still
        os.kill(job["process"], signal.SIGCONT)
        return None

    return until(stopped)
