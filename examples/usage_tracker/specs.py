"""Everything that the worker and the handler ask of the database, as values: made at import, without a connection."""

import datetime as dt

from mongopatterns import (
    CollectionSpec,
    DocumentSpec,
    Field,
    Index,
    PoolBudget,
    QuotaSpec,
    Rate,
    RateLimiterSpec,
    SchemaSpec,
    Tier,
    Window,
)

# What an account may use: asked before the work is done. The id of a job is known until a thousand others of the same
# account have been counted, so a job must come again before that.
MINUTES = QuotaSpec(
    "accounts",
    path="minutes",
    windows=[Window.month(Field("minutes_a_month", default=1_000))],
    align="first_use",
    once_kept=1_000,
)

# What it turned out to cost: counted afterwards, room or not.
TOKENS = QuotaSpec("accounts", path="tokens", windows=[Window.month(None)], align="first_use", once_kept=1_000)

# Which process is at which job, and how often it was given to one.
JOBS = DocumentSpec("jobs")

# In front of the handler, for each caller.
CALLS = RateLimiterSpec("calls", Rate(3, per=60))

SCHEMA = SchemaSpec(
    [MINUTES, TOKENS, JOBS, CALLS, CollectionSpec("requests", indexes=[Index.ttl("at", after=dt.timedelta(days=30))])]
)

# One budget for all: 4 workers with 8 processes each, and as many containers as the provider is told to start at most.
BUDGET = PoolBudget(tier=Tier.M0, processes=4 * 8 + 70)
