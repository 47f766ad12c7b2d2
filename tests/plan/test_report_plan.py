"""How a report is carried out, step by step, without a server: commands, rounds, answers, errors, what is told."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from bson import Timestamp
from pymongo.errors import AutoReconnect, OperationFailure

from mongopatterns import (
    Branch,
    Capped,
    CollectSet,
    Count,
    CountDistinct,
    CountOf,
    DeploymentError,
    Distinct,
    GroupBy,
    Histogram,
    One,
    PageOf,
    Param,
    Percentiles,
    Raw,
    ReportSpec,
    ResultTooLarge,
    Sum,
    SumMap,
    TimeBuckets,
    Top,
    Total,
    Totals,
    UsageError,
)
from mongopatterns.commands import Read
from mongopatterns.reports._report_plan import PASSES, Refused, ReportPlan

UTC = dt.timezone.utc
NOON = dt.datetime(2026, 3, 4, 12, tzinfo=UTC)
N = {"n": Count()}
INSTANT, RUN = "mongopatterns.report.instant", "mongopatterns.report.run"
TIME = Timestamp(5, 1)
STRATEGIES = pytest.mark.parametrize("strategy", ["auto", "facet", "parallel"])

EVERYTHING: dict[str, Any] = {
    "all": Totals(N),
    "by": GroupBy("k", measures=N),
    "top": Top("k", measures=N, sort=[("n", 1)]),
    "days": TimeBuckets("at", measures=N),
    "ranges": Histogram("v", boundaries=[0, 1]),
    "values": Distinct("k"),
    "raw": Raw([{"$limit": 1}]),
    "page": PageOf(sort=[("at", 1)]),
    "exact": PageOf(sort=[("at", 1)], count="exact"),
    "capped": PageOf(sort=[("at", 1)], count=Capped(5)),
    "near": PageOf(sort=[("at", 1)], count="estimated"),
    "facets": Raw([{"$facet": {"a": [{"$limit": 1}]}}]),
}


def plan(strategy: Any = "auto", /, *, source: Any = (), allow_disk_use: Any = None, **branches: Any) -> ReportPlan:
    return ReportPlan(
        ReportSpec("events", branches=branches, source=source), strategy=strategy, allow_disk_use=allow_disk_use
    )


def together(plan_: ReportPlan, **query: Any) -> list[list[str]]:
    """Return the branches of each command."""
    return [sorted(command.branches) for command in told(plan_, **query).commands]


def told(plan_: ReportPlan, indexes: Any = (), **query: Any) -> Any:
    call = plan_.explain(plan_.query(query.pop("filter", None), **query))
    [read] = plan_.again(call, None) or []
    assert (read.method, read.apart) == ("list_indexes", True)
    assert plan_.again(call, [list(indexes)]) is None
    return call.result


class Server:
    """Answer reads: with what is given by the number of the round, or with nothing found."""

    def __init__(self, *errors: tuple[int, Any]) -> None:
        self.errors = dict(errors)
        self.rounds: list[list[Read]] = []

    def answer(self, plan_: ReportPlan, read: Read) -> Any:
        if error := self.errors.get(len(self.rounds) - 1):
            return plan_.refused(read, error)
        if read.method == "command":
            return [{"cursor": {"atClusterTime": TIME, "firstBatch": []}}]
        facets = read.arguments["pipeline"][-1]["$facet"]
        return [{name: [] for name in facets}]

    def run(self, plan_: ReportPlan, **query: Any) -> Any:
        call = plan_.run(plan_.query(query.pop("filter", None), **query))
        answers = None
        while reads := plan_.again(call, answers):
            self.rounds.append(reads)
            answers = [self.answer(plan_, read) for read in reads]
        return call.result

    @property
    def comments(self) -> list[list[str]]:
        return [
            [read.arguments.get("comment") or read.arguments["command"]["comment"] for read in reads]
            for reads in self.rounds
        ]


def failed(code: int) -> OperationFailure:
    return OperationFailure("no", code)


# Which branches travel together --------------------------------------------------------------------------------------


def test_auto_leaves_alone_what_an_index_serves() -> None:
    """Pages and counts that stop early are commands of their own; the rest, each filtered, is dealt to two passes."""
    apart = {
        name: branch if name in ("near", "facets") else replace(branch, where={"x": 1})
        for name, branch in EVERYTHING.items()
    }
    commands = told(plan(**apart)).commands
    alone = [command.branches for command in commands[:-PASSES]]
    assert sorted(alone) == sorted([("page",), ("exact",), ("capped",), ("near",), ("capped",), ("near",), ("facets",)])
    passes = [set(command.branches) for command in commands[-PASSES:]]
    assert set.union(*passes) == {"all", "by", "top", "days", "ranges", "values", "raw", "exact"}
    assert set.intersection(*passes) == set()
    assert min(map(len, passes)) >= 2
    reasons = {command.why for command in commands[:-PASSES]}
    assert reasons == {
        "an index serves a page that is left alone",
        "it stops early where it is left alone",
        "the server knows it of the collection",
        "$facet cannot share a pass",
    }
    assert all(command.why.startswith("one pass for these branches, beside") for command in commands[-PASSES:])


def test_facet_is_one_command_where_one_is_possible() -> None:
    """Everything shares a command, but for what the server takes nowhere within one."""
    branches = {name: branch for name, branch in EVERYTHING.items() if name not in ("facets", "near")}
    assert together(plan("facet", **branches)) == [sorted(branches)]
    commands = told(plan("facet", **EVERYTHING)).commands
    assert [command.branches for command in commands[:-1]] == [("facets",), ("near",)]
    assert set(commands[-1].branches) == EVERYTHING.keys() - {"facets"}
    assert commands[-1].why == "asked for"


def test_parallel_is_a_command_for_each_part() -> None:
    """Every branch is a command, and so is every number of documents behind a page."""
    commands = told(plan("parallel", **EVERYTHING)).commands
    assert sorted(command.branches for command in commands) == sorted(
        (name,) for name in [*EVERYTHING, "exact", "capped", "near"]
    )


@STRATEGIES
def test_one_branch_is_one_plain_command(strategy: str) -> None:
    """A branch that is alone is its own stages behind the filter, in one answer that is one document."""
    [command] = told(plan(strategy, all=Totals(N, where={"b": 2})), filter={"a": 1}).commands
    assert command.branches == ("all",)
    assert command.pipeline == [
        {"$match": {"a": 1}},
        {"$match": {"b": 2}},
        {"$group": {"_id": None, "m0": {"$sum": 1}}},
        {"$project": {"_id": 0, "n": "$m0"}},
        {"$facet": {"rows": [{"$match": {}}]}},
    ]


def test_passes_are_of_about_equal_weight() -> None:
    """The heaviest branches are dealt first, so that no pass takes much longer than the other."""
    where = {"x": 1}
    light = {f"light{n}": Totals(N, where=where) for n in range(4)}
    heavy = {f"heavy{n}": Totals({f"m{m}": Sum("v") for m in range(10)}, where=where) for n in range(2)}
    first, second = together(plan(**light, **heavy))
    assert [len([name for name in each if name.startswith("heavy")]) for each in (first, second)] == [1, 1]
    assert [len(each) for each in (first, second)] == [3, 3]
    assert together(plan(one=Totals(N, where=where), two=Totals(N, where=where))) == [["one"], ["two"]]


def test_a_session_reads_in_one_pass() -> None:
    """Within a session two passes could not be under way together: all share one."""
    plan_ = plan(one=Totals(N), two=Totals(N), page=PageOf(sort=[("a", 1)]))
    server = Server()
    server.run(plan_, session=object())
    assert [len(reads) for reads in server.rounds] == [1, 1]


def test_a_map_of_sums_is_a_part_of_its_own() -> None:
    """What cannot be an accumulator is worked out beside its branch, in the same command or in another."""
    branch = GroupBy("k", measures={"n": Count(), "m": SumMap("m"), "o": SumMap("o")})
    assert len(told(plan("parallel", by=branch)).commands) == 3
    [facet] = told(plan("facet", by=branch)).commands
    assert list(facet.pipeline[-1]["$facet"]) == ["p0", "p1", "p2"]


def test_documents_are_grouped_by_short_stretches_where_that_is_quicker() -> None:
    """Dates are asked for their day once for each stretch of time, unless a measure costs more to merge."""
    [once, twice] = (
        [
            next(iter(stage))
            for stage in told(plan(days=TimeBuckets("at", timezone="Europe/Berlin", measures=measures)))
            .commands[0]
            .pipeline
        ]
        for measures in ({"n": CountDistinct("v")}, {"n": Count()})
    )
    assert (once.count("$group"), twice.count("$group")) == (1, 2)


def test_filters_on_what_is_joined_come_late() -> None:
    """What a filter says of a document's own fields is asked before the joins, and the rest after them."""
    joins = [One("users", local="user", foreign="_id", as_="who"), CountOf("f", local="a", foreign="b", as_="c")]
    where = {"a": 1, "who.team": "red", "$or": [{"c": 1}, {"b": 2}], "$and": [{"d": 1}]}
    [command] = told(plan(all=Totals(N, joins=joins, where=where))).commands
    first, *_ = command.pipeline
    late = [stage["$match"] for stage in command.pipeline if "$match" in stage][-1]
    assert first == {"$match": {"a": 1, "$and": [{"d": 1}]}}
    assert late == {"who.team": "red", "$or": [{"c": 1}, {"b": 2}]}


@STRATEGIES
def test_the_source_comes_first(strategy: str) -> None:
    """Stages of one's own stand before the filter of the call, in every command but one that asks of the collection."""
    source = [{"$unwind": "$tags"}]
    for command in told(plan(strategy, source=source, **EVERYTHING), filter={"a": 1}).commands:
        assert command.pipeline[0] == source[0]
        assert {"$match": {"a": 1}} in command.pipeline or "$match" in str(command.pipeline[1])


def test_an_estimate_is_made_where_nothing_filters() -> None:
    """Only of a whole collection, and of no instant, the server knows how many documents there are."""
    page = PageOf(sort=[("a", 1)], count="estimated")
    for options, estimated in (({}, True), ({"filter": {"a": 1}}, False), ({"consistent": True}, False)):
        assert ("$collStats" in str(told(plan(page=page), **options).commands)) is estimated
    assert "$collStats" not in str(told(plan(page=page, source=[{"$unwind": "$a"}])).commands)
    filtered = PageOf(sort=[("a", 1)], count="estimated", where={"a": 1})
    assert "$collStats" not in str(told(plan(page=filtered)).commands)


@pytest.mark.parametrize("allowed", [None, True, False])
def test_options_of_the_commands(allowed: Any) -> None:
    """Every read carries its comment and compares plainly; whether it may use the disk is said if it was said."""
    server = Server()
    server.run(plan(allow_disk_use=allowed, **EVERYTHING))
    for read in server.rounds[0]:
        assert read.method == "aggregate"
        assert read.arguments["comment"] == RUN
        assert read.arguments["collation"] == {"locale": "simple"}
        assert read.arguments.get("allowDiskUse") is allowed


# Rounds and answers --------------------------------------------------------------------------------------------------


@STRATEGIES
def test_a_report_is_one_round(strategy: str) -> None:
    """All commands are under way together, each with one document for an answer; nothing found is told as nothing."""
    server = Server()
    result = server.run(plan(strategy, **EVERYTHING))
    assert len(server.rounds) == 1
    assert all(read.at is None for read in server.rounds[0])
    assert list(result) == list(EVERYTHING)
    assert result["all"] == {"n": 0}
    assert result["ranges"] == [{"low": 0, "high": 1, "n": 0}]
    assert result["exact"].total == result["capped"].total == Total(0, "exact")
    assert result["near"].total == Total(0, "about")
    assert result["page"].total is None


@STRATEGIES
def test_an_instant_is_asked_for_first(strategy: str) -> None:
    """One round more asks for a time, and all reads of the next are at it."""
    server = Server()
    server.run(plan(strategy, **EVERYTHING), consistent=True)
    assert server.comments[0] == [INSTANT]
    assert len(server.rounds) == 2
    assert {read.at for read in server.rounds[1]} == {TIME}
    [read] = server.rounds[0]
    assert read.arguments["command"]["readConcern"] == {"level": "snapshot"}


def test_an_instant_is_asked_for_twice_at_most() -> None:
    """A lost connection is repaired once; twice, it is the driver's error."""
    lost = AutoReconnect("lost")
    server = Server((0, lost))
    server.run(plan(all=Totals(N)), consistent=True)
    assert server.comments == [[INSTANT], [INSTANT], [RUN]]
    server = Server((0, lost), (1, lost))
    with pytest.raises(AutoReconnect):
        server.run(plan(all=Totals(N)), consistent=True)


def test_a_snapshot_that_is_gone_is_taken_anew_once() -> None:
    """Everything is read at a new time; if that is gone, too, the server's error is told."""
    server = Server((1, failed(246)))
    server.run(plan("facet", all=Totals(N), by=GroupBy("k", measures=N)), consistent=True)
    assert server.comments == [[INSTANT], [RUN], [INSTANT], [RUN]]
    server = Server((1, failed(246)), (3, failed(246)))
    with pytest.raises(OperationFailure) as caught:
        server.run(plan("facet", all=Totals(N)), consistent=True)
    assert caught.value.code == 246


def test_a_connection_that_is_lost_on_the_way_is_an_error() -> None:
    """The driver has repeated such a read already."""
    server = Server((0, AutoReconnect("lost")))
    with pytest.raises(AutoReconnect):
        server.run(plan(all=Totals(N)))
    assert len(server.rounds) == 1


@pytest.mark.parametrize("code", [146, 292, 10334, 4031700])
def test_what_was_too_large_together_is_asked_for_apart(code: int) -> None:
    """The parts of a command that was refused are sent one by one, all together, and then told as ever."""
    server = Server((0, failed(code)))
    branches = {name: Totals(N) for name in "abc"}
    result = server.run(plan("facet", **branches))
    assert [len(reads) for reads in server.rounds] == [1, 3]
    assert result == {name: {"n": 0} for name in branches}
    server = Server((1, failed(code)))
    server.run(plan("facet", **branches), consistent=True)
    assert server.comments == [[INSTANT], [RUN], [RUN] * 3]
    assert {read.at for reads in server.rounds[1:] for read in reads} == {TIME}


@STRATEGIES
def test_what_is_too_large_by_itself_is_named(strategy: str) -> None:
    """The error has the name of the branch and what to do, and the driver's error as its cause."""
    error = failed(10334)
    server = Server((0, error), (1, error))
    with pytest.raises(ResultTooLarge, match=r"branch 'big': .*narrow the filter, give it a limit") as caught:
        server.run(plan(strategy, big=Raw([{"$match": {}}])))
    assert caught.value.branch == "big"
    assert caught.value.__cause__ is error


def test_a_session_sends_one_command_after_the_other() -> None:
    """No two commands of a session are under way together, in the first try and in the second."""
    server = Server((0, failed(10334)))
    server.run(plan("facet", a=Totals(N), b=Totals(N), c=Totals(N)), session=object())
    assert [len(reads) for reads in server.rounds] == [1, 1, 1, 1]
    with pytest.raises(UsageError, match=r"^session: "):
        plan(a=Totals(N)).query(None, consistent=True, session=object())


@pytest.mark.parametrize(
    ("code", "raised", "match"),
    [
        (123, DeploymentError, "replica set"),
        (15952, DeploymentError, r"branch 'slow': .*7\.0"),
        (13, OperationFailure, "no"),
        (2, OperationFailure, "no"),
    ],
)
def test_errors_of_the_server(code: int, raised: Any, match: str) -> None:
    """A server that cannot do it is said to be that; what it says else is told as it is."""
    plan_ = plan(all=Totals(N), slow=Percentiles("v"))
    error = failed(code)
    with pytest.raises(raised, match=match) as caught:
        plan_.refused(Read("events", "aggregate", {}), error)
    assert caught.value is error or caught.value.__cause__ is error


def test_an_operator_that_is_unknown_is_told_as_it_is() -> None:
    """Without percentiles in the report, an unknown operator is the caller's own."""
    with pytest.raises(OperationFailure):
        plan(all=Totals(N)).refused(Read("events", "aggregate", {}), failed(15952))


@pytest.mark.parametrize("code", [13, 26, 166, 8000])
def test_who_may_not_ask_of_indexes_is_told_of_none(code: int) -> None:
    """Explain goes on without what it may not ask for."""
    plan_ = plan(all=Totals(N))
    call = plan_.explain(plan_.query({"a": 1}))
    [read] = plan_.again(call, None) or []
    refused = plan_.refused(read, failed(code))
    assert isinstance(refused, Refused)
    assert plan_.again(call, [refused]) is None
    assert call.result.findings == ()
    assert len(call.result.commands) == 1


def test_indexes_that_are_missing() -> None:
    """The filter and the order of pages are looked for in the indexes, once each; without either nothing is missing."""
    on_id = {"name": "_id_", "key": {"_id": 1}}
    branches: dict[str, Any] = {"all": Totals(N), "by": GroupBy("k", measures=N)}

    def found(indexes: list[Any], filter_: Any, **more: Any) -> list[str]:
        return [
            str(each.remedy)
            for each in told(
                plan(**branches, **more), [on_id, *({"name": "i", **index} for index in indexes)], filter=filter_
            ).findings
        ]

    assert found([], {}) == found([], {"_id": 5}) == found([], {"_id": {"$gt": 5}, "a": 1}) == []
    assert found([], {"a": 1}) == ["Create Index('a')"]
    assert found([], {"a": {"$gt": 1}, "b": 2, "$and": [{"c": 3}]}) == ["Create Index('b', 'c', 'a')"]
    assert found([], {"a": {"$ne": 1}, "$or": [{"b": 1}], "c": {"$exists": True}}) == []
    for name in ("a", "b"):
        assert found([{"key": {name: 1, "x": 1}}], {"a": {"$gt": 1}, "b": 2}) == []
    for odd in ({"hidden": True}, {"sparse": True}, {"partialFilterExpression": {"x": 1}}):
        assert found([{"key": {"a": 1}, **odd}], {"a": 1}) == ["Create Index('a')"]
    assert found([{"key": {"x": 1, "a": 1}}], {"a": 1}) == ["Create Index('a')"]
    page = {"page": PageOf(sort=[("at", -1)])}
    assert len(found([], {}, **page)) == 1
    assert found([{"key": {"at": -1, "_id": -1}}], {}, **page) == []


# What is told --------------------------------------------------------------------------------------------------------


def answered(branch: Any, rows: list[Any], *more: list[Any], filter_: Any = None) -> Any:
    """Return what is told of a branch, given the rows of each of its parts."""
    plan_ = plan("parallel", b=branch)
    call = plan_.run(plan_.query(filter_))
    reads = plan_.again(call, None) or []
    assert len(reads) == 1 + len(more)
    assert plan_.again(call, [[{"rows": each}] for each in (rows, *more)]) is None
    return call.result["b"]


def test_rows_of_ranges_stand_for_their_places() -> None:
    """The server names a range by its number; all ranges are told, in order, with their bounds."""
    rows = [{"low": 1, "n": 5}, {"low": -1, "n": 2}]
    bounds = {"boundaries": [0, 5, 10]}
    assert answered(Histogram("v", **bounds, outside=True), rows) == [
        {"low": None, "high": 0, "n": 2},
        {"low": 0, "high": 5, "n": 0},
        {"low": 5, "high": 10, "n": 5},
        {"low": 10, "high": None, "n": 0},
    ]
    assert [row["n"] for row in answered(Histogram("v", **bounds), rows[:1])] == [0, 5]


def test_parts_are_put_together_by_keys_as_the_server_compares_them() -> None:
    """A map of sums is put beside the row of its key: 1.0 is 1, True is not, and None is a key."""
    branch = GroupBy("k", measures={"m": SumMap("m"), "n": Count()})
    rows = [{"key": key, "n": n} for n, key in enumerate([None, 1, True, {"a": 1}, [1]])]
    sums = [
        {"key": key, "value": [{"k": name, "v": 1}]}
        for key, name in ((True, "t"), (1.0, "f"), ({"a": 1.0}, "d"), ([1.0], "l"))
    ]
    told_ = answered(branch, rows, sums)
    assert [(row["key"], list(row["m"])) for row in told_] == [
        (None, []),
        (1, ["f"]),
        (True, ["t"]),
        ({"a": 1}, ["d"]),
        ([1], ["l"]),
    ]
    assert [list(row) for row in told_] == [["key", "m", "n"]] * 5


def test_series_are_filled_to_the_bounds_of_the_filter() -> None:
    """Buckets without documents have what is told of none; the filter of the call says from when until when."""
    branch = TimeBuckets("at", measures={"n": Count(), "s": CollectSet("v")})
    day = dt.datetime(2026, 3, 4, tzinfo=UTC)
    rows = [{"bucket": day, "n": 2, "s": [2, 1]}]
    bounds = {"at": {"$gte": NOON - dt.timedelta(days=1), "$lt": NOON + dt.timedelta(days=1)}}
    told_ = answered(branch, rows, filter_=bounds)
    assert [(row["bucket"].day, row["n"], row["s"]) for row in told_] == [(3, 0, []), (4, 2, [1, 2]), (5, 0, [])]
    told_[0]["s"].append(1)
    assert told_[2]["s"] == []  # (rows share nothing)
    assert len(answered(branch, rows)) == 1
    assert answered(TimeBuckets("at", measures=N, fill=False), [], filter_=bounds) == []


LARGE: list[tuple[Any, list[Any], str]] = [
    (Totals({"s": CollectSet("v", limit=2)}), [[{"s": 3}]], "branch 'b': 's': 3 different"),
    (
        GroupBy("k", measures={"s": CollectSet("v", limit=2)}),
        [[{"key": "x", "s": 3}]],
        "branch 'b': 's' in the row 'x': 3",
    ),
    (
        GroupBy("k", measures={"m": SumMap("v", limit=2)}),
        [[{"key": "x"}], [{"key": "x", "value": 3}]],
        "branch 'b': 'm' in the row 'x': 3 names",
    ),
    (Distinct("v", limit=2), [[{"_id": n} for n in range(3)]], "branch 'b': 'v' has more than limit=2"),
    (
        TimeBuckets("at", unit="hour", measures=N),
        [[{"bucket": NOON.replace(year=year), "n": 1} for year in (2000, 2026)]],
        "branch 'b': more than 50,000 buckets of hours",
    ),
]


@pytest.mark.parametrize(("branch", "answers", "match"), LARGE, ids=lambda each: type(each).__name__)
def test_what_holds_too_much_is_named(branch: Any, answers: list[Any], match: str) -> None:
    """Too many values are an error with the branch, the measure and the row: nothing is cut off in silence."""
    with pytest.raises(ResultTooLarge, match=match) as caught:
        answered(branch, *answers)
    assert caught.value.branch == "b"
    assert caught.value.__cause__ is None


def test_a_kind_of_branch_that_nobody_knows_is_an_error() -> None:
    """A branch of a kind of the caller's own says nothing to the server, and is not taken for another."""

    class Mine(Branch):
        """A branch that asks for nothing."""

    with pytest.raises(TypeError, match=r"^no branch: .*Mine"):
        Server().run(plan(all=Totals(N), mine=Mine()))


def test_percentiles_are_told_by_their_names() -> None:
    """A row of percentiles has their names; of no numbers, None; the server is asked for them approximately."""
    branch = Percentiles("v", p=(0.5, 0.999))
    assert answered(branch, [{"p": [1.5, float("nan")]}]) == {"p50": 1.5, "p99.9": None}
    assert answered(branch, [{"p": None}]) == answered(branch, []) == {"p50": None, "p99.9": None}
    [command] = told(plan(p=branch)).commands
    asked = {"$percentile": {"input": "$v", "p": [0.5, 0.999], "method": "approximate"}}
    assert {"$group": {"_id": None, "p": asked}} in command.pipeline


def test_an_error_of_the_filter_is_not_blamed_on_a_page() -> None:
    """Of a page, a cursor is named with its branch; what is wrong with the filter is wrong for all branches."""
    plan_ = plan(page=PageOf(sort=[("at", 1)]))
    with pytest.raises(UsageError, match=r"page") as caught:
        plan_.query(None, cursors={"page": "no cursor"})
    assert caught.value.argument != "filter"
    with pytest.raises(UsageError, match=r"^filter: cannot be sent: ") as caught:
        plan_.query({"x": object()})
    assert caught.value.argument == "filter"


def test_params_are_bound_before_anything_is_sent() -> None:
    """A value that cannot be compared as it is asked to is refused with the query."""
    plan_ = plan(a=Totals(N, where={"x": {"$in": Param("list")}}))
    for wrong in ("text", 5, None, object()):
        with pytest.raises(UsageError, match=r"^params: "):
            plan_.query(None, params={"list": wrong})
    make: Callable[..., Any] = plan(a=Totals({"n": Count(where={"x": {"$gt": Param("least")}})})).query
    assert make(None, params={"least": 5}).params == {"least": 5}
