"""What defines slots, and what their callers are told. Pure."""

from __future__ import annotations

import datetime as dt
from dataclasses import KW_ONLY, dataclass, field, fields
from enum import Enum
from typing import Any, Final

from bson import ObjectId

from mongopatterns.errors import LimitExceeded, NotHeld, UsageError
from mongopatterns.indexes import Index
from mongopatterns.specs import check_collection
from mongopatterns.verdicts import Verdict, as_json

MOST_SLOTS: Final = 10_000
"""What a cap may be: a refusal counts the owner's slots, and takes longer the more there are."""

MARGIN: Final = 5 * 60 * 1000
"""How far before its release a free slot's `until` lies, in milliseconds: clocks that lie behind find it free, too."""

_LONGEST: Final = 366 * 86_400
_LONGEST_FORGET: Final = 2**31 - 1


# Defined -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SlotsSpec:
    """Define slots: each owner has so many, and each is held by one holder at a time.

    The collection is the pattern's own: one document per slot, made when it is first needed. A changed definition
    works on what is stored: a held slot keeps its time until it is renewed. With a lower cap, slots numbered at or
    above it are not given again and run out by themselves; until then an owner may hold more than the cap.

    Attributes:
        collection: The collection's name.
        cap: How many slots an owner has, from 1 to 10,000. A call may say otherwise.
        ttl: Seconds after which a slot is free again unless it is renewed, from 0.001 to 366 days; None: a slot is
            held until it is released, even if its holder has died.
        key_type: `ObjectId` to accept ids of owners as text.
        forget_after: Whole seconds after which the server deletes a slot that nobody uses, by the TTL index among
            `indexes()`: at least 300, because the clock of a new primary may lie behind. None never to delete.

    Raises:
        UsageError: On any value that cannot work, when the spec is made.
    """

    collection: str
    _: KW_ONLY
    cap: int
    ttl: float | None
    key_type: type[ObjectId] | None = None
    forget_after: int | None = 86_400

    def __post_init__(self) -> None:
        check_collection(self.collection)
        check_whole("cap", self.cap, 1, MOST_SLOTS)
        if self.ttl is not None:
            number = isinstance(self.ttl, (int, float)) and not isinstance(self.ttl, bool)
            if not number or not 0.001 <= self.ttl <= _LONGEST:  # noqa: PLR2004  # (the server's dates)
                raise UsageError("ttl", f"expected seconds from 0.001 to {_LONGEST}, or None, got {self.ttl!r}")
        if self.key_type not in (None, ObjectId):
            raise UsageError("key_type", f"expected None or bson.ObjectId, got {self.key_type!r}")
        if self.forget_after is not None:
            check_whole("forget_after", self.forget_after, MARGIN // 1000, _LONGEST_FORGET)

    def indexes(self) -> tuple[Index, ...]:
        """Return the indexes that must exist.

        The first keeps the cap; by the second a free slot is found, and the slots of an owner are counted; by the
        third the server deletes slots that nobody uses.
        """
        needed = (Index("owner", "slot", unique=True), Index("owner", "until", "slot"))
        return needed if self.forget_after is None else (*needed, Index.ttl("until", after=self.forget_after))


# Told --------------------------------------------------------------------------------------------------------


class SlotOutcome(str, Enum):
    """What came of a call on a slot."""

    ACQUIRED = "acquired"
    """A slot is held now."""
    FULL = "full"
    """At one instant during the call, all slots of the owner were held. Nothing was taken."""
    RENEWED = "renewed"
    """The slot was held, and is held for another `ttl` from now."""
    RELEASED = "released"
    """The slot was held, and is free."""
    LOST = "lost"
    """The slot is not held by this token: it was released, or its time was over. Nothing was changed."""


@dataclass(frozen=True)
class Slot(Verdict):
    """Tell what came of `acquire`, `renew` or `release`. True when that was done.

    Attributes:
        outcome: See `SlotOutcome`.
        owner: The owner, as it is stored.
        slot: The slot's number, from 0; None where none was free.
        token: What `renew` and `release` take, in this process or another; None if nothing is held.
        since: When the slot was acquired, in UTC; None if nothing is held.
        expires_at: When the slot is free again by itself, in UTC; None if nothing is held, or it never is.
        cap: How many slots the owner has, by what `acquire` was told; None from the other calls.
    """

    outcome: SlotOutcome
    owner: Any
    slot: int | None = None
    token: str | None = None
    since: dt.datetime | None = None
    expires_at: dt.datetime | None = None
    cap: int | None = None

    def __bool__(self) -> bool:
        """Return whether the call did what it was for."""
        return self.outcome not in (SlotOutcome.FULL, SlotOutcome.LOST)

    def require(self) -> Slot:
        """Return the verdict itself if the call did what it was for.

        Raises:
            LimitExceeded: If all slots were held; the verdict is its `decision`.
            NotHeld: If the slot was not held by this token; the verdict is its `verdict`.
        """
        if self.outcome is SlotOutcome.FULL:
            raise LimitExceeded(f"all {self.cap} slots of {self.owner!r} are held", key=self.owner, decision=self)
        if self.outcome is SlotOutcome.LOST:
            problem = f"slot {self.slot} of {self.owner!r} is not held by this token: it was released, or has expired"
            raise NotHeld(problem, key=self.owner, verdict=self)
        return self


@dataclass(frozen=True)
class HeldSlot:
    """Tell of a slot that is held.

    Attributes:
        slot: The slot's number, from 0.
        token: What `renew` and `release` take: whoever lists the holders may release one of them.
        since: When it was acquired, in UTC.
        expires_at: When it is free again by itself, in UTC; None if it never is.
        data: What its holder said about itself.
    """

    slot: int
    token: str
    since: dt.datetime
    expires_at: dt.datetime | None
    data: dict[str, Any] = field(hash=False)

    def to_dict(self) -> dict[str, Any]:
        """Return what `json.dumps` takes: ISO 8601 text, ids as text."""
        return {part.name: as_json(getattr(self, part.name)) for part in fields(self)}


def check_whole(argument: str, value: Any, least: int, most: int) -> int:
    """Return a whole number within its bounds."""
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise UsageError(argument, f"expected a whole number from {least} to {most}, got {value!r}")
    return value
