"""Whether an index serves a join, read from the definitions of the indexes alone. Pure.

What is asked of the joined collection is always `{foreign: {$in: keys}, **where}`, where no key is null, and by a
`$lookup` the same for one parent at a time. The rules are those of the server's planner, as far as definitions tell:
where they do not (a value that only a call gives; a path that may lead through a list), an index does not count. So an
index that counts is used, and one that does not count may be used all the same. Each rule is tested against the
planner of a real server.

Keys that are documents or lists are not looked up in a wildcard index, which the server cannot do: definitions do not
tell that there are any.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from bson import Regex
from bson.errors import InvalidDocument

from mongopatterns.expressions import bson_identity
from mongopatterns.indexes import Index

__all__ = ["serves_sort", "unique_on", "usable", "wanted"]

Definition = Mapping[str, Any]
"""An index as `list_indexes` gives it."""

_EVERYTHING: Final = "$**"
_NONE: Final = object()


def usable(
    indexes: Iterable[Definition], foreign: str, equal: Iterable[str] = (), where: Mapping[str, Any] | None = None
) -> str | None:
    """Find an index by which the server finds the documents of some keys.

    Args:
        indexes: The indexes of the joined collection.
        foreign: The path of the keys in it.
        equal: The paths that `where` compares with one value each.
        where: The filter of the join. A value in it that is not of BSON, such as a `Param`, is one that nobody knows.

    Returns:
        The name of the first such index; None if there is none.
    """
    return next((index["name"] for index in _usable(indexes, foreign, frozenset(equal), where or {})), None)


def serves_sort(
    indexes: Iterable[Definition],
    foreign: str,
    sort: Sequence[tuple[str, int]],
    equal: Iterable[str] = (),
    where: Mapping[str, Any] | None = None,
) -> bool:
    """Tell whether such an index also gives the documents of each key in an order, so that none are sorted.

    Args:
        indexes: The indexes of the joined collection.
        foreign: The path of the keys in it.
        sort: The order, as pairs of a path and 1 or -1, with the tie-breaker if there is one.
        equal: The paths that `where` compares with one value each.
        where: The filter of the join.
    """
    paths = frozenset(equal)
    return any(
        _gives_order(list(index["key"].items()), foreign, sort, paths)
        for index in _usable(indexes, foreign, paths, where or {})
    )


def unique_on(indexes: Iterable[Definition], foreign: str, where: Mapping[str, Any] | None = None) -> bool:
    """Tell whether at most one document that matches `where` has a given key (which is no list).

    A unique index says so if it has every such document, on whatever order, collation or hidden state: it refuses a
    second one all the same.

    Args:
        indexes: The indexes of the joined collection.
        foreign: The path of the keys in it.
        where: The filter of the join.
    """
    return any(
        list(index["key"]) == [foreign]
        and (index.get("unique", False) or foreign == "_id")
        and _has_all(index, foreign, where or {})
        for index in indexes
    )


def wanted(foreign: str, equal: Iterable[str] = (), sort: Iterable[tuple[str, int]] = ()) -> Index | None:
    """Return the index that serves a join best; None where every collection has it.

    The path of the keys comes first, so that the index serves other joins on it, too.

    Args:
        foreign: The path of the keys in the joined collection.
        equal: The paths that the join's filter compares with one value each.
        sort: The order that the join asks for.
    """
    if foreign == "_id":
        return None
    keys: dict[str, int] = {foreign: 1, **dict.fromkeys(equal, 1)}
    for path, direction in sort:
        keys.setdefault(path, direction)
    return Index(*keys.items())


# Usable ------------------------------------------------------------------------------------------------------


def _usable(
    indexes: Iterable[Definition], foreign: str, equal: frozenset[str], where: Mapping[str, Any]
) -> Iterator[Definition]:
    for index in indexes:
        keys = dict(index["key"])
        if (
            not index.get("hidden")
            and index.get("collation", {}).get("locale", "simple") == "simple"
            and (_is_wildcard_for(index, foreign) or _leads_to(keys, foreign, equal, where, index.get("sparse")))
            and _has_all(index, foreign, where)
        ):
            yield index


def _leads_to(
    keys: Mapping[str, Any], foreign: str, equal: frozenset[str], where: Mapping[str, Any], sparse: object
) -> bool:
    """Tell whether the keys of an index begin with equalities, and go on with the foreign path."""
    # (an index of another kind, for text or places, has no documents without such a value)
    if foreign not in keys or any(kind != "hashed" and isinstance(kind, str) for kind in keys.values()):
        return False
    leading = list(keys)[: list(keys).index(foreign)]
    return all(
        path in equal
        and not _is_pattern(where.get(path))
        # What lies in one list does not narrow an index down together.
        and not _are_kin(path, foreign)
        # A sparse index is not asked for null: it may not have such a document.
        and not (sparse and any(_constant(where, path) is value for value in (None, _NONE)))
        for path in leading
    )


def _is_wildcard_for(index: Definition, foreign: str) -> bool:
    """Tell whether an index of all paths, or of all below one, has a path."""
    (root, direction), *more = index["key"].items()
    if more or isinstance(direction, str) or not root.endswith(_EVERYTHING):
        return False  # (those with more keys are of newer servers, with rules of their own)
    if root != _EVERYTHING:
        return _is_below(foreign, root.removesuffix(f".{_EVERYTHING}"))
    projection = dict(index.get("wildcardProjection", {}))
    has_id = bool(projection.pop("_id", False))
    if _is_below(foreign, "_id"):
        return has_id
    if any(projection.values()) or (has_id and not projection):
        # (a path that is written as documents in documents does not count)
        return any(_is_below(foreign, path) for path, kept in projection.items() if not isinstance(kept, Mapping))
    return not any(_is_below(foreign, path) or _is_below(path, foreign) for path in projection)


def _is_below(path: str, root: str) -> bool:
    return path == root or path.startswith(f"{root}.")


def _are_kin(path: str, other: str) -> bool:
    """Tell whether two paths lead through one field, which may hold a list."""
    return path.split(".", maxsplit=1)[0] == other.split(".", maxsplit=1)[0]


def _gives_order(
    keys: list[tuple[str, Any]], foreign: str, sort: Sequence[tuple[str, int]], equal: frozenset[str]
) -> bool:
    """Tell whether what follows the foreign path in an index is an order, forwards or backwards."""
    if not sort:
        return True
    paths = [path for path, _ in keys]
    # (of several keys the server merges what an index gives for each, but not by a path that is equal anyway)
    if foreign not in paths or any(path in equal or _are_kin(path, foreign) for path, _ in sort):
        return False
    given = [(path, way) for path, way in keys[paths.index(foreign) + 1 :] if path not in equal][: len(sort)]
    return any(given == [(path, way * turn) for path, way in sort] for turn in (1, -1))


# Partial indexes -----------------------------------------------------------------------------------------------


def _has_all(index: Definition, foreign: str, where: Mapping[str, Any]) -> bool:
    """Tell whether an index has every document that has a key and matches the filter."""
    return all(
        _is_implied(path, test, foreign, where) for path, test in _terms(index.get("partialFilterExpression", {}))
    )


def _terms(condition: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """List what must all hold for a document to be in a partial index."""
    for path, test in condition.items():
        if path == "$and":
            for each in test:
                yield from _terms(each)
        else:
            yield path, test


def _is_implied(path: str, test: Any, foreign: str, where: Mapping[str, Any]) -> bool:
    """Tell whether a term holds for every document that has a key and matches the filter."""
    if path.startswith("$"):
        return False
    tests = test if _is_operators(test) else {"$eq": test}
    if path in where and _identity(where[path]) == _identity(test) != _NONE:
        return True
    constant = _constant(where, path)
    if constant is _NONE:
        # A key is never null, and nothing else is known of it.
        return path == foreign and list(tests) == ["$exists"] and bool(tests["$exists"])
    return all(_holds(operator, value, constant) for operator, value in tests.items())


def _holds(operator: str, value: Any, constant: Any) -> bool:
    """Tell whether a constant passes one test; of most kinds of tests that is not known here."""
    if operator == "$exists":
        return bool(value) and constant is not None  # (the server says no of null: what is missing equals it)
    values = [value] if operator == "$eq" else value if operator == "$in" else []
    return any(_identity(constant) == _identity(each) for each in values)


def _constant(where: Mapping[str, Any], path: str) -> Any:
    """Return the value that a filter wants at a path; `_NONE` if that is not one value, or not known."""
    test = where.get(path, _NONE)
    if _is_operators(test):
        test = test["$eq"] if list(test) == ["$eq"] else _NONE
    elif _is_pattern(test):
        test = _NONE
    return _NONE if _identity(test) is _NONE else test


def _is_operators(test: Any) -> bool:
    return isinstance(test, Mapping) and any(str(name).startswith("$") for name in test)


def _is_pattern(test: Any) -> bool:
    return isinstance(test, (Regex, re.Pattern))


def _identity(value: Any) -> Any:
    """Return what is equal for two values that the server finds equal; `_NONE` for what is no value of BSON."""
    try:
        return bson_identity(value)
    except InvalidDocument:
        return _NONE
