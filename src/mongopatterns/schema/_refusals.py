"""What the server refuses of a collection, each with the reason. Pure."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping
from typing import Any

from mongopatterns.indexes import Index

__all__ = ["refusals"]


def refusals(spec: Any) -> Iterator[tuple[str, bool, str]]:
    """List what the server refuses of a `CollectionSpec`: the argument at fault, whether it is, and why."""
    series = spec.timeseries is not None
    capped = spec.capped_size is not None
    ttl = [index for index in spec.indexes if index.expire_after is not None]
    yield "capped_max", spec.capped_max is not None and not capped, "capped_max= needs capped_size= beside it"
    for argument, given in (
        ("validator", spec.validator is not None),
        ("capped_size", capped),
        ("clustered", spec.clustered),
        ("pre_and_post_images", spec.pre_and_post_images is not None),
    ):
        yield argument, series and given, f"a time-series collection takes no {argument}="
    yield "expire_after", series and spec.expire_after is not None, "say expire_after= in TimeSeries"
    yield (
        "expire_after",
        not series and spec.expire_after is not None and not spec.clustered,
        "expire_after= goes by the date in _id of a clustered collection: use Index.ttl for another field",
    )
    yield "capped_size", capped and spec.clustered, "a clustered collection cannot be capped"
    yield "indexes", capped and bool(ttl), "a capped collection deletes the oldest, and nothing else: no Index.ttl"
    for index in spec.indexes if series else ():
        for wrong, problem in _of_series(spec, index):
            yield "indexes", wrong, f"{index} on a time-series collection {problem}"


def _of_series(spec: Any, index: Index) -> Iterator[tuple[bool, str]]:
    yield index.unique, "cannot be unique: the server does not look for equal measurements"
    yield index.expire_after is not None, "cannot delete: say expire_after= in TimeSeries"
    yield index.is_text, "cannot hold text"
    compares = (index.collation or spec.collation or {"locale": "simple"})["locale"] != "simple"
    yield index.where is not None and compares, "has a filter or a collation, not both"
    for path, kind in index.keys:
        measured = _is_measured(spec, path)
        odd = kind == "hashed" or path.endswith("$**") or (kind == "2dsphere" and path == spec.timeseries.time)
        yield measured and odd, f"cannot be: {path!r} is measured, and such an index is for the meta field"
        partly = index.sparse and measured and path != spec.timeseries.time
        yield partly, f"cannot be sparse: {path!r} is measured"
        placed = measured and kind == "2dsphere" and compares
        yield placed, "has no collation where places are measured: say collation={'locale': 'simple'}"
    for path, operator, value in _terms(index.where or {}):
        measured = _is_measured(spec, path) and operator != "$exists"
        parts = list(value) if operator in ("$in", "$all") else [value]
        unfit = operator == "$type" or any(part is None or isinstance(part, (Mapping, list)) for part in parts)
        unfit |= path == spec.timeseries.time and not all(isinstance(part, dt.datetime) for part in parts)
        yield measured and unfit, f"cannot ask {path!r}, which is measured, for {operator} {value!r:.100}"


def _is_measured(spec: Any, path: str) -> bool:
    meta = spec.timeseries.meta
    return meta is None or (path != meta and not path.startswith(f"{meta}."))


def _terms(where: Mapping[str, Any]) -> Iterator[tuple[str, str, Any]]:
    """List what a filter asks: the path, the operator, and its value."""
    for path, test in where.items():
        if path in ("$and", "$or"):
            for each in test:
                yield from _terms(each)
        elif isinstance(test, Mapping) and any(str(name).startswith("$") for name in test):
            yield from ((path, operator, value) for operator, value in test.items())
        else:
            yield path, "$eq", test
