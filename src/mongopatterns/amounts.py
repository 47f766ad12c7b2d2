"""Numbers that are counted: checked on the way in, exact on the server, plain on the way out. Pure.

Whole numbers travel as integers and all others as Decimal128, so that no sum drifts as binary fractions do.
"""

from __future__ import annotations

import math
from decimal import Context, Decimal
from typing import Any, TypeAlias

from bson import Decimal128

from mongopatterns.errors import UsageError

__all__ = [
    "DECIMAL_PLACES",
    "MAX_AMOUNT",
    "Amount",
    "Number",
    "add",
    "amount_value",
    "multiply",
    "plain",
    "plain_number",
    "subtract",
]

Amount: TypeAlias = int | float | Decimal
"""What a caller may count: an int, a finite float or a finite Decimal."""

Number: TypeAlias = int | Decimal
"""What a verdict tells: whole numbers as int, all others as Decimal."""

MAX_AMOUNT = 10**15
"""The largest single amount, limit or cap.

With Decimal128's 34 digits a sum of this size still keeps `DECIMAL_PLACES`, and it is below 2**53, so that a
client which reads numbers as doubles (JavaScript, the shell) shows it exactly.
"""

DECIMAL_PLACES = 18
"""How many places a fraction may have, so that every sum up to `MAX_AMOUNT` holds all of them."""

_EXACT = Context(prec=80)  # room for every digit of two Decimal128; a caller's own decimal context plays no part
_SMALL = 10**9
_LAST_PLACE = Decimal(1).scaleb(-DECIMAL_PLACES)


def _is_finite(value: Amount) -> bool:
    # math.isfinite raises for a signalling NaN, and for an int that no float holds.
    return value.is_finite() if isinstance(value, Decimal) else isinstance(value, int) or math.isfinite(value)


def _decimal(value: Amount) -> Decimal:
    # float.__repr__: a subclass (numpy's float64 is one) may show itself in another way.
    return Decimal(float.__repr__(value)) if isinstance(value, float) else Decimal(value)


def _shown(value: Amount) -> str:
    # Python refuses to print an int of more than 4,300 digits.
    return "a longer number" if isinstance(value, int) and abs(value) >= 10**40 else repr(value)


def amount_value(argument: str, value: object, *, zero: bool = False) -> int | Decimal128:
    """Turn an amount into what travels: whole numbers as integers, all others as Decimal128.

    A float is taken as the shortest decimal text that stands for it (`repr`), so that ten times 0.1 is 1, rounded
    to `DECIMAL_PLACES`.

    Args:
        argument: The caller's name for the argument, for the message.
        value: An int, float or Decimal.
        zero: Whether 0 is allowed (for limits).

    Raises:
        UsageError: If it is of another type (bool and text too), not finite, negative, zero where that means
            nothing, above `MAX_AMOUNT`, or a Decimal with more than `DECIMAL_PLACES`.
    """
    if type(value) is int and 0 < value < _SMALL:  # nearly every amount, and quick to check
        return value
    if isinstance(value, bool) or not isinstance(value, (int, float, Decimal)):
        raise UsageError(argument, f"expected an int, float or Decimal, got {value!r}")
    if not _is_finite(value):
        raise UsageError(argument, f"expected a finite number, got {value!r}")
    if value > MAX_AMOUNT:
        raise UsageError(argument, f"expected at most {MAX_AMOUNT}, got {_shown(value)}")
    if value < 0 or (value == 0 and not zero):
        bound = "of at least" if zero else "greater than"
        raise UsageError(argument, f"expected a number {bound} 0, got {_shown(value)}")
    exact = _decimal(value)
    if exact == exact.to_integral_value():
        return int(exact)
    places = exact.quantize(_LAST_PLACE, context=_EXACT)
    if places != exact and not isinstance(value, float):
        raise UsageError(argument, f"expected at most {DECIMAL_PLACES} decimal places, got {value!r}")
    if not places:
        raise UsageError(argument, f"expected at least {_LAST_PLACE}, got {value!r}")
    return Decimal128(places.normalize(_EXACT))


def plain_number(value: object) -> Number | None:
    """Turn a stored number into a plain one: int if it is whole, else Decimal; None if it is not a finite number."""
    if type(value) is int:  # nearly every number that is stored
        return value
    if isinstance(value, Decimal128):
        value = value.to_decimal()
    if isinstance(value, bool) or not isinstance(value, (int, float, Decimal)) or not _is_finite(value):
        return None
    exact = _decimal(value)
    whole = exact.to_integral_value()
    # normalize() rounds to the context's digits: the exact digits that the server sent are kept instead.
    return int(whole) if exact == whole else Decimal(f"{exact:f}".rstrip("0"))


def plain(stored: Any) -> Number:
    """Turn a number that is known to be one into a plain one.

    Raises:
        TypeError: If it is none after all.
    """
    number = plain_number(stored)
    if number is None:
        raise TypeError(f"expected a finite number, got {stored!r}")
    return number


def add(*numbers: Number) -> Number:
    """Add without rounding."""
    total: Number = 0
    for number in numbers:
        both_whole = isinstance(total, int) and isinstance(number, int)
        total = total + number if both_whole else plain(_EXACT.add(Decimal(total), Decimal(number)))
    return total


def subtract(one: Number, other: Number) -> Number:
    """Subtract without rounding."""
    if isinstance(one, int) and isinstance(other, int):
        return one - other
    return plain(_EXACT.subtract(Decimal(one), Decimal(other)))


def multiply(one: Number, other: Number) -> Number:
    """Multiply without rounding."""
    if isinstance(one, int) and isinstance(other, int):
        return one * other
    return plain(_EXACT.multiply(Decimal(one), Decimal(other)))
