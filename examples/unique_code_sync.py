"""Room codes that no two live parties share: PyMongo.

Run it with `MONGODB_URI=mongodb://localhost:27017 python examples/unique_code_sync.py`.
"""

import os
import uuid
from concurrent.futures import ThreadPoolExecutor

from pymongo import MongoClient

from mongopatterns import Conflict, UniqueCode, UniqueCodeSpec

# Defined once, at import. A party is live as long as it has no end; then its code is free for others.
CODES = UniqueCodeSpec("parties", path="room_code", live={"ended_at": None}, length=6)


def main() -> None:
    uri = os.environ.get("MONGODB_URI", "mongodb://localhost:27017")
    database = os.environ.get("MONGODB_DATABASE", "mongopatterns_examples")
    with MongoClient(uri) as client:
        db = client[database]

        # It is this index that keeps codes apart. Do this where you make your other indexes.
        for index in CODES.indexes():
            db.parties.create_index(index.keys, **index.options)

        codes = UniqueCode(db, CODES)

        # A hundred parties from ten threads. Nothing is checked before: a code that is taken is refused, and another is
        # tried.
        with ThreadPoolExecutor(max_workers=10) as threads:
            parties = list(threads.map(lambda number: codes.insert({"host": f"host {number}"}), range(100)))
        print(f"parties: {len(parties)}, different codes: {len({party['room_code'] for party in parties})}")

        party = codes.find(parties[7]["room_code"], fields=["host"])
        print(f"found: {party and party['host']}")

        # A document that is there already gets a code once, however many ask.
        tea = db.parties.insert_one({"host": "bob"}).inserted_id
        with ThreadPoolExecutor(max_workers=10) as threads:
            print(f"assigned: {len(set(threads.map(lambda _: codes.assign(tea), range(10))))} code")

        # A code of one's own is that or none.
        slug = f"tea-{uuid.uuid4().hex[:8]}"
        first = codes.insert({"host": "cay"}, code=slug)
        try:
            codes.insert({"host": "dan"}, code=slug)
        except Conflict as error:
            print(f"taken: {error.key == slug}")

        # The party is over: its code is free.
        db.parties.update_one({"_id": first["_id"]}, {"$set": {"ended_at": "now"}})
        print(f"given again: {codes.insert({'host': 'dan'}, code=slug)['host']}")


if __name__ == "__main__":
    main()
