"""What the schema of a model says, and what it says that it does not say, without a server."""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import inspect
import ipaddress
import re
import uuid
from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, TypeVar, Union

import pytest
from bson import Binary, Code, DBRef, Decimal128, Int64, MaxKey, MinKey, ObjectId, Regex, Timestamp
from pydantic import (
    UUID4,
    AfterValidator,
    AnyUrl,
    AwareDatetime,
    Base64Bytes,
    BaseModel,
    BeforeValidator,
    ByteSize,
    ConfigDict,
    Field,
    Json,
    NaiveDatetime,
    PastDatetime,
    PlainSerializer,
    PlainValidator,
    RootModel,
    SecretStr,
    SerializeAsAny,
    StringConstraints,
    TypeAdapter,
    ValidationError,
    WrapSerializer,
    WrapValidator,
    computed_field,
    create_model,
    field_serializer,
    field_validator,
    model_serializer,
    model_validator,
)
from typing_extensions import NotRequired, TypedDict  # (on Python before 3.12, Pydantic takes no other)

from mongopatterns import CleanText, Finding, ObjectIdStr, SafeName, Severity, StoredDecimal, UsageError, to_document
from mongopatterns.schema._model_patterns import server_pattern
from mongopatterns.schema._model_schema import model_schema
from mongopatterns.schema._schema_parts import admits, any_of, enum_of, lengths, nullable, types_of

# What the oldest Pydantic that is allowed has no word for.
HAS_ASCII = "ascii_only" in inspect.signature(StringConstraints).parameters
WHOLE = ["int", "long"]
NUMBER = ["double", "int", "long"]
FINITE = {"not": {"enum": [Decimal128("NaN"), Decimal128("Infinity"), Decimal128("-Infinity")]}}
DECIMAL = {"bsonType": "decimal", **FINITE}
T = TypeVar("T")


class Colour(str, enum.Enum):
    RED = "red"
    BLUE = "blue"


class Size(int, enum.Enum):
    SMALL = 1
    LARGE = 2


class Flags(enum.Flag):
    A = 1
    B = 2


class Odd(enum.Enum):
    THING = object()


class Inner(BaseModel):
    n: int


class Node(BaseModel):
    value: int
    next: Node | None = None


class Tree(BaseModel):
    root: Node
    spare: Node


class CheckedNode(BaseModel):
    below: list[CheckedNode]

    @model_validator(mode="after")
    def check(self) -> CheckedNode:
        return self


class Writer(BaseModel):
    books: list[Book]


class Book(BaseModel):
    by: Writer


class Plus(BaseModel):
    kind: Literal["+"] = "+"
    left: Expression
    right: Expression


class Minus(BaseModel):
    kind: Literal["-"] = "-"
    left: Expression
    right: Expression


class Times(BaseModel):
    kind: Literal["*"] = "*"
    left: Expression
    right: Expression


class Over(BaseModel):
    kind: Literal["/"] = "/"
    left: Expression
    right: Expression


class Power(BaseModel):
    kind: Literal["^"] = "^"
    left: Expression
    right: Expression


class Root(BaseModel):
    kind: Literal["root"] = "root"
    left: Expression
    right: Expression


class Negative(BaseModel):
    kind: Literal["neg"] = "neg"
    left: Expression


Expression = Union[Plus, Minus, Times, Over, Power, Root, Negative, int]  # noqa: UP007  # read by Pydantic


class Cat(BaseModel):
    kind: Literal["cat"] = "cat"
    lives: int


class Dog(BaseModel):
    kind: Literal["dog"] = "dog"
    tricks: list[str]


def or_text(value: Any, handler: Any) -> int | str:
    try:
        return int(handler(value))
    except ValidationError:
        return "unknown"


def as_text(value: object) -> str:
    return str(value)


def unknown(value: Any) -> Missing:  # type: ignore[name-defined]  # noqa: F821
    return value


def short_or_number(value: int) -> int | Annotated[str, Field(max_length=3)]:
    return value


def letter(value: Any) -> Literal["a", "b"]:
    return "a" if value else "b"


def naive(value: dt.datetime) -> NaiveDatetime:
    return value.replace(tzinfo=None)


class Pair(BaseModel, Generic[T]):
    one: T
    other: T


@dataclasses.dataclass
class Point:
    x: float
    y: float = 0.0


class Seat(TypedDict):
    name: str
    row: NotRequired[int]


def field_of(annotation: Any, default: Any = ..., **config: Any) -> tuple[Any, list[str]]:
    """Return the schema of one field, and the codes of what it does not say."""
    given = ConfigDict(arbitrary_types_allowed=True, **config)
    schema, findings = model_schema(create_model("M", __config__=given, f=(annotation, default)))
    assert all(finding.subject.startswith("M.f") for finding in findings)
    return schema["properties"]["f"], [finding.code for finding in findings]


TYPES: list[tuple[Any, Any]] = [
    (str, "string"),
    (int, WHOLE),
    (float, NUMBER),
    (bool, "bool"),
    (bytes, "binData"),
    (AwareDatetime, "date"),
    (dt.date, "date"),
    (dt.time, "string"),
    (dt.timedelta, NUMBER),
    (uuid.UUID, "binData"),
    (type(None), "null"),
    (Path, "string"),
    (ipaddress.IPv4Address, "string"),
    (ipaddress.IPv6Network, "string"),
    (AnyUrl, "string"),
    (ObjectId, "objectId"),
    (Decimal128, "decimal"),
    (Int64, "long"),
    (Binary, "binData"),
    (Regex, "regex"),
    (Timestamp, "timestamp"),
    (Code, ["javascript", "javascriptWithScope"]),
    (DBRef, "object"),
    (MinKey, "minKey"),
    (MaxKey, "maxKey"),
    (dict, "object"),
    (list, "array"),
    (tuple, "array"),
    (int | None, [*WHOLE, "null"]),
    (int | str, [*WHOLE, "string"]),
    (int | float | None, [*WHOLE, "double", "null"]),
    (Json[int], WHOLE),
]


@pytest.mark.parametrize(("annotation", "names"), TYPES, ids=lambda each: str(each)[:50])
def test_types(annotation: Any, names: Any) -> None:
    """Each type of Python has the type in BSON as which it is stored, and nothing is left to be said."""
    assert field_of(annotation) == ({"bsonType": names}, [])


SHAPES: list[tuple[Any, Any]] = [
    (Any, {}),
    (object, {}),
    (Annotated[str, Field(min_length=2, max_length=5)], {"bsonType": "string", "minLength": 2, "maxLength": 5}),
    (Annotated[str, StringConstraints(pattern="^a")], {"bsonType": "string", "pattern": "^a"}),
    (Annotated[str, CleanText(max_length=9)], {"bsonType": "string", "maxLength": 9}),
    (Annotated[int, Field(ge=1, le=3)], {"bsonType": WHOLE, "minimum": 1, "maximum": 3}),
    (
        Annotated[int, Field(gt=1, lt=3)],
        {"bsonType": WHOLE, "minimum": 1, "exclusiveMinimum": True, "maximum": 3, "exclusiveMaximum": True},
    ),
    (Annotated[int, Field(multiple_of=5)], {"bsonType": WHOLE, "multipleOf": 5}),
    (Annotated[int, Field(ge=-(2**70))], {"bsonType": WHOLE, "minimum": -float(2**70)}),
    (Annotated[float, Field(ge=0.5)], {"bsonType": NUMBER, "minimum": 0.5}),
    (Annotated[Decimal, Field(ge=Decimal("0.5"))], {**DECIMAL, "minimum": Decimal128("0.5")}),
    (Annotated[Decimal, Field(ge=0.01)], {**DECIMAL, "minimum": Decimal128("0.01")}),
    (Annotated[StoredDecimal, Field(ge=0.01)], {**DECIMAL, "minimum": 0.01}),
    (Annotated[StoredDecimal, Field(ge=0)], {**DECIMAL, "minimum": 0}),
    (Json, {}),
    (Decimal, DECIMAL),
    (StoredDecimal, DECIMAL),
    (Annotated[Decimal, Field(allow_inf_nan=True)], {"bsonType": "decimal"}),
    (Annotated[str, CleanText(max_length=3), Field(pattern="^a")],
     {"bsonType": "string", "maxLength": 3, "pattern": "^a"}),
    (Json | None, {}),
    (Annotated[dt.timedelta, Field(gt=dt.timedelta(0))],
     {"bsonType": NUMBER, "minimum": 0.0, "exclusiveMinimum": True}),
    (Annotated[int | None, Field(ge=1)], {"bsonType": [*WHOLE, "null"], "minimum": 1}),
    (Colour, {"enum": ["red", "blue"]}),
    (Size, {"bsonType": WHOLE, "enum": [1, 2]}),
    (Colour | None, {"enum": ["red", "blue", None]}),
    (Size | None, {"anyOf": [{"bsonType": "null"}, {"bsonType": WHOLE, "enum": [1, 2]}]}),
    (Literal["a", 1, True, Colour.RED], {"enum": ["a", 1, True, "red"]}),
    (list[int], {"bsonType": "array", "items": {"bsonType": WHOLE}}),
    (list[Any], {"bsonType": "array"}),
    (Annotated[list[int], Field(min_length=1, max_length=3)],
     {"bsonType": "array", "items": {"bsonType": WHOLE}, "minItems": 1, "maxItems": 3}),
    (Sequence[int], {"bsonType": "array", "items": {"bsonType": WHOLE}}),
    (Annotated[Sequence[int], Field(max_length=3)], {"bsonType": "array", "items": {"bsonType": WHOLE}, "maxItems": 3}),
    (deque[int], {"bsonType": "array", "items": {"bsonType": WHOLE}}),
    (set[str], {"bsonType": "array", "items": {"bsonType": "string"}, "uniqueItems": True}),
    (frozenset[int], {"bsonType": "array", "items": {"bsonType": WHOLE}, "uniqueItems": True}),
    (tuple[int, ...], {"bsonType": "array", "items": {"bsonType": WHOLE}}),
    (tuple[()], {"bsonType": "array", "maxItems": 0}),
    (tuple[int, str],
     {"bsonType": "array", "items": [{"bsonType": WHOLE}, {"bsonType": "string"}], "minItems": 2, "maxItems": 2}),
    (dict[str, int], {"bsonType": "object", "additionalProperties": {"bsonType": WHOLE}}),
    (Mapping[str, Any], {"bsonType": "object"}),
    (defaultdict[str, int], {"bsonType": "object", "additionalProperties": {"bsonType": WHOLE}}),
    (Counter[str], {"bsonType": "object", "additionalProperties": {"bsonType": WHOLE}}),
    (Annotated[dict[str, int], AfterValidator(Counter)],
     {"bsonType": "object", "additionalProperties": {"bsonType": WHOLE}}),
    (Annotated[list[str], AfterValidator(Counter)], {"bsonType": "object"}),
    (Annotated[dict[str, int], Field(min_length=1)],
     {"bsonType": "object", "additionalProperties": {"bsonType": WHOLE}, "minProperties": 1}),
    (Inner, {"bsonType": "object", "required": ["n"], "properties": {"n": {"bsonType": WHOLE}}}),
    (Point,
     {"bsonType": "object", "required": ["x"], "properties": {"x": {"bsonType": NUMBER}, "y": {"bsonType": NUMBER}}}),
    (Seat,
     {"bsonType": "object", "required": ["name"],
      "properties": {"name": {"bsonType": "string"}, "row": {"bsonType": WHOLE}}}),
    (Inner | None,
     {"bsonType": ["object", "null"], "required": ["n"], "properties": {"n": {"bsonType": WHOLE}}}),
    (RootModel[list[int]], {"bsonType": "array", "items": {"bsonType": WHOLE}}),
    (Pair[int],
     {"bsonType": "object", "required": ["one", "other"],
      "properties": {"one": {"bsonType": WHOLE}, "other": {"bsonType": WHOLE}}}),
    (Annotated[Cat | Dog, Field(discriminator="kind")],
     {"anyOf": [
         {"bsonType": "object", "required": ["lives"],
          "properties": {"kind": {"enum": ["cat"]}, "lives": {"bsonType": WHOLE}}},
         {"bsonType": "object", "required": ["tricks"],
          "properties": {"kind": {"enum": ["dog"]}, "tricks": {"bsonType": "array", "items": {"bsonType": "string"}}}},
     ]}),
    (int | Annotated[str, Field(max_length=3)],
     {"anyOf": [{"bsonType": WHOLE}, {"bsonType": "string", "maxLength": 3}]}),
]  # fmt: skip


@pytest.mark.parametrize(("annotation", "expected"), SHAPES, ids=lambda each: str(each)[:50])
def test_shapes_and_bounds(annotation: Any, expected: Any) -> None:
    """Bounds, choices, lists, maps, models within models and unions are said in full."""
    assert field_of(annotation) == (expected, [])


UNSAID: list[tuple[Any, Any, list[str]]] = [
    (dt.datetime, {"bsonType": "date"}, ["naive-datetime"]),
    (PastDatetime, {"bsonType": "date"}, ["naive-datetime", "date-bound"]),
    (Annotated[dt.date, Field(ge=dt.date(2000, 1, 1))], {"bsonType": "date"}, ["date-bound"]),
    (Annotated[dt.time, Field(lt=dt.time(12))], {"bsonType": "string"}, ["time-bound"]),
    (Annotated[bytes, Field(max_length=3)], {"bsonType": "binData"}, ["length-of-bytes"]),
    (Annotated[float, Field(multiple_of=0.1)], {"bsonType": NUMBER}, ["multiple-of"]),
    (Annotated[Decimal, Field(multiple_of=2)], DECIMAL, ["multiple-of"]),
    (Annotated[Decimal, Field(max_digits=5, decimal_places=2)], DECIMAL, ["digits", "digits"]),
    (Annotated[str, Field(pattern=r"^\d$")],
     {"bsonType": "string", "pattern": r"^[0-9\x{80}-\x{10FFFF}]\z"}, ["pattern"]),
    (Annotated[str, Field(pattern=r"^(ab)*$")], {"bsonType": "string"}, ["pattern"]),
    (Annotated[str, Field(pattern=re.compile("a", re.IGNORECASE))], {"bsonType": "string"}, ["pattern"]),
    (set[float], {"bsonType": "array", "items": {"bsonType": NUMBER}}, ["unique-items"]),
    (set[AwareDatetime], {"bsonType": "array", "items": {"bsonType": "date"}}, ["unique-items"]),
    (dict[int, str], {"bsonType": "object", "additionalProperties": {"bsonType": "string"}}, ["keys"]),
    (dict[SafeName, str], {"bsonType": "object", "additionalProperties": {"bsonType": "string"}}, ["keys"]),
    (ObjectIdStr,
     {"anyOf": [{"bsonType": "objectId"}, {"bsonType": "string", "pattern": r"^[0-9a-fA-F]{24}\z"}]},
     ["text-of-objectid"]),
    (Flags, {"bsonType": WHOLE}, ["flags"]),
    (Odd, {}, ["any-type"]),
    (complex, {}, ["any-type"]),
    (SecretStr, {}, ["any-type"]),
    (Iterable[int], {}, ["any-type"]),
    (SerializeAsAny[Inner], {}, ["any-type"]),
    (type[int], {}, ["any-type"]),
    (re.Pattern, {}, ["custom-validator"]),
    (Annotated[int, AfterValidator(abs)], {"bsonType": WHOLE}, ["custom-validator"]),
    (Annotated[int, WrapValidator(lambda value, handler: handler(value))], {}, ["custom-validator"]),
    (Annotated[int, WrapValidator(or_text)], {"bsonType": [*WHOLE, "string"]}, ["custom-validator"]),
    (Annotated[Inner, WrapValidator(lambda value, handler: handler(value))],
     {"bsonType": "object", "required": ["n"], "properties": {"n": {"bsonType": WHOLE}}}, ["custom-validator"]),
    (Annotated[uuid.UUID, AfterValidator(as_text)], {"bsonType": "string"}, ["custom-validator"]),
    (Annotated[str, Field(max_length=3), AfterValidator(as_text)],
     {"bsonType": "string", "maxLength": 3}, ["custom-validator"]),
    (Annotated[int, AfterValidator(unknown)], {"bsonType": WHOLE}, ["custom-validator"]),
    (Annotated[int, AfterValidator(short_or_number)],
     {"anyOf": [{"bsonType": WHOLE}, {"bsonType": "string", "maxLength": 3}]}, ["custom-validator"]),
    (Annotated[int, AfterValidator(letter)], {"enum": ["a", "b"]}, ["custom-validator"]),
    (Annotated[str, AfterValidator(letter)], {"bsonType": "string"}, ["custom-validator"]),
    (Annotated[Any, AfterValidator(letter)], {}, ["custom-validator"]),
    (Annotated[AwareDatetime, AfterValidator(naive)], {"bsonType": "date"}, ["custom-validator"]),
    (Annotated[Any, PlainValidator(abs)], {}, ["custom-validator"]),
    (Annotated[int, PlainValidator(abs)], {"bsonType": WHOLE}, ["custom-validator"]),
    (Annotated[StoredDecimal, Field(multiple_of=2)], DECIMAL, ["custom-validator"]),
    (Annotated[StoredDecimal, Field(gt=1), Field(ge=2)],
     {**DECIMAL, "minimum": 1, "exclusiveMinimum": True}, ["custom-validator"]),
    (Annotated[int, PlainSerializer(str, return_type=str)], {"bsonType": "string"}, ["custom-serializer"]),
    (Annotated[int, PlainSerializer(lambda value: value)], {}, ["custom-serializer"]),
    (Annotated[int | None, PlainSerializer(hex, return_type=str, when_used="unless-none")],
     {"bsonType": ["string", "null"]}, ["custom-serializer"]),
    (Annotated[NaiveDatetime, PlainSerializer(str, return_type=str, when_used="unless-none")],
     {"bsonType": ["string", "null"]}, ["custom-serializer"]),
    (Annotated[int, PlainSerializer(str, when_used="json")], {"bsonType": WHOLE}, []),
    (Annotated[int, WrapSerializer(lambda value, handler: handler(value), return_type=int)],
     {"bsonType": WHOLE}, ["custom-serializer"]),
    (ByteSize, {"bsonType": WHOLE, "minimum": 0}, ["custom-serializer"]),
    (Annotated[int, BeforeValidator(lambda value: value)], {"bsonType": WHOLE}, ["custom-validator"]),
    (Annotated[str, AfterValidator(str.strip), Field(pattern="^a")],
     {"bsonType": "string", "pattern": "^a"}, ["custom-validator"]),
    (Annotated[str, CleanText(max_length=3), StringConstraints(to_lower=True)], {"bsonType": "string"}, ["steps"]),
    (Annotated[str, AfterValidator(str.strip), StringConstraints(to_lower=True)],
     {"bsonType": "string"}, ["custom-validator"]),
    (Annotated[str, CleanText(max_length=3), Field(pattern="^a"), Field(pattern="b$")],
     {"bsonType": "string", "maxLength": 3, "pattern": "^a"}, ["steps"]),
    (UUID4, {"bsonType": "binData"}, ["uuid-version"]),
    *([(Annotated[str, StringConstraints(ascii_only=True)], {"bsonType": "string"}, ["pattern"])] if HAS_ASCII else []),
    (Annotated[int, Field(le=10**400)], {"bsonType": WHOLE}, ["bound"]),
    (Annotated[Decimal, Field(ge=Decimal("1." + "1" * 40))], DECIMAL, ["bound"]),
    (Annotated[StoredDecimal, Field(ge=Decimal("1." + "1" * 40))], DECIMAL, ["bound"]),
    (Annotated[int, Field(multiple_of=10**20)], {"bsonType": WHOLE}, ["multiple-of"]),
    (Base64Bytes, {"bsonType": "binData"}, ["custom-validator"]),
]  # fmt: skip


@pytest.mark.parametrize(("annotation", "expected", "codes"), UNSAID, ids=lambda each: str(each)[:50])
def test_what_cannot_be_said_is_left_open_and_noted(annotation: Any, expected: Any, codes: list[str]) -> None:
    """The schema takes at least what the model takes, and each thing that it does not check has a finding."""
    assert field_of(annotation) == (expected, codes)


def test_naive_datetimes_are_refused_where_the_model_asks_for_them() -> None:
    """A NaiveDatetime cannot be stored as what it is, and the message names the field and the remedy."""
    with pytest.raises(UsageError, match=r"M\.f\[\] is a NaiveDatetime.*AwareDatetime") as refused:
        field_of(list[NaiveDatetime])
    assert refused.value.argument == "model"


def test_a_plain_datetime_is_noted_with_its_remedy() -> None:
    """A finding about naive datetimes is a warning that says which annotation to use."""
    (finding,) = model_schema(create_model("M", at=(dt.datetime, ...)))[1]
    assert finding == Finding(
        "naive-datetime",
        Severity.WARNING,
        "M.at",
        "takes datetimes without a zone, which a driver stores as if they were UTC",
        "Annotate it with pydantic.AwareDatetime; to_document refuses naive ones",
    )


# Names, and which there must be ------------------------------------------------------------------------------


class Named(BaseModel):
    id: ObjectIdStr = Field(alias="_id")
    read: int = Field(validation_alias="in")
    written: int = Field(1, serialization_alias="out")
    hidden: int = Field(1, exclude=True)

    @computed_field(alias="theSum")  # type: ignore[prop-decorator]
    @property
    def total(self) -> int:
        return self.read + self.written


def test_names_are_those_that_are_dumped() -> None:
    """A field has the alias by which it is written, or its own name; what is excluded is not there."""
    document = to_document(Named.model_validate({"_id": "a" * 24, "in": 1}))
    schema, findings = model_schema(Named)
    assert list(schema["properties"]) == list(document) == ["_id", "read", "out", "theSum"]
    assert schema["required"] == ["_id", "read"]
    assert [finding.code for finding in findings] == ["text-of-objectid", "computed"]
    assert list(model_schema(Named, by_alias=False)[0]["properties"]) == ["id", "read", "written", "total"]


@pytest.mark.parametrize("alias", ["a.b", "", "$a", "a\0"])
def test_names_that_a_validator_cannot_check_are_refused(alias: str) -> None:
    """A dot would be read as a path."""
    with pytest.raises(UsageError, match="has a field that is stored as"):
        field_of(int, Field(alias=alias))


def test_what_has_no_default_is_required() -> None:
    """A field with a default, a factory or a validator around them may be missing; null is no default."""

    class Model(BaseModel):
        needed: int
        nullable: int | None
        given: int = 1
        made: list[int] = Field(default_factory=list)
        checked: int = 1

        @field_validator("checked")
        @classmethod
        def check(cls, value: int) -> int:
            return value

    assert model_schema(Model)[0]["required"] == ["needed", "nullable"]


@pytest.mark.parametrize(
    ("annotation", "default", "expected"),
    [
        (int, None, {"bsonType": [*WHOLE, "null"]}),
        (Colour, None, {"enum": ["red", "blue", None]}),
        (Annotated[int, Field(ge=0)], -1,
         {"anyOf": [{"bsonType": WHOLE, "minimum": 0}, {"bsonType": WHOLE, "enum": [-1]}]}),
        (Decimal, 0, {"anyOf": [DECIMAL, {"bsonType": WHOLE, "enum": [0]}]}),
        (Annotated[str, Field(min_length=1)], "",
         {"anyOf": [{"bsonType": "string", "minLength": 1}, {"enum": [""]}]}),
        (int, object(), {}),
    ],
)  # fmt: skip
def test_a_default_that_the_model_would_not_take_is_taken(annotation: Any, default: Any, expected: Any) -> None:
    """Pydantic does not check defaults: what is dumped is stored, and there is a finding."""
    assert field_of(annotation, default) == (expected, ["default"])


@pytest.mark.parametrize(
    ("annotation", "default"),
    [
        (int, 1), (float, 0), (int | None, None), (Decimal, Decimal(1)), (Colour, Colour.RED), (list[int], []),
        (Any, None), (int | str, "a"), (Inner, Inner(n=1)), (Point, Point(1)), (dt.date, dt.date(2026, 1, 1)),
        (Annotated[Decimal, Field(ge=0, lt=5)], Decimal("4.5")), (Annotated[int, Field(multiple_of=2)], 4),
        (Annotated[Odd, PlainSerializer(lambda value: value.name, return_type=str, when_used="always")], Odd.THING),
    ],
)  # fmt: skip
def test_a_default_that_fits_changes_nothing(annotation: Any, default: Any) -> None:
    """A default that the type takes, as it is stored, adds nothing to the schema."""
    assert field_of(annotation, default)[0] == field_of(annotation)[0]


@pytest.mark.parametrize(
    ("annotation", "default", "taken"),
    [
        (dict[str, Decimal], {"day": 10}, False),
        (list[Decimal], [0, 1], False),
        (list[Decimal], [Decimal(1)], True),
        (Inner, {"n": "1"}, False),
        (Inner, {}, False),
        (Inner, {"n": 1, "more": None}, True),
        (tuple[int, str], (1, 2), False),
        (Annotated[list[int], Field(min_length=1)], [], False),
        (Annotated[str, Field(pattern="^a")], "b", False),
        (Annotated[str, Field(pattern="^a")], "ab", True),
        (Annotated[float, Field(allow_inf_nan=False)], float("inf"), False),
        (Annotated[Decimal, Field(ge=0)], Decimal("NaN"), False),
    ],
)
def test_defaults_are_looked_into(annotation: Any, default: Any, taken: bool) -> None:
    """What stands within a default, in lists, maps and models, is compared with what the schema takes there."""
    schema, codes = field_of(annotation, default)
    assert ("default" not in codes) is taken
    assert admits(schema, to_document({"f": default})["f"])


@pytest.mark.parametrize(
    ("annotation", "factory", "codes"),
    [
        (list[int], list, []), (dict[str, int], dict, []), (ObjectId, ObjectId, []), (Point, Point, []),
        (Decimal, int, ["default-factory"]), (Annotated[list[int], Field(min_length=1)], list, ["default-factory"]),
        (uuid.UUID, uuid.uuid4, ["default-factory"]),
    ],
)  # fmt: skip
def test_what_a_factory_gives_is_not_known(annotation: Any, factory: Any, codes: list[str]) -> None:
    """Of types that give what the field takes nothing is said; other factories are noted, unless Pydantic checks."""
    assert field_of(annotation, Field(default_factory=factory))[1] == codes
    assert field_of(annotation, Field(default_factory=factory), validate_default=True)[1] == []
    assert field_of(annotation, Field(default_factory=factory, validate_default=True))[1] == []


class Unlike(BaseModel):
    """A model that holds what it does not declare."""

    made: str = Field(default_factory=lambda: 5)  # type: ignore[assignment]
    changed: int = 0
    assigned: int = 0

    @field_validator("changed")
    @classmethod
    def as_text(cls, value):  # (no annotation says that the type is another one now)
        return str(value)


@pytest.mark.parametrize("name", ["made", "changed", "assigned"])
def test_pydantic_warns_of_the_values_that_are_refused_though_a_model_dumps_them(name: str) -> None:
    """A value that is not of its field's declared type is refused, and the dump says of it that it is none."""
    model = Unlike(made="", changed=1) if name == "changed" else Unlike() if name == "made" else Unlike(made="")
    if name == "assigned":
        model.assigned = "5"  # type: ignore[assignment]
    with pytest.warns(UserWarning, match=r"Expected `(int|str)`"):
        document = to_document(model)
    fields = model_schema(Unlike, by_alias=True)[0]["properties"]
    assert [each for each in fields if not admits(fields[each], document[each])] == [name]


def test_null_that_a_serializer_leaves_is_taken() -> None:
    """With when_used="unless-none", null is written as it is: in fields that take it, by annotation or by default."""
    as_float = PlainSerializer(float, return_type=float, when_used="unless-none")

    class Model(BaseModel):
        optional: int | None = None
        checked: int | None
        anything: Any
        union: int | str | None
        never: int
        inner: Annotated[int, as_float] = None  # type: ignore[assignment]

        @field_validator("checked")
        @classmethod
        def check(cls, value: int | None) -> int | None:
            return value

        @field_serializer("optional", "checked", "anything", "union", "never", when_used="unless-none")
        def write(self, value: Any) -> float:
            return float(value)

    properties = model_schema(Model)[0]["properties"]
    assert {name: "null" in types_of(schema) for name, schema in properties.items()} == {
        "optional": True, "checked": True, "anything": True, "union": True, "never": False, "inner": True,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("how", "names"),
    [
        ({"type": "to-string"}, WHOLE),
        ({"type": "to-string", "when_used": "always"}, "string"),
        ({"type": "to-string", "when_used": "json"}, WHOLE),
        ({"type": "format", "formatting_string": "d", "when_used": "always"}, "string"),
        ({"type": "format", "formatting_string": "d", "when_used": "unless-none"}, "string"),
        ({"type": "format", "formatting_string": "d"}, WHOLE),
    ],
)
def test_what_pydantic_writes_as_text_is_text(how: dict[str, Any], names: Any) -> None:
    """Serializers that write text do so in documents unless they are for JSON alone, as they are if nothing is said."""
    assert _core_schema({"type": "int", "serialization": how}) == ({"bsonType": names}, [])


def test_an_id_that_a_validator_makes_text_of_may_be_an_objectid() -> None:
    """The driver gives an ObjectId to a document without an id, and the model reads it; other fields stay text."""
    text = Annotated[str, BeforeValidator(str)]

    class Student(BaseModel):
        id: text | None = Field(alias="_id", default=None)  # type: ignore[valid-type]
        other: text  # type: ignore[valid-type]

    assert "_id" not in to_document(Student(other="a"))
    schema, findings = model_schema(Student)
    assert set(types_of(schema["properties"]["_id"])) == {"string", "null", "objectId"}
    assert types_of(schema["properties"]["other"]) == ["string"]
    assert [finding.subject for finding in findings if finding.code == "text-of-objectid"] == ["Student._id"]


def test_other_fields_are_refused_where_the_model_forbids_them() -> None:
    """extra="forbid" refuses other fields, but for _id; extra="allow" may give them a type; else they are taken."""

    class Typed(BaseModel):
        model_config = ConfigDict(extra="allow")
        __pydantic_extra__: dict[str, int]
        a: int

    class Strict(BaseModel):
        model_config = ConfigDict(extra="forbid")
        a: int
        inner: Inner

    typed, strict = model_schema(Typed)[0], model_schema(Strict)[0]
    assert typed["additionalProperties"] == {"bsonType": WHOLE}
    assert strict["additionalProperties"] is False
    assert typed["properties"]["_id"] == strict["properties"]["_id"] == {}
    assert "additionalProperties" not in strict["properties"]["inner"]
    for extra in ("allow", "ignore"):
        assert "additionalProperties" not in model_schema(create_model("M", __config__={"extra": extra}, a=(int, 1)))[0]


def test_what_the_configuration_of_a_model_says_holds_for_its_own_fields() -> None:
    """Lengths of all text and finite numbers; enums as values; in typed dicts as well, and not in other models."""
    assert field_of(str, str_max_length=3) == ({"bsonType": "string", "maxLength": 3}, [])
    assert field_of(Annotated[str, Field(max_length=2)], str_max_length=3)[0]["maxLength"] == 2
    finite = field_of(float, allow_inf_nan=False)[0]
    assert finite["not"]["enum"][1:] == [float("inf"), float("-inf")]
    assert field_of(Colour, use_enum_values=True) == ({"enum": ["red", "blue"]}, [])
    assert field_of(Inner, str_max_length=3)[0]["properties"]["n"] == {"bsonType": WHOLE}
    assert field_of(Seat, str_max_length=3)[0]["properties"]["name"] == {"bsonType": "string", "maxLength": 3}
    with pytest.raises(ValidationError):
        create_model("M", __config__=ConfigDict(str_max_length=3), f=(Seat, ...))(f={"name": "four"})
    text = create_model("Text", n=(str, ...))
    assert field_of(text, str_max_length=3)[0]["properties"]["n"] == {"bsonType": "string"}


def test_the_end_of_a_pattern_is_that_of_its_engine() -> None:
    """In Python a newline may stand after the end that `$` means, and in the other engine nothing."""
    ends = Annotated[str, Field(pattern="a$")]
    assert field_of(ends)[0]["pattern"] == r"a\z"
    assert field_of(ends, regex_engine="python-re")[0]["pattern"] == "a$"


def test_a_validator_before_a_model_is_noted() -> None:
    """What a validator of the whole model does before its fields are read is not run by the server."""

    class Early(BaseModel):
        a: int

        @model_validator(mode="before")
        @classmethod
        def look(cls, value: Any) -> Any:
            return value

    (finding,) = model_schema(Early)[1]
    assert (finding.code, finding.subject) == ("custom-validator", "Early")
    assert finding.evidence.startswith("look()")


# Whole models ------------------------------------------------------------------------------------------------


def test_a_model_that_holds_itself_is_checked_once() -> None:
    """The server has no $ref: below its second occurrence, a document is taken as it is, and that is said."""
    schema, findings = model_schema(Node)
    assert schema["properties"]["next"] == {"bsonType": ["object", "null"]}
    assert [(finding.code, finding.subject) for finding in findings] == [("recursive", "Node.next")]
    checked = model_schema(CheckedNode)[0]
    assert checked["properties"]["below"] == {"bsonType": "array", "items": {"bsonType": "object"}}
    writer = model_schema(Writer)[0]["properties"]["books"]["items"]
    assert writer["properties"]["by"]["bsonType"] == "object"
    tree = model_schema(Tree)[0]["properties"]
    assert tree["root"] == tree["spare"]


def test_models_that_hold_each_other_are_checked_two_levels_deep() -> None:
    """Kinds of nodes that hold each other do not make a schema of every path through them."""
    schema, findings = model_schema(create_model("Formula", root=(Expression, ...)))
    kinds = schema["properties"]["root"]["anyOf"]
    assert [choice.get("required") for choice in kinds] == [None, *[["left", "right"]] * 6, ["left"]]
    assert len(str(schema)) < 20_000
    assert {finding.code for finding in findings} == {"recursive"}


def test_a_union_of_models_is_a_union_of_documents() -> None:
    """A collection may hold documents of several models."""
    schema, _ = model_schema(Cat | Dog)
    assert [choice["required"] for choice in schema["anyOf"]] == [["lives"], ["tricks"]]


@pytest.mark.parametrize("model", [int, list[int], RootModel[list[int]], Inner | None, Any, "Inner", 5, {"a": int}])
def test_what_is_no_document_is_refused(model: Any) -> None:
    """A model must be dumped as a dict of fields."""
    with pytest.raises(UsageError) as refused:
        model_schema(model)
    assert refused.value.argument == "model"


def test_a_serializer_of_a_model_that_does_not_say_what_it_gives_is_named() -> None:
    """A document that is written by a serializer needs the serializer's annotation, and the message says so."""

    class Free(BaseModel):
        a: int

        @model_serializer
        def write(self):  # type: ignore[no-untyped-def]
            return {"a": self.a}

    with pytest.raises(UsageError, match=r"anything.*annotate it `-> dict\[str, Any\]`"):
        model_schema(Free)


def test_a_model_of_a_root_that_is_a_dict_is_a_document() -> None:
    """A root model whose root is a dict is dumped as a document."""
    assert model_schema(RootModel[dict[str, int]])[0] == {
        "bsonType": "object",
        "properties": {"_id": {}},
        "additionalProperties": {"bsonType": WHOLE},
    }


class Checked(BaseModel):
    a: int
    b: int = 0

    @model_validator(mode="after")
    def in_order(self) -> Checked:
        return self

    @field_validator("a")
    @classmethod
    def is_even(cls, value: int) -> int:
        return value

    @field_serializer("b")
    def as_text(self, value: int) -> str:
        return str(value)


class Written(BaseModel):
    a: int

    @model_serializer
    def write(self) -> dict[str, int]:
        return {"a": self.a}


def test_code_of_the_model_is_named() -> None:
    """Validators and serializers of a model are not run by the server: each is named at its place."""
    schema, findings = model_schema(Checked)
    assert schema["properties"] == {"a": {"bsonType": WHOLE}, "b": {"bsonType": "string"}}
    assert {(finding.subject, finding.evidence.split("(")[0]) for finding in findings} == {
        ("Checked", "in_order"),
        ("Checked.a", "is_even"),
        ("Checked.b", "as_text"),
    }
    written, (finding,) = model_schema(Written)
    assert written["additionalProperties"] == {"bsonType": WHOLE}
    assert finding.code == "custom-serializer"


def test_the_places_of_findings_can_be_read() -> None:
    """A place is a path: fields by dots, items by brackets, values of maps by a star."""
    annotation = dict[str, list[tuple[int, dt.datetime]]]
    (finding,) = model_schema(create_model("Log", entries=(annotation, ...)))[1]
    assert finding.subject == "Log.entries.*[][1]"


def test_items_of_any_number_may_stand_anywhere() -> None:
    """A tuple that ends in any number of items is said in full; of one in the middle what comes before it."""
    end, codes = _tuple_schema([{"type": "int"}, {"type": "str"}], 1)
    assert end["items"] == [{"bsonType": WHOLE}]
    assert (end["additionalItems"], end["minItems"], codes) == ({"bsonType": "string"}, 1, [])
    middle, codes = _tuple_schema([{"type": "int"}, {"type": "str"}, {"type": "bool"}], 1)
    assert middle == {"bsonType": "array", "items": [{"bsonType": WHOLE}], "minItems": 2}
    assert codes == ["items"]


def test_the_table_of_the_page_is_what_a_validator_says() -> None:
    """Each type of the table in docs/validators.md has the type in BSON that stands beside it."""
    page = (Path(__file__).parents[2] / "docs" / "validators.md").read_text()
    table = page.split("| type in the model |")[1].split("\n\n")[0]
    names = {**globals(), "UUID": uuid.UUID, "date": dt.date, "datetime": dt.datetime, "time": dt.time}
    names |= {"timedelta": dt.timedelta, "IPv4Address": ipaddress.IPv4Address}
    told = {
        annotation: named
        for types, named in re.findall(r"^\| (`.*?`)(?: \(.*\))? \| ([\w ]+) \|", table, re.MULTILINE)
        for annotation in re.findall("`([^`]+)`", types)
    }
    shown = {}
    for annotation in told:
        schema, _ = field_of(eval(annotation, names))
        named = [name for choice in schema.get("anyOf", [schema]) for name in types_of(choice)]
        shown[annotation] = "enum" if "enum" in schema else " or ".join(named) or "anything"
    assert shown == told
    assert len(told) == 31


def _tuple_schema(items: list[Any], variadic: int) -> tuple[Any, list[str]]:
    return _core_schema({"type": "tuple", "items_schema": items, "variadic_item_index": variadic})


def _core_schema(schema: dict[str, Any]) -> tuple[Any, list[str]]:
    class Items:
        @classmethod
        def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
            return schema

    return field_of(Items)


class OwnObjectId(ObjectId):
    @classmethod
    def make(cls, value: Any) -> OwnObjectId:
        return cls(value)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
        return {"type": "function-plain", "function": {"type": "no-info", "function": cls.make}}


def test_an_objectid_with_a_validator_of_its_own_is_an_objectid() -> None:
    """A subclass of ObjectId that makes itself of text, as ODMs have one, is stored as what it is."""
    assert field_of(OwnObjectId) == ({"bsonType": "objectId"}, [])


def test_what_is_dumped_as_it_happens_to_be_is_open() -> None:
    """SerializeAsAny in the form of older versions of Pydantic; a serializer of Pydantic's own with its type."""
    own = {"type": "function-wrap", "function": TypeAdapter, "schema": {"type": "any"}}
    assert _core_schema({"type": "int", "serialization": own}) == ({}, ["any-type"])
    typed = {"type": "function-plain", "function": TypeAdapter, "return_schema": {"type": "str"}}
    assert _core_schema({"type": "int", "serialization": typed}) == ({"bsonType": "string"}, [])


def test_an_instance_of_an_enum_is_one_of_its_values() -> None:
    """Where a core schema asks for an instance of a class, its values are those of the class."""
    assert _core_schema({"type": "is-instance", "cls": Colour}) == ({"enum": ["red", "blue"]}, [])
    assert _core_schema({"type": "is-instance", "cls": (int, str)}) == ({}, ["any-type"])


# Parts -------------------------------------------------------------------------------------------------------


def test_alternatives_are_joined_where_they_say_types_alone() -> None:
    """Types come together, the same choice stands once, one that takes everything takes everything."""
    text, number, short = {"bsonType": "string"}, {"bsonType": ["int", "long"]}, {"bsonType": "string", "maxLength": 1}
    assert any_of([text, number]) == {"bsonType": ["string", "int", "long"]}
    assert any_of([short, short, number]) == {"anyOf": [number, short]}
    assert any_of([any_of([short, number]), text]) == {"anyOf": [{"bsonType": ["int", "long", "string"]}, short]}
    assert any_of([text, {}]) == {}
    assert nullable(nullable(text)) == {"bsonType": ["string", "null"]}
    assert nullable({}) == {}


def test_of_values_that_the_server_finds_equal_one_is_kept() -> None:
    """The server refuses an enum that holds 1 and 1.0; True is another value."""
    assert enum_of([1, 1.0, Decimal128("1"), True, "1"])["enum"] == [1, True, "1"]


def test_lengths_of_what_has_none_are_not_said() -> None:
    """Of numbers and of alternatives there is no length."""
    assert lengths({"bsonType": "int"}, 1, 2) is None
    assert lengths({"anyOf": []}, 1, 2) is None
    assert lengths({"bsonType": "string", "maxLength": 3}, None, 5) == {"bsonType": "string", "maxLength": 3}


@pytest.mark.parametrize(
    ("schema", "value", "taken"),
    [
        ({}, object(), True),
        ({"bsonType": "int"}, True, False),
        ({"bsonType": "int"}, 2**40, False),
        ({"bsonType": "long"}, 2**40, True),
        ({"bsonType": "date"}, dt.datetime(2026, 1, 1, tzinfo=dt.timezone.utc), True),
        ({"bsonType": "object"}, {}, True),
        ({"bsonType": "array"}, [], True),
        ({"bsonType": "binData"}, b"", True),
        ({"bsonType": "objectId"}, ObjectId(), True),
        ({"bsonType": "regex"}, Regex("a"), False),
        ({"enum": [1]}, 1.0, True),
        ({"minimum": 1, "exclusiveMinimum": True}, 1, False),
        ({"maximum": Decimal128("1.5"), "exclusiveMaximum": True}, Decimal128("1.5"), False),
        ({"maximum": 2}, 2, True),
        ({"multipleOf": 2}, 3, False),
        ({"minimum": 1}, Decimal128("NaN"), False),
        ({"multipleOf": 2}, Decimal128("Infinity"), False),
        ({"pattern": "^a"}, "ab", True),
        ({"pattern": "("}, "(", False),
        ({"maxLength": 1}, "ab", False),
        ({"anyOf": [{"bsonType": "int"}]}, "a", False),
    ],
)
def test_a_schema_can_be_asked_about_plain_values(schema: Any, value: Any, taken: bool) -> None:
    """In memory a schema answers for single values as the server does, and for their types."""
    assert admits(schema, value) is taken


# Patterns ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "written"),
    [
        ("^[a-z]{3}$", r"^[a-z]{3}\z"),
        (re.compile("a$"), "a$"),
        ("a.b", r"a[^\x{A}]b"),
        ("(?P<x>a)|(?<y>b)|(c)", "(?:a)|(?:b)|(?:c)"),
        (r"\u00e9\x{1F600}\U0001F600\t", r"é😀😀\x{9}"),
        (r"[^\D\s]", r"[^\x{0}-\x{2F}\x{3A}-\x{7F}\x{9}-\x{D}\x{20}]"),
        ("a{2,}?b{,3}c{4}d{1,2}", "a{2,}b{0,3}c{4}d{1,2}"),
        ("(a|b){1,3}", "(?:a|b){1,3}"),
        ("(a+)?", "(?:a+)?"),
        ("(a|b)*", "(?:a|b)*"),
        ("[]]", r"[\]]"),
        ("a|", "a|"),
        (r"\Aa\b\Z", r"^a\z"),
        (r"\.[\-]", r"\.[\-]"),
    ],
)
def test_patterns_are_written_for_the_server(pattern: Any, written: str) -> None:
    """What means the same to both stays, names of groups go, and characters are written as they are or by number."""
    assert server_pattern(pattern, 100).text == written


@pytest.mark.parametrize(
    ("pattern", "longest", "reason"),
    [
        ("(a|b)*", None, "max_length"),
        ("(a|b)*", 1001, "max_length"),
        ("(a+)+", 10, "repeats a group that repeats"),
        ("(?:[a-z]b){251}", 10, "too large"),
        ("a{70000}", 10, "too large"),
        ("(?i)a", 10, "looks around"),
        ("a(?=b)", 10, "looks around"),
        (r"\p{L}", 10, r"\\p means"),
        (r"(a)\1", 10, r"\\1 means"),
        (r"\<a", 10, r"\\< means"),
        ("[a&&b]", 10, "class within a class"),
        ("[a--b]", 10, "class within a class"),
        ("[[:alpha:]]", 10, "class within a class"),
        ("[a-\\d]", 10, "range without an end"),
        ("[a", 10, "ends too early"),
        ("(a", 10, "not closed"),
        ("a)", 10, "not opened"),
        ("*a", 10, "repeats nothing"),
        ("a{}", 10, "repeats nothing"),
        ("^*", 10, "cannot be repeated"),
        ("a*+", 10, "without going back"),
        (r"\x{110000}", 10, "there is not"),
        (r"\uD800", 10, "there is not"),
        (re.compile("a", re.ASCII), 10, "has flags"),
        (re.compile(b"a"), 10, "has flags"),
    ],
)
def test_patterns_that_mean_something_else_to_the_server_are_left_out(
    pattern: Any, longest: int | None, reason: str
) -> None:
    """Each is left out for its own reason, which the finding tells."""
    written = server_pattern(pattern, longest)
    assert written.text is None
    assert re.search(reason, written.reason)
