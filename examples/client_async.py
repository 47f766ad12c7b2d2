"""Connect within what the server takes, with one client for a process: PyMongo's async API.

Run it with `MONGODB_URI=mongodb://localhost:27017 python examples/client_async.py`.

With Motor one argument more is given in `connect`: `client_class=motor.motor_asyncio.AsyncIOMotorClient`.
"""

import asyncio
import os
from contextlib import AbstractAsyncContextManager
from dataclasses import replace

from pymongo import AsyncMongoClient

from mongopatterns import PoolBudget, PoolMonitor, Profile, Tier, UsageError, shared_async_client

URI = os.environ.get("MONGODB_URI", "mongodb://localhost:27017")
DATABASE = os.environ.get("MONGODB_DATABASE", "mongopatterns_examples")

# Defined once, at import: who shares the server's connections, and what this process is.
BUDGET = PoolBudget(tier=Tier.M10, processes=60)
PROFILE = replace(Profile.WEB, name="orders", timeoutMS=5_000, serverSelectionTimeoutMS=5_000)
MONITOR = PoolMonitor(budget=BUDGET.plan(PROFILE))


def connect() -> AbstractAsyncContextManager[AsyncMongoClient[dict[str, object]]]:
    """Enter the client of this process: whoever asks has the same one."""
    return shared_async_client(URI, profile=PROFILE, budget=BUDGET, app_name="orders", event_listeners=[MONITOR])


async def order(number: int) -> int:
    """Stand for a request."""
    async with connect() as client:
        await client[DATABASE]["orders"].replace_one({"_id": number}, {"paid": True}, upsert=True)
        return id(client)


async def main() -> None:
    print(BUDGET.plan(PROFILE))
    print("timeoutMS:", PROFILE.why["timeoutMS"])

    # As long as the process holds it, everybody has it: a lifespan does this.
    async with connect() as client:
        clients = await asyncio.gather(*(order(number) for number in range(100)))
        print("clients:", len(set(clients)), "orders:", await client[DATABASE]["orders"].count_documents({}))
        most = max(server.most_in_use for server in MONITOR.snapshot().servers)
        print("within the budget:", most <= BUDGET.plan(PROFILE).max_pool_size)

    # What does not fit is known at the start.
    try:
        PoolBudget(tier=Tier.M0, processes=400).plan(PROFILE)
    except UsageError as error:
        print(error)


if __name__ == "__main__":
    asyncio.run(main())
