# Generated from src/mongopatterns/client/_deployment_async.py by tools/generate_sync.py.
# Do not edit: change the source and run "make generate".
"""A deployment on an asynchronous driver: asks what the plan wants to know, hands the answers back."""

from __future__ import annotations

from typing import Any

from pymongo.errors import PyMongoError

from mongopatterns import _driver_sync as driver
from mongopatterns._driver import deadline, utc_now
from mongopatterns.client._deployment_plan import Answer, Ask, DeploymentPlan
from mongopatterns.client._deployment_report import DeploymentReport, Requirements

__all__ = ["Deployment"]

_ANYTHING = Requirements()


class Deployment:
    """Ask a deployment what it is, and whether it has what an application needs.

    Args:
        client: A client of the driver. If its connection string names a database, the read that waits for a majority
            goes there: the user must be allowed to read it.

    Raises:
        UsageError: If it is no client, or one of the other world.
    """

    def __init__(self, client: Any) -> None:
        driver.check_client(client)
        self._client = client
        self._plan = DeploymentPlan(client.get_default_database("admin").name)

    def check(self, requirements: Requirements = _ANYTHING, *, timeout: float | None = None) -> DeploymentReport:
        """Check the deployment against requirements, and report what it is.

        Four commands at most: `buildInfo`, `hello`, `serverStatus`, and, on a replica set with `majority=True`, a read
        that waits for a majority of the members, five seconds at most. Nothing is written to a database. Only `hello`
        has to be allowed: what is refused is None in the report, and a requirement that can therefore not be judged
        is a warning among its findings.

        Args:
            requirements: What the application needs. Without them, a server of at least 5.0 and a majority.
            timeout: Seconds for the whole call.

        Returns:
            What was found. Its `findings` may have warnings.

        Raises:
            UsageError: On bad requirements or a bad timeout; nothing was sent.
            DeploymentError: If something required is lacking: the message lists all of it, each with its remedy, and
                `findings` and `report` have it as data.
            PyMongoError: Of the driver, if the server does not answer.
        """
        run = self._plan.check(requirements)
        answer = None
        with deadline(timeout):
            while ask := self._plan.again(run, answer):
                answer = self._ask(ask)
        return run.result  # type: ignore[no-any-return]

    def _ask(self, ask: Ask) -> Answer:
        began = utc_now()
        try:
            with deadline(ask.seconds):
                reply = self._client[ask.database].command(ask.command)
        except PyMongoError as error:
            return Answer(began, utc_now(), error=error)
        # The one place where the driver tells it, and it knows it only now if names had to be looked up (mongodb+srv).
        tls = self._client.options.pool_options._ssl_context is not None  # noqa: SLF001
        return Answer(began, utc_now(), reply, tls=tls)
