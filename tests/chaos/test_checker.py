"""The checker of the mixed load: a log that keeps every promise passes, and one that breaks any of them does not."""

from __future__ import annotations

import itertools
from random import Random
from typing import Any

import pytest

from tests.chaos.checker.check import PRIMITIVES, VERDICTS, check, check_load
from tests.chaos.checker.log import BEGIN, END, TOLD, UNKNOWN, UNTOUCHED, Call, Fault, Table, Violation, put_between
from tests.chaos.faults import KILL, KINDS, RESTART, STEP_DOWN, schedule


class Script:
    """Calls in the order in which they begin; each is over before the next, unless it is said to last."""

    def __init__(self) -> None:
        self.log: list[Call] = []
        self._ticks = itertools.count(1, 10)

    def __call__(
        self, of: str, op: str, told: Any = None, *, key: str = "k", fate: Any = TOLD, lasts: int = 1, **asked: Any
    ) -> Script:
        start = next(self._ticks)
        error = "" if fate == TOLD else "AutoReconnect"
        self.log.append(Call(of, op, key, asked, start, start + lasts, fate, told, error))
        return self

    @property
    def broken(self) -> set[str]:
        return {violation.promise for violation in check(self.log)}


LONG = 1_000  # ticks: over only after all that comes


def adds(*told: Any, stored: int) -> Script:
    """Additions of one; None where nobody knows."""
    script = Script()
    for total in told:
        script("Counter", "add", total, fate=UNKNOWN if total is None else TOLD, amount=1)
    return script("Counter", "stored", stored)


@pytest.mark.parametrize("stored", [2, 3])
def test_an_unknown_addition_may_count_or_not(stored: int) -> None:
    """Of an addition that nobody knows of, both is right."""
    assert adds(1, None, stored, stored=stored).broken == set()


@pytest.mark.parametrize(
    "script",
    [
        adds(1, 2, stored=1),
        adds(1, 2, stored=3),
        adds(1, None, stored=3),
        adds(1, 1, stored=1),
        adds(2, 1, stored=2),
        adds(1, stored=1)("Counter", "value", 0),
        Script()("Counter", "add", None, fate=UNTOUCHED, amount=1)("Counter", "stored", 1),
    ],
    ids=["lost", "doubled", "unknown doubled", "one unit twice", "out of order", "read before", "not applied"],
)
def test_additions_that_are_lost_or_doubled_are_found(script: Script) -> None:
    """Totals, readings and what is stored fit together in just one order."""
    assert script.broken == {"an addition counts once"}


def test_an_id_counts_once() -> None:
    """Calls with one id are one addition, whoever of them was answered."""
    script = Script()
    script("Counter", "add", fate=UNKNOWN, amount=5, once="a", lasts=LONG)("Counter", "add", 5, amount=5, once="a")
    script("Counter", "add", 5, amount=5, once="a")
    assert script("Counter", "stored", 5).broken == set()
    assert script("Counter", "stored", 10).broken == {"an addition counts once"}


def test_what_is_written_together_is_compared() -> None:
    """A number and its meter that differ are found."""
    assert Script()("Counter", "stored together", [3, 3]).broken == set()
    assert Script()("Counter", "stored together", [3, 2]).broken == {"what is written together is stored together"}


def charge(script: Script, op: str, level: int, *, ok: bool = True, **options: Any) -> Script:
    return script("Quota", op, {"ok": ok, "level": level, "dropped": 0}, **options)


def quota() -> Script:
    """Of ten, six are charged and three held; what nobody knows of is one of them at most."""
    script = charge(Script(), "consume", 6, amount=6, limit=10)
    script("Quota", "consume", fate=UNKNOWN, amount=1, limit=10)
    charge(script, "reserve", 9, amount=3, limit=10)
    return charge(script, "consume", 9, ok=False, amount=2, limit=10)


def test_a_quota_that_keeps_its_limit_passes() -> None:
    """Charges, holds, refusals and refunds that fit together break nothing."""
    script = charge(quota(), "settle", 8, amount=2, reserved=3, token="t")
    charge(script, "refund", 2, amount=6)
    script("Quota", "release", {"ok": False}, reserved=3, token="t")
    assert charge(script, "peek", 2).broken == set()
    assert charge(script, "peek", 3).broken == set(), "if the unknown one came late"


@pytest.mark.parametrize(
    ("script", "promise"),
    [
        (charge(quota(), "peek", 8), "a quota charges once"),
        (charge(quota(), "peek", 11), "a quota charges once"),
        (charge(quota(), "consume", 12, amount=3, limit=10), "nothing is admitted past a limit"),
        (charge(quota(), "consume", 9, ok=False, amount=1, limit=10), "nobody is refused who fits"),
        (charge(Script(), "consume", 10, ok=False, amount=1, limit=10), "a quota charges once"),
        (quota()("Quota", "release", {"ok": False}, reserved=3, token="t"), "a hold stays until it is settled"),
        (
            quota()("Quota", "refund", {"ok": True, "level": 8, "dropped": 1}, amount=1),
            "a refund gives back what was charged",
        ),
    ],
    ids=["lost", "doubled", "past the limit", "refused", "refused for nobody", "hold lost", "refund dropped"],
)
def test_a_quota_that_does_not_keep_its_limit_is_found(script: Script, promise: str) -> None:
    """Both sides are looked at: nothing past the limit, and nobody refused who fits."""
    assert promise in script.broken


def hit(script: Script, left: int, *, ok: bool = True, fate: Any = TOLD) -> Script:
    return script("RateLimiter", "hit", {"ok": ok, "left": left, "at": 0.0}, fate=fate, cost=2, limit=5)


def test_a_limiter_is_checked_on_both_sides() -> None:
    """What it admits counts once, up to the limit; whoever is refused has no room."""
    assert hit(hit(hit(Script(), 3), 1), 1, ok=False).broken == set()
    assert hit(hit(Script(), 3), 3, ok=False).broken == {"nobody is refused who fits"}
    assert hit(hit(Script(), 3), 3).broken == {"a hit counts once"}
    assert "nothing is admitted past a limit" in hit(hit(hit(Script(), 3), 1), -1).broken
    assert hit(hit(Script(), 3, fate=UNKNOWN), 1, ok=False).broken == {"a hit counts once"}


def pour(*hits: tuple[float, float | None], unknown: int = 0) -> set[str]:
    """Hit a bucket of 2 that refills once a second: the times at which hits come, and at which it is empty then."""
    script = Script()
    for _ in range(unknown):
        script("RateLimiter", "hit", fate=UNKNOWN, cost=1, limit=2, rate=1)
    for at, empty in hits:
        told = {"ok": empty is not None, "left": 0, "at": at, "by": at + 0.5, "empty": empty or 0.0}
        script("RateLimiter", "hit", told, cost=1, limit=2, rate=1)
    return script.broken


def test_a_bucket_is_refilled_by_the_time_of_the_server() -> None:
    """It admits the burst and what has been refilled, each unit once; whoever finds room is not refused."""
    assert pour((10, 11), (10, 12), (10.5, None), (11, 13), (11, None)) == set()
    assert pour((10, 11), (11, 13), (10.5, 12)) == set(), "decided in another order than they came"
    assert pour((10, 11), (10, 11.5)) == {"a hit counts once"}
    assert pour((10, 11), (10, 12), (10.5, 13)) == {"nothing is admitted past a limit"}
    assert pour((10, 11), (10, 12), (10.5, 13), unknown=1) == set(), "if another one came 0.5 s later"
    assert pour((10, 11), (10, 12), (10.4, 13), unknown=1) == {"nothing is admitted past a limit"}
    assert pour((10, 11), (10, 12), (11.5, None)) == {"nobody is refused who fits"}
    assert pour((10, 11), (10, 12), (11.5, None), unknown=1) == set()


def sit(script: Script, op: str, outcome: str, size: int, *, member: str = "a", **options: Any) -> Script:
    return script("CappedSet", op, {"outcome": outcome, "size": size}, member=member, cap=1, **options)


SEATED = "whoever is told so has a seat"
COUNTED = "a seat is counted once"


def test_seats_that_are_given_once_pass() -> None:
    """Who joins, joins again, leaves and stays away has what was told."""
    script = sit(sit(Script(), "join", "joined", 1), "join", "already", 1)
    sit(script, "join", "full", 1, member="b")
    sit(sit(script, "leave", "left", 0), "leave", "absent", 0)
    sit(script, "join", "joined", 1, member="b")
    assert script("CappedSet", "stored", ["b"], cap=1).broken == set()


def test_an_unknown_join_may_have_a_seat_at_any_time() -> None:
    """Even after its member was told that he has left."""
    script = Script()("CappedSet", "join", fate=UNKNOWN, member="a")
    sit(script, "join", "full", 1, member="b")
    sit(script, "leave", "absent", 0)
    for stored in ([], ["a"]):
        assert Script.__call__(script, "CappedSet", "stored", stored).broken == set()
        script.log.pop()


@pytest.mark.parametrize(
    ("script", "promise"),
    [
        (sit(Script(), "join", "joined", 1)("CappedSet", "stored", []), SEATED),
        (sit(Script(), "join", "full", 1)("CappedSet", "stored", []), COUNTED),
        (sit(Script(), "join", "joined", 1)("CappedSet", "stored", ["a", "a"]), SEATED),
        (Script()("CappedSet", "stored", ["a"]), SEATED),
        (sit(sit(Script(), "join", "joined", 1), "leave", "left", 0)("CappedSet", "stored", ["a"]), SEATED),
        (sit(sit(Script(), "join", "joined", 1), "join", "joined", 1), SEATED),
        (sit(sit(Script(), "join", "joined", 1), "join", "joined", 2, member="b"), "never more are in than may be"),
        (sit(Script(), "join", "full", 0), "nobody is refused while there is room"),
        (sit(sit(Script(), "join", "joined", 1), "leave", "absent", 0), SEATED),
        (Script()("CappedSet", "join", fate=UNTOUCHED, member="a")("CappedSet", "stored", ["a"]), SEATED),
        (Script()("CappedSet", "stored leader", {"leader": "b", "members": ["a"]}), "one of the members leads"),
    ],
    ids=[
        "lost",
        "full of nobody",
        "two seats",
        "a stranger",
        "stays",
        "joins twice",
        "past the cap",
        "refused",
        "gone",
        "not applied",
        "leader",
    ],
)
def test_seats_that_are_lost_or_given_twice_are_found(script: Script, promise: str) -> None:
    """Answers have to fit each other, the cap, and what is stored."""
    assert promise in script.broken


def slot(script: Script, op: str, number: int | None, me: str, *, outcome: str = "", **options: Any) -> Script:
    outcome = outcome or {"acquire": "acquired", "release": "released", "renew": "renewed"}[op]
    return script("Slots", op, {"outcome": outcome, "slot": number}, me=me, cap=1, **options)


HELD = "whoever is told so has the slot"
FREE = "slots are held up to the cap, and one that is free is given"


def test_slots_that_are_held_by_one_pass() -> None:
    """A slot that was released is given to the next."""
    script = slot(slot(slot(Script(), "acquire", 0, "a"), "renew", 0, "a"), "acquire", None, "b", outcome="full")
    slot(slot(script, "release", 0, "a"), "acquire", 0, "b")
    assert script("Slots", "stored", [("b", 0)]).broken == set()


@pytest.mark.parametrize(
    ("script", "promise"),
    [
        (slot(slot(Script(), "acquire", 0, "a"), "acquire", 0, "b"), f"{HELD}, alone"),
        (slot(slot(Script(), "acquire", 0, "a"), "acquire", 1, "b"), FREE),
        (slot(Script(), "acquire", None, "a", outcome="full"), FREE),
        (slot(slot(Script(), "acquire", 0, "a"), "renew", 0, "a", outcome="lost"), HELD),
        (slot(Script(), "acquire", 0, "a")("Slots", "stored", []), HELD),
        (slot(slot(Script(), "acquire", 0, "a"), "release", 0, "a")("Slots", "stored", [("a", 0)]), HELD),
        (Script()("Slots", "stored", [("a", 0)]), HELD),
    ],
    ids=["two in one", "past the cap", "refused", "lost", "not stored", "not released", "a stranger"],
)
def test_slots_that_are_lost_or_given_twice_are_found(script: Script, promise: str) -> None:
    """Each slot has one holder from when he is told so until he releases it, and nobody is refused a free one."""
    assert promise in script.broken


def like(script: Script, op: str, outcome: str, size: int, **options: Any) -> Script:
    return script("KeyedSet", op, {"outcome": outcome, "size": size}, member="a", cap=2, **options)


def test_an_unknown_toggle_leaves_both_open() -> None:
    """After it the member may be in or not; a toggle that was told is in."""
    script = like(Script(), "toggle", "added", 1)
    assert script("KeyedSet", "stored", []).broken == {
        "a member is where it was told to be",
        "a member is counted once",
    }
    script = like(Script(), "toggle", "added", 1)("KeyedSet", "toggle", fate=UNKNOWN, member="a")
    assert script("KeyedSet", "stored", []).broken == set()
    assert like(like(Script(), "add", "added", 1), "toggle", "added", 2).broken == {
        "a member is where it was told to be"
    }


def test_a_member_of_many_documents_is_in_all() -> None:
    """Added to many, it is missing in none of them."""
    script = Script()("KeyedSet", "add_many", {"outcome": "added"}, member="a")
    assert script("KeyedSet", "stored", ["a"])("KeyedSet", "stored", []).broken == {
        "a member is where it was told to be"
    }


def codes(**stored: Any) -> Script:
    """One is told a code and has closed; another one has it then."""
    script = Script()("UniqueCode", "insert", "X", me="a", code="X")
    script("UniqueCode", "insert", None, me="b", code="X")("UniqueCode", "close", me="a")
    script("UniqueCode", "insert", "X", me="c", code="X")
    live = {"a": {"code": "X", "open": False}, "c": {"code": "X", "open": True}}
    return script("UniqueCode", "stored", live | stored)


def test_codes_of_their_own_pass() -> None:
    """A code that was let go may be given again."""
    assert codes().broken == set()


@pytest.mark.parametrize(
    ("script", "promise"),
    [
        (codes(a={"code": "X", "open": True}), "no two live documents share a code"),
        (codes(c={"code": "Y", "open": True}), "whoever was told a code has it"),
        (codes(d={"code": "Z", "open": True}), "whoever was told a code has it"),
        (codes(b={"code": "Z", "open": True}), "whoever was told a code has it"),
        (
            Script()("UniqueCode", "insert", "X", me="a")("UniqueCode", "assign", "X", me="b"),
            "no two live documents share a code",
        ),
        (Script()("UniqueCode", "insert", None, me="a", code="X"), "a code that is free is not refused"),
    ],
    ids=["stored twice", "another one", "a stranger", "refused and stored", "told twice", "refused"],
)
def test_codes_that_are_shared_or_lost_are_found(script: Script, promise: str) -> None:
    """Two who surely have a code at one time, one who is told another, and one who is refused a free one."""
    assert promise in script.broken


def document(op: str, *told: Any, stored: Any, **fates: Any) -> set[str]:
    """Calls by a, b and c, one after the other; and what is stored."""
    script = Script()
    for me, answer in zip("abc", told, strict=False):
        script("Documents", op, answer, me=me, fate=fates.get(me, TOLD))
    return script(
        "Documents", {"get_or_create": "stored made", "upsert": "stored changed", "take": "stored left"}[op], stored
    ).broken


def test_documents_are_made_by_one() -> None:
    """One is told so, and all others get that one."""
    promise = {"one caller makes a document, and all get it"}
    mine, theirs = {"by": "a", "created": True}, {"by": "a", "created": False}
    assert document("get_or_create", mine, theirs, stored="a") == set()
    assert document("get_or_create", None, theirs, stored="a", a=UNKNOWN) == set()
    assert document("get_or_create", mine, {"by": "b", "created": True}, stored="a") == promise
    assert document("get_or_create", mine, {"by": "b", "created": False}, stored="a") == promise
    assert document("get_or_create", theirs, stored="b") == promise
    assert document("get_or_create", mine, stored=None) == promise


def test_documents_are_changed_once() -> None:
    """Each change is stored once, where it was told to be; what nobody knows of may be."""
    promise = {"each change is made once, and whole"}
    one, two = {"n": 1, "place": 1}, {"n": 2, "place": 2}
    assert document("upsert", one, two, stored={"n": 2, "all": ["a", "b"]}) == set()
    assert document("upsert", one, None, stored={"n": 1, "all": ["a"]}, b=UNKNOWN) == set()
    assert document("upsert", one, None, stored={"n": 2, "all": ["a", "b"]}, b=UNKNOWN) == set()
    assert document("upsert", one, None, stored={"n": 2, "all": ["a", "b"]}, b=UNTOUCHED) == promise
    assert document("upsert", one, two, stored={"n": 1, "all": ["b"]}) == promise
    assert document("upsert", one, two, stored={"n": 3, "all": ["a", "b", "b"]}) == promise
    assert document("upsert", two, one, stored={"n": 2, "all": ["b", "a"]}) == promise
    assert document("upsert", one, stored={"n": 2, "all": ["a"]}) == promise


def test_documents_are_taken_by_one_at_most() -> None:
    """What is gone was taken by one, or by one who does not know; what is there was missed by nobody."""
    promise = {"one caller at most takes a document"}
    assert document("take", True, False, stored=False) == set()
    assert document("take", None, False, stored=False, a=UNKNOWN) == set()
    assert document("take", True, True, stored=False) == promise
    assert document("take", True, stored=True) == promise
    assert document("take", False, stored=False) == promise
    assert document("take", None, stored=False, a=UNTOUCHED) == promise


def cascade(*told: Any, stored: Any, transaction: bool = False) -> set[str]:
    script = Script()
    for answer in told:
        fate = answer if answer in (UNKNOWN, UNTOUCHED) else TOLD
        script("Cascade", "delete", answer if fate is TOLD else None, fate=fate, transaction=transaction)
    return script("Cascade", "stored", stored, at_first=(1, 3)).broken


def test_cascades_leave_nothing_and_take_nothing_else() -> None:
    """A parent goes with its children, each is counted once; half of it only where nobody knows."""
    promise = {"a parent goes with its children, and nothing else goes"}
    assert cascade((1, 3), (0, 0), stored=(0, 0)) == set()
    assert cascade(UNKNOWN, stored=(1, 0)) == set()
    assert cascade(UNKNOWN, (1, 1), stored=(0, 0)) == set()
    assert cascade(UNKNOWN, stored=(1, 0), transaction=True) == promise
    # An error that says that nothing is applied says so of the last command: those before it may have gone through.
    assert cascade(UNTOUCHED, (1, 0), stored=(0, 0)) == set()
    assert cascade(UNTOUCHED, stored=(1, 2)) == set()
    assert cascade(UNTOUCHED, (1, 0), stored=(0, 0), transaction=True) == promise
    assert cascade(UNTOUCHED, stored=(1, 0), transaction=True) == promise
    assert cascade(UNKNOWN, stored=(0, 2)) == promise
    assert cascade((1, 3), stored=(1, 0)) == promise
    assert cascade((1, 3), (1, 0), stored=(0, 0)) == promise
    assert cascade((1, 2), stored=(0, 0)) == promise
    assert cascade(stored=(0, 0)) == promise


def test_buffers_store_what_they_have_acknowledged() -> None:
    """Once, and in order; what they have not, once at most."""
    script = Script()("WriteBuffer", "insert", id="a", group="g", amount=2)
    script("WriteBuffer", "insert", id="b", group="g", amount=3, fate=UNKNOWN)
    stored = "what is acknowledged is stored, once"
    for found, broken in (
        (["a"], set()),
        (["a", "b"], set()),
        (["b"], {stored}),
        (["a", "a"], {stored}),
        (["a", "c"], {stored}),
    ):
        assert script("WriteBuffer", "stored", found).broken == broken
        script.log.pop()

    script = Script()("WriteBuffer", "increment", amount=2)("WriteBuffer", "increment", amount=3, fate=UNKNOWN)
    for number, broken in ((2, False), (5, False), (0, True), (7, True)):
        assert bool(script("WriteBuffer", "stored number", number).broken) is broken
        script.log.pop()

    script = Script()("WriteBuffer", "update", n=1)("WriteBuffer", "update", n=2)(
        "WriteBuffer", "update", n=3, fate=UNKNOWN
    )
    for number, broken in ((2, False), (3, False), (1, True), (None, True)):
        assert bool(script("WriteBuffer", "stored last", number).broken) is broken
        script.log.pop()


@pytest.mark.parametrize(
    ("op", "told", "broken"),
    [
        ("count", {"n": 1, "amount": 2}, False),
        ("count", {"n": 2, "amount": 5}, False),
        ("count", {"n": 0, "amount": 0}, True),
        ("count", {"n": 2, "amount": 6}, True),
        ("count", {"n": 3, "amount": 5}, True),
        ("instant", {"n": 0, "amount": 0, "parts": 0}, False),
        ("instant", {"n": 3, "amount": 2, "parts": 3}, True),
        ("instant", {"n": 1, "amount": 2, "parts": 2}, True),
        ("walk", ["a"], False),
        ("walk", ["b", "a"], False),
        ("walk", ["b"], True),
        ("walk", ["a", "a"], True),
        ("walk", ["a", "c"], True),
    ],
)
def test_reads_have_all_that_was_acknowledged_and_nothing_else(op: str, told: Any, broken: bool) -> None:
    """One event was acknowledged before, of one nobody knows, and one comes later."""
    script = Script()("WriteBuffer", "insert", key="x", id="a", group="g", amount=2)
    script("WriteBuffer", "insert", key="x", id="b", group="g", amount=3, fate=UNKNOWN)
    script("Pager" if op == "walk" else "Report", op, told, key="g")
    script("WriteBuffer", "insert", key="x", id="c", group="g", amount=1)
    script("WriteBuffer", "stored", ["a", "b", "c"], key="x")
    assert bool(script.broken) is broken


def test_a_read_of_what_never_changes_is_compared() -> None:
    """Rows that a join or a loader gives are those that are stored."""
    assert Script()("Loader", "load", ["a", None], stored=["a", None]).broken == set()
    assert Script()("Loader", "load", [None, "a"], stored=["a", None]).broken == {
        "a read gives what is stored under a key"
    }


def loaded() -> Script:
    """A log that shows something: of each primitive ten calls, some granted and some refused, and one unknown."""
    script = Script()
    told = {
        "Quota": {"ok": True},
        "RateLimiter": {"ok": True},
        "CappedSet": {"outcome": "joined"},
        "Slots": {"slot": 1},
        "KeyedSet": {"outcome": "added"},
        "UniqueCode": "X",
        "Documents": True,
    }
    refused = {
        "Quota": {"ok": False},
        "RateLimiter": {"ok": False},
        "CappedSet": {"outcome": "full"},
        "Slots": {"slot": None},
        "KeyedSet": {"outcome": "full"},
        "UniqueCode": None,
        "Documents": False,
    }
    for name in PRIMITIVES:
        op = VERDICTS[name][0] if name in VERDICTS else "call"
        for answer in (told.get(name), refused.get(name)) * 5:
            script(name, op, answer)
        script(name, "stored")
    return script("Counter", "add", fate=UNKNOWN)


def test_a_log_that_shows_nothing_does_not_pass() -> None:
    """Too few answers, too much unknown, no refusal, and no lost answer are each found."""

    def found(log: list[Call]) -> set[tuple[str, str]]:
        return {(violation.promise, violation.why.partition(":")[0]) for violation in check_load(log, 10)}

    script = loaded()
    assert found(script.log) == set()
    assert found(script.log[1:]) == {("there is a load", "Counter was answered 9 times")}
    unseen = [call for call in script.log if not (call.look and call.of == "Cascade")]
    assert found(unseen) == {("all that was written is looked at", "'k' of Cascade was not")}
    assert found(script.log[:-1]) == {("some answers are lost for good", "all are known")}
    granted = [call for call in script.log if call.told != {"outcome": "full"} or call.of != "KeyedSet"]
    assert ("some are granted, and some refused", "by KeyedSet") in found(granted)
    for _ in range(10):
        script("Slots", "release", fate=UNKNOWN)
    assert found(script.log) == {("enough is known", "of 20 calls of Slots 10 are unknown")}


def test_a_schedule_is_repeated_by_its_seed() -> None:
    """Each round has every kind of fault once, nobody is killed while another is down, and a seed gives one order."""
    first, again, other = ([*itertools.islice(schedule(Random(seed)), 5 * len(KINDS))] for seed in (1, 1, 2))
    assert first == again != other
    for number in range(5):
        kinds = first[number * len(KINDS) : (number + 1) * len(KINDS)]
        assert sorted(kinds) == sorted(KINDS)
        assert kinds.index(KILL) < kinds.index(RESTART)


def test_the_table_counts_calls_that_were_under_way() -> None:
    """A call counts for each kind of fault that it met, and a violation for those that its calls have met."""
    faults = [Fault(KILL, 10, 25), Fault(STEP_DOWN, 40, 50)]
    log = [
        Call("Counter", "add", "k", {}, 1, 9),
        Call("Counter", "add", "k", {}, 5, 12),
        Call("Counter", "add", "k", {}, 20, 45, UNKNOWN),
        Call("Counter", "add", "k", {}, 46, 47, UNTOUCHED),
    ]
    table = Table()
    table.add("one", faults, log, [Violation("p", "w", (log[2],)), Violation("p", "w", (log[1],)), Violation("p", "w")])
    assert [*table.lines()][2:4] == [f"| {KILL} | 1 | 2 | 1 | 1 | 0 | 3 |", f"| {STEP_DOWN} | 1 | 2 | 0 | 1 | 1 | 2 |"]
    assert [*table.lines()][-1] == "4 calls in 1 runs: one."


def test_the_table_is_put_into_the_page() -> None:
    """What stands between the two marks is replaced, and nothing else; a page without them is an error."""
    page = f"before\n{BEGIN}\nold\n{END}\nafter\n"
    assert put_between(page, "new") == f"before\n{BEGIN}\n\nnew\n\n{END}\nafter\n"
    assert put_between(put_between(page, "new"), "new") == put_between(page, "new")
    with pytest.raises(ValueError, match="faults: begin"):
        put_between("before", "new")
