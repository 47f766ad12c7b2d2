"""What `mock_table.py` asks of a mock: one function for each row of its table, in the order of the table.

A scenario calls a primitive and says what is right with `expect`. It asks for the promise itself, such as a limit that
refuses and a window that ends, so that an answer which only looks right is not enough. What is stored at the end is
compared by the table. What a scenario needs before its call is stored by a real server (`World.given`): a row is about
one call, and none fails for what another call does on the mock.
"""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from pymongo.errors import OperationFailure

from mongopatterns import (
    AsyncCappedSet,
    AsyncCascade,
    AsyncCounter,
    AsyncDeployment,
    AsyncDocuments,
    AsyncHealth,
    AsyncJoin,
    AsyncKeyedSet,
    AsyncLoader,
    AsyncPager,
    AsyncQuota,
    AsyncRateLimiter,
    AsyncReport,
    AsyncSchema,
    AsyncSlots,
    AsyncUniqueCode,
    AsyncWriteBuffer,
    Branch,
    CappedSetSpec,
    CascadeSpec,
    CollectionSpec,
    Conflict,
    Count,
    CounterSpec,
    CountOf,
    Distinct,
    DocumentSpec,
    Exists,
    Field,
    GroupBy,
    Histogram,
    Index,
    JoinSpec,
    KeyedSetSpec,
    LoaderSpec,
    Many,
    One,
    PageOf,
    PagerSpec,
    Param,
    PoolMonitor,
    Profile,
    QuotaSpec,
    Rate,
    RateLimiterSpec,
    Ratio,
    Raw,
    RepeatedCommands,
    ReportSpec,
    Requirements,
    Rollover,
    SchemaDrift,
    SchemaSpec,
    SlotsSpec,
    SlowQueries,
    StateError,
    Sum,
    SumOf,
    TimeBuckets,
    Top,
    Totals,
    UniqueCodeSpec,
    Validator,
    Waiting,
    Window,
    make_async_client,
    shared_async_client,
)
from mongopatterns.testing import CommandWatcher, n_plus_one_guard

UTC = dt.timezone.utc
NINE = dt.datetime(2025, 1, 1, 9, 30, tzinfo=UTC)
TEN = NINE + dt.timedelta(hours=1)
NOWHERE = "mongodb://127.0.0.1:1"


def after(seconds: float) -> dt.datetime:
    """Give a time so many seconds after `NINE`."""
    return NINE + dt.timedelta(seconds=seconds)


class Wrong(Exception):
    """An answer that is not the right one."""


def expect(answer: object, right: object) -> None:
    """Go on if the answer is right.

    Raises:
        Wrong: If it is not.
    """
    if answer != right:
        raise Wrong(f"`{answer!r}`, not `{right!r}`")


@dataclass(frozen=True)
class World:
    """Where a scenario runs: on the real server or on the mock.

    Attributes:
        client: The client.
        db: An empty database.
        connect: Makes another client: of a URI, with options.
        kind: The class of the client.
        uri: Where the server is.
        given: Makes a call on a real server, and has what it stores in `db`.
    """

    client: Any
    db: Any
    connect: Callable[..., Any]
    kind: type[Any]
    uri: str
    given: Callable[[Callable[[Any], Awaitable[Any]]], Awaitable[Any]]

    async def fill(self, **collections: list[dict[str, Any]]) -> None:
        """Store documents, by the collection's name."""
        for name, documents in collections.items():
            await self.db[name].insert_many(documents)

    async def index(self, spec: Any) -> None:
        """Make the indexes that a definition of a pattern needs."""
        needed = spec.indexes()
        for name, indexes in (needed if isinstance(needed, Mapping) else {spec.collection: needed}).items():
            for index in indexes:
                await self.db[name].create_index(index.keys, **index.options)


Scenario = Callable[[World], Awaitable[None]]


@dataclass
class Rows:
    """The rows of the table, by what is called."""

    scenarios: dict[str, Scenario] = field(default_factory=dict)

    def __call__(self, called: str) -> Callable[[Scenario], Scenario]:
        """Take a scenario for the table; its docstring is what is asked for."""

        def take(scenario: Scenario) -> Scenario:
            self.scenarios[called] = scenario
            return scenario

        return take


row = Rows()

# Counters .............................................................................................................

HITS = CounterSpec("counters", path="n")


@row("Counter.add")
async def counter_add(world: World) -> None:
    """Adds to what is stored, and gives the total."""
    hits = AsyncCounter(world.db, HITS)
    expect(await hits.add("home", 2), 2)
    expect(await hits.add("home", 3), 5)


@row("Counter.add, fractions")
async def counter_add_fractions(world: World) -> None:
    """Ten times 0.1 is 1."""
    hits = AsyncCounter(world.db, HITS)
    totals = [await hits.add("home", 0.1) for _ in range(10)]
    expect(totals[-1], 1)


@row("Counter.add, once=")
async def counter_add_once(world: World) -> None:
    """A repeat with the same id adds nothing."""
    hits = AsyncCounter(world.db, HITS)
    expect(await hits.add("home", 2, once="a"), 2)
    expect(await hits.add("home", 2, once="a"), 2)


@row("Counter.add, meters=")
async def counter_add_meters(world: World) -> None:
    """Adds to meters in the same write."""
    hits = AsyncCounter(world.db, CounterSpec("counters", path="n", meters=["bytes"]))
    expect(await hits.add("home", 1, meters={"bytes": 100}), 1)
    expect(await hits.add("home", 1, meters={"bytes": 200}), 2)


@row("Counter.add, stripes=")
async def counter_add_stripes(world: World) -> None:
    """The sum of the documents that it is spread over."""
    hits = AsyncCounter(world.db, CounterSpec("counters", path="n", stripes=3))
    for _ in range(6):
        await hits.add("home", 2)
    expect(await hits.value("home"), 12)


@row("Counter.add, combine=True")
async def counter_add_combined(world: World) -> None:
    """Callers that share a command get a total each."""
    async with AsyncCounter(world.db, HITS, combine=True) as hits:
        totals = await asyncio.gather(*(hits.add("home", amount) for amount in (1, 1, 2, 5, 1)))
    expect(totals, [1, 2, 4, 9, 10])


@row("Counter.add, set_now=")
async def counter_add_now(world: World) -> None:
    """Stores the server's time in the same write."""
    await AsyncCounter(world.db, CounterSpec("counters", path="n", set_now=["at"])).add("home", 1)
    stored = await world.db["counters"].find_one({"_id": "home"})
    expect(isinstance(stored.get("at"), dt.datetime), right=True)


@row("Counter.add, a text stored")
async def counter_add_to_a_text(world: World) -> None:
    """Refuses to add to what is no number, and leaves it as it is."""
    await world.fill(counters=[{"_id": "home", "n": "5"}])
    try:
        await AsyncCounter(world.db, HITS).add("home", 1)
    except OperationFailure as error:
        expect(error.code, 14)
    else:
        raise Wrong("no error")


@row("Counter.add, session=")
async def counter_add_in_a_transaction(world: World) -> None:
    """A transaction that is aborted adds nothing."""
    hits = AsyncCounter(world.db, HITS)
    await hits.add("home", 1)
    async with world.client.start_session() as session:
        await session.start_transaction()
        expect(await hits.add("home", 5, session=session), 6)
        await session.abort_transaction()
    expect(await hits.value("home"), 1)


@row("Counter.value")
async def counter_value(world: World) -> None:
    """Gives what is stored, and 0 where nothing is."""
    await world.given(lambda db: AsyncCounter(db, HITS).add("home", 5))
    hits = AsyncCounter(world.db, HITS)
    expect([await hits.value("home"), await hits.value("away")], [5, 0])


@row("Counter.values")
async def counter_values(world: World) -> None:
    """Gives what is stored for every key, in the order asked."""
    await world.given(lambda db: AsyncCounter(db, HITS).add("home", 5))
    expect(await AsyncCounter(world.db, HITS).values(["away", "home"]), {"away": 0, "home": 5})


# Quotas ...............................................................................................................

MINUTES = QuotaSpec("users", path="quota", windows=[Window.hour(10), Window.day(12)])
SAVED = QuotaSpec("users", path="quota", windows=[Window.hour(10, rollover=Rollover(cap=15))])


@row("Quota.consume")
async def quota_consume(world: World) -> None:
    """Grants while every window has room, and again when a window has ended."""
    quota = AsyncQuota(world.db, MINUTES)
    verdicts = [await quota.consume("ann", 10, now=NINE), await quota.consume("ann", 1, now=NINE)]
    verdicts += [await quota.consume("ann", 2, now=TEN), await quota.consume("ann", 1, now=TEN)]
    expect([verdict.limited_by for verdict in verdicts], [None, "hour", None, "day"])


@row("Quota.consume, by the server's clock")
async def quota_consume_by_the_clock(world: World) -> None:
    """Grants while there is room."""
    quota = AsyncQuota(world.db, QuotaSpec("users", path="quota", windows=[Window.every(dt.timedelta(days=900), 10)]))
    expect([bool(await quota.consume("ann", 6)) for _ in range(2)], [True, False])


@row("Quota.consume, a window that saves up")
async def quota_rollover(world: World) -> None:
    """What was left of a window is saved up, to the cap."""
    quota = AsyncQuota(world.db, SAVED)
    await quota.consume("ann", 4, now=NINE)
    verdict = await quota.consume("ann", 16, now=TEN)
    expect([bool(verdict), verdict.remaining], [True, {"hour": 0}])


@row("Quota.consume, once=")
async def quota_once(world: World) -> None:
    """A repeat with the same id charges nothing."""
    quota = AsyncQuota(world.db, MINUTES)
    verdicts = [await quota.consume("ann", 6, once="a", now=NINE) for _ in range(2)]
    expect([(bool(each), each.used["hour"]) for each in verdicts], [(True, 6), (True, 6)])


@row("Quota.consume, combine=True")
async def quota_combined(world: World) -> None:
    """Callers that share a command get a verdict each."""
    spec = QuotaSpec("users", path="quota", windows=[Window.every(dt.timedelta(days=900), 10)])
    async with AsyncQuota(world.db, spec, combine=True) as quota:
        verdicts = await asyncio.gather(*(quota.consume("ann", 4) for _ in range(4)))
    expect([bool(verdict) for verdict in verdicts], [True, True, False, False])


@row("Quota.record")
async def quota_record(world: World) -> None:
    """Charges past the limit, and says so."""
    verdict = await AsyncQuota(world.db, MINUTES).record("ann", 11, now=NINE)
    expect([bool(verdict), verdict.exceeded], [True, ("hour",)])


@row("Quota.refund")
async def quota_refund(world: World) -> None:
    """Gives back what was charged."""
    await world.given(lambda db: AsyncQuota(db, MINUTES).consume("ann", 10, now=NINE))
    verdict = await AsyncQuota(world.db, MINUTES).refund("ann", 4, now=NINE)
    expect(verdict.remaining, {"hour": 4, "day": 6})


@row("Quota.grant")
async def quota_grant(world: World) -> None:
    """Gives on top of the limits."""
    expect((await AsyncQuota(world.db, MINUTES).grant("ann", 5, now=NINE)).extra, 5)


@row("Quota.set_state")
async def quota_set_state(world: World) -> None:
    """Says what a running window holds."""
    verdict = await AsyncQuota(world.db, MINUTES).set_state("ann", used={"hour": 3}, now=NINE)
    expect(verdict.used, {"hour": 3, "day": 0})


@row("Quota.reserve")
async def quota_reserve(world: World) -> None:
    """What is held counts until its time is over."""
    quota = AsyncQuota(world.db, MINUTES)
    held = [await quota.reserve("ann", 6, ttl=60, now=after(seconds)) for seconds in (0, 59, 60)]
    expect([bool(each) for each in held], [True, False, True])


@row("Quota.settle")
async def quota_settle(world: World) -> None:
    """Charges what was used of a reservation, once."""
    held = await world.given(lambda db: AsyncQuota(db, MINUTES).reserve("ann", 6, ttl=60, now=NINE))
    quota = AsyncQuota(world.db, MINUTES)
    settled = [await quota.settle(held.token, 2, now=after(1)) for _ in range(2)]
    expect([(each.outcome.value, each.decision.used["hour"]) for each in settled], [("settled", 2), ("already", 2)])


@row("Quota.release")
async def quota_release(world: World) -> None:
    """Ends a reservation without a charge, once."""
    held = await world.given(lambda db: AsyncQuota(db, MINUTES).reserve("ann", 6, ttl=60, now=NINE))
    quota = AsyncQuota(world.db, MINUTES)
    expect([await quota.release(held.token, now=after(1)) for _ in range(2)], [True, False])


@row("Quota.peek")
async def quota_peek(world: World) -> None:
    """Tells how every window stands, and what comes after it ends."""
    await world.given(lambda db: AsyncQuota(db, MINUTES).consume("ann", 10, now=NINE))
    quota = AsyncQuota(world.db, MINUTES)
    seen = [await quota.peek("ann", 2, now=now) for now in (NINE, TEN)]
    expect([(bool(each), each.remaining["hour"]) for each in seen], [(False, 0), (True, 10)])


@row("Quota.peek_many")
async def quota_peek_many(world: World) -> None:
    """Tells it of several keys."""
    await world.given(lambda db: AsyncQuota(db, MINUTES).consume("ann", 10, now=NINE))
    seen = await AsyncQuota(world.db, MINUTES).peek_many(["ann", "bob"], 2, now=NINE)
    expect({key: bool(each) for key, each in seen.items()}, {"ann": False, "bob": True})


@row("Quota.reset")
async def quota_reset(world: World) -> None:
    """Forgets the state, and leaves the rest of the document."""
    await world.given(lambda db: AsyncQuota(db, MINUTES).consume("ann", 10, now=NINE))
    await world.db["users"].update_one({"_id": "ann"}, {"$set": {"name": "Ann"}})
    quota = AsyncQuota(world.db, MINUTES)
    expect([await quota.reset("ann") for _ in range(2)], [True, False])


# Rate limiters ........................................................................................................

LOGIN = RateLimiterSpec("limits", Rate(2, per=60))


async def _hits(world: World, spec: RateLimiterSpec, seconds: tuple[float, ...]) -> list[bool]:
    limiter = AsyncRateLimiter(world.db, spec)
    return [bool(await limiter.hit("ip", now=after(each))) for each in seconds]


@row("RateLimiter.hit, sliding")
async def limiter_sliding(world: World) -> None:
    """Two a minute; those of the last minute fade."""
    expect(await _hits(world, LOGIN, (0, 0, 59, 89, 90)), [True, True, False, False, True])


@row("RateLimiter.hit, fixed")
async def limiter_fixed(world: World) -> None:
    """Two in each minute of the clock."""
    spec = RateLimiterSpec("limits", Rate(2, per=60), algorithm="fixed")
    expect(await _hits(world, spec, (0, 30, 59, 60)), [True, True, False, True])


@row("RateLimiter.hit, token_bucket")
async def limiter_token_bucket(world: World) -> None:
    """Two at once, and one more every half a minute."""
    spec = RateLimiterSpec("limits", Rate(2, per=60), algorithm="token_bucket")
    expect(await _hits(world, spec, (0, 0, 29, 30, 31)), [True, True, False, True, False])


@row("RateLimiter.hit, by the server's clock")
async def limiter_by_the_clock(world: World) -> None:
    """Two in ten minutes."""
    limiter = AsyncRateLimiter(world.db, RateLimiterSpec("limits", Rate(2, per=600)))
    expect([bool(await limiter.hit("ip")) for _ in range(3)], [True, True, False])


@row("RateLimiter.hit, combine=True")
async def limiter_combined(world: World) -> None:
    """Callers that share a command get a verdict each."""
    spec = RateLimiterSpec("limits", Rate(2, per=600))
    async with AsyncRateLimiter(world.db, spec, combine=True) as limiter:
        verdicts = await asyncio.gather(*(limiter.hit("ip") for _ in range(4)))
    expect([bool(verdict) for verdict in verdicts], [True, True, False, False])


@row("RateLimiter.peek")
async def limiter_peek(world: World) -> None:
    """Tells what a hit would be told, now and later."""
    await world.given(lambda db: AsyncRateLimiter(db, LOGIN).hit("ip", 2, now=NINE))
    limiter = AsyncRateLimiter(world.db, LOGIN)
    expect([bool(await limiter.peek("ip", now=after(each))) for each in (89, 90)], [False, True])


@row("RateLimiter.reset")
async def limiter_reset(world: World) -> None:
    """Forgets what counts against a key."""
    await world.given(lambda db: AsyncRateLimiter(db, LOGIN).hit("ip", 2, now=NINE))
    limiter = AsyncRateLimiter(world.db, LOGIN)
    expect([await limiter.reset("ip") for _ in range(2)], [True, False])


# Capped sets ..........................................................................................................

SEATS = CappedSetSpec(
    "parties", path="members", member_key="id", cap=Field("seats", default=10), open_if={"ended_at": None}
)
LIVE = CappedSetSpec("parties", path="members", member_key="id", cap=2, member_ttl=30)
LINE = CappedSetSpec("parties", path="members", member_key="id", cap=1, waiting=Waiting("line"))


@row("CappedSet.join")
async def capped_set_join(world: World) -> None:
    """Seats each member once, while there are seats and the set is open."""
    await world.fill(parties=[{"_id": 1, "seats": 1}, {"_id": 2, "ended_at": NINE}])
    seats = AsyncCappedSet(world.db, SEATS)
    asked = [(1, "ann"), (1, "ann"), (1, "bob"), (2, "bob"), (3, "bob")]
    told = [(await seats.join(party, {"id": member})).outcome.value for party, member in asked]
    expect(told, ["joined", "already", "full", "closed", "not_found"])


@row("CappedSet.join, member_ttl=")
async def capped_set_join_expired(world: World) -> None:
    """The seat of who has expired is free."""
    await world.fill(parties=[{"_id": 1}])
    live = AsyncCappedSet(world.db, LIVE)
    asked = [(0, "ann"), (20, "bob"), (29, "cleo"), (30, "cleo")]
    expect([bool(await live.join(1, {"id": who}, now=after(at))) for at, who in asked], [True, True, False, True])


@row("CappedSet.join_many")
async def capped_set_join_many(world: World) -> None:
    """Seats all of them or none."""
    await world.fill(parties=[{"_id": 1, "seats": 3}])
    seats = AsyncCappedSet(world.db, SEATS)
    told = [await seats.join_many(1, [{"id": who} for who in group]) for group in ("ab", "cd", "c")]
    expect([bool(each) for each in told], [True, False, True])


@row("CappedSet.leave")
async def capped_set_leave(world: World) -> None:
    """Takes a member out, and gives the seat to the first in line."""
    await world.fill(parties=[{"_id": 1, "members": [{"id": "ann"}], "line": [{"id": "bob"}, {"id": "cleo"}]}])
    line = AsyncCappedSet(world.db, LINE)
    told = [await line.leave(1, "ann") for _ in range(2)]
    expect([each.outcome.value for each in told], ["left", "absent"])
    expect(told[0].promoted, ({"id": "bob"},))


@row("CappedSet.touch")
async def capped_set_touch(world: World) -> None:
    """Renews the time of who has not expired."""
    await world.fill(parties=[{"_id": 1, "members": [{"id": "ann", "expires_at": after(30)}]}])
    live = AsyncCappedSet(world.db, LIVE)
    expect([bool(await live.touch(1, "ann", now=after(at))) for at in (20, 49, 79)], [True, True, False])


@row("CappedSet.update")
async def capped_set_update(world: World) -> None:
    """Puts fields over those of a member."""
    await world.fill(parties=[{"_id": 1, "members": [{"id": "ann"}, {"id": "bob"}]}])
    seats = AsyncCappedSet(world.db, SEATS)
    told = [(await seats.update(1, who, {"muted": True})).outcome.value for who in ("bob", "cleo")]
    expect(told, ["updated", "absent"])


@row("CappedSet.members")
async def capped_set_members(world: World) -> None:
    """Gives who has a seat, without who has expired."""
    members = [{"id": "ann", "expires_at": after(10)}, {"id": "bob", "expires_at": after(30)}]
    await world.fill(parties=[{"_id": 1, "members": members}])
    seated = await AsyncCappedSet(world.db, LIVE).members(1, now=after(20))
    expect([each["id"] for each in seated], ["bob"])


@row("CappedSet.waiting")
async def capped_set_waiting(world: World) -> None:
    """Gives who waits, in order."""
    await world.fill(parties=[{"_id": 1, "members": [{"id": "ann"}], "line": [{"id": "bob"}, {"id": "cleo"}]}])
    expect(await AsyncCappedSet(world.db, LINE).waiting(1), [{"id": "bob"}, {"id": "cleo"}])


@row("CappedSet.size")
async def capped_set_size(world: World) -> None:
    """Tells how many seats are taken."""
    members = [{"id": "ann", "expires_at": after(10)}, {"id": "bob", "expires_at": after(30)}]
    await world.fill(parties=[{"_id": 1, "members": members}])
    live = AsyncCappedSet(world.db, LIVE)
    expect([await live.size(1, now=after(at)) for at in (9, 20)], [2, 1])


# Slots ................................................................................................................

STREAMS = SlotsSpec("streams", cap=1, ttl=30)


@row("Slots.acquire")
async def slots_acquire(world: World) -> None:
    """Gives as many as there are, and those whose time is over."""
    slots = AsyncSlots(world.db, STREAMS)
    expect([bool(await slots.acquire("ann", now=after(at))) for at in (0, 29, 30)], [True, False, True])


@row("Slots.renew")
async def slots_renew(world: World) -> None:
    """Renews a slot that is still held."""
    held = await world.given(lambda db: AsyncSlots(db, STREAMS).acquire("ann", now=NINE))
    slots = AsyncSlots(world.db, STREAMS)
    expect([bool(await slots.renew(held, now=after(at))) for at in (29, 58, 88)], [True, True, False])


@row("Slots.release")
async def slots_release(world: World) -> None:
    """Gives a slot back, once."""
    held = await world.given(lambda db: AsyncSlots(db, STREAMS).acquire("ann", now=NINE))
    slots = AsyncSlots(world.db, STREAMS)
    expect([(await slots.release(held, now=after(1))).outcome.value for _ in range(2)], ["released", "lost"])


@row("Slots.holders")
async def slots_holders(world: World) -> None:
    """Gives what is held, without what has expired."""
    held = await world.given(lambda db: AsyncSlots(db, STREAMS).acquire("ann", data={"tv": 1}, now=NINE))
    slots = AsyncSlots(world.db, STREAMS)
    holders = [await slots.holders("ann", now=after(at)) for at in (29, 30)]
    expect([[(each.token == held.token, each.data) for each in some] for some in holders], [[(True, {"tv": 1})], []])


@row("Slots.size")
async def slots_size(world: World) -> None:
    """Tells how many are held."""
    await world.given(lambda db: AsyncSlots(db, STREAMS).acquire("ann", now=NINE))
    slots = AsyncSlots(world.db, STREAMS)
    expect([await slots.size("ann", now=after(at)) for at in (29, 30)], [1, 0])


# Keyed sets ...........................................................................................................

REACT = KeyedSetSpec("messages", path="reactions", max_keys=2, max_members=2)
REACTED = {"_id": 1, "reactions": {"+": ["ann", "bob"], "a.b": ["ann"]}}


@row("KeyedSet.add")
async def keyed_set_add(world: World) -> None:
    """Adds a member once, up to the bounds; a name with a dot is a name."""
    await world.fill(messages=[{"_id": 1}])
    react = AsyncKeyedSet(world.db, REACT)
    asked = [("a.b", "ann"), ("a.b", "ann"), ("a.b", "bob"), ("a.b", "cleo"), ("+", "ann"), ("-", "ann")]
    told = [(await react.add(1, name, member)).outcome.value for name, member in asked]
    expect(told, ["added", "already", "added", "full", "added", "too_many_keys"])


@row("KeyedSet.remove")
async def keyed_set_remove(world: World) -> None:
    """Takes a member out; a name without members is gone."""
    await world.fill(messages=[REACTED])
    react = AsyncKeyedSet(world.db, REACT)
    told = [(await react.remove(1, "a.b", "ann")).outcome.value for _ in range(2)]
    expect(told, ["removed", "absent"])


@row("KeyedSet.toggle")
async def keyed_set_toggle(world: World) -> None:
    """Takes a member out who is in, and puts in who is not."""
    await world.fill(messages=[REACTED])
    react = AsyncKeyedSet(world.db, REACT)
    expect([(await react.toggle(1, "+", "ann")).present for _ in range(2)], [False, True])


@row("KeyedSet.add_many")
async def keyed_set_add_many(world: World) -> None:
    """Adds a member in many documents, and tells how many changed."""
    await world.fill(messages=[REACTED, {"_id": 2}])
    told = await AsyncKeyedSet(world.db, REACT).add_many([1, 2, 3], "+", "ann")
    expect((told.matched, told.added, told.missing), (2, 1, 1))


@row("KeyedSet.members")
async def keyed_set_members(world: World) -> None:
    """Gives one set, in order."""
    await world.fill(messages=[REACTED])
    expect(await AsyncKeyedSet(world.db, REACT).members(1, "a.b"), ["ann"])


@row("KeyedSet.counts")
async def keyed_set_counts(world: World) -> None:
    """Counts the members of every name."""
    await world.fill(messages=[REACTED])
    expect(await AsyncKeyedSet(world.db, REACT).counts(1), {"+": 2, "a.b": 1})


@row("KeyedSet.get")
async def keyed_set_get(world: World) -> None:
    """Gives all sets."""
    await world.fill(messages=[REACTED])
    expect(await AsyncKeyedSet(world.db, REACT).get(1), REACTED["reactions"])


# Unique codes .........................................................................................................

CODES = UniqueCodeSpec("rooms", path="code", live={"ended_at": None})


async def _refused(call: Awaitable[Any]) -> bool:
    try:
        await call
    except Conflict:
        return True
    return False


@row("UniqueCode.insert")
async def unique_code_insert(world: World) -> None:
    """Refuses a code that a live document has, and gives that of one which has ended."""
    await world.index(CODES)
    await world.fill(rooms=[{"_id": 1, "code": "OLD", "ended_at": NINE}, {"_id": 2, "code": "NEW", "ended_at": None}])
    codes = AsyncUniqueCode(world.db, CODES)
    expect(await _refused(codes.insert({"_id": 3}, code="NEW")), right=True)
    expect(await codes.insert({"_id": 4}, code="OLD"), {"_id": 4, "code": "OLD"})


@row("UniqueCode.assign")
async def unique_code_assign(world: World) -> None:
    """Gives a document a code, which it keeps, and which no other one gets."""
    await world.index(CODES)
    await world.fill(rooms=[{"_id": 1}, {"_id": 2}])
    codes = AsyncUniqueCode(world.db, CODES)
    expect([await codes.assign(1, code="TEA"), await codes.assign(1)], ["TEA", "TEA"])
    expect(await _refused(codes.assign(2, code="TEA")), right=True)


@row("UniqueCode.find")
async def unique_code_find(world: World) -> None:
    """Finds the live document of a code."""
    await world.fill(rooms=[{"_id": 1, "code": "TEA", "ended_at": NINE}, {"_id": 2, "code": "TEA", "ended_at": None}])
    codes = AsyncUniqueCode(world.db, CODES)
    expect([await codes.find("TEA", fields=["code"]), await codes.find("NO")], [{"_id": 2, "code": "TEA"}, None])


# Documents ............................................................................................................

ANSWERS = DocumentSpec("answers", key=("question", "user"))


@row("Documents.get_or_create")
async def documents_get_or_create(world: World) -> None:
    """Makes a document once; one that is there is not changed."""
    docs = AsyncDocuments(world.db, ANSWERS)
    made = [await docs.get_or_create((1, "ann"), {"text": text}) for text in ("a", "b")]
    expect([(each.created, each.document["text"]) for each in made], [(True, "a"), (False, "a")])


@row("Documents.get_or_create, text that looks like code")
async def documents_get_or_create_literal(world: World) -> None:
    """Stores it as it is."""
    docs = AsyncDocuments(world.db, ANSWERS)
    made = await docs.get_or_create((1, "ann"), {"text": "$user", "texts": ["$$NOW"]})
    expect((made.document["text"], made.document["texts"]), ("$user", ["$$NOW"]))


@row("Documents.upsert")
async def documents_upsert(world: World) -> None:
    """Makes all changes in one write, and keeps the last of a list."""
    docs = AsyncDocuments(world.db, ANSWERS)
    for number in (1, 2, 3):
        changes = {"inc": {"n": 1}, "push_last": {"log": number}, "keep": 2}
        stored = await docs.upsert((1, "ann"), set={"last": number}, set_on_insert={"first": number}, **changes)
    seen = {name: stored.document[name] for name in ("last", "first", "n", "log")}
    expect(seen, {"last": 3, "first": 1, "n": 3, "log": [2, 3]})


@row("Documents.upsert, set_now=")
async def documents_upsert_now(world: World) -> None:
    """Stores the server's time."""
    stored = await AsyncDocuments(world.db, ANSWERS).upsert((1, "ann"), set_now=["at"])
    expect(isinstance(stored.document.get("at"), dt.datetime), right=True)


@row("Documents.take")
async def documents_take(world: World) -> None:
    """Gives a document once."""
    await world.fill(answers=[{"_id": 1, "question": 1, "user": "ann"}])
    docs = AsyncDocuments(world.db, ANSWERS)
    taken = [await docs.take((1, "ann")) for _ in range(2)]
    expect(taken, [{"_id": 1, "question": 1, "user": "ann"}, None])


@row("Documents.take, unexpired=")
async def documents_take_unexpired(world: World) -> None:
    """Gives a document only before its date."""
    await world.fill(answers=[{"_id": 1, "question": 1, "user": "ann", "until": after(10)}])
    docs = AsyncDocuments(world.db, ANSWERS)
    taken = [await docs.take((1, "ann"), unexpired="until", now=after(at)) for at in (10, 9)]
    expect([bool(each) for each in taken], [False, True])


@row("Documents.take, a date by the server's clock")
async def documents_take_by_the_clock(world: World) -> None:
    """Gives a document only before its date."""
    past, future = NINE, dt.datetime(2999, 1, 1, tzinfo=UTC)
    dates = [{"_id": n, "question": n, "user": "ann", "until": each} for n, each in enumerate((past, future))]
    await world.fill(answers=dates)
    docs = AsyncDocuments(world.db, ANSWERS)
    expect([bool(await docs.take((n, "ann"), unexpired="until")) for n in (0, 1)], [False, True])


# Joins ................................................................................................................

BOOKS = JoinSpec(
    "books",
    joins=[
        One("authors", local="author", foreign="_id", as_="author", fields=["name"], default={"name": "unknown"}),
        Many("reviews", local="_id", foreign="book", as_="reviews", sort=[("stars", -1)], limit=1),
        CountOf("reviews", local="_id", foreign="book", as_="n"),
        Exists("reviews", local="_id", foreign="book", as_="mine", where={"user": Param("user")}),
        SumOf("reviews", local="_id", foreign="book", as_="stars", amount="stars"),
    ],
)
ONE_AUTHOR = JoinSpec("books", joins=[One("authors", local="author", foreign="_id", as_="author", fields=["name"])])


async def _library(world: World) -> None:
    await world.index(BOOKS)
    reviews = [(1, 1, "ann", 3), (2, 1, "bob", 5), (3, 2, "bob", 4)]
    await world.fill(
        authors=[{"_id": "x", "name": "Xenia", "born": 1950}],
        books=[{"_id": 1, "author": "x"}, {"_id": 2, "author": None}, {"_id": 3, "author": "x"}],
        reviews=[{"_id": n, "book": book, "user": user, "stars": stars} for n, book, user, stars in reviews],
    )


def _told(rows: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    return [
        (each["_id"], each["author"]["name"], [one["_id"] for one in each["reviews"]], each["n"], each["mine"])
        for each in rows
    ]


JOINED = [(1, "Xenia", [2], 2, True), (2, "unknown", [3], 1, False), (3, "Xenia", [], 0, False)]


@row("Join.find")
async def join_find(world: World) -> None:
    """Gives each parent with what belongs to it, by every kind of part."""
    await _library(world)
    rows = await AsyncJoin(world.db, BOOKS).find({}, params={"user": "ann"}, sort=[("_id", 1)])
    expect(_told(rows), JOINED)
    expect([each["stars"] for each in rows], [8, 4, 0])


@row('Join.find, strategy="batch"')
async def join_find_batch(world: World) -> None:
    """The same, with one query for each join."""
    await _library(world)
    rows = await AsyncJoin(world.db, BOOKS, strategy="batch").find({}, params={"user": "ann"}, sort=[("_id", 1)])
    expect(_told(rows), JOINED)


@row('Join.find, strategy="lookup"')
async def join_find_lookup(world: World) -> None:
    """The same, in one pipeline."""
    await _library(world)
    rows = await AsyncJoin(world.db, BOOKS, strategy="lookup").find({}, params={"user": "ann"}, sort=[("_id", 1)])
    expect(_told(rows), JOINED)


@row("Join.find, One alone")
async def join_find_one_part(world: World) -> None:
    """Gives each parent with the one document that it names."""
    await _library(world)
    rows = await AsyncJoin(world.db, ONE_AUTHOR).find({}, sort=[("_id", -1)], limit=2)
    expect([each["author"] for each in rows], [{"_id": "x", "name": "Xenia"}, None])


@row("Join.find, joined=")
async def join_find_joined(world: World) -> None:
    """Filters by what was joined, before the limit."""
    await _library(world)
    join = AsyncJoin(world.db, ONE_AUTHOR)
    rows = await join.find({}, joined={"author.name": "Xenia"}, sort=[("_id", 1)], skip=1, limit=1)
    expect([each["_id"] for each in rows], [3])


@row("Join.find, keys of other types")
async def join_find_types(world: World) -> None:
    """Compares keys as the server does: 1 is 1.0 and not True, and null joins nothing."""
    await world.fill(
        books=[{"_id": n, "author": author} for n, author in enumerate([1.0, True, None, [], "1"])],
        authors=[{"_id": 1, "name": "one"}, {"_id": None, "name": "null"}],
    )
    rows = await AsyncJoin(world.db, ONE_AUTHOR).find({}, sort=[("_id", 1)])
    expect([bool(each["author"]) for each in rows], [True, False, False, False, False])


@row("Join.find_one")
async def join_find_one(world: World) -> None:
    """Gives the first row."""
    await _library(world)
    found = await AsyncJoin(world.db, ONE_AUTHOR).find_one({"_id": {"$gt": 1}}, sort=[("_id", 1)])
    expect(found, {"_id": 2, "author": None})


@row("Join.count")
async def join_count(world: World) -> None:
    """Counts rows, filtered by what was joined."""
    await _library(world)
    join = AsyncJoin(world.db, ONE_AUTHOR)
    expect([await join.count({}), await join.count({}, joined={"author.name": "Xenia"})], [3, 2])


@row("Join.attach")
async def join_attach(world: World) -> None:
    """Joins onto documents in hand."""
    await _library(world)
    rows = await AsyncJoin(world.db, ONE_AUTHOR).attach([{"_id": 1, "author": "x"}])
    expect(rows, [{"_id": 1, "author": {"_id": "x", "name": "Xenia"}}])


@row("Join.aggregate")
async def join_aggregate(world: World) -> None:
    """Joins onto what a pipeline gives."""
    await _library(world)
    join = AsyncJoin(world.db, ONE_AUTHOR)
    rows = await join.aggregate([{"$match": {"_id": 3}}, {"$project": {"author": 1}}])
    expect(rows, [{"_id": 3, "author": {"_id": "x", "name": "Xenia"}}])


@row("Join.stream")
async def join_stream(world: World) -> None:
    """Gives the rows one after the other."""
    await _library(world)
    rows = [each async for each in AsyncJoin(world.db, ONE_AUTHOR).stream({}, sort=[("_id", 1)])]
    expect([(each["_id"], bool(each["author"])) for each in rows], [(1, True), (2, False), (3, True)])


@row("Join.explain")
async def join_explain(world: World) -> None:
    """Tells which index serves a join."""
    await _library(world)
    told = await AsyncJoin(world.db, BOOKS).explain({}, params={"user": "ann"})
    expect([finding.code for finding in told.findings], [])


@row("Loader.load")
async def loader_load(world: World) -> None:
    """Gives the document of a key, with the fields that are wanted."""
    await world.fill(users=[{"_id": 1, "name": "Ann", "age": 41}])
    loader = AsyncLoader(world.db, LoaderSpec("users", fields=["name"]))
    found = await asyncio.gather(loader.load(1), loader.load(2), loader.load(1.0))
    expect(found, [{"_id": 1, "name": "Ann"}, None, {"_id": 1, "name": "Ann"}])


@row("Loader.load_many")
async def loader_load_many(world: World) -> None:
    """Gives the documents of many keys, in their order; True is not 1."""
    await world.fill(users=[{"_id": 1}, {"_id": 2}])
    found = await AsyncLoader(world.db, LoaderSpec("users")).load_many([2, True, 1, 2])
    expect(found, [{"_id": 2}, None, {"_id": 1}, {"_id": 2}])


# Cascades .............................................................................................................

SHELF = CascadeSpec("books", children=[("reviews", "_id", "book")])


@row("Cascade.delete")
async def cascade_delete(world: World) -> None:
    """Deletes documents with their children, but for those that are kept."""
    await _library(world)
    told = await AsyncCascade(world.db, SHELF).delete({}, keep=[2])
    expect((dict(told.deleted), told.left), ({"books": 2, "reviews": 2}, 0))


@row("Cascade.delete, transaction=True")
async def cascade_delete_at_once(world: World) -> None:
    """Deletes them at one instant."""
    await _library(world)
    told = await AsyncCascade(world.db, SHELF).delete({}, keep=[2], transaction=True)
    expect((dict(told.deleted), told.left), ({"books": 2, "reviews": 2}, 0))


@row("Cascade.orphans")
async def cascade_orphans(world: World) -> None:
    """Finds children without parents."""
    await _library(world)
    await world.db["books"].delete_one({"_id": 1})
    (told,) = await AsyncCascade(world.db, SHELF).orphans()
    expect([orphan.id for orphan in told.rows], [1, 2])


@row("Cascade.delete_orphans")
async def cascade_delete_orphans(world: World) -> None:
    """Deletes children without parents, and no others."""
    await _library(world)
    await world.db["books"].delete_one({"_id": 1})
    expect(dict((await AsyncCascade(world.db, SHELF).delete_orphans()).deleted), {"reviews": 2})


# Pages ................................................................................................................

CHAT = PagerSpec("messages", sort=[("at", -1)], limit=2)


async def _chat(world: World) -> None:
    await world.index(CHAT)
    await world.fill(messages=[{"_id": n, "at": at} for n, at in enumerate([1, 2, 2, "x", None])])


@row("Pager.page, first")
async def pager_first(world: World) -> None:
    """Gives the first page, in the server's order of types."""
    await _chat(world)
    page = await AsyncPager(world.db, CHAT).page({"_id": {"$lt": 5}})
    expect(([each["_id"] for each in page.items], page.next is None), ([3, 2], False))


@row("Pager.page, cursor=")
async def pager_next(world: World) -> None:
    """Gives all pages, forward and back, and nothing twice."""
    await _chat(world)
    pager = AsyncPager(world.db, CHAT)
    page = await pager.page()
    seen = [[each["_id"] for each in page.items]]
    while page.next:
        page = await pager.page(cursor=page.next)
        seen.append([each["_id"] for each in page.items])
    back = await pager.page(cursor=page.previous)
    expect([*seen, [each["_id"] for each in back.items]], [[3, 2], [1, 0], [4], [1, 0]])


@row("Pager.page, a list in the sort field")
async def pager_list(world: World) -> None:
    """Refuses it: it would give rows twice."""
    await world.fill(messages=[{"_id": 1, "at": [1, 5]}, {"_id": 2, "at": 3}])
    try:
        await AsyncPager(world.db, CHAT).page()
    except StateError:
        return
    raise Wrong("no error")


@row("Pager.stream")
async def pager_stream(world: World) -> None:
    """Gives all, page by page."""
    await _chat(world)
    rows = [each["_id"] async for each in AsyncPager(world.db, CHAT).stream(batch=2)]
    expect(rows, [3, 2, 1, 0, 4])


@row("Pager.explain")
async def pager_explain(world: World) -> None:
    """Tells which index serves the pages."""
    await _chat(world)
    told = await AsyncPager(world.db, CHAT).explain()
    expect((told.served_by, [finding.code for finding in told.findings]), ("at_-1__id_-1", []))


# Reports ..............................................................................................................
# (without Percentiles: they need MongoDB 7.0, and the server that `embedded` brings is older)

MARCH = dt.datetime(2026, 3, 2, 23, tzinfo=UTC)  # the third, in Berlin
VISITS = [
    {"_id": 1, "at": dt.datetime(2026, 3, 2, 23, 30, tzinfo=UTC), "user": "ann", "s": 60, "bad": 1},
    {"_id": 2, "at": dt.datetime(2026, 3, 3, 9, 0, tzinfo=UTC), "user": "bob", "s": 30, "bad": 0},
    {"_id": 3, "at": dt.datetime(2026, 3, 5, 9, 0, tzinfo=UTC), "user": "ann", "s": 600, "bad": 0},
]


async def _report(world: World, branch: Branch, *, consistent: bool = False) -> Any:
    await world.fill(visits=[*VISITS, {"_id": 4, "at": NINE, "user": "old", "s": 1, "bad": 1}])
    report = AsyncReport(world.db, ReportSpec("visits", branches={"it": branch}))
    return (await report.run({"at": {"$gte": MARCH}}, consistent=consistent))["it"]


@row("Report.run, Totals")
async def report_totals(world: World) -> None:
    """Counts, sums, and weighs a mean by what it is a mean of."""
    branch = Totals({"n": Count(), "s": Sum("s"), "bad": Ratio(Sum("bad"), Count(), scale=100, round=1)})
    expect(await _report(world, branch), {"n": 3, "s": 690, "bad": 33.3})


@row("Report.run, Totals of nothing")
async def report_totals_of_nothing(world: World) -> None:
    """Nothing is counted as 0, and a ratio of nothing is None."""
    spec = ReportSpec("visits", branches={"it": Totals({"n": Count(), "bad": Ratio(Sum("bad"), Count())})})
    expect((await AsyncReport(world.db, spec).run())["it"], {"n": 0, "bad": None})


@row("Report.run, GroupBy")
async def report_group_by(world: World) -> None:
    """Gives the numbers of each group."""
    branch = GroupBy("user", measures={"n": Count(), "s": Sum("s")}, sort=[("key", 1)])
    expect(await _report(world, branch), [{"key": "ann", "n": 2, "s": 660}, {"key": "bob", "n": 1, "s": 30}])


@row("Report.run, Top")
async def report_top(world: World) -> None:
    """Gives the first groups by a number."""
    branch = Top("user", measures={"s": Sum("s")}, sort=[("s", 1)], limit=1)
    expect(await _report(world, branch), [{"key": "bob", "s": 30}])


@row("Report.run, TimeBuckets")
async def report_time_buckets(world: World) -> None:
    """Counts by the days of a time zone, the empty ones too."""
    days = await _report(world, TimeBuckets("at", timezone="Europe/Berlin", measures={"n": Count()}))
    expect([each["n"] for each in days], [2, 0, 1])


@row("Report.run, Histogram")
async def report_histogram(world: World) -> None:
    """Counts by ranges, the empty ones too."""
    branch = Histogram("s", boundaries=[0, 60, 300, 900])
    expect([each["n"] for each in await _report(world, branch)], [1, 1, 1])


@row("Report.run, Distinct")
async def report_distinct(world: World) -> None:
    """Gives which values there are."""
    expect(await _report(world, Distinct("user")), ["ann", "bob"])


@row("Report.run, PageOf")
async def report_page_of(world: World) -> None:
    """Gives the first page, and the number of all."""
    page = await _report(world, PageOf(sort=[("at", -1)], limit=2, fields=["user"], count="exact"))
    expect((page.items, page.total.value), ([{"_id": 3, "user": "ann"}, {"_id": 2, "user": "bob"}], 3))


@row("Report.run, Raw")
async def report_raw(world: World) -> None:
    """Gives what stages of your own give."""
    branch = Raw([{"$group": {"_id": None, "most": {"$max": "$s"}}}])
    expect(await _report(world, branch), [{"_id": None, "most": 600}])


@row("Report.run, consistent=True")
async def report_consistent(world: World) -> None:
    """Reads all branches at one instant."""
    expect(await _report(world, Totals({"n": Count()}), consistent=True), {"n": 3})


@row("Report.explain")
async def report_explain(world: World) -> None:
    """Tells the commands, and how they are sent."""
    report = AsyncReport(world.db, ReportSpec("visits", branches={"it": Totals({"n": Count()})}))
    expect(len((await report.explain({})).commands), 1)


# Write buffer .........................................................................................................


@row("WriteBuffer.insert")
async def buffer_insert(world: World) -> None:
    """Stores a document, and acknowledges it."""
    async with AsyncWriteBuffer(world.client, retry_for=0.5) as buffer:
        ack = await buffer.insert(world.db["events"], {"_id": 1, "kind": "login"})
        expect(await ack, 1)


@row("WriteBuffer.increment")
async def buffer_increment(world: World) -> None:
    """Adds up; ten times 0.1 is 1."""
    async with AsyncWriteBuffer(world.client, retry_for=0.5) as buffer:
        acks = [await buffer.increment(world.db["daily"], "a", {"n": 1, "cost": Decimal("0.1")}) for _ in range(10)]
        expect({await ack for ack in acks}, {"a"})


@row("WriteBuffer.increment, set_now=")
async def buffer_increment_now(world: World) -> None:
    """Stores the server's time."""
    async with AsyncWriteBuffer(world.client, retry_for=0.5) as buffer:
        await (await buffer.increment(world.db["daily"], "a", {"n": 1}, set_now=["at"]))
    stored = await world.db["daily"].find_one({"_id": "a"})
    expect(isinstance(stored.get("at"), dt.datetime), right=True)


@row("WriteBuffer.update")
async def buffer_update(world: World) -> None:
    """Updates a document, in the order in which updates were accepted."""
    await world.fill(users=[{"_id": 1}])
    async with AsyncWriteBuffer(world.client, retry_for=0.5) as buffer:
        acks = [await buffer.update(world.db["users"], 1, {"$set": {"n": n}}) for n in range(3)]
        expect([await ack for ack in acks], [1, 1, 1])


@row("WriteBuffer.replace")
async def buffer_replace(world: World) -> None:
    """Puts a document into the place of another one."""
    await world.fill(users=[{"_id": 1, "old": 1}])
    async with AsyncWriteBuffer(world.client, retry_for=0.5) as buffer:
        expect(await (await buffer.replace(world.db["users"], 1, {"_id": 1, "new": 1})), 1)


@row("WriteBuffer.delete")
async def buffer_delete(world: World) -> None:
    """Deletes a document."""
    await world.fill(users=[{"_id": 1}, {"_id": 2}])
    async with AsyncWriteBuffer(world.client, retry_for=0.5) as buffer:
        expect(await (await buffer.delete(world.db["users"], 1)), 1)


@row("WriteBuffer.flush")
async def buffer_flush(world: World) -> None:
    """What was accepted is stored."""
    async with AsyncWriteBuffer(world.client, retry_for=0.5, max_delay=600) as buffer:
        ack = await buffer.insert(world.db["events"], {"_id": 1})
        await buffer.flush()
        expect((ack.done, await ack), (True, 1))


@row("WriteBuffer.close")
async def buffer_close(world: World) -> None:
    """What was accepted is stored, and nothing more is accepted."""
    buffer = AsyncWriteBuffer(world.client, retry_for=0.5, max_delay=600)
    await buffer.__aenter__()
    ack = await buffer.insert(world.db["events"], {"_id": 1})
    await buffer.close()
    expect((ack.done, await ack), (True, 1))


@row('WriteBuffer.insert, delivery="exactly_once"')
async def buffer_exactly_once(world: World) -> None:
    """Stores a batch in one transaction with its id."""
    ledger = world.db["ledger"]
    async with AsyncWriteBuffer(world.client, delivery="exactly_once", ledger=ledger, retry_for=0.5) as buffer:
        expect(await (await buffer.insert(world.db["events"], {"_id": 1})), 1)
    expect(await ledger.count_documents({}), 1)
    await ledger.delete_many({})


# Schema ...............................................................................................................

MAIL = Index("mail", unique=True)
USERS = SchemaSpec([CollectionSpec("users", indexes=[MAIL], validator=Validator({"mail": {"$type": "string"}}))])


async def _drifts(schema: AsyncSchema) -> bool:
    try:
        await schema.verify()
    except SchemaDrift:
        return True
    return False


@row("Schema.plan")
async def schema_plan(world: World) -> None:
    """Tells what is missing."""
    plan = await AsyncSchema(world.db, USERS).plan()
    expect([change.kind.value for change in plan.changes], ["create collection", "create index"])


@row("Schema.apply")
async def schema_apply(world: World) -> None:
    """Makes what is missing, once."""
    schema = AsyncSchema(world.db, USERS)
    await schema.apply()
    expect(bool(await schema.plan()), right=False)


@row("Schema.verify")
async def schema_verify(world: World) -> None:
    """Refuses a database that is not what the definition says."""
    schema = AsyncSchema(world.db, USERS)
    expect(await _drifts(schema), right=True)


@row("Schema.merge_duplicates")
async def schema_merge_duplicates(world: World) -> None:
    """Keeps one document of each value."""
    await world.fill(users=[{"_id": n, "mail": mail} for n, mail in enumerate("aab")])
    merged = await AsyncSchema(world.db, USERS).merge_duplicates("users", MAIL, keep=[("_id", -1)])
    expect([each["_id"] for each in merged.removed], [0])


@row("Validator")
async def validator(world: World) -> None:
    """The server refuses a document that does not fit."""
    rule = Validator({"mail": {"$type": "string"}})
    users = await world.db.create_collection("users", **rule.options)
    try:
        await users.insert_one({"_id": 1, "mail": 5})
    except Exception as error:  # noqa: BLE001  # which one is the question
        expect(type(error).__name__, "WriteError")
    else:
        raise Wrong("the document is stored")


# Client ...............................................................................................................


@row("Deployment.check")
async def deployment_check(world: World) -> None:
    """Tells what the server is and can do."""
    told = await AsyncDeployment(world.client).check(Requirements(transactions=True))
    expect((bool(told), told.transactions), (True, True))


@row("Health.live")
async def health_live(world: World) -> None:
    """Answers whenever it gets its turn."""
    expect((await AsyncHealth(world.client).live()).state.value, "alive")


@row("Health.ready")
async def health_ready(world: World) -> None:
    """Says whether there is a server that answers."""
    nowhere = world.connect(NOWHERE, serverSelectionTimeoutMS=50)
    states = [await AsyncHealth(world.client).ready(timeout=5), await AsyncHealth(nowhere).ready(timeout=0.2)]
    expect([each.state.value for each in states], ["ready", "unreachable"])


@row("make_async_client")
async def client_made(world: World) -> None:
    """Makes a client with the deadline of its profile."""
    client = make_async_client(world.uri, profile=Profile.WEB, app_name="api", client_class=world.kind)
    expect(client.options.timeout, Profile.WEB.timeoutMS / 1000)


@row("shared_async_client")
async def client_shared(world: World) -> None:
    """Gives one client to all who ask."""
    options = {"profile": Profile.WEB, "app_name": "api", "client_class": world.kind}
    async with shared_async_client(world.uri, **options) as one, shared_async_client(world.uri, **options) as two:
        expect(one is two, right=True)


@row("PoolMonitor")
async def pool_monitor(world: World) -> None:
    """Sees the connection that was used."""
    pool = PoolMonitor()
    client = world.connect(world.uri, event_listeners=[pool])
    await client[world.db.name]["users"].count_documents({})
    expect(pool.snapshot().open, 1)


@row("SlowQueries")
async def slow_queries(world: World) -> None:
    """Sees the command that was slow."""
    slow = SlowQueries(threshold=0)
    client = world.connect(world.uri, event_listeners=[slow])
    await client[world.db.name]["users"].find_one({"_id": 1})
    expect(len(slow.snapshot().shapes), 1)


@row("n_plus_one_guard")
async def n_plus_one(world: World) -> None:
    """Fails on a query in a loop."""
    client = world.connect(world.uri, event_listeners=[CommandWatcher()])
    users = client[world.db.name]["users"]
    try:
        with n_plus_one_guard(client, repeats=3):
            for number in range(5):
                await users.find_one({"_id": number})
    except RepeatedCommands:
        return
    raise Wrong("no error")
