"""Limit what a user consumes per hour, day and month: PyMongo's async API.

Run it with `MONGODB_URI=mongodb://localhost:27017 python examples/quota_async.py`.

With Motor one line differs, where the client is made:
`client = motor.motor_asyncio.AsyncIOMotorClient(uri)`, which is closed by `client.close()`.
"""

import asyncio
import os
import uuid

from pymongo import AsyncMongoClient

from mongopatterns import AsyncQuota, Field, LimitExceeded, QuotaSpec, Rollover, Times, Window

# Defined once, at import. The state lives under `path` in the user's own document, beside the fields that are yours.
MINUTES = QuotaSpec(
    "users",
    path="quota.subtitle",
    key_field="user_id",
    timezone="Europe/Berlin",
    windows=[
        # The limit comes from the user's document; unused minutes are saved up, to twice the limit.
        Window.hour(Field("limits.hour", default=60), rollover=Rollover(cap=Times(2))),
        Window.day(300),
        Window.month(None),  # counts, and never refuses
    ],
    create={"plan": "free"},  # what a new user's document holds besides
)


async def main() -> None:
    uri = os.environ.get("MONGODB_URI", "mongodb://localhost:27017")
    database = os.environ.get("MONGODB_DATABASE", "mongopatterns_examples")
    async with AsyncMongoClient(uri) as client:
        db = client[database]

        # The key field needs a unique index, unless it is _id. Do this where you make your other indexes.
        for index in MINUTES.indexes():
            await db["users"].create_index(index.keys, **index.options)

        quota = AsyncQuota(db, MINUTES)
        user = f"user-{uuid.uuid4().hex[:8]}"

        # A decision is true when the call may go ahead.
        decision = await quota.consume(user, 5)
        print(f"allowed: {decision.allowed}, left this hour: {decision.remaining['hour']}")

        # Twenty requests at once for 5 minutes each, and room for eleven of them.
        decisions = await asyncio.gather(*(quota.consume(user, 5) for _ in range(20)))
        print(f"granted {sum(map(bool, decisions))} of {len(decisions)}")

        # A refused call changes nothing. `require` raises instead.
        try:
            (await quota.consume(user, 5)).require()
        except LimitExceeded as error:
            print(f"refused by the {error.decision.limited_by}")

        # What has happened already is counted, room or not.
        decision = await quota.record(user, 2.5)
        print(f"used this month: {decision.used['month']}, past the limit of: {', '.join(decision.exceeded)}")


if __name__ == "__main__":
    asyncio.run(main())
