"""The command line: `mongopatterns demo` and `mongopatterns schema`.

`_schema` is the second. Of the demo, `_app` holds the commands and what they print, `_demo` runs the scenarios, `_rows`
reads the data, `_table` renders the result, and `scenarios` has one file for each comparison.
"""

from __future__ import annotations

import signal
import sys

__all__ = ["main"]


def main() -> None:
    """Run the command line; say in one line what to install if its libraries are missing."""
    try:
        from mongopatterns.cli._app import app  # noqa: PLC0415  # rich and typer are an optional extra
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing == "mongopatterns":
            raise
        print(  # noqa: T201  # this is what there is without rich
            f'mongopatterns: {missing} is not installed. Run  pip install "mongopatterns[demo]"', file=sys.stderr
        )
        sys.exit(2)
    # Asked to end, end as after Ctrl-C: what was started is stopped, and what was stored is dropped.
    for name in ("SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), _end)
    app(prog_name="mongopatterns")


def _end(number: int, _: object) -> None:
    sys.exit(128 + number)
