"""What the processes of a race for seats, slots, codes and documents run; imported by name in each of them."""

from __future__ import annotations

from typing import Any

from race_workers import async_client, client

from mongopatterns import (
    AsyncCappedSet,
    AsyncSlots,
    CappedSet,
    CappedSetSpec,
    Conflict,
    Documents,
    DocumentSpec,
    KeyedSet,
    KeyedSetSpec,
    Slots,
    SlotsSpec,
    UniqueCode,
    UniqueCodeSpec,
)

SEATS = CappedSetSpec("parties", path="seats", member_key="user", cap=50, create={"title": "Friday"})
REACTIONS = KeyedSetSpec("messages", path="reactions", max_members=30, create={})
STREAMS = SlotsSpec("streams", cap=20, ttl=600)
CODES = UniqueCodeSpec("rooms", path="code", live={"ended_at": None})
RESPONSES = DocumentSpec("responses", key=("question", "user"))


def join(index: int, uri: str, name: str) -> str:
    """Let each of 100 users join twice, from two processes."""
    return CappedSet(client(uri)[name], SEATS).join("party", {"user": index % 100}).outcome.value


async def async_join(index: int, uri: str, name: str) -> str:
    seats = AsyncCappedSet(async_client(uri)[name], SEATS)
    return (await seats.join("party", {"user": index % 100})).outcome.value


def react(index: int, uri: str, name: str) -> str:
    return KeyedSet(client(uri)[name], REACTIONS).add("message", "👍", index % 60).outcome.value


def acquire(index: int, uri: str, name: str) -> int | None:
    return Slots(client(uri)[name], STREAMS).acquire("ann").slot


async def async_acquire(index: int, uri: str, name: str) -> int | None:
    return (await AsyncSlots(async_client(uri)[name], STREAMS).acquire("ann")).slot


def claim(index: int, uri: str, name: str) -> str | None:
    try:
        return str(UniqueCode(client(uri)[name], CODES).insert({"number": index}, code=f"room-{index % 20}")["code"])
    except Conflict:
        return None


def respond(index: int, uri: str, name: str) -> bool:
    documents = Documents(client(uri)[name], RESPONSES)
    return documents.upsert(("q", index % 5), inc={"visits": 1}, push_last={"history": index}).created


def take(index: int, uri: str, name: str) -> Any:
    document = Documents(client(uri)[name], DocumentSpec("codes", key="code")).take(f"code {index % 10}")
    return document and document["for"]
