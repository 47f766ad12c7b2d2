"""Write the page that says which primitives work on `mongomock-motor`, or check that it is up to date.

    python tools/mock_table.py            run every scenario, and write what came of it into the page
    python tools/mock_table.py --check    write nothing; exit 1 if the page is not what would be written

Nothing in the tables is written by hand. Each scenario of `mock_scenarios.py` runs on a real server first, where it
must succeed: that proves the scenario. Then it runs on the mock as it comes, and on the mock with the lines of
`mock_adapter.py`. A row says that the mock works only if the answers are right, and what is stored at the end is what
the real server stored.
"""

from __future__ import annotations

import argparse
import asyncio
import difflib
import logging
import re
import secrets
import sys
import time
import warnings
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any

from bson.json_util import CANONICAL_JSON_OPTIONS, dumps
from mock_adapter import MockClient
from mock_scenarios import Scenario, World, Wrong, row
from mongomock_motor import AsyncMongoMockClient
from pymongo import AsyncMongoClient
from pymongo.asynchronous.database import AsyncDatabase

from mongopatterns.testing import EmbeddedMongo

ROOT = Path(__file__).resolve().parent.parent
ADAPTER = ROOT / "tools" / "mock_adapter.py"
PAGE = ROOT / "docs" / "how-to" / "what-works-on-a-mock.md"
# What is between two such lines is written by this tool.
PART = re.compile(r"(<!-- begin: (?P<name>[a-z ]+), by tools/mock_table\.py -->\n).*?(<!-- end -->)", re.DOTALL)

HOUR = 3600.0
SECONDS = 30  # a scenario takes far less, on a busy machine too
AT_ONCE = 8
LONGEST = 100  # characters of what the mock says
LINES_OF_DIFF = 20

WORKS, WRONG, REFUSES = "works", "**wrong answer**", "refuses"
KINDS = {WORKS: "works", WRONG: "wrong answer", REFUSES: "refuses"}

# What differs from run to run.
DATE = re.compile(r'\{"\$date": \{"\$numberLong": "(\d+)"\}\}')
ID = re.compile(r"\b[0-9a-f]{24}\b")
OPERATOR = re.compile(r"\$\w+")


class NotProved(Exception):
    """A scenario that does not succeed on a real server."""


@dataclass(frozen=True)
class Outcome:
    """What came of a scenario: a wrong answer, an error, or else what is stored."""

    wrong: str | None = None
    error: BaseException | None = None
    stored: str = ""


@dataclass(frozen=True)
class Row:
    """A row of the table: what was called, what was asked for, and the verdicts."""

    called: str
    asked: str
    as_it_comes: str
    with_adapter: str


async def rows(uri: str, scenarios: Mapping[str, Scenario]) -> list[Row]:
    """Run the scenarios on the server and on the mock.

    Raises:
        NotProved: If one does not succeed on the server.
    """
    room = asyncio.Semaphore(AT_ONCE)
    async with AsyncMongoClient(uri, tz_aware=True) as client:

        async def one(called: str, scenario: Scenario) -> Row:
            async with room:
                return await _row(client, uri, called, scenario)

        return list(await asyncio.gather(*(one(*each) for each in scenarios.items())))


async def _row(client: AsyncMongoClient[Any], uri: str, called: str, scenario: Scenario) -> Row:
    right = await _on_server(client, uri, scenario)
    if right.wrong or right.error:
        raise NotProved(f"{called}: {right.wrong or repr(right.error)} on the real server")
    verdicts = [await _on_mock(kind, client, uri, scenario, right) for kind in (AsyncMongoMockClient, MockClient)]
    return Row(called, str(scenario.__doc__), *verdicts)


async def _on_server(client: AsyncMongoClient[Any], uri: str, scenario: Scenario) -> Outcome:
    async with AsyncExitStack() as stack:
        db = await stack.enter_async_context(_database(client))

        def connect(*args: Any, **options: Any) -> Any:
            other: AsyncMongoClient[Any] = AsyncMongoClient(*args, **options)
            stack.push_async_callback(other.close)
            return other

        return await _run(scenario, World(client, db, connect, AsyncMongoClient, uri, lambda call: call(db)))


async def _on_mock(kind: type[Any], server: AsyncMongoClient[Any], uri: str, scenario: Scenario, right: Outcome) -> str:
    client = kind()
    db = client["app"]

    async def given(call: Callable[[Any], Awaitable[Any]]) -> Any:
        async with _database(server) as real:
            answer = await call(real)
            for name in await real.list_collection_names():
                await db[name].insert_many(await real[name].find().to_list(None))
        return answer

    return verdict(await _run(scenario, World(client, db, kind, kind, uri, given)), right)


@asynccontextmanager
async def _database(client: AsyncMongoClient[Any]) -> AsyncIterator[AsyncDatabase[Any]]:
    """Provide a database of the real server, and drop it."""
    name = f"mock_table_{secrets.token_hex(8)}"
    try:
        yield client[name]
    finally:
        await client.drop_database(name)


async def _run(scenario: Scenario, world: World) -> Outcome:
    try:
        await asyncio.wait_for(scenario(world), SECONDS)
    except Wrong as wrong:
        return Outcome(wrong=str(wrong))
    except Exception as error:  # noqa: BLE001  # whatever the mock raises is what the table tells
        return Outcome(error=error)
    return Outcome(stored=await _contents(world.db))


async def _contents(db: Any) -> str:
    """Spell all documents of a database, with the types of their values."""
    stored = {name: await db[name].find().to_list(None) for name in sorted(await db.list_collection_names())}
    return "\n".join(f"{name}: {each}" for name, some in stored.items() for each in sorted(map(_spelled, some)))


def _spelled(document: Any) -> str:
    text = dumps(document, json_options=CANONICAL_JSON_OPTIONS, sort_keys=True)
    return DATE.sub(_date, ID.sub("an id", text))


def _date(found: re.Match[str]) -> str:
    return "a time of this run" if abs(int(found[1]) / 1000 - time.time()) < HOUR else found[0]


def verdict(outcome: Outcome, right: Outcome) -> str:
    """Say what came of a scenario on the mock, beside what came of it on the real server."""
    if outcome.error:
        return f"{REFUSES} {_reason(outcome.error)}"
    if outcome.wrong:
        return f"{WRONG}: {outcome.wrong}"
    if outcome.stored != right.stored:
        pairs = zip(outcome.stored.splitlines() or ["nothing"], right.stored.splitlines() or ["nothing"], strict=False)
        have, want = next(((have, want) for have, want in pairs if have != want), ("another number of documents", ""))
        return f"{WRONG}: stored `{have}`, not `{want}`"
    return WORKS


def _reason(error: BaseException) -> str:
    """Name an error: by the operator that the mock does not know, or by what it says."""
    if error.__cause__:
        return f"{_reason(error.__cause__)}, as `{type(error).__name__}`"
    if operator := OPERATOR.search(str(error)):
        return f"`{operator[0]}`: `{type(error).__name__}`"
    said = str(error) if len(str(error)) <= LONGEST else f"{str(error)[:LONGEST].rsplit(' ', 1)[0]} ..."
    return f"with `{type(error).__name__}`: {said}"


def parts(found: list[Row]) -> dict[str, str]:
    """Write what the tool has to say, by the name of the part of the page."""
    return {
        "versions": _versions(),
        "as it comes": _grid(("as it comes", "rows"), _as_it_comes(found)),
        "adapter": f"```python\n{ADAPTER.read_text(encoding='utf-8').strip()}\n```",
        "overview": _grid(("primitive", *KINDS.values()), _overview(found)),
        "table": _grid(("call", "what is asked for", "on the mock"), _table(found)),
    }


def _versions() -> str:
    mock, engine = (f"{name} {version(name)}" for name in ("mongomock-motor", "mongomock"))
    return f"Tried: {mock}, with {engine}."


def _as_it_comes(found: list[Row]) -> Iterator[tuple[str, ...]]:
    """Group rows by their verdict; the most frequent one needs no list."""
    for place, (told, times) in enumerate(Counter(each.as_it_comes for each in found).most_common()):
        some = ", ".join(_label(each.called) for each in found if each.as_it_comes == told)
        yield told, some if place else f"all {times} others"


def _overview(found: list[Row]) -> Iterator[tuple[str, ...]]:
    """Count the verdicts of each primitive."""
    for name in dict.fromkeys(_primitive(each) for each in found):
        yield f"`{name}`", *_counts([each for each in found if _primitive(each) == name])
    yield "**all**", *_counts(found)


def _counts(found: list[Row]) -> list[str]:
    return [str(sum(each.with_adapter.startswith(kind) for each in found) or "") for kind in KINDS]


def _primitive(each: Row) -> str:
    return re.split(r"[.,]", each.called)[0]


def _table(found: list[Row]) -> Iterator[tuple[str, ...]]:
    return ((_label(each.called), each.asked, each.with_adapter) for each in found)


def _label(called: str) -> str:
    """Set what is code as code: the call, and an argument."""
    name, _, how = called.partition(", ")
    return f"`{name}`" + (f", `{how}`" if "=" in how else how and f", {how}")


def _grid(head: tuple[str, ...], lines: Iterable[tuple[str, ...]]) -> str:
    escaped = ([cell.replace("|", "\\|").replace("\n", " ") for cell in line] for line in lines)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *escaped))


def written(page: str, found: list[Row]) -> str:
    """Put what the tool has to say between the markers of a page.

    Raises:
        ValueError: If the page has not one place for each part.
    """
    text = parts(found)
    places = [each["name"] for each in PART.finditer(page)]
    if sorted(places) != sorted(text):
        raise ValueError(f"the page has places for {places}, and is to have one for each of {list(text)}")
    return PART.sub(lambda place: f"{place[1]}\n{text[place['name']]}\n\n{place[3]}", page)


def main() -> int:
    """Run as a program."""
    parser = argparse.ArgumentParser(description="Write the table of what works on a mock.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if the page is out of date")
    check = parser.parse_args().check
    logging.disable()  # a buffer tells of what is not stored
    with EmbeddedMongo() as server, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the mock's own
        found = asyncio.run(rows(server.uri, row.scenarios))
    have = PAGE.read_text(encoding="utf-8")
    want = written(have, found)
    if not check:
        PAGE.write_text(want, encoding="utf-8")
    elif have != want:
        diff = difflib.unified_diff(have.splitlines(), want.splitlines(), "as it is", "as written", lineterm="")
        print(f"{PAGE.relative_to(ROOT)}: not what the tool writes", *islice(diff, LINES_OF_DIFF), sep="\n")
        return 1
    print(f"rows: {len(found)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
