"""What a schema plans, from answers of a server that is not there."""

from __future__ import annotations

import json
import pickle
from typing import Any

import pytest
from bson.codec_options import CodecOptions
from bson.decimal128 import Decimal128
from pymongo.errors import OperationFailure

from mongopatterns import (
    CollectionSpec,
    DeploymentError,
    Index,
    LoaderSpec,
    SchemaDrift,
    SchemaPlan,
    SchemaProgress,
    SchemaSpec,
    SearchIndex,
    TimeSeries,
)
from mongopatterns.calls import Call
from mongopatterns.schema._schema_plan import SchemaPlanner
from mongopatterns.schema._steps import Nested, Pause, Send, Tell
from mongopatterns.schema._stored import collation_meaning, filter_meaning, fitted, meaning_of, read_index

ID = {"v": 2, "key": {"_id": 1}, "name": "_id_"}


class Server:
    """Answers what a planner asks, and keeps what it was told to change."""

    def __init__(self, collections: dict[str, Any], indexes: dict[str, Any], wire: int = 17, **answers: Any) -> None:
        self.collections = collections
        self.indexes = indexes
        self.wire = wire
        self.answers = answers
        self.changed: list[dict[str, Any]] = []
        self.rounds: list[int] = []

    def run(self, call: Call[Any]) -> Any:
        answers: Any = None
        while steps := SchemaPlanner.again(call, answers):
            self.rounds.append(len(steps))
            answers = [self.answer(step) for step in steps]
        return call.result

    def answer(self, step: Any) -> Any:
        if isinstance(step, Nested):
            return self.run(step.call())
        if isinstance(step, Tell):
            return step.call(step.progress)
        return None if isinstance(step, Pause) else self.reply(dict(step.command))

    def reply(self, command: dict[str, Any]) -> Any:
        name = next(iter(command))
        if name in self.answers:
            answer = self.answers[name]
            return answer.pop(0) if isinstance(answer, list) else answer
        replies = {
            "hello": {"maxWireVersion": self.wire},
            "listCollections": batch([{"name": name, **options} for name, options in self.collections.items()]),
            "listIndexes": batch(
                [
                    ID,
                    *(index if "spec" in index else {"v": 2, **index} for index in self.indexes.get(command[name], ())),
                ]
            ),
            "count": {"n": 1234},
            "aggregate": batch([] if "$indexStats" in str(command) else [{"number": [], "samples": []}]),
        }
        if name not in replies:
            self.changed.append(command)
        return replies.get(name, {"ok": 1})


def batch(rows: list[Any]) -> dict[str, Any]:
    return {"cursor": {"id": 0, "firstBatch": rows}}


def planner(*specs: Any) -> SchemaPlanner:
    return SchemaPlanner(SchemaSpec(specs), "app", CodecOptions())


def plan(server: Server, *specs: Any) -> SchemaPlan:
    result: SchemaPlan = server.run(planner(*specs).plan(drop_unknown=False, usage=False))
    return result


def kinds(found: SchemaPlan) -> list[str]:
    return [change.kind.value for change in found.changes]


# Meaning ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("index", "listed"),
    [
        (Index("a"), {"key": {"a": 1.0}}),
        (Index("a", unique=True), {"key": {"a": 1}, "unique": True}),
        (Index.ttl("a", after=5), {"key": {"a": 1}, "expireAfterSeconds": 5.0}),
        (
            Index("p", ("b", "text"), ("a", "text"), weights={"a": 5}),
            {
                "key": {"p": 1, "_fts": "text", "_ftsx": 1},
                "weights": {"a": 5, "b": 1},
                "default_language": "english",
                "textIndexVersion": 3,
            },
        ),
        (
            Index("a", collation={"locale": "fr_CA"}),
            {"key": {"a": 1}, "collation": {"locale": "fr_CA", "backwards": True}},
        ),
        (
            Index("a", collation={"locale": "th", "strength": 2}),
            {
                "key": {"a": 1},
                "collation": {"locale": "th", "strength": 2, "alternate": "shifted", "normalization": True},
            },
        ),
        (Index(("a", -1)), {"key": {"a": Decimal128("-1")}}),
        (Index("$**", projection={"a.b": 1}), {"key": {"$**": 1}, "wildcardProjection": {"a": {"b": 1}}}),
        (Index(("a", "2dsphere")), {"key": {"a": "2dsphere"}, "2dsphereIndexVersion": 3, "sparse": True}),
        (Index("$**", projection={"a": 1}), {"key": {"$**": 1}, "wildcardProjection": {"a": True}}),
    ],
)
def test_what_is_listed_is_what_was_said(index: Index, listed: dict[str, Any]) -> None:
    """What the server lists of an index means what the index of the spec means, its own additions left out."""
    assert fitted(read_index({"v": 2, "name": "any", **listed}).meaning, index) == meaning_of(index, None)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, True),
        ({"a": 1}, {"a": {"$eq": 1.0}}, True),
        ({"a": 1}, {"a": True}, False),
        ({"a": {"$gt": 1, "$lt": 2}}, {"$and": [{"a": {"$lt": 2}}, {"a": {"$gt": 1}}]}, True),
        ({"a": {"$in": [1, 2]}}, {"a": {"$in": [2, 1]}}, True),
        ({"$or": [{"a": 1}, {"b": 1}]}, {"$or": [{"b": 1}, {"a": 1}]}, True),
        ({"$or": [{"a": 1}]}, {"$or": [{"b": 1}]}, False),
        ({"a": {"b": 1, "c": 1}}, {"a": {"c": 1, "b": 1}}, False),
        ({"a": {"$exists": 1}}, {"a": {"$exists": True}}, True),
    ],
)
def test_filters_by_meaning(one: Any, other: Any, same: bool) -> None:
    """The order of terms means nothing, the order of a document's fields does."""
    assert (filter_meaning(one) == filter_meaning(other)) is same


def test_collations_by_meaning() -> None:
    """What is not said is the server's default; its version is the server's choice; simple is none."""
    stored = {"locale": "en", "strength": 2, "caseLevel": False, "backwards": False, "version": "57.1"}
    assert collation_meaning({"locale": "en", "strength": 2}) == collation_meaning(stored)
    assert collation_meaning({"locale": "en"}) != collation_meaning(stored)
    assert collation_meaning({"locale": "fr_CA"}) != collation_meaning({"locale": "fr_CA", "backwards": True})
    assert collation_meaning({"locale": "simple"}) is collation_meaning(None) is None


@pytest.mark.parametrize(
    ("stored", "said"),
    [
        ({"locale": "en", "strength": 2}, {"locale": "en"}),
        ({"locale": "en", "caseFirst": "upper"}, {"locale": "en", "caseFirst": "off"}),
        ({"locale": "da"}, {"locale": "en"}),
    ],
)
def test_what_no_locale_has_by_itself_is_another_index(stored: Any, said: Any) -> None:
    """Only what a locale may bring along is left to the server; strength, and whatever is said, tell indexes apart."""
    index = Index("a", collation=said)
    meaning = read_index({"v": 2, "name": "any", "key": {"a": 1}, "collation": stored}).meaning
    assert fitted(meaning, index) != meaning_of(index, None)


def test_two_collations_of_one_locale_are_two_indexes() -> None:
    """Where both are said, each has one of its own: the one that leaves more to the locale takes what is left."""
    plain, upper = Index("a", collation={"locale": "en"}), Index("a", collation={"locale": "en", "caseFirst": "upper"})
    stored = {"key": {"a": 1}, "name": "u", "collation": {"locale": "en", "caseFirst": "upper"}}
    server = Server({"c": {"options": {}}}, {"c": [stored]})
    found = plan(server, CollectionSpec("c", indexes=[plain, upper]))
    assert [(change.kind.value, change.what) for change in found.changes] == [("create index", repr(plain))]
    server.indexes["c"].append({"key": {"a": 1}, "name": "p", "collation": {"locale": "en", "caseFirst": "off"}})
    assert not plan(server, CollectionSpec("c", indexes=[plain, upper]))


def test_the_index_that_newer_servers_make_of_a_time_series_is_no_unknown_one() -> None:
    """A time series has an index by itself on servers from 6.3 on: nobody has to name it."""
    options = {"timeseries": {"timeField": "ts", "metaField": "m", "granularity": "seconds"}}
    server = Server(
        {"series": {"type": "timeseries", "options": options}},
        {"series": [{"key": {"m": 1, "ts": 1}, "name": "m_1_ts_1"}]},
    )
    found = plan(server, CollectionSpec("series", timeseries=TimeSeries("ts", "m")))
    assert (found.changes, found.findings) == ((), ())


# Servers ---------------------------------------------------------------------------------------------------------


def test_older_servers_build_anew_what_newer_ones_change() -> None:
    """From 6.0 on an index is made unique, or to expire, in place; before, it is built anew."""
    collections = {"c": {"options": {}}}
    indexes = {"c": [{"key": {"u": 1}, "name": "u_1"}, {"key": {"t": 1}, "name": "t_1"}]}
    spec = CollectionSpec("c", indexes=[Index("u", unique=True), Index.ttl("t")])
    assert kinds(plan(Server(collections, indexes), spec)) == ["change index", "change index"]
    old = plan(Server(collections, indexes, wire=13), spec)
    assert kinds(old) == ["replace index", "create index", "hide index", "drop index"]
    assert old.changes[1].commands[0]["indexes"][0]["name"] == "u_1_2"
    assert old.changes[0].cost == "reads 1,234 documents; writes go on meanwhile, and wait at its beginning and end"
    capped = {"c": {"options": {"capped": True, "size": 4096}}}
    assert not plan(Server(capped, {}), CollectionSpec("c", capped_size=8192)).blocked
    assert plan(Server(capped, {}, wire=13), CollectionSpec("c", capped_size=8192)).blocked
    assert not plan(Server(capped, {}, wire=13), CollectionSpec("c", capped_size=4000))


def test_what_others_have_done_a_part_of_is_the_same_change() -> None:
    """A change in place is the same one, whatever is left to do of it: a plan that was looked at still stands."""
    spec = CollectionSpec(
        "c",
        indexes=[Index("u", unique=True, hidden=True)],
    )
    stored = {"key": {"u": 1}, "name": "u_1"}
    changes = [
        plan(Server({"c": {"options": {}}}, {"c": [one]}), spec).changes[0]
        for one in (stored, {**stored, "unique": True}, {**stored, "hidden": True})
    ]
    assert len({change.identity for change in changes}) == 1
    assert [change.was for change in changes] == ["not unique, not hidden", "not hidden", "not unique"]
    options = {"timeField": "ts", "bucketMaxSpanSeconds": 3600}
    series = [
        plan(
            Server({"s": {"type": "timeseries", "options": {"timeseries": {**options, "granularity": has}}}}, {}),
            CollectionSpec("s", timeseries=TimeSeries("ts", granularity="hours")),
        ).changes[0]
        for has in ("seconds", "minutes")
    ]
    assert series[0].identity == series[1].identity
    assert [len(change.commands) for change in series] == [2, 1]


def test_a_server_that_is_too_old() -> None:
    """Before 5.0 nothing is planned."""
    with pytest.raises(DeploymentError):
        plan(Server({}, {}, wire=9), CollectionSpec("c"))


@pytest.mark.parametrize("name", ["hello", "listCollections", "listIndexes"])
def test_what_the_server_does_not_tell_is_an_error(name: str) -> None:
    """Whoever may not read what is there plans nothing: the refusal is raised as it is."""
    refusal = OperationFailure("not authorized", 13)
    server = Server({"c": {"options": {}}}, {}, **{name: refusal})
    with pytest.raises(OperationFailure) as caught:
        plan(server, CollectionSpec("c", indexes=[Index("a")]))
    assert caught.value is refusal


def test_eight_at_a_time() -> None:
    """However many collections there are, eight commands are under way at once."""
    specs = [CollectionSpec(f"c{number}") for number in range(20)]
    server = Server({spec.collection: {"options": {}} for spec in specs}, {})
    plan(server, *specs)
    assert server.rounds == [2, 8, 8, 4]


def test_an_index_that_began_to_be_unique_and_is_not_to_be() -> None:
    """What an interrupted change has left is undone where it is not wanted, and finished where it is."""
    server = Server({"c": {"options": {}}}, {"c": [{"key": {"a": 1}, "name": "a_1", "prepareUnique": True}]})
    (change,) = plan(server, CollectionSpec("c", indexes=[Index("a")])).changes
    assert change.commands[0]["index"] == {"name": "a_1", "prepareUnique": False}
    (change,) = plan(server, CollectionSpec("c", indexes=[Index("a", unique=True)])).changes
    assert change.commands[-1]["index"] == {"name": "a_1", "unique": True}


def test_who_replaces_a_unique_index_is_told_what_is_taken_meanwhile() -> None:
    """The server takes no second index on the same keys: until the new one is built, nothing is unique or deleted."""
    stored = {"key": {"a": 1}, "name": "a_1", "unique": True, "expireAfterSeconds": 5}
    server = Server({"c": {"options": {}}}, {"c": [stored]})
    (change,) = plan(server, CollectionSpec("c", indexes=[Index("a", unique=True)])).changes
    assert change.kind.value == "replace index"
    assert [next(iter(command)) for command in change.commands] == ["dropIndexes", "createIndexes"]
    assert "queries read more, and nothing is deleted by it any more, and equal values are taken" in change.risk
    server.indexes["c"] = [{"key": {"a": 1}, "name": "a_1", "expireAfterSeconds": 5}]
    (change,) = plan(server, CollectionSpec("c", indexes=[Index("a")])).changes
    assert change.kind.value == "replace index"
    assert "equal values are taken" not in change.risk


def test_an_index_that_is_being_built_is_waited_for() -> None:
    """It is not there yet, whoever builds it: the same command waits for it, and nothing of it is dropped."""
    building = {"buildUUID": 1, "spec": {"v": 2, "key": {"a": 1}, "name": "x", "unique": True}}
    other = {"buildUUID": 1, "spec": {"v": 2, "key": {"b": 1}, "name": "y"}}
    server = Server({"c": {"options": {}}}, {"c": [building, other]})
    spec = CollectionSpec("c", indexes=[Index("a", unique=True), Index("b", sparse=True)])
    found = server.run(planner(spec).plan(drop_unknown=True, usage=False))
    assert kinds(found) == ["create index", "create index"]
    assert found.changes[0].cost == "it is being built already: waits until that is over"
    assert found.changes[0].commands[0]["indexes"] == [{"key": {"a": 1}, "unique": True, "name": "x"}]
    with pytest.raises(SchemaDrift):
        server.run(planner(spec).verify())


def test_a_strict_api_is_asked_without_the_option() -> None:
    """Where the server refuses to tell what is being built, the indexes are listed all the same."""
    server = Server({"c": {"options": {}}}, {})
    strict = OperationFailure("includeBuildUUIDs is not in API version 1", 323)
    server.answers["listIndexes"] = [strict, batch([ID, {"v": 2, "key": {"a": 1}, "name": "a_1"}])]
    assert not plan(server, CollectionSpec("c", indexes=[Index("a")]))


def test_a_need_is_served_by_what_is_there() -> None:
    """An index that begins with what a pattern looks for serves it; one that leaves documents out does not."""
    need = LoaderSpec("c", key_field="a")
    for stored, served in (
        ({"key": {"a": 1, "b": 1}}, True),
        ({"key": {"a": 1}, "unique": True, "expireAfterSeconds": 5}, True),
        ({"key": {"a": 1, "b": 1}, "sparse": True}, False),
        ({"key": {"a": 1, "b": 1}, "partialFilterExpression": {"b": 1}}, False),
        ({"key": {"a": 1, "b": 1}, "hidden": True}, False),
        ({"key": {"b": 1, "a": 1}}, False),
    ):
        server = Server({"c": {"options": {}}}, {"c": [{"name": "i", **stored}]})
        found = plan(server, need)
        assert bool(found) is not served
        assert set(kinds(found)) <= {"create index"}


def test_a_need_drops_nothing() -> None:
    """What a pattern needs only to find documents costs nobody an index, whatever else is there on the same keys."""
    need = LoaderSpec("c", key_field="a")
    stored = [
        {"key": {"a": 1}, "name": "partial", "unique": True, "partialFilterExpression": {"b": 1}},
        {"key": {"a": 1}, "name": "unique", "unique": True},
        {"key": {"a": 1}, "name": "plain"},
        {"key": {"a": 1, "b": 1}, "name": "longer"},
    ]
    for some in (stored, stored[1:], stored[:1], [stored[0], stored[3]]):
        found = plan(Server({"c": {"options": {}}}, {"c": some}), need)
        assert set(kinds(found)) <= {"create index"}
        assert {finding.evidence for finding in found.findings} <= {"Index('a') 'partial' is named by no spec"}
    server = Server({"c": {"options": {}}}, {"c": stored})
    every = server.run(planner(need).plan(drop_unknown=True, usage=False))
    assert [change.commands[0].get("index") for change in every.changes if "drop" in change.kind.value] == ["partial"]
    hidden = {"key": {"a": 1}, "name": "ttl", "expireAfterSeconds": 5, "hidden": True}
    (change,) = plan(Server({"c": {"options": {}}}, {"c": [hidden]}), need).changes
    assert [command["index"] for command in change.commands] == [{"name": "ttl", "hidden": False}]


@pytest.mark.parametrize(
    ("stored", "index", "gone"),
    [
        ({}, Index("a", unique=True, where={"b": 1}), True),
        ({}, Index("a", sparse=True), True),
        ({}, Index("a", collation={"locale": "en"}), False),
        ({"unique": True}, Index("a"), False),
        ({"unique": True}, Index("a", unique=True, where={"b": 1}), False),
        ({"sparse": True}, Index("a"), False),
        ({"partialFilterExpression": {"b": 1}}, Index("a", unique=True), False),
        ({"expireAfterSeconds": 5}, Index("a", unique=True), False),
        ({"collation": {"locale": "en"}}, Index("a"), False),
        ({"unique": True}, Index.ttl("a"), False),
    ],
)
def test_what_goes_by_itself_is_plain(stored: Any, index: Index, gone: bool) -> None:
    """Of indexes on the same keys only a plain one is replaced; whatever does more is told, and stays."""
    server = Server({"c": {"options": {}}}, {"c": [{"key": {"a": 1}, "name": "old", **stored}]})
    found = plan(server, CollectionSpec("c", indexes=[index]))
    assert kinds(found) == ["create index", *(["hide index", "drop index"] if gone else [])]
    assert ("other-options" in [finding.code for finding in found.findings]) is not gone
    every = server.run(planner(CollectionSpec("c", indexes=[index])).plan(drop_unknown=True, usage=False))
    assert kinds(every) == ["create index", "hide index", "drop index"]


# Search ----------------------------------------------------------------------------------------------------------

SEARCH = CollectionSpec("c", search_indexes=[SearchIndex("s", {"mappings": {"dynamic": True}})])


@pytest.mark.parametrize(
    ("rows", "kind"),
    [
        ([], ["create search index"]),
        ([{"name": "s", "latestDefinition": {"mappings": {"dynamic": True}}}], []),
        ([{"name": "s", "latestDefinition": {"mappings": {"dynamic": False}}}], ["change search index"]),
    ],
)
def test_search_indexes_where_there_is_a_search(rows: list[Any], kind: list[str]) -> None:
    """A search index is created, changed or left, by its name and its definition (as Atlas documents its answers)."""
    server = Server({"c": {"options": {}}}, {}, aggregate=[batch(rows), batch(rows)])
    assert kinds(plan(server, SEARCH)) == kind


def test_an_error_of_a_search_is_an_error() -> None:
    """What is refused for another reason than that there is no search is not taken for that."""
    server = Server({"c": {"options": {}}}, {}, aggregate=OperationFailure("not authorized", 13))
    with pytest.raises(OperationFailure, match="not authorized"):
        plan(server, SEARCH)


# Applied ---------------------------------------------------------------------------------------------------------


def test_a_race_that_is_lost_is_planned_again() -> None:
    """An error that tells of others leads to a new plan; when nothing is left, the call is over."""
    server = Server({}, {}, create=[OperationFailure("exists", 48)])
    call = planner(CollectionSpec("c")).apply(None, drop_unknown=False, drop=True, on_progress=None)
    step = SchemaPlanner.again(call, None)
    answers: list[Any] = []
    while step:
        answers = [server.answer(one) for one in step]
        if any(isinstance(answer, OperationFailure) for answer in answers):
            server.collections["c"] = {"options": {}}  # (somebody else has created it)
        step = SchemaPlanner.again(call, answers)
    assert call.result.changes == ()


@pytest.mark.parametrize(("code", "tries"), [(13, 1), (11000, 3), (72, 3), (48, 61)])
def test_an_error_that_stays_is_raised(code: int, tries: int) -> None:
    """What the server refuses again and again is raised: at once, after a second look at documents, or in the end."""
    failing = [OperationFailure("no", code) for _ in range(100)]
    server = Server({}, {}, create=failing)
    with pytest.raises(OperationFailure, match="no"):
        server.run(planner(CollectionSpec("c")).apply(None, drop_unknown=False, drop=True, on_progress=None))
    assert 100 - len(failing) == tries


@pytest.mark.parametrize("code", [85, 86])
def test_a_conflict_that_is_no_race_is_raised(code: int) -> None:
    """What the server refuses, while the plan stays what it was, is not asked for a minute."""
    failing = [OperationFailure("no", code) for _ in range(100)]
    server = Server({"c": {"options": {}}}, {}, createIndexes=failing)
    call = planner(CollectionSpec("c", indexes=[Index("a")])).apply(
        None, drop_unknown=False, drop=True, on_progress=None
    )
    with pytest.raises(OperationFailure, match="no"):
        server.run(call)
    assert 100 - len(failing) == 3


def test_what_began_to_be_unique_is_undone_when_it_fails() -> None:
    """If documents came to stand in the way in between, equal values are taken again."""
    server = Server(
        {"c": {"options": {}}},
        {"c": [{"key": {"a": 1}, "name": "a_1"}]},
        collMod=[{"ok": 1}, OperationFailure("cannot convert", 13), {"ok": 1}],
    )
    sent: list[Any] = []
    answer = server.answer
    server.answer = lambda step: (sent.append(step), answer(step))[1]  # type: ignore[method-assign]
    call = planner(CollectionSpec("c", indexes=[Index("a", unique=True)])).apply(
        None, drop_unknown=False, drop=True, on_progress=None
    )
    with pytest.raises(OperationFailure, match="cannot convert"):
        server.run(call)
    indexes = [step.command["index"] for step in sent if isinstance(step, Send) and "collMod" in step.command]
    assert [{**index, "name": ""} for index in indexes] == [
        {"name": "", "prepareUnique": True},
        {"name": "", "unique": True},
        {"name": "", "prepareUnique": False},
    ]


def test_a_long_build_is_watched() -> None:
    """While an index is built, the server is asked how far it is, less and less often, until the build is over."""
    told: list[SchemaProgress] = []
    spec = CollectionSpec("c", indexes=[Index("a")])
    server = Server({"c": {"options": {}}}, {})
    call = planner(spec).apply(None, drop_unknown=False, drop=True, on_progress=told.append)
    answers: Any = None
    while steps := SchemaPlanner.again(call, answers):
        if not isinstance(steps[0], Nested):
            answers = [server.answer(step) for step in steps]
            continue
        build, watch = (step.call() for step in steps)  # type: ignore[union-attr]
        (sent,) = SchemaPlanner.again(build, None)  # type: ignore[misc]
        assert sent.command["indexes"] == [{"key": {"a": 1}, "name": "a_1"}]
        pauses = []
        answer: Any = None
        for _ in range(7):
            (step,) = SchemaPlanner.again(watch, answer)  # type: ignore[misc]
            answer = [None]
            if isinstance(step, Pause):
                pauses.append(step.seconds)
            elif isinstance(step, Send):
                assert step.database == "admin"
                answer = [batch([{"done": 0.5}])]
            else:
                step.call(step.progress)
        assert pauses == [0.05, 0.1, 0.2]
        assert SchemaPlanner.again(build, [{"ok": 1}]) is None
        while step := SchemaPlanner.again(watch, answer):
            answer = [server.answer(one) for one in step]
        answers = [build.result, watch.result]
    assert [(one.state, one.done) for one in told] == [
        ("started", None),
        ("running", 0.5),
        ("running", 0.5),
        ("done", 1.0),
    ]


def test_who_may_not_look_is_told_of_the_beginning_and_the_end() -> None:
    """Where the server does not tell how far it is, it is asked once, however long the build takes."""
    told: list[SchemaProgress] = []
    server = Server({"c": {"options": {}}}, {}, aggregate=[OperationFailure("not authorized", 13)])
    call = planner(CollectionSpec("c", indexes=[Index("a")])).apply(
        None, drop_unknown=False, drop=True, on_progress=told.append
    )
    answers: Any = None
    while steps := SchemaPlanner.again(call, answers):
        # (what watches a build comes to its end before the build does)
        answers = [server.answer(step) for step in reversed(steps)][::-1]
    assert server.answers["aggregate"] == []
    assert [one.state for one in told] == ["started", "done"]


def test_what_is_not_counted_in_time_does_not_block() -> None:
    """A question that takes too long is told, and the server itself is left to refuse."""
    server = Server({"c": {"options": {}}}, {}, aggregate=OperationFailure("exceeded time limit", 50))
    found = plan(server, CollectionSpec("c", indexes=[Index("a", unique=True)]))
    assert not found.blocked
    assert [finding.code for finding in found.findings] == ["not-counted"]


# Told ------------------------------------------------------------------------------------------------------------


def test_a_plan_is_text_and_json() -> None:
    """Printed, a plan has a sign, cost and risk for each change; `to_dict` is JSON; a drift keeps its plan."""
    server = Server(
        {"c": {"options": {}}, "view": {"type": "view", "options": {}}}, {"c": [{"key": {"a": 1}, "name": "x"}]}
    )
    found = plan(
        server, CollectionSpec("c", indexes=[Index("a", sparse=True)]), CollectionSpec("view"), CollectionSpec("d")
    )
    assert str(found).splitlines() == [
        "app: 5 changes, 1 blocked",
        "+ create collection  d     without options",
        "    cost: metadata alone",
        "! change collection  view  is a view",
        "    blocked: a view with this name is there. Name the collection that it reads, or drop the view.",
        "+ create index       c     Index('a', sparse=True)",
        "    cost: reads 1,234 documents; writes go on meanwhile, and wait at its beginning and end",
        "    risk: built beside 'x', which it replaces",
        "- hide index         c     Index('a') 'x'",
        "    cost: metadata alone",
        "    risk: queries that use it read more; to show it again takes one command",
        "- drop index         c     Index('a') 'x': replaced",
        "    cost: metadata alone",
        "    risk: to have it again, it must be built again",
    ]
    told = json.loads(json.dumps(found.to_dict()))
    assert [change["kind"] for change in told["changes"]] == kinds(found)
    assert told["changes"][1]["blocked"]["code"] == "wrong-kind"
    drift = pickle.loads(pickle.dumps(SchemaDrift(found)))
    assert drift.plan == found
    assert str(drift) == str(found)
    assert str(SchemaPlan("app", ())) == "app: nothing to change"
