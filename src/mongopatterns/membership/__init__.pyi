# What can be imported from `mongopatterns.membership`: read by type checkers, and by `__init__.py` when a name is asked
# for.

from ._capped_set_async import AsyncCappedSet
from ._capped_set_spec import CappedSetSpec, Close, Leader, Waiting
from ._capped_set_sync import CappedSet
from ._capped_set_verdicts import (
    JoinManyResult,
    JoinOutcome,
    JoinResult,
    LeaveOutcome,
    LeaveResult,
    MemberOutcome,
    MemberResult,
)
from ._keyed_set_async import AsyncKeyedSet
from ._keyed_set_spec import KeyedSetSpec
from ._keyed_set_sync import KeyedSet
from ._keyed_set_verdicts import AddManyResult, KeyedSetOutcome, KeyedSetResult
from ._slots_async import AsyncSlots
from ._slots_spec import HeldSlot, Slot, SlotOutcome, SlotsSpec
from ._slots_sync import Slots
from ._unique_code_async import AsyncUniqueCode
from ._unique_code_plan import UniqueCodeSpec
from ._unique_code_sync import UniqueCode

__all__ = [
    "AddManyResult",
    "AsyncCappedSet",
    "AsyncKeyedSet",
    "AsyncSlots",
    "AsyncUniqueCode",
    "CappedSet",
    "CappedSetSpec",
    "Close",
    "HeldSlot",
    "JoinManyResult",
    "JoinOutcome",
    "JoinResult",
    "KeyedSet",
    "KeyedSetOutcome",
    "KeyedSetResult",
    "KeyedSetSpec",
    "Leader",
    "LeaveOutcome",
    "LeaveResult",
    "MemberOutcome",
    "MemberResult",
    "Slot",
    "SlotOutcome",
    "Slots",
    "SlotsSpec",
    "UniqueCode",
    "UniqueCodeSpec",
    "Waiting",
]
