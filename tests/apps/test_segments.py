"""The trends of segments are those of all measurements, on real rows and a real server; a mean of means is not."""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from collections.abc import AsyncIterator
from statistics import fmean
from typing import Any

import pytest
import pytest_asyncio
from bson import ObjectId
from pymongo import AsyncMongoClient, MongoClient
from pymongo.asynchronous.database import AsyncDatabase

from examples.segments import main
from examples.segments.flights import measurements
from examples.segments.specs import PERCENTILES, SCHEMA, TRENDS, ZONE
from mongopatterns import AsyncDeployment, AsyncReport, AsyncSchema, AsyncWriteBuffer, DeploymentError
from mongopatterns.testing import EmbeddedMongo

WEEK = {"at": {"$gte": main.FROM, "$lt": main.FROM + dt.timedelta(days=7)}}


@pytest.fixture(scope="module")
def rows() -> list[dict[str, Any]]:
    return list(measurements(days=7))


@pytest_asyncio.fixture
async def db(
    mongopatterns_server: EmbeddedMongo, mongopatterns_db_name: str
) -> AsyncIterator[AsyncDatabase[dict[str, Any]]]:
    """Give a database of this test which has what the schema says."""
    async with AsyncMongoClient[dict[str, Any]](mongopatterns_server.uri, tz_aware=True) as client:
        db = client[mongopatterns_db_name]
        await AsyncSchema(db, SCHEMA).apply()
        yield db


def figures(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Work out by hand what the report tells."""
    delays = [row["delay"] for row in rows if "delay" in row]
    flown = [row for row in rows if "minutes" in row]
    return {
        "flights": len(rows),
        "delay": pytest.approx(fmean(delays)),
        "late": pytest.approx(100 * sum(delay > 15 for delay in delays) / len(delays)),
        "speed": pytest.approx(60 * sum(row["miles"] for row in flown) / sum(row["minutes"] for row in flown)),
    }


def by(rows: list[dict[str, Any]], key: Any) -> dict[Any, list[dict[str, Any]]]:
    groups = defaultdict(list)
    for row in rows:
        groups[key(row)].append(row)
    return groups


async def test_the_schema_is_a_time_series(db: AsyncDatabase[dict[str, Any]]) -> None:
    """The collection is made with its meta field, granularity and expiry, and then nothing is left to change."""
    options = (await (await db.list_collections(filter={"name": "segments"})).to_list())[0]["options"]
    series = options["timeseries"]
    assert (series["timeField"], series["metaField"], series["granularity"]) == ("at", "segment", "hours")
    assert options["expireAfterSeconds"] == 50 * 365 * 86_400
    assert not await AsyncSchema(db, SCHEMA).plan()


async def test_every_figure_is_that_of_all_flights(
    db: AsyncDatabase[dict[str, Any]], rows: list[dict[str, Any]]
) -> None:
    """The total, each day in New York and each carrier agree with the rows themselves; every flight is stored once."""
    await main.write(db, rows)
    told = await AsyncReport(db, TRENDS).run(WEEK)
    assert told["total"] == figures(rows)

    days = {day: figures(of) for day, of in by(rows, lambda row: row["at"].astimezone(ZONE).date()).items()}
    assert {row.pop("bucket").astimezone(ZONE).date(): row for row in told["days"]} == days
    carriers = {name: figures(of) for name, of in by(rows, lambda row: row["segment"]["carrier"]).items()}
    assert {row.pop("key"): row for row in told["carriers"]} == carriers
    assert sum(row["n"] for row in told["spread"]) == sum("delay" in row for row in rows)


async def test_a_mean_of_means_is_another_number(db: AsyncDatabase[dict[str, Any]]) -> None:
    """Three flights on time and one an hour late, by two carriers: a quarter of it, and not half of it."""
    noon = dt.datetime(2013, 1, 1, 17, tzinfo=dt.timezone.utc)
    flown = [("AA", 0), ("AA", 0), ("AA", 0), ("BB", 60)]
    segment = {"origin": "JFK", "dest": "BOS"}
    await main.write(db, [{"at": noon, "segment": {"carrier": c, **segment}, "delay": delay} for c, delay in flown])
    told = await AsyncReport(db, TRENDS).run(WEEK)
    assert (told["total"]["delay"], told["total"]["late"]) == (15, 25)
    assert main.mean_of_means(told["carriers"], "delay") == 30


async def test_a_day_without_flights_is_told(db: AsyncDatabase[dict[str, Any]], rows: list[dict[str, Any]]) -> None:
    """Nobody flew from LaGuardia to Boston on the fifth: the day is there, without a mean."""
    await main.write(db, rows)
    told = await AsyncReport(db, TRENDS).run({"segment.origin": "LGA", "segment.dest": "BOS", **WEEK})
    empty = {"flights": 0, "delay": None, "late": None, "speed": None}
    assert len(told["days"]) == 7
    assert told["days"][4] == {"bucket": dt.datetime(2013, 1, 5, 5, tzinfo=dt.timezone.utc), **empty}
    assert [day["bucket"].astimezone(ZONE).day for day in told["days"] if not day["flights"]] == [5]


async def test_a_time_series_takes_no_transaction(
    db: AsyncDatabase[dict[str, Any]], rows: list[dict[str, Any]]
) -> None:
    """With exactly_once the acknowledgement says why not, and nothing is stored."""
    async with AsyncWriteBuffer(db.client, delivery="exactly_once", ledger=db.ledger) as buffer:
        ack = await buffer.insert(db.segments, rows[0])
        with pytest.raises(DeploymentError, match=r"exactly_once.*time-series"):
            await ack
    assert await db.segments.count_documents({}) == 0


async def test_a_batch_whose_answer_was_lost_is_stored_once(
    db: AsyncDatabase[dict[str, Any]],
    rows: list[dict[str, Any]],
    mongopatterns_server: EmbeddedMongo,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The batch is stored, and the answer asks the driver to repeat it: the server knows it by its number."""
    lost = {
        "failCommands": ["insert"],
        "errorLabels": ["RetryableWriteError"],
        "writeConcernError": {"code": 91, "errmsg": "the server is shutting down"},
    }
    with mongopatterns_server.fail_point("failCommand", mode={"times": 1}, data=lost):
        await main.write(db, rows[:50])
    assert capsys.readouterr().out == "50 measurements in 1 batches, refused: 0\n"
    assert await db.segments.count_documents({}) == 50


async def test_a_time_series_does_not_know_an_id_again(
    db: AsyncDatabase[dict[str, Any]], rows: list[dict[str, Any]]
) -> None:
    """Its `_id` is not unique: a measurement that is written twice is there twice. The page says so."""
    twice = {"_id": ObjectId(), **rows[0]}
    await main.write(db, [twice, twice])
    assert await db.segments.count_documents({"_id": twice["_id"]}) == 2


async def test_percentiles_come_from_newer_servers(
    db: AsyncDatabase[dict[str, Any]], rows: list[dict[str, Any]]
) -> None:
    """From MongoDB 7.0 on they are told; an older server is refused, with what it lacks."""
    await main.write(db, rows)
    report = AsyncReport(db, PERCENTILES)
    if (await AsyncDeployment(db.client).check()).version >= (7,):
        told = (await report.run(WEEK))["delay"]
        assert list(told) == ["p50", "p90", "p99"]
        assert told["p50"] <= told["p90"] <= told["p99"]
    else:
        with pytest.raises(DeploymentError, match=r"7\.0"):
            await report.run(WEEK)


def test_the_application_runs(
    mongopatterns_server: EmbeddedMongo,
    mongopatterns_client: MongoClient[dict[str, Any]],
    mongopatterns_db_name: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """It stores all flights of January, and prints the figures that its page shows."""
    monkeypatch.setenv("MONGODB_URI", mongopatterns_server.uri)
    monkeypatch.setenv("MONGODB_DATABASE", mongopatterns_db_name)
    main.main()
    printed = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert "minutes late 10.0 10.0 15.3" in printed
    assert "week of 28 Jan 64 10.8 16.8" in printed
    assert "Of its 31 days these are told with no flight: 05 Jan, 19 Jan." in printed
    assert mongopatterns_client[mongopatterns_db_name].segments.count_documents({}) == 27_004
