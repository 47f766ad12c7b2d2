"""The application: what happens at the start, what each route does, and what refusals mean in HTTP.

Whoever calls is named by the header `X-User`. A real application has a signed-in user there.
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

from bson import ObjectId
from fastapi import Depends, FastAPI, Header, Request
from fastapi.responses import JSONResponse
from pymongo import AsyncMongoClient
from pymongo.asynchronous.database import AsyncDatabase

from examples.watch_party import specs
from examples.watch_party.models import (
    ChatMessage,
    Left,
    Message,
    NewMessage,
    NewParty,
    Party,
    Reacted,
    Reaction,
    Reactions,
    Seat,
    UserName,
    this_moment,
)
from mongopatterns import (
    AddManyResult,
    AsyncCappedSet,
    AsyncDeployment,
    AsyncHealth,
    AsyncKeyedSet,
    AsyncPager,
    AsyncRateLimiter,
    AsyncSchema,
    AsyncUniqueCode,
    Conflict,
    DocumentNotFound,
    InvalidCursor,
    JoinResult,
    KeyedSetResult,
    LeaveResult,
    LimitExceeded,
    MongoPatternsError,
    NotHeld,
    ObjectIdStr,
    Page,
    Profile,
    RateDecision,
    shared_async_client,
    to_document,
)

# The start ------------------------------------------------------------------------------------------------------


class WatchParty:
    """The patterns, bound to a database once and shared by all requests."""

    def __init__(self, client: AsyncMongoClient[dict[str, Any]], db: AsyncDatabase[dict[str, Any]]) -> None:
        self.codes = AsyncUniqueCode(db, specs.CODES)
        self.seats = AsyncCappedSet(db, specs.SEATS)
        self.posting = AsyncRateLimiter(db, specs.POSTING)
        self.messages = db.messages
        self.history = AsyncPager(db, specs.HISTORY)
        self.reactions = AsyncKeyedSet(db, specs.REACTIONS)
        self.health = AsyncHealth(client)

    async def require_messages(self, party: str, messages: list[ObjectIdStr]) -> None:
        """See that the messages are of this party. They never move to another, so that looking first is no race."""
        wanted = {ObjectId(message) for message in messages}
        found = await self.messages.distinct("_id", {"_id": {"$in": [*wanted]}, "party": ObjectId(party)})
        if missing := wanted.difference(found):
            raise DocumentNotFound("messages", min(missing))


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[dict[str, WatchParty]]:
    """Connect, see that the server can do what is asked of it, and bring the database to what the code needs."""
    uri = os.environ.get("MONGODB_URI", "mongodb://localhost:27017")
    async with shared_async_client(uri, profile=Profile.WEB, budget=specs.BUDGET, app_name="watch-party") as client:
        await AsyncDeployment(client).check(specs.NEEDS, timeout=10)
        db = client[os.environ.get("MONGODB_DATABASE", "watch_party")]
        await AsyncSchema(db, specs.SCHEMA).apply(timeout=300)
        yield {"service": WatchParty(client, db)}


# Refusals -------------------------------------------------------------------------------------------------------

STATUS: dict[type[MongoPatternsError], tuple[int, str]] = {
    InvalidCursor: (400, "this cursor belongs to no page of this history"),
    NotHeld: (403, "you have no seat in this party"),
    DocumentNotFound: (404, "there is no such thing"),
    LimitExceeded: (409, "there is no room"),
    Conflict: (410, "the party is over"),
}


async def refuse(_: Request, error: MongoPatternsError) -> JSONResponse:
    """Answer what `require()` has raised. What is not in `STATUS` is no fault of the client's: it stays a 500."""
    decision = getattr(error, "decision", None)
    if isinstance(decision, RateDecision):
        return JSONResponse({"detail": "not so fast"}, 429, decision.headers())
    status, detail = STATUS[type(error)]
    return JSONResponse({"detail": detail}, status)


app = FastAPI(title="Watch party", lifespan=lifespan, exception_handlers=dict.fromkeys(STATUS, refuse))

# Who asks -------------------------------------------------------------------------------------------------------


async def bound(request: Request) -> WatchParty:
    return request.state.service


Bound = Annotated[WatchParty, Depends(bound)]
User = Annotated[UserName, Header(alias="X-User")]


async def member(party: ObjectIdStr, user: User, service: Bound) -> str:
    """Let in who has a seat. Whatever a member does keeps the seat for another while."""
    (await service.seats.touch(party, user)).require()
    return user


Member = Annotated[str, Depends(member)]

# Parties --------------------------------------------------------------------------------------------------------


@app.post("/parties", status_code=201, response_model=Party)
async def open_party(new: NewParty, user: User, service: Bound) -> dict[str, Any]:
    """Open a party under a code that no other open one has; who opens it is the first to join, and so the host."""
    party = await service.codes.insert({**new.model_dump(), "ended_at": None})
    (await service.seats.join(party["_id"], {"user": user})).require()
    return party


@app.get("/codes/{code}", response_model=Party)
async def find_party(code: str, service: Bound) -> dict[str, Any]:
    party = await service.codes.find(code.upper(), fields=["code", "title", "seats"])
    if party is None:
        raise DocumentNotFound("parties", code)
    return party


@app.put("/parties/{party}/seat", response_model=Seat)
async def join(party: ObjectIdStr, user: User, service: Bound) -> JoinResult:
    """Take a seat, or keep the one that the caller has: this is the heartbeat, too."""
    return (await service.seats.join(party, {"user": user})).require()


@app.delete("/parties/{party}/seat", response_model=Left)
async def leave(party: ObjectIdStr, user: User, service: Bound) -> LeaveResult:
    return (await service.seats.leave(party, user)).require()


@app.get("/parties/{party}/seats")
async def seats(party: ObjectIdStr, service: Bound) -> list[str]:
    return [seat["user"] for seat in await service.seats.members(party)]


# Chat -----------------------------------------------------------------------------------------------------------


@app.post("/parties/{party}/messages", status_code=201, response_model=ChatMessage)
async def post(party: ObjectIdStr, new: NewMessage, user: Member, service: Bound) -> dict[str, Any]:
    (await service.posting.hit(f"{party}:{user}")).require()
    message = to_document(Message(party=ObjectId(party), user=user, text=new.text, sent_at=this_moment()))
    await service.messages.insert_one(message)
    return message


@app.get("/parties/{party}/messages")
async def history(party: ObjectIdStr, _: Member, service: Bound, cursor: str | None = None) -> Page[ChatMessage]:
    """Show the newest messages, or those that a cursor leads to: `next` to older ones, `previous` to newer ones."""
    return await service.history.page({"party": ObjectId(party)}, cursor=cursor, model=ChatMessage)


@app.post("/parties/{party}/messages/{message}/reactions", response_model=Reacted)
async def react(
    party: ObjectIdStr, message: ObjectIdStr, reaction: Reaction, user: Member, service: Bound
) -> KeyedSetResult:
    """Set a reaction, or take it back."""
    await service.require_messages(party, [message])
    return (await service.reactions.toggle(message, reaction.name, user)).require()


@app.post("/parties/{party}/reactions")
async def react_to_many(party: ObjectIdStr, reactions: Reactions, user: Member, service: Bound) -> AddManyResult:
    """Set one reaction on many messages, in one command."""
    await service.require_messages(party, reactions.messages)
    return await service.reactions.add_many(reactions.messages, reactions.name, user)


# Probes ---------------------------------------------------------------------------------------------------------


@app.get("/livez")
async def live(service: Bound) -> dict[str, Any]:
    return (await service.health.live()).to_dict()


@app.get("/readyz")
async def ready(service: Bound) -> JSONResponse:
    report = await service.health.ready(timeout=1)
    return JSONResponse(report.to_dict(), 200 if report else 503)
