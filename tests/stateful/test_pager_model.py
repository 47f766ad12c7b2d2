"""Pages against the server's own sort: random documents, orders, filters, collations, indexes and walks.

The reference is one sorted query of the server over everything. A walk knows by its place in that list what each page
must hold, and whether there is another before and behind it.
"""

from __future__ import annotations

import datetime as dt
import math
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import pytest
from bson import (
    Binary,
    Code,
    Decimal128,
    Int64,
    MaxKey,
    MinKey,
    ObjectId,
    Regex,
    Timestamp,
    UuidRepresentation,
    encode,
)
from bson.codec_options import CodecOptions, DatetimeConversion
from bson.datetime_ms import DatetimeMS
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from pymongo.errors import OperationFailure

from mongopatterns import CountOf, Many, One, Pager, PagerSpec
from mongopatterns.paging._pager_plan import PagerPlan

EXAMPLES = settings.default.max_examples  # many more with --hypothesis-profile=deep

UTC = dt.timezone.utc
OPTIONS: CodecOptions[Any] = CodecOptions(
    tz_aware=True,
    tzinfo=UTC,
    uuid_representation=UuidRepresentation.STANDARD,
    datetime_conversion=DatetimeConversion.DATETIME_AUTO,
)
MISSING = object()

# Values of every type that a sort key may have, but for lists: those of a line are equal to a sort, or nearly.
VALUES: list[Any] = [
    *[MISSING, None, MISSING, None],
    *[MinKey(), MaxKey()],
    *[1, 1.0, Decimal128("1"), Int64(1), True, 2, 5],
    *[0, 0.0, -0.0, Decimal128("-0"), False],
    *[math.nan, Decimal128("NaN"), math.inf, -math.inf],
    *[0.1, Decimal128("0.1"), 2**53, Int64(2**53 + 1), float(2**53)],
    *["", "a", "A", "b", "ä", "z", "$a", "10", "9"],
    *[{}, {"a": 1}, {"a": 1.0}, {"a": None}, {"a": "A"}, {"a": "a"}, {"$gt": 1}, {"a": [1, 2]}],
    *[b"", b"x", Binary(b"y", 5), uuid.UUID(int=5)],
    *[ObjectId("5" * 24), ObjectId("6" * 24)],
    *[dt.datetime(1960, 1, 1, tzinfo=UTC), dt.datetime(2026, 3, 4, tzinfo=UTC), Timestamp(1, 1), Timestamp(1, 2)],
    *[DatetimeMS(10**16), DatetimeMS(10**16 + 1), DatetimeMS(-(10**15))],
    *[Regex("a"), Regex("a", "i"), Code("f"), Code("f", {"a": 1})],
]
FEW: list[Any] = [MISSING, None, 1, "a", MinKey()]
PATHS = ["a", "b", "n.x", "n.y", "z", "_id"]
SIMPLE = {"locale": "simple"}
COLLATIONS = [
    None,
    None,
    None,
    {"locale": "en", "strength": 2},
    {"locale": "de", "strength": 1, "numericOrdering": True},
]


def document(number: int, **values: Any) -> dict[str, Any]:
    """Make a document: what is missing is left out, and dotted names are nested."""
    made: dict[str, Any] = {"_id": number, "z": number, "t": [number % 3, number % 2], "q": {"x": number, "y": 1}}
    for path, value in values.items():
        name, _, inner = path.partition(".")
        if value is not MISSING:
            made.update({name: {**made.get(name, {}), inner: value}} if inner else {name: value})
    return made


@st.composite
def documents(draw: Any, *, text_ids: bool) -> Any:
    """Draw documents: their sort keys are of all types, or of few values."""
    value = st.sampled_from(draw(st.sampled_from([VALUES, VALUES, FEW])))
    keys = st.fixed_dictionaries(
        {"a": value, "b": value, "n.x": value, "n.y": value, "f": st.sampled_from([1, 2, None])}
    )
    made = [document(number, **each) for number, each in enumerate(draw(st.lists(keys, max_size=24)))]
    for each in made:
        each["_id"] = draw(st.sampled_from(kinds_of_ids(each["_id"], text=text_ids)))
        if draw(st.integers(0, 9)) == 0:
            each["n"] = draw(st.sampled_from([None, 1, "text"]))  # (nothing lies in it)
    return made


def kinds_of_ids(number: int, *, text: bool) -> list[Any]:
    """List what the id of a document may be: no two documents have the same."""
    stamp = dt.datetime(2020, 1, 1, tzinfo=UTC) + dt.timedelta(number)
    found = [number, number, number + 0.5, {"x": number, "y": None}, uuid.UUID(int=number), stamp, b"%d" % number]
    return [*found, str(number)] if text else found


orders = st.lists(
    st.tuples(st.sampled_from(PATHS), st.sampled_from([1, -1])), min_size=1, max_size=3, unique_by=lambda pair: pair[0]
)
filters: Any = st.sampled_from(
    [
        {},
        {},
        {"f": 1},
        {"f": None},
        {"a": 1},
        {"a": None},
        {"t": 1},
        {"a": {"$exists": True}},
        {"a": {"$in": [1, "a", None]}},
        {"b": {"$type": "string"}},
        {"b": {"$eq": "a"}, "a": 1},
        {"n.x": {"$eq": None}},
        {"z": {"$gte": 3, "$lt": 20}},
        {"$and": [{"f": {"$ne": 2}}, {"t": {"$in": [1, 2]}}]},
        {"$or": [{"f": 1}, {"a": {"$gt": 0}}]},
        {"$nor": [{"f": 2}]},
        {"$expr": {"$gt": ["$z", 5]}},
    ]
)
sources: Any = st.sampled_from([[], [], [], [{"$match": {"z": {"$gt": 2}}}], [{"$set": {"w": 1}}]])
inclusions: Any = st.sampled_from(
    [None, None, ["z"], ["z", "q.x"], ["n.y", "q"], {"z": 1, "_id": 0}, ["a"], ["n"], ["n.x", "a"], ["_id"]]
)
joined: Any = st.sampled_from(
    [
        [],
        [],
        [],
        [One("o", local="f", foreign="k", as_="a")],
        [CountOf("o", local="f", foreign="k", as_="n"), Many("o", local="z", foreign="_id", as_="more")],
    ]
)
index = st.tuples(
    st.lists(
        st.tuples(st.sampled_from([*PATHS, "f", "t", "$**"]), st.sampled_from([1, -1])),
        min_size=1,
        max_size=3,
        unique_by=lambda pair: pair[0],
    ),
    st.sampled_from(
        [
            {},
            {},
            {"sparse": True},
            {"partialFilterExpression": {"f": 1}},
            {"collation": {"locale": "en", "strength": 2}},
            {"hidden": True},
        ]
    ),
)
steps = st.lists(st.tuples(st.sampled_from("nnnp"), st.sampled_from([None, None, 1, 3])), max_size=14)


@dataclass
class Case:
    """What is stored, and how it is read."""

    stored: list[dict[str, Any]]
    spec: PagerSpec
    filter: dict[str, Any]
    suggested: bool
    indexes: list[Any]


@st.composite
def cases(draw: Any) -> Any:
    collation = draw(st.sampled_from(COLLATIONS))
    spec = PagerSpec(
        "c",
        sort=draw(orders),
        limit=draw(st.integers(1, 7)),
        filter_by=draw(st.sampled_from([[], ["f"]])),
        fields=draw(inclusions),
        joins=draw(joined),
        source=draw(sources),
        collation=collation,
    )
    stored = draw(documents(text_ids=collation is None))
    return Case(stored, spec, draw(filters), draw(st.booleans()), draw(st.lists(index, max_size=2)))


@pytest.fixture
def store(mongopatterns_db: Any) -> Callable[[Case], Any]:
    """Give what stores documents and makes indexes in place of those that were."""
    database = mongopatterns_db.client.get_database(mongopatterns_db.name, codec_options=OPTIONS)
    database.o.insert_many([{"_id": number, "k": number % 2, "s": "x"} for number in range(4)])

    def stored(case: Case) -> Any:
        database.c.drop()
        if case.stored:
            database.c.insert_many([{**each} for each in case.stored])
        suggested = [(each.keys, each.options) for each in case.spec.indexes()] if case.suggested else []
        for keys, options in [*suggested, *case.indexes]:
            try:
                database.c.create_index(keys, **options)
            except OperationFailure:  # (two lists in one index, a wildcard beside others, the same index twice)
                continue
        return database

    return stored


def told(rows: list[Any]) -> list[bytes]:
    """Return rows as they are stored: types are compared, too, but not the order of fields: an index may give them.

    An index that covers a projection gives null, and documents around it, for what is missing: neither is told.
    """
    return [encode(dict(sorted(there(row).items())), codec_options=OPTIONS) for row in rows]


def there(value: Any) -> Any:
    """Return a value without fields that are null, or documents without any other."""
    if not isinstance(value, dict):
        return value
    held = {name: there(item) for name, item in value.items()}
    return {name: item for name, item in held.items() if item is not None and item != {}}


def in_full(database: Any, case: Case) -> list[bytes]:
    """Read all rows by one sorted query."""
    spec = case.spec
    stages = [*spec.source, {"$match": case.filter}, {"$sort": dict(spec.order)}]
    if spec.given is not None and not spec.joins:
        stages.append({"$project": spec.given.projection()})
    found = list(database.c.aggregate(stages, collation=spec.collation or SIMPLE))
    if spec.joins:  # (what is joined is tested by the model of joins: here, that it is that of the document)
        found = [with_joins(database, spec, row) for row in found]
    return told(found)


def with_joins(database: Any, spec: PagerSpec, row: dict[str, Any]) -> dict[str, Any]:
    local = dict(row)
    names = [part.as_ for part in spec.joins]
    if spec.given is not None:
        projection = spec.given.projection(names)
        row = next(database.c.aggregate([{"$match": {"z": row["z"]}}, {"$project": projection}]))
    for part in spec.joins:
        value = local.get(part.local)
        found = list(database.o.find({part.foreign: value}, sort=[("_id", 1)])) if value is not None else []
        if isinstance(part, One):
            row[part.as_] = found[0] if found else None
        else:
            row[part.as_] = found if isinstance(part, Many) else len(found)
    return row


quick = settings(
    phases=[Phase.reuse, Phase.generate],  # (a failure says where it is; to make it smaller takes minutes)
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.data_too_large],
)


@settings(quick, max_examples=EXAMPLES)
@given(cases(), steps)
def test_pages_are_parts_of_the_servers_order(
    store: Callable[[Case], Any], case: Case, walk: list[tuple[str, int | None]]
) -> None:
    """However one goes forward and back: every page holds exactly the rows of its place, and tells what is beside."""
    database = store(case)
    wanted = in_full(database, case)
    pager = Pager(database, case.spec)
    page = pager.page(case.filter)
    start, end = 0, min(case.spec.limit, len(wanted))
    known = end < len(wanted)  # whether there must be a next page
    for way, limit in [("", None), *walk, *[("n", None)] * 5]:
        length = limit or case.spec.limit
        if way == "n":
            if page.next is None:
                continue
            page = pager.page(case.filter, cursor=page.next, limit=limit)
            start, end = end, min(end + length, len(wanted))
            known = end < len(wanted)
        elif way == "p":
            if page.previous is None:
                continue
            page = pager.page(case.filter, cursor=page.previous, limit=limit)
            start, end = max(0, start - length), start
            known = True  # (that is where it came from)
        assert told(page.items) == wanted[start:end], (way, start, end)
        assert (page.previous is not None) is (start > 0)
        assert (page.next is not None) is known


@settings(quick, max_examples=EXAMPLES * 2 // 5)
@given(cases(), st.integers(1, 9))
def test_a_stream_and_stages_give_all_rows(store: Callable[[Case], Any], case: Case, batch: int) -> None:
    """A stream is the whole of the server's order, in the batches that are asked for; so are the stages of a plan."""
    database = store(case)
    wanted = in_full(database, case)
    assert told(list(Pager(database, case.spec).stream(case.filter, batch=batch))) == wanted

    plan, cursor, found = PagerPlan(case.spec, codec_options=OPTIONS), None, []
    while True:
        query = plan.query(case.filter, cursor=cursor)
        stages = [*case.spec.source, *plan.stages(query)]
        page = plan.page(query, list(database.c.aggregate(stages, collation=case.spec.collation or SIMPLE)))
        found += page.items
        cursor = page.next
        if cursor is None:
            break
    assert told(found) == wanted


@pytest.mark.parametrize("directions", [(1, 1), (1, -1), (-1, 1), (-1, -1)])
@pytest.mark.parametrize("limit", [1, 3, 7])
def test_null_and_what_is_missing_are_one_value(store: Callable[[Case], Any], directions: Any, limit: int) -> None:
    """By an index, too: rows of which one key is null and rows of which it is missing lie among each other."""
    few = [None, MISSING, 1]
    stored = [
        document(number, a=few[number % 2], b=few[number // 2 % 3], **{"n.x": few[number // 6 % 3]})
        for number in range(36)
    ]
    sort = [("a", directions[0]), ("b", directions[1]), ("n.x", directions[0])]
    case = Case(stored, PagerSpec("c", sort=sort, limit=limit), {}, suggested=True, indexes=[])
    check_all(store(case), case)


@pytest.mark.parametrize("keys", [[("a", 1)], [("a", -1), ("_id", -1)], [("a", 1), ("b", 1)], [("$**", 1)]])
@pytest.mark.parametrize("direction", [1, -1])
def test_no_index_hides_what_is_missing(store: Callable[[Case], Any], keys: Any, direction: int) -> None:
    """Sparse and wildcard indexes do not hold what is missing: rows without a sort key are there all the same."""
    few = [None, MISSING, 1, MinKey(), "a", MISSING]
    stored = [document(number, a=few[number % 6], b=number % 2) for number in range(24)]
    options = {} if keys[0][0] == "$**" else {"sparse": True}
    for where in ({}, {"b": 1}):
        spec = PagerSpec("c", sort=[("a", direction)], limit=2)
        case = Case(stored, spec, where, suggested=False, indexes=[(keys, options)])
        check_all(store(case), case)


def check_all(database: Any, case: Case) -> None:
    """Walk forward to the end and back to the start."""
    wanted, pager = in_full(database, case), Pager(database, case.spec)
    page = pager.page(case.filter)
    forward = told(page.items)
    while page.next is not None:
        page = pager.page(case.filter, cursor=page.next)
        forward += told(page.items)
    assert forward == wanted
    back = told(page.items)
    while page.previous is not None:
        page = pager.page(case.filter, cursor=page.previous)
        back = [*told(page.items), *back]
    assert back == wanted


# While others write ----------------------------------------------------------------------------------------------


@dataclass
class Crowd:
    """Documents that come and go, beside some that stay.

    Attributes:
        collection: Where.
        value: Draws a value of a sort key.
        drawn: Hypothesis's source.
    """

    collection: Any
    value: Any
    drawn: Any
    made: int = 100

    def __post_init__(self) -> None:
        self.there: list[int] = []

    def change(self) -> None:
        """Insert and delete some, wherever they sort; or all that came go again."""
        if self.drawn.draw(st.integers(0, 3)) == 0:
            self.collection.delete_many({"_id": {"$gte": 100}})
            self.there.clear()
            return
        for _ in range(self.drawn.draw(st.integers(0, 4))):
            keys = {path: self.drawn.draw(self.value) for path in ("a", "b")}
            self.collection.insert_one(document(self.made, **keys))
            self.there.append(self.made)
            self.made += 1
        for _ in range(self.drawn.draw(st.integers(0, 4))):
            if self.there:
                gone = self.there.pop(self.drawn.draw(st.integers(0, len(self.there) - 1)))
                self.collection.delete_one({"_id": gone})


@settings(quick, max_examples=EXAMPLES * 2 // 5)
@given(st.data(), st.sampled_from([VALUES, FEW]), st.integers(1, 4), st.booleans())
def test_rows_that_stay_are_given_once_while_others_come_and_go(
    store: Callable[[Case], Any], drawn: Any, pool: list[Any], limit: int, reading: bool
) -> None:
    """Forward to the end and back to the start, with inserts and deletes in between: none twice, none left out."""
    value = st.sampled_from(pool)
    sort = drawn.draw(
        st.lists(
            st.tuples(st.sampled_from(["a", "b"]), st.sampled_from([1, -1])),
            min_size=1,
            max_size=2,
            unique_by=lambda pair: pair[0],
        )
    )
    stay = [
        document(number, a=drawn.draw(value), b=drawn.draw(value)) for number in range(drawn.draw(st.integers(0, 14)))
    ]
    spec = PagerSpec("c", sort=sort, limit=limit, reading_order=reading)
    database = store(Case(stay, spec, {}, suggested=drawn.draw(st.booleans()), indexes=[]))
    order = [row["_id"] for row in database.c.find(sort=list(spec.order), collation=SIMPLE)]
    crowd = Crowd(database.c, value, drawn)
    pager = Pager(database, spec)

    def ids(page: Any) -> list[int]:
        assert len(page.items) <= limit
        found = [row["_id"] for row in page]
        return found[::-1] if reading else found

    crowd.change()
    page = pager.page()
    forward = ids(page)
    while page.next is not None:
        crowd.change()
        if drawn.draw(st.booleans()) and page.items:  # the row that the page ends with goes away, too
            last = ids(page)[-1]
            if last in crowd.there:
                crowd.there.remove(last)
                database.c.delete_one({"_id": last})
        page = pager.page(cursor=page.next)
        forward += ids(page)
        if crowd.made > 140:  # (enough have come: let it end)
            crowd.value = st.nothing()
            crowd.change = lambda: None  # type: ignore[method-assign]
    assert [each for each in forward if each < 100] == order
    assert len(set(forward)) == len(forward)

    back = ids(page)
    while page.previous is not None:
        crowd.change()
        page = pager.page(cursor=page.previous)
        back = [*ids(page), *back]
    assert [each for each in back if each < 100] == order
    assert len(set(back)) == len(back)


@settings(quick, max_examples=EXAMPLES // 5)
@given(
    st.data(),
    st.lists(
        st.tuples(st.sampled_from(["a", "b"]), st.sampled_from([1, -1])),
        min_size=1,
        max_size=2,
        unique_by=lambda pair: pair[0],
    ),
)
def test_a_page_begins_where_its_row_was(store: Callable[[Case], Any], drawn: Any, sort: Any) -> None:
    """When all that was on a page is deleted, its cursors lead to what is on either side of the gap."""
    value = st.sampled_from(VALUES)
    rows = [document(number, a=drawn.draw(value), b=drawn.draw(value)) for number in range(9)]
    spec = PagerSpec("c", sort=sort, limit=3)
    database = store(Case(rows, spec, {}, suggested=True, indexes=[]))
    order = [row["_id"] for row in database.c.find(sort=list(spec.order), collation=SIMPLE)]
    pager = Pager(database, spec)
    middle = pager.page(cursor=pager.page().next)
    database.c.delete_many({"_id": {"$in": [row["_id"] for row in middle]}})
    assert [row["_id"] for row in pager.page(cursor=middle.next)] == order[6:]
    assert [row["_id"] for row in pager.page(cursor=middle.previous)] == order[:3]
    again = pager.page(cursor=pager.page(cursor=middle.next).previous)
    assert [row["_id"] for row in again] == order[:3]


# What it costs the server ----------------------------------------------------------------------------------------


def examined(database: Any, spec: PagerSpec, where: Mapping[str, Any], cursor: str | None) -> tuple[int, int, set[str]]:
    """Run what a page sends, and return how many parts it has, which index keys they read, and in which stages."""
    collection, method, arguments = Pager(database, spec).explain(where, cursor=cursor).command
    if method == "find":
        command = {"find": collection, "filter": arguments["filter"], "sort": dict(arguments["sort"])}
        command.update(limit=arguments["limit"], collation=arguments["collation"])
    else:
        command = {"aggregate": collection, "pipeline": arguments["pipeline"], "cursor": {}}
        command["collation"] = arguments["collation"]
    told = database.command({"explain": command, "verbosity": "executionStats"}, codec_options=OPTIONS)
    parts: list[Any] = []
    stages: set[str] = set()

    def look(value: Any) -> None:
        if isinstance(value, list):
            for each in value:
                look(each)
        elif isinstance(value, Mapping):
            if "totalKeysExamined" in value:
                parts.append(value["totalKeysExamined"])
            if "stage" in value:
                stages.add(value["stage"])
            for each in value.values():
                look(each)

    look({name: told[name] for name in ("executionStats", "stages") if name in told})
    return len(parts), sum(parts), stages


MANY = 2_000
LIMIT = 50


@pytest.fixture(scope="module")
def rooms(mongopatterns_client: Any) -> Any:
    """Provide many documents of every type in two rooms, with the suggested indexes."""
    name = "test_pager_rooms"
    database = mongopatterns_client.get_database(name, codec_options=OPTIONS)
    plain = [value for value in VALUES if value is not MISSING]
    rows = [
        document(
            number, a=[MISSING, *plain][number % (len(plain) + 1)], b=plain[number // 7 % len(plain)], room=number % 2
        )
        for number in range(MANY)
    ]
    database.c.insert_many(rows)
    yield database
    mongopatterns_client.drop_database(name)


@pytest.mark.parametrize(
    "sort", [[("a", 1)], [("a", -1)], [("a", 1), ("b", -1)], [("a", -1), ("b", -1)], [("b", 1), ("a", 1), ("z", -1)]]
)
def test_a_page_reads_few_keys_wherever_it_is(rooms: Any, sort: Any) -> None:
    """By the suggested index a page reads a page's keys and sorts nothing, whatever type its position is of."""
    spec = PagerSpec("c", sort=sort, limit=LIMIT, filter_by=["room"])
    [wanted] = spec.indexes()
    rooms.c.drop_indexes()
    rooms.c.create_index(wanted.keys, **wanted.options)
    pager, cursor = Pager(rooms, spec), None
    for _ in range(MANY // 2 // LIMIT):
        page = pager.page({"room": 1}, cursor=cursor)
        for each in (cursor, page.previous):
            parts, keys, stages = examined(rooms, spec, {"room": 1}, each)
            # (of several parts, one with a handful of rows may be sorted: that is as quick)
            assert not {"COLLSCAN", *(["SORT"] if parts == 1 else [])} & stages, (parts, keys, stages)
            # One more than the page, and where each branch of the filter begins; what does not merge is read in parts.
            assert keys <= (LIMIT + 1) * parts + 12, (parts, keys)
            assert parts == 1 or len(sort) > 1
        cursor = page.next
    assert cursor is None


def test_the_far_end_is_as_near_as_the_start(rooms: Any) -> None:
    """The last page reads as many keys as the first one does, and a few to find its place; skip reads all before it."""
    spec = PagerSpec("c", sort=[("z", -1)], limit=LIMIT)
    [wanted] = spec.indexes()
    rooms.c.create_index(wanted.keys)
    whole = Pager(rooms, replace(spec, limit=MANY - LIMIT)).page()
    first, last = (examined(rooms, spec, {}, cursor)[1] for cursor in (None, whole.next))
    assert first == LIMIT + 1
    assert LIMIT <= last <= LIMIT + 4
