"""How a client of the driver is set up for one kind of process, with the reason for every number. Pure.

The fields have the driver's own names, so that what is read here is what is passed to the driver, and what a caller
writes to change it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, Final, Literal, get_args

from mongopatterns.errors import UsageError

Monitoring = Literal["stream", "poll"]
"""How a client learns that a server went: at once over a second connection, or when it asks every ten seconds."""

ReadFrom = Literal["primary", "primaryPreferred", "secondary", "secondaryPreferred", "nearest"]

_LONGEST_MS: Final = 86_400_000

_NO_MINIMUM: Final = "The driver keeps its minimum on every member, also on those that are asked for nothing."
_CONNECTING: Final = (
    "The driver's own bound: a process that starts, or meets a new primary, opens two connections at a time."
)
_ONE_SIGHT: Final = (
    "Below the 350 s after which common network gateways forget an idle connection without telling anybody."
)
_WITHOUT_DEADLINE: Final = "For calls without timeoutMS, which otherwise bounds this wait too. "
_SENT_AGAIN: Final = "The driver sends once more, and exactly, what a lost connection or an election interrupted."
_CURRENT: Final = "What was just written is read."


@dataclass(frozen=True)
class Profile:
    """Say how a client is set up. `Profile.WEB`, `WORKER`, `SERVERLESS`, `ANALYTICS` and `TEST` are there.

    Another is made of one of them, `dataclasses.replace(Profile.WEB, name="uploads", timeoutMS=60_000)`, and a single
    client may be given options of its own. `print(profile)` shows every number with its reason.

    Attributes:
        name: What it is called where it is shown.
        maxPoolSize: How many connections to one server, at least 1. More callers wait for one.
        minPoolSize: How many are kept open on every server.
        maxConnecting: How many are opened at a time.
        maxIdleTimeMS: After how long an unused connection is closed.
        timeoutMS: How long a call of the driver may take: waiting for a server and a connection, sending, and sending
            again. `pymongo.timeout` sets another for a block.
        waitQueueTimeoutMS: How long a call without `timeoutMS` waits for a connection. (One with it waits until then.)
        connectTimeoutMS: How long opening a connection may take; 0 for as long as it takes.
        serverSelectionTimeoutMS: How long a call waits for a server that can take it.
        readPreference: Which members are read.
        serverMonitoringMode: `"stream"`: two connections to each server watch it, and a change is known at once;
            `"poll"`: one connection, which asks every ten seconds, and when a call has failed.
        retryWrites: Whether the driver sends a write again that was interrupted.
        retryReads: The same of a read.

    Raises:
        UsageError: If a value cannot work.
    """

    WEB: ClassVar[Profile]
    WORKER: ClassVar[Profile]
    SERVERLESS: ClassVar[Profile]
    ANALYTICS: ClassVar[Profile]
    TEST: ClassVar[Profile]

    name: str
    maxPoolSize: int  # noqa: N815  # what the driver calls it, like all that follow
    timeoutMS: int  # noqa: N815
    waitQueueTimeoutMS: int  # noqa: N815
    connectTimeoutMS: int  # noqa: N815
    serverSelectionTimeoutMS: int  # noqa: N815
    maxIdleTimeMS: int  # noqa: N815
    minPoolSize: int = 0  # noqa: N815
    maxConnecting: int = 2  # noqa: N815
    readPreference: ReadFrom = "primary"  # noqa: N815
    serverMonitoringMode: Monitoring = "stream"  # noqa: N815
    retryWrites: bool = True  # noqa: N815
    retryReads: bool = True  # noqa: N815
    _reasons: Mapping[str, tuple[Any, str]] = field(default_factory=dict, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise UsageError("name", f"expected text, got {self.name!r:.100}")
        for option, lowest in _LOWEST.items():
            value = getattr(self, option)
            if isinstance(value, bool) or not isinstance(value, int) or not lowest <= value <= _LONGEST_MS:
                raise UsageError(option, f"expected a whole number from {lowest} to {_LONGEST_MS}, got {value!r:.100}")
        if self.minPoolSize > self.maxPoolSize:
            raise UsageError("minPoolSize", f"{self.minPoolSize} is more than maxPoolSize, {self.maxPoolSize}")
        for option, allowed in _CHOICES.items():
            value = getattr(self, option)
            if value not in allowed:
                raise UsageError(option, f"expected one of {', '.join(map(repr, allowed))}, got {value!r:.100}")

    def options(self) -> dict[str, Any]:
        """Return the options of the driver."""
        return {each.name: getattr(self, each.name) for each in fields(self) if each.name not in _OURS}

    @property
    def why(self) -> dict[str, str]:
        """The reason for each option; of one that was changed, that it was."""
        return {option: self._why(option, value) for option, value in self.options().items()}

    def __str__(self) -> str:
        """Return a line for each option, with its reason."""
        lines = [f"{option}={value!r}: {self._why(option, value)}" for option, value in self.options().items()]
        return "\n  ".join([self.name, *lines])

    def _why(self, option: str, value: Any) -> str:
        reasoned, reason = self._reasons.get(option, (None, ""))
        return reason if value == reasoned and reason else f"Chosen where {self.name!r} is defined."


_OURS: Final = ("name", "_reasons")
_LOWEST: Final[Mapping[str, int]] = {
    "maxPoolSize": 1,
    "minPoolSize": 0,
    "maxConnecting": 1,
    "maxIdleTimeMS": 1,
    "timeoutMS": 1,
    "waitQueueTimeoutMS": 1,
    "connectTimeoutMS": 0,
    "serverSelectionTimeoutMS": 1,
}
_CHOICES: Final[Mapping[str, tuple[Any, ...]]] = {
    "readPreference": get_args(ReadFrom),
    "serverMonitoringMode": get_args(Monitoring),
    "retryWrites": (True, False),
    "retryReads": (True, False),
}


def _profile(name: str, **reasoned: tuple[Any, str]) -> Profile:
    """Make a profile of values and their reasons."""
    everywhere: dict[str, tuple[Any, str]] = {
        "minPoolSize": (0, _NO_MINIMUM),
        "maxConnecting": (2, _CONNECTING),
        "readPreference": ("primary", _CURRENT),
        "retryWrites": (True, _SENT_AGAIN),
        "retryReads": (True, _SENT_AGAIN),
    }
    reasons = {**everywhere, **reasoned}
    return Profile(name, _reasons=reasons, **{option: value for option, (value, _) in reasons.items()})


Profile.WEB = _profile(
    "web",
    maxPoolSize=(
        50,
        "One process sends a few thousand commands a second at most: at 10 ms each, some dozens are under way at once.",
    ),
    maxIdleTimeMS=(300_000, _ONE_SIGHT),
    timeoutMS=(
        15_000,
        (
            "Longer than an election, which takes up to 12 s by the server's defaults; shorter than the 30 s after "
            "which a proxy usually gives a request up."
        ),
    ),
    waitQueueTimeoutMS=(
        2_000,
        (
            f"{_WITHOUT_DEADLINE}Who has none after 2 s is behind a line that grows: better one error now "
            "than all of them late."
        ),
    ),
    connectTimeoutMS=(
        5_000,
        (
            "Connecting takes milliseconds, or a second or two where a packet is lost. A server that went silent is "
            "noticed after this and ten seconds more."
        ),
    ),
    serverSelectionTimeoutMS=(15_000, "As timeoutMS: what it waits for is the end of an election."),
    serverMonitoringMode=("stream", "A new primary is known at once, and requests wait no longer than they must."),
)
Profile.WORKER = _profile(
    "worker",
    maxPoolSize=(10, "A worker process has one task at a time, or a few threads."),
    maxIdleTimeMS=(300_000, _ONE_SIGHT),
    timeoutMS=(60_000, "Nobody looks at a spinner: long enough for a batch, and for two elections in a row."),
    waitQueueTimeoutMS=(30_000, f"{_WITHOUT_DEADLINE}A task can wait, but not for ever, as the driver would."),
    connectTimeoutMS=(10_000, "A busy server, or a storm of new connections after a deployment, is waited for."),
    serverSelectionTimeoutMS=(30_000, "The driver's own default: an election, and time to spare."),
    serverMonitoringMode=(
        "poll",
        "Worker processes are many and small: this saves one connection to each server in each of them.",
    ),
)
Profile.SERVERLESS = _profile(
    "serverless",
    maxPoolSize=(3, "One instance serves one request at a time, which seldom has more than three calls under way."),
    maxIdleTimeMS=(60_000, "An instance that was frozen wakes up with connections that are gone."),
    timeoutMS=(10_000, "An instance is paid for while it waits. An election that takes longer is left to the caller."),
    waitQueueTimeoutMS=(2_000, f"{_WITHOUT_DEADLINE}There is one request, and it waits for itself."),
    connectTimeoutMS=(3_000, "A cold start is waited for by a user."),
    serverSelectionTimeoutMS=(10_000, "As timeoutMS."),
    serverMonitoringMode=(
        "poll",
        "A frozen instance cannot follow a stream; and with many instances each connection counts.",
    ),
)
Profile.ANALYTICS = _profile(
    "analytics",
    maxPoolSize=(5, "More long reads at once take each other's memory and disk, and are done no sooner."),
    maxIdleTimeMS=(60_000, "Reports come in bursts: nothing is held between them."),
    timeoutMS=(600_000, "A report over a year may take minutes. Ten is where an index is missing."),
    waitQueueTimeoutMS=(60_000, f"{_WITHOUT_DEADLINE}Reports wait for each other."),
    connectTimeoutMS=(10_000, "A busy secondary is waited for."),
    serverSelectionTimeoutMS=(30_000, "The driver's own default: an election, and time to spare."),
    readPreference=(
        "secondaryPreferred",
        "Long reads stay away from the primary. They may miss what was written in the last seconds.",
    ),
    serverMonitoringMode=("poll", "Nobody waits for the first moment of a new primary."),
)
Profile.TEST = _profile(
    "test",
    maxPoolSize=(100, "The driver's own default: a race between a hundred callers is one."),
    maxIdleTimeMS=(60_000, "A suite is over before that."),
    timeoutMS=(20_000, "A test that hangs fails, and names the line."),
    waitQueueTimeoutMS=(5_000, f"{_WITHOUT_DEADLINE}A leaked connection fails the test."),
    connectTimeoutMS=(
        0,
        (
            "An event loop stands still between asynchronous tests: a heartbeat must not time out meanwhile, which "
            "would interrupt connections that are being made."
        ),
    ),
    serverSelectionTimeoutMS=(5_000, "A server that is not there fails the run at once."),
    serverMonitoringMode=("stream", "As in a web process."),
)
