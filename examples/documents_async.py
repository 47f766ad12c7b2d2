"""Save answers, keep their last versions, and accept a code once, whoever comes first: PyMongo's async API.

Run it with `MONGODB_URI=mongodb://localhost:27017 python examples/documents_async.py`.

With Motor one line differs, where the client is made:
`client = motor.motor_asyncio.AsyncIOMotorClient(uri)`, which is closed by `client.close()`.
"""

import asyncio
import datetime as dt
import os

from bson import ObjectId
from pymongo import AsyncMongoClient

from mongopatterns import AsyncDocuments, DocumentSpec

# Defined once, at import: the collection, and the fields that tell its documents apart.
RESPONSES = DocumentSpec("responses", key=("question_id", "user_id"))
CODES = DocumentSpec("login_codes")


async def main() -> None:
    uri = os.environ.get("MONGODB_URI", "mongodb://localhost:27017")
    database = os.environ.get("MONGODB_DATABASE", "mongopatterns_examples")
    async with AsyncMongoClient(uri) as client:
        db = client[database]
        # The unique index is what everything here stands on.
        for index in RESPONSES.indexes():
            await db[RESPONSES.collection].create_index(index.keys, **index.options)

        # Bound where a connection exists. A client belongs to one event loop: make it once, and share it.
        responses, codes = AsyncDocuments(db, RESPONSES), AsyncDocuments(db, CODES)
        question = ObjectId()

        # Fifty requests for a document that is not there: one makes it, all get it.
        stored = await asyncio.gather(
            *(responses.get_or_create((question, "ann"), {"status": "open"}) for _ in range(50))
        )
        made = sum(created for _, created in stored)
        print(f"made by {made} of 50, different documents {len({document['_id'] for document, _ in stored})}")

        # Fifty saves at once: none is lost, and the last twenty stay in the history.
        saves = [
            responses.upsert(
                (question, "ann"),
                set={"status": "answered", "answer.text": f"text {number}"},
                inc={"saves": 1},
                push_last={"history": number},
                keep=20,
                set_now=["updated_at"],
            )
            for number in range(50)
        ]
        last, created = max(await asyncio.gather(*saves), key=lambda told: told.document["saves"])
        print(f"made: {created}, saves {last['saves']}, history {len(last['history'])}")

        # A code that works once, and not after its end.
        code = str(ObjectId())
        in_ten_minutes = dt.datetime.now(dt.timezone.utc) + dt.timedelta(minutes=10)
        await codes.get_or_create(code, {"user": "ann", "expires_at": in_ten_minutes})
        taken = await asyncio.gather(*(codes.take(code, unexpired="expires_at") for _ in range(50)))
        print(f"accepted {sum(document is not None for document in taken)} of 50")

        await codes.get_or_create(code, {"expires_at": dt.datetime(2020, 1, 1, tzinfo=dt.timezone.utc)})
        print(f"expired: {await codes.take(code, unexpired='expires_at') is None}")


if __name__ == "__main__":
    asyncio.run(main())
