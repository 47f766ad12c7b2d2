"""What every verdict can do: be asked whether to go ahead, and be written as JSON. Pure."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import fields
from decimal import Decimal
from enum import Enum
from typing import Any

from bson import Decimal128

__all__ = ["Verdict", "as_json"]


class Verdict:
    """A frozen dataclass that tells what came of a call. Each says itself what makes it true."""

    def __bool__(self) -> bool:
        """Return whether the call may go ahead."""
        raise NotImplementedError

    def to_dict(self) -> dict[str, Any]:
        """Return what `json.dumps` takes: numbers (fractions as floats), ISO 8601 text, ids as text."""
        return {part.name: as_json(getattr(self, part.name)) for part in fields(self)}  # type: ignore[arg-type]


def as_json(value: Any) -> Any:
    """Return a value made of what JSON has: what it has not is given as the nearest number or as text."""
    if isinstance(value, (Decimal, Decimal128)):
        value = float(value.to_decimal() if isinstance(value, Decimal128) else value)
    elif isinstance(value, Verdict):
        value = value.to_dict()
    elif isinstance(value, Enum):
        value = value.value
    elif isinstance(value, dt.datetime):
        value = value.isoformat()
    elif isinstance(value, Mapping):
        value = {str(name): as_json(item) for name, item in value.items()}
    elif isinstance(value, (list, tuple)):
        value = [as_json(item) for item in value]
    return value if isinstance(value, (str, int, float, dict, list, type(None))) else str(value)
