"""What both sides of group commit share: which of the waiting calls travel together, and what failure means for them.

A *run* is a stretch of equal calls that follow each other. Calls are counted in runs because the server's answer
to a group is stored for a moment, and must stay small: a thousand equal calls are one run.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from itertools import groupby, islice
from typing import Any, TypeVar

from pymongo.errors import PyMongoError

from mongopatterns.errors import MongoPatternsError, OutcomeUnknown, UsageError, may_have_applied

__all__ = [
    "NOT_SENT",
    "SHORTEST",
    "check_bound",
    "closed",
    "group_size",
    "one_each",
    "own_copy",
    "runs",
    "timed_out",
    "unknown",
]

CallT = TypeVar("CallT")
AnswerT = TypeVar("AnswerT")

NOT_SENT = "the timeout ran out while the call waited for its turn; nothing was sent"
SHORTEST = 0.001  # seconds that a command is given at least: to a driver, 0 is no timeout
_UNKNOWN = "the call was sent, and its outcome is unknown: it is applied, or will be, or never was"


def runs(calls: Iterable[CallT]) -> list[tuple[CallT, int]]:
    """Count equal calls that follow each other: `[a, a, b, a]` is `[(a, 2), (b, 1), (a, 1)]`."""
    return [(call, len(list(run))) for call, run in groupby(calls)]


def group_size(calls: Iterable[Any], max_calls: int, max_runs: int) -> int:
    """Tell how many of the waiting calls, from the first on, make one group.

    Args:
        calls: Those that wait, in order.
        max_calls: How many calls a group has at most.
        max_runs: How many runs a group has at most.

    Returns:
        0 if nobody waits; 1 if calls cannot be compared.
    """
    try:
        return sum(len(list(run)) for _, run in islice(groupby(islice(calls, max_calls)), max_runs))
    except Exception:  # noqa: BLE001  # whatever their comparison raises; sent by itself, none is compared
        return 1


def leaves_open(error: BaseException) -> bool:
    """Tell whether nobody knows what came of the calls, alone or in a group, that ended in `error`.

    A lost connection or a timeout leaves it open; so does any error that is neither the driver's nor our own,
    because a reply that could not be read belongs to a write that may be stored; and the end of whoever sent it.
    A plain refusal does not.
    """
    if isinstance(error, OutcomeUnknown):
        return False  # it says so itself
    return may_have_applied(error) or not isinstance(error, (MongoPatternsError, PyMongoError))


def unknown(cause: BaseException) -> OutcomeUnknown:
    """Return what a caller is told if `cause` leaves open what came of its call."""
    error = OutcomeUnknown(f"{_UNKNOWN} ({type(cause).__name__})")  # a foreign error's own text may raise
    error.__cause__ = cause
    return error


def timed_out() -> OutcomeUnknown:
    """Return the error of a caller whose timeout ran out after its call was sent in a group."""
    return unknown(TimeoutError("the timeout ran out before the answer came"))


def own_copy(error: BaseException) -> BaseException:
    """Return an equal error to be raised in another place: each place writes its own lines into a traceback.

    The copy starts with the lines that `error` has. An error that cannot be copied is returned as it is.
    """
    try:
        twin = copy.copy(error)
    except Exception:  # noqa: BLE001  # whatever the constructor of a foreign error makes of its own arguments
        return error
    if type(twin) is not type(error):
        return error
    twin.__cause__, twin.__context__ = error.__cause__, error.__context__
    twin.__suppress_context__ = error.__suppress_context__
    return twin.with_traceback(error.__traceback__)


def one_each(answers: Iterable[AnswerT], calls: int) -> list[AnswerT]:
    """Return the answers, if there is one for each call.

    Raises:
        RuntimeError: There are more, or fewer.
    """
    listed = list(answers)
    if len(listed) != calls:
        raise RuntimeError(f"{len(listed)} answers to {calls} calls")
    return listed


def check_bound(argument: str, value: int) -> None:
    """Refuse a bound that would let nothing through.

    Raises:
        UsageError: If `value` is no whole number from 1.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise UsageError(argument, f"expected a whole number from 1, got {value!r}")


def closed(name: str) -> UsageError:
    """Return the error of a call that comes after `close`."""
    return UsageError(name, "is closed, and takes no further calls")
