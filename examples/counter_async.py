"""Count page views exactly, however many requests count at once: PyMongo's async API.

Run it with `MONGODB_URI=mongodb://localhost:27017 python examples/counter_async.py`.

With Motor one line differs, where the client is made:
`client = motor.motor_asyncio.AsyncIOMotorClient(uri)`, which is closed by `client.close()`.
"""

import asyncio
import os

from pymongo import AsyncMongoClient

from mongopatterns import AsyncCounter, CounterSpec

# Defined once, at import: the collection, and where the number lives in its documents.
VIEWS = CounterSpec("page_views", path="views")


async def main() -> None:
    uri = os.environ.get("MONGODB_URI", "mongodb://localhost:27017")
    database = os.environ.get("MONGODB_DATABASE", "mongopatterns_examples")
    async with AsyncMongoClient(uri) as client:
        # Bound where a connection exists. A client belongs to one event loop: make it once, and share it.
        views = AsyncCounter(client[database], VIEWS)

        before = await views.value("home")

        # A hundred requests at once. Each call is one round trip and returns a total of its own.
        totals = await asyncio.gather(*(views.add("home") for _ in range(100)))

        print(f"counted {await views.value('home') - before}, different totals {len(set(totals))}")

        # Many keys, one round trip; 0 where nothing was counted yet.
        print(f"never viewed: {(await views.values(['home', 'imprint']))['imprint']}")


if __name__ == "__main__":
    asyncio.run(main())
