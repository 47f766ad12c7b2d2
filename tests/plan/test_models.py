"""Documents as the caller's own types, without a server."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any

import pytest
from bson import ObjectId
from pydantic import BaseModel, Field, ValidationError
from typing_extensions import TypedDict  # (on Python before 3.12, Pydantic takes no other)

from mongopatterns import UsageError
from mongopatterns.models import ObjectIdStr, decode_all

ID = ObjectId()


class Party(BaseModel):
    id: ObjectIdStr = Field(alias="_id")
    name: str


@dataclasses.dataclass
class Guest:
    name: str


class Seat(TypedDict):
    name: str


class Unfinished(BaseModel):
    name: Nowhere  # type: ignore[name-defined]  # noqa: F821  # which is the point


class Around(BaseModel):
    inner: Unfinished | None = None


@dataclasses.dataclass
class UnfinishedGuest:
    name: Nowhere  # type: ignore[name-defined]  # noqa: F821  # which is the point


class Early(BaseModel):
    name: Late


class Late(BaseModel):
    text: str


def test_documents_are_the_types_that_are_asked_for() -> None:
    """A Pydantic model, a dataclass, a typed dict or an annotated one; without any, dicts."""
    document = {"name": "x"}
    assert decode_all([{"_id": ID, **document}], Party) == [Party(_id=str(ID), name="x")]
    assert decode_all([document], Guest) == [Guest("x")]
    assert decode_all([document], Seat) == [document]
    noted: Any = Annotated[Guest, ["a list has no hash"]]
    assert decode_all([document], noted) == [Guest("x")]
    assert decode_all([document], None) == [document]
    assert decode_all([{"name": {"text": "x"}}], Early) == [Early(name=Late(text="x"))]


@pytest.mark.parametrize("documents", [[], [{"name": "x"}]])
@pytest.mark.parametrize(
    "model",
    [
        "x",
        "int",
        "",
        "a b",
        "Party",
        5,
        [1],
        {"type": "int"},
        {},
        (1, [2]),
        Unfinished,
        Around,
        UnfinishedGuest,
    ],
)
def test_what_is_no_type_is_refused(model: Any, documents: list[Any]) -> None:
    """Text, values and types with a part that is not defined are UsageErrors, with and without documents."""
    with pytest.raises(UsageError, match=r"^model: expected a Pydantic model, a dataclass or a typed dict"):
        decode_all(documents, model)


def test_a_document_that_does_not_fit_is_the_models_to_refuse() -> None:
    """Pydantic's own error tells what does not fit."""
    with pytest.raises(ValidationError, match="name"):
        decode_all([{"_id": ID}], Party)
