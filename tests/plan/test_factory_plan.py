"""What a client is given: whose word counts, what is refused, and that nothing secret is ever shown."""

from __future__ import annotations

import gc
import traceback
import weakref
from dataclasses import replace
from typing import Any
from urllib.parse import quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st
from motor.motor_asyncio import AsyncIOMotorClient
from pymongo import AsyncMongoClient, MongoClient, ReadPreference
from pymongo.common import VALIDATORS
from pymongo.errors import PyMongoError
from pymongo.write_concern import WriteConcern

from mongopatterns import Durability, PoolBudget, Profile, Tier, UsageError, make_async_client, make_client
from mongopatterns._driver_options import option_names, takes
from mongopatterns._shared import Shared, guarded
from mongopatterns.client._factory_plan import ClientPlan, ClientSettings

URI = "mongodb://localhost"
SECRET = "s3cret-w0rd"  # what must not be found anywhere
PLAN = ClientPlan(option_names(), takes, MongoClient)


def settled(uri: str = URI, profile: Profile = Profile.WEB, **given: Any) -> ClientSettings:
    named = {"app_name": "api", "budget": None, "w": None, **given.pop("named", {})}
    return PLAN.settle(None, uri, profile, options=given, **named)


def options(uri: str = URI, profile: Profile = Profile.WEB, **given: Any) -> Any:
    """Return what a client would have, as the driver reads it."""
    with settled(uri, profile, **given).make(connect=False) as client:
        return client.options


def told_by(error: BaseException) -> str:
    """Return all text of an error and of those that led to it: not the lines of source that a traceback shows."""
    shown, chain = "", [error]
    while chain:
        one = chain.pop()
        shown += f"{one!r} {one} {vars(one)}" + "".join(traceback.format_exception_only(one))
        chain += [led for led in (one.__cause__, one.__context__) if led is not None]
    return shown


def test_a_profile_is_what_nobody_else_says() -> None:
    """The caller's options count more than the URI's, and those more than the profile's."""
    uri = f"{URI}/?maxPoolSize=7&timeoutms=4000"
    assert options().pool_options.max_pool_size == Profile.WEB.maxPoolSize
    assert options(uri).pool_options.max_pool_size == 7
    assert options(uri).timeout == 4
    assert options(uri, maxpoolsize=5).pool_options.max_pool_size == 5
    assert options(uri, maxpoolsize=5).timeout == 4
    assert options(timeoutMS=None).timeout is None
    assert options(uri).pool_options.connect_timeout == Profile.WEB.connectTimeoutMS / 1000


def test_a_read_preference_counts_by_either_name() -> None:
    """The driver's object stands for the option of the profile too."""
    nearest = options(profile=Profile.ANALYTICS, read_preference=ReadPreference.NEAREST)
    assert nearest.read_preference == ReadPreference.NEAREST
    assert options(profile=Profile.ANALYTICS).read_preference.mongos_mode == "secondaryPreferred"
    assert options(f"{URI}/?readPreference=nearest", Profile.ANALYTICS).read_preference.mongos_mode == "nearest"


@pytest.mark.parametrize(
    ("uri", "durability", "given", "expected"),
    [
        (URI, None, {}, {"w": "majority"}),
        (URI, Durability.FAST, {}, {"w": 1}),
        (f"{URI}/?w=majority", Durability.FAST, {}, {"w": 1}),
        (f"{URI}/?w=1", None, {}, {"w": 1}),
        (f"{URI}/?w=1", Durability.MAJORITY, {"wTimeoutMS": 500}, {"w": "majority", "wtimeout": 500}),
        (URI, None, {"w": 2, "journal": True}, {"w": 2, "j": True}),
    ],
)
def test_durability_is_what_was_said_nearest(
    uri: str, durability: Durability | None, given: dict[str, Any], expected: dict[str, Any]
) -> None:
    """`durability=` counts more than the URI; where nobody says anything, it is a majority."""
    with make_client(uri, profile=Profile.WEB, app_name="api", durability=durability, connect=False, **given) as client:
        assert client.write_concern == WriteConcern(**expected)


def test_a_budget_counts_more_than_anybody() -> None:
    """It makes a profile's pool smaller, takes a smaller one as it is, and refuses a larger one."""
    budget = PoolBudget(limit=100, processes=4)
    fits = budget.plan(Profile.WEB).max_pool_size
    assert options(named={"budget": budget}).pool_options.max_pool_size == fits == 20
    assert options(named={"budget": budget}, maxPoolSize=3).pool_options.max_pool_size == 3
    assert options(f"{URI}/?maxPoolSize=3", named={"budget": budget}).pool_options.max_pool_size == 3
    assert options(f"{URI}/?maxPoolSize=300", named={"budget": budget}, maxPoolSize=3).pool_options.max_pool_size == 3
    for uri, said in ((f"{URI}/?maxPoolSize=21", {}), (URI, {"maxPoolSize": 21}), (URI, {"maxpoolsize": "21"})):
        with pytest.raises(UsageError, match=r"^maxPoolSize: 21 is more than the budget's 20:\none server takes 100"):
            settled(uri, named={"budget": budget}, **said)
    for unbounded in (0, None):
        with pytest.raises(UsageError, match=r"^maxPoolSize: 0 and None are without a bound"):
            settled(named={"budget": budget}, maxPoolSize=unbounded)
    with pytest.raises(UsageError, match=r"^maxPoolSize: expected a whole number"):
        settled(named={"budget": budget}, maxPoolSize=2.5)


def test_a_budget_counts_how_servers_are_watched() -> None:
    """What the client does is what was counted: of the budget, of the caller, or of the profile."""
    stream, poll, open_ = (PoolBudget(limit=100, processes=4, monitoring=m) for m in ("stream", "poll", None))
    assert options(named={"budget": poll}).server_monitoring_mode == "poll"
    assert options(profile=Profile.WORKER, named={"budget": stream}).server_monitoring_mode == "stream"
    assert options(named={"budget": open_}, serverMonitoringMode="poll").pool_options.max_pool_size == 21
    assert options(f"{URI}/?serverMonitoringMode=poll", named={"budget": open_}).server_monitoring_mode == "poll"
    assert options(profile=Profile.WORKER, named={"budget": open_}).server_monitoring_mode == "poll"
    assert options(named={"budget": open_}, serverMonitoringMode="auto").server_monitoring_mode == "stream"
    with pytest.raises(UsageError, match=r"^serverMonitoringMode: the budget is made for 'poll'"):
        settled(named={"budget": poll}, serverMonitoringMode="auto")


def test_a_minimum_stays_below_a_pool_that_was_made_smaller() -> None:
    """A profile's minPoolSize does not stop a client whose pool is smaller than that."""
    eager = replace(Profile.WEB, name="eager", minPoolSize=10)
    assert options(profile=eager).pool_options.min_pool_size == 10
    assert options(profile=eager, maxPoolSize=3).pool_options.min_pool_size == 3
    assert options(f"{URI}/?maxPoolSize=4", profile=eager).pool_options.min_pool_size == 4
    assert options(profile=eager, maxPoolSize=None).pool_options.min_pool_size == 10
    assert options(profile=eager, named={"budget": PoolBudget(limit=20, processes=2)}).pool_options.min_pool_size == 3


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"maxPolSize": 5}, r"maxPolSize: the driver knows no such option: did you mean maxPoolSize\?"),
        ({"timeout_ms": 5}, r"timeout_ms: .* did you mean timeoutMS\?"),
        ({"zzz": 5}, r"zzz: the driver knows no such option$"),
        ({"maxTimeMS": 5}, r"maxTimeMS: .*timeoutMS bounds each call"),
        ({"host": "h"}, r"host: hosts and ports belong in the URI"),
        ({"appName": "x"}, r"appName: say it as app_name="),
        ({"maxPoolSize": 5, "maxpoolsize": 6}, r"maxpoolsize: it is said twice, as maxPoolSize too"),
    ],
)
def test_options_that_are_none_are_refused(given: dict[str, Any], message: str) -> None:
    """The name is shown, with the nearest that the driver has; two spellings of one option are refused."""
    with pytest.raises(UsageError, match=f"^{message}"):
        settled(**given)


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        (f"{URI}/?maxPolSize=5", r"it has an option that the driver does not know: did you mean maxPoolSize\?"),
        (f"{URI}/?maxTimeMS=5", r"it has an option .* timeoutMS bounds each call"),
        (f"{URI}/?maxPoolSize=many", r"the driver does not take the value of maxPoolSize"),
        (f"{URI}/?maxPoolSize=5&maxpoolsize=500", r"it says maxPoolSize twice$"),
        (f"{URI}/?maxPoolSize", r"the driver does not take the value of maxPoolSize"),
        (f"{URI}/?readPreference=fastest", r"the driver does not take the value of readPreference"),
        ("mongodb://u:a/b@h/", r"there is an @ behind a / or a \?: .*%40, %2F and %3F .*quote_plus"),
        ("mongodb://u:a?b=c@h/", r"there is an @ behind a / or a \?"),
        ("mongodb://u:a@b/c@h/", r"there is an @ behind a / or a \?"),
        ("mongodb://u:a@b/c.d@e/?w=1", r"there is an @ behind a / or a \?"),
        ("mongodb://u:a@b/?w=1@e", r"there is an @ behind a / or a \?"),
        ("mongodb://h/?appName=a@b", r"there is an @ behind a / or a \?"),
        ("mongodb://u:a@b@h/", r"there are two @ before the first / or \?: .*%40"),
        ("localhost", r"expected text that begins with mongodb:// or mongodb\+srv://"),
        (5, r"expected text that begins with"),
        (None, r"expected text that begins with"),
    ],
)
def test_what_a_uri_says_wrongly_is_refused(uri: Any, message: str) -> None:
    """The driver would only warn, and leave the option out."""
    with pytest.raises(UsageError, match=f"^uri: {message}"):
        settled(uri)


@pytest.mark.parametrize(
    "uri",
    [
        f"mongodb://u:{SECRET}@h/?maxPolSize=5",
        f"mongodb://u:{SECRET}@h/?maxPoolSize={SECRET}",
        f"mongodb://u:{SECRET}@h/?readPreference={SECRET}",
        f"mongodb://u:{SECRET}@h:port/",
        f"mongodb://u:{SECRET}:x@h/",
        f"mongodb://u:{SECRET}%@h/",
        f"mongodb://u:{SECRET}@@h/",
        f"mongodb://u:a/{SECRET}@h/",
        f"mongodb://u:{SECRET}/a@h/",
        f"mongodb://u:{SECRET}?a@h/",
        f"mongodb://u:a/?{SECRET}=1@h/",
        f"mongodb://u:a?{SECRET}@h/",
        f"mongodb://u:a?{SECRET}=b@h/",
        f"mongodb://h/?tlsCertificateKeyFilePassword=a&{SECRET}",
        f"mongodb://h/?tlsCertificateKeyFilePassword=a&{SECRET}=b",
        f"mongodb://h/?authMechanismProperties={SECRET}",
        f"mongodb://h/?{SECRET}",
        f"mongodb://u:p@ss/{SECRET}@host/",
        f"mongodb://u:p@{SECRET}:x@host/",
        f"mongodb://u:p@{SECRET}/a.b@c/?w=1",
        f"mongodb://u:p%{SECRET}@host/",
        f"mongodb://u:{SECRET}",
        f"mongodb+srv://u:{SECRET}@a.example,b.example/?tls=true",
        f"mongodb+srv://u:{SECRET}@localhost:1/",
        f"mongodb://h/?readPreferenceTags={SECRET}",
        f"mongodb://h/?w=1&authMechanism={SECRET}",
        f"mongodb://u:{SECRET}@h/?tls=true&ssl=false",
        f"mongodb://u:{SECRET}@h/a b$/",
        f"mongo://u:{SECRET}@h/",
        f"{SECRET}",
    ],
)
def test_no_error_shows_what_a_uri_holds(uri: str) -> None:
    """Whatever is wrong with it, neither the error nor what led to it has a word of a password."""
    with pytest.raises((UsageError, PyMongoError, ValueError)) as caught:
        make_client(uri, profile=Profile.WEB, app_name="api", connect=False)
    assert SECRET not in told_by(caught.value)


@pytest.mark.parametrize(
    "given",
    [
        {"maxPoolSize": SECRET},
        {"maxPoolSize": [SECRET]},
        {"readConcernLevel": [SECRET]},
        {"authMechanism": SECRET, "bad_option": SECRET},
        {"tls": False, "tlsCertificateKeyFilePassword": SECRET, "ssl": True},
        {"password": SECRET, "maxpolsize": 5},
        {"username": "u", "password": SECRET, "authMechanism": "MONGODB-X509"},
    ],
)
def test_no_error_shows_what_an_option_holds(given: dict[str, Any]) -> None:
    """Neither what is refused here nor what the driver refuses, in any error of the chain."""
    with pytest.raises((UsageError, PyMongoError, ValueError, TypeError)) as caught:
        make_client(URI, profile=Profile.WEB, app_name="api", connect=False, **given)
    assert SECRET not in told_by(caught.value)


@pytest.mark.parametrize("size", ["abc", float("inf"), float("nan"), [1], -1, 2.5, "9" * 5000, {}])
def test_a_pool_that_is_no_number_is_refused(size: Any) -> None:
    """With a budget and without one; the value is not shown."""
    for budget in (None, PoolBudget(limit=100, processes=4)):
        with pytest.raises(UsageError, match=r"^maxPoolSize: expected a whole number[^:]*$") as caught:
            settled(maxPoolSize=size, named={"budget": budget})
        assert caught.value.__cause__ is None
        assert caught.value.__context__ is None


def test_what_has_no_hash_is_kept_as_long_as_its_key() -> None:
    """An object that was freed cannot be taken for another one that came to its place."""

    class Unhashable:
        __hash__ = None  # type: ignore[assignment]

    thing = Unhashable()
    there = weakref.ref(thing)
    key = settled(driver=thing).key
    assert key == settled(driver=thing).key
    assert key != settled(driver=Unhashable()).key
    del thing
    assert there() is not None
    del key
    gc.collect()
    assert there() is None


def test_no_repr_shows_a_password(caplog: pytest.LogCaptureFixture) -> None:
    """What is kept of a client shows nothing of its URI and its options; nothing is logged."""
    caplog.set_level("DEBUG", logger="mongopatterns")
    made = settled(f"mongodb://u:{SECRET}@h/", password=SECRET, tlsCertificateKeyFilePassword=SECRET)
    shared = Shared()
    with MongoClient("mongodb://h", connect=False) as client:
        lease = shared.take(made.key, None, lambda: client)
        shown = f"{made!r} {made} {shared!r} {lease!r} {vars(shared).keys()} {caplog.text}"
        shared.give_back(lease, None)
    assert SECRET not in shown
    with make_client(f"mongodb://u:{SECRET}@h/", profile=Profile.WEB, app_name="a", connect=False) as client:
        assert SECRET not in repr(client)


def test_what_is_written_as_uris_want_it_passes() -> None:
    """A name and a password with every special character, escaped; several hosts; a socket; an option with an @."""
    user = quote_plus("u/?#[]@:%&;=")
    for uri in (
        f"mongodb://{user}:{user}@h:27018,i/db?authSource=admin&replicaSet=rs",
        f"mongodb://{user}:{user}@%2Ftmp%2Fmongodb-27017.sock",
        f"mongodb://{user}:{user}@h/?authMechanismProperties=SERVICE_NAME:a%40b&authMechanism=GSSAPI",
        "mongodb://h?maxPoolSize=3",
        "mongodb://[::1]:27017/?readPreferenceTags=dc:ny&readPreferenceTags=&readPreference=nearest",
    ):
        assert settled(uri).uri == uri


def test_options_are_those_of_the_driver() -> None:
    """The table is the driver's: all of its options pass, however they are written, and are shown as people do."""
    names = option_names()
    assert set(VALIDATORS) <= set(names)
    assert names["maxpoolsize"] == "maxPoolSize"
    assert all(written.lower() == name for name, written in names.items())
    every = {name: None for name in names if name != "appname"}
    assert set(settled(**every).options) >= {names[name] for name in every}


@given(st.text(max_size=30), st.text(max_size=30))
def test_no_option_of_a_uri_passes_unknown(name: str, value: str) -> None:
    """Any text is an option that the driver takes, or is refused as a whole."""
    try:
        made = settled(f"mongodb://h/?{name}={value}")
    except (UsageError, PyMongoError, ValueError):
        return
    assert made.options["appName"] == "api"


@pytest.mark.parametrize(
    ("argument", "given"),
    [
        ("profile", {"profile": "web"}),
        ("budget", {"budget": 5}),
        ("app_name", {"app_name": ""}),
        ("app_name", {"app_name": "x" * 129}),
        ("app_name", {"app_name": None}),
        ("durability", {"durability": "majority"}),
        ("durability", {"durability": Durability.FAST, "w": 2}),
        ("client_class", {"client_class": dict}),
        ("client_class", {"client_class": MongoClient("mongodb://h", connect=False)}),
        ("client_class", {"client_class": AsyncMongoClient}),
        ("client_class", {"client_class": AsyncIOMotorClient}),
    ],
)
def test_what_cannot_work_is_refused(argument: str, given: dict[str, Any]) -> None:
    """The argument at fault is named, before a client is made."""
    with pytest.raises(UsageError) as caught:
        make_client(URI, **{"profile": Profile.WEB, "app_name": "api", **given})
    assert caught.value.argument == argument


def test_the_other_world_is_named() -> None:
    """Who takes the wrong call is told which one is right."""
    with pytest.raises(UsageError, match="belongs to an asynchronous driver: use make_async_client"):
        make_client(URI, profile=Profile.WEB, app_name="api", client_class=AsyncIOMotorClient)
    with pytest.raises(UsageError, match="belongs to a synchronous driver: use make_client"):
        make_async_client(URI, profile=Profile.WEB, app_name="api", client_class=MongoClient)


def test_a_tier_that_is_too_small_stops_the_start() -> None:
    """Where not even one connection each fits, no client is made, and what would fit is said."""
    with pytest.raises(UsageError, match=r"^budget: 200 x 1 .*What would fit: at most 150 processes"):
        settled(named={"budget": PoolBudget(tier=Tier.M0, processes=200)})


def test_equal_arguments_are_one_key() -> None:
    """Two settings have one key if everything in them is equal; objects without an `==` are equal to themselves."""
    listener = object()
    one = settled(event_listeners=[listener], maxPoolSize=5, auto_encryption_opts={"a": [1]}).key
    assert one == settled(maxpoolsize=5, auto_encryption_opts={"a": [1]}, event_listeners=[listener]).key
    assert hash(one) == hash(settled(maxpoolsize=5, auto_encryption_opts={"a": [1]}, event_listeners=[listener]).key)
    for other in (
        settled(event_listeners=[object()], maxPoolSize=5, auto_encryption_opts={"a": [1]}),
        settled(event_listeners=[listener], maxPoolSize=6, auto_encryption_opts={"a": [1]}),
        settled(event_listeners=[listener], maxPoolSize=5, auto_encryption_opts={"a": [2]}),
        settled(f"{URI}/?tls=true", event_listeners=[listener], maxPoolSize=5, auto_encryption_opts={"a": [1]}),
    ):
        assert other.key != one
    unhashable = bytearray(b"a")
    assert settled(tzinfo=unhashable).key == settled(tzinfo=unhashable).key
    assert settled(tzinfo=unhashable).key != settled(tzinfo=bytearray(b"a")).key


def test_a_callers_selector_is_asked_too() -> None:
    """The selector that notices a fork hands on to the caller's own, and changes nothing by itself."""
    assert guarded(None)([1, 2]) == [1, 2]
    assert guarded(lambda servers: servers[:1])([1, 2]) == [1]
