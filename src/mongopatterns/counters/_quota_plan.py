"""What a quota sends, and what the answers mean. Pure: no client, no clock, no randomness.

A quota's state is one small document under the spec's path, inside the caller's own document:

```
{"at": <server time of the last write>, "by": <token of the call that made it>,
 "hour": {"end": <when the window ends>, "used": 3, "bank": 20}, "day": {...}}
```

and, once they are used, `extra` (what was granted: `left`, and what of it was `lent` to the windows that run `until`
a time), `holds` (reservations), `meters`, `once` (ids that were counted) and `note` (what the last unusual call has
to tell).

A window is known by its *end*. As long as the server's clock is before it nothing moves, so a clock that steps
back, or a zone whose midnight comes twice, cannot reopen a window. Past it, one expression rolls the window on,
banks what each elapsed window left, and charges the call, in the same write.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property, partial
from typing import Any, Final, TypeVar

from bson import ObjectId
from bson.codec_options import CodecOptions
from bson.raw_bson import RawBSONDocument

from mongopatterns._grouping import runs
from mongopatterns.amounts import MAX_AMOUNT, Amount, Number, add, amount_value, multiply, plain
from mongopatterns.commands import REPLY, Aggregate, FindOneAndUpdate, identities
from mongopatterns.counters._commands import Ask, Asks, StatePlan, Told, meter_values, once_id
from mongopatterns.counters._quota_pipeline import MAX_HOLDS, Call, QuotaPipeline
from mongopatterns.counters._quota_state import Standing, StateReader, field_number, fresh_room
from mongopatterns.counters._specs import QuotaSpec
from mongopatterns.counters._verdicts import Decision, Reservation, Settlement, SettleOutcome
from mongopatterns.errors import DocumentNotFound, StateError, UsageError
from mongopatterns.expressions import ANY_UUID, at_path, bson_identity, check_time, key_filter, literal
from mongopatterns.holders import Holder

# How ids of `once=` are stored: a charge and its refund may carry one id.
_SIGNS: Final = {"consume": "+", "record": "+", "refund": "-", "grant": "*"}
_MOST_KEYS: Final = 10_000
_LONGEST_HOLD: Final = 31 * 86_400


@dataclass(frozen=True, slots=True)
class Write:
    """One call that writes: what is sent, and what is needed to read the answer."""

    ask: Ask
    token: ObjectId
    now: dt.datetime | None
    command: FindOneAndUpdate
    once: str | None = None
    hold: ObjectId | None = None
    plain: bool = False


@dataclass(frozen=True, slots=True)
class Together:
    """Calls that are decided in one write: equal ones in a row are a run.

    Attributes:
        whole: Whether they are decided on as if they were one call: all are granted, or nothing is written.
    """

    asks: Sequence[Ask]
    runs: Sequence[tuple[Ask, int]]
    token: ObjectId
    command: FindOneAndUpdate
    plain: bool
    whole: bool = False


W = TypeVar("W", Write, Together)


@dataclass(frozen=True, slots=True)
class PeekMany:
    """A question for many keys: the identity of each in the order asked, what is asked of it, and what is sent."""

    wanted: dict[Any, Any]
    asks: dict[Any, Ask]
    command: Aggregate


class QuotaPlan(StatePlan[QuotaSpec]):
    """Build a quota's commands and read their replies."""

    kind = "quota"

    def __init__(self, spec: QuotaSpec, collection: str, codec_options: CodecOptions[Any] = ANY_UUID) -> None:
        super().__init__(spec, collection, codec_options)
        self._asks = Asks(self._check)
        self._pipeline = QuotaPipeline(self)
        self._reader = StateReader(spec, collection)
        self._place = f"{collection}.{spec.path}"
        self._limited = [window.name for window in spec.windows if window.limit is not None]
        self._updates: dict[tuple[str, bool, bool], list[RawBSONDocument]] = {}
        # Until this plan meets a grant or a reservation, charges do without what they need, which is a good part of
        # what a charge costs the server.
        self._plain = True

    # What is asked .............................................................................................

    def ask(
        self,
        call: str,
        key: object,
        amount: Amount,
        meters: Mapping[str, Amount] | None = None,
        *,
        zero: bool = False,
    ) -> Ask:
        """Check what a caller asks for."""
        if meters is None and not zero:
            return self._asks(call, key, amount)
        return self._check(call, key, amount, meters, zero=zero)

    def _check(
        self,
        call: str,
        key: object,
        amount: Amount,
        meters: Mapping[str, Amount] | None = None,
        *,
        zero: bool = False,
    ) -> Ask:
        charge = amount_value("amount", amount, zero=zero)
        return Ask(
            call, self.key(key), charge, meter_values(self.spec.meters, meters) if self.spec.meters or meters else ()
        )

    # What is sent ..............................................................................................

    def write(
        self,
        ask: Ask,
        *,
        token: ObjectId,
        now: dt.datetime | None = None,
        once: str | None = None,
        ttl: int | None = None,
        hold: ObjectId | None = None,
        state: tuple[dict[str, Any], dict[str, Any]] | None = None,
    ) -> Write:
        """Build one guarded write."""
        let: dict[str, Any] = {"token": token, "amount": ask.amount}
        if self.spec.meters:
            let["meters"] = dict(zip(self.spec.meters, ask.more, strict=True))
        if once is not None:
            once = f"{_SIGNS[ask.call]}{once_id(once)}"
            let["once"] = literal(once)
        if ttl is not None:
            let["ttl"] = ttl
        if hold is not None:
            let["hold"] = hold
        if state is not None:
            let["used"], let["banked"] = state
        call: Any = ask.call
        if call == "set_state" and state is not None and len(state[0]) == len(self.spec.windows):
            call = "replace_state"
        time = None if now is None else check_time("now", now)
        plain = self._plain and call in ("consume", "record")
        if call in ("grant", "reserve"):
            self._plain = False
        update = self._update(call, once=once is not None, plain=plain)
        command = self.guarded(ask.call, ask.key, update, let, now=time, upsert=self._makes(ask))
        return Write(ask, token, time, command, once, hold, plain)

    def again(self, call: W, reply: Mapping[str, Any] | None) -> W | None:
        """Build the call once more if it has met what it did without: grants, reservations, or too little room.

        It has written nothing then. From now on this plan reckons with grants and reservations, so that it happens
        once. (What is sent now does so anyway: there may be some by then.)
        """
        told = None if not call.plain or reply is None or "_id" in reply else reply[REPLY]
        state = told and told.get("state")
        unforeseen = (
            isinstance(state, dict)
            and state.get("by") != call.token
            and not (state.get("extra") is None and state.get("holds") in (None, []))
        )
        if unforeseen:
            self._plain = False
        if isinstance(call, Together):
            if call.whole and not self.took(call.token, reply):
                self.crowd(call.asks[0].key)
            elif not unforeseen:
                return None
            return self._one_by_one(call.asks, call.runs, call.token, plain=False)
        if not unforeseen:
            return None
        update = self._update(call.ask.call, once=call.once is not None)  # type: ignore[arg-type]  # one of two
        return replace(call, command=replace(call.command, update=update), plain=False)

    def group(self, asks: Sequence[Ask], *, token: ObjectId) -> Together:
        """Build the write for several calls of one key that is the quickest if there is room for all of them."""
        grouped = runs(asks)
        # (more than a new document would grant rarely fits)
        most = MAX_AMOUNT if self._fresh_room is None else min(MAX_AMOUNT, self._fresh_room)
        amount = self.whole(grouped, most) if self._plain else None
        _, meters = self._charged(grouped, [number for _, number in grouped]) if self.spec.meters else (0, {})
        if amount is None or any(total > MAX_AMOUNT for total in meters.values()):
            return self._one_by_one(asks, grouped, token, plain=self._plain)
        let: dict[str, Any] = {"token": token, "amount": amount}
        if self.spec.meters:
            let["meters"] = {name: amount_value("meters", total, zero=True) for name, total in meters.items()}
        upsert = self._fresh_room is not None
        command = self.guarded("together", asks[0].key, self._update("whole", plain=True), let, now=None, upsert=upsert)
        return Together(asks, grouped, token, command, plain=True, whole=True)

    def together(self, asks: Sequence[Ask], *, token: ObjectId) -> Together:
        """Build the one guarded write that decides on several calls of one key in their order."""
        return self._one_by_one(asks, runs(asks), token, plain=self._plain)

    def _one_by_one(
        self, asks: Sequence[Ask], grouped: Sequence[tuple[Ask, int]], token: ObjectId, *, plain: bool
    ) -> Together:
        sent = []
        for ask, number in grouped:
            run: dict[str, Any] = {"a": ask.amount, "c": number, "f": ask.call == "record"}
            if self.spec.meters:
                run["m"] = dict(zip(self.spec.meters, ask.more, strict=True))
            sent.append(run)
        upsert = any(self._makes(ask) for ask, _ in grouped)
        update = self._update("together", plain=plain)
        let = {"token": token, "runs": sent}
        command = self.guarded("together", asks[0].key, update, let, now=None, upsert=upsert)
        return Together(asks, grouped, token, command, plain)

    def set_state(
        self, key: object, used: Mapping[str, Amount] | None, banked: Mapping[str, Amount] | None
    ) -> tuple[Ask, tuple[dict[str, Any], dict[str, Any]]]:
        """Check what the windows are said to hold."""
        names = {window.name: window for window in self.spec.windows}
        given: list[dict[str, Any]] = []
        for argument, numbers in (("used", used), ("banked", banked)):
            if numbers is not None and not isinstance(numbers, Mapping):
                raise UsageError(argument, f"expected a dict of amounts by window, got {numbers!r}")
            for name in numbers or {}:
                if name not in names:
                    raise UsageError(argument, f"{name!r} is none of the spec's windows {list(names)}")
                if argument == "banked" and names[name].rollover is None:
                    raise UsageError(argument, f"the window {name!r} has no rollover, and so no bank")
            given.append(
                {
                    name: amount_value(f"{argument}.{name}", number, zero=True)
                    for name, number in (numbers or {}).items()
                }
            )
        if not (given[0] or given[1]):
            raise UsageError("used", "expected at least one window, in used= or banked=")
        return Ask("set_state", self.key(key), 0, (0,) * len(self.spec.meters)), (given[0], given[1])

    def grant(self, key: object, amount: Amount) -> Ask:
        """Check what is given."""
        if not self._limited:
            raise UsageError("grant", "no window of this quota has a limit, so there is nothing to add to")
        return self.ask("grant", key, amount)

    def reserve(self, key: object, amount: Amount, ttl: float) -> tuple[Ask, int]:
        """Check what is to be held, and for how many milliseconds."""
        return self.ask("reserve", key, amount), _ttl(ttl)

    def hold(
        self, call: str, token: object, amount: Amount = 0, meters: Mapping[str, Amount] | None = None
    ) -> tuple[Ask, ObjectId]:
        """Check what is said about a reservation."""
        holder = Holder.of("token", token, self._place, self._codec_options, thing="reservation")
        used = amount_value("used", amount, zero=True)
        # Where nothing was used, nothing is charged: no window begins with it.
        free = call == "settle" and not used and not meters
        more = meter_values(self.spec.meters, meters) if meters or self.spec.meters else ()
        return Ask("release" if free else call, holder.key, used, more), holder.id

    def peek(self, ask: Ask, *, now: dt.datetime | None) -> Aggregate:
        """Build the read of the windows as they stand at the server's time."""
        return self.look("peek", key_filter(self.spec.key_field, ask.key), now, ends=self._pipeline.ends())

    def peek_many(self, keys: Iterable[Any], amount: Amount, *, now: dt.datetime | None) -> PeekMany:
        """Build the read of all `keys`, as they stand at the server's time."""
        if isinstance(keys, (str, bytes, Mapping)) or not isinstance(keys, Iterable):
            raise UsageError("keys", f"expected a list of keys, got {keys!r}")
        asked = list(keys)
        if len(asked) > _MOST_KEYS:
            raise UsageError("keys", f"expected at most {_MOST_KEYS} in one call, got {len(asked)}")
        stored = [self.key(key) for key in asked]
        wanted = identities(asked, stored, self._codec_options)
        charge = amount_value("amount", amount)
        asks = {key: Ask("peek", value, charge) for key, value in zip(asked, stored, strict=True)}
        query = {self.spec.key_field: {"$in": stored}}
        command = self.look("peek_many", query, now, ends=self._pipeline.ends())
        return PeekMany(wanted, asks, command)

    def explain(self, key: object, amount: Amount) -> dict[str, Any]:
        """Return the arguments of `find_one_and_update` as `consume` sends them, in plain values."""
        command = self.write(self.ask("consume", key, amount), token=ObjectId("0" * 24)).command
        arguments = {**command.arguments(), "update": self._pipeline.build("consume", plain=self._plain)}
        return {**arguments, "projection": self.reply()}

    def _update(self, call: Call, *, once: bool = False, plain: bool = False) -> list[RawBSONDocument]:
        update = self._updates.get((call, once, plain))
        if update is None:
            stages = self._pipeline.build(call, once=once, plain=plain)
            update = self._updates[call, once, plain] = [self.encoded(stage) for stage in stages]
        return update

    def _makes(self, ask: Ask) -> bool:
        """Tell whether the call may make a document: a refused upsert would still leave one behind."""
        if ask.call in ("consume", "reserve"):
            return self._fresh_room is not None and plain(ask.amount) <= self._fresh_room
        # (what is charged whether or not there is room needs limits to tell of)
        return ask.call in ("record", "grant", "set_state") and self._fresh_room is not None

    @cached_property
    def _fresh_room(self) -> Number | float | None:
        """The most that a key without a document would be granted; None if one of its limits is not known."""
        create = self.spec.create
        numbers = {number: field_number(number, at_path(create, number.path)) for number in self.spec.fields}
        return fresh_room(self.spec, numbers)

    # What came back ............................................................................................

    def told_fields(self) -> dict[str, Any]:
        """List the numbers that limits are read from."""
        return {"fields": [f"{self.doc}.{number.path}" for number in self.spec.fields]} if self.spec.fields else {}

    def told_by(self, document: Mapping[str, Any]) -> dict[str, Any]:
        """Read from a whole document the numbers that limits are read from."""
        return {"fields": [at_path(document, number.path) for number in self.spec.fields]}

    def decide(self, call: Write, reply: Mapping[str, Any] | None, *, clock: dt.datetime) -> Decision:
        """Read the verdict of a charge.

        Raises:
            DocumentNotFound: If there is no document and the spec says `create=None`.
            StateError: If the stored state or a limit is not what the spec describes.
        """
        told = self.read_reply(call.ask.key, call.token, reply, call.now, clock)
        if told.granted:  # the server has checked the state: it is read when somebody asks
            return Decision.told(True, self._tell_granted, call.ask, told)  # noqa: FBT003
        standing = self._standing(call.ask.key, told)
        repeated = self._repeated(call, told)
        always = call.ask.call in ("record", "grant", "set_state")
        if always and not repeated:
            raise self._refused(call.ask.key, told)
        return self._decision(call.ask, standing, granted=repeated, repeated=repeated)

    def _tell_granted(self, ask: Ask, told: Told) -> dict[str, Any]:
        return self._tell(ask, self._standing(ask.key, told), granted=True, repeated=False)

    def decide_all(self, call: Together, reply: Mapping[str, Any] | None, *, clock: dt.datetime) -> list[Decision]:
        """Read the verdict of every call of a group, in their order.

        Raises:
            DocumentNotFound: If there is no document and the spec says `create=None`.
            StateError: If the stored state or a limit is not what the spec describes.
        """
        key = call.asks[0].key
        told = self.read_reply(key, call.token, reply, None, clock)
        granted = [0] * len(call.runs)
        if told.granted:
            asked = [number for _, number in call.runs]
            # (without a bank, such a call leaves the note of another one)
            note = told.state["note"] if not call.whole or self._pipeline.banks else {}
            granted = asked if call.whole else note["k"]
            if granted == asked:
                self.uncrowd(key)
            # (the server has checked the state: it is read when somebody asks)
            before = cache(lambda: self._standing(key, told).before(*self._charged(call.runs, granted), note))
        else:
            standing = self._standing(key, told)
            if any(ask.call == "record" for ask, _ in call.runs):
                raise self._refused(key, told)
            before = cache(lambda: standing)
        verdicts: list[Decision] = []
        for index, ((_, number), most) in enumerate(zip(call.runs, granted, strict=True)):
            tell = partial(self._told_in_group, call.runs, granted, before, index)
            verdicts += Decision.granted_in_turn(tell, most)
            # (all who are refused in a row are told the same)
            verdicts += [Decision.told(False, tell, False, most)] * (number - most)  # noqa: FBT003
        return verdicts

    def _told_in_group(  # noqa: PLR0917  # called by a verdict, with what it was made about
        self,
        calls: Sequence[tuple[Ask, int]],
        granted: Sequence[int],
        before: Callable[[], Standing],
        index: int,
        granted_here: bool,  # noqa: FBT001
        place: int,
    ) -> dict[str, Any]:
        """Tell one call of a group how the quota stood after it: `place` calls of its run were granted by then."""
        amount, meters = self._charged(calls[: index + 1], [*granted[:index], place])
        standing = before().charged(amount, meters, self.spec)
        return self._tell(calls[index][0], standing, granted=granted_here, repeated=False)

    def _charged(self, calls: Sequence[tuple[Ask, int]], granted: Sequence[int]) -> tuple[Number, dict[str, Number]]:
        """Sum up what was charged."""
        amount = add(*(multiply(plain(ask.amount), most) for (ask, _), most in zip(calls, granted, strict=True)))
        meters = {
            name: add(*(multiply(plain(ask.more[place]), most) for (ask, _), most in zip(calls, granted, strict=True)))
            for place, name in enumerate(self.spec.meters)
        }
        return amount, meters

    def refunded(self, call: Write, reply: Mapping[str, Any] | None, *, clock: dt.datetime) -> Decision:
        """Read what was given back.

        Raises:
            DocumentNotFound: If there is no document and the spec says `create=None`.
            StateError: If the stored state or a limit is not what the spec describes.
        """
        told = self.read_reply(call.ask.key, call.token, reply, call.now, clock)
        standing = self._standing(call.ask.key, told)
        repeated = self._repeated(call, told)
        dropped: dict[str, Number] = {}
        if told.granted:
            stored = told.state["note"]["dropped"]
            dropped = {name: number for name in stored if (number := plain(stored[name]))}
        elif not repeated and told.state is not None:
            raise self._refused(call.ask.key, told)
        elif not repeated:  # nothing was ever charged
            dropped = {window.name: plain(call.ask.amount) for window in self.spec.windows}
        return self._decision(call.ask, standing, granted=True, repeated=repeated, dropped=dropped)

    def reserved(self, call: Write, reply: Mapping[str, Any] | None, *, clock: dt.datetime) -> Reservation:
        """Read what came of `reserve`.

        Raises:
            DocumentNotFound: If there is no document and the spec says `create=None`.
            StateError: If the stored state or a limit is not what the spec describes, or `MAX_HOLDS` are open.
        """
        told = self.read_reply(call.ask.key, call.token, reply, call.now, clock)
        standing = self._standing(call.ask.key, told)
        if not told.granted:
            if len(standing.holds) >= MAX_HOLDS:
                problem = f"{MAX_HOLDS} reservations are open: settle or release them, or give them a shorter ttl"
                raise StateError(self.collection, call.ask.key, f"{self.spec.path}.holds", problem)
            return Reservation(None, None, self._decision(call.ask, standing, granted=False))
        hold = next(hold for hold in told.state["holds"] if hold["id"] == call.token)
        token = Holder(self._place, call.ask.key, call.token).token(self._codec_options)
        return Reservation(token, hold["until"], self._decision(call.ask, standing, granted=True))

    def settled(self, call: Write, reply: Mapping[str, Any] | None, *, clock: dt.datetime) -> Settlement:
        """Read what came of `settle` or `release`.

        Raises:
            DocumentNotFound: If there is no document and the spec says `create=None`.
            StateError: If the stored state or a limit is not what the spec describes.
        """
        told = self.read_reply(call.ask.key, call.token, reply, call.now, clock)
        standing = self._standing(call.ask.key, told)
        decision = self._decision(call.ask, standing, granted=True)
        if not told.granted:
            if any(hold["id"] == call.hold for hold in (told.state or {}).get("holds") or ()):
                raise self._refused(call.ask.key, told)
            return Settlement(SettleOutcome.ALREADY, 0, decision)
        note = told.state["note"]
        return Settlement(SettleOutcome.LATE if note["late"] else SettleOutcome.SETTLED, plain(note["n"]), decision)

    def seen(
        self, ask: Ask, replies: Sequence[Mapping[str, Any]], *, now: dt.datetime | None, clock: dt.datetime
    ) -> Decision:
        """Read the verdict of a `peek`: what would be decided about `amount` now.

        Raises:
            DocumentNotFound: If there is no document and the spec says `create=None`.
            StateError: If the stored state or a limit is not what the spec describes.
        """
        answer = self.answer(replies, now, clock)
        documents = answer["found"]
        if not documents and self.spec.create is None:
            raise DocumentNotFound(self.collection, ask.key)
        told = documents[0][REPLY] if documents else self.fresh()
        return self._look(ask, told, answer)

    def seen_many(
        self, asked: PeekMany, replies: Sequence[Mapping[str, Any]], *, now: dt.datetime | None, clock: dt.datetime
    ) -> dict[Any, Decision]:
        """Read the verdicts of a `peek_many`, in the order asked; keys without a document only where one may be made.

        Raises:
            StateError: If a stored state or a limit is not what the spec describes, or a document matched by
                something else than equality of its one key.
        """
        answer = self.answer(replies, now, clock)
        found: dict[Any, Any] = {}
        known = set(asked.wanted.values())
        for document in answer["found"]:
            key = at_path(document, self.spec.key_field)
            if (identity := bson_identity(key, self._codec_options)) not in known:
                problem = "matches a key that was asked for, and is another one: peek at one key at a time"
                raise StateError(self.collection, key, self.spec.key_field, problem)
            found[identity] = document[REPLY]
        verdicts = {}
        for key, identity in asked.wanted.items():
            if identity in found or self.spec.create is not None:
                verdicts[key] = self._look(asked.asks[key], found.get(identity, self.fresh()), answer)
        return verdicts

    def read(self, document: Mapping[str, Any], amount: Amount, *, now: dt.datetime | None) -> Decision:
        """Read a document in hand.

        Raises:
            StateError: If the stored state or a limit is not what the spec describes.
        """
        known, key, state = self.in_hand(document)
        time = check_time("now", now) if now is not None else (state or {}).get("at")
        if not isinstance(time, (dt.datetime, type(None))):
            raise StateError(self.collection, key, f"{self.spec.path}.at", f"expected a date, found {time!r:.100}")
        ask = Ask("read", key, amount_value("amount", amount))
        standing = self._reader.standing(key, state, self.told_by(known)["fields"], time)
        return self._decision(ask, standing, granted=None)

    def _look(self, ask: Ask, told: Mapping[str, Any], answer: Mapping[str, Any]) -> Decision:
        state = self.checked_state(ask.key, told)
        fields = told.get("fields", ())
        standing = self._reader.standing(ask.key, state, fields, answer["now"], ends=answer["ends"])
        return self._decision(ask, standing, granted=None)

    def _standing(self, key: object, told: Told) -> Standing:
        return self._reader.standing(key, told.state, told.reply.get("fields", ()), told.now, charged=told.granted)

    def _repeated(self, call: Write, told: Told) -> bool:
        """Tell whether the call's id was counted before."""
        if call.once is None:
            return False
        ids = (told.state or {}).get("once")
        if not isinstance(ids, (list, type(None))):
            problem = f"expected a list of ids, found {ids!r:.100}"
            raise StateError(self.collection, call.ask.key, f"{self.spec.path}.once", problem)
        return not told.granted and call.once in (ids or ())

    def _refused(self, key: Any, told: Told) -> StateError:
        """Explain why a call that is never refused was not applied, where reading the state found nothing wrong."""
        problem = f"the server refused to change the state, found {told.state!r:.100}"
        return StateError(self.collection, key, self.spec.path, problem)

    # Verdicts ..................................................................................................

    def _decision(
        self,
        ask: Ask,
        standing: Standing,
        *,
        granted: bool | None,
        repeated: bool = False,
        dropped: Mapping[str, Number] | None = None,
    ) -> Decision:
        if granted is None:
            granted = not self._exceeded(ask, standing)
            tell = partial(self._tell, ask, standing, granted=granted, repeated=False)
        else:
            tell = partial(self._tell, ask, standing, granted=granted, repeated=repeated, dropped=dropped)
        return Decision.told(granted, tell)

    @staticmethod
    def _exceeded(ask: Ask, standing: Standing) -> tuple[str, ...]:
        asked = plain(ask.amount)
        return tuple(name for name, left in standing.remaining.items() if left is not None and asked > left)

    def _tell(
        self,
        ask: Ask,
        standing: Standing,
        *,
        granted: bool,
        repeated: bool,
        dropped: Mapping[str, Number] | None = None,
    ) -> dict[str, Any]:
        """Work out all fields of a verdict."""
        windows = standing.windows
        if not granted:
            exceeded = self._exceeded(ask, standing)
        elif ask.call in ("consume", "reserve", "peek", "read"):
            exceeded = ()
        else:
            exceeded = tuple(
                name for name, reading in windows.items() if reading.limit is not None and reading.used > reading.limit
            )
        limited_by: str | None = None
        retry_after: float | None = None
        if not granted and exceeded:
            asked = plain(ask.amount)
            waits = {name: standing.wait(name, asked, self._reader.cycles[name]) for name in exceeded}
            limited_by = max(exceeded, key=lambda name: float("inf") if (wait := waits[name]) is None else wait)
            retry_after = waits[limited_by]
        return {
            "key": ask.key,
            "amount": plain(ask.amount),
            "limited_by": limited_by,
            "exceeded": exceeded,
            "limit": {name: reading.limit for name, reading in windows.items()},
            "used": {name: reading.used for name, reading in windows.items()},
            "banked": {
                name: reading.bank if reading.limit is None else add(reading.bank, standing.extra)
                for name, reading in windows.items()
            },
            "remaining": standing.remaining,
            "resets_at": {name: reading.end for name, reading in windows.items() if reading.end is not None},
            "retry_after": retry_after,
            "at": standing.now,
            "extra": standing.extra,
            "held": standing.held,
            "meters": dict(standing.meters),
            "dropped": dict(dropped or {}),
            "repeated": repeated,
        }


def _ttl(ttl: object) -> int:
    if isinstance(ttl, bool) or not isinstance(ttl, (int, float)) or not 0.001 <= ttl <= _LONGEST_HOLD:  # noqa: PLR2004
        raise UsageError("ttl", f"expected seconds, from 0.001 to {_LONGEST_HOLD}, got {ttl!r}")
    return round(ttl * 1000)
