"""Parts of a `$jsonSchema` put together: alternatives, null, bounds. Pure."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping, Sequence
from decimal import Decimal, DecimalException
from typing import Any, Final, TypeAlias

from bson import Binary, Decimal128, ObjectId

from mongopatterns.expressions import bson_identity

__all__ = [
    "Schema",
    "admits",
    "any_of",
    "bounds",
    "enum_of",
    "holds",
    "kinds_of",
    "lengths",
    "nullable",
    "of_types",
    "types_of",
]

Schema: TypeAlias = dict[str, Any]
"""A `$jsonSchema`, or a part of one. An empty one takes everything."""

WHOLE: Final = ("int", "long")
NUMBERS: Final = ("double", "int", "long")
_INT64: Final = 2**63
_OTHERS: Final = (*NUMBERS, "decimal", "bool", "null", "date", "objectId", "binData", "regex", "timestamp")
# The words for how long something is, of each kind of thing.
_LENGTHS: Final = {
    "string": ("minLength", "maxLength"),
    "array": ("minItems", "maxItems"),
    "object": ("minProperties", "maxProperties"),
}


def of_types(*names: str) -> Schema:
    """Build the schema of what has one of these types."""
    return {"bsonType": names[0] if len(names) == 1 else list(names)}


def types_of(schema: Mapping[str, Any]) -> list[str]:
    """Return the types that a schema names."""
    named = schema.get("bsonType", [])
    return [named] if isinstance(named, str) else list(named)


def any_of(schemas: Sequence[Schema]) -> Schema:
    """Build the schema of what one of several takes."""
    plain: list[str] = []
    others: list[Schema] = []
    for schema in schemas:
        if not schema:
            return {}
        for choice in schema["anyOf"] if schema.keys() == {"anyOf"} else [schema]:
            if choice.keys() == {"bsonType"}:
                plain += [name for name in types_of(choice) if name not in plain]
            elif choice not in others:
                others.append(choice)
    choices = [*([of_types(*plain)] if plain else []), *others]
    return choices[0] if len(choices) == 1 else {"anyOf": choices}


def nullable(schema: Schema) -> Schema:
    """Build the schema that takes null as well."""
    if not schema or admits(schema, None):
        return schema
    if "bsonType" in schema and not schema.keys() & {"enum", "anyOf"}:  # (what else there is asks nothing of null)
        return {**schema, **of_types(*types_of(schema), "null")}
    if schema.keys() == {"enum"}:
        return {"enum": [*schema["enum"], None]}
    return any_of([of_types("null"), schema])


def enum_of(values: Sequence[Any]) -> Schema:
    """Build the schema of some values. Of those that the server finds equal it takes one only."""
    kept: dict[Any, Any] = {}
    for value in values:
        kept.setdefault(bson_identity(value), value)
    whole = all(isinstance(value, int) and not isinstance(value, bool) for value in kept.values())
    # (1.0 equals 1, and is none of the integers that a model dumps)
    return {**(of_types(*WHOLE) if whole else {}), "enum": list(kept.values())}


def bounds(low: Any, above: Any, high: Any, below: Any) -> Schema:
    """Build the bounds of a number: at least, more than, at most, less than; None: none."""
    schema: Schema = {}
    if low is not None or above is not None:
        exclusive = low is None or (above is not None and above >= low)
        schema["minimum"] = _bound(above if exclusive else low)
        schema |= {"exclusiveMinimum": True} if exclusive else {}
    if high is not None or below is not None:
        exclusive = high is None or (below is not None and below <= high)
        schema["maximum"] = _bound(below if exclusive else high)
        schema |= {"exclusiveMaximum": True} if exclusive else {}
    return schema


def holds(value: Any) -> bool:
    """Tell whether the server has a number that stands for a bound."""
    try:
        _bound(value)
    except (OverflowError, DecimalException):
        return False
    return True


def _bound(value: Any) -> Any:
    if isinstance(value, int) and not -_INT64 <= value < _INT64:
        return float(value)  # (no integer of the server lies beyond: which one of them it is makes no difference)
    return Decimal128(value) if isinstance(value, Decimal) else value


def lengths(schema: Schema, least: int | None, most: int | None) -> Schema | None:
    """Build the schema with bounds on how long a thing is; None if the server cannot say it of such things."""
    words = _LENGTHS.get(types_of(schema)[0]) if len(types_of(schema)) == 1 else None
    if words is None:
        return None
    low = max(schema.get(words[0], 0), least or 0)
    high = min((each for each in (schema.get(words[1]), most) if each is not None), default=None)
    return {**schema, **({words[0]: low} if low else {}), **({} if high is None else {words[1]: high})}


def kinds_of(schema: Mapping[str, Any]) -> set[str]:
    """Return the types of all that a schema takes; every name there is if it names none."""
    if "anyOf" in schema:
        return set().union(*(kinds_of(choice) for choice in schema["anyOf"]))
    if "bsonType" in schema:
        return set(types_of(schema))
    return {_type_of(value) for value in schema["enum"]} if "enum" in schema else {"", *_LENGTHS, *_OTHERS}


def admits(schema: Mapping[str, Any], value: Any) -> bool:  # noqa: PLR0911  # one for each word
    """Tell whether a schema takes a value of one of the plain types; of others, whether their type is right."""
    if "anyOf" in schema and not any(admits(choice, value) for choice in schema["anyOf"]):
        return False
    if "bsonType" in schema and _type_of(value) not in types_of(schema):
        return False
    if "enum" in schema and bson_identity(value) not in map(bson_identity, schema["enum"]):
        return False
    if "not" in schema and admits(schema["not"], value):
        return False
    if isinstance(value, str):
        return _sized(schema, value, "string") and _matches(schema.get("pattern", ""), value)
    if isinstance(value, (int, float, Decimal128)) and not isinstance(value, bool):
        return _within(schema, value)
    if isinstance(value, list):
        return _sized(schema, value, "array") and _admits_items(schema, value)
    return not isinstance(value, Mapping) or (_sized(schema, value, "object") and _admits_fields(schema, value))


def _sized(schema: Mapping[str, Any], value: Any, kind: str) -> bool:
    least, most = _LENGTHS[kind]
    return bool(schema.get(least, 0) <= len(value) <= schema.get(most, len(value)))


def _matches(pattern: str, text: str) -> bool:
    """Tell whether text has a pattern that was written for the server."""
    python = re.sub(r"\\x\{([0-9A-F]+)\}", lambda code: f"\\U{int(code[1], 16):08X}", pattern).replace(r"\z", r"\Z")
    try:
        return re.search(python, text) is not None
    except re.error:
        return False


def _admits_items(schema: Mapping[str, Any], value: list[Any]) -> bool:
    items = schema.get("items", {})
    if isinstance(items, Mapping):
        return all(admits(items, item) for item in value)
    others = schema.get("additionalItems", {})
    return all(map(admits, [*items, *[others] * max(0, len(value) - len(items))], value))


def _admits_fields(schema: Mapping[str, Any], value: Mapping[str, Any]) -> bool:
    others = schema.get("additionalProperties", {})
    known = schema.get("properties", {})
    if not value.keys() >= set(schema.get("required", ())) or (others is False and value.keys() - known.keys()):
        return False
    return all(admits(known.get(name, others), item) for name, item in value.items())


def _within(schema: Mapping[str, Any], value: Any) -> bool:
    number, low, high = (_number(each) for each in (value, schema.get("minimum"), schema.get("maximum")))
    factor = schema.get("multipleOf")
    try:
        over = low is None or (number > low if schema.get("exclusiveMinimum") else number >= low)
        under = high is None or (number < high if schema.get("exclusiveMaximum") else number <= high)
        return bool(over and under and (factor is None or number % factor == 0))
    except ArithmeticError:  # (a Decimal that is no number)
        return False


def _number(value: Any) -> Any:
    return value.to_decimal() if isinstance(value, Decimal128) else value


def _type_of(value: Any) -> str:
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int):
        return "int" if -(2**31) <= value < 2**31 else "long"
    kinds: list[tuple[type[Any], str]] = [
        (type(None), "null"),
        (str, "string"),
        (float, "double"),
        (Decimal128, "decimal"),
        (dt.datetime, "date"),
        (ObjectId, "objectId"),
        ((Binary), "binData"),
        (bytes, "binData"),
        (Mapping, "object"),
        (list, "array"),
    ]
    return next((name for kind, name in kinds if isinstance(value, kind)), "")
