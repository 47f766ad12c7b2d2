"""What documents, cascades and buffers promise; and joins, loaders, pages and reports, which only read. Pure."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping

from tests.chaos.checker.log import TOLD, UNKNOWN, UNTOUCHED, Call, Violation
from tests.chaos.checker.numbers import Move, Violations, by_key, check_number, exactly, perhaps


def check_documents(calls: list[Call]) -> Violations:
    """One caller makes a document and all get it; each change is made once; one at most takes a document."""
    for mine in by_key(calls, "get_or_create", "stored made").values():
        yield from _check_made(mine)
    for mine in by_key(calls, "upsert", "stored changed").values():
        yield from _check_changed(mine)
    for mine in by_key(calls, "take", "stored left").values():
        yield from _check_taken(mine)


def _check_made(calls: list[Call]) -> Violations:
    promise = "one caller makes a document, and all get it"
    told = [call for call in calls if not call.look and call.fate == TOLD]
    makers = [call for call in told if call.told["created"]]
    may = {call.asked["me"] for call in calls if call.fate == UNKNOWN} | {call.asked["me"] for call in makers}
    if len(makers) > 1:
        yield Violation(promise, "two have made it", tuple(makers))
    for look in (call for call in calls if call.look):
        if look.told is not None and look.told not in may:
            yield Violation(promise, f"{look.told!r} has not made it", (look,))
        for call in told:
            if call.told["by"] != look.told or call.told["created"] != (call.asked["me"] == look.told):
                yield Violation(promise, "another one is stored", (call, look))


def _check_changed(calls: list[Call]) -> Violations:
    promise = "each change is made once, and whole"
    told = {call.asked["me"]: call for call in calls if not call.look and call.fate == TOLD}
    may = {call.asked["me"] for call in calls if call.fate == UNKNOWN}
    moves = [
        exactly(call, 0 if call.look else 1, call.told["n"]) if call.fate == TOLD else perhaps(call, 1)
        for call in calls
    ]
    yield from check_number(promise, moves)
    for look in (call for call in calls if call.look):
        places = {me: place for place, me in enumerate(look.told["all"], 1)}
        if not len(places) == len(look.told["all"]) == look.told["n"]:
            yield Violation(promise, f"{len(places)} are counted as {look.told['n']}", (look,))
        for me in places.keys() - told.keys() - may:
            yield Violation(promise, f"{me!r} is stored, and was told otherwise", (look,))
        for me, call in told.items():
            if not places.get(me) == call.told["place"] == call.told["n"]:
                yield Violation(promise, f"{me!r} is stored in place {places.get(me)}", (call,))


def _check_taken(calls: list[Call]) -> Violations:
    promise = "one caller at most takes a document"
    takes = [call for call in calls if not call.look and call.fate != UNTOUCHED]
    taken = [call for call in takes if call.fate == TOLD and call.told]
    missed = [call for call in takes if call.fate == TOLD and not call.told]
    may = [call for call in takes if call not in missed]
    if len(taken) > 1:
        yield Violation(promise, "several have", tuple(taken))
    for call in missed:
        if not any(other.start < call.end for other in may):
            yield Violation(promise, "nobody can have taken it by then", (call,))
    for look in (call for call in calls if call.look):
        if look.told and (taken or missed):
            yield Violation(promise, "it is there still", (*taken, *missed, look))
        if not look.told and not may:
            yield Violation(promise, "it is gone, and nobody has taken it", (look,))


def check_cascades(calls: list[Call]) -> Violations:
    """What was deleted is gone with all that belongs to it, each document is counted once, and all else is there."""
    promise = "a parent goes with its children, and nothing else goes"
    for mine in by_key(calls).values():
        # (an error that says that nothing is applied says so of the last command, where there is no transaction)
        asked = [call for call in mine if not call.look]
        deletes = [call for call in asked if call.fate != UNTOUCHED or not call.asked["transaction"]]
        told = [call for call in deletes if call.fate == TOLD]
        for look in (call for call in mine if call.look):
            at_first, (parents, children) = look.asked["at_first"], look.told
            if children and not parents:
                yield Violation(promise, "children are left", (*deletes, look))
            if told and (parents or children):
                yield Violation(promise, "it is there still", (*told, look))
            if all(call.asked["transaction"] for call in deletes) and look.told not in (at_first, (0, 0)):
                yield Violation(promise, "half of it is stored", (*deletes, look))
            if not deletes and look.told != at_first:
                yield Violation(promise, "nobody has asked for that", (look,))
            counted = tuple(sum(call.told[place] for call in told) for place in (0, 1))
            too_many = counted[0] > at_first[0] or counted[1] > at_first[1]
            if too_many or (told and told == deletes and counted != at_first):
                yield Violation(promise, f"{counted} of {at_first} were counted", tuple(told))


# Buffers, and those who read what they insert ----------------------------------------------------------------


def check_buffers(calls: list[Call]) -> Violations:
    """What was acknowledged is stored, once; what was not is stored once or not at all."""
    for mine in by_key(calls, "insert", "stored").values():
        yield from _check_inserted(mine)
    for mine in by_key(calls, "increment", "stored number").values():
        yield from check_number("what is acknowledged is counted, once", [_incremented(call) for call in mine])
    for mine in by_key(calls, "update", "stored last").values():
        yield from _check_order(mine)


def _check_inserted(calls: list[Call]) -> Violations:
    promise = "what is acknowledged is stored, once"
    asked = {call.asked["id"]: call for call in calls if not call.look}
    found = Counter(name for call in calls if call.look for name in call.told)
    bounds = {TOLD: (1, 1), UNKNOWN: (0, 1), UNTOUCHED: (0, 0)}
    for name, call in asked.items():
        least, most = bounds[call.fate]
        if not least <= found[name] <= most:
            yield Violation(promise, f"it is stored {found[name]} times", (call,))
    for name in found.keys() - asked.keys():
        yield Violation(promise, f"{name!r} is stored, and nobody has asked for it")


def _incremented(call: Call) -> Move:
    if call.look:
        return exactly(call, 0, call.told)
    return exactly(call, call.asked["amount"]) if call.fate == TOLD else perhaps(call, call.asked["amount"])


def _check_order(calls: list[Call]) -> Violations:
    """Find a document whose last write is not the last of its only caller."""
    sets = [call for call in calls if not call.look]
    last = max((call.asked["n"] for call in sets if call.fate == TOLD), default=None)
    may = {
        last,
        *(call.asked["n"] for call in sets if call.fate == UNKNOWN and (last is None or call.asked["n"] > last)),
    }
    for look in (call for call in calls if call.look):
        if look.told not in may:
            yield Violation("writes of one document keep their order", f"{last} was the last one", (look,))


def check_reads(calls: list[Call]) -> Violations:
    """A read has all that was acknowledged before it began, nothing twice, and nothing that nobody has asked for.

    Reads are of the events that buffers insert, and nobody deletes: of one group, or of `all`.
    """
    inserts = [call for call in calls if call.op == "insert" and call.fate != UNTOUCHED]
    for group, mine in by_key((call for call in calls if call.fate == TOLD), "count", "instant", "walk").items():
        begun = {call.asked["id"]: call for call in inserts if group in ("all", call.asked["group"])}
        for weight in ("n", "amount"):
            moves = [_inserted(call, weight) for call in begun.values()]
            moves += [_read(call, weight) for call in mine if call.op != "walk"]
            yield from check_number("a read has all that was acknowledged, and no more than was asked for", moves)
        for call in (call for call in mine if call.op == "walk"):
            yield from _check_walk(call, begun)
    for call in calls:
        if call.op == "load" and call.fate == TOLD and call.told != call.asked["stored"]:
            yield Violation("a read gives what is stored under a key", f"that is {call.asked['stored']}", (call,))
        if call.op == "instant" and call.fate == TOLD and call.told["parts"] != call.told["n"]:
            yield Violation("one instant is read", "groups and totals differ", (call,))


def _inserted(call: Call, weight: str) -> Move:
    by = 1 if weight == "n" else call.asked["amount"]
    return exactly(call, by) if call.fate == TOLD else perhaps(call, by)


def _read(call: Call, weight: str) -> Move:
    # An instant of which a majority has everything may, of a new primary, be one of a moment ago.
    return Move(call, seen=(call.told[weight], math.inf if call.op == "instant" else call.told[weight]))


def _check_walk(call: Call, begun: Mapping[str, Call]) -> Violations:
    promise = "pages leave nothing out, and have nothing twice"
    for name, number in Counter(call.told).items():
        if number > 1 or name not in begun or begun[name].start > call.end:
            yield Violation(promise, f"{name!r} came {number} times", (call,))
    found = set(call.told)
    for name, insert in begun.items():
        if insert.fate == TOLD and insert.end < call.start and name not in found:
            yield Violation(promise, f"{name!r} was there all along", (insert, call))
