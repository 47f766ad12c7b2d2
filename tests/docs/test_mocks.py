"""The page about mocks: it is what running the primitives gives, on a real server and on the mock."""

from __future__ import annotations

import importlib
import inspect
import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from bson import Int64
from pymongo import AsyncMongoClient

import mongopatterns

if TYPE_CHECKING:
    from mongopatterns.testing import EmbeddedMongo

ROOT = Path(__file__).parents[2]

with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
    warnings.simplefilter("ignore")  # the mock's own
    patch.syspath_prepend(str(ROOT / "tools"))
    tool = importlib.import_module("mock_table")
    scenarios = importlib.import_module("mock_scenarios")

# Calls that send nothing by themselves: they wait for those that share a round trip, which have rows.
NO_ROW = {"Counter.close", "Quota.close", "RateLimiter.close"}


def test_the_page_is_what_the_tool_writes(mongopatterns_server: EmbeddedMongo) -> None:
    """Whoever changes a primitive, a scenario or the mock sees what it does to the table, and writes it anew."""
    done = subprocess.run(
        [sys.executable, "tools/mock_table.py", "--check"],
        cwd=ROOT,
        env={**os.environ, "MONGOPATTERNS_TEST_URI": mongopatterns_server.uri},
        capture_output=True,
        text=True,
        check=False,
        timeout=150,
    )
    assert done.returncode == 0, f"run `python tools/mock_table.py`\n{done.stdout}{done.stderr}"


def test_every_call_has_a_row() -> None:
    """A new primitive, or a new call of one, cannot be left out of the table."""
    calls = {
        f"{name.removeprefix('Async')}.{call}"
        for name in mongopatterns.__all__
        if name.startswith("Async") and name != "AsyncAck"
        for call, method in vars(getattr(mongopatterns, name)).items()
        if not call.startswith("_") and (inspect.iscoroutinefunction(method) or inspect.isasyncgenfunction(method))
    }
    rows = {called.partition(", ")[0] for called in scenarios.row.scenarios}
    assert len(calls) > len(NO_ROW)
    assert calls - rows == NO_ROW
    assert {row for row in rows if "." in row} - calls == set()


async def test_a_scenario_must_succeed_on_a_real_server(mongopatterns_server: EmbeddedMongo) -> None:
    """A scenario that asks for something wrong proves nothing about the mock, and stops the tool."""

    async def wrong(world: Any) -> None:
        scenarios.expect(await world.db["users"].count_documents({}), 1)

    async def fails(world: Any) -> None:
        await world.db["users"].insert_many([{"_id": 1}, {"_id": 1}])

    with pytest.raises(tool.NotProved, match="Wrong: `0`, not `1` on the real server"):
        await tool.rows(mongopatterns_server.uri, {"Wrong": wrong})
    with pytest.raises(tool.NotProved, match="Fails: BulkWriteError"):
        await tool.rows(mongopatterns_server.uri, {"Fails": fails})


async def test_the_right_answer_is_not_enough(mongopatterns_server: EmbeddedMongo) -> None:
    """What is stored has to be what the server stores, types included; ids and times of the run may differ."""

    async def drops_the_time(world: Any) -> None:
        """Stores a time, which the mock drops in silence."""
        stages = [{"$set": {"n": 1, "at": "$$NOW"}}]
        done = await world.db["users"].update_one({"_id": 1}, stages, upsert=True)
        scenarios.expect(done.matched_count, 0)

    async def differs_by_type(world: Any) -> None:
        """Stores a number of 64 bits where the server has one of 32."""
        await world.db["users"].insert_one({"_id": 1, "n": 1 if world.kind is AsyncMongoClient else Int64(1)})

    async def of_the_run(world: Any) -> None:
        """Stores an id and a time of its own."""
        await world.db["users"].insert_one({"at": scenarios.dt.datetime.now(scenarios.UTC)})

    asked = {"Time": drops_the_time, "Type": differs_by_type, "Ids": of_the_run}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the mock's own
        time, kind, same = await tool.rows(mongopatterns_server.uri, asked)
    assert time.as_it_comes.startswith("**wrong answer**: stored `users:")
    assert kind.as_it_comes.startswith("**wrong answer**: stored `users:")
    assert (same.as_it_comes, same.with_adapter) == ("works", "works")
