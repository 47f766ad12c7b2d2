"""The stage of a scenario, and how one of its versions is played there."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from pymongo import AsyncMongoClient

from mongopatterns._driver_async import settle
from mongopatterns.cli._rows import Row
from mongopatterns.cli._stage import AsyncDatabase, CommandCount, Database, Setting, Take
from mongopatterns.cli.scenarios import Outcome
from mongopatterns.testing import race

__all__ = ["AsyncScenario", "AsyncStage", "client_of", "play"]

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class AsyncStage:
    """What a version works with.

    Attributes:
        db: The database, of the driver that was asked for.
        flights: The flights, in the order in which they left.
        setting: Where and how it is played.
        count: What counts its commands.
    """

    db: AsyncDatabase[Row]
    flights: Sequence[Row]
    setting: Setting
    count: CommandCount

    async def for_each(self, call: Callable[[Row], Awaitable[R]], rows: Sequence[Row]) -> list[R]:
        """Make one call for each row, so many at once as the user asked for.

        Returns:
            What the calls returned, in the order of the rows.

        Raises:
            Exception: What a call raised: those that have not begun by then are not made.
        """
        if not rows:
            return []
        failed: list[Exception] = []

        async def one(index: int) -> R:
            if failed:
                raise failed[0]
            try:
                return await call(rows[index])
            except Exception as error:
                failed.append(error)
                raise

        report = await race(one, times=len(rows), concurrency=self.setting.concurrency)
        report.raise_errors()
        return report.outcomes


@dataclass(frozen=True)
class AsyncScenario(Generic[T]):
    """One job, done in three ways. How to write one stands in `mongopatterns.cli.scenarios`.

    Attributes:
        title: What it is, in a few words.
        usual: As applications usually write it.
        by_hand: As a careful engineer writes it.
        primitive: With this package.
        judge: Tells from the rows, from what callers were told and from the database what came of it.
        caption: What else the reader must know, for these rows.
        crowded: Whether it is about many more calls at once than the user asked for.
        baseline: The version that the speed of the others is told by.
        whole: Whether it is about all flights of the year, in the collection `year`, unless the user asked for fewer.
    """

    title: str
    usual: Callable[[AsyncStage], Awaitable[T]]
    by_hand: Callable[[AsyncStage], Awaitable[T]]
    primitive: Callable[[AsyncStage], Awaitable[T]]
    judge: Callable[[Sequence[Row], T, Database[Row]], Outcome]
    caption: Callable[[Sequence[Row]], str] = lambda _: ""
    crowded: bool = False
    baseline: str = "usual"
    whole: bool = False


async def play(version: Callable[[AsyncStage], Awaitable[T]], setting: Setting) -> Take[T]:
    """Run one version, with a client of its own whose connections are open before the time starts."""
    count = CommandCount()
    client = client_of(setting, count)
    try:
        stage = AsyncStage(client[setting.database], setting.flights, setting, count)
        warm_up = await race(
            lambda _: stage.db.command("ping"), times=2 * setting.concurrency, concurrency=setting.concurrency
        )
        warm_up.raise_errors()
        count.total = 0
        started = time.perf_counter()
        told = await version(stage)
        return Take(told, time.perf_counter() - started, count.total)
    finally:
        await settle(client.close())


def client_of(setting: Setting, count: CommandCount) -> Any:
    """Return a client of the driver that was asked for, whose commands are counted."""
    options = setting.client_options(count)
    # generate: async only
    if setting.driver == "motor":
        from motor.motor_asyncio import AsyncIOMotorClient  # noqa: PLC0415  # an optional extra, only when asked for

        return AsyncIOMotorClient(setting.uri, **options)
    return AsyncMongoClient[Row](setting.uri, **options)
