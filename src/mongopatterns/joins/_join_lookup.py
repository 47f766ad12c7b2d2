"""Joins by the server, in the command that reads the parents: `$lookup`. Pure.

A `$lookup` compares a field with a field, and so the keys of a parent are put into a field first (`REPLY`): a
parent without keys looks for what nobody has (`NO_KEYS`), because an empty list, null and a missing field would find
the documents that have no value. Everything else that belongs to a join is said in the pipeline within.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mongopatterns.commands import REPLY
from mongopatterns.expressions import literal
from mongopatterns.fields import Fields
from mongopatterns.joins._join_spec import CountOf, Exists, JoinPart, Many, One, SumOf, ValueOf, in_full
from mongopatterns.joins._keys import NO_KEYS, key_expression

Stage = dict[str, Any]


def keys_stage(parts: Sequence[JoinPart]) -> list[Stage]:
    """Build the stage that puts the keys of the joins beside the document, before one of them changes it."""
    found = {f"k{place}": key_expression(part.local, part.local_as) for place, part in enumerate(parts)}
    return [{"$set": {REPLY: found}}] if found else []


def lookup_stages(
    parts: Sequence[JoinPart], params: Mapping[str, Any], chosen: Sequence[bool] | None = None
) -> list[Stage]:
    """Build the stages that join, given the keys.

    Args:
        parts: The joins whose keys were put beside the document.
        params: The values of the call.
        chosen: Which of them; None: all.
    """
    stages: list[Stage] = []
    for place, part in enumerate(parts):
        if chosen is not None and not chosen[place]:
            continue
        field = f"{REPLY}.k{place}"
        stages += [
            {
                "$lookup": {
                    "from": part.collection,
                    "localField": field,
                    "foreignField": part.foreign,
                    "pipeline": _inner(part, params),
                    "as": part.as_,
                }
            },
            {"$set": {part.as_: {"$cond": [{"$eq": [f"${field}", NO_KEYS]}, _nothing(part), _value(part)]}}},
        ]
    return stages


def joined_stages(parts: Sequence[JoinPart], params: Mapping[str, Any]) -> list[Stage]:
    """Build the stages that join everything onto whole documents."""
    return [*keys_stage(parts), *lookup_stages(parts, params), *given_stage(None, ())] if parts else []


def computed_stage(values: Mapping[str, ValueOf]) -> list[Stage]:
    """Build the stage that computes fields of the finished row."""
    found = {name: {"$ifNull": [f"${value.path}", literal(value.default)]} for name, value in values.items()}
    return [{"$set": found}] if found else []


def given_stage(fields: Fields | None, besides: Sequence[str], *, keys: bool = False) -> list[Stage]:
    """Build the stage that gives what is wanted of a document, and what was joined; the keys as well, or not."""
    if fields is None:
        return [] if keys else [{"$unset": REPLY}]
    return [{"$project": fields.projection([*besides, REPLY] if keys else besides)}]


def _inner(part: JoinPart, params: Mapping[str, Any]) -> list[Stage]:
    """Build the pipeline within: what of the documents that belong to a parent is given."""
    where = part.filter.bound(params)
    stages: list[Stage] = [{"$match": where}] if where else []
    if isinstance(part, CountOf):
        return [*stages, {"$count": "n"}]
    if isinstance(part, Exists):
        return [*stages, {"$limit": 1}, {"$project": {"_id": 1}}]
    if isinstance(part, SumOf):
        return [*stages, {"$group": {"_id": None, "n": {"$sum": f"${part.amount}"}}}]
    stages.append({"$sort": dict(in_full(part))})
    limit = 1 if isinstance(part, One) else part.limit if isinstance(part, Many) else None
    if limit is not None:
        stages.append({"$limit": limit})
    inner = part.inner
    stages += keys_stage(inner)
    stages += lookup_stages(inner, params)
    wanted = part.given if isinstance(part, (One, Many)) else None
    if inner or wanted is not None:
        stages += given_stage(wanted, [nested.as_ for nested in inner])
    return stages


def _value(part: JoinPart) -> Any:
    """Build what is joined, given the list that was looked up."""
    found = f"${part.as_}"
    if isinstance(part, One):
        return {"$ifNull": [{"$first": found}, literal(part.default)]}
    if isinstance(part, Exists):
        return {"$ne": [found, []]}
    if isinstance(part, Many):
        return found
    return {"$ifNull": [{"$first": f"{found}.n"}, 0]}


def _nothing(part: JoinPart) -> Any:
    """Build what stands for what is not there."""
    if isinstance(part, One):
        return literal(part.default)
    if isinstance(part, Many):
        return []
    return False if isinstance(part, Exists) else 0
