"""What get-or-create, upsert and take send, and what the answers mean. Pure: no client, no clock, no randomness.

Each call is one command on exactly the unique key, which the server repeats by itself when it loses a race to make
the document. Nothing of ours is stored, and yet a write that the driver repeats must tell what the first one did.

`get_or_create` sends `$setOnInsert`, and is told by the image of the document *before* the write: one that was there
is the document, because nothing changed it; where there was none, the call made it, and it is put together in memory.

`upsert` sends a pipeline, and is told in one of two ways:

- **By the token.** A document that is made gets an `_id` that was generated for this call. The reply is the document
  *after* the write, as it is, and the call made it if that is its `_id`. A change that does not fit is an error of
  the server (`REFUSED`); then the call is sent once more in the other way, which tells what was in the way, and does
  the change should that be gone by now.
- **By the image.** The document before the write, from which the same expressions compute the one after it; what
  does not fit leaves the document as it was. For a key of `_id`, and an `_id` that the caller gives: there is no
  token then. Also in a transaction, which an error of the server would abort. One more command, a read, tells two
  things that the image does not (`again`): what became of it, when the driver has repeated a write whose answer was
  lost (the reply is the bare image then); and the server's time of a `set_now`, when there was no image.

Calls of one shape (the same paths under the same arguments) differ in their values alone, which travel as variables:
update and projection are built, checked and encoded once for each shape.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Any, Final, NamedTuple

from bson import ObjectId, decode, encode
from bson.codec_options import CodecOptions
from bson.raw_bson import RawBSONDocument
from pymongo.errors import OperationFailure

from mongopatterns.commands import REPLY, Aggregate, FindOneAndUpdate
from mongopatterns.documents._documents_pipeline import (
    REFUSED,
    Program,
    changes_of,
    given_by,
    made_of,
    nested,
    put,
)
from mongopatterns.documents._documents_spec import DocumentSpec, filter_of
from mongopatterns.errors import StateError, UsageError
from mongopatterns.expressions import ANY_UUID, at_path, check_document, check_path, check_time, key_value, literal

__all__ = ["DocumentPlan", "Stored"]

# An application has few shapes of calls, unless names of fields are made of data; and what is kept must stay small.
_SHAPES_KEPT: Final = 128
_CHANGES_KEPT: Final = 32


class Stored(NamedTuple):
    """A document that is there after a call, whoever made it. Unpack it: `document, created = ...`.

    Attributes:
        document: The whole document, as this call left it. Dates in it are aware, in UTC.
        created: Whether this call made it.
    """

    document: dict[str, Any]
    created: bool


@dataclass(frozen=True, slots=True)
class GetOrCreate:
    """A call that makes a document if it is missing: what is sent, and the document that it would make."""

    command: FindOneAndUpdate
    made: dict[str, Any]


@dataclass(frozen=True)
class Shape:
    """What all calls of a shape send, each part encoded when it is first needed.

    Attributes:
        program: What is done to the document.
        times: The paths of the server's time.
        codec_options: How the collection writes.
    """

    program: Program
    times: tuple[str, ...]
    codec_options: CodecOptions[Any]

    @cached_property
    def refusing(self) -> list[RawBSONDocument]:
        """The update that fails where a change does not fit."""
        return [self._encoded({"$replaceWith": self.program.refusing()})]

    @cached_property
    def leaving(self) -> list[RawBSONDocument]:
        """The update that leaves the document as it is where a change does not fit."""
        return [self._encoded({"$replaceWith": self.program.leaving()})]

    @cached_property
    def told(self) -> RawBSONDocument:
        """The projection that tells by the image before the write."""
        return self._encoded({"_id": 0, REPLY: self.program.told("$$ROOT")})

    def _encoded(self, document: dict[str, Any]) -> RawBSONDocument:
        return RawBSONDocument(encode(document, codec_options=self.codec_options))


@dataclass(frozen=True, slots=True)
class Upsert:
    """A call that changes a document or makes it.

    Attributes:
        command: What is sent.
        key: The key, for messages.
        shape: What the call has in common with others.
        bare: What a document that is being made begins with.
        values: The values of the changes, by the names of their variables.
        token: The `_id` that tells that this call made the document; None if the image tells it.
        now: The time that stands for the server's in a test.
    """

    command: FindOneAndUpdate
    key: Any
    shape: Shape
    bare: dict[str, Any]
    values: dict[str, Any]
    token: ObjectId | None
    now: dt.datetime | None


@dataclass(frozen=True, slots=True)
class FindOneAndDelete:
    """One guarded deletion, in the terms of the driver's `find_one_and_delete`."""

    filter: dict[str, Any]
    let: dict[str, Any] | None
    comment: str

    def arguments(self) -> dict[str, Any]:
        """Return the keyword arguments of the driver's call."""
        return {"filter": self.filter, "comment": self.comment, **({} if self.let is None else {"let": self.let})}


class DocumentPlan:
    """Build the commands on one collection's documents, and read their replies."""

    def __init__(self, spec: DocumentSpec, collection: str, codec_options: CodecOptions[Any] = ANY_UUID) -> None:
        self.spec = spec
        self.collection = collection
        self._codec_options = codec_options
        self._by_id = spec.fields == ("_id",)
        self._shape = lru_cache(_SHAPES_KEPT)(self._build)

    # Get or create .............................................................................................

    def get_or_create(self, key: object, defaults: Mapping[str, Any] | None, made: ObjectId) -> GetOrCreate:
        """Make the document with `defaults` and the id `made`, unless it is there."""
        values = self.spec.values(key)
        fields = check_document("defaults", {} if defaults is None else defaults)
        if taken := [path for path in self.spec.fields if path.split(".")[0] in fields]:
            raise UsageError("defaults", f"{taken[0].split('.')[0]!r} comes from the key: leave it out")
        if not self._by_id:
            fields["_id"] = key_value("defaults._id", fields.get("_id", made))
        command = FindOneAndUpdate(
            filter=filter_of(values),
            update={"$setOnInsert": fields},
            projection=None,
            upsert=True,
            comment="mongopatterns.documents.get_or_create",
            before=True,
        )
        return GetOrCreate(command, nested(values) | {name: fields[name] for name in sorted(fields, key=_as_applied)})

    def got(self, asked: GetOrCreate, reply: dict[str, Any] | None) -> Stored:
        """Read the document that was there, or give the one that was made."""
        return Stored(self._as_read(asked.made), created=True) if reply is None else Stored(reply, created=False)

    # Upsert ....................................................................................................

    def upsert(
        self,
        key: object,
        changes: Mapping[str, Any],
        *,
        push_last: object,
        keep: object,
        set_now: object,
        made: ObjectId,
        session: object,
        now: dt.datetime | None,
    ) -> Upsert:
        """Change the document, or make it with the id `made` unless the call says another."""
        fields = self.spec.values(key)
        time = None if now is None else check_time("now", now)
        given = given_by(changes, push_last, keep, set_now)
        build = self._shape if len(given) <= _CHANGES_KEPT else self._build
        shape = build(tuple(change.shape for change in given), keep)
        values = {f"v{number}": change.checked() for number, change in enumerate(given) if change.kind != "set_now"}
        bare = nested(fields) if self._by_id else {"_id": made, **nested(fields)}
        for number, change in enumerate(given):
            if change.path == "_id":
                bare["_id"] = key_value("set_on_insert._id", values.pop(f"v{number}"))
        by_token = not self._by_id and bare["_id"] is made and not getattr(session, "in_transaction", False)
        command = FindOneAndUpdate(
            filter=filter_of(fields),
            update=shape.refusing if by_token else shape.leaving,
            projection=None if by_token else shape.told,
            upsert=True,
            comment="mongopatterns.documents.upsert",
            let={
                "now": "$$NOW" if time is None else time,
                "id": literal(bare.get("_id")),
                **{name: literal(value) for name, value in values.items()},
            },
            before=not by_token,
        )
        shown = next(iter(fields.values())) if len(fields) == 1 else fields
        return Upsert(command, shown, shape, bare, values, made if by_token else None, time)

    def refused(self, asked: Upsert, error: OperationFailure) -> Upsert:
        """Return the same call in the way that tells what was in the way of it.

        Raises:
            OperationFailure: If this is another error.
        """
        if asked.token is None or error.code != REFUSED:
            raise error
        shape = asked.shape
        command = replace(asked.command, update=shape.leaving, projection=shape.told, before=True)
        return replace(asked, command=command, token=None)

    def _build(self, given: tuple[tuple[str, str, bool], ...], keep: Any) -> Shape:
        every = [change for change in changes_of(given, keep, self.spec.fields) if change.path != "_id"]
        program = Program(
            self._by_id,
            [change for change in every if change.kind == "set_on_insert"],
            [change for change in every if change.kind != "set_on_insert"],
        )
        return Shape(program, tuple(change.path for change in every if change.kind == "set_now"), self._codec_options)

    def again(self, asked: Upsert, reply: Mapping[str, Any] | None) -> Aggregate | None:
        """Build the read that tells what the reply does not: see the first lines of this file."""
        if asked.token is not None:
            return None
        times = asked.shape.times
        told_by_now = asked.now is not None or not times
        if told_by_now if reply is None else "_id" not in reply:  # (a projected reply has no _id)
            return None
        command = asked.command
        found = {"_id": 1, **dict.fromkeys(times, 1)}
        # `$facet` answers with one document, even should the caller's be gone by now.
        pipeline: list[dict[str, Any]] = [
            {"$match": command.filter},
            {"$facet": {"found": [{"$limit": 1}, {"$project": found}]}},
            {
                "$replaceWith": {
                    REPLY: None if reply is None else asked.shape.program.told("$$image"),
                    "found": {"$first": "$found"},
                    "now": "$$now",
                }
            },
        ]
        return Aggregate(pipeline, {**(command.let or {}), "image": literal(reply)}, command.comment)

    def upserted(self, asked: Upsert, reply: dict[str, Any] | None) -> Stored:
        """Read the document after the call.

        Raises:
            StateError: If a stored value was of a type that the call cannot change.
        """
        answer = reply or {}
        if asked.token is not None:
            return Stored(answer, created=answer["_id"] == asked.token)
        program = asked.shape.program
        told = answer.get(REPLY)
        now = answer.get("now", asked.now)
        if told is None:
            changes = (*program.on_insert, *program.changes)
            document = self._as_read(made_of(asked.bare, changes, {**asked.values, "now": now}))
        else:
            if misfit := program.misfit(told["found"], told["sums"]):
                raise StateError(self.collection, asked.key, *misfit)
            document = told["document"]
        if "now" in answer and asked.now is None:  # (the time of the read: what is stored is the write's)
            stored = {path: at_path(answer.get("found"), path) for path in asked.shape.times}
            for path, time in stored.items():
                put(document, path, time if isinstance(time, dt.datetime) else now)
        return Stored(document, created=told is None)

    # Take ......................................................................................................

    def take(self, key: object, unexpired: str | None, now: dt.datetime | None) -> FindOneAndDelete:
        """Delete the document and return it, unless it has expired."""
        condition: dict[str, Any] = filter_of(self.spec.values(key))
        time = None if now is None else check_time("now", now)
        let = None
        if unexpired is not None:
            path = f"${check_path('unexpired', unexpired)}"
            # (`$gt` alone would let a few types pass that sort after dates)
            is_date = {"$eq": [{"$type": path}, "date"]}
            condition["$expr"] = {"$and": [is_date, {"$gt": [path, "$$now"]}]}
            let = {"now": "$$NOW" if time is None else time}
        return FindOneAndDelete(condition, let, "mongopatterns.documents.take")

    def _as_read(self, document: Mapping[str, Any]) -> dict[str, Any]:
        """Return a document as a read would give it: dates to the millisecond, tuples as lists."""
        options = self._codec_options
        return decode(encode(document, codec_options=options), codec_options=options)


def _as_applied(name: str) -> tuple[bool, str, int, str]:
    """Sort names as the server applies those of an update operator, whatever order they come in; `_id` is first.

    That is by the bytes of their text, but for names that begin with a digit from 1 to 9: the shorter one is first
    among those (`cmpPathsAndArrayIndexes` in `mongodb/mongo`, `src/mongo/db/update/path_support.h`). So numbers are
    in the order of numbers, unless they have a sign or begin with 0.
    """
    digit = "1" <= name[0] <= "9"
    return name != "_id", "1" if digit else name, len(name.encode()) if digit else 0, name
