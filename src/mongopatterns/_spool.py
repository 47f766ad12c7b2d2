"""A directory of journals: what was accepted is on disk, until it is known that it was done.

A journal belongs to one process, which holds a lock on it that ends with the process, however that ends. Whoever opens
the directory adopts the journals that nobody holds: what is still to be done in them is handed over. Journals are only
appended to, and removed when nothing in them is to be done any more.

A record is a mark, its length, its CRC-32, and a BSON document. After a crash the last one may be torn, and a disk may
damage any: those are found by the CRC, and reading goes on with the next mark.

What survives: without `fsync`, what was appended survives the end of the process, however sudden, and may be lost when
the machine fails; with it, it survives that as well, for the price of a disk flush for each append.

Locks are those of POSIX (`fcntl.lockf`): a forked child does not hold its parent's. They are the process's, not the
descriptor's: whoever closes any descriptor of a file gives up the process's lock on it. So what this process holds is
never opened once more, under no other name either.
"""

from __future__ import annotations

import logging
import os
import secrets
import struct
import zlib
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock, RLock
from typing import Any, Final

from bson import decode, encode
from bson.codec_options import CodecOptions, DatetimeConversion
from bson.errors import BSONError

from mongopatterns.errors import DeploymentError, UsageError
from mongopatterns.expressions import ANY_UUID

fcntl: Any
try:
    import fcntl
except ImportError:  # pragma: no cover  # Windows
    fcntl = None

__all__ = ["Journal", "Left", "Spool"]

_LOG: Final = logging.getLogger("mongopatterns.spool")
_MARK: Final = b"\xc5mp1"
_HEAD: Final = struct.Struct("<4sII")
_SUFFIX: Final = ".journal"
_HELD: Final[set[tuple[int, int]]] = set()  # what this process has locked: device and number of each file
_GUARD: Final = RLock()  # one thread at a time opens and closes files, and with that takes and gives up locks
_LARGEST: Final = 64 * 1024 * 1024  # bytes of a file, before another one is begun
_OPTIONS: Final[CodecOptions[Any]] = ANY_UUID.with_options(
    tz_aware=True, datetime_conversion=DatetimeConversion.DATETIME_AUTO
)


@dataclass
class Left:
    """What is still to be done in a journal.

    Attributes:
        items: In the order in which it was accepted, by place.
        batches: What was sent together, and may be done: the places of each batch, by its id, the first one first.
        damaged: How many bytes could not be read.
    """

    items: dict[int, Mapping[str, Any]] = field(default_factory=dict)
    batches: dict[Any, list[int]] = field(default_factory=dict)
    damaged: int = 0


class _File:
    """One file of a journal.

    Attributes:
        path: Where it is.
        descriptor: The open file, and with it the lock.
        size: How many bytes it has.
        first: The place of the first item in it.
        left: How many items in it are still to be done.
    """

    __slots__ = ("descriptor", "first", "left", "path", "size")

    def __init__(self, path: Path, descriptor: int, size: int, first: int) -> None:
        self.path = path
        self.descriptor = descriptor
        self.size = size
        self.first = first
        self.left = 0

    @classmethod
    def begin(cls, path: Path, first: int) -> _File:
        """Make a file that is not there. It has its name when it is locked: before, somebody else might adopt it."""
        unlocked = path.with_suffix(".new")
        with _GUARD:
            descriptor = os.open(unlocked, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_APPEND, 0o600)
            _lock(descriptor)
            _HELD.add(_identity(os.fstat(descriptor)))
        unlocked.rename(path)
        return cls(path, descriptor, 0, first)

    @classmethod
    def take(cls, path: Path) -> _File | None:
        """Open a file that nobody holds; None if somebody does, or it is gone."""
        with _GUARD:
            try:
                if _identity(path.stat()) in _HELD:
                    return None
                descriptor = os.open(path, os.O_RDWR | os.O_APPEND)
            except FileNotFoundError:
                return None
            if not _lock(descriptor) or not path.exists():
                os.close(descriptor)
                return None
            opened = os.fstat(descriptor)
            _HELD.add(_identity(opened))
        return cls(path, descriptor, opened.st_size, 0)

    def append(self, data: bytes, *, fsync: bool) -> None:
        """Write to the end: all of it or nothing."""
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(self.descriptor, view) :]
            if fsync:
                os.fdatasync(self.descriptor)
        except OSError:
            with suppress(OSError):
                os.ftruncate(self.descriptor, self.size)
            raise
        self.size += len(data)

    def read(self) -> bytes:
        """Read all of it, by the descriptor that has the lock."""
        parts: list[bytes] = []
        at = 0
        while part := os.pread(self.descriptor, self.size - at, at):
            parts.append(part)
            at += len(part)
        return b"".join(parts)

    def close(self) -> None:
        """Give up the lock."""
        with _GUARD:
            _HELD.discard(_identity(os.fstat(self.descriptor)))
            os.close(self.descriptor)

    def remove(self) -> None:
        """Be gone."""
        self.path.unlink(missing_ok=True)
        self.close()


class Journal:
    """What is to be done, on disk, until it is done.

    Args:
        directory: Where its files are.
        name: What their names begin with.
        files: Those that are there.
        fsync: Whether what is accepted survives a failure of the machine.
    """

    def __init__(self, directory: Path, name: str, files: Sequence[_File] = (), *, fsync: bool = False) -> None:
        self._directory = directory
        self._name = name
        self._fsync = fsync
        self._files = list(files)
        self._numbered = len(self._files)
        self._next = 0
        self._lock = Lock()
        if not self._files:
            self._begin_file()

    def accept(self, records: Sequence[Mapping[str, Any]]) -> list[int]:
        """Have records on disk; return their places.

        Raises:
            DeploymentError: If they cannot be written, such as on a full disk; none of them is accepted then.
        """
        with self._lock:
            places = list(range(self._next, self._next + len(records)))
            data = b"".join(_packed({"a": place, "r": record}) for place, record in zip(places, records, strict=True))
            if self._files[-1].size >= _LARGEST:
                self._begin_file()
            self._append(data)
            self._next += len(records)
            self._files[-1].left += len(records)
            return places

    def begin(self, batch: Any, places: Sequence[int]) -> None:
        """Have on disk that these are sent together under an id, before they are.

        Raises:
            DeploymentError: If that cannot be written.
        """
        with self._lock:
            self._append(_packed({"b": batch, "p": list(places)}))

    def done(self, places: Iterable[int]) -> None:
        """Note that these need not be done again. If that is lost, they are done once more by whoever adopts them."""
        listed = sorted(places)
        with self._lock:
            self._count(listed, -1)
            with suppress(OSError):
                self._files[-1].append(_packed({"d": listed}), fsync=False)
            # (the oldest first: a file also tells what was done of those before it)
            while len(self._files) > 1 and not self._files[0].left:
                self._files.pop(0).remove()

    def close(self) -> None:
        """Give it up. What is still to be done is adopted by the next process; if there is nothing, it is gone."""
        over = not any(file.left for file in self._files)
        if over:
            for file in self._files:
                file.remove()
        else:
            for file in reversed(self._files):  # (the first one last: who can have that can have all)
                file.close()
        self._files = []

    def left(self) -> Left:
        """Read what is still to be done."""
        found = Left()
        self._next = 0
        for file in self._files:
            file.first, file.left = self._next, 0
            self._next = max(self._next, _read_into(found, file.read()))
        _tidy(found)
        self._count(found.items, 1)
        return found

    def _count(self, places: Iterable[int], by: int) -> None:
        """Count in each file what is still to be done."""
        starts = [file.first for file in self._files]
        for place in places:
            self._files[bisect_right(starts, place) - 1].left += by

    def _append(self, data: bytes) -> None:
        try:
            self._files[-1].append(data, fsync=self._fsync)
        except OSError as error:
            raise DeploymentError(f"the spool in {self._directory} cannot be written: {error}") from error

    def _begin_file(self) -> None:
        path = self._directory / f"{self._name}-{self._numbered:08d}{_SUFFIX}"
        try:
            self._files.append(_File.begin(path, self._next))
            if self._fsync:
                _sync_names(self._directory)
        except OSError as error:
            raise DeploymentError(f"the spool in {self._directory} cannot be written: {error}") from error
        self._numbered += 1


class Spool:
    """A directory of journals.

    Args:
        directory: Where they are; made if it is not there. Processes of one machine may share it; it must not lie on a
            network file system.
        fsync: Whether what is accepted survives a failure of the machine.

    Raises:
        UsageError: If the directory is none, or cannot be made.
        DeploymentError: If this system has no locks of POSIX.
    """

    def __init__(self, directory: str | os.PathLike[str], *, fsync: bool = False) -> None:
        if fcntl is None:
            raise DeploymentError("a spool needs the file locks of POSIX, which this system has not")
        self._directory = Path(directory).absolute()
        self._fsync = fsync
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError("spool", f"cannot be used as a directory: {error}") from None

    def journal(self) -> Journal:
        """Begin a journal of this process."""
        return Journal(self._directory, f"{os.getpid()}-{secrets.token_hex(8)}", fsync=self._fsync)

    def adopt(self) -> Iterator[Journal]:
        """Give the journals whose processes are gone: they are this process's now."""
        first: dict[str, Path] = {}
        for path in self._paths("*"):
            first.setdefault(path.name.rpartition("-")[0], path)
        for name, path in first.items():
            # Of several processes, the one that has the first file gets all. Only then is it known which there are:
            # its process may have begun another one while the directory was read.
            if (file := _File.take(path)) is None:
                continue
            further = [_File.take(each) for each in self._paths(f"{name}-*") if each != path]
            taken = [file, *(each for each in further if each is not None)]
            if len(taken) == 1 + len(further):
                yield Journal(self._directory, name, taken, fsync=self._fsync)
            else:
                for each in reversed(taken):
                    each.close()

    def _paths(self, pattern: str) -> list[Path]:
        return sorted(self._directory.glob(f"{pattern}{_SUFFIX}"))


def _sync_names(directory: Path) -> None:
    """Have the names in a directory survive a failure of the machine: a file's own flush does not see to its name."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _read_into(found: Left, data: bytes) -> int:
    """Read a file of a journal; return the place after the last one that it tells of."""
    following = 0
    for told in _records(data, found):
        if "a" in told:
            found.items[told["a"]] = told["r"]
            following = told["a"] + 1
        elif "b" in told:
            found.batches[told["b"]] = told["p"]
        else:
            for place in told["d"]:
                found.items.pop(place, None)
    return following


def _tidy(found: Left) -> None:
    """Keep of the batches what is still to be done; say what is damaged."""
    batches = {batch: [place for place in places if place in found.items] for batch, places in found.batches.items()}
    found.batches = {batch: places for batch, places in batches.items() if places}
    if found.damaged:
        _LOG.warning("%d bytes of a journal are damaged: what else is in it will be done", found.damaged)


def _records(data: bytes, found: Left) -> Iterator[Mapping[str, Any]]:
    """Give the records of a journal; count what is damaged."""
    at = 0
    while at < len(data):
        told = _record_at(data, at)
        if told is None:
            following = data.find(_MARK, at + 1)
            found.damaged += (len(data) if following < 0 else following) - at
            at = len(data) if following < 0 else following
            continue
        record, at = told
        yield record


def _record_at(data: bytes, at: int) -> tuple[Mapping[str, Any], int] | None:
    if len(data) - at < _HEAD.size:
        return None
    mark, length, crc = _HEAD.unpack_from(data, at)
    body = data[at + _HEAD.size : at + _HEAD.size + length]
    if mark != _MARK or len(body) != length or zlib.crc32(body) != crc:
        return None
    try:
        return decode(body, codec_options=_OPTIONS), at + _HEAD.size + length
    except BSONError:
        return None


def _packed(record: Mapping[str, Any]) -> bytes:
    body = encode(record, codec_options=_OPTIONS)
    return _HEAD.pack(_MARK, len(body), zlib.crc32(body)) + body


def _lock(descriptor: int) -> bool:
    """Lock a file, if nobody else holds it."""
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _identity(told: os.stat_result) -> tuple[int, int]:
    """Return what a file is, whatever it is called."""
    return told.st_dev, told.st_ino


def _after_fork() -> None:
    """Hold nothing, in a child process: locks of POSIX are not inherited."""
    _HELD.clear()
    _GUARD.release()


if hasattr(os, "register_at_fork"):  # not on Windows, which does not fork
    os.register_at_fork(before=_GUARD.acquire, after_in_parent=_GUARD.release, after_in_child=_after_fork)
