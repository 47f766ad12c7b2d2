"""The table of the demo."""

from __future__ import annotations

import io
from dataclasses import replace
from xml.etree import ElementTree as ET

import pytest
from rich.console import Console

from mongopatterns.cli._demo import DemoResult, ScenarioResult, VersionResult
from mongopatterns.cli._table import render, to_svg
from mongopatterns.cli.scenarios import Outcome


@pytest.fixture
def result() -> DemoResult:
    versions = (
        VersionResult("usual", "Read, `save`.", Outcome(12_345, 10_000, lost=2_345, oversold=17), 24_690, 10.0, 1.0),
        VersionResult("by_hand", "One `$inc`.", Outcome(12_345, 12_345, wrongly_refused=4), 12_345, 5.0, 2.0),
        VersionResult("primitive", "`AsyncThing.do`.", Outcome(12_345, 12_345), 12_345, 4.0, 2.5),
    )
    return DemoResult("motor", "7.0.1", 32, 12_400, 20.0, (ScenarioResult("things", "A job", "Limits: 7.", versions),))


def printed(result: DemoResult, width: int) -> str:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    console.print(render(result))
    return console.file.getvalue()


@pytest.mark.parametrize("width", [80, 120])
def test_every_number_is_there_in_a_terminal_of_the_usual_width(result: DemoResult, width: int) -> None:
    """Rows of five digits fit into 80 columns, nothing is cut short, and each line has its ten cells."""
    text = printed(result, width)
    assert "…" not in text
    cells = [line.split() for line in text.splitlines()]
    assert ["usual", "12,345", "10,000", "2,345", "0", "17", "0", "24,690", "10.00", "1.0x"] in cells
    assert ["by", "hand", "12,345", "12,345", "0", "0", "0", "4", "12,345", "5.00", "2.0x"] in cells
    assert ["primitive", "12,345", "12,345", "0", "0", "0", "0", "12,345", "4.00", "2.5x"] in cells
    for told in ("Motor", "MongoDB 7.0.1", "32 calls at once", "A job. Limits: 7.", "by hand: One $inc.", "speed:"):
        assert told in text


def test_a_scenario_with_a_baseline_of_its_own_is_named_below_the_table(result: DemoResult) -> None:
    """Whose speed is told by another version than the usual one is said; nothing is said if there is none."""
    told = "speed: times as fast as the usual version of the scenario, in this one run"
    assert told in map(str.strip, printed(result, 80).splitlines())
    other = replace(result.scenarios[0], name="hot", baseline="by_hand")
    lines = [line.strip() for line in printed(replace(result, scenarios=(*result.scenarios, other)), 80).splitlines()]
    assert lines[lines.index(f"{told};") + 1] == "as by hand in hot"


def test_the_picture_is_svg_that_needs_nothing_from_elsewhere(result: DemoResult) -> None:
    """The picture is well-formed, has the table in it, and loads no font and no style."""
    svg = to_svg(result)
    root = ET.fromstring(svg)
    text = "".join(root.itertext()).replace("\xa0", " ")
    assert "mongopatterns demo" in text
    assert "wrongly" in text
    assert "…" not in text
    for outside in ("@font-face", "url(http", "@import", "<script", "<image"):
        assert outside not in svg


def test_only_an_inexact_primitive_counts_against_the_run(result: DemoResult) -> None:
    """What the other versions lose is what the demo is there to show."""
    assert result.inexact == []
    (scenario,) = result.scenarios
    broken = VersionResult("primitive", "", Outcome(3, 3, oversold=1), 3, 1.0, 1.0)
    versions = (*scenario.versions[:2], broken)
    other = ScenarioResult("broken", "", "", versions)
    assert DemoResult("sync", "7.0.1", 1, 1, 1.0, (scenario, other)).inexact == ["broken"]
