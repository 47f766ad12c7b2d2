"""A filter as an expression, for measures that count within a group. Pure.

`find` takes a filter, and `$cond` takes an expression. The two languages differ in nearly everything: a filter looks
into lists, compares values of one type only, and takes what is missing for null; an expression does none of it. The
expression that is built here is true for exactly the documents that the filter matches.

The server's rules for a filter, as `src/mongo/db/matcher/path.cpp` and `expression_leaf.cpp` of `mongodb/mongo` have
them: a path leads through documents, and through the documents in a list, but through no list in a list. What it ends
at are its *leaves*; the end of a path that breaks off is a leaf, too, which is missing. A list at its end is a leaf,
and so is each of its items. A test holds if it holds for any leaf, and `$ne`, `$nin`, `$not` and `$nor` are the
opposite of what holds.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, Final, TypeAlias

from bson import Decimal128, MaxKey, MinKey, Regex, encode

from mongopatterns.errors import UsageError
from mongopatterns.expressions import ANY_UUID, literal
from mongopatterns.filters import LOGIC, Where
from mongopatterns.specs import check_no_place

__all__ = ["check_condition", "condition"]

_Test: TypeAlias = Callable[[str, Any], Any]
"""How one operator with its value is put: `_Test("$gt", 5)` is an expression."""

_NO_PARAMS: Final[Mapping[str, Any]] = MappingProxyType({})
_NEGATED: Final = {"$ne": "$eq", "$nin": "$in"}
_ORDERED: Final = frozenset({"$gt", "$gte", "$lt", "$lte"})
_REMEDY: Final = "give the branch a where= instead, which is a filter of its own"
_NEVER: Final = literal(False)  # noqa: FBT003  # the value itself
_DOCUMENT: Final = {"$eq": [{"$type": "$$this"}, "object"]}
_LONG: Final = 8  # items up to which it is as quick to walk along the list as to look a value up in a set

# What the server compares by size with each other: the names that `$type` has for it, by the byte that BSON has.
_NUMBERS: Final = ("int", "long", "double", "decimal")
_TYPES: Final[Mapping[int, tuple[str, ...]]] = {
    0x01: _NUMBERS,
    0x10: _NUMBERS,
    0x12: _NUMBERS,
    0x13: _NUMBERS,
    0x02: ("string", "symbol"),
    0x03: ("object",),
    0x04: ("array",),
    0x05: ("binData",),
    0x07: ("objectId",),
    0x08: ("bool",),
    0x09: ("date",),
    0x0D: ("javascript",),
    0x11: ("timestamp",),
}


def check_condition(argument: str, where: Where) -> None:
    """Refuse a filter that cannot be a condition.

    Args:
        argument: The caller's name for the filter, for the message.
        where: The filter.

    Raises:
        UsageError: If it holds another operator than `$eq $ne $gt $gte $lt $lte $in $nin $exists $not $and $or $nor
            $expr`, a pattern, or a path with a part of digits.
    """
    _filter(argument, where.bound(dict.fromkeys(where.params, ())))


def condition(where: Where, params: Mapping[str, Any] = _NO_PARAMS) -> dict[str, Any]:
    """Build the expression that is true for exactly the documents that a filter matches, and false for the others.

    The values of the deprecated type "undefined" aside, which no driver has written for ten years.

    Args:
        where: A filter that `check_condition` lets pass.
        params: The values of the call.

    Raises:
        UsageError: If a value of the call cannot be compared like this.
    """
    return _filter("where", where.bound(params))


# The filter --------------------------------------------------------------------------------------------------


def _filter(argument: str, where: Mapping[str, Any]) -> dict[str, Any]:
    return _all([_term(argument, name, test) for name, test in where.items()])


def _all(terms: list[Any]) -> dict[str, Any]:
    return terms[0] if len(terms) == 1 else {"$and": terms}  # ("$and" of nothing is true)


def _term(argument: str, name: str, test: Any) -> dict[str, Any]:
    if name in LOGIC:
        if not test:
            raise UsageError(argument, f"{name} takes a list of filters, and this one is empty")
        terms = [_filter(argument, item) for item in test]
        return {"$not": [{"$or": terms}]} if name == "$nor" else {name: terms}
    if name == "$expr":
        return {"$and": [test]}  # (what is no bool becomes one)
    if name.startswith("$"):
        raise _refused(argument, name)
    check_no_place(argument, name)
    return _field(name, _operators(argument, test))


def _refused(argument: str, operator: str) -> UsageError:
    return UsageError(argument, f"{operator} cannot be a condition of a measure: {_REMEDY}")


def _operators(argument: str, test: Any) -> Mapping[str, Any]:
    """Return what a field is tested for as operators with values that can be a condition, all of them."""
    if not (isinstance(test, Mapping) and str(next(iter(test), "")).startswith("$")):
        if isinstance(test, (re.Pattern, Regex)):
            raise _refused(argument, "a pattern")
        return {"$eq": test}
    for operator, value in test.items():
        if operator == "$exists":
            if not isinstance(value, bool):
                raise UsageError(argument, f"$exists takes True or False, got {value!r:.100}")
        elif operator == "$not":
            if not isinstance(value, Mapping) or not str(next(iter(value), "")).startswith("$"):
                raise _refused(argument, "$not of something else than operators")
            _operators(argument, value)
        else:
            _check_compared(argument, operator, value)
    return test


def _check_compared(argument: str, operator: str, value: Any) -> None:
    if operator in ("$in", "$nin"):
        if not isinstance(value, (list, tuple)):
            raise UsageError(argument, f"{operator} takes a list of values, got {value!r:.100}")
        for item in value:
            if isinstance(item, (re.Pattern, Regex)):
                raise _refused(argument, f"a pattern within {operator}")
            if isinstance(item, Mapping) and str(next(iter(item), "")).startswith("$"):
                raise UsageError(argument, f"{operator} takes no operators, got {item!r:.100}")
    elif operator in _ORDERED or operator in ("$eq", "$ne"):
        if isinstance(value, (re.Pattern, Regex)) and operator != "$eq":
            raise UsageError(argument, f"{operator} takes no pattern")
        if operator in _ORDERED and not _is_comparable(value):
            raise _refused(argument, f"{operator} with a {type(value).__name__}")
    else:
        raise _refused(argument, operator)


def _is_comparable(value: Any) -> bool:
    return isinstance(value, (type(None), MinKey, MaxKey)) or bool(_type_names(value))


def _type_names(value: Any) -> tuple[str, ...]:
    return _TYPES.get(encode({"": value}, codec_options=ANY_UUID)[4], ())  # (behind the length of the document)


# One field ---------------------------------------------------------------------------------------------------


def _field(path: str, tests: Mapping[str, Any]) -> dict[str, Any]:
    """Build the condition on what a path leads to.

    Nearly every document has no list there or on the way, and then the path of an expression leads to the same value.
    If it has, then what the expression gives is a list: one of leaves, of lists of leaves, or a leaf that is a list.
    """
    value = f"${path}"
    *parents, name = path.split(".")

    def through_lists(operator: str, compared: Any) -> Any:
        if not parents:
            return _list(operator, compared, value)
        leaf = f"$$holder.{name}"
        holds = {"$cond": [{"$isArray": leaf}, _list(operator, compared, leaf), _value(operator, compared, leaf)]}
        return {"$anyElementTrue": [{"$map": {"input": _holders(parents), "as": "holder", "in": holds}}]}

    plain = _tested(tests, lambda operator, compared: _value(operator, compared, value))
    return {"$cond": [{"$isArray": value}, _tested(tests, through_lists), plain]}


def _tested(tests: Mapping[str, Any], test: _Test) -> dict[str, Any]:
    return _all(list(_each(tests, test)))


def _each(tests: Mapping[str, Any], test: _Test) -> Iterator[Any]:
    for operator, value in tests.items():
        if operator == "$not":
            yield {"$not": [_tested(value, test)]}
        elif operator in _NEGATED:
            yield {"$not": [test(_NEGATED[operator], value)]}
        elif operator == "$exists" and not value:
            yield {"$not": [test("$exists", value)]}
        else:
            yield test(operator, value)


def _holders(parents: list[str]) -> Any:
    """Build the list of what holds the leaves, and would hold those that are missing.

    Of a list that is its documents. What is no document holds nothing, and stays: its leaf is one that is missing.
    """
    first, *rest = parents
    found = _documents(f"${first}")
    for part in rest:
        led_to = {"$map": {"input": found, "in": f"$$this.{part}"}}
        appended = {"$concatArrays": ["$$value", _documents("$$this")]}
        found = {"$reduce": {"input": led_to, "initialValue": [], "in": appended}}
    return found


def _documents(value: str) -> Any:
    return {"$cond": [{"$isArray": value}, {"$filter": {"input": value, "cond": _DOCUMENT}}, [value]]}


# One test ----------------------------------------------------------------------------------------------------


def _list(operator: str, compared: Any, value: str) -> Any:
    """Build the test of a leaf that is a list: of the list, and of its items."""
    if operator == "$exists":
        return literal(True)  # noqa: FBT003  # the value itself
    if operator == "$eq":
        items: Any = {"$in": [literal(compared), value]}
    elif operator == "$in":
        items = {"$ne": [{"$setIntersection": [value, literal(compared)]}, []]}
    else:
        items = {"$anyElementTrue": [{"$map": {"input": value, "in": _value(operator, compared, "$$this")}}]}
    wholes = compared if operator == "$in" else [compared]
    if any(isinstance(whole, (list, tuple, MinKey, MaxKey)) for whole in wholes):
        return {"$or": [_value(operator, compared, value), items]}
    return items


def _value(operator: str, compared: Any, value: str) -> Any:
    """Build the test of one value, which may be missing; a list is compared as a whole."""
    if operator == "$exists":
        return {"$ne": [{"$type": value}, "missing"]}
    if operator == "$in":
        return _one_of(compared, value)
    if compared is None:
        # Nothing is less than null, or greater.
        return {"$eq": [{"$ifNull": [value, None]}, None]} if operator in ("$eq", "$lte", "$gte") else _NEVER
    if operator == "$eq":
        return {"$eq": [value, literal(compared)]}
    if _is_nan(compared):
        return {"$eq": [value, literal(compared)]} if operator in ("$lte", "$gte") else _NEVER
    return _ordered(operator, compared, value)


def _one_of(compared: list[Any], value: str) -> Any:
    if len(compared) > _LONG:
        return {"$setIsSubset": [[value], literal(compared)]}  # (in a list, what is missing becomes null)
    found: Any = {"$ifNull": [value, None]} if any(item is None for item in compared) else value
    return {"$in": [found, literal(compared)]}


def _is_nan(value: Any) -> bool:
    if isinstance(value, Decimal128):
        return value.to_decimal().is_nan()
    return isinstance(value, float) and math.isnan(value)


def _ordered(operator: str, compared: Any, value: str) -> Any:
    """Build what is true for values of the same type alone, and not for NaN."""
    test = {operator: [value, literal(compared)]}
    if isinstance(compared, (MinKey, MaxKey)):  # less or greater than anything else, which is not of their type
        return test
    names = _type_names(compared)
    if names != _NUMBERS:
        kind = {"$type": value}
        return {"$and": [test, {"$eq": [kind, *names]} if len(names) == 1 else {"$in": [kind, list(names)]}]}
    if operator in ("$gt", "$gte"):
        return {"$and": [test, {"$isNumber": value}]}
    return {"$and": [test, {"$gt": [value, literal(math.nan)]}]}  # (NaN is the least number, and greater than null)
