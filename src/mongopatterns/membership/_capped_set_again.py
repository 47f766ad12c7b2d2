"""What a write has done whose verdict did not come back: told by the image before it, and by what is stored now. Pure.

An answer without a verdict is that to a repeated write, which is the stored image, or to one that made the document,
which is none. Either way the write was applied, so the question is not what it may do, but what it has done.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mongopatterns.commands import FindOneAndUpdate
from mongopatterns.expressions import literal, nested
from mongopatterns.membership._capped_set_pipeline import CappedSetPipeline, each, lets, only
from mongopatterns.membership._capped_set_spec import CappedSetSpec


class AppliedPipeline(CappedSetPipeline):
    """Build the expressions that tell of a write that was applied, to the document in the variable `image`."""

    root = "$$image"

    @property
    def document(self) -> Any:
        """Build the document of a call."""
        return self.root

    def fits(self, dated: Any = None) -> Any:
        """Build whether the document could be stored: it was."""
        del dated
        return True

    def when(self, call: str) -> Any:
        """Build the time of the write, as nearly as the `image` and what is stored (`$found`) tell it.

        No answer says it, and by now more members may have expired than had then. But a seat that the write gave or
        renewed tells it to the millisecond, and who was found, or has kept the seat since, had not expired then.
        """
        spec, until = self._spec, f"$$this.{self._spec.ttl_field}"
        if self._ttl is None:
            return "$$now"
        stored: Any = {"$first": f"$found.{spec.path}"}
        was: dict[str, Any] = {"list": {"$ifNull": [f"$$image.{spec.path}", literal([])]}, "queued": literal([])}
        was["stored"] = {"$cond": [{"$isArray": [stored]}, stored, literal([])]}
        if spec.waiting:
            was["queued"] = {"$ifNull": [f"$$image.{spec.waiting.path}.{spec.member_key}", literal([])]}
        own: Any = {"$eq": [self._this, "$$id"]}
        seat = {"key": self._this, "until": until}
        kept: Any = {"$in": [seat, each("$$stored", seat)]}
        had = {"$in": [seat, each("$$list", seat)]}
        given: Any = {"$and": [{"$in": [self._this, "$$queued"]}, {"$not": [had]}]}
        if call == "join":
            given = {"$or": [given, {"$in": [self._this, "$$ids"]}]}
        elif call == "leave":
            kept = {"$or": [kept, {"$and": [own, {"$not": [{"$in": ["$$id", "$$queued"]}]}]}]}
        else:
            kept, given = own, own if call == "touch" else False
        dated = {"$eq": [{"$type": until}, "date"]}
        since = {"$min": each(only("$$stored", {"$and": [dated, given]}), until)}
        least = {"$min": each(only("$$list", {"$and": [dated, kept]}), until)}
        moment = {"$min": [{"$ifNull": [{"$subtract": [since, self._ttl]}, "$$now"]}, {"$subtract": [least, 1]}]}
        return lets([was], moment)


def image_of(spec: CappedSetSpec, command: FindOneAndUpdate, reply: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the document that a write began with: the image that came back, or what a new one was made of."""
    if reply is not None and [*reply] != [spec.key_field]:
        return dict(reply)
    (key,) = command.filter.values()
    return {**(spec.create or {}), **nested(spec.key_field, key["$eq"] if isinstance(key, Mapping) else key)}
