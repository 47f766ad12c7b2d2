"""Counters and quotas: numbers that many callers raise at once, exactly.

`Counter` adds up. `Quota` grants while there is room in every one of its calendar windows, and banks what a
window leaves unused. Both take one command a call, on documents of their own or on fields of yours.
"""

from mongopatterns.counters._async import AsyncCounter, AsyncQuota
from mongopatterns.counters._specs import CounterSpec, Decision, QuotaSpec, Rollover, Times, Window
from mongopatterns.counters._sync import Counter, Quota

__all__ = [
    "AsyncCounter",
    "AsyncQuota",
    "Counter",
    "CounterSpec",
    "Decision",
    "Quota",
    "QuotaSpec",
    "Rollover",
    "Times",
    "Window",
]
