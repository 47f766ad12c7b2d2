"""Load authors by their ids from many places at once, in one command: PyMongo's async API.

Run it with `MONGODB_URI=mongodb://localhost:27017 python examples/loader_async.py`.

With Motor one line differs, where the client is made:
`client = motor.motor_asyncio.AsyncIOMotorClient(uri)`, which is closed by `client.close()`.
"""

import asyncio
import os
from typing import Any

from bson import ObjectId
from pymongo import AsyncMongoClient

from mongopatterns import AsyncLoader, LoaderSpec
from mongopatterns.testing import CommandWatcher, n_plus_one_guard

# Defined once, at import: the collection, and what is wanted of its documents.
AUTHORS = LoaderSpec("authors", fields=["name"])


async def show(post: dict[str, Any], authors: AsyncLoader) -> str:
    """Stand for a resolver: it knows one post, and nothing of the others."""
    author = await authors.load(post["author"])
    return f"{post['title']} by {author['name'] if author else 'nobody'}"


async def main() -> None:
    uri = os.environ.get("MONGODB_URI", "mongodb://localhost:27017")
    database = os.environ.get("MONGODB_DATABASE", "mongopatterns_examples")
    async with AsyncMongoClient(uri, event_listeners=[CommandWatcher()]) as client:
        db = client[database]
        ann, bob = ObjectId(), ObjectId()
        await db.authors.insert_many([{"_id": ann, "name": "Ann"}, {"_id": bob, "name": "Bob"}])
        writers = [ann, bob, ann, ObjectId()]
        posts = [{"title": f"post {number}", "author": writers[number % 4]} for number in range(100)]

        # Bound where a connection exists. A client belongs to one event loop: make it once, and share it.
        authors = AsyncLoader(db, AUTHORS)

        # A hundred resolvers, each for itself: one command.
        with n_plus_one_guard(client, repeats=1) as guard:
            lines = await asyncio.gather(*(show(post, authors) for post in posts))
        print(f"{len(lines)} posts, commands sent: {sum(guard.counts.values())}")
        print(*lines[:4], sep="\n")

        # Ids in hand: in their order, None where there is nobody.
        found = await authors.load_many([bob, ObjectId(), ann])
        print([author and author["name"] for author in found])

        # A scope reads each document once, until it is cleared.
        async with authors.scope() as scope:
            await scope.load(ann)
            await db.authors.update_one({"_id": ann}, {"$set": {"name": "Anna"}})
            before = await scope.load(ann)
            scope.clear(ann)
            after = await scope.load(ann)
            print(before and before["name"], "->", after and after["name"])


if __name__ == "__main__":
    asyncio.run(main())
