"""What callers of a capped set are told: frozen verdicts. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from mongopatterns.errors import Conflict, DocumentNotFound, LimitExceeded, MongoPatternsError, NotHeld
from mongopatterns.verdicts import Verdict


class JoinOutcome(str, Enum):
    """What came of `join` for one member."""

    JOINED = "joined"
    """There was a free seat, and the member has it."""
    ALREADY = "already"
    """The member had a seat before, and keeps it. (Told even if the set is closed or full by now.)"""
    WAITING = "waiting"
    """There was no free seat: the member waits in line."""
    FULL = "full"
    """There was no free seat. Nothing was written."""
    CLOSED = "closed"
    """The document does not say what `open_if` asks for. Nothing was written."""
    NOT_FOUND = "not_found"
    """There is no such document, and the spec does not make one."""


_SEATED = (JoinOutcome.JOINED, JoinOutcome.ALREADY)


class LeaveOutcome(str, Enum):
    """What came of `leave`."""

    LEFT = "left"
    """The member had a seat, or waited for one, and has not any more."""
    ABSENT = "absent"
    """The member had none (or it had expired). Nothing was written."""
    NOT_FOUND = "not_found"
    """There is no such document."""


class MemberOutcome(str, Enum):
    """What came of `touch` or `update`."""

    UPDATED = "updated"
    """The member has a seat, and the change is stored."""
    ABSENT = "absent"
    """The member has no seat (any more). Nothing was written."""
    NOT_FOUND = "not_found"
    """There is no such document."""


@dataclass(frozen=True)
class JoinResult(Verdict):
    """Tell what came of one `join`. True when the member has a seat.

    Attributes:
        key: The document's key.
        outcome: See `JoinOutcome`.
        size: How many seats are taken after the call.
        cap: How many seats there are; None if there is no document.
        member: The member's document as it is stored; None if the member has no seat. (If the call made the
            document, its time of expiry is dated by this process's clock.)
        position: The place in line of a member who waits: 1 is next. Else None.
        leader: The member key of the leader after the call, as it is stored; None if nobody with a seat leads.
        promoted: The members who waited before and were given seats in the same write.
        document: The whole document after the call, if `document=True` asked for it.
        collection: The collection's name.
    """

    key: Any
    outcome: JoinOutcome
    size: int
    cap: int | None
    member: dict[str, Any] | None = field(default=None, hash=False)
    position: int | None = None
    leader: Any = field(default=None, hash=False)
    promoted: tuple[dict[str, Any], ...] = field(default=(), hash=False)
    document: dict[str, Any] | None = field(default=None, hash=False, repr=False)
    collection: str = ""

    def __bool__(self) -> bool:
        """Return whether the member has a seat."""
        return self.outcome in _SEATED

    def require(self) -> JoinResult:
        """Return the verdict itself if the member has a seat.

        Raises:
            LimitExceeded: If the set is full; the verdict is its `decision`.
            Conflict: If it is closed; the verdict is its `verdict`.
            DocumentNotFound: If there is no such document.
        """
        if not self:
            raise _refusal(self, self.outcome)
        return self


@dataclass(frozen=True)
class JoinManyResult(Verdict):
    """Tell what came of one `join_many`. True when every one of them has a seat.

    Attributes:
        key: The document's key.
        outcomes: What came of each, in the order given.
        joined: The member keys of those who were given seats by this call.
        size: How many seats are taken after the call.
        cap: How many seats there are; None if there is no document.
        leader: The member key of the leader after the call, as it is stored; None if nobody with a seat leads.
        promoted: The members who waited before, were not named by the call, and were given seats in the same write.
        collection: The collection's name.
    """

    key: Any
    outcomes: tuple[JoinOutcome, ...]
    joined: tuple[Any, ...]
    size: int
    cap: int | None
    leader: Any = field(default=None, hash=False)
    promoted: tuple[dict[str, Any], ...] = field(default=(), hash=False)
    collection: str = ""

    def __bool__(self) -> bool:
        """Return whether every one of them has a seat."""
        return all(outcome in _SEATED for outcome in self.outcomes)

    def require(self) -> JoinManyResult:
        """Return the verdict itself if every one of them has a seat.

        Raises:
            LimitExceeded: If the set is too full for them; the verdict is its `decision`.
            Conflict: If it is closed; the verdict is its `verdict`.
            DocumentNotFound: If there is no such document.
        """
        if not self:
            raise _refusal(self, next(outcome for outcome in self.outcomes if outcome not in _SEATED))
        return self


def _refusal(verdict: JoinResult | JoinManyResult, outcome: JoinOutcome) -> MongoPatternsError:
    if outcome is JoinOutcome.NOT_FOUND:
        return DocumentNotFound(verdict.collection, verdict.key)
    if outcome is JoinOutcome.CLOSED:
        return Conflict(f"the set of {verdict.key!r} is closed", key=verdict.key, verdict=verdict)
    problem = f"the set of {verdict.key!r} is full: {verdict.size} of {verdict.cap} seats are taken"
    return LimitExceeded(problem, key=verdict.key, decision=verdict)


@dataclass(frozen=True)
class LeaveResult(Verdict):
    """Tell what came of one `leave`. True when the member had a seat, or waited, and has not any more.

    Attributes:
        key: The document's key.
        outcome: See `LeaveOutcome`.
        size: How many seats are taken after the call.
        leader: The member key of the leader after the call, as it is stored; None if nobody with a seat leads.
        closed: Whether the last one has left and this call has closed the set.
        promoted: The members who waited, and were given seats in the same write.
        collection: The collection's name.
    """

    key: Any
    outcome: LeaveOutcome
    size: int
    leader: Any = field(default=None, hash=False)
    closed: bool = False
    promoted: tuple[dict[str, Any], ...] = field(default=(), hash=False)
    collection: str = ""

    def __bool__(self) -> bool:
        """Return whether the call has taken the member out."""
        return self.outcome is LeaveOutcome.LEFT

    def require(self) -> LeaveResult:
        """Return the verdict itself if the call has taken the member out.

        Raises:
            NotHeld: If the member had no seat; the verdict is its `verdict`.
            DocumentNotFound: If there is no such document.
        """
        if self.outcome is LeaveOutcome.NOT_FOUND:
            raise DocumentNotFound(self.collection, self.key)
        if not self:
            raise NotHeld(f"the member has no seat in the set of {self.key!r}", key=self.key, verdict=self)
        return self


@dataclass(frozen=True)
class MemberResult(Verdict):
    """Tell what came of one `touch` or `update`. True when the member has a seat and the change is stored.

    Attributes:
        key: The document's key.
        id: The member's key.
        outcome: See `MemberOutcome`.
        member: The member's document after the call; None if there is none.
        collection: The collection's name.
    """

    key: Any
    id: Any
    outcome: MemberOutcome
    member: dict[str, Any] | None = field(default=None, hash=False)
    collection: str = ""

    def __bool__(self) -> bool:
        """Return whether the member has a seat."""
        return self.outcome is MemberOutcome.UPDATED

    def require(self) -> MemberResult:
        """Return the verdict itself if the member has a seat.

        Raises:
            NotHeld: If not; the verdict is its `verdict`.
            DocumentNotFound: If there is no such document.
        """
        if self.outcome is MemberOutcome.NOT_FOUND:
            raise DocumentNotFound(self.collection, self.key)
        if not self:
            raise NotHeld(f"{self.id!r} has no seat in the set of {self.key!r}", key=self.key, verdict=self)
        return self
