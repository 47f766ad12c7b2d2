"""Indexes of Atlas Search: what is there, and what has to change. Pure.

A server without Atlas Search does not know the question. That is told as a warning, and nothing is planned: such a
server is what most people develop on.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from pymongo.errors import OperationFailure

from mongopatterns.expressions import bson_identity
from mongopatterns.findings import Finding, Severity
from mongopatterns.schema._changes import SchemaChange, SchemaChangeKind
from mongopatterns.schema._collection_spec import CollectionSpec, SearchIndex
from mongopatterns.schema._options_diff import Command
from mongopatterns.schema._schema_checks import COMMENT

__all__ = ["search_changes", "search_question"]

# What servers answer that have no Atlas Search: they know the stage or the command not at all, or not how to do it.
_UNAVAILABLE: Final = frozenset({59, 115, 31082, 40324, 6047401})
_COST: Final = "built by Atlas, beside the database"


def search_question(collection: str) -> Command:
    """Build the aggregation that tells which search indexes there are."""
    return {"aggregate": collection, "pipeline": [{"$listSearchIndexes": {}}], "cursor": {}, "comment": COMMENT}


def search_changes(spec: CollectionSpec, answer: Any) -> tuple[list[SchemaChange], list[Finding]]:
    """List what has to change, and what cannot be told.

    Raises:
        OperationFailure: If the server refuses to tell, though it has Atlas Search.
    """
    if isinstance(answer, OperationFailure):
        if answer.code not in _UNAVAILABLE:
            raise answer
        names = ", ".join(repr(index.name) for index in spec.search_indexes)
        evidence = f"the search indexes {names} are not there, and cannot be: this server has no Atlas Search"
        remedy = "Apply the schema on Atlas"
        return [], [Finding("search-unavailable", Severity.WARNING, spec.collection, evidence, remedy)]
    there = {row["name"]: row for row in answer["cursor"]["firstBatch"]}
    changes = [_change(spec.collection, index, there.get(index.name)) for index in spec.search_indexes]
    return [change for change in changes if change is not None], []


def _change(collection: str, index: SearchIndex, stored: Mapping[str, Any] | None) -> SchemaChange | None:
    what = f"SearchIndex({index.name!r})"
    if stored is None:
        definition = {"name": index.name, "type": index.type, "definition": dict(index.definition)}
        # (write concerns are not for these commands)
        sent: Command = {
            "createSearchIndexes": collection,
            "indexes": [definition],
            "comment": "mongopatterns.schema.apply",
        }
        return SchemaChange(SchemaChangeKind.CREATE_SEARCH_INDEX, collection, what, _COST, commands=(sent,))
    if bson_identity(stored.get("latestDefinition")) == bson_identity(index.definition):
        return None
    sent = {"updateSearchIndex": collection, "name": index.name, "definition": dict(index.definition)}
    sent["comment"] = "mongopatterns.schema.apply"
    return SchemaChange(SchemaChangeKind.CHANGE_SEARCH_INDEX, collection, what, _COST, commands=(sent,))
