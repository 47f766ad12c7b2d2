"""Where user values meet the server's syntax."""

from __future__ import annotations

import datetime as dt
import re
from decimal import Decimal
from typing import Any

import bson
import pytest
from bson import Decimal128, Int64, MaxKey, MinKey, ObjectId, Regex
from hypothesis import example, given
from hypothesis import strategies as st

from mongopatterns.errors import UsageError
from mongopatterns.expressions import (
    Field,
    at_path,
    bson_identity,
    check_document,
    check_path,
    check_time,
    key_filter,
    key_value,
    literal,
    merge_at,
)
from mongopatterns.indexes import Index
from mongopatterns.windows import check_zone

hostile_text = st.text() | st.sampled_from(["$a", "$$ROOT", "$$NOW", "a.b", "$", ".", "", "\0", "$set", "_id"])

hostile_values = st.recursive(
    hostile_text, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("$ab.", min_size=1), inner)
)


@pytest.mark.parametrize("path", ["a", "a.b", "limits.hour", "über.straße", "a b", "a$", "0", "a.0.b", "_x"])
def test_ordinary_paths_pass(path: str) -> None:
    """A dotted path of named parts is returned as it is."""
    assert check_path("path", path) == path


@pytest.mark.parametrize(
    "path", ["", ".", "a.", ".a", "a..b", "$a", "a.$b", "$$ROOT", "a\0", "a.$", ".".join("a" * 33)]
)
def test_paths_that_could_mean_something_else_are_refused(path: str) -> None:
    """An empty part, a leading dollar sign or a NUL raises a UsageError that names the argument."""
    with pytest.raises(UsageError, match=r"^where: "):
        check_path("where", path)


@pytest.mark.parametrize("path", [None, 1, ["a"], b"a"])
def test_a_path_is_text(path: Any) -> None:
    """Anything but text is refused as a path."""
    with pytest.raises(UsageError, match="expected a field path as text"):
        check_path("path", path)


@given(hostile_text)
def test_a_checked_path_has_no_operator_in_it(text: str) -> None:
    """Whatever text comes in: either it is refused, or every part of it is a plain field name."""
    try:
        path = check_path("path", text)
    except UsageError:
        return
    assert all(part and not part.startswith("$") and "\0" not in part for part in path.split("."))


@given(st.recursive(hostile_text | st.integers(-9, 9), lambda inner: st.dictionaries(hostile_text, inner, max_size=3)))
def test_a_checked_document_has_no_operator_in_it(value: Any) -> None:
    """Whatever comes in: either it is refused, or every name in it, at every depth, is a plain field name."""
    try:
        document = check_document("create", value)
    except UsageError:
        return

    def names(inner: Any) -> list[str]:
        return [] if not isinstance(inner, dict) else [*inner, *(n for item in inner.values() for n in names(item))]

    assert document == value
    assert all(name and not name.startswith("$") and "." not in name and "\0" not in name for name in names(document))


@pytest.mark.parametrize("value", [{"a": object()}, {"a": 2**64}, {"a": {1, 2}}])
def test_a_document_that_cannot_be_stored_is_refused_at_once(value: Any) -> None:
    """What BSON cannot hold raises a UsageError when the spec is made, not at the first call."""
    with pytest.raises(UsageError, match=r"^create: cannot be stored"):
        check_document("create", value)


@pytest.mark.parametrize("depth", [181, 100_000])
@pytest.mark.parametrize("wrap", [lambda value: {"a": value}, lambda value: [value]], ids=["documents", "lists"])
def test_what_no_server_stores_so_deep_is_refused(depth: int, wrap: Any) -> None:
    """Documents and lists within each other are a UsageError past the levels that the server stores; no recursion."""
    value: Any = 1
    for _ in range(depth):
        value = wrap(value)
    with pytest.raises(UsageError, match=r"^create.*: is nested deeper than the 180 levels"):
        check_document("create", {"x": value})
    with pytest.raises(UsageError, match=r"^key.*: is nested deeper"):
        key_value("key", {"x": value})


def test_a_checked_document_is_a_copy() -> None:
    """Changing the caller's dict afterwards changes nothing."""
    given_document: dict[str, Any] = {"a": {"b": 1}}
    document = check_document("create", given_document)
    given_document["a"]["b"] = 2
    assert document == {"a": {"b": 1}}


def test_naive_times_are_refused() -> None:
    """A time without a zone raises, one with a zone becomes UTC."""
    with pytest.raises(UsageError, match=r"^now: .* is naive"):
        check_time("now", dt.datetime(2026, 1, 1))  # noqa: DTZ001
    berlin = dt.timezone(dt.timedelta(hours=1))
    new_year = dt.datetime(2026, 1, 1, tzinfo=dt.timezone.utc)
    assert check_time("now", dt.datetime(2026, 1, 1, 1, tzinfo=berlin)) == new_year
    for year in (1, 1969, 9000, 9999):
        with pytest.raises(UsageError, match="expected a year from 1970 to 8999"):
            check_time("now", dt.datetime(year, 1, 1, tzinfo=berlin))


@pytest.mark.parametrize("zone", ["Mars/Olympus", "", None, 5, "../../etc/passwd", "/etc/passwd", "+02:00", "Europe"])
def test_unknown_zones_are_refused(zone: Any) -> None:
    """What is no IANA zone raises a UsageError when the spec is made."""
    assert check_zone("timezone", "Europe/Berlin") == "Europe/Berlin"
    with pytest.raises(UsageError, match=r"^timezone: "):
        check_zone("timezone", zone)


@pytest.mark.parametrize(
    "key",
    [
        *(None, [1], (1,), {1}, re.compile("a"), Regex("a"), float("nan"), 2**63, MinKey(), MaxKey()),
        *(Decimal(1), dt.date(2026, 1, 1), ..., bytearray(b"a"), "\ud800", {"a": [{"$gt": 1}]}),
    ],
    ids=ascii,
)
def test_values_without_one_equality_are_no_keys(key: Any) -> None:
    """None, lists, patterns, NaN, numbers past 64 bits and what BSON cannot hold are refused as keys."""
    with pytest.raises(UsageError, match=r"^key[.:]"):
        key_value("key", key)


@given(
    hostile_text
    | st.integers(-(2**63), 2**63 - 1)
    | st.binary()
    | st.dictionaries(st.text("ab", min_size=1), hostile_text)
)
def test_a_key_is_matched_by_equality_alone(key: Any) -> None:
    """The filter of a key holds the key itself, and a document goes under $eq so that it is no operator."""
    assert key_filter("_id", key_value("key", key)) == {"_id": {"$eq": key} if isinstance(key, dict) else key}


def test_key_type_converts_text() -> None:
    """key_type=ObjectId takes an ObjectId or its 24 digits, and nothing else."""
    key = ObjectId()
    assert key_value("key", str(key), ObjectId) == key_value("key", key, ObjectId) == key
    for bad in ("alice", 7, None, ""):
        with pytest.raises(UsageError, match="is not an ObjectId"):
            key_value("key", bad, ObjectId)


SAME = [(1, 1.0), (1, Int64(1)), (1, Decimal128("1.00")), (0.0, -0.0), (0.5, Decimal128("0.5")), ("a", "a")]
SAME += [({"a": 1}, {"a": 1.0}), ([1], [Decimal128("1")]), (float("nan"), Decimal128("NaN"))]
DIFFERENT = [(1, True), (0, False), (0.1, Decimal128("0.1")), ("1", 1), ("a", "A"), (b"a", "a"), (None, 0)]
DIFFERENT += [({"a": 1, "b": 2}, {"b": 2, "a": 1}), ([1], 1), (ObjectId("0" * 24), "0" * 24)]


@pytest.mark.parametrize(("one", "other"), SAME, ids=str)
def test_identity_joins_what_the_server_finds_equal(one: Any, other: Any) -> None:
    """Numbers of every type, zeros of both signs and NaNs have one identity."""
    assert bson_identity(one) == bson_identity(other)
    assert hash(bson_identity(one)) == hash(bson_identity(other))


@pytest.mark.parametrize(("one", "other"), DIFFERENT, ids=str)
def test_identity_keeps_apart_what_the_server_does(one: Any, other: Any) -> None:
    """True is not 1, a binary 0.1 is not a decimal 0.1, and documents differ by their order."""
    assert bson_identity(one) != bson_identity(other)


def test_reading_a_path_stops_at_what_is_no_document() -> None:
    """at_path gives None for what is missing or leads through a list or a scalar."""
    document = {"a": {"b": {"c": 1}}, "l": [{"b": 1}], "n": None}
    assert at_path(document, "a.b.c") == 1
    assert [at_path(document, path) for path in ("a.x", "l.b", "n.x", "a.b.c.d")] == [None] * 4
    assert at_path(None, "a") is None


def test_merging_names_every_parent() -> None:
    """merge_at rebuilds the parents on the path, each from what is stored there."""
    assert merge_at("$$ROOT", "a.b", 1) == {
        "$mergeObjects": ["$$ROOT", {"a": {"$mergeObjects": ["$$ROOT.a", {"b": 1}]}}],
    }


@example({"$add": [1, 2]})
@example("$$ROOT")
@given(
    st.recursive(
        hostile_text, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("$ab.", min_size=1), inner)
    )
)
def test_a_literal_holds_the_value_as_it_is(value: Any) -> None:
    """literal() wraps and changes nothing."""
    assert bson.decode(bson.encode(literal(value)))["$literal"] == value


def test_fields_and_indexes_check_their_paths() -> None:
    """Field and Index refuse a bad path, and Field a bad default, when they are made."""
    for make in (
        lambda: Field("$a"),
        lambda: Index("a..b"),
        lambda: Field("a", default=-1),
        lambda: Field("a", default=True),
    ):
        with pytest.raises(UsageError):
            make()
    assert Index("a", ("b", -1), unique=True).keys == (("a", 1), ("b", -1))
    assert (Index("a").options, Index("a", unique=True).options) == ({}, {"unique": True})
