"""What a listener calls of the application: it is given what was found, and what it raises goes to the log."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from typing import Any, Final

_LOG: Final = logging.getLogger("mongopatterns.client")


def call_back(name: str, callback: Callable[[Any], Any] | None, found: object) -> None:
    """Call it, if there is one. Whatever it raises must not break the driver's call, and is logged.

    The driver may call a listener while it handles an error of the server. That one repeats values, and Python shows it
    before an error that is raised meanwhile: it is cut off.
    """
    if callback is None:
        return
    handled = sys.exc_info()[1]
    try:
        callback(found)
    except Exception as error:  # noqa: BLE001  # as is said above
        first: BaseException = error
        while first.__context__ is not None and first.__context__ is not handled:
            first = first.__context__
        first.__context__ = None
        _LOG.exception("%s failed: %s", name, found)
