# Generated from tests/aio/test_deployment.py by tools/generate_sync.py.
# Do not edit: change the source and run "make generate".
"""A deployment that is checked: a set, a standalone server, a majority that is lost, and rights that are refused."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from pymongo.errors import OperationFailure, ServerSelectionTimeoutError

from mongopatterns import Deployment, DeploymentError, Feature, Requirements, SlowQueries, TopologyKind
from mongopatterns._driver_sync import settle
from mongopatterns.testing import EmbeddedMongo

REFUSED = [13, 8000]


@pytest.fixture(scope="module")
def three() -> Iterator[Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MONGOPATTERNS_TEST_URI", raising=False)  # somebody's own server must not be slowed down
        with EmbeddedMongo(members=3) as server:
            yield server


def test_a_replica_set_has_what_the_primitives_need(client: Any, mongopatterns_server: Any) -> None:
    """Everything that the embedded server is, is told; nothing is found to be wrong; the report is JSON."""
    required = Requirements(
        transactions=True,
        min_version=(6, 0),
        min_members=1,
        connection_headroom=100,
        max_clock_difference=60,
        features=(Feature.CHANGE_STREAMS, Feature.SNAPSHOT_READS),
    )
    report = Deployment(client).check(required)
    assert report
    assert report.version == (6, 0, 5)
    assert report.kind is TopologyKind.REPLICA_SET
    assert len(report.members) == 1
    assert report.members[0] in mongopatterns_server.uri
    assert (report.writable, report.transactions, report.majority, report.tls) == (True, True, True, False)
    assert not report.has_client_bulk_write
    assert report.connections is not None
    assert report.connections.current > 0
    assert abs(report.clock_difference) < report.clock_uncertainty + 1
    assert report.findings == ()
    assert json.dumps(report.to_dict())


def test_a_check_takes_four_commands_and_writes_nothing(
    connect: Any, mongopatterns_server: Any, mongopatterns_db_name: str
) -> None:
    """Each says who asks; the database that the connection string names is read, and not even created."""
    sent = SlowQueries(threshold=0)
    uri = mongopatterns_server.uri.replace("/?", f"/{mongopatterns_db_name}?")
    own = connect(uri, event_listeners=[sent])
    Deployment(own).check()
    shapes = sent.snapshot().shapes
    assert {(shape.command, shape.database, shape.count) for shape in shapes} == {
        ("buildInfo", "admin", 1),
        ("hello", "admin", 1),
        ("serverStatus", "admin", 1),
        ("find", mongopatterns_db_name, 1),
    }
    assert {shape.comment for shape in shapes} == {"mongopatterns.deployment.check"}
    assert mongopatterns_db_name not in own.list_database_names()


def test_tls_is_told_as_it_is_when_the_server_answers(
    connect: Any, mongopatterns_server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With mongodb+srv the driver settles its options when it looks names up: that is after a Deployment is made."""
    own, encrypted = (connect(mongopatterns_server.uri, **options) for options in ({}, {"tls": True}))
    deployment = Deployment(own)
    with pytest.raises(DeploymentError, match="the client's connections are not encrypted"):
        deployment.check(Requirements(tls=True))
    inner = vars(own).get("delegate", own)  # Motor's has one of PyMongo's
    monkeypatch.setattr(inner, "_options", encrypted.options)
    assert deployment.check(Requirements(tls=True)).tls


def test_what_a_deployment_lacks_is_listed_with_its_remedy(client: Any) -> None:
    """One error for all of it, each part with what to do."""
    required = Requirements(
        min_version=(7, 0), min_members=3, tls=True, connection_headroom=10**6, features=tuple(Feature)
    )
    with pytest.raises(DeploymentError) as caught:
        Deployment(client).check(required)
    error = caught.value
    assert [finding.code for finding in error.findings] == [
        "server-too-old",
        *["no-feature"] * 4,
        "too-few-members",
        "no-tls",
        "too-few-connections",
    ]
    assert all(finding.remedy in str(error) for finding in error.findings)
    assert error.report.findings == error.findings


def test_a_standalone_server_has_no_transactions(connect: Any) -> None:
    """Where they are required that is an error with the way to a replica set; where not, the server passes."""
    with EmbeddedMongo(members=0) as server:
        own = connect(server.uri)
        deployment = Deployment(own)
        with pytest.raises(DeploymentError, match=r"transactions: it is a standalone server.*rs\.initiate"):
            deployment.check(Requirements(transactions=True))
        report = deployment.check()
        assert report.kind is TopologyKind.STANDALONE
        assert report.majority
        assert not report.has_change_streams
        settle(own.close())  # while it is there: the driver takes leave of it


@pytest.mark.parametrize("code", REFUSED)
def test_a_tier_that_refuses_passes_and_says_what_it_did_not_tell(
    client: Any, mongopatterns_server: Any, code: int
) -> None:
    """`serverStatus`, `buildInfo` and the read refused: the version is that of the protocol, the rest is a warning."""
    data = {"failCommands": ["serverStatus", "buildInfo", "find"], "errorCode": code}
    with mongopatterns_server.fail_point("failCommand", data=data):
        report = Deployment(client).check(Requirements(connection_headroom=50, transactions=True))
    assert report
    assert report.version == (6, 0)
    assert report.connections is None
    assert report.majority is None
    assert [finding.subject for finding in report.findings] == ["majority", "connections"]


def test_another_error_is_the_drivers(client: Any, mongopatterns_server: Any) -> None:
    """What is not a refusal is no answer."""
    data = {"failCommands": ["serverStatus"], "errorCode": 8}
    with (
        mongopatterns_server.fail_point("failCommand", mode={"times": 1}, data=data),
        pytest.raises(OperationFailure) as caught,
    ):
        Deployment(client).check()
    assert caught.value.code == 8


def test_a_majority_that_does_not_answer_is_found_in_time(connect: Any, three: Any) -> None:
    """Two of three members stop to copy: the set has a primary and takes writes, and none of them would be durable."""
    primary = three.wait_for_primary()
    first, second = (member for member in range(3) if member != primary)
    own = connect(three.uri)
    deployment = Deployment(own)
    assert deployment.check(Requirements(min_members=3)).majority
    with three.fail_point("stopReplProducer", member=first), three.fail_point("stopReplProducer", member=second):
        with pytest.raises(DeploymentError, match="majority") as caught:
            deployment.check(timeout=1.5)
        assert [finding.code for finding in caught.value.findings] == ["no-majority"]
        assert deployment.check(Requirements(majority=False)).majority is None
    assert deployment.check().majority


def test_a_secondary_that_is_connected_to_directly_is_warned_of(connect: Any, three: Any) -> None:
    """It answers, and takes no writes: the report says how to connect instead."""
    primary = three.wait_for_primary()
    own = connect(three.member_uri((primary + 1) % 3))
    report = Deployment(own).check()
    assert report
    assert not report.writable
    assert [finding.code for finding in report.findings] == ["not-writable"]


def test_a_server_that_is_not_there_is_the_drivers_error_within_the_timeout(connect: Any) -> None:
    """No report is made of nothing."""
    own = connect("mongodb://localhost:1/?directConnection=true")
    with pytest.raises(ServerSelectionTimeoutError):
        Deployment(own).check(timeout=0.3)
