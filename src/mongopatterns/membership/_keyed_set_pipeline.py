"""The expressions that decide on a member of a set under a name. Pure.

One chain of variables, each built from those before it, and two ends: the document as it is to be, and what the
caller is told. Both are worked out on the document as it was before the write, so they cannot disagree.

The variables that a call brings with it: `member`; `more` (the bytes that adding it needs at most) and `less` (those
that taking it out needs at most: below 0 unless a count has to be stored for the first time). The name is no
variable: `$getField` and `$setField` take constants only.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, TypeAlias

from mongopatterns.expressions import literal, merge_at
from mongopatterns.membership._commands import LARGEST_DOCUMENT, TellingPlan
from mongopatterns.membership._keyed_set_spec import KeyedSetSpec
from mongopatterns.membership._keyed_set_verdicts import KeyedSetOutcome

Call: TypeAlias = Literal["add", "remove", "toggle"]

WRONG = "wrong"
"""What is told, besides the outcomes, of a document that holds something else than such a map."""
LARGE = "large"
"""What is told, besides the outcomes, of a document that would pass 16 MB."""

_ADDED, _REMOVED = KeyedSetOutcome.ADDED.value, KeyedSetOutcome.REMOVED.value


_KINDS = {"kinds": "$$kinds", "held": "$$held"}


class Ends(NamedTuple):
    """What a call comes to.

    Attributes:
        document: The document as it is to be.
        told: What the caller is told.
    """

    document: Any
    told: Any


class KeyedSetPipeline:
    """Build the pipelines of one spec."""

    def __init__(self, plan: TellingPlan[KeyedSetSpec]) -> None:
        self._plan = plan
        self._spec = plan.spec

    # The calls .................................................................................................

    def change(self, call: Call, name: str) -> Ends:
        """Add `$$member` to the set of a name, or take it out."""
        chain: list[dict[str, Any]] = [
            *self._found(name, *self._spec.maps),
            {"has": {"$in": ["$$member", "$$list"]}, "size": {"$size": "$$list"}},
            {"outcome": self._outcome(call, name)},
            {"after": self._after(call)},
        ]
        changed = {"$in": ["$$outcome", [_ADDED, _REMOVED]]}
        document = {"$cond": [changed, self._written(name), "$$ROOT"]}
        told = {**_KINDS, "outcome": "$$outcome", "before": "$$size", "after": {"$size": "$$after"}, "used": _USED}
        return Ends(_lets(chain, document), _lets(chain, told))

    def members(self, name: str) -> Any:
        """Tell the members under a name."""
        return _lets(self._found(name, self._spec.path), {**_KINDS, "members": "$$list"})

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

    def _found(self, name: str, *maps: str) -> list[dict[str, Any]]:
        """Build what is there: `kinds` and `held` (types), the `map`, and the `list` of the name, if they are such."""
        list_ = {"$cond": [{"$isArray": ["$$value"]}, "$$value", literal([])]}
        return [*self._map(*maps), {"value": _get(name)}, {"list": list_, "held": {"$type": "$$value"}}]

    def _map(self, *maps: str) -> list[dict[str, Any]]:
        map_ = f"$$doc.{self._spec.path}"
        # (what is no document is told, and must not fail the telling)
        sound = {"$cond": [{"$eq": [{"$type": map_}, "object"]}, map_, literal({})]}
        return [{"doc": self._plan.document}, {"kinds": self._plan.kinds(*maps), "map": sound}]

    def _whole(self, told: Any) -> Any:
        return _lets(self._map(self._spec.path), {"kinds": "$$kinds", "told": told})

    def _outcome(self, call: Call, name: str) -> Any:
        """Build what comes of the call: the first case that is true."""
        sound = [
            {"$setIsSubset": ["$$kinds", literal(["missing", "null", "object"])]},
            {"$in": ["$$held", literal(["missing", "null", "array"])]},
        ]
        cases: list[tuple[Any, str]] = [({"$not": [{"$and": sound}]}, WRONG)]
        if call == "add":
            cases.append(("$$has", KeyedSetOutcome.ALREADY.value))
        else:
            if self._spec.counts is not None:
                cases.append(({"$and": ["$$has", {"$not": [self._fits_without(self._spec.counts, name)]}]}, LARGE))
            cases.append(("$$has", _REMOVED))
        if call == "remove":
            return _first(cases, KeyedSetOutcome.ABSENT.value)
        if self._spec.max_members is not None:
            cases.append(({"$gte": ["$$size", self._spec.max_members]}, KeyedSetOutcome.FULL.value))
        if self._spec.max_keys is not None:
            another = {"$and": [{"$eq": ["$$size", 0]}, {"$gte": [_USED, self._spec.max_keys]}]}
            cases.append((another, KeyedSetOutcome.TOO_MANY_KEYS.value))
        cases.append(({"$not": [_fits("$$more")]}, LARGE))
        return _first(cases, _ADDED)

    def _fits_without(self, counts: str, name: str) -> Any:
        """Build whether the document may be stored once the member is out: a count in place of a number needs none."""
        return {"$or": [{"$isNumber": _get(name, f"$$doc.{counts}")}, _fits("$$less")]}

    def _after(self, call: Call) -> Any:
        """Build the list as it is after the call."""
        with_it = {"$concatArrays": ["$$list", ["$$member"]]}
        without = _filter("$$list", {"$ne": ["$$this", "$$member"]})
        after: Any = "$$list"
        if call != "remove":
            after = {"$cond": [{"$eq": ["$$outcome", _ADDED]}, with_it, after]}
        if call != "add":
            after = {"$cond": [{"$eq": ["$$outcome", _REMOVED]}, without, after]}
        return after

    def _written(self, name: str) -> Any:
        """Build the document with `$$after` under the name; a name without members leaves both maps."""
        empty = {"$eq": ["$$after", literal([])]}
        document: Any = merge_at("$$doc", self._spec.path, _set(name, "$$map", empty, "$$after"))
        if self._spec.counts is not None:
            counted = {"$ifNull": [f"$$doc.{self._spec.counts}", literal({})]}
            set_ = _set(name, counted, empty, {"$size": "$$after"})
            document = {"$let": {"vars": {"doc": document}, "in": merge_at("$$doc", self._spec.counts, set_)}}
        return document


def _get(name: str, document: str = "$$map") -> dict[str, Any]:
    return {"$getField": {"field": literal(name), "input": document}}


def _set(name: str, document: Any, gone: Any, value: Any) -> dict[str, Any]:
    """Build the document with a value under the name, or without the name."""
    value = {"$cond": [gone, "$$REMOVE", value]}
    return {"$setField": {"field": literal(name), "input": document, "value": value}}


def _fits(bytes_: str) -> dict[str, Any]:
    """Build whether the document may be stored with so many bytes more."""
    return {"$lte": [{"$add": [{"$bsonSize": "$$doc"}, bytes_]}, LARGEST_DOCUMENT]}


def _filter(items: Any, keep: Any) -> dict[str, Any]:
    return {"$filter": {"input": items, "as": "this", "cond": keep}}


def _first(cases: Sequence[tuple[Any, str]], default: str) -> dict[str, Any]:
    """Build the outcome of the first case that is true."""
    return {"$switch": {"branches": [{"case": case, "then": then} for case, then in cases], "default": default}}


_IN_USE: Any = {"$and": [{"$isArray": ["$$this.v"]}, {"$ne": ["$$this.v", literal([])]}]}
_USED = {"$size": _filter({"$objectToArray": "$$map"}, _IN_USE)}  # how many names have a member


def _lets(chain: Sequence[dict[str, Any]], inner: Any) -> Any:
    """Bind the variables of a chain, one link inside the other."""
    for link in reversed(chain):
        inner = {"$let": {"vars": link, "in": inner}}
    return inner
