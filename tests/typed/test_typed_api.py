"""The public API under two type checkers: what must pass passes, and what must fail fails.

A line that must fail carries a `type: ignore` with its code: if it stops failing, the ignore is unused, and both
checkers report that as an error.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
FILES = sorted(HERE.glob("api_*.py"))


def test_there_is_something_to_check() -> None:
    """The files are there, assert types, and hold lines that must fail."""
    assert len(FILES) == 2
    for path in FILES:
        assert path.read_text().count("assert_type(") >= 5
        assert path.read_text().count("type: ignore[") >= 3


def test_mypy_agrees() -> None:
    """Mypy --strict accepts the files, and finds every line that must fail."""
    command = [sys.executable, "-m", "mypy", "--strict", "--warn-unused-ignores", *map(str, FILES)]
    result = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


def test_the_second_checker_agrees(tmp_path: Path) -> None:
    """Basedpyright accepts the files, and finds every line that must fail."""
    config = {
        "include": [str(HERE)],
        "typeCheckingMode": "standard",
        "pythonVersion": "3.10",
        "reportUnnecessaryTypeIgnoreComment": "error",
    }
    (tmp_path / "pyrightconfig.json").write_text(json.dumps(config))
    command = [
        sys.executable,
        "-m",
        "basedpyright",
        "-p",
        str(tmp_path),
        "--pythonpath",
        sys.executable,
        "--outputjson",
    ]
    result = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    report = json.loads(result.stdout)
    found = [f"{Path(each['file']).name}: {each['message']}" for each in report["generalDiagnostics"]]
    assert report["summary"]["filesAnalyzed"] >= len(FILES)
    assert found == []


@pytest.mark.parametrize("checker", ["mypy", "basedpyright"])
def test_the_checkers_can_fail(checker: str, tmp_path: Path) -> None:
    """A wrong type is an error, so that the tests above mean something."""
    bad = tmp_path / "bad.py"
    bad.write_text("from mongopatterns import Window\nWindow.hour('60')\n")
    command = [sys.executable, "-m", checker, str(bad)]
    result = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert result.returncode == 1, result.stdout + result.stderr
