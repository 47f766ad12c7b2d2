"""What an answer, or an error in its place, says about the health of a process and of its server. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final, TypeAlias

from pymongo.errors import (
    ConfigurationError,
    ConnectionFailure,
    ExecutionTimeout,
    NetworkTimeout,
    OperationFailure,
    PyMongoError,
    ServerSelectionTimeoutError,
    WaitQueueTimeoutError,
)

from mongopatterns.verdicts import Verdict

COMMENT: Final = "mongopatterns.health.ready"

# AuthenticationFailed, Unauthorized, ReauthenticationRequired, and what Atlas answers to a wrong password.
_NO_ENTRY: Final = frozenset({18, 13, 391, 8000})

Topology: TypeAlias = Any
"""What the driver knows about the servers: its `TopologyDescription`."""


class HealthState(str, Enum):
    """Say how a process, or its server, is."""

    ALIVE = "alive"
    """The process turns."""
    READY = "ready"
    """The primary has answered."""
    POOL_EXHAUSTED = "pool_exhausted"
    """This client had no connection to give in time: all were in use, or being opened. The server was not asked."""
    NO_PRIMARY = "no_primary"
    """Members answer, and none of them is the primary: an election is under way, or a majority is missing."""
    UNREACHABLE = "unreachable"
    """No server answers, or the connection to it broke."""
    TIMED_OUT = "timed_out"
    """A server was asked, and did not answer in time."""
    AUTH_FAILED = "auth_failed"
    """The server answers, and refuses this client's credentials."""


_REASONS: Final = {
    HealthState.ALIVE: "the process turns",
    HealthState.READY: "the primary answers",
    HealthState.POOL_EXHAUSTED: "no connection was free in time (all in use, or being opened): nothing was asked",
    HealthState.NO_PRIMARY: "members answer, and none of them is the primary",
    HealthState.UNREACHABLE: "the server cannot be reached",
    HealthState.TIMED_OUT: "the server was asked, and did not answer in time",
    HealthState.AUTH_FAILED: "the server refuses this client's credentials",
}
_GOOD: Final = (HealthState.ALIVE, HealthState.READY)


@dataclass(frozen=True)
class HealthReport(Verdict):
    """Tell how a process or its server is. True when it is well.

    Attributes:
        state: What was found.
        seconds: How long it took to find out.
        error: What the driver raised, if it did. Its text may name hosts: it belongs to a log, and `to_dict` has it
            not.
    """

    state: HealthState
    seconds: float
    error: PyMongoError | None = field(default=None, compare=False)

    @property
    def reason(self) -> str:
        """The state as a sentence without its full stop. It names no host."""
        return _REASONS[self.state]

    def __bool__(self) -> bool:
        """Return whether it is well."""
        return self.state in _GOOD

    def require(self) -> None:
        """Raise the driver's error unless it is well.

        Raises:
            PyMongoError: What the driver raised when it was asked.
        """
        if self.error is not None:
            raise self.error

    def to_dict(self) -> dict[str, Any]:
        """Return what `json.dumps` takes, for the answer of an endpoint: no text of the driver, and no host."""
        return {"ok": bool(self), "state": self.state.value, "reason": self.reason, "seconds": self.seconds}


class HealthPlan:
    """Read what came of a question."""

    def alive(self, seconds: float) -> HealthReport:
        """Tell that the process turned."""
        return HealthReport(HealthState.ALIVE, seconds)

    def ready(self, seconds: float) -> HealthReport:
        """Tell that the primary answered."""
        return HealthReport(HealthState.READY, seconds)

    def not_ready(self, error: PyMongoError, topology: Topology, seconds: float) -> HealthReport:
        """Tell why it did not.

        Args:
            error: What the driver raised.
            topology: What it knew about the servers just after.
            seconds: How long it took.

        Raises:
            PyMongoError: The error itself, if it does not say that the server cannot be reached or used: it is a
                mistake of the program, and waiting does not mend it.
        """
        state = _state(error, topology)
        if state is None:
            raise error
        return HealthReport(state, seconds, error)


def _state(error: PyMongoError, topology: Topology) -> HealthState | None:
    if isinstance(error, WaitQueueTimeoutError):
        return HealthState.POOL_EXHAUSTED
    if isinstance(error, (NetworkTimeout, ExecutionTimeout)) and not isinstance(error, ServerSelectionTimeoutError):
        return HealthState.TIMED_OUT
    servers = topology.server_descriptions().values()
    if isinstance(error, ServerSelectionTimeoutError) and any(map(_was_refused, servers)):
        return HealthState.AUTH_FAILED
    if isinstance(error, ConnectionFailure):
        # A server that is known has answered the driver's own monitor.
        known = topology.known_servers
        return HealthState.NO_PRIMARY if known and not topology.has_writable_server() else HealthState.UNREACHABLE
    if isinstance(error, ConfigurationError) and type(error.__cause__).__module__.startswith("dns."):
        return HealthState.UNREACHABLE  # the name of a cluster (mongodb+srv) could not be looked up
    return HealthState.AUTH_FAILED if _refuses(error) else None


def _refuses(error: Exception | None) -> bool:
    return isinstance(error, OperationFailure) and error.code in _NO_ENTRY


def _was_refused(server: Any) -> bool:
    """Tell whether the driver holds a server for unknown because it refused to let it in: it asks again later."""
    return _refuses(server.error)
