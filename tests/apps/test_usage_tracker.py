"""The usage tracker counts every job once: through kills, repeats and lost replies, with real processes."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pymongo import MongoClient
from pymongo.database import Database
from pymongo.errors import WriteConcernError

from examples.usage_tracker import main, specs
from examples.usage_tracker.handler import container, handler
from examples.usage_tracker.local import Local, stop_in_the_middle, until
from examples.usage_tracker.worker import tracker, transcribe
from mongopatterns import Profile, Schema
from mongopatterns.testing import EmbeddedMongo, race_threads

CALL = {"ip": "203.0.113.7", "account": "ann"}


@pytest.fixture
def db(
    mongopatterns_server: EmbeddedMongo, mongopatterns_db_name: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Database[dict[str, Any]]]:
    """Point the application to a database of this test, which has what the schema says."""
    monkeypatch.setenv("MONGODB_URI", mongopatterns_server.uri)
    monkeypatch.setenv("MONGODB_DATABASE", mongopatterns_db_name)
    with MongoClient[dict[str, Any]](mongopatterns_server.uri, tz_aware=True) as client:
        db = client[mongopatterns_db_name]
        Schema(db, specs.SCHEMA).apply()
        yield db


@pytest.fixture
def connected(db: Database[dict[str, Any]]) -> Iterator[None]:
    """Make this process one of a worker's."""
    tracker.connect()
    yield
    tracker.disconnect()


@pytest.fixture
def warm(db: Database[dict[str, Any]]) -> Iterator[None]:
    """Let a container begin and end with the test."""
    container.cache_clear()
    yield
    here = container()
    here.buffer.close()
    here.db.client.close()
    container.cache_clear()


def used(db: Database[dict[str, Any]], account: str) -> tuple[Any, Any]:
    """Return the minutes and the tokens that are counted for an account."""
    document = db.accounts.find_one({"_id": account})
    return specs.MINUTES.read(document).used["month"], specs.TOKENS.read(document).used["month"]


def connected_processes(db: Database[dict[str, Any]]) -> set[int]:
    """Return which processes of workers the server has connections of, by what their clients call themselves."""
    everybody = {"$currentOp": {"allUsers": True, "idleConnections": True}}
    ours = {"$match": {"appName": {"$regex": "^usage-worker-"}}}
    operations = db.client.admin.aggregate([everybody, ours])
    return {int(operation["appName"].rpartition("-")[2]) for operation in operations}


def states(db: Database[dict[str, Any]]) -> dict[str, str | None]:
    return {job["_id"]: job.get("state") for job in db.jobs.find()}


def test_a_task_that_is_delivered_twice_counts_once(db: Database[dict[str, Any]], connected: None) -> None:
    """The second delivery of an id charges neither quota and does not work again; another id does."""
    for job in ("job-1", "job-1", "job-2"):
        transcribe.apply(("ann", 5), task_id=job).get()
    assert used(db, "ann") == (10, 1500)
    assert [(job["_id"], job["deliveries"]) for job in db.jobs.find(sort=["_id"])] == [("job-1", 2), ("job-2", 1)]


@pytest.mark.parametrize("stored", range(4), ids=["minutes", "job", "tokens", "end"])
def test_a_task_that_nobody_knows_the_outcome_of_counts_once(
    db: Database[dict[str, Any]], connected: None, mongopatterns_server: EmbeddedMongo, stored: int
) -> None:
    """From one of its writes on, all are stored and not confirmed, in every retry; delivered later, it counts once."""
    unconfirmed = {
        "failCommands": ["findAndModify"],
        "writeConcernError": {"code": 64, "errmsg": "waiting for replication timed out"},
    }
    with mongopatterns_server.fail_point("failCommand", mode={"skip": stored}, data=unconfirmed):
        failed = transcribe.apply(("ann", 5), task_id="job-1")
    assert isinstance(failed.result, WriteConcernError)
    transcribe.apply(("ann", 5), task_id="job-1").get()
    assert used(db, "ann") == (5, 750)
    assert states(db) == {"job-1": "done"}


def test_tasks_side_by_side_use_exactly_what_there_is(db: Database[dict[str, Any]], connected: None) -> None:
    """Of 40 tasks at once, each delivered twice, as many get a minute as there are minutes; the others are refused."""
    db.accounts.insert_one({"_id": "ann", "minutes_a_month": 15})
    report = race_threads(
        lambda n: transcribe.apply(("ann", 1), task_id=f"job-{n % 40}").get(), times=80, concurrency=16
    )
    report.raise_errors()
    told = list(states(db).values())
    assert (told.count("done"), told.count("refused")) == (15, 25)
    assert used(db, "ann") == (15, 15 * 150)


def test_a_job_of_a_killed_process_comes_again_and_counts_once(db: Database[dict[str, Any]], tmp_path: Path) -> None:
    """SIGKILL between counting and acknowledging: Celery gives the message back, and another process counts nothing.

    Each process of the worker has a client of its own, and the worker that forked them has none.
    """
    local = Local(tmp_path)
    # As many as keep the other process busy: an idle one could read what is given back before it is written to its end.
    local.submit({f"job-{n}": ("ann", 2, 0.2) for n in range(10)})
    with local.worker() as worker:
        job = stop_in_the_middle(db, worker)
        assert used(db, "ann")[0] >= 2
        os.kill(job["process"], signal.SIGKILL)
        until(lambda: db.jobs.count_documents({"state": "done"}) == 10)
        connected = connected_processes(db)
    again = db.jobs.find_one({"_id": job["_id"]})
    assert again["deliveries"] == 2
    assert again["process"] != job["process"]
    assert used(db, "ann") == (20, 20 * 150)
    assert connected >= {each["process"] for each in db.jobs.find({"worker": worker.pid})} - {job["process"]}
    assert worker.pid not in connected


def test_everything_delivered_again_after_a_kill_counts_once(
    db: Database[dict[str, Any]], warm: None, capsys: pytest.CaptureFixture[str]
) -> None:
    """The demonstration kills a worker and a process, and ends with every job counted once or refused."""
    main.main()
    told = capsys.readouterr().out
    assert f"counted: {main.LIMIT} minutes, {main.LIMIT * 150} tokens" in told
    assert used(db, "ann") == (main.LIMIT, main.LIMIT * 150)
    ended = list(states(db).values())
    assert (ended.count("done"), ended.count("refused")) == (main.LIMIT, main.JOBS - main.LIMIT)
    assert sum(job["deliveries"] for job in db.jobs.find()) > main.JOBS
    assert "requests stored: 3" in told


def test_the_handler_leaves_nothing_waiting(db: Database[dict[str, Any]], warm: None) -> None:
    """When it answers, what it wrote is stored, so that the container may be frozen; and it tells what is left."""
    db.accounts.insert_one({"_id": "ann", "minutes_a_month": 60})
    for number in (1, 2):
        answer = handler(CALL)
        assert (answer["statusCode"], json.loads(answer["body"])) == (200, {"account": "ann", "left": 60})
        stats = container().buffer.stats
        assert (stats.waiting, stats.under_way, stats.acknowledged) == (0, 0, 2 * number)
        assert db.requests.count_documents({"account": "ann"}) == number
        assert db.accounts.find_one()["requests"] == number


def test_a_server_that_is_slow_to_store_keeps_no_answer(
    db: Database[dict[str, Any]], warm: None, mongopatterns_server: EmbeddedMongo
) -> None:
    """The handler waits for two seconds and answers; what was not stored by then is stored later."""
    slow = {"failCommands": ["insert"], "blockConnection": True, "blockTimeMS": 2500}
    with mongopatterns_server.fail_point("failCommand", mode={"times": 1}, data=slow):
        assert handler(CALL)["statusCode"] == 200
        assert db.requests.count_documents({}) == 0
        container().buffer.flush()
    assert db.requests.count_documents({}) == 1


def test_who_calls_too_often_is_refused_and_costs_nothing(db: Database[dict[str, Any]], warm: None) -> None:
    """The fourth call in a minute is answered with 429 and when to come again; nothing is written for it."""
    answers = [handler(CALL) for _ in range(4)]
    assert [answer["statusCode"] for answer in answers] == [200, 200, 200, 429]
    assert int(answers[-1]["headers"]["Retry-After"]) > 0
    assert container().buffer.stats.accepted == 2 * 3
    assert handler({**CALL, "ip": "203.0.113.8"})["statusCode"] == 200


def test_a_container_has_one_client_within_the_budget(db: Database[dict[str, Any]], warm: None) -> None:
    """All requests of a container have one client, whose pool is what the budget leaves to each process."""
    client = container().db.client
    race_threads(lambda n: handler({**CALL, "ip": f"203.0.113.{n}"}), times=20, concurrency=10).raise_errors()
    assert container().db.client is client
    pool = client.options.pool_options.max_pool_size
    assert pool == specs.BUDGET.plan(Profile.SERVERLESS).max_pool_size
    everybody = {"$currentOp": {"allUsers": True, "idleConnections": True}}
    ours = [everybody, {"$match": {"appName": "usage-handler"}}]
    assert 1 <= len(client.admin.aggregate(ours).to_list()) <= pool + 1
