"""Every file of `examples/` runs as a user runs it, and prints what its comments promise."""

from __future__ import annotations

import datetime as dt
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mongopatterns.testing import EmbeddedMongo

EXAMPLES = Path(__file__).parents[2] / "examples"

COUNTER = """\
counted 100, different totals 100
never viewed: 0
"""
QUOTA = """\
allowed: True, left this hour: 55
granted 11 of 20
refused by the hour
used this month: 62.5, past the limit of: hour
"""
PRINTED = {
    "counter_async.py": COUNTER,
    "counter_sync.py": COUNTER,
    "quota_async.py": QUOTA,
    "quota_sync.py": QUOTA,
}


def test_every_example_is_run() -> None:
    """No file of the folder is left out."""
    assert sorted(file.name for file in EXAMPLES.iterdir() if file.is_file()) == sorted(PRINTED)


@pytest.mark.parametrize("name", sorted(PRINTED))
def test_an_example_runs(name: str, mongopatterns_server: EmbeddedMongo, mongopatterns_db_name: str) -> None:
    """It runs twice on one database, as a curious reader does, and prints the same both times."""
    _wait_for_the_next_hour()
    environment = {
        **os.environ,
        "MONGODB_URI": mongopatterns_server.uri,
        "MONGODB_DATABASE": mongopatterns_db_name,
    }
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-W", "error", str(EXAMPLES / name)],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert (done.returncode, done.stdout) == (0, PRINTED[name]), done.stderr


def _wait_for_the_next_hour() -> None:
    """Wait if this hour ends soon: what an hour has left changes then."""
    now = dt.datetime.now(dt.timezone.utc)
    left = 3600 - (now.minute * 60 + now.second)
    if left < 10:
        time.sleep(left + 1)
