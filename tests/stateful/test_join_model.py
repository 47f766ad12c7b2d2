"""Joins against plain nested loops: random documents, joins, parameters and pages, by every strategy.

The reference is written from the promises and shares no code with the package: it has its own equality of BSON values,
its own paths, filters and projections. What it sorts by is whole numbers, and ids whose order is written down here and
asked of the server.
"""

from __future__ import annotations

import copy
import datetime as dt
import math
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from bson import Binary, Code, Decimal128, Int64, MaxKey, MinKey, ObjectId, Regex, Timestamp, UuidRepresentation
from bson.codec_options import CodecOptions
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mongopatterns import CountOf, Exists, Join, JoinSpec, Many, One, Param, SumOf, ValueOf

EXAMPLES = settings.default.max_examples  # many more with --hypothesis-profile=deep

UTC = dt.timezone.utc
OID = ObjectId("0123456789abcdef01234567")
LATER = ObjectId("0123456789abcdef01234568")
OPTIONS: CodecOptions[Any] = CodecOptions(tz_aware=True, tzinfo=UTC, uuid_representation=UuidRepresentation.STANDARD)

# In the order of the server, from the manual's page on the comparison of BSON types; a test asks the server.
IDS: list[Any] = [
    MinKey(),
    None,
    math.nan,
    -math.inf,
    Decimal128("-3"),
    -1.5,
    0,
    Decimal128("0.1"),
    0.1,
    1,
    Decimal128("1.5"),
    2**53,
    Int64(2**53 + 1),
    1e300,
    "",
    "$set",
    "0",
    "0123456789abcdef01234567",
    "1",
    "a",
    "a\0b",
    "é",
    "\uffff",
    "😀",
    {},
    {"a": 1},
    {"a": 1, "b": None},
    {"a": 2},
    {"b": 0},
    {"a": ""},
    {"a": {"b": 1}},
    {"a": [1]},
    b"",
    b"1",
    Binary(b"1", 5),
    b"00",
    uuid.UUID(int=7),
    uuid.UUID(int=1 << 127),
    OID,
    LATER,
    False,
    True,
    dt.datetime(1960, 1, 1, tzinfo=UTC),
    dt.datetime(2026, 3, 4, tzinfo=UTC),
    Timestamp(1, 1),
    Timestamp(1, 2),
    Code("f"),
    MaxKey(),
]
# Values that somebody may join by: those of a line are equal, or nearly.
FAMILIES: list[list[Any]] = [
    [1, 1.0, Decimal128("1"), Decimal128("1.00"), Int64(1), True, "1", [1]],
    [0, -0.0, False, Decimal128("-0"), None, ""],
    [math.nan, Decimal128("NaN"), math.inf, Decimal128("Infinity"), Decimal128("-Infinity")],
    [0.1, Decimal128("0.1"), 2**53, 2**53 + 1, float(2**53)],
    [OID, str(OID), str(OID).upper(), str(OID)[:23], LATER],
    [uuid.UUID(int=7), b"1", Binary(b"1", 5), "1"],
    [dt.datetime(2026, 3, 4, tzinfo=UTC), Timestamp(1, 1), Code("f"), "f"],
    [{"a": 1}, {"a": 1.0}, {"a": 1, "b": 2}, {"b": 2, "a": 1}, {}],
    [Regex("^1", ""), Regex("^1", "i"), "1", {"$ne": None}, "$a"],
    [MinKey(), MaxKey(), None, [], 1],
    [[1], [[1]], 1, [1.0], [None], []],
]


# What the server makes of values ------------------------------------------------------------------------------


def mark(value: Any) -> Any:
    """Return what is equal for two values that are equal to the server."""
    return next(of(value) for kind, of in MARKS if isinstance(value, kind))


def number(value: Any) -> Any:
    exactly = value.to_decimal() if isinstance(value, Decimal128) else value
    return "number", Fraction(exactly) if math.isfinite(exactly) else f"{float(exactly)}"


MARKS: list[tuple[Any, Callable[[Any], Any]]] = [
    (bool, lambda value: ("bool", value)),
    ((int, float, Decimal128), number),
    (Mapping, lambda value: ("document", tuple((name, mark(item)) for name, item in value.items()))),
    (list, lambda value: ("array", tuple(mark(item) for item in value))),
    (uuid.UUID, lambda value: ("binary", 4, value.bytes)),
    (bytes, lambda value: ("binary", getattr(value, "subtype", 0), bytes(value))),
    (Regex, lambda value: ("regex", value.pattern, value.flags)),
    (Code, lambda value: ("code", str(value))),
    ((MinKey, MaxKey), lambda value: type(value).__name__),
    (object, lambda value: (type(value).__name__, value)),
]
RANKS = {mark(value): place for place, value in enumerate(IDS)}


def exact(value: Any) -> Any:
    """Return what is equal for two values that are stored alike; fields in any order, integers of any width."""
    if isinstance(value, Mapping):
        return "document", tuple(sorted((name, exact(item)) for name, item in value.items()))
    if isinstance(value, list):
        return "array", tuple(exact(item) for item in value)
    if isinstance(value, float):
        return "float", repr(value)
    if isinstance(value, Decimal128):
        return "decimal", mark(value)  # (how its digits are written is nobody's promise where it is a sum)
    return mark(value)


def leaves(value: Any, path: str) -> Iterator[Any]:
    """Give what a path leads to: a list on the way stands for the documents in it."""
    first, _, rest = path.partition(".")
    holders = value if isinstance(value, list) else [value]
    for holder in holders:
        if isinstance(holder, Mapping) and first in holder:
            if rest:
                yield from leaves(holder[first], rest)
            else:
                yield holder[first]


def asked(parent: Mapping[str, Any], part: Any) -> set[Any]:
    """Return the marks of the keys of a parent."""
    keys = [key for leaf in leaves(parent, part.local) for key in (leaf if isinstance(leaf, list) else [leaf])]
    turned = {None: lambda key: key, "string": as_text, "objectid": as_object_id}[part.local_as]
    return {mark(key) for key in map(turned, keys) if key is not None and not isinstance(key, MinKey)}


def as_text(key: Any) -> Any:
    strange = isinstance(key, (bool, Code))  # (an int and a str to Python)
    return str(key) if isinstance(key, (str, ObjectId, int)) and not strange else None


def as_object_id(key: Any) -> Any:
    if isinstance(key, str) and not isinstance(key, Code):
        return ObjectId(key) if len(key) == 24 and ObjectId.is_valid(key) else None
    return key if isinstance(key, ObjectId) else None


def found_by(document: Mapping[str, Any], path: str) -> set[Any]:
    """Return the marks of the values that find a document: those at the path, and what lies in a list there."""
    values = list(leaves(document, path))
    return {
        mark(value) for value in [*values, *(item for value in values if isinstance(value, list) for item in value)]
    }


def passes(document: Mapping[str, Any], where: Mapping[str, Any]) -> bool:
    """Tell whether a document matches a filter with the operators that are drawn here."""
    for name, test in where.items():
        if name == "$or":
            if not any(passes(document, each) for each in test):
                return False
        elif not all(compares(document, name, *each) for each in comparisons(test)):
            return False
    return True


def comparisons(test: Any) -> list[tuple[str, Any]]:
    if isinstance(test, Mapping) and test and all(name.startswith("$") for name in test):
        return list(test.items())
    return [("$eq", test)]


def compares(document: Mapping[str, Any], path: str, operator: str, value: Any) -> bool:
    held = list(leaves(document, path)) or [None]
    held += [item for value in held if isinstance(value, list) for item in value]
    marks = [mark(each) for each in held]
    if operator in ("$eq", "$ne"):
        return (mark(value) in marks) is (operator == "$eq")
    if operator in ("$in", "$nin"):
        return any(mark(each) in marks for each in value) is (operator == "$in")
    ints = [each for each in held if isinstance(each, int)]
    return any({"$gte": each >= value, "$lt": each < value}[operator] for each in ints)


def at(value: Any, parts: list[str]) -> Any:
    """Return what the server's expression of a path gives: of each list on the way a list."""
    if not parts:
        return value
    if isinstance(value, Mapping):
        return at(value.get(parts[0]), parts[1:])
    if isinstance(value, list):
        return [at(item, parts) for item in value if isinstance(item, Mapping) and has(item, parts)]
    return None


def has(value: Any, parts: list[str]) -> bool:
    """Tell whether a path leads to something, null and empty lists included."""
    if not parts or isinstance(value, list):
        return True
    return isinstance(value, Mapping) and parts[0] in value and has(value[parts[0]], parts[1:])


def projected(document: Mapping[str, Any], fields: Any) -> dict[str, Any]:
    """Return what of a document is given."""
    if fields is None:
        return copy.deepcopy(dict(document))
    flags = fields if isinstance(fields, Mapping) else dict.fromkeys(fields, 1)
    paths = [path.split(".") for path in flags if path != "_id"]
    given = inside(document, paths)
    if flags.get("_id", 1):
        given["_id"] = document["_id"]
    return given


def inside(document: Mapping[str, Any], paths: list[list[str]]) -> dict[str, Any]:
    given: dict[str, Any] = {}
    for name, value in document.items():
        rests = [path[1:] for path in paths if path[0] == name]
        if [] in rests:
            given[name] = copy.deepcopy(value)
        elif rests and isinstance(value, (Mapping, list)):
            given[name] = within(value, rests)
    return given


def within(value: Any, paths: list[list[str]]) -> Any:
    if isinstance(value, Mapping):
        return inside(value, paths)
    return [within(item, paths) for item in value if isinstance(item, (Mapping, list))]


def ordered(documents: list[dict[str, Any]], sort: Any) -> list[dict[str, Any]]:
    """Sort by whole numbers, nothing before them, and by ids."""
    documents = sorted(documents, key=lambda each: RANKS[mark(each["_id"])])
    for path, direction in reversed(sort or ()):
        documents = sorted(documents, key=lambda each: key_of(each, path), reverse=direction < 0)
    return documents


def key_of(document: Mapping[str, Any], path: str) -> float:
    if path == "_id":
        return RANKS[mark(document["_id"])]
    return -math.inf if document.get(path) is None else document[path]  # type: ignore[no-any-return]


# Joins, by hand ------------------------------------------------------------------------------------------------


class Model:
    """Collections in memory, and what each call comes to."""

    def __init__(self, collections: Mapping[str, list[dict[str, Any]]], spec: JoinSpec, params: Any) -> None:
        self.collections = collections
        self.spec = spec
        self.params = params

    def joined(self, parent: Mapping[str, Any], part: Any) -> Any:
        """Return what one join gives one parent."""
        keys = asked(parent, part)
        where = bound(part.where, self.params)
        found = [
            document
            for document in self.collections.get(part.collection, [])
            if keys & found_by(document, part.foreign) and passes(document, where)
        ]
        if isinstance(part, CountOf):
            return len(found)
        if isinstance(part, Exists):
            return bool(found)
        if isinstance(part, SumOf):
            return added([at(document, part.amount.split(".")) for document in found])
        rows = [
            {**projected(document, part.fields), **{each.as_: self.joined(document, each) for each in part.joins}}
            for document in ordered(found, part.sort)
        ]
        if isinstance(part, Many):
            return rows[: part.limit]
        return rows[0] if rows else part.default

    def row(self, parent: Mapping[str, Any]) -> dict[str, Any]:
        """Return the finished row of a parent, which is whole."""
        row = {**parent, **{part.as_: self.joined(parent, part) for part in self.spec.joins}}
        found = {name: at(row, value.path.split(".")) for name, value in self.spec.computed.items()}
        return {
            **row,
            **{name: self.spec.computed[name].default if value is None else value for name, value in found.items()},
        }

    def rows(self, filter_: Mapping[str, Any], joined: Any, sort: Any) -> list[dict[str, Any]]:
        parents = [parent for parent in self.collections["p"] if passes(parent, filter_)]
        rows = [self.row(parent) for parent in (ordered(parents, sort) if sort else parents)]
        return [row for row in rows if passes(row, joined or {})]

    def find(
        self, filter_: Mapping[str, Any], *, joined: Any = None, sort: Any, skip: int, limit: int, fields: Any
    ) -> list[dict[str, Any]]:
        rows = self.rows(filter_, joined, sort)[skip:]
        names = [*(part.as_ for part in self.spec.joins), *self.spec.computed]
        return [
            {**projected(row, fields), **{name: row[name] for name in names}}
            for row in (rows[:limit] if limit else rows)
        ]


def bound(where: Any, params: Mapping[str, Any]) -> Any:
    """Put the values of a call in place."""
    if isinstance(where, Mapping):
        return {
            name: {"$eq": params[test.name]}
            if isinstance(test, Param) and not name.startswith("$")
            else bound(test, params)
            for name, test in where.items()
        }
    if isinstance(where, list):
        return [bound(each, params) for each in where]
    return params[where.name] if isinstance(where, Param) else where


def added(values: list[Any]) -> Any:
    """Add numbers as the server does: exactly, then in the widest of their types."""
    numbers = [value for value in values if isinstance(value, (int, float, Decimal128)) and not isinstance(value, bool)]
    wide = [number.to_decimal() if isinstance(number, Decimal128) else number for number in numbers]
    total: Any = sum(Fraction(number) for number in wide if math.isfinite(number))
    total = sum((float(number) for number in wide if not math.isfinite(number)), start=float(total))
    if any(isinstance(number, Decimal128) for number in numbers):
        return Decimal128(Decimal(total))  # (the numbers are such that halves of halves are all there is)
    return total if any(isinstance(number, float) for number in numbers) else int(total)


def mutable(value: Any) -> Iterator[Any]:
    """Give all documents and lists within a value, and itself."""
    if isinstance(value, (dict, list)):
        yield value
        for item in value.values() if isinstance(value, dict) else value:
            yield from mutable(item)


def told(rows: Any) -> Any:
    return [exact(row) for row in rows]


# What is drawn -------------------------------------------------------------------------------------------------

PATHS = ["a", "_id", "d.k", "d.e.k", "a.k", "_id.a"]
OFTEN = ["a", "a", "a", "_id", "_id", "d.k", "d.k", *PATHS]
INTS = st.none() | st.integers(0, 3)
TEXTS: Any = st.sampled_from(["x", "$x", {"$ne": None}, "", None, "x"])
AMOUNTS: Any = st.sampled_from(
    [1, 2, -3, 0.5, 2.25, Decimal128("1.5"), "7", None, True, [1], math.inf, -math.inf, math.nan, Int64(5), 10]
)
ODD: Any = st.sampled_from([None, 1, "x", []])


@dataclass(frozen=True)
class Key:
    """Stand for one of the keys that a case is about."""

    place: int


one = (st.integers(0, 2) | st.integers(0, 30)).map(Key)
values = st.one_of(one, one, one, st.lists(one, max_size=3), st.lists(st.lists(one, max_size=2), max_size=2))


def nested(path: str) -> Any:
    """Draw what a path leads through: documents, lists of documents, and what is neither."""
    first, _, rest = path.partition(".")
    document: Any = st.fixed_dictionaries({first: nested(rest) if rest else values}, optional={"m": INTS})
    several = st.lists(document | document | ODD | st.lists(document, max_size=1), max_size=3)
    return st.one_of(document, document, several, several, ODD)


documents: Any = st.fixed_dictionaries(
    {"a": st.one_of(values, values, values, nested("k")), "d": st.one_of(nested("k"), nested("k"), nested("e.k"))},
    optional={
        "n": INTS,
        "s": TEXTS,
        "v": AMOUNTS,
        "x": st.lists(st.fixed_dictionaries({}, optional={"n": INTS}) | ODD, max_size=3) | ODD,
    },
)
drawn_documents: Any = st.lists(st.tuples(st.integers(0, 200), documents), min_size=2, max_size=6)


def stored_of(families: tuple[list[Any], list[Any]], drawn: Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """Put keys in place; they are of few kinds, so that they meet."""
    pool = families[0] + families[1][:2]
    marks = {mark(each) for each in pool}
    near = [each for each in IDS if mark(each) in marks] + [{"a": 1}, {"a": [1]}, "a", 2**53]
    ids = near * (200 // len(near) // 2) + IDS
    found: dict[str, dict[Any, Any]] = {name: {} for name in drawn}
    for name, held in drawn.items():
        for place, document in held:
            id_ = ids[place % len(ids)]
            found[name].setdefault(mark(id_), {"_id": id_, **placed(document, pool)})
    return {name: list(held.values()) for name, held in found.items()}


def placed(value: Any, pool: list[Any]) -> Any:
    """Put values in the place of keys. Of several, none looks like an operator: the server could not look that up."""
    if isinstance(value, Key):
        return copy.deepcopy(pool[value.place % len(pool)])
    if isinstance(value, dict):
        return {name: placed(item, pool) for name, item in value.items()}
    if isinstance(value, list):
        plain = [each for each in pool if not (isinstance(each, dict) and next(iter(each), "").startswith("$"))]
        return [placed(item, plain) for item in value]
    return value


data = st.builds(
    stored_of,
    st.tuples(st.sampled_from(FAMILIES), st.sampled_from(FAMILIES)),
    st.fixed_dictionaries(dict.fromkeys("pfg", drawn_documents)),
)
wheres: Any = st.sampled_from(
    [
        {},
        {},
        {},
        {},
        {},
        {},
        {"n": 1},
        {"n": None},
        {"n": {"$gte": 1}},
        {"n": Param("n")},
        {"n": {"$ne": Param("n")}},
        {"n": {"$lt": Param("n"), "$gte": 0}},
        {"s": Param("s")},
        {"s": {"$in": Param("list")}},
        {"s": {"$nin": Param("list")}},
        {"$or": [{"n": Param("n")}, {"s": {"$eq": Param("s")}}]},
        {"a": Param("s")},
        {"a": 1},
    ]
)
params: Any = st.fixed_dictionaries(
    {"n": st.integers(0, 3), "s": TEXTS, "list": st.lists(st.sampled_from(["x", "$x", "", None]), max_size=2)}
)
sorts: Any = st.sampled_from([None, None, [("n", 1)], [("n", -1)], [("n", 1), ("_id", -1)], [("_id", -1)]])
fields: Any = st.sampled_from(
    [None, None, ["n"], ["d.k", "s"], {"a": 1, "_id": 0}, ["_id"], {"_id": 0, "x.n": 1}, ["a.k"], ["j", "d.e.k"]]
)
defaults: Any = st.sampled_from([None, None, {"n": 1}, "$none", 0])
names = st.sampled_from(["j", "a", "d", "n", "new", "x"])


@st.composite
def parts(draw: Any, depth: int, name: str) -> Any:
    """Draw one join."""
    kind = draw(st.sampled_from([One, Many, One, Many, CountOf, Exists, SumOf]))
    options: dict[str, Any] = {
        "local": draw(st.sampled_from(OFTEN)),
        "foreign": draw(st.sampled_from(OFTEN)),
        "as_": name,
        "local_as": draw(st.sampled_from([None, None, None, None, None, None, "string", "objectid"])),
        "where": draw(wheres),
    }
    if kind is SumOf:
        options["amount"] = draw(st.sampled_from(["v", "v", "n", "x.n"]))
    if kind in (One, Many):
        options.update(fields=draw(fields), sort=draw(sorts))
        if depth:
            inner = draw(st.lists(names, max_size=2, unique=True))
            options["joins"] = [draw(parts(depth - 1, each)) for each in inner]
    if kind is One:
        options["default"] = draw(defaults)
    if kind is Many:
        options["limit"] = draw(st.sampled_from([None, 1, 2]))
    return kind(draw(st.sampled_from(["f", "g", "f", "g", "p", "nothing"])), **options)


@st.composite
def specs(draw: Any) -> Any:
    """Draw what is joined, by names that are or are not those of other fields, and what is computed."""
    chosen = draw(st.lists(names, min_size=1, max_size=2, unique=True))
    joins = [draw(parts(1, name)) for name in chosen]
    paths = st.sampled_from([f"{chosen[0]}.n", chosen[0], "n", "x.n", f"{chosen[0]}.x.n", f"{chosen[-1]}.d.k"])
    computed = draw(
        st.dictionaries(
            st.sampled_from(["c", "s"]), st.tuples(paths, defaults).map(lambda drawn: ValueOf(drawn[0], drawn[1]))
        )
    )
    return JoinSpec("p", joins=joins, computed=computed)


@st.composite
def filters_of_rows(draw: Any, spec: JoinSpec) -> Any:
    """Draw a filter on what is joined and computed, of which it can be said for certain what it matches."""
    ones = [part for part in spec.joins if isinstance(part, One)]
    numbers = [part for part in spec.joins if isinstance(part, CountOf)]
    choices: list[dict[str, Any]] = [{f"{part.as_}.n": 1} for part in spec.joins if isinstance(part, (One, Many))]
    choices += [{part.as_: None} for part in ones]
    choices += [{f"{part.as_}.n": None} for part in ones]
    choices += [{f"{part.as_}.n": {"$ne": 1}} for part in ones]
    choices += [{part.as_: []} for part in spec.joins if isinstance(part, Many)]
    choices += [{part.as_: {"$gte": 1}} for part in numbers]
    choices += [{part.as_: True} for part in spec.joins if isinstance(part, Exists)]
    choices += [{name: 1} for name in spec.computed]
    choices += [{name: {"$in": [None, 0, "$none"]}} for name in spec.computed]
    chosen = draw(st.sampled_from(choices)) if choices else {spec.joins[0].as_: 0}
    extra = draw(st.sampled_from([{}, {}, {"n": 1}])) if "n" not in [part.as_ for part in spec.joins] else {}
    return {**chosen, **extra}


filters: Any = st.sampled_from([{}, {}, {"n": {"$gte": 1}}, {"s": "x"}])
pages: Any = st.fixed_dictionaries(
    {
        "sort": st.sampled_from([[("_id", 1)], [("n", -1), ("_id", 1)], [("n", 1), ("_id", -1)]]),
        "skip": st.sampled_from([0, 0, 0, 1]),
        "limit": st.sampled_from([0, 0, 2]),
        "fields": fields,
    }
)
few_keys = st.sampled_from([2, 20_000, 20_000])


@dataclass
class Case:
    """What is stored, and what is asked of it."""

    stored: dict[str, list[dict[str, Any]]]
    spec: JoinSpec
    params: dict[str, Any]
    filter: dict[str, Any]
    page: dict[str, Any]
    model: Model = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.params = {name: value for name, value in self.params.items() if name in self.spec.params}
        self.model = Model(self.stored, self.spec, self.params)


cases = st.builds(Case, data, specs(), params, filters, pages)


@pytest.fixture
def stored(mongopatterns_db: Any) -> Callable[[Mapping[str, list[dict[str, Any]]]], Any]:
    """Give what stores collections in place of those that were: one with indexes that lead to keys, others without."""
    database = mongopatterns_db.client.get_database(mongopatterns_db.name, codec_options=OPTIONS)
    for path in PATHS:
        if path != "_id":
            database.f.create_index(path)
    database.f.create_index([("a", 1), ("n", 1)])

    def store(collections: Mapping[str, list[dict[str, Any]]]) -> Any:
        for name, held in collections.items():
            database[name].delete_many({})
            if held:
                database[name].insert_many(copy.deepcopy(held))
        return database

    return store


def joins(database: Any, spec: JoinSpec, strategies: list[str]) -> dict[str, Join]:
    return {
        strategy: Join(database, spec, strategy=strategy, on_missing_index="ignore")  # type: ignore[arg-type]
        for strategy in strategies
    }


quick = settings(
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.data_too_large],
)


def test_the_ids_are_in_the_order_of_the_server(stored: Any) -> None:
    """The order of ids that the reference knows is the server's."""
    database = stored({"p": [{"_id": each} for each in reversed(IDS)]})
    held = [document["_id"] for document in database.p.find().sort("_id", 1)]
    assert [exact(each) for each in held] == [exact(each) for each in IDS]
    assert len(RANKS) == len(IDS)


@settings(quick, max_examples=EXAMPLES * 3 // 2)
@given(cases, few_keys)
def test_every_strategy_gives_what_nested_loops_give(stored: Any, case: Case, most: int) -> None:
    """Whatever is joined from whatever is stored: the same rows, in the same order, by every strategy."""
    database = stored(case.stored)
    wanted = told(case.model.find(case.filter, **case.page))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mongopatterns.joins._join_batch.MAX_KEYS", most)
        for strategy, join in joins(database, case.spec, ["batch", "lookup", "auto"]).items():
            rows = join.find(case.filter, params=case.params, **case.page)
            assert told(rows) == wanted, strategy
            parts_of_rows = [id(each) for each in mutable(rows)]
            assert len(set(parts_of_rows)) == len(parts_of_rows), f"{strategy}: rows share something"


@settings(quick, max_examples=EXAMPLES * 3 // 4)
@given(cases, st.data())
def test_rows_are_filtered_by_what_is_joined(stored: Any, case: Case, drawn: Any) -> None:
    """A filter on finished rows is applied before the page is cut, and the count is that of all pages."""
    database = stored(case.stored)
    joined = drawn.draw(filters_of_rows(case.spec))
    wanted = told(case.model.find(case.filter, joined=joined, **case.page))
    total = len(case.model.rows(case.filter, joined, None))
    for strategy, join in joins(database, case.spec, ["lookup", "auto"]).items():
        assert told(join.find(case.filter, params=case.params, joined=joined, **case.page)) == wanted, strategy
        assert join.count(case.filter, params=case.params, joined=joined) == total, strategy


@settings(quick, max_examples=EXAMPLES * 2 // 5)
@given(cases)
def test_every_call_gives_the_same_rows(stored: Any, case: Case) -> None:
    """Documents in hand, stages of one's own, one row, all rows in turn and their number: all as `find` says."""
    database, page = stored(case.stored), case.page
    whole = told(case.model.find(case.filter, **{**page, "fields": None}))
    cut = told(case.model.find(case.filter, **page))
    every = told(case.model.find(case.filter, **{**page, "skip": 0, "limit": 0}))
    in_hand = list(database.p.find(case.filter, sort=page["sort"], skip=page["skip"], limit=page["limit"]))
    before = exact(in_hand)
    stages: list[dict[str, Any]] = [{"$match": case.filter}, {"$sort": dict(page["sort"])}, {"$skip": page["skip"]}]
    stages += [{"$limit": page["limit"]}] if page["limit"] else []
    asked_for = {name: page[name] for name in ("sort", "fields")}
    for strategy, join in joins(database, case.spec, ["batch", "lookup", "auto"]).items():
        assert told(join.attach(in_hand, params=case.params)) == whole, strategy
        assert exact(in_hand) == before
        assert told(join.aggregate(stages, params=case.params)) == whole, strategy
        first = join.find_one(case.filter, params=case.params, skip=page["skip"], **asked_for)
        assert told([first] if first else []) == cut[:1], strategy
        assert told(join.stream(case.filter, params=case.params, **asked_for)) == every, strategy
        assert join.count(case.filter, params=case.params) == len(every)
