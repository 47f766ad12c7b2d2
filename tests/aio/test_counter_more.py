"""What a counter does besides counting: meters, times, ids that count once, stripes, and documents in hand."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any

import pytest
from bson import Binary, Decimal128, Int64, UuidRepresentation
from bson.codec_options import CodecOptions
from pymongo.errors import OperationFailure

from mongopatterns import AsyncCounter, CounterSpec, DocumentNotFound, StateError, UsageError
from mongopatterns._driver_async import settle
from mongopatterns.testing import race

UTC = dt.timezone.utc
DATE = dt.datetime(2026, 1, 1, tzinfo=UTC)

HITS = CounterSpec("counters", path="n")
RICH = CounterSpec("posts", path="stats.views", meters=("stats.bytes", "cost"), set_now=("seen.last", "touched"))
HOSTILE = ("$price", "a b", "ключ", "a$b", "__proto__", "x" * 200, "$$NOW", '"', "{$gt: 1}")


async def server_time(db: Any) -> dt.datetime:
    """Tell the server's time, without the zone that only some clients show."""
    return (await db.command("hello"))["localTime"].replace(tzinfo=None)


# Meters and times --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("once", [None, "id"])
async def test_meters_rise_in_the_same_write(db: Any, commands: Any, once: str | None) -> None:
    """Meters that a call names rise with the number, those that it does not name are not made; one command each."""
    views = AsyncCounter(db, RICH)
    assert await views.add("a", 2, meters={"cost": 0.1, "stats.bytes": 0}, once=once) == 2
    first = await db.posts.find_one()
    assert (first["stats"]["views"], first["cost"]) == (2, Decimal128("0.1"))
    assert "bytes" not in first["stats"]
    assert await views.add("a", 1, meters={"cost": Decimal("0.2"), "stats.bytes": 10**15}, once=once and "other") == 3
    assert await views.add("a", 1, once=once and "third") == 4
    document = await db.posts.find_one()
    assert (document["cost"], document["stats"]["bytes"]) == (Decimal128("0.3"), 10**15)
    assert commands.names.count("findAndModify") == 3


@pytest.mark.parametrize("meters", [{"bytes": 1}, {"stats": 1}, {"$cost": 1}, ["cost"], "cost", {"cost": -1}])
async def test_bad_meters_are_refused_before_anything_is_sent(db: Any, commands: Any, meters: Any) -> None:
    """A meter that the spec does not have, or an amount that is none, raises a UsageError that names it."""
    for combine in (False, True):
        with pytest.raises(UsageError, match=r"^meters"):
            await AsyncCounter(db, RICH, combine=combine).add("a", meters=meters)
    assert commands.names == []


@pytest.mark.parametrize("amount", [float("nan"), True, "1", None, 10**16, Decimal("-0.1")])
async def test_bad_amounts_of_meters_are_named(db: Any, commands: Any, amount: Any) -> None:
    """A bad amount of a meter is refused as one of the counter is, and the message says which meter."""
    with pytest.raises(UsageError, match=r"^meters\.cost: "):
        await AsyncCounter(db, RICH).add("a", meters={"cost": amount})
    assert commands.names == []


async def test_set_now_is_the_servers_time_of_the_last_add(db: Any) -> None:
    """Each add sets the times, plain or counted once; a repeat of an id does not."""
    views = AsyncCounter(db, RICH)
    for once in (None, "id"):
        before = await server_time(db)
        await views.add("a", once=once)
        document = await db.posts.find_one()
        after = await server_time(db)
        # Two readings of the clock, unless the add was counted once.
        for time in (document["seen"]["last"], document["touched"]):
            assert before <= time.replace(tzinfo=None) <= after
    await db.posts.update_one({}, {"$set": {"touched": "by hand"}})
    await views.add("a", once="id")
    assert (await db.posts.find_one())["touched"] == "by hand"
    await views.add("a")
    assert isinstance((await db.posts.find_one())["touched"], dt.datetime)


BAD_SPECS: list[dict[str, Any]] = [
    {"meters": "cost"},
    {"meters": ("cost", "cost")},
    {"meters": (1,)},
    {"meters": ("n",)},
    {"meters": ("n.x",)},
    {"meters": ("_id",)},
    {"meters": ("$x",)},
    {"meters": ("a..b",)},
    {"meters": ("a.0",)},
    {"meters": ("n_once",)},
    {"meters": ("a", "a.b")},
    {"meters": ("a",), "set_now": ("a",)},
    {"meters": ("key",), "key_field": "key"},
    {"set_now": ("n",)},
    {"set_now": ("a\0b",)},
    {"set_now": ("n_once.x",)},
    {"meters": ("cost",), "create": {"cost": 0}},
    {"create": {"n": 0}},
    {"stripes": 0},
    {"stripes": True},
    {"stripes": 1001},
    {"stripes": 2.0},
    {"stripes": 2, "key_field": "slug"},
    {"stripes": 2, "create": None},
    {"once_kept": 0},
    {"once_kept": 1001},
    {"once_kept": "32"},
]


@pytest.mark.parametrize("options", BAD_SPECS)
def test_a_spec_that_cannot_work_is_refused(options: dict[str, Any]) -> None:
    """Paths that overlap, operators, and bounds that mean nothing raise a UsageError when the spec is made."""
    with pytest.raises(UsageError):
        CounterSpec("counters", **{"path": "n", **options})


@pytest.mark.parametrize(
    "options", [{"key_field": "n_once"}, {"create": {"n_once": ["id"]}}, {"create": {"n_once": "text"}}]
)
def test_a_spec_whose_ids_have_no_place_of_their_own_is_refused(options: dict[str, Any]) -> None:
    """Where the ids of once= would be kept, neither the key nor a field of create= may stand."""
    with pytest.raises(UsageError):
        CounterSpec("counters", path="n", **options)


@pytest.mark.parametrize("name", [name for name in HOSTILE if not name.startswith("$")])
async def test_hostile_names_are_names(db: Any, name: str) -> None:
    """Paths of odd characters are stored as themselves, with and without an id, alone and together."""
    spec = CounterSpec("counters", path=f"p {name}", meters=(f"m.{name}",), set_now=(f"t.{name}",))
    for combine in (False, True):
        hits = AsyncCounter(db, spec, combine=combine)
        report = await race(
            lambda index, hits=hits: hits.add(name, meters={f"m.{name}": 2}, once=f"{index}" if index % 2 else None),
            times=20,
            concurrency=10,
        )
        assert report.errors == []
        assert sorted(report.outcomes) == list(range(1, 21))
        document = await db.counters.find_one({"_id": name})
        assert set(document) == {"_id", f"p {name}", f"p {name}_once", "m", "t"}
        assert (document["m"][name], len(document[f"p {name}_once"])) == (40, 10)
        assert isinstance(document["t"][name], dt.datetime)
        assert await hits.value(name) == spec.read(document) == 20
        await db.counters.drop()


# once= -------------------------------------------------------------------------------------------------------


async def test_a_repeated_id_adds_nothing_and_tells_the_total(db: Any) -> None:
    """A call with a known id leaves the document as it is and returns what is stored; other ids count."""
    views = AsyncCounter(db, RICH)
    assert await views.add("a", 3, meters={"cost": 1}, once="x") == 3
    before = await db.posts.find_one()
    assert await views.add("a", 3, meters={"cost": 1}, once="x") == 3
    assert await views.add("a", 99, once="x") == 3
    assert await db.posts.find_one() == before
    assert await views.add("a", 0.5, once="y") == 3.5
    assert await views.add("a", 1) == 4.5
    assert await views.add("b", 3, once="x") == 3
    assert (await db.posts.find_one({"_id": "a"}))["stats"]["views_once"] == ["x", "y"]


async def test_a_race_of_repeats_counts_each_id_once(db: Any) -> None:
    """However many callers repeat ten ids at once, on a key that is not there yet, each id counts once."""
    hits = AsyncCounter(db, HITS)
    report = await race(lambda index: hits.add("home", 2, once=f"id {index % 10}"), times=200, concurrency=40)
    assert report.errors == []
    assert set(report.outcomes) == set(range(2, 22, 2))
    assert await hits.value("home") == 20


@pytest.mark.parametrize("once", HOSTILE)
async def test_an_id_is_data(db: Any, once: str) -> None:
    """Ids that look like paths, variables and operators are stored as themselves, and known again."""
    hits = AsyncCounter(db, HITS)
    for _ in range(3):
        assert await hits.add("home", once=once) == 1
    assert await db.counters.find_one() == {"_id": "home", "n": 1, "n_once": [once]}


async def test_ids_that_a_collation_finds_equal_are_two(db: Any) -> None:
    """Ids are compared character by character, whatever the collection's own collation takes for equal."""
    await db.create_collection("counters", collation={"locale": "en", "strength": 1, "alternate": "shifted"})
    hits = AsyncCounter(db, HITS)
    totals = [await hits.add("home", once=once) for once in ("a-b", "A-b", "ab", "ä-b", "a-b", "ab")]
    assert totals == [1, 2, 3, 4, 4, 4]


@pytest.mark.parametrize("once", ["", "x" * 201, 1, True, b"id", ["id"], "a\0b"])
async def test_bad_ids_are_refused(db: Any, commands: Any, once: Any) -> None:
    """An id is text of 1 to 200 characters; anything else raises a UsageError, and nothing is sent."""
    for combine in (False, True):
        with pytest.raises(UsageError, match=r"^once: "):
            await AsyncCounter(db, HITS, combine=combine).add("home", once=once)
    assert commands.names == []


async def test_ids_are_kept_to_a_number(db: Any) -> None:
    """The last `once_kept` ids are known; one that later ids have displaced counts again."""
    hits = AsyncCounter(db, CounterSpec("counters", path="n", once_kept=3))
    for index in range(5):
        await hits.add("home", once=f"{index}")
    assert (await db.counters.find_one())["n_once"] == ["2", "3", "4"]
    assert await hits.add("home", once="2") == 5
    assert await hits.add("home", once="1") == 6
    assert (await db.counters.find_one())["n_once"] == ["3", "4", "1"]


async def test_a_lost_reply_of_an_id_counts_once(db: Any, mongopatterns_server: Any) -> None:
    """When the reply is lost after the write, the driver's repeat is told the total; so is a repeat of the caller."""
    hits = AsyncCounter(db, HITS)
    with mongopatterns_server.fail_point(
        "onPrimaryTransactionalWrite", mode={"times": 1}, data={"closeConnection": True}
    ):
        assert await hits.add("home", 3, once="id") == 3
    assert await hits.add("home", 3, once="id") == 3
    assert await hits.value("home") == 3


async def test_an_id_takes_part_in_a_transaction(client: Any, db: Any) -> None:
    """An aborted transaction takes the id with it: the repeat after it counts."""
    hits = AsyncCounter(db, HITS)
    await hits.add("home", once="first")
    async with await settle(client.start_session()) as session:
        await settle(session.start_transaction())
        assert await hits.add("home", 5, once="id", session=session) == 6
        assert await hits.add("home", 5, once="id", session=session) == 6
        await session.abort_transaction()
    assert await hits.add("home", 5, once="id") == 6


async def test_create_and_an_id_fill_a_new_document(db: Any) -> None:
    """With an id too, the document that is made has the fields of create=, as they are, and no other gets them."""
    spec = CounterSpec("posts", path="a.n", key_field="user.id", create={"kind": "$page", "tags": {"a": "$$NOW"}})
    await db.posts.create_index("user.id", unique=True)
    await db.posts.insert_one({"_id": 0, "user": {"id": "old", "name": "$n"}})
    hits = AsyncCounter(db, spec)
    for key in ("old", "new"):
        for _ in range(2):
            assert await hits.add(key, 2, once="id") == 2
    old, new = await db.posts.find({}, {"_id": 0}).sort("user.id", -1).to_list(None)
    assert old == {"user": {"id": "old", "name": "$n"}, "a": {"n": 2, "n_once": ["id"]}}
    counted = {"kind": "$page", "tags": {"a": "$$NOW"}, "a": {"n": 2, "n_once": ["id"]}}
    assert new == {"user": {"id": "new"}, **counted}


async def test_an_id_makes_no_document_where_none_may_be_made(db: Any) -> None:
    """With create=None an unknown key stays unknown; on a document that is there the id counts."""
    hits = AsyncCounter(db, CounterSpec("counters", path="n", create=None))
    with pytest.raises(DocumentNotFound):
        await hits.add("ghost", once="id")
    assert await db.counters.count_documents({}) == 0
    await db.counters.insert_one({"_id": "ghost"})
    assert [await hits.add("ghost", once="id") for _ in range(2)] == [1, 1]


@pytest.mark.parametrize("wrong", ["text", 5, True, [1, 2], [{"views": 1}], [], DATE])
@pytest.mark.parametrize("parent", ["stats", "seen"])
@pytest.mark.parametrize("once", [None, "id"])
async def test_a_parent_that_is_no_document_is_refused_without_damage(
    db: Any, wrong: Any, parent: str, once: str | None
) -> None:
    """Where a path leads through something else than a document, the call fails and the document stays."""
    await db.posts.insert_one({"_id": "a", parent: wrong, "text": "kept"})
    before = await db.posts.find_one()
    views = AsyncCounter(db, RICH)
    with pytest.raises(OperationFailure):
        await views.add("a", meters={"stats.bytes": 1}, once=once)
    assert await db.posts.find_one() == before


@pytest.mark.parametrize("wrong", ["text", True, [1], {"n": 1}, DATE])
@pytest.mark.parametrize("place", ["n", "m"])
@pytest.mark.parametrize("once", [None, "id"])
async def test_what_is_no_number_is_refused_without_damage(db: Any, wrong: Any, place: str, once: str | None) -> None:
    """Adding to a number or a meter that is none (a date is none) fails, and the document stays as it is."""
    await db.counters.insert_one({"_id": "home", place: wrong})
    before = await db.counters.find_one()
    hits = AsyncCounter(db, CounterSpec("counters", path="n", meters=("m",)))
    with pytest.raises(OperationFailure):
        await hits.add("home", meters={"m": 1}, once=once)
    assert await db.counters.find_one() == before


@pytest.mark.parametrize("place", ["n", "m"])
@pytest.mark.parametrize("once", [None, "id"])
async def test_a_sum_past_64_bits_is_refused_without_damage(db: Any, place: str, once: str | None) -> None:
    """A sum that would leave the integers is refused, and never stored as a double that has lost its last digits."""
    await db.counters.insert_one({"_id": "home", place: Int64(2**63 - 5)})
    before = await db.counters.find_one()
    hits = AsyncCounter(db, CounterSpec("counters", path="n", meters=("m",)))
    with pytest.raises(OperationFailure):
        await hits.add("home", 10, meters={"m": 10}, once=once)
    assert await db.counters.find_one() == before


async def test_an_int_grows_into_64_bits_with_an_id_too(db: Any) -> None:
    """A sum past 32 bits is a long, and past 2**53 still exact."""
    hits = AsyncCounter(db, HITS)
    for index, amount in enumerate((2**31 - 1, 1, 10**15, 9 * 10**14 + 1)):
        await hits.add("home", amount, once=f"{index}")
    await db.counters.update_one({}, {"$inc": {"n": Int64(2**60)}})
    assert await hits.add("home", 1, once="last") == 2**31 + 10**15 + 9 * 10**14 + 2 + 2**60


@pytest.mark.parametrize("wrong", ["text", 5, {"a": 1}, DATE])
async def test_a_list_of_ids_that_is_none_is_refused_without_damage(db: Any, wrong: Any) -> None:
    """What stands in the place of the ids and is no list fails the call, and stays; plain adds do not mind it."""
    await db.counters.insert_one({"_id": "home", "n": 1, "n_once": wrong})
    before = await db.counters.find_one()
    hits = AsyncCounter(db, HITS)
    with pytest.raises(OperationFailure):
        await hits.add("home", once="id")
    assert await db.counters.find_one() == before
    assert await hits.add("home") == 2


# Stripes -----------------------------------------------------------------------------------------------------


async def test_stripes_are_documents_of_their_own(db: Any) -> None:
    """Adds go round over the stripes of a key, each with the fields of create=; value and values add them up."""
    spec = CounterSpec("counters", path="a.n", stripes=3, meters=("m",), set_now=("t",), create={"kind": "$x"})
    hits = AsyncCounter(db, spec)
    assert await hits.value("home") == 0
    for _ in range(7):
        await hits.add("home", 2, meters={"m": 1})
    await hits.add("other", 5)
    documents = await db.counters.find({"_id.key": "home"}, {"t": 0}).sort("_id").to_list(None)
    assert [document["_id"] for document in documents] == [{"key": "home", "stripe": stripe} for stripe in range(3)]
    assert sorted(document["a"]["n"] for document in documents) == [4, 4, 6]
    assert sum(document["m"] for document in documents) == 7
    assert all(document["kind"] == "$x" for document in documents)
    assert sum(spec.read(document) for document in documents) == await hits.value("home") == 14
    assert await hits.values(["other", "home", "none"]) == {"other": 5, "home": 14, "none": 0}


@pytest.mark.parametrize("key", [1, True, "$x", {"a": "$y"}, b"\0", {"key": 1, "stripe": 0}])
async def test_striped_keys_are_data_and_nothing_but_themselves(db: Any, key: Any) -> None:
    """Any key can be striped, and is not taken for another one that looks like it."""
    hits = AsyncCounter(db, CounterSpec("counters", path="n", stripes=2))
    for other in (1, True, "x", {"a": 1}, 0):
        if other != key or isinstance(other, bool) is not isinstance(key, bool):
            await hits.add(other)
    for _ in range(4):
        await hits.add(key, 0.25)
    assert await hits.value(key) == 1
    if not isinstance(key, dict):
        assert await hits.values([key]) == {key: 1}


async def test_an_id_needs_one_stripe(db: Any, commands: Any) -> None:
    """A striped counter refuses once=, because a repeat may meet another stripe; nothing is sent."""
    for combine in (False, True):
        with pytest.raises(UsageError, match=r"^once: .*one stripe"):
            await AsyncCounter(db, CounterSpec("counters", path="n", stripes=2), combine=combine).add("a", once="id")
    assert commands.names == []


async def test_value_and_values_of_stripes_cost_one_command(db: Any, commands: Any) -> None:
    """All stripes of all keys are read at once."""
    hits = AsyncCounter(db, CounterSpec("counters", path="n", stripes=50))
    await hits.value("a")
    await hits.values(list(range(100)))
    assert commands.names == ["find", "find"]


@pytest.mark.parametrize("stripes", [1, 8])
async def test_a_race_on_stripes_loses_nothing(db: Any, stripes: int) -> None:
    """However many stripes, value is the sum of all that was added, and no total of a stripe is told twice."""
    hits = AsyncCounter(db, CounterSpec("counters", path="n", stripes=stripes))
    report = await race(lambda _: hits.add("home", 0.5), times=200, concurrency=40)
    assert report.errors == []
    assert await hits.value("home") == 100
    assert max(report.outcomes) == Decimal(100) / stripes
    assert all(count == stripes for _, count in report.duplicates) if stripes > 1 else not report.duplicates


# Keys that look alike, and documents in hand -----------------------------------------------------------------


async def test_values_tells_a_uuid_from_bytes_that_look_like_it(db: Any) -> None:
    """Where UUIDs are stored in the old way, values gives each of two keys that Python writes alike its own number."""
    options: CodecOptions[Any] = CodecOptions(uuid_representation=UuidRepresentation.PYTHON_LEGACY)
    hits = AsyncCounter(db.get_collection("old", codec_options=options), HITS)
    modern = Binary(b"0123456789abcdef", 4)
    key = modern.as_uuid()
    await hits.add(key, 7)
    await hits.add(modern, 30)
    assert [await hits.value(key), await hits.value(modern)] == [7, 30]
    assert await hits.values([key, modern]) == {key: 7, modern: 30}


@pytest.mark.parametrize(
    ("document", "number"),
    [
        ({"_id": 1, "a": {"n": 5}}, 5),
        ({"_id": 1, "a": {"n": 5.0}}, 5),
        ({"_id": 1, "a": {"n": Decimal128("0.10")}}, Decimal("0.1")),
        ({"_id": 1, "a": {"n": Int64(2**62)}}, 2**62),
        ({"_id": 1, "a": {}}, 0),
        ({"_id": 1, "a": None}, 0),
        ({"_id": 1}, 0),
        ({}, 0),
    ],
)
def test_read_tells_the_number_of_a_document_in_hand(document: Any, number: Any) -> None:
    """spec.read gives the plain number of a document, 0 where there is none, and sends nothing."""
    told = CounterSpec("counters", path="a.n").read(document)
    assert told == number
    assert type(told) is type(number)


@pytest.mark.parametrize("wrong", ["5", True, float("nan"), float("inf"), Decimal128("NaN"), [5], {"n": 1}, DATE])
def test_read_refuses_what_is_no_number(wrong: Any) -> None:
    """What is no finite number raises a StateError that names the collection, the key and the path."""
    with pytest.raises(StateError, match=r"'a\.n' in the document 7 of 'counters'") as caught:
        CounterSpec("counters", path="a.n").read({"_id": 7, "a": {"n": wrong}})
    assert (caught.value.collection, caught.value.key, caught.value.path) == ("counters", 7, "a.n")


@pytest.mark.parametrize("wrong", ["text", 5, [{"n": 5}]])
def test_a_parent_that_is_no_document_is_not_read_as_zero(wrong: Any) -> None:
    """Where the path leads through something else than a document, read raises instead of telling 0."""
    with pytest.raises(StateError, match="'a' in the document 'home'"):
        CounterSpec("counters", path="a.n").read({"_id": "home", "a": wrong})


async def test_numbers_in_a_list_are_not_told_as_zero(db: Any) -> None:
    """Where the path leads through a list, value and values raise instead of telling 0."""
    await db.counters.insert_one({"_id": "home", "a": [{"n": 5}]})
    hits = AsyncCounter(db, CounterSpec("counters", path="a.n"))
    with pytest.raises(StateError):
        await hits.values(["home"])
    with pytest.raises(StateError):
        await hits.value("home")
