"""All primitives under one load on three members, while the primary is killed and stepped down and replies are lost.

A short run of each flavour is part of the suite. `make chaos` makes long ones: `CHAOS_SECONDS` is how long each lasts,
`CHAOS_SEEDS` are the seeds (of the faults and of all that callers choose; how calls meet is up to the machine), and
`CHAOS_PAGE` is the page whose table of faults is written if all runs have passed.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.callers import Callers, prepare
from tests.chaos.checker.check import check, check_load
from tests.chaos.checker.log import Table, Tally, Violation, put_between
from tests.chaos.faults import KINDS
from tests.chaos.load import Load
from tests.chaos.looks import look

SECONDS = float(os.environ.get("CHAOS_SECONDS", "0"))  # at least one fault of each kind, however short
SEEDS = [int(seed) for seed in os.environ.get("CHAOS_SEEDS", "1").split()]
PAGE = os.environ.get("CHAOS_PAGE")
FLAVOURS = {"pymongo": "PyMongo async", "motor": "Motor", "sync": "PyMongo sync"}
ANSWERS = 3  # to each primitive, under each fault

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(300 + 3 * SECONDS)]


@pytest.fixture(scope="module")
def table(pytestconfig: pytest.Config) -> Iterator[Table]:
    """Collect what all runs came to; print it, and write it to the page, at the end."""
    made = Table(tallies={kind: Tally() for kind in KINDS})
    yield made
    text = "\n".join(made.lines())
    reporter: Any = pytestconfig.pluginmanager.get_plugin("terminalreporter")
    if SECONDS:
        reporter.write_line(f"\n\n{text}")
    if PAGE and len(made.runs) == len(FLAVOURS) * len(SEEDS):
        page = Path(PAGE)
        page.write_text(put_between(page.read_text("utf-8"), text), "utf-8")


@pytest.mark.parametrize("seed", SEEDS)
async def test_every_promise_is_kept_under_faults(
    world: Any, members: Any, tmp_path: Path, seed: int, table: Table
) -> None:
    """Through all kinds of faults no caller of any primitive is told what is not so, by the log of all callers."""
    load = Load(world, members, seed)
    await asyncio.to_thread(prepare, load)
    callers = Callers(load, tmp_path)
    await load.run(dict(callers.turns()), seconds=SECONDS, answers=ANSWERS)
    await callers.close()
    await asyncio.to_thread(look, load, *await callers.peek())

    violations = load.unexpected + await asyncio.to_thread(check, load.log)
    unshown = check_load(load.log, ANSWERS * len(load.faults))
    assert not violations + unshown, report(violations + unshown, seed)
    table.add(f"{FLAVOURS[world.name]} (seed {seed})", load.faults, load.log, violations)


def report(violations: list[Violation], seed: int) -> str:
    """Say what was found, and how to repeat it."""
    shown = "\n".join(f"{violation}"[:2000] for violation in violations[:20])
    repeat = f"CHAOS_SECONDS={SECONDS:g} CHAOS_SEEDS={seed} python -m pytest tests/chaos/test_mixed_load.py"
    return f"{len(violations)} violations; the same faults and choices: {repeat}\n{shown}"
