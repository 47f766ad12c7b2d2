"""The pytest plugin, as a project that has the package installed meets it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

import mongopatterns.testing as package
from mongopatterns.testing import EmbeddedMongo

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pymongo import MongoClient
    from pymongo.database import Database


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., tuple[int, str]]:
    """Run pytest on a project of one file; return its exit code and output."""

    def run(source: str, **environment: str) -> tuple[int, str]:
        (tmp_path / "pytest.ini").write_text("[pytest]\nfilterwarnings = error\n")
        (tmp_path / "test_it.py").write_text(source)
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "pytest",
                "-q",
                "-p",
                "no:cacheprovider",
                "-p",
                "no:randomly",
                "-p",
                "no:asyncio",
                "test_it.py",
            ],
            cwd=tmp_path,
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        return done.returncode, done.stdout + done.stderr

    return run


def test_a_project_gets_a_server_and_fresh_databases(run: Callable[..., tuple[int, str]]) -> None:
    """Each test has an empty database of its own on one shared server, and it is dropped afterwards."""
    code, output = run("""
import asyncio
import pytest
from pymongo import AsyncMongoClient

NAMES = []

@pytest.mark.parametrize("n", range(3))
def test_sync(mongopatterns_db, mongopatterns_db_name, mongopatterns_client, n):
    assert mongopatterns_db.name == mongopatterns_db_name
    assert mongopatterns_db_name not in NAMES
    assert not set(NAMES) & set(mongopatterns_client.list_database_names())
    NAMES.append(mongopatterns_db_name)
    assert mongopatterns_db.things.count_documents({}) == 0
    mongopatterns_db.things.insert_one({})

def test_async(mongopatterns_server, mongopatterns_db_name):
    async def main():
        async with AsyncMongoClient(mongopatterns_server.uri) as client:
            await client[mongopatterns_db_name].things.insert_one({})
    asyncio.run(main())

def test_all_were_dropped(mongopatterns_client):
    names = mongopatterns_client.list_database_names()
    assert not [name for name in names if name.startswith("test_")]
""")
    assert code == 0, output
    assert "5 passed" in output


def test_a_project_gets_a_guard(run: Callable[..., tuple[int, str]]) -> None:
    """A query in a loop fails the test with its place, in synchronous and asynchronous code; one query passes."""
    code, output = run("""
import asyncio
from pymongo import AsyncMongoClient
from mongopatterns.testing import CommandWatcher

def one_by_one(db):
    return [db.users.find_one({"_id": i}) for i in range(5)]

async def one_by_one_async(db):
    for i in range(5):
        await db.users.find_one({"_id": i})

def test_good(n_plus_one, mongopatterns_client, mongopatterns_db):
    with n_plus_one(mongopatterns_client, repeats=3):
        list(mongopatterns_db.users.find({"_id": {"$in": [1, 2, 3, 4, 5]}}))

def test_bad(n_plus_one, mongopatterns_client, mongopatterns_db):
    with n_plus_one(mongopatterns_client, repeats=3):
        one_by_one(mongopatterns_db)

def test_bad_async(n_plus_one, mongopatterns_server, mongopatterns_db_name):
    async def main():
        uri, watched = mongopatterns_server.uri, [CommandWatcher()]
        async with AsyncMongoClient(uri, event_listeners=watched) as client:
            with n_plus_one(client):
                await one_by_one_async(client[mongopatterns_db_name])
    asyncio.run(main())
""")
    assert code == 1, output
    assert "2 failed, 1 passed" in output
    assert "5 from test_it.py:7 in one_by_one" in output
    assert "5 from test_it.py:11 in one_by_one_async" in output


def test_it_fails_without_a_server(run: Callable[..., tuple[int, str]]) -> None:
    """A run that cannot have its server fails with the reason; it never skips."""
    code, output = run("def test(mongopatterns_db):\n    pass\n", MONGOPATTERNS_TEST_URI="mongodb://127.0.0.1:1/")
    assert code == 1, output
    assert "DeploymentError" in output
    assert "MONGOPATTERNS_TEST_URI" in output
    assert "1 error" in output
    assert "skipped" not in output


SECRETS = [
    "mongodb://user:hunter2@127.0.0.1:1/",
    "mongodb:user:hunter2@127.0.0.1:1/",
    "mongodb://user:hunter2/x@127.0.0.1:1/",
    "mongodb://user:my hunter2@127.0.0.1:1/",
    "mongodb://user:@hunter2@127.0.0.1:1/",
    "mongodb://127.0.0.1:1/?tlsCertificateKeyFilePassword=hunter2",
    "mongodb://127.0.0.1:1/?tls=true&tlsCertificateKeyFile=nowhere&tlsCertificateKeyFilePassword=hunter2",
    "mongodb://127.0.0.1:1/?authMechanismProperties=AWS_SESSION_TOKEN:hunter2",
    "mongodb://127.0.0.1:1/?authMechanism=MONGODB-AWS&authMechanismProperties=AWS_SESSION_TOKEN:hunter2",
    "mongodb://127.0.0.1:1/?connectTimeoutMS=hunter2",
    "mongodb+srv://user:hunter2@127.0.0.1/",
]


@pytest.mark.parametrize("shown", ["", "--full-trace --showlocals"])
def test_no_password_is_shown(run: Callable[..., tuple[int, str]], shown: str) -> None:
    """A server that cannot be used is reported without its password, from the variable and from `uri=`."""
    source = """
import json, os
import pytest
from mongopatterns.testing import EmbeddedMongo
from mongopatterns.testing import _server

_server._GIVEN_TIMEOUT = 0.2
each = pytest.mark.parametrize("i", range(len(json.loads(os.environ["SECRETS"]))))

def test_plugin(mongopatterns_db):
    pass

@each
def test_argument(i):
    EmbeddedMongo(uri=json.loads(os.environ["SECRETS"])[i]).start()

@each
def test_variable(i):
    os.environ["MONGOPATTERNS_TEST_URI"] = json.loads(os.environ["SECRETS"])[i]
    EmbeddedMongo().start()

def test_misuse():
    EmbeddedMongo(2, uri=json.loads(os.environ["SECRETS"])[0])
"""
    code, output = run(source, MONGOPATTERNS_TEST_URI=SECRETS[0], SECRETS=json.dumps(SECRETS), PYTEST_ADDOPTS=shown)
    assert code == 1, output
    assert f"{2 * len(SECRETS) + 1} failed, 1 error" in output
    assert "the server 127.0.0.1:1 (from MONGOPATTERNS_TEST_URI) cannot be used" in output
    assert "the server (from uri=) cannot be used" in output
    assert "hunter2" not in output


def test_a_run_that_needs_no_server_starts_none(run: Callable[..., tuple[int, str]]) -> None:
    """The plugin imports nothing of the server, the races or the guard until a fixture is asked for."""
    code, output = run("""
import sys

def test():
    assert "mongopatterns.testing.plugin" in sys.modules
    assert not [name for name in sys.modules if name.startswith("mongopatterns.testing._")]
""")
    assert code == 0, output


def test_the_fixtures_here(
    mongopatterns_server: EmbeddedMongo,
    mongopatterns_client: MongoClient[dict[str, Any]],
    mongopatterns_db: Database[dict[str, Any]],
    n_plus_one: Any,
) -> None:
    """The fixtures are at hand without any import, and belong together."""
    with n_plus_one(mongopatterns_client) as guard:
        mongopatterns_db["things"].find_one({})
    assert len(guard.counts) == 1
    assert isinstance(mongopatterns_server, EmbeddedMongo)
    assert mongopatterns_db.client is mongopatterns_client
    assert mongopatterns_client.codec_options.tz_aware


def test_the_names_of_the_package() -> None:
    """Every public name can be imported from the package, and no other."""
    assert package.__all__ == sorted(package.__all__)
    assert dir(package) == package.__all__
    for name in package.__all__:
        assert getattr(package, name).__doc__
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = package.nothing
