"""What a counter sends, and what the answers mean. Pure: no client, no clock, no randomness."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Inexact
from functools import cached_property
from typing import Any

from bson import Decimal128
from bson.codec_options import CodecOptions
from bson.decimal128 import create_decimal128_context

from mongopatterns._grouping import runs
from mongopatterns.amounts import Amount, Number, add, amount_value, multiply, plain, plain_number, subtract
from mongopatterns.commands import FindOneAndUpdate, created, holders_of, identities, lane_of
from mongopatterns.counters._commands import Ask, Asks, meter_values, once_id
from mongopatterns.counters._specs import CounterSpec
from mongopatterns.errors import DocumentNotFound, StateError, UsageError
from mongopatterns.expressions import (
    ANY_UUID,
    at_path,
    bson_identity,
    is_among,
    key_filter,
    key_value,
    literal,
    merge_at,
)

_STORED = create_decimal128_context()
_STORED.traps[Inexact] = False


@dataclass(frozen=True, slots=True)
class CounterValues:
    """A question for many numbers: the identity of each key in the order asked, and what is sent."""

    wanted: dict[Any, Any]
    filter: dict[str, Any]
    projection: dict[str, Any]


class CounterPlan:
    """Build a counter's commands and read their replies."""

    def __init__(self, spec: CounterSpec, collection: str, codec_options: CodecOptions[Any] = ANY_UUID) -> None:
        self.spec = spec
        self.collection = collection
        self._codec_options = codec_options
        self._asks = Asks(self._check)
        self.projection = {"_id": 0, spec.path: 1}

    def lane(self, key: Any) -> Any:
        """Return what is equal for two checked keys exactly when they are one key to the server."""
        return lane_of(key, self._codec_options)

    # What is asked .............................................................................................

    def ask(self, key: object, amount: Amount, meters: Mapping[str, Amount] | None) -> Ask:
        """Check what a caller adds."""
        if meters is None:
            return self._asks("add", key, amount)
        return self._check("add", key, amount, meters)

    def _check(self, call: str, key: object, amount: Amount, meters: Mapping[str, Amount] | None = None) -> Ask:
        stored = key_value("key", key, self.spec.key_type)
        number = amount_value("amount", amount)
        return Ask(call, stored, number, meter_values(self.spec.meters, meters) if meters or self.spec.meters else ())

    # What is sent ..............................................................................................

    def add(self, ask: Ask, *, stripe: int, once: str | None = None) -> FindOneAndUpdate:
        """Add one amount in one write, which makes the document if the spec allows it."""
        if once is not None and self.spec.stripes > 1:
            raise UsageError("once", "a repeat may meet another stripe of the key: use one stripe")
        return self._write(ask, ask.amount, ask.more, stripe, once_id(once))

    def add_all(self, asks: Sequence[Ask], *, stripe: int) -> FindOneAndUpdate:
        """Add the amounts of several calls in one write."""
        grouped = runs(asks)
        amount = _travel(add(*(multiply(plain(ask.amount), number) for ask, number in grouped)))
        more = tuple(
            _travel(add(*(multiply(plain(ask.more[place]), number) for ask, number in grouped)))
            for place in range(len(asks[0].more))
        )
        return self._write(asks[0], amount, more, stripe, None)

    def _write(
        self, ask: Ask, amount: int | Decimal128, more: Sequence[int | Decimal128], stripe: int, once: str | None
    ) -> FindOneAndUpdate:
        spec = self.spec
        amounts = {
            spec.path: amount,
            **{path: number for path, number in zip(spec.meters, more, strict=True) if number},
        }
        update: Any
        if once is None:
            update = {"$inc": amounts}
            if spec.set_now:
                update["$currentDate"] = dict.fromkeys(spec.set_now, True)
            if spec.create:
                update["$setOnInsert"] = spec.create
        else:
            update = self._once(amounts, once)
        return FindOneAndUpdate(
            filter=self.filter(ask.key, stripe),
            update=update,
            projection=self.projection,
            upsert=spec.create is not None,
            comment="mongopatterns.counter.add",
        )

    def _once(self, amounts: Mapping[str, int | Decimal128], once: str) -> list[dict[str, Any]]:
        """Build the pipeline that adds only if the id was not counted yet."""
        spec = self.spec
        known = {"$ifNull": [f"${spec.once_path}", literal([])]}
        values: dict[str, Any] = {path: _sum(path, number) for path, number in amounts.items()}
        values |= dict.fromkeys(spec.set_now, "$$NOW")
        # Last, because each stage before it asks for the id.
        values[spec.once_path] = {"$slice": [{"$concatArrays": [known, [literal(once)]]}, -spec.once_kept]}
        repeated = is_among(literal(once), known)
        stages = [
            {"$replaceWith": {"$cond": [repeated, "$$ROOT", merge_at("$$ROOT", path, value)]}}
            for path, value in values.items()
        ]
        if spec.create:
            stages.insert(0, {"$replaceWith": created(spec)})
        return stages

    def filter(self, key: Any, stripe: int) -> dict[str, Any]:
        """Match the one document of a checked key, or of one of its stripes."""
        return key_filter(self.spec.key_field, {"key": key, "stripe": stripe} if self.spec.stripes > 1 else key)

    def values(self, keys: Iterable[Any]) -> CounterValues:
        """Build the filter and the projection that read the numbers of all `keys`."""
        if isinstance(keys, (str, bytes, Mapping)) or not isinstance(keys, Iterable):
            raise UsageError("keys", f"expected a list of keys, got {keys!r}")
        asked = list(keys)
        stored = [key_value("keys", key, self.spec.key_type) for key in asked]
        return CounterValues(
            identities(asked, stored, self._codec_options), self._filter_of(stored), self._projection_of_many
        )

    def value(self, key: object) -> dict[str, Any]:
        """Build the filter that finds the number of one key."""
        stored = key_value("key", key, self.spec.key_type)
        return self._filter_of([stored]) if self.spec.stripes > 1 else self.filter(stored, 0)

    @cached_property
    def _projection_of_many(self) -> dict[str, Any]:
        return {"_id": 0, self.spec.path: 1, self.spec.key_field: 1}

    def _filter_of(self, stored: Sequence[Any]) -> dict[str, Any]:
        if self.spec.stripes > 1:
            stored = [{"key": key, "stripe": stripe} for key in stored for stripe in range(self.spec.stripes)]
        return {self.spec.key_field: {"$in": stored}}

    # What came back ............................................................................................

    def total(self, key: object, reply: Mapping[str, Any] | None, *, written: bool = False) -> Number:
        """Read the number of one document: 0 where there is none yet.

        Raises:
            DocumentNotFound: If a write matched nothing and may not create.
            StateError: If what stands at the path is not a finite number.
        """
        if reply is None and written:
            raise DocumentNotFound(self.collection, key)
        for holder in holders_of(self.spec.path):
            if not isinstance(held := at_path(reply, holder), (Mapping, type(None))):
                raise StateError(self.collection, key, holder, f"expected a document, found {held!r:.100}")
        stored = at_path(reply, self.spec.path)
        if stored is None and not written:
            return 0
        number = plain_number(stored)
        if number is None:
            raise StateError(self.collection, key, self.spec.path, f"expected a finite number, found {stored!r:.100}")
        return number

    def whole(self, key: object, documents: Iterable[Mapping[str, Any]]) -> Number:
        """Read the number of one key from its document, or from those of its stripes: 0 where there is none yet.

        Raises:
            StateError: If what stands at the path is not a finite number.
        """
        return add(*(self.total(key, document) for document in documents))

    def totals_after(self, asks: Sequence[Ask], reply: Mapping[str, Any] | None) -> list[Number]:
        """Read the total after each of several calls, in their order.

        Raises:
            DocumentNotFound: If the write matched nothing and may not create.
            StateError: If what stands at the path is not a finite number.
        """
        last = self.total(asks[0].key, reply, written=True)
        grouped = [(plain(ask.amount), number) for ask, number in runs(asks)]
        total = subtract(last, add(*(multiply(amount, number) for amount, number in grouped)))
        totals: list[Number] = []
        for amount, number in grouped:
            if type(total) is int and type(amount) is int:  # (quicker, and nearly every amount)
                totals += range(total + amount, total + amount * number + 1, amount)
            else:
                totals += [add(total, multiply(amount, place)) for place in range(1, number + 1)]
            total = totals[-1]
        return totals

    def totals(self, asked: CounterValues, documents: Iterable[Mapping[str, Any]]) -> dict[Any, Number]:
        """Give every asked key its number, in the order asked, with keys matched as the server compares them.

        Raises:
            StateError: If a document matched by something else than equality of its one key (a collation of the
                collection, an array), or holds something else than a finite number.
        """
        found: dict[Any, Number] = {}
        known = set(asked.wanted.values())
        for document in documents:
            key = at_path(document, self.spec.key_field)
            if self.spec.stripes > 1:
                key = at_path(key, "key")
            identity = bson_identity(key, self._codec_options)
            if identity not in known:
                problem = "matches a key that was asked for, and is another one: ask for one value at a time"
                raise StateError(self.collection, key, self.spec.key_field, problem)
            found[identity] = add(found.get(identity, 0), self.total(key, document))
        return {key: found.get(identity, 0) for key, identity in asked.wanted.items()}


def _sum(path: str, number: int | Decimal128) -> dict[str, Any]:
    """Build what `$inc` would store; where it would refuse, this fails as well.

    `$add` alone moves a date by milliseconds, and turns a sum past 64 bits into a double: `$multiply` refuses the
    one, and `$toLong` the other.
    """
    stored = {"$multiply": [{"$ifNull": [f"${path}", 0]}, 1]}
    rounded = {"$and": [{"$eq": [{"$type": "$$sum"}, "double"]}, {"$ne": [{"$type": f"${path}"}, "double"]}]}
    checked = {"$cond": [rounded, {"$toLong": "$$sum"}, "$$sum"]}
    return {"$let": {"vars": {"sum": {"$add": [stored, literal(number)]}}, "in": checked}}


def _travel(number: Number) -> int | Decimal128:
    """Give a sum as it travels; one of more than 34 digits is rounded, as the server rounds the sums it stores."""
    return number if isinstance(number, int) else Decimal128(_STORED.create_decimal(number))
