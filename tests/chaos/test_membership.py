"""Capped sets under load while the primary of a three-member set falls and replies are lost.

Nobody's time runs out here, so that whoever is in is there because of what was told.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from mongopatterns import (
    AsyncCappedSet,
    CappedSet,
    CappedSetSpec,
    JoinOutcome,
    Leader,
    LeaveOutcome,
    MemberOutcome,
    Waiting,
)

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(300)]

J, L, M = JoinOutcome, LeaveOutcome, MemberOutcome
SEATS = 4
ROOMY = CappedSetSpec("sets", path="seats", member_key="id", cap=100_000, create={"kind": "roomy"})
# As many callers as seats, each with one at most: there is always one left.
ENOUGH = CappedSetSpec("sets", path="seats", member_key="id", cap=SEATS, leader=Leader("host"), create={})
SCARCE = CappedSetSpec("sets", path="seats", member_key="id", cap=2, create={})
QUEUED = CappedSetSpec(
    "sets", path="seats", member_key="id", cap=2, leader=Leader("host"), waiting=Waiting("line"), create={}
)
FAULTS = 5  # of those that the load has
LEAST = {"join": 10, "join_many": 10, "leave": 20, "update": 5, "enough": 20, "scarce": 20, "queued": 20, "watch": 10}


@dataclass
class Truth:
    """What may be so of each member by what was told: whether he is in, and which number he has."""

    inside: dict[str, set[bool]] = field(default_factory=dict)
    number: dict[str, set[int | None]] = field(default_factory=dict)


async def come_and_stay(load: Any, calls: Any, worker: int, truth: Truth) -> None:
    """Join, alone and in pairs; three times of four leave again, else change a number. Nobody is ever refused."""
    for turn in load.turns():
        me = f"{worker} {turn}"
        if turn % 2:
            names = [f"{me} a", f"{me} b"]
            group = [{"id": name} for name in names]
            told = await load.attempt("join_many", me, lambda group=group: calls.join_many("roomy", group))
            assert told is None or told.outcomes == (J.JOINED, J.JOINED)
        else:
            names = [me]
            told = await load.attempt("join", me, lambda me=me: calls.join("roomy", {"id": me}))
            assert told is None or told.outcome is J.JOINED
        for name in names:
            inside = truth.inside[name] = {True} if told else {True, False}
            truth.number[name] = {None}
            if turn % 4 < 3:
                left = await load.attempt("leave", name, lambda name=name: calls.leave("roomy", name))
                assert left is None or left.outcome is L.LEFT or False in inside
                truth.inside[name] = {False} if left is not None else inside | {False}
            else:
                new = {"n": turn}
                done = await load.attempt("update", name, lambda name=name, new=new: calls.update("roomy", name, new))
                assert done is None or done.outcome is M.UPDATED or False in inside
                truth.number[name] = {turn} if done else {None, turn}


async def come_and_go(load: Any, calls: Any, kind: str, worker: int) -> None:
    """Join and leave, with one seat at most; who has it joins again in between."""

    async def look(me: str, _: Any) -> Any:
        again = await calls.join(kind, {"id": me})
        assert again.outcome is J.ALREADY
        return again

    for turn in load.turns():
        told, left = await load.come_and_go(
            kind,
            f"{worker} {turn}",
            calls.of.spec.cap,
            come=lambda me: calls.join(kind, {"id": me}),
            look=look,
            go=lambda me, _: calls.leave(kind, me),
        )
        if told:
            assert told.outcome is J.JOINED
        elif told is not None:
            assert told.outcome is (J.WAITING if kind == "queued" else J.FULL)
            assert told.size == told.cap
            assert kind != "enough", "nobody is refused while a seat is free"
        if left is not None:
            assert left.outcome is (L.ABSENT if told.outcome is J.FULL else L.LEFT), "who was told so was in"


async def watch(load: Any, sets: Any) -> None:
    """Look at the set with a line all the time: it is in order whenever it is looked at."""
    for _ in load.turns():
        document = await load.attempt("watch", None, lambda: sets.find_one({"_id": "queued"}))
        if document:
            check(document)


def check(document: dict[str, Any]) -> None:
    """Assert that seats, line and leader fit together."""
    seats = [member["id"] for member in document["seats"]]
    line = [member["id"] for member in document["line"]]
    assert len(seats) <= QUEUED.cap  # type: ignore[operator]
    assert len({*seats, *line}) == len(seats) + len(line), "each of them once, in a seat or in line"
    assert not line or len(seats) == QUEUED.cap, "nobody waits for a free seat"
    assert document["host"] in (seats or [None]), "a member leads, or nobody"


async def test_elections_and_lost_replies_lose_nobody_and_seat_nobody_twice(world: Any, load: Any) -> None:
    """Through elections and lost replies all who were told so are in; nobody is over the cap, or refused who fits."""
    truth = Truth()
    roomy, enough, scarce, queued = (
        world.calls(AsyncCappedSet, CappedSet, spec) for spec in (ROOMY, ENOUGH, SCARCE, QUEUED)
    )
    workers: list[Any] = [lambda number=number: come_and_stay(load, roomy, number, truth) for number in range(3)]
    for kind, calls in (("enough", enough), ("scarce", scarce), ("queued", queued)):
        workers += [
            lambda number=number, kind=kind, calls=calls: come_and_go(load, calls, kind, number)
            for number in range(SEATS)
        ]
    workers.append(lambda: watch(load, world.collection("sets")))
    await load.run(workers, LEAST, FAULTS)

    load.assert_loaded()
    stored: dict[str, Any] = {document["_id"]: document for document in world.stored("sets")}
    assert set(stored) == {"roomy", "enough", "scarce", "queued"}
    for kind in ("enough", "scarce", "queued"):
        assert stored[kind]["seats"] == [], "all have left"
        outcomes = {verdict.outcome for _, verdict in load.logs[kind].told}
        refused = {"enough": set(), "scarce": {J.FULL}, "queued": {J.WAITING}}[kind]
        assert refused <= outcomes <= {J.JOINED, J.ALREADY, L.LEFT, L.ABSENT} | refused
    assert stored["queued"]["line"] == []
    assert stored["queued"]["host"] is stored["enough"]["host"] is None
    assert stored["roomy"]["kind"] == "roomy"

    seated = {member["id"]: member for member in stored["roomy"]["seats"]}
    assert len(seated) == len(stored["roomy"]["seats"]), "each of them once"
    assert set(seated) <= set(truth.inside), "nobody is in who did not ask"
    for name, inside_or_not in truth.inside.items():
        assert (name in seated) in inside_or_not, name
        assert name not in seated or seated[name].get("n") in truth.number[name], name
    assert sum(inside_or_not == {True} for inside_or_not in truth.inside.values()) > 20
