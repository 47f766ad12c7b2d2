"""What can be told of the nodes of Pydantic's core schema without building anything. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, get_type_hints

__all__ = ["function", "has_default", "innermost", "is_own", "is_pydantics", "name_of", "reached", "returned", "writer"]

Node = Mapping[str, Any]


def function(node: Node) -> Any:
    """Return the function of a validator."""
    return node["function"]["function"]


def name_of(code: Any) -> str:
    """Return the name of a function, as a finding tells it."""
    inner = code.func if isinstance(code, partial) else code
    return str(getattr(inner, "__name__", type(inner).__name__))


def is_pydantics(code: Any) -> bool:
    """Tell whether a function is one of Pydantic's own."""
    return _home(code).startswith(("pydantic.", "pydantic_core."))


def is_own(code: Any) -> bool:
    """Tell whether a function is one of Pydantic's own or of this package."""
    return is_pydantics(code) or _home(code).startswith("mongopatterns.")


def _home(code: Any) -> str:
    inner = code.func if isinstance(code, partial) else code
    return str(getattr(inner, "__module__", None) or type(inner).__module__)


def returned(code: Any) -> Any:
    """Return the type that a function says it gives; None if it says nothing that can be used."""
    try:
        given = get_type_hints(code, include_extras=True).get("return", Any)
    except (NameError, TypeError, AttributeError):  # (names that are not defined; built-in functions)
        return None
    return None if given is Any or type(given).__name__ == "TypeVar" or str(given).endswith("typing.Self") else given


def has_default(node: Node) -> bool:
    """Tell whether a field may be missing."""
    inner: Any = node
    while inner["type"].startswith("function-") and "schema" in inner:
        inner = inner["schema"]
    return bool(inner["type"] == "default")


def writer(node: Node) -> Node | None:
    """Return the serializer of the caller's that writes a value."""
    how = node.get("serialization") or {}
    if str(how.get("type")).startswith("function-") and not is_pydantics(how["function"]):
        return None if str(how.get("when_used")).startswith("json") else how
    return writer(node["schema"]) if isinstance(node.get("schema"), Mapping) else None


def reached(node: Node, known: Mapping[str, Node]) -> set[str]:
    """Return the names of the definitions that a node leads to."""
    names: set[str] = set()
    waiting: list[Any] = [node]
    while waiting:
        each = waiting.pop()
        if isinstance(each, Mapping):
            name = each.get("schema_ref")
            if isinstance(name, str) and name not in names:
                names.add(name)
                waiting.append(known.get(name))
            waiting += [value for key, value in each.items() if key not in ("metadata", "default")]
        elif isinstance(each, (list, tuple)):
            waiting += each
    return names


def innermost(node: Node) -> Node:
    """Return what validators stand around."""
    inner: Any = node
    while isinstance(inner.get("schema"), Mapping) and inner["type"].startswith("function-"):
        inner = inner["schema"]
    return inner  # type: ignore[no-any-return]  # a node
