"""A live-subtitling service: who may go on, who is watching, and what was used.

Run it with `make app NAME=live_quotas`. The database decides on every limit in the write that charges, so any number of
processes may run this. Here the path says who the user is; in your service it is whoever is logged in.
"""

import asyncio
import datetime as dt
import logging
import os
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Path, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import PyMongoError

from mongopatterns import (
    AsyncDeployment,
    AsyncDocuments,
    AsyncHealth,
    AsyncQuota,
    AsyncReport,
    AsyncSchema,
    AsyncWriteBuffer,
    DocumentNotFound,
    LimitExceeded,
    NotSent,
    OutcomeUnknown,
    Profile,
    may_have_applied,
    shared_async_client,
    to_document,
)

from . import specs
from .models import Account, Minutes, Period, Progress, Spoken

LOG = logging.getLogger(__name__)
JOB_MAY_TAKE = 2 * 3600  # seconds; a hold cannot be prolonged


@dataclass(frozen=True)
class Service:
    """What the handlers work with: bound once, shared by all requests."""

    db: AsyncDatabase[dict[str, Any]]
    health: AsyncHealth
    users: AsyncDocuments
    subtitles: AsyncQuota
    dubbing: AsyncQuota
    usage: AsyncReport
    buffer: AsyncWriteBuffer


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[dict[str, Service]]:
    """Connect, check the server, bring the database to what the code needs; in the end, send what is buffered."""
    uri = os.environ.get("MONGODB_URI", "mongodb://localhost:27017")
    connect = shared_async_client(uri, profile=Profile.WEB, budget=specs.BUDGET, app_name="live_quotas")
    async with connect as client:
        await AsyncDeployment(client).check(specs.NEEDS)
        db = client[os.environ.get("MONGODB_DATABASE", "live_quotas")]
        await AsyncSchema(db, specs.SCHEMA).apply(timeout=300)
        # What the server refuses, and nobody waits for, is kept: nothing is lost in silence.
        async with AsyncWriteBuffer(client, on_dead_letter=db["dead_letters"]) as buffer:
            service = Service(
                db=db,
                health=AsyncHealth(client),
                users=AsyncDocuments(db, specs.USERS),
                subtitles=AsyncQuota(db, specs.SUBTITLES, combine=True),  # requests of one user share round trips
                dubbing=AsyncQuota(db, specs.DUBBING),
                usage=AsyncReport(db, specs.USAGE),
                buffer=buffer,
            )
            yield {"service": service}


app = FastAPI(title="Live quotas", lifespan=lifespan)


def running(request: Request) -> Service:
    service: Service = request.state.service
    return service


Running = Annotated[Service, Depends(running)]
Id = Annotated[str, Path(min_length=1, max_length=64)]  # any text: as a value it is data, whatever it looks like


# Users ................................................................................................................


@app.put("/users/{user}")
async def put_user(user: Id, account: Account, service: Running) -> dict[str, bool]:
    stored = await service.users.upsert(user, set=account.model_dump(exclude_none=True))
    return {"created": stored.created}


@app.get("/users/{user}/quota")
async def get_quota(user: Id, service: Running) -> dict[str, Any]:
    subtitles, dubbing = await asyncio.gather(service.subtitles.peek(user), service.dubbing.peek(user))
    return {"subtitle": subtitles.to_dict(), "dubbing": dubbing.to_dict()}


# Subtitles: charged as they are spoken ................................................................................


@app.post("/users/{user}/subtitles")
async def consume(user: Id, spoken: Spoken, service: Running, response: Response) -> dict[str, Any]:
    """Charge minutes if there is room in the hour, the day and the month: 429 if not."""
    decision = (await service.subtitles.consume(user, spoken.minutes, once=spoken.id)).require()
    response.headers.update(decision.headers())
    return decision.to_dict()


@app.post("/users/{user}/subtitles/offline")
async def record(user: Id, spoken: Spoken, service: Running) -> dict[str, Any]:
    """Count minutes that a device has made without asking: room or not, they have happened."""
    return (await service.subtitles.record(user, spoken.minutes, once=spoken.id)).to_dict()


# Dubbing: held while the job runs, charged when it is done ............................................................


@app.post("/users/{user}/dubbing", status_code=202)
async def accept(user: Id, estimate: Minutes, service: Running, response: Response) -> dict[str, Any]:
    """Hold the minutes and note the job: 429 if there is no room."""
    held = (await service.dubbing.reserve(user, estimate.minutes, ttl=JOB_MAY_TAKE)).require()
    job = {"_id": uuid.uuid4().hex, "user": user, "minutes": estimate.minutes, "expires_at": held.expires_at}
    try:
        await service.db["jobs"].insert_one(to_document({**job, "token": held.token}))
    except Exception:
        await service.dubbing.release(held.token)  # no job, no hold
        raise
    response.headers.update(held.decision.headers())
    return {"job": job["_id"], "expires_at": held.expires_at}


async def token_of(job: Id, service: Running) -> str:
    """Return the token of a job's reservation; it does not leave the service."""
    found = await service.db["jobs"].find_one({"_id": job}, {"token": 1})
    if found is None:
        raise DocumentNotFound("jobs", job)
    return str(found["token"])


@app.post("/dubbing/{job}/done")
async def settle(token: Annotated[str, Depends(token_of)], took: Minutes, service: Running) -> dict[str, Any]:
    """Charge what the job took. Queues deliver twice: the second time nothing is charged."""
    return (await service.dubbing.settle(token, took.minutes)).to_dict()


@app.delete("/dubbing/{job}")
async def cancel(token: Annotated[str, Depends(token_of)], service: Running) -> dict[str, bool]:
    return {"released": await service.dubbing.release(token)}


# Sessions: many small updates from several devices, sent in batches ...................................................


@app.post("/users/{user}/sessions", status_code=201)
async def begin(user: Id, service: Running) -> dict[str, str]:
    (await service.subtitles.peek(user)).require()  # who has no minute left need not begin
    session = uuid.uuid4().hex
    start = {"$set": {"user": user}, "$currentDate": {"started_at": True}}
    # It is stored when this answers, for its devices may talk to other processes.
    await (await service.buffer.update(service.db["sessions"], session, start, upsert=True))
    return {"session": session}


@app.post("/sessions/{session}/progress", status_code=202)
async def progress(session: Id, shown: Progress, service: Running) -> dict[str, bool]:
    """Accept an update, without a round trip: those of one session that wait together are sent as one.

    The progress of a session that nobody began is refused by the validator, and becomes a dead letter.
    """
    amounts = {"seconds": shown.seconds, f"devices.{shown.device}": shown.seconds}
    if shown.lines:  # an amount is greater than 0
        amounts["lines"] = shown.lines
    await service.buffer.increment(service.db["sessions"], session, amounts, set_now=["seen_at"])
    return {"accepted": True}


# The report ...........................................................................................................


@app.get("/usage")
async def usage(period: Annotated[Period, Query()], service: Running) -> dict[str, Any]:
    """Tell what was used: in total, by whom most, and on which days. All of one instant, so that it adds up."""
    begins = dt.datetime.combine(period.first, dt.time(), specs.ZONE)
    ends = dt.datetime.combine(period.last + dt.timedelta(days=1), dt.time(), specs.ZONE)
    where: dict[str, Any] = {"started_at": {"$gte": begins, "$lt": ends}}
    if period.user is not None:
        where["user"] = {"$eq": period.user}  # a value, never an operator
    return await service.usage.run(where, consistent=True, timeout=10)


# Probes ...............................................................................................................


@app.get("/livez")
async def live(service: Running) -> dict[str, Any]:
    return (await service.health.live()).to_dict()


@app.get("/readyz")
async def ready(service: Running) -> JSONResponse:
    report = await service.health.ready(timeout=1)
    return JSONResponse(report.to_dict(), 200 if report else 503)


# What the outcomes of the patterns are in HTTP ........................................................................


@app.exception_handler(LimitExceeded)
async def no_room(_: Request, error: LimitExceeded) -> JSONResponse:
    decision = error.decision
    told = {"error": str(error), "limited_by": decision.limited_by, "retry_after": decision.retry_after}
    return JSONResponse(told, 429, headers=decision.headers())


@app.exception_handler(DocumentNotFound)
async def not_found(_: Request, error: DocumentNotFound) -> JSONResponse:
    return JSONResponse({"error": f"not among the {error.collection}"}, 404)


@app.exception_handler(PyMongoError)
@app.exception_handler(OutcomeUnknown)
@app.exception_handler(NotSent)
async def not_confirmed(request: Request, error: Exception) -> JSONResponse:
    """Say whether it may be stored all the same: a repeat with the same `id` counts once."""
    LOG.error("%s was not confirmed", request.url.path, exc_info=error)
    return JSONResponse({"error": "not confirmed by the database", "may_have_applied": may_have_applied(error)}, 503)


@app.exception_handler(RequestValidationError)
async def bad_input(_: Request, error: RequestValidationError) -> JSONResponse:
    """Name what is wrong without repeating it: JSON takes NaN and halves of surrogates in, and not out."""
    return JSONResponse({"error": [{"at": problem["loc"], "what": problem["msg"]} for problem in error.errors()]}, 422)
