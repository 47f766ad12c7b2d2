"""`mongopatterns schema plan|apply|verify`: a schema of the caller's own, from a shell or in CI.

The plan goes to stdout, as text or as JSON; everything else to stderr. What a password is made of is never printed.

The exit status is 0 if there is nothing (more) to change, 1 if there is, 2 if it could not be told.
"""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import reduce
from typing import Annotated, Any, NoReturn
from urllib.parse import unquote_plus

import typer
from pymongo import MongoClient
from pymongo.errors import PyMongoError

from mongopatterns.errors import MongoPatternsError, SchemaDrift, UsageError
from mongopatterns.schema import Schema, SchemaPlan, SchemaProgress, SchemaSpec

__all__ = ["app"]

app = typer.Typer(name="schema", no_args_is_help=True, help="Plan, apply or verify a schema.")

_SELECTION_MS = 10_000  # whoever waits for a server in a shell has given up by then

Spec = Annotated[
    str, typer.Argument(metavar="MODULE:SCHEMA", help="Where the SchemaSpec is, such as app.schema:SCHEMA.")
]
Uri = Annotated[str, typer.Option(envvar="MONGODB_URI", help="The server; from the environment, nobody else sees it.")]
Db = Annotated[str | None, typer.Option(metavar="NAME", help="The database; by default that of the URI.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the plan as JSON.")]
DropUnknown = Annotated[bool, typer.Option("--drop-unknown", help="Drop indexes that the schema does not name.")]


@app.command()
def plan(
    spec: Spec,
    *,
    uri: Uri,
    db: Db = None,
    as_json: AsJson = False,
    drop_unknown: DropUnknown = False,
    usage: Annotated[bool, typer.Option("--usage", help="Name the indexes that no query uses.")] = False,
) -> None:
    """Tell what would be changed, what that costs and risks, and what stands in its way. Changes nothing.

    The exit status is 0 if nothing would be, 1 if anything would be, 2 if it cannot be told.
    """
    with _schema("plan", spec, uri, db) as schema:
        _end(schema.plan(drop_unknown=drop_unknown, usage=usage), as_json=as_json)


@app.command()
def verify(spec: Spec, *, uri: Uri, db: Db = None, as_json: AsJson = False) -> None:
    """Check that nothing has to be changed. Changes nothing, and reads no documents.

    The exit status is 0 if nothing has to be, 1 if anything has to be, 2 if it cannot be told.
    """
    with _schema("verify", spec, uri, db) as schema:
        try:
            verified = schema.verify()
        except SchemaDrift as drift:
            verified = drift.plan
        _end(verified, as_json=as_json)


@app.command()
def apply(
    spec: Spec,
    *,
    uri: Uri,
    db: Db = None,
    as_json: AsJson = False,
    drop_unknown: DropUnknown = False,
    keep_replaced: Annotated[
        bool, typer.Option("--keep-replaced", help="Drop nothing: leave hidden what was replaced.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Show the plan, ask, and change what has to be changed: nothing, if a part of it is blocked.

    The exit status is 0 if it was done, 1 if it was not, because it is blocked or nobody said yes, 2 if it failed.
    """
    with _schema("apply", spec, uri, db) as schema:
        planned = schema.plan(drop_unknown=drop_unknown)
        if planned and not planned.blocked:
            typer.echo(str(planned), err=True)
            if not yes and not (sys.stdin.isatty() and typer.confirm("Do this?", err=True)):
                typer.echo("mongopatterns schema apply: nothing was changed; say --yes to do this", err=True)
                raise typer.Exit(1)
        try:
            done = schema.apply(planned, drop=not keep_replaced, on_progress=_tell)
        except SchemaDrift as drift:
            _end(drift.plan, as_json=as_json)
        _print(done, as_json=as_json)


def _tell(progress: SchemaProgress) -> None:
    part = f" {progress.done:.0%}" if progress.state == "running" and progress.done is not None else ""
    change = progress.change
    line = f"[{progress.number}/{progress.total}] {progress.state}{part}: {change.kind.value} {change.collection}"
    typer.echo(f"{line}: {change.what}", err=True)


def _print(shown: SchemaPlan, *, as_json: bool) -> None:
    typer.echo(json.dumps(shown.to_dict(), indent=2) if as_json else str(shown))


def _end(shown: SchemaPlan, *, as_json: bool) -> NoReturn:
    _print(shown, as_json=as_json)
    raise typer.Exit(1 if shown else 0)


@contextmanager
def _schema(command: str, spec: str, uri: str, db: str | None) -> Iterator[Schema]:
    """Connect, and say in one line, without a password, why something could not be done."""
    try:
        found = _load(spec)
        with _connected(uri) as client:
            yield Schema(client[db] if db else client.get_default_database(), found)
    except PyMongoError as error:
        # The rest describes the driver's view of the deployment, in one long line.
        raise _failure(command, _without_password(uri, str(error).partition(", Timeout:")[0])) from None
    except (MongoPatternsError, OSError) as error:  # (such as a file of the URI's that cannot be read)
        raise _failure(command, _without_password(uri, str(error))) from None


def _connected(uri: str) -> MongoClient[dict[str, Any]]:
    try:
        return MongoClient(uri, serverSelectionTimeoutMS=_SELECTION_MS, appname="mongopatterns schema")
    except ValueError as error:  # (not all that is wrong with a URI is an error of the driver's own kind)
        raise UsageError("--uri", str(error)) from error


def _load(spec: str) -> SchemaSpec:
    module, _, name = spec.partition(":")
    if not module or not name:
        raise UsageError(
            "MODULE:SCHEMA", f"expected a module and a name in it, such as app.schema:SCHEMA, got {spec!r}"
        )
    if "" not in sys.path:
        sys.path.insert(0, "")  # what is here can be imported, as with `python -m`
    try:
        found: Any = reduce(getattr, name.split("."), importlib.import_module(module))
    except (Exception, SystemExit) as error:  # whatever a module of the caller's own raises
        raise UsageError("MODULE:SCHEMA", f"{spec!r} cannot be loaded: {type(error).__name__}: {error}") from error
    if not isinstance(found, SchemaSpec):
        raise UsageError("MODULE:SCHEMA", f"{spec!r} is no SchemaSpec: {found!r:.100}")
    return found


def _without_password(uri: str, message: str) -> str:
    """Leave out of a message what stands between the user's name and the host."""
    _, _, rest = uri.partition("://")
    user, _, password = rest.rpartition("@")[0].partition(":")
    hidden: Callable[[str, str], str] = lambda text, part: text.replace(part, "***") if part else text  # noqa: E731
    return reduce(hidden, (uri, password, unquote_plus(password)), message) if user else message


def _failure(command: str, message: str) -> typer.Exit:
    typer.echo(f"mongopatterns schema {command}: {message}", err=True)
    return typer.Exit(2)
