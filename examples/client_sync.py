"""Connect within what the server takes, with one client for a process: PyMongo.

Run it with `MONGODB_URI=mongodb://localhost:27017 python examples/client_sync.py`.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import replace

from pymongo import MongoClient

from mongopatterns import PoolBudget, PoolMonitor, Profile, Tier, UsageError, shared_client

URI = os.environ.get("MONGODB_URI", "mongodb://localhost:27017")
DATABASE = os.environ.get("MONGODB_DATABASE", "mongopatterns_examples")

# Defined once, at import: who shares the server's connections, and what this process is.
BUDGET = PoolBudget(tier=Tier.M10, processes=60)
PROFILE = replace(Profile.WEB, name="orders", timeoutMS=5_000, serverSelectionTimeoutMS=5_000)
MONITOR = PoolMonitor(budget=BUDGET.plan(PROFILE))


def connect() -> AbstractContextManager[MongoClient[dict[str, object]]]:
    """Enter the client of this process: whoever asks has the same one."""
    return shared_client(URI, profile=PROFILE, budget=BUDGET, app_name="orders", event_listeners=[MONITOR])


def order(number: int) -> int:
    """Stand for a request."""
    with connect() as client:
        client[DATABASE]["orders"].replace_one({"_id": number}, {"paid": True}, upsert=True)
        return id(client)


def main() -> None:
    print(BUDGET.plan(PROFILE))
    print("timeoutMS:", PROFILE.why["timeoutMS"])

    # As long as the process holds it, everybody has it.
    with connect() as client:
        with ThreadPoolExecutor(max_workers=40) as threads:
            clients = list(threads.map(order, range(100)))
        print("clients:", len(set(clients)), "orders:", client[DATABASE]["orders"].count_documents({}))
        most = max(server.most_in_use for server in MONITOR.snapshot().servers)
        print("within the budget:", most <= BUDGET.plan(PROFILE).max_pool_size)

    # What does not fit is known at the start.
    try:
        PoolBudget(tier=Tier.M0, processes=400).plan(PROFILE)
    except UsageError as error:
        print(error)


if __name__ == "__main__":
    main()
