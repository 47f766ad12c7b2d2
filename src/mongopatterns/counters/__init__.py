"""Counters, quotas and rate limiters: numbers that many callers raise at once, exactly.

`Counter` adds up. `Quota` grants while there is room in every one of its windows, and banks what a window leaves
unused. `RateLimiter` admits so much in so much time. All take one command a call, on documents of their own or on
fields of yours.
"""

from mongopatterns.counters._counter_async import AsyncCounter
from mongopatterns.counters._counter_sync import Counter
from mongopatterns.counters._limiter_async import AsyncRateLimiter
from mongopatterns.counters._limiter_sync import RateLimiter
from mongopatterns.counters._quota_async import AsyncQuota
from mongopatterns.counters._quota_sync import Quota
from mongopatterns.counters._specs import CounterSpec, QuotaSpec, Rate, RateLimiterSpec, Rollover, Times, Window
from mongopatterns.counters._verdicts import Decision, RateDecision, Reservation, Settlement, SettleOutcome

__all__ = [
    "AsyncCounter",
    "AsyncQuota",
    "AsyncRateLimiter",
    "Counter",
    "CounterSpec",
    "Decision",
    "Quota",
    "QuotaSpec",
    "Rate",
    "RateDecision",
    "RateLimiter",
    "RateLimiterSpec",
    "Reservation",
    "Rollover",
    "SettleOutcome",
    "Settlement",
    "Times",
    "Window",
]
