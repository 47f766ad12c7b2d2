'''The scenarios of the demo: one job each, done as it is usually written, by hand, and with a primitive.

**To add one**, write `NAME_async.py` in this folder and run `make generate`, which writes its twin
`NAME_sync.py` for `--driver sync`. There is nothing to register. The file defines `SCENARIO`:

```python
"""Why this job is worth showing, in a paragraph."""

async def usual(stage: AsyncStage) -> None:
    """Read, add one, save."""                       # the first line is printed below the table

    async def one(flight: Row) -> None:
        ...                                          # on stage.db, as an application writes it

    await stage.for_each(one, stage.flights)         # one call for each, so many at once as the user asked for

async def by_hand(stage: AsyncStage) -> None: ...    # as a careful engineer writes it
async def primitive(stage: AsyncStage) -> None: ...  # what this package offers for it

def judge(flights: Sequence[Row], told: None, db: Database[Row]) -> Outcome:
    ...                                              # afterwards, not timed: compares db with what is right

SCENARIO = AsyncScenario(
    title="...", usual=usual, by_hand=by_hand, primitive=primitive, judge=judge
)
```

* The three are timed and their commands are counted from the first line to the last. What they return is what
  callers were told; `judge` gets it as `told`, the same rows, and a synchronous database whatever the driver.
* Each of them finds the collections `flights`, `airlines`, `planes`, `airports` and `weather`, to be read
  only, and nothing else: whatever else a version stored is dropped before the next one.
* A clock that moves is set by hand, with `now=`: nothing waits. `_schedule.py` reads it from the rows.
* Be honest. The usual version is what applications do, without a sleep or a trick that makes it worse; the one
  by hand is the best that can be written in a few lines. If the rules themselves are hard, it is the repair
  that people write, and a plain model in the file says what is right.
* `caption=` adds a sentence for the reader, from the rows: limits that depend on their number, for example.
* `whole=True` is for what only shows with many rows: all flights of the year are in the collection `year` then, and
  nobody else has to wait for them.
* `crowded=True` makes many more calls at once; `baseline="by_hand"` has the speed told by that version.
* A version takes at most two or three seconds with the default number of rows: use fewer
  (`stage.flights[:500]`) where the job is slow.
'''

from __future__ import annotations

import importlib
import pkgutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from mongopatterns.cli._stage_async import AsyncScenario
    from mongopatterns.cli._stage_sync import Scenario

__all__ = ["VERSIONS", "Outcome", "find", "names"]

VERSIONS: Final = ("usual", "by_hand", "primitive")
"""The functions of a scenario, in the order in which they run."""


@dataclass(frozen=True)
class Outcome:
    """What came of one version.

    Attributes:
        should: What a right version would have stored.
        stored: What the database holds.
        lost: Acknowledged to a caller and not stored.
        doubled: Stored once too often.
        oversold: Granted without room.
        wrongly_refused: Refused although there was room.
    """

    should: int
    stored: int
    lost: int = 0
    doubled: int = 0
    oversold: int = 0
    wrongly_refused: int = 0

    @property
    def exact(self) -> bool:
        """Whether everything is as it should be."""
        faults = self.lost, self.doubled, self.oversold, self.wrongly_refused
        return self.stored == self.should and not any(faults)


def names() -> list[str]:
    """List the scenarios, by the names of their files."""
    files = (module.name for module in pkgutil.iter_modules(__path__))
    return sorted(file.removesuffix("_async") for file in files if file.endswith("_async") and file[0] != "_")


def find(name: str, *, asynchronous: bool) -> AsyncScenario[Any] | Scenario[Any]:
    """Import a scenario: as it is written, or its synchronous twin."""
    module = importlib.import_module(f"{__name__}.{name}_{'async' if asynchronous else 'sync'}")
    scenario: AsyncScenario[Any] | Scenario[Any] = module.SCENARIO
    return scenario
