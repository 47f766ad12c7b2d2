"""Clients of the driver: made of what the plan worked out, and shared by those who ask for the same."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, overload

from pymongo import AsyncMongoClient
from typing_extensions import TypeVar

from mongopatterns import _driver_async as driver
from mongopatterns._driver_options import option_names, takes, w_of
from mongopatterns._shared import SHARED, guarded
from mongopatterns.client._budget_plan import PoolBudget
from mongopatterns.client._factory_plan import ClientPlan
from mongopatterns.client._profiles import Profile
from mongopatterns.typing import Durability

__all__ = ["make_async_client", "shared_async_client"]

ClientT = TypeVar("ClientT")

_PLAN = ClientPlan(option_names(), takes, AsyncMongoClient)


@overload
def make_async_client(
    uri: str,
    *,
    profile: Profile,
    app_name: str,
    client_class: None = None,
    budget: PoolBudget | None = None,
    durability: Durability | None = None,
    **options: Any,
) -> AsyncMongoClient[dict[str, Any]]: ...
@overload
def make_async_client(
    uri: str,
    *,
    profile: Profile,
    app_name: str,
    client_class: type[ClientT],
    budget: PoolBudget | None = None,
    durability: Durability | None = None,
    **options: Any,
) -> ClientT: ...
def make_async_client(
    uri: str,
    *,
    profile: Profile,
    app_name: str,
    client_class: Any = None,
    budget: PoolBudget | None = None,
    durability: Durability | None = None,
    **options: Any,
) -> Any:
    """Make a plain client of the driver, with options that were thought about.

    What counts, in this order: what the caller says here, what the URI says, what the profile says. None of them
    counts more than the budget: a pool that is larger is refused. The server is not waited for.

    Args:
        uri: Where to connect, as the driver takes it.
        profile: What kind of process this is.
        app_name: By what name the server's log and its lists of connections show this client.
        client_class: Another class than PyMongo's, such as Motor's.
        budget: How many connections there may be. It makes the profile's pool smaller, never larger.
        durability: What an acknowledgement means, whatever the URI says (URIs of Atlas say `w=majority`). None for
            what `w=` or the URI says, and a majority if they say nothing.
        **options: Any other option of the driver, by its own name.

    Returns:
        A client, to be closed by the caller.

    Raises:
        UsageError: If the driver has no such option (the nearest is named), one is said twice or in vain, a number
            does not fit the budget, or the class is of the other world. No value of an option is shown.
        PyMongoError: Of the driver, on a URI that is none; or its own `ValueError` or `TypeError` on another value.
    """
    w = w_of(durability)
    return _PLAN.settle(client_class, uri, profile, app_name=app_name, budget=budget, w=w, options=options).make()


@overload
def shared_async_client(
    uri: str,
    *,
    profile: Profile,
    app_name: str,
    client_class: None = None,
    budget: PoolBudget | None = None,
    durability: Durability | None = None,
    **options: Any,
) -> AbstractAsyncContextManager[AsyncMongoClient[dict[str, Any]]]: ...
@overload
def shared_async_client(
    uri: str,
    *,
    profile: Profile,
    app_name: str,
    client_class: type[ClientT],
    budget: PoolBudget | None = None,
    durability: Durability | None = None,
    **options: Any,
) -> AbstractAsyncContextManager[ClientT]: ...
@asynccontextmanager
async def shared_async_client(
    uri: str,
    *,
    profile: Profile,
    app_name: str,
    client_class: Any = None,
    budget: PoolBudget | None = None,
    durability: Durability | None = None,
    **options: Any,
) -> AsyncIterator[Any]:
    """Enter the one client of this process, this event loop and these arguments.

    The first who enters makes it, the last who leaves closes it. A forked child and another event loop are given
    clients of their own, for a client cannot be taken along: in a forked child each call of a client that was entered
    before raises a `UsageError`, and so does leaving it there. (Not seen are calls for which the driver picks no
    server: of a client that is connected to one directly, and of a cursor that was begun before.) Safe for tasks and
    threads.

    Args:
        uri: Where to connect, as the driver takes it.
        profile: As `make_async_client`, like all that follow. Arguments are the same if they are equal; listeners and
            other objects without an `==` of their own if they are the same object.
        app_name: By what name the server shows this client.
        client_class: Another class than PyMongo's.
        budget: How many connections there may be.
        durability: What an acknowledgement means.
        **options: Any other option of the driver.

    Raises:
        UsageError: As `make_async_client`; and on leaving, if this is another process or event loop.
        PyMongoError: Of the driver.
    """
    w = w_of(durability)
    settings = _PLAN.settle(client_class, uri, profile, app_name=app_name, budget=budget, w=w, options=options)
    lease = SHARED.take(
        settings.key,
        driver.current_loop(),
        lambda: settings.make(server_selector=guarded(settings.options.get("server_selector"))),
    )
    try:
        yield lease.client
    finally:
        await driver.to_the_end(SHARED.give_back(lease, driver.current_loop()))
