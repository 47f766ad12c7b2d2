"""Sets with a cap, slots, sets under names, and codes that nobody else has: who is in, decided in one write."""

from mongopatterns.membership._capped_set_async import AsyncCappedSet
from mongopatterns.membership._capped_set_spec import CappedSetSpec, Close, Leader, Waiting
from mongopatterns.membership._capped_set_sync import CappedSet
from mongopatterns.membership._capped_set_verdicts import (
    JoinManyResult,
    JoinOutcome,
    JoinResult,
    LeaveOutcome,
    LeaveResult,
    MemberOutcome,
    MemberResult,
)
from mongopatterns.membership._keyed_set_async import AsyncKeyedSet
from mongopatterns.membership._keyed_set_spec import KeyedSetSpec
from mongopatterns.membership._keyed_set_sync import KeyedSet
from mongopatterns.membership._keyed_set_verdicts import AddManyResult, KeyedSetOutcome, KeyedSetResult
from mongopatterns.membership._slots_async import AsyncSlots
from mongopatterns.membership._slots_spec import HeldSlot, Slot, SlotOutcome, SlotsSpec
from mongopatterns.membership._slots_sync import Slots
from mongopatterns.membership._unique_code_async import AsyncUniqueCode
from mongopatterns.membership._unique_code_plan import UniqueCodeSpec
from mongopatterns.membership._unique_code_sync import UniqueCode

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
