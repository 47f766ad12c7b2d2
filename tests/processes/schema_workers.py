"""What the processes run that apply a schema; imported by name in each of them, or started."""

from __future__ import annotations

import datetime as dt
import sys
from typing import Any

from pymongo import MongoClient
from race_workers import async_client, client

from mongopatterns import AsyncSchema, CollectionSpec, Index, Schema, SchemaSpec, TimeSeries, Validator

OLD = SchemaSpec(
    [
        CollectionSpec("users", indexes=[Index("a"), Index.ttl("at", after=500), Index(("t", "text")), Index("mail")]),
        CollectionSpec("series", timeseries=TimeSeries("ts")),
    ]
)
NEW = SchemaSpec(
    [
        CollectionSpec(
            "users",
            indexes=[
                Index("a", sparse=True),
                Index("at"),
                Index(("t", "text"), weights={"t": 2}),
                Index("mail", unique=True),
                Index("b", "c"),
            ],
            validator=Validator({"$jsonSchema": {"bsonType": "object", "required": ["mail"]}}),
        ),
        CollectionSpec("series", timeseries=TimeSeries("ts", granularity="hours", expire_after=dt.timedelta(days=1))),
        CollectionSpec("events", indexes=[Index("a"), Index(("b", "hashed")), Index("$**")]),
    ]
)


def apply(_: int, uri: str, name: str) -> int:
    return len(Schema(client(uri)[name], NEW).apply().changes)


async def async_apply(_: int, uri: str, name: str) -> int:
    return len((await AsyncSchema(async_client(uri)[name], NEW).apply()).changes)


if __name__ == "__main__":
    with MongoClient[dict[str, Any]](sys.argv[1]) as own:
        print("ready", flush=True)  # noqa: T201  # the test waits for it
        Schema(own[sys.argv[2]], NEW).apply()
