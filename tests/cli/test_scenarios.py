"""What the scenarios compute in memory: the right answers that everything is compared with."""

from __future__ import annotations

import datetime as dt
import importlib
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from mongopatterns.cli import scenarios
from mongopatterns.cli._demo import Options
from mongopatterns.cli._rows import Row, read_rows
from mongopatterns.cli.scenarios import (
    Outcome,
    _schedule,
    departures_async,
    hot_key_async,
    rollover_async,
    runway_async,
    seats_async,
)

if TYPE_CHECKING:
    from .conftest import CrewsReplayed

Slots = Counter[tuple[str, str]]
Departures = Counter[tuple[str, dt.datetime]]
FAULTS = "charged twice", "idle hours as one", "rolled late"
FLIGHTS = read_rows(Options().rows).flights


def replayed(flights: list[Row], limits: dict[str, int]) -> tuple[Slots, Counter[tuple[str, ...]]]:
    """Grant one flight after the other while all three windows have room: what a right quota tells.

    Also counts which windows had none, for each flight that was refused.
    """
    used: Slots = Counter()
    told: Slots = Counter()
    refused_by: Counter[tuple[str, ...]] = Counter()
    for now, group in _schedule.hours(flights):
        starts = _schedule.windows(now)
        for flight in group:
            keys = {window: (flight["origin"], start) for window, start in starts.items()}
            full = tuple(window for window, key in keys.items() if used[key] >= limits[window])
            if full:
                refused_by[full] += 1
            else:
                used.update(keys.values())
                told[keys["hour"]] += 1
    return told, refused_by


@pytest.mark.parametrize("name", scenarios.names())
def test_every_scenario_has_its_twin_and_says_what_it_does(name: str) -> None:
    """Both sides of a scenario have a title and three versions, each with a line of its own for the reader."""
    for asynchronous in (True, False):
        scenario = scenarios.find(name, asynchronous=asynchronous)
        assert scenario.title
        assert all(getattr(scenario, version).__doc__ for version in scenarios.VERSIONS)


def test_the_registry_lists_every_file_that_is_a_scenario() -> None:
    """A file `NAME_async.py` is all it takes."""
    files = {path.name for path in Path(scenarios.__file__).parent.glob("[!_]*.py")}
    assert files == {f"{name}_{side}.py" for name in scenarios.names() for side in ("async", "sync")}
    known = {"board", "delays", "departures", "events", "hot_key", "rollover", "runway", "seats", "startup"}
    assert known <= set(scenarios.names())


@pytest.mark.parametrize(
    "outcome",
    [
        Outcome(should=3, stored=2),
        Outcome(should=3, stored=3, lost=1, doubled=1),
        Outcome(should=3, stored=3, oversold=1, wrongly_refused=1),
    ],
)
def test_faults_that_cancel_out_are_faults(outcome: Outcome) -> None:
    """An outcome is exact only if nothing at all went wrong."""
    assert not outcome.exact
    assert Outcome(should=3, stored=3).exact


def test_cancelled_flights_do_not_depart() -> None:
    """A flight without a departure time adds to no counter."""
    departed = departures_async.departed(FLIGHTS)
    assert len(departed) == sum(flight["dep_time"] is not None for flight in FLIGHTS) < len(FLIGHTS)


def test_each_of_the_three_limits_refuses_somebody_with_the_default_rows() -> None:
    """The scenario shows what it says: of each window there are flights that it alone refuses."""
    limits = runway_async.limits_for(FLIGHTS)
    refused_by = replayed(FLIGHTS, limits)[1]
    assert all(refused_by[(window,)] >= 10 for window in ("hour", "day", "month")), refused_by
    assert all(f"{limit:,} " in runway_async.caption(FLIGHTS) for limit in limits.values())


@pytest.mark.parametrize("rows", [1, 2, 10, 60, 300])
def test_the_limits_shrink_with_the_rows_and_admit_somebody(rows: int) -> None:
    """However few flights there are, each limit is at least one and the right answer is found."""
    flights = FLIGHTS[:rows]
    limits = runway_async.limits_for(flights)
    assert min(limits.values()) >= 1
    right = runway_async.allowed(runway_async.asked(flights), limits).total()
    assert 1 <= right <= rows


@pytest.mark.parametrize("rows", [1, 10, 60, 300, 1000])
def test_the_right_answer_is_what_one_flight_after_the_other_would_get(rows: int) -> None:
    """Cutting hours, then days, then months gives the same number, and finds no fault in a right replay."""
    flights = FLIGHTS[:rows]
    limits = runway_async.limits_for(flights)
    told, _ = replayed(flights, limits)
    assert runway_async.allowed(runway_async.asked(flights), limits).total() == told.total()
    assert runway_async.allowed(told, limits).total() == told.total()
    assert runway_async.wrongly_refused(flights, limits, told) == 0


def test_what_is_told_too_often_is_oversold_and_what_is_not_told_was_refused() -> None:
    """One slot too many is one oversold; one too few in an hour that had room is one wrongly refused."""
    limits = runway_async.limits_for(FLIGHTS)
    told, _ = replayed(FLIGHTS, limits)
    full = next(key for key, slots in told.items() if slots == limits["hour"])
    more = told + Counter([full])
    assert more.total() - runway_async.allowed(more, limits).total() >= 1
    fewer = told - Counter([full])
    assert runway_async.allowed(fewer, limits).total() == fewer.total()
    assert runway_async.wrongly_refused(FLIGHTS, limits, fewer) >= 1


@pytest.mark.parametrize("rows", [1, 2, 9])
def test_the_limit_of_the_hot_key_is_reached_and_lets_somebody_in(rows: int) -> None:
    """However few ask, the limit is no more than they are, and at least one."""
    assert 1 <= hot_key_async.limit_for(FLIGHTS[:rows]) <= rows


def test_only_the_first_month_is_replayed() -> None:
    """The month's counter is read at the end: it must be the same month throughout."""
    later = [{**flight, "month": 2} for flight in FLIGHTS[:5]]
    hours = _schedule.hours([*FLIGHTS[:20], *later])
    assert sum(len(group) for _, group in hours) == 20


def test_the_twin_computes_the_same() -> None:
    """The generated side has the same right answers."""
    twin = importlib.import_module("mongopatterns.cli.scenarios.runway_sync")
    assert twin.limits_for(FLIGHTS) == runway_async.limits_for(FLIGHTS)
    twin = importlib.import_module("mongopatterns.cli.scenarios.rollover_sync")
    assert twin.limits_for(FLIGHTS) == rollover_async.limits_for(FLIGHTS)
    assert twin.due(FLIGHTS) == rollover_async.due(FLIGHTS)


@pytest.mark.parametrize("rows", [1, 2, 10, 60, 300, 1500])
def test_the_model_of_the_crews_grants_what_one_departure_after_the_other_would_get(
    crews_replayed: CrewsReplayed, rows: int
) -> None:
    """Hour by hour or departure by departure, the rules give the same answer, in which the model finds no fault."""
    flights = FLIGHTS[:rows]
    told = crews_replayed(flights)
    assert told == rollover_async.due(flights)
    assert told == rollover_async.due(flights, told)
    assert 1 <= told.total() <= rows


@pytest.mark.parametrize("fault", FAULTS)
def test_each_of_the_three_faults_alone_goes_wrong_with_the_default_rows(
    crews_replayed: CrewsReplayed, fault: str
) -> None:
    """The scenario shows what it says: the rows have hours, idle ones among them, in which each fault counts."""
    told = crews_replayed(FLIGHTS, {fault})
    right = rollover_async.due(FLIGHTS, told)
    refused, oversold = (right - told).total(), (told - right).total()
    assert refused >= 10
    assert (oversold >= 1) == (fault == "rolled late")


def test_the_hour_the_bank_and_the_day_all_refuse_somebody_and_let_somebody_in(
    crews_replayed: CrewsReplayed,
) -> None:
    """The limits are neither idle nor all there is: some are served by the bank, some refused by hour and by day."""
    wanted, limits = rollover_async.asked(FLIGHTS), rollover_async.limits_for(FLIGHTS)
    due = rollover_async.due(FLIGHTS)
    assert any(due[crew, now] * rollover_async.MINUTES > limits[crew]["hour"] for crew, now in due)
    without_days = {crew: {**limit, "day": 10**6} for crew, limit in limits.items()}
    by_hour = crews_replayed(FLIGHTS, limits=without_days)
    assert wanted.total() - by_hour.total() >= 10
    assert by_hour.total() - due.total() >= 10


def test_what_is_told_without_room_is_oversold_and_charged_all_the_same() -> None:
    """One departure too many is one oversold, and leaves less room for the next ones; one too few is one refused."""
    due = rollover_async.due(FLIGHTS)
    wanted = rollover_async.asked(FLIGHTS)
    full = next(key for key, number in due.items() if 0 < number < wanted[key])
    more, fewer = due + Counter([full]), due - Counter([full])
    assert (more - rollover_async.due(FLIGHTS, more))[full] == 1
    assert (rollover_async.due(FLIGHTS, fewer) - fewer)[full] == 1
    nothing: Departures = Counter()
    assert (rollover_async.due(FLIGHTS, nothing) - nothing).total() >= due.total()


@pytest.mark.parametrize("side", ["async", "sync"])
def test_a_crew_begins_each_window_that_has_ended_anew_and_banks_hours_alone(side: str) -> None:
    """Past midnight hour and day begin anew, the month goes on; what the hour had left goes to its bank."""
    rollover = importlib.import_module(f"{scenarios.__name__}.rollover_{side}")
    evening = dt.datetime(2013, 1, 1, 23, 30, tzinfo=_schedule.NEW_YORK)
    quota = rollover.begun(evening)
    for window in quota.values():
        window["used"] = 20
    rollover.roll(quota, {"hour": 60, "day": 100}, evening)
    assert quota["hour"] == {"start": "2013-01-01T23", "used": 20, "bank": 0}
    rollover.roll(quota, {"hour": 60, "day": 100}, evening + rollover.HOUR)
    assert quota == {
        "hour": {"start": "2013-01-02T00", "used": 0, "bank": 40},
        "day": {"start": "2013-01-02", "used": 0},
        "month": {"start": "2013-01", "used": 20},
    }


@pytest.mark.parametrize("side", ["async", "sync"])
def test_a_flight_without_a_departure_counts_and_has_no_delay(side: str) -> None:
    """The mean of an airline is that of its flights that left; where none did, there is none."""
    delays = importlib.import_module(f"{scenarios.__name__}.delays_{side}")
    now, day = dt.datetime(2013, 1, 1, 12, tzinfo=dt.timezone.utc), dt.date(2013, 1, 1)
    known = [("AA", 10), ("AA", None), ("AA", 20), ("UA", None)]
    flights = [
        {"_id": place, "carrier": carrier, "dep_delay": delay, "time_hour": now}
        for place, (carrier, delay) in enumerate(known)
    ]
    told = delays.figures(flights, [day] * len(flights))
    assert told["carrier", "AA"] == (3, 15)
    assert told["carrier", "UA"] == (1, None)
    assert told["day", day] == 4


@pytest.mark.parametrize("rows", [1, 60, 1500])
def test_more_passengers_than_seats(rows: int) -> None:
    """Each chosen flight has more passengers than seats, some of whom ask twice, and the smallest planes come first."""
    planes = seats_async.small_planes(FLIGHTS[:rows])
    assert planes
    assert [plane["seats"] for plane in planes] == sorted(plane["seats"] for plane in planes)
    for plane in planes:
        asked = Counter(seats_async.tickets(plane))
        assert len(asked) > plane["seats"]
        assert set(asked.values()) == {1, 2}
