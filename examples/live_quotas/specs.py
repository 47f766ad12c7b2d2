"""Everything that the service asks of the database, as values: made at import, without a connection."""

import datetime as dt
from zoneinfo import ZoneInfo

from mongopatterns import (
    CollectionSpec,
    Count,
    CountDistinct,
    DocumentSpec,
    Field,
    Index,
    One,
    PoolBudget,
    QuotaSpec,
    ReportSpec,
    Requirements,
    Rollover,
    SchemaSpec,
    Sum,
    Tier,
    TimeBuckets,
    Times,
    Top,
    Totals,
    Validator,
    Window,
)

from .models import Job, Session, User

ZONE = ZoneInfo("Europe/Berlin")  # days and months are those of the customers, and so are the days of a report

# Twelve processes at most, also while a deployment rolls on, on a cluster that takes 1,500 connections.
BUDGET = PoolBudget(tier=Tier.M10, processes=12)
NEEDS = Requirements(min_version=(5, 0), transactions=True)

USERS = DocumentSpec("users")

# Both live in the user's document, beside the limits: they are read in the write that charges. An unknown user is an
# error (create=None), and none appears because somebody asked.
SUBTITLES = QuotaSpec(
    "users",
    path="quota.subtitle",
    timezone=ZONE.key,
    windows=[
        # What an hour leaves unused is saved up, to twice its limit.
        Window.hour(Field("limits.subtitle.hour", default=60), rollover=Rollover(cap=Times(2))),
        Window.day(Field("limits.subtitle.day", default=300)),
        Window.month(Field("limits.subtitle.month", default=3000)),
    ],
    create=None,
    once_kept=100,
)
DUBBING = QuotaSpec(
    "users",
    path="quota.dubbing",
    timezone=ZONE.key,
    windows=[
        Window.hour(Field("limits.dubbing.hour", default=30)),
        Window.day(Field("limits.dubbing.day", default=60)),
        Window.month(Field("limits.dubbing.month", default=600), rollover=Rollover(cap=Times(1))),
    ],
    create=None,
)

MINUTES = Sum("seconds", scale=1 / 60, round=1)
USAGE = ReportSpec(
    "sessions",
    branches={
        "totals": Totals(
            {"sessions": Count(), "users": CountDistinct("user"), "minutes": MINUTES, "lines": Sum("lines")}
        ),
        "top_users": Top(
            "user",
            measures={"minutes": MINUTES, "sessions": Count()},
            sort=[("minutes", -1)],
            limit=10,
            row_joins=[One("users", local="key", foreign="_id", as_="user", fields={"name": 1, "_id": 0})],
        ),
        "per_day": TimeBuckets("started_at", timezone=ZONE.key, measures={"minutes": MINUTES, "sessions": Count()}),
    },
)

SCHEMA = SchemaSpec(
    [
        # moderate: who was stored before there was a validator can still be changed.
        CollectionSpec("users", validator=Validator.from_model(User, level="moderate")),
        CollectionSpec(
            "sessions",
            # The first one forgets sessions after 400 days, and finds those of a period.
            indexes=[Index.ttl("started_at", after=dt.timedelta(days=400)), Index("user", "started_at")],
            validator=Validator.from_model(Session),
        ),
        CollectionSpec(
            "jobs",
            # A job that was not settled in time can be for a week more.
            indexes=[Index.ttl("expires_at", after=dt.timedelta(days=7))],
            validator=Validator.from_model(Job),
        ),
        CollectionSpec("dead_letters", capped_size=10_000_000),
        USERS,
        SUBTITLES,
        DUBBING,
        USAGE,
    ]
)
