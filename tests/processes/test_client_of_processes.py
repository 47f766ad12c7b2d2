"""Clients and processes: a fork takes no client along, and each member of a set has what a plan says."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pymongo import MongoClient, ReadPreference
from pymongo.uri_parser import parse_uri
from pymongo.write_concern import WriteConcern

from mongopatterns import PoolBudget, Profile, make_client
from mongopatterns.testing import EmbeddedMongo, race_threads

FORKS = Path(__file__).with_name("fork_client.py")


def test_a_forked_child_has_a_client_of_its_own(mongopatterns_server: Any, mongopatterns_db: Any) -> None:
    """In the child the parent's client is refused, unsent, and entering gives another; the parent's goes on."""
    command = [sys.executable, str(FORKS), mongopatterns_server.uri, mongopatterns_db.name]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    expected = f"shared_client: the client belongs to the process {told['parent']}, of which this one, {told['child']},"
    assert told["using"].startswith(expected)
    assert told["leaving"].startswith(expected)
    assert told["own"] is True
    assert [each["by"] for each in mongopatterns_db.forks.find()] == ["parent", "child", "parent, later"]


def test_a_direct_connection_is_not_refused_in_a_child(mongopatterns_server: Any, mongopatterns_db: Any) -> None:
    """The driver picks no server there, so nobody is asked: it goes on with connections of its own, as it does alone.

    Leaving is refused all the same, and the parent's client stays open.
    """
    command = [sys.executable, str(FORKS), f"{mongopatterns_server.uri}&directConnection=true", mongopatterns_db.name]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert "using" not in told
    assert told["leaving"].startswith("shared_client: the client belongs to the process")
    assert told["own"] is True
    writers = [each["by"] for each in mongopatterns_db.forks.find()]
    assert writers == ["parent", "inherited", "child", "parent, later"]


@pytest.fixture(scope="module")
def three() -> Iterator[EmbeddedMongo]:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MONGOPATTERNS_TEST_URI", raising=False)  # its members have to be three
        with EmbeddedMongo(members=3) as server:
            yield server


def connections(server: EmbeddedMongo, app_name: str) -> list[int]:
    """Return how many connections each member has from clients of this name, the largest first."""
    everybody = {"$currentOp": {"allUsers": True, "idleConnections": True}}
    found = []
    for host, port in parse_uri(server.uri)["nodelist"]:
        with MongoClient(host, port, directConnection=True) as member:
            rows = member.admin.aggregate([everybody, {"$match": {"appName": app_name}}, {"$count": "n"}]).to_list()
            found.append(rows[0]["n"] if rows else 0)
    return sorted(found, reverse=True)


def settled(server: EmbeddedMongo, app_name: str, expected: list[int]) -> list[int]:
    """Look until the members have so many, and return what they have."""
    found = connections(server, app_name)
    for _ in range(100):
        if found == expected:
            break
        time.sleep(0.05)
        found = connections(server, app_name)
    return found


@pytest.mark.parametrize(("monitoring", "monitors"), [("stream", 2), ("poll", 1)])
def test_each_member_has_what_the_plan_says(three: EmbeddedMongo, monitoring: Any, monitors: int) -> None:
    """A member that is used has the whole pool and the monitors, one that is not has the monitors alone.

    So the limit is one of each member, and the members do not share a pool.
    """
    budget = PoolBudget(limit=12, processes=2, members=3, monitoring=monitoring, reserve=0)
    plan = budget.plan(Profile.WEB)
    for name, preference, used in (
        ("primary", ReadPreference.PRIMARY, 1),
        ("secondaries", ReadPreference.SECONDARY, 2),
    ):
        app_name = f"{name}-{monitoring}"
        clients = [
            make_client(
                three.uri,
                profile=Profile.WEB,
                app_name=app_name,
                budget=budget,
                read_preference=preference,
                localThresholdMS=60_000,
            )
            for _ in range(2)
        ]
        everywhere = WriteConcern(w=3)
        clients[0]["app"].get_collection("things", write_concern=everywhere).insert_one({})
        for client in clients:
            things = client["app"]["things"]
            report = race_threads(lambda _, things=things: things.find_one({"$where": "sleep(5) || true"}), 200, 30)
            report.raise_errors()
        used_members = [plan.worst_case_connections] * used
        # The insert went to the primary, over one connection of the first client.
        others = [2 * monitors + 1] * (used == 2) + [2 * monitors] * (3 - used - (used == 2))
        assert settled(three, app_name, used_members + others) == used_members + others
        assert sum(used_members + others) <= plan.total_connections
        for client in clients:
            client.close()


def test_a_minimum_is_kept_on_every_member(three: EmbeddedMongo) -> None:
    """Why no profile has a minPoolSize: members that nobody reads keep it too."""
    with make_client(
        three.uri, profile=Profile.WEB, app_name="minimum", minPoolSize=3, serverMonitoringMode="poll"
    ) as client:
        client.admin.command("ping")
        assert settled(three, "minimum", [4, 4, 4]) == [4, 4, 4]
