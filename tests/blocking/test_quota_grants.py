# Generated from tests/aio/test_quota_grants.py by tools/generate_sync.py.
# Do not edit: change the source and run "make generate".
"""What is given on top of the limits, and what is given back, on a real server."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any

import pytest
from bson.codec_options import CodecOptions
from bson.raw_bson import RawBSONDocument

from mongopatterns import DocumentNotFound, Field, Quota, QuotaSpec, Rollover, UsageError, Window

UTC = dt.timezone.utc
NOON = dt.datetime(2026, 3, 4, 12, 30, tzinfo=UTC)
MS = dt.timedelta(milliseconds=1)
HOUR = dt.timedelta(hours=1)
DAY = dt.timedelta(days=1)

PLAIN = QuotaSpec("quotas", path="q", windows=[Window.hour(10)])
TWO = QuotaSpec("quotas", path="q", windows=[Window.hour(10), Window.day(25), Window.month(None)])
RAW: CodecOptions[RawBSONDocument] = CodecOptions(document_class=RawBSONDocument)


def banking(spend: Any, cap: Any = 20) -> QuotaSpec:
    return QuotaSpec("quotas", path="q", windows=[Window.hour(10, rollover=Rollover(cap, spend=spend))])


def stored(db: Any, name: str = "quotas") -> bytes | None:
    document = db.get_collection(name, codec_options=RAW).find_one({})
    return None if document is None else document.raw


# Grants ------------------------------------------------------------------------------------------------------


def test_a_grant_is_used_last(db: Any) -> None:
    """What the window has goes first; a grant pays for the rest, once, and nothing beyond it is let in."""
    quota = Quota(db, PLAIN)
    given = quota.grant("a", 5, now=NOON)
    assert given
    assert (given.extra, given.used, given.banked, given.remaining) == (5, {"hour": 0}, {"hour": 5}, {"hour": 15})
    first = quota.consume("a", 8, now=NOON)
    assert (first.extra, first.remaining) == (5, {"hour": 7})
    second = quota.consume("a", 4, now=NOON)
    assert (second.extra, second.used, second.remaining) == (3, {"hour": 12}, {"hour": 3})
    assert not quota.consume("a", 4, now=NOON)
    assert quota.consume("a", 3, now=NOON).remaining == {"hour": 0}
    assert not quota.consume("a", 1, now=NOON)
    assert quota.consume("a", 10, now=NOON + HOUR).extra == 0
    assert not quota.consume("a", 1, now=NOON + HOUR)


def test_a_bank_goes_before_a_grant(db: Any) -> None:
    """Bank and window are used up, in either order, before the grant is touched."""
    for spend in ("bank_first", "window_first"):
        quota = Quota(db, banking(spend))
        quota.grant(spend, 5, now=NOON)
        quota.consume(spend, 7, now=NOON)
        seen = quota.peek(spend, now=NOON + HOUR)
        assert (seen.extra, seen.banked, seen.remaining) == (5, {"hour": 8}, {"hour": 18})
        assert quota.consume(spend, 13, now=NOON + HOUR).extra == 5
        assert quota.consume(spend, 3, now=NOON + HOUR).extra == 2
        assert not quota.consume(spend, 3, now=NOON + HOUR)
        assert quota.consume(spend, 2, now=NOON + HOUR)


def test_a_grant_lasts_until_it_is_used(db: Any) -> None:
    """A grant is not banked, not capped and not lost when windows end, however much time goes by."""
    quota = Quota(db, QuotaSpec("quotas", path="q", windows=[Window.hour(10, rollover=Rollover(3)), Window.day(40)]))
    quota.consume("a", 10, now=NOON)
    quota.grant("a", 100, now=NOON)
    later = NOON + 400 * DAY
    seen = quota.peek("a", now=later)
    assert (seen.extra, seen.remaining) == (100, {"hour": 113, "day": 140})
    assert not quota.consume("a", 114, now=later)
    assert quota.consume("a", 113, now=later).extra == 0


def test_a_grant_pays_for_what_the_tightest_window_lacks(db: Any) -> None:
    """Of several windows the one with the least room says how much of the grant is used; all count the charge."""
    quota = Quota(db, TWO)
    quota.grant("a", 20, now=NOON)
    first = quota.consume("a", 13, now=NOON)
    assert (first.extra, first.used) == (17, {"hour": 13, "day": 13, "month": 13})
    assert first.remaining == {"hour": 17, "day": 29, "month": None}
    second = quota.consume("a", 10, now=NOON + HOUR)
    assert (second.extra, second.used["day"]) == (17, 23)
    third = quota.consume("a", 10, now=NOON + 2 * HOUR)  # the day has room for 2
    assert (third.extra, third.remaining) == (9, {"hour": 9, "day": 9, "month": None})
    refused = quota.consume("a", 10, now=NOON + 2 * HOUR)
    assert refused.exceeded == ("hour", "day")
    assert quota.consume("a", 9, now=NOON + 2 * HOUR)


def test_grants_add_up_exactly(db: Any) -> None:
    """Ten grants of 0.1 are 1, and fractions of them are used up without a rest."""
    quota = Quota(db, QuotaSpec("quotas", path="q", windows=[Window.hour(0)]))
    for _ in range(10):
        given = quota.grant("a", 0.1, now=NOON)
    assert given.extra == 1
    assert not quota.consume("a", Decimal("1.000000000000000001"), now=NOON)
    assert quota.consume("a", Decimal("0.3"), now=NOON).extra == Decimal("0.7")
    assert quota.consume("a", 0.7, now=NOON).extra == 0
    assert not quota.consume("a", Decimal("0.000000000000000001"), now=NOON)


def test_retry_after_counts_a_grant(db: Any) -> None:
    """An amount that needs window and grant waits for the window; one beyond both never fits."""
    quota = Quota(db, PLAIN)
    quota.consume("a", 10, now=NOON)
    quota.grant("a", 5, now=NOON)
    assert quota.peek("a", 5, now=NOON)
    for amount, wait in ((6, 1800.0), (15, 1800.0), (16, None)):
        refused = quota.consume("a", amount, now=NOON)
        assert (bool(refused), refused.retry_after) == (False, wait)
    end = NOON + HOUR / 2
    assert not quota.consume("a", 15, now=end - MS)
    assert quota.consume("a", 15, now=end)


def test_retry_after_counts_a_grant_and_a_bank(db: Any) -> None:
    """With a bank that fills while nobody comes, a grant shortens the wait by whole windows."""
    quota = Quota(db, banking("bank_first"))
    quota.consume("a", 10, now=NOON)
    assert quota.peek("a", 25, now=NOON).retry_after == 2.5 * 3600
    quota.grant("a", 7, now=NOON)
    assert quota.peek("a", 25, now=NOON).retry_after == 1.5 * 3600
    assert quota.peek("a", 37, now=NOON).retry_after == 2.5 * 3600
    assert quota.peek("a", 38, now=NOON).retry_after is None
    assert not quota.consume("a", 25, now=NOON + 1.5 * HOUR - MS)
    assert quota.consume("a", 25, now=NOON + 1.5 * HOUR)


def test_record_uses_a_grant_as_far_as_it_goes(db: Any) -> None:
    """What is recorded takes from the grant what the windows lack, and no more than there is."""
    quota = Quota(db, PLAIN)
    quota.grant("a", 5, now=NOON)
    recorded = quota.record("a", 30, now=NOON)
    assert (recorded.extra, recorded.used, recorded.exceeded) == (0, {"hour": 30}, ("hour",))
    assert quota.peek("a", now=NOON + HOUR).remaining == {"hour": 10}


def test_a_grant_needs_a_limit(db: Any, commands: Any) -> None:
    """Where no window has a limit there is nothing to add to: a UsageError, and nothing is sent."""
    quota = Quota(db, QuotaSpec("quotas", path="q", windows=[Window.hour(None), Window.day(None)]))
    with pytest.raises(UsageError, match="no window of this quota has a limit"):
        quota.grant("a", 5)
    assert commands.names == []


@pytest.mark.parametrize("amount", [0, -1, float("nan"), True, "1", None, 10**16])
def test_bad_amounts_are_refused_before_anything_is_sent(db: Any, commands: Any, amount: Any) -> None:
    """Grants and refunds take what consume takes, and raise a UsageError on all else."""
    quota = Quota(db, PLAIN)
    for call in (quota.grant, quota.refund):
        with pytest.raises(UsageError, match=r"^amount: "):
            call("a", amount)
    assert commands.names == []


def test_a_grant_makes_a_document_only_where_one_may_be_made(db: Any) -> None:
    """A grant creates the document with its fields; with create=None it is an error, and none appears."""
    spec = QuotaSpec("users", path="a.q", windows=[Window.hour(Field("plan.hour"))], create={"plan": {"hour": 2}})
    assert Quota(db, spec).grant("a", 3, now=NOON).remaining == {"hour": 5}
    assert db.users.find_one()["plan"] == {"hour": 2}
    never = Quota(db, QuotaSpec("quotas", path="q", windows=[Window.hour(10)], create=None))
    for call in (never.grant, never.refund):
        with pytest.raises(DocumentNotFound):
            call("ghost", 1)
    assert db.quotas.count_documents({}) == 0


# Refunds -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spend", ["bank_first", "window_first"])
@pytest.mark.parametrize("amount", [3, 10, 12, 13, 17, 18, Decimal("17.7"), Decimal("0.3")])
def test_a_refund_in_the_same_window_restores_the_room(db: Any, spend: Any, amount: Any) -> None:
    """After a charge and its refund everything that a call could take is there again, grants included."""
    quota = Quota(db, banking(spend))
    quota.consume("a", 7, now=NOON)
    now = NOON + HOUR
    quota.grant("a", 5, now=now)  # 3 banked, 10 of the window, 5 granted
    before = quota.peek("a", now=now)
    assert before.remaining == {"hour": 18}
    assert quota.consume("a", amount, now=now)
    after = quota.refund("a", amount, now=now)
    assert after
    assert (after.remaining, after.extra, after.dropped) == (before.remaining, before.extra, {})
    assert after.used == before.used
    assert quota.peek("a", now=now + HOUR).remaining == {"hour": 28}
    assert not quota.consume("a", 19, now=now)
    assert quota.consume("a", 18, now=now)


@pytest.mark.parametrize("spend", ["bank_first", "window_first"])
def test_refunds_in_parts_restore_as_much_as_one(db: Any, spend: Any) -> None:
    """However a charge is given back in pieces, each gives room for its own amount, and in the end all is there."""
    quota = Quota(db, banking(spend))
    quota.consume("a", 7, now=NOON)
    now = NOON + HOUR
    quota.grant("a", 5, now=now)
    assert quota.consume("a", 18, now=now)
    room = Decimal(0)
    for part in (1, 4, Decimal("0.5"), 6, Decimal("6.5")):
        room += Decimal(part)
        refunded = quota.refund("a", part, now=now)
        assert (refunded.remaining, refunded.dropped) == ({"hour": room}, {})
        assert not quota.peek("a", room + 1, now=now)
    assert (refunded.extra, refunded.remaining) == (5, {"hour": 18})


def test_a_refund_restores_every_window(db: Any) -> None:
    """All windows get back what they were charged, those that only meter as well."""
    quota = Quota(db, TWO)
    quota.consume("a", 10, now=NOON)
    refunded = quota.refund("a", 4, now=NOON)
    assert refunded.used == {"hour": 6, "day": 6, "month": 6}
    assert not quota.consume("a", 5, now=NOON)
    assert quota.consume("a", 4, now=NOON)


def test_a_refund_gives_back_to_the_grant_what_it_paid(db: Any) -> None:
    """What the windows had no room for was paid by the grant, and goes back to it, and no more than that."""
    quota = Quota(db, TWO)
    quota.grant("a", 20, now=NOON)
    quota.consume("a", 14, now=NOON)
    assert quota.refund("a", 1, now=NOON).extra == 17
    assert quota.refund("a", 5, now=NOON).extra == 20
    refunded = quota.refund("a", 8, now=NOON)
    assert (refunded.extra, refunded.used, refunded.dropped) == (20, {"hour": 0, "day": 0, "month": 0}, {})


@pytest.mark.parametrize(("cap", "kept"), [(20, 7), (9, 6), (3, 0), (0, 0)])
def test_a_refund_after_its_window_goes_to_the_bank_up_to_the_cap(db: Any, cap: int, kept: int) -> None:
    """What the running window was not charged goes to its bank, and what that has no room for is dropped, and told."""
    quota = Quota(db, banking("bank_first", cap))
    quota.consume("a", 7, now=NOON)
    banked = min(3, cap)
    refunded = quota.refund("a", 7, now=NOON + HOUR)
    assert (refunded.banked, refunded.used) == ({"hour": banked + kept}, {"hour": 0})
    assert refunded.dropped == ({"hour": 7 - kept} if kept < 7 else {})
    assert not quota.consume("a", 10 + banked + kept + 1, now=NOON + HOUR)
    assert quota.consume("a", 10 + banked + kept, now=NOON + HOUR)


def test_a_refund_without_a_bank_is_dropped_and_says_so(db: Any) -> None:
    """A window that has ended without rollover takes nothing back; those that still run do."""
    quota = Quota(db, TWO)
    quota.consume("a", 7, now=NOON)
    quota.consume("a", 2, now=NOON + HOUR)
    refunded = quota.refund("a", 7, now=NOON + HOUR)
    assert (refunded.used, refunded.dropped) == ({"hour": 0, "day": 2, "month": 2}, {"hour": 5})
    assert refunded.to_dict()["dropped"] == {"hour": 5}


def test_what_was_never_charged_is_dropped(db: Any) -> None:
    """A refund beyond what was charged leaves an unused window, and no more than the limit; all the rest is told."""
    quota = Quota(db, TWO)
    quota.consume("a", 3, now=NOON)
    refunded = quota.refund("a", 5, now=NOON)
    assert refunded.dropped == {"hour": 2, "day": 2, "month": 2}
    assert refunded.remaining == {"hour": 10, "day": 25, "month": None}
    assert not quota.consume("a", 11, now=NOON)
    assert quota.consume("a", 10, now=NOON)


@pytest.mark.parametrize("document", [None, {"_id": "a"}, {"_id": "a", "q": None}, {"_id": "a", "x": 1}])
def test_a_refund_of_a_key_that_was_never_charged_writes_nothing(db: Any, document: Any) -> None:
    """Without a state there is nothing to give back to: all is dropped, and nothing is made or changed."""
    if document:
        db.quotas.insert_one(document)
    before = stored(db)
    refunded = Quota(db, TWO).refund("a", 5, once="id", now=NOON)
    assert refunded
    assert (refunded.dropped, refunded.repeated) == ({"hour": 5, "day": 5, "month": 5}, False)
    assert stored(db) == before


def test_a_refund_takes_meters_back(db: Any) -> None:
    """A refund lowers the meters by what it says, and never below 0."""
    quota = Quota(db, QuotaSpec("quotas", path="q", windows=[Window.hour(10)], meters=["tokens", "jobs"]))
    quota.consume("a", 5, meters={"tokens": 10.5, "jobs": 1}, now=NOON)
    assert quota.refund("a", 5, meters={"tokens": 0.3}, now=NOON).meters == {
        "tokens": Decimal("10.2"),
        "jobs": 1,
    }
    assert quota.refund("a", 5, meters={"tokens": 11, "jobs": 1}, now=NOON).meters == {"tokens": 0, "jobs": 0}


def test_a_refund_of_a_lowered_limit_keeps_the_window_past_it(db: Any) -> None:
    """When the limit was lowered below what is used, a refund gives room only for what comes below the limit."""
    db.quotas.insert_one({"_id": "a", "limit": 10})
    quota = Quota(db, QuotaSpec("quotas", path="q", windows=[Window.hour(Field("limit"))]))
    quota.consume("a", 9, now=NOON)
    db.quotas.update_one({}, {"$set": {"limit": 5}})
    assert quota.refund("a", 3, now=NOON).exceeded == ("hour",)
    assert quota.refund("a", 3, now=NOON).remaining == {"hour": 2}


def test_one_command_a_call(db: Any, commands: Any) -> None:
    """Grants and refunds are one command each, on keys with and without a document, and are named by its comment."""
    quota = Quota(db, PLAIN)
    quota.refund("a", 1)
    quota.grant("a", 1)
    quota.grant("a", 1)
    quota.refund("a", 1)
    assert commands.names == ["findAndModify"] * 4
    assert commands.comments == {"mongopatterns.quota.grant", "mongopatterns.quota.refund"}


@pytest.mark.parametrize("call", ["grant", "refund"])
def test_a_lost_reply_counts_once_and_keeps_its_verdict(db: Any, mongopatterns_server: Any, call: str) -> None:
    """When the reply is lost after the write, the driver's retry tells the same verdict, and nothing counts twice."""
    quota = Quota(db, TWO)
    verdicts = []
    for key in ("kept", "lost"):
        quota.grant(key, 5, now=NOON)
        quota.consume(key, 12, now=NOON)
        send = getattr(quota, call)
        if key == "kept":
            verdicts.append(send(key, 13, now=NOON).to_dict())
        else:
            with mongopatterns_server.fail_point(
                "onPrimaryTransactionalWrite", mode={"times": 1}, data={"closeConnection": True}
            ):
                verdicts.append(send(key, 13, now=NOON).to_dict())
        verdicts.append(quota.peek(key, now=NOON).to_dict())
    for verdict in verdicts:
        del verdict["key"]
    assert verdicts[:2] == verdicts[2:]
    assert verdicts[0]["extra"] == {"grant": 16, "refund": 5}[call]


@pytest.mark.parametrize("given", ["grant", "reservation"])
def test_what_another_process_gave_is_met_once(db: Any, commands: Any, given: str) -> None:
    """A binding that has not seen grants or reservations reckons with the first one it meets, in one more command."""
    spec = QuotaSpec("quotas", path="q", windows=[Window.hour(10)])
    elsewhere, here = Quota(db, spec), Quota(db, spec)
    assert here.consume("a", 1, now=NOON)
    if given == "grant":
        elsewhere.grant("a", 5, now=NOON)
    else:
        assert elsewhere.reserve("a", 4, ttl=60, now=NOON)
    room = 14 if given == "grant" else 5
    commands.sent.clear()
    refused = here.consume("a", room + 1, now=NOON)
    assert not refused
    assert refused.remaining == {"hour": room}
    assert commands.names == ["findAndModify"] * 2
    commands.sent.clear()
    granted = here.consume("a", room, now=NOON)
    assert granted
    assert granted.remaining == {"hour": 0}
    assert not here.consume("a", 1, now=NOON)
    assert commands.names == ["findAndModify"] * 2


def test_a_record_meets_a_grant_once(db: Any) -> None:
    """What is recorded beyond the limit is paid by a grant that another process gave, though nobody here knew of it."""
    spec = QuotaSpec("quotas", path="q", windows=[Window.hour(10)])
    elsewhere, here = Quota(db, spec), Quota(db, spec)
    assert here.consume("a", 10, now=NOON)
    elsewhere.grant("a", 5, now=NOON)
    recorded = here.record("a", 3, now=NOON)
    assert (recorded.extra, recorded.used) == (2, {"hour": 13})
    assert elsewhere.peek("a", now=NOON).remaining == {"hour": 2}
