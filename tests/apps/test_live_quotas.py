"""The application `examples/live_quotas`, over HTTP and on the real server."""

from __future__ import annotations

import asyncio
import datetime as dt
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import httpx
import pytest
import pytest_asyncio

from examples.live_quotas import specs
from examples.live_quotas.main import app
from mongopatterns import Quota, Schema

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from mongopatterns.testing import EmbeddedMongo

# The calendar in which the application counts.
TODAY = dt.datetime.now(specs.ZONE).date()
DAYS = {"first": str(TODAY - dt.timedelta(days=6)), "last": str(TODAY + dt.timedelta(days=1))}


@pytest.fixture(autouse=True)
def environment(monkeypatch: Any, mongopatterns_server: EmbeddedMongo, mongopatterns_db_name: str) -> None:
    monkeypatch.setenv("MONGODB_URI", mongopatterns_server.uri)
    monkeypatch.setenv("MONGODB_DATABASE", mongopatterns_db_name)


@asynccontextmanager
async def started() -> AsyncIterator[httpx.AsyncClient]:
    """Start the application, as a server does: what its lifespan yields is the state of each request."""
    async with app.router.lifespan_context(app) as state:

        async def with_state(scope: Any, receive: Any, send: Any) -> None:
            await app({**scope, "state": dict(state)}, receive, send)

        async with httpx.AsyncClient(transport=httpx.ASGITransport(with_state), base_url="http://test") as http:
            yield http


@pytest_asyncio.fixture(loop_scope="session")
async def http(environment: None) -> AsyncIterator[httpx.AsyncClient]:
    async with started() as client:
        yield client


async def post(http: httpx.AsyncClient, path: str, **body: Any) -> httpx.Response:
    return await http.post(path, json=body)


async def put_ann(http: Any, *, subtitle: int = 60, dubbing: int = 30) -> httpx.Response:
    """Store a user with limits for the month: an hour or a day that ends meanwhile changes nothing."""
    limits = {
        kind: {"hour": 9999, "day": 9999, "month": n} for kind, n in (("subtitle", subtitle), ("dubbing", dubbing))
    }
    return await http.put("/users/ann", json={"name": "Ann", "limits": limits})


async def quota(http: Any, kind: str = "subtitle") -> dict[str, Any]:
    return (await http.get("/users/ann/quota")).json()[kind]


async def test_a_burst_admits_exactly_the_limit_and_refuses_nobody_who_fits(http: Any, mongopatterns_db: Any) -> None:
    """Of 40 concurrent requests for 3 minutes each with 60 in the month, 20 are granted, and 60 minutes are stored."""
    await put_ann(http)

    answers = await asyncio.gather(*(post(http, "/users/ann/subtitles", minutes=3) for _ in range(40)))

    assert sorted(answer.status_code for answer in answers) == [200] * 20 + [429] * 20
    left = {answer.json()["remaining"]["month"] for answer in answers if answer.status_code == 200}
    assert left == set(range(0, 60, 3))  # each was told a standing of its own
    assert mongopatterns_db.users.find_one({"_id": "ann"})["quota"]["subtitle"]["month"]["used"] == 60


async def test_a_burst_with_ids_admits_each_id_once(http: Any) -> None:
    """Of 30 concurrent requests with 10 ids, three each, 10 are counted and 20 are told to be repeats."""
    await put_ann(http)

    answers = await asyncio.gather(
        *(post(http, "/users/ann/subtitles", minutes=6, id=f"part-{n % 10}") for n in range(30))
    )

    assert {answer.status_code for answer in answers} == {200}
    assert sum(answer.json()["repeated"] for answer in answers) == 20
    assert (await quota(http))["used"]["month"] == 60


async def test_a_refusal_tells_when_to_come_back(http: Any) -> None:
    """A 429 carries Retry-After and the limits, charges nothing, and names the window without room."""
    await put_ann(http, subtitle=10)
    granted = await post(http, "/users/ann/subtitles", minutes=8)

    refused = await post(http, "/users/ann/subtitles", minutes=2.5)

    assert '"month";r=2;' in granted.headers["RateLimit"]
    assert "Retry-After" not in granted.headers
    assert refused.status_code == 429
    assert 0 < int(refused.headers["Retry-After"]) <= 31 * 86_400
    assert '"month";q=10' in refused.headers["RateLimit-Policy"]
    assert refused.json()["limited_by"] == "month"
    assert (await quota(http))["used"]["month"] == 8


async def test_what_can_never_fit_has_no_time_to_come_back(http: Any) -> None:
    """A 429 for more than the month ever has carries no Retry-After."""
    await put_ann(http)

    refused = await post(http, "/users/ann/subtitles", minutes=61)

    assert refused.status_code == 429
    assert "Retry-After" not in refused.headers


async def test_a_limit_that_changes_counts_with_the_next_call(http: Any) -> None:
    """Limits are those of the user's document at the time of the call; what was used stays."""
    await put_ann(http)
    await post(http, "/users/ann/subtitles", minutes=50)

    changed = await put_ann(http, subtitle=40)

    assert changed.json() == {"created": False}
    assert (await post(http, "/users/ann/subtitles", minutes=1)).status_code == 429
    assert (await quota(http))["used"]["month"] == 50


async def test_unused_minutes_are_saved_up_to_the_cap(http: Any, mongopatterns_db: Any) -> None:
    """Hours that nobody used are in the bank, two hours of them at most, and can be taken at once."""
    await http.put("/users/ann", json={"name": "Ann"})
    before = dt.datetime.now(dt.timezone.utc) - dt.timedelta(hours=6)
    Quota(mongopatterns_db, specs.SUBTITLES).consume("ann", 10, now=before)

    hour = {name: value["hour"] for name, value in (await quota(http)).items() if name in {"banked", "remaining"}}

    assert hour == {"banked": 120, "remaining": 180}
    assert (await post(http, "/users/ann/subtitles", minutes=180)).json()["remaining"]["hour"] == 0


async def test_offline_minutes_are_counted_whether_or_not_there_is_room(http: Any) -> None:
    """What has happened is never refused: the answer names the windows that are past their limit; a repeat is none."""
    await put_ann(http)

    first = await post(http, "/users/ann/subtitles/offline", minutes=75.5, id="tablet-1")
    again = await post(http, "/users/ann/subtitles/offline", minutes=75.5, id="tablet-1")

    assert first.json()["exceeded"] == ["month"]
    assert (again.json()["repeated"], again.json()["used"]["month"]) == (True, 75.5)


async def test_a_job_is_charged_what_it_took_and_once(http: Any) -> None:
    """What is held counts until the job is done; then what it took does, however often that is told."""
    await put_ann(http)
    accepted = await post(http, "/users/ann/dubbing", minutes=20)
    too_many = await post(http, "/users/ann/dubbing", minutes=20)
    job = accepted.json()["job"]

    done = [(await post(http, f"/dubbing/{job}/done", minutes=12.5)).json() for _ in range(2)]

    assert (accepted.status_code, too_many.status_code) == (202, 429)
    assert '"month";r=10;' in accepted.headers["RateLimit"]
    assert [told["outcome"] for told in done] == ["settled", "already"]
    dubbing = await quota(http, "dubbing")
    assert (dubbing["used"]["month"], dubbing["held"]) == (12.5, 0)


async def test_a_job_that_is_cancelled_costs_nothing(http: Any) -> None:
    """What was held is free again, and a second cancel finds nothing to release."""
    await put_ann(http)
    job = (await post(http, "/users/ann/dubbing", minutes=30)).json()["job"]

    released = [(await http.delete(f"/dubbing/{job}")).json()["released"] for _ in range(2)]

    assert released == [True, False]
    assert (await quota(http, "dubbing"))["remaining"]["month"] == 30


async def test_a_job_that_cannot_be_noted_holds_nothing(http: Any, mongopatterns_server: EmbeddedMongo) -> None:
    """If the job is not stored, the minutes that were held for it are free again at once."""
    await put_ann(http)
    data = {"failCommands": ["insert"], "errorCode": 50, "appName": "live_quotas"}
    with mongopatterns_server.fail_point("failCommand", mode={"times": 1}, data=data):
        failed = await post(http, "/users/ann/dubbing", minutes=20)

    assert failed.status_code == 503
    assert (await quota(http, "dubbing"))["held"] == 0


async def test_jobs_of_one_moment_hold_no_more_than_there_is(http: Any, mongopatterns_db: Any) -> None:
    """Of 12 concurrent jobs of 6 minutes with 30 in the month, 5 are accepted, and only those are noted."""
    await put_ann(http)

    answers = await asyncio.gather(*(post(http, "/users/ann/dubbing", minutes=6) for _ in range(12)))

    assert sorted(answer.status_code for answer in answers) == [202] * 5 + [429] * 7
    assert mongopatterns_db.jobs.count_documents({"user": "ann"}) == 5


async def test_updates_of_several_devices_add_up_when_the_application_has_ended(mongopatterns_db: Any) -> None:
    """What was accepted is stored when the lifespan is over: each line once, by session and by device, merged."""
    async with started() as http:
        await http.put("/users/ann", json={"name": "Ann"})
        session = (await http.post("/users/ann/sessions")).json()["session"]
        answers = await asyncio.gather(
            *(
                post(http, f"/sessions/{session}/progress", device=device, seconds=n, lines=2)
                for n in range(1, 41)
                for device in ("phone", "laptop", "stage left")
            )
        )
        assert {answer.status_code for answer in answers} == {202}

    stored = mongopatterns_db.sessions.find_one({"_id": session})
    assert (stored["seconds"], stored["lines"]) == (3 * 820, 240)
    assert stored["devices"] == {"phone": 820, "laptop": 820, "stage left": 820}
    assert stored["user"] == "ann"
    assert stored["seen_at"] >= stored["started_at"]
    assert mongopatterns_db.dead_letters.count_documents({}) == 0


async def test_progress_that_is_refused_is_kept_as_a_dead_letter(mongopatterns_db: Any) -> None:
    """Progress of a session that nobody began makes no session, and neither it nor what came with it is lost."""
    async with started() as http:
        await http.put("/users/ann", json={"name": "Ann"})
        session = (await http.post("/users/ann/sessions")).json()["session"]
        await post(http, "/sessions/nobody/progress", device="phone", seconds=5)
        await post(http, f"/sessions/{session}/progress", device="phone", seconds=7)

    assert [letter["key"] for letter in mongopatterns_db.dead_letters.find()] == ["nobody"]
    assert [(found["_id"], found["seconds"]) for found in mongopatterns_db.sessions.find()] == [(session, 7)]


async def test_a_ninth_device_is_refused_and_the_others_count_on(mongopatterns_db: Any) -> None:
    """A document does not grow with the names that clients think of: the validator stops at eight."""
    async with started() as http:
        await http.put("/users/ann", json={"name": "Ann"})
        session = (await http.post("/users/ann/sessions")).json()["session"]
        for n in range(9):
            await post(http, f"/sessions/{session}/progress", device=f"device {n}", seconds=1)
        await post(http, f"/sessions/{session}/progress", device="device 0", seconds=1)

    stored = mongopatterns_db.sessions.find_one({"_id": session})
    assert (len(stored["devices"]), stored["seconds"]) == (8, 9)
    assert mongopatterns_db.dead_letters.count_documents({"key": session}) == 1


async def test_the_report_tells_what_was_sent(mongopatterns_db: Any) -> None:
    """Totals, users and days have the minutes and sessions that were sent, and add up to each other."""
    sent = {"ann": [600, 300, 90], "bob": [1200], "cleo": [60, 60]}
    async with started() as http:
        for user, sessions in sent.items():
            await http.put(f"/users/{user}", json={"name": user.title()})
            for seconds in sessions:
                session = (await http.post(f"/users/{user}/sessions")).json()["session"]
                for part in (seconds // 3, seconds - seconds // 3):
                    await post(http, f"/sessions/{session}/progress", device="phone", seconds=part, lines=1)

    async with started() as http:
        told = (await http.get("/usage", params=DAYS)).json()
        of_cleo = (await http.get("/usage", params={**DAYS, "user": "cleo"})).json()

    assert told["totals"] == {"sessions": 6, "users": 3, "minutes": 38.5, "lines": 12}
    assert told["top_users"] == [
        {"key": "bob", "minutes": 20.0, "sessions": 1, "user": {"name": "Bob"}},
        {"key": "ann", "minutes": 16.5, "sessions": 3, "user": {"name": "Ann"}},
        {"key": "cleo", "minutes": 2.0, "sessions": 2, "user": {"name": "Cleo"}},
    ]
    assert len(told["per_day"]) == 8  # those on which nothing happened, too
    assert sum(day["sessions"] for day in told["per_day"]) == 6
    assert sum(day["minutes"] for day in told["per_day"]) == 38.5
    assert of_cleo["totals"] == {"sessions": 2, "users": 1, "minutes": 2.0, "lines": 4}


async def test_the_start_brings_the_database_to_its_schema(http: Any, mongopatterns_db: Any) -> None:
    """Indexes, expiry, validators and the bound of dead letters are there when the first request is taken."""
    sessions = mongopatterns_db.sessions.index_information()
    expiry = {
        tuple(index["key"]): index["expireAfterSeconds"]
        for collection in ("sessions", "jobs")
        for index in mongopatterns_db[collection].index_information().values()
        if "expireAfterSeconds" in index
    }
    options = {name: mongopatterns_db[name].options() for name in ("users", "sessions", "jobs", "dead_letters")}

    assert [("user", 1), ("started_at", 1)] in [list(index["key"]) for index in sessions.values()]
    assert expiry == {(("started_at", 1),): 400 * 86_400, (("expires_at", 1),): 7 * 86_400}
    assert options["users"]["validationLevel"] == "moderate"
    assert all("validator" in options[name] for name in ("users", "sessions", "jobs"))
    assert options["dead_letters"]["capped"] is True
    assert not Schema(mongopatterns_db, specs.SCHEMA).verify()


async def test_starting_again_and_at_the_same_time_changes_nothing(mongopatterns_db: Any) -> None:
    """Two processes that start together both succeed, and a later start finds nothing to change."""
    async with started(), started():
        pass
    before = {name: mongopatterns_db[name].index_information() for name in mongopatterns_db.list_collection_names()}

    async with started() as http:
        assert (await http.get("/readyz")).status_code == 200

    after = {name: mongopatterns_db[name].index_information() for name in mongopatterns_db.list_collection_names()}
    assert before == after
    assert not Schema(mongopatterns_db, specs.SCHEMA).plan()


BAD = [
    ("/users/ann/subtitles", '{"minutes": 0}'),
    ("/users/ann/subtitles", '{"minutes": -1}'),
    ("/users/ann/subtitles", '{"minutes": 1441}'),
    ("/users/ann/subtitles", '{"minutes": 0.001}'),
    ("/users/ann/subtitles", '{"minutes": NaN}'),
    ("/users/ann/subtitles", '{"minutes": 1e999}'),
    ("/users/ann/subtitles", '{"minutes": {"$gt": 0}}'),
    ("/users/ann/subtitles", '{"minutes": 1, "id": {"$ne": null}}'),
    ("/users/ann/subtitles", '{"minutes": 1, "id": ""}'),
    ("/users/ann/subtitles", '{"minutes": 1'),
    (f"/users/{'x' * 65}/subtitles", '{"minutes": 1}'),
    ("/users/ann/dubbing", '{"minutes": "many"}'),
    ("/users/ann/dubbing", "{}"),
    ("/sessions/s1/progress", '{"device": "$inc", "seconds": 1}'),
    ("/sessions/s1/progress", '{"device": "a.b", "seconds": 1}'),
    ("/sessions/s1/progress", '{"device": "\\ud800", "seconds": 1}'),
    ("/sessions/s1/progress", '{"device": "phone", "seconds": 1.5}'),
]


async def test_bad_input_is_refused_before_anything_is_stored(mongopatterns_db: Any) -> None:
    """What is no amount, no id or no name is a 422 that says where, and nothing comes of it."""
    async with started() as http:
        await http.put("/users/ann", json={"name": "Ann"})
        answers = [
            (body, await http.post(path, content=body, headers={"content-type": "application/json"}))
            for path, body in BAD
        ]

    assert [body for body, answer in answers if answer.status_code != 422 or not answer.json()["error"]] == []
    assert "quota" not in mongopatterns_db.users.find_one({"_id": "ann"})
    for name in ("jobs", "sessions", "dead_letters"):
        assert mongopatterns_db[name].count_documents({}) == 0


async def test_a_period_without_a_sensible_end_is_refused(http: Any) -> None:
    """A report is asked for days of at most a year, in their order."""
    periods = [
        ("2026-03-02", "2026-03-01"),
        ("2026-03-01", "2027-03-02"),
        ("yesterday", "2026-03-01"),
        ("0001-01-01", "0001-01-02"),
        ("9999-12-30", "9999-12-31"),
    ]
    answers = [(await http.get("/usage", params={"first": first, "last": last})) for first, last in periods]

    assert [answer.status_code for answer in answers] == [422] * len(periods)
    assert (await http.get("/usage", params={"first": "2026-03-01", "last": "2027-03-01"})).status_code == 200


async def test_text_that_looks_like_an_operator_is_data(http: Any, mongopatterns_db: Any) -> None:
    """A user, an id and a name of such text are stored as they are, and find that user and no other."""
    await http.put("/users/ann", json={"name": "Ann"})
    await http.post("/users/ann/sessions")
    for text in ("$where", '{"$ne": null}', "a.b", "$$ROOT", "ünï 👍"):
        path = f"/users/{quote(text)}"
        await http.put(path, json={"name": text})

        counted = await post(http, f"{path}/subtitles", minutes=1, id=text)
        again = await post(http, f"{path}/subtitles", minutes=1, id=text)
        told = (await http.get("/usage", params={**DAYS, "user": text})).json()

        assert (counted.status_code, again.json()["repeated"], again.json()["used"]["month"]) == (200, True, 1)
        assert mongopatterns_db.users.find_one({"_id": text})["name"] == text
        assert told["totals"]["sessions"] == 0
    assert "quota" not in mongopatterns_db.users.find_one({"_id": "ann"})
    assert (await http.get("/usage", params={**DAYS, "user": "ann"})).json()["totals"]["sessions"] == 1


async def test_who_is_not_there_is_not_found_and_does_not_appear(http: Any, mongopatterns_db: Any) -> None:
    """An unknown user or job is a 404 on every path, and makes no document."""
    answers = [
        await http.get("/users/nobody/quota"),
        await post(http, "/users/nobody/subtitles", minutes=1),
        await post(http, "/users/nobody/subtitles/offline", minutes=1),
        await post(http, "/users/nobody/dubbing", minutes=1),
        await http.post("/users/nobody/sessions"),
        await post(http, "/dubbing/nothing/done", minutes=1),
        await http.delete("/dubbing/nothing"),
    ]

    assert [answer.status_code for answer in answers] == [404] * 7
    assert {answer.json()["error"] for answer in answers} == {"not among the users", "not among the jobs"}
    for name in ("users", "sessions", "jobs"):
        assert mongopatterns_db[name].count_documents({}) == 0


async def test_a_lost_answer_is_told_and_a_repeat_counts_once(
    http: Any, mongopatterns_server: EmbeddedMongo, mongopatterns_db: Any
) -> None:
    """A write whose majority did not come in time is a 503 that says so; with the same id it is counted once."""
    await http.put("/users/ann", json={"name": "Ann"})
    late = {
        "failCommands": ["findAndModify"],
        "writeConcernError": {"code": 64, "errmsg": "waiting for replication timed out"},
        "appName": "live_quotas",
    }
    with mongopatterns_server.fail_point("failCommand", mode={"times": 1}, data=late):
        unknown = await post(http, "/users/ann/subtitles", minutes=5, id="part-1")
    again = await post(http, "/users/ann/subtitles", minutes=5, id="part-1")

    assert (unknown.status_code, unknown.json()["may_have_applied"]) == (503, True)
    assert (again.json()["repeated"], again.json()["used"]["month"]) == (True, 5)


async def test_the_probes_tell_whether_the_service_can_work(http: Any, mongopatterns_server: EmbeddedMongo) -> None:
    """While the server does not answer in time, the process is alive and not ready, and says why."""
    assert (await http.get("/livez")).json()["state"] == "alive"
    assert (await http.get("/readyz")).json()["state"] == "ready"

    slow = {"failCommands": ["ping"], "blockConnection": True, "blockTimeMS": 1500, "appName": "live_quotas"}
    with mongopatterns_server.fail_point("failCommand", mode={"times": 1}, data=slow):
        answer = await http.get("/readyz")
        alive = await http.get("/livez")

    assert (answer.status_code, answer.json()["state"]) == (503, "timed_out")
    assert alive.status_code == 200
