"""Delete books with all that belongs to them, and mend what somebody else has left behind: PyMongo's async API.

Run it with `MONGODB_URI=mongodb://localhost:27017 python examples/cascade_async.py`.

With Motor one line differs, where the client is made:
`client = motor.motor_asyncio.AsyncIOMotorClient(uri)`, which is closed by `client.close()`.
"""

import asyncio
import os
from typing import Any

from bson import ObjectId
from pymongo import AsyncMongoClient

from mongopatterns import AsyncCascade, CascadeResult, CascadeSpec, Child

# Defined once, at import: what goes with a book, and what goes with a chapter. Chapters name their book by text.
BOOKS = CascadeSpec(
    "books",
    children=[
        ("reviews", "_id", "book_id"),
        Child("chapters", local="_id", foreign="book", local_as="string", children=[("notes", "_id", "chapter_id")]),
    ],
)


async def store(db: Any, shelf: ObjectId, number: int) -> list[ObjectId]:
    books = (await db.books.insert_many([{"shelf": shelf} for _ in range(number)])).inserted_ids
    await db.reviews.insert_many([{"book_id": book} for book in books for _ in range(5)])
    chapters = [{"book": str(book)} for book in books for _ in range(10)]
    await db.chapters.insert_many(chapters)
    await db.notes.insert_many([{"chapter_id": chapter["_id"]} for chapter in chapters])
    return list(books)


def show(result: CascadeResult) -> None:
    print(f"batch {result.batches}: {result.total} documents so far")


async def main() -> None:
    uri = os.environ.get("MONGODB_URI", "mongodb://localhost:27017")
    database = os.environ.get("MONGODB_DATABASE", "mongopatterns_examples")
    async with AsyncMongoClient(uri) as client:
        db = client[database]
        for collection, indexes in BOOKS.indexes().items():
            for index in indexes:
                await db[collection].create_index(index.keys, **index.options)

        # Bound where a connection exists. A client belongs to one event loop: make it once, and share it.
        cascade = AsyncCascade(db, BOOKS)
        shelf = ObjectId()
        books = await store(db, shelf, 100)

        # All but one, in two batches of six commands each: children first.
        result = await cascade.delete({"shelf": shelf}, keep=books[:1], batch=50, on_progress=show)
        print(f"deleted: {dict(result.deleted)}")

        # The last one at one instant, or not at all.
        result = await cascade.delete({"shelf": shelf}, transaction=True)
        print(f"in a transaction: {result.total}")

        # Somebody deletes a book by hand: what belonged to it is found, and deleted.
        (book,) = await store(db, shelf, 1)
        await db.books.delete_one({"_id": book})
        print(f"orphans: { {found.collection: len(found.rows) for found in await cascade.orphans()} }")
        result = await cascade.delete_orphans()
        print(f"deleted: {dict(result.deleted)}")
        print(f"left: {sum([len(found.rows) for found in await cascade.orphans()])}")


if __name__ == "__main__":
    asyncio.run(main())
