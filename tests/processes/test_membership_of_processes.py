"""Four processes that want the same seats, slots, codes and documents: who is told yes is who is stored."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from mongopatterns import UniqueCodeSpec
from mongopatterns.testing import race_processes

CODES = UniqueCodeSpec("rooms", path="code", live={"ended_at": None})


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the processes import the functions that they run."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent))


@pytest.fixture
def race(mongopatterns_server: Any, mongopatterns_db: Any) -> Any:
    """Make so many calls of a function, in four processes, and return what they were told."""

    def run(function: str, times: int) -> list[Any]:
        place = (mongopatterns_server.uri, mongopatterns_db.name)
        workers = f"membership_workers:{function}"
        report = race_processes(workers, times=times, processes=4, args=place, concurrency=10)
        report.raise_errors()
        return report.outcomes

    return run


def create_indexes(database: Any, collection: str, *indexes: tuple[Any, dict[str, Any]]) -> None:
    for keys, options in indexes:
        database[collection].create_index(keys, **options)


@pytest.mark.parametrize("function", ["join", "async_join"])
def test_seats(race: Any, mongopatterns_db: Any, function: str) -> None:
    """Of 100 users who ask twice, 50 have a seat, each one seat, and exactly those were told; nobody else."""
    told = race(function, 200)
    (party,) = mongopatterns_db.parties.find()
    seated = {member["user"] for member in party["seats"]}
    assert len(party["seats"]) == len(seated) == 50
    joined = [index % 100 for index, outcome in enumerate(told) if outcome == "joined"]
    assert sorted(joined) == sorted(seated)
    assert {index % 100 for index, outcome in enumerate(told) if outcome == "already"} <= seated
    assert {index % 100 for index, outcome in enumerate(told) if outcome == "full"}.isdisjoint(seated)
    assert party["title"] == "Friday"


def test_members_under_a_name(race: Any, mongopatterns_db: Any) -> None:
    """Of 60 who react twice, 30 are under the name, once each, and exactly those were told."""
    told = race("react", 120)
    (message,) = mongopatterns_db.messages.find()
    members = message["reactions"]["👍"]
    assert len(members) == len(set(members)) == 30
    assert sorted(index % 60 for index, outcome in enumerate(told) if outcome == "added") == sorted(members)


@pytest.mark.parametrize("function", ["acquire", "async_acquire"])
def test_slots(race: Any, mongopatterns_db: Any, function: str) -> None:
    """Of 80 who want one of 20 slots that nobody has made yet, 20 have one, each another one."""
    create_indexes(
        mongopatterns_db, "streams", ([("owner", 1), ("slot", 1)], {"unique": True}), ([("owner", 1), ("until", 1)], {})
    )
    told = race(function, 80)
    assert sorted(slot for slot in told if slot is not None) == list(range(20))
    assert told.count(None) == 60


def test_codes(race: Any, mongopatterns_db: Any) -> None:
    """Each of 20 codes that three callers want is told to one of them, and is that one's; the others store nothing."""
    create_indexes(mongopatterns_db, "rooms", *((index.keys, index.options) for index in CODES.indexes()))
    told = race("claim", 60)
    stored = {room["number"]: room["code"] for room in mongopatterns_db.rooms.find()}
    assert stored == {index: code for index, code in enumerate(told) if code}
    assert sorted(stored.values()) == sorted(f"room-{number}" for number in range(20))


def test_documents(race: Any, mongopatterns_db: Any) -> None:
    """Five documents are made by one caller each, and hold what all callers have brought."""
    create_indexes(mongopatterns_db, "responses", ([("question", 1), ("user", 1)], {"unique": True}))
    told = race("respond", 200)
    assert Counter(index % 5 for index, created in enumerate(told) if created) == dict.fromkeys(range(5), 1)
    documents = list(mongopatterns_db.responses.find())
    assert [document["visits"] for document in documents] == [40] * 5
    assert sorted(entry for document in documents for entry in document["history"]) == list(range(200))


def test_what_can_be_taken_once(race: Any, mongopatterns_db: Any) -> None:
    """Of 20 callers who want a document, one gets it."""
    create_indexes(mongopatterns_db, "codes", ("code", {"unique": True}))
    mongopatterns_db.codes.insert_many([{"code": f"code {number}", "for": number} for number in range(10)])
    told = race("take", 200)
    assert sorted(number for number in told if number is not None) == list(range(10))
    assert mongopatterns_db.codes.count_documents({}) == 0
