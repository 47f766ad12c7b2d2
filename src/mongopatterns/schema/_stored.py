"""What the server says of collections and indexes, and what it means. Pure.

An index is compared by what it does, never by its name: the same keys in the same order, unique or not, over the same
documents, with text compared in the same way. What the server fills in by itself (a collation's defaults, a weight of
1, the language of an index of text) is filled in here too.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from bson.decimal128 import Decimal128

from mongopatterns.expressions import bson_identity
from mongopatterns.indexes import Index, Key

__all__ = [
    "Meaning",
    "StoredCollection",
    "StoredIndex",
    "collation_meaning",
    "default_name",
    "filter_meaning",
    "fitted",
    "fitted_collation",
    "meaning_of",
    "read_collections",
    "read_index",
]

_COLLATION: Final[dict[str, Any]] = {
    "caseLevel": False,
    "caseFirst": "off",
    "strength": 3,
    "numericOrdering": False,
    "alternate": "non-ignorable",
    "maxVariable": "punct",
    "normalization": False,
    "backwards": False,
}
"""What a collation is where it says nothing else, in most locales."""

_OF_LOCALES: Final = ("caseFirst", "alternate", "normalization", "backwards")
"""What a locale may have otherwise by itself: Danish has large letters first, French of Canada accents from the end."""


# Indexes -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Meaning:
    """What an index does, as values that are equal for two indexes that do the same.

    Attributes:
        keys: Pairs of a path and its kind; of an index of text the fields that stand beside the text.
        unique: Whether it keeps values unique.
        sparse: Whether documents without the keys are left out.
        where: Which documents are in it.
        collation: How text is compared.
        projection: Which paths are in, of a wildcard index.
        expire_after: After how many seconds documents are deleted.
        weights: The fields of an index of text, and what they count.
        language: Their language.
        hidden: Whether queries do not use it.
    """

    keys: tuple[Key, ...]
    unique: bool
    sparse: bool
    where: Any
    collation: Any
    projection: Any
    expire_after: int | None
    weights: Any
    language: str | None
    hidden: bool

    @property
    def signature(self) -> tuple[Any, ...]:
        """What two indexes of one collection may not share: the server refuses the second."""
        if self.weights is not None:
            return ("text",)
        return self.keys, self.unique, self.sparse, self.where, self.collation, self.projection

    @property
    def place(self) -> tuple[Any, ...]:
        """What an index is an index of: one of a spec replaces others of the same place."""
        return ("text",) if self.weights is not None else self.keys


@dataclass(frozen=True, slots=True)
class StoredIndex:
    """An index that is there.

    Attributes:
        name: Its name.
        meaning: What it does.
        keys: Its keys as the server lists them.
        preparing: Whether it already refuses what would not be unique (`prepareUnique`), without being unique.
        is_own: Whether the collection has it by itself: the index on `_id`, or that of a time-series collection.
        building: Whether it is still being built: it serves no query yet, and the build may fail.
    """

    name: str
    meaning: Meaning
    keys: tuple[Key, ...]
    preparing: bool
    is_own: bool
    building: bool

    def __str__(self) -> str:
        """Return the index as it is written in a spec, without its options."""
        keys = self.meaning.keys if self.meaning.weights is None else self.keys
        shown = (repr(path) if kind == 1 else repr((path, kind)) for path, kind in keys)
        return f"Index({', '.join(shown)})"


def read_index(listed: Mapping[str, Any], timeseries: Mapping[str, Any] | None = None) -> StoredIndex:
    """Read an index as `listIndexes` gives it: with `includeBuildUUIDs`, which tells those that are being built."""
    building = "buildUUID" in listed
    listed = listed.get("spec", listed)
    keys = tuple((path, _kind(kind)) for path, kind in listed["key"].items())
    weights = listed.get("weights")
    meaning = Meaning(
        keys=_without_text(keys),
        unique=bool(listed.get("unique")),
        # (these never have documents without a value, whether they say so or not)
        sparse=bool(listed.get("sparse")) and weights is None and all(kind != "2dsphere" for _, kind in keys),
        where=filter_meaning(listed.get("partialFilterExpression")),
        collation=collation_meaning(listed.get("collation")),
        projection=_projection_meaning(listed.get("wildcardProjection")),
        expire_after=None if (after := listed.get("expireAfterSeconds")) is None else int(after),
        weights=None if weights is None else frozenset(weights.items()),
        language=None if weights is None else listed.get("default_language", "english"),
        hidden=bool(listed.get("hidden")),
    )
    is_own = listed["name"] == "_id_" or bool(listed.get("clustered"))
    if timeseries is not None and "metaField" in timeseries:  # newer servers make one
        is_own |= keys == ((timeseries["metaField"], 1), (timeseries["timeField"], 1))
    return StoredIndex(listed["name"], meaning, keys, bool(listed.get("prepareUnique")), is_own, building)


def meaning_of(index: Index, default: Mapping[str, Any] | None) -> Meaning:
    """Return what an index of a spec does, in a collection of this default collation."""
    text = [path for path, kind in index.keys if kind == "text"]
    return Meaning(
        keys=tuple(key for key in index.keys if key[1] != "text"),
        unique=index.unique,
        sparse=index.sparse,
        where=filter_meaning(index.where),
        collation=None if text else collation_meaning(index.collation or default),
        projection=_projection_meaning(index.projection),
        expire_after=index.expire_after,
        weights=frozenset({**dict.fromkeys(text, 1), **(index.weights or {})}.items()) if text else None,
        language=(index.default_language or "english") if text else None,
        hidden=index.hidden,
    )


def default_name(index: Index) -> str:
    """Return what the drivers call an index that has no name of its own."""
    return "_".join(f"{path}_{kind}" for path, kind in index.keys)


def _kind(kind: Any) -> int | str:
    if isinstance(kind, str):
        return kind
    return 1 if (kind.to_decimal() if isinstance(kind, Decimal128) else kind) > 0 else -1


def _without_text(keys: Sequence[Key]) -> tuple[Key, ...]:
    return tuple(key for key in keys if key[0] not in ("_fts", "_ftsx"))


def _projection_meaning(projection: Mapping[str, Any] | None) -> Any:
    return None if projection is None else frozenset(_projected(projection, ""))


def _projected(projection: Mapping[str, Any], above: str) -> Iterator[tuple[str, bool]]:
    for path, kept in projection.items():
        if isinstance(kept, Mapping):
            yield from _projected(kept, f"{above}{path}.")
        else:
            yield f"{above}{path}", bool(kept)


def collation_meaning(collation: Mapping[str, Any] | None) -> Any:
    """Return what is equal for two collations that compare text in the same way; None for that of bytes."""
    if collation is None or collation["locale"] == "simple":
        return None
    filled = {**_COLLATION, **collation}
    filled.pop("version", None)  # that of the library, which the server chooses
    return frozenset(filled.items())


def fitted_collation(stored: Any, said: Mapping[str, Any] | None) -> Any:
    """Return the meaning of a stored collation beside one that is said.

    What the said one leaves to the locale is what the server made of it, whatever that is: it differs by locale, and
    the server alone knows it.
    """
    if stored is None or said is None or ("locale", said["locale"]) not in stored:
        return stored
    left = {name: _COLLATION[name] for name in _OF_LOCALES if name not in said}
    return frozenset({**dict(stored), **left}.items())


def fitted(stored: Meaning, index: Index) -> Meaning:
    """Return what a stored index does, beside an index of a spec that leaves something to the locale."""
    return replace(stored, collation=fitted_collation(stored.collation, index.collation))


def filter_meaning(condition: Mapping[str, Any] | None) -> Any:
    """Return what is equal for two filters that say the same, as far as their form tells: their terms in any order."""
    if not condition:
        return None
    terms = list(_terms(condition))
    return frozenset(terms)


def _terms(condition: Mapping[str, Any]) -> Iterator[Any]:
    for path, test in condition.items():
        if path == "$and":
            for each in test:
                yield from _terms(each)
        elif path == "$or":
            yield path, frozenset(filter_meaning(each) for each in test)
        elif isinstance(test, Mapping) and any(str(name).startswith("$") for name in test):
            for operator, value in test.items():
                yield path, operator, _operand(operator, value)
        else:
            yield path, "$eq", bson_identity(test)


def _operand(operator: str, value: Any) -> Any:
    if operator == "$in" and isinstance(value, (list, tuple)):
        return frozenset(bson_identity(each) for each in value)
    return bool(value) if operator == "$exists" else bson_identity(value)


# Collections -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class StoredCollection:
    """A collection that is there, or a view.

    Attributes:
        name: Its name.
        kind: `"collection"`, `"timeseries"` or `"view"`.
        options: Its options, as `listCollections` gives them.
        indexes: Its indexes.
    """

    name: str
    kind: str
    options: Mapping[str, Any] = field(hash=False)
    indexes: tuple[StoredIndex, ...] = ()


def read_collections(
    listed: Iterable[Mapping[str, Any]], indexes: Mapping[str, Iterable[Mapping[str, Any]]]
) -> dict[str, StoredCollection]:
    """Read collections as `listCollections` and `listIndexes` give them."""
    found = {}
    for one in listed:
        name, kind, options = one["name"], one.get("type", "collection"), one.get("options", {})
        series = options.get("timeseries")
        read = tuple(read_index(each, series) for each in indexes.get(name, ()))
        found[name] = StoredCollection(name, kind, options, read)
    return found
