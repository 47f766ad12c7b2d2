"""Against Beanie: linked documents, and writes in bulk.

Both sides give the same Pydantic models. Flights name their plane by a link, which Beanie follows by `$lookup`
(`fetch_links=True`) before it sorts and limits: of a page that is a limit it joins all that the filter finds, here up
to 5,000 flights. So pages whose filter says where they end are compared, too. Ours asks for all planes of the page at
once, by the same key. In bulk, Beanie's `BulkWriter` holds the writes of one block and sends them at its end; a buffer
stays open, and each write is acknowledged by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from bson import DBRef
from pydantic import BaseModel, Field
from pymongo.write_concern import WriteConcern

from benchmarks import joins
from benchmarks._rows import Calls, Measurable, Row
from benchmarks._worlds import Stage, Tally, World
from mongopatterns import AsyncJoin, AsyncWriteBuffer, JoinSpec, One

WORLDS: Final = (World("async", 1),)
BATCH: Final = 500
FLIGHTS: Final = 5_000


class PlaneView(BaseModel):
    """A plane."""

    id: str = Field(alias="_id")
    manufacturer: str
    seats: int


class FlightView(BaseModel):
    """A flight with its plane."""

    id: int = Field(alias="_id")
    tailnum: str
    dest: str
    plane: PlaneView | None


SPEC: Final = JoinSpec(
    "flights",
    joins=[One("planes", local="tailnum", foreign="_id", as_="plane", fields=["manufacturer", "seats"])],
)


@cache
def models() -> tuple[Any, Any]:
    """Declare the same for Beanie: it is imported only where it is compared."""
    from beanie import Document, Link  # noqa: PLC0415

    class Plane(Document):
        id: str  # type: ignore[assignment]
        manufacturer: str
        seats: int

        class Settings:
            name = "planes"

    class Flight(Document):
        id: int  # type: ignore[assignment]
        tailnum: str
        dest: str
        plane: Link[Plane]

        class Settings:
            name = "flights"

    Flight.model_rebuild(_types_namespace={"Link": Link, "Plane": Plane})
    return Plane, Flight


@cache
def event() -> Any:
    """Declare what is written in bulk."""
    from beanie import Document  # noqa: PLC0415

    class Event(Document):
        tailnum: str
        dest: str

        class Settings:
            name = "beanies"

    return Event


def seed(database: Any) -> None:
    """Store flights whose plane is known, with links to them."""
    if database["flights"].find_one() is not None:
        return
    found = joins.rows()
    planes = {row["tailnum"]: row for row in found.planes}
    database["planes"].insert_many({"_id": tailnum, **row} for tailnum, row in planes.items())
    database["flights"].insert_many(
        {
            "_id": number,
            "tailnum": flight["tailnum"],
            "dest": flight["dest"],
            "plane": DBRef("planes", flight["tailnum"]),
        }
        for number, flight in enumerate([each for each in found.flights if each["tailnum"] in planes][:FLIGHTS])
    )


def told(rows: Any) -> Any:
    """Tell what both sides must agree on."""
    return [(row.id, row.tailnum, row.dest, row.plane.id, row.plane.manufacturer, row.plane.seats) for row in rows]


def page(key: int, size: int, *, limited: bool) -> dict[str, Any]:
    """Return how a page is asked for: by its limit, or by a filter with an end."""
    if limited:
        return {"filter": {"_id": {"$gte": key}}, "sort": [("_id", 1)], "limit": size}
    return {"filter": {"_id": {"$gte": key, "$lt": key + size}}, "sort": [("_id", 1)]}


def ours(size: int, *, limited: bool) -> Calls:
    def bind(database: Any) -> Callable[..., Any]:
        join = AsyncJoin(database, SPEC)

        async def find(key: int) -> Any:
            return await join.find(**page(key, size, limited=limited), model=FlightView)

        return find

    return Calls(bind, bind, told, seed=seed)


@dataclass(frozen=True, slots=True)
class Beanie:
    """A side that Beanie does.

    Attributes:
        make: Makes the function to call, of the documents of Beanie.
        documents: Returns them.
        answer: What both sides must agree on.
        tally: What is stored.
    """

    make: Callable[..., Callable[..., Any]]
    documents: Callable[[], Any]
    answer: Callable[[Any], Any] = lambda reply: reply
    tally: Tally | None = None

    def bind(self, world: World, stage: Stage) -> Callable[..., Any]:
        del world
        from beanie import init_beanie  # noqa: PLC0415

        documents = self.documents()
        listed = list(documents) if isinstance(documents, tuple) else [documents]
        database = stage.database.with_options(write_concern=WriteConcern("majority"))
        stage.call(init_beanie, {"database": database, "document_models": listed})
        return self.make(*listed)


def linked(size: int, *, limited: bool) -> Beanie:
    def make(_: Any, flight: Any) -> Callable[..., Any]:
        async def find(key: int) -> Any:
            asked = page(key, size, limited=limited)
            return await flight.find(
                asked["filter"], sort=asked["sort"], limit=asked.get("limit"), fetch_links=True
            ).to_list()

        return find

    return Beanie(make, models, told)


# In bulk ------------------------------------------------------------------------------------------------------------


def batch() -> list[dict[str, Any]]:
    """Return new documents."""
    return [{"tailnum": flight["tailnum"] or "", "dest": flight["dest"]} for flight in joins.rows().flights[:BATCH]]


def batches_in(collection: str) -> Tally:
    """Count what is stored, in whole batches."""

    def tally(database: Any, keys: Collection[Any]) -> int:
        del keys
        stored, rest = divmod(database[collection].count_documents({}), BATCH)
        return -1 if rest else stored

    return tally


def buffered(database: Any) -> Callable[..., Any]:
    buffer, collection = AsyncWriteBuffer(database.client, max_items=BATCH), database["ours"]

    async def store(_: Any) -> None:
        for document in batch():
            await buffer.insert(collection, document)
        await buffer.flush()

    return store


def in_bulk(document: Any) -> Callable[..., Any]:
    from beanie import BulkWriter  # noqa: PLC0415

    async def store(_: Any) -> None:
        async with BulkWriter(ordered=False) as writer:
            for fields in batch():
                await document.insert_one(document(**fields), bulk_writer=writer)

    return store


def nothing(reply: object) -> None:
    """Agree on nothing but what is stored."""


LINKS: Final = tuple(
    Row(
        f"Join.find, {size} flights with their plane, as models, {'by a limit' if limited else 'by a filter'}",
        "Beanie, fetch_links",
        ours(size, limited=limited),
        linked(size, limited=limited),
        [{"key": start} for start in (0, 777, 4_000)],
        keys=tuple(range(0, 4_000, max(size, 500))),
        worlds=WORLDS,
    )
    for size, limited in ((50, False), (500, False), (50, True))
)
BULK: Final = Row(
    f"WriteBuffer.insert, {BATCH} documents",
    "Beanie, BulkWriter",
    Calls(buffered, buffered, nothing, batches_in("ours")),
    Beanie(in_bulk, event, nothing, batches_in("beanies")),
    [],
    worlds=WORLDS,
)

ROWS: Final[tuple[Measurable, ...]] = (*LINKS, BULK)
