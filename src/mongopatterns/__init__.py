"""MongoDB patterns that stay exact under concurrency, on the driver that you already use."""

from mongopatterns.counters import (
    AsyncCounter,
    AsyncQuota,
    Counter,
    CounterSpec,
    Decision,
    Quota,
    QuotaSpec,
    Rollover,
    Times,
    Window,
)
from mongopatterns.errors import (
    DeploymentError,
    DocumentNotFound,
    LimitExceeded,
    MongoPatternsError,
    NotSent,
    OutcomeUnknown,
    RepeatedCommands,
    StateError,
    UsageError,
    may_have_applied,
)
from mongopatterns.expressions import Field
from mongopatterns.indexes import Index
from mongopatterns.typing import Durability

__all__ = [
    "AsyncCounter",
    "AsyncQuota",
    "Counter",
    "CounterSpec",
    "Decision",
    "DeploymentError",
    "DocumentNotFound",
    "Durability",
    "Field",
    "Index",
    "LimitExceeded",
    "MongoPatternsError",
    "NotSent",
    "OutcomeUnknown",
    "Quota",
    "QuotaSpec",
    "RepeatedCommands",
    "Rollover",
    "StateError",
    "Times",
    "UsageError",
    "Window",
    "may_have_applied",
]
