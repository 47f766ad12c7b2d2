# Generated from tests/aio/test_cascade.py by tools/generate_sync.py.
# Do not edit: change the source and run "make generate".
"""What a cascade deletes, leaves and mends, on a real server."""

from __future__ import annotations

import datetime as dt
import random
import uuid
from collections import Counter
from typing import Any

import pytest
from bson import Binary, Code, Decimal128, Int64, MaxKey, MinKey, ObjectId, Regex, Timestamp, UuidRepresentation
from bson.codec_options import CodecOptions
from bson.son import SON
from pymongo.errors import ConnectionFailure, ExecutionTimeout, NetworkTimeout, OperationFailure

from mongopatterns import (
    Cascade,
    CascadeResult,
    CascadeSpec,
    Child,
    DeploymentError,
    Durability,
    LimitExceeded,
    StateError,
    UsageError,
    may_have_applied,
)
from mongopatterns._driver_sync import settle
from mongopatterns.expressions import bson_identity
from mongopatterns.joins._cascade_commands import Delete, Run
from mongopatterns.joins._cascade_plan import CHILDREN_AT_ONCE, MOST_IN_TRANSACTION
from mongopatterns.testing import EmbeddedMongo, race_threads

DAY = dt.datetime(2026, 1, 1, 0, 0, 0, 5000, tzinfo=dt.timezone.utc)

FLAT = CascadeSpec("questions", children=[("responses", "_id", "question_id")])
DEEP = CascadeSpec(
    "books",
    children=[
        ("reviews", "_id", "book"),
        Child(
            "chapters", local="isbn", foreign="book", children=[("notes", "_id", "chapter"), ("marks", "no", "chapter")]
        ),
    ],
)


def bind(db: Any, spec: CascadeSpec = FLAT, **options: Any) -> Cascade:
    for name, indexes in spec.indexes().items():
        for index in indexes:
            db[name].create_index(index.keys, **index.options)
    return Cascade(db, spec, **options)


def counts(db: Any, *names: str) -> list[int]:
    return [db[name].count_documents({}) for name in names]


def ids(db: Any, name: str) -> list[Any]:
    return [one["_id"] for one in db[name].find({}, {"_id": 1}).sort("_id", 1).to_list(None)]


def questions(db: Any, number: int, each: int = 2) -> None:
    """Store parents with some children each."""
    db.questions.insert_many([{"_id": one, "n": one} for one in range(number)])
    responses = [{"question_id": one, "by": by} for one in range(number) for by in range(each)]
    db.responses.insert_many(responses)


def books(db: Any, number: int) -> None:
    """Store parents with children of two kinds, and two kinds of theirs."""
    db.books.insert_many([{"_id": one, "isbn": f"i{one}"} for one in range(number)])
    db.reviews.insert_many([{"book": one} for one in range(number) for _ in range(3)])
    chapters = [
        {"_id": f"{one}.{no}", "book": f"i{one}", "no": [one, no + 0.5]} for one in range(number) for no in (1, 2)
    ]
    db.chapters.insert_many(chapters)
    db.notes.insert_many([{"chapter": one["_id"]} for one in chapters for _ in range(2)])
    db.marks.insert_many([{"chapter": one} for one in range(number)])


BOOKS = ("books", "reviews", "chapters", "notes", "marks")


def interleaved(cascade: Cascade, run: Run[Any], meanwhile: Any) -> Any:
    """Carry a call out, and do something else before each of its commands."""
    while run.next is not None:
        meanwhile(run.next)
        run.go_on(cascade._senders[type(run.next)](run.next, None))
    return run.result


def asked(cascade: Cascade, condition: dict[str, Any]) -> Run[Any]:
    return cascade._plan.delete(condition, keep=(), transaction=False, batch=1000, on_progress=None, session=None)


# What goes -----------------------------------------------------------------------------------------------------


def test_children_go_with_their_parents(db: Any) -> None:
    """What matches is deleted with its children, and told by collection; everything else stays."""
    cascade = bind(db)
    questions(db, 6)
    db.responses.insert_one({"_id": "nobody's"})
    result = cascade.delete({"n": {"$gte": 2}})
    assert result == CascadeResult({"questions": 4, "responses": 8}, 0, 1)
    assert result
    assert ids(db, "questions") == [0, 1]
    assert counts(db, "responses") == [5]
    assert cascade.delete({"n": {"$gte": 2}}) == CascadeResult({"questions": 0, "responses": 0}, 0, 0)
    assert cascade.delete({}).deleted == {"questions": 2, "responses": 4}
    assert ids(db, "responses") == ["nobody's"]


def test_two_levels(db: Any) -> None:
    """Children of children go too, by whatever names them, and what belongs to other parents stays."""
    cascade = bind(db, DEEP)
    books(db, 4)
    result = cascade.delete({"_id": {"$lt": 3}})
    assert result.deleted == {"books": 3, "reviews": 9, "chapters": 6, "notes": 12, "marks": 3}
    assert counts(db, *BOOKS) == [1, 3, 2, 4, 1]
    assert not any(cascade.orphans())


@pytest.mark.parametrize("number", [1, 300])
def test_commands_are_constant(db: Any, commands: Any, number: int) -> None:
    """However many parents, children and grandchildren a batch has: one read a level, one delete a collection."""
    cascade = bind(db, DEEP)
    books(db, number)
    commands.clear()
    cascade.delete({})
    sent = [(name, command[name]) for name, command in commands.sent]
    assert sent == [
        ("find", "books"),
        ("delete", "reviews"),
        ("find", "chapters"),
        ("delete", "notes"),
        ("delete", "marks"),
        ("delete", "chapters"),
        ("delete", "books"),
    ]
    assert commands.comments == {"mongopatterns.cascade.delete"}
    assert counts(db, *BOOKS) == [0] * 5


def test_what_is_not_there_costs_one_command(db: Any, commands: Any) -> None:
    """Where nothing matches, one read says so."""
    cascade = bind(db)
    commands.clear()
    assert cascade.delete({"n": 1}).total == 0
    assert commands.names == ["find"]


def test_documents_do_not_travel(db: Any, commands: Any) -> None:
    """Of parents and children with a megabyte each nothing is fetched but what is needed to find them."""
    cascade = bind(db, DEEP)
    big = {"x": "x" * 2**20}
    db.books.insert_one({"_id": 1, "isbn": "i", **big})
    db.chapters.insert_one({"_id": 1, "book": "i", "no": 1, **big})
    db.notes.insert_one({"_id": 1, "chapter": 2, **big})
    commands.clear()
    assert [len(one.rows) for one in cascade.orphans()] == [0, 0, 1, 0]
    cascade.delete_orphans()
    assert cascade.delete({}).total == 2
    assert max(commands.reply_bytes) < 1000


@pytest.mark.parametrize("batch", [1, 7, 10, 35, 36, 1000])
def test_batches_and_progress(db: Any, batch: int) -> None:
    """Batches go by the order of ids, each ends with the result so far, and together they delete everything."""
    cascade = bind(db)
    questions(db, 35)
    told: list[CascadeResult] = []
    left: list[list[Any]] = []

    def note(result: CascadeResult) -> None:
        told.append(result)
        left.append(ids(db, "questions"))

    result = cascade.delete({}, batch=batch, on_progress=note)
    assert told[-1] == result == CascadeResult({"questions": 35, "responses": 70}, 0, -(-35 // batch))
    done = [min(35, batch * (turn + 1)) for turn in range(len(told))]
    assert [one.deleted["questions"] for one in told] == done
    assert [one.deleted["responses"] for one in told] == [2 * number for number in done]
    assert left == [list(range(number, 35)) for number in done]


def test_progress_may_be_a_plain_function_and_may_end_the_call(db: Any) -> None:
    """An error of the callback reaches the caller; the batch before it is done, and the next has not begun."""
    cascade = bind(db)
    questions(db, 10)
    seen: list[int] = []
    cascade.delete({"n": {"$lt": 2}}, batch=1, on_progress=lambda result: seen.append(result.total))
    assert seen == [3, 6]

    def stop(result: CascadeResult) -> None:
        raise RuntimeError(str(result.total))

    with pytest.raises(RuntimeError, match=r"^9$"):
        cascade.delete({}, batch=3, on_progress=stop)
    assert counts(db, "questions", "responses") == [5, 10]


ANY_TYPE: list[Any] = [
    MinKey(),
    None,
    float("nan"),
    -1,
    0,
    0.5,
    Decimal128("1.5"),
    "",
    "a",
    {},
    SON([("a", 1), ("b", None)]),
    b"x",
    Binary(b"x", 5),
    uuid.UUID(int=5),
    ObjectId(),
    False,
    True,
    DAY,
    Timestamp(1, 1),
    Code("a"),
    MaxKey(),
]
UUIDS: CodecOptions[Any] = CodecOptions(uuid_representation=UuidRepresentation.STANDARD)


@pytest.mark.parametrize("batch", [1, 4, 100])
def test_ids_of_all_types_in_batches(client: Any, db: Any, batch: int) -> None:
    """Batches pass from one type to the next, also over dates that no Python date can say; null keys name nobody."""
    database = client.get_database(db.name, codec_options=UUIDS)
    cascade = bind(database)
    every = [*ANY_TYPE, *far_dates()]
    database.questions.insert_many([{"_id": one} for one in every])
    database.responses.insert_many([{"question_id": one} for one in every])
    database.responses.insert_one({})
    result = cascade.delete({}, batch=batch)
    assert result.deleted == {"questions": len(every), "responses": len(every) - 2}
    assert result
    rest = database.responses.find({}, {"_id": 0}).to_list(None)
    assert rest == [{"question_id": MinKey()}, {"question_id": None}, {}]
    assert not any(cascade.orphans(batch=batch))


def far_dates() -> list[Any]:
    from bson.datetime_ms import DatetimeMS  # noqa: PLC0415  # only here

    return [DatetimeMS(-(2**62)), DatetimeMS(2**62), DatetimeMS(2**62 + 1)]


def test_keys_of_many_bytes_are_sent_in_parts(db: Any, commands: Any) -> None:
    """18 MB of ids in one batch are sent in several commands, and everything goes."""
    cascade = bind(db)
    parents = [{"_id": f"{number:03000}"} for number in range(6000)]
    for start in range(0, 6000, 1500):
        db.questions.insert_many(parents[start : start + 1500])
    db.responses.insert_many([{"question_id": one["_id"]} for one in parents[::100]])
    commands.clear()
    assert cascade.delete({}, batch=6000).deleted == {"questions": 6000, "responses": 60}
    deletes = [command for name, command in commands.sent if name == "delete"]
    assert [command["delete"] for command in deletes] == ["responses"] * 5 + ["questions"] * 5


def test_many_children_that_have_children(db: Any, commands: Any) -> None:
    """More of them than are read at once are read in parts, each deleted after what belongs to it."""
    cascade = bind(db, DEEP)
    number = CHILDREN_AT_ONCE + 5
    db.books.insert_one({"_id": 1, "isbn": "i"})
    db.chapters.insert_many([{"_id": one, "book": "i"} for one in range(number)])
    db.notes.insert_many([{"chapter": one} for one in range(number)])
    commands.clear()
    assert cascade.delete({}).deleted["notes"] == number
    assert Counter(commands.names) == {"find": 3, "delete": 6}
    assert counts(db, *BOOKS) == [0] * 5


def test_deletes_use_the_indexes(db: Any, commands: Any) -> None:
    """With the indexes of the spec no delete, and no question for parents, reads a whole collection."""
    cascade = bind(db, DEEP)
    books(db, 30)
    db.books.delete_one({"_id": 3})
    commands.clear()
    cascade.delete({"_id": {"$lt": 2}}, batch=10)
    cascade.delete_orphans()
    checked = 0
    for name, command in commands.sent:
        if name == "delete":
            (one,) = command["deletes"]
            query: dict[str, Any] = {
                "find": command["delete"],
                "filter": one["q"],
                "collation": one.get("collation", {}),
            }
            if not query["collation"]:
                del query["collation"]
        elif name == "aggregate":
            query = {part: command[part] for part in ("aggregate", "pipeline", "collation", "cursor")}
        else:
            continue
        told = db.command("explain", query, verbosity="queryPlanner")
        assert "IXSCAN" in str(told), query
        assert "COLLSCAN" not in str(told), query
        checked += 1
    assert checked > 8


# What stays ----------------------------------------------------------------------------------------------------


def test_parents_to_keep(db: Any) -> None:
    """Ids are kept as the server compares them, with their children: 1.0 is 1, and neither True nor "1" is."""
    cascade = bind(db)
    stored = [1, 2, 3, True, "1", DAY, {"a": 1, "b": 2}, "x"]
    db.questions.insert_many([{"_id": one} for one in stored])
    db.responses.insert_many([{"question_id": one} for one in stored])
    keep = [1.0, Decimal128("2"), "y", False, DAY, {"a": 1.0, "b": 2}]
    result = cascade.delete({}, keep=iter(keep), batch=2)
    assert result.deleted == {"questions": 4, "responses": 4}
    left = ids(db, "questions")
    assert [bson_identity(one) for one in left] == [bson_identity(one) for one in [1, 2, {"a": 1, "b": 2}, DAY]]
    assert counts(db, "responses") == [4]


def test_text_of_ids_to_keep(db: Any) -> None:
    """The text of an ObjectId keeps it if the spec says so; otherwise it is an error, before that parent is touched."""
    kept, gone = ObjectId(), ObjectId()
    db.questions.insert_many([{"_id": kept}, {"_id": gone}])
    db.responses.insert_many([{"question_id": kept}, {"question_id": gone}])
    with pytest.raises(StateError, match="key_type=ObjectId"):
        Cascade(db, FLAT).delete({}, keep=[str(kept)], batch=1)
    assert counts(db, "questions", "responses") == [2, 2]
    spec = CascadeSpec("questions", children=FLAT.children, key_type=ObjectId)
    assert Cascade(db, spec).delete({}, keep=[str(kept)]).total == 2
    assert ids(db, "questions") == [kept]


def test_lists_of_keys(db: Any) -> None:
    """A child that names several parents goes with the first of them; a parent may hold several keys, too."""
    spec = CascadeSpec(
        "tags", children=[Child("posts", foreign="tags"), Child("files", local="docs.file", foreign="_id")]
    )
    cascade = bind(db, spec)
    db.tags.insert_many([{"_id": 1, "docs": [{"file": "a"}, {"file": ["b", None]}, 5]}, {"_id": 2, "docs": []}])
    posts: list[Any] = [[1, 2], [2], [], [None], [[1]], [3, 1.0], 1, {"1": 1}]
    db.posts.insert_many([{"_id": place, "tags": one} for place, one in enumerate(posts)])
    db.files.insert_many([{"_id": one} for one in ("a", "b", "c")])
    assert cascade.delete({"_id": 1}).deleted == {"tags": 1, "posts": 3, "files": 2}
    assert ids(db, "posts") == [1, 2, 3, 4, 7]
    assert ids(db, "files") == ["c"]


def test_paths_through_lists(db: Any) -> None:
    """A path enters lists one level, on both sides, as the server's own queries do."""
    spec = CascadeSpec("orders", children=[Child("items", local="a.b.c", foreign="x.y.z")])
    cascade = bind(db, spec)
    db.orders.insert_one({"a": [{"b": [{"c": 1}, {"c": [2, [3]]}, [{"c": 4}]]}, {"b": {"c": 5}}, 6]})
    items = [1, 2, 3, [3], 4, 5, 6, [1, 9], None]
    db.items.insert_many(
        [{"_id": place, "x": [{"y": {"z": one}}, {"y": [{"z": 77}]}]} for place, one in enumerate(items)]
    )
    db.items.insert_one({"_id": "deep", "x": [[{"y": {"z": 1}}]]})
    assert cascade.delete({}).deleted == {"orders": 1, "items": 5}
    assert ids(db, "items") == [2, 4, 6, 8, "deep"]


def test_keys_that_are_turned_into_text(db: Any) -> None:
    """With `local_as="string"` ObjectIds and integers find their text, text finds itself, all else finds nothing."""
    spec = CascadeSpec("parents", children=[Child("kids", local="key", foreign="of", local_as="string")])
    cascade = bind(db, spec)
    oid = ObjectId("abcdefabcdefabcdefabcdef")
    keys = [oid, 5, Int64(-7), "x", 8.0, Decimal128("9"), True, None, ["10", 11], DAY]
    db.parents.insert_many([{"_id": place, "key": key} for place, key in enumerate(keys)])
    found = [str(oid), "5", "-7", "x", "10", "11"]
    others = [str(oid).upper(), "8", "8.0", "9", "true", "True", "None", "", oid, 5, 8.0, True, None, "05"]
    db.kids.insert_many([{"_id": place, "of": one} for place, one in enumerate([*found, *others])])
    (orphans,) = cascade.orphans()
    nobody = len(found) + others.index(None)
    left = [place for place in range(len(found), len(found) + len(others)) if place != nobody]
    assert [row.id for row in orphans.rows] == left
    assert cascade.delete({}).deleted == {"parents": len(keys), "kids": len(found)}
    assert ids(db, "kids") == list(range(len(found), len(found) + len(others)))


def test_keys_that_are_turned_into_object_ids(db: Any, commands: Any) -> None:
    """With `local_as="objectid"` text of 24 digits finds its ObjectId, in whatever case it is written."""
    spec = CascadeSpec("parents", children=[Child("kids", foreign="of", local_as="objectid")])
    cascade = bind(db, spec)
    oids = [ObjectId(bytes([170 + place] * 12)) for place in range(6)]
    mixed = "".join(digit.upper() if place % 2 else digit for place, digit in enumerate(str(oids[3])))
    parents = [oids[0], str(oids[1]), str(oids[2]).upper(), mixed, "x", 5, str(oids[4])[:23]]
    db.parents.insert_many([{"_id": one} for one in parents])
    db.kids.insert_many([{"_id": place, "of": one} for place, one in enumerate([*oids, str(oids[1]), "x", 5])])
    commands.clear()
    (orphans,) = cascade.orphans()
    assert [row.id for row in orphans.rows] == [4, 5, 6, 7, 8]
    assert commands.names == ["find", "aggregate", "aggregate"]
    assert cascade.delete({}).deleted == {"parents": 7, "kids": 4}
    assert ids(db, "kids") == [4, 5, 6, 7, 8]


HOSTILE: list[Any] = [
    "$n",
    "$$ROOT",
    "a.b",
    "\0",
    {"$gt": 0},
    {"$in": ["x"]},
    {"$ref": "x", "$id": 1},
    {"$literal": 1},
    {"a": {"$gt": 0}},
    Regex(".*"),
    Regex("^a", "i"),
    [Regex("[")],
]


@pytest.mark.parametrize("place", range(len(HOSTILE)), ids=lambda place: str(HOSTILE[place]))
def test_hostile_keys(db: Any, place: int) -> None:
    """A stored key that looks like an operator, a variable or a pattern finds its own children, and nobody else's."""
    spec = CascadeSpec(
        "parents", children=[Child("kids", local="key", foreign="of", children=[("toys", "name", "kid")])]
    )
    cascade = bind(db, spec)
    everybody = [*HOSTILE, "x", 1, "abc", None]
    db.parents.insert_many([{"_id": number, "key": key} for number, key in enumerate(everybody)])
    db.kids.insert_many([{"_id": number, "of": key, "name": key} for number, key in enumerate(everybody)])
    db.toys.insert_many([{"_id": number, "kid": key} for number, key in enumerate(everybody)])
    assert cascade.delete({"_id": place}).deleted == {"parents": 1, "kids": 1, "toys": 1}
    assert ids(db, "kids") == ids(db, "toys") == [one for one in range(len(everybody)) if one != place]
    assert not any(cascade.orphans())
    db.parents.delete_one({"_id": (place + 1) % len(HOSTILE)})
    named = cascade.orphans()
    assert [[row.id for row in one.rows] for one in named] == [[(place + 1) % len(HOSTILE)], []]
    assert cascade.delete_orphans().deleted == {"kids": 1, "toys": 1}


def test_filters_are_the_drivers(db: Any) -> None:
    """A filter may use what the driver's delete takes; one that the server refuses is refused before any delete."""
    cascade = bind(db)
    questions(db, 6)
    db.questions.create_index([("text", "text")])
    db.questions.update_many({"_id": {"$lt": 2}}, {"$set": {"text": "old news"}})
    assert cascade.delete({"$text": {"$search": "news"}}, batch=1).deleted == {"questions": 2, "responses": 4}
    condition = {"$or": [{"n": 2}, {"$expr": {"$eq": ["$n", 3]}}], "n": {"$ne": 3}}
    assert cascade.delete(condition).deleted == {"questions": 1, "responses": 2}
    assert cascade.delete({"$where": "this.n == 3"}).deleted == {"questions": 1, "responses": 2}
    with pytest.raises(OperationFailure):
        cascade.delete({"$nonsense": 1})
    with pytest.raises(UsageError, match=r"^filter: "):
        cascade.delete(None)  # type: ignore[arg-type]
    assert counts(db, "questions", "responses") == [2, 4]


def test_a_collation_does_not_widen_what_goes(db: Any) -> None:
    """In a collection that ignores case, only children with the very key go, and orphans are named by it."""
    db.create_collection("responses", collation={"locale": "en", "strength": 2})
    cascade = bind(db)
    db.questions.insert_many([{"_id": "a"}, {"_id": "A"}])
    db.responses.insert_many([{"_id": one, "question_id": one} for one in ("a", "A b")])
    db.responses.insert_one({"_id": 1, "question_id": "A"})
    (orphans,) = cascade.orphans()
    assert [row.id for row in orphans.rows] == ["A b"]
    assert cascade.delete({"_id": "a"}).deleted == {"questions": 1, "responses": 1}
    assert db.responses.find_one({"_id": 1})


# What happens meanwhile ----------------------------------------------------------------------------------------


def test_a_crash_before_the_parents_go(db: Any, mongopatterns_server: Any) -> None:
    """A call that ends between children and parents leaves no orphan; the same call again finishes."""
    cascade = bind(db, DEEP)
    books(db, 5)
    for name, left in (("books", [5, 0, 0, 0, 0]), ("chapters", [5, 0, 10, 0, 0])):
        db.drop_collection("books")
        for other in BOOKS[1:]:
            db[other].delete_many({})
        books(db, 5)
        broken = {"failCommands": ["delete"], "errorCode": 96, "namespace": f"{db.name}.{name}"}
        with (
            mongopatterns_server.fail_point("failCommand", mode="alwaysOn", data=broken),
            pytest.raises(OperationFailure),
        ):
            cascade.delete({})
        assert counts(db, *BOOKS) == left
        assert not any(cascade.orphans())
        assert cascade.delete({}).deleted["books"] == 5
        assert counts(db, *BOOKS) == [0] * 5


def test_a_lost_connection(db: Any, mongopatterns_server: Any) -> None:
    """A delete whose answer is lost is the driver's error, with an unknown outcome; the same call again finishes."""
    cascade = bind(db)
    questions(db, 5)
    lost = {"failCommands": ["delete"], "closeConnection": True, "namespace": f"{db.name}.responses"}
    with (
        mongopatterns_server.fail_point("failCommand", mode={"times": 1}, data=lost),
        pytest.raises(ConnectionFailure) as caught,
    ):
        cascade.delete({})
    assert may_have_applied(caught.value)
    assert counts(db, "questions") == [5]
    assert cascade.delete({})
    assert counts(db, "questions", "responses") == [0, 0]


def test_a_parent_that_no_longer_matches_stays(db: Any) -> None:
    """A parent that is changed after it was found, so that it does not match, is left and told as left."""
    cascade = bind(db)
    questions(db, 3)

    def meanwhile(command: Any) -> None:
        if command.collection == "questions" and isinstance(command, Delete):
            db.questions.update_one({"_id": 1}, {"$set": {"n": 100}})

    result = interleaved(cascade, asked(cascade, {"n": {"$lt": 10}}), meanwhile)
    assert result == CascadeResult({"questions": 2, "responses": 6}, 1, 1)
    assert not result
    assert ids(db, "questions") == [1]


def test_a_parent_with_a_new_key_stays(db: Any) -> None:
    """A parent that gets another key meanwhile is left, as the children of that key were not deleted."""
    cascade = bind(db, CascadeSpec("books", children=[Child("pages", local="isbn", foreign="book")]))
    db.books.insert_many([{"_id": 1, "isbn": "a"}, {"_id": 2, "isbn": "b"}, {"_id": 3}])
    db.pages.insert_many([{"book": one} for one in "abcd"])

    def meanwhile(command: Any) -> None:
        if command.collection == "books" and isinstance(command, Delete):
            db.books.update_one({"_id": 1}, {"$set": {"isbn": "c"}})
            db.books.update_one({"_id": 3}, {"$set": {"isbn": "d"}})

    assert interleaved(cascade, asked(cascade, {}), meanwhile) == CascadeResult({"books": 1, "pages": 2}, 2, 1)
    assert cascade.delete({}).deleted == {"books": 2, "pages": 2}


def test_a_child_that_is_changed_meanwhile(db: Any) -> None:
    """A child that has moved to another parent stays; one that has another key goes with what that key names."""
    cascade = bind(db, DEEP)
    books(db, 2)
    done: list[bool] = []

    def meanwhile(command: Any) -> None:
        if command.collection == "chapters" and isinstance(command, Delete) and not done:
            done.append(True)
            db.chapters.update_one({"_id": "0.1"}, {"$set": {"book": "i1"}})
            db.chapters.update_one({"_id": "0.2"}, {"$set": {"no": 55}})
            db.marks.insert_one({"_id": "new", "chapter": 55})

    interleaved(cascade, asked(cascade, {"_id": 0}), meanwhile)
    assert ids(db, "chapters") == ["0.1", "1.1", "1.2"]
    assert db.marks.find_one({"_id": "new"}) is None
    assert ids(db, "books") == [1]


def test_children_that_are_inserted_meanwhile(db: Any) -> None:
    """Of children inserted beside a deletion none of a parent that stays is lost, and all left behind are orphans."""
    cascade = bind(db)
    db.questions.insert_many([{"_id": one, "n": one} for one in range(40)])
    other = bind(db)

    def act(index: int) -> Any:
        if index % 50 == 20:
            return other.delete({"n": {"$gte": 20}}, batch=3)
        return db.responses.insert_one({"_id": index, "question_id": index % 40})

    report = race_threads(act, times=400, concurrency=40)
    report.raise_errors()
    inserted = [index for index in range(400) if index % 50 != 20]
    assert ids(db, "questions") == list(range(20))
    stays = [index for index in inserted if index % 40 < 20]
    left = ids(db, "responses")
    assert [index for index in left if index % 40 < 20] == stays
    behind = [index for index in left if index % 40 >= 20]
    (orphans,) = cascade.orphans(limit=1000, batch=7)
    assert [row.id for row in orphans.rows] == behind
    deleted = sum(one.deleted["responses"] for one in report.outcomes if isinstance(one, CascadeResult))
    assert deleted + len(left) == len(inserted)
    assert cascade.delete_orphans(batch=7).deleted == {"responses": len(behind)}
    assert ids(db, "responses") == stays


def test_two_callers_delete_the_same(db: Any) -> None:
    """Callers that delete the same documents share them: each is counted once, and nothing is left."""
    books(db, 60)
    cascade = bind(db, DEEP)
    report = race_threads(lambda _: cascade.delete({}, batch=7), times=6, concurrency=6)
    report.raise_errors()
    total: Counter[str] = Counter()
    for result in report.outcomes:
        total.update(result.deleted)
    assert total == {"books": 60, "reviews": 180, "chapters": 120, "notes": 240, "marks": 60}
    assert counts(db, *BOOKS) == [0] * 5


# Transactions --------------------------------------------------------------------------------------------------


def test_a_transaction_deletes_everything_or_nothing(db: Any, mongopatterns_server: Any) -> None:
    """When one delete fails, everything is taken back; without a failure all goes at once."""
    cascade = bind(db, DEEP)
    books(db, 3)
    before = counts(db, *BOOKS)
    broken = {"failCommands": ["delete"], "errorCode": 96, "namespace": f"{db.name}.books"}
    with (
        mongopatterns_server.fail_point("failCommand", mode={"times": 1}, data=broken),
        pytest.raises(OperationFailure),
    ):
        cascade.delete({}, transaction=True)
    assert counts(db, *BOOKS) == before
    assert cascade.delete({}, transaction=True, batch=2).deleted["notes"] == 12
    assert counts(db, *BOOKS) == [0] * 5


def test_a_transaction_is_repeated_by_the_driver(db: Any, mongopatterns_server: Any) -> None:
    """After an error that the driver calls transient the transaction runs again, and is counted once."""
    cascade = bind(db)
    questions(db, 3)
    data = {
        "failCommands": ["delete"],
        "errorCode": 112,
        "errorLabels": ["TransientTransactionError"],
        "namespace": f"{db.name}.questions",
    }
    with mongopatterns_server.fail_point("failCommand", mode={"times": 2}, data=data):
        result = cascade.delete({}, transaction=True)
    assert result == CascadeResult({"questions": 3, "responses": 6}, 0, 1)
    assert counts(db, "questions", "responses") == [0, 0]


@pytest.mark.parametrize(
    "lost",
    [
        {"errorCode": 251, "errorLabels": ["TransientTransactionError"]},
        {"closeConnection": True},
        {"writeConcernError": {"code": 64, "errmsg": "waiting timed out"}},
    ],
    ids=["gone", "answer lost", "write concern not met"],
)
def test_a_commit_is_repeated_until_it_is_known(db: Any, mongopatterns_server: Any, lost: Any) -> None:
    """A commit that is lost with its primary, or whose answer is lost, raises nothing: all is deleted, counted once."""
    cascade = bind(db)
    questions(db, 3)
    data = {"failCommands": ["commitTransaction"], **lost}
    with mongopatterns_server.fail_point("failCommand", mode={"times": 3}, data=data):
        result = cascade.delete({}, transaction=True)
    assert result == CascadeResult({"questions": 3, "responses": 6}, 0, 1)
    assert counts(db, "questions", "responses") == [0, 0]


def test_a_transaction_meets_a_change(db: Any) -> None:
    """A parent that is changed before its transaction deletes it makes the driver repeat it: nothing is left behind."""
    cascade = bind(db)
    questions(db, 3)
    attempts: list[str] = []
    send = cascade._delete

    def meanwhile(command: Delete, session: Any) -> int:
        attempts.append(command.collection)
        if attempts == ["responses", "questions"]:
            db.questions.update_one({"_id": 1}, {"$set": {"n": 100}})
        return send(command, session)

    cascade._senders = {**cascade._senders, Delete: meanwhile}
    result = cascade.delete({"n": {"$lt": 10}}, transaction=True)
    assert result == CascadeResult({"questions": 2, "responses": 4}, 0, 1)
    assert attempts == ["responses", "questions"] * 2
    assert ids(db, "questions") == [1]
    assert counts(db, "responses") == [2]


def test_a_transaction_is_bounded(db: Any) -> None:
    """A transaction of more documents than the bound deletes nothing and says so; in batches they go."""
    cascade = bind(db)
    db.questions.insert_one({"_id": 1})
    db.responses.insert_many([{"question_id": 1} for _ in range(MOST_IN_TRANSACTION)])
    with pytest.raises(LimitExceeded, match="in batches"):
        cascade.delete({}, transaction=True)
    assert counts(db, "questions", "responses") == [1, MOST_IN_TRANSACTION]
    db.responses.delete_one({})
    assert cascade.delete({}, transaction=True).total == MOST_IN_TRANSACTION


def test_a_session_of_the_caller(client: Any, db: Any) -> None:
    """In a transaction of the caller's everything is part of it; a session without one is used for its own."""
    cascade = bind(db)
    questions(db, 4)
    with settle(client.start_session()) as session:
        settle(session.start_transaction())
        assert cascade.delete({}, session=session).total == 12
        with pytest.raises(UsageError, match=r"^transaction: "):
            cascade.delete({}, transaction=True, session=session)
        session.abort_transaction()
        assert counts(db, "questions", "responses") == [4, 8]
        assert cascade.delete({"n": 0}, transaction=True, session=session).total == 3
        settle(session.start_transaction())
        db.questions.delete_one({"_id": 1}, session=session)
        (orphans,) = cascade.orphans(session=session)
        assert len(orphans.rows) == 2
        assert cascade.delete_orphans(session=session).total == 2
        session.commit_transaction()
    assert counts(db, "questions", "responses") == [2, 4]


def test_inserts_that_touch_the_parent_leave_no_orphans(client: Any, db: Any) -> None:
    """A child that is inserted in a transaction that writes to its parent goes with it, or finds no parent."""
    cascade = bind(db)
    db.responses.create_index("question_id")
    db.questions.insert_many([{"_id": one, "n": one} for one in range(6)])

    def insert(index: int) -> bool:
        with settle(client.start_session()) as session:

            def both(session: Any) -> bool:
                found = db.questions.update_one({"_id": index % 6}, {"$inc": {"count": 1}}, session=session)
                if found.matched_count:
                    db.responses.insert_one({"_id": index, "question_id": index % 6}, session=session)
                return bool(found.matched_count)

            return bool(session.with_transaction(both))

    def act(index: int) -> Any:
        if index in (20, 50):
            return cascade.delete({"n": {"$gte": 3}}, transaction=True)
        return insert(index)

    report = race_threads(act, times=90, concurrency=8)
    report.raise_errors()
    assert not any(cascade.orphans())
    stays = [index for index in range(90) if index % 6 < 3 and index not in (20, 50)]
    assert ids(db, "responses") == stays
    inserted = report.count(lambda outcome: outcome is True)
    gone = sum(one.deleted["responses"] for one in report.outcomes if isinstance(one, CascadeResult))
    assert inserted == len(stays) + gone


def test_a_standalone_server_has_no_transactions(client: Any) -> None:
    """On a server without transactions one that is asked for is a clear error, and batches work."""
    with EmbeddedMongo(members=0) as server:
        own = type(client)(server.uri)
        db = own.app
        cascade = bind(db)
        questions(db, 2)
        with pytest.raises(DeploymentError, match="replica set"):
            cascade.delete({}, transaction=True)
        assert cascade.delete({}).total == 6
        settle(own.close())


# Orphans -------------------------------------------------------------------------------------------------------


def test_orphans_are_named_on_both_levels(db: Any) -> None:
    """Each kind of children is looked through; the rows come by their ids, with what they name."""
    cascade = bind(db, DEEP)
    books(db, 3)
    db.books.delete_one({"_id": 1})
    db.chapters.delete_one({"_id": "2.2"})
    named = cascade.orphans()
    assert [(one.collection, one.foreign, one.parent, one.complete) for one in named] == [
        ("reviews", "book", "books", True),
        ("chapters", "book", "books", True),
        ("notes", "chapter", "chapters", True),
        ("marks", "chapter", "chapters", True),
    ]
    assert [[row.keys for row in one.rows] for one in named] == [
        [(1,)] * 3,
        [("i1",)] * 2,
        [("2.2",)] * 2,
        [],
    ]
    result = cascade.delete_orphans()
    assert result.deleted == {"reviews": 3, "chapters": 2, "notes": 6, "marks": 1}
    assert counts(db, *BOOKS) == [2, 6, 3, 6, 2]
    assert not any(cascade.orphans())


@pytest.mark.parametrize("limit", [1, 5, 9, 10, 11])
def test_a_limit_ends_the_search(db: Any, commands: Any, limit: int) -> None:
    """At most so many rows of each kind are named, and it is told whether these are all."""
    cascade = bind(db)
    db.responses.insert_many([{"_id": one, "question_id": one} for one in range(10)])
    commands.clear()
    (named,) = cascade.orphans(limit=limit, batch=2)
    assert [row.id for row in named.rows] == list(range(min(limit, 10)))
    assert named.complete is (limit > 10)
    assert len(commands.names) <= 2 * (limit // 2 + 1)


def test_commands_of_a_search_are_constant(db: Any, commands: Any) -> None:
    """A batch takes one read of the children, one question for the parents, and one delete if there are orphans."""
    cascade = bind(db)
    questions(db, 50, 4)
    db.responses.insert_one({"question_id": "gone"})
    commands.clear()
    cascade.orphans()
    assert commands.names == ["find", "aggregate"]
    told: list[Any] = []
    assert cascade.delete_orphans(batch=100, on_progress=told.append).batches == 3
    assert commands.names[2:] == ["find", "aggregate"] * 2 + ["find", "aggregate", "delete"]
    assert [one.total for one in told] == [0, 0, 1]
    assert commands.comments == {"mongopatterns.cascade.orphans", "mongopatterns.cascade.delete_orphans"}


def test_dates_of_orphans_are_dates(db: Any) -> None:
    """What names a missing parent is told as a read tells it: dates aware, in UTC."""
    db.responses.insert_one({"_id": DAY, "question_id": [DAY, None, "x"]})
    (named,) = bind(db).orphans()
    (row,) = named.rows
    assert (row.id, row.keys) == (DAY, (DAY, "x"))
    assert named.to_dict()["rows"] == [{"id": DAY.isoformat(), "keys": [DAY.isoformat(), "x"]}]


def test_a_parent_that_comes_back_saves_its_children(db: Any) -> None:
    """Whoever has a parent again when the parents are asked for stays; so does who was given another meanwhile."""
    cascade = bind(db)
    keys: list[Any] = ["back", "moved", "both", "gone", "emptied"]
    db.responses.insert_many([{"_id": key, "question_id": key} for key in keys])
    db.questions.insert_one({"_id": "other"})

    def meanwhile(command: Any) -> None:
        if isinstance(command, Delete):
            db.responses.update_one({"_id": "moved"}, {"$set": {"question_id": "other"}})
            db.responses.update_one({"_id": "both"}, {"$set": {"question_id": ["both", "other"]}})
            db.responses.update_one({"_id": "emptied"}, {"$unset": {"question_id": 1}})
        elif command.method == "aggregate":
            db.questions.insert_one({"_id": "back"})

    run = cascade._plan.delete_orphans(batch=100, on_progress=None)
    assert interleaved(cascade, run, meanwhile) == CascadeResult({"responses": 1}, 3, 1)
    assert ids(db, "responses") == ["back", "both", "emptied", "moved"]


# Any values ----------------------------------------------------------------------------------------------------

POOL: list[Any] = [
    None,
    1,
    1.0,
    Int64(1),
    Decimal128("1.0"),
    Decimal128("0.1"),
    0.1,
    float("nan"),
    Decimal128("NaN"),
    -0.0,
    0,
    True,
    False,
    "1",
    "",
    "$x",
    "aaaaaaaaaaaaaaaaaaaaaaaa",
    "AAAAAAAAAAAAAAAAAAAAAAAA",
    "aAaAaAaAaAaAaAaAaAaAaAaA",
    ObjectId("aaaaaaaaaaaaaaaaaaaaaaaa"),
    MinKey(),
    MaxKey(),
    {"a": 1},
    {"a": 1.0},
    {"a": 1, "b": 1},
    {},
    [],
    [[]],
    [1, None],
    [[1], 2],
    [[1, 2]],
    [{"a": 1}],
    Regex("1"),
    {"$gt": 0},
    b"1",
    DAY,
]


def model_keys(value: Any, form: str | None) -> set[Any]:
    """Say what a parent is found by, one value at a time."""
    found = set()
    for item in value if isinstance(value, list) else [value]:
        key = item
        if form == "string":
            whole = isinstance(item, (int, str, ObjectId)) and not isinstance(item, bool)
            key = str(item) if whole else None
        elif form == "objectid":
            key = ObjectId(item) if isinstance(item, (str, ObjectId)) and ObjectId.is_valid(item) else None
        if key is not None and not isinstance(key, MinKey):
            found.add(bson_identity(key))
    return found


def model_values(value: Any) -> set[Any]:
    """Say what a child names its parents by."""
    return {bson_identity(one) for one in ([value, *value] if isinstance(value, list) else [value])}


@pytest.mark.parametrize("form", [None, "string", "objectid"])
@pytest.mark.parametrize("seed", range(4))
def test_any_values_against_a_model(db: Any, form: Any, seed: int) -> None:
    """Orphans and what a deletion takes are those of a plain model, whatever values name whom, in parts or not."""
    spec = CascadeSpec("parents", children=[Child("kids", local="a.key", foreign="of", local_as=form)])
    cascade = bind(db, spec)
    chance = random.Random(seed)
    parents = {number: chance.choice(POOL) for number in range(12)}
    kids = dict(enumerate(POOL)) | {len(POOL) + n: [chance.choice(POOL), chance.choice(POOL)] for n in range(20)}
    db.parents.insert_many([{"_id": number, "a": {"key": key}} for number, key in parents.items()])
    db.kids.insert_many([{"_id": number, "of": of} for number, of in kids.items()])

    def orphans() -> list[int]:
        there = set().union(*(model_keys(key, form) for key in parents.values()))
        nothing = (None, MinKey())
        naming = [n for n, of in kids.items() if any(o not in nothing for o in (of if isinstance(of, list) else [of]))]
        return [number for number in naming if not model_values(kids[number]) & there]

    (named,) = cascade.orphans(batch=chance.choice([3, 1000]))
    assert [row.id for row in named.rows] == orphans()
    going = chance.sample(sorted(parents), 5)
    keys = set().union(*(model_keys(parents[number], form) for number in going))
    gone = [number for number, of in kids.items() if model_values(of) & keys]
    result = cascade.delete({"_id": {"$in": going}}, batch=chance.choice([2, 1000]))
    assert result.deleted == {"parents": 5, "kids": len(gone)}
    for number in gone:
        del kids[number]
    for number in going:
        del parents[number]
    assert ids(db, "kids") == sorted(kids)
    result = cascade.delete_orphans(batch=chance.choice([3, 1000]))
    assert result == CascadeResult({"kids": len(orphans())}, 0, result.batches)
    assert ids(db, "kids") == [number for number in sorted(kids) if number not in orphans()]


# Around it -----------------------------------------------------------------------------------------------------


def test_timeout_bounds_the_whole_call(db: Any, mongopatterns_server: Any) -> None:
    """A server that does not answer in time raises the driver's timeout; a bad one is refused."""
    cascade = bind(db)
    questions(db, 2)
    block = {
        "failCommands": ["delete"],
        "blockConnection": True,
        "blockTimeMS": 3000,
        "namespace": f"{db.name}.responses",
    }
    with (
        mongopatterns_server.fail_point("failCommand", mode={"times": 1}, data=block),
        pytest.raises((NetworkTimeout, ExecutionTimeout)) as caught,
    ):
        cascade.delete({}, timeout=0.3)
    assert may_have_applied(caught.value)
    assert counts(db, "questions") == [2]
    for call in (lambda: cascade.delete({}, timeout=0), lambda: cascade.orphans(timeout=-1)):
        with pytest.raises(UsageError, match=r"^timeout: "):
            call()


def test_durability(db: Any, commands: Any) -> None:
    """Deletes are acknowledged by a majority unless the binding says otherwise, in a transaction too."""
    questions(db, 4)
    for durability, concern in ((Durability.MAJORITY, "majority"), (Durability.FAST, 1)):
        cascade = bind(db, durability=durability)
        commands.clear()
        cascade.delete({"n": {"$in": [0, 1]}} if concern == 1 else {"n": 2})
        assert {c["writeConcern"]["w"] for name, c in commands.sent if name == "delete"} == {concern}
    cascade = bind(db, durability=Durability.FAST)
    cascade.delete({}, transaction=True)
    assert commands.sent[-1][0] == "delete"


def test_a_binding_needs_a_database(db: Any) -> None:
    """A collection, a client and something else are refused by name."""
    with pytest.raises(UsageError, match=r"^target: .*collection\.database"):
        Cascade(db.questions, FLAT)
    with pytest.raises(UsageError, match=r"^target: .*client\['name'\]"):
        Cascade(db.client, FLAT)
    with pytest.raises(UsageError, match=r"^spec: "):
        Cascade(db, "questions")  # type: ignore[arg-type]
