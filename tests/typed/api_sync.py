"""The synchronous API as type checkers see it: checked, never run."""

from __future__ import annotations

from typing import Any, TypedDict

from pymongo import MongoClient
from pymongo.collection import Collection
from pymongo.database import Database
from typing_extensions import assert_type

from mongopatterns import (
    Capped,
    Cascade,
    CascadeResult,
    CascadeSpec,
    CleanText,
    Count,
    CountDistinct,
    Counter,
    CounterSpec,
    Decision,
    Deployment,
    DeploymentReport,
    Distinct,
    Durability,
    Finding,
    Health,
    HealthReport,
    Join,
    JoinSpec,
    Loader,
    LoaderSpec,
    One,
    Page,
    PageOf,
    Pager,
    PagerExplanation,
    PagerSpec,
    PoolBudget,
    Profile,
    Quota,
    QuotaSpec,
    Report,
    ReportExplanation,
    ReportSpec,
    Requirements,
    SumMap,
    Totals,
    Validator,
    Window,
    make_client,
    shared_client,
    to_document,
)
from mongopatterns.typing import CollectionLike, DatabaseLike, DocumentT, Number

HITS = CounterSpec("counters", path="n")
MINUTES = QuotaSpec("users", path="quota", windows=[Window.hour(60)])


class User(TypedDict):
    name: str


def first(collection: CollectionLike[DocumentT]) -> DocumentT | None:
    return collection.find_one({})


def collection_of(database: DatabaseLike[DocumentT]) -> CollectionLike[DocumentT]:
    return database.get_collection("users")


def documents_keep_their_type(users: Collection[User], db: Database[User]) -> None:
    assert_type(first(users), User | None)
    assert_type(first(collection_of(db)), User | None)


def verdicts(client: MongoClient[Any]) -> None:
    quota = Quota(client["app"], MINUTES, durability=Durability.FAST)
    assert_type(quota.consume("alice", 5), Decision)
    assert_type(quota.peek("alice").require(), Decision)
    assert_type(quota.reset("alice"), bool)
    counter = Counter(client["app"]["hits"], HITS)
    assert_type(counter.add("home"), Number)
    assert_type(counter.values(["a"]), dict[Any, Number])


def must_fail(client: MongoClient[Any]) -> None:
    Quota(client, MINUTES)  # type: ignore[arg-type]
    Quota(client["app"], MINUTES, durability="majority")  # type: ignore[arg-type]
    Counter(client["app"], MINUTES)  # type: ignore[arg-type]
    Counter(client["app"], HITS).add("home", None)  # type: ignore[arg-type]


QUESTIONS = JoinSpec("questions", joins=[One("responses", local="_id", foreign="question_id", as_="response")])


def joins(database: Database[dict[str, Any]]) -> None:
    join = Join(database, QUESTIONS)
    assert_type(join.find({"book": 1}, limit=5), list[dict[str, Any]])
    assert_type(list(join.stream({})), list[dict[str, Any]])
    assert_type(join.count({}), int)
    loader = Loader(database["users"], LoaderSpec("users"))
    assert_type(loader.load_many([1, 2]), list[dict[str, Any] | None])
    cascade = Cascade(database, CascadeSpec("questions", children=[("responses", "_id", "question_id")]))
    assert_type(cascade.delete({"book": 1}), CascadeResult)
    join.find({}, {"user": 1})  # type: ignore[call-arg]
    Join(database, LoaderSpec("users"))  # type: ignore[arg-type]


SESSIONS = ReportSpec(
    "sessions",
    branches={
        "all": Totals({"n": Count(), "users": CountDistinct("user"), "likes": SumMap("likes", limit=10)}),
        "page": PageOf(sort=[("at", -1)], count=Capped(1000)),
        "users": Distinct("user"),
    },
)


def reports(database: Database[dict[str, Any]]) -> None:
    report = Report(database, SESSIONS)
    assert_type(report.run({"user": 1}, consistent=True), dict[str, Any])
    assert_type(report.explain(), ReportExplanation)
    report.run({}, session=None, stategy="auto")  # type: ignore[call-arg]
    Report(database, "sessions")  # type: ignore[arg-type]
    Capped("many")  # type: ignore[arg-type]


CHAT = PagerSpec(
    "messages",
    sort=[("at", -1), ("n", 1)],
    limit=20,
    reading_order=True,
    filter_by=["party"],
    fields=["n"],
    collation={"locale": "de"},
)


def pages(database: Database[dict[str, Any]]) -> None:
    pager = Pager(database["messages"], CHAT, secret=["a" * 16, b"b" * 16])
    assert_type(pager.spec, PagerSpec)
    page = pager.page({"party": 1}, cursor=None, limit=5, fields={"n": 1}, timeout=1)
    assert_type(page, Page[dict[str, Any]])
    assert_type(page.items, list[dict[str, Any]])
    assert_type(page.next, str | None)
    assert_type(pager.page(model=User), Page[User])
    assert_type(list(pager.stream({}, model=User, batch=10)), list[User])
    assert_type(list(pager.stream()), list[dict[str, Any]])
    assert_type(pager.explain({}, cursor=page.next), PagerExplanation)
    pager.page({}, "cursor")  # type: ignore[call-arg, arg-type]
    pager.page(cursor=5)  # type: ignore[arg-type]
    Pager(database, "messages")  # type: ignore[arg-type]
    PagerSpec("messages", [("at", -1)])  # type: ignore[call-arg]
    PagerSpec("messages", sort="at")  # type: ignore[arg-type]


def validators(database: Database[dict[str, Any]]) -> None:
    validator = Validator.from_model(User, level="moderate", action="warn", by_alias=False)
    assert_type(validator, Validator)
    assert_type(validator.unexpressed, tuple[Finding, ...])
    assert_type(validator.options, dict[str, Any])
    assert_type(to_document({"a": 1}), dict[str, Any])
    assert_type(CleanText(max_length=5)("a"), str)
    database.create_collection("users", **validator.options)
    Validator({"a": 1}, "moderate")  # type: ignore[call-arg]
    Validator({"a": 1}, level="off")  # type: ignore[arg-type]
    CleanText(5)  # type: ignore[call-arg]


def deployments(client: MongoClient[dict[str, Any]]) -> None:
    assert_type(Deployment(client).check(Requirements(min_version=(6, 0)), timeout=5), DeploymentReport)
    assert_type(Health(client).live(), HealthReport)
    assert_type(Health(client).ready(timeout=1), HealthReport)
    Deployment(client).check(timeout="5")  # type: ignore[arg-type]
    Health(client).live(timeout=1)  # type: ignore[call-arg]


def clients() -> None:
    budget = PoolBudget(limit=100, processes=4)
    made = make_client("mongodb://h", profile=Profile.WORKER, app_name="worker", budget=budget)
    assert_type(made, MongoClient[dict[str, Any]])
    with shared_client("mongodb://h", profile=Profile.WORKER, app_name="worker", durability=Durability.FAST) as client:
        assert_type(client, MongoClient[dict[str, Any]])
        hits = Counter(client["app"], HITS)
        assert_type(hits, Counter)
    make_client("mongodb://h", app_name="worker")  # type: ignore[call-overload]
    shared_client("mongodb://h", profile=Profile.WORKER, app_name=5)  # type: ignore[call-overload]
