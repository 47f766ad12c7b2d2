"""What capped sets, slots, keyed sets and unique codes promise. Pure."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from itertools import pairwise
from typing import Any

from tests.chaos.checker.log import TOLD, UNKNOWN, UNTOUCHED, Call, Violation
from tests.chaos.checker.numbers import Move, Violations, by_key, check_number, exactly, perhaps

# What becomes of a member who is in, or is not; and what is told then.
EFFECTS: dict[str, Callable[[bool], bool]] = {
    "join": lambda _: True,
    "add": lambda _: True,
    "add_many": lambda _: True,
    "leave": lambda _: False,
    "remove": lambda _: False,
    "toggle": lambda was: not was,
    "touch": lambda was: was,
}
ANSWERS = {
    ("join", False): "joined",
    ("join", True): "already",
    ("leave", True): "left",
    ("leave", False): "absent",
    ("touch", True): "updated",
    ("touch", False): "absent",
    ("add", False): "added",
    ("add", True): "already",
    ("remove", True): "removed",
    ("remove", False): "absent",
    ("toggle", False): "added",
    ("toggle", True): "removed",
    # (of many documents nobody is told which of them had the member before)
    ("add_many", False): "added",
    ("add_many", True): "added",
}
# By what a number of members changes.
BY = {"joined": 1, "left": -1, "added": 1, "removed": -1}
MAY = {"join": (0, 1), "add": (0, 1), "add_many": (0, 1), "leave": (-1, 0), "remove": (-1, 0), "toggle": (-1, 1)}


def check_members(promise: str, calls: Iterable[Call]) -> Violations:
    """Find members who are in, or not, against what was told of them; and answers that do not fit the ones before.

    Each member belongs to one caller, who makes one call after the other.
    """
    might: dict[Any, set[bool]] = {}
    pending: dict[Any, set[bool]] = defaultdict(set)
    for call in calls:
        if call.look or call.fate == UNTOUCHED:
            continue
        member = call.asked["member"]
        was = might.setdefault(member, {False})
        if call.fate == UNKNOWN:
            # It is done at any time from now on, whatever else is told meanwhile.
            pending[member] |= {EFFECTS[call.op](inside) for inside in (False, True)}
            might[member] = was | pending[member]
            continue
        outcome, refused = call.told["outcome"], call.told["outcome"] == "full"
        fitting = {inside for inside in was if ANSWERS.get((call.op, inside), outcome) == outcome or refused}
        if not fitting or (refused and False not in fitting):
            yield Violation(promise, f"{member!r} was {'in' if was == {True} else 'not in'} before", (call,))
        might[member] = {not refused and EFFECTS[call.op](inside) for inside in fitting} | pending[member]
    yield from _check_stored(promise, [call for call in calls if call.op == "stored"], might)


def _check_stored(promise: str, looks: list[Call], might: Mapping[Any, set[bool]]) -> Violations:
    for look in looks:
        for member, number in Counter(look.told).items():
            if number > 1 or member not in might:
                yield Violation(promise, f"{member!r} is stored {number} times", (look,))
        for member, may in might.items():
            if (member in look.told) not in may:
                yield Violation(promise, f"{member!r} is {'' if member in look.told else 'not '}stored", (look,))


def _check_cap(calls: Iterable[Call]) -> Violations:
    for call in calls:
        cap = call.asked.get("cap")
        if cap is None or call.fate != TOLD:
            continue
        size = len(call.told) if call.look else call.told["size"]
        if size > cap:
            yield Violation("never more are in than may be", f"{size} of {cap}", (call,))
        if not call.look and call.told["outcome"] == "full" and size < cap:
            yield Violation("nobody is refused while there is room", f"{size} of {cap}", (call,))


def _counted(call: Call) -> Move:
    if call.look:
        return exactly(call, 0, len(call.told))
    if call.fate == TOLD:
        return exactly(call, BY.get(call.told["outcome"], 0), call.told.get("size"))
    return Move(call, *(MAY.get(call.op, (0, 0)) if call.fate == UNKNOWN else ()))


def check_seats(calls: list[Call]) -> Violations:
    """Everyone told so has a seat, once; never more than the cap; nobody is refused while a seat is free."""
    for mine in by_key(calls, "join", "leave", "touch", "stored").values():
        yield from check_number("a seat is counted once", [_counted(call) for call in mine])
        yield from check_members("whoever is told so has a seat", mine)
        yield from _check_cap(mine)
    for call in calls:
        if call.op == "stored leader" and call.told["leader"] not in (call.told["members"] or [None]):
            yield Violation("one of the members leads", f"{call.told['leader']!r} leads", (call,))


def check_sets(calls: list[Call]) -> Violations:
    """Members are where they were told to be, once, and within the bound."""
    for mine in by_key(calls, "add", "remove", "toggle", "add_many", "stored").values():
        yield from check_members("a member is where it was told to be", mine)
        # (of many documents the server tells two numbers and no outcomes, of which no size follows)
        if not any(call.op == "add_many" for call in mine):
            yield from check_number("a member is counted once", [_counted(call) for call in mine])
            yield from _check_cap(mine)


# Slots -------------------------------------------------------------------------------------------------------


def check_slots(calls: list[Call]) -> Violations:
    """Never more slots are held than there are, no slot by two, and nobody is refused while one is free."""
    for mine in by_key(calls).values():
        yield from check_number("slots are held up to the cap, and one that is free is given", [*map(_held, mine)])
        acquired = {
            c.asked["me"]: c for c in mine if c.op == "acquire" and c.fate == TOLD and c.told["slot"] is not None
        }
        released: dict[str, list[Call]] = defaultdict(list)
        for call in mine:
            if call.op == "release" and call.fate != UNTOUCHED:
                released[call.asked["me"]].append(call)
        yield from _check_alone(acquired, released)
        for call in mine:
            if call.op in ("renew", "release") and call.fate == TOLD and call.told["outcome"] == "lost":
                if not any(other.start < call.start for other in released[call.asked["me"]]):
                    yield Violation("whoever is told so has the slot", "it was lost", (call,))
            elif call.look:
                yield from _check_holders(call, mine, acquired, released)


def _held(call: Call) -> Move:
    if call.look:
        return exactly(call, 0, len(call.told))
    if call.fate != TOLD:
        return perhaps(call, {"acquire": 1, "release": -1}.get(call.op, 0))
    if call.op != "acquire":
        return exactly(call, -1 if call.told["outcome"] == "released" else 0)
    cap = call.asked["cap"]
    return Move(call, 1, 1, (1, cap)) if call.told["slot"] is not None else Move(call, seen=(cap, cap))


def _check_alone(acquired: Mapping[str, Call], released: Mapping[str, list[Call]]) -> Violations:
    """Find two who surely had one slot at one time: each from when he was told so until he began to release it."""
    holds: dict[int, list[tuple[int, float, Call]]] = defaultdict(list)
    for me, call in acquired.items():
        until = min((each.start for each in released.get(me, ())), default=math.inf)
        holds[call.told["slot"]].append((call.end, until, call))
    for held in holds.values():
        for (_, until, one), (start, _, other) in pairwise(sorted(held, key=lambda hold: hold[0])):
            if start < until:
                yield Violation("whoever is told so has the slot, alone", "two have the same", (one, other))


def _check_holders(
    look: Call, calls: list[Call], acquired: Mapping[str, Call], released: Mapping[str, list[Call]]
) -> Violations:
    promise = "whoever is told so has the slot"
    maybe = {call.asked["me"] for call in calls if call.op == "acquire" and call.fate == UNKNOWN}
    over = {me for me, mine in released.items() if any(call.fate == TOLD for call in mine)}
    for me, call in acquired.items():
        if me not in released and (me, call.told["slot"]) not in look.told:
            yield Violation(promise, f"{me!r} has it not", (call, look))
    for me, number in Counter(me for me, _ in look.told).items():
        if number > 1 or (me in acquired and me in over) or me not in acquired.keys() | maybe:
            yield Violation(promise, f"{me!r} has {number}", (look,))


# Codes -------------------------------------------------------------------------------------------------------


def check_codes(calls: list[Call]) -> Violations:
    """No two live documents share a code; whoever was told a code has it; a code that is free is not refused."""
    closing: dict[str, float] = defaultdict(lambda: math.inf)
    closed: dict[str, float] = defaultdict(lambda: math.inf)
    for call in calls:
        if call.op == "close" and call.fate != UNTOUCHED:
            me = call.asked["me"]
            closing[me], closed[me] = min(call.start, closing[me]), min(call.until, closed[me])
    given = [call for call in calls if call.op in ("insert", "assign") and call.fate != UNTOUCHED]
    yield from _check_shared(given, closing)
    yield from _check_refused(given, closed)
    for look in (call for call in calls if call.look):
        yield from _check_codes_stored(look, calls, given)


def _check_shared(given: list[Call], closing: Mapping[str, float]) -> Violations:
    surely: dict[str, list[tuple[int, float, Call]]] = defaultdict(list)
    for call in given:
        if call.fate == TOLD and call.told is not None:
            surely[call.told].append((call.end, closing[call.asked["me"]], call))
    for held in surely.values():
        for (_, until, one), (start, _, other) in pairwise(sorted(held, key=lambda hold: hold[0])):
            if start < until and one.asked["me"] != other.asked["me"]:
                yield Violation("no two live documents share a code", "two have the same", (one, other))


def _check_refused(given: list[Call], closed: Mapping[str, float]) -> Violations:
    might: dict[str, list[Call]] = defaultdict(list)
    for call in given:
        code = call.told if call.fate == TOLD else call.asked.get("code")
        if code is not None:
            might[code].append(call)
    for call in given:
        if call.fate != TOLD or call.told is not None:
            continue
        others = [other for other in might[call.asked["code"]] if other.asked["me"] != call.asked["me"]]
        if not any(other.start < call.end and call.start < closed[other.asked["me"]] for other in others):
            yield Violation("a code that is free is not refused", "nobody had it", (call,))


def _check_codes_stored(look: Call, calls: list[Call], given: list[Call]) -> Violations:
    stored: dict[str, Any] = look.told
    live = Counter(found["code"] for found in stored.values() if found["open"] and found["code"] is not None)
    for code, number in live.items():
        if number > 1:
            yield Violation("no two live documents share a code", f"{code!r} is stored {number} times")
    for call in given:
        if call.fate == TOLD:
            found = stored.get(call.asked["me"])
            if call.told != (found and found["code"]):
                yield Violation("whoever was told a code has it", f"stored is {found}", (call,))
    asked = {call.asked["me"] for call in calls if call.op in ("insert", "make") and call.fate != UNTOUCHED}
    for me in stored.keys() - asked:
        yield Violation("whoever was told a code has it", f"{me!r} is stored, and nobody has asked for it")
