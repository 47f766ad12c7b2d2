"""How large pools may be: never more than fits, never less than could be, and what would make it fit."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mongopatterns import PoolBudget, PoolPlan, Profile, Tier, UsageError

MONITORS = {"stream": 2, "poll": 1}

profiles = st.builds(
    replace,
    st.sampled_from([Profile.WEB, Profile.WORKER, Profile.SERVERLESS, Profile.ANALYTICS, Profile.TEST]),
    maxPoolSize=st.integers(1, 300),
    serverMonitoringMode=st.sampled_from(["stream", "poll"]),
)
budgets = st.builds(
    lambda place, **others: PoolBudget(**place, **others),
    st.one_of(
        st.fixed_dictionaries({"tier": st.sampled_from(Tier)}),
        st.fixed_dictionaries({"limit": st.integers(1, 40_000)}),
    ),
    processes=st.integers(1, 3_000),
    pools_per_process=st.integers(1, 5),
    members=st.integers(1, 50),
    monitoring=st.sampled_from([None, "stream", "poll"]),
    reserve=st.none() | st.integers(0, 2_000),
)


def plan_or_none(budget: PoolBudget, profile: Profile) -> PoolPlan | None:
    return None if refusal(budget, profile) else budget.plan(profile)


def refusal(budget: PoolBudget, profile: Profile) -> UsageError | None:
    try:
        budget.plan(profile)
    except UsageError as error:
        return error
    return None


def worst(budget: PoolBudget, size: int, monitoring: str) -> int:
    return budget.processes * budget.pools_per_process * (size + MONITORS[monitoring])


@given(budgets, profiles)
def test_no_plan_exceeds_the_limit_and_none_wastes_it(budget: PoolBudget, profile: Profile) -> None:
    """A plan fits, its reserve left out; one connection more in each pool would not, or nobody asked for it."""
    plan = plan_or_none(budget, profile)
    if plan is None:
        return
    room = plan.limit - plan.reserve
    assert plan.limit == (budget.tier.connections if budget.tier else budget.limit)
    assert 1 <= plan.max_pool_size <= profile.maxPoolSize
    assert plan.monitoring == (budget.monitoring or profile.serverMonitoringMode)
    assert plan.worst_case_connections == worst(budget, plan.max_pool_size, plan.monitoring) <= room
    larger = worst(budget, plan.max_pool_size + 1, plan.monitoring) <= room
    assert not larger or plan.max_pool_size == profile.maxPoolSize
    assert plan.total_connections == plan.worst_case_connections * budget.members


@given(budgets, profiles)
def test_what_is_refused_does_not_fit(budget: PoolBudget, profile: Profile) -> None:
    """Only what does not fit with pools of one is refused."""
    if plan_or_none(budget, profile) is None:
        least = worst(budget, 1, budget.monitoring or profile.serverMonitoringMode)
        limit = budget.tier.connections if budget.tier else budget.limit or 0
        reserve = max(limit // 10, 10) if budget.reserve is None else budget.reserve
        assert least > limit - reserve


@given(budgets, profiles)
def test_every_lever_makes_it_fit_by_itself(budget: PoolBudget, profile: Profile) -> None:
    """Whatever a refusal names as what would fit, does; and there is always something."""
    refused = refusal(budget, profile)
    if refused is None:
        return
    assert refused.argument == "budget"
    for lever in str(refused).split("What would fit: ")[1].split(", or "):
        number = int(re.findall(r"\d+", lever.replace(",", ""))[-1]) if re.search(r"\d", lever) else 0
        changed: dict[str, Any] = {}
        if "process" in lever and "pools" not in lever:
            changed = {"processes": number}
        elif "pools_per_process" in lever:
            changed = {"pools_per_process": number}
        elif "poll" in lever:
            changed = {"monitoring": "poll"}
        elif "reserve" in lever:
            changed = {"reserve": number}
        elif "tier" in lever:
            changed = {"tier": next(tier for tier in Tier if lever == f"tier {tier.value}")}
        elif "limit" in lever:
            changed = {"limit": number, "tier": None}
        assert changed, lever
        assert replace(budget, **changed).plan(profile), lever


@given(budgets, st.lists(profiles, min_size=1, max_size=5))
def test_clients_of_several_profiles_share_a_budget(budget: PoolBudget, wanted: list[Profile]) -> None:
    """Each client that is planned with its own profile has an equal share at most, so that the sum fits."""
    for profile in wanted:
        if plan := plan_or_none(budget, profile):
            share = (plan.limit - plan.reserve) // (budget.processes * budget.pools_per_process)
            assert plan.max_pool_size + MONITORS[plan.monitoring] <= share


def test_a_plan_says_how_it_was_found() -> None:
    """The lines of a plan hold its numbers, and the whole of it is JSON."""
    plan = PoolBudget(tier=Tier.M0, processes=20).plan(Profile.WEB)
    assert str(plan).splitlines() == [
        "each node of M0 takes 500 connections, of which 50 are left to others",
        "20 processes x 1 client x (a pool of 20 + 2 monitors) = 440 connections to a server at most",
        "maxPoolSize=20: one more each would not fit, and 50 are wanted",
        "look at it when a server has 300 connections (60 %) or 400 connections (80 %)",
    ]
    assert plan.alert_at == {60: 300, 80: 400}
    assert plan.seconds_to_open is None
    assert json.loads(json.dumps(plan.to_dict()))["max_pool_size"] == 20


def test_a_plan_tells_how_long_a_deployment_takes() -> None:
    """M10 and M20 take 15 new connections a second: the time for all of them is told, and that of the monitors."""
    plan = PoolBudget(tier=Tier.M10, processes=200).plan(Profile.WEB)
    assert plan.worst_case_connections == 1200
    assert plan.seconds_to_open == 80.0
    assert plan.why[-1] == (
        "opening all of them takes 80 s (15 new ones a second on each node), of which the monitors take 27 s: "
        "start processes one after the other"
    )


def test_a_refusal_names_what_would_fit() -> None:
    """The message has each way out, computed."""
    with pytest.raises(UsageError) as caught:
        PoolBudget(tier=Tier.M0, processes=180, reserve=20).plan(Profile.WEB)
    assert str(caught.value) == (
        "budget: 180 x 1 clients need 540 connections to each server, and M0 takes 500, 20 of them in reserve. "
        "What would fit: at most 160 processes, or monitoring='poll', or tier M10"
    )


def test_members_make_no_pool_smaller() -> None:
    """Each server has a limit of its own: members change what there is in all, and nothing else."""
    one, five = (PoolBudget(limit=100, processes=4, members=members).plan(Profile.WEB) for members in (1, 5))
    assert replace(five, total_connections=one.total_connections) == one
    assert five.total_connections == 5 * one.total_connections


@pytest.mark.parametrize(
    ("argument", "given"),
    [
        ("tier", {}),
        ("tier", {"tier": Tier.M0, "limit": 5}),
        ("tier", {"tier": "M0"}),
        ("limit", {"limit": 0}),
        ("limit", {"limit": 10.5}),
        ("processes", {"limit": 5, "processes": 0}),
        ("processes", {"limit": 5, "processes": True}),
        ("pools_per_process", {"limit": 5, "pools_per_process": None}),
        ("members", {"limit": 5, "members": -1}),
        ("reserve", {"limit": 5, "reserve": -1}),
        ("monitoring", {"limit": 5, "monitoring": "auto"}),
    ],
)
def test_what_cannot_work_is_refused(argument: str, given: dict[str, Any]) -> None:
    """A budget is checked when it is made, and the argument at fault is named."""
    with pytest.raises(UsageError) as caught:
        PoolBudget(**{"processes": 1, **given})
    assert caught.value.argument == argument


def test_a_plan_needs_a_profile() -> None:
    """A name is no profile."""
    with pytest.raises(UsageError, match=r"profile: expected a Profile such as Profile\.WEB"):
        PoolBudget(limit=50, processes=1).plan("web")  # type: ignore[arg-type]
