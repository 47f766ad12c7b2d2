"""The house's own rules, read from the source: what is pure stays pure, what is thin stays thin."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

import mongopatterns

ROOT = Path(mongopatterns.__file__).parent
PURE = [
    "_grouping",
    "amounts",
    "calls",
    "commands",
    "conditions",
    "errors",
    "expressions",
    "fields",
    "filters",
    "findings",
    "histograms",
    "holders",
    "indexes",
    "input_types",
    "models",
    "order",
    "paths",
    "shapes",
    "specs",
    "verdicts",
    "windows",
]
# Of a pattern's folder everything but the shells is pure.
PATTERNS = ["buffer", "client", "counters", "documents", "joins", "membership", "paging", "reports", "schema"]
# What the driver calls, from whatever thread: a lock, and a plan behind it. They are the same in both worlds.
LISTENERS = ("_callback.py", "_pool_monitor.py", "_slow_queries.py", "_turns.py")
PURE_FILES = [ROOT / f"{name}.py" for name in PURE] + [
    path
    for pattern in PATTERNS
    for path in sorted((ROOT / pattern).glob("_*.py"))
    if not path.name.endswith(("__init__.py", "_async.py", "_sync.py", *LISTENERS))
]
# Modules of error classes and of operations are pure data, which a pure function must be able to name.
ALLOWED = {"bson", "typing_extensions", "pymongo.errors", "pymongo.operations", "asyncio.exceptions"}
# Pydantic says what a model is; it is imported where a model is given.
ALLOWED |= {"pydantic", "pydantic_core"}
ALLOWED |= {f"mongopatterns.{'.'.join(path.relative_to(ROOT).with_suffix('').parts)}" for path in PURE_FILES}
IMPURE_MODULES = {"asyncio", "logging", "os", "random", "secrets", "socket", "subprocess", "threading", "time"}
IMPURE_CALLS = {"now", "utcnow", "today", "time", "monotonic", "perf_counter", "random", "open", "print", "urandom"}
IMPURE_CALLS |= {"uuid1", "uuid4"}


def imported(tree: ast.AST) -> set[str]:
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            names.add(node.module or "")
    return names


def offences(source: str) -> list[str]:
    """List what makes a module impure."""
    tree = ast.parse(source)
    found = []
    for name in sorted(imported(tree)):
        top = name.split(".")[0]
        standard = top in sys.stdlib_module_names and top not in IMPURE_MODULES
        if not (standard or name in ALLOWED or top == "bson"):
            found.append(f"imports {name}")
    for node in ast.walk(tree):
        if isinstance(node, (ast.AsyncFunctionDef, ast.Await, ast.AsyncFor, ast.AsyncWith)):
            found.append(f"line {node.lineno}: asynchronous")
        if isinstance(node, ast.Call):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called in IMPURE_CALLS or (called == "ObjectId" and not node.args):
                found.append(f"line {node.lineno}: calls {called}()")
    return found


def test_there_are_plans() -> None:
    """The list of pure files is not empty by accident."""
    assert len(PURE_FILES) > len(PURE)
    assert all(path.exists() for path in PURE_FILES)


@pytest.mark.parametrize("path", PURE_FILES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_pure_files_are_pure(path: Path) -> None:
    """A plan imports the standard library, bson and pure modules; no async, clock, randomness or client."""
    assert offences(path.read_text()) == []


@pytest.mark.parametrize(
    "source",
    [
        "import pymongo",
        "from pymongo import MongoClient",
        "import time",
        "import motor",
        "from mongopatterns.typing import Durability",
        "async def f(): ...",
        "import datetime\ndatetime.datetime.now()",
        "from bson import ObjectId\nObjectId()",
        "print(1)",
        "from uuid import uuid4\nuuid4()",
    ],
)
def test_the_purity_test_can_fail(source: str) -> None:
    """Each kind of impurity is found."""
    assert offences(source)


def test_nothing_but_the_demo_imports_motor() -> None:
    """src/ never imports Motor; the demo may, when it is asked to run on it."""
    users = [
        path
        for path in ROOT.rglob("*.py")
        if any(n.split(".")[0] == "motor" for n in imported(ast.parse(path.read_text())))
    ]
    assert [path for path in users if path.parent.name != "cli"] == []


@pytest.mark.parametrize(
    "path",
    sorted(path for pattern in PATTERNS for path in (ROOT / pattern).glob("_*_async.py")),
    ids=lambda path: path.name,
)
def test_shells_are_thin(path: Path) -> None:
    """A shell is short, and a tenth of its statements wait for the driver: thinking belongs in the plan."""
    source = path.read_text()
    if "# generate: hand-written twin" in source:
        return
    assert len(source.splitlines()) <= 400
    tree = ast.parse(source)
    statements = sum(isinstance(node, ast.stmt) for node in ast.walk(tree))
    waits = sum(
        isinstance(node, (ast.Await, ast.AsyncFunctionDef, ast.AsyncWith, ast.AsyncFor)) for node in ast.walk(tree)
    )
    # Whether calls travel together is the one question of the first, which waits for neither; what a full buffer, a
    # spool and a failure ask for is that of the second.
    if path.name not in ("_combining_async.py", "_intake_async.py"):
        if path.name != "_factory_async.py":  # a client is made without a word to the server
            assert waits >= statements / 10
        decisions = [node for node in ast.walk(tree) if isinstance(node, (ast.If, ast.For, ast.While))]
        assert [ast.unparse(node) for node in decisions if not is_sending(node)] == [], "a decision in a shell"


def is_sending(node: ast.stmt) -> bool:
    """Tell whether a statement does what shells are for: it asks the plan for one more command, reads, or gives."""
    if isinstance(node, (ast.If, ast.While)) and isinstance(node.test, ast.NamedExpr):
        value = node.test.value
        again = isinstance(value, ast.Call) and ast.unparse(value.func) == "self._plan.again"
        return again or (isinstance(node, ast.While) and isinstance(value, ast.Await))
    gives = isinstance(node, ast.For) and [type(line) for line in node.body] == [ast.Expr]
    return gives and isinstance(node.body[0].value, ast.Yield)  # type: ignore[attr-defined]
