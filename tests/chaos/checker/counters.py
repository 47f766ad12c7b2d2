"""What counters, quotas and rate limiters promise. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from tests.chaos.checker.log import TOLD, UNKNOWN, UNTOUCHED, Call, Violation
from tests.chaos.checker.numbers import (
    Move,
    Violations,
    by_key,
    check_apart,
    check_number,
    exactly,
    moves_once,
    perhaps,
)

TICK = 0.002  # seconds: the server's times are whole milliseconds


def check_counters(calls: list[Call]) -> Violations:
    """Each addition counts once: what is stored is what was told, and at most what is unknown besides."""
    for mine in by_key(calls, "add", "value", "stored").values():
        moves = moves_once(mine, _added)
        yield from check_number("an addition counts once", moves)
        yield from check_apart("an addition counts once", moves)


def _added(call: Call) -> Move:
    by = call.asked["amount"] if call.op == "add" else 0
    return exactly(call, by, call.told) if call.fate == TOLD else perhaps(call, by)


def check_quotas(calls: list[Call]) -> Violations:
    """No quota admits past its limit or refuses what fits, and all that was told is charged, once."""
    for mine in by_key(calls).values():
        yield from check_number("a quota charges once", moves_once(mine, _charged))
        for call in mine:
            if call.fate == TOLD:
                yield from _check_verdict(call, mine)


def _charged(call: Call) -> Move:
    """Tell how what is used or held has changed."""
    asked = call.asked
    by = asked.get("amount", 0) - asked.get("reserved", 0)
    if call.op == "refund":
        by = -by
    if call.fate != TOLD:
        return perhaps(call, by)
    return exactly(call, by if call.told["ok"] else 0, call.told.get("level"))


def _check_verdict(call: Call, calls: Iterable[Call]) -> Violations:
    told, amount = call.told, call.asked.get("amount", 0)
    if call.op in ("consume", "reserve"):
        level, limit = told["level"], call.asked["limit"]
        if told["ok"] and level > limit:
            yield Violation("nothing is admitted past a limit", f"{level} of {limit}", (call,))
        if not told["ok"] and level + amount <= limit:
            yield Violation("nobody is refused who fits", f"{level} of {limit}, and {amount} more", (call,))
    elif call.op == "refund" and told["dropped"]:
        yield Violation("a refund gives back what was charged", f"{told['dropped']} was dropped", (call,))
    elif call.op in ("settle", "release") and not told["ok"]:
        # Its caller may have asked for the same before, and not been told.
        token = call.asked["token"]
        mine = [each for each in calls if each.asked.get("token") == token and each.start < call.start]
        if not any(each.op in ("settle", "release") and each.fate != UNTOUCHED for each in mine):
            yield Violation("a hold stays until it is settled", "it was gone", (call,))


def check_limiters(calls: list[Call]) -> Violations:
    """No limiter admits past its limit or refuses what fits."""
    for mine in by_key(calls).values():
        if "rate" in mine[0].asked:
            yield from check_bucket(mine)
            continue
        yield from check_number("a hit counts once", [_hit(call) for call in mine])
        for call in mine:
            if call.fate == TOLD and call.told["left"] < 0:
                yield Violation("nothing is admitted past a limit", "less than nothing is left", (call,))
            if call.fate == TOLD and not call.told["ok"] and call.told["left"] >= call.asked["cost"]:
                yield Violation("nobody is refused who fits", "there was room", (call,))


def _hit(call: Call) -> Move:
    """Tell how what counts has changed, of a limiter whose period does not end before the load does."""
    cost = call.asked["cost"]
    if call.fate != TOLD:
        return perhaps(call, cost)
    return exactly(call, cost if call.told["ok"] else 0, call.asked["limit"] - call.told["left"])


def check_bucket(calls: list[Call]) -> Violations:
    """Each hit makes the time at which the bucket is empty later by its cost; it is never further away than the burst.

    The server decides by the time at which a command came to it. One that has come before another may be decided after
    it, and then the bucket is not refilled again for it: so hits are in the order of the times at which the bucket is
    empty, and not of those at which they came.
    """
    burst, rate = calls[0].asked["limit"], calls[0].asked["rate"]
    unknown = [call for call in calls if call.fate == UNKNOWN]
    told = [call for call in calls if call.fate == TOLD]
    admitted = sorted((call for call in told if call.told["ok"]), key=lambda call: call.told["empty"])
    last, at = 0.0, 0.0
    for call in admitted:
        if call.told["empty"] - call.asked["cost"] / rate < last - TICK:
            yield Violation("a hit counts once", "two have taken the same", (call,))
        # (of one that nobody knows of it is not known when it came: until this one was told)
        at = max(at, call.told["at"])
        until = call.told["by"] if any(other.start < call.end for other in unknown) else at
        if call.told["empty"] - until > burst / rate + TICK:
            over = (call.told["empty"] - until) * rate - burst
            yield Violation("nothing is admitted past a limit", f"{over:g} more than {burst}", (call,))
        last = call.told["empty"]
    for call in told:
        if not call.told["ok"]:
            empty = max((other.told["empty"] for other in admitted if other.start < call.end), default=0.0)
            level = max(0.0, empty - call.told["at"]) * rate
            level += sum(other.asked["cost"] for other in unknown if other.start < call.end)
            if level + call.asked["cost"] <= burst - TICK * rate:
                yield Violation("nobody is refused who fits", f"at most {level:g} of {burst} was taken", (call,))
