"""Let many people react to messages at once, within bounds: PyMongo's async API.

Run it with `MONGODB_URI=mongodb://localhost:27017 python examples/keyed_set_async.py`.

With Motor one line differs, where the client is made:
`client = motor.motor_asyncio.AsyncIOMotorClient(uri)`, which is closed by `client.close()`.
"""

import asyncio
import os

from bson import ObjectId
from pymongo import AsyncMongoClient

from mongopatterns import AsyncKeyedSet, KeyedSetSpec

# Defined once, at import. In each message: {"reactions": {"👍": ["u1", ...]}, "reacted": {"👍": 1}}.
REACT = KeyedSetSpec("messages", path="reactions", counts="reacted", key_type=ObjectId, max_keys=20, max_members=50)


async def main() -> None:
    uri = os.environ.get("MONGODB_URI", "mongodb://localhost:27017")
    database = os.environ.get("MONGODB_DATABASE", "mongopatterns_examples")
    async with AsyncMongoClient(uri) as client:
        db = client[database]
        react = AsyncKeyedSet(db, REACT)
        message = (await db.messages.insert_one({"text": "Who is in?"})).inserted_id

        # Eighty people at once, and room for fifty of them. Each call is one round trip.
        verdicts = await asyncio.gather(*(react.add(message, "👍", f"u{number}") for number in range(80)))
        print(f"{sum(map(bool, verdicts))} of {len(verdicts)} are in, stored {len(await react.members(message, '👍'))}")

        # A click that takes back what the last one did; the server decides which it is.
        for _ in range(2):
            verdict = await react.toggle(message, "$ party.time", "u1")
            print(f"{verdict.outcome.value}: {verdict.size}")

        # Who is in already stays in, and nothing is written.
        print(f"again: {(await react.add(message, '👍', (await react.members(message, '👍'))[0])).outcome.value}")

        # The numbers stand beside the members, for lists that need no more.
        print((await db.messages.find_one({"_id": message}, {"_id": 0, "reacted": 1}))["reacted"])

        # One member in many documents, in one command.
        others = (await db.messages.insert_many([{} for _ in range(3)])).inserted_ids
        many = await react.add_many([*others, ObjectId()], "seen", "u1")
        print(f"added {many.added}, missing {many.missing}")


if __name__ == "__main__":
    asyncio.run(main())
