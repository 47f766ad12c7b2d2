"""What a buffer has done so far, in numbers. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

from mongopatterns.histograms import Histogram


@dataclass(frozen=True)
class BufferStats:
    """What a buffer has done since it was made.

    Attributes:
        accepted: How many operations were taken.
        acknowledged: How many of them are stored.
        failed: How many the server has refused, or nobody knows what came of them.
        dropped: How many were dropped to make room for others.
        recovered: How many were left in the spool by processes that are gone, and done by this one.
        merged: How many were sent together with another one on the same document.
        waiting: How many wait now.
        under_way: How many are sent now, and not acknowledged yet.
        batches: How many batches were sent.
        bytes: How many bytes they had, about.
        seconds: How long the batches took, all together.
        latency: How many batches took at most so many seconds, by the bounds; those that took longer under infinity.
    """

    accepted: int = 0
    acknowledged: int = 0
    failed: int = 0
    dropped: int = 0
    recovered: int = 0
    merged: int = 0
    waiting: int = 0
    under_way: int = 0
    batches: int = 0
    bytes: int = 0
    seconds: float = 0.0
    latency: dict[float, int] = field(default_factory=dict)


@dataclass(frozen=True)
class BatchReport:
    """What is told of one batch.

    Attributes:
        items: How many operations were in it.
        steps: How many were sent: less, where some were merged.
        bytes: How many bytes they had, about.
        failed: How many of them are not stored, as far as anybody knows.
        seconds: How long it took.
    """

    items: int
    steps: int
    bytes: int
    failed: int
    seconds: float


class Counts:
    """Numbers that are still counted."""

    def __init__(self) -> None:
        self.acknowledged = self.failed = self.dropped = self.recovered = self.batches = self.bytes = 0
        self._latency = Histogram()

    def count(self, report: BatchReport) -> None:
        """Count a batch."""
        self.acknowledged += report.items - report.failed
        self.failed += report.failed
        self.batches += 1
        self.bytes += report.bytes
        self._latency.add(report.seconds)

    @property
    def latency(self) -> dict[float, int]:
        """The histogram."""
        return self._latency.counts()

    @property
    def seconds(self) -> float:
        """How long the batches took, all together."""
        return self._latency.seconds
