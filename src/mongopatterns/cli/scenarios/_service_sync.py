# Generated from src/mongopatterns/cli/scenarios/_service_async.py by tools/generate_sync.py.
# Do not edit: change the source and run "make generate".
"""The service of the scenario `events`: takes in what flights do, and stores it, in one of three ways."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from pymongo.errors import BulkWriteError, DuplicateKeyError

from mongopatterns import WriteBuffer
from mongopatterns._driver_sync import settle
from mongopatterns.cli._rows import Row
from mongopatterns.cli._stage import CommandCount, Setting
from mongopatterns.cli._stage_sync import Stage, client_of
from mongopatterns.cli.scenarios._service import COLLECTION, events_of

MANY = 500


@dataclass
class Service:
    """What takes events in.

    Attributes:
        stage: Where they are stored.
        spool: A directory.
        end: How many it accepts before it is killed; 0 if it is not.
    """

    stage: Stage
    spool: str
    end: int

    def accepted(self, event: Row) -> None:
        """Tell who has sent it that it is accepted."""
        os.write(1, f"{event['_id']}\t{self.stage.count.total}\n".encode())
        self.end -= 1
        if self.end == 0:
            os.read(0, 1)  # (nothing comes: it is killed here)

    def one_by_one(self, events: Sequence[Row]) -> None:
        """Insert each by itself, so many at once as the user asked for."""

        def one(event: Row) -> None:
            with suppress(DuplicateKeyError):  # (it is there, and nobody was told)
                self.stage.db[COLLECTION].insert_one(event)
            self.accepted(event)

        self.stage.for_each(one, events)

    def in_a_list(self, events: Sequence[Row]) -> None:
        """Keep them in a list, and insert that whenever it is long enough."""
        waiting: list[Row] = []
        for event in events:
            waiting.append(event)
            self.accepted(event)
            if len(waiting) == MANY:
                self._insert(waiting)
                waiting = []
        self._insert(waiting)

    def _insert(self, waiting: list[Row]) -> None:
        if waiting:
            with suppress(BulkWriteError):  # (some are there, and nobody was told)
                self.stage.db[COLLECTION].insert_many(waiting, ordered=False)

    def in_a_buffer(self, events: Sequence[Row]) -> None:
        """Have them on disk, and insert them in the background."""
        db = self.stage.db
        # An event that was accepted, and whose sender was not told any more, is sent again, and is there already.
        with WriteBuffer(db.client, spool=self.spool, on_dead_letter=lambda _: None) as buffer:
            for event in events:
                buffer.insert(db[COLLECTION], event)
                self.accepted(event)


def serve(way: str, setting: Setting, spool: str, end: int, before: set[str]) -> None:
    """Take in what was not accepted before."""
    count = CommandCount()
    client = client_of(setting, count)
    try:
        db = client[setting.database]
        flights = db["flights"].find().sort("_id").to_list(None)
        stage = Stage(db, flights, setting, count)
        service = Service(stage, spool, end)
        ways: dict[str, Callable[[Sequence[Row]], None]] = {
            "one_by_one": service.one_by_one,
            "in_a_list": service.in_a_list,
            "in_a_buffer": service.in_a_buffer,
        }
        ways[way]([event for event in events_of(flights) if event["_id"] not in before])
    finally:
        settle(client.close())
