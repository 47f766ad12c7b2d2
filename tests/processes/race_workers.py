"""What the processes of a race run; imported by name in each of them."""

from __future__ import annotations

from functools import cache
from typing import Any

from pymongo import AsyncMongoClient, MongoClient

from mongopatterns import AsyncQuota, Counter, CounterSpec, Field, Quota, QuotaSpec, Window

HITS = CounterSpec("hits", path="n")
SEATS = QuotaSpec("quotas", path="q", windows=[Window.day(Field("limit", default=50)), Window.month(None)])


@cache
def client(uri: str) -> MongoClient[dict[str, Any]]:
    return MongoClient(uri)


@cache
def async_client(uri: str) -> AsyncMongoClient[dict[str, Any]]:
    return AsyncMongoClient(uri)


def add(_: int, uri: str, name: str) -> Any:
    return Counter(client(uri)[name], HITS).add("home", 2)


def consume(index: int, uri: str, name: str) -> bool:
    return bool(Quota(client(uri)[name], SEATS).consume(f"key {index % 2}"))


async def async_consume(index: int, uri: str, name: str) -> bool:
    return bool(await AsyncQuota(async_client(uri)[name], SEATS).consume(f"key {index % 2}"))
