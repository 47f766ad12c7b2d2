"""Every block of Python in the README, the docs and the docstrings is executed against the real server.

One page is one test, so that its blocks run in their order and share their names, as they do for a reader who
types them. What a page may use, and what it means here:

* `await` at the top level: the blocks of a page run on one event loop, as in `python -m asyncio`.
* `mongodb://localhost:27017` is the test server, and the database `["app"]`, or `database="app"`, is one of the page's
  own. What is printed is read the other way round.
* A block in a tab shares the page's names. The first tab of a page is its main line; every other tab has its
  own database, and its own version of the names that it sets.
* A block with a title, such as `title="test_quota.py"`, is a file. It is written to the page's project and run
  there: a test by pytest, a script as a script, and a module is imported. A script that serves is left to run until the
  page ends, at a free port in the place of `8000`.
* A block of `text` with the title `Output` is what the block before it printed; `...` stands for anything.
* `<!-- not executed: reason -->` on the line before a block exempts it.
"""

from __future__ import annotations
import __future__

import ast
import asyncio
import contextlib
import datetime as dt
import doctest
import inspect
import io
import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from motor.motor_asyncio import AsyncIOMotorClient
from pymongo import AsyncMongoClient, MongoClient
from sybil import Document, Example, Region
from sybil.parsers.markdown.lexers import FencedCodeBlockLexer

from mongopatterns.testing import EmbeddedMongo

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
SOURCES = sorted((ROOT / "src").rglob("*.py"))

SERVER = "mongodb://localhost:27017"
DATABASES = ('["app"]', 'database="app"')
PORT = "8000"
# How many blocks a reader may find that nobody executes.
MOST_EXEMPT = 3

# An independent look at the same text: it finds what the parser might miss.
PYTHON_FENCE = re.compile(
    r"^[ \t>]*(?:[-*+]|\d+[.)])?[ \t]*(?:`{3,}|~{3,})[ \t]*\{?[ \t]*\.?(?:py|python)", re.MULTILINE | re.IGNORECASE
)
EXEMPTION = re.compile(r"<!-- not executed: (?P<reason>.*?) -->\s*\Z")
TAB = re.compile(r'[ \t]*===[!+]? "(?P<label>[^"]+)"')
SPELLINGS = dict.fromkeys(("py", "py3", "python3"), "python")
TITLE = re.compile(r'title="(?P<title>[^"]+)"')


@dataclass(frozen=True)
class Block:
    """One fenced block of a page."""

    language: str
    title: str | None
    tab: str | None
    exempt: str | None
    source: str

    @property
    def is_file(self) -> bool:
        return self.title is not None and "." in self.title

    @property
    def is_output(self) -> bool:
        return self.language == "text" and self.title == "Output"


def blocks_of(document: Document) -> Iterable[Region]:
    """Find every fenced block, indented ones too (a parser of Sybil)."""
    for region in FencedCodeBlockLexer(r"[^\n]+")(document):
        info = region.lexemes["language"].strip()
        language = re.split(r"[^\w.-]", info.lstrip("{ ."), maxsplit=1)[0].lower()
        title = TITLE.search(info)
        before = document.text[: region.start]
        exemption = EXEMPTION.search(before)
        region.parsed = Block(
            language=SPELLINGS.get(language, language),
            title=title and title["title"],
            tab=_tab(before, region, document),
            exempt=exemption and exemption["reason"],
            source=str(region.lexemes["source"]),
        )
        yield region


def _tab(before: str, region: Region, document: Document) -> str | None:
    """Find the tab that an indented block stands in."""
    first_line = document.text[region.start :].splitlines()[0]
    indent = len(first_line) - len(first_line.lstrip())
    for line in reversed(before.splitlines()):
        own = len(line) - len(line.lstrip())
        if indent == 0:
            return None
        if line.strip() and own < indent:
            if found := TAB.match(line):
                return found["label"]
            indent = own
    return None


def parsed(text: str, path: Path) -> Document:
    """Parse the text of a page or of a docstring."""
    document = Document(text, str(path))
    for region in blocks_of(document):
        document.add(region)
    return document


class Run:
    """The run of one page: its loop, its names, its databases and its project."""

    def __init__(self, uri: str, project: Path) -> None:
        self.executed = 0
        self._flags: int = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
        self._uri = uri
        self._project = project
        self._run = secrets.token_hex(6)
        self._names: dict[str | None, dict[str, Any]] = {None: {"__name__": "page"}}
        self._tabs: list[str] = []
        self._clients: dict[int, Any] = {}
        self._printed: str | None = None
        self._served: list[subprocess.Popen[bytes]] = []
        self._port = PORT
        self._loop = asyncio.new_event_loop()

    def databases(self) -> list[str]:
        return [f"docs_{self._run}_{number}" for number in range(len(self._tabs) + 1)]

    def close(self) -> None:
        """Close what the page left open: readers see no clean-up in every block."""
        for server in self._served:
            server.terminate()
            assert server.wait(timeout=30) in (0, -signal.SIGTERM), "the server did not end in order"
        for client in self._clients.values():
            closing = client.close()
            if inspect.isawaitable(closing):
                self._loop.run_until_complete(_wait_for(closing))
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.run_until_complete(self._loop.shutdown_default_executor())
        self._loop.close()

    def evaluate(self, example: Example) -> None:
        """Execute one block (an evaluator of Sybil)."""
        block: Block = example.parsed
        if block.exempt:
            return
        if block.is_output:
            self._compare(block)
        elif block.is_file:
            self._run_file(block)
        elif block.language == "python":
            self._execute(block, example.path, example.line)
        self.executed += block.language == "python"

    def _execute(self, block: Block, path: str, line: int) -> None:
        names = self._names_of(block.tab)
        # The lines before the block are added, so that a traceback names the line of the page.
        source = "\n" * line + self._localized(block)
        code = compile(source, path, "exec", flags=self._flags, dont_inherit=True)
        printed = io.StringIO()
        try:
            with contextlib.redirect_stdout(printed):
                if code.co_flags & inspect.CO_COROUTINE:
                    self._loop.run_until_complete(eval(code, names))  # as python -m asyncio does
                else:
                    exec(code, names)
        finally:
            self._printed = printed.getvalue()
            kinds = (MongoClient, AsyncMongoClient, AsyncIOMotorClient)
            self._clients |= {id(value): value for value in names.values() if isinstance(value, kinds)}

    def prepare(self, source: str) -> None:
        """Execute what the reader of a docstring has around its example; its annotations are not evaluated."""
        self._flags |= __future__.annotations.compiler_flag
        self._execute(Block("python", None, None, None, source), "<before>", 0)

    def _names_of(self, tab: str | None) -> dict[str, Any]:
        """Return the names that a block sees: a tab other than the main one keeps what it sets to itself."""
        main = self._names[None]
        if not self._place(tab):
            return main
        own = self._names.setdefault(tab, _Inheriting(main))
        own.inherit()
        return own

    def _place(self, tab: str | None) -> int:
        """Number the tabs of a page; the first one is its main line."""
        if tab is None:
            return 0
        if tab not in self._tabs:
            self._tabs.append(tab)
        return self._tabs.index(tab)

    def _localized(self, block: Block) -> str:
        source = block.source.replace(SERVER, self._uri).replace(PORT, self._port)
        for database in DATABASES:
            source = source.replace(database, database.replace("app", f"docs_{self._run}_{self._place(block.tab)}"))
        return source

    def _run_file(self, block: Block) -> None:
        file = self._project / str(block.title)
        file.parent.mkdir(parents=True, exist_ok=True)
        is_server = "uvicorn.run(" in block.source
        if is_server:
            self._port = _free_port()
        file.write_text(self._localized(block))
        if file.suffix != ".py":
            return
        if file.name.startswith("test_"):
            how = ["-m", "pytest", "-q", "-p", "no:randomly", "-p", "no:cacheprovider", file.name]
        elif "__main__" in block.source:
            how = ["-W", "error", file.name]
        else:
            how = ["-W", "error", "-c", f"import {file.stem}"]
        environment = {**os.environ, "MONGOPATTERNS_TEST_URI": self._uri}
        command = [sys.executable, *how]
        if is_server:
            self._serve(subprocess.Popen(command, cwd=file.parent, env=environment))
            return
        done = subprocess.run(
            command, cwd=file.parent, env=environment, capture_output=True, text=True, check=False, timeout=120
        )
        assert done.returncode == 0, f"{block.title} failed:\n{done.stdout}{done.stderr}"
        self._printed = done.stdout

    def _serve(self, server: subprocess.Popen[bytes]) -> None:
        """Wait until a server of the page takes connections; it runs until the page ends."""
        self._served.append(server)
        until = time.monotonic() + 60
        while True:
            assert server.poll() is None, "the server has ended"
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", int(self._port))):
                return
            assert time.monotonic() < until, "the server takes no connections"
            time.sleep(0.05)

    def _compare(self, block: Block) -> None:
        assert self._printed is not None, "no block before this one printed anything"
        options = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
        printed = re.sub("|".join(self.databases()), "app", self._printed.replace(self._uri, SERVER))
        same = doctest.OutputChecker().check_output(block.source.strip(), printed.strip(), options)
        assert same, f"the page says\n{block.source}\nand the block printed\n{printed}"


class _Inheriting(dict[str, Any]):
    """The names of a tab: those of the main line, with the tab's own in their place."""

    def __init__(self, main: dict[str, Any]) -> None:
        super().__init__()
        self._main = main
        self._taken: dict[str, Any] = {}

    def inherit(self) -> None:
        """Take over what the main line has set since, where the tab has not set it itself."""
        for name, value in self._main.items():
            if name not in self or self[name] is self._taken.get(name):
                self[name] = self._taken[name] = value


def _free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


async def _wait_for(something: Any) -> Any:
    return await something


@pytest.fixture
def within_one_hour() -> None:
    """Wait for the next hour if this one ends soon: an example that shows what an hour has left stays true."""
    now = dt.datetime.now(dt.timezone.utc)
    left = 3600 - (now.minute * 60 + now.second)
    if left < 60:  # a page takes half of that on a busy machine
        time.sleep(left + 1)


@pytest.fixture
def page_run(
    within_one_hour: None,
    mongopatterns_server: EmbeddedMongo,
    mongopatterns_client: MongoClient[dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> Iterator[Run]:
    """Provide the run of one page, and check that it left nothing in other databases."""
    # A page that starts an EmbeddedMongo wants one with members to kill.
    monkeypatch.delenv("MONGOPATTERNS_TEST_URI", raising=False)
    before = set(mongopatterns_client.list_database_names())
    run = Run(mongopatterns_server.uri, tmp_path)
    try:
        yield run
    finally:
        run.close()
        for name in run.databases():
            mongopatterns_client.drop_database(name)
    assert set(mongopatterns_client.list_database_names()) <= before, "a page writes to a database other than app"


def execute(document: Document, run: Run) -> None:
    """Execute the blocks of a document in their order; a failure names the line of the page."""
    for _, region in document.regions:
        region.evaluator = run.evaluate
    for example in document.examples():
        try:
            example.evaluate()
        except Exception as error:  # each block is a step of its own
            frames = inspect.getinnerframes(error.__traceback__) if error.__traceback__ else []
            lines = [frame.lineno for frame in frames if frame.filename == example.path]
            where = f"{Path(example.path).relative_to(ROOT)}:{lines[-1] if lines else example.line}"
            raise AssertionError(f"{where}: {type(error).__name__}: {error}") from error


def read(page: Path) -> Document:
    return parsed(page.read_text(encoding="utf-8"), page)


def _name(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_the_blocks_of_a_page_run(page: Path, page_run: Run) -> None:
    """What a page shows is what happens: every block runs, and prints what the page says that it prints."""
    document = read(page)
    execute(document, page_run)
    wanted = [region for _, region in document.regions if region.parsed.language == "python"]
    assert page_run.executed == sum(1 for region in wanted if not region.parsed.exempt)


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_no_block_of_python_is_missed(page: Path) -> None:
    """The parser picks up every block that a reader takes for Python, in tabs and lists too."""
    text = page.read_text(encoding="utf-8")
    languages = [region.parsed.language for _, region in parsed(text, page).regions]
    assert languages.count("python") == len(PYTHON_FENCE.findall(text))
    assert len(languages) * 2 == len(re.findall(r"^[ \t>]*(?:`{3,}|~{3,})", text, re.MULTILINE)), (
        "every fence has a language"
    )
    assert ">>>" not in text, "write an assertion or a block of output: nobody checks a session"


def test_few_blocks_are_exempt_each_with_a_reason() -> None:
    """A block that is not executed says why, and there are few of them."""
    regions = [(page, region.parsed) for page in PAGES for _, region in read(page).regions]
    exempt = [(page, block) for page, block in regions if block.exempt is not None]
    assert len(exempt) <= MOST_EXEMPT
    for page, block in exempt:
        assert len(block.exempt.split()) >= 4, f"{page}: {block.exempt!r} is no reason"
        assert block.language == "python", f"{page}: only Python is executed, so only Python is exempt"
    comments = sum(page.read_text(encoding="utf-8").count("not executed:") for page in PAGES)
    assert comments == len(exempt), "an exemption stands directly before its block"


# Docstrings --------------------------------------------------------------------------------------------------

# What the reader of a docstring has around its example.
BEFORE = {
    "mongopatterns.cli.scenarios": "from mongopatterns.cli._stage_async import AsyncScenario",
    "mongopatterns.testing._guard.n_plus_one_guard": """
from mongopatterns.testing import CommandWatcher, n_plus_one_guard
from pymongo import AsyncMongoClient
uri = "mongodb://localhost:27017"
async def list_orders_with_customers(client):
    await client["app"].orders.find({}).to_list(None)
""",
    "mongopatterns.testing._server.EmbeddedMongo": """
from mongopatterns.testing import EmbeddedMongo
from pymongo import MongoClient
""",
    "mongopatterns.testing.plugin": """
import pytest_asyncio
from pymongo import AsyncMongoClient
""",
}
EXEMPT = {
    "mongopatterns.testing._race.race": "it shows a pattern that this package does not have yet",
    "mongopatterns.testing._race_processes.race_processes": "it is two files; the page on testing runs both",
}


def docstrings() -> dict[str, Document]:
    """Find the docstrings that hold an example, by the name of what they describe."""
    found: dict[str, Document] = {}
    for source in SOURCES:
        parts = source.relative_to(ROOT / "src").with_suffix("").parts
        module = ".".join(parts).removesuffix(".__init__")
        for name, node in _described(module, ast.parse(source.read_text(encoding="utf-8"))):
            constant = node.body[0].value
            # With the lines before it, so that a line of the document is that line of the file.
            document = parsed("\n" * (constant.lineno - 1) + constant.value, source)
            if document.regions or PYTHON_FENCE.search(constant.value) or ">>>" in constant.value:
                found[name] = document
    return found


def _described(name: str, node: Any) -> Iterator[tuple[str, Any]]:
    if ast.get_docstring(node, clean=False) is not None:
        yield name, node
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            yield from _described(f"{name}.{child.name}", child)


DOCSTRINGS = docstrings()


@pytest.mark.parametrize("name", sorted(DOCSTRINGS.keys() - EXEMPT.keys()))
def test_the_examples_of_a_docstring_run(name: str, page_run: Run) -> None:
    """What a docstring shows is what happens, with nothing around it but what is listed above."""
    document = DOCSTRINGS[name]
    text = document.text
    assert ">>>" not in text, "write a fenced block: nobody checks a session"
    assert sum(region.parsed.language == "python" for _, region in document.regions) == len(PYTHON_FENCE.findall(text))
    page_run.prepare(BEFORE.get(name, ""))
    execute(document, page_run)


def test_every_exception_for_a_docstring_is_needed() -> None:
    """Nothing is prepared or exempt that is no longer there."""
    assert not (BEFORE.keys() | EXEMPT.keys()) - DOCSTRINGS.keys()
    assert not BEFORE.keys() & EXEMPT.keys()
    assert len(EXEMPT) <= 2


# The machinery itself ----------------------------------------------------------------------------------------

PAGE = """\
=== "one"

    ```python
    import asyncio

    name = "one"
    await asyncio.sleep(0)
    ```

=== "two"

    1. In a list, too:

        ```{ .python }
        assert name == "one"
        name = "two"
        ```

```python title="plain"
print(name)
```

```text title="Output"
o...e
```

<!-- not executed: this one would fail -->
```py
raise SystemExit
```
"""


def page_of(text: str) -> Document:
    return parsed(text, ROOT / "page.md")


def test_blocks_run_in_order_and_tabs_keep_their_names(page_run: Run) -> None:
    """Indented blocks run, the first tab is the main line, and output and exemptions are seen."""
    document = page_of(PAGE)
    execute(document, page_run)
    blocks = [region.parsed for _, region in document.regions]
    assert [(block.language, block.tab) for block in blocks] == [
        ("python", "one"),
        ("python", "two"),
        ("python", None),
        ("text", None),
        ("python", None),
    ]
    assert blocks[-1].exempt == "this one would fail"
    assert page_run.executed == 3


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("await asyncio.sleep(0)", "await asyncio.sleep(0); 1 / 0", "page.md:7: ZeroDivisionError"),
        ('name == "one"', 'name == "two"', "page.md:15: AssertionError"),
        ("o...e", "two", "page.md:23: AssertionError: the page says"),
        ("print(name)", "print(name", "page.md:.*SyntaxError"),
    ],
)
def test_a_wrong_block_fails_at_its_line(before: str, after: str, message: str, page_run: Run) -> None:
    """A page that shows something wrong fails, and the message names the line."""
    assert before in PAGE
    with pytest.raises(AssertionError, match=message):
        execute(page_of(PAGE.replace(before, after)), page_run)


def test_the_independent_look_sees_every_way_to_write_a_block() -> None:
    """What is compared with the parser is not blind to the same things."""
    ways = ["```python", "    ~~~~py", "- ```{ .python .x }", "1. ```Python3", "> ```py title='x'"]
    assert len(PYTHON_FENCE.findall("\n".join([*ways, "```text", "python"]))) == len(ways)
