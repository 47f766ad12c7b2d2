"""What a dotted path leads to, in memory and on the server: of lists, to what is in them. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from bson import DBRef

__all__ = ["Leaves", "as_list", "flat", "leaves", "leaves_expression", "value_at"]

_MISSING: Final = object()
_HOLDERS: Final = (Mapping, DBRef)  # (the driver reads a document that begins with `$ref` as a DBRef)
_DOCUMENT: Final = {"$eq": [{"$type": "$$this"}, "object"]}


# In memory ---------------------------------------------------------------------------------------------------


def leaves(document: Mapping[str, Any], parts: Sequence[str]) -> list[Any]:
    """Return the values that a path leads to, lists at its end as they are."""
    found: list[Any] = [document]
    for part in parts:
        # (what is here is a document or what a path led to so far: of the lists, their documents are meant)
        found = [holder[part] for value in found for holder in _documents(value) if part in holder]
    return found


def value_at(document: Mapping[str, Any], path: str) -> Any:
    """Return what an expression of the server gives for a path: of lists the lists of what is in them.

    None stands for what is missing.
    """
    found = _value_at(document, path.split("."))
    return None if found is _MISSING else found


def _value_at(value: Any, parts: Sequence[str]) -> Any:
    if not parts:
        return value
    if isinstance(value, DBRef):
        value = value.as_doc()
    if isinstance(value, Mapping):
        return _value_at(value[parts[0]], parts[1:]) if parts[0] in value else _MISSING
    if not isinstance(value, list):
        return _MISSING
    found = (_value_at(item, parts) for item in _documents(value))
    return [one for one in found if one is not _MISSING]


def _documents(value: Any) -> Iterable[Mapping[str, Any]]:
    if isinstance(value, Mapping):
        return (value,)
    if isinstance(value, list):
        return [item.as_doc() if isinstance(item, DBRef) else item for item in value if isinstance(item, _HOLDERS)]
    return (value.as_doc(),) if isinstance(value, DBRef) else ()


class Leaves(list[Any]):
    """The leaves of a path, as opposed to a value that is a list."""


# On the server -----------------------------------------------------------------------------------------------


def leaves_expression(path: str) -> Any:
    """Build the list of the leaves of a path; null stands for those that are missing."""
    first, *rest = path.split(".")
    found: Any = [f"${first}"]
    for part in rest:
        found = {"$map": {"input": {"$filter": {"input": flat(found), "cond": _DOCUMENT}}, "in": f"$$this.{part}"}}
    return found


def as_list(value: str) -> dict[str, Any]:
    """Build a list: of what is none, the list of it."""
    return {"$cond": [{"$isArray": value}, value, [value]]}


def flat(lists: Any) -> dict[str, Any]:
    """Build one list of the items of several."""
    appended = {"$concatArrays": ["$$value", as_list("$$this")]}
    return {"$reduce": {"input": lists, "initialValue": [], "in": appended}}
