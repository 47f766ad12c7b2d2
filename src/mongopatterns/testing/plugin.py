"""Fixtures for pytest, at hand wherever this package is installed: a server, a fresh database per test, and a guard.

The plugin is loaded into every run of every project that has this package installed. Until a test asks for a
server, nothing is started and no module of this package's testing part but this one is imported. The package
`mongopatterns` itself is, and PyMongo with what it needs: Python imports a module's package first.

| fixture | scope | what it is |
|---|---|---|
| `mongopatterns_server` | session | an `EmbeddedMongo`: one member, or what `MONGOPATTERNS_TEST_URI` names |
| `mongopatterns_client` | session | a synchronous `MongoClient` on it, shared, with a `CommandWatcher` |
| `mongopatterns_db_name` | test | the name of a database of its own, dropped afterwards |
| `mongopatterns_db` | test | that database, for synchronous code |
| `n_plus_one` | session | `n_plus_one_guard`: `with n_plus_one(client, repeats=3):` fails on a query in a loop |

With PyMongo's asynchronous client or Motor, make a fixture of your own from the server and the name. A client
belongs to one event loop, so its scope is the scope of your loop:

```python
@pytest_asyncio.fixture
async def db(mongopatterns_server, mongopatterns_db_name):
    async with AsyncMongoClient(mongopatterns_server.uri, tz_aware=True) as client:
        yield client[mongopatterns_db_name]
```
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pymongo import MongoClient
    from pymongo.database import Database

    from mongopatterns.testing._guard import CommandGuard
    from mongopatterns.testing._server import EmbeddedMongo


@pytest.fixture(scope="session")
def mongopatterns_server() -> Iterator[EmbeddedMongo]:
    """Provide a real server for the whole run: a replica set of one member.

    Never skips: a run in which no server can be started fails, and says how to provide one. Set
    `MONGOPATTERNS_TEST_URI` to use a server that runs already.
    """
    from mongopatterns.testing._server import EmbeddedMongo  # noqa: PLC0415  # see the file's first lines

    with EmbeddedMongo() as server:
        yield server


@pytest.fixture(scope="session")
def mongopatterns_client(mongopatterns_server: EmbeddedMongo) -> Iterator[MongoClient[dict[str, Any]]]:
    """Provide a synchronous client for the whole run, with aware datetimes; guards can watch it."""
    import warnings  # noqa: PLC0415  # see the file's first lines

    from pymongo import MongoClient  # noqa: PLC0415  # see the file's first lines

    from mongopatterns.testing._guard import CommandWatcher  # noqa: PLC0415  # see the file's first lines

    with warnings.catch_warnings():
        # The driver's warnings repeat the values of options, which may be passwords.
        warnings.simplefilter("ignore", UserWarning)
        client = MongoClient[dict[str, Any]](
            mongopatterns_server.uri, tz_aware=True, event_listeners=[CommandWatcher()]
        )
    with client:
        yield client


@pytest.fixture
def mongopatterns_db_name(mongopatterns_client: MongoClient[dict[str, Any]]) -> Iterator[str]:
    """Provide the name of a database that only this test uses; it is dropped afterwards."""
    import secrets  # noqa: PLC0415  # see the file's first lines

    name = f"test_{secrets.token_hex(8)}"
    yield name
    # A database that still has collections is dropped in two steps, and the server waits for its journal's next turn
    # in between, which is up to 100 ms away; one collection takes about a millisecond.
    for collection in mongopatterns_client[name].list_collection_names():
        if not collection.startswith("system."):
            mongopatterns_client[name].drop_collection(collection)
    mongopatterns_client.drop_database(name)


@pytest.fixture
def mongopatterns_db(
    mongopatterns_client: MongoClient[dict[str, Any]], mongopatterns_db_name: str
) -> Database[dict[str, Any]]:
    """Provide a database that only this test uses, for synchronous code; it is dropped afterwards."""
    return mongopatterns_client[mongopatterns_db_name]


@pytest.fixture(scope="session")
def n_plus_one() -> Callable[..., CommandGuard]:
    """Provide `n_plus_one_guard`, which fails a test that sends one command again and again for different values.

    The client has a `CommandWatcher`: `with n_plus_one(client, repeats=3):`.
    """
    from mongopatterns.testing._guard import n_plus_one_guard  # noqa: PLC0415  # see the file's first lines

    return n_plus_one_guard
