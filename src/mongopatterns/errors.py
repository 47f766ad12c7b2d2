"""Everything this package raises by itself, and one question about what the driver raises.

```
MongoPatternsError
├── UsageError            misuse: the call is wrong whenever it runs (also a ValueError)
│   └── InvalidCursor     a cursor of a page that is none, was changed, or belongs to something else
├── LimitExceeded         outcome: there was no room; nothing was written
├── Conflict              outcome: what is stored already stands against the call; nothing was written
├── NotHeld               outcome: the seat or slot is not held, or not any more; nothing was written
├── DocumentNotFound      outcome: the document is not there and may not be created
├── OutcomeUnknown        outcome: the call was sent, and nobody can tell whether it was applied
├── NotSent               outcome: time ran out before the call was sent (also a TimeoutError)
├── Dropped               outcome: it was accepted, and dropped before it was sent, to make room for others
├── StateError            the world: what a document holds is not what the spec describes
├── DeploymentError       the world: the server is missing, too old or not able
├── ResultTooLarge        the world: a branch of a report found more than it may hold
├── SchemaDrift           the world: the database is not what its schema says
├── MissingIndex          the world: no index serves what is asked, and the server would read whole collections
└── RepeatedCommands      tests: the same command shape was sent too often (also an AssertionError)
```

One is a warning and no error: `MissingIndexWarning`, where what is asked is done all the same.

Errors of the driver are not wrapped where the driver's answer is the truth: a network error, a
`WriteConcernError` or a timeout reaches the caller as PyMongo raised it, and `may_have_applied` says what it
means for the write that was under way. Only where callers share a command, and the waiting is therefore ours, it
is an `OutcomeUnknown` with the driver's error as its `__cause__`.
"""

from __future__ import annotations

from asyncio.exceptions import TimeoutError as AsyncTimeoutError  # another class than the built-in on Python 3.10
from typing import Any, Final

from pymongo.errors import (
    BulkWriteError,
    ConnectionFailure,
    ExecutionTimeout,
    OperationFailure,
    PyMongoError,
    ServerSelectionTimeoutError,
    WriteConcernError,
)

from mongopatterns.findings import Finding

__all__ = [
    "Conflict",
    "DeploymentError",
    "DocumentNotFound",
    "Dropped",
    "InvalidCursor",
    "LimitExceeded",
    "MissingIndex",
    "MissingIndexWarning",
    "MongoPatternsError",
    "NotHeld",
    "NotSent",
    "OutcomeUnknown",
    "RepeatedCommands",
    "ResultTooLarge",
    "SchemaDrift",
    "StateError",
    "UsageError",
    "may_have_applied",
]

# What a repeated write is answered that the server has applied, and of which it has lost the image (the image was
# deleted or replaced, or the member that became primary never had it) or the history.
_NO_RECORD: Final = frozenset({217, 5637601})


class MongoPatternsError(Exception):
    """Root of every error that this package defines."""


class UsageError(MongoPatternsError, ValueError):
    """Report a call or a definition that is wrong, whatever the database holds.

    Raised before anything is sent. The message names the argument and how to mend it.

    Attributes:
        argument: The name of the argument at fault.
    """

    argument: str

    def __init__(self, argument: str, problem: str) -> None:
        super().__init__(f"{argument}: {problem}")
        self.argument = argument

    def __reduce__(self) -> tuple[Any, ...]:
        """Keep the two parts when the error crosses a process."""
        return type(self), (self.argument, str(self).removeprefix(f"{self.argument}: "))


class InvalidCursor(UsageError):
    """Report a cursor that a pager cannot go on with. Nothing was sent.

    A cursor comes from a client: a web application answers with 400.

    Attributes:
        argument: `"cursor"`.
        reason: `"malformed"`: it is no cursor; `"signature"`: it was changed, or sealed with another secret;
            `"version"`: another version of this package wrote it; `"filter"`: it belongs to another sort or filter.
    """

    reason: str

    def __init__(self, reason: str, problem: str, argument: str = "cursor") -> None:
        super().__init__(argument, problem)
        self.reason = reason

    def __reduce__(self) -> tuple[Any, ...]:
        """Keep the parts when the error crosses a process."""
        return type(self), (self.reason, str(self).removeprefix(f"{self.argument}: "), self.argument)


class LimitExceeded(MongoPatternsError):
    """Report that a limit left no room. Nothing was written.

    Attributes:
        key: The key that was asked for, when the verdict knows it.
        decision: The verdict, with what is left and when there is more.
    """

    def __init__(self, message: str, *, key: Any = None, decision: Any = None) -> None:
        super().__init__(message)
        self.key = key
        self.decision = decision


class Conflict(MongoPatternsError):
    """Report that what is stored already stands against the call. Nothing was written.

    Attributes:
        key: What was asked for, when it is known.
        verdict: The verdict, where the call has one.
    """

    def __init__(self, message: str, *, key: Any = None, verdict: Any = None) -> None:
        super().__init__(message)
        self.key = key
        self.verdict = verdict


class NotHeld(MongoPatternsError):
    """Report that a seat or a slot is not held by the one who says so: it was given up, or has expired.

    Attributes:
        key: Whose it is, when it is known.
        verdict: The verdict, where the call has one.
    """

    def __init__(self, message: str, *, key: Any = None, verdict: Any = None) -> None:
        super().__init__(message)
        self.key = key
        self.verdict = verdict


class DocumentNotFound(MongoPatternsError):
    """Report that the document is not there, and that the spec does not allow it to be created.

    Attributes:
        collection: The collection's name.
        key: The key that matched no document.
    """

    def __init__(self, collection: str, key: Any) -> None:
        super().__init__(
            f"no document of {collection!r} has the key {key!r}: create it first, or, where the spec takes create=, "
            "say there create={} to have it made on first use"
        )
        self.collection = collection
        self.key = key

    def __reduce__(self) -> tuple[Any, ...]:
        """Keep the two parts when the error crosses a process."""
        return type(self), (self.collection, self.key)


class OutcomeUnknown(MongoPatternsError):
    """Report a call that was sent and whose answer never came: it is applied, or will be, or never was.

    Raised where callers share a command (`combine=True`); and where a write was applied, and a read that would have
    told what it did failed. The error that caused it is its `__cause__`.
    """


class NotSent(MongoPatternsError, TimeoutError):
    """Report a call whose `timeout` ran out while it waited for its turn. Nothing was sent or written."""


class Dropped(MongoPatternsError):
    """Report an operation that a full buffer had accepted, and dropped to make room for newer ones. It was not sent."""


class StateError(MongoPatternsError):
    """Report a stored value that a primitive cannot work with. The document stays as it is.

    Raised instead of resetting what somebody may still need.

    Attributes:
        collection: The collection's name.
        key: The key of the document.
        path: The dotted path of the offending value.
    """

    def __init__(self, collection: str, key: Any, path: str, problem: str) -> None:
        super().__init__(f"{path!r} in the document {key!r} of {collection!r}: {problem}")
        self.collection = collection
        self.key = key
        self.path = path
        self._problem = problem

    def __reduce__(self) -> tuple[Any, ...]:
        """Keep the parts when the error crosses a process."""
        return type(self), (self.collection, self.key, self.path, self._problem)


class DeploymentError(MongoPatternsError):
    """Report a server that is missing, too old, or not able to do what is asked of it.

    Attributes:
        findings: What is lacking and what to do about it, where a deployment was checked against requirements.
        report: The whole `DeploymentReport` then.
    """

    def __init__(self, message: str, *, findings: tuple[Finding, ...] = (), report: Any = None) -> None:
        super().__init__(message)
        self.findings = findings
        self.report = report


class ResultTooLarge(MongoPatternsError):
    """Report that a branch of a report found more than it may hold: nothing is cut off in silence.

    Attributes:
        branch: The name of the branch.
        problem: What was too large, and what to do about it.
    """

    def __init__(self, branch: str, problem: str) -> None:
        super().__init__(f"branch {branch!r}: {problem}")
        self.branch = branch
        self.problem = problem

    def __reduce__(self) -> tuple[Any, ...]:
        """Keep the parts when the error crosses a process."""
        return type(self), (self.branch, self.problem)


class MissingIndex(MongoPatternsError):
    """Report that no index serves what is asked, where that is not allowed. Nothing was sent.

    Attributes:
        finding: What is missing, why, and how to create it.
    """

    def __init__(self, finding: Finding) -> None:
        super().__init__(str(finding))
        self.finding = finding

    def __reduce__(self) -> tuple[Any, ...]:
        """Keep the finding when the error crosses a process."""
        return type(self), (self.finding,)


class SchemaDrift(MongoPatternsError):
    """Report a database that is not what its schema says. The message is the plan.

    Attributes:
        plan: What has to change, and what stands in the way.
    """

    def __init__(self, plan: Any) -> None:
        super().__init__(str(plan))
        self.plan = plan

    def __reduce__(self) -> tuple[Any, ...]:
        """Keep the plan when the error crosses a process."""
        return type(self), (self.plan,)


class MissingIndexWarning(UserWarning):
    """Warn that no index serves what is asked: it is done, and the server reads whole collections for it.

    Attributes:
        finding: What is missing, why, and how to create it.
    """

    def __init__(self, finding: Finding) -> None:
        super().__init__(str(finding))
        self.finding = finding

    def __reduce__(self) -> tuple[Any, ...]:
        """Keep the finding when the warning crosses a process."""
        return type(self), (self.finding,)


class RepeatedCommands(MongoPatternsError, AssertionError):
    """Report that one command shape was sent more often than a guard allows.

    Attributes:
        counts: How often each offending shape was sent, by its description.
        sites: Where each of them was sent from, `file:line in function`, and how often; the most frequent first.
    """

    def __init__(
        self,
        message: str,
        counts: dict[str, int] | None = None,
        sites: dict[str, dict[str, int]] | None = None,
    ) -> None:
        super().__init__(message)
        self.counts: dict[str, int] = counts or {}
        self.sites: dict[str, dict[str, int]] = sites or {}


def may_have_applied(error: BaseException) -> bool:
    """Tell whether the write that raised `error` may be stored all the same.

    The driver has already retried what is safe to retry when its error arrives. What is left means one of two
    things: the server refused the write (False: nothing is stored), or its answer never came or came without
    the promised durability (True: it is stored, or will be, or never was).

    Args:
        error: What a call of a primitive or of the driver raised.

    Returns:
        True for lost connections, elections, timeouts, cancellation and unsatisfied write concerns, where the
        error does not tell whether the command had left (a timeout while waiting for a connection may be that
        of a retry), and where the server knows a repeated write but has lost what it had answered; False for errors
        of our own, `OutcomeUnknown` aside, and for plain refusals by the server.
    """
    if isinstance(error, MongoPatternsError):
        return isinstance(error, OutcomeUnknown)
    if not isinstance(error, Exception) or isinstance(error, (TimeoutError, AsyncTimeoutError)):
        return True  # the caller stopped waiting: cancelled, interrupted, or out of time by its own clock
    if not isinstance(error, PyMongoError):
        return False
    if isinstance(error, ServerSelectionTimeoutError):
        # The driver raises the first attempt's error instead when a retry finds no server.
        return False
    if isinstance(error, (ConnectionFailure, WriteConcernError, ExecutionTimeout)):
        return True
    stored = isinstance(error, BulkWriteError) and bool((error.details or {}).get("writeConcernErrors"))
    stored = stored or (isinstance(error, OperationFailure) and error.code in _NO_RECORD)
    return stored or error.timeout or error.has_error_label("RetryableWriteError")
