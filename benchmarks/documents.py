"""Get-or-create and upsert against what they replace.

By hand it is one `find_one_and_update` with the operators of the server, which does not tell whether it made the
document, unless the caller marks it; these sides use a generated `_id` as that mark. The usual version looks, and
inserts what it did not find: two round trips, and a duplicate as soon as two callers meet and no unique index is there.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any, Final

from bson import ObjectId
from pymongo import ReturnDocument

from benchmarks._ratios import AtMost
from benchmarks._rows import MANY_KEYS, Calls, Measurable, Row
from benchmarks.counters import majority
from mongopatterns import AsyncDocuments, Documents, DocumentSpec

RESPONSES: Final = DocumentSpec("responses", key="user")
DEFAULTS: Final = {"status": "new", "answers": []}
KEEP: Final = 20


def async_get(database: Any) -> Callable[..., Any]:
    documents = AsyncDocuments(database, RESPONSES)

    async def get(key: str) -> tuple[bool, str]:
        document, created = await documents.get_or_create(key, DEFAULTS)
        return created, document["user"]

    return get


def get(database: Any) -> Callable[..., Any]:
    documents = Documents(database, RESPONSES)

    def got(key: str) -> tuple[bool, str]:
        document, created = documents.get_or_create(key, DEFAULTS)
        return created, document["user"]

    return got


def get_arguments(key: str, made: ObjectId) -> dict[str, Any]:
    return {
        "filter": {"user": key},
        "update": {"$setOnInsert": {"_id": made, **DEFAULTS}},
        "upsert": True,
        "return_document": ReturnDocument.AFTER,
    }


def async_get_by_hand(database: Any) -> Callable[..., Any]:
    documents = majority(database)

    async def get(key: str) -> tuple[bool, str]:
        made = ObjectId()
        document = await documents.find_one_and_update(**get_arguments(key, made))
        return document["_id"] == made, document["user"]

    return get


def get_by_hand(database: Any) -> Callable[..., Any]:
    documents = majority(database)

    def get(key: str) -> tuple[bool, str]:
        made = ObjectId()
        document = documents.find_one_and_update(**get_arguments(key, made))
        return document["_id"] == made, document["user"]

    return get


def async_upsert(database: Any) -> Callable[..., Any]:
    documents, turn = AsyncDocuments(database, RESPONSES), itertools.count()

    async def upsert(key: str) -> tuple[bool, int, int]:
        document, created = await documents.upsert(
            key, set={"status": "seen"}, inc={"visits": 1}, push_last={"history": next(turn)}, keep=KEEP
        )
        return created, document["visits"], len(document["history"])

    return upsert


def upsert(database: Any) -> Callable[..., Any]:
    documents, turn = Documents(database, RESPONSES), itertools.count()

    def upserted(key: str) -> tuple[bool, int, int]:
        document, created = documents.upsert(
            key, set={"status": "seen"}, inc={"visits": 1}, push_last={"history": next(turn)}, keep=KEEP
        )
        return created, document["visits"], len(document["history"])

    return upserted


def upsert_arguments(key: str, made: ObjectId, turn: int) -> dict[str, Any]:
    return {
        "filter": {"user": key},
        "update": {
            "$set": {"status": "seen"},
            "$inc": {"visits": 1},
            "$push": {"history": {"$each": [turn], "$slice": -KEEP}},
            "$setOnInsert": {"_id": made},
        },
        "upsert": True,
        "return_document": ReturnDocument.AFTER,
    }


def async_upsert_by_hand(database: Any) -> Callable[..., Any]:
    documents, turn = majority(database), itertools.count()

    async def upsert(key: str) -> tuple[bool, int, int]:
        made = ObjectId()
        document = await documents.find_one_and_update(**upsert_arguments(key, made, next(turn)))
        return document["_id"] == made, document["visits"], len(document["history"])

    return upsert


def upsert_by_hand(database: Any) -> Callable[..., Any]:
    documents, turn = majority(database), itertools.count()

    def upsert(key: str) -> tuple[bool, int, int]:
        made = ObjectId()
        document = documents.find_one_and_update(**upsert_arguments(key, made, next(turn)))
        return document["_id"] == made, document["visits"], len(document["history"])

    return upsert


def async_find_insert(database: Any) -> Callable[..., Any]:
    documents = majority(database)

    async def get(key: str) -> tuple[bool, str]:
        if document := await documents.find_one({"user": key}):
            return False, document["user"]
        await documents.insert_one({"user": key, **DEFAULTS})
        return True, key

    return get


def find_insert(database: Any) -> Callable[..., Any]:
    documents = majority(database)

    def get(key: str) -> tuple[bool, str]:
        if document := documents.find_one({"user": key}):
            return False, document["user"]
        documents.insert_one({"user": key, **DEFAULTS})
        return True, key

    return get


AGREE: Final = tuple({"key": f"agree-{number % 3}"} for number in range(9))
BY_HAND: Final = (DocumentSpec("by_hand", key="user"),)
OURS: Final = Calls(async_get, get, specs=(RESPONSES,))
BEST: Final = AtMost(1.3)

ROWS: Final[tuple[Measurable, ...]] = (
    Row(
        "Documents.get_or_create, mostly there",
        "$setOnInsert by hand",
        OURS,
        Calls(async_get_by_hand, get_by_hand, specs=BY_HAND),
        AGREE,
        keys=MANY_KEYS,
        target=BEST,
    ),
    Row(
        "Documents.get_or_create, mostly there",
        "find, insert (makes duplicates)",
        OURS,
        Calls(async_find_insert, find_insert, specs=BY_HAND),
        AGREE,
        keys=MANY_KEYS,
    ),
    Row(
        "Documents.upsert, set, count, keep the last 20",
        "operators by hand",
        Calls(async_upsert, upsert, specs=(RESPONSES,)),
        Calls(async_upsert_by_hand, upsert_by_hand, specs=BY_HAND),
        AGREE,
        keys=MANY_KEYS[:200],
        target=BEST,
    ),
)
