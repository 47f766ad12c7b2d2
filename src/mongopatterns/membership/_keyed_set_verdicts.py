"""What callers of a keyed set are told: frozen verdicts. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any

from mongopatterns.errors import DocumentNotFound, LimitExceeded
from mongopatterns.verdicts import Verdict


class KeyedSetOutcome(str, Enum):
    """What came of `add`, `remove` or `toggle`."""

    ADDED = "added"
    """The member was not in the set, and is now."""
    ALREADY = "already"
    """The member was in the set before. Nothing was written."""
    REMOVED = "removed"
    """The member was in the set, and is not any more."""
    ABSENT = "absent"
    """The member was not in the set (and with `create=`, maybe there is no document yet). Nothing was written."""
    FULL = "full"
    """The name has `max_members` members, and this is none of them. Nothing was written."""
    TOO_MANY_KEYS = "too_many_keys"
    """The name is not in use, and `max_keys` others are. Nothing was written."""
    NOT_FOUND = "not_found"
    """There is no such document, and the spec does not make one."""


PRESENT = (KeyedSetOutcome.ADDED, KeyedSetOutcome.ALREADY)
"""The outcomes after which the member is in the set."""
_HOLDS = (*PRESENT, KeyedSetOutcome.REMOVED, KeyedSetOutcome.ABSENT)


@dataclass(frozen=True)
class KeyedSetResult(Verdict):
    """Tell what came of `add`, `remove` or `toggle`. True when what was asked for holds now.

    That is: after `add`, the member is in the set; after `remove`, it is not; after `toggle`, it has changed sides.
    Whether this call was the one that changed anything is told by the `outcome`. Without a document nothing holds.

    Attributes:
        key: The document's key.
        outcome: See `KeyedSetOutcome`.
        name: The name of the set.
        present: Whether the member is in the set under that name now.
        size: How many members are stored under the name after the call (one that somebody has stored twice
            counts twice).
        keys: How many names are in use after the call: those that have a member.
        collection: The collection's name.
    """

    key: Any
    outcome: KeyedSetOutcome
    name: str
    present: bool
    size: int
    keys: int
    collection: str = ""

    def __bool__(self) -> bool:
        """Return whether what was asked for holds now."""
        return self.outcome in _HOLDS

    def require(self) -> KeyedSetResult:
        """Return the verdict itself if what was asked for holds now.

        Raises:
            LimitExceeded: If the name has all the members that it may have, or the document all the names; the
                verdict is its `decision`.
            DocumentNotFound: If there is no such document, and the spec does not make one.
        """
        if self:
            return self
        if self.outcome is KeyedSetOutcome.NOT_FOUND:
            raise DocumentNotFound(self.collection, self.key)
        problem = f"{self.name!r} of {self.key!r} has all the members that it may have: {self.size}"
        if self.outcome is KeyedSetOutcome.TOO_MANY_KEYS:
            problem = f"{self.name!r} would be one name too many for {self.key!r}: {self.keys} are in use"
        raise LimitExceeded(problem, key=self.key, decision=self)


@dataclass(frozen=True)
class AddManyResult(Verdict):
    """Tell what came of one `add_many`. True when this call has added the member under every key.

    The server tells two numbers about all the documents together, and not what came of each: a false verdict does not
    say that anything was refused. After a repeat, for one, nothing is added.

    Attributes:
        matched: How many of the keys have a document.
        added: To how many of them the member was added by this call.
        missing: How many keys have no document.
    """

    matched: int
    added: int
    missing: int

    @property
    def unchanged(self) -> int:
        """How many documents stayed as they were: the member was in the set already, or was not admitted."""
        return self.matched - self.added

    def __bool__(self) -> bool:
        """Return whether this call has added the member under every key."""
        return not self.missing and self.added == self.matched
