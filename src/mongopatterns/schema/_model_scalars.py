"""Single values of a model as parts of a `$jsonSchema`: what type they have in BSON, and which bounds. Pure.

A value is described as `to_document` stores it.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from enum import Enum, Flag
from typing import Any, Final
from uuid import UUID

from bson import Binary, Code, DBRef, Decimal128, Int64, MaxKey, MinKey, ObjectId, Regex, Timestamp

from mongopatterns.errors import UsageError
from mongopatterns.findings import Finding, Severity
from mongopatterns.models import WRITTEN_AS_TEXT, stored
from mongopatterns.schema._model_patterns import server_pattern
from mongopatterns.schema._schema_parts import NUMBERS, WHOLE, Schema, bounds, enum_of, holds, lengths, of_types

__all__ = ["SCALARS", "Say", "limited", "of_class"]

Node = Mapping[str, Any]

_BOUNDS: Final = ("ge", "gt", "le", "lt")
_INT64: Final = 2**63
_NO_NUMBERS: Final = ("NaN", "Infinity", "-Infinity")
_CLASSES: Final[list[tuple[Any, tuple[str, ...]]]] = [
    (ObjectId, ("objectId",)),
    (Decimal128, ("decimal",)),
    (Int64, ("long",)),
    (Binary, ("binData",)),
    ((Regex, re.Pattern), ("regex",)),
    (Timestamp, ("timestamp",)),
    (Code, ("javascript", "javascriptWithScope")),
    ((DBRef, Mapping), ("object",)),
    (MinKey, ("minKey",)),
    (MaxKey, ("maxKey",)),
    (bool, ("bool",)),
    (int, WHOLE),
    (float, NUMBERS),
    (Decimal, ("decimal",)),
    ((str, dt.time, *WRITTEN_AS_TEXT), ("string",)),
    (dt.date, ("date",)),
    (dt.timedelta, NUMBERS),
    ((UUID, bytes, bytearray), ("binData",)),
    ((list, tuple, set, frozenset), ("array",)),
]


class Say:
    """Note what cannot be expressed, at one place of a model.

    Args:
        findings: Where it is noted.
        path: The place, such as `User.items[].price`.
    """

    def __init__(self, findings: list[Finding], path: str) -> None:
        self._findings = findings
        self.path = path

    def __call__(
        self, code: str, evidence: str, remedy: str = "", severity: Severity = Severity.INFO, path: str = ""
    ) -> None:
        """Note one thing, once."""
        finding = Finding(code, severity, path or self.path, evidence, remedy)
        if finding not in self._findings:
            self._findings.append(finding)

    def at(self, name: str) -> Say:
        """Return what notes at a place below."""
        return Say(self._findings, f"{self.path}{name}")


def of_class(cls: type[Any], say: Say) -> Schema:
    """Build the schema of the instances of a class."""
    if isinstance(cls, type):
        if issubclass(cls, Enum):
            return _enum({"cls": cls, "members": list(cls)}, say)
        for kinds, names in _CLASSES:
            if issubclass(cls, kinds):
                return of_types(*names)
    name = getattr(cls, "__name__", str(cls))
    evidence = f"takes everything: how a {name} is stored is not known"
    say("any-type", evidence, "Give it a serializer, with its type", Severity.WARNING)
    return {}


def _text(node: Node, say: Say) -> Schema:
    schema: Schema = lengths(of_types("string"), node.get("min_length"), node.get("max_length")) or {}
    if node.get("ascii_only"):
        say("pattern", "ascii_only=True is left out")
    if (given := node.get("pattern")) is not None:
        pattern = server_pattern(given, schema.get("maxLength"), python=node.get("regex_engine") == "python-re")
        if pattern.text is None:
            say("pattern", f"the pattern is left out: {pattern.reason}")
        elif pattern.reason:
            say("pattern", f"the pattern takes more than the model's: {pattern.reason}")
        schema |= {"pattern": pattern.text} if pattern.text else {}
    return schema


def _whole(node: Node, say: Say) -> Schema:
    factor = node.get("multiple_of")
    if factor is not None and not -_INT64 <= factor < _INT64:
        say("multiple-of", f"multiple_of={factor!s:.40} is left out: it does not fit into 64 bits")
        factor = None
    return {**of_types(*WHOLE), **limited(node, say), **({} if factor is None else {"multipleOf": factor})}


def _number(node: Node, say: Say) -> Schema:
    _no_factor(node, say)
    schema = {**of_types(*NUMBERS), **limited(node, say)}
    if node.get("allow_inf_nan") is False:
        schema["not"] = {"enum": [float(name) for name in _NO_NUMBERS]}
    return schema


def _decimal(node: Node, say: Say) -> Schema:
    _no_factor(node, say)
    for name in ("max_digits", "decimal_places"):
        if node.get(name) is not None:
            say("digits", f"{name}={node[name]} is left out: the server does not count digits")
    # (a float is its digits to Pydantic, too: 0.01, and not the fraction that is next to it)
    limits = {name: Decimal(str(node[name])) for name in _BOUNDS if node.get(name) is not None}
    finite = {} if node.get("allow_inf_nan") else {"not": {"enum": [Decimal128(name) for name in _NO_NUMBERS]}}
    return {**of_types("decimal"), **limited(limits, say), **finite}


def limited(node: Node, say: Say) -> Schema:
    """Build the bounds of a number, without those that the server has no number for."""
    given = {name: node[name] for name in _BOUNDS if node.get(name) is not None}
    for name in [name for name, value in given.items() if not holds(value)]:
        say("bound", f"{name}={given.pop(name)!s:.40} is left out: the server has no such number")
    return bounds(given.get("ge"), given.get("gt"), given.get("le"), given.get("lt"))


def _no_factor(node: Node, say: Say) -> None:
    if node.get("multiple_of") is not None:
        reason = "the server divides such numbers in another way"
        say("multiple-of", f"multiple_of={node['multiple_of']} is left out: {reason}")


def _moment(node: Node, say: Say) -> Schema:
    zone = node.get("tz_constraint")
    if zone == "naive":
        problem = "is a NaiveDatetime, which would be stored as if it were UTC: BSON knows instants alone"
        raise UsageError("model", f"{say.path} {problem}. Annotate it with pydantic.AwareDatetime")
    if zone is None:
        evidence = "takes datetimes without a zone, which a driver stores as if they were UTC"
        remedy = "Annotate it with pydantic.AwareDatetime; to_document refuses naive ones"
        say("naive-datetime", evidence, remedy, Severity.WARNING)
    return _date(node, say)


def _date(node: Node, say: Say) -> Schema:
    _left_out(node, say, "date-bound", "the server's schema has bounds of numbers alone")
    return of_types("date")


def _time(node: Node, say: Say) -> Schema:
    _left_out(node, say, "time-bound", "it is stored as text")
    return of_types("string")


def _seconds(node: Node, say: Say) -> Schema:
    limits = {name: node[name].total_seconds() for name in _BOUNDS if node.get(name) is not None}
    return {**of_types(*NUMBERS), **limited(limits, say)}


def _left_out(node: Node, say: Say, code: str, reason: str) -> None:
    for name in (*_BOUNDS, "now_op"):
        if node.get(name) is not None:
            say(code, f"{name}={node[name]} is left out: {reason}")


def _bytes(node: Node, say: Say) -> Schema:
    for name in ("min_length", "max_length"):
        if node.get(name) is not None:
            say("length-of-bytes", f"{name}={node[name]} is left out: the server does not measure binary data")
    return of_types("binData")


def _enum(node: Node, say: Say) -> Schema:
    if issubclass(node["cls"], Flag):
        say("flags", "takes every whole number: flags may be set together")
        return of_types(*WHOLE)
    return _one_of([member.value for member in node["members"]], say)


def _literal(node: Node, say: Say) -> Schema:
    return _one_of(list(node["expected"]), say)


def _one_of(values: list[Any], say: Say) -> Schema:
    try:
        return enum_of([stored(value) for value in values])
    except UsageError:
        say("any-type", "takes everything: one of its values cannot be stored", "Give it a serializer, with its type")
        return {}


def _uuid(node: Node, say: Say) -> Schema:
    if node.get("version") is not None:
        say("uuid-version", f"version={node['version']} is left out: the server does not look into binary data")
    return of_types("binData")


def _plain(*names: str) -> Callable[[Node, Say], Schema]:
    return lambda _node, _say: of_types(*names)


SCALARS: Final[dict[str, Callable[[Node, Say], Schema]]] = {
    "any": lambda _node, _say: {},
    "none": _plain("null"),
    "bool": _plain("bool"),
    "int": _whole,
    "float": _number,
    "decimal": _decimal,
    "str": _text,
    "bytes": _bytes,
    "date": _date,
    "time": _time,
    "datetime": _moment,
    "timedelta": _seconds,
    "uuid": _uuid,
    "url": _plain("string"),
    "multi-host-url": _plain("string"),
    "enum": _enum,
    "literal": _literal,
    "is-instance": lambda node, say: of_class(node["cls"], say),
}
"""How Pydantic calls the types of single values, and what builds their schema."""
