"""What a cascade sends and how it reads answers, without a server."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any
from unittest.mock import ANY

import pytest
from bson import Code, DBRef, Int64, MinKey, ObjectId, Regex, encode
from hypothesis import given
from hypothesis import strategies as st
from pymongo.errors import OperationFailure

from mongopatterns import (
    CascadeResult,
    CascadeSpec,
    Child,
    Conflict,
    DeploymentError,
    Index,
    LimitExceeded,
    Orphan,
    Orphans,
    StateError,
    UsageError,
)
from mongopatterns.joins._cascade_commands import Delete, InSession, InTransaction, Read, Run, Told
from mongopatterns.joins._cascade_conditions import MAX_BYTES, MAX_KEYS, all_of, chunks, match, only, spellings
from mongopatterns.joins._cascade_plan import (
    CHILDREN_AT_ONCE,
    MAX_FILTER,
    MOST_IN_BATCH,
    MOST_IN_TRANSACTION,
    ROUNDS,
    CascadePlan,
    refuse_standalone,
)

ID = ObjectId("0123456789abcdef01234567")
LINK = ("responses", "_id", "question_id")
FLAT = CascadeSpec("questions", children=[LINK])
VOTES = Child("votes", local="code", foreign="answer")
DEEP = CascadeSpec("questions", children=[LINK, Child("answers", foreign="question", children=[VOTES])])


def delete(spec: CascadeSpec = FLAT, condition: Any = None, **options: Any) -> Run[CascadeResult]:
    every: dict[str, Any] = {"keep": (), "transaction": False, "batch": 2, "on_progress": None, "session": None}
    return CascadePlan(spec).delete({} if condition is None else condition, **{**every, **options})


def answered(run: Run[Any], *answers: Any) -> list[Any]:
    """Give answers to a call, and return what it sent before each and after the last."""
    sent: list[Any] = [run.next]
    for answer in answers:
        run.go_on(answer)
        sent.append(run.next)
    return sent


# The definition ----------------------------------------------------------------------------------------------

BAD_SPECS: list[tuple[str, dict[str, Any]]] = [
    ("collection", {"collection": ""}),
    ("collection", {"collection": 5}),
    ("children", {"children": []}),
    ("children", {"children": "responses"}),
    ("children", {"children": {"responses": "x"}}),
    ("children", {"children": None}),
    ("children", {"children": ["responses"]}),
    ("children", {"children": [("responses", "_id")]}),
    ("children", {"children": [["responses", "_id", "q"]]}),
    ("children", {"children": [LINK, LINK]}),
    ("children", {"children": [("questions", "_id", "parent")]}),
    ("children", {"children": [Child("answers", foreign="q", children=[("questions", "_id", "a")])]}),
    ("children", {"children": [Child("answers", foreign="q", children=[("answers", "_id", "a")])]}),
    (
        "children",
        {"children": [Child("a", foreign="q", children=[Child("b", foreign="a", children=[("c", "_id", "b")])])]},
    ),
    ("key_type", {"key_type": str}),
]
BAD_CHILDREN: list[tuple[str, dict[str, Any]]] = [
    ("collection", {"collection": ""}),
    ("local", {"local": ""}),
    ("local", {"local": "$a"}),
    ("local", {"local": "a.0"}),
    ("local", {"local": 5}),
    ("foreign", {"foreign": "a..b"}),
    ("foreign", {"foreign": "a.0.b"}),
    ("foreign", {"foreign": None}),
    ("local_as", {"local_as": "int"}),
    ("children", {"children": [5]}),
]


@pytest.mark.parametrize(("argument", "options"), BAD_SPECS, ids=str)
def test_a_bad_spec_is_refused(argument: str, options: dict[str, Any]) -> None:
    """What cannot work is refused when the spec is made, and the message names the argument."""
    with pytest.raises(UsageError) as caught:
        CascadeSpec(**{"collection": "questions", "children": [LINK], **options})
    assert caught.value.argument == argument


@pytest.mark.parametrize(("argument", "options"), BAD_CHILDREN, ids=str)
def test_a_bad_child_is_refused(argument: str, options: dict[str, Any]) -> None:
    """What cannot work is refused when the child is made, and the message names the argument."""
    with pytest.raises(UsageError) as caught:
        Child(**{"collection": "responses", "foreign": "q", **options})
    assert caught.value.argument == argument


def test_a_tuple_is_a_child() -> None:
    """A tuple says the collection, the local and the foreign path; specs that say the same are equal, and hashable."""
    written = CascadeSpec("questions", children=(Child("responses", local="_id", foreign="question_id"),))
    assert written == FLAT
    assert hash(written) == hash(FLAT)
    assert FLAT.below == (Child("responses", foreign="question_id"),)


def test_what_a_spec_tells() -> None:
    """The pairs come level by level, the collections once each, and the indexes by collection without `_id`."""
    assert [(parent, child.collection) for parent, child in DEEP.pairs()] == [
        ("questions", "responses"),
        ("questions", "answers"),
        ("answers", "votes"),
    ]
    assert DEEP.collections == ("questions", "responses", "answers", "votes")
    assert DEEP.indexes() == {
        "responses": (Index("question_id"),),
        "answers": (Index("question"), Index("code")),
        "votes": (Index("answer"),),
    }


def test_one_collection_may_be_named_twice() -> None:
    """Messages name a sender and a receiver: both are followed, and counted together."""
    children = [("messages", "_id", "sender"), ("messages", "_id", "receiver"), ("messages", "name", "sender")]
    spec = CascadeSpec("users", children=children)
    assert spec.indexes() == {"users": (Index("name"),), "messages": (Index("sender"), Index("receiver"))}
    run = delete(spec)
    answered(run, [{"_id": 1, "k2": [MinKey()]}], 2, 3, 1)
    assert run.result == CascadeResult({"users": 1, "messages": 5}, 0, 1)


# What is asked for -------------------------------------------------------------------------------------------

BAD_CALLS: list[tuple[str, dict[str, Any]]] = [
    ("filter", {"condition": "all"}),
    ("filter", {"condition": [{"a": 1}]}),
    ("filter", {"condition": {"a": ...}}),
    ("filter", {"condition": {"a": 2**64}}),
    ("filter", {"condition": {"a": "x" * MAX_FILTER}}),
    ("keep", {"keep": "abc"}),
    ("keep", {"keep": b"abc"}),
    ("keep", {"keep": {"a": 1}}),
    ("keep", {"keep": ID}),
    ("keep", {"keep": [None]}),
    ("keep", {"keep": [[1]]}),
    ("keep", {"keep": [Regex("a")]}),
    ("keep", {"keep": [{"$gt": 1}]}),
    ("batch", {"batch": 0}),
    ("batch", {"batch": True}),
    ("batch", {"batch": 1.5}),
    ("batch", {"batch": MOST_IN_BATCH + 1}),
    ("on_progress", {"on_progress": 5}),
    ("on_progress", {"on_progress": print, "transaction": True}),
    ("transaction", {"transaction": True, "session": SimpleNamespace(in_transaction=True)}),
]


@pytest.mark.parametrize(("argument", "options"), BAD_CALLS, ids=lambda value: str(value)[:60])
def test_a_bad_call_is_refused(argument: str, options: dict[str, Any]) -> None:
    """What cannot work is refused before anything is sent, and the message names the argument."""
    with pytest.raises(UsageError) as caught:
        delete(**options)
    assert caught.value.argument == argument
    assert len(str(caught.value)) < 400


def test_the_filter_has_no_default() -> None:
    """Nobody deletes everything by leaving something out: None is refused, and {} has to be written."""
    with pytest.raises(UsageError, match=r"^filter: .*\{\} stands for every document"):
        CascadePlan(FLAT).delete(None, keep=(), transaction=False, batch=1, on_progress=None, session=None)
    read = delete().next
    assert isinstance(read, Read)
    assert read.arguments["filter"] == {}


@pytest.mark.parametrize("options", [{"limit": 0}, {"limit": None}, {"batch": 0}, {"batch": "5"}], ids=str)
def test_bad_sizes_of_a_search_are_refused(options: dict[str, Any]) -> None:
    """The limit and the batch are whole numbers from 1."""
    with pytest.raises(UsageError) as caught:
        CascadePlan(FLAT).orphans(**{"limit": 5, "batch": 5, **options})
    assert caught.value.argument in options
    with pytest.raises(UsageError, match=r"^on_progress: "):
        CascadePlan(FLAT).delete_orphans(batch=5, on_progress=5)  # type: ignore[arg-type]


def test_ids_to_keep_may_be_text() -> None:
    """With key_type=ObjectId the text of an id keeps it; other text is refused."""
    spec = CascadeSpec("questions", children=[LINK], key_type=ObjectId)
    run = delete(spec, keep=[str(ID).upper()])
    answered(run, [{"_id": ID}])
    assert run.result == CascadeResult({"questions": 0, "responses": 0}, 0, 1)
    with pytest.raises(UsageError, match=r"^keep: "):
        delete(spec, keep=["x"])


def test_the_text_of_an_id_keeps_nothing_in_silence() -> None:
    """Where an id is kept by its text and no key_type is said, the call ends before that parent is touched."""
    run = delete(keep=[str(ID)])
    with pytest.raises(StateError, match="key_type=ObjectId") as caught:
        run.go_on([{"_id": ID}])
    assert (caught.value.collection, caught.value.key) == ("questions", ID)


@pytest.mark.parametrize(("kept", "stored"), [(ID, str(ID)), ("7", 7), (7, "7"), (str(ID).upper(), ID)])
def test_ids_that_are_written_alike_keep_nothing_in_silence(kept: Any, stored: Any) -> None:
    """An id of another type keeps nothing; where it is written as a stored one, the call ends before that."""
    run = delete(keep=[kept])
    with pytest.raises(StateError, match="written alike"):
        run.go_on([{"_id": stored}])


def test_documents_are_no_ids() -> None:
    """Documents that were read are not taken for their ids."""
    with pytest.raises(UsageError, match=r"^keep: expected ids"):
        delete(keep=[{"_id": ID, "title": "x"}])


# What is sent ------------------------------------------------------------------------------------------------


def test_children_go_first() -> None:
    """A batch is read, its children are deleted by its keys, and then the parents that still match."""
    run = delete(condition={"old": True})
    sent = answered(run, [{"_id": 1}, {"_id": 2}], 5, 2, [])
    collation = {"locale": "simple"}
    comment = "mongopatterns.cascade.delete"
    read = {"projection": {"_id": 1}, "sort": [("_id", 1)], "limit": 2, "batch_size": 2, "comment": comment}
    after = {"$expr": {"$gt": ["$_id", {"$literal": 2}]}}
    named = {"filter": {"question_id": {"$in": [1, 2]}}, "comment": comment, "collation": collation}
    parents = {"filter": {"$and": [{"_id": {"$in": [1, 2]}}, {"old": True}]}, "comment": comment}
    assert sent == [
        Read("questions", "find", {"filter": {"old": True}, **read}),
        Delete("responses", named),
        Delete("questions", parents),
        Read("questions", "find", {"filter": {"$and": [{"old": True}, after]}, **read}),
        None,
    ]
    assert run.result == CascadeResult({"questions": 2, "responses": 5}, 0, 1)


def test_the_lowest_level_goes_first() -> None:
    """The keys of children that have children are read, then these go, then the children that are as they were."""
    run = delete(DEEP)
    children = [{"_id": 7, "k0": ["x", "y"]}, {"_id": 8, "k0": [MinKey()]}]
    sent = answered(run, [{"_id": 1}], 0, children, 3, 2, 1)
    assert [(type(one).__name__, one.collection) for one in sent[:-1]] == [
        ("Read", "questions"),
        ("Delete", "responses"),
        ("Read", "answers"),
        ("Delete", "votes"),
        ("Delete", "answers"),
        ("Delete", "questions"),
    ]
    assert sent[3].arguments["filter"] == {"answer": {"$in": ["x", "y"]}}
    ids, named, unchanged = sent[4].arguments["filter"]["$and"]
    assert (ids, named) == ({"_id": {"$in": [7, 8]}}, {"question": {"$in": [1]}})
    assert unchanged == only("code", [None, MinKey(), "x", "y", MinKey()], ANY, ["x", "y", MinKey()])
    assert run.result == CascadeResult({"questions": 1, "responses": 0, "answers": 2, "votes": 3}, 0, 1)


def test_children_are_read_until_there_are_no_more() -> None:
    """Many children are read in parts; what somebody changed meanwhile is read again before its parent goes."""
    run = delete(DEEP)
    many = [{"_id": number, "k0": [MinKey()]} for number in range(CHILDREN_AT_ONCE)]
    sent = answered(run, [{"_id": 1}], 0, many, len(many), many[:2], 1, many[:1], 1, 1)
    answers = [type(one).__name__ for one in sent if one is not None and one.collection == "answers"]
    assert answers == ["Read", "Delete"] * 3
    assert isinstance(sent[-2], Delete)
    assert sent[-2].collection == "questions"
    assert run.result is not None
    assert run.result.deleted["answers"] == CHILDREN_AT_ONCE + 2


def test_a_call_that_never_gets_its_turn_gives_up() -> None:
    """When others are quicker every time, the call ends with a Conflict before a parent is touched."""
    run = delete(DEEP)
    answered(run, [{"_id": 1}], 0)
    changed = [[{"_id": 7, "k0": [MinKey()]}], 0]
    with pytest.raises(Conflict, match="its parents are still there"):
        answered(run, *changed * ROUNDS)


def test_what_is_kept_does_not_end_the_call() -> None:
    """A batch of nothing but kept parents deletes nothing, and the next one is read."""
    run = delete(keep=[1, 2.0])
    sent = answered(run, [{"_id": 1}, {"_id": 2}], [{"_id": 3}], 1, 1)
    assert [type(one).__name__ for one in sent] == ["Read", "Read", "Delete", "Delete", "NoneType"]
    assert sent[3].arguments["filter"] == {"_id": {"$in": [3]}}
    assert run.result == CascadeResult({"questions": 1, "responses": 1}, 0, 2)


def test_progress_is_told_after_each_batch() -> None:
    """Each batch is followed by the result so far, which later ones do not change."""
    run = delete(on_progress=print)
    sent = answered(run, [{"_id": 1}, {"_id": 2}], 3, 1, None, [{"_id": 5}], 0, 1, None)
    told = [one.result for one in sent if isinstance(one, Told)]
    assert told == [
        CascadeResult({"questions": 1, "responses": 3}, 1, 1),
        CascadeResult({"questions": 2, "responses": 3}, 1, 2),
    ]
    assert run.result == told[-1]


def test_a_transaction_begins_again_from_the_beginning() -> None:
    """Each attempt of the driver gets a call of its own; a session is opened only where none is given."""
    run = delete(transaction=True)
    assert isinstance(run.next, InSession)
    inner = run.next.run()
    assert isinstance(inner.next, InTransaction)
    first, second = inner.next.run(), inner.next.run()
    answered(first, [{"_id": 1}], 1, 1)
    assert first.result == CascadeResult({"questions": 1, "responses": 1}, 0, 1)
    assert isinstance(second.next, Read)
    given_one = delete(transaction=True, session=SimpleNamespace(in_transaction=False))
    assert isinstance(given_one.next, InTransaction)


def test_a_transaction_is_bounded() -> None:
    """Past the bound the attempt ends with an error, and so the driver takes everything back."""
    run = delete(transaction=True, session=object())
    assert isinstance(run.next, InTransaction)
    attempt = run.next.run()
    answered(attempt, [{"_id": 1}], MOST_IN_TRANSACTION)
    with pytest.raises(LimitExceeded, match="10000 documents at most"):
        attempt.go_on(1)


def test_a_server_without_transactions_is_named() -> None:
    """The code of a standalone server becomes a clear error; others pass."""
    with pytest.raises(DeploymentError, match="needs a replica set") as caught:
        refuse_standalone(OperationFailure("Transaction numbers are only allowed on a replica set member", 20))
    assert isinstance(caught.value.__cause__, OperationFailure)
    refuse_standalone(OperationFailure("another", 112))


def test_orphans_are_asked_for_in_batches() -> None:
    """Children are read by their ids; the parents of those that name any are asked for; the limit ends it."""
    plan = CascadePlan(FLAT)
    run = plan.orphans(limit=2, batch=2)
    rows = [{"_id": 1, "keys": ["a"], "lists": []}, {"_id": 2, "keys": [MinKey()], "lists": []}]
    more = [{"_id": 3, "keys": ["a", "b"], "lists": [["a", "b"]]}, {"_id": 4, "keys": ["c"], "lists": []}]
    sent = answered(run, rows, [], more, [{"_id": "c"}])
    assert [(one.collection, one.method) for one in sent[:-1]] == [
        ("responses", "find"),
        ("questions", "aggregate"),
    ] * 2
    assert sent[1].arguments["pipeline"][0] == {"$match": {"_id": {"$in": ["a"]}}}
    assert sent[3].arguments["pipeline"][0] == {"$match": {"_id": {"$in": ["a", "b", ["a", "b"], "c"]}}}
    rows_told = (Orphan(1, ("a",)), Orphan(3, ("a", "b")))
    assert run.result == [Orphans("responses", "question_id", "questions", rows_told, complete=False)]
    assert run.result[0]


def test_children_that_name_nobody_ask_for_nothing() -> None:
    """Where all children of a batch name nobody, no parents are asked for."""
    run = CascadePlan(FLAT).orphans(limit=5, batch=5)
    answered(run, [{"_id": 1, "keys": [MinKey()], "lists": [[]]}])
    assert run.result == [Orphans("responses", "question_id", "questions", (), complete=True)]
    assert not run.result[0]


def test_only_what_still_names_the_missing_is_deleted() -> None:
    """The delete of orphans says the ids and what was missing a moment ago, and counts what it did not find."""
    run = CascadePlan(FLAT).delete_orphans(batch=5, on_progress=None)
    rows = [{"_id": 1, "keys": ["a"], "lists": []}, {"_id": 2, "keys": ["b"], "lists": [["b"]]}]
    sent = answered(run, rows, [], 1)
    ids, unchanged = sent[2].arguments["filter"]["$and"]
    assert ids == {"_id": {"$in": [1, 2]}}
    assert unchanged == only("question_id", ["a", "b", ["b"]], ANY, ["a", "b", ["b"]])
    assert run.result == CascadeResult({"responses": 1}, 1, 1)
    assert not run.result


# Values ------------------------------------------------------------------------------------------------------


def test_what_looks_like_syntax_is_compared_as_it_is() -> None:
    """Patterns, references and documents that begin with an operator stand outside of the list."""
    apart = [Regex("^a"), {"$gt": 1}, DBRef("x", 1)]
    assert match("a", [1, *apart, {"x": {"$gt": 1}}]) == {
        "$or": [{"a": {"$in": [1, {"x": {"$gt": 1}}]}}, *({"a": {"$eq": key}} for key in apart)]
    }
    assert match("a", [{}, [Regex("a")]]) == {"a": {"$in": [{}, [Regex("a")]]}}


def test_conditions_are_put_together() -> None:
    """No condition is everything, one is itself, several must all hold."""
    assert [all_of(), all_of({}, {"a": 1}), all_of({"a": 1}, {"a": 2})] == [
        {},
        {"a": 1},
        {"$and": [{"a": 1}, {"a": 2}]},
    ]


TEXTS = st.one_of(
    st.text(max_size=5), st.integers(-(2**64), 2**64).map(str), st.binary(min_size=12, max_size=12).map(bytes.hex)
)


@given(st.one_of(TEXTS, st.integers(-(2**63), 2**63 - 1), st.binary(min_size=12, max_size=12).map(ObjectId)))
def test_every_spelling_of_a_key_is_asked_for(key: Any) -> None:
    """Whatever becomes some text under `local_as="string"` is among the spellings of that text."""
    assert key in spellings(str(key), "string")


@given(st.binary(min_size=12, max_size=12).map(ObjectId), st.sampled_from([str.lower, str.upper]))
def test_every_plain_spelling_of_an_object_id_is_asked_for(key: ObjectId, case: Any) -> None:
    """An ObjectId is asked for as itself, and as text in lower and in upper case."""
    assert key in spellings(key, "objectid")
    assert case(str(key)) in spellings(key, "objectid")


@pytest.mark.parametrize("value", [5, 5.0, True, None, ID, Code("5"), Int64(5), ["5"], {"a": "5"}])
def test_what_no_key_becomes_is_not_asked_for(value: Any) -> None:
    """Under `local_as="string"` every key is text: nothing else can have a parent."""
    assert spellings(value, "string") == []


@pytest.mark.parametrize("text", ["05", "+5", "-0", "5.0", " 5", "\u0665", str(2**63), "5\n", str(ID).upper()])
def test_what_no_number_is_written_as_is_only_text(text: str) -> None:
    """Text that no integer or ObjectId turns into is asked for as text alone."""
    assert spellings(text, "string") == [text]


@given(st.lists(st.integers(0, MAX_BYTES // 2), max_size=30))
def test_parts_keep_order_and_fit(sizes: list[int]) -> None:
    """All items are in a part, in their order; the values of a part fit, unless it is a single item."""
    items = list(enumerate(sizes))
    parts = list(chunks(items, lambda item: ["x" * item[1]]))
    assert [item for part in parts for item in part] == items
    for part in parts:
        assert part
        assert len(encode({"": ["x" * size for _, size in part]})) <= MAX_BYTES or len(part) == 1


def test_parts_have_so_many_values_at_most() -> None:
    """Small values are counted: no command names more than 100,000."""
    assert [len(part) for part in chunks(range(2 * MAX_KEYS + 1), lambda item: [item])] == [MAX_KEYS, MAX_KEYS, 1]


def test_no_command_passes_what_the_server_takes() -> None:
    """With a large filter, long ids and long keys, every command stays far below 16 MB."""
    spec = CascadeSpec("questions", children=[Child("answers", local="code", foreign="q", children=[LINK])])
    run = delete(spec, condition={"a": "x" * (MAX_FILTER - 100)}, batch=10_000)
    parents = [{"_id": f"{number:01000}", "k0": [f"{number:01000}"]} for number in range(10_000)]
    answers: dict[str, list[Any]] = {"answers": [{"_id": f"{number:01000}"} for number in range(9_000)]}
    run.go_on(parents)
    largest = 0
    while run.next is not None:
        assert isinstance(run.next, (Read, Delete))
        command: Any = run.next
        largest = max(largest, len(encode(command.arguments["filter"])))
        if isinstance(command, Read):
            run.go_on(answers.get(command.collection, []))
        else:
            ids = command.arguments["filter"].get("$and", [{}])[0].get("_id", {"$in": []})["$in"]
            run.go_on(len(ids))
    assert 7_000_000 < largest < 12_500_000


# What is told ------------------------------------------------------------------------------------------------


def test_results_can_be_read() -> None:
    """A result knows its total, is true when nothing was left, and both results can be written as JSON."""
    result = CascadeResult({"a": 1, "b": 2}, 0, 1)
    assert (result.total, bool(result)) == (3, True)
    assert not CascadeResult({}, 1, 1)
    assert result.to_dict() == {"deleted": {"a": 1, "b": 2}, "left": 0, "batches": 1}
    orphans = Orphans("responses", "q", "questions", (Orphan(ID, (1, ID)),), complete=True)
    assert orphans.to_dict() == {
        "collection": "responses",
        "foreign": "q",
        "parent": "questions",
        "rows": [{"id": str(ID), "keys": [1, str(ID)]}],
        "complete": True,
    }
