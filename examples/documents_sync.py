"""Save answers, keep their last versions, and accept a code once, whoever comes first: PyMongo.

Run it with `MONGODB_URI=mongodb://localhost:27017 python examples/documents_sync.py`.
"""

import datetime as dt
import os
from concurrent.futures import ThreadPoolExecutor

from bson import ObjectId
from pymongo import MongoClient

from mongopatterns import Documents, DocumentSpec, Stored

# Defined once, at import: the collection, and the fields that tell its documents apart.
RESPONSES = DocumentSpec("responses", key=("question_id", "user_id"))
CODES = DocumentSpec("login_codes")


def main() -> None:
    uri = os.environ.get("MONGODB_URI", "mongodb://localhost:27017")
    database = os.environ.get("MONGODB_DATABASE", "mongopatterns_examples")
    with MongoClient(uri) as client, ThreadPoolExecutor(max_workers=10) as threads:
        db = client[database]
        # The unique index is what everything here stands on.
        for index in RESPONSES.indexes():
            db[RESPONSES.collection].create_index(index.keys, **index.options)

        # Bound where a connection exists. Threads share the client; a forked process makes its own.
        responses, codes = Documents(db, RESPONSES), Documents(db, CODES)
        question = ObjectId()

        # Fifty requests for a document that is not there: one makes it, all get it.
        stored = list(threads.map(lambda _: responses.get_or_create((question, "ann"), {"status": "open"}), range(50)))
        made = sum(created for _, created in stored)
        print(f"made by {made} of 50, different documents {len({document['_id'] for document, _ in stored})}")

        # Fifty saves from ten threads: none is lost, and the last twenty stay in the history.
        def save(number: int) -> Stored:
            return responses.upsert(
                (question, "ann"),
                set={"status": "answered", "answer.text": f"text {number}"},
                inc={"saves": 1},
                push_last={"history": number},
                keep=20,
                set_now=["updated_at"],
            )

        last, created = max(threads.map(save, range(50)), key=lambda told: told.document["saves"])
        print(f"made: {created}, saves {last['saves']}, history {len(last['history'])}")

        # A code that works once, and not after its end.
        code = str(ObjectId())
        in_ten_minutes = dt.datetime.now(dt.timezone.utc) + dt.timedelta(minutes=10)
        codes.get_or_create(code, {"user": "ann", "expires_at": in_ten_minutes})
        taken = list(threads.map(lambda _: codes.take(code, unexpired="expires_at"), range(50)))
        print(f"accepted {sum(document is not None for document in taken)} of 50")

        codes.get_or_create(code, {"expires_at": dt.datetime(2020, 1, 1, tzinfo=dt.timezone.utc)})
        print(f"expired: {codes.take(code, unexpired='expires_at') is None}")


if __name__ == "__main__":
    main()
