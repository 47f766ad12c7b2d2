# Generated from src/mongopatterns/client/_health_async.py by tools/generate_sync.py.
# Do not edit: change the source and run "make generate".
"""Health on an asynchronous driver: asks, and hands what came of it to the plan."""

from __future__ import annotations

from time import monotonic
from typing import Any

from pymongo.errors import PyMongoError

from mongopatterns import _driver_sync as driver
from mongopatterns._driver import deadline
from mongopatterns.client._health_plan import COMMENT, HealthPlan, HealthReport

__all__ = ["Health"]


class Health:
    """Tell whether a process is alive, and whether its database can be used: what two endpoints answer.

    Args:
        client: The client of the driver that the application uses, so that its pool is asked too.

    Raises:
        UsageError: If it is no client, or one of the other world.
    """

    def __init__(self, client: Any) -> None:
        driver.check_client(client)
        self._client = client
        self._plan = HealthPlan()

    def live(self) -> HealthReport:
        """Tell that the process turns. The server is not asked.

        Who fails a liveness probe is restarted, and a restart brings no database back: when it is down, every process
        would be restarted again and again, and come back with a cold start and a storm of new connections. So this
        answers whenever it gets its turn. A process that hangs does not answer at all, which is what the probe sees.

        Returns:
            The verdict, with how long the turn took.
        """
        began = monotonic()
        driver.pause(0)
        return self._plan.alive(monotonic() - began)

    def ready(self, *, timeout: float | None = 1.0) -> HealthReport:
        """Ask the primary whether it answers, with one `ping` over a connection of the client's own pool.

        It needs no rights and is allowed on every tier. Whatever keeps the application from its database is a verdict,
        with the driver's error kept; what is no matter of connectivity is raised.

        Args:
            timeout: Seconds for all of it: waiting for a connection, for a primary and for the answer. Give the probe
                that calls this more, so that it is told the reason.

        Returns:
            The verdict: true when the primary has answered.

        Raises:
            UsageError: On a bad timeout; nothing was sent.
            PyMongoError: Of the driver, if it says that the program is wrong, such as a client that was closed.
        """
        began = monotonic()
        try:
            with deadline(timeout):
                self._client["admin"].command("ping", comment=COMMENT)
        except PyMongoError as error:
            return self._plan.not_ready(error, self._client.topology_description, monotonic() - began)
        return self._plan.ready(monotonic() - began)
