"""What waits to be sent: in order per document, merged where that is sound, bounded in items and bytes. Pure.

Items with one key of one collection are a *lane*. A batch takes whole lanes, and no lane is in two batches at once: so
a document's operations are sent in their order, whatever else is under way. In a batch they are *waves*: the first
operation of each lane, then the second of those that have more, and so on; within a wave no two meet, and it can be
sent without order.

Whether two keys of *different fields* mean one document is not known. Where the field changes in a collection, what
comes later waits until everything before it is done: an *era* ends and another begins.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeAlias, TypeVar

from pymongo.operations import DeleteOne, ReplaceOne, UpdateOne

from mongopatterns.buffer._items import DELETE, MAX_DOCUMENT, UPDATE, Item, Target
from mongopatterns.buffer._merging import Merged
from mongopatterns.errors import OutcomeUnknown

ItemT = TypeVar("ItemT", bound=Item)


Step: TypeAlias = ItemT | Merged[ItemT]
"""What is sent as one operation: an item, or several that were merged."""


def joined(step: Step[ItemT], item: ItemT, most_bytes: int) -> Merged[ItemT] | None:
    """Return an operation that does what a step and the item after it do; None if no single one does."""
    both = step if isinstance(step, Merged) else Merged.of(step)
    return both if both is not None and both.absorbs(item, most_bytes) else None


def steps_of(items: Iterable[ItemT], most_bytes: int) -> list[Step[ItemT]]:
    """Put items of one document into as few operations as can be."""
    steps: list[Step[ItemT]] = []
    for item in items:
        if steps and (both := joined(steps[-1], item, most_bytes)):
            steps[-1] = both
        else:
            steps.append(item)
    return steps


def operation(step: Step[ItemT]) -> Any:
    """Return the driver's operation, of whatever is no insert."""
    first = step.first
    if first.kind == DELETE:
        return DeleteOne(first.filter)
    return (UpdateOne if first.kind == UPDATE else ReplaceOne)(first.filter, step.body, upsert=first.upsert)


Wave = dict[Target, list[Step[ItemT]]]


@dataclass(eq=False)
class Mark:
    """What was there at a time.

    Attributes:
        number: It was accepted before this one.
        left: How many of it are not done.
    """

    number: int
    left: int


@dataclass(eq=False)
class Batch(Generic[ItemT]):
    """What is sent at a time.

    Attributes:
        waves: The operations by collection; in a wave no two meet.
        members: The items that they stand for.
        steps: How many operations they are.
        size: The bytes, about.
        id: What it is called in the ledger.
    """

    waves: list[Wave[ItemT]] = field(default_factory=list)
    members: list[ItemT] = field(default_factory=list)
    steps: int = 0
    size: int = 0
    id: Any = None

    def entry(self) -> dict[str, Any]:
        """Return what the ledger is told of it: also what was refused so far, which nobody might hear of otherwise."""
        refused = [item.place for item in self.members if item.error is not None and item.place is not None]
        return {"_id": self.id, "n": len(self.members), "refused": refused}

    def put(self, place: int, target: Target, step: Step[ItemT]) -> None:
        """Put an operation into a wave."""
        if place == len(self.waves):
            self.waves.append({})
        steps = self.waves[place].get(target)
        if steps is None:
            steps = self.waves[place][target] = []
        steps.append(step)
        self.members += step.items
        self.steps += 1
        self.size += step.size


class _Lanes(Generic[ItemT]):
    """The lanes of a collection.

    Attributes:
        field: By which field the documents of this era are found.
        waiting: What waits, by lane: the first operation.
        behind: What waits behind it, in lanes that have more.
        ready: The lanes of which nothing is under way, the first one first; some may be gone since.
        busy: The lanes that are under way.
        later: What waits for another era.
    """

    __slots__ = ("behind", "busy", "field", "later", "ready", "waiting")

    def __init__(self) -> None:
        self.field = ""
        self.waiting: dict[Hashable, Step[ItemT]] = {}
        self.behind: dict[Hashable, deque[Step[ItemT]]] = {}
        self.ready: deque[Hashable] = deque()
        self.busy: set[Hashable] = set()
        self.later: deque[ItemT] = deque()

    def take(self, identity: Hashable) -> deque[Step[ItemT]]:
        """Take out what waits in a lane."""
        lane = self.behind.pop(identity, None) or deque()
        lane.appendleft(self.waiting.pop(identity))
        return lane

    def put(self, identity: Hashable, lane: deque[Step[ItemT]]) -> None:
        """Have these wait in a lane that is empty."""
        if lane:
            self.waiting[identity] = lane.popleft()
        if lane:
            self.behind[identity] = lane


class Queue(Generic[ItemT]):
    """Keep items until they are sent, and account for them until they are done.

    Args:
        batch_items: How many operations a batch has at most; so many that wait are sent at once.
        batch_bytes: How many bytes a batch has at most, unless one item alone has more.
        most_items: How many items are there at most, waiting or under way.
        most_bytes: How many bytes they have at most; one item is always taken.

    Attributes:
        items: For how many items room is kept: those that are there, and those that will be.
        size: How many bytes they have.
        there: How many items wait or are under way.
        accepted: How many were ever taken.
        merged: How many of them were merged into others.
        waiting: How many of those there are not under way.
    """

    def __init__(self, batch_items: int, batch_bytes: int, most_items: int, most_bytes: int) -> None:
        self._batch_items = batch_items
        self._batch_bytes = batch_bytes
        self._step_bytes = min(batch_bytes, MAX_DOCUMENT)
        self._most_items = most_items
        self._most_bytes = most_bytes
        self._targets: dict[Target, _Lanes[ItemT]] = {}
        self._ready: dict[Target, None] = {}
        self._ready_steps = 0
        self._ready_bytes = 0
        self._marked = 0  # what was accepted before this number is to be sent without waiting for company
        self._overdue = 0  # how many of those wait
        self._marks: list[Mark] = []
        self._under_way: set[Batch[ItemT]] = set()
        self._next = 0  # the number of the next item for which room is kept
        self._oldest: deque[ItemT] | None = None  # what waits in order, since somebody asked for the oldest one
        self.items = self.size = self.there = self.accepted = self.merged = self.waiting = 0

    # What comes in ...............................................................................................

    def reserve(self, item: ItemT) -> bool:
        """Keep room for an item, if there is any."""
        if self.items >= self._most_items or (self.items and self.size + item.size > self._most_bytes):
            return False
        item.number = self._next
        self._next += 1
        self.items += 1
        self.size += item.size
        return True

    def put(self, item: ItemT) -> bool:
        """Take an item, if there is any room."""
        if not self.reserve(item):
            return False
        self.add(item)
        return True

    def release(self, item: ItemT) -> None:
        """Give the room of an item back."""
        self._free([item])

    def add(self, item: ItemT) -> None:
        """Take an item for which room was kept."""
        self.accepted += 1
        self.there += 1
        self.waiting += 1
        if item.number < self._marked:
            self._overdue += 1
        if self._oldest is not None:
            self._oldest.append(item)
            if len(self._oldest) > 2 * self._most_items:  # (nobody has asked for a while)
                self._oldest = None
        lanes = self._targets.get(item.target)
        if lanes is None:
            lanes = self._targets[item.target] = _Lanes()
        if lanes.field != item.field:
            if lanes.waiting or lanes.busy or lanes.later:
                lanes.later.append(item)
                return
            lanes.field = item.field
        elif lanes.later:
            lanes.later.append(item)
            return
        self._line_up(lanes, item)

    def _line_up(self, lanes: _Lanes[ItemT], item: ItemT) -> None:
        """Put an item into its lane."""
        identity = item.identity
        first = lanes.waiting.get(identity)
        if first is None:
            lanes.waiting[identity] = item
            if identity not in lanes.busy:
                lanes.ready.append(identity)
                self._ready[item.target] = None
                self._ready_steps += 1
                self._ready_bytes += item.size
            return
        behind = lanes.behind.get(identity)
        last = behind[-1] if behind else first
        before = last.size
        both = joined(last, item, self._step_bytes)
        if both is None:
            lanes.behind.setdefault(identity, deque()).append(item)
            steps, size = 1, item.size
        else:
            self.merged += 1
            steps, size = 0, both.size - before
            if behind:
                behind[-1] = both
            else:
                lanes.waiting[identity] = both
        if identity not in lanes.busy:
            self._ready_steps += steps
            self._ready_bytes += size

    def take_oldest(self) -> ItemT | None:
        """Take the oldest item that waits out again; None if all are under way."""
        while self.waiting:
            if not self._oldest:
                self._oldest = deque(sorted(self._all_waiting(), key=lambda item: item.number))
            item = self._oldest.popleft()
            lanes = self._targets[item.target]
            first = lanes.waiting.get(item.identity)
            if (first is not None and first.first is item) or (lanes.later and lanes.later[0] is item):
                self._take_out(lanes, item)
                return item
        self._oldest = None
        return None

    def _all_waiting(self) -> list[ItemT]:
        found: list[ItemT] = []
        for lanes in self._targets.values():
            for steps in (lanes.waiting.values(), *lanes.behind.values()):
                found += [item for step in steps for item in step.items]
            found += lanes.later
        return found

    def _take_out(self, lanes: _Lanes[ItemT], item: ItemT) -> None:
        if lanes.later and lanes.later[0] is item:
            lanes.later.popleft()
        else:
            lane = lanes.take(item.identity)
            first = lane.popleft()
            rest = steps_of(first.items[1:], self._step_bytes)  # (if it was the first of several)
            lane.extendleft(reversed(rest))
            lanes.put(item.identity, lane)
            if item.identity not in lanes.busy:
                self._ready_steps += len(rest) - 1
                self._ready_bytes += sum(each.size for each in rest) - first.size
        self._left([item])
        self._ended([item])
        self._next_era(item.target)

    # What goes out ...............................................................................................

    def hurry(self) -> None:
        """Have everything that waits sent as soon as it can be."""
        self._marked = self._next
        self._overdue = self.waiting

    def mark(self) -> Mark:
        """Follow what is there now, and that for which room is kept."""
        mark = Mark(self._next, self.items)
        if mark.left:
            self._marks.append(mark)
        return mark

    @property
    def is_patient(self) -> bool:
        """Whether something waits for company, or for its time."""
        return self.waiting > self._overdue

    @property
    def is_due(self) -> bool:
        """Whether there is a batch that is full or overdue."""
        if self._ready_steps < self._batch_items and self._ready_bytes < self._batch_bytes and not self._overdue:
            return False
        return bool(self._ready)

    def cut(self) -> Batch[ItemT] | None:
        """Return the next batch, if one is full or overdue."""
        if not self.is_due:
            return None
        batch: Batch[ItemT] = Batch()
        while self._ready and self._fill(batch, next(iter(self._ready))):
            pass
        if not batch.steps:
            return None
        self._left(batch.members)
        self._under_way.add(batch)
        return batch

    def _fill(self, batch: Batch[ItemT], target: Target) -> bool:
        """Put the lanes of a collection into a batch; tell whether there is room for more."""
        lanes = self._targets[target]
        ready, waiting, busy = lanes.ready, lanes.waiting, lanes.busy
        del self._ready[target]
        while ready:
            identity = ready[0]
            step = waiting.get(identity)
            if step is None or identity in busy:
                ready.popleft()
                continue
            if not self._fits(batch, step):
                self._ready[target] = None  # (its turn comes behind that of the other collections)
                return False
            ready.popleft()
            busy.add(identity)
            del waiting[identity]
            self._ready_steps -= 1
            self._ready_bytes -= step.size
            batch.put(0, target, step)
            if identity in lanes.behind:
                self._go_on(batch, target, identity)
        return True

    def _go_on(self, batch: Batch[ItemT], target: Target, identity: Hashable) -> None:
        """Put the rest of a lane into a batch, as far as there is room; what is left waits."""
        lanes = self._targets[target]
        behind = lanes.behind.pop(identity)
        self._ready_steps -= len(behind)
        self._ready_bytes -= sum(step.size for step in behind)
        place = 1
        while behind and self._fits(batch, behind[0]):
            batch.put(place, target, behind.popleft())
            place += 1
        lanes.put(identity, behind)

    def _fits(self, batch: Batch[ItemT], step: Step[ItemT]) -> bool:
        within = batch.steps < self._batch_items and batch.size + step.size <= self._batch_bytes
        return within or not batch.steps

    def _left(self, items: list[ItemT]) -> None:
        """Account for items that do not wait any more."""
        self.waiting -= len(items)
        if self._overdue:
            marked = self._marked
            self._overdue -= len([item for item in items if item.number < marked])

    def over(self, batch: Batch[ItemT]) -> None:
        """Account for a batch of which everything is known: its lanes go on."""
        self._under_way.discard(batch)
        for target, steps in batch.waves[0].items():
            lanes = self._targets[target]
            for step in steps:
                identity = step.first.identity
                lanes.busy.discard(identity)
                first = lanes.waiting.get(identity)
                if first is not None:
                    behind = lanes.behind.get(identity, ())
                    lanes.ready.append(identity)
                    self._ready[target] = None
                    self._ready_steps += 1 + len(behind)
                    self._ready_bytes += first.size + sum([each.size for each in behind])
        self._ended(batch.members)
        for target in batch.waves[0]:
            self._next_era(target)

    def _ended(self, items: list[ItemT]) -> None:
        """Account for items that are done, or given up."""
        self.there -= len(items)
        self._free(items)

    def _free(self, items: Sequence[ItemT]) -> None:
        self.items -= len(items)
        self.size -= sum([item.size for item in items])
        for mark in self._marks:
            mark.left -= sum(item.number < mark.number for item in items)
        self._marks = [mark for mark in self._marks if mark.left]

    def forget(self) -> None:
        """Be empty: what is there belongs to another process, which alone will know what comes of it."""
        under_way = [item for batch in self._under_way for item in batch.members]
        for item in [*under_way, *self._all_waiting()]:
            # (No lock is taken, which somebody may have held in the other process.)
            Item.settle(item, OutcomeUnknown("it was accepted by another process, of which this one is a fork"))
        self._under_way.clear()
        self._oldest = None
        self._targets.clear()
        self._ready.clear()
        self._marks = []
        self._ready_steps = self._ready_bytes = self._overdue = self._marked = 0
        self.items = self.size = self.there = self.accepted = self.merged = self.waiting = 0

    def _next_era(self, target: Target) -> None:
        """Begin with what waits for everything before it, if that is done."""
        lanes = self._targets[target]
        if not lanes.later or lanes.waiting or lanes.busy:
            return
        lanes.field = lanes.later[0].field
        while lanes.later and lanes.later[0].field == lanes.field:
            self._line_up(lanes, lanes.later.popleft())
