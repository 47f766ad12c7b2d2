"""Joins on an asynchronous driver: sends what the plan built, hands the answers back."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from time import monotonic
from typing import Any

from pymongo.errors import OperationFailure
from typing_extensions import TypeVar

from mongopatterns import _driver_async as driver
from mongopatterns._driver import with_any_date
from mongopatterns.calls import Call
from mongopatterns.commands import Read
from mongopatterns.joins._join_plan import STREAMED, JoinExplanation, JoinPlan
from mongopatterns.joins._join_spec import JoinSpec
from mongopatterns.joins._join_ways import OnMissingIndex, Strategy
from mongopatterns.models import decode_all
from mongopatterns.specs import check_spec
from mongopatterns.typing import Durability

__all__ = ["AsyncJoin"]

RowT = TypeVar("RowT", default=dict[str, Any])


class AsyncJoin:
    """Read documents with what belongs to them in other collections: no query per document, in no case.

    Make it once, beside the client: it remembers what indexes there are.

    Every strategy gives the same rows, in the order of the parents. A row is the parent's document, and in it what was
    joined; rows share nothing with each other. Dates have their zone, UTC.

    A call is one command for the parents and one for each join (`batch`, up to 20,000 keys or 8 MB of them in one
    command), or one for all (`lookup`). The first call asks for the indexes of the joined collections as well, one
    command each, and later ones ask again every ten minutes; not with `on_missing_index="ignore"`. Where `auto` has to
    know whether a lookup pays, it asks for the number of documents, too. The parts of an answer are read one after the
    other: they are not of one instant.

    Args:
        target: A database; or the collection of the parents, whose database the others are in.
        spec: What is joined.
        strategy: `"batch"`, `"lookup"`, or `"auto"`, which looks up what rows are filtered by, and what a batch would
            read too much for: the first ones (`Many` with a limit, `One` with an order) of many documents of each
            parent, if an index leads to them.
        on_missing_index: What to do about a join that no index serves, when a call first meets it: `"warn"`
            (`MissingIndexWarning`, once), `"raise"` (`MissingIndex`) or `"ignore"`.

    Raises:
        UsageError: If `target` is of the other world, or no database or collection.
    """

    def __init__(
        self,
        target: driver.Target,
        spec: JoinSpec,
        *,
        strategy: Strategy = "auto",
        on_missing_index: OnMissingIndex = "warn",
    ) -> None:
        self.spec: JoinSpec = check_spec(spec, JoinSpec)
        self._collection = _reader(target, spec.collection)
        self._plan = JoinPlan(
            spec,
            self._collection.name,
            strategy=strategy,
            on_missing_index=on_missing_index,
            codec_options=self._collection.codec_options,
        )
        database: Any = self._collection.database
        self._collections = {name: _reader(database, name) for name in self._plan.joined}
        self._collections[self._collection.name] = self._collection

    async def find(
        self,
        filter: Mapping[str, Any] | None = None,  # noqa: A002  # as PyMongo calls it
        *,
        params: Mapping[str, Any] | None = None,
        joined: Mapping[str, Any] | None = None,
        sort: Sequence[tuple[str, int]] | None = None,
        skip: int = 0,
        limit: int = 0,
        fields: Sequence[str] | Mapping[str, int] | None = None,
        model: type[RowT] | None = None,
        session: Any = None,
        timeout: float | None = None,
    ) -> list[RowT]:
        """Return the parents that match, each with what is joined onto it.

        Args:
            filter: Which parents, as PyMongo's `find` takes it; None: all.
            params: The values of the spec's `Param`s, by name. They are data, whatever they are.
            joined: A filter on the finished rows, such as `{"response.status": "done"}`, applied before `skip` and
                `limit`. The server joins what it names onto every parent that matches `filter`.
            sort: The order of the parents, as pairs of a path and 1 or -1. Rows that are equal in it come in any
                order: end it with `_id` where that matters.
            skip: How many rows are left out at the start.
            limit: How many rows at most; 0: all.
            fields: What is given of the parents: a list of paths, to which `_id` is added, or an inclusion such as
                `{"title": 1, "_id": 0}`; what is joined always is.
            model: What rows are decoded into: a Pydantic model, a dataclass or a typed dict, joined parts included.
            session: A session of the driver.
            timeout: Seconds for the whole call.

        Raises:
            UsageError: On a bad argument; nothing was sent.
            MissingIndex: With `on_missing_index="raise"`.
            pydantic.ValidationError: If a row does not fit the model.
        """
        query = self._plan.query(filter, params=params, joined=joined, sort=sort, skip=skip, limit=limit, fields=fields)
        return decode_all(await self._run(self._plan.find(query, monotonic()), session, timeout), model)

    async def find_one(
        self,
        filter: Mapping[str, Any] | None = None,  # noqa: A002  # as PyMongo calls it
        *,
        params: Mapping[str, Any] | None = None,
        joined: Mapping[str, Any] | None = None,
        sort: Sequence[tuple[str, int]] | None = None,
        skip: int = 0,
        fields: Sequence[str] | Mapping[str, int] | None = None,
        model: type[RowT] | None = None,
        session: Any = None,
        timeout: float | None = None,
    ) -> RowT | None:
        """Return the first row that `find` would give, or None."""
        query = self._plan.query(filter, params=params, joined=joined, sort=sort, skip=skip, limit=1, fields=fields)
        rows = await self._run(self._plan.find(query, monotonic()), session, timeout)
        return next(iter(decode_all(rows, model)), None)

    async def count(
        self,
        filter: Mapping[str, Any] | None = None,  # noqa: A002  # as PyMongo calls it
        *,
        params: Mapping[str, Any] | None = None,
        joined: Mapping[str, Any] | None = None,
        session: Any = None,
        timeout: float | None = None,
    ) -> int:
        """Return how many rows `find` gives without `skip` and `limit`: the total of a page. One command."""
        query = self._plan.query(filter, params=params, joined=joined)
        return int(await self._run(self._plan.count(query, monotonic()), session, timeout))

    async def attach(
        self,
        documents: Sequence[Mapping[str, Any]],
        *,
        params: Mapping[str, Any] | None = None,
        model: type[RowT] | None = None,
        session: Any = None,
        timeout: float | None = None,
    ) -> list[RowT]:
        """Return documents in hand with what is joined onto them: one command for each join, whatever the strategy.

        Args:
            documents: What was read from the spec's collection, by any driver; the fields that the joins compare
                must be in them. They are not changed.
            params: The values of the spec's `Param`s, by name.
            model: What rows are decoded into.
            session: A session of the driver.
            timeout: Seconds for the whole call.
        """
        call = self._plan.attach(documents, params, monotonic())
        return decode_all(await self._run(call, session, timeout), model)

    async def aggregate(
        self,
        stages: Sequence[Mapping[str, Any]],
        *,
        params: Mapping[str, Any] | None = None,
        model: type[RowT] | None = None,
        session: Any = None,
        timeout: float | None = None,
    ) -> list[RowT]:
        """Return what a pipeline of the caller's own gives, with what is joined onto it.

        Args:
            stages: The stages. They are code: no value of a user may become a path or an operator in them.
            params: The values of the spec's `Param`s, by name.
            model: What rows are decoded into.
            session: A session of the driver.
            timeout: Seconds for the whole call.
        """
        call = self._plan.aggregate(stages, params, monotonic())
        return decode_all(await self._run(call, session, timeout), model)

    async def stream(
        self,
        filter: Mapping[str, Any] | None = None,  # noqa: A002  # as PyMongo calls it
        *,
        params: Mapping[str, Any] | None = None,
        joined: Mapping[str, Any] | None = None,
        sort: Sequence[tuple[str, int]] | None = None,
        skip: int = 0,
        limit: int = 0,
        fields: Sequence[str] | Mapping[str, int] | None = None,
        model: type[RowT] | None = None,
        session: Any = None,
    ) -> AsyncIterator[RowT]:
        """Give the rows of `find` one after the other, for any number of parents in bounded memory.

        1,000 parents are joined at a time, with one command for each join. Arguments are those of `find`; a wrong one
        is refused when the first row is asked for.
        """
        query = self._plan.query(filter, params=params, joined=joined, sort=sort, skip=skip, limit=limit, fields=fields)
        stream = await self._run(self._plan.stream(query, monotonic()), session, None)
        cursor = await self._open(stream.read.in_batches(STREAMED), session)
        try:
            while documents := await cursor.to_list(STREAMED):
                for row in decode_all(await self._run(self._plan.rows(stream, documents), session, None), model):
                    yield row
        finally:
            await driver.settle(cursor.close())

    async def explain(
        self,
        filter: Mapping[str, Any] | None = None,  # noqa: A002  # as PyMongo calls it
        *,
        params: Mapping[str, Any] | None = None,
        joined: Mapping[str, Any] | None = None,
        sort: Sequence[tuple[str, int]] | None = None,
        skip: int = 0,
        limit: int = 0,
        fields: Sequence[str] | Mapping[str, int] | None = None,
    ) -> JoinExplanation:
        """Tell what `find` would do with these arguments: the way of each join and why, indexes, and commands.

        Asks for indexes as `find` does, and reads nothing else. It warns of nothing: see its `findings`.
        """
        query = self._plan.query(filter, params=params, joined=joined, sort=sort, skip=skip, limit=limit, fields=fields)
        explanation: JoinExplanation = await self._run(self._plan.explain(query, monotonic()), None, None)
        return explanation

    async def _run(self, call: Call[Read], session: Any, timeout: float | None) -> Any:
        """Read what the plan asks for, until it has what it needs."""
        answer = None
        async with driver.call(self._collection, timeout):
            while read := self._plan.again(call, answer):
                answer = await self._read(read, session)
        return call.result

    async def _read(self, read: Read, session: Any) -> Any:
        try:
            return await (await self._open(read, session)).to_list(None)
        except OperationFailure as error:
            return self._plan.refused(read, error)

    async def _open(self, read: Read, session: Any) -> Any:
        """Open a cursor."""
        method = getattr(self._collections[read.collection], read.method)
        return await driver.settle(method(**read.call(session)))


def _reader(target: driver.Target, name: str) -> Any:
    """Return the collection to read from: keys that are dates are told apart, whatever their year."""
    return with_any_date(driver.bind(target, name, Durability.MAJORITY))
