"""The application `examples/authoring`, over HTTP and on the real server."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import pytest_asyncio
from bson import ObjectId
from pymongo.errors import WriteError

from examples.authoring import main
from examples.authoring.models import KEPT
from examples.authoring.specs import SCHEMA
from mongopatterns import Schema
from mongopatterns.testing import CommandWatcher, n_plus_one_guard

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from mongopatterns.testing import EmbeddedMongo

ANN, BOB = {"X-User": "ann"}, {"X-User": "bob"}
LIFE = {
    "title": "A life",
    "chapters": [
        {"title": "Childhood", "questions": ["Where?", "When?", "With whom?"]},
        {"title": "Work", "questions": ["What?", "Why?"]},
        {"title": "Today", "questions": ["And now?"]},
    ],
}
COLLECTIONS = ("books", "chapters", "questions", "responses")
NOTHING: dict[str, list[Any]] = {name: [] for name in COLLECTIONS}


class Started:
    """The application while it runs: over HTTP, and what its lifespan has bound."""

    def __init__(self, http: httpx.AsyncClient, bound: main.Authoring) -> None:
        self.http, self.bound = http, bound

    async def book(self, outline: Any = LIFE) -> tuple[str, list[str]]:
        """Make a book; return its id, and those of its questions in their order."""
        book = (await self.http.post("/books", json=outline, headers=ANN)).json()["id"]
        page = await self.http.get(f"/books/{book}/questions", params={"limit": 100}, headers=ANN)
        return book, [item["id"] for item in page.json()["items"]]

    async def save(self, book: str, answers: Any, headers: Any = ANN) -> Any:
        saved = await self.http.put(f"/books/{book}/responses", json=answers, headers=headers)
        assert saved.status_code == 200, saved.text
        return saved.json()


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def watched(mongopatterns_server: EmbeddedMongo, recorder: Any) -> AsyncIterator[Any]:
    """Have the application's client watched, and hold it: all who connect with equal options have the same one."""
    connect = partial(main.connect, event_listeners=[CommandWatcher(), recorder])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MONGODB_URI", mongopatterns_server.uri)
        async with connect():
            yield connect


@pytest.fixture(autouse=True)
def environment(monkeypatch: Any, mongopatterns_db_name: str, watched: Any, commands: Any) -> None:
    monkeypatch.setenv("MONGODB_DATABASE", mongopatterns_db_name)
    monkeypatch.setattr(main, "connect", watched)


@asynccontextmanager
async def started() -> AsyncIterator[Started]:
    """Start the application, as a server does: what its lifespan yields is the state of each request."""
    async with main.app.router.lifespan_context(main.app) as state:

        async def with_state(scope: Any, receive: Any, send: Any) -> None:
            await main.app({**scope, "state": dict(state)}, receive, send)

        async with httpx.AsyncClient(transport=httpx.ASGITransport(with_state), base_url="http://test") as http:
            yield Started(http, state["authoring"])


@pytest_asyncio.fixture(loop_scope="session")
async def on(environment: None) -> AsyncIterator[Started]:
    async with started() as running:
        yield running


def done(text: str) -> dict[str, str]:
    return {"status": "done", "text": text}


def draft(text: str) -> dict[str, str]:
    return {"status": "draft", "text": text}


def everything(db: Any) -> dict[str, list[Any]]:
    return {name: list(db[name].find().sort("_id", 1)) for name in COLLECTIONS}


# The page -------------------------------------------------------------------------------------------------------------


def looped(db: Any, book: str, user: str, status: str | None) -> list[Any]:
    """Give the rows of all pages as a loop does, with a query for each question."""
    rows = []
    for question in db.questions.find({"book_id": ObjectId(book)}).sort("order", 1):
        response = db.responses.find_one({"question_id": str(question["_id"]), "user_id": user})
        response = response or {"status": "not_answered", "text": "", "saves": 0}
        if status in (None, response["status"]):
            chapter = db.chapters.find_one({"_id": question["chapter_id"]})
            rows.append(
                {
                    "id": str(question["_id"]),
                    "order": question["order"],
                    "text": question["text"],
                    "chapter": {"id": str(chapter["_id"]), "title": chapter["title"]},
                    "response": {name: response[name] for name in ("status", "text", "saves")},
                }
            )
    return rows


async def test_a_page_is_what_a_loop_gives(on: Started, mongopatterns_db: Any) -> None:
    """For each user, status and part, the page and its total are those of plain loops over the documents."""
    book, questions = await on.book()
    other, others = await on.book()
    await on.save(book, {questions[0]: done("Here"), questions[3]: draft("Well")})
    await on.save(book, {questions[3]: draft("Better")})
    await on.save(book, {questions[1]: done("Then"), questions[3]: done("This")}, BOB)
    await on.save(other, {others[0]: done("There")})

    for headers in (ANN, BOB, {"X-User": "cleo"}):
        for status in (None, "done", "draft", "not_answered"):
            rows = looped(mongopatterns_db, book, headers["X-User"], status)
            for skip, limit in ((0, 100), (0, 2), (1, 2), (5, 2)):
                asked = {"skip": skip, "limit": limit} | ({"status": status} if status else {})
                page = await on.http.get(f"/books/{book}/questions", params=asked, headers=headers)
                assert page.json() == {"items": rows[skip : skip + limit], "total": len(rows)}


@pytest.mark.parametrize(("status", "most"), [(None, 4), ("done", 3)], ids=["plain", "filtered"])
async def test_a_page_takes_as_many_commands_for_any_number_of_questions(
    on: Started, status: str | None, most: int
) -> None:
    """A page of 3 questions and one of 30 are the same few commands, each sent once."""
    sent = []
    for number in (1, 10):
        chapters = [{"title": title, "questions": ["?"] * number} for title in ("A", "B", "C")]
        book, questions = await on.book({"title": "B", "chapters": chapters})
        await on.save(book, {question: done("yes") for question in questions})
        asked = {"limit": 100} | ({"status": status} if status else {})
        with n_plus_one_guard(on.bound.client, repeats=1) as guard:
            page = await on.http.get(f"/books/{book}/questions", params=asked, headers=ANN)
        assert len(page.json()["items"]) == 3 * number
        sent.append(guard.counts)

    assert sent[0] == sent[1]
    assert len(sent[0]) == most


async def test_books_load_their_authors_in_one_command(on: Started) -> None:
    """A list of 20 books by two authors and a stranger is two commands, and each book has its own author."""
    await on.http.put("/me", json={"name": "Ann Lee"}, headers=ANN)
    await on.http.put("/me", json={"name": "Bob"}, headers=BOB)
    users = ["ann", "bob", "stranger"]
    for number in range(20):
        await on.http.post("/books", json={**LIFE, "title": f"{number}"}, headers={"X-User": users[number % 3]})

    with n_plus_one_guard(on.bound.client, repeats=1) as guard:
        shown = (await on.http.get("/books")).json()

    assert sum(guard.counts.values()) == 2
    names = ["Ann Lee", "Bob", None]
    assert [(book["title"], book["author"]) for book in shown] == [(f"{n}", names[n % 3]) for n in reversed(range(20))]


# Saving ---------------------------------------------------------------------------------------------------------------


async def test_two_tabs_that_save_one_response_make_one_and_lose_no_version(on: Started, mongopatterns_db: Any) -> None:
    """Of eight saves from each of two tabs, one makes the response, and all sixteen versions are kept."""
    book, (question, *_) = await on.book()

    async def tab(name: str) -> list[Any]:
        texts = [f"{name} {number}" for number in range(8)]
        return [(await on.save(book, {question: draft(text)}))[question] for text in texts]

    told = [saved for tab in await asyncio.gather(tab("one"), tab("two")) for saved in tab]

    assert [saved["created"] for saved in told].count(True) == 1
    assert sorted(saved["saves"] for saved in told) == list(range(1, 17))
    (stored,) = mongopatterns_db.responses.find({"question_id": question})
    texts = [version["text"] for version in stored["history"]]
    assert sorted(texts) == sorted(f"{name} {number}" for name in ("one", "two") for number in range(8))
    assert [text for text in texts if text.startswith("one")] == [f"one {number}" for number in range(8)]
    assert stored["text"] == texts[-1]


async def test_a_response_keeps_its_last_versions(on: Started) -> None:
    """After five saves more than are kept, the last ones are there, in their order."""
    book, (question, *_) = await on.book()

    for number in range(KEPT + 5):
        saved = (await on.save(book, {question: draft(str(number))}))[question]

    assert saved["saves"] == KEPT + 5
    assert [version["text"] for version in saved["history"]] == [str(number) for number in range(5, KEPT + 5)]


async def test_of_a_batch_each_response_fails_alone(on: Started, mongopatterns_db: Any) -> None:
    """What cannot be saved is told with its reason and has changed nothing; all others are stored."""
    book, questions = await on.book()
    _, (elsewhere, *_) = await on.book()
    gone, broken = str(ObjectId()), questions[2]
    mongopatterns_db.responses.insert_one(
        {"question_id": broken, "user_id": "ann", "history": "once"}, bypass_document_validation=True
    )

    told = await on.save(book, {questions[0]: done("a"), gone: done("b"), elsewhere: done("c"), broken: done("d")})

    assert {question: each.get("error") for question, each in told.items()} == {
        questions[0]: None,
        gone: 404,
        elsewhere: 404,
        broken: 409,
    }
    assert not any(each.get("may_have_applied") for each in told.values())
    stored = {response["question_id"]: response.get("text") for response in mongopatterns_db.responses.find()}
    assert stored == {questions[0]: "a", broken: None}
    counted = {str(question["_id"]): question["saves"] for question in mongopatterns_db.questions.find()}
    assert (counted[questions[0]], counted[broken], counted[elsewhere]) == (1, 0, 0)


async def test_text_that_looks_like_an_expression_is_text(on: Started, mongopatterns_db: Any) -> None:
    """What begins with a dollar is stored as it was sent, as an answer and in its history."""
    book, (question, *_) = await on.book()

    saved = (await on.save(book, {question: done("$$NOW")}))[question]

    assert (saved["text"], saved["history"]) == ("$$NOW", [done("$$NOW")])
    assert mongopatterns_db.responses.find_one({"question_id": question})["text"] == "$$NOW"


@pytest.mark.parametrize(
    ("request_line", "body", "user"),
    [
        pytest.param("GET /books/1/questions", None, "ann", id="a short id"),
        pytest.param('GET /books/{"$ne":null}/progress', None, "ann", id="an operator for an id"),
        pytest.param("DELETE /books/" + "z" * 24, None, "ann", id="no hexadecimal digits"),
        pytest.param("GET /books/BOOK/questions?status[$ne]=x&status=$ne", None, "ann", id="an operator for status"),
        pytest.param("GET /books/BOOK/questions", None, '{"$ne": null}', id="an operator for the user"),
        pytest.param("PUT /books/BOOK/responses", {"$where": done("x")}, "ann", id="an operator for a question"),
        pytest.param("PUT /books/BOOK/responses", {"QUESTION": done({"$ne": 1})}, "ann", id="an operator for text"),
        pytest.param("PUT /books/BOOK/responses", {"QUESTION": {**done("x"), "saves": 9}}, "ann", id="more fields"),
        pytest.param("PUT /books/BOOK/responses", {}, "ann", id="nothing"),
    ],
)
async def test_bad_input_is_422_and_reaches_no_database(
    on: Started, mongopatterns_db: Any, commands: Any, *, request_line: str, body: Any, user: str
) -> None:
    """An id, a user or a text that is none is refused before anything is sent, and is never an operator."""
    book, (question, *_) = await on.book()
    before = everything(mongopatterns_db)
    commands.clear()

    given = body and {name.replace("QUESTION", question): value for name, value in body.items()}
    method, path = request_line.replace("BOOK", book).split()
    answer = await on.http.request(method, path, json=given, headers={"X-User": user})

    assert answer.status_code == 422
    assert commands.names == []
    assert everything(mongopatterns_db) == before


# Progress -------------------------------------------------------------------------------------------------------------


async def test_progress_is_exact(on: Started) -> None:
    """Each chapter and the book tell how many of its questions this user has done, and no one else's responses."""
    book, questions = await on.book()
    _, others = await on.book()
    await on.save(book, {questions[0]: done("a"), questions[1]: draft("b"), questions[3]: done("c")})
    await on.save(book, {questions[4]: done("d"), questions[1]: done("e")}, BOB)

    told = (await on.http.get(f"/books/{book}/progress", headers=ANN)).json()

    assert told["book"] == {"total": 6, "done": 2, "share": 0.333}
    rows = [[row["chapter"]["title"], row["total"], row["done"], row["share"]] for row in told["chapters"]]
    assert rows == [["Childhood", 3, 1, 0.333], ["Work", 2, 1, 0.5], ["Today", 1, 0, 0.0]]
    assert len(others) == 6


async def test_progress_of_nothing_is_none(on: Started) -> None:
    """A book that is not there has no chapters, and no share of its no questions."""
    told = (await on.http.get(f"/books/{ObjectId()}/progress", headers=ANN)).json()

    assert told == {"book": {"total": 0, "done": 0, "share": None}, "chapters": []}


# Deleting -------------------------------------------------------------------------------------------------------------


async def test_a_book_goes_with_all_that_belongs_to_it(on: Started, mongopatterns_db: Any) -> None:
    """Its chapters, questions and everybody's responses are gone, nothing is orphaned, other books are as before."""
    kept, questions = await on.book()
    await on.save(kept, {questions[0]: done("stays")})
    before = everything(mongopatterns_db)
    book, questions = await on.book()
    await on.save(book, {question: done("a") for question in questions})
    await on.save(book, {questions[0]: done("b")}, BOB)

    deleted = await on.http.delete(f"/books/{book}", headers=ANN)

    assert deleted.json() == {"books": 1, "chapters": 3, "questions": 6, "responses": 7}
    assert everything(mongopatterns_db) == before
    again = await on.http.delete(f"/books/{book}", headers=ANN)
    assert (again.status_code, again.json()["may_have_applied"]) == (404, False)


async def test_nobody_deletes_the_book_of_another(on: Started, mongopatterns_db: Any) -> None:
    """A book belongs to its author: to others it is not there."""
    book, _ = await on.book()

    assert (await on.http.delete(f"/books/{book}", headers=BOB)).status_code == 404
    assert mongopatterns_db.questions.count_documents({}) == 6


async def seen(commands: Any, name: str, collection: str, times: int = 1) -> None:
    """Wait until a command was sent to a collection so often."""

    async def look() -> None:
        while sum(one == name and sent[name] == collection for one, sent in commands.sent) < times:
            await asyncio.sleep(0.001)

    await asyncio.wait_for(look(), 20)


async def test_a_delete_that_meets_a_save_takes_its_response_along(
    on: Started, mongopatterns_db: Any, commands: Any, monkeypatch: Any
) -> None:
    """The save is half done when the delete comes to its question: the save is done first, and then all of it goes."""
    book, (question, *_) = await on.book()
    go_on, upsert = asyncio.Event(), on.bound.responses.upsert

    async def held(*given: Any, **options: Any) -> Any:
        await go_on.wait()
        return await upsert(*given, **options)

    monkeypatch.setattr(on.bound.responses, "upsert", held)
    save = asyncio.create_task(on.save(book, {question: done("x")}))
    await seen(commands, "update", "questions")
    delete = asyncio.create_task(on.http.delete(f"/books/{book}", headers=ANN))
    await seen(commands, "delete", "questions")
    go_on.set()

    assert (await save)[question]["created"]
    assert (await delete).json()["responses"] == 1
    assert everything(mongopatterns_db) == NOTHING


async def test_a_save_that_meets_a_delete_is_told_that_its_question_is_gone(
    on: Started, mongopatterns_db: Any, commands: Any
) -> None:
    """The delete is done but for its commit when the save comes: the save tries until that, and stores nothing."""
    book, (question, *_) = await on.book()

    async with on.bound.client.start_session() as session, await session.start_transaction():
        await on.bound.books.delete({"_id": ObjectId(book)}, session=session)
        save = asyncio.create_task(on.save(book, {question: done("x")}))
        await seen(commands, "update", "questions", times=2)

    assert (await save)[question] == {"error": 404, "detail": "there is no such document", "may_have_applied": False}
    assert everything(mongopatterns_db) == NOTHING


async def test_many_saves_and_a_delete_leave_no_orphan(on: Started, mongopatterns_db: Any) -> None:
    """A response is saved and goes with its book, or is told that its question is gone and was never stored."""
    kept, questions = await on.book()
    await on.save(kept, {questions[0]: done("stays")})
    before = everything(mongopatterns_db)

    for _ in range(4):
        book, questions = await on.book()
        saves = [on.save(book, {question: done("x")}, user) for question in questions for user in (ANN, BOB)]
        delete = on.http.delete(f"/books/{book}", headers=ANN)
        deleted, *told = await asyncio.gather(delete, *saves)

        outcomes = [each.get("error") for saved in told for each in saved.values()]
        assert deleted.status_code == 200
        assert outcomes.count(None) + outcomes.count(404) == 12
        assert deleted.json()["responses"] == outcomes.count(None)
        assert everything(mongopatterns_db) == before


async def test_a_book_too_large_for_one_instant_stays_whole(on: Started, mongopatterns_db: Any) -> None:
    """Past ten thousand documents the delete is a 413, and nothing of the book is gone."""
    book, (question, *_) = await on.book()
    response = {"question_id": question, **done("x"), "saves": 1, "history": []}
    now = ObjectId().generation_time
    mongopatterns_db.responses.insert_many({**response, "user_id": f"u{n}", "saved_at": now} for n in range(10_001))

    refused = await on.http.delete(f"/books/{book}", headers=ANN)

    assert (refused.status_code, refused.json()["may_have_applied"]) == (413, False)
    counts = [mongopatterns_db[name].count_documents({}) for name in COLLECTIONS]
    assert counts == [1, 3, 6, 10_001]


async def test_what_was_deleted_by_hand_is_found_and_mended(on: Started, mongopatterns_db: Any) -> None:
    """Orphans that somebody else has left are named, and deleted without touching other books."""
    kept, questions = await on.book()
    await on.save(kept, {questions[0]: done("stays")})
    before = everything(mongopatterns_db)
    book, questions = await on.book()
    await on.save(book, {questions[0]: done("left")})
    mongopatterns_db.books.delete_one({"_id": ObjectId(book)})

    found = {each["collection"]: len(each["rows"]) for each in (await on.http.get("/orphans")).json()}
    mended = (await on.http.delete("/orphans")).json()

    assert found == {"chapters": 3, "questions": 6, "responses": 0}
    assert mended == {"chapters": 3, "questions": 6, "responses": 1}
    assert everything(mongopatterns_db) == before


# The start, and how it is ---------------------------------------------------------------------------------------------


async def test_a_second_start_changes_nothing(mongopatterns_db: Any, commands: Any) -> None:
    """The first start makes the schema, the second asks whether it is there, and no document is touched."""
    async with started() as running:
        await running.book()
    before = everything(mongopatterns_db)
    assert {"create", "createIndexes"} <= set(commands.names)
    commands.clear()

    async with started():
        pass

    assert not {"create", "createIndexes", "collMod", "dropIndexes", "insert", "update", "delete"} & set(commands.names)
    assert everything(mongopatterns_db) == before
    assert not Schema(mongopatterns_db, SCHEMA).verify()


async def test_the_server_refuses_what_the_models_could_not_read(on: Started, mongopatterns_db: Any) -> None:
    """An update by hand that makes a response unreadable is refused by the validator."""
    book, (question, *_) = await on.book()
    await on.save(book, {question: done("a")})

    for wrong in ({"status": "finished"}, {"history": "none"}, {"saves": "1"}, {"more": 1}):
        with pytest.raises(WriteError) as refused:
            mongopatterns_db.responses.update_one({"question_id": question}, {"$set": wrong})
        assert refused.value.code == 121


async def test_probes_tell_the_process_from_its_database(on: Started, mongopatterns_server: EmbeddedMongo) -> None:
    """Both are 200; when the database does not answer, the process is alive and not ready."""
    assert (await on.http.get("/livez")).json()["state"] == "alive"
    assert (await on.http.get("/readyz")).json()["state"] == "ready"

    broken = {"failCommands": ["ping"], "closeConnection": True, "appName": "authoring"}
    with mongopatterns_server.fail_point("failCommand", data=broken):
        live, ready = await on.http.get("/livez"), await on.http.get("/readyz")

    assert (live.status_code, ready.status_code) == (200, 503)
    assert ready.json()["state"] == "unreachable"


async def test_an_error_of_the_database_is_503_and_is_logged(
    on: Started, mongopatterns_server: EmbeddedMongo, caplog: pytest.LogCaptureFixture
) -> None:
    """The answer tells nothing of the error but whether a write may have been applied; the log has it whole."""
    broken = {"failCommands": ["findAndModify"], "errorCode": 50, "appName": "authoring"}
    with mongopatterns_server.fail_point("failCommand", data=broken):
        answer = await on.http.put("/me", json={"name": "Ann"}, headers=ANN)

    assert answer.status_code == 503
    assert answer.json() == {"error": 503, "detail": "the database did not do it", "may_have_applied": True}
    assert [record.exc_info is not None for record in caplog.records if record.name == main.__name__] == [True]
