"""Answers that are kept: bounded, and never those of a request that somebody has cleared meanwhile."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

from mongopatterns._kept import Kept


def put(kept: Kept[Any, Any], **answers: Any) -> None:
    request = object()
    kept.expect(request, answers)
    kept.settle(request, answers, answers)


def test_the_least_recently_used_goes_first() -> None:
    """With no room left, those that were not looked at for the longest are forgotten, None among them."""
    kept: Kept[Any, Any] = Kept(2)
    put(kept, a=1)
    put(kept, b=None)
    assert kept.look(["a"]) == ({"a": 1}, {})
    put(kept, c=3)
    assert kept.look("abc") == ({"a": 1, "c": 3}, {})
    put(kept, d=4, e=5, f=6)
    assert kept.look("abcdef") == ({"e": 5, "f": 6}, {})


def test_what_is_under_way_is_known_until_it_is_settled_or_dropped() -> None:
    """A request stands for its keys; a dropped one leaves nothing."""
    kept: Kept[Any, Any] = Kept(5)
    one, other = object(), object()
    kept.expect(one, "ab")
    assert kept.look("abc") == ({}, {"a": one, "b": one})
    kept.settle(one, {"a": 1, "b": 2}, "a")
    assert kept.look("ab") == ({"a": 1}, {"b": one})
    kept.drop(other, "b")
    assert kept.look("b") == ({}, {"b": one})
    kept.drop(one, "b")
    assert kept.look("ab") == ({"a": 1}, {})


def test_a_key_that_was_cleared_takes_no_old_answer() -> None:
    """Neither a request from before `clear`, nor one that another has replaced, puts its answer there."""
    kept: Kept[Any, Any] = Kept(5)
    old, new = object(), object()
    kept.expect(old, "ab")
    kept.clear("a")
    kept.settle(old, {"a": "old", "b": "old"}, "ab")
    assert kept.look("ab") == ({"b": "old"}, {})
    kept.clear("b")
    kept.expect(old, "a")
    kept.expect(new, "a")
    kept.settle(old, {"a": "old"}, "a")
    kept.drop(old, "a")
    kept.settle(new, {"a": "new"}, "a")
    assert kept.look("ab") == ({"a": "new"}, {})


def test_closed_means_empty_for_good() -> None:
    """After `close` there is nothing, and nothing comes; a size of 0 is the same from the start."""
    closed: Kept[Any, Any] = Kept(5)
    late = object()
    put(closed, a=1)
    closed.expect(late, "b")
    closed.close()
    closed.settle(late, {"b": 2}, "b")
    for kept in (closed, Kept[Any, Any](0)):
        put(kept, a=1)
        assert kept.look("ab") == ({}, {})


def test_threads_share_one() -> None:
    """Threads that look, settle and clear at once never see another key's answer, nor more than the size."""
    kept: Kept[Any, Any] = Kept(50)

    def work(seed: int) -> None:
        for turn in range(2000):
            key = (seed * 31 + turn * 7) % 100
            answers, _ = kept.look([key])
            assert answers.get(key, key) == key
            request = object()
            kept.expect(request, [key])
            if turn % 10 == 0:
                kept.clear(key)
            kept.settle(request, {key: key}, [key])

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(work, range(4)))
    assert 1 <= len(kept.look(range(100))[0]) <= 50
