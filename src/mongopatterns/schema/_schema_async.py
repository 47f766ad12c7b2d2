"""Schemas on an asynchronous driver: sends what the plan built, hands the answers back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from pymongo.errors import OperationFailure

from mongopatterns import _driver_async as driver
from mongopatterns._driver import check_database
from mongopatterns.calls import Call
from mongopatterns.indexes import Index
from mongopatterns.schema._changes import SchemaPlan, SchemaProgress
from mongopatterns.schema._collection_spec import SchemaSpec
from mongopatterns.schema._merging import MergeResult
from mongopatterns.schema._schema_plan import SchemaPlanner
from mongopatterns.schema._steps import Nested, Pause, Round, Send, Tell
from mongopatterns.specs import check_spec
from mongopatterns.typing import AsyncDatabaseLike, Durability

__all__ = ["AsyncSchema"]


class AsyncSchema:
    """Bring a database to what its spec says: planned, applied, verified.

    Indexes are told apart by what they do, never by their names. What the spec does not name stays: collections,
    validators, and indexes. Only a plain index on exactly the keys of one that the spec says is taken for one that was
    replaced, and goes when the new one is there; and one beside which the server does not take the new one.

    Args:
        target: The database.
        spec: What it should hold.

    Raises:
        UsageError: If `target` is of the other world, or no database; or `spec` is no `SchemaSpec`.
    """

    def __init__(self, target: AsyncDatabaseLike[Any], spec: SchemaSpec) -> None:
        check_database(target)
        self.spec: SchemaSpec = check_spec(spec, SchemaSpec)
        bound: Any = driver.bind(target, "schema", Durability.MAJORITY)
        self._collection = bound
        self._plan = SchemaPlanner(spec, bound.database.name, bound.codec_options)
        self._does = {Send: self._send, Pause: self._pause, Tell: self._tell, Nested: self._nested}

    async def plan(
        self,
        *,
        drop_unknown: bool | Sequence[str] = False,
        usage: bool = False,
        timeout: float | None = None,
    ) -> SchemaPlan:
        """Tell what has to change, what it costs and risks, and what stands in its way. Changes nothing.

        Two commands, and one for each collection of the spec that is there, eight at a time. Where something has to
        change, one or two more for it: documents are counted from the metadata; before an index becomes unique, equal
        values are looked for, and before a validator is set, documents that do not fit, for up to a minute each.

        Not all equal values are found that the server refuses: not two empty lists, and not what dotted paths have of
        lists with other than documents in them, such as lists in lists. The server then refuses to build the index.

        Args:
            drop_unknown: Whether indexes that the spec does not name are dropped, in the collections that it names:
                all, or those of a list of `"collection.index"`.
            usage: Whether to look how often indexes are used, and to name those that are not: one command more for
                each collection.
            timeout: Seconds for the whole call.

        Raises:
            UsageError: On a bad option; nothing was sent.
            DeploymentError: If the server is older than 5.0.
        """
        return await self._call(self._plan.plan(drop_unknown=drop_unknown, usage=usage), timeout)  # type: ignore[no-any-return]

    async def apply(
        self,
        plan: SchemaPlan | None = None,
        *,
        drop_unknown: bool | Sequence[str] = False,
        drop: bool = True,
        on_progress: Callable[[SchemaProgress], Any] | None = None,
        timeout: float | None = None,
    ) -> SchemaPlan:
        """Change what has to change: nothing, if nothing has to; and nothing, if one of the changes is blocked.

        Several processes may apply the same spec at the same time: all of them succeed. A call that was interrupted is
        finished by the next. Indexes of one collection are built together, which reads its documents once.

        Sends what `plan` sends, then one command for each change (two or three for a few).

        Args:
            plan: What to do, as `plan` has told it; what has been done meanwhile is left out. None: whatever has to
                be done.
            drop_unknown: Without a plan, as in `plan`.
            drop: Whether indexes are dropped. If not, what was replaced stays hidden, until the next call that drops;
                to show it again takes one command.
            on_progress: Told of each change when it starts and when it is done, and of long builds about once a
                second how far they are, where the server lets one look (`inprog`); waited for if it has to be. An
                error that it raises ends the call.
            timeout: Seconds for the whole call. The server stops a build that takes longer.

        Returns:
            The changes that this call made, with the findings.

        Raises:
            UsageError: On a bad option; nothing was sent.
            SchemaDrift: If a change is blocked, or is not in the plan: it has the plan that now holds, and nothing of
                it was done.
            PyMongoError: Of the driver. What was done before stays: call again.
        """
        call = self._plan.apply(plan, drop_unknown=drop_unknown, drop=drop, on_progress=on_progress)
        return await self._call(call, timeout)  # type: ignore[no-any-return]

    async def verify(self, *, timeout: float | None = None) -> SchemaPlan:
        """Check that nothing has to change. Changes nothing, and reads no documents.

        Two commands, and one for each collection of the spec that is there, eight at a time.

        Returns:
            The empty plan, with its findings.

        Raises:
            SchemaDrift: If anything has to change; it has the plan.
        """
        return await self._call(self._plan.verify(), timeout)  # type: ignore[no-any-return]

    async def merge_duplicates(
        self,
        collection: str,
        index: Index,
        *,
        keep: Sequence[tuple[str, int]],
        limit: int = 1000,
        timeout: float | None = None,
    ) -> MergeResult:
        """Remove documents that share what an index is to keep unique, until each value has one.

        Each goes by a command of its own, found by its `_id`, if the values that the index has of it and its rank are
        as they were read, and is returned as it was. It goes only for one that stays, which is looked at right before.
        Nothing of it is merged into the one that stays: do that first, if it should be. Nothing keeps others from
        storing new ones meanwhile: apply the schema at once.

        It is looked at once more after the removal: if others have taken it away, as another call with a different
        `keep` does, what was removed is stored again as it was. Only if this call ends in between, or the server
        cannot be asked, and the other call has removed the one that stays, a value is gone.

        What the plan does not find as equal is not removed either: see `plan`.

        Args:
            collection: The collection's name.
            index: The index that is to be unique.
            keep: By which order the first is the one that stays, such as `[("updated_at", -1)]`; then by `_id`.
            limit: How many documents are removed at most, from 1 to 100,000.
            timeout: Seconds for the whole call.

        Raises:
            UsageError: On a bad argument; nothing was sent.
            OperationFailure: If a document cannot be stored again that was removed for one that went at the same
                moment, because of an index that was built meanwhile: `details["removed"]` has it.
            PyMongoError: Of the driver. What was removed before stays removed, and is not returned.
        """
        call = self._plan.merge_duplicates(collection, index, keep=keep, limit=limit)
        return await self._call(call, timeout)  # type: ignore[no-any-return]

    async def _call(self, call: Call[Round], timeout: float | None) -> Any:
        async with driver.call(self._collection, timeout):
            return await self._run(call)

    async def _run(self, call: Call[Round]) -> Any:
        """Take the steps that the plan asks for, round by round, until it has what it needs."""
        answers = None
        try:
            while steps := self._plan.again(call, answers):
                answers = await driver.together([partial(self._does[type(step)], step) for step in steps])
        finally:
            call.steps.close()
        return call.result

    async def _send(self, step: Any) -> Any:
        database = self._plan.database_of(step, self._collection.database)
        try:
            return await database.command(dict(step.command), codec_options=self._plan.codec_options_of(step))
        except OperationFailure as error:
            return error

    async def _pause(self, step: Any) -> None:
        await driver.pause(step.seconds)

    async def _tell(self, step: Any) -> None:
        await driver.settle(step.call(step.progress))

    async def _nested(self, step: Any) -> Any:
        return await self._run(step.call())
