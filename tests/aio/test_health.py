"""Health: alive whatever the server does, ready when the primary answers, and a reason each time that it does not."""

from __future__ import annotations

import gc
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from pymongo.errors import InvalidOperation, OperationFailure, ServerSelectionTimeoutError, WaitQueueTimeoutError

from mongopatterns import AsyncHealth, HealthState, SlowQueries, UsageError
from mongopatterns._driver_async import pause, settle, together
from mongopatterns.testing import EmbeddedMongo

# PyMongo's asynchronous monitor leaves a socket to the collector when it is closed while it tries to connect.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")


@pytest.fixture(autouse=True)
def collected() -> Iterator[None]:
    yield
    gc.collect()


@pytest.fixture(scope="module")
def leaderless() -> Iterator[Any]:
    """Provide a set of three of which one is left: it answers, and is no primary."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MONGOPATTERNS_TEST_URI", raising=False)  # somebody's own server must not be killed
        with EmbeddedMongo(members=3) as server:
            primary = server.wait_for_primary()
            server.kill((primary + 1) % 3)
            server.kill(primary)
            yield server


async def test_a_server_that_answers_is_ready(client: Any) -> None:
    """The verdict is true, has no error, and is JSON."""
    report = await AsyncHealth(client).ready()
    assert report
    assert report.state is HealthState.READY
    assert report.error is None
    assert report.seconds < 5
    assert json.loads(json.dumps(report.to_dict()))["ok"] is True


async def test_ready_is_one_command_that_everybody_may_send(connect: Any, mongopatterns_server: Any) -> None:
    """It is a ping, and says who asks; whatever else is forbidden, it is answered."""
    sent = SlowQueries(threshold=0)
    own = connect(mongopatterns_server.uri, event_listeners=[sent])
    data = {"failCommands": ["hello", "serverStatus", "find", "listDatabases"], "errorCode": 8000}
    with mongopatterns_server.fail_point("failCommand", data=data):
        assert await AsyncHealth(own).ready()
    (shape,) = sent.snapshot().shapes
    assert (shape.command, shape.count, shape.comment) == ("ping", 1, "mongopatterns.health.ready")


async def test_a_server_that_is_gone_is_unreachable_and_the_process_is_alive(connect: Any) -> None:
    """Readiness fails in time and keeps the driver's error; liveness does not ask."""
    with EmbeddedMongo(members=0) as server:
        own = connect(server.uri)
        health = AsyncHealth(own)
        assert await health.ready(timeout=5)
        server.kill(0)
        await health.ready(timeout=0.3)  # the connection that was open breaks
        report = await health.ready(timeout=0.3)
        assert not report
        assert report.state is HealthState.UNREACHABLE
        assert isinstance(report.error, ServerSelectionTimeoutError)
        with pytest.raises(ServerSelectionTimeoutError):
            report.require()
        assert (await health.live()).state is HealthState.ALIVE
        server.restart(0)
        assert await health.ready(timeout=10)
        await settle(own.close())  # while it is there: the driver takes leave of it


async def test_a_pool_without_a_free_connection_is_no_server_that_is_gone(
    connect: Any, mongopatterns_server: Any, mongopatterns_db_name: str
) -> None:
    """The only connection is busy: the server was not asked, and the verdict says so. Afterwards it is ready."""
    own = connect(mongopatterns_server.uri, maxPoolSize=1, waitQueueTimeoutMS=100)
    health = AsyncHealth(own)
    assert await health.ready(timeout=5)
    data = {"failCommands": ["find"], "blockConnection": True, "blockTimeMS": 1000}

    async def busy() -> Any:
        return await own[mongopatterns_db_name].things.find_one({})

    async def asked() -> Any:
        await pause(0.3)
        return [await health.ready(timeout=timeout) for timeout in (0.1, None)]

    with mongopatterns_server.fail_point("failCommand", data=data):
        _, reports = await together([busy, asked])
    for report in reports:
        assert not report
        assert report.state is HealthState.POOL_EXHAUSTED
        assert isinstance(report.error, WaitQueueTimeoutError)
    assert await health.ready(timeout=5)


async def test_members_without_a_primary_are_told_apart(connect: Any, leaderless: Any) -> None:
    """One member of three answers: that is an election, or a lost majority, and no server that is gone."""
    own = connect(leaderless.uri)
    health = AsyncHealth(own)
    deadline = time.monotonic() + 30
    report = await health.ready(timeout=1.5)
    while report.state is not HealthState.NO_PRIMARY and time.monotonic() < deadline:
        report = await health.ready(timeout=1.5)
    assert report.state is HealthState.NO_PRIMARY
    assert isinstance(report.error, ServerSelectionTimeoutError)
    assert await health.live()


async def test_a_wrong_password_is_told_and_not_shown(connect: Any, mongopatterns_server: Any) -> None:
    """The server answers, and refuses: no restart and no waiting mends that. The password is nowhere."""
    own = connect(mongopatterns_server.uri, username="ann", password="hunter2")
    report = await AsyncHealth(own).ready(timeout=5)
    assert report.state is HealthState.AUTH_FAILED
    assert isinstance(report.error, OperationFailure)
    assert "hunter2" not in repr(report)
    assert "hunter2" not in repr(report.to_dict())


async def test_a_wrong_password_is_told_each_time(connect: Any, mongopatterns_server: Any) -> None:
    """The driver holds the server for unknown until its monitor hears of it again: it was reached all the same."""
    health = AsyncHealth(connect(mongopatterns_server.uri, username="ann", password="hunter2"))
    reports = [await health.ready(timeout=timeout) for timeout in (5, 0.5, 0.5, 0.5)]
    assert {report.state for report in reports} == {HealthState.AUTH_FAILED}
    assert "hunter2" not in repr(reports)


async def test_a_server_that_does_not_answer_in_time_is_told(connect: Any, mongopatterns_server: Any) -> None:
    """It was reached and asked; the verdict comes when the time is up."""
    own = connect(mongopatterns_server.uri)
    health = AsyncHealth(own)
    assert await health.ready(timeout=5)
    data = {"failCommands": ["ping"], "blockConnection": True, "blockTimeMS": 1000}
    with mongopatterns_server.fail_point("failCommand", mode={"times": 1}, data=data):
        report = await health.ready(timeout=0.2)
    assert report.state is HealthState.TIMED_OUT


async def test_a_mistake_of_the_program_is_raised(client: Any, connect: Any, mongopatterns_server: Any) -> None:
    """A client that was closed, a command that the server does not know, a timeout that is none: no verdict."""
    health = AsyncHealth(client)
    with pytest.raises(UsageError, match="timeout"):
        await health.ready(timeout=0)
    data = {"failCommands": ["ping"], "errorCode": 59}
    with (
        mongopatterns_server.fail_point("failCommand", mode={"times": 1}, data=data),
        pytest.raises(OperationFailure, match="failpoint"),
    ):
        await health.ready()
    own = connect(mongopatterns_server.uri)
    await own.admin.command("ping")
    await settle(own.close())
    with pytest.raises(InvalidOperation):
        await AsyncHealth(own).ready()
