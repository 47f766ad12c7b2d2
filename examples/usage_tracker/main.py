"""Kill workers in the middle of their jobs, deliver every job again, and see what was counted.

Run it with `make app NAME=usage_tracker`. The broker is a folder, so nothing but MongoDB is needed.
"""

import os
import signal
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from pymongo.database import Database

from mongopatterns import Profile, Schema, make_client

from . import settings, specs
from .handler import handler
from .local import Local, stop_in_the_middle, until

JOBS, LIMIT = 20, 12


def main() -> None:
    """Run everything."""
    with make_client(settings.uri(), profile=Profile.WORKER, budget=specs.BUDGET, app_name="usage-demo") as client:
        db = client[settings.database()]
        for name in ("accounts", "jobs", "calls", "requests"):
            db[name].drop()
        Schema(db, specs.SCHEMA).apply(timeout=300)
        print(specs.BUDGET.plan(Profile.WORKER), end="\n\n")
        with tempfile.TemporaryDirectory() as folder:
            count_through_kills(db, Local(Path(folder)))
        answer_requests()
        print(f"requests stored: {db.requests.count_documents({})}")


def count_through_kills(db: Database[dict[str, Any]], local: Local) -> None:
    """Kill a whole worker, deliver everything again, and kill a process of the next worker."""
    db.accounts.insert_one({"_id": "ann", "minutes_a_month": LIMIT})
    local.submit({f"job-{number}": ("ann", 1, 0.2) for number in range(JOBS)})
    print(f"{JOBS} jobs of a minute each, and {LIMIT} minutes to use")

    with local.worker() as worker:
        until(lambda: db.jobs.count_documents({"state": "done"}) > LIMIT // 3)
        stop_in_the_middle(db, worker)
    cut_off = db.jobs.count_documents({"state": None})
    print(
        f"first worker: killed; jobs that were counted and not finished: {cut_off}, and the broker has forgotten them"
    )
    print(f"put back by hand, whatever was read: {local.put_back()}")

    with local.worker() as worker:
        job = stop_in_the_middle(db, worker)
        os.kill(job["process"], signal.SIGKILL)
        until(lambda: finished(db, local))
    print("second worker: one of its processes was killed, and it has given the job to another one")

    states = Counter(job["state"] for job in db.jobs.find())
    deliveries = sum(job["deliveries"] for job in db.jobs.find())
    ann = db.accounts.find_one("ann") or {}
    minutes, tokens = (spec.read(ann).used["month"] for spec in (specs.MINUTES, specs.TOKENS))
    print(f"jobs: {dict(states)}, deliveries: {deliveries}")
    print(f"counted: {minutes} minutes, {tokens} tokens", end="\n\n")


def finished(db: Database[dict[str, Any]], local: Local) -> bool:
    """Tell whether every job came to its end, and no message is left."""
    return db.jobs.count_documents({"state": {"$ne": None}}) == JOBS and not local.waiting


def answer_requests() -> None:
    """Call the handler once more than it allows."""
    for _ in range(4):
        answer = handler({"ip": "203.0.113.7", "account": "ann"})
        print(answer["statusCode"], answer["body"] or f"Retry-After: {answer['headers']['Retry-After']}")
