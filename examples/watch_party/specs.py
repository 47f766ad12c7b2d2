"""What the application needs of its database, as frozen values: nothing here connects.

A party is one document, and a message is one. `SCHEMA` has the indexes that the patterns need, and the validator.
"""

from bson import ObjectId

from examples.watch_party.models import Message
from mongopatterns import (
    CappedSetSpec,
    Close,
    CollectionSpec,
    Field,
    KeyedSetSpec,
    Leader,
    PagerSpec,
    PoolBudget,
    Rate,
    RateLimiterSpec,
    Requirements,
    SchemaSpec,
    Tier,
    UniqueCodeSpec,
    Validator,
)

# A code belongs to a party until it has ended, and is free from then on.
CODES = UniqueCodeSpec("parties", path="code", live={"ended_at": None})

SEATS = CappedSetSpec(
    "parties",
    path="members",
    member_key="user",
    key_type=ObjectId,  # ids come as text, from an address
    cap=Field("seats"),  # each party says how many it has
    open_if={"ended_at": None},
    member_ttl=90,  # seconds without a word
    leader=Leader("host"),  # who opened it; then who has been there longest
    close=Close(set_now=["ended_at"]),  # when the last one leaves
)

# Five messages at once, and then one every two seconds: for each member of each party.
POSTING = RateLimiterSpec("limits", Rate(30, per=60), algorithm="token_bucket", burst=5)

# The newest page first, and each page from top to bottom.
HISTORY = PagerSpec("messages", sort=[("sent_at", -1)], limit=20, filter_by=["party"], reading_order=True)

REACTIONS = KeyedSetSpec("messages", path="reactions", key_type=ObjectId, max_keys=20, max_members=100)

SCHEMA = SchemaSpec(
    [
        CollectionSpec("messages", validator=Validator.from_model(Message)),
        *(CODES, SEATS, POSTING, HISTORY, REACTIONS),
    ]
)

# Messages are dated by the process that takes them: the clocks should agree about who was first.
NEEDS = Requirements(max_clock_difference=2)

# Twenty processes at most, also while a deployment rolls on, on a cluster that takes 500 connections.
BUDGET = PoolBudget(tier=Tier.M0, processes=20)
