"""What is asked of a deployment, and what is told about it. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final

from mongopatterns.errors import UsageError
from mongopatterns.findings import Finding, Severity
from mongopatterns.verdicts import Verdict

OLDEST: Final = (5, 0)
"""The oldest server that this package works with."""


class TopologyKind(str, Enum):
    """Say what a client is connected to."""

    STANDALONE = "standalone"
    """One server without a replica set: no transactions, no change streams."""
    REPLICA_SET = "replica_set"
    SHARDED = "sharded"
    """A router (mongos) of a sharded cluster, or a load balancer before some."""
    NOT_INITIATED = "not_initiated"
    """A server that was started as a member of a replica set, and `rs.initiate()` never ran."""


class Feature(str, Enum):
    """Name what some deployments can do and others cannot.

    Each is told from the version and the kind of the deployment. A cluster whose `featureCompatibilityVersion` was left
    at an older version may still refuse it: reading that needs rights that an application does not have.
    """

    CHANGE_STREAMS = "change_streams"
    """`watch`: not on a standalone server."""
    SNAPSHOT_READS = "snapshot_reads"
    """Reads outside of a transaction that see one instant, such as `Report.run(consistent=True)`: not on a standalone
    server."""
    SPLIT_LARGE_EVENT = "split_large_event"
    """Events of change streams above 16 MB, in parts (`$changeStreamSplitLargeEvent`): 6.0.9 and 7.0."""
    TIMESERIES_DELETES = "timeseries_deletes"
    """Deletes in time-series collections by any filter, not by the meta field alone: 7.0."""
    UPDATE_SORT = "update_sort"
    """`update_one(sort=)` and `replace_one(sort=)`: 8.0."""
    CLIENT_BULK_WRITE = "client_bulk_write"
    """`client.bulk_write`, over several collections in one command: 8.0."""


@dataclass(frozen=True, kw_only=True)
class Requirements:
    """Say what an application needs of a deployment: what is missing makes `check` raise.

    Attributes:
        transactions: Transactions, which a replica set or a sharded cluster has, and a standalone server has not.
        min_version: The oldest version that will do, such as `(6, 0)`. This package needs 5.0.
        majority: Writes that wait for a majority of the members, as every primitive's do, come back: enough members
            are up and keep pace. It is asked by a read that waits for a majority, which writes nothing of yours. Turn
            it off where a deployment may be degraded when the application starts.
        min_members: So many members that hold data: with fewer than 3, nobody may fail. Hidden ones are not seen.
        tls: The client's connections are encrypted.
        max_clock_difference: How many seconds the clock of this machine and that of the server may be apart: dates that
            the application makes, such as `expires_at`, are compared with the server's.
        connection_headroom: So many connections the server that answers must have left.
        features: What else it must be able to do.

    Raises:
        UsageError: If a value is none of these.
    """

    transactions: bool = False
    min_version: tuple[int, ...] = OLDEST
    majority: bool = True
    min_members: int | None = None
    tls: bool = False
    max_clock_difference: float | None = None
    connection_headroom: int | None = None
    features: tuple[Feature, ...] = ()

    def __post_init__(self) -> None:
        for name in ("transactions", "majority", "tls"):
            if not isinstance(getattr(self, name), bool):
                raise UsageError(name, f"expected True or False, got {getattr(self, name)!r:.100}")
        version = self.min_version
        if not isinstance(version, tuple) or not version or not all(_is_whole(part, 0) for part in version):
            raise UsageError("min_version", f"expected numbers such as (6, 0), got {version!r:.100}")
        for name in ("min_members", "connection_headroom"):
            value = getattr(self, name)
            if value is not None and not _is_whole(value, 1):
                raise UsageError(name, f"expected a whole number from 1, or None; got {value!r:.100}")
        seconds = self.max_clock_difference
        numeric = isinstance(seconds, (int, float)) and not isinstance(seconds, bool)
        if seconds is not None and not (numeric and seconds > 0):
            raise UsageError("max_clock_difference", f"expected seconds greater than 0, or None; got {seconds!r:.100}")
        object.__setattr__(self, "features", _check_features(self.features))


def _is_whole(value: object, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _check_features(features: object) -> tuple[Feature, ...]:
    known = ", ".join(f"Feature.{feature.name}" for feature in Feature)
    if not isinstance(features, (tuple, list, set, frozenset)):
        raise UsageError("features", f"expected some of {known}; got {features!r:.100}")
    try:
        return tuple(Feature(feature) for feature in features)
    except ValueError as error:
        raise UsageError("features", f"{error}: expected some of {known}") from None


@dataclass(frozen=True)
class Connections:
    """Tell how many connections a server has.

    Attributes:
        current: How many are open, of all its clients.
        available: How many more it takes.
    """

    current: int
    available: int

    @property
    def limit(self) -> int:
        """How many it takes in all."""
        return self.current + self.available


@dataclass(frozen=True)
class DeploymentReport(Verdict):
    """Tell what a client is connected to. True when nothing is wrong that must not be.

    Attributes:
        version: The server's version, such as `(6, 0, 5)`; `(6, 0)` where it was read from the protocol's.
        kind: What kind of deployment it is.
        replica_set: The name of the replica set.
        members: The members that hold data, as `host:port`, without hidden ones; none where they are not told.
        writable: Whether the server that answered takes writes: one that a client is connected to directly may not.
        transactions: Whether it has transactions.
        majority: Whether what waits for a majority came back; None if that was not asked, or not told.
        tls: Whether the client's connections are encrypted.
        clock_difference: The server's clock less this machine's, in seconds.
        clock_uncertainty: How far the true difference may be from that, in seconds: half the round trip.
        connections: How many connections the server that answered has; None where it does not tell.
        features: What it can do.
        findings: What is wrong, and what could not be told although it was required.
    """

    version: tuple[int, ...]
    kind: TopologyKind
    replica_set: str | None
    members: tuple[str, ...]
    writable: bool
    transactions: bool
    majority: bool | None
    tls: bool
    clock_difference: float
    clock_uncertainty: float
    connections: Connections | None
    features: tuple[Feature, ...]
    findings: tuple[Finding, ...] = field(default=())

    @property
    def has_change_streams(self) -> bool:
        """Whether collections can be watched."""
        return Feature.CHANGE_STREAMS in self.features

    @property
    def has_snapshot_reads(self) -> bool:
        """Whether several reads can see one instant."""
        return Feature.SNAPSHOT_READS in self.features

    @property
    def has_split_large_event(self) -> bool:
        """Whether large events of change streams can be had in parts."""
        return Feature.SPLIT_LARGE_EVENT in self.features

    @property
    def has_timeseries_deletes(self) -> bool:
        """Whether time-series collections take deletes by any filter."""
        return Feature.TIMESERIES_DELETES in self.features

    @property
    def has_update_sort(self) -> bool:
        """Whether one document can be updated by an order."""
        return Feature.UPDATE_SORT in self.features

    @property
    def has_client_bulk_write(self) -> bool:
        """Whether one command can write to several collections."""
        return Feature.CLIENT_BULK_WRITE in self.features

    @property
    def errors(self) -> tuple[Finding, ...]:
        """The findings that must not be."""
        return tuple(finding for finding in self.findings if finding.severity is Severity.ERROR)

    def __bool__(self) -> bool:
        """Return whether nothing is wrong that must not be."""
        return not self.errors

    def to_dict(self) -> dict[str, Any]:
        """Return what `json.dumps` takes."""
        told = self.connections
        return {
            **super().to_dict(),
            "version": ".".join(map(str, self.version)),
            "connections": told and {"current": told.current, "available": told.available, "limit": told.limit},
            "findings": [finding.to_dict() for finding in self.findings],
        }
