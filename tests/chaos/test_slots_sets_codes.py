"""Slots, keyed sets and unique codes under load while the primary of a three-member set falls and replies are lost.

Nobody's time runs out here, so that whoever has something has it because of what was told.
"""

from __future__ import annotations

from collections import Counter, deque
from typing import Any

import pytest

from mongopatterns import (
    AsyncKeyedSet,
    AsyncSlots,
    AsyncUniqueCode,
    Conflict,
    KeyedSet,
    KeyedSetOutcome,
    KeyedSetSpec,
    SlotOutcome,
    Slots,
    SlotsSpec,
    UniqueCode,
    UniqueCodeSpec,
)

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(300)]

FAULTS = 5  # of those that the load has
S, K = SlotOutcome, KeyedSetOutcome

# Slots: each fault meets a fresh owner, whose slots are made (a call makes only some of them at first), and all taken
# before the next fault.
FULL, FILLERS = 24, 3
SLOTS = SlotsSpec("slots", cap=FULL, ttl=86_400)
CAPS = {"slots enough": 3, "slots scarce": 2}

# Sets: two names of two members each, in all documents but two.
WIDE = KeyedSetSpec("sets", path="by.name", counts="count", create={})
NARROW = KeyedSetSpec("sets", path="by.name", counts="count", max_members=2, max_keys=2, create={})
MANY = ["many 0", "many 1", "many 2"]
OUTCOMES = {
    ("add", False): K.ADDED,
    ("add", True): K.ALREADY,
    ("remove", True): K.REMOVED,
    ("remove", False): K.ABSENT,
    ("toggle", False): K.ADDED,
    ("toggle", True): K.REMOVED,
}

# Codes: so few, and so many of them in use, that many a try meets a code that is taken.
CODES = UniqueCodeSpec("codes", path="room.code", live={"open": True}, alphabet="AB", length=6, tries=100)
CODED, KEPT = 3, 12

LEAST = {
    "fill": FULL + FILLERS,
    **dict.fromkeys(CAPS, 15),
    **dict.fromkeys(("set add", "set remove", "set toggle"), 5),
    "set many": 5,
    **dict.fromkeys(("set enough", "set members", "set names"), 15),
    "set watch": 5,
    **dict.fromkeys(("insert", "made", "assign", "close"), 5),
    **dict.fromkeys(("code enough", "code scarce"), 15),
}


# Slots -------------------------------------------------------------------------------------------------------


async def fill(load: Any, slots: Any, worker: int) -> None:
    """Take the slots of the last fault's owner, and keep them."""
    for turn in load.turns():
        me = f"fault {load.faults}", f"{worker} {turn}"
        await load.attempt("fill", me, lambda me=me: slots.acquire(me[0], data={"me": me[1]}))


async def hold(load: Any, slots: Any, kind: str, worker: int) -> None:
    """Acquire and release, with one slot at most; renew in between."""
    cap = CAPS[kind]

    async def release(me: str, told: Any) -> Any:
        if told is not None:
            return await slots.release(told) if told else told
        # The token of an acquire that nobody knows of is among those of the holders.
        for held in await slots.holders(kind):
            if held.data == {"me": me}:
                await slots.release(held)
        return "released"

    for turn in load.turns():
        told, left = await load.come_and_go(
            kind,
            f"{worker} {turn}",
            cap,
            come=lambda me: slots.acquire(kind, cap=cap, data={"me": me}),
            look=lambda _, told: slots.renew(told),
            go=release,
        )
        assert told is None or told or kind == "slots scarce", "nobody is refused while a slot is free"
        assert left is None or left.outcome is (S.RELEASED if told else S.FULL), "who was told so had it"


def check_slots(load: Any, stored: list[dict[str, Any]]) -> None:
    """Assert that slots are held by those who were told so, and by none besides who cannot have known."""
    for kind, cap in CAPS.items():
        mine = [slot for slot in stored if slot["owner"] == kind]
        assert sorted(slot["slot"] for slot in mine) == list(range(cap))
        assert not any(slot["data"] for slot in mine), "all were released"
    assert any(verdict.outcome is S.FULL for _, verdict in load.logs["slots scarce"].told if verdict != "released")

    log = load.logs["fill"]
    granted = {asked: verdict.slot for asked, verdict in log.granted}
    held = {
        (slot["owner"], slot["data"]["me"]): slot["slot"]
        for slot in stored
        if slot["data"] and slot["owner"] not in CAPS
    }
    assert granted.items() <= held.items(), "who was told so has just that slot"
    assert held.keys() <= granted.keys() | log.maybe
    for fault in range(1, load.faults + 1):
        owner = f"fault {fault}"
        assert sorted(slot["slot"] for slot in stored if slot["owner"] == owner) == list(range(FULL))
        assert sum(asked[0] == owner for asked in held) == FULL, "all are taken, each by another one"


# Keyed sets --------------------------------------------------------------------------------------------------


async def change(load: Any, sets: Any, worker: int, truth: dict[tuple[str, str], set[bool]]) -> None:
    """Add, remove and toggle under a few names; each time the verdict is that of what was told before."""
    for turn in load.turns():
        name, me = f"{turn % 3}.$ä", f"{worker} {turn}"
        truth[name, me] = {False}
        for call in (("add",), ("add", "remove"), ("toggle", "toggle", "add"), ("toggle", "remove", "toggle"))[
            turn % 4
        ]:
            told = await load.attempt(
                f"set {call}", me, lambda call=call, name=name, me=me: getattr(sets, call)("wide", name, me)
            )
            was = truth[name, me]
            might = {OUTCOMES[call, inside] for inside in was}
            assert told is None or told.outcome in might, (call, was, told)
            after = {outcome in (K.ADDED, K.ALREADY) for outcome in might}
            truth[name, me] = after | was if told is None else {told.present}


async def add_many(load: Any, sets: Any, worker: int) -> None:
    """Add to three documents in one command; every other time again, until it is answered."""
    for turn in load.turns():
        me = f"{worker} {turn}"
        result, first = None, True
        while result is None and (first or turn % 2):
            result = await load.attempt("set many", me, lambda me=me: sets.add_many(MANY, "all", me))
            assert result is None or result.matched == len(MANY)
            assert result or result is None or not first, "it is added everywhere, if not by a call before"
            first = False


async def be_member(load: Any, sets: Any, kind: str, worker: int) -> None:
    """Add and remove, one member at most; add again in between."""
    name = {"set enough": str(worker % 2), "set members": "one", "set names": str(worker)}[kind]
    cap = 4 if kind == "set enough" else 2
    refused = {"set members": K.FULL, "set names": K.TOO_MANY_KEYS}.get(kind)

    async def look(me: str, _: Any) -> bool:
        return (await sets.add(kind, name, me)).outcome is K.ALREADY

    for turn in load.turns():
        told, left = await load.come_and_go(
            kind,
            f"{worker} {turn}",
            cap,
            come=lambda me: sets.add(kind, name, me),
            look=look,
            go=lambda me, _: sets.remove(kind, name, me),
        )
        assert told is None or told.outcome in (K.ADDED, refused), "nobody is refused while there is room"
        assert left is None or left.outcome is (K.REMOVED if told else K.ABSENT), "who was told so was in"


def sizes(document: dict[str, Any]) -> dict[str, int]:
    """Count the members of each name, and assert that they are counted."""
    counted = {name: len(members) for name, members in document.get("by", {}).get("name", {}).items()}
    assert counted == document.get("count", {}), "what is written together is stored together"
    return counted


async def watch_sets(load: Any, collection: Any) -> None:
    """Look at the documents all the time: bounds and counts hold whenever they are looked at."""
    kinds = ["wide", "set enough", "set members", "set names"]
    for turn in load.turns():
        kind = kinds[turn % 4]
        document = await load.attempt("set watch", kind, lambda kind=kind: collection.find_one({"_id": kind}))
        counted = sizes(document or {})
        assert kind == "wide" or len(counted) <= 2 >= max(counted.values(), default=0)


def check_sets(load: Any, stored: list[dict[str, Any]], truth: dict[tuple[str, str], set[bool]]) -> None:
    """Assert that members are where they were told to be, once."""
    documents = {document["_id"]: document for document in stored}
    for document in stored:
        sizes(document)
    for kind in ("set enough", "set members", "set names"):
        assert sizes(documents[kind]) == {}, "all have left"
    found = [(name, me) for name, members in documents["wide"]["by"]["name"].items() for me in members]
    assert len(set(found)) == len(found), "each of them once"
    assert set(found) <= truth.keys()
    assert {place: place in found for place, inside in truth.items() if (place in found) not in inside} == {}
    assert sum(inside == {True} for inside in truth.values()) > 20
    many = {me for me, _ in load.logs["set many"].told}
    for key in MANY:
        members = documents[key]["by"]["name"]["all"]
        assert len(set(members)) == len(members)
        assert many <= set(members) <= many | load.logs["set many"].maybe


# Unique codes ------------------------------------------------------------------------------------------------


async def close(load: Any, collection: Any, kind: str, me: str) -> Any:
    """Let a document's code go."""
    told, _ = await load.until_told(kind, me, lambda: collection.update_one({"_id": me}, {"$set": {"open": False}}))
    return told


async def have_codes(load: Any, codes: Any, collection: Any, worker: int, live: dict[str, str]) -> None:
    """Insert with a code, or insert and then assign one; let the oldest of the codes go."""
    mine: deque[tuple[str, str | None]] = deque()
    for turn in load.turns():
        me = f"{worker} {turn}"
        if turn % 2:
            made = await load.attempt("insert", me, lambda me=me: codes.insert({"_id": me, "open": True}))
            code = made and made["room"]["code"]
        else:
            made = lambda me=me: collection.update_one({"_id": me}, {"$set": {"open": True}}, upsert=True)  # noqa: E731
            await load.until_told("made", me, made)
            code, _ = await load.until_told("assign", me, lambda me=me: codes.assign(me))
            again = await load.attempt("assign", me, lambda me=me: codes.assign(me))
            assert again in (None, code), "a repeat tells the same"
        if code is not None:
            assert code not in live, "nobody live has it"
            live[code] = me
        mine.append((me, code))
        if len(mine) > KEPT:
            oldest, code = mine.popleft()
            if code is not None:
                del live[code]
            await close(load, collection, "close", oldest)


async def claim(load: Any, codes: Any, collection: Any, kind: str, worker: int) -> None:
    """Insert with a code that others want, too (or nobody else), and let it go; ask for it again in between."""
    code = f"{kind} {worker if kind == 'code enough' else ''}"

    async def come(me: str) -> bool:
        try:
            return bool(await codes.insert({"_id": me, "open": True}, code=code))
        except Conflict:
            return False

    async def go(me: str, _: Any) -> Any:
        return (await collection.update_one({"_id": me}, {"$set": {"open": False}})).matched_count

    for turn in load.turns():
        told, left = await load.come_and_go(
            kind,
            f"{code} {worker} {turn}",
            1 if kind == "code scarce" else 2,
            come=come,
            look=lambda me, _: codes.assign(me, code=code),
            go=go,
        )
        assert told is not False or kind == "code scarce", "nobody is refused a code that is free"
        assert left is None or left == told, "who was told so is stored, and who was refused is not"


def check_codes(load: Any, stored: list[dict[str, Any]], live: dict[str, str]) -> None:
    """Assert that codes are those that were told, and no two live documents share one."""
    documents = {document["_id"]: document for document in stored}
    open_ = Counter(document["room"]["code"] for document in stored if document["open"])
    assert set(open_.values()) == {1}, "no code twice"
    assert live.keys() <= open_.keys(), "nobody's code is lost"
    told = {me: document["room"]["code"] for me, document in load.logs["insert"].granted}
    told |= dict(load.logs["assign"].granted)
    assert {me: documents[me]["room"]["code"] for me in told} == told
    rest = {me for me in documents if not me.startswith("code ")} - told.keys()
    assert rest <= load.logs["insert"].maybe
    assert all(verdict is not False for _, verdict in load.logs["code enough"].told)
    assert any(verdict is False for _, verdict in load.logs["code scarce"].told)


# The test ----------------------------------------------------------------------------------------------------


async def test_elections_and_lost_replies_neither_lose_nor_double_slots_members_and_codes(
    world: Any, load: Any
) -> None:
    """Through elections and lost replies what was told is stored, no bound is passed, and nobody refused who fits."""
    slots = world.calls(AsyncSlots, Slots, SLOTS)
    wide, narrow = (world.calls(AsyncKeyedSet, KeyedSet, spec) for spec in (WIDE, NARROW))
    codes = world.calls(AsyncUniqueCode, UniqueCode, CODES)
    sets, rooms = world.collection("sets"), world.collection("codes")
    for key in MANY:
        await sets.insert_one({"_id": key})
    truth: dict[tuple[str, str], set[bool]] = {}
    live: dict[str, str] = {}

    workers: list[Any] = [lambda number=number: fill(load, slots, number) for number in range(FILLERS)]
    workers += [
        lambda kind=kind, number=number: hold(load, slots, kind, number) for kind in CAPS for number in range(3)
    ]
    workers += [lambda number=number: change(load, wide, number, truth) for number in range(3)]
    workers += [lambda number=number: add_many(load, wide, number) for number in range(2)]
    workers += [
        lambda kind=kind, number=number: be_member(load, narrow, kind, number)
        for kind, number_of in (("set enough", 4), ("set members", 3), ("set names", 3))
        for number in range(number_of)
    ]
    workers.append(lambda: watch_sets(load, sets))
    workers += [lambda number=number: have_codes(load, codes, rooms, number, live) for number in range(CODED)]
    workers += [
        lambda kind=kind, number=number: claim(load, codes, rooms, kind, number)
        for kind, number_of in (("code enough", 2), ("code scarce", 3))
        for number in range(number_of)
    ]
    await load.run(workers, LEAST, FAULTS)

    load.assert_loaded()
    check_slots(load, world.stored("slots"))
    check_sets(load, world.stored("sets"), truth)
    check_codes(load, world.stored("codes"), live)
