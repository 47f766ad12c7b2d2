"""Pages on an asynchronous driver: sends what the plan built, hands the answers back."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from pymongo.errors import OperationFailure
from typing_extensions import TypeVar

from mongopatterns import _driver_async as driver
from mongopatterns._driver import with_any_date
from mongopatterns.calls import Call
from mongopatterns.commands import Read
from mongopatterns.models import decode_all, decode_page
from mongopatterns.paging._pager_plan import STREAMED, PagerExplanation, PagerPlan
from mongopatterns.paging._pager_spec import Page, PagerSpec
from mongopatterns.specs import check_spec
from mongopatterns.typing import Durability

__all__ = ["AsyncPager"]

RowT = TypeVar("RowT", default=dict[str, Any])


class AsyncPager:
    """Give the documents of a collection page by page: each exactly once, in the server's own order.

    A page begins behind the last document of the one before, wherever that stands by now. So no document that is there
    all the time is left out or given twice, however many are inserted and deleted in between, and a page costs the same
    however many come before it, if an index serves the order (`spec.indexes()`, `explain`).

    A page is one command, and one for each join; with a session it may be a few.

    Args:
        target: A database, or the collection.
        spec: What the pages are.
        secret: What cursors are sealed with: text or bytes of at least 16 bytes, or a list of them, of which the first
            seals and all are accepted. Without one, a client may make a cursor that begins elsewhere in the same order
            and filter.

    Raises:
        UsageError: If `target` is of the other world, or no database or collection; or a secret is too short.
    """

    def __init__(
        self, target: driver.Target, spec: PagerSpec, *, secret: str | bytes | Sequence[str | bytes] | None = None
    ) -> None:
        self.spec: PagerSpec = check_spec(spec, PagerSpec)
        collection = _reader(target, spec.collection)
        self._plan = PagerPlan(spec, collection.name, secret=secret, codec_options=collection.codec_options)
        self._collection = collection
        self._joined = {name: _reader(collection.database, name) for name in self._plan.joined}
        self._joined[collection.name] = collection

    async def page(
        self,
        filter: Mapping[str, Any] | None = None,  # noqa: A002  # as PyMongo calls it
        *,
        params: Mapping[str, Any] | None = None,
        cursor: str | None = None,
        limit: int | None = None,
        fields: Sequence[str] | Mapping[str, int] | None = None,
        model: type[RowT] | None = None,
        session: Any = None,
        timeout: float | None = None,
    ) -> Page[RowT]:
        """Return a page: the first one, or the one that a cursor leads to.

        Args:
            filter: Which documents, as PyMongo's `find` takes it; None: all. A cursor belongs to the filter that it was
                made with.
            params: The values of the `Param`s of the spec's joins, by name.
            cursor: `next` or `previous` of another page; None: the first page.
            limit: How many documents, in place of the spec's.
            fields: What is given of them, in place of the spec's.
            model: What they are decoded into: a Pydantic model, a dataclass or a typed dict.
            session: A session of the driver.
            timeout: Seconds for the whole call.

        Raises:
            UsageError: On a bad argument; nothing was sent.
            InvalidCursor: On a cursor that is none, was changed, or belongs to another sort or filter.
            StateError: If a document of the page has a list in its sort keys, which has no one place in an order.
            pydantic.ValidationError: If a document does not fit the model.
        """
        query = self._plan.query(filter, params=params, cursor=cursor, limit=limit, fields=fields)
        page: Page[RowT] = decode_page(
            await self._run(self._plan.find(query, in_turn=session is not None), session, timeout), model
        )
        return page

    async def stream(
        self,
        filter: Mapping[str, Any] | None = None,  # noqa: A002  # as PyMongo calls it
        *,
        params: Mapping[str, Any] | None = None,
        fields: Sequence[str] | Mapping[str, int] | None = None,
        model: type[RowT] | None = None,
        batch: int = STREAMED,
        session: Any = None,
    ) -> AsyncIterator[RowT]:
        """Give all documents one after the other, in their order, in bounded memory.

        They are read page by page, and nothing is held open on the server in between: a stream may take as long as it
        likes, and goes on after an election. A wrong argument is refused when the first document is asked for.

        Args:
            filter: Which documents; None: all.
            params: The values of the `Param`s of the spec's joins, by name.
            fields: What is given of them, in place of the spec's.
            model: What they are decoded into.
            batch: How many are read at a time.
            session: A session of the driver.
        """
        walk = self._plan.walk(filter, params=params, batch=batch, fields=fields)
        while documents := await self._run(self._plan.further(walk, in_turn=session is not None), session, None):
            for row in decode_all(documents, model):
                yield row

    async def explain(
        self,
        filter: Mapping[str, Any] | None = None,  # noqa: A002  # as PyMongo calls it
        *,
        params: Mapping[str, Any] | None = None,
        cursor: str | None = None,
        limit: int | None = None,
        fields: Sequence[str] | Mapping[str, int] | None = None,
    ) -> PagerExplanation:
        """Tell what `page` would send with these arguments, which index serves it best, and whether one is there.

        Asks for the collection's indexes, and reads nothing else.
        """
        query = self._plan.query(filter, params=params, cursor=cursor, limit=limit, fields=fields)
        explanation: PagerExplanation = await self._run(self._plan.explain(query), None, None)
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
            return await driver.documents(self._joined[read.collection], read, session)
        except OperationFailure as error:
            return self._plan.refused(read, error)


def _reader(target: driver.Target, name: str) -> Any:
    return with_any_date(driver.bind(target, name, Durability.MAJORITY))
