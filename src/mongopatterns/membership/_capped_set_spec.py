"""What users of a capped set write down: its definition. Pure."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import Any, Final, Literal

from mongopatterns.amounts import plain_number
from mongopatterns.errors import UsageError
from mongopatterns.expressions import Field, at_path, aware, bson_identity, check_document, check_path, check_time
from mongopatterns.specs import KeyedSpec, overlap

MAX_CAP: Final = 2**31 - 1  # what the server slices an array by
_LONGEST_TTL: Final = 366 * 86_400.0


@dataclass(frozen=True, slots=True)
class Leader:
    """Have one of the members lead: the document says which one.

    The first who joins leads. When the leader leaves or has expired, the same write makes the next one leader.

    Attributes:
        path: The dotted path, beside the set, that holds the leader's member key; null where nobody leads.
        sort: Who is next: `[(field, 1 or -1)]` on fields of the members, compared as the server compares them.
            By default it is who stands first in the array: who has been there longest.
    """

    path: str
    sort: Sequence[tuple[str, Literal[1, -1]]] = ()

    def __post_init__(self) -> None:
        check_path("Leader.path", self.path)
        pairs = []
        if isinstance(self.sort, (str, Mapping)) or not isinstance(self.sort, Sequence):
            raise UsageError("Leader.sort", f"expected a list of pairs like ('joined_at', 1), got {self.sort!r}")
        for pair in self.sort:
            if not isinstance(pair, (tuple, list)) or [repr(part) for part in pair[1:]] not in (["1"], ["-1"]):
                raise UsageError("Leader.sort", f"expected pairs like ('joined_at', 1), got {pair!r}")
            pairs.append((check_path("Leader.sort", pair[0]), pair[1]))
        object.__setattr__(self, "sort", tuple(pairs))


@dataclass(frozen=True, slots=True)
class Close:
    """Say what closes a set: what is written when its last member leaves, in the same write.

    Attributes:
        set: Values by dotted path.
        set_now: Dotted paths that get the server's time.
    """

    set: Mapping[str, Any] = field(default_factory=dict, hash=False)
    set_now: Sequence[str] = ()

    def __post_init__(self) -> None:
        if not isinstance(self.set, Mapping):
            raise UsageError("Close.set", f"expected values by path, got {self.set!r}")
        if isinstance(self.set_now, str) or not isinstance(self.set_now, Sequence):
            raise UsageError("Close.set_now", f"expected a list of paths, got {self.set_now!r}")
        for path in (*self.set, *self.set_now):
            check_path("Close", path)
        object.__setattr__(self, "set", {path: _stored("Close.set", value) for path, value in self.set.items()})
        object.__setattr__(self, "set_now", tuple(self.set_now))


@dataclass(frozen=True, slots=True)
class Waiting:
    """Have those wait in line who find the set full: whoever is first takes the next free seat, in the same write.

    Attributes:
        path: The dotted path, beside the set, of the array of those who wait.
        cap: How many may wait; None for any number.
    """

    path: str
    cap: int | None = None

    def __post_init__(self) -> None:
        check_path("Waiting.path", self.path)
        if self.cap is not None:
            _check_cap("Waiting.cap", self.cap)


@dataclass(frozen=True)
class CappedSetSpec(KeyedSpec):
    """Define a set of members with a cap: an array of member documents inside your own document.

    Attributes:
        collection: The collection's name.
        path: The dotted path of the array. Missing and null are an empty one.
        member_key: The field of a member document that tells members apart. A set has each of them once.
        cap: How many seats there are: a whole number, or a `Field` of the same document.
        key_field: The field that finds the document; it must be `_id` or uniquely indexed.
        key_type: `ObjectId` to accept ids as text.
        open_if: What the document must say for anybody to join: values by dotted path, compared by plain equality.
            `None` stands for null or missing.
        member_ttl: Seconds after which a member who was not touched loses the seat, on the server's clock.
        ttl_field: The field of a member document that holds that time.
        on_rejoin: What becomes of the fields of a member who joins again: `"keep"` leaves them as they are,
            `"merge"` puts the new ones over them. Both renew the time of expiry.
        leader: Whether and how one of them leads.
        close: What is written when the last one leaves.
        waiting: Whether those who find the set full wait in line.
        create: Further fields of a document that the first join makes; None never to make one.

    Raises:
        UsageError: On any value that cannot work, when the spec is made.
    """

    _: KW_ONLY
    member_key: str
    cap: int | Field
    open_if: Mapping[str, Any] | None = field(default_factory=dict, hash=False)
    member_ttl: float | None = None
    ttl_field: str = "expires_at"
    on_rejoin: Literal["keep", "merge"] = "keep"
    leader: Leader | None = None
    close: Close | None = None
    waiting: Waiting | None = None
    create: Mapping[str, Any] | None = field(default=None, hash=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_name("member_key", self.member_key)
        _check_name("ttl_field", self.ttl_field)
        if self.ttl_field == self.member_key:
            raise UsageError("ttl_field", f"{self.ttl_field!r} is the member key")
        if not isinstance(self.cap, Field):
            _check_cap("cap", self.cap)
        elif self.cap.default is not None:
            _check_cap("cap", self.cap.default)
        ttl = self.member_ttl
        if ttl is not None and (
            isinstance(ttl, bool) or not isinstance(ttl, (int, float)) or not 0.001 <= ttl <= _LONGEST_TTL  # noqa: PLR2004
        ):
            raise UsageError("member_ttl", f"expected seconds, from 0.001 to {_LONGEST_TTL:.0f}, got {ttl!r}")
        if self.on_rejoin not in ("keep", "merge"):
            raise UsageError("on_rejoin", f"expected 'keep' or 'merge', got {self.on_rejoin!r}")
        object.__setattr__(self, "open_if", _conditions(self.open_if))
        self._check_parts()
        self._check_places()
        if self.create is not None:
            self._check_fresh(self.create)

    def _check_parts(self) -> None:
        for name, kind in (("leader", Leader), ("close", Close), ("waiting", Waiting)):
            part = getattr(self, name)
            if part is not None and not isinstance(part, kind):
                raise UsageError(name, f"expected a {kind.__name__} or None, got {part!r}")
        if self.close is not None and not self.closes:
            raise UsageError("close", "it must change something that open_if asks for: the set would stay open")

    def _check_places(self) -> None:
        """Refuse two things in one place."""
        taken = {"_id": "the id", self.key_field: "the key", self.path: "the set"}
        written = [("leader", self.leader.path)] if self.leader else []
        written += [("waiting", self.waiting.path)] if self.waiting else []
        written += [("close", path) for path in (*self.close.set, *self.close.set_now)] if self.close else []
        for argument, path in written:
            for other, what in taken.items():
                if overlap(path, other):
                    raise UsageError(argument, f"{path!r} overlaps {what} at {other!r}: give it a place of its own")
            taken[path] = f"{argument}="
        self._check_read([path for argument, path in written if argument != "close"])
        for argument, path in written:
            if isinstance(self.cap, Field) and overlap(path, self.cap.path):
                raise UsageError(
                    argument, f"{path!r} overlaps the cap at {self.cap.path!r}: give it a place of its own"
                )

    def _check_read(self, written: Sequence[str]) -> None:
        """Refuse to read what the calls write: a set would close by being joined."""
        for path in self._conditions:
            for other in ("_id", self.key_field, *written):
                if overlap(path, other):
                    raise UsageError("open_if", f"{path!r} overlaps {other!r}, which says nothing about being open")
            if any(overlap(path, other) and path != other for other in self._conditions):
                raise UsageError("open_if", f"{path!r} overlaps another condition")
        read = [("cap", self.cap.path)] if isinstance(self.cap, Field) else []
        for argument, path in (*read, *(("open_if", path) for path in self._conditions)):
            if overlap(path, self.path):
                raise UsageError(argument, f"{path!r} overlaps the set at {self.path!r}")

    @property
    def _conditions(self) -> Mapping[str, Any]:
        return self.open_if or {}

    @property
    def closes(self) -> bool:
        """Whether what is written when the last member leaves keeps others from joining."""
        if self.close is None:
            return False
        if any(path in self._conditions for path in self.close.set_now):
            return True
        return any(
            path in self._conditions and bson_identity(value) != bson_identity(self._conditions[path])
            for path, value in self.close.set.items()
        )

    def _check_fresh(self, create: Mapping[str, Any]) -> None:
        """Refuse `create` if nobody could join the document that it makes."""
        for part in (self.leader, self.waiting):
            if part is not None:
                self._check_created(create, part.path)
                if at_path(create, part.path) is not None:
                    raise UsageError("create", f"{part.path!r} is written by the calls: leave it out")
        closing = (*self.close.set, *self.close.set_now) if self.close else ()
        read = [self.cap.path] if isinstance(self.cap, Field) else []
        for path in (*self._conditions, *closing, *read):
            self._check_created(create, path)
        for path, value in self._conditions.items():
            if bson_identity(at_path(create, path)) != bson_identity(value):
                raise UsageError("create", f"makes a set that is closed: {path!r} must be {value!r}")
        if self.fresh_cap is None:
            raise UsageError("create", f"the cap is missing: give {self.cap!r} a default, or set it here")
        _check_cap("create", self.fresh_cap)

    @property
    def fresh_cap(self) -> int | None:
        """The cap of a document that a join would make."""
        if not isinstance(self.cap, Field):
            return self.cap
        found = at_path(self.create, self.cap.path)
        if found is None:
            found = self.cap.default
        number = plain_number(found)
        return number if number is None else int(number)

    def read(self, document: Mapping[str, Any], *, now: dt.datetime | None = None) -> list[dict[str, Any]]:
        """Read the members from a document in hand, such as one of a change stream.

        Args:
            document: A whole document, or one with at least `path`.
            now: Those who had expired by this time are left out; None leaves nobody out.

        Returns:
            The member documents, in the order of the array.

        Raises:
            UsageError: If it is no document, what stands at `path` is no array, or `now` is no aware datetime.
        """
        if not isinstance(document, Mapping):
            raise UsageError("document", f"expected a document, got {document!r:.100}")
        members = at_path(document, self.path)
        if members is None:
            return []
        if not isinstance(members, list):
            raise UsageError("document", f"expected an array at {self.path!r}, found {members!r:.100}")
        found = [dict(member) for member in aware(members) if isinstance(member, Mapping)]
        if now is not None:
            now = check_time("now", now)
        if self.member_ttl is None or now is None:
            return found
        return [member for member in found if not _expired(member.get(self.ttl_field), now)]


def _expired(until: object, now: dt.datetime) -> bool:
    return isinstance(until, dt.datetime) and until <= now


def _conditions(given: object) -> dict[str, Any]:
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise UsageError("open_if", f"expected values by path, such as {{'ended_at': None}}, got {given!r}")
    for path, value in given.items():
        check_path("open_if", path)
        if isinstance(value, Mapping) and any(str(name).startswith("$") for name in value):
            raise UsageError("open_if", f"{value!r} is no plain value: operators are not understood here")
        if isinstance(value, dt.datetime):
            check_time("open_if", value)
    return {path: _stored("open_if", value) for path, value in given.items()}


def _stored(argument: str, value: object) -> Any:
    """Return a value that can be stored."""
    return check_document(argument, {"value": value})["value"]


def _check_cap(argument: str, cap: object) -> None:
    if isinstance(cap, bool) or not isinstance(cap, int) or not 1 <= cap <= MAX_CAP:
        raise UsageError(argument, f"expected a whole number of seats, from 1 to {MAX_CAP}, got {cap!r}")


def _check_name(argument: str, name: object) -> None:
    check_path(argument, name)
    if "." in str(name):
        raise UsageError(argument, f"expected the name of one field of a member, got {name!r}")
