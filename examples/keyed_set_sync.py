"""Let many people react to messages at once, within bounds: PyMongo.

Run it with `MONGODB_URI=mongodb://localhost:27017 python examples/keyed_set_sync.py`.
"""

import os
from concurrent.futures import ThreadPoolExecutor

from bson import ObjectId
from pymongo import MongoClient

from mongopatterns import KeyedSet, KeyedSetSpec

# Defined once, at import. In each message: {"reactions": {"👍": ["u1", ...]}, "reacted": {"👍": 1}}.
REACT = KeyedSetSpec("messages", path="reactions", counts="reacted", key_type=ObjectId, max_keys=20, max_members=50)


def main() -> None:
    uri = os.environ.get("MONGODB_URI", "mongodb://localhost:27017")
    database = os.environ.get("MONGODB_DATABASE", "mongopatterns_examples")
    with MongoClient(uri) as client:
        db = client[database]
        react = KeyedSet(db, REACT)
        message = db.messages.insert_one({"text": "Who is in?"}).inserted_id

        # Eighty people from ten threads, and room for fifty of them. Each call is one round trip.
        with ThreadPoolExecutor(max_workers=10) as threads:
            verdicts = list(threads.map(lambda number: react.add(message, "👍", f"u{number}"), range(80)))
        print(f"{sum(map(bool, verdicts))} of {len(verdicts)} are in, stored {len(react.members(message, '👍'))}")

        # A click that takes back what the last one did; the server decides which it is.
        for _ in range(2):
            verdict = react.toggle(message, "$ party.time", "u1")
            print(f"{verdict.outcome.value}: {verdict.size}")

        # Who is in already stays in, and nothing is written.
        print(f"again: {react.add(message, '👍', react.members(message, '👍')[0]).outcome.value}")

        # The numbers stand beside the members, for lists that need no more.
        print(db.messages.find_one({"_id": message}, {"_id": 0, "reacted": 1})["reacted"])

        # One member in many documents, in one command.
        others = db.messages.insert_many([{} for _ in range(3)]).inserted_ids
        many = react.add_many([*others, ObjectId()], "seen", "u1")
        print(f"added {many.added}, missing {many.missing}")


if __name__ == "__main__":
    main()
