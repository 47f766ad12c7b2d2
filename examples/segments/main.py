"""Write the flights of a month as measurements, and print trends: weighted, and beside them the mean of means.

Run it with `make app NAME=segments`.
"""

import asyncio
import datetime as dt
import os
from collections.abc import Iterable
from statistics import fmean
from typing import Any

from pymongo.asynchronous.database import AsyncDatabase

from mongopatterns import (
    AsyncReport,
    AsyncSchema,
    AsyncWriteBuffer,
    DeploymentError,
    Profile,
    make_async_client,
)

from .flights import measurements
from .specs import PERCENTILES, SCHEMA, TRENDS, ZONE

Row = dict[str, Any]

FROM, TO = dt.datetime(2013, 1, 1, tzinfo=ZONE), dt.datetime(2013, 2, 1, tzinfo=ZONE)
JANUARY = {"at": {"$gte": FROM, "$lt": TO}}  # both bounds: empty days at its ends are told, too
SHUTTLE = {"segment.origin": "LGA", "segment.dest": "BOS", **JANUARY}


def main() -> None:
    asyncio.run(run())


async def run() -> None:
    """Write, and report."""
    uri = os.environ.get("MONGODB_URI", "mongodb://localhost:27017")
    async with make_async_client(uri, profile=Profile.WORKER, app_name="segments") as client:
        db = client[os.environ.get("MONGODB_DATABASE", "segments")]
        await db.segments.drop()
        await AsyncSchema(db, SCHEMA).apply(timeout=300)
        await write(db, measurements())
        await try_exactly_once(db, next(measurements()))

        trends = AsyncReport(db, TRENDS)
        print_weights(await trends.run(JANUARY))
        print_weeks(await trends.run(SHUTTLE))
        await print_percentiles(db)


async def write(db: AsyncDatabase[Row], rows: Iterable[Row]) -> None:
    """Store measurements, in batches."""
    async with AsyncWriteBuffer(db.client, max_items=1_000) as buffer:
        for row in rows:
            await buffer.insert(db.segments, row)
    stats = buffer.stats
    print(f"{stats.acknowledged:,} measurements in {stats.batches} batches, refused: {stats.failed}")


async def try_exactly_once(db: AsyncDatabase[Row], row: Row) -> None:
    """Show what a time series does not take."""
    async with AsyncWriteBuffer(db.client, delivery="exactly_once", ledger=db.ledger) as buffer:
        ack = await buffer.insert(db.segments, row)
        try:
            await ack
        except DeploymentError as error:
            print(str(error).partition(", full error")[0])


def mean_of_means(rows: Iterable[Row], measure: str) -> float:
    """Do what is often done: a day of three flights weighs like a day of a thousand."""
    return fmean(row[measure] for row in rows if row[measure] is not None)


def print_weights(told: Any) -> None:
    """Print the whole month, and what comes out if its days or its carriers are averaged."""
    days, carriers = told["days"], told["carriers"]
    of_days, of_carriers = f"mean of {len(days)} days", f"mean of {len(carriers)} carriers"
    print(f"\n{'all segments':<22}{'weighted':>10}{of_days:>18}{of_carriers:>22}")
    for measure, title in {"delay": "minutes late", "late": "over 15 minutes, %", "speed": "miles an hour"}.items():
        naive = mean_of_means(days, measure), mean_of_means(carriers, measure)
        print(f"{title:<22}{told['total'][measure]:>10.1f}{naive[0]:>18.1f}{naive[1]:>22.1f}")
    most, least = carriers[0], carriers[-1]
    uneven = (
        f"{most['key']}, with {most['flights']:,} flights, weighs as much as {least['key']}, with {least['flights']}"
    )
    print(f"In the last column {uneven}.")
    print("Flights by minutes late: " + ", ".join(f"{span(row)} {row['n']:,}" for row in told["spread"]))


def span(row: Row) -> str:
    """Name a range of a histogram."""
    if row["low"] is None:
        return f"below {row['high']}:"
    return f"from {row['low']}:" if row["high"] is None else f"{row['low']} to {row['high']}:"


def print_weeks(told: Any) -> None:
    """Print one segment week by week: on its days there are from none to sixteen flights."""
    print(f"\n{'LaGuardia to Boston':<22}{'flights':>10}{'minutes late':>18}{'mean of its days':>22}")
    for week in told["weeks"]:
        begin = week["bucket"]
        days = [day for day in told["days"] if begin <= day["bucket"] < begin + dt.timedelta(days=7)]
        naive = mean_of_means(days, "delay")
        print(f"{begin.astimezone(ZONE):week of %d %b}       {week['flights']:>10}{week['delay']:>18.1f}{naive:>22.1f}")
    empty = [f"{day['bucket'].astimezone(ZONE):%d %b}" for day in told["days"] if not day["flights"]]
    print(f"Of its {len(told['days'])} days these are told with no flight: {', '.join(empty)}.")


async def print_percentiles(db: AsyncDatabase[Row]) -> None:
    """Print what only newer servers can tell."""
    try:
        told = await AsyncReport(db, PERCENTILES).run(JANUARY)
    except DeploymentError as error:
        print(f"\n{error}")
    else:
        print(f"\nMinutes late: {told['delay']}")
