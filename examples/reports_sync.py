"""Show a dashboard of study sessions: totals, days, a top list with names, and pages. PyMongo.

Run it with `MONGODB_URI=mongodb://localhost:27017 python examples/reports_sync.py`.
"""

import datetime as dt
import os
from zoneinfo import ZoneInfo

from bson import Decimal128, ObjectId
from pymongo import MongoClient

from mongopatterns import (
    Avg,
    Count,
    CountDistinct,
    Histogram,
    InvalidCursor,
    One,
    PageOf,
    Param,
    Ratio,
    Report,
    ReportSpec,
    Sum,
    TimeBuckets,
    Top,
    Totals,
)

ZONE = ZoneInfo("Europe/Berlin")

# Defined once, at import: what the dashboard shows.
DASHBOARD = ReportSpec(
    "sessions",
    branches={
        "summary": Totals(
            {
                "sessions": Count(),
                "users": CountDistinct("user_id"),
                "minutes": Sum("seconds", scale=1 / 60, round=1),
                "cost": Sum("cost"),
                "failed": Ratio(Count(where={"errors": {"$gt": 0}}), Count(), scale=100, round=1),
                "mine": Count(where={"user_id": Param("user")}),
            }
        ),
        "per_day": TimeBuckets(
            "started_at", timezone=ZONE.key, measures={"sessions": Count(), "mean": Avg("seconds", round=0)}
        ),
        "lengths": Histogram("seconds", boundaries=[0, 600, 1800, 3600]),
        "top": Top(
            "user_id",
            measures={"seconds": Sum("seconds")},
            sort=[("seconds", -1)],
            limit=2,
            row_joins=[One("users", as_="user", local="key", foreign="_id", fields=["name"])],
        ),
        "page": PageOf(sort=[("started_at", -1)], limit=3, fields=["started_at", "seconds"], count="exact"),
    },
)


def main() -> None:
    uri = os.environ.get("MONGODB_URI", "mongodb://localhost:27017")
    database = os.environ.get("MONGODB_DATABASE", "mongopatterns_examples")
    with MongoClient(uri) as client:
        db = client[database]
        for index in DASHBOARD.indexes():
            db.sessions.create_index(index.keys, **index.options)

        # Three users of a school, and their sessions in the last days of March, when the clocks went forward.
        school = ObjectId()
        users = [{"_id": ObjectId(), "name": name} for name in ("Ann", "Bob", "Cleo")]
        db.users.insert_many(users)
        db.sessions.insert_many(
            [
                {
                    "school": school,
                    "user_id": users[user]["_id"],
                    "started_at": dt.datetime(2026, 3, day, hour, 45, tzinfo=dt.timezone.utc),
                    "seconds": seconds,
                    "cost": Decimal128(cost),
                    "errors": errors,
                }
                for user, day, hour, seconds, cost, errors in [
                    (0, 28, 9, 1500, "0.10", 0),
                    (1, 28, 23, 400, "0.05", 1),  # in Berlin it is the 29th already
                    (0, 29, 8, 2700, "0.20", 0),
                    (2, 29, 21, 900, "0.10", 0),
                    (1, 31, 7, 3000, "0.25", 2),
                ]
            ]
        )

        # Bound where a connection exists. Make it once, and share it.
        report = Report(db, DASHBOARD)
        week = {"$gte": dt.datetime(2026, 3, 27, tzinfo=ZONE), "$lt": dt.datetime(2026, 4, 1, tzinfo=ZONE)}
        where = {"school": school, "started_at": week}

        # All branches at one instant: the totals are the sum of the days, whoever writes meanwhile.
        result = report.run(where, params={"user": users[0]["_id"]}, consistent=True)
        print(", ".join(f"{name} {value}" for name, value in result["summary"].items()))
        for day in result["per_day"]:
            print(f"{day['bucket'].astimezone(ZONE):%d %b} {'#' * day['sessions']:2} {day['mean']}")
        print(", ".join(f"{row['low']}-{row['high']}: {row['n']}" for row in result["lengths"]))
        print(", ".join(f"{row['user']['name']}: {row['seconds']}" for row in result["top"]))

        # The next page: its cursor travels through the client, and may come back as anything.
        page = result["page"]
        print(f"{len(page.items)} of {page.total.value}")
        further = report.run(where, params={"user": users[0]["_id"]}, cursors={"page": page.next})
        print(f"{len(further['page'].items)} more, and then {further['page'].next}")
        try:
            report.run(where, params={"user": users[0]["_id"]}, cursors={"page": "page2"})
        except InvalidCursor as error:
            print(f"400: {error.reason}")

        # What would be sent, and which indexes are missing.
        explanation = report.explain(where, params={"user": users[0]["_id"]})
        print(f"{explanation.strategy}, {len(explanation.findings)} findings")


if __name__ == "__main__":
    main()
