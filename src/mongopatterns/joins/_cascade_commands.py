"""What a cascade sends, in the terms of the driver, and a call that is under way. Pure."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, Generic, TypeAlias, TypeVar

from mongopatterns.joins._cascade_spec import CascadeResult

T = TypeVar("T")
Document: TypeAlias = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Read:
    """One read, in the terms of the driver: `collection.method(**arguments)` gives a cursor."""

    collection: str
    method: str
    arguments: Document


@dataclass(frozen=True, slots=True)
class Delete:
    """One deletion, in the terms of the driver's `delete_many`."""

    collection: str
    arguments: Document


@dataclass(frozen=True, slots=True)
class Told:
    """Tell the caller how far it has come."""

    call: Callable[[CascadeResult], Any]
    result: CascadeResult


@dataclass(frozen=True, slots=True)
class InSession:
    """Carry something out in a session of its own."""

    run: Callable[[], Run[Any]]


@dataclass(frozen=True, slots=True)
class InTransaction:
    """Carry something out in a transaction, from its beginning each time that the driver repeats it."""

    run: Callable[[], Run[Any]]


Command: TypeAlias = Read | Delete | Told | InSession | InTransaction
Steps: TypeAlias = Generator[Command, Any, T]


class Run(Generic[T]):
    """A call that is under way.

    Attributes:
        next: What is to be done next; None when it is done.
        result: What came of it, when it is done.
    """

    def __init__(self, steps: Steps[T]) -> None:
        self._steps = steps
        self.next: Command | None = None
        self.result: T | None = None
        self.go_on(None)

    def go_on(self, answer: Any) -> None:
        """Take the answer to the last command."""
        try:
            self.next = self._steps.send(answer)
        except StopIteration as done:
            self.next, self.result = None, done.value


def within(attempt: Callable[[], Run[T]], *, own_session: bool) -> Steps[T]:
    """Carry something out in a transaction."""
    if own_session:
        result: T = yield InSession(lambda: Run(within(attempt, own_session=False)))
    else:
        result = yield InTransaction(attempt)
    return result
