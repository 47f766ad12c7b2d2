"""What the server asks of each document that is written. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import KW_ONLY, dataclass, field
from typing import Any, Final, Literal, TypeAlias, get_args

from bson import Decimal128, encode
from bson.errors import InvalidDocument

from mongopatterns.errors import UsageError
from mongopatterns.expressions import ANY_UUID, copied
from mongopatterns.findings import Finding
from mongopatterns.schema._model_schema import model_schema
from mongopatterns.schema._schema_parts import types_of

__all__ = ["Action", "Level", "Validator"]

Level: TypeAlias = Literal["strict", "moderate"]
Action: TypeAlias = Literal["error", "warn"]


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# What the server takes in a query and not in a validator, with what to do instead.
_REFUSED: Final = {
    "$where": "it runs JavaScript: compare with $expr",
    "$text": "it needs an index: match with $regex",
    "$near": "it sorts: use $geoWithin",
    "$nearSphere": "it sorts: use $geoWithin",
    "$geoNear": "it sorts: use $geoWithin",
    "$sampleRate": "it is not the same twice",
    "$rand": "it is not the same twice",
    "$function": "it runs JavaScript: use operators",
    "$accumulator": "it runs JavaScript: use operators",
}
_TYPES: Final = _words(
    "double string object array binData undefined objectId bool date null regex dbPointer javascript symbol "
    "javascriptWithScope int timestamp long decimal minKey maxKey number"
)
_JSON_TYPES: Final = frozenset({"string", "object", "array", "boolean", "null", "number"})
_KEYWORDS: Final = _words(
    "additionalItems additionalProperties allOf anyOf bsonType dependencies description encrypt encryptMetadata enum "
    "exclusiveMaximum exclusiveMinimum items maximum maxItems maxLength maxProperties minimum minItems minLength "
    "minProperties multipleOf not oneOf pattern patternProperties properties required title type uniqueItems"
)
_INSTEAD: Final = {
    "$ref": "write out what it refers to",
    "$defs": "write out what refers to it",
    "definitions": "write out what refers to it",
    "const": "use enum with one value",
    "format": "use bsonType, such as 'date'",
    "default": "the server fills in nothing",
    "examples": "leave them out",
    "$comment": "use description",
}
# What the server takes: levels of documents and lists in each other, and bytes of a document.
_DEEPEST: Final = 200
_LARGEST: Final = 16 * 1024 * 1024
_EXCLUSIVE: Final = {"exclusiveMinimum": "minimum", "exclusiveMaximum": "maximum"}


@dataclass(frozen=True)
class Validator:
    """Say what every document that is written must be like.

    The server checks inserts and updates, whoever sends them; documents that are there already are checked when they
    are next changed. A refused write is a `WriteError` of the driver with code 121.

    Attributes:
        expression: What is asked, as the server takes it: a filter that the documents match, such as
            `{"$jsonSchema": {...}}` or `{"$expr": {"$lt": ["$starts", "$ends"]}}`.
        level: `"strict"` checks every write; `"moderate"` lets updates of documents pass that were wrong before.
        action: `"error"` refuses what does not match; `"warn"` writes it, and a line to the server's log.
        unexpressed: What `from_model` could not say, one finding each: what a document may be that the model would not
            take.

    Raises:
        UsageError: If the server would refuse the expression, also because it is too deep or too large; or if a value
            is none that there is.
    """

    expression: Mapping[str, Any] = field(hash=False)
    _: KW_ONLY
    level: Level = "strict"
    action: Action = "error"
    unexpressed: tuple[Finding, ...] = field(default=(), compare=False, repr=False)

    def __post_init__(self) -> None:
        if not isinstance(self.expression, Mapping) or not self.expression:
            problem = f"expected a filter such as {{'$jsonSchema': {{...}}}}, got {self.expression!r:.100}"
            raise UsageError("expression", f"{problem}. To check nothing, leave the validator out")
        for name, value, choices in (("level", self.level, get_args(Level)), ("action", self.action, get_args(Action))):
            if value not in choices:
                raise UsageError(name, f"expected {' or '.join(map(repr, choices))}, got {value!r:.100}")
        if _deeper(self.expression, _DEEPEST):
            problem = f"is more than {_DEEPEST} levels deep, and the server takes no such document"
            raise UsageError("expression", f"{problem}. Give an inner model a type that says less, such as dict")
        _check(self.expression)
        try:
            size = len(encode(self.expression, codec_options=ANY_UUID))
        except (InvalidDocument, OverflowError, UnicodeError) as error:
            raise UsageError("expression", f"cannot be sent: {error}") from None
        if size > _LARGEST:
            problem = f"has {size:,} bytes, and the server takes {_LARGEST:,}"
            raise UsageError("expression", f"{problem}. Give an inner model a type that says less, such as dict")
        object.__setattr__(self, "expression", copied(self.expression))
        object.__setattr__(self, "unexpressed", tuple(self.unexpressed))

    @classmethod
    def from_model(
        cls, model: Any, *, level: Level = "strict", action: Action = "error", by_alias: bool = True
    ) -> Validator:
        """Make the validator of the documents of a model: a Pydantic model, a dataclass, a typed dict, a union of them.

        It takes every document that `to_document` gives of the model and that the model reads back, and refuses what is
        of another type. Fields that are not the model's are refused where the model forbids them (`extra="forbid"`),
        and taken otherwise. A field is required if it has no default. What the server cannot check is in `unexpressed`.

        Args:
            model: The model.
            level: As of the class.
            action: As of the class.
            by_alias: Whether documents have the aliases for names, as those of `to_document` do.

        Raises:
            UsageError: If it is no model, is dumped as something that is no document, has a name that no validator can
                check, or has a field for datetimes without a zone (`NaiveDatetime`).
        """
        schema, findings = model_schema(model, by_alias=by_alias)
        return cls({"$jsonSchema": schema}, level=level, action=action, unexpressed=findings)

    @property
    def options(self) -> dict[str, Any]:
        """The options as `create_collection` and `collMod` take them."""
        return {
            "validator": copied(self.expression),
            "validationLevel": self.level,
            "validationAction": self.action,
        }

    def __str__(self) -> str:
        """Return the level, the action, and what is asked, a line for each field."""
        lines = [f"{self.level}, {self.action}"]
        for name, test in self.expression.items():
            lines += _outline(test, "  ") if name == "$jsonSchema" else [f"  {name}: {test}"]
        return "\n".join(lines)


def _deeper(value: Any, levels: int) -> bool:
    """Tell whether documents and lists stand in each other deeper than so many levels."""
    waiting = [(value, 1)]
    while waiting:
        each, level = waiting.pop()
        if isinstance(each, (Mapping, list, tuple)):
            if level > levels:
                return True
            waiting += [(item, level + 1) for item in (each.values() if isinstance(each, Mapping) else each)]
    return False


# Checked -----------------------------------------------------------------------------------------------------


def _check(value: Any) -> None:
    """Refuse what the server refuses, wherever it stands in a filter."""
    if isinstance(value, Mapping):
        for name, item in value.items():
            if not isinstance(name, str):
                raise UsageError("expression", f"{name!r} is no path and no operator")
            if name in _REFUSED:
                raise UsageError("expression", f"{name} is not allowed in a validator, because {_REFUSED[name]}")
            if name == "$jsonSchema":
                _check_schema(item, name)
            elif name != "$literal":
                _check(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            _check(item)


def _check_schema(schema: Any, where: str) -> None:
    if not isinstance(schema, Mapping):
        raise _wrong(where, f"expected a schema, got {schema!r:.100}")
    if unknown := [name for name in schema if name not in _KEYWORDS]:
        remedy = _INSTEAD.get(unknown[0], "the server has the keywords of draft 4, and bsonType")
        raise _wrong(where, f"{unknown[0]!r} is not a keyword of the server's: {remedy}")
    for name, known in (("bsonType", _TYPES), ("type", _JSON_TYPES)):
        _check_types(schema, name, known, where)
    if "bsonType" in schema and "type" in schema:
        raise _wrong(where, "bsonType and type do not go together: use bsonType")
    _check_values(schema, where)
    for name, below in _below(schema, where):
        _check_schema(below, name)


def _check_values(schema: Mapping[str, Any], where: str) -> None:
    for name, needed in _EXCLUSIVE.items():
        if name in schema and (not isinstance(schema[name], bool) or needed not in schema):
            raise _wrong(where, f"{name} is true or false, and stands beside {needed}: that is draft 4")
    for name in ("enum", "required", "anyOf", "allOf", "oneOf"):
        if name in schema and (not isinstance(schema[name], (list, tuple)) or not schema[name]):
            raise _wrong(where, f"{name} is a list that is not empty")
    for key in _mapping(schema, "properties", where):
        if not isinstance(key, str) or "." in key or not key:
            raise _wrong(where, f"the property {key!r}: a dot is read as a path; write a schema within a schema")


def _check_types(schema: Mapping[str, Any], name: str, known: frozenset[str], where: str) -> None:
    if name not in schema:
        return
    given = schema[name]
    names = [given] if isinstance(given, str) else given
    if not isinstance(names, (list, tuple)) or not names or len(set(map(repr, names))) < len(names):
        raise _wrong(where, f"{name} is a type, or a list of different ones, got {given!r:.100}")
    for each in names:
        if each not in known:
            raise _wrong(where, f"{each!r} is no {name}: expected one of {sorted(known)}")


def _below(schema: Mapping[str, Any], where: str) -> Iterator[tuple[str, Any]]:
    for name in ("properties", "patternProperties", "dependencies"):
        for key, below in _mapping(schema, name, where).items():
            if name != "dependencies" or isinstance(below, Mapping):  # (others are lists of names)
                yield f"{where}.{key}", below
    for name in ("anyOf", "allOf", "oneOf"):
        for place, below in enumerate(schema.get(name, ())):
            yield f"{where}.{name}[{place}]", below
    items = schema.get("items", ())
    for place, below in enumerate(items if isinstance(items, (list, tuple)) else [items]):
        yield f"{where}.items[{place}]", below
    for name in ("not", "additionalProperties", "additionalItems"):
        if not isinstance(schema.get(name, True), bool):
            yield f"{where}.{name}", schema[name]


def _mapping(schema: Mapping[str, Any], name: str, where: str) -> Mapping[Any, Any]:
    value = schema.get(name, {})
    if not isinstance(value, Mapping):
        raise _wrong(where, f"{name} is a dict, got {value!r:.100}")
    return value


def _wrong(where: str, problem: str) -> UsageError:
    return UsageError("expression", f"{where}: {problem}")


# Shown -------------------------------------------------------------------------------------------------------

_FINITE: Final = [
    str({"enum": [kind(name) for name in ("NaN", "Infinity", "-Infinity")]}) for kind in (float, Decimal128)
]
_STRUCTURE: Final = frozenset({"properties", "required", "items", "additionalProperties", "bsonType", "anyOf"})


def _outline(schema: Mapping[str, Any], indent: str) -> Iterator[str]:
    """Give a line for each field, those of documents in documents further in."""
    required = schema.get("required", ())
    for name, below in schema.get("properties", {}).items():
        yield f"{indent}{name}{' (required)' if name in required else ''}: {_summary(below)}"
        yield from _outline(below, f"{indent}  ")
    items = schema.get("items")
    if isinstance(items, Mapping) and "properties" in items:
        yield from _outline(items, indent)
    others = schema.get("additionalProperties")
    if others is False:
        yield f"{indent}no other fields"
    elif isinstance(others, Mapping):
        yield f"{indent}(any other name): {_summary(others)}"
        yield from _outline(others, f"{indent}  ")


def _summary(schema: Mapping[str, Any]) -> str:
    if not schema:
        return "anything"
    parts = [" or ".join(types_of(schema))] if "bsonType" in schema else []
    if "anyOf" in schema:
        parts.append(" or ".join(f"({_summary(choice)})" for choice in schema["anyOf"]))
    if isinstance(schema.get("items"), Mapping):
        parts.append(f"of {_summary(schema['items'])}")
    rest = {name: value for name, value in schema.items() if name not in _STRUCTURE}
    if str(rest.get("not")) in _FINITE:
        parts.append("finite")
        del rest["not"]
    parts += [f"{name} {value if name == 'pattern' else repr(value)}" for name, value in rest.items()]
    return ", ".join(parts)
