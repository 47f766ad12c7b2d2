"""What stands in the way of a change: values that are there twice, and documents that a validator would not take. Pure.

Each question is one aggregation, ended by the server after a minute: what is not counted by then is said to be unknown,
and the change is not blocked. The server itself refuses to build a unique index over equal values.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from pymongo.errors import OperationFailure

from mongopatterns.findings import Finding, Severity
from mongopatterns.indexes import Index
from mongopatterns.paths import flat, leaves_expression
from mongopatterns.schema._changes import Duplicates, SchemaChange, Violations
from mongopatterns.schema._options_diff import Command
from mongopatterns.verdicts import as_json

__all__ = ["answered", "counting", "duplicate_groups", "each_value", "question", "value_of"]

SAMPLES: Final = 5
_MILLISECONDS: Final = 60_000
_TOO_LONG: Final = 50  # MaxTimeMSExpired
_SHOWN: Final = 60  # characters of a value

COMMENT: Final = "mongopatterns.schema.plan"


def question(collection: str, check: Duplicates | Violations) -> Command:
    """Build the aggregation that tells whether a change can be done."""
    if isinstance(check, Duplicates):
        stages = duplicate_groups(check.index)
        shown: dict[str, Any] = {"value": "$_id", "number": 1, "first": 1, "last": 1, "_id": 0}
    else:
        stages = [{"$match": {"$nor": [check.expression]}}]
        shown = {"_id": 1}
    first = {"number": -1, "_id": 1} if isinstance(check, Duplicates) else {"_id": 1}
    samples = [{"$sort": first}, {"$limit": SAMPLES}, {"$project": shown}]
    used = check.collation if isinstance(check, Duplicates) else None
    return {
        "aggregate": collection,
        "pipeline": [*stages, {"$facet": {"number": [{"$count": "n"}], "samples": samples}}],
        "cursor": {},
        "allowDiskUse": True,
        "maxTimeMS": _MILLISECONDS,
        **({} if used is None else {"collation": dict(used)}),
        "comment": COMMENT,
    }


def counting(collection: str) -> Command:
    """Build the command that tells from the metadata how many documents there are."""
    return {"count": collection, "comment": COMMENT}


def duplicate_groups(index: Index) -> list[dict[str, Any]]:
    """Build the stages that give a document for each value that several documents have under a unique index."""
    return [
        *each_value(index, {"_id": 1}),
        {
            "$group": {
                "_id": value_of(index),
                "number": {"$sum": 1},
                "first": {"$min": "$_id"},
                "last": {"$max": "$_id"},
            }
        },
        {"$match": {"number": {"$gt": 1}}},
    ]


def value_of(index: Index) -> dict[str, str]:
    """Name the fields in which `each_value` has a value."""
    return {f"k{place}": f"$k{place}" for place in range(len(index.keys))}


def each_value(
    index: Index, beside: Mapping[str, Any], ranked: Sequence[Mapping[str, Any]] = ()
) -> list[dict[str, Any]]:
    """Build the stages that give a document for each value that a document has under an index, with what is `beside`.

    A document comes once with each of its values: an index has all that is in a list, and has what is equal once.
    Paths that lead through the same field are read only where that holds no list, because the index then has only
    what stands in it together.

    Not all that the server refuses is found: nothing is made of an empty list, of a list on the way of a dotted path
    that has other than documents in it (where the index may have null), and of numbers in a path (`a.0.b`).
    """
    conditions = indexed(index)
    values = {f"k{place}": {"$setUnion": [_values(path)]} for place, (path, _) in enumerate(index.keys)}
    return [
        *([{"$match": {"$and": conditions}}] if conditions else []),
        {"$project": {**beside, **values}},
        *(dict(stage) for stage in ranked),
        *({"$unwind": f"${name}"} for name in values),
    ]


def indexed(index: Index) -> list[dict[str, Any]]:
    """List what must hold of a document for it to be looked at: it is in the index, and told by its paths alone."""
    paths = [path for path, _ in index.keys]
    roots = [path.split(".")[0] for path in paths]
    shared = sorted({root for root in roots if roots.count(root) > 1})
    conditions: list[dict[str, Any]] = [] if index.where is None else [dict(index.where)]
    conditions += [{"$nor": [{root: {"$type": "array"}}]} for root in shared]
    if index.sparse:
        conditions.append({"$or": [{path: {"$exists": True}} for path in paths]})
    return conditions


def _values(path: str) -> dict[str, Any]:
    """Build the list of what an index has of a document under a path: null where there is nothing.

    What an index has for an empty list equals no other value, and is left out.
    """
    root = path.split(".", maxsplit=1)[0]
    present = {"$map": {"input": flat(leaves_expression(path)), "in": {"$ifNull": ["$$this", None]}}}
    is_missing = {"$and": [{"$eq": ["$$all", []]}, {"$not": [{"$isArray": f"${root}"}]}]}
    return {"$let": {"vars": {"all": present}, "in": {"$cond": [is_missing, [None], "$$all"]}}}


# Answered ----------------------------------------------------------------------------------------------------


def answered(change: SchemaChange, answer: Any) -> tuple[SchemaChange, Finding | None]:
    """Return a change as it stands after its question was answered, and what was found."""
    if isinstance(answer, OperationFailure):
        return change, _unknown(change, answer)
    (found,) = answer["cursor"]["firstBatch"]
    if not found["number"]:
        return change, None
    number, samples = found["number"][0]["n"], found["samples"]
    check = change.check
    if isinstance(check, Duplicates):
        finding = _duplicated(change.collection, check.index, number, samples)
    else:
        finding = _unfit(change.collection, number, samples, blocks=check is not None and check.blocks)
    blocks = finding.severity is Severity.ERROR
    return (replace(change, blocked=finding) if blocks else change), finding


def _unknown(change: SchemaChange, error: OperationFailure) -> Finding:
    reason = "within a minute" if error.code == _TOO_LONG else f"({error.details or error})"
    evidence = f"{change.what}: what stands in its way could not be counted {reason:.200}"
    return Finding("not-counted", Severity.WARNING, change.collection, evidence, "The server refuses it if need be")


def _duplicated(collection: str, index: Index, number: int, samples: list[Mapping[str, Any]]) -> Finding:
    paths = [path for path, _ in index.keys]
    shown = []
    for sample in samples:
        values = ", ".join(
            f"{path}={_short(value)}" for path, value in zip(paths, sample["value"].values(), strict=True)
        )
        shown.append(f"{values} in {sample['number']} documents ({_short(sample['first'])}, {_short(sample['last'])})")
    more = "; ..." if number > len(samples) else ""
    values = "1 value of" if number == 1 else f"{number:,} values of"
    evidence = f"{values} {index} in more than one document: {'; '.join(shown)}{more}"
    remedy = "Keep one document of each, with merge_duplicates or by hand"
    if any(value is None for sample in samples for value in sample["value"].values()):
        path = index.keys[0][0]
        remedy += f"; of those without a value all may stay if the index has where={{{path!r}: {{'$type': 'string'}}}}"
    return Finding("duplicates", Severity.ERROR, collection, evidence, remedy)


def _unfit(collection: str, number: int, samples: list[Mapping[str, Any]], *, blocks: bool) -> Finding:
    ids = ", ".join(_short(sample["_id"]) for sample in samples)
    documents = "1 document does" if number == 1 else f"{number:,} documents do"
    evidence = f"{documents} not fit the validator: {ids}{', ...' if number > len(samples) else ''}"
    if blocks:
        remedy = "Mend them, or say level='moderate', which lets them be"
        return Finding("violations", Severity.ERROR, collection, evidence, remedy)
    return Finding("violations", Severity.WARNING, collection, evidence, "They stay as they are until they fit")


def _short(value: Any) -> str:
    text = repr(as_json(value)) if not hasattr(value, "binary") else repr(value)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."
