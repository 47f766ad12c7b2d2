"""The generator of the synchronous side: what it makes of each construct, and what it does not pass over."""

from __future__ import annotations

import importlib
import io
import keyword
import re
import subprocess
import sys
import tokenize
from pathlib import Path
from textwrap import dedent
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[2]

with pytest.MonkeyPatch.context() as patch:
    patch.syspath_prepend(str(ROOT / "tools"))
    tool = importlib.import_module("generate_sync")
    core = importlib.import_module("async_to_sync")

RENAMES = {
    "race": "race_threads",
    "aclose": "close",
    "make_async_client": "make_client",
    "asyncio.sleep": "time.sleep",
    "asyncio.Lock": "threading.Lock",
    "pymongo.asynchronous": "pymongo.synchronous",
}


def translated(source: str, used: set[str] | None = None) -> str:
    """Translate without Ruff and without the header."""
    twin = core.generate(dedent(source), name="x_async.py", used=set() if used is None else used, renames=RENAMES)
    return twin.removeprefix(core.HEADER.format(name="x_async.py"))


def tidied(source: str) -> str:
    """Translate as for a file of the package, Ruff included."""
    return tool.tidy(translated(source), ROOT / "src/mongopatterns/counters/_sync.py")


SYNTAX = [
    pytest.param("async def f(): ...\n", "def f(): ...\n", id="a coroutine function is a function"),
    pytest.param("x = await f()\n", "x = f()\n", id="an await goes"),
    pytest.param("(await x).y\n", "x.y\n", id="the parentheses of an await go before an attribute"),
    pytest.param("(await f(1))[0](2)\n", "f(1)[0](2)\n", id="they go before an index and a call"),
    pytest.param("y = (await (await f()).g()).h\n", "y = f().g().h\n", id="they go in a chain of awaits"),
    pytest.param("return_ = await f(await g())\n", "return_ = f(g())\n", id="an await goes in an argument"),
    pytest.param("def g():\n    return await f(await g())\n", "def g():\n    return f(g())\n", id="in a return"),
    pytest.param("if not (await x):\n    pass\n", "if not x:\n    pass\n", id="in a negated condition"),
    pytest.param("z = await x ** 2 + -(await y)\n", "z = x ** 2 + -y\n", id="around operators"),
    pytest.param("z = a or (await b) or c\n", "z = a or b or c\n", id="between boolean operators"),
    pytest.param("f(*(await x), **(await y))\n", "f(*x, **y)\n", id="behind stars"),
    pytest.param("z = [await f(i) for i in y]\n", "z = [f(i) for i in y]\n", id="in a comprehension"),
    pytest.param("z = lambda: g(await x)\n", "z = lambda: g(x)\n", id="in a lambda"),
    pytest.param("while (x := await f()):\n    pass\n", "while (x := f()):\n    pass\n", id="in a walrus"),
    pytest.param("z = (await (a or b)).c\n", "z = (a or b).c\n", id="parentheses inside an await stay"),
    pytest.param("z = f'{await x!r:>{await y}}'\n", "z = f'{x!r:>{y}}'\n", id="an await goes in an f-string"),
    pytest.param(
        "z = (\n    await f()\n    .g()\n)\n",
        "z = (\n    f()\n    .g()\n)\n",
        id="parentheses stay when they hold lines together",
    ),
    pytest.param(
        "z = (await f(\n    1,\n)).g\n", "z = f(\n    1,\n).g\n", id="they go when the call has its own lines"
    ),
    pytest.param(
        "z = (\n    # why\n    await f()\n)\n",
        "z = (\n    # why\n    f()\n)\n",
        id="parentheses stay when they hold a comment",
    ),
    pytest.param("z = [x async for x in y if x]\n", "z = [x for x in y if x]\n", id="an async comprehension"),
    pytest.param(
        "z = {a: b async for a in c for b in await d(a)}\n",
        "z = {a: b for a in c for b in d(a)}\n",
        id="an async comprehension with two loops",
    ),
    pytest.param(
        """\
        async def f():
            async with a() as x, (await b()) as y:
                async for z in x:
                    yield z
                else:
                    await y
        """,
        """\
        def f():
            with a() as x, b() as y:
                for z in x:
                    yield z
                else:
                    y
        """,
        id="async with and async for are with and for",
    ),
    pytest.param(
        """\
        @decorated(AsyncThing)
        async def outer():
            @wraps(f)
            async def inner(x=1):
                return await x

            return inner
        """,
        """\
        @decorated(Thing)
        def outer():
            @wraps(f)
            def inner(x=1):
                return x

            return inner
        """,
        id="decorated and nested functions",
    ),
    pytest.param(
        "f: Callable[[int], Awaitable[list[AsyncX]]] = g\n",
        "f: Callable[[int], list[X]] = g\n",
        id="the type of what is awaited is the type of what comes back",
    ),
    pytest.param("f: Coroutine[Any, Any, T | None]\n", "f: T | None\n", id="so it is with a coroutine"),
]

WORDS = [
    pytest.param("class AsyncQuota(AsyncBase): ...\n", "class Quota(Base): ...\n", id="a name loses Async"),
    pytest.param("x._AsyncState\n", "x._State\n", id="a private name loses it too"),
    pytest.param("x: AsyncIterator[AsyncX]\n", "x: Iterator[X]\n", id="types lose it"),
    pytest.param('x: "AsyncQuota | None"\n', 'x: "Quota | None"\n', id="string annotations lose it"),
    pytest.param("m.AsyncMongoClient(AsyncX=1)\n", "m.MongoClient(X=1)\n", id="attributes and keywords lose it"),
    pytest.param(
        "Asynchronous, Async, NonAsyncX, AsyncIOMotorClient\n",
        "Asynchronous, Async, NonAsyncX, AsyncIOMotorClient\n",
        id="other words that hold Async stay, and so do Motor's",
    ),
    pytest.param(
        'def f():\n    """Bind `AsyncQuota`.\n\n    AsyncQuota, see `_async.py`.\n    """\n',
        'def f():\n    """Bind `Quota`.\n\n    Quota, see `_sync.py`.\n    """\n',
        id="docstrings are renamed",
    ),
    pytest.param("# The AsyncQuota.\nx = 1  # AsyncX\n", "# The Quota.\nx = 1  # X\n", id="comments are renamed"),
    pytest.param(
        "# An AsyncQuota, an `AsyncSlots`; an AsyncIndex, an `async` one.\n",
        "# A Quota, a `Slots`; an Index, an `async` one.\n",
        id="articles are mended",
    ),
    pytest.param("x = f'AsyncX {AsyncY} AsyncZ'\n", "x = f'X {Y} Z'\n", id="f-strings are renamed"),
    pytest.param("x = 'AsyncX' rf'AsyncY'\ny = b'AsyncZ'\n", "x = 'X' rf'Y'\ny = b'Z'\n", id="so are other strings"),
    pytest.param(
        "from ._async import AsyncX as Y\nfrom .. import _driver_async\nimport a.counting_async as c\n",
        "from ._sync import X as Y\nfrom .. import _driver_sync\nimport a.counting_sync as c\n",
        id="modules that end in _async end in _sync",
    ),
    pytest.param(
        'patch("mongopatterns.counters._quota_async.AsyncQuota", _driver_async.f)\n',
        'patch("mongopatterns.counters._quota_sync.Quota", _driver_sync.f)\n',
        id="so do they in strings and expressions",
    ),
    pytest.param(
        "async def __aenter__(self): ...\nasync def __aexit__(self, *e): ...\n",
        "def __enter__(self): ...\ndef __exit__(self, *e): ...\n",
        id="the context manager protocol",
    ),
    pytest.param(
        "def __aiter__(self): ...\nasync def __anext__(self):\n    raise StopAsyncIteration\n",
        "def __iter__(self): ...\ndef __next__(self):\n    raise StopIteration\n",
        id="the iterator protocol",
    ),
    pytest.param("x = await anext(aiter(y), None)\n", "x = next(iter(y), None)\n", id="the iterator built-ins"),
]

RULES = [
    pytest.param("await x.aclose()\n", "x.close()\n", id="a plain rule renames an attribute"),
    pytest.param(
        "from m import race, embrace\nawait race(f)\n",
        "from m import race_threads, embrace\nrace_threads(f)\n",
        id="a plain rule renames whole names only",
    ),
    pytest.param("await asyncio.sleep(1)\n", "time.sleep(1)\n", id="a dotted rule renames an attribute"),
    pytest.param("x.sleep, asyncio.run\n", "x.sleep, asyncio.run\n", id="a dotted rule needs all its parts"),
    pytest.param(
        "from pymongo.asynchronous.collection import AsyncCollection\nimport pymongo.asynchronous.pool\n",
        "from pymongo.synchronous.collection import Collection\nimport pymongo.synchronous.pool\n",
        id="a dotted rule renames the beginning of a module",
    ),
    pytest.param(
        '__all__ = ["make_async_client", "race"]\nx = "pymongo.asynchronous.pool.Pool"\n',
        '__all__ = ["make_client", "race"]\nx = "pymongo.synchronous.pool.Pool"\n',
        id="a string keeps lower-case words, which may be English",
    ),
    pytest.param(
        "# A race, settled by `await race(...)` or ``race``, not `braces`.\n",
        "# A race, settled by `race_threads(...)` or ``race_threads``, not `braces`.\n",
        id="prose is renamed between backticks",
    ),
    pytest.param(
        '"""A race:\n\n```python\nasync with await race() as x:\n    ...\n```\n\nA race `x` race."""\n',
        '"""A race:\n\n```python\nwith race_threads() as x:\n    ...\n```\n\nA race `x` race."""\n',
        id="a fenced block is code",
    ),
]

IMPORTS = [
    pytest.param(
        "from collections.abc import AsyncIterator, Iterator\n\nx: AsyncIterator[int] | Iterator[int]\n",
        "from collections.abc import Iterator\n\nx: Iterator[int] | Iterator[int]\n",
        id="names that became one are imported once",
    ),
    pytest.param(
        "from a import AsyncX\nfrom a import X as Y\nfrom a import X\n\nf(AsyncX, X, Y)\n",
        "from a import X\nfrom a import X as Y\n\nf(X, X, Y)\n",
        id="statements that became one are one",
    ),
    pytest.param("from a import AsyncX as X\n\nX()\n", "from a import X\n\nX()\n", id="an alias of itself goes"),
    pytest.param("from a import X as X\n", "from a import X as X\n", id="one that was there before stays"),
    pytest.param(
        "import asyncio\nimport os\n\nawait asyncio.sleep(os.x)\n",
        "import os\nimport time\n\ntime.sleep(os.x)\n",
        id="a rule brings the module it leads to, and takes the other away",
    ),
    pytest.param(
        "import asyncio\nimport time\n\nasyncio.Lock(time.x, asyncio.y)\n",
        "import asyncio\nimport threading\nimport time\n\nthreading.Lock(time.x, asyncio.y)\n",
        id="a module that is still used stays",
    ),
    pytest.param(
        """\
        from typing import TYPE_CHECKING

        if TYPE_CHECKING:
            from collections.abc import Awaitable

        x: Awaitable[int]
        """,
        "x: int\n",
        id="what an unused import leaves behind goes too",
    ),
    pytest.param(
        "from b import AsyncA\nfrom a import Z, AsyncX\n\nf(AsyncA, Z, AsyncX)\n",
        "from a import X, Z\nfrom b import A\n\nf(A, Z, X)\n",
        id="imports are sorted by their new names",
    ),
    pytest.param('__all__ = ["AsyncQuota", "Decision"]\n', '__all__ = ["Decision", "Quota"]\n', id="so is __all__"),
    pytest.param("f(await (a or b))\n", "f(a or b)\n", id="parentheses left by an await go"),
    pytest.param("x = [y async for y in z]\n", "x = list(z)\n", id="a comprehension that only copies goes"),
    pytest.param(
        "async def f(x):\n    async for y in x:\n        yield y\n",
        "def f(x):\n    yield from x\n",
        id="a loop that only yields goes",
    ),
    pytest.param(
        "async def f(timeout):  # noqa: ARG001, ASYNC109\n    return 1\n",
        "def f(timeout):  # noqa: ARG001\n    return 1\n",
        id="a noqa of an async rule goes, another stays",
    ),
]


@pytest.mark.parametrize(("before", "after"), [*SYNTAX, *WORDS, *RULES])
def test_each_construct_has_the_synchronous_form_that_its_case_names(before: str, after: str):
    assert translated(before) == dedent(after)


@pytest.mark.parametrize(("before", "after"), IMPORTS)
def test_ruff_tidies_what_its_case_names(before: str, after: str):
    assert tidied(before) == dedent(after)


@pytest.mark.parametrize(("before", "after"), [*SYNTAX, *WORDS, *RULES])
def test_a_twin_is_its_own_twin(before: str, after: str):
    """What has been translated once has nothing left to translate."""
    del before
    assert translated(after) == dedent(after)


MODULE = '''\
"""The asynchronous `AsyncThing`, see `_async.py`."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Generic, TypeVar

from ._driver_async import unwrap

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from types import TracebackType

    from pymongo.asynchronous.collection import AsyncCollection

__all__ = ["AsyncThing", "Decision"]

T = TypeVar("T")


class Decision:
    """What was decided."""


class AsyncThing(Generic[T]):
    """Watch an `AsyncCollection`.

    Example:
        ```python
        async with AsyncThing(db.things) as thing:
            await thing.first()
        ```
    """

    def __init__(self, collection: AsyncCollection[T], call: Callable[[T], Awaitable[bool]]) -> None:
        self._collection = collection
        self._call = call

    async def __aenter__(self) -> AsyncThing[T]:
        """Open it."""
        return self

    # generate: async only
    def __await__(self) -> None:
        """Only a task awaits."""

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        with suppress(ValueError):
            await asyncio.sleep(0.001)  # let an AsyncThing breathe

    async def first(self, *, timeout: float | None = None) -> T | None:  # noqa: ASYNC109, ARG002
        """Read one."""
        return await unwrap(self._collection.find_one({}))

    async def stream(self) -> AsyncIterator[T]:
        """Read what the call agrees to."""
        async for document in self._collection.find({}):
            if await self._call(document):
                yield document

    async def all(self) -> list[T]:
        """Read everything."""
        return [document async for document in self.stream()]
'''

TWIN = '''\
# Generated from src/mongopatterns/things/_async.py by tools/generate_sync.py.
# Do not edit: change the source and run "make generate".
"""The asynchronous `Thing`, see `_sync.py`."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING, Generic, TypeVar

from ._driver_sync import unwrap

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType

    from pymongo.synchronous.collection import Collection

__all__ = ["Decision", "Thing"]

T = TypeVar("T")


class Decision:
    """What was decided."""


class Thing(Generic[T]):
    """Watch a `Collection`.

    Example:
        ```python
        with Thing(db.things) as thing:
            thing.first()
        ```
    """

    def __init__(self, collection: Collection[T], call: Callable[[T], bool]) -> None:
        self._collection = collection
        self._call = call

    def __enter__(self) -> Thing[T]:
        """Open it."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        with suppress(ValueError):
            time.sleep(0.001)  # let a Thing breathe

    def first(self, *, timeout: float | None = None) -> T | None:  # noqa: ARG002
        """Read one."""
        return unwrap(self._collection.find_one({}))

    def stream(self) -> Iterator[T]:
        """Read what the call agrees to."""
        for document in self._collection.find({}):
            if self._call(document):
                yield document

    def all(self) -> list[T]:
        """Read everything."""
        return list(self.stream())
'''


def whole_twin() -> str:
    """Translate `MODULE` as the program does."""
    name = "src/mongopatterns/things/_async.py"
    text = core.generate(MODULE, name=name, used=set(), renames=RENAMES)
    return tool.tidy(text, ROOT / "src/mongopatterns/things/_sync.py")


def test_a_whole_module_comes_out_as_somebody_would_have_written_it():
    assert whole_twin() == TWIN


def test_a_twin_compiles_and_has_no_async_token_left():
    text = whole_twin()
    compile(text, "_sync.py", "exec")
    tokens = {token.string for token in tokenize.generate_tokens(io.StringIO(text).readline)}
    assert tokens.isdisjoint({"async", "await", "asyncio"})
    assert {"async", "await"} <= set(keyword.kwlist)


def test_a_twin_begins_with_a_header_that_names_its_source():
    assert whole_twin().startswith("# Generated from src/mongopatterns/things/_async.py by tools/generate_sync.py.\n")


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        pytest.param("await asyncio.sleep(1)  # a race, and `aclose`\n", {"asyncio.sleep"}, id="not in a comment"),
        pytest.param('"""See `race`, or asyncio.Lock."""\nx = "make_async_client"\n', set(), id="not in a string"),
        pytest.param("x = f'asyncio.Lock {race()}'\n", {"race"}, id="in the code of an f-string"),
        pytest.param("import pymongo.asynchronous.pool\n", {"pymongo.asynchronous"}, id="in an import"),
    ],
)
def test_only_rules_that_matched_in_code_are_used(source: str, expected: set[str]):
    used: set[str] = set()
    translated(source, used)
    assert used == expected


@pytest.mark.parametrize(
    ("twin", "name", "line"),
    [
        pytest.param("import time\n\nasyncio.run(f)\n", "asyncio", 3, id="the module"),
        pytest.param("import asyncio as a\n", "asyncio", 1, id="its import"),
        pytest.param("from asyncio.locks import Lock\n", "asyncio", 1, id="an import from it"),
        pytest.param("x = f'{asyncio.x}'\n", "asyncio", 1, id="in an f-string"),
        pytest.param("x = (\n    y\n    .make_async_client()\n)\n", "make_async_client", 3, id="in the middle"),
        pytest.param("def async_add(): ...\n", "async_add", 1, id="at the beginning"),
        pytest.param("f(_async_=1)\n", "_async_", 1, id="a keyword"),
    ],
)
def test_a_name_of_the_asynchronous_side_is_refused_with_its_line(twin: str, name: str, line: int):
    with pytest.raises(core.GenerateError, match=f"its twin would still have '{name}' in line {line}, "):
        core.refuse_leftovers(twin)


def test_every_leftover_is_named():
    with pytest.raises(core.GenerateError, match=r"'a_async_b' in line 1, .*; 'asyncio' in line 2, 'asyncio\.x'$"):
        core.refuse_leftovers("a_async_b\nasyncio.x\n")


def test_text_and_longer_words_are_no_leftovers():
    core.refuse_leftovers(
        '"""Of `asyncio`."""\n# make_async_client\nf("asyncio", asynchronous=False)\nAsyncIOMotorClient, my_asyncs\n'
    )


class TestMarkers:
    def test_a_marked_statement_is_dropped_with_its_decorators_and_comments(self):
        assert translated(
            """\
            x = 1


            # generate: async only
            # Because only tasks are cancelled.
            @decorated
            async def f():
                # Inner.
                pass


            # About y.
            y = 2
            # The end.
            """
        ) == dedent(
            """\
            x = 1


            # About y.
            y = 2
            # The end.
            """
        )

    def test_a_body_that_loses_its_only_statement_passes(self):
        assert translated("class A:\n    # generate: async only\n    x = 1\n") == "class A:\n    pass\n"

    def test_a_marked_block_of_any_kind_is_dropped(self):
        assert (
            translated("def f():\n    # generate: async only\n    if x:\n        await y\n    z\n")
            == "def f():\n    z\n"
        )

    def test_a_rule_that_matches_in_a_dropped_statement_only_is_unused(self):
        used: set[str] = set()
        translated("x = 1\n# generate: async only\nrace()\n", used)
        assert used == set()

    @pytest.mark.parametrize(
        "source",
        [
            pytest.param("x = 1\n# generate: async-only\ny = 2\n", id="misspelt"),
            pytest.param("x = 1  # generate: async only\n", id="on the line of code"),
            pytest.param("x = 1\n# generate: async only\n", id="above nothing"),
            pytest.param("if x:\n    y\n# generate: async only\nelif z:\n    y\n", id="above a branch"),
        ],
    )
    def test_a_marker_without_effect_is_an_error(self, source: str):
        with pytest.raises(core.GenerateError, match="# generate: async"):
            translated(source)


@pytest.fixture
def tree(tmp_path: Path) -> Callable[[dict[str, str]], Path]:
    """Give a function that writes files and returns their root."""

    def write(files: dict[str, str]) -> Path:
        for name, text in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8", newline="\n")
        return tmp_path

    return write


SOURCE = "src/mongopatterns/counters/_async.py"
SIBLING = "src/mongopatterns/counters/_sync.py"
SOURCES = {
    SOURCE: "async def add():\n    await race()\n",
    "src/mongopatterns/testing/counting_async.py": "class AsyncCounting: ...\n",
    "tests/aio/__init__.py": "",
    "tests/aio/counters/test_add.py": "from x import counting_async\n\ncounting_async.AsyncCounting\n",
}
RACE = {"race": "race_threads"}


def snapshot(root: Path) -> dict[str, str]:
    """Read every file below `root`."""
    return {p.relative_to(root).as_posix(): p.read_text(encoding="utf-8") for p in root.glob("**/*.py")}


def body(text: str) -> str:
    """Cut the header off."""
    return re.sub(r"\A# Generated from .*\n# Do not edit.*\n\n?", "", text)


class TestRuns:
    """Whole runs, each in a tree of its own."""

    def test_every_source_gets_its_twin_and_the_second_run_has_nothing_to_do(self, tree, capsys):
        root = tree(SOURCES)
        assert tool.run(root, check=False, renames=RACE) == 0
        assert {name: body(text) for name, text in snapshot(root).items() if name not in SOURCES} == {
            SIBLING: "def add():\n    race_threads()\n",
            "src/mongopatterns/testing/counting_sync.py": "class Counting: ...\n",
            "tests/blocking/__init__.py": "",
            "tests/blocking/counters/test_add.py": "from x import counting_sync\n\ncounting_sync.Counting\n",
        }
        assert capsys.readouterr().out.count("wrote ") == 4
        assert tool.run(root, check=False, renames=RACE) == 0
        assert capsys.readouterr().out == "twins up to date: 4\n"
        assert tool.run(root, check=True, renames=RACE) == 0

    @pytest.mark.parametrize("check", [True, False])
    def test_a_package_without_any_source_is_suspicious(self, tree, capsys, check):
        """No rule counts as unused then: there is nothing that it could match."""
        root = tree({"src/mongopatterns/errors.py": ""})
        assert tool.run(root, check=check, renames=RACE) == 1
        assert capsys.readouterr().out == "src: nothing to generate, there is no source at all\n"

    def test_without_a_package_there_is_nothing_to_generate(self, tree, capsys):
        root = tree({"tests/plan/test_errors.py": ""})
        assert tool.run(root, check=True, renames=RACE) == 0
        assert capsys.readouterr().out == "nothing to generate\n"

    @pytest.mark.parametrize("check", [True, False])
    @pytest.mark.parametrize(
        ("stray", "source"),
        [
            ("tests/blocking/test_extra.py", "tests/aio/test_extra.py"),
            ("tests/blocking/deep/er/helper_sync.py", "tests/aio/deep/er/helper_sync.py"),
            ("src/mongopatterns/counters/_extra_sync.py", "src/mongopatterns/counters/_extra_async.py"),
            ("src/mongopatterns/locks/_sync.py", "src/mongopatterns/locks/_async.py"),
            ("src/mongopatterns/_driver_sync.py", "src/mongopatterns/_driver_async.py"),
        ],
    )
    def test_what_looks_like_a_twin_and_has_no_source_is_named_and_stays(self, tree, capsys, check, stray, source):
        """The last one is half of a declared pair."""
        root = tree(SOURCES)
        tool.run(root, check=False, renames=RACE)
        tree({stray: "x = 1\n"})
        capsys.readouterr()
        assert tool.run(root, check=check, renames=RACE) == 1
        assert capsys.readouterr().out == f"{stray}: it has no source; write {source}, or remove it\n"
        assert (root / stray).read_text() == "x = 1\n"

    @pytest.mark.parametrize("removed", ["src/mongopatterns/counters/_async.py", "tests/aio/counters/test_add.py"])
    def test_a_twin_whose_source_and_header_are_gone_is_named(self, tree, capsys, removed):
        root = tree(SOURCES)
        tool.run(root, check=False, renames=RACE)
        (root / removed).unlink()
        twin = removed.replace("_async", "_sync").replace("/aio/", "/blocking/")
        tree({twin: (root / twin).read_text().replace("# Generated", "# generated")})
        capsys.readouterr()
        assert tool.run(root, check=True, renames={}) == 1
        assert f"{twin}: it has no source; write {removed}" in capsys.readouterr().out

    def test_a_name_of_the_asynchronous_side_fails_the_run_and_nothing_is_written(self, tree, capsys):
        root = tree({SOURCE: "import asyncio\n\n\nasync def f():\n    await asyncio.gather()\n"})
        for check in (True, False):
            assert tool.run(root, check=check, renames={}) == 1
            output = capsys.readouterr().out
            assert output.startswith(f"{SOURCE}: its twin would still have 'asyncio' in line ")
            assert "'asyncio.gather()'" in output
        assert not (root / SIBLING).exists()

    def test_an_import_that_goes_with_its_use_is_no_leftover(self, tree):
        root = tree({SOURCE: "import asyncio\n\nawait asyncio.sleep(1)\n"})
        assert tool.run(root, check=False, renames={"asyncio.sleep": "time.sleep"}) == 0

    def test_a_twin_edited_by_hand_is_named_with_the_difference_and_then_mended(self, tree, capsys):
        root = tree(SOURCES)
        tool.run(root, check=False, renames=RACE)
        good = snapshot(root)
        tree({SIBLING: good[SIBLING].replace("race_threads()", "pass")})
        capsys.readouterr()
        assert tool.run(root, check=True, renames=RACE) == 1
        output = capsys.readouterr().out
        assert output.startswith(f"{SIBLING}: differs")
        assert "    -    pass\n    +    race_threads()\n" in output
        assert tool.run(root, check=False, renames=RACE) == 0
        assert snapshot(root) == good

    def test_one_differing_byte_is_enough(self, tree):
        """A carriage return, which text mode would hide."""
        root = tree(SOURCES)
        tool.run(root, check=False, renames=RACE)
        (root / SIBLING).write_bytes((root / SIBLING).read_bytes().replace(b"\n", b"\r\n"))
        assert tool.run(root, check=True, renames=RACE) == 1

    def test_a_long_difference_is_cut(self, tree, capsys):
        root = tree({SOURCE: "\n".join(f"x{i} = await race({i})" for i in range(99)) + "\n"})
        tool.run(root, check=False, renames=RACE)
        tree({SIBLING: (root / SIBLING).read_text().replace("race_threads", "race")})
        capsys.readouterr()
        assert tool.run(root, check=True, renames=RACE) == 1
        assert len(capsys.readouterr().out.splitlines()) == 1 + tool.LINES_OF_DIFF

    def test_check_names_a_missing_twin_and_writes_nothing(self, tree, capsys):
        root = tree(SOURCES)
        assert tool.run(root, check=True, renames=RACE) == 1
        assert f"{SIBLING}: missing\n" in capsys.readouterr().out
        assert snapshot(root) == SOURCES

    def test_a_twin_whose_source_is_gone_is_an_orphan_and_then_removed(self, tree, capsys):
        root = tree(SOURCES)
        tool.run(root, check=False, renames=RACE)
        (root / "tests/aio/counters/test_add.py").unlink()
        capsys.readouterr()
        assert tool.run(root, check=True, renames=RACE) == 1
        assert capsys.readouterr().out.startswith("tests/blocking/counters/test_add.py: orphan")
        assert tool.run(root, check=False, renames=RACE) == 0
        assert capsys.readouterr().out.startswith("removed tests/blocking/counters/test_add.py\n")
        assert not (root / "tests/blocking/counters/test_add.py").exists()

    def test_files_without_the_header_are_neither_orphans_nor_written_over(self, tree, capsys):
        root = tree({**SOURCES, SIBLING: "# Mine.\n", "tests/blocking/test_threads.py": "# Mine too.\n"})
        assert tool.run(root, check=False, renames=RACE) == 1
        output = capsys.readouterr().out
        assert f"{SIBLING}: it is in the way, not generated" in output
        assert "tests/blocking/test_threads.py: it has no source" in output
        assert (root / SIBLING).read_text() == "# Mine.\n"
        assert (root / "tests/blocking/test_threads.py").exists()

    @pytest.mark.parametrize("check", [True, False])
    def test_a_rule_that_matches_nothing_fails_the_run(self, tree, capsys, check):
        root = tree(SOURCES)
        tool.run(root, check=False, renames=RACE)
        assert tool.run(root, check=check, renames={**RACE, "aclose": "close"}) == 1
        assert capsys.readouterr().out.endswith("RENAMES: unused rule 'aclose'\n")

    @pytest.mark.parametrize("text", ["# See `aclose`.\n", '"""See `aclose`."""\n', 'x = "`aclose`"\n'])
    def test_a_rule_that_matches_in_text_only_fails_the_run(self, tree, capsys, text):
        root = tree({SOURCE: text})
        tool.run(root, check=False, renames={})
        assert tool.run(root, check=False, renames={"aclose": "close"}) == 1
        assert capsys.readouterr().out.endswith("RENAMES: unused rule 'aclose'\n")

    def test_more_than_fifteen_rules_are_refused(self, tree, capsys):
        rules = {f"name{i}": f"other{i}" for i in range(15)}
        root = tree({SOURCE: "".join(f"name{i}\n" for i in range(16))})
        assert tool.run(root, check=False, renames=rules) == 0
        assert tool.run(root, check=False, renames={**rules, "name15": "other15"}) == 1
        assert "RENAMES: 16 rules are more than 15" in capsys.readouterr().out

    @pytest.mark.parametrize("check", [True, False])
    @pytest.mark.parametrize("part", ["_driver", "_group", "_worker"])
    def test_a_hand_written_pair_is_left_alone_and_has_to_be_complete(self, tree, capsys, part, check):
        source, twin = (f"src/mongopatterns/{part}{side}.py" for side in ("_async", "_sync"))
        root = tree({source: "async def f(): ...\n"})
        assert tool.run(root, check=check, renames={}) == 1
        assert f"{twin}: missing, and it is written by hand" in capsys.readouterr().out
        tree({twin: "def f(): ...  # by hand\n"})
        assert tool.run(root, check=check, renames={}) == 0
        assert (root / twin).read_text() == "def f(): ...  # by hand\n"

    @pytest.mark.parametrize("side", ["_async", "_sync"])
    @pytest.mark.parametrize(
        ("text", "finding"),
        [
            pytest.param("", "holds no code", id="empty"),
            pytest.param(
                '"""Doc."""\n# Why.\n\nfrom __future__ import annotations\n\npass\n', "holds no code", id="text"
            ),
            pytest.param("def f(:\n", "does not parse", id="broken"),
            pytest.param("x = 1\0\n", "does not parse", id="binary"),
        ],
    )
    def test_both_sides_of_a_hand_written_pair_hold_code(self, tree, capsys, side, text, finding):
        pair = {f"src/mongopatterns/_driver{side}.py": "x = 1\n" for side in ("_async", "_sync")}
        name = f"src/mongopatterns/_driver{side}.py"
        root = tree({**pair, name: text})
        assert tool.run(root, check=True, renames={}) == 1
        assert f"{name}: it is written by hand, and {finding}" in capsys.readouterr().out
        assert (root / name).read_text() == text

    def test_such_a_name_elsewhere_is_an_ordinary_source(self, tree):
        root = tree({"src/mongopatterns/buffer/_worker_async.py": "x = 1\n"})
        assert tool.run(root, check=False, renames={}) == 0
        assert (root / "src/mongopatterns/buffer/_worker_sync.py").exists()

    def test_a_marked_source_has_a_hand_written_twin(self, tree, capsys):
        root = tree({"tests/aio/conftest.py": '"""Doc."""\n\n# generate: hand-written twin\nx = 1\n'})
        assert tool.run(root, check=False, renames={}) == 1
        assert "tests/blocking/conftest.py: missing, and it is written by hand" in capsys.readouterr().out
        tree({"tests/blocking/conftest.py": "x = 2\n"})
        assert tool.run(root, check=False, renames={}) == 0
        assert (root / "tests/blocking/conftest.py").read_text() == "x = 2\n"

    def test_the_pair_of_a_marked_source_has_to_stay_complete(self, tree, capsys):
        source, twin = "tests/aio/conftest.py", "tests/blocking/conftest.py"
        root = tree({**SOURCES, source: "# generate: hand-written twin\nx = 1\n", twin: "x = 2\n"})
        assert tool.run(root, check=False, renames=RACE) == 0
        tree({twin: "# Nothing.\n"})
        capsys.readouterr()
        assert tool.run(root, check=True, renames=RACE) == 1
        assert f"{twin}: it is written by hand, and holds no code (its source is {source})" in capsys.readouterr().out
        tree({twin: "x = 2\n"})
        (root / source).unlink()
        assert tool.run(root, check=True, renames=RACE) == 1
        assert capsys.readouterr().out == f"{twin}: it has no source; write {source}, or remove it\n"

    @pytest.mark.parametrize(
        "text",
        [
            pytest.param('"""Doc.\n\n# generate: hand-written twin\n"""\nx = 1\n', id="in a docstring"),
            pytest.param("x = '''\n# generate: hand-written twin\n'''\n", id="in a string"),
            pytest.param("def f():\n    # generate: hand-written twin\n    x\n", id="indented"),
            pytest.param("x = 1  # generate: hand-written twin\n", id="on the line of code"),
        ],
    )
    def test_a_marker_counts_only_as_a_comment_on_a_line_of_its_own(self, tree, capsys, text):
        root = tree({"tests/aio/conftest.py": text, "tests/blocking/conftest.py": "x = 2\n"})
        assert tool.run(root, check=True, renames={}) == 1
        assert "/conftest.py: " in capsys.readouterr().out

    def test_a_generated_file_does_not_pass_for_a_hand_written_twin(self, tree, capsys):
        """Nor is it removed: somebody may have begun to change it."""
        root = tree({"tests/aio/conftest.py": "x = 1\n"})
        tool.run(root, check=False, renames={})
        tree({"tests/aio/conftest.py": "# generate: hand-written twin\nx = 1\n"})
        assert tool.run(root, check=False, renames={}) == 1
        assert "tests/blocking/conftest.py: it is said to be written by hand" in capsys.readouterr().out
        assert (root / "tests/blocking/conftest.py").exists()

    @pytest.mark.parametrize("text", ["async def f(:\n", "x = 1\n# generate: nonsense\n"])
    def test_a_source_that_cannot_be_translated_is_named_and_its_twin_stays(self, tree, capsys, text):
        root = tree({SOURCE: "x = 1\n"})
        tool.run(root, check=False, renames={})
        tree({SOURCE: text})
        assert tool.run(root, check=False, renames={}) == 1
        assert f"{SOURCE}: " in capsys.readouterr().out
        assert body((root / SIBLING).read_text()) == "x = 1\n"

    def test_all_problems_are_reported_in_one_run(self, tree, capsys):
        root = tree({**SOURCES, "tests/aio/test_gone.py": "", "src/mongopatterns/_group_async.py": ""})
        tool.run(root, check=False, renames=RACE)
        (root / SIBLING).unlink()
        (root / "tests/aio/test_gone.py").unlink()
        counting = root / "src/mongopatterns/testing/counting_sync.py"
        counting.write_text(counting.read_text() + "x = 1\n")
        tree({"src/mongopatterns/broken_async.py": "x = (\n"})
        before = snapshot(root)
        capsys.readouterr()
        assert tool.run(root, check=True, renames={**RACE, "aclose": "close"}) == 1
        output = capsys.readouterr().out
        for problem in (
            f"{SIBLING}: missing\n",
            "src/mongopatterns/testing/counting_sync.py: differs",
            "tests/blocking/test_gone.py: orphan",
            "src/mongopatterns/_group_sync.py: missing, and it is written by hand",
            "src/mongopatterns/broken_async.py: ",
            "RENAMES: unused rule 'aclose'",
        ):
            assert problem in output
        assert snapshot(root) == before


def test_it_runs_as_a_program():
    command = [sys.executable, ROOT / "tools/generate_sync.py", "--help"]
    assert "--check" in subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_the_table_of_exceptions_is_short_and_none_of_its_rules_leads_to_another():
    assert len(core.RENAMES) <= core.MOST_RENAMES
    assert set(core.RENAMES).isdisjoint(core.RENAMES.values())
