"""The asynchronous side is tested with both of its drivers: every test here runs once on each."""
# generate: hand-written twin

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio
from motor.motor_asyncio import AsyncIOMotorClient
from pymongo import AsyncMongoClient

from mongopatterns._driver_async import settle

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def clients(mongopatterns_server: Any, recorder: Any) -> AsyncIterator[dict[str, Any]]:
    # The loop stands still while tests without one run: a heartbeat that is under way meanwhile must not time out,
    # which would interrupt connections that are being made. 0 is no timeout, and adds to that of heartbeats.
    options: dict[str, Any] = {"event_listeners": [recorder], "maxPoolSize": 100, "connectTimeoutMS": 0}
    motor: Any = AsyncIOMotorClient(mongopatterns_server.uri, **options)
    async with AsyncMongoClient(mongopatterns_server.uri, **options) as pymongo:
        yield {"pymongo": pymongo, "motor": motor}
    motor.close()


@pytest.fixture(params=["pymongo", "motor"])
def client(request: pytest.FixtureRequest, clients: dict[str, Any]) -> Any:
    return clients[request.param]


@pytest.fixture
def db(client: Any, mongopatterns_db_name: str) -> Any:
    return client[mongopatterns_db_name]


@pytest_asyncio.fixture(loop_scope="session")
async def connect(client: Any) -> AsyncIterator[Any]:
    """Provide clients of the driver that is tested, each closed in the end."""
    made: list[Any] = []

    def connected(uri: str, **options: Any) -> Any:
        made.append(type(client)(uri, **options))
        return made[-1]

    yield connected
    for own in made:
        await settle(own.close())
