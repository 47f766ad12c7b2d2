"""What the shape of a command shows, and what it never shows."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mongopatterns.shapes import shape_of

SECRET = "$ecret-hunter2"
COMMANDS: list[tuple[str, dict[str, Any]]] = [
    ("find", {"find": "users", "filter": {"name": SECRET}}),
    ("find", {"find": "users", "filter": {"$or": [{"name": {"$regex": SECRET}}]}, "comment": SECRET}),
    ("find", {"find": "users", "filter": {"$expr": {"$eq": ["$name", {"$literal": SECRET}]}}, "let": {"n": SECRET}}),
    ("aggregate", {"aggregate": "users", "pipeline": [{"$match": {"name": SECRET}}]}),
    ("aggregate", {"aggregate": "users", "pipeline": [{"$search": {"text": {"query": SECRET, "path": "name"}}}]}),
    ("aggregate", {"aggregate": "users", "pipeline": [{"$searchMeta": {"text": {"query": SECRET}}}]}),
    ("aggregate", {"aggregate": "users", "pipeline": [{"$vectorSearch": {"filter": {"name": SECRET}}}]}),
    ("aggregate", {"aggregate": "users", "pipeline": [{"$geoNear": {"near": [1, 2], "query": {"name": SECRET}}}]}),
    ("aggregate", {"aggregate": "users", "pipeline": [{"$changeStream": {"resumeAfter": {"_data": SECRET[1:]}}}]}),
    ("update", {"update": "users", "updates": [{"q": {"_id": SECRET}, "u": {"$set": {"name": SECRET}}}]}),
    ("update", {"update": "users", "updates": [{"q": {}, "u": [{"$set": {"name": {"$literal": SECRET}}}]}]}),
    ("insert", {"insert": "users", "documents": [{"name": SECRET}]}),
    ("delete", {"delete": "users", "deletes": [{"q": {"name": SECRET}, "limit": 1}]}),
    ("findAndModify", {"findAndModify": "users", "query": {"name": SECRET}, "update": {"$set": {"name": SECRET}}}),
]


@pytest.mark.parametrize(("name", "command"), COMMANDS)
def test_a_shape_has_no_values(name: str, command: dict[str, Any]) -> None:
    """Text of a caller is not in the shape, not even where it looks like a field path."""
    shape = shape_of(name, "app", command)
    assert shape
    assert "hunter2" not in shape


@given(
    st.recursive(
        st.sampled_from([SECRET, 1, None]),
        lambda inner: (
            st.lists(inner) | st.dictionaries(st.sampled_from(["a", "b.c", "$in", "$gt", "$elemMatch"]), inner)
        ),
        max_leaves=20,
    )
)
def test_no_filter_shows_a_value(value: Any) -> None:
    """Whatever a filter is made of, only its keys and operators are in the shape."""
    shape = shape_of("find", "app", {"find": "users", "filter": {"name": value}})
    assert shape
    assert "hunter2" not in shape


def test_the_query_of_a_search_by_place_is_a_filter() -> None:
    """The stages that are no expressions keep their keys, so that different searches can be told apart."""
    near = {"$geoNear": {"near": [1, 2], "distanceField": "d", "query": {"kind": "bar"}}}
    shape = shape_of("aggregate", "app", {"aggregate": "places", "pipeline": [near]})
    assert shape == "aggregate app.places pipeline=[{$geoNear: {distanceField: ?, near: [?], query: {kind: ?}}}]"


def test_a_shape_is_text_that_can_be_logged() -> None:
    """It is short whatever is sent."""
    shape = shape_of("find", "app", {"find": "users", "filter": {f"field{n}": n for n in range(5000)}})
    assert shape
    assert len(json.dumps(shape)) < 1100
