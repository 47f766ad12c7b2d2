"""What an error says about health, and which errors say nothing about it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import dns.resolver
import pytest
from motor.motor_asyncio import AsyncIOMotorClient
from pymongo import AsyncMongoClient, MongoClient, errors

import mongopatterns
from mongopatterns import AsyncDeployment, AsyncHealth, HealthReport, HealthState, UsageError
from mongopatterns.client._health_plan import HealthPlan
from mongopatterns.client._health_sync import Health

PLAN = HealthPlan()


@dataclass
class Topology:
    """What the driver's own description of the servers can be asked."""

    known_servers: list[str]
    writable: bool
    errors: list[Exception | None] = field(default_factory=list)

    def server_descriptions(self) -> dict[int, Any]:
        return {number: SimpleNamespace(error=error) for number, error in enumerate(self.errors)}

    def has_writable_server(self) -> bool:
        return self.writable


def because(error: Exception, cause: Exception) -> Exception:
    """Return an error that was raised from another."""
    error.__cause__ = cause
    return error


WRONG_PASSWORD = errors.OperationFailure("Authentication failed.", 18)
REFUSED = Topology([], writable=False, errors=[errors.AutoReconnect("closed"), WRONG_PASSWORD])
PRIMARY_REFUSED = Topology(["b"], writable=False, errors=[WRONG_PASSWORD, None])
GONE, LEADERLESS, WHOLE = Topology([], False), Topology(["a"], False), Topology(["a"], True)


@pytest.mark.parametrize(
    ("error", "topology", "state"),
    [
        (errors.WaitQueueTimeoutError("full"), WHOLE, HealthState.POOL_EXHAUSTED),
        (errors.WaitQueueTimeoutError("full"), LEADERLESS, HealthState.POOL_EXHAUSTED),
        (errors.ServerSelectionTimeoutError("none"), GONE, HealthState.UNREACHABLE),
        (errors.ServerSelectionTimeoutError("none"), LEADERLESS, HealthState.NO_PRIMARY),
        (errors.ServerSelectionTimeoutError("none"), REFUSED, HealthState.AUTH_FAILED),
        (errors.ServerSelectionTimeoutError("none"), PRIMARY_REFUSED, HealthState.AUTH_FAILED),
        (errors.AutoReconnect("closed"), REFUSED, HealthState.UNREACHABLE),
        (because(errors.ConfigurationError("none"), dns.resolver.NXDOMAIN()), GONE, HealthState.UNREACHABLE),
        (because(errors.ConfigurationError("late"), dns.resolver.LifetimeTimeout()), GONE, HealthState.UNREACHABLE),
        (errors.NotPrimaryError("no"), LEADERLESS, HealthState.NO_PRIMARY),
        (errors.AutoReconnect("closed"), WHOLE, HealthState.UNREACHABLE),
        (errors.ConnectionFailure("closed"), GONE, HealthState.UNREACHABLE),
        (errors.NetworkTimeout("late"), WHOLE, HealthState.TIMED_OUT),
        (errors.ExecutionTimeout("late", 50), WHOLE, HealthState.TIMED_OUT),
        (errors.OperationFailure("Authentication failed.", 18), WHOLE, HealthState.AUTH_FAILED),
        (errors.OperationFailure("requires authentication", 13), WHOLE, HealthState.AUTH_FAILED),
        (errors.OperationFailure("bad auth : Authentication failed.", 8000), WHOLE, HealthState.AUTH_FAILED),
    ],
)
def test_each_way_not_to_be_ready_is_told_apart(error: Any, topology: Any, state: HealthState) -> None:
    """Each has its state and its reason, keeps the error, is false, and raises the error when it is required."""
    report = PLAN.not_ready(error, topology, 0.25)
    assert report.state is state
    assert report.error is error
    assert not report
    with pytest.raises(type(error)):
        report.require()
    assert report.to_dict() == {"ok": False, "state": state.value, "reason": report.reason, "seconds": 0.25}


@pytest.mark.parametrize(
    "error",
    [
        errors.InvalidOperation("Cannot use MongoClient after close"),
        errors.ConfigurationError("bad"),
        because(errors.ConfigurationError("bad"), ValueError("bad")),
        errors.OperationFailure("no such command", 59),
    ],
)
def test_a_mistake_of_the_program_is_raised(error: Any) -> None:
    """It is no state of the server, and no verdict hides it."""
    with pytest.raises(type(error)) as caught:
        PLAN.not_ready(error, WHOLE, 0.1)
    assert caught.value is error


def test_what_is_well_is_true() -> None:
    """Nothing is raised, and every state has a reason."""
    for report in (PLAN.alive(0.001), PLAN.ready(0.002)):
        assert report
        report.require()
        assert report.error is None
    assert len({HealthReport(state, 0.0).reason for state in HealthState}) == len(HealthState)


def test_an_answer_for_the_world_names_no_host() -> None:
    """The driver's text stays with the error; what is given out is JSON without it."""
    error = errors.ServerSelectionTimeoutError("db-7.internal:27017: connection refused")
    report = PLAN.not_ready(error, GONE, 0.5)
    assert "db-7" not in json.dumps(report.to_dict())
    assert "db-7" in str(report.error)


@pytest.mark.parametrize(("wrong", "twin"), [(AsyncHealth, "Health"), (AsyncDeployment, "Deployment")])
def test_a_client_of_the_other_world_is_refused(wrong: Any, twin: str) -> None:
    """Each class says which name to use instead; Motor's client is an asynchronous one."""
    with (
        MongoClient("mongodb://localhost:1", connect=False) as client,
        pytest.raises(UsageError, match=r"use the name without Async$"),
    ):
        wrong(client)
    for kind in (AsyncMongoClient, AsyncIOMotorClient):
        client = kind("mongodb://localhost:1", connect=False)
        wrong(client)
        with pytest.raises(UsageError, match=r"use the name with Async$"):
            getattr(mongopatterns, twin)(client)


def test_what_is_no_client_is_refused() -> None:
    """A database in its place is named."""
    with MongoClient("mongodb://localhost:1", connect=False) as client, pytest.raises(UsageError, match="client"):
        Health(client["app"])
