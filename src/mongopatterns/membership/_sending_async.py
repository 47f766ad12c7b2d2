"""Send what a plan of this folder built, on an asynchronous driver."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mongopatterns import _driver_async as driver
from mongopatterns._driver import after_a_write
from mongopatterns.commands import Aggregate, FindOneAndUpdate
from mongopatterns.membership._commands import TellingPlan
from mongopatterns.typing import AsyncCollectionLike


class AsyncSending:
    """Send the writes of one plan; where the driver has repeated one, have the server tell again what it did."""

    def __init__(self, collection: AsyncCollectionLike[dict[str, Any]], plan: TellingPlan[Any]) -> None:
        self._collection = collection
        self._plan = plan

    async def write(self, command: FindOneAndUpdate, session: Any, timeout: float | None) -> Mapping[str, Any] | None:
        """Send one guarded write, and return its projected reply; None if it met no document."""
        async with driver.call(self._collection, timeout):
            reply: Any = await self._collection.find_one_and_update(**command.arguments(), session=session)
            if again := self._plan.again(command, reply):
                with after_a_write(session):
                    reply = (await self._read(again, session))[0]
        return reply  # type: ignore[no-any-return]  # the driver's

    async def read(self, command: Aggregate, session: Any, timeout: float | None) -> list[Mapping[str, Any]]:
        """Send one read, and return all that it found."""
        async with driver.call(self._collection, timeout):
            return await self._read(command, session)

    async def _read(self, command: Aggregate, session: Any) -> list[Mapping[str, Any]]:
        cursor = await driver.settle(
            self._collection.aggregate(command.pipeline, let=command.let, comment=command.comment, session=session)
        )
        found: list[Mapping[str, Any]] = await cursor.to_list(None)
        return found
