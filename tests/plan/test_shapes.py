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


BCRYPT = "$2b$12$hunter2"
TEXTS: list[dict[str, Any]] = [
    {"$set": {"pw": BCRYPT}},
    {"$set": {"pw": "$argon2id$v=19$m=65536,t=3,p=4$hunter2"}},
    {"$set": {"pw": "$" + "hunter2" * 30}},
    {"$match": {"$expr": {"$eq": ["$pw", BCRYPT]}}},
    {"$set": {"x": {"$setField": {"field": "$hunter2", "input": "$$ROOT", "value": 1}}}},
    {"$set": {"x": {"$unsetField": {"field": "$hunter2", "input": "$$ROOT"}}}},
    {"$set": {"x": {"$getField": "$hunter2"}}},
    {"$set": {"x": {"$getField": {"field": "$hunter2", "input": "$a"}}}},
    {"$set": {"x": {"$function": {"body": "$hunter2", "args": [], "lang": "js"}}}},
    {"$group": {"_id": 1, "x": {"$accumulator": {"init": "$hunter2", "merge": "$hunter2"}}}},
    {"$set": {"x": {"$regexMatch": {"input": "$hunter2", "regex": "$hunter2", "options": "$hunter2"}}}},
    {"$set": {"x": {"$replaceAll": {"input": "$a", "find": "$hunter2", "replacement": "$hunter2"}}}},
    {"$set": {"x": {"$trim": {"input": "$a", "chars": "$hunter2"}}}},
    {"$set": {"x": {"$const": "$hunter2"}}},
    {"$rankFusion": {"input": {"pipelines": {"a": [{"$search": {"text": {"query": "$hunter2"}}}]}}}},
    {"$rankFusion": {"input": {"pipelines": {"a": [{"$match": {"pw": "$hunter2"}}]}}}},
    {"$scoreFusion": {"input": {"pipelines": {"a": [{"$match": {"pw": "$hunter2"}}]}, "normalization": "none"}}},
    {"$listSessions": {"users": [{"user": "$hunter2"}]}},
    {"$documents": [{"a": "$hunter2"}]},
    {"$newStage": {"what": ["$hunter2"]}},
    {"$lookup": {"from": "a", "as": "b", "newOption": "hunter2"}},
    {"$set": {"members": {"hunter2@example.org": 1, "7hunter2": 1, "a hunter2": 1, "h" * 60 + "hunter2": 1}}},
]


@pytest.mark.parametrize("stage", TEXTS, ids=lambda stage: next(iter(stage)))
def test_text_that_begins_as_a_path_does_is_hidden(stage: dict[str, Any]) -> None:
    """In a pipeline too, wherever text is no path by its looks, or is under what takes text, or is a key of a map."""
    aggregate = shape_of("aggregate", "app", {"aggregate": "users", "pipeline": [stage]})
    update = shape_of("update", "app", {"update": "users", "updates": [{"q": {}, "u": [stage]}]})
    for shape in (aggregate, update):
        assert shape
        assert "hunter2" not in shape


@pytest.mark.parametrize(
    ("stage", "shape"),
    [
        ({"$set": {"a": "$b.c_1.0", "d": "$$this.x"}}, "{$set: {a: $b.c_1.0, d: $$this.x}}"),
        ({"$set": {"a": {"$map": {"input": "$b", "in": "$$this"}}}}, "{$set: {a: {$map: {in: $$this, input: $b}}}}"),
        (
            {"$set": {"a": {"$getField": {"field": "x", "input": {"$first": "$b"}}}}},
            "{$set: {a: {$getField: {field: ?, input: {$first: $b}}}}}",
        ),
        (
            {"$rankFusion": {"input": {"pipelines": {"p": [{"$match": {"a": 1}}, {"$set": {"b": "$c"}}]}}}},
            "{$rankFusion: {input: {pipelines: {p: [{$match: {a: ?}}, {$set: {b: $c}}]}}}}",
        ),
        ({"$set": {"m": {"x y": 1, "b": 1, "z-1": 2}}}, "{$set: {m: {?: ?, b: ?}}}"),
        ({"$listSessions": {"users": [{"user": "a"}]}}, "{$listSessions: {users: [{user: ?}]}}"),
    ],
)
def test_paths_and_names_are_the_shape_of_a_pipeline(stage: dict[str, Any], shape: str) -> None:
    """A plain path is shown, keys that are no names are one `?`, and pipelines within a stage are pipelines."""
    assert (
        shape_of("aggregate", "app", {"aggregate": "u", "pipeline": [stage]}) == f"aggregate app.u pipeline=[{shape}]"
    )


def test_paths_into_arrays_are_names() -> None:
    """What an update changes in an array is told, with its placeholders."""
    change = {"$set": {"items.$.n": 1, "items.$[].n": 1, "items.$[it].n": 1, "a.ann@example.org": 1}}
    shape = shape_of("update", "app", {"update": "u", "updates": [{"q": {}, "u": change}]})
    assert shape == "update app.u updates=[{q: {}, u: {$set: {?: ?, items.$.n: ?, items.$[].n: ?, items.$[it].n: ?}}}]"
    assert shape_of("distinct", "app", {"distinct": "u", "key": "a b"}) == "distinct app.u key=?"


def test_keys_that_are_data_make_one_shape() -> None:
    """Fields that are named after data, such as an address, do not make a shape each."""
    named = [{"find": "u", "filter": {f"{n}@example.org": 1, "kind": n}} for n in ("ann", "zoe", "7")]
    assert len({shape_of("find", "app", command) for command in named}) == 1
