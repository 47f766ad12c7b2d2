"""What comes in, what is stored and what goes out."""

import datetime as dt
from typing import Annotated

from bson import ObjectId
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from mongopatterns import CleanText, JoinOutcome, ObjectIdStr

UserName = Annotated[str, CleanText(min_length=1, max_length=40)]
Title = Annotated[str, CleanText(min_length=1, max_length=80)]
Text = Annotated[str, CleanText(min_length=1, max_length=500, multiline=True)]
Emoji = Annotated[str, CleanText(min_length=1, max_length=20)]  # or "$x", or "a.b": a name is data, whatever it is


class NewParty(BaseModel):
    title: Title
    seats: int = Field(ge=1, le=50)


class NewMessage(BaseModel):
    text: Text


class Reaction(BaseModel):
    name: Emoji


class Reactions(Reaction):
    messages: list[ObjectIdStr] = Field(min_length=1, max_length=100)


class Message(BaseModel):
    """A message as the server has it: the validator of its collection is made of this."""

    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid")

    id: ObjectId = Field(alias="_id", default_factory=ObjectId)
    party: ObjectId
    user: UserName
    text: Text
    sent_at: AwareDatetime
    reactions: dict[str, list[str]] = {}


def this_moment() -> dt.datetime:
    """Give the time as a database keeps it, to the millisecond: what is answered is what will be read."""
    now = dt.datetime.now(dt.timezone.utc)
    return now.replace(microsecond=now.microsecond // 1000 * 1000)


class Party(BaseModel):
    id: ObjectIdStr = Field(validation_alias="_id")
    code: str
    title: str
    seats: int


class Seat(BaseModel):
    """What a member is told who joins: of a `JoinResult`."""

    outcome: JoinOutcome
    host: str = Field(validation_alias="leader")
    taken: int = Field(validation_alias="size")
    seats: int = Field(validation_alias="cap")


class Left(BaseModel):
    """What those who stay have to know: of a `LeaveResult`."""

    host: str | None = Field(validation_alias="leader")
    taken: int = Field(validation_alias="size")
    ended: bool = Field(validation_alias="closed")


class ChatMessage(BaseModel):
    id: ObjectIdStr = Field(validation_alias="_id")
    user: str
    text: str
    sent_at: AwareDatetime
    reactions: dict[str, list[str]]


class Reacted(BaseModel):
    """Whether the caller's reaction stands now, and how many there are: of a `KeyedSetResult`."""

    name: str
    present: bool
    size: int
