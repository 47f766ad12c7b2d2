"""Joins by one query for many parents: their keys in one `$in`, the rest in memory. Pure.

What is sent is given out by a generator (`Steps`), which gets the documents of the answer and goes on: nothing here
waits, and the shells of both worlds send in the same order. A join is one command for as many parents as fit into
one (`MAX_KEYS`, `MAX_BYTES`); a parent's keys are never spread over two, so that each command is complete for its
parents.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from decimal import Decimal, localcontext
from typing import Any, Final, Generic, TypeAlias, TypeVar

from bson import Decimal128
from bson.codec_options import CodecOptions
from bson.decimal128 import create_decimal128_context

from mongopatterns.commands import Read
from mongopatterns.fields import Fields, Shape, fresh
from mongopatterns.joins._join_spec import CountOf, Exists, JoinPart, Many, One, SumOf, in_full
from mongopatterns.joins._keys import Asked, Chunk, found_by, is_simple, match, places_of
from mongopatterns.order import in_order
from mongopatterns.paths import Leaves, leaves_expression

MAX_KEYS: Final = 20_000
"""How many keys one command asks for at most."""

MAX_BYTES: Final = 8_000_000
"""How many bytes the keys of one command have at most, but for those of a single parent."""

# Text is compared by its characters, whatever collation a collection was made with: that is how keys are put
# together afterwards.
_OPTIONS: Final = {"collation": {"locale": "simple"}, "comment": "mongopatterns.join.batch"}

_INT64: Final = 2**63

Documents: TypeAlias = list[dict[str, Any]]
PartT = TypeVar("PartT", bound=JoinPart)
DocumentsT = TypeVar("DocumentsT", bound=One | Many)
Steps: TypeAlias = Generator[Read, Documents, None]


class Level:
    """What is joined onto documents of one kind.

    Args:
        parts: The joins.
        fields: What is given of the documents.
        params: The values of the call.
        codec_options: How values are stored.
        read: Paths whose leaves are read of the documents besides the keys of the joins.
        values: Paths whose values are read of them.

    Attributes:
        shape: What is fetched of the documents.
    """

    def __init__(
        self,
        parts: Sequence[JoinPart],
        fields: Fields | None,
        params: Mapping[str, Any],
        codec_options: CodecOptions[Any],
        *,
        read: Sequence[str] = (),
        values: Sequence[str] = (),
    ) -> None:
        self.shape = Shape(fields, [*read, *(part.local for part in parts)], values)
        self._codec_options = codec_options
        self._parts = [_KINDS[type(part)](part, params, codec_options) for part in parts]

    def asked(self, documents: Documents) -> list[Asked]:
        """Read the keys of all joins, before the first of them changes a document."""
        return [
            Asked.of(self.shape.read(batch.part.local, documents), batch.part.local_as, self._codec_options)
            for batch in self._parts
        ]

    def attach(self, documents: Documents, asked: Sequence[Asked]) -> Steps:
        """Join everything onto the documents, in place."""
        for part, keys in zip(self._parts, asked, strict=True):
            yield from part.attach(documents, keys)

    def reads(self) -> list[Read]:
        """List what would be sent, with a word in place of the keys."""
        return [read for part in self._parts for read in part.reads()]


class _Batch(ABC, Generic[PartT]):
    """One join."""

    def __init__(self, part: PartT, params: Mapping[str, Any], codec_options: CodecOptions[Any]) -> None:
        self.part = part
        self.where = part.filter.bound(params)
        self.codec_options = codec_options

    def attach(self, documents: Documents, asked: Asked) -> Steps:
        """Join it onto the documents, in place."""
        done = 0
        for chunk in asked.chunks(MAX_KEYS, MAX_BYTES):
            yield from self.join(documents[chunk.start : chunk.stop], chunk)
            done = chunk.stop
        for document in documents[done:]:  # nobody asks for anything
            document[self.part.as_] = self.nothing()

    @abstractmethod
    def join(self, documents: Documents, chunk: Chunk) -> Steps:
        """Ask for what belongs to the keys of some documents, and join it onto them."""

    @abstractmethod
    def nothing(self) -> Any:
        """Return what stands for what is not there."""

    @abstractmethod
    def reads(self) -> list[Read]:
        """List what would be sent, with a word in place of the keys."""

    def filter(self, keys: Any) -> dict[str, Any]:
        """Build the filter for what belongs to the keys."""
        matches = match(self.part.foreign, keys)
        if not self.where:
            return matches
        return {"$and": [matches, self.where]} if matches.keys() & self.where.keys() else {**matches, **self.where}


class _DocumentsBatch(_Batch[DocumentsT]):
    """Joins that give documents."""

    def __init__(self, part: DocumentsT, params: Mapping[str, Any], codec_options: CodecOptions[Any]) -> None:
        super().__init__(part, params, codec_options)
        self.level = Level(part.inner, part.given, params, codec_options, read=("_id", part.foreign))

    def query(self, keys: Any) -> Read:
        arguments: dict[str, Any] = {"filter": self.filter(keys), **_OPTIONS}
        if self.level.shape.projection is not None:
            arguments["projection"] = self.level.shape.projection
        if self.part.order:
            arguments["sort"] = in_full(self.part)
        return Read(self.part.collection, "find", arguments).at_once()

    def reads(self) -> list[Read]:
        return [self.query([f"<keys of {self.part.local}>"]), *self.level.reads()]

    def join(self, documents: Documents, chunk: Chunk) -> Steps:
        children = yield self.query(chunk.keys)
        values = self.values(children)
        picked = self.pick(children, values, chunk)
        asked = self.level.asked(children)
        self.level.shape.clean(children)
        yield from self.level.attach(children, asked)
        # Rows share nothing, so that one can be changed without the others.
        shared = chunk.shared or not is_simple(values)
        self.give(documents, picked, _copier() if shared else _itself)

    def pick(self, children: Documents, values: list[Any], chunk: Chunk) -> Iterable[Any]:
        """Return what each parent wants of the children, in their order."""
        if chunk.single and is_simple(values):
            return map(self.group(children, values).get, chunk.wanted)
        children = self.ordered(children)
        places = found_by(self.values(children), self.codec_options)
        return [[children[place] for place in found] for found in places_of(chunk.wanted, places)]

    def values(self, children: Documents) -> list[Any]:
        """Read what the children are found by."""
        return self.level.shape.read(self.part.foreign, children)

    def ordered(self, children: Documents) -> Documents:
        """Return the children in their order, which is that of `_id` where none was asked for."""
        return children if self.part.order else in_order(children, self.codec_options)

    @abstractmethod
    def group(self, children: Documents, values: list[Any]) -> dict[Any, Any]:
        """Return by the value that they are found by what is wanted of the children."""

    @abstractmethod
    def give(self, documents: Documents, picked: Iterable[Any], copy: Callable[[Any], Any]) -> None:
        """Give each document what was picked for it."""


class _OneBatch(_DocumentsBatch[One]):
    def nothing(self) -> Any:
        return fresh(self.part.default)

    def pick(self, children: Documents, values: list[Any], chunk: Chunk) -> Iterable[Any]:
        picked = super().pick(children, values, chunk)
        return (found[0] if found else None for found in picked) if isinstance(picked, list) else picked

    def group(self, children: Documents, values: list[Any]) -> dict[Any, Any]:
        first = dict(zip(values, children, strict=True))
        if len(first) < len(children):  # several have one value
            children = self.ordered(children)
            first = dict(zip(reversed(self.values(children)), reversed(children), strict=True))
        return first

    def give(self, documents: Documents, picked: Iterable[Any], copy: Callable[[Any], Any]) -> None:
        name = self.part.as_
        for document, child in zip(documents, picked, strict=True):
            document[name] = self.nothing() if child is None else copy(child)


class _ManyBatch(_DocumentsBatch[Many]):
    def nothing(self) -> Any:
        return []

    def group(self, children: Documents, values: list[Any]) -> dict[Any, Any]:  # noqa: ARG002  # in another order
        children = self.ordered(children)
        groups: dict[Any, Any] = defaultdict(list)
        for value, child in zip(self.values(children), children, strict=True):
            groups[value].append(child)
        return groups

    def give(self, documents: Documents, picked: Iterable[Any], copy: Callable[[Any], Any]) -> None:
        name, limit = self.part.as_, self.part.limit
        for document, children in zip(documents, picked, strict=True):
            document[name] = [copy(child) for child in children[:limit]] if children else []


class _NumberBatch(_Batch[PartT]):
    """Joins that give a number: the server groups what belongs together."""

    @property
    def measure(self) -> dict[str, Any]:
        """What is told of a group."""
        return {"$sum": 1}

    def query(self, keys: Any) -> Read:
        foreign = self.part.foreign
        # Whole lists, and not their items: a document is in one group, and is counted once for each parent.
        key = f"${foreign}" if "." not in foreign else leaves_expression(foreign)
        pipeline = [{"$match": self.filter(keys)}, {"$group": {"_id": key, "n": self.measure}}]
        return Read(self.part.collection, "aggregate", {"pipeline": pipeline, **_OPTIONS}).at_once()

    def reads(self) -> list[Read]:
        return [self.query([f"<keys of {self.part.local}>"])]

    def join(self, documents: Documents, chunk: Chunk) -> Steps:
        groups = yield self.query(chunk.keys)
        values = [group["_id"] for group in groups]
        places = found_by(map(Leaves, values) if "." in self.part.foreign else values, self.codec_options)
        for document, found in zip(documents, places_of(chunk.wanted, places), strict=True):
            document[self.part.as_] = self.total([groups[place]["n"] for place in found])

    def nothing(self) -> Any:
        return self.total([])

    def total(self, numbers: list[Any]) -> Any:
        """Put several groups together."""
        return sum(numbers)


class _ExistsBatch(_NumberBatch[Exists]):
    def total(self, numbers: list[Any]) -> Any:
        return bool(numbers)


class _SumBatch(_NumberBatch[SumOf]):
    @property
    def measure(self) -> dict[str, Any]:
        return {"$sum": f"${self.part.amount}"}

    def total(self, numbers: list[Any]) -> Any:
        return numbers[0] if len(numbers) == 1 else add_up(numbers)


_KINDS: Final[Mapping[type[JoinPart], Any]] = {
    One: _OneBatch,
    Many: _ManyBatch,
    CountOf: _NumberBatch,
    Exists: _ExistsBatch,
    SumOf: _SumBatch,
}


def _itself(document: dict[str, Any]) -> dict[str, Any]:
    return document


def _copier() -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Return a function that gives a document itself the first time, and then copies of it."""
    copies: dict[int, Callable[[dict[str, Any]], dict[str, Any]] | None] = {}

    def own(document: dict[str, Any]) -> dict[str, Any]:
        copy = copies.get(id(document), _itself)
        if copy is _itself:
            copies[id(document)] = None
            return document
        if copy is None:  # (most documents hold nothing that could be changed within them)
            copies[id(document)] = copy = fresh if {dict, list} & set(map(type, document.values())) else dict.copy
        return copy(document)

    return own


def add_up(numbers: Sequence[Any]) -> Any:
    """Add the sums of several groups as the server adds: in the widest of their types."""
    if any(isinstance(number, Decimal128) for number in numbers):
        exact = (n.to_decimal() if isinstance(n, Decimal128) else Decimal(n) for n in numbers)
        with localcontext(create_decimal128_context()) as context:
            return Decimal128(sum(exact, start=context.create_decimal(0)))
    if any(isinstance(number, float) for number in numbers):
        try:
            return math.fsum(numbers)
        except (OverflowError, ValueError):  # infinities, or a sum that is one
            return sum(map(float, numbers))
    total = sum(numbers)
    return total if -_INT64 <= total < _INT64 else float(total)
