"""Seats, reactions, slots and codes against what they replace.

The best join that can be written by hand is correct, and as quick as we could make it: one `find_one_and_update` whose
filter is the key alone, with all conditions in the pipeline, which tells the same outcomes by a projection of the
document before the write. Unlike the primitive it takes what is stored on trust. The usual version reads the document,
checks, and saves it under a version, again and again until nobody was quicker: it is correct, too, and its callers
stand in each other's way.

Before each turn both sides put the document back, untimed: the set then has the members that the row names, and grows
by those that the turn seats.
"""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

from pymongo import ReturnDocument
from pymongo.errors import DuplicateKeyError

from benchmarks._ratios import AtLeastTimes, AtMost
from benchmarks._rows import EVERYWHERE, MANY_KEYS, Calls, Measurable, Row
from benchmarks._worlds import World
from benchmarks.counters import HOUR, clock, majority
from mongopatterns import (
    AsyncCappedSet,
    AsyncKeyedSet,
    AsyncSlots,
    AsyncUniqueCode,
    CappedSet,
    CappedSetSpec,
    Conflict,
    Field,
    JoinResult,
    KeyedSet,
    KeyedSetSpec,
    Slots,
    SlotsSpec,
    UniqueCode,
    UniqueCodeSpec,
)

PARTIES: Final = CappedSetSpec(
    "parties", path="participants", member_key="user_id", cap=Field("max_participants"), open_if={"ended_at": None}
)
ROOM: Final = 10**6
NOBODY: Final = "nobody"


class Told(NamedTuple):
    """What a caller who wants to join is told."""

    outcome: str
    size: int
    cap: int | None


def told_of(result: JoinResult | None) -> Told | None:
    return None if result is None else Told(result.outcome.value, result.size, result.cap)


def party(key: str, members: int, cap: int) -> dict[str, Any]:
    """Make the document of a party; one whose name says so is full."""
    seated = [{"user_id": f"member-{number}", "name": "Ann"} for number in range(members)]
    return {
        "_id": key,
        "title": "Friday",
        "ended_at": None,
        "max_participants": cap,
        "version": 0,
        "participants": seated,
    }


# By hand: one command ----------------------------------------------------------------------------------------

JOIN_TOLD: Final = {
    "_id": 0,
    "known": {"$in": ["$$id", "$participants.user_id"]},
    "size": {"$size": "$participants"},
    "cap": "$max_participants",
    "open": {"$lte": ["$ended_at", None]},
    "member": {"$first": {"$filter": {"input": "$participants", "cond": {"$eq": ["$$this.user_id", "$$id"]}}}},
}
JOIN_BY_HAND: Final = [
    {
        "$replaceWith": {
            "$cond": [
                {
                    "$and": [
                        {"$lte": ["$ended_at", None]},
                        {"$not": [{"$in": ["$$id", "$participants.user_id"]}]},
                        {"$lt": [{"$size": "$participants"}, "$max_participants"]},
                    ]
                },
                {"$mergeObjects": ["$$ROOT", {"participants": {"$concatArrays": ["$participants", ["$$member"]]}}]},
                "$$ROOT",
            ]
        }
    }
]


def join_arguments(key: str, member: dict[str, Any]) -> dict[str, Any]:
    return {
        "filter": {"_id": key},
        "update": JOIN_BY_HAND,
        "projection": JOIN_TOLD,
        "return_document": ReturnDocument.BEFORE,
        "let": {"id": {"$literal": member["user_id"]}, "member": {"$literal": member}},
    }


def read_join(image: dict[str, Any] | None) -> Told:
    if image is None:
        return Told("not_found", 0, None)
    if (
        "_id" in image
    ):  # the driver has repeated an applied write: the document as it was stored, without the projection
        seats, cap = image["participants"], image["max_participants"]
        return Told("joined", len(seats) + 1, cap)
    if image["known"]:
        return Told("already", image["size"], image["cap"])
    if not image["open"]:
        return Told("closed", image["size"], image["cap"])
    if image["size"] >= image["cap"]:
        return Told("full", image["size"], image["cap"])
    return Told("joined", image["size"] + 1, image["cap"])


# Find, check, save under a version: the usual repair -----------------------------------------------------------


def checked(document: dict[str, Any] | None, member: dict[str, Any]) -> Told | None:
    """Decide in memory; None if the member can be seated."""
    if document is None:
        return Told("not_found", 0, None)
    size, cap = len(document["participants"]), document["max_participants"]
    if any(one["user_id"] == member["user_id"] for one in document["participants"]):
        return Told("already", size, cap)
    if document["ended_at"] is not None:
        return Told("closed", size, cap)
    return Told("full", size, cap) if size >= cap else None


def seated(document: dict[str, Any], member: dict[str, Any]) -> dict[str, Any]:
    return {
        **document,
        "version": document["version"] + 1,
        "participants": [*document["participants"], member],
    }


def async_find_check_save(parties: Any) -> Callable[..., Any]:
    async def join(key: str, member: dict[str, Any]) -> Told:
        while True:
            document = await parties.find_one({"_id": key})
            if told := checked(document, member):
                return told
            saved = await parties.replace_one({"_id": key, "version": document["version"]}, seated(document, member))
            if saved.modified_count:
                return Told("joined", len(document["participants"]) + 1, document["max_participants"])

    return join


def find_check_save(parties: Any) -> Callable[..., Any]:
    def join(key: str, member: dict[str, Any]) -> Told:
        while True:
            document = parties.find_one({"_id": key})
            if told := checked(document, member):
                return told
            saved = parties.replace_one({"_id": key, "version": document["version"]}, seated(document, member))
            if saved.modified_count:
                return Told("joined", len(document["participants"]) + 1, document["max_participants"])

    return join


# The sides ---------------------------------------------------------------------------------------------------


class Seats:
    """Sides that seat members of a document which is put back on demand: to so many members."""

    def __init__(self, members: int) -> None:
        self._members = members

    def _member(self, ids: itertools.count[int], user: str | None) -> dict[str, Any]:
        return {"user_id": user or f"user-{next(ids)}", "name": "Ann"}

    def _side(
        self,
        collection: Callable[[Any], Any],
        aio: Callable[[Any], Callable[..., Any]],
        blocking: Callable[[Any], Callable[..., Any]],
        answer: Callable[[Any], Any] = lambda told: told,
    ) -> Calls:
        """Put a function that takes a key and a member into the form that the rows call."""

        def asynchronous(database: Any) -> Callable[..., Any]:
            parties, ids = collection(database), itertools.count()
            join = aio(parties)

            async def call(key: str, user: str | None = None, *, reset: int | None = None) -> Any:
                if reset is not None:
                    await parties.replace_one({"_id": key}, party(key, self._members, reset), upsert=True)
                    return None
                return await join(key, self._member(ids, user))

            return call

        def synchronous(database: Any) -> Callable[..., Any]:
            parties, ids = collection(database), itertools.count()
            join = blocking(parties)

            def call(key: str, user: str | None = None, *, reset: int | None = None) -> Any:
                if reset is not None:
                    parties.replace_one({"_id": key}, party(key, self._members, reset), upsert=True)
                    return None
                return join(key, self._member(ids, user))

            return call

        return Calls(asynchronous, synchronous, answer)

    def primitive(self, name: str = PARTIES.collection) -> Calls:
        def aio(parties: Any) -> Callable[..., Any]:
            return AsyncCappedSet(parties, PARTIES).join

        def blocking(parties: Any) -> Callable[..., Any]:
            return CappedSet(parties, PARTIES).join

        return self._side(lambda database: database[name], aio, blocking, told_of)

    def by_hand(self) -> Calls:
        def aio(parties: Any) -> Callable[..., Any]:
            async def join(key: str, member: dict[str, Any]) -> Told:
                return read_join(await parties.find_one_and_update(**join_arguments(key, member)))

            return join

        def blocking(parties: Any) -> Callable[..., Any]:
            def join(key: str, member: dict[str, Any]) -> Told:
                return read_join(parties.find_one_and_update(**join_arguments(key, member)))

            return join

        return self._side(majority, aio, blocking)

    def find_check_save(self) -> Calls:
        return self._side(majority, async_find_check_save, find_check_save)


# The calls on which both sides must agree, and the rows --------------------------------------------------------

AGREE: Final = (
    {"key": NOBODY, "user": "ann"},
    {"key": "agree", "reset": 13},
    *({"key": "agree", "user": f"user-{number // 2}"} for number in range(10)),
    *({"key": "agree", "user": f"member-{number}"} for number in (0, 9)),
)
TOGETHER: Final = tuple({"key": "agree-together", "user": f"user-{number % 20}"} for number in range(40))
OPEN: Final = ({"key": "hot", "reset": ROOM},)
FULL: Final = ({"key": "hot", "reset": 10},)
BEST: Final = AtMost(1.3)
CROWD: Final = (World("async", 50), World("sync", 50))

TEN: Final = Seats(10)
THOUSAND: Final = Seats(1000)


def join(what: str, against: str, theirs: Calls, **options: Any) -> Row:
    return Row(f"CappedSet.join, {what}", against, TEN.primitive(), theirs, AGREE, TOGETHER, **options)


ALONE: Final = (World("async", 1), World("sync", 1))


def larger(worlds: Sequence[World], target: AtMost | None) -> Row:
    sides = (THOUSAND.primitive(), TEN.primitive("small_parties"))
    return Row("CappedSet.join, a set of 1,000", "a set of 10", *sides, (), before=OPEN, worlds=worlds, target=target)


# Reactions: one toggle, by hand on a name that is known beforehand ---------------------------------------------

REACTIONS: Final = KeyedSetSpec("messages", path="reactions", max_members=100, create={})
LIKE: Final = "like"
TOGGLE_BY_HAND: Final = [
    {
        "$set": {
            "reactions.like": {
                "$cond": [
                    {"$in": ["$$member", {"$ifNull": ["$reactions.like", []]}]},
                    {"$filter": {"input": "$reactions.like", "cond": {"$ne": ["$$this", "$$member"]}}},
                    {
                        "$cond": [
                            {"$lt": [{"$size": {"$ifNull": ["$reactions.like", []]}}, 100]},
                            {"$concatArrays": [{"$ifNull": ["$reactions.like", []]}, ["$$member"]]},
                            "$reactions.like",
                        ]
                    },
                ]
            }
        }
    }
]
TOGGLE_TOLD: Final = {
    "_id": 0,
    "known": {"$in": ["$$member", {"$ifNull": ["$reactions.like", []]}]},
    "size": {"$size": {"$ifNull": ["$reactions.like", []]}},
}


def toggle_arguments(key: str, member: str) -> dict[str, Any]:
    return {
        "filter": {"_id": key},
        "update": TOGGLE_BY_HAND,
        "projection": TOGGLE_TOLD,
        "return_document": ReturnDocument.BEFORE,
        "upsert": True,
        "let": {"member": {"$literal": member}},
    }


def read_toggle(image: dict[str, Any] | None) -> tuple[bool, int]:
    if image is None:
        return True, 1
    if image["known"]:
        return False, image["size"] - 1
    return (True, image["size"] + 1) if image["size"] < 100 else (False, image["size"])


def async_toggle(database: Any) -> Callable[..., Any]:
    react = AsyncKeyedSet(database, REACTIONS)

    async def toggle(key: str, member: str = "ann") -> tuple[bool, int]:
        result = await react.toggle(key, LIKE, member)
        return result.present, result.size

    return toggle


def toggle(database: Any) -> Callable[..., Any]:
    react = KeyedSet(database, REACTIONS)

    def toggled(key: str, member: str = "ann") -> tuple[bool, int]:
        result = react.toggle(key, LIKE, member)
        return result.present, result.size

    return toggled


def async_toggle_by_hand(database: Any) -> Callable[..., Any]:
    messages = majority(database)

    async def toggle(key: str, member: str = "ann") -> tuple[bool, int]:
        return read_toggle(await messages.find_one_and_update(**toggle_arguments(key, member)))

    return toggle


def toggle_by_hand(database: Any) -> Callable[..., Any]:
    messages = majority(database)

    def toggle(key: str, member: str = "ann") -> tuple[bool, int]:
        return read_toggle(messages.find_one_and_update(**toggle_arguments(key, member)))

    return toggle


TOGGLES: Final = tuple({"key": "agree", "member": f"user-{number % 3}"} for number in range(9))


# Slots: acquire, and release again, against a document per stream that is counted first --------------------------

STREAMS: Final = SlotsSpec("streams", cap=64, ttl=3600)


def async_slots(database: Any) -> Callable[..., Any]:
    slots = AsyncSlots(database, STREAMS)

    async def watch(key: str) -> bool:
        slot = await slots.acquire(key)
        return bool(slot) and bool(await slots.release(slot))

    return watch


def slots(database: Any) -> Callable[..., Any]:
    streams = Slots(database, STREAMS)

    def watch(key: str) -> bool:
        slot = streams.acquire(key)
        return bool(slot) and bool(streams.release(slot))

    return watch


def async_count_insert(database: Any) -> Callable[..., Any]:
    streams = majority(database)

    async def watch(key: str) -> bool:
        if await streams.count_documents({"owner": key, "until": {"$gt": clock()}}) >= STREAMS.cap:
            return False
        stream = await streams.insert_one({"owner": key, "until": clock() + HOUR})
        return (await streams.delete_one({"_id": stream.inserted_id})).deleted_count == 1

    return watch


def count_insert(database: Any) -> Callable[..., Any]:
    streams = majority(database)

    def watch(key: str) -> bool:
        if streams.count_documents({"owner": key, "until": {"$gt": clock()}}) >= STREAMS.cap:
            return False
        stream = streams.insert_one({"owner": key, "until": clock() + HOUR})
        return streams.delete_one({"_id": stream.inserted_id}).deleted_count == 1

    return watch


# Codes: insert with a random one, and with another one when it is taken -------------------------------------------

ROOMS: Final = UniqueCodeSpec("rooms", path="code", live={"open": True})
ROOMS_BY_HAND: Final = UniqueCodeSpec("by_hand", path="code", live={"open": True})
TAKEN: Final = ("taken", 0)


def room(key: str) -> dict[str, Any]:
    return {"name": key, "open": True, "players": []}


def drawn() -> str:
    return "".join(secrets.choice(ROOMS.alphabet) for _ in range(ROOMS.length))


def told_room(document: dict[str, Any]) -> tuple[str, int]:
    return document["name"], len(document["code"])


def async_code(database: Any) -> Callable[..., Any]:
    codes = AsyncUniqueCode(database, ROOMS)

    async def insert(key: str, code: str | None = None) -> tuple[str, int]:
        try:
            return told_room(await codes.insert(room(key), code=code))
        except Conflict:
            return TAKEN

    return insert


def code(database: Any) -> Callable[..., Any]:
    codes = UniqueCode(database, ROOMS)

    def insert(key: str, code: str | None = None) -> tuple[str, int]:
        try:
            return told_room(codes.insert(room(key), code=code))
        except Conflict:
            return TAKEN

    return insert


def is_taken(error: DuplicateKeyError) -> bool:
    """Tell whether it was the code: another unique index would refuse every one of them."""
    return (error.details or {}).get("keyPattern") == {"code": 1}


def async_insert_retry(database: Any) -> Callable[..., Any]:
    rooms = majority(database)

    async def insert(key: str, code: str | None = None) -> tuple[str, int]:
        for _ in range(1 if code else ROOMS.tries):
            document = {**room(key), "code": code or drawn()}
            try:
                await rooms.insert_one(document)
            except DuplicateKeyError as error:
                if not is_taken(error):
                    raise
            else:
                return told_room(document)
        return TAKEN

    return insert


def insert_retry(database: Any) -> Callable[..., Any]:
    rooms = majority(database)

    def insert(key: str, code: str | None = None) -> tuple[str, int]:
        for _ in range(1 if code else ROOMS.tries):
            document = {**room(key), "code": code or drawn()}
            try:
                rooms.insert_one(document)
            except DuplicateKeyError as error:
                if not is_taken(error):
                    raise
            else:
                return told_room(document)
        return TAKEN

    return insert


CODED: Final = tuple({"key": "agree", "code": code} for code in (None, "FRIDAY", "FRIDAY", "SUNDAY", None, "SUNDAY"))
WANTED: Final = tuple({"key": "agree-together", "code": f"room {number % 10}"} for number in range(40))


ROWS: Final[tuple[Measurable, ...]] = (
    join("a set of 10", "pipeline by hand", TEN.by_hand(), before=OPEN, target=BEST),
    join("a full set", "pipeline by hand", TEN.by_hand(), before=FULL, target=BEST),
    join(
        "50 at once on one document",
        "find, check, save with a version",
        TEN.find_check_save(),
        before=OPEN,
        target=AtLeastTimes(5),
        worlds=CROWD,
        longer=4,
    ),
    larger(ALONE, AtMost(2)),
    larger(EVERYWHERE[1:2], None),
    Row(
        "KeyedSet.toggle",
        "pipeline by hand",
        Calls(async_toggle, toggle),
        Calls(async_toggle_by_hand, toggle_by_hand),
        TOGGLES,
        keys=MANY_KEYS,
        target=BEST,
    ),
    Row(
        "Slots.acquire and release",
        "count, insert, delete (admits too many)",
        Calls(async_slots, slots, specs=(STREAMS,)),
        Calls(async_count_insert, count_insert),
        ({"key": "agree"}, {"key": "agree"}),
        keys=MANY_KEYS[:100],
    ),
    Row(
        "UniqueCode.insert",
        "insert and try again by hand",
        Calls(async_code, code, specs=(ROOMS,)),
        Calls(async_insert_retry, insert_retry, specs=(ROOMS_BY_HAND,)),
        CODED,
        WANTED,
        keys=MANY_KEYS,
        target=BEST,
    ),
)
