"""What a rate limiter sends, and what the answers mean. Pure: no client, no clock, no randomness.

A limiter's state is one small document under the spec's path: `at` (the server's time of the last admitted hit; of a
bucket, the time that it was drained to), `by` (the token of the call that made it), and what its algorithm counts:
`{end, n}`, `{end, n, prev}` or `{level, per}` (see `_limiter_pipeline`). A call that carried several hits leaves
`note` there, until the next one. Beside it, `ttl_field` says when the server may delete the document.
"""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

from bson import Decimal128, ObjectId
from bson.codec_options import CodecOptions
from bson.raw_bson import RawBSONDocument

from mongopatterns._grouping import runs
from mongopatterns.amounts import Amount, plain
from mongopatterns.commands import REPLY, Aggregate, FindOneAndUpdate
from mongopatterns.counters._commands import Ask, Asks, StatePlan, Told
from mongopatterns.counters._limiter_pipeline import Call, LimiterPipeline
from mongopatterns.counters._limiter_state import Exact, Standing, StateReader, date, exact
from mongopatterns.counters._specs import MAX_RATE, RateLimiterSpec, cost_value
from mongopatterns.counters._verdicts import RateDecision
from mongopatterns.errors import DocumentNotFound, StateError, UsageError
from mongopatterns.expressions import ANY_UUID, check_time, key_filter
from mongopatterns.windows import length_name

_NO_TTL = ("missing", "null", "date")  # what may stand where the time of deletion goes


@dataclass(frozen=True, slots=True)
class Hit:
    """One hit: what is sent, and what is needed to read the answer."""

    ask: Ask
    token: ObjectId
    now: dt.datetime | None
    command: FindOneAndUpdate


@dataclass(frozen=True, slots=True)
class Hits:
    """Hits that are decided in one write: equal ones in a row are a run.

    Attributes:
        whole: Whether they are decided on as if they were one hit: all are admitted, or nothing is written.
    """

    runs: Sequence[tuple[Ask, int]]
    token: ObjectId
    now: dt.datetime | None
    command: FindOneAndUpdate
    whole: bool = False


class LimiterPlan(StatePlan[RateLimiterSpec]):
    """Build a rate limiter's commands and read their replies."""

    kind = "rate_limiter"

    def __init__(self, spec: RateLimiterSpec, collection: str, codec_options: CodecOptions[Any] = ANY_UUID) -> None:
        super().__init__(spec, collection, codec_options)
        self._asks = Asks(self._check)
        self._pipeline = LimiterPipeline(self)
        self._reader = StateReader(spec, collection)
        self._at_once = spec.at_once
        # (so much is admitted in the period; of a bucket, in the time in which its burst fills up again)
        period = exact(spec.at_once) * spec.rate.milliseconds / exact(plain(spec.rate.limit))
        self._policy = length_name(dt.timedelta(milliseconds=math.ceil(period)))
        self._updates: dict[Call, list[RawBSONDocument]] = {}

    # What is sent ..............................................................................................

    def ask(self, call: str, key: object, cost: Amount) -> Ask:
        """Check what a caller asks for."""
        return self._asks(call, key, cost)

    def _check(self, call: str, key: object, cost: Amount) -> Ask:
        # (nearly every cost, and quick to check)
        amount = cost if type(cost) is int and 0 < cost <= MAX_RATE else cost_value("cost", cost)
        return Ask(call, self.key(key), amount)

    def hit(self, ask: Ask, *, token: ObjectId, now: dt.datetime | None = None) -> Hit:
        """Build the one guarded write that decides on a hit."""
        let = {"token": token, "cost": _sent(ask.amount)}
        command = self.guarded(ask.call, ask.key, self._update("hit"), let, now=now, upsert=self._makes(ask))
        return Hit(ask, token, now, command)

    def group(self, asks: Sequence[Ask], *, token: ObjectId, now: dt.datetime | None = None) -> Hits:
        """Build the write for several hits of one key that is the quickest if there is room for all of them."""
        grouped = runs(asks)
        cost = self.whole(grouped, self._at_once)
        if cost is None:
            return self._one_by_one(grouped, token, now)
        let = {"token": token, "cost": cost}
        command = self.guarded("together", asks[0].key, self._update("hit"), let, now=now, upsert=True)
        return Hits(grouped, token, now, command, whole=True)

    def together(self, asks: Sequence[Ask], *, token: ObjectId, now: dt.datetime | None = None) -> Hits:
        """Build the one guarded write that decides on several hits of one key in their order."""
        return self._one_by_one(runs(asks), token, now)

    def again(self, call: Hits, reply: Mapping[str, Any] | None) -> Hits | None:
        """Build the group once more, to be gone through, if there is no room for all of it. It has written nothing."""
        if not call.whole or self.took(call.token, reply):
            return None
        self.crowd(call.runs[0][0].key)
        return self._one_by_one(call.runs, call.token, call.now)

    def _one_by_one(self, grouped: Sequence[tuple[Ask, int]], token: ObjectId, now: dt.datetime | None) -> Hits:
        let = {"token": token, "runs": [{"a": _sent(ask.amount), "c": number} for ask, number in grouped]}
        upsert = any(self._makes(ask) for ask, _ in grouped)
        update = self._update("together")
        command = self.guarded("together", grouped[0][0].key, update, let, now=now, upsert=upsert)
        return Hits(grouped, token, now, command)

    def peek(self, ask: Ask, *, now: dt.datetime | None) -> Aggregate:
        """Build the read of the state, dated by the server."""
        return self.look("peek", key_filter(self.spec.key_field, ask.key), now)

    def explain(self, key: object, cost: Amount) -> dict[str, Any]:
        """Return the arguments of `find_one_and_update` as `hit` sends them, in plain values."""
        command = self.hit(self.ask("hit", key, cost), token=ObjectId("0" * 24)).command
        return {**command.arguments(), "update": self._pipeline.build("hit"), "projection": self.reply()}

    def _update(self, call: Call) -> list[RawBSONDocument]:
        update = self._updates.get(call)
        if update is None:
            update = self._updates[call] = [self.encoded(stage) for stage in self._pipeline.build(call)]
        return update

    def _makes(self, ask: Ask) -> bool:
        """Tell whether the hit may make a document: a refused upsert would still leave one behind."""
        return plain(ask.amount) <= self._at_once

    # What came back ............................................................................................

    def told_fields(self) -> dict[str, Any]:
        """Tell what stands where the time of deletion goes."""
        return {} if self.spec.ttl_field is None else {"ttl": {"$type": f"{self.doc}.{self.spec.ttl_field}"}}

    def decide(self, call: Hit, reply: Mapping[str, Any] | None, *, clock: dt.datetime) -> RateDecision:
        """Read the verdict of a hit.

        Raises:
            DocumentNotFound: If there is no document and the spec says `create=None`.
            StateError: If the stored state is not what the spec describes.
        """
        told = self.read_reply(call.ask.key, call.token, reply, call.now, clock)
        if told.granted:
            return RateDecision.told(True, self._tell_stored, call.ask, told)  # noqa: FBT003
        standing = self._refused([call.ask], told)
        return RateDecision.told(False, self._tell, call.ask, standing)  # noqa: FBT003

    def decide_all(self, call: Hits, reply: Mapping[str, Any] | None, *, clock: dt.datetime) -> list[RateDecision]:
        """Read the verdict of every hit of a group, in their order.

        Raises:
            DocumentNotFound: If there is no document and the spec says `create=None`.
            StateError: If the stored state is not what the spec describes.
        """
        key = call.runs[0][0].key
        told = self.read_reply(key, call.token, reply, call.now, clock)
        asked = [number for _, number in call.runs]
        if told.granted:
            admitted = asked if call.whole else told.state["note"]["k"]
            if admitted == asked:
                self.uncrowd(key)
            taken = sum(exact(plain(ask.amount)) * most for (ask, _), most in zip(call.runs, admitted, strict=True))
            # (the server has checked the state: it is read when somebody asks)
            before = cache(lambda: self._standing(key, told).after(-taken))
        else:
            admitted = [0] * len(call.runs)
            standing = self._refused([ask for ask, _ in call.runs], told)
            before = cache(lambda: standing)
        verdicts: list[RateDecision] = []
        passed: Exact = 0
        for (ask, number), most in zip(call.runs, admitted, strict=True):
            tell = partial(self._tell_in_group, ask, before, passed)
            verdicts += RateDecision.granted_in_turn(tell, most)
            # (all who are refused in a row are told the same)
            verdicts += [RateDecision.told(False, tell, False, most)] * (number - most)  # noqa: FBT003
            passed += exact(plain(ask.amount)) * most
        return verdicts

    def seen(
        self, ask: Ask, replies: Sequence[Mapping[str, Any]], *, now: dt.datetime | None, clock: dt.datetime
    ) -> RateDecision:
        """Read the verdict of a `peek`: what would be decided about the cost now.

        Raises:
            DocumentNotFound: If there is no document and the spec says `create=None`.
            StateError: If the stored state is not what the spec describes.
        """
        answer = self.answer(replies, now, clock)
        documents = answer["found"]
        if not documents and self.spec.create is None:
            raise DocumentNotFound(self.collection, ask.key)
        told = documents[0][REPLY] if documents else self.fresh()
        state = self.checked_state(ask.key, told)
        return self._seen(ask, self._standing(ask.key, Told(answer["now"], state, told, granted=False)))

    def read(self, document: Mapping[str, Any], cost: Amount, *, now: dt.datetime | None) -> RateDecision:
        """Read a document in hand.

        Raises:
            UsageError: On a bad cost or time, or without one if the document has no state.
            StateError: If the stored state is not what the spec describes.
        """
        _, key, state = self.in_hand(document)
        ask = Ask("read", key, cost_value("cost", cost))
        time = check_time("now", now) if now is not None else (state or {}).get("at")
        if time is None:
            raise UsageError("now", "there is no state that would tell a time: give one")
        if not isinstance(time, dt.datetime):
            raise StateError(self.collection, key, f"{self.spec.path}.at", f"expected a date, found {time!r:.100}")
        return self._seen(ask, self._reader.standing(key, state, time))

    def _standing(self, key: object, told: Told) -> Standing:
        kind = told.reply.get("ttl", "missing")
        if kind not in _NO_TTL:
            problem = f"expected a date by which the server deletes the document, found a value of type {kind}"
            raise StateError(self.collection, key, str(self.spec.ttl_field), problem)
        return self._reader.standing(key, told.state, told.now)

    def _refused(self, asks: Sequence[Ask], told: Told) -> Standing:
        """Return how the limiter stands that has refused all of these.

        Raises:
            StateError: Also if one of them would fit: then something else was wrong with the state.
        """
        standing = self._standing(asks[0].key, told)
        if any(standing.fits(exact(plain(ask.amount))) for ask in asks):
            problem = f"the server refused to change the state, found {told.state!r:.200}"
            raise StateError(self.collection, asks[0].key, self.spec.path, problem)
        return standing

    # Verdicts ..................................................................................................

    def _seen(self, ask: Ask, standing: Standing) -> RateDecision:
        return RateDecision.told(standing.fits(exact(plain(ask.amount))), self._tell, ask, standing)

    def _tell_stored(self, ask: Ask, told: Told) -> dict[str, Any]:
        """Work out the verdict of a hit that was admitted."""
        return self._tell(ask, self._reader.standing(ask.key, told.state, told.now), admitted=True)

    def _tell_in_group(  # called by a verdict, with what it was made about
        self,
        ask: Ask,
        before: Callable[[], Standing],
        taken: Exact,
        admitted: bool,  # noqa: FBT001
        place: int,
    ) -> dict[str, Any]:
        """Work out the verdict of one hit of a group: `place` hits of its run were admitted by then."""
        return self._tell(ask, before().after(taken + exact(plain(ask.amount)) * place), admitted=admitted)

    def _tell(self, ask: Ask, standing: Standing, *, admitted: bool = False) -> dict[str, Any]:
        """Work out all fields of a verdict but `allowed`."""
        cost = plain(ask.amount)
        return {
            "key": ask.key,
            "cost": cost,
            "limit": self._at_once,
            "remaining": standing.remaining,
            "resets_at": date(standing.clear_at),
            "retry_after": None if admitted else standing.wait(exact(cost)),
            "at": date(standing.now),
            "policy": self._policy,
        }


def _sent(cost: int | Decimal128) -> int | Decimal128:
    """Return what is computed with: a cost above every limit never fits, and a larger one could leave the integers."""
    return cost if plain(cost) <= MAX_RATE else MAX_RATE + 1
