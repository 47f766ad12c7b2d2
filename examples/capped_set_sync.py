"""Seat people in a party: nobody twice, nobody lost, nobody refused who fits: PyMongo.

Run it with `MONGODB_URI=mongodb://localhost:27017 python examples/capped_set_sync.py`.
"""

import os
import uuid
from concurrent.futures import ThreadPoolExecutor

from pymongo import MongoClient

from mongopatterns import CappedSet, CappedSetSpec, Close, Field, JoinOutcome, Leader, LimitExceeded

# Defined once, at import. The members are an array in the party's own document, beside the fields that are yours.
SEATS = CappedSetSpec(
    "parties",
    path="participants",
    member_key="user_id",
    cap=Field("max_participants", default=10),  # read from the party, in the same write
    open_if={"ended_at": None},
    member_ttl=30,  # seconds without a heartbeat, on the server's clock
    leader=Leader("host"),
    close=Close(set_now=["ended_at"]),  # when the last one leaves
)


def main() -> None:
    uri = os.environ.get("MONGODB_URI", "mongodb://localhost:27017")
    database = os.environ.get("MONGODB_DATABASE", "mongopatterns_examples")
    with MongoClient(uri) as client:
        db = client[database]
        seats = CappedSet(db, SEATS)
        party = f"party-{uuid.uuid4().hex[:8]}"
        db["parties"].insert_one({"_id": party, "title": "Friday night"})

        # The first one in is the host. A result is true when the member has a seat.
        result = seats.join(party, {"user_id": "ann", "name": "Ann"})
        print(f"{result.outcome.value}: {result.size} of {result.cap}, host: {result.leader}")

        # Forty calls from ten threads for nine seats: twenty people, and each of them clicks twice.
        with ThreadPoolExecutor(max_workers=10) as threads:
            results = list(threads.map(lambda n: seats.join(party, {"user_id": f"user-{n // 2}"}), range(40)))
        joined = sum(result.outcome is JoinOutcome.JOINED for result in results)
        members = seats.members(party)
        print(f"joined {joined}, different people stored: {len({member['user_id'] for member in members})}")

        # A refused call changes nothing. `require` raises instead.
        try:
            seats.join(party, {"user_id": "late"}).require()
        except LimitExceeded as error:
            print(f"refused: {error.decision.size} of {error.decision.cap} seats are taken")

        # A heartbeat. Who has none for 30 seconds loses the seat to the next one who needs it.
        print(f"still there: {bool(seats.touch(party, 'ann'))}")

        # The host leaves: the same write makes the one who came next the host.
        left = seats.leave(party, "ann")
        print(f"the next host is who came next: {left.leader == members[1]['user_id']}")

        # Nine together, or none of them: there is one seat.
        group = [{"user_id": f"friend-{n}"} for n in range(9)]
        together = seats.join_many(party, group)
        print(f"all nine: {bool(together)}, of them joined: {len(together.joined)}")

        # The last one out closes the party.
        for member in members[1:]:
            left = seats.leave(party, member["user_id"])
        print(f"closed: {left.closed}, and now: {seats.join(party, {'user_id': 'ann'}).outcome.value}")


if __name__ == "__main__":
    main()
