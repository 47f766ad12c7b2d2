"""Beanie has an asynchronous side alone, on PyMongo: one client, and a database per test."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio
from pymongo import AsyncMongoClient

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def client(mongopatterns_server: Any) -> AsyncIterator[Any]:
    # No timeout: the loop stands still while tests without one run (see the asynchronous tests' conftest).
    options: dict[str, Any] = {"tz_aware": True, "maxPoolSize": 100, "connectTimeoutMS": 0}
    async with AsyncMongoClient(mongopatterns_server.uri, **options) as client:
        yield client


@pytest.fixture
def db(client: Any, mongopatterns_db_name: str) -> Any:
    return client[mongopatterns_db_name]
