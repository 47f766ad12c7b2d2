"""What the processes of a race run; imported by name in each of them."""

from __future__ import annotations

from functools import cache
from typing import Any

from pymongo import AsyncMongoClient, MongoClient

from mongopatterns import AsyncCounter, AsyncQuota, Counter, CounterSpec, Field, Quota, QuotaSpec, Window

HITS = CounterSpec("hits", path="n")
SEATS = QuotaSpec("quotas", path="q", windows=[Window.day(Field("limit", default=50)), Window.month(None)])
STRIPED = CounterSpec("hits", path="n", stripes=5)
AMOUNTS = (1, 2, 5, 0.5, 60)


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


# Primitives whose callers share round trips: one per process, as an application has them.


@cache
def hits_together(uri: str, name: str) -> Counter:
    return Counter(client(uri)[name], HITS, combine=True)


@cache
def async_hits_together(uri: str, name: str) -> AsyncCounter:
    return AsyncCounter(async_client(uri)[name], HITS, combine=True)


@cache
def seats_together(uri: str, name: str) -> Quota:
    return Quota(client(uri)[name], SEATS, combine=True)


@cache
def async_seats_together(uri: str, name: str) -> AsyncQuota:
    return AsyncQuota(async_client(uri)[name], SEATS, combine=True)


@cache
def striped(uri: str, name: str, *, combine: bool) -> Counter:
    return Counter(client(uri)[name], STRIPED, combine=combine)


def add_together(index: int, uri: str, name: str) -> Any:
    return hits_together(uri, name).add("home", 1 + index % 3)


async def async_add_together(index: int, uri: str, name: str) -> Any:
    return await async_hits_together(uri, name).add("home", 1 + index % 3)


def consume_together(index: int, uri: str, name: str) -> Any:
    return seats_together(uri, name).consume("alice", AMOUNTS[index % 5])


async def async_consume_together(index: int, uri: str, name: str) -> Any:
    return await async_seats_together(uri, name).consume("alice", AMOUNTS[index % 5])


def add_to_stripes(index: int, uri: str, name: str) -> Any:
    return striped(uri, name, combine=index % 2 == 0).add(f"key {index % 3}", 0.25)
