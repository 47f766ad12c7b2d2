"""The collection of measurements, and the reports on it, as values."""

import datetime as dt
from zoneinfo import ZoneInfo

from mongopatterns import (
    Avg,
    CollectionSpec,
    Count,
    GroupBy,
    Histogram,
    Index,
    Percentiles,
    Ratio,
    ReportSpec,
    SchemaSpec,
    Sum,
    TimeBuckets,
    TimeSeries,
    Totals,
)

ZONE = ZoneInfo("America/New_York")

# One measurement is one flight; a series is a segment of a carrier's network: from where to where.
SCHEMA = SchemaSpec(
    [
        CollectionSpec(
            "segments",
            timeseries=TimeSeries(
                "at",
                meta="segment",
                granularity="hours",
                # A service would keep some weeks. These rows are of 2013, and would be gone within a minute.
                expire_after=dt.timedelta(days=50 * 365),
            ),
            indexes=[Index("segment.origin", "segment.dest", "at")],
        )
    ]
)

# Each is worked out of the flights of a row, so a day of three flights weighs three.
MEASURES = {
    "flights": Count(),
    "delay": Avg("delay"),  # of those that left
    "late": Ratio(Count(where={"delay": {"$gt": 15}}), Count(where={"delay": {"$ne": None}}), scale=100),
    "speed": Ratio(Sum("miles"), Sum("minutes"), scale=60),  # miles an hour: all miles in all that time
}

TRENDS = ReportSpec(
    "segments",
    branches={
        "total": Totals(MEASURES),
        "days": TimeBuckets("at", unit="day", timezone=ZONE.key, fill=True, measures=MEASURES),
        "weeks": TimeBuckets("at", unit="week", timezone=ZONE.key, fill=True, measures=MEASURES),
        "carriers": GroupBy("segment.carrier", measures=MEASURES, sort=[("flights", -1)]),
        "spread": Histogram("delay", boundaries=[0, 15, 60], outside=True),
    },
)

# By itself, because it needs MongoDB 7.0.
PERCENTILES = ReportSpec("segments", branches={"delay": Percentiles("delay", p=(0.5, 0.9, 0.99))})
