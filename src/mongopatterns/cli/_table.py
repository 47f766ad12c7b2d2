"""The result of the demo as a table: for a terminal, and as a picture."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from typing import Final

from rich import box
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from mongopatterns.cli._demo import DemoResult, ScenarioResult, VersionResult

__all__ = ["render", "to_svg"]

_COLUMNS: Final = (
    "should\nstore",
    "\nstored",
    "\nlost",
    "dou-\nbled",
    "over-\nsold",
    "wrongly\nrefused",
    "com-\nmands",
    "sec-\nonds",
    "\nspeed",
)
_DRIVERS: Final = {"pymongo": "PyMongo's asynchronous API", "motor": "Motor", "sync": "PyMongo, in threads"}

# Wide enough that no line of the table is broken.
_SVG_WIDTH: Final = 104


def render(result: DemoResult) -> RenderableType:
    """Make what is shown of a result: the table, and below it what its rows did."""
    table = Table(
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        show_edge=False,
        title=f"{result.rows:,} flights, {result.concurrency} calls at once, {_DRIVERS[result.driver]}, "
        f"MongoDB {result.server}\n",
        title_justify="left",
        caption=f"\nspeed: times as fast as the usual version of the scenario, in this one run{_exceptions(result)}",
        caption_justify="left",
    )
    table.add_column("scenario\n  version", no_wrap=True)
    for column in _COLUMNS:
        table.add_column(column, justify="right", no_wrap=True)
    for scenario in result.scenarios:
        table.add_row(Text(scenario.name, style="bold"))
        for version in scenario.versions:
            table.add_row(*_cells(version), style="bold" if version.version == "primitive" else "")
        table.add_section()
    notes = [note for scenario in result.scenarios for note in _notes(scenario)]
    return Group(table, *notes)


def to_svg(result: DemoResult) -> str:
    """Draw the table as an SVG picture that refers to nothing outside of itself."""
    console = Console(record=True, width=_SVG_WIDTH, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    console.print(render(result))
    svg = console.export_svg(title="mongopatterns demo", unique_id="mongopatterns-demo")
    # Rich has its fonts loaded from elsewhere; the reader's own monospaced one will do.
    return re.sub(r"@font-face\s*\{.*?\}\s*", "", svg, flags=re.DOTALL)


def _cells(version: VersionResult) -> Iterator[Text]:
    outcome = version.outcome
    right = outcome.stored == outcome.should
    yield Text(f"  {version.version.replace('_', ' ')}")
    yield Text(f"{outcome.should:,}")
    yield Text(f"{outcome.stored:,}", style="green" if right else "red")
    for fault in (outcome.lost, outcome.doubled, outcome.oversold, outcome.wrongly_refused):
        yield Text(f"{fault:,}", style="red" if fault else "dim")
    yield Text(f"{version.commands:,}")
    yield Text(f"{version.seconds:.2f}")
    yield Text(f"{version.speed:.1f}x")


def _exceptions(result: DemoResult) -> str:
    """Say on a line of its own where the speed is told by another version."""
    others = [scenario for scenario in result.scenarios if scenario.baseline != "usual"]
    told = ", ".join(f"as {scenario.baseline.replace('_', ' ')} in {scenario.name}" for scenario in others)
    return f";\n{told}" if told else ""


def _notes(scenario: ScenarioResult) -> Iterator[RenderableType]:
    """Say what the scenario is and what each of its versions did."""
    yield Text()
    yield Text.assemble((scenario.name, "bold"), f": {scenario.title}. {scenario.caption}".rstrip())
    for version in scenario.versions:
        how = Text(f"{version.version.replace('_', ' ')}: ")
        for place, part in enumerate(version.how.split("`")):
            how.append(part, style="cyan" if place % 2 else "")
        yield Padding(how, (0, 0, 0, 2))
