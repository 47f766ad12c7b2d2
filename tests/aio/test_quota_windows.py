"""Windows of every kind on a real server: any length, from the first use, odd zones, clocks that step back."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from bson import ObjectId

from mongopatterns import AsyncQuota, Field, QuotaSpec, Rollover, Times, Window

UTC = dt.timezone.utc
NOON = dt.datetime(2026, 3, 4, 12, 30, tzinfo=UTC)
MS = dt.timedelta(milliseconds=1)
MINUTE = dt.timedelta(minutes=1)
HOUR = dt.timedelta(hours=1)
DAY = dt.timedelta(days=1)
QUARTER = 15 * MINUTE


def at(text: str) -> dt.datetime:
    return dt.datetime.fromisoformat(text).replace(tzinfo=UTC)


# Windows of any length ---------------------------------------------------------------------------------------

GRID = [
    # length, its name, an instant in the window, the end of the window
    (QUARTER, "15m", "2026-03-04T12:37:12.345", "2026-03-04T12:45"),
    (36 * HOUR, "36h", "2026-03-04T12:00", "2026-03-05T00:00"),
    (90_000 * MS, "90s", "2026-03-04T12:30:31", "2026-03-04T12:31:30"),
    (60 * MINUTE, "1h", "2026-03-04T12:30", "2026-03-04T13:00"),
    (24 * HOUR, "1d", "2026-03-04T12:30", "2026-03-05T00:00"),
    (7 * MS, "7ms", "2026-03-04T00:00", "2026-03-04T00:00:00.001"),
    (MS, "1ms", "2026-03-04T12:30", "2026-03-04T12:30:00.001"),
    (7 * DAY, "7d", "2026-03-04T12:30", "2026-03-05T00:00"),  # 1970 began on a Thursday
]


@pytest.mark.parametrize("window", GRID, ids=lambda window: window[1])
@pytest.mark.parametrize("zone", ["UTC", "Asia/Kathmandu"])
async def test_a_window_of_any_length_is_counted_from_1970_in_utc(db: Any, window: Any, zone: str) -> None:
    """Its ends lie on the grid of its length since 1970 began in UTC, whatever the quota's zone."""
    length, name, instant, end = window
    quota = AsyncQuota(db, QuotaSpec("quotas", path="q", timezone=zone, windows=[Window.every(length, 5)]))
    now, ends = at(instant), at(end)
    assert (await quota.peek("a", now=now)).resets_at == {name: ends}
    assert (await quota.consume("a", 5, now=now)).resets_at == {name: ends}
    refused = await quota.consume("a", 1, now=ends - MS)
    assert (bool(refused), refused.retry_after) == (False, 0.001)
    assert await quota.consume("a", 5, now=ends)
    assert not await quota.consume("a", 1, now=ends)


async def test_several_lengths_and_units_count_side_by_side(db: Any) -> None:
    """An hour of the calendar and windows of 60 minutes, 90 seconds and 7 ms are windows of their own."""
    lengths = [60 * MINUTE, 90_000 * MS, 7 * MS]
    windows = [Window.hour(20), *(Window.every(length, 10) for length in lengths)]
    quota = AsyncQuota(db, QuotaSpec("quotas", path="q", timezone="Asia/Kathmandu", windows=windows))
    first = await quota.consume("a", 10, now=NOON)
    assert first.used == {"hour": 10, "1h": 10, "90s": 10, "7ms": 10}
    assert (first.resets_at["hour"], first.resets_at["1h"]) == (at("2026-03-04T13:15"), at("2026-03-04T13:00"))
    refused = await quota.consume("a", 1, now=NOON)
    assert (refused.exceeded, refused.limited_by) == (("1h", "90s", "7ms"), "1h")
    assert (await quota.consume("a", 10, now=at("2026-03-04T13:00"))).used == {
        "hour": 20,
        "1h": 10,
        "90s": 10,
        "7ms": 10,
    }


async def test_idle_windows_of_any_length_bank(db: Any) -> None:
    """Every whole window between the last charge and now banks its limit, up to the cap, and not one more."""
    quota = AsyncQuota(
        db, QuotaSpec("quotas", path="q", windows=[Window.every(QUARTER, 10, rollover=Rollover(Times(3)))])
    )
    await quota.consume("a", 7, now=at("2026-03-04T12:31"))
    for instant, banked in (("12:44:59.999", 0), ("12:45", 3), ("12:59:59.999", 3), ("13:00", 13), ("13:15", 23)):
        assert (await quota.peek("a", now=at(f"2026-03-04T{instant}"))).banked == {"15m": banked}
    now = at("2026-03-04T15:00")
    assert not await quota.consume("a", 41, now=now)
    assert (await quota.consume("a", 40, now=now)).remaining == {"15m": 0}


# From the first use ------------------------------------------------------------------------------------------

FIRST_USE = [
    # zone, window, the first use, the end
    ("UTC", Window.hour(5), "2026-03-04T12:30:00.345", "2026-03-04T13:30:00.345"),
    ("UTC", Window.every(QUARTER, 5), "2026-03-04T12:37:12.345", "2026-03-04T12:52:12.345"),
    ("UTC", Window.day(5), "2026-03-04T12:30", "2026-03-05T12:30"),
    ("UTC", Window.week(5), "2026-03-04T12:30", "2026-03-11T12:30"),
    ("UTC", Window.month(5), "2026-03-04T12:30", "2026-04-04T12:30"),
    ("UTC", Window.month(5), "2026-01-31T10:00", "2026-02-28T10:00"),
    ("UTC", Window.month(5), "2028-01-31T10:00", "2028-02-29T10:00"),
    ("UTC", Window.month(5), "2028-02-29T10:00", "2028-03-29T10:00"),
    ("UTC", Window.month(5), "2026-12-31T23:59", "2027-01-31T23:59"),
    ("Europe/Berlin", Window.day(5), "2026-03-28T11:00", "2026-03-29T10:00"),  # noon to noon: 23 hours
    ("Europe/Berlin", Window.day(5), "2026-10-24T10:00", "2026-10-25T11:00"),  # 25 hours
    ("Europe/Berlin", Window.day(5), "2026-03-28T01:30", "2026-03-29T01:30"),  # 02:30 is skipped: 03:30
    ("Europe/Berlin", Window.day(5), "2026-10-24T00:30", "2026-10-25T00:30"),  # 02:30 comes twice: the first
    ("Europe/Berlin", Window.hour(5), "2026-03-29T00:30", "2026-03-29T01:30"),  # an hour is an hour
    ("Europe/Berlin", Window.month(5), "2026-03-01T12:00", "2026-04-01T11:00"),
    ("America/New_York", Window.week(5), "2026-03-05T12:00", "2026-03-12T11:00"),
    ("America/Santiago", Window.day(5), "2026-09-05T04:30", "2026-09-06T04:30"),  # 00:30 is skipped: 01:30
    ("Australia/Lord_Howe", Window.day(5), "2026-04-04T10:00", "2026-04-05T10:30"),  # half an hour back
    ("Australia/Lord_Howe", Window.week(5), "2026-09-30T10:00", "2026-10-07T09:30"),
    ("Atlantic/Azores", Window.day(5), "2026-10-24T00:30", "2026-10-25T00:30"),  # 00:30 comes twice
    ("Pacific/Apia", Window.day(5), "2011-12-29T20:00", "2011-12-30T20:00"),  # 30 December did not exist
    ("Pacific/Apia", Window.week(5), "2011-12-28T20:00", "2012-01-03T20:00"),
]


@pytest.mark.parametrize(("zone", "window", "instant", "end"), FIRST_USE)
async def test_a_window_from_its_first_use_ends_at_the_same_local_time(
    db: Any, zone: str, window: Window, instant: str, end: str
) -> None:
    """It runs from its first charge for its length, and the next one begins with the first charge after it."""
    quota = AsyncQuota(db, QuotaSpec("quotas", path="q", timezone=zone, align="first_use", windows=[window]))
    now, ends = at(instant), at(end)
    assert (await quota.peek("a", now=now)).resets_at == {window.name: ends}
    assert (await quota.consume("a", 5, now=now)).resets_at == {window.name: ends}
    assert (await quota.consume("a", 1, now=now)).retry_after == (ends - now).total_seconds()
    refused = await quota.consume("a", 1, now=ends - MS)
    assert (bool(refused), refused.retry_after, refused.resets_at) == (False, 0.001, {window.name: ends})
    begun = await quota.consume("a", 5, now=ends + QUARTER)
    assert begun
    assert begun.resets_at[window.name] > ends + QUARTER
    assert not await quota.consume("a", 1, now=begun.resets_at[window.name] - MS)
    assert await quota.consume("a", 5, now=begun.resets_at[window.name])


async def test_each_window_says_where_it_begins(db: Any) -> None:
    """A window's own align= goes before the quota's, in both directions."""
    windows = [Window.hour(9, align="calendar"), Window.day(9), Window.every(QUARTER, 9, align="calendar")]
    quota = AsyncQuota(db, QuotaSpec("quotas", path="q", align="first_use", windows=windows))
    assert (await quota.consume("a", now=NOON)).resets_at == {
        "hour": at("2026-03-04T13:00"),
        "day": NOON + DAY,
        "15m": at("2026-03-04T12:45"),
    }
    windows = [Window.hour(9, align="first_use"), Window.day(9), Window.every(QUARTER, 9, align="first_use")]
    quota = AsyncQuota(db, QuotaSpec("quotas", path="q", windows=windows))
    assert (await quota.consume("b", now=NOON)).resets_at == {
        "hour": NOON + HOUR,
        "day": at("2026-03-05T00:00"),
        "15m": NOON + QUARTER,
    }


IDLE = [
    # zone, window, the first charge, then instants and what is banked by then
    (
        "UTC",
        Window.every(QUARTER, 10, rollover=Rollover(25)),
        "2026-03-04T12:01:00",
        [("2026-03-04T12:30:59.999", 3), ("2026-03-04T12:31", 13), ("2026-03-04T12:46", 23), ("2026-03-04T13:01", 25)],
    ),
    (
        "Europe/Berlin",
        Window.day(10, rollover=Rollover(50)),
        "2026-03-27T11:00",  # noon
        [("2026-03-28T11:00", 3), ("2026-03-29T09:59:59.999", 3), ("2026-03-29T10:00", 13), ("2026-03-30T10:00", 23)],
    ),
    (
        "Europe/Berlin",
        Window.day(10, rollover=Rollover(50)),
        "2026-10-23T10:00",
        [("2026-10-24T10:00", 3), ("2026-10-25T10:59:59.999", 3), ("2026-10-25T11:00", 13)],
    ),
    (
        "UTC",
        Window.week(10, rollover=Rollover(50)),
        "2026-03-04T12:00",
        [("2026-03-11T12:00", 3), ("2026-03-18T11:59:59.999", 3), ("2026-03-18T12:00", 13)],
    ),
    (
        "UTC",
        Window.month(10, rollover=Rollover(50)),
        "2027-12-31T12:00",
        [("2028-01-31T12:00", 3), ("2028-02-29T11:59:59.999", 3), ("2028-02-29T12:00", 13), ("2028-03-31T12:00", 23)],
    ),
    (
        "Australia/Lord_Howe",
        Window.hour(10, rollover=Rollover(50)),
        "2026-04-04T14:00",
        [("2026-04-04T15:00", 3), ("2026-04-04T15:59:59.999", 3), ("2026-04-04T16:00", 13)],
    ),
]


@pytest.mark.parametrize(("zone", "window", "first", "steps"), IDLE)
async def test_idle_lengths_after_a_first_use_bank_one_by_one(
    db: Any, zone: str, window: Window, first: str, steps: list[tuple[str, int]]
) -> None:
    """Each whole length that nobody used since a window ended banks its limit, to the millisecond."""
    quota = AsyncQuota(db, QuotaSpec("quotas", path="q", timezone=zone, align="first_use", windows=[window]))
    for instant, banked in steps:
        await quota.consume(instant, 7, now=at(first))
        seen = await quota.peek(instant, now=at(instant))
        assert (seen.banked, seen.remaining) == ({window.name: banked}, {window.name: banked + 10})
        assert not await quota.consume(instant, banked + 11, now=at(instant))
        assert (await quota.consume(instant, banked + 10, now=at(instant))).remaining == {window.name: 0}


async def test_a_refused_call_begins_no_window(db: Any) -> None:
    """Neither peek nor a refusal starts the next window from its first use."""
    spec = QuotaSpec("quotas", path="q", align="first_use", windows=[Window.every(QUARTER, 10)])
    quota = AsyncQuota(db, spec)
    await quota.consume("a", 1, now=NOON)
    await quota.peek("a", now=NOON + HOUR)
    assert not await quota.consume("a", 11, now=NOON + HOUR)
    assert (await quota.consume("a", 1, now=NOON + HOUR + MINUTE)).resets_at == {"15m": NOON + HOUR + MINUTE + QUARTER}


@pytest.mark.parametrize("call", ["grant", "reserve", "release", "settle 0"])
async def test_only_a_charge_begins_a_window(db: Any, call: str) -> None:
    """What charges nothing starts no window from its first use: the next charge does."""
    spec = QuotaSpec("quotas", path="q", align="first_use", windows=[Window.every(QUARTER, 10)])
    quota = AsyncQuota(db, spec)
    await quota.consume("a", 5, now=NOON)
    now = NOON + HOUR
    reservation = await quota.reserve("a", 2, ttl=3600, now=now) if call in ("reserve", "release", "settle 0") else None
    if call == "grant":
        await quota.grant("a", 2, now=now)
    elif call == "release":
        assert reservation
        assert reservation.token
        assert await quota.release(reservation.token, now=now)
    elif call == "settle 0":
        assert reservation
        assert reservation.token
        assert await quota.settle(reservation.token, 0, now=now)
    later = now + 10 * MINUTE
    assert (await quota.consume("a", 1, now=later)).resets_at == {"15m": later + QUARTER}


async def test_a_reservation_is_charged_to_the_window_that_its_settling_begins(db: Any) -> None:
    """A window from its first use begins when the reservation is settled, not when it is made."""
    spec = QuotaSpec("quotas", path="q", align="first_use", windows=[Window.every(QUARTER, 10)])
    quota = AsyncQuota(db, spec)
    reservation = await quota.reserve("a", 4, ttl=3600, now=NOON)
    assert reservation.token
    settled = await quota.settle(reservation.token, 4, now=NOON + 20 * MINUTE)
    assert (settled.decision.used, settled.decision.resets_at) == ({"15m": 4}, {"15m": NOON + 35 * MINUTE})


# Until when to wait ------------------------------------------------------------------------------------------

WAITS = [
    # the spec's windows and align, charges (minutes, amount), the question (minutes, amount), the wait in minutes
    ([Window.every(QUARTER, 10)], "calendar", [(0, 10)], (1, 1), 14),
    ([Window.every(QUARTER, 10)], "first_use", [(1, 10)], (3, 10), 13),
    ([Window.every(QUARTER, 10, rollover=Rollover(20))], "first_use", [(1, 10)], (3, 25), 13 + 30),
    ([Window.every(QUARTER, 10, rollover=Rollover(20))], "first_use", [(1, 10)], (20, 15), 11),  # idle since 16
    ([Window.every(QUARTER, 10, rollover=Rollover(20))], "first_use", [(1, 4)], (20, 30), 26),
    ([Window.every(QUARTER, 10, rollover=Rollover(20))], "first_use", [(1, 4)], (20, 31), None),
    ([Window.hour(10), Window.every(QUARTER, 4)], "first_use", [(0, 4), (16, 4), (40, 2)], (41, 3), 19),
    ([Window.hour(10), Window.day(15)], "first_use", [(0, 10), (70, 5)], (71, 1), 24 * 60 - 71),
    ([Window.hour(0, rollover=Rollover(5))], "calendar", [], (0, 1), None),
    ([Window.month(10)], "first_use", [(0, 10)], (5, 10), 31 * 24 * 60 - 5),
]


@pytest.mark.parametrize("case", WAITS)
async def test_retry_after_is_exact_to_the_millisecond(db: Any, case: Any) -> None:
    """A refused call fits when the wait is over, and not one millisecond earlier."""
    windows, align, charges, question, wait = case
    quota = AsyncQuota(db, QuotaSpec("quotas", path="q", align=align, windows=windows))
    for key in ("early", "punctual"):
        for minutes, amount in charges:
            assert await quota.consume(key, amount, now=NOON + minutes * MINUTE)
    minutes, amount = question
    now = NOON + minutes * MINUTE
    refused = await quota.consume("early", amount, now=now)
    assert not refused
    assert refused.retry_after == (None if wait is None else wait * 60.0)
    assert (await quota.peek("early", amount, now=now)).retry_after == refused.retry_after
    then = now + (wait or 0) * MINUTE
    assert not await quota.consume("early", amount, now=then - MS)
    assert bool(await quota.consume("punctual", amount, now=then)) is (wait is not None)


# Odd zones of the calendar -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("unit", "instant", "end"),
    [
        ("day", "2011-12-29T12:00", "2011-12-30T10:00"),
        ("day", "2011-12-30T10:00", "2011-12-31T10:00"),
        ("week", "2011-12-29T12:00", "2012-01-01T10:00"),
        ("month", "2011-12-29T12:00", "2011-12-31T10:00"),
        ("hour", "2011-12-30T09:59", "2011-12-30T10:00"),
    ],
)
async def test_a_day_that_a_zone_leaves_out_is_no_window(db: Any, unit: Any, instant: str, end: str) -> None:
    """Where a whole day is skipped, the day before it ends where the day after it begins."""
    spec = QuotaSpec("quotas", path="q", timezone="Pacific/Apia", windows=[Window(unit, 5)])
    quota = AsyncQuota(db, spec)
    assert (await quota.consume("a", 5, now=at(instant))).resets_at == {unit: at(end)}
    assert not await quota.consume("a", 1, now=at(end) - MS)
    assert await quota.consume("a", 5, now=at(end))


# Clocks that step back ---------------------------------------------------------------------------------------

BACK = [
    [Window.hour(10)],
    [Window.every(QUARTER, 10, rollover=Rollover(20))],
    [Window.every(QUARTER, 10, rollover=Rollover(20), align="first_use")],
    [Window.week(10, align="first_use"), Window.hour(10)],
]


@pytest.mark.parametrize("windows", BACK)
@pytest.mark.parametrize("call", ["consume", "record", "grant", "refund", "reserve", "settle", "release", "set_state"])
async def test_no_call_rolls_a_window_back(db: Any, windows: list[Window], call: str) -> None:
    """Whatever is called while the clock is behind, windows end when they did, and nothing is granted twice."""
    windows = [*windows, Window.day(1000)]
    quota = AsyncQuota(db, QuotaSpec("quotas", path="q", windows=windows))
    now, back = NOON + 2 * HOUR, NOON - 2 * HOUR
    await quota.consume("a", 4, now=back)
    full = await quota.peek("a", now=now)
    room = min(left for left in full.remaining.values() if left is not None) - 2
    reservation = await quota.reserve("a", 2, ttl=86_400, now=now)
    assert reservation.token
    before = await quota.consume("a", room, now=now)
    assert before
    assert not await quota.consume("a", 1, now=back)
    extra, used = 0, before.used
    if call == "consume":
        assert not await quota.consume("a", 1, now=back)
    elif call == "record":
        used = (await quota.record("a", 3, now=back)).used
    elif call == "grant":
        extra = (await quota.grant("a", 3, now=back)).extra
    elif call == "refund":
        used = (await quota.refund("a", 1, now=back)).used
    elif call == "reserve":
        assert not await quota.reserve("a", 1, ttl=60, now=back)
    elif call == "settle":
        used = (await quota.settle(reservation.token, 2, now=back)).decision.used
    elif call == "release":
        assert await quota.release(reservation.token, now=back)
    else:
        await quota.set_state("a", used={windows[0].name: before.used[windows[0].name]}, now=back)
    for instant in (back, now):
        seen = await quota.peek("a", now=instant)
        assert (seen.resets_at, seen.used, seen.extra) == (before.resets_at, used, extra)
    more = {"grant": 3, "refund": 1, "release": 2}.get(call, 0)
    assert not await quota.consume("a", more + 1, now=now)
    if more:
        assert await quota.consume("a", more, now=now)


# Limits and places -------------------------------------------------------------------------------------------


async def test_limits_of_every_kind_stand_side_by_side(db: Any) -> None:
    """A number, a fraction, a Field and None in one quota: each window limits by its own."""
    windows = [
        Window.every(QUARTER, 2.5),
        Window.hour(Field("plan.hour")),
        Window.day(Field("plan.day", default=9), rollover=Rollover(Field("plan.cap", default=1))),
        Window.month(None),
    ]
    quota = AsyncQuota(db, QuotaSpec("users", path="quota.q", windows=windows))
    await db.users.insert_one({"_id": "a", "plan": {"hour": 6.5}})
    first = await quota.consume("a", 2.5, now=NOON)
    assert first.remaining == {"15m": 0, "hour": 4, "day": 6.5, "month": None}
    assert (await quota.consume("a", 1, now=NOON)).exceeded == ("15m",)
    assert await quota.consume("a", 2.5, now=NOON + QUARTER)
    refused = await quota.consume("a", 2, now=NOON + 2 * QUARTER - MS)
    assert refused.exceeded == ("15m", "hour")
    assert await quota.consume("a", 2, now=NOON + HOUR)
    assert (await quota.consume("a", 2.5, now=NOON + 2 * HOUR)).exceeded == ("day",)
    assert (await quota.peek("a", now=NOON + DAY)).remaining == {"15m": 2.5, "hour": 6.5, "day": 10, "month": None}


async def test_subtitle_and_dubbing_minutes_share_a_user(db: Any) -> None:
    """Quotas with grants, holds, meters and ids of their own stand in one document, found by its own unique field."""
    await db.users.create_index("clerk_id", unique=True)
    owner = ObjectId()
    await db.users.insert_one({"clerk_id": owner, "name": "Alice", "plan": {"subtitle": 5, "dubbing": 3}})
    quotas = {
        name: AsyncQuota(
            db,
            QuotaSpec(
                "users",
                path=f"quota.{name}",
                key_field="clerk_id",
                key_type=ObjectId,
                windows=[Window.month(Field(f"plan.{name}"))],
                meters=["jobs"],
                create=None,
            ),
        )
        for name in ("subtitle", "dubbing")
    }
    subtitle, dubbing = quotas["subtitle"], quotas["dubbing"]
    assert await subtitle.consume(str(owner), 5, meters={"jobs": 1}, once="job", now=NOON)
    assert not await subtitle.consume(owner, 1, now=NOON)
    assert await dubbing.consume(owner, 2, once="job", now=NOON)
    await subtitle.grant(owner, 7, now=NOON)
    reservation = await dubbing.reserve(str(owner), 1, ttl=60, now=NOON)
    assert reservation
    one, two = await subtitle.peek(owner, now=NOON), await dubbing.peek(str(owner), now=NOON)
    assert (one.used, one.extra, one.held, one.meters) == ({"month": 5}, 7, 0, {"jobs": 1})
    assert (two.used, two.extra, two.held, two.meters) == ({"month": 2}, 0, 1, {"jobs": 0})
    assert await subtitle.reset(owner)
    assert (await dubbing.peek(owner, now=NOON)).held == 1
    assert await db.users.count_documents({}) == 1
    assert (await db.users.find_one())["name"] == "Alice"
