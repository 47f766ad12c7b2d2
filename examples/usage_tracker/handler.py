"""The handler of a serverless function: what has an account left?

A provider starts as many containers as there are requests at once, and freezes each between two of them.
"""

import datetime as dt
import json
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from typing import Any

from pymongo.database import Database

from mongopatterns import NotSent, Profile, Quota, RateLimiter, WriteBuffer, make_client

from . import settings, specs


@dataclass(frozen=True)
class Container:
    """What is kept from one request to the next, for as long as the container lives."""

    db: Database[dict[str, Any]]
    calls: RateLimiter
    minutes: Quota
    buffer: WriteBuffer


@cache
def container() -> Container:
    """Connect at the first request. Nothing is closed: the provider ends a container without a word."""
    client = make_client(settings.uri(), profile=Profile.SERVERLESS, budget=specs.BUDGET, app_name="usage-handler")
    db = client[settings.database()]
    return Container(db, RateLimiter(db, specs.CALLS), Quota(db, specs.MINUTES), WriteBuffer(client))


def handler(event: dict[str, Any], _context: object = None) -> dict[str, Any]:
    """Answer a request."""
    here = container()
    call = here.calls.hit(event["ip"])
    if not call:  # one round trip, and nothing was written
        return {"statusCode": 429, "headers": call.headers(), "body": ""}

    account = event["account"]
    here.buffer.insert(here.db.requests, {"account": account, "at": dt.datetime.now(dt.timezone.utc)})
    here.buffer.increment(here.db.accounts, account, {"requests": 1}, set_now=["seen"])
    left = here.minutes.peek(account).remaining["month"]
    with suppress(NotSent):  # what takes longer is sent when the container goes on: the answer does not depend on it
        here.buffer.flush(timeout=2)  # after the answer the container is frozen, and its threads with it
    return {"statusCode": 200, "headers": call.headers(), "body": json.dumps({"account": account, "left": left})}
