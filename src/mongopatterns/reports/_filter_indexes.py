"""Which index leads to the documents of a report, read from the definitions of the indexes alone. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from mongopatterns.filters import is_equality
from mongopatterns.findings import Finding, Severity
from mongopatterns.indexes import Index

_RANGE: Final = frozenset({"$gt", "$gte", "$lt", "$lte", "$in"})


def unserved(
    collection: str, filters: Sequence[Mapping[str, Any]], indexes: Sequence[Mapping[str, Any]]
) -> list[Finding]:
    """Tell that no index leads to the documents of a filter, if so.

    An index leads to them if its first path is one that the filter compares: how many documents it leaves out is not
    known here.

    Args:
        collection: The collection's name.
        filters: What all documents must match, together.
        indexes: The indexes of the collection, as `list_indexes` gives them.
    """
    equal, ranged = _compared(filters)
    if "_id" in (*equal, *ranged) or not (equal or ranged):
        return []
    leading = {next(iter(index["key"])) for index in indexes if not index.get("hidden") and not _is_partial(index)}
    if leading & {*equal, *ranged}:
        return []
    # Equalities first: an index that begins with a range is read through for the others.
    wanted = Index(*dict.fromkeys((*equal, *ranged[:1])))
    return [
        Finding(
            code="missing-index",
            severity=Severity.WARNING,
            subject=f"{collection}.{wanted.keys[0][0]}",
            evidence=f"no index begins with what the filter compares: every pass reads all of {collection!r}",
            remedy=f"Create {wanted}",
        )
    ]


def _is_partial(index: Mapping[str, Any]) -> bool:
    """Tell whether an index may not have all documents."""
    return "partialFilterExpression" in index or bool(index.get("sparse"))


def _compared(filters: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[str]]:
    """List the paths that must equal one value, and those that must lie in a range."""
    tests = [pair for each in filters for pair in _terms(each)]
    equal = [path for path, test in tests if is_equality(test)]
    ranged = [
        path for path, test in tests if isinstance(test, Mapping) and _RANGE & set(map(str, test)) and path not in equal
    ]
    return list(dict.fromkeys(equal)), list(dict.fromkeys(ranged))


def _terms(where: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """List what must all hold."""
    for name, test in where.items():
        if name == "$and":
            for each in test:
                yield from _terms(each)
        elif not name.startswith("$"):
            yield name, test
