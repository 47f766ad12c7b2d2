"""The asynchronous API as type checkers see it: checked, never run."""

from __future__ import annotations

import datetime as dt
from typing import Any, TypedDict

from bson import ObjectId
from motor.motor_asyncio import AsyncIOMotorClient, AsyncIOMotorCollection, AsyncIOMotorDatabase
from pymongo import AsyncMongoClient
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.asynchronous.database import AsyncDatabase
from typing_extensions import assert_type

from mongopatterns import (
    AddManyResult,
    AsyncCappedSet,
    AsyncCascade,
    AsyncCounter,
    AsyncDeployment,
    AsyncDocuments,
    AsyncHealth,
    AsyncJoin,
    AsyncKeyedSet,
    AsyncLoader,
    AsyncPager,
    AsyncQuota,
    AsyncRateLimiter,
    AsyncReport,
    AsyncSchema,
    AsyncSlots,
    AsyncUniqueCode,
    Avg,
    CappedSetSpec,
    CascadeResult,
    CascadeSpec,
    CollectionSpec,
    Count,
    CounterSpec,
    CountOf,
    Decision,
    DeploymentReport,
    DocumentSpec,
    Feature,
    Field,
    GroupBy,
    HealthReport,
    HeldSlot,
    Histogram,
    Index,
    JoinExplanation,
    JoinManyResult,
    JoinOutcome,
    JoinResult,
    JoinSpec,
    KeyedSetOutcome,
    KeyedSetResult,
    KeyedSetSpec,
    Leader,
    LeaveResult,
    LoaderSpec,
    Many,
    MemberResult,
    MergeResult,
    One,
    Page,
    PageOf,
    PagerExplanation,
    PagerSpec,
    Param,
    PoolAlert,
    PoolBudget,
    PoolMonitor,
    PoolPlan,
    PoolSnapshot,
    Profile,
    QuotaSpec,
    Rate,
    RateDecision,
    RateLimiterSpec,
    Ratio,
    ReportExplanation,
    ReportSpec,
    Requirements,
    Reservation,
    Rollover,
    SchemaChange,
    SchemaPlan,
    SchemaSpec,
    SearchIndex,
    Settlement,
    SettleOutcome,
    Slot,
    SlotOutcome,
    SlotsSpec,
    SlowCommand,
    SlowQueries,
    SlowSnapshot,
    Stored,
    Sum,
    Tier,
    TimeBuckets,
    Times,
    TimeSeries,
    Top,
    Totals,
    UniqueCodeSpec,
    ValueOf,
    Window,
    make_async_client,
    shared_async_client,
)
from mongopatterns.typing import AsyncCollectionLike, AsyncDatabaseLike, DocumentT, Number

HITS = CounterSpec("counters", path="n", key_type=ObjectId)
MINUTES = QuotaSpec(
    "users",
    path="quota.subtitle",
    key_field="user_id",
    timezone="Europe/Berlin",
    windows=[Window.hour(Field("limits.hour", default=60), rollover=Rollover(cap=Times(2))), Window.day(None)],
    create={"plan": "free"},
    meters=("cost",),
    align="first_use",
)
SEATS = CappedSetSpec(
    "parties",
    path="participants",
    member_key="user_id",
    key_type=ObjectId,
    cap=Field("max_participants", default=10),
    open_if={"ended_at": None},
    leader=Leader("host_id", sort=[("joined_at", 1)]),
)
LOGIN = RateLimiterSpec("limits", Rate(100, per=60), algorithm="token_bucket", burst=20)


class User(TypedDict):
    name: str


async def first(collection: AsyncCollectionLike[DocumentT]) -> DocumentT | None:
    return await collection.find_one({})


def collection_of(database: AsyncDatabaseLike[DocumentT]) -> AsyncCollectionLike[DocumentT]:
    return database.get_collection("users")


async def documents_keep_their_type(
    users: AsyncCollection[User],
    db: AsyncDatabase[User],
    motor_users: AsyncIOMotorCollection[User],
    motor_db: AsyncIOMotorDatabase[User],
) -> None:
    assert_type(await first(users), User | None)
    assert_type(await first(motor_users), User | None)
    assert_type(await first(collection_of(db)), User | None)
    assert_type(await first(collection_of(motor_db)), User | None)


async def both_drivers_are_accepted(client: AsyncMongoClient[Any], motor: AsyncIOMotorClient[Any]) -> None:
    AsyncQuota(client["app"], MINUTES)
    AsyncQuota(client["app"]["users"], MINUTES)
    AsyncQuota(motor["app"], MINUTES)
    AsyncQuota(motor["app"]["users"], MINUTES)
    AsyncCounter(client["app"], HITS)
    AsyncCounter(motor["app"]["hits"], HITS)
    AsyncRateLimiter(client["app"], LOGIN, combine=True)
    AsyncRateLimiter(motor["app"], LOGIN)
    async with AsyncQuota(client["app"], MINUTES, combine=True) as quota:
        assert_type(quota, AsyncQuota)
    async with AsyncCounter(client["app"], HITS, combine=True) as counter:
        assert_type(counter, AsyncCounter)


async def verdicts(quota: AsyncQuota, counter: AsyncCounter) -> None:
    decision = await quota.consume("alice", 5, timeout=1.5)
    assert_type(decision, Decision)
    assert_type(decision.require(), Decision)
    assert_type(decision.allowed, bool)
    assert_type(decision.limited_by, str | None)
    assert_type(decision.used, dict[str, Number])
    assert_type(decision.remaining, dict[str, Number | None])
    assert_type(decision.resets_at, dict[str, dt.datetime])
    assert_type(decision.retry_after, float | None)
    assert_type(decision.to_dict(), dict[str, Any])
    assert_type(await quota.record("alice"), Decision)
    assert_type(await quota.peek("alice"), Decision)
    assert_type(await quota.reset("alice"), bool)
    assert_type(await quota.refund("alice", 2), Decision)
    assert_type(await quota.grant("alice", 30, once="order-7"), Decision)
    assert_type(await quota.set_state("alice", used={"hour": 3}, banked={"hour": 20}), Decision)
    assert_type(await quota.peek_many(["alice", "bob"]), dict[Any, Decision])
    assert_type(decision.headers(), dict[str, str])
    assert_type(decision.meters, dict[str, Number])
    assert_type(MINUTES.read({"_id": "alice"}), Decision)
    reservation = await quota.reserve("alice", 10, ttl=60)
    assert_type(reservation, Reservation)
    assert_type(reservation.require(), Reservation)
    assert_type(reservation.token, str | None)
    settlement = await quota.settle(reservation.token or "", used=6.5)
    assert_type(settlement, Settlement)
    assert_type(settlement.outcome, SettleOutcome)
    assert_type(await quota.release(""), bool)
    assert_type(await counter.add("home", 0.5), Number)
    assert_type(await counter.value("home"), Number)
    assert_type(await counter.values(["a", "b"]), dict[Any, Number])
    assert_type(HITS.read({"n": 1}), Number)


async def hits(limiter: AsyncRateLimiter) -> None:
    decision = await limiter.hit("ip:1.2.3.4", 2)
    assert_type(decision, RateDecision)
    assert_type(decision.require(), RateDecision)
    assert_type(decision.remaining, int)
    assert_type(decision.headers(), dict[str, str])
    assert_type(await limiter.peek("ip:1.2.3.4"), RateDecision)
    assert_type(await limiter.reset("ip:1.2.3.4"), bool)


# generate: async only
async def must_fail(quota: AsyncQuota, client: AsyncMongoClient[Any]) -> None:
    AsyncQuota(client, MINUTES)  # type: ignore[arg-type]
    AsyncQuota(client["app"], HITS)  # type: ignore[arg-type]
    await quota.consume("alice", "5")  # type: ignore[arg-type]
    await quota.consume("alice", 5, 1.5)  # type: ignore[arg-type, call-arg]
    (await quota.consume("alice")).used = {}  # type: ignore[misc]
    quota.consume("alice").require()  # type: ignore[attr-defined]
    QuotaSpec("users", "quota", windows=[])  # type: ignore[call-arg]
    QuotaSpec("users", path="quota")  # type: ignore[call-arg]
    Window.hour("60")  # type: ignore[arg-type]
    Rollover(cap=1, spend="bank")  # type: ignore[arg-type]
    (await quota.consume("alice")).remianing  # type: ignore[attr-defined]  # noqa: B018
    await quota.reserve("alice", 10)  # type: ignore[call-arg]
    Window.every(60, 5)  # type: ignore[arg-type]
    Window.day(5, align="utc")  # type: ignore[arg-type]
    RateLimiterSpec("limits", Rate(1, per=1), algorithm="leaky")  # type: ignore[arg-type]


async def membership(database: AsyncDatabase[dict[str, Any]], motor: AsyncIOMotorDatabase[dict[str, Any]]) -> None:
    AsyncCappedSet(motor, SEATS)
    seats = AsyncCappedSet(database, SEATS)
    joined = await seats.join("p1", {"user_id": "u1"}, document=True)
    assert_type(joined, JoinResult)
    assert_type(joined.outcome, JoinOutcome)
    assert_type(joined.require(), JoinResult)
    assert_type(joined.cap, int | None)
    assert_type(await seats.join_many("p1", [{"user_id": "u2"}], all_or_none=False), JoinManyResult)
    assert_type(await seats.leave("p1", "u1"), LeaveResult)
    assert_type(await seats.touch("p1", "u1"), MemberResult)
    assert_type(await seats.update("p1", "u1", {"muted": True}), MemberResult)
    assert_type(await seats.members("p1"), list[dict[str, Any]])
    assert_type(await seats.members("p1", model=User), list[User])
    assert_type(await seats.size("p1"), int)
    await seats.join("p1", "u1")  # type: ignore[arg-type]
    await seats.join("p1", {"user_id": "u1"}, document=5)  # type: ignore[arg-type]
    CappedSetSpec("parties", path="participants", cap=10)  # type: ignore[call-arg]


REACT = KeyedSetSpec("messages", path="reactions", key_type=ObjectId, max_keys=20, max_members=100, counts="reacted")


async def keyed_sets(database: AsyncDatabase[dict[str, Any]], motor: AsyncIOMotorDatabase[dict[str, Any]]) -> None:
    AsyncKeyedSet(motor, REACT)
    AsyncKeyedSet(motor["messages"], REACT)
    react = AsyncKeyedSet(database, REACT)
    added = await react.add("m1", "up", "u1", timeout=1)
    assert_type(added, KeyedSetResult)
    assert_type(added.require(), KeyedSetResult)
    assert_type(added.outcome, KeyedSetOutcome)
    assert_type(added.present, bool)
    assert_type((added.size, added.keys), tuple[int, int])
    assert_type(await react.remove("m1", "up", "u1"), KeyedSetResult)
    assert_type(await react.toggle("m1", "up", "u1"), KeyedSetResult)
    many = await react.add_many(["m1", "m2"], "up", "u1")
    assert_type(many, AddManyResult)
    assert_type((many.matched, many.added, many.missing, many.unchanged), tuple[int, int, int, int])
    assert_type(await react.members("m1", "up"), list[Any])
    assert_type(await react.counts("m1"), dict[str, int])
    assert_type(await react.get("m1"), dict[str, list[Any]])
    assert_type(REACT.read({"_id": "m1"}), dict[str, list[Any]])
    await react.add("m1", 5, "u1")  # type: ignore[arg-type]
    await react.add("m1", "up")  # type: ignore[call-arg]
    await react.add("m1", "up", "u1", None)  # type: ignore[call-arg]
    await react.add_many(5, "up", "u1")  # type: ignore[arg-type]
    KeyedSetSpec("messages", "reactions")  # type: ignore[call-arg]
    KeyedSetSpec("messages", path="reactions", max_keys="20")  # type: ignore[arg-type]
    AsyncKeyedSet(database, HITS)  # type: ignore[arg-type]


STREAMS = SlotsSpec("streams", cap=3, ttl=30)
CODES = UniqueCodeSpec("parties", path="room_code", live={"ended_at": None}, length=6)


async def slots_and_codes(database: AsyncDatabase[dict[str, Any]], motor: AsyncIOMotorDatabase[dict[str, Any]]) -> None:
    AsyncSlots(motor, STREAMS)
    AsyncSlots(motor["streams"], STREAMS)
    slots = AsyncSlots(database["streams"], STREAMS)
    slot = await slots.acquire("user:1", cap=5, data={"device": "tv"}, timeout=1)
    assert_type(slot, Slot)
    assert_type(slot.require(), Slot)
    assert_type(slot.outcome, SlotOutcome)
    assert_type(slot.token, str | None)
    assert_type(slot.slot, int | None)
    assert_type(slot.expires_at, dt.datetime | None)
    assert_type(await slots.renew(slot), Slot)
    assert_type(await slots.release(slot.token or ""), Slot)
    held = await slots.holders("user:1")
    assert_type(held, list[HeldSlot])
    assert_type(await slots.release(held[0]), Slot)
    assert_type(held[0].data, dict[str, Any])
    assert_type(await slots.size("user:1"), int)
    await slots.renew(5)  # type: ignore[arg-type]
    await slots.renew(slot.token)  # type: ignore[arg-type]
    await slots.acquire("user:1", 5)  # type: ignore[call-arg]
    SlotsSpec("streams", cap=3)  # type: ignore[call-arg]
    AsyncUniqueCode(motor, CODES)
    codes = AsyncUniqueCode(database, CODES)
    assert_type(await codes.insert({"host": "ann"}, code="tea"), dict[str, Any])
    assert_type(await codes.assign("p1"), str)
    assert_type(await codes.find("tea", fields=["host"]), dict[str, Any] | None)
    await codes.insert("p1")  # type: ignore[arg-type]
    await codes.find(5)  # type: ignore[arg-type]
    UniqueCodeSpec("parties", "room_code")  # type: ignore[call-arg]
    UniqueCodeSpec("parties", path="room_code", create={})  # type: ignore[call-arg]
    AsyncUniqueCode(database, STREAMS)  # type: ignore[arg-type]


RESPONSES = DocumentSpec("responses", key=("question_id", "user_id"), key_type={"question_id": ObjectId})


async def documents(database: AsyncDatabase[dict[str, Any]], motor: AsyncIOMotorDatabase[dict[str, Any]]) -> None:
    AsyncDocuments(motor, RESPONSES)
    AsyncDocuments(motor["responses"], DocumentSpec("responses", key="slug", key_type=ObjectId))
    docs = AsyncDocuments(database["responses"], RESPONSES)
    made = await docs.get_or_create(("q", "u"), {"status": "open"})
    assert_type(made, Stored)
    document, created = await docs.upsert(
        {"question_id": "q", "user_id": "u"}, set={"a.b": 1}, inc={"n": 0.5}, push_last={"h": 1}, keep=5, set_now=["t"]
    )
    assert_type(document, dict[str, Any])
    assert_type(created, bool)
    assert_type(await docs.take(("q", "u"), unexpired="expires_at", timeout=1), dict[str, Any] | None)
    await docs.upsert(("q", "u"), {"a": 1})  # type: ignore[call-arg]
    await docs.upsert(("q", "u"), inc={"n": "1"})  # type: ignore[dict-item]
    await docs.upsert(("q", "u"), push_last=["h"])  # type: ignore[arg-type]
    await docs.take(("q", "u"), "expires_at")  # type: ignore[call-arg]
    made.created = False  # type: ignore[misc]
    DocumentSpec("responses", "key")  # type: ignore[call-arg]
    DocumentSpec("responses", key_type=str)  # type: ignore[arg-type]


ANSWERS = JoinSpec(
    "questions",
    joins=[
        One("responses", local="_id", foreign="question_id", local_as="string", where={"user_id": Param("user")}),
        Many("tags", local="tag_ids", foreign="_id", fields=["name"], sort=[("name", 1)], limit=3),
        CountOf("votes", local="_id", foreign="question_id"),
    ],
    computed={"status": ValueOf("responses.status", default="open")},
)


class Question(TypedDict):
    title: str


async def joins(database: AsyncDatabase[dict[str, Any]], motor: AsyncIOMotorDatabase[dict[str, Any]]) -> None:
    AsyncJoin(motor, ANSWERS, strategy="lookup", on_missing_index="raise")
    join = AsyncJoin(database["questions"], ANSWERS)
    assert_type(await join.find({"book": 1}, params={"user": 1}, sort=[("order", 1)], limit=5), list[dict[str, Any]])
    assert_type(await join.find({}, model=Question), list[Question])
    assert_type(await join.find_one({}, model=Question), Question | None)
    assert_type(await join.find_one({}), dict[str, Any] | None)
    assert_type(await join.attach([{"_id": 1}]), list[dict[str, Any]])
    assert_type(await join.aggregate([{"$match": {}}], model=Question), list[Question])
    assert_type([row async for row in join.stream({})], list[dict[str, Any]])
    assert_type(await join.count({}, joined={"status": "open"}), int)
    assert_type(await join.explain({}), JoinExplanation)
    await join.find({}, strategy="batch")  # type: ignore[call-arg]
    await join.find({}, {"user": 1})  # type: ignore[call-arg]
    AsyncJoin(database, ANSWERS, strategy="fast")  # type: ignore[arg-type]
    One("responses", "_id", "question_id")  # type: ignore[call-arg]
    Many("tags", local="a", foreign="b", local_as="int")  # type: ignore[arg-type]


async def loads(database: AsyncDatabase[dict[str, Any]]) -> None:
    loader = AsyncLoader(database, LoaderSpec("users"))
    assert_type(await loader.load(1), dict[str, Any] | None)
    assert_type(await loader.load_many([1, 2]), list[dict[str, Any] | None])
    AsyncLoader(database, ANSWERS)  # type: ignore[arg-type]
    cascade = AsyncCascade(database, CascadeSpec("questions", children=[("responses", "_id", "question_id")]))
    assert_type(await cascade.delete({"book": 1}, keep=[1], transaction=True), CascadeResult)
    await cascade.delete()  # type: ignore[call-arg]


USAGE = ReportSpec(
    "sessions",
    branches={
        "summary": Totals(
            {"n": Count(), "errors": Ratio(Sum("errors"), Count(), scale=100), "mean": Avg("s", round=1)}
        ),
        "page": PageOf(sort=[("started_at", -1)], limit=20, count="exact", where={"user": Param("user")}),
        "top": Top("user", sort=[("n", -1)], measures={"n": Count(where={"ok": True})}, model=Question),
        "per_day": TimeBuckets("started_at", unit="day", timezone="UTC", measures={"n": Count()}),
        "spread": Histogram("cost", boundaries=[0, 1, dt.datetime(2026, 1, 1, tzinfo=dt.timezone.utc)]),
    },
    source=[{"$unwind": "$parts"}],
)


async def reports(database: AsyncDatabase[dict[str, Any]], motor: AsyncIOMotorDatabase[dict[str, Any]]) -> None:
    AsyncReport(motor, USAGE, strategy="facet", allow_disk_use=True)
    report = AsyncReport(database["sessions"], USAGE)
    assert_type(report.spec, ReportSpec)
    result = await report.run({"n": {"$gt": 1}}, params={"user": 1}, cursors={"page": None}, consistent=True, timeout=1)
    assert_type(result, dict[str, Any])
    assert_type(await report.explain({}, params={"user": 1}), ReportExplanation)
    assert_type(USAGE.params, frozenset[str])
    await report.run({}, {"user": 1})  # type: ignore[call-arg]
    await report.run(consistent="yes")  # type: ignore[arg-type]
    AsyncReport(database, USAGE, strategy="fast")  # type: ignore[arg-type]
    AsyncReport(database, USAGE.branches)  # type: ignore[arg-type]
    ReportSpec("sessions", {"all": Totals({"n": Count()})})  # type: ignore[call-arg]
    ReportSpec("sessions", branches={"all": Count()})  # type: ignore[dict-item]
    Totals({"n": "count"})  # type: ignore[dict-item]
    TimeBuckets("at", unit="minute", measures={"n": Count()})  # type: ignore[arg-type]
    PageOf(sort=[("at", -1)], count="all")  # type: ignore[arg-type]
    GroupBy("user", {"n": Count()})  # type: ignore[call-arg]
    Sum("cost", {"ok": True})  # type: ignore[call-arg]
    Sum("cost", round=0.5)  # type: ignore[arg-type]


CHAT = PagerSpec(
    "messages",
    sort=[("at", -1), ("n", 1)],
    limit=20,
    reading_order=True,
    filter_by=["party"],
    fields=["n"],
    collation={"locale": "de"},
)


async def pages(database: AsyncDatabase[dict[str, Any]], motor: AsyncIOMotorDatabase[dict[str, Any]]) -> None:
    AsyncPager(motor, CHAT, secret="a" * 16)
    pager = AsyncPager(database["messages"], CHAT, secret=["a" * 16, b"b" * 16])
    assert_type(pager.spec, PagerSpec)
    page = await pager.page({"party": 1}, cursor=None, limit=5, fields={"n": 1}, timeout=1)
    assert_type(page, Page[dict[str, Any]])
    assert_type(page.items, list[dict[str, Any]])
    assert_type(page.next, str | None)
    assert_type(await pager.page(model=Question), Page[Question])
    assert_type([row async for row in pager.stream({}, model=Question, batch=10)], list[Question])
    assert_type([row async for row in pager.stream()], list[dict[str, Any]])
    assert_type(await pager.explain({}, cursor=page.next), PagerExplanation)
    await pager.page({}, "cursor")  # type: ignore[call-arg, arg-type]
    await pager.page(cursor=5)  # type: ignore[arg-type]
    AsyncPager(database, "messages")  # type: ignore[arg-type]
    PagerSpec("messages", [("at", -1)])  # type: ignore[call-arg]
    PagerSpec("messages", sort="at")  # type: ignore[arg-type]


SCHEMA = SchemaSpec(
    [
        CollectionSpec("users", indexes=[Index("mail", unique=True), Index.ttl("at", after=dt.timedelta(days=1))]),
        CollectionSpec("views", timeseries=TimeSeries("at", granularity="hours"), search_indexes=[SearchIndex()]),
        CHAT,
        CascadeSpec("questions", children=[("responses", "_id", "question")]),
    ]
)


async def schemas(database: AsyncDatabase[dict[str, Any]], motor: AsyncIOMotorDatabase[dict[str, Any]]) -> None:
    AsyncSchema(motor, SCHEMA)
    schema = AsyncSchema(database, SCHEMA)
    plan = await schema.plan(drop_unknown=["users.a_1"], usage=True, timeout=5)
    assert_type(plan, SchemaPlan)
    assert_type(plan.changes, tuple[SchemaChange, ...])
    assert_type(await schema.apply(plan, drop=False, on_progress=print), SchemaPlan)
    assert_type(await schema.verify(), SchemaPlan)
    merged = await schema.merge_duplicates("users", Index("mail", unique=True), keep=[("at", -1)])
    assert_type(merged, MergeResult)
    await schema.merge_duplicates("users", Index("mail"))  # type: ignore[call-arg]
    await schema.plan("users")  # type: ignore[call-arg]
    AsyncSchema(database, [Index("a")])  # type: ignore[arg-type]
    SchemaSpec([Index("a")])  # type: ignore[list-item]
    TimeSeries("at", granularity="days")  # type: ignore[arg-type]


async def deployments(client: AsyncMongoClient[dict[str, Any]], motor: AsyncIOMotorClient[dict[str, Any]]) -> None:
    AsyncHealth(motor)
    needs = Requirements(transactions=True, min_version=(6, 0), features=(Feature.CHANGE_STREAMS,))
    report = await AsyncDeployment(client).check(needs, timeout=5)
    assert_type(report, DeploymentReport)
    assert_type(report.has_client_bulk_write, bool)
    assert_type(report.version, tuple[int, ...])
    assert_type(await AsyncHealth(client).live(), HealthReport)
    assert_type(await AsyncHealth(client).ready(timeout=1), HealthReport)
    Requirements(True)  # type: ignore[call-arg]
    Requirements(features=("change_streams",))  # type: ignore[arg-type]
    Requirements(transaction=True)  # type: ignore[call-arg]
    await AsyncDeployment(client).check(transactions=True)  # type: ignore[call-arg]
    await AsyncHealth(client).ready(1)  # type: ignore[call-arg]


def monitors(plan: PoolPlan) -> None:
    pool = PoolMonitor(budget=plan, thresholds=(0.5,), on_threshold=lambda alert: assert_type(alert, PoolAlert))
    slow = SlowQueries(threshold=0.1, on_slow=lambda command: assert_type(command, SlowCommand))
    AsyncMongoClient[dict[str, Any]](event_listeners=[pool, slow])
    assert_type(pool.snapshot(), PoolSnapshot)
    assert_type(slow.snapshot(), SlowSnapshot)
    assert_type(slow.snapshot().shapes[0].collection, str | None)
    PoolMonitor(10)  # type: ignore[call-arg]
    PoolMonitor(budget="10")  # type: ignore[arg-type]
    SlowQueries(on_slow=print, threshold="1")  # type: ignore[arg-type]


async def clients() -> None:
    budget = PoolBudget(tier=Tier.M0, processes=20, members=3, monitoring="poll", reserve=20)
    assert_type(budget.plan(Profile.WEB), PoolPlan)
    assert_type(Profile.ANALYTICS.why, dict[str, str])
    asked = make_async_client("mongodb://h", profile=Profile.WEB, app_name="api", budget=budget, timeoutMS=500)
    assert_type(asked, AsyncMongoClient[dict[str, Any]])
    motor = make_async_client("mongodb://h", profile=Profile.WEB, app_name="api", client_class=AsyncIOMotorClient)
    motor_again: AsyncIOMotorClient[dict[str, Any]] = motor
    AsyncCounter(motor_again["app"], HITS)
    async with shared_async_client("mongodb://h", profile=Profile.WEB, app_name="api") as client:
        assert_type(client, AsyncMongoClient[dict[str, Any]])
    make_async_client("mongodb://h", profile=Profile.WEB)  # type: ignore[call-overload]
    make_async_client("mongodb://h", profile="web", app_name="api")  # type: ignore[call-overload]
    shared_async_client("mongodb://h", profile=Profile.WEB, app_name="api", budget=5)  # type: ignore[call-overload]
    PoolBudget(tier="M0", processes=1)  # type: ignore[arg-type]
    PoolBudget(tier=Tier.M0)  # type: ignore[call-arg]
    PoolBudget(limit=5, processes=1, monitoring="auto")  # type: ignore[arg-type]
    Profile.WEB.maxPoolSize = 5  # type: ignore[misc]
