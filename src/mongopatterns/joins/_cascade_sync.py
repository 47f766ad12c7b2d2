# Generated from src/mongopatterns/joins/_cascade_async.py by tools/generate_sync.py.
# Do not edit: change the source and run "make generate".
"""A cascade on an asynchronous driver: sends what the plan built, hands the replies back."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from pymongo.errors import OperationFailure
from pymongo.read_concern import ReadConcern
from pymongo.read_preferences import ReadPreference

from mongopatterns import _driver_sync as driver
from mongopatterns._driver import check_database
from mongopatterns.joins._cascade_commands import Delete, InSession, InTransaction, Read, Run, Told
from mongopatterns.joins._cascade_plan import CascadePlan, exact, refuse_standalone
from mongopatterns.joins._cascade_spec import CascadeResult, CascadeSpec, Orphans
from mongopatterns.specs import check_spec
from mongopatterns.typing import DatabaseLike, Durability

__all__ = ["Cascade"]

T = TypeVar("T")


class Cascade:
    """Delete documents with what belongs to them, children first; find and mend what was left behind.

    Needs the indexes that `spec.indexes()` names. Without them the same is deleted, and each command reads a whole
    collection.

    Args:
        target: A database.
        spec: What goes with what.
        durability: What an acknowledgement means.

    Raises:
        UsageError: If `target` is of the other world, or no database.
    """

    def __init__(
        self, target: DatabaseLike[Any], spec: CascadeSpec, *, durability: Durability = Durability.MAJORITY
    ) -> None:
        check_database(target)
        self.spec: CascadeSpec = check_spec(spec, CascadeSpec)
        self._top: Any = driver.bind(target, spec.collection, durability)
        self._plan = CascadePlan(spec, self._top.codec_options)
        options = exact(self._top.codec_options)
        self._collections: Mapping[str, Any] = {
            name: driver.bind(target, name, durability).with_options(codec_options=options) for name in spec.collections
        }
        self._senders: Mapping[type, Any] = {
            Read: self._read,
            Delete: self._delete,
            Told: self._tell,
            InSession: self._in_session,
            InTransaction: self._in_transaction,
        }

    def delete(
        self,
        filter: Mapping[str, Any],  # noqa: A002  # what the driver calls it
        *,
        keep: Iterable[Any] = (),
        transaction: bool = False,
        batch: int = 1000,
        on_progress: Callable[[CascadeResult], Any] | None = None,
        session: Any = None,
        timeout: float | None = None,
    ) -> CascadeResult:
        """Delete the documents that match, and what belongs to them.

        For each batch of parents: one command to read their keys, one to delete for each collection, and one more to
        read the keys of each kind of children that have children themselves. (More where there are more of these than
        10,000, or where keys have more than 4 MB: then in parts of that size.)

        A parent is deleted after all that belongs to it, so a call that ends early leaves no child without its parent:
        call again to finish. A parent that no longer matches when its turn comes is left, without its children.
        A child that somebody inserts in the meantime may be left behind: see `orphans`.

        Args:
            filter: Which parents, as the driver's `delete_many` takes it, of at most 4 MB; `{}` for all.
            keep: Ids of parents that stay even if they match, with what belongs to them.
            transaction: Do it all at one instant, or nothing, in a transaction of the driver, which repeats it when it
                meets another write: at most 10,000 documents. Needs a replica set or a sharded cluster.
            batch: How many parents at a time, from 1 to 100,000.
            on_progress: Called after each batch with the result so far, and waited for if it has to be. An error that
                it raises ends the call.
            session: A session of the driver. If it is in a transaction, this takes part in it, whatever its size.
            timeout: Seconds for the whole call.

        Returns:
            How many documents of each collection were deleted.

        Raises:
            UsageError: On a bad filter, option or timeout; nothing was sent.
            LimitExceeded: If a transaction would delete more than 10,000 documents; nothing was deleted.
            DeploymentError: If the server has no transactions and one was asked for; nothing was deleted.
            Conflict: If others changed children that have children, again and again, before they could be deleted;
                their parents are still there.
            StateError: If `keep` has the text of a parent's ObjectId: that parent and all after it were not deleted.
            PyMongoError: Of the driver. Without a transaction, what was deleted before stays deleted: call again.
                (`may_have_applied` tells of the last command alone.)
        """
        run = self._plan.delete(
            filter, keep=keep, transaction=transaction, batch=batch, on_progress=on_progress, session=session
        )
        with driver.call(self._top, timeout):
            return self._carry_out(run, session)

    def orphans(
        self, *, limit: int = 100, batch: int = 1000, session: Any = None, timeout: float | None = None
    ) -> list[Orphans]:
        """Name the children whose parents are gone: those that name parents, none of which is there.

        Reads every child's id and what names its parents, in batches. For each batch: one command to read, and one to
        ask for the parents (one more with `local_as="objectid"`, if there are orphans: it reads all texts among the
        parents' keys).

        Args:
            limit: How many of each kind at most, from 1 to 100,000.
            batch: How many children are read at a time, from 1 to 100,000.
            session: A session of the driver, to take part in its transaction.
            timeout: Seconds for the whole call.

        Returns:
            The orphans of each kind of children: those of the parents first, in the order of the spec.

        Raises:
            UsageError: On a bad option or timeout; nothing was sent.
        """
        run = self._plan.orphans(limit=limit, batch=batch)
        with driver.call(self._top, timeout):
            return self._carry_out(run, session)

    def delete_orphans(
        self,
        *,
        batch: int = 1000,
        on_progress: Callable[[CascadeResult], Any] | None = None,
        session: Any = None,
        timeout: float | None = None,
    ) -> CascadeResult:
        """Delete the children whose parents are gone, and then what belonged to these.

        As `orphans`, and one command more for each batch that has any. It deletes those that still name nobody but
        the parents that had just been missing. A parent that comes back in the moment between these two commands is
        not seen.

        Args:
            batch: How many children are read at a time, from 1 to 100,000.
            on_progress: Called after each batch with the result so far, and waited for if it has to be.
            session: A session of the driver, to take part in its transaction.
            timeout: Seconds for the whole call.

        Returns:
            How many documents of each collection were deleted.

        Raises:
            UsageError: On a bad option or timeout; nothing was sent.
            PyMongoError: Of the driver. What was deleted before stays deleted: call again.
                (`may_have_applied` tells of the last command alone.)
        """
        run = self._plan.delete_orphans(batch=batch, on_progress=on_progress)
        with driver.call(self._top, timeout):
            return self._carry_out(run, session)

    def _carry_out(self, run: Run[T], session: Any) -> T:
        while again := self._plan.again(run):
            run.go_on(self._senders[type(again)](again, session))
        return run.result  # type: ignore[return-value]  # it is done

    def _read(self, command: Read, session: Any) -> list[dict[str, Any]]:
        reading = getattr(self._collections[command.collection], command.method)
        cursor = driver.settle(reading(**command.arguments, session=session))
        found: list[dict[str, Any]] = cursor.to_list(None)
        return found

    def _delete(self, command: Delete, session: Any) -> int:
        answer = self._collections[command.collection].delete_many(**command.arguments, session=session)
        return answer.deleted_count  # type: ignore[no-any-return]

    def _tell(self, command: Told, _: Any) -> None:
        driver.settle(command.call(command.result))

    def _in_session(self, command: InSession, _: Any) -> Any:
        with driver.settle(self._top.database.client.start_session()) as session:
            return self._carry_out(command.run(), session)

    def _in_transaction(self, command: InTransaction, session: Any) -> Any:
        def attempt(session: Any) -> Any:
            return self._carry_out(command.run(), session)

        try:
            return driver.transaction(
                session, attempt, ReadConcern("snapshot"), self._top.write_concern, ReadPreference.PRIMARY
            )
        except OperationFailure as error:
            refuse_standalone(error)
            raise
