"""What a deployment's answers mean: old and new versions, every kind, and what is refused."""

from __future__ import annotations

import datetime as dt
import json
import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymongo import MongoClient
from pymongo.errors import AutoReconnect, ExecutionTimeout, NetworkTimeout, OperationFailure

from mongopatterns import Deployment, DeploymentError, DeploymentReport, Feature, Requirements, TopologyKind, UsageError
from mongopatterns.client._deployment_plan import Answer, DeploymentPlan
from mongopatterns.findings import Severity

NOW = dt.datetime(2026, 3, 4, 12, 0, 0, tzinfo=dt.timezone.utc)
TICK = dt.timedelta(milliseconds=10)
SENTINEL: Any = object()

# Replies as servers gave them, without what nobody reads.
LIMITS = {"maxBsonObjectSize": 16777216, "maxMessageSizeBytes": 48000000, "maxWriteBatchSize": 100000, "ok": 1.0}
REPLICA_SET = {
    **LIMITS,
    "hosts": ["b:27017", "a:27017"],
    "passives": ["c:27017"],
    "arbiters": ["d:27017"],
    "setName": "rs0",
    "setVersion": 1,
    "isWritablePrimary": True,
    "secondary": False,
    "primary": "a:27017",
    "me": "a:27017",
    "localTime": NOW.replace(tzinfo=None),
    "minWireVersion": 0,
    "maxWireVersion": 17,
    "readOnly": False,
}
STANDALONE = {**LIMITS, "isWritablePrimary": True, "localTime": NOW, "maxWireVersion": 17, "readOnly": False}
MONGOS = {
    **LIMITS,
    "isWritablePrimary": True,
    "msg": "isdbgrid",
    "localTime": NOW,
    "logicalSessionTimeoutMinutes": 30,
    "maxWireVersion": 21,
}
SECONDARY = {**REPLICA_SET, "isWritablePrimary": False, "secondary": True, "me": "b:27017"}
# A member that was started with --replSet, and nobody ran rs.initiate().
NOT_INITIATED = {
    **LIMITS,
    "isWritablePrimary": False,
    "secondary": False,
    "info": "Does not have a valid replica set config",
    "isreplicaset": True,
    "localTime": NOW,
    "maxWireVersion": 17,
}
STATUS = {"connections": {"current": 480, "available": 20, "totalCreated": 9000}, "ok": 1.0}
UNAUTHORIZED = OperationFailure("not authorized on admin to execute command", 13)
ATLAS = OperationFailure("(Unauthorized) not authorized on admin to execute command", 8000)
MAJORITY = {"cursor": {"id": 0, "ns": "app.mongopatterns.deployment", "firstBatch": []}, "ok": 1.0}


def build(*version: int) -> dict[str, Any]:
    return {"version": ".".join(map(str, version)), "versionArray": [*version, 0], "ok": 1.0}


def told(reply: Any, *, tls: bool = False) -> Answer:
    if isinstance(reply, Exception):
        return Answer(NOW - TICK, NOW + TICK, error=reply)  # type: ignore[arg-type]
    return Answer(NOW - TICK, NOW + TICK, reply, tls=tls)


def check(
    hello: Any,
    version: Any = SENTINEL,
    status: Any = STATUS,
    read: Any = MAJORITY,
    *,
    encrypted: bool = False,
    sent: list[dict[str, Any]] | None = None,
    **required: Any,
) -> DeploymentReport:
    """Answer what the plan asks, as the server of the recorded replies would."""
    plan = DeploymentPlan("app")
    replies = {"buildInfo": build(6, 0, 5) if version is SENTINEL else version, "hello": hello, "serverStatus": status}
    call = plan.check(Requirements(**required))
    answer = None
    while ask := plan.again(call, answer):
        if sent is not None:
            sent.append({"$db": ask.database, **ask.command})
        answer = told({**replies, "find": read}[next(iter(ask.command))], tls=encrypted)
    return call.result  # type: ignore[no-any-return]


def lacking(*args: Any, **options: Any) -> DeploymentError:
    with pytest.raises(DeploymentError) as caught:
        check(*args, **options)
    return caught.value


def codes(findings: Any) -> list[str]:
    return [finding.code for finding in findings]


# Kinds -------------------------------------------------------------------------------------------------------


def test_a_replica_set_is_described() -> None:
    """Members that hold data are named in order, arbiters are not; everything the set can do is told."""
    report = check(REPLICA_SET, transactions=True, features=(Feature.CHANGE_STREAMS,), min_members=3)
    assert report
    assert report.kind is TopologyKind.REPLICA_SET
    assert report.replica_set == "rs0"
    assert report.members == ("a:27017", "b:27017", "c:27017")
    assert report.transactions
    assert report.majority
    assert report.writable
    assert report.connections is not None
    assert (report.connections.current, report.connections.available, report.connections.limit) == (480, 20, 500)
    assert report.findings == ()


def test_a_router_is_recognised_and_has_transactions() -> None:
    """A mongos is no replica set, and has what one has; what its shards keep to themselves is not told."""
    report = check(MONGOS, build(7, 0, 14), transactions=True, min_members=3, features=list(Feature)[:4])
    assert report.kind is TopologyKind.SHARDED
    assert report.transactions
    assert report.has_change_streams
    assert report.has_split_large_event
    assert report.majority is None
    assert report.members == ()
    assert {(each.code, each.subject, each.severity) for each in report.findings} == {
        ("not-told", "majority", Severity.INFO),
        ("not-told", "members", Severity.WARNING),
    }


def test_a_standalone_server_has_no_transactions_and_is_its_own_majority() -> None:
    """Each thing that needs a replica set fails by itself, and says how to get one."""
    error = lacking(STANDALONE, transactions=True, features=(Feature.SNAPSHOT_READS,), min_members=2)
    assert codes(error.findings) == ["no-transactions", "no-feature", "too-few-members"]
    assert all("replica set" in finding.remedy for finding in error.findings)
    assert error.report.kind is TopologyKind.STANDALONE
    assert error.report.majority is True
    assert not error.report.transactions
    assert check(STANDALONE, min_members=1).findings == ()


def test_a_set_that_was_never_initiated_is_an_error_whatever_is_required() -> None:
    """What a first start in a container leaves behind is named, with the command that ends it."""
    error = lacking(NOT_INITIATED, transactions=True)
    assert codes(error.findings) == ["not-initiated", "no-transactions"]
    assert "rs.initiate()" in str(error)


def test_a_direct_connection_to_a_secondary_is_warned_of() -> None:
    """Reading from it is fine, so it is no error; and it is not asked for a majority, which it cannot tell."""
    sent: list[dict[str, Any]] = []
    report = check(SECONDARY, sent=sent)
    assert report
    assert codes(report.findings) == ["not-writable"]
    assert report.majority is None
    assert "find" not in {next(iter(list(command)[1:])) for command in sent}


# Versions ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("version", "features"),
    [
        ((5, 0, 0), {"change_streams", "snapshot_reads"}),
        ((6, 0, 8), {"change_streams", "snapshot_reads"}),
        ((6, 0, 9), {"change_streams", "snapshot_reads", "split_large_event"}),
        ((6, 3, 2), {"change_streams", "snapshot_reads"}),
        ((7, 0, 0), {"change_streams", "snapshot_reads", "split_large_event", "timeseries_deletes"}),
        ((8, 0, 0), {feature.value for feature in Feature}),
        ((8, 2, 1), {feature.value for feature in Feature}),
    ],
)
def test_features_follow_from_the_version(version: tuple[int, ...], features: set[str]) -> None:
    """Each version has what came with it; the flags say the same."""
    report = check(REPLICA_SET, build(*version))
    assert {feature.value for feature in report.features} == features
    for feature in Feature:
        assert getattr(report, f"has_{feature.value}") is (feature in report.features)


def test_an_old_server_is_an_error_whatever_is_required() -> None:
    """This package needs 5.0, also where the caller asks for less; it is said once."""
    error = lacking({**REPLICA_SET, "maxWireVersion": 9}, build(4, 4, 29), min_version=(4, 2), majority=False)
    assert codes(error.findings) == ["server-too-old"]
    assert "4.4.29" in str(error)
    assert codes(lacking(REPLICA_SET, build(4, 4, 29), min_version=(6, 0)).findings) == ["server-too-old"]


@pytest.mark.parametrize(("required", "enough"), [((6,), True), ((6, 0), True), ((6, 0, 5), True), ((6, 0, 6), False)])
def test_the_version_that_is_required_is_compared_part_by_part(required: tuple[int, ...], enough: bool) -> None:
    """(6, 0) is met by 6.0.5, and (6, 0, 6) is not."""
    if enough:
        assert check(REPLICA_SET, min_version=required)
    else:
        assert codes(lacking(REPLICA_SET, min_version=required).findings) == ["server-too-old"]


@pytest.mark.parametrize(
    ("wire", "version"),
    [(17, (6, 0)), (21, (7, 0)), (25, (8, 0)), (13, (5, 0)), (99, (8, 2)), (11, (4, 4)), (6, (0, 0))],
)
def test_the_version_is_read_from_the_protocol_where_it_is_refused(wire: int, version: tuple[int, ...]) -> None:
    """Without `buildInfo` the first two numbers are known; newer servers count as the newest that is known."""
    error = ATLAS if wire % 2 else UNAUTHORIZED
    if version < (5, 0):
        assert lacking({**REPLICA_SET, "maxWireVersion": wire}, error).report.version == version
    else:
        assert check({**REPLICA_SET, "maxWireVersion": wire}, error).version == version


# Refused -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [UNAUTHORIZED, ATLAS, OperationFailure("no such command", 59)])
def test_what_is_refused_is_not_told_and_no_error(error: OperationFailure) -> None:
    """A tier that answers nothing but hello passes; what was required and not told is a warning with a way out."""
    report = check(REPLICA_SET, error, error, error, connection_headroom=50)
    assert report
    assert report.connections is None
    assert report.majority is None
    assert [(each.code, each.subject, each.severity) for each in report.findings] == [
        ("not-told", "majority", Severity.WARNING),
        ("not-told", "connections", Severity.WARNING),
    ]
    assert all(finding.remedy for finding in report.findings)
    assert check(REPLICA_SET, error, error, error, majority=False).findings == ()


@pytest.mark.parametrize("place", ["hello", "version", "status", "read"])
def test_any_other_error_is_raised_as_it_is(place: str) -> None:
    """A server that does not answer is no report."""
    replies: dict[str, Any] = {"hello": REPLICA_SET, place: AutoReconnect("gone")}
    with pytest.raises(AutoReconnect, match="gone"):
        check(**replies)


def test_a_refused_hello_is_raised() -> None:
    """Without it nothing is known."""
    with pytest.raises(OperationFailure):
        check(UNAUTHORIZED)


# Required ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [ExecutionTimeout("operation exceeded time limit", 50), NetworkTimeout("timed out")])
def test_a_majority_that_does_not_come_back_is_an_error(error: Exception) -> None:
    """Writes of every primitive would wait for it for ever."""
    found = lacking(REPLICA_SET, read=error)
    assert codes(found.findings) == ["no-majority"]
    assert found.report.majority is False


def test_what_is_asked_is_bounded_and_says_who_asks() -> None:
    """Four commands, none of which writes to a database; the last goes to the database of the client."""
    sent: list[dict[str, Any]] = []
    check(REPLICA_SET, sent=sent)
    assert [list(command)[1] for command in sent] == ["buildInfo", "hello", "serverStatus", "find"]
    assert {command["comment"] for command in sent} == {"mongopatterns.deployment.check"}
    assert [command["$db"] for command in sent] == ["admin", "admin", "admin", "app"]
    assert sent[3]["readConcern"] == {"level": "linearizable"}
    few: list[dict[str, Any]] = []
    check(REPLICA_SET, sent=few, majority=False)
    assert len(few) == 3


def test_every_failure_is_listed_with_its_remedy() -> None:
    """The message has one line for each, and the error has them as data and crosses a process."""
    error = lacking(
        {**STANDALONE, "localTime": NOW + dt.timedelta(seconds=90)},
        transactions=True,
        min_version=(7, 0),
        min_members=3,
        tls=True,
        max_clock_difference=1,
        connection_headroom=21,
        features=(Feature.CLIENT_BULK_WRITE,),
    )
    assert codes(error.findings) == [
        "server-too-old",
        "no-transactions",
        "no-feature",
        "too-few-members",
        "no-tls",
        "clock-difference",
        "too-few-connections",
    ]
    for finding in error.findings:
        assert finding.remedy
        assert f"- {finding.subject}: {finding.evidence}. {finding.remedy}." in str(error).splitlines()
    assert "7 points" in str(error)
    assert not error.report
    copy = pickle.loads(pickle.dumps(error))
    assert (str(copy), copy.findings, copy.report) == (str(error), error.findings, error.report)


def test_requirements_that_are_just_met_pass() -> None:
    """As many connections, members and seconds as are required are enough."""
    hello = {**REPLICA_SET, "localTime": NOW + dt.timedelta(seconds=1)}
    required = {"connection_headroom": 20, "min_members": 3, "max_clock_difference": 1, "min_version": (6, 0, 5)}
    assert check(hello, encrypted=True, tls=True, **required).findings == ()


def test_a_deployment_error_with_a_message_alone_has_nothing_else() -> None:
    """It is raised elsewhere without a report."""
    error = DeploymentError("too old")
    assert (str(error), error.findings, error.report) == ("too old", (), None)


def test_a_report_is_json() -> None:
    """What an endpoint answers is plain."""
    report = check(REPLICA_SET, connection_headroom=5)
    assert json.loads(json.dumps(report.to_dict())) == {
        "version": "6.0.5",
        "kind": "replica_set",
        "replica_set": "rs0",
        "members": ["a:27017", "b:27017", "c:27017"],
        "writable": True,
        "transactions": True,
        "majority": True,
        "tls": False,
        "clock_difference": 0.0,
        "clock_uncertainty": 0.01,
        "connections": {"current": 480, "available": 20, "limit": 500},
        "features": ["change_streams", "snapshot_reads"],
        "findings": [],
    }
    error = lacking(STANDALONE, ATLAS, ATLAS, transactions=True)
    assert error.report.to_dict()["findings"] == [finding.to_dict() for finding in error.findings]
    assert error.report.to_dict()["connections"] is None


# The clock ---------------------------------------------------------------------------------------------------

SECONDS = st.floats(0, 5, allow_nan=False)


@given(truth=st.floats(-100, 100), before=SECONDS, after=SECONDS)
def test_the_true_difference_is_within_what_is_left_open(truth: float, before: float, after: float) -> None:
    """However the round trip is divided, the server's clock is as far ahead as is told, give or take."""
    read = NOW + dt.timedelta(seconds=before)
    hello = {**REPLICA_SET, "localTime": read + dt.timedelta(seconds=truth)}
    plan = DeploymentPlan("app")
    call = plan.check(Requirements(majority=False))
    plan.again(call, None)
    plan.again(call, told(build(6, 0, 5)))
    plan.again(call, Answer(NOW, read + dt.timedelta(seconds=after), hello))
    plan.again(call, told(STATUS))
    report = call.result
    assert abs(report.clock_difference - truth) <= report.clock_uncertainty + 1e-5


@pytest.mark.parametrize(("seconds", "fails"), [(1.009, False), (-1.009, False), (1.02, True), (-1.02, True)])
def test_a_difference_is_an_error_when_the_round_trip_cannot_explain_it(seconds: float, fails: bool) -> None:
    """With 10 ms of doubt, 1.009 s may be a second, and 1.02 s is more."""
    hello = {**REPLICA_SET, "localTime": NOW + dt.timedelta(seconds=seconds)}
    if fails:
        error = lacking(hello, max_clock_difference=1)
        assert codes(error.findings) == ["clock-difference"]
        assert ("ahead of" if seconds > 0 else "behind") in str(error)
    else:
        assert check(hello, max_clock_difference=1)


# Bad input ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "bad",
    [
        {"transactions": 1},
        {"majority": None},
        {"tls": "yes"},
        {"min_version": "6.0"},
        {"min_version": 6},
        {"min_version": ()},
        {"min_version": (6, -1)},
        {"min_version": (6.0,)},
        {"min_members": 0},
        {"min_members": True},
        {"connection_headroom": 1.5},
        {"max_clock_difference": 0},
        {"max_clock_difference": float("nan")},
        {"max_clock_difference": True},
        {"features": "client_bulk_write"},
        {"features": ("telepathy",)},
    ],
)
def test_bad_requirements_are_refused_when_they_are_made(bad: dict[str, Any]) -> None:
    """The argument is named."""
    with pytest.raises(UsageError) as caught:
        Requirements(**bad)
    assert caught.value.argument == next(iter(bad))


def test_features_may_be_named_by_their_text() -> None:
    """As they are in a report that was read as JSON."""
    assert Requirements(features=["update_sort"]).features == (Feature.UPDATE_SORT,)  # type: ignore[arg-type]


def test_requirements_are_no_dictionary() -> None:
    """What is not made by Requirements is refused before anything is sent."""
    with pytest.raises(UsageError, match="requirements: expected Requirements"):
        DeploymentPlan("app").check({"transactions": True})  # type: ignore[arg-type]


def test_the_database_is_read_from_the_client() -> None:
    """The read that waits for a majority goes to the one that its connection string names, or to `admin`."""
    for uri, expected in (("mongodb://localhost:1/app", "app"), ("mongodb://localhost:1", "admin")):
        with MongoClient(uri, connect=False) as client:
            assert Deployment(client)._plan._database == expected


def test_what_is_no_client_is_refused() -> None:
    """A database in its place is named."""
    with MongoClient("mongodb://localhost:1", connect=False) as client, pytest.raises(UsageError, match="client"):
        Deployment(client["app"])
