"""The expressions that decide who has a seat. Pure.

Every call is a chain of variables, each built from those before it, and two ends: the document as it is to be, and
what the caller is told. The update evaluates the one, the projection of the reply the other, both on the document
as it was before the write and with the same `$$now`.

The variables that the calls bring with them: `now`; `new` and `ids` (the members who want to join, and their keys);
`id` (the key of the first, or of the member of another call); `fields`; `bytes` (what the document grows by at most).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from mongopatterns.expressions import Field, literal, merge_at
from mongopatterns.membership._capped_set_spec import MAX_CAP, CappedSetSpec, Leader
from mongopatterns.membership._commands import LARGEST_DOCUMENT, TellingPlan

DATE_BYTES: Final = 10
"""What a date in a document takes, besides its name."""


class Ends(NamedTuple):
    """What a call comes to.

    Attributes:
        document: The document as it is to be.
        told: What the caller is told.
    """

    document: Any
    told: dict[str, Any]


class CappedSetPipeline:
    """Build the pipelines of one capped set."""

    root = "$$ROOT"
    """The document before the write."""

    def __init__(self, plan: TellingPlan[CappedSetSpec]) -> None:
        self._plan = plan
        self._spec = spec = plan.spec
        self._ttl = None if spec.member_ttl is None else round(spec.member_ttl * 1000)
        self.renews = self._ttl is not None or spec.on_rejoin == "merge"  # joining again changes something
        self.arrays = (spec.path, *((spec.waiting.path,) if spec.waiting else ()))
        self._list = {"$ifNull": [f"$$doc.{spec.path}", literal([])]}

    def above(self, call: str) -> tuple[str, ...]:
        """Return the paths beside the set that a call may write: what they lead through must be documents."""
        leads = [self._spec.leader.path] if self._spec.leader and call in ("join", "leave") else []
        closes = [*self._spec.close.set, *self._spec.close.set_now] if self._spec.close and call == "leave" else []
        return (*leads, *closes)

    @property
    def document(self) -> Any:
        """Build the document of a call: one that is being made begins with what the spec's `create` says."""
        return self._plan.document

    # The calls .................................................................................................

    def ends(self, what: tuple[Any, ...], *, document: bool = False) -> Ends:
        """Build the two ends of a call.

        Args:
            what: The call's name; of a join, whether all of several join or none, too: None for a single one.
            document: Whether the document is told.
        """
        call, *how = what
        ends: Ends
        if call != "join":
            ends = getattr(self, call)()
        elif self.plain and how == [None]:
            ends = self.join_plain()
        else:
            ends = self.join(many=how != [None], all_or_none=bool(*how))
        if document:
            ends.told["document"] = ends.document
        return ends

    @property
    def plain(self) -> bool:
        """Whether seats are all there is: no time, no line, no leader, and nothing to change on joining again."""
        return not (self.renews or self._spec.waiting or self._spec.leader)

    def join_plain(self) -> Ends:
        """Seat `$$new` of one: what `join` does, in as few expressions as will do.

        What the server does for a call is, for the most part, to read its expressions. So it tells what it decided
        from, and the plan decides the same once more.
        """
        spec = self._spec
        here, cap = f"$$doc.{spec.path}", self._cap
        known = {"$in": ["$$id", f"$$list.{spec.member_key}"]}
        free = {"$lte": [{"$add": [{"$size": "$$list"}, 1]}, cap]}
        may = [*self._plan.sound("array", spec.path), *self._conditions(), free, {"$not": [known]}, self.fits()]
        if isinstance(spec.cap, Field):
            may.insert(0, {"$lte": [cap, MAX_CAP]})  # (what sorts before all numbers leaves no seat free)
        joined = merge_at("$$doc", spec.path, {"$concatArrays": ["$$list", "$$new"]})
        document = {"$let": {"vars": {"list": self._list}, "in": {"$cond": [{"$and": may}, joined, self.root]}}}
        mine = {"$first": [only("$$list", {"$eq": [self._this, "$$id"]})]}
        told = {
            "size": {"$size": "$$list"},
            "fits": self.fits(),
            "open": self._open(),
            "member": mine,  # (left out of the reply of one who is not known)
        }
        # (what is no array is told by its type)
        listed = {"$let": {"vars": {"list": {"$cond": [{"$isArray": here}, here, literal([])]}}, "in": told}}
        # (a bare number would ask for a field of that name)
        told_cap = self._told_cap if isinstance(spec.cap, Field) else literal(spec.cap)
        frame: dict[str, Any] = {"kinds": self._plan.kinds(spec.path), "told": listed, "cap": told_cap}
        return Ends(self._in_place(document), {name: self._in_place(value) for name, value in frame.items()})

    def join(self, *, many: bool, all_or_none: bool) -> Ends:
        """Seat those of `$$new` who have no seat, as many as there are seats for, or all of them or none."""
        spec = self._spec
        chain: list[dict[str, Any]] = [{"list": self._live(self._list)}]
        chain.append({"keys": f"$$list.{spec.member_key}", "size": {"$size": "$$list"}})
        chain.append({"known": each("$$ids", {"$in": ["$$this", "$$keys"]})})
        chain += self._queue("$$keys")
        seated: Any = {"$in": [self._this, "$$keys"]}
        line: Any = "$$fresh"
        if spec.waiting:
            chain.append({"queued": f"$$queue.{spec.member_key}"})
            seated = {"$or": [seated, {"$in": [self._this, "$$queued"]}]}
            line = {"$concatArrays": ["$$queue", "$$fresh"]}
        fresh: Any = only("$$new", {"$not": [seated]})
        chain.append({"fresh": _each_once(fresh, spec.member_key) if many else fresh, "open": self._open()})
        chain[-1]["fits"] = self.fits({"$size": "$$queue"} if spec.waiting and self._ttl is not None else None)
        chain.append({"line": line, "room": {"$max": [0, {"$floor": {"$subtract": [self._cap, "$$size"]}}]}})
        chain.append({"may": {"$and": ["$$open", "$$fits"]}})
        if all_or_none:  # (those who wait go on as ever)
            alone = "$$queue" if spec.waiting else literal([])
            chain.append({"line": {"$cond": [{"$lte": [{"$size": "$$line"}, "$$room"]}, "$$line", alone]}})
        chain.append({"in": {"$cond": ["$$may", self._seated({"$slice": ["$$line", "$$room"]}), literal([])]}})
        told: dict[str, Any] = {
            "open": "$$open",
            "fits": "$$fits",
            "known": "$$known",
            "joined": each("$$ids", {"$in": ["$$this", f"$$in.{spec.member_key}"]}),
            "size": {"$add": ["$$size", {"$size": "$$in"}]},
            "cap": self._cap,
        }
        if many:  # (a collation of the collection may find two keys equal that are not)
            told["first"] = each("$$ids", {"$indexOfArray": ["$$ids", "$$this"]})
        after: dict[str, Any] = {spec.path: "$$after"}
        changes: list[Any] = [{"$gt": [{"$size": "$$in"}, 0]}]
        if self.renews:
            changes.append({"$and": ["$$fits", {"$anyElementTrue": ["$$known"]}]})
        if spec.waiting:
            chain.append({"rest": {"$cond": ["$$may", self._rest(spec.waiting.cap), "$$queue"]}})
            changes.append({"$gt": [{"$size": "$$rest"}, {"$size": "$$queue"}]})
            after[spec.waiting.path] = "$$rest"
            chain.append({"places": each("$$rest", self._this)})
            told["waiting"] = each("$$ids", {"$indexOfArray": ["$$places", "$$this"]})
            told["promoted"] = only("$$in", {"$not": [{"$in": [self._this, "$$ids"]}]})
        chain.append({"after": {"$concatArrays": [self._rejoined(), "$$in"]}})
        chain.append({"changed": {"$or": changes}})
        if spec.leader:
            chain.append({"leader": self._leader(spec.leader, "$$changed")})
            after[spec.leader.path] = told["leader"] = "$$leader"
        mine = {"$cond": [{"$first": "$$known"}, "$$after", "$$in"]}
        told["member"] = {"$first": [only(mine, {"$eq": [self._this, "$$id"]})]}
        document = {"$cond": ["$$changed", self._merged(after), self.root]}
        return self._ends(chain, document, told, capped=True, above=self.above("join"))

    def leave(self) -> Ends:
        """Take `$$id` out, and give the seat to who waits."""
        spec = self._spec
        chain: list[dict[str, Any]] = [{"list": self._live(self._list)}]
        chain += self._queue(f"$$list.{spec.member_key}")
        chain.append({"had": {"$in": ["$$id", f"$$list.{spec.member_key}"]}})
        chain.append({"left": only("$$list", {"$ne": [self._this, "$$id"]})})
        found: Any = "$$had"
        told: dict[str, Any] = {"found": found}
        after: dict[str, Any] = {spec.path: "$$left"}
        if spec.waiting:
            room = {"$max": [0, {"$floor": {"$subtract": [self._cap, {"$size": "$$left"}]}}]}
            chain.append({"line": only("$$queue", {"$ne": [self._this, "$$id"]})})
            chain.append({"in": {"$cond": [self._open(), {"$slice": ["$$line", room]}, literal([])]}})
            chain.append({"promoted": self._seated("$$in")})
            found = {"$or": ["$$had", {"$lt": [{"$size": "$$line"}, {"$size": "$$queue"}]}]}
            after[spec.path] = {"$concatArrays": ["$$left", "$$promoted"]}
            after[spec.waiting.path] = _without_first("$$line", {"$size": "$$in"})
            told.update(found=found, promoted={"$cond": [found, "$$promoted", literal([])]})
        chain.append({"after": {"$cond": [found, after[spec.path], "$$list"]}})
        after[spec.path] = "$$after"
        if spec.leader:
            chain.append({"leader": self._leader(spec.leader, found)})
            after[spec.leader.path] = told["leader"] = "$$leader"
        told["size"] = {"$size": "$$after"}
        merged = self._merged(after)
        if spec.close:
            closed: Any = {"$and": ["$$had", {"$eq": ["$$after", literal([])]}, *self._conditions()]}
            closing: dict[str, Any] = {path: literal(value) for path, value in spec.close.set.items()}
            closing |= dict.fromkeys(spec.close.set_now, "$$now")
            told["closed"] = closed
            merged = {"$cond": [closed, self._merged({**after, **closing}), merged]}
        document = {"$cond": [found, merged, self.root]}
        return self._ends(chain, document, told, capped=bool(spec.waiting), above=self.above("leave"))

    def touch(self) -> Ends:
        """Renew the time of `$$id`."""
        dated = {"$eq": [{"$type": f"$$member.{self._spec.ttl_field}"}, "date"]}
        fits = {"$or": [dated, self.fits()]}  # (a date takes the room of the one before)
        return self._change({self._spec.ttl_field: {"$add": ["$$now", self._ttl]}}, fits)

    def update(self) -> Ends:
        """Merge `$$fields` into the document of `$$id`."""
        return self._change("$$fields", self.fits())

    def _change(self, fields: Any, fits: Any) -> Ends:
        spec = self._spec
        changed = each("$$list", {"$cond": [self._is_live, {"$mergeObjects": ["$$this", fields]}, "$$this"]})
        chain: list[dict[str, Any]] = [{"list": self._list}]
        chain.append({"member": {"$first": [only("$$list", self._is_live)]}})
        chain.append({"found": {"$gt": ["$$member", None]}})
        told = {"found": "$$found", "member": {"$cond": ["$$found", {"$mergeObjects": ["$$member", fields]}, None]}}
        told["fits"] = fits
        may = {"$and": ["$$found", fits]}
        return self._ends(chain, {"$cond": [may, self._merged({spec.path: changed}), self.root]}, told)

    def look(self) -> dict[str, Any]:
        """Tell of the set as it stands."""
        chain = [{"list": self._live(self._list)}, *self._queue(f"$$list.{self._spec.member_key}")]
        told: dict[str, Any] = {"members": "$$list"}
        if self._spec.waiting:
            told["waiting"] = "$$queue"
        return self._ends(chain, self.root, told).told

    def count(self) -> dict[str, Any]:
        """Tell how many seats are taken."""
        return self._ends([{"list": self._live(self._list)}], self.root, {"size": {"$size": "$$list"}}).told

    # Their frame ...............................................................................................

    def _ends(
        self,
        chain: Sequence[dict[str, Any]],
        document: Any,
        told: Mapping[str, Any],
        *,
        capped: bool = False,
        above: Sequence[str] = (),
    ) -> Ends:
        """Put the two ends behind the chain, each in a frame that keeps to what has the right type."""
        sound = self._plan.sound("array", *self.arrays, above=above)
        if capped and isinstance(self._spec.cap, Field):
            # (nothing, NaN and a negative number sort before 0; text, dates and so on after all numbers)
            sound += [{"$gte": [self._cap, 0]}, {"$lte": [self._cap, MAX_CAP]}]
        frame: dict[str, Any] = {"kinds": self._plan.kinds(*self.arrays, above=above)}
        if capped and isinstance(self._spec.cap, Field):
            frame["cap"] = self._told_cap
        frame["told"] = {"$cond": [{"$and": sound}, lets(chain, dict(told)), None]}
        return Ends(
            self._with_doc({"$cond": [{"$and": sound}, lets(chain, document), self.root]}),
            {name: self._with_doc(value) for name, value in frame.items()},
        )

    def _with_doc(self, inner: Any) -> Any:
        return {"$let": {"vars": {"doc": self.document}, "in": inner}}

    def _in_place(self, inner: Any) -> Any:
        """Bind `$$doc`, which `inner` binds to nothing else: by its name, where the document has one."""
        return _named(inner, self.document) if isinstance(self.document, str) else self._with_doc(inner)

    def _merged(self, values: Mapping[str, Any]) -> Any:
        """Build the document with the values at their paths, of which none leads to another."""
        return _merged("$$doc", values)

    # Its parts .................................................................................................

    @property
    def _this(self) -> str:
        return f"$$this.{self._spec.member_key}"

    @property
    def _cap(self) -> Any:
        cap = self._spec.cap
        return {"$ifNull": [f"$$doc.{cap.path}", cap.default]} if isinstance(cap, Field) else cap

    @property
    def _told_cap(self) -> Any:
        """Build a cap of the document as it is told: what is no number by its type."""
        return {"$cond": [{"$isNumber": self._cap}, self._cap, {"$type": self._cap}]}

    def _open(self) -> Any:
        conditions = self._conditions()
        if len(conditions) == 1:
            return conditions[0]
        return {"$and": conditions} if conditions else True

    def _conditions(self) -> list[dict[str, Any]]:
        return [
            {"$lte": [f"$$doc.{path}", None]} if value is None else {"$eq": [f"$$doc.{path}", literal(value)]}
            for path, value in (self._spec.open_if or {}).items()
        ]

    def _live(self, members: Any) -> Any:
        """Build the members whose time is not over; one without a time has all of it."""
        if self._ttl is None:
            return members
        return only(members, {"$not": [self._over]})

    @property
    def _over(self) -> Any:
        until = f"$$this.{self._spec.ttl_field}"
        return {"$and": [{"$eq": [{"$type": until}, "date"]}, {"$lte": [until, "$$now"]}]}

    @property
    def _is_live(self) -> Any:
        """Build whether `$$this` is the member `$$id`, with a seat."""
        same = {"$eq": [self._this, "$$id"]}
        return same if self._ttl is None else {"$and": [same, {"$not": [self._over]}]}

    def _queue(self, keys: str) -> list[dict[str, Any]]:
        """Build the line, if there is one, without those who have a seat: other code may seat people past it."""
        if not self._spec.waiting:
            return []
        both = {"$setIntersection": [f"$$queue.{self._spec.member_key}", keys]}
        return [
            {"queue": {"$ifNull": [f"$$doc.{self._spec.waiting.path}", literal([])]}},
            {"both": {"$setDifference": [both, literal([None])]}},  # (null is nobody's key)
            {"queue": only("$$queue", {"$not": [{"$in": [self._this, "$$both"]}]})},
        ]

    def _seated(self, members: Any) -> Any:
        """Build the documents of members who are given seats."""
        if self._ttl is None:
            return members
        dated = {"$mergeObjects": ["$$this", {self._spec.ttl_field: {"$add": ["$$now", self._ttl]}}]}
        return each(members, {"$cond": [{"$eq": [{"$type": "$$this"}, "object"]}, dated, "$$this"]})

    def _rejoined(self) -> Any:
        """Build the seats that are taken, with what joining again changes in them."""
        if not self.renews:
            return "$$list"
        merge = self._spec.on_rejoin == "merge"
        given = {"$first": [only("$$new", {"$eq": [self._this, f"$$one.{self._spec.member_key}"]})]}
        time = {self._spec.ttl_field: {"$add": ["$$now", self._ttl]}}
        parts: list[Any] = ["$$one", *([given] if merge else []), *([time] if self._ttl is not None else [])]
        again: dict[str, Any] = {
            "$cond": [{"$in": [f"$$one.{self._spec.member_key}", "$$ids"]}, {"$mergeObjects": parts}, "$$one"]
        }
        again = {"$map": {"input": "$$list", "as": "one", "in": again}}
        return {"$cond": [{"$anyElementTrue": ["$$known"]}, again, "$$list"]}

    def _rest(self, cap: int | None) -> Any:
        """Build the line behind those who got seats; of those who are new in it, as many as may wait."""
        rest = _without_first("$$line", {"$size": "$$in"})
        if cap is not None:
            stay = {"$max": [cap, {"$subtract": [{"$size": "$$queue"}, {"$size": "$$in"}]}]}
            rest = {"$slice": [rest, stay]}
        return rest

    def _leader(self, leader: Leader, changed: Any) -> Any:
        """Build who leads those in `$$after`: who did, or the next if anything is written, or nobody."""
        now = f"$$doc.{leader.path}"
        # (who has no key cannot be named)
        able = only("$$after", {"$and": [{"$eq": [{"$type": "$$this"}, "object"]}, {"$gt": [self._this, None]}]})
        first: Any = {"$first": able}
        if leader.sort:
            better: Any = False
            for path, direction in reversed(leader.sort):
                one, other = f"$$this.{path}", f"$$value.{path}"
                less = {("$lt" if direction == 1 else "$gt"): [one, other]}
                better = {"$or": [less, {"$and": [{"$eq": [one, other]}, better]}]}
            better = {"$cond": [better, "$$this", "$$value"]}
            first = {"$reduce": {"input": able, "initialValue": {"$first": able}, "in": better}}
        following: Any = {"$let": {"vars": {"first": first}, "in": f"$$first.{self._spec.member_key}"}}
        leads = {"$and": [{"$gt": [now, None]}, {"$in": [now, f"$$after.{self._spec.member_key}"]}]}
        return {"$cond": [leads, now, {"$cond": [changed, {"$ifNull": [following, None]}, None]}]}

    def fits(self, dated: Any = None) -> Any:
        """Build whether the server will store the document with `$$bytes` more, and with so many dates."""
        grown = [{"$bsonSize": "$$ROOT"}, "$$bytes"]
        if dated is not None:
            grown.append({"$multiply": [dated, DATE_BYTES + len(self._spec.ttl_field.encode())]})
        return {"$lte": [{"$add": grown}, LARGEST_DOCUMENT]}


def _named(expression: Any, document: str) -> Any:
    """Put the name of the document in place of `$$doc`."""
    if isinstance(expression, str):
        return document + expression[5:] if expression == "$$doc" or expression.startswith("$$doc.") else expression
    if isinstance(expression, list):
        return [_named(item, document) for item in expression]
    if not isinstance(expression, dict) or "$literal" in expression:
        return expression
    return {name: _named(value, document) for name, value in expression.items()}


def _merged(document: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Build a document with the values at their paths: no deeper than the longest of these, however many there are."""
    parts: dict[str, dict[str, Any]] = {}
    for path, value in values.items():
        name, _, rest = path.partition(".")
        parts.setdefault(name, {})[rest] = value
    fields = {name: part[""] if "" in part else _merged(f"{document}.{name}", part) for name, part in parts.items()}
    return {"$mergeObjects": [document, fields]}


def only(members: Any, keep: Any) -> dict[str, Any]:
    """Build the members for whom `keep` holds, of each as `$$this`."""
    return {"$filter": {"input": members, "as": "this", "cond": keep}}


def each(items: Any, one: Any) -> dict[str, Any]:
    """Build an array of what `one` makes of each item, as `$$this`."""
    return {"$map": {"input": items, "as": "this", "in": one}}


def _each_once(members: Any, key: str) -> dict[str, Any]:
    """Build the members of which none before it has the same key."""
    longer = {"$concatArrays": ["$$value", ["$$this"]]}
    once = {"$cond": [{"$in": [f"$$this.{key}", f"$$value.{key}"]}, "$$value", longer]}
    return {"$reduce": {"input": members, "initialValue": literal([]), "in": once}}


def _without_first(items: str, number: Any) -> dict[str, Any]:
    """Build an array without its first so many items: a negative argument takes so many from the end, and 0 none."""
    return {"$slice": [items, {"$subtract": [number, {"$size": items}]}]}


def lets(chain: Sequence[dict[str, Any]], inner: Any) -> Any:
    """Bind the variables of a chain, one link inside the other."""
    for link in reversed(chain):
        inner = {"$let": {"vars": link, "in": inner}}
    return inner
