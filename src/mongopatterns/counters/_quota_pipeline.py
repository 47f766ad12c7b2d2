"""The pipelines that decide on a quota's state on the server. Pure.

Every call is one stage, `$replaceWith`, with the same frame: bind the document, its state and the limits that are
read from it; check the types of what is stored; roll every window on to `$$now`; decide; and keep the document as
it is (`$$ROOT`, which the server does not write) or merge the new state into it.

The variables that the calls bring with them: `now`, `token`, and what the call is about (`amount`, `meters`,
`once`, `runs`, `hold`, `ttl`, `used`, `banked`). Windows are the variables `w0`, `w1`, ... in the order of the spec.

What is computed here is read in memory by `_quota_state`; the two are tested against each other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, Literal, TypeAlias

from mongopatterns.amounts import MAX_AMOUNT, Amount, amount_value
from mongopatterns.counters._commands import MAX_STORED, StatePlan, absent, how_many, in_range, no_doubles
from mongopatterns.counters._specs import QuotaSpec, Times, Window
from mongopatterns.expressions import Field, is_among, literal, merge_at
from mongopatterns.windows import Cycle

Call: TypeAlias = Literal[
    "consume",
    "record",
    "together",
    "whole",
    "refund",
    "grant",
    "reserve",
    "settle",
    "release",
    "set_state",
    "replace_state",
]

MAX_HOLDS: Final = 1000
"""How many reservations of one key may be open at once."""

_KEPT_EXPIRED: Final = 32  # reservations that nobody settled: kept, so that settling late is told from settling twice

# A double, which other code may have stored, is no count: it would make every sum one.
_COUNTS: Final = ["int", "long", "decimal"]


class WindowTerms:
    """The expressions of one window."""

    def __init__(self, index: int, window: Window, spec: QuotaSpec) -> None:
        self.window = window
        self.name = window.name
        self.var = f"w{index}"
        self.cycle: Cycle = window.cycle(spec.timezone, spec.align)
        self.stored = f"$$state.{self.name}"
        self.limited = window.limit is not None

    @property
    def limit(self) -> Any:
        """The limit, which is given or bound."""
        limit = self.window.limit
        return f"$${self.var}_limit" if isinstance(limit, Field) else None if limit is None else _travel(limit)

    @property
    def cap(self) -> Any:
        """The cap of the bank."""
        cap = self.window.rollover.cap if self.window.rollover else 0
        if isinstance(cap, Times):
            return {"$multiply": [_travel(cap.factor), self.limit]}
        return f"$${self.var}_cap" if isinstance(cap, Field) else _travel(cap)

    def numbers(self) -> dict[str, Field]:
        """Name the variables of the numbers that are read from the document."""
        given: dict[str, Any] = {f"{self.var}_limit": self.window.limit}
        if self.window.rollover:
            given[f"{self.var}_cap"] = self.window.rollover.cap
        return {name: number for name, number in given.items() if isinstance(number, Field)}

    def rolled(self) -> dict[str, Any]:
        """Build the window as it stands at `$$now`: as stored before its end, rolled on from there."""
        stored = self.stored
        same: Any = stored
        new: dict[str, Any] = {"end": self.cycle.end("$$now"), "used": 0}
        if self.window.rollover:
            bank = {"$ifNull": [f"{stored}.bank", 0]}
            left = {"$max": [0, {"$subtract": [self.limit, f"{stored}.used"]}]}
            idle = {"$multiply": [self.limit, self.cycle.idle(f"{stored}.end", "$$now")]}
            banked = {"$min": [self.cap, {"$add": [bank, left, idle]}]}
            same = {"end": f"{stored}.end", "used": f"{stored}.used", "bank": bank}
            new["bank"] = {"$cond": [absent(stored), 0, banked]}
        return {"$cond": [{"$gt": [f"{stored}.end", "$$now"]}, same, new]}

    def fresh(self) -> dict[str, Any]:
        """Build the window of a state that is made anew."""
        return {"end": self.cycle.end("$$now"), "used": 0, "bank": 0}

    def left(self, window: str) -> dict[str, Any]:
        """Build what is left of the window itself."""
        return {"$max": [0, {"$subtract": [self.limit, f"{window}.used"]}]}

    def room(self, window: str) -> dict[str, Any]:
        """Build what a call could take."""
        if self.window.rollover is None:
            return self.left(window)
        return {"$add": [self.left(window), f"{window}.bank"]}

    def admits(self, window: str) -> dict[str, Any]:
        """Build whether there is room for `$$amount`."""
        if self.window.rollover is None:
            return {"$lte": [{"$add": [f"{window}.used", "$$amount"]}, self.limit]}
        return {"$lte": ["$$amount", self.room(window)]}

    def charged(self, window: str) -> dict[str, Any]:
        """Build the window after `$$amount` is charged: each unit once, to the bank or to the window."""
        if self.window.rollover is None:
            return {"end": f"{window}.end", "used": {"$add": [f"{window}.used", "$$amount"]}}
        wanted: Any = "$$amount"
        if self.window.rollover.spend == "window_first":
            wanted = {"$max": [0, {"$subtract": ["$$amount", self.left(window)]}]}
        charged = {
            "end": f"{window}.end",
            "used": {"$add": [f"{window}.used", {"$subtract": ["$$amount", "$$banked"]}]},
            "bank": {"$subtract": [f"{window}.bank", "$$banked"]},
        }
        return {"$let": {"vars": {"banked": {"$min": [f"{window}.bank", wanted]}}, "in": charged}}

    def refunded(self, window: str) -> dict[str, Any]:
        """Build the window after `$$amount` is given back: to itself first, and then to its bank up to the cap."""
        back = {"$min": [f"{window}.used", "$$amount"]}
        refunded = {"end": f"{window}.end", "used": {"$subtract": [f"{window}.used", "$$back"]}}
        if self.window.rollover:
            over = {"$add": [f"{window}.bank", {"$subtract": ["$$amount", "$$back"]}]}
            refunded["bank"] = {"$max": [f"{window}.bank", {"$min": [self.cap, over]}]}
        return {"$let": {"vars": {"back": back}, "in": refunded}}

    def dropped(self, before: str, after: str) -> dict[str, Any]:
        """Build how much of `$$amount` was given back neither to the window nor to its bank."""
        kept: Any = {"$subtract": [f"{before}.used", f"{after}.used"]}
        if self.window.rollover:
            kept = {"$add": [kept, {"$subtract": [f"{after}.bank", f"{before}.bank"]}]}
        return {"$subtract": ["$$amount", kept]}

    def adopted(self) -> dict[str, Any]:
        """Build the window with the numbers of `$$used` and `$$banked`, where they name it."""
        rolled = f"$${self.var}"
        adopted: dict[str, Any] = {
            "end": f"{rolled}.end",
            "used": {"$ifNull": [f"$$used.{self.name}", f"{rolled}.used"]},
        }
        if self.window.rollover:
            adopted["bank"] = {"$ifNull": [f"$$banked.{self.name}", f"{rolled}.bank"]}
        return adopted


class QuotaPipeline:
    """Build the pipelines of one quota."""

    def __init__(self, plan: StatePlan[QuotaSpec]) -> None:
        self._plan = plan
        self._spec = plan.spec
        self.windows = [WindowTerms(index, window, plan.spec) for index, window in enumerate(plan.spec.windows)]
        self._limited = [terms for terms in self.windows if terms.limited]
        self.banks = any(window.rollover for window in plan.spec.windows)

    def build(self, call: Call, *, once: bool = False, plain: bool = False) -> list[dict[str, Any]]:
        """Build the pipeline of a call.

        Args:
            call: Its name.
            once: Whether it is to be counted once, by its id.
            plain: Whether it keeps the document as it is if there are grants or reservations, and so does without
                all that they need. (For `consume`, `record` and `together`.)
        """
        merge = _Merge(self._plan, once=self._spec.once_kept if once else 0)
        decided = getattr(self, f"_plain_{call}" if plain else f"_{call}")(merge)
        if once:
            repeated = is_among("$$once", {"$ifNull": ["$$state.once", literal([])]})
            decided = {"$cond": [repeated, "$$ROOT", decided]}
        rolled = {terms.var: terms.rolled() for terms in self.windows}
        sound = {"$and": [*self._plan.held_in_documents, *self._valid(once=once, plain=plain)]}
        inner = {"$cond": [sound, {"$let": {"vars": rolled, "in": decided}}, self._unsound(call)]}
        return [{"$replaceWith": self._plan.with_doc(self._with_numbers(inner))}]

    def _unsound(self, call: Call) -> Any:
        """Build what becomes of a document whose state is not what the spec describes: it stays, but for one call."""
        if call != "replace_state":
            return "$$ROOT"
        fresh = {terms.var: terms.fresh() for terms in self.windows}
        fields: dict[str, Any] = {terms.name: terms.adopted() for terms in self.windows}
        replaced: Any = {"$let": {"vars": fresh, "in": _Merge(self._plan, once=0)(fields, keep=False)}}
        needed = [*self._plan.held_in_documents[:-1], *self._known_numbers()]
        return _only_if({"$and": needed}, replaced) if needed else replaced

    def ends(self) -> dict[str, Any]:
        """Build the ends of the windows that hold `$$now`."""
        return {terms.name: terms.cycle.end("$$now") for terms in self.windows}

    # The calls: each gives the document as it is to be .........................................................

    def _consume(self, merge: _Merge) -> dict[str, Any]:
        granted = merge(self._charge(fits=True))
        return self._with_short(_only_if(self._fits(), granted)) if self._limited else granted

    def _plain_consume(self, merge: _Merge) -> dict[str, Any]:
        return self._plain_charge(merge, {})

    def _plain_whole(self, merge: _Merge) -> dict[str, Any]:
        """Charge a group as if it were one call: all of it, or nothing."""
        # (what the banks held before tells how far each of its calls has drawn on them)
        banks = self._noted_banks()
        return self._plain_charge(merge, {"note": {"bank": banks}} if banks else {})

    def _plain_charge(self, merge: _Merge, more: dict[str, Any]) -> dict[str, Any]:
        granted = merge({**self._charge(plain=True), **more})
        room = [terms.admits(f"$${terms.var}") for terms in self._limited]
        return _only_if({"$and": room}, granted) if room else granted

    def _plain_record(self, merge: _Merge) -> dict[str, Any]:
        return merge(self._charge(plain=True))

    def _record(self, merge: _Merge) -> dict[str, Any]:
        return self._with_short(merge(self._charge()))

    def _reserve(self, merge: _Merge) -> dict[str, Any]:
        live, expired = _holds("$gt", "until", "$$now"), _holds("$lte", "until", "$$now")
        hold = {"id": "$$token", "n": "$$amount", "until": {"$add": ["$$now", "$$ttl"]}}
        granted = merge({"holds": {"$concatArrays": [{"$slice": [expired, -_KEPT_EXPIRED]}, live, [hold]]}})
        few = {"$lt": [{"$size": live}, MAX_HOLDS]}
        return self._with_short(_only_if({"$and": [self._fits(), few]} if self._limited else few, granted))

    def _settle(self, merge: _Merge) -> dict[str, Any]:
        return self._with_hold(self._with_short(merge({**self._charge(), **_given_up()})))

    def _release(self, merge: _Merge) -> dict[str, Any]:
        return self._with_hold(merge(_given_up()))

    def _refund(self, merge: _Merge) -> dict[str, Any]:
        after = {f"{terms.var}_after": terms.refunded(f"$${terms.var}") for terms in self.windows}
        fields: dict[str, Any] = {terms.name: f"$${terms.var}_after" for terms in self.windows}
        dropped = {terms.name: terms.dropped(f"$${terms.var}", f"$${terms.var}_after") for terms in self.windows}
        fields["note"] = {"dropped": dropped}
        if self._limited:
            # In the order in which it was charged, backwards: what nothing paid for (`record` charges that), then
            # what a grant has paid, then what the windows had room for.
            room = self._room([f"$${terms.var}_after" for terms in self._limited])
            over = {"$max": [{"$subtract": [f"$${terms.var}.used", terms.limit]} for terms in self._limited]}
            unpaid = {"$max": [0, {"$subtract": [over, "$$lent"]}]}
            back = {"$max": [0, {"$min": ["$$lent", {"$subtract": ["$$amount", {"$add": [room, unpaid]}]}]}]}
            moved: dict[str, Any] = {
                "left": {"$add": ["$$state.extra.left", "$$back"]},
                "lent": {"$subtract": ["$$lent", "$$back"]},
                "until": "$$state.extra.until",
            }
            returned: dict[str, Any] = {"$let": {"vars": {"back": back}, "in": moved}}
            returned = {"$cond": [{"$gt": ["$$lent", 0]}, returned, "$$state.extra"]}
            fields["extra"] = {"$let": {"vars": {"lent": _lent()}, "in": returned}}
        if self._spec.meters:
            fields["meters"] = self._metered(lambda total, more: {"$max": [0, {"$subtract": [total, more]}]})
        refunded = {"$let": {"vars": after, "in": merge(fields)}}
        return _only_if({"$gt": ["$$state", None]}, refunded)

    def _grant(self, merge: _Merge) -> dict[str, Any]:
        left = {"$add": [{"$ifNull": ["$$state.extra.left", 0]}, "$$amount"]}
        return merge({"extra": {"$mergeObjects": ["$$state.extra", {"left": left}]}})

    def _set_state(self, merge: _Merge) -> dict[str, Any]:
        return merge({terms.name: terms.adopted() for terms in self.windows})

    _replace_state = _set_state  # (where the state is sound, nothing is replaced)

    def _plain_together(self, merge: _Merge) -> dict[str, Any]:
        return self._together(merge, plain=True)

    def _together(self, merge: _Merge, *, plain: bool = False) -> dict[str, Any]:
        """Decide on many calls in their order: `$$runs` of equal ones, `{a: amount, c: how many, f: charge anyway}`.

        Of equal calls the first ones are granted, as many as fit: a refusal changes nothing, so that all after it
        are refused as well. What a run charges in all is charged at once, which comes to the same.
        """
        start: dict[str, Any] = {terms.var: f"$${terms.var}" for terms in self.windows}
        start["k"] = literal([])
        counted: Any = "$$this.c"
        after: dict[str, Any] = {terms.var: terms.charged(f"$$value.{terms.var}") for terms in self.windows}
        after["k"] = appended = {"$concatArrays": ["$$value.k", ["$$k"]]}
        note: dict[str, Any] = {"k": "$$out.k"}
        if banks := self._noted_banks():
            note["bank"] = banks
        granting = bool(self._limited) and not plain
        if self._limited:
            counted = {"$cond": ["$$this.f", "$$this.c", self._how_many(plain=plain)]}
        if granting:
            start["left"], start["lent"] = {"$ifNull": ["$$state.extra.left", 0]}, _lent()
            note["left"] = "$$state.extra.left"
            spent = {"$max": [0, {"$min": ["$$value.left", {"$subtract": ["$$amount", "$$room"]}]}]}
            after["left"] = {"$subtract": ["$$value.left", spent]}
            after["lent"] = {"$add": ["$$value.lent", spent]}
        if self._spec.meters:
            start["m"] = {name: {"$ifNull": [f"$$state.meters.{name}", 0]} for name in self._spec.meters}
            after["m"] = {
                name: {"$add": [f"$$value.m.{name}", {"$multiply": ["$$k", f"$$this.m.{name}"]}]}
                for name in self._spec.meters
            }
        charge = {"$let": {"vars": {"amount": {"$multiply": ["$$k", "$$this.a"]}}, "in": after}}
        nothing = {"$mergeObjects": ["$$value", {"k": appended}]}
        step: dict[str, Any] = {"$cond": [{"$gt": ["$$k", 0]}, charge, nothing]}
        step = {"$let": {"vars": {"k": counted}, "in": step}}
        variables: dict[str, Any] = {}
        if self._limited:
            room = self._room([f"$$value.{terms.var}" for terms in self._limited])
            step = {"$let": {"vars": {"room": room}, "in": step}}
        if granting:
            variables["held"] = {"$ifNull": [_held(), 0]}
        out = {"$reduce": {"input": "$$runs", "initialValue": start, "in": step}}
        fields: dict[str, Any] = {terms.name: f"$$out.{terms.var}" for terms in self.windows}
        fields["note"] = note
        if granting:
            spent_any = {"$lt": ["$$out.left", "$$state.extra.left"]}
            extra = {"left": "$$out.left", "lent": "$$out.lent", "until": self._first_end()}
            fields["extra"] = {"$cond": [spent_any, extra, "$$state.extra"]}
        if self._spec.meters:
            fields["meters"] = {"$mergeObjects": ["$$state.meters", "$$out.m"]}
        decided = _only_if({"$gt": [{"$sum": "$$out.k"}, 0]}, merge(fields))
        decided = {"$let": {"vars": {"out": out}, "in": decided}}
        return {"$let": {"vars": variables, "in": decided}} if variables else decided

    # Parts .....................................................................................................

    def _noted_banks(self) -> dict[str, Any]:
        return {terms.name: f"$${terms.var}.bank" for terms in self.windows if terms.window.rollover}

    def _how_many(self, *, plain: bool) -> dict[str, Any]:
        """Build how many calls of `$$this.a` there is room for, at most `$$this.c`."""
        free: Any = "$$room" if plain else {"$subtract": [{"$add": ["$$room", "$$value.left"]}, "$$held"]}
        return how_many(free, "$$this.a")

    def _charge(self, *, fits: bool = False, plain: bool = False) -> dict[str, Any]:
        """Build the fields of the state after `$$amount` is charged, which is known to fit or may not."""
        fields: dict[str, Any] = {terms.name: terms.charged(f"$${terms.var}") for terms in self.windows}
        if self._limited and not plain:
            # A grant pays for what the windows have no room for.
            left = "$$state.extra.left"
            short: dict[str, Any] = {"$gt": ["$$short", 0]}
            spent: Any = "$$short"
            if not fits:
                short = {"$and": [short, {"$gt": [left, 0]}]}
                spent = {"$min": [left, "$$short"]}
            paid = {
                "left": {"$subtract": [left, spent]},
                "lent": {"$add": [_lent(), spent]},
                "until": self._first_end(),
            }
            fields["extra"] = {"$cond": [short, paid, "$$state.extra"]}
        if self._spec.meters:
            fields["meters"] = self._metered(lambda total, more: {"$add": [total, more]})
        return fields

    def _first_end(self) -> Any:
        """Build the time until which what is taken from a grant now can go back to it: when a window ends."""
        ends = [f"$${terms.var}.end" for terms in self._limited]
        return ends[0] if len(ends) == 1 else {"$min": ends}

    def _metered(self, combine: Callable[[Any, Any], Any]) -> dict[str, Any]:
        totals = {
            name: combine({"$ifNull": [f"$$state.meters.{name}", 0]}, f"$$meters.{name}") for name in self._spec.meters
        }
        return {"$mergeObjects": ["$$state.meters", totals]}

    def _room(self, windows: Sequence[str]) -> Any:
        """Build what a call could take from all the limited windows."""
        rooms = [terms.room(window) for terms, window in zip(self._limited, windows, strict=True)]
        return rooms[0] if len(rooms) == 1 else {"$min": rooms}

    def _with_short(self, inner: dict[str, Any]) -> dict[str, Any]:
        """Bind `$$short`: by how much the windows have less room than `$$amount`."""
        if not self._limited:
            return inner
        room = self._room([f"$${terms.var}" for terms in self._limited])
        return {"$let": {"vars": {"short": {"$subtract": ["$$amount", room]}}, "in": inner}}

    def _fits(self) -> dict[str, Any]:
        """Build the decision: what the windows are short of, what is reserved counted in, is there from a grant."""
        # ($sum passes over what is not there.)
        return {"$lte": [{"$sum": ["$$short", _held()]}, {"$ifNull": ["$$state.extra.left", 0]}]}

    def _with_hold(self, inner: dict[str, Any]) -> dict[str, Any]:
        """Bind `$$entry`, the reservation that `$$hold` names, and keep the document as it is if there is none."""
        entry = {"$first": _holds("$eq", "id", "$$hold")}
        return {"$let": {"vars": {"entry": entry}, "in": _only_if({"$gt": ["$$entry", None]}, inner)}}

    def _with_numbers(self, inner: dict[str, Any]) -> dict[str, Any]:
        """Bind `$$state` and the numbers read from the document."""
        numbers = {
            name: self._read_number(number) for terms in self.windows for name, number in terms.numbers().items()
        }
        state = f"{self._plan.doc}.{self._spec.path}"
        return {"$let": {"vars": {"state": state, **numbers}, "in": inner}}

    def _read_number(self, number: Field) -> dict[str, Any]:
        """Build a number of the document; a double becomes the decimal of its 15 digits, so that 0.3 is 0.3."""
        stored: Any = f"{self._plan.doc}.{number.path}"
        if number.default is not None:
            stored = {"$ifNull": [stored, _travel(number.default)]}
        exact = {"$cond": [{"$eq": [{"$type": "$$n"}, "double"]}, {"$toDecimal": "$$n"}, "$$n"]}
        return {"$let": {"vars": {"n": stored}, "in": exact}}

    def _valid(self, *, once: bool, plain: bool) -> list[dict[str, Any]]:
        """List what must hold of the stored values; where it does not, nothing is computed and nothing written.

        What `_quota_state` checks in memory, in few expressions: the server parses them anew for every command
        (and a `$literal` list as one), which takes longer than to evaluate them.
        """
        checks = [self._sound_windows(), *self._known_numbers()]
        documents, lists, counts = [], [], []
        if plain:
            checks += [absent("$$state.extra"), {"$eq": [{"$ifNull": ["$$state.holds", literal([])]}, literal([])]}]
        else:
            documents.append("$$state.extra")
            counts += ["$$state.extra.left", "$$state.extra.lent"]
            lists.append("$$state.holds")
            checks.append({"$not": [{"$in": [False, {"$ifNull": [_sound_holds(), literal([])]}]}]})
        if self._spec.meters:
            documents.append("$$state.meters")
            counts += [f"$$state.meters.{name}" for name in self._spec.meters]
        if once:
            lists.append("$$state.once")
        for kind, places in (("object", documents), ("array", lists)):
            checks += [{"$in": [{"$type": place}, literal(["missing", "null", kind])]} for place in places]
        if counts:
            checks += [*in_range([0, *counts], MAX_STORED), no_doubles(counts)]
        # (the types first: what follows computes with what they hold)
        return sorted(checks, key=lambda check: "$in" not in check)

    def _sound_windows(self) -> dict[str, Any]:
        """Build the check of all stored windows: each is not there, or whole."""
        counts = ["$$this.used", "$$this.bank"] if self.banks else ["$$this.used"]
        whole = [
            {"$eq": [{"$type": "$$this.end"}, "date"]},
            {"$in": [{"$type": "$$this.used"}, literal(_COUNTS)]},
            {"$gte": [{"$min": counts}, 0]},  # NaN sorts before 0
            {"$lte": [{"$max": counts}, MAX_STORED]},
        ]
        if self.banks:
            whole.append({"$in": [{"$type": "$$this.bank"}, literal([*_COUNTS, "missing", "null"])]})
        sound = {"$or": [absent("$$this"), {"$and": whole}]}
        if len(self.windows) == 1:
            return {"$let": {"vars": {"this": self.windows[0].stored}, "in": sound}}
        return {"$allElementsTrue": [{"$map": {"input": [terms.stored for terms in self.windows], "in": sound}}]}

    def _known_numbers(self) -> list[dict[str, Any]]:
        """List what must hold of the numbers that are read from the document."""
        numbers = [f"$${name}" for terms in self.windows for name in terms.numbers()]
        if not numbers:
            return []
        return [*in_range([0, *numbers], MAX_AMOUNT), *({"$gt": [number, None]} for number in numbers)]


class _Merge:
    """Merge fields into the state, and the state into the document."""

    def __init__(self, plan: StatePlan[QuotaSpec], *, once: int) -> None:
        self._plan = plan
        self._once = once

    def __call__(self, fields: dict[str, Any], *, keep: bool = True) -> dict[str, Any]:
        fields = {"at": "$$now", "by": "$$token", **fields}
        if self._once:
            known = {"$concatArrays": [{"$ifNull": ["$$state.once", literal([])]}, ["$$once"]]}
            fields["once"] = {"$slice": [known, -self._once]}
        state: Any = {"$mergeObjects": ["$$state", fields]} if keep else fields
        return merge_at(self._plan.doc, self._plan.spec.path, state)


def _only_if(condition: dict[str, Any], document: dict[str, Any]) -> dict[str, Any]:
    return {"$cond": [condition, document, "$$ROOT"]}


def _lent() -> dict[str, Any]:
    """Build what a grant has paid in the windows that are running."""
    return {"$cond": [{"$gt": ["$$state.extra.until", "$$now"]}, {"$ifNull": ["$$state.extra.lent", 0]}, 0]}


def _held() -> dict[str, Any]:
    """Build the sum of what is reserved; null where nothing ever was."""
    live = {"$gt": ["$$this.until", "$$now"]}
    summed = {"$cond": [live, {"$add": ["$$value", "$$this.n"]}, "$$value"]}
    return {"$reduce": {"input": "$$state.holds", "initialValue": 0, "in": summed}}


def _sound_holds() -> dict[str, Any]:
    """Build the list that tells of each reservation whether it is one; null where there is no list."""
    sound = [
        {"$eq": [{"$type": "$$this.until"}, "date"]},
        {"$eq": [{"$type": "$$this.id"}, "objectId"]},
        {"$in": [{"$type": "$$this.n"}, literal(["int", "long", "decimal"])]},
        {"$gte": ["$$this.n", 0]},
        {"$lte": ["$$this.n", MAX_AMOUNT]},
    ]
    return {"$map": {"input": "$$state.holds", "in": {"$and": sound}}}


def _holds(comparison: str, field: str, value: str) -> dict[str, Any]:
    """Build the list of the reservations whose field compares with a value in that way."""
    holds = {"$ifNull": ["$$state.holds", literal([])]}
    return {"$filter": {"input": holds, "cond": {comparison: [f"$$this.{field}", value]}}}


def _given_up() -> dict[str, Any]:
    """Build the fields of the state without the reservation `$$entry`, and the note that tells what it was."""
    note = {"n": "$$entry.n", "late": {"$lte": ["$$entry.until", "$$now"]}}
    return {"holds": _holds("$ne", "id", "$$hold"), "note": note}


def _travel(number: Amount) -> Any:
    return amount_value("number", number, zero=True)
