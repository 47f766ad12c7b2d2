"""What a reader is given of a branch: rows that are JSON-able as they are, the empty ones among them. Pure."""

from __future__ import annotations

import base64
import datetime as dt
import math
from collections.abc import Mapping, Sequence
from decimal import Decimal
from itertools import pairwise
from types import NoneType
from typing import Any, Final

from bson import Binary, Code, DBRef, Decimal128, ObjectId, Regex, Timestamp
from bson.codec_options import CodecOptions, DatetimeConversion
from bson.datetime_ms import DatetimeMS

from mongopatterns.errors import ResultTooLarge
from mongopatterns.expressions import bson_identity
from mongopatterns.fields import fresh
from mongopatterns.order import in_order
from mongopatterns.reports._branch_stages import BELOW, MEASURE, ROWS
from mongopatterns.reports._branches import (
    Branch,
    Distinct,
    Histogram,
    Measured,
    Percentiles,
    TimeBuckets,
    Totals,
)
from mongopatterns.reports._measures import CollectSet, TooMany
from mongopatterns.reports._times import MAX_BUCKETS, Span, TooManyBuckets, fill

Row = dict[str, Any]

_NEAREST: Final[CodecOptions[Any]] = CodecOptions(tz_aware=True, datetime_conversion=DatetimeConversion.DATETIME_CLAMP)

_OUTSIDE: Final = "buckets lie before the year 1 or after 9999: narrow the filter, or fill no gaps (fill=False)"


def shown(value: Any) -> Any:
    """Return a value made of what can be encoded as JSON by those who know dates and Decimals.

    ObjectIds and UUIDs become text, bytes base64, Decimal128 a Decimal, numbers that JSON has not (NaN, infinities)
    None, and dates that Python has no year for the nearest that it has.
    """
    if isinstance(value, Mapping):
        return {str(name): shown(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [shown(item) for item in value]
    if isinstance(value, (int, float, Decimal128)) and not isinstance(value, bool):
        return _number(value)
    return _text(value)


def _number(value: float | Decimal128) -> int | float | Decimal | None:
    if isinstance(value, Decimal128):
        exact = value.to_decimal()
        return exact if exact.is_finite() else None
    if isinstance(value, int):
        return int(value)  # (and not the driver's own kind of 64 bits)
    return value if math.isfinite(value) else None


def _text(value: Any) -> Any:
    """Return what is no number and holds nothing."""
    if isinstance(value, (Timestamp, DatetimeMS)):
        return value.as_datetime() if isinstance(value, Timestamp) else value.as_datetime(_NEAREST)
    if isinstance(value, (Binary, bytes)):
        return base64.b64encode(bytes(value)).decode()
    if isinstance(value, Regex):
        return str(value.pattern)
    if isinstance(value, DBRef):
        return shown(value.as_doc())
    if isinstance(value, (ObjectId, Code)):
        return str(value)
    return value if isinstance(value, (str, bool, dt.datetime, NoneType)) else str(value)


def told(
    name: str,
    branch: Branch,
    answers: Mapping[str, Sequence[Row]],
    span: Span,
    codec_options: CodecOptions[Any],
) -> Any:
    """Return what is told of a branch (of a page its pager tells).

    Args:
        name: The name of the branch.
        branch: Its definition.
        answers: What the server says to each of its parts, by their role.
        span: Of buckets of time, what the filter lets through.
        codec_options: How values are stored.

    Raises:
        ResultTooLarge: If it holds more than it may.
    """
    rows = answers[ROWS]
    if isinstance(branch, Measured):
        return _measured(name, branch, answers, span, codec_options)
    if isinstance(branch, Percentiles):
        found = rows[0]["p"] if rows else None
        return shown(dict(zip(branch.names, found or [None] * len(branch.names), strict=True)))
    if isinstance(branch, Distinct):
        if len(rows) > branch.limit:
            raise ResultTooLarge(name, f"{branch.path!r} has more than limit={branch.limit:,} different values")
        return [shown(row["_id"]) for row in rows]
    return [shown(row) for row in rows]  # (what the stages of a `Raw` give)


def _measured(
    name: str,
    branch: Measured,
    answers: Mapping[str, Sequence[Row]],
    span: Span,
    codec_options: CodecOptions[Any],
) -> Any:
    rows = [dict(row) for row in answers[ROWS]]
    label = next((each for each in ("key", "bucket", "low") if each in branch.reserved), "")
    for each in branch.measures:
        if (apart := answers.get(f"{MEASURE}{each}")) is not None:  # (it was worked out by itself)
            found = {bson_identity(row.get(label), codec_options): row["value"] for row in apart}
            for row in rows:
                row[each] = found.get(bson_identity(row.get(label), codec_options), [])
    given = [_row(name, branch, row, codec_options) for row in rows]
    if isinstance(branch, Totals):
        return given[0] if given else _empty(branch)
    if isinstance(branch, TimeBuckets) and branch.fill:
        return _filled(name, branch, given, span)
    if isinstance(branch, Histogram) and branch.boundaries is not None:
        return _ranges(branch, given)
    return given


def _row(name: str, branch: Measured, row: Row, codec_options: CodecOptions[Any]) -> Row:
    """Return one row as it is given: its own names, the measures, and what was joined onto it."""
    given: Row = {}
    for each, value in row.items():
        measure = branch.measures.get(each)
        if measure is None:
            given[each] = shown(value)
            continue
        try:
            told = measure.told(value)
        except TooMany as error:
            where = "" if isinstance(branch, Totals) else f" in the row {row.get('key', row.get('bucket'))!r:.100}"
            raise ResultTooLarge(name, f"{each!r}{where}: {error}") from None
        if isinstance(measure, CollectSet):
            told = [held["_id"] for held in in_order([{"_id": held} for held in told], codec_options)]
        given[each] = shown(told)
    # Its own names first, then the measures as they were written, then what was joined.
    first = [each for each in ("key", "bucket", "low", "high") if each in given and each in branch.reserved]
    rest = [each for each in given if each not in first and each not in branch.measures]
    return {each: given.get(each) for each in (*first, *branch.measures, *rest)}


def _empty(branch: Measured) -> Row:
    """Return what is told of no documents."""
    return {each: fresh(measure.empty) for each, measure in branch.measures.items()}


def _filled(name: str, branch: TimeBuckets, rows: list[Row], span: Span) -> list[Row]:
    found = {row["bucket"]: row for row in rows}
    if len(found) < len(rows):  # (two of them have the same nearest date that Python knows)
        raise ResultTooLarge(name, _OUTSIDE)
    try:
        starts = fill(list(found), branch.unit, branch.timezone, span)
    except TooManyBuckets:
        problem = f"more than {MAX_BUCKETS:,} buckets of {branch.unit}s: narrow the filter, or take longer ones"
        raise ResultTooLarge(name, problem) from None
    except OverflowError:
        raise ResultTooLarge(name, _OUTSIDE) from None
    return [found.get(start) or {"bucket": start, **_empty(branch)} for start in starts]


def _ranges(branch: Histogram, rows: list[Row]) -> list[Row]:
    """Return a row for each range, given those that have documents, by their place."""
    found = {row["low"]: row for row in rows}
    edges = list(enumerate(pairwise([None, *(branch.boundaries or ()), None]), start=BELOW))
    given = edges if branch.outside else edges[1:-1]
    empty = {each: measure.empty for each, measure in branch.measures.items()}
    return [
        {"low": low, "high": high} | {each: fresh(found.get(place, empty)[each]) for each in branch.measures}
        for place, (low, high) in given
    ]
