"""What an application needs to test its own use of MongoDB: a real server, races and query counts.

* `EmbeddedMongo`: a real server for the length of a `with` block, with members to kill.
* `race`, `race_threads`, `race_processes`: many calls at the same moment, and a `RaceReport` of what came of
  them.
* `n_plus_one_guard`: fails a test in which a query runs in a loop, on a client with a `CommandWatcher`.
* `mongopatterns.testing.plugin`: the fixtures of the same server for pytest.

The names are imported when they are first used: the plugin lives in this package, and is loaded into every
run of every project that has it installed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from mongopatterns.testing._guard import CommandWatcher, n_plus_one_guard
    from mongopatterns.testing._race import RaceReport, race, race_threads
    from mongopatterns.testing._race_processes import race_processes
    from mongopatterns.testing._server import EmbeddedMongo

__all__ = [
    "CommandWatcher",
    "EmbeddedMongo",
    "RaceReport",
    "n_plus_one_guard",
    "race",
    "race_processes",
    "race_threads",
]

_MODULES: Final = {
    "CommandWatcher": "_guard",
    "EmbeddedMongo": "_server",
    "RaceReport": "_race",
    "n_plus_one_guard": "_guard",
    "race": "_race",
    "race_processes": "_race_processes",
    "race_threads": "_race",
}


def __getattr__(name: str) -> Any:
    """Import a public name on first use."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module  # noqa: PLC0415  # not needed by the plugin alone

    value = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
