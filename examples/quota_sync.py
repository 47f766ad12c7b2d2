"""Limit what a user consumes per hour, day and month: PyMongo.

Run it with `MONGODB_URI=mongodb://localhost:27017 python examples/quota_sync.py`.
"""

import os
import uuid
from concurrent.futures import ThreadPoolExecutor

from pymongo import MongoClient

from mongopatterns import Field, LimitExceeded, Quota, QuotaSpec, Rollover, Times, Window

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


def main() -> None:
    uri = os.environ.get("MONGODB_URI", "mongodb://localhost:27017")
    database = os.environ.get("MONGODB_DATABASE", "mongopatterns_examples")
    with MongoClient(uri) as client:
        db = client[database]

        # The key field needs a unique index, unless it is _id. Do this where you make your other indexes.
        for index in MINUTES.indexes():
            db["users"].create_index(index.keys, **index.options)

        quota = Quota(db, MINUTES)
        user = f"user-{uuid.uuid4().hex[:8]}"

        # A decision is true when the call may go ahead.
        decision = quota.consume(user, 5)
        print(f"allowed: {decision.allowed}, left this hour: {decision.remaining['hour']}")

        # Twenty requests from ten threads for 5 minutes each, and room for eleven of them.
        with ThreadPoolExecutor(max_workers=10) as threads:
            decisions = list(threads.map(lambda _: quota.consume(user, 5), range(20)))
        print(f"granted {sum(map(bool, decisions))} of {len(decisions)}")

        # A refused call changes nothing. `require` raises instead.
        try:
            quota.consume(user, 5).require()
        except LimitExceeded as error:
            print(f"refused by the {error.decision.limited_by}")

        # What has happened already is counted, room or not.
        decision = quota.record(user, 2.5)
        print(f"used this month: {decision.used['month']}, past the limit of: {', '.join(decision.exceeded)}")


if __name__ == "__main__":
    main()
