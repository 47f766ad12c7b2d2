# Generated from src/mongopatterns/counters/_quota_async.py by tools/generate_sync.py.
# Do not edit: change the source and run "make generate".
"""A quota on an asynchronous driver: sends what the plan built, hands the reply back."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Any

from bson import ObjectId
from typing_extensions import Self

from mongopatterns import _driver_sync as driver
from mongopatterns._driver import utc_now
from mongopatterns.amounts import Amount
from mongopatterns.commands import Aggregate, FindOneAndUpdate
from mongopatterns.counters._combining_sync import Combining
from mongopatterns.counters._commands import Ask
from mongopatterns.counters._quota_plan import QuotaPlan, W
from mongopatterns.counters._specs import QuotaSpec
from mongopatterns.counters._verdicts import Decision, Reservation, Settlement
from mongopatterns.specs import check_spec
from mongopatterns.typing import Durability

__all__ = ["Quota"]


class Quota:
    """Grant while every window has room: exactly, in one write, for any number of callers.

    Every call is one round trip, with the arguments `session` (a session of the driver, to take part in its
    transaction), `timeout` (seconds for the whole call) and `now` (an aware datetime instead of the server's
    clock, for tests). If the driver's error says that the outcome of a write is unknown,
    `may_have_applied(error)` is true. What every call raises: `UsageError` on a bad argument, and nothing was
    sent; `DocumentNotFound` if there is no document and the spec says `create=None`; `StateError` if the stored
    state, or a limit read from the document, is not what the spec describes, and nothing was changed.

    Args:
        target: A database, or the collection itself.
        spec: The windows, and where their state lives.
        combine: Whether callers of this process that `consume` or `record` on one key at the same time share
            round trips. The server decides on each in its order, and each gets its own exact verdict, after the
            acknowledgement; `OutcomeUnknown` and `NotSent` may be raised. `close()` waits for those under way.
        durability: What an acknowledgement means.

    Raises:
        UsageError: If `target` is of the other world, or no database or collection.
    """

    def __init__(
        self,
        target: driver.Target,
        spec: QuotaSpec,
        *,
        combine: bool = False,
        durability: Durability = Durability.MAJORITY,
    ) -> None:
        self.spec: QuotaSpec = check_spec(spec, QuotaSpec)
        self._collection = driver.bind(target, spec.collection, durability)
        self._plan = QuotaPlan(spec, self._collection.name, self._collection.codec_options)
        self._sender = Combining(self._alone, self._together, self._plan.lane, combine=combine, name="quota")

    def consume(
        self,
        key: Any,
        amount: Amount = 1,
        *,
        meters: Mapping[str, Amount] | None = None,
        once: str | None = None,
        session: Any = None,
        timeout: float | None = None,
        now: dt.datetime | None = None,
    ) -> Decision:
        """Charge `amount` to all windows of `key` if each of them has room; else to none.

        A refused call writes nothing and creates nothing. (The first charge of a binding that meets a grant or a
        reservation of another takes a second round trip.)

        Args:
            key: The value of the spec's key field.
            amount: Greater than 0 and at most 10**15; fractions are exact decimals.
            meters: What is added to the spec's meters if the call is granted, by name.
            once: An id, of at most 200 characters: a repeat with the id of a granted call charges nothing and is
                allowed (`repeated`), as long as the spec's `once_kept` later ids have not displaced it.
            session: A session of the driver. Calls with a session, an id or a time travel alone.
            timeout: Seconds for the whole call.
            now: An aware datetime instead of the server's clock, for tests.

        Returns:
            The verdict: true if granted. `.require()` raises if not.
        """
        return self._sender.send(self._plan.ask("consume", key, amount, meters), session, timeout, now, once)

    def record(
        self,
        key: Any,
        amount: Amount = 1,
        *,
        meters: Mapping[str, Amount] | None = None,
        once: str | None = None,
        session: Any = None,
        timeout: float | None = None,
        now: dt.datetime | None = None,
    ) -> Decision:
        """Charge `amount` to all windows of `key`, room or not: metering of what has already happened.

        Arguments are those of `consume`.

        Returns:
            The verdict: always true; `exceeded` names the windows that are past their limit.
        """
        return self._sender.send(self._plan.ask("record", key, amount, meters), session, timeout, now, once)

    def refund(
        self,
        key: Any,
        amount: Amount,
        *,
        meters: Mapping[str, Amount] | None = None,
        once: str | None = None,
        session: Any = None,
        timeout: float | None = None,
        now: dt.datetime | None = None,
    ) -> Decision:
        """Give back what was charged: to each window that is running, beyond that to its bank, up to the cap.

        What a window can take back neither way (the charge was made in an earlier one) is dropped, and the
        verdict's `dropped` says so. What was paid from a grant goes back to it, as long as
        no window has ended since. A charge and its refund may carry
        the same `once`. Where windows begin with their first use, a refund begins one as a charge does.

        Returns:
            The verdict: always true.
        """
        call = self._plan.write(self._plan.ask("refund", key, amount, meters), token=ObjectId(), now=now, once=once)
        return self._plan.refunded(call, self._write(call.command, session, timeout), clock=utc_now())

    def grant(
        self,
        key: Any,
        amount: Amount,
        *,
        once: str | None = None,
        session: Any = None,
        timeout: float | None = None,
        now: dt.datetime | None = None,
    ) -> Decision:
        """Give `amount` on top of the limits: calls that the windows have no room for use it up.

        Returns:
            The verdict: always true; `extra` is what was given and is left.

        Raises:
            UsageError: Also if no window has a limit.
        """
        call = self._plan.write(self._plan.grant(key, amount), token=ObjectId(), now=now, once=once)
        return self._plan.decide(call, self._write(call.command, session, timeout), clock=utc_now())

    def set_state(
        self,
        key: Any,
        *,
        used: Mapping[str, Amount] | None = None,
        banked: Mapping[str, Amount] | None = None,
        session: Any = None,
        timeout: float | None = None,
        now: dt.datetime | None = None,
    ) -> Decision:
        """Say what the running windows hold, by window: to adopt what another layout stored, or to correct it.

        Windows that are not named stay as they are, and so does everything else. A state of the wrong type is
        replaced if `used` names all windows, and only then.

        Returns:
            The verdict: always true.
        """
        ask, state = self._plan.set_state(key, used, banked)
        call = self._plan.write(ask, token=ObjectId(), now=now, state=state)
        return self._plan.decide(call, self._write(call.command, session, timeout), clock=utc_now())

    def reserve(
        self,
        key: Any,
        amount: Amount = 1,
        *,
        ttl: float,
        session: Any = None,
        timeout: float | None = None,
        now: dt.datetime | None = None,
    ) -> Reservation:
        """Hold `amount` if every window has room, until it is settled or released, or for `ttl` seconds.

        What is held counts against every window that is running meanwhile, and is charged when it is settled.
        It ends by itself on the server's clock.

        Args:
            key: The value of the spec's key field.
            amount: Greater than 0 and at most 10**15.
            ttl: Seconds, from 0.001 to 31 days.
            session: A session of the driver.
            timeout: Seconds for the whole call.
            now: An aware datetime instead of the server's clock, for tests.

        Returns:
            The reservation: true if the amount is held; its `token` goes to `settle` or `release`, in any process.

        Raises:
            StateError: Also if 1,000 reservations of the key are open.
        """
        ask, lasts = self._plan.reserve(key, amount, ttl)
        call = self._plan.write(ask, token=ObjectId(), now=now, ttl=lasts)
        return self._plan.reserved(call, self._write(call.command, session, timeout), clock=utc_now())

    def settle(
        self,
        token: str,
        used: Amount,
        *,
        meters: Mapping[str, Amount] | None = None,
        session: Any = None,
        timeout: float | None = None,
        now: dt.datetime | None = None,
    ) -> Settlement:
        """End a reservation, and charge what was used of it: less than was held, or 0, or more.

        It has happened, and is charged in full as `record` does. Settling twice charges once. A reservation that
        has expired is charged all the same, and the outcome says that it was late. (Of a key's reservations that
        expired, the 32 that were made last are known.)
        """
        ask, hold = self._plan.hold("settle", token, used, meters)
        call = self._plan.write(ask, token=ObjectId(), now=now, hold=hold)
        return self._plan.settled(call, self._write(call.command, session, timeout), clock=utc_now())

    def release(
        self, token: str, *, session: Any = None, timeout: float | None = None, now: dt.datetime | None = None
    ) -> bool:
        """End a reservation without a charge. True if there was one, expired or not."""
        ask, hold = self._plan.hold("release", token)
        call = self._plan.write(ask, token=ObjectId(), now=now, hold=hold)
        return bool(self._plan.settled(call, self._write(call.command, session, timeout), clock=utc_now()))

    def peek(
        self,
        key: Any,
        amount: Amount = 1,
        *,
        session: Any = None,
        timeout: float | None = None,
        now: dt.datetime | None = None,
    ) -> Decision:
        """Tell what `consume` would decide now, and how every window stands. Writes nothing.

        Read from the primary. Another caller may be quicker: to act on it, `consume`.
        """
        ask = self._plan.ask("peek", key, amount)
        replies = self._read(self._plan.peek(ask, now=now), session, timeout)
        return self._plan.seen(ask, replies, now=now, clock=utc_now())

    def peek_many(
        self,
        keys: Sequence[Any],
        amount: Amount = 1,
        *,
        session: Any = None,
        timeout: float | None = None,
        now: dt.datetime | None = None,
    ) -> dict[Any, Decision]:
        """Tell about every key what `peek` tells, in the order asked: one round trip for up to 10,000 keys.

        If the spec says `create=None`, keys without a document are left out. Documents cannot be keys here.
        """
        asked = self._plan.peek_many(keys, amount, now=now)
        replies = self._read(asked.command, session, timeout)
        return self._plan.seen_many(asked, replies, now=now, clock=utc_now())

    def reset(self, key: Any, *, session: Any = None, timeout: float | None = None) -> bool:
        """Forget the state of `key`; the rest of its document stays. True if there was any.

        A state of the wrong type, which every other call refuses, is removed as well.
        """
        query, update = self._plan.reset(key)
        with driver.call(self._collection, timeout):
            result = self._collection.update_one(query, update, session=session, comment="mongopatterns.quota.reset")
        return bool(result.modified_count)

    def explain(self, key: Any, amount: Amount = 1) -> dict[str, Any]:
        """Return the arguments of the one `find_one_and_update` that `consume` sends, for reading. Sends nothing."""
        return self._plan.explain(key, amount)

    def close(self) -> None:
        """Wait for the calls that share round trips; later ones raise `UsageError`. Without `combine`: nothing."""
        self._sender.close()

    def __enter__(self) -> Self:
        """Return the quota; it is closed at the end of the block."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()

    def _alone(
        self,
        ask: Ask,
        timeout: float | None,
        *,
        session: Any = None,
        now: dt.datetime | None = None,
        once: str | None = None,
    ) -> Decision:
        call = self._plan.write(ask, token=ObjectId(), now=now, once=once)
        with driver.call(self._collection, timeout):
            call, reply = self._answered(call, session)
        return self._plan.decide(call, reply, clock=utc_now())

    def _together(self, asks: Sequence[Ask], timeout: float | None) -> Sequence[Decision]:
        call = self._plan.group(asks, token=ObjectId())
        with driver.call(self._collection, timeout):
            call, reply = self._answered(call, None)
        return self._plan.decide_all(call, reply, clock=utc_now())

    def _answered(self, call: W, session: Any) -> tuple[W, Any]:
        """Send a call, once more if it has met what it did without; return what was sent last, and the reply."""
        reply = self._send(call.command, session)
        if again := self._plan.again(call, reply):
            return again, self._send(again.command, session)
        return call, reply

    def _write(self, command: FindOneAndUpdate, session: Any, timeout: float | None) -> Any:
        with driver.call(self._collection, timeout):
            return self._send(command, session)

    def _send(self, command: FindOneAndUpdate, session: Any) -> Any:
        return self._collection.find_one_and_update(**command.arguments(), session=session)

    def _read(self, command: Aggregate, session: Any, timeout: float | None) -> list[Any]:
        with driver.call(self._collection, timeout):
            cursor = driver.settle(
                self._collection.aggregate(command.pipeline, let=command.let, session=session, comment=command.comment)
            )
            documents: list[Any] = cursor.to_list(None)
        return documents
