"""Where a command came from: the line of the application, with every driver and every way to call it."""

from __future__ import annotations

import asyncio
import contextvars
import json
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest
from beanie import Document, init_beanie
from motor import motor_asyncio
from motor.motor_asyncio import AsyncIOMotorClient
from pymongo import AsyncMongoClient, InsertOne, MongoClient

from mongopatterns import AsyncCounter, Counter, CounterSpec
from mongopatterns.errors import RepeatedCommands
from mongopatterns.testing import CommandWatcher, n_plus_one_guard, race, race_threads
from mongopatterns.testing import _call_sites as call_sites
from mongopatterns.testing import _guard as implementation
from mongopatterns.testing._call_sites import _DEPTH, UNKNOWN, CallSites, readable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from mongopatterns.testing import EmbeddedMongo
    from mongopatterns.testing._guard import CommandGuard


@pytest.fixture
def client(mongopatterns_server: EmbeddedMongo) -> Iterator[MongoClient[dict[str, Any]]]:
    """Provide a synchronous client that is watched."""
    with MongoClient[dict[str, Any]](mongopatterns_server.uri, event_listeners=[CommandWatcher()]) as client:
        yield client


@pytest.fixture
def users(client: MongoClient[dict[str, Any]], mongopatterns_db_name: str) -> Any:
    return client[mongopatterns_db_name]["users"]


@pytest.fixture(params=["pymongo", "motor"])
async def aclient(mongopatterns_server: EmbeddedMongo, request: pytest.FixtureRequest) -> AsyncIterator[Any]:
    """Provide an asynchronous client that is watched, of either driver."""
    if request.param == "pymongo":
        async with AsyncMongoClient[dict[str, Any]](
            mongopatterns_server.uri, event_listeners=[CommandWatcher()]
        ) as client:
            yield client
    else:
        motor: Any = AsyncIOMotorClient(mongopatterns_server.uri, event_listeners=[CommandWatcher()])
        yield motor
        motor.close()


@pytest.fixture
def ausers(aclient: Any, mongopatterns_db_name: str) -> Any:
    return aclient[mongopatterns_db_name]["users"]


def place(function: Callable[..., Any], after: int) -> str:
    """Tell what the line so many lines after the head of a function is called."""
    code = function.__code__
    return f"{code.co_filename}:{code.co_firstlineno + after} in {code.co_name}"


def sites(guard: CommandGuard) -> dict[str, int]:
    """Return the places of the one shape that there is."""
    (found,) = guard.sites.values()
    return found


# The applications: each place is named by its line ------------------------------------------------------------


def look_up(users: Any, i: int) -> Any:
    return users.find_one({"_id": i})


def one_by_one(users: Any, count: int) -> list[Any]:
    return [look_up(users, i) for i in range(count)]


async def look_up_async(users: Any, i: int) -> Any:
    return await users.find_one({"_id": i})


async def one_by_one_async(users: Any, count: int) -> None:
    for i in range(count):
        await look_up_async(users, i)


async def read_all(users: Any) -> list[Any]:
    found = await users.find({"_id": {"$gt": 0}}).to_list(None)
    found += [user async for user in users.find({"_id": {"$gt": 0}})]
    async for user in users.find({"_id": {"$gt": 0}}):
        found.append(user)
    return found


async def together(users: Any) -> None:
    await asyncio.gather(*(users.find_one({"_id": i}) for i in range(4)))


async def in_a_task(users: Any) -> None:
    async def passed_on(coroutine: Any) -> Any:
        return await coroutine

    await asyncio.create_task(passed_on(look_up_async(users, 1)))


async def with_a_timeout(users: Any) -> None:
    await asyncio.wait_for(users.find_one({"_id": 1}), 10)


# ------------------------------------------------------------------------------------------- what is found


def test_the_error_names_the_innermost_line_of_the_application(client: Any, users: Any) -> None:
    """The message and the data of the error name the function that calls the driver, not who calls that."""
    with pytest.raises(RepeatedCommands) as caught, n_plus_one_guard(client, repeats=3):
        one_by_one(users, 5)
    (found,) = caught.value.sites.values()
    assert found == {place(look_up, 1): 5}
    assert list(caught.value.sites) == list(caught.value.counts)
    assert f"    5 from {readable(place(look_up, 1))}\n" in str(caught.value)


async def test_the_error_names_the_innermost_line_of_an_asynchronous_application(aclient: Any, ausers: Any) -> None:
    """The coroutine that awaits the driver is named, on PyMongo's client and on Motor's."""
    with pytest.raises(RepeatedCommands) as caught, n_plus_one_guard(aclient, repeats=3):
        await one_by_one_async(ausers, 5)
    (found,) = caught.value.sites.values()
    assert found == {place(look_up_async, 1): 5}


def test_only_what_offends_is_listed(client: Any, users: Any) -> None:
    """An error has the places of the shapes that were sent too often, and of no others."""

    def block() -> None:
        users.insert_one({})
        one_by_one(users, 3)

    with pytest.raises(RepeatedCommands) as caught, n_plus_one_guard(client, repeats=2) as guard:
        block()
    assert len(guard.sites) == 2
    assert list(caught.value.sites) == list(caught.value.counts)
    assert "insert" not in str(caught.value)


def test_a_comprehension_is_named_by_its_function(client: Any, users: Any) -> None:
    """The line is that of the comprehension, and the function the one that it stands in, if there is one."""

    def read() -> Any:
        return {i: next(user for user in [users.find_one({"_id": i})]) for i in range(4)}

    with n_plus_one_guard(client, repeats=10) as guard:
        read()
    assert sites(guard) == {place(read, 1): 4}
    # What makes the rows may be a generator that another file reads.
    with n_plus_one_guard(client, repeats=10) as guard:
        json.dumps(dict(zip("ab", (users.find_one({"_id": i}) for i in range(2)), strict=True)))
    (site,) = sites(guard)
    assert site.endswith(" in test_a_comprehension_is_named_by_its_function")
    with n_plus_one_guard(client, repeats=10) as guard:
        rows = (users.find_one({"_id": i}) for i in range(2))
        thread = threading.Thread(target=contextvars.copy_context().run, args=(list, rows))
        thread.start()
        thread.join()
    (site,) = sites(guard)
    assert site.endswith(" in a comprehension")


async def test_every_way_to_read_a_cursor(aclient: Any, ausers: Any) -> None:
    """A query is placed where its cursor is first read, however it is read."""
    with n_plus_one_guard(aclient) as guard:
        await read_all(ausers)
    assert sites(guard) == {place(read_all, line): 1 for line in (1, 2, 3)}


async def test_coroutines_that_are_handed_over(aclient: Any, ausers: Any) -> None:
    """A call that runs in a task of its own is placed where it was made: only the driver is on the task's stack."""
    with n_plus_one_guard(aclient, repeats=100) as guard:
        await together(ausers)
        assert sites(guard) == {place(together, 1): 4}
    with guard:
        await in_a_task(ausers)
        assert sites(guard) == {place(look_up_async, 1): 1}
    with guard:
        await with_a_timeout(ausers)
        assert sites(guard) == {place(with_a_timeout, 1): 1}


async def test_tasks_at_the_same_time_keep_their_places(aclient: Any, ausers: Any) -> None:
    """Each of many tasks that take turns is placed where it stands itself."""

    async def other(i: int) -> Any:
        return await ausers.find_one({"_id": i})

    with n_plus_one_guard(aclient, repeats=100) as guard:
        await asyncio.gather(*(look_up_async(ausers, i) for i in range(20)), *(other(i) for i in range(30)))
    assert list(sites(guard).items()) == [(place(other, 1), 30), (place(look_up_async, 1), 20)]


async def test_through_this_package(aclient: Any, client: Any, mongopatterns_db_name: str) -> None:
    """A command of a primitive is placed where the application calls the primitive."""
    spec = CounterSpec("counters", path="n")

    async def count() -> None:
        await AsyncCounter(aclient[mongopatterns_db_name], spec).add("a")

    def count_sync() -> None:
        Counter(client[mongopatterns_db_name], spec).add("a")

    with n_plus_one_guard(aclient) as guard:
        await count()
    assert sites(guard) == {place(count, 1): 1}
    with n_plus_one_guard(client) as guard:
        count_sync()
    assert sites(guard) == {place(count_sync, 1): 1}


async def test_through_an_odm(mongopatterns_server: EmbeddedMongo, mongopatterns_db_name: str) -> None:
    """A command of an ODM is placed where the application calls the ODM."""

    class Person(Document):
        name: str

        class Settings:
            name = "people"

    async def rename(person: Person) -> None:
        await person.set({"name": "b"})

    async with AsyncMongoClient[dict[str, Any]](mongopatterns_server.uri, event_listeners=[CommandWatcher()]) as client:
        await init_beanie(database=client[mongopatterns_db_name], document_models=[Person])
        person = await Person(name="a").insert()
        with n_plus_one_guard(client) as guard:
            await rename(person)
    assert sites(guard) == {place(rename, 1): 1}


async def test_races(aclient: Any, ausers: Any, client: Any, users: Any) -> None:
    """Tasks and threads of a race have the place of what they call."""
    with n_plus_one_guard(aclient, repeats=100) as guard:
        await race(lambda i: look_up_async(ausers, i), times=10)
    assert sites(guard) == {place(look_up_async, 1): 10}
    with n_plus_one_guard(client, repeats=100) as guard:
        race_threads(lambda i: look_up(users, i), times=10).raise_errors()
    assert sites(guard) == {place(look_up, 1): 10}


async def test_synchronous_code_in_threads_of_a_loop(client: Any, users: Any) -> None:
    """A function in a worker thread is found on the stack of that thread."""
    with n_plus_one_guard(client) as guard:
        await asyncio.to_thread(look_up, users, 1)
    assert sites(guard) == {place(look_up, 1): 1}


def test_a_write_in_several_commands(client: Any, users: Any) -> None:
    """A bulk is one command of each shape, with the one place."""

    def write() -> None:
        users.bulk_write([InsertOne({}), InsertOne({})])

    with n_plus_one_guard(client) as guard:
        write()
    assert sites(guard) == {place(write, 1): 1}


# --------------------------------------------------------------------------------------- what is not found


async def test_what_cannot_be_known_is_unknown(client: Any, users: Any) -> None:
    """A method of the driver that is itself what a thread runs has no line of the application: none is made up."""
    with n_plus_one_guard(client) as guard:
        await asyncio.to_thread(users.find_one, {"_id": 1})
    assert sites(guard) == {UNKNOWN: 1}


async def test_a_callback_of_the_loop_is_not_placed_where_the_loop_was_started(client: Any, users: Any) -> None:
    """What the loop itself calls is unknown: whoever started the loop did not send the command."""
    done = asyncio.Event()

    def call() -> None:
        done.set()

    with n_plus_one_guard(client) as guard:
        loop = asyncio.get_running_loop()
        loop.call_soon(users.find_one, {"_id": 1})
        loop.call_soon(call)
        await done.wait()
    assert sites(guard) == {UNKNOWN: 1}


async def test_a_loop_in_another_thread(mongopatterns_server: EmbeddedMongo, mongopatterns_db_name: str) -> None:
    """A loop in another thread is counted, with a copy of the context: coroutines of PyMongo are placed there."""
    here: Any = AsyncIOMotorClient(mongopatterns_server.uri, event_listeners=[CommandWatcher()])
    motor: Any = AsyncIOMotorClient(mongopatterns_server.uri, event_listeners=[CommandWatcher()])
    pymongo: Any = AsyncMongoClient(mongopatterns_server.uri, event_listeners=[CommandWatcher()])

    async def elsewhere() -> None:
        for client in (motor, pymongo):
            await look_up_async(client[mongopatterns_db_name]["users"], 1)
        await together(pymongo[mongopatterns_db_name]["users"])
        await pymongo.close()

    with n_plus_one_guard(here) as guard, n_plus_one_guard(motor) as motors, n_plus_one_guard(pymongo, 9) as pymongos:
        await look_up_async(here[mongopatterns_db_name]["users"], 1)
        thread = threading.Thread(target=contextvars.copy_context().run, args=(asyncio.run, elsewhere()))
        thread.start()
        await asyncio.to_thread(thread.join)
    here.close()
    motor.close()
    assert sites(guard) == {place(look_up_async, 1): 1}
    assert sites(pymongos) == {place(look_up_async, 1): 1, UNKNOWN: 4}
    assert sites(motors) == {UNKNOWN: 1}  # (and not the place of the call before it, in this thread)


@pytest.mark.parametrize(
    ("module", "name", "is_known"),
    [
        ("motor.frameworks.asyncio", "run_on_executor", True),
        ("motor.frameworks.asyncio", "get_event_loop", False),
        ("motorway.frameworks", "run_on_executor", False),
    ],
)
def test_a_place_is_known_while_motor_hands_a_call_over(module: str, name: str, is_known: bool) -> None:
    """It comes when that function of Motor's is called and goes when it returns; what else is called leaves none."""
    space: dict[str, Any] = {"__name__": module}
    source = f"import sys\ndef {name}(see):\n    return see(sys._getframe())"
    exec(compile(source, motor_asyncio.__file__, "exec"), space)

    def see(frame: Any) -> list[str]:
        places = []
        for event in ("c_call", "call", "c_return", "return"):  # (in the way of Python with a function that profiles)
            call_sites._on_call(frame, event, None)
            places.append(call_sites._handed_over.get())
        return places

    def application() -> Any:
        return space[name](see)

    found = contextvars.copy_context().run(application)
    known = place(application, 1) if is_known else UNKNOWN
    assert found == [UNKNOWN, known, known, UNKNOWN]


async def test_a_profiler_keeps_its_place(mongopatterns_server: EmbeddedMongo, mongopatterns_db_name: str) -> None:
    """Where a profiler runs, Motor's places are unknown, and the profiler goes on."""
    motor: Any = AsyncIOMotorClient(mongopatterns_server.uri, event_listeners=[CommandWatcher()])

    def profiler(_frame: Any, _event: str, _argument: Any) -> None:
        pass

    before = sys.getprofile()
    sys.setprofile(profiler)
    try:
        with n_plus_one_guard(motor) as guard:
            await look_up_async(motor[mongopatterns_db_name]["users"], 1)
        assert sys.getprofile() is profiler
    finally:
        sys.setprofile(before)
    motor.close()
    assert sites(guard) == {UNKNOWN: 1}


# ---------------------------------------------------------------------------------------- bounds and cost


def test_the_number_of_places_is_bounded(client: Any, users: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A shape keeps a bounded number of places and counts the rest together; the message shows a few."""
    monkeypatch.setattr(implementation, "_MAX_SITES", 5)

    def block() -> None:
        for line in (*range(9), 0):
            exec(compile("\n" * line + "users.find_one({})", "generated.py", "exec"), {"users": users})

    with pytest.raises(RepeatedCommands) as caught, n_plus_one_guard(client, repeats=3):
        block()
    (found,) = caught.value.sites.values()
    assert found == {
        "elsewhere": 4, "generated.py:1 in <module>": 2, **{f"generated.py:{i} in <module>": 1 for i in range(2, 6)},
    }  # fmt: skip
    message = str(caught.value)
    assert "4 from elsewhere" in message
    assert "2 from generated.py:1 in <module>" in message
    assert "... and from 3 more places" in message
    assert "generated.py:5" not in message


@pytest.mark.parametrize("nested", [False, True])
async def test_a_thread_is_left_as_it_was(aclient: Any, nested: bool) -> None:
    """Outside a guard nothing is remembered or watched, however the guards were left."""
    before = (sys.get_coroutine_origin_tracking_depth(), sys.getprofile())
    outer, inner = n_plus_one_guard(aclient), n_plus_one_guard(aclient)
    outer.__enter__()
    if nested:
        inner.__enter__()
    assert sys.get_coroutine_origin_tracking_depth() >= _DEPTH
    outer.__exit__(None, None, None)
    if nested:
        assert sys.get_coroutine_origin_tracking_depth() >= _DEPTH
        inner.__exit__(None, None, None)
    assert (sys.get_coroutine_origin_tracking_depth(), sys.getprofile()) == before


def test_another_thread_cannot_close(client: Any) -> None:
    """A guard that is left in another thread ends there; the thread that entered it is not touched from outside."""
    depth = sys.get_coroutine_origin_tracking_depth()
    sites_of_client = CallSites(client)
    thread = threading.Thread(target=sites_of_client.close)
    thread.start()
    thread.join()
    assert sys.get_coroutine_origin_tracking_depth() >= _DEPTH
    sites_of_client.close()
    assert sys.get_coroutine_origin_tracking_depth() == depth


def test_a_path_is_shown_from_the_working_directory(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file below the working directory is shown by its relative path, any other one as it is."""
    monkeypatch.chdir(tmp_path)
    assert readable(f"{tmp_path.resolve()}/app/a.py:1 in f") == "app/a.py:1 in f"
    assert readable("/elsewhere/a.py:1 in f") == "/elsewhere/a.py:1 in f"
