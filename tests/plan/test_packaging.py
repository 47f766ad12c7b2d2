"""What is shipped: bounds are the same wherever they are named, and the pages for maintainers name what is there."""

from __future__ import annotations

import ast
import importlib.metadata
import importlib.util
import io
import os
import re
import sys
import zipfile
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import mongopatterns

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[2]
CONFIGURATION = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT: dict[str, Any] = CONFIGURATION["project"]
PAGES = ["SECURITY.md", "CONTRIBUTING.md", "RELEASING.md"]
VERSION = "0.1.0.dev0"


def _tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("check_wheel", ROOT / "tools" / "check_wheel.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


check_wheel = _tool()


def test_the_package_that_is_tested_is_the_one_that_is_meant() -> None:
    """It is the tree, or what is installed where MONGOPATTERNS_INSTALLED_IN says; the tests of a wheel see no tree."""
    wanted = Path(os.environ.get("MONGOPATTERNS_INSTALLED_IN", ROOT / "src"))
    found = Path(mongopatterns.__file__).resolve()
    assert found.is_relative_to(wanted.resolve())
    assert ("site-packages" in found.parts) is ("MONGOPATTERNS_INSTALLED_IN" in os.environ)


def test_the_command_and_the_plugin_are_entry_points() -> None:
    """What is installed has both, and both can be loaded."""
    entries = importlib.metadata.distribution("mongopatterns").entry_points
    assert {entry.group: {entry.name: entry.value} for entry in entries} == check_wheel.SCRIPTS
    assert all(entry.load() is not None for entry in entries)


def test_one_version_of_python_is_the_oldest_everywhere() -> None:
    """The project, its classifiers, the linter, both type checkers and the README say the same."""
    oldest = PROJECT["requires-python"].removeprefix(">=")
    assert f"Programming Language :: Python :: {oldest}" in PROJECT["classifiers"]
    tools = CONFIGURATION["tool"]
    assert tools["mypy"]["python_version"] == tools["basedpyright"]["pythonVersion"] == oldest
    assert tools["ruff"]["target-version"] == f"py{oldest.replace('.', '')}"
    assert f"| Python | {oldest} or newer |" in (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("package", "row"),
    [
        ("pymongo", "| PyMongo, async and sync | {} or newer, without 4.15.0 |"),
        ("motor", "| Motor | {} or newer "),
        ("pydantic", "| Pydantic | {} or newer "),
    ],
)
def test_the_readme_names_the_oldest_versions(package: str, row: str) -> None:
    """What the table says is what an installer allows, and what `make oldest` runs."""
    pins = dict(pin.split(" ;")[0].split("==") for pin in check_wheel.lowest(PROJECT))
    assert row.format(pins[package]) in (ROOT / "README.md").read_text(encoding="utf-8")


def test_a_dependency_without_a_lower_bound_is_refused() -> None:
    """Nobody could say what it works with."""
    assert check_wheel.lowest(
        {"name": "x", "dependencies": ["a>=1,!=1.1"], "optional-dependencies": {"b": ["x[c]"]}}
    ) == ["a==1"]
    with pytest.raises(ValueError, match="a has no lower bound"):
        check_wheel.lowest({"name": "x", "dependencies": ["a"], "optional-dependencies": {}})


# A wheel -----------------------------------------------------------------------------------------------------

INFO = f"mongopatterns-{VERSION}.dist-info"
WHEEL = {
    "mongopatterns/__init__.py": "",
    "mongopatterns/__init__.pyi": "",
    "mongopatterns/py.typed": "",
    f"{INFO}/METADATA": (
        f"Name: mongopatterns\nVersion: {VERSION}\nRequires-Python: >=3.10\nLicense-Expression: Apache-2.0\n"
        "Provides-Extra: cli\n\n# mongopatterns\n"
    ),
    f"{INFO}/entry_points.txt": (
        "[console_scripts]\nmongopatterns = mongopatterns.cli:main\n"
        "[pytest11]\nmongopatterns = mongopatterns.testing.plugin\n"
    ),
    f"{INFO}/licenses/LICENSE": "Apache License",
}
METADATA = {
    "name": "mongopatterns",
    "version": VERSION,
    "requires-python": ">=3.10",
    "license": "Apache-2.0",
    "optional-dependencies": {"cli": []},
}


def problems(
    tmp_path: Path, files: dict[str, str], name: str = f"mongopatterns-{VERSION}-py3-none-any.whl"
) -> list[str]:
    """Say what is wrong with a wheel of these files, for a package of three."""
    package = tmp_path / "mongopatterns"
    package.mkdir()
    for each in ("__init__.py", "__init__.pyi", "py.typed"):
        (package / each).touch()
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as opened:
        for path, text in files.items():
            opened.writestr(path, text)
    (tmp_path / name).write_bytes(content.getvalue())
    return list(check_wheel.wheel_problems(tmp_path / name, package, METADATA))


def test_a_wheel_that_is_complete_passes(tmp_path: Path) -> None:
    """Nothing is said of it."""
    assert problems(tmp_path, WHEEL) == []


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"mongopatterns/py.typed": None}, "the wheel lacks mongopatterns/py.typed"),
        ({"mongopatterns/__init__.pyi": None}, "the wheel lacks mongopatterns/__init__.pyi"),
        ({"tests/test_x.py": ""}, "the wheel holds tests/test_x.py"),
        ({"mongopatterns/left.py": ""}, "the wheel holds mongopatterns/left.py"),
        ({f"{INFO}/licenses/LICENSE": None}, "the wheel has no licence"),
        ({f"{INFO}/entry_points.txt": "[console_scripts]\n"}, "the entry points are not those"),
        ({f"{INFO}/METADATA": WHEEL[f"{INFO}/METADATA"].replace(">=3.10", ">=3.11")}, "Requires-Python is '>=3.11'"),
        ({f"{INFO}/METADATA": WHEEL[f"{INFO}/METADATA"].replace("cli", "clip")}, "the extras are not those"),
        ({f"{INFO}/METADATA": WHEEL[f"{INFO}/METADATA"].replace("# mongo", "# Mongo")}, "is not the README"),
    ],
)
def test_what_is_wrong_with_a_wheel_is_said(tmp_path: Path, changed: dict[str, str | None], said: str) -> None:
    """What it lacks, what it has too much of, and what it says that the project does not."""
    files = {name: text for name, text in {**WHEEL, **changed}.items() if text is not None}
    assert any(said in problem for problem in problems(tmp_path, files))


def test_a_wheel_for_one_machine_is_refused(tmp_path: Path) -> None:
    """The package is pure Python."""
    name = f"mongopatterns-{VERSION}-cp311-cp311-linux_x86_64.whl"
    assert problems(tmp_path, WHEEL, name) == [f"{name} is not for every machine"]


def test_a_sdist_holds_what_the_repository_holds() -> None:
    """But for what belongs to the repository alone."""
    assert check_wheel.sdist_problems(["a.py", "b.py"], ["a.py", ".gitignore", ".ci/run"]) == []
    assert check_wheel.sdist_problems(["a.py"], ["a.py", "b.py"]) == ["the sdist lacks b.py"]


# Pages -------------------------------------------------------------------------------------------------------


def test_every_room_is_on_the_page_about_architecture() -> None:
    """Each folder of the package has its line in the table, and each line its folder."""
    page = (ROOT / "docs" / "explanation" / "architecture.md").read_text(encoding="utf-8")
    folders = {each.name for each in (ROOT / "src" / "mongopatterns").iterdir() if (each / "__init__.py").exists()}
    assert set(re.findall(r"^\| `(\w+)/` \|", page, re.MULTILINE)) == folders


def test_every_module_at_the_top_is_on_the_page_about_architecture() -> None:
    """Whoever looks for a file that all patterns share finds there what it is for."""
    page = (ROOT / "docs" / "explanation" / "architecture.md").read_text(encoding="utf-8")
    modules = {each.name for each in (ROOT / "src" / "mongopatterns").glob("*.py")}
    assert {name for name in modules if name not in page} == set()


@pytest.mark.parametrize("name", PAGES)
def test_the_tests_that_a_page_names_are_there(name: str) -> None:
    """A proof that is named can be run."""
    text = (ROOT / name).read_text(encoding="utf-8")
    named = re.findall(r"`(tests/[\w/]+(?:\.py)?)(?:::(\w+))?`", text)
    assert named or name == "RELEASING.md"
    for path, test in named:
        assert (ROOT / path).exists(), path
        if test:
            tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
            assert test in {
                node.name for node in tree.body if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
            }


@pytest.mark.parametrize("name", PAGES)
def test_the_targets_that_a_page_names_are_there(name: str) -> None:
    """What a page tells to type can be typed."""
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    text = (ROOT / name).read_text(encoding="utf-8")
    assert set(re.findall(r"(?:^|`|\s)make ([a-z]+)(?=[ `\n])", text)) <= targets
