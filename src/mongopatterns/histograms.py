"""How long something took, counted by fixed bounds: small, mergeable, and what Prometheus wants. Pure."""

from __future__ import annotations

from bisect import bisect_left
from typing import Final

__all__ = ["BOUNDS", "Histogram"]

BOUNDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""The upper bounds, in seconds: those that Prometheus has by default, and a millisecond."""


class Histogram:
    """Count seconds by the smallest bound that they do not exceed."""

    def __init__(self) -> None:
        self.seconds: float = 0.0
        self._counts = [0] * (len(BOUNDS) + 1)

    def add(self, seconds: float) -> None:
        """Count one."""
        self.seconds += seconds
        self._counts[bisect_left(BOUNDS, seconds)] += 1

    def counts(self) -> dict[float, int]:
        """Return how many there were, by their bound; those above all bounds under infinity."""
        return dict(zip((*BOUNDS, float("inf")), self._counts, strict=True))
