"""What was found out about a database, and what to do about it: the one form of everything that reports. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

__all__ = ["Finding", "Severity"]


class Severity(str, Enum):
    """How bad it is."""

    INFO = "info"
    """Nothing is wrong; it may be of use to know."""
    WARNING = "warning"
    """It works, and is slow or at risk."""
    ERROR = "error"
    """It does not work, or must not be relied on."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Tell one thing that was found. Printed, it is one line.

    Attributes:
        code: What kind of finding it is, such as `missing-index`: it stays the same, so that code can ask for it.
        severity: How bad it is.
        subject: What it is about, such as the name of a collection.
        evidence: What was seen, as a sentence without its full stop.
        remedy: What to do about it, as a sentence without its full stop; empty if there is nothing to do.
    """

    code: str
    severity: Severity
    subject: str
    evidence: str
    remedy: str = ""

    def to_dict(self) -> dict[str, str]:
        """Return the parts as text, which `json.dumps` takes."""
        return {
            "code": self.code,
            "severity": self.severity.value,
            "subject": self.subject,
            "evidence": self.evidence,
            "remedy": self.remedy,
        }

    def __str__(self) -> str:
        """Return one line for a reader."""
        remedy = f" {self.remedy}." if self.remedy else ""
        return f"{self.severity.value} {self.code}: {self.subject}: {self.evidence}.{remedy}"
