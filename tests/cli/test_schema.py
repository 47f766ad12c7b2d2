"""`mongopatterns schema`: what it prints, what it changes, and how it ends."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from mongopatterns.cli._app import app

APP = """
from mongopatterns import CollectionSpec, Index, SchemaSpec

SCHEMA = SchemaSpec([CollectionSpec("users", indexes=[Index("mail", unique=True), Index("at")])])

class Nested:
    OTHER = SchemaSpec([CollectionSpec("users", indexes=[Index("mail", unique=True), Index("at", sparse=True)])])

NOTHING = 1
"""

Cli = Callable[..., Any]


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mongopatterns_server: Any, mongopatterns_db: Any) -> Cli:
    """Run `mongopatterns schema` in a directory that has a module with schemas."""
    (tmp_path / "app_schema.py").write_text(APP)
    (tmp_path / "broken_schema.py").write_text("import a_module_that_is_not_there\n")
    (tmp_path / "ending_schema.py").write_text("raise SystemExit(0)\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["", *sys.path])
    for name in ("app_schema", "broken_schema", "ending_schema"):
        monkeypatch.delitem(sys.modules, name, raising=False)

    def run(command: str, spec: str = "app_schema:SCHEMA", *arguments: str, uri: str = "") -> Any:
        where = ["--uri", uri or mongopatterns_server.uri, "--db", mongopatterns_db.name]
        return CliRunner().invoke(app, ["schema", command, spec, *where, *arguments], catch_exceptions=False)

    return run


def names(db: Any) -> set[str]:
    return set(db.users.index_information()) - {"_id_"}


def test_from_a_plan_to_a_verified_database(cli: Cli, mongopatterns_db: Any) -> None:
    """A plan ends with 1 and changes nothing, apply --yes ends with 0, and then plan and verify do."""
    planned = cli("plan")
    assert planned.exit_code == 1
    assert "+ create index       users  Index('mail', unique=True)" in planned.stdout
    assert cli("verify").exit_code == 1
    assert mongopatterns_db.list_collection_names() == []
    applied = cli("apply", "app_schema:SCHEMA", "--yes")
    assert applied.exit_code == 0
    assert "[1/3] done: create collection users" in applied.stderr
    assert names(mongopatterns_db) == {"mail_1", "at_1"}
    for command in ("plan", "verify", "apply"):
        again = cli(command)
        assert again.exit_code == 0
        assert again.stdout.startswith(f"{mongopatterns_db.name}: nothing to change\n")


def test_without_yes_nothing_is_done(cli: Cli, mongopatterns_db: Any) -> None:
    """Where nobody can be asked, apply shows the plan, changes nothing, and ends with 1."""
    result = cli("apply")
    assert result.exit_code == 1
    assert "+ create index" in result.stderr
    assert "say --yes to do this" in result.stderr
    assert mongopatterns_db.list_collection_names() == []


def test_a_blocked_plan_is_not_applied(cli: Cli, mongopatterns_db: Any) -> None:
    """What stands in the way is printed, nothing is changed, and the end is 1."""
    mongopatterns_db.users.insert_many([{"mail": "x"}, {"mail": "x"}])
    result = cli("apply", "app_schema:SCHEMA", "--yes")
    assert result.exit_code == 1
    assert "blocked: 1 value of Index('mail') in more than one document: mail='x' in 2 documents" in result.stdout
    assert names(mongopatterns_db) == set()


def test_json(cli: Cli, mongopatterns_db: Any) -> None:
    """With --json stdout is the plan as JSON and nothing else, in all three."""
    plan = json.loads(cli("plan", "app_schema:SCHEMA", "--json").stdout)
    assert [change["kind"] for change in plan["changes"]] == ["create collection", "create index", "create index"]
    assert plan["changes"][1]["commands"][0]["createIndexes"] == "users"
    done = json.loads(cli("apply", "app_schema:SCHEMA", "--json", "--yes").stdout)
    assert done["changes"] == plan["changes"]
    assert json.loads(cli("verify", "app_schema:SCHEMA", "--json").stdout)["changes"] == []


def test_what_is_unknown_or_replaced(cli: Cli, mongopatterns_db: Any) -> None:
    """--usage names what no query uses, --keep-replaced hides and drops nothing, --drop-unknown drops what is left."""
    mongopatterns_db.users.create_index("mine")
    assert cli("apply", "app_schema:SCHEMA", "--yes").exit_code == 0
    assert "unused-index: users: Index('mine')" in cli("plan", "app_schema:SCHEMA", "--usage").stdout
    assert cli("apply", "app_schema:Nested.OTHER", "--yes", "--keep-replaced").exit_code == 0
    assert mongopatterns_db.users.index_information()["at_1"]["hidden"]
    assert cli("apply", "app_schema:Nested.OTHER", "--yes", "--drop-unknown").exit_code == 0
    assert names(mongopatterns_db) == {"mail_1", "at_1_2"}


def test_a_schema_in_the_directory_is_found_by_the_installed_command(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """A script that is installed has its own directory on the path: the working directory is put before it, once."""
    monkeypatch.setattr(sys, "path", [place for place in sys.path if place])
    assert cli("apply", "app_schema:SCHEMA", "--yes").exit_code == 0
    assert cli("verify").exit_code == 0
    assert sys.path[0] == ""
    assert sys.path.count("") == 1


@pytest.mark.parametrize(
    ("spec", "problem"),
    [
        ("app_schema", "expected a module and a name in it"),
        ("app_schema:MISSING", "cannot be loaded: AttributeError"),
        ("app_schema:NOTHING", "is no SchemaSpec: 1"),
        ("broken_schema:SCHEMA", "cannot be loaded: ModuleNotFoundError"),
        ("ending_schema:SCHEMA", "cannot be loaded: SystemExit: 0"),
        ("not_a_module:SCHEMA", "cannot be loaded: ModuleNotFoundError"),
    ],
)
def test_a_schema_that_is_none(cli: Cli, spec: str, problem: str) -> None:
    """What cannot be loaded is one line on stderr, and the end is 2."""
    result = cli("plan", spec)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.startswith("mongopatterns schema plan: ")
    assert problem in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "uri",
    [
        "mongodb://ann:s3cr%21t@localhost:1/app?serverSelectionTimeoutMS=1",
        "mongodb://ann:s3cr%21t@localhost:1,localhost:none/app",
        "mongodb://ann:s3cr%21t@[/app",
    ],
)
def test_a_password_is_never_printed(cli: Cli, monkeypatch: pytest.MonkeyPatch, uri: str) -> None:
    """A server that is not there, and a URI that is none, end with 2 and a line without the password."""
    monkeypatch.setattr("mongopatterns.cli._schema._SELECTION_MS", 50)
    result = cli("verify", uri=uri)
    assert result.exit_code == 2
    assert result.stderr.startswith("mongopatterns schema verify: ")
    assert "s3cr" not in result.output
    assert result.stdout == ""


def test_a_file_of_the_uri_that_cannot_be_read(cli: Cli, tmp_path: Path) -> None:
    """A certificate that is not there ends with 2 and a line, not with the 1 of a database that has to change."""
    missing = tmp_path / "none.pem"
    result = cli("plan", uri=f"mongodb://localhost:1/app?tls=true&tlsCertificateKeyFile={missing}")
    assert result.exit_code == 2
    assert result.stderr.startswith("mongopatterns schema plan: ")
    assert result.stdout == ""


def test_a_uri_from_the_environment(cli: Cli, monkeypatch: pytest.MonkeyPatch, mongopatterns_server: Any) -> None:
    """MONGODB_URI stands for --uri; without either, and without a database, the end is 2."""
    monkeypatch.setenv("MONGODB_URI", mongopatterns_server.uri)
    runner = CliRunner()
    assert runner.invoke(app, ["schema", "verify", "app_schema:SCHEMA", "--db", "not_there"]).exit_code == 1
    assert runner.invoke(app, ["schema", "verify", "app_schema:SCHEMA"]).exit_code == 2
    monkeypatch.delenv("MONGODB_URI")
    assert runner.invoke(app, ["schema", "verify", "app_schema:SCHEMA", "--db", "not_there"]).exit_code == 2
