"""What flights do, as events: what the service of the scenario `events` and its judge share. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from mongopatterns.cli._rows import Row

COLLECTION: Final = "events"


def events_of(flights: Sequence[Row]) -> list[Row]:
    """List what flights do: they are announced, they leave, they arrive."""
    return [
        {"_id": f"{place} {what}", "flight": flight["flight"], "carrier": flight["carrier"], "at": flight[at]}
        for place, flight in enumerate(flights)
        for what, at in (
            ("departure announced", "sched_dep_time"),
            ("departed", "dep_time"),
            ("arrival announced", "sched_arr_time"),
            ("arrived", "arr_time"),
        )
        if flight[at] is not None
    ]
