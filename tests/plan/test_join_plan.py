"""How a join is carried out, step by step, without a server: reads, answers, keys, chunks, order, and the way."""

from __future__ import annotations

import datetime as dt
import math
import random
import uuid
from typing import Any

import pytest
from bson import Binary, Code, DBRef, Decimal128, Int64, MaxKey, MinKey, ObjectId, Regex, Timestamp, UuidRepresentation
from bson.codec_options import CodecOptions
from hypothesis import given
from hypothesis import strategies as st
from pymongo.errors import OperationFailure

from mongopatterns import (
    CountOf,
    Exists,
    JoinSpec,
    Many,
    MissingIndex,
    MissingIndexWarning,
    One,
    Param,
    SumOf,
    UsageError,
    ValueOf,
)
from mongopatterns.commands import Read
from mongopatterns.joins import _join_batch
from mongopatterns.joins._join_batch import add_up, fresh
from mongopatterns.joins._join_plan import JoinPlan
from mongopatterns.joins._join_ways import REFRESH
from mongopatterns.order import in_order

UTC = dt.timezone.utc
OPTIONS: CodecOptions[Any] = CodecOptions(tz_aware=True, uuid_representation=UuidRepresentation.STANDARD)
OID = ObjectId("0123456789abcdef01234567")
ON_ID = {"name": "_id_", "key": {"_id": 1}}
ON_K = {"name": "k_1", "key": {"k": 1}}


def plan(*joins: Any, strategy: Any = "batch", on_missing_index: Any = "ignore", **options: Any) -> JoinPlan:
    spec = JoinSpec("p", joins=joins, **options)
    return JoinPlan(spec, strategy=strategy, on_missing_index=on_missing_index, codec_options=OPTIONS)


def run(plan_: JoinPlan, call: Any, answers: list[Any]) -> tuple[list[Read], Any]:
    """Answer the reads of a call in turn; return them, and what came of it."""
    reads: list[Read] = []
    answer = None
    while read := plan_.again(call, answer):
        reads.append(read)
        answer = answers.pop(0)
    assert answers == []
    return reads, call.result


def find(plan_: JoinPlan, answers: list[Any], clock: float = 0, **query: Any) -> tuple[list[Read], Any]:
    return run(plan_, plan_.find(plan_.query(query.pop("filter", None), **query), clock), answers)


def many(**options: Any) -> Many:
    return Many("f", **{"local": "a", "foreign": "k", **options})


# Reads and answers ---------------------------------------------------------------------------------------------


def test_a_batch_reads_parents_then_what_belongs_to_them() -> None:
    """The parents come by PyMongo's `find`; their distinct keys go into one `$in`; the answer is put in place."""
    page: dict[str, Any] = {"filter": {"x": 1}, "sort": [("n", -1)], "skip": 2, "limit": 5}
    parents = [{"_id": 1, "a": 7}, {"_id": 2, "a": 8.0}, {"_id": 3}, {"_id": 4, "a": 7.0}]
    children = [{"_id": 2, "k": 7}, {"_id": 1, "k": Int64(8)}, {"_id": 0, "k": 7.0}]
    reads, rows = find(plan(many(where={"user": Param("u")})), [parents, children], params={"u": {"$ne": 1}}, **page)
    assert [(read.collection, read.method) for read in reads] == [("p", "find"), ("f", "find")]
    first, second = (read.arguments for read in reads)
    assert {name: first[name] for name in page} == page
    assert "projection" not in first
    assert second["filter"] == {"k": {"$in": [7, 8.0]}, "user": {"$eq": {"$ne": 1}}}
    assert [[child["_id"] for child in row["f"]] for row in rows] == [[0, 2], [1], [], [0, 2]]


def test_a_filter_on_the_foreign_path_stays() -> None:
    """A filter of the join that names the path of the keys does not take the place of the keys."""
    (_, read), _ = find(plan(many(where={"k": {"$gt": 5}})), [[{"_id": 1, "a": 7}], []])
    assert read.arguments["filter"] == {"$and": [{"k": {"$in": [7]}}, {"k": {"$gt": 5}}]}


def test_patterns_are_looked_for_as_values() -> None:
    """A stored pattern is never put into `$in`, which would run it."""
    (_, read), _ = find(plan(many()), [[{"_id": 1, "a": [Regex("^x"), 7]}], []])
    assert "Regex" not in str([each for each in read.arguments["filter"]["$or"] if "$in" in str(each)])
    assert {"k": {"$eq": Regex("^x")}} in read.arguments["filter"]["$or"]


def test_an_order_is_the_servers() -> None:
    """A join with an order asks the server for it, with `_id` last; without one it asks for none."""
    for sort, sent in (
        ([("n", -1)], [("n", -1), ("_id", 1)]),
        ([("n", 1), ("_id", -1)], [("n", 1), ("_id", -1)]),
        (None, None),
    ):
        (_, read), _ = find(plan(many(sort=sort)), [[{"_id": 1, "a": 7}], []])
        assert read.arguments.get("sort") == sent


def test_numbers_are_grouped_by_the_server() -> None:
    """Counts and sums come in groups by the whole foreign value, and add up once for each group that a parent meets."""
    joins = [
        CountOf("f", local="a", foreign="k", as_="n"),
        Exists("f", local="a", foreign="k", as_="any"),
        SumOf("f", local="a", foreign="k", as_="sum", amount="v.x"),
    ]
    parents = [{"_id": 1, "a": [1, 2]}, {"_id": 2, "a": 2}, {"_id": 3, "a": 3}]
    groups = [{"_id": [1, 2], "n": 3}, {"_id": 1.0, "n": 4}, {"_id": Decimal128("2"), "n": 5}, {"_id": 9, "n": 50}]
    reads, rows = find(plan(*joins), [parents, groups, groups, groups])
    assert [read.method for read in reads] == ["find", "aggregate", "aggregate", "aggregate"]
    assert [
        stage["$group"]["n"] for read in reads[1:] for stage in read.arguments["pipeline"] if "$group" in stage
    ] == [
        {"$sum": 1},
        {"$sum": 1},
        {"$sum": "$v.x"},
    ]
    assert [(row["n"], row["any"], row["sum"]) for row in rows] == [(12, True, 12), (8, True, 8), (0, False, 0)]


def test_nested_joins_go_on_from_the_answer() -> None:
    """What is joined onto joined documents is asked for once for all of them."""
    nested = many(
        joins=[One("g", local="user", foreign="_id", as_="user", fields={"name": 1, "_id": 0})], fields=["user"]
    )
    children = [{"_id": 1, "k": 7, "user": 5}, {"_id": 2, "k": 8, "user": 5}]
    reads, rows = find(
        plan(nested), [[{"_id": 1, "a": [7, 8]}, {"_id": 2, "a": 8}], children, [{"_id": 5, "name": "x"}]]
    )
    assert [read.collection for read in reads] == ["p", "f", "g"]
    assert reads[1].arguments["projection"] == {"_id": 1, "user": 1, "k": 1}
    assert reads[2].arguments["filter"] == {"_id": {"$in": [5]}}
    assert reads[2].arguments["projection"] == {"_id": 1, "name": 1}
    second = {"_id": 2, "user": {"name": "x"}}
    assert rows[0]["f"] == [{"_id": 1, "user": {"name": "x"}}, second]
    assert rows[1]["f"] == [second]
    assert rows[0]["f"][1] is not rows[1]["f"][0]
    assert rows[0]["f"][1]["user"] is not rows[1]["f"][0]["user"]


def test_a_join_of_the_parents_own_collection_follows_it() -> None:
    """Where the collection that was given has another name, what is joined from it, nested or not, comes from there."""
    nested = One("f", local="a", foreign="k", joins=[Many("p", local="b", foreign="a", as_="others")])
    spec = JoinSpec("p", joins=[nested, One("p", local="parent", foreign="_id", as_="parent")])
    made = JoinPlan(spec, "archive", strategy="batch", on_missing_index="ignore", codec_options=OPTIONS)
    answers = [[{"_id": 1, "a": 7, "parent": 2}], [{"_id": 3, "k": 7, "b": 9}], [{"_id": 4, "a": 9}], [{"_id": 2}]]
    reads, [row] = find(made, answers)
    assert [read.collection for read in reads] == ["archive", "f", "archive", "archive"]
    assert row["f"]["others"] == [{"_id": 4, "a": 9}]
    assert row["parent"] == {"_id": 2}


def test_a_document_that_several_parents_meet_is_copied() -> None:
    """One document with a list of keys belongs to parents with different keys; each gets its own."""
    child = {"_id": 1, "k": [7, 8], "l": [{}]}
    _, rows = find(plan(One("f", local="a", foreign="k")), [[{"_id": 1, "a": 7}, {"_id": 2, "a": 8}], [child]])
    one, other = (row["f"] for row in rows)
    assert one == other == {"_id": 1, "k": [7, 8], "l": [{}]}
    assert one is not other
    assert one["l"] is not other["l"]
    assert one["l"][0] is not other["l"][0]


def test_a_lookup_is_one_read() -> None:
    """The server joins in the command that reads the parents, page first."""
    joins = [many(limit=2, sort=[("n", -1)]), CountOf("g", local="b", foreign="k")]
    reads, rows = find(
        plan(*joins, strategy="lookup", computed={"c": ValueOf("g")}),
        [[{"_id": 1, "f": [], "g": 3, "c": 3}]],
        filter={"x": 1},
        sort=[("n", 1)],
        skip=1,
        limit=2,
    )
    (read,) = reads
    assert (read.collection, read.method) == ("p", "aggregate")
    names = [next(iter(stage)) for stage in read.arguments["pipeline"]]
    assert names[:4] == ["$match", "$sort", "$skip", "$limit"]
    assert names.count("$lookup") == 2
    assert rows == [{"_id": 1, "f": [], "g": 3, "c": 3}]


def test_rows_are_filtered_before_the_page() -> None:
    """Only what a filter names is joined before it; the page is cut after it."""
    joins = [many(), CountOf("g", local="b", foreign="k")]
    reads, _ = find(plan(*joins, strategy="lookup"), [[]], joined={"g": 1}, skip=1, limit=2)
    stages = reads[0].arguments["pipeline"]
    names = [next(iter(stage)) for stage in stages]
    lookups = [place for place, name in enumerate(names) if name == "$lookup"]
    assert [stages[place]["$lookup"]["from"] for place in lookups] == ["g", "f"]
    assert lookups[0] < names.index("$match") < names.index("$skip") < names.index("$limit") < lookups[1]


def test_only_indexes_that_may_not_be_seen_are_done_without() -> None:
    """A refusal to list indexes is nothing; every other error is one."""
    made = plan(many())
    listed = Read("f", "list_indexes", {}, apart=True)
    for code in (13, 26, 166, 8000):
        assert made.refused(listed, OperationFailure("no", code)) is None  # type: ignore[func-returns-value]
        with pytest.raises(OperationFailure):
            made.refused(Read("f", "find", {}), OperationFailure("no", code))
    with pytest.raises(OperationFailure):
        made.refused(listed, OperationFailure("no", 50))


def test_indexes_are_not_listed_within_a_transaction() -> None:
    """A session goes with every read but that of indexes, which transactions forbid."""
    session = object()
    assert Read("f", "list_indexes", {}, apart=True).call(session)["session"] is None
    assert Read("f", "find", {"filter": {}}).call(session) == {"filter": {}, "session": session}


# Chunks --------------------------------------------------------------------------------------------------------

keys = st.integers(0, 12) | st.sampled_from(["a", "b", None, True, 1.0])


@given(st.lists(keys | st.lists(keys, max_size=5), max_size=20), st.integers(1, 6))
def test_a_parents_keys_are_never_parted(held: list[Any], most: int) -> None:
    """However keys are cut into commands: each parent's are asked for in one, and nothing is asked for in vain."""
    parents = [{"_id": place, "a": key} for place, key in enumerate(held)]
    made = plan(many())
    call = made.attach(parents, None, 0)
    asked: list[list[Any]] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_join_batch, "MAX_KEYS", most)
        read = made.again(call, None)
        while read:
            found = read.arguments["filter"]["k"]["$in"]
            asked.append(found)
            read = made.again(call, [{"_id": str(key), "k": key} for key in found])
    wanted = [[key for key in (key if isinstance(key, list) else [key]) if key is not None] for key in held]
    distinct = {mark(key) for each in wanted for key in each}
    assert {mark(key) for found in asked for key in found} == distinct
    for found in asked:
        assert len({mark(key) for key in found}) == len(found)
        assert len(found) <= most or any({mark(key) for key in found} == {mark(key) for key in each} for each in wanted)
    for row, each in zip(call.result, wanted, strict=True):
        assert {mark(child["k"]) for child in row["f"]} == {mark(key) for key in each}
    assert bool(asked) is bool(distinct)


def mark(key: Any) -> Any:
    return (type(key) is bool, key)


def test_keys_are_cut_by_their_bytes() -> None:
    """Commands stay below the size that a command may have, whatever keys are made of."""
    for size, key in ((100_000, "x"), (100_000, "😀"), (10_000, {"a": ["é"] * 10})):
        parents = [
            {"_id": n, "a": {"n": n, "k": key * size if isinstance(key, str) else [key] * (size // 50)}}
            for n in range(200)
        ]
        made = plan(CountOf("f", local="a.k", foreign="k"))
        call = made.attach([{**each, "a": {"k": f"{n}{each['a']['k']}"}} for n, each in enumerate(parents)], None, 0)
        read = made.again(call, None)
        commands = 0
        while read:
            found = read.arguments["pipeline"][0]["$match"]["k"]["$in"]
            assert sum(len(str(each).encode()) for each in found) < 16_000_000
            commands += 1
            read = made.again(call, [])
        assert commands > 1
        assert [row["f"] for row in call.result] == [0] * 200


# Order, sums, copies -------------------------------------------------------------------------------------------

IN_ORDER: list[Any] = [
    MinKey(),
    None,
    math.nan,
    -math.inf,
    Decimal128("-1E+3000"),
    -1,
    Decimal128("0.1"),
    0.1,
    1,
    1.5,
    2**53,
    Int64(2**53 + 1),
    math.inf,
    "",
    "A",
    "a",
    "a\0",
    "a\0b",
    "aa",
    "é",
    "\uffff",
    "😀",
    {},
    {"a": None},
    {"a": 1},
    {"a": 1, "b": 1},
    {"a": 2},
    {"b": 0},
    DBRef("c", "x"),
    {"a": "x"},
    {"a": {}},
    b"",
    b"b",
    Binary(b"a", 5),
    b"aa",
    uuid.UUID(int=1),
    OID,
    ObjectId("ffffffffffffffffffffffff"),
    False,
    True,
    dt.datetime(1950, 1, 1, tzinfo=UTC),
    dt.datetime(2026, 1, 1, tzinfo=UTC),
    Timestamp(1, 1),
    Timestamp(1, 2),
    Code("a"),
    MaxKey(),
]


def test_ids_are_put_into_the_servers_order() -> None:
    """Ids of all types come in the order that the server gives them."""
    shuffled = [{"_id": each} for each in IN_ORDER]
    for seed in range(20):
        random.Random(seed).shuffle(shuffled)
        assert [str(each["_id"]) for each in in_order(list(shuffled), OPTIONS)] == [str(each) for each in IN_ORDER]


@pytest.mark.parametrize("kind", [str, int, float, bool, ObjectId, dict], ids=lambda kind: kind.__name__)
def test_ids_of_one_type_are_put_into_order(kind: type) -> None:
    """So do ids of one type alone, which takes another way."""
    some = [each for each in IN_ORDER if type(each) is kind]
    shuffled = [{"_id": each} for each in reversed(some)]
    assert [str(each["_id"]) for each in in_order(shuffled, OPTIONS)] == [str(each) for each in some]


@pytest.mark.parametrize(
    ("numbers", "total"),
    [
        ([], 0),
        ([1, 2], 3),
        ([1, 0.5], 1.5),
        ([Int64(2**62), Int64(2**62)], 2.0**63),
        ([-(2**62), -(2**62)], -(2**63)),
        ([0.1] * 10, 1.0),
        ([1e308, 1e308], math.inf),
        ([math.inf, -math.inf], math.nan),
        ([math.inf, 1], math.inf),
        ([math.nan, 1], math.nan),
        ([Decimal128("0.1"), 2], Decimal128("2.1")),
        ([Decimal128("NaN"), 2], Decimal128("NaN")),
        ([Decimal128("Infinity"), -math.inf], Decimal128("NaN")),
        ([Decimal128("9E+6144"), Decimal128("9E+6144")], Decimal128("Infinity")),
    ],
    ids=str,
)
def test_sums_of_groups_add_up(numbers: list[Any], total: Any) -> None:
    """Sums of several groups add up in the widest of their types, as on the server, whatever they are."""
    found = add_up(numbers)
    assert str(found) == str(total)
    assert type(found) is type(total) or isinstance(total, int)


def test_copies_share_nothing_that_can_change() -> None:
    """Documents and lists are copied at every depth; what cannot change is shared."""
    value = {"d": {"l": [[{}], OID]}, "b": b"x"}
    copied = fresh(value)
    assert copied == value
    assert copied is not value
    assert copied["d"]["l"][0][0] is not value["d"]["l"][0][0]  # type: ignore[index]
    assert copied["d"]["l"][1] is OID


# Indexes and the way -------------------------------------------------------------------------------------------


def test_indexes_are_asked_for_by_the_clock() -> None:
    """Indexes are asked for at the first call and when what is known is older than ten minutes."""
    made = plan(many(), CountOf("g", local="b", foreign="k"), on_missing_index="warn")
    listed = [[ON_ID, ON_K], [ON_ID, ON_K]]
    reads, _ = find(made, [*listed, []], clock=50)
    assert [(read.collection, read.method) for read in reads] == [
        ("f", "list_indexes"),
        ("g", "list_indexes"),
        ("p", "find"),
    ]
    reads, _ = find(made, [[]], clock=50 + REFRESH)
    assert len(reads) == 1
    reads, _ = find(made, [*listed, []], clock=51 + REFRESH)
    assert len(reads) == 3


def test_what_is_missing_is_told_once_or_raised() -> None:
    """A warning comes once for each finding, an error each time; nothing is said of what nobody can know."""
    warned = plan(many(), on_missing_index="warn")
    with pytest.warns(MissingIndexWarning, match=r"f\.k.*Index\('k'\)"):
        find(warned, [[ON_ID], []])
    find(warned, [[]])
    find(warned, [[ON_ID], []], clock=REFRESH + 1)
    raised = plan(many(), on_missing_index="raise")
    with pytest.raises(MissingIndex, match=r"f\.k.*Index\('k'\)"):
        find(raised, [[ON_ID]])
    with pytest.raises(MissingIndex):
        find(raised, [])
    for unknown in (None, []):
        find(plan(many(), on_missing_index="raise"), [unknown, []])


def looked(made: JoinPlan, call: Any, indexes: dict[str, Any], counts: dict[str, int | None]) -> None:
    """Answer what is asked about collections, to the end."""
    read = made.again(call, None)
    while read:
        assert read.apart
        count = counts[read.collection]
        told = None if count is None else [{"count": count - count // 3}, {"count": count // 3}]  # of two shards
        read = made.again(call, indexes[read.collection] if read.method == "list_indexes" else told)


@pytest.mark.parametrize(
    ("counts", "way"),
    [
        ({"p": 10, "f": 1000}, "lookup"),
        ({"p": 10, "f": 80}, "lookup"),
        ({"p": 10, "f": 70}, "batch"),
        ({"p": 1000, "f": 10}, "batch"),
        ({"p": 0, "f": 1000}, "batch"),
        ({"p": None, "f": 1000}, "batch"),
        ({"p": 10, "f": None}, "batch"),
    ],
)
def test_a_lookup_has_to_pay(counts: dict[str, int | None], way: str) -> None:
    """Three of each parent's documents are looked up if it has many more than three, as far as anybody can tell."""
    made = plan(many(limit=3), strategy="auto", on_missing_index="ignore")
    call = made.explain(made.query(None), 0)
    looked(made, call, {"p": [ON_ID], "f": [ON_ID, ON_K]}, counts)
    assert [choice.strategy for choice in call.result.joins] == [way]


@pytest.mark.parametrize(("each", "way"), [(100, "batch"), (1000, "lookup")])
def test_where_a_filter_narrows_down_a_lookup_pays_later(each: int, way: str) -> None:
    """Of documents that must equal one value besides there are few, as far as is known, unless there are very many."""
    made = plan(many(limit=3, where={"user": "u"}), strategy="auto", on_missing_index="ignore")
    call = made.explain(made.query(None), 0)
    looked(made, call, {"p": [ON_ID], "f": [ON_ID, ON_K]}, {"p": 10, "f": 10 * each})
    assert [choice.strategy for choice in call.result.joins] == [way]


def test_what_a_pipeline_cannot_do_is_batched() -> None:
    """A filter that only `find` takes, and a collation of the parents' collection, keep auto from looking up."""
    counts: dict[str, int | None] = {"p": 10, "f": 1000}
    folded = {**ON_ID, "collation": {"locale": "en", "strength": 2}}
    for on_parents, query in ((ON_ID, {"$or": [{"x": {"$near": [1, 1]}}]}), (ON_ID, {"$where": "true"}), (folded, {})):
        made = plan(many(limit=3), strategy="auto", on_missing_index="ignore")
        call = made.explain(made.query(query), 0)
        looked(made, call, {"p": [on_parents], "f": [ON_ID, ON_K]}, counts)
        assert [choice.strategy for choice in call.result.joins] == ["batch"]


def test_an_index_that_was_made_meanwhile_is_found_before_the_error() -> None:
    """With "raise", a call asks once more before it fails for an index that an earlier call has missed."""
    made = plan(many(), on_missing_index="raise")
    with pytest.raises(MissingIndex):
        find(made, [[ON_ID]], clock=5)
    find(made, [[ON_ID, ON_K], []], clock=6)


CUT: list[Any] = [
    (many(limit=1), [ON_K], "lookup"),
    (many(limit=1), [], "batch"),
    (many(limit=1), None, "batch"),
    (many(), [ON_K], "batch"),
    (many(sort=[("n", 1)]), [ON_K], "batch"),
    (One("f", local="a", foreign="k"), [ON_K], "batch"),
    (One("f", local="a", foreign="k", sort=[("n", 1)]), [ON_K], "lookup"),
    (One("f", local="a", foreign="k", sort=[("n", 1)]), [{**ON_K, "unique": True}], "batch"),
    (One("f", local="a", foreign="k", sort=[("n", 1)]), [{**ON_K, "hidden": True}], "batch"),
    (One("f", local="a", foreign="_id", sort=[("n", 1)]), [], "batch"),
    (CountOf("f", local="a", foreign="k"), [ON_K], "batch"),
    (Exists("f", local="a", foreign="k"), [ON_K], "batch"),
    (SumOf("f", local="a", foreign="k", amount="v"), [ON_K], "batch"),
]


@pytest.mark.parametrize(("part", "indexes", "way"), CUT, ids=str)
def test_auto_chooses(part: Any, indexes: Any, way: str) -> None:
    """The first of many are looked up if an index leads to them; all else is batched; filters on rows are looked up."""
    made = plan(part, strategy="auto", on_missing_index="ignore")
    call = made.explain(made.query(None), 0)
    looked(made, call, {"p": [ON_ID], "f": None if indexes is None else [ON_ID, *indexes]}, {"p": 10, "f": 1000})
    assert [choice.strategy for choice in call.result.joins] == [way]
    assert call.result.joins[0].why
    if isinstance(part, (One, Many)):
        call = made.explain(made.query(None, joined={"f.n": 1}), 0)
        assert made.again(call, None) is None
        assert [choice.strategy for choice in call.result.joins] == ["lookup"]


@pytest.mark.parametrize("strategy", ["batch", "lookup"])
def test_a_strategy_that_was_asked_for_is_taken(strategy: str) -> None:
    """What a caller chose is what is done, whatever the indexes."""
    for part, _, _ in CUT:
        made = plan(part, strategy=strategy)
        call = made.explain(made.query(None), 0)
        assert made.again(call, None) is None
        assert [choice.strategy for choice in call.result.joins] == [strategy]


def test_explanations_show_the_commands() -> None:
    """An explanation lists what is sent, nested joins too, with a word in place of keys that are not known yet."""
    nested = many(joins=[CountOf("g", local="b", foreign="k")])
    made = plan(nested, SumOf("h", local="c", foreign="k", amount="v"))
    call = made.explain(made.query({"x": 1}, limit=3), 0)
    assert made.again(call, None) is None
    assert [(collection, method) for collection, method, _ in call.result.commands] == [
        ("p", "find"),
        ("f", "find"),
        ("g", "aggregate"),
        ("h", "aggregate"),
    ]
    assert call.result.commands[0][2]["limit"] == 3
    assert "keys" in str(call.result.commands[1][2]["filter"])
    assert [choice.name for choice in call.result.joins] == ["f", "h"]


def test_a_plan_checks_what_it_is_made_of() -> None:
    """Unknown strategies and words about indexes are refused."""
    for wrong in ({"strategy": "fast"}, {"on_missing_index": "error"}):
        with pytest.raises(UsageError, match=f"^{next(iter(wrong))}:"):
            plan(many(), **wrong)
