"""What a finding says: to a reader, to JSON, and to code."""

from __future__ import annotations

import json
import pickle

import pytest

from mongopatterns.findings import Finding, Severity

FOUND = Finding(
    "missing-index",
    Severity.WARNING,
    "orders",
    "no index begins with 'customer_id'",
    "Create one on ('customer_id', 1)",
)


def test_a_finding_is_one_line() -> None:
    """Printed, it has everything, and no remedy where there is none."""
    assert str(FOUND) == (
        "warning missing-index: orders: no index begins with 'customer_id'. Create one on ('customer_id', 1)."
    )
    assert str(Finding("seen", Severity.INFO, "orders", "it is empty")) == "info seen: orders: it is empty."


def test_a_finding_is_json() -> None:
    """`to_dict` has the parts by name, in plain text, and makes the same finding again."""
    written = json.loads(json.dumps(FOUND.to_dict()))
    assert list(written) == ["code", "severity", "subject", "evidence", "remedy"]
    assert written["severity"] == "warning"
    assert type(FOUND.to_dict()["severity"]) is str
    assert Finding(**{**written, "severity": Severity(written["severity"])}) == FOUND


def test_a_finding_is_a_value() -> None:
    """Findings are compared by what they say, can be kept in sets, and cannot be changed."""
    again = pickle.loads(pickle.dumps(FOUND))
    assert {FOUND, again} == {FOUND}
    with pytest.raises(AttributeError):
        FOUND.code = "other"  # type: ignore[misc]


def test_severities_are_text() -> None:
    """Code may compare a severity with plain text, in the order from harmless to bad."""
    assert [*Severity] == ["info", "warning", "error"]
