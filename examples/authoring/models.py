"""What is stored, what is asked for, and what is answered."""

from typing import Annotated, Any, Literal

from bson import ObjectId
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, GetCoreSchemaHandler, GetPydanticSchema
from pydantic_core.core_schema import CoreSchema, no_info_after_validator_function

from mongopatterns import CleanText, ObjectIdStr

KEPT = 20
"""How many versions of a response are kept."""


def _read_id(_: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
    return no_info_after_validator_function(ObjectId, handler(ObjectIdStr))


Id = Annotated[ObjectId, GetPydanticSchema(_read_id)]
"""An id in a request: 24 hexadecimal digits or 422, and never an operator."""

UserId = Annotated[str, Field(pattern=r"^[a-z0-9_-]{1,40}$")]
Title = Annotated[str, CleanText(min_length=1, max_length=200)]
Text = Annotated[str, CleanText(max_length=4000, multiline=True)]
Status = Literal["draft", "done"]

# Stored: the server refuses what these could not read -----------------------------------------------------------------


class Strict(BaseModel):
    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid")


class Stored(Strict):
    id: ObjectId = Field(alias="_id", default_factory=ObjectId)


class Author(Strict):
    id: UserId = Field(alias="_id")
    name: Title


class Book(Stored):
    author_id: UserId
    title: Title


class Chapter(Stored):
    book_id: ObjectId
    title: Title


class Question(Stored):
    book_id: ObjectId
    chapter_id: ObjectId
    order: int  # within the book
    text: Title
    saves: int = 0


class Version(Strict):
    status: Status
    text: Text


class Response(Stored, Version):
    question_id: Annotated[str, Field(pattern="^[0-9a-f]{24}$")]  # text, as clients have it: the specs say so, once
    user_id: UserId
    saves: int
    history: Annotated[list[Version], Field(max_length=KEPT)]
    saved_at: AwareDatetime


# Asked for ------------------------------------------------------------------------------------------------------------


class Me(BaseModel):
    name: Title


class ChapterOutline(BaseModel):
    title: Title
    questions: Annotated[list[Title], Field(min_length=1, max_length=50)]


class Outline(BaseModel):
    title: Title
    chapters: Annotated[list[ChapterOutline], Field(min_length=1, max_length=50)]

    def documents(self, author: str) -> tuple[Book, list[Chapter], list[Question]]:
        """Return what is stored of it, questions numbered through the book."""
        book, chapters, questions = Book(author_id=author, title=self.title), list[Chapter](), list[Question]()
        for outline in self.chapters:
            chapter = Chapter(book_id=book.id, title=outline.title)
            chapters.append(chapter)
            questions += [
                Question(book_id=book.id, chapter_id=chapter.id, order=order, text=text)
                for order, text in enumerate(outline.questions, len(questions) + 1)
            ]
        return book, chapters, questions


Answers = Annotated[dict[Id, Version], Field(min_length=1, max_length=100)]

# Answered -------------------------------------------------------------------------------------------------------------


class View(BaseModel):
    id: ObjectIdStr = Field(validation_alias="_id")
    title: str


class BookView(View):
    author: str | None


class ResponseView(BaseModel):
    status: Status | Literal["not_answered"]
    text: str
    saves: int


class QuestionView(BaseModel):
    id: ObjectIdStr = Field(validation_alias="_id")
    order: int
    text: str
    chapter: View | None
    response: ResponseView


class QuestionPage(BaseModel):
    items: list[QuestionView]
    total: int


class Saved(ResponseView):
    created: bool
    history: list[Version]
    saved_at: AwareDatetime


class Failed(BaseModel):
    error: int
    detail: str
    may_have_applied: bool
