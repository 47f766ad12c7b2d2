"""What users of keyed sets write down: the definition, and how it reads a document in hand. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, field
from typing import Any, Final

from mongopatterns.commands import holders_of
from mongopatterns.errors import StateError, UsageError
from mongopatterns.expressions import at_path, aware, check_path, key_value
from mongopatterns.specs import KeyedSpec, check_no_place, overlap

MOST: Final = 1_000_000  # more members than this do not fit into the 16 MB of a document
LONGEST_NAME: Final = 256  # characters; a name travels several times in each command


@dataclass(frozen=True)
class KeyedSetSpec(KeyedSpec):
    """Define sets under names in a document: `{name: [members]}`, such as who reacted with what.

    The map is stored as applications store it by hand, so that a definition may be put over what is there already.
    A missing or null map, and a missing or null list, is an empty one. A name whose list is empty is not in use.
    A changed bound holds for what is added from then on: nothing that is stored is taken away.

    Attributes:
        collection: The collection's name.
        path: The dotted path of the map.
        key_field: The field that holds the key; it must be `_id` or uniquely indexed.
        key_type: `ObjectId` to accept ids as text.
        create: Further fields of a document that is made by its first `add` or `toggle`; None (the default) never
            to make one.
        max_keys: How many names may be in use in one document, from 1 to 1,000,000; None for any number.
        max_members: How many members a name may have, from 1 to 1,000,000; None for any number.
        counts: The dotted path of a map `{name: number of members}`, which is kept in the same write; None for
            none. A name that loses its last member leaves both maps. A call that changes a name sets the number
            of this name from its real size: what was not counted before, or wrongly, is put right name by name,
            and other names stay as they are.

    Raises:
        UsageError: On any value that cannot work, when the spec is made.
    """

    _: KW_ONLY
    create: Mapping[str, Any] | None = field(default=None, hash=False)
    max_keys: int | None = None
    max_members: int | None = None
    counts: str | None = None

    def __post_init__(self) -> None:
        KeyedSpec.__post_init__(self)
        for argument in ("max_keys", "max_members"):
            bound = getattr(self, argument)
            if bound is None:
                continue
            if isinstance(bound, bool) or not isinstance(bound, int) or not 1 <= bound <= MOST:
                raise UsageError(argument, f"expected a whole number from 1 to {MOST}, or None; got {bound!r}")
        if self.counts is not None:
            self._check_counts(check_path("counts", self.counts))

    def _check_counts(self, counts: str) -> None:
        for taken in ("_id", self.key_field, self.path):
            if overlap(counts, taken):
                raise UsageError("counts", f"{counts!r} overlaps {taken!r}: give it a place of its own")
        check_no_place("counts", counts)
        if self.create is not None:
            self._check_created(self.create, counts)
            if at_path(self.create, counts) is not None:
                raise UsageError("create", f"{counts!r} is written by the calls: leave it out")

    @property
    def maps(self) -> tuple[str, ...]:
        """The paths of the maps that the calls write."""
        return (self.path,) if self.counts is None else (self.path, self.counts)

    def read(self, document: Mapping[str, Any]) -> dict[str, list[Any]]:
        """Read the sets from a document in hand, such as one of a change stream: sends nothing.

        Args:
            document: A whole document, or one with at least what stands at `path`.

        Returns:
            The members under each name in use, in the stored order. Dates have a zone.

        Raises:
            UsageError: If it is no document.
            StateError: If what is stored at the path is no such map.
        """
        if not isinstance(document, Mapping):
            raise UsageError("document", f"expected a document, got {document!r:.100}")
        key = at_path(document, self.key_field)
        for place in (*holders_of(self.path), self.path):
            if not isinstance(held := at_path(document, place), (Mapping, type(None))):
                raise StateError(self.collection, key, place, f"expected a document, found {held!r:.100}")
        stored = aware(at_path(document, self.path) or {})
        sets = {name: members_of(self, self.collection, key, name, value) for name, value in stored.items()}
        return {name: members for name, members in sets.items() if members}


def members_of(spec: KeyedSetSpec, collection: str, key: object, name: str, value: object) -> list[Any]:
    """Return the members that are stored under a name.

    Raises:
        StateError: If what is stored there is no array.
    """
    if value is None:
        return []
    if not isinstance(value, list):
        raise StateError(collection, key, f"{spec.path}.{name}", f"expected an array, found {value!r:.100}")
    return value


def name_value(name: object) -> str:
    """Return a name if sets can be stored under it.

    Raises:
        UsageError: If it is not text, is empty or too long, holds a NUL, or cannot be stored.
    """
    if not isinstance(name, str):
        raise UsageError("name", f"expected text, got {type(name).__name__}")
    if not 1 <= len(name) <= LONGEST_NAME:
        raise UsageError("name", f"expected from 1 to {LONGEST_NAME} characters, got {len(name)}")
    if "\0" in name:
        raise UsageError("name", f"{name!r} holds a NUL character")
    key_value("name", name)
    return str.__str__(name)  # (of a member of an enum, `str` gives its own name)
