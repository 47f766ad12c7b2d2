"""What can be imported from where."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import mongopatterns

PACKAGES = [
    "mongopatterns",
    "mongopatterns.buffer",
    "mongopatterns.cli",
    "mongopatterns.client",
    "mongopatterns.counters",
    "mongopatterns.documents",
    "mongopatterns.joins",
    "mongopatterns.membership",
    "mongopatterns.testing",
]
# Methods that are plain in both worlds: they ask nothing of the server.
WITHOUT_THE_SERVER = {"clear", "explain", "indexes", "scope", "settle"}


@pytest.mark.parametrize("name", PACKAGES)
def test_all_is_sorted_complete_and_importable(name: str) -> None:
    """__all__ is sorted, holds each name once, and every name in it exists."""
    module = importlib.import_module(name)
    names = module.__all__
    assert names == sorted(set(names))
    assert all(getattr(module, each) is not None for each in names)


def test_the_top_level_is_re_exports_and_nothing_else() -> None:
    """The stub of the top level holds named imports and __all__, which are the names that there are."""
    tree = ast.parse(Path(mongopatterns.__file__).with_suffix(".pyi").read_text())
    assert {type(node) for node in tree.body} == {ast.ImportFrom, ast.Assign}
    imported = [alias.name for node in tree.body if isinstance(node, ast.ImportFrom) for alias in node.names]
    (listed,) = (ast.literal_eval(node.value) for node in tree.body if isinstance(node, ast.Assign))
    assert sorted(imported) == listed == sorted(mongopatterns.__all__)
    assert set(listed) <= set(dir(mongopatterns))
    with pytest.raises(AttributeError):
        _ = mongopatterns.AsyncQouta  # type: ignore[attr-defined]


def test_every_asynchronous_name_has_its_twin() -> None:
    """AsyncX and X are exported together, with the same methods and the same parameters."""
    for name in mongopatterns.__all__:
        if not name.startswith("Async"):
            continue
        one, twin = getattr(mongopatterns, name), getattr(mongopatterns, name.removeprefix("Async"))
        assert [n for n in vars(one) if not n.startswith("_")] == [n for n in vars(twin) if not n.startswith("_")]
        for method in (n for n in vars(one) if not n.startswith("_") and callable(getattr(one, n))):
            theirs = [inspect.signature(getattr(cls, method)).parameters for cls in (one, twin)]
            assert list(theirs[0]) == list(theirs[1])
            waits = inspect.iscoroutinefunction(getattr(one, method)) or inspect.isasyncgenfunction(
                getattr(one, method)
            )
            assert waits or method in WITHOUT_THE_SERVER
            assert not inspect.iscoroutinefunction(getattr(twin, method))


def test_patterns_export_at_the_top() -> None:
    """What a pattern's folder exports can be imported from the top level."""
    for module in pkgutil.iter_modules(mongopatterns.__path__):
        if module.ispkg and module.name not in ("testing", "cli"):
            names = importlib.import_module(f"mongopatterns.{module.name}").__all__
            assert set(names) <= set(mongopatterns.__all__)


def test_importing_the_package_stays_light() -> None:
    """`import mongopatterns` loads no optional dependency, no test tool and no command line."""
    code = "import mongopatterns, sys; print(*sorted(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    heavy = {"motor", "typer", "rich", "pytest", "mongopatterns.cli", "mongopatterns.testing"}
    assert heavy.isdisjoint(loaded)


def test_a_name_loads_its_own_pattern_only() -> None:
    """Whoever imports a counter does not wait for documents and membership."""
    code = "from mongopatterns import Counter; import sys; print(*sorted(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "mongopatterns.counters" in loaded
    assert {"mongopatterns.documents", "mongopatterns.membership"}.isdisjoint(loaded)


def test_the_package_is_marked_as_typed() -> None:
    """py.typed is there, so that type checkers read our annotations."""
    assert Path(mongopatterns.__file__).with_name("py.typed").exists()
