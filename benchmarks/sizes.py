"""What a quota stores per key.

The state of a quota of three windows and a bank, as BSON, without the document's own fields around it. A combined
call without room for all of its group stores the group's answers beside the state until the next such call replaces
them: one number for each run of equal amounts, of which a group has at most 64. They are weighed apart. The worst is
shown: a group whose every amount is another than the one before, and amounts in fractions, which are stored as
decimals of 16 bytes each.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

from bson import encode

from benchmarks import counters
from benchmarks._rows import Effort, Measurable, Size
from benchmarks._worlds import World
from mongopatterns import AsyncQuota
from mongopatterns.amounts import Amount

BELOW: Final = 400
RUNS: Final = 64
LONE: Final = 3


@dataclass(frozen=True, slots=True)
class SizeRow:
    """The state after lone calls and after a group, in some kind of number.

    Attributes:
        name: What is weighed.
        against: In which numbers.
        amount: What one call takes.
    """

    name: str
    against: str
    amount: Amount

    def measure(self, uri: str, effort: Effort) -> Iterator[Size]:
        """Make the calls and look at what they stored; nothing is timed."""
        del effort
        with World("async", 1).open(uri) as stage:
            consume = AsyncQuota(stage.database, counters.PLAN, combine=True).consume
            call = {"key": "k", "amount": self.amount}
            # What an hour long ago left is banked by the next call, so that there is a bank.
            stage.call(consume, {**call, "now": counters.clock() - dt.timedelta(days=1)})
            for _ in range(LONE):
                stage.call(consume, call)
            with stage.audit() as database:
                yield self._size("the state", f"{LONE} lone calls", _state(database), BELOW)
            # The first one travels alone, and those that come before its answer in one group.
            # There is no room for the last of these: a group that fits as a whole needs no answers.
            amounts = [*(self.amount * (1 + n % 2) for n in range(RUNS - 1)), 4 * counters.LIMIT]
            stage.together(consume, [call, *({**call, "amount": amount} for amount in amounts)])
            with stage.audit() as database:
                state = _state(database)
            after = f"a group of {RUNS} runs"
            yield self._size("the state without the group's answers", after, _without_answers(state), BELOW)
            yield self._size("all of it", after, state, None)

    def _size(self, part: str, after: str, state: Mapping[str, Any], below: int | None) -> Size:
        return Size(f"{self.name}, in {self.against}", part, after, len(encode(state)), below)


def _state(database: Any) -> dict[str, Any]:
    return database[counters.PLAN.collection].find_one({"_id": "k"})[counters.PLAN.path]


def _without_answers(state: Mapping[str, Any]) -> dict[str, Any]:
    """Drop the answers to a group.

    Raises:
        RuntimeError: If there are not as many as there were runs: the calls did not travel together.
    """
    answers = state["note"]["k"]
    if len(answers) != RUNS:
        raise RuntimeError(f"expected the answers of {RUNS} runs, found {len(answers)}")
    return {**state, "note": {name: value for name, value in state["note"].items() if name != "k"}}


ROWS: Final[tuple[Measurable, ...]] = (
    SizeRow("Quota, three windows and a bank", "whole numbers", 5),
    SizeRow("Quota, three windows and a bank", "fractions", Decimal("0.5")),
)
