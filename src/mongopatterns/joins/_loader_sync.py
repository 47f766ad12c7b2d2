# Generated from src/mongopatterns/joins/_loader_async.py by tools/generate_sync.py.
# Do not edit: change the source and run "make generate".
"""Documents by their keys on an asynchronous driver: sends what the plan built, hands the replies back."""

from __future__ import annotations

import copy
from collections.abc import Hashable, Iterable, Mapping
from types import TracebackType
from typing import Any, TypeVar, overload

from typing_extensions import Self

from mongopatterns import _driver_sync as driver
from mongopatterns._kept import Kept
from mongopatterns._ticks_sync import Ticks
from mongopatterns.joins._loader_plan import Find, Found, Key, LoaderPlan, LoaderSpec
from mongopatterns.models import decode_all
from mongopatterns.specs import check_spec
from mongopatterns.typing import Durability

__all__ = ["Loader"]

T = TypeVar("T")


class Loader:
    """Load documents by their keys, many in one command: what is asked for in one place after the other goes together.

    Loads of one turn of the event loop share a command, whoever asks. Threads of the synchronous side share none: there
    `load_many` asks for many. Keys are compared as the server compares them: 1, 1.0 and Decimal128("1") are one key,
    True is another one. Documents are read from the primary. Every caller gets a document of its own.

    Nothing is kept, unless a `scope` is opened: then each document is read once in it.

    Args:
        target: A database, or the collection itself. Without the index that `spec.indexes()` names, each command reads
            the whole collection.
        spec: The collection, and the key of its documents.

    Raises:
        UsageError: If `target` is of the other world, or no database or collection.
    """

    def __init__(self, target: driver.Target, spec: LoaderSpec) -> None:
        self.spec: LoaderSpec = check_spec(spec, LoaderSpec)
        collection = driver.bind(target, spec.collection, Durability.MAJORITY)
        self._plan = LoaderPlan(spec, collection.codec_options)
        self._collection = collection.with_options(codec_options=self._plan.raw_options)
        self._ticks: Ticks[Key, Found | None] = Ticks(self._fetch)
        self._kept: Kept[Any, Found | None] = Kept(0)

    @overload
    def load(
        self, key: Any, *, model: None = None, session: Any = None, timeout: float | None = None
    ) -> dict[str, Any] | None: ...

    @overload
    def load(self, key: Any, *, model: type[T], session: Any = None, timeout: float | None = None) -> T | None: ...

    def load(
        self, key: Any, *, model: type[Any] | None = None, session: Any = None, timeout: float | None = None
    ) -> Any:
        """Return the document of a key; None if there is none.

        At most one round trip, shared with the others of this turn of the event loop.

        Args:
            key: The value of the spec's key field.
            model: A Pydantic model, dataclass or typed dict to give the document as.
            session: A session of the driver, to read in its transaction: by itself, and past what a scope keeps.
            timeout: Seconds for the whole call, waiting included. (A `pymongo.timeout()` around a call does not bound a
                command that is shared.)

        Raises:
            UsageError: On a bad key, model or timeout; for key and timeout before anything is sent.
            PyMongoError: Of the driver. Each caller of a command that failed gets it, and it is not kept.
        """
        return self._load([self._plan.key("key", key)], model, session, timeout)[0]

    @overload
    def load_many(
        self, keys: Iterable[Any], *, model: None = None, session: Any = None, timeout: float | None = None
    ) -> list[dict[str, Any] | None]: ...

    @overload
    def load_many(
        self, keys: Iterable[Any], *, model: type[T], session: Any = None, timeout: float | None = None
    ) -> list[T | None]: ...

    def load_many(
        self, keys: Iterable[Any], *, model: type[Any] | None = None, session: Any = None, timeout: float | None = None
    ) -> list[Any]:
        """Return the documents of several keys, in their order; None in the place of each that is missing.

        One round trip for `max_batch` keys, or 8 MB of keys (and one more for each 16 MB of documents). A key that
        occurs twice is asked for once, and gives two documents that are equal.

        Args:
            keys: Values of the spec's key field.
            model: A Pydantic model, dataclass or typed dict to give each document as.
            session: A session of the driver, to read in its transaction: by itself, and past what a scope keeps.
            timeout: Seconds for the whole call, waiting included.

        Raises:
            UsageError: On a bad key, model or timeout; for keys and timeout before anything is sent.
            PyMongoError: Of the driver. Each caller of a command that failed gets it, and it is not kept.
        """
        return self._load(self._plan.keys(keys), model, session, timeout)

    def scope(self) -> Self:
        """Return the same loader with a memory of its own: for one request, one job, one answer.

        In it each document is read once; that there is none is kept, too. It has at most `max_cache` documents, and
        lets go first of those that were not asked for the longest. What others write meanwhile is not seen: see
        `clear`. Used in a `with` block it forgets everything at its end, and keeps nothing from then on.

        Its loads share commands with those of other scopes of this loader; what they keep is their own.
        """
        scoped = copy.copy(self)
        scoped._kept = Kept(self.spec.max_cache)  # noqa: SLF001  # of this class
        return scoped

    def clear(self, key: Any) -> None:
        """Forget what this scope keeps for a key, such as after a write. The next load reads it again.

        A read that is under way for the key answers those who wait for it, and is not kept.

        Args:
            key: The value of the spec's key field.

        Raises:
            UsageError: On a bad key.
        """
        self._kept.clear(self._plan.key("key", key).identity)

    def explain(self, keys: Iterable[Any]) -> list[dict[str, Any]]:
        """Return the arguments of each `find` that `load_many` sends, for reading. Sends nothing."""
        wanted = {key.identity: key for key in self._plan.keys(keys)}
        return [command.arguments() for command in self._plan.commands(wanted)]

    def __enter__(self) -> Self:
        """Return the scope itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Forget everything."""
        self._kept.close()

    def _load(self, keys: list[Key], model: type[Any] | None, session: Any, timeout: float | None) -> list[Any]:
        calls: dict[Hashable, Key] = {key.identity: key for key in keys}
        # (what a transaction sees is nobody else's)
        found: Mapping[Hashable, Found | None] = (
            self._ticks.ask(calls, self._kept, timeout) if session is None else self._fetch(calls, timeout, session)
        )
        documents = self._plan.documents(keys, found)
        decoded = iter(decode_all([document for document in documents if document is not None], model))
        return [None if document is None else next(decoded) for document in documents]

    def _fetch(
        self, calls: Mapping[Hashable, Key], timeout: float | None, session: Any = None
    ) -> Mapping[Hashable, Found | None]:
        commands = self._plan.commands(calls)
        with driver.call(self._collection, timeout):
            replies = [self._read(command, session) for command in commands]
        return self._plan.found(commands, replies)

    def _read(self, command: Find, session: Any) -> list[Any]:
        found: list[Any] = self._collection.find(**command.arguments(), session=session).to_list(None)
        return found
