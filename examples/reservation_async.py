"""Hold minutes while a job runs, and charge what it took: PyMongo's async API.

Run it with `MONGODB_URI=mongodb://localhost:27017 python examples/reservation_async.py`.

With Motor one line differs, where the client is made:
`client = motor.motor_asyncio.AsyncIOMotorClient(uri)`, which is closed by `client.close()`.
"""

import asyncio
import os
import uuid

from pymongo import AsyncMongoClient

from mongopatterns import AsyncQuota, QuotaSpec, Window

# Defined once, at import. The web application and the worker import the same definition.
DUBBING = QuotaSpec("users", path="quota.dubbing", windows=[Window.day(100)])


async def work(quota: AsyncQuota, token: str, used: float | None) -> None:
    """Do a job in a process of its own: it needs the definition and the token."""
    if used is None:  # it failed: nothing is charged
        print(f"released: {await quota.release(token)}")
        return
    settlement = await quota.settle(token, used)
    print(f"{settlement.outcome.value}: held {settlement.reserved}, charged now: {bool(settlement)}")


async def main() -> None:
    uri = os.environ.get("MONGODB_URI", "mongodb://localhost:27017")
    database = os.environ.get("MONGODB_DATABASE", "mongopatterns_examples")
    async with AsyncMongoClient(uri) as client:
        quota = AsyncQuota(client[database], DUBBING)
        user = f"user-{uuid.uuid4().hex[:8]}"

        # Five requests at once for 30 minutes each, and room for three of them. A reservation is true if the amount is
        # held. If nobody settles, it ends by itself after `ttl` seconds on the server's clock.
        asked = await asyncio.gather(*(quota.reserve(user, 30, ttl=3600) for _ in range(5)))
        held = [reservation for reservation in asked if reservation.token]
        print(f"held {len(held)} of {len(asked)}, free: {(await quota.peek(user)).remaining['day']}")

        first, second, third = (str(reservation.token) for reservation in held)
        await work(quota, first, 22.5)  # less than was held: the rest is free again
        await work(quota, first, 22.5)  # the queue delivers the job again: it is charged once
        await work(quota, second, None)
        await work(quota, third, 40)  # more than was held: it has happened, and is charged in full

        decision = await quota.peek(user)
        print(f"used {decision.used['day']}, held {decision.held}, free {decision.remaining['day']}")


if __name__ == "__main__":
    asyncio.run(main())
