"""What slots send, and what the answers mean. Pure: no client, no clock, no randomness.

A slot is one document of its own:

```
{"owner": <key>, "slot": 0, "holder": <who has it>, "since": <date>, "until": <date, or null: for ever>, "data": {...}}
```

`(owner, slot)` is unique, and a slot is *free* when the server's time has come to its `until`. To acquire is to take
any free slot numbered below the cap, in one write that cannot make a document: as there are never more than `cap` such
documents, there are never more than `cap` holders of them, and that is all that keeps the cap.

Whether to *refuse* is another question. A write that found nothing free has looked at one slot after the other, and
one may have become free behind its back. So a refusal is decided by a read of one point in time: if all slots below
the cap were held at that instant, the owner is full, and else the call goes round again.
"""

from __future__ import annotations

import datetime as dt
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from bson import ObjectId, encode
from bson.codec_options import CodecOptions
from bson.raw_bson import RawBSONDocument
from pymongo.errors import BulkWriteError, OperationFailure

from mongopatterns.commands import Aggregate, FindOneAndUpdate
from mongopatterns.errors import Conflict, StateError, UsageError
from mongopatterns.expressions import ANY_UUID, check_document, check_time, key_filter, key_value, literal
from mongopatterns.holders import Holder
from mongopatterns.membership._slots_spec import MARGIN, MOST_SLOTS, HeldSlot, Slot, SlotOutcome, SlotsSpec, check_whole

ROUNDS: Final = 1000
"""How often a call goes round. In each round somebody else takes what has come free: no honest load gets here."""

_FEWEST, _MOST = 8, 64  # slots that one call makes: as many as the owner has, within these bounds
_EPOCH: Final = dt.datetime(1970, 1, 1, tzinfo=dt.timezone.utc)
_DUPLICATE_KEY: Final = 11000
_SNAPSHOT_UNAVAILABLE: Final = 246  # the collection or an index of it was made a moment ago

_IS_FREE: Final = {"$and": [{"$lte": ["$until", "$$now"]}, {"$eq": [{"$type": "$until"}, "date"]}]}
_FREE: Final = {"until": {"$type": "date"}, "$expr": _IS_FREE}  # (by the type the index is bounded below, too)
_IS_SOUND: Final = {"$in": [{"$type": "$until"}, ["date", "null", "missing"]]}
_COUNTED: Final = {"live": {"$sum": {"$cond": [_IS_FREE, 0, 1]}}, "odd": {"$sum": {"$cond": [_IS_SOUND, 0, 1]}}}


# Sent --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class InsertMany:
    """Several new documents, in the terms of the driver's `insert_many`."""

    documents: list[dict[str, Any]]
    comment: str


@dataclass(frozen=True, slots=True)
class Acquiring:
    """An `acquire` under way.

    Attributes:
        owner: The owner, as it is stored.
        cap: How many slots the owner has.
        holder: Who acquires.
        below: The filter of the owner's slots below the cap.
        take: The write that takes a free slot.
        alone: Whether the call is not part of a transaction, which any error would end.
        next: What is to be sent now; None when it is decided.
        rounds: How often `take` found nothing.
        verdict: What came of it, when it is decided.
    """

    owner: Any
    cap: int
    holder: ObjectId
    below: dict[str, Any]
    take: FindOneAndUpdate
    alone: bool
    next: FindOneAndUpdate | Aggregate | InsertMany | None
    rounds: int = 0
    verdict: Slot | None = None

    @property
    def look(self) -> Aggregate:
        """The read of one point in time that decides whether no slot was free."""
        let: Any = self.take.let
        pipeline = _look(self.below, self.cap, zlib.crc32(self.holder.binary))
        return Aggregate(pipeline, {"now": let["now"]}, self.take.comment)


@dataclass(frozen=True, slots=True)
class Holding:
    """A call on a slot that is thought to be held."""

    owner: Any
    slot: int
    holder: ObjectId
    released: ObjectId | None
    command: FindOneAndUpdate


class SlotsPlan:
    """Build the commands of slots and read their replies."""

    def __init__(self, spec: SlotsSpec, collection: str, codec_options: CodecOptions[Any] = ANY_UUID) -> None:
        self.spec = spec
        self.collection = collection
        self._codec_options = codec_options
        self._place = f"{collection}:slots"
        end = literal(None) if spec.ttl is None else {"$add": ["$$now", round(spec.ttl * 1000)]}
        held = {"holder": "$$holder", "since": "$$now", "until": end, "data": "$$data"}
        given_up = {"holder": "$$released", "until": {"$subtract": ["$$now", MARGIN]}, "data": literal({})}
        self._take = [self._encoded({"$set": held})]
        self._renew = [self._if_held({"until": end})]
        self._release = [self._if_held(given_up)]

    def _encoded(self, document: dict[str, Any]) -> RawBSONDocument:
        """Encode what never changes."""
        return RawBSONDocument(encode(document, codec_options=self._codec_options))

    def _if_held(self, changes: dict[str, Any]) -> RawBSONDocument:
        """Build the stage that changes a slot if the holder still has it."""
        held = {"$and": [{"$eq": ["$holder", "$$holder"]}, _IS_SOUND, {"$not": [_IS_FREE]}]}
        return self._encoded({"$replaceWith": {"$cond": [held, {"$mergeObjects": ["$$ROOT", changes]}, "$$ROOT"]}})

    def _owner(self, owner: object) -> Any:
        return key_value("owner", owner, self.spec.key_type)

    # To acquire ................................................................................................

    def acquire(
        self,
        owner: object,
        *,
        cap: int | None,
        data: Mapping[str, Any] | None,
        holder: ObjectId,
        session: Any = None,
        now: dt.datetime | None = None,
    ) -> Acquiring:
        """Check what is asked for, and say what is sent first."""
        key = self._owner(owner)
        most = self.spec.cap if cap is None else check_whole("cap", cap, 0, MOST_SLOTS)
        about = {} if data is None else check_document("data", data)
        below = {**key_filter("owner", key), "slot": {"$gte": 0, "$lt": most}}
        take = FindOneAndUpdate(
            filter={**below, **_FREE},
            update=self._take,
            projection={"_id": 0, "slot": 1, "holder": 1, "since": 1, "until": 1},
            upsert=False,
            comment="mongopatterns.slots.acquire",
            let={"now": _time(now), "holder": holder, "data": literal(about)},
        )
        return Acquiring(key, most, holder, below, take, not getattr(session, "in_transaction", False), take)

    def again(self, attempt: Acquiring) -> FindOneAndUpdate | Aggregate | InsertMany | None:
        """Return what is to be sent next; None when it is decided."""
        return attempt.next

    def told(self, attempt: Acquiring, answer: Any) -> Acquiring:
        """Take note of what came back, which may be an error of the server.

        Raises:
            StateError: If the `until` of a slot is neither a date nor null.
            Conflict: If others have taken what came free `ROUNDS` times.
            OperationFailure: If it is an error that tells nothing about slots.
        """
        if isinstance(attempt.next, FindOneAndUpdate):
            return self._taken(attempt, answer)
        if isinstance(attempt.next, Aggregate):
            return self._seen(attempt, answer)
        if isinstance(answer, Exception) and not (attempt.alone and _only_known_slots(answer)):
            raise answer
        return replace(attempt, next=attempt.take)

    def acquired(self, attempt: Acquiring) -> Slot:
        """Return the verdict of a call that is decided."""
        verdict: Any = attempt.verdict
        return verdict  # type: ignore[no-any-return]  # decided

    def _taken(self, attempt: Acquiring, answer: Any) -> Acquiring:
        """Read what came of the write: the stored document itself, if the driver repeated it."""
        if isinstance(answer, Exception):
            raise answer
        if answer is None or answer["holder"] != attempt.holder:
            if attempt.rounds == ROUNDS:
                problem = f"in {ROUNDS} rounds others took every slot that came free: neither given one nor refused"
                raise Conflict(f"{problem}; try again", key=attempt.owner)
            return replace(attempt, next=attempt.look, rounds=attempt.rounds + 1)
        token = self._token(attempt.owner, answer["slot"], attempt.holder)
        verdict = Slot(
            SlotOutcome.ACQUIRED,
            attempt.owner,
            answer["slot"],
            token,
            answer["since"],
            answer["until"],
            attempt.cap,
        )
        return replace(attempt, next=None, verdict=verdict)

    def _seen(self, attempt: Acquiring, answer: Any) -> Acquiring:
        """Decide by what was there at one instant."""
        if isinstance(answer, Exception):
            if isinstance(answer, OperationFailure) and answer.code == _SNAPSHOT_UNAVAILABLE and attempt.alone:
                return replace(attempt, next=attempt.take)
            raise answer
        # (a sharded cluster answers with nothing while the database does not exist)
        nothing = {"odd": 0, "live": 0, "now": _EPOCH, "make": range(min(attempt.cap, _FEWEST))}
        seen: Mapping[str, Any] = answer[0] if answer else nothing
        self._check_sound(attempt.owner, seen)
        if seen["live"] >= attempt.cap:
            return replace(attempt, next=None, verdict=Slot(SlotOutcome.FULL, attempt.owner, cap=attempt.cap))
        if not seen["make"]:
            return replace(attempt, next=attempt.take)
        until = seen["now"] - dt.timedelta(milliseconds=MARGIN)
        free: dict[str, Any] = {"holder": None, "since": None, "until": until, "data": {}}
        documents = [{"owner": attempt.owner, "slot": int(number), **free} for number in seen["make"]]
        return replace(attempt, next=InsertMany(documents, "mongopatterns.slots.acquire"))

    # What is held ..............................................................................................

    def renew(self, token: object, *, now: dt.datetime | None = None) -> Holding:
        """Build the write that holds on to a slot."""
        if self.spec.ttl is None:
            raise UsageError("renew", "slots of a spec with ttl=None do not expire: there is nothing to renew")
        return self._holding("renew", token, self._renew, None, now)

    def release(self, token: object, *, released: ObjectId, now: dt.datetime | None = None) -> Holding:
        """Build the write that gives a slot up.

        Args:
            token: The slot, or its token.
            released: What is stored in the place of the holder, by which the reply tells what was done.
            now: The time, instead of the server's.
        """
        return self._holding("release", token, self._release, released, now)

    def _holding(
        self, call: str, token: object, update: Any, released: ObjectId | None, now: dt.datetime | None
    ) -> Holding:
        owner, slot, holder = self._read_token(token)
        command = FindOneAndUpdate(
            filter={**key_filter("owner", owner), "slot": slot},
            update=update,
            projection={"_id": 0, "holder": 1, "since": 1, "until": 1, "now": "$$now"},
            upsert=False,
            comment=f"mongopatterns.slots.{call}",
            let={"now": _time(now), "holder": holder, "released": released},
        )
        return Holding(owner, slot, holder, released, command)

    def held(self, holding: Holding, reply: Mapping[str, Any] | None) -> Slot:
        """Read what came of `renew` or `release`.

        Raises:
            StateError: If the slot's `until` is neither a date nor null.
        """
        lost = Slot(SlotOutcome.LOST, holding.owner, holding.slot)
        if reply is None:
            return lost
        holder, until = reply.get("holder"), reply.get("until")
        if holding.released is not None and holder == holding.released:
            return Slot(SlotOutcome.RELEASED, holding.owner, holding.slot)
        if holder != holding.holder:
            return lost
        self._check_sound(holding.owner, {"odd": not isinstance(until, (dt.datetime, type(None)))})
        # A write that was repeated is answered with the stored document, which has no `now`: it was done then, as
        # nothing is stored about a write that changes nothing.
        if holding.released is not None or ("now" in reply and until <= reply["now"]):
            return lost
        token = self._token(holding.owner, holding.slot, holding.holder)
        return Slot(SlotOutcome.RENEWED, holding.owner, holding.slot, token, reply.get("since"), until)

    def _token(self, owner: Any, slot: int, holder: ObjectId) -> str:
        return Holder(self._place, {"owner": owner, "slot": slot}, holder).token(self._codec_options)

    def _read_token(self, token: object) -> tuple[Any, int, ObjectId]:
        """Read the owner, the number and the holder of a slot.

        Raises:
            UsageError: If it is no token, or from another place.
        """
        if isinstance(token, (Slot, HeldSlot)):
            if token.token is None:
                raise UsageError("token", "this verdict holds no slot: see its outcome")
            token = token.token
        holder = Holder.of("token", token, self._place, self._codec_options, thing="slot")
        place = holder.key if isinstance(holder.key, dict) else {}
        if set(place) != {"owner", "slot"} or not isinstance(place["slot"], int):
            raise UsageError("token", f"expected the token of a slot, got {token!r:.100}")
        return key_value("token", place["owner"], self.spec.key_type), place["slot"], holder.id

    # To look ...................................................................................................

    def holders(self, owner: object, *, now: dt.datetime | None = None) -> Aggregate:
        """Build the read of the slots that are held."""
        pipeline: list[dict[str, Any]] = [
            {"$match": {**key_filter("owner", self._owner(owner)), "$nor": [_FREE]}},
            {"$sort": {"slot": 1}},
            {"$project": {"_id": 0, "slot": 1, "holder": 1, "since": 1, "until": 1, "data": 1}},
        ]
        return Aggregate(pipeline, {"now": _time(now)}, "mongopatterns.slots.holders")

    def listed(self, owner: object, documents: Sequence[Mapping[str, Any]]) -> list[HeldSlot]:
        """Read the slots that are held.

        Raises:
            StateError: If what is stored is no slot.
        """
        key = self._owner(owner)
        return [self._listed(key, document) for document in documents]

    def _listed(self, owner: Any, document: Mapping[str, Any]) -> HeldSlot:
        kinds: dict[str, Any] = {
            "slot": int,
            "holder": ObjectId,
            "since": dt.datetime,
            "until": (dt.datetime, type(None)),
        }
        for name, kind in kinds.items():
            if not isinstance(found := document.get(name), kind):
                raise StateError(self.collection, owner, name, f"expected what a held slot has, found {found!r:.100}")
        token = self._token(owner, document["slot"], document["holder"])
        data = document.get("data")
        about = data if isinstance(data, dict) else {}
        return HeldSlot(document["slot"], token, document["since"], document.get("until"), about)

    def size(self, owner: object, *, now: dt.datetime | None = None) -> Aggregate:
        """Build the count of the slots that are held."""
        match = key_filter("owner", self._owner(owner))
        pipeline: list[dict[str, Any]] = [{"$match": match}, {"$group": {"_id": None, **_COUNTED}}]
        return Aggregate(pipeline, {"now": _time(now)}, "mongopatterns.slots.size")

    def counted(self, owner: object, documents: Sequence[Mapping[str, Any]]) -> int:
        """Read the count of the slots that are held.

        Raises:
            StateError: If the `until` of a slot is neither a date nor null.
        """
        seen: Mapping[str, Any] = documents[0] if documents else {"odd": 0, "live": 0}
        self._check_sound(owner, seen)
        return int(seen["live"])

    def _check_sound(self, owner: Any, seen: Mapping[str, Any]) -> None:
        if seen["odd"]:
            raise StateError(self.collection, owner, "until", "expected a date or null, found another type")


def _time(now: dt.datetime | None) -> Any:
    return "$$NOW" if now is None else check_time("now", now)


def _look(below: dict[str, Any], cap: int, spread: int) -> list[dict[str, Any]]:
    """Build the read that counts the slots of an owner and lists some that have no document.

    Args:
        below: The filter of the owner's slots below the cap.
        cap: How many there may be.
        spread: Where in the list to begin: callers that race make different ones.
    """
    missing = {"$setDifference": [{"$range": [0, cap]}, "$numbers"]}
    some = {"$min": [_MOST, "$$size", {"$max": [_FEWEST, {"$size": "$numbers"}]}]}
    twice = {"$concatArrays": ["$$missing", "$$missing"]}
    make: dict[str, Any] = {
        "$cond": [{"$eq": ["$$size", 0]}, [], {"$slice": [twice, {"$mod": [spread, "$$size"]}, some]}]
    }
    make = {"$let": {"vars": {"size": {"$size": "$$missing"}}, "in": make}}
    make = {"$let": {"vars": {"missing": missing}, "in": make}}
    # `$facet` answers with one document, even where there is no slot yet.
    found = [{"$group": {"_id": None, "numbers": {"$push": "$slot"}, **_COUNTED}}]
    sums = {"live": {"$sum": "$found.live"}, "odd": {"$sum": "$found.odd"}}
    return [
        {"$match": below},
        {"$facet": {"found": found}},
        {"$replaceWith": {**sums, "numbers": {"$ifNull": [{"$first": "$found.numbers"}, []]}}},
        {"$project": {"_id": 0, "now": "$$now", "live": 1, "odd": 1, "make": make}},
    ]


def _only_known_slots(error: Exception) -> bool:
    """Tell whether an insert failed for nothing but slots that others had made."""
    if not isinstance(error, BulkWriteError) or error.details["writeConcernErrors"]:
        return False
    return all(
        failed["code"] == _DUPLICATE_KEY and failed.get("keyPattern") == {"owner": 1, "slot": 1}
        for failed in error.details["writeErrors"]
    )
