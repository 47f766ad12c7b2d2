"""Of documents that share what is to be unique, one stays. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from bson import decode
from bson.codec_options import CodecOptions
from bson.raw_bson import RawBSONDocument
from pymongo.errors import OperationFailure

from mongopatterns.errors import UsageError
from mongopatterns.expressions import bson_identity
from mongopatterns.indexes import Index
from mongopatterns.schema._schema_checks import each_value, value_of
from mongopatterns.schema._steps import Send, Steps, reply
from mongopatterns.specs import check_sort
from mongopatterns.verdicts import Verdict

__all__ = ["MergeResult", "merging"]

MOST: Final = 100_000
_PAIRS: Final = 1000  # that are read in one go
_IN_VAIN: Final = 3  # rounds in a row, in which all had been changed
_AT_ONCE: Final = 8
_DUPLICATE: Final = 11000
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
    *,
    codec_options: CodecOptions[Any],
) -> Steps[MergeResult]:
    """Remove all but the first of each value, round by round.

    A document goes for one that stays for certain: that is the first of each of its own values, or for which another
    one has gone before. Each is found by its `_id`, if it is as it was read. Others may do the same in another order,
    and remove the one that stays: so it is looked at before and after. Of all who remove documents of a value, the last
    one then sees that none is left, and stores what it has removed again.
    """
    used = index.collation or default
    collation = {} if used is None else {"collation": dict(used)}
    # What is equal by the index is too little to tell documents apart: by the collection's own collation ids differ.
    # Where values are compared by another one, a document is as it was only if it is so to the letter.
    exact = {} if index.collation in (None, default) else {"collation": {"locale": "simple"}}
    order = {**dict(keep), "_id": dict(keep).get("_id", 1)}
    shape = _shape(index, order)
    removed: list[dict[str, Any]] = []
    kept: set[Any] = set()
    in_vain = 0
    while in_vain < _IN_VAIN:
        pairs = yield from _pairs(collection, index, order, shape, collation)
        if not pairs or len(removed) >= limit:
            return MergeResult(tuple(removed), complete=not pairs)
        wanted = _certain(pairs, kept)[: limit - len(removed)]
        if not wanted:
            break
        before = len(removed)
        for start in range(0, len(wanted), _AT_ONCE):
            gone = yield from _removals(collection, wanted[start : start + _AT_ONCE], shape, exact, kept)
            removed += [decode(one.raw, codec_options=codec_options) for one in gone]
        in_vain = in_vain + 1 if len(removed) == before else 0
    return MergeResult(tuple(removed), complete=False)


def _pairs(
    collection: str, index: Index, order: Mapping[str, int], shape: Any, collation: Mapping[str, Any]
) -> Steps[list[Mapping[str, Any]]]:
    """Read some of the documents that are not the first of a value, each with that first one.

    Those of what ranks first come first. So what goes is known to go before it is seen as the first of another value,
    even if the answer ends early.
    """
    so_far = {"documents": ["unbounded", "current"]}
    number = {"$sum": 1, "window": so_far}
    rank = {"$setWindowFields": {"sortBy": {f"d.{path}": way for path, way in order.items()}, "output": {"n": number}}}
    first = {"$first": {"n": "$n", "d": "$d"}, "window": so_far}
    within = {"partitionBy": value_of(index), "sortBy": {"n": 1}, "output": {"place": number, "first": first}}
    pipeline = [
        *each_value(index, {"_id": 0, "d": shape}, [rank]),
        {"$setWindowFields": within},
        {"$match": {"place": {"$gt": 1}}},
        {"$sort": {"first.n": 1, "n": 1}},
        {"$limit": _PAIRS},
        {"$project": {"goes": "$d", "stays": "$first.d"}},
    ]
    cursor = {"batchSize": _PAIRS + 1}
    asked = {"aggregate": collection, "pipeline": pipeline, "cursor": cursor, "allowDiskUse": True}
    (answer,) = yield [Send({**asked, **collation, "comment": _COMMENT})]
    found = reply(answer)["cursor"]
    if found["id"]:  # (the answer was too large)
        yield [Send({"killCursors": collection, "cursors": [found["id"]], "comment": _COMMENT})]
    return found["firstBatch"]  # type: ignore[no-any-return]


def _shape(index: Index, order: Mapping[str, int]) -> Any:
    """Build the part of a document that says which values it has and how it ranks."""
    if index.where is not None:
        return "$$ROOT"
    roots = {path.split(".")[0] for path in (*order, *(path for path, _ in index.keys))}
    # (said as an expression: a field that is called the same is not looked into)
    return {"$mergeObjects": [{root: f"${root}" for root in sorted(roots)}]}


def _certain(pairs: Sequence[Mapping[str, Any]], kept: set[Any]) -> list[Mapping[str, Any]]:
    """Choose those whose first one stays for certain, one for each document that goes."""
    named = [(bson_identity(pair["goes"]["_id"]), bson_identity(pair["stays"]["_id"]), pair) for pair in pairs]
    going = {goes for goes, _, _ in named} - kept
    chosen = {goes: pair for goes, stays, pair in named if goes in going and stays not in going}
    return list(chosen.values())


def _removals(
    collection: str, pairs: Sequence[Mapping[str, Any]], shape: Any, collation: Mapping[str, Any], kept: set[Any]
) -> Steps[list[RawBSONDocument]]:
    """Remove documents, each if the one that it goes for is there, before and after."""
    looks = [_look(collection, _unchanged(shape, pair["stays"]), collation) for pair in pairs]
    answers = yield list(looks)
    seen = [place for place, answer in enumerate(answers) if _is_there(answer)]
    if not seen:
        return []
    kept |= {bson_identity(pairs[place]["stays"]["_id"]) for place in seen}
    answers = yield [_removal(collection, _unchanged(shape, pairs[place]["goes"]), collation) for place in seen]
    values = [reply(answer).get("value") for answer in answers]
    gone = [(looks[place], value) for place, value in zip(seen, values, strict=True) if value is not None]
    if not gone:
        return []
    answers = yield [look for look, _ in gone]
    back = [value for (_, value), answer in zip(gone, answers, strict=True) if not _is_there(answer)]
    if back:
        answers = yield [_storing(collection, value) for value in back]
        _check_stored(back, answers)
    return [value for _, value in gone if value not in back]


def _is_there(answer: Any) -> bool:
    return bool(reply(answer)["cursor"]["firstBatch"])


def _storing(collection: str, document: RawBSONDocument) -> Send:
    asked = {"insert": collection, "documents": [document], "bypassDocumentValidation": True}
    return Send({**asked, "writeConcern": {"w": "majority"}, "comment": _COMMENT})


def _check_stored(documents: Sequence[RawBSONDocument], answers: Sequence[Any]) -> None:
    """Check that documents are stored again, or that their values are there after all; an error has all that are not.

    Raises:
        OperationFailure: Of the first one; `details["removed"]` has them.
    """
    refused = [
        (document, error)
        for document, answer in zip(documents, answers, strict=True)
        for error in reply(answer).get("writeErrors", ())
        if error["code"] != _DUPLICATE
    ]
    if refused:
        first = refused[0][1]
        told = {**first, "removed": [document for document, _ in refused]}
        raise OperationFailure(f"what was removed cannot be stored again: {first['errmsg']}", first["code"], told)


def _unchanged(shape: Any, read: Mapping[str, Any]) -> dict[str, Any]:
    """Find a document if it is as it was read."""
    return {"_id": {"$eq": read["_id"]}, "$expr": {"$eq": [shape, {"$literal": read}]}}


def _look(collection: str, query: Mapping[str, Any], collation: Mapping[str, Any]) -> Send:
    asked = {"find": collection, "filter": query, "projection": {"_id": 1}, "limit": 1}
    return Send({**asked, **collation, "comment": _COMMENT})


def _removal(collection: str, query: Mapping[str, Any], collation: Mapping[str, Any]) -> Send:
    removal = {"findAndModify": collection, "query": query, "remove": True}
    return Send({**removal, "writeConcern": {"w": "majority"}, **collation, "comment": _COMMENT}, raw=True)


def checked_order(keep: object) -> tuple[tuple[str, int], ...]:
    """Return the order by which the first of several documents is the one that stays."""
    order = check_sort("keep", keep)
    if not order:
        raise UsageError("keep", "say which document stays, such as keep=[('updated_at', -1)] for the newest")
    return order
