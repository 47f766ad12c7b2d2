"""Of documents that share what is to be unique, one stays. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from pymongo.errors import OperationFailure

from mongopatterns.errors import UsageError
from mongopatterns.expressions import bson_identity
from mongopatterns.indexes import Index
from mongopatterns.schema._schema_checks import duplicate_groups
from mongopatterns.schema._steps import Round, Send, Steps
from mongopatterns.specs import check_sort
from mongopatterns.verdicts import Verdict

__all__ = ["MergeResult", "merging"]

MOST: Final = 100_000
_GROUPS: Final = 100  # values that are looked at in one go
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
    order = dict(keep)
    order.setdefault("_id", 1)
    removed: list[dict[str, Any]] = []
    while True:
        groups = yield from _groups(collection, index, collation)
        if not groups:
            return MergeResult(tuple(removed), complete=True)
        found = yield from _ordered(collection, [one for group in groups for one in group["ids"]], order)
        places = {bson_identity(key): place for place, key in enumerate(found)}
        going: dict[Any, dict[str, Any]] = {}
        for group in groups:
            ranked = sorted(
                (one for one in group["ids"] if bson_identity(one) in places),
                key=lambda one: places[bson_identity(one)],
            )
            # (one that goes already, for another of its values, is not the one that stays)
            staying = [one for one in ranked if bson_identity(one) not in going]
            for one in staying[1:]:
                going[bson_identity(one)] = _query(index, one, group["value"])
        wanted = list(going.values())[: limit - len(removed)]
        for start in range(0, len(wanted), _AT_ONCE):
            steps: Round = [_removal(collection, query, collation) for query in wanted[start : start + _AT_ONCE]]
            replies = [_reply(answer) for answer in (yield steps)]
            removed += [reply["value"] for reply in replies if reply.get("value") is not None]
        if len(removed) >= limit:
            left = yield from _groups(collection, index, collation)
            return MergeResult(tuple(removed), complete=not left)


def _groups(collection: str, index: Index, collation: Mapping[str, Any]) -> Steps[list[dict[str, Any]]]:
    stages = duplicate_groups(index)
    grouping = stages[-2]["$group"]
    together = {"_id": grouping["_id"], "number": grouping["number"], "ids": {"$push": "$_id.id"}}
    shown = {"_id": 0, "value": "$_id", "ids": 1}
    pipeline = [*stages[:-2], {"$group": together}, stages[-1], {"$limit": _GROUPS}, {"$project": shown}]
    asked = {"aggregate": collection, "pipeline": pipeline, "cursor": {"batchSize": _GROUPS}, "allowDiskUse": True}
    (answer,) = yield [Send({**asked, **collation, "comment": _COMMENT})]
    found: list[dict[str, Any]] = _reply(answer)["cursor"]["firstBatch"]
    return found


def _ordered(collection: str, ids: Sequence[Any], order: Mapping[str, int]) -> Steps[list[Any]]:
    """Return ids in the order of their documents."""
    stages: list[dict[str, Any]] = [
        {"$match": {"_id": {"$in": list(ids)}}},
        {"$sort": dict(order)},
        {"$group": {"_id": None, "ids": {"$push": "$_id"}}},
    ]
    (answer,) = yield [Send({"aggregate": collection, "pipeline": stages, "cursor": {}, "comment": _COMMENT})]
    batch = _reply(answer)["cursor"]["firstBatch"]
    return batch[0]["ids"] if batch else []


def _query(index: Index, one: Any, value: Mapping[str, Any]) -> dict[str, Any]:
    """Find a document if it still has the value that it shares with others."""
    values = zip(index.keys, value.values(), strict=True)
    return {"_id": {"$eq": one}, "$and": [{path: {"$eq": shared}} for (path, _), shared in values]}


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
