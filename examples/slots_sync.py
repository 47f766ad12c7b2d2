"""At most three streams a user, on any number of machines: PyMongo.

Run it with `MONGODB_URI=mongodb://localhost:27017 python examples/slots_sync.py`.
"""

import os
import uuid
from concurrent.futures import ThreadPoolExecutor

from pymongo import MongoClient

from mongopatterns import LimitExceeded, Slots, SlotsSpec

# Defined once, at import. A stream that is not renewed for half a minute gives its slot back by itself.
STREAMS = SlotsSpec("streams", cap=3, ttl=30)


def main() -> None:
    uri = os.environ.get("MONGODB_URI", "mongodb://localhost:27017")
    database = os.environ.get("MONGODB_DATABASE", "mongopatterns_examples")
    with MongoClient(uri) as client:
        db = client[database]

        # The first index keeps the cap. Do this where you make your other indexes.
        for index in STREAMS.indexes():
            db.streams.create_index(index.keys, **index.options)

        slots = Slots(db, STREAMS)
        user = f"user-{uuid.uuid4().hex[:8]}"

        # A verdict is true if the call did what it was for. Twenty devices from ten threads, and slots for three of
        # them.
        with ThreadPoolExecutor(max_workers=10) as threads:
            asked = list(threads.map(lambda device: slots.acquire(user, data={"device": device}), range(20)))
        streams = [slot for slot in asked if slot]
        print(f"streaming: {slots.size(user)} of {len(asked)}, on slots {sorted(slot.slot for slot in streams)}")
        first, second, third = streams

        # A token is text: whoever plays the stream renews it, in this process or another.
        print(f"renewed: {bool(slots.renew(str(first.token)))}")

        try:
            slots.acquire(user).require()
        except LimitExceeded as error:
            print(f"refused: all {error.decision.cap} are held")

        # Somebody with a larger plan has more.
        print(f"with a family plan: {slots.acquire(user, cap=5).outcome.value}")

        # Released, a slot is free at once; the old token is worth nothing from then on.
        outcomes = [slots.release(second).outcome.value for _ in range(2)]
        print(f"released: {outcomes[0]}, again: {outcomes[1]}")
        print(f"next: {slots.acquire(user).outcome.value}")

        # Sign out one of the others.
        for held in slots.holders(user):
            if held.token == third.token:
                slots.release(held)
        print(f"the third one: {slots.renew(third).outcome.value}")


if __name__ == "__main__":
    main()
