"""The shapes that this package asks of a driver, and the names that users annotate with.

No class of a driver is named in a signature: PyMongo's asynchronous objects and Motor's are both an
`AsyncDatabaseLike`, and a type checker infers the type of their documents from either. Methods are declared with
open parameters, because the two drivers name them differently; what they return is what matters.
"""

from __future__ import annotations

from collections.abc import Awaitable
from enum import Enum
from typing import Any, Protocol

from typing_extensions import TypeVar

from mongopatterns.amounts import Amount, Number
from mongopatterns.windows import Unit

__all__ = [
    "Amount",
    "AsyncCollectionLike",
    "AsyncCursorLike",
    "AsyncDatabaseLike",
    "CollectionLike",
    "CursorLike",
    "DatabaseLike",
    "Durability",
    "Number",
    "Unit",
]

DocumentT = TypeVar("DocumentT", default=Any)
DocumentT_co = TypeVar("DocumentT_co", covariant=True, default=Any)


class Durability(Enum):
    """Say what an acknowledgement means.

    Attributes:
        MAJORITY: Stored by a majority of the members: an election cannot undo it. What every primitive does.
        FAST: Stored by the primary alone: quicker on a set of several members, and an election may undo what
            was acknowledged.
    """

    MAJORITY = "majority"
    FAST = "fast"


class AsyncCursorLike(Protocol[DocumentT]):
    """A cursor of PyMongo's asynchronous side or of Motor."""

    def to_list(self, length: int | None) -> Awaitable[list[DocumentT]]:
        """Read up to `length` documents, all for None."""
        ...


class AsyncCollectionLike(Protocol[DocumentT_co]):
    """A collection of PyMongo's asynchronous side or of Motor."""

    @property
    def name(self) -> str:
        """The collection's name."""
        ...

    @property
    def codec_options(self) -> Any:
        """How values are stored."""
        ...

    def with_options(self, *args: Any, **kwargs: Any) -> Any:
        """Return the same collection with other options."""
        ...

    # `find_one` tells the document type; a cursor's is left open, as Motor's stubs do not carry it through.
    def find_one(self, *args: Any, **kwargs: Any) -> Awaitable[DocumentT_co | None]:
        """Read one document."""
        ...

    def find(self, *args: Any, **kwargs: Any) -> AsyncCursorLike[Any]:
        """Open a cursor."""
        ...

    def find_one_and_update(self, *args: Any, **kwargs: Any) -> Awaitable[Any]:
        """Write one document and return it."""
        ...

    def find_one_and_delete(self, *args: Any, **kwargs: Any) -> Awaitable[Any]:
        """Delete one document and return it."""
        ...

    def update_one(self, *args: Any, **kwargs: Any) -> Awaitable[Any]:
        """Write one document."""
        ...

    def update_many(self, *args: Any, **kwargs: Any) -> Awaitable[Any]:
        """Write every document that matches."""
        ...

    def insert_one(self, *args: Any, **kwargs: Any) -> Awaitable[Any]:
        """Store one new document."""
        ...

    def insert_many(self, *args: Any, **kwargs: Any) -> Awaitable[Any]:
        """Store several new documents."""
        ...

    def aggregate(self, *args: Any, **kwargs: Any) -> Any:
        """Open a cursor on a pipeline: at once with Motor, after waiting with PyMongo."""
        ...


class AsyncDatabaseLike(Protocol[DocumentT_co]):
    """A database of PyMongo's asynchronous side or of Motor."""

    @property
    def name(self) -> str:
        """The database's name."""
        ...

    def get_collection(self, *args: Any, **kwargs: Any) -> AsyncCollectionLike[DocumentT_co]:
        """Return a collection."""
        ...

    def command(self, *args: Any, **kwargs: Any) -> Awaitable[Any]:
        """Run a command."""
        ...


class CursorLike(Protocol[DocumentT]):
    """A cursor of PyMongo."""

    def to_list(self, length: int | None) -> list[DocumentT]:
        """Read up to `length` documents, all for None."""
        ...


class CollectionLike(Protocol[DocumentT_co]):
    """A collection of PyMongo."""

    @property
    def name(self) -> str:
        """The collection's name."""
        ...

    @property
    def codec_options(self) -> Any:
        """How values are stored."""
        ...

    def with_options(self, *args: Any, **kwargs: Any) -> Any:
        """Return the same collection with other options."""
        ...

    def find_one(self, *args: Any, **kwargs: Any) -> DocumentT_co | None:
        """Read one document."""
        ...

    def find(self, *args: Any, **kwargs: Any) -> CursorLike[Any]:
        """Open a cursor."""
        ...

    def find_one_and_update(self, *args: Any, **kwargs: Any) -> Any:
        """Write one document and return it."""
        ...

    def find_one_and_delete(self, *args: Any, **kwargs: Any) -> Any:
        """Delete one document and return it."""
        ...

    def update_one(self, *args: Any, **kwargs: Any) -> Any:
        """Write one document."""
        ...

    def update_many(self, *args: Any, **kwargs: Any) -> Any:
        """Write every document that matches."""
        ...

    def insert_one(self, *args: Any, **kwargs: Any) -> Any:
        """Store one new document."""
        ...

    def insert_many(self, *args: Any, **kwargs: Any) -> Any:
        """Store several new documents."""
        ...

    def aggregate(self, *args: Any, **kwargs: Any) -> Any:
        """Open a cursor on a pipeline."""
        ...


class DatabaseLike(Protocol[DocumentT_co]):
    """A database of PyMongo."""

    @property
    def name(self) -> str:
        """The database's name."""
        ...

    def get_collection(self, *args: Any, **kwargs: Any) -> CollectionLike[DocumentT_co]:
        """Return a collection."""
        ...

    def command(self, *args: Any, **kwargs: Any) -> Any:
        """Run a command."""
        ...
