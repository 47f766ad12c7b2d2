"""What the callers of the mixed load do: each turn is a few calls of one primitive, with random numbers from a seed.

Limits and caps are so low, and keys so few, that callers meet. Most keys carry the number of the fault under which they
are used, so that there is room again after each, and all have been refused before the next.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

from pymongo import MongoClient

from mongopatterns import (
    CappedSetSpec,
    CascadeSpec,
    Conflict,
    Count,
    CounterSpec,
    CountOf,
    DocumentSpec,
    GroupBy,
    JoinSpec,
    KeyedSetSpec,
    Leader,
    LoaderSpec,
    One,
    PagerSpec,
    QuotaSpec,
    Rate,
    RateLimiterSpec,
    ReportSpec,
    SlotsSpec,
    Sum,
    SumOf,
    Totals,
    UniqueCodeSpec,
    Window,
)
from tests.chaos.checker.log import TOLD, Call
from tests.chaos.load import Load, Turn

YEAR = dt.timedelta(days=366)  # longer than any load
HITS = CounterSpec("hits", path="n", meters=("size",), once_kept=1000)
ROOMY, TIGHT = 10**9, 40
QUOTAS = {
    limit: QuotaSpec("quotas", path="q", windows=[Window.every(YEAR, limit, align="first_use")], once_kept=1000)
    for limit in (ROOMY, TIGHT)
}
LIMIT, BURST, PER_SECOND = 50, 10, 40
FIXED = RateLimiterSpec("limits", Rate(LIMIT, per=YEAR), algorithm="fixed")
BUCKET = RateLimiterSpec("limits", Rate(PER_SECOND, per=1), algorithm="token_bucket", burst=BURST, path="bucket")
CAP = 3
SEATS = CappedSetSpec(
    "rooms", path="seats", member_key="id", cap=CAP, member_ttl=86_400, leader=Leader("host"), create={}
)
SLOTS = SlotsSpec("slots", cap=CAP, ttl=86_400)
SETS = KeyedSetSpec("songs", path="liked.by", counts="liked.n", max_members=CAP, create={})
INBOX = KeyedSetSpec("inbox", path="tags")
INBOXES = ["inbox 0", "inbox 1", "inbox 2"]
CODES = UniqueCodeSpec("codes", path="code", live={"open": True}, alphabet="ABCDEFGH", length=5, tries=100)
MADE, CHANGED, STOCK = DocumentSpec("made"), DocumentSpec("changed"), DocumentSpec("stock")
STOCKED, ORDERED, LINES = 20_000, 5_000, 3
ORDERS = CascadeSpec("orders", children=[("lines", "_id", "order")])
GROUPS = [f"group {number}" for number in range(5)]
OWNERS = JoinSpec("groups", joins=[One("owners", local="owner", foreign="_id", as_="owned_by", fields=["name"])])
SUMS = JoinSpec(
    "groups",
    joins=[
        CountOf("events", local="_id", foreign="group", as_="n"),
        SumOf("events", local="_id", foreign="group", as_="amount", amount="amount"),
    ],
)
LOADED = LoaderSpec("groups")
EVENTS = PagerSpec("events", sort=[("amount", -1)], limit=100, filter_by=["group"])
REPORT = ReportSpec(
    "events",
    branches={
        "all": Totals({"n": Count(), "amount": Sum("amount")}),
        "groups": GroupBy("group", measures={"n": Count()}),
    },
)
SPECS = (HITS, *QUOTAS.values(), FIXED, BUCKET, SEATS, SLOTS, SETS, INBOX, CODES, MADE, CHANGED, STOCK, ORDERS)
SPECS += (OWNERS, SUMS, LOADED, EVENTS)


def owner(group: str) -> dict[str, Any]:
    return {"_id": f"owner of {group}", "name": group.upper()}


def prepare(load: Load) -> None:
    """Make the indexes, and what is there from the beginning."""
    with MongoClient[dict[str, Any]](load.world.uri, w="majority") as client:
        client.drop_database(load.world.db.name)
        db = client[load.world.db.name]
        for spec in SPECS:
            for index in spec.indexes() if not isinstance(spec, (CascadeSpec, JoinSpec)) else ():
                db[spec.collection].create_index(index.keys, **index.options)
        db.events.create_index("group")
        db.lines.create_index("order")
        db.inbox.insert_many([{"_id": name} for name in INBOXES])
        db.groups.insert_many([{"_id": group, "owner": owner(group)["_id"]} for group in GROUPS])
        db.owners.insert_many([owner(group) for group in GROUPS])
        db.stock.insert_many([{"_id": number} for number in range(STOCKED)])
        db.orders.insert_many([{"_id": number} for number in range(ORDERED)])
        db.lines.insert_many([{"order": number, "n": n} for number in range(ORDERED) for n in range(LINES)])
        for name in ("hits", "quotas", "limits", "rooms", "changed", "made", "songs", "counts", "states", "codes"):
            if name not in db.list_collection_names():
                db.create_collection(name)


class Callers:
    """All callers of one load."""

    def __init__(self, load: Load, spool: Path) -> None:
        self.load = load
        bind = load.bind
        self.counters = {"alone": bind("Counter", HITS), "together": bind("Counter", HITS, combine=True)}
        self.quotas = {
            (limit, combine): bind("Quota", spec, combine=combine)
            for limit, spec in QUOTAS.items()
            for combine in (False, True)
        }
        self.fixed = bind("RateLimiter", FIXED), bind("RateLimiter", FIXED, combine=True)
        self.bucket = bind("RateLimiter", BUCKET)
        self.seats, self.slots = bind("CappedSet", SEATS), bind("Slots", SLOTS)
        self.sets, self.inbox, self.codes = bind("KeyedSet", SETS), bind("KeyedSet", INBOX), bind("UniqueCode", CODES)
        self.rooms = load.world.collection("codes")
        self.made, self.changed, self.stock = (bind("Documents", spec) for spec in (MADE, CHANGED, STOCK))
        self.orders = bind("Cascade", ORDERS)
        self.owners, self.sums, self.loader = bind("Join", OWNERS), bind("Join", SUMS), bind("Loader", LOADED)
        self.pager, self.report = bind("Pager", EVENTS), bind("Report", REPORT)
        small = {"max_items": 20, "max_delay": 0.005}
        self.buffers = {
            "at least once": bind("WriteBuffer", None, **small),
            "exactly once": bind("WriteBuffer", None, delivery="exactly_once", **small),
            "spooled": bind("WriteBuffer", None, delivery="exactly_once", spool=spool, **small),
        }

    @property
    def now(self) -> str:
        """The fault under which keys are used."""
        return f"{len(self.load.faults)}"

    def turns(self) -> Iterator[tuple[str, Turn]]:
        """Give all callers by name."""
        kinds: list[tuple[str, int, Callable[..., Any], tuple[Any, ...]]] = [
            ("add", 2, self.add, ("alone", None)),
            ("add together", 3, self.add, ("together", None)),
            ("add impatiently", 1, self.add, ("together", 0.5)),
            ("charge", 2, self.charge, (False,)),
            ("charge together", 2, self.charge, (True,)),
            ("consume", 2, self.consume, (False,)),
            ("consume together", 3, self.consume, (True,)),
            ("hold", 2, self.hold, ()),
            ("hit", 3, self.hit, ()),
            ("pour", 2, self.pour, ()),
            ("sit", 5, self.sit, ()),
            ("acquire", 5, self.acquire, ()),
            ("like", 5, self.like, ()),
            ("tag", 1, self.tag, ()),
            ("code", 2, self.code, ()),
            ("claim", 3, self.claim, ()),
            ("make", 2, self.make, ()),
            ("change", 2, self.change, ()),
            ("take", 2, self.take, ()),
            ("delete", 2, self.delete, ()),
            ("join", 1, self.join, ()),
            ("load", 1, self.find, ()),
            ("walk", 1, self.walk, ()),
            ("report", 1, self.tell, ()),
        ]
        kinds += [(f"buffer {name}", 2, self.buffer, (name,)) for name in self.buffers]
        for name, number, turn, options in kinds:
            for each in range(number):
                yield f"{name} {each}", lambda random, me, turn=turn, options=options: turn(random, me, *options)

    async def close(self) -> None:
        """Wait for what is under way."""
        for buffer in self.buffers.values():
            await buffer.close()
        for shared in (self.counters["together"], self.fixed[1], *(self.quotas[limit, True] for limit in QUOTAS)):
            await shared.close()

    async def peek(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Ask all quotas, and all limiters that do not refill, how they stand."""
        keys = {of: sorted({call.key for call in self.load.log if call.of == of}) for of in ("Quota", "RateLimiter")}
        quotas = {key: decision(await self.quotas[int(key.split()[0]), False].peek(key)) for key in keys["Quota"]}
        limiters = {key: rated(await self.fixed[0].peek(key)) for key in keys["RateLimiter"] if key.startswith("fixed")}
        return quotas, {key: {**told, "ok": True} for key, told in limiters.items()}

    # Counters ------------------------------------------------------------------------------------------------

    async def add(self, random: Random, me: str, kind: str, timeout: float | None) -> None:
        """Add, now and then several times with one id; or look at the number."""
        amount, counter, key = random.randint(1, 3), self.counters[kind], "impatient" if timeout else kind
        choice = random.random()
        if choice < 0.1:
            await self.load.attempt("Counter", "value", key, lambda: counter.value(key))
            return
        once = me if choice < 0.2 else None
        await asyncio.gather(
            *(
                self.load.attempt(
                    "Counter",
                    "add",
                    key,
                    lambda: counter.add(key, amount, meters={"size": amount}, once=once, timeout=timeout),
                    amount=amount,
                    once=once,
                )
                for _ in range(3 if once else 1)
            )
        )

    async def charge(self, random: Random, me: str, combine: bool) -> None:
        """Consume or record where there is always room, now and then several times with one id."""
        key, amount, op = f"{ROOMY} all", random.randint(1, 4), random.choice(["consume", "record"])
        call = getattr(self.quotas[ROOMY, combine], op)
        once = me if random.random() < 0.2 else None
        await asyncio.gather(
            *(
                self.load.attempt(
                    "Quota",
                    op,
                    key,
                    lambda: call(key, amount, once=once),
                    decision,
                    amount=amount,
                    limit=ROOMY,
                    once=once,
                )
                for _ in range(3 if once else 1)
            )
        )

    async def consume(self, random: Random, _: str, combine: bool) -> None:
        """Consume where there is seldom room; and give it back now and then."""
        quota, key, amount = self.quotas[TIGHT, combine], f"{TIGHT} {self.now}", random.randint(1, 4)
        done = await self.load.attempt(
            "Quota", "consume", key, lambda: quota.consume(key, amount), decision, amount=amount, limit=TIGHT
        )
        if done.fate == TOLD and done.told["ok"] and random.random() < 0.6:
            await self.load.attempt("Quota", "refund", key, lambda: quota.refund(key, amount), decision, amount=amount)

    async def hold(self, random: Random, _: str) -> None:
        """Reserve, and settle or release."""
        quota, key, amount = self.quotas[TIGHT, False], f"{TIGHT} {self.now}", random.randint(1, 4)
        token = ""

        def reserved(reservation: Any) -> dict[str, Any]:
            nonlocal token
            token = reservation.token or ""
            return {**decision(reservation.decision), "ok": bool(reservation)}

        await self.load.attempt(
            "Quota",
            "reserve",
            key,
            lambda: quota.reserve(key, amount, ttl=86_400),
            reserved,
            amount=amount,
            limit=TIGHT,
        )
        used = random.randint(0, amount)
        if token and used:
            await self.load.until_told(
                "Quota",
                "settle",
                key,
                lambda: quota.settle(token, used),
                lambda told: {**decision(told.decision), "ok": bool(told)},
                amount=used,
                reserved=amount,
                token=token,
            )
        elif token:
            await self.load.until_told(
                "Quota",
                "release",
                key,
                lambda: quota.release(token),
                lambda told: {"ok": told},
                reserved=amount,
                token=token,
            )

    async def hit(self, random: Random, _: str) -> None:
        """Hit a limiter whose period does not end."""
        limiter, key, cost = random.choice(self.fixed), f"fixed {self.now}", random.randint(1, 3)
        await self.load.attempt(
            "RateLimiter", "hit", key, lambda: limiter.hit(key, cost), rated, cost=cost, limit=LIMIT
        )

    async def pour(self, random: Random, _: str) -> None:
        """Hit a limiter that refills all the time."""
        cost, key = random.randint(1, 3), f"bucket {self.now}"
        await self.load.attempt(
            "RateLimiter",
            "hit",
            key,
            lambda: self.bucket.hit(key, cost),
            rated,
            cost=cost,
            limit=BURST,
            rate=PER_SECOND,
        )

    # Members -------------------------------------------------------------------------------------------------

    async def sit(self, random: Random, me: str) -> None:
        """Join; touch and join again now and then; and leave, or stay."""
        key, load = f"room {self.now}", self.load

        async def join() -> Call:
            return await load.attempt(
                "CappedSet", "join", key, lambda: self.seats.join(key, {"id": me}), outcome, member=me, cap=CAP
            )

        done = await join()
        if random.random() < 0.3:
            await load.attempt("CappedSet", "touch", key, lambda: self.seats.touch(key, me), outcome, member=me)
            done = await join()
        if random.random() < 0.9 or done.fate != TOLD:
            await load.until_told("CappedSet", "leave", key, lambda: self.seats.leave(key, me), outcome, member=me)

    async def acquire(self, random: Random, me: str) -> None:
        """Acquire a slot; renew it now and then; and release it, or keep it."""
        key, load = f"owner {self.now}", self.load
        token = ""

        def told(slot: Any) -> dict[str, Any]:
            nonlocal token
            token = slot.token or token
            return {"outcome": slot.outcome.value, "slot": slot.slot if slot else None}

        await load.attempt(
            "Slots", "acquire", key, lambda: self.slots.acquire(key, data={"me": me}), told, me=me, cap=CAP
        )
        if token and random.random() < 0.3:
            await load.attempt("Slots", "renew", key, lambda: self.slots.renew(token), told, me=me)
        if token and random.random() < 0.95:
            await load.until_told("Slots", "release", key, lambda: self.slots.release(token), told, me=me)

    async def like(self, random: Random, me: str) -> None:
        """Add, remove and toggle under one of two names; and be out in the end, or not."""
        document, name = f"song {self.now}", random.choice(["a", "b.$ä"])
        ops = ["add", *random.choices(["add", "remove", "toggle"], k=random.randint(0, 3))]
        for op in ops + ["remove"] * (random.random() < 0.95):
            call = getattr(self.sets, op)
            attempt = self.load.until_told if op == "remove" else self.load.attempt
            await attempt(
                "KeyedSet",
                op,
                f"{document}/{name}",
                lambda call=call: call(document, name, me),
                outcome,
                member=me,
                cap=CAP,
            )

    async def tag(self, _: Random, me: str) -> None:
        """Add to several documents at once."""
        await self.load.attempt(
            "KeyedSet",
            "add_many",
            "inbox",
            lambda: self.inbox.add_many(INBOXES, "all", me),
            lambda told: {"outcome": "added" if told.matched == len(INBOXES) else "missing"},
            member=me,
        )

    async def code(self, random: Random, me: str) -> None:
        """Insert with a random code, or give one to a document; and let it go now and then."""
        load, document = self.load, {"_id": me, "open": True}
        if random.random() < 0.5:
            await load.attempt(
                "UniqueCode", "insert", "codes", lambda: self.codes.insert(document), lambda told: told["code"], me=me
            )
        else:
            change = {"$set": {"open": True}}
            await load.until_told(
                "UniqueCode",
                "make",
                "codes",
                lambda: self.rooms.update_one({"_id": me}, change, upsert=True),
                lambda told: told.matched_count,
                me=me,
            )
            for _ in range(random.randint(1, 2)):
                await load.attempt("UniqueCode", "assign", "codes", lambda: self.codes.assign(me), me=me)
        if random.random() < 0.5:
            await self._close(me)

    async def claim(self, random: Random, me: str) -> None:
        """Insert with a code that others want, too; and let it go."""
        code = f"wanted {random.randrange(2)}"

        async def insert() -> Any:
            try:
                return (await self.codes.insert({"_id": me, "open": True}, code=code))["code"]
            except Conflict:
                return None

        done = await self.load.attempt("UniqueCode", "insert", "codes", insert, me=me, code=code)
        if done.fate != TOLD or done.told is not None:
            await self._close(me)

    async def _close(self, me: str) -> None:
        change = {"$set": {"open": False}}
        await self.load.until_told(
            "UniqueCode",
            "close",
            "codes",
            lambda: self.rooms.update_one({"_id": me}, change),
            lambda told: told.matched_count,
            me=me,
        )

    # Documents -----------------------------------------------------------------------------------------------

    async def make(self, _: Random, me: str) -> None:
        """Ask for a document that others ask for as well; all in the same order."""
        key = f"document {turn_of(me)}"
        await self.load.attempt(
            "Documents",
            "get_or_create",
            key,
            lambda: self.made.get_or_create(key, {"by": me}),
            lambda told: {"by": told.document["by"], "created": told.created},
            me=me,
        )

    async def change(self, _: Random, me: str) -> None:
        """Count and append in one document."""
        key = f"log {self.now}"
        await self.load.attempt(
            "Documents",
            "upsert",
            key,
            lambda: self.changed.upsert(key, inc={"n": 1}, push_last={"all": me}),
            lambda told: {"n": told.document["n"], "place": told.document["all"].index(me) + 1},
            me=me,
        )

    async def take(self, _: Random, me: str) -> None:
        """Take what others want to take as well; all in the same order."""
        number = turn_of(me) % STOCKED
        await self.load.attempt(
            "Documents", "take", f"{number}", lambda: self.stock.take(number), lambda told: told is not None, me=me
        )

    async def delete(self, random: Random, me: str) -> None:
        """Delete an order with its lines, which others delete as well; again, if nobody knows."""
        number, transaction = turn_of(me) % ORDERED, random.random() < 0.5
        attempt = self.load.until_told if random.random() < 0.7 else self.load.attempt
        await attempt(
            "Cascade",
            "delete",
            f"{number}",
            lambda: self.orders.delete({"_id": number}, transaction=transaction),
            lambda told: (told.deleted.get("orders", 0), told.deleted.get("lines", 0)),
            transaction=transaction,
        )

    # Buffers, and those who read what they insert ------------------------------------------------------------

    async def buffer(self, random: Random, me: str, name: str) -> None:
        """Insert an event, count, and write down which turn it is; all at once."""
        db, turn, amount, group = self.load.world.db, turn_of(me), random.randint(1, 5), random.choice(GROUPS)
        event = {"_id": me, "via": name, "group": group, "amount": amount}
        count, state = f"{name} {random.randrange(2)}", me.rsplit(" ", 1)[0]
        buffer = self.buffers[name]
        await asyncio.gather(
            self._put("insert", name, buffer.insert(db["events"], event), id=me, group=group, amount=amount),
            self._put("increment", count, buffer.increment(db["counts"], count, {"n": amount}), amount=amount),
            self._put("update", state, buffer.update(db["states"], state, {"$set": {"n": turn}}, upsert=True), n=turn),
        )

    async def _put(self, op: str, key: str, accepted: Awaitable[Any], **asked: Any) -> None:
        async def acknowledged() -> None:
            await self.load.world.wait((await accepted).result)()

        await self.load.attempt("WriteBuffer", op, key, acknowledged, **asked)

    async def join(self, random: Random, _: str) -> None:
        """Read all groups with their owners, and one of them with numbers of its events."""
        stored = [{"_id": group, "owner": owner(group)["_id"], "owned_by": owner(group)} for group in GROUPS]
        await self.load.attempt(
            "Join", "load", "owners", lambda: self.owners.find({}, sort=[("_id", 1)]), stored=stored
        )
        group = random.choice(GROUPS)
        await self.load.attempt(
            "Join",
            "count",
            group,
            lambda: self.sums.find({"_id": group}),
            lambda rows: {"n": rows[0]["n"], "amount": rows[0]["amount"]},
        )

    async def find(self, random: Random, _: str) -> None:
        """Load some groups, and one that is not there."""
        groups = [*random.sample(GROUPS, 3), "none"]
        stored = [{"_id": group, "owner": owner(group)["_id"]} if group in GROUPS else None for group in groups]
        await self.load.attempt("Loader", "load", "groups", lambda: self.loader.load_many(groups), stored=stored)

    async def walk(self, random: Random, _: str) -> None:
        """Read all events of a group, page by page."""
        group = random.choice(GROUPS)

        async def pages() -> list[str]:
            page = await self.pager.page({"group": group})
            found = [row["_id"] for row in page]
            while page.next is not None:
                page = await self.pager.page({"group": group}, cursor=page.next)
                found += [row["_id"] for row in page]
            return found

        await self.load.attempt("Pager", "walk", group, pages)

    async def tell(self, random: Random, _: str) -> None:
        """Add up all events, by groups as well; at one instant, or not."""
        consistent = random.random() < 0.5
        await self.load.attempt(
            "Report",
            "instant" if consistent else "count",
            "all",
            lambda: self.report.run(consistent=consistent),
            lambda told: {**told["all"], "parts": sum(row["n"] for row in told["groups"])},
        )


def turn_of(me: str) -> int:
    """Tell which turn of its caller a name is of."""
    return int(me.rsplit(" ", 1)[1])


def decision(told: Any) -> dict[str, Any]:
    """Take from a verdict of a quota what is used and held, and what could not be given back."""
    (used,) = told.used.values()
    return {"ok": bool(told), "level": used + told.held, "dropped": sum(told.dropped.values())}


def rated(told: Any) -> dict[str, Any]:
    """Take from a verdict of a limiter what is left, when it came and was told, and when nothing counts any more."""
    at, empty = told.at.timestamp(), told.resets_at.timestamp()
    return {"ok": bool(told), "left": told.remaining, "at": at, "by": time.time(), "empty": empty}


def outcome(told: Any) -> dict[str, Any]:
    """Take from a verdict about a member what came of it, and how many there are, if that is told."""
    # (of a document that nobody has made yet everyone is absent)
    came = {"outcome": told.outcome.value.replace("not_found", "absent")}
    return came if getattr(told, "size", None) is None else {**came, "size": told.size}
