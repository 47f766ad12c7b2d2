"""The indexes of a collection as plain values: pure, so that specs can name them without a server.

What the server refuses is refused here, with the reason, when the index is defined.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from mongopatterns.errors import UsageError
from mongopatterns.expressions import check_path, copied

__all__ = ["Index", "Key"]

Key: TypeAlias = tuple[str, int | str]
"""A field path, and 1, -1, `"hashed"`, `"text"` or `"2dsphere"`."""

_LONGEST: Final = 2**31 - 1
_MOST_KEYS: Final = 32
_MOST_WEIGHT: Final = 99_999
_PLUGINS: Final = ("hashed", "text", "2dsphere")
_EVERYTHING: Final = "$**"
# What a partial index's filter may ask for; `$and` and `$or` of these as well. (`$in` and `$or` since 6.0.)
_PARTIAL: Final = ("$all", "$eq", "$exists", "$gt", "$gte", "$in", "$lt", "$lte", "$type")
_PLACES: Final = ("$geoIntersects", "$geoWithin")


@dataclass(frozen=True, slots=True, init=False, repr=False)
class Index:
    """Name the keys and options of one index.

    Create it with any driver: `collection.create_index(index.keys, **index.options)`; or let a `Schema` do it.

    A key is a path, which is ascending, or a pair of a path and its kind: 1 or -1; `"hashed"`, which finds one value
    and knows no order; `"text"`, for words; `"2dsphere"`, for places. The path `"$**"` alone, or `"a.$**"`, stands for
    all paths, or for all below one: a wildcard index.

    Attributes:
        keys: Pairs of a field path and its kind.
        unique: Whether no two documents may share the keys' values. A field that is missing counts as null, and two
            nulls are equal: where a field may be missing or null, add `where={path: {"$type": "string"}}`, or whatever
            type it has. (`sparse=True` lets any number of documents be without it, and refuses a second null.)
        expire_after: Seconds after the date in the field when the server deletes the document; None: never.
        where: The filter that a document must match to be in the index; None: every document is.
        collation: How the index compares text; None: as its collection does.
        sparse: Whether documents that have none of the keys are left out. `where=` says more exactly what is in.
        hidden: Whether queries do not use it. It is kept up to date, and unique if it is.
        weights: Of an index of text, how much a word in each of its fields counts; 1 if it is not said.
        default_language: Of an index of text, the language of its documents; None: English.
        projection: Of the wildcard index `"$**"`, the paths that are in, or those that are not: `{path: 1}` or
            `{path: 0}`.
        name: What the server calls it; None: as the keys are.

    Raises:
        UsageError: If a key or an option is none, or the server refuses them together.
    """

    keys: tuple[Key, ...]
    unique: bool
    expire_after: int | None
    where: Mapping[str, Any] | None = field(hash=False)
    collation: Mapping[str, Any] | None = field(hash=False)
    sparse: bool
    hidden: bool
    weights: Mapping[str, int] | None = field(hash=False)
    default_language: str | None
    projection: Mapping[str, int] | None = field(hash=False)
    name: str | None

    def __init__(
        self,
        *keys: str | Key,
        unique: bool = False,
        where: Mapping[str, Any] | None = None,
        collation: Mapping[str, Any] | None = None,
        sparse: bool = False,
        hidden: bool = False,
        weights: Mapping[str, int] | None = None,
        default_language: str | None = None,
        projection: Mapping[str, int] | None = None,
        name: str | None = None,
    ) -> None:
        given = {
            "keys": tuple((key, 1) if isinstance(key, str) else _pair(key) for key in keys),
            "unique": unique,
            "expire_after": None,
            "where": where,
            "collation": collation,
            "sparse": sparse,
            "hidden": hidden,
            "weights": weights,
            "default_language": default_language,
            "projection": projection,
            "name": name,
        }
        for attribute, value in given.items():
            object.__setattr__(self, attribute, copied(value) if isinstance(value, Mapping) else value)
        _check(self)

    @classmethod
    def ttl(
        cls,
        path: str,
        *,
        after: float | dt.timedelta = 0,
        where: Mapping[str, Any] | None = None,
        name: str | None = None,
    ) -> Index:
        """Name the index by which the server deletes documents, `after` seconds past the date at `path`.

        It looks about once a minute. A document without a date there stays.

        Args:
            path: The path of the date.
            after: Whole seconds, or a `timedelta` of such.
            where: The filter that a document must match to be deleted; None: every one is.
            name: What the server calls the index.

        Raises:
            UsageError: If `after` is no whole number of seconds from 0 to 2**31 - 1, or the path is `_id`.
        """
        seconds = whole_seconds("Index.ttl", "after", after)
        if path == "_id":
            raise UsageError("Index.ttl", "the server deletes nothing by _id: use a field that holds a date")
        index = cls(path, where=where, name=name)
        if _EVERYTHING in path:
            raise UsageError("Index.ttl", "a wildcard index deletes nothing: name the field that holds the date")
        object.__setattr__(index, "expire_after", seconds)
        return index

    def __str__(self) -> str:
        """Return the index as it is written, without its options."""
        keys = (repr(path) if kind == 1 else repr((path, kind)) for path, kind in self.keys)
        return f"Index({', '.join(keys)})"

    def __repr__(self) -> str:
        """Return the index as it is written, with what is said of it."""
        keys = str(self).removeprefix("Index(").removesuffix(")")
        names = (
            "unique",
            "sparse",
            "hidden",
            "where",
            "collation",
            "weights",
            "default_language",
            "projection",
            "name",
        )
        options = [f"{name}={getattr(self, name)!r}" for name in names if getattr(self, name)]
        if self.expire_after is not None:
            return f"Index.ttl({', '.join([keys, f'after={self.expire_after}', *options])})"
        return f"Index({', '.join([keys, *options])})"

    @property
    def options(self) -> dict[str, Any]:
        """The options as `create_index` takes them."""
        said = {
            "name": self.name,
            "unique": self.unique or None,
            "expireAfterSeconds": self.expire_after,
            "partialFilterExpression": self.where,
            "collation": self.collation,
            "sparse": self.sparse or None,
            "hidden": self.hidden or None,
            "weights": self.weights,
            "default_language": self.default_language,
            "wildcardProjection": self.projection,
        }
        return {
            option: dict(value) if isinstance(value, Mapping) else value
            for option, value in said.items()
            if value is not None
        }

    @property
    def is_text(self) -> bool:
        """Whether it is an index of text: a collection has one of these at most."""
        return any(kind == "text" for _, kind in self.keys)

    @property
    def is_wildcard(self) -> bool:
        """Whether it stands for all paths, or for all below one."""
        return not self.is_text and self.keys[0][0].endswith(_EVERYTHING)


def whole_seconds(argument: str, name: str, value: object, *, least: int = 0) -> int:
    """Return a time as whole seconds.

    Raises:
        UsageError: If it is none, or the server has no place for it.
    """
    seconds = value.total_seconds() if isinstance(value, dt.timedelta) else value
    whole = not isinstance(seconds, bool) and isinstance(seconds, (int, float)) and seconds == seconds // 1
    if not whole or not least <= seconds <= _LONGEST:  # type: ignore[operator]
        raise UsageError(argument, f"expected {name}= in whole seconds from {least} to {_LONGEST}, got {value!r}")
    return int(seconds)  # type: ignore[call-overload,no-any-return]


# Checked -----------------------------------------------------------------------------------------------------


def _pair(key: object) -> Key:
    if not isinstance(key, (tuple, list)) or len(key) != 2:  # noqa: PLR2004  # a pair
        raise UsageError("Index.keys", f"expected a path or a pair such as ('created_at', -1), got {key!r:.100}")
    return key[0], key[1]


def _check(index: Index) -> None:
    _check_keys(index)
    _check_options(index)
    for wrong, problem in _refused(index):
        if wrong:
            raise UsageError("Index", f"{index}: {problem}")


def _check_keys(index: Index) -> None:
    if not index.keys:
        raise UsageError("Index.keys", "name at least one path")
    if len(index.keys) > _MOST_KEYS:
        raise UsageError("Index.keys", f"an index has at most {_MOST_KEYS} keys, got {len(index.keys)}")
    for path, kind in index.keys:
        root = path.removesuffix(_EVERYTHING) if isinstance(path, str) else path
        if root != "":
            check_path("Index.keys", root.removesuffix(".") if root != path else path)
        if kind not in (1, -1, *_PLUGINS) or isinstance(kind, (bool, float)):
            raise UsageError("Index.keys", f"{path!r} is 1, -1, 'hashed', 'text' or '2dsphere', not {kind!r:.100}")
    paths = [path for path, _ in index.keys]
    for path in paths:
        if paths.count(path) > 1:
            raise UsageError("Index.keys", f"{path!r} is named twice")


def _check_options(index: Index) -> None:
    for name, value in (("unique", index.unique), ("sparse", index.sparse), ("hidden", index.hidden)):
        if not isinstance(value, bool):
            raise UsageError(f"Index.{name}", f"expected True or False, got {value!r:.100}")
    for name, text in (("default_language", index.default_language), ("name", index.name)):
        if text is not None and (not isinstance(text, str) or not text or "\0" in text):
            raise UsageError(f"Index.{name}", f"expected text, got {text!r:.100}")
    if index.name in ("*", "_id_"):
        raise UsageError("Index.name", f"{index.name!r} is the server's own: choose another name")
    check_collation("Index.collation", index.collation)
    _check_paths(index)
    if index.where is not None:
        _check_where(index.where)


def _check_paths(index: Index) -> None:
    for path, weight in _pairs("weights", index.weights):
        if type(weight) is not int or not 0 < weight <= _MOST_WEIGHT:
            problem = f"the weight of {path!r} is a whole number from 1 to {_MOST_WEIGHT}, not {weight!r:.100}"
            raise UsageError("Index.weights", problem)
    for path, kept in _pairs("projection", index.projection):
        check_path("Index.projection", path)
        if type(kept) is not int or kept not in (0, 1):
            raise UsageError("Index.projection", f"{path!r} is 1 or 0, not {kept!r:.100}")


def _pairs(name: str, value: Any) -> Iterable[tuple[Any, Any]]:
    if value is None:
        return ()
    if not isinstance(value, Mapping) or not value:
        raise UsageError(f"Index.{name}", f"expected a dict of paths, got {value!r:.100}")
    return value.items()


def check_collation(argument: str, value: object) -> None:
    """Refuse what is no collation.

    Raises:
        UsageError: If it is no dict with a locale.
    """
    if value is not None and (not isinstance(value, Mapping) or not isinstance(value.get("locale"), str)):
        raise UsageError(argument, f"expected a dict such as {{'locale': 'en', 'strength': 2}}, got {value!r:.100}")
    for name, said in (value or {}).items():
        if said is None:
            raise UsageError(argument, f"{name!r} is None, which says nothing: leave it out")


def _check_where(where: object) -> None:
    if not isinstance(where, Mapping) or not where:
        raise UsageError("Index.where", f"expected a filter such as {{'ended_at': None}}, got {where!r:.100}")
    for path, test in where.items():
        if path in ("$and", "$or"):
            if not isinstance(test, (list, tuple)) or not test:
                raise UsageError("Index.where", f"{path} takes a list of filters, got {test!r:.100}")
            for each in test:
                _check_where(each)
            continue
        operators = test if isinstance(test, Mapping) and any(str(key).startswith("$") for key in test) else {}
        for operator in (path, *operators) if path.startswith("$") else operators:
            if operator not in (*_PARTIAL, *_PLACES):
                problem = f"{operator} cannot say what is in an index; {', '.join(_PARTIAL)}, $and and $or can"
                raise UsageError("Index.where", problem)
        if operators.get("$exists", True) is not True and not operators["$exists"]:
            problem = f"{{'$exists': False}} cannot say what is in an index: {{{path!r}: None}} covers missing and null"
            raise UsageError("Index.where", problem)


def _refused(index: Index) -> Iterable[tuple[bool, str]]:
    """List what the server refuses, each with the reason."""
    kinds = [kind for _, kind in index.keys]
    plugins = {kind for kind in kinds if kind in _PLUGINS}
    paths = [path for path, _ in index.keys]
    wild = [path for path, kind in index.keys if path.endswith(_EVERYTHING) and kind != "text"]
    places = [place for place, kind in enumerate(kinds) if kind == "text"]
    text = [path for path, kind in index.keys if kind == "text"]
    simple = index.collation is None or index.collation["locale"] == "simple"
    inclusive = {kept for path, kept in (index.projection or {}).items() if path != "_id"}
    yield index.keys == (("_id", 1),), "every collection has this index: leave it out"
    yield index.keys == (("_id", -1),), "the index on _id is read in both directions: leave it out"
    yield len(plugins) > 1, f"{' and '.join(sorted(map(str, plugins)))} cannot be in one index"
    yield kinds.count("hashed") > 1, "one key at most is hashed"
    yield index.unique and "hashed" in kinds, "a hash cannot keep values unique: use an index on the values"
    yield (
        index.sparse and index.where is not None,
        "sparse and where cannot be combined: say all of it in where",
    )
    yield bool(wild) and len(paths) > 1, "a wildcard index has no other keys"
    yield bool(wild) and kinds != [1], "a wildcard index is ascending"
    yield bool(wild) and index.unique, "a wildcard index cannot keep values unique: name the path"
    yield bool(wild) and index.sparse, "a wildcard index leaves out what is missing by itself"
    yield index.projection is not None and wild != ["$**"], "projection= goes with the wildcard index '$**' alone"
    yield len(inclusive) > 1, "projection= names paths that are in, or paths that are not, and no mixture"
    yield bool(places) and places != list(range(places[0], places[-1] + 1)), "keys of text stand next to each other"
    yield any(_EVERYTHING in path for path in text) and text != ["$**"], "the text of all fields is '$**' alone"
    yield index.weights is not None and not text, "weights= goes with keys of text"
    yield index.default_language is not None and not text, "default_language= goes with keys of text"
    others = [path for path in index.weights or () if path not in text]
    yield bool(others) and text != ["$**"], f"weights= names {', '.join(others)}, which is no key of text here"
    yield bool(text) and not simple, "words are compared by their language: an index of text has no collation"
    yield bool(text) and index.sparse, "an index of text leaves out what has no text by itself"
    yield "2dsphere" in kinds and index.sparse, "an index of places leaves out what has no place by itself"
