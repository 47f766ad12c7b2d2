"""The synchronous side has one driver. The hand-written sibling is `tests/aio/conftest.py`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from pymongo import MongoClient

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def clients(mongopatterns_server: Any, recorder: Any) -> Iterator[dict[str, Any]]:
    with MongoClient(mongopatterns_server.uri, event_listeners=[recorder], maxPoolSize=100) as client:
        yield {"pymongo": client}


@pytest.fixture
def client(clients: dict[str, Any]) -> Any:
    return clients["pymongo"]


@pytest.fixture
def db(client: Any, mongopatterns_db_name: str) -> Any:
    return client[mongopatterns_db_name]


@pytest.fixture
def connect(client: Any) -> Iterator[Any]:
    """Provide clients of the driver that is tested, each closed in the end."""
    made: list[Any] = []

    def connected(uri: str, **options: Any) -> Any:
        made.append(type(client)(uri, **options))
        return made[-1]

    yield connected
    for own in made:
        own.close()
