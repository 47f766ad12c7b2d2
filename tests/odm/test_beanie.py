"""Beanie 2 and the primitives on the same documents: what its calls erase, and a way of working that loses nothing.

The first half pins what Beanie does, so that `docs/how-to/live-with-an-odm.md` says what is so; where a newer Beanie
does better, a test here fails and the page can be shortened.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio
from beanie import Document, init_beanie
from beanie.exceptions import StateNotSaved
from beanie.operators import Inc

from mongopatterns import AsyncCounter, AsyncDocuments, CounterSpec, DocumentSpec
from mongopatterns.testing import race

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

from pydantic import ConfigDict, Field
from pymongo import IndexModel
from pymongo.errors import DuplicateKeyError

CALLERS = 20
KEYS = 20


class Room(Document):
    name: str
    topic: str = ""
    visits: int = 0
    members: list[str] = []  # noqa: RUF012  # Pydantic copies it

    class Settings:
        name = "rooms"
        use_state_management = True


class RoomWithRevision(Document):
    name: str
    visits: int = 0

    class Settings:
        name = "revised"
        use_revision = True


class Loose(Document):
    """The answer of a user, without an index that would keep it the only one."""

    question_id: int
    user_id: str
    saves: int = 0
    history: list[str] = []  # noqa: RUF012

    class Settings:
        name = "loose"


class Response(Document):
    """The same with the index."""

    question_id: int
    user_id: str
    saves: int = 0
    history: list[str] = []  # noqa: RUF012

    class Settings:
        name = "responses"
        indexes = [IndexModel([("question_id", 1), ("user_id", 1)], unique=True)]  # noqa: RUF012


class Aliased(Document):
    opened: int = Field(default=0, alias="openCount")

    model_config = ConfigDict(populate_by_name=True)

    class Settings:
        name = "aliased"


VISITS = CounterSpec("rooms", path="visits", create=None)
MEMBERS = DocumentSpec("rooms")
RESPONSES = DocumentSpec("responses", key=("question_id", "user_id"))


@pytest_asyncio.fixture(autouse=True)
async def _models(db: Any) -> None:
    await init_beanie(database=db, document_models=[Room, RoomWithRevision, Loose, Response, Aliased])


@pytest.fixture
def visits(_models: None) -> AsyncCounter:
    return AsyncCounter(Room.get_pymongo_collection(), VISITS)


@pytest.fixture
def rooms(_models: None) -> AsyncDocuments:
    return AsyncDocuments(Room.get_pymongo_collection(), MEMBERS)


@pytest.fixture
def responses(_models: None) -> AsyncDocuments:
    return AsyncDocuments(Response.get_pymongo_collection(), RESPONSES)


async def new_room() -> Any:
    room: Any = await Room(name="a").insert()
    return room


# What Beanie does --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["save", "replace"])
async def test_saving_a_whole_document_erases_what_was_written_meanwhile(
    db: Any, visits: AsyncCounter, rooms: AsyncDocuments, how: str
) -> None:
    """`save` and `replace` of a document in hand put the old counter and the old members back."""
    room = await new_room()
    assert await visits.add(room.id) == 1
    await rooms.upsert(room.id, push_last={"members": "Ann"})
    room.topic = "news"
    await getattr(room, how)()
    stored = await db.rooms.find_one()
    assert (stored["topic"], stored["visits"], stored["members"]) == ("news", 0, [])


async def test_what_the_model_does_not_know_survives_save_and_not_replace(db: Any) -> None:
    """`save` writes the fields of the model; `replace` drops all others."""
    room = await new_room()
    await db.rooms.update_one({}, {"$set": {"quota": {"used": 5}}})
    await room.save()
    assert (await db.rooms.find_one())["quota"] == {"used": 5}
    await room.replace()
    assert "quota" not in await db.rooms.find_one()


async def test_a_revision_does_not_notice_a_primitive(db: Any) -> None:
    """`use_revision` guards against other saves alone: a primitive leaves the revision, and the save erases."""
    room: Any = await RoomWithRevision(name="a").insert()
    await AsyncCounter(RoomWithRevision.get_pymongo_collection(), VISITS).add(room.id)
    room.name = "b"
    await room.save()
    stored = await db.revised.find_one()
    assert (stored["name"], stored["visits"]) == ("b", 0)


async def test_save_changes_writes_the_changed_fields_whole(db: Any, visits: AsyncCounter) -> None:
    """It spares what was not touched; a list or a number that was touched is written as it was in memory."""
    room = await new_room()
    one, other = [await Room.get(room.id) for _ in range(2)]
    assert one is not None
    assert other is not None
    await visits.add(room.id)
    one.topic = "news"
    one.members.append("Ann")
    other.members.append("Bob")
    await one.save_changes()
    await other.save_changes()
    stored = await db.rooms.find_one()
    assert (stored["topic"], stored["visits"], stored["members"]) == ("news", 1, ["Bob"])


async def test_sync_takes_what_it_read_for_a_change_of_yours(db: Any, visits: AsyncCounter) -> None:
    """After `sync`, `save_changes` writes the refreshed fields too, and erases what came after the `sync`."""
    room = await new_room()
    await visits.add(room.id)
    await room.sync()
    assert room.get_changes() == {"visits": 1}
    await visits.add(room.id)
    room.topic = "news"
    await room.save_changes()
    assert (await db.rooms.find_one())["visits"] == 1


async def saves(save: Callable[[int, str], Awaitable[Any]]) -> Any:
    """Let every caller save under every key at once."""
    return await race(
        lambda index: save(index % KEYS, f"caller {index // KEYS}"), times=KEYS * CALLERS, concurrency=CALLERS * 5
    )


@pytest.fixture
def slow_inserts(db: Any, mongopatterns_server: Any) -> Iterator[None]:
    """Have every insert wait a moment, as on a busy server: between two commands there is time for another caller."""
    data = {"failCommands": ["insert"], "blockConnection": True, "blockTimeMS": 200}
    with mongopatterns_server.fail_point("failCommand", data=data):
        yield


async def test_its_upsert_duplicates(db: Any, slow_inserts: None) -> None:
    """`upsert` updates, and inserts if that matched nothing: without a unique index a race makes several documents."""

    async def save(key: int, name: str) -> None:
        fresh = Loose(question_id=key, user_id="u", saves=1, history=[name])
        await Loose.find_one(Loose.question_id == key, Loose.user_id == "u").upsert(
            Inc({Loose.saves: 1}), on_insert=fresh
        )

    report = await saves(save)
    report.raise_errors()
    stored = await db.loose.distinct("question_id")
    assert stored == list(range(KEYS))
    assert await db.loose.count_documents({}) > 2 * KEYS


async def test_its_upsert_fails_on_a_unique_index(db: Any, slow_inserts: None) -> None:
    """With the index there is one document, and callers that lost the race are given an error; their save is lost."""

    async def save(key: int, name: str) -> None:
        fresh = Response(question_id=key, user_id="u", saves=1, history=[name])
        query = Response.find_one(Response.question_id == key, Response.user_id == "u")
        await query.upsert(Inc({Response.saves: 1}), on_insert=fresh)

    report = await saves(save)
    assert report.errors
    assert all(isinstance(error, DuplicateKeyError) for _, error in report.errors)
    stored = await db.responses.find().to_list(None)
    assert len(stored) == KEYS
    assert sum(document["saves"] for document in stored) == KEYS * CALLERS - len(report.errors)


# The primitives on its models --------------------------------------------------------------------------------


async def test_upsert_on_a_models_collection_is_exact(db: Any, responses: AsyncDocuments) -> None:
    """The same race: one document a key, every save counted, every entry kept, and the answer is a model."""

    async def save(key: int, name: str) -> tuple[Response, bool]:
        document, created = await responses.upsert((key, "u"), inc={"saves": 1}, push_last={"history": name}, keep=50)
        return Response.model_validate(document), created

    report = await saves(save)
    report.raise_errors()
    stored = await Response.find_all().to_list()
    assert sorted(response.question_id for response in stored) == list(range(KEYS))
    for response in stored:
        assert response.saves == CALLERS
        assert sorted(response.history) == sorted(f"caller {number}" for number in range(CALLERS))
    assert report.count(lambda told: told[1]) == KEYS
    assert {told.id for told, _ in report.outcomes} == {response.id for response in stored}
    assert sorted(told.saves for told, _ in report.outcomes) == sorted([*range(1, CALLERS + 1)] * KEYS)


async def test_get_or_create_makes_a_whole_model(db: Any, responses: AsyncDocuments) -> None:
    """With the model's own defaults, all callers are given one and the same model."""

    async def get(key: int, name: str) -> tuple[Response, bool]:
        fresh = Response(question_id=key, user_id="u", history=[name])
        fields = fresh.model_dump(exclude={"id", "revision_id", "question_id", "user_id"})
        document, created = await responses.get_or_create((key, "u"), fields)
        return Response.model_validate(document), created

    report = await saves(get)
    report.raise_errors()
    stored = {response.question_id: response for response in await Response.find_all().to_list()}
    assert len(stored) == KEYS
    assert report.count(lambda told: told[1]) == KEYS
    assert all(told == stored[told.question_id] for told, _ in report.outcomes)


# What the page recommends ------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["set", "save_changes"])
async def test_naming_what_is_changed_loses_nothing(
    db: Any, visits: AsyncCounter, rooms: AsyncDocuments, how: str
) -> None:
    """Fields of the model by `set` or `save_changes`, fields of a primitive by the primitive: all writes are kept."""
    room = await new_room()

    async def visit(index: int) -> None:
        mine: Any = await Room.get(room.id)
        assert mine is not None
        await visits.add(room.id)
        await rooms.upsert(room.id, push_last={"members": f"member {index}"})
        if how == "set":
            await mine.set({Room.topic: f"topic {index}"})
        else:
            mine.topic = f"topic {index}"
            await mine.save_changes()

    report = await race(visit, times=60, concurrency=30)
    report.raise_errors()
    stored: Any = await Room.get(room.id)
    assert stored.visits == 60
    assert sorted(stored.members) == sorted(f"member {index}" for index in range(60))
    assert stored.topic in {f"topic {index}" for index in range(60)}
    assert await db.rooms.count_documents({}) == 1


async def test_set_refreshes_and_a_model_read_anew_has_no_changes(visits: AsyncCounter) -> None:
    """After a primitive's write, `set` brings the model up to date; so does reading it anew, and no change is left."""
    room = await new_room()
    await visits.add(room.id, 5)
    await room.set({Room.topic: "news"})
    assert (room.visits, room.is_changed) == (5, False)
    await visits.add(room.id)
    again: Any = await Room.get(room.id)
    assert (again.visits, again.topic, again.is_changed) == (6, "news", False)


async def test_a_model_made_from_an_answer_is_for_reading(rooms: AsyncDocuments) -> None:
    """It holds what Beanie reads, and `save_changes` refuses it: it has no saved state."""
    room = await new_room()
    document, _ = await rooms.upsert(room.id, push_last={"members": "Ann"})
    made = Room.model_validate(document)
    read: Any = await Room.get(room.id)
    assert made.model_dump() == read.model_dump()
    made.topic = "news"
    with pytest.raises(StateNotSaved):
        await made.save_changes()


async def test_a_primitive_works_on_what_is_stored(db: Any, rooms: AsyncDocuments) -> None:
    """A field with an alias is stored under the alias, and that is the name that a primitive knows."""
    aliased: Any = await Aliased(opened=1).insert()
    docs = AsyncDocuments(Aliased.get_pymongo_collection(), DocumentSpec("aliased"))
    document, _ = await docs.upsert(aliased.id, inc={"openCount": 2})
    assert document["openCount"] == 3
    assert (await Aliased.get(aliased.id)).opened == 3
