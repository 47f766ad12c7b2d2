"""Numbers on their way in and out."""

from __future__ import annotations

from decimal import Decimal, localcontext
from fractions import Fraction
from typing import Any

import pytest
from bson import Decimal128, Int64
from hypothesis import given
from hypothesis import strategies as st

from mongopatterns.amounts import MAX_AMOUNT, add, amount_value, multiply, plain, plain_number, subtract
from mongopatterns.errors import UsageError

floats = st.floats(min_value=1e-300, max_value=MAX_AMOUNT, exclude_min=True)
decimals = st.decimals(min_value=Decimal("1e-12"), max_value=MAX_AMOUNT, places=12)


@given(st.integers(1, MAX_AMOUNT))
def test_whole_numbers_travel_as_integers(value: int) -> None:
    """An int stays an int, and a float or Decimal that is whole becomes one."""
    assert amount_value("amount", value) == value
    assert amount_value("amount", Decimal(value)) == value
    assert isinstance(amount_value("amount", Decimal(value)), int)
    if float(value) == value:
        assert amount_value("amount", float(value)) == value


@given(floats)
def test_a_float_travels_as_the_text_that_stands_for_it(value: float) -> None:
    """A fraction becomes the shortest decimal that reads back as the same float, to 18 places."""
    exact = Decimal(repr(value))
    try:
        sent = plain(amount_value("amount", value))
    except UsageError:
        assert exact < Decimal("5.1e-19")
        return
    assert abs(Decimal(sent) - exact) <= Decimal("5e-19")
    if exact.as_tuple().exponent >= -18:  # type: ignore[operator]
        assert float(sent) == value


@given(decimals)
def test_a_decimal_travels_as_itself(value: Decimal) -> None:
    """A Decimal is sent and read back without losing a digit."""
    assert plain_number(amount_value("amount", value)) == value


@pytest.mark.parametrize("value", [True, False, "1", None, [1], {}, 1j, b"1", object()])
def test_other_types_are_refused(value: Any) -> None:
    """Only int, float and Decimal are amounts; bool and text are not."""
    with pytest.raises(UsageError, match=r"^cost: expected an int, float or Decimal"):
        amount_value("cost", value)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), Decimal("sNaN"), Decimal("NaN"), Decimal("-Infinity")])
def test_numbers_that_are_not_finite_are_refused(value: Any) -> None:
    """NaN of either kind and infinities raise a UsageError."""
    with pytest.raises(UsageError, match=r"^amount: expected a finite number"):
        amount_value("amount", value)


@pytest.mark.parametrize("value", [0, 0.0, -0.0, Decimal(0), -1, -1e-9, Decimal("-0.1")])
def test_zero_and_negative_amounts_are_refused(value: Any) -> None:
    """An amount is greater than 0; a limit may be 0 and never less."""
    with pytest.raises(UsageError, match=r"^amount: expected a number greater than 0"):
        amount_value("amount", value)
    if value == 0:
        assert amount_value("limit", value, zero=True) == 0
    else:
        with pytest.raises(UsageError, match="of at least 0"):
            amount_value("limit", value, zero=True)


@pytest.mark.parametrize(
    "value", [MAX_AMOUNT + 1, 1e16, Decimal("1e15") + 1, 10**400], ids=lambda value: f"{value!r:.20}"
)
def test_amounts_beyond_the_bound_are_refused(value: Any) -> None:
    """More than 10**15 is refused, however large."""
    assert amount_value("amount", MAX_AMOUNT) == MAX_AMOUNT
    with pytest.raises(UsageError, match="at most 1000000000000000"):
        amount_value("amount", value)


def test_more_places_than_every_sum_holds_are_refused() -> None:
    """A Decimal of 18 places travels, one of 19 is refused instead of lost in a large sum."""
    assert amount_value("amount", Decimal("1e-18"))
    assert plain(amount_value("amount", MAX_AMOUNT - Decimal("1e-18"))) == MAX_AMOUNT - Decimal("1e-18")
    for value in (Decimal("1e-19"), Decimal("1.0000000000000000001")):
        with pytest.raises(UsageError, match="at most 18 decimal places"):
            amount_value("amount", value)


def test_the_callers_decimal_context_plays_no_part() -> None:
    """Amounts, sums and differences are exact whatever precision the application has set."""
    with localcontext() as context:
        context.prec = 2
        assert plain(amount_value("amount", Decimal("1.23456"))) == Decimal("1.23456")
        assert subtract(1, Decimal("0.12345")) == Decimal("0.87655")
        assert add(Decimal("0.12345"), 1) == Decimal("1.12345")


class Shown(float):
    """Stands for numpy's float64, a float that shows itself in another way."""

    def __repr__(self) -> str:
        return f"np.float64({float(self)})"


def test_a_subclass_of_float_is_a_float() -> None:
    """Numpy's float64 counts as the float that it is."""
    assert plain(amount_value("amount", Shown(0.5))) == Decimal("0.5")


@pytest.mark.parametrize(
    ("stored", "number"),
    [
        (3, 3),
        (Int64(3), 3),
        (3.0, 3),
        (0.1, Decimal("0.1")),
        (Decimal128("1.0"), 1),
        (Decimal128("1.50"), Decimal("1.5")),
        (Decimal128("1E+3"), 1000),
        (Decimal128("0.1000000000000000000000000000000001"), Decimal("0.1000000000000000000000000000000001")),
        (Decimal128("NaN"), None),
        (Decimal128("Infinity"), None),
        (float("nan"), None),
        (True, None),
        ("3", None),
        (None, None),
    ],
)
def test_stored_numbers_become_plain_ones(stored: Any, number: Any) -> None:
    """Whole numbers become int, all others Decimal with every digit, and what is no finite number None."""
    assert plain_number(stored) == number
    assert type(plain_number(stored)) is type(number)


@given(st.lists(st.integers(-(10**18), 10**18) | decimals, max_size=6))
def test_sums_are_exact(numbers: list[Any]) -> None:
    """Adding and multiplying in memory never rounds."""
    assert Fraction(add(*numbers)) == sum(map(Fraction, numbers))
    for number in numbers:
        assert Fraction(multiply(number, numbers[0])) == Fraction(number) * Fraction(numbers[0])
        assert Fraction(subtract(number, numbers[0])) == Fraction(number) - Fraction(numbers[0])


def test_plain_of_no_number_is_a_bug() -> None:
    """plain() is for what was checked before."""
    with pytest.raises(TypeError, match="expected a finite number"):
        plain("3")
