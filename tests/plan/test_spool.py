"""Journals on disk: what was accepted is there until it is done, whatever happens to the process or to the file."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
import threading
import zlib
from itertools import chain
from pathlib import Path
from typing import Any

import pytest

from mongopatterns import DeploymentError, UsageError, _spool
from mongopatterns._spool import Journal, Spool, _File


def left_behind(journal: Journal) -> None:
    """Give a journal up as a killed process does: the lock is gone, and nothing else has happened."""
    for file in journal._files:
        file.close()


def adopted(directory: Path) -> dict[int, Any]:
    [journal] = Spool(directory).adopt()
    items = journal.left().items
    left_behind(journal)
    return items


def test_what_was_accepted_is_left(tmp_path: Path) -> None:
    """In its order, without what was done, with the batches that may be done."""
    journal = Spool(tmp_path).journal()
    assert journal.accept([{"n": 0}, {"n": 1}, {"n": 2}]) == [0, 1, 2]
    assert journal.accept([{"n": 3}]) == [3]
    journal.begin("x", [0, 1])
    journal.begin("y", [2])
    journal.done([2])
    journal.done([0])
    left_behind(journal)
    [other] = Spool(tmp_path).adopt()
    left = other.left()
    assert list(left.items.items()) == [(1, {"n": 1}), (3, {"n": 3})]
    assert left.batches == {"x": [1]}
    assert left.damaged == 0
    other.done([1, 3])
    other.close()
    assert list(tmp_path.iterdir()) == []


def test_who_is_alive_keeps_its_journal(tmp_path: Path) -> None:
    """Neither the same process nor another one takes it; when nothing is left and it is given up, it is gone."""
    spool = Spool(tmp_path)
    journal = spool.journal()
    journal.accept([{"n": 1}])
    assert list(Spool(tmp_path).adopt()) == []
    assert adopted_by_another_process(tmp_path) == 0
    journal.done([0])
    journal.close()
    assert list(tmp_path.iterdir()) == []


def adopted_by_another_process(directory: Path) -> int:
    """Count the journals that a process adopts which starts now, and ends at once."""
    program = f"from mongopatterns._spool import Spool; print(len(list(Spool({str(directory)!r}).adopt())))"
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return int(told.stdout)


def test_who_adopted_a_journal_keeps_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until it gives it up, whatever was read of it and done, also if it has several files."""
    monkeypatch.setattr(_spool, "_LARGEST", 100)
    journal = Spool(tmp_path).journal()
    for _ in range(3):
        journal.accept([{"v": "x" * 100}])
    left_behind(journal)
    [other] = Spool(tmp_path).adopt()
    assert adopted_by_another_process(tmp_path) == 0
    assert len(other.left().items) == 3
    assert adopted_by_another_process(tmp_path) == 0
    assert list(Spool(tmp_path).adopt()) == []
    assert adopted_by_another_process(tmp_path) == 0
    other.begin("x", [1, 2])
    other.done([0])
    assert adopted_by_another_process(tmp_path) == 0
    other.close()
    assert adopted_by_another_process(tmp_path) == 1


def test_one_process_adopts_once(tmp_path: Path) -> None:
    """However many of its threads do it at once, and by whatever name the directory goes."""
    alias = tmp_path / "alias"
    real = tmp_path / "real"
    spool = Spool(real)
    alias.symlink_to(real)
    for _ in range(20):
        journal = spool.journal()
        journal.accept([{"n": 1}])
        left_behind(journal)
    alive = spool.journal()
    found: list[list[Journal]] = []
    begin = threading.Barrier(4)

    def adopt(directory: Path) -> None:
        begin.wait()
        found.append(list(Spool(directory).adopt()))

    threads = [threading.Thread(target=adopt, args=(directory,)) for directory in (real, alias) * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(map(len, found)) == 20
    assert adopted_by_another_process(real) == 0
    for journal in (alive, *chain(*found)):
        journal.close()


def test_what_was_begun_while_the_directory_is_read_is_adopted_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that came after it was listed may tell what was sent of those before."""
    monkeypatch.setattr(_spool, "_LARGEST", 100)
    journal = Spool(tmp_path).journal()
    journal.accept([{"v": "x" * 100}])
    take = _File.take

    def late(path: Path) -> _File | None:
        if journal._files:
            journal.accept([{"v": 1}])
            journal.begin("x", [0, 1])
            journal.close()
        return take(path)

    monkeypatch.setattr(_File, "take", late)
    [other] = Spool(tmp_path).adopt()
    assert other.left().batches == {"x": [0, 1]}
    other.close()


def test_a_file_that_was_adopted_goes_when_it_is_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest first, and the last one when the journal is given up; what is not done stays until it is."""
    monkeypatch.setattr(_spool, "_LARGEST", 100)
    journal = Spool(tmp_path).journal()
    for _ in range(4):
        journal.accept([{"v": "x" * 60}, {"v": "x" * 60}])
    journal.done([2, 5, 6])
    left_behind(journal)
    paths = sorted(tmp_path.iterdir())
    assert len(paths) == 4
    [other] = Spool(tmp_path).adopt()
    assert list(other.left().items) == [0, 1, 3, 4, 7]
    other.done([3, 4])
    assert sorted(tmp_path.iterdir()) == paths
    other.done([0])
    assert sorted(tmp_path.iterdir()) == paths
    other.done([1])
    assert sorted(tmp_path.iterdir()) == paths[3:]
    other.close()
    assert list(adopted(tmp_path)) == [7]
    [last] = Spool(tmp_path).adopt()
    last.left()
    last.done([7])
    last.close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("cut", range(1, 40, 3))
def test_a_torn_end_is_found(tmp_path: Path, cut: int) -> None:
    """What was written before it is done."""
    journal = Spool(tmp_path).journal()
    journal.accept([{"n": 1}])
    journal.accept([{"n": "x" * 20}])
    left_behind(journal)
    [path] = tmp_path.iterdir()
    os.truncate(path, path.stat().st_size - cut)
    [other] = Spool(tmp_path).adopt()
    left = other.left()
    assert left.items == {0: {"n": 1}}
    assert left.damaged > 0
    left_behind(other)


def test_what_is_damaged_is_passed_over(tmp_path: Path, caplog: Any) -> None:
    """Whatever byte is wrong, at most one record is lost, and it is said so."""
    journal = Spool(tmp_path).journal()
    for number in range(3):
        journal.accept([{"n": number}])
    left_behind(journal)
    [path] = tmp_path.iterdir()
    whole = path.read_bytes()
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        caplog.clear()
        assert len(adopted(tmp_path)) == 2
        assert "damaged" in caplog.text


def test_a_full_disk_accepts_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says so; what was accepted before stays, and what comes after the disk has room is accepted."""
    journal = Spool(tmp_path).journal()
    journal.accept([{"n": 0}])
    write = os.write

    def half(descriptor: int, data: Any) -> int:
        if len(data) > 10:
            return write(descriptor, data[: len(data) // 2])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", half)
    with pytest.raises(DeploymentError, match="No space left on device"):
        journal.accept([{"n": 1}])
    with pytest.raises(DeploymentError, match="No space left on device"):
        journal.begin("x", [0])
    monkeypatch.undo()
    assert journal.accept([{"n": 2}]) == [1]
    left_behind(journal)
    assert adopted(tmp_path) == {0: {"n": 0}, 1: {"n": 2}}


def test_files_do_not_grow_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A large file is followed by another one, and removed when nothing in it is to be done, the oldest first."""
    monkeypatch.setattr(_spool, "_LARGEST", 100)
    journal = Spool(tmp_path).journal()
    places = [journal.accept([{"n": number, "v": "x" * 100}])[0] for number in range(6)]
    assert len(list(tmp_path.iterdir())) == 6
    journal.done(places[1:3])
    assert len(list(tmp_path.iterdir())) == 6
    journal.done(places[:1])
    assert len(list(tmp_path.iterdir())) == 3
    left_behind(journal)
    assert list(adopted(tmp_path)) == places[3:]


@pytest.mark.parametrize("fsync", [False, True])
def test_what_is_accepted_is_flushed_if_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fsync: bool) -> None:
    """Once for all that is accepted together."""
    flushed: list[int] = []
    monkeypatch.setattr(os, "fdatasync", flushed.append)
    journal = Spool(tmp_path, fsync=fsync).journal()
    journal.accept([{"n": number} for number in range(50)])
    assert len(flushed) == int(fsync)
    journal.done(range(50))
    journal.close()


def test_a_place_that_is_no_directory(tmp_path: Path) -> None:
    """It is refused, and named."""
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(UsageError, match="spool"):
        Spool(file)
    made = tmp_path / "a" / "b"
    Spool(made)
    assert made.is_dir()


@pytest.mark.parametrize("fsync", [False, True])
def test_the_name_of_a_file_is_flushed_as_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fsync: bool) -> None:
    """With `fsync`, the directory is flushed when a file begins: its own flush does not see to its name."""
    flushed: list[bool] = []
    sync = os.fsync

    def watched(descriptor: int) -> None:
        flushed.append(stat.S_ISDIR(os.fstat(descriptor).st_mode))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", watched)
    Spool(tmp_path, fsync=fsync).journal().close()
    assert flushed == [True] * fsync


def test_all_files_of_a_journal_or_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where somebody holds one of them, none is taken, and the others are given back."""
    monkeypatch.setattr(_spool, "_LARGEST", 100)
    journal = Spool(tmp_path).journal()
    for number in range(3):
        journal.accept([{"n": number, "text": "x" * 100}])
    left_behind(journal)
    first, *_, last = sorted(tmp_path.iterdir())
    held = _File.take(last)
    assert held is not None
    assert list(Spool(tmp_path).adopt()) == []
    again = _File.take(first)
    assert again is not None
    again.close()
    held.close()
    assert [item["n"] for item in adopted(tmp_path).values()] == [0, 1, 2]


def test_a_file_that_is_gone_is_nobodys(tmp_path: Path) -> None:
    """Its process has done everything meanwhile."""
    assert _File.take(tmp_path / "gone") is None


def test_a_directory_that_is_gone_is_told(tmp_path: Path) -> None:
    """No journal can be begun in it."""
    spool = Spool(tmp_path / "spool")
    (tmp_path / "spool").rmdir()
    with pytest.raises(DeploymentError, match="cannot be written"):
        spool.journal()


def test_a_system_without_locks_has_no_spool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says so, and does not do without them."""
    monkeypatch.setattr(_spool, "fcntl", None)
    with pytest.raises(DeploymentError, match="POSIX"):
        Spool(tmp_path)


def test_a_record_that_is_no_document_is_damaged(tmp_path: Path) -> None:
    """Though its sum is right; so is the beginning of one."""
    journal = Spool(tmp_path).journal()
    journal.accept([{"n": 0}])
    left_behind(journal)
    [path] = tmp_path.iterdir()
    wrong = b"no document"
    with path.open("ab") as file:
        file.write(_spool._HEAD.pack(_spool._MARK, len(wrong), zlib.crc32(wrong)) + wrong)
        file.write(_spool._packed({"accept": 1})[:5])
    [other] = Spool(tmp_path).adopt()
    left = other.left()
    assert (list(left.items.values()), left.damaged) == ([{"n": 0}], _spool._HEAD.size + len(wrong) + 5)
    left_behind(other)
