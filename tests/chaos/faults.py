"""Which faults come, in an order that a seed decides, and how they are injected."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from random import Random
from typing import Any

from mongopatterns.testing import EmbeddedMongo

KILL = "the primary is killed (SIGKILL)"
RESTART = "the killed member comes back"
STEP_DOWN = "the primary steps down"
LOST = "the write is applied, the reply is lost"
CLOSED = "the connection is closed before the command"
UNSATISFIED = "the write is applied, the write concern is not met"
SLOW = "the network is slow"

WRITES = ["findAndModify", "insert", "update", "delete"]
READS = ["find", "aggregate", "getMore"]
# Fail points of the primary. Of a lost reply the driver's repeat is told the stored answer; a write concern that is
# not met is handed to the caller. What is slow are requests, on their way to the server.
POINTS: dict[str, tuple[str, Any, dict[str, Any]]] = {
    LOST: ("onPrimaryTransactionalWrite", {"times": 12}, {"closeConnection": True}),
    CLOSED: ("failCommand", {"times": 12}, {"failCommands": WRITES + READS, "closeConnection": True}),
    UNSATISFIED: (
        "failCommand",
        {"times": 12},
        {"failCommands": WRITES, "writeConcernError": {"code": 64, "errmsg": "waiting timed out"}},
    ),
    SLOW: (
        "failCommand",
        {"activationProbability": 0.3},
        {"failCommands": WRITES + READS, "blockConnection": True, "blockTimeMS": 250},
    ),
}
ELECTION = 60.0  # seconds: mostly one or two, and many on a machine that has other things to do
KINDS = (KILL, RESTART, STEP_DOWN, *POINTS)


def schedule(random: Random) -> Iterator[str]:
    """Give faults without an end: each kind once in a round; who is killed comes back in the same round."""
    while True:
        kinds = [STEP_DOWN, *POINTS]
        random.shuffle(kinds)
        killed, back = sorted(random.sample(range(len(kinds) + 1), 2))
        kinds.insert(back, RESTART)
        kinds.insert(killed, KILL)
        yield from kinds


class Injector:
    """Inject faults into three members."""

    def __init__(self, server: EmbeddedMongo) -> None:
        self._server = server
        self._killed: int | None = None

    def inject(self, kind: str) -> None:
        """Make a fault of the members happen, and wait until one of them takes writes."""
        if kind == KILL:
            self._killed = self._server.kill()
        elif kind == STEP_DOWN:
            self._server.step_down()
        elif kind == RESTART:
            self.heal()
        self._server.wait_for_primary(ELECTION)

    def point(self, kind: str) -> AbstractContextManager[Any]:
        """Provide the fail point of a fault, if it is one."""
        if kind not in POINTS:
            return nullcontext()
        name, mode, data = POINTS[kind]
        return self._server.fail_point(name, mode=mode, data=data)

    def heal(self) -> None:
        """Bring back who was killed."""
        if self._killed is not None:
            self._server.restart(self._killed)
            self._killed = None
        self._server.wait_for_primary(ELECTION)
