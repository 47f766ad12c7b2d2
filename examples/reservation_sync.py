"""Hold minutes while a job runs, and charge what it took: PyMongo.

Run it with `MONGODB_URI=mongodb://localhost:27017 python examples/reservation_sync.py`.
"""

import os
import uuid
from concurrent.futures import ThreadPoolExecutor

from pymongo import MongoClient

from mongopatterns import Quota, QuotaSpec, Window

# Defined once, at import. The web application and the worker import the same definition.
DUBBING = QuotaSpec("users", path="quota.dubbing", windows=[Window.day(100)])


def work(quota: Quota, token: str, used: float | None) -> None:
    """Do a job in a process of its own: it needs the definition and the token."""
    if used is None:  # it failed: nothing is charged
        print(f"released: {quota.release(token)}")
        return
    settlement = quota.settle(token, used)
    print(f"{settlement.outcome.value}: held {settlement.reserved}, charged now: {bool(settlement)}")


def main() -> None:
    uri = os.environ.get("MONGODB_URI", "mongodb://localhost:27017")
    database = os.environ.get("MONGODB_DATABASE", "mongopatterns_examples")
    with MongoClient(uri) as client:
        quota = Quota(client[database], DUBBING)
        user = f"user-{uuid.uuid4().hex[:8]}"

        # Five requests from five threads for 30 minutes each, and room for three of them. A reservation is true if the
        # amount is held. If nobody settles, it ends by itself after `ttl` seconds on the server's clock.
        with ThreadPoolExecutor(max_workers=5) as threads:
            asked = list(threads.map(lambda _: quota.reserve(user, 30, ttl=3600), range(5)))
        held = [reservation for reservation in asked if reservation.token]
        print(f"held {len(held)} of {len(asked)}, free: {quota.peek(user).remaining['day']}")

        first, second, third = (str(reservation.token) for reservation in held)
        work(quota, first, 22.5)  # less than was held: the rest is free again
        work(quota, first, 22.5)  # the queue delivers the job again: it is charged once
        work(quota, second, None)
        work(quota, third, 40)  # more than was held: it has happened, and is charged in full

        decision = quota.peek(user)
        print(f"used {decision.used['day']}, held {decision.held}, free {decision.remaining['day']}")


if __name__ == "__main__":
    main()
