"""The import against that of its dependencies.

Every turn is a fresh interpreter, timed from start to end. Whatever third-party modules the package imports
are found out first, and are what the other side imports: the difference is the package itself, with those modules
of the standard library that nothing else had asked for.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import packages_distributions
from typing import Final

from benchmarks._ratios import AtMostMore, Name, Target, alternate
from benchmarks._rows import Effort, Measurable, Result

PACKAGE: Final = "mongopatterns"
LOADED: Final = "import sys; before = set(sys.modules); import {}; print(*(set(sys.modules) - before))"


@dataclass(frozen=True, slots=True)
class ImportRow:
    """A module against the third-party modules that it imports."""

    module: str
    against: str
    target: Target | None

    @property
    def name(self) -> str:
        return f"import {self.module}"

    def measure(self, uri: str, effort: Effort) -> Iterator[Result]:
        """Compare the two imports in fresh interpreters; no server is used."""
        del uri
        installed = packages_distributions().keys() - {PACKAGE}
        loaded = sorted(module for module in _python(LOADED.format(self.module)).split() if _top(module) in installed)
        code: dict[Name, str] = {"ours": f"import {self.module}", "theirs": f"import {', '.join(loaded)}"}

        def seconds(name: Name) -> float:
            started = time.perf_counter()
            _python(code[name])
            return time.perf_counter() - started

        measured = alternate(seconds, rounds=effort.rounds, warm_up=effort.warm_up)
        yield Result(self.name, self.against, "fresh interpreter", measured, self.target)


def _top(module: str) -> str:
    return module.partition(".")[0]


def _python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout


ROWS: Final[tuple[Measurable, ...]] = tuple(
    ImportRow(package, "import of its dependencies", AtMostMore(60))
    for package in (PACKAGE, *(f"{PACKAGE}.{pattern}" for pattern in ("counters", "documents", "membership")))
)
