"""Translate a module of the asynchronous side into its synchronous twin. Pure: text in, text out.

**Syntax**: `async` and `await` go; `Awaitable[T]` and `Coroutine[..., T]` become `T`.

**Words**, in code, strings and comments alike: a name loses the prefix `Async` (`AsyncQuota` is `Quota`), a
name that ends in `_async` ends in `_sync`, and Python's own protocols have their other name (`__aenter__` is
`__enter__`). `RENAMES` holds what is irregular. In strings and comments a lower-case word such as `race` may
be plain English: there, such a rule works between backticks only, where `await` goes too.

**Imports**: a rule may lead to another module. With a rule from `asyncio.sleep` to `time.sleep`, each
`import asyncio` becomes `import asyncio, time`, and whichever the twin does not use is tidied away later. So
write `asyncio.sleep(...)` and not `from asyncio import sleep`.

**What must differ** carries a comment on a line of its own. `# generate: async only` above a statement (above
its decorators, if it has any) keeps it out of the twin, together with the comments above it. A source with
the line `# generate: hand-written twin` is not translated at all. Any other `# generate:` is an error. In a
string, a marker is only text.

**What must not stay** is found once the twin is tidy: a name `asyncio`, or one with a part `async`, such as
`make_async_client`. It needs a rule, or a better name.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from contextlib import suppress
from typing import TYPE_CHECKING, Any, cast

import libcst as cst
from libcst.metadata import MetadataWrapper, PositionProvider

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

# What is irregular, one line each: "race": "race_threads", or dotted, "asyncio.sleep": "time.sleep". A rule
# that matches in no source fails the run, so it comes with its first use and goes with its last.
RENAMES: dict[str, str] = {
    "AbstractAsyncContextManager": "AbstractContextManager",
    "asynccontextmanager": "contextmanager",
    "make_async_client": "make_client",
    "race": "race_threads",
    "shared_async_client": "shared_client",
}
# With more exceptions than this, it is our own names that are irregular.
MOST_RENAMES = 15

# What Python itself has under two names.
PROTOCOLS = {
    "__aenter__": "__enter__",
    "__aexit__": "__exit__",
    "__aiter__": "__iter__",
    "__anext__": "__next__",
    "StopAsyncIteration": "StopIteration",
    "aiter": "iter",
    "anext": "next",
}

MARKER = "# generate:"
ASYNC_ONLY = f"{MARKER} async only"
HAND_WRITTEN_TWIN = f"{MARKER} hand-written twin"

# A name that no twin can need.
LEFTOVER = re.compile(r"asyncio|(?:.*_)?async(?:_.*)?")

HEADER = """\
# Generated from {name} by tools/generate_sync.py.
# Do not edit: change the source and run "make generate".
"""


class GenerateError(Exception):
    """Report a source that cannot be given a twin, with the reason."""


def generate(source: str, *, name: str, used: set[str], renames: Mapping[str, str] = RENAMES) -> str:
    """Translate a module. The result is right, and not yet tidy.

    Args:
        source: The text of the asynchronous module, as Ruff formats it.
        name: The path of the module, for the header.
        used: Takes the left side of each rule that matches in code; strings and comments prove no use.
        renames: The exceptions.

    Returns:
        The text of the twin, header included.

    Raises:
        GenerateError: The source does not parse, or holds a marker that means nothing.
    """
    try:
        module = cst.parse_module(source)
    except cst.ParserSyntaxError as error:
        raise GenerateError(f"line {error.raw_line}: {error.message}") from error
    twin = module.visit(_DropAsyncOnly()).visit(_ToSync(_Words(renames, used)))
    return HEADER.format(name=name) + twin.code


def has_hand_written_twin(source: str) -> bool:
    """Tell whether `source` has the marker, as a comment on a line of its own."""
    with suppress(tokenize.TokenError, SyntaxError):  # what does not parse, `generate` reports
        return any(
            token.type == tokenize.COMMENT and token.string == HAND_WRITTEN_TWIN and token.start[1] == 0
            for token in tokenize.generate_tokens(io.StringIO(source).readline)
        )
    return False


def refuse_leftovers(twin: str) -> None:
    """Look for names in a tidy twin that still belong to the asynchronous side.

    Raises:
        GenerateError: There are some; each is named with its line.
    """
    lines = twin.splitlines()
    finder = _Leftovers()
    MetadataWrapper(cst.parse_module(twin), unsafe_skip_copy=True).visit(finder)
    if finder.found:
        places = (f"{name!r} in line {line}, {lines[line - 1].strip()!r}" for name, line in finder.found)
        raise GenerateError(f"its twin would still have {'; '.join(places)}")


class _Leftovers(cst.CSTVisitor):
    METADATA_DEPENDENCIES = (PositionProvider,)

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, int]] = []

    def visit_Name(self, node: cst.Name) -> None:  # noqa: N802  # libcst's name
        if LEFTOVER.fullmatch(node.value):
            self.found.append((node.value, self.get_metadata(PositionProvider, node).start.line))


class _Words:
    """The names of the synchronous world, and a note of which rules were used in code."""

    def __init__(self, renames: Mapping[str, str], used: set[str]) -> None:
        self.rules = PROTOCOLS | dict(renames)
        self._used = used
        regular = r"(?<![a-zA-Z0-9])Async(?!IO)(?=[A-Z])|_async\b"  # AsyncIO...: Motor's names have no twin
        unmistakable = [word for word in self.rules if not (word.isalpha() and word.islower())]
        article = r"(?<=\b[Aa])n(?= `?Async[^AEIOU])"
        # A run of backticks ends at the next run of the same length, so a fenced block is code as well.
        backticks = r"(?<!`)(?P<ticks>`+)(?!`)(?s:.+?)(?<!`)(?P=ticks)(?!`)"
        self._in_code = re.compile(rf"{_any_of(self.rules)}|{regular}|\b(?:async|await) ")
        self._in_prose = re.compile(rf"{backticks}|{_any_of(unmistakable)}|{regular}|{article}")

    def code(self, text: str) -> str:
        """Rename in a name of the module's own code, where a rule proves its use."""
        self._used.update(word for word in self._in_code.findall(text) if word in self.rules)
        return self._in_code.sub(self._replacement, text)

    def prose(self, text: str) -> str:
        """Rename in a string or a comment."""
        return self._in_prose.sub(self._replacement, text)

    def beside(self, module: str) -> set[str]:
        """Name the modules that rules lead to from names of `module`."""
        heads = ((old.rpartition(".")[0], new.rpartition(".")[0]) for old, new in self.rules.items())
        return {new for old, new in heads if old == module} - {"", module}

    def _replacement(self, match: re.Match[str]) -> str:
        word = match[0]
        if word.startswith("`"):
            return self._in_code.sub(self._replacement, word)
        if word in self.rules:
            return self.rules[word]
        return "_sync" if word == "_async" else ""


def _any_of(words: Iterable[str]) -> str:
    longest_first = sorted(words, key=len, reverse=True)
    return rf"\b(?:{'|'.join(map(re.escape, longest_first))})\b"


class _DropAsyncOnly(cst.CSTTransformer):
    """Remove the statements that are marked as having no twin."""

    # The parameters cannot be named by their types: libcst's is a union of every node.
    def on_leave(self, original_node: Any, updated_node: Any) -> Any:
        del original_node
        if isinstance(updated_node, (cst.Module, cst.IndentedBlock)):
            kept = [statement for statement in updated_node.body if not _is_async_only(statement)]
            return updated_node.with_changes(body=kept)
        return updated_node


def _is_async_only(statement: cst.CSTNode) -> bool:
    lines: Sequence[cst.EmptyLine] = getattr(statement, "leading_lines", ())
    return any(line.comment and line.comment.value == ASYNC_ONLY for line in lines)


class _ToSync(cst.CSTTransformer):
    """Take the async out of the syntax, and have every word looked up."""

    def __init__(self, words: _Words) -> None:
        super().__init__()
        self._words = words

    def on_leave(self, original_node: Any, updated_node: Any) -> Any:
        node, words = updated_node, self._words
        match node:
            case cst.FunctionDef() | cst.With() | cst.For() | cst.CompFor():
                node = node.with_changes(asynchronous=None)
            case cst.Await():
                node = _awaited(node)
            case cst.Subscript(
                value=cst.Name(value="Awaitable" | "Coroutine"),
                slice=[*_, cst.SubscriptElement(slice=cst.Index(value=result))],
            ):
                node = result
            case cst.Name():
                node = node.with_changes(value=words.code(node.value))
            case cst.Attribute() if (dotted := _code(original_node)) in words.rules:
                node = cst.parse_expression(words.code(dotted))
            case cst.Comment(value=text) if text.startswith(MARKER):
                raise GenerateError(f"the marker {text!r} is unknown, or stands above no statement")
            case cst.Comment() | cst.SimpleString() | cst.FormattedStringText():
                node = node.with_changes(value=words.prose(node.value))
            case cst.Import():
                extra = {module for name in node.names for module in words.beside(name.evaluated_name)}
                node = node.with_changes(names=[*node.names, *map(_imported, sorted(extra))])
            case cst.ImportAlias() if _is_redundant(node) and not _is_redundant(original_node):
                node = node.with_changes(asname=None)
        return node


def _awaited(node: cst.Await) -> cst.BaseExpression:
    """Unwrap an `await`, without its parentheses unless they hold a comment or lines together.

    Nothing else can need them: what is awaited binds more tightly than `await`.
    """
    inner = node.expression
    try:
        ast.parse(_code(inner), mode="eval")
        needed = "#" in _code(*node.lpar, *node.rpar)
    except SyntaxError:
        needed = True
    if needed:
        inner = inner.with_changes(lpar=[*node.lpar, *inner.lpar], rpar=[*inner.rpar, *node.rpar])
    return inner


def _imported(module: str) -> cst.ImportAlias:
    return cst.ImportAlias(cast("cst.Name | cst.Attribute", cst.parse_expression(module)))


def _is_redundant(name: cst.ImportAlias) -> bool:
    return name.evaluated_name == name.evaluated_alias


def _code(*nodes: cst.CSTNode) -> str:
    return "".join(map(cst.Module([]).code_for_node, nodes))
