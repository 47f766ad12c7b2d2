"""What a deployment is asked, and what its answers mean. Pure: no client, no clock, no randomness.

Four commands at most: `buildInfo` (which opens the connection, so that nothing but a round trip lies in the next),
`hello`, `serverStatus`, and a read that waits for a majority. Only `hello` must be answered. What a tier or a user's
role refuses is told as not known, and never taken for an answer.

That a majority answers is asked by a read with the concern `linearizable`: the primary notes in its own log that it was
read, and waits until a majority of the members has that note. It takes the way of a write, and changes no document.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple

from pymongo.errors import ExecutionTimeout, NetworkTimeout, OperationFailure, PyMongoError

from mongopatterns.calls import Call, again
from mongopatterns.client._deployment_report import (
    OLDEST,
    Connections,
    DeploymentReport,
    Feature,
    Requirements,
    TopologyKind,
)
from mongopatterns.errors import DeploymentError, UsageError
from mongopatterns.findings import Finding, Severity

MAJORITY_SECONDS: Final = 5
"""How long a majority may take: a healthy one takes milliseconds, one that has just elected its primary a second."""

# Unauthorized; CommandNotFound and CommandNotSupported (what only looks like MongoDB); APIStrictError; and what Atlas
# answers where a tier forbids a command.
_REFUSED: Final = frozenset({13, 59, 115, 323, 8000})

# Versions by the number of the protocol, where `buildInfo` is refused.
_WIRE_VERSIONS: Final[Mapping[int, tuple[int, int]]] = {
    7: (4, 0),
    8: (4, 2),
    9: (4, 4),
    13: (5, 0),
    14: (5, 1),
    15: (5, 2),
    16: (5, 3),
    17: (6, 0),
    18: (6, 1),
    19: (6, 2),
    20: (6, 3),
    21: (7, 0),
    22: (7, 1),
    23: (7, 2),
    24: (7, 3),
    25: (8, 0),
    26: (8, 1),
    27: (8, 2),
}

# What has transactions and change streams, in every version that is not too old altogether.
_SETS: Final = (TopologyKind.REPLICA_SET, TopologyKind.SHARDED)
# Since which version there is a feature, and whether it needs one of these.
_FEATURES: Final[Mapping[Feature, tuple[tuple[int, ...], bool]]] = {
    Feature.CHANGE_STREAMS: ((4, 0), True),
    Feature.SNAPSHOT_READS: ((5, 0), True),
    Feature.SPLIT_LARGE_EVENT: ((7, 0), True),
    Feature.TIMESERIES_DELETES: ((7, 0), False),
    Feature.UPDATE_SORT: ((8, 0), False),
    Feature.CLIENT_BULK_WRITE: ((8, 0), False),
}
_SPLIT_IN_6_0: Final = ((6, 0, 9), (6, 1))  # it came to this line of versions, and not to the next

_CONVERT: Final = (
    "Run a replica set, which may have a single member: start mongod with --replSet rs0, run rs.initiate() once, and "
    "connect with replicaSet=rs0"
)


class Ask(NamedTuple):
    """What is to be sent.

    Attributes:
        database: Where.
        command: What.
        seconds: How long it may take.
    """

    database: str
    command: dict[str, Any]
    seconds: float | None = None


@dataclass(frozen=True)
class Answer:
    """What came back.

    Attributes:
        began: This machine's time before it was sent.
        ended: And after.
        reply: The server's reply.
        error: Or what the driver raised.
        tls: Whether the client's connections are encrypted.
    """

    began: dt.datetime
    ended: dt.datetime
    reply: Mapping[str, Any] | None = None
    error: PyMongoError | None = None
    tls: bool = False

    def told(self) -> Mapping[str, Any] | None:
        """Return the reply; None if the server refuses to tell.

        Raises:
            PyMongoError: Any other error of the driver.
        """
        if self.error is None:
            return self.reply
        if isinstance(self.error, OperationFailure) and self.error.code in _REFUSED:
            return None
        raise self.error


Steps = Generator[Ask, Answer, DeploymentReport]


class DeploymentPlan:
    """Build what is asked, and read what is answered.

    Args:
        database: Where the read that waits for a majority goes.
    """

    def __init__(self, database: str) -> None:
        self._database = database

    def check(self, requirements: Requirements) -> Call[Ask]:
        """Begin a check.

        Raises:
            UsageError: If the requirements are none.
        """
        if not isinstance(requirements, Requirements):
            raise UsageError("requirements", f"expected Requirements(...), got {type(requirements).__name__}")
        return Call(self._check(requirements))

    def again(self, call: Call[Ask], answer: Answer | None) -> Ask | None:
        """Return what is asked next; None if the check is over."""
        return again(call, answer)

    def _check(self, required: Requirements) -> Steps:
        build = (yield Ask("admin", _command("buildInfo"))).told()
        greeting = yield Ask("admin", _command("hello"))
        hello = greeting.told()
        if hello is None:  # nobody refuses it, and without it nothing can be told
            raise greeting.error  # type: ignore[misc]
        # (whole, for tiers that take no options with it)
        connections = _connections((yield Ask("admin", _command("serverStatus"))).told())
        report = _report(build, hello, greeting, connections)
        if required.majority:
            report = replace(report, majority=(yield from self._majority(report)))
        report = replace(report, findings=(*_always(report), *_lacking(report, required)))
        if not report:
            raise DeploymentError(_message(report), findings=report.errors, report=report)
        return report

    def _majority(self, report: DeploymentReport) -> Generator[Ask, Answer, bool | None]:
        """Ask whether what waits for a majority comes back.

        A router answers for a database that is not there by itself, and each shard has a majority of its own: nothing
        is told by it.
        """
        if report.kind is TopologyKind.STANDALONE:
            return True  # it is its own majority
        if report.kind is not TopologyKind.REPLICA_SET or not report.writable:
            return None
        read = {"find": "mongopatterns.deployment", "filter": {"_id": 0}, "limit": 1, "singleBatch": True}
        command = {**read, "readConcern": {"level": "linearizable"}, "maxTimeMS": MAJORITY_SECONDS * 1000}
        answer = yield Ask(self._database, {**command, "comment": _comment()}, MAJORITY_SECONDS)
        if isinstance(answer.error, (ExecutionTimeout, NetworkTimeout)):
            return False
        return None if answer.told() is None else True


def _comment() -> str:
    return "mongopatterns.deployment.check"


def _command(name: str) -> dict[str, Any]:
    return {name: 1, "comment": _comment()}


# Read --------------------------------------------------------------------------------------------------------


def _report(
    build: Mapping[str, Any] | None, hello: Mapping[str, Any], greeting: Answer, connections: Connections | None
) -> DeploymentReport:
    version, kind = _version(build, hello), _kind(hello)
    difference, uncertainty = _clock(hello, greeting)
    return DeploymentReport(
        version=version,
        kind=kind,
        replica_set=hello.get("setName"),
        members=tuple(sorted((*hello.get("hosts", ()), *hello.get("passives", ())))),
        writable=bool(hello.get("isWritablePrimary", hello.get("ismaster"))),
        transactions=kind in _SETS,
        majority=None,
        tls=greeting.tls,
        clock_difference=difference,
        clock_uncertainty=uncertainty,
        connections=connections,
        features=tuple(feature for feature in Feature if _has(feature, version, kind)),
    )


def _version(build: Mapping[str, Any] | None, hello: Mapping[str, Any]) -> tuple[int, ...]:
    """Return the version; its first two numbers if it is read from the protocol's."""
    if build is not None and build.get("versionArray"):
        return tuple(int(part) for part in build["versionArray"][:3])
    wire = int(hello.get("maxWireVersion", 0))
    return max((version for number, version in _WIRE_VERSIONS.items() if number <= wire), default=(0, 0))


def _kind(hello: Mapping[str, Any]) -> TopologyKind:
    if hello.get("msg") == "isdbgrid":
        return TopologyKind.SHARDED
    if hello.get("setName"):
        return TopologyKind.REPLICA_SET
    return TopologyKind.NOT_INITIATED if hello.get("isreplicaset") else TopologyKind.STANDALONE


def _clock(hello: Mapping[str, Any], greeting: Answer) -> tuple[float, float]:
    """Return how far the server's clock is ahead, and how far the truth may be from that.

    The server read its clock between the moments before and after, and when is not known: it is taken for the middle.
    """
    half = (greeting.ended - greeting.began) / 2
    local = hello["localTime"]
    local = local if local.tzinfo else local.replace(tzinfo=dt.timezone.utc)
    return (local - (greeting.began + half)).total_seconds(), half.total_seconds()


def _connections(status: Mapping[str, Any] | None) -> Connections | None:
    counts = (status or {}).get("connections")
    return Connections(int(counts["current"]), int(counts["available"])) if counts else None


def _has(feature: Feature, version: tuple[int, ...], kind: TopologyKind) -> bool:
    since, in_sets = _FEATURES[feature]
    if in_sets and kind not in _SETS:
        return False
    if feature is Feature.SPLIT_LARGE_EVENT and _SPLIT_IN_6_0[0] <= version < _SPLIT_IN_6_0[1]:
        return True
    return version >= since


# Judged ------------------------------------------------------------------------------------------------------


def _always(report: DeploymentReport) -> list[Finding]:
    """Find what is wrong whatever was required."""
    found = []
    if report.version < OLDEST:
        evidence = f"it runs MongoDB {_text(report.version)}, and mongopatterns needs {_text(OLDEST)}"
        found.append(_error("server-too-old", "version", evidence, "Upgrade the server"))
    if report.kind is TopologyKind.NOT_INITIATED:
        evidence = "the server was started for a replica set that was never initiated"
        found.append(_error("not-initiated", "replica set", evidence, "Run rs.initiate() on it, once"))
    elif not report.writable:
        evidence = "the server that answers is no primary, so writes are refused"
        remedy = "Connect with replicaSet= and without directConnection=true, so that the driver finds the primary"
        found.append(_warning("not-writable", "connection", evidence, remedy))
    return found


def _lacking(report: DeploymentReport, required: Requirements) -> list[Finding]:
    """Find what is required and not there; and what is required and not told, which is no error."""
    found = []
    if report.version < required.min_version and report.version >= OLDEST:
        evidence = f"it runs MongoDB {_text(report.version)}, and {_text(required.min_version)} is required"
        found.append(_error("server-too-old", "version", evidence, "Upgrade the server"))
    if required.transactions and not report.transactions:
        found.append(_error("no-transactions", "transactions", _without(report), _CONVERT))
    found += [_feature(feature, report) for feature in required.features if feature not in report.features]
    found += _majority_found(report, required)
    found += _members_found(report, required)
    if required.tls and not report.tls:
        evidence = "the client's connections are not encrypted"
        found.append(_error("no-tls", "tls", evidence, "Connect with tls=true, or by mongodb+srv://"))
    found += _clock_found(report, required)
    found += _headroom_found(report, required)
    return found


def _without(report: DeploymentReport) -> str:
    what = "a standalone server" if report.kind is TopologyKind.STANDALONE else "a server that was never initiated"
    return f"it is {what}, and this needs a replica set or a sharded cluster"


def _feature(feature: Feature, report: DeploymentReport) -> Finding:
    since, in_sets = _FEATURES[feature]
    if in_sets and report.kind not in _SETS:
        return _error("no-feature", feature.value, _without(report), _CONVERT)
    evidence = f"it runs MongoDB {_text(report.version)}, which does not have it"
    return _error("no-feature", feature.value, evidence, f"Upgrade the server to {_text(since)}")


def _majority_found(report: DeploymentReport, required: Requirements) -> Sequence[Finding]:
    if not required.majority or report.majority:
        return ()
    if report.majority is False:
        evidence = f"a read that waits for a majority of the members did not come back in time ({MAJORITY_SECONDS} s"
        evidence += ", or what was left of the call's)"
        remedy = "See with rs.status() which members are down or behind; majority writes wait for them"
        return (_error("no-majority", "majority", evidence, remedy),)
    if report.kind is TopologyKind.SHARDED:  # (which is asked by default: nothing is wrong)
        evidence = "a router does not tell: each shard has a majority of its own"
        return (Finding("not-told", Severity.INFO, "majority", evidence),)
    if report.kind is TopologyKind.NOT_INITIATED or not report.writable:
        return ()  # said already
    evidence = "the read that would have told was refused"
    remedy = "Name a database in the connection string that the user may read"
    return (_warning("not-told", "majority", evidence, remedy),)


def _members_found(report: DeploymentReport, required: Requirements) -> Sequence[Finding]:
    least = required.min_members
    if least is None or len(report.members) >= least:
        return ()
    if report.kind is TopologyKind.SHARDED:
        return (_warning("not-told", "members", "a router does not tell which members its shards have"),)
    members = len(report.members) or 1
    if members >= least:
        return ()
    evidence = f"{_times(members, 'member holds', 'members hold')} data, and {least} are required"
    return (_error("too-few-members", "members", evidence, "Add members to the replica set with rs.add()"),)


def _clock_found(report: DeploymentReport, required: Requirements) -> Sequence[Finding]:
    most = required.max_clock_difference
    # What the round trip leaves open is no proof.
    if most is None or abs(report.clock_difference) - report.clock_uncertainty <= most:
        return ()
    direction = "ahead of" if report.clock_difference > 0 else "behind"
    evidence = f"the server's clock is {abs(report.clock_difference):.3f} s {direction} this machine's"
    evidence += f" (give or take {report.clock_uncertainty:.3f} s), and {most:g} s is allowed"
    return (_error("clock-difference", "clock", evidence, "Let both set their clocks by NTP"),)


def _headroom_found(report: DeploymentReport, required: Requirements) -> Sequence[Finding]:
    least = required.connection_headroom
    if least is None:
        return ()
    if report.connections is None:
        remedy = "Allow serverStatus (the role clusterMonitor), or plan connections with a PoolBudget"
        return (_warning("not-told", "connections", "this deployment refuses serverStatus", remedy),)
    if report.connections.available >= least:
        return ()
    told = report.connections
    evidence = f"{told.available} of {told.limit} connections are left, and {least} are required"
    remedy = "Run fewer processes, give each a smaller pool (see PoolBudget), or take a larger tier"
    return (_error("too-few-connections", "connections", evidence, remedy),)


def _error(code: str, subject: str, evidence: str, remedy: str) -> Finding:
    return Finding(code, Severity.ERROR, subject, evidence, remedy)


def _warning(code: str, subject: str, evidence: str, remedy: str = "") -> Finding:
    return Finding(code, Severity.WARNING, subject, evidence, remedy)


def _text(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))


def _times(number: int, one: str, several: str) -> str:
    return f"{number} {one if number == 1 else several}"


def _message(report: DeploymentReport) -> str:
    lines = [f"this deployment does not have what is required, in {_times(len(report.errors), 'point', 'points')}:"]
    lines += [f"- {each.subject}: {each.evidence}. {each.remedy}." for each in report.errors]
    return "\n".join(lines)
