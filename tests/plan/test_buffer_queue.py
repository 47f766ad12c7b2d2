"""The queue of a buffer: order per document, batches, bounds, marks. No server, no clock."""

from __future__ import annotations

from typing import Any

import pytest
from bson import Decimal128
from hypothesis import given
from hypothesis import strategies as st

from mongopatterns.buffer._items import UPDATE, Item, Target
from mongopatterns.buffer._queue import Batch, Queue
from mongopatterns.errors import OutcomeUnknown
from mongopatterns.expressions import ANY_UUID

A, B = (Target(f"db.{name}", None, ANY_UUID) for name in "ab")


def item(key: Any, body: Any = None, *, target: Target = A, size: int = 10, field: str = "_id") -> Item:
    """Make an update that is never merged, unless it is given a body."""
    return Item(target, UPDATE, key, body or {"$push": {"l": 1}}, size, field=field)


def queue(items: int = 100, size: int = 10**6, most: int = 1000, most_bytes: int = 10**6) -> Queue[Item]:
    return Queue(items, size, most, most_bytes)


def add(queue_: Queue[Item], *items: Item) -> list[Item]:
    for each in items:
        assert queue_.reserve(each)
        queue_.add(each)
    return list(items)


def cut(queue_: Queue[Item]) -> Batch[Item]:
    batch = queue_.cut()
    assert batch is not None
    return batch


def keys(batch: Batch[Item]) -> list[list[Any]]:
    return [[step.first.key for steps in wave.values() for step in steps] for wave in batch.waves]


def test_nothing_is_cut_before_it_is_full_or_overdue() -> None:
    """So many operations, so many bytes, or a hurry."""
    one = queue(items=3)
    add(one, item(1), item(2))
    assert one.cut() is None
    assert one.is_patient
    add(one, item(3))
    assert keys(cut(one)) == [[1, 2, 3]]
    two = queue(size=25)
    add(two, item(1), item(2))
    assert two.cut() is None
    add(two, item(3))
    assert keys(cut(two)) == [[1, 2]]
    three = queue()
    add(three, item(1))
    three.hurry()
    assert not three.is_patient
    add(three, item(2))
    assert three.is_patient
    assert keys(cut(three)) == [[1, 2]]
    assert three.cut() is None


def test_no_lane_is_in_two_batches() -> None:
    """What comes for a document that is under way waits until that is over; others do not."""
    one = queue(items=2)
    add(one, item(1), item(1))
    first = cut(one)
    assert keys(first) == [[1], [1]]
    add(one, item(1), item(2), item(3), item(1))
    second = cut(one)
    assert keys(second) == [[2, 3]]
    assert one.cut() is None
    one.over(first)
    assert keys(cut(one)) == [[1], [1]]


def test_a_lane_that_is_too_long_goes_on_in_the_next_batch() -> None:
    """In its order."""
    one = queue(items=2)
    items = add(one, *(item(1) for _ in range(5)))
    found = []
    one.hurry()
    while batch := one.cut():
        assert one.cut() is None
        found.append(batch.members)
        one.over(batch)
    assert found == [items[:2], items[2:4], items[4:]]


def test_collections_take_turns() -> None:
    """A batch holds several; one that has much does not keep the others waiting."""
    one = queue(items=3)
    add(one, *(item(n) for n in range(5)), item("x", target=B))
    first, second = cut(one), one
    assert keys(first) == [[0, 1, 2]]
    second.hurry()
    assert keys(cut(second)) == [["x", 3, 4]]


def test_a_large_item_is_a_batch_of_its_own() -> None:
    """Nothing is too large for all batches."""
    one = queue(size=100)
    add(one, item(1), item(2, size=500), item(3))
    one.hurry()
    assert [keys(cut(one)) for _ in range(3)] == [[[1]], [[2]], [[3]]]


def test_another_field_is_another_era() -> None:
    """What is named by another field waits until everything before it is over."""
    one = queue()
    add(one, item(1), item("a", field="email"), item("b", field="email"), item(2))
    one.hurry()
    first = cut(one)
    assert keys(first) == [[1]]
    assert one.cut() is None
    one.over(first)
    second = cut(one)
    assert keys(second) == [["a", "b"]]
    one.over(second)
    assert keys(cut(one)) == [[2]]


def test_room_is_kept_and_given_back() -> None:
    """For items and bytes; one is always taken; what is under way still takes room."""
    one = queue(most=2, most_bytes=100)
    add(one, item(1), item(2))
    assert not one.reserve(item(3))
    one.hurry()
    batch = cut(one)
    assert not one.reserve(item(3))
    one.over(batch)
    assert one.reserve(item(3, size=500))
    assert not one.reserve(item(4))
    one.release(item(3, size=500))
    assert one.reserve(item(4))


def test_a_mark_knows_when_all_before_it_is_over() -> None:
    """And does not wait for what came later."""
    one = queue(items=2)
    add(one, item(1), item(2), item(3))
    mark = one.mark()
    assert mark.left == 3
    batch = cut(one)
    add(one, item(4))
    one.over(batch)
    assert mark.left == 1
    assert one.take_oldest() is not None
    assert mark.left == 0
    assert one.there == 1


def test_the_oldest_is_taken_out() -> None:
    """Also of what was merged, of what waits for another era, and of no lane that is under way."""
    one = queue()
    first, second, third = add(one, *(item(1, {"$inc": {"n": n}}) for n in (1, 10, 100)))
    last = item("x", field="email")
    add(one, last)
    assert one.take_oldest() is first
    assert one.waiting == 3
    assert one.take_oldest() is second
    one.hurry()
    batch = cut(one)
    [step] = batch.waves[0][A]
    assert (step.body, step.items) == ({"$inc": {"n": 100}}, (third,))
    assert one.take_oldest() is last
    assert one.take_oldest() is None
    one.over(batch)
    assert (one.there, one.items, one.size) == (0, 0, 0)


def test_what_cannot_be_merged_again_is_not_lost() -> None:
    """When the oldest of several is taken out, the others stay, in as many operations as they need."""
    one = queue()
    half, large = Decimal128("0.5"), Decimal128("1E+33")
    items = add(one, *(item(1, {"$inc": {"n": n}}) for n in (half, half, large)))
    assert one.take_oldest() is items[0]
    one.hurry()
    batch = cut(one)
    assert batch.members == items[1:]
    assert (batch.size, batch.steps) == (20, 2)


def test_the_oldest_is_found_by_who_asks_again_and_again() -> None:
    """In order, with what comes meanwhile, and without what was sent meanwhile."""
    one = queue(items=2)
    items = add(one, *(item(n) for n in range(6)))
    assert one.take_oldest() is items[0]
    cut(one)
    items += add(one, item(6))
    assert [one.take_oldest() for _ in range(5)] == [*items[3:], None]


def test_who_no_longer_asks_for_the_oldest_keeps_no_list_of_them() -> None:
    """Whoever asks once more is told the oldest all the same."""
    one = queue(items=1, most=2)
    items = add(one, item(1), item(2))
    assert one.take_oldest() is items[0]
    for number in range(3, 9):
        one.over(cut(one))
        items += add(one, item(number))
    assert one.take_oldest() is items[-1]


def test_what_waits_behind_something_else_is_merged_as_well() -> None:
    """With what is right before it; and while the lane is under way, it is taken out like anything else."""
    one = queue(items=1)
    first, *others = add(one, item(1), *(item(1, {"$inc": {"n": n}}) for n in (1, 10, 100)))
    batch = cut(one)
    assert (batch.members, one.merged) == ([first], 2)
    assert one.take_oldest() is others[0]
    one.over(batch)
    [step] = cut(one).waves[0][A]
    assert (step.body, list(step.items)) == ({"$inc": {"n": 110}}, others[1:])


def test_lanes_that_were_emptied_are_no_batch() -> None:
    """What was taken out is not sent, and what may be sent only later is not sent instead."""
    one = queue()
    add(one, item(1))
    one.hurry()
    under_way = cut(one)
    taken_out, later = add(one, item(2), item(1))
    one.hurry()
    assert one.take_oldest() is taken_out
    assert one.is_due
    assert one.cut() is None
    one.over(under_way)
    assert cut(one).members == [later]


def test_what_is_merged_has_no_more_bytes_than_a_batch() -> None:
    """What is set adds up, and counts; numbers take the place of others."""
    one = queue(size=100)
    sets = add(one, *(item(1, {"$set": {f"f{n}": "x"}}, size=40) for n in range(3)))
    assert one.is_due
    assert cut(one).members == sets[:2]
    one = queue(size=100)
    add(one, *(item(1, {"$inc": {"n": 1}}, size=40) for _ in range(50)))
    assert not one.is_due
    one.hurry()
    batch = cut(one)
    assert (batch.steps, len(batch.members), batch.size) == (1, 50, 40)


def test_room_that_is_kept_is_waited_for() -> None:
    """What is put in after a mark, for which room was kept before it, belongs to it, and is sent without waiting."""
    one = queue()
    kept, given_back = item(1), item(2)
    assert one.reserve(kept)
    assert one.reserve(given_back)
    mark = one.mark()
    one.hurry()
    assert (mark.left, one.cut()) == (2, None)
    one.release(given_back)
    one.add(kept)
    batch = cut(one)
    assert mark.left == 1
    one.over(batch)
    assert mark.left == 0


def no_lane_is_twice_in(flying: list[Batch[Item]]) -> bool:
    lanes = [lane for batch in flying for lane in {(each.target, each.identity) for each in batch.members}]
    return len(lanes) == len(set(lanes))


@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.sampled_from(["_id", "_id", "e"]), st.booleans(), st.integers(1, 40)),
        max_size=40,
    ),
    st.integers(1, 5),
    st.integers(10, 100),
    st.randoms(use_true_random=False),
)
def test_each_document_sees_its_operations_in_order(  # noqa: C901  # (all that may happen, in turns)
    drawn: Any, size: int, bytes_: int, chance: Any
) -> None:
    """However batches are cut, and in whatever order they end; nothing is lost, and no lane is in two at once."""
    one = queue(items=size, size=bytes_)
    flying: list[Batch[Item]] = []
    items: list[Item] = []
    done: list[Item] = []

    def land(batch: Batch[Item]) -> None:
        flying.remove(batch)
        done.extend(batch.members)
        one.over(batch)

    for key, field, second, weight in drawn:
        made = item(key, target=B if second else A, field=field, size=weight)
        items += add(one, made)
        if chance.random() < 0.3:
            one.hurry()
        while batch := one.cut():
            flying.append(batch)
            assert no_lane_is_twice_in(flying)
        if flying and chance.random() < 0.5:
            land(chance.choice(flying))
    one.hurry()
    while flying or one.there:
        while batch := one.cut():
            flying.append(batch)
        land(chance.choice(flying))
    assert sorted(items, key=id) == sorted(done, key=id)
    for target in (A, B):
        for identity in range(4):
            for field in ("_id", "e"):
                lane = [each for each in items if (each.target, each.identity, each.field) == (target, identity, field)]
                assert [each for each in done if each in lane] == lane
    assert (one.there, one.waiting, one.items, one.size) == (0, 0, 0, 0)


def test_a_child_process_begins_anew() -> None:
    """What is there belongs to its parent, which alone will know what comes of it: nobody waits for it in the child."""
    one = queue(items=1)
    under_way, waiting, later = items = add(one, item(1), item(1), item(1, field="e"))
    [known] = add(one, item(2, target=B))
    cut(one)
    cut(one)
    known.settle(None)
    one.forget()
    assert known.error is None
    assert (one.there, one.items, one.cut()) == (0, 0, None)
    assert all(each.done for each in items)
    assert [type(each.error) for each in (under_way, waiting, later)] == [OutcomeUnknown] * 3
    add(one, item(2))
    one.hurry()
    assert keys(cut(one)) == [[2]]


@pytest.mark.parametrize("steps", [1, 3])
def test_a_batch_knows_its_members(steps: int) -> None:
    """Lane after lane, and in waves: no two on one document in the same one."""
    one = queue()
    items = add(one, *(item(n % 2) for n in range(2 * steps)))
    one.hurry()
    batch = cut(one)
    assert len(batch.waves) == steps
    assert batch.members == items[::2] + items[1::2]
    assert (len(batch.members), batch.steps, batch.size) == (2 * steps, 2 * steps, 20 * steps)
