"""What a cascade sends, and what the answers mean. Pure: no client, no clock, no randomness.

A deletion goes through the parents in the order of their ids, a batch at a time: their keys are read, then what names
these keys is deleted, the lowest level first, and then the parents. So whatever is interrupted leaves parents without
children, which the same call finds again, and no child without its parent.

Others write meanwhile, and each delete decides by what is stored at that moment. A parent goes only if it still
matches the filter and has no other keys than those whose children have just been deleted; a child that has children
goes only if it still names a parent of the batch, and under the same condition. What none of this can see is a child
that is inserted after the children were deleted and before the parent was.

Orphans are found by reading the children in the order of their ids, a batch at a time, and asking the parents'
collection which of the values that name a parent are there. Before they are deleted, that has just been asked; and the
delete takes only those that still name nobody but the missing.

What is sent is given out by a generator (`Steps`), which gets the answers and goes on: nothing here waits, and the
shells of both worlds send in the same order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from bson import MinKey, ObjectId, decode, encode
from bson.codec_options import CodecOptions, DatetimeConversion
from bson.errors import InvalidDocument
from pymongo.errors import OperationFailure

from mongopatterns.errors import Conflict, DeploymentError, LimitExceeded, StateError, UsageError
from mongopatterns.expressions import ANY_UUID, bson_identity, key_value
from mongopatterns.joins._cascade_commands import (
    Command,
    Delete,
    Document,
    Read,
    Run,
    Steps,
    Told,
    within,
)
from mongopatterns.joins._cascade_conditions import BOTH_CASES, all_of, beyond, chunks, distinct, only, spellings
from mongopatterns.joins._cascade_spec import CascadeResult, CascadeSpec, Child, Level, Orphan, Orphans
from mongopatterns.joins._keys import NO_KEYS, keys_expression, match
from mongopatterns.paths import leaves_expression

MOST_IN_BATCH: Final = 100_000
"""What a batch and a limit may be."""

MOST_IN_TRANSACTION: Final = 10_000
"""How many documents one transaction deletes at most: the server ends one that takes longer than a minute, holds all
that it changes in its cache, and lets nobody else write to what it has deleted."""

MAX_FILTER: Final = 4_000_000
"""How many bytes a filter may have: each delete of parents repeats it, and a command has 16 MB."""

CHILDREN_AT_ONCE: Final = 10_000
"""How many children that have children themselves are read at once."""

ROUNDS: Final = 100
"""How often in a row others may be quicker, before a call gives up."""

_ALL: Final = 2**31 - 1  # documents in the first answer: as many as it holds, and no second round trip for the rest
_NO_TRANSACTIONS: Final = 20  # what a standalone server answers
_SIMPLE: Final = {"locale": "simple"}  # keys are compared as they are, whatever the collection's collation says


# What was found ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Row:
    """A document that is to go, and the keys that its children name: one list for each kind of them."""

    id: Any
    keys: list[list[Any]]


class _Lost(NamedTuple):
    """A child, the values that name its parents, and these with the lists that they are in."""

    id: Any
    claimed: list[Any]
    values: list[Any]


class _Kind:
    """The documents of one level: what is read of them, and by what they are told apart from what they have become.

    Attributes:
        below: What goes with them.
        projection: What is fetched of them.
    """

    def __init__(self, level: Level) -> None:
        self.collection = level.collection
        self.below = level.below
        # (`_id` is fetched anyway; and it never changes, and so needs no second look)
        self._computed = [place for place, child in enumerate(level.below) if not _is_id(child)]
        self._changing = [place for place in self._computed if level.below[place].local != "_id"]
        keys = {f"k{place}": _keys_of_parent(level.below[place]) for place in self._computed}
        self.projection = {"_id": 1, **keys}

    def rows(self, documents: Iterable[Mapping[str, Any]]) -> list[_Row]:
        """Read what was fetched."""
        return [_Row(one["_id"], [self._keys(one, place) for place in range(len(self.below))]) for one in documents]

    def _keys(self, found: Mapping[str, Any], place: int) -> list[Any]:
        keys = found[f"k{place}"] if place in self._computed else [found["_id"]]
        return [key for key in keys if key is not None and not isinstance(key, MinKey)]

    def unchanged(self, rows: Sequence[_Row]) -> list[Document]:
        """Build the conditions under which rows have no keys but those that they had."""
        conditions = []
        for place in self._changing:
            child = self.below[place]
            known = [*distinct(key for row in rows for key in row.keys[place]), MinKey()]
            plain = [None, MinKey(), *(one for key in known for one in spellings(key, child.local_as))]
            conditions.append(only(child.local, plain, _keys_of_parent(child), known))
        return conditions

    def weight(self, row: _Row) -> list[Any]:
        """Return what is sent to delete a row."""
        changing = ((self.below[place], row.keys[place]) for place in self._changing)
        spelled = (one for child, keys in changing for key in keys for one in (key, *spellings(key, child.local_as)))
        return [row.id, *spelled]


class CascadePlan:
    """Build the commands of a cascade and read their replies."""

    def __init__(self, spec: CascadeSpec, codec_options: CodecOptions[Any] = ANY_UUID) -> None:
        self.spec = spec
        self._codec_options = codec_options
        levels: tuple[Level, ...] = (spec, *spec.below)
        self._kinds = {level: _Kind(level) for level in levels if level.below}

    def again(self, run: Run[Any]) -> Command | None:
        """Return what is to be done next; None when it is done."""
        return run.next

    # To delete .................................................................................................

    def delete(
        self,
        condition: object,
        *,
        keep: object,
        transaction: object,
        batch: object,
        on_progress: Callable[[CascadeResult], Any] | None,
        session: object,
    ) -> Run[CascadeResult]:
        """Check what is asked for, and say what is sent first."""
        asked = _check_filter(condition)
        kept = self._kept(keep)
        size = _check_size("batch", batch)
        _check_call(on_progress)
        if not transaction:
            return Run(self._deleting(asked, kept, size, on_progress, None))
        if on_progress is not None:
            raise UsageError("on_progress", "a transaction is not stored until it is all done: leave one of them out")
        if getattr(session, "in_transaction", False):
            raise UsageError("transaction", "this session is in one: leave transaction=True out to take part in it")

        def attempt() -> Run[CascadeResult]:
            return Run(self._deleting(asked, kept, size, None, MOST_IN_TRANSACTION))

        return Run(within(attempt, own_session=session is None))

    def _kept(self, keep: object) -> dict[Any, Any]:
        if isinstance(keep, (str, bytes, Mapping)) or not isinstance(keep, Iterable):
            raise UsageError("keep", f"expected a list of ids, got {keep!r:.100}")
        ids = [key_value("keep", one, self.spec.key_type) for one in keep]
        if any(isinstance(one, Mapping) and "_id" in one for one in ids):
            raise UsageError("keep", "expected ids, got documents: give the _id of each")
        return {bson_identity(one, self._codec_options): one for one in ids}

    def _deleting(
        self,
        condition: Mapping[str, Any],
        keep: Mapping[Any, Any],
        batch: int,
        on_progress: Callable[[CascadeResult], Any] | None,
        most: int | None,
    ) -> Steps[CascadeResult]:
        top = self._kinds[self.spec]
        tally = _Tally(self.spec.collections, most)
        alike = frozenset(map(_written, keep.values()))
        after: list[Document] = []
        ended = False
        while not ended:
            found = yield self._read(
                self.spec.collection,
                "delete",
                filter=all_of(condition, *after),
                projection=top.projection,
                sort=[("_id", 1)],
                limit=batch,
                batch_size=batch,
            )
            rows = top.rows(one for one in found if not self._is_kept(one["_id"], keep, alike))
            if rows:
                gone = yield from self._remove(top, rows, condition, tally)
                tally.left += len(rows) - gone
            tally.batches += bool(found)
            if on_progress is not None and found:
                yield Told(on_progress, tally.result())
            ended = len(found) < batch
            after = [] if ended else [beyond(found[-1]["_id"])]
        return tally.result()

    def _is_kept(self, found: Any, keep: Mapping[Any, Any], alike: frozenset[str | None]) -> bool:
        """Tell whether a document is to be kept.

        Raises:
            StateError: If it is not, and `keep` holds an id of another type that is written alike.
        """
        if not keep or bson_identity(found, self._codec_options) in keep:
            return bool(keep)
        if (written := _written(found)) and written in alike:
            problem = "keep= holds what is written alike and is of another type: give ids of the type that is stored"
            hint = f"{problem} (or key_type=ObjectId in the spec)" if isinstance(found, ObjectId) else problem
            raise StateError(self.spec.collection, found, "_id", hint)
        return False

    def _remove(
        self, kind: _Kind, rows: Sequence[_Row], condition: Mapping[str, Any], tally: _Tally, **options: Any
    ) -> Steps[int]:
        """Delete rows that fulfil a condition, what is below them first."""
        for place, child in enumerate(kind.below):
            keys = distinct(key for row in rows for key in row.keys[place])
            for some in chunks(keys, lambda key: [key]):
                if child in self._kinds:
                    yield from self._remove_named(child, some, tally)
                else:
                    yield from self._delete(child.collection, tally, match(child.foreign, some), collation=_SIMPLE)
        gone = 0
        for some_rows in chunks(rows, kind.weight):
            ids = {"_id": {"$in": [row.id for row in some_rows]}}
            conditions = all_of(ids, condition, *kind.unchanged(some_rows))
            gone += yield from self._delete(kind.collection, tally, conditions, **options)
        return gone

    def _remove_named(self, child: Child, keys: Sequence[Any], tally: _Tally) -> Steps[None]:
        """Delete the children that name some keys, with what is below them.

        Raises:
            Conflict: If all that is found is changed by others before it can be deleted, again and again.
        """
        kind = self._kinds[child]
        named = match(child.foreign, keys)
        rounds, more = 0, True
        while more:
            found = yield self._read(
                child.collection,
                "delete",
                filter=named,
                projection=kind.projection,
                limit=CHILDREN_AT_ONCE,
                batch_size=CHILDREN_AT_ONCE,
                collation=_SIMPLE,
            )
            gone = 0
            if found:
                gone = yield from self._remove(kind, kind.rows(found), named, tally, collation=_SIMPLE)
            # (one that was changed meanwhile may still name a parent, which must not go before it)
            more = gone < len(found) or len(found) == CHILDREN_AT_ONCE
            rounds = 0 if gone else rounds + 1
            if more and rounds == ROUNDS:
                problem = f"in {ROUNDS} rounds others changed every document that was found before it could be deleted"
                raise Conflict(f"{child.collection!r}: {problem}; its parents are still there: call again")

    def _delete(self, collection: str, tally: _Tally, conditions: Document, **options: Any) -> Steps[int]:
        gone: int = yield Delete(collection, {"filter": conditions, "comment": self._comment("delete"), **options})
        tally.add(collection, gone)
        return gone

    def _read(self, collection: str, call: str, **arguments: Any) -> Read:
        return Read(collection, "find", {**arguments, "comment": self._comment(call)})

    # Orphans ...................................................................................................

    def orphans(self, *, limit: object, batch: object) -> Run[list[Orphans]]:
        """Say what is read first to name orphans."""
        return Run(self._naming(_check_size("limit", limit), _check_size("batch", batch)))

    def _naming(self, limit: int, batch: int) -> Steps[list[Orphans]]:
        named = []
        for parent, child in self.spec.pairs():
            rows: list[_Lost] = []
            ended = False
            after: list[Document] = []
            while not ended and len(rows) < limit:
                found = yield self._scan(child, after, batch, "orphans")
                rows += yield from self._lost(parent, child, found, "orphans")
                ended = len(found) < batch
                after = [] if ended else [beyond(found[-1]["_id"])]
            shown = tuple(self._shown(row) for row in rows[:limit])
            complete = ended and len(rows) <= limit
            named.append(Orphans(child.collection, child.foreign, parent, shown, complete))
        return named

    def delete_orphans(
        self, *, batch: object, on_progress: Callable[[CascadeResult], Any] | None
    ) -> Run[CascadeResult]:
        """Say what is read first to delete orphans."""
        size = _check_size("batch", batch)
        _check_call(on_progress)
        return Run(self._clearing(size, on_progress))

    def _clearing(self, batch: int, on_progress: Callable[[CascadeResult], Any] | None) -> Steps[CascadeResult]:
        tally = _Tally([child.collection for _, child in self.spec.pairs()], None)
        for parent, child in self.spec.pairs():
            ended = False
            after: list[Document] = []
            while not ended:
                found = yield self._scan(child, after, batch, "delete_orphans")
                rows = yield from self._lost(parent, child, found, "delete_orphans")
                for some in chunks(rows, lambda row: [row.id, *row.values, *row.values]):
                    command = self._forget(child, some)
                    gone: int = yield command
                    tally.add(child.collection, gone)
                    tally.left += len(some) - gone
                tally.batches += bool(found)
                if on_progress is not None and found:
                    yield Told(on_progress, tally.result())
                ended = len(found) < batch
                after = [] if ended else [beyond(found[-1]["_id"])]
        return tally.result()

    def _scan(self, child: Child, after: Sequence[Document], batch: int, call: str) -> Read:
        """Read the next children, by their ids."""
        return self._read(
            child.collection,
            call,
            filter=all_of(*after),
            projection={"_id": 1, "keys": keys_expression(child.foreign, None), "lists": _lists(child.foreign)},
            sort=[("_id", 1)],
            limit=batch,
            batch_size=batch,
        )

    def _lost(self, parent: str, child: Child, found: Iterable[Mapping[str, Any]], call: str) -> Steps[list[_Lost]]:
        """Return those of the children that name parents, and none that is there."""
        named = (one for one in found if one["keys"] != NO_KEYS)
        # (a parent may also have a whole list for its key)
        rows = [_Lost(one["_id"], one["keys"], [*one["keys"], *one["lists"]]) for one in named]
        rows = yield from self._without(parent, child, rows, call)
        if rows and child.local_as == "objectid":
            rows = yield from self._without(parent, child, rows, call, BOTH_CASES)
        return rows

    def _without(
        self, parent: str, child: Child, rows: list[_Lost], call: str, pattern: Document | None = None
    ) -> Steps[list[_Lost]]:
        """Leave out the children that have a parent.

        Args:
            parent: The parents' collection.
            child: How the children name them.
            rows: The children.
            call: For the comment.
            pattern: Look through the parents whose keys are like this, instead of asking for each value.
        """

        def asked(value: Any) -> list[Any]:
            return spellings(value, child.local_as)

        there: set[Any] = set()
        values = [value for value in distinct(value for row in rows for value in row.values) if asked(value)]
        for some in chunks(values, lambda value: [value, *asked(value)]):
            spelled = match(child.local, [one for value in some for one in asked(value)])
            pipeline = [
                {"$match": {child.local: pattern} if pattern else spelled},
                {"$project": {"_id": 0, "k": _keys_of_parent(child)}},
                {"$unwind": "$k"},
                {"$match": match("k", some)},
                {"$group": {"_id": "$k"}},
            ]
            arguments = {"pipeline": pipeline, "collation": _SIMPLE, "batchSize": _ALL, "comment": self._comment(call)}
            answer = yield Read(parent, "aggregate", arguments)
            there |= {bson_identity(one["_id"], self._codec_options) for one in answer}
        return [row for row in rows if there.isdisjoint(bson_identity(v, self._codec_options) for v in row.values)]

    def _forget(self, child: Child, rows: Sequence[_Lost]) -> Delete:
        """Delete children that still name nobody but those who are known to be missing."""
        missing = distinct(value for row in rows for value in row.values)
        named = {"$concatArrays": [keys_expression(child.foreign, None), _lists(child.foreign)]}
        ids = {"_id": {"$in": [row.id for row in rows]}}
        condition = all_of(ids, only(child.foreign, missing, named, missing))
        arguments = {"filter": condition, "collation": _SIMPLE, "comment": self._comment("delete_orphans")}
        return Delete(child.collection, arguments)

    def _shown(self, row: _Lost) -> Orphan:
        """Return an orphan as a read would give it: dates as dates."""
        options = self._codec_options
        told = decode(encode({"id": row.id, "keys": row.claimed}, codec_options=options), codec_options=options)
        return Orphan(told["id"], tuple(told["keys"]))

    def _comment(self, call: str) -> str:
        return f"mongopatterns.cascade.{call}"


class _Tally:
    """What has been deleted so far.

    Raises:
        LimitExceeded: If it is more than there may be.
    """

    def __init__(self, collections: Iterable[str], most: int | None) -> None:
        self._deleted = dict.fromkeys(collections, 0)
        self._most = most
        self.left = 0
        self.batches = 0

    def add(self, collection: str, gone: int) -> None:
        self._deleted[collection] += gone
        if self._most is not None and sum(self._deleted.values()) > self._most:
            problem = f"one transaction deletes {self._most} documents at most, and this one would delete more"
            raise LimitExceeded(f"{problem}: delete in batches (transaction=False), or with a narrower filter")

    def result(self) -> CascadeResult:
        return CascadeResult(dict(self._deleted), self.left, self.batches)


def _is_id(child: Child) -> bool:
    """Tell whether a parent's key is its `_id`, as it is."""
    return child.local == "_id" and child.local_as is None


def _keys_of_parent(child: Child) -> Document:
    return keys_expression(child.local, child.local_as)


def _lists(path: str) -> Document:
    """Build the list of the lists that a path ends in."""
    return {"$filter": {"input": leaves_expression(path), "cond": {"$isArray": "$$this"}}}


# What is asked for -------------------------------------------------------------------------------------------


def exact(codec_options: CodecOptions[Any]) -> CodecOptions[Any]:
    """Return the options under which every date can be read and sent back as it is."""
    return codec_options.with_options(datetime_conversion=DatetimeConversion.DATETIME_MS)


def refuse_standalone(error: OperationFailure) -> None:
    """Raise a clear error if the server has no transactions.

    Raises:
        DeploymentError: If it has not.
    """
    if error.code == _NO_TRANSACTIONS:
        problem = "transaction=True needs a replica set or a sharded cluster, and this server is neither"
        raise DeploymentError(f"{problem}: a replica set may have a single member") from error


def _check_filter(condition: object) -> dict[str, Any]:
    if not isinstance(condition, Mapping):
        problem = f"expected a filter as the driver takes it, got {type(condition).__name__}"
        raise UsageError("filter", f"{problem}; {{}} stands for every document")
    try:
        size = len(encode(condition, codec_options=ANY_UUID))
    except (InvalidDocument, OverflowError, UnicodeError) as error:
        raise UsageError("filter", f"cannot be sent: {error}") from None
    if size > MAX_FILTER:
        raise UsageError("filter", f"has {size} bytes, of at most {MAX_FILTER}: delete in several calls")
    return dict(condition)


def _check_size(argument: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MOST_IN_BATCH:
        raise UsageError(argument, f"expected a whole number from 1 to {MOST_IN_BATCH}, got {value!r}")
    return value


def _written(value: Any) -> str | None:
    """Write an id as text, if people write it so."""
    plain = isinstance(value, (str, ObjectId, int)) and not isinstance(value, bool)
    return str(value).lower() if plain else None


def _check_call(call: object) -> None:
    if call is not None and not callable(call):
        raise UsageError("on_progress", f"expected a function that takes a CascadeResult, got {call!r:.100}")
