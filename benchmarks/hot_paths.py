"""Where the time of a call goes, by whose code it is.

Each call is made again and again under `cProfile`, which makes every call in Python a little dearer: the shares say
what to look at, and are no times. Waiting is for the server; the rest is the event loop, the standard library and
Pydantic.

What such profiles led to: a verdict works its fields out when somebody asks for them; pipelines of a spec are built
once, and only the values of a call are put in; combined calls of one amount travel as that amount and a number; an
increment is measured by its paths and not encoded; an insert is encoded once, and the driver is given the bytes;
nothing is made around an item of a buffer while it waits alone, and updates merge in place; a page begins with a filter
that an index serves, and sends the exact one only where the type of a key changes.
"""

from __future__ import annotations

import cProfile
import pstats
from collections import Counter as Tally
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Any, Final

from benchmarks import buffer, combining, joins, paging
from benchmarks._rows import Effort, Measurable, Shares
from benchmarks._worlds import Stage, World

WAITING: Final = ("method 'poll' of 'select.epoll'", "method 'recv_into'", "method 'select' of")
OWNERS: Final = ("mongopatterns", "driver", "waiting", "rest")
CALLS: Final = 400


@dataclass(frozen=True, slots=True)
class HotPath:
    """One line.

    Attributes:
        name: What is called.
        world: Where.
        bind: Returns the function to call, with a key alone.
        keys: The keys, in turn.
        calls: How many calls are profiled.
    """

    name: str
    world: World
    bind: Callable[[World, Stage], Callable[..., Any]]
    keys: Sequence[Any] = ("hot",)
    calls: int = CALLS
    against: str = "whose code it is"

    def measure(self, uri: str, effort: Effort) -> Iterator[Shares]:
        """Profile it."""
        calls = self.calls if effort.keys >= Effort().keys else 4
        with self.world.open(uri) as stage:
            function = self.bind(self.world, stage)
            stage.time(function, islice(cycle(self.keys), calls))
            profile = cProfile.Profile()
            profile.enable()
            stage.time(function, islice(cycle(self.keys), calls))
            profile.disable()
        yield Shares(self.name, str(self.world), shares_of(profile))


def shares_of(profile: cProfile.Profile) -> dict[str, float]:
    """Add the time up that was spent in functions themselves, and return the share of each owner."""
    spent: Tally[str] = Tally()
    stats: Any = pstats.Stats(profile)
    for (file, _, function), (_, _, own, _, _) in stats.stats.items():
        if "gc.collect" not in function:  # (before each turn)
            spent[owner(file, function)] += own
    total = sum(spent.values())
    return {name: spent[name] / total for name in OWNERS}


def owner(file: str, function: str) -> str:
    """Tell whose code a function is."""
    if any(name in function for name in WAITING):
        return "waiting"
    if "/mongopatterns/" in file:
        return "mongopatterns"
    return "driver" if "/pymongo/" in file or "/bson/" in file or "_cbson" in function else "rest"


def page(world: World, stage: Stage) -> Callable[..., Any]:
    with stage.audit() as database:
        paging.seed(database, paging.flights(2_000))
    read = paging.sides(stage, world, 2_000).ours["far"]
    return lambda _: read()


def inserts(world: World, stage: Stage) -> Callable[..., Any]:
    run = buffer.Sides(stage, world).buffered()
    return lambda _: run(1_000)


ONE: Final = World("async", 1)
MANY: Final = World("async", 64)

ROWS: Final[tuple[Measurable, ...]] = (
    HotPath("Counter.add", ONE, combining.counter(combine=False).bind),
    HotPath("Quota.consume, three windows and a bank", ONE, combining.THREE.alone.bind),
    HotPath("Quota.consume, three windows and a bank, combined", MANY, combining.THREE.combined.bind, calls=64 * 60),
    HotPath("Join.find, 500 flights with their plane", ONE, joins.Case([joins.PLANE], 500).ours().bind, (0,), 40),
    HotPath("Pager.page", ONE, page, ("page",)),
    HotPath("WriteBuffer.insert", ONE, inserts, ("batch",), 10),
)
