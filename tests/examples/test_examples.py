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

CAPPED_SET = """\
joined: 1 of 10, host: ann
joined 9, different people stored: 10
refused: 10 of 10 seats are taken
still there: True
the next host is who came next: True
all nine: False, of them joined: 0
closed: True, and now: closed
"""
COMBINING_ASYNC = """\
sold 100 of 300, different remainders 100
a tenth as many commands, or fewer: True
"""
COMBINING_SYNC = """\
sold 100 of 300, different remainders 100
half as many commands, or fewer: True
"""
COUNTER = """\
counted 100, different totals 100
never viewed: 0
"""
LIMITER = """\
admitted 5 of 40
refused, with Retry-After: True
forgotten: True, left: 5
admitted 10 of 15
"""
QUOTA = """\
allowed: True, left this hour: 55
granted 11 of 20
refused by the hour
used this month: 62.5, past the limit of: hour
"""
RESERVATION = """\
held 3 of 5, free: 10
settled: held 30, charged now: True
already: held 0, charged now: False
released: True
settled: held 30, charged now: True
used 62.5, held 0, free 37.5
"""

CASCADE = """\
batch 1: 1274 documents so far
batch 2: 2574 documents so far
deleted: {'books': 99, 'reviews': 495, 'chapters': 990, 'notes': 990}
in a transaction: 26
orphans: {'reviews': 5, 'chapters': 10, 'notes': 0}
deleted: {'reviews': 5, 'chapters': 10, 'notes': 10}
left: 0
"""
JOINS = """\
0: done, easy, verbs; 2 answers, 5 points
1: draft, easy, exam; 1 answers, 0 points
2: not_answered, exam, verbs; 0 answers, 0 points
not answered: [2, 3] of 4
response: batch, one command for all parents
tags: batch, one command for all parents
answers: lookup, rows are filtered by what it joins
points: batch, one command for all parents
"""
LOADER = """\
100 posts, commands sent: 1
post 0 by Ann
post 1 by Bob
post 2 by Ann
post 3 by nobody
['Bob', None, 'Ann']
Ann -> Anna
"""
REPORTS = """\
sessions 5, users 3, minutes 141.7, cost 0.70, failed 40.0, mine 2
27 Mar    None
28 Mar #  1500.0
29 Mar ### 1333.0
30 Mar    None
31 Mar #  3000.0
0-600: 1, 600-1800: 2, 1800-3600: 2
Ann: 4200, Bob: 3400
3 of 5
2 more, and then None
400: malformed
auto, 0 findings
"""
PAGER = """\
6 Ann, 7 Bob, 8 Ann, 9 Bob
older: [2, 3, 4, 5]
back: [7, 8, 9, 10] and there is more: False
refused: filter
all: [10, 9, 8, 7, 5, 4, 3, 2, 1, 0]
served by an index: True
"""
BUFFER = """\
stored: True
refused: there is one with this id
events: 1001
u0: 143 calls for 14.3
dead letters: [('insert', 8)]
a tenth as many batches, or fewer: True
billed: 50.0
"""
DEPLOYMENT = """\
transactions: True, a majority answers: True
kind: replica_set, findings: 0
lacking: too-few-members, no-tls
alive: True, the primary answers
60% of the pool is in use
80% of the pool is in use
in use at most: 8, now: 0, refused: 0
slow, 8 times: users filter={$where: ?, _id: ?}
"""
KEYED_SET = """50 of 80 are in, stored 50
added: 1
removed: 0
again: already
{'👍': 50}
added 3, missing 1
"""

SLOTS = """\
streaming: 3 of 20, on slots [0, 1, 2]
renewed: True
refused: all 3 are held
with a family plan: acquired
released: released, again: lost
next: acquired
the third one: lost
"""
UNIQUE_CODE = """\
parties: 100, different codes: 100
found: host 7
assigned: 1 code
taken: True
given again: dan
"""
DOCUMENTS = """\
made by 1 of 50, different documents 1
made: False, saves 50, history 20
accepted 1 of 50
expired: True
"""

VALIDATORS = """\
strict, error
  _id (required): int or long
  total (required): decimal, finite, minimum 0
  status: enum ['open', 'paid']
  note: string, maxLength 100
  due: date or null
  placed (required): date
  lines (required): array, of object, minItems 1
    sku (required): string, minLength 1, maxLength 120, \
pattern ^[^$.\\x{0}-\\x{1F}\\x{7F}-\\x{9F}][^.\\x{0}-\\x{1F}\\x{7F}-\\x{9F}]*\\z
    amount (required): int or long, minimum 1, maximum 100
    no other fields
read back: True
note: ring twice
refused: [True, True, True, True, True]
taken: True
model: placed is a naive datetime
"""
SCHEMA = """\
changes: 5, blocked: ["Index('mail', unique=True)"]
nothing was done: 1 change is blocked
removed: [0, 2]
1/5 create collection: time series
2/5 change collection: validator (strict, error)
3/5 change index: Index('mail', unique=True)
4/5 create index: Index.ttl('expires_at', after=2592000)
5/5 create index: Index('user_id', unique=True)
left to change: 0
found: ['unknown-index']
"""

CLIENT = """\
each node of M10 takes 1500 connections, of which 150 are left to others
60 processes x 1 client x (a pool of 20 + 2 monitors) = 1320 connections to a server at most
maxPoolSize=20: one more each would not fit, and 50 are wanted
look at it when a server has 900 connections (60 %) or 1200 connections (80 %)
opening all of them takes 88 s (15 new ones a second on each node), of which the monitors take 8 s: start processes \
one after the other
timeoutMS: Chosen where 'orders' is defined.
clients: 1 orders: 100
within the budget: True
budget: 400 x 1 clients need 1200 connections to each server, and M0 takes 500, 50 of them in reserve. What would fit: \
at most 150 processes, or tier M10
"""

PRINTED = {
    "buffer_async.py": BUFFER,
    "buffer_sync.py": BUFFER,
    "capped_set_async.py": CAPPED_SET,
    "capped_set_sync.py": CAPPED_SET,
    "cascade_async.py": CASCADE,
    "cascade_sync.py": CASCADE,
    "client_async.py": CLIENT,
    "client_sync.py": CLIENT,
    "combining_async.py": COMBINING_ASYNC,
    "combining_sync.py": COMBINING_SYNC,
    "counter_async.py": COUNTER,
    "counter_sync.py": COUNTER,
    "deployment_async.py": DEPLOYMENT,
    "deployment_sync.py": DEPLOYMENT,
    "documents_async.py": DOCUMENTS,
    "documents_sync.py": DOCUMENTS,
    "joins_async.py": JOINS,
    "joins_sync.py": JOINS,
    "keyed_set_async.py": KEYED_SET,
    "keyed_set_sync.py": KEYED_SET,
    "limiter_async.py": LIMITER,
    "limiter_sync.py": LIMITER,
    "loader_async.py": LOADER,
    "loader_sync.py": LOADER,
    "pager_async.py": PAGER,
    "pager_sync.py": PAGER,
    "quota_async.py": QUOTA,
    "quota_sync.py": QUOTA,
    "reports_async.py": REPORTS,
    "reports_sync.py": REPORTS,
    "reservation_async.py": RESERVATION,
    "reservation_sync.py": RESERVATION,
    "schema_async.py": SCHEMA,
    "schema_sync.py": SCHEMA,
    "slots_async.py": SLOTS,
    "slots_sync.py": SLOTS,
    "unique_code_async.py": UNIQUE_CODE,
    "unique_code_sync.py": UNIQUE_CODE,
    "validators_async.py": VALIDATORS,
    "validators_sync.py": VALIDATORS,
}


def test_every_example_is_run() -> None:
    """No file of the folder is left out; what runs the applications is no example."""
    assert sorted(file.name for file in EXAMPLES.iterdir() if file.is_file()) == sorted([*PRINTED, "__main__.py"])


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
