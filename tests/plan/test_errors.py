"""What errors say, and what may_have_applied() makes of the driver's."""

from __future__ import annotations

import asyncio
import pickle
import warnings
from typing import Any

import pymongo.errors as driver
import pytest

from mongopatterns import errors
from mongopatterns.errors import MongoPatternsError, UsageError, may_have_applied
from mongopatterns.findings import Finding, Severity

FOUND = Finding("missing-index", Severity.WARNING, "orders", "it has no index of 'user'", "Create it")


@pytest.mark.parametrize("name", errors.__all__)
def test_every_error_has_the_one_root_and_stands_in_the_tree(name: str) -> None:
    """Each error of the module derives from MongoPatternsError and is drawn in the module's docstring.

    A warning is no error: code that catches errors does not catch it.
    """
    kind = getattr(errors, name)
    if isinstance(kind, type):
        assert issubclass(kind, MongoPatternsError) is not issubclass(kind, Warning)
        assert name in str(errors.__doc__)
        assert not issubclass(kind, driver.PyMongoError)


def test_usage_errors_are_value_errors_that_name_the_argument() -> None:
    """Code that catches ValueError catches misuse, and the argument is an attribute."""
    error = UsageError("amount", "expected a number")
    assert isinstance(error, ValueError)
    assert (error.argument, str(error)) == ("amount", "amount: expected a number")


def test_a_missing_index_is_warned_of_or_refused_in_the_same_words() -> None:
    """Both say what the finding says and carry it; the warning can be turned into an error like any other."""
    with pytest.warns(errors.MissingIndexWarning, match="it has no index of 'user'") as caught:
        warnings.warn(errors.MissingIndexWarning(FOUND), stacklevel=1)
    assert caught[0].message.finding is FOUND  # type: ignore[union-attr]
    assert str(errors.MissingIndex(FOUND)) == str(caught[0].message) == str(FOUND)
    assert errors.MissingIndex(FOUND).finding is FOUND
    assert not may_have_applied(errors.MissingIndex(FOUND))


@pytest.mark.parametrize(
    "error",
    [
        errors.UsageError("amount", "amount: twice"),
        errors.LimitExceeded("full", key="k", decision=None),
        errors.DocumentNotFound("users", 7),
        errors.StateError("users", "alice", "q.hour", "wrong"),
        errors.OutcomeUnknown("sent"),
        errors.NotSent("late"),
        errors.DeploymentError("too old"),
        errors.ResultTooLarge("values", "more than 100"),
        errors.MissingIndex(FOUND),
        errors.MissingIndexWarning(FOUND),
        errors.RepeatedCommands("often", {"find users": 4}, {"find users": {"a.py:1 in f": 4}}),
    ],
    ids=lambda error: type(error).__name__,
)
def test_errors_cross_processes(error: Exception) -> None:
    """Every error survives pickling with its text and its data."""
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert (str(again), vars(again)) == (str(error), vars(error))


def labelled(error: Any, label: str) -> Any:
    error._add_error_label(label)
    return error


UNKNOWN = [
    driver.AutoReconnect("closed"),
    driver.NetworkTimeout("late"),
    driver.NotPrimaryError("election"),
    driver.WriteConcernError("not replicated", 64),
    driver.BulkWriteError({"writeErrors": [], "writeConcernErrors": [{"code": 64, "errmsg": "not replicated"}]}),
    driver.WTimeoutError("not replicated", 64),
    driver.ExecutionTimeout("late", 50),
    driver.WaitQueueTimeoutError("no connection"),
    asyncio.CancelledError(),
    asyncio.TimeoutError(),
    TimeoutError(),
    KeyboardInterrupt(),
    errors.OutcomeUnknown("sent"),
    labelled(driver.OperationFailure("shutting down", 91), "RetryableWriteError"),
    driver.OperationFailure("Incomplete transaction history", 217),
    driver.OperationFailure("image collection no longer contains the complete write history", 5637601),
]
REFUSED = [
    driver.ServerSelectionTimeoutError("no server"),
    driver.DuplicateKeyError("E11000", 11000),
    driver.OperationFailure("type mismatch", 14),
    driver.InvalidOperation("closed client"),
    driver.BulkWriteError({"writeErrors": [{"code": 11000, "errmsg": "E11000"}], "writeConcernErrors": []}),
    driver.ConfigurationError("bad option"),
    UsageError("amount", "bad"),
    errors.NotSent("late"),
    ValueError("bad"),
]


@pytest.mark.parametrize("error", UNKNOWN, ids=lambda error: type(error).__name__)
def test_an_unknown_outcome_may_have_applied(error: BaseException) -> None:
    """Lost connections, elections, timeouts, cancellation and unsatisfied write concerns may hide a stored write."""
    assert may_have_applied(error)


@pytest.mark.parametrize("error", REFUSED, ids=lambda error: type(error).__name__)
def test_a_refusal_did_not_apply(error: BaseException) -> None:
    """What was refused by the server or raised before sending stored nothing."""
    assert not may_have_applied(error)
