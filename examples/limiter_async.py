"""Limit how often somebody may try to log in: PyMongo's async API.

Run it with `MONGODB_URI=mongodb://localhost:27017 python examples/limiter_async.py`.

With Motor one line differs, where the client is made:
`client = motor.motor_asyncio.AsyncIOMotorClient(uri)`, which is closed by `client.close()`.
"""

import asyncio
import os
import uuid

from pymongo import AsyncMongoClient

from mongopatterns import AsyncRateLimiter, LimitExceeded, Rate, RateLimiterSpec

# Defined once, at import. Each key has one small document, which the server deletes when it means nothing any more.
LOGIN = RateLimiterSpec("login_limits", Rate(5, per=3600), algorithm="sliding")
# Twenty at once, and then ten a minute: for a client that works in batches.
EXPORT = RateLimiterSpec("export_limits", Rate(10, per=60), algorithm="token_bucket", burst=20)


async def main() -> None:
    uri = os.environ.get("MONGODB_URI", "mongodb://localhost:27017")
    database = os.environ.get("MONGODB_DATABASE", "mongopatterns_examples")
    async with AsyncMongoClient(uri) as client:
        db = client[database]

        # By this index the server deletes what has expired. Do this where you make your other indexes.
        for spec in (LOGIN, EXPORT):
            for index in spec.indexes():
                await db[spec.collection].create_index(index.keys, **index.options)

        user = f"user-{uuid.uuid4().hex[:8]}"

        # A decision is true when the call may go ahead. Forty tries at once, and room for five of them.
        login = AsyncRateLimiter(db, LOGIN)
        decisions = await asyncio.gather(*(login.hit(user) for _ in range(40)))
        print(f"admitted {sum(map(bool, decisions))} of {len(decisions)}")

        # A refused call changes nothing. `require` raises instead, and the verdict says when to try again.
        try:
            (await login.hit(user)).require()
        except LimitExceeded as error:
            print(f"refused, with Retry-After: {'Retry-After' in error.decision.headers()}")

        # The right password: what was counted is forgotten.
        print(f"forgotten: {await login.reset(user)}, left: {(await login.peek(user)).remaining}")

        # Callers on one key at the same time share round trips, and each gets its own exact verdict: ten times two.
        async with AsyncRateLimiter(db, EXPORT, combine=True) as export:
            decisions = await asyncio.gather(*(export.hit(user, cost=2) for _ in range(15)))
        print(f"admitted {sum(map(bool, decisions))} of {len(decisions)}")


if __name__ == "__main__":
    asyncio.run(main())
