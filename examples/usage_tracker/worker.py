"""The worker: Celery gives a job to it at least once, and the quotas count it once.

Run it as `celery -A examples.usage_tracker.worker worker`, with a broker in `CELERY_BROKER_URL`.
"""

import os
import time
from contextlib import ExitStack
from typing import Any

from celery import Celery, Task
from celery.signals import worker_process_init, worker_process_shutdown
from pymongo.errors import PyMongoError

from mongopatterns import Documents, Profile, Quota, shared_client

from . import local, settings, specs


def configure() -> dict[str, Any]:
    """Say that no job may be lost: it is done again rather than not at all."""
    return {
        "task_acks_late": True,  # a message is done with when its job is, and not when it is read
        "task_reject_on_worker_lost": True,  # given back if the process that had it is killed; else it would be lost
        "worker_prefetch_multiplier": 1,
        "task_ignore_result": True,  # what came of a job stands in the database
        **local.broker(os.environ.get("BROKER_FOLDER")),
    }


app = Celery("usage_tracker")
app.add_defaults(configure)  # called when the first setting is asked for


class Tracker:
    """What each process of the worker has: a client of its own, and the patterns on it."""

    minutes: Quota
    tokens: Quota
    jobs: Documents

    def __init__(self) -> None:
        self._entered = ExitStack()

    def connect(self, **_signal: Any) -> None:
        """Connect this process. The worker forks it, so whatever was connected before belongs to another one."""
        connected = shared_client(
            settings.uri(),
            profile=Profile.WORKER,
            budget=specs.BUDGET,
            app_name=f"usage-worker-{os.getpid()}",  # the server's log and $currentOp show whose connection it is
        )
        db = self._entered.enter_context(connected)[settings.database()]
        self.minutes = Quota(db, specs.MINUTES)
        self.tokens = Quota(db, specs.TOKENS)
        self.jobs = Documents(db, specs.JOBS)

    def disconnect(self, **_signal: Any) -> None:
        """Close the client."""
        self._entered.close()


tracker = Tracker()
worker_process_init.connect(tracker.connect)
worker_process_shutdown.connect(tracker.disconnect)


# When nobody knows whether a write was done, the job is tried again under the same id: with `once=` that is no risk.
@app.task(name="transcribe", bind=True, autoretry_for=(PyMongoError,), retry_backoff=True, max_retries=10)
def transcribe(task: Task, account: str, minutes: float, seconds: float = 0) -> None:
    """Take the minutes from the account, do the work if there were enough, and count what it cost."""
    job = task.request.id
    here = {"worker": os.getppid(), "process": os.getpid()}
    if not tracker.minutes.consume(account, minutes, once=job):
        tracker.jobs.upsert(job, set={**here, "state": "refused"}, inc={"deliveries": 1})
        return
    known, _ = tracker.jobs.upsert(job, set=here, inc={"deliveries": 1})
    if known.get("state") != "done":  # a delivery that has come too late does nothing again
        tokens = work(minutes, seconds)
        tracker.tokens.record(account, tokens, once=job)
        tracker.jobs.upsert(job, set={"state": "done"})


def work(minutes: float, seconds: float) -> float:
    """Stand for what takes its time, and tell what it cost."""
    time.sleep(seconds)
    return 150 * minutes
