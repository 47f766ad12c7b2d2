"""What a validator takes, refuses and shows, without a server. What the server says: tests/aio/test_validators.py."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any

import pytest
from pydantic import BaseModel, ConfigDict, Field

from mongopatterns import CleanText, StoredDecimal, UsageError, Validator

SCHEMA = {"$jsonSchema": {"bsonType": "object", "required": ["a"], "properties": {"a": {"bsonType": "int"}}}}


def schema(**keywords: Any) -> dict[str, Any]:
    return {"$jsonSchema": keywords}


def below(**keywords: Any) -> dict[str, Any]:
    return schema(properties={"a": keywords})


# (The server refuses each of them, too: tests/aio/test_validators.py.)
REFUSED: list[tuple[Any, str]] = [
    ({"$where": "true"}, "with \\$expr"),
    ({"$text": {"$search": "x"}}, "with \\$regex"),
    ({"a": {"$near": [1, 2]}}, "\\$geoWithin"),
    ({"a": {"$not": {"$nearSphere": [1, 2]}}}, "\\$geoWithin"),
    ({"a": {"$geoNear": [1, 2]}}, "\\$geoWithin"),
    ({"$and": [{"b": 1}, {"$where": "true"}]}, "JavaScript"),
    ({"$expr": {"$function": {"body": "function(){return true}", "args": [], "lang": "js"}}}, "JavaScript"),
    ({"$expr": {"$lt": [{"$rand": {}}, 1]}}, "not the same twice"),
    ({"$sampleRate": 0.5}, "not the same twice"),
    (below(**{"$ref": "#"}), "write out"),
    (schema(definitions={}), "write out"),
    (below(format="date-time"), "use bsonType"),
    (below(const=1), "use enum"),
    (below(default=1), "fills in nothing"),
    (below(examples=[1]), "leave them out"),
    (below(**{"$comment": "x"}), "use description"),
    (schema(id="x"), "draft 4"),
    (below(bsonType="integer"), "'integer' is no bsonType"),
    (below(bsonType=[]), "a list of different ones"),
    (below(bsonType=["int", "int"]), "a list of different ones"),
    (below(type="integer"), "'integer' is no type"),
    (below(type="string", bsonType="string"), "do not go together"),
    (below(minimum=1, exclusiveMinimum=2), "draft 4"),
    (below(exclusiveMaximum=True), "beside maximum"),
    (below(enum=[]), "enum is a list that is not empty"),
    (schema(required=[]), "required is a list"),
    (below(anyOf=[]), "anyOf is a list"),
    (below(items={"const": 1}), "items"),
    (below(items=[{}, {"const": 1}]), "items\\[1\\]"),
    (below(**{"not": {"const": 1}}), "a.not"),
    (schema(additionalProperties={"const": 1}), "additionalProperties"),
    (schema(patternProperties={"^a": {"const": 1}}), "\\^a"),
    (schema(dependencies={"a": {"const": 1}}), "\\$jsonSchema.a"),
    (below(oneOf=[{"const": 1}]), "oneOf\\[0\\]"),
    (schema(properties=[]), "properties is a dict"),
    (below(additionalProperties=1), "expected a schema"),
    ({"$jsonSchema": "x"}, "expected a schema"),
]


@pytest.mark.parametrize(("expression", "problem"), REFUSED, ids=lambda each: f"{each}"[:60])
def test_what_the_server_refuses_is_refused_when_it_is_defined(expression: Any, problem: str) -> None:
    """The message says where it is, and what to write instead."""
    with pytest.raises(UsageError, match=problem) as refused:
        Validator(expression)
    assert refused.value.argument == "expression"


@pytest.mark.parametrize(
    ("argument", "make"),
    [
        ("expression", lambda: Validator({})),
        ("expression", lambda: Validator("x")),  # type: ignore[arg-type]
        ("expression", lambda: Validator({1: 1})),  # type: ignore[dict-item]
        ("expression", lambda: Validator({"a": {1: 1}})),
        ("expression", lambda: Validator({"a": object()})),
        ("expression", lambda: Validator({"a": 2**64})),
        ("expression", lambda: Validator({"a": "\ud800"})),
        ("expression", lambda: Validator(schema(properties={"a.b": {}}))),  # (the server reads a path)
        ("expression", lambda: Validator(schema(properties={"": {}}))),
        ("level", lambda: Validator(SCHEMA, level="off")),  # type: ignore[arg-type]
        ("action", lambda: Validator(SCHEMA, action="log")),  # type: ignore[arg-type]
        ("model", lambda: Validator.from_model(int)),
    ],
)
def test_what_cannot_be_a_validator_is_refused(argument: str, make: Any) -> None:
    """Nothing, what cannot be sent, and levels and actions that there are not."""
    with pytest.raises(UsageError) as refused:
        make()
    assert refused.value.argument == argument


@pytest.mark.parametrize(
    "expression",
    [
        SCHEMA,
        {"$expr": {"$lt": ["$starts", "$ends"]}},
        {"$expr": {"$eq": ["$a", {"$literal": {"$where": 1}}]}},
        {"a": {"$type": "string"}, "$or": [{"b": 1}, {"c": {"$exists": False}}]},
        below(title="t", description="d", multipleOf=2, allOf=[{"minimum": 1}], additionalItems=False),
        schema(dependencies={"a": ["b"]}, additionalProperties=False),
    ],
)
def test_what_the_server_takes_is_taken_as_it_is(expression: Any) -> None:
    """An expression is not changed."""
    assert Validator(expression).expression == expression


def test_a_validator_is_a_value() -> None:
    """It is equal to another that asks the same, has a hash, and is not changed by who gave the expression."""
    given: dict[str, Any] = {"a": {"$in": [1, 2]}}
    validator = Validator(given, level="moderate")
    given["a"]["$in"].append(3)
    assert validator == Validator({"a": {"$in": [1, 2]}}, level="moderate")
    assert hash(validator) == hash(Validator({"a": {"$in": [1, 2]}}, level="moderate"))
    assert validator != dataclasses.replace(validator, level="strict")
    validator.options["validator"]["a"] = 1
    assert validator.options == {
        "validator": {"a": {"$in": [1, 2]}},
        "validationLevel": "moderate",
        "validationAction": "error",
    }


class Address(BaseModel):
    model_config = ConfigDict(extra="forbid")
    city: Annotated[str, CleanText(max_length=80)]


class User(BaseModel):
    name: str = Field(min_length=1, pattern="(?i)^a")
    homes: list[Address]
    work: Address | None = None
    scores: dict[str, int] = {}
    mixed: int | Annotated[str, Field(max_length=3)] = 1


def test_the_model_and_what_cannot_be_said_of_it() -> None:
    """A validator of a model has its schema, and its findings, which make it no other validator."""
    validator = Validator.from_model(User, level="moderate", action="warn")
    assert (validator.level, validator.action) == ("moderate", "warn")
    assert [str(finding) for finding in validator.unexpressed] == [
        "info pattern: User.name: the pattern is left out: it looks around, or has flags."
    ]
    by_hand = Validator(validator.expression, level="moderate", action="warn")
    assert by_hand == validator
    assert hash(by_hand) == hash(validator)


def test_it_is_shown_a_line_for_each_field() -> None:
    """Printed, a validator is its level, its action, and its fields, with those of documents further in."""
    assert str(Validator.from_model(User)) == "\n".join(  # noqa: FLY002  # a line is a line
        [
            "strict, error",
            "  name (required): string, minLength 1",
            "  homes (required): array, of object",
            "    city (required): string, maxLength 80",
            "    no other fields",
            "  work: object or null",
            "    city (required): string, maxLength 80",
            "    no other fields",
            "  scores: object",
            "    (any other name): int or long",
            "  mixed: (int or long) or (string, maxLength 3)",
        ]
    )
    assert str(Validator({"a": 1, "$jsonSchema": {"properties": {"b": {}}}})) == "strict, error\n  a: 1\n  b: anything"


def test_what_the_server_takes_at_most_is_known() -> None:
    """A schema more than 200 levels deep, or larger than a document may be, is refused when it is defined."""

    def deep(levels: int) -> dict[str, Any]:
        schema: dict[str, Any] = {}
        for _ in range(levels):
            schema = {"properties": {"a": schema}}
        return {"$jsonSchema": schema}

    Validator(deep(99))
    Validator({"$jsonSchema": {"description": "x" * 16_770_000}})
    with pytest.raises(UsageError, match="more than 200 levels deep"):
        Validator(deep(100))
    with pytest.raises(UsageError, match="levels deep"):
        Validator(deep(5000))
    with pytest.raises(UsageError, match="16,777,216"):
        Validator({"$jsonSchema": {"description": "x" * 16_777_216}})


def test_a_decimal_is_shown_as_finite() -> None:
    """What stands for neither infinite nor no number is one word."""

    class Price(BaseModel):
        amount: StoredDecimal
        rate: Annotated[float, Field(allow_inf_nan=False)]

    assert str(Validator.from_model(Price)).split("\n")[1:] == [
        "  amount (required): decimal, finite",
        "  rate (required): double or int or long, finite",
    ]
