"""Of documents that share what is to be unique, one stays. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from pymongo.errors import OperationFailure

from mongopatterns.errors import UsageError
from mongopatterns.expressions import bson_identity
from mongopatterns.indexes import Index
from mongopatterns.schema._schema_checks import duplicate_groups, indexed
from mongopatterns.schema._steps import Send, Steps
from mongopatterns.specs import check_sort
from mongopatterns.verdicts import Verdict

__all__ = ["MergeResult", "merging"]

MOST: Final = 100_000
_VALUES: Final = 100  # that are looked at in one go
_AT_ONCE: Final = 8
_COMMENT: Final = "mongopatterns.schema.merge_duplicates"


@dataclass(frozen=True)
class MergeResult(Verdict):
    """Tell which documents were removed. True when none is left that shares what is to be unique.

    Attributes:
        removed: The documents as they were.
        complete: Whether these were all.
    """

    removed: tuple[dict[str, Any], ...] = field(hash=False)
    complete: bool

    def __bool__(self) -> bool:
        """Return whether none is left."""
        return self.complete


def checked_limit(limit: object) -> int:
    """Return how many documents are removed at most."""
    if type(limit) is not int or not 1 <= limit <= MOST:
        raise UsageError("limit", f"expected a whole number from 1 to {MOST:,}, got {limit!r:.100}")
    return limit


def merging(
    collection: str,
    index: Index,
    keep: Sequence[tuple[str, int]],
    limit: int,
    default: Mapping[str, Any] | None,
) -> Steps[MergeResult]:
    """Remove all but the first of each value, a hundred values at a time."""
    used = index.collation or default
    collation = {} if used is None else {"collation": dict(used)}
    order = {**dict(keep), "_id": dict(keep).get("_id", 1)}
    removed: list[dict[str, Any]] = []
    while True:
        values = yield from _shared(collection, index, collation)
        if not values or len(removed) >= limit:
            return MergeResult(tuple(removed), complete=not values)
        going: dict[Any, dict[str, Any]] = {}
        for start in range(0, len(values), _AT_ONCE):
            queries = [_having(index, value) for value in values[start : start + _AT_ONCE]]
            most = limit + len(going) + 1
            answers = yield [_ranked(collection, query, order, most, collation) for query in queries]
            for query, answer in zip(queries, answers, strict=True):
                ids = [one["_id"] for one in _reply(answer)["cursor"]["firstBatch"]]
                # (one that goes already, for another of its values, is not the one that stays)
                staying = [one for one in ids if bson_identity(one) not in going]
                going |= {bson_identity(one): {"_id": {"$eq": one}, **query} for one in staying[1:]}
        wanted = list(going.values())[: limit - len(removed)]
        for start in range(0, len(wanted), _AT_ONCE):
            answers = yield [_removal(collection, query, collation) for query in wanted[start : start + _AT_ONCE]]
            gone = [_reply(answer).get("value") for answer in answers]
            removed += [one for one in gone if one is not None]


def _shared(collection: str, index: Index, collation: Mapping[str, Any]) -> Steps[list[dict[str, Any]]]:
    """Return some of the values that several documents have."""
    pipeline = [*duplicate_groups(index), {"$limit": _VALUES}, {"$project": {"_id": 0, "value": "$_id"}}]
    asked = {"aggregate": collection, "pipeline": pipeline, "cursor": {"batchSize": _VALUES}, "allowDiskUse": True}
    (answer,) = yield [Send({**asked, **collation, "comment": _COMMENT})]
    return [one["value"] for one in _reply(answer)["cursor"]["firstBatch"]]


def _having(index: Index, value: Mapping[str, Any]) -> dict[str, Any]:
    """Find the documents that have a value, if they still have it."""
    values = zip(index.keys, value.values(), strict=True)
    return {"$and": [*indexed(index), *({path: {"$eq": shared}} for (path, _), shared in values)]}


def _ranked(
    collection: str, query: Mapping[str, Any], order: Mapping[str, int], most: int, collation: Mapping[str, Any]
) -> Send:
    """Read the ids of the documents that have a value, the one that stays first."""
    asked = {"find": collection, "filter": query, "sort": dict(order), "projection": {"_id": 1}, "limit": most}
    one_answer = {"batchSize": most, "allowDiskUse": True}
    return Send({**asked, **one_answer, **collation, "comment": _COMMENT})


def _removal(collection: str, query: Mapping[str, Any], collation: Mapping[str, Any]) -> Send:
    removal = {"findAndModify": collection, "query": query, "remove": True, "writeConcern": {"w": "majority"}}
    return Send({**removal, **collation, "comment": _COMMENT})


def _reply(answer: Any) -> Mapping[str, Any]:
    if isinstance(answer, OperationFailure):
        raise answer
    return answer  # type: ignore[no-any-return]


def checked_order(keep: object) -> tuple[tuple[str, int], ...]:
    """Return the order by which the first of several documents is the one that stays."""
    order = check_sort("keep", keep)
    if not order:
        raise UsageError("keep", "say which document stays, such as keep=[('updated_at', -1)] for the newest")
    return order
