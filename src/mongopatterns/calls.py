"""A call that takes several commands: a generator of what is to be read, which a shell sends. Pure.

A plan that needs an answer before it knows what to ask next is written as a generator: it yields what is to be read,
and is sent the answer. A shell of either world drives it by the same few lines, and has nothing to decide.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

__all__ = ["Call", "again"]

ReadT = TypeVar("ReadT")


@dataclass
class Call(Generic[ReadT]):
    """One call under way.

    Attributes:
        steps: What is still to be read.
        result: What came of it, when there is nothing more to read.
    """

    steps: Generator[ReadT, Any, Any]
    result: Any = None


def again(call: Call[ReadT], answer: Any) -> ReadT | None:
    """Return what is to be read next, given the last answer (None at first); None if the call is over."""
    try:
        return call.steps.send(answer)
    except StopIteration as end:
        call.result = end.value
        return None
