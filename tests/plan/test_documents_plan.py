"""What the documents pattern sends and how it reads answers, without a server."""

from __future__ import annotations

import datetime as dt
import itertools
from decimal import Decimal
from enum import Enum
from typing import Any

import pytest
from bson import Decimal128, Int64, ObjectId
from bson.codec_options import CodecOptions
from hypothesis import given
from hypothesis import strategies as st
from pymongo.errors import OperationFailure

from mongopatterns import DocumentSpec, StateError, UsageError
from mongopatterns.commands import REPLY
from mongopatterns.documents._documents_pipeline import REFUSED, changes_of
from mongopatterns.documents._documents_plan import DocumentPlan, Upsert
from mongopatterns.specs import overlap

ID = ObjectId("0123456789abcdef01234567")
UTC = dt.timezone.utc
NOW = dt.datetime(2026, 3, 4, 12, tzinfo=UTC)
PAIR = DocumentSpec("responses", key=("question_id", "user_id"))
OPTIONS: CodecOptions[Any] = CodecOptions(tz_aware=True)  # as the collection that a shell hands over
PLAN = DocumentPlan(PAIR, "responses", OPTIONS)
REFUSAL = OperationFailure("refused", REFUSED)
ONE = DocumentPlan(DocumentSpec("codes"), "codes", OPTIONS)


def upsert(plan: DocumentPlan, key: Any, *, session: Any = None, now: Any = None, **options: Any) -> Upsert:
    changes = {name: options.pop(name, None) for name in ("set", "set_on_insert", "inc")}
    rest = {"push_last": None, "keep": None, "set_now": (), **options}
    return plan.upsert(key, changes, **rest, made=ID, session=session, now=now)


# The definition ----------------------------------------------------------------------------------------------

BAD_SPECS: list[dict[str, Any]] = [
    {"collection": ""},
    {"collection": 5},
    {"key": ""},
    {"key": ()},
    {"key": 5},
    {"key": b"id"},
    {"key": ("a", 5)},
    {"key": "$a"},
    {"key": "a..b"},
    {"key": "a.0"},
    {"key": ("a", "a")},
    {"key": ("a", "a.b")},
    {"key": ("_id", "a")},
    {"key": "_id.user"},
    {"key_type": str},
    {"key_type": {"_id": str}},
    {"key_type": {"other": ObjectId}},
]


@pytest.mark.parametrize("options", BAD_SPECS)
def test_a_spec_that_cannot_work_is_refused(options: dict[str, Any]) -> None:
    """Fields that are no paths, that overlap or that stand inside _id raise a UsageError when the spec is made."""
    with pytest.raises(UsageError):
        DocumentSpec(**{"collection": "codes", **options})


def test_a_spec_names_the_one_index_that_it_needs() -> None:
    """A unique index on exactly the fields of the key, in their order; none for _id."""
    assert [(index.keys, index.options) for index in PAIR.indexes()] == [
        ((("question_id", 1), ("user_id", 1)), {"unique": True})
    ]
    assert DocumentSpec("codes").indexes() == DocumentSpec("codes", key=["_id"]).indexes() == ()


def test_a_spec_is_a_value() -> None:
    """Specs of the same fields are equal and can be keys of a dict, whatever the fields came in."""
    assert DocumentSpec("responses", key=["question_id", "user_id"]) == PAIR
    assert len({PAIR, DocumentSpec("responses", key=["question_id", "user_id"])}) == 1
    assert hash(DocumentSpec("a", key_type={"_id": ObjectId}))


# Keys --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "key", [("q", 7), ["q", 7], {"question_id": "q", "user_id": 7}, {"user_id": 7, "question_id": "q"}]
)
def test_a_key_of_several_fields_is_a_tuple_or_a_dict(key: Any) -> None:
    """Either way the filter is the equalities on exactly the fields of the index."""
    assert PLAN.take(key, None, None).filter == {"question_id": "q", "user_id": 7}


@pytest.mark.parametrize(
    "key", ["q7", 7, ("q",), ("q", 7, 1), {"question_id": "q"}, {"question_id": "q", "user_id": 7, "x": 1}, None]
)
def test_a_key_of_another_shape_is_refused(key: Any) -> None:
    """What does not give each field of the key one value raises a UsageError that names the fields."""
    with pytest.raises(UsageError, match=r"^key: expected a tuple \(question_id, user_id\)"):
        PLAN.take(key, None, None)


@pytest.mark.parametrize("value", [None, [1], float("nan"), {"$gt": ""}, 2**70])
def test_a_value_without_one_equality_is_no_part_of_a_key(value: Any) -> None:
    """None, lists, operators, NaN and numbers past 64 bits are refused, and the message names the field."""
    with pytest.raises(UsageError, match=r"^key\.user_id"):
        PLAN.take(("q", value), None, None)
    with pytest.raises(UsageError, match=r"^key"):
        ONE.take(value, None, None)


def test_a_document_is_a_value_of_a_single_field() -> None:
    """Where one field is the key, a dict is its value, and is compared as a whole."""
    assert ONE.take({"a": 1}, None, None).filter == {"_id": {"$eq": {"a": 1}}}
    spec = DocumentSpec("a", key=("x", "y.z"))
    assert DocumentPlan(spec, "a").take(({"k": 1}, 2), None, None).filter == {"x": {"$eq": {"k": 1}}, "y.z": 2}


def test_ids_may_come_as_text() -> None:
    """key_type converts text for all fields, or for those that it names; other text is refused."""
    every = DocumentSpec("a", key=("x", "y"), key_type=ObjectId)
    assert every.values((str(ID), ID)) == {"x": ID, "y": ID}
    some = DocumentSpec("a", key=("x", "y"), key_type={"y": ObjectId})
    assert some.values((str(ID), str(ID))) == {"x": str(ID), "y": ID}
    with pytest.raises(UsageError, match=r"^key\.y: 'me' is not an ObjectId"):
        some.values(("me", "me"))


# Get or create -----------------------------------------------------------------------------------------------


def test_get_or_create_sends_one_upsert_on_exactly_the_key() -> None:
    """The fields are inserted and nothing is changed; the image before it tells who made the document."""
    sent = PLAN.get_or_create(("q", "$u"), {"status": "$open"}, ID).command.arguments()
    assert sent == {
        "filter": {"question_id": "q", "user_id": "$u"},
        "update": {"$setOnInsert": {"status": "$open", "_id": ID}},
        "projection": None,
        "upsert": True,
        "return_document": False,
        "comment": "mongopatterns.documents.get_or_create",
    }


def test_what_was_made_is_given_as_a_read_would_give_it() -> None:
    """Dates to the millisecond and aware, tuples as lists, the id first, then the key, then names in order."""
    made = dt.datetime(2026, 1, 1, 1, 2, 3, 456789, tzinfo=dt.timezone(dt.timedelta(hours=1)))
    asked = PLAN.get_or_create(("q", "u"), {"b": made, "a": (1, 2), "10": 1, "9": Decimal128("1.0")}, ID)
    document, created = PLAN.got(asked, None)
    assert created
    assert list(document.items()) == [
        ("_id", ID),
        ("question_id", "q"),
        ("user_id", "u"),
        ("9", Decimal128("1.0")),
        ("10", 1),
        ("a", [1, 2]),
        ("b", made.replace(microsecond=456000)),
    ]


def test_what_was_there_is_given_as_it_is() -> None:
    """An image before the write is the document, untouched."""
    stored = {"_id": 1, "question_id": "q", "user_id": "u", "other": 5}
    assert PLAN.got(PLAN.get_or_create(("q", "u"), {"status": "new"}, ID), stored) == (stored, False)


@pytest.mark.parametrize(
    ("defaults", "argument"),
    [
        ({"user_id": "u"}, "defaults"),
        ({"question_id": {"a": 1}}, "defaults"),
        ({"a.b": 1}, "defaults"),
        ({"$set": 1}, "defaults"),
        ({"a": {"$gt": 1}}, "defaults.a"),
        ({"": 1}, "defaults"),
        ({1: 1}, "defaults"),
        ({"a": object()}, "defaults"),
        ({"_id": None}, "defaults._id"),
        ({"_id": [1]}, "defaults._id"),
        ([("a", 1)], "defaults"),
    ],
)
def test_defaults_that_are_no_fields_are_refused(defaults: Any, argument: str) -> None:
    """Names that mean something, fields of the key and what cannot be stored raise a UsageError that names them."""
    with pytest.raises(UsageError) as caught:
        PLAN.get_or_create(("q", "u"), defaults, ID)
    assert caught.value.argument == argument


def test_an_id_of_the_caller_is_kept() -> None:
    """`_id` may be among the defaults, unless it is the key."""
    assert PLAN.get_or_create(("q", "u"), {"_id": 5}, ID).command.update == {"$setOnInsert": {"_id": 5}}
    assert ONE.get_or_create("a", None, ID).command.update == {"$setOnInsert": {}}
    with pytest.raises(UsageError, match=r"^defaults: '_id' comes from the key"):
        ONE.get_or_create("a", {"_id": "a"}, ID)


# Upsert: what is refused -------------------------------------------------------------------------------------

BAD_CHANGES: list[tuple[str, dict[str, Any]]] = [
    ("set", {"set": [("a", 1)]}),
    ("set", {"set": {"$a": 1}}),
    ("set", {"set": {"a..b": 1}}),
    ("set", {"set": {"": 1}}),
    ("set", {"set": {5: 1}}),
    ("set.a.b", {"set": {"a.b": {"$x": 1}}}),
    ("set.a", {"set": {"a": [{"x.y": 1}]}}),
    ("set", {"set": {"a": object()}}),
    ("set", {"set": {"_id": 1}}),
    ("set", {"set": {"user_id": 1}}),
    ("set", {"set": {"user_id.x": 1}}),
    ("set", {"set": {"a": 1, "a.b": 2}}),
    ("set", {"set": {"a.b": 2, "a": 1}}),
    ("set_on_insert", {"set": {"a": 1}, "set_on_insert": {"a": 2}}),
    ("set_on_insert", {"set_on_insert": {"_id.x": 1}}),
    ("set_on_insert._id", {"set_on_insert": {"_id": None}}),
    ("inc", {"set": {"a": 1}, "inc": {"a.n": 2}}),
    ("inc", {"inc": {"_id": 1}}),
    ("inc.n", {"inc": {"n": "1"}}),
    ("inc.n", {"inc": {"n": True}}),
    ("inc.n", {"inc": {"n": None}}),
    ("inc.n", {"inc": {"n": float("inf")}}),
    ("inc.n", {"inc": {"n": Decimal("sNaN")}}),
    ("inc.n", {"inc": {"n": Decimal128("NaN")}}),
    ("inc.n", {"inc": {"n": 2**63}}),
    ("inc.n", {"inc": {"n": -(2**63) - 1}}),
    ("inc.n", {"inc": {"n": Decimal("1." + "1" * 40)}}),
    ("inc.n", {"inc": {"n": Decimal("1e9999")}}),
    ("push_last", {"inc": {"n": 1}, "push_last": {"n": 1}}),
    ("push_last", {"push_last": "history"}),
    ("push_last.h", {"push_last": {"h": {"a.b": 1}}}),
    ("keep", {"push_last": {"h": 1}, "keep": 0}),
    ("keep", {"push_last": {"h": 1}, "keep": -5}),
    ("keep", {"push_last": {"h": 1}, "keep": True}),
    ("keep", {"push_last": {"h": 1}, "keep": 2.0}),
    ("keep", {"push_last": {"h": 1}, "keep": 2**31}),
    ("keep", {"keep": 5}),
    ("keep", {"keep": 5, "set": {"h": [1]}}),
    ("set_now", {"set_now": {"at": 1}}),
    ("set_now", {"set_now": {}}),
    ("set_now", {"set_now": b"t"}),
    ("set_now", {"set_now": "t"}),
    ("set_now", {"set_now": 5}),
    ("set_now", {"set_now": ["$t"]}),
    ("set_now", {"set_now": ["t", "t"]}),
    ("set_now", {"set": {"t": 1}, "set_now": ["t.x"]}),
    ("now", {"now": dt.datetime(2026, 1, 1)}),  # noqa: DTZ001  # that is the point
]


@pytest.mark.parametrize(("argument", "options"), BAD_CHANGES)
def test_changes_that_cannot_be_made_are_refused(argument: str, options: dict[str, Any]) -> None:
    """A bad path, value, number or time, and paths that overlap, raise a UsageError that names the argument."""
    with pytest.raises(UsageError) as caught:
        upsert(PLAN, ("q", "u"), **options)
    assert caught.value.argument == argument


def test_what_stands_beside_a_nested_key_may_change_and_what_holds_it_may_not() -> None:
    """With the key `user.id`, `user.name` is a path like any other; `user` would take the key with it."""
    plan = DocumentPlan(DocumentSpec("a", key="user.id"), "a")
    assert upsert(plan, 5, set={"user.name": "Ann"})
    with pytest.raises(UsageError, match=r"^set: 'user' overlaps the key"):
        upsert(plan, 5, set={"user": {}})


paths = st.lists(st.sampled_from("abc"), min_size=1, max_size=3).map(".".join)


@given(chosen=st.lists(paths, min_size=1, max_size=6))
def test_exactly_the_paths_that_overlap_are_refused(chosen: list[str]) -> None:
    """However paths are spread over the arguments, a call is refused just when one of them leads to another."""
    given: dict[str, dict[str, Any]] = {"set": {}, "inc": {}, "push_last": {}}
    taken = set()
    for path, kind in zip(chosen, itertools.cycle(given), strict=False):
        if path not in given[kind]:
            given[kind][path] = 1
            taken.add((kind, path))
    clash = any(overlap(one, other) for (_, one), (_, other) in itertools.combinations(taken, 2))
    shape = [(kind, path, False) for kind, values in given.items() for path in values]
    if clash:
        with pytest.raises(UsageError, match="overlaps"):
            changes_of(shape, None, ("_id",))
    else:
        changes_of(shape, None, ("_id",))


# Upsert: what is sent ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "travels"),
    [
        (5, 5),
        (-5, -5),
        (0, 0),
        (Int64(5), Int64(5)),
        (2**63 - 1, 2**63 - 1),
        (0.1, 0.1),
        (Decimal("0.10"), Decimal128("0.10")),
        (Decimal128("0.10"), Decimal128("0.10")),
    ],
)
def test_numbers_travel_as_they_are(given: Any, travels: Any) -> None:
    """An int as an integer, a float as a double, a Decimal as a Decimal128: nobody else's field changes its type."""
    sent = upsert(ONE, "a", inc={"n": given}).command.let["v0"]["$literal"]  # type: ignore[index]
    assert sent == travels
    assert type(sent) is type(travels)


def test_values_travel_once_and_as_data() -> None:
    """Each value is a literal variable of the command; neither the pipeline nor the projection holds it."""
    asked = upsert(
        PLAN, ("q", "u"), set={"a": "$marker"}, set_on_insert={"b": "$marker"}, push_last={"c": {"x": "$marker"}}
    )
    command = asked.command
    by_image = upsert(ONE, "a", set={"a": "$marker"}).command
    assert command.let == {
        "now": "$$NOW",
        "id": {"$literal": ID},
        "v0": {"$literal": "$marker"},
        "v1": {"$literal": "$marker"},
        "v2": {"$literal": {"x": "$marker"}},
    }
    for sent in (command.explained(), by_image.explained()):
        assert "marker" not in repr((sent["update"], sent["projection"]))
    assert (command.upsert, command.before, command.comment) == (True, False, "mongopatterns.documents.upsert")
    assert (by_image.upsert, by_image.before, by_image.comment) == (True, True, "mongopatterns.documents.upsert")


class Session:
    def __init__(self, *, in_transaction: bool) -> None:
        self.in_transaction = in_transaction


def test_a_generated_id_tells_where_nothing_speaks_against_it() -> None:
    """Not where `_id` is the key or comes from the caller, nor in a transaction, which an error would abort."""
    for asked in (
        upsert(PLAN, ("q", "u")),
        upsert(PLAN, ("q", "u"), set_on_insert={"a": 1}, session=Session(in_transaction=False)),
    ):
        assert (asked.token, asked.command.before, asked.command.projection) == (ID, False, None)
    for asked in (
        upsert(ONE, "a"),
        upsert(PLAN, ("q", "u"), set_on_insert={"_id": ObjectId()}),
        upsert(PLAN, ("q", "u"), session=Session(in_transaction=True)),
    ):
        assert (asked.token, asked.command.before) == (None, True)
        assert asked.command.projection is not None


def test_calls_of_one_shape_share_what_they_send() -> None:
    """Values make no new shape; another kind, path, cap or type of number does. Huge calls are not kept."""
    plan = DocumentPlan(PAIR, "responses", OPTIONS)

    def shape(**options: Any) -> Any:
        return upsert(plan, ("q", "u"), **options).shape

    one = {"set": {"a": 1}, "inc": {"n": 1}, "push_last": {"h": 1}, "keep": 5}
    assert shape(**one) is shape(**{**one, "set": {"a": "x"}, "inc": {"n": 2**40}, "push_last": {"h": []}})
    others: list[dict[str, Any]] = [
        {"set": {"b": 1}},
        {"inc": {"n": 1.0}},
        {"inc": {"n": Decimal(1)}},
        {"keep": 6},
        {"keep": None},
        {"set": {}, "set_now": ["a"]},
    ]
    assert all(shape(**one) is not shape(**{**one, **other}) for other in others)
    huge = {"set": {f"k{number}": 1 for number in range(33)}}
    assert shape(**huge) is not shape(**huge)
    for number in range(1000):
        shape(set={f"day.{number}": 1})
    assert plan._shape.cache_info().currsize == 128
    assert shape(**one) is shape(**one)


def test_names_of_an_enum_are_text() -> None:
    """A path that is a kind of text is sent as the text that it equals."""

    class Name(str, Enum):
        COUNT = "n.m"

    for path in (Name.COUNT, "n.m"):
        asked = upsert(DocumentPlan(PAIR, "responses", OPTIONS), ("q", "u"), inc={path: 1})
        assert asked.command.explained() == upsert(PLAN, ("q", "u"), inc={"n.m": 1}).command.explained()


def test_values_are_copied_when_the_call_is_made() -> None:
    """A list or dict that the caller changes later is sent as it was."""
    value = {"list": [1]}
    asked = upsert(ONE, "a", set={"x": value})
    value["list"].append(2)
    assert asked.command.let["v0"] == {"$literal": {"list": [1]}}  # type: ignore[index]


def test_take_asks_for_a_date_in_the_servers_future() -> None:
    """Without `unexpired` the filter is the key; with it the server's own time decides."""
    plain = ONE.take("$a", None, None)
    assert plain.arguments() == {"filter": {"_id": "$a"}, "comment": "mongopatterns.documents.take"}
    timed = ONE.take("a", "meta.until", None).arguments()
    assert timed["let"] == {"now": "$$NOW"}
    assert ONE.take("a", "meta.until", NOW).arguments()["let"] == {"now": NOW}
    for path in ("$until", "", 5, "a\0"):
        with pytest.raises(UsageError, match=r"^unexpired: "):
            ONE.take("a", path, None)  # type: ignore[arg-type]


# Upsert: what the answers mean -------------------------------------------------------------------------------


def test_no_image_means_made_by_this_call() -> None:
    """The document is put together from the id, the key and the changes, and no further command is asked for."""
    asked = upsert(
        PLAN,
        ("q", "u"),
        set={"a.b": (1, 2)},
        set_on_insert={"a.c": "first", "s": 0},
        inc={"n.m": Decimal("0.5")},
        push_last={"h": {"x": 1}},
        keep=3,
    )
    asked = PLAN.refused(asked, REFUSAL)
    assert PLAN.again(asked, None) is None
    document, created = PLAN.upserted(asked, None)
    assert created
    assert list(document.items()) == [
        ("_id", ID),
        ("question_id", "q"),
        ("user_id", "u"),
        ("a", {"c": "first", "b": [1, 2]}),
        ("s", 0),
        ("n", {"m": Decimal128("0.5")}),
        ("h", [{"x": 1}]),
    ]


@given(value=st.sampled_from([ObjectId("1" * 24), "mine", None, str(ID), {"_id": ID}]))
def test_the_generated_id_tells_who_made_the_document(value: Any) -> None:
    """The reply is the document, and the call made it if its `_id` is the one that was generated for the call."""
    asked = upsert(PLAN, ("q", "u"), inc={"n": 1}, set_now=["t"])
    for stored in ({"_id": value, "n": 2, REPLY: None}, {"_id": ID, "n": 1}):
        assert PLAN.again(asked, stored) is None
        assert PLAN.upserted(asked, stored) == (stored, stored["_id"] == ID)


def test_what_the_server_refused_is_asked_by_the_image() -> None:
    """The refusal's own code has the same call sent in the other way, with the same values; other errors are raised."""
    asked = upsert(PLAN, ("q", "u"), inc={"n": 1}, set_now=["t"])
    second = PLAN.refused(asked, REFUSAL)
    first, again = asked.command, second.command
    assert (again.filter, again.let, again.upsert, again.comment) == (first.filter, first.let, True, first.comment)
    assert (second.token, again.before) == (None, True)
    for call, error in (
        (asked, OperationFailure("no", 11000)),
        (asked, OperationFailure("no")),
        (second, REFUSAL),
        (upsert(ONE, "a", inc={"n": 1}), REFUSAL),
    ):
        with pytest.raises(OperationFailure) as caught:
            PLAN.refused(call, error)
        assert caught.value is error


def test_a_projected_reply_is_the_document_after_the_call() -> None:
    """What the server told is handed on, and no further command is asked for."""
    asked = upsert(ONE, "a", set={"x": 1}, inc={"n": 1}, set_now=["t"])
    reply = {REPLY: {"found": ["int"], "sums": ["int"], "document": {"_id": "a", "n": 3, "x": 1, "t": NOW}}}
    assert ONE.again(asked, reply) is None
    assert ONE.upserted(asked, reply) == ({"_id": "a", "n": 3, "x": 1, "t": NOW}, False)


@pytest.mark.parametrize(
    ("found", "sums", "path", "problem"),
    [
        (
            ["string", "missing", "missing", "missing"],
            ["int"],
            "a",
            "expected a document, found a value of type string",
        ),
        (["object", "date", "missing", "missing"], ["int"], "a.n", "expected a number, found a value of type date"),
        (["null", "missing", "array", "missing"], ["int"], "b", "expected a document, found a value of type array"),
        (["null", "missing", "object", "int"], ["int"], "b.h", "expected an array, found a value of type int"),
        (["object", "long", "object", "array"], ["double"], "a.n", "the sum would not fit into 64 bits"),
    ],
)
def test_what_does_not_fit_is_named(found: list[str], sums: list[str], path: str, problem: str) -> None:
    """The first path that stands in the way is told with the key, whole or by its fields."""
    asked = PLAN.refused(upsert(PLAN, ("q", "u"), inc={"a.n": 1}, push_last={"b.h": 1}), REFUSAL)
    with pytest.raises(StateError, match=problem) as caught:
        PLAN.upserted(asked, {REPLY: {"found": found, "sums": sums, "document": None}})
    assert (caught.value.path, caught.value.key) == (path, {"question_id": "q", "user_id": "u"})
    with pytest.raises(StateError, match="'n' in the document 'a' of 'codes'"):
        ONE.upserted(upsert(ONE, "a", inc={"n": 1}), {REPLY: {"found": ["bool"], "sums": ["null"], "document": None}})


def test_a_double_that_was_stored_may_stay_one() -> None:
    """A sum is a double because the stored number was: that is no overflow."""
    asked = upsert(ONE, "a", inc={"n": 1})
    told = {"found": ["double"], "sums": ["double"], "document": {"_id": "a", "n": 2.5}}
    assert ONE.upserted(asked, {REPLY: told}).document["n"] == 2.5


def test_a_repeated_write_is_told_again() -> None:
    """A reply that is the stored image asks for one read, with the image and the same values as its variables."""
    asked = upsert(ONE, "a", set={"x": 1}, now=NOW)
    again = ONE.again(asked, {"_id": "a", "x": 0})
    assert again is not None
    assert again.let["image"] == {"$literal": {"_id": "a", "x": 0}}
    assert again.let["v0"] == {"$literal": 1}
    assert again.pipeline[0] == {"$match": {"_id": "a"}}


def test_times_are_read_back_where_no_image_told_them() -> None:
    """The server's time in a document that was made takes one more read; an injected time does not."""
    made = upsert(ONE, "a", set={"x": 1}, set_now=["t.x"])
    assert ONE.again(made, None) is not None
    stored = {REPLY: None, "found": {"_id": "a", "t": {"x": NOW}}, "now": NOW + dt.timedelta(seconds=5)}
    assert ONE.upserted(made, stored) == ({"_id": "a", "x": 1, "t": {"x": NOW}}, True)
    gone = {REPLY: None, "now": NOW}
    assert ONE.upserted(made, gone) == ({"_id": "a", "x": 1, "t": {"x": NOW}}, True)
    given = upsert(ONE, "a", set_now=["t"], now=NOW)
    assert ONE.again(given, None) is None
    assert ONE.upserted(given, None).document == {"_id": "a", "t": NOW}


@given(
    chosen=st.dictionaries(paths, st.integers(0, 9), max_size=6),
    order=st.randoms(use_true_random=False),
)
def test_the_order_of_changes_means_nothing(chosen: dict[str, int], order: Any) -> None:
    """A new document holds the same whatever order its changes came in."""
    whole = [path for path in chosen if not any(overlap(path, other) for other in chosen if other != path)]
    values = {path: chosen[path] for path in whole}
    mixed = list(values.items())
    order.shuffle(mixed)
    one, other = (ONE.upserted(upsert(ONE, 1, set=given), None) for given in (values, dict(mixed)))
    assert one == other
