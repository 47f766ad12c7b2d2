# Generated from tests/aio/test_pager.py by tools/generate_sync.py.
# Do not edit: change the source and run "make generate".
"""Pages: which documents, in which order, where a cursor leads, what is refused and sent. Promises of the calls."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Any

import pytest
from bson import DatetimeMS, DBRef, MinKey
from pydantic import BaseModel, Field, ValidationError
from pymongo.errors import OperationFailure, PyMongoError

from mongopatterns import (
    CountOf,
    InvalidCursor,
    One,
    Page,
    Pager,
    PagerSpec,
    Param,
    StateError,
    UsageError,
)
from mongopatterns._driver_sync import settle
from mongopatterns.testing import race_threads

UTC = dt.timezone.utc
CHAT = PagerSpec("messages", sort=[("at", -1)], limit=3, filter_by=["party"])
SECRET = "a secret of more than sixteen bytes"


def fill(db: Any, name: str, documents: list[dict[str, Any]]) -> None:
    db[name].insert_many([{**each} for each in documents])


def talk(db: Any, count: int = 8) -> None:
    """Store messages of one party, two at a time, and one of another."""
    fill(db, "messages", [{"_id": n, "party": "p", "at": n // 2} for n in range(count)])
    fill(db, "messages", [{"_id": "other", "party": "q", "at": 2}])


def ids(page: Any) -> list[Any]:
    return [row["_id"] for row in page]


def forward(pager: Pager) -> list[list[Any]]:
    page = pager.page()
    pages = [ids(page)]
    while page.next is not None:
        page = pager.page(cursor=page.next)
        pages.append(ids(page))
    return pages


def flat(pages: list[list[Any]]) -> list[Any]:
    return [each for page in pages for each in page]


def walk(pager: Pager, *arguments: Any, **options: Any) -> list[Any]:
    """Give the ids of all pages, forward, and see that the way back gives the same."""
    page = pager.page(*arguments, **options)
    pages = [ids(page)]
    while page.next is not None:
        page = pager.page(*arguments, **options, cursor=page.next)
        pages.append(ids(page))
    back = [ids(page)]
    while page.previous is not None:
        page = pager.page(*arguments, **options, cursor=page.previous)
        back.insert(0, ids(page))
    assert sorted(map(repr, flat(back))) == sorted(map(repr, flat(pages)))
    return pages


# Pages ---------------------------------------------------------------------------------------------------------


def test_pages_go_forward_and_back(db: Any) -> None:
    """Pages follow each other without a gap, and cursors are there exactly where there is more."""
    talk(db)
    pager = Pager(db, CHAT)
    first = pager.page({"party": "p"})
    assert (ids(first), first.previous, len(first)) == ([7, 6, 5], None, 3)
    second = pager.page({"party": "p"}, cursor=first.next)
    last = pager.page({"party": "p"}, cursor=second.next)
    assert (ids(second), ids(last), last.next) == ([4, 3, 2], [1, 0], None)
    back = pager.page({"party": "p"}, cursor=last.previous)
    assert ids(back) == [4, 3, 2]
    again = pager.page({"party": "p"}, cursor=back.previous)
    assert (ids(again), again.previous) == ([7, 6, 5], None)
    assert again.next is not None
    assert ids(pager.page({"party": "p"}, cursor=again.next)) == [4, 3, 2]


def test_a_page_that_is_just_full_is_the_last(db: Any) -> None:
    """Where nothing follows there is no next page, and nothing stored is one empty page."""
    pager = Pager(db, CHAT)
    assert pager.page({"party": "p"}) == Page([], None, None)
    talk(db, 6)
    assert walk(pager, {"party": "p"}) == [[5, 4, 3], [2, 1, 0]]
    assert walk(pager, {"party": "p"}, limit=1) == [[5], [4], [3], [2], [1], [0]]


def test_a_limit_may_change_on_the_way(db: Any) -> None:
    """Limit and fields belong to a call, and not to a cursor."""
    talk(db)
    pager = Pager(db, CHAT)
    page = pager.page({"party": "p"}, limit=1)
    page = pager.page({"party": "p"}, cursor=page.next, limit=5, fields=["at"])
    assert page.items == [{"_id": n, "at": n // 2} for n in (6, 5, 4, 3, 2)]


def test_pages_in_reading_order(db: Any) -> None:
    """The newest page comes first, and is read from its oldest message on; a stream keeps to the sort."""
    talk(db)
    pager = Pager(db, PagerSpec("messages", sort=[("at", -1)], limit=3, reading_order=True))
    assert walk(pager, {"party": "p"}) == [[5, 6, 7], [2, 3, 4], [0, 1]]
    assert [row["_id"] for row in pager.stream({"party": "p"}, batch=3)] == [7, 6, 5, 4, 3, 2, 1, 0]


def test_what_everybody_deletes_leaves_the_way_back(db: Any) -> None:
    """A page that is empty by now still leads back, to the document that it began behind as well."""
    talk(db)
    pager = Pager(db, CHAT)
    first = pager.page({"party": "p"})
    db.messages.delete_many({"_id": {"$lt": 5}})
    empty = pager.page({"party": "p"}, cursor=first.next)
    assert (empty.items, empty.next) == ([], None)
    back = pager.page({"party": "p"}, cursor=empty.previous)
    assert ids(back) == [7, 6, 5]
    assert back.next is not None
    db.messages.delete_many({"party": "p"})
    nothing = pager.page({"party": "p"}, cursor=back.next)
    assert pager.page({"party": "p"}, cursor=nothing.previous).items == []


def test_what_is_written_in_between_moves_nothing(db: Any) -> None:
    """Inserts before and behind a page, and the deletion of its last document, leave nothing out and double nothing."""
    talk(db)
    pager = Pager(db, CHAT)
    first = pager.page({"party": "p"})
    db.messages.insert_many([{"_id": n, "party": "p", "at": at} for n, at in ((50, 9), (4.5, 2), (-1, -1))])
    db.messages.delete_one({"_id": 5})
    assert ids(second := pager.page({"party": "p"}, cursor=first.next)) == [4.5, 4, 3]
    assert ids(pager.page({"party": "p"}, cursor=second.previous)) == [50, 7, 6]
    assert ids(third := pager.page({"party": "p"}, cursor=second.next)) == [2, 1, 0]
    assert ids(pager.page({"party": "p"}, cursor=third.next)) == [-1]


def test_null_missing_and_every_type_have_their_place(db: Any) -> None:
    """Three keys of which some are null or missing: every document once, as the server sorts."""
    values: list[Any] = [None, None, 1, "a", {"x": 1}, True, MinKey()]
    documents = []
    for n in range(60):
        row = {"_id": n, **{name: values[n // step % 7] for name, step in (("a", 1), ("b", 3), ("c", 11))}}
        documents.append({name: value for name, value in row.items() if value is not None or n % 2})
    fill(db, "m", documents)
    for sort in ([("a", 1), ("b", 1), ("c", 1)], [("a", -1), ("b", 1), ("c", -1)], [("c", -1), ("a", -1)]):
        spec = PagerSpec("m", sort=sort, limit=4)
        wanted = ids(db.m.find(sort=list(spec.order)).to_list(None))
        for indexed in (False, True):
            if indexed:
                db.m.create_index(spec.indexes()[0].keys)
            assert flat(walk(Pager(db, spec))) == wanted


@pytest.mark.parametrize("options", [{"sparse": True}, {"keys": [("$**", 1)]}])
def test_an_index_without_what_is_missing_hides_nothing(db: Any, options: dict[str, Any]) -> None:
    """A sparse or a wildcard index beside, which has no entry for a missing field, leaves no document out."""
    fill(db, "m", [{"_id": n, **({"a": n} if n % 3 else {})} for n in range(30)])
    db.m.create_index(**{"keys": [("a", -1)], **options})
    for direction in (1, -1):
        pager = Pager(db, PagerSpec("m", sort=[("a", direction)], limit=4))
        assert sorted(flat(walk(pager))) == list(range(30))


def test_dates_that_python_has_no_year_for(db: Any) -> None:
    """Dates past the year 9999 keep their places among each other; they are given as they are."""
    dates = [DatetimeMS(10**15 + n // 2) for n in range(6)] + [dt.datetime.max.replace(tzinfo=UTC)]
    fill(db, "m", [{"_id": n, "at": at} for n, at in enumerate(dates)])
    pager = Pager(db, PagerSpec("m", sort=[("at", 1)], limit=1))
    assert walk(pager) == [[6], [0], [1], [2], [3], [4], [5]]
    assert pager.page({"_id": 0}).items == [{"_id": 0, "at": DatetimeMS(10**15)}]


def test_such_dates_are_keys_of_joins(db: Any) -> None:
    """A date past the year 9999 joins its equal, and no other."""
    dates = [DatetimeMS(10**15 + n) for n in range(3)]
    fill(db, "m", [{"_id": n, "k": date} for n, date in enumerate(dates)])
    fill(db, "f", [{"_id": n, "k": date} for n, date in enumerate(dates)])
    pager = Pager(db, PagerSpec("m", sort=[("k", 1)], joins=[One("f", as_="one", local="k", foreign="k")]))
    assert [row["one"] for row in pager.page()] == [{"_id": n, "k": date} for n, date in enumerate(dates)]


def test_sort_keys_within_references(db: Any) -> None:
    """What the driver reads as a DBRef is a document: pages by a field within it go on, to the last one and back."""
    fill(db, "m", [{"_id": n, "d": DBRef("x", n, at=n)} for n in range(5)])
    assert walk(Pager(db, PagerSpec("m", sort=[("d.at", -1)], limit=2))) == [[4, 3], [2, 1], [0]]


def test_filters_of_all_kinds(db: Any) -> None:
    """A filter narrows the pages, whatever is in it: also by a sort key itself, and by text."""
    fill(db, "m", [{"_id": n, "a": n % 3, "b": n // 3, "t": "red" if n % 2 else "blue"} for n in range(12)])
    db.m.create_index([("t", "text")])
    pager = Pager(db, PagerSpec("m", sort=[("a", 1), ("b", -1)], limit=2))
    filters: list[tuple[dict[str, Any], list[int]]] = [
        ({"a": 1}, [10, 7, 4, 1]),
        ({"a": {"$gte": 1}, "b": {"$lt": 2}}, [4, 1, 5, 2]),
        ({"$or": [{"a": 0}, {"b": 3}]}, [9, 6, 3, 0, 10, 11]),
        ({"$and": [{"a": {"$ne": 0}}, {"b": 1}]}, [4, 5]),
        ({"$text": {"$search": "red"}}, [9, 3, 7, 1, 11, 5]),
        ({"$text": {"$search": "red"}, "a": 0}, [9, 3]),
        ({"_id": 5}, [5]),
        ({"_id": 99}, []),
    ]
    for where, wanted in filters:
        assert flat(walk(pager, where)) == wanted, where


def test_text_by_the_rules_of_a_language(db: Any) -> None:
    """With a collation what is one text is one value; without, the collection's own plays no part."""
    db.create_collection("m", collation={"locale": "en", "strength": 1})
    fill(db, "m", [{"_id": n, "a": each} for n, each in enumerate(["b", "A", "a", "B", "ä"])])
    folded = PagerSpec("m", sort=[("a", 1)], limit=1, collation={"locale": "en", "strength": 1})
    assert walk(Pager(db, folded)) == [[1], [2], [4], [0], [3]]
    assert walk(Pager(db, PagerSpec("m", sort=[("a", 1)], limit=1))) == [[1], [3], [2], [0], [4]]
    db.m.insert_one({"_id": {"x": "text"}, "a": 1})
    with pytest.raises(StateError, match="two ids may be one") as caught:
        Pager(db, folded).page()
    assert (caught.value.key, caught.value.path) == ({"x": "text"}, "_id")


# What is given ---------------------------------------------------------------------------------------------------


def test_sort_keys_need_not_be_given(db: Any) -> None:
    """Fields are given as asked; keys that are only read do not show, though they overlap with what is given."""
    fill(db, "m", [{"_id": n, "a": {"x": -n, "y": n, "z": 0}, "b": n} for n in range(4)])
    asked: list[tuple[Any, dict[str, Any]]] = [
        (["b"], {"_id": 3, "b": 3}),
        ({"b": 1, "_id": 0}, {"b": 3}),
        (["a.y"], {"_id": 3, "a": {"y": 3}}),
        (["a"], {"_id": 3, "a": {"x": -3, "y": 3, "z": 0}}),
        (["_id"], {"_id": 3}),
        (None, {"_id": 3, "a": {"x": -3, "y": 3, "z": 0}, "b": 3}),
    ]
    for fields, first in asked:
        pager = Pager(db, PagerSpec("m", sort=[("a.x", 1)], limit=2, fields=fields))
        page = pager.page()
        assert page.items[0] == first
        assert len(pager.page(cursor=page.next).items) == 2


def test_joins_are_of_the_page_alone(db: Any, commands: Any) -> None:
    """Joins are one command each, ask for the page's documents alone, and may take the place of a sort key."""
    fill(db, "m", [{"_id": n, "by": n % 2} for n in range(5)])
    fill(db, "users", [{"_id": n, "name": f"u{n}"} for n in range(2)])
    joins = [
        One("users", local="by", foreign="_id", as_="by", where={"name": {"$ne": Param("not")}}),
        CountOf("m", local="by", foreign="by", as_="n"),
    ]
    pager = Pager(db, PagerSpec("m", sort=[("by", -1)], limit=2, joins=joins, fields=["x"]))
    commands.clear()
    page = pager.page(params={"not": "u9"})
    assert page.items == [{"_id": n, "by": {"_id": 1, "name": "u1"}, "n": 2} for n in (3, 1)]
    assert commands.names[:2] == ["find", "find"]
    assert len(commands.names) == 3
    assert walk(pager, params={"not": "u0"}) == [[3, 1], [4, 2], [0]]
    with pytest.raises(UsageError, match=r"^params: 'not' is missing"):
        pager.page()


def test_sources_make_documents(db: Any) -> None:
    """Stages make the documents of the pages; the filter of a call comes behind them."""
    fill(db, "m", [{"_id": n, "by": n % 5, "v": n} for n in range(25)])
    source = [{"$group": {"_id": "$by", "n": {"$sum": "$v"}}}, {"$set": {"half": {"$lt": ["$_id", 2]}, "none": None}}]
    spec = PagerSpec("m", sort=[("half", 1), ("none", 1), ("n", -1)], limit=2, source=source)
    assert walk(Pager(db, spec)) == [[4, 3], [2, 1], [0]]
    assert walk(Pager(db, spec), {"n": {"$gt": 55}}) == [[4, 3], [2]]
    with pytest.raises(UsageError, match=r"^filter: \$text has to come before"):
        Pager(db, spec).page({"$text": {"$search": "x"}})


class Row(BaseModel):
    id: int = Field(alias="_id")
    at: int


@dataclass
class Plain:
    _id: int


def test_rows_of_a_model(db: Any) -> None:
    """Pages and streams give a model's instances; what does not fit is the model's own error."""
    talk(db)
    pager = Pager(db, CHAT)
    assert pager.page({"party": "p"}, model=Row).items[0] == Row(_id=7, at=3)
    assert list(pager.stream({"_id": 0}, model=Plain, fields=["_id"])) == [Plain(0)]
    with pytest.raises(ValidationError):
        pager.page({"party": "q"}, model=Row)


def test_a_stream_gives_everything(db: Any, commands: Any) -> None:
    """A stream reads batch by batch, and goes on while others write; a bad batch is named as such."""
    talk(db)
    pager = Pager(db, CHAT)
    commands.clear()
    found = []
    for row in pager.stream({"party": "p"}, batch=3):
        found.append(row["_id"])
        db.messages.delete_one({"_id": row["_id"]})
    assert found == [7, 6, 5, 4, 3, 2, 1, 0]
    assert commands.names.count("find") == 3
    assert list(pager.stream({"party": "p"})) == []
    for batch in (0, -1, True, 1.5, 10_001):
        with pytest.raises(UsageError, match=r"^batch: "):
            list(pager.stream(batch=batch))  # type: ignore[arg-type]


# What is refused -------------------------------------------------------------------------------------------------


def test_cursors_belong_to_what_they_were_made_of(db: Any, commands: Any) -> None:
    """A cursor of another filter, order, collection, collation or secret is refused before anything is sent."""
    talk(db)
    page = Pager(db, CHAT, secret=SECRET).page({"party": "p"})
    commands.clear()
    others: list[tuple[Pager, Any, str]] = [
        (Pager(db, CHAT, secret=SECRET), {"party": "q"}, "filter"),
        (Pager(db, CHAT, secret=SECRET), {"party": {"$in": ["p"]}}, "filter"),
        (Pager(db, CHAT, secret=SECRET), None, "filter"),
        (Pager(db.elsewhere, CHAT, secret=SECRET), {"party": "p"}, "filter"),
        (Pager(db, PagerSpec("messages", sort=[("at", 1)]), secret=SECRET), {"party": "p"}, "filter"),
        (Pager(db, PagerSpec("messages", sort=[("by", -1)]), secret=SECRET), {"party": "p"}, "filter"),
        (
            Pager(db, PagerSpec("messages", sort=[("at", -1)], collation={"locale": "en"}), secret=SECRET),
            {"party": "p"},
            "filter",
        ),
        (
            Pager(db, PagerSpec("messages", sort=[("at", -1)], source=[{"$limit": 9}]), secret=SECRET),
            {"party": "p"},
            "filter",
        ),
        (Pager(db, CHAT), {"party": "p"}, "signature"),
        (Pager(db, CHAT, secret="another secret, long enough"), {"party": "p"}, "signature"),
    ]
    for pager, where, reason in others:
        with pytest.raises(InvalidCursor) as caught:
            pager.page(where, cursor=page.next)
        assert caught.value.reason == reason
    assert commands.names == []
    rotated = Pager(db, CHAT, secret=["a new secret, which seals", SECRET])
    assert ids(rotated.page({"party": "p"}, cursor=page.next)) == [4, 3, 2]


def test_lists_have_no_place(db: Any) -> None:
    """A page that meets a list in a sort key, or on the way to it, says where, and gives nothing."""
    fill(db, "m", [{"_id": 1, "a": [1, 2], "n": {"x": 1}}, {"_id": 2, "a": 1, "n": [{"x": 1}]}])
    for path, key in (("a", 1), ("n.x", 2)):
        for fields in (None, ["z"]):
            with pytest.raises(StateError, match="no one place") as caught:
                Pager(db, PagerSpec("m", sort=[(path, 1)], fields=fields)).page()
            assert (caught.value.key, caught.value.path) == (key, path)


def test_what_fits_into_no_cursor(db: Any) -> None:
    """A page that ends with too long a text says so; where no cursor is needed, as in a stream, it is no matter."""
    fill(db, "m", [{"_id": n, "a": f"{n}" + "x" * 1_000_000 * (n == 1)} for n in range(4)])
    pager = Pager(db, PagerSpec("m", sort=[("a", 1)], limit=2, fields=["_id"]))
    with pytest.raises(StateError, match=r"1,000,0\d\d bytes do not fit into a cursor") as caught:
        pager.page()
    assert (caught.value.key, caught.value.path) == (1, "a")
    assert walk(pager, limit=4) == [[0, 1, 2, 3]]
    assert [row["_id"] for row in pager.stream(batch=2)] == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"filter": 5}, "filter"),
        ({"filter": [("a", 1)]}, "filter"),
        ({"filter": {"a": ...}}, "filter"),
        ({"filter": {"a": 2**70}}, "filter"),
        ({"filter": {"$where": "1"}}, "filter"),
        ({"filter": {"$and": [{"a": {"$near": [0, 0]}}]}}, "filter"),
        ({"filter": {"a": {"$nearSphere": [0, 0]}}}, "filter"),
        ({"limit": 0}, "limit"),
        ({"limit": True}, "limit"),
        ({"limit": 10_001}, "limit"),
        ({"limit": "3"}, "limit"),
        ({"cursor": ""}, "cursor"),
        ({"cursor": 5}, "cursor"),
        ({"fields": {"a": 0}}, "fields"),
        ({"params": {"x": 1}}, "params"),
    ],
    ids=str,
)
def test_bad_arguments_are_refused(db: Any, commands: Any, arguments: dict[str, Any], named: str) -> None:
    """Each names itself, before anything is sent."""
    pager = Pager(db, CHAT)
    with pytest.raises(UsageError, match=f"^{named}: "):
        pager.page(**arguments)
    assert commands.names == []


def test_bad_bindings_are_refused(db: Any) -> None:
    """What is no spec, no database, or too short a secret is refused when the pager is made."""
    wrong: list[tuple[Any, Any, Any, str]] = [
        (db, 5, None, "spec"),
        (db, None, None, "spec"),
        (db, "messages", None, "spec"),
        (5, CHAT, None, "target"),
        (db.client, CHAT, None, "target"),
        (db, CHAT, "short", "secret"),
    ]
    for target, spec, secret, named in wrong:
        with pytest.raises(UsageError, match=f"^{named}: "):
            Pager(target, spec, secret=secret)


# How it is sent --------------------------------------------------------------------------------------------------


def test_what_is_sent_is_one_read(db: Any, commands: Any) -> None:
    """A page is one command with a comment, which asks for one document more, and nothing is counted."""
    talk(db)
    pager = Pager(db, CHAT)
    commands.clear()
    pager.page({"party": "p"}, cursor=pager.page({"party": "p"}).next)
    assert commands.names == ["find", "find"]
    assert {command["limit"] for _, command in commands.sent} == {4}
    assert commands.comments == {"mongopatterns.pager.page"}


def test_explain_tells_about_the_index(db: Any) -> None:
    """What would be sent, which index serves it, and that it is missing; of a collection that is not there nothing."""
    pager = Pager(db, CHAT)
    assert pager.explain({"party": "p"}).findings == ()
    talk(db)
    told = pager.explain({"party": "p"})
    assert (told.served_by, told.index) == (None, CHAT.indexes()[0])
    assert told.command[:2] == ("messages", "find")
    assert [finding.code for finding in told.findings] == ["missing-index"]
    db.messages.create_index([("party", -1), ("at", 1), ("_id", 1)], name="turned")
    told = pager.explain({"party": "p"})
    assert (told.served_by, told.findings) == ("turned", ())
    assert str(pager.explain().index) == "Index(('at', -1), ('_id', -1))"
    sourced = Pager(db, PagerSpec("messages", sort=[("at", 1)], source=[{"$match": {}}]))
    assert sourced.explain().served_by is None


def test_an_index_for_a_collation(db: Any) -> None:
    """The index that a definition names says its collation, and serves it; one of another collation does not."""
    german = {"locale": "de", "strength": 2}
    spec = PagerSpec("messages", sort=[("by", 1)], collation=german)
    fill(db, "messages", [{"_id": 1, "by": "a"}])
    pager = Pager(db, spec)
    db.messages.create_index(spec.indexes()[0].keys, name="plain")
    db.messages.create_index(spec.indexes()[0].keys, name="third", collation={"locale": "de"})
    assert pager.explain().served_by is None
    assert "with the collation" in pager.explain().findings[0].remedy
    name = db.messages.create_index(spec.indexes()[0].keys, name="right", **spec.indexes()[0].options)
    assert pager.explain().served_by == name


def test_a_session_sees_one_instant(db: Any, client: Any) -> None:
    """In a transaction all pages are of one instant, whatever others write; also where parts are read in turn."""
    fill(db, "m", [{"_id": n, "b": n} for n in range(8)])
    pager = Pager(db, PagerSpec("m", sort=[("a", 1), ("b", 1)], limit=3))
    with settle(client.start_session()) as session:

        def read(session: Any) -> list[Any]:
            page = pager.page(session=session)
            found = ids(page)
            db.m.insert_one({"b": 100})
            while page.next is not None:
                page = pager.page(cursor=page.next, session=session)
                found += ids(page)
            return found

        assert session.with_transaction(read) == list(range(8))


def test_time_runs_out(db: Any) -> None:
    """A call that takes longer than it may is the driver's error; a server's error reaches the caller."""
    talk(db)
    slow = [{"$set": {"x": {"$function": {"body": "function() { sleep(2000) }", "args": [], "lang": "js"}}}}]
    with pytest.raises(PyMongoError) as caught:
        Pager(db, PagerSpec("messages", sort=[("at", 1)], source=slow)).page(timeout=0.3)
    assert caught.value.timeout
    with pytest.raises(OperationFailure):
        Pager(db, CHAT).page({"a": {"$nonsense": 1}})


def test_many_readers_while_others_write(db: Any) -> None:
    """Readers that walk side by side with a writer each get every document that stays, once."""
    fill(db, "m", [{"_id": n, "a": n % 7 or None, "b": n % 3} for n in range(60)])
    spec = PagerSpec("m", sort=[("a", -1), ("b", 1)], limit=7)

    def read() -> bool:
        found = flat(forward(Pager(db, spec)))
        assert len(set(found)) == len(found)
        return sorted(each for each in found if each < 100) == list(range(60))

    def write(n: int) -> bool:
        for each in range(100 * n, 100 * n + 40):
            db.m.insert_one({"_id": each, "a": each % 7 or None, "b": each % 4})
            db.m.delete_one({"_id": each - 1 - each % 2})
        return True

    report = race_threads(lambda n: read() if n % 3 else write(n + 1), times=15, concurrency=5)
    assert report.count(lambda outcome: outcome) == 15
