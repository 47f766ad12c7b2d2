"""The log of a mixed load: what callers asked for, what they were told, and which faults there were meanwhile. Pure.

Every call begins and ends at a tick: ticks count the beginnings and ends of all calls and faults in the one order in
which they came. A call that ended before another one began has come before it; of two that were under way at once
nobody knows which the server did first.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

TOLD: Literal["told"] = "told"
"""There was an answer."""
UNKNOWN: Literal["unknown"] = "unknown"
"""There was none: by `may_have_applied` the call may be applied, then or at any time afterwards."""
UNTOUCHED: Literal["untouched"] = "untouched"
"""There was an error that says that nothing is applied: by `may_have_applied`, it may not be."""
Fate = Literal["told", "unknown", "untouched"]


@dataclass(frozen=True)
class Call:
    """One call, and what came of it.

    Attributes:
        of: The primitive.
        op: What was called. What begins with `stored` is a look at the collection itself, when all was over.
        key: What the call is about: calls of one primitive with one key decide about the same number or set.
        asked: The arguments.
        start, end: The ticks at which it began and ended.
        fate: Whether there was an answer.
        told: The answer.
        error: The name of the error, if there was no answer.
    """

    of: str
    op: str
    key: str
    asked: Mapping[str, Any]
    start: int
    end: int
    fate: Fate = TOLD
    told: Any = None
    error: str = ""

    @property
    def look(self) -> bool:
        """Whether it is no call of the load, but a look at what is stored in the end."""
        return self.op.startswith("stored")

    @property
    def until(self) -> float:
        """The tick by which it was surely over: what nobody knows of may be done at any time."""
        return self.end if self.fate == TOLD else math.inf

    def __str__(self) -> str:
        answer = f"told {self.told!r}" if self.fate == TOLD else f"{self.fate} ({self.error})"
        return f"[{self.start}-{self.end}] {self.of}.{self.op} {self.key} {dict(self.asked)}: {answer}"


@dataclass(frozen=True)
class Violation:
    """A promise that was not kept.

    Attributes:
        promise: What was promised.
        why: What is in its way.
        calls: The calls that show it; none if it shows in all of them.
    """

    promise: str
    why: str
    calls: tuple[Call, ...] = ()

    def __str__(self) -> str:
        return "\n    ".join([f"{self.promise}: {self.why}", *map(str, self.calls)])


@dataclass(frozen=True)
class Fault:
    """A fault that was injected, and the ticks from its beginning until it was got over."""

    kind: str
    start: int
    end: int

    def meets(self, call: Call) -> bool:
        """Tell whether a call was under way at any time of the fault."""
        return call.start < self.end and self.start < call.end


@dataclass
class Tally:
    """What all faults of one kind came to. A call that was under way during two faults counts for both."""

    injected: int = 0
    calls: int = 0
    told: int = 0
    unknown: int = 0
    untouched: int = 0
    violations: int = 0

    def add(self, faults: Sequence[Fault], log: Iterable[Call], violations: Iterable[Violation]) -> None:
        """Count the calls of one run that were under way during these faults of it."""
        self.injected += len(faults)
        met = [call for call in log if any(fault.meets(call) for fault in faults)]
        self.calls += len(met)
        for fate in (TOLD, UNKNOWN, UNTOUCHED):
            setattr(self, fate, getattr(self, fate) + sum(call.fate == fate for call in met))
        self.violations += sum(
            not each.calls or any(fault.meets(call) for call in each.calls for fault in faults) for each in violations
        )


@dataclass
class Table:
    """What came of each kind of fault, over several runs.

    Attributes:
        runs: Which ones.
        calls: How many calls they had in all.
        tallies: What came of each kind, in the order in which they are shown.
    """

    runs: list[str] = field(default_factory=list)
    calls: int = 0
    tallies: dict[str, Tally] = field(default_factory=dict)

    def add(self, run: str, faults: Sequence[Fault], log: Sequence[Call], violations: Sequence[Violation]) -> None:
        """Count one run."""
        self.runs.append(run)
        self.calls += sum(not call.look for call in log)
        for kind in dict.fromkeys(fault.kind for fault in faults):
            self.tallies.setdefault(kind, Tally()).add(
                [fault for fault in faults if fault.kind == kind], log, violations
            )

    def lines(self) -> Iterator[str]:
        """Write it as Markdown."""
        yield "| fault | injected | calls under way | told | unknown | not applied | violations |"
        yield "|---|---|---|---|---|---|---|"
        for kind, tally in self.tallies.items():
            numbers = (tally.injected, tally.calls, tally.told, tally.unknown, tally.untouched, tally.violations)
            yield f"| {kind} | " + " | ".join(f"{number:,}" for number in numbers) + " |"
        yield ""
        yield f"{self.calls:,} calls in {len(self.runs)} runs: {', '.join(sorted(self.runs))}."


BEGIN, END = "<!-- faults: begin -->", "<!-- faults: end -->"


def put_between(page: str, text: str) -> str:
    """Put text between the two marks of a page, instead of what stands there."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the page has no {BEGIN} with {END} below it")
    return f"{before}{begin}\n\n{text}\n\n{end}{after}"
