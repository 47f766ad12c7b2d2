"""The commands, their options, and what they print: results to stdout, everything else to stderr."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from pymongo.errors import PyMongoError
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from mongopatterns.cli import _schema, _table, scenarios
from mongopatterns.cli._demo import DRIVERS, DemoResult, Options, run_demo
from mongopatterns.errors import DeploymentError, UsageError

__all__ = ["app"]

app = typer.Typer(name="mongopatterns", no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)

app.add_typer(_schema.app)

_DEFAULTS = Options()
_PIPE_WIDTH = 100
_LEAST_WIDTH = 80  # below it, rich would cut the numbers


@app.callback()
def _main() -> None:
    """MongoDB patterns that stay exact under concurrency."""


@app.command()
def demo(
    *,
    driver: Annotated[
        str, typer.Option(metavar="|".join(DRIVERS), help="The driver: pymongo is its asynchronous side.")
    ] = _DEFAULTS.driver,
    concurrency: Annotated[int, typer.Option(help="How many calls are under way at once.")] = _DEFAULTS.concurrency,
    rows: Annotated[int, typer.Option(help="How many flights are used.")] = _DEFAULTS.rows,
    scenario: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help=f"Run this one only; may be repeated: {', '.join(scenarios.names())}."),
    ] = None,
    uri: Annotated[
        str | None,
        typer.Option(
            metavar="URI", help="Use this replica set: the demo makes a database of its own, and drops it in the end."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
    svg: Annotated[Path | None, typer.Option(help="Write the table to this file, as a picture.", hidden=True)] = None,
) -> None:
    """Do each job as usual, by hand and with a primitive, on real rows, and count what went wrong.

    A real replica set is started for it, unless --uri names one.

    The exit status is 1 if a primitive was not exact, 2 if the demo could not be run.
    """
    options = Options(driver=driver, concurrency=concurrency, rows=rows, scenarios=scenario or (), uri=uri)
    try:
        result = _run(options)
        if as_json:
            typer.echo(json.dumps(result.to_dict(), indent=2))
        else:
            _console().print(_table.render(result))
        if svg is not None:
            svg.write_text(_table.to_svg(result), encoding="utf-8")
    except (UsageError, DeploymentError, OSError) as error:
        raise _failure(str(error)) from error
    except PyMongoError as error:
        # The rest describes the driver's view of the deployment, in one long line.
        raise _failure(str(error).partition(", Timeout:")[0]) from error
    if result.inexact:
        typer.echo(f"mongopatterns demo: the primitive was not exact: {', '.join(result.inexact)}", err=True)
        raise typer.Exit(1)


def _run(options: Options) -> DemoResult:
    """Run the demo; a terminal shows meanwhile in one line how far it is."""
    console = Console(stderr=True)
    columns = SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn()
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        line = bar.add_task("reading the rows", total=None)

        def progress(step: str, done: int = 0, total: int | None = None) -> None:
            bar.update(line, description=step, completed=done, total=total)

        return run_demo(options, progress)


def _console() -> Console:
    """Print as wide as the terminal is, and no narrower than the table; into a file or a pipe, with room to spare."""
    console = Console()
    return Console(width=max(console.width, _LEAST_WIDTH if console.is_terminal else _PIPE_WIDTH))


def _failure(message: str) -> typer.Exit:
    typer.echo(f"mongopatterns demo: {message}", err=True)
    return typer.Exit(2)
