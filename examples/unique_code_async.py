"""Room codes that no two live parties share: PyMongo's async API.

Run it with `MONGODB_URI=mongodb://localhost:27017 python examples/unique_code_async.py`.

With Motor one line differs, where the client is made:
`client = motor.motor_asyncio.AsyncIOMotorClient(uri)`, which is closed by `client.close()`.
"""

import asyncio
import os
import uuid

from pymongo import AsyncMongoClient

from mongopatterns import AsyncUniqueCode, Conflict, UniqueCodeSpec

# Defined once, at import. A party is live as long as it has no end; then its code is free for others.
CODES = UniqueCodeSpec("parties", path="room_code", live={"ended_at": None}, length=6)


async def main() -> None:
    uri = os.environ.get("MONGODB_URI", "mongodb://localhost:27017")
    database = os.environ.get("MONGODB_DATABASE", "mongopatterns_examples")
    async with AsyncMongoClient(uri) as client:
        db = client[database]

        # It is this index that keeps codes apart. Do this where you make your other indexes.
        for index in CODES.indexes():
            await db.parties.create_index(index.keys, **index.options)

        codes = AsyncUniqueCode(db, CODES)

        # A hundred parties at once. Nothing is checked before: a code that is taken is refused, and another is tried.
        parties = await asyncio.gather(*(codes.insert({"host": f"host {number}"}) for number in range(100)))
        print(f"parties: {len(parties)}, different codes: {len({party['room_code'] for party in parties})}")

        party = await codes.find(parties[7]["room_code"], fields=["host"])
        print(f"found: {party and party['host']}")

        # A document that is there already gets a code once, however many ask.
        tea = (await db.parties.insert_one({"host": "bob"})).inserted_id
        print(f"assigned: {len(set(await asyncio.gather(*(codes.assign(tea) for _ in range(10)))))} code")

        # A code of one's own is that or none.
        slug = f"tea-{uuid.uuid4().hex[:8]}"
        first = await codes.insert({"host": "cay"}, code=slug)
        try:
            await codes.insert({"host": "dan"}, code=slug)
        except Conflict as error:
            print(f"taken: {error.key == slug}")

        # The party is over: its code is free.
        await db.parties.update_one({"_id": first["_id"]}, {"$set": {"ended_at": "now"}})
        print(f"given again: {(await codes.insert({'host': 'dan'}, code=slug))['host']}")


if __name__ == "__main__":
    asyncio.run(main())
