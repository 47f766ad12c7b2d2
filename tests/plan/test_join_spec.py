"""Definitions of joins: what is refused, what is derived, which filters may hold parameters. No server."""

from __future__ import annotations

import math
import re
from typing import Any

import pytest
from bson import Regex

from mongopatterns import CountOf, Exists, JoinSpec, Many, One, Param, SumOf, UsageError, ValueOf
from mongopatterns.fields import Fields, Shape
from mongopatterns.filters import Where, check_params
from mongopatterns.indexes import Index

KINDS: list[Any] = [One, Many, CountOf, Exists, SumOf]
BASE: dict[str, Any] = {"collection": "f", "local": "a", "foreign": "k"}


def part(kind: Any = Many, **options: Any) -> Any:
    return kind(**{**BASE, **({"amount": "v"} if kind is SumOf else {}), **options})


# Parts ---------------------------------------------------------------------------------------------------------

BAD_PARTS: list[dict[str, Any]] = [
    {"collection": ""},
    {"collection": None},
    {"collection": 5},
    {"local": ""},
    {"local": None},
    {"local": "a..b"},
    {"local": "$a"},
    {"local": "a.$b"},
    {"local": "a\0"},
    {"local": "a.0"},
    {"local": "0.a"},
    {"foreign": ""},
    {"foreign": "k.1.x"},
    {"foreign": "k.$id"},
    {"foreign": 5},
    {"as_": "a.b"},
    {"as_": "$a"},
    {"as_": "_id"},
    {"as_": "a\0"},
    {"as_": 5},
    {"local_as": "int"},
    {"local_as": str},
    {"local_as": ""},
    {"where": None},
    {"where": "x"},
    {"where": [("a", 1)]},
]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("wrong", BAD_PARTS, ids=str)
def test_bad_parts_are_refused(kind: Any, wrong: dict[str, Any]) -> None:
    """Every kind of join names the argument that it cannot use."""
    with pytest.raises(UsageError, match=f"^{next(iter(wrong))}:"):
        part(kind, **wrong)


BAD_OPTIONS: list[tuple[Any, dict[str, Any]]] = [
    *((Many, {"limit": limit}) for limit in (0, -1, True, 1.0, "1", 2**31)),
    *(
        (kind, {"fields": fields})
        for kind in (One, Many)
        for fields in ("n", 5, {"n": 0}, {"n": "x"}, ["$n"], {"_id": 0})
    ),
    *((kind, {"fields": fields}) for kind in (One, Many) for fields in (["a", "a.b"], ["a.b", "a"], ["_id.a"], [5])),
    *((kind, {"sort": sort}) for kind in (One, Many) for sort in ("n", {"n": 1}, [("n", 0)], [("n", 1), ("n", -1)])),
    *(
        (kind, {"joins": joins})
        for kind in (One, Many)
        for joins in (5, "x", [5], part(), [ValueOf("a")], {"a": part()})
    ),
    *((SumOf, {"amount": amount}) for amount in ("", "$v", None, 5)),
]


@pytest.mark.parametrize(("kind", "wrong"), BAD_OPTIONS, ids=str)
def test_bad_options_are_refused(kind: Any, wrong: dict[str, Any]) -> None:
    """What only some kinds of joins have is checked when they are made."""
    with pytest.raises(UsageError, match=f"^{next(iter(wrong))}:"):
        part(kind, **wrong)


def test_parts_with_one_name_are_refused() -> None:
    """Two joins cannot give one field, at the top or within a join; the collection's name is the name by default."""
    assert part().as_ == "f"
    with pytest.raises(UsageError, match=r"^as_:.*'f'"):
        JoinSpec("p", joins=[part(), part(CountOf)])
    with pytest.raises(UsageError, match=r"^as_:.*'x'"):
        part(joins=[part(as_="x"), part(One, as_="x")])
    JoinSpec("p", joins=[part(joins=[part()]), part(as_="g", joins=[part()])])
    with pytest.raises(UsageError, match=r"^as_:.*dot"):
        part(collection="a.b")
    assert part(collection="a.b", as_="ab").as_ == "ab"


def test_names_that_are_ours_are_refused() -> None:
    """The field that carries our own values cannot be a join's or a computed one's: they would be lost."""
    with pytest.raises(UsageError, match=r"^as_:"):
        part(as_="_mongopatterns")
    with pytest.raises(UsageError, match=r"^computed:"):
        JoinSpec("p", joins=[part()], computed={"_mongopatterns": ValueOf("a")})


@pytest.mark.parametrize("where", [{"x": {"$in": {1}}}, {"x": object()}, {"x": {"$in": {Param("p")}}}, {"x": 2**70}])
def test_what_no_filter_can_hold_is_refused_at_once(where: dict[str, Any]) -> None:
    """A value that BSON does not know is a mistake of the definition, not of the first call."""
    with pytest.raises(UsageError, match=r"^where:"):
        part(where=where)


# Specs ---------------------------------------------------------------------------------------------------------

BAD_SPECS: list[dict[str, Any]] = [
    {"collection": ""},
    {"collection": 5},
    {"joins": []},
    {"joins": None},
    {"joins": part()},
    {"joins": [ValueOf("x")]},
    {"joins": "fg"},
    {"computed": None},
    {"computed": [("a", ValueOf("x"))]},
    {"computed": {"a": "x"}},
    {"computed": {"a.b": ValueOf("x")}},
    {"computed": {"$a": ValueOf("x")}},
    {"computed": {"_id": ValueOf("x")}},
    {"computed": {"": ValueOf("x")}},
    {"computed": {5: ValueOf("x")}},
    {"computed": {"f": ValueOf("x")}},
    {"computed": {"a": ValueOf("x"), "b": ValueOf("a.y")}},
]


@pytest.mark.parametrize("wrong", BAD_SPECS, ids=str)
def test_bad_specs_are_refused(wrong: dict[str, Any]) -> None:
    """A spec names the argument that it cannot use."""
    with pytest.raises(UsageError, match=f"^{next(iter(wrong))}:"):
        JoinSpec(**{"collection": "p", "joins": [part()], **wrong})


@pytest.mark.parametrize("path", ["", "$a", "a..b", None, 5])
def test_a_value_has_a_path(path: Any) -> None:
    """What is computed is read from a path."""
    with pytest.raises(UsageError, match="path"):
        ValueOf(path)


def test_joins_are_two_deep() -> None:
    """Joins within joins within joins are refused."""
    inner = part(joins=[part(CountOf)])
    JoinSpec("p", joins=[inner])
    with pytest.raises(UsageError, match=r"^joins:.*2 deep"):
        JoinSpec("p", joins=[part(One, joins=[inner])])


def test_specs_are_values() -> None:
    """Specs that say the same are equal, can be hashed, and cannot be changed."""

    def make() -> JoinSpec:
        inner = [part(One, where={"x": [1]}, default={"a": 1}, fields=["n"], sort=[("n", 1)])]
        return JoinSpec("p", joins=[part(joins=inner)], computed={"c": ValueOf("f", default=[1])})

    assert make() == make()
    assert hash(make()) == hash(make())
    assert make() != JoinSpec("p", joins=[part()])
    with pytest.raises(AttributeError):
        make().collection = "q"  # type: ignore[misc]


def test_later_changes_of_what_was_given_change_nothing() -> None:
    """A definition keeps what was checked, whatever happens to the lists and dicts that it was made of."""
    where: dict[str, Any] = {"n": {"$in": [1]}}
    fields, sort, inner, joins, computed = ["n"], [("n", 1)], [part(CountOf)], [], {"c": ValueOf("f")}
    default: dict[str, Any] = {"l": []}
    joins.append(part(One, where=where, fields=fields, sort=sort, joins=inner, default=default))
    spec = JoinSpec("p", joins=joins, computed=computed)
    before = repr(spec), spec.parts[0].filter.bound({}), spec.indexes()
    where["n"]["$in"].append(2)
    where["$where"] = "true"
    default["l"].append(1)
    fields.append("$x")
    sort.append(("m", 1))
    for each in (inner, joins, computed):
        each.clear()  # type: ignore[attr-defined]
    assert (repr(spec), spec.parts[0].filter.bound({}), spec.indexes()) == before


def test_the_indexes_of_a_spec() -> None:
    """A spec names an index for each join, nested ones too: keys, then equalities, then the order; none for `_id`."""
    joins = [
        part(where={"user": Param("u"), "n": {"$gt": 1}, "kind": "x"}, sort=[("at", -1), ("_id", 1)]),
        part(One, collection="g", foreign="_id", joins=[part(CountOf, collection="h", foreign="x.y")]),
        part(Exists, collection="h", foreign="z"),
        part(SumOf, collection="h", foreign="z", as_="sum"),
    ]
    assert JoinSpec("p", joins=joins).indexes() == {
        "f": (Index("k", "user", "kind", ("at", -1), "_id"),),
        "h": (Index("x.y"), Index("z")),
    }


# Filters with parameters ---------------------------------------------------------------------------------------

P = Param("p")
GOOD_WHERES: list[tuple[Any, Any]] = [
    ({}, {}),
    ({"a": 1, "b": None}, {"a": 1, "b": None}),
    ({"a": P}, {"a": {"$eq": {"$ne": 1}}}),
    ({"a.b": P, "c": {"$exists": True}}, {"a.b": {"$eq": {"$ne": 1}}, "c": {"$exists": True}}),
    ({"a": {"$gt": P, "$lt": 5}}, {"a": {"$gt": {"$ne": 1}, "$lt": 5}}),
    ({"a": {"$not": {"$gte": P}}}, {"a": {"$not": {"$gte": {"$ne": 1}}}}),
    ({"a": {"$elemMatch": {"x": P}}}, {"a": {"$elemMatch": {"x": {"$eq": {"$ne": 1}}}}}),
    ({"a": {"$elemMatch": {"$gt": P}}}, {"a": {"$elemMatch": {"$gt": {"$ne": 1}}}}),
    ({"$or": [{"a": P}, {"$nor": [{"b": 1}]}]}, {"$or": [{"a": {"$eq": {"$ne": 1}}}, {"$nor": [{"b": 1}]}]}),
    ({"$expr": {"$gt": ["$a", "$b"]}}, {"$expr": {"$gt": ["$a", "$b"]}}),
    ({"a": {"x": 1}}, {"a": {"x": 1}}),
    ({"a": re.compile("x")}, {"a": re.compile("x")}),
]


@pytest.mark.parametrize(("where", "bound"), GOOD_WHERES, ids=str)
def test_parameters_are_bound_as_data(where: Any, bound: Any) -> None:
    """A value takes the place of its parameter under an operator that compares; the rest of the filter stays."""
    checked = Where(where)
    assert checked.params == ({"p"} if "Param" in repr(where) else set())
    assert checked.bound({"p": {"$ne": 1}}) == bound
    assert where == next(each for each, _ in GOOD_WHERES if each is where)


BAD_WHERES: list[Any] = [
    {"$where": "true"},
    {"$text": {"$search": "x"}},
    {"a": {"$near": [0, 0]}},
    {"a": {"$nearSphere": [0, 0]}},
    {"$or": [{"$where": "true"}]},
    {"$and": [{"$nor": [{"a": {"$near": [0, 0]}}]}]},
    {"a": {"$not": {"$near": [0, 0]}}},
    {"a": {"$elemMatch": {"x": {"$near": [0, 0]}}}},
    {"$expr": {"$eq": ["$a", P]}},
    {"$expr": P},
    {"$or": P},
    {"$or": [P]},
    {"$or": {"a": P}},
    {"a": {"$exists": P}},
    {"a": {"$regex": P}},
    {"a": {"$in": [1, P]}},
    {"a": {"$all": P}},
    {"a": {"$size": P}},
    {"a": {"$type": P}},
    {"a": {"$mod": [P, 1]}},
    {"a": {"$not": P}},
    {"a": {"$elemMatch": P}},
    {"a": {"$eq": {"x": P}}},
    {"a": {"x": P}},
    {"a": [P]},
    {"a": {"$unknown": P}},
    {"$a": P},
    {"": P},
    {"a..b": P},
    {5: P},
]


@pytest.mark.parametrize("where", BAD_WHERES, ids=str)
def test_filters_that_a_join_cannot_use(where: Any) -> None:
    """Operators that do not work within a join, and parameters in places where a value could be run, are refused."""
    with pytest.raises(UsageError, match=r"^where:"):
        part(where=where)


@pytest.mark.parametrize("name", ["", None, 5])
def test_a_parameter_has_a_name(name: Any) -> None:
    """A parameter is named by text."""
    with pytest.raises(UsageError, match="name"):
        Param(name)


def test_equalities_of_a_filter() -> None:
    """Only a path that must equal one value that is not null is an equality."""
    where = {
        "a": 1,
        "b": Param("b"),
        "c": {"$eq": 1},
        "d": {"$eq": Param("d")},
        "e": {"x": 1},
        "f": {"$in": [1]},
        "g": None,
        "h": {"$gt": 1},
        "i": re.compile("x"),
        "j": Regex("x"),
        "k": {"$eq": 1, "$gt": 0},
        "$or": [{"l": 1}],
    }
    assert Where(where).equal == ("a", "b", "c", "d", "e")


def test_the_parameters_of_a_spec() -> None:
    """A spec asks for the parameters of all its joins, nested ones too, each once."""
    inner = part(One, where={"$or": [{"x": Param("x")}, {"y": {"$in": Param("y")}}]})
    spec = JoinSpec("p", joins=[part(where={"u": Param("u"), "v": Param("x")}, joins=[inner])])
    assert spec.params == {"u", "x", "y"}
    assert check_params(spec.params, {"u": 1, "x": 2, "y": 3}) == {"u": 1, "x": 2, "y": 3}
    assert check_params(frozenset(), None) == {}
    for wrong, named in (
        ({"u": 1, "x": 1}, "'y'"),
        (None, "'u'"),
        ({"u": 1, "x": 1, "y": 1, "z": 1}, "'z'"),
        (5, "dict"),
    ):
        with pytest.raises(UsageError, match=f"^params:.*{named}"):
            check_params(spec.params, wrong)


@pytest.mark.parametrize("operator", ["$ne", "$gt", "$gte", "$lt", "$lte", "$in", "$nin"])
@pytest.mark.parametrize("pattern", [re.compile("^a"), Regex("^a")], ids=str)
def test_a_pattern_is_never_run(operator: str, pattern: Any) -> None:
    """A pattern that a caller sends is refused where the server would run it; under $eq it is a value."""
    value = [1, pattern] if operator in ("$in", "$nin") else pattern
    with pytest.raises(UsageError, match=r"^params:.*'p'.*pattern"):
        Where({"a": {operator: P}}).bound({"p": value})
    assert Where({"a": P}).bound({"p": pattern}) == {"a": {"$eq": pattern}}


# Fields --------------------------------------------------------------------------------------------------------


def fields(given: Any) -> Fields:
    found = Fields.of("fields", given)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("given", "projection"),
    [
        (["a", "b.c"], {"_id": 1, "a": 1, "b.c": 1}),
        (("a",), {"_id": 1, "a": 1}),
        ({"a": 1, "b.c": True, "_id": 0}, {"_id": 0, "a": 1, "b.c": 1}),
        ({"a": 1, "_id": False}, {"_id": 0, "a": 1}),
        ({"_id": 1}, {"_id": 1}),
        (["_id"], {"_id": 1}),
        (["a", "ab", "a_"], {"_id": 1, "a": 1, "ab": 1, "a_": 1}),
    ],
    ids=str,
)
def test_fields_are_a_projection(given: Any, projection: Any) -> None:
    """Lists and inclusions become the server's projection, which always says what becomes of `_id`."""
    assert fields(given).projection() == projection


def test_whole_fields_stand_for_their_parts() -> None:
    """Fields that come besides are whole: paths below them are left out."""
    assert fields(["a.b", "c"]).projection(["a", "d"]) == {"_id": 1, "c": 1, "a": 1, "d": 1}


def test_everything_is_fetched_where_no_fields_are_named() -> None:
    """Without fields there is no projection, and values are read from the documents."""
    shape = Shape(None, ["a", "d.k"])
    assert shape.projection is None
    documents = [{"a": [1], "d": [{"k": 1}, {"k": [2]}, 3]}, {}]
    assert shape.read("a", documents) == [[1], None]
    assert shape.read("d.k", documents) == [[1, [2]], []]


@pytest.mark.parametrize(
    ("given", "read", "hidden"),
    [
        (["n"], ["a"], {"a"}),
        (["a"], ["a"], set()),
        (["d"], ["d.k"], set()),
        ({"n": 1, "_id": 0}, ["_id"], {"_id"}),
        ({"n": 1, "_id": 0}, ["_id.a"], {"_id"}),
        (["n"], ["_id"], set()),
        (["d.k"], ["d.k"], set()),
    ],
    ids=str,
)
def test_what_is_read_is_fetched_and_taken_away(given: Any, read: list[str], hidden: set[str]) -> None:
    """A path that is not given is fetched to be read, and gone when the document is given."""
    shape = Shape(fields(given), read)
    assert shape.projection is not None
    document = {"_id": 1, **{name.split(".")[0]: 1 for name in shape.projection}}
    wanted = {name: value for name, value in document.items() if name not in hidden}
    shape.clean([document])
    assert document == wanted


@pytest.mark.parametrize(("given", "read"), [(["d.x"], "d.k"), (["d.x"], "d"), (["n"], "d.k")], ids=str)
def test_what_lies_beside_what_is_given_is_computed(given: Any, read: str) -> None:
    """A path beside a given one is computed apart, since it could not be taken out of the document again."""
    shape = Shape(fields(given), [read])
    assert shape.projection is not None
    (ours,) = set(shape.projection) - {"_id", *given}
    (name,) = shape.projection[ours]
    documents = [{"_id": 1, "d": {"x": 1}, ours: {name: [5, None]}}]
    assert shape.read(read, documents) == [[5, None]]
    shape.clean(documents)
    assert documents == [{"_id": 1, "d": {"x": 1}}]


def test_fields_refuse_nothing_by_accident() -> None:
    """Flags are 0 and 1, as whole numbers or truth values; NaN and text are not."""
    for flag in (math.nan, "1", None, 2, -1, [1]):
        with pytest.raises(UsageError, match=r"^fields:"):
            Fields.of("fields", {"a": flag})
