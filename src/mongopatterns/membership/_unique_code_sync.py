# Generated from src/mongopatterns/membership/_unique_code_async.py by tools/generate_sync.py.
# Do not edit: change the source and run "make generate".
"""Unique codes on an asynchronous driver: sends what the plan built, hands the reply back."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from bson import ObjectId
from pymongo.errors import DuplicateKeyError

from mongopatterns import _driver_sync as driver
from mongopatterns.commands import FindOneAndUpdate
from mongopatterns.membership._unique_code_plan import InsertOne, UniqueCodePlan, UniqueCodeSpec
from mongopatterns.specs import check_spec
from mongopatterns.typing import Durability

__all__ = ["UniqueCode"]


class UniqueCode:
    """Give documents short codes: no two live documents of a collection ever share one.

    Args:
        target: A database, or the collection itself. Its indexes (`spec.indexes()`) must exist: it is the index of
            the codes that keeps them apart.
        spec: What codes look like, and where.
        durability: What an acknowledgement means.

    Raises:
        UsageError: If `target` is of the other world, or no database or collection.
    """

    def __init__(
        self, target: driver.Target, spec: UniqueCodeSpec, *, durability: Durability = Durability.MAJORITY
    ) -> None:
        self.spec: UniqueCodeSpec = check_spec(spec, UniqueCodeSpec)
        self._collection = driver.bind(target, spec.collection, durability)
        self._plan = UniqueCodePlan(spec, self._collection.name, self._collection.codec_options)

    def insert(
        self,
        document: Mapping[str, Any],
        *,
        code: str | None = None,
        session: Any = None,
        timeout: float | None = None,
    ) -> dict[str, Any]:
        """Store a new document with a code that no other live document has.

        One round trip; one more for each random code that is taken, at most the spec's `tries` in all.

        Args:
            document: What is stored: a copy of it, with the code. It must be live, and have no code yet. Its `_id`
                is kept, and may be any value with a plain equality; without one it gets an ObjectId.
            code: The code that it is to have, of 1 to 200 printable characters; a random one without it.
            session: A session of the driver, to take part in its transaction. There is one try in a transaction, as
                the server ends a transaction whose code is taken.
            timeout: Seconds for the whole call, all tries included.

        Returns:
            The document as it is stored, with `_id` and code, and as a read would give it: dates are aware, in UTC,
            with milliseconds; tuples are lists.

        Raises:
            UsageError: On a bad code or timeout, and on a document that cannot be stored, is not live or has a code;
                nothing was sent.
            Conflict: If the code is taken, or all that were tried are; nothing was stored. Its `key` is the code; of
                several the last.
            DuplicateKeyError: If another unique index refused the document, such as that of `_id`.
            DocumentTooLarge: Of the driver, if the document passes the 16 MB that the server stores.
        """
        claim = self._plan.insert(document, code=code, fresh=ObjectId(), session=session)
        with driver.call(self._collection, timeout):
            while again := self._plan.again(claim, self._draw()):
                claim = self._plan.told(again, self._answer(self._insert, again.command, session))
        return claim.result  # type: ignore[no-any-return]  # decided

    def assign(self, key: Any, *, code: str | None = None, session: Any = None, timeout: float | None = None) -> str:
        """Return the code of a live document, which gets one if it has none.

        One round trip; one more for each random code that is taken, at most the spec's `tries` in all. A repeat
        returns the same code.

        Args:
            key: The value of the spec's key field.
            code: The code that it is to have, of 1 to 200 printable characters; any without it.
            session: A session of the driver, to take part in its transaction. There is one try in a transaction, as
                the server ends a transaction whose code is taken.
            timeout: Seconds for the whole call, all tries included.

        Raises:
            UsageError: On a bad key, code or timeout; nothing was sent.
            DocumentNotFound: If there is no such document.
            Conflict: If the code is taken, or all that were tried are: then its `key` is the code, of several the
                last. Or if the document is not live, or has another code than the one asked for: then its `key` is
                that of the document. Nothing was changed.
            StateError: If what stands in the place of the code is no text.
        """
        claim = self._plan.assign(key, code=code, session=session)
        with driver.call(self._collection, timeout):
            while again := self._plan.again(claim, self._draw()):
                claim = self._plan.told(again, self._answer(self._update, again.command, session))
        return claim.result  # type: ignore[no-any-return]  # decided

    def find(
        self, code: str, *, fields: Sequence[str] | None = None, session: Any = None, timeout: float | None = None
    ) -> dict[str, Any] | None:
        """Return the live document that has a code; None if there is none.

        One round trip, to the primary, which reads one entry of the index.

        Args:
            code: The code, exactly as it is stored.
            fields: The dotted paths that are wanted, besides `_id`; the whole document without them.
            session: A session of the driver.
            timeout: Seconds for the whole call.

        Raises:
            UsageError: On a bad code, path or timeout.
        """
        query = self._plan.find(code, fields=fields)
        with driver.call(self._collection, timeout):
            return self._collection.find_one(query.filter, query.projection, session=session, comment=query.comment)

    def _draw(self) -> str:
        return "".join(secrets.choice(self.spec.alphabet) for _ in range(self.spec.length))

    def _answer(self, send: Callable[..., Any], command: Any, session: Any) -> Any:
        """Send one try, and return what came back: the plan knows what a duplicate key tells."""
        try:
            return send(command, session)
        except DuplicateKeyError as error:
            return error

    def _insert(self, command: InsertOne, session: Any) -> Any:
        return self._collection.insert_one(command.document, session=session, comment=command.comment)

    def _update(self, command: FindOneAndUpdate, session: Any) -> Any:
        return self._collection.find_one_and_update(**command.arguments(), session=session)
