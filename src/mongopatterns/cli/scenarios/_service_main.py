"""A process that takes events in, so that it can be killed.

    python -m mongopatterns.cli.scenarios._service_main WAY URI DATABASE DRIVER CONCURRENCY SPOOL END

It reads from its input the ids of events that were accepted before, up to an empty line, and writes a line for each
that it accepts: its id, and how many commands were sent so far. Whoever reads that line counts on the event. When it
has accepted END, it does nothing more, and waits to be killed.
"""

from __future__ import annotations

import asyncio
import sys
from typing import cast

from mongopatterns.cli._stage import DriverName, Setting
from mongopatterns.cli.scenarios import _service_async, _service_sync


def main() -> None:
    """Run what the command line asks for."""
    way, uri, database, driver, concurrency, spool, end = sys.argv[1:]
    setting = Setting(uri, database, (), int(concurrency), cast("DriverName", driver))
    before = {line.rstrip() for line in iter(sys.stdin.readline, "\n")}
    if driver == "sync":
        _service_sync.serve(way, setting, spool, int(end), before)
    else:
        asyncio.run(_service_async.serve(way, setting, spool, int(end), before))


if __name__ == "__main__":
    main()
