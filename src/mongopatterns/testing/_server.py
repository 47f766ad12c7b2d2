"""A real MongoDB server for the length of a `with` block: standalone, or a replica set with members to kill.

Starting, electing and stopping are done with single commands to single members (`_wire`); processes, ports
and what happens after our own death are `_mongod`'s; where a server is looked for is `_binary`'s.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import tempfile
import threading
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from pymongo.errors import ConnectionFailure, OperationFailure
from pymongo.uri_parser import parse_uri
from typing_extensions import Self, override

from mongopatterns._driver import OLDEST_WIRE_VERSION
from mongopatterns.errors import DeploymentError, UsageError
from mongopatterns.testing import _wire
from mongopatterns.testing._binary import URI_VARIABLE, environment_for, find_mongod
from mongopatterns.testing._mongod import Mongod, Watchdog, free_ports, poll

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping
    from types import TracebackType

__all__ = ["EmbeddedMongo"]

# A given server that does not answer is reported after this many seconds.
_GIVEN_TIMEOUT: Final = 3.0
# How often new ports are tried when somebody else was quicker to take one.
_ATTEMPTS: Final = 5
# Seconds to wait for the answer of one member; all of them are on this machine.
_ANSWER_TIMEOUT: Final = 2.0
# An election takes one to two seconds with the settings below, and longer on a busy machine.
_ELECTION_TIMEOUT: Final = 30.0

_COMMAND_NOT_FOUND: Final = 59
# What replSetStepDown answers while it cannot be done: NotWritablePrimary, ExceededTimeLimit (no secondary
# has caught up), PrimarySteppedDown, and a LockTimeout or MaxTimeMSExpired on a busy member.
_NOT_YET: Final = frozenset({10107, 262, 189, 24, 50})


class EmbeddedMongo:
    """Start a real MongoDB server for tests, and end it with everything it left.

    ```python
    with EmbeddedMongo() as server, MongoClient(server.uri) as client:
        client["test"]["users"].insert_one({})
    ```

    A server is looked for in this order: `uri=`, the environment variable `MONGOPATTERNS_TEST_URI`, a
    `mongod` on PATH, the wheel of the extra `mongopatterns[embedded]`. The first two name a server that runs
    already: nothing is started then, nothing is stopped, and whatever needs members of our own raises
    `UsageError`.

    Members listen on the loopback alone, keep their data in a temporary directory and are ready within about
    0.3 seconds (one member) or 2 seconds (three). They are killed when this process dies, even by SIGKILL. A
    forked child may use the server, and does not stop it. Durability is the server's default, so that a
    majority write survives `kill` and one that is not journaled may not; elections take about a second
    instead of ten.

    Safe to use from several threads.

    Args:
        members: 0 for a standalone server, 1 or 3 for a replica set of that size.
        uri: A server that runs already, instead of one of our own.
        parameters: Further `--setParameter` values for every member, such as `{"ttlMonitorSleepSecs": 1}`.
        timeout: Seconds that starting, or restarting a member, may take.

    Raises:
        UsageError: `members` is not 0, 1 or 3, or `timeout` is not above 0.
    """

    def __init__(
        self,
        members: int = 1,
        *,
        uri: str | None = None,
        parameters: Mapping[str, object] | None = None,
        timeout: float = 60.0,
    ) -> None:
        # A traceback shows the arguments of its functions, and this one may hold a password.
        given = _given(uri)
        del uri
        if members not in (0, 1, 3):
            raise UsageError("members", f"is 0 (standalone), 1 or 3 (a replica set), not {members!r}")
        if not timeout > 0:
            raise UsageError("timeout", f"is a number of seconds above 0, not {timeout!r}")
        self._size: Final = members
        self._given: Final = given
        self._used: _Given | None = None
        self._parameters: Final = dict(parameters or {})
        self._timeout: Final = timeout
        self._lock: Final = threading.RLock()
        self._owner = 0
        self._uri: str | None = None
        self._replica_set: str | None = None
        self._members: list[Mongod] = []
        self._directory: Path | None = None
        self._watchdog: Watchdog | None = None

    def __repr__(self) -> str:
        """Show the size, and where the server is: the URI of our own, the hosts alone of a given one."""
        state = "not started" if self._uri is None else repr(self._used) if self._used else self._uri
        return f"<EmbeddedMongo members={self._size} {state}>"

    def __enter__(self) -> Self:
        """Start the server: see `start`."""
        return self.start()

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop the server: see `stop`."""
        self.stop()

    # ------------------------------------------------------------------------------------- start and stop

    def start(self) -> Self:
        """Start the server and wait until it takes writes and every member is up.

        Returns:
            The server itself.

        Raises:
            UsageError: It is started already.
            DeploymentError: No server was found, the given one does not answer within three seconds, `mongod`
                ended or did not get ready in time (the message has the end of its output), or the server is
                older than MongoDB 5.0.
        """
        with self._lock:
            if self._uri is not None:
                raise UsageError("start", "the server is started already")
            given = self._given or _named()
            if given is not None:
                _check(given, members=self._size)
                self._used, self._uri = given, given.reveal()
                return self
            self._owner = os.getpid()
            try:
                self._start_own()
            except BaseException:
                self.stop()
                raise
            return self

    def stop(self, *, grace: float = 0.0) -> None:
        """End the members that were started here, and remove their data. Calling it again does nothing.

        In a forked child it leaves the parent's server alone.

        Args:
            grace: Seconds that the members get to shut down by themselves before they are killed. A clean
                shutdown takes a second, that of three members up to sixteen, and the data is thrown away: by
                default they are killed at once.
        """
        with self._lock:
            members, self._members = self._members, []
            directory, self._directory = self._directory, None
            watchdog, self._watchdog = self._watchdog, None
            self._uri = self._replica_set = self._used = None
            if directory is None or self._owner != os.getpid():
                return
            if grace > 0:
                for member in members:
                    member.ask_to_end()
            deadline = time.monotonic() + grace
            for member in members:
                member.end(grace=deadline - time.monotonic())
            shutil.rmtree(directory, ignore_errors=True)
            if watchdog is not None:
                watchdog.end()

    @property
    def uri(self) -> str:
        """The connection string, for PyMongo's `MongoClient` and `AsyncMongoClient` and for Motor.

        It names every member and the replica set, and stays the same when members are killed and restarted.

        Raises:
            UsageError: The server is not started.
        """
        if self._uri is None:
            raise UsageError("uri", "the server is not started: use it in a `with` block, or call start()")
        return self._uri

    def member_uri(self, member: int) -> str:
        """Return the connection string of one member alone, whatever its state.

        Args:
            member: The member's number, from 0.

        Raises:
            UsageError: There is no such member of our own.
        """
        return f"mongodb://{_wire.HOST}:{self._own(member).port}/?directConnection=true"

    # ---------------------------------------------------------------------------------------- the members

    @property
    def primary(self) -> int:
        """The number of the member that takes writes. During an election it waits: see `wait_for_primary`."""
        return self.wait_for_primary()

    def wait_for_primary(self, timeout: float = _ELECTION_TIMEOUT) -> int:
        """Wait until a member takes writes.

        Args:
            timeout: Seconds to wait. An election takes one to two.

        Returns:
            The member's number, from 0.

        Raises:
            UsageError: The members are not our own.
            DeploymentError: There was none in time.
        """
        self._check_own("wait_for_primary")
        found = poll(self._find_primary, seconds=timeout)
        if found is None:
            raise DeploymentError(f"no member became primary within {timeout:g} seconds")
        return found

    def kill(self, member: int | Literal["primary"] = "primary") -> int:
        """Kill a member as a crash would, without a shutdown. One that does not run stays as it is.

        Args:
            member: The member's number, or the one that is primary at the moment.

        Returns:
            The member's number, for `restart`.

        Raises:
            UsageError: There is no such member of our own, or this is a forked child.
            DeploymentError: "primary" was asked for and there is none.
        """
        killed = self._controlled(member)
        with self._lock:
            killed.end()
        return killed.index

    def restart(self, member: int) -> None:
        """Start a member again on its port and its data, and wait until it is primary or secondary.

        A member that still runs is killed first.

        Args:
            member: The member's number.

        Raises:
            UsageError: There is no such member of our own, or this is a forked child.
            DeploymentError: It ended, or did not get ready in time.
        """
        started = self._controlled(member)
        with self._lock:
            started.end()
            deadline = time.monotonic() + self._timeout
            started.launch()
            while not self._answers(started, deadline):
                # Somebody sits on the port, perhaps for a moment only.
                time.sleep(0.05)
                started.end()
                started.launch()
            self._wait_until_up([started], deadline)

    def step_down(self, seconds: int = 10, *, timeout: float = _ELECTION_TIMEOUT) -> int:
        """Make the primary a secondary, as a planned election does.

        With three members another one takes over, once it has caught up; until then it is tried again. It
        does not wait for the new primary: `wait_for_primary` does.

        Args:
            seconds: How long the member may not be elected again, a whole number from 1. A set of one member
                has no primary for that long.
            timeout: Seconds to try.

        Returns:
            The number of the member that was primary.

        Raises:
            UsageError: The members are not our own or no replica set, or `seconds` is below 1.
            DeploymentError: It could not be done in time.
        """
        self._check_own("step_down")
        if self._replica_set is None:
            raise UsageError("members", "a standalone server cannot step down: start one with members=3")
        if seconds < 1:
            raise UsageError("seconds", f"is a whole number from 1, not {seconds!r}")
        command = {
            "replSetStepDown": seconds,
            "secondaryCatchUpPeriodSecs": 0 if self._size == 1 else min(seconds - 1, 5),
            "force": self._size == 1,
        }
        last: list[Exception] = []

        def attempt() -> int | None:
            primary = self._find_primary()
            if primary is None:
                return None
            try:
                _wire.send(self._own(primary).port, command, timeout=seconds + _ANSWER_TIMEOUT)
            except OSError as error:
                last[:] = [error]
                # The reply was lost. A second attempt must not depose the member that was elected meanwhile.
                return None if _hello(self._own(primary).port).get("isWritablePrimary") else primary
            except OperationFailure as error:
                if error.code not in _NOT_YET:
                    raise
                last[:] = [error]
                return None
            return primary

        stepped_down = poll(attempt, seconds=timeout, interval=0.05)
        if stepped_down is None:
            why = f": {last[0]}" if last else ""
            raise DeploymentError(f"no primary could step down within {timeout:g} seconds{why}")
        return stepped_down

    @contextlib.contextmanager
    def fail_point(
        self,
        name: str,
        *,
        mode: str | Mapping[str, Any] = "alwaysOn",
        data: Mapping[str, Any] | None = None,
        member: int | Literal["primary"] = "primary",
    ) -> Generator[int]:
        """Make a member fail in a chosen way inside the `with` block. At its end that is turned off.

        `failCommand` with `closeConnection` fires before the command runs. Its `writeConcernError` answers
        after it ran, and so does `onPrimaryTransactionalWrite` with `{"closeConnection": True}`: the write is
        stored, the reply is lost.

        Args:
            name: The fail point, such as `failCommand`.
            mode: `"alwaysOn"`, `{"times": 3}`, `{"skip": 2}` or `{"activationProbability": 0.1}`.
            data: What it does, such as `{"failCommands": ["update"], "errorCode": 91}`.
            member: The member's number, or the one that is primary at the start.

        Yields:
            The member's number.

        Raises:
            UsageError: There is no such member of our own.
            DeploymentError: "primary" was asked for and there is none.
            pymongo.errors.OperationFailure: The server knows no such fail point, mode or data.
        """
        self._check_own("fail_point")
        chosen = self._own(self.wait_for_primary() if member == "primary" else member)
        command: dict[str, Any] = {"configureFailPoint": name, "mode": mode}
        if data is not None:
            command["data"] = dict(data)
        try:
            _wire.send(chosen.port, command)
            yield chosen.index
        finally:
            _turn_off(name, chosen)

    # ---------------------------------------------------------------------------------------------- inside

    def _start_own(self) -> None:
        self._directory = directory = Path(tempfile.mkdtemp(prefix="mongopatterns-"))
        self._watchdog = watchdog = Watchdog(directory)
        binary = find_mongod(directory)
        environment = environment_for(binary, directory)
        deadline = time.monotonic() + self._timeout
        for _ in range(_ATTEMPTS):
            # A name of its own: a client of another set that once used these ports cannot mistake one for the
            # other.
            name = f"rs{secrets.token_hex(4)}" if self._size else None
            self._members = [
                Mongod(
                    index=index,
                    port=port,
                    directory=directory / f"{port}",
                    command=self._command(binary, directory, port, name),
                    environment=environment,
                    watchdog=watchdog,
                )
                for index, port in enumerate(free_ports(self._size or 1))
            ]
            for member in self._members:
                member.launch()
            if all(self._answers(member, deadline) for member in self._members):
                break
            for member in self._members:
                member.end()
        else:
            raise DeploymentError(f"no free port: in {_ATTEMPTS} attempts somebody else took one first")
        self._replica_set = name
        if name is not None:
            try:
                _wire.send(self._members[0].port, {"replSetInitiate": self._config(name)}, timeout=self._timeout)
            except (OSError, OperationFailure) as error:
                raise self._not_ready(self._members[0]) from error
        self._wait_until_up(self._members, deadline)
        if poll(self._find_primary, seconds=max(0.0, deadline - time.monotonic())) is None:
            raise self._not_ready(self._members[0])
        hosts = ",".join(f"{_wire.HOST}:{member.port}" for member in self._members)
        options = "directConnection=true" if name is None else f"replicaSet={name}"
        self._uri = f"mongodb://{hosts}/?{options}"

    def _command(self, binary: Path, directory: Path, port: int, name: str | None) -> list[str]:
        parameters = {
            # Fail points.
            "enableTestCommands": 1,
            # A thread that writes metrics all the time, for support only.
            "diagnosticDataCollectionEnabled": False,
            **self._parameters,
        }
        home = directory / f"{port}"
        command = [str(binary), "--bind_ip", _wire.HOST, "--port", str(port), "--dbpath", str(home)]
        command += ["--logpath", str(home / "mongod.log"), "--logappend"]
        # The smallest cache there is; by default each member takes half of the memory.
        command += ["--wiredTigerCacheSizeGB", "0.25"]
        if os.name != "nt":
            command += ["--nounixsocket"]
        if name is not None:
            command += ["--replSet", name, "--oplogSize", "128"]
        for key, value in parameters.items():
            text = str(value).lower() if isinstance(value, bool) else str(value)
            command += ["--setParameter", f"{key}={text}"]
        return command

    def _config(self, name: str) -> dict[str, Any]:
        return {
            "_id": name,
            "members": [{"_id": member.index, "host": f"{_wire.HOST}:{member.port}"} for member in self._members],
            # Defaults: 10 seconds and 2 seconds. Lower values bring elections that nobody asked for.
            "settings": {"electionTimeoutMillis": 1000, "heartbeatIntervalMillis": 200},
        }

    def _answers(self, member: Mongod, deadline: float) -> bool:
        """Wait until a member that was launched answers; False when its port was taken."""

        def check() -> bool | None:
            if member.pid is None:
                return False
            try:
                options = _wire.send(member.port, {"getCmdLineOpts": 1}, timeout=_ANSWER_TIMEOUT)
            except (OSError, OperationFailure):
                return None
            # Somebody else's server may listen there, and ours is about to find that out.
            ours = options["parsed"]["storage"]["dbPath"] == str(member.directory)
            return True if ours else None

        answer = poll(check, seconds=max(0.0, deadline - time.monotonic()))
        if answer is None or (answer is False and not member.could_not_listen):
            raise self._not_ready(member)
        if answer:
            hello = _hello(member.port)
            _check_version(hello, f"the server {member.command[0]}")
        return answer

    def _wait_until_up(self, members: list[Mongod], deadline: float) -> None:
        for member in members:

            def is_up(member: Mongod = member) -> bool | None:
                if member.pid is None:
                    return False
                hello = _hello(member.port)
                up = hello.get("isWritablePrimary") or (self._size != 1 and hello.get("secondary"))
                return True if up else None

            if not poll(is_up, seconds=max(0.0, deadline - time.monotonic())):
                raise self._not_ready(member)

    def _not_ready(self, member: Mongod) -> DeploymentError:
        problem = f"did not get ready within {self._timeout:g} seconds" if member.pid else "ended at its start"
        return DeploymentError(f"the server {problem}.\n{member.tail()}")

    def _find_primary(self) -> int | None:
        for member in self._members:
            if _hello(member.port).get("isWritablePrimary"):
                return member.index
        return None

    def _check_own(self, method: str) -> None:
        if not self._members:
            if self._uri is not None:
                raise UsageError(method, "needs members of our own, and a server that runs already is used here")
            raise UsageError(method, "the server is not started: use it in a `with` block, or call start()")

    def _own(self, member: int) -> Mongod:
        self._check_own("member")
        if member not in range(len(self._members)):
            raise UsageError("member", f"is a number from 0 to {len(self._members) - 1}, not {member!r}")
        return self._members[member]

    def _controlled(self, member: int | Literal["primary"]) -> Mongod:
        """Return a member whose process may be touched."""
        self._check_own("member")
        if self._owner != os.getpid():
            raise UsageError("member", "belongs to the process that started it, and this is a forked child")
        return self._own(self.wait_for_primary() if member == "primary" else member)


def _hello(port: int) -> dict[str, Any]:
    """Ask a member of our own who it is; nothing when it does not answer."""
    try:
        return _wire.send(port, {"hello": 1}, timeout=_ANSWER_TIMEOUT)
    except OSError:
        return {}
    except OperationFailure as error:
        if error.code == _COMMAND_NOT_FOUND:
            return {"maxWireVersion": 0}
        return {}


def _turn_off(name: str, member: Mongod) -> None:
    """Turn a fail point off, whatever the member is up to. One that was killed has forgotten it."""

    def attempt() -> bool | None:
        try:
            _wire.send(member.port, {"configureFailPoint": name, "mode": "off"}, timeout=_ANSWER_TIMEOUT)
        except OperationFailure:
            return True  # It has refused to turn it on, too.
        except OSError:
            return None if member.pid else True
        return True

    poll(attempt, seconds=_ANSWER_TIMEOUT)


class _Given:
    """The connection string of a given server, which may hold a password.

    It is passed around in this, so that no argument and no local variable that a traceback shows is the
    string itself.
    """

    __slots__ = ("_uri", "source")

    def __init__(self, uri: str, source: str) -> None:
        __tracebackhide__ = True
        self._uri: Final = uri
        self.source: Final = source

    @override
    def __repr__(self) -> str:
        return f"{_hosts(self)}(from {self.source})"

    def reveal(self) -> str:
        """Return the string; not to be kept in a variable."""
        return self._uri


def _given(uri: str | None) -> _Given | None:
    """Wrap the `uri` of a caller; what is empty counts as none."""
    __tracebackhide__ = True
    return _Given(uri, "uri=") if uri else None


def _named() -> _Given | None:
    """Return the server that the environment names."""
    __tracebackhide__ = True
    uri = os.environ.get(URI_VARIABLE)
    return _Given(uri, URI_VARIABLE) if uri else None


def _hosts(given: _Given) -> str:
    """Return the hosts of a connection string, and a space; nothing when they cannot be told for certain.

    Nothing for `mongodb+srv://` either, whose hosts are found by a question to the network.
    """
    __tracebackhide__ = True
    if not given.reveal().startswith("mongodb://"):
        return ""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            nodes = parse_uri(given.reveal(), validate=False)["nodelist"]
    except Exception:  # noqa: BLE001  # whatever is wrong with it, its text must not get out
        return ""
    return ",".join(host if port is None else f"{host}:{port}" for host, port in nodes) + " "


def _check(given: _Given, *, members: int) -> None:
    """Check that a given server answers, is new enough and is what was asked for.

    Raises:
        DeploymentError: It is not. Its text has nothing of the connection string but the hosts.
    """
    __tracebackhide__ = True
    where = f"the server {given!r}"
    answer = _ask(given)
    if isinstance(answer, str):
        raise DeploymentError(f"{where} cannot be used: {answer}")
    _check_version(answer, where)
    if members > 0 and "setName" not in answer and answer.get("msg") != "isdbgrid":
        raise DeploymentError(f"{where} is standalone, and a replica set was asked for (members={members})")


def _ask(given: _Given) -> dict[str, Any] | str:
    """Return the answer of a given server to `hello`, or why there is none.

    Errors of the driver end here, with their tracebacks: those show what it was called with.
    """
    __tracebackhide__ = True
    from pymongo import MongoClient  # noqa: PLC0415  # only here: a server of our own needs no client

    milliseconds = int(_GIVEN_TIMEOUT * 1000)
    try:
        with warnings.catch_warnings():
            # A warning of the driver repeats the value of an option.
            warnings.simplefilter("ignore")
            with MongoClient[dict[str, Any]](
                given.reveal(), serverSelectionTimeoutMS=milliseconds, connectTimeoutMS=milliseconds
            ) as client:
                return client.admin.command("hello")
    except ConnectionFailure as error:
        # It was read and used, so that this is about hosts. The rest of a driver's message describes its view
        # of the deployment, in one long line.
        return str(error).split(", Timeout:", 1)[0]
    except OperationFailure as error:
        return f"it refused ({(error.details or {}).get('codeName', f'code {error.code}')})"
    except Exception as error:  # noqa: BLE001  # warnings as errors, and whatever a driver makes of its options
        # Its text repeats what it stumbled over, which may be the password.
        return f"it is no valid connection string, or one whose options cannot be used ({type(error).__name__})"


def _check_version(hello: Mapping[str, Any], where: str) -> None:
    """Refuse a server before 5.0.

    Raises:
        DeploymentError: It is too old.
    """
    version = hello.get("maxWireVersion", OLDEST_WIRE_VERSION)
    if version < OLDEST_WIRE_VERSION:
        raise DeploymentError(
            f"{where} is too old: MongoDB 5.0 or newer is needed (wire version {OLDEST_WIRE_VERSION}, and "
            f"it speaks {version})"
        )
