"""Clients on a real server: they have the options, stay within the plan, and are shared by those who ask alike."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

from mongopatterns import (
    AsyncCounter,
    CounterSpec,
    Durability,
    PoolBudget,
    PoolMonitor,
    Profile,
    make_async_client,
    shared_async_client,
)
from mongopatterns._driver_async import pause, settle
from mongopatterns._shared import SHARED
from mongopatterns.testing import race

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

HITS = CounterSpec("counters", path="n")


@pytest.fixture
async def make(client: Any, mongopatterns_server: Any) -> AsyncIterator[Callable[..., Any]]:
    """Make clients of the driver that this test runs on, and close them."""
    made: list[Any] = []

    def make_one(**options: Any) -> Any:
        one = make_async_client(mongopatterns_server.uri, client_class=type(client), connectTimeoutMS=0, **options)
        made.append(one)
        return one

    yield make_one
    for each in made:
        await settle(each.close())


async def connections(client: Any, app_name: str) -> int:
    """Return how many connections the server has from clients of this name, monitors included."""
    everybody = {"$currentOp": {"allUsers": True, "idleConnections": True}}
    pipeline = [everybody, {"$match": {"appName": app_name}}, {"$count": "n"}]
    reply = await client["admin"].command({"aggregate": 1, "pipeline": pipeline, "cursor": {}})
    found = reply["cursor"]["firstBatch"]
    return int(found[0]["n"]) if found else 0


async def wait_for_connections(client: Any, app_name: str, expected: int) -> list[int]:
    """Look again and again until there are so many, and return all that was seen."""
    seen = [await connections(client, app_name)]
    for _ in range(200):
        if seen[-1] == expected:
            break
        await pause(0.05)
        seen.append(await connections(client, app_name))
    return seen


@pytest.mark.parametrize("monitoring", ["stream", "poll"])
async def test_clients_have_as_many_connections_as_were_planned(
    make: Any, client: Any, mongopatterns_db_name: str, monitoring: Any
) -> None:
    """Four clients with ten callers each reach the worst case of their plan, monitors included, and never pass it."""
    budget = PoolBudget(limit=20, processes=4, monitoring=monitoring, reserve=0)
    plan = budget.plan(Profile.WEB)
    app_name = f"{mongopatterns_db_name}-{monitoring}"
    clients = [make(profile=Profile.WEB, budget=budget, app_name=app_name) for _ in range(4)]
    await client[mongopatterns_db_name].things.insert_one({"_id": 1})

    for each in clients:  # one after the other, for Motor has few threads for all
        things = each[mongopatterns_db_name].things
        report = await race(lambda _, things=things: things.find_one({"$where": "sleep(20) || true"}), 20, 10)
        report.raise_errors()
    seen = await wait_for_connections(client, app_name, plan.worst_case_connections)
    assert seen[-1] == max(seen) == plan.worst_case_connections == 20


async def test_a_client_is_the_drivers_own(make: Any, client: Any, mongopatterns_db_name: str) -> None:
    """It is of the driver's class, has the options, and works with what this package has, listeners included."""
    monitor = PoolMonitor()
    made = make(
        profile=Profile.WEB, app_name="api", durability=Durability.FAST, event_listeners=[monitor], maxPoolSize=2
    )
    assert type(made) is type(client)
    assert made.options.pool_options.appname == "api"
    assert made.options.pool_options.max_pool_size == 2
    assert made.options.timeout == Profile.WEB.timeoutMS / 1000
    assert made.write_concern.document == {"w": 1}
    assert await AsyncCounter(made[mongopatterns_db_name], HITS).add("home") == 1
    assert monitor.snapshot().servers[0].limit == 2


async def test_those_who_ask_alike_share_a_client(client: Any, mongopatterns_server: Any) -> None:
    """Equal arguments are one client, others another; the last who leaves closes it on the server too."""
    uri, kind, before = mongopatterns_server.uri, type(client), len(SHARED)
    asked: Any = {"profile": Profile.WEB, "client_class": kind, "connectTimeoutMS": 0}
    async with shared_async_client(uri, app_name="shared-1", **asked) as one:
        assert type(one) is kind
        async with shared_async_client(uri, app_name="shared-1", **asked) as same:
            assert same is one
            async with shared_async_client(uri, app_name="shared-2", **asked) as other:
                assert other is not one
                await other["admin"].command("ping")
            assert len(SHARED) == before + 1
        assert (await one["admin"].command("ping"))["ok"] == 1
        assert await connections(client, "shared-1") > 0
    assert len(SHARED) == before
    for name in ("shared-1", "shared-2"):
        assert (await wait_for_connections(client, name, 0))[-1] == 0


async def test_many_enter_and_leave(client: Any, mongopatterns_server: Any) -> None:
    """Of a hundred who come and go, each has a client that is open; and nothing is left."""
    before = len(SHARED)

    async def visit(index: int) -> float:
        async with shared_async_client(
            mongopatterns_server.uri, profile=Profile.TEST, app_name="visits", client_class=type(client)
        ) as shared:
            await pause(index % 5 / 100)
            return float((await shared["admin"].command("ping"))["ok"])

    report = await race(visit, times=100, concurrency=20)
    report.raise_errors()
    assert report.outcomes == [1.0] * 100
    assert len(SHARED) == before


async def test_an_error_inside_closes_too(client: Any, mongopatterns_server: Any) -> None:
    """Whoever leaves by an error leaves, and the error is theirs."""
    before = len(SHARED)

    async def fail() -> None:
        async with shared_async_client(
            mongopatterns_server.uri, profile=Profile.TEST, app_name="failing", client_class=type(client)
        ):
            raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        await fail()
    assert len(SHARED) == before


# generate: async only
async def test_another_loop_has_a_client_of_its_own(client: Any, mongopatterns_server: Any) -> None:
    """A loop in another thread, with the same arguments, is given another client, which works there."""

    async def enter() -> Any:
        async with shared_async_client(
            mongopatterns_server.uri, profile=Profile.TEST, app_name="loops", client_class=type(client)
        ) as shared:
            assert (await shared["admin"].command("ping"))["ok"] == 1
            return shared

    async with shared_async_client(
        mongopatterns_server.uri, profile=Profile.TEST, app_name="loops", client_class=type(client)
    ) as mine:
        other = await asyncio.to_thread(lambda: asyncio.run(enter()))
        assert other is not mine
        assert (await mine["admin"].command("ping"))["ok"] == 1


# generate: async only
async def test_a_client_is_closed_by_who_is_cancelled(client: Any, mongopatterns_server: Any) -> None:
    """A cancellation that comes while the last one leaves, at any point of it, leaves no connection behind."""
    for turns in range(6):
        app_name = f"cancelled-{turns}"
        leaves = asyncio.Event()

        async def visit(app_name: str = app_name, leaves: asyncio.Event = leaves) -> None:
            async with shared_async_client(
                mongopatterns_server.uri, profile=Profile.TEST, app_name=app_name, client_class=type(client)
            ) as shared:
                await shared["admin"].command("ping")
                leaves.set()

        visitor = asyncio.create_task(visit())
        await leaves.wait()
        for _ in range(turns):
            await pause(0)
        visitor.cancel()
        with suppress(asyncio.CancelledError):  # it may have been over
            await visitor
        assert (await wait_for_connections(client, app_name, 0))[-1] == 0
