"""What validators do on a real server: what they refuse there, and that the server refuses what a spec refuses."""

from __future__ import annotations

import datetime as dt
import enum
import ipaddress
import uuid
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from bson import Decimal128, Int64, ObjectId
from bson.codec_options import CodecOptions
from pydantic import (
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_serializer,
    field_validator,
)
from pymongo.errors import OperationFailure, WriteError

from mongopatterns import CleanText, ObjectIdStr, SafeName, StoredDecimal, Validator, to_document

REFUSED_DOCUMENT = 121
NOON = dt.datetime(2026, 3, 4, 12, tzinfo=dt.timezone.utc)


class Colour(str, enum.Enum):
    RED = "red"
    BLUE = "blue"


class Address(BaseModel):
    model_config = ConfigDict(extra="forbid")
    city: Annotated[str, CleanText(max_length=5, min_length=1)]
    since: dt.date | None = None


class Cat(BaseModel):
    kind: Literal["cat"] = "cat"
    lives: Annotated[int, Field(ge=0, le=9)]


class Dog(BaseModel):
    kind: Literal["dog"] = "dog"
    tricks: list[str]


class User(BaseModel):
    model_config = ConfigDict(arbitrary_types_allowed=True)

    id: ObjectId = Field(alias="_id", default_factory=ObjectId)
    handle: SafeName
    owner: ObjectIdStr
    balance: StoredDecimal
    score: float
    seen: AwareDatetime
    born: dt.date
    wakes: dt.time
    session: dt.timedelta
    token: uuid.UUID
    avatar: bytes
    colour: Colour
    plan: Literal["free", 1] | None
    home: Address
    homes: list[Address]
    work: Address | None
    pet: Annotated[Cat | Dog, Field(discriminator="kind")]
    tags: set[str]
    pair: tuple[int, str]
    counts: dict[str, int]
    even: Annotated[int, Field(multiple_of=2)]
    code: Annotated[str, Field(pattern=r"^\d{3}$")]
    parent: User | None = None
    page: Path
    address: ipaddress.IPv4Address
    order: Sequence[int]


VALUES: dict[str, Any] = {
    "handle": "ann",
    "owner": "0123456789abcdef01234567",
    "balance": Decimal("9.90"),
    "score": 1.5,
    "seen": NOON,
    "born": dt.date(2000, 1, 1),
    "wakes": dt.time(7),
    "session": dt.timedelta(minutes=5),
    "token": uuid.UUID(int=7),
    "avatar": b"\x89",
    "colour": "red",
    "plan": None,
    "home": {"city": "Bonn"},
    "homes": [{"city": "Bonn", "since": dt.date(2020, 1, 1)}],
    "work": None,
    "pet": {"kind": "cat", "lives": 9},
    "tags": {"a", "b"},
    "pair": (1, "a"),
    "counts": {"a": 1},
    "even": 4,
    "code": "123",
    "page": "a/b",
    "address": "10.0.0.1",
    "order": [1, 2],
}


async def use(db: Any, validator: Validator, name: str = "users") -> Any:
    await db.create_collection(name, **validator.options)
    return db[name]


async def refused(collection: Any, document: dict[str, Any]) -> bool:
    try:
        await collection.insert_one(document)
    except WriteError as error:
        return error.code == REFUSED_DOCUMENT
    return False


async def test_a_document_of_the_model_is_stored_and_read_back(db: Any) -> None:
    """A model of every kind of field: what it dumps is taken, and what is stored is the same model."""
    users = await use(db, Validator.from_model(User))
    user = User(**VALUES, parent=User(**VALUES))
    await users.insert_one(to_document(user))
    aware = users.with_options(codec_options=CodecOptions(tz_aware=True))
    assert User.model_validate(await aware.find_one({})) == user


WRONG: list[tuple[str, Any]] = [
    ("_id", "text"),
    ("handle", "$where"),
    ("handle", "a.b"),
    ("handle", ""),
    ("handle", None),
    ("owner", "0123"),
    ("owner", 5),
    ("balance", 9.9),
    ("balance", "9.90"),
    ("score", True),
    ("score", "1.5"),
    ("score", Decimal128("1.5")),
    ("seen", "2026-03-04T12:00:00Z"),
    ("seen", 1_770_000_000),
    ("born", "2000-01-01"),
    ("wakes", 7),
    ("session", "PT5M"),
    ("token", "00000000-0000-0000-0000-000000000007"),
    ("avatar", "text"),
    ("colour", "green"),
    ("colour", None),
    ("plan", "paid"),
    ("plan", True),
    ("home", None),
    ("home", []),
    ("home", {}),
    ("home", {"city": "Bonn", "street": "x"}),
    ("home", {"city": ""}),
    ("home", {"city": "Berlin"}),
    ("home", {"city": {"$gt": ""}}),
    ("homes", [{"city": "Bonn"}, {"city": 1}]),
    ("homes", {"city": "Bonn"}),
    ("work", "Bonn"),
    ("pet", {"kind": "cat", "lives": 10}),
    ("pet", {"kind": "cat", "tricks": []}),
    ("pet", {"kind": "cow"}),
    ("tags", ["a", "a"]),
    ("tags", ["a", 1]),
    ("tags", "a"),
    ("pair", [1]),
    ("pair", [1, "a", 2]),
    ("pair", ["a", 1]),
    ("counts", {"a": "1"}),
    ("counts", [1]),
    ("even", 3),
    ("even", 4.5),
    ("even", True),
    ("code", "12a"),
    ("code", "12"),
    ("parent", "ann"),
    ("page", b"a"),
    ("address", 5),
    ("order", ["1"]),
]


async def test_wrong_values_are_refused_one_by_one(db: Any) -> None:
    """Of a document that is right, one wrong value is enough: of a wrong type, or past a bound."""
    users = await use(db, Validator.from_model(User))
    right = to_document(User(**VALUES))
    taken = [(name, value) for name, value in WRONG if not await refused(users, {**right, name: value})]
    assert taken == []
    assert await users.count_documents({}) == 0
    missing = [name for name in VALUES if not await refused(users, {n: v for n, v in right.items() if n != name})]
    assert missing == []


async def test_updates_are_checked_as_inserts_are(db: Any) -> None:
    """An update that would make a document wrong is refused, and leaves it as it was."""
    users = await use(db, Validator.from_model(User))
    await users.insert_one(to_document(User(**VALUES)))
    with pytest.raises(WriteError) as error:
        await users.update_one({}, {"$set": {"home.city": 5}})
    assert error.value.code == REFUSED_DOCUMENT
    await users.update_one({}, {"$set": {"home.city": "Köln", "other": 1}, "$inc": {"even": 2}})
    assert (await users.find_one({}))["home"]["city"] == "Köln"


async def test_lengths_are_characters_as_python_counts_them(db: Any) -> None:
    """The length is what Python counts: no bytes, no halves, no letters with their accents."""
    users = await use(db, Validator.from_model(Address))
    for city in ("😀😀😀😀😀", "ééééé", "e\u0301e\u0301e"):
        assert not await refused(users, to_document(Address(city=city)))
        assert await refused(users, {"city": f"{city}x"})


class Limits(BaseModel):
    big: Annotated[int, Field(ge=-(2**70), lt=2**63)] = 0
    ratio: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 0.5
    price: Annotated[StoredDecimal, Field(ge=Decimal("0.1"), lt=100)] = Decimal("0.1")


async def test_bounds_of_all_kinds_of_numbers(db: Any) -> None:
    """Bounds hold to the last digit, past what 64 bits hold they say nothing, and NaN is no number in bounds."""
    validator = Validator.from_model(Limits)
    assert validator.unexpressed == ()
    limits = await use(db, validator)
    taken = [
        {"big": Int64(2**63 - 1)},
        {"big": Int64(-(2**63))},
        {"ratio": 5e-324},
        {"price": Decimal128("99.99999999999999999999999999")},
    ]
    for document in taken:
        assert not await refused(limits, document)
    wrong = [
        {"ratio": 0.0},
        {"ratio": float("nan")},
        {"ratio": float("inf")},
        {"price": Decimal128("100")},
        {"price": Decimal128("0.09999999999999999999999999999")},
        {"price": Decimal128("NaN")},
    ]
    for document in wrong:
        assert await refused(limits, document)


async def test_levels_and_actions(db: Any) -> None:
    """Strict holds for documents that were wrong before, moderate lets them be changed; warn refuses nothing."""
    for level, lets_pass in (("strict", False), ("moderate", True)):
        name = f"users_{level}"
        await db[name].insert_one({"city": 5})
        await db.command("collMod", name, **Validator.from_model(Address, level=level).options)  # type: ignore[arg-type]
        if lets_pass:
            await db[name].update_one({}, {"$set": {"city": 6}})
        else:
            with pytest.raises(WriteError, match="failed validation"):
                await db[name].update_one({}, {"$set": {"city": 6}})
        assert await refused(db[name], {"city": 7})
    warned = await use(db, Validator.from_model(Address, action="warn"), "warned")
    assert not await refused(warned, {"city": 5})


async def test_a_collection_may_hold_documents_of_several_models(db: Any) -> None:
    """A union of models takes documents of each of them, and no mixture."""
    pets = await use(db, Validator.from_model(Cat | Dog))
    for pet in (Cat(lives=1), Dog(tricks=["sit"])):
        assert not await refused(pets, to_document(pet))
    assert await refused(pets, {"kind": "dog", "lives": 1})
    assert await refused(pets, {})


class Loose(BaseModel):
    count: int = None  # type: ignore[assignment]
    least: Annotated[int, Field(ge=0)] = -1


async def test_defaults_that_the_model_would_not_take_are_stored(db: Any) -> None:
    """Pydantic does not check defaults: a document of nothing but defaults is taken."""
    loose = await use(db, Validator.from_model(Loose))
    assert not await refused(loose, to_document(Loose()))
    assert await refused(loose, {"least": -2})


def schema(**keywords: Any) -> dict[str, Any]:
    return {"$jsonSchema": keywords}


def below(**keywords: Any) -> dict[str, Any]:
    return schema(properties={"a": keywords})


REFUSED: list[dict[str, Any]] = [
    {"$where": "true"},
    {"$text": {"$search": "x"}},
    {"a": {"$near": [1, 2]}},
    {"a": {"$not": {"$nearSphere": [1, 2]}}},
    {"a": {"$geoNear": [1, 2]}},
    {"$and": [{"b": 1}, {"$where": "true"}]},
    {"$expr": {"$function": {"body": "function(){return true}", "args": [], "lang": "js"}}},
    {"$expr": {"$lt": [{"$rand": {}}, 1]}},
    {"$sampleRate": 0.5},
    below(**{"$ref": "#"}),
    schema(definitions={}),
    below(format="date-time"),
    below(const=1),
    below(default=1),
    below(examples=[1]),
    below(**{"$comment": "x"}),
    schema(id="x"),
    below(bsonType="integer"),
    below(bsonType=[]),
    below(bsonType=["int", "int"]),
    below(type="integer"),
    below(type="string", bsonType="string"),
    below(minimum=1, exclusiveMinimum=2),
    below(exclusiveMaximum=True),
    below(enum=[]),
    schema(required=[]),
    below(anyOf=[]),
    below(items=[{}, {"const": 1}]),
    schema(properties=[]),
    below(additionalProperties=1),
    {"$jsonSchema": "x"},
]


@pytest.mark.parametrize("expression", REFUSED, ids=lambda each: f"{each}"[:60])
async def test_the_server_refuses_what_a_validator_refuses(db: Any, expression: dict[str, Any]) -> None:
    """No expression is refused without need."""
    with pytest.raises(OperationFailure):
        await db.create_collection("refused", validator=expression)


@pytest.mark.parametrize(
    "expression",
    [
        {"$expr": {"$lt": ["$a", "$b"]}},
        {"$expr": {"$gt": ["$$NOW", "$a"]}},
        {"a": {"$type": "string"}, "$or": [{"b": 1}, {"c": {"$exists": False}}]},
        {"a": {"$geoWithin": {"$center": [[0, 0], 1]}}},
        below(title="t", description="d", multipleOf=2, allOf=[{"minimum": 1}], additionalItems=False),
        schema(dependencies={"a": ["b"], "c": {"required": ["d"]}}, patternProperties={"^x": {}}),
    ],
    ids=lambda each: f"{each}"[:60],
)
async def test_the_server_takes_and_keeps_what_a_validator_takes(db: Any, expression: dict[str, Any]) -> None:
    """What is defined is what the server has."""
    validator = Validator(expression, level="moderate", action="warn")
    await use(db, validator, "kept")
    reply = await db.command("listCollections", filter={"name": "kept"})
    assert reply["cursor"]["firstBatch"][0]["options"] == validator.options


async def test_the_server_keeps_the_validator_of_a_model(db: Any) -> None:
    """What was made from a model is what the server has, and what a plan compares."""
    validator = Validator.from_model(User)
    await use(db, validator)
    reply = await db.command("listCollections", filter={"name": "users"})
    assert Validator(reply["cursor"]["firstBatch"][0]["options"]["validator"]) == validator


async def test_a_pattern_with_a_group_in_long_text_is_given_up_on_by_the_server(db: Any) -> None:
    """Which is why such patterns are left out: the server refuses text that matches."""
    await use(db, Validator(below(pattern="^(a|b)*$")), "groups")
    assert not await refused(db.groups, {"a": "a" * 1000})
    assert await refused(db.groups, {"a": "a" * 100_000})


class Odd(BaseModel):
    """What is dumped is not what the annotations say."""

    id: Annotated[str, BeforeValidator(str)] | None = Field(alias="_id", default=None)
    price: Annotated[Decimal, Field(ge=0.01)] = Decimal("0.01")
    limits: dict[str, StoredDecimal] = {"day": 10}  # type: ignore[dict-item]
    steps: list[StoredDecimal] = [0, 1]  # type: ignore[list-item]
    rate: StoredDecimal | None = None
    kind: Literal["a"] = "a"
    token: uuid.UUID

    @field_serializer("rate", when_used="unless-none")
    def as_float(self, value: Decimal) -> float:
        return float(value)

    @field_validator("kind", mode="wrap")
    @classmethod
    def known(cls, value: Any, handler: Any) -> str:
        try:
            return str(handler(value))
        except ValidationError:
            return "unknown"

    @field_validator("token")
    @classmethod
    def as_text(cls, value: uuid.UUID) -> str:
        return str(value)


@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")
async def test_what_serializers_defaults_and_validators_make_of_values_is_stored(db: Any) -> None:
    """Null beside a serializer, unchecked defaults, changed types, and an id that the driver makes: all pass."""
    odd = await use(db, Validator.from_model(Odd), "odd")
    await odd.insert_one(to_document(Odd(token=uuid.UUID(int=7), kind="x")))  # type: ignore[arg-type]
    found = await odd.find_one({})
    assert (found["kind"], found["rate"], found["steps"]) == ("unknown", None, [0, 1])
    assert isinstance(found["_id"], ObjectId)
    assert await refused(odd, {**to_document(Odd(token=uuid.UUID(int=8))), "rate": "1"})
    assert await refused(odd, {**to_document(Odd(token=uuid.UUID(int=8))), "price": Decimal128("0.009")})
