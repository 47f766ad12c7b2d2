"""The watch party is driven through its routes, on a real server: by crowds, by the clumsy and by the curious."""

from __future__ import annotations

import asyncio
import datetime as dt
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
import pytest_asyncio
from bson import ObjectId
from httpx import ASGITransport, AsyncClient, Response
from pymongo.errors import WriteError

from examples.watch_party import specs
from examples.watch_party.main import app
from examples.watch_party.models import Message
from mongopatterns import Conflict, Schema, UniqueCode, to_document
from mongopatterns.testing import EmbeddedMongo, race

NOON = dt.datetime(2026, 3, 1, 12, tzinfo=dt.timezone.utc)


@asynccontextmanager
async def started() -> AsyncIterator[AsyncClient]:
    """Start the application, and give a client of it. Requests carry the state of the start, as a server's do."""
    async with app.router.lifespan_context(app) as state:

        async def served(scope: Any, receive: Any, send: Any) -> None:
            await app({**scope, "state": dict(state)}, receive, send)

        async with AsyncClient(transport=ASGITransport(served), base_url="http://party") as client:
            yield client


@pytest.fixture(autouse=True)
def settings(monkeypatch: pytest.MonkeyPatch, mongopatterns_server: EmbeddedMongo, mongopatterns_db_name: str) -> None:
    monkeypatch.setenv("MONGODB_URI", mongopatterns_server.uri)
    monkeypatch.setenv("MONGODB_DATABASE", mongopatterns_db_name)


@pytest_asyncio.fixture
async def client() -> AsyncIterator[AsyncClient]:
    async with started() as client:
        yield client


async def call(client: AsyncClient, user: str, method: str, path: str, body: Any = None, **params: Any) -> Response:
    return await client.request(method, path, json=body, params=params, headers={"X-User": user})


async def opened(client: AsyncClient, *, seats: int = 20, host: str = "host", guests: int = 0) -> str:
    """Open a party, seat `g0`, `g1` and so on, and return its id."""
    answer = await call(client, host, "POST", "/parties", {"title": "Friday", "seats": seats})
    assert answer.status_code == 201
    party: str = answer.json()["id"]
    for n in range(guests):
        assert (await call(client, f"g{n}", "PUT", f"/parties/{party}/seat")).status_code == 200
    return party


async def seated(client: AsyncClient, party: str) -> list[str]:
    names: list[str] = (await client.get(f"/parties/{party}/seats")).json()
    return names


def wrote(party: str, n: int, **fields: Any) -> dict[str, Any]:
    """Make a document as the application stores them; two and two of them are of one second."""
    sent_at = NOON + dt.timedelta(seconds=n // 2)
    return {**to_document(Message(party=ObjectId(party), user="host", text=str(n), sent_at=sent_at)), **fields}


# Seats ----------------------------------------------------------------------------------------------------------


async def test_a_crowd_at_the_door_is_seated_up_to_the_cap(client: AsyncClient) -> None:
    """Exactly as many get in as there are seats; who was told so is stored once; a double click is one seat."""
    party = await opened(client, seats=8)

    report = await race(lambda n: call(client, f"u{n // 2}", "PUT", f"/parties/{party}/seat"), times=40, concurrency=40)
    report.raise_errors()

    told = {n // 2 for n, answer in enumerate(report.outcomes) if answer.status_code == 200}
    joined = [answer for answer in report.outcomes if answer.json().get("outcome") == "joined"]
    assert len(joined) == len(told) == 7
    assert sorted(answer.json()["taken"] for answer in joined) == [2, 3, 4, 5, 6, 7, 8]
    assert {answer.status_code for answer in report.outcomes} == {200, 409}
    assert sorted(await seated(client, party)) == sorted(["host", *(f"u{n}" for n in told)])


async def test_nobody_who_fits_is_turned_away(client: AsyncClient) -> None:
    """A crowd of as many as there are seats gets in, all of it, and all are told the same host."""
    party = await opened(client, seats=20)

    report = await race(lambda n: call(client, f"u{n}", "PUT", f"/parties/{party}/seat"), times=19, concurrency=19)
    report.raise_errors()

    assert {(answer.json()["outcome"], answer.json()["host"]) for answer in report.outcomes} == {("joined", "host")}
    assert len(await seated(client, party)) == 20


async def test_a_host_who_leaves_has_exactly_one_successor(client: AsyncClient, mongopatterns_db: Any) -> None:
    """The host and two guests leave at once, each with two clicks: one click counts, and the next in time is host."""
    party = await opened(client, guests=5)

    leaving = ["host", "g0", "g1"]
    report = await race(lambda n: call(client, leaving[n % 3], "DELETE", f"/parties/{party}/seat"), 6, 6)
    report.raise_errors()

    assert sorted(answer.status_code for answer in report.outcomes) == [200, 200, 200, 403, 403, 403]
    assert [answer.json()["host"] for answer in report.outcomes if answer.json().get("taken") == 3] == ["g2"]
    assert await seated(client, party) == ["g2", "g3", "g4"]
    assert mongopatterns_db.parties.find_one()["host"] == "g2"
    assert (await call(client, "g3", "PUT", f"/parties/{party}/seat")).json()["host"] == "g2"


async def test_the_last_one_ends_the_party(client: AsyncClient) -> None:
    """When nobody is left, nobody comes in any more, and nobody finds the party by its code."""
    party = (await call(client, "ann", "POST", "/parties", {"title": "Short", "seats": 2})).json()
    assert (await client.get(f"/codes/{party['code'].lower()}")).json() == party

    left = await call(client, "ann", "DELETE", f"/parties/{party['id']}/seat")
    assert left.json() == {"host": None, "taken": 0, "ended": True}

    assert (await call(client, "bob", "PUT", f"/parties/{party['id']}/seat")).status_code == 410
    assert (await call(client, "ann", "POST", f"/parties/{party['id']}/messages", {"text": "?"})).status_code == 403
    assert (await client.get(f"/codes/{party['code']}")).status_code == 404


# Codes ----------------------------------------------------------------------------------------------------------


async def test_open_parties_share_no_code(monkeypatch: pytest.MonkeyPatch, mongopatterns_db: Any) -> None:
    """Of 64 codes, 40 parties that open at once have 40; a taken one is refused, and that of an ended one is free."""
    monkeypatch.setattr(specs, "CODES", replace(specs.CODES, alphabet="ABCDEFGH", length=2, tries=100))
    codes = UniqueCode(mongopatterns_db, specs.CODES)
    async with started() as client:
        new = {"title": "Friday", "seats": 2}
        report = await race(lambda n: call(client, f"u{n}", "POST", "/parties", new), times=40, concurrency=40)
        report.raise_errors()

        assert {answer.status_code for answer in report.outcomes} == {201}
        assert len({answer.json()["code"] for answer in report.outcomes}) == 40

        first = report.outcomes[0].json()
        again = {**new, "ended_at": None}
        with pytest.raises(Conflict):
            codes.insert(again, code=first["code"])
        assert (await call(client, "u0", "DELETE", f"/parties/{first['id']}/seat")).json()["ended"]
        second = codes.insert(again, code=first["code"])
        assert (await client.get(f"/codes/{first['code']}")).json()["id"] == str(second["_id"])


# Chat -----------------------------------------------------------------------------------------------------------


async def test_pages_lose_and_repeat_nothing_while_others_post(client: AsyncClient, mongopatterns_db: Any) -> None:
    """Back to the first message and forward to the newest, each message is met once, in order, whoever writes."""
    party = await opened(client, guests=10)
    mongopatterns_db.messages.insert_many([wrote(party, n) for n in range(70)])
    stored = [str(message["_id"]) for message in mongopatterns_db.messages.find().sort([("sent_at", 1), ("_id", 1)])]
    posted: list[str] = []

    async def page(cursor: str | None) -> dict[str, Any]:
        """Read a page while two guests write."""
        writers = [f"g{len(posted) % 10}", f"g{(len(posted) + 1) % 10}"] if len(posted) < 12 else []
        path = f"/parties/{party}/messages"
        posts = [call(client, writer, "POST", path, {"text": f"by {writer}"}) for writer in writers]
        params = {} if cursor is None else {"cursor": cursor}
        answer, *answers = await asyncio.gather(call(client, "host", "GET", path, **params), *posts)
        posted.extend(post.json()["id"] for post in answers)
        assert {post.status_code for post in answers} <= {201}
        assert answer.status_code == 200
        shown: dict[str, Any] = answer.json()
        return shown

    shown = await page(None)
    back = [shown]
    while shown["next"]:
        shown = await page(shown["next"])
        back.insert(0, shown)
    ids = [message["id"] for part in back for message in part["items"]]
    assert len(back) == 4
    assert ids[:70] == stored
    assert len(set(ids)) == len(ids) <= 72  # the first page was asked for as the first two were written

    forward = [*shown["items"]]
    while shown["previous"]:
        shown = await page(shown["previous"])
        forward += shown["items"]
    assert len(posted) == 12  # eight on the way back, and four before the way forward meets them
    assert [message["id"] for message in forward[:70]] == stored
    assert sorted(message["id"] for message in forward[70:]) == sorted(posted)
    assert [message["sent_at"] for message in forward] == sorted(message["sent_at"] for message in forward)


async def test_what_is_posted_is_shown_as_it_was_answered(client: AsyncClient) -> None:
    """Control characters go, breaks and markup stay, and the history shows the very message that the post answered."""
    party = await opened(client)

    posted = await call(client, "host", "POST", f"/parties/{party}/messages", {"text": " <b>$x</b>\r\na.b\x00\u202e "})

    assert posted.json()["text"] == "<b>$x</b>\na.b"
    shown = await call(client, "host", "GET", f"/parties/{party}/messages")
    assert shown.json() == {"items": [posted.json()], "next": None, "previous": None}


async def test_a_member_who_floods_the_chat_is_held_back_alone(client: AsyncClient, mongopatterns_db: Any) -> None:
    """Of twelve messages at once five are taken, and what time refills; the rest is told when to come again."""
    party = await opened(client, guests=1)

    began = time.monotonic()
    path = f"/parties/{party}/messages"
    report = await race(lambda n: call(client, "g0", "POST", path, {"text": str(n)}), times=12, concurrency=12)
    refilled = (time.monotonic() - began) / 2
    report.raise_errors()

    taken = report.count(lambda answer: answer.status_code == 201)
    assert 5 <= taken <= 5 + refilled
    assert mongopatterns_db.messages.count_documents({}) == taken
    refused = [answer for answer in report.outcomes if answer.status_code == 429]
    assert len(refused) == 12 - taken
    assert all(1 <= int(answer.headers["Retry-After"]) <= 2 for answer in refused)
    assert (await call(client, "host", "POST", path, {"text": "calm down"})).status_code == 201


async def test_only_members_write_read_and_react(client: AsyncClient, mongopatterns_db: Any) -> None:
    """Who has no seat is told so, on every route; where there is no party, nobody has one; and nothing is stored."""
    party = await opened(client)
    message = mongopatterns_db.messages.insert_one(wrote(party, 0)).inserted_id

    for method, path, body in (
        ("POST", "messages", {"text": "hello"}),
        ("GET", "messages", None),
        ("POST", f"messages/{message}/reactions", {"name": "👍"}),
        ("POST", "reactions", {"name": "👍", "messages": [str(message)]}),
    ):
        assert (await call(client, "eve", method, f"/parties/{party}/{path}", body)).status_code == 403
        assert (await call(client, "eve", method, f"/parties/{ObjectId()}/{path}", body)).status_code == 404
    assert (
        mongopatterns_db.messages.count_documents({})
        == mongopatterns_db.messages.count_documents({"reactions": {}})
        == 1
    )


async def test_a_cursor_is_good_for_its_own_history(client: AsyncClient, mongopatterns_db: Any) -> None:
    """What is no cursor, and a cursor of another party, are a mistake of the client's."""
    mine, other = await opened(client), await opened(client)
    mongopatterns_db.messages.insert_many([wrote(mine, n) for n in range(30)])
    page = (await call(client, "host", "GET", f"/parties/{mine}/messages")).json()
    assert [message["text"] for message in page["items"]] == [str(n) for n in range(10, 30)]

    for party, cursor in ((mine, "nonsense"), (mine, ""), (other, page["next"])):
        assert (await call(client, "host", "GET", f"/parties/{party}/messages", cursor=cursor)).status_code == 400


# Reactions ------------------------------------------------------------------------------------------------------


async def test_reactions_toggled_at_once_end_as_their_number_says(client: AsyncClient, mongopatterns_db: Any) -> None:
    """Twelve members click one, two or three times, all at once: who clicked an odd number of times reacts, once."""
    party = await opened(client, guests=12)
    message = mongopatterns_db.messages.insert_one(wrote(party, 0)).inserted_id
    clicks = [f"g{n}" for n in range(12) for _ in range(n % 3 + 1)]

    path = f"/parties/{party}/messages/{message}/reactions"
    report = await race(lambda n: call(client, clicks[n], "POST", path, {"name": "👍"}), len(clicks), len(clicks))
    report.raise_errors()

    assert {answer.status_code for answer in report.outcomes} == {200}
    stored = mongopatterns_db.messages.find_one()["reactions"]["👍"]
    assert sorted(stored) == sorted(f"g{n}" for n in range(12) if n % 3 != 1)


async def test_any_name_of_a_reaction_is_data(client: AsyncClient, mongopatterns_db: Any) -> None:
    """A name that looks like an operator or a path is set, shown and taken back as any other."""
    party = await opened(client)
    message = mongopatterns_db.messages.insert_one(wrote(party, 0)).inserted_id
    path = f"/parties/{party}/messages/{message}/reactions"

    for name in ("$x", "a.b", "$set", "$", "__proto__", "0", "👍🏽"):
        set_ = await call(client, "host", "POST", path, {"name": name})
        assert set_.json() == {"name": name, "present": True, "size": 1}
        [shown] = (await call(client, "host", "GET", f"/parties/{party}/messages")).json()["items"]
        assert shown["reactions"] == {name: ["host"]}
        taken_back = await call(client, "host", "POST", path, {"name": name})
        assert taken_back.json() == {"name": name, "present": False, "size": 0}
        assert mongopatterns_db.messages.find_one()["reactions"] == {}


async def test_a_message_takes_so_many_kinds_of_reactions(client: AsyncClient, mongopatterns_db: Any) -> None:
    """One name too many is refused, and a name in use is not."""
    party = await opened(client)
    used = {str(n): ["someone"] for n in range(20)}
    message = mongopatterns_db.messages.insert_one(wrote(party, 0, reactions=used)).inserted_id

    path = f"/parties/{party}/messages/{message}/reactions"
    assert (await call(client, "host", "POST", path, {"name": "👍"})).status_code == 409
    assert mongopatterns_db.messages.find_one()["reactions"] == used
    assert (await call(client, "host", "POST", path, {"name": "7"})).json()["size"] == 2


async def test_one_reaction_on_many_messages(client: AsyncClient, mongopatterns_db: Any) -> None:
    """All of them have it, repeating it adds none, and one message of another party has all refused."""
    party, other = await opened(client), await opened(client)
    ids = mongopatterns_db.messages.insert_many([wrote(party, n) for n in range(50)]).inserted_ids
    foreign = mongopatterns_db.messages.insert_one(wrote(other, 0)).inserted_id
    path, body = f"/parties/{party}/reactions", {"name": "a.b", "messages": [str(one) for one in ids]}

    refused = await call(client, "host", "POST", path, {**body, "messages": [*body["messages"], str(foreign)]})
    assert refused.status_code == 404
    assert mongopatterns_db.messages.count_documents({"reactions": {}}) == 51

    assert (await call(client, "host", "POST", path, body)).json() == {"matched": 50, "added": 50, "missing": 0}
    assert (await call(client, "host", "POST", path, body)).json() == {"matched": 50, "added": 0, "missing": 0}
    assert mongopatterns_db.messages.count_documents({"reactions": {"a.b": ["host"]}}) == 50
    single = f"/parties/{party}/messages/{foreign}/reactions"
    assert (await call(client, "host", "POST", single, {"name": "👍"})).status_code == 404


# What is refused ------------------------------------------------------------------------------------------------


async def test_bad_input_is_refused(client: AsyncClient, mongopatterns_db: Any) -> None:
    """What the models do not take is answered with 422, and nothing of it is stored."""
    party = await opened(client)
    messages = f"/parties/{party}/messages"

    for method, path, body in (
        ("POST", "/parties", {"title": "", "seats": 2}),
        ("POST", "/parties", {"title": "\x00 \u202e", "seats": 2}),
        ("POST", "/parties", {"title": "Friday", "seats": 0}),
        ("POST", "/parties", {"title": "Friday", "seats": 51}),
        ("POST", "/parties", {"title": {"$gt": ""}, "seats": 2}),
        ("PUT", "/parties/friday/seat", None),
        ("POST", messages, {"text": " \n "}),
        ("POST", messages, {"text": "x" * 501}),
        ("POST", messages, {"text": {"$literal": 1}}),
        ("POST", messages, {}),
        ("POST", f"{messages}/nine/reactions", {"name": "👍"}),
        ("POST", f"{messages}/{party}/reactions", {"name": "\x00"}),
        ("POST", f"/parties/{party}/reactions", {"name": "👍", "messages": []}),
        ("POST", f"/parties/{party}/reactions", {"name": "👍", "messages": [{"$ne": None}]}),
    ):
        assert (await call(client, "host", method, path, body)).status_code == 422, (path, body)
    for headers in ({}, {"X-User": " "}, {"X-User": "x" * 41}):
        answer = await client.post("/parties", json={"title": "Friday", "seats": 2}, headers=headers)
        assert answer.status_code == 422, headers

    assert mongopatterns_db.parties.count_documents({}) == 1
    assert mongopatterns_db.messages.count_documents({}) == 0


async def test_the_server_refuses_what_the_chat_could_not_read(client: AsyncClient, mongopatterns_db: Any) -> None:
    """A malformed message that is written past the application is refused, new or changed; a right one is taken."""
    messages = mongopatterns_db.messages
    right = wrote(str(ObjectId()), 0)
    messages.insert_one(right)

    for wrong in (
        {"text": 5},
        {"text": ""},
        {"text": "x" * 501},
        {"user": None},
        {"party": "friday"},
        {"sent_at": "today"},
        {"reactions": {"👍": "host"}},
        {"reactions": {"👍": [1]}},
        {"stars": 5},
    ):
        with pytest.raises(WriteError) as inserted:
            messages.insert_one({**right, "_id": ObjectId(), **wrong})
        with pytest.raises(WriteError) as updated:
            messages.update_one({"_id": right["_id"]}, {"$set": wrong})
        assert (inserted.value.code, updated.value.code) == (121, 121), wrong
    assert messages.find_one() == right
    assert messages.count_documents({}) == 1


# The start ------------------------------------------------------------------------------------------------------


async def test_many_start_at_once_and_one_more_later(mongopatterns_db: Any) -> None:
    """On an empty database all get through; on a full one a start changes nothing, and what was there is there."""

    async def start(party: str | None = None) -> str:
        async with started() as client:
            return party if party and await seated(client, party) == ["host"] else await opened(client)

    def structure() -> dict[str, Any]:
        return {
            entry["name"]: (entry["options"], mongopatterns_db[entry["name"]].index_information())
            for entry in mongopatterns_db.list_collections()
        }

    parties = await asyncio.gather(*(start() for _ in range(4)))
    before = structure()
    assert not Schema(mongopatterns_db, specs.SCHEMA).plan()

    assert await start(parties[0]) == parties[0]
    assert structure() == before
    assert mongopatterns_db.parties.count_documents({}) == 4


async def test_probes_tell_the_process_from_its_server(client: AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both are well while the server answers; without it the process is alive, and not ready."""
    assert (await client.get("/livez")).status_code == 200
    ready = await client.get("/readyz")
    assert (ready.status_code, ready.json()["state"]) == (200, "ready")

    with EmbeddedMongo() as server:
        monkeypatch.setenv("MONGODB_URI", server.uri)
        async with started() as lonely:
            assert (await lonely.get("/readyz")).status_code == 200
            server.stop()
            assert (await lonely.get("/readyz")).status_code == 503
            assert (await lonely.get("/livez")).status_code == 200
