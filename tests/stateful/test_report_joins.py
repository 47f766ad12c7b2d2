"""A report that groups by what is joined tells the same whether it joins onto groups or onto documents."""

from __future__ import annotations

import datetime as dt
from random import Random
from typing import Any

import pytest
from bson import Decimal128, ObjectId

from mongopatterns import (
    Avg,
    Count,
    CountOf,
    Exists,
    First,
    GroupBy,
    Many,
    Max,
    One,
    Ratio,
    Report,
    ReportSpec,
    Sum,
)
from mongopatterns.reports import _branch_stages

KEYS = [None, 1, 1.0, Decimal128("1"), 2, "a", "1", True, ObjectId("5" * 24), [1, "a"], [], {"k": 1}, float("nan"), 0]
GROUPS = ["x", "y", None, 3, [1]]


def documents(dice: Random, number: int) -> list[dict[str, Any]]:
    made = []
    for place in range(number):
        document: dict[str, Any] = {"_id": place, "n": dice.choice([1, 2.5, None, "text", 7])}
        for name, values in (("key", KEYS), ("other", KEYS[:6]), ("group", GROUPS)):
            if dice.random() < 0.8:
                document[name] = dice.choice(values)
        if dice.random() < 0.8:
            document["at"] = dt.datetime(2026, 1, dice.randint(1, 28), tzinfo=dt.timezone.utc)
        made.append(document)
    return made


def parts(dice: Random) -> list[Any]:
    one = One("others", local="key", foreign="key", as_="one", fields=["group", "n"])
    count = CountOf("others", local="other", foreign="key", as_="count")
    there = Exists("others", local="key", foreign="key", where={"n": 1}, as_="there")
    many = Many("others", local="other", foreign="key", as_="many", fields=["group"])
    over = One("others", local="key", foreign="key", as_="key", fields=["group"])  # in place of the field it compares
    return dice.choice([[one], [one, count], [there], [count, there], [many], [over]])


def branch(dice: Random) -> GroupBy:
    joins = parts(dice)
    names = {"one": "one.group", "count": "count", "there": "there", "many": "many.group", "key": "key.group"}
    by = {part.as_: names[part.as_] for part in joins}
    if dice.random() < 0.5:
        by["own"] = "group"
    where = {"one.n": {"$gte": 1}} if joins[0].as_ == "one" and dice.random() < 0.4 else {}
    if dice.random() < 0.3:
        where["group"] = {"$ne": "x"}
    measures = {
        "n": Count(),
        "sum": Sum("n", where={"group": "y"}),
        "mean": Avg("n"),
        "share": Ratio(Count(where={"n": {"$gt": 1}}), Count()),
        "latest": Max("at"),
        "first": First("n", by="at"),
    }
    return GroupBy(by, joins=joins, where=where, measures=measures)


@pytest.mark.parametrize("seed", range(40))
def test_joins_onto_groups_tell_what_joins_onto_documents_tell(
    mongopatterns_db: Any, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the keys are, rows and measures are the same; only the types of equal keys may differ."""
    dice = Random(seed)
    mongopatterns_db.things.insert_many(documents(dice, 60))
    mongopatterns_db.others.insert_many(documents(dice, 15))
    report = Report(mongopatterns_db, ReportSpec("things", branches={"rows": branch(dice)}))
    assert sum("$group" in stage for stage in report.explain().commands[0].pipeline) == 2  # (onto groups, it is)
    rows = report.run()["rows"]
    monkeypatch.setattr(_branch_stages, "_grouped_before_joins", lambda *_: [])
    assert rows == report.run()["rows"]
