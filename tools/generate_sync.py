"""Write the synchronous side of the package from the asynchronous one, or check that it is up to date.

    python tools/generate_sync.py            write what changed, and remove twins whose source is gone
    python tools/generate_sync.py --check    write nothing, and list everything that is not as it should be

Every `*_async.py` below `src` has a twin `*_sync.py` beside it, and every module below `tests/aio` has one at
the same place below `tests/blocking`. A source is translated by `async_to_sync`, which says what changes and
holds the table of exceptions. Then Ruff tidies the twin by the project's own settings: it removes imports
that are no longer used, merges those that became one (`AsyncIterator, Iterator`), sorts and formats.

Where the two worlds differ in substance, both sides are written by hand: the modules in `HAND_WRITTEN`, and
any source with the line `# generate: hand-written twin`. Of those it is only checked that both sides exist and
hold code. Nothing else may look like a twin: a `*_sync.py` below `src`, or a module below `tests/blocking`,
that has no source is reported.

No file is overwritten or removed unless it has the header of a generated one.
"""

from __future__ import annotations

import argparse
import ast
import difflib
import re
import subprocess
import sys
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from async_to_sync import (
    HAND_WRITTEN_TWIN,
    MOST_RENAMES,
    RENAMES,
    GenerateError,
    generate,
    has_hand_written_twin,
    refuse_leftovers,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

ROOT = Path(__file__).resolve().parent.parent
HAND_WRITTEN = tuple(f"src/mongopatterns/_{part}_async.py" for part in ("driver", "group", "worker"))
HEADER_LINE = re.compile(rb"# Generated from \S+ by tools/generate_sync\.py\.\r?\n")

# What a clean source can be found guilty of only as a twin, and Ruff can mend: imports that are not used, and
# what they leave behind (F401, TC005); the order of imports and of `__all__` (I001, RUF022); a `noqa` for a
# rule about async code (RUF100); parentheses of an `await` (UP034); loops and comprehensions that have a
# shorter form unless they are async (C416, C419, UP028).
TIDY = "C416,C419,F401,I001,RUF022,RUF100,TC005,UP028,UP034"

LINES_OF_DIFF = 20


def run(root: Path, *, check: bool, renames: Mapping[str, str] = RENAMES) -> int:
    """Bring the twins below `root` up to date, or tell what is not.

    Args:
        root: The directory that holds `src` and `tests`.
        check: Write nothing.
        renames: The exceptions.

    Returns:
        0, or 1 when there is anything that somebody has to see to.
    """
    twins, problems = _survey(root, renames)
    problems += _strays(root, twins)
    for name, text, finding in _changes(root, twins):
        path = root / name
        if check:
            problems.append(f"{name}: {finding}")
        elif text is None:
            path.unlink()
            print(f"removed {name}")
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(text.encode())
            print(f"wrote {name}")
    for problem in problems:
        print(problem)
    if not problems:
        print(f"twins up to date: {len(twins)}" if twins else "nothing to generate")
    return 1 if problems else 0


def tidy(text: str, path: Path) -> str:
    """Let Ruff mend and format `text` as the file `path`, by the settings of the project around it.

    Raises:
        GenerateError: Ruff cannot read the text.
    """
    ruff = str(Path(sys.executable).with_name("ruff"))
    mend = ["check", "--fix-only", "--unsafe-fixes", f"--extend-select={TIDY}", f"--fixable={TIDY}"]
    code = text.encode()
    for arguments in (mend, ["format"]):
        command = [ruff, *arguments, "--quiet", "--stdin-filename", str(path), "-"]
        done = subprocess.run(command, input=code, capture_output=True, check=False)
        if done.returncode:
            raise GenerateError(f"ruff {arguments[0]}: {done.stderr.decode().strip()}")
        code = done.stdout
    return code.decode()


def _survey(root: Path, renames: Mapping[str, str]) -> tuple[dict[str, str | None], list[str]]:
    """Translate every source below `root`.

    Returns:
        The text of each twin by its name, None where it is not ours to write; and what is wrong.
    """
    twins: dict[str, str | None] = {}
    problems: list[str] = []
    used: set[str] = set()
    for path in sorted([*root.glob("src/**/*_async.py"), *root.glob("tests/aio/**/*.py")]):
        source = path.read_text(encoding="utf-8")
        name = path.relative_to(root).as_posix()
        twin = re.sub(r"^tests/aio/", "tests/blocking/", re.sub(r"_async\.py$", "_sync.py", name))
        twins[twin] = None
        by_hand = name in HAND_WRITTEN or has_hand_written_twin(source)
        try:
            text = None if by_hand else _twin_of(source, name, root / twin, used, renames)
        except GenerateError as error:
            problems.append(f"{name}: {error}")
            continue
        if by_hand and (flaw := _flaw(path)):
            problems.append(f"{name}: {flaw}")
        if misfit := _misfit(root / twin, by_hand=by_hand):
            problems.append(f"{twin}: {misfit} (its source is {name})")
        else:
            twins[twin] = text
    if len(renames) > MOST_RENAMES:
        problems.append(f"RENAMES: {len(renames)} rules are more than {MOST_RENAMES}; make our names regular")
    if any(twins.values()):  # without a single text, no rule can be of use
        problems += [f"RENAMES: unused rule {old!r}" for old in renames if old not in used]
    return twins, problems


def _twin_of(source: str, name: str, twin: Path, used: set[str], renames: Mapping[str, str]) -> str:
    text = tidy(generate(source, name=name, used=used, renames=renames), twin)
    refuse_leftovers(text)
    return text


def _strays(root: Path, twins: Mapping[str, str | None]) -> list[str]:
    """Tell what has the place of a twin, or should have one, and does not belong to a pair."""
    problems = []
    for path in sorted([*root.glob("src/**/*_sync.py"), *root.glob("tests/blocking/**/*.py")]):
        name = path.relative_to(root).as_posix()
        if name not in twins and not HEADER_LINE.match(path.read_bytes()):  # with the header, it is an orphan
            source = re.sub(r"^tests/blocking/", "tests/aio/", re.sub(r"^(src/.*)_sync\.py$", r"\1_async.py", name))
            problems.append(f"{name}: it has no source; write {source}, or remove it")
    if not twins and (root / "src").is_dir():
        problems.append("src: nothing to generate, there is no source at all")
    return problems


def _misfit(twin: Path, *, by_hand: bool) -> str:
    """Tell why the file `twin` can neither be left to its author nor be written over; empty if it can."""
    if not twin.exists():
        return "missing, and it is written by hand" if by_hand else ""
    have = twin.read_bytes()
    generated = bool(HEADER_LINE.match(have))
    if by_hand and generated:
        return "it is said to be written by hand, but has the header of a generated file"
    if by_hand:
        return _flaw(twin)
    if have and not generated:
        return f"it is in the way, not generated; remove it, or mark its source {HAND_WRITTEN_TWIN!r}"
    return ""


def _flaw(path: Path) -> str:
    """Tell why the file `path` cannot be one side of a hand-written pair; empty if it can."""
    try:
        statements = ast.parse(path.read_bytes()).body
    except (SyntaxError, ValueError) as error:
        return f"it is written by hand, and does not parse: {error}"
    return "" if any(map(_does_something, statements)) else "it is written by hand, and holds no code"


def _does_something(statement: ast.stmt) -> bool:
    match statement:
        case ast.Pass() | ast.Expr(value=ast.Constant()) | ast.ImportFrom(module="__future__"):
            return False
    return True


class _Change(NamedTuple):
    """A file that is not as it should be. Without a text, it should not be at all."""

    name: str
    text: str | None
    finding: str


def _changes(root: Path, twins: Mapping[str, str | None]) -> Iterator[_Change]:
    for name, text in twins.items():
        if text is None:
            continue
        have = (root / name).read_bytes() if (root / name).exists() else None
        if have is None:
            yield _Change(name, text, "missing")
        elif have != text.encode():
            yield _Change(name, text, f"differs from what its source says\n{_diff(have, text)}")
    for path in sorted([*root.glob("src/**/*.py"), *root.glob("tests/**/*.py")]):
        name = path.relative_to(root).as_posix()
        if name not in twins and HEADER_LINE.match(path.read_bytes()):
            yield _Change(name, None, "orphan, its source is gone")


def _diff(have: bytes, want: str) -> str:
    old = have.decode(errors="replace").splitlines()
    lines = difflib.unified_diff(old, want.splitlines(), "as it is", "as generated", lineterm="")
    return "\n".join(f"    {line}" for line in islice(lines, LINES_OF_DIFF))


def main() -> int:
    """Run as a program."""
    parser = argparse.ArgumentParser(description="Write the synchronous twins of the asynchronous sources.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if anything is amiss")
    return run(ROOT, check=parser.parse_args().check)


if __name__ == "__main__":
    sys.exit(main())
