"""Give documents back as the caller's own types: Pydantic models, dataclasses, typed dicts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

from bson import ObjectId

from mongopatterns.errors import UsageError

__all__ = ["ObjectIdStr", "decode_all", "decode_page", "decode_parts"]


class ObjectIdStr(str):
    """Stand for an ObjectId in a Pydantic model: it takes ObjectIds and their text, and is text.

    Example:
        `class Party(BaseModel): id: ObjectIdStr = Field(alias="_id")`
    """

    __slots__ = ()

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
        """Tell Pydantic what is valid; it is imported only by those who use it."""
        from pydantic_core import core_schema  # noqa: PLC0415

        text = core_schema.str_schema(pattern="^[0-9a-fA-F]{24}$")
        return core_schema.no_info_before_validator_function(_as_text, text)


def _as_text(value: object) -> object:
    return str(value) if isinstance(value, ObjectId) else value


def decode_all(documents: Sequence[Mapping[str, Any]], model: type[Any] | None) -> list[Any]:
    """Return the documents as instances of `model`, or as they are.

    Raises:
        UsageError: If `model` is no type that Pydantic can make, or names one that is not defined; also if there are
            no documents.
        pydantic.ValidationError: If a document does not fit the model.
    """
    if model is None:
        return list(documents)
    adapt: Any = _adapter
    try:
        hash(model)
    except TypeError:  # (such as an annotated type with a list among its notes)
        adapt = _adapter.__wrapped__
    validate = adapt(model)
    return [validate(dict(document)) for document in documents]


def decode_parts(parts: Mapping[str, Any], models: Mapping[str, type[Any]]) -> dict[str, Any]:
    """Return named parts, each of them a row, a list of rows, or a page with `items`, with rows of their models."""
    return {name: _decoded(part, models.get(name)) for name, part in parts.items()}


def _decoded(part: Any, model: type[Any] | None) -> Any:
    if model is None:
        return part
    if isinstance(part, Mapping):
        return decode_all([part], model)[0]
    if isinstance(part, list):
        return decode_all(part, model)
    return decode_page(part, model)


def decode_page(page: Any, model: type[Any] | None) -> Any:
    """Return a page with `items` as instances of `model`, or as they are."""
    return page if model is None else replace(page, items=decode_all(page.items, model))


@lru_cache(maxsize=256)
def _adapter(model: Any) -> Any:
    from pydantic import PydanticUserError, TypeAdapter  # noqa: PLC0415  # slow to import, and few need it

    try:
        if isinstance(model, (str, Mapping)):  # (Pydantic would look for a type of that name here, or for a schema)
            raise TypeError(f"got {model!r:.100}")  # noqa: TRY301
        adapter: Any = TypeAdapter(model)
        # Without this, an adapter of a type with a part that is not defined yet fails at the first document.
        if not getattr(adapter, "pydantic_complete", True):
            adapter.rebuild(raise_errors=True)
    except (PydanticUserError, TypeError, NameError) as error:  # (a part that is not defined is a NameError)
        raise UsageError("model", f"expected a Pydantic model, a dataclass or a typed dict: {error}") from None
    return adapter.validate_python
