"""What the two driver seams share: options of a collection, deadlines, and the check of what they are given.

Drivers are told apart by what their classes offer, never by importing them: every attribute of a *database
object* exists (it is a collection of that name), so only its type can be asked.
"""

from __future__ import annotations

import datetime as dt
import inspect
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import pymongo
from bson.codec_options import CodecOptions, DatetimeConversion
from pymongo.errors import OperationFailure, PyMongoError
from pymongo.read_concern import ReadConcern
from pymongo.read_preferences import ReadPreference
from pymongo.write_concern import WriteConcern

from mongopatterns.errors import DeploymentError, OutcomeUnknown, UsageError
from mongopatterns.typing import Durability

OLDEST_WIRE_VERSION = 13  # MongoDB 5.0
_LONGEST = 10 * 86_400  # the server counts milliseconds in 32 bits
# What older servers answer to a field, a stage or an operator that they do not know.
_UNKNOWN_SYNTAX = frozenset({9, 168, 31325, 40324, 40415})


def check_client(client: object, *, asynchronous: bool) -> None:
    """Refuse what is no client of the driver.

    Raises:
        UsageError: If it is none, or one of the other world.
    """
    kind = type(client)
    method = getattr(kind, "list_database_names", None)
    if method is None:
        raise UsageError("client", f"expected a client of the driver, got {kind.__name__}")
    _check_world("client", kind, method, asynchronous=asynchronous)


def _check_world(argument: str, kind: type, method: Any, *, asynchronous: bool) -> None:
    if (inspect.iscoroutinefunction(method) or hasattr(kind, "get_io_loop")) is not asynchronous:
        world, twin = ("a synchronous", "without") if asynchronous else ("an asynchronous", "with")
        raise UsageError(argument, f"{kind.__name__} belongs to {world} driver: use the name {twin} Async")


def check_database(target: object) -> None:
    """Refuse a single collection where several are touched.

    Raises:
        UsageError: If it is one.
    """
    if hasattr(type(target), "find_one_and_update"):
        raise UsageError("target", f"expected a database, got {type(target).__name__}: pass collection.database")


def collection_of(
    target: Any, name: str, durability: Durability, read_preference: Any = None, *, asynchronous: bool
) -> Any:
    """Return the collection to work on, with this package's own options whatever options `target` came with.

    Majority and primary (unless told), so that what is acknowledged stays and what is read is current; aware
    datetimes and plain dicts, so that replies can be read. What is the caller's stays: the representation of
    UUIDs, which is how their keys are stored, and of the write concern its `wtimeout` and `j=True`.

    Raises:
        UsageError: If `target` is no database or collection, or one of the other world.
    """
    kind = type(target)
    if hasattr(kind, "find_one_and_update"):
        collection, probe = target, kind.find_one_and_update
    elif hasattr(kind, "get_collection") and hasattr(kind, "command"):
        collection, probe = target.get_collection(name), kind.command
    else:
        hint = ": pass client['name']" if hasattr(kind, "list_database_names") else ""
        raise UsageError("target", f"expected a database or a collection, got {kind.__name__}{hint}")
    _check_world("target", kind, probe, asynchronous=asynchronous)
    if not isinstance(durability, Durability):
        raise UsageError("durability", f"expected Durability.MAJORITY or Durability.FAST, got {durability!r}")
    if read_preference is not None and not hasattr(read_preference, "mongos_mode"):
        hint = "expected one of pymongo.ReadPreference, such as ReadPreference.SECONDARY_PREFERRED"
        raise UsageError("read_preference", f"{hint}, got {read_preference!r:.100}")
    given = collection.write_concern.document
    options: CodecOptions[dict[str, Any]] = CodecOptions(
        document_class=dict,
        tz_aware=True,
        tzinfo=dt.timezone.utc,
        datetime_conversion=DatetimeConversion.DATETIME_CLAMP,  # a date past the year 9999 is readable
        uuid_representation=collection.codec_options.uuid_representation,
    )
    return collection.with_options(
        codec_options=options,
        read_preference=read_preference or ReadPreference.PRIMARY,
        read_concern=ReadConcern(),
        write_concern=WriteConcern(
            w="majority" if durability is Durability.MAJORITY else 1,
            wtimeout=given.get("wtimeout"),
            j=given.get("j") or None,
        ),
    )


class SnapshotAt(ReadConcern):
    """A read concern that reads what was there at a cluster time.

    The driver's own has no place for the time: a session has one, and no two commands of a session may be under way
    at once.
    """

    def __init__(self, time: Any) -> None:
        super().__init__("snapshot")
        self._time = time

    @property
    def document(self) -> dict[str, Any]:
        """What is sent."""
        return {**super().document, "atClusterTime": self._time}


def at_time(collection: Any, time: Any) -> Any:
    """Return a collection that is read as it was at a cluster time; as it is, for None."""
    return collection if time is None else collection.with_options(read_concern=SnapshotAt(time))


def with_any_date(collection: Any) -> Any:
    """Return the collection so that a date that Python has no year for is read as a `DatetimeMS`, not as another."""
    # (the driver's own UTC, which stands behind None, is read more quickly than Python's)
    options = collection.codec_options.with_options(datetime_conversion=DatetimeConversion.DATETIME_AUTO, tzinfo=None)
    return collection.with_options(codec_options=options)


def deadline(timeout: float | None) -> AbstractContextManager[Any]:
    """Bound everything that the driver does inside, waiting included, to `timeout` seconds.

    Raises:
        UsageError: If `timeout` is not a number greater than 0, or more than ten days.
    """
    if timeout is None:
        return nullcontext()
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)) or not 0 < timeout <= _LONGEST:
        raise UsageError("timeout", f"expected seconds greater than 0, at most {_LONGEST}, or None; got {timeout!r}")
    return pymongo.timeout(timeout)


@contextmanager
def after_a_write(session: Any) -> Iterator[None]:
    """Mark the read that tells what a write has done: if it fails, the write was applied all the same.

    In a transaction the driver's error is the truth: it ends the transaction, and the write with it.

    Raises:
        OutcomeUnknown: If the driver raises an error, and there is no transaction.
    """
    try:
        yield
    except PyMongoError as error:
        if getattr(session, "in_transaction", False):
            raise
        raise OutcomeUnknown("the write was applied; what it did could not be read") from error


def suspects_old_server(error: BaseException | None) -> bool:
    """Tell whether the server did not know what it was asked for."""
    return isinstance(error, OperationFailure) and error.code in _UNKNOWN_SYNTAX


def refuse_old_server(hello: Mapping[str, Any], error: BaseException) -> None:
    """Raise a clear error if the answer to `hello` comes from a server before 5.0.

    Raises:
        DeploymentError: If it does.
    """
    if hello.get("maxWireVersion", OLDEST_WIRE_VERSION) < OLDEST_WIRE_VERSION:
        raise DeploymentError("this server is older than MongoDB 5.0, which mongopatterns needs") from error


def utc_now() -> dt.datetime:
    """Return this process's time."""
    return dt.datetime.now(dt.timezone.utc)
