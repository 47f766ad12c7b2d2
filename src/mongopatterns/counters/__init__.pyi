# What can be imported from `mongopatterns.counters`: read by type checkers, and by `__init__.py` when a name is asked
# for.

from ._counter_async import AsyncCounter
from ._counter_sync import Counter
from ._limiter_async import AsyncRateLimiter
from ._limiter_sync import RateLimiter
from ._quota_async import AsyncQuota
from ._quota_sync import Quota
from ._specs import CounterSpec, QuotaSpec, Rate, RateLimiterSpec, Rollover, Times, Window
from ._verdicts import Decision, RateDecision, Reservation, Settlement, SettleOutcome

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
