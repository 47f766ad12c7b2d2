"""Books whose questions are answered, over HTTP: the start, which outcome is which status, and the routes."""

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Annotated, Any, Literal, TypeVar

from bson import ObjectId
from fastapi import Depends, FastAPI, Header, Query, Request
from fastapi.responses import JSONResponse
from pymongo.errors import PyMongoError

from examples.authoring import specs
from examples.authoring.models import (
    KEPT,
    Answers,
    BookView,
    Failed,
    Id,
    Me,
    Outline,
    QuestionPage,
    QuestionView,
    Saved,
    Status,
    UserId,
    Version,
)
from mongopatterns import (
    AsyncCascade,
    AsyncDeployment,
    AsyncDocuments,
    AsyncHealth,
    AsyncJoin,
    AsyncLoader,
    AsyncReport,
    AsyncSchema,
    DocumentNotFound,
    Durability,
    HealthReport,
    LimitExceeded,
    MongoPatternsError,
    ObjectIdStr,
    Profile,
    StateError,
    UsageError,
    may_have_applied,
    shared_async_client,
    to_document,
)

T = TypeVar("T")

# The start ------------------------------------------------------------------------------------------------------------


class Authoring:
    """The patterns, bound to a database once and shared by all requests."""

    def __init__(self, client: Any, db: Any) -> None:
        self.client, self.db = client, db
        self.authors = AsyncDocuments(db, specs.AUTHORS)
        self.author = AsyncLoader(db, specs.AUTHOR)
        self.books = AsyncCascade(db, specs.BOOKS)
        self.questions = AsyncJoin(db, specs.QUESTIONS)
        self.responses = AsyncDocuments(db, specs.RESPONSES)
        self.progress = AsyncReport(db, specs.PROGRESS)
        self.health = AsyncHealth(client)

    async def together(self, work: Callable[[Any], Awaitable[T]]) -> T:
        """Do all of some work or nothing, and again when it meets another write."""
        async with self.client.start_session() as session:
            return await session.with_transaction(work)

    async def show(self, book: Mapping[str, Any]) -> BookView:
        """Show a book with its author. Books that are shown at the same time load theirs in one command."""
        author = await self.author.load(book["author_id"])
        return BookView.model_validate({**book, "author": author and author["name"]})

    async def save(self, book: ObjectId, question: ObjectId, user: str, version: Version) -> Saved:
        """Save a response and keep its last versions.

        The same transaction writes to the question: nobody deletes that meanwhile, and leaves the response behind.
        """
        changes = to_document(version)

        async def work(session: Any) -> Saved:
            asked = {"_id": question, "book_id": book}
            counted = await self.db.questions.update_one(asked, {"$inc": {"saves": 1}}, session=session)
            if not counted.matched_count:
                raise DocumentNotFound("questions", question)
            stored, created = await self.responses.upsert(
                (str(question), user),
                set=changes,
                inc={"saves": 1},
                push_last={"history": changes},
                keep=KEPT,
                set_now=["saved_at"],
                session=session,
            )
            return Saved(**stored, created=created)

        return await self.together(work)


def connect(**options: Any) -> AbstractAsyncContextManager[Any]:
    """Return the client of this process, which is made for the first who enters and closed for the last who leaves."""
    uri = os.environ.get("MONGODB_URI", "mongodb://localhost:27017")
    return shared_async_client(
        uri,
        profile=Profile.WEB,
        budget=specs.BUDGET,
        durability=Durability.MAJORITY,
        app_name="authoring",
        **options,
    )


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[dict[str, Authoring]]:
    """Connect, look at the server, bring the database to its schema: what is missing stops the start."""
    async with connect() as client:
        await AsyncDeployment(client).check(specs.NEEDS)
        db = client[os.environ.get("MONGODB_DATABASE", "authoring")]
        await AsyncSchema(db, specs.SCHEMA).apply(timeout=60)
        yield {"authoring": Authoring(client, db)}


app = FastAPI(title="Authoring", lifespan=lifespan)


def authoring(request: Request) -> Authoring:
    bound: Authoring = request.state.authoring
    return bound


Bound = Annotated[Authoring, Depends(authoring)]
User = Annotated[UserId, Header(alias="X-User")]  # in a real application, whoever has signed in

# Outcomes -------------------------------------------------------------------------------------------------------------

UNAVAILABLE = 503
OUTCOMES: dict[type[Exception], tuple[int, str]] = {  # the first that fits
    DocumentNotFound: (404, "there is no such document"),
    UsageError: (422, "a value cannot be used"),
    LimitExceeded: (413, "this is more than one transaction takes"),
    StateError: (409, "what is stored does not take this change"),
    MongoPatternsError: (UNAVAILABLE, "this cannot be done now"),
    PyMongoError: (UNAVAILABLE, "the database did not do it"),
}


def outcome(error: Exception) -> Failed:
    """Say what came of a request, or of one response of a batch."""
    status, detail = next(told for kind, told in OUTCOMES.items() if isinstance(error, kind))
    if status == UNAVAILABLE:
        logging.getLogger(__name__).error(detail, exc_info=error)
    return Failed(error=status, detail=detail, may_have_applied=may_have_applied(error))


@app.exception_handler(MongoPatternsError)
@app.exception_handler(PyMongoError)
async def answer(_: Request, error: Exception) -> JSONResponse:
    told = outcome(error)
    return JSONResponse(told.model_dump(), told.error)


# Routes ---------------------------------------------------------------------------------------------------------------


@app.put("/me")
async def sign_up(me: Me, user: User, on: Bound) -> Me:
    await on.authors.upsert(user, set=to_document(me))
    return me


@app.post("/books", status_code=201)
async def create(outline: Outline, user: User, on: Bound) -> BookView:
    book, chapters, questions = outline.documents(user)

    async def work(session: Any) -> None:
        await on.db.books.insert_one(to_document(book), session=session)
        await on.db.chapters.insert_many(map(to_document, chapters), session=session)
        await on.db.questions.insert_many(map(to_document, questions), session=session)

    await on.together(work)
    return await on.show(to_document(book))


@app.get("/books")
async def books(on: Bound) -> list[BookView]:
    newest = await on.db.books.find().sort("_id", -1).to_list(50)
    return await asyncio.gather(*map(on.show, newest))


@app.delete("/books/{book}")
async def delete(book: Id, user: User, on: Bound) -> dict[str, int]:
    result = await on.books.delete({"_id": book, "author_id": user}, transaction=True)
    if not result.total:
        raise DocumentNotFound("books", book)
    return dict(result.deleted)


@app.get("/books/{book}/questions")
async def page(
    *,
    book: Id,
    status: Status | Literal["not_answered"] | None = None,
    skip: Annotated[int, Query(ge=0, le=10_000)] = 0,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    user: User,
    on: Bound,
) -> QuestionPage:
    which: dict[str, Any] = {"params": {"user": user}, "joined": status and {"response.status": status}}
    rows: dict[str, Any] = {"sort": [("order", 1)], "skip": skip, "limit": limit, "model": QuestionView}
    async with on.client.start_session(snapshot=True) as session:  # the page and its total are of one instant
        items = await on.questions.find({"book_id": book}, **which, **rows, session=session)
        total = await on.questions.count({"book_id": book}, **which, session=session)
    return QuestionPage(items=items, total=total)


@app.put("/books/{book}/responses")
async def save(book: Id, answers: Answers, user: User, on: Bound) -> dict[ObjectIdStr, Saved | Failed]:
    async def attempt(question: ObjectId, version: Version) -> Saved | Failed:
        try:
            return await on.save(book, question, user, version)
        except (MongoPatternsError, PyMongoError) as error:
            return outcome(error)

    told = await asyncio.gather(*(attempt(*item) for item in answers.items()))
    return {ObjectIdStr(question): each for question, each in zip(answers, told, strict=True)}


@app.get("/books/{book}/progress")
async def progress(book: Id, user: User, on: Bound) -> dict[str, Any]:
    return dict(await on.progress.run({"book_id": book}, params={"user": user}, consistent=True))


# For those who run it -------------------------------------------------------------------------------------------------


@app.get("/orphans")
async def orphans(on: Bound) -> list[dict[str, Any]]:
    return [found.to_dict() for found in await on.books.orphans()]


@app.delete("/orphans")
async def mend(on: Bound) -> dict[str, int]:
    return dict((await on.books.delete_orphans()).deleted)


@app.get("/livez")
async def live(on: Bound) -> JSONResponse:
    return probe(await on.health.live())


@app.get("/readyz")
async def ready(on: Bound) -> JSONResponse:
    return probe(await on.health.ready(timeout=1))


def probe(report: HealthReport) -> JSONResponse:
    return JSONResponse(report.to_dict(), 200 if report else UNAVAILABLE)
