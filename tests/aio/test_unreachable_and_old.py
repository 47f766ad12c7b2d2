"""A server that is not there, and one that is too old: one clear error each, in time."""

from __future__ import annotations

import gc
import socket
import socketserver
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import bson
import pytest
from pymongo.errors import ConnectionFailure, OperationFailure

from mongopatterns import AsyncCounter, AsyncQuota, CounterSpec, DeploymentError, QuotaSpec, Window, may_have_applied
from mongopatterns._driver_async import pause, settle

HITS = CounterSpec("counters", path="n")
QUOTA = QuotaSpec("quotas", path="q", windows=[Window.hour(5)])
HEADER = struct.Struct("<iiii")


# PyMongo's asynchronous monitor leaves a socket to the collector when it is closed while it tries to connect.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")


@pytest.fixture(autouse=True)
def collected() -> Iterator[None]:
    yield
    gc.collect()


class OldServer(socketserver.BaseRequestHandler):
    """Answer as MongoDB 4.4 does: it introduces itself with its wire version, and knows no `let`."""

    def handle(self) -> None:
        while header := self.request.recv(HEADER.size, socket.MSG_WAITALL):
            length, request_id, _, operation = HEADER.unpack(header)
            body = self.request.recv(length - HEADER.size, socket.MSG_WAITALL)
            if operation == 2004:  # OP_QUERY, which opens every connection
                name = "ismaster"
            else:
                name = next(iter(bson.decode(body[5 : 5 + struct.unpack_from("<i", body, 5)[0]])))
            reply = bson.encode(self.answer(name))
            if operation == 2004:
                payload, kind = struct.pack("<iqii", 0, 0, 0, 1) + reply, 1
            else:
                payload, kind = struct.pack("<IB", 0, 0) + reply, 2013
            self.request.sendall(HEADER.pack(HEADER.size + len(payload), 0, request_id, kind) + payload)

    def answer(self, name: str) -> dict[str, Any]:
        if name in ("ismaster", "isMaster", "hello"):
            limits = {"maxBsonObjectSize": 16 << 20, "maxMessageSizeBytes": 48 << 20, "maxWriteBatchSize": 100_000}
            return {"ok": 1, "ismaster": True, "helloOk": True, "minWireVersion": 0, "maxWireVersion": 9, **limits}
        if name in ("findAndModify", "aggregate"):
            return {
                "ok": 0,
                "code": 40415,
                "codeName": "Location40415",
                "errmsg": "BSON field 'let' is an unknown field.",
            }
        return {"ok": 1}


class NoServer(socketserver.BaseRequestHandler):
    """Hang up at once."""


@contextmanager
def listening(handler: type[socketserver.BaseRequestHandler]) -> Iterator[int]:
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


@pytest.fixture
def old_port() -> Iterator[int]:
    with listening(OldServer) as port:
        yield port


@pytest.fixture
def dead_port() -> Iterator[int]:
    with listening(NoServer) as port:
        yield port


async def test_a_server_that_is_too_old_is_named(client: Any, old_port: int) -> None:
    """A server before 5.0 that does not know the command raises a DeploymentError that says so."""
    old = type(client)("127.0.0.1", old_port, directConnection=True, serverSelectionTimeoutMS=5000)
    quota = AsyncQuota(old["app"], QUOTA)
    for call in (quota.consume, quota.peek):
        with pytest.raises(DeploymentError, match=r"older than MongoDB 5\.0") as caught:
            await call("alice")
        assert isinstance(caught.value.__cause__, OperationFailure)
    await settle(old.close())


async def test_a_recent_server_that_refuses_is_not_called_old(db: Any, mongopatterns_server: Any) -> None:
    """The same answer from a server that is new enough reaches the caller as the driver raised it."""
    quota = AsyncQuota(db, QUOTA)
    data = {"failCommands": ["findAndModify"], "errorCode": 40415}
    with (
        mongopatterns_server.fail_point("failCommand", mode={"times": 1}, data=data),
        pytest.raises(OperationFailure) as caught,
    ):
        await quota.consume("alice")
    assert caught.value.code == 40415
    assert not may_have_applied(caught.value)


async def test_a_server_that_is_not_there_is_told_within_the_timeout(client: Any, dead_port: int) -> None:
    """No server answers: the driver's error comes within `timeout` seconds, and nothing can have been applied."""
    nowhere = type(client)("127.0.0.1", dead_port, directConnection=True, serverSelectionTimeoutMS=30_000)
    for call in (AsyncCounter(nowhere["app"], HITS).add, AsyncQuota(nowhere["app"], QUOTA).consume):
        started = time.monotonic()
        with pytest.raises(ConnectionFailure, match=rf"127\.0\.0\.1:{dead_port}") as caught:
            await call("alice", timeout=0.5)
        assert time.monotonic() - started < 10
        assert not may_have_applied(caught.value)
    await settle(nowhere.close())


async def test_the_timeout_of_the_first_call_is_not_that_of_the_client(
    connect: Any, db: Any, mongopatterns_server: Any
) -> None:
    """The driver looks after its server when the deadline of the call that began it is long over."""
    own = connect(mongopatterns_server.uri, heartbeatFrequencyMS=500, serverSelectionTimeoutMS=2000)
    hits = AsyncCounter(own[db.name], HITS)
    assert await hits.add("alice", timeout=2) == 1
    for total in range(2, 8):
        await pause(0.5)
        assert await hits.add("alice") == total
