"""Every pattern of the application as a value, and the schema that follows from them. Nothing connects here."""

from examples.authoring.models import Author, Book, Chapter, Question, Response
from mongopatterns import (
    CascadeSpec,
    Child,
    CollectionSpec,
    Count,
    DocumentSpec,
    GroupBy,
    Index,
    JoinSpec,
    LoaderSpec,
    Min,
    One,
    Param,
    PoolBudget,
    Ratio,
    ReportSpec,
    Requirements,
    SchemaSpec,
    Totals,
    Validator,
)

# What one user has answered to a question. Questions have ObjectIds, and responses name them by their text.
MINE = One(
    "responses",
    as_="response",
    local="_id",
    foreign="question_id",
    local_as="string",
    where={"user_id": Param("user")},
    fields={"_id": 0, "status": 1, "text": 1, "saves": 1},
    default={"status": "not_answered", "text": "", "saves": 0},
)

# The page of a book: each question with its chapter and the user's own response.
QUESTIONS = JoinSpec(
    "questions", joins=[MINE, One("chapters", as_="chapter", local="chapter_id", foreign="_id", fields=["title"])]
)

# One response for each question and user, whoever saves first.
RESPONSES = DocumentSpec("responses", key=("question_id", "user_id"))

# Authors: saved by their ids, and loaded from wherever one is shown.
AUTHORS = DocumentSpec("authors")
AUTHOR = LoaderSpec("authors", fields=["name"])

# What goes with a book, and what goes with its questions.
ANSWERS = Child("responses", foreign="question_id", local_as="string")
BOOKS = CascadeSpec(
    "books",
    children=[Child("chapters", foreign="book_id"), Child("questions", foreign="book_id", children=[ANSWERS])],
)

# How far a user is: in the book, and in each chapter in the order of their questions.
DONE = Count(where={"response.status": "done"})
FIGURES = {"total": Count(), "done": DONE, "share": Ratio(DONE, Count(), round=3)}
PROGRESS = ReportSpec(
    "questions",
    branches={
        "book": Totals(FIGURES, joins=[MINE]),
        "chapters": GroupBy(
            "chapter_id",
            measures={"first": Min("order"), **FIGURES},
            joins=[MINE],
            sort=[("first", 1)],
            row_joins=[One("chapters", as_="chapter", local="key", foreign="_id", fields=["title"])],
        ),
    },
)

# What the database should hold. A pattern stands for the indexes that it needs.
SCHEMA = SchemaSpec(
    [
        CollectionSpec("authors", validator=Validator.from_model(Author)),
        CollectionSpec("books", validator=Validator.from_model(Book)),
        CollectionSpec("chapters", validator=Validator.from_model(Chapter)),
        CollectionSpec("questions", indexes=[Index("book_id", "order")], validator=Validator.from_model(Question)),
        CollectionSpec("responses", validator=Validator.from_model(Response)),
        *(QUESTIONS, RESPONSES, AUTHORS, AUTHOR, BOOKS, PROGRESS),
    ]
)

NEEDS = Requirements(transactions=True)

# Eight processes at most, also while a deployment rolls on, on a cluster that takes 500 connections.
BUDGET = PoolBudget(limit=500, processes=8)
