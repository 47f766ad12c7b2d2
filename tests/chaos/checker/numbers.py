"""Numbers by what was told of them: totals, seats taken, what is used of a limit, documents counted. Pure.

At the time of a call all is done that was told before it began; of what was under way at the same time, or is unknown,
any part may be. So a number lies between two bounds at any time, and what was told of it must lie there as well.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

from tests.chaos.checker.log import TOLD, UNKNOWN, UNTOUCHED, Call, Violation

Violations = Iterator[Violation]


def by_key(calls: Iterable[Call], *ops: str) -> dict[str, list[Call]]:
    """Sort calls (of some kinds alone) by what they are about, each in the order of their beginnings."""
    found: dict[str, list[Call]] = defaultdict(list)
    for call in sorted(calls, key=lambda call: call.start):
        if not ops or call.op in ops:
            found[call.key].append(call)
    return found


@dataclass(frozen=True)
class Move:
    """What a call has done to a number, and what it was told of it.

    Attributes:
        call: The call.
        least, most: What it has added, at least and at most.
        seen: Between which two values the number was after it; None if nothing was told.
    """

    call: Call
    least: float = 0
    most: float = 0
    seen: tuple[float, float] | None = None


def exactly(call: Call, by: float, seen: float | None = None) -> Move:
    """Make the move of a call that was answered."""
    return Move(call, by, by, None if seen is None else (seen, seen))


def perhaps(call: Call, by: float) -> Move:
    """Make the move of a call of which nobody knows, or which has done nothing."""
    return Move(call) if call.fate == UNTOUCHED else Move(call, min(0, by), max(0, by))


class Before:
    """Sums of what has come before a tick."""

    def __init__(self, pairs: Iterable[tuple[float, float]]) -> None:
        ordered = sorted(pairs)
        self._ticks = [tick for tick, _ in ordered]
        self._sums = [0, *accumulate(number for _, number in ordered)]

    def __call__(self, tick: float) -> float:
        return self._sums[bisect_left(self._ticks, tick)]


def check_number(promise: str, moves: Sequence[Move]) -> Violations:
    """Find what was told of a number that it cannot have been."""
    raised = Before((move.call.start, max(0, move.most)) for move in moves)
    lowered = Before((move.call.start, min(0, move.least)) for move in moves)
    # What is over has raised the number by no less, and lowered it by no less, than it was told.
    surely_raised = Before((move.call.until, max(0, move.least)) for move in moves)
    surely_lowered = Before((move.call.until, min(0, move.most)) for move in moves)
    for move in moves:
        if move.seen is None:
            continue
        start, end = move.call.start, move.call.end
        # (a call knows its own part, which is not merely under way)
        most = raised(end) - max(0, move.most) + surely_lowered(start) + move.most
        least = lowered(end) - min(0, move.least) + surely_raised(start) + move.least
        low, high = move.seen
        if low > most or high < least:
            told = f"{low:g}" if low == high else f"{low:g} to {high:g}"
            yield Violation(promise, f"{told} was told of what was {least:g} to {most:g}", (move.call,))


def check_apart(promise: str, moves: Iterable[Move]) -> Violations:
    """Find two additions that, by the totals that they were told, have counted the same unit."""
    last, before = -math.inf, None
    added = [(move.seen[1], move.least, move.call) for move in moves if move.seen and move.least > 0]
    for total, amount, call in sorted(added, key=lambda each: each[:2]):
        if before is not None and total - amount < last:
            yield Violation(promise, "two additions have counted the same unit", (before, call))
        last, before = total, call


def moves_once(calls: Iterable[Call], move: Callable[[Call], Move]) -> list[Move]:
    """Make the moves of calls. Those with one `once=` id are one, and what each of them was told is a reading of it."""
    moves: list[Move] = []
    repeats: dict[tuple[str, str], list[Call]] = defaultdict(list)
    for call in calls:
        if call.asked.get("once") is None:
            moves.append(move(call))
        else:
            repeats[call.op, call.asked["once"]].append(call)
    for group in repeats.values():
        told = sorted((call for call in group if call.fate == TOLD), key=lambda call: call.end)
        first = told[0] if told else next((call for call in group if call.fate == UNKNOWN), group[0])
        # It is done at any time since the first of them has begun, and surely when one of them is told so.
        start = min(call.start for call in group)
        whole = Call(first.of, first.op, first.key, first.asked, start, first.end, first.fate, first.told)
        once = move(whole)
        moves.append(Move(whole, once.least, once.most))
        moves += [Move(call, seen=move(call).seen) for call in told]
    return moves
