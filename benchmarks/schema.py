"""What a start-up costs where nothing has to change.

Fifty collections of three indexes each, all of them there: `verify` and `plan` send 52 commands, eight at a time, and
compare what is there with what should be. The usual start-up calls `create_index` for each index, which is a command
each: 150 that do nothing. It tells of a conflict by an error, and of nothing else: not of an index too many, nor of an
option of a collection. By hand one would ask each collection for its indexes, one after the other, and look for the
names: that takes names on trust. The server is on the same machine here, where commands side by side gain little, and
the synchronous side pays for its threads; over a network each round trip counts, and there are seven instead of fifty.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, Final

from benchmarks._ratios import AtLeastTimes, Target
from benchmarks._rows import Calls, Measurable, Row
from benchmarks._worlds import World
from mongopatterns import AsyncSchema, CollectionSpec, Index, Schema, SchemaSpec

COLLECTIONS: Final = 50
INDEXES: Final = (Index("owner", ("at", -1)), Index("code", unique=True), Index.ttl("expires_at"))
SPEC: Final = SchemaSpec([CollectionSpec(f"c{number}", indexes=INDEXES) for number in range(COLLECTIONS)])

ALONE: Final = (World("async", 1), World("sync", 1))
SEEN: Final[set[str]] = set()


@cache
def names() -> frozenset[str]:
    """Return what the drivers call the indexes."""
    return frozenset("_".join(f"{path}_{kind}" for path, kind in index.keys) for index in INDEXES)


def seed(database: Any) -> None:
    """Apply the schema: nothing, if it is applied."""
    if database.name not in SEEN:
        SEEN.add(database.name)
        Schema(database, SPEC).apply()


def verified() -> Calls:
    """Verify: it raises if anything has to change."""

    def aio(database: Any) -> Callable[..., Any]:
        schema = AsyncSchema(database, SPEC)

        async def call(key: str) -> bool:
            del key
            return not await schema.verify()

        return call

    def blocking(database: Any) -> Callable[..., Any]:
        schema = Schema(database, SPEC)
        return lambda key: not schema.verify()  # noqa: ARG005  # (a key is what the timer gives)

    return Calls(aio, blocking, seed=seed)


def planned() -> Calls:
    """Plan."""

    def aio(database: Any) -> Callable[..., Any]:
        schema = AsyncSchema(database, SPEC)

        async def call(key: str) -> bool:
            del key
            return not await schema.plan()

        return call

    def blocking(database: Any) -> Callable[..., Any]:
        schema = Schema(database, SPEC)
        return lambda key: not schema.plan()  # noqa: ARG005  # (a key is what the timer gives)

    return Calls(aio, blocking, seed=seed)


def created() -> Calls:
    """Create each index again."""
    wanted = [(f"c{number}", index) for number in range(COLLECTIONS) for index in INDEXES]

    def aio(database: Any) -> Callable[..., Any]:
        async def call(key: str) -> bool:
            del key
            for name, index in wanted:
                await database[name].create_index(index.keys, **index.options)
            return True

        return call

    def blocking(database: Any) -> Callable[..., Any]:
        def call(key: str) -> bool:
            del key
            for name, index in wanted:
                database[name].create_index(index.keys, **index.options)
            return True

        return call

    return Calls(aio, blocking, seed=seed)


def looked_up() -> Calls:
    """Ask each collection for its indexes, and look for the names."""

    def aio(database: Any) -> Callable[..., Any]:
        async def call(key: str) -> bool:
            del key
            found = [await database[f"c{number}"].index_information() for number in range(COLLECTIONS)]
            return all(names() <= there.keys() for there in found)

        return call

    def blocking(database: Any) -> Callable[..., Any]:
        def call(key: str) -> bool:
            del key
            return all(names() <= database[f"c{number}"].index_information().keys() for number in range(COLLECTIONS))

        return call

    return Calls(aio, blocking, seed=seed)


def _row(name: str, against: str, ours: Calls, theirs: Calls, target: Target | None) -> Row:
    agree = [{"key": "agreed"}]
    return Row(name, against, ours, theirs, agree=agree, target=target, worlds=ALONE, longer=8)


ROWS: Final[tuple[Measurable, ...]] = (
    _row("Schema.verify, 50 collections", "150 create_index", verified(), created(), AtLeastTimes(1.25)),
    _row("Schema.plan, 50 collections", "150 create_index", planned(), created(), AtLeastTimes(1.25)),
    _row("Schema.verify, 50 collections", "names compared by hand", verified(), looked_up(), None),
)
