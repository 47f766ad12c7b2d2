"""Validators of models against the real server: random models, random documents of them, and one wrong value each.

Every document that a model dumps is stored, and read back by the model. A document in which one value has a wrong type
is refused by the server, and by the model.
"""

from __future__ import annotations

import datetime as dt
import enum
import ipaddress
import secrets
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal, Optional, Union

import pytest
from bson import Decimal128, ObjectId
from bson.codec_options import CodecOptions
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import AwareDatetime, ConfigDict, Field, TypeAdapter, ValidationError, create_model
from pymongo import MongoClient
from pymongo.errors import BulkWriteError, WriteError

from mongopatterns import CleanText, ObjectIdStr, SafeName, StoredDecimal, Validator, to_document
from mongopatterns.schema._model_patterns import server_pattern

EXAMPLES = settings.default.max_examples  # many more with --hypothesis-profile=deep

UTC = dt.timezone.utc
# One value of each kind that a field may wrongly hold.
WRONG: dict[str, Any] = {
    "text": "wrong text",
    "whole": 7,
    "fraction": 1.5,
    "yes": True,
    "list": [["deep"]],
    "map": {"wrong": {}},
    "oid": ObjectId("0123456789abcdef01234567"),
    "moment": dt.datetime(2026, 3, 4, 5, 6, tzinfo=UTC),
    "decimal": Decimal128("1.5"),
    "bytes": b"\xff\xfe",
    "null": None,
}


class Colour(str, enum.Enum):
    RED = "red"
    BLUE = "blue"


class Size(enum.Enum):
    SMALL = 1
    LARGE = 2


@dataclass(frozen=True)
class Kind:
    """A type of a field: what it is in the model, its values, and which values are wrong in it."""

    annotation: Any
    values: st.SearchStrategy[Any]
    wrong: frozenset[str]
    item: Kind | None = None
    places: tuple[Kind, ...] = ()
    fields: Mapping[str, Kind] = field(default_factory=dict)


def kind(annotation: Any, values: st.SearchStrategy[Any], *taken: str) -> Kind:
    """Make a kind, of what it takes of the wrong values, or what the model would mend."""
    return Kind(annotation, values, frozenset(WRONG) - set(taken))


characters = st.characters(exclude_categories=["Cs"])
text = st.text(characters, max_size=12)
names = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="$."), min_size=1, max_size=8)
whole = st.integers(-(2**63), 2**63 - 1)
MENDED = ("whole", "fraction", "yes")  # (a model takes 7 for a moment, and True for 1)
LEAVES: list[Kind] = [
    kind(str, text, "text", "bytes"),
    kind(Annotated[str, Field(min_length=1, max_length=5)], st.text(characters, min_size=1, max_size=5), "bytes"),
    kind(Annotated[str, Field(pattern=r"^\d+[a-c.]$")], st.from_regex(r"\A\d+[a-c.]\Z"), "bytes"),
    kind(Annotated[str, CleanText(max_length=6)], st.text(characters, max_size=6)),
    kind(Annotated[str, CleanText(max_length=60, multiline=True)], st.text(characters, max_size=30), "text"),
    kind(SafeName, names, "text"),
    kind(ObjectIdStr, st.builds(lambda b: str(ObjectId(b)), st.binary(min_size=12, max_size=12)), "oid", "bytes"),
    kind(int, whole, "whole", "yes"),
    kind(Annotated[int, Field(ge=-3, lt=7)], st.integers(-3, 6), "yes"),
    kind(Annotated[int, Field(gt=9, multiple_of=5)], st.integers(2, 2**60).map(lambda n: n * 5), "yes"),
    kind(float, st.floats(), *MENDED),
    kind(Annotated[float, Field(gt=2, le=4)], st.floats(2, 4, exclude_min=True), "yes"),
    kind(Annotated[float, Field(allow_inf_nan=False)], st.floats(allow_nan=False, allow_infinity=False), *MENDED),
    kind(bool, st.booleans(), "yes"),
    kind(StoredDecimal, st.decimals(-(10**9), 10**9, places=2), "decimal", *MENDED),
    kind(Annotated[StoredDecimal, Field(ge=0, max_digits=9)], st.decimals(0, 1000, places=3), "decimal", *MENDED),
    kind(AwareDatetime, st.datetimes(timezones=st.just(UTC)), "moment", *MENDED),
    kind(dt.date, st.dates(), *MENDED, "moment"),
    kind(dt.time, st.times(), *MENDED, "text", "moment"),
    kind(dt.timedelta, st.timedeltas(dt.timedelta(-900), dt.timedelta(900)), *MENDED),
    kind(uuid.UUID, st.uuids(), "bytes"),
    kind(bytes, st.binary(max_size=9), "text", "bytes"),
    kind(ObjectId, st.builds(ObjectId, st.binary(min_size=12, max_size=12)), "oid"),
    kind(Colour, st.sampled_from(Colour)),
    kind(Size, st.sampled_from(Size), "yes"),
    kind(Literal["a", 7] | None, st.sampled_from(["a", 7, None]), "whole", "null"),
    kind(ipaddress.IPv4Address, st.ip_addresses(v=4), *MENDED, "text", "bytes"),
    kind(PurePosixPath, st.sampled_from([PurePosixPath("a/b"), PurePosixPath("/")]), "text"),
]
leaves = st.sampled_from(LEAVES)
# What is different in Python and has a hash.
HASHABLE = st.sampled_from([each for each in LEAVES if each.annotation in (str, int, uuid.UUID, Colour, dt.date)])


def listed(item: Kind) -> Kind:
    return Kind(list[item.annotation], st.lists(item.values, max_size=3), frozenset(WRONG) - {"list"}, item)  # type: ignore[name-defined]


def sets(item: Kind) -> Kind:
    values = st.sets(item.values, max_size=3)
    return Kind(set[item.annotation], values, frozenset(WRONG) - {"list"}, item)  # type: ignore[name-defined]


def maps(item: Kind) -> Kind:
    values = st.dictionaries(names, item.values, max_size=2)
    return Kind(dict[str, item.annotation], values, frozenset(WRONG) - {"map"}, item)  # type: ignore[name-defined]


def optional(inner: Kind) -> Kind:
    return Kind(Optional[inner.annotation], st.none() | inner.values, inner.wrong - {"null"})  # noqa: UP045


def either(pair: tuple[Kind, Kind]) -> Kind:
    one, other = pair
    return Kind(Union[one.annotation, other.annotation], one.values | other.values, one.wrong & other.wrong)  # noqa: UP007


def pairs(places: tuple[Kind, Kind]) -> Kind:
    annotation: Any = tuple[places[0].annotation, places[1].annotation]  # type: ignore[name-defined]
    return Kind(annotation, st.tuples(*(each.values for each in places)), frozenset(WRONG) - {"list"}, places=places)


@st.composite
def models(draw: st.DrawFn, inner: st.SearchStrategy[Kind], least: int = 1) -> Kind:
    """Make a model of a few fields, some with an alias, some with a default, some that forbids others."""
    fields: dict[str, Any] = {}
    kinds: dict[str, Kind] = {}
    values: dict[str, st.SearchStrategy[Any]] = {}
    optional_values: dict[str, st.SearchStrategy[Any]] = {}
    for place in range(draw(st.integers(least, 4))):
        each = draw(inner)
        alias = draw(st.sampled_from([None, f"Alias {place} é"]))
        stored = alias or f"f{place}"
        kinds[stored] = each
        if draw(st.booleans()):
            fields[f"f{place}"] = (each.annotation, Field(alias=alias))
            values[stored] = each.values
        else:
            fields[f"f{place}"] = (each.annotation, Field(default=draw(each.values), alias=alias))
            optional_values[stored] = each.values
    config = ConfigDict(arbitrary_types_allowed=True, extra=draw(st.sampled_from(["ignore", "forbid", "allow"])))
    model = create_model("Model", __config__=config, **fields)
    built = st.fixed_dictionaries(values, optional=optional_values).map(model.model_validate)
    return Kind(model, built, frozenset(WRONG) - {"map"}, fields=kinds)


inner_kinds = st.recursive(
    leaves,
    lambda inner: st.one_of(
        inner.map(listed),
        HASHABLE.map(sets),
        inner.map(maps),
        leaves.map(optional),
        inner.map(optional),
        st.tuples(leaves, leaves).map(either),
        st.tuples(inner, leaves).map(pairs),
        models(inner),
    ),
    max_leaves=4,
)
whole_models = models(inner_kinds)


def spoilt(draw: Callable[[Any], Any], each: Kind, stored: Any) -> Any:
    """Put one wrong value into a document: in the place of what is there, or deeper."""
    if isinstance(stored, dict) and stored and (each.fields or each.item) and draw(st.integers(0, 3)):
        name = draw(st.sampled_from(sorted(stored)))
        below = each.fields[name] if each.fields else each.item
        return {**stored, name: spoilt(draw, below, stored[name])}  # type: ignore[arg-type]
    if isinstance(stored, list) and stored and (each.places or each.item) and draw(st.booleans()):
        place = draw(st.integers(0, len(stored) - 1))
        below = each.places[place] if each.places else each.item
        return [*stored[:place], spoilt(draw, below, stored[place]), *stored[place + 1 :]]  # type: ignore[arg-type]
    return WRONG[draw(st.sampled_from(sorted(each.wrong)))]


def spoilt_document(draw: Callable[[Any], Any], model: Kind, document: dict[str, Any]) -> dict[str, Any]:
    name = draw(st.sampled_from(sorted(model.fields)))
    return {**document, name: spoilt(draw, model.fields[name], document[name])}


@pytest.fixture(scope="module")
def collection(mongopatterns_client: MongoClient[dict[str, Any]]) -> Iterator[Any]:
    options: CodecOptions[Any] = CodecOptions(tz_aware=True)
    database = mongopatterns_client.get_database(f"validators_{secrets.token_hex(4)}", codec_options=options)
    yield database.create_collection("documents")
    mongopatterns_client.drop_database(database)


def use(collection: Any, validator: Validator) -> None:
    collection.database.command("collMod", collection.name, **validator.options)
    collection.delete_many({})


@settings(max_examples=EXAMPLES * 5 // 4, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data(), model=whole_models)
def test_what_a_model_dumps_is_stored_and_wrong_types_are_not(
    collection: Any, data: st.DataObject, model: Kind
) -> None:
    """Random models: their documents are stored and read back; with one wrong value they are refused, by both."""
    validator = Validator.from_model(model.annotation)
    use(collection, validator)
    documents = [to_document(data.draw(model.values)) for _ in range(3)]
    collection.insert_many([dict(each) for each in documents])
    for stored in collection.find({}, {"_id": 0}):
        model.annotation.model_validate(stored)

    wrong = [spoilt_document(data.draw, model, each) for each in documents]
    for each in wrong:
        with pytest.raises(ValidationError):
            model.annotation.model_validate(each)
    with pytest.raises(BulkWriteError) as refused:
        collection.insert_many([dict(each) for each in wrong], ordered=False)
    assert [error["code"] for error in refused.value.details["writeErrors"]] == [121, 121, 121], refused.value.details


@settings(max_examples=EXAMPLES * 3 // 10, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data(), model=models(leaves, least=2))
def test_a_field_that_is_missing_is_refused_if_the_model_needs_it(
    collection: Any, data: st.DataObject, model: Kind
) -> None:
    """Without one of its fields, a document is taken by the server exactly if the model reads it."""
    use(collection, Validator.from_model(model.annotation))
    document = to_document(data.draw(model.values))
    missing = data.draw(st.sampled_from(sorted(document)))
    rest = {name: value for name, value in document.items() if name != missing}
    try:
        model.annotation.model_validate(rest)
    except ValidationError:
        with pytest.raises(WriteError):
            collection.insert_one(rest)
    else:
        collection.insert_one(rest)


PATTERNS = [
    r"^\d{3}-\d\d$",
    r"^\w+$",
    r"^\S+@\S+\.[a-z]{2,}$",
    r"^[^\s@]+@[^\s@]+$",
    r"^[\w.+-]+$",
    r"^[^\W\d]+$",
    r"^[\s\S]*x$",
    r"\bcat\b",
    r"^.$",
    r"^.{2,4}$",
    r"^(?:a|bc)+$",
    r"^(a|b)(c|d)?$",
    r"^(?P<year>\d{4})-(?P<month>\d\d)$",
    r"^[]a-c-]+$",
    r"^[^]a-c]+$",
    r"é|\u00e9|\x{e9}|\xe9",
    r"^[À-ÿ]+$",
    r"^[\x00-\x1f\n]+$",
    r"^\$\.\{\}\[\]\(\)\|\?\*\+\^\\$",
    r"^#[0-9a-fA-F]{6}$",
    r"^a{2}b{1,}c{0,2}$",
    r"\t|\n|\r",
    r"^a|b$",
    r"^\D\W\S$",
    r"^a??b*?c+?$",
    r"\Aa\z",
    r"^-/&~#$",
    r"^[&~#/-]+$",
]
# What the patterns are about, and what looks like it in another script.
TEXTS = [
    *("", "a", "b", "ab", "abc", "bca", "x", "xx", "cat", "a cat.", "acat", "aabcc", "aab", "a\n", "\n", "\t", "\r"),
    *("123-45", "١٢٣-٤٥", "2026-03", "é", "e\u0301", "À", "ÿÿ", "\u2028", "\x85", "\xa0", " ", "\x1c", "\x1f", "\0"),
    *("a@b.de", "ä@ö.de", "a b@c.de", "a@b", "$.{}[]()|?*+^\\", "#00ff00", "#GG0000", "-/&~#", "&~", "]", "a-]"),
    *("_", "_a1", "\uff41", "Ⅷ", "²", "😀", "😀😀", "‿", "a\u200db", "\u03b11", "1\u03b1 ", "aaa bcb", "K", "\u017f"),
]


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("engine", ["rust-regex", "python-re"])
def test_what_matches_in_the_model_matches_on_the_server(
    mongopatterns_client: Any, mongopatterns_db_name: str, pattern: str, engine: Any
) -> None:
    """The pattern that is written for the server takes every text that the model's takes; of ASCII no other."""
    if engine == "python-re":
        pattern = pattern.replace(r"\x{e9}|", "").replace(r"\z", r"\Z")
    adapter: Any = TypeAdapter(Annotated[str, Field(pattern=pattern)], config=ConfigDict(regex_engine=engine))
    collection = mongopatterns_client[mongopatterns_db_name].texts
    collection.insert_many([{"_id": text} for text in TEXTS])
    written = server_pattern(pattern, 100, python=engine == "python-re").text
    assert written is not None
    found = set(collection.distinct("_id", {"$jsonSchema": {"properties": {"_id": {"pattern": written}}}}))
    taken = {text for text in TEXTS if _takes(adapter, text)}
    assert taken <= found
    if r"\b" not in pattern and r"\s\S" not in pattern:
        more = found - taken
        # (`$` is before the last line's end too, and Python's engine looks at the start alone)
        assert [each for each in more if each.isascii() and not each.endswith("\n") and engine != "python-re"] == []


def _takes(adapter: Any, text: str) -> bool:
    try:
        adapter.validate_python(text)
    except ValidationError:
        return False
    return True
