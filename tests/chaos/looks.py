"""What is stored when a mixed load is over, read by the driver alone and logged for the checker."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any

from pymongo import MongoClient

from tests.chaos.callers import CAP, LIMIT, LINES, ORDERED, STOCKED
from tests.chaos.load import Load


def look(load: Load, quotas: dict[str, Any], limiters: dict[str, Any]) -> None:
    """Log what is stored under all keys that were asked for, also where there is nothing.

    What is held of a quota, and what counts of a limiter, are told by themselves, as `quotas` and `limiters`.
    """
    with MongoClient[dict[str, Any]](load.world.uri) as client:
        db = client[load.world.db.name]
        stored = {name: list(db[name].find()) for name in db.list_collection_names()}
    asked: dict[str, set[str]] = defaultdict(set)
    for call in load.log:
        asked[call.of].add(call.key)
        asked[call.op].add(call.key)
    hits = {each["_id"]: each for each in stored["hits"]}
    for key in asked["Counter"]:
        each = hits.get(key, {"n": 0, "size": 0})
        load.look("Counter", "stored", key, each["n"])
        load.look("Counter", "stored together", key, [each["n"], each["size"]])
    for key, told in quotas.items():
        load.look("Quota", "stored", key, told)
    for key, told in limiters.items():
        load.look("RateLimiter", "stored", key, told, cost=0, limit=LIMIT)
    _members(load, stored, asked)
    _documents(load, stored, asked)
    _events(load, stored, asked)


def _members(load: Load, stored: dict[str, list[Any]], asked: dict[str, set[str]]) -> None:
    rooms = {room["_id"]: room for room in stored["rooms"]}
    for key in asked["CappedSet"]:
        room = rooms.get(key, {"seats": [], "host": None})
        members = [member["id"] for member in room["seats"]]
        load.look("CappedSet", "stored", key, members, cap=CAP)
        load.look("CappedSet", "stored leader", key, {"leader": room["host"], "members": members})
    for owner in asked["Slots"]:
        held = [slot for slot in stored["slots"] if slot["owner"] == owner and slot["data"]]
        load.look("Slots", "stored", owner, [(slot["data"]["me"], slot["slot"]) for slot in held])
    songs = {song["_id"]: song["liked"] for song in stored["songs"]}
    for key in asked["KeyedSet"] - {"inbox"}:
        document, name = key.split("/")
        liked = songs.get(document, {})
        members = liked.get("by", {}).get(name, [])
        load.look("KeyedSet", "stored", key, members, cap=CAP)
        load.look("KeyedSet", "stored together", key, [liked.get("n", {}).get(name, 0), len(members)])
    for inbox in stored["inbox"]:
        load.look("KeyedSet", "stored", "inbox", inbox.get("tags", {}).get("all", []))
    codes = {each["_id"]: {"open": each["open"], "code": each.get("code")} for each in stored["codes"]}
    load.look("UniqueCode", "stored", "codes", codes)


def _documents(load: Load, stored: dict[str, list[Any]], asked: dict[str, set[str]]) -> None:
    made = {each["_id"]: each["by"] for each in stored["made"]}
    for key in asked["get_or_create"] | made.keys():
        load.look("Documents", "stored made", key, made.get(key))
    changed = {each["_id"]: each for each in stored["changed"]}
    for key in asked["upsert"]:
        each = changed.get(key, {"n": 0, "all": []})
        load.look("Documents", "stored changed", key, {"n": each["n"], "all": each["all"]})
    stock = {each["_id"] for each in stored["stock"]}
    for number in range(STOCKED):
        if number not in stock or f"{number}" in asked["take"]:
            load.look("Documents", "stored left", f"{number}", number in stock)
    orders, lines = {each["_id"] for each in stored["orders"]}, Counter(each["order"] for each in stored["lines"])
    for number in range(ORDERED):
        told = (int(number in orders), lines[number])
        if told != (1, LINES) or f"{number}" in asked["delete"]:
            load.look("Cascade", "stored", f"{number}", told, at_first=(1, LINES))


def _events(load: Load, stored: dict[str, list[Any]], asked: dict[str, set[str]]) -> None:
    for name in asked["insert"] & asked["WriteBuffer"]:
        load.look("WriteBuffer", "stored", name, [each["_id"] for each in stored["events"] if each["via"] == name])
    for op, collection, missing in (("increment", "counts", 0), ("update", "states", None)):
        numbers = {each["_id"]: each["n"] for each in stored[collection]}
        for key in asked[op]:
            name = "stored number" if op == "increment" else "stored last"
            load.look("WriteBuffer", name, key, numbers.get(key, missing))
