"""What a capped set sends, and what the answers mean. Pure: no client, no clock, no randomness."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NoReturn

from bson import DBRef, decode, encode
from bson.codec_options import CodecOptions
from bson.errors import InvalidDocument
from bson.raw_bson import RawBSONDocument

from mongopatterns.amounts import plain_number
from mongopatterns.commands import REPLY, Aggregate, FindOneAndUpdate
from mongopatterns.errors import DocumentNotFound, StateError, UsageError
from mongopatterns.expressions import ANY_UUID, Field, bson_identity, check_time, key_filter, key_value, literal, nested
from mongopatterns.membership._capped_set_again import AppliedPipeline, image_of
from mongopatterns.membership._capped_set_pipeline import CappedSetPipeline
from mongopatterns.membership._capped_set_spec import MAX_CAP, CappedSetSpec
from mongopatterns.membership._capped_set_verdicts import (
    JoinManyResult,
    JoinOutcome,
    JoinResult,
    LeaveOutcome,
    LeaveResult,
    MemberOutcome,
    MemberResult,
)
from mongopatterns.membership._commands import LARGEST_DOCUMENT, TellingPlan

_MOST_AT_ONCE = 1000
_INDEX_BYTES = 16  # a further element of an array: its number as text, its type, and rounding up


@dataclass(frozen=True, slots=True)
class Join:
    """One call to join, checked.

    Attributes:
        key: The document's key, as it is stored.
        members: Who wants to join.
        ids: Their keys.
        all_or_none: Whether either all of them join or none; None for a single one.
        document: Whether the whole document is asked for.
        now: The time that the caller gave.
        command: What is sent.
    """

    key: Any
    members: list[dict[str, Any]]
    ids: list[Any]
    all_or_none: bool | None
    document: bool
    now: dt.datetime | None
    command: FindOneAndUpdate


@dataclass(frozen=True, slots=True)
class Change:
    """One call about a single member, checked.

    Attributes:
        key: The document's key, as it is stored.
        id: The member's key.
        command: What is sent.
    """

    key: Any
    id: Any
    command: FindOneAndUpdate


class CappedSetPlan(TellingPlan[CappedSetSpec]):
    """Build the commands of a capped set and read their replies."""

    kind = "capped_set"

    def __init__(self, spec: CappedSetSpec, collection: str, codec_options: CodecOptions[Any] = ANY_UUID) -> None:
        super().__init__(spec, collection, codec_options)
        self._pipeline = CappedSetPipeline(self)
        self._built: dict[Any, tuple[list[RawBSONDocument], RawBSONDocument]] = {}

    # What is sent ..............................................................................................

    def join(
        self, key: object, member: Mapping[str, Any], *, document: bool = False, now: dt.datetime | None = None
    ) -> Join:
        """Build the one write that seats a member."""
        return self._join("join", key, [self._member("member", member)], document=document, now=now)

    def join_many(
        self,
        key: object,
        members: Iterable[Mapping[str, Any]],
        *,
        all_or_none: bool,
        now: dt.datetime | None = None,
    ) -> Join:
        """Build the one write that seats several members."""
        if not isinstance(all_or_none, bool):
            raise UsageError("all_or_none", f"expected True or False, got {all_or_none!r:.100}")
        if isinstance(members, (str, bytes, Mapping)) or not isinstance(members, Iterable):
            raise UsageError("members", f"expected a list of member documents, got {members!r:.100}")
        given = [self._member(f"members[{number}]", member) for number, member in enumerate(members)]
        if not 0 < len(given) <= _MOST_AT_ONCE:
            raise UsageError("members", f"expected 1 to {_MOST_AT_ONCE} members, got {len(given)}")
        known: set[Any] = set()
        for member in given:
            identity = bson_identity(member[self.spec.member_key], self._codec_options)
            if identity in known:
                raise UsageError("members", f"{member[self.spec.member_key]!r} is named twice")
            known.add(identity)
        return self._join("join_many", key, given, all_or_none=all_or_none, now=now)

    def _join(
        self,
        call: str,
        key: object,
        members: list[dict[str, Any]],
        *,
        all_or_none: bool | None = None,
        document: bool = False,
        now: dt.datetime | None,
    ) -> Join:
        spec = self.spec
        stored = self.key(key)
        ids = [member[spec.member_key] for member in members]
        let: dict[str, Any] = {"now": self._time(now), "new": literal(members), "id": literal(ids[0])}
        let["bytes"] = self._bytes(members)
        if let["bytes"] + self._size(nested(spec.key_field, stored)) > LARGEST_DOCUMENT:
            raise UsageError(call, "so many bytes of members fit into no document: the server stores at most 16 MB")
        if all_or_none is not None or not self._pipeline.plain:
            let["ids"] = literal(ids)
        update, projection = self._ends(("join", all_or_none), document=document)
        upsert = spec.create is not None and not (all_or_none and len(ids) > (spec.fresh_cap or 0))
        command = self.guarded(call, stored, update, projection, let, upsert=upsert)
        return Join(stored, members, ids, all_or_none, document, now, command)

    def leave(self, key: object, member: object, *, now: dt.datetime | None = None) -> Change:
        """Build the one write that takes a member out."""
        return self._change("leave", key, member, {}, now)

    def touch(self, key: object, member: object, *, now: dt.datetime | None = None) -> Change:
        """Build the one write that renews a member's time."""
        if self.spec.member_ttl is None:
            raise UsageError("touch", "the spec has no member_ttl: there is no time to renew")
        return self._change("touch", key, member, {"bytes": _INDEX_BYTES + len(self.spec.ttl_field.encode())}, now)

    def update_member(
        self, key: object, member: object, fields: Mapping[str, Any], *, now: dt.datetime | None = None
    ) -> Change:
        """Build the one write that merges fields into a member's document."""
        given = self._storable("fields", fields)
        for name in (self.spec.member_key, *self._ttl_field):
            if name in given:
                raise UsageError("fields", f"{name!r} is not for update to change")
        if not given:
            raise UsageError("fields", "expected at least one field to change")
        return self._change("update", key, member, {"fields": literal(given), "bytes": self._bytes([given])}, now)

    def _change(self, call: str, key: object, member: object, let: dict[str, Any], now: dt.datetime | None) -> Change:
        stored, identity = self.key(key), key_value("member", member)
        update, projection = self._ends((call,))
        let = {"now": self._time(now), "id": literal(identity), **let}
        return Change(stored, identity, self.guarded(call, stored, update, projection, let))

    def look(self, call: str, key: object, now: dt.datetime | None) -> Aggregate:
        """Build the read of the members, or of their number (`size`)."""
        if call == "waiting" and self.spec.waiting is None:
            raise UsageError("waiting", "the spec has no line of those who wait: give it waiting=Waiting(...)")
        stored = self.key(key)
        pipeline: list[Any] = [{"$match": key_filter(self.spec.key_field, stored)}, self._looks[call == "size"]]
        return Aggregate(pipeline, {"now": self._time(now)}, f"mongopatterns.{self.kind}.{call}")

    @cached_property
    def _looks(self) -> list[RawBSONDocument]:
        return [
            self.encoded({"$project": {"_id": 0, REPLY: told}})
            for told in (self._pipeline.look(), self._pipeline.count())
        ]

    def _ends(self, what: tuple[Any, ...], *, document: bool = False) -> tuple[list[RawBSONDocument], RawBSONDocument]:
        """Return the update and the projection of a call, built once."""
        built = self._built.get((what, document))
        if built is None:
            ends = self._pipeline.ends(what, document=document)
            # (the first of several threads is the one whose command all of them send: `again` knows it by that)
            built = self._built.setdefault((what, document), (self.update(ends.document), self.projection(ends.told)))
        return built

    def _time(self, now: dt.datetime | None) -> Any:
        return "$$NOW" if now is None else check_time("now", now)

    # What is asked .............................................................................................

    @property
    def _ttl_field(self) -> tuple[str, ...]:
        return () if self.spec.member_ttl is None else (self.spec.ttl_field,)

    def _member(self, argument: str, member: object) -> dict[str, Any]:
        given = self._storable(argument, member)
        name = self.spec.member_key
        if given.get(name) is None:
            raise UsageError(argument, f"has no {name!r}, which is the spec's member_key: {given!r:.100}")
        given[name] = key_value(f"{argument}.{name}", given[name])
        if any(name in given for name in self._ttl_field):
            raise UsageError(argument, f"{self.spec.ttl_field!r} is written by the calls: leave it out")
        return given

    def _storable(self, argument: str, fields: object) -> dict[str, Any]:
        """Return a copy of fields that can be stored as they are: dots and `$` in names are kept."""
        if not isinstance(fields, Mapping):
            raise UsageError(argument, f"expected a dict of fields, got {type(fields).__name__}")
        given = dict(fields)
        try:
            encode({"": given}, codec_options=self._codec_options)
        except (InvalidDocument, OverflowError, UnicodeError, ValueError, RecursionError) as error:
            raise UsageError(argument, f"cannot be stored: {error}") from None
        return given

    def _bytes(self, members: Sequence[Mapping[str, Any]]) -> int:
        """Return what a document grows by at most."""
        size = self._size({"members": members, "create": self.spec.create}) + self._around
        each = _INDEX_BYTES + (len(self.spec.ttl_field.encode()) if self.spec.member_ttl is not None else 0)
        if self.spec.leader:
            size += max(self._size({"": member.get(self.spec.member_key)}) for member in members)
        return size + each * len(members)

    @cached_property
    def _around(self) -> int:
        """What the paths that a call may write take, where nothing is stored yet."""
        written = (*self._pipeline.arrays, *self._pipeline.above("join"))
        return sum(self._size(nested(path, [])) for path in written)

    def _size(self, document: Mapping[str, Any]) -> int:
        return len(encode(document, codec_options=self._codec_options))

    # What came back ............................................................................................

    def again(self, command: FindOneAndUpdate, reply: Mapping[str, Any] | None) -> Aggregate | None:
        """Build the read that tells what was done, if the reply does not: of a document that was made, too."""
        made = reply is None and command.upsert
        if made:
            # Who of several has a seat depends on what the server finds equal, and who leads on its order.
            several = len((command.let or {})["new"]["$literal"]) > 1
            made = several or "document" in command.projection[REPLY]
        if not made and "_id" not in (reply or {}):  # (a projected reply has none)
            return None
        what, document = next(what for what, built in [*self._built.items()] if built[1] is command.projection)
        pipeline = AppliedPipeline(self)
        now = pipeline.when(what[0]) if (command.let or {})["now"] == "$$NOW" else "$$now"
        told = {"$let": {"vars": {"now": now}, "in": pipeline.ends(what, document=document).told}}
        image = image_of(self.spec, command, reply)
        return self.telling(command, image, [{"$project": self.projection(told)}], kept=self.spec.path)

    def joined(self, join: Join, reply: Mapping[str, Any] | None, *, clock: dt.datetime) -> JoinResult:
        """Tell what came of `join`.

        Args:
            join: The call.
            reply: The projected reply; None if there was no document.
            clock: This process's time: it dates the member of a document that the call made, and decides nothing.

        Raises:
            StateError: If the document does not hold what the spec describes.
        """
        told = self._told(join, reply, clock)
        return JoinResult(
            join.key,
            told.outcomes[0],
            told.size,
            told.cap,
            told.member,
            told.positions[0],
            told.leader,
            told.promoted,
            told.document,
            self.collection,
        )

    def joined_many(self, join: Join, reply: Mapping[str, Any] | None, *, clock: dt.datetime) -> JoinManyResult:
        """Tell what came of `join_many` (see `joined`)."""
        told = self._told(join, reply, clock)
        joined = tuple(
            one for one, outcome in zip(join.ids, told.outcomes, strict=True) if outcome is JoinOutcome.JOINED
        )
        return JoinManyResult(
            join.key, told.outcomes, joined, told.size, told.cap, told.leader, told.promoted, self.collection
        )

    def _told(self, join: Join, reply: Mapping[str, Any] | None, clock: dt.datetime) -> _Joined:
        if reply is None:
            return self._made(join, join.now or clock)
        plain = self._pipeline.plain and join.all_or_none is None
        above = self._pipeline.above("join")
        told = self._plain(join, reply) if plain else self._sound(join.key, reply, above=above, capped=True)
        positions = [place + 1 if place >= 0 else None for place in told.get("waiting", [-1] * len(join.ids))]
        if not told["fits"]:
            wanting = told["open"] and (self.spec.waiting or told["size"] < told["cap"])
            for known, position in zip(told["known"], positions, strict=True):
                if self._pipeline.renews if known else (wanting and position is None):
                    self._too_large(join.key)
        outcomes = []
        for known, joined, position in zip(told["known"], told["joined"], positions, strict=True):
            if known or joined:
                outcomes.append(JoinOutcome.ALREADY if known else JoinOutcome.JOINED)
            elif position is not None:
                outcomes.append(JoinOutcome.WAITING)
            else:
                outcomes.append(JoinOutcome.FULL if told["open"] else JoinOutcome.CLOSED)
        for number, first in enumerate(told.get("first", ())):
            if first < number:  # another one of them who is the same to the server
                one = outcomes[first]
                outcomes[number] = JoinOutcome.ALREADY if one is JoinOutcome.JOINED else one
        return _Joined(
            tuple(outcomes),
            positions,
            told["size"],
            int(plain_number(told["cap"]) or 0),
            _document(told.get("member")),
            told.get("leader"),
            _documents(told.get("promoted", ())),
            reply[REPLY].get("document"),
        )

    def _plain(self, join: Join, reply: Mapping[str, Any]) -> Mapping[str, Any]:
        """Read the short reply to one who joins a plain set, and decide from it what the server has decided."""
        told: dict[str, Any] = {**self._sound(join.key, reply), "cap": reply[REPLY].get("cap")}
        cap = plain_number(told["cap"])
        if cap is None or not 0 <= cap <= MAX_CAP:
            self._no_cap(join.key, told["cap"])
        known = told.get("member") is not None
        joined = bool(told["open"] and told["fits"] and not known and told["size"] + 1 <= cap)
        if joined:
            told["member"] = self._as_stored(join.members[0])
        return {**told, "known": [known], "joined": [joined], "size": told["size"] + joined}

    def _made(self, join: Join, time: dt.datetime) -> _Joined:
        """Tell what came of a call that met no document: it made one if the spec says so."""
        spec, number = self.spec, len(join.ids)
        if not join.command.upsert:
            outcome = JoinOutcome.NOT_FOUND if spec.create is None else JoinOutcome.FULL
            return _Joined((outcome,) * number, [None] * number, 0, None if spec.create is None else spec.fresh_cap)
        (member,) = join.members  # (of several the server tells)
        if spec.member_ttl is not None:
            member = {**member, spec.ttl_field: time + dt.timedelta(milliseconds=round(spec.member_ttl * 1000))}
        leader = self._as_stored({"": join.ids[0]})[""] if spec.leader else None
        return _Joined((JoinOutcome.JOINED,), [None], 1, spec.fresh_cap, self._as_stored(member), leader)

    def _as_stored(self, document: Mapping[str, Any]) -> dict[str, Any]:
        """Return a document as it would be read: with the server's milliseconds, and lists for tuples."""
        return decode(encode(document, codec_options=self._codec_options), codec_options=self._codec_options)

    def left(self, change: Change, reply: Mapping[str, Any] | None) -> LeaveResult:
        """Tell what came of `leave`.

        Raises:
            StateError: If the document does not hold what the spec describes.
        """
        if reply is None:
            return LeaveResult(change.key, LeaveOutcome.NOT_FOUND, 0, collection=self.collection)
        above = self._pipeline.above("leave")
        told = self._sound(change.key, reply, above=above, capped=self.spec.waiting is not None)
        return LeaveResult(
            change.key,
            LeaveOutcome.LEFT if told["found"] else LeaveOutcome.ABSENT,
            told["size"],
            told.get("leader"),
            told.get("closed", False),
            _documents(told.get("promoted", ())),
            self.collection,
        )

    def changed(self, change: Change, reply: Mapping[str, Any] | None) -> MemberResult:
        """Tell what came of `touch` or `update`.

        Raises:
            StateError: If the document does not hold what the spec describes.
        """
        if reply is None:
            return MemberResult(change.key, change.id, MemberOutcome.NOT_FOUND, collection=self.collection)
        told = self._sound(change.key, reply)
        if told["found"] and not told.get("fits", True):
            self._too_large(change.key)
        outcome = MemberOutcome.UPDATED if told["found"] else MemberOutcome.ABSENT
        return MemberResult(change.key, change.id, outcome, _document(told["member"]), self.collection)

    def seen(self, key: object, found: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
        """Read the answer to `look`.

        Raises:
            DocumentNotFound: If there is no document and the spec does not make one.
            StateError: If what stands at the path is no array.
        """
        if not found:
            if self.spec.create is None:
                raise DocumentNotFound(self.collection, key)
            return {"members": [], "waiting": [], "size": 0}
        told = self._sound(key, found[0])
        return {name: _documents(value) if isinstance(value, list) else value for name, value in told.items()}

    def _sound(
        self, key: Any, reply: Mapping[str, Any], *, above: Sequence[str] = (), capped: bool = False
    ) -> Mapping[str, Any]:
        """Return what is told of a document that holds what the spec describes."""
        frame = reply[REPLY]
        self.check_kinds(key, frame["kinds"], "array", *self._pipeline.arrays, above=above)
        told: Mapping[str, Any] | None = frame["told"]
        if told is None and capped and isinstance(self.spec.cap, Field):
            self._no_cap(key, frame.get("cap"))
        return told or {}  # (it is told whenever none of the above is wrong)

    def _no_cap(self, key: Any, found: object) -> NoReturn:
        kind = f"a value of type {found}" if isinstance(found, str) else repr(found)
        problem = f"expected how many seats there are, found {kind}"
        raise StateError(self.collection, key, getattr(self.spec.cap, "path", "cap"), problem)

    def _too_large(self, key: Any) -> NoReturn:
        problem = "the document has nearly the 16 MB that the server stores at most: Slots have no such bound"
        raise StateError(self.collection, key, self.spec.path, problem)


def _documents(items: Iterable[Any]) -> tuple[dict[str, Any], ...]:
    """Return what are documents: somebody may have put something else beside them."""
    return tuple(document for item in items if (document := _document(item)) is not None)


def _document(item: object) -> dict[str, Any] | None:
    """Return a document; the driver takes one with the names `$ref` and `$id` for a reference."""
    if isinstance(item, DBRef):
        return dict(item.as_doc())
    return item if isinstance(item, dict) else None


@dataclass(frozen=True, slots=True)
class _Joined:
    """What came of a call to join, for each of those who were named."""

    outcomes: tuple[JoinOutcome, ...]
    positions: list[int | None]
    size: int
    cap: int | None
    member: dict[str, Any] | None = None
    leader: Any = None
    promoted: tuple[dict[str, Any], ...] = ()
    document: dict[str, Any] | None = None
