"""The arithmetic of the benchmarks, and the words that are made of it: no clock, no server."""

from __future__ import annotations

import importlib
import json
import re
from dataclasses import replace
from itertools import chain
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MACHINE = {
    "cores": 2,
    "system": "X",
    "python": "3",
    "pymongo": "4",
    "mongodb": "6",
    "deployment": "a set",
    "limits": "5",
    "motor": "3",
    "beanie": "2",
}

with pytest.MonkeyPatch.context() as patch:
    patch.syspath_prepend(str(ROOT))
    ratios = importlib.import_module("benchmarks._ratios")
    rows = importlib.import_module("benchmarks._rows")
    page = importlib.import_module("benchmarks._page")
    main = importlib.import_module("benchmarks.__main__")


def measured(*pairs: tuple[float, float]):
    """Make a measurement of times."""
    return ratios.Measurement(tuple(ratios.Pair(*pair) for pair in pairs))


def result(measurement, target=None):
    return rows.Result("Counter.add", "by hand", "sync, 1 caller", measurement, target)


def test_turns_alternate_and_their_order_is_swapped_each_round() -> None:
    """Ours comes first in one round and second in the next."""
    assert list(chain(*ratios.schedule(3))) == ["ours", "theirs", "theirs", "ours", "ours", "theirs"]


def test_the_warm_up_is_run_and_does_not_count() -> None:
    """Warm-up rounds come first, in the same turns, and leave no ratio."""
    turns = []

    def seconds(name):
        turns.append(name)
        return float(len(turns))

    measurement = ratios.alternate(seconds, rounds=2, warm_up=1)
    assert turns == ["ours", "theirs", "theirs", "ours", "ours", "theirs"]
    assert measurement.pairs == (ratios.Pair(ours=4, theirs=3), ratios.Pair(ours=5, theirs=6))


def test_a_ratio_belongs_to_one_round() -> None:
    """The median is taken of each round's ratio: a machine that slows down for both sides changes nothing."""
    measurement = measured((1, 1), (20, 10), (300, 100))
    assert measurement.ratios == [1, 2, 3]
    assert measurement.ratio == 2
    assert (measurement.lowest, measurement.highest) == (1, 3)
    assert measurement.middle_half == (1.5, 2.5)
    assert (measurement.ours, measurement.theirs) == (20, 10)


def test_the_median_of_an_even_number_of_rounds_lies_between_the_middle_two() -> None:
    """Four rounds have no middle one."""
    assert measured((1, 1), (2, 1), (4, 1), (9, 1)).ratio == 3


def test_one_wild_round_does_not_move_the_verdict() -> None:
    """A median, unlike a mean, does not follow one round in which something else had the machine."""
    measurement = measured((1.0, 1), (1.1, 1), (50, 1))
    assert ratios.AtMost(1.25).met(measurement)
    assert measurement.highest == 50


@pytest.mark.parametrize(("ratio", "met"), [(1.25, True), (1.2501, False), (0.5, True)])
def test_a_ratio_target_is_met_up_to_its_number(ratio: float, met: bool) -> None:
    """The number itself is still met."""
    target = ratios.AtMost(1.25)
    assert target.met(measured((ratio, 1))) is met
    assert str(target) == "<= 1.25"


@pytest.mark.parametrize(("theirs", "met"), [(12, True), (11.99, False), (40, True)])
def test_a_target_of_times_is_met_from_its_number_on(theirs: float, met: bool) -> None:
    """Twelve times as fast is a ratio of a twelfth, or less."""
    target = ratios.AtLeastTimes(12)
    assert target.met(measured((1, theirs))) is met
    assert str(target) == ">= 12x"


@pytest.mark.parametrize(("ours", "met"), [(0.360, True), (0.361, False), (0.1, True)])
def test_a_difference_target_looks_at_the_median_difference(ours: float, met: bool) -> None:
    """Milliseconds more are judged round by round, whatever the ratio is."""
    target = ratios.AtMostMore(60.5)
    assert target.met(measured((ours, 0.3), (9, 0.3), (0.1, 0.3))) is met
    assert str(target) == "<= 60.5 ms more"


def test_a_record_holds_every_figure_beside_its_ratio() -> None:
    """JSON has the ratio, its spread, all ratios, both times, the target and the verdict."""
    record = page.record(result(measured((0.003, 0.002), (0.002, 0.002)), ratios.AtMost(1.25)))
    assert json.loads(json.dumps(record)) == {
        "name": "Counter.add",
        "against": "by hand",
        "where": "sync, 1 caller",
        "ratio": 1.25,
        "middle_half": [1.125, 1.375],
        "lowest": 1.0,
        "highest": 1.5,
        "seconds_per_call": {"ours": 0.0025, "theirs": 0.002},
        "extra_seconds": 0.0005,
        "target": "<= 1.25",
        "met": True,
        "ratios": [1.5, 1.0],
    }


def test_a_comparison_without_a_target_has_no_verdict() -> None:
    """A naive peer is there for the ratio alone."""
    record = page.record(result(measured((1, 2), (1, 2))))
    assert (record["target"], record["met"]) == (None, None)
    assert page.table([record]).splitlines()[-1].endswith("1000.00 / 2000.00")


def test_the_table_has_a_line_per_record_in_even_columns() -> None:
    """Every column begins at the same place in all lines."""
    records = [page.record(result(measured(*[(ours, 1)] * 2), ratios.AtMost(1.25))) for ours in (1, 20)]
    header, _, *lines = page.table(records).splitlines()
    assert [line.split()[-2:] for line in lines] == [["1.25", "met"], ["not", "met"]]
    assert {line.index("sync, 1 caller") for line in lines} == {header.index("Driver")}


def test_a_ratio_of_a_half_or_less_is_told_as_times_too() -> None:
    """Beside 0.071 stands how many times as fast that is, and such short times have two decimals more."""
    record = page.record(result(measured(*[(0.00002, 0.00028)] * 2), ratios.AtLeastTimes(12)))
    *_, line = page.table([record]).splitlines()
    assert "  0.071 (14.0x)  " in line
    assert re.split(r"  +", line)[-3:] == ["0.0200 / 0.2800", ">= 12x", "met"]
    assert "x)" not in page.table([page.record(result(measured(*[(0.51, 1)] * 2)))])


def test_sizes_have_a_table_of_their_own() -> None:
    """Bytes are no ratio: they are recorded, set apart below the ratios, and judged by what they stay under."""
    sizes = [
        page.record(rows.Size("Quota", "the state", "3 calls", *size)) for size in ((399, 400), (400, 400), (9, None))
    ]
    assert sizes[0] == {
        "name": "Quota",
        "against": "the state",
        "where": "3 calls",
        "bytes": 399,
        "target": "< 400",
        "met": True,
    }
    ratio = page.record(result(measured((1, 1), (1, 1))))
    first, second = page.table([sizes[0], ratio, *sizes[1:]]).split("\n\n")
    assert len(first.splitlines()) == 3
    header, _, *lines = (re.split(r"  +", line) for line in second.splitlines())
    assert header == ["What", "Of it", "After", "Bytes", "Target"]
    assert [line[3:] for line in lines] == [["399", "< 400", "met"], ["400", "< 400", "not met"], ["9"]]


def test_shares_of_the_time_have_a_table_of_their_own() -> None:
    """They are recorded by owner, judged by nothing, and told in per cent."""
    record = page.record(rows.Shares("Counter.add", "sync, 1 caller", {"ours": 0.254, "driver": 0.746}))
    assert json.loads(json.dumps(record))["shares"] == {"ours": 0.254, "driver": 0.746}
    header, _, line = (re.split(r"  +", line) for line in page.table([record]).splitlines())
    assert header == ["What", "Driver", "ours", "driver"]
    assert line == ["Counter.add", "sync, 1 caller", "25%", "75%"]


@pytest.mark.parametrize(
    ("file", "function", "owner"),
    [
        ("/x/site-packages/mongopatterns/counters/_quota_plan.py", "consume", "mongopatterns"),
        ("/x/src/mongopatterns/_driver.py", "deadline", "mongopatterns"),
        ("/x/site-packages/pymongo/message.py", "_op_msg", "driver"),
        ("/x/site-packages/bson/__init__.py", "encode", "driver"),
        ("~", "<built-in method bson._cbson._bson_to_dict>", "driver"),
        ("~", "<method 'poll' of 'select.epoll' objects>", "waiting"),
        ("/usr/lib/python3/asyncio/base_events.py", "_run_once", "rest"),
    ],
)
def test_time_is_put_down_to_whose_code_it_is(file: str, function: str, owner: str) -> None:
    """By the file of a function, or by its name if it is built in."""
    assert main.hot_paths.owner(file, function) == owner


def test_what_grows_is_drawn(tmp_path: Path) -> None:
    """A picture for each thing of which there is more and more, the same each time, named on the page."""
    lines = [
        page.record(replace(result(measured(*[(1, times)] * 2)), name=name, at=(thing, number)))
        for thing, name in (("callers", "Counter.add"), ("rows", "Join.find"), ("rows", "Pager.page"))
        for number, times in ((1, 1), (64, 12))
    ]
    free = page.record(result(measured((1, 1), (1, 1))))
    first, second = tmp_path / "a", tmp_path / "b"
    for directory in (first, second):
        directory.mkdir()
        main._pictures.draw([*lines, free], directory)
    assert {path.name for path in first.iterdir()} == {"growth-callers.svg", "growth-rows.svg"}
    for path in first.iterdir():
        assert path.read_bytes() == (second / path.name).read_bytes()
        assert path.read_text(encoding="utf-8").startswith("<?xml")
    pattern = {"title": "T", "about": "A", "source": "S", "results": lines}
    text = page.page({"machine": MACHINE, "patterns": [pattern]})
    assert re.findall(r"\(assets/(.*)\)", text) == ["growth-callers.svg", "growth-rows.svg"]
    main._pictures.draw([free], tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


def test_the_page_counts_the_targets_and_names_those_that_are_missed() -> None:
    """Met and not met are computed from the records, and comparisons without a target count for neither."""
    judged = [page.record(result(measured(*[(ours, 1)] * 2), ratios.AtMost(1.25))) for ours in (1, 2)]
    free = page.record(result(measured((1, 1), (1, 1))))
    heavy = page.record(rows.Size("Quota", "the state", "a call", 500, 400))
    pattern = {"title": "T", "about": "A", "source": "S", "results": [*judged, free, heavy]}
    text = page.page({"machine": MACHINE, "rounds": 2, "patterns": [pattern]})
    assert (
        "**1 of 3 targets are met.** Not met: Counter.add (by hand; sync, 1 caller): 2.000; "
        "Quota (the state; a call): 500 bytes." in text
    )
    assert "Measured with 2 cores, X, Python 3, PyMongo 4, MongoDB 6, a set; limits 5 on Motor 3; Beanie 2." in text
    assert "This page is generated" in text


def test_the_page_tells_how_many_rounds_there_were() -> None:
    """The number comes from the records; where some comparisons had fewer, the page says that, too."""
    few, many = (page.record(result(measured(*[(1, 1)] * count))) for count in (3, 7))
    pattern = {"title": "T", "about": "A", "source": "S", "results": [many]}
    assert "median of\n7 rounds, the two" in page.page({"machine": MACHINE, "patterns": [pattern]})
    pattern["results"].append(few)
    assert "median of\n7 rounds (with many callers: of fewer and longer ones, down to 3), the two" in page.page(
        {"machine": MACHINE, "patterns": [pattern]}
    )


def test_a_longer_turn_comes_less_often() -> None:
    """The time that a comparison takes stays about the same, and there is always more than one round."""
    effort = rows.Effort(rounds=40, warm_up=4, turn=0.1)
    longer = effort.of(4)
    assert (longer.rounds, longer.warm_up, longer.turn) == (10, 1, 0.4)
    assert (rows.QUICK.of(4).rounds, rows.QUICK.of(4).warm_up) == (2, 1)
    assert effort.of(1) == effort


def test_the_committed_page_is_made_of_the_committed_results() -> None:
    """Nobody edited the page, or the results, without the other."""
    results = json.loads(main.RESULTS.read_text(encoding="utf-8"))
    assert main.PAGE.read_text(encoding="utf-8") == page.page(results)
