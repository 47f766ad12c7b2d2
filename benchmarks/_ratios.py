"""From times to ratios. Pure: no clock, no client.

Two sides are timed in turns, and each turn of the one is divided by the turn of the other beside it, so that
whatever slows the machine down for a while slows down both. The order is swapped from round to round, so that
neither side always comes second. The median of the ratios is told, and how far they spread.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import median, quantiles
from typing import Literal, Protocol, TypeAlias

Name: TypeAlias = Literal["ours", "theirs"]


@dataclass(frozen=True, slots=True)
class Pair:
    """The two turns of one round, in seconds per call."""

    ours: float
    theirs: float

    @property
    def ratio(self) -> float:
        return self.ours / self.theirs


def schedule(rounds: int) -> Iterator[tuple[Name, Name]]:
    """Tell who comes first in each round, and who second."""
    for number in range(rounds):
        yield ("ours", "theirs") if number % 2 == 0 else ("theirs", "ours")


def alternate(seconds: Callable[[Name], float], *, rounds: int, warm_up: int) -> Measurement:
    """Time both sides in turns.

    Args:
        seconds: Runs one side once and returns its seconds per call.
        rounds: How many rounds count.
        warm_up: How many rounds come before them and do not.
    """
    pairs = []
    for order in schedule(warm_up + rounds):
        times = {name: seconds(name) for name in order}
        pairs.append(Pair(times["ours"], times["theirs"]))
    return Measurement(tuple(pairs[warm_up:]))


@dataclass(frozen=True, slots=True)
class Measurement:
    """What all rounds of one comparison say; there are at least two."""

    pairs: Sequence[Pair]

    @property
    def ratios(self) -> list[float]:
        return [pair.ratio for pair in self.pairs]

    @property
    def ratio(self) -> float:
        """The median of the ratios: below 1, ours is the quicker one."""
        return median(self.ratios)

    @property
    def times(self) -> float:
        """How many times as fast ours is, by the median of the ratios."""
        return 1 / self.ratio

    @property
    def lowest(self) -> float:
        return min(self.ratios)

    @property
    def highest(self) -> float:
        return max(self.ratios)

    @property
    def middle_half(self) -> tuple[float, float]:
        """The quartiles: half of the ratios lie between the two."""
        low, _, high = quantiles(self.ratios, n=4, method="inclusive")
        return low, high

    @property
    def ours(self) -> float:
        """The median of our seconds per call."""
        return median(pair.ours for pair in self.pairs)

    @property
    def theirs(self) -> float:
        """The median of their seconds per call."""
        return median(pair.theirs for pair in self.pairs)

    @property
    def extra(self) -> float:
        """The median of the seconds that ours took longer, round by round."""
        return median(pair.ours - pair.theirs for pair in self.pairs)


class Target(Protocol):
    """What a comparison should come to."""

    def met(self, measured: Measurement) -> bool:
        """Tell whether it did."""
        ...


@dataclass(frozen=True, slots=True)
class AtMost:
    """The median ratio is at most this."""

    ratio: float

    def __str__(self) -> str:
        return f"<= {self.ratio:g}"

    def met(self, measured: Measurement) -> bool:
        return measured.ratio <= self.ratio


@dataclass(frozen=True, slots=True)
class AtLeastTimes:
    """At least this many times as fast: the median ratio is at most one over it."""

    times: float

    def __str__(self) -> str:
        return f">= {self.times:g}x"

    def met(self, measured: Measurement) -> bool:
        return measured.times >= self.times


@dataclass(frozen=True, slots=True)
class AtMostMore:
    """The median difference is at most this many milliseconds."""

    milliseconds: float

    def __str__(self) -> str:
        return f"<= {self.milliseconds:g} ms more"

    def met(self, measured: Measurement) -> bool:
        return measured.extra * 1000 <= self.milliseconds
