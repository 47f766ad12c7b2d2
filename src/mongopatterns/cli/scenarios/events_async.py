"""Events that a service takes in and stores: what flights do, while the service is killed once.

The service is a process of its own (`_service_async.py`). It is killed when half of the events were accepted, in the
middle of whatever it does, and started again with those that it did not accept. Each event has an id, so that nothing
changes if it comes twice. As it is usually written, each is inserted by itself, which is slow; in a list that is
inserted now and then, what is in the list is lost.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from functools import partial

from pymongo.database import Database

from mongopatterns._driver_async import in_thread
from mongopatterns.cli._rows import Row
from mongopatterns.cli._stage import CommandCount, Setting
from mongopatterns.cli._stage_async import AsyncScenario, AsyncStage
from mongopatterns.cli.scenarios import Outcome
from mongopatterns.cli.scenarios._service import COLLECTION, events_of

APP = "mongopatterns.cli.scenarios._service_main"


async def usual(stage: AsyncStage) -> set[str]:
    """Insert each event by itself."""
    return await in_thread(partial(killed_once, "one_by_one", stage.setting, stage.count))


async def by_hand(stage: AsyncStage) -> set[str]:
    """Insert a list of events whenever there are 500."""
    return await in_thread(partial(killed_once, "in_a_list", stage.setting, stage.count))


async def primitive(stage: AsyncStage) -> set[str]:
    """`AsyncWriteBuffer.insert`, with a spool."""
    return await in_thread(partial(killed_once, "in_a_buffer", stage.setting, stage.count))


def killed_once(way: str, setting: Setting, count: CommandCount) -> set[str]:
    """Run the service, kill it in the middle, and run it again; return the ids of what it has accepted."""
    half = len(events_of(setting.flights)) // 2
    with tempfile.TemporaryDirectory() as spool:
        arguments = [way, setting.uri, setting.database, setting.driver, str(setting.concurrency), spool]
        accepted = run([*arguments, str(half)], set(), count)
        return accepted | run([*arguments, "0"], accepted, count)


def run(arguments: Sequence[str], before: set[str], count: CommandCount) -> set[str]:
    """Run the service until it ends, or until it has accepted as many as it is to.

    Raises:
        RuntimeError: If it has failed.
    """
    end = int(arguments[-1])
    command = [sys.executable, "-m", APP, *arguments]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as service:  # noqa: S603
        assert service.stdin is not None  # noqa: S101  # (there are pipes, as was asked for)
        assert service.stdout is not None  # noqa: S101
        service.stdin.writelines(f"{event}\n" for event in [*before, ""])
        service.stdin.flush()
        accepted: set[str] = set()
        commands = 0
        for line in service.stdout:
            event, _, told = line.partition("\t")
            accepted.add(event)
            commands = int(told)
            if len(accepted) == end:
                service.kill()
                break
    if service.returncode != 0 and (not end or len(accepted) != end):
        raise RuntimeError(f"the service has failed: {arguments[0]}")
    count.total += commands
    return accepted


def judge(flights: Sequence[Row], told: set[str], db: Database[Row]) -> Outcome:
    """Compare what was accepted with what is stored."""
    right = {event["_id"] for event in events_of(flights)}
    stored = {event["_id"] for event in db[COLLECTION].find({}, {"_id": 1})}
    return Outcome(should=len(right), stored=len(stored & right), lost=len(told - stored), doubled=len(stored - right))


def caption(flights: Sequence[Row]) -> str:
    """Tell how many events there are."""
    number = len(events_of(flights))
    return f"{number:,} events; the process is killed after half of them, and its two starts are in the time."


SCENARIO = AsyncScenario(
    title="Events, stored by a process that is killed",
    usual=usual,
    by_hand=by_hand,
    primitive=primitive,
    judge=judge,
    caption=caption,
)
