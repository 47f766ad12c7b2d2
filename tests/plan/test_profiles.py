"""Profiles: every number is one that the driver takes, and has a reason that is true of it."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, fields, replace
from pathlib import Path
from typing import Any

import pytest
from pymongo import MongoClient
from pymongo.common import validate

from mongopatterns import Profile, UsageError

PROFILES = [Profile.WEB, Profile.WORKER, Profile.SERVERLESS, Profile.ANALYTICS, Profile.TEST]


@pytest.mark.parametrize("profile", PROFILES, ids=lambda profile: profile.name)
def test_the_driver_takes_every_option(profile: Profile) -> None:
    """The driver knows each option, takes its value, and a client has it."""
    options = profile.options()
    for option, value in options.items():
        validate(option, value)
    with MongoClient("mongodb://localhost", connect=False, **options) as client:
        pool = client.options.pool_options
        assert pool.max_pool_size == profile.maxPoolSize
        assert pool.min_pool_size == profile.minPoolSize
        assert pool.max_connecting == profile.maxConnecting
        assert pool.max_idle_time_seconds == profile.maxIdleTimeMS / 1000
        assert pool.wait_queue_timeout == profile.waitQueueTimeoutMS / 1000
        assert (pool.connect_timeout or 0) == profile.connectTimeoutMS / 1000
        assert client.options.timeout == profile.timeoutMS / 1000
        assert client.options.server_selection_timeout == profile.serverSelectionTimeoutMS / 1000
        assert client.options.server_monitoring_mode == profile.serverMonitoringMode
        assert client.options.retry_writes is profile.retryWrites
        assert client.options.retry_reads is profile.retryReads
        assert client.read_preference.mongos_mode == profile.readPreference


@pytest.mark.parametrize("profile", PROFILES, ids=lambda profile: profile.name)
def test_every_number_has_a_reason(profile: Profile) -> None:
    """Each option has a sentence, and what is printed shows all of them."""
    assert set(profile.why) == set(profile.options())
    for option, value in profile.options().items():
        assert profile.why[option].endswith(".")
        assert f"  {option}={value!r}: {profile.why[option]}" in str(profile).splitlines()
    assert "Chosen" not in str(profile)


def test_every_profile_bounds_every_wait() -> None:
    """No call of any profile waits for ever: not for a connection, a server, or an answer."""
    for profile in PROFILES:
        assert 0 < profile.waitQueueTimeoutMS <= profile.timeoutMS <= 600_000
        assert 0 < profile.serverSelectionTimeoutMS <= profile.timeoutMS


def test_only_reports_read_elsewhere_than_from_the_primary() -> None:
    """ANALYTICS prefers secondaries; nobody else may miss what was just written."""
    assert Profile.ANALYTICS.readPreference == "secondaryPreferred"
    assert {each.readPreference for each in PROFILES if each is not Profile.ANALYTICS} == {"primary"}


def test_the_page_has_these_numbers() -> None:
    """The table of docs/client.md is what the profiles say, and options that it leaves out are alike in all."""
    page = (Path(__file__).parents[2] / "docs" / "client.md").read_text()
    rows = {cells[0].strip("` "): [cell.strip() for cell in cells[1:]] for cells in tables(page)}
    assert rows["option"] == ["`WEB`", "`WORKER`", "`SERVERLESS`", "`ANALYTICS`", "`TEST`"]
    for option in Profile.WEB.options():
        values = [str(profile.options()[option]) for profile in PROFILES]
        assert rows.get(option) == values or len(set(values)) == 1, option


def tables(page: str) -> list[list[str]]:
    """Return the cells of each row of each table."""
    return [line.strip("|").split("|") for line in page.splitlines() if line.startswith("|")]


def test_a_changed_number_loses_its_reason() -> None:
    """A profile that is made of another keeps the reasons of what is the same, and no other."""
    mine = replace(Profile.WEB, name="uploads", timeoutMS=120_000)
    assert mine.why["timeoutMS"] == "Chosen where 'uploads' is defined."
    assert mine.why["maxPoolSize"] == Profile.WEB.why["maxPoolSize"]
    assert str(mine).startswith("uploads\n")
    assert mine != Profile.WEB
    assert replace(mine, name="web", timeoutMS=Profile.WEB.timeoutMS) == Profile.WEB
    assert len({mine, Profile.WEB, replace(Profile.WEB)}) == 2


def test_a_profile_of_ones_own() -> None:
    """One that is made of nothing works, and says that its numbers were chosen."""
    mine = Profile(
        name="mine",
        maxPoolSize=1,
        timeoutMS=1,
        waitQueueTimeoutMS=1,
        connectTimeoutMS=1,
        serverSelectionTimeoutMS=1,
        maxIdleTimeMS=1,
    )
    assert set(mine.why.values()) == {"Chosen where 'mine' is defined."}
    assert set(mine.options()) == {each.name for each in fields(mine)} - {"name", "_reasons"}


def test_a_profile_does_not_change() -> None:
    """It is a value: frozen."""
    with pytest.raises(FrozenInstanceError):
        Profile.WEB.maxPoolSize = 5  # type: ignore[misc]


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("name", ""),
        ("maxPoolSize", 0),
        ("maxPoolSize", True),
        ("minPoolSize", 51),
        ("minPoolSize", -1),
        ("maxConnecting", 0),
        ("timeoutMS", None),
        ("timeoutMS", 1.5),
        ("waitQueueTimeoutMS", 0),
        ("connectTimeoutMS", -1),
        ("maxIdleTimeMS", 10**9),
        ("readPreference", "fastest"),
        ("serverMonitoringMode", "auto"),
        ("retryWrites", "yes"),
    ],
)
def test_what_cannot_work_is_refused(argument: str, value: Any) -> None:
    """A profile is checked when it is made, and the option at fault is named."""
    with pytest.raises(UsageError) as caught:
        replace(Profile.WEB, **{argument: value})
    assert caught.value.argument == argument
