"""What the plans of this folder share: the terms of a command, and a state that is decided in one write. Pure.

A quota and a rate limiter keep a small state under a path of a document, and rewrite it in one pipeline. The
pipelines of a spec are constant, built and encoded once: the values of a call travel as the command's own
variables (`let`). The reply is projected to the state and the numbers that it was decided from. What was granted
is read from the stored token and never from the projection: when the driver repeats a write whose answer was
lost, the server answers with the stored document as it is.
"""

from __future__ import annotations

import datetime as dt
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, lru_cache
from typing import Any, Final, Generic, NamedTuple, TypeVar

from bson import Decimal128, ObjectId, encode
from bson.codec_options import CodecOptions
from bson.raw_bson import RawBSONDocument

from mongopatterns.amounts import Amount, Number, add, amount_value, multiply, plain, plain_number
from mongopatterns.commands import REPLY, Aggregate, FindOneAndUpdate, created, holders_of, lane_of
from mongopatterns.errors import DocumentNotFound, StateError, UsageError
from mongopatterns.expressions import (
    ANY_UUID,
    at_path,
    aware,
    check_time,
    key_filter,
    key_value,
    literal,
)
from mongopatterns.specs import KeyedSpec

S = TypeVar("S", bound=KeyedSpec)

_LONGEST_ID: Final = 200
_MOST_CROWDED: Final = 1000

MAX_STORED: Final = 2**62
"""What a stored count may hold: one more amount on top is still an integer of 64 bits."""


# Calls -------------------------------------------------------------------------------------------------------


class Ask(NamedTuple):
    """One caller's call, checked: what is asked of which key.

    Attributes:
        call: Its name.
        key: The key as it is stored.
        amount: How much.
        more: What else is counted, in the order of the spec's meters.
    """

    call: str
    key: Any
    amount: int | Decimal128
    more: tuple[int | Decimal128, ...] = ()


class Asks:
    """Check what callers ask for; of plain calls, what was asked for lately is known.

    Callers of a hot key ask for the same again and again, and checking it takes as long as all else that a call which
    shares a round trip costs this process.

    Args:
        check: Checks a call: `check(call, key, amount)`.
    """

    def __init__(self, check: Callable[[str, Any, Any], Ask]) -> None:
        self._check = check
        self._known = lru_cache(maxsize=1024)(check)

    def __call__(self, call: str, key: Any, amount: Any) -> Ask:
        """Return the checked call.

        Raises:
            UsageError: As the check does.
        """
        # (no other types: what Python finds equal would be taken for the same, and True is 1)
        if type(key) is str and type(amount) is int:
            return self._known(call, key, amount)
        return self._check(call, key, amount)


def meter_values(names: Sequence[str], given: Mapping[str, Amount] | None) -> tuple[int | Decimal128, ...]:
    """Return what a call adds to each of the spec's meters, in their order: 0 to those that it does not name.

    Raises:
        UsageError: If it names another one, or a bad amount.
    """
    amounts = {} if given is None else given
    if not isinstance(amounts, Mapping):
        raise UsageError("meters", f"expected a dict of amounts, got {given!r}")
    if unknown := [name for name in amounts if name not in names]:
        raise UsageError("meters", f"{unknown[0]!r} is none of the spec's meters {list(names)}")
    return tuple(amount_value(f"meters.{name}", amounts.get(name, 0), zero=True) for name in names)


def once_id(once: object) -> str | None:
    """Return the id under which a call is counted once, if it has one.

    Raises:
        UsageError: If it is no text of 1 to 200 characters.
    """
    if once is None:
        return None
    if not isinstance(once, str) or not 0 < len(once) <= _LONGEST_ID or not once.isprintable():
        raise UsageError("once", f"expected an id of 1 to {_LONGEST_ID} printable characters, got {once!r:.100}")
    return once


# A state that is decided in one write ------------------------------------------------------------------------


class Told(NamedTuple):
    """What a reply tells.

    Attributes:
        now: The server's time of it.
        state: What stands at the path; None if nothing.
        reply: The reply itself.
        granted: Whether the state carries the token of the call.
    """

    now: dt.datetime
    state: Any
    reply: Mapping[str, Any]
    granted: bool


class StatePlan(ABC, Generic[S]):
    """Build the frame of a pipeline that decides on a state, and read the frame of its reply."""

    kind: str
    """What the pattern is called in comments and messages."""

    def __init__(self, spec: S, collection: str, codec_options: CodecOptions[Any] = ANY_UUID) -> None:
        self.spec: S = spec
        self.collection = collection
        self._codec_options = codec_options
        self._projection = self.encoded(self.reply())
        self._crowded: set[Any] = set()

    def encoded(self, document: dict[str, Any]) -> RawBSONDocument:
        """Encode what never changes."""
        return RawBSONDocument(encode(document, codec_options=self._codec_options))

    def lane(self, key: Any) -> Any:
        """Return what is equal for two checked keys exactly when they are one key to the server."""
        return lane_of(key, self._codec_options)

    def key(self, key: object) -> Any:
        """Check a key, and return it as it is stored."""
        return key_value("key", key, self.spec.key_type)

    def guarded(
        self,
        call: str,
        key: Any,
        update: Sequence[RawBSONDocument],
        let: dict[str, Any],
        *,
        now: dt.datetime | None,
        upsert: bool,
    ) -> FindOneAndUpdate:
        """Build one guarded write on the document of a checked key."""
        return FindOneAndUpdate(
            filter=key_filter(self.spec.key_field, key),
            update=update,
            projection=self._projection,
            upsert=upsert and self.spec.create is not None,
            comment=f"mongopatterns.{self.kind}.{call}",
            let={"now": "$$NOW" if now is None else check_time("now", now), **let},
        )

    def reset(self, key: object) -> tuple[dict[str, Any], dict[str, Any]]:
        """Build the filter and the update that forget the state."""
        return key_filter(self.spec.key_field, self.key(key)), {"$unset": {self.spec.path: ""}}

    # Groups ....................................................................................................

    def whole(self, grouped: Sequence[tuple[Ask, int]], most: Number | float) -> int | Decimal128 | None:
        """Return the sum of what a group asks for, if it is decided on as if it were one call.

        If there is room for all of it, each of its calls fits, in whatever order: that takes the server half of what
        it takes to go through the runs one by one. If there is not, nothing is written, and the group is sent once
        more to be gone through. So that this happens once and not always, the keys that met it are remembered.

        Args:
            grouped: The group's runs.
            most: What the sum must not exceed.

        Returns:
            None if the group is to be gone through at once.
        """
        if self.lane(grouped[0][0].key) in self._crowded:
            return None
        total = add(*(multiply(plain(ask.amount), number) for ask, number in grouped))
        return amount_value("amount", total) if total <= most else None

    def crowd(self, key: Any) -> None:
        """Remember that a group on this key did not fit as a whole."""
        if len(self._crowded) >= _MOST_CROWDED:
            self._crowded.clear()  # (whoever is forgotten costs one more round trip)
        self._crowded.add(self.lane(key))

    def uncrowd(self, key: Any) -> None:
        """Remember that the last group on this key fitted as a whole."""
        if self._crowded:
            self._crowded.discard(self.lane(key))

    def took(self, token: ObjectId, reply: Mapping[str, Any] | None) -> bool:
        """Tell whether the reply to a group that was decided on as one call settles it.

        It does not if the server has written nothing for want of room, or because something is wrong with the state:
        going through the runs tells. (Of a document as it is stored, see `read_reply`; nor is there anything to go
        through where no document is, and none may be made.)
        """
        if reply is None:
            return self.spec.create is None
        if "_id" in reply:
            return True
        state = reply[REPLY].get("state")
        return isinstance(state, dict) and state.get("by") == token

    # The frame of a pipeline ...................................................................................

    @property
    def doc(self) -> str:
        """Name the document of the call."""
        return "$$doc" if self.spec.create else "$$ROOT"

    @cached_property
    def holders(self) -> list[str]:
        """The paths of the documents that the state's path leads through."""
        return holders_of(self.spec.path)

    @property
    def held_in_documents(self) -> list[dict[str, Any]]:
        """List the checks that the state, and all that its path leads through, are documents or not there."""
        places = (*(f"{self.doc}.{holder}" for holder in self.holders), "$$state")
        return [{"$in": [{"$type": place}, literal(["missing", "null", "object"])]} for place in places]

    def with_doc(self, inner: dict[str, Any]) -> dict[str, Any]:
        """Bind `$$doc` if the spec has `create`: a document without any field of its own gets those."""
        return {"$let": {"vars": {"doc": created(self.spec)}, "in": inner}} if self.spec.create else inner

    @abstractmethod
    def told_fields(self) -> dict[str, Any]:
        """List what a reply tells besides the time, the state and its holders."""

    def reply(self, **more: Any) -> dict[str, Any]:
        """Build the projection of a reply: the state and the numbers it was decided from, and nothing else."""
        told: dict[str, Any] = {"now": "$$now", "state": f"{self.doc}.{self.spec.path}", **more, **self.told_fields()}
        if self.holders:
            told["parents"] = [{"$type": f"{self.doc}.{holder}"} for holder in self.holders]
        return {"_id": 0, REPLY: self.with_doc(told)}

    def look(self, call: str, query: dict[str, Any], now: dt.datetime | None, **more: Any) -> Aggregate:
        """Build the read of the states of all documents that match `query`, dated by the server.

        It answers with one document, `{now, **more, found: [...]}`, even where nothing matches: `$facet` does
        that, so that a key without a document costs no second command.
        """
        key = {} if self.spec.key_field == "_id" else {"_id": 0}
        projection = {**key, self.spec.key_field: 1, REPLY: self.reply()[REPLY]}
        unneeded = [f"{REPLY}.state.{name}" for name in ("once", "note")]
        pipeline: list[dict[str, Any]] = [
            {"$match": query},
            {"$facet": {"found": [{"$project": projection}, {"$unset": unneeded}]}},
            {"$project": {"found": 1, "now": "$$now", **more}},
        ]
        time = "$$NOW" if now is None else check_time("now", now)
        return Aggregate(pipeline, {"now": time}, f"mongopatterns.{self.kind}.{call}")

    # The frame of a reply ......................................................................................

    def answer(
        self, replies: Sequence[Mapping[str, Any]], now: dt.datetime | None, clock: dt.datetime
    ) -> Mapping[str, Any]:
        """Return the one document that a look is answered with.

        Of a database that is not there yet, a `mongos` asks no server, and answers with none: nothing was found then,
        by this process's time.
        """
        time = clock if now is None else check_time("now", now)
        return next(iter(replies), {"found": [], "now": time, "ends": {}})

    def read_reply(
        self, key: Any, token: ObjectId, reply: Mapping[str, Any] | None, now: dt.datetime | None, clock: dt.datetime
    ) -> Told:
        """Read a reply, projected or as the document is stored.

        Args:
            key: The key that was asked for.
            token: The token of the call.
            reply: The document after the write; None if none matched.
            now: The time that the caller gave.
            clock: This process's time: it dates the answer about a key that has no document, and decides nothing.

        Raises:
            DocumentNotFound: If there is no document and the spec says `create=None`.
            StateError: If what holds the state is no document.
        """
        if reply is None:
            if self.spec.create is None:
                raise DocumentNotFound(self.collection, key)
            return Told(now or clock, None, self.fresh(), granted=False)
        if "_id" in reply:
            # The driver repeated a write that had been applied: this is the document as it was stored then, and
            # not a projected reply, which has no _id.
            told = {**self.told_by(reply), "state": at_path(reply, self.spec.path)}
            told["now"] = told["state"]["at"]
        else:
            told = reply[REPLY]
        state = self.checked_state(key, told)
        return Told(told["now"], state, told, granted=isinstance(state, dict) and state.get("by") == token)

    def checked_state(self, key: Any, told: Mapping[str, Any]) -> Any:
        """Return the state of a projected reply, if it and all that holds it are documents or not there.

        Raises:
            StateError: If one of them is something else.
        """
        for parent, kind in zip(self.holders, told.get("parents", ()), strict=False):
            if kind not in ("missing", "null", "object"):
                raise StateError(self.collection, key, parent, f"expected a document, found a value of type {kind}")
        state = told.get("state")  # left out of the reply where there is none
        if state is not None and not isinstance(state, dict):
            problem = f"expected the state of a {self.kind.replace('_', ' ')}, found {state!r:.100}"
            raise StateError(self.collection, key, self.spec.path, problem)
        return state

    def in_hand(self, document: object) -> tuple[Mapping[str, Any], Any, Mapping[str, Any] | None]:
        """Return a document that a caller has, its dates with their zone; its key; and the state in it.

        Raises:
            UsageError: If it is no document.
            StateError: If the state, or what holds it, is no document.
        """
        if not isinstance(document, Mapping):
            raise UsageError("document", f"expected a document, got {document!r:.100}")
        known: Mapping[str, Any] = aware(document)
        key = at_path(known, self.spec.key_field)
        for holder in self.holders:
            if not isinstance(held := at_path(known, holder), (Mapping, type(None))):
                raise StateError(self.collection, key, holder, f"expected a document, found {held!r:.100}")
        return known, key, self.checked_state(key, {"state": at_path(known, self.spec.path)})

    def fresh(self) -> Mapping[str, Any]:
        """Return what a reply about a document that is still to be made would tell."""
        return {} if self.spec.create is None else self.told_by(self.spec.create)

    def told_by(self, document: Mapping[str, Any]) -> dict[str, Any]:  # noqa: ARG002  # for those that override it
        """Read from a whole document what `told_fields` asks of a projected one."""
        return {}


def how_many(free: Any, each: Any) -> dict[str, Any]:
    """Build how many of `each` there is room for in `free`, at most `$$this.c`."""
    # In decimals: a quotient of integers would be a double. Should its 34 digits have been rounded up, the
    # multiplication tells.
    fitting = {"$floor": {"$divide": [{"$toDecimal": "$$free"}, "$$each"]}}
    most = {"$toInt": {"$max": [0, {"$min": ["$$this.c", fitting]}]}}
    too_many = {"$gt": [{"$multiply": ["$$most", "$$each"]}, "$$free"]}
    exact: dict[str, Any] = {
        "$cond": [{"$and": [too_many, {"$gt": ["$$most", 0]}]}, {"$subtract": ["$$most", 1]}, "$$most"]
    }
    exact = {"$let": {"vars": {"most": most}, "in": exact}}
    return {"$let": {"vars": {"free": free, "each": each}, "in": exact}}


def absent(value: str) -> dict[str, Any]:
    """Build the test whether there is nothing: only missing values and MinKey sort before null."""
    return {"$lte": [value, None]}


def in_range(numbers: list[Any], most: int) -> list[dict[str, Any]]:
    """Build the checks that nothing sorts before 0 (as NaN does) or after `most` (as text and dates do).

    null and missing may.
    """
    return [{"$gte": [{"$min": numbers}, 0]}, {"$lte": [{"$max": numbers}, most]}]


def no_doubles(counts: list[Any]) -> dict[str, Any]:
    """Build the check that no count is a double, which other code may have stored: it would make every sum one."""
    return {"$not": [{"$in": ["double", [{"$type": count} for count in counts]]}]}


def count(stored: object, most: int) -> Number | None:
    """Read a stored count in memory as `in_range` and `no_doubles` do; None if they would refuse it."""
    number = None if isinstance(stored, float) else plain_number(stored)
    return None if number is None or not 0 <= number <= most else number
