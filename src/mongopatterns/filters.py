"""The filter of a join, with places for values that each call gives. Pure.

A filter is code, and a value that a call gives is data: `{"user_id": Param("user")}` becomes
`{"user_id": {"$eq": value}}`, so that a dict which a caller sends as the user's id is compared and not run.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from bson import Regex, encode
from bson.errors import InvalidDocument

from mongopatterns.errors import UsageError
from mongopatterns.expressions import ANY_UUID, check_path, copied

LOGIC: Final = ("$and", "$or", "$nor")
_COMPARED: Final = frozenset({"$eq", "$ne", "$gt", "$gte", "$lt", "$lte"})
_LISTED: Final = frozenset({"$in", "$nin"})
# What the server takes in `find` and not within a pipeline, or the other way round.
_REFUSED: Final = frozenset({"$where", "$text", "$near", "$nearSphere", "$geoNear"})


@dataclass(frozen=True, slots=True)
class Param:
    """Stand for a value that each call gives, in `params=`.

    It stands for the value of a field, or of one of `$eq $ne $gt $gte $lt $lte $in $nin`. Whatever the value is, it is
    compared, never run.

    Attributes:
        name: Its name in `params=`.
    """

    name: str

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise UsageError("Param.name", f"expected a name, got {self.name!r:.100}")


class Where:
    """A checked filter.

    Attributes:
        params: The names of the values that a call has to give.
        equal: The paths that must equal one value, in order.

    Raises:
        UsageError: If it is no filter, or holds an operator or a `Param` where it cannot.
    """

    def __init__(self, where: object) -> None:
        if not isinstance(where, Mapping):
            raise UsageError("where", f"expected a filter, got {where!r:.100}")
        self._where = copied(where)  # nobody else can change it
        self.params: frozenset[str] = frozenset(_params_of_filter(where))
        try:
            encode(self.bound(dict.fromkeys(self.params, ())), codec_options=ANY_UUID)
        except (InvalidDocument, OverflowError, UnicodeError) as error:
            raise UsageError("where", f"cannot be sent: {error}") from None
        self.equal: tuple[str, ...] = tuple(
            path for path, test in where.items() if not path.startswith("$") and is_equality(test)
        )

    def bound(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Return the filter with the values of a call."""
        return _bound_filter(self._where, params)


def check_params(names: frozenset[str], params: object) -> Mapping[str, Any]:
    """Return the values of a call.

    Raises:
        UsageError: If one is missing, or nothing asks for it.
    """
    if params is None:
        if not names:
            return {}
        params = {}
    if not isinstance(params, Mapping):
        raise UsageError("params", f"expected a dict of values by name, got {params!r:.100}")
    if missing := sorted(names - params.keys()):
        raise UsageError("params", f"{missing[0]!r} is missing: the joins ask for {sorted(names)}")
    if unknown := [name for name in params if name not in names]:
        raise UsageError("params", f"{unknown[0]!r} is not asked for: the joins ask for {sorted(names)}")
    return params


def _sendable(name: str, value: Any) -> Any:
    try:
        encode({"": value}, codec_options=ANY_UUID)
    except (InvalidDocument, OverflowError, UnicodeError) as error:
        raise UsageError("params", f"{name!r} cannot be sent: {error}") from None
    return value


def is_equality(test: Any) -> bool:
    """Tell whether what a filter says of a path is that it equals one value, which is not null."""
    if isinstance(test, Mapping):
        return list(test) == ["$eq"] or not any(str(name).startswith("$") for name in test)
    return test is not None and not isinstance(test, (re.Pattern, Regex))


def _params_of_filter(where: Mapping[str, Any]) -> Iterator[str]:
    for name, test in where.items():
        if not isinstance(name, str):
            raise UsageError("where", f"{name!r} is no path and no operator")
        if name in LOGIC:
            if not isinstance(test, Sequence) or not all(isinstance(item, Mapping) for item in test):
                raise UsageError("where", f"{name} takes a list of filters, got {test!r:.100}")
            for item in test:
                yield from _params_of_filter(item)
        elif name.startswith("$"):
            _refuse(name, test)
        else:
            check_path("where", name)
            yield from _params_of_test(test)


def _params_of_test(test: Any) -> Iterator[str]:
    if isinstance(test, Param):
        yield test.name
    elif isinstance(test, Mapping):
        for operator, value in test.items():
            if isinstance(value, Param) and operator in _COMPARED | _LISTED:
                yield value.name
            elif operator == "$not" and isinstance(value, Mapping):
                yield from _params_of_test(value)
            elif operator == "$elemMatch" and isinstance(value, Mapping):
                inner = _params_of_test if all(str(name).startswith("$") for name in value) else _params_of_filter
                yield from inner(value)
            else:
                _refuse(operator, value)
    else:
        _refuse("a list", test)


def _refuse(operator: str, value: Any) -> None:
    """Refuse what a join cannot do, and places that a value cannot have."""
    if operator in _REFUSED:
        raise UsageError("where", f"{operator} does not work within a join: filter by plain comparisons")
    if any(isinstance(item, Param) for item in _walk(value)):
        places = "a field, or $eq, $ne, $gt, $gte, $lt, $lte, $in, $nin"
        raise UsageError("where", f"a Param within {operator!r} would not stay data: it is the value of {places}")


def _walk(value: Any) -> Iterator[Any]:
    yield value
    items = value.values() if isinstance(value, Mapping) else value if isinstance(value, (list, tuple)) else ()
    for item in items:
        yield from _walk(item)


def _bound_filter(where: Mapping[str, Any], params: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: [_bound_filter(item, params) for item in test] if name in LOGIC else _bound_test(test, params)
        for name, test in where.items()
    }


def _bound_test(test: Any, params: Mapping[str, Any]) -> Any:
    if isinstance(test, Param):
        return {"$eq": _sendable(test.name, params[test.name])}
    if not isinstance(test, Mapping):
        return test
    bound: dict[str, Any] = {}
    for operator, value in test.items():
        if isinstance(value, Param):
            given = _listed(value.name, params) if operator in _LISTED else params[value.name]
            bound[operator] = _sendable(value.name, given)
            _refuse_syntax(value.name, operator, bound[operator])
        elif operator in ("$not", "$elemMatch") and isinstance(value, Mapping):
            tests = all(str(name).startswith("$") and name not in LOGIC for name in value)
            bound[operator] = _bound_test(value, params) if tests else _bound_filter(value, params)
        else:
            bound[operator] = value
    return bound


def _refuse_syntax(name: str, operator: str, value: Any) -> None:
    """Refuse what would be run, or break the query: `$eq` alone compares whatever it is given."""
    for item in value if operator in _LISTED else [value]:
        if operator != "$eq" and isinstance(item, (re.Pattern, Regex)):
            raise UsageError("params", f"{name!r} holds a pattern, which {operator} would run or refuse")
        if operator in _LISTED and isinstance(item, Mapping) and str(next(iter(item), "")).startswith("$"):
            raise UsageError(
                "params", f"{name!r} holds a document that looks like an operator, which {operator} refuses"
            )


def _listed(name: str, params: Mapping[str, Any]) -> list[Any]:
    value = params[name]
    if isinstance(value, (str, bytes, Mapping)) or not isinstance(value, (Sequence, set, frozenset)):
        raise UsageError("params", f"{name!r}: expected a list of values, got {value!r:.100}")
    return list(value)
