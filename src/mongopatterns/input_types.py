"""Types for the input of Pydantic models: text without control characters, names that are no operators.

They say what a text may be before it is stored. What a text means where it is shown is another matter: HTML is escaped
by what writes the page, and nothing here does it.
"""

from __future__ import annotations

import re
from dataclasses import KW_ONLY, dataclass
from typing import Any, Final

from mongopatterns.errors import UsageError

__all__ = ["CleanText", "SafeName"]

# What turns the direction of text round, so that it reads as another: marks within a text (U+200E, U+200F) stay.
_TURNS: Final = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_BYTE_ORDER_MARK: Final = "\ufeff"
# Controls but for breaks and tabs, halves of surrogate pairs, marks of order, and turns.
_DROPPED: Final = f"[\0-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\ud800-\udfff{_BYTE_ORDER_MARK}{''.join(sorted(_TURNS))}]+"
_OF_ONE_LINE: Final = re.compile(f"([\t\n\r\x0b\x0c\x85\u2028\u2029]+)|{_DROPPED}")
_OF_LINES: Final = re.compile(f"(\r\n|[\r\x0b\x0c\x85\u2028\u2029])|{_DROPPED}")
_LONGEST_NAME: Final = 120


@dataclass(frozen=True)
class CleanText:
    """Clean the text of a field: `Annotated[str, CleanText(max_length=200)]`.

    Control characters go, NUL among them, and so do halves of surrogate pairs, which BSON cannot hold, byte order
    marks, and the characters that turn the direction of text round (U+202A to U+202E, U+2066 to U+2069). Line breaks
    and tabs become one space; with `multiline` they stay, each break as one newline. White space at both ends goes.
    What is left is counted.

    It does not escape HTML, which is for what writes the page; nor does it bring letters with accents to one form
    (NFC), or forbid words, links or look-alikes.

    Attributes:
        max_length: How many characters may be left, as Python counts them: `len(text)`, which is what a validator of
            the server counts, too.
        min_length: How many must be left.
        multiline: Whether line breaks and tabs stay.

    Raises:
        UsageError: If the lengths are no whole numbers, or the first is less than the second; or, when the model is
            made, if what is annotated is no `str`.
    """

    _: KW_ONLY
    max_length: int
    min_length: int = 0
    multiline: bool = False

    def __post_init__(self) -> None:
        for name, least in (("min_length", 0), ("max_length", max(1, self.min_length))):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise UsageError(name, f"expected a whole number of {least} or more, got {value!r}")

    def __call__(self, text: str) -> str:
        """Return the text without what does not belong into it."""
        pattern, instead = (_OF_LINES, "\n") if self.multiline else (_OF_ONE_LINE, " ")
        return pattern.sub(lambda found: instead if found[1] else "", text).strip()

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        """Tell Pydantic what is valid; it is imported only by those who use it."""
        from pydantic_core import core_schema  # noqa: PLC0415

        schema = handler(source)
        if schema["type"] != "str":
            if "function" in schema or schema["type"] == "chain":
                problem = "stands directly after the type, as in Annotated[str, CleanText(...), ...]"
                raise UsageError("CleanText", f"{problem}: other validators, and a second one, come after it")
            raise UsageError("CleanText", f"cleans text, as in Annotated[str, CleanText(...)], and not {source!r:.100}")
        low, high = schema.get("min_length") or 0, schema.get("max_length")
        cleaned: Any = {
            **schema,
            "min_length": max(low, self.min_length),
            "max_length": self.max_length if high is None else min(high, self.max_length),
            "strict": True,  # (bytes would be read as text without being cleaned)
        }
        return core_schema.no_info_before_validator_function(self._clean, cleaned)

    def _clean(self, value: object) -> object:
        if isinstance(value, str):
            return self(value)
        from pydantic_core import PydanticKnownError  # noqa: PLC0415

        raise PydanticKnownError("string_type")  # (whatever the field says of strictness: bytes would not be cleaned)


class SafeName(str):
    """Stand in a Pydantic model for a name that is never an operator or a path: the name of a field, a tag, a room.

    It has 1 to 120 characters, does not begin with `$`, and holds no dot, no NUL and no other control character.
    Anything else is refused, not mended: a name that is changed names something else.

    It is safe as one part of a field's path, and as the name of a field. A name of digits is taken: of a list it would
    mean a place. It does not forbid names that mean something to your application, such as `_id`.

    Example:
        `class Reaction(BaseModel): name: SafeName`, or `Annotated[SafeName, Field(max_length=20)]`
    """

    __slots__ = ()

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
        """Tell Pydantic what is valid; it is imported only by those who use it."""
        from pydantic_core import core_schema  # noqa: PLC0415

        # (the first character, and those after it; written so that browsers read it as well)
        pattern = r"^[^$.\x00-\x1f\x7f-\x9f][^.\x00-\x1f\x7f-\x9f]*$"
        # (to Python's engine, which a model may choose, a newline may stand after the end)
        return core_schema.str_schema(
            pattern=pattern, regex_engine="rust-regex", min_length=1, max_length=_LONGEST_NAME, strict=True
        )
