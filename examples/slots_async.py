"""At most three streams a user, on any number of machines: PyMongo's async API.

Run it with `MONGODB_URI=mongodb://localhost:27017 python examples/slots_async.py`.

With Motor one line differs, where the client is made:
`client = motor.motor_asyncio.AsyncIOMotorClient(uri)`, which is closed by `client.close()`.
"""

import asyncio
import os
import uuid

from pymongo import AsyncMongoClient

from mongopatterns import AsyncSlots, LimitExceeded, SlotsSpec

# Defined once, at import. A stream that is not renewed for half a minute gives its slot back by itself.
STREAMS = SlotsSpec("streams", cap=3, ttl=30)


async def main() -> None:
    uri = os.environ.get("MONGODB_URI", "mongodb://localhost:27017")
    database = os.environ.get("MONGODB_DATABASE", "mongopatterns_examples")
    async with AsyncMongoClient(uri) as client:
        db = client[database]

        # The first index keeps the cap. Do this where you make your other indexes.
        for index in STREAMS.indexes():
            await db.streams.create_index(index.keys, **index.options)

        slots = AsyncSlots(db, STREAMS)
        user = f"user-{uuid.uuid4().hex[:8]}"

        # A verdict is true if the call did what it was for. Twenty devices at once, and slots for three of them.
        asked = await asyncio.gather(*(slots.acquire(user, data={"device": device}) for device in range(20)))
        streams = [slot for slot in asked if slot]
        print(f"streaming: {await slots.size(user)} of {len(asked)}, on slots {sorted(slot.slot for slot in streams)}")
        first, second, third = streams

        # A token is text: whoever plays the stream renews it, in this process or another.
        print(f"renewed: {bool(await slots.renew(str(first.token)))}")

        try:
            (await slots.acquire(user)).require()
        except LimitExceeded as error:
            print(f"refused: all {error.decision.cap} are held")

        # Somebody with a larger plan has more.
        print(f"with a family plan: {(await slots.acquire(user, cap=5)).outcome.value}")

        # Released, a slot is free at once; the old token is worth nothing from then on.
        outcomes = [(await slots.release(second)).outcome.value for _ in range(2)]
        print(f"released: {outcomes[0]}, again: {outcomes[1]}")
        print(f"next: {(await slots.acquire(user)).outcome.value}")

        # Sign out one of the others.
        for held in await slots.holders(user):
            if held.token == third.token:
                await slots.release(held)
        print(f"the third one: {(await slots.renew(third)).outcome.value}")


if __name__ == "__main__":
    asyncio.run(main())
