"""What a request may say, and what the documents hold."""

import datetime as dt
from decimal import Decimal
from typing import Annotated, Literal

from pydantic import AwareDatetime, BaseModel, Field, model_validator
from typing_extensions import Self

from mongopatterns import CleanText, SafeName, StoredDecimal

Limit = Annotated[int, Field(ge=0, le=100_000)]
Day = Annotated[dt.date, Field(ge=dt.date(2020, 1, 1), le=dt.date(2099, 12, 31))]


class Account(BaseModel):
    name: Annotated[str, CleanText(min_length=1, max_length=80)]
    # By kind and window; for what is left out, the quotas have defaults.
    limits: dict[Literal["subtitle", "dubbing"], dict[Literal["hour", "day", "month"], Limit]] = {}


class Minutes(BaseModel):
    minutes: Annotated[Decimal, Field(gt=0, le=1440, decimal_places=2)]


class Spoken(Minutes):
    id: Annotated[str, CleanText(min_length=1, max_length=100)] | None = None  # a repeat with the same one counts once


class Progress(BaseModel):
    """What one device has shown since it last said so."""

    device: SafeName  # it becomes the name of a field
    seconds: Annotated[int, Field(ge=1, le=3600)]
    lines: Annotated[int, Field(ge=0, le=10_000)] = 0


class Period(BaseModel):
    first: Day
    last: Day
    user: str | None = None

    @model_validator(mode="after")
    def has_an_end(self) -> Self:
        if not 0 <= (self.last - self.first).days < 366:  # noqa: PLR2004 - what can be asked for, somebody asks for
            raise ValueError("a period of up to a year, its first day first")
        return self


# The documents: by these models, the schema has the server refuse what they could not read.


class User(Account):
    id: Annotated[str, Field(alias="_id")]


class Session(BaseModel):
    id: Annotated[str, Field(alias="_id")]
    user: str
    started_at: AwareDatetime
    seen_at: AwareDatetime | None = None
    seconds: Annotated[int, Field(ge=0)] = 0
    lines: Annotated[int, Field(ge=0)] = 0
    devices: Annotated[dict[str, int], Field(max_length=8)] = {}  # seconds, by the name of the device


class Job(BaseModel):
    id: Annotated[str, Field(alias="_id")]
    user: str
    minutes: StoredDecimal
    token: str  # of the reservation
    expires_at: AwareDatetime
