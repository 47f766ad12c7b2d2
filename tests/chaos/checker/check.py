"""The checker: recomputes every promise from the log of what callers were told, and from what is stored. Pure.

What nobody knows of counts as an interval: a call without an answer has done all that it asked for, or nothing, at any
time from its beginning on. A promise is broken if no such choice explains what was told. So a log of which nobody knows
anything would break none: `check_load` finds what a log cannot show.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

from tests.chaos.checker.counters import check_counters, check_limiters, check_quotas
from tests.chaos.checker.documents import check_buffers, check_cascades, check_documents, check_reads
from tests.chaos.checker.log import TOLD, UNKNOWN, Call, Violation
from tests.chaos.checker.members import check_codes, check_seats, check_sets, check_slots
from tests.chaos.checker.numbers import Violations

RULES: dict[str, Callable[[list[Call]], Violations]] = {
    "Counter": check_counters,
    "Quota": check_quotas,
    "RateLimiter": check_limiters,
    "CappedSet": check_seats,
    "Slots": check_slots,
    "KeyedSet": check_sets,
    "UniqueCode": check_codes,
    "Documents": check_documents,
    "Cascade": check_cascades,
    "WriteBuffer": check_buffers,
}
READERS = ("Join", "Loader", "Pager", "Report")
PRIMITIVES = (*RULES, *READERS)

MOST_UNKNOWN = 0.2  # of the calls of a primitive, if they are to show anything
# What is granted or refused, and by which calls.
VERDICTS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "Quota": ("consume", lambda told: told["ok"]),
    "RateLimiter": ("hit", lambda told: told["ok"]),
    "CappedSet": ("join", lambda told: told["outcome"] != "full"),
    "Slots": ("acquire", lambda told: told["slot"] is not None),
    "KeyedSet": ("add", lambda told: told["outcome"] != "full"),
    "UniqueCode": ("insert", lambda told: told is not None),
    "Documents": ("take", bool),
}


def check(log: Sequence[Call]) -> list[Violation]:
    """Find every promise that was not kept."""
    of: dict[str, list[Call]] = defaultdict(list)
    for call in log:
        of[call.of].append(call)
    found = [violation for name, rule in RULES.items() for violation in rule(of[name])]
    found += [
        Violation("what is written together is stored together", "the numbers differ", (call,))
        for call in log
        if call.op == "stored together" and len(set(call.told)) > 1
    ]
    return [*found, *check_reads([call for name in ("WriteBuffer", *READERS) for call in of[name]])]


def check_load(log: Sequence[Call], least: int) -> list[Violation]:
    """Find what the log cannot show: too few answers, too much unknown, or no refusal where there are limits."""
    found = []
    for name in PRIMITIVES:
        mine = [call for call in log if call.of == name and not call.look]
        told = sum(call.fate == TOLD for call in mine)
        unknown = sum(call.fate == UNKNOWN for call in mine)
        if told < least:
            found.append(Violation("there is a load", f"{name} was answered {told} times"))
        if unknown > MOST_UNKNOWN * len(mine):
            found.append(Violation("enough is known", f"of {len(mine)} calls of {name} {unknown} are unknown"))
    for name, (op, granted) in VERDICTS.items():
        answers = {granted(call.told) for call in log if (call.of, call.op, call.fate) == (name, op, TOLD)}
        if answers != {True, False}:
            found.append(Violation("some are granted, and some refused", f"by {name}: {answers or 'nobody'}"))
    looked = {(call.of, call.key) for call in log if call.look}
    for name, key in sorted({(call.of, call.key) for call in log if call.of in RULES} - looked):
        if name != "RateLimiter":  # (of a bucket that refills all the time nothing stored can be compared)
            found.append(Violation("all that was written is looked at", f"{key!r} of {name} was not"))
    if not any(call.fate == UNKNOWN for call in log):
        found.append(Violation("some answers are lost for good", "all are known"))
    return found
