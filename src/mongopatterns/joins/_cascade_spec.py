"""What a deletion takes along, and what its callers are told. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import Any, Final, TypeAlias, get_args

from bson import ObjectId

from mongopatterns.errors import UsageError
from mongopatterns.expressions import check_path
from mongopatterns.indexes import Index
from mongopatterns.joins._keys import KeyForm
from mongopatterns.specs import check_collection, check_no_place
from mongopatterns.verdicts import Verdict, as_json

_LEVELS: Final = 2


# Defined -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Child:
    """Say which documents of another collection go with a document: base of a `CascadeSpec`'s children.

    A document of `collection` is a child if a value at `foreign` equals one at `local` of the parent, as the server
    compares values: 1 and 1.0 are equal, 1 and True are not, and text never equals an ObjectId. A list stands for its
    items on both sides: **a child that names several parents goes with the first of them.** null, and what is missing,
    names nobody.

    Attributes:
        collection: The children's collection.
        local: The dotted path of the keys in the parent. No two parents should share one.
        foreign: The dotted path of what names the parent.
        local_as: What the keys are turned into first: `"string"` makes text of ObjectIds and integers, `"objectid"`
            ObjectIds of text of 24 hexadecimal digits. What cannot be turned has no children.
        children: What goes with a child in turn, each a `Child` or a tuple `(collection, local, foreign)`. Nothing goes
            with that: a cascade is two levels deep.

    Raises:
        UsageError: If a path is none or has a part of digits, or another value cannot work.
    """

    collection: str
    _: KW_ONLY
    local: str = "_id"
    foreign: str
    local_as: KeyForm | None = None
    children: Sequence[Child | tuple[str, str, str]] = ()

    def __post_init__(self) -> None:
        check_collection(self.collection)
        for argument, path in (("local", self.local), ("foreign", self.foreign)):
            check_path(argument, path)
            check_no_place(argument, path)
        if self.local_as is not None and self.local_as not in get_args(KeyForm):
            raise UsageError("local_as", f"expected 'string', 'objectid' or None, got {self.local_as!r}")
        object.__setattr__(self, "children", _check_children(self.children))

    @property
    def below(self) -> tuple[Child, ...]:
        """The children, checked."""
        return self.children  # type: ignore[return-value]


@dataclass(frozen=True)
class CascadeSpec:
    """Define what goes with a document when it is deleted.

    Attributes:
        collection: The parents' collection.
        children: What goes with a parent, each a `Child` or a tuple `(collection, local, foreign)`; their own children
            are said there. One collection may be named several times, but not below itself.
        key_type: `ObjectId` where the ids of `keep=` may come as text of 24 hexadecimal digits; anything else is then
            refused.

    Raises:
        UsageError: If there are no children, one is said twice or lies below itself, there are more than two levels,
            or another value cannot work.
    """

    collection: str
    _: KW_ONLY
    children: Sequence[Child | tuple[str, str, str]]
    key_type: type[ObjectId] | None = None

    def __post_init__(self) -> None:
        check_collection(self.collection)
        children = _check_children(self.children)
        if not children:
            raise UsageError("children", "name at least one: a delete without children is the driver's `delete_many`")
        if self.key_type not in (None, ObjectId):
            raise UsageError("key_type", f"expected None or bson.ObjectId, got {self.key_type!r}")
        object.__setattr__(self, "children", children)
        _check_levels(children, (self.collection,))

    @property
    def below(self) -> tuple[Child, ...]:
        """The children, checked."""
        return self.children  # type: ignore[return-value]

    def pairs(self) -> tuple[tuple[str, Child], ...]:
        """Return each child with the collection of its parents, the upper level first."""
        upper = [(self.collection, child) for child in self.below]
        return (*upper, *((child.collection, lower) for child in self.below for lower in child.below))

    @property
    def collections(self) -> tuple[str, ...]:
        """The names of all collections, the parents' first."""
        return tuple(dict.fromkeys((self.collection, *(child.collection for _, child in self.pairs()))))

    def indexes(self) -> dict[str, tuple[Index, ...]]:
        """Return the indexes that must exist, by collection.

        One on each `foreign`, by which children are found; and one on each `local`, by which `orphans` finds that a
        parent is there. `_id` has its own, and collections that need no more are left out.
        """
        paths = [(child.collection, child.foreign) for _, child in self.pairs()]
        paths += [(parent, child.local) for parent, child in self.pairs()]
        wanted: dict[str, dict[str, Index]] = {name: {} for name in self.collections}
        for name, path in paths:
            if path != "_id":
                wanted[name][path] = Index(path)
        return {name: tuple(indexes.values()) for name, indexes in wanted.items() if indexes}


def _check_children(children: object) -> tuple[Child, ...]:
    if isinstance(children, (str, bytes, Mapping)) or not isinstance(children, Sequence):
        raise UsageError("children", f"expected a list of Child or (collection, local, foreign), got {children!r:.100}")
    checked: list[Child] = []
    for given in children:
        child = given
        if isinstance(given, tuple) and len(given) == 3:  # noqa: PLR2004  # (see the message)
            collection, local, foreign = given
            child = Child(collection, local=local, foreign=foreign)
        if not isinstance(child, Child):
            raise UsageError("children", f"expected Child(...) or (collection, local, foreign), got {given!r:.100}")
        links = [(known.collection, known.local, known.foreign, known.local_as) for known in checked]
        if (child.collection, child.local, child.foreign, child.local_as) in links:
            raise UsageError("children", f"{child.collection!r} is named twice by {child.foreign!r}: leave one out")
        checked.append(child)
    return tuple(checked)


def _check_levels(children: Sequence[Child], above: tuple[str, ...]) -> None:
    for child in children:
        if child.collection in above:
            problem = f"{child.collection!r} lies below itself, and a tree may be deeper than {_LEVELS} levels"
            raise UsageError("children", f"{problem}: collect the ids of the tree first, and delete by them")
        if len(above) > _LEVELS:
            problem = f"{child.collection!r} would be on level {len(above)}, and a cascade has at most {_LEVELS}"
            raise UsageError("children", f"{problem}: give the lowest levels a CascadeSpec of their own")
        _check_levels(child.below, (*above, child.collection))


# Told --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class CascadeResult(Verdict):
    """Tell what was deleted. True when nothing that was found was left.

    Attributes:
        deleted: How many documents of each collection this call deleted, by its name.
        left: How many that it had found it did not delete, because they were changed or deleted by others meanwhile:
            by `delete` parents, by `delete_orphans` orphans.
        batches: How many batches it took.
    """

    deleted: Mapping[str, int] = field(hash=False)
    left: int = 0
    batches: int = 0

    @property
    def total(self) -> int:
        """How many documents were deleted in all."""
        return sum(self.deleted.values())

    def __bool__(self) -> bool:
        """Return whether nothing that was found was left."""
        return not self.left


@dataclass(frozen=True)
class Orphan:
    """Name a document whose parents are gone.

    Attributes:
        id: Its `_id`.
        keys: The values that name its parents; several if it holds a list of them.
    """

    id: Any = field(hash=False)
    keys: tuple[Any, ...] = field(hash=False)


@dataclass(frozen=True)
class Orphans:
    """Name the orphans among the children of one kind.

    Attributes:
        collection: The children's collection.
        foreign: The path of what names the parent.
        parent: The parents' collection.
        rows: The orphans, in the order of their ids.
        complete: Whether these are all; if not, there may be more than the limit.
    """

    collection: str
    foreign: str
    parent: str
    rows: tuple[Orphan, ...] = field(hash=False)
    complete: bool

    def __bool__(self) -> bool:
        """Return whether there are any."""
        return bool(self.rows)

    def to_dict(self) -> dict[str, Any]:
        """Return what `json.dumps` takes: ISO 8601 text, ids as text."""
        rows = [{"id": as_json(row.id), "keys": as_json(row.keys)} for row in self.rows]
        names = {"collection": self.collection, "foreign": self.foreign, "parent": self.parent}
        return {**names, "rows": rows, "complete": self.complete}


Level: TypeAlias = CascadeSpec | Child
"""What has children."""
