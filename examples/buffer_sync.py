"""Track usage and audit events without a round trip for each: PyMongo.

Run it with `MONGODB_URI=mongodb://localhost:27017 python examples/buffer_sync.py`.
"""

import os
import tempfile

from pymongo import MongoClient
from pymongo.errors import DuplicateKeyError

from mongopatterns import DeadLetter, WriteBuffer


def main() -> None:
    uri = os.environ.get("MONGODB_URI", "mongodb://localhost:27017")
    database = os.environ.get("MONGODB_DATABASE", "mongopatterns_examples")
    letters: list[DeadLetter] = []
    with MongoClient(uri) as client:
        db = client[database]
        for name in ("audit", "usage", "bills"):
            db[name].drop()

        # One buffer for the whole process; what was accepted is sent before it ends. Threads of its own send.
        with WriteBuffer(client, on_dead_letter=letters.append) as buffer:
            # A thousand requests: an audit event each, and two counters, which are merged before they are sent.
            for number in range(1000):
                buffer.insert(db.audit, {"_id": number, "user": f"u{number % 7}", "action": "view"})
                buffer.increment(db.usage, f"u{number % 7}", {"calls": 1, "cost": 0.1}, set_now=["seen"])

            # Who needs to know waits for the acknowledgement.
            ack = buffer.insert(db.audit, {"user": "u0", "action": "pay"})
            print("stored:", ack.result() == ack.key)

            # One bad write fails alone: it is told to who waits, or is a dead letter.
            try:
                buffer.insert(db.audit, {"_id": 7}).result()
            except DuplicateKeyError:
                print("refused: there is one with this id")
            buffer.insert(db.audit, {"_id": 8})

        print("events:", db.audit.count_documents({}))
        usage = db.usage.find_one({"_id": "u0"})
        print("u0:", usage["calls"], "calls for", usage["cost"])
        print("dead letters:", [(letter.operation, letter.key) for letter in letters])
        stats = buffer.stats
        print("a tenth as many batches, or fewer:", stats.batches * 10 <= stats.accepted)

        # Billing: never lost, never counted twice, though the process may be killed at any moment.
        with (
            tempfile.TemporaryDirectory() as spool,
            WriteBuffer(client, spool=spool, delivery="exactly_once", ledger=db.ledger) as buffer,
        ):
            for _ in range(100):
                buffer.increment(db.bills, "ann", {"minutes": 0.5})
        print("billed:", db.bills.find_one({"_id": "ann"})["minutes"])


if __name__ == "__main__":
    main()
