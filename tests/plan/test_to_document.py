"""Models as the documents that are stored, without a server."""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import ipaddress
import math
import re
import uuid
from collections import OrderedDict, deque
from decimal import Decimal
from pathlib import PurePosixPath
from typing import Any

import bson
import pytest
from bson import Binary, Decimal128, Int64, ObjectId
from hypothesis import given
from hypothesis import strategies as st
from pydantic import AnyUrl, AwareDatetime, BaseModel, Field, RootModel, SecretStr

from mongopatterns import StoredDecimal, UsageError, to_document

NOON = dt.datetime(2026, 3, 4, 12, tzinfo=dt.timezone(dt.timedelta(hours=2)))
ID = ObjectId("65e5c0ffee65e5c0ffee65e5")
UNIQUE = uuid.UUID(int=7)


class Colour(str, enum.Enum):
    RED = "red"


class Size(enum.Enum):
    SMALL = 1
    DAY = dt.date(2026, 1, 1)


class Order(BaseModel):
    id: int = Field(alias="_id")
    total: StoredDecimal
    at: AwareDatetime
    lines: list[Line] = []


class Line(BaseModel):
    price: StoredDecimal
    tags: set[str] = set()


@dataclasses.dataclass
class Point:
    x: int
    on: dt.date


def stored(value: Any) -> Any:
    return to_document({"a": value})["a"]


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (None, None),
        (True, True),
        (7, 7),
        (0.1, 0.1),
        ("a", "a"),
        (b"a", b"a"),
        (bytearray(b"a"), b"a"),
        (ID, ID),
        (Int64(5), Int64(5)),
        (Decimal("1.50"), Decimal128("1.50")),
        (Decimal128("1.50"), Decimal128("1.50")),
        (NOON, NOON),
        (dt.date(2026, 3, 4), dt.datetime(2026, 3, 4, tzinfo=dt.timezone.utc)),
        (dt.time(12, 30), "12:30:00"),
        (
            dt.datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=dt.timezone.utc),
            dt.datetime(1969, 12, 31, 23, 59, 59, 999_000, tzinfo=dt.timezone.utc),
        ),
        (dt.timedelta(minutes=1.5), 90.0),
        (UNIQUE, Binary(UNIQUE.bytes, 4)),
        (Colour.RED, "red"),
        (Size.SMALL, 1),
        (Size.DAY, dt.datetime(2026, 1, 1, tzinfo=dt.timezone.utc)),
        ({Colour.RED}, ["red"]),
        (frozenset({1}), [1]),
        ((1, "a"), [1, "a"]),
        (deque([1]), [1]),
        (PurePosixPath("a/b"), "a/b"),
        (ipaddress.ip_address("::1"), "::1"),
        (ipaddress.ip_network("10.0.0.0/8"), "10.0.0.0/8"),
        (AnyUrl("http://a.b/"), "http://a.b/"),
        (re.compile("a"), re.compile("a")),
        (OrderedDict(b=Decimal(1)), {"b": Decimal128("1")}),
        ({1: "a", Colour.RED: "b", UNIQUE: "c"}, {"1": "a", "red": "b", str(UNIQUE): "c"}),
        ({dt.date(2026, 1, 1): 1}, {"2026-01-01": 1}),
        (Point(1, dt.date(2026, 1, 1)), {"x": 1, "on": dt.datetime(2026, 1, 1, tzinfo=dt.timezone.utc)}),
        ([Line(price=Decimal(1))], [{"price": Decimal128("1"), "tags": []}]),
    ],
    ids=lambda each: repr(each)[:40],
)
def test_values_become_what_a_driver_can_encode(value: Any, written: Any) -> None:
    """Each type has one form, which BSON has, and which does not depend on the client's options."""
    assert stored(value) == written
    assert type(stored(value)) is type(written)
    bson.encode({"": stored(value)})


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (dt.datetime(2026, 1, 1), "a is a naive datetime.*AwareDatetime"),  # noqa: DTZ001  # which is the point
        ([{"b": dt.datetime(2026, 1, 1)}], "a.0.b is a naive datetime"),  # noqa: DTZ001
        (Decimal("1." + "3" * 40), "34 digits"),
        (2**63, "64 bits"),
        (-(2**63) - 1, "64 bits"),
        (SecretStr("x"), "is a secret"),
        (..., "is a ellipsis, which no driver encodes"),
        (1j, "is a complex"),
        ({True: 1}, "keys of a document are text"),
        ({None: 1}, "keys of a document are text"),
        ({1: "a", "1": "b"}, "two keys that are written '1'"),
    ],
    ids=lambda each: repr(each)[:40],
)
def test_what_has_no_exact_form_is_refused(value: Any, problem: str) -> None:
    """Naive datetimes, digits that would be lost, secrets and objects: the message names the place."""
    with pytest.raises(UsageError, match=problem) as refused:
        stored(value)
    assert refused.value.argument == "model"


@pytest.mark.parametrize("model", [5, "a", None, [1], Order, Point, RootModel[int](5)])
def test_what_is_no_document_is_refused(model: Any) -> None:
    """A document is a model, a dataclass or a dict, and not their class."""
    with pytest.raises(UsageError) as refused:
        to_document(model)
    assert refused.value.argument == "model"


def test_a_model_is_stored_by_its_aliases_and_read_back() -> None:
    """What is stored can be read by the model, decimals included."""
    order = Order(_id=1, total=Decimal("9.90"), at=NOON, lines=[Line(price=Decimal("9.9"), tags={"a"})])
    document = to_document(order)
    assert document == {
        "_id": 1,
        "total": Decimal128("9.90"),
        "at": NOON,
        "lines": [{"price": Decimal128("9.9"), "tags": ["a"]}],
    }
    assert Order.model_validate(document) == order


def test_a_dump_of_ones_own_is_converted() -> None:
    """With other options of the dump, its dict is given; it is not changed."""
    dump = Order(_id=1, total=Decimal(1), at=NOON).model_dump(exclude_unset=True, include={"total"})
    assert to_document(dump) == {"total": Decimal128("1")}
    assert dump == {"total": Decimal(1)}


def test_decimals_are_read_from_what_else_is_a_number() -> None:
    """A StoredDecimal takes what a Decimal takes, and is described as one."""
    assert Line.model_validate({"price": "1.5"}).price == Decimal("1.5")
    assert Line.model_validate({"price": Decimal128("1.5")}).model_dump_json() == '{"price":"1.5","tags":[]}'

    class Plain(BaseModel):
        price: Decimal

    for mode in ("validation", "serialization"):
        ours, theirs = Line.model_json_schema(mode=mode), Plain.model_json_schema(mode=mode)  # type: ignore[arg-type]
        assert ours["properties"]["price"] == theirs["properties"]["price"]


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=["Cs"]))
    | st.binary()
    | st.decimals(-1000, 1000, places=3)
    | st.dates()
    | st.times()
    | st.uuids()
    | st.sampled_from(Colour),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs", "Cc"])), inner),
)


@given(st.dictionaries(st.sampled_from("abc"), values))
def test_what_is_stored_is_encoded_and_stays(document: dict[str, Any]) -> None:
    """Any document of such values can be encoded by a driver with default options, and is not changed a second time."""
    once = to_document(document)
    bson.encode(once)
    assert to_document(once) == once


def test_infinities_are_numbers() -> None:
    """What BSON has, it keeps."""
    assert stored(math.inf) == math.inf
    assert stored(Decimal("Infinity")) == Decimal128("Infinity")
