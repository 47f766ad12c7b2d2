"""Documents by their key under load while the primary of a three-member set falls and replies are lost."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import pytest

from mongopatterns import AsyncDocuments, Documents, DocumentSpec

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(300)]

FAULTS = 5  # of those that the load has
CALLERS = 4  # of each kind
STOCK = 20_000  # more than are taken
# By an `_id` of its own a call knows that it has made the document; where `_id` is the key there is none.
SPECS = {"token": DocumentSpec("by_user", key=("org", "user")), "image": DocumentSpec("by_id")}
TAKEN = DocumentSpec("stock", key="code")
LEAST = {"get token": 15, "get image": 15, "upsert token": 15, "upsert image": 15, "take": 15}


def key_of(kind: str, name: str) -> Any:
    """Make a key for one of the two specs."""
    return ("acme", name) if kind == "token" else name


async def get_or_create(load: Any, documents: Any, kind: str, worker: int) -> None:
    """Ask for documents that all others ask for, too; all in the same order."""
    for turn in load.turns():
        name = f"get {turn}"
        await load.attempt(
            f"get {kind}",
            (name, worker),
            lambda name=name: documents.get_or_create(key_of(kind, name), {"by": worker}),
        )


async def upsert(load: Any, documents: Any, kind: str, worker: int) -> None:
    """Count and append in the document of the last fault."""
    for turn in load.turns():
        name, me = f"fault {load.faults}", f"{worker} {turn}"
        await load.attempt(
            f"upsert {kind}",
            (name, me),
            lambda name=name, me=me: documents.upsert(
                key_of(kind, name),
                set={"last": me},
                set_on_insert={"by": me},
                inc={"numbers.n": 2},
                push_last={"all": me},
                set_now=["at"],
            ),
        )


async def take(load: Any, documents: Any, worker: int) -> None:
    """Take what all others want to take, too; all in the same order. What there is not is told as False."""
    for turn in load.turns():

        async def call(turn: int = turn) -> Any:
            return await documents.take(turn) or False

        await load.attempt("take", (turn, worker), call)


def check_got(log: Any, stored: dict[str, dict[str, Any]]) -> None:
    """Assert that all got the document that is stored, and just the one who made it was told so."""
    told: dict[str, dict[int, Any]] = defaultdict(dict)
    for (name, worker), verdict in log.told:
        told[name][worker] = verdict
    assert told.keys() <= stored.keys() <= told.keys() | {name for name, _ in log.maybe}
    for name, verdicts in told.items():
        assert all(verdict.document == stored[name] for verdict in verdicts.values())
        by = stored[name]["by"]
        assert {worker for worker, verdict in verdicts.items() if verdict.created} == {by} & verdicts.keys()
        assert by in verdicts or (name, by) in log.maybe
    assert len({stored[name]["by"] for name in told}) > 1, "they raced"


def check_upserted(log: Any, stored: dict[str, dict[str, Any]]) -> None:
    """Assert that each change that was told is stored once, and with all that belongs to it."""
    for name in {name for (name, _), _ in log.told}:
        document = stored[name]
        told = {me: verdict for (other, me), verdict in log.told if other == name}
        applied = document["all"]
        assert len(set(applied)) == len(applied), "none of them twice"
        assert told.keys() <= set(applied) <= told.keys() | {me for other, me in log.maybe if other == name}
        assert (document["numbers"]["n"], document["by"], document["last"]) == (
            2 * len(applied),
            applied[0],
            applied[-1],
        )
        assert applied[-1] not in told or told[applied[-1]].document == document, "times included"
        for me, verdict in told.items():
            # The document as it was told is the one after just this call.
            until = applied[: applied.index(me) + 1]
            after = verdict.document
            assert (after["all"], after["numbers"], after["last"]) == (until, {"n": 2 * len(until)}, me)
            assert verdict.created == (applied[0] == me)


def check_taken(log: Any, stored: set[int]) -> None:
    """Assert that one at most got each document, and it is gone; and that what is gone was taken."""
    taken = [code for (code, _), document in log.granted if document["code"] == code]
    assert len(taken) == len(log.granted) == len(set(taken)), "nobody got what another one got"
    missed = {code for (code, _), document in log.told if not document}
    gone = set(range(STOCK)) - stored
    assert stored, "the stock was large enough"
    assert set(taken) | missed <= gone, "what was taken, or was not there, is not there"
    assert gone <= set(taken) | {code for code, _ in log.maybe}, "nothing is gone that nobody can have taken"
    assert missed
    assert len({worker for (_, worker), _ in log.granted}) > 1, "they raced"


async def test_elections_and_lost_replies_make_change_and_hand_out_each_document_once(world: Any, load: Any) -> None:
    """Through elections and lost replies one caller makes a document, one takes it, and each change is made once."""
    kinds = {kind: world.calls(AsyncDocuments, Documents, spec) for kind, spec in SPECS.items()}
    stock = world.calls(AsyncDocuments, Documents, TAKEN)
    await world.collection("stock").insert_many([{"code": code} for code in range(STOCK)])
    workers: list[Any] = [
        lambda call=call, kind=kind, documents=documents, number=number: call(load, documents, kind, number)
        for kind, documents in kinds.items()
        for call in (get_or_create, upsert)
        for number in range(CALLERS)
    ]
    workers += [lambda number=number: take(load, stock, number) for number in range(CALLERS)]
    await load.run(workers, LEAST, FAULTS)

    load.assert_loaded()
    for kind, spec in SPECS.items():
        found = world.stored(spec.collection)
        stored = {document["user" if kind == "token" else "_id"]: document for document in found}
        assert len(stored) == len(found), "one document for each key"
        check_got(
            load.logs[f"get {kind}"], {name: document for name, document in stored.items() if name.startswith("get")}
        )
        check_upserted(load.logs[f"upsert {kind}"], stored)
    check_taken(load.logs["take"], {document["code"] for document in world.stored("stock")})
