"""Callers that share round trips (`combine=True`), on a real server: each is told its own exact answer."""

from __future__ import annotations

import asyncio
import datetime as dt
import random
import uuid
from collections import Counter as Tally
from collections.abc import Iterable, Sequence
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from bson import Binary, Decimal128, Int64, UuidRepresentation
from bson.codec_options import CodecOptions
from pymongo.errors import OperationFailure, WriteConcernError

from mongopatterns import (
    AsyncCounter,
    AsyncQuota,
    CounterSpec,
    DocumentNotFound,
    Field,
    NotSent,
    OutcomeUnknown,
    QuotaSpec,
    Rollover,
    StateError,
    UsageError,
    Window,
    may_have_applied,
)
from mongopatterns._driver_async import settle
from mongopatterns.testing import race

UTC = dt.timezone.utc
DAY = dt.timedelta(days=1)

HITS = CounterSpec("counters", path="n", meters=("size.bytes", "errors"), set_now=("seen.last",))
# Windows that begin with their first use: none of them ends while a test runs.
ONE = QuotaSpec("quotas", path="q", windows=[Window.every(30 * DAY, 100, align="first_use")])
THREE = QuotaSpec(
    "users",
    path="quota.minutes",
    key_field="user",
    align="first_use",
    meters=("cost", "calls"),
    windows=[
        Window.every(10 * DAY, Field("limits.ten", default=40), rollover=Rollover(cap=60)),
        Window.every(20 * DAY, 70, rollover=Rollover(cap=Field("limits.cap", default=25), spend="window_first")),
        Window.every(40 * DAY, 90),
        Window.every(50 * DAY, None),
    ],
)
TEN, TWENTY, FORTY, FIFTY = "10d", "20d", "40d", "50d"

LOST_REPLY = ("onPrimaryTransactionalWrite", {"closeConnection": True})
# Both answer after the write: the driver takes the first for a lost reply, and hands the second to the caller.
RETRIED_REPLY = (
    "failCommand",
    {
        "failCommands": ["findAndModify"],
        "writeConcernError": {
            "code": 64,
            "errmsg": "say it again",
        },  # (of a stepdown the driver would wait out the end)
        "errorLabels": ["RetryableWriteError"],
    },
)
UNSATISFIED = (
    "failCommand",
    {"failCommands": ["findAndModify"], "writeConcernError": {"code": 64, "errmsg": "waiting timed out"}},
)


def blocked(milliseconds: int) -> dict[str, Any]:
    """Give the failpoint that makes each write take so long."""
    return {"failCommands": ["findAndModify"], "blockConnection": True, "blockTimeMS": milliseconds}


def assert_prefix_sums(answers: Iterable[tuple[Any, Any]], start: Any = 0) -> None:
    """Assert that pairs of (amount, total) are the additions of one order, without a gap or a repeat."""
    total = Fraction(start)
    for amount, told in sorted(answers, key=lambda pair: pair[1]):
        total += Fraction(amount)
        assert Fraction(told) == total


def assert_one_order(verdicts: Sequence[Any], window: str, limit: Any) -> None:
    """Assert that the verdicts of one window belong to one order, and that each was right in its place.

    Those that were granted are prefix sums; one that was refused stood behind a granted one (or before all), and
    found less left than it asked for.
    """
    assert_prefix_sums((decision.amount, decision.used[window]) for decision in verdicts if decision)
    places = {0} | {decision.used[window] for decision in verdicts if decision}
    for decision in verdicts:
        assert decision.remaining[window] == max(0, limit - decision.used[window])
        if not decision:
            assert decision.used[window] in places
            assert decision.amount > decision.remaining[window]
            assert decision.exceeded == (window,)


async def until_sent(db: Any, commands: Any) -> None:
    """Wait until a write was sent: a ping takes a moment, in both worlds."""
    while "findAndModify" not in commands.names:
        await db.command("ping")


# Counters ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("start", [0, 10])
async def test_every_caller_has_a_total_of_its_own(db: Any, commands: Any, start: int) -> None:
    """However many add one at once, totals are 1 to N, N is stored, and there are far fewer commands than calls."""
    hits = AsyncCounter(db, HITS, combine=True)
    if start:
        await hits.add("home", start)
    commands.clear()
    report = await race(lambda _: hits.add("home"), times=400, concurrency=50)
    assert report.errors == []
    assert sorted(report.outcomes) == [start + 1 + index for index in range(400)]
    assert await hits.value("home") == start + 400
    assert commands.names.count("findAndModify") < 200
    assert commands.comments == {"mongopatterns.counter.add", "mongopatterns.counter.value"}


async def test_totals_are_prefix_sums_of_any_amounts(db: Any) -> None:
    """Whole amounts and fractions mix: each total is the one before it and the caller's own amount, without drift."""
    hits = AsyncCounter(db, HITS, combine=True)
    amounts = [1, 0.1, 2, Decimal("0.3"), 5, 0.7, 10**13, Decimal("1e-18")]
    report = await race(lambda index: hits.add("home", amounts[index % 8]), times=320, concurrency=40)
    assert report.errors == []
    exact = [Fraction(str(amount)) for amount in amounts]
    assert_prefix_sums((exact[index % 8], total) for index, total in enumerate(report.outcomes))
    assert Fraction(await hits.value("home")) == sum(exact) * 40


async def test_tenths_of_all_callers_are_whole(db: Any) -> None:
    """Two hundred times 0.1 is 20, told as an int."""
    hits = AsyncCounter(db, HITS, combine=True)
    report = await race(lambda _: hits.add("home", 0.1), times=200, concurrency=50)
    assert report.errors == []
    assert sorted(report.outcomes) == [Decimal(index) / 10 for index in range(1, 201)]
    assert max(report.outcomes) == 20
    assert isinstance(max(report.outcomes), int)


async def test_meters_and_times_travel_with_the_group(db: Any) -> None:
    """What each caller gives its meters is summed up, whether or not it names them; set_now holds a time of then."""
    hits = AsyncCounter(db, HITS, combine=True)
    started = (await db.command("hello"))["localTime"].replace(tzinfo=UTC)
    given: list[Any] = [None, {"size.bytes": 5}, {"size.bytes": 0.25, "errors": 1}, {"errors": 0}]
    report = await race(lambda index: hits.add("home", 2, meters=given[index % 4]), times=200, concurrency=50)
    assert report.errors == []
    assert sorted(report.outcomes) == list(range(2, 402, 2))
    document = await db.counters.find_one({"_id": "home"})
    assert document["size"]["bytes"].to_decimal() == Decimal("262.5")
    assert (document["n"], document["errors"]) == (400, 50)
    assert started <= document["seen"]["last"].replace(tzinfo=UTC) <= started + DAY


async def test_keys_go_side_by_side(db: Any) -> None:
    """Callers of many keys each count on their own key, with create= filled in once."""
    hits = AsyncCounter(db, CounterSpec("counters", path="n", create={"kind": "$page"}), combine=True)
    report = await race(lambda index: hits.add(index % 20), times=400, concurrency=60)
    assert report.errors == []
    for key in range(20):
        assert sorted(report.outcomes[key::20]) == list(range(1, 21))
    documents = await db.counters.find().sort("_id").to_list(None)
    assert documents == [{"_id": key, "kind": "$page", "n": 20} for key in range(20)]


async def test_a_key_is_what_the_server_finds_equal(db: Any) -> None:
    """1 and 1.0 are one key, True, "1" and b"1" are others; so are documents by their fields."""
    hits = AsyncCounter(db, CounterSpec("counters", path="n"), combine=True)
    keys: list[Any] = [1, 1.0, Int64(1), Decimal128("1.0"), True, "1", b"1", {"a": 1}, {"a": 1.0}, {"a": True}]
    report = await race(lambda index: hits.add(keys[index % 10]), times=300, concurrency=60)
    assert report.errors == []
    found = Tally({repr(document["_id"]): document["n"] for document in await db.counters.find().to_list(None)})
    assert sorted(found.values()) == [30, 30, 30, 30, 60, 120]
    assert await hits.value(1) == 120
    assert await hits.value(True) == await hits.value("1") == await hits.value({"a": True}) == 30
    assert await hits.value({"a": 1}) == 60


async def test_a_uuid_and_bytes_that_look_like_it_are_two_keys(db: Any) -> None:
    """Where UUIDs are stored in the old way, one of subtype 4 is another key, and is counted on its own document."""
    options: CodecOptions[Any] = CodecOptions(uuid_representation=UuidRepresentation.PYTHON_LEGACY)
    old = db.get_collection("old", codec_options=options)
    hits, quota = AsyncCounter(old, HITS, combine=True), AsyncQuota(old, ONE, combine=True)
    key = uuid.uuid4()
    keys: list[Any] = [key, Binary.from_uuid(key)]
    report = await race(lambda index: hits.add(keys[index % 2]), times=200, concurrency=50)
    assert report.errors == []
    assert [await hits.value(key) for key in keys] == [100, 100]
    verdicts = await race(lambda index: quota.consume(keys[index % 2]), times=250, concurrency=50)
    assert verdicts.errors == []
    assert [sum(map(bool, verdicts.outcomes[part::2])) for part in (0, 1)] == [100, 100]
    assert [(await quota.peek(key)).used["30d"] for key in keys] == [100, 100]


async def test_more_digits_than_the_server_keeps_are_no_error(db: Any) -> None:
    """A group whose sum has more than 34 digits is stored, as the sums of callers that travel alone are."""
    amount = Decimal("999999999999999.000000000000000007")
    hits = AsyncCounter(db, HITS)
    for _ in range(39):
        await hits.add("alone", amount)
    totals = await hits._together([hits._plan.ask("together", amount, None)] * 39, None)
    assert len(set(totals)) == 39
    for key in ("alone", "together"):
        assert abs(Fraction(await hits.value(key)) - 39 * Fraction(amount)) < Fraction(1, 10**14)


async def test_stripes_and_groups_together_lose_nothing(db: Any) -> None:
    """A striped counter that combines spreads its groups over the stripes, and value adds up all of them."""
    hits = AsyncCounter(db, CounterSpec("counters", path="n", stripes=4), combine=True)
    report = await race(lambda index: hits.add(index % 2, 3), times=300, concurrency=50)
    assert report.errors == []
    assert await hits.values([0, 1]) == {0: 450, 1: 450}
    stored = [(document["_id"]["key"], document["n"]) for document in await db.counters.find().to_list(None)]
    told = Tally(report.outcomes)
    assert all(told[number] >= 1 for _, number in stored), "the last total of each stripe was told to somebody"
    assert len(stored) > 2


# Quotas ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fresh", [True, False])
@pytest.mark.parametrize("limit", [37, 10_000])
async def test_exactly_as_many_as_fit_are_admitted(db: Any, commands: Any, fresh: bool, limit: int) -> None:
    """Of 300 callers exactly min(300, limit) get in; verdicts are those of one order; commands are far fewer."""
    quota = AsyncQuota(db, QuotaSpec("quotas", path="q", windows=[Window.every(30 * DAY, limit)]), combine=True)
    if not fresh:
        await db.quotas.insert_one({"_id": "alice", "name": "Alice"})
    report = await race(lambda _: quota.consume("alice"), times=300, concurrency=50)
    assert report.errors == []
    assert report.count(bool) == min(300, limit)
    assert_one_order(report.outcomes, "30d", limit)
    assert (await db.quotas.find_one({"_id": "alice"}))["q"]["30d"]["used"] == min(300, limit)
    assert commands.names.count("findAndModify") < 150


@pytest.mark.parametrize("seed", range(4))
async def test_mixed_amounts_fill_the_limit_and_refuse_nobody_who_fits(db: Any, seed: int) -> None:
    """Each refused caller asked for more than was left in its place; the sum granted is stored, and is the limit."""
    quota = AsyncQuota(db, ONE, combine=True)
    chance = random.Random(seed)
    amounts = [chance.choice([1, 2, 7, 30, 101, 0.5, Decimal("0.1"), 2.75]) for _ in range(300)] + [0.05] * 100
    report = await race(lambda index: quota.consume("alice", amounts[index]), times=400, concurrency=50)
    assert report.errors == []
    assert_one_order(report.outcomes, "30d", 100)
    granted = sum((Decimal(str(decision.amount)) for decision in report.outcomes if decision), Decimal(0))
    stored = (await quota.peek("alice")).used["30d"]
    assert stored == granted == 100
    assert not [decision for decision in report.outcomes if decision.amount == 101 and decision]


async def test_record_is_charged_in_its_place(db: Any) -> None:
    """Recorded amounts go past the limit, consumed ones never do, and both are told where they stood."""
    quota = AsyncQuota(db, ONE, combine=True)

    def call(index: int) -> Any:
        return quota.record("alice", 3) if index % 10 == 0 else quota.consume("alice", 1)

    report = await race(call, times=300, concurrency=50)
    assert report.errors == []
    assert_one_order(report.outcomes, "30d", 100)
    recorded, consumed = report.outcomes[::10], [report.outcomes[index] for index in range(300) if index % 10]
    assert all(recorded)
    for decision in recorded:
        assert decision.exceeded == (("30d",) if decision.used["30d"] > 100 else ())
    assert all(decision.used["30d"] <= 100 for decision in consumed if decision)
    granted = sum(map(bool, consumed))
    assert (await quota.peek("alice")).used["30d"] == 90 + granted
    assert granted >= 10


async def test_three_windows_banks_meters_and_limits_of_the_document(db: Any) -> None:
    """Every window is charged for all that was granted, bank and all; meters add up; limits are the document's."""
    await db.users.create_index("user", unique=True)
    await db.users.insert_one({"user": "alice", "limits": {"ten": 30, "cap": 20}, "blob": "kept"})
    quota = AsyncQuota(db, THREE, combine=True)
    past = dt.datetime.now(UTC) - 25 * DAY
    await quota.set_state("alice", used={TEN: 5, TWENTY: 60, FORTY: 3, FIFTY: 8}, banked={TEN: 1}, now=past)
    # Since then two windows of ten days have ended and one of twenty: 1 + 25 + 30 and 10 are banked.
    before = await quota.peek("alice")
    assert before.banked == {TEN: 56, TWENTY: 10, FORTY: 0, FIFTY: 0}
    assert before.remaining == {TEN: 86, TWENTY: 80, FORTY: 87, FIFTY: None}
    amounts = [1, 0.5, 4, 2.5]
    report = await race(
        lambda index: quota.consume("alice", amounts[index % 4], meters={"cost": 0.1, "calls": 1}),
        times=200,
        concurrency=50,
    )
    assert report.errors == []
    granted = [decision for decision in report.outcomes if decision]
    # The window of 50 days only meters: it tells the order. The one of 20 days with its bank is the narrowest.
    assert_prefix_sums(((decision.amount, decision.used[FIFTY]) for decision in granted), 8)
    assert sum(Decimal(decision.amount) for decision in granted) == 80
    for decision in report.outcomes:
        charged = decision.used[FIFTY] - 8
        assert decision.used[FORTY] == 3 + charged
        assert decision.used[TEN] + 56 - decision.banked[TEN] == charged
        assert decision.used[TWENTY] + 10 - decision.banked[TWENTY] == charged
        assert decision.banked[TEN] == max(0, 56 - charged), "the bank first"
        assert decision.used[TWENTY] == min(70, charged), "the window first"
        assert decision.remaining == {TEN: 86 - charged, TWENTY: 80 - charged, FORTY: 87 - charged, FIFTY: None}
        if not decision:
            assert decision.amount > decision.remaining[TWENTY]
    counts = sorted(decision.meters["calls"] for decision in granted)
    assert counts == list(range(1, len(granted) + 1))
    assert all(decision.meters["cost"] * 10 == decision.meters["calls"] for decision in report.outcomes)
    after = await quota.peek("alice")
    assert (after.meters["calls"], after.used[FIFTY], after.remaining[TWENTY]) == (len(granted), 88, 0)
    assert (await db.users.find_one({"user": "alice"}))["blob"] == "kept"


async def test_what_was_granted_and_reserved_counts_in_groups(db: Any) -> None:
    """A grant admits that much more, a reservation that much less, and both are told as they stood."""
    quota = AsyncQuota(db, ONE, combine=True)
    await quota.grant("alice", 25)
    hold = await quota.reserve("alice", 40, ttl=3600)
    report = await race(lambda _: quota.consume("alice", 1), times=200, concurrency=50)
    assert report.errors == []
    assert report.count(bool) == 85
    assert_prefix_sums((1, decision.used["30d"]) for decision in report.outcomes if decision)
    for decision in report.outcomes:
        charged = decision.used["30d"]
        assert (decision.held, decision.extra) == (40, 25)
        assert decision.remaining["30d"] == 85 - charged
    settled = await quota.settle(hold.token, 40)
    assert (settled.decision.used, settled.decision.extra) == ({"30d": 125}, 0)


async def test_what_was_granted_is_used_up_last(db: Any) -> None:
    """Groups take from the window until it is empty, then from what was given, and tell each caller what is left."""
    quota = AsyncQuota(db, ONE, combine=True)
    await quota.grant("alice", 30)
    report = await race(lambda index: quota.consume("alice", 2 - index % 2), times=200, concurrency=50)
    assert report.errors == []
    granted = [decision for decision in report.outcomes if decision]
    assert sum(decision.amount for decision in granted) == 130
    assert_prefix_sums((decision.amount, decision.used["30d"]) for decision in granted)
    for decision in report.outcomes:
        assert decision.extra == min(30, 130 - decision.used["30d"])
        assert decision.remaining["30d"] == 130 - decision.used["30d"]
    await quota.refund("alice", 50)
    assert (await quota.peek("alice")).extra == 30


RANDOM_SPEC = QuotaSpec(
    "quotas",
    path="deep.er.q",
    align="first_use",
    meters=("cost",),
    windows=[
        Window.every(10 * DAY, 20, rollover=Rollover(cap=15)),
        Window.every(11 * DAY, 30.5, rollover=Rollover(cap=7.25, spend="window_first")),
        Window.every(12 * DAY, 45),
        Window.every(13 * DAY, None),
    ],
)


@pytest.mark.parametrize("seed", range(6))
async def test_a_group_is_decided_as_its_calls_would_be_one_by_one(db: Any, seed: int) -> None:
    """Each member of a random group is told, to the field, what the same call is told when all go one by one."""
    chance = random.Random(seed)
    quota = AsyncQuota(db, RANDOM_SPEC)
    for number in range(15):
        one, other = f"{number} one by one", f"{number} together"
        banked = {"10d": chance.choice([0, 3, 15]), "11d": chance.choice([0, 0.25, 7.25])}
        used = {name: chance.choice([0, 5, 0.5, 30, 60]) for name in ("10d", "11d", "12d", "13d")}
        past = dt.datetime.now(UTC) - chance.choice([0, 5, 10.5, 21, 300]) * DAY
        grant, reserve = chance.choice([0, 0, 4, 12.5]), chance.choice([0, 0, 3])
        if number % 5:
            for key in (one, other):
                await quota.set_state(key, used=used, banked=banked, now=past)
                if grant:
                    await quota.grant(key, grant)
                if reserve:
                    await quota.reserve(key, reserve, ttl=3600)
        calls: list[tuple[str, Any, Any]] = []
        for _ in range(chance.randint(2, 12)):
            call = (
                chance.choice(["consume", "consume", "record"]),
                chance.choice([1, 2, 0.5, 7, Decimal("0.1"), 40]),
                chance.choice([None, {"cost": 0.25}]),
            )
            calls += [call] * chance.choice([1, 1, 3, 9])
        expected = [await getattr(quota, name)(one, amount, meters=meters) for name, amount, meters in calls]
        asks = [quota._plan.ask(name, other, amount, meters) for name, amount, meters in calls]
        told = await quota._together(asks, None)
        # The times of the two differ by the moment in between.
        shown = [
            [{name: value for name, value in decision.to_dict().items() if name not in TIMES} for decision in decisions]
            for decisions in (told, expected)
        ]
        assert shown[0] == shown[1]
        states = [await db.quotas.find_one({"_id": key}) for key in (other, one)]
        if states[1] is None or states[0] is None:
            assert states == [None, None]
            continue
        numbers = [state["deep"]["er"]["q"] for state in states]
        for part in ("10d", "11d", "12d", "13d", "extra", "meters"):
            assert _as_numbers(numbers[0].get(part)) == _as_numbers(numbers[1].get(part))


TIMES = ("key", "at", "resets_at", "retry_after")


def _as_numbers(part: Any) -> dict[str, Decimal]:
    """Give the numbers of a part of the state, whatever their types; what is 0 is as good as not there."""
    numbers = {name: value for name, value in (part or {}).items() if name not in ("end", "until")}
    exact = {
        name: value.to_decimal() if isinstance(value, Decimal128) else Decimal(value) for name, value in numbers.items()
    }
    return {name: value for name, value in exact.items() if value}


async def test_grants_of_a_group_survive_refunds_and_reservations_in_between(db: Any) -> None:
    """Refunds, reservations and settlements go alone between the groups, and the account is exact at the end."""
    quota = AsyncQuota(db, ONE, combine=True)

    async def call(index: int) -> Any:
        if index % 7 == 0 and await quota.consume("alice", 2):
            await quota.refund("alice", 2)
            return 0
        if index % 7 == 1:
            hold = await quota.reserve("alice", 2, ttl=3600)
            return (await quota.settle(hold.token, 1)).decision.amount if hold else 0
        return int(bool(await quota.consume("alice")))

    report = await race(call, times=210, concurrency=30)
    assert report.errors == []
    assert sum(report.outcomes) == (await quota.peek("alice")).used["30d"] <= 100
    assert (await quota.peek("alice")).held == 0
    assert sum(report.outcomes) >= 98


async def test_a_refused_group_writes_nothing(client: Any, db: Any) -> None:
    """Groups of callers who are all refused log nothing on a used-up key, and make no document for a fresh one."""
    quota = AsyncQuota(db, ONE, combine=True)
    await quota.record("full", 100)
    await db.quotas.insert_one({"_id": "bare"})
    oplog = client.local["oplog.rs"]
    mine = {"ns": f"{db.name}.quotas"}
    before = await oplog.count_documents(mine)
    documents = await db.quotas.find({}).sort("_id").to_list(None)
    for key in ("full", "bare", "fresh"):
        report = await race(lambda index, key=key: quota.consume(key, 101 + index % 3), times=100, concurrency=30)
        assert report.errors == []
        assert report.count(bool) == 0
        assert all(decision.exceeded == ("30d",) for decision in report.outcomes)
    assert await db.quotas.find({}).sort("_id").to_list(None) == documents
    assert await oplog.count_documents(mine) == before


async def test_a_fresh_key_is_made_by_the_group_that_admits_somebody(db: Any, commands: Any) -> None:
    """Among callers who would be refused, those who fit make the document, and get in exactly."""
    quota = AsyncQuota(db, ONE, combine=True)
    amounts = [101, 200, 60, 101, 50]
    report = await race(lambda index: quota.consume(index // 10, amounts[index % 5]), times=200, concurrency=60)
    assert report.errors == []
    for key in range(20):
        granted = [decision.amount for decision in report.outcomes[key * 10 : key * 10 + 10] if decision]
        assert granted in ([60], [50, 50])
    assert await db.quotas.count_documents({}) == 20
    for _, command in commands.sent:
        asked = [run["a"] for run in command.get("let", {}).get("runs", ())]
        if asked:
            assert command["upsert"] is (min(asked) <= 100)


async def test_the_callers_own_document_does_not_travel(db: Any, commands: Any) -> None:
    """A document of 1 MB is charged and counted by groups, and its megabyte stays where it is."""
    await db.counters.insert_one({"_id": "big", "blob": "x" * 1_000_000})
    await db.quotas.insert_one({"_id": "big", "blob": "x" * 1_000_000})
    hits, quota = AsyncCounter(db, HITS, combine=True), AsyncQuota(db, ONE, combine=True)
    commands.clear()
    for call in (lambda _: hits.add("big"), lambda index: quota.consume("big", 1 + index % 2)):
        report = await race(call, times=60, concurrency=30)
        assert report.errors == []
    assert max(commands.reply_bytes) < 3000
    assert len((await db.quotas.find_one())["blob"]) == 1_000_000


# Who travels alone -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fresh", [True, False])
async def test_a_lone_caller_sends_what_an_uncombined_one_sends(db: Any, commands: Any, fresh: bool) -> None:
    """With nobody beside it, a call with combine=True is the same command, byte for byte but for its token."""
    sent = []
    for combine in (False, True):
        hits, quota = AsyncCounter(db, HITS, combine=combine), AsyncQuota(db, THREE, combine=combine)
        commands.clear()
        await hits.add("home" if fresh else "page", 2, meters={"errors": 1}, timeout=5)
        await quota.consume("alice", 2, meters={"cost": 1})
        await quota.record("alice", 200)
        for name in ("lsid", "txnNumber", "$clusterTime", "maxTimeMS"):
            for _, command in commands.sent:
                command.pop(name, None)
        tokens = [command["let"].pop("token") for _, command in commands.sent if "let" in command]
        assert len(tokens) == 2
        sent.append(commands.sent[:])
        if not fresh:
            continue
        await db.counters.drop()
        await db.users.drop()
    assert repr(sent[0]) == repr(sent[1])


async def test_calls_with_an_id_or_a_time_travel_alone(db: Any, commands: Any) -> None:
    """Between the groups of others, once= counts once, now= dates its own call, and each is a command of its own."""
    hits = AsyncCounter(db, CounterSpec("counters", path="n"), combine=True)
    quota = AsyncQuota(db, QuotaSpec("quotas", path="q", windows=[Window.every(30 * DAY, 10**6)]), combine=True)

    def call(index: int) -> Any:
        if index % 10 == 0:
            return hits.add("home", 1000, once=f"id {index % 50}")
        if index % 10 == 1:
            return quota.consume("alice", 1000, once=f"id {index % 50}")
        if index % 10 == 2:
            return quota.consume("alice", 1, now=dt.datetime.now(UTC))
        return hits.add("home") if index % 2 else quota.consume("alice")

    report = await race(call, times=400, concurrency=50)
    assert report.errors == []
    assert await hits.value("home") == 5 * 1000 + 160
    assert (await quota.peek("alice")).used["30d"] == 5 * 1000 + 40 + 160 - 40
    own = [command for _, command in commands.sent if "once" in str(command.get("let", command.get("update")))]
    assert len(own) == 80
    repeated = [decision.repeated for decision in report.outcomes[1::10]]
    assert repeated.count(False) == 5


async def test_a_transaction_between_groups_is_all_or_nothing(client: Any, db: Any) -> None:
    """Calls with a session belong to its transaction while groups write the same key; aborted ones leave nothing."""
    hits, quota = AsyncCounter(db, HITS, combine=True), AsyncQuota(db, THREE, combine=True)
    await db.users.create_index("user", unique=True)
    await hits.add("home")
    await quota.record("alice", 1)

    async def transact(*, commit: bool) -> int:
        async with await settle(client.start_session()) as session:
            await settle(session.start_transaction())
            try:
                await hits.add("home", 1000, session=session)
                await quota.record("alice", 1000, session=session)
            except OperationFailure as error:
                if not error.has_error_label("TransientTransactionError"):
                    raise
                await session.abort_transaction()  # a group was quicker
                return 0
            if not commit:
                await session.abort_transaction()
                return 0
            await session.commit_transaction()
            return 1000

    async def call(index: int) -> int:
        if index % 20 == 7:
            return await transact(commit=index % 40 == 7)
        await hits.add("home")
        assert await quota.record("alice", 1)
        return 1

    report = await race(call, times=200, concurrency=20)
    assert report.errors == []
    committed = await transact(commit=True)
    assert committed == 1000
    assert await hits.value("home") == 1 + sum(report.outcomes) + committed
    assert (await quota.peek("alice")).used[FIFTY] == 1 + sum(report.outcomes) + committed


# Errors ------------------------------------------------------------------------------------------------------


async def test_a_refusal_of_the_server_reaches_every_member(db: Any) -> None:
    """A counter that holds text fails every caller, changes nothing, and works again once it is mended."""
    await db.counters.insert_one({"_id": "home", "n": "many"})
    hits = AsyncCounter(db, HITS, combine=True)
    report = await race(lambda _: hits.add("home"), times=100, concurrency=50)
    assert report.outcomes == []
    assert {(type(error), getattr(error, "code", None)) for _, error in report.errors} == {(OperationFailure, 14)}
    assert not any(may_have_applied(error) for _, error in report.errors)
    assert len({id(error) for _, error in report.errors}) == 100, "each caller has an error of its own"
    assert await db.counters.find_one() == {"_id": "home", "n": "many"}
    await db.counters.update_one({"_id": "home"}, {"$set": {"n": 5}})
    report = await race(lambda _: hits.add("home"), times=50, concurrency=50)
    assert sorted(report.outcomes) == list(range(6, 56))


async def test_a_state_that_is_none_reaches_every_member(db: Any) -> None:
    """A state of another shape, or a limit that is none, is a StateError for every caller, and stays."""
    await db.quotas.insert_one({"_id": "alice", "q": {"30d": {"end": "soon", "used": 1}}})
    await db.users.insert_one({"_id": 1, "user": "alice", "limits": {"ten": "many"}})
    before = [await db.quotas.find_one(), await db.users.find_one()]
    for spec in (ONE, THREE):
        quota = AsyncQuota(db, spec, combine=True)
        report = await race(
            lambda index, quota=quota: (quota.consume if index % 2 else quota.record)("alice", 1 + index % 3),
            times=100,
            concurrency=50,
        )
        assert report.outcomes == []
        told = {(type(error), getattr(error, "key", None), getattr(error, "path", None)) for _, error in report.errors}
        assert told == {(StateError, "alice", "q.30d" if spec is ONE else "limits.ten")}
    assert [await db.quotas.find_one(), await db.users.find_one()] == before


async def test_a_document_that_may_not_be_made_is_missing_for_every_member(db: Any) -> None:
    """With create=None every caller of an unknown key is told so, and nothing is made."""
    hits = AsyncCounter(db, CounterSpec("counters", path="n", create=None), combine=True)
    quota = AsyncQuota(db, QuotaSpec("quotas", path="q", create=None, windows=ONE.windows), combine=True)
    report = await race(
        lambda index: hits.add("ghost") if index % 2 else quota.consume("ghost"), times=100, concurrency=50
    )
    assert report.outcomes == []
    assert {type(error) for _, error in report.errors} == {DocumentNotFound}
    assert await db.list_collection_names() == []


async def test_a_bad_call_fails_alone(db: Any) -> None:
    """What cannot be sent is a UsageError of the caller who asked for it; those beside it are counted."""
    hits = AsyncCounter(db, HITS, combine=True)
    bad: list[dict[str, Any]] = [
        {"amount": 0},
        {"meters": {"other": 1}},
        {"meters": {"errors": -1}},
        {"once": ""},
        {"timeout": 0},
        {"key": None},
    ]

    def call(index: int) -> Any:
        return hits.add(**{"key": "home", **(bad[index % 60 // 10] if index % 10 == 0 else {})})

    report = await race(call, times=180, concurrency=50)
    assert {type(error) for _, error in report.errors} == {UsageError}
    assert [index for index, _ in report.errors] == list(range(0, 180, 10))
    assert sorted(report.outcomes) == list(range(1, 163))


# Lost replies ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "data"), [LOST_REPLY, RETRIED_REPLY])
@pytest.mark.parametrize("key", ["counter", "fresh", "given"])
async def test_lost_replies_double_nothing_and_every_verdict_is_right(
    db: Any, mongopatterns_server: Any, name: str, data: dict[str, Any], key: str
) -> None:
    """When the reply to a group is lost after the write, the driver's repeat is told what is stored: nobody notices."""
    hits, quota = AsyncCounter(db, HITS, combine=True), AsyncQuota(db, ONE, combine=True)
    limit = 100
    if key == "given":
        limit += 7
        await quota.grant(key, 7)

    async def send(index: int) -> Any:
        amount = 1 + index % 3
        if key == "counter":
            return amount, await hits.add(key, amount)
        return await (quota.record(key, amount) if index % 9 == 0 else quota.consume(key, amount))

    async def call(index: int) -> Any:
        if index != 20:
            return await send(index)
        # Others are in flight, so this one goes with a group, and the group's reply is the one that is lost. Once:
        # failCommand would meet the repeat as well, which is a command like any other.
        with mongopatterns_server.fail_point(name, mode={"times": 1}, data=data):
            return await send(index)

    told: list[Any] = []
    for _ in range(2):
        report = await race(call, times=75, concurrency=30)
        assert report.errors == []
        told += report.outcomes
    if key == "counter":
        assert_prefix_sums(told)
        assert await hits.value(key) == 300
        return
    assert_prefix_sums((decision.amount, decision.used["30d"]) for decision in told if decision)
    for decision in told:
        assert decision.remaining["30d"] == max(0, limit - decision.used["30d"])
        assert decision or decision.amount > decision.remaining["30d"]
    granted = sum(decision.amount for decision in told if decision)
    assert (await quota.peek(key)).used["30d"] == granted >= limit


async def test_an_unsatisfied_write_concern_is_an_unknown_outcome(db: Any, mongopatterns_server: Any) -> None:
    """What was applied and not acknowledged is OutcomeUnknown for its callers, and the sums hold within that."""
    hits, quota = AsyncCounter(db, HITS, combine=True), AsyncQuota(db, ONE, combine=True)
    name, data = UNSATISFIED
    with mongopatterns_server.fail_point(name, mode={"times": 4}, data=data):
        report = await race(
            lambda index: hits.add("home") if index % 2 else quota.consume("alice"), times=300, concurrency=50
        )
    assert report.errors
    for _, error in report.errors:
        assert type(error) is OutcomeUnknown
        assert isinstance(error.__cause__, WriteConcernError)
        assert may_have_applied(error)
    unknown = [index % 2 for index, _ in report.errors]
    totals = [told for told in report.outcomes if isinstance(told, int)]
    assert len(set(totals)) == len(totals)
    assert await hits.value("home") == len(totals) + unknown.count(1)
    verdicts = [told for told in report.outcomes if not isinstance(told, int)]
    told = [decision.used["30d"] for decision in verdicts if decision]
    assert len(set(told)) == len(told)
    assert (await quota.peek("alice")).used["30d"] == 100
    assert len(told) <= 100 <= len(told) + unknown.count(0)


# Time ---------------------------------------------------------------------------------------------------------


async def test_callers_whose_time_runs_out_in_the_queue_are_not_sent(
    db: Any, commands: Any, mongopatterns_server: Any
) -> None:
    """Behind a slow request, a timeout is NotSent, and nothing of it is stored then or later."""
    quota = AsyncQuota(db, ONE, combine=True)

    async def call(index: int) -> Any:
        if index == 0:
            return await quota.consume("alice", 50)
        await until_sent(db, commands)
        return await quota.consume("alice", 1, timeout=0.1)

    with mongopatterns_server.fail_point("failCommand", mode={"times": 1}, data=blocked(1500)):
        report = await race(call, times=21, concurrency=21)
    assert [told.used["30d"] for told in report.outcomes] == [50]
    assert {type(error) for _, error in report.errors} == {NotSent}
    assert not any(may_have_applied(error) for _, error in report.errors)
    assert all(isinstance(error, TimeoutError) for _, error in report.errors)
    assert (await quota.consume("alice", 50)).used == {"30d": 100}


async def test_callers_whose_time_runs_out_after_sending_do_not_know(
    db: Any, commands: Any, mongopatterns_server: Any
) -> None:
    """In a slow group the impatient are told OutcomeUnknown in time, and the patient their answer; all are stored."""
    hits = AsyncCounter(db, HITS, combine=True)

    async def call(index: int) -> Any:
        if index > 0:
            await until_sent(db, commands)
        return await hits.add("home", timeout=1.2 if index % 2 else None)

    with mongopatterns_server.fail_point("failCommand", data=blocked(800)):
        report = await race(call, times=21, concurrency=21)
    assert [index for index, _ in report.errors] == list(range(1, 21, 2))
    for _, error in report.errors:
        assert type(error) is OutcomeUnknown
        assert isinstance(error.__cause__, TimeoutError)
        assert may_have_applied(error)
    assert len(set(report.outcomes)) == 11
    assert await hits.value("home") == 21


async def test_a_group_that_times_out_is_unknown_to_all(db: Any, commands: Any, mongopatterns_server: Any) -> None:
    """When nobody in a group has time left, all are told within it, and what is stored is within what is unknown."""
    hits = AsyncCounter(db, HITS, combine=True)
    await hits.add("home")
    commands.clear()

    async def call(index: int) -> Any:
        if index > 0:
            await until_sent(db, commands)
        return await hits.add("home", timeout=None if index == 0 else 0.9)

    with mongopatterns_server.fail_point("failCommand", data=blocked(600)):
        report = await race(call, times=21, concurrency=21)
    assert report.outcomes == [2]
    assert {type(error) for _, error in report.errors} == {OutcomeUnknown}
    assert 2 <= await hits.value("home") <= 22
    assert await hits.add("home") <= 23


# Closing -----------------------------------------------------------------------------------------------------


async def test_close_answers_who_came_before_and_refuses_who_comes_after(db: Any) -> None:
    """Callers up to close() are answered, later ones get a UsageError, and what is stored is what was told."""
    for primitive, call in (
        (hits := AsyncCounter(db, HITS, combine=True), hits.add),
        (
            quota := AsyncQuota(db, QuotaSpec("quotas", path="q", windows=[Window.day(None)]), combine=True),
            quota.record,
        ),
    ):
        report = await race(
            lambda index, primitive=primitive, call=call: call("home") if index != 60 else primitive.close(),
            times=200,
            concurrency=40,
        )
        assert {type(error) for _, error in report.errors} <= {UsageError}
        with pytest.raises(UsageError, match="is closed"):
            await call("home")
        await primitive.close()
        assert len(report.outcomes) > 20
        stored = await hits.value("home") if primitive is hits else (await quota.peek("home")).used["day"]
        assert stored == len(report.outcomes) - 1


async def test_the_end_of_a_block_closes(db: Any, commands: Any) -> None:
    """`async with` gives the primitive itself and closes it; without combine that changes nothing."""
    async with AsyncCounter(db, HITS, combine=True) as hits, AsyncQuota(db, ONE, combine=True) as quota:
        assert await hits.add("home") == 1
        assert await quota.consume("alice")
    commands.clear()
    for call in (hits.add, quota.consume, quota.record):
        with pytest.raises(UsageError, match="is closed"):
            await call("home")
    assert commands.names == []
    assert await hits.value("home") == 1
    async with AsyncCounter(db, HITS) as plain:
        pass
    assert await plain.add("home") == 2


# Cancellation ------------------------------------------------------------------------------------------------


# generate: async only
async def end_early(call: Any, number: int, chance: random.Random) -> Any:
    """Wait for a call for a moment only, or cancel it after a few turns of the event loop, or wait for its answer."""
    if number % 3 == 0:
        return await asyncio.wait_for(call(), chance.choice([0.0005, 0.002, 0.01, 5]))
    task = asyncio.create_task(call())
    if number % 3 == 1:
        for _ in range(chance.choice([0, 1, 2, 20, 400])):
            await asyncio.sleep(0)
        task.cancel()
    return await task


# generate: async only
@pytest.mark.parametrize("kind", ["counter", "quota"])
async def test_cancelled_callers_leave_the_others_exact(db: Any, kind: str) -> None:
    """Callers that are cancelled or give up at any moment hang nobody, and at most their own calls are uncertain."""
    chance = random.Random(7)
    hits, quota = AsyncCounter(db, HITS, combine=True), AsyncQuota(db, ONE, combine=True)
    told: list[Any] = []
    uncertain: list[BaseException] = []

    async def call() -> Any:
        return await (hits.add("home") if kind == "counter" else quota.consume("alice"))

    async def work(number: int) -> None:
        for _ in range(15):
            try:
                told.append(await end_early(call, number, chance))
            except (asyncio.TimeoutError, asyncio.CancelledError) as error:  # (on 3.10 not the built-in)
                uncertain.append(error)

    await asyncio.wait_for(asyncio.gather(*(work(number) for number in range(45))), 60)
    await asyncio.wait_for(asyncio.gather(hits.close(), quota.close()), 10)
    assert uncertain
    assert len(told) + len(uncertain) == 45 * 15
    if kind == "counter":
        answers, stored = told, await hits.value("home")
    else:
        answers, stored = [decision.used["30d"] for decision in told if decision], 100
        assert (await quota.peek("alice")).used == {"30d": 100}
        assert all(decision or decision.used == {"30d": 100} for decision in told)
    assert len(set(answers)) == len(answers), "each has an answer of its own"
    assert len(answers) <= stored <= len(answers) + len(uncertain)
    assert max(answers) <= stored


# generate: async only
async def test_a_cancelled_caller_in_the_queue_is_not_sent(db: Any, commands: Any, mongopatterns_server: Any) -> None:
    """Who is cancelled behind a slow request leaves nothing, and who stays gets the first total after it."""
    hits = AsyncCounter(db, HITS, combine=True)
    with mongopatterns_server.fail_point("failCommand", mode={"times": 1}, data=blocked(500)):
        first = asyncio.create_task(hits.add("home"))
        await until_sent(db, commands)
        gone = [asyncio.create_task(hits.add("home", 1000)) for _ in range(20)]
        stays = asyncio.create_task(hits.add("home"))
        await asyncio.sleep(0)
        for task in gone:
            task.cancel()
        ended = await asyncio.gather(*gone, return_exceptions=True)
        assert [type(error) for error in ended] == [asyncio.CancelledError] * 20
        assert not first.done()
        assert [await first, await stays] == [1, 2]
    assert await hits.value("home") == 2


# generate: async only
async def test_the_cancelled_caller_of_a_group_does_not_take_it_along(
    db: Any, commands: Any, mongopatterns_server: Any
) -> None:
    """When members of a group that was sent are cancelled, the others get their totals, and all are stored."""
    hits = AsyncCounter(db, HITS, combine=True)
    with mongopatterns_server.fail_point("failCommand", mode={"times": 2}, data=blocked(300)):
        first = asyncio.create_task(hits.add("home"))
        await until_sent(db, commands)
        members = [asyncio.create_task(hits.add("home")) for _ in range(20)]
        await first
        while len([name for name in commands.names if name == "findAndModify"]) < 2:
            await asyncio.sleep(0.001)
        for task in members[::2]:
            task.cancel()
        ended = await asyncio.gather(*members, return_exceptions=True)
    assert [type(error) for error in ended[::2]] == [asyncio.CancelledError] * 10
    assert ended[1::2] == list(range(3, 23, 2))
    assert await hits.value("home") == 21


# generate: async only
async def test_a_cancelled_first_caller_makes_room_for_the_rest(
    db: Any, commands: Any, mongopatterns_server: Any
) -> None:
    """When the caller in flight is cancelled those behind it are sent; its own call is stored once or not at all."""
    quota = AsyncQuota(db, ONE, combine=True)
    with mongopatterns_server.fail_point("failCommand", mode={"times": 1}, data=blocked(500)):
        first = asyncio.create_task(quota.consume("alice", 10))
        await until_sent(db, commands)
        others = [asyncio.create_task(quota.consume("alice")) for _ in range(20)]
        await asyncio.sleep(0)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        verdicts = await asyncio.wait_for(asyncio.gather(*others), 30)
    assert all(verdicts)
    assert len({decision.used["30d"] for decision in verdicts}) == 20
    assert (await quota.peek("alice")).used["30d"] in (20, 30)
