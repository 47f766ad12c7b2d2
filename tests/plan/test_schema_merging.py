"""Which documents a round of merge_duplicates removes."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from mongopatterns.schema._merging import _certain

Pairs = list[dict[str, Any]]


def ranked(documents: list[list[int]]) -> Pairs:
    """List what the server answers: whoever is not the first of a value, by who is the first."""
    pairs: set[tuple[int, int]] = set()
    for value in {value for values in documents for value in values}:
        first, *others = [number for number, values in enumerate(documents) if value in values]
        pairs |= {(first, other) for other in others}
    return [{"stays": {"_id": first}, "goes": {"_id": other}} for first, other in sorted(pairs)]


@given(st.lists(st.lists(st.integers(0, 5), max_size=3), max_size=12), st.integers(1, 4), st.sets(st.integers(0, 11)))
def test_nothing_goes_for_what_goes(documents: list[list[int]], seen: int, kept: set[int]) -> None:
    """However early the answer ends: who goes was not kept before, and goes for one that is the first of all it has."""
    every = ranked(documents)
    chosen = _certain(every[:seen], set(kept))
    others = {pair["goes"]["_id"] for pair in every}
    assert all(pair["goes"]["_id"] not in kept for pair in chosen)
    assert all(pair["stays"]["_id"] in kept or pair["stays"]["_id"] not in others for pair in chosen)
    assert len({pair["goes"]["_id"] for pair in chosen}) == len(chosen)


@given(st.lists(st.lists(st.integers(0, 5), max_size=3), max_size=12))
def test_every_round_gets_further(documents: list[list[int]]) -> None:
    """As long as a value is there twice, something goes, for one that shares a value with it and that stays."""
    left = documents
    while pairs := ranked(left):
        chosen = {pair["goes"]["_id"]: pair["stays"]["_id"] for pair in _certain(pairs, set())}
        assert chosen
        assert not set(chosen) & set(chosen.values())
        assert all(set(left[goes]) & set(left[stays]) for goes, stays in chosen.items())
        left = [values for number, values in enumerate(left) if number not in chosen]
    assert bool(left) == bool(documents)
