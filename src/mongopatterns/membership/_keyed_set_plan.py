"""What a keyed set sends, and what the answers mean. Pure: no client, no clock, no randomness."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NoReturn

from bson import encode
from bson.codec_options import CodecOptions
from bson.raw_bson import RawBSONDocument

from mongopatterns.commands import REPLY, Aggregate, FindOneAndUpdate
from mongopatterns.errors import DocumentNotFound, StateError, UsageError
from mongopatterns.expressions import ANY_UUID, bson_identity, key_filter, key_value, literal
from mongopatterns.membership._commands import LARGEST_DOCUMENT, TellingPlan
from mongopatterns.membership._keyed_set_pipeline import Call, KeyedSetPipeline
from mongopatterns.membership._keyed_set_spec import KeyedSetSpec, members_of, name_value
from mongopatterns.membership._keyed_set_verdicts import PRESENT, AddManyResult, KeyedSetOutcome, KeyedSetResult

_NAMES_KEPT = 128  # whose commands are kept encoded, about 2 kB each: applications use few names, again and again
# What a field costs in BSON besides its name and value: its type, the end of its name; and of an array or a document,
# a length and an end.
_FIELD, _FRAME = 2, 5
_INDEX = 8  # the digits of a place in an array, more than fit into 16 MB
_INT = 4
_ID = len(encode({"_id": bytes(12)}))  # more than the id that the server gives a new document


@dataclass(frozen=True, slots=True)
class Change:
    """One call about one member: what is sent, and what is needed to read the answer."""

    call: Call
    key: Any
    name: str
    command: FindOneAndUpdate


@dataclass(frozen=True, slots=True)
class AddMany:
    """One write on many documents, in the terms of the driver's `update_many`."""

    asked: int
    filter: dict[str, Any]
    update: Any
    let: dict[str, Any]
    comment: str

    def arguments(self) -> dict[str, Any]:
        """Return the keyword arguments of the driver's call."""
        return {"filter": self.filter, "update": self.update, "let": self.let, "comment": self.comment}


@dataclass(frozen=True, slots=True)
class Read:
    """One read of one document."""

    key: Any
    name: str
    command: Aggregate


class KeyedSetPlan(TellingPlan[KeyedSetSpec]):
    """Build a keyed set's commands and read their replies."""

    kind = "keyed_set"

    def __init__(self, spec: KeyedSetSpec, collection: str, codec_options: CodecOptions[Any] = ANY_UUID) -> None:
        super().__init__(spec, collection, codec_options)
        self._pipeline = KeyedSetPipeline(self)
        self._encoded = lru_cache(_NAMES_KEPT)(self._encode)
        self._counts = 0 if spec.counts is None else _FIELD + _INT + _frames(spec.counts)
        self._places = _FIELD + _FRAME + _frames(spec.path)
        if spec.create is not None:
            self._created = len(encode(dict(spec.create), codec_options=ANY_UUID)) + _frames(spec.key_field) + _ID

    # What is sent ..............................................................................................

    def change(self, call: Call, key: object, name: object, member: object) -> Change:
        """Build the one guarded write that decides on a member."""
        stored, name = self.key(key), name_value(name)
        let = self._let(name, member)
        update, projection = self._encoded(call, name)
        upsert = call != "remove" and self._makes(stored, let["room"])
        return Change(call, stored, name, self.guarded(call, stored, update, projection, let, upsert=upsert))

    def add_many(self, keys: Iterable[Any], name: object, member: object) -> AddMany:
        """Build the one write that adds a member in many documents, each by its own decision.

        Raises:
            UsageError: If there are no keys, or one of them, the name or the member is none.
        """
        if isinstance(keys, (str, bytes, Mapping)) or not isinstance(keys, Iterable):
            raise UsageError("keys", f"expected a list of keys, got {keys!r:.100}")
        wanted: dict[Any, Any] = {}
        for key in keys:
            stored = key_value("keys", key, self.spec.key_type)
            wanted.setdefault(bson_identity(stored, self._codec_options), stored)
        if not wanted:
            raise UsageError("keys", "expected at least one key, got none")
        name = name_value(name)
        update, _ = self._encoded("add", name)
        return AddMany(
            asked=len(wanted),
            filter={self.spec.key_field: {"$in": list(wanted.values())}},
            update=update,
            let=self._let(name, member),
            comment="mongopatterns.keyed_set.add_many",
        )

    def explain(self, key: object, name: object, member: object) -> dict[str, Any]:
        """Return the arguments of `find_one_and_update` as `add` sends them, in plain values."""
        return self.change("add", key, name, member).command.explained()

    def members(self, key: object, name: object) -> Read:
        """Build the read of the members under a name."""
        name = name_value(name)
        return self._read("members", key, self._pipeline.members(name), name)

    def counts(self, key: object) -> Read:
        """Build the read of how many members each name has."""
        return self._read("counts", key, self._pipeline.sizes())

    def get(self, key: object) -> Read:
        """Build the read of the whole map."""
        return self._read("get", key, self._pipeline.sets())

    def _read(self, call: str, key: object, told: Mapping[str, Any], name: str = "") -> Read:
        stored = self.key(key)
        pipeline: list[Any] = [
            {"$match": key_filter(self.spec.key_field, stored)},
            {"$project": self.projection(told)},
        ]
        return Read(stored, name, Aggregate(pipeline, {}, f"mongopatterns.{self.kind}.{call}"))

    def _encode(self, call: Call, name: str) -> tuple[list[RawBSONDocument], RawBSONDocument]:
        ends = self._pipeline.change(call, name)
        return self.update(ends.document), self.projection(ends.told)

    def _let(self, name: str, member: object) -> dict[str, Any]:
        """Build the variables of a call, with how many bytes a document may have before it."""
        stored = key_value("member", member)
        size = self._size(stored)
        name_ = len(name.encode())
        counts = self._counts and self._counts + name_
        room = LARGEST_DOCUMENT - (_FIELD + _INDEX + size + self._places + name_ + counts)
        if room < 0:
            raise UsageError("member", f"takes {size} bytes, and a document has at most {LARGEST_DOCUMENT}")
        let = {"member": literal(stored), "room": room}
        if counts:
            let["spare"] = LARGEST_DOCUMENT - (counts - _FIELD - size)
        return let

    def _size(self, value: Any) -> int:
        if type(value) is str:  # nearly every one, and quick to reckon
            return _INT + len(value.encode()) + 1
        return len(encode({"": value}, codec_options=ANY_UUID)) - _FIELD - _FRAME

    def _makes(self, key: Any, room: int) -> bool:
        """Tell whether the call may make a document: a refused upsert would still leave one behind."""
        return self.spec.create is not None and self._created + self._size(key) <= room

    # What came back ............................................................................................

    def decide(self, change: Change, reply: Mapping[str, Any] | None) -> KeyedSetResult:
        """Read the verdict of a call.

        Raises:
            StateError: If what is stored is no such map, or the document would pass 16 MB.
        """
        if reply is None:
            outcome = self._made(change)
            before, after, used = 0, int(outcome is KeyedSetOutcome.ADDED), 0
        else:
            told = self._facts(change, reply[REPLY])
            outcome = self._outcome(change, told)
            before, used = told["size"], told["used"]
            after = before + (outcome is KeyedSetOutcome.ADDED)
            if outcome is KeyedSetOutcome.REMOVED:
                after = told["without"]
        return KeyedSetResult(
            key=change.key,
            outcome=outcome,
            name=change.name,
            present=outcome in PRESENT,
            size=after,
            keys=used + (after > 0) - (before > 0),
            collection=self.collection,
        )

    def _outcome(self, change: Change, told: Mapping[str, Any]) -> KeyedSetOutcome:
        """Decide from what the server tells, as it has decided."""
        let, size = change.command.let or {}, told["size"]
        if told.get("has"):
            return KeyedSetOutcome.ALREADY
        if told.get("without", size) < size:
            if not told.get("counted", True) and told["bytes"] > let["spare"]:
                self._no_room(change)
            return KeyedSetOutcome.REMOVED
        if change.call == "remove":
            return KeyedSetOutcome.ABSENT
        if self.spec.max_members is not None and size >= self.spec.max_members:
            return KeyedSetOutcome.FULL
        if self.spec.max_keys is not None and not size and told["used"] >= self.spec.max_keys:
            return KeyedSetOutcome.TOO_MANY_KEYS
        if told["bytes"] > let["room"]:
            self._no_room(change)
        return KeyedSetOutcome.ADDED

    def added(self, many: AddMany, matched: int, modified: int) -> AddManyResult:
        """Read the verdict of `add_many`."""
        # (a collation may match more documents than there were keys)
        return AddManyResult(matched=matched, added=modified, missing=max(0, many.asked - matched))

    def members_found(self, read: Read, documents: Sequence[Mapping[str, Any]]) -> list[Any]:
        """Read the members under a name.

        Raises:
            DocumentNotFound: If there is no document and the spec says `create=None`.
            StateError: If what is stored is no such map.
        """
        found: list[Any] = self._found(read, documents).get("members", [])
        return found

    def counts_found(self, read: Read, documents: Sequence[Mapping[str, Any]]) -> dict[str, int]:
        """Read how many members each name has; raises as `members_found` does."""
        sizes = {}
        for each in self._found(read, documents).get("told", []):
            self._check_list(read.key, each["name"], each["kind"])
            if each["size"]:
                sizes[each["name"]] = each["size"]
        return sizes

    def sets_found(self, read: Read, documents: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
        """Read the whole map; raises as `members_found` does."""
        stored = self._found(read, documents).get("told", {})
        sets = {name: members_of(self.spec, self.collection, read.key, name, stored[name]) for name in stored}
        return {name: members for name, members in sets.items() if members}

    def _made(self, change: Change) -> KeyedSetOutcome:
        """Tell what came of a call that met no document."""
        if self.spec.create is None:
            return KeyedSetOutcome.NOT_FOUND
        if change.call == "remove":
            return KeyedSetOutcome.ABSENT
        if not change.command.upsert:
            self._no_room(change)
        return KeyedSetOutcome.ADDED

    def _no_room(self, change: Change) -> NoReturn:
        problem = f"the document is nearly as large as the server stores them ({LARGEST_DOCUMENT} bytes)"
        raise StateError(self.collection, change.key, self.spec.path, f"no room for the change: {problem}")

    def _facts(self, change: Change, told: Mapping[str, Any] | list[str]) -> Mapping[str, Any]:
        """Return what the server decided from.

        Raises:
            StateError: If it has told types instead: those of something else than such a map.
        """
        if not isinstance(told, list):
            return told
        *kinds, held = told
        self._check(change.key, change.name, {"kinds": kinds, "held": held}, *self.spec.maps)
        problem = "the server refused to change what is stored"
        raise StateError(self.collection, change.key, self.spec.path, problem)

    def _found(self, read: Read, documents: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
        if not documents and self.spec.create is None:
            raise DocumentNotFound(self.collection, read.key)
        told: Mapping[str, Any] = documents[0][REPLY] if documents else {}
        self._check(read.key, read.name, told, self.spec.path)
        return told

    def _check(self, key: Any, name: str, told: Mapping[str, Any], *maps: str) -> None:
        """Raise if the server has told types that are none of such a map.

        Raises:
            StateError: If it has.
        """
        if "kinds" in told:
            self.check_kinds(key, told["kinds"], "object", *maps)
        self._check_list(key, name, told.get("held", "missing"))

    def _check_list(self, key: Any, name: str, kind: str) -> None:
        if kind not in ("missing", "null", "array"):
            problem = f"expected an array, found a value of type {kind}"
            raise StateError(self.collection, key, f"{self.spec.path}.{name}", problem)


def _frames(path: str) -> int:
    """Return the bytes of the documents that a path leads through, and of the one at its end."""
    return sum(_FIELD + _FRAME + len(part.encode()) for part in path.split("."))
