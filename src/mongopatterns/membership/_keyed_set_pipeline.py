"""The expressions that decide on a member of a set under a name. Pure.

Two ends: the document as it is to be, and what the caller is told. Both are worked out on the document as it was
before the write, so they cannot disagree. What the server does for a call is, for the most part, to read its
expressions. So there are as few as will do: it tells what it decided from, and the plan decides the same once more.

The variables that a call brings with it: `member`; `room` (the bytes that a document may have for the member to be
added) and, with `counts`, `spare` (those that it may have for the member to be taken out). The name is no variable:
`$getField` and `$setField` take constants only.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, TypeAlias

from mongopatterns.expressions import literal, merge_at
from mongopatterns.membership._commands import TellingPlan
from mongopatterns.membership._keyed_set_spec import KeyedSetSpec

Call: TypeAlias = Literal["add", "remove", "toggle"]

_HAS: Any = {"$in": ["$$member", "$$list"]}
_SIZE: Any = {"$size": "$$list"}
_WITH: Any = {"$concatArrays": ["$$list", ["$$member"]]}
_WITHOUT: Any = {"$filter": {"input": "$$list", "as": "this", "cond": {"$ne": ["$$this", "$$member"]}}}
_KINDS = {"kinds": "$$kinds", "held": "$$held"}


class Ends(NamedTuple):
    """What a call comes to.

    Attributes:
        document: The document as it is to be.
        told: What the caller is told: what was decided from; of a document that holds something else than such a
            map, the list of the types instead.
    """

    document: Any
    told: Any


class KeyedSetPipeline:
    """Build the pipelines of one spec."""

    def __init__(self, plan: TellingPlan[KeyedSetSpec]) -> None:
        self._plan = plan
        self._spec = plan.spec
        self._doc = "$$ROOT" if plan.document == "$$ROOT" else "$$doc"
        self._map = f"{self._doc}.{plan.spec.path}"

    # The calls .................................................................................................

    def change(self, call: Call, name: str) -> Ends:
        """Add `$$member` to the set of a name, or take it out."""
        list_ = {"list": {"$ifNull": [_get(name, self._map), literal([])]}}
        # (in this order: what asks for an array comes behind the check that there is one)
        sound = [*self._plan.sound("object", *self._spec.maps, of=self._doc), {"$isArray": "$$list"}]
        after = {"after": self._after(call, name, sound)}
        document = _lets([list_, after], {"$cond": ["$$after", self._written(call, name), "$$ROOT"]})
        kinds = [*self._plan.kinds(*self._spec.maps, of=self._doc), {"$type": "$$list"}]
        told = _lets([list_], {"$cond": [{"$and": sound}, self._facts(call, name), kinds]})
        return Ends(self._with_doc(document), self._with_doc(told))

    def members(self, name: str) -> Any:
        """Tell the members under a name."""
        return self._with_doc(_lets(self._found(name), {**_KINDS, "members": "$$list"}))

    def sizes(self) -> Any:
        """Tell of every name how many members it has, and the type of what stands there."""
        each = {
            "name": "$$this.k",
            "kind": {"$type": "$$this.v"},
            "size": {"$cond": [{"$isArray": ["$$this.v"]}, {"$size": "$$this.v"}, 0]},
        }
        return self._whole({"$map": {"input": {"$objectToArray": "$$map"}, "in": each}})

    def sets(self) -> Any:
        """Tell the whole map."""
        return self._whole("$$map")

    # Their parts ...............................................................................................

    def _with_doc(self, inner: Any) -> Any:
        return inner if self._doc == "$$ROOT" else _lets([{"doc": self._plan.document}], inner)

    def _found(self, name: str) -> list[dict[str, Any]]:
        """Build what is there: `kinds` and `held` (types), the `map`, and the `list` of the name, if they are such."""
        list_ = {"$cond": [{"$isArray": ["$$value"]}, "$$value", literal([])]}
        return [*self._sets(), {"value": _get(name, "$$map")}, {"list": list_, "held": {"$type": "$$value"}}]

    def _sets(self) -> list[dict[str, Any]]:
        # (what is no document is told, and must not fail the telling)
        sound = {"$cond": [{"$eq": [{"$type": self._map}, "object"]}, self._map, literal({})]}
        return [{"kinds": self._plan.kinds(self._spec.path, of=self._doc), "map": sound}]

    def _whole(self, told: Any) -> Any:
        return self._with_doc(_lets(self._sets(), {"kinds": "$$kinds", "told": told}))

    def _after(self, call: Call, name: str, sound: Sequence[Any]) -> Any:
        """Build the list as it is after the call; null if nothing changes."""
        fits_without = [] if self._spec.counts is None else [self._fits_without(self._spec.counts, name)]
        if call == "add":
            return {"$cond": [{"$and": [*sound, {"$not": [_HAS]}, *self._admits()]}, _WITH, None]}
        if call == "remove":
            return {"$cond": [{"$and": [*sound, _HAS, *fits_without]}, _WITHOUT, None]}
        without = {"$cond": [*fits_without, _WITHOUT, None]} if fits_without else _WITHOUT
        toggled = {"$cond": [_HAS, without, {"$cond": [{"$and": self._admits()}, _WITH, None]}]}
        return {"$cond": [{"$and": sound}, toggled, None]}

    def _admits(self) -> list[Any]:
        """Build the checks that one more may come in."""
        checks: list[Any] = [self._fits("$$room")]
        if self._spec.max_members is not None:
            checks.append({"$lt": [_SIZE, self._spec.max_members]})
        if self._spec.max_keys is not None:
            checks.append({"$or": [{"$gt": [_SIZE, 0]}, {"$lt": [self._used(), self._spec.max_keys]}]})
        return checks

    def _fits(self, bytes_: str) -> dict[str, Any]:
        return {"$lte": [{"$bsonSize": self._doc}, bytes_]}

    def _fits_without(self, counts: str, name: str) -> Any:
        """Build whether the document may be stored once the member is out: a count in place of a number needs none."""
        return {"$or": [self._counted(counts, name), self._fits("$$spare")]}

    def _counted(self, counts: str, name: str) -> Any:
        return {"$isNumber": _get(name, f"{self._doc}.{counts}")}

    def _used(self) -> Any:
        """Build how many names have a member."""
        in_use: Any = {"$and": [{"$isArray": "$$this.v"}, {"$ne": ["$$this.v", literal([])]}]}
        return {"$size": _filter({"$objectToArray": _or_empty(self._map)}, in_use)}

    def _written(self, call: Call, name: str) -> Any:
        """Build the document with `$$after` under the name; a name without members leaves both maps."""
        empty = None if call == "add" else {"$eq": ["$$after", literal([])]}
        document: Any = merge_at(self._doc, self._spec.path, _set(name, self._map, empty, "$$after"))
        if self._spec.counts is not None:
            set_ = _set(name, f"$$doc.{self._spec.counts}", empty, {"$size": "$$after"})
            document = _lets([{"doc": document}], merge_at("$$doc", self._spec.counts, set_))
        return document

    def _facts(self, call: Call, name: str) -> dict[str, Any]:
        """Build what a call is decided from."""
        facts: dict[str, Any] = {"size": _SIZE, "used": self._used()}
        if call == "add":
            facts["has"] = _HAS
        else:
            facts["without"] = {"$size": _WITHOUT}
            if self._spec.counts is not None:
                facts["counted"] = self._counted(self._spec.counts, name)
        if call != "remove" or self._spec.counts is not None:
            facts["bytes"] = {"$bsonSize": self._doc}
        return facts


def _get(name: str, document: str) -> dict[str, Any]:
    return {"$getField": {"field": literal(name), "input": document}}


def _set(name: str, document: str, gone: Any, value: Any) -> dict[str, Any]:
    """Build the document with a value under the name, or without the name."""
    value = value if gone is None else {"$cond": [gone, "$$REMOVE", value]}
    return {"$setField": {"field": literal(name), "input": _or_empty(document), "value": value}}


def _or_empty(document: str) -> dict[str, Any]:
    return {"$ifNull": [document, literal({})]}


def _filter(items: Any, keep: Any) -> dict[str, Any]:
    return {"$filter": {"input": items, "as": "this", "cond": keep}}


def _lets(chain: Sequence[dict[str, Any]], inner: Any) -> Any:
    """Bind the variables of a chain, one link inside the other."""
    for link in reversed(chain):
        inner = {"$let": {"vars": link, "in": inner}}
    return inner
