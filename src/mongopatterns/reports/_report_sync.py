# Generated from src/mongopatterns/reports/_report_async.py by tools/generate_sync.py.
# Do not edit: change the source and run "make generate".
"""Reports on an asynchronous driver: sends what the plan built, hands the answers back."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from pymongo.errors import AutoReconnect, OperationFailure

from mongopatterns import _driver_sync as driver
from mongopatterns._driver import at_time, with_any_date
from mongopatterns.calls import Call
from mongopatterns.commands import Read
from mongopatterns.models import decode_parts
from mongopatterns.reports._report_plan import Answer, ReportExplanation, ReportPlan, Round, Strategy
from mongopatterns.reports._report_spec import ReportSpec
from mongopatterns.specs import check_spec
from mongopatterns.typing import Durability

__all__ = ["Report"]


class Report:
    """Tell of the documents of a collection what a dashboard shows, in few commands that are under way together.

    Args:
        target: A database, or the collection that is told of.
        spec: What is told.
        strategy: `"auto"`: pages and counts by themselves, everything else in two passes over the documents;
            `"facet"`: one command; `"parallel"`: a command for each branch.
        read_preference: Which members are asked, such as `ReadPreference.SECONDARY_PREFERRED`; by default the primary.
        allow_disk_use: Whether the server may write to disk what does not fit into its memory; None: its own default.
        secret: What the cursors of pages are signed with (see `Pager`).

    Raises:
        UsageError: If `target` is of the other world, or no database or collection; or an option is none.
    """

    def __init__(
        self,
        target: driver.Target,
        spec: ReportSpec,
        *,
        strategy: Strategy = "auto",
        read_preference: Any = None,
        allow_disk_use: bool | None = None,
        secret: Any = None,
    ) -> None:
        self.spec: ReportSpec = check_spec(spec, ReportSpec)
        bound: Any = driver.bind(target, spec.collection, Durability.MAJORITY, read_preference)
        self._collection = with_any_date(bound)
        self._plan = ReportPlan(
            spec,
            self._collection.name,
            strategy=strategy,
            allow_disk_use=allow_disk_use,
            secret=secret,
            codec_options=self._collection.codec_options,
        )

    def run(
        self,
        filter: Mapping[str, Any] | None = None,  # noqa: A002  # as PyMongo calls it
        *,
        params: Mapping[str, Any] | None = None,
        cursors: Mapping[str, str | None] | None = None,
        consistent: bool = False,
        session: Any = None,
        timeout: float | None = None,
    ) -> dict[str, Any]:
        """Return what is told of each branch, by name: dicts, or rows of the branch's model; JSON-able as they are.

        Args:
            filter: Which documents, as PyMongo's `find` takes it; None: all.
            params: The values of the spec's `Param`s, by name. They are data, whatever they are.
            cursors: Of branches that are pages, where they go on, by name.
            consistent: Whether all is read at one instant, so that totals are the sum of their groups while others
                write. It costs one round trip more, and needs a replica set or a sharded cluster.
            session: A session of the driver; commands then go one after the other.
            timeout: Seconds for the whole call.

        Raises:
            UsageError: On a bad argument; nothing was sent.
            InvalidCursor: On a cursor that is none, or is of another report, sort or filter.
            ResultTooLarge: If a branch holds more than it may; the others are not told either.
            DeploymentError: If the server is too old for a branch, or reads no snapshots for `consistent=True`.
            pydantic.ValidationError: If a row does not fit its model.
        """
        query = self._plan.query(filter, params=params, cursors=cursors, consistent=consistent, session=session)
        return decode_parts(self._run(self._plan.run(query), session, timeout), self.spec.models)

    def explain(
        self,
        filter: Mapping[str, Any] | None = None,  # noqa: A002  # as PyMongo calls it
        *,
        params: Mapping[str, Any] | None = None,
        cursors: Mapping[str, str | None] | None = None,
        consistent: bool = False,
    ) -> ReportExplanation:
        """Tell what `run` would send with these arguments and why, and which indexes would help.

        Asks for the collection's indexes, and reads nothing else.
        """
        query = self._plan.query(filter, params=params, cursors=cursors, consistent=consistent)
        explanation: ReportExplanation = self._run(self._plan.explain(query), None, None)
        return explanation

    def _run(self, call: Call[Round], session: Any, timeout: float | None) -> Any:
        """Read what the plan asks for, round by round, until it has what it needs."""
        answers = None
        with driver.call(self._collection, timeout):
            while reads := self._plan.again(call, answers):
                answers = driver.together([partial(self._read, read, session) for read in reads])
        return call.result

    def _read(self, read: Read, session: Any) -> Answer:
        try:
            return driver.documents(at_time(self._collection, read.at), read, session)
        except (OperationFailure, AutoReconnect) as error:
            return self._plan.refused(read, error)
