"""How a report is carried out: one instant, what is too large, errors, transactions, time limits, explain."""

from __future__ import annotations

import datetime as dt
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from bson import DatetimeMS, Timestamp
from pymongo import MongoClient, ReadPreference, UpdateOne
from pymongo.errors import AutoReconnect, ExecutionTimeout, NetworkTimeout, OperationFailure

from mongopatterns import (
    AsyncReport,
    CollectSet,
    Count,
    CountDistinct,
    CountOf,
    DeploymentError,
    Distinct,
    GroupBy,
    Histogram,
    PageOf,
    Percentiles,
    Raw,
    Report,
    ReportSpec,
    ResultTooLarge,
    Severity,
    Sum,
    SumMap,
    TimeBuckets,
    Top,
    Totals,
    UsageError,
)
from mongopatterns._driver_async import settle
from mongopatterns.testing import EmbeddedMongo, race

UTC = dt.timezone.utc
NOON = dt.datetime(2026, 3, 4, 12, tzinfo=UTC)
HOUR = dt.timedelta(hours=1)
EVERY = pytest.mark.parametrize("strategy", ["auto", "facet", "parallel"])
N = {"n": Count()}
MEGABYTE = 1_000_000
ALL = Totals(N)
INSTANT, RUN = "mongopatterns.report.instant", "mongopatterns.report.run"


def bind(db: Any, strategy: str = "auto", /, **branches: Any) -> AsyncReport:
    """Bind a report on `events` with these branches."""
    return AsyncReport(db, ReportSpec("events", branches=branches), strategy=strategy)  # type: ignore[arg-type]


def reads(commands: Any) -> list[str]:
    """Return the comments of the commands that were sent."""
    return [str(command.get("comment")) for _, command in commands.sent]


# One instant -----------------------------------------------------------------------------------------------------

MONEY: dict[str, Any] = {
    "totals": Totals({"n": Count(), "sum": Sum("amount")}),
    "groups": GroupBy("group", measures={"n": Count(), "sum": Sum("amount")}),
    "hours": TimeBuckets("at", unit="hour", measures={"n": Count(), "sum": Sum("amount")}),
    "spread": Histogram("amount", boundaries=[0, 50, 100], outside=True, measures={"n": Count(), "sum": Sum("amount")}),
    "names": Top("_id", sort=[("sum", -1)], limit=500, measures={"n": Count(), "sum": Sum("amount")}),
    "page": PageOf(sort=[("amount", -1)], limit=500, count="exact"),
    "raw": Raw([{"$match": {}}]),
}


@EVERY
async def test_what_is_read_at_one_instant_agrees(db: Any, strategy: str) -> None:
    """While others write, totals are the sum of the groups, of the buckets, of the ranges and of the documents.

    Writers move amounts between groups and hours, add to them, and store and delete documents.
    """
    await db.events.insert_many(
        [{"_id": n, "group": n % 5, "at": NOON + n % 7 * HOUR, "amount": 10} for n in range(100)]
    )
    report = bind(db, strategy, **MONEY)
    chance = random.Random(strategy)
    told: list[Any] = []

    async def work(n: int) -> None:
        if n % 4 == 0:
            told.append(await report.run(consistent=True))
            return
        for _ in range(4):
            one, other = chance.sample(range(100), 2)
            by = chance.randrange(1, 20)
            moves = [
                UpdateOne({"_id": one}, {"$inc": {"amount": -by}, "$set": {"group": chance.randrange(5)}}),
                UpdateOne(
                    {"_id": other}, {"$inc": {"amount": by + 1}, "$set": {"at": NOON + chance.randrange(7) * HOUR}}
                ),
            ]
            await db.events.bulk_write(moves)
            await db.events.insert_one(
                {"_id": f"{n}-{one}-{by}-{chance.random()}", "group": 9, "at": NOON, "amount": 3}
            )

    (await race(work, times=120, concurrency=8)).raise_errors()
    assert len(told) == 30
    for result in told:
        for name in ("groups", "hours", "spread", "names", "raw"):
            rows = result[name]
            assert sum(row.get("sum", row.get("amount")) for row in rows) == result["totals"]["sum"], name
            assert sum(row.get("n", 1) for row in rows) == result["totals"]["n"], name
        assert sum(item["amount"] for item in result["page"].items) == result["totals"]["sum"]
        assert result["page"].total.value == result["totals"]["n"] == len(result["page"].items)
    assert len({result["totals"]["sum"] for result in told}) > 1  # (and others did write meanwhile)


@EVERY
async def test_all_is_read_at_the_time_of_the_first_read(db: Any, commands: Any, strategy: str) -> None:
    """One short read asks for the time; every other read is at it; none is where nothing has to agree."""
    await db.events.insert_one({"_id": 1})
    report = bind(db, strategy, **MONEY)
    commands.clear()
    await report.run(consistent=True)
    asked, *rest = [command for _, command in commands.sent]
    assert asked["comment"] == INSTANT
    assert asked["readConcern"]["level"] == "snapshot"
    assert "atClusterTime" not in asked["readConcern"]
    assert {command["comment"] for command in rest} == {RUN}
    times = {command["readConcern"]["atClusterTime"] for command in rest}
    assert len(times) == 1
    assert isinstance(times.pop(), Timestamp)
    assert len(rest) in {"auto": (3, 4), "facet": (1,), "parallel": (8,)}[strategy]
    commands.clear()
    await report.run()
    assert set(reads(commands)) == {RUN}
    assert all("level" not in command.get("readConcern", {}) for _, command in commands.sent)


async def test_one_server_reads_no_instant(client: Any) -> None:
    """A server that is no member of a replica set is said to be that; without consistent=True it answers."""
    with EmbeddedMongo(members=0) as server:
        alone = type(client)(server.uri)
        try:
            report = bind(alone["app"], all=ALL)
            with pytest.raises(DeploymentError, match="replica set") as caught:
                await report.run(consistent=True)
            assert isinstance(caught.value.__cause__, OperationFailure)
            assert await report.run() == {"all": {"n": 0}}
        finally:
            await settle(alone.close())


class FailsAfter:
    """Make reads fail from the moment at which the first one at an instant is sent."""

    def __init__(self, server: Any, commands: Any, patch: pytest.MonkeyPatch, mode: Any, error: Any) -> None:
        self._armed: Any = None
        started: Callable[[Any], None] = commands.started

        def arm(event: Any) -> None:
            if self._armed is None and event.command.get("comment") == RUN:
                data = {"failCommands": ["aggregate"], **error}
                self._armed = server.fail_point("failCommand", mode=mode, data=data)
                self._armed.__enter__()
            started(event)

        patch.setattr(commands, "started", arm)

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        if self._armed is not None:
            self._armed.__exit__(None, None, None)


async def test_a_snapshot_that_is_gone_is_taken_anew(
    db: Any, commands: Any, mongopatterns_server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If what was to be read at an instant is gone, everything is read at a new one; the rows are those of it."""
    await db.events.insert_many([{"_id": n} for n in range(3)])
    report = bind(db, "facet", all=ALL, by=GroupBy("_id", measures=N))
    commands.clear()
    with FailsAfter(mongopatterns_server, commands, monkeypatch, {"times": 1}, {"errorCode": 246}):
        result = await report.run(consistent=True)
    assert result["all"] == {"n": 3}
    assert reads(commands) == [INSTANT, RUN, INSTANT, RUN]
    first, second = (command["readConcern"]["atClusterTime"] for _, command in commands.sent[1::2])
    assert first <= second


async def test_a_snapshot_that_is_gone_again_is_an_error(
    db: Any, commands: Any, mongopatterns_server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is taken anew once, and what the server says then reaches the caller."""
    await db.events.insert_one({"_id": 1})
    report = bind(db, "facet", all=ALL)
    commands.clear()
    with FailsAfter(mongopatterns_server, commands, monkeypatch, "alwaysOn", {"errorCode": 246}):
        with pytest.raises(OperationFailure) as caught:
            await report.run(consistent=True)
        assert caught.value.code == 246
    assert await report.run(consistent=True) == {"all": {"n": 1}}


@pytest.mark.parametrize("error", [{"closeConnection": True}, {"errorCode": 246}], ids=str)
async def test_an_instant_is_asked_for_twice(db: Any, commands: Any, mongopatterns_server: Any, error: Any) -> None:
    """A lost connection, or a server that has no instant at the moment, does not fail a report: it is asked again."""
    await db.events.insert_one({"_id": 1})
    report = bind(db, "facet", all=ALL)
    await report.run()
    commands.clear()
    data = {"failCommands": ["aggregate"], **error}
    with mongopatterns_server.fail_point("failCommand", mode={"times": 1}, data=data):
        assert await report.run(consistent=True) == {"all": {"n": 1}}
    assert reads(commands) == [INSTANT, INSTANT, RUN]


async def test_an_instant_that_nobody_tells_is_an_error(db: Any, mongopatterns_server: Any) -> None:
    """A connection that is lost twice is the driver's error."""
    await db.events.insert_one({"_id": 1})
    report = bind(db, "facet", all=ALL)
    data = {"failCommands": ["aggregate"], "closeConnection": True}
    with (
        mongopatterns_server.fail_point("failCommand", mode="alwaysOn", data=data),
        pytest.raises(AutoReconnect),
    ):
        await report.run(consistent=True)
    assert await report.run(consistent=True) == {"all": {"n": 1}}


@EVERY
async def test_other_errors_are_the_servers(db: Any, mongopatterns_server: Any, strategy: str) -> None:
    """What the server refuses for another reason reaches the caller as the driver raised it."""
    await db.events.insert_one({"_id": 1})
    report = bind(db, strategy, all=ALL, page=PageOf(sort=[("_id", 1)]))
    data = {"failCommands": ["aggregate"], "errorCode": 13}
    with (
        mongopatterns_server.fail_point("failCommand", mode="alwaysOn", data=data),
        pytest.raises(OperationFailure) as caught,
    ):
        await report.run()
    assert caught.value.code == 13
    with pytest.raises(OperationFailure):
        await report.run({"$nonsense": 1})


@EVERY
async def test_a_server_without_percentiles_is_named_with_the_branch(db: Any, strategy: str) -> None:
    """A server before 7.0 has no percentiles: the error names the branch and the version that has them."""
    await db.events.insert_one({"_id": 1, "n": 1})
    version = (await db.command("buildInfo"))["versionArray"]
    report = bind(db, strategy, all=ALL, slow=Percentiles("n", p=(0.5, 0.99)))
    if version[0] >= 7:
        assert (await report.run())["slow"] == {"p50": 1.0, "p99": 1.0}
        return
    with pytest.raises(DeploymentError, match=r"'slow'.*7\.0") as caught:
        await report.run()
    assert isinstance(caught.value.__cause__, OperationFailure)


# What is too large -----------------------------------------------------------------------------------------------


async def store_megabytes(db: Any, number: int) -> None:
    await db.events.insert_many([{"_id": n, "half": n % 2, "x": "x" * MEGABYTE} for n in range(number)])


@EVERY
@pytest.mark.parametrize("alone", [True, False])
async def test_a_branch_that_is_too_large_is_named(db: Any, strategy: str, alone: bool) -> None:
    """A branch past the 16 MB of an answer is an error with its name and a remedy, alone or beside others."""
    await store_megabytes(db, 18)
    others: dict[str, Any] = {} if alone else {"all": ALL, "by": GroupBy("half", measures=N), "ids": Distinct("_id")}
    report = bind(db, strategy, **others, big=Raw([{"$match": {}}]))
    with pytest.raises(ResultTooLarge, match=r"branch 'big': .*narrow the filter") as caught:
        await report.run()
    assert caught.value.branch == "big"
    assert isinstance(caught.value.__cause__, OperationFailure)
    assert len((await report.run({"half": 1}))["big"]) == 9
    assert len((await bind(db, strategy, **others, big=Raw([{"$project": {"_id": 1}}])).run())["big"]) == 18


@EVERY
@pytest.mark.parametrize("consistent", [True, False])
async def test_branches_that_fit_only_apart_are_both_given(db: Any, strategy: str, consistent: bool) -> None:
    """Branches that are too large for one answer, and not each by itself, are read one by one."""
    await store_megabytes(db, 18)
    halves = {f"half{n}": Raw([{"$match": {"half": n}}]) for n in (0, 1)}
    result = await bind(db, strategy, **halves, all=ALL).run(consistent=consistent)
    assert [len(result[name]) for name in ("half0", "half1")] == [9, 9]
    assert result["all"] == {"n": 18}


@EVERY
async def test_a_page_that_is_too_large_is_named(db: Any, strategy: str) -> None:
    """A page is held to the same bound, and is named like any branch."""
    await store_megabytes(db, 18)
    with pytest.raises(ResultTooLarge, match="branch 'page': ") as caught:
        await bind(db, strategy, all=ALL, page=PageOf(sort=[("_id", 1)], limit=18)).run()
    assert caught.value.branch == "page"
    page = (await bind(db, strategy, all=ALL, page=PageOf(sort=[("_id", 1)], limit=9)).run())["page"]
    assert len(page.items) == 9


@EVERY
async def test_rows_with_large_keys_and_sets_are_too_large(db: Any, strategy: str) -> None:
    """What groups hold is held to the bound of an answer, too."""
    await db.events.insert_many([{"_id": n, "x": f"{n:03}{'x' * MEGABYTE}"} for n in range(18)])
    for name, branch in (
        ("keys", GroupBy("x", measures=N)),
        ("set", Totals({"s": CollectSet("x")})),
        ("values", Distinct("x")),
    ):
        with pytest.raises(ResultTooLarge, match=f"branch '{name}'"):
            await bind(db, strategy, all=ALL, **{name: branch}).run()
        assert (await bind(db, strategy, all=ALL, **{name: branch}).run({"_id": 0}))["all"] == {"n": 1}


@EVERY
async def test_the_limits_of_values(db: Any, strategy: str) -> None:
    """As many values as a limit allows are told; with one more, the branch, the measure, the row and the limit are."""
    await db.events.insert_many(
        [{"_id": n, "k": "a" if n < 4 else "b", "m": {f"n{n}": 1}, "at": NOON} for n in range(7)]
    )
    four: dict[str, Any] = {"set": CollectSet("_id", limit=4), "map": SumMap("m", limit=4)}
    three: dict[str, Any] = {"set": CollectSet("_id", limit=3), "map": SumMap("m", limit=3)}
    rows = (await bind(db, strategy, by=GroupBy("k", measures=four)).run())["by"]
    assert [(row["set"], len(row["map"])) for row in rows] == [([0, 1, 2, 3], 4), ([4, 5, 6], 3)]
    for name, measure in three.items():
        with pytest.raises(ResultTooLarge, match=rf"branch 'by': '{name}' in the row 'a': 4 .*limit=3"):
            await bind(db, strategy, by=GroupBy("k", measures={name: measure})).run()
        with pytest.raises(ResultTooLarge, match=rf"branch 'all': '{name}': 7 .*limit=3"):
            await bind(db, strategy, all=Totals({name: measure})).run()
        with pytest.raises(ResultTooLarge, match=rf"branch 'days': '{name}' in the row .*2026.*limit=3"):
            await bind(db, strategy, days=TimeBuckets("at", measures={name: measure})).run()
        with pytest.raises(ResultTooLarge, match=rf"branch 'ranges': '{name}'.*limit=3"):
            await bind(db, strategy, ranges=Histogram("_id", boundaries=[0, 9], measures={name: measure})).run()
    assert (await bind(db, strategy, ids=Distinct("_id", limit=7)).run())["ids"] == list(range(7))
    with pytest.raises(ResultTooLarge, match=r"branch 'ids': '_id' has more than limit=6"):
        await bind(db, strategy, ids=Distinct("_id", limit=6)).run()


async def test_too_many_buckets(db: Any) -> None:
    """A series of more than 50,000 buckets is refused with the name of the branch; without empty ones it is given."""
    await db.events.insert_many([{"at": NOON}, {"at": NOON.replace(year=2016)}])
    with pytest.raises(ResultTooLarge, match=r"branch 'hours': more than 50,000 buckets"):
        await bind(db, all=ALL, hours=TimeBuckets("at", unit="hour", measures=N)).run()
    result = await bind(db, hours=TimeBuckets("at", unit="hour", fill=False, measures=N)).run()
    assert len(result["hours"]) == 2


@pytest.mark.parametrize("unit", ["hour", "day", "week", "month", "quarter", "year"])
async def test_a_series_ends_with_the_calendar(db: Any, unit: Any) -> None:
    """A bucket that holds the last instant of the calendar is one like any other."""
    last = dt.datetime.max.replace(tzinfo=UTC)
    await db.events.insert_many([{"at": last}, {"at": last}, {"at": last - dt.timedelta(days=1)}])
    rows = (await bind(db, b=TimeBuckets("at", unit=unit, measures=N)).run())["b"]
    assert sum(row["n"] for row in rows) == 3
    assert len(rows) == {"hour": 25, "day": 2}.get(unit, 1)


async def test_buckets_outside_of_the_calendar(db: Any) -> None:
    """Where dates have no year that Python knows, gaps cannot be filled, and no document is lost in silence."""
    await db.events.insert_many([{"at": DatetimeMS(-(10**14))}, {"at": DatetimeMS(-(10**15))}, {"at": NOON}])
    years = {"unit": "year", "measures": N}
    with pytest.raises(ResultTooLarge, match=r"branch 'years': buckets lie before the year 1"):
        await bind(db, years=TimeBuckets("at", **years)).run()
    with pytest.raises(ResultTooLarge, match=r"branch 'years': buckets lie before the year 1"):
        await bind(db, years=TimeBuckets("at", timezone="Europe/Berlin", **years)).run({"at": {"$gt": NOON.min}})
    result = await bind(db, years=TimeBuckets("at", fill=False, **years)).run()
    assert [row["n"] for row in result["years"]] == [1, 1, 1]


MEMORY_OF_GROUPS = (
    "internalDocumentSourceGroupMaxMemoryBytes",
    "internalQuerySlotBasedExecutionHashAggApproxMemoryUseInBytesBeforeSpill",
)


@contextmanager
def bounded(client: MongoClient[Any], *names: str) -> Iterator[None]:
    """Give the server little memory of a kind, for a while."""
    before = {name: client.admin.command({"getParameter": 1, name: 1})[name] for name in names}
    try:
        for name in names:
            client.admin.command({"setParameter": 1, name: 100_000})
        yield
    finally:
        for name, value in before.items():
            client.admin.command({"setParameter": 1, name: value})


@EVERY
async def test_what_the_memory_of_the_server_does_not_hold(db: Any, strategy: str, mongopatterns_client: Any) -> None:
    """A set that the server cannot hold is an error with the name of the branch, and never a wrong number."""
    await db.events.insert_many([{"_id": n, "x": f"{n}{'x' * 1000}"} for n in range(2000)])
    with bounded(mongopatterns_client, "internalQueryMaxAddToSetBytes"):
        with pytest.raises(ResultTooLarge, match="branch 'distinct'") as caught:
            await bind(
                db, strategy, all=ALL, by=GroupBy("y", measures=N), distinct=Totals({"n": CountDistinct("x")})
            ).run()
        assert isinstance(caught.value.__cause__, OperationFailure)
    assert (await bind(db, strategy, distinct=Totals({"n": CountDistinct("x")})).run())["distinct"] == {"n": 2000}


@EVERY
async def test_what_may_not_be_written_to_disk(
    db: Any, strategy: str, mongopatterns_client: Any, commands: Any
) -> None:
    """Groups that do not fit into memory are written to disk, or are refused with the name of their branch."""
    await db.events.insert_many([{"_id": n, "x": f"{n}{'x' * 1000}"} for n in range(2000)])
    spec = ReportSpec("events", branches={"all": ALL, "keys": Top("x", sort=[("n", 1)], limit=1, measures=N)})
    with bounded(mongopatterns_client, *MEMORY_OF_GROUPS):
        with pytest.raises(ResultTooLarge, match="branch 'keys'"):
            await AsyncReport(db, spec, strategy=strategy, allow_disk_use=False).run()  # type: ignore[arg-type]
        commands.clear()
        assert (await AsyncReport(db, spec, strategy=strategy, allow_disk_use=True).run())["all"] == {"n": 2000}  # type: ignore[arg-type]
        assert all(command["allowDiskUse"] is True for _, command in commands.sent)
    commands.clear()
    await AsyncReport(db, spec, strategy=strategy).run()  # type: ignore[arg-type]
    assert all("allowDiskUse" not in command for _, command in commands.sent)


# Sessions, members, time -------------------------------------------------------------------------------------------


@EVERY
async def test_a_report_reads_within_a_transaction(client: Any, db: Any, commands: Any, strategy: str) -> None:
    """What a transaction wrote is told within it and nowhere else; its commands go one after the other."""
    await db.events.insert_one({"_id": 1, "group": 1, "at": NOON, "amount": 1})
    report = bind(db, strategy, **MONEY)
    async with await settle(client.start_session()) as session:
        await settle(session.start_transaction())
        await db.events.insert_one({"_id": 2, "group": 2, "at": NOON, "amount": 2}, session=session)
        commands.clear()
        result = await report.run(session=session)
        sent = [command for _, command in commands.sent]
        assert result["totals"] == {"n": 2, "sum": 3}
        assert result["page"].total.value == len(result["raw"]) == len(result["groups"]) == 2
        assert len({command["txnNumber"] for command in sent}) == 1
        assert len({str(command["lsid"]) for command in sent}) == 1
        assert (await report.run())["totals"] == {"n": 1, "sum": 1}
        with pytest.raises(UsageError, match=r"^session:"):
            await report.run(session=session, consistent=True)
        await session.abort_transaction()
        assert (await report.run(session=session))["totals"] == {"n": 1, "sum": 1}


@EVERY
async def test_nothing_is_estimated_within_a_transaction(client: Any, db: Any, strategy: str) -> None:
    """The server estimates in no transaction: there documents are counted, and the transaction goes on."""
    await db.events.insert_one({"_id": 1, "at": NOON})
    report = bind(db, strategy, page=PageOf(sort=[("at", 1)], count="estimated"))
    async with await settle(client.start_session()) as session:
        await settle(session.start_transaction())
        await db.events.insert_one({"_id": 2, "at": NOON}, session=session)
        total = (await report.run(session=session))["page"].total
        assert (total.value, total.relation) == (2, "exact")
        await session.commit_transaction()
    assert (await report.run())["page"].total.relation == "about"


async def test_a_large_report_in_a_session(client: Any, db: Any) -> None:
    """Within a session, too, branches that fit only apart are read one by one."""
    await store_megabytes(db, 18)
    halves = {f"half{n}": Raw([{"$match": {"half": n}}]) for n in (0, 1)}
    async with await settle(client.start_session()) as session:
        result = await bind(db, "facet", **halves).run(session=session)
    assert [len(result[name]) for name in halves] == [9, 9]


async def test_which_members_are_asked(db: Any, commands: Any) -> None:
    """Reads go where they are told to, the one for the instant too; by default to the primary."""
    await db.events.insert_one({"_id": 1})
    spec = ReportSpec("events", branches={"all": ALL, "page": PageOf(sort=[("_id", 1)])})
    report = AsyncReport(db, spec, read_preference=ReadPreference.SECONDARY_PREFERRED)
    commands.clear()
    assert (await report.run(consistent=True))["all"] == {"n": 1}
    modes = [command.get("$readPreference", {}).get("mode") for _, command in commands.sent]
    assert modes == ["secondaryPreferred"] * 3
    commands.clear()
    other = db.get_collection("events", read_preference=ReadPreference.SECONDARY)
    assert (await AsyncReport(other, spec).run())["all"] == {"n": 1}
    assert all(command.get("$readPreference", {}).get("mode", "primary") == "primary" for _, command in commands.sent)


@EVERY
@pytest.mark.parametrize("consistent", [True, False])
async def test_a_report_keeps_its_time(db: Any, mongopatterns_server: Any, strategy: str, consistent: bool) -> None:
    """A timeout bounds the whole call, whatever it is waiting for."""
    await db.events.insert_one({"_id": 1})
    report = bind(db, strategy, all=ALL, by=GroupBy("_id", measures=N), page=PageOf(sort=[("_id", 1)]))
    block = {"failCommands": ["aggregate"], "blockConnection": True, "blockTimeMS": 1000}
    with (
        mongopatterns_server.fail_point("failCommand", mode="alwaysOn", data=block),
        pytest.raises((NetworkTimeout, ExecutionTimeout)),
    ):
        await report.run(timeout=0.2, consistent=consistent)
    assert (await report.run(timeout=60, consistent=consistent))["all"] == {"n": 1}


async def test_a_lost_connection_is_the_drivers_to_mend(db: Any, mongopatterns_server: Any) -> None:
    """A read whose connection is lost once is repeated by the driver."""
    await db.events.insert_one({"_id": 1})
    report = bind(db, "facet", all=ALL, by=GroupBy("_id", measures=N))
    data = {"failCommands": ["aggregate"], "closeConnection": True}
    with mongopatterns_server.fail_point("failCommand", mode={"times": 1}, data=data):
        assert (await report.run())["all"] == {"n": 1}


# Commands --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("strategy", "number"), [("auto", (4, 5)), ("facet", (1,)), ("parallel", (8,))])
async def test_what_explain_tells_is_what_is_sent(db: Any, commands: Any, strategy: str, number: Any) -> None:
    """Explain reads no documents, and tells the commands that run sends, with their reasons."""
    await db.events.insert_one({"_id": 1})
    report = bind(db, strategy, **{**MONEY, "count": PageOf(sort=[("_id", 1)])} if strategy == "auto" else MONEY)
    commands.clear()
    explanation = await report.explain({"amount": {"$gt": 1}})
    assert commands.names == ["listIndexes"]
    assert explanation.strategy == strategy
    assert len(explanation.commands) in number
    assert all(each.why for each in explanation.commands)
    commands.clear()
    await report.run({"amount": {"$gt": 1}})
    assert sorted(str(command["pipeline"]) for _, command in commands.sent) == sorted(
        str(each.pipeline) for each in explanation.commands
    )
    assert {branch for each in explanation.commands for branch in each.branches} == set(report.spec.branches)


async def test_explain_names_missing_indexes(db: Any, commands: Any) -> None:
    """A filter that no index leads into, and a page that none is in the order of, are named; with them nothing is."""
    await db.events.insert_one({"_id": 1})
    report = bind(db, all=ALL, page=PageOf(sort=[("amount", -1)]))
    found = (await report.explain({"group": 1})).findings
    assert {finding.severity for finding in found} == {Severity.WARNING}
    assert {finding.code for finding in found} == {"missing-index"}
    assert any("group" in finding.subject for finding in found)
    await db.events.create_index([("group", 1), ("amount", -1), ("_id", -1)])
    assert (await report.explain({"group": 1})).findings == ()
    assert (await bind(db, all=ALL).explain()).findings == ()


async def test_explain_where_no_index_may_be_asked_for(db: Any, mongopatterns_server: Any) -> None:
    """Where the server does not tell of indexes, there are no findings, and commands all the same."""
    await db.events.insert_one({"_id": 1, "a": 1})
    await db.create_collection("seen", viewOn="events", pipeline=[])
    view = AsyncReport(db.seen, ReportSpec("events", branches={"all": ALL, "page": PageOf(sort=[("a", 1)])}))
    explanation = await view.explain({"a": 1})
    assert explanation.findings == ()
    assert len(explanation.commands) == 2
    assert (await view.run({"a": 1}))["all"] == {"n": 1}
    data = {"failCommands": ["listIndexes"], "errorCode": 13}
    with mongopatterns_server.fail_point("failCommand", mode="alwaysOn", data=data):
        assert (await bind(db, all=ALL).explain({"a": 1})).findings == ()


async def test_a_collection_may_be_the_target(db: Any) -> None:
    """The collection may be given, under whatever name it has; what is joined is in its database."""
    await db.events2026.insert_many([{"_id": 1, "u": 1}, {"_id": 2}])
    await db.users.insert_one({"_id": 1})
    joins = [CountOf("users", local="u", foreign="_id", as_="known")]
    branches = {"all": Totals({"n": Count(), "known": Sum("known")}, joins=joins), "page": PageOf(sort=[("_id", 1)])}
    report = AsyncReport(db.events2026, ReportSpec("events", branches=branches))
    result = await report.run(consistent=True)
    assert result["all"] == {"n": 2, "known": 1}
    assert len(result["page"].items) == 2


@EVERY
async def test_text_is_compared_by_its_characters(db: Any, strategy: str) -> None:
    """All branches are about the same documents and tell keys apart alike, whatever the collection's collation is."""
    await db.create_collection("events", collation={"locale": "en", "strength": 2})
    await db.events.insert_many([{"_id": n, "k": k, "m": {k: 1}} for n, k in enumerate(["Ann", "ann", "b"])])
    report = bind(
        db,
        strategy,
        all=Totals({"n": Count(), "ann": Count(where={"k": "ann"})}),
        by=GroupBy("k", measures={"n": Count(), "m": SumMap("m")}),
        values=Distinct("k"),
        page=PageOf(sort=[("k", 1)], count="exact"),
    )
    for filter_, names in (({}, ["Ann", "ann", "b"]), ({"k": {"$in": ["ann", "B"]}}, ["ann"])):
        result = await report.run(filter_)
        assert result["all"] == {"n": len(names), "ann": 1}
        assert result["by"] == [{"key": name, "n": 1, "m": {name: 1}} for name in names]
        assert result["values"] == [item["k"] for item in result["page"].items] == names
        assert result["page"].total.value == len(names)


async def test_one_report_serves_many_callers(db: Any) -> None:
    """A bound report holds nothing of a call: many at once are each told their own."""
    await db.events.insert_many([{"_id": n, "k": n % 10} for n in range(100)])
    report = bind(db, all=Totals({"n": Count(), "sum": Sum("_id")}), by=GroupBy("_id", measures=N))
    raced = await race(lambda n: report.run({"k": n % 10}, consistent=n % 2 == 0), times=40, concurrency=10)
    raced.raise_errors()
    for n, result in enumerate(raced.outcomes):
        assert result["all"] == {"n": 10, "sum": sum(range(n % 10, 100, 10))}
        assert [row["key"] for row in result["by"]] == list(range(n % 10, 100, 10))


# generate: async only
async def test_the_other_world_is_refused(mongopatterns_client: MongoClient[Any], db: Any) -> None:
    """A database of the other world is refused, with the name to use instead."""
    spec = ReportSpec("events", branches={"all": ALL})
    with pytest.raises(UsageError, match="without Async"):
        AsyncReport(mongopatterns_client.test, spec)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="Async"):
        Report(db, spec)


@EVERY
async def test_an_estimate_of_a_view_is_a_count(db: Any, strategy: str) -> None:
    """The server knows nothing of a view: its documents are counted, and nobody is told of an error."""
    await db.things.insert_many([{"_id": place} for place in range(7)])
    await db.command({"create": "seen", "viewOn": "things", "pipeline": [{"$match": {"_id": {"$gt": 1}}}]})
    spec = ReportSpec("seen", branches={"page": PageOf(sort=[("_id", 1)], limit=2, count="estimated"), "all": ALL})
    result = await AsyncReport(db, spec, strategy=strategy).run()  # type: ignore[arg-type]
    assert (result["page"].total.value, result["all"]) == (5, {"n": 5})


@EVERY
async def test_a_filter_for_text_goes_with_a_page(db: Any, strategy: str) -> None:
    """A page beside other branches is found by text, whatever the strategy."""
    await db.events.create_index([("title", "text")])
    await db.events.insert_many([{"_id": place, "title": "red" if place % 2 else "blue"} for place in range(6)])
    report = bind(db, strategy, page=PageOf(sort=[("_id", 1)], limit=2, count="exact"), all=ALL)
    result = await report.run({"$text": {"$search": "red"}})
    assert [item["_id"] for item in result["page"].items] == [1, 3]
    assert (result["page"].total.value, result["all"]) == (3, {"n": 3})
    again = await report.run({"$text": {"$search": "red"}}, cursors={"page": result["page"].next})
    assert [item["_id"] for item in again["page"].items] == [5]
