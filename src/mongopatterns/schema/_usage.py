"""How often indexes are used. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pymongo.errors import OperationFailure

from mongopatterns.findings import Finding, Severity
from mongopatterns.schema._options_diff import Command
from mongopatterns.schema._schema_checks import COMMENT
from mongopatterns.schema._stored import StoredCollection

__all__ = ["usage_findings", "usage_question", "used"]


def usage_question(collection: str) -> Command:
    """Build the aggregation that tells how often each index was used since its server started."""
    return {"aggregate": collection, "pipeline": [{"$indexStats": {}}], "cursor": {}, "comment": COMMENT}


def used(answer: Any) -> dict[str, str]:
    """Tell in words how often each index was used, by name; nothing where the server does not say."""
    if isinstance(answer, OperationFailure):
        return {}
    numbers: dict[str, list[Mapping[str, Any]]] = {}
    for row in answer["cursor"]["firstBatch"]:  # (of a sharded cluster one for each shard)
        numbers.setdefault(row["name"], []).append(row["accesses"])
    return {name: _words(rows) for name, rows in numbers.items()}


def _words(rows: list[Mapping[str, Any]]) -> str:
    number = sum(int(row["ops"]) for row in rows)
    since = min(row["since"] for row in rows)
    return f"{'not used' if not number else f'used {number:,} times'} on this server since {since:%Y-%m-%d %H:%M}"


def usage_findings(stored: StoredCollection, uses: Mapping[str, str]) -> Iterator[Finding]:
    """Name the indexes that no query used, and that are there for queries alone."""
    for one in stored.indexes:
        for_queries = not one.is_own and not one.meaning.unique and one.meaning.expire_after is None
        use = uses.get(one.name, "")
        if for_queries and use.startswith("not used"):
            evidence = f"{one} {one.name!r} was {use}"
            remedy = "Look at the other members too; hide it before you drop it"
            yield Finding("unused-index", Severity.INFO, stored.name, evidence, remedy)
