"""How objects of the drivers are told apart: by what their classes offer, before anything is connected."""

from __future__ import annotations

import inspect
import threading
from typing import Any

import pytest
from motor.motor_asyncio import AsyncIOMotorClient
from pymongo import AsyncMongoClient, MongoClient

import mongopatterns
from mongopatterns import (
    AsyncCounter,
    AsyncQuota,
    Counter,
    CounterSpec,
    DocumentSpec,
    Quota,
    QuotaSpec,
    UsageError,
    Window,
)
from mongopatterns._driver_sync import together

HITS = CounterSpec("counters", path="n")
QUOTA = QuotaSpec("quotas", path="q", windows=[Window.hour(5)])
ASYNCHRONOUS: list[Any] = [AsyncMongoClient, AsyncIOMotorClient]


def targets(client: Any) -> list[Any]:
    return [client["app"], client["app"]["things"]]


@pytest.mark.parametrize("kind", ASYNCHRONOUS, ids=lambda kind: kind.__name__)
async def test_asynchronous_objects_are_for_asynchronous_names(kind: Any) -> None:
    """Databases and collections of both asynchronous drivers bind to AsyncX, and X names the way out."""
    for target in targets(kind("mongodb://localhost", connect=False)):
        AsyncCounter(target, HITS)
        AsyncQuota(target, QUOTA)
        for twin, spec in ((Counter, HITS), (Quota, QUOTA)):
            with pytest.raises(UsageError, match="belongs to an asynchronous driver: use the name with Async"):
                twin(target, spec)


def test_synchronous_objects_are_for_plain_names() -> None:
    """Databases and collections of the synchronous driver bind to X, and AsyncX names the way out."""
    with MongoClient("mongodb://localhost", connect=False) as client:
        for target in targets(client):
            Counter(target, HITS)
            Quota(target, QUOTA)
            for twin, spec in ((AsyncCounter, HITS), (AsyncQuota, QUOTA)):
                with pytest.raises(UsageError, match="belongs to a synchronous driver: use the name without Async"):
                    twin(target, spec)


BOUND = sorted(
    name
    for name in mongopatterns.__all__
    if isinstance(made := getattr(mongopatterns, name), type)
    and list(inspect.signature(made.__init__).parameters)[1:3] == ["target", "spec"]
)
WHOLE = {"AsyncCascade", "AsyncSchema", "Cascade", "Schema"}


def database_for(name: str) -> Any:
    kind: Any = AsyncMongoClient if name.startswith("Async") else MongoClient
    return kind("mongodb://localhost", connect=False)["app"]


@pytest.mark.parametrize("name", BOUND)
async def test_a_primitive_takes_its_own_spec(name: str) -> None:
    """Anything else, and the definition of another primitive, is refused by the kind that is expected."""
    other = DocumentSpec("things", key=["n"]) if name.endswith("Counter") else HITS
    for wrong in (other, "things", None, {"collection": "things"}):
        said = rf"^spec: expected a \w+Spec, got {type(wrong).__name__}"
        with pytest.raises(UsageError, match=said) as refused:
            getattr(mongopatterns, name)(database_for(name), wrong)
        assert name.removeprefix("Async").startswith(str(refused.value).split()[3].removesuffix("Spec,"))


@pytest.mark.parametrize("name", sorted(WHOLE))
async def test_what_touches_several_collections_is_bound_to_a_database(name: str) -> None:
    """A collection is refused, and the way to its database is named."""
    assert name in BOUND
    with pytest.raises(UsageError, match=r"^target: expected a database, got \w*Collection: pass collection\.database"):
        getattr(mongopatterns, name)(database_for(name)["things"], HITS)


def test_a_durability_that_is_none_is_refused() -> None:
    """Only the two named durabilities are taken: text that looks like one is not."""
    with (
        MongoClient("mongodb://localhost", connect=False) as client,
        pytest.raises(UsageError, match=r"^durability: expected Durability.MAJORITY"),
    ):
        Counter(client["app"], HITS, durability="majority")  # type: ignore[arg-type]


@pytest.mark.parametrize("threads", [0, 1, 3])
def test_calls_are_made_where_no_thread_can_be_begun(monkeypatch: pytest.MonkeyPatch, threads: int) -> None:
    """Each once, whatever fails; the first error is raised when all are over."""
    begin, begun, made = threading.Thread.start, iter(range(threads)), list[int]()

    def start(thread: threading.Thread) -> None:
        if next(begun, None) is None:
            raise RuntimeError("can't create new thread at interpreter shutdown")
        begin(thread)

    def call(number: int) -> int:
        made.append(number)
        return 6 // number

    monkeypatch.setattr(threading.Thread, "start", start)
    assert together([lambda: call(1), lambda: call(2), lambda: call(3)]) == [6, 3, 2]
    with pytest.raises(ZeroDivisionError):
        together([lambda: call(0), lambda: call(1)])
    assert sorted(made) == [0, 1, 1, 2, 3]
